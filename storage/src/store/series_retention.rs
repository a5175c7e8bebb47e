//! Retention of some series: kept longer or shorter than all others.
//!
//! The first rule whose matchers a series satisfies applies to it; [`Retention`] applies to all
//! others. As there, the series of a block expire when the newest sample of the *block* is too old.
//! A block of which some series are expired is rewritten ([`Maintenance::drop_expired_series`]); a
//! block of which all are expired is removed ([`Maintenance::run_housekeeping`]).

use super::blocks::BlockManager;
use super::maintenance::Maintenance;
use super::retention::{HeadAndLog, Retention};
use crate::block::{Block, BlockHandle, BlockMeta};
use crate::error::StoreError;
use crate::model::{Labels, Matcher, TimeMs};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How long the series that satisfy all matchers are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesRetention {
    /// Which series.
    pub matchers: Vec<Matcher>,
    /// The series of a block expire when its newest sample is older than this, ms; 0 or less:
    /// never.
    pub time_ms: i64,
}

/// Which series of a block are expired at one moment.
pub struct RetentionCutoffs<'a> {
    rules: &'a [SeriesRetention],
    retention: Retention,
    now: TimeMs,
}

impl<'a> RetentionCutoffs<'a> {
    /// At `now`, or at the newest sample if that is earlier: see [`Retention::due`].
    pub fn new(
        rules: &'a [SeriesRetention],
        retention: Retention,
        blocks: &[BlockMeta],
        head: HeadAndLog,
        now: TimeMs,
    ) -> RetentionCutoffs<'a> {
        RetentionCutoffs { rules, retention, now: head.newest(blocks, now) }
    }

    fn is_old(&self, block: &BlockMeta, time_ms: i64) -> bool {
        time_ms > 0 && block.max_time < self.now.saturating_sub(time_ms)
    }

    /// Whether a series of the block is kept.
    pub fn stays(&self, block: &BlockMeta, labels: &Labels) -> bool {
        let rule = self.rules.iter().find(|rule| rule.matchers.iter().all(|m| m.matches_labels(labels)));
        !self.is_old(block, rule.map_or(self.retention.time_ms, |rule| rule.time_ms))
    }

    /// For each rule, and last for the general retention: whether the block is older.
    fn ages(&self, block: &BlockMeta) -> Vec<bool> {
        let times = self.rules.iter().map(|rule| rule.time_ms).chain([self.retention.time_ms]);
        times.map(|time| self.is_old(block, time)).collect()
    }

    /// Whether all series of the block are expired. For a cold block this is decided from its
    /// metadata only, without fetching anything: see [`Maintenance::drop_expired_series`].
    pub fn is_due(&self, block: &BlockHandle) -> bool {
        match block {
            BlockHandle::Local(here) => self.expiry_or_none(here) == BlockExpiry::ALL,
            BlockHandle::Cold(cold) => !self.ages(cold.meta()).contains(&false),
        }
    }

    /// Which series of the block are expired.
    fn expiry(&self, block: &Block) -> Result<BlockExpiry, StoreError> {
        let ages = self.ages(block.meta());
        // Younger than all times: nothing to look up.
        if !ages.contains(&true) {
            return Ok(BlockExpiry::NONE);
        }
        // Older than all times: no need to know which series it has.
        if !ages.contains(&false) {
            return Ok(BlockExpiry::ALL);
        }
        let sets: Vec<&[Matcher]> = self.rules.iter().map(|rule| rule.matchers.as_slice()).collect();
        let mut expiry = BlockExpiry { some_kept: false, some_expired: false };
        for (_, old) in block.matcher_classes(&sets)?.into_iter().zip(ages).filter(|(any, _)| *any) {
            expiry.some_kept |= !old;
            expiry.some_expired |= old;
        }
        Ok(expiry)
    }

    /// As [`RetentionCutoffs::expiry`]. If the block cannot be read, all its series are kept, and
    /// other blocks are still processed.
    fn expiry_or_none(&self, block: &Block) -> BlockExpiry {
        self.expiry(block).unwrap_or_else(|error| {
            tracing::error!(%error, "a block is not changed: which of its series are expired cannot be read");
            BlockExpiry::NONE
        })
    }
}

/// Whether a block has series that are kept, and whether it has expired ones.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct BlockExpiry {
    some_kept: bool,
    some_expired: bool,
}

impl BlockExpiry {
    const NONE: BlockExpiry = BlockExpiry { some_kept: true, some_expired: false };
    const SOME: BlockExpiry = BlockExpiry { some_kept: true, some_expired: true };
    const ALL: BlockExpiry = BlockExpiry { some_kept: false, some_expired: true };
}

/// Cold blocks that were checked and had no expired series: for these rules, which retention times
/// the blocks had exceeded. They are not fetched again until that changes.
#[derive(Default)]
pub(super) struct CheckedColdBlocks {
    rules: Vec<SeriesRetention>,
    ages: BTreeMap<PathBuf, Vec<bool>>,
}

impl BlockManager {
    /// Rewrites one block of which some series are expired. Returns whether there was one.
    pub(super) fn trim_one(
        &self,
        retention: Retention,
        rules: &[SeriesRetention],
        head: HeadAndLog,
        now: TimeMs,
    ) -> Result<bool, StoreError> {
        self.tidy()?;
        let cutoffs = RetentionCutoffs::new(rules, retention, &self.blocks.all_metas(), head, now);
        let unmergeable = self.unmergeable.lock().clone();
        for block in self.blocks.all().iter().filter(|block| !unmergeable.contains(&block.meta().dir)) {
            if self.has_to_be_trimmed(&cutoffs, block)? {
                let keep = |labels: &Labels| cutoffs.stays(block.meta(), labels);
                return self.rewrite(block.meta(), &keep).map(|_| true);
            }
        }
        Ok(false)
    }

    fn has_to_be_trimmed(&self, cutoffs: &RetentionCutoffs, block: &BlockHandle) -> Result<bool, StoreError> {
        let BlockHandle::Cold(cold) = block else {
            return block.open().map(|block| cutoffs.expiry_or_none(&block) == BlockExpiry::SOME);
        };
        let dir = &cold.meta().dir;
        let ages = cutoffs.ages(cold.meta());
        let mut trimmed = self.trimmed.lock();
        if trimmed.rules != cutoffs.rules {
            *trimmed = CheckedColdBlocks { rules: cutoffs.rules.to_vec(), ..CheckedColdBlocks::default() };
        }
        if !ages.contains(&true) || trimmed.ages.get(dir) == Some(&ages) {
            return Ok(false);
        }
        if cutoffs.expiry(&cold.open()?)?.some_expired {
            return Ok(true);
        }
        trimmed.ages.insert(dir.clone(), ages);
        Ok(false)
    }
}

impl Maintenance<'_> {
    /// Rewrites blocks of which some series are expired and others are not. Returns how many. To be
    /// called after [`Maintenance::run_housekeeping`], on a thread that may be busy for minutes.
    pub fn drop_expired_series(&self, now: TimeMs) -> Result<usize, StoreError> {
        let store = self.store;
        let rules = store.retention.series();
        let Some(history) = &store.history else { return Ok(0) };
        // Without rules, all series of a block expire together, and the whole block is removed.
        if rules.is_empty() || store.replay.is_running() {
            return Ok(0);
        }
        let mut rewritten = 0;
        loop {
            let _locks = store.locks.for_rewrite();
            if !history.drop_expired_series(store.retention.get(), &rules, store.head_and_log()?, now)? {
                return Ok(rewritten);
            }
            rewritten += 1;
        }
    }
}
