//! Lines of start timestamps, such as `metric{a="b"}@st -1m+1sx5 _ 0s`, before the line with the
//! samples of the series.
//!
//! Items are offsets from the sample at the same position of the next line: a duration with a sign;
//! `dxN` for N+1 equal offsets; `d+exN` and `d-exN` for N+1 offsets that change by `e`; `_` and
//! `_xN` for no start timestamp; `*` and `*xN` to repeat the last offset. A line `@st …` without a
//! series applies to all later series that have no line of their own; it is repeated for longer
//! series.

use super::errors::{ScriptErrorKind, StartTimestampError};
use crate::limits::SERIES_VALUES;
use crate::series::parse_series_labels;
use storage::model::Labels;
use storage::model::time::parse_duration;

/// The mark of the line, directly after the series.
const MARK: &str = "@st";

/// Offsets from the samples, ms; `None`: the start is unknown.
pub(super) type StartOffsets = Vec<Option<i64>>;

/// The series (`None`: all) and the offsets of `line`; `None`: it is another kind of line.
pub(super) fn parse(line: &str) -> Option<Result<(Option<Labels>, StartOffsets), ScriptErrorKind>> {
    let (labels, items) = match line.strip_prefix(MARK) {
        Some(items) => (None, items),
        None => {
            let (labels, end) = parse_series_labels(line).ok()?;
            (Some(labels), line[end..].strip_prefix(MARK)?)
        }
    };
    if !items.is_empty() && !items.starts_with(char::is_whitespace) {
        return None;
    }
    Some(distances(items).map(|distances| (labels, distances)))
}

fn distances(items: &str) -> Result<StartOffsets, ScriptErrorKind> {
    let mut found: StartOffsets = Vec::new();
    for item in items.split_whitespace() {
        let last = found.iter().rev().find_map(|distance| *distance).unwrap_or(0);
        let bad = |error| ScriptErrorKind::StartTimestamp { item: item.to_owned(), error };
        let (first, step, count) = read(item, last).map_err(bad)?;
        if found.len() as u64 + count > SERIES_VALUES {
            return Err(bad(StartTimestampError::TooMany));
        }
        found.extend((0..count).map(|i| first.map(|first| first + i as i64 * step)));
    }
    if found.is_empty() { Err(ScriptErrorKind::NoStartTimestamps) } else { Ok(found) }
}

/// The first offset, the change and the number of values of one item.
fn read(item: &str, last: i64) -> Result<(Option<i64>, i64, u64), StartTimestampError> {
    if let Some(rest) = item.strip_prefix('_') {
        return Ok((None, 0, times(rest)?.unwrap_or(1)));
    }
    if let Some(rest) = item.strip_prefix('*') {
        return Ok((Some(last), 0, times(rest)?.map_or(1, |n| n + 1)));
    }
    let (first, rest) = duration(item)?;
    if !rest.starts_with(['+', '-']) {
        return Ok((Some(first), 0, times(rest)?.map_or(1, |n| n + 1)));
    }
    let (step, rest) = duration(rest)?;
    let count = times(rest)?.ok_or(StartTimestampError::NoCount)?;
    Ok((Some(first), step, count + 1))
}

/// The count of `xN`; `None` if `text` is empty.
fn times(text: &str) -> Result<Option<u64>, StartTimestampError> {
    if text.is_empty() {
        return Ok(None);
    }
    let count = text.strip_prefix('x').and_then(|count| count.parse::<u32>().ok());
    count.map(|n| Some(u64::from(n))).ok_or_else(|| StartTimestampError::BadCount(text.to_owned()))
}

/// A duration with an optional sign at the beginning of `text`, ms, and the text after it.
fn duration(text: &str) -> Result<(i64, &str), StartTimestampError> {
    let signed = usize::from(text.starts_with(['+', '-']));
    // No unit contains an x, so an x begins the count.
    let body = &text[signed..];
    let end = body.find(|c: char| c == 'x' || !c.is_ascii_alphanumeric()).unwrap_or(body.len());
    let ms = parse_duration(&body[..end]);
    let ms = ms.map_err(|error| StartTimestampError::Duration(error.to_string()))?;
    Ok((if text.starts_with('-') { -ms } else { ms }, &body[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_distances() {
        let of = |line: &str| parse(line).unwrap().unwrap();
        let (labels, distances) = of("m{a=\"b c\"}@st -1m _x2 30s+1sx2 * _ -0ms *x1");
        assert_eq!(labels, Some(Labels::from_pairs([("__name__", "m"), ("a", "b c")])));
        let rest = [Some(32_000), None, Some(0), Some(0), Some(0)];
        assert_eq!(distances[..6], [Some(-60_000), None, None, Some(30_000), Some(31_000), Some(32_000)]);
        assert_eq!(distances[6..], rest);
        assert_eq!(of("@st -30s-1mx2"), (None, vec![Some(-30_000), Some(-90_000), Some(-150_000)]));
        assert_eq!(of("up@st\t1s").1, [Some(1_000)]);
    }

    #[test]
    fn other_lines_are_left_alone_and_mistakes_named() {
        for other in ["m 1 2", "m{a=\"@st\"} 1", "m @st 1", "m@start 1", "m{"] {
            assert!(parse(other).is_none(), "{other}");
        }
        for bad in ["m@st", "m@st x", "m@st 1m+1s", "m@st 1mx", "m@st 1q", "m@st _y2", "m@st 1mx99999999999"]
        {
            assert!(parse(bad).unwrap().is_err(), "{bad}");
        }
    }
}
