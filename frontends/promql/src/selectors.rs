//! Parses the parts of selectors: matchers in braces, `[range]` and `[range:step]`, `offset`, `@`,
//! `anchored` and `smoothed`.

use super::ast::{
    AtModifier, BinaryOperator, DurationArgument, Expr, ExprKind, ExtensionKeyword, TimeModifiers,
};
use super::errors::SpannedError;
use super::number::out_of_range;
use super::parser::PromqlParser;
use super::quoting::unquote;
use super::token::{Keyword, Token, TokenKind};
use engine::plan::Span;
use engine::types::go_text::{is_utf8, lossy};
use language::limits::REGEXES;
use storage::model::labels::METRIC_NAME;
use storage::model::number::not_finite;
use storage::model::{MatchOp, Matcher};

/// What an offset or a range may be, for error texts.
pub(crate) const DURATIONS: &str = "number, duration, step(), or range()";

impl PromqlParser<'_> {
    // ---- matchers ----

    /// Parses `{a="b", …}`; the current token is the brace. A trailing comma is allowed.
    pub(crate) fn matchers(&mut self) -> Result<Vec<Matcher>, SpannedError> {
        self.expect(TokenKind::LeftBrace)?;
        let mut matchers = Vec::new();
        if self.accept(TokenKind::RightBrace) {
            return Ok(matchers);
        }
        loop {
            matchers.push(self.matcher()?);
            let more = self.accept(TokenKind::Comma);
            if self.accept(TokenKind::RightBrace) {
                return Ok(matchers);
            }
            if !more {
                return Err(self.unexpected("label matching", "\",\" or \"}\""));
            }
        }
    }

    /// Parses `name op "value"`, or a single string, which is the metric name.
    fn matcher(&mut self) -> Result<Matcher, SpannedError> {
        let context = "label matching";
        let Token { kind, span } = self.token;
        let name = match kind {
            TokenKind::Identifier => self.spelled(span).to_owned(),
            TokenKind::Text => unquote(self.spelled(span)),
            _ => return Err(self.unexpected(context, "identifier or \"}\"")),
        };
        self.take();
        let op = match self.token.kind {
            TokenKind::Equal => MatchOp::Equal,
            TokenKind::Op(BinaryOperator::Ne) => MatchOp::NotEqual,
            TokenKind::RegexEqual => MatchOp::Regex,
            TokenKind::RegexNotEqual => MatchOp::NotRegex,
            // `{"http.requests"}` is how a name that is no identifier is written.
            _ if kind == TokenKind::Text => return Ok(Matcher::equal(METRIC_NAME, name)),
            _ => return Err(self.unexpected(context, "label matching operator")),
        };
        self.take();
        if self.token.kind != TokenKind::Text {
            return Err(self.unexpected(context, "string"));
        }
        let value = self.take().span;
        let text = unquote(self.spelled(value));
        let whole = Span { start: span.start, end: value.end };
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            // Counted for the whole query: compiled patterns are the largest part of a parsed
            // query.
            self.regexes += 1;
            if self.regexes > REGEXES {
                let why = format!("too many regular expressions: the limit is {REGEXES}");
                return Err(SpannedError::new(span, why));
            }
            if !is_utf8(&text) {
                let why = format!("error parsing regexp: invalid UTF-8: `{}`", lossy(&text));
                return Err(SpannedError::new(whole, why));
            }
        }
        Matcher::new(name, op, text).map_err(|e| SpannedError::new(whole, e.to_string()))
    }

    // ---- modifiers after an operand ----

    /// Parses all modifiers after `expr`.
    pub(crate) fn postfix(&mut self, mut expr: Expr) -> Result<Expr, SpannedError> {
        loop {
            match self.token.kind {
                TokenKind::LeftBracket => expr = self.brackets(expr)?,
                TokenKind::Word(Keyword::Offset) => self.offset(&mut expr)?,
                TokenKind::At => self.at(&mut expr)?,
                TokenKind::Word(Keyword::Anchored) => self.extend(&mut expr, ExtensionKeyword::Anchored)?,
                TokenKind::Word(Keyword::Smoothed) => self.extend(&mut expr, ExtensionKeyword::Smoothed)?,
                _ => return Ok(expr),
            }
        }
    }

    /// `[range]` or `[range:step]`.
    fn brackets(&mut self, inner: Expr) -> Result<Expr, SpannedError> {
        let open = self.take().span;
        let range = self.positive_duration("subquery or range selector", DURATIONS)?;
        if self.accept(TokenKind::RightBracket) {
            return self.matrix(inner, open, range);
        }
        if !self.accept(TokenKind::Colon) {
            return Err(self.unexpected("subquery or range", "\":\" or \"]\""));
        }
        let context = "subquery selector";
        let mut step = None;
        if !self.accept(TokenKind::RightBracket) {
            step = Some(self.positive_duration(context, "number, duration, step(), range(), or \"]\"")?);
            if !self.accept(TokenKind::RightBracket) {
                return Err(self.unexpected(context, "\"]\""));
            }
        }
        let span = self.since(inner.span.start);
        let depth = inner.depth;
        self.node(ExprKind::Subquery { inner, range, step, when: TimeModifiers::default() }, span, depth)
    }

    /// Makes a range selector of `inner` and `range`, whose bracket is at `open`.
    fn matrix(&self, inner: Expr, open: Span, range: DurationArgument) -> Result<Expr, SpannedError> {
        let fault = |text: &str| Err(SpannedError::new(self.since(open.start), text));
        let span = self.since(inner.span.start);
        match *inner.kind {
            // The modifiers belong after the brackets; before them they would apply to nothing
            // else.
            ExprKind::Vector(s) if s.when.has_offset() => fault("no offset modifiers allowed before range"),
            ExprKind::Vector(s) if s.when.at.is_some() => fault("no @ modifiers allowed before range"),
            ExprKind::Vector(selector) => {
                self.node(ExprKind::Matrix { selector, selector_span: inner.span, range }, span, inner.depth)
            }
            _ => fault("ranges only allowed for vector selectors"),
        }
    }

    fn offset(&mut self, expr: &mut Expr) -> Result<(), SpannedError> {
        self.take();
        let offset = self.offset_duration()?;
        let span = expr.span;
        let Some(when) = expr.when_mut() else {
            let text = "offset modifier must be preceded by an instant vector selector or range vector \
                        selector or a subquery";
            return Err(SpannedError::new(span, text));
        };
        // As in Prometheus, an offset of zero counts as none.
        if when.has_offset() {
            return Err(SpannedError::new(span, "offset may not be set multiple times"));
        }
        when.offset = Some(offset);
        expr.span = self.since(span.start);
        Ok(())
    }

    fn at(&mut self, expr: &mut Expr) -> Result<(), SpannedError> {
        self.take();
        let at = match self.token.kind {
            TokenKind::Word(word @ (Keyword::Start | Keyword::End)) => {
                self.take();
                for kind in [TokenKind::LeftParen, TokenKind::RightParen] {
                    if !self.accept(kind) {
                        return Err(self.unexpected("@", "timestamp"));
                    }
                }
                if word == Keyword::Start { AtModifier::Start } else { AtModifier::End }
            }
            _ => {
                let seconds = self.signed_number("@", "timestamp")?;
                AtModifier::Time(timestamp(seconds, expr.span)?)
            }
        };
        let span = expr.span;
        let Some(when) = expr.when_mut() else {
            let text = "@ modifier must be preceded by an instant vector selector or range vector selector \
                        or a subquery";
            return Err(SpannedError::new(span, text));
        };
        // Unlike an offset of zero, `@ 0` is a time.
        if when.at.replace(at).is_some() {
            return Err(SpannedError::new(span, "@ <timestamp> may not be set multiple times"));
        }
        expr.span = self.since(span.start);
        Ok(())
    }

    fn extend(&mut self, expr: &mut Expr, extended: ExtensionKeyword) -> Result<(), SpannedError> {
        self.take();
        let word = extended.as_str();
        let fault = |text: String| Err(SpannedError::new(expr.span, text));
        if !self.options.extended_range_selectors {
            return fault(format!("{word} modifier is experimental and not enabled"));
        }
        match &mut *expr.kind {
            ExprKind::Vector(selector) | ExprKind::Matrix { selector, .. } => match selector.extended {
                // The same word twice is accepted, as in Prometheus.
                Some(other) if other != extended => {
                    fault("anchored and smoothed modifiers cannot be used together".to_owned())
                }
                _ => {
                    selector.extended = Some(extended);
                    expr.span = self.since(expr.span.start);
                    Ok(())
                }
            },
            ExprKind::Subquery { .. } => fault(format!("{word} modifier is not supported for subqueries")),
            _ => fault(format!("{word} modifier not implemented")),
        }
    }
}

impl Expr {
    /// Where `offset` and `@` of this expression are stored; `None` if they cannot follow this
    /// expression.
    fn when_mut(&mut self) -> Option<&mut TimeModifiers> {
        match &mut *self.kind {
            ExprKind::Vector(selector) | ExprKind::Matrix { selector, .. } => Some(&mut selector.when),
            ExprKind::Subquery { when, .. } => Some(when),
            _ => None,
        }
    }
}

impl TimeModifiers {
    /// Whether there is an offset other than zero.
    pub(crate) fn has_offset(&self) -> bool {
        !matches!(self.offset, None | Some(DurationArgument::Fixed(0)))
    }
}

/// Converts seconds since the epoch to ms; `span` is that of the expression, as in Prometheus.
fn timestamp(seconds: f64, span: Span) -> Result<i64, SpannedError> {
    if seconds.is_nan() || seconds >= i64::MAX as f64 || seconds <= i64::MIN as f64 {
        let text = format!("timestamp out of bounds for @ modifier: {}", fixed_point(seconds));
        return Err(SpannedError::new(span, text));
    }
    Ok((seconds * 1000.0).round() as i64)
}

/// Go's `%f`.
fn fixed_point(value: f64) -> String {
    not_finite(value).unwrap_or_else(|| format!("{value:.6}"))
}

/// The seconds of a literal; an error if they are out of range.
pub(crate) fn checked_seconds(seconds: f64, span: Span) -> Result<f64, SpannedError> {
    if out_of_range(seconds) { Err(SpannedError::new(span, "duration out of range")) } else { Ok(seconds) }
}
