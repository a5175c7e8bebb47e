//! Backfill: writes samples that are too old for the head (the recent hours, in memory) directly as
//! a block (Parquet files of a range of time).
//!
//! For samples of earlier times that are computed later, by recording rules. The block is durable
//! and readable when the call returns. The write-ahead log is not involved, and retention applies
//! as to any block. Blocks may overlap each other and the head; the caller leaves out what is
//! stored already ([`Recorder::read_series`]). The live runtime learns of the recent part through
//! its change feed.

use super::batch::{ChangeData, ChangeEvent};
use super::flush::SeriesSamples;
use super::recorder::Recorder;
use crate::error::StoreError;
use crate::limits::SHARD_SLOTS;
use crate::model::{Labels, Matcher, SHARDS, TimeMs};
use std::collections::BTreeMap;

impl Recorder<'_> {
    /// Writes `series` (sorted by labels, samples in `from ≤ t < to`) as a block. The feed gets the
    /// floats and histograms from time `feed_from` on.
    ///
    /// # Errors
    /// The block cannot be written, or the store has no blocks.
    pub fn write_backfill(
        &self,
        from: TimeMs,
        to: TimeMs,
        series: &[SeriesSamples],
        feed_from: TimeMs,
    ) -> Result<(), StoreError> {
        let Some(history) = &self.store.history else {
            return Err(StoreError::Invalid("this store keeps no blocks".to_owned()));
        };
        if series.is_empty() {
            return Ok(());
        }
        {
            let _one_at_a_time = self.store.locks.for_flush();
            history.write(from, to, &mut series.iter().map(|one| Ok(one.clone())))?;
            // A flush moves samples that readers have seen; these are new.
            history.note_other_samples();
            self.store.metrics.blocks_written.inc();
        }
        for one in series {
            self.push_to_feed(one, feed_from);
        }
        Ok(())
    }

    /// Pushes the samples of a series from `from` on to the feed.
    fn push_to_feed(&self, series: &SeriesSamples, from: TimeMs) {
        let first = series.ts.partition_point(|t| *t < from);
        let first_histogram = series.histograms.partition_point(|(t, _)| *t < from);
        let floats = first < series.ts.len();
        let histograms = first_histogram < series.histograms.len();
        if !floats && !histograms {
            return;
        }
        let at = self.store.get_or_create_series(&series.labels);
        // The shard has no slot left. The samples are in a block; only the live runtime, which
        // names series by slot, does not see them.
        if at.slot == SHARD_SLOTS {
            return;
        }
        let mut shard = self.store.shards.get(at.shard).write();
        let mut tell = |data| {
            let seq = shard.count(&data);
            self.store.subscribers.on_change(ChangeEvent { shard: at.shard, seq, data });
        };
        if floats {
            let samples = series.ts.iter().zip(&series.vs).skip(first);
            tell(ChangeData::Rows(samples.map(|(t, v)| (at.slot, *t, *v)).collect()));
        }
        if histograms {
            let samples = series.histograms[first_histogram..].iter();
            tell(ChangeData::Histograms(samples.map(|(t, h)| (at.slot, *t, h.clone())).collect()));
        }
    }

    /// All floats and histograms of the matching series in `from..=to`, by labels; without start
    /// timestamps.
    pub fn read_series(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<BTreeMap<Labels, SeriesSamples>, StoreError> {
        let mut found = BTreeMap::new();
        for shard in 0..SHARDS {
            let selection = self.store.select(shard, matchers, from, to)?;
            for (i, labels) in selection.labels.iter().enumerate() {
                let mut one = SeriesSamples { labels: labels.clone(), ..SeriesSamples::default() };
                selection.read(i, from, to, &mut one.ts, &mut one.vs)?;
                selection.read_histograms(i, from, to, &mut one.histograms)?;
                found.insert(labels.clone(), one);
            }
        }
        Ok(found)
    }
}
