//! PromQL as the HTTP API and the rules see it: words in, plans and texts out.

use engine::plan::Plan;
use engine::query::{Querier, QueryOptions, Value};
use frontends::promql::{self, Options};
use frontends::rules::file::Expression;
use frontends::rules::template::QueryFn;
use std::sync::Arc;
use storage::model::{Labels, Matcher, TimeMs};

/// PromQL with the features that the flags enable.
#[derive(Clone, Copy)]
pub struct PromQl {
    options: Options,
}

impl PromQl {
    /// With the features of `--enable-feature`.
    pub fn new(features: &[String]) -> PromQl {
        let on = |name: &str| features.iter().any(|f| f == name);
        let options = Options {
            experimental_functions: on("promql-experimental-functions"),
            extended_range_selectors: on("promql-extended-range-selectors"),
            fill_modifiers: on("promql-binop-fill-modifiers"),
            ..Options::default()
        };
        PromQl { options }
    }

    /// A rule's expression; an error begins with its place, `line:column:`.
    pub fn expression(&self, text: &str) -> Result<Expression, String> {
        let expr = promql::parse(text, &self.options).map_err(|e| e.message())?;
        let plan = promql::compile(text, &self.options).map_err(|e| e.message())?;
        Ok(Expression { plan, text: promql::printer::print(&expr) })
    }
}

impl frontends::http::sources::Language for PromQl {
    fn compile(&self, text: &str) -> Result<Plan, String> {
        promql::compile(text, &self.options).map_err(|e| e.message())
    }
    fn selector(&self, text: &str) -> Result<Vec<Matcher>, String> {
        promql::parse_selector(text).map_err(|e| e.message())
    }
    fn format(&self, text: &str) -> Result<String, String> {
        promql::format(text, &self.options).map_err(|e| e.message())
    }
    fn explain(&self, plan: &Plan) -> String {
        engine::plan::explain::explain(plan)
    }
}

/// `query` in templates: an instant query beside the live runtime.
pub struct TemplateQueries {
    /// Who answers.
    pub querier: Arc<Querier>,
    /// The language.
    pub language: PromQl,
    /// `--query.lookback-delta` and its kin.
    pub options: QueryOptions,
}

impl QueryFn for TemplateQueries {
    fn query(&self, expr: &str, t: TimeMs) -> Result<Vec<(Labels, f64)>, String> {
        let plan = self.language.expression(expr)?.plan;
        let answer = self.querier.instant(&plan, t, &self.options).map_err(|e| e.to_string())?;
        match answer.value {
            Value::Vector(rows) => Ok(rows.into_iter().map(|row| (row.labels, row.v)).collect()),
            Value::Scalar(_, v) => Ok(vec![(Labels::default(), v)]),
            _ => Err("a template's query must give a vector or a scalar".to_owned()),
        }
    }
}
