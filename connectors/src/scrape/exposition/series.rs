//! From the bytes that name a series to its labels: `name{a="b"}`, `{"utf8.name", "label name"="b"}`.
//!
//! Runs once per series of a target; afterwards the bytes themselves are the key.

use super::{Format, Kind, number, quote};
use storage::model::LabelsBuilder;
use storage::model::labels::METRIC_NAME;

/// Whether `b` may stand in an unquoted metric name (the first may not be a digit).
#[inline(always)]
pub fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b':'
}

/// The labels that `bytes` name. In families of type histogram (summary), `le` (`quantile`) gets its canonical
/// spelling, so that `le="1"` and `le="1.0"` are one series.
pub fn parse(bytes: &[u8], kind: Kind) -> Result<LabelsBuilder, String> {
    let mut labels = LabelsBuilder::default();
    let name = bytes.iter().take_while(|b| is_name_byte(**b)).count();
    if name > 0 {
        labels.set(METRIC_NAME, text(&bytes[..name])?);
    }
    let rest = skip_blanks(&bytes[name..]);
    if rest.is_empty() {
        return Ok(labels);
    }
    let inner = rest.strip_prefix(b"{").and_then(|r| r.strip_suffix(b"}"));
    let mut rest =
        skip_blanks(inner.ok_or_else(|| format!("expected labels in braces, got {}", quote(rest)))?);
    while !rest.is_empty() {
        rest = element(rest, kind, &mut labels)?;
        rest = match rest.first() {
            None => rest,
            Some(b',') => skip_blanks(&rest[1..]),
            Some(_) => return Err(format!("expected a comma between labels, got {}", quote(rest))),
        };
    }
    Ok(labels)
}

/// One `name="value"` (or a quoted metric name) and the blanks after it; returns the rest.
fn element<'a>(bytes: &'a [u8], kind: Kind, labels: &mut LabelsBuilder) -> Result<&'a [u8], String> {
    let (name, rest, quoted) = label_name(bytes)?;
    let rest = skip_blanks(rest);
    let Some(rest) = rest.strip_prefix(b"=") else {
        if !quoted {
            return Err(format!("expected = after label name {name:?}, got {}", quote(rest)));
        }
        if !labels.get(METRIC_NAME).is_empty() {
            return Err(format!("metric name is given twice: {name:?}"));
        }
        labels.set(METRIC_NAME, name);
        return Ok(rest);
    };
    let (value, rest) = string(skip_blanks(rest))?;
    let is_bound = matches!((kind, name.as_str()), (Kind::Histogram, "le") | (Kind::Summary, "quantile"));
    let value = if is_bound { bound(value) } else { value };
    if labels.pairs().iter().any(|(n, _)| *n == name) {
        return Err(format!("label name {name:?} is not unique"));
    }
    labels.set(name, value);
    Ok(skip_blanks(rest))
}

fn label_name(bytes: &[u8]) -> Result<(String, &[u8], bool), String> {
    if bytes.first() == Some(&b'"') {
        return string(bytes).map(|(name, rest)| (name, rest, true));
    }
    let len = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    if len == 0 || bytes[0].is_ascii_digit() {
        return Err(format!("expected a label name, got {}", quote(bytes)));
    }
    Ok((text(&bytes[..len])?, &bytes[len..], false))
}

/// The quoted string at the start of `bytes`, unescaped, and the rest.
fn string(bytes: &[u8]) -> Result<(String, &[u8]), String> {
    let Some(inner) = bytes.strip_prefix(b"\"") else {
        return Err(format!("expected a quoted string, got {}", quote(bytes)));
    };
    let end = super::string_end(bytes, 0, Format::Text)?;
    Ok((unescape(text(&inner[..end - 2])?), &bytes[end..]))
}

/// Resolves `\\`, `\"` and `\n`; any other backslash stays.
pub fn unescape(text: String) -> String {
    if !text.contains('\\') {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(escaped @ ('\\' | '"')) => out.push(escaped),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// A name of a metadata line: unquoted where it is quoted.
pub fn metadata_name(bytes: &[u8]) -> Result<String, String> {
    if bytes.first() == Some(&b'"') { string(bytes).map(|(name, _)| name) } else { text(bytes) }
}

fn bound(value: String) -> String {
    fast_float2::parse::<f64, _>(&value).map_or(value, number::canonical)
}

fn text(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| format!("invalid UTF-8 in {}", quote(bytes)))
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    super::trim_start(bytes)
}
