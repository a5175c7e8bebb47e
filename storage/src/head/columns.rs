//! A column set: the series of one group under one numbering of columns, their open rows and sealed windows.
//!
//! Columns are only ever appended, so a series keeps its column as long as the set lives. When most columns
//! are dead, the group starts a new set ([`super::group`]) and this one only waits to be dropped.

use super::fold::Fold;
use super::open::OpenRow;
use super::pace::Pace;
use super::window::Window;
use crate::limits::{HEAD_WINDOW_SCRAPES, STRETCH_WAITING};
use crate::model::TimeMs;
use crate::model::value::{ABSENT, is_absent};
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Columns, their open rows and sealed windows.
pub struct ColumnSet {
    /// The group it belongs to (its index inside the shard).
    pub group: u32,
    /// Slots by column.
    pub columns: Vec<u32>,
    /// Columns whose series also gets samples from elsewhere: each sample must be checked.
    pub mixed: RoaringBitmap,
    rows: Vec<(TimeMs, OpenRow)>,
    windows: Vec<Arc<Window>>,
    fold: Option<Fold>,
    pace: Pace,
}

impl ColumnSet {
    /// A set without columns.
    pub fn new(group: u32) -> ColumnSet {
        ColumnSet {
            group,
            columns: Vec::new(),
            mixed: RoaringBitmap::new(),
            rows: Vec::new(),
            windows: Vec::new(),
            fold: None,
            pace: Pace::begin(group),
        }
    }

    /// Adds a row later than all others. Windows do not cross multiples of `range`. Whether one was sealed.
    pub fn push(&mut self, t: TimeMs, values: Arc<[f64]>, range: i64) -> bool {
        let crosses =
            self.rows.first().is_some_and(|(first, _)| first.div_euclid(range) != t.div_euclid(range));
        let sealed = (crosses || self.rows.len() >= self.pace.rows) && self.seal();
        self.pack_newest();
        self.rows.push((t, OpenRow::Whole(values)));
        if crosses {
            // All sets come here at once: what is left of the range waits for its own moment.
            self.pace = Pace::begin(self.group);
        } else if sealed {
            self.pace.sealed();
        }
        if let Some(fold) = &mut self.fold {
            if fold.work()
                && let Some(fold) = self.fold.take()
            {
                fold.finish(&mut self.windows);
            }
        } else if sealed && !crosses {
            self.fold = Fold::due(&self.windows, range, &mut self.pace);
        }
        sealed
    }

    /// The row that was the newest is looked at less from now on.
    fn pack_newest(&mut self) {
        if let Some(((_, first), others)) = self.rows.split_first_mut()
            && let Some((_, newest)) = others.last_mut()
        {
            newest.pack(first);
        }
    }

    /// Puts a value into the open row of time `t`, if there is one and it has none in column `c`.
    pub fn fill(&mut self, c: u32, t: TimeMs, v: f64) -> bool {
        let Ok(i) = self.rows.binary_search_by_key(&t, |r| r.0) else { return false };
        let (c, row) = (c as usize, &mut self.rows[i].1);
        if row.has(c) {
            return false;
        }
        let mut values = row.take();
        if c >= values.len() {
            let added = std::iter::repeat_n(ABSENT, self.columns.len().max(c + 1) - values.len());
            values = values.iter().copied().chain(added).collect();
        }
        Arc::make_mut(&mut values)[c] = v;
        *row = OpenRow::Whole(values);
        true
    }

    /// Seals the open rows; whether there were any.
    pub fn seal(&mut self) -> bool {
        let any = !self.rows.is_empty();
        if any {
            self.windows.push(Arc::new(Window::seal(&self.rows, self.columns.len())));
            self.rows.clear();
        }
        any
    }

    /// Whether a window that begins at `t` can be put behind all others: few short ones are left that wait for more.
    pub fn rests(&self, t: TimeMs, range: i64) -> bool {
        let waits = |window: &&Arc<Window>| {
            window.clock().len() <= HEAD_WINDOW_SCRAPES
                && window.max().div_euclid(range) == t.div_euclid(range)
        };
        self.fold.is_none() && self.windows.iter().rev().take_while(waits).count() <= STRETCH_WAITING
    }

    /// Puts a window behind all others.
    pub fn lay(&mut self, window: Window) {
        self.seal();
        self.windows.push(Arc::new(window));
    }

    /// Whether it holds no sample.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.windows.is_empty()
    }

    /// Oldest time held.
    pub fn oldest(&self) -> Option<TimeMs> {
        self.windows.first().map(|w| w.min()).or(self.rows.first().map(|r| r.0))
    }

    /// Chunks in all windows, the open one included.
    pub fn chunks(&self) -> u64 {
        let open = if self.rows.is_empty() { 0 } else { self.columns.len() as u64 };
        self.windows.iter().map(|w| u64::from(w.present())).sum::<u64>() + open
    }

    /// Time of the newest sample of column `c`.
    pub fn newest(&self, c: u32) -> Option<TimeMs> {
        let open = self.rows.iter().rev().find(|(_, row)| row.has(c as usize));
        open.map(|(t, _)| *t).or_else(|| {
            let window = self.windows.iter().rev().find(|w| w.has(c))?;
            let (mut ts, mut vs) = (Vec::new(), Vec::new());
            window.read(c, TimeMs::MIN, TimeMs::MAX, &mut ts, &mut vs);
            ts.last().copied()
        })
    }

    /// The value of column `c` at exactly `t`.
    pub fn at(&self, c: u32, t: TimeMs) -> Option<f64> {
        if let Ok(i) = self.rows.binary_search_by_key(&t, |r| r.0) {
            return self.rows[i].1.get(c as usize).filter(|v| !is_absent(*v));
        }
        let i = self.windows.partition_point(|w| w.max() < t);
        let (mut ts, mut vs) = (Vec::new(), Vec::new());
        self.windows.get(i)?.read(c, t, t, &mut ts, &mut vs);
        vs.first().copied()
    }

    /// The windows and rows that may hold samples in `from..=to`.
    pub fn snapshot(&self, from: TimeMs, to: TimeMs) -> ColumnsSnapshot {
        let first = self.windows.partition_point(|w| w.max() < from);
        let end = self.windows.partition_point(|w| w.min() <= to).max(first);
        let open = self.rows.partition_point(|r| r.0 < from)..self.rows.partition_point(|r| r.0 <= to);
        ColumnsSnapshot {
            windows: self.windows[first..end].to_vec(),
            rows: self.rows.get(open).unwrap_or(&[]).to_vec(),
        }
    }

    /// Forgets windows and rows that end before `end`.
    pub fn drop_before(&mut self, end: TimeMs) {
        self.windows.retain(|w| w.max() >= end);
        self.fold = None;
        let cut = self.rows.partition_point(|r| r.0 < end);
        self.rows.drain(..cut);
    }

    /// The columns that have samples.
    pub fn alive(&self) -> RoaringBitmap {
        let alive = |c: &u32| {
            self.windows.iter().any(|w| w.has(*c)) || self.rows.iter().any(|(_, row)| row.has(*c as usize))
        };
        (0..self.columns.len() as u32).filter(alive).collect()
    }
}

#[cfg(test)]
impl ColumnSet {
    pub fn windows(&self) -> &[Arc<Window>] {
        &self.windows
    }

    pub fn open_rows(&self) -> usize {
        self.rows.len()
    }

    pub fn folds(&self) -> bool {
        self.fold.is_some()
    }
}

/// What a reader needs of a column set; shared by all its series in one selection.
pub struct ColumnsSnapshot {
    windows: Vec<Arc<Window>>,
    rows: Vec<(TimeMs, OpenRow)>,
}

impl ColumnsSnapshot {
    /// Whether column `c` has a sample.
    pub fn has(&self, c: u32) -> bool {
        self.windows.iter().any(|w| w.has(c)) || self.rows.iter().any(|(_, row)| row.has(c as usize))
    }

    /// Appends the samples of column `c` with `from ≤ t ≤ to` in time order.
    pub fn read(&self, c: u32, from: TimeMs, to: TimeMs, ts: &mut Vec<TimeMs>, vs: &mut Vec<f64>) {
        for window in self.windows.iter().filter(|w| w.min() <= to && w.max() >= from) {
            window.read(c, from, to, ts, vs);
        }
        for (t, row) in self.rows.iter().filter(|(t, _)| *t >= from && *t <= to) {
            if let Some(v) = row.get(c as usize).filter(|v| !is_absent(*v)) {
                ts.push(*t);
                vs.push(v);
            }
        }
    }

    /// Calls `add(min, max)` for each part.
    pub fn spans(&self, mut add: impl FnMut(TimeMs, TimeMs)) {
        self.windows.iter().for_each(|w| add(w.min(), w.max()));
        self.rows.iter().for_each(|(t, _)| add(*t, *t));
    }
}
