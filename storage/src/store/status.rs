//! [`StoreStatus`]: the state of the store as a whole, which is the statistics for
//! `/api/v1/status/tsdb`, its blocks, and its health.

use super::Store;
use super::options::HeadStats;
use super::stats::HeadStatsCollector;
use crate::block::BlockMeta;
use crate::model::TimeMs;
use std::sync::atomic::Ordering::Relaxed;

/// What can be asked about a store as a whole.
#[derive(Copy, Clone)]
pub struct StoreStatus<'a> {
    pub(super) store: &'a Store,
}

impl StoreStatus<'_> {
    /// Counts of the head; its lists have at most `limit` entries.
    pub fn head_stats(&self, limit: usize) -> HeadStats {
        let mut collector = HeadStatsCollector::default();
        for shard in self.store.shards.iter() {
            collector.add(&shard.read().head);
        }
        collector.finish(limit)
    }

    /// The blocks that answers are read from, in the order of their time.
    pub fn blocks(&self) -> Vec<BlockMeta> {
        let Some(history) = &self.store.history else { return Vec::new() };
        let mut metas = history.metas();
        metas.sort_by_key(|meta| (meta.from, meta.to));
        metas
    }

    /// Why answers may be incomplete; `None` if they are complete, or errors.
    pub fn incomplete_reason(&self) -> Option<String> {
        self.store.history.as_ref().and_then(|history| history.incomplete_reason())
    }

    /// Whether all samples at `from` and later are in memory, so that reading them waits for
    /// nothing.
    pub fn has_in_memory(&self, from: TimeMs) -> bool {
        let history = self.store.history.as_ref();
        !self.store.replay.is_running() && history.is_none_or(|history| !history.has_after(from))
    }

    /// Time of the newest sample that ever was in the head, as far as it is known.
    pub fn newest_time(&self) -> Option<TimeMs> {
        Some(self.store.newest.load(Relaxed)).filter(|newest| *newest > TimeMs::MIN)
    }

    /// The oldest and the newest time in the head; `None`: it is empty.
    pub fn head_span(&self) -> Option<(TimeMs, TimeMs)> {
        let spans = self.store.shards.spans();
        spans.reduce(|(oldest, newest), (from, to)| (oldest.min(from), newest.max(to)))
    }

    /// Bytes of the log on disk; `None` if the directory cannot be read.
    pub fn log_bytes(&self) -> Option<u64> {
        self.store.wal.bytes().ok()
    }

    /// How many series have ended, and left the head.
    pub fn ended_series(&self) -> u64 {
        self.store.shards.iter().map(|shard| shard.read().head.series.ended()).sum()
    }

    /// Number of samples refused so far because of their time.
    pub fn refused_as_too_old(&self) -> u64 {
        self.store.metrics.refused_as_too_old()
    }
}
