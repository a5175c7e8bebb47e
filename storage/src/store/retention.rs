//! Retention: which blocks are removed because they are too old, or because all together are too
//! large.
//!
//! The decision depends only on the metadata of the blocks, the size of the log and the clock
//! ([`Retention::due`]). Blocks are removed in `../block/block_set.rs`;
//! [`Maintenance::run_housekeeping`](super::Maintenance::run_housekeeping) starts it.

use super::Store;
use super::series_retention::SeriesRetention;
use crate::block::BlockMeta;
use crate::error::StoreError;
use crate::limits::HEAD_AHEAD_MS;
use crate::metrics::{Counter, Gauge, Metrics};
use crate::model::TimeMs;
use parking_lot::RwLock;
use std::sync::Arc;

/// How long blocks are kept, and how large they may be together.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// A block is removed when its newest sample is older than this, ms; 0 or less: never. See
    /// [`Retention::due`].
    pub time_ms: i64,
    /// The oldest blocks are removed while all blocks and the log are larger than this, bytes; 0:
    /// never.
    pub size_bytes: u64,
}

/// What retention must know besides the blocks.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadAndLog {
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Time of the newest sample in the head.
    pub newest: Option<TimeMs>,
}

impl HeadAndLog {
    /// The time from which age is counted: `now`, or the time of the newest sample if that is
    /// earlier. Samples scraped while the clock is wrong have wrong times, too, so the head may be
    /// ahead of the blocks only by a limited time ([`HEAD_AHEAD_MS`]).
    pub fn newest(self, blocks: &[BlockMeta], now: TimeMs) -> TimeMs {
        let in_blocks = blocks.iter().map(|block| block.max_time).max();
        let ahead = in_blocks.map_or(TimeMs::MAX, |newest| newest.saturating_add(HEAD_AHEAD_MS));
        let in_head = self.newest.map(|newest| newest.min(ahead));
        now.min(in_blocks.max(in_head).unwrap_or(now))
    }
}

/// The blocks to remove.
#[derive(Clone, Debug, Default)]
pub struct ExpiredBlocks {
    /// Too old, oldest first.
    pub by_time: Vec<BlockMeta>,
    /// Beyond the size limit, oldest first. Does not contain blocks of `by_time`.
    pub by_size: Vec<BlockMeta>,
    /// Whether all blocks and the log, including those that are too old, exceed the size limit.
    pub too_large: bool,
}

impl Retention {
    /// Which of `blocks` are expired at `now`; `head` describes the head and the log.
    ///
    /// Age counts from the newest sample if that is before `now`. So old data of a server that is
    /// not running is kept, and a clock that is wrong for a while removes at most a day too much
    /// ([`HeadAndLog::newest`]). Prometheus counts from the newest block.
    pub fn due(&self, mut blocks: Vec<BlockMeta>, head: HeadAndLog, now: TimeMs) -> ExpiredBlocks {
        // By the newest sample, not by the range: a backfilled block of old times goes first.
        let order = |b: &BlockMeta| (b.max_time, b.min_time);
        blocks.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.dir.cmp(&b.dir)));
        let oldest = head.newest(&blocks, now).saturating_sub(self.time_ms);
        let old = match self.time_ms {
            // No limit: no block is too old.
            ..=0 => 0,
            _ => blocks.partition_point(|b| b.max_time < oldest),
        };
        let mut total = blocks.iter().fold(head.log_bytes, |sum, b| sum.saturating_add(b.bytes_on_disk()));
        let too_large = |total: u64| self.size_bytes > 0 && total > self.size_bytes;
        let mut due =
            ExpiredBlocks { too_large: too_large(total) && !blocks.is_empty(), ..ExpiredBlocks::default() };
        for (at, block) in blocks.into_iter().enumerate() {
            let bytes = block.bytes_on_disk();
            if at < old {
                // Those too old first: what they free may be enough for the size.
                due.by_time.push(block);
            } else if too_large(total) {
                due.by_size.push(block);
            } else {
                break;
            }
            total = total.saturating_sub(bytes);
        }
        due
    }
}

/// The metrics of blocks and of retention; the names are those of Prometheus.
pub(super) struct BlockMetrics {
    bytes: Arc<Gauge>,
    loaded: Arc<Gauge>,
    by_time: Arc<Counter>,
    by_size: Arc<Counter>,
    changes: Arc<Counter>,
}

impl BlockMetrics {
    /// Registers the metrics.
    pub(super) fn new(metrics: &Metrics) -> BlockMetrics {
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        let counter = |name, help| metrics.counter(name, help, &[]);
        BlockMetrics {
            bytes: gauge("prometheus_tsdb_storage_blocks_bytes", "Bytes of all blocks on disk."),
            loaded: gauge("prometheus_tsdb_blocks_loaded", "Blocks that queries read, local and cold."),
            by_time: counter(
                "prometheus_tsdb_time_retentions_total",
                "How often blocks were removed because of the retention time.",
            ),
            by_size: counter(
                "prometheus_tsdb_size_retentions_total",
                "How often blocks were removed because of the retention size.",
            ),
            changes: counter(
                "prometheus_tsdb_reloads_total",
                "How often other blocks became those that queries read.",
            ),
        }
    }

    /// Updates the gauges: `here` are the local blocks, `all` is the number of all blocks.
    pub(super) fn show(&self, here: &[BlockMeta], all: usize) {
        self.bytes.set(here.iter().map(BlockMeta::bytes_on_disk).sum::<u64>() as f64);
        self.loaded.set(all as f64);
        self.changes.inc();
    }

    /// Counts a removal, as Prometheus does: once for all blocks that are removed together.
    pub(super) fn count(&self, due: &ExpiredBlocks) {
        self.by_time.add(u64::from(!due.by_time.is_empty()));
        self.by_size.add(u64::from(due.too_large));
    }
}

/// How long a store keeps samples. At the start there are no limits and no rules.
pub struct RetentionSettings {
    retention: RwLock<Retention>,
    series: RwLock<Arc<[SeriesRetention]>>,
    limit_seconds: Arc<Gauge>,
    limit_bytes: Arc<Gauge>,
}

impl RetentionSettings {
    /// No limits; registers the metrics.
    pub(super) fn new(metrics: &Metrics) -> RetentionSettings {
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        RetentionSettings {
            retention: RwLock::default(),
            series: RwLock::new(Arc::default()),
            limit_seconds: gauge(
                "prometheus_tsdb_retention_limit_seconds",
                "Retention time of blocks, in seconds; 0: no limit.",
            ),
            limit_bytes: gauge(
                "prometheus_tsdb_retention_limit_bytes",
                "Maximum bytes of blocks and log; 0: no limit.",
            ),
        }
    }

    /// Sets the limits; the next housekeeping applies them.
    pub fn set(&self, retention: Retention) {
        self.limit_seconds.set(retention.time_ms.max(0) as f64 / 1000.0);
        self.limit_bytes.set(retention.size_bytes as f64);
        *self.retention.write() = retention;
    }

    /// The current limits.
    pub fn get(&self) -> Retention {
        *self.retention.read()
    }

    /// Sets the rules for some series; the next housekeeping applies them.
    pub fn set_series(&self, rules: Vec<SeriesRetention>) {
        *self.series.write() = rules.into();
    }

    /// The current rules for some series.
    pub(super) fn series(&self) -> Arc<[SeriesRetention]> {
        self.series.read().clone()
    }
}

impl Store {
    /// Removes the expired blocks.
    pub(super) fn remove_old_blocks(&self, now: TimeMs) -> Result<(), StoreError> {
        let _no_flush = self.locks.for_flush();
        let Some(history) = &self.history else { return Ok(()) };
        let rules = self.retention.series();
        history.apply_retention(self.retention.get(), &rules, self.head_and_log()?, now)
    }

    /// The size of the log and the newest time of the head.
    pub(super) fn head_and_log(&self) -> Result<HeadAndLog, StoreError> {
        let newest = self.shards.spans().map(|(_, newest)| newest).max();
        Ok(HeadAndLog { log_bytes: self.wal.bytes()?, newest })
    }
}
