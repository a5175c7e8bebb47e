//! The state machine of one alerting rule: inactive, pending, firing, resolved. No clock, no I/O.
//!
//! Rows of the condition come in with their tick ([`Alerts::apply`]), time comes in by [`Alerts::advance`];
//! every alert has at most one timer, so that only what falls due is touched. Semantics are those of
//! Prometheus' `rules/alerting.go`, except that time is continuous: `for` ends at its exact millisecond.

use super::limits::RESOLVED_RETENTION_MS;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use storage::model::{Labels, TimeMs};

/// What all alerts of a rule share.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `for`, ms.
    pub hold: i64,
    /// `keep_firing_for`, ms.
    pub keep_firing_for: i64,
    /// A firing alert is sent again after this time, ms.
    pub resend_delay: i64,
    /// The group's interval, ms.
    pub interval: i64,
    /// Most active alerts; 0: no limit.
    pub limit: usize,
    /// Time is continuous; `false`: things happen only when the condition is looked at, as in Prometheus.
    pub continuous: bool,
}

/// The states of an alert.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The condition does not hold (or not any more).
    Inactive,
    /// It holds, but not yet for long enough.
    Pending,
    /// It held for long enough.
    Firing,
}

impl State {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Inactive => "inactive",
            State::Pending => "pending",
            State::Firing => "firing",
        }
    }
}

/// One alert of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The row of the condition it stands for.
    pub row: Labels,
    /// Its state.
    pub state: State,
    /// The row's newest value.
    pub value: f64,
    /// When the condition began to hold.
    pub active_at: TimeMs,
    /// When it began to fire.
    pub fired_at: Option<TimeMs>,
    /// When it ended.
    pub resolved_at: Option<TimeMs>,
    /// Since when it fires although the condition does not hold.
    pub keep_firing_since: Option<TimeMs>,
    /// When it was last handed out for sending.
    pub last_sent_at: Option<TimeMs>,
    /// Restored from before a restart; its row has not been seen yet.
    pub awaited: bool,
    /// Restored, and more than one rule could be its owner.
    shared: bool,
    due: Option<TimeMs>,
}

/// A row of the condition with the labels of its alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Labels of the row.
    pub row: Labels,
    /// Labels of the alert: the row's without name, the rule's, `alertname`.
    pub alert: Labels,
    /// Its value.
    pub value: f64,
}

/// An alert of before a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// Its labels.
    pub alert: Labels,
    /// When the condition began to hold.
    pub active_at: TimeMs,
    /// When it was last known to be active.
    pub seen_at: TimeMs,
    /// It was firing then.
    pub firing: bool,
    /// More than one rule could be its owner.
    pub shared: bool,
}

/// An alert that must be sent now.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Its labels.
    pub labels: Labels,
    /// Its state and times.
    pub alert: Alert,
    /// When Alertmanager may forget it, or when it ended.
    pub ends_at: TimeMs,
}

/// All alerts of one rule.
#[derive(Debug)]
pub struct Alerts {
    timing: Timing,
    active: BTreeMap<Labels, Alert>,
    /// The rows that hold now: row → (alert, value).
    rows: HashMap<Labels, (Labels, f64)>,
    /// The rows of each alert; more than one is an error.
    holders: HashMap<Labels, Vec<Labels>>,
    clashes: usize,
    failed: bool,
    timers: BTreeSet<(TimeMs, Labels)>,
    /// States, starts or ends changed since [`Alerts::take_changed`].
    changed: bool,
}

/// The error of rows that become one alert.
pub const SAME_LABELS: &str = "vector contains metrics with the same labelset after applying alert labels";

impl Alerts {
    /// No alert yet.
    pub fn new(timing: Timing) -> Alerts {
        Alerts {
            timing,
            active: BTreeMap::new(),
            rows: HashMap::new(),
            holders: HashMap::new(),
            clashes: 0,
            failed: false,
            timers: BTreeSet::new(),
            changed: false,
        }
    }

    /// All alerts by their labels; resolved ones stay for a while.
    pub fn iter(&self) -> impl Iterator<Item = (&Labels, &Alert)> {
        self.active.iter()
    }

    /// The highest state of all alerts.
    pub fn state(&self) -> State {
        self.active.values().map(|a| a.state).max().unwrap_or(State::Inactive)
    }

    /// The rows that hold now.
    pub fn rows(&self) -> impl Iterator<Item = &Labels> {
        self.rows.keys()
    }

    /// Whether something that `ALERTS` shows has changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Takes up the alerts of before a restart. They wait for their row until [`Alerts::settle`].
    /// `grace`: an alert that was about to fire waits at least this long (`--rules.alert.for-grace-period`),
    /// unless its `for` is shorter.
    pub fn restore(&mut self, alerts: Vec<Restored>, now: TimeMs, grace: i64) {
        let hold = self.timing.hold;
        for old in alerts {
            let remaining = hold - (old.seen_at - old.active_at);
            let active_at = match old.firing || remaining <= 0 {
                true => old.active_at,
                false if remaining < grace && hold >= grace => now + grace - hold,
                false => old.active_at + (now - old.seen_at),
            };
            let state = if old.firing { State::Firing } else { State::Pending };
            let alert = Alert {
                row: old.alert.clone(),
                state,
                value: f64::NAN,
                active_at,
                fired_at: old.firing.then_some(active_at + hold),
                resolved_at: None,
                keep_firing_since: None,
                last_sent_at: None,
                awaited: true,
                shared: old.shared,
                due: None,
            };
            self.active.insert(old.alert, alert);
        }
    }

    /// Restored alerts whose row has not come by now are over (or fire on by `keep_firing_for`). Those that
    /// another rule may own as well are dropped without a word.
    pub fn settle(&mut self, t: TimeMs) {
        let awaited: Vec<Labels> =
            self.active.iter().filter(|(_, a)| a.awaited).map(|(l, _)| l.clone()).collect();
        for labels in awaited {
            let Some(alert) = self.active.get_mut(&labels) else { continue };
            alert.awaited = false;
            if alert.shared {
                self.active.remove(&labels);
                self.changed = true;
            } else {
                self.row_gone(&labels, t);
            }
        }
    }

    /// New timing after a reload: a longer `for` takes firing alerts back to pending.
    pub fn retime(&mut self, timing: Timing, t: TimeMs) {
        self.timing = timing;
        let keys: Vec<Labels> = self.active.keys().cloned().collect();
        for labels in keys {
            if let Some(alert) = self.active.get_mut(&labels)
                && alert.state == State::Firing
                && alert.keep_firing_since.is_none()
                && t - alert.active_at < timing.hold
            {
                alert.state = State::Pending;
                alert.fired_at = None;
                self.changed = true;
            }
            self.schedule(&labels);
        }
        self.advance(t);
    }

    /// Takes the changes of tick `t`. Timers that fell due before `t` run first.
    /// An error leaves the states as they are, until the rows are in order again.
    pub fn apply(&mut self, t: TimeMs, upsert: Vec<Row>, remove: &[Labels]) -> Result<(), &'static str> {
        if self.timing.continuous {
            self.advance(t - 1);
        }
        let mut touched: Vec<Labels> = remove.iter().filter_map(|row| self.drop_row(row)).collect();
        for row in upsert {
            touched.extend(self.drop_row(&row.row).filter(|old| *old != row.alert));
            let holders = self.holders.entry(row.alert.clone()).or_default();
            holders.push(row.row.clone());
            self.clashes += usize::from(holders.len() == 2);
            touched.push(row.alert.clone());
            self.rows.insert(row.row, (row.alert, row.value));
        }
        if self.clashes > 0 {
            self.failed = true;
            return Err(SAME_LABELS);
        }
        if std::mem::take(&mut self.failed) {
            self.reconcile(t);
        } else {
            touched.iter().for_each(|labels| self.touch(labels, t));
        }
        self.advance(t);
        Ok(())
    }

    /// After an error: every row and every alert is looked at.
    fn reconcile(&mut self, t: TimeMs) {
        let keys: BTreeSet<Labels> = self.active.keys().chain(self.holders.keys()).cloned().collect();
        keys.iter().for_each(|labels| self.touch(labels, t));
    }

    /// Forgets a row; the alert it had.
    fn drop_row(&mut self, row: &Labels) -> Option<Labels> {
        let (alert, _) = self.rows.remove(row)?;
        if let Some(holders) = self.holders.get_mut(&alert) {
            self.clashes -= usize::from(holders.len() == 2);
            holders.retain(|r| r != row);
            if holders.is_empty() {
                self.holders.remove(&alert);
            }
        }
        Some(alert)
    }

    /// Brings an alert in line with its row, if it has one.
    fn touch(&mut self, labels: &Labels, t: TimeMs) {
        let row = self.holders.get(labels).and_then(|holders| holders.first());
        match row.and_then(|row| Some((row.clone(), self.rows.get(row)?.1))) {
            Some((row, value)) => self.row_holds(labels, &row, value, t),
            None => self.row_gone(labels, t),
        }
    }

    fn row_holds(&mut self, labels: &Labels, row: &Labels, value: f64, t: TimeMs) {
        if let Some(alert) = self.active.get_mut(labels)
            && alert.state != State::Inactive
        {
            alert.value = value;
            alert.row.clone_from(row);
            let awaited = std::mem::take(&mut alert.awaited);
            if alert.keep_firing_since.take().is_some() || awaited {
                self.schedule(labels);
            }
            return;
        }
        let alert = Alert {
            row: row.clone(),
            state: State::Pending,
            value,
            active_at: t,
            fired_at: None,
            resolved_at: None,
            keep_firing_since: None,
            last_sent_at: None,
            awaited: false,
            shared: false,
            due: None,
        };
        if let Some(old) = self.active.insert(labels.clone(), alert)
            && let Some(due) = old.due
        {
            self.timers.remove(&(due, labels.clone()));
        }
        self.changed = true;
        self.schedule(labels);
    }

    fn row_gone(&mut self, labels: &Labels, t: TimeMs) {
        let Some(alert) = self.active.get_mut(labels) else { return };
        match alert.state {
            State::Inactive => return,
            State::Pending => {
                let due = alert.due;
                self.active.remove(labels);
                if let Some(due) = due {
                    self.timers.remove(&(due, labels.clone()));
                }
            }
            State::Firing if self.timing.keep_firing_for > 0 => {
                alert.keep_firing_since.get_or_insert(t);
            }
            State::Firing => resolve(alert, t),
        }
        self.changed = true;
        self.schedule(labels);
    }

    /// Runs the timers that fall due up to and including `t`.
    pub fn advance(&mut self, t: TimeMs) {
        while let Some((due, labels)) = self.timers.first().cloned() {
            if due > t {
                break;
            }
            self.timers.pop_first();
            let timing = self.timing;
            let Some(alert) = self.active.get_mut(&labels) else { continue };
            alert.due = None;
            match alert.state {
                State::Pending => {
                    alert.state = State::Firing;
                    alert.fired_at = Some(if timing.continuous { due } else { t });
                }
                State::Firing
                    if alert.keep_firing_since.is_some_and(|s| due >= s + timing.keep_firing_for) =>
                {
                    resolve(alert, if timing.continuous { due } else { t });
                }
                State::Inactive if alert.resolved_at.is_some_and(|r| due > r + RESOLVED_RETENTION_MS) => {
                    self.active.remove(&labels);
                }
                _ => continue,
            }
            self.changed = true;
            self.schedule(&labels);
        }
    }

    /// When an alert changes by itself.
    fn schedule(&mut self, labels: &Labels) {
        let timing = self.timing;
        let Some(alert) = self.active.get_mut(labels) else { return };
        let due = match alert.state {
            State::Pending if alert.awaited => None,
            State::Pending => Some(alert.active_at + timing.hold),
            State::Firing => alert.keep_firing_since.map(|s| s + timing.keep_firing_for),
            State::Inactive => alert.resolved_at.map(|r| r + RESOLVED_RETENTION_MS + 1),
        };
        if due == alert.due {
            return;
        }
        if let Some(old) = std::mem::replace(&mut alert.due, due) {
            self.timers.remove(&(old, labels.clone()));
        }
        if let Some(due) = due {
            self.timers.insert((due, labels.clone()));
        }
    }

    /// The earliest time at which something changes by itself.
    pub fn next_wake(&self) -> Option<TimeMs> {
        self.timers.first().map(|(t, _)| *t)
    }

    /// The earliest time at which something must be sent again.
    pub fn next_send(&self) -> Option<TimeMs> {
        let at = |a: &Alert| match a.last_sent_at {
            Some(sent) if a.resolved_at.is_none_or(|r| r <= sent) => sent + self.timing.resend_delay,
            _ => TimeMs::MIN,
        };
        self.active.values().filter(|a| a.sendable()).map(at).min()
    }

    /// What must be sent at `now`; it counts as sent.
    pub fn take_due(&mut self, now: TimeMs) -> Vec<Due> {
        let timing = self.timing;
        let mut due = Vec::new();
        for (labels, alert) in &mut self.active {
            if !alert.needs_sending(now, timing.resend_delay) {
                continue;
            }
            alert.last_sent_at = Some(now);
            let valid = now + 4 * timing.interval.max(timing.resend_delay);
            let ends_at = alert.resolved_at.unwrap_or(valid);
            due.push(Due { labels: labels.clone(), alert: alert.clone(), ends_at });
        }
        due
    }

    /// The `ALERTS` and `ALERTS_FOR_STATE` samples that hold now.
    pub fn samples(&self, alertname: &str) -> Vec<(Labels, f64)> {
        let mut out = Vec::new();
        for (labels, alert) in self.active.iter().filter(|(_, a)| a.state != State::Inactive) {
            let mut series = labels.to_builder();
            series.set("alertname", alertname).set("__name__", "ALERTS_FOR_STATE");
            out.push((series.build(), alert.active_at as f64 / 1000.0));
            series.set("__name__", "ALERTS").set("alertstate", alert.state.as_str());
            out.push((series.build(), 1.0));
        }
        out
    }

    /// The error of too many alerts, if there are.
    pub fn over_limit(&self) -> Option<String> {
        let limit = self.timing.limit;
        let count = self.active.values().filter(|a| a.state != State::Inactive).count();
        (limit > 0 && count > limit).then(|| format!("exceeded limit of {limit} with {count} alerts"))
    }

    /// Whether the rows are out of order: the states stand still.
    pub fn in_error(&self) -> bool {
        self.failed
    }

    /// Forgets every alert (Prometheus does so when the limit is exceeded); the rows stay known.
    pub fn clear(&mut self) {
        self.active.clear();
        self.timers.clear();
        self.failed = true;
        self.changed = true;
    }
}

fn resolve(alert: &mut Alert, t: TimeMs) {
    alert.state = State::Inactive;
    alert.resolved_at = Some(t);
    alert.keep_firing_since = None;
}

impl Alert {
    fn sendable(&self) -> bool {
        !self.awaited && (self.state == State::Firing || self.resolved_at.is_some())
    }

    fn needs_sending(&self, now: TimeMs, resend_delay: i64) -> bool {
        if !self.sendable() {
            return false;
        }
        let Some(sent) = self.last_sent_at else { return true };
        self.resolved_at.is_some_and(|r| r > sent) || now - sent >= resend_delay
    }
}
