//! Shards: fixed shares of the series, each owned by one worker.
//!
//! The shard of a series depends only on its labels, so that restarts, blocks and other processes
//! agree on it. Series of one target (`job`, `instance`) are in one shard: a scrape stays one
//! column batch, and `a / b` over one target can be matched where the samples are.

use super::Labels;
use super::labels::RawPairs;
use serde::{Deserialize, Serialize};

/// Number of shards. It is part of the file formats, so it cannot change.
pub const SHARDS: u16 = 16;

/// A series: its shard, and its slot (index) within the shard.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeriesRef {
    /// The shard, `0..SHARDS`.
    pub shard: u16,
    /// The slot within the shard; never given to another series.
    pub slot: u32,
}

/// The shard of a series: by `job` and `instance` if it has one of them, otherwise by its labels
/// without `__name__`, `le` and `quantile`, so that the buckets of a histogram stay together.
pub fn shard_of(labels: &Labels) -> u16 {
    shard_of_encoded(labels.encoded())
}

/// As [`shard_of`], for encoded labels.
pub fn shard_of_encoded(encoded: &[u8]) -> u16 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    let mut place = |name: &[u8], value: &[u8]| {
        hasher.update(name);
        hasher.update(&[0xff]);
        hasher.update(value);
        hasher.update(&[0xff]);
    };
    let value_of = |name: &[u8]| RawPairs::new(encoded).find(|pair| pair.name == name).map(|pair| pair.value);
    let job = value_of(b"job");
    let instance = value_of(b"instance");
    if job.is_some() || instance.is_some() {
        place(b"job", job.unwrap_or_default());
        place(b"instance", instance.unwrap_or_default());
    } else {
        let decides = |name: &[u8]| !matches!(name, b"__name__" | b"le" | b"quantile");
        for pair in RawPairs::new(encoded).filter(|pair| decides(pair.name)) {
            place(pair.name, pair.value);
        }
    }
    (hasher.digest() % u64::from(SHARDS)) as u16
}
