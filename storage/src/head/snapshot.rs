//! [`HeadSnapshot`]: what a reader takes from a head under its lock, which are references to the
//! immutable chunks, and copies of the few samples that can still change. The reader then works
//! without the lock. [`crate::store`]'s selection reads it together with the blocks.

use super::columns::ColumnsSnapshot;
use super::shard::Head;
use super::sparse_append::SparseColumns;
use super::ungrouped::{UngroupedRange, UngroupedSnapshot};
use crate::model::runs::RunMerger;
use crate::model::{Labels, NativeHistogram, TimeMs};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The samples of some series of one head.
#[derive(Default)]
pub struct HeadSnapshot {
    sets: Vec<ColumnsSnapshot>,
    rows: UngroupedSnapshot,
    series: Vec<SnapshotSeries>,
}

/// One series: columns of the snapshot's sets, ungrouped samples, and sparse columns.
struct SnapshotSeries {
    columns: SnapshotColumns,
    rows: Option<UngroupedRange>,
    sparse: Option<Box<SparseColumns>>,
}

/// (Set, column) pairs; a single pair, the common case, needs no allocation.
enum SnapshotColumns {
    One(u32, u32),
    Many(Vec<(u32, u32)>),
}

impl SnapshotColumns {
    fn add(&mut self, set: u32, column: u32) {
        match self {
            SnapshotColumns::Many(all) if all.is_empty() => *self = SnapshotColumns::One(set, column),
            SnapshotColumns::Many(all) => all.push((set, column)),
            SnapshotColumns::One(s, c) => *self = SnapshotColumns::Many(vec![(*s, *c), (set, column)]),
        }
    }
}

/// The later of two samples; with equal times the second.
pub(super) fn later(a: Option<(TimeMs, f64)>, b: Option<(TimeMs, f64)>) -> Option<(TimeMs, f64)> {
    match (a, b) {
        (Some(a), Some(b)) if a.0 > b.0 => Some(a),
        (a, b) => b.or(a),
    }
}

/// The newest sample cannot be determined without reading all of them.
pub(crate) struct AllMatter;

impl HeadSnapshot {
    /// Reads series `index` (its index in the order of [`Head::snapshot`]). Columns come first, so
    /// that ungrouped samples win at equal times.
    pub(crate) fn read(
        &self,
        index: u32,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
        runs: &mut RunMerger,
    ) {
        let series = &self.series[index as usize];
        let mut column = |set: u32, column: u32, ts: &mut Vec<TimeMs>| {
            self.sets[set as usize].read(column, from, to, ts, vs);
            runs.end(ts);
        };
        match &series.columns {
            SnapshotColumns::One(set, c) => column(*set, *c, ts),
            SnapshotColumns::Many(all) => {
                for (set, c) in all.iter() {
                    column(*set, *c, ts);
                }
            }
        }
        if let Some(rows) = &series.rows {
            let rows = self.rows.slices(rows);
            runs.holes |= rows.holes;
            rows.read(from, to, ts, vs, |ts| runs.end(ts));
        }
    }
}

impl HeadSnapshot {
    /// The newest float of series `index` with `from ≤ t ≤ to`: the last one that
    /// [`HeadSnapshot::read`] would give.
    ///
    /// # Errors
    /// Holes: all samples must be read to know it.
    pub(crate) fn latest(
        &self,
        index: u32,
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Option<(TimeMs, f64)>, AllMatter> {
        let series = &self.series[index as usize];
        let column = |set: u32, column: u32| self.sets[set as usize].latest(column, from, to);
        let mut latest = None;
        match &series.columns {
            SnapshotColumns::One(set, c) => latest = column(*set, *c),
            SnapshotColumns::Many(all) => {
                for (set, c) in all {
                    latest = later(latest, column(*set, *c));
                }
            }
        }
        if let Some(rows) = &series.rows {
            let rows = self.rows.slices(rows);
            // The newest ungrouped value may be a hole, which hides a sample of a column.
            if rows.holes {
                return Err(AllMatter);
            }
            latest = later(latest, rows.latest(from, to));
        }
        Ok(latest)
    }

    fn sparse(&self, index: u32) -> Option<&SparseColumns> {
        self.series[index as usize].sparse.as_deref()
    }

    /// Whether series `index` has histograms.
    pub(crate) fn has_histograms(&self, index: u32) -> bool {
        self.sparse(index).is_some_and(|sparse| !sparse.histograms.is_empty())
    }

    /// Appends the histograms of series `index` in time order.
    pub(crate) fn read_histograms(
        &self,
        index: u32,
        from: TimeMs,
        to: TimeMs,
        out: &mut Vec<(TimeMs, Arc<NativeHistogram>)>,
    ) {
        if let Some(sparse) = self.sparse(index) {
            sparse.histograms.read(from, to, out);
        }
    }

    /// Whether series `index` has start timestamps.
    pub(crate) fn has_starts(&self, index: u32) -> bool {
        self.sparse(index).is_some_and(|sparse| !sparse.starts.is_empty())
    }

    /// Appends the start timestamps of series `index` in time order.
    pub(crate) fn read_starts(&self, index: u32, from: TimeMs, to: TimeMs, out: &mut Vec<(TimeMs, TimeMs)>) {
        if let Some(sparse) = self.sparse(index) {
            sparse.starts.read(from, to, out);
        }
    }

    /// Adds the numbers `k` of the ranges `[k * range, (k + 1) * range)` that may hold samples
    /// before `end`.
    pub fn ranges(&self, range: i64, end: TimeMs, into: &mut BTreeSet<i64>) {
        // Chunks of floats do not cross a multiple of the range, so their first and last time are
        // enough.
        let mut add = |min: TimeMs, max: TimeMs| into.extend([min.div_euclid(range), max.div_euclid(range)]);
        for set in &self.sets {
            set.spans(&mut add);
        }
        self.rows.spans(&mut add);
        let sparse = self.series.iter().filter_map(|series| series.sparse.as_ref());
        // Chunks of sparse columns may cross ranges and `end`: each time is checked.
        for sparse in sparse {
            sparse.histograms.times(|t| {
                if t < end {
                    add(t, t);
                }
            });
        }
    }
}

impl Head {
    /// A snapshot of the samples in `from..=to` of the series in `slots`. Calls `each(slot,
    /// labels)` for each series that has any, in the order of the snapshot.
    pub fn snapshot(
        &self,
        slots: impl IntoIterator<Item = u32>,
        from: TimeMs,
        to: TimeMs,
        mut each: impl FnMut(u32, &Labels),
    ) -> HeadSnapshot {
        let mut out = HeadSnapshot::default();
        let mut taken_sets: HashMap<u32, u32> = HashMap::new();
        for slot in slots {
            let series = &self.series[slot];
            let mut columns = SnapshotColumns::Many(Vec::new());
            let mut any = false;
            for column_ref in series.columns() {
                let Some(set) = self.groups.sets.get(&column_ref.set) else { continue };
                // All series of a set share one copy of its rows and chunks.
                let index = *taken_sets.entry(column_ref.set).or_insert_with(|| {
                    out.sets.push(set.snapshot(from, to));
                    out.sets.len() as u32 - 1
                });
                if out.sets[index as usize].has(column_ref.column) {
                    columns.add(index, column_ref.column);
                    any = true;
                }
            }
            let rows = series.rows().and_then(|rows| out.rows.take(rows, from, to));
            let sparse = series.sparse().map(|sparse| Box::new(sparse.snapshot(from, to)));
            let sparse = sparse.filter(|sparse| !sparse.is_empty());
            if any || rows.is_some() || sparse.as_ref().is_some_and(|sparse| !sparse.histograms.is_empty()) {
                each(slot, &series.labels);
                out.series.push(SnapshotSeries { columns, rows, sparse });
            }
        }
        out
    }
}
