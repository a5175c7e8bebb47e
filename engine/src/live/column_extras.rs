//! What a column of a [`ring`](super::ring) (the recent samples of one series) has in addition to
//! floats: native histograms and start timestamps. Most columns have neither, so they are stored
//! apart from the [`CircularMatrix`](super::circular_matrix::CircularMatrix) of floats.

use crate::functions::window::TimedHistogram;
use std::sync::Arc;
use storage::model::histogram::ResetHint;
use storage::model::value::HISTOGRAM;
use storage::model::{NativeHistogram, TimeMs};

/// Histograms and start timestamps of one column, both in time order.
#[derive(Debug, Default)]
pub struct ColumnExtras {
    /// Histograms, by time, ascending.
    pub histograms: Vec<TimedHistogram>,
    /// Pairs of the time of a sample and its start timestamp.
    pub starts: Vec<(TimeMs, TimeMs)>,
}

impl ColumnExtras {
    /// Whether there are neither histograms nor start timestamps.
    pub fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.starts.is_empty()
    }

    /// Adds a histogram, or replaces the one with the same time. As in the store, a late histogram
    /// makes the hint of its successor unknown: that hint was relative to another predecessor.
    pub fn add_histogram(&mut self, t: TimeMs, h: Arc<NativeHistogram>) {
        // Removed and added again, not overwritten: the hint of the successor must be reset as for
        // any late histogram.
        self.remove_histogram(t);
        let at = self.histograms.partition_point(|(other, _)| *other < t);
        if let Some((_, next)) = self.histograms.get_mut(at).filter(|next| next.1.hint == ResetHint::NotReset)
        {
            Arc::make_mut(next).hint = ResetHint::Unknown;
        }
        self.histograms.insert(at, (t, h));
    }

    /// Removes the histogram at `t`. Returns whether there was one.
    pub fn remove_histogram(&mut self, t: TimeMs) -> bool {
        let found = self.histograms.binary_search_by_key(&t, |(other, _)| *other);
        found.is_ok_and(|at| {
            self.histograms.remove(at);
            true
        })
    }

    /// Adds the start timestamp of the sample at `t`.
    pub fn add_start(&mut self, t: TimeMs, start: TimeMs) {
        let at = self.starts.partition_point(|(other, _)| *other < t);
        // The first one stays, like the sample that it belongs to.
        if self.starts.get(at).is_none_or(|(other, _)| *other != t) {
            self.starts.insert(at, (t, start));
        }
    }

    /// Removes what is older than `cutoff`. Returns whether nothing is left.
    pub fn trim(&mut self, cutoff: TimeMs) -> bool {
        self.histograms.drain(..self.histograms.partition_point(|(t, _)| *t < cutoff));
        self.starts.drain(..self.starts.partition_point(|(t, _)| *t < cutoff));
        self.is_empty()
    }

    /// Bytes of the two lists, without the histograms themselves, which the store shares.
    pub fn bytes(&self) -> usize {
        self.histograms.capacity() * size_of::<TimedHistogram>()
            + self.starts.capacity() * size_of::<(TimeMs, TimeMs)>()
    }

    /// The times and values of a column, with a [`HISTOGRAM`] value at the time of each histogram.
    pub fn among(&self, ts: &[TimeMs], vs: &[f64]) -> (Vec<TimeMs>, Vec<f64>) {
        let floats = ts.iter().copied().zip(vs.iter().copied());
        let mut all: Vec<(TimeMs, f64)> =
            floats.chain(self.histograms.iter().map(|(t, _)| (*t, HISTOGRAM))).collect();
        all.sort_by_key(|(t, _)| *t);
        all.into_iter().unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(hint: ResetHint) -> Arc<NativeHistogram> {
        Arc::new(NativeHistogram { hint, ..NativeHistogram::default() })
    }

    #[test]
    fn a_late_histogram_takes_its_successors_knowledge_away() {
        let mut extras = ColumnExtras::default();
        extras.add_histogram(10, histogram(ResetHint::Unknown));
        extras.add_histogram(30, histogram(ResetHint::NotReset));
        extras.add_histogram(20, histogram(ResetHint::Unknown));
        let hints: Vec<_> = extras.histograms.iter().map(|(t, h)| (*t, h.hint)).collect();
        assert_eq!(hints, [10, 20, 30].map(|t| (t, ResetHint::Unknown)));
        extras.add_histogram(30, histogram(ResetHint::NotReset));
        // The store removes the old one and adds the new one as a late sample.
        extras.add_histogram(20, histogram(ResetHint::Unknown));
        assert_eq!((extras.histograms.len(), extras.histograms[2].1.hint), (3, ResetHint::Unknown));
        extras.add_start(20, 5);
        assert!(!extras.trim(20));
        assert_eq!((extras.histograms.len(), extras.starts.len()), (2, 1));
        assert_eq!(extras.among(&[25], &[1.0]).0, [20, 25, 30]);
        assert!(extras.remove_histogram(20) && !extras.remove_histogram(20));
        assert_eq!(extras.histograms.len(), 1);
        assert!(extras.trim(31));
    }
}
