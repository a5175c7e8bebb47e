//! Reads the configuration and the files that it names, and validates everything before any of it
//! is put in force.

use super::limits::MATCHED_FILES;
use super::storage_block::RawStorage;
use super::{Config, ConfigError, Warning, print};
use connectors::alertmanager::AlertingConfig;
use connectors::discovery::OTHER_MECHANISMS;
use connectors::scrape::config::{GlobalConfig, ScrapeConfig, ScrapeJob};
use rules::yaml;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use storage::model::Labels;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigFile {
    global: Option<GlobalConfig>,
    runtime: Option<RawRuntime>,
    alerting: Option<Spanned<AlertingConfig>>,
    rule_files: Option<Vec<Spanned<String>>>,
    scrape_config_files: Option<Vec<Spanned<String>>>,
    scrape_configs: Option<Vec<Spanned<ScrapeConfig>>>,
    storage: Option<RawStorage>,
    tracing: Option<Spanned<serde_json::Value>>,
    remote_write: Option<Spanned<Vec<serde_json::Value>>>,
    remote_read: Option<Spanned<Vec<serde_json::Value>>>,
    otlp: Option<Spanned<serde_json::Value>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRuntime {
    gogc: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawScrapeFile {
    scrape_configs: Option<Vec<Spanned<ScrapeConfig>>>,
}

/// Reads the file at `path` and everything that it names.
pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigError> {
    let text = yaml::read_text(path)?;
    parse(path, &text, &|name| std::env::var(name).ok())
}

/// As [`load`], for the given text of the file at `path`; `env` returns the variables for
/// `external_labels`.
pub fn parse(
    path: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Vec<Warning>), ConfigError> {
    let file = path.display().to_string();
    let raw: ConfigFile = yaml::parse_with(&file, text, &known_fields)?;
    let mut loader = Loader {
        directory: path.parent().map(Path::to_path_buf).unwrap_or_default(),
        file,
        warnings: Vec::new(),
        config: Config { sources: vec![path.to_path_buf()], ..Config::default() },
        names: HashMap::new(),
    };
    loader.read(raw, env)?;
    loader.config.text = print::print_config(&loader.file, &loader.directory, text, &loader.config)?;
    Ok((loader.config, loader.warnings))
}

struct Loader {
    directory: PathBuf,
    file: String,
    warnings: Vec<Warning>,
    config: Config,
    names: HashMap<String, String>,
}

impl Loader {
    fn read(&mut self, raw: ConfigFile, env: &dyn Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        self.config.global = raw.global.unwrap_or_default();
        self.external_labels(env)?;
        self.check_global()?;
        if raw.runtime.is_some_and(|r| r.gogc.is_some()) {
            self.warn(
                serde_saphyr::Location::UNKNOWN,
                "runtime.gogc has no effect: there is no garbage collector",
            );
        }
        if let Some(mut alerting) = raw.alerting {
            for one in &mut alerting.value.alertmanagers {
                one.http.resolve_paths(&self.directory);
                one.discovery.resolve_paths(&self.directory);
            }
            let place = alerting.referenced;
            alerting.value.set_names(self.config.global.keys.metric_name_validation_scheme);
            alerting
                .value
                .validate()
                .map_err(|e| ConfigError::at(&self.file, place, format!("alerting: {e}"), ""))?;
            alerting.value.warnings().into_iter().for_each(|w| self.warn(place, &w));
            self.config.alerting = alerting.value;
        }
        let mut rule_files = HashSet::new();
        for pattern in raw.rule_files.unwrap_or_default() {
            for path in self.glob(&pattern)? {
                // A file that several patterns match counts once.
                if rule_files.insert(path.clone()) {
                    self.config.rule_files.push(path);
                }
            }
        }
        let file = self.file.clone();
        self.jobs(&file, raw.scrape_configs)?;
        for pattern in raw.scrape_config_files.unwrap_or_default() {
            for path in self.glob(&pattern)? {
                self.scrape_file(&path)?;
            }
        }
        if let Some(storage) = raw.storage {
            self.config.storage = storage.check(&self.file, &mut self.warnings)?;
        }
        self.kept(raw.remote_write, "remote_write", |c| &mut c.remote_write)?;
        self.kept(raw.remote_read, "remote_read", |c| &mut c.remote_read)?;
        for (key, value) in [("tracing", raw.tracing), ("otlp", raw.otlp)] {
            if let Some(value) = value {
                self.warn(value.referenced, &format!("{key} is accepted, but has no effect in this build"));
            }
        }
        Ok(())
    }

    fn warn(&mut self, place: serde_saphyr::Location, what: &str) {
        self.warnings.push(ConfigError::at(&self.file, place, what, ""));
    }

    fn external_labels(&mut self, env: &dyn Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        let mut expanded: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &self.config.global.keys.external_labels {
            let names = self.config.global.keys.metric_name_validation_scheme;
            if !names.has_label(name) || name == "__name__" {
                let what = format!("{name:?} is not a valid label name in external_labels");
                return Err(ConfigError::whole(&self.file, what, "use another name"));
            }
            expanded.insert(name.clone(), expand(value, env));
        }
        self.config.external_labels = Labels::from_pairs(expanded);
        Ok(())
    }

    fn check_global(&self) -> Result<(), ConfigError> {
        let keys = &self.config.global.keys;
        let positive =
            [("scrape_interval", keys.scrape_interval), ("evaluation_interval", keys.evaluation_interval)];
        for (name, value) in positive {
            if value.0 <= 0 {
                let what = format!("global.{name} must be greater than 0");
                return Err(ConfigError::whole(&self.file, what, "write e.g. 15s"));
            }
        }
        match keys.scrape_timeout {
            Some(timeout) if timeout > keys.scrape_interval => Err(ConfigError::whole(
                &self.file,
                "global scrape timeout greater than scrape interval",
                "make scrape_timeout at most scrape_interval",
            )),
            _ => Ok(()),
        }
    }

    fn jobs(&mut self, file: &str, configs: Option<Vec<Spanned<ScrapeConfig>>>) -> Result<(), ConfigError> {
        let directory = Path::new(file).parent().unwrap_or(Path::new(""));
        for mut config in configs.unwrap_or_default() {
            config.value.http.resolve_paths(directory);
            config.value.discovery.resolve_paths(directory);
            let place = config.referenced;
            let fault = |what: String, fix: &str| ConfigError::at(file, place, what, fix);
            let job = ScrapeJob::new(config.value, &self.config.global)
                .map_err(|e| fault(e, "correct this scrape config"))?;
            let name = job.name().to_owned();
            let here = format!("{file}:{}", place.line());
            if let Some(there) = self.names.insert(name.clone(), here) {
                let what =
                    format!("found multiple scrape configs with job name {name:?} (the other: {there})");
                return Err(fault(what, "rename one of them"));
            }
            let warnings = job.warnings();
            self.warnings.extend(warnings.into_iter().map(|w| ConfigError::at(file, place, w, "")));
            self.config.jobs.push(job);
        }
        Ok(())
    }

    fn scrape_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let name = path.display().to_string();
        let raw: RawScrapeFile = yaml::parse_with(&name, &yaml::read_text(path)?, &known_fields)?;
        self.config.sources.push(path.to_path_buf());
        self.jobs(&name, raw.scrape_configs)
    }

    /// The files that match a pattern, which is relative to the configuration file. A pattern
    /// without matches is no error.
    fn glob(&self, pattern: &Spanned<String>) -> Result<Vec<PathBuf>, ConfigError> {
        let fault =
            |what: String| ConfigError::at(&self.file, pattern.referenced, what, "correct the pattern");
        let full = self.directory.join(&pattern.value);
        let text = full.to_str().ok_or_else(|| fault("the pattern is not UTF-8".to_owned()))?;
        let paths = glob::glob(text)
            .map_err(|e| fault(format!("bad file pattern {:?}: {}", pattern.value, e.msg)))?;
        let files: Vec<PathBuf> = paths.filter_map(Result::ok).take(MATCHED_FILES + 1).collect();
        if files.len() > MATCHED_FILES {
            return Err(fault(format!("{:?} matches more than {MATCHED_FILES} files", pattern.value)));
        }
        Ok(files)
    }

    fn kept(
        &mut self,
        value: Option<Spanned<Vec<serde_json::Value>>>,
        key: &str,
        place: fn(&mut Config) -> &mut Vec<serde_json::Value>,
    ) -> Result<(), ConfigError> {
        let Some(value) = value.filter(|v| !v.value.is_empty()) else { return Ok(()) };
        if value.value.iter().any(|entry| entry.get("url").and_then(|u| u.as_str()).is_none_or(str::is_empty))
        {
            let what = format!("url for {key} is empty");
            return Err(ConfigError::at(&self.file, value.referenced, what, "add `url: http://…`"));
        }
        let verb =
            if key == "remote_write" { "not sent by this build yet" } else { "not read by this build yet" };
        self.warn(value.referenced, &format!("{key}: {verb}"));
        *place(&mut self.config) = value.value.iter().map(|entry| print::redact(key, entry)).collect();
        Ok(())
    }
}

/// Replaces `$VAR` and `${VAR}` by environment variables (unknown: empty), and `$$` by a dollar; as
/// Go's `os.Expand`.
fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            out.push_str(&env(name).unwrap_or_default());
            rest = after;
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            if end == 0 {
                out.push('$');
            } else {
                out.push_str(&env(&rest[..end]).unwrap_or_default());
            }
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

const HTTP: &[&str] = &[
    "authorization",
    "basic_auth",
    "bearer_token",
    "bearer_token_file",
    "enable_http2",
    "follow_redirects",
    "http_headers",
    "no_proxy",
    "oauth2",
    "proxy_connect_header",
    "proxy_from_environment",
    "proxy_url",
    "tls_config",
];
const ALERTMANAGER: &[&str] =
    &["scheme", "path_prefix", "timeout", "api_version", "relabel_configs", "alert_relabel_configs"];
const GLOBAL: &[&str] = &[
    "always_scrape_classic_histograms",
    "body_size_limit",
    "convert_classic_histograms_to_nhcb",
    "evaluation_interval",
    "external_labels",
    "extra_scrape_metrics",
    "keep_dropped_targets",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "metric_name_escaping_scheme",
    "metric_name_validation_scheme",
    "query_log_file",
    "rule_query_offset",
    "sample_limit",
    "scrape_failure_log_file",
    "scrape_interval",
    "scrape_native_histograms",
    "scrape_protocols",
    "scrape_timeout",
    "target_limit",
];
const SCRAPE: &[&str] = &[
    "always_scrape_classic_histograms",
    "body_size_limit",
    "convert_classic_histograms_to_nhcb",
    "enable_compression",
    "extra_scrape_metrics",
    "fallback_scrape_protocol",
    "file_sd_configs",
    "honor_labels",
    "honor_timestamps",
    "job_name",
    "keep_dropped_targets",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "metric_relabel_configs",
    "metrics_path",
    "params",
    "relabel_configs",
    "sample_limit",
    "scheme",
    "scrape_interval",
    "scrape_native_histograms",
    "scrape_protocols",
    "scrape_timeout",
    "static_configs",
    "target_limit",
    "track_timestamps_staleness",
];

/// The keys of the blocks whose unknown fields are reported in Prometheus' wording.
fn known_fields(kind: &str) -> Vec<&'static str> {
    let discovery = ["static_configs", "file_sd_configs"].iter().chain(OTHER_MECHANISMS);
    match kind {
        "config.GlobalConfig" => GLOBAL.to_vec(),
        "config.ScrapeConfig" => SCRAPE.iter().chain(HTTP).chain(OTHER_MECHANISMS).copied().collect(),
        "config.AlertmanagerConfig" => ALERTMANAGER.iter().chain(HTTP).chain(discovery).copied().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in() {
        let env = |name: &str| (name == "REGION").then(|| "eu-1".to_owned());
        let cases = [
            ("a-${REGION}", "a-eu-1"),
            ("$REGION/x", "eu-1/x"),
            ("$$5", "$5"),
            ("${NONE}.", "."),
            ("5$", "5$"),
            ("$-", "$-"),
            ("plain", "plain"),
        ];
        for (text, want) in cases {
            assert_eq!(expand(text, &env), want, "{text}");
        }
    }
}
