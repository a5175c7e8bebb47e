//! The state machine of one alerting rule: inactive, pending, firing, resolved. It has no clock and
//! no I/O.
//!
//! Rows of the condition come with their tick ([`AlertStates::apply`]), time comes from
//! [`AlertStates::advance`]. Each alert has at most one timer for its state and one for sending, so
//! only due alerts are processed. The semantics are those of Prometheus' `rules/alerting.go`,
//! except that time is continuous: `for` ends at the exact millisecond.

use super::alert::{Alert, AlertFromSeries, AlertState, AlertTiming, ConditionRow, DueAlert};
use super::alert_annotations::ExpandedAnnotations;
use super::alert_series::{for_state_series, state_series};
use super::error::EvaluationError;
use super::event_queue::DeliveredAlert;
use super::limits::RESOLVED_RETENTION_MS;
use super::state_change::{ChangeReason, StateChange};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// All alerts of one rule.
#[derive(Debug)]
pub struct AlertStates {
    /// What all alerts of the rule share.
    timing: AlertTiming,
    active: BTreeMap<Labels, Alert>,
    /// The rows that hold now: row → (alert, value).
    rows: HashMap<Labels, (Labels, f64)>,
    /// The rows of each alert; more than one is an error.
    rows_by_alert: HashMap<Labels, Vec<Labels>>,
    /// How many alerts have more than one row.
    conflicts: usize,
    /// Whether the latest evaluation failed.
    failed: bool,
    /// Evaluating the condition fails, so it is not known what holds.
    evaluation_failing: bool,
    /// No timer runs before this time: until then the states were suspended.
    resumed_at: TimeMs,
    /// Alerts from before the start according to their series, until their rows come.
    restored: HashMap<Labels, Alert>,
    timers: BTreeSet<(TimeMs, Labels)>,
    send_times: BTreeSet<(TimeMs, Labels)>,
    /// Alerts whose state or start changed since [`AlertStates::take_changed`].
    changed: BTreeSet<Labels>,
    /// Alerts that changed since [`AlertStates::take_changed_alerts`].
    changed_alerts: BTreeSet<Labels>,
    /// Alerts that ended before their firing state could be sent.
    fired_and_resolved: Vec<(Labels, Alert)>,
    /// Why rows are awaited: what an alert ends by whose row does not come.
    awaiting_since: ChangeReason,
    /// Changes of states since [`AlertStates::take_state_changes`].
    state_changes: Vec<StateChange>,
}

/// The error if several rows become one alert.
pub(crate) const SAME_LABELS: &str =
    "vector contains metrics with the same labelset after applying alert labels";

impl AlertStates {
    /// No alerts.
    pub fn new(timing: AlertTiming) -> AlertStates {
        AlertStates {
            timing,
            active: BTreeMap::new(),
            rows: HashMap::new(),
            rows_by_alert: HashMap::new(),
            conflicts: 0,
            failed: false,
            evaluation_failing: false,
            resumed_at: TimeMs::MIN,
            restored: HashMap::new(),
            timers: BTreeSet::new(),
            send_times: BTreeSet::new(),
            changed: BTreeSet::new(),
            changed_alerts: BTreeSet::new(),
            fired_and_resolved: Vec::new(),
            awaiting_since: ChangeReason::Restart,
            state_changes: Vec::new(),
        }
    }

    /// All alerts by their labels; resolved ones are kept for a while.
    pub fn iter(&self) -> impl Iterator<Item = (&Labels, &Alert)> {
        self.active.iter()
    }

    /// Whether there is an alert with these labels.
    pub fn has(&self, labels: &Labels) -> bool {
        self.active.contains_key(labels)
    }

    /// The highest state of all alerts.
    pub fn state(&self) -> AlertState {
        self.active.values().map(|a| a.state).max().unwrap_or(AlertState::Inactive)
    }

    /// The rows that hold now.
    pub fn rows(&self) -> impl Iterator<Item = &Labels> {
        self.rows.keys()
    }

    /// The alerts whose `ALERTS` samples differ from those at the last call.
    pub fn take_changed(&mut self) -> BTreeSet<Labels> {
        std::mem::take(&mut self.changed)
    }

    /// The alerts that have changed since the last call, in anything but their value; `None`: the
    /// alert was forgotten.
    pub fn take_changed_alerts(&mut self) -> Vec<(Labels, Option<&Alert>)> {
        let news = std::mem::take(&mut self.changed_alerts);
        news.into_iter().map(|labels| (labels.clone(), self.active.get(&labels))).collect()
    }

    /// The changes of states since the last call, in the order in which they happened.
    pub fn take_state_changes(&mut self) -> Vec<StateChange> {
        std::mem::take(&mut self.state_changes)
    }

    /// Reports that the state of `alert` changed from `from` to the one that it has.
    fn report(&mut self, labels: &Labels, from: AlertState, at: TimeMs, reason: ChangeReason) {
        let Some(alert) = self.active.get(labels) else { return };
        self.state_changes.push(StateChange {
            at,
            labels: labels.clone(),
            row: alert.row.clone(),
            from,
            to: alert.state,
            reason,
            value: alert.value,
        });
    }

    /// Reports that an alert is over that is not known any more.
    pub(super) fn report_end(&mut self, labels: &Labels, alert: &Alert, at: TimeMs, reason: ChangeReason) {
        self.state_changes.extend(StateChange::end(labels, alert, at, reason));
    }

    /// Reports that all alerts are over: the rule is removed.
    pub fn report_removal(&mut self, at: TimeMs) {
        let active = std::mem::take(&mut self.active);
        for (labels, alert) in &active {
            self.report_end(labels, alert, at, ChangeReason::Reload);
        }
        self.active = active;
    }

    /// Marks all alerts as changed.
    pub fn mark_all_changed(&mut self) {
        self.changed_alerts.extend(self.active.keys().cloned());
    }

    /// Restores saved alerts exactly as they were. Active ones wait for their row until
    /// [`AlertStates::end_awaited`]; ended ones are sent for as long as any other.
    pub fn restore_exactly(&mut self, alerts: Vec<(Labels, Alert)>, now: TimeMs) {
        self.awaiting_since = ChangeReason::Restart;
        for (labels, alert) in alerts {
            if alert.resolved_at.is_some_and(|r| now > r + RESOLVED_RETENTION_MS) {
                continue;
            }
            self.insert(labels, alert);
        }
        self.set_timing(self.timing, now);
    }

    /// The rule has another expression: its alerts wait for their rows.
    pub fn await_all_rows(&mut self) {
        self.awaiting_since = ChangeReason::Reload;
        let rows = &mut self.rows;
        let holders = &mut self.rows_by_alert;
        rows.clear();
        holders.clear();
        self.conflicts = 0;
        self.failed = false;
        let labels: Vec<Labels> = self.active.keys().cloned().collect();
        for labels in labels {
            if let Some(alert) = self.active.get_mut(&labels).filter(|a| a.state != AlertState::Inactive) {
                alert.awaiting_row = true;
                self.schedule(&labels);
            }
        }
    }

    /// Adds a row that an alert waited for, before the next evaluation time.
    pub fn add_awaited_row(&mut self, row: ConditionRow) {
        let Some(alert) = self.active.get_mut(&row.alert).filter(|alert| alert.awaiting_row) else { return };
        alert.awaiting_row = false;
        self.schedule(&row.alert);
        self.rows_by_alert.entry(row.alert.clone()).or_default().push(row.row.clone());
        self.rows.insert(row.row, (row.alert, row.value));
    }

    /// Keeps the annotations that were sent with an alert.
    pub fn keep_annotations(&mut self, labels: &Labels, texts: Arc<ExpandedAnnotations>) {
        if let Some(alert) = self.active.get_mut(labels) {
            alert.last_annotations = Some(texts);
        }
    }

    /// An Alertmanager has accepted an alert as it was handed out.
    pub fn mark_delivered(&mut self, delivered: &DeliveredAlert) {
        // The alert may have ended and begun again since it was sent.
        let is_it =
            |a: &&mut Alert| (a.fired_at, a.resolved_at) == (delivered.fired_at, delivered.resolved_at);
        if let Some(alert) = self.active.get_mut(&delivered.labels).filter(is_it)
            && alert.delivered_at < Some(delivered.sent)
        {
            alert.delivered_at = Some(delivered.sent);
            self.changed_alerts.insert(delivered.labels.clone());
        }
    }

    fn insert(&mut self, labels: Labels, alert: Alert) {
        if let Some(old) = self.active.insert(labels.clone(), alert) {
            self.unschedule(&labels, &old);
        }
        self.changed.insert(labels.clone());
        self.schedule(&labels);
    }

    fn remove(&mut self, labels: &Labels) {
        if let Some(old) = self.active.remove(labels) {
            self.unschedule(labels, &old);
            self.changed.insert(labels.clone());
            self.changed_alerts.insert(labels.clone());
        }
    }

    fn unschedule(&mut self, labels: &Labels, old: &Alert) {
        old.due.map(|t| self.timers.remove(&(t, labels.clone())));
        old.send_due.map(|t| self.send_times.remove(&(t, labels.clone())));
    }

    /// Restores alerts from their series, as Prometheus does: those whose row comes before
    /// [`AlertStates::end_awaited`] continue, all others are dropped. `grace`: an alert that was
    /// about to fire waits at least this long (`--rules.alert.for-grace-period`), unless its `for`
    /// is shorter.
    pub fn restore_from_series(&mut self, alerts: Vec<AlertFromSeries>, now: TimeMs, grace: i64) {
        let hold = self.timing.for_duration;
        for old in alerts {
            // How long it still had to be pending when it was last seen.
            let remaining = hold - (old.seen_at - old.active_at);
            let active_at = if old.firing || remaining <= 0 {
                old.active_at
            } else if remaining < grace && hold >= grace {
                // Almost due: without the grace period it would fire before its row has come even
                // once.
                now + grace - hold
            } else {
                // The outage does not count towards `for`, as in Prometheus.
                old.active_at + (now - old.seen_at)
            };
            let state = if old.firing { AlertState::Firing } else { AlertState::Pending };
            let alert = Alert {
                state,
                fired_at: old.firing.then_some(active_at + hold),
                // The time of sending is not known, but it was probably sent.
                last_sent_at: old.firing.then_some(old.seen_at),
                ..Alert::pending_since(Labels::default(), active_at)
            };
            self.restored.insert(old.alert, alert);
        }
    }

    /// Alerts whose row has not come end at `t` (or are kept firing by `keep_firing_for`). Those
    /// known only from series are dropped: they may belong to another rule.
    pub fn end_awaited(&mut self, t: TimeMs) {
        // They never had a row, so nobody was told of them here.
        self.restored.clear();
        let awaited: Vec<Labels> =
            self.active.iter().filter(|(_, a)| a.awaiting_row).map(|(l, _)| l.clone()).collect();
        for labels in awaited {
            let Some(alert) = self.active.get_mut(&labels) else { continue };
            alert.awaiting_row = false;
            self.remove_row(&labels, t, self.awaiting_since);
        }
    }

    /// Sets new timing after a reload. Firing alerts continue to fire, as in Prometheus.
    pub fn set_timing(&mut self, timing: AlertTiming, t: TimeMs) {
        self.timing = timing;
        let keys: Vec<Labels> = self.active.keys().cloned().collect();
        for labels in keys.iter() {
            self.schedule(labels);
        }
        if timing.continuous {
            self.advance(t);
        }
    }

    /// Evaluating the condition failed: as in Prometheus, nothing changes until it succeeds again.
    pub fn suspend(&mut self) {
        self.evaluation_failing = true;
    }

    /// Evaluating the condition succeeded at `t`.
    pub fn resume_at(&mut self, t: TimeMs) {
        if std::mem::take(&mut self.evaluation_failing) {
            self.resumed_at = t;
        }
    }

    /// Whether evaluating the condition fails.
    pub fn is_evaluation_failing(&self) -> bool {
        self.evaluation_failing
    }

    /// Whether it is not known what holds, so that states do not change.
    pub fn is_suspended(&self) -> bool {
        self.evaluation_failing || self.failed
    }

    /// Applies the changes of tick `t`. Timers that were due before `t` run first, unless the
    /// states were suspended. After an error the states stay as they are, until the rows are valid
    /// again.
    pub fn apply(
        &mut self,
        t: TimeMs,
        upsert: Vec<ConditionRow>,
        remove: &[Labels],
    ) -> Result<(), EvaluationError> {
        if self.timing.continuous {
            self.advance(t - 1);
        }
        let mut touched: Vec<Labels> = remove.iter().filter_map(|row| self.drop_row(row)).collect();
        for row in upsert {
            // A template in a label may have given the row another alert than before; the old one
            // then lost its row.
            touched.extend(self.drop_row(&row.row).filter(|old| *old != row.alert));
            let holders = self.rows_by_alert.entry(row.alert.clone()).or_default();
            holders.push(row.row.clone());
            // Counted at the second row, not the third, so that the sum is the number of alerts
            // with a conflict.
            self.conflicts += usize::from(holders.len() == 2);
            touched.push(row.alert.clone());
            self.rows.insert(row.row, (row.alert, row.value));
        }
        // Rows stay as they are: the next answer may remove one of the two, and then all is known.
        if self.conflicts > 0 {
            self.failed = true;
            return Err(EvaluationError::SameLabels);
        }
        self.resume_at(t);
        if std::mem::take(&mut self.failed) {
            self.resumed_at = t;
            self.reconcile(t);
        } else {
            for labels in touched.iter() {
                self.update(labels, t);
            }
        }
        self.advance(t);
        Ok(())
    }

    /// After an error: updates all rows and alerts.
    fn reconcile(&mut self, t: TimeMs) {
        let keys: BTreeSet<Labels> = self.active.keys().chain(self.rows_by_alert.keys()).cloned().collect();
        for labels in keys.iter() {
            self.update(labels, t);
        }
    }

    /// Removes a row. Returns the alert it had.
    fn drop_row(&mut self, row: &Labels) -> Option<Labels> {
        let (alert, _) = self.rows.remove(row)?;
        if let Some(holders) = self.rows_by_alert.get_mut(&alert) {
            // Asked before the removal: of two, one is left, which is no conflict.
            self.conflicts -= usize::from(holders.len() == 2);
            holders.retain(|r| r != row);
            if holders.is_empty() {
                self.rows_by_alert.remove(&alert);
            }
        }
        Some(alert)
    }

    /// Updates an alert from its row, if it has one.
    fn update(&mut self, labels: &Labels, t: TimeMs) {
        let row = self.rows_by_alert.get(labels).and_then(|holders| holders.first());
        match row.and_then(|row| Some((row.clone(), self.rows.get(row)?.1))) {
            Some((row, value)) => self.row_holds(labels, &row, value, t),
            None => self.remove_row(labels, t, ChangeReason::RowGone),
        }
    }

    fn row_holds(&mut self, labels: &Labels, row: &Labels, value: f64, t: TimeMs) {
        if let Some(alert) = self.active.get_mut(labels)
            && alert.state != AlertState::Inactive
        {
            alert.value = value;
            alert.row.clone_from(row);
            alert.last_seen_at = t;
            let awaited = std::mem::take(&mut alert.awaiting_row);
            // Only then do the times change; a row that merely has another value costs no timer.
            if alert.keep_firing_since.take().is_some() || awaited {
                self.schedule(labels);
            }
            return;
        }
        // The alert ended and begins again before its end was sent: both must be sent.
        if let Some(ended) =
            self.active.get(labels).filter(|a| a.resolved_at.is_some() && a.last_sent_at.is_none())
        {
            self.fired_and_resolved.push((labels.clone(), ended.clone()));
        }
        // An alert that is known from its series continues where it was.
        let known = self.restored.remove(labels);
        let reason = if known.is_some() { ChangeReason::Restart } else { ChangeReason::Row };
        let known = known.unwrap_or_else(|| Alert::pending_since(Labels::default(), t));
        self.insert(labels.clone(), Alert { value, row: row.clone(), last_seen_at: t, ..known });
        // Without `for` it fires at once, and was never pending.
        if reason == ChangeReason::Restart || self.timing.for_duration > 0 {
            self.report(labels, AlertState::Inactive, t, reason);
        }
    }

    fn remove_row(&mut self, labels: &Labels, t: TimeMs, reason: ChangeReason) {
        let Some(alert) = self.active.get_mut(labels) else { return };
        match alert.state {
            AlertState::Inactive => return,
            AlertState::Pending => {
                let alert = alert.clone();
                self.report_end(labels, &alert, t, reason);
                // Nobody was told of it, so no end must be sent.
                return self.remove(labels);
            }
            AlertState::Firing if self.timing.keep_firing_for > 0 => {
                // The first time counts: it may be without a row in several answers.
                alert.keep_firing_since.get_or_insert(t);
            }
            AlertState::Firing => {
                if alert.last_sent_at.is_none() {
                    self.fired_and_resolved.push((labels.clone(), alert.clone()));
                }
                alert.resolve(t);
                self.changed.insert(labels.clone());
                self.report(labels, AlertState::Firing, t, reason);
            }
        }
        self.schedule(labels);
    }

    /// Runs the timers that are due up to and including `t`, unless states are suspended.
    pub fn advance(&mut self, t: TimeMs) {
        if self.is_suspended() {
            return;
        }
        // In the order of time: the firing of one alert may be due before the end of another.
        while let Some((due, labels)) = self.timers.first().cloned() {
            if due > t {
                break;
            }
            self.timers.pop_first();
            let timing = self.timing;
            let Some(alert) = self.active.get_mut(&labels) else { continue };
            alert.due = None;
            // Not before the condition was known again, and not in the future.
            let at = timing.happens_at(due).max(self.resumed_at).min(t);
            match alert.state {
                AlertState::Pending => {
                    let at_once = timing.for_duration == 0 && alert.active_at == at;
                    alert.fire(at);
                    if at_once {
                        self.report(&labels, AlertState::Inactive, at, ChangeReason::Row);
                    } else {
                        self.report(&labels, AlertState::Pending, at, ChangeReason::For);
                    }
                }
                AlertState::Firing
                    if alert.keep_firing_since.is_some_and(|s| due >= s + timing.keep_firing_for) =>
                {
                    if alert.last_sent_at.is_none() {
                        self.fired_and_resolved.push((labels.clone(), alert.clone()));
                    }
                    // An end that is noticed very late must still be sent.
                    let at = if t - at > RESOLVED_RETENTION_MS { t } else { at };
                    alert.resolve(at);
                    self.report(&labels, AlertState::Firing, at, ChangeReason::KeepFiringFor);
                }
                AlertState::Inactive => {
                    self.remove(&labels);
                    continue;
                }
                _ => continue,
            }
            self.changed.insert(labels.clone());
            self.schedule(&labels);
        }
    }

    /// Sets the timers of an alert that has changed.
    fn schedule(&mut self, labels: &Labels) {
        let Some(alert) = self.active.get_mut(labels) else { return };
        self.changed_alerts.insert(labels.clone());
        let due = alert.next_transition(&self.timing);
        let send_due = alert.next_send(&self.timing);
        let old = (std::mem::replace(&mut alert.due, due), std::mem::replace(&mut alert.send_due, send_due));
        reset(&mut self.timers, labels, old.0, due);
        reset(&mut self.send_times, labels, old.1, send_due);
    }

    /// The earliest time at which a state changes without an event.
    pub fn next_wake(&self) -> Option<TimeMs> {
        self.timers.first().map(|(t, _)| *t).filter(|_| !self.is_suspended())
    }

    /// The earliest time at which an alert must be sent (again).
    pub fn next_send(&self) -> Option<TimeMs> {
        if self.fired_and_resolved.is_empty() {
            self.send_times.first().map(|(t, _)| *t).filter(|_| !self.is_suspended())
        } else {
            Some(TimeMs::MIN)
        }
    }

    /// The alerts that must be sent at `now`; they count as sent. An alert that fired and ended
    /// since the last call is returned in both states.
    pub fn take_due(&mut self, now: TimeMs) -> Vec<DueAlert> {
        let timing = self.timing;
        // Prometheus' `endsAt` of a firing alert: Alertmanager resolves it by itself if this server
        // stops sending, and four chances are enough to be sure.
        let valid = now + 4 * timing.interval.max(timing.resend_delay);
        let brief = self.fired_and_resolved.drain(..).map(|(labels, alert)| {
            let ends_at = alert.resolved_at.unwrap_or(valid);
            DueAlert { labels, alert, ends_at }
        });
        let mut due: Vec<DueAlert> = brief.collect();
        while let Some((_, labels)) = self.send_times.first().filter(|(t, _)| *t <= now).cloned() {
            self.send_times.pop_first();
            let Some(alert) = self.active.get_mut(&labels) else { continue };
            alert.send_due = None;
            // Counted as sent when it is handed out: a queue that is full loses it, and the next
            // time of sending makes up for it.
            alert.last_sent_at = Some(now);
            let ends_at = alert.resolved_at.unwrap_or(valid);
            due.push(DueAlert { labels: labels.clone(), alert: alert.clone(), ends_at });
            self.schedule(&labels);
        }
        due
    }

    /// The current `ALERTS` and `ALERTS_FOR_STATE` samples.
    pub fn samples(&self, alertname: &str) -> Vec<(Labels, f64)> {
        self.active.keys().flat_map(|labels| self.samples_of(alertname, labels)).collect()
    }

    /// The current samples of one alert.
    pub fn samples_of(&self, alertname: &str, labels: &Labels) -> Vec<(Labels, f64)> {
        let Some(alert) = self.active.get(labels).filter(|a| a.state != AlertState::Inactive) else {
            return Vec::new();
        };
        // In whole seconds, as Prometheus writes it.
        let since = alert.active_at.div_euclid(1000) as f64;
        vec![
            (for_state_series(alertname, labels), since),
            (state_series(alertname, labels, alert.state), 1.0),
        ]
    }

    /// The error if there are too many alerts.
    pub fn over_limit(&self) -> Option<EvaluationError> {
        let limit = self.timing.limit;
        // Ended alerts are kept only until their end is sent for the last time; they are no alerts
        // of the rule any more.
        let count = self.active.values().filter(|a| a.state != AlertState::Inactive).count();
        (limit > 0 && count > limit).then_some(EvaluationError::LimitReached { limit, count })
    }

    /// Whether rows are invalid, so that states do not change.
    pub fn in_error(&self) -> bool {
        self.failed
    }

    /// Forgets every alert at `t` (as Prometheus does if the limit is exceeded); rows stay known.
    pub fn clear(&mut self, t: TimeMs) {
        let active = std::mem::take(&mut self.active);
        for (labels, alert) in &active {
            self.report_end(labels, alert, t, ChangeReason::Error);
        }
        self.changed.extend(active.keys().cloned());
        self.changed_alerts.extend(active.into_keys());
        self.timers.clear();
        self.send_times.clear();
        self.fired_and_resolved.clear();
        self.failed = true;
    }
}

fn reset(timers: &mut BTreeSet<(TimeMs, Labels)>, labels: &Labels, old: Option<TimeMs>, new: Option<TimeMs>) {
    if old == new {
        return;
    }
    old.map(|t| timers.remove(&(t, labels.clone())));
    new.map(|t| timers.insert((t, labels.clone())));
}
