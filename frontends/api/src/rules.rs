//! `/api/v1/rules`, `/api/v1/rules/source` and `/api/v1/alerts`: the rule groups with their alerts,
//! with Prometheus' filters and pages.
//!
//! The groups come from the service [`RuleGroupList`](super::services::RuleGroupList), which fills
//! the types of [`super::json_model`].

use super::AppState;
use super::dispatch::ApiRequest;
use super::json_model::{AlertJson, RuleGroupJson, RuleJson};
use super::limits::RULE_SOURCES_BYTES;
use super::params::{Form, go_bool, go_integer};
use super::response::{ApiError, ApiResult, ErrorType, success};
use super::series::matcher_sets;
use super::versions::Version;
use serde::Serialize;
use storage::model::Matcher;
use xxhash_rust::xxh3::xxh3_128;

#[derive(Hash, Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleGroupsJson {
    groups: Vec<RuleGroupJson>,
    /// The `group_next_token` of the next page; the last page has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_next_token: Option<String>,
}

#[derive(Serialize)]
struct AlertsJson {
    alerts: Vec<AlertJson>,
}

/// `/api/v1/rules`
pub(crate) async fn rules(call: ApiRequest) -> ApiResult {
    // A filter that could not be decoded would otherwise be no filter, and show everything.
    call.form.check_decoded()?;
    let matchers = matcher_sets(&call.state, &call.form)?;
    let filter = RuleFilter::from_form(&call.form, matchers)?;
    let page = Page::from_form(&call.form)?;
    let shown = page.cut(groups(&call.state).await?, &filter)?;
    Version::new(&shown).answer(&call, &shown)
}

/// The version of the list that `/api/v1/rules` answers with these parameters.
pub(crate) async fn version(state: &AppState, parameters: &str) -> Result<Version, ApiError> {
    let form = Form::parse(None, Some(parameters))?;
    let filter = RuleFilter::from_form(&form, Vec::new())?;
    let all = Page { limit: None, from: String::new() };
    Ok(Version::new(&all.cut(groups(state).await?, &filter)?))
}

/// `/api/v1/rules/source`: where in its file each rule stands, with its text.
pub(crate) async fn source(call: ApiRequest) -> ApiResult {
    let rules = call.state.sources.rules.clone();
    let read = call.state.blocking(move || rules.sources(RULE_SOURCES_BYTES));
    success(&read.await.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?)
}

/// `/api/v1/alerts`
pub(crate) async fn alerts(call: ApiRequest) -> ApiResult {
    let rules = groups(&call.state).await?.into_iter().flat_map(|group| group.rules);
    let alerting = rules.filter_map(|rule| match rule {
        // Prometheus lists alerts by group, in the order of the rule files.
        RuleJson::Alerting(rule) => rule.alerts,
        RuleJson::Recording(_) => None,
    });
    success(&AlertsJson { alerts: alerting.flatten().collect() })
}

/// The current groups, ordered by file and name; read off the async runtime.
async fn groups(state: &AppState) -> Result<Vec<RuleGroupJson>, ApiError> {
    let rules = state.sources.rules.clone();
    let listing = state.blocking(move || rules.groups());
    let mut groups = listing.await.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?;
    groups.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
    Ok(groups)
}

/// Which page of groups the request wants.
struct Page {
    /// The most groups; `None`: all.
    limit: Option<usize>,
    /// The token of the first group; "": from the beginning.
    from: String,
}

impl Page {
    fn from_form(form: &Form) -> Result<Page, ApiError> {
        let text = form.get("group_limit");
        let from = form.get("group_next_token");
        if text.is_empty() {
            let alone = "group_limit needs to be present in order to paginate over the groups";
            let refused = Err(ApiError::parameter("group_next_token", alone));
            // A token without a limit has no end of its page; Prometheus refuses it with this text.
            return if from.is_empty() { Ok(Page { limit: None, from: String::new() }) } else { refused };
        }
        let limit = go_integer("ParseInt", text, i64::from(i32::MIN)..=i64::from(i32::MAX));
        let limit = limit.map_err(|e| {
            ApiError::parameter("group_limit", format!("group_limit needs to be a valid number: {e}"))
        })?;
        if limit <= 0 {
            return Err(ApiError::parameter("group_limit", "group_limit needs to be greater than 0"));
        }
        Ok(Page { limit: Some(limit as usize), from: from.to_owned() })
    }

    /// The part of `groups` that is on this page.
    fn cut(&self, groups: Vec<RuleGroupJson>, filter: &RuleFilter) -> Result<RuleGroupsJson, ApiError> {
        let mut rest = groups.into_iter().peekable();
        if !self.from.is_empty() {
            // By token, not by number: groups may have come or gone since the page before.
            while rest.next_if(|group| token(group) != self.from).is_some() {}
            if rest.peek().is_none() {
                let reason = format!("invalid group_next_token '{}'. were rule groups changed?", self.from);
                return Err(ApiError::parameter("group_next_token", reason));
            }
        }
        let mut page = RuleGroupsJson { groups: Vec::new(), group_next_token: None };
        // Groups that the filter empties take no place on the page.
        for group in rest.filter_map(|group| filter.group(group)) {
            if self.limit == Some(page.groups.len()) {
                // The token is of the first group that is not shown, so there is one only if there
                // is such a group.
                page.group_next_token = Some(token(&group));
                break;
            }
            page.groups.push(group);
        }
        Ok(page)
    }
}

/// The token that identifies a group in `group_next_token`.
fn token(group: &RuleGroupJson) -> String {
    // Clients treat it as opaque. Prometheus uses SHA-1 of the same text; nothing here depends on
    // that.
    format!("{:032x}", xxh3_128(format!("{};{}", group.file, group.name).as_bytes()))
}

/// Which rules the request wants; an empty list means all.
struct RuleFilter<'a> {
    alerting: bool,
    recording: bool,
    names: Vec<&'a str>,
    groups: Vec<&'a str>,
    files: Vec<&'a str>,
    /// Matchers on the labels that a rule sets, templates unexpanded; one set must match.
    matchers: Vec<Vec<Matcher>>,
    without_alerts: bool,
}

impl<'a> RuleFilter<'a> {
    fn from_form(form: &'a Form, matchers: Vec<Vec<Matcher>>) -> Result<RuleFilter<'a>, ApiError> {
        let kind = form.get("type").to_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            return Err(ApiError::parameter("type", format!("not supported value {kind:?}")));
        }
        // Lower case first, as Prometheus does, so that `TRUE` and `tRuE` are the same.
        let without_alerts = go_bool(&form.get("exclude_alerts").to_lowercase()).map_err(|e| {
            ApiError::parameter("exclude_alerts", format!("error converting exclude_alerts: {e}"))
        })?;
        Ok(RuleFilter {
            alerting: kind != "record",
            recording: kind != "alert",
            names: form.all("rule_name[]").collect(),
            groups: form.all("rule_group[]").collect(),
            files: form.all("file[]").collect(),
            matchers,
            without_alerts,
        })
    }

    fn rule(&self, rule: &RuleJson) -> bool {
        let (kind, labels) = match rule {
            RuleJson::Alerting(rule) => (self.alerting, &rule.labels),
            RuleJson::Recording(rule) => (self.recording, &rule.labels),
        };
        // A missing label is an empty one, as everywhere.
        let holds = |m: &Matcher| m.matches(labels.get(&m.name).map_or("", String::as_str));
        let labelled = || self.matchers.is_empty() || self.matchers.iter().any(|set| set.iter().all(holds));
        kind && is_selected(&self.names, rule.name()) && labelled()
    }

    /// The group with only the selected rules; `None` if the group is not selected or has no such
    /// rule.
    fn group(&self, mut group: RuleGroupJson) -> Option<RuleGroupJson> {
        if !is_selected(&self.groups, &group.name) || !is_selected(&self.files, &group.file) {
            return None;
        }
        group.rules.retain(|rule| self.rule(rule));
        for rule in group.rules.iter_mut().filter(|_| self.without_alerts) {
            if let RuleJson::Alerting(rule) = rule {
                rule.alerts = None;
            }
        }
        // Groups that have no rules at all go, too, as in Prometheus.
        (!group.rules.is_empty()).then_some(group)
    }
}

fn is_selected(list: &[&str], name: &str) -> bool {
    list.is_empty() || list.contains(&name)
}
