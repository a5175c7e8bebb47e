//! `late_samples: correct`: evaluation times that were evaluated before all of their samples had
//! arrived are computed again, and the differences are corrected in the store.
//!
//! One second after a late sample, a thread of low priority computes the affected evaluation times,
//! in the order in which rules read each other, and compares the results with the stored samples. A
//! correction affects the rules that read the corrected series in turn.

use super::evaluate::{HistoryUnavailable, PastRuleEvaluator};
use super::late_samples::LateSampleMonitor;
use super::limits::{
    CLOCKS_APART, KNOWN_SERIES, LATE_SETTLE, LATE_TIMES, PRESENT_TIMES, RECORDED_AFTER, TOLERANCE,
};
use super::pending::{CorrectedRule, PendingCorrections};
use super::recorded_samples::{EvaluationRange, SamplesBySeries};
use super::remote::{LateSampleClient, LateSampleReport, PeersToAsk, WatchList};
use super::{CorrectionListeners, RecordedRule, RecordingHistoryServices};
use engine::live::recorder::group_prefix;
use engine::query::pool;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use storage::metrics::Counter;
use storage::model::value::is_stale;
use storage::model::{Labels, TimeMs};
use storage::store::{CorrectedValue, Correction, SeriesSamples, StoreError};

/// A sample that was changed.
pub(super) type SampleChange = (TimeMs, Labels, CorrectedValue);

/// Corrects recorded samples.
pub(super) struct Corrector {
    /// What backfill and corrections use.
    services: Arc<RecordingHistoryServices>,
    /// The late samples of this process.
    late_samples: Arc<LateSampleMonitor>,
    /// The other processes of a cluster.
    peers: Option<PeersToAsk>,
    /// The listeners that receive corrections.
    listeners: Arc<CorrectionListeners>,
    state: Mutex<CorrectorState>,
    /// Series to which corrections added samples: these may be in no column.
    added: Mutex<HashSet<Labels>>,
    /// One pass at a time.
    turn: Mutex<()>,
    /// Counts corrected samples.
    corrected: Arc<Counter>,
    /// Counts samples that could not be corrected.
    refused: Arc<Counter>,
    /// Counts late samples that were too late.
    beyond: Arc<Counter>,
}

#[derive(Default)]
struct CorrectorState {
    dirty: PendingCorrections,
    /// What the other processes must watch.
    watched: Arc<WatchList>,
    /// The processes that do not have it yet, as far as is known, and since when.
    unaware: BTreeMap<usize, TimeMs>,
}

impl Corrector {
    pub(super) fn new(
        services: Arc<RecordingHistoryServices>,
        late_samples: Arc<LateSampleMonitor>,
        remote: Option<Arc<dyn LateSampleClient>>,
        listeners: Arc<CorrectionListeners>,
    ) -> Corrector {
        let metrics = services.metrics.clone();
        let counter = |name, help| metrics.counter(name, help, &[]);
        let peers = remote.map(|way| PeersToAsk::new(way, late_samples.arrivals.clone()));
        Corrector {
            services,
            late_samples,
            peers,
            listeners,
            state: Mutex::default(),
            added: Mutex::default(),
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

    /// Sets the rules; those with a bound for late samples are corrected.
    pub(super) fn replace(&self, rules: &[RecordedRule]) {
        let now = self.services.clock.now();
        let mut state = self.state.lock();
        state.dirty.replace(rules, &self.services.options, now);
        let selectors = state.dirty.selectors().list().to_vec();
        let mut watched = WatchList { number: 0, schedules: state.dirty.schedules(), selectors };
        self.late_samples.watch(&watched);
        let Some(peers) = &self.peers else { return };
        // By the clock of another process, an evaluation time may have passed that has not passed
        // here.
        for schedule in &mut watched.schedules {
            schedule.delay -= CLOCKS_APART;
        }
        if watched.schedules != state.watched.schedules || watched.selectors != state.watched.selectors {
            watched.number = state.watched.number + 1;
            state.watched = Arc::new(watched);
            // Until they have the new list, their late samples are counted for the old one; the
            // time is noted, and everything of it is computed again.
            for process in peers.client.processes() {
                state.unaware.entry(process).or_insert(now - CLOCKS_APART);
                peers.mark_due(process);
            }
        }
    }

    /// Works until [`Corrector::end`].
    pub(super) fn run(&self) {
        pool::nice();
        let mut waits = false;
        while self.late_samples.arrivals.wait(LATE_SETTLE, waits) {
            self.run_once();
            let unasked = self.peers.as_ref().is_some_and(PeersToAsk::any);
            waits = unasked || !self.state.lock().dirty.is_empty();
        }
    }

    pub(super) fn end(&self) {
        self.late_samples.arrivals.end();
    }

    /// Another process has late samples to report.
    pub(super) fn mark_due(&self, process: usize) {
        if let Some(peers) = &self.peers {
            peers.mark_due(process);
        }
    }

    /// Corrects what the late samples so far affect.
    pub(super) fn run_once(&self) {
        let _turn = self.turn.lock();
        if let Some(peers) = &self.peers {
            self.poll_peers(peers);
        }
        self.drain_local();
        let now = self.services.clock.now();
        loop {
            // One rule at a time, because its corrections may mark others, and those that others
            // read come first.
            let Some((rule, ranges)) = self.state.lock().dirty.take(now) else { return };
            if self.ranges(&rule, ranges, now).is_err() {
                return;
            }
        }
    }

    /// Gets the late samples of the other processes. A process that does not answer is polled again
    /// in the next pass, and its report is not lost.
    fn poll_peers(&self, peers: &PeersToAsk) {
        for process in peers.take() {
            let watched = self.state.lock().watched.clone();
            match peers.client.poll(process, &watched) {
                Ok(report) => self.apply_report(process, watched.number, report),
                Err(error) => {
                    // The process may only be starting; nobody has to act, and nothing is lost.
                    tracing::info!(target: "views", %error, process, "another process did not tell its late samples; it is asked again");
                    peers.mark_due(process);
                }
            }
        }
    }

    /// Applies the report of another process for the watch list with this number.
    fn apply_report(&self, process: usize, number: u64, report: LateSampleReport) {
        let now = self.services.clock.now() + CLOCKS_APART;
        let mut state = self.state.lock();
        let CorrectorState { dirty, watched, unaware } = &mut *state;
        if watched.number != number {
            // Rules changed in the meantime, so the numbers belong to other selectors.
            return dirty.all(now);
        }
        if report.overflown {
            dirty.all(now);
        }
        if let Some(since) = unaware.remove(&process) {
            // That process did not watch during this time.
            dirty.since(since, now);
        }
        let items = report.items.iter();
        // By the other process' clock, whose samples these are; it may differ by [`CLOCKS_APART`].
        let beyond = items.map(|item| item.count * dirty.sample(&[item.selector], item.t, item.now, now));
        self.beyond.add(beyond.sum());
    }

    /// Applies the late samples of this process.
    fn drain_local(&self) {
        let mut state = self.state.lock();
        let dirty = &mut state.dirty;
        let mut beyond = 0;
        let overflown = self.late_samples.take(|seen, t, now| beyond += dirty.sample(seen, t, now, now));
        if overflown {
            dirty.all(self.services.clock.now());
        }
        self.beyond.add(beyond);
    }

    /// Computes evaluation times of one rule again. Fails if the server stops or nothing can be
    /// queried now; then it is tried again.
    fn ranges(&self, rule: &CorrectedRule, ranges: BTreeMap<TimeMs, TimeMs>, now: TimeMs) -> Result<(), ()> {
        let mut away = false;
        for (first, last) in ranges {
            let outcome =
                if away { Err(CorrectionStop::Unavailable) } else { self.range(rule, first, last, now) };
            match outcome {
                Ok(()) => {}
                Err(CorrectionStop::Stopped) => return Err(()),
                Err(CorrectionStop::Unavailable) => {
                    away = true;
                    // The rest of the ranges, too, without asking again for each: what does not
                    // answer now answers none of them.
                    self.state.lock().dirty.again(rule, first, last, now);
                }
            }
        }
        if away { Err(()) } else { Ok(()) }
    }

    /// Computes evaluation times again, a few at a time.
    fn range(
        &self,
        rule: &CorrectedRule,
        mut first: TimeMs,
        last: TimeMs,
        now: TimeMs,
    ) -> Result<(), CorrectionStop> {
        let interval = rule.recording.interval;
        while first <= last {
            // A correction of a day at once would hold a day of rows in memory.
            let to = last.min(first + (LATE_TIMES - 1) * interval);
            self.recompute(rule, EvaluationRange { first, last: to, interval }, now)?;
            first = to + interval;
        }
        Ok(())
    }

    /// Computes evaluation times again, and those after them up to one that does not fail: whether
    /// it has stale markers depends on them.
    fn recompute(
        &self,
        rule: &CorrectedRule,
        times: EvaluationRange,
        now: TimeMs,
    ) -> Result<(), CorrectionStop> {
        let recording = &rule.recording;
        let asker = PastRuleEvaluator { services: &self.services, plan: &rule.plan, recording };
        let from = self.first_relevant_time(rule, times)?;
        let times = EvaluationRange { first: times.first.max(from), ..times };
        if times.is_empty() {
            return Ok(());
        }
        let present = asker.series_alive_before(times, from)?;
        let newest = rule.recorded(now);
        let mut behind = times.interval;
        let (computed, end) = loop {
            let end = newest.min(times.last + behind);
            let computed = asker.samples(EvaluationRange { last: end, ..times }, present.clone())?;
            let open = computed.failed.contains(&end) || computed.unknown.contains(&end);
            if !open || end == newest {
                break (computed, end);
            }
            // Doubled, so that a rule that fails for hours costs few queries, and one that does not
            // costs one time more.
            behind *= 2;
        };
        let stored = self.services.store.recorder().read_series(&recording.matchers(), times.first, end);
        let stored = stored.map_err(CorrectionStop::from_store_error)?;
        let recorded: BTreeSet<TimeMs> = stored.values().flat_map(sample_times).collect();
        let grid = |t: &TimeMs| {
            let is_computed = recording.sample_time_at(*t) == *t && !computed.unknown.contains(t);
            is_computed && (*t >= rule.since || *t >= rule.from && recorded.contains(t))
        };
        let added = self.added.lock();
        let prefix = group_prefix(&rule.name, &recording.record);
        // Only series that surely are the rule's may be taken back: another rule, or a sender, may
        // write series of the same name.
        let own = |labels: &Labels| {
            rule.exclusive_name
                && (added.contains(labels) || self.services.store.series().is_column_of(labels, &prefix))
        };
        let changed = differences(&computed.samples, &stored, times.last, own, grid);
        drop(added);
        if end == newest && (!changed.is_empty() || computed.failed.contains(&end)) {
            // The next recorded time may end a series that no longer has a value, or not end one
            // that has.
            self.state.lock().dirty.check_next(rule, end);
        }
        self.write(changed, now)
    }

    /// The first evaluation time that matters for what was recorded before these: the rule's first
    /// one, unless something was recorded before it, by an earlier server process or by backfill.
    fn first_relevant_time(
        &self,
        rule: &CorrectedRule,
        times: EvaluationRange,
    ) -> Result<TimeMs, CorrectionStop> {
        let oldest = times.first - PRESENT_TIMES * times.interval;
        if oldest >= rule.since {
            return Ok(oldest);
        }
        let before =
            self.services.store.recorder().read_series(&rule.recording.matchers(), oldest, rule.since - 1);
        let before = before.map_err(CorrectionStop::from_store_error)?;
        let any = before.values().any(|series| sample_times(series).next().is_some());
        Ok(if any { oldest } else { rule.since })
    }

    fn write(&self, changed: Vec<SampleChange>, now: TimeMs) -> Result<(), CorrectionStop> {
        if changed.is_empty() {
            return Ok(());
        }
        let store = &self.services.store;
        let correction = |(t, labels, to): &SampleChange| Correction {
            series: store.get_or_create_series(labels),
            t: *t,
            value: to.clone(),
        };
        let corrections: Vec<Correction> = changed.iter().map(correction).collect();
        let refused = store.recorder().correct(&corrections).map_err(CorrectionStop::from_store_error)?;
        self.refused.add(refused as u64);
        self.corrected.add((changed.len() - refused) as u64);
        let mut added = self.added.lock();
        // Forgetting them only means that such samples stay, should they turn out wrong once more.
        if added.len() + changed.len() > KNOWN_SERIES {
            added.clear();
        }
        let values = changed.iter().filter(|(.., to)| !matches!(to, CorrectedValue::Gone));
        added.extend(values.map(|(_, labels, _)| labels.clone()));
        drop(added);
        // The rings of views receive the change a moment later.
        let by = self.services.clock.now() + RECORDED_AFTER;
        let mut state = self.state.lock();
        for (t, labels, _) in changed.iter() {
            state.dirty.mark_readers(labels, *t, now, by);
        }
        drop(state);
        self.listeners.notify(&changed);
        Ok(())
    }
}

/// Why work ended early.
enum CorrectionStop {
    Stopped,
    /// A process or the store does not answer now.
    Unavailable,
}

impl CorrectionStop {
    fn from_store_error(error: StoreError) -> CorrectionStop {
        CorrectionStop::from(HistoryUnavailable::Failed(error.to_string()))
    }
}

impl From<HistoryUnavailable> for CorrectionStop {
    fn from(why: HistoryUnavailable) -> CorrectionStop {
        match why {
            HistoryUnavailable::Stopped => CorrectionStop::Stopped,
            HistoryUnavailable::Failed(error) => {
                tracing::warn!(target: "views", error, "recorded samples cannot be corrected; it is tried again");
                CorrectionStop::Unavailable
            }
        }
    }
}

/// The changes that turn the stored samples into the computed ones. After `last` only stale markers
/// are added or removed. `own`: whether a series without computed samples belongs to the rule.
/// `is_evaluation_time`: whether a time may be changed.
fn differences(
    computed: &SamplesBySeries,
    stored: &BTreeMap<Labels, SeriesSamples>,
    last: TimeMs,
    own: impl Fn(&Labels) -> bool,
    is_evaluation_time: impl Fn(&TimeMs) -> bool,
) -> Vec<SampleChange> {
    let mut changed = Vec::new();
    let nothing = SeriesSamples::default();
    let theirs = |labels: &&Labels| !computed.contains_key(*labels) && own(labels);
    let series: BTreeSet<&Labels> = computed.keys().chain(stored.keys().filter(theirs)).collect();
    for labels in series {
        let computed = points(computed.get(labels).unwrap_or(&nothing));
        let stored = points(stored.get(labels).unwrap_or(&nothing));
        for (t, to) in computed.iter().filter(|(t, _)| is_evaluation_time(t)) {
            let existing = stored.get(t);
            let marker = matches!(to, CorrectedValue::Float(v) if is_stale(*v));
            if existing.is_none_or(|existing| !same(existing, to))
                && (*t <= last || marker && existing.is_none())
            {
                changed.push((*t, labels.clone(), to.clone()));
            }
        }
        for (t, existing) in stored.iter().filter(|(t, _)| is_evaluation_time(t) && !computed.contains_key(t))
        {
            let marker = matches!(existing, CorrectedValue::Float(v) if is_stale(*v));
            if *t <= last || marker {
                changed.push((*t, labels.clone(), CorrectedValue::Gone));
            }
        }
    }
    changed.sort_by_key(|(t, ..)| *t);
    changed
}

fn sample_times(samples: &SeriesSamples) -> impl Iterator<Item = TimeMs> + '_ {
    samples.ts.iter().copied().chain(samples.histograms.iter().map(|h| h.0))
}

fn points(samples: &SeriesSamples) -> BTreeMap<TimeMs, CorrectedValue> {
    let floats = samples.ts.iter().copied().zip(samples.vs.iter().map(|v| CorrectedValue::Float(*v)));
    let histograms = samples.histograms.iter().map(|(t, h)| (*t, CorrectedValue::Histogram(h.clone())));
    floats.chain(histograms).collect()
}

/// Equal except for rounding, when one value is computed in two ways.
fn same(a: &CorrectedValue, b: &CorrectedValue) -> bool {
    match (a, b) {
        (CorrectedValue::Float(a), CorrectedValue::Float(b)) => {
            let equal = is_stale(*a) == is_stale(*b) && a.is_nan() && b.is_nan();
            let near = || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
            a == b || equal || a.is_finite() && b.is_finite() && near()
        }
        (CorrectedValue::Histogram(a), CorrectedValue::Histogram(b)) => a.equals(b),
        _ => false,
    }
}
