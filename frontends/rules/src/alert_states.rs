//! The state machine of one alerting rule: inactive, pending, firing, resolved. It has no clock and
//! no I/O.
//!
//! Rows of the condition come with their tick ([`AlertStates::apply`]), time comes from
//! [`AlertStates::advance`]. Each alert has at most one timer for its state and one for sending, so
//! only due alerts are processed. The semantics are those of Prometheus' `rules/alerting.go`,
//! except that time is continuous: `for` ends at the exact millisecond.

mod changes;
mod condition_rows;
mod restored;
mod timers;

use super::alert::{Alert, AlertState, AlertTiming, ConditionRow, DueAlert};
use super::alert_annotations::ExpandedAnnotations;
use super::alert_series::{for_state_series, state_series};
use super::error::EvaluationError;
use super::event_queue::DeliveredAlert;
use super::limits::RESOLVED_RETENTION_MS;
use super::state_change::ChangeReason;
use changes::AlertChanges;
use condition_rows::{ConditionHealth, ConditionRows, RowValue};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use storage::model::{Labels, TimeMs};
use timers::{AlertTimers, DueTransition};

/// All alerts of one rule.
#[derive(Debug)]
pub struct AlertStates {
    /// What all alerts of the rule share.
    timing: AlertTiming,
    active: BTreeMap<Labels, Alert>,
    rows: ConditionRows,
    timers: AlertTimers,
    /// Whether it is known which rows hold.
    pub condition: ConditionHealth,
    /// What has changed, for those who follow it.
    pub changes: AlertChanges,
    /// Alerts from before the start according to their series, until their rows come.
    restored: HashMap<Labels, Alert>,
    /// Why rows are awaited: what an alert ends by whose row does not come.
    awaiting_since: ChangeReason,
    /// Alerts that ended before their firing state could be sent.
    fired_and_resolved: Vec<(Labels, Alert)>,
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
            rows: ConditionRows::default(),
            timers: AlertTimers::default(),
            condition: ConditionHealth::default(),
            changes: AlertChanges::default(),
            restored: HashMap::new(),
            awaiting_since: ChangeReason::Restart,
            fired_and_resolved: Vec::new(),
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
        self.rows.iter()
    }

    /// The alerts that have changed since the last call, in anything but their value; `None`: the
    /// alert was forgotten.
    pub fn take_changed_alerts(&mut self) -> Vec<(Labels, Option<&Alert>)> {
        let news = std::mem::take(&mut self.changes.alerts);
        news.into_iter().map(|labels| (labels.clone(), self.active.get(&labels))).collect()
    }

    /// Reports that all alerts are over: the rule is removed.
    pub fn report_removal(&mut self, at: TimeMs) {
        for (labels, alert) in &self.active {
            self.changes.report_end(labels, alert, at, ChangeReason::Reload);
        }
    }

    /// Marks all alerts as changed.
    pub fn mark_all_changed(&mut self) {
        self.changes.alerts.extend(self.active.keys().cloned());
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
            self.changes.alerts.insert(delivered.labels.clone());
        }
    }

    fn insert(&mut self, labels: Labels, alert: Alert) {
        if let Some(old) = self.active.insert(labels.clone(), alert) {
            self.timers.remove(&labels, &old);
        }
        self.changes.series.insert(labels.clone());
        self.schedule(&labels);
    }

    fn remove(&mut self, labels: &Labels) {
        if let Some(old) = self.active.remove(labels) {
            self.timers.remove(labels, &old);
            self.changes.mark_forgotten(labels);
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
        let mut touched: Vec<Labels> = remove.iter().filter_map(|row| self.rows.remove(row)).collect();
        for row in upsert {
            let alert = row.alert.clone();
            touched.extend(self.rows.insert(row));
            touched.push(alert);
        }
        // Rows stay as they are: the next answer may remove one of the two, and then all is known.
        if self.rows.have_conflict() {
            self.condition.is_invalid = true;
            return Err(EvaluationError::SameLabels);
        }
        self.condition.resume_at(t);
        if std::mem::take(&mut self.condition.is_invalid) {
            self.condition.known_since = t;
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
        let keys: BTreeSet<Labels> = self.active.keys().chain(self.rows.alerts()).cloned().collect();
        for labels in keys.iter() {
            self.update(labels, t);
        }
    }

    /// Updates an alert from its row, if it has one.
    fn update(&mut self, labels: &Labels, t: TimeMs) {
        match self.rows.of_alert(labels) {
            Some(RowValue { row, value }) => self.row_holds(labels, &row, value, t),
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
        let alert = Alert { value, row: row.clone(), last_seen_at: t, ..known };
        // Without `for` it fires at once, and was never pending.
        if reason == ChangeReason::Restart || self.timing.for_duration > 0 {
            self.changes.report(labels, &alert, AlertState::Inactive, t, reason);
        }
        self.insert(labels.clone(), alert);
    }

    fn remove_row(&mut self, labels: &Labels, t: TimeMs, reason: ChangeReason) {
        let Some(alert) = self.active.get_mut(labels) else { return };
        match alert.state {
            AlertState::Inactive => return,
            AlertState::Pending => {
                let alert = alert.clone();
                self.changes.report_end(labels, &alert, t, reason);
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
                self.changes.series.insert(labels.clone());
                self.changes.report(labels, alert, AlertState::Firing, t, reason);
            }
        }
        self.schedule(labels);
    }

    /// Runs the timers that are due up to and including `t`, unless states are suspended.
    pub fn advance(&mut self, t: TimeMs) {
        if self.condition.is_suspended() {
            return;
        }
        // In the order of time: the firing of one alert may be due before the end of another.
        while let Some(DueTransition { t: due, alert: labels }) = self.timers.take_transition(t) {
            let timing = self.timing;
            let Some(alert) = self.active.get_mut(&labels) else { continue };
            alert.due = None;
            // Not before the condition was known again, and not in the future.
            let at = timing.happens_at(due).max(self.condition.known_since).min(t);
            match alert.state {
                AlertState::Pending => {
                    let at_once = timing.for_duration == 0 && alert.active_at == at;
                    alert.fire(at);
                    if at_once {
                        self.changes.report(&labels, alert, AlertState::Inactive, at, ChangeReason::Row);
                    } else {
                        self.changes.report(&labels, alert, AlertState::Pending, at, ChangeReason::For);
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
                    self.changes.report(&labels, alert, AlertState::Firing, at, ChangeReason::KeepFiringFor);
                }
                AlertState::Inactive => {
                    self.remove(&labels);
                    continue;
                }
                _ => continue,
            }
            self.changes.series.insert(labels.clone());
            self.schedule(&labels);
        }
    }

    /// Sets the timers of an alert that has changed.
    fn schedule(&mut self, labels: &Labels) {
        let Some(alert) = self.active.get_mut(labels) else { return };
        self.changes.alerts.insert(labels.clone());
        self.timers.set(labels, alert, &self.timing);
    }

    /// The earliest time at which a state changes without an event.
    pub fn next_wake(&self) -> Option<TimeMs> {
        self.timers.next_transition().filter(|_| !self.condition.is_suspended())
    }

    /// The earliest time at which an alert must be sent (again).
    pub fn next_send(&self) -> Option<TimeMs> {
        if self.fired_and_resolved.is_empty() {
            self.timers.next_send().filter(|_| !self.condition.is_suspended())
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
        while let Some(labels) = self.timers.take_send(now) {
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

    /// Forgets every alert at `t` (as Prometheus does if the limit is exceeded); rows stay known.
    pub fn clear(&mut self, t: TimeMs) {
        let active = std::mem::take(&mut self.active);
        for (labels, alert) in &active {
            self.changes.report_end(labels, alert, t, ChangeReason::Error);
        }
        self.changes.series.extend(active.keys().cloned());
        self.changes.alerts.extend(active.into_keys());
        self.timers.clear();
        self.fired_and_resolved.clear();
        self.condition.is_invalid = true;
    }
}
