//! Zero samples at created timestamps: a counter gets a sample 0 at the time when it began to count
//! (Prometheus' feature `created-timestamp-zero-ingestion`). Scrapes and remote write call it.
//!
//! Every sample of a counter repeats this time, so all zero samples but the first are older than
//! stored samples. They are ignored and are not an error.

use super::Store;
use super::batch::{AppendResult, ZeroRow};
use super::shards::StoreShard;
use crate::error::StoreError;
use crate::head::{AppendCounts, Head, SlotHistogram};
use crate::limits::OLDEST_MS;
use crate::model::histogram::ResetHint;
use crate::model::{NativeHistogram, TimeMs};
use std::sync::Arc;

impl Store {
    /// Appends the zero samples that are newer than all samples of their series, and at most half a
    /// block range older than the newest sample of the store (`now` in an empty store). Ignores the
    /// others.
    pub fn append_zeros(&self, rows: &[ZeroRow], now: TimeMs) -> Result<AppendResult, StoreError> {
        self.wal.log.wait_for_space()?;
        let oldest = self.newest_or(now).saturating_sub(self.options.block_range_ms / 2).max(OLDEST_MS);
        let append = |shard: &mut StoreShard, at, rows: Vec<&ZeroRow>, counts: &mut AppendCounts| {
            let (histograms, floats): (Vec<&ZeroRow>, Vec<&ZeroRow>) = rows
                .into_iter()
                .filter(|row| row.start >= oldest && is_first(&shard.head, row))
                .partition(|row| row.like.is_some());
            let floats = floats.into_iter().map(|row| (row.series.slot, row.start, 0.0));
            let (floats_logged, floats) = self.append_samples(shard, at, floats, counts);
            let histograms = histograms.into_iter().filter_map(zero_histogram);
            let (logged, histograms) = self.append_histogram_samples(shard, at, histograms, counts);
            (logged.max(floats_logged), vec![floats, histograms])
        };
        let (counts, appended) = self.append_each(
            rows,
            |row| row.series,
            oldest,
            append,
            |item| self.subscribers.on_append(item),
        )?;
        self.metrics.count(&counts);
        Ok(appended)
    }
}

/// Whether the zero is newer than all samples of its series.
fn is_first(head: &Head, row: &ZeroRow) -> bool {
    head.stored(row.series.slot).newest().is_none_or(|newest| newest < row.start)
}

fn zero_histogram(row: &ZeroRow) -> Option<SlotHistogram> {
    let like = row.like.as_ref()?;
    let zero = NativeHistogram {
        hint: ResetHint::Reset,
        schema: like.schema,
        zero_threshold: like.zero_threshold,
        bounds: like.bounds.clone(),
        ..NativeHistogram::default()
    };
    Some((row.series.slot, row.start, Arc::new(zero)))
}
