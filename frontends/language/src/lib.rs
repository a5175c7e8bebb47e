//! What a query language is to the rest of the server.
//!
//! A [`QueryLanguage`] turns text into plans of [`engine::plan`]. The API, the rule files and the
//! saved queries know this trait and no language: PromQL implements it in the crate `promql`.
//! Errors ([`QueryTextError`]) and [`annotations`] point at a place in the text; both are printed
//! as Prometheus 3.14 prints them, because clients show and compare them.

pub mod annotations;
pub mod limits;
mod query_text_error;

pub use query_text_error::{QueryTextError, position};

use engine::plan::Plan;
use storage::model::{Matcher, TimeMs};

/// The times a query is asked for. Of an instant query `start` equals `end` and `step` is 0.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct QueryRange {
    /// First evaluation, ms.
    pub start: TimeMs,
    /// Last evaluation, ms.
    pub end: TimeMs,
    /// Distance of evaluations, ms.
    pub step: i64,
}

/// A query language with its settings. It reads no data: everything is decided by the text.
pub trait QueryLanguage: Send + Sync {
    /// The plan of a query. `range`: the times it is asked for; `None` for a query that is
    /// installed as a view and has no range.
    fn compile(&self, text: &str, range: Option<QueryRange>) -> Result<Plan, QueryTextError>;
    /// The syntax tree as JSON, in the shape of Prometheus' `/api/v1/parse_query`.
    fn tree(&self, text: &str) -> Result<serde_json::Value, QueryTextError>;
    /// The matchers of each series selector of a query, in the order of the text.
    fn selectors(&self, text: &str) -> Result<Vec<Vec<Matcher>>, QueryTextError>;
    /// The matchers of one series selector, such as `match[]` has.
    fn selector(&self, text: &str) -> Result<Vec<Matcher>, QueryTextError>;
    /// The query over several lines where it is long, as `/api/v1/format_query` answers.
    fn format(&self, text: &str) -> Result<String, QueryTextError>;
    /// The query on one line, as rules show it.
    fn print(&self, text: &str) -> Result<String, QueryTextError>;
    /// The functions that an editor can complete, as JSON; null if the language lists none.
    fn functions(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// The plan as text for people.
    fn explain(&self, plan: &Plan) -> String {
        engine::plan::explain::explain(plan)
    }
}
