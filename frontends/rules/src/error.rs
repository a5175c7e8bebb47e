//! Why a set of rules cannot be put into force.

use engine::live::ViewError;

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
    /// The server is stopping.
    #[error("the rules thread has ended")]
    Stopped,
}
