//! One rule while it runs: its view, its health and, for an alerting rule, its alerts and their writer.

use super::alert::{Alerts, Due, Row, Timing};
use super::file::{AlertOptions, Group, Rhythm, Rule};
use super::functions::graph_link;
use super::inbox::RuleId;
use super::limits::TIMER_SLACK_MS;
use super::ports::{OutgoingAlert, StateStore};
use super::record::Writer;
use super::snapshot::{AlertSnapshot, AlertingSnapshot, Health, RuleSnapshot};
use super::template::{Expander, Template};
use engine::live::{TapEvent, TapId, ViewId};
use std::collections::HashMap;
use storage::model::{Labels, TimeMs};

/// A rule that stands.
pub(super) struct Running {
    pub id: RuleId,
    pub view: ViewId,
    pub tap: TapId,
    pub rule: Rule,
    pub health: Health,
    pub last_evaluation: Option<TimeMs>,
    pub evaluation_time: f64,
    pub alerting: Option<Alerting>,
}

/// The part of an alerting rule.
pub(super) struct Alerting {
    pub alerts: Alerts,
    pub writer: Writer,
    pub labels: Vec<(String, Template)>,
    pub annotations: Vec<(String, Template)>,
    /// When unseen restored alerts are given up.
    pub settle_at: Option<TimeMs>,
    slots: Slots,
    /// With `evaluation: interval`: the condition's rows, looked at in the next slot.
    mirror: Option<HashMap<Labels, f64>>,
}

/// The grid of a group: `k * interval + offset`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Slots {
    pub interval: i64,
    pub offset: i64,
    pub next: TimeMs,
}

impl Slots {
    /// The grid of a group, from the first slot after `now`. All groups of one interval share it, so that all
    /// their rules see one cut. (Prometheus shifts each group by a hash to spread the work; here the work
    /// follows the samples, and a grid per group would cost a tick per group.)
    pub fn new(interval: i64, now: TimeMs) -> Slots {
        let interval = interval.max(1);
        let mut slots = Slots { interval, offset: 0, next: 0 };
        slots.next = slots.last(now) + interval;
        slots
    }

    /// The last slot at or before `t`.
    fn last(&self, t: TimeMs) -> TimeMs {
        t - (t - self.offset).rem_euclid(self.interval)
    }

    /// The slot that is due at `t`, and how many were skipped before it.
    fn take(&mut self, t: TimeMs) -> Option<(TimeMs, u64)> {
        if t < self.next {
            return None;
        }
        let slot = self.last(t);
        let missed = (slot - self.next) / self.interval;
        self.next = slot + self.interval;
        Some((slot, missed as u64))
    }
}

/// What a step of a rule did, for the group's counters.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub evaluations: u64,
    pub failures: u64,
    pub missed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.evaluations += other.evaluations;
        self.failures += other.failures;
        self.missed += other.missed;
    }
}

/// What the steps of a rule need from outside.
pub(super) struct Tools<'a> {
    pub expander: &'a Expander,
    pub store: &'a dyn StateStore,
}

pub(super) fn timing(group: &Group, options: &AlertOptions, resend_delay: i64) -> Timing {
    Timing {
        hold: options.hold,
        keep_firing_for: options.keep_firing_for,
        resend_delay,
        interval: group.interval,
        limit: group.limit,
        continuous: group.rhythm == Rhythm::Continuous,
    }
}

fn compile(
    expander: &Expander,
    rule: &Rule,
    texts: &[(String, String)],
) -> Result<Vec<(String, Template)>, String> {
    let one = |(name, text): &(String, String)| match expander.compile(&rule.name, text) {
        Ok(template) => Ok((name.clone(), template)),
        Err(fault) => Err(format!("alert {:?}: bad template: {}", rule.name, fault.what)),
    };
    texts.iter().map(one).collect()
}

impl Alerting {
    /// The alerting part of a rule, without any alert.
    pub fn new(
        group: &Group,
        rule: &Rule,
        options: &AlertOptions,
        expander: &Expander,
        resend_delay: i64,
        now: TimeMs,
    ) -> Result<Alerting, String> {
        let static_labels: Vec<String> = rule.labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
        let key = format!("rule;{};{};{};{}", group.file, group.name, rule.name, static_labels.join(","));
        Ok(Alerting {
            alerts: Alerts::new(timing(group, options, resend_delay)),
            writer: Writer::new(key),
            labels: compile(expander, rule, &rule.labels)?,
            annotations: compile(expander, rule, &options.annotations)?,
            settle_at: None,
            slots: Slots::new(group.interval, now),
            mirror: (group.rhythm == Rhythm::Interval).then(HashMap::new),
        })
    }

    /// Carries the state of `old` (the same rule before a reload) over.
    pub fn inherit(&mut self, old: Alerting, timing: Timing, now: TimeMs) {
        self.alerts = old.alerts;
        self.alerts.retime(timing, now);
        self.writer = old.writer;
        self.settle_at = old.settle_at;
        if let (Some(mirror), Some(rows)) = (&mut self.mirror, old.mirror) {
            *mirror = rows;
        }
    }

    /// The labels of the alert of a row.
    fn alert_labels(&self, name: &str, tools: &Tools, row: &Labels, value: f64, t: TimeMs) -> Labels {
        let mut labels = row.to_builder();
        labels.remove("__name__");
        let mut scope = None;
        for (name, template) in &self.labels {
            let text = match template {
                Template::Plain(text) => text.clone(),
                dynamic => {
                    let scope = scope.get_or_insert_with(|| tools.expander.scope(row, value, t));
                    tools.expander.expand(dynamic, scope)
                }
            };
            labels.set(name.as_str(), text);
        }
        labels.set("alertname", name);
        labels.build()
    }

    fn annotations(&self, expander: &Expander, row: &Labels, value: f64, t: TimeMs) -> Vec<(String, String)> {
        let scope = expander.scope(row, value, t);
        self.annotations.iter().map(|(n, template)| (n.clone(), expander.expand(template, &scope))).collect()
    }

    fn take(
        &mut self,
        name: &str,
        tools: &Tools,
        t: TimeMs,
        upsert: Vec<(Labels, f64)>,
        remove: &[Labels],
    ) -> Result<(), String> {
        let row = |(row, value): (Labels, f64)| Row {
            alert: self.alert_labels(name, tools, &row, value, t),
            row,
            value,
        };
        let upsert = upsert.into_iter().map(row).collect();
        self.alerts.apply(t, upsert, remove)?;
        if let Some(error) = self.alerts.over_limit() {
            self.alerts.clear();
            return Err(error);
        }
        Ok(())
    }

    /// The whole condition at `t`: rows that are not in it are gone.
    fn replace(
        &mut self,
        name: &str,
        tools: &Tools,
        t: TimeMs,
        rows: Vec<(Labels, f64)>,
    ) -> Result<(), String> {
        let now: std::collections::HashSet<&Labels> = rows.iter().map(|(row, _)| row).collect();
        let gone: Vec<Labels> = self.alerts.rows().filter(|row| !now.contains(row)).cloned().collect();
        self.take(name, tools, t, rows, &gone)
    }

    /// Writes what `ALERTS` shows at `t`.
    fn write(&mut self, name: &str, store: &dyn StateStore, t: TimeMs) -> Result<(), String> {
        let samples = self.alerts.samples(name);
        self.writer.write(store, t, &samples).map(|_| ()).map_err(|e| format!("writing ALERTS failed: {e}"))
    }

    fn rows_changed(&mut self, name: &str, tools: &Tools, event: TapEvent) -> Result<(), String> {
        match (event, &mut self.mirror) {
            (TapEvent::Snapshot { rows, .. }, Some(mirror)) => *mirror = rows.into_iter().collect(),
            (TapEvent::Snapshot { t, rows }, None) => return self.replace(name, tools, t, rows),
            (TapEvent::Delta { upsert, remove, .. }, Some(mirror)) => {
                for row in &remove {
                    mirror.remove(row);
                }
                mirror.extend(upsert);
            }
            (TapEvent::Delta { t, upsert, remove }, None) => {
                return self.take(name, tools, t, upsert, &remove);
            }
            (TapEvent::Progress { .. } | TapEvent::Failed { .. }, _) => {}
        }
        Ok(())
    }

    /// Runs timers and slots that are due at `t`; returns the slots missed.
    fn pass(&mut self, name: &str, tools: &Tools, t: TimeMs) -> Result<u64, String> {
        if self.settle_at.is_some_and(|at| at <= t) {
            self.settle_at = None;
            self.alerts.settle(t);
        }
        let mut outcome = Ok(());
        let slot = self.slots.take(t);
        if let Some((slot, _)) = slot {
            match self.mirror.take() {
                Some(mirror) => {
                    outcome = self.replace(
                        name,
                        tools,
                        slot,
                        mirror.iter().map(|(l, v)| (l.clone(), *v)).collect(),
                    );
                    self.mirror = Some(mirror);
                }
                None => self.alerts.advance(slot),
            }
            self.alerts.take_changed();
            outcome = outcome.and(self.write(name, tools.store, slot));
        }
        // With `evaluation: interval` timers run in the slots only, as in Prometheus.
        if self.mirror.is_none() {
            self.alerts.advance(t);
        }
        outcome.map(|()| slot.map_or(0, |(_, missed)| missed))
    }

    /// When something happens by itself.
    fn next_wake(&self) -> TimeMs {
        let timer = self.alerts.next_wake().filter(|_| self.mirror.is_none()).unwrap_or(TimeMs::MAX);
        let settle = self.settle_at.unwrap_or(TimeMs::MAX);
        let delayed = timer.min(settle).min(self.slots.next).saturating_add(TIMER_SLACK_MS);
        delayed.min(self.alerts.next_send().unwrap_or(TimeMs::MAX))
    }
}

impl Running {
    /// Takes one event of the view.
    pub fn on_event(&mut self, tools: &Tools, event: TapEvent) -> Tally {
        let began = std::time::Instant::now();
        let t = match &event {
            TapEvent::Snapshot { t, .. }
            | TapEvent::Delta { t, .. }
            | TapEvent::Progress { t }
            | TapEvent::Failed { t, .. } => *t,
        };
        let mut tally = Tally::default();
        let counts = matches!(event, TapEvent::Progress { .. } | TapEvent::Failed { .. });
        tally.evaluations += u64::from(counts);
        let failed = if let TapEvent::Failed { error, .. } = &event { Some(error.clone()) } else { None };
        let outcome = match (&mut self.alerting, failed) {
            (_, Some(error)) => Err(error),
            (None, None) => Ok(()),
            (Some(alerting), None) => {
                alerting.on_event(&self.rule.name, tools, t, event).map(|m| tally.missed += m)
            }
        };
        tally.failures += u64::from(outcome.is_err());
        self.note(outcome, counts);
        self.last_evaluation = self.last_evaluation.max(Some(t));
        self.evaluation_time = began.elapsed().as_secs_f64();
        tally
    }

    /// A failure stays visible until an evaluation goes well.
    fn note(&mut self, outcome: Result<(), String>, complete: bool) {
        match outcome {
            Err(error) => {
                if self.health != Health::Err(error.clone()) {
                    tracing::warn!(rule = %self.rule.name, %error, "evaluating a rule failed");
                }
                self.health = Health::Err(error);
            }
            Ok(()) if complete && self.alerting.as_ref().is_some_and(|a| a.alerts.in_error()) => {}
            Ok(()) => self.health = Health::Ok,
        }
    }

    /// Lets the clock run to `now`: timers, slots.
    pub fn on_time(&mut self, tools: &Tools, now: TimeMs) -> Tally {
        let mut tally = Tally::default();
        let Some(alerting) = &mut self.alerting else { return tally };
        let outcome = alerting.pass(&self.rule.name, tools, now - TIMER_SLACK_MS);
        match outcome.and_then(|missed| alerting.write_changes(&self.rule.name, tools, now).map(|()| missed))
        {
            Ok(missed) => tally.missed = missed,
            Err(error) => {
                tally.failures += 1;
                self.note(Err(error), true);
            }
        }
        tally
    }

    /// Alerts that must be sent at `now`.
    pub fn outgoing(&mut self, expander: &Expander, external_url: &str, now: TimeMs) -> Vec<OutgoingAlert> {
        let Some(alerting) = &mut self.alerting else { return Vec::new() };
        if alerting.alerts.next_send().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let url = format!("{}{}", external_url.trim_end_matches('/'), graph_link(&self.rule.expr.text, 1));
        let due = alerting.alerts.take_due(now);
        let one = |due: Due| OutgoingAlert {
            annotations: alerting.annotations(expander, &due.alert.row, due.alert.value, now),
            labels: due.labels,
            starts_at: due.alert.fired_at.unwrap_or(due.alert.active_at),
            ends_at: due.ends_at,
            resolved: due.alert.resolved_at.is_some(),
            generator_url: url.clone(),
        };
        due.into_iter().map(one).collect()
    }

    /// When something happens by itself.
    pub fn next_wake(&self) -> TimeMs {
        self.alerting.as_ref().map_or(TimeMs::MAX, Alerting::next_wake)
    }

    /// What the API shows.
    pub fn snapshot(&self, expander: &Expander, now: TimeMs) -> RuleSnapshot {
        RuleSnapshot {
            name: self.rule.name.clone(),
            query: self.rule.expr.text.clone(),
            labels: self.rule.labels.clone(),
            health: self.health.clone(),
            last_evaluation: self.last_evaluation,
            evaluation_time: self.evaluation_time,
            alerting: self.alerting.as_ref().map(|a| a.snapshot(self.rule.alert.as_ref(), expander, now)),
        }
    }
}

impl Alerting {
    fn on_event(&mut self, name: &str, tools: &Tools, t: TimeMs, event: TapEvent) -> Result<u64, String> {
        let missed = self.pass(name, tools, t - 1)?;
        let complete = matches!(event, TapEvent::Progress { .. });
        self.rows_changed(name, tools, event)?;
        if complete {
            return self.pass(name, tools, t).map(|more| missed + more);
        }
        self.write_changes(name, tools, t)?;
        Ok(missed)
    }

    /// Writes at once what has changed, so that a restart finds it.
    fn write_changes(&mut self, name: &str, tools: &Tools, t: TimeMs) -> Result<(), String> {
        if self.alerts.take_changed() { self.write(name, tools.store, t) } else { Ok(()) }
    }

    fn snapshot(&self, options: Option<&AlertOptions>, expander: &Expander, now: TimeMs) -> AlertingSnapshot {
        let active = self.alerts.iter().filter(|(_, a)| a.resolved_at.is_none());
        let one = |(labels, alert): (&Labels, &super::alert::Alert)| AlertSnapshot {
            labels: labels.clone(),
            annotations: self.annotations(expander, &alert.row, alert.value, now),
            state: alert.state,
            active_at: alert.active_at,
            keep_firing_since: alert.keep_firing_since,
            value: alert.value,
        };
        AlertingSnapshot {
            state: self.alerts.state(),
            duration: options.map_or(0, |o| o.hold),
            keep_firing_for: options.map_or(0, |o| o.keep_firing_for),
            annotations: options.map_or_else(Vec::new, |o| o.annotations.clone()),
            alerts: active.map(one).collect(),
        }
    }
}
