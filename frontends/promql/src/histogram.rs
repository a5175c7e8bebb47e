//! Histogram literals such as `{{schema:1 count:3 sum:2.5 buckets:[1 2]}}`: native histograms in
//! series descriptions ([`super::series`]).
//!
//! The entries may be in any order, each at most once; a missing entry is zero. `buckets` are
//! adjacent, beginning at index `offset`; `n_buckets` are those of negative observations.
//! `z_bucket` is the zero bucket and `z_bucket_w` half its width. `custom_values` are the upper
//! bounds of custom buckets, which schema -53 denotes.

use super::errors::SpannedError;
use super::lexer::{is_alpha, is_space};
use super::quoting::quote;
use super::series::number;
use engine::plan::Span;
use std::sync::Arc;
use storage::model::histogram::{BucketSpan, Buckets, NativeHistogram, ResetHint};

/// The beginning of a literal.
pub(super) const OPEN: &str = "{{";
/// The end of a literal.
const CLOSE: &str = "}}";

/// A parsed histogram literal.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramLiteral {
    /// The value that the text stands for.
    pub histogram: Arc<NativeHistogram>,
    /// Whether the literal contains a counter reset hint; an expected hint is compared only then.
    pub hint_written: bool,
}

/// Parses the literal that begins at byte `at` of `text`; returns it and its end.
pub(super) fn read(text: &str, at: usize) -> Result<(HistogramLiteral, usize), SpannedError> {
    let mut reader = HistogramLiteralReader { text, at: at + OPEN.len() };
    let mut fields = HistogramLiteralFields::default();
    loop {
        let before = reader.at;
        reader.skip_spaces();
        if reader.accept(CLOSE) {
            return Ok((fields.finish(), reader.at));
        }
        // Entries are separated by space: `{{sum:1count:2}}` is refused.
        if before == reader.at && !fields.seen.is_empty() {
            return Err(reader.unexpected());
        }
        reader.entry(&mut fields)?;
    }
}

/// The entries that have been parsed.
#[derive(Default)]
struct HistogramLiteralFields {
    seen: Vec<&'static str>,
    histogram: NativeHistogram,
    positive: (i32, Vec<f64>),
    negative: (i32, Vec<f64>),
}

/// The keys of the entries.
const KEYS: [&str; 11] = [
    "schema",
    "sum",
    "count",
    "z_bucket",
    "z_bucket_w",
    "custom_values",
    "buckets",
    "offset",
    "n_buckets",
    "n_offset",
    "counter_reset_hint",
];

impl HistogramLiteralFields {
    fn finish(self) -> HistogramLiteral {
        let mut histogram = self.histogram;
        histogram.positive = adjacent_buckets(self.positive.0, self.positive.1);
        histogram.negative = adjacent_buckets(self.negative.0, self.negative.1);
        let hint_written = self.seen.contains(&"counter_reset_hint");
        HistogramLiteral { histogram: Arc::new(histogram), hint_written }
    }
}

/// Buckets without gaps, of which the first has the index `offset`.
fn adjacent_buckets(offset: i32, counts: Vec<f64>) -> Buckets {
    let span = BucketSpan { offset, length: counts.len() as u32 };
    // No span of length zero, which would make an empty histogram unequal to one without the entry.
    Buckets { spans: if counts.is_empty() { Vec::new() } else { vec![span] }, counts }
}

struct HistogramLiteralReader<'a> {
    text: &'a str,
    at: usize,
}

impl HistogramLiteralReader<'_> {
    fn remaining(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) {
        self.at += self.remaining().len() - self.remaining().trim_start_matches(is_space).len();
    }

    fn accept(&mut self, wanted: &str) -> bool {
        let hit = self.remaining().starts_with(wanted);
        self.at += if hit { wanted.len() } else { 0 };
        hit
    }

    /// Takes the letters and underscores that follow.
    fn word(&mut self) -> &str {
        let length = self.remaining().len() - self.remaining().trim_start_matches(is_alpha).len();
        self.at += length;
        &self.text[self.at - length..self.at]
    }

    fn fault(&self, text: String) -> SpannedError {
        SpannedError::new(Span { start: self.at as u32, end: self.text.len() as u32 }, text)
    }

    /// The error that the next character is not allowed here.
    fn unexpected(&self) -> SpannedError {
        let next = self.remaining().chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
        self.fault(format!("histogram description incomplete unexpected: '{next}'"))
    }

    /// Parses one `key:value`.
    fn entry(&mut self, fields: &mut HistogramLiteralFields) -> Result<(), SpannedError> {
        // Owned, because the errors below need the reader.
        let word = self.word().to_owned();
        if word.is_empty() {
            return Err(self.unexpected());
        }
        let Some(key) = KEYS.into_iter().find(|key| key.eq_ignore_ascii_case(&word)) else {
            return Err(self.fault(format!("bad histogram descriptor found: {}", quote(&word))));
        };
        if !self.accept(":") {
            return Err(self.fault("missing `:` for histogram descriptor".to_owned()));
        }
        if fields.seen.contains(&key) {
            return Err(self.fault(format!("duplicate key {} in histogram", quote(key))));
        }
        fields.seen.push(key);
        let h = &mut fields.histogram;
        match key {
            "schema" => h.schema = self.integer()?,
            "sum" => h.sum = self.number()?,
            "count" => h.count = self.number()?,
            "z_bucket" => h.zero_count = self.number()?,
            "z_bucket_w" => h.zero_threshold = self.number()?,
            "custom_values" => h.bounds = self.list()?.into(),
            "buckets" => fields.positive.1 = self.list()?,
            "offset" => fields.positive.0 = self.integer()?,
            "n_buckets" => fields.negative.1 = self.list()?,
            "n_offset" => fields.negative.0 = self.integer()?,
            // The last of [`KEYS`]; all others have an arm.
            _ => h.hint = self.hint()?,
        }
        Ok(())
    }

    fn number(&mut self) -> Result<f64, SpannedError> {
        let (value, rest) = number(self.remaining()).ok_or_else(|| self.unexpected())?;
        self.at = self.text.len() - rest.len();
        Ok(value)
    }

    fn integer(&mut self) -> Result<i32, SpannedError> {
        let text = self.remaining();
        let sign = usize::from(text.starts_with('-'));
        let length = sign + text[sign..].bytes().take_while(u8::is_ascii_digit).count();
        let value = text[..length].parse().map_err(|_| self.unexpected())?;
        self.at += length;
        Ok(value)
    }

    /// Parses a list such as `[1 2.5 3]`.
    fn list(&mut self) -> Result<Vec<f64>, SpannedError> {
        if !self.accept("[") {
            return Err(self.unexpected());
        }
        let mut values = Vec::new();
        loop {
            self.skip_spaces();
            if self.accept("]") {
                return Ok(values);
            }
            let next = self.remaining().chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
            let value = self.number();
            let bad = |_| self.fault(format!("invalid character in buckets description: '{next}'"));
            values.push(value.map_err(bad)?);
        }
    }

    fn hint(&mut self) -> Result<ResetHint, SpannedError> {
        Ok(match self.word().to_ascii_lowercase().as_str() {
            "unknown" => ResetHint::Unknown,
            "reset" => ResetHint::Reset,
            "not_reset" => ResetHint::NotReset,
            "gauge" => ResetHint::Gauge,
            other => {
                let other = quote(other);
                return Err(self.fault(format!("bad histogram descriptor found: {other}")));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_read() {
        let text = "{{ schema:-53 sum:-1.5 count:7 z_bucket:2 z_bucket_w:1e-3 custom_values:[5 10] buckets:[1 0 3 ] \
                    offset:-2 n_buckets:[4] n_offset:3 counter_reset_hint:gauge }}x";
        let (literal, end) = read(text, 0).unwrap();
        assert_eq!(&text[end..], "x");
        let h = &*literal.histogram;
        assert_eq!((h.schema, h.sum, h.count, h.zero_count, h.zero_threshold), (-53, -1.5, 7.0, 2.0, 1e-3));
        assert_eq!(h.bounds.to_vec(), [5.0, 10.0]);
        assert_eq!(h.positive.counts, [1.0, 0.0, 3.0]);
        assert_eq!(h.positive.spans, [BucketSpan { offset: -2, length: 3 }]);
        assert_eq!(h.negative.spans, [BucketSpan { offset: 3, length: 1 }]);
        assert_eq!((h.hint, literal.hint_written), (ResetHint::Gauge, true));
    }

    #[test]
    fn nothing_is_a_histogram_of_nothing() {
        for text in ["{{}}", "{{ }}"] {
            let (literal, end) = read(text, 0).unwrap();
            assert_eq!((end, literal.hint_written), (text.len(), false));
            assert_eq!(*literal.histogram, NativeHistogram::default());
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            ("{{", "histogram description incomplete unexpected: '\u{fffd}'"),
            ("{{sum:}}", "histogram description incomplete unexpected: '}'"),
            ("{{sum 1}}", "missing `:` for histogram descriptor"),
            ("{{summ:1}}", "bad histogram descriptor found: \"summ\""),
            ("{{sum:1 sum:2}}", "duplicate key \"sum\" in histogram"),
            ("{{sum:1count:2}}", "histogram description incomplete unexpected: 'c'"),
            ("{{buckets:[1 x]}}", "invalid character in buckets description: 'x'"),
            ("{{buckets:1}}", "histogram description incomplete unexpected: '1'"),
            ("{{counter_reset_hint:maybe}}", "bad histogram descriptor found: \"maybe\""),
            ("{{schema:1.5}}", "histogram description incomplete unexpected: '.'"),
        ] {
            assert_eq!(read(text, 0).map_err(|fault| fault.text), Err(message.to_owned()), "{text}");
        }
    }
}
