//! The configuration block `storage`.
//!
//! It has Prometheus 3's keys, and five that are flags in Prometheus but are often written into the
//! file: these are accepted with a warning, and the proper keys and flags take precedence. Two keys
//! are not in Prometheus: `retention`, a list of selectors and times, and `objects`, the object
//! store for old blocks.

use super::Warning;
use connectors::config::document::Node;
use connectors::config::error::BlockError;
use connectors::config::schema::{ConfigValue, IgnoredValue, ValueKind};
use connectors::config::units::{ConfigDuration, ConfigSize};
use connectors::config_block;
use connectors::objects::config::ObjectStoreConfig;

use rules::yaml::ConfigError;
use serde::de::{Deserialize, Deserializer, Error};
use serde_saphyr::Spanned;
use std::path::PathBuf;
use storage::model::Matcher;
use storage::store::SeriesRetention;

/// The `storage` block; a value of `None` means that the file does not set it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StorageBlock {
    /// The data directory.
    pub path: Option<PathBuf>,
    /// Samples older than this may be removed, ms.
    pub retention_time: Option<i64>,
    /// The oldest blocks are removed if all blocks together are larger than this, bytes.
    pub retention_size: Option<u64>,
    /// The same as a share of the disk, percent; wins over the size.
    pub retention_percentage: Option<f64>,
    /// As `retention_time`, in the old spelling.
    pub old_retention_time: Option<i64>,
    /// As `retention_size`, in the old spelling.
    pub old_retention_size: Option<u64>,
    /// The retention of series that match selectors.
    pub series_retention: Vec<SeriesRetention>,
    /// The late sample window, ms.
    pub out_of_order_ms: Option<i64>,
    /// The shortest time range of a block, ms.
    pub min_block: Option<i64>,
    /// The longest time range of a block, ms.
    pub max_block: Option<i64>,
    /// The largest number of stored exemplars.
    pub max_exemplars: Option<i64>,
    /// The object store for old blocks.
    pub objects: Option<ObjectStoreConfig>,
}

config_block! {
    /// `storage`, as written.
    pub struct StorageKeys as "config.StorageConfig" {
        /// How samples are stored.
        tsdb: TsdbKeys = TsdbKeys::default(),
        /// How long the series of some selectors stay.
        retention: Vec<Spanned<SeriesRetentionKeys>> = Vec::new(),
        /// How many exemplars are kept.
        exemplars: ExemplarKeys = ExemplarKeys::default(),
        /// Where old blocks go.
        objects: Option<Spanned<ObjectStoreConfig>> = None,
    }
}

config_block! {
    /// `storage.exemplars`.
    pub struct ExemplarKeys as "config.ExemplarsConfig" {
        /// Most of them.
        max_exemplars: Option<i64> = None,
    }
}

config_block! {
    /// An entry of `storage.retention`.
    pub struct SeriesRetentionKeys as "storage.retention" {
        /// A series selector.
        selector as "match": Option<String> = None,
        /// How long its series stay.
        time: Option<ConfigDuration> = None,
    }
}

/// What is wrong with an entry of `storage.retention`.
#[derive(Debug, thiserror::Error)]
enum SeriesRetentionError {
    #[error("the field \"match\" is missing")]
    NoMatch,
    #[error("the field \"time\" is missing")]
    NoTime,
    /// It is no series selector; the text of the parser.
    #[error("{0}")]
    Selector(String),
    #[error("match must contain at least one non-empty matcher")]
    MatchesAll,
}

impl SeriesRetentionKeys {
    fn check(self) -> Result<SeriesRetention, SeriesRetentionError> {
        let selector = self.selector.ok_or(SeriesRetentionError::NoMatch)?;
        let time = self.time.ok_or(SeriesRetentionError::NoTime)?;
        let matchers =
            promql::parse_selector(&selector).map_err(|e| SeriesRetentionError::Selector(e.message()))?;
        // It would match every series, which is what `storage.tsdb.retention` is for.
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(SeriesRetentionError::MatchesAll);
        }
        Ok(SeriesRetention { matchers, time_ms: time.0 })
    }
}

config_block! {
    /// `storage.tsdb`, with the old spellings.
    pub struct TsdbKeys as "config.TSDBConfig" {
        /// How late a sample may come.
        out_of_order_time_window: Option<ConfigDuration> = None,
        /// The same in ms, which Prometheus' page shows beside it; read and not used, as there.
        outofordertimewindow: Option<i64> = None,
        /// The share of series that ended at which Prometheus writes its head early; here the head
        /// lets go of them by itself.
        stale_series_compaction_threshold: Option<Spanned<IgnoredValue<f64>>> = None,
        /// How Prometheus encodes its chunks; this server has a format of its own.
        chunk_encoding: ChunkEncodingKeys = ChunkEncodingKeys::default(),
        /// How long samples stay.
        retention: RetentionKeys = RetentionKeys::default(),
        /// Old spelling of `--storage.tsdb.path`.
        path: Option<Spanned<String>> = None,
        /// Old spelling of `retention: {time: …}`.
        retention_time as "retention.time": Option<Spanned<ConfigDuration>> = None,
        /// Old spelling of `retention: {size: …}`.
        retention_size as "retention.size": Option<Spanned<ConfigSize>> = None,
        /// Old spelling of `--storage.tsdb.min-block-duration`.
        min_block as "min-block-duration": Option<Spanned<ConfigDuration>> = None,
        /// Old spelling of `--storage.tsdb.max-block-duration`.
        max_block as "max-block-duration": Option<Spanned<ConfigDuration>> = None,
    }
}

config_block! {
    /// `storage.tsdb.retention`.
    pub struct RetentionKeys as "config.TSDBRetentionConfig" {
        /// Samples older than this may go.
        time: Option<ConfigDuration> = None,
        /// The oldest blocks go when all are larger than this.
        size: Option<RetentionSize> = None,
        /// The same as a share of the disk that the data directory is on; wins over the size.
        percentage: Option<Spanned<f64>> = None,
    }
}

config_block! {
    /// `storage.tsdb.chunk_encoding`.
    pub struct ChunkEncodingKeys as "config.ChunkEncodingConfig" {
        /// `xor` or `xor2`.
        floats: Option<Spanned<IgnoredValue<FloatEncoding>>> = None,
    }
}

/// How Prometheus encodes its chunks of floats; it is only checked.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub(super) enum FloatEncoding {}

impl ConfigValue for FloatEncoding {
    const KIND: ValueKind = ValueKind::Text;

    fn check(given: &Node) -> Result<(), BlockError> {
        match given.text() {
            Some("xor" | "xor2" | "") | None => Ok(()),
            Some(other) => Err(BlockError::new(format!(
                "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', \
                 or the field must be omitted entirely, got {other:?}"
            ))),
        }
    }
}

/// `storage.tsdb.retention.size`: a size that is not negative.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) struct RetentionSize(ConfigSize);

impl<'de> Deserialize<'de> for RetentionSize {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let size = ConfigSize::parse(text.strip_prefix('-').unwrap_or(&text)).map_err(D::Error::custom)?;
        if text.starts_with('-') && size.0 > 0 {
            let what = "'storage.tsdb.retention.size' must be greater than or equal to 0";
            return Err(D::Error::custom(format_args!("{what}, got -{size}")));
        }
        Ok(RetentionSize(size))
    }
}

impl ConfigValue for RetentionSize {
    const KIND: ValueKind = ValueKind::Text;

    fn node(&self) -> Node {
        self.0.node()
    }
}

/// Checks a share of the disk.
fn percentage(file: &str, given: Option<Spanned<f64>>) -> Result<Option<f64>, ConfigError> {
    let Some(given) = given else { return Ok(None) };
    if (0.0..=100.0).contains(&given.value) {
        return Ok(Some(given.value));
    }
    let what = "'storage.tsdb.retention.percentage' must be in the range [0, 100]";
    let what = format!("{what}, got {}", given.value);
    Err(ConfigError::at(file, given.referenced, what, "write a percentage"))
}

/// The value of an old spelling, with a warning.
fn alias<T>(
    file: &str,
    key: &str,
    instead: &str,
    value: Option<Spanned<T>>,
    warnings: &mut Vec<Warning>,
) -> Option<T> {
    let value = value?;
    let what = format!("storage.tsdb.{key} is not a key of Prometheus' file: accepted here, refused there");
    warnings.push(ConfigError::at(file, value.referenced, what, format!("write {instead}")));
    Some(value.value)
}

impl StorageKeys {
    pub(super) fn check(self, file: &str, warnings: &mut Vec<Warning>) -> Result<StorageBlock, ConfigError> {
        let mut series_retention = Vec::new();
        for one in self.retention {
            let fix = "write a series selector and a time, such as {match: '{job=\"debug\"}', time: 2d}";
            let fault = |what: String| {
                ConfigError::at(file, one.referenced, format!("storage.retention: {what}"), fix)
            };
            series_retention.push(one.value.check().map_err(|error| fault(error.to_string()))?);
        }
        let mut objects = None;
        if let Some(one) = self.objects {
            one.value.validate().map_err(|e| {
                let fix = "write e.g. {url: s3://bucket/prefix, after: 7d}; see docs/objects.md";
                ConfigError::at(file, one.referenced, format!("storage.objects: {e}"), fix)
            })?;
            objects = Some(one.value);
        }
        let tsdb = self.tsdb;
        let path = alias(file, "path", "the flag --storage.tsdb.path", tsdb.path, warnings);
        let time = alias(
            file,
            "retention.time",
            "storage.tsdb.retention.time as nested keys",
            tsdb.retention_time,
            warnings,
        );
        let size = alias(
            file,
            "retention.size",
            "storage.tsdb.retention.size as nested keys",
            tsdb.retention_size,
            warnings,
        );
        let flag = "the flag --storage.tsdb.";
        let min =
            alias(file, "min-block-duration", &format!("{flag}min-block-duration"), tsdb.min_block, warnings);
        let max =
            alias(file, "max-block-duration", &format!("{flag}max-block-duration"), tsdb.max_block, warnings);
        Ok(StorageBlock {
            series_retention,
            path: path.map(PathBuf::from),
            retention_time: tsdb.retention.time.map(|v| v.0),
            retention_size: tsdb.retention.size.map(|v| v.0.0),
            retention_percentage: percentage(file, tsdb.retention.percentage)?,
            old_retention_time: time.map(|v| v.0),
            old_retention_size: size.map(|v| v.0),
            out_of_order_ms: tsdb.out_of_order_time_window.map(|v| v.0),
            min_block: min.map(|v| v.0),
            max_block: max.map(|v| v.0),
            max_exemplars: self.exemplars.max_exemplars,
            objects,
        })
    }
}
