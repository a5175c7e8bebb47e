//! PromQL: text into plans.
//!
//! [`lexer`] → [`parser`] → [`typecheck`] → [`bind`]. Syntax, error texts and their positions are those of
//! Prometheus 3.14, because clients show them; the syntax tree ([`ast`]) has a span on every node.

pub mod ast;
mod bind;
mod duration;
mod errors;
pub mod json;
mod lexer;
pub mod limits;
mod number;
mod parser;
pub mod prettify;
pub mod printer;
mod quoting;
mod selectors;
pub mod series;
mod token;
mod typecheck;

pub use errors::{ParseError, position};
pub use typecheck::Signature;

use ast::Expr;
use engine::plan::Plan;
use storage::model::{Matcher, TimeMs};

/// What is allowed, and what is known about the query.
#[derive(Copy, Clone, Debug)]
pub struct Options {
    /// The signatures of functions; by default those of the engine's table.
    pub functions: fn(&str) -> Option<Signature>,
    /// `--enable-feature=promql-experimental-functions`
    pub experimental_functions: bool,
    /// `--enable-feature=promql-extended-range-selectors`
    pub extended_range_selectors: bool,
    /// `--enable-feature=promql-binop-fill-modifiers`
    pub fill_modifiers: bool,
    /// The times the query is asked for, if known: `step()`, `range()`, `start()` and `end()` become numbers.
    pub range: Option<QueryRange>,
}

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

impl QueryRange {
    /// The milliseconds that the call of a function without arguments stands for.
    fn value_of(&self, function: &str) -> Option<i64> {
        Some(match function {
            "start" => self.start,
            "end" => self.end,
            "range" => self.end - self.start,
            "step" => self.step,
            _ => return None,
        })
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            functions: table_signature,
            experimental_functions: false,
            extended_range_selectors: false,
            fill_modifiers: false,
            range: None,
        }
    }
}

impl Options {
    /// Everything allowed.
    pub fn all() -> Options {
        Options {
            experimental_functions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
            ..Options::default()
        }
    }
}

/// The signature of a function of the engine's table.
pub fn table_signature(name: &str) -> Option<Signature> {
    engine::functions::lookup(name).map(|f| Signature {
        args: f.args,
        optional: f.optional,
        repeat: f.repeat,
        returns: f.returns,
        experimental: f.experimental,
    })
}

/// The plan of a query.
pub fn compile(text: &str, options: &Options) -> Result<Plan, ParseError> {
    let expr = parse(text, options)?;
    bind::bind(&expr, options).map_err(|fault| fault.locate(text))
}

/// The type-checked syntax tree of a query.
pub fn parse(text: &str, options: &Options) -> Result<Expr, ParseError> {
    let parse = || {
        let expr = parser::parse_expression(text, options)?;
        typecheck::check(&expr, text, options)?;
        Ok(expr)
    };
    parse().map_err(|fault: errors::Fault| fault.locate(text))
}

/// The matchers of a lone selector such as `up{job="a"}`: of `match[]`. They may all match the empty string;
/// whether that is allowed is the caller's rule.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let parse = || {
        let (selector, span) = parser::parse_metric_selector(text, &Options::default())?;
        typecheck::check_selector(&selector, span, true)?;
        Ok(bind::matchers(&selector))
    };
    parse().map_err(|fault: errors::Fault| fault.locate(text))
}

/// A query, printed over several lines where it is long: of `format_query`.
pub fn format(text: &str, options: &Options) -> Result<String, ParseError> {
    parse(text, options).map(|expr| prettify::pretty(&expr, prettify::WIDTH))
}
