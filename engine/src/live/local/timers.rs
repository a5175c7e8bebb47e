//! Timers of a shard: the blocks that leaves must evaluate again although no sample arrives, in the
//! order of the times at which their answers expire. A tick handles those that are due and looks at
//! no others.
//!
//! A leaf has at most one valid timer per block. When an answer comes to hold longer, the timer
//! stays and is set again when it expires; when it comes to hold for a shorter time, a second timer
//! is set and the first becomes void. So an answer that every sample prolongs (the lookback of a
//! selector) does not cost a timer per sample.

use crate::live::leaf::BlockTimer;
use crate::plan::physical::StepId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use storage::model::TimeMs;

/// A block of a leaf must be evaluated after this time.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    /// The answer is valid until this time.
    pub deadline: TimeMs,
    leaf: u32,
    /// Number of the block in the leaf's ring.
    pub block: u32,
}

impl Timer {
    /// The leaf that is evaluated when the timer is due.
    pub(super) fn leaf(&self) -> StepId {
        self.leaf as StepId
    }
}

/// All timers of a shard.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
    /// Leaves were removed since the timers of removed leaves were last dropped.
    has_orphans: bool,
}

impl Timers {
    /// Sets the timers that an evaluation of `leaf` requests.
    pub(super) fn set(&mut self, leaf: StepId, requests: impl Iterator<Item = BlockTimer>) {
        let timer = |request: BlockTimer| Timer {
            deadline: request.deadline,
            leaf: leaf as u32,
            block: request.block,
        };
        self.heap.extend(requests.map(|request| Reverse(timer(request))));
    }

    /// Removes and returns the next timer that has expired at `t`.
    pub(super) fn next(&mut self, t: TimeMs) -> Option<Timer> {
        let due = self.heap.peek().is_some_and(|Reverse(timer)| timer.deadline < t);
        if due { self.heap.pop().map(|Reverse(timer)| timer) } else { None }
    }

    /// A leaf was removed.
    pub(super) fn leaf_removed(&mut self) {
        self.has_orphans = true;
    }

    /// Drops the timers of removed leaves.
    pub(super) fn sweep(&mut self, exists: impl Fn(StepId) -> bool) {
        if std::mem::take(&mut self.has_orphans) {
            self.heap.retain(|Reverse(timer)| exists(timer.leaf()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_expire_in_order_and_are_removed_with_their_leaf() {
        let mut timers = Timers::default();
        let request = |deadline, block| BlockTimer { deadline, block };
        timers.set(7, [request(30, 0), request(10, 1)].into_iter());
        timers.set(8, [request(20, 4)].into_iter());
        let expired = |timers: &mut Timers, t| timers.next(t).map(|timer| (timer.leaf(), timer.block));
        assert_eq!(expired(&mut timers, 10), None, "the answer still holds at 10");
        assert_eq!(expired(&mut timers, 21), Some((7, 1)));
        assert_eq!(expired(&mut timers, 21), Some((8, 4)));
        assert_eq!(expired(&mut timers, 21), None);
        timers.leaf_removed();
        timers.sweep(|leaf| leaf == 8);
        assert_eq!(expired(&mut timers, 100), None);
    }
}
