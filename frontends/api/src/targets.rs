//! `/api/v1/targets`, `/api/v1/targets/metadata`, `/api/v1/scrape_pools`, `/api/v1/metadata`, and
//! what relabelling rules do with labels.
//!
//! The lists come from the service [`TargetList`](super::services::TargetList), which fills the
//! types of [`super::json_model`].

use super::AppState;
use super::dispatch::ApiRequest;
use super::json_model::{DroppedTargetJson, MetadataJson, TargetJson, label_map};
use super::limits;
use super::response::{ApiError, ApiResult, ErrorType, success};
use super::versions::Version;
use serde::Serialize;
use std::collections::BTreeMap;
use storage::model::Labels;

#[derive(Hash, Serialize)]
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
    // As in Prometheus an unknown state is no error and shows nothing.
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
        // Counted apart from the list, which is cut: a job may drop a hundred thousand targets.
        found.dropped_target_counts = Some(counts);
    }
    Version::new(&found).answer(&call, &found)
}

/// The version of the list of active targets.
pub(crate) fn version_of_active(active_targets: Vec<TargetJson>) -> Version {
    Version::new(&TargetsJson { active_targets, dropped_targets: Vec::new(), dropped_target_counts: None })
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
            let selector = call.state.sources.queries.language.selector(text);
            selector.map_err(|e| ApiError::parameter("match_target", e))?
        }
    };
    let metric = call.form.get("metric");
    let all = call.state.sources.targets.metadata().into_iter();
    let of_metric = all.filter(|m| metric.is_empty() || m.metric == metric);
    let matching = of_metric.filter(|m| matchers.iter().all(|matcher| matcher.matches_labels(&m.target)));
    let shown = matching.take(limit).map(|m| TargetMetadataJson {
        target: m.target,
        // Whoever asked for one metric knows its name; Prometheus leaves it out, too.
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

/// `/api/v1/targets/relabel_steps`: what each relabelling rule of a pool makes of a label set.
pub(crate) async fn relabel_steps(call: ApiRequest) -> ApiResult {
    let pool = call.form.get("scrapePool");
    if pool.is_empty() {
        return Err(ApiError::bad_data("no scrapePool parameter provided"));
    }
    let labels = labels_of(&call)?;
    // The text is Prometheus', with which its page looks for the pool.
    let Some(steps) = call.state.sources.targets.relabel_steps(pool, &labels) else {
        return Err(ApiError::bad_data(format!(
            "error retrieving scrape config: scrape pool {pool:?} not found"
        )));
    };
    success(&serde_json::json!({ "steps": steps }))
}

/// `/api/v1/relabel`: what rules that somebody tries make of a label set.
pub(crate) async fn relabel(call: ApiRequest) -> ApiResult {
    let labels = labels_of(&call)?;
    let rules = call.form.get("rules");
    if rules.len() > limits::RELABEL_RULES_BYTES {
        return Err(ApiError::bad_data(format!("rules of more than {} bytes", limits::RELABEL_RULES_BYTES)));
    }
    let rules = rules.to_owned();
    let targets = call.state.sources.targets.clone();
    // Patterns are compiled for it: not on the threads of the network.
    let tried = call.state.blocking(move || targets.try_relabelling(&rules, &labels));
    let steps = tried.await.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?;
    let steps = steps.map_err(|e| ApiError::bad_data(e.to_string()))?;
    success(&serde_json::json!({ "steps": steps }))
}

/// The parameter `labels`: a JSON object.
fn labels_of(call: &ApiRequest) -> Result<BTreeMap<String, String>, ApiError> {
    let labels: BTreeMap<String, String> = serde_json::from_str(call.form.get("labels"))
        .map_err(|e| ApiError::bad_data(format!("error parsing labels: {e}")))?;
    if labels.len() > limits::RELABEL_LABELS {
        return Err(ApiError::bad_data(format!("more than {} labels", limits::RELABEL_LABELS)));
    }
    Ok(labels)
}

/// `/api/v1/scrape_pools/config`: the configuration of one pool.
pub(crate) async fn scrape_pool_config(call: ApiRequest) -> ApiResult {
    let pool = call.form.get("scrapePool");
    if pool.is_empty() {
        return Err(ApiError::bad_data("no scrapePool parameter provided"));
    }
    // Of the printed configuration, not of the job in memory: there secrets are hidden and defaults
    // are spelled out already.
    let all = call.state.sources.admin.config_yaml();
    let Some(yaml) = job_yaml(&all, pool) else {
        return Err(ApiError::bad_data(format!(
            "error retrieving scrape config: scrape pool {pool:?} not found"
        )));
    };
    success(&serde_json::json!({ "yaml": yaml }))
}

/// The part of the printed configuration that describes a job. The printer writes one item of
/// `scrape_configs` after a dash without indentation, and `job_name` first.
fn job_yaml(all: &str, name: &str) -> Option<String> {
    let jobs = all.split_once("scrape_configs:\n")?.1;
    let mut found: Option<String> = None;
    for line in jobs.lines() {
        let first = line.strip_prefix("- ");
        if found.is_some() && (first.is_some() || !line.starts_with(' ')) {
            break;
        }
        let value = first.and_then(|first| first.strip_prefix("job_name: "));
        let is_wanted = value.is_some_and(|value| {
            // The printer quotes names that YAML would read as something else, in JSON's way.
            value == name || serde_json::from_str::<String>(value).is_ok_and(|text| text == name)
        });
        if first.is_none() && !line.starts_with(' ') {
            break;
        }
        if is_wanted || found.is_some() {
            // The two columns of the dash go, so that the part is YAML by itself.
            let text = first.or_else(|| line.strip_prefix("  ")).unwrap_or(line);
            let yaml = found.get_or_insert_default();
            yaml.push_str(text);
            yaml.push('\n');
        }
    }
    found
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

/// The metadata of all targets, read off the async runtime: that of a confined user asks the store.
pub(crate) async fn described(state: &AppState) -> Result<Vec<MetadataJson>, ApiError> {
    let targets = state.sources.targets.clone();
    let read = state.blocking(move || targets.metadata());
    read.await.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))
}

/// `/api/v1/metadata`
pub(crate) async fn metadata(call: ApiRequest) -> ApiResult {
    let limit = call.form.number("limit")?.unwrap_or(usize::MAX);
    // As in Prometheus, 0 is no limit here, while `limit=0` shows nothing.
    let per_metric = call.form.number("limit_per_metric")?.filter(|n| *n > 0).unwrap_or(usize::MAX);
    let metric = call.form.get("metric");
    let mut found: BTreeMap<String, Vec<MetricMetadataJson>> = BTreeMap::new();
    for MetadataJson { metric: name, kind, help, unit, .. } in described(&call.state).await? {
        if !metric.is_empty() && name != metric {
            continue;
        }
        let described = MetricMetadataJson { kind, help, unit };
        let list = found.entry(name).or_default();
        // Most targets of a job say the same of a metric; each text is shown once.
        if list.len() < per_metric && !list.contains(&described) {
            list.push(described);
        }
    }
    success(&found.into_iter().take(limit).collect::<BTreeMap<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::job_yaml;

    #[test]
    fn a_job_is_cut_out_of_the_configuration() {
        let all = "global:\n  scrape_interval: 5s\nscrape_configs:\n- job_name: a\n  scheme: http\n- job_name: \"1: b\"\n  \
                   static_configs:\n  - targets:\n    - x\nstorage:\n  x: 1\n";
        assert_eq!(job_yaml(all, "a").as_deref(), Some("job_name: a\nscheme: http\n"));
        let second = "job_name: \"1: b\"\nstatic_configs:\n- targets:\n  - x\n";
        assert_eq!(job_yaml(all, "1: b").as_deref(), Some(second));
        assert_eq!(job_yaml(all, "c"), None);
        assert_eq!(job_yaml("global: {}\n", "a"), None);
    }
}
