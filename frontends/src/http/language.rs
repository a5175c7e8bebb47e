//! PromQL as the API's language.

use super::sources::Language;
use crate::promql;
use engine::plan::Plan;
use storage::model::Matcher;

/// PromQL with the features that the flags enable.
#[derive(Clone, Debug, Default)]
pub struct Promql(pub promql::Options);

impl Language for Promql {
    fn compile(&self, text: &str) -> Result<Plan, String> {
        promql::compile(text, &self.0).map_err(|e| e.message())
    }

    fn selector(&self, text: &str) -> Result<Vec<Matcher>, String> {
        promql::parse_selector(text).map_err(|e| e.message())
    }

    fn format(&self, text: &str) -> Result<String, String> {
        promql::format(text, &self.0).map_err(|e| e.message())
    }
}
