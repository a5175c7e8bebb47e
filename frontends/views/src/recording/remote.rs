//! What comes late to the other processes of a cluster, as process 0 sees it: it says what is to be
//! watched, is rung when something has come, and asks for it. How they are reached is not known
//! here; their side is [`super::late_samples`].

use super::late_queue::{LateSampleQueue, RuleSchedule};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::model::{Matcher, TimeMs};

/// The way to the other processes.
pub trait LateSampleClient: Send + Sync {
    /// Their numbers.
    fn processes(&self) -> Vec<usize>;
    /// What came late to one of them and was not told before. Waits for the answer, but not for long.
    fn poll(&self, process: usize, watched: &WatchList) -> Result<LateSampleReport, String>;
}

/// What is to be looked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WatchList {
    /// Another one for each list; the one with which all begin is empty.
    pub number: u64,
    pub(super) schedules: Vec<RuleSchedule>,
    pub(super) selectors: Vec<Vec<Matcher>>,
}

/// What came late.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LateSampleReport {
    pub(super) items: Vec<LateSampleCount>,
    /// There was more.
    pub(super) overflown: bool,
}

/// Late samples of one time in the sight of one selector.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub(super) struct LateSampleCount {
    pub selector: u32,
    pub t: TimeMs,
    /// When they came, by the clock of their process.
    pub now: TimeMs,
    pub count: u64,
}

/// Whom to ask.
pub(super) struct PeersToAsk {
    pub client: Arc<dyn LateSampleClient>,
    /// Those who have something to say, or must hear something.
    due_peers: Mutex<BTreeSet<usize>>,
    /// Who asks is woken here.
    arrivals: Arc<LateSampleQueue>,
}

impl PeersToAsk {
    pub fn new(way: Arc<dyn LateSampleClient>, arrivals: Arc<LateSampleQueue>) -> PeersToAsk {
        PeersToAsk { client: way, due_peers: Mutex::default(), arrivals }
    }

    /// A process is to be asked.
    pub fn mark_due(&self, process: usize) {
        self.due_peers.lock().insert(process);
        self.arrivals.wake();
    }

    /// Whether somebody is.
    pub fn any(&self) -> bool {
        !self.due_peers.lock().is_empty()
    }

    /// Who is; the caller says so again ([`PeersToAsk::mark_due`]) of those whom it could not ask.
    pub fn take(&self) -> BTreeSet<usize> {
        std::mem::take(&mut self.due_peers.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::codec;

    /// Processes tell each other of this.
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
