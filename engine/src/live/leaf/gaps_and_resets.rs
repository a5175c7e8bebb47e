//! Long windows with gaps or resets, for functions that look at the ends of their window and at the
//! pairs where the series falls: where those are, and how many samples there are, kept up as the
//! window slides. So a failed scrape or a restart in a window of a day does not make every change a
//! scan of the day.

use super::super::ring::RingBlock;
use super::LiveLeaf;
use crate::functions::panes::{MIN_PANE_WINDOW, WindowRows};
use std::collections::VecDeque;
use storage::model::TimeMs;
use storage::model::value::{is_histogram, is_sample};

/// What is known of the samples of one column at times `from..to`, as numbers of its block. The
/// newest time of the block is never among them: its sample may still come.
#[derive(Default)]
pub(super) struct GapsAndResets {
    epoch: u32,
    from: u32,
    to: u32,
    /// How many floats, and how many of them are NaN, where pairs count.
    count: usize,
    nans: usize,
    /// The last two.
    last: Option<u32>,
    before: Option<u32>,
    /// Samples that are below their predecessor, after that one.
    falls: VecDeque<(u32, u32)>,
}

fn is_float(v: f64) -> bool {
    is_sample(v) && !is_histogram(v)
}

impl GapsAndResets {
    /// Brings it to `from..to`.
    fn slide(&mut self, block: &RingBlock, column: usize, (from, to): (u32, u32), pairs: bool) {
        let changed = self.epoch != block.epoch() && block.stable_since(self.epoch) < self.to;
        let void = changed || self.from < block.base();
        if void || from < self.from || from > self.to || to < self.to {
            *self = GapsAndResets { from, to: from, ..GapsAndResets::default() };
        }
        self.epoch = block.epoch();
        for v in (self.from..from).map(|at| block.value(at, column)).filter(|v| is_float(*v)) {
            self.count -= 1;
            self.nans -= usize::from(pairs && v.is_nan());
        }
        self.from = from;
        while self.falls.front().is_some_and(|(before, _)| *before < from) {
            self.falls.pop_front();
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

    /// Takes a chunk that is away as a whole, if what is known of it suffices; returns the row after it.
    fn skip(&mut self, block: &RingBlock, column: usize, to: u32, pairs: bool) -> Option<u32> {
        let chunk = block.away(self.to).filter(|chunk| chunk.end() <= to)?;
        if chunk.count(column) == 0 {
            return Some(chunk.end());
        }
        let fits = if pairs { chunk.rises(column) } else { chunk.is_whole(column) };
        if !fits {
            return None;
        }
        self.count += chunk.count(column);
        self.before = if chunk.rows() > 1 { Some(chunk.end() - 2) } else { self.last };
        self.last = Some(chunk.end() - 1);
        Some(chunk.end())
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.falls.capacity() * size_of::<(u32, u32)>()
    }

    fn add(&mut self, block: &RingBlock, column: usize, at: u32, v: f64, pairs: bool) {
        self.count += 1;
        self.nans += usize::from(pairs && v.is_nan());
        if let Some(last) = self.last.filter(|last| pairs && *last >= self.from)
            && v < block.value(last, column)
        {
            self.falls.push_back((last, at));
        }
        (self.before, self.last) = (self.last, Some(at));
    }
}

impl LiveLeaf {
    /// Puts an abridged window of a column at times `from..to` into `ts` and `vs`: the first
    /// sample, each that the series falls from or to (if `pairs` count), the last two. Returns how
    /// many it skips; `None`: that would be wrong, or spare nothing.
    pub(super) fn abridge(
        &mut self,
        (number, block, column): (u32, &RingBlock, usize),
        (from, to): (u32, u32),
        pairs: bool,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Option<usize> {
        if ((to - from) as usize) < MIN_PANE_WINDOW {
            return None;
        }
        let known = self.irregular.entry((number, column as u32)).or_default();
        known.slide(block, column, (from, to - 1), pairs);
        let newest = block.value(to - 1, column);
        // A NaN neither falls nor rises, so what stands around it cannot be put side by side.
        let nan = known.nans > 0 || newest.is_nan() && is_float(newest);
        if pairs && (nan || known.falls.len() * 8 > known.count) {
            return None;
        }
        let ends = if is_float(newest) { [known.last, Some(to - 1)] } else { [known.before, known.last] };
        let first = (from..to).find(|at| is_float(block.value(*at, column)));
        let falls = known.falls.iter().flat_map(|(before, after)| [*before, *after]);
        ts.clear();
        vs.clear();
        let mut shown = None;
        for at in first.into_iter().chain(falls).chain(ends.into_iter().flatten()) {
            if at >= from && shown.is_none_or(|shown| shown < at) {
                ts.push(block.time(at));
                vs.push(block.value(at, column));
                shown = Some(at);
            }
        }
        Some(known.count + usize::from(is_float(newest)) - ts.len())
    }
}
