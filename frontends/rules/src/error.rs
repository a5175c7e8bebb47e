//! The errors of rules: why a set of rules cannot be put into force ([`RulesError`]), and why the
//! evaluation of one fails.

use crate::alert_states::SAME_LABELS;
use engine::live::ViewError;
use engine::query::QueryError;
use storage::store::StoreError;

/// Why a set of rules cannot be put into force; the rules before stay in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// A text of an alert is no template.
    #[error("alert {alert:?}: bad template: {reason}")]
    Template {
        /// The name of the alert.
        alert: String,
        /// What is wrong with the text.
        reason: String,
    },
    /// The expression of a rule cannot be installed as a view.
    #[error("{file}: group {group:?}, rule {rule:?}: {error}")]
    View {
        /// The rule file.
        file: String,
        /// The name of the group.
        group: String,
        /// The name of the rule.
        rule: String,
        /// Why it cannot.
        error: ViewError,
    },
    /// A view cannot get the new expression of its rule.
    #[error("{0}")]
    Replace(ViewError),
    /// The rule records a series, and has no alerts.
    #[error("{0:?} is a recording rule: only alerts can be tried")]
    NotAnAlert(String),
    /// The server is stopping.
    #[error("the rules thread has ended")]
    Stopped,
}

/// Why an evaluation of an alerting rule failed. It is shown with the rule until one succeeds.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The expression could not be evaluated.
    #[error("{0}")]
    Expression(String),
    /// Two rows of the condition have the same labels as alerts.
    #[error("{SAME_LABELS}")]
    SameLabels,
    /// The rule has more alerts than the `limit` of its group.
    #[error("exceeded limit of {limit} with {count} alerts")]
    LimitReached {
        /// The most that the group allows.
        limit: usize,
        /// How many alerts there are.
        count: usize,
    },
    /// The store refused the `ALERTS` samples.
    #[error("writing ALERTS failed: {0}")]
    Write(StoreError),
}

/// Why a query of a template has no rows.
#[derive(Debug, thiserror::Error)]
pub enum TemplateQueryError {
    /// The text is no expression of the query language.
    #[error("{0}")]
    Text(String),
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The answer is a matrix or a string.
    #[error("a template's query must give a vector or a scalar")]
    WrongType,
}
