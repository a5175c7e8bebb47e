//! Where the events of one subscription come from: its view, its tap (the attachment to that view)
//! and the queue between the tap and the client. When the client has fallen behind, tap and queue
//! are replaced together.

use super::super::AppState;
use super::super::low_priority::blocking;
use super::budget::Account;
use super::client_message::Backpressure;
use super::shared_views::ViewLease;
use super::subscriber_queue::{SubscriberEvent, SubscriberQueue};
use ::views::ViewRegistry;
use engine::live::TapId;
use std::sync::Arc;
use storage::execution::Execution;
use storage::model::Matcher;
use tokio::sync::Notify;
use tokio::task::JoinError;

/// What makes the queues of a subscription, the first and those after the client fell behind.
pub(super) struct QueueSettings {
    /// What happens when the client reads too slowly.
    pub policy: Backpressure,
    /// Most events that may wait; `None`: the default.
    pub buffer: Option<usize>,
    /// Wakes the task that sends.
    pub wakeup: Arc<Notify>,
    /// Counts the memory of what waits.
    pub account: Arc<Account>,
}

impl QueueSettings {
    fn queue(&self) -> Arc<SubscriberQueue> {
        SubscriberQueue::new(self.policy, self.buffer, self.wakeup.clone(), &self.account)
    }
}

/// A view, the tap at it, and the queue of its events.
pub(super) struct ViewAttachment {
    /// What the queue is made of.
    pub settings: QueueSettings,
    /// Where the view is.
    views: Arc<dyn ViewRegistry>,
    execution: Execution,
    /// The matchers, if the query is only a selector: such a subscription receives corrections.
    series: Option<Vec<Matcher>>,
    /// Keeps the view installed.
    lease: Arc<ViewLease>,
    /// The attachment to the view.
    tap: TapId,
    /// Events that wait.
    queue: Arc<SubscriberQueue>,
}

impl ViewAttachment {
    /// Attaches a new queue to a view.
    ///
    /// # Errors
    /// The task that attaches it has failed.
    pub(super) async fn open(
        state: &AppState,
        settings: QueueSettings,
        lease: Arc<ViewLease>,
        series: Option<Vec<Matcher>>,
    ) -> Result<ViewAttachment, JoinError> {
        let queue = settings.queue();
        let views = state.sources.views.clone();
        if let Some(matchers) = &series {
            // Corrections change recorded series, which only a plain selector shows as they are; an
            // expression over them would have to be evaluated for past times.
            views.on_correction(matchers.clone(), queue.listener());
        }
        let sink = queue.sink();
        let tapped = lease.clone();
        // Waits for the live runtime, which may be in a tick.
        let tap = state.blocking(move || tapped.tap(sink)).await?;
        Ok(ViewAttachment { settings, views, execution: state.settings.execution, series, lease, tap, queue })
    }

    /// The next event.
    pub(super) fn take(&self) -> Option<SubscriberEvent> {
        self.queue.take()
    }

    /// Replaces tap and queue: a snapshot comes first.
    ///
    /// # Errors
    /// The task that attaches it has failed.
    pub(super) async fn attach_again(&mut self) -> Result<(), JoinError> {
        // A new queue, because the old tap may still push into the old one.
        self.queue = self.settings.queue();
        if let Some(matchers) = &self.series {
            self.views.on_correction(matchers.clone(), self.queue.listener());
        }
        let lease = self.lease.clone();
        let old = self.tap;
        let sink = self.queue.sink();
        let again = blocking(self.execution, move || {
            // In this order, so that a view whose last tap goes keeps its lease and is not removed
            // in between.
            lease.untap(old);
            lease.tap(sink)
        });
        self.tap = again.await?;
        Ok(())
    }
}

impl Drop for ViewAttachment {
    fn drop(&mut self) {
        let lease = self.lease.clone();
        let tap = self.tap;
        // Detaching may wait for the live runtime. Without an async runtime the queue is dropped,
        // which ends the tap too.
        if tokio::runtime::Handle::try_current().is_ok() {
            drop(blocking(self.execution, move || lease.untap(tap)));
        }
    }
}
