//! What `/api/v1/rules` and `/api/v1/alerts` show: plain data, taken at one moment.

use super::alert::AlertState;
use super::alert_annotations::LazyAnnotations;
use storage::model::{Labels, TimeMs};

/// A group.
#[derive(Clone)]
pub struct GroupSnapshot {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Distance of its slots, ms.
    pub interval: i64,
    /// Most series or alerts of one rule; 0: no limit.
    pub limit: usize,
    /// Its rules, in order.
    pub rules: Vec<RuleSnapshot>,
    /// When one of its rules was last evaluated, ms; `None`: never.
    pub last_evaluation: Option<TimeMs>,
    /// Time spent on the last evaluations, s.
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
    /// How it is.
    pub health: RuleHealth,
    /// When it was last evaluated, ms; `None`: never.
    pub last_evaluation: Option<TimeMs>,
    /// Time spent on the last evaluation, s.
    pub evaluation_time: f64,
    /// What an alerting rule has besides; `None`: a recording rule.
    pub alerting: Option<AlertingSnapshot>,
}

/// What an alerting rule has besides.
#[derive(Clone)]
pub struct AlertingSnapshot {
    /// The highest state of its alerts.
    pub state: AlertState,
    /// `for`, ms.
    pub duration: i64,
    /// `keep_firing_for`, ms.
    pub keep_firing_for: i64,
    /// Annotations (templates, unexpanded).
    pub annotations: Vec<(String, String)>,
    /// Pending and firing alerts, sorted by labels.
    pub alerts: Vec<AlertSnapshot>,
}

/// A pending or firing alert.
#[derive(Clone)]
pub struct AlertSnapshot {
    /// Its labels.
    pub labels: Labels,
    /// Its annotations, to be filled.
    pub annotations: LazyAnnotations,
    /// Pending or firing.
    pub state: AlertState,
    /// Since when the condition holds, ms.
    pub active_at: TimeMs,
    /// Since when it fires by `keep_firing_for` alone, ms.
    pub keep_firing_since: Option<TimeMs>,
    /// The newest value.
    pub value: f64,
}

/// How a rule is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RuleHealth {
    /// Not evaluated yet.
    #[default]
    Unknown,
    /// The last evaluation went well.
    Ok,
    /// The last evaluation failed, and why.
    Err(String),
}

impl RuleHealth {
    /// As the API writes it.
    pub fn as_str(&self) -> &'static str {
        match self {
            RuleHealth::Unknown => "unknown",
            RuleHealth::Ok => "ok",
            RuleHealth::Err(_) => "err",
        }
    }

    /// The last error, or "".
    pub fn last_error(&self) -> &str {
        match self {
            RuleHealth::Err(error) => error,
            _ => "",
        }
    }
}
