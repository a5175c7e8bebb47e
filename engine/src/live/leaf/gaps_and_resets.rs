//! Gaps and counter resets in long windows, for functions such as `rate`: they need only the ends
//! of their window, the number of its samples, and the pairs of samples between which the counter
//! was reset.
//!
//! [`GapsAndResets`] keeps the number of samples and the positions of these pairs while the window
//! slides. Without it, one failed scrape (a gap) or one restart in a window of a day would make
//! every evaluation read the whole day.

use super::blocks::NumberedBlock;
use super::window_states::WindowStates;
use crate::functions::panes::{MIN_PANE_WINDOW, RowSpan, WindowRows};
use crate::live::ring::RingBlock;
use std::collections::VecDeque;
use storage::model::TimeMs;
use storage::model::value::{is_histogram, is_sample};

/// The samples of one column in the rows `from..to` (row numbers of its block). The newest row of
/// the block is never included: its sample may still arrive.
#[derive(Default)]
pub(super) struct GapsAndResets {
    epoch: u32,
    from: u32,
    to: u32,
    /// Number of floats in the rows, and how many of them are NaN (counted only if pairs matter).
    count: usize,
    nans: usize,
    /// The rows of the last float and of the one before it.
    last: Option<u32>,
    before: Option<u32>,
    /// The counter resets in the rows.
    resets: VecDeque<CounterReset>,
}

/// Two neighbouring samples of which the later is lower.
#[derive(Copy, Clone)]
struct CounterReset {
    /// The row of the earlier sample.
    before: u32,
    /// The row of the later one.
    after: u32,
}

fn is_float(v: f64) -> bool {
    is_sample(v) && !is_histogram(v)
}

impl GapsAndResets {
    /// Moves the state to the rows `from..to`.
    fn slide(&mut self, block: &RingBlock, column: usize, span: RowSpan, pairs: bool) {
        let RowSpan { from, to } = span;
        // Rows that were changed afterwards, or removed before they were subtracted, make the
        // counts wrong: begin again.
        let changed = self.epoch != block.epoch() && block.stable_since(self.epoch) < self.to;
        let void = changed || self.from < block.base();
        // Also if the window has moved on past all counted rows: nothing of the old state is in it.
        if void || from < self.from || from > self.to || to < self.to {
            *self = GapsAndResets { from, to: from, ..GapsAndResets::default() };
        }
        self.epoch = block.epoch();
        // Counts are whole numbers, so subtracting is exact; sums of floats are never treated like
        // this.
        for v in (self.from..from).map(|at| block.value(at, column)).filter(|v| is_float(*v)) {
            self.count -= 1;
            self.nans -= usize::from(pairs && v.is_nan());
        }
        self.from = from;
        // A pair counts only if both of its samples are in the window.
        while self.resets.front().is_some_and(|reset| reset.before < from) {
            self.resets.pop_front();
        }
        while self.to < to {
            self.to = self.skip(block, column, to, pairs).unwrap_or_else(|| {
                let v = block.value(self.to, column);
                if is_float(v) {
                    self.add(block, column, self.to, v, pairs);
                }
                self.to + 1
            });
        }
    }

    /// Adds a chunk that is not in memory ([`crate::live::ring::spilled`]) as a whole, if its
    /// summary suffices. Returns the row after it.
    fn skip(&mut self, block: &RingBlock, column: usize, to: u32, pairs: bool) -> Option<u32> {
        let chunk = block.spilled_at(self.to).filter(|chunk| chunk.end() <= to)?;
        if chunk.count(column) == 0 {
            return Some(chunk.end());
        }
        // A chunk that rises has no reset, and its first value is not below the last one before it.
        let fits = if pairs { chunk.rises(column) } else { chunk.is_gapless(column) };
        // The chunk has a gap or a reset: its rows must be read one by one.
        if !fits {
            return None;
        }
        self.count += chunk.count(column);
        // Without gaps the last two rows are the last two floats.
        self.before = if chunk.rows() > 1 { Some(chunk.end() - 2) } else { self.last };
        self.last = Some(chunk.end() - 1);
        Some(chunk.end())
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.resets.capacity() * size_of::<CounterReset>()
    }

    fn add(&mut self, block: &RingBlock, column: usize, at: u32, v: f64, pairs: bool) {
        self.count += 1;
        self.nans += usize::from(pairs && v.is_nan());
        if let Some(last) = self.last.filter(|last| pairs && *last >= self.from)
            && v < block.value(last, column)
        {
            self.resets.push_back(CounterReset { before: last, after: at });
        }
        self.before = self.last;
        self.last = Some(at);
    }
}

impl WindowStates {
    /// Writes the abridged window of a column into `ts` and `vs`: the first sample, both samples of
    /// each counter reset (if `pairs` matter), and the last two. Returns how many samples were left
    /// out; `None` if the abridged window would give another result, or would be hardly shorter.
    pub(super) fn abridge(
        &mut self,
        block: NumberedBlock,
        column: usize,
        span: RowSpan,
        pairs: bool,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Option<usize> {
        let NumberedBlock { number, block } = block;
        let RowSpan { from, to } = span;
        // A short window is read faster than its state is kept.
        if ((to - from) as usize) < MIN_PANE_WINDOW {
            return None;
        }
        // Created only for columns that are not simple, and removed when they are again: state per
        // series would cost more memory than the window saves.
        let gaps = self.gaps.entry((number, column as u32)).or_default();
        gaps.slide(block, column, RowSpan { from, to: to - 1 }, pairs);
        let newest = block.value(to - 1, column);
        // A NaN is neither above nor below its neighbours, so leaving it out would create a pair
        // that does not exist.
        let nan = gaps.nans > 0 || newest.is_nan() && is_float(newest);
        // With a reset in one of eight samples the abridged window is hardly shorter than the whole
        // one.
        if pairs && (nan || gaps.resets.len() * 8 > gaps.count) {
            return None;
        }
        let ends = if is_float(newest) { [gaps.last, Some(to - 1)] } else { [gaps.before, gaps.last] };
        // Searched each time, not kept: the first float leaves the window with nearly every slide.
        let first = (from..to).find(|at| is_float(block.value(*at, column)));
        let resets = gaps.resets.iter().flat_map(|reset| [reset.before, reset.after]);
        ts.clear();
        vs.clear();
        let mut written = None;
        for at in first.into_iter().chain(resets).chain(ends.into_iter().flatten()) {
            // The same row can be an end and part of a reset.
            if at >= from && written.is_none_or(|written| written < at) {
                ts.push(block.time(at));
                vs.push(block.value(at, column));
                written = Some(at);
            }
        }
        Some(gaps.count + usize::from(is_float(newest)) - ts.len())
    }
}
