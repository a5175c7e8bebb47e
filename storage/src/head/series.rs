//! A series in the head: its labels, and where its samples are. Kept small (40 bytes), because
//! there is one per slot: whatever only few series have is in a box.

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
    home: Option<ColumnRef>,
    /// Whether it is in the postings: it has samples, or a writer's current layout names it.
    pub(super) listed: bool,
    /// Whether the write-ahead log has its series record.
    pub(super) logged: bool,
    aside: Option<Box<RareSeriesData>>,
}

/// What only few series have.
#[derive(Default)]
struct RareSeriesData {
    /// Columns in several groups or in several column sets of one group. Empty if there is at most
    /// one.
    homes: Box<[ColumnRef]>,
    rows: Option<Box<UngroupedSamples>>,
    lanes: Option<Box<SparseColumns>>,
}

impl HeadSeries {
    /// Its columns, current and earlier ones, oldest first; nearly always one.
    pub(super) fn homes(&self) -> &[ColumnRef] {
        match &self.aside {
            Some(aside) if !aside.homes.is_empty() => &aside.homes,
            _ => self.home.as_slice(),
        }
    }

    /// Adds a column.
    pub(super) fn add_home(&mut self, home: ColumnRef) {
        self.set_homes(self.homes().iter().copied().chain([home]).collect());
    }

    /// Removes the column in `set`.
    pub(super) fn remove_home(&mut self, set: u32) {
        self.set_homes(self.homes().iter().copied().filter(|home| home.set != set).collect());
    }

    fn set_homes(&mut self, homes: Vec<ColumnRef>) {
        let several = homes.len() > 1;
        self.home = homes.first().copied().filter(|_| !several);
        if several || self.aside.is_some() {
            self.aside.get_or_insert_default().homes = if several { homes.into() } else { Box::default() };
        }
    }

    /// Its ungrouped samples.
    pub(super) fn rows(&self) -> Option<&UngroupedSamples> {
        self.aside.as_ref()?.rows.as_deref()
    }

    /// Its ungrouped samples, created if needed.
    pub(super) fn rows_mut(&mut self) -> &mut UngroupedSamples {
        self.aside.get_or_insert_default().rows.get_or_insert_default()
    }

    /// Its native histograms and start timestamps, if it has any.
    pub(super) fn lanes(&self) -> Option<&SparseColumns> {
        self.aside.as_ref()?.lanes.as_deref()
    }

    /// Its native histograms and start timestamps, created if needed.
    pub(super) fn lanes_mut(&mut self) -> &mut SparseColumns {
        self.aside.get_or_insert_default().lanes.get_or_insert_default()
    }

    /// Whether it has samples outside columns, so that each of its samples in columns must be
    /// checked.
    pub(super) fn is_mixed(&self) -> bool {
        self.rows().is_some() || self.lanes().is_some_and(|lanes| !lanes.histograms.is_empty())
    }

    /// Drops all samples before `end` that are not in columns.
    pub(super) fn drop_before(&mut self, end: TimeMs) {
        let Some(aside) = &mut self.aside else { return };
        aside.rows.iter_mut().for_each(|rows| rows.drop_before(end));
        aside.rows.take_if(|rows| rows.is_empty());
        aside.lanes.iter_mut().for_each(|lanes| lanes.drop_before(end));
        aside.lanes.take_if(|lanes| lanes.is_empty());
        if aside.homes.is_empty() && aside.rows.is_none() && aside.lanes.is_none() {
            self.aside = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_and_go() {
        let homes: Vec<ColumnRef> = (0..3).map(|set| ColumnRef { set, column: 7 }).collect();
        let mut series = HeadSeries::default();
        for (at, home) in homes.iter().enumerate() {
            assert_eq!(series.homes(), &homes[..at]);
            series.add_home(*home);
        }
        assert_eq!(series.homes(), homes);
        series.remove_home(1);
        assert_eq!(series.homes(), [homes[0], homes[2]]);
        series.remove_home(0);
        assert_eq!(series.homes(), [homes[2]]);
        series.rows_mut().add(1, 1.0, 10);
        series.drop_before(2);
        assert!(series.rows().is_none() && series.aside.is_none());
        series.remove_home(2);
        assert!(series.homes().is_empty());
    }

    #[test]
    fn a_series_is_small() {
        assert_eq!(size_of::<HeadSeries>(), 40);
    }
}
