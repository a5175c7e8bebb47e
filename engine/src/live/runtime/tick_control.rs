//! The thread that decides when a tick is due ([`tick_driver`]), and what wakes it. (A tick is one
//! evaluation of all views that are due.) The processes of a cluster other than the first have no
//! such thread; their wake-ups go to process 0.

use super::super::StartError;
use super::super::sample_queue::TickSignal;
use super::super::tick_driver::{self, TickDriver, TickWaker};
use parking_lot::Mutex;
use std::sync::Arc;

/// The tick driver of this process, and what wakes it.
pub(super) struct TickControl {
    waker: Arc<TickWaker>,
    /// Receives requests for a tick: the waker of this process, or process 0.
    signal: Arc<dyn TickSignal>,
    driver: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl TickControl {
    /// Without a driver. Requests of this process go to `remote`, if there is one.
    pub(super) fn new(remote: Option<Arc<dyn TickSignal>>) -> TickControl {
        let waker = Arc::new(TickWaker::default());
        let signal = remote.unwrap_or_else(|| waker.clone());
        TickControl { waker, signal, driver: Mutex::new(None) }
    }

    /// The waker of the driver.
    pub(super) fn waker(&self) -> &Arc<TickWaker> {
        &self.waker
    }

    /// Receives requests for a tick.
    pub(super) fn signal(&self) -> Arc<dyn TickSignal> {
        self.signal.clone()
    }

    /// Starts the driver's thread.
    pub(super) fn start(&self, driver: TickDriver) -> Result<(), StartError> {
        *self.driver.lock() = Some(tick_driver::spawn(driver)?);
        Ok(())
    }

    /// Ends the driver after the running tick.
    pub(super) fn stop(&self) {
        self.waker.stop();
        if let Some(driver) = self.driver.lock().take() {
            // An error means that the driver has panicked, which its hook has reported.
            let _ = driver.join();
        }
    }
}
