//! Log of changes to rows of a [`RingBlock`](super::RingBlock) that are not the newest (a row of a
//! block is one time). Window functions cache summaries of ranges of rows; each remembers the epoch
//! at which it was computed and asks [`RowChangeLog::stable_since`] which rows may be reused.
//! [`super::edit_log`] has the changed values themselves, for functions that apply them.

/// The latest changes of a block.
#[derive(Debug, Default)]
pub(super) struct RowChangeLog {
    /// The epoch: the number of changes so far.
    epoch: u32,
    /// The latest changes, oldest first; their first rows ascend.
    log: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    /// The epoch that the change began.
    epoch: u32,
    /// The number of the first row that changed in this or a later epoch.
    first_row: u32,
}

/// Number of entries. With more changes since `epoch`, [`RowChangeLog::stable_since`] may return an
/// earlier row than necessary, never a later one.
const LOG_ENTRIES: usize = 16;

impl RowChangeLog {
    /// The current epoch.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Row number `row` changed, or a row was inserted before it.
    pub(super) fn add(&mut self, row: u32) {
        self.epoch += 1;
        // Entries for later rows are covered by the new one: whoever missed those must begin at
        // `row` anyway. So rows ascend, and a search finds the first row for an epoch.
        self.log.truncate(self.log.partition_point(|change| change.first_row < row));
        if self.log.len() == LOG_ENTRIES {
            // The two oldest entries become one, with the earlier row: safe for readers of both.
            let oldest = self.log.remove(0);
            self.log[0].first_row = oldest.first_row;
        }
        self.log.push(Change { epoch: self.epoch, first_row: row });
    }

    /// The row before which nothing has changed since `epoch`.
    pub(super) fn stable_since(&self, epoch: u32) -> u32 {
        let first_later_entry = self.log.partition_point(|change| change.epoch <= epoch);
        self.log.get(first_later_entry).map_or(u32::MAX, |change| change.first_row)
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.log.capacity() * size_of::<Change>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_change_is_missed(rows in prop::collection::vec(0u32..1_000, 0..60)) {
            let mut changes = RowChangeLog::default();
            for row in rows.iter() { changes.add(*row); }
            for epoch in 0..=rows.len() {
                let first = rows[epoch..].iter().min().copied().unwrap_or(u32::MAX);
                let stable = changes.stable_since(epoch as u32);
                prop_assert!(stable <= first, "{stable} {first}");
                if epoch + LOG_ENTRIES > rows.len() {
                    prop_assert_eq!(stable, first);
                }
            }
        }
    }
}
