//! Tests that a trial of a rule says what a rule did that really ran: the same rows at the same
//! times give the same changes and the same notifications.

use super::managed::{Fixture, alert, group, row};
use crate::alert::AlertState;
use crate::alert_history::HistorySelection;
use crate::file::{EvaluationMode, Rule, RuleGroup};
use crate::limits::TIMER_SLACK_MS;
use crate::manager::RuleManagerOptions;
use crate::trial::{RuleTrial, TrialReport, first_time, is_possible_step};
use engine::live::TapEvent;
use proptest::prelude::*;
use storage::model::{Labels, TimeMs};

const SECOND: i64 = 1_000;
const STEP: i64 = 15 * SECOND;

/// The instances whose row there is at each evaluation time.
type RowsByTime = Vec<Vec<u8>>;

fn instance(i: u8) -> String {
    format!("{}:1", char::from(b'a' + i))
}

fn rule(hold: i64, keep_firing_for: i64) -> Rule {
    let mut rule = alert("Down", "up", hold);
    rule.alert.as_mut().unwrap().keep_firing_for = keep_firing_for;
    rule
}

fn one_rule(evaluation: EvaluationMode, rule: Rule) -> RuleGroup {
    RuleGroup { interval: STEP, evaluation, ..group(vec![rule]) }
}

/// An interval: instance, begin, end, state; and how many alerts were sent.
type AlertsOfRun = (Vec<(String, TimeMs, TimeMs, AlertState)>, u64);

/// What the rule did that ran, up to `end`.
fn really(past: &RowsByTime, group: RuleGroup, end: TimeMs) -> AlertsOfRun {
    let fixture = Fixture::default();
    let mut core = fixture.core();
    let start = STEP;
    core.apply(vec![group], &Labels::default(), start - 1).unwrap();
    let mut now = start - 1;
    for (i, rows) in past.iter().enumerate() {
        let t = start + i as i64 * STEP;
        while now < t {
            now = core.step(now).clamp(now + 1, t);
        }
        let rows = rows.iter().map(|i| (row(&instance(*i)), 0.0.into())).collect();
        fixture.views.push("Down", TapEvent::Snapshot { t, rows });
        fixture.views.push("Down", TapEvent::Progress { t });
        core.step(t);
    }
    // The slack of timers.
    while now < end + TIMER_SLACK_MS {
        now = core.step(now).clamp(now + 1, end + TIMER_SLACK_MS);
    }
    core.step(now);
    let selection = HistorySelection {
        rule: String::new(),
        fingerprint: None,
        start: TimeMs::MIN,
        end,
        limit: usize::MAX,
    };
    let mut intervals = Vec::new();
    let mut open: std::collections::BTreeMap<String, (TimeMs, AlertState)> = Default::default();
    for transition in core.history().select(&selection).transitions.iter().rev() {
        let change = &transition.change;
        let name = change.labels.get("instance").unwrap_or("").to_owned();
        if let Some((from, state)) = open.remove(&name) {
            intervals.push((name.clone(), from, change.at, state));
        }
        if change.to != AlertState::Inactive {
            open.insert(name, (change.at, change.to));
        }
    }
    intervals.extend(open.into_iter().map(|(name, (from, state))| (name, from, end, state)));
    intervals.sort();
    (intervals, fixture.take_sent().len() as u64)
}

fn tried(past: &RowsByTime, group: &RuleGroup, end: TimeMs) -> TrialReport {
    let fixture = Fixture::default();
    let options = RuleManagerOptions::default();
    let mut trial = RuleTrial::new(group, &group.rules[0], &options, fixture.query.clone(), STEP).unwrap();
    for (i, rows) in past.iter().enumerate() {
        let t = STEP + i as i64 * STEP;
        trial.answer(t, rows.iter().map(|i| (row(&instance(*i)), 0.0)).collect());
    }
    trial.finish(end)
}

fn told(report: &TrialReport) -> Vec<(String, TimeMs, TimeMs, AlertState)> {
    let of_alert = |alert: &crate::trial::TrialAlert| {
        let name = alert.labels.get("instance").unwrap_or("").to_owned();
        let intervals = alert.intervals.iter();
        intervals.map(|s| (name.clone(), s.from, s.to, s.state)).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = report.alerts.iter().flat_map(of_alert).collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_trial_says_what_the_rule_did(
        past in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..3), 1..40),
        hold in prop_oneof![Just(0i64), Just(STEP), 1i64..60_000],
        keep_firing_for in prop_oneof![2 => Just(0i64), 1 => 1i64..60_000],
        in_slots in any::<bool>(),
    ) {
        let distinct = |mut rows: Vec<u8>| {
            rows.sort_unstable();
            rows.dedup();
            rows
        };
        let past: RowsByTime = past.into_iter().map(distinct).collect();
        let evaluation = if in_slots { EvaluationMode::Interval } else { EvaluationMode::Continuous };
        let group = one_rule(evaluation, rule(hold, keep_firing_for));
        let end = STEP * past.len() as i64;
        let (intervals, sent) = really(&past, group.clone(), end);
        let report = tried(&past, &group, end);
        // An interval of no length says nothing; the history of a real rule has the changes all the
        // same.
        let intervals: Vec<_> = intervals.into_iter().filter(|s| s.1 < s.2 || s.3 == AlertState::Firing).collect();
        prop_assert_eq!(told(&report), intervals);
        prop_assert_eq!(report.evaluations, past.len() as u64);
        let fired = told(&report).iter().filter(|s| s.3 == AlertState::Firing).count() as u64;
        prop_assert_eq!(report.fired, fired);
        prop_assert_eq!(report.sent, sent);
    }
}

#[test]
fn failures_are_counted_and_change_nothing() {
    let fixture = Fixture::default();
    let group = one_rule(EvaluationMode::Continuous, rule(2 * STEP, 0));
    let options = RuleManagerOptions::default();
    let mut trial = RuleTrial::new(&group, &group.rules[0], &options, fixture.query.clone(), STEP).unwrap();
    let rows = || vec![(row("a:1"), 0.0)];
    trial.answer(STEP, rows());
    trial.failed(2 * STEP, "many-to-many".to_owned());
    trial.failed(3 * STEP, "again".to_owned());
    trial.answer(4 * STEP, rows());
    trial.answer(5 * STEP, Vec::new());
    let report = trial.finish(5 * STEP);
    assert_eq!((report.failures, report.first_failure), (2, Some((2 * STEP, "many-to-many".to_owned()))));
    assert_eq!((report.fired, report.firing_ms, report.notifications), (1, STEP, 2));
}

#[test]
fn times_are_those_of_the_grid() {
    assert_eq!((first_time(1, STEP), first_time(STEP, STEP), first_time(-1, STEP)), (STEP, STEP, 0));
    let slots = one_rule(EvaluationMode::Interval, rule(0, 0));
    assert!(is_possible_step(&slots, 2 * STEP) && !is_possible_step(&slots, STEP + 1));
    assert!(is_possible_step(&one_rule(EvaluationMode::Continuous, rule(0, 0)), STEP + 1));
}
