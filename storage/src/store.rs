//! The storage engine's entry point. [`Store`] owns the write-ahead log (WAL), the head (recent
//! samples in memory) and the blocks (immutable Parquet files).
//!
//! Writers append batches by column ([`Store::append_columns`]: a scrape or the result of a rule,
//! one timestamp for many series) or single rows ([`Store::append_rows`] for remote write,
//! [`Store::append_histograms`]). Every append returns an LSN, its position in the log; the data is
//! acknowledged when [`StoreWal::on_committed`] confirms this LSN. Readers get a [`Selection`], a
//! snapshot that holds no lock.

mod admin;
mod append;
mod backfill;
mod batch;
mod block_source;
mod blocks;
mod builder;
mod change_log;
mod changed_since;
mod compaction;
mod corrections;
mod delete;
mod exemplars;
mod flush;
mod head_deletes;
mod locks;
mod log_scan;
mod log_tail;
mod maintenance;
mod move_cold;
mod newest;
mod no_history;
mod options;
mod record_applier;
mod recorder;
mod replay_overlay;
mod replay_passes;
mod replay_pool;
mod replay_status;
mod retention;
mod scrape_decoder;
mod selection;
mod series;
mod series_changes;
mod series_retention;
mod shards;
mod snapshot;
mod stats;
mod status;
mod subscribers;
#[cfg(test)]
mod tests;
mod wal;
mod zeros;

pub use crate::block::ColdOptions;
pub use crate::error::{ErrorClass, StoreError};
pub use crate::head::Refusal;
pub use crate::model::columns::{ColumnBatch, ColumnLayout, GroupId};
pub use crate::model::runs::{TimedHistograms, TimedStarts};
pub use admin::Admin;
pub use append::is_storable;
pub use batch::{
    AppendObserver, AppendResult, ChangeData, ChangeEvent, ChangeFeed, Duplicate, FeedDelivery, FloatRow,
    HistogramRow, RecordResult, RefusedRow, StartRow, ZeroRow,
};
pub use blocks::damaged_blocks;
pub use builder::StoreBuilder;
pub use changed_since::{ChangedSince, StoreChanges, StoreVersion};
pub use corrections::{CorrectedValue, Correction};
pub use flush::{BlockBackend, LabelledSource, SeriesSamples};
pub use log_tail::{LogPosition, LogTail, LoggedFloat, LoggedHistogram, LoggedSamples};
pub use maintenance::Maintenance;
pub use newest::{NewestSample, NewestSamples, NewestValue, RecentSamples, RecentSeries};
pub use no_history::NoHistory;
pub use options::{HeadStats, ReplayReport, StoreOptions};
pub use recorder::Recorder;
pub use replay_status::{PendingReplay, ReplayProgress, ReplayStatus};
pub use retention::{ExpiredBlocks, HeadAndLog, Retention, RetentionSettings};
pub use selection::{Selection, SeriesSource};
pub use series::StoreSeries;
pub use series_changes::{SeriesChanges, SeriesMark};
pub use series_retention::{RetentionCutoffs, SeriesRetention};
pub use status::StoreStatus;
pub use subscribers::Subscribers;
pub use wal::{LogHold, StoreWal};

use crate::disk::Disk;
use crate::exemplars::Exemplars;
use crate::head::{Head, group_id};
use crate::metrics::Metrics;
use crate::model::{Labels, Matcher, SeriesRef, TimeMs, shard_of};
use locks::MaintenanceLocks;
use selection::{SelectionEntry, SeriesSources};
use shards::Shards;
use stats::StoreMetrics;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// The storage engine: write-ahead log, head and blocks of one data directory.
///
/// The methods here are for writers and readers. Each of the other tasks has a type of its own:
/// [`Store::wal`] (durability), [`Store::replay`] (the start), [`Store::recorder`] (what the server
/// itself writes and reads back), [`Store::maintenance`] (flush, compaction, retention, object
/// store), [`Store::admin`] (deletions, snapshots), [`Store::status`] (statistics),
/// [`Store::series`] (the series by their numbers), [`Store::newest`] (their newest samples),
/// [`Store::changes`] (what changed since), [`Store::subscribers`] (who gets each append).
pub struct Store {
    options: StoreOptions,
    disk: Arc<dyn Disk>,
    shards: Shards,
    wal: StoreWal,
    /// Time of the newest sample that ever was in the head; `TimeMs::MIN` if there was none.
    newest: AtomicI64,
    history: Option<Arc<dyn BlockBackend>>,
    subscribers: Subscribers,
    metrics: StoreMetrics,
    exemplars: Exemplars,
    locks: MaintenanceLocks,
    retention: RetentionSettings,
    replay: ReplayStatus,
}

impl Store {
    /// Opens (or creates) the data directory and replays the log: [`StoreBuilder`] with its
    /// defaults.
    pub fn open(
        options: StoreOptions,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<(Arc<Store>, ReplayReport), StoreError> {
        StoreBuilder::new(options, disk, metrics).open()
    }

    /// The write-ahead log: what is durable.
    pub fn wal(&self) -> &StoreWal {
        &self.wal
    }

    /// The replay of the log at the start.
    pub fn replay(&self) -> &ReplayStatus {
        &self.replay
    }

    /// How long samples are kept.
    pub fn retention(&self) -> &RetentionSettings {
        &self.retention
    }

    /// The exemplars of recent samples.
    pub fn exemplars(&self) -> &Exemplars {
        &self.exemplars
    }

    /// What housekeeping does with head and blocks.
    pub fn maintenance(&self) -> Maintenance<'_> {
        Maintenance { store: self }
    }

    /// What an administrator does: deletions and snapshots.
    pub fn admin(&self) -> Admin<'_> {
        Admin { store: self }
    }

    /// What the server itself writes.
    pub fn recorder(&self) -> Recorder<'_> {
        Recorder { store: self }
    }

    /// The series by their numbers.
    pub fn series(&self) -> StoreSeries<'_> {
        StoreSeries { store: self }
    }

    /// What changed since an earlier moment.
    pub fn changes(&self) -> StoreChanges<'_> {
        StoreChanges { store: self }
    }

    /// The newest samples of some series.
    pub fn newest(&self) -> NewestSamples<'_> {
        NewestSamples { store: self }
    }

    /// Who gets each append.
    pub fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    /// Statistics and health.
    pub fn status(&self) -> StoreStatus<'_> {
        StoreStatus { store: self }
    }

    /// The column group with this key in this shard, created on first use. If the shard has too
    /// many groups for another one, appends to the result are refused
    /// ([`StoreError::LimitReached`]).
    pub fn open_group(&self, key: &str, shard: u16) -> GroupId {
        let group = self.shards.get(shard).write().head.groups.open(key);
        GroupId(group_id(shard, group))
    }

    /// The shard and slot of the series with these labels; created on first use, and logged with
    /// its first sample. If the shard has no slot left, appends to the result are refused
    /// ([`StoreError::LimitReached`]).
    pub fn get_or_create_series(&self, labels: &Labels) -> SeriesRef {
        let shard = shard_of(labels);
        // Nearly always it exists, and a read lock does not stop the readers of the shard.
        let known = self.shards.get(shard).read().head.series.find(labels.encoded());
        let slot = known.unwrap_or_else(|| {
            self.metrics.series.add(1.0);
            self.shards.get(shard).write().head.series.resolve(labels)
        });
        SeriesRef { shard, slot }
    }

    /// The series of `shard` that satisfy all matchers and may have samples in `from..=to`, from
    /// head and blocks.
    ///
    /// # Errors
    /// A block cannot be read, or the replay of the log has failed.
    pub fn select(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Selection, StoreError> {
        self.replay.wait_for(to)?;
        let (seq, mut entries, head, in_order) = {
            let shard = self.shards.get(shard).read();
            let (slots, in_order) = shard.head.series.matching_in_order(matchers);
            let mut entries: Vec<SelectionEntry> = Vec::with_capacity(slots.len());
            let head = shard.head.snapshot(slots, from, to, |slot, labels| {
                let head = Some(entries.len() as u32);
                let sources =
                    SeriesSources { head, parts: Vec::new(), deleted: shard.deleted.intervals(slot) };
                entries.push(SelectionEntry { labels: labels.clone(), slot: Some(slot), sources });
            });
            (shard.seq, entries, head, in_order)
        };
        // Sorted after the lock is released: only slots that have no rank yet come here.
        if !in_order {
            entries.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        }
        // Blocks after the head: samples that are flushed in between are seen twice rather than not
        // at all.
        if let Some(history) = &self.history {
            let parts = history.select(shard, matchers, from, to)?;
            debug_assert!(parts.is_sorted_by(|a, b| a.0 <= b.0), "a clause of BlockBackend");
            self.add_parts(shard, parts, &mut entries);
        }
        Ok(Selection::new(seq, entries, head))
    }

    /// Adds the series of blocks, sorted by labels, to those of the head, which are sorted and stay
    /// so.
    fn add_parts(&self, shard: u16, parts: Vec<LabelledSource>, entries: &mut Vec<SelectionEntry>) {
        let of_head = entries.len();
        let mut at = 0;
        for (labels, part) in parts {
            // `!=` compares faster than `<`, and the head has nearly all series that blocks have.
            while at < of_head && entries[at].labels != labels && entries[at].labels < labels {
                at += 1;
            }
            if at < of_head && entries[at].labels == labels {
                entries[at].sources.parts.push(part);
            } else if let Some(last) = entries[of_head..].last_mut().filter(|last| last.labels == labels) {
                last.sources.parts.push(part);
            } else {
                // A series without samples in the head may still be active, for example because its
                // target is scraped again.
                let slot = self.shards.get(shard).read().head.series.find(labels.encoded());
                let sources = SeriesSources { parts: vec![part], ..SeriesSources::default() };
                entries.push(SelectionEntry { labels, slot, sources });
            }
        }
        if entries.len() > of_head {
            // Two sorted runs: a stable sort only merges them.
            entries.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
    }

    /// The sorted names of the labels of all series with samples in `from..=to` that satisfy any of
    /// the matcher sets (no set: all series).
    pub fn label_names(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        self.replay.wait_for(to)?;
        let mut names = BTreeSet::new();
        let shards = self.shards.iter().map(|shard| shard.read());
        for shard in shards.filter(|shard| shard.head.times.overlaps(from, to)) {
            shard.head.series.label_names(sets, &mut names);
        }
        if let Some(history) = &self.history {
            names.extend(history.label_names(sets, from, to)?);
        }
        Ok(names.into_iter().collect())
    }

    /// The sorted values of label `name`, of the same series as [`Store::label_names`].
    pub fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        self.replay.wait_for(to)?;
        let mut values = BTreeSet::new();
        let shards = self.shards.iter().map(|shard| shard.read());
        for shard in shards.filter(|shard| shard.head.times.overlaps(from, to)) {
            shard.head.series.label_values(name, sets, &mut values);
        }
        if let Some(history) = &self.history {
            values.extend(history.label_values(name, sets, from, to)?);
        }
        Ok(values.into_iter().collect())
    }

    fn count_series(&self) {
        let count =
            |of: fn(&Head) -> u64| self.shards.iter().map(|shard| of(&shard.read().head)).sum::<u64>() as f64;
        self.metrics.series.set(count(|head| head.series.active()));
        self.metrics.chunks.set(count(Head::chunks));
    }

    /// Writes and syncs the queued records and stops the threads of the log. Stops a replay that
    /// runs.
    pub fn close(&self) -> Result<(), StoreError> {
        // A replay that runs would hold the store open for as long as the log is.
        self.replay.stop();
        self.wal.log.close()
    }
}
