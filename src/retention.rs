//! The retention of blocks: combines the command line and the configuration file.
//!
//! As in Prometheus 3, each key of the file takes precedence over its flag, zero means not set, and
//! a share of the disk takes precedence over a size. Flags take precedence over old spellings in
//! the file ([`StorageBlock`]). The retention itself is in `storage/src/store/retention.rs`.

use crate::config::StorageBlock;
use crate::flags::Flags;
use connectors::config::units::ConfigSize;
use storage::model::time::format_duration;
use storage::store::Retention;

/// The retention time if neither a time nor a size is set, ms: 15 days, as in Prometheus.
const DEFAULT_TIME_MS: i64 = 15 * 86_400_000;

/// The retention in force.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(crate) struct RetentionInForce {
    /// The limits. A share of the disk is in bytes here.
    pub limits: Retention,
    /// The share of the disk, in percent; 0: the size is no share.
    pub percentage: f64,
}

/// The retention in force on a disk of `disk_bytes`; `None`: nobody knows its size, and a share of
/// it has no effect.
pub(crate) fn in_force(flags: &Flags, file: &StorageBlock, disk_bytes: Option<u64>) -> RetentionInForce {
    // By precedence. The old spellings come last: configurations of earlier versions must not
    // change a start script that sets the flag.
    let times = [file.retention_time, flags.retention_time(), file.old_retention_time];
    let sizes = [file.retention_size, flags.retention_size(), file.old_retention_size];
    let time = times.into_iter().flatten().find(|ms| *ms > 0);
    let size = sizes.into_iter().flatten().find(|bytes| *bytes > 0).unwrap_or(0);
    let share = file.retention_percentage.filter(|percentage| *percentage > 0.0).zip(disk_bytes);
    let size_bytes = share.map_or(size, |(percentage, disk)| (disk as f64 * percentage / 100.0) as u64);
    // Who sets only a size wants the disk used up to it; 15 days would remove blocks long before.
    let time_ms = time.unwrap_or(if size_bytes > 0 { 0 } else { DEFAULT_TIME_MS });
    let percentage = share.map_or(0.0, |(percentage, _)| percentage);
    RetentionInForce { limits: Retention { time_ms, size_bytes }, percentage }
}

/// Formats a retention as the API shows it: `15d`, `10GiB`, `15d or 10GiB`, `80%`.
pub(crate) fn text(in_force: RetentionInForce) -> String {
    let RetentionInForce { limits, percentage } = in_force;
    let time = (limits.time_ms > 0).then(|| format_duration(limits.time_ms));
    let size = if percentage > 0.0 {
        Some(format!("{percentage}%"))
    } else {
        (limits.size_bytes > 0).then(|| ConfigSize(limits.size_bytes).to_string())
    };
    time.into_iter().chain(size).collect::<Vec<_>>().join(" or ")
}
