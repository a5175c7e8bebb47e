//! Series descriptions such as `metric{a="b"} 1+2x5 _ stale`, the notation of test files.
//!
//! Items are numbers, `_` (no sample), `stale` and native histograms ([`super::histogram`]).
//! `v+dxN` is N+1 values, each larger by `d` than the one before; `vxN` is N+1 equal values; `_xN`
//! is N gaps.

use super::PromqlOptions;
use super::errors::SpannedError;
use super::histogram::{self, HistogramLiteral};
use super::lexer::is_space;
use super::limits::SERIES_VALUES;
use super::parser::parse_metric;
use super::quoting::quote;
use engine::plan::Span;
use language::QueryTextError;
use std::num::ParseIntError;
use std::sync::Arc;
use storage::model::histogram::{HistogramError, NativeHistogram};
use storage::model::value::STALE;
use storage::model::{Labels, MatchOp};

/// A series and its values at equal distances.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDescription {
    /// The labels of the series.
    pub labels: Labels,
    /// The values, in time order.
    pub values: Vec<SequenceValue>,
}

/// The value of a series at one time.
#[derive(Clone, Debug, PartialEq)]
pub enum SequenceValue {
    /// No sample.
    Gap,
    /// A number; [`STALE`] marks the series as stale.
    Float(f64),
    /// A native histogram.
    Histogram(HistogramLiteral),
}

/// Parses a series description.
pub fn parse_series(text: &str) -> Result<SeriesDescription, QueryTextError> {
    let parse = || {
        let (labels, end) = describe(text)?;
        Ok(SeriesDescription { labels, values: values(text, end)? })
    };
    parse().map_err(|fault: SpannedError| fault.locate(text))
}

/// Parses the labels of the series at the beginning of `text`; returns them and the next byte's
/// index.
pub fn parse_series_labels(text: &str) -> Result<(Labels, usize), QueryTextError> {
    describe(text).map_err(|fault| fault.locate(text))
}

fn describe(text: &str) -> Result<(Labels, usize), SpannedError> {
    let options = PromqlOptions::default();
    let (name, matchers, end) = parse_metric(text, &options)?;
    let whole = Span { start: 0, end };
    let mut labels = Labels::default().to_builder();
    for m in &matchers {
        // A description is of one series: other operators would describe many.
        if m.op != MatchOp::Equal {
            return Err(SpannedError::new(
                whole,
                format!("unexpected <op:{}> in label set, expected \"=\"", m.op.as_str()),
            ));
        }
        labels.set(&m.name, &m.value);
    }
    if let Some(name) = name {
        labels.set(storage::model::labels::METRIC_NAME, name);
    }
    Ok((labels.build(), end as usize))
}

/// Parses the items from byte `from` on.
fn values(text: &str, from: usize) -> Result<Vec<SequenceValue>, SpannedError> {
    let mut values = Vec::new();
    let mut at = from;
    loop {
        let rest = &text[at..];
        // Offsets into the whole text, because errors name columns.
        let start = at + (rest.len() - rest.trim_start_matches(is_space).len());
        if start == text.len() {
            return Ok(values);
        }
        let (items, end) = if text[start..].starts_with(histogram::OPEN) {
            histograms(text, start)?
        } else {
            let end = start + text[start..].find(is_space).unwrap_or(text.len() - start);
            (numbers(&text[start..end]).map_err(|error| spanned(start, end, &error))?, end)
        };
        at = end;
        // Before they are expanded: `1x9999999999` is short.
        if values.len() as u64 + items.times >= SERIES_VALUES {
            return Err(spanned(start, end, &SequenceError::TooMany));
        }
        items.expand(&mut values).map_err(|error| spanned(start, end, &error))?;
    }
}

/// What is wrong with an item of a series description.
#[derive(Debug, thiserror::Error)]
enum SequenceError {
    #[error("unexpected {} in series values, expected number or \"stale\"", quote(.0))]
    Unexpected(String),
    #[error("invalid repetition in series values: strconv.ParseUint: parsing {}: {source}", quote(.count))]
    Repetitions { count: String, source: ParseIntError },
    #[error("too many series values: the limit is {SERIES_VALUES}")]
    TooMany,
    /// Buckets can be merged to a coarser resolution, not to a finer one.
    #[error("error combining histograms: cannot merge from schema {from} to {to}")]
    FinerSchema { from: i32, to: i32 },
    #[error("{0}")]
    Combine(#[from] HistogramError),
}

/// One item, not yet expanded.
struct SequenceRun {
    first: SequenceValue,
    change: SequenceStep,
    /// The number of repetitions. A gap has no value besides them.
    times: u64,
}

/// The change from one value of an item to the next.
enum SequenceStep {
    None,
    Add(f64),
    Histogram { other: HistogramLiteral, minus: bool },
}

impl SequenceRun {
    fn expand(self, values: &mut Vec<SequenceValue>) -> Result<(), SequenceError> {
        let SequenceRun { first, change, times } = self;
        match (first, change) {
            // `_x3` is three gaps, while `5x3` is four values: the first one and three more.
            (SequenceValue::Gap, _) => values.extend((0..times).map(|_| SequenceValue::Gap)),
            (SequenceValue::Float(first), SequenceStep::Add(delta)) => {
                let next = |value: &f64| Some(value + delta);
                let all = std::iter::successors(Some(first), next).map(SequenceValue::Float);
                values.extend(all.take(times as usize + 1));
            }
            (SequenceValue::Histogram(first), SequenceStep::Histogram { other, minus }) => {
                sums(&first, &other, minus, times, values)?;
            }
            (first, _) => values.extend(std::iter::repeat_n(first, times as usize + 1)),
        }
        Ok(())
    }
}

/// `first` and `times` more values, each with `other` added to or subtracted from the previous one.
fn sums(
    first: &HistogramLiteral,
    other: &HistogramLiteral,
    minus: bool,
    times: u64,
    values: &mut Vec<SequenceValue>,
) -> Result<(), SequenceError> {
    let mut current = first.histogram.clone();
    for i in 0..=times {
        if i > 0 {
            current = Arc::new(combined(&current, &other.histogram, minus)?);
        }
        // The hint of the increment decides, as in Prometheus: it is what makes the later ones.
        let literal = HistogramLiteral { histogram: current.clone(), hint_written: other.hint_written };
        values.push(SequenceValue::Histogram(literal));
    }
    Ok(())
}

fn combined(a: &NativeHistogram, b: &NativeHistogram, minus: bool) -> Result<NativeHistogram, SequenceError> {
    // Arithmetic would take the coarser schema of both; in Prometheus' notation the first
    // histogram decides.
    if a.schema > b.schema {
        return Err(SequenceError::FinerSchema { from: b.schema, to: a.schema });
    }
    let mut sum = a.clone();
    // Conflicts of counter resets are warnings of a query; a test file has none to show them in.
    let _ = if minus { sum.sub(b)? } else { sum.add(b)? };
    Ok(sum)
}

/// Parses the item whose histogram begins at byte `start`; returns it and its end.
fn histograms(text: &str, start: usize) -> Result<(SequenceRun, usize), SpannedError> {
    let (first, mut at) = histogram::read(text, start)?;
    let mut change = SequenceStep::None;
    let minus = text[at..].starts_with('-');
    let other = &text[at..];
    if other.starts_with(['+', '-']) && other[1..].starts_with(histogram::OPEN) {
        let (other, end) = histogram::read(text, at + 1)?;
        change = SequenceStep::Histogram { other, minus };
        at = end;
    }
    let end = at + text[at..].find(is_space).unwrap_or(text.len() - at);
    let rest = &text[at..end];
    let fault = |error: SequenceError| spanned(at, end, &error);
    let times = match (rest.strip_prefix('x'), &change) {
        (Some(count), _) => repetitions(count).map_err(fault)?,
        (None, SequenceStep::None) if rest.is_empty() => 0,
        _ => return Err(fault(unexpected(rest))),
    };
    Ok((SequenceRun { first: SequenceValue::Histogram(first), change, times }, end))
}

/// Parses an item that is not a histogram.
fn numbers(item: &str) -> Result<SequenceRun, SequenceError> {
    let (first, rest) = match item.strip_prefix('_') {
        Some(rest) => (SequenceValue::Gap, rest),
        // A word, not a number of its own notation, so it takes no increment or count.
        None if item.eq_ignore_ascii_case("stale") => (SequenceValue::Float(STALE), ""),
        None => {
            let (value, rest) = number(item).ok_or_else(|| unexpected(item))?;
            (SequenceValue::Float(value), rest)
        }
    };
    let gap = first == SequenceValue::Gap;
    // The sign is that of the increment: `5-2x3` falls by 2.
    let (change, rest) = if rest.starts_with(['+', '-']) && !gap {
        let (delta, rest) = number(rest).ok_or_else(|| unexpected(item))?;
        (SequenceStep::Add(delta), rest)
    } else {
        (SequenceStep::None, rest)
    };
    let times = match (rest.strip_prefix('x'), &change) {
        (Some(count), _) => repetitions(count)?,
        (None, SequenceStep::None) if rest.is_empty() => u64::from(gap),
        // An increment needs a count.
        _ => return Err(unexpected(item)),
    };
    Ok(SequenceRun { first, change, times })
}

fn repetitions(count: &str) -> Result<u64, SequenceError> {
    count.parse::<u64>().map_err(|source| SequenceError::Repetitions { count: count.to_owned(), source })
}

fn unexpected(item: &str) -> SequenceError {
    SequenceError::Unexpected(item.to_owned())
}

/// An error of the item from byte `start` to `end`.
fn spanned(start: usize, end: usize, error: &SequenceError) -> SpannedError {
    SpannedError::new(Span { start: start as u32, end: end as u32 }, error.to_string())
}

/// A number with an optional sign at the beginning of `text`, and the text after it.
pub(super) fn number(text: &str) -> Option<(f64, &str)> {
    let signed = usize::from(text.starts_with(['+', '-']));
    let body = &text[signed..];
    // `get`, because three bytes may end within a character.
    let word = body.get(..3).filter(|w| w.eq_ignore_ascii_case("inf") || w.eq_ignore_ascii_case("nan"));
    let length = match word {
        Some(word) => word.len(),
        None => float_length(body.as_bytes()),
    };
    let value: f64 = body[..length].parse().ok()?;
    Some((if text.starts_with('-') { -value } else { value }, &body[length..]))
}

/// The length of the decimal number at the beginning of `bytes`.
fn float_length(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') {
        at += 1 + digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        // Only with digits: `1e` is the number 1 and an unexpected letter.
        let exponent = digits((at + 1 + sign).min(bytes.len()));
        if exponent > 0 {
            at += 1 + sign + exponent;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Vec<Option<f64>> {
        let number = |point| match point {
            SequenceValue::Float(v) => Some(v),
            SequenceValue::Gap | SequenceValue::Histogram(_) => None,
        };
        parse_series(text).map(|s| s.values.into_iter().map(number).collect()).unwrap_or_default()
    }

    #[test]
    fn items_expand_as_in_test_files() {
        let text = r#"m{a="b", "c.d"="e"} 1+2x3 _x2 5 stale"#;
        let labels = Labels::from_pairs([("__name__", "m"), ("a", "b"), ("c.d", "e")]);
        assert_eq!(parse_series(text).unwrap().labels, labels);
        let numbers = [Some(1.0), Some(3.0), Some(5.0), Some(7.0), None, None, Some(5.0)];
        assert_eq!(plain(text)[..7], numbers);
        assert_eq!(plain(text)[7].map(f64::to_bits), Some(STALE.to_bits()));
        assert_eq!(plain("m -1-1x2"), [Some(-1.0), Some(-2.0), Some(-3.0)]);
        assert_eq!(plain("m 1.5e1x1 _"), [Some(15.0), Some(15.0), None]);
        assert_eq!(plain("{} -Inf 0x2"), [Some(f64::NEG_INFINITY), Some(0.0), Some(0.0), Some(0.0)]);
        assert!(plain("m").is_empty());
    }

    #[test]
    fn histograms_expand_as_numbers_do() {
        let text = "m {{count:1 buckets:[1]}}+{{count:2 buckets:[1 1] counter_reset_hint:gauge}}x2 {{}}x1 7 {{sum:1}}";
        let values = parse_series(text).unwrap().values;
        let counts: Vec<Option<f64>> = values
            .iter()
            .map(|point| match point {
                SequenceValue::Histogram(literal) => Some(literal.histogram.count),
                SequenceValue::Float(_) | SequenceValue::Gap => None,
            })
            .collect();
        assert_eq!(counts, [Some(1.0), Some(3.0), Some(5.0), Some(0.0), Some(0.0), None, Some(0.0)]);
        let SequenceValue::Histogram(last) = &values[2] else { panic!("{values:?}") };
        assert_eq!(last.histogram.positive.counts, [3.0, 2.0]);
        assert!(last.hint_written);
        assert!(
            matches!(&values[6], SequenceValue::Histogram(h) if !h.hint_written && h.histogram.sum == 1.0)
        );
    }

    #[test]
    fn bad_items_are_named() {
        let error = parse_series("m 1 abc").unwrap_err();
        assert_eq!(
            error.message(),
            "1:5: parse error: unexpected \"abc\" in series values, expected number or \"stale\""
        );
        let coarser = parse_series("m {{schema:1}}+{{schema:0}}x2").unwrap_err();
        assert!(coarser.text.contains("error combining histograms: cannot merge from schema 0 to 1"));
        for bad in
            ["m 1+2", "m 1x99999999999", "m{a!=\"b\"} 1", "m 1x", "m {{}}+{{}}", "m {{}}1", "m {{}}+1x2"]
        {
            assert!(parse_series(bad).is_err(), "{bad}");
        }
    }
}
