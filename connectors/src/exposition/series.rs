//! Parses the bytes that name a series into labels: `name{a="b"}`, `{"utf8.name", "label
//! name"="b"}`.
//!
//! This runs once per series of a target; afterwards the series cache finds the series by the bytes
//! themselves.

use super::{Context, LineError, MetricType, TextFormat, quote};
use crate::limits::SERIES_LABELS;
use crate::number;
use std::borrow::Cow;
use storage::limits::{LABEL_NAME_BYTES, LABEL_VALUE_BYTES};
use storage::model::LabelsBuilder;
use storage::model::labels::METRIC_NAME;

/// Why bytes do not name a series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// The bytes are malformed.
    #[error(transparent)]
    Malformed(#[from] LineError),
    /// A label occurs twice.
    #[error("label name {0} is not unique")]
    Twice(String),
    /// The series has more labels, or longer ones, than any series may have; the text names the
    /// limit.
    #[error("{0}")]
    Limit(String),
}

impl From<SeriesError> for LineError {
    fn from(error: SeriesError) -> LineError {
        match error {
            SeriesError::Malformed(reason) => reason,
            refused => LineError::Series(refused.to_string()),
        }
    }
}

/// Whether `b` may be part of an unquoted metric name (the first byte must not be a digit).
#[inline(always)]
pub fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b':'
}

/// Parses the labels that `bytes` name.
///
/// In families of type histogram (summary), `le` (`quantile`) gets its canonical spelling, so that
/// `le="1"` and `le="1.0"` are one series. The text format allows blanks between all parts and
/// needs no commas after values; OpenMetrics allows no blanks. Parsing stops at the first label
/// beyond a limit.
pub fn parse(bytes: &[u8], context: Context<'_>) -> Result<LabelsBuilder, SeriesError> {
    let (labels, is_named) = labels(bytes, context)?;
    if !is_named {
        return Err(LineError::NoName(quote(bytes)).into());
    }
    Ok(labels)
}

/// As [`parse`], for bytes that need not have a metric name; the flag says whether they have one.
pub fn labels(bytes: &[u8], context: Context<'_>) -> Result<(LabelsBuilder, bool), SeriesError> {
    let format = context.format;
    // One parser for two formats: they differ in blanks and in whether a comma may be missing.
    let skip_blanks = |bytes| if format == TextFormat::Text { super::trim_start(bytes) } else { bytes };
    let mut labels = LabelsBuilder::default();
    let name = bytes.iter().take_while(|b| is_name_byte(**b)).count();
    if name > 0 {
        labels.set(METRIC_NAME, text(&bytes[..name])?);
    }
    let rest = skip_blanks(&bytes[name..]);
    if rest.is_empty() {
        return Ok((labels, name > 0));
    }
    let inner = rest.strip_prefix(b"{").and_then(|r| r.strip_suffix(b"}"));
    let inner = inner.ok_or_else(|| LineError::expected("labels in braces", rest))?;
    let mut rest = skip_blanks(inner);
    let mut is_named = name > 0;
    while !rest.is_empty() {
        let (behind, is_name) = element(rest, context, is_named, &mut labels)?;
        is_named |= is_name;
        // Checked after each label and not at the end: a line of a million labels must not be built
        // before it is refused.
        if labels.pairs().len() > SERIES_LABELS {
            return Err(too_many_labels(labels.get(METRIC_NAME)));
        }
        rest = match behind.first() {
            None => behind,
            Some(b',') => skip_blanks(&behind[1..]),
            // Prometheus' grammar of the text format makes the comma optional. It is kept that way,
            // because exporters that forget it are scraped by Prometheus today.
            Some(_) if format == TextFormat::Text && !is_name => behind,
            Some(_) => return Err(LineError::expected("a comma between labels", behind).into()),
        };
    }
    Ok((labels, is_named))
}

/// The error for a metric with more labels than any series may have.
#[cold]
pub fn too_many_labels(metric: &str) -> SeriesError {
    let metric = start(metric);
    SeriesError::Limit(format!(
        "label_limit exceeded (metric: {metric}, number of labels: more than {SERIES_LABELS}, limit: {SERIES_LABELS})"
    ))
}

/// Parses one `name="value"`, or a quoted metric name if there is none yet. Returns the rest after
/// the blanks, and whether the element was the metric name.
fn element<'a>(
    bytes: &'a [u8],
    context: Context<'_>,
    is_named: bool,
    labels: &mut LabelsBuilder,
) -> Result<(&'a [u8], bool), SeriesError> {
    let Context { format, kind, .. } = context;
    let skip_blanks = |bytes| if format == TextFormat::Text { super::trim_start(bytes) } else { bytes };
    let (name, rest, quoted) = label_name(bytes)?;
    let metric = labels.get(METRIC_NAME);
    let rest = skip_blanks(rest);
    let Some(rest) = rest.strip_prefix(b"=") else {
        if !quoted {
            let name = quote(name.as_bytes()).into();
            return Err(LineError::NoValue { name, got: quote(rest).into() }.into());
        }
        // Either before the braces or quoted inside them. Two names are two series in one line, and
        // to choose one would hide the mistake.
        if is_named || labels.has(METRIC_NAME) {
            return Err(LineError::TwoNames(quote(name.as_bytes())).into());
        }
        // A metric's name is the value of a label, so the limit of values is its limit.
        if name.len() > LABEL_VALUE_BYTES {
            return Err(too_long_value(&name, METRIC_NAME, &name, LABEL_VALUE_BYTES));
        }
        labels.set(METRIC_NAME, name);
        return Ok((rest, true));
    };
    if name.len() > LABEL_NAME_BYTES {
        return Err(too_long_name(metric, &name, LABEL_NAME_BYTES));
    }
    let (value, rest) = string(skip_blanks(rest))?;
    if value.len() > LABEL_VALUE_BYTES {
        return Err(too_long_value(metric, &name, &value, LABEL_VALUE_BYTES));
    }
    let is_bound =
        matches!((kind, name.as_str()), (MetricType::Histogram, "le") | (MetricType::Summary, "quantile"));
    // Otherwise a client library that changes from `1` to `1.0` would end all series of a histogram
    // and begin them anew, and a quantile over both would count twice.
    let value = if is_bound { bound(value) } else { value };
    // Of two values of one label neither is right. Prometheus fails the scrape, too.
    if labels.has(&name) {
        return Err(SeriesError::Twice(quote(name.as_bytes())));
    }
    labels.set(name, value);
    Ok((skip_blanks(rest), false))
}

/// The error for a label name of more than `limit` bytes.
#[cold]
pub fn too_long_name(metric: &str, name: &str, limit: usize) -> SeriesError {
    let metric = start(metric);
    let shown = start(name);
    let length = name.len();
    SeriesError::Limit(format!(
        "label_name_length_limit exceeded (metric: {metric}, label name: {shown}, length: {length}, limit: {limit})"
    ))
}

/// The error for a label value of more than `limit` bytes.
#[cold]
pub fn too_long_value(metric: &str, name: &str, value: &str, limit: usize) -> SeriesError {
    let metric = start(metric);
    let name = start(name);
    let shown = start(value);
    let length = value.len();
    SeriesError::Limit(format!(
        "label_value_length_limit exceeded (metric: {metric}, label name: {name}, value: {shown:?}, length: {length}, \
         limit: {limit})"
    ))
}

/// The part of an exposed name or value that an error shows.
fn start(text: &str) -> String {
    text.chars().take(50).collect()
}

fn label_name(bytes: &[u8]) -> Result<(String, &[u8], bool), LineError> {
    if bytes.first() == Some(&b'"') {
        return string(bytes).map(|(name, rest)| (name, rest, true));
    }
    // Without a colon, which only names of metrics may have.
    let len = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    if len == 0 || bytes[0].is_ascii_digit() {
        return Err(LineError::expected("a label name", bytes));
    }
    Ok((text(&bytes[..len])?, &bytes[len..], false))
}

/// Parses the quoted string at the start of `bytes`; returns it unescaped, and the rest.
fn string(bytes: &[u8]) -> Result<(String, &[u8]), LineError> {
    let Some(inner) = bytes.strip_prefix(b"\"") else {
        return Err(LineError::expected("a quoted string", bytes));
    };
    let end = super::string_end(bytes, 0, TextFormat::Text)?;
    let text = text(&inner[..end - 2])?;
    Ok((unescape(&text, Escapes::Quoted).into_owned(), &bytes[end..]))
}

/// The escape sequences of a text.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// None.
    None,
    /// `\\` and `\n`: help texts of the text format.
    Text,
    /// `\\`, `\n` and `\"`: quoted strings, and help texts of OpenMetrics.
    Quoted,
}

/// Resolves escape sequences; any other backslash remains.
pub fn unescape(text: &str, escapes: Escapes) -> Cow<'_, str> {
    if escapes == Escapes::None || !text.contains('\\') {
        return text.into();
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
            Some('\\') => out.push('\\'),
            Some('"') if escapes == Escapes::Quoted => out.push('"'),
            // As in Prometheus: an unknown escape is text, backslash included. To drop the
            // backslash would change values such as Windows paths.
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out.into()
}

/// The name in a metadata line, unescaped if it is quoted.
pub fn metadata_name(bytes: &[u8]) -> Result<Cow<'_, str>, LineError> {
    if bytes.first() == Some(&b'"') {
        return string(bytes).map(|(name, _)| name.into());
    }
    std::str::from_utf8(bytes).map(Cow::from).map_err(|_| LineError::Utf8(quote(bytes)))
}

fn bound(value: String) -> String {
    number::parse(&value).map_or(value, number::format_bound)
}

fn text(bytes: &[u8]) -> Result<String, LineError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| LineError::Utf8(quote(bytes)))
}
