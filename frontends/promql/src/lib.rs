//! The PromQL front end: turns query text into plans.
//!
//! The stages are [`lexer`], [`parser`], [`typecheck`] and [`bind`]; the syntax tree ([`ast`]) has
//! a span on every node. Syntax, error texts and their positions are those of Prometheus 3.14,
//! because clients show them. [`printer`] and [`prettify`] turn the tree back into text, and
//! [`promqltest`] runs Prometheus' test files.

#![warn(unreachable_pub)]

pub mod ast;
mod bind;
pub mod completion;
mod duration;
mod errors;
mod histogram;
pub mod json;
mod lexer;
pub mod limits;
mod number;
mod parser;
pub mod prettify;
pub mod printer;
pub mod promqltest;
mod query_language;
mod quoting;
mod selectors;
pub mod series;
mod token;
mod typecheck;

pub use histogram::HistogramLiteral;
pub use query_language::PromqlLanguage;
pub use typecheck::Signature;

use ast::Expr;
use engine::plan::{Dialect, Plan};
use language::{QueryRange, QueryTextError};
use storage::model::Matcher;

/// The allowed syntax, and what is known about the query.
#[derive(Copy, Clone, Debug)]
pub struct PromqlOptions {
    /// The signatures of functions; by default those of the engine's table.
    pub functions: fn(&str) -> Option<Signature>,
    /// `--enable-feature=promql-experimental-functions`
    pub experimental_functions: bool,
    /// `--enable-feature=promql-extended-range-selectors`
    pub extended_range_selectors: bool,
    /// `--enable-feature=promql-binop-fill-modifiers`
    pub fill_modifiers: bool,
    /// `--enable-feature=promql-delayed-name-removal`: metric names are removed at the end of the
    /// evaluation, not by the operator whose result they no longer fit.
    pub delayed_names: bool,
    /// `--enable-feature=use-start-timestamps`: the rate functions use the start timestamps of
    /// counters.
    pub start_timestamps: bool,
    /// `--enable-feature=type-and-unit-labels`: `__type__` determines whether a series is a
    /// counter, not the suffix of its name.
    pub type_and_unit_labels: bool,
    /// The time range of the query, if known: `step()`, `range()`, `start()` and `end()` become
    /// numbers.
    pub range: Option<QueryRange>,
}

/// The value of `start()`, `end()`, `range()` or `step()` in a query over `range`, ms; `None`:
/// `function` is another one.
fn range_function(range: &QueryRange, function: &str) -> Option<i64> {
    Some(match function {
        "start" => range.start,
        "end" => range.end,
        "range" => range.end - range.start,
        // An instant query has no step, even if the request has one.
        "step" if range.start == range.end => 0,
        "step" => range.step,
        _ => return None,
    })
}

impl Default for PromqlOptions {
    fn default() -> Self {
        PromqlOptions {
            functions: table_signature,
            experimental_functions: false,
            extended_range_selectors: false,
            fill_modifiers: false,
            delayed_names: false,
            start_timestamps: false,
            type_and_unit_labels: false,
            range: None,
        }
    }
}

impl PromqlOptions {
    /// Allows all syntax; flags that change results keep their default.
    pub fn all() -> PromqlOptions {
        PromqlOptions {
            experimental_functions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
            ..PromqlOptions::default()
        }
    }
}

impl PromqlOptions {
    /// The options that change the meaning of plans.
    pub fn dialect(&self) -> Dialect {
        Dialect {
            delayed_names: self.delayed_names,
            start_timestamps: self.start_timestamps,
            type_and_unit_labels: self.type_and_unit_labels,
        }
    }
}

/// The signature of a function in the engine's table.
pub fn table_signature(name: &str) -> Option<Signature> {
    engine::functions::lookup(name).map(|f| Signature {
        args: f.args,
        optional: f.optional,
        repeat: f.repeat,
        returns: f.returns,
        experimental: f.experimental,
    })
}

/// Compiles a query to a plan.
///
/// ```
/// use promql::{PromqlOptions, compile};
///
/// let plan = compile("sum by (job) (up) > 1", &PromqlOptions::default()).unwrap();
/// assert_eq!(engine::plan::as_promql::as_promql(&plan), "sum by (job) (up) > 1");
/// let error = compile("sum(up", &PromqlOptions::default()).unwrap_err();
/// assert_eq!(error.message(), "1:7: parse error: unclosed left parenthesis");
/// ```
pub fn compile(text: &str, options: &PromqlOptions) -> Result<Plan, QueryTextError> {
    let expr = parse(text, options)?;
    bind::bind(&expr, options).map_err(|fault| fault.locate(text))
}

/// Parses and type-checks a query.
pub fn parse(text: &str, options: &PromqlOptions) -> Result<Expr, QueryTextError> {
    let parse = || {
        let expr = parser::parse_expression(text, options)?;
        typecheck::check(&expr, text, options)?;
        Ok(expr)
    };
    parse().map_err(|fault: errors::SpannedError| fault.locate(text))
}

/// The matchers of a single selector such as `up{job="a"}`, for `match[]`. The selector may match
/// every series; the caller decides whether to allow that.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, QueryTextError> {
    let parse = || {
        let (selector, span) = parser::parse_metric_selector(text, &PromqlOptions::default())?;
        typecheck::check_selector(&selector, span, true)?;
        Ok(bind::matchers(&selector))
    };
    parse().map_err(|fault: errors::SpannedError| fault.locate(text))
}

/// The matchers of each selector of a query, in the order of the text.
pub fn selectors_of(text: &str, options: &PromqlOptions) -> Result<Vec<Vec<Matcher>>, QueryTextError> {
    fn collect(expr: &Expr, found: &mut Vec<Vec<Matcher>>) {
        if let ast::ExprKind::Vector(selector) | ast::ExprKind::Matrix { selector, .. } = &*expr.kind {
            found.push(bind::matchers(selector));
        }
        for operand in expr.operands() {
            collect(operand, found);
        }
    }
    let mut found = Vec::new();
    collect(&parse(text, options)?, &mut found);
    Ok(found)
}

/// Formats a query, with a long one over several lines: for `format_query`.
pub fn format(text: &str, options: &PromqlOptions) -> Result<String, QueryTextError> {
    parse(text, options).map(|expr| prettify::pretty(&expr, prettify::WIDTH))
}
