//! [`StoreSeries`]: the series by their numbers, and what the head has of each.

use super::Store;
use crate::model::{Labels, SeriesRef, TimeMs, shard_of};

/// The numbered series of a store.
#[derive(Copy, Clone)]
pub struct StoreSeries<'a> {
    pub(super) store: &'a Store,
}

impl StoreSeries<'_> {
    /// The series with these labels in their encoded form ([`Labels::encoded`]), if it is active.
    /// Bytes that are no label set find none.
    pub fn find_encoded(&self, encoded: &[u8]) -> Option<SeriesRef> {
        self.store.shards.find_encoded(encoded)
    }

    /// The labels of a series, also of an inactive one; empty if there is no such series.
    pub fn labels(&self, series: SeriesRef) -> Labels {
        self.store.shards.labels(series)
    }

    /// Number of slots of a shard. Slots are numbered from 0, so series created since an earlier
    /// call have the slots from the earlier result on.
    pub fn slots(&self, shard: u16) -> u32 {
        self.store.shards.slots(shard)
    }

    /// Whether the series has samples in the head in a column of a group whose key begins with
    /// `prefix`.
    pub fn is_column_of(&self, labels: &Labels, prefix: &str) -> bool {
        self.store.shards.get(shard_of(labels)).read().head.is_column_of(labels, prefix)
    }

    /// Whether a series has a sample in the head.
    pub fn has_samples(&self, series: SeriesRef) -> bool {
        self.store.shards.get(series.shard).read().head.stored(series.slot).newest().is_some()
    }

    /// Whether the head has this sample: the value `v` of a series at `t`, or with `None` a native
    /// histogram.
    pub fn has_sample(&self, series: SeriesRef, t: TimeMs, v: Option<f64>) -> bool {
        let shard = self.store.shards.get(series.shard).read();
        let stored = shard.head.stored(series.slot);
        match v {
            Some(v) => stored.float_at(t).is_some_and(|there| there.to_bits() == v.to_bits()),
            None => stored.histogram_at(t).is_some(),
        }
    }

    /// The start timestamps of these samples (slot, time) of a shard: 0 for those of which none is
    /// known, or not any more, because they have left the head.
    pub fn starts_of(&self, shard: u16, samples: impl Iterator<Item = (u32, TimeMs)>) -> Vec<TimeMs> {
        let shard = self.store.shards.get(shard).read();
        samples.map(|(slot, t)| shard.head.stored(slot).start_at(t).unwrap_or(0)).collect()
    }
}
