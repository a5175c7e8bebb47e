//! What `prometheus.yml` may say: its keys and their types. Blocks without a type of their own are
//! those that this build accepts and does not use.

use super::storage_block::StorageKeys;
use connectors::alertmanager::AlertingConfig;
use connectors::config::schema::{BlockSchema, Ignored};
use connectors::config::unsupported::{Otlp, RemoteRead, RemoteWrite, Shown, Tracing};
use connectors::config_block;
use connectors::scrape::config::{GlobalConfig, ScrapeConfig};
use serde_saphyr::Spanned;

config_block! {
    /// The whole file.
    pub struct ConfigFile as "config.Config" {
        /// Defaults of the blocks below, and what is of the whole server.
        global: Option<GlobalConfig> = None,
        /// Settings of Go's runtime.
        runtime: RuntimeKeys = RuntimeKeys::default(),
        /// Where alerts go.
        alerting: Option<Spanned<AlertingConfig>> = None,
        /// Patterns of rule files.
        rule_files: Vec<Spanned<String>> = Vec::new(),
        /// Patterns of files with more scrape blocks.
        scrape_config_files: Vec<Spanned<String>> = Vec::new(),
        /// What is scraped.
        scrape_configs: Vec<Spanned<ScrapeConfig>> = Vec::new(),
        /// How long and where samples stay.
        storage: StorageKeys = StorageKeys::default(),
        /// Where spans would go.
        tracing: Option<Spanned<Ignored<Tracing>>> = None,
        /// Where samples would be sent.
        remote_write: Option<Spanned<Vec<Shown<RemoteWrite>>>> = None,
        /// Where old samples would be read.
        remote_read: Option<Spanned<Vec<Shown<RemoteRead>>>> = None,
        /// How OTLP would be taken.
        otlp: Option<Spanned<Ignored<Otlp>>> = None,
    }
}

config_block! {
    /// `runtime`.
    pub struct RuntimeKeys as "config.RuntimeConfig" {
        /// There is no garbage collector.
        gogc: Option<Spanned<Ignored<i64>>> = None,
    }
}

config_block! {
    /// A file that `scrape_config_files` names.
    pub struct ScrapeFile as "config.ScrapeConfigs" {
        /// What is scraped.
        scrape_configs: Vec<Spanned<ScrapeConfig>> = Vec::new(),
    }
}

/// What is possible in a block, which is named by Prometheus' type.
pub(super) fn known_keys(block: &str) -> Vec<&'static str> {
    let files: [fn() -> BlockSchema; 2] = [ConfigFile::schema, ScrapeFile::schema];
    files.iter().find_map(|schema| schema().keys_of(block)).unwrap_or_default()
}
