//! Sorted values of long windows ([`crate::functions::sorted_window`]), shared by the leaves of a
//! view's plan that have the same window: `quantile_over_time(0.5, ..)`, `quantile_over_time(0.9,
//! ..)` and `mad_over_time` over one window sort its samples once.
//!
//! A leaf is evaluated block by block ([`super`]), so the sorted values are stored by block, which
//! is the series of a ring that share their times.

use super::LiveLeaf;
use super::blocks::NumberedBlock;
use crate::functions::panes::RowSpan;
use crate::functions::sorted_window::{SortedColumns, SortedWindow};
use crate::functions::{SortedKernel, WindowMethod};
use crate::plan::physical::Leaf;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use storage::model::TimeMs;
use storage::model::value::ABSENT;

/// The bytes of the sorted values, for one of the leaves that have them.
#[derive(Copy, Clone, Debug, Default)]
pub struct SortedBytes {
    /// The leaf's share: leaves that share them have equal shares.
    pub share: usize,
    /// Whether other leaves share them.
    pub is_shared: bool,
}

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

    /// Moves the windows of a block to the rows of `span`, and writes the answers of its columns to
    /// `out`.
    pub(super) fn eval(
        &mut self,
        block: NumberedBlock,
        span: RowSpan,
        kernel: SortedKernel,
        params: &[f64],
        out: &mut Vec<f64>,
    ) {
        let NumberedBlock { number, block } = block;
        let answer = |values: &SortedWindow| if values.is_empty() { ABSENT } else { kernel(values, params) };
        // Whichever leaf is evaluated first moves the window; for the others of the same tick,
        // moving it is a comparison of two numbers.
        let mut blocks = self.0.borrow_mut();
        blocks.entry(number).or_default().eval(block, span, block.columns.len(), answer, out);
    }
}

impl LiveLeaf {
    /// Whether the function of this leaf is computed from sorted values.
    fn uses_sorted(&self) -> bool {
        self.float_kernel().is_some_and(|kernel| matches!(kernel.method, WindowMethod::Sorted(_)))
    }

    /// Shares the sorted values of another leaf over the same ring if both have the same window.
    /// Returns whether they do.
    pub fn share_sorted(&mut self, other: &LiveLeaf) -> bool {
        let Leaf::Window(_, own_range) = &self.config.leaf else { return false };
        let Leaf::Window(_, other_range) = &other.config.leaf else { return false };
        let own = &self.config.source;
        let others = &other.config.source;
        let same = own_range == other_range && own.offset == others.offset && own.at == others.at;
        // The offset must be equal as well: the window is the same only if it has the same ends.
        let shared = same && self.uses_sorted() && other.uses_sorted();
        if shared {
            self.windows.sorted = SharedSorted(other.windows.sorted.0.clone());
        }
        shared
    }

    /// The bytes of the sorted values.
    pub fn sorted_bytes(&self) -> SortedBytes {
        let blocks = self.windows.sorted.0.borrow();
        let leaves = Rc::strong_count(&self.windows.sorted.0);
        let bytes: usize =
            blocks.values().map(|sorted| sorted.bytes() + size_of::<(u32, SortedColumns)>()).sum();
        SortedBytes { share: bytes / leaves, is_shared: leaves > 1 }
    }

    /// The oldest time whose samples are still in the sorted values. They must stay readable until
    /// then, because a sample is removed from the sorted values by its value.
    pub fn sorted_from(&self) -> Option<TimeMs> {
        let evaluated = self.progress.since_fill()?;
        if self.windows.sorted.0.borrow().is_empty() {
            return None;
        }
        let source = &self.config.source;
        let (back, _) = source.reach(&self.config.leaf, self.config.lookback);
        Some(source.time(evaluated, evaluated, evaluated) - back)
    }
}
