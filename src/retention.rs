//! How long blocks stay: what the command line and the configuration file say together.
//!
//! As in Prometheus 3 the file wins over the flags, each of its two keys by itself, and zero is as
//! if nothing were said. Old spellings in the file ([`StorageBlock`]) lose against flags. See
//! `storage/src/store/retention.rs`.

use crate::config::StorageBlock;
use crate::flags::Flags;
use connectors::units::ConfigSize;
use storage::model::time::format_duration;
use storage::store::Retention;

/// How long samples are kept if neither a time nor a size is given, ms: 15 days, as in Prometheus.
const DEFAULT_TIME_MS: i64 = 15 * 86_400_000;

/// What is in force.
pub fn in_force(flags: &Flags, file: &StorageBlock) -> Retention {
    let times = [file.retention_time, flags.retention_time(), file.old_retention_time];
    let sizes = [file.retention_size, flags.retention_size(), file.old_retention_size];
    let time = times.into_iter().flatten().find(|ms| *ms > 0);
    let size_bytes = sizes.into_iter().flatten().find(|bytes| *bytes > 0).unwrap_or(0);
    let time_ms = time.unwrap_or(if size_bytes > 0 { 0 } else { DEFAULT_TIME_MS });
    Retention { time_ms, size_bytes }
}

/// As the API shows it: `15d`, `10GiB`, `15d or 10GiB`.
pub fn text(retention: Retention) -> String {
    let time = (retention.time_ms > 0).then(|| format_duration(retention.time_ms));
    let size = (retention.size_bytes > 0).then(|| ConfigSize(retention.size_bytes).to_string());
    time.into_iter().chain(size).collect::<Vec<_>>().join(" or ")
}
