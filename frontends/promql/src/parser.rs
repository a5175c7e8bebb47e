//! The parser: builds the syntax tree from tokens by precedence climbing (Pratt parsing).
//!
//! It stops at the first error. Error texts name the construct that is being parsed, as Prometheus'
//! grammar does; inside the parentheses of an aggregation that is "aggregation", unless an inner
//! construct has its own name. Selectors and their modifiers are in [`super::selectors`], durations
//! in [`super::duration`].

use super::PromqlOptions;
use super::ast::{
    AggregateExpr, BinaryExpr, BinaryOperator, Expr, ExprKind, MatchingModifiers, TimeModifiers,
    VectorSelector,
};
use super::errors::{LiteralError, SpannedError};
use super::lexer::Lexer;
use super::limits::DEPTH;
use super::number::{parse_duration, parse_number};
use super::quoting::{quote, unquote};
use super::token::{Keyword, Token, TokenKind};
use engine::plan::{AggregateOp, Cardinality, Span};
use engine::types::go_text::is_utf8;
use language::limits::QUERY_BYTES;
use storage::model::Matcher;

/// The binding strength of the unary operators.
const UNARY: u8 = 6;

/// The state of a parse.
pub(crate) struct PromqlParser<'a> {
    pub(crate) text: &'a str,
    pub(crate) token: Token,
    pub(crate) options: &'a PromqlOptions,
    lexer: Lexer<'a>,
    /// The end of the last token that was taken.
    last_end: u32,
    nesting: u16,
    pub(crate) duration_nesting: u16,
    aggregations: u16,
    /// The number of regular expressions so far.
    pub(crate) regexes: u16,
}

/// Parses a query, without type check.
pub(crate) fn parse_expression(text: &str, options: &PromqlOptions) -> Result<Expr, SpannedError> {
    let mut parser = PromqlParser::new(text, options)?;
    // An empty query has a text of its own, which clients compare.
    if parser.token.kind == TokenKind::Eof {
        return Err(SpannedError::new(Span::default(), "no expression found in input"));
    }
    let expr = parser.expr(0)?;
    parser.end()?;
    Ok(expr)
}

/// Parses a single instant selector without modifiers.
pub(crate) fn parse_metric_selector(
    text: &str,
    options: &PromqlOptions,
) -> Result<(VectorSelector, Span), SpannedError> {
    let mut parser = PromqlParser::new(text, options)?;
    let start = parser.token.span.start;
    let selector = parser.metric_selector()?;
    let span = parser.since(start);
    parser.end()?;
    Ok((selector, span))
}

/// Parses the metric at the beginning of a series description: its name, its labels as matchers,
/// and its end.
pub(crate) fn parse_metric(
    text: &str,
    options: &PromqlOptions,
) -> Result<(Option<String>, Vec<Matcher>, u32), SpannedError> {
    let mut parser = PromqlParser::new(text, options)?;
    let name = parser.metric_name()?;
    // Braces after a space belong to the values: they begin a histogram.
    let labels = name.is_none() || parser.token.span.start == parser.last_end;
    let labels = labels && parser.token.kind == TokenKind::LeftBrace;
    let matchers = if labels { parser.matchers()? } else { Vec::new() };
    Ok((name, matchers, parser.last_end))
}

impl<'a> PromqlParser<'a> {
    pub(crate) fn new(text: &'a str, options: &'a PromqlOptions) -> Result<PromqlParser<'a>, SpannedError> {
        // Before the first token: the lexer's positions are 32 bits wide.
        if text.len() > QUERY_BYTES {
            let why = format!("query is too long: {} bytes, the limit is {QUERY_BYTES}", text.len());
            return Err(SpannedError::new(Span::default(), why));
        }
        let mut lexer = Lexer::new(text);
        let token = lexer.next();
        Ok(PromqlParser {
            text,
            token,
            options,
            lexer,
            last_end: 0,
            nesting: 0,
            duration_nesting: 0,
            aggregations: 0,
            regexes: 0,
        })
    }

    // ---- tokens ----

    /// Takes the current token.
    pub(crate) fn take(&mut self) -> Token {
        let token = self.token;
        self.last_end = token.span.end;
        self.token = self.lexer.next();
        token
    }

    /// Takes the current token and returns its text.
    pub(crate) fn take_text(&mut self) -> String {
        let span = self.take().span;
        self.spelled(span).to_owned()
    }

    /// Takes the current token if it is of this kind.
    pub(crate) fn accept(&mut self, kind: TokenKind) -> bool {
        let hit = self.token.kind == kind;
        if hit {
            self.take();
        }
        hit
    }

    /// Takes a token of this kind; another kind is an error.
    pub(crate) fn expect(&mut self, kind: TokenKind) -> Result<Token, SpannedError> {
        if self.token.kind == kind { Ok(self.take()) } else { Err(self.unexpected("", "")) }
    }

    fn end(&mut self) -> Result<(), SpannedError> {
        self.expect(TokenKind::Eof).map(|_| ())
    }

    pub(crate) fn spelled(&self, span: Span) -> &'a str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// The span from `start` to the end of the last taken token.
    pub(crate) fn since(&self, start: u32) -> Span {
        Span { start, end: self.last_end }
    }

    /// The error that the current token is not allowed here; a lexer error has precedence.
    pub(crate) fn unexpected(&self, context: &str, expected: &str) -> SpannedError {
        // What the lexer could not read is more precise than that something else was expected here.
        if let Some(fault) = self.lexer.fault() {
            return fault.clone();
        }
        let mut text = format!("unexpected {}", self.token.kind.describe(self.spelled(self.token.span)));
        // Prometheus' grammar is in the state "aggregation" for everything inside its parentheses
        // that has no state of its own.
        let context = if context.is_empty() && self.aggregations > 0 { "aggregation" } else { context };
        if !context.is_empty() {
            text.push_str(" in ");
            text.push_str(context);
        }
        if !expected.is_empty() {
            text.push_str(", expected ");
            text.push_str(expected);
        }
        SpannedError::new(self.token.span, text)
    }

    // ---- nodes ----

    /// Makes a node above `depth` levels of operands.
    pub(crate) fn node(&self, kind: ExprKind, span: Span, depth: u16) -> Result<Expr, SpannedError> {
        // The depth of the tree, not only of the parser's stack: later passes recurse over the
        // tree.
        if depth >= DEPTH {
            return Err(too_deep(span));
        }
        Ok(Expr { kind: Box::new(kind), span, depth: depth + 1 })
    }

    // ---- expressions ----

    /// Parses an expression of operators that bind at least as strongly as `min`.
    pub(crate) fn expr(&mut self, min: u8) -> Result<Expr, SpannedError> {
        self.nesting += 1;
        if self.nesting > DEPTH {
            return Err(too_deep(self.token.span));
        }
        let mut left = self.operand()?;
        loop {
            // In the loop, because a subquery may follow an operator's result only in parentheses,
            // but an offset may follow a subquery.
            left = self.postfix(left)?;
            match self.token.kind {
                TokenKind::Op(op) if op.precedence() >= min => left = self.binary(left, op)?,
                _ => break,
            }
        }
        self.nesting -= 1;
        Ok(left)
    }

    // Each recursive case is a function of its own, which keeps the stack frames small.
    fn operand(&mut self) -> Result<Expr, SpannedError> {
        match self.token.kind {
            TokenKind::LeftParen => self.paren(),
            TokenKind::Op(op @ (BinaryOperator::Add | BinaryOperator::Sub)) => self.unary(op),
            // Names of aggregations are allowed as metric names, which only the next token tells
            // apart.
            TokenKind::Aggregator(op) => self.aggregate_or_metric(op),
            TokenKind::Number | TokenKind::Duration | TokenKind::Text => self.literal(),
            TokenKind::LeftBrace => self.vector_selector(None, self.token.span.start),
            // Most keywords are metric names where an operand is expected, as in Prometheus'
            // grammar.
            kind if kind.names_metric() => self.call_or_metric(),
            _ => Err(self.unexpected("", "")),
        }
    }

    fn literal(&mut self) -> Result<Expr, SpannedError> {
        let span = self.token.span;
        if self.token.kind == TokenKind::Text {
            self.take();
            return self.node(ExprKind::Text(unquote(self.spelled(span))), span, 0);
        }
        let (value, duration) = self.number()?;
        self.node(ExprKind::Number { value, duration }, span, 0)
    }

    fn paren(&mut self) -> Result<Expr, SpannedError> {
        let start = self.take().span.start;
        let inner = self.expr(0)?;
        self.expect(TokenKind::RightParen)?;
        let depth = inner.depth;
        self.node(ExprKind::Paren(inner), self.since(start), depth)
    }

    fn call_or_metric(&mut self) -> Result<Expr, SpannedError> {
        let Token { kind, span } = self.token;
        let name = self.take_text();
        // `MetricIdentifier` has a colon, and no function has.
        let callable = match kind {
            TokenKind::Word(word) => word.is_function(),
            kind => kind == TokenKind::Identifier,
        };
        if callable && self.token.kind == TokenKind::LeftParen {
            return self.call(name, span);
        }
        self.vector_selector(Some(name), span.start)
    }

    /// A number or duration literal: its value (a duration's in s), and whether it is a duration.
    pub(crate) fn number(&mut self) -> Result<(f64, bool), SpannedError> {
        let Token { kind, span } = self.take();
        let fault = |error: LiteralError| SpannedError::new(span, error.to_string());
        if kind == TokenKind::Duration {
            let ms = parse_duration(self.spelled(span)).map_err(fault)?;
            return Ok((ms as f64 / 1000.0, true));
        }
        Ok((parse_number(self.spelled(span)).map_err(fault)?, false))
    }

    /// A sign and its operand; a number takes the sign.
    fn unary(&mut self, op: BinaryOperator) -> Result<Expr, SpannedError> {
        let start = self.take().span.start;
        let minus = op == BinaryOperator::Sub;
        let mut inner = self.expr(UNARY)?;
        let span = Span { start, end: inner.span.end };
        if let ExprKind::Number { value, .. } = &mut *inner.kind {
            // Folded, so that `-1` is one literal: error texts and the printed form show it so.
            *value = if minus { -*value } else { *value };
            inner.span = span;
            return Ok(inner);
        }
        let depth = inner.depth;
        self.node(ExprKind::Unary { minus, inner }, span, depth)
    }

    fn call(&mut self, function: String, name_span: Span) -> Result<Expr, SpannedError> {
        let args = self.arguments()?;
        self.finish_call(function, name_span, args)
    }

    fn finish_call(&self, function: String, name_span: Span, args: Vec<Expr>) -> Result<Expr, SpannedError> {
        let Some(signature) = (self.options.functions)(&function) else {
            return Err(SpannedError::new(
                name_span,
                format!("unknown function with name {}", quote(&function)),
            ));
        };
        // After the unknown ones: who writes a function that exists must learn of the flag.
        if signature.experimental && !self.options.experimental_functions {
            return Err(SpannedError::new(
                name_span,
                format!("function {} is not enabled", quote(&function)),
            ));
        }
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0);
        self.node(ExprKind::Call { function, args }, self.since(name_span.start), depth)
    }

    /// Parses `(a, b, …)`; the current token is the parenthesis.
    fn arguments(&mut self) -> Result<Vec<Expr>, SpannedError> {
        self.expect(TokenKind::LeftParen)?;
        let mut args = Vec::new();
        if self.accept(TokenKind::RightParen) {
            return Ok(args);
        }
        loop {
            args.push(self.expr(0)?);
            // The comma is what Prometheus marks, so its span is kept until it proves to be the
            // last one.
            let comma = self.token.span;
            if !self.accept(TokenKind::Comma) {
                break;
            }
            if self.token.kind == TokenKind::RightParen {
                return Err(SpannedError::new(comma, "trailing commas not allowed in function call args"));
            }
        }
        self.expect(TokenKind::RightParen)?;
        Ok(args)
    }

    // ---- aggregations ----

    /// `sum(…)`, or a metric named `sum`.
    fn aggregate_or_metric(&mut self, op: AggregateOp) -> Result<Expr, SpannedError> {
        let start = self.token.span.start;
        let name = self.take_text();
        // Without these the name is a metric: `sum` alone is a selector.
        if !matches!(self.token.kind, TokenKind::LeftParen | TokenKind::Word(Keyword::By | Keyword::Without))
        {
            return self.vector_selector(Some(name), start);
        }
        // For error texts only; not decremented on errors, because parsing ends there.
        self.aggregations += 1;
        let before = self.grouping_clause()?;
        let args = self.arguments()?;
        self.aggregations -= 1;
        // `sum by (a) (x)` and `sum(x) by (a)` are both allowed, `by` twice is not.
        let clause = match before {
            Some(clause) => Some(clause),
            None => self.grouping_clause()?,
        };
        let (without, grouping) = clause.unwrap_or_default();
        self.aggregate(op, without, grouping, args, self.since(start))
    }

    /// `by (…)` or `without (…)`: whether it is `without`, and the labels.
    fn grouping_clause(&mut self) -> Result<Option<(bool, Vec<String>)>, SpannedError> {
        let without = match self.token.kind {
            TokenKind::Word(Keyword::By) => false,
            TokenKind::Word(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.take();
        Ok(Some((without, self.label_list()?)))
    }

    fn aggregate(
        &self,
        op: AggregateOp,
        without: bool,
        grouping: Vec<String>,
        mut args: Vec<Expr>,
        span: Span,
    ) -> Result<Expr, SpannedError> {
        use AggregateOp::*;
        let fault = |text: String| Err(SpannedError::new(span, text));
        let given = args.len();
        if given == 0 {
            return fault("no arguments for aggregate expression provided".to_owned());
        }
        if matches!(op, Limitk | LimitRatio) && !self.options.experimental_functions {
            return fault(format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.as_str()
            ));
        }
        let wanted =
            if matches!(op, Topk | Bottomk | Quantile | CountValues | Limitk | LimitRatio) { 2 } else { 1 };
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0);
        // From the end: the parameter comes first in the text, `topk(3, x)`.
        let (inner, param) = match (wanted == given, args.pop(), args.pop()) {
            (true, Some(inner), param) => (inner, param),
            _ => {
                let text = "wrong number of arguments for aggregate expression provided";
                return fault(format!("{text}, expected {wanted}, got {given}"));
            }
        };
        self.node(ExprKind::Aggregate(AggregateExpr { op, without, grouping, param, inner }), span, depth)
    }

    /// `(a, b, …)` after `by`, `on` and similar words; a trailing comma is allowed.
    pub(crate) fn label_list(&mut self) -> Result<Vec<String>, SpannedError> {
        let context = "grouping opts";
        if !self.accept(TokenKind::LeftParen) {
            return Err(self.unexpected(context, "\"(\""));
        }
        let mut labels = Vec::new();
        if self.accept(TokenKind::RightParen) {
            return Ok(labels);
        }
        loop {
            let label = match self.token.kind {
                // Quoted label names may have any character that is UTF-8.
                TokenKind::Text => unquote(self.spelled(self.token.span)),
                kind if kind.names_label() => self.spelled(self.token.span).to_owned(),
                _ => String::new(),
            };
            if label.is_empty() || !is_utf8(&label) {
                return Err(self.unexpected(context, "label"));
            }
            self.take();
            labels.push(label);
            let more = self.accept(TokenKind::Comma);
            if self.accept(TokenKind::RightParen) {
                return Ok(labels);
            }
            if !more {
                return Err(self.unexpected(context, "\",\" or \")\""));
            }
        }
    }

    // ---- binary operators ----

    /// Parses the operator at the current token, its modifiers and its right operand.
    fn binary(&mut self, lhs: Expr, op: BinaryOperator) -> Result<Expr, SpannedError> {
        self.take();
        let modifiers_start = self.token.span.start;
        let modifiers = self.modifiers()?;
        // Taken before the operand is parsed: an error about the modifiers must not mark the
        // operand.
        let modifiers_span = self.since(modifiers_start);
        // `^` is right-associative, all other operators are left-associative.
        let rhs = self.expr(if op == BinaryOperator::Pow { op.precedence() } else { op.precedence() + 1 })?;
        let filled = modifiers.fill_left.is_some() || modifiers.fill_right.is_some();
        // After the operand, as in Prometheus: a syntax error in the operand is reported first.
        if filled && !self.options.fill_modifiers {
            return Err(SpannedError::new(
                modifiers_span,
                "binop fill modifiers are experimental and not enabled",
            ));
        }
        let span = Span { start: lhs.span.start, end: rhs.span.end };
        let depth = lhs.depth.max(rhs.depth);
        self.node(ExprKind::Binary(BinaryExpr { op, modifiers, lhs, rhs }), span, depth)
    }

    fn modifiers(&mut self) -> Result<MatchingModifiers, SpannedError> {
        let mut modifiers = MatchingModifiers {
            return_bool: self.accept(TokenKind::Word(Keyword::Bool)),
            ..MatchingModifiers::default()
        };
        if let TokenKind::Word(word @ (Keyword::On | Keyword::Ignoring)) = self.token.kind {
            self.take();
            modifiers.on = word == Keyword::On;
            modifiers.labels = self.label_list()?;
            modifiers.cardinality = match self.token.kind {
                TokenKind::Word(Keyword::GroupLeft) => Cardinality::ManyToOne,
                TokenKind::Word(Keyword::GroupRight) => Cardinality::OneToMany,
                _ => Cardinality::OneToOne,
            };
            // `group_left` is possible only after `on` or `ignoring`; elsewhere it is an unexpected
            // token.
            if modifiers.cardinality != Cardinality::OneToOne {
                self.take();
                // Ambiguous in `a * on (x) group_left (y)`: the parenthesis is the list of labels,
                // as in Prometheus.
                if self.token.kind == TokenKind::LeftParen {
                    modifiers.include = self.label_list()?;
                }
            }
        }
        self.fill_modifiers(&mut modifiers)?;
        Ok(modifiers)
    }

    /// `fill (v)`, or `fill_left (v)` and `fill_right (v)` in any order.
    fn fill_modifiers(&mut self, modifiers: &mut MatchingModifiers) -> Result<(), SpannedError> {
        if self.accept(TokenKind::Word(Keyword::Fill)) {
            let value = self.fill_value()?;
            modifiers.fill_left = Some(value);
            modifiers.fill_right = Some(value);
            return Ok(());
        }
        // Each at most once; a third one is left for the caller, to whom it is unexpected.
        for _ in 0..2 {
            match self.token.kind {
                TokenKind::Word(Keyword::FillLeft) if modifiers.fill_left.is_none() => {
                    self.take();
                    modifiers.fill_left = Some(self.fill_value()?);
                }
                TokenKind::Word(Keyword::FillRight) if modifiers.fill_right.is_none() => {
                    self.take();
                    modifiers.fill_right = Some(self.fill_value()?);
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn fill_value(&mut self) -> Result<f64, SpannedError> {
        self.expect(TokenKind::LeftParen)?;
        let value = self.signed_number("", "")?;
        self.expect(TokenKind::RightParen)?;
        Ok(value)
    }

    /// A number with an optional sign.
    pub(crate) fn signed_number(&mut self, context: &str, expected: &str) -> Result<f64, SpannedError> {
        // The sign is not part of the number's token, because the lexer cannot know whether it is
        // an operator.
        let minus = self.token.kind == TokenKind::Op(BinaryOperator::Sub);
        if matches!(self.token.kind, TokenKind::Op(BinaryOperator::Add | BinaryOperator::Sub)) {
            self.take();
        }
        if !matches!(self.token.kind, TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected(context, expected));
        }
        let (value, _) = self.number()?;
        Ok(if minus { -value } else { value })
    }

    fn vector_selector(&mut self, name: Option<String>, start: u32) -> Result<Expr, SpannedError> {
        let selector = self.selector_body(name)?;
        self.node(ExprKind::Vector(selector), self.since(start), 0)
    }

    fn metric_selector(&mut self) -> Result<VectorSelector, SpannedError> {
        let name = self.metric_name()?;
        self.selector_body(name)
    }

    /// The name before the braces; the braces may be missing.
    fn metric_name(&mut self) -> Result<Option<String>, SpannedError> {
        match self.token.kind {
            TokenKind::LeftBrace => Ok(None),
            kind if kind.names_metric() => Ok(Some(self.take_text())),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// The braces after a name, if any.
    fn selector_body(&mut self, name: Option<String>) -> Result<VectorSelector, SpannedError> {
        let matchers = if self.token.kind == TokenKind::LeftBrace { self.matchers()? } else { Vec::new() };
        Ok(VectorSelector { name, matchers, when: TimeModifiers::default(), extended: None })
    }
}

fn too_deep(span: Span) -> SpannedError {
    SpannedError::new(span, format!("expression is nested too deeply: the limit is {DEPTH} levels"))
}
