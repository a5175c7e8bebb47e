//! Row numbers of a ring that is read again from the store. A *ring* has the recent samples of the
//! series that one selector matches; a row of it is a series. The new ring takes over the numbers
//! of the old one, because the steps that read a ring store their results by row number.

use super::{NO_BLOCK, RowLocation, SampleRing};

impl SampleRing {
    /// Gives each series the row number that it has in `old`; new series get the numbers after
    /// those. A series that only `old` has keeps its number and gets an empty column. Series are
    /// matched by slot (the store's index of a series in the shard), or by labels if they have no
    /// slot yet.
    pub fn renumber_like(&mut self, old: &SampleRing) {
        let mut slots = vec![None; self.labels.len()];
        for (slot, row) in &self.by_slot {
            slots[*row as usize] = Some(*slot);
        }
        let mut labels = old.labels.clone();
        let mut by_slot = old.by_slot.clone();
        let mut slotless = old.slotless.clone();
        let mut numbers = Vec::with_capacity(self.labels.len());
        for (row, own) in std::mem::take(&mut self.labels).into_iter().enumerate() {
            let slot = slots[row];
            // By slot first: it identifies a series for good, and hashing labels costs more.
            let known = slot.and_then(|slot| by_slot.get(&slot)).or_else(|| slotless.get(&own)).copied();
            let number = known.unwrap_or_else(|| {
                labels.push(own.clone());
                labels.len() as u32 - 1
            });
            match slot {
                Some(slot) => {
                    slotless.remove(&own);
                    by_slot.insert(slot, number);
                }
                None => drop(slotless.insert(own, number)),
            }
            numbers.push(number);
        }
        let locations = std::mem::replace(&mut self.locations, vec![RowLocation::NONE; labels.len()]);
        for (row, location) in locations.into_iter().enumerate() {
            self.locations[numbers[row] as usize] = location;
        }
        for column in self.blocks.iter_mut().flat_map(|block| &mut block.columns) {
            column.row = numbers[column.row as usize];
        }
        self.labels = labels;
        self.by_slot = by_slot;
        self.slotless = slotless;
        // Computed again when they are needed: they are in the order of rows, and the order has
        // changed.
        self.labels_without_name.clear();
        self.may_have_duplicates |= old.may_have_duplicates;
        self.add_missing_blocks();
    }

    /// Gives each series without a column an empty one in a block of its own, so that the steps
    /// that read the ring evaluate it and find that it has no samples any more.
    fn add_missing_blocks(&mut self) {
        for row in 0..self.locations.len() {
            if self.locations[row].block == NO_BLOCK {
                self.add_own_block(row as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::ring::SingleSample;
    use storage::model::{Labels, Matcher};

    fn labels(series: &str) -> Labels {
        Labels::from_pairs([("__name__", "m"), ("series", series)])
    }

    fn ring(series: &[(u32, &str, f64)]) -> SampleRing {
        let mut ring = SampleRing::new(vec![Matcher::equal("__name__", "m")], 1_000);
        for (slot, series, v) in series {
            ring.push_single(*slot, &labels(series), 10, &SingleSample::Float(*v), 0);
        }
        ring
    }

    #[test]
    fn rows_keep_their_numbers() {
        let old = ring(&[(1, "a", 1.0), (2, "b", 2.0), (3, "c", 3.0)]);
        let mut new = ring(&[(7, "d", 7.0), (3, "c", 30.0), (1, "a", 10.0)]);
        new.renumber_like(&old);
        assert_eq!(new.labels, ["a", "b", "c", "d"].map(labels));
        let mut rows = vec![None; 4];
        for block in new.blocks.iter().filter(|block| !block.clock().is_empty()) {
            rows[block.columns[0].row as usize] = Some(block.value(block.base(), 0));
        }
        assert_eq!(rows, [Some(10.0), None, Some(30.0), Some(7.0)]);
        // New samples find their rows, also those of rows that only the old ring had.
        for (slot, series, row) in [(7, "d", 3), (2, "b", 1), (9, "e", 4)] {
            new.push_single(slot, &labels(series), 20, &SingleSample::Float(0.5), 0);
            let location = new.locations[row];
            let block = &new.blocks[location.block as usize];
            let newest = block.base() + block.clock().len() as u32 - 1;
            assert_eq!(block.columns[location.column as usize].row, row as u32);
            assert_eq!(block.value(newest, location.column as usize), 0.5);
        }
    }
}
