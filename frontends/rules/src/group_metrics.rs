//! Metrics of rule groups, under Prometheus' names.
//!
//! What the live runtime counts and measures of a view is read when one of its events arrives and
//! at the evaluation times of its group. So a rule without changes costs nothing in between.

use super::active_rule::{ActiveRule, StepCounts};
use super::evaluation_grid::EvaluationGrid;
use super::file::RuleGroup;
use super::limits::TIMER_SLACK_MS;
use super::snapshot::RuleHealth;
use engine::live::cost::EvaluationCost;
use std::sync::Arc;
use storage::metrics::{Counter, Gauge, MetricSummary, Metrics};
use storage::model::TimeMs;
use storage::model::time::format_duration;
use storage::spans::{SpanKind, Tracer};
use views::ViewRegistry;

/// The label with the name of a group.
pub(super) const RULE_GROUP: &str = "rule_group";

/// Durations of all groups together, as metrics and as spans.
pub(super) struct RuleDurationMetrics {
    tracer: Tracer,
    rule: Arc<MetricSummary>,
    group: Arc<MetricSummary>,
}

impl RuleDurationMetrics {
    pub(crate) fn new(metrics: &Metrics, tracer: Tracer) -> RuleDurationMetrics {
        let summary = |name, help| metrics.summary(name, help, &[]);
        RuleDurationMetrics {
            tracer,
            rule: summary(
                "prometheus_rule_evaluation_duration_seconds",
                "The duration for a rule to execute.",
            ),
            group: summary(
                "prometheus_rule_group_duration_seconds",
                "The duration of rule group evaluations.",
            ),
        }
    }
}

/// The metrics of one group.
pub(super) struct GroupMetrics {
    /// The value of [`RULE_GROUP`].
    pub key: String,
    file: String,
    name: String,
    interval: TimeMs,
    evaluation_times: EvaluationGrid,
    evaluations: Arc<Counter>,
    failures: Arc<Counter>,
    iterations: Arc<Counter>,
    missed: Arc<Counter>,
    last: Arc<Gauge>,
    last_duration: Arc<Gauge>,
    last_rule_duration: Arc<Gauge>,
    last_samples: Arc<Gauge>,
}

impl GroupMetrics {
    /// The metrics of a group with this number of rules.
    pub(crate) fn new(metrics: &Metrics, group: &RuleGroup, rules: usize, now: TimeMs) -> GroupMetrics {
        let key = format!("{};{}", group.file, group.name);
        let labels = [(RULE_GROUP, key.as_str())];
        let counter = |name, help| metrics.counter(name, help, &labels);
        let gauge = |name, help| metrics.gauge(name, help, &labels);
        gauge("prometheus_rule_group_rules", "Rules in the group.").set(rules as f64);
        gauge("prometheus_rule_group_interval_seconds", "Time between two evaluation times of the group.")
            .set(group.interval as f64 / 1000.0);
        GroupMetrics {
            file: group.file.clone(),
            name: group.name.clone(),
            interval: group.interval,
            evaluation_times: EvaluationGrid::new(group.interval, now),
            evaluations: counter("prometheus_rule_evaluations_total", "Evaluations of rules."),
            failures: counter(
                "prometheus_rule_evaluation_failures_total",
                "Evaluations of rules that failed.",
            ),
            iterations: counter(
                "prometheus_rule_group_iterations_total",
                "Evaluation times of the group, missed or not.",
            ),
            missed: counter(
                "prometheus_rule_group_iterations_missed_total",
                "Evaluation times of the group that passed without an evaluation.",
            ),
            last: gauge(
                "prometheus_rule_group_last_evaluation_timestamp_seconds",
                "When a rule of the group was last evaluated.",
            ),
            last_duration: gauge(
                "prometheus_rule_group_last_duration_seconds",
                "What the latest evaluations of the group's rules took.",
            ),
            last_rule_duration: gauge(
                "prometheus_rule_group_last_rule_duration_sum_seconds",
                "The sum of what the latest evaluation of each rule of the group took.",
            ),
            last_samples: gauge(
                "prometheus_rule_group_last_evaluation_samples",
                "Samples that the latest evaluations of the group's rules gave.",
            ),
            key,
        }
    }

    /// When the next evaluation time must be counted.
    pub(crate) fn next_evaluation(&self) -> TimeMs {
        self.evaluation_times.next + TIMER_SLACK_MS
    }

    /// Counts failures of this process.
    pub(crate) fn failed(&self, failures: u64) {
        self.failures.add(failures);
    }

    /// Counts an event of a rule's view.
    pub(crate) fn count_event(
        &self,
        rule: &mut ActiveRule,
        tally: StepCounts,
        spent: Option<EvaluationCost>,
        durations: &RuleDurationMetrics,
    ) {
        match spent {
            Some(spent) => self.catch_up(rule, spent, durations),
            None => {
                self.count(tally.reported_evaluations, tally.reported_failures, rule.took(None), durations)
            }
        }
        self.failed(tally.failures);
        if let Some(t) = rule.last_evaluation {
            self.last.set(t as f64 / 1000.0);
        }
    }

    /// Counts the evaluations of a view since the last call.
    fn catch_up(&self, rule: &mut ActiveRule, spent: EvaluationCost, durations: &RuleDurationMetrics) {
        let before = std::mem::replace(&mut rule.counted, spent);
        let evaluations = spent.evaluations.saturating_sub(before.evaluations);
        let failures = spent.failures.saturating_sub(before.failures);
        // The view of such a rule has no rows and does not fail.
        let failures = if rule.rule.expr.fault.is_some() { evaluations } else { failures };
        self.count(evaluations, failures, rule.took(Some(spent)), durations);
    }

    fn count(&self, evaluations: u64, failures: u64, took: f64, durations: &RuleDurationMetrics) {
        self.evaluations.add(evaluations);
        self.failures.add(failures);
        durations.rule.observe_all(took, evaluations);
    }

    /// Counts the evaluation times that have passed by `now`.
    pub(crate) fn record_evaluation(
        &mut self,
        rules: &mut [ActiveRule],
        views: &dyn ViewRegistry,
        durations: &RuleDurationMetrics,
        now: TimeMs,
    ) {
        let Some((_, missed)) = self.evaluation_times.take_due(now - TIMER_SLACK_MS) else { return };
        self.iterations.add(1 + missed);
        self.missed.add(missed);
        let mut took = 0.0;
        let mut samples = 0;
        for rule in rules.iter_mut() {
            let spent = views.cost(rule.view);
            // A view that has just been replaced has no cost yet.
            if let Some(spent) = spent {
                self.catch_up(rule, spent, durations);
            }
            took += rule.took(spent);
            samples += rule.samples(spent);
        }
        self.last_duration.set(took);
        self.last_rule_duration.set(took);
        self.last_samples.set(samples as f64);
        durations.group.observe(took);
        if durations.tracer.is_on() {
            self.trace(rules, views, &durations.tracer, took);
        }
    }

    /// Sends the latest evaluation as spans: one of the group, which took `took` seconds, and one
    /// of each rule in it. The rules are evaluated beside each other, so all begin together.
    fn trace(&self, rules: &[ActiveRule], views: &dyn ViewRegistry, tracer: &Tracer, took: f64) {
        let ns = |seconds: f64| (seconds * 1e9) as u64;
        let mut group = tracer.start("rule group", SpanKind::Internal, None).measured(ns(took), ns(took));
        if !group.is_sampled() {
            return;
        }
        group.set("name", self.name.as_str());
        group.set("file", self.file.as_str());
        group.set("interval", format_duration(self.interval).as_str());
        for (index, rule) in rules.iter().enumerate() {
            let spent = views.cost(rule.view);
            let span = tracer.start("rule", SpanKind::Internal, group.context());
            let mut span = span.measured(ns(took), ns(rule.took(spent)));
            span.set("group", self.name.as_str());
            span.set("name", rule.rule.name.as_str());
            span.set("index", index);
            span.set("num_series", rule.samples(spent));
            if let RuleHealth::Err(error) = &rule.health {
                span.fail(error);
            }
        }
    }
}
