//! Duration expressions such as `[5m * 2]` and `offset -(step() / 2)`: parsing and evaluation.
//!
//! They calculate in seconds. A literal becomes a fixed duration. Any other expression is kept and
//! evaluated by [`evaluate`] when it is bound to a plan, because only then the query's step and
//! range are known.

use super::ast::{BinaryOperator, DurationArgument, DurationExpr, DurationKind};
use super::errors::SpannedError;
use super::limits::DURATION_DEPTH;
use super::number::{out_of_range, to_nanos};
use super::parser::PromqlParser;
use super::selectors::{DURATIONS, checked_seconds};
use super::token::{Keyword, TokenKind};
use engine::plan::Span;

/// The binding strength of the unary operators.
const UNARY: u8 = 6;

/// The construct that a duration belongs to, for error texts.
#[derive(Copy, Clone)]
struct DurationContext<'a> {
    context: &'a str,
    expected: &'a str,
}

impl PromqlParser<'_> {
    /// A range or a step: an expression; a literal must be above zero.
    pub(crate) fn positive_duration(
        &mut self,
        context: &str,
        expected: &str,
    ) -> Result<DurationArgument, SpannedError> {
        let expr = self.duration_expr(0, DurationContext { context, expected })?;
        match expr.kind {
            // Parentheses make an expression even of one number, as in Prometheus: it is printed
            // with them again.
            DurationKind::Number { value, .. } if !expr.parens => {
                // Only literals are checked here; an expression may depend on the step and is
                // checked when it is bound.
                if value <= 0.0 {
                    return Err(not_positive(expr.span));
                }
                Ok(DurationArgument::Fixed(to_nanos(value)))
            }
            _ => Ok(DurationArgument::Computed(Box::new(expr))),
        }
    }

    /// An offset: a literal, a function or an expression in parentheses, with an optional sign; or
    /// arithmetic that begins with a parenthesis.
    pub(crate) fn offset_duration(&mut self) -> Result<DurationArgument, SpannedError> {
        let place = DurationContext { context: "offset", expected: DURATIONS };
        let start = self.token.span.start;
        let sign = self.token.kind;
        // After an offset, `- 5` would be ambiguous: `up offset 1m - 5` subtracts from the value.
        // So a sign takes only the next operand.
        let expr = if matches!(sign, TokenKind::Op(BinaryOperator::Add | BinaryOperator::Sub)) {
            self.take();
            let operand = self.duration_operand(place)?;
            self.signed(sign == TokenKind::Op(BinaryOperator::Sub), operand, start)?
        } else if sign == TokenKind::LeftParen {
            // As in Prometheus' grammar, arithmetic after the parenthesis belongs to the offset.
            self.duration_expr(0, place)?
        } else {
            self.duration_operand(place)?
        };
        Ok(match expr.kind {
            DurationKind::Number { value, .. } if !expr.parens => DurationArgument::Fixed(to_nanos(value)),
            _ => DurationArgument::Computed(Box::new(expr)),
        })
    }

    fn duration_expr(&mut self, min: u8, place: DurationContext) -> Result<DurationExpr, SpannedError> {
        // Counted while parsing and not only in the finished node: the depth of the stack is what
        // must be limited.
        self.duration_nesting += 1;
        if self.duration_nesting > DURATION_DEPTH {
            return Err(too_deep(self.token.span));
        }
        let start = self.token.span.start;
        let mut left = match self.token.kind {
            TokenKind::Op(op @ (BinaryOperator::Add | BinaryOperator::Sub)) => {
                self.take();
                let operand = self.duration_expr(UNARY, place)?;
                self.signed(op == BinaryOperator::Sub, operand, start)?
            }
            _ => self.duration_operand(place)?,
        };
        while let TokenKind::Op(op) = self.token.kind {
            use BinaryOperator::*;
            // Comparisons and set operators end the duration; they belong to the query around it.
            if !matches!(op, Add | Sub | Mul | Div | Mod | Pow) || op.precedence() < min {
                break;
            }
            let op_span = self.take().span;
            let right =
                // Only the power is right-associative, as in queries.
                self.duration_expr(if op == Pow { op.precedence() } else { op.precedence() + 1 }, place)?;
            left = duration_binary(op, op_span, left, right)?;
        }
        self.duration_nesting -= 1;
        Ok(left)
    }

    /// `operand` with a sign. A plus is dropped, a number takes the minus.
    fn signed(
        &self,
        minus: bool,
        mut operand: DurationExpr,
        start: u32,
    ) -> Result<DurationExpr, SpannedError> {
        let span = Span { start, end: operand.span.end };
        match &mut operand.kind {
            // A negative literal stays one literal, so that `offset -5m` is fixed and printed as it
            // was written.
            DurationKind::Number { value, .. } if !operand.parens => {
                *value = if minus { -*value } else { *value };
                operand.span = span;
                Ok(operand)
            }
            _ if minus => {
                let depth = operand.depth;
                duration_node(DurationKind::Negate(Box::new(operand)), span, depth)
            }
            _ => Ok(operand),
        }
    }

    fn duration_operand(&mut self, place: DurationContext) -> Result<DurationExpr, SpannedError> {
        match self.token.kind {
            TokenKind::LeftParen => self.duration_paren(place),
            TokenKind::Word(word @ (Keyword::MinOf | Keyword::MaxOf)) => self.smaller_or_larger(word, place),
            _ => self.duration_leaf(place),
        }
    }

    fn duration_leaf(&mut self, place: DurationContext) -> Result<DurationExpr, SpannedError> {
        let span = self.token.span;
        match self.token.kind {
            TokenKind::Number | TokenKind::Duration => {
                let (value, duration) = self.number()?;
                // Go's durations hold 292 years; larger literals are errors in Prometheus, not
                // clamped.
                let value = checked_seconds(value, span)?;
                duration_node(DurationKind::Number { value, duration }, span, 0)
            }
            TokenKind::Word(word @ (Keyword::Step | Keyword::Range)) => {
                self.take();
                self.require(TokenKind::LeftParen, place)?;
                self.require(TokenKind::RightParen, place)?;
                let kind = if word == Keyword::Step { DurationKind::Step } else { DurationKind::Range };
                duration_node(kind, self.since(span.start), 0)
            }
            _ => Err(self.unexpected(place.context, place.expected)),
        }
    }

    fn duration_paren(&mut self, place: DurationContext) -> Result<DurationExpr, SpannedError> {
        let start = self.take().span.start;
        let mut inner = self.duration_expr(0, place)?;
        self.require(TokenKind::RightParen, place)?;
        inner.parens = true;
        inner.span = self.since(start);
        Ok(inner)
    }

    fn smaller_or_larger(
        &mut self,
        word: Keyword,
        place: DurationContext,
    ) -> Result<DurationExpr, SpannedError> {
        let start = self.take().span.start;
        self.require(TokenKind::LeftParen, place)?;
        let first = Box::new(self.duration_expr(0, place)?);
        self.require(TokenKind::Comma, place)?;
        let second = Box::new(self.duration_expr(0, place)?);
        self.require(TokenKind::RightParen, place)?;
        let depth = first.depth.max(second.depth);
        let kind = match word {
            Keyword::MinOf => DurationKind::MinOf(first, second),
            _ => DurationKind::MaxOf(first, second),
        };
        duration_node(kind, self.since(start), depth)
    }

    fn require(&mut self, kind: TokenKind, place: DurationContext) -> Result<(), SpannedError> {
        if self.accept(kind) { Ok(()) } else { Err(self.unexpected(place.context, place.expected)) }
    }
}

fn duration_binary(
    op: BinaryOperator,
    op_span: Span,
    left: DurationExpr,
    right: DurationExpr,
) -> Result<DurationExpr, SpannedError> {
    // Only a literal zero can be reported at its place; `5m / (1 - 1)` becomes an error when it is
    // evaluated.
    let zero = matches!(right.kind, DurationKind::Number { value, .. } if value == 0.0) && !right.parens;
    match op {
        BinaryOperator::Div if zero => return Err(SpannedError::new(op_span, "division by zero")),
        BinaryOperator::Mod if zero => return Err(SpannedError::new(op_span, "modulo by zero")),
        _ => {}
    }
    let span = Span { start: left.span.start, end: right.span.end };
    let depth = left.depth.max(right.depth);
    duration_node(DurationKind::Binary(op, Box::new(left), Box::new(right)), span, depth)
}

fn duration_node(kind: DurationKind, span: Span, depth: u16) -> Result<DurationExpr, SpannedError> {
    // A long chain of operators is deep on its left side although the parser did not recurse for
    // it.
    if depth >= DURATION_DEPTH {
        return Err(too_deep(span));
    }
    Ok(DurationExpr { kind, span, parens: false, depth: depth + 1 })
}

fn too_deep(span: Span) -> SpannedError {
    SpannedError::new(span, format!("duration is nested too deeply: the limit is {DURATION_DEPTH} levels"))
}

fn not_positive(span: Span) -> SpannedError {
    SpannedError::new(span, "duration must be greater than 0")
}

/// The values of `step()` and `range()`, in s; both are 0 in rules and instant queries.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(crate) struct QueryTimes {
    pub(crate) step: f64,
    pub(crate) range: f64,
}

/// A duration in ms; if `positive`, it must be above zero.
pub(crate) fn milliseconds(
    duration: &DurationArgument,
    positive: bool,
    query_times: QueryTimes,
) -> Result<i64, SpannedError> {
    let expr = match duration {
        DurationArgument::Fixed(nanos) => return Ok(nanos / 1_000_000),
        DurationArgument::Computed(expr) => expr,
    };
    let seconds = evaluate(expr, query_times)?;
    if positive && seconds <= 0.0 {
        return Err(not_positive(expr.span));
    }
    if out_of_range(seconds) {
        return Err(SpannedError::new(expr.span, "duration out of range"));
    }
    Ok((seconds * 1000.0) as i64)
}

/// The value of `expr`, in s.
fn evaluate(expr: &DurationExpr, known: QueryTimes) -> Result<f64, SpannedError> {
    Ok(match &expr.kind {
        DurationKind::Number { value, .. } => *value,
        DurationKind::Step => known.step,
        DurationKind::Range => known.range,
        DurationKind::Negate(inner) => -evaluate(inner, known)?,
        DurationKind::MinOf(a, b) => evaluate(a, known)?.min(evaluate(b, known)?),
        DurationKind::MaxOf(a, b) => evaluate(a, known)?.max(evaluate(b, known)?),
        DurationKind::Binary(op, a, b) => {
            let a = evaluate(a, known)?;
            let b = evaluate(b, known)?;
            match op {
                BinaryOperator::Add => a + b,
                BinaryOperator::Sub => a - b,
                BinaryOperator::Mul => a * b,
                BinaryOperator::Div if b == 0.0 => {
                    return Err(SpannedError::new(expr.span, "division by zero"));
                }
                BinaryOperator::Div => a / b,
                BinaryOperator::Mod if b == 0.0 => {
                    return Err(SpannedError::new(expr.span, "modulo by zero"));
                }
                BinaryOperator::Mod => a % b,
                _ => a.powf(b),
            }
        }
    })
}
