//! The clocks of a block that is being written. A *clock* is a vector of timestamps that many
//! series share; each is stored once per block.
//!
//! All series of one scrape have the same timestamps. A series that lacks some of them (a metric
//! that appeared late, a failed parse) uses the clock of its target and lists the gaps, if there
//! are fewer gaps than samples.
//!
//! The clocks are written last, so all clocks of a block are in memory until then, compressed in
//! the same way as for readers ([`super::timestamps`]).

use super::schema::{self, column, list_builder};
use super::timestamps::TimestampColumn;
use crate::limits::{BLOCK_CLOCK_CANDIDATES, BLOCK_CLOCK_ROWS};
use crate::model::Labels;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use std::collections::HashMap;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The clocks of a block that is being written.
#[derive(Default)]
pub(super) struct TimestampTable {
    /// The index of a clock is its id.
    clocks: Vec<TimestampColumn>,
    by_content: HashMap<u64, Vec<u32>>,
    /// The clocks that a target used recently, most recent first.
    by_target: HashMap<u64, Vec<u32>>,
}

impl TimestampTable {
    /// Number of clocks.
    pub(super) fn len(&self) -> usize {
        self.clocks.len()
    }

    /// Number of timestamps of all clocks together.
    pub(super) fn times(&self) -> u64 {
        self.clocks.iter().map(|clock| clock.len() as u64).sum()
    }

    /// The rows of `clocks.parquet`, in several batches: an uncompressed batch takes eight bytes
    /// per timestamp.
    pub(super) fn batches(&self) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> {
        self.clocks.chunks(BLOCK_CLOCK_ROWS).enumerate().map(|(n, clocks)| {
            let first = (n * BLOCK_CLOCK_ROWS) as u32;
            let mut ts = list_builder::<Int64Type>(false);
            for clock in clocks {
                ts.values().extend(clock.iter().map(Some));
                ts.append(true);
            }
            let ids = UInt32Array::from_iter_values(first..first + clocks.len() as u32);
            RecordBatch::try_new(schema::clocks(), vec![column(ids), column(ts.finish())])
        })
    }

    /// The clock for these timestamps of a series of `target`, and the positions of the clock at
    /// which the series has no sample.
    pub(super) fn find_or_insert(&mut self, target: u64, ts: &[i64]) -> (u32, Vec<u32>) {
        let hash = content(ts);
        let same = self.by_content.get(&hash).into_iter().flatten().copied();
        // Two lists may have the same hash, so they are compared.
        if let Some(id) = same.into_iter().find(|id| self.clocks[*id as usize].iter().eq(ts.iter().copied()))
        {
            self.note(target, id);
            return (id, Vec::new());
        }
        // No clock is equal: look for one of which these timestamps are a subset.
        let candidates = self.by_target.get(&target).map_or(&[][..], Vec::as_slice);
        let subset = candidates.iter().find_map(|id| Some((*id, gaps(&self.clocks[*id as usize], ts)?)));
        // A series that missed some scrapes shares the clock of its target: gaps cost less than a
        // clock.
        if let Some(found) = subset {
            return found;
        }
        let id = self.clocks.len() as u32;
        self.clocks.push(TimestampColumn::new(ts));
        self.by_content.entry(hash).or_default().push(id);
        self.note(target, id);
        (id, Vec::new())
    }

    fn note(&mut self, target: u64, id: u32) {
        let recent = self.by_target.entry(target).or_default();
        if recent.first() != Some(&id) {
            recent.retain(|other| *other != id);
            recent.insert(0, id);
            // A target whose series all have times of their own would otherwise compare each with
            // all others.
            recent.truncate(BLOCK_CLOCK_CANDIDATES);
        }
    }
}

/// A hash of the labels that the series of one target have in common.
pub(super) fn target_of(labels: &Labels) -> u64 {
    let mut hasher = Xxh3::new();
    for name in ["job", "instance"] {
        hasher.update(labels.get(name).unwrap_or("").as_bytes());
        // No text has this byte, so `ab` and `c` differ from `a` and `bc`.
        hasher.update(&[0xff]);
    }
    hasher.digest()
}

fn content(ts: &[i64]) -> u64 {
    let mut bytes = Vec::with_capacity(ts.len() * 8);
    for t in ts.iter() {
        bytes.extend_from_slice(&t.to_le_bytes());
    }
    xxh3_64(&bytes)
}

/// The positions of `clock` that are missing in `ts`. `None` if `ts` is not a subset, or lacks more
/// timestamps than it has.
fn gaps(clock: &TimestampColumn, ts: &[i64]) -> Option<Vec<u32>> {
    if clock.len() < ts.len() || clock.len() - ts.len() > ts.len() {
        return None;
    }
    let mut gaps = Vec::with_capacity(clock.len() - ts.len());
    let mut next = ts.iter().peekable();
    for (at, t) in clock.iter().enumerate() {
        if next.peek() == Some(&&t) {
            next.next();
        } else {
            gaps.push(at as u32);
        }
    }
    next.next().is_none().then_some(gaps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    #[test]
    fn clocks_are_written_some_at_a_time() {
        let clock = |id: usize| (0..id as i64 % 7 + 1).map(|i| id as i64 + i * 15_000).collect::<Vec<_>>();
        let all: Vec<Vec<i64>> = (0..2 * BLOCK_CLOCK_ROWS + 1).map(clock).collect();
        let mut table = TimestampTable::default();
        let placed = all.iter().enumerate().map(|(i, ts)| table.find_or_insert(i as u64, ts));
        assert!(placed.enumerate().all(|(i, found)| found == (i as u32, vec![])));
        assert_eq!(table.find_or_insert(0, &all[5]), (5, vec![]), "it is there");
        assert_eq!((table.len(), table.times()), (all.len(), all.iter().map(Vec::len).sum::<usize>() as u64));
        let mut rows = Vec::new();
        let mut found = Vec::new();
        for batch in table.batches().map(Result::unwrap) {
            rows.push(batch.num_rows());
            let ids = batch.column(0).as_primitive::<arrow::datatypes::UInt32Type>().values();
            for (id, ts) in ids.iter().zip(batch.column(1).as_list::<i32>().iter().flatten()) {
                assert_eq!(*id as usize, found.len());
                found.push(ts.as_primitive::<Int64Type>().values().to_vec());
            }
        }
        assert_eq!((rows, found), (vec![BLOCK_CLOCK_ROWS, BLOCK_CLOCK_ROWS, 1], all));
    }
}
