//! The retention of blocks: combines the command line and the configuration file.
//!
//! As in Prometheus 3, each of the two keys of the file takes precedence over its flag, and zero
//! means not set. Flags take precedence over old spellings in the file ([`StorageBlock`]). The
//! retention itself is in `storage/src/store/retention.rs`.

use crate::config::StorageBlock;
use crate::flags::Flags;
use connectors::config::units::ConfigSize;
use storage::model::time::format_duration;
use storage::store::Retention;

/// The retention time if neither a time nor a size is set, ms: 15 days, as in Prometheus.
const DEFAULT_TIME_MS: i64 = 15 * 86_400_000;

/// The retention in force.
pub(crate) fn in_force(flags: &Flags, file: &StorageBlock) -> Retention {
    // By precedence. The old spellings come last: configurations of earlier versions must not
    // change a start script that sets the flag.
    let times = [file.retention_time, flags.retention_time(), file.old_retention_time];
    let sizes = [file.retention_size, flags.retention_size(), file.old_retention_size];
    let time = times.into_iter().flatten().find(|ms| *ms > 0);
    let size_bytes = sizes.into_iter().flatten().find(|bytes| *bytes > 0).unwrap_or(0);
    // Who sets only a size wants the disk used up to it; 15 days would remove blocks long before.
    let time_ms = time.unwrap_or(if size_bytes > 0 { 0 } else { DEFAULT_TIME_MS });
    Retention { time_ms, size_bytes }
}

/// Formats a retention as the API shows it: `15d`, `10GiB`, `15d or 10GiB`.
pub(crate) fn text(retention: Retention) -> String {
    let time = (retention.time_ms > 0).then(|| format_duration(retention.time_ms));
    let size = (retention.size_bytes > 0).then(|| ConfigSize(retention.size_bytes).to_string());
    time.into_iter().chain(size).collect::<Vec<_>>().join(" or ")
}
