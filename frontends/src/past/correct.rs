//! `late_samples: correct`: slots that were evaluated before all their samples had come are computed again, and what
//! differs is corrected in the store.
//!
//! A second after something came late, a niced thread computes the slots that it reaches, rule after rule in the order in
//! which they read each other, and compares with what is stored. What a correction changes reaches the rules above.

use super::arrivals::{Arrivals, Arrived};
use super::ask::{Asker, Stopped};
use super::dirty::{Dirty, LateRule, Seen};
use super::limits::{KNOWN_SERIES, LATE_SETTLE, LATE_SLOTS, PRESENT_SLOTS, TOLERANCE};
use super::slots::{Samples, Slots};
use super::{Listeners, Parts, PastRule};
use engine::query::pool;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use storage::metrics::{Counter, Metrics};
use storage::model::value::is_stale;
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{Corrected, Correction, SeriesSamples};

/// A sample that was changed.
pub(super) type Changed = (TimeMs, Labels, Corrected);

/// Who corrects.
pub(super) struct Corrector {
    parts: Arc<Parts>,
    arrivals: Arc<Arrivals>,
    listeners: Arc<Listeners>,
    state: Mutex<State>,
    /// One pass at a time.
    turn: Mutex<()>,
    corrected: Arc<Counter>,
    refused: Arc<Counter>,
    beyond: Arc<Counter>,
}

/// The sights that a series is in.
type Known = Arc<[Seen]>;

#[derive(Default)]
struct State {
    dirty: Dirty,
    /// The sights of series, by shard and slot.
    known: HashMap<(u16, u32), Known>,
}

impl Corrector {
    pub fn new(parts: Arc<Parts>, listeners: Arc<Listeners>, metrics: &Metrics) -> Corrector {
        let arrivals = Arc::new(Arrivals::new(parts.clock.clone(), metrics));
        parts.store.set_watch(arrivals.clone());
        let counter = |name, help| metrics.counter(name, help, &[]);
        Corrector {
            parts,
            arrivals,
            listeners,
            state: Mutex::default(),
            turn: Mutex::new(()),
            corrected: counter(
                "perennial_recorded_samples_corrected_total",
                "Recorded samples that were changed, added or taken back because samples came late.",
            ),
            refused: counter(
                "perennial_recorded_samples_not_corrected_total",
                "Recorded samples that stay although samples came late: their time is in blocks.",
            ),
            beyond: counter(
                "perennial_late_samples_beyond_bound_total",
                "Samples that came later than the bound of a rule that reads them: counted once per rule.",
            ),
        }
    }

    /// Of these rules, those with a bound are corrected.
    pub fn replace(&self, rules: &[PastRule]) {
        let mut state = self.state.lock();
        state.known.clear();
        state.dirty.replace(rules, &self.parts.options, self.parts.clock.now());
        self.arrivals.watch(state.dirty.schedules());
    }

    /// Works until [`Corrector::end`].
    pub fn run(&self) {
        pool::nice();
        let mut waits = false;
        while self.arrivals.wait(LATE_SETTLE, waits) {
            self.pass();
            waits = !self.state.lock().dirty.is_empty();
        }
    }

    pub fn end(&self) {
        self.arrivals.end();
    }

    /// Corrects what the samples that have come by now reach.
    pub fn pass(&self) {
        let _turn = self.turn.lock();
        let (arrived, overflown) = self.arrivals.take();
        let now = self.parts.clock.now();
        {
            let mut state = self.state.lock();
            arrived.iter().for_each(|arrived| self.mark(&mut state, arrived));
            if overflown {
                state.dirty.all(now);
            }
        }
        loop {
            let Some((rule, ranges)) = self.state.lock().dirty.take(now) else { return };
            for (first, last) in ranges {
                match self.range(&rule, first, last, now) {
                    Ok(()) => {}
                    Err(Ended::Stopped) => return,
                    Err(Ended::Failed(error)) => {
                        tracing::error!(rule = rule.name, error, "late samples were not taken into account");
                    }
                }
            }
        }
    }

    fn mark(&self, state: &mut State, arrived: &Arrived) {
        let State { dirty, known } = state;
        if known.len() > KNOWN_SERIES {
            known.clear();
        }
        let mut beyond = 0;
        arrived.samples.each(|slot, t| {
            let seen = known.entry((arrived.shard, slot)).or_insert_with(|| {
                dirty.seen(&self.parts.store.labels(SeriesRef { shard: arrived.shard, slot }))
            });
            beyond += dirty.sample(seen, t, arrived.now);
        });
        self.beyond.add(beyond);
    }

    /// Computes slots again, some at a time.
    fn range(&self, rule: &LateRule, mut first: TimeMs, last: TimeMs, now: TimeMs) -> Result<(), Ended> {
        let interval = rule.recording.interval;
        while first <= last {
            let to = last.min(first + (LATE_SLOTS - 1) * interval);
            self.piece(rule, Slots { first, last: to, interval }, now)?;
            first = to + interval;
        }
        Ok(())
    }

    /// Computes slots again, and those behind them up to one that does not fail: whether a stale marker stands there
    /// depends on them.
    fn piece(&self, rule: &LateRule, slots: Slots, now: TimeMs) -> Result<(), Ended> {
        let recording = &rule.recording;
        let asker = Asker { parts: &self.parts, plan: &rule.plan, recording };
        let from = self.begins(rule, slots)?;
        let slots = Slots { first: slots.first.max(from), ..slots };
        if slots.is_empty() {
            return Ok(());
        }
        let present = asker.present_before(slots, from)?;
        let (newest, mut behind) = (rule.recorded(now), slots.interval);
        let (computed, end) = loop {
            let end = newest.min(slots.last + behind);
            let computed = asker.samples(Slots { last: end, ..slots }, present.clone())?;
            let open = computed.failed.contains(&end) || computed.unknown.contains(&end);
            if !open || end == newest {
                break (computed, end);
            }
            behind *= 2;
        };
        let stored = self.parts.store.read_all(&recording.matchers(), slots.first, end);
        let stored = stored.map_err(|e| Ended::Failed(e.to_string()))?;
        let recorded: BTreeSet<TimeMs> = stored.values().flat_map(times).collect();
        let grid = |t: &TimeMs| {
            let slot = recording.slot_at(*t) == *t && !computed.unknown.contains(t);
            slot && (*t >= rule.since || recorded.contains(t))
        };
        let changed = differences(&computed.samples, &stored, slots.last, rule.alone, grid);
        if end == newest && (!changed.is_empty() || computed.failed.contains(&end)) {
            // What is recorded next may end a series that has no value any more, or not end one that has.
            self.state.lock().dirty.follow(rule, end);
        }
        self.write(changed, now)
    }

    /// The first slot that counts for what comes before `slots`: the rule's first one, unless something was recorded before
    /// it, by the server that ran then or by backfill.
    fn begins(&self, rule: &LateRule, slots: Slots) -> Result<TimeMs, Ended> {
        let oldest = slots.first - PRESENT_SLOTS * slots.interval;
        if oldest >= rule.since {
            return Ok(oldest);
        }
        let before = self.parts.store.read_all(&rule.recording.matchers(), oldest, rule.since - 1);
        let before = before.map_err(|e| Ended::Failed(e.to_string()))?;
        let any = before.values().any(|series| times(series).next().is_some());
        Ok(if any { oldest } else { rule.since })
    }

    fn write(&self, changed: Vec<Changed>, now: TimeMs) -> Result<(), Ended> {
        if changed.is_empty() {
            return Ok(());
        }
        let store = &self.parts.store;
        let correction =
            |(t, labels, to): &Changed| Correction { series: store.resolve(labels), t: *t, to: to.clone() };
        let corrections: Vec<Correction> = changed.iter().map(correction).collect();
        let refused = store.correct(&corrections).map_err(|e| Ended::Failed(e.to_string()))?;
        self.refused.add(refused as u64);
        self.corrected.add((changed.len() - refused) as u64);
        let mut state = self.state.lock();
        changed.iter().for_each(|(t, labels, _)| state.dirty.corrected(labels, *t, now));
        drop(state);
        self.listeners.tell(&changed);
        Ok(())
    }
}

/// Why work ended early.
enum Ended {
    Stopped,
    Failed(String),
}

impl From<Stopped> for Ended {
    fn from(Stopped: Stopped) -> Ended {
        Ended::Stopped
    }
}

/// What has to change so that what is stored becomes what is wanted. Behind `last` only stale markers come and go. `alone`:
/// series of which nothing is wanted are the rule's own, too. `grid`: whether anything may change at a time.
fn differences(
    wanted: &Samples,
    stored: &BTreeMap<Labels, SeriesSamples>,
    last: TimeMs,
    alone: bool,
    grid: impl Fn(&TimeMs) -> bool,
) -> Vec<Changed> {
    let mut changed = Vec::new();
    let nothing = SeriesSamples::default();
    let series: BTreeSet<&Labels> = wanted.keys().chain(stored.keys().filter(|_| alone)).collect();
    for labels in series {
        let wanted = points(wanted.get(labels).unwrap_or(&nothing));
        let stored = points(stored.get(labels).unwrap_or(&nothing));
        for (t, to) in wanted.iter().filter(|(t, _)| grid(t)) {
            let there = stored.get(t);
            let marker = matches!(to, Corrected::Float(v) if is_stale(*v));
            if there.is_none_or(|there| !same(there, to)) && (*t <= last || marker && there.is_none()) {
                changed.push((*t, labels.clone(), to.clone()));
            }
        }
        for (t, there) in stored.iter().filter(|(t, _)| grid(t) && !wanted.contains_key(t)) {
            let marker = matches!(there, Corrected::Float(v) if is_stale(*v));
            if *t <= last || marker {
                changed.push((*t, labels.clone(), Corrected::Gone));
            }
        }
    }
    changed.sort_by_key(|(t, ..)| *t);
    changed
}

fn times(samples: &SeriesSamples) -> impl Iterator<Item = TimeMs> + '_ {
    samples.ts.iter().copied().chain(samples.histograms.iter().map(|h| h.0))
}

fn points(samples: &SeriesSamples) -> BTreeMap<TimeMs, Corrected> {
    let floats = samples.ts.iter().copied().zip(samples.vs.iter().map(|v| Corrected::Float(*v)));
    let histograms = samples.histograms.iter().map(|(t, h)| (*t, Corrected::Histogram(h.clone())));
    floats.chain(histograms).collect()
}

/// Equal but for what rounding may do to one answer that is computed in two ways.
fn same(a: &Corrected, b: &Corrected) -> bool {
    match (a, b) {
        (Corrected::Float(a), Corrected::Float(b)) => {
            let equal = is_stale(*a) == is_stale(*b) && a.is_nan() && b.is_nan();
            a == b || equal || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
        }
        (Corrected::Histogram(a), Corrected::Histogram(b)) => a.equals(b),
        _ => false,
    }
}
