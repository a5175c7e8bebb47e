//! Samples that are not read line by line: those of formats without lines (protobuf), and those
//! that are combined from several lines (classic histograms converted to native ones).
//!
//! [`ExposedPoints`] is a list of such samples. Each has a series name as the text format would
//! write it, so that the series cache, the relabelling rules and the limits treat all formats
//! alike.

use super::series::is_name_byte;
use super::{Context, MetricType, TextFormat};
use crate::native_histogram::RawHistogram;
use std::ops::Range;
use storage::model::{Labels, TimeMs};

/// An exemplar as exposed.
#[derive(Clone, Debug, PartialEq)]
pub struct RawExemplar {
    /// The labels of the exemplar.
    pub labels: Labels,
    /// The observed value.
    pub v: f64,
    /// The timestamp, ms, if one was exposed.
    pub t: Option<TimeMs>,
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum PointValue {
    /// A float; every NaN is the ordinary one or the stale marker.
    Float(f64),
    /// A native histogram, not yet validated.
    Histogram(Box<RawHistogram>),
}

/// A sample with all that was exposed about it.
#[derive(Clone, Debug, PartialEq)]
pub struct ExposedPoint {
    series: Range<usize>,
    /// The format in which the name of the series is written.
    pub format: TextFormat,
    /// The type of the metric family.
    pub kind: MetricType,
    /// The value.
    pub value: PointValue,
    /// The timestamp, ms, if one was exposed.
    pub t: Option<TimeMs>,
    /// The start timestamp, ms; 0: none was exposed.
    pub start: TimeMs,
    /// The exemplars, in the order of the exposition.
    pub exemplars: Vec<RawExemplar>,
}

/// What the reader makes of a body.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PointRules {
    /// Whether native histograms are ingested; otherwise their classic buckets are.
    pub native: bool,
    /// Whether classic buckets are ingested in addition to the native histogram.
    pub classic_too: bool,
    /// Whether classic histograms are converted to native ones with custom buckets.
    pub convert: bool,
    /// Whether exemplars are read.
    pub exemplars: bool,
}

/// The samples of a body, with the names of their series in one buffer.
#[derive(Debug, Default)]
pub struct ExposedPoints {
    text: Vec<u8>,
    all: Vec<ExposedPoint>,
}

impl ExposedPoints {
    /// Adds a sample of the series whose name `write` writes.
    pub fn push(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        context: Context<'_>,
        value: PointValue,
    ) -> &mut ExposedPoint {
        let start = self.text.len();
        write(&mut self.text);
        let series = start..self.text.len();
        let Context { format, kind, .. } = context;
        let point = ExposedPoint { series, format, kind, value, t: None, start: 0, exemplars: Vec::new() };
        let at = self.all.len();
        self.all.push(point);
        &mut self.all[at]
    }

    /// Removes all samples.
    pub fn clear(&mut self) {
        self.text.clear();
        self.all.clear();
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The samples in order, each with the bytes that name its series.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &ExposedPoint)> {
        self.all.iter().map(|point| (&self.text[point.series.clone()], point))
    }
}

/// Writes the name of a series as the text format does: quoted where the name needs it.
pub fn write_series(out: &mut Vec<u8>, name: [&str; 2], labels: &[(&str, &str)], more: Option<(&str, &str)>) {
    // What may stand without quotes. Anything else is quoted, so that the text is parsed back to
    // exactly these labels.
    let plain = |bytes: &str, also: &[u8]| {
        !bytes.as_bytes().first().is_some_and(u8::is_ascii_digit)
            && bytes.bytes().all(|b| is_name_byte(b) && !also.contains(&b))
    };
    // The name is in two parts so that a suffix such as `_bucket` needs no text of its own: this
    // runs for every sample of every scrape in protobuf.
    let bare = plain(name[0], b"") && plain(name[1], b"") && !name[0].is_empty();
    if bare {
        for part in name.iter() {
            out.extend_from_slice(part.as_bytes());
        }
    }
    let mut separator = b'{';
    let mut next = |out: &mut Vec<u8>| out.push(std::mem::replace(&mut separator, b','));
    if !bare {
        next(out);
        out.push(b'"');
        for part in name.iter() {
            escape(out, part);
        }
        out.push(b'"');
    }
    for (label, value) in labels.iter().copied().chain(more) {
        next(out);
        if plain(label, b":") && !label.is_empty() {
            out.extend_from_slice(label.as_bytes());
        } else {
            out.push(b'"');
            escape(out, label);
            out.push(b'"');
        }
        out.extend_from_slice(b"=\"");
        escape(out, value);
        out.push(b'"');
    }
    // Braces were opened, by the name or by a label.
    if separator == b',' {
        out.push(b'}');
    }
}

fn escape(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'\\' | b'"' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Context, series};
    use super::*;
    use proptest::prelude::*;
    use storage::model::labels::METRIC_NAME;

    #[test]
    fn names_are_written_as_text() {
        let text = |name, labels: &[(&str, &str)], more| {
            let mut out = Vec::new();
            write_series(&mut out, name, labels, more);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(["a", ""], &[], None), "a");
        assert_eq!(
            text(["a", "_bucket"], &[("x", "1")], Some(("le", "+Inf"))),
            "a_bucket{x=\"1\",le=\"+Inf\"}"
        );
        assert_eq!(
            text(["a.b", "_sum"], &[("x y", "\"\\\n")], None),
            "{\"a.b_sum\",\"x y\"=\"\\\"\\\\\\n\"}"
        );
    }

    proptest! {
        #[test]
        fn and_read_back(name in "[a-z.ä]{1,4}", label in "[a-z:. \"]{1,4}", value in "[a-z\\\\\"\\n,{}=ä]{0,6}") {
            let mut out = Vec::new();
            write_series(&mut out, [&name, "_x"], &[(&label, &value)], None);
            let labels = series::parse(&out, Context::text(MetricType::Unknown)).unwrap();
            prop_assert_eq!(labels.get(METRIC_NAME), format!("{name}_x"));
            prop_assert_eq!(labels.get(&label), value);
        }
    }
}
