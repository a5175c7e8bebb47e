//! `global` and `scrape_configs` of `prometheus.yml`: their keys, as the file has them.
//!
//! A [`ScrapeConfig`] is one entry of the file, without the global values; unknown keys are errors.
//! [`job`] adds the global values and checks everything: a [`ScrapeJob`], which is all that the
//! scrape manager knows of the configuration. [`protocol`] has the exposition formats of
//! `scrape_protocols`.

mod job;
mod protocol;
#[cfg(test)]
mod tests;

use crate::config::document::Node;
use crate::config::path::ConfigPath;
use crate::config::schema::{ConfigValue, ValueKind};
use crate::config::units::{ConfigDuration, ConfigSize};
use crate::discovery::DiscoveryConfigs;
use crate::http_client::HttpConfig;
use crate::names::{Escaping, NameScheme};
use crate::relabel::RelabelConfig;
use crate::{compose_block, config_keys};
pub use job::{JobFeatures, ScrapeJob, ScrapeLimits, jobs};
pub use protocol::ScrapeProtocol;
use std::collections::BTreeMap;

/// The scrape timeout if neither the job nor the global block gives one.
const DEFAULT_TIMEOUT: ConfigDuration = ConfigDuration(10_000);

config_keys! {
    /// The keys of `global`. Those that are not about scraping are read here too, for the caller.
    pub struct GlobalKeys {
        /// Time between scrapes.
        scrape_interval: ConfigDuration = ConfigDuration(60_000),
        /// Scrape timeout; default 10 s, or the interval if that is shorter.
        scrape_timeout: Option<ConfigDuration> = None,
        /// Accepted formats, in order of preference; without it those of Prometheus.
        scrape_protocols: Option<Vec<ScrapeProtocol>> = None,
        /// Time between rule evaluations.
        evaluation_interval: ConfigDuration = ConfigDuration(60_000),
        /// How far in the past rules are evaluated.
        rule_query_offset: ConfigDuration = ConfigDuration(0),
        /// Log file for queries.
        query_log_file: ConfigPath = ConfigPath::default(),
        /// Log file for failed scrapes.
        scrape_failure_log_file: ConfigPath = ConfigPath::default(),
        /// Labels that alerts and federated series get.
        external_labels: BTreeMap<String, String> = BTreeMap::new(),
        /// Maximum decoded body; 0: our own limit.
        body_size_limit: ConfigSize = ConfigSize(0),
        /// Maximum samples after relabelling; 0: no limit.
        sample_limit: u64 = 0,
        /// Maximum targets of a job; 0: no limit.
        target_limit: u64 = 0,
        /// Maximum labels of a series; 0: our own limit.
        label_limit: u64 = 0,
        /// Maximum length of a label name; 0: our own limit.
        label_name_length_limit: u64 = 0,
        /// Maximum length of a label value; 0: our own limit.
        label_value_length_limit: u64 = 0,
        /// Number of dropped targets to remember; 0: our own limit.
        keep_dropped_targets: u64 = 0,
        /// `utf8` or `legacy`: which names metrics and labels may have.
        metric_name_validation_scheme: NameScheme = NameScheme::Utf8,
        /// How targets should escape names that the old text format does not allow.
        metric_name_escaping_scheme: Option<Escaping> = None,
        /// Whether to store native histograms; otherwise their classic buckets.
        scrape_native_histograms: bool = false => printed,
        /// Whether to convert classic histograms to native ones with custom buckets.
        convert_classic_histograms_to_nhcb: bool = false,
        /// Whether to store classic buckets in addition to native histograms.
        always_scrape_classic_histograms: bool = false,
        /// Whether to write `scrape_timeout_seconds` and similar; default no, unless the feature of
        /// this name is on.
        extra_scrape_metrics: Option<bool> = None => printed,
    }
}

/// The `global` block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GlobalConfig {
    /// The keys of the block.
    pub keys: GlobalKeys,
}

impl GlobalConfig {
    /// Gives intervals of zero their defaults, and makes a timeout of zero one that the file leaves
    /// open, as Prometheus does.
    pub fn replace_zeros(&mut self) {
        let defaults = GlobalKeys::default();
        let keys = &mut self.keys;
        if keys.scrape_interval.0 == 0 {
            keys.scrape_interval = defaults.scrape_interval;
        }
        if keys.evaluation_interval.0 == 0 {
            keys.evaluation_interval = defaults.evaluation_interval;
        }
        keys.scrape_timeout = keys.scrape_timeout.filter(|timeout| timeout.0 != 0);
    }

    /// The block with the values in force where the file leaves them open.
    pub fn in_force(&self) -> GlobalConfig {
        let mut keys = self.keys.clone();
        // A timeout longer than the interval would be an error that the user did not write.
        keys.scrape_timeout = Some(keys.scrape_timeout.unwrap_or(DEFAULT_TIMEOUT.min(keys.scrape_interval)));
        keys.extra_scrape_metrics = Some(keys.extra_scrape_metrics.unwrap_or(false));
        GlobalConfig { keys }
    }
}

compose_block!(GlobalConfig as "config.GlobalConfig" { keys: GlobalKeys });

config_keys! {
    /// The keys of a scrape block, but for HTTP and discovery. `None`: the global value holds.
    pub struct ScrapeKeys {
        /// The name of the job.
        job_name: String = String::new(),
        /// Whether exposed labels win over target labels.
        honor_labels: bool = false,
        /// Whether exposed timestamps are used.
        honor_timestamps: bool = true => printed,
        /// Whether series with exposed timestamps get stale markers.
        track_timestamps_staleness: bool = false => printed,
        /// Query parameters.
        params: BTreeMap<String, Vec<String>> = BTreeMap::new(),
        /// Time between scrapes.
        scrape_interval: Option<ConfigDuration> = None,
        /// Scrape timeout.
        scrape_timeout: Option<ConfigDuration> = None,
        /// Accepted formats.
        scrape_protocols: Option<Vec<ScrapeProtocol>> = None,
        /// The format if the target names none that is supported.
        fallback_scrape_protocol: Option<ScrapeProtocol> = None,
        /// Whether to store native histograms; otherwise their classic buckets.
        scrape_native_histograms: Option<bool> = None => printed,
        /// Whether to store classic buckets in addition to native histograms.
        always_scrape_classic_histograms: Option<bool> = None => printed,
        /// Whether to convert classic histograms to native ones with custom buckets.
        convert_classic_histograms_to_nhcb: Option<bool> = None => printed,
        /// Log file for failed scrapes.
        scrape_failure_log_file: Option<ConfigPath> = None,
        /// Path of the request.
        metrics_path: String = "/metrics".to_owned(),
        /// `http` or `https`.
        scheme: String = "http".to_owned(),
        /// Whether to request gzip.
        enable_compression: bool = true => printed,
        /// Maximum decoded body.
        body_size_limit: Option<ConfigSize> = None,
        /// Maximum samples after relabelling.
        sample_limit: Option<u64> = None,
        /// Maximum targets.
        target_limit: Option<u64> = None,
        /// Maximum labels of a series.
        label_limit: Option<u64> = None,
        /// Maximum length of a label name.
        label_name_length_limit: Option<u64> = None,
        /// Maximum length of a label value.
        label_value_length_limit: Option<u64> = None,
        /// Most buckets of a native histogram; resolution is lowered to meet it. 0: no limit.
        native_histogram_bucket_limit: Option<u64> = None,
        /// Least growth from bucket to bucket; resolution is lowered to meet it.
        native_histogram_min_bucket_factor: Option<f64> = None,
        /// Dropped targets to remember.
        keep_dropped_targets: Option<u64> = None,
        /// `utf8` or `legacy`: which names metrics and labels may have.
        metric_name_validation_scheme: Option<NameScheme> = None,
        /// How targets should escape names that the old text format does not allow.
        metric_name_escaping_scheme: Option<Escaping> = None,
        /// Whether to write `scrape_timeout_seconds` and similar.
        extra_scrape_metrics: Option<bool> = None => printed,
        /// Relabelling rules for targets.
        relabel_configs: Vec<RelabelConfig> = Vec::new()
            => null "empty or null target relabeling rule in scrape config",
        /// Relabelling rules for series.
        metric_relabel_configs: Vec<RelabelConfig> = Vec::new()
            => null "empty or null metric relabeling rule in scrape config",
    }
}

/// One entry of `scrape_configs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScrapeConfig {
    /// The keys of the block itself.
    pub keys: ScrapeKeys,
    /// The HTTP options.
    pub http: HttpConfig,
    /// The discovery mechanisms.
    pub discovery: DiscoveryConfigs,
}

compose_block!(ScrapeConfig as "config.ScrapeConfig" {
    keys: ScrapeKeys,
    http: HttpConfig,
    discovery: DiscoveryConfigs,
});

/// Enumerations of whose keys the empty text is as if the key were not there.
macro_rules! inherited_names {
    ($($ty:ty),*) => { $(
        impl ConfigValue for $ty {
            const KIND: ValueKind = ValueKind::Text;
            const EMPTY_IS_ABSENT: bool = true;

            fn node(&self) -> Node {
                self.as_str().into()
            }
        }
    )* };
}

inherited_names!(ScrapeProtocol, NameScheme, Escaping);
