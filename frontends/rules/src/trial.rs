//! Tries an alerting rule on the past: what its alerts would have done, had it run then.
//!
//! The states are those of [`super::alerting_rule`], fed with answers of queries over history
//! instead of those of the live runtime. So a trial says exactly what the rule would have done if
//! it had been evaluated at these times and at no others. Nothing is stored and nothing is sent.

use super::alert::AlertState;
use super::alerting_rule::{AlertingRule, SeriesLag, StepContext};
use super::file::{EvaluationMode, Rule, RuleGroup};
use super::limits::{TIMER_SLACK_MS, TRIAL_ALERTS, TRIAL_INTERVALS};
use super::manager::RuleManagerOptions;
use super::services::AlertSeriesStore;
use super::state_change::StateChange;
use super::template::{TemplateExpander, TemplateQuery};
use crate::RulesError;
use engine::live::TapEvent;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::{Labels, Matcher, SeriesRef, TimeMs};
use storage::store::{AppendResult, ColumnBatch, FloatRow, GroupId, RecentSamples, StoreError};

/// An interval of time in which an alert was pending or firing.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TrialInterval {
    /// When it began.
    pub from: TimeMs,
    /// When it ended, or the last time of the trial.
    pub to: TimeMs,
    /// Pending or firing.
    pub state: AlertState,
    /// It had not ended.
    pub is_open: bool,
}

/// What one alert would have done.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialAlert {
    /// The labels of the alert.
    pub labels: Labels,
    /// In order of time; pending and firing ones follow each other.
    pub intervals: Vec<TrialInterval>,
}

/// What a rule would have done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrialReport {
    /// Its alerts, sorted by labels.
    pub alerts: Vec<TrialAlert>,
    /// How many times an alert began to fire.
    pub fired: u64,
    /// How long alerts fired, all added, in ms.
    pub firing_ms: i64,
    /// The longest that one alert fired, in ms.
    pub longest_ms: i64,
    /// Notifications that an alert fires or has ended.
    pub notifications: u64,
    /// The same with those that repeat it after the resend delay.
    pub sent: u64,
    /// Evaluations.
    pub evaluations: u64,
    /// Evaluations that failed.
    pub failures: u64,
    /// When an evaluation failed first, and why.
    pub first_failure: Option<(TimeMs, String)>,
    /// Alerts or intervals were left out of `alerts`; the sums have them.
    pub truncated: bool,
}

/// An alert that is pending or firing, and since when.
struct OpenInterval {
    state: AlertState,
    from: TimeMs,
}

/// A trial of one rule.
pub struct RuleTrial {
    name: String,
    expander: TemplateExpander,
    rule: AlertingRule,
    open: BTreeMap<Labels, OpenInterval>,
    closed: BTreeMap<Labels, Vec<TrialInterval>>,
    intervals: usize,
    report: TrialReport,
}

/// The store of a trial: the samples of its alerts go nowhere.
struct NoStore;

impl AlertSeriesStore for NoStore {
    fn open_group(&self, _: &str, _: u16) -> GroupId {
        GroupId(0)
    }
    fn resolve(&self, _: &Labels) -> SeriesRef {
        SeriesRef { shard: 0, slot: 0 }
    }
    fn append(&self, _: &ColumnBatch) -> Result<AppendResult, StoreError> {
        Ok(AppendResult::default())
    }
    fn append_rows(&self, _: &[FloatRow]) -> Result<AppendResult, StoreError> {
        Ok(AppendResult::default())
    }
    fn newest(&self, _: &[Matcher], _: TimeMs, _: TimeMs) -> Result<Vec<(Labels, TimeMs, f64)>, StoreError> {
        Ok(Vec::new())
    }
    fn recent(&self, _: &[Matcher], _: TimeMs, _: TimeMs, _: usize) -> Result<RecentSamples, StoreError> {
        Ok(RecentSamples::default())
    }
}

impl RuleTrial {
    /// A trial of the alerting rule `rule` of `group` that begins at `start`, without alerts.
    /// `query`: for `query` in the templates of labels.
    ///
    /// # Errors
    /// A template is wrong, or the rule is a recording rule.
    pub fn new(
        group: &RuleGroup,
        rule: &Rule,
        options: &RuleManagerOptions,
        query: Arc<dyn TemplateQuery>,
        start: TimeMs,
    ) -> Result<RuleTrial, RulesError> {
        let expander = TemplateExpander::new(&options.external_labels, &options.external_url, query);
        let Some(alert) = &rule.alert else { return Err(RulesError::NotAnAlert(rule.name.clone())) };
        // Just before the start, so that an evaluation time at the start is one.
        let mut part =
            AlertingRule::new(group, rule, alert, &expander, options.resend_delay, start.saturating_sub(1))?;
        // What other rules wrote is in history already.
        part.follow(SeriesLag { before: TimeMs::MAX, since: TimeMs::MIN });
        Ok(RuleTrial {
            name: rule.name.clone(),
            expander,
            rule: part,
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            intervals: 0,
            report: TrialReport::default(),
        })
    }

    /// The condition's answer at `t`; times must increase. With `evaluation: interval`, `t` must be
    /// an evaluation time of the group.
    pub fn answer(&mut self, t: TimeMs, rows: Vec<(Labels, f64)>) {
        self.report.evaluations += 1;
        self.run_timers(t);
        let rows = rows.into_iter().map(|(labels, value)| (labels, value.into())).collect();
        let tools = StepContext { expander: &self.expander, store: &NoStore };
        let shown = self.rule.on_event(&self.name, &tools, t, TapEvent::Snapshot { t, rows });
        let passed = self.rule.on_event(&self.name, &tools, t, TapEvent::Progress { t });
        if let Err(error) = shown.and(passed) {
            self.note_failure(t, error.to_string());
        }
        self.settle(t);
    }

    /// The condition cannot be evaluated at `t`.
    pub fn failed(&mut self, t: TimeMs, error: String) {
        self.report.evaluations += 1;
        let tools = StepContext { expander: &self.expander, store: &NoStore };
        self.rule.evaluation_failed(&self.name, &tools, t);
        self.note_failure(t, error);
        self.settle(t);
    }

    /// Runs the timers that end before `t`, each at its time, as a server does.
    fn run_timers(&mut self, t: TimeMs) {
        if self.rule.is_interval_mode() {
            return;
        }
        while let Some(due) = self.rule.alerts.next_wake().filter(|due| *due < t) {
            self.rule.alerts.advance(due);
            self.settle(t.min(due + TIMER_SLACK_MS));
        }
    }

    fn note_failure(&mut self, t: TimeMs, error: String) {
        self.report.failures += 1;
        self.report.first_failure.get_or_insert((t, error));
    }

    /// How many times an alert began to fire so far.
    pub fn fired(&self) -> u64 {
        self.report.fired
    }

    /// Counts what changed up to `t`, and the notifications that are due.
    fn settle(&mut self, t: TimeMs) {
        for change in self.rule.alerts.changes.take_transitions() {
            self.change(change);
        }
        // Nobody saves or writes here, so these lists would only grow.
        self.rule.alerts.changes.take_series();
        self.rule.alerts.take_changed_alerts();
        let evaluation_time = self.rule.send_evaluation.take();
        if self.rule.is_interval_mode() {
            if let Some(at) = evaluation_time {
                self.report.sent += self.rule.alerts.take_due(at).len() as u64;
            }
            return;
        }
        // A server repeats notifications in between, at the evaluation times of the group.
        while let Some(due) = self.rule.alerts.next_send().filter(|due| *due <= t) {
            let at = if due == TimeMs::MIN { t } else { due };
            self.report.sent += self.rule.alerts.take_due(at).len() as u64;
        }
    }

    /// Counts a change of a state.
    fn change(&mut self, change: StateChange) {
        let StateChange { at, labels, from, to, .. } = change;
        let is_notified = (from == AlertState::Firing) != (to == AlertState::Firing);
        self.report.notifications += u64::from(is_notified);
        self.report.fired += u64::from(to == AlertState::Firing);
        if let Some(interval) = self.open.remove(&labels) {
            self.close(
                labels.clone(),
                TrialInterval { from: interval.from, to: at, state: interval.state, is_open: false },
            );
        }
        if to != AlertState::Inactive {
            self.open.insert(labels, OpenInterval { state: to, from: at });
        }
    }

    /// Adds an interval that has ended.
    fn close(&mut self, labels: Labels, interval: TrialInterval) {
        let length = interval.to - interval.from;
        if interval.state == AlertState::Firing {
            self.report.firing_ms += length;
            self.report.longest_ms = self.report.longest_ms.max(length);
        }
        // Without `for`, or where the row went at once, there is nothing to see.
        if length == 0 && interval.state == AlertState::Pending {
            return;
        }
        let is_new = !self.closed.contains_key(&labels);
        if self.intervals >= TRIAL_INTERVALS || (is_new && self.closed.len() >= TRIAL_ALERTS) {
            self.report.truncated = true;
            return;
        }
        self.intervals += 1;
        self.closed.entry(labels).or_default().push(interval);
    }

    /// The result; the last evaluation was at `end`.
    pub fn finish(mut self, end: TimeMs) -> TrialReport {
        for (labels, interval) in std::mem::take(&mut self.open) {
            let to = end.max(interval.from);
            self.close(
                labels,
                TrialInterval { from: interval.from, to, state: interval.state, is_open: true },
            );
        }
        let alerts = self.closed.into_iter();
        self.report.alerts = alerts.map(|(labels, intervals)| TrialAlert { labels, intervals }).collect();
        self.report
    }
}

/// The step of a trial that names none, ms: the group's interval.
pub fn default_step(group: &RuleGroup) -> i64 {
    group.interval.max(1)
}

/// The first evaluation time, ms, of a trial that begins at `start` with this step: with
/// `evaluation: interval` the evaluation times are given, otherwise any time will do, and these are
/// as good as others.
pub fn first_time(start: TimeMs, step: i64) -> TimeMs {
    start + (-start).rem_euclid(step.max(1))
}

/// Whether all times of a step, ms, are times at which the rule runs.
pub fn is_possible_step(group: &RuleGroup, step: i64) -> bool {
    group.evaluation == EvaluationMode::Continuous || step % group.interval.max(1) == 0
}
