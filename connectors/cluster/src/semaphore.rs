//! A semaphore for threads: a count of permits, for each of which one thread works while the others
//! wait. It limits the concurrent requests of [`super::peer_client`], and the connections that
//! [`super::peer_server`] answers.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// A semaphore for threads.
pub(crate) struct BlockingSemaphore {
    /// The number of free permits.
    free: Mutex<usize>,
    /// Notified when a permit is released.
    freed: Condvar,
}

/// A permit, released on drop.
pub(crate) struct BlockingPermit(Arc<BlockingSemaphore>);

impl BlockingSemaphore {
    /// A semaphore with this many free permits.
    pub(crate) fn new(permits: usize) -> Arc<BlockingSemaphore> {
        Arc::new(BlockingSemaphore { free: Mutex::new(permits), freed: Condvar::new() })
    }

    /// Waits for a permit.
    pub(crate) fn take(self: &Arc<BlockingSemaphore>) -> BlockingPermit {
        let mut free = self.free.lock();
        self.freed.wait_while(&mut free, |free| *free == 0);
        self.claim(&mut free)
    }

    /// Waits for a permit; calls `check_cancelled` every `poll_interval`, and returns its error.
    pub(crate) fn take_or_cancelled<E>(
        self: &Arc<BlockingSemaphore>,
        poll_interval: Duration,
        check_cancelled: impl Fn() -> Result<(), E>,
    ) -> Result<BlockingPermit, E> {
        let mut free = self.free.lock();
        while *free == 0 {
            check_cancelled()?;
            // Woken when a permit is free, or in time to see that the query was cancelled.
            self.freed.wait_for(&mut free, poll_interval);
        }
        Ok(self.claim(&mut free))
    }

    fn claim(self: &Arc<BlockingSemaphore>, free: &mut usize) -> BlockingPermit {
        *free -= 1;
        BlockingPermit(self.clone())
    }
}

impl Drop for BlockingPermit {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.freed.notify_one();
    }
}
