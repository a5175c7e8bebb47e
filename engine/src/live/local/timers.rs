//! Timers: which blocks leaves must look at again although no sample comes, in the order in which they fall due. A tick
//! takes those that are due and asks nobody else.
//!
//! A leaf has at most one timer that counts per block: its alarm. When an answer comes to hold for longer, the alarm stays
//! and is set anew when it rings; when it comes to hold for less, a second one is set and the first is void. So an answer
//! that each sample prolongs, as the lookback of a selector, costs no timer per sample.

use crate::plan::physical::StepId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use storage::model::TimeMs;

/// A block of a leaf is to be looked at after that time.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    /// The answer holds until then.
    pub until: TimeMs,
    leaf: u32,
    /// The number of the block in the leaf's ring.
    pub block: u32,
}

impl Timer {
    /// The leaf.
    pub fn leaf(&self) -> StepId {
        self.leaf as StepId
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
    /// Leaves have gone since timers without a leaf were last thrown away.
    orphans: bool,
}

impl Timers {
    /// Sets the alarms that an evaluation of `leaf` asks for: until when, block.
    pub fn set(&mut self, leaf: StepId, alarms: impl Iterator<Item = (TimeMs, u32)>) {
        self.heap.extend(alarms.map(|(until, block)| Reverse(Timer { until, leaf: leaf as u32, block })));
    }

    /// The next timer that has rung at `t`.
    pub fn next(&mut self, t: TimeMs) -> Option<Timer> {
        let due = self.heap.peek().is_some_and(|Reverse(timer)| timer.until < t);
        if due { self.heap.pop().map(|Reverse(timer)| timer) } else { None }
    }

    /// A leaf is gone.
    pub fn leaf_gone(&mut self) {
        self.orphans = true;
    }

    /// Throws away the timers of leaves that are gone.
    pub fn sweep(&mut self, stands: impl Fn(StepId) -> bool) {
        if std::mem::take(&mut self.orphans) {
            self.heap.retain(|Reverse(timer)| stands(timer.leaf()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_ring_in_order_and_go_with_their_leaf() {
        let mut timers = Timers::default();
        timers.set(7, [(30, 0), (10, 1)].into_iter());
        timers.set(8, [(20, 4)].into_iter());
        let rung = |timers: &mut Timers, t| timers.next(t).map(|timer| (timer.leaf(), timer.block));
        assert_eq!(rung(&mut timers, 10), None, "the answer still holds at 10");
        assert_eq!(rung(&mut timers, 21), Some((7, 1)));
        assert_eq!(rung(&mut timers, 21), Some((8, 4)));
        assert_eq!(rung(&mut timers, 21), None);
        timers.leaf_gone();
        timers.sweep(|leaf| leaf == 8);
        assert_eq!(rung(&mut timers, 100), None);
    }
}
