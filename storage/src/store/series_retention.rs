//! Retention of some series: longer or shorter than that of all others.
//!
//! The first rule whose matchers hold decides for a series; the others follow [`Retention`]. As there, a block's series
//! go when the newest sample of the *block* is too old. A block of which some series have to go is written anew
//! ([`Store::trim`]), one of which all have to go is removed ([`Store::maintain`]).

use super::Store;
use super::options::StoreError;
use super::retention::{Beside, Retention};
use crate::block::{Block, BlockMeta};
use crate::model::{Labels, Matcher, TimeMs};

/// How long the series that satisfy all matchers stay.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesRetention {
    /// Which series.
    pub matchers: Vec<Matcher>,
    /// A block's series go when its newest sample is older than this, ms; 0 or less: never.
    pub time_ms: i64,
}

/// Which series of a block are too old at one moment.
pub struct Cutoffs<'a> {
    rules: &'a [SeriesRetention],
    retention: Retention,
    now: TimeMs,
}

impl<'a> Cutoffs<'a> {
    /// At `now`, or at the newest sample there is if that is earlier: see [`Retention::due`].
    pub fn new(
        rules: &'a [SeriesRetention],
        retention: Retention,
        blocks: &[BlockMeta],
        head: Beside,
        now: TimeMs,
    ) -> Cutoffs<'a> {
        let newest = blocks.iter().map(|b| b.max_time).max().max(head.newest);
        Cutoffs { rules, retention, now: now.min(newest.unwrap_or(now)) }
    }

    fn is_old(&self, block: &BlockMeta, time_ms: i64) -> bool {
        time_ms > 0 && block.max_time < self.now.saturating_sub(time_ms)
    }

    /// Whether a series of the block stays.
    pub fn stays(&self, block: &BlockMeta, labels: &Labels) -> bool {
        let rule = self.rules.iter().find(|rule| rule.matchers.iter().all(|m| m.matches_labels(labels)));
        !self.is_old(block, rule.map_or(self.retention.time_ms, |rule| rule.time_ms))
    }

    /// Whether series of the block stay, and whether some go.
    pub fn of(&self, block: &Block) -> Result<(bool, bool), StoreError> {
        let meta = block.meta();
        let times = || self.rules.iter().map(|rule| rule.time_ms).chain([self.retention.time_ms]);
        if !times().any(|time| self.is_old(meta, time)) {
            return Ok((true, false));
        }
        let sets: Vec<&[Matcher]> = self.rules.iter().map(|rule| rule.matchers.as_slice()).collect();
        let (mut stay, mut go) = (false, false);
        for (_, time) in block.classes(&sets)?.into_iter().zip(times()).filter(|(any, _)| *any) {
            let old = self.is_old(meta, time);
            (stay, go) = (stay || !old, go || old);
        }
        Ok((stay, go))
    }
}

impl Store {
    /// From now on these decide for the series that they match; at the start there are none.
    pub fn set_series_retention(&self, rules: Vec<SeriesRetention>) {
        *self.series_retention.write() = rules.into();
    }

    /// Writes blocks anew of which some series have to go and others stay; how many. To be called after
    /// [`Store::maintain`], on a thread that may take minutes.
    pub fn trim(&self, now: TimeMs) -> Result<usize, StoreError> {
        let rules = self.series_retention.read().clone();
        let Some(history) = self.history.as_ref().filter(|_| !rules.is_empty()) else { return Ok(0) };
        let mut done = 0;
        loop {
            let _one_at_a_time = self.merge_lock.lock();
            if !history.trim(self.retention(), &rules, self.beside()?, now)? {
                return Ok(done);
            }
            done += 1;
        }
    }
}
