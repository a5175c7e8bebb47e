//! Log of single values that were changed in rows before the newest (a row is one time). Functions
//! that keep the values of a window in another form, such as sorted, apply these edits instead of
//! reading all rows again. [`change_log`](super::change_log) has the same changes by row, for
//! functions that read rows again.

use crate::functions::sorted_window::RowEdit;

/// The latest edits of a block.
#[derive(Debug, Default)]
pub(super) struct EditLog {
    count: u64,
    /// The latest edits.
    log: Vec<RowEdit>,
}

/// Number of edits kept in addition to two per column: enough for one and a half late scrapes.
const MORE_EDITS: usize = 16;

impl EditLog {
    /// Number of edits so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Adds an edit, in a block of `columns` columns.
    pub(super) fn add(&mut self, edit: RowEdit, columns: usize) {
        if self.log.len() >= MORE_EDITS + 2 * columns {
            // Half at a time, so that a steady stream of late samples does not move the list for
            // each of them.
            self.log.drain(..self.log.len() / 2);
        }
        self.log.push(edit);
        self.count += 1;
    }

    /// Something changed that is not recorded as an edit: readers must begin again.
    pub(super) fn void(&mut self) {
        self.log = Vec::new();
        self.count += 1;
    }

    /// The edits after the first `count`; `None` if they are not known any more.
    pub(super) fn since(&self, count: u64) -> Option<&[RowEdit]> {
        // A reader whose count is larger has seen another block: its state belongs to a ring that
        // was replaced.
        let missed = usize::try_from(self.count.checked_sub(count)?).ok()?;
        Some(&self.log[self.log.len().checked_sub(missed)?..])
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
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
        for at in 0..18 {
            edits.add(RowEdit::Row(at), 1);
        }
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
