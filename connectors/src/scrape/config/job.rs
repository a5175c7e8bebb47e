//! [`ScrapeJob`]: one entry of `scrape_configs` with the global values filled in, checked, and with
//! its relabelling rules compiled.
//!
//! [`jobs`] makes them when the configuration is loaded. The rules by which a missing key takes the
//! global value are those of Prometheus; each has a function here. [`super`] has the keys
//! themselves.

use super::protocol::{ScrapeProtocol, check_once};
use super::{DEFAULT_TIMEOUT, GlobalConfig, GlobalKeys, ScrapeConfig, ScrapeKeys};
use crate::config::error::BlockError;
use crate::config::path::ConfigPath;
use crate::config::units::ConfigDuration;
use crate::limits;
use crate::names::{Escaping, NameScheme};
use crate::native_histogram::HistogramLimits;
use crate::relabel::{Relabeler, set_names};
use crate::scrape::appender::HistogramPolicy;
use storage::limits::{LABEL_NAME_BYTES, LABEL_VALUE_BYTES};

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
            target_limit: bound(own_limit(keys.target_limit, global.target_limit), usize::MAX),
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

/// How many dropped targets are kept.
fn dropped_kept(keys: &ScrapeKeys, global: &GlobalKeys) -> usize {
    let kept = own_limit(keys.keep_dropped_targets, global.keep_dropped_targets);
    bound(kept, limits::DROPPED_TARGETS_SHOWN)
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

/// A limit of a job: zero is as if the key were not there, as in Prometheus.
fn own_limit(own: Option<u64>, global: u64) -> u64 {
    own.filter(|limit| *limit > 0).unwrap_or(global)
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
    let body = own_limit(keys.body_size_limit.map(|size| size.0), global.body_size_limit.0);
    let name_bytes = own_limit(keys.label_name_length_limit, global.label_name_length_limit);
    let value_bytes = own_limit(keys.label_value_length_limit, global.label_value_length_limit);
    ScrapeLimits {
        body: bound(body, limits::SCRAPE_BODY_BYTES),
        samples: bound(own_limit(keys.sample_limit, global.sample_limit), usize::MAX),
        labels: bound(own_limit(keys.label_limit, global.label_limit), limits::SERIES_LABELS),
        name_bytes: bound(name_bytes, LABEL_NAME_BYTES),
        value_bytes: bound(value_bytes, LABEL_VALUE_BYTES),
    }
}
