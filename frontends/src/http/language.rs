//! PromQL as the API's language.

use super::services::QueryLanguage;
use crate::promql::{self, QueryRange};
use engine::plan::Plan;
use storage::model::Matcher;

/// PromQL with the features that the flags enable.
#[derive(Clone, Debug, Default)]
pub struct PromqlLanguage(pub promql::PromqlOptions);

impl QueryLanguage for PromqlLanguage {
    fn compile(&self, text: &str, asked: Option<QueryRange>) -> Result<Plan, String> {
        let options = promql::PromqlOptions { range: asked, ..self.0 };
        promql::compile(text, &options).map_err(|e| e.message())
    }

    fn tree(&self, text: &str) -> Result<serde_json::Value, String> {
        let tree = promql::parse(text, &self.0).map_err(|e| e.message())?;
        Ok(promql::json::to_json(&tree, &self.0))
    }

    fn functions(&self) -> serde_json::Value {
        promql::completion::functions(&self.0)
    }

    fn selectors(&self, text: &str) -> Result<Vec<Vec<Matcher>>, String> {
        promql::selectors_of(text, &self.0).map_err(|e| e.message())
    }

    fn selector(&self, text: &str) -> Result<Vec<Matcher>, String> {
        promql::parse_selector(text).map_err(|e| e.message())
    }

    fn format(&self, text: &str) -> Result<String, String> {
        promql::format(text, &self.0).map_err(|e| e.message())
    }
}
