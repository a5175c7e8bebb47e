//! What a column of a ring has beside floats: native histograms, and start timestamps. Most columns have neither.

use crate::functions::window::TimedHistogram;
use std::sync::Arc;
use storage::model::histogram::ResetHint;
use storage::model::value::HISTOGRAM;
use storage::model::{NativeHistogram, TimeMs};

/// See the module; both in time order.
#[derive(Debug, Default)]
pub struct ColumnExtras {
    /// The histograms.
    pub histograms: Vec<TimedHistogram>,
    /// Start timestamps by the time of their sample.
    pub starts: Vec<(TimeMs, TimeMs)>,
}

impl ColumnExtras {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.starts.is_empty()
    }

    /// Adds a histogram, or puts it into the place of another. As in the store: one that comes late is a new neighbour to
    /// the next one, and what that one knew of its old neighbour is void.
    pub fn add_histogram(&mut self, t: TimeMs, h: Arc<NativeHistogram>) {
        self.remove_histogram(t);
        let at = self.histograms.partition_point(|(other, _)| *other < t);
        if let Some((_, next)) = self.histograms.get_mut(at).filter(|next| next.1.hint == ResetHint::NotReset)
        {
            Arc::make_mut(next).hint = ResetHint::Unknown;
        }
        self.histograms.insert(at, (t, h));
    }

    /// Something else, or nothing, is at `t` now; whether a histogram was.
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
        if self.starts.get(at).is_none_or(|(other, _)| *other != t) {
            self.starts.insert(at, (t, start));
        }
    }

    /// Forgets what is older than `cutoff`; whether nothing is left.
    pub fn trim(&mut self, cutoff: TimeMs) -> bool {
        self.histograms.drain(..self.histograms.partition_point(|(t, _)| *t < cutoff));
        self.starts.drain(..self.starts.partition_point(|(t, _)| *t < cutoff));
        self.is_empty()
    }

    /// Bytes allocated for what finds the histograms; they themselves are the store's.
    pub fn bytes(&self) -> usize {
        self.histograms.capacity() * size_of::<TimedHistogram>()
            + self.starts.capacity() * size_of::<(TimeMs, TimeMs)>()
    }

    /// A column's times and values, with the histograms' among the floats'.
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
        let mut side = ColumnExtras::default();
        side.add_histogram(10, histogram(ResetHint::Unknown));
        side.add_histogram(30, histogram(ResetHint::NotReset));
        side.add_histogram(20, histogram(ResetHint::Unknown));
        let hints: Vec<_> = side.histograms.iter().map(|(t, h)| (*t, h.hint)).collect();
        assert_eq!(hints, [10, 20, 30].map(|t| (t, ResetHint::Unknown)));
        side.add_histogram(30, histogram(ResetHint::NotReset));
        // The store takes the old one away and adds the new one, as one that comes late.
        side.add_histogram(20, histogram(ResetHint::Unknown));
        assert_eq!((side.histograms.len(), side.histograms[2].1.hint), (3, ResetHint::Unknown));
        side.add_start(20, 5);
        assert!(!side.trim(20));
        assert_eq!((side.histograms.len(), side.starts.len()), (2, 1));
        assert_eq!(side.among(&[25], &[1.0]).0, [20, 25, 30]);
        assert!(side.remove_histogram(20) && !side.remove_histogram(20));
        assert_eq!(side.histograms.len(), 1);
        assert!(side.trim(31));
    }
}
