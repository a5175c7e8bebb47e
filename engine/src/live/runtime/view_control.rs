//! The views and taps (consumers) that callers have asked for, and the control messages that bring
//! them to the workers. It is ahead of the workers: these learn of a view in the next preparation.

use super::super::control_queue::ControlQueue;
use super::super::message::Control;
use super::super::taps::PendingSinks;
use super::super::views::ViewRequest;
use super::super::{Sink, TapId, ViewError, ViewId};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use storage::metrics::Gauge;

/// The views, ahead of the workers.
pub(super) struct ViewControl {
    queue: Mutex<ControlQueue>,
    next_id: AtomicU64,
    /// Number of views: raised before a view is installed, lowered after it is removed.
    installed: AtomicUsize,
    gauge: Arc<Gauge>,
    /// Sinks that wait for the worker that owns their view.
    pending_sinks: PendingSinks,
}

impl ViewControl {
    /// Without views; `gauge` shows their number.
    pub(super) fn new(gauge: Arc<Gauge>) -> ViewControl {
        ViewControl {
            queue: Mutex::default(),
            next_id: AtomicU64::new(1),
            installed: AtomicUsize::new(0),
            gauge,
            pending_sinks: PendingSinks::default(),
        }
    }

    /// The control messages that wait.
    pub(super) fn queue(&self) -> MutexGuard<'_, ControlQueue> {
        self.queue.lock()
    }

    /// Sinks that wait for the worker that owns their view.
    pub(super) fn pending_sinks(&self) -> PendingSinks {
        self.pending_sinks.clone()
    }

    /// An id that was not used before, of a view, a tap or a request.
    pub(super) fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    /// Whether there is no view.
    pub(super) fn is_empty(&self) -> bool {
        self.installed.load(SeqCst) == 0
    }

    /// Whether there is no view and no control message.
    pub(super) fn is_idle(&self) -> bool {
        self.is_empty() && self.queue.lock().is_empty()
    }

    /// Adds a view.
    pub(super) fn install(&self, request: ViewRequest) -> ViewId {
        let id = ViewId(self.new_id());
        // Before the message is queued: the driver must not find a queued view and no view at the
        // same time, or it would count itself as idle.
        self.installed.fetch_add(1, SeqCst);
        self.gauge.add(1.0);
        self.queue.lock().install(id, request);
        id
    }

    /// Replaces the plan of a view.
    pub(super) fn replace(&self, id: ViewId, request: ViewRequest) -> Result<(), ViewError> {
        let mut queue = self.queue.lock();
        if !queue.contains(id) {
            return Err(ViewError::NotFound);
        }
        queue.install(id, request);
        Ok(())
    }

    /// Removes a view. Returns whether it existed.
    pub(super) fn remove(&self, id: ViewId) -> bool {
        let existed = self.queue.lock().remove(id);
        if existed {
            self.installed.fetch_sub(1, SeqCst);
            self.gauge.add(-1.0);
        }
        existed
    }

    /// Attaches a consumer.
    pub(super) fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        let id = TapId(self.new_id());
        // Sinks do not travel through the control stream, because they cannot be sent to another
        // process. Views of a cluster are owned by workers of process 0, so the table is where the
        // owner is.
        self.pending_sinks.lock().insert(id, sink);
        self.queue.lock().push(Control::Tap(view, id));
        id
    }
}
