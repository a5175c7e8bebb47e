//! `global` and `scrape_configs` of `prometheus.yml`, and the [`ScrapeJob`] that both make.
//!
//! A [`ScrapeConfig`] has the content of the file; unknown keys are errors. [`ScrapeJob::new`] adds
//! the global values, checks everything and compiles the relabelling rules. The manager works only
//! with jobs.

use crate::config::error::BlockError;
use crate::config::path::ConfigPath;
use crate::config::schema::plain_values;
use crate::config::units::{ConfigDuration, ConfigSize};
use crate::config::url::is_http_scheme;
use crate::discovery::DiscoveryConfigs;
use crate::http_client::HttpConfig;
use crate::limits;
use crate::names::{Escaping, NameScheme};
use crate::native_histogram::HistogramLimits;
use crate::relabel::{RelabelConfig, Relabeler, set_names};
use crate::scrape::appender::HistogramPolicy;
use crate::{compose_block, config_keys};
use serde::Deserialize;
use std::collections::BTreeMap;
use storage::limits::{LABEL_NAME_BYTES, LABEL_VALUE_BYTES};

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

/// An exposition format, named as in `scrape_protocols`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum ScrapeProtocol {
    /// Protobuf, the format with native histograms.
    PrometheusProto,
    /// OpenMetrics 0.0.1.
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetrics0,
    /// OpenMetrics 1.0.0.
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetrics1,
    /// Text 0.0.4.
    #[serde(rename = "PrometheusText0.0.4")]
    Text0,
    /// Text 1.0.0: with quoted UTF-8 names.
    #[serde(rename = "PrometheusText1.0.0")]
    Text1,
}

impl ScrapeProtocol {
    /// The formats that Prometheus requests by default, in order.
    pub const DEFAULT: &'static [ScrapeProtocol] = &[
        ScrapeProtocol::OpenMetrics1,
        ScrapeProtocol::OpenMetrics0,
        ScrapeProtocol::Text1,
        ScrapeProtocol::Text0,
    ];

    /// The formats that Prometheus requests if native histograms are wanted.
    pub const NATIVE: &'static [ScrapeProtocol] = &[
        ScrapeProtocol::PrometheusProto,
        ScrapeProtocol::OpenMetrics1,
        ScrapeProtocol::OpenMetrics0,
        ScrapeProtocol::Text1,
        ScrapeProtocol::Text0,
    ];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            ScrapeProtocol::PrometheusProto => "PrometheusProto",
            ScrapeProtocol::OpenMetrics0 => "OpenMetricsText0.0.1",
            ScrapeProtocol::OpenMetrics1 => "OpenMetricsText1.0.0",
            ScrapeProtocol::Text0 => "PrometheusText0.0.4",
            ScrapeProtocol::Text1 => "PrometheusText1.0.0",
        }
    }

    /// The entry in an `Accept` header, without weight. Only the newer text formats have an
    /// escaping scheme.
    fn accept(self, escaping: Escaping) -> String {
        let escaping = escaping.as_str();
        match self {
            ScrapeProtocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
                    .to_owned()
            }
            ScrapeProtocol::OpenMetrics0 => "application/openmetrics-text;version=0.0.1".to_owned(),
            ScrapeProtocol::OpenMetrics1 => {
                format!("application/openmetrics-text;version=1.0.0;escaping={escaping}")
            }
            ScrapeProtocol::Text0 => "text/plain;version=0.0.4".to_owned(),
            ScrapeProtocol::Text1 => format!("text/plain;version=1.0.0;escaping={escaping}"),
        }
    }

    /// The `Accept` header for `protocols`: the first has weight 0.6, each further one 0.1 less,
    /// `*/*` comes last.
    pub fn accept_header(protocols: &[ScrapeProtocol], escaping: Escaping) -> String {
        // The weights of Prometheus: exporters that choose by them must choose the same format
        // here.
        let mut weight = ScrapeProtocol::NATIVE.len() + 1;
        let mut header = String::new();
        for protocol in protocols {
            header.push_str(&format!("{};q=0.{weight},", protocol.accept(escaping)));
            weight = weight.saturating_sub(1);
        }
        format!("{header}*/*;q=0.{weight}")
    }
}

/// The limits of one scrape, with defaults filled in (0 never occurs).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ScrapeLimits {
    /// Decoded body, bytes.
    pub body: usize,
    /// Samples after relabelling.
    pub samples: usize,
    /// Labels per series.
    pub labels: usize,
    /// Bytes of a label name.
    pub name_bytes: usize,
    /// Bytes of a label value.
    pub value_bytes: usize,
}

/// A scrape block, checked and compiled, with the global values filled in.
#[derive(Clone, Debug)]
pub struct ScrapeJob {
    /// The block.
    pub config: ScrapeConfig,
    /// Time between scrapes.
    pub interval: ConfigDuration,
    /// Scrape timeout.
    pub timeout: ConfigDuration,
    /// The `Accept` header.
    pub accept: String,
    /// Whether neither the job nor the global block lists formats.
    asks_by_default: bool,
    /// Which names metrics and labels may have.
    pub names: NameScheme,
    /// How targets should escape other names.
    pub escaping: Escaping,
    /// The limits of one scrape.
    pub limits: ScrapeLimits,
    /// Maximum targets.
    pub target_limit: usize,
    /// How many dropped targets are kept for display.
    pub dropped_kept: usize,
    /// The log of failed scrapes; empty: none.
    pub failure_log: ConfigPath,
    /// Whether to write `scrape_timeout_seconds` and similar.
    pub extra_metrics: bool,
    /// Whether neither the job nor the global block sets that.
    extra_by_default: bool,
    /// What to do with histograms.
    pub native: HistogramPolicy,
    /// Relabelling rules for targets.
    pub relabel: Relabeler,
    /// Relabelling rules for series.
    pub metric_relabel: Relabeler,
}

/// Features that change the defaults of jobs.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFeatures {
    /// `native-histograms`: as if `scrape_native_histograms` were on.
    pub native: bool,
    /// `extra-scrape-metrics`: as if `extra_scrape_metrics` were on.
    pub extra_metrics: bool,
    /// Start timestamps are wanted: protobuf is requested first.
    pub starts: bool,
}

/// Two jobs are equal if they scrape in the same way.
impl PartialEq for ScrapeJob {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
            && (self.interval, self.timeout, &self.accept) == (other.interval, other.timeout, &other.accept)
            && (self.limits, self.target_limit, self.extra_metrics, self.native)
                == (other.limits, other.target_limit, other.extra_metrics, other.native)
            && (self.names, self.escaping) == (other.names, other.escaping)
            && self.dropped_kept == other.dropped_kept
            && self.failure_log == other.failure_log
    }
}

plain_values! {
    Text |protocol| protocol.as_str().into() => ScrapeProtocol;
    Text |names| names.as_str().into() => NameScheme;
    Text |escaping| escaping.as_str().into() => Escaping;
}

const DEFAULT_TIMEOUT: ConfigDuration = ConfigDuration(10_000);

impl ScrapeJob {
    /// Checks `config`. The error is the first problem, and names the job.
    pub fn new(config: ScrapeConfig, global: &GlobalConfig) -> Result<ScrapeJob, BlockError> {
        let name = config.keys.job_name.clone();
        if name.is_empty() {
            // In the order of Prometheus, which reads the mechanisms before it looks at the name.
            config.discovery.validate()?;
            return Err("job_name is empty".into());
        }
        ScrapeJob::build(config, &global.keys)
            .map_err(|error| error.within(format_args!("scrape config with job name {name:?}")))
    }

    fn build(mut config: ScrapeConfig, global: &GlobalKeys) -> Result<ScrapeJob, BlockError> {
        // First: whether a rule may write a name depends on the scheme.
        let (names, escaping) = name_schemes(&config.keys, global)?;
        set_names(&mut config.keys.relabel_configs, names);
        set_names(&mut config.keys.metric_relabel_configs, names);
        let keys = &config.keys;
        let (interval, timeout) = times(keys, global)?;
        if !is_http_scheme(&keys.scheme) {
            let text = format!("scheme {:?} is neither http nor https", keys.scheme);
            return Err(BlockError::new(text));
        }
        config.http.validate()?;
        config.discovery.validate()?;
        if keys.relabel_configs.is_empty() {
            config.discovery.validate_addresses()?;
        }
        let native = native(keys, global);
        let protocols = protocols(keys, global, native.scrape);
        if protocols.is_empty() {
            return Err("scrape_protocols cannot be empty".into());
        }
        check_once(protocols)?;
        let asks_by_default = keys.scrape_protocols.is_none() && has_default_protocols(global);
        let extra_metrics = keys.extra_scrape_metrics.or(global.extra_scrape_metrics);
        Ok(ScrapeJob {
            interval,
            timeout,
            accept: ScrapeProtocol::accept_header(protocols, escaping),
            asks_by_default,
            names,
            escaping,
            native,
            limits: scrape_limits(keys, global),
            target_limit: bound(keys.target_limit.unwrap_or(global.target_limit), usize::MAX),
            dropped_kept: dropped_kept(keys, global),
            extra_metrics: extra_metrics.unwrap_or(false),
            extra_by_default: extra_metrics.is_none(),
            failure_log: failure_log(keys, global),
            relabel: Relabeler::new(&keys.relabel_configs)
                .map_err(|error| BlockError::from(error).within("relabel_configs"))?,
            metric_relabel: Relabeler::new(&keys.metric_relabel_configs)
                .map_err(|error| BlockError::from(error).within("metric_relabel_configs"))?,
            config,
        })
    }

    /// The block with the values in force where the file leaves them open. What is in the global
    /// block under the same name is not repeated.
    pub fn in_force(&self, global: &GlobalConfig) -> ScrapeConfig {
        let mut config = self.config.clone();
        let keys = &mut config.keys;
        keys.scrape_interval = Some(self.interval);
        keys.scrape_timeout = Some(self.timeout);
        keys.scrape_protocols = Some(protocols(keys, &global.keys, self.native.scrape).to_vec());
        keys.scrape_native_histograms = Some(self.native.scrape);
        keys.always_scrape_classic_histograms = Some(self.native.classic_too);
        keys.convert_classic_histograms_to_nhcb = Some(self.native.convert);
        keys.metric_name_validation_scheme = Some(self.names);
        keys.metric_name_escaping_scheme = Some(self.escaping);
        config
    }

    /// Applies features to what the file leaves open.
    pub fn assume(&mut self, features: JobFeatures) {
        // A feature changes defaults only; what the file says, it says.
        if features.native && self.config.keys.scrape_native_histograms.is_none() {
            self.native.scrape = true;
        }
        if features.extra_metrics && self.extra_by_default {
            self.extra_metrics = true;
        }
        // Only protobuf has native histograms and start timestamps, so it is asked for first; a
        // list in the file is left alone.
        if self.asks_by_default && (features.starts || self.native.scrape) {
            self.accept = ScrapeProtocol::accept_header(ScrapeProtocol::NATIVE, self.escaping);
        }
    }

    /// The job's name.
    pub fn name(&self) -> &str {
        &self.config.keys.job_name
    }
}

/// How many dropped targets are kept: as in Prometheus zero is the global number.
fn dropped_kept(keys: &ScrapeKeys, global: &GlobalKeys) -> usize {
    let own = keys.keep_dropped_targets.filter(|number| *number > 0);
    bound(own.unwrap_or(global.keep_dropped_targets), limits::DROPPED_TARGETS_SHOWN)
}

/// The log of failed scrapes: an empty path in a job is the global one, as in Prometheus.
fn failure_log(keys: &ScrapeKeys, global: &GlobalKeys) -> ConfigPath {
    let own = keys.scrape_failure_log_file.as_ref().filter(|path| !path.is_empty());
    own.unwrap_or(&global.scrape_failure_log_file).clone()
}

/// Checks all blocks together; job names must be unique.
pub fn jobs(configs: Vec<ScrapeConfig>, global: &GlobalConfig) -> Result<Vec<ScrapeJob>, BlockError> {
    let mut seen = std::collections::HashSet::new();
    for config in &configs {
        // The name is the identity of a pool and a label of its series: two jobs of one name would
        // write the same series.
        if !seen.insert(config.keys.job_name.clone()) {
            let name = &config.keys.job_name;
            let text = format!("found multiple scrape configs with job name {name:?}");
            return Err(BlockError::new(text));
        }
    }
    configs.into_iter().map(|config| ScrapeJob::new(config, global)).collect()
}

/// The interval and the timeout of a job. Zero is as if the key were not there, as in Prometheus.
fn times(keys: &ScrapeKeys, global: &GlobalKeys) -> Result<(ConfigDuration, ConfigDuration), BlockError> {
    let is_given = |duration: &ConfigDuration| duration.0 != 0;
    let interval = keys.scrape_interval.filter(is_given).unwrap_or(global.scrape_interval);
    if interval.0 <= 0 {
        return Err("scrape interval must be greater than 0".into());
    }
    let global_timeout = global.scrape_timeout.filter(is_given).unwrap_or(DEFAULT_TIMEOUT);
    let timeout = keys.scrape_timeout.filter(is_given).unwrap_or(global_timeout.min(interval));
    if timeout.0 <= 0 {
        return Err("scrape timeout must be greater than 0".into());
    }
    // A scrape that may take longer than the time to the next one would have to be skipped or run
    // beside it.
    if timeout > interval {
        let text = format!("scrape timeout greater than scrape interval ({timeout} > {interval})");
        return Err(BlockError::new(text));
    }
    Ok((interval, timeout))
}

fn bound(configured: u64, ours: usize) -> usize {
    if configured == 0 { ours } else { usize::try_from(configured).unwrap_or(usize::MAX) }
}

/// The formats that the job requests: its own, the global ones, or those for its histograms.
fn protocols<'a>(keys: &'a ScrapeKeys, global: &'a GlobalKeys, native: bool) -> &'a [ScrapeProtocol] {
    match &keys.scrape_protocols {
        Some(own) => own,
        // Who wants native histograms and names no formats wants the only one that has them.
        None if native && has_default_protocols(global) => ScrapeProtocol::NATIVE,
        None => global.scrape_protocols.as_deref().unwrap_or(ScrapeProtocol::DEFAULT),
    }
}

/// Checks that no format is listed twice.
fn check_once(protocols: &[ScrapeProtocol]) -> Result<(), BlockError> {
    let is_again = |(at, protocol): (usize, &ScrapeProtocol)| protocols[..at].contains(protocol);
    if !protocols.iter().enumerate().any(is_again) {
        return Ok(());
    }
    let names: Vec<&str> = protocols.iter().map(|protocol| protocol.as_str()).collect();
    Err(format!("duplicated protocol in scrape_protocols, got [{}]", names.join(" ")).into())
}

/// Whether the global block leaves the formats open. Listing the default is the same.
fn has_default_protocols(global: &GlobalKeys) -> bool {
    global.scrape_protocols.as_deref().is_none_or(|protocols| protocols == ScrapeProtocol::DEFAULT)
}

/// The validation and escaping schemes. A block with its own validation scheme does not inherit the
/// escaping of the global block, but gets the default of its validation.
fn name_schemes(keys: &ScrapeKeys, global: &GlobalKeys) -> Result<(NameScheme, Escaping), BlockError> {
    let of_file = global.metric_name_validation_scheme;
    let names = keys.metric_name_validation_scheme.unwrap_or(of_file);
    let inherited = match keys.metric_name_validation_scheme {
        // As in Prometheus. The global escaping may not exist under the job's own scheme.
        Some(own) => Escaping::default_of(own),
        None => global.metric_name_escaping_scheme.unwrap_or(Escaping::default_of(of_file)),
    };
    let escaping = keys.metric_name_escaping_scheme.unwrap_or(inherited);
    if escaping == Escaping::AllowUtf8 && names == NameScheme::Legacy {
        return Err("utf8 metric names requested but validation scheme is not set to UTF8".into());
    }
    Ok((names, escaping))
}

fn native(keys: &ScrapeKeys, global: &GlobalKeys) -> HistogramPolicy {
    let limit = keys.native_histogram_bucket_limit;
    let factor = keys.native_histogram_min_bucket_factor;
    let classic_too = keys.always_scrape_classic_histograms;
    let convert = keys.convert_classic_histograms_to_nhcb;
    HistogramPolicy {
        scrape: keys.scrape_native_histograms.unwrap_or(global.scrape_native_histograms),
        classic_too: classic_too.unwrap_or(global.always_scrape_classic_histograms),
        convert: convert.unwrap_or(global.convert_classic_histograms_to_nhcb),
        limits: HistogramLimits::new(limit.unwrap_or(0), factor.unwrap_or(0.0)),
        ..HistogramPolicy::default()
    }
}

fn scrape_limits(keys: &ScrapeKeys, global: &GlobalKeys) -> ScrapeLimits {
    let body = keys.body_size_limit.unwrap_or(global.body_size_limit).0;
    let name_bytes = keys.label_name_length_limit.unwrap_or(global.label_name_length_limit);
    let value_bytes = keys.label_value_length_limit.unwrap_or(global.label_value_length_limit);
    ScrapeLimits {
        body: bound(body, limits::SCRAPE_BODY_BYTES),
        samples: bound(keys.sample_limit.unwrap_or(global.sample_limit), usize::MAX),
        labels: bound(keys.label_limit.unwrap_or(global.label_limit), limits::SERIES_LABELS),
        name_bytes: bound(name_bytes, LABEL_NAME_BYTES),
        value_bytes: bound(value_bytes, LABEL_VALUE_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(global: &str, scrape: &str) -> Result<ScrapeJob, BlockError> {
        let global: GlobalConfig = serde_saphyr::from_str(global).map_err(|e| e.to_string())?;
        ScrapeJob::new(serde_saphyr::from_str(scrape).map_err(|e| e.to_string())?, &global)
    }

    #[test]
    fn defaults_are_prometheus() {
        let job = load("{}", "{job_name: x}").unwrap();
        assert_eq!((job.interval, job.timeout), (ConfigDuration(60_000), ConfigDuration(10_000)));
        assert_eq!(
            (job.config.keys.metrics_path.as_str(), job.config.keys.scheme.as_str()),
            ("/metrics", "http")
        );
        assert!(
            job.config.keys.honor_timestamps
                && !job.config.keys.honor_labels
                && job.config.http.follow_redirects
        );
        let job = load("scrape_interval: 5s", "job_name: x").unwrap();
        assert_eq!((job.interval, job.timeout), (ConfigDuration(5_000), ConfigDuration(5_000)));
        assert_eq!(
            job.accept,
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
    }

    #[test]
    fn native_histograms_are_asked_for_in_protobuf() {
        let accept = |global, scrape| load(global, scrape).unwrap().accept;
        let native = accept("{}", "{job_name: x, scrape_native_histograms: true}");
        assert!(native.starts_with(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
        ));
        assert_eq!(accept("scrape_native_histograms: true", "job_name: x"), native);
        let text = "{job_name: x, scrape_native_histograms: true, scrape_protocols: [PrometheusText0.0.4]}";
        assert_eq!(accept("{}", text), "text/plain;version=0.0.4;q=0.6,*/*;q=0.5");
        let job = load(
            "{always_scrape_classic_histograms: true, scrape_native_histograms: true}",
            "{job_name: x, scrape_native_histograms: false, convert_classic_histograms_to_nhcb: true, \
             native_histogram_bucket_limit: 9, native_histogram_min_bucket_factor: 2}",
        );
        let mut old = load("{}", "job_name: x").unwrap();
        old.assume(JobFeatures { native: true, ..JobFeatures::default() });
        assert!(old.native.scrape && old.accept == native);
        let limits = HistogramLimits { buckets: 9, max_schema: 0 };
        let rules =
            HistogramPolicy { classic_too: true, convert: true, limits, ..HistogramPolicy::default() };
        assert_eq!(job.unwrap().native, rules);
    }

    #[test]
    fn features_stand_in_for_keys_that_are_not_there() {
        let features = JobFeatures { extra_metrics: true, starts: true, ..JobFeatures::default() };
        let with = |global: &str, scrape: &str| {
            let mut job = load(global, scrape).unwrap();
            job.assume(features);
            (job.extra_metrics, job.accept.starts_with("application/vnd.google.protobuf"), job.native.scrape)
        };
        assert_eq!(with("{}", "job_name: x"), (true, true, false));
        assert_eq!(with("extra_scrape_metrics: false", "job_name: x"), (false, true, false));
        let own = "{job_name: x, extra_scrape_metrics: false, scrape_protocols: [PrometheusText0.0.4]}";
        assert_eq!(with("extra_scrape_metrics: true", own), (false, false, false));
        assert_eq!(with("scrape_protocols: [PrometheusText1.0.0]", "job_name: x"), (true, false, false));
    }

    #[test]
    fn names_are_asked_for_and_checked_as_the_schemes_say() {
        let schemes = |global: &str, scrape: &str| {
            let job = load(global, &format!("{{job_name: x{scrape}}}"))?;
            assert!(
                job.accept.contains(&format!(";escaping={};q=0.6", job.escaping.as_str())),
                "{}",
                job.accept
            );
            Ok::<_, BlockError>((job.names, job.escaping.as_str()))
        };
        let legacy = ", metric_name_validation_scheme: legacy";
        let table = [
            ("{}", "", NameScheme::Utf8, "allow-utf-8"),
            ("{}", legacy, NameScheme::Legacy, "underscores"),
            ("{}", ", metric_name_escaping_scheme: dots", NameScheme::Utf8, "dots"),
            ("metric_name_escaping_scheme: values", "", NameScheme::Utf8, "values"),
            ("metric_name_escaping_scheme: values", legacy, NameScheme::Legacy, "underscores"),
            ("metric_name_validation_scheme: legacy", "", NameScheme::Legacy, "underscores"),
            (
                "metric_name_validation_scheme: legacy",
                ", metric_name_validation_scheme: utf8",
                NameScheme::Utf8,
                "allow-utf-8",
            ),
        ];
        for (global, scrape, names, escaping) in table {
            assert_eq!(schemes(global, scrape), Ok((names, escaping)), "{global} {scrape}");
        }
        for (global, scrape, reason) in [
            (
                "{}",
                ", metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8",
                "utf8 metric names requested",
            ),
            (
                "{metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8}",
                "",
                "utf8 metric names requested",
            ),
            ("{}", ", metric_name_validation_scheme: ascii", "ascii"),
            ("{}", ", metric_name_escaping_scheme: none", "none"),
            (
                "{}",
                ", metric_name_validation_scheme: legacy, relabel_configs: [{target_label: a.b, replacement: x}]",
                "\"a.b\" is invalid 'target_label'",
            ),
            (
                "metric_name_validation_scheme: legacy",
                ", metric_relabel_configs: [{target_label: a.b, replacement: x}]",
                "\"a.b\" is invalid 'target_label'",
            ),
        ] {
            let error = schemes(global, scrape).unwrap_err().to_string();
            assert!(error.contains(reason), "{global} {scrape}: {error}");
        }
    }

    #[test]
    fn a_full_block_loads() {
        let job = load(
            "{scrape_interval: 15s, sample_limit: 7, external_labels: {cluster: production}}",
            r#"
job_name: full
scrape_interval: 10s
scrape_timeout: 5s
metrics_path: /m
scheme: https
params:
  match[]: ['{job="a"}', up]
body_size_limit: 15MB
basic_auth: {username: admin, password: secret}
tls_config: {insecure_skip_verify: true}
static_configs:
  - targets: [localhost:9090]
    labels: {env: 1, on: true}
triton_sd_configs:
  - {account: a, dns_suffix: d, endpoint: e, tls_config: {insecure_skip_verify: true}}
relabel_configs:
  - {source_labels: [a], action: keep, regex: true}
"#,
        )
        .unwrap();
        assert_eq!(job.limits.body, 15 << 20);
        assert_eq!(job.limits.samples, 7);
        assert_eq!(job.config.keys.relabel_configs[0].regex.as_deref(), Some("true"));
        assert_eq!(job.config.discovery.static_configs[0].labels["env"], "1");
        assert_eq!(job.config.discovery.triton_sd_configs.len(), 1);
        assert!(!format!("{job:?}").contains("\"secret\""));
    }

    #[test]
    fn problems_are_named() {
        let table = [
            (
                "{job_name: x, scrape_intervall: 5s}",
                "field scrape_intervall not found in type config.ScrapeConfig",
            ),
            ("{job_name: x, nonsense_sd_configs: []}", "field nonsense_sd_configs not found"),
            ("{metrics_path: /x}", "job_name is empty"),
            ("{job_name: x, scrape_timeout: 2m}", "scrape timeout greater than scrape interval (2m > 1m)"),
            ("{job_name: x, scrape_interval: soon}", "not a valid duration string"),
            (
                "{job_name: x, static_configs: [{targets: ['http://a/b']}]}",
                "\"http://a/b\" is not a valid hostname",
            ),
            ("{job_name: x, relabel_configs: [{action: replace}]}", "requires 'target_label' value"),
            ("{job_name: x, oauth2: {client_id: a}}", "oauth2 token_url must be configured"),
            ("{job_name: x, job_name: y}", "duplicate"),
        ];
        for (yaml, expected) in table {
            let error = load("{}", yaml).map(drop).unwrap_err().to_string();
            assert!(error.contains(expected), "{yaml}: {error}");
        }
    }
}
