//! The open rows of a column set: its latest scrapes, which are not compressed yet. A *column set*
//! is one numbering of the series (columns) of a scrape target; a new one begins when they change
//! much ([`super::columns`]). A row is one time with a value per column. *Sealing* compresses
//! the open rows into a group chunk ([`super::group_chunk`]).
//!
//! Most columns do not change from one scrape to the next. So only the newest row is stored as it
//! came; earlier rows store what differs from a *base* row ([`super::row_delta`]). Rows may be
//! filled value by value, so it is decided only when the next row comes whether a row becomes the
//! base: it does if it has many more samples than the current base.

use super::group_chunk::{GroupChunk, GroupChunkBuilder};
use super::row_delta::{self, ChangedColumns, RowDelta, WORD, value};
use crate::limits::BASE_ROW_GAIN;
use crate::model::TimeMs;
use crate::model::value::{ABSENT, is_absent};
use std::borrow::Cow;
use std::sync::Arc;

/// The values of one scrape in the order of the set's columns; may be shorter than the set. Cheap
/// to clone.
#[derive(Clone)]
pub(super) enum OpenRow {
    /// All values.
    Whole(Arc<[f64]>),
    /// The difference to a base row.
    Packed(Arc<RowDelta>),
}

impl OpenRow {
    /// The sample in column `c`.
    pub(super) fn get(&self, c: u32) -> Option<f64> {
        let v = match self {
            OpenRow::Whole(row) => value(row, c as usize),
            OpenRow::Packed(difference) => difference.get(c as usize),
        };
        Some(v).filter(|v| !is_absent(*v))
    }

    /// Puts a value into column `c`; the row gets at least `columns` columns. Copies the row only
    /// if it is shared.
    fn put(&mut self, c: u32, v: f64, columns: usize) {
        let mut row = match std::mem::replace(self, OpenRow::Whole(Arc::default())) {
            OpenRow::Whole(row) => row,
            OpenRow::Packed(difference) => difference.unpacked().into(),
        };
        let columns = columns.max(c as usize + 1);
        // The set has got more columns since the row was written.
        if c as usize >= row.len() {
            let added = std::iter::repeat_n(ABSENT, columns - row.len());
            row = row.iter().copied().chain(added).collect();
        }
        Arc::make_mut(&mut row)[c as usize] = v;
        *self = OpenRow::Whole(row);
    }
}

/// Open rows, ordered by time.
#[derive(Default)]
pub(super) struct OpenRows {
    /// By time, ascending.
    rows: Vec<(TimeMs, OpenRow)>,
    /// The base of rows that are packed next; empty until there is one.
    base: Arc<[f64]>,
    /// Rows from this index on were not packed since they were last filled.
    unpacked_from: usize,
}

impl OpenRows {
    /// Adds a row; `t` is later than all other rows.
    pub(super) fn push(&mut self, t: TimeMs, values: Arc<[f64]>) {
        // The previous rows are packed only now: until a new row comes, they are often still
        // filled.
        self.pack();
        self.rows.push((t, OpenRow::Whole(values)));
    }

    /// Packs the rows from `unpacked_from` on: each becomes a difference to the base if that is
    /// smaller, or the new base if it has many more samples.
    fn pack(&mut self) {
        for (_, row) in &mut self.rows[self.unpacked_from..] {
            // A row that is packed already was not filled since: filling makes it whole again.
            let OpenRow::Whole(values) = row else { continue };
            let marks = ChangedColumns::between(&self.base, values);
            // A row with a few more samples does not become the base: rows of different halves of
            // the columns would take turns, and none would be packed.
            if marks.gain(&self.base, values) > (values.len() / BASE_ROW_GAIN) as isize {
                self.base = values.clone();
            } else if marks.save(values.len()) {
                *row = OpenRow::Packed(Arc::new(RowDelta::new(&self.base, values, marks)));
            }
        }
        self.unpacked_from = self.rows.len();
    }

    /// Puts a value into the row of time `t`, if there is such a row and its column `c` is empty.
    /// `columns` is the width of the set. Returns whether it did.
    pub(super) fn fill(&mut self, c: u32, t: TimeMs, v: f64, columns: usize) -> bool {
        let Ok(index) = self.rows.binary_search_by_key(&t, |row| row.0) else { return false };
        let row = &mut self.rows[index].1;
        // A sample that is there stays: which of two values counts was decided before.
        let free = row.get(c).is_none();
        if free {
            row.put(c, v, columns);
            self.unpacked_from = self.unpacked_from.min(index);
        }
        free
    }

    /// Removes the rows and compresses them into a chunk of `columns` columns; `None` if there are
    /// no rows.
    pub(super) fn seal(&mut self, columns: usize) -> Option<GroupChunk> {
        let rows = std::mem::take(self);
        (!rows.is_empty()).then(|| rows.chunk(columns))
    }

    fn chunk(&self, columns: usize) -> GroupChunk {
        let mut builder = GroupChunkBuilder::new(columns, false);
        let mut rows: Vec<RowCursor> =
            self.rows.iter().map(|(_, row)| RowCursor::new(row, &self.base)).collect();
        let mut column = Vec::with_capacity(rows.len());
        for word in 0..columns.div_ceil(WORD) {
            // 64 columns at a time: a bit of `changed` is set if any row differs from the base in
            // this column. Most columns are constant, and are finished without a look at their
            // values.
            let changed =
                rows.iter_mut().fold(0, |changed, row| changed | row.move_to_word(word, &self.base));
            for c in word * WORD..columns.min((word + 1) * WORD) {
                let bit = 1 << (c % WORD);
                let base = value(&self.base, c).to_bits();
                // No row differs from the base, so the column is constant.
                if changed & bit == 0 {
                    builder.push_constant(base);
                    continue;
                }
                column.clear();
                column.extend(
                    rows.iter_mut()
                        .map(|row| if row.marks & bit == 0 { base } else { row.next_difference(c) }),
                );
                builder.push(&column);
            }
        }
        builder.finish(self.rows.iter().map(|(t, _)| *t).collect())
    }

    /// Number of samples in the newest row; `columns` is the width of the set.
    pub(super) fn newest_samples(&self, columns: usize) -> usize {
        let samples = |row: &OpenRow| (0..columns as u32).filter(|c| row.get(*c).is_some()).count();
        self.rows.last().map_or(0, |(_, row)| samples(row))
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Time of the first row.
    pub(super) fn min(&self) -> Option<TimeMs> {
        self.rows.first().map(|row| row.0)
    }

    /// Time of the newest sample in column `c`.
    pub(super) fn newest(&self, c: u32) -> Option<TimeMs> {
        self.rows.iter().rev().find(|(_, row)| row.get(c).is_some()).map(|row| row.0)
    }

    /// The sample in column `c` at exactly `t`.
    pub(super) fn sample_at(&self, c: u32, t: TimeMs) -> Option<f64> {
        let index = self.rows.binary_search_by_key(&t, |row| row.0).ok()?;
        self.rows[index].1.get(c)
    }

    /// The rows with `from ≤ t ≤ to`.
    pub(super) fn between(&self, from: TimeMs, to: TimeMs) -> &[(TimeMs, OpenRow)] {
        let begin = self.rows.partition_point(|row| row.0 < from);
        let end = self.rows.partition_point(|row| row.0 <= to);
        self.rows.get(begin..end).unwrap_or(&[])
    }

    /// Drops the rows before `end`.
    pub(super) fn drop_before(&mut self, end: TimeMs) {
        let cut = self.rows.partition_point(|row| row.0 < end);
        self.rows.drain(..cut);
        self.unpacked_from = self.unpacked_from.saturating_sub(cut);
        // Without rows nothing refers to the base, and the next row becomes a new one.
        if self.rows.is_empty() {
            self.base = Arc::default();
        }
    }
}

/// A row while its values are transposed to columns.
struct RowCursor<'a> {
    row: RowValues<'a>,
    /// For the current word of 64 columns: which of them differ from the base, one bit each.
    marks: u64,
}

/// Where the values of the row are.
enum RowValues<'a> {
    Whole(Cow<'a, [f64]>),
    /// The difference to the base, and how many of its values were read.
    Packed(&'a RowDelta, usize),
}

impl RowCursor<'_> {
    fn new<'a>(row: &'a OpenRow, base: &Arc<[f64]>) -> RowCursor<'a> {
        let row = match row {
            OpenRow::Whole(row) => RowValues::Whole(Cow::Borrowed(row)),
            OpenRow::Packed(row) if Arc::ptr_eq(row.base(), base) => RowValues::Packed(row, 0),
            // The row was packed with an earlier base.
            OpenRow::Packed(row) => RowValues::Whole(Cow::Owned(row.unpacked())),
        };
        RowCursor { row, marks: 0 }
    }

    /// Moves to word number `word`, which is 64 columns. Returns which of them differ from the
    /// base, one bit each.
    fn move_to_word(&mut self, word: usize, base: &[f64]) -> u64 {
        self.marks = match &self.row {
            RowValues::Whole(row) => {
                row_delta::differing(row_delta::word(base, word), row_delta::word(row, word))
            }
            RowValues::Packed(row, _) => row.word(word),
        };
        self.marks
    }

    /// The bit pattern of a column that differs from the base. Must be called for each of them, in
    /// order.
    fn next_difference(&mut self, column: usize) -> u64 {
        let v = match &mut self.row {
            RowValues::Whole(row) => value(row, column),
            RowValues::Packed(row, values_read) => {
                *values_read += 1;
                row.values()[*values_read - 1]
            }
        };
        v.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::{ABSENT_BITS, STALE_BITS};
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f64> {
        let bits =
            prop_oneof![6 => Just(0), 2 => Just(1f64.to_bits()), 1 => Just(STALE_BITS), 1 => any::<u64>()];
        prop_oneof![9 => bits.prop_map(f64::from_bits), 1 => Just(ABSENT)]
    }

    /// Rows of all widths, some wide, and for each the columns that are filled later, one by one.
    fn rows() -> impl Strategy<Value = Vec<Vec<(f64, bool)>>> {
        let late = prop_oneof![Just(0.0), Just(0.1), Just(0.9)];
        let width = prop_oneof![4 => 0..200_usize, 1 => 2000..5000_usize];
        let row = (late, width).prop_flat_map(|(late, width)| {
            proptest::collection::vec((value(), proptest::bool::weighted(late)), width)
        });
        proptest::collection::vec(row, 1..8)
    }

    /// The bit patterns of a sealed column.
    fn sealed(chunk: &GroupChunk, c: usize) -> Vec<u64> {
        let mut bits = Vec::new();
        chunk.append_bits(c as u32, &mut bits);
        bits
    }

    fn pushed(rows: &[Vec<f64>]) -> OpenRows {
        let mut open = OpenRows::default();
        for (t, row) in (0..).zip(rows) {
            open.push(t, row.clone().into());
        }
        open
    }

    fn packed(open: &OpenRows) -> Vec<bool> {
        open.rows.iter().map(|(_, row)| matches!(row, OpenRow::Packed(_))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_are_what_was_put_into_them(rows in rows(), behind in 0..3_usize) {
            let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
            let mut open = OpenRows::default();
            let fill = |open: &mut OpenRows, at: usize| {
                for (c, (v, late)) in rows[at].iter().enumerate() {
                    let free = open.sample_at(c as u32, at as i64).is_none();
                    assert!(free || !*late);
                    assert_eq!(open.fill(c as u32, at as i64, *v, columns), free);
                }
            };
            for (at, row) in rows.iter().enumerate() {
                let row = row.iter().map(|(v, late)| if *late { ABSENT } else { *v });
                open.push(at as i64, row.collect());
                if let Some(at) = at.checked_sub(behind) {
                    fill(&mut open, at);
                }
            }
            for at in (0..rows.len()).rev().take(behind) { fill(&mut open, at); }
            let bits = |at: usize, c: usize| rows[at].get(c).map_or(ABSENT_BITS, |(v, _)| v.to_bits());
            for (at, c) in (0..rows.len()).flat_map(|at| (0..columns + 70).map(move |c| (at, c))) {
                let v = open.sample_at(c as u32, at as i64).unwrap_or(ABSENT);
                prop_assert_eq!(v.to_bits(), bits(at, c));
            }
            let Some(chunk) = open.seal(columns) else { panic!("there are rows") };
            prop_assert!(open.is_empty());
            prop_assert_eq!(chunk.columns(), columns);
            for c in 0..columns {
                prop_assert_eq!(sealed(&chunk, c), (0..rows.len()).map(|at| bits(at, c)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_hardly_moves_is_packed() {
        let row = |changed: usize| -> Vec<f64> {
            (0..40_000).map(|c| f64::from(c) + if c % 10 == 0 { changed as f64 } else { 0.0 }).collect()
        };
        let open = pushed(&[row(0), row(1), row(2), row(3)]);
        assert_eq!(packed(&open), [false, true, true, false]);
        let OpenRow::Packed(difference) = &open.rows[1].1 else { panic!("it is smaller") };
        assert_eq!(difference.values().len(), 4000);
    }

    #[test]
    fn rows_that_are_filled_value_by_value_are_packed() {
        for behind in 0..3 {
            let mut open = OpenRows::default();
            for t in 0..16 {
                let mut row = vec![ABSENT; 1000];
                row[..10].fill(1.0);
                open.push(t, row.into());
                let filled = (10..1000).all(|c| open.fill(c, t - behind, f64::from(c), 1000));
                assert_eq!(filled, t >= behind);
            }
            let whole = packed(&open).iter().filter(|packed| !**packed).count() as i64;
            // These are: rows that are not full yet, one that was the base before it was full, and
            // the base.
            assert!(whole <= behind + 3, "{whole} of 16 with {behind} rows in the making");
        }
    }

    #[test]
    fn rows_of_different_columns_do_not_take_turns_to_be_the_base() {
        let half = |from: usize| (0..100).map(|c| if c / 50 == from { 1.0 } else { ABSENT }).collect();
        let open = pushed(&[half(0), half(1), half(0), half(1), half(0), half(1)]);
        assert_eq!(packed(&open), [false, false, true, false, true, false]);
    }
}
