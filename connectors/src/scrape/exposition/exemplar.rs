//! The exemplar of an OpenMetrics line: `{labels} value [seconds]`, once the line is known to be well-formed.

use super::points::RawExemplar;
use super::{Format, Kind, braces, number, quote, series};

/// What `raw`, the bytes behind the `# `, say.
pub fn parse(raw: &[u8], format: Format) -> Result<RawExemplar, String> {
    let bad = || format!("expected an exemplar, got {}", quote(raw));
    let (labels, rest) = raw.split_at(braces(raw, format)?);
    let labels = series::parse(labels, Kind::Unknown)?.build();
    let text = std::str::from_utf8(rest).map_err(|_| bad())?;
    let mut numbers = text.split_ascii_whitespace().map(fast_float2::parse::<f64, _>);
    let v = numbers.next().and_then(Result::ok).ok_or_else(bad)?;
    let seconds = numbers.next().transpose().map_err(|_| bad())?;
    Ok(RawExemplar { labels, v: number::normal(v), t: seconds.map(|seconds| (seconds * 1000.0) as i64) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemplars_are_read() {
        let read = |text: &str| {
            parse(text.as_bytes(), Format::OpenMetrics).map(|e| (e.labels.to_string(), e.v, e.t))
        };
        assert_eq!(read("{id=\"a}b\"} 1.5 2.25"), Ok(("{id=\"a}b\"}".to_owned(), 1.5, Some(2250))));
        assert_eq!(read("{} 3"), Ok(("{}".to_owned(), 3.0, None)));
        assert!(read("{} x").is_err());
    }
}
