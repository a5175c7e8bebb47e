//! The alerting part of a running rule: turns the rows of its condition, as the view sends them,
//! into alert states ([`super::alert_states`]), and states into `ALERTS` series
//! ([`super::alert_series`]).

use super::alert::{Alert, AlertTiming, ConditionRow};
use super::alert_annotations::{AlertAnnotations, LazyAnnotations};
use super::alert_series::{AlertSeriesWriter, series_of};
use super::alert_states::AlertStates;
use super::error::EvaluationError;
use super::evaluation_grid::EvaluationGrid;
use super::file::{AlertOptions, EvaluationMode, Rule, RuleGroup};
use super::limits::TIMER_SLACK_MS;
use super::services::AlertSeriesStore;
use super::snapshot::{AlertSnapshot, AlertingSnapshot};
use super::template::{AlertTemplate, TemplateExpander};
use crate::RulesError;
use engine::live::TapEvent;
use engine::types::histogram_column::Sample;
use language::ShownLabels;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// The alerting part of a rule.
pub(super) struct AlertingRule {
    /// The states of its alerts.
    pub alerts: AlertStates,
    /// Writes their `ALERTS` samples.
    pub writer: AlertSeriesWriter,
    /// The templates of the labels that the rule sets.
    pub labels: Vec<(String, AlertTemplate)>,
    /// The templates of the annotations.
    pub annotations: Arc<AlertAnnotations>,
    /// The labels that alerts have of a row's.
    shown_labels: ShownLabels,
    /// Present while there may be alerts whose rows have not come yet.
    pub awaiting: Option<AwaitedRows>,
    /// The evaluation times of the group.
    evaluation_times: EvaluationGrid,
    /// Samples are written this much in the past, in ms.
    query_offset: i64,
    /// With `evaluation: interval`: the condition's rows, to be evaluated at the next evaluation
    /// time.
    condition_rows: Option<BTreeMap<Labels, f64>>,
    /// The view has sent its first answer, so `condition_rows` is complete.
    has_answered: bool,
    /// With `evaluation: interval`: the evaluation time that was just processed, at which alerts
    /// are sent.
    pub send_evaluation: Option<TimeMs>,
    /// With `evaluation: interval`, if the condition reads `ALERTS`.
    awaited_rules: Option<SeriesLag>,
}

/// A condition that reads `ALERTS` is evaluated after the rules before it, as in Prometheus: once
/// an answer has come that includes what they wrote for the same evaluation time.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct SeriesLag {
    /// The rules before it have written all evaluation times before this one.
    pub before: TimeMs,
    /// When they had done so: later answers include it.
    pub since: TimeMs,
}

/// There are alerts whose rows have not been seen.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct AwaitedRows {
    /// Until when their rows may come; `None`: until the first answer.
    pub until: Option<TimeMs>,
    /// The time of the first answer without them.
    since: Option<TimeMs>,
}

impl AwaitedRows {
    /// Rows may come until `t`.
    pub(crate) fn until(t: TimeMs) -> AwaitedRows {
        AwaitedRows { until: Some(t), since: None }
    }
}

/// What the steps of a rule use.
pub(super) struct StepContext<'a> {
    pub expander: &'a TemplateExpander,
    pub store: &'a dyn AlertSeriesStore,
}

pub(super) fn timing(group: &RuleGroup, options: &AlertOptions, resend_delay: i64) -> AlertTiming {
    AlertTiming {
        for_duration: options.hold,
        keep_firing_for: options.keep_firing_for,
        resend_delay,
        interval: group.interval,
        limit: group.limit,
        continuous: group.evaluation == EvaluationMode::Continuous,
    }
}

fn compile(
    expander: &TemplateExpander,
    rule: &Rule,
    texts: &[(String, String)],
) -> Result<Vec<(String, AlertTemplate)>, RulesError> {
    let one = |(name, text): &(String, String)| match expander.compile(&rule.name, text) {
        Ok(template) => Ok((name.clone(), template)),
        Err(fault) => Err(RulesError::Template { alert: rule.name.clone(), reason: fault.what }),
    };
    texts.iter().map(one).collect()
}

impl AlertingRule {
    /// The alerting part of a rule, without alerts.
    pub(crate) fn new(
        group: &RuleGroup,
        rule: &Rule,
        options: &AlertOptions,
        expander: &TemplateExpander,
        resend_delay: i64,
        now: TimeMs,
    ) -> Result<AlertingRule, RulesError> {
        // Labels are part of the key, because several alerts of a group may have the same name and
        // differ only in `severity`.
        let static_labels: Vec<String> = rule.labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
        let key = format!("rule;{};{};{};{}", group.file, group.name, rule.name, static_labels.join(","));
        let is_interval_mode = group.evaluation == EvaluationMode::Interval;
        // A continuous alert is evaluated again as soon as `ALERTS` changes, so it needs no order.
        let behind = is_interval_mode && views::alert_series::reads_alert_series(&rule.expr.plan);
        Ok(AlertingRule {
            alerts: AlertStates::new(timing(group, options, resend_delay)),
            writer: AlertSeriesWriter::new(key),
            labels: compile(expander, rule, &rule.labels)?,
            annotations: Arc::new(AlertAnnotations::new(
                compile(expander, rule, &options.annotations)?,
                rule.expr.labels.clone(),
            )),
            shown_labels: rule.expr.labels.clone(),
            awaiting: None,
            evaluation_times: EvaluationGrid::new(group.interval, now),
            query_offset: group.query_offset,
            condition_rows: is_interval_mode.then(BTreeMap::new),
            has_answered: false,
            send_evaluation: None,
            awaited_rules: behind.then(SeriesLag::default),
        })
    }

    /// Takes over the state of `old` (the same rule before a reload). `anew`: the view sends all
    /// rows again, beginning with a snapshot.
    pub(crate) fn continue_from(&mut self, old: AlertingRule, timing: AlertTiming, anew: bool, now: TimeMs) {
        self.alerts = old.alerts;
        self.writer = old.writer;
        self.awaiting = old.awaiting;
        if anew {
            self.alerts.await_all_rows();
            // If rows were awaited already, their deadline stays.
            self.awaiting.get_or_insert_default();
        } else {
            self.condition_rows = old.condition_rows;
            self.has_answered = old.has_answered;
        }
        self.alerts.set_timing(timing, now);
    }

    /// Whether its condition is processed at evaluation times only.
    pub(crate) fn is_interval_mode(&self) -> bool {
        self.condition_rows.is_some()
    }

    /// The next evaluation time, if it waits for evaluation times.
    pub(crate) fn next_evaluation(&self) -> Option<TimeMs> {
        self.is_interval_mode().then_some(self.evaluation_times.next)
    }

    /// Whether it must know how far the rules before it are.
    pub(crate) fn awaits_rules(&self) -> bool {
        self.awaited_rules.is_some()
    }

    /// Sets how far the rules before it are.
    pub(crate) fn follow(&mut self, behind: SeriesLag) {
        self.awaited_rules = self.awaited_rules.map(|_| behind);
    }

    /// Up to which time evaluation times may be processed at `t`; `answered`: `condition_rows` is
    /// the answer at `t`.
    fn evaluations_until(&self, t: TimeMs, answered: bool) -> TimeMs {
        match self.awaited_rules {
            None => t,
            // Strictly later: at the same time the answer was made before the samples were written.
            Some(behind) if answered && t > behind.since => t.min(behind.before - 1),
            // Not yet: an evaluation now would see the states of the time before.
            Some(_) => TimeMs::MIN,
        }
    }

    /// The whole answer at `t` was processed: rows that were not in it do not exist.
    fn answer_complete(&mut self, t: TimeMs) {
        let Some(awaiting) = &mut self.awaiting else { return };
        // Alerts end at the first answer without them, not when waiting ends.
        let since = *awaiting.since.get_or_insert(t);
        if awaiting.until.is_none_or(|until| until <= t) {
            self.awaiting = None;
            self.alerts.end_awaited(since);
        }
    }

    /// The labels of the alert of a row.
    fn alert_labels(&self, name: &str, tools: &StepContext, row: &Labels, value: f64, t: TimeMs) -> Labels {
        let row = &self.shown_labels.shown(row);
        let mut labels = row.to_builder();
        // An alert has the name of its rule, and the name of the metric would mix alerts of
        // different metrics.
        labels.remove("__name__");
        let mut scope = None;
        for (name, template) in &self.labels {
            let text = match template {
                AlertTemplate::Plain(text) => text.clone(),
                dynamic => {
                    // Made only if there is a template: most labels are plain.
                    let scope = scope.get_or_insert_with(|| tools.expander.scope(row, value, t));
                    tools.expander.expand(dynamic, scope)
                }
            };
            labels.set(name.as_str(), text);
        }
        // Last, so that no label of the rule can replace it.
        labels.set("alertname", name);
        labels.build()
    }

    /// Applies changes of the condition's rows at `t`.
    fn apply_rows(
        &mut self,
        name: &str,
        tools: &StepContext,
        t: TimeMs,
        upsert: Vec<(Labels, f64)>,
        remove: &[Labels],
    ) -> Result<(), EvaluationError> {
        let row = |(row, value): (Labels, f64)| ConditionRow {
            alert: self.alert_labels(name, tools, &row, value, t),
            row,
            value,
        };
        let upsert = upsert.into_iter().map(row).collect();
        self.alerts.apply(t, upsert, remove)?;
        if let Some(error) = self.alerts.over_limit() {
            // As in Prometheus, too many alerts are none: sending some of them would hide the
            // others.
            self.alerts.clear(t);
            return Err(error);
        }
        Ok(())
    }

    /// Replaces the condition at `t`: rows that are not in `rows` are gone.
    fn replace(
        &mut self,
        name: &str,
        tools: &StepContext,
        t: TimeMs,
        rows: Vec<(Labels, f64)>,
    ) -> Result<(), EvaluationError> {
        let now: std::collections::HashSet<&Labels> = rows.iter().map(|(row, _)| row).collect();
        let gone: Vec<Labels> = self.alerts.rows().filter(|row| !now.contains(row)).cloned().collect();
        self.apply_rows(name, tools, t, rows, &gone)
    }

    /// Writes the `ALERTS` samples at `t`; nothing while states are suspended.
    fn write(&mut self, name: &str, store: &dyn AlertSeriesStore, t: TimeMs) -> Result<(), EvaluationError> {
        let samples = self.alerts.samples(name);
        // While the condition cannot be evaluated, series neither go on nor end.
        if self.alerts.condition.is_suspended() && !samples.is_empty() {
            return Ok(());
        }
        self.writer.write(store, t - self.query_offset, &samples).map(|_| ()).map_err(EvaluationError::Write)
    }

    /// Writes the `ALERTS` samples that changed since the last call. With `evaluation: interval`
    /// they wait for the next evaluation time, as in Prometheus.
    fn write_changes(
        &mut self,
        name: &str,
        store: &dyn AlertSeriesStore,
        t: TimeMs,
    ) -> Result<(), EvaluationError> {
        if self.is_interval_mode() {
            return Ok(());
        }
        let mut series = Vec::new();
        let mut samples = Vec::new();
        for labels in self.alerts.changes.take_series() {
            let shown = self.alerts.samples_of(name, &labels);
            // While states are suspended, series may only end.
            if !self.alerts.condition.is_suspended() || shown.is_empty() {
                series.extend(series_of(name, &labels));
                samples.extend(shown);
            }
        }
        if series.is_empty() {
            return Ok(());
        }
        self.writer
            .write_changes(store, t - self.query_offset, &series, &samples)
            .map_err(EvaluationError::Write)
    }

    fn rows_changed(
        &mut self,
        name: &str,
        tools: &StepContext,
        event: TapEvent,
    ) -> Result<(), EvaluationError> {
        match (event, &mut self.condition_rows) {
            (TapEvent::Snapshot { t, rows }, Some(mirror)) => {
                *mirror = numbers(rows).collect();
                let came: Vec<(Labels, f64)> = mirror.iter().map(|(row, v)| (row.clone(), *v)).collect();
                self.has_answered = true;
                self.alerts.condition.resume_at(t);
                // The states change at the next evaluation time, but restored alerts must know now
                // that their row is there.
                if self.awaiting.is_some() {
                    for (row, value) in came {
                        let alert = self.alert_labels(name, tools, &row, value, t);
                        self.alerts.add_awaited_row(ConditionRow { row, alert, value });
                    }
                }
            }
            (TapEvent::Snapshot { t, rows }, None) => {
                self.replace(name, tools, t, numbers(rows).collect())?;
                self.answer_complete(t);
            }
            (TapEvent::Delta { t, upsert, remove, .. }, Some(mirror)) => {
                for row in &remove {
                    mirror.remove(row);
                }
                mirror.extend(numbers(upsert));
                self.alerts.condition.resume_at(t);
            }
            (TapEvent::Delta { t, upsert, remove, .. }, None) => {
                self.apply_rows(name, tools, t, numbers(upsert).collect(), &remove)?;
                // An answer with invalid rows counts once they are valid.
                self.answer_complete(t);
            }
            // An answer without changes after a failure: the condition is known again.
            (TapEvent::Progress { t }, _) => self.alerts.condition.resume_at(t),
            (TapEvent::Annotations { .. } | TapEvent::Failed { .. }, _) => {}
        }
        Ok(())
    }

    /// Runs timers and evaluation times that are due at `t`. `answered`: the answer of a tick at
    /// `t` was processed.
    pub(crate) fn advance(
        &mut self,
        name: &str,
        tools: &StepContext,
        t: TimeMs,
        answered: bool,
    ) -> Result<(), EvaluationError> {
        // Without a further answer, the alerts end when waiting for rows ends.
        if self.give_up_at() <= t {
            self.answer_complete(t);
        }
        let mut outcome = Ok(());
        let until = self.evaluations_until(t, answered);
        // Only the latest of several evaluation times: those that were missed cannot be evaluated
        // any more, as in Prometheus.
        if let Some((evaluation_time, _)) =
            self.evaluation_times.take_due(until).filter(|_| !self.alerts.condition.is_evaluation_failing())
        {
            match self.condition_rows.take() {
                Some(mirror) => {
                    outcome = self.replace(
                        name,
                        tools,
                        evaluation_time,
                        mirror.iter().map(|(l, v)| (l.clone(), *v)).collect(),
                    );
                    self.condition_rows = Some(mirror);
                    self.send_evaluation = Some(evaluation_time);
                    if self.has_answered {
                        self.answer_complete(evaluation_time);
                        // For an alert that ended long ago, `keep_firing_for` may be over as well.
                        self.alerts.advance(evaluation_time);
                    }
                }
                None => self.alerts.advance(evaluation_time),
            }
            // Everything is written at an evaluation time, so nothing is left to be written as a
            // change.
            self.alerts.changes.take_series();
            outcome = outcome.and(self.write(name, tools.store, evaluation_time));
        }
        // With `evaluation: interval`, timers run at evaluation times only, as in Prometheus.
        if self.condition_rows.is_none() {
            self.alerts.advance(t);
        }
        outcome.and(self.write_changes(name, tools.store, t))
    }

    /// When alerts without rows end, if an answer did not have them.
    fn give_up_at(&self) -> TimeMs {
        let awaiting = self.awaiting.filter(|a| a.since.is_some() && !self.alerts.condition.is_suspended());
        awaiting.and_then(|a| a.until).unwrap_or(TimeMs::MAX)
    }

    /// When something happens without an event.
    pub(crate) fn next_wake(&self) -> TimeMs {
        let timer = self.alerts.next_wake().filter(|_| self.condition_rows.is_none()).unwrap_or(TimeMs::MAX);
        // A rule after others waits for an answer.
        let evaluation_time = if self.awaits_rules() { TimeMs::MAX } else { self.evaluation_times.next };
        let delayed = timer.min(self.give_up_at()).min(evaluation_time).saturating_add(TIMER_SLACK_MS);
        delayed.min(self.next_send())
    }

    /// When an alert must be sent: immediately if it is due, but with `evaluation: interval` only
    /// at evaluation times.
    pub(crate) fn next_send(&self) -> TimeMs {
        match (self.is_interval_mode(), self.send_evaluation) {
            (true, None) => TimeMs::MAX,
            _ => self.alerts.next_send().unwrap_or(TimeMs::MAX),
        }
    }

    pub(crate) fn on_event(
        &mut self,
        name: &str,
        tools: &StepContext,
        t: TimeMs,
        event: TapEvent,
    ) -> Result<(), EvaluationError> {
        let complete = matches!(event, TapEvent::Progress { .. });
        // Rows are sent only once, so they are processed even if something else fails.
        let advanced = self.advance(name, tools, t - 1, false);
        let applied = self.rows_changed(name, tools, event);
        let written = if complete {
            self.advance(name, tools, t, true)
        } else {
            self.write_changes(name, tools.store, t)
        };
        applied.and(advanced).and(written)
    }

    /// Evaluating the condition failed at `t`.
    pub(crate) fn evaluation_failed(&mut self, name: &str, tools: &StepContext, t: TimeMs) {
        if let Err(error) = self.advance(name, tools, t - 1, false) {
            tracing::warn!(target: "rules", rule = name, %error, "the timers of an alert ran with an error; see the error of the rule on /api/v1/rules");
        }
        self.alerts.condition.suspend();
    }

    pub(crate) fn snapshot(
        &self,
        options: Option<&AlertOptions>,
        expander: &Arc<TemplateExpander>,
        now: TimeMs,
    ) -> AlertingSnapshot {
        let active = self.alerts.iter().filter(|(_, a)| a.resolved_at.is_none());
        let blank = |alert: &Alert| LazyAnnotations {
            annotations: self.annotations.clone(),
            expander: expander.clone(),
            row: alert.row.clone(),
            value: alert.value,
            t: now,
            texts: alert.last_annotations.clone(),
        };
        let one = |(labels, alert): (&Labels, &Alert)| AlertSnapshot {
            labels: labels.clone(),
            annotations: blank(alert),
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

/// The values of rows; a histogram counts as 0, as in Prometheus.
fn numbers(rows: Vec<engine::live::LabelledSample>) -> impl Iterator<Item = (Labels, f64)> {
    let number = |sample: Sample| if let Sample::Float(v) = sample { v } else { 0.0 };
    rows.into_iter().map(move |(labels, sample)| (labels, number(sample)))
}
