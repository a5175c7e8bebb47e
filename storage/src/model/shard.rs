//! Shards: a fixed share of the series, each owned by one worker.
//!
//! The shard of a series is a function of its labels and of nothing else, so restarts, blocks and other
//! machines agree on it. Series of one target (`job`, `instance`) share a shard: a scrape stays one columnar
//! batch, and `a / b` over one target can be matched where the samples are.

use super::Labels;
use serde::{Deserialize, Serialize};

/// Number of shards. Fixed for the life of a data directory: it is written into its formats.
pub const SHARDS: u16 = 16;

/// Where a series lives: its shard and its dense index (slot) inside it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeriesRef {
    /// The shard, `0..SHARDS`.
    pub shard: u16,
    /// Dense index inside the shard; never reused while the process lives.
    pub slot: u32,
}

/// The shard of a series: by `job` and `instance` where it has one of them, else by its labels
/// without `__name__`, `le` and `quantile` (so that the buckets of one histogram stay together).
pub fn shard_of(labels: &Labels) -> u16 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    let mut place = |name: &str, value: &str| {
        hasher.update(name.as_bytes());
        hasher.update(&[0xff]);
        hasher.update(value.as_bytes());
        hasher.update(&[0xff]);
    };
    let (job, instance) = (labels.get("job"), labels.get("instance"));
    if job.is_some() || instance.is_some() {
        place("job", job.unwrap_or(""));
        place("instance", instance.unwrap_or(""));
    } else {
        labels
            .iter()
            .filter(|(n, _)| !matches!(*n, "__name__" | "le" | "quantile"))
            .for_each(|(n, v)| place(n, v));
    }
    (hasher.digest() % u64::from(SHARDS)) as u16
}
