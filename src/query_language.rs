//! The options of PromQL from the flags, and [`TemplateQueries`]: the queries that templates of
//! rules make.

use crate::flags::Feature;
use engine::query::{Querier, QueryOptions, QueryValue};
use promql::{self, PromqlOptions};
use rules::TemplateQueryError;
use rules::limits::TEMPLATE_QUERY_TIME;
use rules::template::TemplateQuery;
use std::sync::Arc;
use std::time::Duration;
use storage::model::{Labels, TimeMs};

/// PromQL with the features of `--enable-feature`.
pub(crate) fn options(has: impl Fn(Feature) -> bool) -> PromqlOptions {
    PromqlOptions {
        experimental_functions: has(Feature::PromqlExperimentalFunctions),
        extended_range_selectors: has(Feature::PromqlExtendedRangeSelectors),
        fill_modifiers: has(Feature::PromqlBinopFillModifiers),
        delayed_names: has(Feature::PromqlDelayedNameRemoval),
        start_timestamps: has(Feature::UseStartTimestamps),
        type_and_unit_labels: has(Feature::TypeAndUnitLabels),
        ..PromqlOptions::default()
    }
}

/// `query` in templates: runs an instant query, independent of the live runtime.
pub(crate) struct TemplateQueries {
    /// Runs the queries.
    pub querier: Arc<Querier>,
    /// The PromQL options.
    pub language: PromqlOptions,
    /// The options of queries, such as `--query.lookback-delta`.
    pub options: QueryOptions,
}

impl TemplateQuery for TemplateQueries {
    fn query(&self, expr: &str, t: TimeMs) -> Result<Vec<(Labels, f64)>, TemplateQueryError> {
        // A slow query in a template delays the notifications of all rules.
        self.query_within(expr, t, TEMPLATE_QUERY_TIME)
    }
}

impl TemplateQueries {
    /// The rows of an expression at `t`; the query may take this long.
    pub(crate) fn query_within(
        &self,
        expr: &str,
        t: TimeMs,
        most: Duration,
    ) -> Result<Vec<(Labels, f64)>, TemplateQueryError> {
        let plan =
            // At each call and not when the rule is loaded: the text of the query is itself made by
            // the template.
            promql::compile(expr, &self.language).map_err(|e| TemplateQueryError::Text(e.message()))?;
        let timeout = self.options.timeout.min(most);
        let options = QueryOptions { timeout, ..self.options.clone() };
        let answer = self.querier.instant(&plan, t, &options)?;
        match answer.value {
            QueryValue::Vector(rows) => Ok(rows.into_iter().map(|row| (row.labels, row.v)).collect()),
            // As in Prometheus, a scalar is one row without labels.
            QueryValue::Scalar(_, v) => Ok(vec![(Labels::default(), v)]),
            // A range of samples or a text has no single value per row, which templates work with.
            _ => Err(TemplateQueryError::WrongType),
        }
    }
}
