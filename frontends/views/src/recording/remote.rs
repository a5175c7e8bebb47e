//! Late samples of the other processes of a cluster, as process 0 sees them: it sends them what to
//! watch, is notified when something has arrived, and polls for it. The crate `cluster` has the
//! transport; the side of the other processes is [`super::late_samples`].

use super::late_queue::{LateSampleQueue, RuleSchedule};
use engine::query::QueryError;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::model::{Matcher, TimeMs};

/// Access to the other processes.
///
/// # Contract
/// 1. A report that `poll` returns is not returned again, and none is lost: the process keeps it
///    until it was received.
/// 2. After a successful poll with `watched`, the process reports what arrives from then on for
///    this list.
/// 3. `poll` ends after a few seconds, also if the process hangs: corrections of this process wait
///    for it.
pub trait LateSampleClient: Send + Sync {
    /// Numbers of the other processes.
    fn processes(&self) -> Vec<usize>;
    /// Gets the late samples of a process that were not reported before. Waits for the answer, with
    /// a short timeout.
    fn poll(&self, process: usize, watched: &WatchList) -> Result<LateSampleReport, QueryError>;
}

/// What another process must watch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WatchList {
    /// The number of the list; every list has another one, and the initial one is empty.
    pub number: u64,
    pub(super) schedules: Vec<RuleSchedule>,
    pub(super) selectors: Vec<Vec<Matcher>>,
}

/// The late samples of a process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LateSampleReport {
    pub(super) items: Vec<LateSampleCount>,
    /// Some were dropped.
    pub(super) overflown: bool,
}

/// Late samples of one time that one selector matches.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub(super) struct LateSampleCount {
    pub selector: u32,
    pub t: TimeMs,
    /// When they arrived, by the clock of their process.
    pub now: TimeMs,
    pub count: u64,
}

/// The processes to poll.
pub(super) struct PeersToAsk {
    pub client: Arc<dyn LateSampleClient>,
    /// Processes with late samples, or without the current watch list.
    due_peers: Mutex<BTreeSet<usize>>,
    /// Wakes the polling thread.
    arrivals: Arc<LateSampleQueue>,
}

impl PeersToAsk {
    pub(super) fn new(client: Arc<dyn LateSampleClient>, arrivals: Arc<LateSampleQueue>) -> PeersToAsk {
        PeersToAsk { client, due_peers: Mutex::default(), arrivals }
    }

    /// A process must be polled.
    pub(super) fn mark_due(&self, process: usize) {
        self.due_peers.lock().insert(process);
        self.arrivals.wake();
    }

    /// Whether any process must be polled.
    pub(super) fn any(&self) -> bool {
        !self.due_peers.lock().is_empty()
    }

    /// Removes and returns these processes. The caller marks those again that it could not poll
    /// ([`PeersToAsk::mark_due`]).
    pub(super) fn take(&self) -> BTreeSet<usize> {
        // Taken before polling, so that a notice that comes during the poll counts for the next
        // one.
        std::mem::take(&mut self.due_peers.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::codec;

    /// Processes send each other these messages.
    #[test]
    fn twice_the_message_costs_at_most_a_little_more_than_twice() {
        let watched = |n: usize| {
            let selector = |i: usize| vec![Matcher::equal("__name__", format!("m{i}"))];
            let selectors = (0..n).map(selector).collect();
            codec::encode(&WatchList { number: 1, schedules: Vec::new(), selectors }).expect("small enough")
        };
        testing::assert_proportional("selectors", 1_000, watched, |bytes| {
            codec::decode::<WatchList>(bytes).expect("a list").selectors.len()
        });
        let report = |n: usize| {
            let item = |i: usize| LateSampleCount { selector: i as u32, t: 1, now: 2, count: 3 };
            let items = (0..n).map(item).collect();
            codec::encode(&LateSampleReport { items, overflown: false }).expect("small enough")
        };
        testing::assert_proportional("a report", 5_000, report, |bytes| {
            codec::decode::<LateSampleReport>(bytes).expect("a report").items.len()
        });
    }
}
