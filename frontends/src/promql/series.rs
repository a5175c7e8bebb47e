//! Series descriptions: `metric{a="b"} 1+2x5 _ stale`, the notation of test files.
//!
//! Items are numbers, `_` (no sample) and `stale`. `v+dxN` are N+1 values, each `d` more than the one before,
//! `vxN` is N+1 times the same, `_xN` are N gaps. Native histograms (`{{…}}`) are not read yet.

use super::Options;
use super::errors::{Fault, ParseError};
use super::lexer::is_space;
use super::limits::SERIES_VALUES;
use super::parser::parse_metric;
use super::quoting::quote;
use engine::plan::Span;
use storage::model::value::STALE;
use storage::model::{Labels, MatchOp};

/// A series and its values at equal distances; `None`: no sample there, [`STALE`]: the series ends.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDescription {
    /// Its labels.
    pub labels: Labels,
    /// Its values.
    pub values: Vec<Option<f64>>,
}

/// Reads a series description.
pub fn parse_series(text: &str) -> Result<SeriesDescription, ParseError> {
    describe(text).map_err(|fault| fault.locate(text))
}

fn describe(text: &str) -> Result<SeriesDescription, Fault> {
    let options = Options::default();
    let (name, matchers, end) = parse_metric(text, &options)?;
    let whole = Span { start: 0, end };
    let mut labels = Labels::default().to_builder();
    for m in &matchers {
        if m.op != MatchOp::Equal {
            return Err(Fault::new(
                whole,
                format!("unexpected <op:{}> in label set, expected \"=\"", m.op.as_str()),
            ));
        }
        labels.set(&m.name, &m.value);
    }
    if let Some(name) = name {
        labels.set(storage::model::labels::METRIC_NAME, name);
    }
    Ok(SeriesDescription { labels: labels.build(), values: values(text, end as usize)? })
}

/// The items behind byte `from`.
fn values(text: &str, from: usize) -> Result<Vec<Option<f64>>, Fault> {
    let mut values = Vec::new();
    let mut at = from;
    loop {
        let rest = &text[at..];
        let item_start = at + (rest.len() - rest.trim_start_matches(is_space).len());
        let item = text[item_start..].split(is_space).next().unwrap_or("");
        if item.is_empty() {
            return Ok(values);
        }
        at = item_start + item.len();
        let span = Span { start: item_start as u32, end: at as u32 };
        expand(item, &mut values).map_err(|text| Fault::new(span, text))?;
    }
}

/// Adds the values of one item.
fn expand(item: &str, values: &mut Vec<Option<f64>>) -> Result<(), String> {
    let (first, rest) = match item.strip_prefix('_') {
        Some(rest) => (None, rest),
        None if item.eq_ignore_ascii_case("stale") => (Some(STALE), ""),
        None => {
            let (value, rest) = number(item).ok_or_else(|| unexpected(item))?;
            (Some(value), rest)
        }
    };
    let (delta, rest) = match rest.starts_with(['+', '-']) && first.is_some() {
        true => number(rest).ok_or_else(|| unexpected(item))?,
        false => (0.0, rest),
    };
    let times = match rest.strip_prefix('x') {
        Some(count) => count.parse::<u64>().map_err(|e| {
            format!("invalid repetition in series values: strconv.ParseUint: parsing {}: {e}", quote(count))
        })?,
        // An increment without a count means nothing.
        None if rest.is_empty() && item.len() > 1 && delta != 0.0 => return Err(unexpected(item)),
        None if rest.is_empty() => u64::from(first.is_none()),
        None => return Err(unexpected(item)),
    };
    if values.len() as u64 + times >= SERIES_VALUES {
        return Err(format!("too many series values: the limit is {SERIES_VALUES}"));
    }
    let Some(mut value) = first else {
        values.extend((0..times).map(|_| None));
        return Ok(());
    };
    for i in 0..=times {
        if i > 0 && delta != 0.0 {
            value += delta;
        }
        values.push(Some(value));
    }
    Ok(())
}

fn unexpected(item: &str) -> String {
    if item.starts_with("{{") {
        return "native histograms in series values are not supported yet".to_owned();
    }
    format!("unexpected {} in series values, expected number or \"stale\"", quote(item))
}

/// A number with an optional sign at the front of `text`, and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let signed = usize::from(text.starts_with(['+', '-']));
    let body = &text[signed..];
    let word = body.get(..3).filter(|w| w.eq_ignore_ascii_case("inf") || w.eq_ignore_ascii_case("nan"));
    let length = match word {
        Some(word) => word.len(),
        None => float_length(body.as_bytes()),
    };
    let value: f64 = body[..length].parse().ok()?;
    Some((if text.starts_with('-') { -value } else { value }, &body[length..]))
}

/// Bytes of the decimal number at the front of `bytes`.
fn float_length(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') {
        at += 1 + digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
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
        parse_series(text).map(|s| s.values).unwrap_or_default()
    }

    #[test]
    fn items_expand_as_in_test_files() {
        let series = parse_series(r#"m{a="b", "c.d"="e"} 1+2x3 _x2 5 stale"#).unwrap();
        assert_eq!(series.labels, Labels::from_pairs([("__name__", "m"), ("a", "b"), ("c.d", "e")]));
        let numbers = [Some(1.0), Some(3.0), Some(5.0), Some(7.0), None, None, Some(5.0)];
        assert_eq!(series.values[..7], numbers);
        assert_eq!(series.values[7].map(f64::to_bits), Some(STALE.to_bits()));
        assert_eq!(plain("m -1-1x2"), [Some(-1.0), Some(-2.0), Some(-3.0)]);
        assert_eq!(plain("m 1.5e1x1 _"), [Some(15.0), Some(15.0), None]);
        assert_eq!(plain("{} -Inf 0x2"), [Some(f64::NEG_INFINITY), Some(0.0), Some(0.0), Some(0.0)]);
        assert!(plain("m").is_empty());
    }

    #[test]
    fn bad_items_are_named() {
        let error = parse_series("m 1 abc").unwrap_err();
        assert_eq!(
            error.message(),
            "1:5: parse error: unexpected \"abc\" in series values, expected number or \"stale\""
        );
        assert!(parse_series("m 1+2").is_err());
        assert!(parse_series("m 1x99999999999").is_err());
        assert!(parse_series("m{a!=\"b\"} 1").is_err());
        assert!(parse_series("m 1x").is_err());
    }
}
