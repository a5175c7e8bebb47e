//! The JSON of rules, alerts, targets and server status: plain structs that serialise as in
//! Prometheus.
//!
//! Other crates fill them in (see [`super::services`]). The order of the fields is the order in the
//! JSON.

use serde::{Serialize, Serializer, ser::SerializeMap};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use storage::exemplars::{Exemplar, SeriesExemplars};
use storage::model::{Labels, TimeMs};

/// What the operator should know about the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct NotificationJson {
    /// The text.
    pub text: String,
    /// Since when it holds.
    #[serde(serialize_with = "instant")]
    pub date: Option<TimeMs>,
    /// Whether it still holds.
    pub active: bool,
}

/// What one relabelling rule makes of a label set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RelabelStepJson {
    /// The rule, with defaults.
    pub rule: RelabelRuleJson,
    /// The labels after it.
    pub output: BTreeMap<String, String>,
    /// Whether the label set is kept.
    pub keep: bool,
}

/// A relabelling rule, with defaults. What its action does not use is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RelabelRuleJson {
    /// The labels whose values are joined.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_labels: Vec<String>,
    /// Between the joined values.
    pub separator: String,
    /// The anchored pattern.
    pub regex: String,
    /// The modulus of `hashmod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modulus: Option<u64>,
    /// The label that is written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_label: String,
    /// The value that is written.
    pub replacement: String,
    /// What the rule does.
    pub action: String,
}

/// A rule group with the state of its rules.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleGroupJson {
    /// The name, unique in the file.
    pub name: String,
    /// The rule file.
    pub file: String,
    /// The rules, in order.
    pub rules: Vec<RuleJson>,
    /// The evaluation interval, s.
    #[serde(serialize_with = "seconds")]
    pub interval: f64,
    /// The most series that a rule may return; 0: no limit.
    pub limit: usize,
    /// The duration of the last evaluation, s.
    #[serde(serialize_with = "seconds")]
    pub evaluation_time: f64,
    /// The time of the last evaluation; `None`: never.
    #[serde(serialize_with = "instant")]
    pub last_evaluation: Option<TimeMs>,
}

/// One rule of a group.
#[derive(Clone, Debug, Hash, Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "made for one response, never stored")]
pub enum RuleJson {
    /// `alert:`
    Alerting(AlertingRuleJson),
    /// `record:`
    Recording(RecordingRuleJson),
}

impl RuleJson {
    /// The name of the alert or of the recorded metric.
    pub fn name(&self) -> &str {
        match self {
            RuleJson::Alerting(rule) => &rule.name,
            RuleJson::Recording(rule) => &rule.name,
        }
    }
}

/// The texts of rules in their files.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RuleSourcesJson {
    /// The rules, in the order of their files.
    pub rules: Vec<RuleSourceJson>,
    /// Why files could not be read.
    pub errors: Vec<String>,
    /// There are more than fit into one answer.
    pub truncated: bool,
}

/// The text of a rule in its file.
#[derive(Clone, Debug, Serialize)]
pub struct RuleSourceJson {
    /// The file, as `/api/v1/rules` names it.
    pub file: String,
    /// The name of the group.
    pub group: String,
    /// Its place in the group, from 0.
    pub index: usize,
    /// The name of the alert or of the recorded metric.
    pub rule: String,
    /// The line of the first of `lines`, from 1.
    pub line: u64,
    /// Its lines.
    pub lines: Vec<String>,
}

/// The state of an alert.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertStateJson {
    /// The condition does not hold.
    Inactive,
    /// The condition holds, but not yet for the `for` duration.
    Pending,
    /// The condition has held for the `for` duration.
    Firing,
}

/// An alerting rule and its alerts.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertingRuleJson {
    /// The most urgent state of the alerts.
    pub state: AlertStateJson,
    /// The alert's name.
    pub name: String,
    /// The condition, as PromQL.
    pub query: String,
    /// `for`, in s.
    #[serde(serialize_with = "seconds")]
    pub duration: f64,
    /// `keep_firing_for`, in s.
    #[serde(serialize_with = "seconds")]
    pub keep_firing_for: f64,
    /// Label templates.
    pub labels: BTreeMap<String, String>,
    /// Annotation templates.
    pub annotations: BTreeMap<String, String>,
    /// The pending and firing alerts; `None`: the request excluded them.
    pub alerts: Option<Vec<AlertJson>>,
    /// `ok`, `err` or `unknown`.
    pub health: HealthJson,
    /// Why the last evaluation failed, or "".
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// The duration of the last evaluation, s.
    #[serde(serialize_with = "seconds")]
    pub evaluation_time: f64,
    /// The time of the last evaluation.
    #[serde(serialize_with = "instant")]
    pub last_evaluation: Option<TimeMs>,
    /// Always `alerting`.
    #[serde(rename = "type")]
    pub kind: AlertingKind,
}

/// A recording rule.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingRuleJson {
    /// The recorded metric's name.
    pub name: String,
    /// The expression, as PromQL.
    pub query: String,
    /// The labels set on the result.
    pub labels: BTreeMap<String, String>,
    /// `ok`, `err` or `unknown`.
    pub health: HealthJson,
    /// Why the last evaluation failed, or "".
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// The duration of the last evaluation, s.
    #[serde(serialize_with = "seconds")]
    pub evaluation_time: f64,
    /// The time of the last evaluation.
    #[serde(serialize_with = "instant")]
    pub last_evaluation: Option<TimeMs>,
    /// Always `recording`.
    #[serde(rename = "type")]
    pub kind: RecordingKind,
}

/// The constant `alerting`.
#[derive(Copy, Clone, Debug, Default, Hash, Serialize)]
pub enum AlertingKind {
    /// The only value.
    #[default]
    #[serde(rename = "alerting")]
    Alerting,
}

/// The constant `recording`.
#[derive(Copy, Clone, Debug, Default, Hash, Serialize)]
pub enum RecordingKind {
    /// The only value.
    #[default]
    #[serde(rename = "recording")]
    Recording,
}

/// The result of the last evaluation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum HealthJson {
    /// Not evaluated yet.
    #[serde(rename = "unknown")]
    Unknown,
    /// It succeeded.
    #[serde(rename = "ok")]
    Good,
    /// It failed.
    #[serde(rename = "err")]
    Bad,
}

/// A pending or firing alert.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertJson {
    /// The labels, including `alertname`.
    #[serde(serialize_with = "label_map")]
    pub labels: Labels,
    /// The annotations, with templates expanded.
    pub annotations: BTreeMap<String, String>,
    /// The state of the alert.
    pub state: AlertStateJson,
    /// Since when the condition holds.
    #[serde(serialize_with = "instant")]
    pub active_at: Option<TimeMs>,
    /// Since when the alert fires only because of `keep_firing_for`.
    #[serde(serialize_with = "instant", skip_serializing_if = "Option::is_none")]
    pub keep_firing_since: Option<TimeMs>,
    /// The value of the condition.
    #[serde(serialize_with = "alert_value")]
    pub value: f64,
}

/// An active scrape target.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetJson {
    /// Labels before relabelling.
    pub discovered_labels: BTreeMap<String, String>,
    /// The labels of its series.
    pub labels: BTreeMap<String, String>,
    /// The scrape configuration's `job_name`.
    pub scrape_pool: String,
    /// The URL that is scraped.
    pub scrape_url: String,
    /// The same URL with a host name that other machines can resolve.
    pub global_url: String,
    /// Why the last scrape failed, or "".
    pub last_error: String,
    /// The time of the last scrape; `None`: never.
    #[serde(serialize_with = "instant")]
    pub last_scrape: Option<TimeMs>,
    /// The duration of the last scrape, s.
    #[serde(serialize_with = "seconds")]
    pub last_scrape_duration: f64,
    /// Whether the last scrape succeeded.
    pub health: TargetHealthJson,
    /// The scrape interval, as a Prometheus duration.
    pub scrape_interval: String,
    /// The scrape timeout, as a Prometheus duration.
    pub scrape_timeout: String,
}

/// Whether a target can be scraped.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetHealthJson {
    /// Not scraped yet.
    Unknown,
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
    Down,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DroppedTargetJson {
    /// Labels before relabelling.
    pub discovered_labels: BTreeMap<String, String>,
    /// The scrape configuration's `job_name`.
    pub scrape_pool: String,
}

/// The metadata that one target exposes about one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataJson {
    /// The target's labels.
    pub target: Labels,
    /// The metric family.
    pub metric: String,
    /// `counter`, `gauge`, …, `unknown`.
    pub kind: String,
    /// The help text.
    pub help: String,
    /// The unit, or "".
    pub unit: String,
}

/// The exemplars of one series.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeriesExemplarsJson {
    /// The series.
    #[serde(serialize_with = "label_map")]
    pub series_labels: Labels,
    /// The exemplars, in time order.
    pub exemplars: Vec<ExemplarJson>,
}

impl From<SeriesExemplars> for SeriesExemplarsJson {
    fn from(found: SeriesExemplars) -> SeriesExemplarsJson {
        let json = |e: Exemplar| ExemplarJson { labels: e.labels, value: e.v, t: e.t };
        SeriesExemplarsJson {
            series_labels: found.labels,
            exemplars: found.exemplars.into_iter().map(json).collect(),
        }
    }
}

/// An exemplar: an observation that is linked to a trace.
#[derive(Clone, Debug, Serialize)]
pub struct ExemplarJson {
    /// The exemplar's labels, such as `trace_id`.
    #[serde(serialize_with = "label_map")]
    pub labels: Labels,
    /// The value of the observation.
    #[serde(serialize_with = "sample_value")]
    pub value: f64,
    /// The time of the observation.
    #[serde(rename = "timestamp", serialize_with = "sample_time")]
    pub t: TimeMs,
}

/// What a reload would put in force.
#[derive(Clone, Debug, Default)]
pub struct PendingConfigJson {
    /// The configuration that the files on the disk make; "" if they are wrong.
    pub yaml: String,
    /// What is wrong with them; "": nothing.
    pub error: String,
    /// The rule groups that are other than those in force, as `file;name`.
    pub rule_groups: RuleGroupChangesJson,
}

/// Which rule groups a reload would change.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RuleGroupChangesJson {
    /// New ones.
    pub added: Vec<String>,
    /// Those that say something else.
    pub changed: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
}

/// `/api/v1/status/runtimeinfo`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeInfo {
    /// When the server started.
    #[serde(serialize_with = "instant")]
    pub start_time: Option<TimeMs>,
    /// The working directory.
    #[serde(rename = "CWD")]
    pub cwd: String,
    /// The name of the machine.
    pub hostname: String,
    /// The time now.
    #[serde(serialize_with = "instant")]
    pub server_time: Option<TimeMs>,
    /// Whether the last (re)load of the configuration succeeded.
    pub reload_config_success: bool,
    /// The time of the last successful load of the configuration.
    #[serde(serialize_with = "instant")]
    pub last_config_time: Option<TimeMs>,
    /// The number of corruptions found in the write-ahead log.
    pub corruption_count: u64,
    /// The number of threads (in Prometheus: of goroutines).
    pub goroutine_count: usize,
    /// The number of CPUs that the server may use.
    #[serde(rename = "GOMAXPROCS")]
    pub max_procs: usize,
    /// Memory limit, bytes; `i64::MAX`: none.
    #[serde(rename = "GOMEMLIMIT")]
    pub memory_limit: i64,
    /// The environment variable's value, shown for compatibility.
    #[serde(rename = "GOGC")]
    pub gogc: String,
    /// The environment variable's value, shown for compatibility.
    #[serde(rename = "GODEBUG")]
    pub godebug: String,
    /// As Prometheus prints it: `15d`, `15d or 512MiB`.
    pub storage_retention: String,
}

/// `/api/v1/status/walreplay`.
#[derive(Copy, Clone, Debug, Default, Serialize)]
pub struct WalReplay {
    /// The first record (in Prometheus: segment).
    pub min: u64,
    /// The last record.
    pub max: u64,
    /// The record that is being read; `max` when done.
    pub current: u64,
}

/// `/api/v1/status/buildinfo` and `/version`. It has no `features`: with them, Grafana would take
/// the server for Mimir.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildInfo {
    /// The version of Prometheus' API that this server implements: clients enable features by it.
    pub version: String,
    /// The version of this server.
    pub revision: String,
    /// The name of the product.
    pub branch: String,
    /// Empty.
    pub build_user: String,
    /// Empty.
    pub build_date: String,
    /// The language, in place of Go's version.
    pub go_version: String,
}

impl Default for BuildInfo {
    fn default() -> Self {
        BuildInfo {
            version: "3.14.0".into(),
            revision: env!("CARGO_PKG_VERSION").into(),
            branch: "perennial".into(),
            build_user: String::new(),
            build_date: String::new(),
            go_version: "rust".into(),
        }
    }
}

/// For the version of a list of rules: without the duration and time of the last evaluation, which
/// change although it found the same.
impl Hash for RuleGroupJson {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let RuleGroupJson { name, file, rules, interval, limit, evaluation_time: _, last_evaluation: _ } =
            self;
        (name, file, rules, interval.to_bits(), limit).hash(state);
    }
}

/// As for [`RuleGroupJson`].
impl Hash for AlertingRuleJson {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let AlertingRuleJson {
            state: alert_state,
            name,
            query,
            duration,
            keep_firing_for,
            labels,
            annotations,
            alerts,
            health,
            last_error,
            evaluation_time: _,
            last_evaluation: _,
            kind,
        } = self;
        (alert_state, name, query, duration.to_bits(), keep_firing_for.to_bits()).hash(state);
        (labels, annotations, alerts, health, last_error, kind).hash(state);
    }
}

/// As for [`RuleGroupJson`].
impl Hash for RecordingRuleJson {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let RecordingRuleJson {
            name,
            query,
            labels,
            health,
            last_error,
            evaluation_time: _,
            last_evaluation: _,
            kind,
        } = self;
        (name, query, labels, health, last_error, kind).hash(state);
    }
}

impl Hash for AlertJson {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let AlertJson { labels, annotations, state: alert_state, active_at, keep_firing_since, value } = self;
        (labels, annotations, alert_state, active_at, keep_firing_since, value.to_bits()).hash(state);
    }
}

/// For the version of a list of targets: without the time and duration of the last scrape, which
/// change although it found the same.
impl Hash for TargetJson {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let TargetJson {
            discovered_labels,
            labels,
            scrape_pool,
            scrape_url,
            global_url,
            last_error,
            last_scrape: _,
            last_scrape_duration: _,
            health,
            scrape_interval,
            scrape_timeout,
        } = self;
        (discovered_labels, labels, scrape_pool, scrape_url, global_url).hash(state);
        (last_error, health, scrape_interval, scrape_timeout).hash(state);
    }
}

/// Writes whole numbers without `.0`, as Go does.
pub(super) fn seconds<S: Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
    if v.fract() == 0.0 && v.abs() < 1e15 { s.serialize_i64(*v as i64) } else { s.serialize_f64(*v) }
}

/// RFC 3339; `None` is Go's zero time.
pub(super) fn instant<S: Serializer>(t: &Option<TimeMs>, s: S) -> Result<S::Ok, S::Error> {
    match t.and_then(chrono::DateTime::from_timestamp_millis) {
        Some(t) => s.serialize_str(&rfc3339(t)),
        None => s.serialize_str("0001-01-01T00:00:00Z"),
    }
}

fn rfc3339(t: chrono::DateTime<chrono::Utc>) -> String {
    let text = t.format("%Y-%m-%dT%H:%M:%S%.3f").to_string();
    format!("{}Z", text.trim_end_matches('0').trim_end_matches('.'))
}

/// RFC 3339 with exactly three decimals, as the query log writes times.
pub(super) fn utc_millis(t: TimeMs) -> String {
    let t = chrono::DateTime::from_timestamp_millis(t).unwrap_or_default();
    t.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

pub(super) fn label_map<S: Serializer>(labels: &Labels, s: S) -> Result<S::Ok, S::Error> {
    let mut map = s.serialize_map(None)?;
    for (name, value) in labels.iter() {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

pub(super) fn sample_value<S: Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
    let mut text = String::new();
    super::query_json::value(&mut text, *v);
    s.serialize_str(&text)
}

pub(super) fn sample_time<S: Serializer>(t: &TimeMs, s: S) -> Result<S::Ok, S::Error> {
    seconds(&(*t as f64 / 1000.0), s)
}

pub(super) fn alert_value<S: Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&super::query_json::alert_value(*v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_as_prometheus_shows_them() {
        let alert = AlertJson {
            labels: Labels::from_pairs([("sev", "p"), ("alertname", "Foo")]),
            annotations: BTreeMap::from([("s".into(), "v 1".into())]),
            state: AlertStateJson::Pending,
            active_at: Some(1_795_248_371_730),
            keep_firing_since: None,
            value: 1.0,
        };
        assert_eq!(
            serde_json::to_string(&alert).unwrap(),
            r#"{"labels":{"alertname":"Foo","sev":"p"},"annotations":{"s":"v 1"},"state":"pending","activeAt":"2026-11-21T08:06:11.73Z","value":"1e+00"}"#
        );
    }

    #[test]
    fn whole_seconds_keep_their_zeros() {
        let t = chrono::DateTime::from_timestamp_millis(1_795_248_000_000).unwrap();
        assert_eq!(rfc3339(t), "2026-11-21T08:00:00Z");
    }

    #[test]
    fn recording_rules_come_in_order_and_leave_out_no_labels() {
        let rule = RuleJson::Recording(RecordingRuleJson {
            name: "a:b".into(),
            query: "up".into(),
            labels: BTreeMap::new(),
            health: HealthJson::Good,
            last_error: String::new(),
            evaluation_time: 0.0,
            last_evaluation: None,
            kind: RecordingKind::Recording,
        });
        assert_eq!(
            serde_json::to_string(&rule).unwrap(),
            r#"{"name":"a:b","query":"up","labels":{},"health":"ok","evaluationTime":0,"lastEvaluation":"0001-01-01T00:00:00Z","type":"recording"}"#
        );
    }
}
