//! The `storage` block.
//!
//! It has Prometheus 3's keys, and five old spellings that are flags in Prometheus but are often
//! written into the file. The old spellings are accepted with a warning; the proper keys and the
//! flags take precedence. The keys `retention`, a list of selectors and times, and `objects`, the
//! object store for old blocks, are not in Prometheus.

use super::Warning;
use connectors::objects::config::ObjectStoreConfig;
use connectors::units::{ConfigDuration, ConfigSize};
use rules::yaml::ConfigError;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};
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

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawStorage {
    tsdb: Option<RawTsdb>,
    retention: Option<Vec<Spanned<RawSeriesRetention>>>,
    exemplars: Option<RawExemplars>,
    objects: Option<Spanned<ObjectStoreConfig>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawExemplars {
    max_exemplars: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeriesRetention {
    r#match: String,
    time: ConfigDuration,
}

impl RawSeriesRetention {
    fn check(self) -> Result<SeriesRetention, String> {
        let matchers = promql::parse_selector(&self.r#match).map_err(|e| e.message())?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err("match must contain at least one non-empty matcher".to_owned());
        }
        Ok(SeriesRetention { matchers, time_ms: self.time.0 })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTsdb {
    out_of_order_time_window: Option<ConfigDuration>,
    stale_series_compaction_threshold: Option<Spanned<f64>>,
    chunk_encoding: Option<Spanned<serde_json::Value>>,
    retention: Option<RawRetention>,
    path: Option<Spanned<String>>,
    #[serde(rename = "retention.time")]
    retention_time: Option<Spanned<ConfigDuration>>,
    #[serde(rename = "retention.size")]
    retention_size: Option<Spanned<ConfigSize>>,
    #[serde(rename = "min-block-duration")]
    min_block: Option<Spanned<ConfigDuration>>,
    #[serde(rename = "max-block-duration")]
    max_block: Option<Spanned<ConfigDuration>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRetention {
    time: Option<ConfigDuration>,
    size: Option<ConfigSize>,
    percentage: Option<Spanned<f64>>,
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

impl RawStorage {
    pub(super) fn check(self, file: &str, warnings: &mut Vec<Warning>) -> Result<StorageBlock, ConfigError> {
        let mut series_retention = Vec::new();
        for one in self.retention.unwrap_or_default() {
            let fix = "write a series selector and a time, such as {match: '{job=\"debug\"}', time: 2d}";
            let fault = |what: String| {
                ConfigError::at(file, one.referenced, format!("storage.retention: {what}"), fix)
            };
            series_retention.push(one.value.check().map_err(fault)?);
        }
        let mut objects = None;
        if let Some(mut one) = self.objects {
            one.value.resolve_paths(Path::new(file).parent().unwrap_or(Path::new("")));
            one.value.validate().map_err(|e| {
                let fix = "write e.g. {url: s3://bucket/prefix, after: 7d}; see docs/objects.md";
                ConfigError::at(file, one.referenced, format!("storage.objects: {e}"), fix)
            })?;
            objects = Some(one.value);
        }
        let tsdb = self.tsdb.unwrap_or_default();
        let retention = tsdb.retention.unwrap_or_default();
        let mut unused = |place, key: &str| {
            let what = format!("storage.{key} has no effect in this build");
            warnings.push(ConfigError::at(file, place, what, "leave it for Prometheus, or remove it"));
        };
        if let Some(v) = &tsdb.stale_series_compaction_threshold {
            unused(v.referenced, "tsdb.stale_series_compaction_threshold");
        }
        if let Some(v) = &tsdb.chunk_encoding {
            unused(v.referenced, "tsdb.chunk_encoding");
        }
        if let Some(v) = &retention.percentage {
            unused(v.referenced, "tsdb.retention.percentage");
        }
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
            retention_time: retention.time.map(|v| v.0),
            retention_size: retention.size.map(|v| v.0),
            old_retention_time: time.map(|v| v.0),
            old_retention_size: size.map(|v| v.0),
            out_of_order_ms: tsdb.out_of_order_time_window.map(|v| v.0),
            min_block: min.map(|v| v.0),
            max_block: max.map(|v| v.0),
            max_exemplars: self.exemplars.and_then(|e| e.max_exemplars),
            objects,
        })
    }
}
