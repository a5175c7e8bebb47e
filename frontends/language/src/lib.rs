//! The interface between query languages and the rest of the server.
//!
//! A [`QueryLanguage`] turns text into plans of [`engine::plan`]. The API, the rule files and the
//! saved queries use only this trait; the crate `promql` implements it for PromQL. Errors
//! ([`QueryTextError`]) and [`annotations`] refer to a position in the text. Both are formatted as
//! in Prometheus 3.14, because clients show and compare them.

#![warn(unreachable_pub)]

pub mod annotations;
mod edit_distance;
pub mod limits;
mod query_text_error;
mod shown_labels;

pub use edit_distance::edit_distance;
pub use query_text_error::{QueryTextError, position};
pub use shown_labels::{ShownLabel, ShownLabels, ShownValue};

use engine::plan::Plan;
use storage::model::{Matcher, TimeMs};

/// The evaluation times of a query. For an instant query `start` equals `end` and `step` is 0.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct QueryRange {
    /// The first evaluation time, ms.
    pub start: TimeMs,
    /// The last evaluation time, ms.
    pub end: TimeMs,
    /// The step, ms.
    pub step: i64,
}

/// A query language with its settings. Its methods read only the query text, no data.
///
/// # Contract
/// 1. The same text gives the same plan, and texts that differ only in spaces and comments give
///    equal plans: views share what they compute by comparing plans
///    ([`engine::plan::canonical`]).
/// 2. No text makes it panic, and the time grows in proportion to the length of the text: texts
///    come from the network. *Checked:* the fuzz and doubling tests of the crate `promql`.
/// 3. Spans of a plan and of an error are byte offsets in `text`; otherwise annotations and errors
///    point to the wrong place.
/// 4. [`QueryLanguage::print`] and [`QueryLanguage::format`] keep the meaning: compiling their
///    result gives an equal plan. *Checked:* `promql_fuzz`.
pub trait QueryLanguage: Send + Sync {
    /// Compiles a query to a plan. `range` has its evaluation times; `None` if the query is
    /// installed as a view and has no range.
    fn compile(&self, text: &str, range: Option<QueryRange>) -> Result<Plan, QueryTextError>;
    /// The syntax tree as JSON, in the format of Prometheus' `/api/v1/parse_query`.
    fn tree(&self, text: &str) -> Result<serde_json::Value, QueryTextError>;
    /// The matchers of each series selector of a query, in the order of the text.
    fn selectors(&self, text: &str) -> Result<Vec<Vec<Matcher>>, QueryTextError>;
    /// The matchers of a single series selector, as in `match[]`.
    fn selector(&self, text: &str) -> Result<Vec<Matcher>, QueryTextError>;
    /// Formats the query, with a long one over several lines, as for `/api/v1/format_query`.
    fn format(&self, text: &str) -> Result<String, QueryTextError>;
    /// The query on one line, as rules show it.
    fn print(&self, text: &str) -> Result<String, QueryTextError>;
    /// The functions that an editor can complete, as JSON; null if the language lists none.
    fn functions(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// The plan as readable text.
    fn explain(&self, plan: &Plan) -> String {
        engine::plan::explain::explain(plan)
    }
}
