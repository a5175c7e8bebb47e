//! Sorted values of long windows ([`crate::functions::sorted_window`]), by block. Sorted values
//! depend only on the window, not on the function: `quantile_over_time(0.5, ..)`,
//! `quantile_over_time(0.9, ..)` and `mad_over_time` over the same window share one copy.

use super::LiveLeaf;
use crate::functions::sorted_window::{SortedColumns, SortedWindow};
use crate::functions::{SortedKernel, WindowMethod};
use crate::live::ring::RingBlock;
use crate::plan::physical::Leaf;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use storage::model::TimeMs;
use storage::model::value::ABSENT;

/// The sorted values by block. All leaves that share them run in one thread, hence `Rc`.
#[derive(Default)]
pub struct SharedSorted(Rc<RefCell<BTreeMap<u32, SortedColumns>>>);

impl SharedSorted {
    /// Forgets all blocks.
    pub(super) fn clear(&mut self) {
        self.0.borrow_mut().clear();
    }

    /// Forgets one block.
    pub(super) fn forget(&mut self, block: u32) {
        self.0.borrow_mut().remove(&block);
    }

    /// Moves the windows of a block to the rows `span.0..span.1`, and writes the answers of its
    /// columns to `out`.
    pub(super) fn eval(
        &mut self,
        (number, block): (u32, &RingBlock),
        span: (u32, u32),
        width: usize,
        (of_sorted, params): (SortedKernel, &[f64]),
        out: &mut Vec<f64>,
    ) {
        let answer =
            |values: &SortedWindow| if values.is_empty() { ABSENT } else { of_sorted(values, params) };
        let mut blocks = self.0.borrow_mut();
        blocks.entry(number).or_default().eval(block, span, width, answer, out);
    }
}

impl LiveLeaf {
    /// Whether the function of this leaf is computed from sorted values.
    fn keeps_order(&self) -> bool {
        self.plain_kernel().is_some_and(|kernel| matches!(kernel.method, WindowMethod::Order(_)))
    }

    /// Shares the sorted values of another leaf over the same ring if both have the same window.
    /// Returns whether they do.
    pub fn share_order(&mut self, other: &LiveLeaf) -> bool {
        let (Leaf::Window(_, own), Leaf::Window(_, others)) = (&self.leaf, &other.leaf) else { return false };
        let same =
            own == others && (self.source.offset, self.source.at) == (other.source.offset, other.source.at);
        let shared = same && self.keeps_order() && other.keeps_order();
        if shared {
            self.orders = SharedSorted(other.orders.0.clone());
        }
        shared
    }

    /// The leaf's share of the bytes of the sorted values, and whether other leaves share them.
    pub fn order_bytes(&self) -> (usize, bool) {
        let blocks = self.orders.0.borrow();
        let leaves = Rc::strong_count(&self.orders.0);
        let bytes: usize =
            blocks.values().map(|sorted| sorted.bytes() + size_of::<(u32, SortedColumns)>()).sum();
        (bytes / leaves, leaves > 1)
    }

    /// The oldest time whose samples are still in the sorted values. They must stay readable until
    /// then, because a sample is removed from the sorted values by its value.
    pub fn holds_from(&self) -> Option<TimeMs> {
        let keeps = self.has_seen_all() && !self.orders.0.borrow().is_empty();
        let back = || self.source.reach(&self.leaf, self.lookback).0;
        keeps.then(|| self.source.time(self.reached, self.reached, self.reached) - back())
    }
}
