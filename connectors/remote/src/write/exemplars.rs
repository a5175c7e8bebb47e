//! The exemplars of a queue of remote write 2.0. An entry of that message needs a sample or a
//! histogram, and receivers refuse one that has only an exemplar. So exemplars wait here for the
//! next item of their series ([`WaitingExemplars`]), and go along with it.

use crate::limits::{EXEMPLARS_AT_ONCE, WAITING_EXEMPLARS};
use hashbrown::HashMap;
use storage::exemplars::Exemplar;
use storage::model::{SeriesRef, TimeMs};

/// Exemplars that wait for an item of their series.
#[derive(Default)]
pub(super) struct WaitingExemplars {
    by_series: HashMap<SeriesRef, Vec<Exemplar>>,
    count: usize,
}

impl WaitingExemplars {
    /// Whether as many as a queue takes at a time may be added.
    pub(super) fn has_room(&self) -> bool {
        self.count + EXEMPLARS_AT_ONCE <= WAITING_EXEMPLARS
    }

    /// Adds one. The caller has asked for room.
    pub(super) fn add(&mut self, series: SeriesRef, exemplar: Exemplar) {
        self.by_series.entry(series).or_default().push(exemplar);
        self.count += 1;
    }

    /// Takes at most `most` of a series that go with an item of the time `t`: an exemplar belongs
    /// to the first item that is not older than itself. So after an outage each meets its own
    /// sample. Those that are too many go with the next item.
    pub(super) fn take(&mut self, series: SeriesRef, t: TimeMs, most: usize) -> Vec<Exemplar> {
        // By far the most samples have none.
        if self.count == 0 {
            return Vec::new();
        }
        let Some(waiting) = self.by_series.get_mut(&series) else { return Vec::new() };
        let taken: Vec<Exemplar> = waiting.extract_if(.., |exemplar| exemplar.t <= t).take(most).collect();
        if waiting.is_empty() {
            self.by_series.remove(&series);
        }
        self.count -= taken.len();
        taken
    }

    /// Removes those of before `oldest`: their series has ended. Returns how many.
    pub(super) fn drop_before(&mut self, oldest: TimeMs) -> usize {
        let before = self.count;
        self.by_series.retain(|_, waiting| {
            let length = waiting.len();
            waiting.retain(|exemplar| exemplar.t >= oldest);
            self.count -= length - waiting.len();
            !waiting.is_empty()
        });
        before - self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::model::Labels;

    #[test]
    fn an_exemplar_goes_with_the_first_item_that_is_not_older() {
        let [a, b] = [1, 2].map(|slot| SeriesRef { shard: 0, slot });
        let mut waiting = WaitingExemplars::default();
        for (series, t) in [(a, 10), (a, 20), (b, 15), (a, 12), (a, 21), (a, 22)] {
            waiting.add(series, Exemplar { labels: Labels::default(), t, v: 1.0 });
        }
        let mut times = |series, t| -> Vec<TimeMs> {
            waiting.take(series, t, 2).iter().map(|exemplar| exemplar.t).collect()
        };
        // (series, time of its item, the exemplars that go along)
        let steps: [(SeriesRef, TimeMs, &[TimeMs]); 7] = [
            (a, 9, &[]),
            (a, 12, &[10, 12]),
            (a, 19, &[]),
            (a, 30, &[20, 21]),
            (a, 40, &[22]),
            (a, 50, &[]),
            (b, 14, &[]),
        ];
        for (series, t, expected) in steps {
            assert_eq!(times(series, t), expected, "{series:?} at {t}");
        }
        assert_eq!([waiting.drop_before(15), waiting.drop_before(16), waiting.drop_before(99)], [0, 1, 0]);
        assert_eq!(waiting.count, 0);
        assert!(waiting.by_series.is_empty());
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut waiting = WaitingExemplars::default();
        let mut slot = 0;
        while waiting.has_room() {
            for _ in 0..EXEMPLARS_AT_ONCE {
                slot += 1;
                waiting
                    .add(SeriesRef { shard: 0, slot }, Exemplar { labels: Labels::default(), t: 0, v: 1.0 });
            }
        }
        assert_eq!(slot as usize, WAITING_EXEMPLARS);
    }
}
