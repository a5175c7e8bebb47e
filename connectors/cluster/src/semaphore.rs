//! A semaphore for threads: it limits the number of concurrent requests, and of answered
//! connections.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// A semaphore for threads.
pub(crate) struct BlockingSemaphore {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A permit, released on drop.
pub(crate) struct BlockingPermit(Arc<BlockingSemaphore>);

impl BlockingSemaphore {
    /// A semaphore with this many free permits.
    pub(crate) fn new(places: usize) -> Arc<BlockingSemaphore> {
        Arc::new(BlockingSemaphore { free: Mutex::new(places), freed: Condvar::new() })
    }

    /// Waits for a permit.
    pub(crate) fn take(self: &Arc<BlockingSemaphore>) -> BlockingPermit {
        let mut free = self.free.lock();
        self.freed.wait_while(&mut free, |free| *free == 0);
        self.claim(&mut free)
    }

    /// Waits for a permit; calls `wanted` every `look`, and returns its error.
    pub(crate) fn take_while<E>(
        self: &Arc<BlockingSemaphore>,
        look: Duration,
        wanted: impl Fn() -> Result<(), E>,
    ) -> Result<BlockingPermit, E> {
        let mut free = self.free.lock();
        while *free == 0 {
            wanted()?;
            // Woken when a permit is free, or in time to see that the query was cancelled.
            self.freed.wait_for(&mut free, look);
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
