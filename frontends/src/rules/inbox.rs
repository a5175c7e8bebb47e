//! The queue between the live runtime's workers and the rules thread: bounded, and honest when it overflows.
//!
//! A worker pushes an event and returns. When the queue is full, the rule is marked as lagging and its sink
//! closes: the manager taps the view again and gets a fresh snapshot, and the miss is counted.

use super::limits::INBOX_EVENTS;
use engine::live::{Sink, TapEvent};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Identity of a running rule; never used again after a reload.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u64);

#[derive(Default)]
struct Waiting {
    events: VecDeque<(RuleId, TapEvent)>,
    lagging: HashSet<RuleId>,
    closed: bool,
    /// Something besides events waits for the thread.
    nudged: bool,
}

/// The queue.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

/// What has arrived.
#[derive(Default)]
pub struct Arrived {
    /// Events, in order.
    pub events: VecDeque<(RuleId, TapEvent)>,
    /// Rules that lost events and must be tapped anew.
    pub lagging: HashSet<RuleId>,
}

impl Inbox {
    /// Everything that waits.
    pub fn take(&self) -> Arrived {
        let mut waiting = self.waiting.lock();
        let events = std::mem::take(&mut waiting.events);
        let lagging = std::mem::take(&mut waiting.lagging);
        Arrived { events, lagging }
    }

    /// Sleeps until something arrives, at most `limit`.
    pub fn wait(&self, limit: Duration) {
        let mut waiting = self.waiting.lock();
        let idle = waiting.events.is_empty() && waiting.lagging.is_empty() && !waiting.closed;
        if idle && !waiting.nudged {
            self.arrived.wait_for(&mut waiting, limit);
        }
        waiting.nudged = false;
    }

    /// Ends the thread that waits.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Whether [`Inbox::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Wakes the thread that waits.
    pub fn wake(&self) {
        self.waiting.lock().nudged = true;
        self.arrived.notify_all();
    }

    fn push(&self, rule: RuleId, event: TapEvent) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.closed || waiting.lagging.contains(&rule) {
            return false;
        }
        if waiting.events.len() >= INBOX_EVENTS {
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
    pub inbox: Arc<Inbox>,
    /// Whose they are.
    pub rule: RuleId,
    /// Rows are not needed (recording rules): only that and how the evaluation went.
    pub outcome_only: bool,
}

impl Sink for RuleSink {
    fn push(&mut self, event: TapEvent) -> bool {
        let event = match event {
            TapEvent::Snapshot { t, .. } | TapEvent::Delta { t, .. } if self.outcome_only => {
                TapEvent::Progress { t }
            }
            other => other,
        };
        self.inbox.push(self.rule, event)
    }
}
