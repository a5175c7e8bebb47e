//! The queue between the live runtime's workers, which send the changes of each rule's view, and
//! the rules thread ([`super::manager`]). It is bounded, and reports when it overflows.
//!
//! A worker pushes an event and returns. When the queue is full, the rule is marked as lagging and
//! its sink closes: the manager attaches to the view again, gets a new snapshot, and counts the
//! loss.

use super::limits::RULE_QUEUE_EVENTS;
use super::services::DeliveryOutcome;
use engine::live::{Sink, TapEvent};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use storage::model::{Labels, TimeMs};

/// Id of a running rule; never reused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u64);

#[derive(Default)]
struct QueuedRuleEvents {
    /// Events, in order.
    events: VecDeque<(RuleId, TapEvent)>,
    /// Rules whose events did not fit.
    lagging: HashSet<RuleId>,
    /// Alerts that an Alertmanager has accepted.
    delivered: Vec<DeliveredAlert>,
    /// The manager has ended.
    closed: bool,
    /// The thread must look, although there is no event: a call waits for it.
    is_woken: bool,
}

/// Events of the taps of all rules, until the rule manager takes them; bounded.
#[derive(Default)]
pub struct RuleEventQueue {
    waiting: Mutex<QueuedRuleEvents>,
    arrived: Condvar,
}

/// What has arrived.
#[derive(Default)]
pub struct DrainedRuleEvents {
    /// Events, in order.
    pub events: VecDeque<(RuleId, TapEvent)>,
    /// Rules that lost events and must be tapped again.
    pub lagging: HashSet<RuleId>,
    /// Alerts that an Alertmanager has accepted, or did not.
    pub delivered: Vec<DeliveredAlert>,
}

/// An alert of a rule was accepted by an Alertmanager, or could not be delivered.
#[derive(Clone)]
pub struct DeliveredAlert {
    /// The alerting rule it belongs to.
    pub rule: RuleId,
    /// The labels of the alert.
    pub labels: Labels,
    /// When it was handed out for sending.
    pub sent: TimeMs,
    /// When it began to fire, according to the notification.
    pub fired_at: Option<TimeMs>,
    /// When it ended, according to the notification.
    pub resolved_at: Option<TimeMs>,
    /// What became of it.
    pub outcome: DeliveryOutcome,
}

impl RuleEventQueue {
    /// Removes and returns everything.
    pub fn drain(&self) -> DrainedRuleEvents {
        let mut waiting = self.waiting.lock();
        let events = std::mem::take(&mut waiting.events);
        let lagging = std::mem::take(&mut waiting.lagging);
        let delivered = std::mem::take(&mut waiting.delivered);
        DrainedRuleEvents { events, lagging, delivered }
    }

    /// Sleeps until something arrives, at most `limit`.
    pub fn wait(&self, limit: Duration) {
        let mut waiting = self.waiting.lock();
        let empty = waiting.events.is_empty() && waiting.lagging.is_empty() && waiting.delivered.is_empty();
        let idle = empty && !waiting.closed;
        if idle && !waiting.is_woken {
            self.arrived.wait_for(&mut waiting, limit);
        }
        // In any case: whoever was woken for another reason looks at everything anyway.
        waiting.is_woken = false;
    }

    /// Ends the waiting thread.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Whether [`RuleEventQueue::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Wakes the waiting thread.
    pub fn wake(&self) {
        self.waiting.lock().is_woken = true;
        self.arrived.notify_all();
    }

    /// An alert has arrived at an Alertmanager. If the queue is full, this is dropped; if the
    /// process dies then, the alert is sent once more.
    pub fn mark_delivered(&self, delivered: DeliveredAlert) {
        let mut waiting = self.waiting.lock();
        if waiting.delivered.len() < RULE_QUEUE_EVENTS {
            waiting.delivered.push(delivered);
        }
        drop(waiting);
        self.arrived.notify_all();
    }

    fn push(&self, rule: RuleId, event: TapEvent) -> bool {
        let mut waiting = self.waiting.lock();
        // After one lost event the next ones are worth nothing: rows are changes of the rows
        // before.
        if waiting.closed || waiting.lagging.contains(&rule) {
            return false;
        }
        // Never waits: the caller is a worker of the live runtime, and every view would wait with
        // it.
        if waiting.events.len() >= RULE_QUEUE_EVENTS {
            waiting.lagging.insert(rule);
            return false;
        }
        waiting.events.push_back((rule, event));
        drop(waiting);
        self.arrived.notify_all();
        true
    }
}

/// The consumer of one rule's view.
pub struct RuleSink {
    /// Where the events go.
    pub events: Arc<RuleEventQueue>,
    /// The rule that the events are for.
    pub rule: RuleId,
    /// Rows are not needed (recording rules), only the result of each evaluation.
    pub outcome_only: bool,
}

impl Sink for RuleSink {
    fn push(&mut self, event: TapEvent) -> bool {
        let event = match event {
            // A recording rule may have many thousands of rows, which the recorder writes without
            // this queue.
            TapEvent::Snapshot { t, .. } | TapEvent::Delta { t, .. } if self.outcome_only => {
                TapEvent::Progress { t }
            }
            // Computed for another consumer of the view.
            TapEvent::Annotations { .. } => return true,
            other => other,
        };
        self.events.push(self.rule, event)
    }

    /// As in Prometheus, rules do not use annotations.
    fn wants_annotations(&self) -> bool {
        false
    }
}
