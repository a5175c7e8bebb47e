//! A series in the head: its labels, and where its samples are. Most series have one column, shared
//! with the other series of their scrape target ([`super::columns`]).
//!
//! Kept small (40 bytes), because there is one per slot (number of a series in its shard): whatever
//! only few series have is in a box.

use super::sparse_append::SparseColumns;
use super::ungrouped::UngroupedSamples;
use crate::model::{Labels, TimeMs};

/// Where samples of a series are: a column of a column set.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnRef {
    /// The key of the column set within the shard.
    pub set: u32,
    /// The number of the column.
    pub column: u32,
}

/// One series of the head.
#[derive(Default)]
pub struct HeadSeries {
    /// The labels; empty while the series is inactive.
    pub(super) labels: Labels,
    /// Its column, if it has exactly one.
    column: Option<ColumnRef>,
    /// Whether it is in the postings: it has samples, or a writer's current layout names it.
    pub(super) listed: bool,
    /// Whether the write-ahead log has its series record.
    pub(super) logged: bool,
    rare: Option<Box<RareSeriesData>>,
}

/// What only few series have.
#[derive(Default)]
struct RareSeriesData {
    /// Columns in several groups or in several column sets of one group. Empty if there is at most
    /// one.
    columns: Box<[ColumnRef]>,
    rows: Option<Box<UngroupedSamples>>,
    sparse: Option<Box<SparseColumns>>,
}

impl HeadSeries {
    /// Its columns, current and earlier ones, oldest first; nearly always one.
    pub(super) fn columns(&self) -> &[ColumnRef] {
        match &self.rare {
            Some(rare) if !rare.columns.is_empty() => &rare.columns,
            _ => self.column.as_slice(),
        }
    }

    /// Adds a column.
    pub(super) fn add_column(&mut self, column_ref: ColumnRef) {
        self.set_columns(self.columns().iter().copied().chain([column_ref]).collect());
    }

    /// Removes the column in `set`.
    pub(super) fn remove_column(&mut self, set: u32) {
        self.set_columns(self.columns().iter().copied().filter(|column_ref| column_ref.set != set).collect());
    }

    fn set_columns(&mut self, column_refs: Vec<ColumnRef>) {
        let several = column_refs.len() > 1;
        self.column = column_refs.first().copied().filter(|_| !several);
        // A series with a single column needs no box.
        if several || self.rare.is_some() {
            self.rare.get_or_insert_default().columns =
                if several { column_refs.into() } else { Box::default() };
        }
    }

    /// Its ungrouped samples.
    pub(super) fn rows(&self) -> Option<&UngroupedSamples> {
        self.rare.as_ref()?.rows.as_deref()
    }

    /// Its ungrouped samples, created if needed.
    pub(super) fn rows_mut(&mut self) -> &mut UngroupedSamples {
        self.rare.get_or_insert_default().rows.get_or_insert_default()
    }

    /// Its native histograms and start timestamps, if it has any.
    pub(super) fn sparse(&self) -> Option<&SparseColumns> {
        self.rare.as_ref()?.sparse.as_deref()
    }

    /// Its native histograms and start timestamps, created if needed.
    pub(super) fn sparse_mut(&mut self) -> &mut SparseColumns {
        self.rare.get_or_insert_default().sparse.get_or_insert_default()
    }

    /// Whether it has samples outside columns, so that each of its samples in columns must be
    /// checked.
    pub(super) fn is_mixed(&self) -> bool {
        self.rows().is_some() || self.sparse().is_some_and(|sparse| !sparse.histograms.is_empty())
    }

    /// Drops all samples before `end` that are not in columns.
    pub(super) fn drop_before(&mut self, end: TimeMs) {
        let Some(rare) = &mut self.rare else { return };
        if let Some(rows) = &mut rare.rows {
            rows.drop_before(end);
        }
        rare.rows.take_if(|rows| rows.is_empty());
        if let Some(sparse) = &mut rare.sparse {
            sparse.drop_before(end);
        }
        rare.sparse.take_if(|sparse| sparse.is_empty());
        // Given back: most series with single samples had them once, after a restart of their
        // target.
        if rare.columns.is_empty() && rare.rows.is_none() && rare.sparse.is_none() {
            self.rare = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_and_go() {
        let column_refs: Vec<ColumnRef> = (0..3).map(|set| ColumnRef { set, column: 7 }).collect();
        let mut series = HeadSeries::default();
        for (at, column_ref) in column_refs.iter().enumerate() {
            assert_eq!(series.columns(), &column_refs[..at]);
            series.add_column(*column_ref);
        }
        assert_eq!(series.columns(), column_refs);
        series.remove_column(1);
        assert_eq!(series.columns(), [column_refs[0], column_refs[2]]);
        series.remove_column(0);
        assert_eq!(series.columns(), [column_refs[2]]);
        series.rows_mut().add(1, 1.0, 10);
        series.drop_before(2);
        assert!(series.rows().is_none() && series.rare.is_none());
        series.remove_column(2);
        assert!(series.columns().is_empty());
    }

    #[test]
    fn a_series_is_small() {
        assert_eq!(size_of::<HeadSeries>(), 40);
    }
}
