//! Tests of the rules manager ([`crate::manager`]) with fakes: views that the test drives, a store
//! in memory, and a list of sent alerts.

use crate::TemplateQueryError;
use crate::active_rules::ActiveRules;
use crate::alert_persistence::AlertPersistence;
use crate::event_queue::RuleEventQueue;
use crate::file::{AlertOptions, EvaluationMode, Rule, RuleGroup, fake_compile};
use crate::manager::{RuleManager, RuleManagerOptions, RuleServices};
use crate::services::{AlertNotification, AlertSender, AlertSeriesStore};
use crate::template::TemplateQuery;
use engine::live::{Sink, TapEvent, TapId, ViewError, ViewId, ViewKind, ViewSpec};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use storage::clock::ManualClock;
use storage::durable_map::{MapChange, MapEntries};
use storage::metrics::Metrics;
use storage::model::value::is_stale;
use storage::model::{Labels, Matcher, SeriesRef, TimeMs, shard_of};
use storage::store::{AppendResult, ColumnBatch, GroupId, RecentSamples, RecentSeries, StoreError};
use views::ViewRegistry;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

/// A view and its consumers.
type InstalledView = (ViewSpec, Vec<Box<dyn Sink>>);

#[derive(Default)]
pub(super) struct RuleViews {
    state: Mutex<BTreeMap<u64, InstalledView>>,
    next: Mutex<u64>,
}

impl ViewRegistry for RuleViews {
    fn install(&self, view: ViewSpec) -> Result<ViewId, ViewError> {
        if view.name == "Refused" {
            return Err(ViewError::Unsupported("the plan cannot stand".to_owned()));
        }
        let mut next = self.next.lock();
        *next += 1;
        self.state.lock().insert(*next, (view, Vec::new()));
        Ok(ViewId(*next))
    }
    fn remove(&self, view: ViewId) {
        self.state.lock().remove(&view.0);
    }
    fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        self.state.lock().get_mut(&view.0).unwrap().1.push(sink);
        TapId(view.0)
    }
    fn untap(&self, tap: TapId) {
        self.state.lock().get_mut(&tap.0).unwrap().1.clear();
    }
}

impl RuleViews {
    pub(super) fn push(&self, name: &str, event: TapEvent) {
        let mut state = self.state.lock();
        let (_, sinks) = state.values_mut().find(|(spec, _)| spec.name == name).unwrap();
        sinks.retain_mut(|sink| sink.push(event.clone()));
    }
    pub(super) fn names(&self) -> Vec<(u64, String)> {
        self.state.lock().iter().map(|(id, (spec, _))| (*id, spec.name.clone())).collect()
    }
}

#[derive(Default)]
pub(super) struct FakeStore {
    slots: Mutex<BTreeMap<(u16, u32), Labels>>,
    samples: Mutex<Vec<(Labels, TimeMs, f64)>>,
    /// Appends fail.
    full: AtomicBool,
}

impl AlertSeriesStore for FakeStore {
    fn open_group(&self, _: &str, shard: u16) -> GroupId {
        GroupId(u32::from(shard))
    }
    fn resolve(&self, labels: &Labels) -> SeriesRef {
        let mut slots = self.slots.lock();
        if let Some(((shard, slot), _)) = slots.iter().find(|(_, l)| *l == labels) {
            return SeriesRef { shard: *shard, slot: *slot };
        }
        let series = SeriesRef { shard: shard_of(labels), slot: slots.len() as u32 };
        slots.insert((series.shard, series.slot), labels.clone());
        series
    }
    fn append(&self, batch: &ColumnBatch) -> Result<AppendResult, StoreError> {
        assert_eq!(batch.layout.slots.len(), batch.values.len());
        if self.full.load(SeqCst) {
            return Err(StoreError::Unavailable("the disk is full".to_owned()));
        }
        let slots = self.slots.lock();
        for (slot, value) in batch.layout.slots.iter().zip(batch.values.iter()) {
            let labels = slots[&(batch.group.0 as u16, *slot)].clone();
            self.samples.lock().push((labels, batch.t, *value));
        }
        Ok(AppendResult::default())
    }
    fn append_rows(&self, rows: &[storage::store::FloatRow]) -> Result<AppendResult, StoreError> {
        if self.full.load(SeqCst) {
            return Err(StoreError::Unavailable("the disk is full".to_owned()));
        }
        let slots = self.slots.lock();
        for row in rows {
            let labels = slots[&(row.series.shard, row.series.slot)].clone();
            self.samples.lock().push((labels, row.t, row.v));
        }
        Ok(AppendResult::default())
    }
    fn newest(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<(Labels, TimeMs, f64)>, StoreError> {
        let mut newest: BTreeMap<Labels, (TimeMs, f64)> = BTreeMap::new();
        for (labels, t, v) in self.samples.lock().iter() {
            if (from..=to).contains(t) && matchers.iter().all(|m| m.matches_labels(labels)) {
                newest.insert(labels.clone(), (*t, *v));
            }
        }
        Ok(newest.into_iter().map(|(l, (t, v))| (l, t, v)).collect())
    }
    fn recent(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
        most: usize,
    ) -> Result<RecentSamples, StoreError> {
        let mut found: BTreeMap<Labels, RecentSeries> = BTreeMap::new();
        for (labels, t, v) in self.samples.lock().iter() {
            if (from..=to).contains(t) && matchers.iter().all(|m| m.matches_labels(labels)) {
                let before = found.get(labels).map(|series| series.newest.1);
                found.insert(
                    labels.clone(),
                    RecentSeries { labels: labels.clone(), newest: (*t, *v), before },
                );
            }
        }
        let truncated = found.len() > most;
        Ok(RecentSamples { series: found.into_values().take(most).collect(), truncated })
    }
}

impl FakeStore {
    /// Adds a sample.
    pub(super) fn put(&self, labels: Labels, t: TimeMs, v: f64) {
        self.samples.lock().push((labels, t, v));
    }
    /// The number of samples.
    pub(super) fn len(&self) -> usize {
        self.samples.lock().len()
    }
    pub(super) fn take(&self) -> Vec<String> {
        let print = |(labels, t, v): (Labels, TimeMs, f64)| {
            let value = if is_stale(v) { "stale".to_owned() } else { v.to_string() };
            format!("{t} {labels} {value}")
        };
        let mut lines: Vec<String> =
            std::mem::take(&mut *self.samples.lock()).into_iter().map(print).collect();
        lines.sort();
        lines
    }
}

#[derive(Default)]
pub(super) struct SentAlerts(pub Mutex<Vec<AlertNotification>>);
impl AlertSender for SentAlerts {
    fn send(&self, alerts: Vec<AlertNotification>) {
        self.0.lock().extend(alerts);
    }
}

/// Returns its rows, and counts the calls.
#[derive(Default)]
pub(super) struct FakeQuery {
    rows: Mutex<Vec<(Labels, f64)>>,
    asked: AtomicUsize,
}
impl TemplateQuery for FakeQuery {
    fn query(&self, _: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, TemplateQueryError> {
        self.asked.fetch_add(1, SeqCst);
        Ok(self.rows.lock().clone())
    }
}

/// Saves records; a process loads what the previous ones saved.
#[derive(Default)]
pub(super) struct FakeMemory(Mutex<Option<MapEntries>>);
impl AlertPersistence for FakeMemory {
    fn load_saved(&self) -> Option<MapEntries> {
        self.0.lock().clone()
    }
    fn save(&self, changes: Vec<MapChange>) -> u64 {
        let mut entries = self.0.lock();
        let entries = entries.get_or_insert_default();
        for (key, value) in changes {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        0
    }
    fn wait(&self, _: u64, _: std::time::Duration) {}
}

#[derive(Default)]
pub(super) struct Fixture {
    pub views: Arc<RuleViews>,
    pub store: Arc<FakeStore>,
    pub sent: Arc<SentAlerts>,
    pub memory: Arc<FakeMemory>,
    pub query: Arc<FakeQuery>,
    pub clock: Arc<ManualClock>,
    pub metrics: Metrics,
}

impl Fixture {
    fn ports(&self) -> RuleServices {
        RuleServices {
            views: self.views.clone(),
            store: self.store.clone(),
            memory: self.memory.clone(),
            notify: self.sent.clone(),
            query: self.query.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            tracer: Default::default(),
        }
    }
    pub(super) fn core(&self) -> ActiveRules {
        let options =
            RuleManagerOptions { external_url: "http://p:9090/".into(), ..RuleManagerOptions::default() };
        ActiveRules::new(self.ports(), options, Arc::new(RuleEventQueue::default()))
    }
    pub(super) fn take_sent(&self) -> Vec<AlertNotification> {
        std::mem::take(&mut *self.sent.0.lock())
    }
}

pub(super) fn alert(name: &str, expr: &str, hold: i64) -> Rule {
    let annotations = vec![("text".to_owned(), "{{ $labels.instance }} at {{ $value }}".to_owned())];
    Rule {
        name: name.to_owned(),
        expr: fake_compile(expr).unwrap(),
        labels: vec![("severity".to_owned(), "page".to_owned())],
        alert: Some(AlertOptions { hold, keep_firing_for: 0, annotations }),
        backfill: 0,
    }
}

pub(super) fn group(rules: Vec<Rule>) -> RuleGroup {
    RuleGroup {
        file: "f.yml".into(),
        name: "g".into(),
        interval: MINUTE,
        query_offset: 0,
        limit: 0,
        evaluation: EvaluationMode::Continuous,
        lateness: None,
        rules,
    }
}

pub(super) fn row(instance: &str) -> Labels {
    Labels::from_pairs([("__name__", "up"), ("instance", instance)])
}

pub(super) fn delta(t: TimeMs, up: &[(&str, f64)], gone: &[&str]) -> TapEvent {
    TapEvent::Delta {
        t,
        since: t,
        upsert: up.iter().map(|(i, v)| (row(i), (*v).into())).collect(),
        remove: gone.iter().map(|i| row(i)).collect(),
    }
}

/// Steps from one wake-up to the next until something is sent. Returns the time of that step.
fn until_sent(fixture: &Fixture, core: &mut ActiveRules, from: TimeMs) -> TimeMs {
    let mut now = from;
    while now < from + 5 * MINUTE {
        let wake = core.step(now);
        if !fixture.sent.0.lock().is_empty() {
            return now;
        }
        now = wake;
    }
    panic!("nothing was sent")
}

#[test]
fn an_alert_is_sent_at_the_step_in_which_its_row_arrives() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    core.apply(vec![group(vec![alert("Down", "up", 0)])], &Labels::default(), 1_000).unwrap();
    fixture.views.push("Down", delta(1_500, &[("a:1", 0.0)], &[]));
    core.step(1_510);
    let sent = fixture.take_sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].labels.to_string(), r#"{alertname="Down", instance="a:1", severity="page"}"#);
    assert_eq!(sent[0].annotations, [("text".to_owned(), "a:1 at 0".to_owned())]);
    assert_eq!((sent[0].starts_at, sent[0].ends_at), (1_500, 1_510 + 4 * MINUTE));
    assert_eq!(sent[0].generator_url, "http://p:9090/graph?g0.expr=up&g0.tab=1");
    assert_eq!(
        fixture.store.take(),
        [
            r#"1500 ALERTS_FOR_STATE{alertname="Down", instance="a:1", severity="page"} 1"#,
            r#"1500 ALERTS{alertname="Down", alertstate="firing", instance="a:1", severity="page"} 1"#,
        ]
    );
    fixture.views.push("Down", delta(2_000, &[], &["a:1"]));
    core.step(2_010);
    let sent = fixture.take_sent();
    assert!(sent[0].resolved && sent[0].ends_at == 2_000);
    assert!(fixture.store.take().iter().all(|line| line.starts_with("2000 ") && line.ends_with(" stale")));
}

#[test]
fn for_runs_on_the_clock_and_pending_series_end_when_it_fires() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    core.apply(vec![group(vec![alert("Down", "up", 10 * SECOND)])], &Labels::default(), 0).unwrap();
    fixture.views.push("Down", delta(1_000, &[("a:1", 0.0)], &[]));
    core.step(1_000);
    assert!(fixture.take_sent().is_empty());
    fixture.store.take();
    let now = until_sent(&fixture, &mut core, 1_000);
    let sent = fixture.take_sent();
    assert_eq!(
        (sent[0].starts_at, now),
        (11_000, 11_100),
        "fires at the exact time, once late events are ruled out"
    );
    let written = fixture.store.take();
    assert!(written.iter().any(|l| l.contains("pending") && l.ends_with("stale")), "{written:?}");
    assert!(written.iter().any(|l| l.contains("firing") && l.ends_with(" 1")), "{written:?}");
}

/// The series that an annotation queries have often ended when the alert ends.
#[test]
fn an_alert_that_is_over_says_what_it_said() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    let mut rule = alert("Down", "up", 0);
    rule.alert.as_mut().unwrap().annotations =
        vec![("left".to_owned(), "{{ query \"left\" | first | value }} of {{ $value }}".to_owned())];
    core.apply(vec![group(vec![rule])], &Labels::default(), 0).unwrap();
    *fixture.query.rows.lock() = vec![(Labels::default(), 7.0)];
    fixture.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    core.step(500);
    fixture.query.rows.lock().clear();
    let shown = core.snapshot(600).remove(0).rules.remove(0).alerting.unwrap().alerts;
    assert_eq!(shown[0].annotations.fill(), [("left".to_owned(), "7 of 0".to_owned())]);
    fixture.views.push("Down", delta(1_000, &[], &["a:1"]));
    core.step(1_000);
    let texts: Vec<_> =
        fixture.take_sent().iter().map(|a| (a.resolved, a.annotations[0].1.clone())).collect();
    assert_eq!(texts, [(false, "7 of 0".to_owned()), (true, "7 of 0".to_owned())]);
}

/// The reader of the API waits for the queries of annotations, not the thread that sends alerts.
#[test]
fn reading_asks_nothing_on_the_rules_thread() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    let mut rule = alert("Down", "up", MINUTE);
    rule.alert.as_mut().unwrap().annotations =
        vec![("left".to_owned(), "{{ query \"left\" | len }}".to_owned())];
    core.apply(vec![group(vec![rule])], &Labels::default(), 0).unwrap();
    fixture.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    core.step(500);
    let shown = core.snapshot(600).remove(0).rules.remove(0).alerting.unwrap().alerts;
    assert_eq!(fixture.query.asked.load(SeqCst), 0);
    assert_eq!(shown[0].annotations.fill()[0].1, "0");
    assert_eq!(fixture.query.asked.load(SeqCst), 1);
}

/// Rows are sent once: rows right after an evaluation time that cannot be written must not be lost.
#[test]
fn rows_are_taken_when_their_slot_cannot_be_written() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    core.apply(vec![group(vec![alert("Full", "up", 0)])], &Labels::default(), 0).unwrap();
    fixture.views.push("Full", delta(500, &[("a:1", 0.0)], &[]));
    core.step(500);
    fixture.take_sent();
    fixture.store.full.store(true, SeqCst);
    fixture.views.push("Full", delta(2 * MINUTE, &[("b:1", 0.0)], &[]));
    core.step(2 * MINUTE);
    let sent = fixture.take_sent();
    assert!(sent.iter().any(|a| a.labels.get("instance") == Some("b:1")), "{}", sent.len());
}

/// As in Prometheus: the condition is evaluated in the past, and samples are written at that time.
#[test]
fn alerts_of_a_group_with_an_offset_are_about_the_past() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    let late = |query_offset| vec![RuleGroup { query_offset, ..group(vec![alert("Down", "up", 0)]) }];
    core.apply(late(10_000), &Labels::default(), 0).unwrap();
    let kind = || fixture.views.state.lock().values().next().unwrap().0.kind.clone();
    assert!(matches!(kind(), ViewKind::Continuous { query_offset: 10_000 }));
    fixture.views.push("Down", delta(20_500, &[("a:1", 0.0)], &[]));
    core.step(20_500);
    assert!(fixture.store.take().iter().all(|line| line.starts_with("10500 ")));
    assert_eq!(fixture.take_sent()[0].starts_at, 20_500);
    core.apply(late(0), &Labels::default(), 30_000).unwrap();
    assert!(matches!(kind(), ViewKind::Continuous { query_offset: 0 }), "another question");
}

#[test]
fn alerts_are_written_in_the_slots_of_their_group() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    core.apply(vec![group(vec![alert("Down", "up", 0)])], &Labels::default(), 0).unwrap();
    fixture.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    let mut now = 600;
    while now < 5 * MINUTE {
        now = core.step(now);
    }
    let mut times: Vec<TimeMs> = fixture
        .store
        .take()
        .iter()
        .filter(|l| l.contains("ALERTS{"))
        .map(|l| l.split(' ').next().unwrap().parse().unwrap())
        .collect();
    times.sort_unstable();
    let slots = &times[1..];
    assert_eq!(times[0], 500, "at the change");
    assert!(slots.len() >= 4 && slots.windows(2).all(|w| w[1] - w[0] == MINUTE), "{times:?}");
}

/// Other active alerts are not touched: a condition with thousands of rows changes with every
/// scrape.
#[test]
fn only_the_alert_that_changes_is_written_between_slots() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    core.apply(vec![group(vec![alert("Down", "up", 0)])], &Labels::default(), 0).unwrap();
    fixture.views.push("Down", delta(500, &[("a:1", 0.0), ("b:1", 0.0)], &[]));
    core.step(500);
    assert_eq!(fixture.store.take().len(), 4);
    fixture.views.push("Down", delta(1_000, &[("a:1", 2.0), ("c:1", 0.0)], &[]));
    core.step(1_000);
    let written = fixture.store.take();
    assert!(written.len() == 2 && written.iter().all(|line| line.contains("c:1")), "{written:?}");
    fixture.views.push("Down", delta(1_500, &[], &["b:1"]));
    core.step(1_500);
    let written = fixture.store.take();
    let ends = |line: &String| line.contains("b:1") && line.ends_with("stale");
    assert!(written.len() == 2 && written.iter().all(ends), "{written:?}");
    core.step(MINUTE + 100);
    let written = fixture.store.take();
    let goes_on = |line: &String| line.starts_with("60000 ") && line.ends_with(" 1") || line.ends_with(" 0");
    assert!(written.len() == 4 && written.iter().all(goes_on), "{written:?}");
}

/// The state in the API is the one in the series, whatever caused the step.
#[test]
fn series_follow_for_and_keep_firing_for_at_once() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    let mut rule = alert("Down", "up", 10 * SECOND);
    rule.alert.as_mut().unwrap().keep_firing_for = 5 * SECOND;
    core.apply(vec![group(vec![rule])], &Labels::default(), 0).unwrap();
    fixture.views.push("Down", delta(1_000, &[("a:1", 0.0)], &[]));
    core.step(1_000);
    fixture.store.take();
    // The progress event of the evaluation comes before the timer is due.
    fixture.views.push("Down", TapEvent::Progress { t: 11_050 });
    core.step(11_050);
    let written = fixture.store.take();
    assert!(written.iter().any(|l| l.contains("\"firing\"") && l.ends_with(" 1")), "{written:?}");
    fixture.views.push("Down", delta(12_000, &[], &["a:1"]));
    core.step(12_000);
    assert_eq!(fixture.store.take(), [""; 0]);
    fixture.views.push("Down", TapEvent::Progress { t: 17_050 });
    core.step(17_050);
    let written = fixture.store.take();
    assert!(written.len() == 2 && written.iter().all(|l| l.ends_with("stale")), "{written:?}");
}

/// As in Prometheus, where a group's alerts are sent when it is evaluated.
#[test]
fn alerts_of_a_group_are_sent_again_together() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    let two = group(vec![alert("Down", "up", 0), alert("Away", "away", 0)]);
    let five = RuleGroup { interval: 5 * SECOND, ..two };
    core.apply(vec![five], &Labels::default(), 0).unwrap();
    let mut times: BTreeMap<TimeMs, usize> = BTreeMap::new();
    let mut now = 500;
    while now < 3 * MINUTE {
        for (at, rule, instance) in [(1_200, "Down", "a:1"), (2_300, "Down", "b:1"), (3_400, "Away", "a:1")] {
            if now == at {
                fixture.views.push(rule, delta(at, &[(instance, 0.0)], &[]));
            }
        }
        core.step(now);
        let sent = fixture.take_sent().len();
        if sent > 0 {
            times.insert(now, sent);
        }
        now += 100;
    }
    let expected = [(1_200, 1), (2_300, 1), (3_400, 1), (65_000, 3), (130_000, 3)];
    assert_eq!(times.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_reload_is_all_or_nothing_and_keeps_state() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    let labels = Labels::default();
    core.apply(vec![group(vec![alert("Down", "up", 0), alert("Gone", "x", 0)])], &labels, 0).unwrap();
    fixture.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    core.step(600);
    fixture.take_sent();
    let bad = group(vec![alert("Other", "z", 0), alert("Refused", "y", 0)]);
    let error = core.apply(vec![bad], &labels, 700).unwrap_err();
    assert_eq!(error.to_string(), r#"f.yml: group "g", rule "Refused": the plan cannot stand"#);
    assert_eq!(fixture.views.names(), [(1, "Down".to_owned()), (2, "Gone".to_owned())]);
    // Another order, another annotation, a new rule, one rule less.
    let mut changed = alert("Down", "up", 0);
    changed.alert.as_mut().unwrap().annotations.clear();
    core.apply(vec![group(vec![alert("New", "n", 0), changed])], &labels, 800).unwrap();
    assert_eq!(
        fixture.views.names().iter().map(|(i, n)| (*i, n.as_str())).collect::<Vec<_>>(),
        [(1, "Down"), (4, "New")]
    );
    core.step(900);
    assert!(fixture.take_sent().is_empty(), "the alert is known and not due again");
    let rules = &core.snapshot(900)[0].rules;
    let down = rules[1].alerting.as_ref().unwrap();
    assert_eq!((down.alerts[0].active_at, down.alerts[0].annotations.fill().len()), (500, 0));
}

#[test]
fn a_restart_finds_its_alerts_again() {
    let fixture = Fixture::default();
    let rules = || vec![group(vec![alert("Down", "up", 5 * MINUTE)])];
    let mut core = fixture.core();
    core.apply(rules(), &Labels::default(), 0).unwrap();
    fixture.views.push("Down", delta(1_234, &[("a:1", 0.0)], &[]));
    core.step(1_300);
    core.step(6 * MINUTE);
    assert_eq!(fixture.take_sent().len(), 1);
    // The process dies; another one opens the same store five minutes later.
    let second = Fixture { store: fixture.store.clone(), ..Fixture::default() };
    let mut core = second.core();
    let start = 11 * MINUTE;
    core.apply(rules(), &Labels::default(), start).unwrap();
    second.views.push("Down", TapEvent::Snapshot { t: start + 10, rows: vec![(row("a:1"), 0.0.into())] });
    core.step(start + 20);
    let sent = second.take_sent();
    assert_eq!(sent.len(), 1, "it fires on without waiting again");
    assert_eq!(sent[0].starts_at, 1_000 + 5 * MINUTE, "its series tell the start in whole seconds");
    let snapshot = core.snapshot(start + 20);
    assert_eq!(snapshot[0].rules[0].alerting.as_ref().unwrap().alerts[0].active_at, 1_000);
}

#[test]
fn recording_rules_become_recorded_views_and_report_their_health() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    let record = Rule { name: "a:b".into(), alert: None, ..alert("", "up", 0) };
    core.apply(vec![group(vec![record])], &Labels::default(), 0).unwrap();
    let spec = fixture.views.state.lock().values().next().unwrap().0.clone();
    match spec.kind {
        ViewKind::Recorded { record, interval, offset, .. } => {
            assert_eq!((record.as_str(), interval), ("a:b", MINUTE));
            assert!((0..MINUTE).contains(&offset));
        }
        ViewKind::Continuous { .. } => panic!("a recording rule must be recorded"),
    }
    fixture.views.push("a:b", TapEvent::Progress { t: 100 });
    core.step(200);
    let rule = &core.snapshot(200)[0].rules[0];
    assert_eq!((rule.health.as_str(), rule.last_evaluation), ("ok", Some(100)));
    fixture.views.push("a:b", TapEvent::Failed { t: 300, error: "too many".into() });
    core.step(400);
    let rule = &core.snapshot(400)[0].rules[0];
    assert_eq!((rule.health.as_str(), rule.health.last_error()), ("err", "too many"));
    let metrics = fixture.metrics.render();
    assert!(metrics.contains("prometheus_rule_evaluations_total{rule_group=\"f.yml;g\"} 2"), "{metrics}");
    assert!(
        metrics.contains("prometheus_rule_evaluation_failures_total{rule_group=\"f.yml;g\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("prometheus_rule_group_rules{rule_group=\"f.yml;g\"} 1"), "{metrics}");
}

#[test]
fn with_evaluation_interval_alerts_wait_for_their_slot() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    let group = RuleGroup { evaluation: EvaluationMode::Interval, ..group(vec![alert("Down", "up", 0)]) };
    core.apply(vec![group], &Labels::default(), 0).unwrap();
    fixture.views.push("Down", delta(10, &[("a:1", 0.0)], &[]));
    core.step(20);
    assert!(fixture.take_sent().is_empty());
    let now = until_sent(&fixture, &mut core, 20);
    let starts_at = fixture.take_sent()[0].starts_at;
    assert!(starts_at > 10 && now - starts_at <= 200, "started at {starts_at}, seen at {now}");
}

#[test]
fn with_evaluation_interval_a_condition_sees_the_states_of_its_own_slot() {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    let states = Rule {
        expr: crate::file::RuleExpression::promql(
            promql::compile("count(ALERTS)", &promql::PromqlOptions::default()).unwrap(),
            "count(ALERTS)".to_owned(),
        ),
        ..alert("Many", "up", 0)
    };
    let group =
        RuleGroup { evaluation: EvaluationMode::Interval, ..group(vec![alert("Down", "up", 0), states]) };
    let interval = group.interval;
    core.apply(vec![group], &Labels::default(), 0).unwrap();
    fixture.views.push("Down", delta(10, &[("a:1", 0.0)], &[]));
    fixture.views.push("Many", TapEvent::Progress { t: 10 });
    core.step(20);
    // At the evaluation time the first alert is written. An answer of the same moment does not
    // include it.
    fixture.views.push("Many", TapEvent::Progress { t: interval });
    fixture.views.push("Down", TapEvent::Progress { t: interval });
    fixture.views.push("Many", TapEvent::Progress { t: interval + 50 });
    core.step(interval + 60);
    let names = |sent: Vec<AlertNotification>| -> Vec<(String, TimeMs)> {
        sent.iter().map(|a| (a.labels.get("alertname").unwrap_or("").to_owned(), a.starts_at)).collect()
    };
    assert_eq!(names(fixture.take_sent()), [("Down".to_owned(), interval)]);
    core.step(interval + 70);
    fixture.views.push("Many", delta(interval + 110, &[("", 1.0)], &[]));
    fixture.views.push("Many", TapEvent::Progress { t: interval + 110 });
    core.step(interval + 120);
    assert_eq!(names(fixture.take_sent()), [("Many".to_owned(), interval)], "in the slot of what it reads");
    // No answer has come since, so the next evaluation time waits for one.
    fixture.views.push("Down", TapEvent::Progress { t: 2 * interval });
    core.step(2 * interval + 500);
    core.step(2 * interval + 600);
    assert!(!fixture.take_sent().iter().any(|a| a.labels.get("alertname") == Some("Many")));
}

#[test]
fn the_thread_answers_and_ends() {
    let fixture = Fixture::default();
    let manager = RuleManager::start(fixture.ports(), RuleManagerOptions::default()).unwrap();
    manager.apply(vec![group(vec![alert("Down", "up", 0)])], Labels::default()).unwrap();
    fixture.views.push("Down", delta(0, &[("a:1", 1.0)], &[]));
    let firing = |m: &RuleManager| m.snapshot().unwrap()[0].rules[0].alerting.as_ref().unwrap().alerts.len();
    let began = std::time::Instant::now();
    while firing(&manager) == 0 {
        assert!(began.elapsed().as_secs() < 10, "the event never arrived");
        std::thread::yield_now();
    }
    assert_eq!(fixture.take_sent().len(), 1);
    manager.stop();
    assert!(manager.snapshot().is_err());
}
