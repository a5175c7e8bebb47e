//! `prometheus.yml`: read strictly, validated as a whole, and passed to the crates in their own
//! types.
//!
//! [`mod@load`] reads the file and everything that it names into a [`Config`]; [`mod@print`] writes
//! it in one normal form, without secrets, for `/api/v1/status/config`. Errors are
//! [`rules::yaml::ConfigError`]s.

mod file;
mod limits;
mod load;
mod print;
mod storage_block;
mod web_file;

pub use file::schema;
pub use load::{load, parse};
pub use storage_block::StorageBlock;
pub use web_file::read_web_file;

use crate::flags::Flags;
use connectors::alertmanager::AlertingConfig;
use connectors::http_client::HttpConfig;
use connectors::otlp::OtlpConfig;
use connectors::scrape::config::{GlobalConfig, ScrapeJob};
use connectors::traces::TracingConfig;
use remote_storage::config::{RemoteReadConfig, RemoteWriteConfig};
pub use rules::yaml::ConfigError;
use std::path::PathBuf;
use storage::model::Labels;

/// A setting that loads but probably does not do what was intended.
pub type Warning = ConfigError;

/// A validated configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `global`, with `external_labels` as written.
    pub global: GlobalConfig,
    /// `global.external_labels`, with `${VAR}` replaced.
    pub external_labels: Labels,
    /// The files that match `rule_files`, sorted per pattern.
    pub rule_files: Vec<PathBuf>,
    /// Whether `rule_files` has a pattern, even if no file matches it.
    pub names_rules: bool,
    /// All files that were read, except the rule files; auto-reload watches them.
    pub sources: Vec<PathBuf>,
    /// The scrape jobs of `scrape_configs` and `scrape_config_files`.
    pub jobs: Vec<ScrapeJob>,
    /// `alerting`.
    pub alerting: AlertingConfig,
    /// `storage`.
    pub storage: StorageBlock,
    /// `tracing`; `None`: no spans are sent.
    pub tracing: Option<TracingConfig>,
    /// `otlp`.
    pub otlp: OtlpConfig,
    /// `remote_write`.
    pub remote_write: Vec<RemoteWriteConfig>,
    /// `remote_read`.
    pub remote_read: Vec<RemoteReadConfig>,
    /// A line for each key in the files that has no effect.
    pub without_effect: Vec<String>,
    /// The normal form, without secrets.
    pub text: String,
}

impl Config {
    /// `global.evaluation_interval`, ms.
    pub fn evaluation_interval(&self) -> i64 {
        self.global.keys.evaluation_interval.0
    }

    /// `global.query_log_file`; `None`: no log.
    pub fn query_log_file(&self) -> Option<PathBuf> {
        let file = &self.global.keys.query_log_file;
        (!file.is_empty()).then(|| PathBuf::from(&**file))
    }

    /// Checks that an agent has no block of what it does not do. The texts are those of Prometheus.
    pub fn check_mode(&self, flags: &Flags) -> Result<(), ConfigError> {
        if !*flags.agent {
            return Ok(());
        }
        let alerting = &self.alerting;
        let given = [
            ("alerting", !alerting.alertmanagers.is_empty() || !alerting.alert_relabel_configs.is_empty()),
            ("rule_files", self.names_rules),
            ("remote_read", !self.remote_read.is_empty()),
        ];
        let file = self.sources.first().map(|path| path.display().to_string()).unwrap_or_default();
        match given.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((field, _)) => {
                let what = format!("field {field} is not allowed in agent mode");
                Err(ConfigError::whole(&file, what, "remove it, or start without --agent"))
            }
        }
    }

    /// Checks the HTTP clients of all blocks. What no change of a file could mend is an error; a
    /// file that cannot be read or used now is a warning, because it costs only the targets of the
    /// block that names it. Below `alerting` it is an error, as in Prometheus: no alert would leave
    /// the server, and nobody would hear of it.
    pub fn check_clients(&self) -> Result<Vec<Warning>, ConfigError> {
        let file = self.sources.first().map(|path| path.display().to_string()).unwrap_or_default();
        let refused = |what: String| ConfigError::whole(&file, what, "correct the path, or the file");
        let mut warnings = Vec::new();
        for CheckedClient { owner, http, is_required } in self.clients() {
            http.client().map_err(|e| refused(format!("{owner}: {e}")))?;
            let notes = http.notes();
            // A note is about what no file can mend, such as an old version of TLS.
            let unusable = if notes.is_empty() { http.unusable() } else { None };
            warnings
                .extend(notes.iter().map(|note| ConfigError::whole(&file, format!("{owner}: {note}"), "")));
            match unusable {
                Some(why) if is_required => return Err(refused(format!("{owner}: {why}"))),
                Some(why) => {
                    let fix = "its requests fail until the file can be used";
                    warnings.push(ConfigError::whole(&file, format!("{owner}: {why}"), fix));
                }
                None => {}
            }
        }
        Ok(warnings)
    }

    /// The HTTP clients of all blocks. Mechanisms of discovery have clients of their own.
    fn clients(&self) -> Vec<CheckedClient<'_>> {
        let mut all = Vec::new();
        for alertmanager in &self.alerting.alertmanagers {
            let owner = "alerting".to_owned();
            all.push(CheckedClient { owner: owner.clone(), http: &alertmanager.http, is_required: true });
            for http in alertmanager.discovery.http_configs() {
                all.push(CheckedClient { owner: owner.clone(), http, is_required: false });
            }
        }
        for job in &self.jobs {
            let owner = format!("scrape config with job name {:?}", job.name());
            all.push(CheckedClient { owner: owner.clone(), http: &job.config.http, is_required: false });
            for http in job.config.discovery.http_configs() {
                all.push(CheckedClient { owner: owner.clone(), http, is_required: false });
            }
        }
        for config in &self.remote_write {
            let owner = format!("remote_write {}", config.keys.url);
            all.push(CheckedClient { owner, http: &config.http, is_required: false });
        }
        for config in &self.remote_read {
            let owner = format!("remote_read {}", config.keys.url);
            all.push(CheckedClient { owner, http: &config.http, is_required: false });
        }
        all
    }
}

/// An HTTP client of the file, before it is used.
struct CheckedClient<'a> {
    /// Its block, for messages.
    owner: String,
    http: &'a HttpConfig,
    /// Whether the file is refused if the client cannot be used now.
    is_required: bool,
}
