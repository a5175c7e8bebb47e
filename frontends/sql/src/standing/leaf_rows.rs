//! The rows of a live view that standing statements read.
//!
//! The view tells changes by the numbers of its rows ([`RowChange`]), without labels. [`LeafRows`]
//! are sorted by labels, as the rows of an answer from history are, so [`NumberedLeafRows`] has the
//! place of each number. Places change only when rows come or go.

use datafusion::arrow::array::ArrayRef;
use engine::live::NumberedRows;
use engine::types::histogram_column::SampleRef;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use storage::model::value::{ABSENT, is_absent};
use storage::model::{Labels, NativeHistogram, TimeMs};

/// The rows of a view at one moment, sorted by their labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeafRows {
    /// Changes with each change.
    pub(crate) version: u64,
    /// A number that changes when the set of rows changes.
    pub(crate) shape: u64,
    pub(crate) labels: Arc<Vec<Labels>>,
    /// By row; of a histogram NaN.
    pub(crate) values: Vec<f64>,
    /// By row, where the sample is a histogram.
    pub(crate) histograms: HashMap<u32, Arc<NativeHistogram>>,
    /// Columns that depend only on the labels, for those who read them again.
    pub(crate) columns: Arc<Mutex<HashMap<String, ArrayRef>>>,
}

impl LeafRows {
    /// The histogram of a row.
    pub(crate) fn histogram(&self, i: usize) -> Option<Arc<NativeHistogram>> {
        let place = u32::try_from(i).ok()?;
        self.histograms.get(&place).cloned()
    }

    /// The number of a row; of a histogram there is none.
    pub(crate) fn value(&self, i: usize) -> Option<f64> {
        if self.histogram(i).is_some() { None } else { self.values.get(i).copied() }
    }
}

/// What changed at a tick, by the numbers of rows.
pub(super) struct RowChange {
    pub(super) t: TimeMs,
    /// These are all rows, with new numbers.
    pub(super) is_whole: bool,
    /// The labels of numbers that were not told before.
    labels: Vec<Labels>,
    numbers: Vec<u32>,
    /// By row of the change: its float, NaN for a histogram, ABSENT if the row is gone.
    values: Vec<f64>,
    histograms: Vec<NumberedHistogram>,
}

struct NumberedHistogram {
    number: u32,
    histogram: Arc<NativeHistogram>,
}

/// A row while rows are sorted.
struct SortedRow {
    number: u32,
    value: f64,
    histogram: Option<Arc<NativeHistogram>>,
}

/// The place of a number whose row is gone.
const GONE: u32 = u32::MAX;

/// Rows, and the place that each number of the view has among them.
#[derive(Default)]
pub(super) struct NumberedLeafRows {
    rows: Arc<LeafRows>,
    /// By number; also those of rows that are gone, which the view may show again.
    labels: Vec<Labels>,
    /// By number: its place among the rows, or [`GONE`].
    places: Vec<u32>,
    /// By place: the number.
    numbers: Vec<u32>,
}

impl RowChange {
    /// The rows of an event. The labels of so many numbers are known.
    pub(super) fn new(rows: &NumberedRows<'_>, labelled: usize) -> RowChange {
        let mut histograms = Vec::new();
        let mut value = |number: &u32| match rows.sample(*number) {
            SampleRef::Absent => ABSENT,
            SampleRef::Float(value) => value,
            SampleRef::Histogram(histogram) => {
                histograms.push(NumberedHistogram { number: *number, histogram: histogram.clone() });
                f64::NAN
            }
        };
        let values = rows.changed.iter().map(&mut value).collect();
        RowChange {
            t: rows.t,
            is_whole: rows.is_whole,
            labels: rows.labels.get(labelled..).unwrap_or_default().to_vec(),
            numbers: rows.changed.to_vec(),
            values,
            histograms,
        }
    }

    fn rows(&self) -> impl Iterator<Item = (u32, f64)> {
        self.numbers.iter().copied().zip(self.values.iter().copied())
    }
}

impl NumberedLeafRows {
    pub(super) fn rows(&self) -> Arc<LeafRows> {
        self.rows.clone()
    }

    pub(super) fn apply(&mut self, change: RowChange) {
        if change.is_whole {
            self.labels.clear();
            self.places.clear();
            self.numbers.clear();
        }
        self.labels.extend_from_slice(&change.labels);
        self.places.resize(self.labels.len(), GONE);
        let stays = |(number, value): (u32, f64)| !is_absent(value) && self.place(number) != GONE;
        if change.is_whole || !change.rows().all(stays) {
            return self.reshape(change);
        }
        let places = &self.places;
        let rows = Arc::make_mut(&mut self.rows);
        rows.version += 1;
        for (number, value) in change.rows() {
            let place = places[number as usize];
            rows.values[place as usize] = value;
            if !rows.histograms.is_empty() {
                rows.histograms.remove(&place);
            }
        }
        for NumberedHistogram { number, histogram } in change.histograms {
            rows.histograms.insert(places[number as usize], histogram);
        }
    }

    fn place(&self, number: u32) -> u32 {
        self.places.get(number as usize).copied().unwrap_or(GONE)
    }

    /// Applies a change in which rows appear or vanish.
    fn reshape(&mut self, change: RowChange) {
        for number in &change.numbers {
            if let Some(place) = self.places.get_mut(*number as usize) {
                *place = GONE;
            }
        }
        let mut histograms: HashMap<u32, Arc<NativeHistogram>> =
            change.histograms.iter().map(|h| (h.number, h.histogram.clone())).collect();
        let unchanged = self.numbers.iter().enumerate().filter(|(_, number)| self.place(**number) != GONE);
        let mut all: Vec<SortedRow> = unchanged
            .map(|(place, number)| SortedRow {
                number: *number,
                value: self.rows.values[place],
                histogram: self.rows.histogram(place),
            })
            .collect();
        let present = change.rows().filter(|(_, value)| !is_absent(*value));
        all.extend(present.map(|(number, value)| SortedRow {
            number,
            value,
            histogram: histograms.remove(&number),
        }));
        // The rows that stay are in order already, which a stable sort makes use of.
        all.sort_by(|a, b| self.labels[a.number as usize].cmp(&self.labels[b.number as usize]));
        self.replace(all);
    }

    fn replace(&mut self, all: Vec<SortedRow>) {
        self.places.fill(GONE);
        self.numbers = all.iter().map(|row| row.number).collect();
        let labels = self.numbers.iter().map(|number| self.labels[*number as usize].clone());
        let version = self.rows.version + 1;
        let mut rows = LeafRows {
            version,
            shape: version,
            labels: Arc::new(labels.collect()),
            values: all.iter().map(|row| row.value).collect(),
            ..LeafRows::default()
        };
        for (row, place) in all.into_iter().zip(0_u32..) {
            self.places[row.number as usize] = place;
            rows.histograms.extend(row.histogram.map(|histogram| (place, histogram)));
        }
        self.rows = Arc::new(rows);
    }
}
