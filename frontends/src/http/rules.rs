//! `/api/v1/rules` and `/api/v1/alerts`, and how the rules' snapshots become what they show.

use super::AppState;
use super::dispatch::Call;
use super::model::{self, Alert, AlertState, AlertingRule, RecordingRule, Rule, RuleGroup};
use super::params::Form;
use super::reply::{ApiError, ErrorType, Reply, success};
use super::sources::Rules;
use crate::rules::alert::State;
use crate::rules::manager::Manager;
use crate::rules::snapshot::{AlertSnapshot, AlertingSnapshot, GroupSnapshot, Health, RuleSnapshot};
use serde::Serialize;

#[derive(Serialize)]
struct Groups {
    groups: Vec<RuleGroup>,
}

#[derive(Serialize)]
struct Alerts {
    alerts: Vec<Alert>,
}

/// `/api/v1/rules`
pub async fn rules(call: Call) -> Reply {
    let filter = Filter::of(&call.form)?;
    let groups = groups(&call.state).await?.into_iter();
    success(&Groups { groups: groups.filter_map(|group| filter.group(group)).collect() })
}

/// `/api/v1/alerts`
pub async fn alerts(call: Call) -> Reply {
    let rules = groups(&call.state).await?.into_iter().flat_map(|group| group.rules);
    let alerting = rules.filter_map(|rule| match rule {
        Rule::Alerting(rule) => Some(rule.alerts),
        Rule::Recording(_) => None,
    });
    success(&Alerts { alerts: alerting.flatten().collect() })
}

/// The groups now, asked for off the async runtime.
async fn groups(state: &AppState) -> Result<Vec<RuleGroup>, ApiError> {
    let rules = state.sources.rules.clone();
    let internal = |e| ApiError::new(ErrorType::Internal, e);
    match tokio::task::spawn_blocking(move || rules.groups()).await {
        Ok(groups) => groups.map_err(internal),
        Err(e) => Err(internal(e.to_string())),
    }
}

/// Which rules are asked for; an empty list asks for all.
struct Filter<'a> {
    alerting: bool,
    recording: bool,
    names: Vec<&'a str>,
    groups: Vec<&'a str>,
    files: Vec<&'a str>,
    without_alerts: bool,
}

impl<'a> Filter<'a> {
    fn of(form: &'a Form) -> Result<Filter<'a>, ApiError> {
        let kind = form.get("type").to_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            return Err(ApiError::parameter("type", format!("not supported value {kind:?}")));
        }
        Ok(Filter {
            alerting: kind != "record",
            recording: kind != "alert",
            names: form.all("rule_name[]").collect(),
            groups: form.all("rule_group[]").collect(),
            files: form.all("file[]").collect(),
            without_alerts: form.flag("exclude_alerts")?,
        })
    }

    fn rule(&self, rule: &Rule) -> bool {
        let kind = match rule {
            Rule::Alerting(_) => self.alerting,
            Rule::Recording(_) => self.recording,
        };
        kind && asked(&self.names, rule.name())
    }

    /// The group with the rules asked for; `None` if it is not asked for or none is left.
    fn group(&self, mut group: RuleGroup) -> Option<RuleGroup> {
        if !asked(&self.groups, &group.name) || !asked(&self.files, &group.file) {
            return None;
        }
        let had_rules = !group.rules.is_empty();
        group.rules.retain(|rule| self.rule(rule));
        if had_rules && group.rules.is_empty() {
            return None;
        }
        for rule in group.rules.iter_mut().filter(|_| self.without_alerts) {
            if let Rule::Alerting(rule) = rule {
                rule.alerts.clear();
            }
        }
        Some(group)
    }
}

fn asked(list: &[&str], name: &str) -> bool {
    list.is_empty() || list.contains(&name)
}

impl Rules for Manager {
    fn groups(&self) -> Result<Vec<RuleGroup>, String> {
        Ok(self.snapshot()?.into_iter().map(RuleGroup::from).collect())
    }
}

/// Milliseconds as the seconds that the API shows.
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

impl From<GroupSnapshot> for RuleGroup {
    fn from(group: GroupSnapshot) -> RuleGroup {
        RuleGroup {
            name: group.name,
            file: group.file,
            rules: group.rules.into_iter().map(Rule::from).collect(),
            interval: seconds(group.interval),
            limit: group.limit,
            evaluation_time: group.evaluation_time,
            last_evaluation: group.last_evaluation,
        }
    }
}

impl From<RuleSnapshot> for Rule {
    fn from(mut rule: RuleSnapshot) -> Rule {
        match rule.alerting.take() {
            Some(alerting) => Rule::Alerting(alerting_rule(rule, alerting)),
            None => Rule::Recording(RecordingRule {
                last_error: rule.health.last_error().to_owned(),
                health: (&rule.health).into(),
                name: rule.name,
                query: rule.query,
                labels: rule.labels.into_iter().collect(),
                evaluation_time: rule.evaluation_time,
                last_evaluation: rule.last_evaluation,
                kind: Default::default(),
            }),
        }
    }
}

fn alerting_rule(rule: RuleSnapshot, alerting: AlertingSnapshot) -> AlertingRule {
    AlertingRule {
        state: alerting.state.into(),
        last_error: rule.health.last_error().to_owned(),
        health: (&rule.health).into(),
        name: rule.name,
        query: rule.query,
        duration: seconds(alerting.duration),
        keep_firing_for: seconds(alerting.keep_firing_for),
        labels: rule.labels.into_iter().collect(),
        annotations: alerting.annotations.into_iter().collect(),
        alerts: alerting.alerts.into_iter().map(Alert::from).collect(),
        evaluation_time: rule.evaluation_time,
        last_evaluation: rule.last_evaluation,
        kind: Default::default(),
    }
}

impl From<AlertSnapshot> for Alert {
    fn from(alert: AlertSnapshot) -> Alert {
        Alert {
            labels: alert.labels,
            annotations: alert.annotations.into_iter().collect(),
            state: alert.state.into(),
            active_at: Some(alert.active_at),
            keep_firing_since: alert.keep_firing_since,
            value: alert.value,
        }
    }
}

impl From<State> for AlertState {
    fn from(state: State) -> AlertState {
        match state {
            State::Inactive => AlertState::Inactive,
            State::Pending => AlertState::Pending,
            State::Firing => AlertState::Firing,
        }
    }
}

impl From<&Health> for model::Health {
    fn from(health: &Health) -> model::Health {
        match health {
            Health::Unknown => model::Health::Unknown,
            Health::Ok => model::Health::Good,
            Health::Err(_) => model::Health::Bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::model::Labels;

    #[test]
    fn snapshots_become_what_prometheus_shows() {
        let alert = AlertSnapshot {
            labels: Labels::from_pairs([("alertname", "Foo"), ("sev", "p")]),
            annotations: vec![("s".into(), "v 1".into())],
            state: State::Pending,
            active_at: 1_500,
            keep_firing_since: None,
            value: 1.0,
        };
        let alerting = AlertingSnapshot {
            state: State::Pending,
            duration: 90_000,
            keep_firing_for: 0,
            annotations: vec![("s".into(), "v {{ $value }}".into())],
            alerts: vec![alert],
        };
        let rule = RuleSnapshot {
            name: "Foo".into(),
            query: "up == 1".into(),
            labels: vec![("sev".into(), "p".into())],
            health: Health::Err("many-to-many".into()),
            last_evaluation: Some(2_000),
            evaluation_time: 0.25,
            alerting: Some(alerting),
        };
        let expected = concat!(
            r#"{"state":"pending","name":"Foo","query":"up == 1","duration":90,"keepFiringFor":0,"#,
            r#""labels":{"sev":"p"},"annotations":{"s":"v {{ $value }}"},"alerts":[{"labels":{"alertname":"Foo","#,
            r#""sev":"p"},"annotations":{"s":"v 1"},"state":"pending","activeAt":"1970-01-01T00:00:01.5Z","#,
            r#""value":"1e+00"}],"health":"err","lastError":"many-to-many","evaluationTime":0.25,"#,
            r#""lastEvaluation":"1970-01-01T00:00:02Z","type":"alerting"}"#
        );
        assert_eq!(serde_json::to_string(&Rule::from(rule)).unwrap(), expected);
    }
}
