//! Which rows of a block have not changed: functions that keep partial results of rows check
//! whether these are still valid.

/// The changes of a block. Each change begins an epoch.
#[derive(Debug, Default)]
pub(super) struct RowChangeLog {
    epoch: u32,
    /// For each of the latest epochs, the first row that changed in it or in a later one; rows
    /// ascend.
    log: Vec<(u32, u32)>,
}

/// Number of entries. With more changes since `epoch`, [`RowChangeLog::stable_since`] may return an
/// earlier row than necessary, never a later one.
const LOG_ENTRIES: usize = 16;

impl RowChangeLog {
    /// The current epoch.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Row `at` changed, or a row was inserted before it.
    pub(super) fn add(&mut self, at: u32) {
        self.epoch += 1;
        // Entries for later rows are covered by the new one: whoever missed those must begin at
        // `at` anyway. So rows ascend, and a search finds the first row for an epoch.
        self.log.truncate(self.log.partition_point(|(_, row)| *row < at));
        if self.log.len() == LOG_ENTRIES {
            // The two oldest entries become one, with the earlier row: safe for readers of both.
            let (_, first) = self.log.remove(0);
            self.log[0].1 = first;
        }
        self.log.push((self.epoch, at));
    }

    /// The row before which nothing has changed since `epoch`.
    pub(super) fn stable_since(&self, epoch: u32) -> u32 {
        let later = self.log.partition_point(|(of, _)| *of <= epoch);
        self.log.get(later).map_or(u32::MAX, |(_, row)| *row)
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.log.capacity() * size_of::<(u32, u32)>()
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
