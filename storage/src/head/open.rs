//! An open row of a column set: the values of one scrape, not compressed yet. Most columns do not move from one scrape to the
//! next, so a row behind the first keeps what differs from that one ([`OpenRow::pack`]). They become a [`super::window`].

use crate::limits::OPEN_PACKED_COLUMNS;
use crate::model::TimeMs;
use crate::model::value::{ABSENT_BITS, is_absent};
use std::sync::Arc;

/// Columns in a word of [`Difference::marks`].
const WORD: usize = 64;

/// The values of one scrape, in the order of the set's columns; may be shorter than the set. Cheap to clone.
#[derive(Clone)]
pub enum OpenRow {
    /// All of them.
    Whole(Arc<[f64]>),
    /// What differs from another row.
    Packed(Arc<Difference>),
}

/// A row as what differs from another one.
pub struct Difference {
    base: Arc<[f64]>,
    columns: usize,
    /// A bit per column: whether it differs.
    marks: Box<[u64]>,
    /// The values of those that do.
    values: Box<[f64]>,
}

impl Difference {
    /// `None`: that would not be much smaller than the row, or is too wide to be looked into.
    fn of(base: &Arc<[f64]>, row: &[f64]) -> Option<Difference> {
        if row.len() > OPEN_PACKED_COLUMNS {
            return None;
        }
        let differs = |c: usize| base.get(c).is_none_or(|before| before.to_bits() != row[c].to_bits());
        let mut marks = vec![0u64; row.len().div_ceil(WORD)].into_boxed_slice();
        for c in 0..row.len() {
            marks[c / WORD] |= u64::from(differs(c)) << (c % WORD);
        }
        let moved = marks.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        if (marks.len() + moved) * 4 > row.len() * 3 {
            return None;
        }
        let mut values = Vec::with_capacity(moved);
        values.extend((0..row.len()).filter(|c| differs(*c)).map(|c| row[c]));
        Some(Difference { base: base.clone(), columns: row.len(), marks, values: values.into() })
    }

    fn get(&self, c: usize) -> Option<f64> {
        if c >= self.columns {
            return None;
        }
        let (word, bit) = (c / WORD, 1u64 << (c % WORD));
        if self.marks[word] & bit == 0 {
            return self.base.get(c).copied();
        }
        let before = self.marks[..word].iter().map(|word| word.count_ones()).sum::<u32>();
        let within = (self.marks[word] & (bit - 1)).count_ones();
        self.values.get((before + within) as usize).copied()
    }
}

impl OpenRow {
    /// The value of column `c`, *absent* too; `None` behind the end.
    pub fn get(&self, c: usize) -> Option<f64> {
        match self {
            OpenRow::Whole(row) => row.get(c).copied(),
            OpenRow::Packed(difference) => difference.get(c),
        }
    }

    /// Whether there is a sample in column `c`.
    pub fn has(&self, c: usize) -> bool {
        self.get(c).is_some_and(|v| !is_absent(v))
    }

    /// All values.
    pub fn values(&self) -> Vec<f64> {
        match self {
            OpenRow::Whole(row) => row.to_vec(),
            OpenRow::Packed(difference) => {
                let mut values = difference.values.iter().copied();
                let value = |c: usize| match difference.marks[c / WORD] >> (c % WORD) & 1 {
                    0 => difference.base.get(c).copied(),
                    _ => values.next(),
                };
                (0..difference.columns).map_while(value).collect()
            }
        }
    }

    /// All values, to be changed and put back: not copied if nobody else has them.
    pub fn take(&mut self) -> Arc<[f64]> {
        match std::mem::replace(self, OpenRow::Whole(Arc::default())) {
            OpenRow::Whole(row) => row,
            packed => packed.values().into(),
        }
    }

    /// From now on it keeps only what differs from `first`, if that is less.
    pub fn pack(&mut self, first: &OpenRow) {
        let (OpenRow::Whole(row), OpenRow::Whole(base)) = (&*self, first) else { return };
        if let Some(difference) = Difference::of(base, row) {
            *self = OpenRow::Packed(Arc::new(difference));
        }
    }
}

/// The bit patterns of some rows (at least one), all of `columns`, one behind the other.
pub fn patterns(rows: &[(TimeMs, OpenRow)], columns: usize) -> Vec<u64> {
    let mut all = Vec::with_capacity(rows.len() * columns);
    for (at, (_, row)) in rows.iter().enumerate() {
        match row {
            OpenRow::Whole(row) => all.extend(row.iter().map(|v| v.to_bits())),
            OpenRow::Packed(_) => all.extend(row.values().iter().map(|v| v.to_bits())),
        }
        all.resize((at + 1) * columns, ABSENT_BITS);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::{ABSENT, STALE_BITS};
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f64> {
        let bits =
            prop_oneof![6 => Just(0), 2 => Just(1f64.to_bits()), 1 => Just(STALE_BITS), 1 => any::<u64>()];
        prop_oneof![9 => bits.prop_map(f64::from_bits), 1 => Just(ABSENT)]
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn a_packed_row_is_the_row(
            first in proptest::collection::vec(value(), 0..200),
            row in proptest::collection::vec(value(), 0..200),
        ) {
            let (whole, base) = (OpenRow::Whole(row.clone().into()), OpenRow::Whole(first.clone().into()));
            let mut packed = whole.clone();
            packed.pack(&base);
            for c in 0..210 {
                prop_assert_eq!(packed.get(c).map(f64::to_bits), row.get(c).map(|v| v.to_bits()));
                prop_assert_eq!(packed.has(c), whole.has(c));
            }
            prop_assert_eq!(bits(&packed.values()), bits(&row));
            let columns = first.len().max(row.len());
            let all = patterns(&[(0, base), (1, packed)], columns);
            let long = |row: &[f64]| [bits(row), vec![ABSENT_BITS; columns - row.len()]].concat();
            prop_assert_eq!(all, [long(&first), long(&row)].concat());
        }
    }

    #[test]
    fn what_hardly_moves_is_packed() {
        let first: Vec<f64> = (0..1000).map(f64::from).collect();
        let (base, mut moved) = (OpenRow::Whole(first.clone().into()), first);
        (0..1000).step_by(10).for_each(|c| moved[c] += 0.5);
        let mut row = OpenRow::Whole(moved.into());
        row.pack(&base);
        let OpenRow::Packed(difference) = row else { panic!("it is smaller") };
        assert_eq!((difference.values.len(), difference.marks.len()), (100, 16));
        let wide = || OpenRow::Whole(vec![0.0; OPEN_PACKED_COLUMNS + 1].into());
        let (mut row, base) = (wide(), wide());
        row.pack(&base);
        assert!(matches!(row, OpenRow::Whole(_)), "too wide");
    }
}
