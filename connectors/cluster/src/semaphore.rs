//! Places of which there are so many: for questions that are asked, and for connections that are answered.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// See the module.
pub struct BlockingSemaphore {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A place that is taken, until it is dropped.
pub struct BlockingPermit(Arc<BlockingSemaphore>);

impl BlockingSemaphore {
    /// So many, all free.
    pub fn new(places: usize) -> Arc<BlockingSemaphore> {
        Arc::new(BlockingSemaphore { free: Mutex::new(places), freed: Condvar::new() })
    }

    /// Waits for one.
    pub fn take(self: &Arc<BlockingSemaphore>) -> BlockingPermit {
        let mut free = self.free.lock();
        self.freed.wait_while(&mut free, |free| *free == 0);
        self.claim(&mut free)
    }

    /// Waits for one; `wanted` says, every `look`, whether it is still worth it.
    pub fn take_while<E>(
        self: &Arc<BlockingSemaphore>,
        look: Duration,
        wanted: impl Fn() -> Result<(), E>,
    ) -> Result<BlockingPermit, E> {
        let mut free = self.free.lock();
        while *free == 0 {
            wanted()?;
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
