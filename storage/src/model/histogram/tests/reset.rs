//! Tests of counter resets between two native histograms, with Prometheus' examples.

use super::super::{NativeHistogram, ResetHint};
use super::{any_custom, any_exponential, h};
use proptest::prelude::*;

#[test]
fn what_is_a_reset() {
    let base = "count:8 sum:9 z_bucket:2 z_bucket_w:0.5 buckets:[1 2 1] n_buckets:[2]";
    let cases = [
        (base, base, false),
        (base, "count:7 sum:9 z_bucket:1 z_bucket_w:0.5 buckets:[1 2 1] n_buckets:[2]", true),
        // Only the sum fell.
        (base, "count:8 sum:3 z_bucket:2 z_bucket_w:0.5 buckets:[1 2 1] n_buckets:[2]", false),
        (base, "count:9 z_bucket:1 z_bucket_w:0.5 buckets:[1 3 2] n_buckets:[2]", true),
        (base, "count:9 z_bucket:2 z_bucket_w:0.5 buckets:[2 1 2] n_buckets:[2]", true),
        (base, "count:9 z_bucket:2 z_bucket_w:0.5 buckets:[2 2 2] n_buckets:[1]", true),
        // A bucket disappeared.
        (base, "count:9 z_bucket:2 z_bucket_w:0.5 buckets:[2 3] n_buckets:[2]", true),
        (base, "count:9 z_bucket:2 z_bucket_w:0.5 buckets:[2 3 2]", true),
        ("count:3 buckets:[1 0 2]", "count:5 offset:2 buckets:[5]", true),
        ("count:3 buckets:[0 0 3]", "count:5 offset:2 buckets:[5]", false),
        ("count:3 buckets:[3 0]", "count:5 buckets:[5]", false),
        ("count:3 z_bucket:3 buckets:[0 0]", "count:5 z_bucket:5", false),
        // Resolution.
        ("count:3 buckets:[1 2]", "schema:1 count:4 buckets:[1 3]", true),
        ("schema:1 count:3 offset:1 buckets:[1 2]", "count:4 offset:1 buckets:[3 1]", false),
        ("schema:1 count:3 offset:1 buckets:[1 2]", "count:4 offset:1 buckets:[2 2]", true),
        // The zero bucket.
        (
            "count:3 z_bucket:1 z_bucket_w:0.5 buckets:[2]",
            "count:4 z_bucket:1 z_bucket_w:0.25 buckets:[3]",
            true,
        ),
        (
            "count:3 z_bucket:1 z_bucket_w:0.5 buckets:[2]",
            "count:4 z_bucket:3 z_bucket_w:1 offset:1 buckets:[1]",
            false,
        ),
        (
            "count:3 z_bucket:1 z_bucket_w:0.5 buckets:[2]",
            "count:4 z_bucket:2 z_bucket_w:1 offset:1 buckets:[2]",
            true,
        ),
        ("count:3 z_bucket:1 z_bucket_w:0.5 buckets:[2]", "count:4 z_bucket:4 z_bucket_w:0.75", true),
        ("count:3 z_bucket:3 z_bucket_w:0.5 buckets:[0]", "count:4 z_bucket:4 z_bucket_w:0.75", false),
        // Custom buckets.
        ("count:1 buckets:[1]", "schema:-53 count:2 custom_values:[5] buckets:[2]", true),
        ("schema:-53 count:2 custom_values:[5] buckets:[2]", "count:3 buckets:[3]", true),
        (
            "schema:-53 count:2 custom_values:[5] buckets:[2]",
            "schema:-53 count:3 custom_values:[5] buckets:[1 2]",
            true,
        ),
        (
            "schema:-53 count:2 custom_values:[5] buckets:[1 1]",
            "schema:-53 count:3 custom_values:[5] buckets:[1 2]",
            false,
        ),
        // Custom buckets with different bounds: compared between the bounds that both have.
        (
            "schema:-53 count:15 custom_values:[2 4 6] buckets:[1 2 5 7]",
            "schema:-53 count:15 custom_values:[2 3 4 6] buckets:[1 0 1 5 8]",
            true,
        ),
        (
            "schema:-53 count:15 custom_values:[2 4 6] buckets:[1 2 5 7]",
            "schema:-53 count:16 custom_values:[2 3 4 6] buckets:[1 1 1 5 8]",
            false,
        ),
        (
            "schema:-53 count:1 custom_values:[5] buckets:[1]",
            "schema:-53 count:1 custom_values:[5 10] buckets:[1]",
            false,
        ),
        (
            "schema:-53 count:3 custom_values:[1] buckets:[3]",
            "schema:-53 count:3 custom_values:[2] buckets:[0 3]",
            false,
        ),
        (
            "schema:-53 count:3 custom_values:[1] buckets:[3]",
            "schema:-53 count:3 custom_values:[2] buckets:[0 2]",
            true,
        ),
    ];
    for (previous, current, expected) in cases {
        assert_eq!(h(current).detect_reset(&h(previous)), expected, "{previous} then {current}");
    }
}

#[test]
fn hints_that_know_are_believed() {
    let previous = h("count:8 buckets:[8]");
    let less = h("count:7 buckets:[7]");
    let cases = [
        (ResetHint::Unknown, true),
        (ResetHint::Gauge, true),
        (ResetHint::NotReset, false),
        (ResetHint::Reset, true),
    ];
    for (hint, expected) in cases {
        assert_eq!(NativeHistogram { hint, ..less.clone() }.detect_reset(&previous), expected, "{hint:?}");
    }
    assert!(NativeHistogram { hint: ResetHint::Reset, ..previous.clone() }.detect_reset(&previous));
}

/// Buckets and the zero bucket by plain lookups; only for the same schema and threshold.
fn slow(current: &NativeHistogram, previous: &NativeHistogram) -> bool {
    let fell = |now: Vec<(i32, f64)>, before: Vec<(i32, f64)>, beyond: f64| {
        before
            .into_iter()
            .filter(|(i, _)| super::super::bounds::exponential(*i, current.schema) > beyond)
            .any(|(index, count)| {
                let now = now.iter().find(|(i, _)| *i == index).map_or(0.0, |(_, c)| *c);
                now < count
            })
    };
    let beyond = if current.zero_threshold == 0.0 { -1.0 } else { current.zero_threshold };
    current.count < previous.count
        || current.zero_count < previous.zero_count
        || fell(current.positive.iter().collect(), previous.positive.iter().collect(), beyond)
        || fell(current.negative.iter().collect(), previous.negative.iter().collect(), beyond)
}

proptest! {
    #[test]
    fn as_plain_look_ups_have_it(a in any_exponential(), b in any_exponential(), more in any::<bool>()) {
        let mut b = NativeHistogram { schema: a.schema, zero_threshold: a.zero_threshold, ..b };
        if more {
            b.hint = ResetHint::Unknown;
            b.add(&a).expect("exponential buckets");
        }
        b.hint = ResetHint::Unknown;
        prop_assert_eq!(b.detect_reset(&a), slow(&b, &a));
    }

    #[test]
    fn a_sum_is_no_reset(a in any_exponential(), b in any_exponential(), c in any_custom(), d in any_custom()) {
        let (a, mut b) = if a.schema <= b.schema { (a, b) } else { (b, a) };
        b.zero_threshold = a.zero_threshold;
        for (a, b) in [(a, b), (c, d)] {
            let mut sum = a.clone();
            sum.add(&b).expect("the same kind");
            sum.hint = ResetHint::Unknown;
            prop_assert!(!sum.detect_reset(&a));
        }
    }
}
