//! One running rule: its view (the query that the engine keeps current), its health and its
//! evaluation. The alerting part is in [`super::alerting_rule`]; [`super::active_rules`] owns all
//! running rules.

use super::alert::DueAlert;
use super::alert_annotations::ExpandedAnnotations;
use super::alert_history::AlertHistory;
use super::alert_persistence;
use super::alerting_rule::{AlertingRule, StepContext};
use super::error::EvaluationError;
use super::event_queue::{DeliveredAlert, RuleEventQueue, RuleId};
use super::file::Rule;
use super::functions::graph_link;
use super::limits::TIMER_SLACK_MS;
use super::rule_matching::RuleKey;
use super::services::{AlertNotification, DeliveryReceipt};
use super::snapshot::{RuleHealth, RuleSnapshot};
use super::template::TemplateExpander;
use engine::live::cost::EvaluationCost;
use engine::live::{TapEvent, TapId, ViewId};
use std::sync::Arc;
use storage::durable_map::MapChange;
use storage::model::TimeMs;
use views::ViewRegistry;

/// A running rule.
pub(super) struct ActiveRule {
    /// Its number; never given to another rule.
    pub id: RuleId,
    /// The view with its expression.
    pub view: ViewId,
    /// The consumer of that view.
    pub tap: TapId,
    /// The rule as its file defines it.
    pub rule: Rule,
    /// Its identity over reloads and restarts.
    pub key: RuleKey,
    /// The hash of `key`, once something was saved under it.
    pub saved_key: Option<u64>,
    /// When the rule must be processed next, as in `ActiveRules::wakeups`.
    pub wake: TimeMs,
    /// Whether its last evaluation succeeded.
    pub health: RuleHealth,
    /// When it was last evaluated, ms.
    pub last_evaluation: Option<TimeMs>,
    /// Time that processing the events of the latest evaluation took, in s.
    pub evaluation_time: f64,
    /// The cost of the view that the group's counters include already.
    pub counted: EvaluationCost,
    /// The alerting part; `None`: a recording rule.
    pub alerting: Option<AlertingRule>,
}

/// The result of a step of a rule, for the group's counters.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StepCounts {
    /// Evaluations that the view reported; several without a change are reported once.
    pub reported_evaluations: u64,
    /// How many of them failed.
    pub reported_failures: u64,
    /// Failures here: limits, writing.
    pub failures: u64,
}

impl ActiveRule {
    /// Processes one event of the view.
    pub(crate) fn on_event(&mut self, tools: &StepContext, event: TapEvent) -> StepCounts {
        let began = std::time::Instant::now();
        let t = event.time();
        let mut tally = StepCounts::default();
        let counts = matches!(event, TapEvent::Progress { .. } | TapEvent::Failed { .. });
        tally.reported_evaluations += u64::from(counts);
        let failed = match &event {
            TapEvent::Failed { error, .. } => Some(error.clone()),
            _ => self.rule.expr.fault.map(str::to_owned),
        };
        let outcome = match (&mut self.alerting, failed) {
            (alerting, Some(error)) => {
                tally.reported_failures += u64::from(counts);
                if let Some(alerting) = alerting {
                    alerting.evaluation_failed(&self.rule.name, tools, t);
                }
                Err(EvaluationError::Expression(error))
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

    /// The next evaluation time, for an alert that is evaluated at evaluation times only.
    pub(crate) fn next_evaluation(&self) -> Option<TimeMs> {
        self.alerting.as_ref()?.next_evaluation()
    }

    /// Time of the latest evaluation in s: in the view, as far as that was measured, and here.
    pub(crate) fn took(&self, spent: Option<EvaluationCost>) -> f64 {
        self.evaluation_time + spent.map_or(0.0, |spent| spent.latest)
    }

    /// How many samples the latest evaluation produced; an alert counts as two.
    pub(crate) fn samples(&self, spent: Option<EvaluationCost>) -> usize {
        match &self.alerting {
            // `ALERTS` and `ALERTS_FOR_STATE`, which Prometheus counts, too.
            Some(alerting) => 2 * alerting.alerts.iter().filter(|(_, a)| a.resolved_at.is_none()).count(),
            None => spent.map_or(0, |spent| spent.samples),
        }
    }

    /// Stores the result. A failure is shown until an evaluation succeeds.
    fn note(&mut self, outcome: Result<(), EvaluationError>, complete: bool) {
        match outcome {
            Err(error) => {
                let error = error.to_string();
                // Logged once: a rule that fails does so at every evaluation.
                if self.health != RuleHealth::Err(error.clone()) {
                    tracing::warn!(target: "rules", rule = %self.rule.name, %error, "the evaluation of a rule failed; correct the rule or the series that it reads");
                }
                self.health = RuleHealth::Err(error);
            }
            // The evaluation succeeded, but its rows are still invalid.
            Ok(()) if complete && self.alerting.as_ref().is_some_and(|a| a.alerts.condition.is_invalid()) => {
            }
            Ok(()) => self.health = RuleHealth::Ok,
        }
    }

    /// Processes timers and evaluation times up to `now`.
    pub(crate) fn on_time(&mut self, tools: &StepContext, now: TimeMs) -> StepCounts {
        let mut tally = StepCounts::default();
        let Some(alerting) = &mut self.alerting else { return tally };
        // A little in the past: a sample that came just now may still keep the alert from firing.
        if let Err(error) = alerting.advance(&self.rule.name, tools, now - TIMER_SLACK_MS, false) {
            tally.failures += 1;
            self.note(Err(error), true);
        }
        tally
    }

    /// The alerts that must be sent at `now`.
    pub(crate) fn outgoing(
        &mut self,
        expander: &TemplateExpander,
        url: &str,
        events: &Arc<RuleEventQueue>,
        now: TimeMs,
    ) -> Vec<AlertNotification> {
        let Some(alerting) = &mut self.alerting else { return Vec::new() };
        // Before the URL is made: this is asked for every rule that wakes.
        if alerting.next_send() > now {
            return Vec::new();
        }
        let url = format!("{}{}", url.trim_end_matches('/'), graph_link(&self.rule.expr.link, 1));
        // With evaluation times, alerts are sent with the time of the evaluation, as in Prometheus.
        let at = alerting.send_evaluation.take().unwrap_or(now);
        let due = alerting.alerts.take_due(at);
        let one = |due: DueAlert| {
            let texts = alerting.annotations.for_notification(expander, &due.alert, at);
            if alerting.annotations.must_keep(&due.alert) {
                alerting.alerts.keep_annotations(&due.labels, texts.clone());
            }
            AlertNotification {
                annotations: ExpandedAnnotations::clone(&texts),
                receipt: receipt(events, self.id, &due, at),
                labels: due.labels,
                starts_at: due.alert.fired_at.unwrap_or(due.alert.active_at),
                ends_at: due.ends_at,
                resolved: due.alert.resolved_at.is_some(),
                generator_url: url.clone(),
            }
        };
        due.into_iter().map(one).collect()
    }

    /// The changes to save for alerts that have changed. State and history are saved together, so
    /// that a killed process has both or none.
    pub(crate) fn take_changes(&mut self, history: &AlertHistory, now: TimeMs) -> Vec<MapChange> {
        let Some(alerting) = &mut self.alerting else { return Vec::new() };
        let mut changes = history.add(&self.key, alerting.alerts.changes.take_transitions());
        let news = alerting.alerts.take_changed_alerts();
        if news.is_empty() {
            return changes;
        }
        let hash = self.key.hash64();
        // The rule itself is saved with its first alert; most rules never have one.
        if self.saved_key.replace(hash) != Some(hash) {
            changes.extend(alert_persistence::rule(&self.key));
        }
        changes.extend(
            news.iter().filter_map(|(labels, alert)| alert_persistence::alert(hash, labels, *alert, now)),
        );
        changes
    }

    /// The rule gets another key, or is removed: removes what was saved under the old key.
    pub(crate) fn move_saved(&mut self, key: Option<RuleKey>, changes: &mut Vec<MapChange>) {
        if let (Some(hash), Some(alerting)) = (self.saved_key.take(), &mut self.alerting) {
            changes.extend(alert_persistence::forget_rule(hash));
            alerting.alerts.mark_all_changed();
            let all = alerting.alerts.take_changed_alerts();
            changes
                .extend(all.iter().filter_map(|(labels, _)| alert_persistence::alert(hash, labels, None, 0)));
            alerting.alerts.mark_all_changed();
        }
        if let Some(key) = key {
            self.key = key;
        }
    }

    /// When something happens without an event.
    pub(crate) fn next_wake(&self) -> TimeMs {
        self.alerting.as_ref().map_or(TimeMs::MAX, AlertingRule::next_wake)
    }

    /// The state of the rule for the API.
    pub(crate) fn snapshot(
        &self,
        expander: &Arc<TemplateExpander>,
        views: &dyn ViewRegistry,
        now: TimeMs,
    ) -> RuleSnapshot {
        RuleSnapshot {
            name: self.rule.name.clone(),
            query: self.rule.expr.text.clone(),
            labels: self.rule.labels.clone(),
            health: self.health.clone(),
            last_evaluation: self.last_evaluation,
            evaluation_time: self.took(views.cost(self.view)),
            alerting: self.alerting.as_ref().map(|a| a.snapshot(self.rule.alert.as_ref(), expander, now)),
        }
    }
}

fn receipt(events: &Arc<RuleEventQueue>, rule: RuleId, due: &DueAlert, sent: TimeMs) -> DeliveryReceipt {
    let fired_at = due.alert.fired_at;
    let resolved_at = due.alert.resolved_at;
    let labels = due.labels.clone();
    let events = events.clone();
    DeliveryReceipt(Arc::new(move |outcome| {
        let outcome = outcome.clone();
        let labels = labels.clone();
        events.mark_delivered(DeliveredAlert { rule, labels, sent, fired_at, resolved_at, outcome })
    }))
}
