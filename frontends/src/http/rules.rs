//! `/api/v1/rules` and `/api/v1/alerts`.

use super::AppState;
use super::dispatch::Call;
use super::model::{Alert, Rule, RuleGroup};
use super::params::Form;
use super::reply::{ApiError, ErrorType, Reply, success};
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
    let asked = state.blocking(move || rules.groups());
    asked.await.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))
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
