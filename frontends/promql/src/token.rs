//! The tokens of PromQL, which [`super::lexer`] makes, and their names in error texts. They are
//! those of Prometheus' lexer.

use super::ast::BinaryOperator;
use super::quoting::quote;
use engine::plan::{AggregateOp, Span};

/// The kind of a token.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// The end of the text.
    Eof,
    /// The lexer failed; it holds the error.
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
    Op(BinaryOperator),
    Aggregator(AggregateOp),
    Word(Keyword),
}

/// Keywords other than operators and aggregation names.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
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

impl Keyword {
    /// Whether the keyword may also be the name of a function (in durations: of a value).
    pub(crate) fn is_function(self) -> bool {
        matches!(
            self,
            Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range | Keyword::MinOf | Keyword::MaxOf
        )
    }
}

/// A token and its position.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// The token of the keyword `word`, ignoring case.
pub(crate) fn keyword(word: &str) -> Option<TokenKind> {
    // No keyword is longer, so longer names need not be copied to lower case.
    if word.len() > "count_values".len() {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    aggregator(&lower).map(TokenKind::Aggregator).or_else(|| operator(&lower).map(TokenKind::Op)).or_else(
        || {
            Some(TokenKind::Word(match lower.as_str() {
                // Words to the lexer, numbers to everybody else; ignoring case, as Go reads them.
                "inf" | "nan" => return Some(TokenKind::Number),
                "bool" => Keyword::Bool,
                "by" => Keyword::By,
                "without" => Keyword::Without,
                "on" => Keyword::On,
                "ignoring" => Keyword::Ignoring,
                "group_left" => Keyword::GroupLeft,
                "group_right" => Keyword::GroupRight,
                "offset" => Keyword::Offset,
                "anchored" => Keyword::Anchored,
                "smoothed" => Keyword::Smoothed,
                "fill" => Keyword::Fill,
                "fill_left" => Keyword::FillLeft,
                "fill_right" => Keyword::FillRight,
                "start" => Keyword::Start,
                "end" => Keyword::End,
                "step" => Keyword::Step,
                "range" => Keyword::Range,
                "min_of" => Keyword::MinOf,
                "max_of" => Keyword::MaxOf,
                _ => return None,
            }))
        },
    )
}

fn operator(lower: &str) -> Option<BinaryOperator> {
    Some(match lower {
        "and" => BinaryOperator::And,
        "or" => BinaryOperator::Or,
        "unless" => BinaryOperator::Unless,
        "atan2" => BinaryOperator::Atan2,
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

impl TokenKind {
    /// Whether this token may be a metric name where an operand is expected.
    pub(crate) fn names_metric(self) -> bool {
        use Keyword::*;
        match self {
            TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregator(_) => true,
            TokenKind::Op(op) => {
                // Not `atan2`: Prometheus' grammar leaves it out of the metric names, but not of
                // the label names.
                matches!(op, BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Unless)
            }
            // These five begin a modifier after an operator, so as names they would be ambiguous.
            TokenKind::Word(word) => !matches!(word, Bool | On | Ignoring | GroupLeft | GroupRight),
            _ => false,
        }
    }

    /// Whether this token may be a label name in `by (…)` and similar lists.
    pub(crate) fn names_label(self) -> bool {
        match self {
            TokenKind::Op(op) => matches!(
                op,
                BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Unless | BinaryOperator::Atan2
            ),
            TokenKind::Identifier
            | TokenKind::MetricIdentifier
            | TokenKind::Aggregator(_)
            | TokenKind::Word(_) => true,
            _ => false,
        }
    }

    /// The name of the token with the text `text` in error texts.
    pub(crate) fn describe(self, text: &str) -> String {
        let shown = shorten(text);
        match self {
            // The parser reports an error of the lexer before it describes the token.
            TokenKind::Eof | TokenKind::Error => "end of input".to_owned(),
            TokenKind::Identifier => format!("identifier {}", quote(text)),
            TokenKind::MetricIdentifier => format!("metric identifier {}", quote(text)),
            TokenKind::Text => format!("string {shown}"),
            TokenKind::Number => format!("number {shown}"),
            TokenKind::Duration => format!("duration {shown}"),
            TokenKind::Op(_) | TokenKind::At | TokenKind::RegexEqual | TokenKind::RegexNotEqual => {
                format!("<op:{text}>")
            }
            TokenKind::Aggregator(_) => format!("<aggr:{text}>"),
            // Prometheus describes keywords by their text in the query, in the case in which it was
            // written.
            TokenKind::Word(word) if !word.is_function() => format!("<{text}>"),
            _ => shown,
        }
    }
}

/// `text` quoted; only the first ten characters of a longer text.
fn shorten(text: &str) -> String {
    if text.len() > 10 {
        // By characters, so that no character is cut.
        format!("{}...", quote(&text.chars().take(10).collect::<String>()))
    } else {
        quote(text)
    }
}
