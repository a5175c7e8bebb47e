//! One rule while it runs: its view, its health and, for an alerting rule, its alerts and their writer.

use super::alert::{Due, Row, Timing};
use super::file::{AlertOptions, Group, Rhythm, Rule};
use super::functions::graph_link;
use super::inbox::{Inbox, RuleId, Told};
use super::limits::TIMER_SLACK_MS;
use super::lineage::RuleKey;
use super::memory;
use super::ports::{OutgoingAlert, Receipt, StateStore};
use super::record::Writer;
use super::snapshot::{AlertSnapshot, AlertingSnapshot, Health, RuleSnapshot};
use super::states::Alerts;
use super::template::{Expander, Template};
use crate::views::Views;
use engine::live::meter::Spent;
use engine::live::{TapEvent, TapId, ViewId};
use engine::operators::side::Sample;
use std::collections::HashMap;
use std::sync::Arc;
use storage::keep::Change;
use storage::model::{Labels, TimeMs};

/// A rule that stands.
pub(super) struct Running {
    pub id: RuleId,
    pub view: ViewId,
    pub tap: TapId,
    pub rule: Rule,
    pub key: RuleKey,
    /// The hash of `key`, once something was kept under it.
    pub kept_as: Option<u64>,
    /// When it wants to be looked at, as the core has it.
    pub wake: TimeMs,
    pub health: Health,
    pub last_evaluation: Option<TimeMs>,
    /// What taking in the events of that evaluation took, s.
    pub evaluation_time: f64,
    /// What the group's counters know of the view.
    pub counted: Spent,
    pub alerting: Option<Alerting>,
}

/// The part of an alerting rule.
pub(super) struct Alerting {
    pub alerts: Alerts,
    pub writer: Writer,
    pub labels: Vec<(String, Template)>,
    pub annotations: Vec<(String, Template)>,
    /// While there may be alerts whose rows have not come yet.
    pub awaiting: Option<Awaiting>,
    slots: Slots,
    /// With `evaluation: interval`: the condition's rows, looked at in the next slot.
    mirror: Option<HashMap<Labels, f64>>,
    /// The mirror is the view's; a new rule's view has not answered yet.
    heard: bool,
    /// With `evaluation: interval`: the slot that was just evaluated, at which alerts are sent.
    send_slot: Option<TimeMs>,
}

/// Alerts are known that no row has been seen of.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Awaiting {
    /// Until when their rows may come; `None`: the first answer has them all.
    pub until: Option<TimeMs>,
    /// The first answer without them.
    since: Option<TimeMs>,
}

impl Awaiting {
    /// Rows may come until `t`.
    pub fn until(t: TimeMs) -> Awaiting {
        Awaiting { until: Some(t), since: None }
    }
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
    pub fn take(&mut self, t: TimeMs) -> Option<(TimeMs, u64)> {
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
    /// Evaluations that its view told of; of several without a change it tells once.
    pub told: u64,
    /// Those among them that failed.
    pub told_failures: u64,
    /// What failed here: limits, writing.
    pub failures: u64,
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
            awaiting: None,
            slots: Slots::new(group.interval, now),
            mirror: (group.rhythm == Rhythm::Interval).then(HashMap::new),
            heard: false,
            send_slot: None,
        })
    }

    /// Carries the state of `old` (the same rule before a reload) over. `anew`: the rows are told anew, those that hold
    /// now first.
    pub fn inherit(&mut self, old: Alerting, timing: Timing, anew: bool, now: TimeMs) {
        self.alerts = old.alerts;
        self.writer = old.writer;
        self.awaiting = old.awaiting;
        if anew {
            self.alerts.await_rows();
            self.awaiting.get_or_insert_default();
        } else {
            self.mirror = old.mirror;
            self.heard = old.heard;
        }
        self.alerts.retime(timing, now);
    }

    /// Whether its condition is looked at in its slots only.
    pub fn in_slots(&self) -> bool {
        self.mirror.is_some()
    }

    /// The whole answer at `t` has been taken: rows that were not in it are missing.
    fn answered(&mut self, t: TimeMs) {
        let Some(awaiting) = &mut self.awaiting else { return };
        let since = *awaiting.since.get_or_insert(t);
        if awaiting.until.is_none_or(|until| until <= t) {
            self.awaiting = None;
            self.alerts.settle(since);
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
            (TapEvent::Snapshot { rows, .. }, Some(mirror)) => {
                *mirror = numbers(rows).collect();
                self.heard = true;
            }
            (TapEvent::Snapshot { t, rows }, None) => {
                self.replace(name, tools, t, numbers(rows).collect())?;
                self.answered(t);
            }
            (TapEvent::Delta { upsert, remove, .. }, Some(mirror)) => {
                for row in &remove {
                    mirror.remove(row);
                }
                mirror.extend(numbers(upsert));
            }
            (TapEvent::Delta { t, upsert, remove }, None) => {
                return self.take(name, tools, t, numbers(upsert).collect(), &remove);
            }
            (TapEvent::Progress { .. } | TapEvent::Notes { .. } | TapEvent::Failed { .. }, _) => {}
        }
        Ok(())
    }

    /// Runs timers and slots that are due at `t`.
    fn pass(&mut self, name: &str, tools: &Tools, t: TimeMs) -> Result<(), String> {
        if self.awaiting.is_some_and(|a| a.until.is_some_and(|until| until <= t)) {
            self.answered(t);
        }
        let mut outcome = Ok(());
        if let Some((slot, _)) = self.slots.take(t) {
            match self.mirror.take() {
                Some(mirror) => {
                    outcome = self.replace(
                        name,
                        tools,
                        slot,
                        mirror.iter().map(|(l, v)| (l.clone(), *v)).collect(),
                    );
                    self.mirror = Some(mirror);
                    self.send_slot = Some(slot);
                    if self.heard {
                        self.answered(slot);
                    }
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
        outcome
    }

    /// When something happens by itself.
    fn next_wake(&self) -> TimeMs {
        let timer = self.alerts.next_wake().filter(|_| self.mirror.is_none()).unwrap_or(TimeMs::MAX);
        let settle = self.awaiting.and_then(|a| a.until).unwrap_or(TimeMs::MAX);
        let delayed = timer.min(settle).min(self.slots.next).saturating_add(TIMER_SLACK_MS);
        delayed.min(self.next_send())
    }

    /// When something must be sent: at once if it is due, but with `evaluation: interval` in the slots only.
    fn next_send(&self) -> TimeMs {
        match (self.in_slots(), self.send_slot) {
            (true, None) => TimeMs::MAX,
            _ => self.alerts.next_send().unwrap_or(TimeMs::MAX),
        }
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
            | TapEvent::Notes { t, .. }
            | TapEvent::Failed { t, .. } => *t,
        };
        let mut tally = Tally::default();
        let counts = matches!(event, TapEvent::Progress { .. } | TapEvent::Failed { .. });
        tally.told += u64::from(counts);
        let failed = if let TapEvent::Failed { error, .. } = &event { Some(error.clone()) } else { None };
        let outcome = match (&mut self.alerting, failed) {
            (_, Some(error)) => {
                tally.told_failures += 1;
                Err(error)
            }
            (None, None) => Ok(()),
            (Some(alerting), None) => {
                let outcome = alerting.on_event(&self.rule.name, tools, t, event);
                tally.failures += u64::from(outcome.is_err());
                outcome
            }
        };
        self.note(outcome, counts);
        let before = if self.last_evaluation == Some(t) { self.evaluation_time } else { 0.0 };
        self.last_evaluation = self.last_evaluation.max(Some(t));
        self.evaluation_time = before + began.elapsed().as_secs_f64();
        tally
    }

    /// What its latest evaluation took, s: in the view, as far as that was measured, and here.
    pub fn took(&self, spent: Option<Spent>) -> f64 {
        self.evaluation_time + spent.map_or(0.0, |spent| spent.latest)
    }

    /// How many samples its latest evaluation gave; an alert is two.
    pub fn samples(&self, spent: Option<Spent>) -> usize {
        match &self.alerting {
            Some(alerting) => 2 * alerting.alerts.iter().filter(|(_, a)| a.resolved_at.is_none()).count(),
            None => spent.map_or(0, |spent| spent.samples),
        }
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
        if let Err(error) = outcome.and_then(|()| alerting.write_changes(&self.rule.name, tools, now)) {
            tally.failures += 1;
            self.note(Err(error), true);
        }
        tally
    }

    /// Alerts that must be sent at `now`.
    pub fn outgoing(
        &mut self,
        expander: &Expander,
        url: &str,
        inbox: &Arc<Inbox>,
        now: TimeMs,
    ) -> Vec<OutgoingAlert> {
        let Some(alerting) = &mut self.alerting else { return Vec::new() };
        if alerting.next_send() > now {
            return Vec::new();
        }
        let url = format!("{}{}", url.trim_end_matches('/'), graph_link(&self.rule.expr.text, 1));
        let at = alerting.send_slot.take().unwrap_or(now);
        let due = alerting.alerts.take_due(at);
        let one = |due: Due| OutgoingAlert {
            annotations: alerting.annotations(expander, &due.alert.row, due.alert.value, at),
            receipt: receipt(inbox, self.id, &due, at),
            labels: due.labels,
            starts_at: due.alert.fired_at.unwrap_or(due.alert.active_at),
            ends_at: due.ends_at,
            resolved: due.alert.resolved_at.is_some(),
            generator_url: url.clone(),
        };
        due.into_iter().map(one).collect()
    }

    /// What has to be kept of alerts that have changed.
    pub fn take_changes(&mut self, now: TimeMs) -> Vec<Change> {
        let Some(alerting) = &mut self.alerting else { return Vec::new() };
        let news = alerting.alerts.take_news();
        if news.is_empty() {
            return Vec::new();
        }
        let hash = self.key.hash64();
        let mut changes = Vec::new();
        if self.kept_as.replace(hash) != Some(hash) {
            changes.extend(memory::rule(&self.key));
        }
        changes.extend(news.iter().filter_map(|(labels, alert)| memory::alert(hash, labels, *alert, now)));
        changes
    }

    /// It is known by another key now, or not at all any more: what was kept under the old one goes.
    pub fn rename(&mut self, key: Option<RuleKey>, changes: &mut Vec<Change>) {
        if let (Some(hash), Some(alerting)) = (self.kept_as.take(), &mut self.alerting) {
            changes.extend(memory::forget_rule(hash));
            alerting.alerts.all_news();
            let all = alerting.alerts.take_news();
            changes.extend(all.iter().filter_map(|(labels, _)| memory::alert(hash, labels, None, 0)));
            alerting.alerts.all_news();
        }
        if let Some(key) = key {
            self.key = key;
        }
    }

    /// When something happens by itself.
    pub fn next_wake(&self) -> TimeMs {
        self.alerting.as_ref().map_or(TimeMs::MAX, Alerting::next_wake)
    }

    /// What the API shows.
    pub fn snapshot(&self, expander: &Expander, views: &dyn Views, now: TimeMs) -> RuleSnapshot {
        RuleSnapshot {
            name: self.rule.name.clone(),
            query: self.rule.expr.text.clone(),
            labels: self.rule.labels.clone(),
            health: self.health.clone(),
            last_evaluation: self.last_evaluation,
            evaluation_time: self.took(views.spent(self.view)),
            alerting: self.alerting.as_ref().map(|a| a.snapshot(self.rule.alert.as_ref(), expander, now)),
        }
    }
}

impl Alerting {
    fn on_event(&mut self, name: &str, tools: &Tools, t: TimeMs, event: TapEvent) -> Result<(), String> {
        self.pass(name, tools, t - 1)?;
        let complete = matches!(event, TapEvent::Progress { .. });
        self.rows_changed(name, tools, event)?;
        if complete {
            return self.pass(name, tools, t);
        }
        self.write_changes(name, tools, t)
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

fn receipt(inbox: &Arc<Inbox>, rule: RuleId, due: &Due, sent: TimeMs) -> Receipt {
    let (fired_at, resolved_at) = (due.alert.fired_at, due.alert.resolved_at);
    let told = Told { rule, labels: due.labels.clone(), sent, fired_at, resolved_at };
    let inbox = inbox.clone();
    Receipt(Arc::new(move || inbox.told(told.clone())))
}

/// The values that alerts have; a histogram counts as 0, as in Prometheus.
fn numbers(rows: Vec<engine::live::Row>) -> impl Iterator<Item = (Labels, f64)> {
    let number = |sample: Sample| if let Sample::Float(v) = sample { v } else { 0.0 };
    rows.into_iter().map(move |(labels, sample)| (labels, number(sample)))
}
