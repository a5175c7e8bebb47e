//! The type checker: rules that the grammar cannot express, in Prometheus' order and with its error
//! texts.
//!
//! It runs only on queries that parse, and stops at the first error.

use super::PromqlOptions;
use super::ast::{AggregateExpr, BinaryExpr, Expr, ExprKind, VectorSelector};
use super::errors::SpannedError;
use super::lexer::is_space;
use super::quoting::quote;
use engine::plan::{AggregateOp, Cardinality, Span, ValueType};
use std::collections::HashSet;
use storage::model::labels::METRIC_NAME;

/// The parameters and the result type of a function.
#[derive(Copy, Clone, Debug)]
pub struct Signature {
    /// The types of the parameters.
    pub args: &'static [ValueType],
    /// How many of the last parameters are optional.
    pub optional: usize,
    /// How often the last parameter may be repeated beyond `args`.
    pub repeat: usize,
    /// The type of the result.
    pub returns: ValueType,
    /// Whether it needs [`PromqlOptions::experimental_functions`].
    pub experimental: bool,
}

/// Checks `expr`, parsed from `text`; returns its type.
pub(crate) fn check(expr: &Expr, text: &str, options: &PromqlOptions) -> Result<ValueType, SpannedError> {
    Checker { text, options }.expr(expr)
}

struct Checker<'a> {
    text: &'a str,
    options: &'a PromqlOptions,
}

impl Checker<'_> {
    fn expr(&self, expr: &Expr) -> Result<ValueType, SpannedError> {
        let fault = |text: String| Err(SpannedError::new(expr.span, text));
        match &*expr.kind {
            ExprKind::Number { .. } => Ok(ValueType::Scalar),
            ExprKind::Text(_) => Ok(ValueType::Text),
            ExprKind::Paren(inner) => self.expr(inner),
            ExprKind::Vector(selector) => {
                check_selector(selector, expr.span, false)?;
                Ok(ValueType::Vector)
            }
            ExprKind::Matrix { selector, selector_span, .. } => {
                // The span without the brackets, which is what Prometheus marks.
                check_selector(selector, *selector_span, false)?;
                Ok(ValueType::Matrix)
            }
            // A range vector has its steps already, and a scalar would need `vector()`.
            ExprKind::Subquery { inner, .. } => match self.expr(inner)? {
                ValueType::Vector => Ok(ValueType::Matrix),
                other => {
                    let got = short_name(other);
                    fault(format!("subquery is only allowed on instant vector, got {got} instead"))
                }
            },
            ExprKind::Unary { inner, .. } => match self.expr(inner)? {
                kind @ (ValueType::Scalar | ValueType::Vector) => Ok(kind),
                other => fault(format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got \"{}\"",
                    long_name(other)
                )),
            },
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate),
            ExprKind::Call { function, args } => self.call(function, args, expr.span),
            ExprKind::Binary(binary) => self.binary(binary, expr.span),
        }
    }

    fn expect(&self, expr: &Expr, wanted: ValueType, context: &str) -> Result<(), SpannedError> {
        let got = self.expr(expr)?;
        if got == wanted {
            return Ok(());
        }
        let wanted = long_name(wanted);
        let got = long_name(got);
        Err(SpannedError::new(expr.span, format!("expected type {wanted} in {context}, got {got}")))
    }

    fn aggregate(&self, aggregate: &AggregateExpr) -> Result<ValueType, SpannedError> {
        self.expect(&aggregate.inner, ValueType::Vector, "aggregation expression")?;
        if let Some(param) = &aggregate.param {
            let wanted =
                // The label that gets the value; all other parameters are numbers.
                if aggregate.op == AggregateOp::CountValues { ValueType::Text } else { ValueType::Scalar };
            self.expect(param, wanted, "aggregation parameter")?;
        }
        Ok(ValueType::Vector)
    }

    fn call(&self, function: &str, args: &[Expr], span: Span) -> Result<ValueType, SpannedError> {
        let name = quote(function);
        let Some(signature) = (self.options.functions)(function) else {
            return Err(SpannedError::new(span, format!("unknown function with name {name}")));
        };
        // Before the types, so that a forgotten argument is not reported as a wrong type of the
        // next one.
        check_count(&signature, &name, args.len(), span)?;
        let label_selectors = function == "info";
        if label_selectors && args.len() > 1 {
            check_label_selectors(&args[1])?;
        }
        for (i, arg) in args.iter().enumerate() {
            // Repeated arguments have the type of the last parameter.
            let Some(wanted) = signature.args.get(i).or(signature.args.last()) else { break };
            match (&*arg.kind, label_selectors && i == 1) {
                (ExprKind::Vector(selector), true) => check_selector(selector, arg.span, true)?,
                _ => self.expect(arg, *wanted, &format!("call to function {name}"))?,
            }
        }
        Ok(signature.returns)
    }

    fn binary(&self, binary: &BinaryExpr, span: Span) -> Result<ValueType, SpannedError> {
        let BinaryExpr { op, modifiers, lhs, rhs } = binary;
        // Both operands first: as in Prometheus, an error inside one comes before what is wrong
        // with the operator.
        let left = self.expr(lhs)?;
        let right = self.expr(rhs)?;
        let at_operator = |text: String| Err(SpannedError::new(self.operator_span(lhs, rhs), text));
        let fault = |text: String| Err(SpannedError::new(span, text));
        let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
        // The order of these checks decides which of several mistakes is reported; it is that of
        // Prometheus.
        if modifiers.return_bool && !op.is_comparison() {
            return at_operator("bool modifier can only be used on comparison operators".to_owned());
        }
        // A filter needs something to drop; between two numbers there is only a truth value.
        if op.is_comparison() && !modifiers.return_bool && scalars {
            return at_operator("comparisons between scalars must use BOOL modifier".to_owned());
        }
        if modifiers.on
            && let Some(label) = first_of_both(&modifiers.labels, &modifiers.include)
        {
            return at_operator(format!(
                "label {} must not occur in ON and GROUP clause at once",
                quote(label)
            ));
        }
        for (kind, operand) in [(left, lhs), (right, rhs)] {
            if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
                let text = "binary expression must contain only scalar and instant vector types";
                return Err(SpannedError::new(operand.span, text));
            }
        }
        let vectors = left == ValueType::Vector && right == ValueType::Vector;
        let filled = modifiers.fill_left.is_some() || modifiers.fill_right.is_some();
        // By the labels and not by `on`: Prometheus accepts `on ()` between a vector and a scalar.
        if !vectors && !modifiers.labels.is_empty() {
            return fault("vector matching only allowed between instant vectors".to_owned());
        }
        if !vectors && filled {
            return fault("filling in missing series only allowed between instant vectors".to_owned());
        }
        // Set operators match many to many by themselves.
        if vectors && op.is_set() && modifiers.cardinality != Cardinality::OneToOne {
            return fault(format!("no grouping allowed for \"{}\" operation", op.as_str()));
        }
        if vectors && op.is_set() && filled {
            return fault("filling in missing series not allowed for set operators".to_owned());
        }
        if !vectors && op.is_set() {
            return fault(format!(
                "set operator \"{}\" not allowed in binary scalar expression",
                op.as_str()
            ));
        }
        // One vector is enough: the scalar is applied to each of its series.
        Ok(if scalars { ValueType::Scalar } else { ValueType::Vector })
    }

    /// The span of the operator with its modifiers, without surrounding space, as Prometheus marks
    /// it.
    fn operator_span(&self, lhs: &Expr, rhs: &Expr) -> Span {
        let bytes = self.text.as_bytes();
        let space = |at: u32| bytes.get(at as usize).is_some_and(|b| is_space(char::from(*b)));
        let mut start = lhs.span.end;
        // Before the right operand, not at its first byte.
        let mut end = rhs.span.start.saturating_sub(1);
        while space(start) {
            start += 1;
        }
        while end > start && space(end) {
            end -= 1;
        }
        Span { start, end }
    }
}

/// The first of `labels` that is also in `others`. Linear, because both may have thousands.
fn first_of_both<'a>(labels: &'a [String], others: &[String]) -> Option<&'a String> {
    let others: HashSet<&String> = others.iter().collect();
    labels.iter().find(|label| others.contains(label))
}

fn check_count(signature: &Signature, name: &str, given: usize, span: Span) -> Result<(), SpannedError> {
    let params = signature.args.len();
    // Saturating, because the table may say that all are optional.
    let least = params.saturating_sub(signature.optional);
    let most = params.saturating_add(signature.repeat);
    // Three texts, as in Prometheus: an exact number, or the bound that was missed.
    let wanted = match (least == most, given) {
        (true, given) if given != least => format!("{least}"),
        (false, given) if given < least => format!("at least {least}"),
        (false, given) if given > most => format!("at most {most}"),
        _ => return Ok(()),
    };
    Err(SpannedError::new(span, format!("expected {wanted} argument(s) in call to {name}, got {given}")))
}

/// The second parameter of `info` is a bare `{…}`, which may match every series.
fn check_label_selectors(arg: &Expr) -> Result<(), SpannedError> {
    match &*arg.kind {
        ExprKind::Vector(VectorSelector { name: None, .. }) => Ok(()),
        ExprKind::Vector(_) => {
            Err(SpannedError::new(arg.span, "expected label selectors only, got vector selector instead"))
        }
        _ => Err(SpannedError::new(arg.span, "expected label selectors only")),
    }
}

/// A selector must name its metric only once, and must not match every series unless
/// `may_match_all`.
pub(crate) fn check_selector(
    selector: &VectorSelector,
    span: Span,
    may_match_all: bool,
) -> Result<(), SpannedError> {
    // A name is a matcher that is not empty, so the check below is not needed then.
    if let Some(name) = &selector.name {
        return match selector.matchers.iter().find(|m| m.name == METRIC_NAME) {
            Some(other) => Err(SpannedError::new(
                span,
                format!("metric name must not be set twice: {} or {}", quote(name), quote(&other.value)),
            )),
            None => Ok(()),
        };
    }
    // `{a=~".*"}` would read every series of the server. Where that is meant (`match[]`), the
    // caller allows it.
    if !may_match_all && selector.matchers.iter().all(|m| m.matches_empty()) {
        return Err(SpannedError::new(span, "vector selector must contain at least one non-empty matcher"));
    }
    Ok(())
}

/// The name of a type in documentation.
fn long_name(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "instant vector",
        ValueType::Matrix => "range vector",
        ValueType::Text => "string",
    }
}

/// The name of a type in the API.
fn short_name(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::Text => "string",
    }
}
