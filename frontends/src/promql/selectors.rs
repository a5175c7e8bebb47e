//! Parsing of what selectors consist of: matchers in braces, `[range]` and `[range:step]`, `offset`, `@`,
//! `anchored` and `smoothed`.

use super::ast::{At, Duration, Expr, Extended, Kind, Operator, When};
use super::errors::Fault;
use super::limits::REGEXES;
use super::number::out_of_range;
use super::parser::Parser;
use super::quoting::unquote;
use super::token::{Tok, Token, Word};
use engine::plan::Span;
use engine::plan::text::{is_utf8, lossy};
use storage::model::labels::METRIC_NAME;
use storage::model::number::not_finite;
use storage::model::{MatchOp, Matcher};

/// What an offset or a range may be, in error texts.
pub(crate) const DURATIONS: &str = "number, duration, step(), or range()";

impl Parser<'_> {
    // ---- matchers ----

    /// `{a="b", …}`, whose brace is the current token; a trailing comma is allowed.
    pub(crate) fn matchers(&mut self) -> Result<Vec<Matcher>, Fault> {
        self.expect(Tok::LeftBrace)?;
        let mut matchers = Vec::new();
        if self.accept(Tok::RightBrace) {
            return Ok(matchers);
        }
        loop {
            matchers.push(self.matcher()?);
            let more = self.accept(Tok::Comma);
            if self.accept(Tok::RightBrace) {
                return Ok(matchers);
            }
            if !more {
                return Err(self.unexpected("label matching", "\",\" or \"}\""));
            }
        }
    }

    /// `name op "value"`, or a lone string: the metric's name.
    fn matcher(&mut self) -> Result<Matcher, Fault> {
        let context = "label matching";
        let Token { kind, span } = self.token;
        let name = match kind {
            Tok::Identifier => self.spelled(span).to_owned(),
            Tok::Text => unquote(self.spelled(span)),
            _ => return Err(self.unexpected(context, "identifier or \"}\"")),
        };
        self.take();
        let op = match self.token.kind {
            Tok::Equal => MatchOp::Equal,
            Tok::Op(Operator::Ne) => MatchOp::NotEqual,
            Tok::RegexEqual => MatchOp::Regex,
            Tok::RegexNotEqual => MatchOp::NotRegex,
            _ if kind == Tok::Text => return Ok(Matcher::equal(METRIC_NAME, name)),
            _ => return Err(self.unexpected(context, "label matching operator")),
        };
        self.take();
        if self.token.kind != Tok::Text {
            return Err(self.unexpected(context, "string"));
        }
        let value = self.take().span;
        let (text, whole) = (unquote(self.spelled(value)), Span { start: span.start, end: value.end });
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            self.regexes += 1;
            if self.regexes > REGEXES {
                let why = format!("too many regular expressions: the limit is {REGEXES}");
                return Err(Fault::new(span, why));
            }
            if !is_utf8(&text) {
                let why = format!("error parsing regexp: invalid UTF-8: `{}`", lossy(&text));
                return Err(Fault::new(whole, why));
            }
        }
        Matcher::new(name, op, text).map_err(|e| Fault::new(whole, e.to_string()))
    }

    // ---- modifiers behind an operand ----

    /// All modifiers that follow `expr`.
    pub(crate) fn postfix(&mut self, mut expr: Expr) -> Result<Expr, Fault> {
        loop {
            match self.token.kind {
                Tok::LeftBracket => expr = self.brackets(expr)?,
                Tok::Word(Word::Offset) => self.offset(&mut expr)?,
                Tok::At => self.at(&mut expr)?,
                Tok::Word(Word::Anchored) => self.extend(&mut expr, Extended::Anchored)?,
                Tok::Word(Word::Smoothed) => self.extend(&mut expr, Extended::Smoothed)?,
                _ => return Ok(expr),
            }
        }
    }

    /// `[range]` or `[range:step]`.
    fn brackets(&mut self, inner: Expr) -> Result<Expr, Fault> {
        let open = self.take().span;
        let range = self.positive_duration("subquery or range selector", DURATIONS)?;
        if self.accept(Tok::RightBracket) {
            return self.matrix(inner, open, range);
        }
        if !self.accept(Tok::Colon) {
            return Err(self.unexpected("subquery or range", "\":\" or \"]\""));
        }
        let context = "subquery selector";
        let mut step = None;
        if !self.accept(Tok::RightBracket) {
            step = Some(self.positive_duration(context, "number, duration, step(), range(), or \"]\"")?);
            if !self.accept(Tok::RightBracket) {
                return Err(self.unexpected(context, "\"]\""));
            }
        }
        let (span, depth) = (self.since(inner.span.start), inner.depth);
        self.node(Kind::Subquery { inner, range, step, when: When::default() }, span, depth)
    }

    /// The range selector that `range`, whose bracket opened at `open`, makes of `inner`.
    fn matrix(&self, inner: Expr, open: Span, range: Duration) -> Result<Expr, Fault> {
        let fault = |text: &str| Err(Fault::new(self.since(open.start), text));
        let span = self.since(inner.span.start);
        match *inner.kind {
            Kind::Vector(s) if s.when.has_offset() => fault("no offset modifiers allowed before range"),
            Kind::Vector(s) if s.when.at.is_some() => fault("no @ modifiers allowed before range"),
            Kind::Vector(selector) => {
                self.node(Kind::Matrix { selector, selector_span: inner.span, range }, span, inner.depth)
            }
            _ => fault("ranges only allowed for vector selectors"),
        }
    }

    fn offset(&mut self, expr: &mut Expr) -> Result<(), Fault> {
        self.take();
        let offset = self.offset_duration()?;
        let span = expr.span;
        let Some(when) = expr.when_mut() else {
            let text = "offset modifier must be preceded by an instant vector selector or range vector \
                        selector or a subquery";
            return Err(Fault::new(span, text));
        };
        // An offset of zero counts as none, as it does upstream.
        if when.has_offset() {
            return Err(Fault::new(span, "offset may not be set multiple times"));
        }
        when.offset = Some(offset);
        expr.span = self.since(span.start);
        Ok(())
    }

    fn at(&mut self, expr: &mut Expr) -> Result<(), Fault> {
        self.take();
        let at = match self.token.kind {
            Tok::Word(word @ (Word::Start | Word::End)) => {
                self.take();
                for kind in [Tok::LeftParen, Tok::RightParen] {
                    if !self.accept(kind) {
                        return Err(self.unexpected("@", "timestamp"));
                    }
                }
                if word == Word::Start { At::Start } else { At::End }
            }
            _ => {
                let seconds = self.signed_number("@", "timestamp")?;
                At::Time(timestamp(seconds).map_err(|text| Fault::new(expr.span, text))?)
            }
        };
        let span = expr.span;
        let Some(when) = expr.when_mut() else {
            let text = "@ modifier must be preceded by an instant vector selector or range vector selector \
                        or a subquery";
            return Err(Fault::new(span, text));
        };
        if when.at.replace(at).is_some() {
            return Err(Fault::new(span, "@ <timestamp> may not be set multiple times"));
        }
        expr.span = self.since(span.start);
        Ok(())
    }

    fn extend(&mut self, expr: &mut Expr, extended: Extended) -> Result<(), Fault> {
        self.take();
        let word = extended.as_str();
        let fault = |text: String| Err(Fault::new(expr.span, text));
        if !self.options.extended_range_selectors {
            return fault(format!("{word} modifier is experimental and not enabled"));
        }
        match &mut *expr.kind {
            Kind::Vector(selector) | Kind::Matrix { selector, .. } => match selector.extended {
                Some(other) if other != extended => {
                    fault("anchored and smoothed modifiers cannot be used together".to_owned())
                }
                _ => {
                    selector.extended = Some(extended);
                    expr.span = self.since(expr.span.start);
                    Ok(())
                }
            },
            Kind::Subquery { .. } => fault(format!("{word} modifier is not supported for subqueries")),
            _ => fault(format!("{word} modifier not implemented")),
        }
    }
}

impl Expr {
    /// Where `offset` and `@` go; `None` if they cannot follow this expression.
    fn when_mut(&mut self) -> Option<&mut When> {
        match &mut *self.kind {
            Kind::Vector(selector) | Kind::Matrix { selector, .. } => Some(&mut selector.when),
            Kind::Subquery { when, .. } => Some(when),
            _ => None,
        }
    }
}

impl When {
    /// Whether it shifts at all.
    pub(crate) fn has_offset(&self) -> bool {
        !matches!(self.offset, None | Some(Duration::Fixed(0)))
    }
}

/// Seconds since the epoch as milliseconds.
fn timestamp(seconds: f64) -> Result<i64, String> {
    if seconds.is_nan() || seconds >= i64::MAX as f64 || seconds <= i64::MIN as f64 {
        return Err(format!("timestamp out of bounds for @ modifier: {}", fixed_point(seconds)));
    }
    Ok((seconds * 1000.0).round() as i64)
}

/// Go's `%f`.
fn fixed_point(value: f64) -> String {
    not_finite(value).unwrap_or_else(|| format!("{value:.6}"))
}

/// A literal's seconds, or why they are no duration.
pub(crate) fn checked_seconds(seconds: f64, span: Span) -> Result<f64, Fault> {
    if out_of_range(seconds) { Err(Fault::new(span, "duration out of range")) } else { Ok(seconds) }
}
