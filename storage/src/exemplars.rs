//! Exemplars: single observations with labels of their own (a trace id, mostly) that a sample points to.
//!
//! Only the latest are kept, in memory, as many as [`Exemplars::set_limit`] says; a restart forgets them. Within a series
//! they come in order of time, then value, then labels, because a scrape shows the same ones again and again: what
//! is not behind the newest in that order is known or too late.

use crate::limits::EXEMPLAR_LABELS;
use crate::metrics::{Counter, Gauge, Metrics};
use crate::model::{Labels, SeriesRef, TimeMs};
use parking_lot::Mutex;
use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// One exemplar.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Its own labels, not those of its series.
    pub labels: Labels,
    /// When it was observed, ms.
    pub t: TimeMs,
    /// What was observed.
    pub v: f64,
}

/// An exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarRow {
    /// The series.
    pub series: SeriesRef,
    /// The exemplar.
    pub exemplar: Exemplar,
    /// Whether its time is its own and not that of the sample it came with: then a scrape that shows it again shows
    /// the same time.
    pub timed: bool,
}

/// The exemplars of a series, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesExemplars {
    /// The labels of the series.
    pub labels: Labels,
    /// Its exemplars.
    pub exemplars: Vec<Exemplar>,
}

/// What became of exemplars.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ExemplarsAdded {
    /// Kept.
    pub stored: usize,
    /// Behind the newest one of their series.
    pub out_of_order: usize,
    /// Labels longer than 128 characters.
    pub too_long: usize,
}

/// The latest exemplars of all series.
pub struct Exemplars {
    ring: Mutex<Ring>,
    appended: Arc<Counter>,
    out_of_order: Arc<Counter>,
    kept: Arc<Gauge>,
    most: Arc<Gauge>,
}

#[derive(Default)]
struct Ring {
    limit: usize,
    by_series: HashMap<SeriesRef, VecDeque<Entry>>,
    /// The series in the order in which exemplars came; one entry each.
    order: VecDeque<SeriesRef>,
}

struct Entry {
    exemplar: Exemplar,
    timed: bool,
}

impl Exemplars {
    /// None are kept before [`Exemplars::set_limit`].
    pub fn new(metrics: &Metrics) -> Exemplars {
        Exemplars {
            ring: Mutex::default(),
            appended: metrics.counter(
                "prometheus_tsdb_exemplar_exemplars_appended_total",
                "Exemplars stored.",
                &[],
            ),
            out_of_order: metrics.counter(
                "prometheus_tsdb_exemplar_out_of_order_exemplars_total",
                "Exemplars refused: behind the newest one of their series.",
                &[],
            ),
            kept: metrics.gauge(
                "prometheus_tsdb_exemplar_exemplars_in_storage",
                "Exemplars that are kept.",
                &[],
            ),
            most: metrics.gauge(
                "prometheus_tsdb_exemplar_max_exemplars",
                "Exemplars that are kept at most.",
                &[],
            ),
        }
    }

    /// From now on at most `limit` are kept; 0 forgets all and takes none.
    pub fn set_limit(&self, limit: usize) {
        let mut ring = self.ring.lock();
        ring.limit = limit;
        ring.shrink();
        self.most.set(limit as f64);
        self.kept.set(ring.order.len() as f64);
    }

    /// Whether any are kept: if not, nobody needs to parse them.
    pub fn enabled(&self) -> bool {
        self.ring.lock().limit > 0
    }

    /// Takes exemplars, in this order.
    pub fn add(&self, rows: impl IntoIterator<Item = ExemplarRow>) -> ExemplarsAdded {
        let mut added = ExemplarsAdded::default();
        let mut ring = self.ring.lock();
        if ring.limit == 0 {
            return added;
        }
        for ExemplarRow { series, exemplar, timed } in rows {
            if characters(&exemplar.labels) > EXEMPLAR_LABELS {
                added.too_long += 1;
                continue;
            }
            let newest = ring.by_series.get(&series).and_then(VecDeque::back);
            let new = Entry { exemplar, timed };
            match newest.map_or(Ordering::Greater, |newest| compare(&new, newest)) {
                Ordering::Less => added.out_of_order += 1,
                Ordering::Equal => (),
                Ordering::Greater => {
                    added.stored += 1;
                    ring.by_series.entry(series).or_default().push_back(new);
                    ring.order.push_back(series);
                    ring.shrink();
                }
            }
        }
        self.appended.add(added.stored as u64);
        self.out_of_order.add(added.out_of_order as u64);
        self.kept.set(ring.order.len() as f64);
        added
    }

    /// The exemplars in `from..=to` of all series that have some.
    pub fn select(&self, from: TimeMs, to: TimeMs) -> Vec<(SeriesRef, Vec<Exemplar>)> {
        let ring = self.ring.lock();
        let mut found = Vec::new();
        for (series, all) in &ring.by_series {
            let first = all.partition_point(|e| e.exemplar.t < from);
            let hits = all.range(first..).map(|e| &e.exemplar).take_while(|e| e.t <= to);
            let hits: Vec<Exemplar> = hits.cloned().collect();
            if !hits.is_empty() {
                found.push((*series, hits));
            }
        }
        found
    }
}

impl Ring {
    fn shrink(&mut self) {
        while self.order.len() > self.limit {
            let Some(series) = self.order.pop_front() else { return };
            let Some(exemplars) = self.by_series.get_mut(&series) else { continue };
            exemplars.pop_front();
            if exemplars.is_empty() {
                self.by_series.remove(&series);
            }
        }
    }
}

/// Characters of names and values.
fn characters(labels: &Labels) -> usize {
    labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
}

/// The order of exemplars of one series. Two without a time of their own are the same if they say the same.
fn compare(new: &Entry, newest: &Entry) -> Ordering {
    let (a, b) = (&new.exemplar, &newest.exemplar);
    if !new.timed && !newest.timed && a.v.to_bits() == b.v.to_bits() && a.labels == b.labels {
        return Ordering::Equal;
    }
    let value = || a.v.partial_cmp(&b.v).unwrap_or_else(|| a.v.to_bits().cmp(&b.v.to_bits()));
    a.t.cmp(&b.t).then_with(value).then_with(|| a.labels.cmp(&b.labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(slot: u32, t: TimeMs, v: f64, id: &str) -> ExemplarRow {
        let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", id)]), t, v };
        ExemplarRow { series: SeriesRef { shard: 0, slot }, exemplar, timed: true }
    }

    fn kept(exemplars: &Exemplars, from: TimeMs, to: TimeMs) -> Vec<(u32, TimeMs, f64)> {
        let found = exemplars.select(from, to).into_iter();
        let mut all: Vec<_> =
            found.flat_map(|(series, all)| all.into_iter().map(move |e| (series.slot, e.t, e.v))).collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        all
    }

    #[test]
    fn the_latest_stay_and_the_order_is_kept() {
        let exemplars = Exemplars::new(&Metrics::default());
        assert_eq!(exemplars.add([row(1, 1, 1.0, "a")]), ExemplarsAdded::default(), "none before a limit");
        exemplars.set_limit(4);
        let added = exemplars.add([
            row(1, 10, 1.0, "a"),
            row(1, 10, 1.0, "a"),
            row(1, 10, 2.0, "a"),
            row(1, 10, 1.0, "z"),
            row(1, 9, 3.0, "a"),
            row(2, 5, 1.0, "a"),
        ]);
        assert_eq!(added, ExemplarsAdded { stored: 3, out_of_order: 2, too_long: 0 });
        assert_eq!(kept(&exemplars, 0, 99), [(1, 10, 1.0), (1, 10, 2.0), (2, 5, 1.0)]);
        assert_eq!(kept(&exemplars, 6, 10), [(1, 10, 1.0), (1, 10, 2.0)]);
        exemplars.add([row(2, 6, 1.0, "a"), row(2, 7, 1.0, "a")]);
        assert_eq!(kept(&exemplars, 0, 99), [(1, 10, 2.0), (2, 5, 1.0), (2, 6, 1.0), (2, 7, 1.0)]);
        exemplars.set_limit(2);
        assert_eq!(kept(&exemplars, 0, 99), [(2, 6, 1.0), (2, 7, 1.0)]);
        exemplars.set_limit(0);
        assert!(!exemplars.enabled() && kept(&exemplars, 0, 99).is_empty());
    }

    #[test]
    fn an_exemplar_without_a_time_is_the_same_as_long_as_it_says_the_same() {
        let exemplars = Exemplars::new(&Metrics::default());
        exemplars.set_limit(4);
        let untimed = |t, v| ExemplarRow { timed: false, ..row(1, t, v, "a") };
        exemplars.add([untimed(1, 1.0), untimed(2, 1.0), untimed(3, 2.0), untimed(4, 2.0)]);
        assert_eq!(kept(&exemplars, 0, 99), [(1, 1, 1.0), (1, 3, 2.0)]);
    }

    #[test]
    fn labels_have_a_length() {
        let exemplars = Exemplars::new(&Metrics::default());
        exemplars.set_limit(4);
        let added = exemplars.add([row(1, 1, 1.0, &"ä".repeat(120)), row(1, 2, 1.0, &"ä".repeat(121))]);
        assert_eq!(added, ExemplarsAdded { stored: 1, out_of_order: 0, too_long: 1 });
    }
}
