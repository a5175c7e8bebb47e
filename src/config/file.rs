//! The schema of `prometheus.yml`: its top-level blocks and their types. Blocks without a type of
//! their own are accepted and not used by this build. [`mod@super::load`] reads the file.

use super::storage_block::StorageKeys;
use connectors::alertmanager::AlertingConfig;
use connectors::config::schema::{BlockSchema, IgnoredValue};
use connectors::config_block;
use connectors::otlp::OtlpConfig;
use connectors::scrape::config::{GlobalConfig, ScrapeConfig};
use connectors::traces::TracingConfig;
use remote_storage::config::{RemoteReadConfig, RemoteWriteConfig};
use serde_saphyr::Spanned;

config_block! {
    /// The whole file.
    pub struct ConfigFile as "config.Config" {
        /// Defaults of the other blocks, and settings of the whole server.
        global: Option<GlobalConfig> = None,
        /// Settings of Go's runtime.
        runtime: RuntimeKeys = RuntimeKeys::default(),
        /// The Alertmanagers.
        alerting: Option<Spanned<AlertingConfig>> = None,
        /// Patterns of rule files.
        rule_files: Vec<Spanned<String>> = Vec::new(),
        /// Patterns of files with further scrape configurations.
        scrape_config_files: Vec<Spanned<String>> = Vec::new(),
        /// The scrape jobs.
        scrape_configs: Vec<Spanned<ScrapeConfig>> = Vec::new() => null "empty or null scrape config section",
        /// Retention and location of samples.
        storage: StorageKeys = StorageKeys::default(),
        /// Where traces are sent.
        tracing: Option<Spanned<TracingConfig>> = None,
        /// Where samples are sent.
        remote_write: Option<Spanned<Vec<RemoteWriteConfig>>> = None,
        /// Where queries read samples besides the own ones.
        remote_read: Option<Spanned<Vec<RemoteReadConfig>>> = None,
        /// Settings of the receiver of OTLP.
        otlp: Option<Spanned<OtlpConfig>> = None,
    }
}

/// The keys of the whole file.
pub fn schema() -> BlockSchema {
    ConfigFile::schema()
}

config_block! {
    /// `runtime`.
    pub struct RuntimeKeys as "config.RuntimeConfig" {
        /// How eagerly Go collects garbage; this server has no garbage collector.
        gogc: Option<Spanned<IgnoredValue<i64>>> = None,
    }
}

config_block! {
    /// A file that `scrape_config_files` names.
    pub struct ScrapeFile as "config.ScrapeConfigs" {
        /// The scrape jobs.
        scrape_configs: Vec<Spanned<ScrapeConfig>> = Vec::new() => null "empty or null scrape config section",
    }
}

/// The valid keys of a block, given Prometheus' type name.
pub(super) fn known_keys(block: &str) -> Vec<&'static str> {
    let files: [fn() -> BlockSchema; 2] = [ConfigFile::schema, ScrapeFile::schema];
    files.iter().find_map(|schema| schema().keys_of(block)).unwrap_or_default()
}
