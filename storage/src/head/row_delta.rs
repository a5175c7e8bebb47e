//! A row of values (one scrape of a target) as the difference to another row, its *base*. Columns
//! past the end of either row count as *absent*: no sample. [`super::open_rows`] keeps its rows in
//! this form.

use crate::model::value::{ABSENT, is_absent};
use std::sync::Arc;

/// Columns per word of marks.
pub(super) const WORD: usize = 64;
/// Every this many words of marks, `ranks` has the number of bits set before. A lookup counts the
/// bits of at most this many words.
const RANKED: usize = 16;

/// The difference between a row and its base.
pub(super) struct RowDelta {
    /// The other row.
    base: Arc<[f64]>,
    /// One bit per column: whether it differs from the base.
    marks: Box<[u64]>,
    /// Number of bits set before each [`RANKED`]th word of `marks`.
    ranks: Box<[u32]>,
    /// The values of the columns that differ, in order.
    values: Box<[f64]>,
}

impl RowDelta {
    /// The difference of `row` to `base`; `marks` must be those of this pair.
    pub(super) fn new(base: &Arc<[f64]>, row: &[f64], marks: ChangedColumns) -> RowDelta {
        let mut values = Vec::with_capacity(marks.count());
        values.extend(marks.columns().map(|c| value(row, c)));
        let mut before = 0;
        let mut ranks = Vec::with_capacity(marks.0.len().div_ceil(RANKED));
        for words in marks.0.chunks(RANKED) {
            ranks.push(before);
            before += words.iter().map(|word| word.count_ones()).sum::<u32>();
        }
        RowDelta { base: base.clone(), marks: marks.0, ranks: ranks.into(), values: values.into() }
    }

    /// The value of column `c`.
    pub(super) fn get(&self, c: usize) -> f64 {
        let word_index = c / WORD;
        let bit = 1u64 << (c % WORD);
        match self.marks.get(word_index) {
            Some(word) if word & bit != 0 => {
                // At most a few words are counted, instead of all before the column.
                let words = &self.marks[word_index / RANKED * RANKED..word_index];
                let behind = words.iter().map(|word| word.count_ones()).sum::<u32>();
                let within = (word & (bit - 1)).count_ones();
                self.values[(self.ranks[word_index / RANKED] + behind + within) as usize]
            }
            _ => value(&self.base, c),
        }
    }

    /// All values of the row.
    pub(super) fn unpacked(&self) -> Vec<f64> {
        let mut row = self.base.to_vec();
        for (c, v) in columns(&self.marks).zip(&self.values) {
            // The base is of a time when the set had fewer columns.
            if c >= row.len() {
                row.resize(c + 1, ABSENT);
            }
            row[c] = *v;
        }
        row
    }

    /// The base row.
    pub(super) fn base(&self) -> &Arc<[f64]> {
        &self.base
    }

    /// Which columns of word `word_index` differ, one bit each.
    pub(super) fn word(&self, word_index: usize) -> u64 {
        self.marks.get(word_index).copied().unwrap_or(0)
    }

    /// The values of the columns that differ, in order.
    pub(super) fn values(&self) -> &[f64] {
        &self.values
    }
}

/// Which columns of two rows differ: one bit each.
pub(super) struct ChangedColumns(Box<[u64]>);

impl ChangedColumns {
    /// The changed columns of `row` relative to `base`.
    pub(super) fn between(base: &[f64], row: &[f64]) -> ChangedColumns {
        let words = base.len().max(row.len()).div_ceil(WORD);
        ChangedColumns(
            (0..words).map(|word_index| differing(word(base, word_index), word(row, word_index))).collect(),
        )
    }

    fn columns(&self) -> impl Iterator<Item = usize> {
        columns(&self.0)
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether a [`RowDelta`] would be noticeably smaller (at most 3/4) than a row of `columns`
    /// values.
    pub(super) fn save(&self, columns: usize) -> bool {
        (self.0.len() + self.count()) * 4 <= columns * 3
    }

    /// How many more samples `row` has than `base`.
    pub(super) fn gain(&self, base: &[f64], row: &[f64]) -> isize {
        let lacks = |row: &[f64], c: usize| isize::from(is_absent(value(row, c)));
        self.columns().map(|c| lacks(base, c) - lacks(row, c)).sum()
    }
}

/// The numbers of the marked columns, ascending.
fn columns(marks: &[u64]) -> impl Iterator<Item = usize> {
    marks.iter().enumerate().flat_map(|(word_index, word)| {
        // `word & (word - 1)` clears the lowest set bit.
        let rest = |word: &u64| Some(word & (word - 1)).filter(|rest| *rest != 0);
        std::iter::successors(Some(*word).filter(|word| *word != 0), rest)
            .map(move |word| word_index * WORD + word.trailing_zeros() as usize)
    })
}

/// The value of column `c`; *absent* past the end.
pub(super) fn value(row: &[f64], c: usize) -> f64 {
    row.get(c).copied().unwrap_or(ABSENT)
}

/// The columns of word `word_index`; fewer than 64 at the end of the row.
pub(super) fn word(row: &[f64], word_index: usize) -> &[f64] {
    let begin = (word_index * WORD).min(row.len());
    &row[begin..(begin + WORD).min(row.len())]
}

/// Which columns of one word differ, one bit each.
pub(super) fn differing(base: &[f64], row: &[f64]) -> u64 {
    let both = base.len().min(row.len());
    let pairs = base.iter().zip(row).map(|(before, now)| before.to_bits() != now.to_bits());
    let alone = base[both..].iter().chain(&row[both..]).map(|v| !is_absent(*v));
    pairs.chain(alone).enumerate().fold(0, |marks, (bit, differs)| marks | u64::from(differs) << bit)
}
