//! Tests of the history of alerts: every change once, with its reason and cause, also over a kill.

use super::managed::{Fixture, alert, delta, group, row};
use crate::active_rules::ActiveRules;
use crate::alert_history::{AlertTransition, HistorySelection, SeriesMove};
use crate::file::{Rule, RuleGroup};
use crate::limits::ALERT_TRANSITIONS;
use crate::services::DeliveryOutcome;
use engine::live::TapEvent;
use proptest::prelude::*;
use std::sync::Arc;
use storage::model::value::STALE;
use storage::model::{Labels, TimeMs};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

fn all() -> HistorySelection {
    let (rule, fingerprint) = Default::default();
    HistorySelection { rule, fingerprint, start: TimeMs::MIN, end: TimeMs::MAX, limit: usize::MAX }
}

/// All changes, the oldest first.
fn changes(core: &ActiveRules) -> Vec<Arc<AlertTransition>> {
    let mut found = core.history().select(&all()).transitions;
    found.reverse();
    found
}

/// A change as `time from>to reason instance`.
fn lines(core: &ActiveRules) -> Vec<String> {
    let line = |transition: &Arc<AlertTransition>| {
        let change = &transition.change;
        let instance = change.labels.get("instance").unwrap_or("");
        let from = change.from.as_str();
        let to = change.to.as_str();
        format!("{} {from}>{to} {} {instance}", change.at, change.reason.as_str())
    };
    changes(core).iter().map(line).collect()
}

fn begin(fixture: &Fixture, rules: Vec<RuleGroup>, now: TimeMs) -> ActiveRules {
    let mut core = fixture.core();
    core.apply(rules, &Labels::default(), now).unwrap();
    core
}

fn run(core: &mut ActiveRules, from: TimeMs, to: TimeMs) {
    let mut now = from;
    while now <= to {
        now = core.step(now).max(now + 1);
    }
    core.step(to);
}

fn reborn(fixture: &Fixture) -> Fixture {
    Fixture { store: fixture.store.clone(), memory: fixture.memory.clone(), ..Fixture::default() }
}

fn down(hold: i64) -> Rule {
    alert("Down", "up", hold)
}

fn rule_that_keeps_firing(hold: i64, keep_firing_for: i64) -> Rule {
    let mut rule = down(hold);
    rule.alert.as_mut().unwrap().keep_firing_for = keep_firing_for;
    rule
}

#[test]
fn every_change_has_its_time_and_reason() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, vec![group(vec![rule_that_keeps_firing(10 * SECOND, 5 * SECOND)])], 0);
    fixture.views.push("Down", delta(1_000, &[("a:1", 0.0), ("b:1", 0.0)], &[]));
    run(&mut core, 1_000, 3_000);
    fixture.views.push("Down", delta(4_000, &[], &["b:1"]));
    run(&mut core, 4_000, 20_000);
    fixture.views.push("Down", delta(20_000, &[], &["a:1"]));
    run(&mut core, 20_000, 30_000);
    assert_eq!(
        lines(&core),
        [
            "1000 inactive>pending row a:1",
            "1000 inactive>pending row b:1",
            "4000 pending>inactive row_gone b:1",
            "11000 pending>firing for a:1",
            "25000 firing>inactive keep_firing a:1",
        ]
    );
}

#[test]
fn without_for_an_alert_was_never_pending() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, vec![group(vec![down(0)])], 0);
    fixture.views.push("Down", delta(1_000, &[("a:1", 0.0)], &[]));
    core.step(1_000);
    fixture.views.push("Down", delta(2_000, &[], &["a:1"]));
    core.step(2_000);
    assert_eq!(lines(&core), ["1000 inactive>firing row a:1", "2000 firing>inactive row_gone a:1"]);
}

#[test]
fn a_limit_a_reload_and_a_restart_end_alerts() {
    let fixture = Fixture::default();
    let limited = RuleGroup { limit: 1, ..group(vec![down(0)]) };
    let mut core = begin(&fixture, vec![limited], 0);
    fixture.views.push("Down", delta(1_000, &[("a:1", 0.0)], &[]));
    core.step(1_000);
    fixture.views.push("Down", delta(2_000, &[("b:1", 0.0)], &[]));
    core.step(2_000);
    let ended = ["2000 firing>inactive error a:1", "2000 firing>inactive error b:1"];
    assert!(ended.iter().all(|line| lines(&core).contains(&(*line).to_owned())), "{:?}", lines(&core));

    let fixture = Fixture::default();
    let mut core = begin(&fixture, vec![group(vec![down(0)])], 0);
    fixture.views.push("Down", delta(1_000, &[("a:1", 0.0)], &[]));
    core.step(1_000);
    core.apply(Vec::new(), &Labels::default(), 3_000).unwrap();
    assert_eq!(lines(&core).last().unwrap(), "3000 firing>inactive reload a:1");

    // The rule is gone when the server comes back.
    let fixture = Fixture::default();
    let mut core = begin(&fixture, vec![group(vec![down(0)])], 0);
    fixture.views.push("Down", delta(1_000, &[("a:1", 0.0)], &[]));
    core.step(1_000);
    let core = begin(&reborn(&fixture), vec![group(vec![alert("Other", "x", 0)])], 5_000);
    assert_eq!(lines(&core).last().unwrap(), "5000 firing>inactive reload a:1");

    // The row does not come back, and an outage that is too long.
    for (start, expected) in [
        (10 * SECOND, "14000 firing>inactive restart a:1"),
        (3 * 3_600 * SECOND, "10800000 firing>inactive restart a:1"),
    ] {
        let fixture = Fixture::default();
        let mut core = begin(&fixture, vec![group(vec![down(0)])], 0);
        fixture.views.push("Down", delta(1_000, &[("a:1", 0.0)], &[]));
        core.step(1_000);
        let second = reborn(&fixture);
        let mut core = begin(&second, vec![group(vec![down(0)])], start);
        second.views.push("Down", TapEvent::Snapshot { t: start + 4_000, rows: Vec::new() });
        run(&mut core, start, start + 3 * MINUTE);
        assert_eq!(lines(&core).last().unwrap(), expected);
    }
}

#[test]
fn a_change_has_its_cause() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, vec![group(vec![down(0)])], 0);
    for (t, value) in [(500, 1.0), (990, 0.0)] {
        fixture.store.put(row("a:1"), t, value);
        fixture.store.put(row("b:1"), t, 1.0);
    }
    fixture.views.push("Down", delta(1_000, &[("a:1", 0.0)], &[]));
    run(&mut core, 1_000, 1_100);
    fixture.store.put(row("a:1"), 1_990, STALE);
    fixture.views.push("Down", delta(2_000, &[], &["a:1"]));
    run(&mut core, 2_000, 2_100);
    let causes: Vec<Vec<SeriesMove>> =
        changes(&core).iter().map(|t| t.cause.clone().expect("a cause").series).collect();
    let moved = |before, after, t| SeriesMove { labels: row("a:1"), before, after, t };
    assert_eq!(causes[0], [moved(Some(1.0), Some(0.0), 990)]);
    assert_eq!(causes[1], [moved(Some(0.0), None, 1_990)], "the series ended");
}

#[test]
fn a_cause_that_was_not_looked_up_before_a_kill_is_looked_up_then() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, vec![group(vec![down(MINUTE)])], 0);
    fixture.views.push("Down", delta(1_000, &[("a:1", 0.0)], &[]));
    core.step(1_000);
    // As it was saved together with the state.
    let bare = AlertTransition { cause: None, ..AlertTransition::clone(&changes(&core)[0]) };
    let saved = crate::alert_persistence::transition(&bare).unwrap();
    crate::alert_persistence::AlertPersistence::save(&*fixture.memory, vec![saved]);
    fixture.store.put(row("a:1"), 990, 0.0);
    let second = reborn(&fixture);
    let mut core = begin(&second, vec![group(vec![down(MINUTE)])], 2_000);
    core.step(2_000);
    let moved = SeriesMove { labels: row("a:1"), before: None, after: Some(0.0), t: 990 };
    assert_eq!(changes(&core)[0].cause.as_ref().unwrap().series, [moved]);
}

#[test]
fn what_alertmanagers_answered_is_kept_once() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, vec![group(vec![down(0)])], 0);
    fixture.views.push("Down", delta(1_000, &[("a:1", 0.0)], &[]));
    core.step(1_000);
    let sent = fixture.take_sent();
    let answer = |alertmanager: &str, error: &str| {
        let outcome = DeliveryOutcome { alertmanager: alertmanager.to_owned(), error: error.to_owned() };
        (sent[0].receipt.0)(&outcome);
    };
    answer("http://a", "refused");
    core.step(1_010);
    answer("http://a", "");
    answer("http://b", "");
    core.step(1_020);
    answer("http://a", "");
    core.step(1_030);
    let kept = |core: &ActiveRules| -> Vec<String> {
        let deliveries = changes(core)[0].deliveries.clone();
        deliveries.iter().map(|d| format!("{} {} {}", d.alertmanager, d.at, d.error)).collect()
    };
    assert_eq!(kept(&core), ["http://a 1020 ", "http://b 1020 "]);
    let core = begin(&reborn(&fixture), vec![group(vec![down(0)])], 2_000);
    assert_eq!(kept(&core), ["http://a 1020 ", "http://b 1020 "]);
}

#[test]
fn the_history_is_bounded_and_says_since_when_it_is_complete() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, vec![group(vec![down(0)])], 5);
    assert_eq!(core.history().select(&all()).kept_from, 5);
    let rounds = ALERT_TRANSITIONS as i64 / 2 + 10;
    for i in 0..rounds {
        let t = 1_000 + i * 10;
        fixture.views.push("Down", delta(t, &[("a:1", 0.0)], &[]));
        fixture.views.push("Down", delta(t + 5, &[], &["a:1"]));
        core.step(t + 5);
        // The fake store searches all of them for each cause.
        fixture.store.take();
    }
    let check = |core: &ActiveRules| {
        let page = core.history().select(&all());
        assert_eq!(page.transitions.len(), ALERT_TRANSITIONS);
        let oldest = page.transitions.last().unwrap().change.at;
        assert!(page.kept_from > 1_000 && page.kept_from <= oldest, "{} {oldest}", page.kept_from);
        assert_eq!(page.transitions[0].change.at, 1_000 + (rounds - 1) * 10 + 5);
    };
    check(&core);
    check(&begin(&reborn(&fixture), vec![group(vec![down(0)])], 1_000_000));
    let some = core.history().select(&HistorySelection { limit: 3, start: 2_000, end: 2_004, ..all() });
    assert_eq!((some.transitions.len(), some.truncated), (1, false));
    let few = core.history().select(&HistorySelection { limit: 3, rule: "f.yml;g;Down".to_owned(), ..all() });
    assert_eq!((few.transitions.len(), few.truncated), (3, true));
    assert!(
        core.history().select(&HistorySelection { rule: "Up".to_owned(), ..all() }).transitions.is_empty()
    );
    let other = HistorySelection { fingerprint: Some(1), ..all() };
    assert!(core.history().select(&other).transitions.is_empty());
}

/// The history of a run in which the process is killed after every act, or never.
fn told(acts: &[(i64, u8, bool)], hold: i64, kills: bool) -> Vec<String> {
    let rules = || vec![group(vec![rule_that_keeps_firing(hold, 3 * SECOND)])];
    let mut fixture = Fixture::default();
    let mut core = begin(&fixture, rules(), 0);
    let mut now = 1_000;
    let mut up: std::collections::BTreeSet<&str> = Default::default();
    for (pause, which, holds) in acts {
        let instance = ["a:1", "b:1", "c:1"][usize::from(*which)];
        let event = if *holds {
            up.insert(instance);
            delta(now, &[(instance, 0.0)], &[])
        } else {
            up.remove(instance);
            delta(now, &[], &[instance])
        };
        fixture.views.push("Down", event);
        fixture.views.push("Down", TapEvent::Progress { t: now });
        run(&mut core, now, now + 150);
        if kills {
            fixture = reborn(&fixture);
            core = begin(&fixture, rules(), now + 200);
            let rows = up.iter().map(|i| (row(i), 0.0.into())).collect();
            fixture.views.push("Down", TapEvent::Snapshot { t: now + 201, rows });
            core.step(now + 201);
        }
        run(&mut core, now + 201, now + 201 + pause);
        now += 201 + pause;
    }
    run(&mut core, now, now + 10 * MINUTE);
    lines(&core)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// A process that is killed again and again has the same history as one that is not: each
    /// change once, with its exact time.
    #[test]
    fn kills_leave_no_trace(
        acts in proptest::collection::vec((1_000i64..20_000, 0u8..3, any::<bool>()), 1..12),
        hold in prop_oneof![Just(0i64), 1i64..10_000],
    ) {
        prop_assert_eq!(told(&acts, hold, true), told(&acts, hold, false));
    }
}
