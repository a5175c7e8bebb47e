//! Tests of alerts after a restart and after a reload: nothing is delayed, sent twice or lost.

use super::managed::{Fixture, SentAlerts, alert, delta, group, row};
use crate::active_rules::ActiveRules;
use crate::file::{EvaluationMode, Rule, RuleGroup, fake_compile};
use crate::limits::TIMER_SLACK_MS;
use crate::services::{AlertNotification, DeliveryOutcome};
use engine::live::TapEvent;
use proptest::prelude::*;
use std::collections::BTreeMap;
use storage::model::{Labels, TimeMs};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

fn snapshot(t: TimeMs, up: &[&str]) -> TapEvent {
    TapEvent::Snapshot { t, rows: up.iter().map(|i| (row(i), 0.0.into())).collect() }
}

fn failed(t: TimeMs) -> TapEvent {
    TapEvent::Failed { t, error: "found duplicate series".to_owned() }
}

fn begin(fixture: &Fixture, rules: Vec<RuleGroup>, now: TimeMs) -> ActiveRules {
    let mut core = fixture.core();
    core.apply(rules, &Labels::default(), now).unwrap();
    core
}

/// Another process on the same data.
fn reborn(fixture: &Fixture) -> Fixture {
    Fixture { store: fixture.store.clone(), memory: fixture.memory.clone(), ..Fixture::default() }
}

/// Lets time pass up to `to`, with a step whenever one is due.
fn run(core: &mut ActiveRules, from: TimeMs, to: TimeMs) {
    let mut now = from;
    while now <= to {
        now = core.step(now).max(now + 1);
    }
    core.step(to);
}

fn accepted() -> DeliveryOutcome {
    DeliveryOutcome { alertmanager: "http://am".to_owned(), error: String::new() }
}

/// The alerts that were sent; each is accepted by an Alertmanager immediately.
fn taken(sent: &SentAlerts) -> Vec<AlertNotification> {
    let all = std::mem::take(&mut *sent.0.lock());
    for alert in all.iter() {
        (alert.receipt.0)(&accepted());
    }
    all
}

fn down(hold: i64) -> Vec<RuleGroup> {
    vec![group(vec![alert("Down", "up", hold)])]
}

#[test]
fn a_kill_in_the_middle_of_for_delays_nothing() {
    // Longer than the grace period of Prometheus as well.
    for hold in [5 * MINUTE, 15 * MINUTE] {
        let fixture = Fixture::default();
        let mut core = begin(&fixture, down(hold), 0);
        fixture.views.push("Down", delta(1_234, &[("a:1", 0.0)], &[]));
        run(&mut core, 1_234, 2 * MINUTE);
        let second = reborn(&fixture);
        let mut core = begin(&second, down(hold), 3 * MINUTE);
        second.views.push("Down", snapshot(3 * MINUTE, &["a:1"]));
        run(&mut core, 3 * MINUTE, 1_234 + hold + 99);
        assert!(second.take_sent().is_empty());
        run(&mut core, 1_234 + hold + 99, 1_234 + hold + 200);
        let sent = second.take_sent();
        assert_eq!(sent.iter().map(|a| a.starts_at).collect::<Vec<_>>(), [1_234 + hold]);
    }
}

#[test]
fn for_that_ended_while_the_process_was_dead_fires_at_once() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, down(5 * MINUTE), 0);
    fixture.views.push("Down", delta(1_234, &[("a:1", 0.0)], &[]));
    run(&mut core, 1_234, 4 * MINUTE);
    let second = reborn(&fixture);
    let mut core = begin(&second, down(5 * MINUTE), 7 * MINUTE);
    core.step(7 * MINUTE);
    assert!(second.take_sent().is_empty(), "not before the condition has been looked at");
    second.views.push("Down", snapshot(7 * MINUTE + 5, &["a:1"]));
    core.step(7 * MINUTE + 10);
    assert_eq!(second.take_sent()[0].starts_at, 1_234 + 5 * MINUTE);
}

#[test]
fn an_outage_beyond_the_tolerance_begins_anew() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, down(5 * MINUTE), 0);
    fixture.views.push("Down", delta(0, &[("a:1", 0.0)], &[]));
    run(&mut core, 0, 4 * MINUTE);
    let second = reborn(&fixture);
    let start = 66 * MINUTE;
    let mut core = begin(&second, down(5 * MINUTE), start);
    second.views.push("Down", snapshot(start, &["a:1"]));
    core.step(start);
    let alerts = core.snapshot(start).remove(0).rules.remove(0).alerting.unwrap().alerts;
    assert_eq!((alerts[0].state.as_str(), alerts[0].active_at), ("pending", start));
}

#[test]
fn what_was_told_is_not_told_again_before_its_time() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, down(0), 0);
    fixture.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    core.step(500);
    assert_eq!(taken(&fixture.sent).len(), 1);
    core.step(510);
    let second = reborn(&fixture);
    let mut core = begin(&second, down(0), 20 * SECOND);
    second.views.push("Down", snapshot(20 * SECOND, &["a:1"]));
    run(&mut core, 20 * SECOND, 2 * MINUTE - 1);
    assert!(second.take_sent().is_empty());
    run(&mut core, 2 * MINUTE - 1, 2 * MINUTE);
    let sent = second.take_sent();
    assert_eq!(sent.iter().map(|a| (a.starts_at, a.resolved)).collect::<Vec<_>>(), [(500, false)]);
}

#[test]
fn what_nobody_took_is_told_again_at_once() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, down(0), 0);
    fixture.views.push("Down", delta(500, &[("a:1", 0.0), ("b:1", 0.0)], &[]));
    core.step(500);
    fixture.take_sent();
    fixture.views.push("Down", delta(600, &[], &["b:1"]));
    core.step(600);
    fixture.take_sent();
    let second = reborn(&fixture);
    let mut core = begin(&second, down(0), SECOND);
    core.step(SECOND);
    let sent = second.take_sent();
    assert_eq!(sent.len(), 1, "the one that had ended waits for nothing");
    assert_eq!((sent[0].resolved, sent[0].starts_at, sent[0].ends_at), (true, 500, 600));
    second.views.push("Down", snapshot(SECOND, &["a:1"]));
    core.step(SECOND + 10);
    let sent = second.take_sent();
    assert_eq!(sent.iter().map(|a| (a.starts_at, a.resolved)).collect::<Vec<_>>(), [(500, false)]);
}

#[test]
fn what_ended_while_the_process_was_dead_is_resolved() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, down(0), 0);
    fixture.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    core.step(500);
    taken(&fixture.sent);
    core.step(510);
    let second = reborn(&fixture);
    let mut core = begin(&second, down(0), 20 * SECOND);
    // The newest sample from before is still in the window; then the target reports that it is up.
    second.views.push("Down", snapshot(20 * SECOND, &["a:1"]));
    second.views.push("Down", delta(25 * SECOND, &[], &["a:1"]));
    core.step(25 * SECOND);
    let sent = second.take_sent();
    assert_eq!(sent.iter().map(|a| (a.resolved, a.ends_at)).collect::<Vec<_>>(), [(true, 25 * SECOND)]);
}

#[test]
fn a_row_that_never_comes_ends_its_alert_at_the_first_answer_without_it() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, down(0), 0);
    fixture.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    core.step(500);
    taken(&fixture.sent);
    core.step(510);
    let second = reborn(&fixture);
    let mut core = begin(&second, down(0), 10 * SECOND);
    second.views.push("Down", snapshot(10 * SECOND, &[]));
    run(&mut core, 10 * SECOND, 2 * MINUTE);
    assert!(second.take_sent().is_empty(), "its target may not have been scraped again");
    run(&mut core, 2 * MINUTE, 3 * MINUTE);
    let sent = second.take_sent();
    assert_eq!(sent.iter().map(|a| (a.resolved, a.ends_at)).collect::<Vec<_>>(), [(true, 10 * SECOND)]);
}

/// A long window is still being read: an answer without rows means nothing.
#[test]
fn alerts_wait_for_the_first_answer_however_late_it_comes() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, down(0), 0);
    fixture.views.push("Down", delta(500, &[("a:1", 0.0), ("b:1", 0.0)], &[]));
    core.step(500);
    taken(&fixture.sent);
    core.step(510);
    let second = reborn(&fixture);
    let mut core = begin(&second, down(0), 10 * SECOND);
    run(&mut core, 10 * SECOND, 10 * MINUTE);
    second.views.push("Down", failed(10 * MINUTE));
    run(&mut core, 10 * MINUTE, 20 * MINUTE);
    assert!(second.take_sent().is_empty());
    second.views.push("Down", snapshot(20 * MINUTE, &["a:1"]));
    core.step(20 * MINUTE);
    let sent = second.take_sent();
    let mut seen: Vec<_> =
        sent.iter().map(|a| (a.labels.get("instance").unwrap(), a.resolved, a.starts_at)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [("a:1", false, 500), ("b:1", true, 500)]);
}

#[test]
fn keep_firing_for_goes_on_over_a_kill() {
    let rules = || {
        let mut rules = down(0);
        rules[0].rules[0].alert.as_mut().unwrap().keep_firing_for = 5 * MINUTE;
        rules
    };
    let fixture = Fixture::default();
    let mut core = begin(&fixture, rules(), 0);
    fixture.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    fixture.views.push("Down", delta(MINUTE, &[], &["a:1"]));
    core.step(MINUTE);
    taken(&fixture.sent);
    core.step(MINUTE + 10);
    let second = reborn(&fixture);
    let mut core = begin(&second, rules(), 3 * MINUTE);
    second.views.push("Down", snapshot(3 * MINUTE, &[]));
    run(&mut core, 3 * MINUTE, 7 * MINUTE);
    let resolved: Vec<TimeMs> = second.take_sent().iter().filter(|a| a.resolved).map(|a| a.ends_at).collect();
    assert_eq!(resolved, [6 * MINUTE]);
}

/// Rules in another order, a group with another name, another `for`; at a restart and at a reload.
#[test]
fn changed_files_keep_their_alerts() {
    let old = || vec![group(vec![alert("Down", "up", 10 * MINUTE), alert("Slow", "slow", MINUTE)])];
    let new = || {
        let rules =
            vec![alert("New", "new", 0), alert("Slow", "slow", MINUTE), alert("Down", "up", 5 * MINUTE)];
        vec![RuleGroup { name: "renamed".into(), ..group(rules) }]
    };
    let fixture = Fixture::default();
    let mut core = begin(&fixture, old(), 0);
    fixture.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    fixture.views.push("Slow", delta(700, &[("s:1", 0.0)], &[]));
    run(&mut core, 700, 2 * MINUTE);
    assert_eq!(taken(&fixture.sent).len(), 1, "Slow fires");
    core.step(2 * MINUTE);
    let starts = |core: &ActiveRules| {
        let rules = core.snapshot(3 * MINUTE).remove(0).rules;
        let alerts = rules.into_iter().flat_map(|r| {
            r.alerting
                .unwrap()
                .alerts
                .into_iter()
                .map(move |a| (r.name.clone(), a.state.as_str(), a.active_at))
        });
        alerts.collect::<Vec<_>>()
    };
    let expected = [("Slow".to_owned(), "firing", 700), ("Down".to_owned(), "pending", 500)];
    let second = reborn(&fixture);
    let reloaded = &mut core;
    let before = fixture.views.names();
    reloaded.apply(new(), &Labels::default(), 3 * MINUTE).unwrap();
    assert_eq!(fixture.views.names()[..2], before[..], "the views have stayed");
    assert_eq!(starts(reloaded), expected);
    run(reloaded, 3 * MINUTE, 6 * MINUTE);
    let sent = taken(&fixture.sent);
    let first = sent.iter().find(|a| a.labels.get("alertname") == Some("Down")).unwrap();
    assert_eq!(first.starts_at, 500 + 5 * MINUTE);

    // Once more, from what was saved under the new names.
    let mut core = begin(&second, old(), 7 * MINUTE);
    second.views.push("Down", snapshot(7 * MINUTE, &["a:1"]));
    second.views.push("Slow", snapshot(7 * MINUTE, &["s:1"]));
    core.step(7 * MINUTE);
    let back = [("Down".to_owned(), "firing", 500), ("Slow".to_owned(), "firing", 700)];
    assert_eq!(starts(&core), back, "what fires does not wait again");
}

#[test]
fn a_changed_threshold_keeps_what_still_holds_and_ends_the_rest() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, down(0), 0);
    fixture.views.push("Down", delta(500, &[("a:1", 0.0), ("b:1", 0.0)], &[]));
    core.step(500);
    assert_eq!(taken(&fixture.sent).len(), 2);
    let rewritten = Rule { expr: fake_compile("up_now").unwrap(), ..alert("Down", "up", 0) };
    // An answer of the old plan is still in the queue when the rule changes.
    fixture.views.push("Down", delta(600, &[("c:1", 0.0)], &[]));
    core.apply(vec![group(vec![rewritten])], &Labels::default(), SECOND).unwrap();
    fixture.views.push("Down", snapshot(2 * SECOND, &["a:1"]));
    core.step(2 * SECOND);
    let sent = taken(&fixture.sent);
    let seen: Vec<_> =
        sent.iter().map(|a| (a.labels.get("instance").unwrap(), a.resolved, a.ends_at)).collect();
    assert_eq!(seen, [("b:1", true, 2 * SECOND)]);
    let alerts = core.snapshot(2 * SECOND).remove(0).rules.remove(0).alerting.unwrap().alerts;
    assert_eq!(alerts.iter().map(|a| a.active_at).collect::<Vec<_>>(), [500]);
}

/// As in Prometheus: while it is not known what holds, nothing changes and nothing is sent.
#[test]
fn a_failing_evaluation_changes_no_alert() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, down(5 * MINUTE), 0);
    fixture.views.push("Down", delta(500, &[("a:1", 0.0), ("b:1", 0.0)], &[]));
    run(&mut core, 500, MINUTE);
    fixture.views.push("Down", failed(MINUTE));
    fixture.store.take();
    run(&mut core, MINUTE, 20 * MINUTE);
    assert!(taken(&fixture.sent).is_empty() && fixture.store.take().is_empty());
    fixture.views.push("Down", delta(20 * MINUTE, &[], &["a:1"]));
    fixture.views.push("Down", TapEvent::Progress { t: 20 * MINUTE });
    core.step(20 * MINUTE);
    let sent = taken(&fixture.sent);
    let seen: Vec<_> = sent.iter().map(|a| (a.labels.get("instance").unwrap(), a.starts_at)).collect();
    assert_eq!(seen, [("b:1", 20 * MINUTE)]);
}

/// A server to which others write their alerts.
#[test]
fn alerts_of_others_are_left_alone() {
    let edge = Fixture::default();
    let mut core = begin(&edge, down(0), 0);
    edge.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    core.step(500);
    let centre = Fixture { store: edge.store.clone(), ..Fixture::default() };
    let theirs = edge.store.len();
    let mut core = begin(&centre, down(0), 10 * SECOND);
    centre.views.push("Down", snapshot(10 * SECOND, &[]));
    run(&mut core, 10 * SECOND, 5 * MINUTE);
    let slower = vec![group(vec![alert("Down", "up", 0), alert("Down", "up_slowly", 0)])];
    core.apply(slower, &Labels::default(), 5 * MINUTE).unwrap();
    run(&mut core, 5 * MINUTE, 10 * MINUTE);
    assert!(centre.take_sent().is_empty());
    assert_eq!(centre.store.len(), theirs, "theirs, and nothing else");
    let alerts = core.snapshot(10 * MINUTE).remove(0).rules.remove(0).alerting.unwrap().alerts;
    assert!(alerts.is_empty());
}

/// A rule that a reload adds does not take over the alerts of a running rule.
#[test]
fn a_new_rule_leaves_the_alerts_of_others_alone() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, down(0), 0);
    fixture.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    core.step(500);
    taken(&fixture.sent);
    let mut namesake = alert("Down", "other", 0);
    namesake.labels.clear();
    core.apply(vec![group(vec![namesake, alert("Down", "up", 0)])], &Labels::default(), SECOND).unwrap();
    run(&mut core, SECOND, 5 * MINUTE);
    assert!(taken(&fixture.sent).iter().all(|a| !a.resolved));
}

#[test]
fn another_evaluation_mode_keeps_the_alerts() {
    let fixture = Fixture::default();
    let mut core = begin(&fixture, down(0), 0);
    fixture.views.push("Down", delta(500, &[("a:1", 0.0)], &[]));
    core.step(500);
    taken(&fixture.sent);
    let slots =
        vec![RuleGroup { evaluation: EvaluationMode::Interval, ..group(vec![alert("Down", "up", 0)]) }];
    core.apply(slots, &Labels::default(), SECOND).unwrap();
    fixture.views.push("Down", snapshot(2 * SECOND, &["a:1"]));
    run(&mut core, 2 * SECOND, 3 * MINUTE);
    assert!(taken(&fixture.sent).iter().all(|a| !a.resolved && a.starts_at == 500));
    core.apply(down(0), &Labels::default(), 4 * MINUTE).unwrap();
    fixture.views.push("Down", snapshot(4 * MINUTE + 10, &["a:1"]));
    fixture.views.push("Down", delta(4 * MINUTE + 20, &[], &["a:1"]));
    core.step(4 * MINUTE + 20);
    assert_eq!(taken(&fixture.sent).last().map(|a| (a.resolved, a.ends_at)), Some((true, 4 * MINUTE + 20)));
}

/// One instance goes down or up, after this many ms; then the process may be killed.
type InstanceChange = (i64, u8, bool, bool);

/// What Alertmanager received, without repetitions of a firing alert after the resend delay.
fn heard(
    acts: &[InstanceChange],
    hold: i64,
    keep_firing_for: i64,
    evaluation: EvaluationMode,
    kills: bool,
) -> Vec<(String, TimeMs, Option<TimeMs>)> {
    let rules = || {
        let mut rules = down(hold);
        rules[0].evaluation = evaluation;
        if evaluation == EvaluationMode::Interval {
            rules[0].interval = 5_000;
        }
        rules[0].rules[0].alert.as_mut().unwrap().keep_firing_for = keep_firing_for;
        rules
    };
    let mut fixture = Fixture::default();
    let mut core = begin(&fixture, rules(), 0);
    let mut heard = Vec::new();
    let mut listen = |fixture: &Fixture, core: &mut ActiveRules, now: TimeMs| {
        // The order of different alerts in one notification does not matter.
        let mut together = taken(&fixture.sent);
        together.sort_by(|a, b| a.labels.cmp(&b.labels));
        for a in together {
            let end = a.resolved.then_some(a.ends_at);
            heard.push((a.labels.get("instance").unwrap_or("").to_owned(), a.starts_at, end));
        }
        core.step(now);
    };
    let mut up: BTreeMap<u8, ()> = BTreeMap::new();
    let mut now = 0;
    let mut ended = -1;
    for (wait, instance, holds, killed) in acts.iter().copied().chain([(2 * MINUTE, 0, false, false)]) {
        let then = now + wait;
        while now < then {
            now = core.step(now).clamp(now + 1, then);
            listen(&fixture, &mut core, now);
        }
        // An evaluation time without a step is missed, as in Prometheus; and an alert whose row
        // ended between the last evaluation time and the kill waits for the row to come again.
        let missed = now % 5_000 <= TIMER_SLACK_MS || ended >= now - now % 5_000;
        if kills && killed && !(evaluation == EvaluationMode::Interval && missed) {
            fixture = reborn(&fixture);
            core = begin(&fixture, rules(), now);
            let names: Vec<String> = up.keys().map(|i| format!("i:{i}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            fixture.views.push("Down", snapshot(now, &names));
        }
        let name = format!("i:{instance}");
        let event = match holds {
            true if up.insert(instance, ()).is_none() => delta(now, &[(&name, 0.0)], &[]),
            false if up.remove(&instance).is_some() => {
                ended = now;
                delta(now, &[], &[&name])
            }
            _ => continue,
        };
        fixture.views.push("Down", event);
        core.step(now);
        listen(&fixture, &mut core, now);
    }
    heard
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// A process that is killed again and again sends the same as one that is not: the same alerts,
    /// the same times, in the same order, each once.
    #[test]
    fn kills_are_not_heard(
        acts in proptest::collection::vec((1i64..20_000, 0u8..3, any::<bool>(), any::<bool>()), 1..20),
        hold in prop_oneof![Just(0i64), 1i64..30_000],
        keep_firing_for in prop_oneof![2 => Just(0i64), 1 => 1i64..30_000],
    ) {
        prop_assert_eq!(
            heard(&acts, hold, keep_firing_for, EvaluationMode::Continuous, true),
            heard(&acts, hold, keep_firing_for, EvaluationMode::Continuous, false)
        );
    }

    /// The same with `evaluation: interval`, except for repetitions.
    #[test]
    fn kills_are_not_heard_in_slots(
        acts in proptest::collection::vec((1i64..20_000, 0u8..3, any::<bool>(), any::<bool>()), 1..20),
        hold in prop_oneof![Just(0i64), 1i64..30_000],
        keep_firing_for in prop_oneof![1 => Just(0i64), 2 => 1i64..30_000],
    ) {
        let heard = |kills| {
            let mut heard = heard(&acts, hold, keep_firing_for, EvaluationMode::Interval, kills);
            heard.sort_by(|a, b| a.0.cmp(&b.0));
            heard.dedup();
            heard
        };
        prop_assert_eq!(heard(true), heard(false));
    }
}
