//! `/api/v1/targets`, `targets/metadata`, `scrape_pools` and `metadata`.

use super::dispatch::ApiRequest;
use super::json_model::{DroppedTargetJson, MetadataJson, TargetJson, label_map};
use super::response::{ApiError, ApiResult, success};
use serde::Serialize;
use std::collections::BTreeMap;
use storage::model::Labels;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetsJson {
    active_targets: Vec<TargetJson>,
    dropped_targets: Vec<DroppedTargetJson>,
    /// `None`: the request excludes dropped targets.
    dropped_target_counts: Option<BTreeMap<String, usize>>,
}

/// `/api/v1/targets`
pub(crate) async fn targets(call: ApiRequest) -> ApiResult {
    let sources = &call.state.sources.targets;
    let state = call.form.get("state").to_lowercase();
    let pool = call.form.get("scrapePool");
    let in_pool = |name: &str| pool.is_empty() || pool == name;
    let shows = |kind: &str| matches!(state.as_str(), "" | "any") || state == kind;
    let mut found =
        TargetsJson { active_targets: Vec::new(), dropped_targets: Vec::new(), dropped_target_counts: None };
    if shows("active") {
        found.active_targets = sources.active();
        found.active_targets.retain(|target| in_pool(&target.scrape_pool));
    }
    if shows("dropped") {
        found.dropped_targets = sources.dropped();
        found.dropped_targets.retain(|target| in_pool(&target.scrape_pool));
        let mut counts = sources.dropped_counts();
        counts.retain(|name, _| in_pool(name));
        found.dropped_target_counts = Some(counts);
    }
    success(&found)
}

#[derive(Serialize)]
struct TargetMetadataJson {
    #[serde(serialize_with = "label_map")]
    target: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    help: String,
    unit: String,
}

/// `/api/v1/targets/metadata`
pub(crate) async fn target_metadata(call: ApiRequest) -> ApiResult {
    let limit = call.form.number("limit")?.unwrap_or(usize::MAX);
    let matchers = match call.form.get("match_target") {
        "" => Vec::new(),
        text => {
            let selector = call.state.sources.language.selector(text);
            selector.map_err(|e| ApiError::parameter("match_target", e))?
        }
    };
    let metric = call.form.get("metric");
    let all = call.state.sources.targets.metadata().into_iter();
    let asked = all.filter(|m| metric.is_empty() || m.metric == metric);
    let matching = asked.filter(|m| matchers.iter().all(|matcher| matcher.matches_labels(&m.target)));
    let shown = matching.take(limit).map(|m| TargetMetadataJson {
        target: m.target,
        metric: metric.is_empty().then_some(m.metric),
        kind: m.kind,
        help: m.help,
        unit: m.unit,
    });
    success(&shown.collect::<Vec<_>>())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScrapePoolsJson {
    scrape_pools: Vec<String>,
}

/// `/api/v1/scrape_pools`
pub(crate) async fn scrape_pools(call: ApiRequest) -> ApiResult {
    success(&ScrapePoolsJson { scrape_pools: call.state.sources.targets.pools() })
}

#[derive(PartialEq, Eq, Serialize)]
struct MetricMetadataJson {
    #[serde(rename = "type")]
    kind: String,
    help: String,
    unit: String,
}

/// `/api/v1/metadata`
pub(crate) async fn metadata(call: ApiRequest) -> ApiResult {
    let limit = call.form.number("limit")?.unwrap_or(usize::MAX);
    let per_metric = call.form.number("limit_per_metric")?.filter(|n| *n > 0).unwrap_or(usize::MAX);
    let metric = call.form.get("metric");
    let mut found: BTreeMap<String, Vec<MetricMetadataJson>> = BTreeMap::new();
    for MetadataJson { metric: name, kind, help, unit, .. } in call.state.sources.targets.metadata() {
        if !metric.is_empty() && name != metric {
            continue;
        }
        let described = MetricMetadataJson { kind, help, unit };
        let list = found.entry(name).or_default();
        if list.len() < per_metric && !list.contains(&described) {
            list.push(described);
        }
    }
    success(&found.into_iter().take(limit).collect::<BTreeMap<_, _>>())
}
