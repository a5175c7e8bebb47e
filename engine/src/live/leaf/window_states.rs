//! The incremental state of long windows, by block (the series that share their times): what is
//! kept so that a sliding window need not be computed from all of its samples again. The window
//! functions say which of these states they use ([`WindowMethod`](crate::functions::WindowMethod)).

use super::gaps_and_resets::GapsAndResets;
use super::shared_sorted::SharedSorted;
use crate::functions::line_fit::LineFit;
use crate::functions::panes::PaneState;
use std::collections::BTreeMap;

/// The states of all blocks of a leaf. A leaf has one function, so it uses one of these maps.
#[derive(Default)]
pub(super) struct WindowStates {
    /// By block: the summaries of panes.
    pub panes: BTreeMap<u32, Box<dyn PaneState>>,
    /// By block: the sums of panes for the fit of a line.
    pub line_fits: BTreeMap<u32, Box<dyn PaneState<LineFit>>>,
    /// The sorted values, for quantiles.
    pub sorted: SharedSorted,
    /// By block and column: gaps and counter resets.
    pub gaps: BTreeMap<(u32, u32), GapsAndResets>,
}

impl WindowStates {
    /// Forgets the states of all blocks: their rows have got other numbers.
    pub(super) fn clear(&mut self) {
        self.gaps.clear();
        self.panes.clear();
        self.line_fits.clear();
        self.sorted.clear();
    }

    /// Frees the pane states and sorted values of one block.
    pub(super) fn forget_block(&mut self, block: u32) {
        self.panes.remove(&block);
        self.line_fits.remove(&block);
        self.sorted.forget(block);
    }

    /// Bytes allocated, without the sorted values, which leaves share
    /// ([`super::LiveLeaf::sorted_bytes`]).
    pub(super) fn bytes(&self) -> usize {
        let panes: usize = self.panes.values().map(|panes| panes.bytes()).sum();
        let line_fits: usize = self.line_fits.values().map(|fits| fits.bytes()).sum();
        let resets: usize = self.gaps.values().map(GapsAndResets::bytes).sum();
        self.gaps.len() * size_of::<((u32, u32), GapsAndResets)>() + resets + panes + line_fits
    }
}
