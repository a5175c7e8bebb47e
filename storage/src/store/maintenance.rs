//! Housekeeping: what moves samples from the head into blocks, and blocks further on. The steps are
//! in [`super::flush`], [`super::compaction`], [`super::retention`], [`super::series_retention`]
//! and [`super::move_cold`].

use super::Store;
use crate::error::StoreError;
use crate::model::TimeMs;

/// Housekeeping of one store. Nothing of it happens by itself: the server calls it from time to
/// time, so that tests decide when.
#[derive(Copy, Clone)]
pub struct Maintenance<'a> {
    pub(super) store: &'a Store,
}

impl Maintenance<'_> {
    /// Housekeeping, to be called about once a minute. Flushes the ranges that are complete at
    /// `now` into blocks, removes the log segments of these, and removes expired blocks, even if
    /// the flush fails: it may have failed because the disk is full. Returns the number of blocks
    /// written.
    pub fn run_housekeeping(&self, now: TimeMs) -> Result<usize, StoreError> {
        if self.store.replay.is_running() {
            return Ok(0);
        }
        let written = self.write_blocks(now);
        let removed = self.remove_blocks(now);
        written.and_then(|blocks| removed.map(|()| blocks))
    }

    /// The flush of [`Maintenance::run_housekeeping`]. Returns the number of blocks written.
    pub fn write_blocks(&self, now: TimeMs) -> Result<usize, StoreError> {
        if self.store.replay.is_running() {
            return Ok(0);
        }
        let written = self.store.flush(now);
        self.store.count_series();
        written
    }

    /// The retention of [`Maintenance::run_housekeeping`].
    pub fn remove_blocks(&self, now: TimeMs) -> Result<(), StoreError> {
        if self.store.replay.is_running() { Ok(()) } else { self.store.remove_old_blocks(now) }
    }
}
