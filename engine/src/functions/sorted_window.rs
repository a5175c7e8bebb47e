//! The sorted values of a window, updated while it slides, for order statistics
//! ([`super::quantile`]). A new value replaces one that leaves, and only the values between the two
//! are moved. Nothing else is stored: the values that leave are read again from the block. The
//! samples of a block are a matrix: a row is a time, a column a series.
//!
//! The newest row of a window is not among the sorted values, because samples of other series may
//! still arrive for it; [`SortedWindow`] adds it. Changes of older rows come from
//! [`WindowRows::edits_since`].

use super::panes::{RowSpan, WindowRows};
use super::quantile::order;
use storage::model::value::{ABSENT, is_histogram, is_sample};
use storage::vec_growth::reserve_slack;

/// A change of rows before the newest.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum RowEdit {
    /// A row without values was inserted; it has this number.
    Row(u32),
    /// A value was replaced.
    Cell {
        /// The number of the row.
        row: u32,
        /// The column.
        column: u32,
        /// The old value.
        before: f64,
        /// The new value.
        after: f64,
    },
}

/// Sorted values, and one more that is not among them.
#[derive(Copy, Clone, Debug)]
pub struct SortedWindow<'a> {
    sorted: &'a [f64],
    /// The index at which it would be, and the value.
    newest: Option<(usize, f64)>,
}

impl<'a> SortedWindow<'a> {
    /// Values sorted by [`order`], and the sample of the newest row, if it is a float.
    pub fn new(sorted: &'a [f64], newest: f64) -> SortedWindow<'a> {
        let newest = float(newest).map(|v| (place(sorted, v), v));
        SortedWindow { sorted, newest }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.sorted.len() + usize::from(self.newest.is_some())
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Value number `at`.
    pub fn at(&self, at: usize) -> f64 {
        match self.newest {
            Some((place, v)) if place == at => v,
            // Values after the newest one have moved by one.
            Some((place, _)) if place < at => self.sorted[at - 1],
            _ => self.sorted[at],
        }
    }

    /// How many values are below `v`. Neither `v` nor the values may be NaN.
    pub fn below(&self, v: f64) -> usize {
        let newest = self.newest.is_some_and(|(_, newest)| newest < v);
        self.sorted.partition_point(|other| *other < v) + usize::from(newest)
    }
}

/// The sorted values of one block's columns.
#[derive(Default)]
pub struct SortedColumns {
    /// The values of rows `from..to` are included.
    from: u32,
    to: u32,
    /// Number of edits that are included.
    edits: u64,
    columns: Vec<Vec<f64>>,
}

impl SortedColumns {
    /// Writes the result of `answer` for the window over the rows of `span` to `out`, for each
    /// of `width` columns.
    pub fn eval(
        &mut self,
        rows: &dyn WindowRows,
        span: RowSpan,
        width: usize,
        answer: impl Fn(&SortedWindow) -> f64,
        out: &mut Vec<f64>,
    ) {
        let newest = span.to - 1;
        let sorted = RowSpan { from: span.from, to: newest };
        self.columns.resize_with(width, Vec::new);
        // `slide` may have changed some columns when it fails. `build` overwrites all of them.
        if !self.slide(rows, sorted) {
            self.build(rows, sorted);
        }
        let values = rows.values(newest);
        let newest = |column: usize| values.get(column).copied().unwrap_or(ABSENT);
        let columns = self.columns.iter().enumerate();
        out.clear();
        out.extend(columns.map(|(column, sorted)| answer(&SortedWindow::new(sorted, newest(column)))));
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let values: usize = self.columns.iter().map(|column| column.capacity() * size_of::<f64>()).sum();
        values + self.columns.capacity() * size_of::<Vec<f64>>()
    }

    /// Moves to rows `from..to`. `false`: that is not possible, or beginning again is cheaper.
    fn slide(&mut self, rows: &dyn WindowRows, span: RowSpan) -> bool {
        let RowSpan { from, to } = span;
        // The block keeps a limited number of edits, and this window was not evaluated for long.
        let Some(edits) = rows.edits_since(self.edits) else { return false };
        self.edits = rows.edits();
        if !edits.iter().all(|edit| self.take(*edit)) {
            return false;
        }
        let forward = self.from <= from && from <= self.to && self.to <= to;
        // Values that leave must still be readable. And if a quarter of the window is new, sorting
        // is cheaper than moving.
        if !forward || self.from < rows.oldest() || (to - self.to) * 4 > to - from {
            return false;
        }
        let gone = self.from..from;
        let come = self.to..to;
        self.from = from;
        self.to = to;
        // One that leaves is paired with one that enters: a replacement moves less than a removal
        // and an insertion.
        for i in 0..gone.len().max(come.len()) as u32 {
            let row = |at: u32, end: u32| if at < end { rows.values(at) } else { &[] };
            let old = row(gone.start + i, gone.end);
            let new = row(come.start + i, come.end);
            if !self.exchange(old, new) {
                return false;
            }
        }
        true
    }

    /// Replaces the values of one row by those of another.
    fn exchange(&mut self, old: &[f64], new: &[f64]) -> bool {
        let cell = |row: &[f64], column: usize| row.get(column).copied().and_then(float);
        let columns = self.columns.iter_mut().enumerate();
        let mut replaced = columns.map(|(i, sorted)| replace(sorted, cell(old, i), cell(new, i)));
        replaced.all(|found| found)
    }

    /// Applies an edit.
    fn take(&mut self, edit: RowEdit) -> bool {
        match edit {
            RowEdit::Row(at) => {
                // A row inserted before the window moves its numbers. Inserted within, it belongs
                // to the window and has no values yet.
                self.from += u32::from(at < self.from);
                self.to += u32::from(at < self.to);
                true
            }
            RowEdit::Cell { row, column, before, after } => match self.columns.get_mut(column as usize) {
                Some(sorted) if (self.from..self.to).contains(&row) => {
                    replace(sorted, float(before), float(after))
                }
                _ => true,
            },
        }
    }

    /// Sorts the values of rows `from..to`.
    fn build(&mut self, rows: &dyn WindowRows, span: RowSpan) {
        let RowSpan { from, to } = span;
        // Counted first, so that each column is allocated at its size: growing by doubling would
        // waste up to half of the memory of all long windows.
        let mut counts = vec![0; self.columns.len()];
        for at in from..to {
            let floats = rows.values(at).iter().map(|v| usize::from(float(*v).is_some()));
            for (count, float) in counts.iter_mut().zip(floats) {
                *count += float;
            }
        }
        self.columns = counts.into_iter().map(Vec::with_capacity).collect();
        for at in from..to {
            for (sorted, v) in self.columns.iter_mut().zip(rows.values(at)) {
                sorted.extend(float(*v));
            }
        }
        for sorted in &mut self.columns {
            sorted.sort_unstable_by(order);
        }
        self.from = from;
        self.to = to;
        self.edits = rows.edits();
    }
}

fn float(v: f64) -> Option<f64> {
    (is_sample(v) && !is_histogram(v)).then_some(v)
}

/// The index at which a value is, or would be.
fn place(sorted: &[f64], v: f64) -> usize {
    sorted.partition_point(|other| order(other, &v).is_lt())
}

/// Removes one value and inserts another. `false`: the value to remove was not found.
fn replace(sorted: &mut Vec<f64>, gone: Option<f64>, come: Option<f64>) -> bool {
    let to = come.map(|v| (place(sorted, v), v));
    let from = gone.map(|v| (place(sorted, v), v));
    if let Some((at, v)) = from
        // The rows and the sorted values disagree, which would be a fault elsewhere. Building again
        // is always correct.
        && sorted.get(at).is_none_or(|found| found.to_bits() != v.to_bits())
    {
        return false;
    }
    match (from, to) {
        (Some((from, _)), Some((to, v))) if from < to => {
            sorted.copy_within(from + 1..to, from);
            sorted[to - 1] = v;
        }
        (Some((from, _)), Some((to, v))) => {
            sorted.copy_within(to..from, to + 1);
            sorted[to] = v;
        }
        (Some((from, _)), None) => {
            sorted.remove(from);
            // The series has ended, and its values leave one by one.
            if sorted.capacity() > 2 * sorted.len() + 16 {
                sorted.shrink_to_fit();
            }
        }
        (None, Some((to, v))) => {
            reserve_slack(sorted, 1);
            sorted.insert(to, v);
        }
        (None, None) => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::{Kernel, Window, WindowMethod, table};
    use proptest::prelude::*;
    use storage::model::TimeMs;
    use storage::model::value::{HISTOGRAM, STALE};

    /// Rows of two columns, of which the oldest do not have the second, and all edits so far.
    struct TestRows {
        rows: Vec<Vec<f64>>,
        oldest: u32,
        edits: Vec<RowEdit>,
        forgotten: usize,
    }

    impl TestRows {
        /// Inserts an empty row `at`.
        fn insert(&mut self, at: u32) {
            self.rows.insert(at as usize, vec![ABSENT; 2]);
            self.edits.push(RowEdit::Row(at));
        }

        fn set(&mut self, at: u32, column: u32, after: f64) {
            let row = &mut self.rows[at as usize];
            row.resize(2, ABSENT);
            let before = std::mem::replace(&mut row[column as usize], after);
            self.edits.push(RowEdit::Cell { row: at, column, before, after });
        }
    }

    impl WindowRows for TestRows {
        fn epoch(&self) -> u32 {
            0
        }

        fn stable_since(&self, _: u32) -> u32 {
            0
        }

        fn time(&self, at: u32) -> TimeMs {
            i64::from(at) * 15_000
        }

        fn values(&self, at: u32) -> &[f64] {
            assert!(at >= self.oldest, "row {at} is gone");
            &self.rows[at as usize]
        }

        fn oldest(&self) -> u32 {
            self.oldest
        }

        fn edits(&self) -> u64 {
            self.edits.len() as u64
        }

        fn edits_since(&self, edits: u64) -> Option<&[RowEdit]> {
            self.edits.get(usize::try_from(edits).ok().filter(|edits| *edits >= self.forgotten)?..)
        }
    }

    fn value() -> impl Strategy<Value = f64> {
        let nan = |bits: u64| f64::from_bits(0x7ff8_0000_0000_0000 | bits);
        prop_oneof![
            12 => (-3i32..3).prop_map(f64::from),
            12 => -1e3f64..1e3,
            3 => Just(-0.0),
            1 => (1u64..4).prop_map(nan),
            2 => Just(ABSENT),
            1 => Just(STALE),
            1 => Just(HISTOGRAM),
        ]
    }

    /// In most windows none is infinite, in some the median is.
    fn infinite() -> impl Strategy<Value = f64> {
        prop_oneof![3 => value(), 1 => Just(f64::INFINITY), 1 => Just(f64::NEG_INFINITY)]
    }

    fn rows() -> impl Strategy<Value = Vec<[f64; 2]>> {
        let rows = |value: BoxedStrategy<f64>| prop::collection::vec([value.clone(), value], 100..300);
        // Without NaN in most of them, `mad` has a value.
        let finite = (-20i32..20).prop_map(|v| f64::from(v) / 4.0).boxed();
        prop_oneof![rows(finite), rows(value().boxed()), rows(infinite().boxed())]
    }

    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() && float(a).is_some() == float(b).is_some()
    }

    #[derive(Clone, Debug)]
    enum LateEdit {
        Nothing,
        Value(u32, u32, f64),
        Row(u32),
        /// More edits than are kept.
        Much(u32, f64),
    }

    fn late() -> impl Strategy<Value = LateEdit> {
        prop_oneof![
            6 => Just(LateEdit::Nothing),
            3 => (0u32..300, 0u32..2, value()).prop_map(|(at, column, v)| LateEdit::Value(at, column, v)),
            2 => (0u32..300).prop_map(LateEdit::Row),
            1 => (0u32..300, value()).prop_map(|(at, v)| LateEdit::Much(at, v)),
        ]
    }

    proptest! {
        /// Windows slide over rows that are added, removed and changed; for every function of
        /// sorted values.
        #[test]
        fn the_same_as_from_scratch(
            rows in rows(),
            moves in prop::collection::vec((0u32..6, 0u32..6, late(), any::<bool>()), 1..40),
            q in prop_oneof![0.0f64..=1.0, Just(0.5), Just(0.0), Just(1.0), Just(-1.0), Just(2.0), Just(f64::NAN)],
        ) {
            let mut rows: Vec<Vec<f64>> = rows.into_iter().map(Vec::from).collect();
            for row in &mut rows[..20] { row.truncate(1); }
            let mut given = TestRows { rows, oldest: 0, edits: Vec::new(), forgotten: 0 };
            let mut sorted = SortedColumns::default();
            let mut out = Vec::new();
            let mut from = 0;
            let mut to = 60;
            for (leave, enter, late, trim) in moves {
                let end = given.rows.len() as u32;
                to = (to + enter).min(end);
                from = (from + leave).min(to - 1);
                let behind = |at: u32| given.oldest + at % (end - 1 - given.oldest).max(1);
                match late {
                    LateEdit::Nothing => {}
                    LateEdit::Value(at, column, v) => given.set(behind(at), column, v),
                    LateEdit::Row(at) => {
                        let at = behind(at);
                        given.insert(at);
                        from += u32::from(at < from);
                        to += u32::from(at < to);
                    }
                    LateEdit::Much(at, v) => {
                        given.set(behind(at), 0, v);
                        given.forgotten = given.edits.len();
                    }
                }
                for function in table() {
                    let Kernel::Window(kernel) = function.kernel else { continue };
                    let WindowMethod::Sorted(of_sorted) = kernel.method else { continue };
                    let answer = |values: &SortedWindow| if values.is_empty() { ABSENT } else { of_sorted(values, &[q]) };
                    sorted.eval(&given, RowSpan { from, to }, 2, answer, &mut out);
                    for (column, got) in out.iter().enumerate() {
                        let value = |at: u32| given.values(at).get(column).copied().and_then(float);
                        let (ts, vs): (Vec<TimeMs>, Vec<f64>) =
                            (from..to).filter_map(|at| Some((given.time(at), value(at)?))).unzip();
                        let window = Window { ts: &ts, vs: &vs, args: &[q], ..Window::default() };
                        let want = if ts.is_empty() { ABSENT } else { (kernel.eval)(&window) };
                        prop_assert!(same(*got, want), "{}: {got:e}, from scratch {want:e} of {vs:?}", function.name);
                    }
                }
                // Rows that have left may be dropped, and sometimes more.
                given.oldest = if trim { from } else { given.oldest };
            }
        }
    }

    #[test]
    fn what_takes_the_place_of_another_moves_what_is_between() {
        let nan = |bits: u64| f64::from_bits(0x7ff8_0000_0000_0000 | bits);
        let mut values = vec![nan(1), nan(3), -0.0, 0.0, 1.0, 1.0];
        assert!(replace(&mut values, Some(nan(3)), Some(1.0)));
        assert!(replace(&mut values, Some(0.0), Some(nan(2))));
        assert!(replace(&mut values, None, Some(-0.0)));
        assert!(replace(&mut values, Some(1.0), None));
        assert!(!replace(&mut values, Some(0.0), Some(5.0)), "it is gone");
        let bits: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [nan(1), nan(2), -0.0, -0.0, 1.0, 1.0].map(f64::to_bits));
    }

    #[test]
    fn what_ends_gives_its_room_back() {
        let mut values: Vec<f64> = (0..5_760).map(f64::from).collect();
        for gone in 0..5_760 {
            assert!(replace(&mut values, Some(f64::from(gone)), None));
            assert!(values.capacity() <= 2 * values.len() + 16);
        }
    }
}
