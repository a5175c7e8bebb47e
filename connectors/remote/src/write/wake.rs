//! [`WakeFlag`]: wakes the thread that reads the log ([`super::queue`]), when there is something to
//! send or to stop.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// A flag that one thread waits for. Clones are the same flag.
#[derive(Clone, Default)]
pub(super) struct WakeFlag(Arc<Flag>);

#[derive(Default)]
struct Flag {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl WakeFlag {
    /// Sets the flag.
    pub(super) fn notify(&self) {
        *self.0.is_set.lock() = true;
        self.0.changed.notify_one();
    }

    /// Waits until the flag is set, at most `most`, and clears it.
    pub(super) fn wait(&self, most: Duration) {
        let mut is_set = self.0.is_set.lock();
        if !*is_set {
            // What it waits for is asked again anyway.
            let _ = self.0.changed.wait_for(&mut is_set, most);
        }
        *is_set = false;
    }
}
