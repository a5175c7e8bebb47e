//! Tests of the state machine: the cases of Prometheus' `alerting_test.go`, and exact times.

use crate::alert::{Alert, AlertFromSeries, AlertState, AlertTiming, ConditionRow};
use crate::alert_states::AlertStates;
use crate::error::EvaluationError;
use storage::model::{Labels, TimeMs};

const MINUTE: i64 = 60_000;

fn timing(hold: i64, keep_firing_for: i64) -> AlertTiming {
    AlertTiming {
        for_duration: hold,
        keep_firing_for,
        resend_delay: MINUTE,
        interval: 15_000,
        limit: 0,
        continuous: true,
    }
}

fn row(name: &str, value: f64) -> ConditionRow {
    let row = Labels::from_pairs([("__name__", "m"), ("i", name)]);
    ConditionRow { row, alert: key(name), value }
}

fn key(name: &str) -> Labels {
    Labels::from_pairs([("alertname", "A"), ("i", name)])
}

fn holds(alerts: &mut AlertStates, t: TimeMs) {
    alerts.apply(t, vec![row("a", 1.0)], &[]).unwrap();
}

fn ends(alerts: &mut AlertStates, t: TimeMs) {
    alerts.apply(t, vec![], &[row("a", 1.0).row]).unwrap();
}

fn only(alerts: &AlertStates) -> &Alert {
    alerts.iter().next().unwrap().1
}

#[test]
fn without_for_an_alert_fires_at_once() {
    let mut alerts = AlertStates::new(timing(0, 0));
    holds(&mut alerts, 1_000);
    assert_eq!((only(&alerts).state, only(&alerts).fired_at), (AlertState::Firing, Some(1_000)));
    assert_eq!(alerts.take_due(1_000).len(), 1);
}

#[test]
fn for_ends_at_its_exact_millisecond() {
    let mut alerts = AlertStates::new(timing(MINUTE, 0));
    holds(&mut alerts, 1_234);
    assert_eq!(alerts.next_wake(), Some(61_234));
    alerts.advance(61_233);
    assert_eq!(alerts.state(), AlertState::Pending);
    assert!(alerts.take_due(61_233).is_empty());
    alerts.advance(70_000);
    assert_eq!(
        (alerts.state(), only(&alerts).fired_at, only(&alerts).active_at),
        (AlertState::Firing, Some(61_234), 1_234)
    );
}

#[test]
fn a_condition_that_ends_in_time_never_fires() {
    let mut alerts = AlertStates::new(timing(MINUTE, 0));
    holds(&mut alerts, 0);
    ends(&mut alerts, MINUTE);
    assert_eq!(alerts.iter().count(), 0);
    assert_eq!(alerts.next_wake(), None);
    holds(&mut alerts, 2 * MINUTE);
    assert_eq!(only(&alerts).active_at, 2 * MINUTE);
}

#[test]
fn a_late_removal_resolves_what_had_fired() {
    let mut alerts = AlertStates::new(timing(MINUTE, 0));
    holds(&mut alerts, 0);
    ends(&mut alerts, MINUTE + 1);
    let alert = only(&alerts);
    assert_eq!(
        (alert.state, alert.fired_at, alert.resolved_at),
        (AlertState::Inactive, Some(MINUTE), Some(MINUTE + 1))
    );
}

#[test]
fn at_slots_only_nothing_happens_between_them() {
    let mut alerts = AlertStates::new(AlertTiming { continuous: false, ..timing(MINUTE, 0) });
    holds(&mut alerts, 0);
    ends(&mut alerts, MINUTE + 15_000);
    assert_eq!(alerts.iter().count(), 0, "the slot at which it would have fired saw it end");
}

#[test]
fn keep_firing_for_runs_on_a_timer_and_is_reset_by_the_condition() {
    let mut alerts = AlertStates::new(timing(0, 5 * MINUTE));
    holds(&mut alerts, 0);
    ends(&mut alerts, MINUTE);
    assert_eq!((alerts.state(), only(&alerts).keep_firing_since), (AlertState::Firing, Some(MINUTE)));
    holds(&mut alerts, 2 * MINUTE);
    assert_eq!((only(&alerts).keep_firing_since, alerts.next_wake()), (None, None));
    ends(&mut alerts, 3 * MINUTE);
    alerts.advance(8 * MINUTE - 1);
    assert_eq!(alerts.state(), AlertState::Firing);
    alerts.advance(8 * MINUTE);
    assert_eq!((alerts.state(), only(&alerts).resolved_at), (AlertState::Inactive, Some(8 * MINUTE)));
}

#[test]
fn firing_alerts_are_sent_again_and_resolved_ones_for_15_minutes() {
    let mut alerts = AlertStates::new(timing(0, 0));
    holds(&mut alerts, 0);
    let first = alerts.take_due(0);
    assert_eq!(first[0].ends_at, 4 * MINUTE, "four times the larger of interval and resend delay");
    let again = MINUTE + 15_000;
    assert_eq!(alerts.next_send(), Some(again), "the first slot after which more than the delay has passed");
    assert!(alerts.take_due(again - 1).is_empty());
    assert_eq!(alerts.take_due(again).len(), 1);
    ends(&mut alerts, again + 5);
    let resolved = alerts.take_due(again + 5);
    assert_eq!((resolved[0].ends_at, resolved[0].alert.state), (again + 5, AlertState::Inactive));
    assert!(alerts.take_due(again + 6).is_empty());
    assert_eq!(alerts.next_send(), Some(again + MINUTE + 15_000));
    assert_eq!(alerts.take_due(again + MINUTE + 15_000).len(), 1, "sent again while it is kept");
    alerts.advance(again + 15 * MINUTE + 5);
    assert_eq!(alerts.iter().count(), 1);
    alerts.advance(again + 15 * MINUTE + 6);
    assert_eq!(alerts.iter().count(), 0);
}

#[test]
fn what_fires_and_ends_before_it_could_be_sent_is_told_in_both_states() {
    let mut alerts = AlertStates::new(timing(MINUTE, 0));
    holds(&mut alerts, 0);
    ends(&mut alerts, MINUTE + 50);
    let ended: Vec<_> = alerts.take_due(MINUTE + 60).iter().map(|d| d.alert.resolved_at).collect();
    assert_eq!(ended, [None, Some(MINUTE + 50)]);
    assert!(alerts.take_due(MINUTE + 70).is_empty());
}

/// An alert that was sent by the clock may end at a tick that is slightly older.
#[test]
fn an_end_is_told_at_once_even_if_it_is_older_than_the_last_sending() {
    let mut alerts = AlertStates::new(timing(0, 0));
    holds(&mut alerts, 0);
    alerts.take_due(100);
    ends(&mut alerts, 90);
    assert_eq!(alerts.take_due(101).iter().map(|due| due.ends_at).collect::<Vec<_>>(), [90]);
}

#[test]
fn an_alert_that_comes_back_starts_anew() {
    let mut alerts = AlertStates::new(timing(0, 0));
    holds(&mut alerts, 0);
    alerts.take_due(0);
    ends(&mut alerts, 10);
    holds(&mut alerts, 20);
    let alert = only(&alerts);
    assert_eq!((alert.active_at, alert.resolved_at, alert.last_sent_at), (20, None, None));
    assert_eq!(alerts.next_wake(), None, "the old alert's retention timer is gone");
}

#[test]
fn rows_that_become_one_alert_are_an_error_until_one_goes() {
    let mut alerts = AlertStates::new(timing(0, 0));
    let twin = ConditionRow { row: Labels::from_pairs([("__name__", "n"), ("i", "a")]), ..row("a", 2.0) };
    holds(&mut alerts, 0);
    assert!(matches!(alerts.apply(10, vec![twin.clone()], &[]), Err(EvaluationError::SameLabels)));
    assert!(alerts.condition.is_invalid());
    assert!(matches!(alerts.apply(20, vec![row("b", 1.0)], &[]), Err(EvaluationError::SameLabels)));
    assert_eq!(alerts.iter().count(), 1, "states stand still");
    assert!(alerts.apply(30, vec![], &[row("a", 1.0).row]).is_ok());
    let states: Vec<_> =
        alerts.iter().map(|(l, a)| (l.get("i").unwrap().to_owned(), a.active_at, a.value)).collect();
    assert_eq!(states, [("a".to_owned(), 0, 2.0), ("b".to_owned(), 30, 1.0)]);
}

#[test]
fn a_row_whose_templated_labels_change_becomes_another_alert() {
    let mut alerts = AlertStates::new(timing(0, 0));
    holds(&mut alerts, 0);
    alerts.apply(10, vec![ConditionRow { alert: key("z"), ..row("a", 2.0) }], &[]).unwrap();
    let states: Vec<_> = alerts.iter().map(|(l, a)| (l.get("i").unwrap().to_owned(), a.state)).collect();
    assert_eq!(states, [("a".to_owned(), AlertState::Inactive), ("z".to_owned(), AlertState::Firing)]);
}

#[test]
fn another_for_leaves_firing_alone() {
    let mut alerts = AlertStates::new(timing(0, 0));
    holds(&mut alerts, 0);
    alerts.take_due(0);
    alerts.set_timing(timing(5 * MINUTE, 0), MINUTE);
    assert_eq!((alerts.state(), alerts.next_wake()), (AlertState::Firing, None));
    assert_eq!(alerts.take_due(MINUTE + 15_000).len(), 1, "told again by its delay");
    ends(&mut alerts, 2 * MINUTE);
    assert_eq!(alerts.take_due(2 * MINUTE)[0].ends_at, 2 * MINUTE);
}

#[test]
fn while_evaluating_fails_nothing_happens() {
    let mut alerts = AlertStates::new(timing(MINUTE, 0));
    alerts.apply(0, vec![row("a", 1.0), row("b", 1.0)], &[]).unwrap();
    alerts.apply(10, vec![row("c", 1.0)], &[]).unwrap();
    alerts.condition.suspend();
    alerts.advance(5 * MINUTE);
    assert_eq!((alerts.state(), alerts.next_wake(), alerts.next_send()), (AlertState::Pending, None, None));
    // The row of one has gone in the meantime; the others have held for long enough, as far as is
    // known.
    ends(&mut alerts, 6 * MINUTE);
    let fired: Vec<_> = alerts.iter().map(|(l, a)| (l.get("i").unwrap().to_owned(), a.fired_at)).collect();
    assert_eq!(fired, [("b".to_owned(), Some(6 * MINUTE)), ("c".to_owned(), Some(6 * MINUTE))]);
    // An answer without a change is also an answer.
    let mut alerts = AlertStates::new(timing(MINUTE, 0));
    holds(&mut alerts, 0);
    alerts.condition.suspend();
    alerts.condition.resume_at(3 * MINUTE);
    alerts.advance(3 * MINUTE);
    assert_eq!(only(&alerts).fired_at, Some(3 * MINUTE));
}

#[test]
fn rows_out_of_order_stop_the_timers() {
    let mut alerts = AlertStates::new(timing(MINUTE, 0));
    holds(&mut alerts, 0);
    let twin = ConditionRow { row: Labels::from_pairs([("__name__", "n"), ("i", "a")]), ..row("a", 2.0) };
    assert!(matches!(alerts.apply(10, vec![twin.clone()], &[]), Err(EvaluationError::SameLabels)));
    alerts.advance(2 * MINUTE);
    assert_eq!(alerts.state(), AlertState::Pending);
    alerts.apply(3 * MINUTE, vec![], &[twin.row]).unwrap();
    assert_eq!(only(&alerts).fired_at, Some(3 * MINUTE));
}

#[test]
fn an_end_that_is_noticed_very_late_is_told() {
    let mut alerts = AlertStates::new(timing(0, 60 * MINUTE));
    holds(&mut alerts, 0);
    alerts.take_due(0);
    ends(&mut alerts, MINUTE);
    alerts.set_timing(timing(0, 10 * MINUTE), 41 * MINUTE);
    assert_eq!(alerts.take_due(41 * MINUTE).iter().map(|d| d.ends_at).collect::<Vec<_>>(), [41 * MINUTE]);
}

#[test]
fn limits_are_reported() {
    let mut alerts = AlertStates::new(AlertTiming { limit: 1, ..timing(0, 0) });
    alerts.apply(0, vec![row("a", 1.0), row("b", 1.0)], &[]).unwrap();
    assert_eq!(
        alerts.over_limit().map(|error| error.to_string()).as_deref(),
        Some("exceeded limit of 1 with 2 alerts")
    );
    alerts.clear(0);
    alerts.apply(10, vec![], &[row("b", 1.0).row]).unwrap();
    assert!(alerts.over_limit().is_none());
    assert_eq!(only(&alerts).active_at, 10);
}

#[test]
fn samples_show_state_and_start() {
    let mut alerts = AlertStates::new(timing(MINUTE, 0));
    holds(&mut alerts, 1_500);
    let samples: Vec<String> = alerts.samples("A").iter().map(|(l, v)| format!("{l} {v}")).collect();
    assert_eq!(
        samples,
        [
            r#"ALERTS_FOR_STATE{alertname="A", i="a"} 1"#,
            r#"ALERTS{alertname="A", alertstate="pending", i="a"} 1"#,
        ]
    );
}

fn old(active_at: TimeMs, seen_at: TimeMs, firing: bool) -> AlertFromSeries {
    AlertFromSeries { alert: key("a"), active_at, seen_at, firing }
}

#[test]
fn a_restart_keeps_what_was_firing() {
    let mut alerts = AlertStates::new(timing(MINUTE, 0));
    alerts.restore_from_series(vec![old(0, 2 * MINUTE, true)], 3 * MINUTE, 10 * MINUTE);
    assert!(alerts.take_due(3 * MINUTE).is_empty(), "not before its row was seen");
    holds(&mut alerts, 3 * MINUTE + 1);
    let alert = only(&alerts);
    assert_eq!((alert.state, alert.active_at, alert.fired_at), (AlertState::Firing, 0, Some(MINUTE)));
    assert_eq!(alerts.take_due(3 * MINUTE + 15_000).len(), 1);
    alerts.end_awaited(4 * MINUTE);
    assert_eq!(alerts.state(), AlertState::Firing);
}

#[test]
fn a_restart_keeps_how_long_a_condition_held() {
    // 20 of 60 minutes held, 5 minutes down: 40 minutes remain.
    let mut alerts = AlertStates::new(timing(60 * MINUTE, 0));
    alerts.restore_from_series(vec![old(0, 20 * MINUTE, false)], 25 * MINUTE, 10 * MINUTE);
    holds(&mut alerts, 26 * MINUTE);
    assert_eq!(alerts.next_wake(), Some(65 * MINUTE));
    // 55 of 60 minutes held: at least the grace period remains.
    let mut alerts = AlertStates::new(timing(60 * MINUTE, 0));
    alerts.restore_from_series(vec![old(0, 55 * MINUTE, false)], 58 * MINUTE, 10 * MINUTE);
    holds(&mut alerts, 58 * MINUTE);
    assert_eq!(alerts.next_wake(), Some(68 * MINUTE));
    // A `for` shorter than the grace period continues where it was.
    let mut alerts = AlertStates::new(timing(5 * MINUTE, 0));
    alerts.restore_from_series(vec![old(0, 2 * MINUTE, false)], 3 * MINUTE, 10 * MINUTE);
    holds(&mut alerts, 3 * MINUTE);
    assert_eq!(alerts.next_wake(), Some(6 * MINUTE));
}

/// The series may be those of another server, so this one must not send an end for them.
#[test]
fn what_only_series_tell_of_begins_with_its_row() {
    let mut alerts = AlertStates::new(timing(0, 0));
    alerts.restore_from_series(vec![old(0, MINUTE, true)], 2 * MINUTE, 0);
    assert_eq!((alerts.iter().count(), alerts.samples("A").len()), (0, 0));
    alerts.end_awaited(3 * MINUTE);
    assert!(alerts.take_due(3 * MINUTE).is_empty());
    holds(&mut alerts, 4 * MINUTE);
    assert_eq!(only(&alerts).active_at, 4 * MINUTE, "too late");
}
