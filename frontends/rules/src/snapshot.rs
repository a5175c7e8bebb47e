//! The data of `/api/v1/rules` and `/api/v1/alerts`: the state of all rules and alerts, taken at
//! one moment.

use super::alert::AlertState;
use super::alert_annotations::LazyAnnotations;
use storage::model::{Labels, TimeMs};

/// A group.
#[derive(Clone)]
pub struct GroupSnapshot {
    /// Value of `name:` in the file.
    pub name: String,
    /// Path of the rule file.
    pub file: String,
    /// Time between evaluations, in ms.
    pub interval: i64,
    /// Most series or alerts of one rule; 0: no limit.
    pub limit: usize,
    /// Its rules, in order.
    pub rules: Vec<RuleSnapshot>,
    /// When one of its rules was last evaluated, in ms; `None`: never.
    pub last_evaluation: Option<TimeMs>,
    /// Time of the latest evaluations, in s.
    pub evaluation_time: f64,
}

/// A rule.
#[derive(Clone)]
pub struct RuleSnapshot {
    /// The alert or the recorded metric.
    pub name: String,
    /// The expression as PromQL prints it.
    pub query: String,
    /// The rule's own labels (templates, unexpanded).
    pub labels: Vec<(String, String)>,
    /// Whether the last evaluation succeeded.
    pub health: RuleHealth,
    /// When it was last evaluated, in ms; `None`: never.
    pub last_evaluation: Option<TimeMs>,
    /// Time of the latest evaluation, in s.
    pub evaluation_time: f64,
    /// The data of an alerting rule; `None`: a recording rule.
    pub alerting: Option<AlertingSnapshot>,
}

/// The data of an alerting rule.
#[derive(Clone)]
pub struct AlertingSnapshot {
    /// The highest state of its alerts.
    pub state: AlertState,
    /// `for`, in ms.
    pub duration: i64,
    /// `keep_firing_for`, in ms.
    pub keep_firing_for: i64,
    /// Annotations (templates, unexpanded).
    pub annotations: Vec<(String, String)>,
    /// Pending and firing alerts, sorted by labels.
    pub alerts: Vec<AlertSnapshot>,
}

/// A pending or firing alert.
#[derive(Clone)]
pub struct AlertSnapshot {
    /// Labels of the alert, without external labels.
    pub labels: Labels,
    /// Its annotations, not expanded yet.
    pub annotations: LazyAnnotations,
    /// Pending or firing.
    pub state: AlertState,
    /// Since when the condition has held, in ms.
    pub active_at: TimeMs,
    /// Since when it has fired only because of `keep_firing_for`, in ms.
    pub keep_firing_since: Option<TimeMs>,
    /// The latest value.
    pub value: f64,
}

/// The health of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RuleHealth {
    /// Not evaluated yet.
    #[default]
    Unknown,
    /// The latest evaluation succeeded.
    Ok,
    /// The latest evaluation failed, with this error.
    Err(String),
}

impl RuleHealth {
    /// The name in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            RuleHealth::Unknown => "unknown",
            RuleHealth::Ok => "ok",
            RuleHealth::Err(_) => "err",
        }
    }

    /// The latest error, or "".
    pub fn last_error(&self) -> &str {
        match self {
            RuleHealth::Err(error) => error,
            _ => "",
        }
    }
}
