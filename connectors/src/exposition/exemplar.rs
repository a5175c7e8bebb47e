//! Parses the exemplar at the end of an OpenMetrics line: `# {labels} value [seconds]`. [`super`]
//! has the parser of the line.

use super::points::RawExemplar;
use super::{Context, LineError, MetricType, TextFormat, braces, quote, series};
use crate::number;

/// Checks that the braces contain labels as allowed in an exemplar: no metric name, no blanks,
/// commas in between.
pub fn check(labels: &[u8]) -> Result<(), LineError> {
    let mut rest = &labels[1..labels.len() - 1];
    while !rest.is_empty() {
        let name = match rest.first() {
            Some(b'"') => super::string_end(rest, 0, TextFormat::OpenMetrics)?,
            Some(b'0'..=b'9') => 0,
            _ => rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count(),
        };
        let value = rest.get(name..).filter(|_| name > 0).and_then(|rest| rest.strip_prefix(b"="));
        // No metric name and no blanks: Prometheus' lexer of exemplars knows neither, and a body
        // that it refuses must be refused here, too.
        let Some(value) = value.filter(|value| value.first() == Some(&b'"')) else {
            return Err(LineError::expected("label name", rest));
        };
        let end = super::string_end(value, 0, TextFormat::OpenMetrics)?;
        if std::str::from_utf8(&value[..end]).is_err() {
            return Err(LineError::LabelUtf8(quote(value)));
        }
        rest = match value.get(end) {
            None => &[],
            Some(b',') => &value[end + 1..],
            Some(_) => return Err(LineError::expected("comma or brace close", &value[end..])),
        };
    }
    Ok(())
}

/// Parses `raw`, the bytes after the `# `.
pub fn parse(raw: &[u8], format: TextFormat) -> Result<RawExemplar, LineError> {
    let bad = || LineError::expected("an exemplar", raw);
    let (labels, rest) = raw.split_at(braces(raw, format)?);
    // Not those of a series: an exemplar needs no name, so only the form is checked.
    let labels = series::labels(labels, Context { format, kind: MetricType::Unknown, unit: "" })?.0.build();
    let text = std::str::from_utf8(rest).map_err(|_| bad())?;
    let mut numbers = text.split_ascii_whitespace().map(fast_float2::parse::<f64, _>);
    let v = numbers.next().and_then(Result::ok).ok_or_else(bad)?;
    let seconds = numbers.next().transpose().map_err(|_| bad())?;
    Ok(RawExemplar {
        labels,
        v: number::normalize_nan(v),
        t: seconds.map(|seconds| (seconds * 1000.0) as i64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemplars_are_read() {
        let read = |text: &str| {
            parse(text.as_bytes(), TextFormat::OpenMetrics).map(|e| (e.labels.to_string(), e.v, e.t))
        };
        assert_eq!(read("{id=\"a}b\"} 1.5 2.25"), Ok(("{id=\"a}b\"}".to_owned(), 1.5, Some(2250))));
        assert_eq!(read("{} 3"), Ok(("{}".to_owned(), 3.0, None)));
        assert!(read("{} x").is_err());
    }
}
