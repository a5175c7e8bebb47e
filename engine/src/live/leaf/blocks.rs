//! Evaluates the blocks of a leaf at one time: all columns of a block, only those whose answer has
//! expired early, or only those whose value changes linearly with time. [`BlockMethod`] says how
//! the columns of floats are computed.

use super::super::ring::{RingBlock, SampleRing};
use super::{BlockWindow, EarlyColumn, LinearColumns, LiveLeaf};
use crate::functions::findings::Findings;
use crate::functions::line_fit::LineFit;
use crate::functions::panes::{MIN_PANE_WINDOW, WindowRows};
use crate::functions::{Kernel, Window, WindowKernel, WindowMethod};
use crate::operators::StepOutput;
use crate::plan::physical::Leaf;
use storage::model::TimeMs;
use storage::model::value::ABSENT;

/// How the columns of a block that have only floats are evaluated at one time.
pub(super) enum BlockMethod<'a> {
    /// Each column from all samples of its window.
    Each,
    /// Columns without gaps from three rows of the window: the first, the last but one and the
    /// last. The functions of this method (`rate`, `delta`, ...) need no other samples.
    Ends {
        /// Number of the block.
        number: u32,
        /// Times of the three rows.
        ts: [TimeMs; 3],
        /// Values of the three rows, by column.
        rows: [&'a [f64]; 3],
        /// Row number of the first time: a column is evaluated this way only if it has no gap from
        /// there on.
        from: u32,
        /// The function also looks at neighbouring samples (counter resets): the column must not
        /// fall either.
        pairs: bool,
    },
    /// All columns at once from partial results: the values are in [`LiveLeaf::swept`].
    Swept,
    /// All columns at once: their sums for the fit of a line are in [`LiveLeaf::fits`].
    Fitted(fn(&LineFit, &Window) -> Option<(f64, f64)>),
}

impl LiveLeaf {
    /// The kernel, if the function's value depends on nothing but the floats in the window.
    pub(super) fn plain_kernel(&self) -> Option<WindowKernel> {
        if self.source.extension.is_some() || self.refused.is_some() {
            return None;
        }
        match &self.leaf {
            Leaf::Window(function, _) => match function.0.kernel {
                Kernel::Window(kernel) => Some(kernel),
                _ => None,
            },
            _ => None,
        }
    }

    /// Chooses the method for a block, and brings the partial results of long windows to this
    /// window.
    fn way<'a>(&mut self, number: u32, block: &'a RingBlock, view: BlockWindow) -> BlockMethod<'a> {
        let Some(kernel) = self.plain_kernel() else { return BlockMethod::Each };
        let BlockWindow { lo, hi, .. } = view;
        let from = block.base() + lo as u32;
        let to = block.base() + hi as u32;
        match kernel.method {
            // With three rows or less there is nothing to skip.
            WindowMethod::Ends { pairs } if hi - lo > 3 => {
                let at = [from, to - 2, to - 1];
                let clock = block.clock();
                BlockMethod::Ends {
                    number,
                    ts: [clock[lo], clock[hi - 2], clock[hi - 1]],
                    rows: at.map(|at| block.values(at)),
                    from,
                    pairs,
                }
            }
            WindowMethod::Panes { make, .. } if hi - lo >= MIN_PANE_WINDOW => {
                let panes = self.panes.entry(number).or_insert_with(make);
                panes.eval(block, (from, to), block.columns.len(), &mut self.swept);
                BlockMethod::Swept
            }
            WindowMethod::Trend(of_line) if hi - lo >= MIN_PANE_WINDOW => {
                let trends = self.trends.entry(number).or_insert_with(LineFit::panes);
                trends.eval(block, (from, to), block.columns.len(), &mut self.fits);
                BlockMethod::Fitted(of_line)
            }
            WindowMethod::Order(of_sorted) if hi - lo >= MIN_PANE_WINDOW => {
                let width = block.columns.len();
                let params = &self.params;
                self.orders.eval((number, block), (from, to), width, (of_sorted, params), &mut self.swept);
                BlockMethod::Swept
            }
            _ => {
                // The window has become short, or the function has no incremental method: free the
                // state.
                self.panes.remove(&number);
                self.trends.remove(&number);
                self.orders.forget(number);
                BlockMethod::Each
            }
        }
    }

    /// Evaluates all columns of a block. Returns how many.
    pub(super) fn block(
        &mut self,
        number: u32,
        block: &RingBlock,
        t: TimeMs,
        ring: &SampleRing,
        out: &mut StepOutput,
        touched: &mut Vec<u32>,
    ) -> usize {
        let view = self.view(block, t);
        let mut until = self.block_holds(block, view);
        let mut early = self.early.remove(&number).unwrap_or_default();
        early.clear();
        self.standing = None;
        self.rising.clear();
        let way = self.way(number, block, view);
        for at in 0..block.columns.len() {
            let holds = self.row(block, at, view, &way, ring, out, touched);
            if holds < until {
                early.push(EarlyColumn { column: at as u32, holds });
            }
        }
        // A list of most columns costs more than evaluating the block a little too early.
        if early.len() * 2 > block.columns.len() {
            until = early.iter().fold(until, |until, early| until.min(early.holds));
        } else if !early.is_empty() {
            self.early.insert(number, early);
        }
        self.lines.remove(&number);
        if !self.rising.is_empty() {
            let of = std::mem::take(&mut self.rising);
            self.lines.insert(number, LinearColumns { from: t, shown: t, of });
        }
        self.blocks[number as usize].holds = until;
        block.columns.len()
    }

    /// Evaluates the early columns of a block whose answers have expired. Returns how many.
    pub(super) fn early(
        &mut self,
        number: u32,
        block: &RingBlock,
        t: TimeMs,
        ring: &SampleRing,
        out: &mut StepOutput,
        touched: &mut Vec<u32>,
    ) -> usize {
        let Some(mut early) = self.early.remove(&number) else { return 0 };
        let view = self.view(block, t);
        let until = self.blocks[number as usize].holds;
        let mut rows = 0;
        self.standing = None;
        self.rising.clear();
        let way = self.way(number, block, view);
        for early in early.iter_mut().filter(|early| early.holds < t) {
            early.holds = self.row(block, early.column as usize, view, &way, ring, out, touched);
            rows += 1;
        }
        // A column that now holds as long as its block needs no entry of its own.
        early.retain(|early| early.holds < until);
        if !early.is_empty() {
            self.early.insert(number, early);
        }
        rows
    }

    /// Moves the linear columns of a block to time `t`. Returns how many rows changed.
    pub(super) fn glide(
        &mut self,
        number: u32,
        block: &RingBlock,
        t: TimeMs,
        out: &mut StepOutput,
        touched: &mut Vec<u32>,
    ) -> usize {
        let Some(lines) = self.lines.get_mut(&number).filter(|lines| lines.shown < t) else { return 0 };
        lines.shown = t;
        // From the beginning of the line, not from the value shown last: rounding errors do not add
        // up.
        let seconds = (t - lines.from) as f64 / 1000.0;
        for line in &lines.of {
            let row = block.columns[line.column as usize].row as usize;
            out.set(row, line.value + line.slope * seconds, touched);
        }
        lines.of.len()
    }

    /// Evaluates one column. Returns until when the value holds as far as the column itself decides
    /// it.
    #[allow(clippy::too_many_arguments, reason = "where a row comes from, and where it goes to")]
    #[inline]
    fn row(
        &mut self,
        block: &RingBlock,
        at: usize,
        view: BlockWindow,
        way: &BlockMethod,
        ring: &SampleRing,
        out: &mut StepOutput,
        touched: &mut Vec<u32>,
    ) -> TimeMs {
        let row = block.columns[at].row;
        let before = out.values[row as usize];
        let (noticed, holds);
        if self.is_mixed(block, at) {
            let mut seen = Findings::default();
            let (sample, until) = self.mixed(block, at, view, &mut seen);
            out.put(row as usize, sample, touched);
            noticed = seen;
            holds = until;
        } else {
            let (value, until) =
                if view.lo < view.hi { self.column(block, at, view, way) } else { (ABSENT, TimeMs::MAX) };
            out.set(row as usize, value, touched);
            noticed = Findings::default();
            holds = until;
        }
        if !self.said.is_silent() || !noticed.is_empty() {
            let about = (ring.labels[row as usize].name(), self.leaf.annotation_target());
            self.said.noticed(row, noticed, about, out);
            self.said.moved(row, before, out.values[row as usize]);
        }
        holds
    }
}
