//! Duration expressions: `[5m * 2]`, `offset -(step() / 2)`: parsing and computing them.
//!
//! They calculate in seconds. Literals alone are durations; anything else is kept as an expression and
//! computed by [`evaluate`] when it is bound to a plan, where the query's step and range are known.

use super::ast::{Duration, DurationExpr, DurationKind, Operator};
use super::errors::Fault;
use super::limits::DURATION_DEPTH;
use super::number::{out_of_range, to_nanos};
use super::parser::Parser;
use super::selectors::{DURATIONS, checked_seconds};
use super::token::{Tok, Word};
use engine::plan::Span;

/// Binding strength of the unary operators.
const UNARY: u8 = 6;

/// Where a duration stands: what error texts say about it.
#[derive(Copy, Clone)]
struct Place<'a> {
    context: &'a str,
    expected: &'a str,
}

impl Parser<'_> {
    /// A range or a step: an expression, which must be above zero if it is a literal.
    pub(crate) fn positive_duration(&mut self, context: &str, expected: &str) -> Result<Duration, Fault> {
        let expr = self.duration_expr(0, Place { context, expected })?;
        match expr.kind {
            DurationKind::Number { value, .. } if !expr.parens => {
                if value <= 0.0 {
                    return Err(not_positive(expr.span));
                }
                Ok(Duration::Fixed(to_nanos(value)))
            }
            _ => Ok(Duration::Computed(Box::new(expr))),
        }
    }

    /// An offset: a literal, a function or something in parentheses, with an optional sign; or arithmetic that begins with a
    /// parenthesis.
    pub(crate) fn offset_duration(&mut self) -> Result<Duration, Fault> {
        let place = Place { context: "offset", expected: DURATIONS };
        let start = self.token.span.start;
        let sign = self.token.kind;
        let expr = if matches!(sign, Tok::Op(Operator::Add | Operator::Sub)) {
            self.take();
            let operand = self.duration_operand(place)?;
            self.signed(sign == Tok::Op(Operator::Sub), operand, start)?
        } else if sign == Tok::LeftParen {
            // As upstream's grammar has it, arithmetic behind the parenthesis belongs to the offset.
            self.duration_expr(0, place)?
        } else {
            self.duration_operand(place)?
        };
        Ok(match expr.kind {
            DurationKind::Number { value, .. } if !expr.parens => Duration::Fixed(to_nanos(value)),
            _ => Duration::Computed(Box::new(expr)),
        })
    }

    fn duration_expr(&mut self, min: u8, place: Place) -> Result<DurationExpr, Fault> {
        self.duration_nesting += 1;
        if self.duration_nesting > DURATION_DEPTH {
            return Err(too_deep(self.token.span));
        }
        let start = self.token.span.start;
        let mut left = match self.token.kind {
            Tok::Op(op @ (Operator::Add | Operator::Sub)) => {
                self.take();
                let operand = self.duration_expr(UNARY, place)?;
                self.signed(op == Operator::Sub, operand, start)?
            }
            _ => self.duration_operand(place)?,
        };
        while let Tok::Op(op) = self.token.kind {
            use Operator::*;
            if !matches!(op, Add | Sub | Mul | Div | Mod | Pow) || op.precedence() < min {
                break;
            }
            let op_span = self.take().span;
            let right =
                self.duration_expr(if op == Pow { op.precedence() } else { op.precedence() + 1 }, place)?;
            left = duration_binary(op, op_span, left, right)?;
        }
        self.duration_nesting -= 1;
        Ok(left)
    }

    /// `operand` with a sign in front; a plus says nothing, a number takes its minus into itself.
    fn signed(&self, minus: bool, mut operand: DurationExpr, start: u32) -> Result<DurationExpr, Fault> {
        let span = Span { start, end: operand.span.end };
        match &mut operand.kind {
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

    fn duration_operand(&mut self, place: Place) -> Result<DurationExpr, Fault> {
        match self.token.kind {
            Tok::LeftParen => self.duration_paren(place),
            Tok::Word(word @ (Word::MinOf | Word::MaxOf)) => self.smaller_or_larger(word, place),
            _ => self.duration_leaf(place),
        }
    }

    fn duration_leaf(&mut self, place: Place) -> Result<DurationExpr, Fault> {
        let span = self.token.span;
        match self.token.kind {
            Tok::Number | Tok::Duration => {
                let (value, duration) = self.number()?;
                let value = checked_seconds(value, span)?;
                duration_node(DurationKind::Number { value, duration }, span, 0)
            }
            Tok::Word(word @ (Word::Step | Word::Range)) => {
                self.take();
                self.require(Tok::LeftParen, place)?;
                self.require(Tok::RightParen, place)?;
                let kind = if word == Word::Step { DurationKind::Step } else { DurationKind::Range };
                duration_node(kind, self.since(span.start), 0)
            }
            _ => Err(self.unexpected(place.context, place.expected)),
        }
    }

    fn duration_paren(&mut self, place: Place) -> Result<DurationExpr, Fault> {
        let start = self.take().span.start;
        let mut inner = self.duration_expr(0, place)?;
        self.require(Tok::RightParen, place)?;
        (inner.parens, inner.span) = (true, self.since(start));
        Ok(inner)
    }

    fn smaller_or_larger(&mut self, word: Word, place: Place) -> Result<DurationExpr, Fault> {
        let start = self.take().span.start;
        self.require(Tok::LeftParen, place)?;
        let first = Box::new(self.duration_expr(0, place)?);
        self.require(Tok::Comma, place)?;
        let second = Box::new(self.duration_expr(0, place)?);
        self.require(Tok::RightParen, place)?;
        let depth = first.depth.max(second.depth);
        let kind = match word {
            Word::MinOf => DurationKind::MinOf(first, second),
            _ => DurationKind::MaxOf(first, second),
        };
        duration_node(kind, self.since(start), depth)
    }

    fn require(&mut self, kind: Tok, place: Place) -> Result<(), Fault> {
        if self.accept(kind) { Ok(()) } else { Err(self.unexpected(place.context, place.expected)) }
    }
}

fn duration_binary(
    op: Operator,
    op_span: Span,
    left: DurationExpr,
    right: DurationExpr,
) -> Result<DurationExpr, Fault> {
    let zero = matches!(right.kind, DurationKind::Number { value, .. } if value == 0.0) && !right.parens;
    match op {
        Operator::Div if zero => return Err(Fault::new(op_span, "division by zero")),
        Operator::Mod if zero => return Err(Fault::new(op_span, "modulo by zero")),
        _ => {}
    }
    let span = Span { start: left.span.start, end: right.span.end };
    let depth = left.depth.max(right.depth);
    duration_node(DurationKind::Binary(op, Box::new(left), Box::new(right)), span, depth)
}

fn duration_node(kind: DurationKind, span: Span, depth: u16) -> Result<DurationExpr, Fault> {
    if depth >= DURATION_DEPTH {
        return Err(too_deep(span));
    }
    Ok(DurationExpr { kind, span, parens: false, depth: depth + 1 })
}

fn too_deep(span: Span) -> Fault {
    Fault::new(span, format!("duration is nested too deeply: the limit is {DURATION_DEPTH} levels"))
}

fn not_positive(span: Span) -> Fault {
    Fault::new(span, "duration must be greater than 0")
}

/// What `step()` and `range()` stand for, in seconds: of rules and instant queries both are 0.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    pub(crate) step: f64,
    pub(crate) range: f64,
}

/// The milliseconds of a duration; `positive`: it must be above zero.
pub(crate) fn milliseconds(duration: &Duration, positive: bool, known: Known) -> Result<i64, Fault> {
    let expr = match duration {
        Duration::Fixed(nanos) => return Ok(nanos / 1_000_000),
        Duration::Computed(expr) => expr,
    };
    let seconds = evaluate(expr, known)?;
    if positive && seconds <= 0.0 {
        return Err(not_positive(expr.span));
    }
    if out_of_range(seconds) {
        return Err(Fault::new(expr.span, "duration out of range"));
    }
    Ok((seconds * 1000.0) as i64)
}

/// The seconds that `expr` comes to.
fn evaluate(expr: &DurationExpr, known: Known) -> Result<f64, Fault> {
    Ok(match &expr.kind {
        DurationKind::Number { value, .. } => *value,
        DurationKind::Step => known.step,
        DurationKind::Range => known.range,
        DurationKind::Negate(inner) => -evaluate(inner, known)?,
        DurationKind::MinOf(a, b) => evaluate(a, known)?.min(evaluate(b, known)?),
        DurationKind::MaxOf(a, b) => evaluate(a, known)?.max(evaluate(b, known)?),
        DurationKind::Binary(op, a, b) => {
            let (a, b) = (evaluate(a, known)?, evaluate(b, known)?);
            match op {
                Operator::Add => a + b,
                Operator::Sub => a - b,
                Operator::Mul => a * b,
                Operator::Div if b == 0.0 => return Err(Fault::new(expr.span, "division by zero")),
                Operator::Div => a / b,
                Operator::Mod if b == 0.0 => return Err(Fault::new(expr.span, "modulo by zero")),
                Operator::Mod => a % b,
                _ => a.powf(b),
            }
        }
    })
}
