//! Sorted values of long windows ([`crate::functions::sorted_window`]), by block. They do not hang
//! on what is asked of them, so leaves over the same windows of a ring share them: the median and
//! two quantiles of latencies keep one.

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

/// See the module.
#[derive(Default)]
pub struct SharedSorted(Rc<RefCell<BTreeMap<u32, SortedColumns>>>);

impl SharedSorted {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.borrow_mut().clear();
    }

    /// Forgets a block.
    pub(super) fn forget(&mut self, block: u32) {
        self.0.borrow_mut().remove(&block);
    }

    /// The answers for the columns of a block at times `span.0..span.1`, into `out`.
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
    fn keeps_order(&self) -> bool {
        self.plain_kernel().is_some_and(|kernel| matches!(kernel.method, WindowMethod::Order(_)))
    }

    /// Shares the sorted values of another leaf over the same ring, if its windows are the same.
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

    /// Its part of the bytes of sorted values, and whether others share them.
    pub fn order_bytes(&self) -> (usize, bool) {
        let blocks = self.orders.0.borrow();
        let leaves = Rc::strong_count(&self.orders.0);
        let bytes: usize =
            blocks.values().map(|sorted| sorted.bytes() + size_of::<(u32, SortedColumns)>()).sum();
        (bytes / leaves, leaves > 1)
    }

    /// The time from which on samples are kept in order that it has yet to see leave its windows.
    pub fn holds_from(&self) -> Option<TimeMs> {
        let keeps = self.has_seen_all() && !self.orders.0.borrow().is_empty();
        let back = || self.source.reach(&self.leaf, self.lookback).0;
        keeps.then(|| self.source.time(self.reached, self.reached, self.reached) - back())
    }
}
