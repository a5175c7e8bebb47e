//! The exemplars with the labels of their series: [`crate::exemplars`] keeps them, and knows series
//! only by their numbers.

use super::Store;
use crate::exemplars::SeriesExemplars;
use crate::model::{Matcher, TimeMs};

impl Store {
    /// The exemplars in `from..=to` of the series that satisfy any of the matcher sets, sorted by
    /// labels.
    pub fn select_exemplars(&self, sets: &[Vec<Matcher>], from: TimeMs, to: TimeMs) -> Vec<SeriesExemplars> {
        let mut found = self.exemplars.select(from, to);
        // In the order of slots: labels of inactive series are compressed together with their
        // neighbours'.
        found.sort_unstable_by_key(|(series, _)| *series);
        let labelled = found
            .into_iter()
            .map(|(series, exemplars)| SeriesExemplars { labels: self.shards.labels(series), exemplars });
        let hit = |set: &Vec<Matcher>, series: &SeriesExemplars| {
            set.iter().all(|matcher| matcher.matches_labels(&series.labels))
        };
        let mut hits: Vec<SeriesExemplars> =
            labelled.filter(|series| sets.iter().any(|set| hit(set, series))).collect();
        hits.sort_by(|a, b| a.labels.cmp(&b.labels));
        hits
    }
}
