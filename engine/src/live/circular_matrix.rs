//! A ring buffer of rows of floats in one allocation: one row per time, one value per column
//! (series). The values of a row are adjacent, so writing a scrape touches one piece of memory, and
//! so do reads of the oldest and the newest row of a window. The space of removed rows is used
//! again at once, and capacity grows by 1/16, not by doubling. A
//! [`RingBlock`](super::ring::RingBlock) keeps its values in one.

use std::ops::Range;
use storage::model::value::ABSENT;
pub(super) use storage::vec_growth::reserve_slack;

/// The buffer. Rows are counted from the oldest.
#[derive(Debug, Default)]
pub(super) struct CircularMatrix {
    values: Vec<f64>,
    /// Number of columns.
    width: usize,
    /// Index of the oldest row.
    first: usize,
    /// Number of rows.
    len: usize,
    /// For how many rows memory is allocated.
    capacity: usize,
}

impl CircularMatrix {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<f64>()
    }

    /// Index of the first value of a row in `values`.
    fn first_value(&self, row: usize) -> usize {
        let index = self.first + row;
        // A comparison instead of a remainder: this is in the inner loop of every evaluation.
        (if index < self.capacity { index } else { index - self.capacity }) * self.width
    }

    /// The values of a row, without the columns that were added since the last
    /// [`CircularMatrix::widen`].
    #[inline]
    pub(super) fn row(&self, row: usize) -> &[f64] {
        let position = self.first_value(row);
        &self.values[position..position + self.width]
    }

    fn row_mut(&mut self, row: usize) -> &mut [f64] {
        let position = self.first_value(row);
        &mut self.values[position..position + self.width]
    }

    /// One value; [`ABSENT`] for a column that the matrix does not have yet.
    #[inline]
    pub(super) fn get(&self, row: usize, column: usize) -> f64 {
        self.row(row).get(column).copied().unwrap_or(ABSENT)
    }

    /// Writes the values of a column in `rows` to `out`.
    pub(super) fn column(&self, rows: Range<usize>, column: usize, out: &mut Vec<f64>) {
        out.clear();
        if column >= self.width {
            out.resize(rows.len(), ABSENT);
            return;
        }
        // Up to the end of the allocation, then from its beginning.
        let turn = (self.capacity - self.first).clamp(rows.start, rows.end);
        for part in [rows.start..turn, turn..rows.end].into_iter().filter(|part| !part.is_empty()) {
            let from = self.first_value(part.start) + column;
            out.extend(self.values[from..].iter().step_by(self.width).take(part.len()));
        }
    }

    /// Sets one value.
    pub(super) fn set(&mut self, row: usize, column: usize, value: f64) {
        self.row_mut(row)[column] = value;
    }

    /// Adds a row of [`ABSENT`] values after the newest.
    pub(super) fn push(&mut self) -> &mut [f64] {
        // By 1/16, not by doubling: rings have a stable length, and half of a doubled allocation
        // would stay empty in each of thousands of blocks.
        if self.len == self.capacity {
            let more = (self.capacity / 16).max(1);
            self.arrange(self.capacity + more, self.width);
        }
        self.len += 1;
        let row = self.row_mut(self.len - 1);
        row.fill(ABSENT);
        row
    }

    /// Inserts a row of [`ABSENT`] values before row `position`.
    pub(super) fn insert(&mut self, position: usize) {
        // The new row is at the end first; the rows after the inserted one move by one. Late rows
        // are near the end, so few move.
        self.push();
        for row in (position..self.len - 1).rev() {
            let from = self.first_value(row);
            let to = self.first_value(row + 1);
            self.values.copy_within(from..from + self.width, to);
        }
        self.row_mut(position).fill(ABSENT);
    }

    /// Removes the oldest `n` rows.
    pub(super) fn forget(&mut self, n: usize) {
        self.len -= n;
        self.first += n;
        if self.first >= self.capacity {
            self.first -= self.capacity;
        }
        // Less than half is in use, for example after a burst of samples: give memory back.
        if self.len + 8 < self.capacity / 2 {
            self.arrange(self.len, self.width);
        }
    }

    /// Grows to at least `width` columns.
    pub(super) fn widen(&mut self, width: usize) {
        if width > self.width {
            self.arrange(self.len, width);
        }
    }

    /// Moves everything to an allocation for `capacity` rows of `width` columns.
    fn arrange(&mut self, capacity: usize, width: usize) {
        // Copied in order, from the oldest row, so the result begins at index 0.
        let mut values = Vec::with_capacity(capacity * width);
        for row in 0..self.len {
            values.extend_from_slice(self.row(row));
            values.resize((row + 1) * width, ABSENT);
        }
        values.resize(capacity * width, ABSENT);
        self.values = values;
        self.width = width;
        self.first = 0;
        self.capacity = capacity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Act {
        Push(u8),
        Insert(usize, u8),
        Forget(usize),
        Widen(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => any::<u8>().prop_map(Act::Push),
            1 => (0usize..50, any::<u8>()).prop_map(|(position, v)| Act::Insert(position, v)),
            3 => (0usize..9).prop_map(Act::Forget),
            1 => (1usize..3).prop_map(Act::Widen),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_queue_of_rows(acts in prop::collection::vec(act(), 1..120)) {
            let mut matrix = CircularMatrix::default();
            let mut rows = Vec::<Vec<f64>>::new();
            let mut width = 1;
            matrix.widen(width);
            for act in acts {
                match act {
                    Act::Push(v) => {
                        matrix.push().fill(f64::from(v));
                        rows.push(vec![f64::from(v); width]);
                    }
                    Act::Insert(position, v) => {
                        let position = position.min(rows.len());
                        matrix.insert(position);
                        for column in 0..width { matrix.set(position, column, f64::from(v)); }
                        rows.insert(position, vec![f64::from(v); width]);
                    }
                    Act::Forget(n) => {
                        let n = n.min(rows.len());
                        matrix.forget(n);
                        rows.drain(..n);
                    }
                    Act::Widen(more) => {
                        width += more;
                        matrix.widen(width);
                        for row in rows.iter_mut() { row.resize(width, ABSENT); }
                    }
                }
                prop_assert_eq!(matrix.len(), rows.len());
                prop_assert!(matrix.bytes() <= (rows.len() * 2 + 18) * width * 8);
                for (position, row) in rows.iter().enumerate() {
                    let same = matrix.row(position).iter().zip(row).all(|(a, b)| a.to_bits() == b.to_bits());
                    prop_assert!(same && matrix.row(position).len() == width);
                }
                let from = rows.len() / 3;
                let mut column = Vec::new();
                matrix.column(from..rows.len(), width - 1, &mut column);
                let expected = rows[from..].iter().map(|row| row[width - 1].to_bits());
                prop_assert!(column.iter().map(|v| v.to_bits()).eq(expected));
            }
        }
    }
}
