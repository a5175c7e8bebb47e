//! Adapters for the HTTP API: snapshots of targets and rule groups, converted to the API's JSON
//! types.

use crate::rule_test;
use crate::server::Server;
use ::api::alert_history::{
    AlertHistoryJson, AlertHistoryRequest, AlertTransitionJson, ChangeCauseJson, DeliveryJson, RuleNameJson,
    SeriesMoveJson, fingerprint,
};
use ::api::response::ApiError;
use ::api::rule_test::{RuleTestJson, RuleTestProgress, RuleTestRequest};
use ::api::{json_model as api, services};
use connectors::relabel::{RelabelConfig, RelabelStep, Relabeler, relabel_steps};
use connectors::scrape::manager::ScrapeManager;
use connectors::scrape::target::TargetHealth as ScrapeHealth;
use engine::query::QueryOptions;
use rules::alert::AlertState;
use rules::alert_history::{AlertTransition, Delivery, HistorySelection, SeriesMove};
use rules::snapshot::{AlertingSnapshot, GroupSnapshot, RuleHealth, RuleSnapshot};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::{Labels, time::format_duration};

/// The scrape targets.
pub(crate) struct ScrapeTargetAdapter(pub Arc<ScrapeManager>);

impl services::TargetList for ScrapeTargetAdapter {
    fn active(&self) -> Vec<api::TargetJson> {
        let target = |t: connectors::scrape::manager::TargetInfo| api::TargetJson {
            discovered_labels: t.discovered_labels,
            labels: map(&t.labels),
            scrape_pool: t.scrape_pool,
            scrape_url: t.scrape_url,
            global_url: t.global_url,
            last_error: t.last_error,
            // 0: never. The API then shows Go's zero time, which clients of Prometheus expect.
            last_scrape: (t.last_scrape > 0).then_some(t.last_scrape),
            last_scrape_duration: t.last_scrape_duration,
            health: match t.health {
                ScrapeHealth::Unknown => api::TargetHealthJson::Unknown,
                ScrapeHealth::Up => api::TargetHealthJson::Up,
                ScrapeHealth::Down => api::TargetHealthJson::Down,
            },
            scrape_interval: format_duration(t.scrape_interval.0),
            scrape_timeout: format_duration(t.scrape_timeout.0),
        };
        self.0.targets().active.into_iter().map(target).collect()
    }

    fn dropped(&self) -> Vec<api::DroppedTargetJson> {
        let dropped = |t: connectors::scrape::manager::DroppedTarget| api::DroppedTargetJson {
            discovered_labels: t.discovered_labels,
            scrape_pool: t.scrape_pool,
        };
        self.0.targets().dropped.into_iter().map(dropped).collect()
    }

    fn dropped_counts(&self) -> BTreeMap<String, usize> {
        self.0.targets().dropped_counts
    }

    fn pools(&self) -> Vec<String> {
        self.0.pools()
    }

    fn relabel_steps(
        &self,
        pool: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<Vec<api::RelabelStepJson>> {
        let steps = self.0.relabel_steps(pool, labels)?;
        Some(steps.into_iter().map(relabel_step).collect())
    }

    fn try_relabelling(
        &self,
        rules: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<api::RelabelStepJson>, services::RelabelRulesError> {
        // The page sends the text while it is typed; no rules are no steps and not an error.
        if rules.trim().is_empty() {
            return Ok(Vec::new());
        }
        let rules: Vec<RelabelConfig> =
            rules::yaml::parse("rules", rules).map_err(|e| services::RelabelRulesError(e.to_string()))?;
        // Checked first as a whole: the parser alone does not see, for instance, a `hashmod`
        // without modulus.
        Relabeler::new(&rules).map_err(|e| services::RelabelRulesError(e.to_string()))?;
        Ok(relabel_steps(&rules, labels).into_iter().map(relabel_step).collect())
    }

    fn metadata(&self) -> Vec<api::MetadataJson> {
        let metadata = |m: connectors::scrape::manager::TargetMetadata| api::MetadataJson {
            target: m.target,
            metric: m.metric,
            kind: m.metadata.kind.as_str().to_owned(),
            help: m.metadata.help,
            unit: m.metadata.unit,
        };
        self.0.metadata(|_| true).into_iter().map(metadata).collect()
    }
}

/// The rule groups.
pub(crate) struct RuleGroupAdapter(pub Arc<Server>);

impl services::RuleGroupList for RuleGroupAdapter {
    fn groups(&self) -> Vec<api::RuleGroupJson> {
        match self.0.rules.manager.snapshot() {
            Ok(groups) => groups.into_iter().map(group).collect(),
            Err(error) => {
                // The thread of the rules has ended, which happens only when the server stops.
                tracing::debug!(target: "rules", %error, "the rules are not shown");
                Vec::new()
            }
        }
    }

    fn history(&self, request: &AlertHistoryRequest) -> AlertHistoryJson {
        let page = self.0.rules.manager.history().select(&HistorySelection {
            rule: request.rule.clone(),
            fingerprint: request.fingerprint,
            start: request.start,
            end: request.end,
            limit: request.limit,
        });
        AlertHistoryJson {
            transitions: page.transitions.iter().map(|t| transition(t)).collect(),
            kept_from: page.kept_from,
            truncated: page.truncated,
        }
    }

    fn history_version(&self) -> u64 {
        self.0.rules.manager.history().version()
    }

    fn sources(&self, most: usize) -> api::RuleSourcesJson {
        let mut found = api::RuleSourcesJson::default();
        let mut bytes = 0;
        for file in self.0.rules.files() {
            let rules = match rules::source::sources(&file) {
                Ok(rules) => rules,
                Err(error) => {
                    found.errors.push(error.to_string());
                    continue;
                }
            };
            for rule in rules {
                bytes += rule.lines.iter().map(String::len).sum::<usize>();
                if bytes > most {
                    found.truncated = true;
                    return found;
                }
                found.rules.push(api::RuleSourceJson {
                    file: rule.file,
                    group: rule.group,
                    index: rule.index,
                    rule: rule.rule,
                    line: rule.line,
                    lines: rule.lines,
                });
            }
        }
        found
    }

    fn test(
        &self,
        request: &RuleTestRequest,
        options: &QueryOptions,
        tell: &dyn Fn(RuleTestProgress),
    ) -> Result<RuleTestJson, ApiError> {
        rule_test::test(&self.0, request, options, tell)
    }
}

fn transition(transition: &AlertTransition) -> AlertTransitionJson {
    let AlertTransition { rule, change, cause, deliveries, .. } = transition;
    let moved = |series: &SeriesMove| SeriesMoveJson {
        labels: series.labels.clone(),
        before: series.before,
        after: series.after,
        t: series.t,
    };
    let sent = |delivery: &Delivery| DeliveryJson {
        alertmanager: delivery.alertmanager.clone(),
        at: delivery.at,
        ok: delivery.error.is_empty(),
        error: delivery.error.clone(),
    };
    AlertTransitionJson {
        at: change.at,
        rule: RuleNameJson { file: rule.file.clone(), group: rule.group.clone(), name: rule.name.clone() },
        fingerprint: fingerprint(&change.labels),
        labels: change.labels.clone(),
        from: state(change.from),
        to: state(change.to),
        reason: change.reason.as_str(),
        value: change.value,
        cause: cause.as_ref().map(|cause| ChangeCauseJson {
            series: cause.series.iter().map(moved).collect(),
            truncated: cause.truncated,
        }),
        sent: deliveries.iter().map(sent).collect(),
    }
}

fn relabel_step(step: RelabelStep) -> api::RelabelStepJson {
    let RelabelStep { rule, output, keep } = step;
    let rule = api::RelabelRuleJson {
        regex: rule.pattern().to_owned(),
        separator: rule.separator,
        // Only `hashmod` has one.
        modulus: (rule.modulus > 0).then_some(rule.modulus),
        replacement: rule.replacement,
        action: rule.action.as_str().to_owned(),
        source_labels: rule.source_labels.into(),
        target_label: rule.target_label,
    };
    api::RelabelStepJson { rule, output, keep }
}

fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn group(g: GroupSnapshot) -> api::RuleGroupJson {
    api::RuleGroupJson {
        name: g.name,
        file: g.file,
        rules: g.rules.into_iter().map(rule).collect(),
        interval: g.interval as f64 / 1000.0,
        limit: g.limit,
        evaluation_time: g.evaluation_time,
        last_evaluation: g.last_evaluation,
    }
}

fn health(health: &RuleHealth) -> api::HealthJson {
    match health {
        RuleHealth::Unknown => api::HealthJson::Unknown,
        RuleHealth::Ok => api::HealthJson::Good,
        RuleHealth::Err(_) => api::HealthJson::Bad,
    }
}

fn state(state: AlertState) -> api::AlertStateJson {
    match state {
        AlertState::Inactive => api::AlertStateJson::Inactive,
        AlertState::Pending => api::AlertStateJson::Pending,
        AlertState::Firing => api::AlertStateJson::Firing,
    }
}

fn rule(mut r: RuleSnapshot) -> api::RuleJson {
    match r.alerting.take() {
        Some(alerting) => api::RuleJson::Alerting(alerting_rule(r, alerting)),
        None => api::RuleJson::Recording(api::RecordingRuleJson {
            last_error: r.health.last_error().to_owned(),
            health: health(&r.health),
            name: r.name,
            query: r.query,
            labels: r.labels.into_iter().collect(),
            evaluation_time: r.evaluation_time,
            last_evaluation: r.last_evaluation,
            kind: api::RecordingKind::Recording,
        }),
    }
}

fn alerting_rule(r: RuleSnapshot, a: AlertingSnapshot) -> api::AlertingRuleJson {
    let alert = |alert: rules::snapshot::AlertSnapshot| api::AlertJson {
        labels: alert.labels,
        annotations: alert.annotations.fill().into_iter().collect(),
        state: state(alert.state),
        active_at: Some(alert.active_at),
        keep_firing_since: alert.keep_firing_since,
        value: alert.value,
    };
    api::AlertingRuleJson {
        state: state(a.state),
        last_error: r.health.last_error().to_owned(),
        health: health(&r.health),
        name: r.name,
        query: r.query,
        duration: a.duration as f64 / 1000.0,
        keep_firing_for: a.keep_firing_for as f64 / 1000.0,
        labels: r.labels.into_iter().collect(),
        annotations: a.annotations.into_iter().collect(),
        alerts: Some(a.alerts.into_iter().map(alert).collect()),
        evaluation_time: r.evaluation_time,
        last_evaluation: r.last_evaluation,
        kind: api::AlertingKind::Alerting,
    }
}
