//! Tests of histograms: tables with Prometheus' values, and properties against slow references.
//!
//! Histograms are written as in promqltest: `h("schema:1 count:4 buckets:[1 2 1]")`.

#![allow(clippy::approx_constant, reason = "values as the suite writes them")]

mod arithmetic;
mod damaged;
mod layout;
mod reset;
mod sums;
mod texts;
mod trim;

use super::{BucketSpan, Buckets, CUSTOM_BUCKETS, NativeHistogram, ResetHint};
use proptest::prelude::*;

/// Parses the histogram of a test expression, without its braces.
pub(super) fn h(text: &str) -> NativeHistogram {
    let mut h = NativeHistogram::default();
    let mut offset = 0;
    let mut n_offset = 0;
    for word in split(text) {
        let (key, value) = word.split_once(':').expect("key:value");
        let number = || value.replace("Inf", "inf").parse::<f64>().expect("a number");
        match key {
            "schema" => h.schema = value.parse().expect("a schema"),
            "count" => h.count = number(),
            "sum" => h.sum = number(),
            "z_bucket" => h.zero_count = number(),
            "z_bucket_w" => h.zero_threshold = number(),
            "custom_values" => h.bounds = list(value).into(),
            "offset" => offset = value.parse().expect("an offset"),
            "n_offset" => n_offset = value.parse().expect("an offset"),
            "buckets" => h.positive.counts = list(value),
            "n_buckets" => h.negative.counts = list(value),
            "counter_reset_hint" => h.hint = hint(value),
            _ => panic!("{key}"),
        }
    }
    for (side, offset) in [(&mut h.positive, offset), (&mut h.negative, n_offset)] {
        if !side.counts.is_empty() {
            side.spans = vec![BucketSpan { offset, length: side.counts.len() as u32 }];
        }
    }
    h
}

fn hint(text: &str) -> ResetHint {
    match text {
        "reset" => ResetHint::Reset,
        "not_reset" => ResetHint::NotReset,
        "gauge" => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

/// Splits at spaces outside of brackets.
fn split(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut inside = false;
    for c in text.chars() {
        inside = (inside || c == '[') && c != ']';
        match c {
            ' ' if !inside => words.push(String::new()),
            c => words.last_mut().expect("a word").push(c),
        }
    }
    words.into_iter().filter(|w| !w.is_empty()).collect()
}

fn list(text: &str) -> Vec<f64> {
    text.trim_matches(['[', ']']).split_whitespace().map(|v| v.parse().expect("a number")).collect()
}

/// The buckets of spans, given as (offset, counts).
pub(super) fn buckets(spans: &[(i32, &[f64])]) -> Buckets {
    Buckets {
        spans: spans
            .iter()
            .map(|(offset, c)| BucketSpan { offset: *offset, length: c.len() as u32 })
            .collect(),
        counts: spans.iter().flat_map(|(_, c)| c.iter().copied()).collect(),
    }
}

/// Whether two histograms are the same except for layout and hint; NaN equals NaN.
pub(super) fn alike(a: &NativeHistogram, b: &NativeHistogram) -> bool {
    let close =
        |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * (a.abs() + b.abs());
    let side = |a: &Buckets, b: &Buckets| {
        let a = populated(a);
        let b = populated(b);
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && close(a.1, b.1))
    };
    a.schema == b.schema
        && a.zero_threshold == b.zero_threshold
        && close(a.zero_count, b.zero_count)
        && close(a.count, b.count)
        && close(a.sum, b.sum)
        && side(&a.positive, &b.positive)
        && side(&a.negative, &b.negative)
        && a.bounds == b.bounds
}

pub(super) fn populated(buckets: &Buckets) -> Vec<(i32, f64)> {
    buckets.iter().filter(|(_, c)| *c != 0.0).collect()
}

/// Buckets with integer counts, some empty, in spans that may be adjacent or empty.
pub(super) fn any_buckets(first: std::ops::Range<i32>) -> impl Strategy<Value = Buckets> {
    let spans = prop::collection::vec((0..4i32, prop::collection::vec(0..6u8, 0..4)), 0..4);
    (first, spans).prop_map(|(first, spans)| {
        let mut buckets = Buckets::default();
        for (n, (gap, counts)) in spans.into_iter().enumerate() {
            let offset = if n == 0 { first } else { gap };
            buckets.spans.push(BucketSpan { offset, length: counts.len() as u32 });
            buckets.counts.extend(counts.into_iter().map(f64::from));
        }
        buckets
    })
}

/// A valid histogram with exponential buckets.
pub(super) fn any_exponential() -> impl Strategy<Value = NativeHistogram> {
    let zero = prop::sample::select(vec![0.0, 1e-3, 0.1, 0.5, 1.0, 3.0, 4.0]);
    let hint = prop::sample::select(vec![ResetHint::Unknown, ResetHint::Gauge, ResetHint::NotReset]);
    (-4..9i32, zero, 0..5u8, any_buckets(-8..9), any_buckets(-8..9), -100..100i16, hint).prop_map(
        |(schema, zero_threshold, zero, positive, negative, sum, hint)| {
            let inside = positive.counts.iter().chain(&negative.counts).sum::<f64>();
            NativeHistogram {
                schema,
                zero_threshold,
                zero_count: f64::from(zero),
                count: inside + f64::from(zero),
                sum: f64::from(sum),
                hint,
                positive,
                negative,
                ..NativeHistogram::default()
            }
        },
    )
}

/// As [`any_exponential`], without observations in buckets that begin within the zero bucket.
pub(super) fn any_tidy() -> impl Strategy<Value = NativeHistogram> {
    any_exponential().prop_map(|mut h| {
        let within = |b: super::Bucket| b.lower.abs().min(b.upper.abs()) < h.zero_threshold;
        let positive: Vec<bool> = h.positive_buckets().map(within).collect();
        let negative: Vec<bool> = h.negative_buckets().map(within).collect();
        for (side, within) in [(&mut h.positive, positive), (&mut h.negative, negative)] {
            for (c, _) in side.counts.iter_mut().zip(within).filter(|(_, within)| *within) {
                *c = 0.0;
            }
        }
        h.count = h.zero_count + h.positive.counts.iter().chain(&h.negative.counts).sum::<f64>();
        h
    })
}

/// A valid histogram with custom buckets, with bounds from a small set.
pub(super) fn any_custom() -> impl Strategy<Value = NativeHistogram> {
    let bounds = prop::sample::subsequence(vec![-5.0, -1.0, 0.0, 1.0, 2.5, 10.0], 0..=6);
    let counts = prop::collection::vec(0..6u8, 7);
    (bounds, counts, -100..100i16).prop_map(|(bounds, counts, sum)| {
        let counts: Vec<f64> = counts.into_iter().take(bounds.len() + 1).map(f64::from).collect();
        NativeHistogram {
            schema: CUSTOM_BUCKETS,
            count: counts.iter().sum(),
            sum: f64::from(sum),
            positive: Buckets { spans: vec![BucketSpan { offset: 0, length: counts.len() as u32 }], counts },
            bounds: bounds.into(),
            ..NativeHistogram::default()
        }
    })
}

proptest! {
    #[test]
    fn generated_histograms_are_valid(a in any_exponential(), b in any_custom()) {
        prop_assert_eq!(a.validate(), Ok(()));
        prop_assert_eq!(b.validate(), Ok(()));
    }
}
