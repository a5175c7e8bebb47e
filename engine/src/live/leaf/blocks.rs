//! Evaluates the blocks of a leaf at one time. A leaf is a selector or a window function over one;
//! a block is the series of its ring that share their times, mostly one scrape target. Evaluated
//! are all columns (series) of a block, only those whose answer has expired early, or only those
//! whose value changes linearly with time. [`BlockMethod`] says how the columns of floats are
//! computed; [`super::columns`] evaluates a single column.

use super::deadlines::{EarlyColumn, LinearColumns};
use super::{BlockWindow, LiveLeaf};
use crate::functions::findings::Findings;
use crate::functions::line_fit::LineFit;
use crate::functions::panes::{MIN_PANE_WINDOW, RowSpan, WindowRows};
use crate::functions::{Window, WindowMethod};
use crate::live::ring::{RingBlock, SampleRing};
use crate::operators::StepOutput;
use storage::model::TimeMs;
use storage::model::value::ABSENT;

/// A block of the leaf's ring.
#[derive(Copy, Clone)]
pub(super) struct NumberedBlock<'a> {
    pub number: u32,
    pub block: &'a RingBlock,
}

/// Where an evaluation writes the rows of the leaf.
pub(super) struct BlockTarget<'a> {
    pub ring: &'a SampleRing,
    pub out: &'a mut StepOutput,
    /// The rows whose value changed.
    pub changed: &'a mut Vec<u32>,
}

/// How the columns of a block that have only floats are evaluated at one time.
pub(super) enum BlockMethod<'a> {
    /// Each column from all samples of its window.
    Rescan,
    /// Columns without gaps from three rows of the window: the first, the last but one and the
    /// last. The functions of this method (`rate`, `delta`, ...) need no other samples.
    Endpoints {
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
    /// All columns at once from partial results: the values are in [`super::BlockScratch::values`].
    AllColumns,
    /// All columns at once: their sums for the fit of a line are in
    /// [`super::BlockScratch::line_fits`].
    LineFits(fn(&LineFit, &Window) -> Option<(f64, f64)>),
}

impl LiveLeaf {
    /// Chooses the method for a block, and brings the partial results of long windows to this
    /// window.
    fn choose_method<'a>(&mut self, block: NumberedBlock<'a>, window: BlockWindow) -> BlockMethod<'a> {
        let Some(kernel) = self.float_kernel() else { return BlockMethod::Rescan };
        let NumberedBlock { number, block } = block;
        let BlockWindow { lo, hi, .. } = window;
        let span = RowSpan { from: block.base() + lo as u32, to: block.base() + hi as u32 };
        let width = block.columns.len();
        match kernel.method {
            // With three rows or less there is nothing to skip.
            // The last but one is needed, too: `irate` and `idelta` compare the last two, and
            // `rate` takes the average interval from the number of samples.
            WindowMethod::Endpoints { pairs } if hi - lo > 3 => {
                let at = [span.from, span.to - 2, span.to - 1];
                let clock = block.clock();
                BlockMethod::Endpoints {
                    number,
                    ts: [clock[lo], clock[hi - 2], clock[hi - 1]],
                    // Borrowed once per block: each column then reads three adjacent cells instead
                    // of searching for its samples.
                    rows: at.map(|at| block.values(at)),
                    from: span.from,
                    pairs,
                }
            }
            // Shorter windows are scanned: the result then has exactly the bits of the kernel, and
            // a scan of 64 values costs no more than merging panes.
            WindowMethod::Panes { make, .. } if hi - lo >= MIN_PANE_WINDOW => {
                let panes = self.windows.panes.entry(number).or_insert_with(make);
                panes.eval(block, span, width, &mut self.scratch.values);
                BlockMethod::AllColumns
            }
            WindowMethod::LeastSquares(of_line) if hi - lo >= MIN_PANE_WINDOW => {
                let fits = self.windows.line_fits.entry(number).or_insert_with(LineFit::panes);
                fits.eval(block, span, width, &mut self.scratch.line_fits);
                BlockMethod::LineFits(of_line)
            }
            WindowMethod::Sorted(kernel) if hi - lo >= MIN_PANE_WINDOW => {
                let block = NumberedBlock { number, block };
                self.windows.sorted.eval(block, span, kernel, &self.params.values, &mut self.scratch.values);
                BlockMethod::AllColumns
            }
            _ => {
                // The window has become short, or the function has no incremental method: free the
                // state.
                self.windows.forget_block(number);
                BlockMethod::Rescan
            }
        }
    }

    /// Evaluates all columns of a block. Returns how many.
    pub(super) fn eval_block(
        &mut self,
        numbered: NumberedBlock,
        t: TimeMs,
        target: &mut BlockTarget,
    ) -> usize {
        let NumberedBlock { number, block } = numbered;
        let window = self.config.block_window(block, t);
        let mut valid_until = self.window_valid_until(block, window);
        // Reused for its allocation: a block is evaluated after every scrape.
        let mut early = self.deadlines.early.remove(&number).unwrap_or_default();
        early.clear();
        // The shared validity of `rate` is that of one block, whose columns have the same times.
        self.trends.clear();
        let method = self.choose_method(numbered, window);
        for column in 0..block.columns.len() {
            // A column may expire before its block: a gap, a histogram or the zero of a counter
            // concerns it alone.
            let of_column = self.eval_column(block, column, window, &method, target);
            if of_column < valid_until {
                early.push(EarlyColumn { column: column as u32, valid_until: of_column });
            }
        }
        // A list of most columns costs more than evaluating the block a little too early.
        if early.len() * 2 > block.columns.len() {
            valid_until = early.iter().fold(valid_until, |until, early| until.min(early.valid_until));
        } else if !early.is_empty() {
            self.deadlines.early.insert(number, early);
        }
        // The lines of the previous evaluation end here, also if no column is linear now.
        self.deadlines.linear.remove(&number);
        if !self.trends.linear.is_empty() {
            let columns = std::mem::take(&mut self.trends.linear);
            self.deadlines.linear.insert(number, LinearColumns { from: t, shown: t, columns });
        }
        self.deadlines.set_valid_until(number, valid_until);
        block.columns.len()
    }

    /// Evaluates the early columns of a block whose answers have expired. Returns how many.
    pub(super) fn eval_early_columns(
        &mut self,
        numbered: NumberedBlock,
        t: TimeMs,
        target: &mut BlockTarget,
    ) -> usize {
        let NumberedBlock { number, block } = numbered;
        let Some(mut early) = self.deadlines.early.remove(&number) else { return 0 };
        let window = self.config.block_window(block, t);
        // The block itself is still valid, so what is evaluated here must not prolong it.
        let of_block = self.deadlines.rest_valid_until(number);
        let mut rows = 0;
        self.trends.clear();
        let method = self.choose_method(numbered, window);
        for early in early.iter_mut().filter(|early| early.valid_until < t) {
            early.valid_until = self.eval_column(block, early.column as usize, window, &method, target);
            rows += 1;
        }
        // A column that is now valid as long as its block needs no entry of its own.
        early.retain(|early| early.valid_until < of_block);
        if !early.is_empty() {
            self.deadlines.early.insert(number, early);
        }
        rows
    }

    /// Moves the linear columns of a block to time `t`. Returns how many rows changed.
    pub(super) fn advance_linear_columns(
        &mut self,
        numbered: NumberedBlock,
        t: TimeMs,
        target: &mut BlockTarget,
    ) -> usize {
        let NumberedBlock { number, block } = numbered;
        // Already at `t`: the block was evaluated in this round for another reason.
        let lines = self.deadlines.linear.get_mut(&number).filter(|lines| lines.shown < t);
        let Some(lines) = lines else { return 0 };
        lines.shown = t;
        // From the beginning of the line, not from the value shown last: rounding errors do not add
        // up.
        let seconds = (t - lines.from) as f64 / 1000.0;
        for line in &lines.columns {
            let row = block.columns[line.column as usize].row as usize;
            target.out.set(row, line.value + line.slope * seconds, target.changed);
        }
        lines.columns.len()
    }

    /// Evaluates one column. Returns until when the value is valid as far as the column itself
    /// decides it.
    #[inline]
    fn eval_column(
        &mut self,
        block: &RingBlock,
        column: usize,
        window: BlockWindow,
        method: &BlockMethod,
        target: &mut BlockTarget,
    ) -> TimeMs {
        let row = block.columns[column].row;
        // Annotations that count rows need to know whether the row had a value.
        let before = target.out.values[row as usize];
        let mut findings = Findings::default();
        // The choice is made per column, not per block: one native histogram must not push the
        // floats of its target to the slow path.
        let valid_until = if self.is_mixed(block, column) {
            let (sample, until) = self.mixed_column(block, column, window, &mut findings);
            target.out.put(row as usize, sample, target.changed);
            until
        } else if window.lo < window.hi {
            // Kernels never get an empty window, so the empty case is decided here for all
            // functions.
            let (value, until) = self.float_column(block, column, window, method);
            target.out.set(row as usize, value, target.changed);
            until
        } else {
            target.out.set(row as usize, ABSENT, target.changed);
            TimeMs::MAX
        };
        // Nearly all leaves are silent. The check keeps annotations out of the inner loop.
        if !self.annotations.is_silent() || !findings.is_empty() {
            let metric = target.ring.labels[row as usize].name();
            let operand = self.config.leaf.annotation_target();
            self.annotations.set_findings(row, findings, metric, operand, target.out);
            self.annotations.value_changed(row, before, target.out.values[row as usize]);
        }
        valid_until
    }
}
