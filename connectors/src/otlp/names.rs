//! Names of metrics, units and labels: what a `translation_strategy` makes of OpenTelemetry's.
//!
//! The rules are those of Prometheus 3.14, which has them from OpenTelemetry's specification of the
//! compatibility with Prometheus.

use super::config::TranslationStrategy;
use std::borrow::Cow;

/// What decides about the suffixes of a metric.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum MetricKind {
    /// A gauge.
    Gauge,
    /// A sum that only grows.
    Counter,
    /// Any other sum.
    Sum,
    /// A histogram of either kind.
    Histogram,
    /// A summary.
    Summary,
}

/// Why a name has no translation, with Prometheus' texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    #[error("normalization for metric {0:?} resulted in empty name")]
    EmptyMetric(String),
    #[error("normalization for metric {name:?} resulted in invalid name {normalized:?}")]
    Metric { name: String, normalized: String },
    #[error("a resource or data point has more than {} attributes", crate::limits::SERIES_LABELS)]
    TooManyAttributes,
    #[error("label name is empty")]
    EmptyLabel,
    #[error("label name {0:?} contains only underscores")]
    Underscores(String),
    #[error("normalization for label name {name:?} resulted in invalid name {normalized:?}")]
    Label { name: String, normalized: String },
}

/// Units before a `/`.
const MAIN_UNITS: [(&str, &str); 25] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
];

/// Units after a `/`.
const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The unit of gauges that are ratios.
const RATIO_UNIT: &str = "1";

/// The suffixes that a unit becomes; empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct UnitSuffixes {
    main: String,
    /// `per_second`.
    per: String,
}

fn in_words(unit: &str, table: &[(&str, &str)]) -> String {
    let unit = unit.trim();
    // Braces are annotations: `{request}` counts requests and has no unit.
    if unit.contains(['{', '}']) {
        return String::new();
    }
    let known = table.iter().find(|(short, _)| *short == unit);
    known.map_or(unit, |(_, word)| word).to_owned()
}

fn unit_suffixes(unit: &str) -> UnitSuffixes {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let main = if main.trim() == RATIO_UNIT { String::new() } else { in_words(main, &MAIN_UNITS) };
    let per = in_words(per, &PER_UNITS);
    UnitSuffixes { main, per: if per.is_empty() { per } else { format!("per_{per}") } }
}

fn is_metric_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// A unit without characters that names cannot have, and without underscores in a row or at its
/// beginning.
fn clean_unit(unit: &str) -> String {
    let mut clean = String::with_capacity(unit.len());
    for c in unit.chars() {
        if is_metric_char(c) {
            clean.push(c);
        } else if !clean.is_empty() && !clean.ends_with('_') {
            clean.push('_');
        }
    }
    clean
}

/// The unit as a label of metadata: `By/s` is `bytes_per_second`.
pub(super) fn unit_label(unit: &str) -> String {
    let UnitSuffixes { main, per } = unit_suffixes(unit);
    let parts = [clean_unit(&main), clean_unit(&per)];
    let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    parts.join("_").trim_end_matches('_').to_owned()
}

impl TranslationStrategy {
    /// The name of a metric; histograms and summaries get `_sum` and others after it.
    pub(super) fn metric_name(self, name: &str, unit: &str, kind: MetricKind) -> Result<String, NameError> {
        if !self.escapes() {
            return Ok(if self.has_suffixes() { with_suffixes(name, unit, kind) } else { name.to_owned() });
        }
        let mut normalized =
            if self.has_suffixes() { normalized(name, unit, kind) } else { escaped_metric(name) };
        if normalized.starts_with(|c: char| c.is_ascii_digit()) {
            normalized.insert(0, '_');
        }
        if normalized.is_empty() {
            return Err(NameError::EmptyMetric(name.to_owned()));
        }
        if normalized != name && has_only_underscores(&normalized) {
            return Err(NameError::Metric { name: name.to_owned(), normalized });
        }
        Ok(normalized)
    }
}

fn has_only_underscores(name: &str) -> bool {
    name.bytes().all(|b| b == b'_')
}

/// The name in characters that every metric may have.
fn escaped_metric(name: &str) -> String {
    let parts: Vec<&str> =
        name.split(|c: char| !is_metric_char(c) && c != '_').filter(|part| !part.is_empty()).collect();
    parts.join("_")
}

/// The words of the name, and the suffixes that it does not have already.
fn normalized(name: &str, unit: &str, kind: MetricKind) -> String {
    let mut words: Vec<String> =
        name.split(|c: char| !is_metric_char(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let suffixes = unit_suffixes(unit);
    let mut main = clean_unit(&suffixes.main);
    let mut per = clean_unit(&suffixes.per).trim_end_matches('_').to_owned();
    // A unit of nothing but characters that names cannot have.
    if per == "per" {
        per.clear();
    }
    if words.contains(&per) {
        per.clear();
    }
    if words.contains(&main) {
        main.clear();
    }
    if !per.is_empty() && main.ends_with('_') {
        main.pop();
    }
    words.extend([main, per].into_iter().filter(|word| !word.is_empty()));
    if let Some(suffix) = kind_suffix(unit, kind) {
        words.retain(|word| word != suffix);
        words.push(suffix.to_owned());
    }
    words.join("_")
}

/// The suffix of the kind of metric.
fn kind_suffix(unit: &str, kind: MetricKind) -> Option<&'static str> {
    match kind {
        MetricKind::Counter => Some("total"),
        // Only of gauges: many counters of things have this unit.
        MetricKind::Gauge if unit == RATIO_UNIT => Some("ratio"),
        _ => None,
    }
}

/// The name as it is, and suffixes after it.
fn with_suffixes(name: &str, unit: &str, kind: MetricKind) -> String {
    let UnitSuffixes { main, per } = unit_suffixes(unit);
    let suffix = kind_suffix(unit, kind).unwrap_or("");
    let mut name = without_suffix(without_suffix(name, suffix), &per).to_owned();
    if !name.ends_with(&main) {
        name.push('_');
        name.push_str(&main);
    }
    for suffix in [per.as_str(), suffix] {
        if !suffix.is_empty() {
            name.push('_');
            name.push_str(suffix);
        }
    }
    name
}

/// The name without the suffix and the character before it, which is taken for a separator.
fn without_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    let Some(rest) = name.strip_suffix(suffix).filter(|rest| !suffix.is_empty() && rest.len() > 1) else {
        return name;
    };
    let mut chars = rest.chars();
    chars.next_back();
    chars.as_str()
}

/// How attributes become labels.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct LabelNames {
    /// Whether names are escaped; the other fields are about escaped names.
    pub escapes: bool,
    /// `label_name_underscore_sanitization`.
    pub sanitizes_underscore: bool,
    /// `label_name_preserve_multiple_underscores`.
    pub keeps_underscores: bool,
}

impl LabelNames {
    /// The name of the label of an attribute.
    pub(super) fn label<'a>(&self, name: &'a str) -> Result<Cow<'a, str>, NameError> {
        if name.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if !self.escapes {
            if has_only_underscores(name) {
                return Err(NameError::Underscores(name.to_owned()));
            }
            return Ok(Cow::Borrowed(name));
        }
        // Most attributes are one word.
        if name.bytes().all(|b| b.is_ascii_alphanumeric()) && !name.starts_with(|c: char| c.is_ascii_digit())
        {
            return Ok(Cow::Borrowed(name));
        }
        let mut label = if self.keeps_underscores { escaped_label(name) } else { collapsed_label(name) };
        if label.starts_with(|c: char| c.is_ascii_digit()) {
            label.insert_str(0, "key_");
        } else if self.sanitizes_underscore && label.starts_with('_') && !label.starts_with("__") {
            label.insert_str(0, "key");
        }
        if has_only_underscores(&label) {
            return Err(NameError::Label { name: name.to_owned(), normalized: label });
        }
        Ok(Cow::Owned(label))
    }
}

fn escaped_label(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// As [`escaped_label`], with one underscore for several. Reserved names, `__…__`, keep their ends.
fn collapsed_label(name: &str) -> String {
    let inside = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    let ends = if inside.is_some() { "__" } else { "" };
    let mut label = ends.to_owned();
    let mut was_underscore = false;
    for c in inside.unwrap_or(name).chars() {
        let is_valid = c.is_ascii_alphanumeric();
        if is_valid || !was_underscore {
            label.push(if is_valid { c } else { '_' });
        }
        was_underscore = !is_valid;
    }
    label + ends
}

#[cfg(test)]
mod tests;
