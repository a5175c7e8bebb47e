//! What readers and writers of exemplars need of the head: methods of [`Store`] beside
//! [`crate::exemplars`], which keeps the exemplars and knows series only by their numbers.

use super::Store;
use crate::exemplars::SeriesExemplars;
use crate::model::{Matcher, SeriesRef, TimeMs};

impl Store {
    /// Whether the head has this sample: the value `v` of a series at `t`, or with `None` a native
    /// histogram.
    pub fn has_sample(&self, series: SeriesRef, t: TimeMs, v: Option<f64>) -> bool {
        let shard = self.shards.get(series.shard).read();
        match v {
            Some(v) => shard.head.at(series.slot, t).is_some_and(|there| there.to_bits() == v.to_bits()),
            None => shard.head.histogram_at(series.slot, t).is_some(),
        }
    }

    /// Whether a series has a sample in the head.
    pub fn has_samples(&self, series: SeriesRef) -> bool {
        self.shards.get(series.shard).read().head.newest_of(series.slot).is_some()
    }

    /// The exemplars in `from..=to` of the series that satisfy any of the matcher sets, sorted by
    /// labels.
    pub fn select_exemplars(&self, sets: &[Vec<Matcher>], from: TimeMs, to: TimeMs) -> Vec<SeriesExemplars> {
        let mut found = self.exemplars.select(from, to);
        // In the order of slots: labels of inactive series are compressed together with their
        // neighbours'.
        found.sort_unstable_by_key(|(series, _)| *series);
        let labelled = found
            .into_iter()
            .map(|(series, exemplars)| SeriesExemplars { labels: self.labels(series), exemplars });
        let hit = |set: &Vec<Matcher>, series: &SeriesExemplars| {
            set.iter().all(|matcher| matcher.matches_labels(&series.labels))
        };
        let mut hits: Vec<SeriesExemplars> =
            labelled.filter(|series| sets.iter().any(|set| hit(set, series))).collect();
        hits.sort_by(|a, b| a.labels.cmp(&b.labels));
        hits
    }
}
