//! A series in the head: its labels and where its samples are.

use super::sparse_append::SparseColumns;
use super::ungrouped::UngroupedSamples;
use crate::model::{Labels, TimeMs};

/// A place of a series' samples: a column of a column set.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ColumnRef {
    /// The set's key inside the shard.
    pub set: u32,
    /// The column.
    pub column: u32,
}

/// One series.
#[derive(Default)]
pub struct HeadSeries {
    /// Its labels.
    pub labels: Labels,
    /// The column it has, if it has one only.
    home: Option<ColumnRef>,
    /// Whether it is in the postings: it has samples, or a writer holds on to it.
    pub listed: bool,
    /// Whether the log knows it.
    pub logged: bool,
    aside: Option<Box<RareSeriesData>>,
}

/// What few series have.
#[derive(Default)]
struct RareSeriesData {
    /// Columns of several groups, or of several generations of one.
    homes: Box<[ColumnRef]>,
    rows: Option<Box<UngroupedSamples>>,
    lanes: Option<Box<SparseColumns>>,
}

impl HeadSeries {
    /// Columns it has or had, oldest first; nearly always one.
    pub fn homes(&self) -> &[ColumnRef] {
        match &self.aside {
            Some(aside) if !aside.homes.is_empty() => &aside.homes,
            _ => self.home.as_slice(),
        }
    }

    /// It has another column.
    pub fn add_home(&mut self, home: ColumnRef) {
        self.set_homes(self.homes().iter().copied().chain([home]).collect());
    }

    /// It has no column in `set` any more.
    pub fn remove_home(&mut self, set: u32) {
        self.set_homes(self.homes().iter().copied().filter(|home| home.set != set).collect());
    }

    fn set_homes(&mut self, homes: Vec<ColumnRef>) {
        let several = homes.len() > 1;
        self.home = homes.first().copied().filter(|_| !several);
        if several || self.aside.is_some() {
            self.aside.get_or_insert_default().homes = if several { homes.into() } else { Box::default() };
        }
    }

    /// Samples that came alone.
    pub fn rows(&self) -> Option<&UngroupedSamples> {
        self.aside.as_ref()?.rows.as_deref()
    }

    /// The same, to add some.
    pub fn rows_mut(&mut self) -> &mut UngroupedSamples {
        self.aside.get_or_insert_default().rows.get_or_insert_default()
    }

    /// Native histograms and start timestamps, if it ever had some.
    pub fn lanes(&self) -> Option<&SparseColumns> {
        self.aside.as_ref()?.lanes.as_deref()
    }

    /// The same, to add some.
    pub fn lanes_mut(&mut self) -> &mut SparseColumns {
        self.aside.get_or_insert_default().lanes.get_or_insert_default()
    }

    /// Whether it has samples outside columns, so that those in columns must be checked one by one.
    pub fn is_mixed(&self) -> bool {
        self.rows().is_some() || self.lanes().is_some_and(|lanes| !lanes.histograms.is_empty())
    }

    /// Forgets all samples before `end` that are not in columns.
    pub fn drop_before(&mut self, end: TimeMs) {
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
