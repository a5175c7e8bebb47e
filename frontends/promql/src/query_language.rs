//! Implements [`QueryLanguage`] for PromQL: the interface for the API, the rule files and the saved
//! queries.

use crate::{PromqlOptions, completion, json, printer};
use engine::plan::Plan;
use language::{QueryLanguage, QueryRange, QueryTextError};
use storage::model::Matcher;

/// PromQL with the options that the feature flags set.
#[derive(Clone, Debug, Default)]
pub struct PromqlLanguage(pub PromqlOptions);

impl QueryLanguage for PromqlLanguage {
    fn compile(&self, text: &str, range: Option<QueryRange>) -> Result<Plan, QueryTextError> {
        crate::compile(text, &PromqlOptions { range, ..self.0 })
    }

    fn tree(&self, text: &str) -> Result<serde_json::Value, QueryTextError> {
        let tree = crate::parse(text, &self.0)?;
        Ok(json::to_json(&tree, &self.0))
    }

    fn functions(&self) -> serde_json::Value {
        completion::functions(&self.0)
    }

    fn selectors(&self, text: &str) -> Result<Vec<Vec<Matcher>>, QueryTextError> {
        crate::selectors_of(text, &self.0)
    }

    fn selector(&self, text: &str) -> Result<Vec<Matcher>, QueryTextError> {
        crate::parse_selector(text)
    }

    fn format(&self, text: &str) -> Result<String, QueryTextError> {
        crate::format(text, &self.0)
    }

    fn print(&self, text: &str) -> Result<String, QueryTextError> {
        crate::parse(text, &self.0).map(|tree| printer::print(&tree))
    }
}
