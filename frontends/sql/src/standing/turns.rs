//! Limits how many standing statements run at the same time: each run may use memory for its joins
//! and sorts. A run waits for a [`Turn`].

use crate::error::{SqlError, SqlErrorKind};
use parking_lot::{Condvar, Mutex};
use std::time::Duration;

/// Gives turns.
#[derive(Debug)]
pub(super) struct Turns {
    free: Mutex<usize>,
    /// A statement has ended.
    freed: Condvar,
}

/// The turn of a statement.
pub(super) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.freed.notify_one();
    }
}

impl Turns {
    /// So many at once.
    pub(super) fn new(count: usize) -> Turns {
        Turns { free: Mutex::new(count), freed: Condvar::new() }
    }

    /// Waits until a statement may run.
    pub(super) fn turn(&self, patience: Duration) -> Result<Turn<'_>, SqlError> {
        let mut free = self.free.lock();
        while *free == 0 {
            if self.freed.wait_for(&mut free, patience).timed_out() && *free == 0 {
                let error = "other statements that run again took the time of this one";
                return Err(SqlError::new(SqlErrorKind::Timeout, error));
            }
        }
        *free -= 1;
        Ok(Turn(self))
    }
}
