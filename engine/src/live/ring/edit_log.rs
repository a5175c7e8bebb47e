//! What was replaced in rows behind the newest, value by value: whoever keeps values of a block in
//! another form takes such edits over, and need not look at all of them again.
//! [`changes`](super::change_log) says the same by row, for those who do.

use crate::functions::sorted_window::RowEdit;

/// See the module.
#[derive(Debug, Default)]
pub struct EditLog {
    count: u64,
    /// The latest.
    log: Vec<RowEdit>,
}

/// Edits that are kept beyond two for each column: a late scrape and a half.
const KEPT: usize = 16;

impl EditLog {
    /// How many there have been.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds one, in a block of so many columns.
    pub fn add(&mut self, edit: RowEdit, columns: usize) {
        if self.log.len() >= KEPT + 2 * columns {
            self.log.drain(..self.log.len() / 2);
        }
        self.log.push(edit);
        self.count += 1;
    }

    /// Something changed that is not told.
    pub fn void(&mut self) {
        self.log = Vec::new();
        self.count += 1;
    }

    /// Those since there had been `count`. None if they are not known any more.
    pub fn since(&self, count: u64) -> Option<&[RowEdit]> {
        let missed = usize::try_from(self.count.checked_sub(count)?).ok()?;
        Some(&self.log[self.log.len().checked_sub(missed)?..])
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.log.capacity() * size_of::<RowEdit>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_told_while_they_are_known() {
        let mut edits = EditLog::default();
        assert_eq!(edits.since(0), Some(&[][..]));
        (0..18).for_each(|at| edits.add(RowEdit::Row(at), 1));
        assert_eq!(edits.since(16), Some(&[RowEdit::Row(16), RowEdit::Row(17)][..]));
        assert_eq!(edits.since(0).map(<[RowEdit]>::len), Some(18));
        edits.add(RowEdit::Row(18), 1);
        assert_eq!(edits.since(8), None);
        assert_eq!(edits.since(9).map(<[RowEdit]>::len), Some(10));
        edits.void();
        assert_eq!((edits.since(18), edits.since(20)), (None, Some(&[][..])));
        assert_eq!(edits.since(21), None, "of a block of before");
    }
}
