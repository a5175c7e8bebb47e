//! The trim operators: Prometheus' examples, and comparison with a slow reference.

use super::super::{NativeHistogram, TrimSide};
use super::{alike, any_custom, any_exponential, h};
use proptest::prelude::*;

/// Trims at each value, and compares with what Prometheus' test suite expects.
fn check(input: &str, cases: &[(&str, f64, &str)]) {
    let input = h(input);
    for (operator, at, expected) in cases {
        let keep = if *operator == "</" { TrimSide::Below } else { TrimSide::Above };
        let got = input.trimmed(keep, *at);
        assert!(alike(&got, &h(expected)), "{operator} {at}: {}", got.test_expression());
    }
}

const INF: f64 = f64::INFINITY;

#[test]
fn exponential_buckets() {
    const WHOLE: &str = "sum:123.75 count:34 z_bucket:1 z_bucket_w:0.001 buckets:[2 4 8 16] n_buckets:[1 2]";
    check(
        WHOLE,
        &[
            (">/", -INF, WHOLE),
            ("</", INF, WHOLE),
            (">/", INF, "z_bucket_w:0.001"),
            ("</", -INF, "z_bucket_w:0.001"),
            (">/", 0.0, "sum:120.20840280171308 count:30.5 z_bucket:0.5 z_bucket_w:0.001 buckets:[2 4 8 16]"),
            ("</", 0.0, "sum:-3.53578390593273768 count:3.5 z_bucket:0.5 z_bucket_w:0.001 n_buckets:[1 2]"),
            (
                "</",
                1.4142135624,
                "count:8 sum:0.2570938865989847 z_bucket:1 z_bucket_w:0.001 buckets:[2 2] n_buckets:[1 2]",
            ),
            (">/", 1.4142135624, "count:26 sum:116.50067065070982 z_bucket_w:0.001 buckets:[0 2 8 16]"),
            (
                "</",
                2.0,
                "count:10 sum:3.5355339059327373 z_bucket:1 z_bucket_w:0.001 buckets:[2 4] n_buckets:[1 2]",
            ),
            (">/", 2.0, "count:24 sum:113.13708498984761 z_bucket_w:0.001 offset:2 buckets:[8 16]"),
            (
                ">/",
                -1.0,
                "count:32 sum:119.50104602052653 z_bucket:1 z_bucket_w:0.001 buckets:[2 4 8 16] n_buckets:[1]",
            ),
            ("</", -1.0, "count:2 sum:-2.8284271247461903 z_bucket_w:0.001 n_offset:1 n_buckets:[2]"),
        ],
    );
}

#[test]
fn finer_exponential_buckets() {
    check(
        "schema:2 sum:12.8286080906 count:28 z_bucket:1 z_bucket_w:0.001 buckets:[1 2 4 7 3] n_buckets:[1 5 3 1]",
        &[
            (
                "</",
                1.13,
                "schema:2 count:13.410582181123704 sum:-9.385798726068233 z_bucket:1 z_bucket_w:0.001 \
                 buckets:[1 1.410582181123704] n_buckets:[1 5 3 1]",
            ),
            (
                ">/",
                1.13,
                "schema:2 count:14.589417818876296 sum:22.168126492693734 z_bucket_w:0.001 offset:1 \
                 buckets:[0.589417818876296 4 7 3]",
            ),
            (
                ">/",
                -1.3,
                "schema:2 count:25.54213947904476 sum:16.29588491217537 z_bucket:1 z_bucket_w:0.001 \
                 buckets:[1 2 4 7 3] n_buckets:[1 5 1.54213947904476]",
            ),
            (
                "</",
                -1.3,
                "schema:2 count:2.45786052095524 sum:-3.5189307983595066 z_bucket_w:0.001 n_offset:2 \
                 n_buckets:[1.45786052095524 1]",
            ),
        ],
    );
}

#[test]
fn a_zero_bucket_with_buckets_on_one_side() {
    const UP: &str = "sum:8.0210678118654755 count:12 z_bucket:2 z_bucket_w:0.5 buckets:[10]";
    check(
        UP,
        &[
            (">/", 0.5, "count:10 sum:7.0710678118654755 z_bucket_w:0.5 buckets:[10]"),
            (">/", 0.1, "count:11.6 sum:7.551067811865476 z_bucket:1.6 z_bucket_w:0.5 buckets:[10]"),
            (">/", 0.0, UP),
            ("</", 0.5, "count:2 sum:0.5 z_bucket:2 z_bucket_w:0.5"),
            ("</", 0.1, "count:0.4 sum:0.02 z_bucket:0.4 z_bucket_w:0.5"),
            ("</", 0.0, "z_bucket_w:0.5"),
        ],
    );
    const DOWN: &str = "sum:-8.0210678118654755 count:12 z_bucket:2 z_bucket_w:0.5 n_buckets:[10]";
    check(
        DOWN,
        &[
            ("</", -0.5, "count:10 sum:-7.0710678118654755 z_bucket_w:0.5 n_buckets:[10]"),
            ("</", -0.1, "count:11.6 sum:-7.551067811865476 z_bucket:1.6 z_bucket_w:0.5 n_buckets:[10]"),
            ("</", 0.0, DOWN),
            (">/", -0.5, "count:2 sum:-0.5 z_bucket:2 z_bucket_w:0.5"),
            (">/", -0.1, "count:0.4 sum:-0.02 z_bucket:0.4 z_bucket_w:0.5"),
            (">/", 0.0, "z_bucket_w:0.5"),
        ],
    );
}

#[test]
fn a_zero_bucket_alone_or_between() {
    const ALONE: &str = "count:5 z_bucket:5 z_bucket_w:0.1";
    check(
        ALONE,
        &[
            (">/", 0.1, "z_bucket_w:0.1"),
            ("</", 0.1, ALONE),
            (">/", 0.05, "count:1.25 sum:0.09375 z_bucket:1.25 z_bucket_w:0.1"),
            ("</", 0.05, "count:3.75 sum:-0.09375 z_bucket:3.75 z_bucket_w:0.1"),
            (">/", 0.0, "count:2.5 sum:0.125 z_bucket:2.5 z_bucket_w:0.1"),
            ("</", 0.0, "count:2.5 sum:-0.125 z_bucket:2.5 z_bucket_w:0.1"),
            (">/", -0.05, "count:3.75 sum:0.09375 z_bucket:3.75 z_bucket_w:0.1"),
            ("</", -0.05, "count:1.25 sum:-0.09375 z_bucket:1.25 z_bucket_w:0.1"),
            ("</", -0.1, "z_bucket_w:0.1"),
            (">/", -0.1, ALONE),
        ],
    );
    check(
        "sum:-6.75 z_bucket:5 z_bucket_w:0.01 buckets:[2 3] n_buckets:[1 2 3]",
        &[
            (
                "</",
                -0.005,
                "count:7.25 sum:-12.03019028017131 z_bucket:1.25 z_bucket_w:0.01 n_buckets:[1 2 3]",
            ),
            (">/", 0.0, "count:7.5 sum:5.669354249492381 z_bucket:2.5 z_bucket_w:0.01 buckets:[2 3]"),
        ],
    );
}

#[test]
fn custom_buckets() {
    const WHOLE: &str = "schema:-53 sum:172.5 count:15 custom_values:[5 10 15 20] buckets:[1 6 4 3 1]";
    const NONE: &str = "schema:-53 custom_values:[5 10 15 20]";
    check(
        WHOLE,
        &[
            ("</", 15.0, "schema:-53 count:11 sum:97.5 custom_values:[5 10 15 20] buckets:[1 6 4]"),
            (">/", 15.0, "schema:-53 count:4 sum:72.5 custom_values:[5 10 15 20] offset:3 buckets:[3 1]"),
            ("</", 13.0, "schema:-53 count:9.4 sum:75.1 custom_values:[5 10 15 20] buckets:[1 6 2.4]"),
            (
                ">/",
                13.0,
                "schema:-53 count:5.6 sum:94.9 custom_values:[5 10 15 20] offset:2 buckets:[1.6 3 1]",
            ),
            ("</", 7.5, "schema:-53 count:4 sum:21.25 custom_values:[5 10 15 20] buckets:[1 3]"),
            ("</", 50.0, "schema:-53 count:14 sum:150 custom_values:[5 10 15 20] buckets:[1 6 4 3]"),
            ("</", -INF, NONE),
            (">/", INF, NONE),
            ("</", INF, WHOLE),
            (">/", -INF, WHOLE),
            (">/", 0.0, WHOLE),
            ("</", 0.0, NONE),
        ],
    );
    check(
        "schema:-53 sum:172.5 count:15 custom_values:[-10 5 10 15 20] buckets:[2 1 6 4 3 1]",
        &[
            ("</", 2.0, "schema:-53 count:2.8 sum:-23.2 custom_values:[-10 5 10 15 20] buckets:[2 0.8]"),
            ("</", -4.0, "schema:-53 count:2.4 sum:-22.8 custom_values:[-10 5 10 15 20] buckets:[2 0.4]"),
            ("</", -15.0, "schema:-53 count:2 sum:-30 custom_values:[-10 5 10 15 20] buckets:[2]"),
        ],
    );
}

#[test]
fn custom_buckets_that_reach_to_infinity() {
    const ONE: &str = "schema:-53 sum:100 count:100 buckets:[100]";
    check(
        ONE,
        &[
            ("</", 10.0, "schema:-53"),
            (">/", 10.0, "schema:-53"),
            ("</", INF, ONE),
            (">/", INF, "schema:-53"),
            (">/", -INF, ONE),
            ("</", -INF, "schema:-53"),
        ],
    );
    check(
        "schema:-53 sum:33 count:100 custom_values:[0] buckets:[1 100]",
        &[
            ("</", 10.0, "schema:-53 count:1 custom_values:[0] buckets:[1 0]"),
            ("</", 0.0, "schema:-53 count:1 custom_values:[0] buckets:[1 0]"),
            ("</", -10.0, "schema:-53 sum:-10 count:1 custom_values:[0] buckets:[1 0]"),
            (">/", -10.0, "schema:-53 count:100 custom_values:[0] buckets:[0 100]"),
            (">/", 0.0, "schema:-53 count:100 custom_values:[0] buckets:[0 100]"),
            (">/", 10.0, "schema:-53 sum:1000 count:100 custom_values:[0] buckets:[0 100]"),
        ],
    );
    const POSITIVE: &str = "schema:-53 sum:33 count:101 custom_values:[5] buckets:[1 100]";
    check(
        POSITIVE,
        &[
            ("</", 10.0, "schema:-53 sum:2.5 count:1 custom_values:[5] buckets:[1 0]"),
            ("</", 2.0, "schema:-53 sum:0.4 count:0.4 custom_values:[5] buckets:[0.4 0]"),
            ("</", 0.0, "schema:-53 custom_values:[5]"),
            ("</", -10.0, "schema:-53 custom_values:[5] buckets:[0 0]"),
            (">/", -10.0, "schema:-53 sum:500 count:100 custom_values:[5] buckets:[0 100]"),
            (">/", 0.0, POSITIVE),
            (">/", 2.0, "schema:-53 sum:502.1 count:100.6 custom_values:[5] buckets:[0.6 100]"),
            (">/", 10.0, "schema:-53 sum:1000 count:100 custom_values:[5] buckets:[0 100]"),
        ],
    );
    check(
        "schema:-53 sum:33 count:101 custom_values:[-5] buckets:[1 100]",
        &[
            ("</", 10.0, "schema:-53 sum:-5 count:1 custom_values:[-5] buckets:[1 0]"),
            ("</", 0.0, "schema:-53 sum:-5 count:1 custom_values:[-5] buckets:[1 0]"),
            ("</", -2.0, "schema:-53 sum:-5 count:1 custom_values:[-5] buckets:[1 0]"),
            ("</", -10.0, "schema:-53 sum:-10 count:1 custom_values:[-5] buckets:[1 0]"),
            (">/", -10.0, "schema:-53 sum:-500 count:100 custom_values:[-5] buckets:[0 100]"),
            (">/", -2.0, "schema:-53 sum:-200 count:100 custom_values:[-5] buckets:[0 100]"),
            (">/", 0.0, "schema:-53 count:100 custom_values:[-5] buckets:[0 100]"),
            (">/", 10.0, "schema:-53 sum:1000 count:100 custom_values:[-5] buckets:[0 100]"),
        ],
    );
}

#[test]
fn nothing_of_nothing_is_nothing() {
    for text in ["", "schema:-53 custom_values:[-3 2]"] {
        for at in [-INF, -5.0, 0.0, 5.0, INF] {
            check(text, &[("</", at, text), (">/", at, text)]);
        }
    }
}

/// The number of observations in buckets below `at`, counted bucket by bucket, without the
/// operator's own iteration.
fn count_below(h: &NativeHistogram, at: f64) -> f64 {
    h.positive_buckets().chain(h.negative_buckets()).filter(|b| b.upper <= at).map(|b| b.count).sum()
}

proptest! {
    #[test]
    fn both_parts_make_the_whole(h in any_exponential(), at in -20.0..20.0f64) {
        let below = h.trimmed(TrimSide::Below, at);
        let above = h.trimmed(TrimSide::Above, at);
        prop_assert!((below.count + above.count - h.count).abs() < 1e-9);
        prop_assert_eq!(below.validate(), Ok(()));
        prop_assert_eq!(above.validate(), Ok(()));
    }

    #[test]
    fn at_a_bound_nothing_is_split(mut h in any_exponential(), index in -8..9i32) {
        h.zero_count = 0.0;
        let at = super::super::upper_bound(index, h.schema, &[]);
        let below = h.trimmed(TrimSide::Below, at);
        prop_assert_eq!(below.positive.counts.iter().chain(&below.negative.counts).sum::<f64>(), count_below(&h, at));
        prop_assert!(below.positive.counts.iter().all(|c| c.fract() == 0.0));
    }

    #[test]
    fn trimming_only_takes_away(h in any_custom(), at in -7.0..12.0f64) {
        for keep in [TrimSide::Below, TrimSide::Above] {
            let once = h.trimmed(keep, at);
            let twice = once.trimmed(keep, at);
            prop_assert!(once.count >= twice.count);
            prop_assert!(once.count <= h.count);
        }
    }
}
