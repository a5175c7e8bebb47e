//! Exemplars: single observations with labels of their own (usually a trace id) that a sample
//! refers to.
//!
//! Only the latest are kept, in memory, up to [`Exemplars::set_limit`]; a restart forgets them. A
//! scrape returns the same exemplars again and again. An exemplar that is not newer than the newest
//! of its series (by time, value and labels) is either known or late; late ones are accepted within
//! the window of late samples.

use crate::limits::EXEMPLAR_LABELS;
use crate::metrics::{Counter, Gauge, Metrics};
use crate::model::{Labels, SeriesRef, TimeMs};
use crate::shared_metrics;
use parking_lot::Mutex;
use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// One exemplar.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Its own labels, not those of the series.
    pub labels: Labels,
    /// When it was observed, ms.
    pub t: TimeMs,
    /// The observed value.
    pub v: f64,
}

/// An exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarRow {
    /// The series that the exemplar belongs to.
    pub series: SeriesRef,
    /// Its labels, value and time.
    pub exemplar: Exemplar,
    /// Whether its timestamp is its own, and not that of the sample it came with. If so, the next
    /// scrape returns it with the same timestamp.
    pub timed: bool,
}

/// The exemplars of a series, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesExemplars {
    /// The labels of the series.
    pub labels: Labels,
    /// Its exemplars, oldest first.
    pub exemplars: Vec<Exemplar>,
}

/// The result of adding exemplars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExemplarsAdded {
    /// Number accepted: stored, or known already, or ignored because exemplars are disabled.
    pub accepted: usize,
    /// Indexes of those that are too much older than the newest of their series.
    pub out_of_order: Vec<usize>,
    /// Number of those with labels longer than 128 characters.
    pub too_long: usize,
}

/// Exemplars that were added lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecentExemplars {
    /// With their series, oldest first.
    pub exemplars: Vec<(SeriesRef, Exemplar)>,
    /// For the next call: how many were ever added up to the last of these.
    pub seen: u64,
}

/// The latest exemplars of all series.
pub struct Exemplars {
    ring: Mutex<ExemplarBuffer>,
    /// How much older than the newest of its series an exemplar may be, ms.
    window: i64,
    appended: Arc<Counter>,
    out_of_order: Arc<Counter>,
    stored: Arc<Gauge>,
    series: Arc<Gauge>,
    last: Arc<Gauge>,
    most: Arc<Gauge>,
}

#[derive(Default)]
struct ExemplarBuffer {
    limit: usize,
    /// The exemplars of each series, by time.
    by_series: HashMap<SeriesRef, VecDeque<ExemplarEntry>>,
    /// The positions of all exemplars, in the order in which they were added.
    order: VecDeque<ExemplarPosition>,
    /// Number of exemplars ever added.
    came: u64,
}

struct ExemplarEntry {
    exemplar: Exemplar,
    timed: bool,
    /// The running number with which it was added.
    number: u64,
}

/// Identifies a stored exemplar.
struct ExemplarPosition {
    series: SeriesRef,
    t: TimeMs,
    number: u64,
}

/// The decision about an exemplar.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum ExemplarDecision {
    Store,
    Known,
    OutOfOrder,
}

impl Exemplars {
    /// Keeps no exemplars before [`Exemplars::set_limit`]. An exemplar less than `window` ms older
    /// than the newest of its series is inserted at its place; with 0 none is.
    pub fn new(window: i64, metrics: &Metrics) -> Exemplars {
        Exemplars {
            ring: Mutex::default(),
            window,
            appended: shared_metrics::appended_exemplars(metrics),
            out_of_order: metrics.counter(
                "prometheus_tsdb_exemplar_out_of_order_exemplars_total",
                "Exemplars refused: too much older than the newest of their series.",
                &[],
            ),
            stored: metrics.gauge(
                "prometheus_tsdb_exemplar_exemplars_in_storage",
                "Exemplars in memory.",
                &[],
            ),
            series: metrics.gauge(
                "prometheus_tsdb_exemplar_series_with_exemplars_in_storage",
                "Series with exemplars in memory.",
                &[],
            ),
            last: metrics.gauge(
                "prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds",
                "Time of the exemplar in memory that was added first.",
                &[],
            ),
            most: metrics.gauge(
                "prometheus_tsdb_exemplar_max_exemplars",
                "Maximum number of exemplars in memory.",
                &[],
            ),
        }
    }

    /// Sets the maximum number of exemplars; 0 removes all and disables them.
    pub fn set_limit(&self, limit: usize) {
        let mut ring = self.ring.lock();
        ring.limit = limit;
        ring.shrink();
        self.most.set(limit as f64);
        self.tell(&ring);
    }

    fn tell(&self, ring: &ExemplarBuffer) {
        self.stored.set(ring.order.len() as f64);
        self.series.set(ring.by_series.len() as f64);
        self.last.set(ring.order.front().map_or(0.0, |first| first.t as f64 / 1000.0));
    }

    /// Whether exemplars are kept. If not, they need not be parsed.
    pub fn enabled(&self) -> bool {
        self.ring.lock().limit > 0
    }

    /// Adds exemplars in this order. As in Prometheus, each is compared with the exemplars stored
    /// before the call, and refusals are reported. An exemplar that is older than another one of
    /// the same call is not reported, but only counted.
    pub fn add(&self, rows: Vec<ExemplarRow>) -> ExemplarsAdded {
        let mut added = ExemplarsAdded::default();
        let mut ring = self.ring.lock();
        if ring.limit == 0 {
            // As Prometheus with the feature off: exemplars are accepted, and lost.
            added.accepted = rows.len();
            return added;
        }
        let mut fit = Vec::with_capacity(rows.len());
        for (n, row) in rows.into_iter().enumerate() {
            if characters(&row.exemplar.labels) > EXEMPLAR_LABELS {
                added.too_long += 1;
            // Compared with what was stored before the call: a sender that sends a series twice in
            // one request gets no error for it.
            } else if ring.judge(&row, self.window) == ExemplarDecision::OutOfOrder {
                added.out_of_order.push(n);
            } else {
                fit.push(row);
            }
        }
        added.accepted = fit.len();
        for row in fit {
            // Once more, because exemplars of the same call were added since.
            match ring.judge(&row, self.window) {
                ExemplarDecision::Known => {}
                ExemplarDecision::OutOfOrder => self.out_of_order.inc(),
                ExemplarDecision::Store => self.appended.add(u64::from(ring.put(row))),
            }
        }
        self.tell(&ring);
        added
    }

    /// The exemplars in `from..=to`, for all series that have any.
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

impl Exemplars {
    /// The exemplars that were added after the first `seen` ones, oldest first, at most `most`.
    pub fn added_since(&self, seen: u64, most: usize) -> RecentExemplars {
        let ring = self.ring.lock();
        let first = ring.order.partition_point(|position| position.number < seen);
        let mut recent = RecentExemplars { exemplars: Vec::new(), seen: ring.came };
        for position in ring.order.range(first..) {
            if recent.exemplars.len() == most {
                recent.seen = position.number;
                break;
            }
            let all = ring.by_series.get(&position.series);
            let entry = all.and_then(|all| all.iter().find(|entry| entry.number == position.number));
            recent.exemplars.extend(entry.map(|entry| (position.series, entry.exemplar.clone())));
        }
        recent
    }
}

impl ExemplarBuffer {
    /// Decides about an exemplar by comparing it with the newest of its series only: scrapes return
    /// the same ones again and again.
    fn judge(&self, row: &ExemplarRow, window: i64) -> ExemplarDecision {
        let Some(newest) = self.by_series.get(&row.series).and_then(VecDeque::back) else {
            return ExemplarDecision::Store;
        };
        let a = &row.exemplar;
        let b = &newest.exemplar;
        let same_value = a.v.to_bits() == b.v.to_bits();
        // Without a timestamp of its own an exemplar gets that of the scrape, so the same one has
        // another time in each scrape.
        let same_time = a.t == b.t || (!row.timed && !newest.timed);
        if same_time && same_value && a.labels == b.labels {
            return ExemplarDecision::Known;
        }
        // Exemplars with the same time and value are ordered by Prometheus' hash of their labels.
        let is_behind = match a.t.cmp(&b.t) {
            Ordering::Greater => false,
            // Late, but within the window: it is stored at its place.
            Ordering::Less => a.t <= b.t.saturating_sub(window),
            Ordering::Equal => {
                a.v < b.v || (same_value && a.labels.sampling_hash() < b.labels.sampling_hash())
            }
        };
        if is_behind { ExemplarDecision::OutOfOrder } else { ExemplarDecision::Store }
    }

    /// Inserts an exemplar at its place. Returns whether it was stored: between others, one with
    /// the same time counts as the same, as in Prometheus.
    fn put(&mut self, row: ExemplarRow) -> bool {
        let ExemplarRow { series, exemplar, timed } = row;
        let t = exemplar.t;
        let number = self.came;
        let entries = self.by_series.entry(series).or_default();
        let at = entries.partition_point(|entry| entry.exemplar.t <= t);
        let is_between = at > 0 && at < entries.len();
        if is_between && entries[at - 1].exemplar.t == t {
            return false;
        }
        self.came += 1;
        entries.insert(at, ExemplarEntry { exemplar, timed, number });
        self.order.push_back(ExemplarPosition { series, t, number });
        self.shrink();
        true
    }

    /// Removes the exemplars that were added first, until the limit is kept.
    fn shrink(&mut self) {
        while self.order.len() > self.limit {
            let Some(ExemplarPosition { series, t, number }) = self.order.pop_front() else { return };
            let Some(entries) = self.by_series.get_mut(&series) else { continue };
            let first = entries.partition_point(|entry| entry.exemplar.t < t);
            let place = entries.range(first..).position(|entry| entry.number == number);
            if let Some(place) = place {
                entries.remove(first + place);
            }
            if entries.is_empty() {
                self.by_series.remove(&series);
            }
        }
    }
}

/// Number of characters of names and values.
fn characters(labels: &Labels) -> usize {
    labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
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

    /// How many were stored, and which were reported as out of order.
    fn add(exemplars: &Exemplars, rows: Vec<ExemplarRow>) -> (u64, Vec<usize>) {
        let before = exemplars.appended.get();
        let added = exemplars.add(rows);
        (exemplars.appended.get() - before, added.out_of_order)
    }

    #[test]
    fn late_ones_find_their_place_within_the_window() {
        let exemplars = Exemplars::new(100, &Metrics::default());
        exemplars.set_limit(5);
        add(&exemplars, vec![row(1, 1_000, 1.0, "a")]);
        let late =
            vec![row(1, 901, 1.0, "b"), row(1, 900, 1.0, "c"), row(1, 950, 1.0, "d"), row(1, 950, 2.0, "e")];
        assert_eq!(add(&exemplars, late), (2, vec![1]), "between others one at a time");
        assert_eq!(kept(&exemplars, 0, 9_999), [(1, 901, 1.0), (1, 950, 1.0), (1, 1_000, 1.0)]);
        assert_eq!(add(&exemplars, vec![row(1, 950, 3.0, "f")]), (0, vec![]), "known, it is assumed");
        assert_eq!(add(&exemplars, vec![row(1, 901, 3.0, "g")]), (0, vec![]));
        add(&exemplars, vec![row(1, 990, 1.0, "h"), row(1, 1_010, 1.0, "i"), row(1, 1_020, 1.0, "j")]);
        let times = kept(&exemplars, 0, 9_999).into_iter().map(|(_, t, _)| t);
        assert_eq!(times.collect::<Vec<_>>(), [901, 950, 990, 1_010, 1_020], "the first that came has gone");
        let told = [&exemplars.stored, &exemplars.series, &exemplars.last].map(|gauge| gauge.get());
        assert_eq!(told, [5.0, 1.0, 0.901]);
    }

    #[test]
    fn those_of_one_request_are_compared_with_what_was_there_before() {
        let exemplars = Exemplars::new(10, &Metrics::default());
        exemplars.set_limit(5);
        let added =
            exemplars.add(vec![row(1, 1_000, 1.0, "a"), row(1, 900, 1.0, "b"), row(1, 1_000, 1.0, "a")]);
        assert_eq!(added, ExemplarsAdded { accepted: 3, ..ExemplarsAdded::default() });
        assert_eq!(exemplars.out_of_order.get(), 1, "silently");
        assert_eq!(add(&exemplars, vec![row(1, 900, 1.0, "b")]), (0, vec![0]));
        assert_eq!(exemplars.out_of_order.get(), 1, "told");
    }

    #[test]
    fn the_latest_stay_and_the_order_is_kept() {
        let exemplars = Exemplars::new(0, &Metrics::default());
        assert_eq!(add(&exemplars, vec![row(1, 1, 1.0, "a")]), (0, vec![]), "none before a limit");
        exemplars.set_limit(4);
        add(&exemplars, vec![row(1, 10, 1.0, "a"), row(1, 10, 1.0, "a"), row(1, 10, 2.0, "a")]);
        let more = vec![row(1, 10, 1.0, "z"), row(1, 9, 3.0, "a"), row(2, 5, 1.0, "a")];
        assert_eq!(add(&exemplars, more), (1, vec![0, 1]));
        assert_eq!(kept(&exemplars, 0, 99), [(1, 10, 1.0), (1, 10, 2.0), (2, 5, 1.0)]);
        assert_eq!(kept(&exemplars, 6, 10), [(1, 10, 1.0), (1, 10, 2.0)]);
        exemplars.add(vec![row(2, 6, 1.0, "a"), row(2, 7, 1.0, "a")]);
        assert_eq!(kept(&exemplars, 0, 99), [(1, 10, 2.0), (2, 5, 1.0), (2, 6, 1.0), (2, 7, 1.0)]);
        exemplars.set_limit(2);
        assert_eq!(kept(&exemplars, 0, 99), [(2, 6, 1.0), (2, 7, 1.0)]);
        exemplars.set_limit(0);
        assert!(!exemplars.enabled() && kept(&exemplars, 0, 99).is_empty());
    }

    #[test]
    fn an_exemplar_without_a_time_is_the_same_as_long_as_it_says_the_same() {
        let exemplars = Exemplars::new(0, &Metrics::default());
        exemplars.set_limit(4);
        let untimed = |t, v| ExemplarRow { timed: false, ..row(1, t, v, "a") };
        exemplars.add(vec![untimed(1, 1.0), untimed(2, 1.0), untimed(3, 2.0), untimed(4, 2.0)]);
        assert_eq!(kept(&exemplars, 0, 99), [(1, 1, 1.0), (1, 3, 2.0)]);
    }

    #[test]
    fn labels_have_a_length() {
        let exemplars = Exemplars::new(0, &Metrics::default());
        exemplars.set_limit(4);
        let added = exemplars.add(vec![row(1, 1, 1.0, &"ä".repeat(120)), row(1, 2, 1.0, &"ä".repeat(121))]);
        assert_eq!(added, ExemplarsAdded { accepted: 1, out_of_order: vec![], too_long: 1 });
    }
}
