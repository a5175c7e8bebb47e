//! Tokens of PromQL and how error texts name them. Made by [`super::lexer`].

use super::ast::Operator;
use super::quoting::quote;
use engine::plan::{AggregateOp, Span};

/// What a token is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tok {
    /// The end of the text.
    Eof,
    /// The lexer failed; it keeps the error.
    Error,
    Comma,
    Colon,
    /// `=`
    Equal,
    /// `=~`
    RegexEqual,
    /// `!~`
    RegexNotEqual,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    /// `@`
    At,
    /// A name without colon.
    Identifier,
    /// A name with a colon.
    MetricIdentifier,
    Text,
    Number,
    Duration,
    Op(Operator),
    Aggregator(AggregateOp),
    Word(Word),
}

/// Keywords that are neither operator nor aggregator.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Bool,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Offset,
    Anchored,
    Smoothed,
    Fill,
    FillLeft,
    FillRight,
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

impl Word {
    /// Whether it may also name a function (and, inside durations, a value).
    pub(crate) fn is_function(self) -> bool {
        matches!(self, Word::Start | Word::End | Word::Step | Word::Range | Word::MinOf | Word::MaxOf)
    }
}

/// A token and where it stands.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Tok,
    pub(crate) span: Span,
}

/// The keyword that `word` is, whatever its case.
pub(crate) fn keyword(word: &str) -> Option<Tok> {
    // No keyword is longer: do not copy names to lower their case.
    if word.len() > "count_values".len() {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    aggregator(&lower).map(Tok::Aggregator).or_else(|| operator(&lower).map(Tok::Op)).or_else(|| {
        Some(Tok::Word(match lower.as_str() {
            "inf" | "nan" => return Some(Tok::Number),
            "bool" => Word::Bool,
            "by" => Word::By,
            "without" => Word::Without,
            "on" => Word::On,
            "ignoring" => Word::Ignoring,
            "group_left" => Word::GroupLeft,
            "group_right" => Word::GroupRight,
            "offset" => Word::Offset,
            "anchored" => Word::Anchored,
            "smoothed" => Word::Smoothed,
            "fill" => Word::Fill,
            "fill_left" => Word::FillLeft,
            "fill_right" => Word::FillRight,
            "start" => Word::Start,
            "end" => Word::End,
            "step" => Word::Step,
            "range" => Word::Range,
            "min_of" => Word::MinOf,
            "max_of" => Word::MaxOf,
            _ => return None,
        }))
    })
}

fn operator(lower: &str) -> Option<Operator> {
    Some(match lower {
        "and" => Operator::And,
        "or" => Operator::Or,
        "unless" => Operator::Unless,
        "atan2" => Operator::Atan2,
        _ => return None,
    })
}

fn aggregator(lower: &str) -> Option<AggregateOp> {
    Some(match lower {
        "sum" => AggregateOp::Sum,
        "avg" => AggregateOp::Avg,
        "count" => AggregateOp::Count,
        "min" => AggregateOp::Min,
        "max" => AggregateOp::Max,
        "group" => AggregateOp::Group,
        "stddev" => AggregateOp::Stddev,
        "stdvar" => AggregateOp::Stdvar,
        "topk" => AggregateOp::Topk,
        "bottomk" => AggregateOp::Bottomk,
        "quantile" => AggregateOp::Quantile,
        "count_values" => AggregateOp::CountValues,
        "limitk" => AggregateOp::Limitk,
        "limit_ratio" => AggregateOp::LimitRatio,
        _ => return None,
    })
}

impl Tok {
    /// Whether a metric may have this token as its name where an operand is expected.
    pub(crate) fn names_metric(self) -> bool {
        use Word::*;
        match self {
            Tok::Identifier | Tok::MetricIdentifier | Tok::Aggregator(_) => true,
            Tok::Op(op) => matches!(op, Operator::And | Operator::Or | Operator::Unless),
            Tok::Word(word) => !matches!(word, Bool | On | Ignoring | GroupLeft | GroupRight),
            _ => false,
        }
    }

    /// Whether a label may have this token as its name in `by (…)` and its like.
    pub(crate) fn names_label(self) -> bool {
        match self {
            Tok::Op(op) => matches!(op, Operator::And | Operator::Or | Operator::Unless | Operator::Atan2),
            Tok::Identifier | Tok::MetricIdentifier | Tok::Aggregator(_) | Tok::Word(_) => true,
            _ => false,
        }
    }

    /// How an error text names the token spelled `text`.
    pub(crate) fn describe(self, text: &str) -> String {
        let shown = shorten(text);
        match self {
            Tok::Eof | Tok::Error => "end of input".to_owned(),
            Tok::Identifier => format!("identifier {}", quote(text)),
            Tok::MetricIdentifier => format!("metric identifier {}", quote(text)),
            Tok::Text => format!("string {shown}"),
            Tok::Number => format!("number {shown}"),
            Tok::Duration => format!("duration {shown}"),
            Tok::Op(_) | Tok::At | Tok::RegexEqual | Tok::RegexNotEqual => format!("<op:{text}>"),
            Tok::Aggregator(_) => format!("<aggr:{text}>"),
            Tok::Word(word) if !word.is_function() => format!("<{text}>"),
            _ => shown,
        }
    }
}

/// `text` quoted; of a long one the first ten characters.
fn shorten(text: &str) -> String {
    if text.len() > 10 {
        format!("{}...", quote(&text.chars().take(10).collect::<String>()))
    } else {
        quote(text)
    }
}
