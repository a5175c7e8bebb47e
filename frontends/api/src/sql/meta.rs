//! The rows of the relations `meta.*` of SQL: what the server knows about itself, such as
//! `meta.targets`, `meta.rules` or `meta.views`. `meta.uses` lists which rule or saved query reads
//! which metric. The rows come from the services of the API, with the names of the API's JSON; the
//! columns are declared in `frontends/sql/src/relations/meta.rs`.

use crate::ApiServices;
use crate::alert_history::{AlertHistoryRequest, AlertTransitionJson};
use crate::json_model::{AlertingRuleJson, RuleGroupJson, RuleJson};
use crate::limits::VIEWS_PER_PAGE;
use crate::query::running_queries::{ActiveQueryJson, RunningQueries};
use ::sql::relations::MetaSource;
use ::sql::{SqlError, SqlErrorKind};
use engine::live::{ViewId, ViewKind};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::{MatchOp, Matcher, TimeMs};
use views::scheduled::format_view_id;

/// The relations `meta.*`, over the services of the API.
pub(super) struct ServerLists {
    services: ApiServices,
    running: Arc<RunningQueries>,
}

/// A row: values by the names of columns.
type Row = Map<String, Value>;

impl ServerLists {
    pub(super) fn new(services: ApiServices, running: Arc<RunningQueries>) -> ServerLists {
        ServerLists { services, running }
    }
}

impl MetaSource for ServerLists {
    fn rows(&self, name: &str) -> Result<Vec<Row>, SqlError> {
        let services = &self.services;
        Ok(match name {
            "metadata" => metadata(services),
            "targets" => services.targets.active().iter().map(target).collect(),
            "dropped_targets" => services
                .targets
                .dropped()
                .iter()
                .map(|t| row(json!({ "pool": t.scrape_pool, "discovered_labels": t.discovered_labels })))
                .collect(),
            "rules" => services.rules.groups().iter().flat_map(rules).collect(),
            "alerts" => services.rules.groups().iter().flat_map(alerts).collect(),
            "alert_history" => alert_history(services),
            "uses" => uses(services),
            "views" => views(services)?,
            "queries" => {
                let listed = self.running.list(services.clock.now(), 0, 0);
                listed.active.iter().map(query).collect()
            }
            "flags" => {
                let flags = services.admin.flags().into_iter();
                flags.map(|(name, value)| row(json!({ "name": name, "value": value }))).collect()
            }
            other => {
                return Err(SqlError::new(SqlErrorKind::Internal, format!("there is no table meta.{other}")));
            }
        })
    }
}

/// A JSON object as a row.
fn row(value: Value) -> Row {
    if let Value::Object(row) = value { row } else { Row::new() }
}

/// A value as it is in the API's JSON.
fn as_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn query(query: &ActiveQueryJson) -> Row {
    row(json!({
        "id": query.id,
        "kind": as_json(&query.kind),
        "query": query.query,
        "client": query.client,
        "since": query.since,
        "elapsed_seconds": query.elapsed_seconds,
        "state": query.state,
        "samples": query.samples,
        "limit_samples": query.limit_samples,
    }))
}

fn metadata(services: &ApiServices) -> Vec<Row> {
    let metadata_row = |m: crate::json_model::MetadataJson| {
        row(json!({
            "metric": m.metric,
            "type": m.kind,
            "unit": m.unit,
            "help": m.help,
            "job": m.target.get("job").unwrap_or(""),
            "instance": m.target.get("instance").unwrap_or(""),
        }))
    };
    services.targets.metadata().into_iter().map(metadata_row).collect()
}

fn target(target: &crate::json_model::TargetJson) -> Row {
    let label = |name: &str| target.labels.get(name).cloned().unwrap_or_default();
    row(json!({
        "pool": target.scrape_pool,
        "job": label("job"),
        "instance": label("instance"),
        "url": target.scrape_url,
        "health": as_json(&target.health),
        "last_error": target.last_error,
        "last_scrape": target.last_scrape,
        "last_scrape_seconds": target.last_scrape_duration,
        "interval": target.scrape_interval,
        "timeout": target.scrape_timeout,
        "labels": target.labels,
        "discovered_labels": target.discovered_labels,
    }))
}

fn rules(group: &RuleGroupJson) -> Vec<Row> {
    let rule_row = |rule: &RuleJson| {
        let mut columns = match rule {
            RuleJson::Alerting(rule) => row(json!({
                "name": rule.name,
                "kind": "alerting",
                "query": rule.query,
                "labels": rule.labels,
                "annotations": rule.annotations,
                "for_seconds": rule.duration,
                "health": as_json(&rule.health),
                "last_error": rule.last_error,
                "evaluation_seconds": rule.evaluation_time,
                "last_evaluation": rule.last_evaluation,
            })),
            RuleJson::Recording(rule) => row(json!({
                "name": rule.name,
                "kind": "recording",
                "query": rule.query,
                "labels": rule.labels,
                "health": as_json(&rule.health),
                "last_error": rule.last_error,
                "evaluation_seconds": rule.evaluation_time,
                "last_evaluation": rule.last_evaluation,
            })),
        };
        columns.insert("file".to_owned(), Value::from(group.file.as_str()));
        columns.insert("group".to_owned(), Value::from(group.name.as_str()));
        columns
    };
    group.rules.iter().map(rule_row).collect()
}

fn alerts(group: &RuleGroupJson) -> Vec<Row> {
    let alerts_of_rule = |rule: &AlertingRuleJson| -> Vec<Row> {
        let alert_row = |alert: &crate::json_model::AlertJson| {
            let labels: Row =
                alert.labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
            row(json!({
                "alertname": alert.labels.get("alertname").unwrap_or(""),
                "state": as_json(&alert.state),
                "active_at": alert.active_at,
                "value": alert.value,
                "labels": labels,
                "annotations": alert.annotations,
                "rule": rule.name,
            }))
        };
        rule.alerts.iter().flatten().map(alert_row).collect()
    };
    let alerting = group
        .rules
        .iter()
        .filter_map(|rule| if let RuleJson::Alerting(rule) = rule { Some(rule) } else { None });
    alerting.flat_map(alerts_of_rule).collect()
}

/// Every change of the state of an alert: a row is the time from it to the next one.
fn alert_history(services: &ApiServices) -> Vec<Row> {
    let all = AlertHistoryRequest {
        start: TimeMs::MIN,
        end: TimeMs::MAX,
        limit: crate::limits::ALERT_HISTORY_MOST,
        ..AlertHistoryRequest::default()
    };
    let of = |transition: &AlertTransitionJson| {
        let labels: Row =
            transition.labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        row(json!({
            "ts": transition.at,
            "alertname": transition.labels.get("alertname").unwrap_or(""),
            "fingerprint": transition.fingerprint,
            "file": transition.rule.file,
            "group": transition.rule.group,
            "rule": transition.rule.name,
            "from": as_json(&transition.from),
            "to": as_json(&transition.to),
            "reason": transition.reason,
            "value": transition.value,
            "labels": labels,
            "cause": as_json(&transition.cause),
            "sent": as_json(&transition.sent),
        }))
    };
    let transitions = services.rules.history(&all).transitions;
    // The newest come first, so the next change of an alert has been seen before this one.
    let mut next: HashMap<String, TimeMs> = HashMap::new();
    let mut rows = Vec::new();
    for transition in &transitions {
        let rule = &transition.rule;
        let alert = format!("{};{};{};{}", rule.file, rule.group, rule.name, transition.fingerprint);
        let mut columns = of(transition);
        columns.insert("state".to_owned(), as_json(&transition.to));
        columns.insert("from_ts".to_owned(), Value::from(transition.at));
        columns
            .insert("to_ts".to_owned(), next.insert(alert, transition.at).map_or(Value::Null, Value::from));
        rows.push(columns);
    }
    rows
}

/// Which metric is read by which rule or saved query.
fn uses(services: &ApiServices) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |kind: &str, name: &str, query: &str| {
        // By selector and not by metric: a rule that reads a metric twice with other matchers is
        // shown twice. A query that is no PromQL has no selectors that are known here.
        for matchers in services.queries.language.selectors(query).unwrap_or_default() {
            let is_name = |m: &&Matcher| m.name == METRIC_NAME && m.op == MatchOp::Equal;
            let metric = matchers.iter().find(is_name).map(|m| m.value.clone());
            let texts: Vec<String> =
                matchers.iter().filter(|m| m.name != METRIC_NAME).map(ToString::to_string).collect();
            rows.push(row(
                json!({ "metric": metric, "kind": kind, "name": name, "matchers": texts.join(",") }),
            ));
        }
    };
    for group in services.rules.groups() {
        for rule in &group.rules {
            match rule {
                RuleJson::Alerting(rule) => add("rule", &rule.name, &rule.query),
                RuleJson::Recording(rule) => add("rule", &rule.name, &rule.query),
            }
        }
    }
    for (id, definition) in services.saved_queries.definitions().iter() {
        add("view", &format_view_id(*id), &definition.query);
    }
    rows
}

fn views(services: &ApiServices) -> Result<Vec<Row>, SqlError> {
    let definitions = services.saved_queries.definitions();
    let view_row = |view: engine::live::describe::ViewReport| {
        let work = view.work.unwrap_or_default();
        row(json!({
            "id": format_view_id(view.id),
            "name": view.spec.name,
            "query": definitions.get(&view.id).map(|definition| definition.query.clone()),
            "taps": view.answer.taps,
            "rows": view.answer.rows,
            "last_change": view.answer.changed,
            "frontier": view.answer.frontier,
            "last_error": view.answer.failure.map(|failure| failure.error),
            "steps": work.local.total + work.gather.total,
            "shared_steps": work.local.shared + work.gather.shared,
            "state_bytes": work.state.total,
            "recorded": matches!(view.spec.kind, ViewKind::Recorded { .. }),
        }))
    };
    let mut rows = Vec::new();
    let mut from = ViewId(0);
    loop {
        // Page by page, because each description is made inside a tick, which must not take long.
        // Views that come and go meanwhile may be missing; all others are there once.
        let page = services.views.describe(from, VIEWS_PER_PAGE);
        let page = page.map_err(|e| SqlError::new(SqlErrorKind::Unavailable, e.to_string()))?.views;
        let is_last = page.len() < VIEWS_PER_PAGE;
        from = page.last().map_or(from, |view| ViewId(view.id.0.saturating_add(1)));
        rows.extend(page.into_iter().map(view_row));
        if is_last {
            return Ok(rows);
        }
    }
}
