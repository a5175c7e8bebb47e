//! Histograms as text: for users and label values ([`std::fmt::Display`]), and in the syntax of
//! promqltest.

use super::super::number::general;
use super::bucket::Bucket;
use super::{Buckets, NativeHistogram, ResetHint};
use crate::limits::HISTOGRAM_PRINTED_BUCKETS;
use std::fmt::{self, Display, Formatter, Write};

/// `{count:4, sum:5, [-2,-1):1, [-0.001,0.001]:2, (0.5,1]:1}`: count, sum, and every bucket that is
/// not empty.
impl Display for NativeHistogram {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", general(self.count), general(self.sum))?;
        let zero = self.zero_bucket();
        let buckets = self.negative_buckets().rev().chain(zero).chain(self.positive_buckets());
        for bucket in buckets.filter(|b| b.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_char('}')
    }
}

/// `(0.5,1]:3`: the bounds, with a square bracket if the bound is included, and the count.
impl Display for Bucket {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let [lower, upper, count] = [self.lower, self.upper, self.count].map(general);
        write!(f, "{open}{lower},{upper}{close}:{count}")
    }
}

impl NativeHistogram {
    /// The histogram in the syntax of promqltest: `{{schema:1 count:4 sum:5 offset:1 buckets:[1 2
    /// 1]}}`. Fields that are 0 or unknown are left out. A gap longer than
    /// [`HISTOGRAM_PRINTED_BUCKETS`] ends the list with `…`.
    pub fn test_expression(&self) -> String {
        let mut words = Vec::new();
        if self.schema != 0 {
            words.push(format!("schema:{}", self.schema));
        }
        let numbers = [
            ("count", self.count),
            ("sum", self.sum),
            ("z_bucket", self.zero_count),
            ("z_bucket_w", self.zero_threshold),
        ];
        words.extend(numbers.iter().filter(|(_, v)| *v != 0.0).map(|(k, v)| format!("{k}:{}", general(*v))));
        if self.is_custom() {
            words.push(format!("custom_values:[{}]", list(self.bounds.iter().copied())));
        }
        match self.hint {
            ResetHint::Unknown => {}
            ResetHint::Reset => words.push("counter_reset_hint:reset".to_owned()),
            ResetHint::NotReset => words.push("counter_reset_hint:not_reset".to_owned()),
            ResetHint::Gauge => words.push("counter_reset_hint:gauge".to_owned()),
        }
        side(&mut words, "", &self.positive);
        side(&mut words, "n_", &self.negative);
        format!("{{{{{}}}}}", words.join(" "))
    }
}

/// The buckets from the first to the last that is not empty, with zeros in the gaps.
fn side(words: &mut Vec<String>, prefix: &str, buckets: &Buckets) {
    let mut counts: Vec<f64> = Vec::new();
    let mut first = 0;
    let mut cut = "";
    for (index, count) in buckets.iter().filter(|(_, count)| *count != 0.0) {
        if counts.is_empty() {
            first = index;
        }
        let place = index.wrapping_sub(first) as u32 as usize;
        // Two buckets far apart would print millions of zeros.
        if place >= HISTOGRAM_PRINTED_BUCKETS {
            cut = " …";
            break;
        }
        counts.resize(place, 0.0);
        counts.push(count);
    }
    if first != 0 {
        words.push(format!("{prefix}offset:{first}"));
    }
    if !counts.is_empty() {
        words.push(format!("{prefix}buckets:[{}{cut}]", list(counts.into_iter())));
    }
}

fn list(values: impl Iterator<Item = f64>) -> String {
    values.map(general).collect::<Vec<_>>().join(" ")
}
