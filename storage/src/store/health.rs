//! The state of the store for health checks: whether it can write, and the time of its newest
//! sample.

use super::Store;
use crate::error::StoreError;
use crate::model::TimeMs;
use std::sync::atomic::Ordering::Relaxed;

impl Store {
    /// Checks whether appends reach the log: it accepts records, and its current segment file
    /// exists.
    pub fn check_log(&self) -> Result<(), StoreError> {
        if let Some(reason) = self.log.failure() {
            return Err(StoreError::log_unwritable(&reason));
        }
        let dir = self.options.dir.join("wal");
        match self.log.segments().last() {
            Some(segment) => {
                let path = segment.path.clone();
                self.disk.size(&path).map(drop).map_err(|source| StoreError::Io { path, source })
            }
            None => self.disk.list(&dir).map(drop).map_err(|source| StoreError::Io { path: dir, source }),
        }
    }

    /// Time of the newest sample that ever was in the head, as far as it is known.
    pub fn newest_time(&self) -> Option<TimeMs> {
        Some(self.newest.load(Relaxed)).filter(|newest| *newest > TimeMs::MIN)
    }

    /// Number of samples refused so far because of their time.
    pub fn refused_as_too_old(&self) -> u64 {
        self.metrics.refused_as_too_old()
    }
}
