//! Tests of native histograms as text: as users see them, and in the syntax of promqltest.

use super::super::super::number::general;
use super::super::{NativeHistogram, ResetHint};
use super::{any_custom, any_exponential, buckets, h};
use proptest::prelude::*;

#[test]
fn floats_as_go_prints_them() {
    let table = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (123456.0, "123456"),
        (123456.75, "123456.75"),
        (1e6, "1e+06"),
        (1234567.0, "1.234567e+06"),
        (1e20, "1e+20"),
        (1e21, "1e+21"),
        (-1.5e300, "-1.5e+300"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.25e-7, "1.25e-07"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::MAX, "1.7976931348623157e+308"),
    ];
    for (v, text) in table {
        assert_eq!(general(v), text);
    }
}

#[test]
fn for_people() {
    let table = [
        ("", "{count:0, sum:0}"),
        (
            "count:24 sum:100 z_bucket:4 z_bucket_w:0.001 buckets:[2 3 0 1 4] n_buckets:[2 3 0 1 4]",
            "{count:24, sum:100, [-16,-8):4, [-8,-4):1, [-2,-1):3, [-1,-0.5):2, [-0.001,0.001]:4, \
             (0.5,1]:2, (1,2]:3, (4,8]:1, (8,16]:4}",
        ),
        (
            "schema:-53 count:4 sum:5 custom_values:[5 10] buckets:[1 2 1]",
            "{count:4, sum:5, [-Inf,5]:1, (5,10]:2, (10,+Inf]:1}",
        ),
        (
            "count:1e10 sum:-Inf z_bucket:-1.5 buckets:[NaN]",
            "{count:1e+10, sum:-Inf, [-0,0]:-1.5, (0.5,1]:NaN}",
        ),
    ];
    for (input, text) in table {
        assert_eq!(h(input).to_string(), text);
    }
}

#[test]
fn for_tests() {
    let texts = [
        "",
        "schema:1 count:4 sum:5 offset:1 buckets:[1 2 1]",
        "schema:-53 sum:5 custom_values:[5 10] buckets:[1 2 1]",
        "count:24 sum:100 z_bucket:4 z_bucket_w:0.001 counter_reset_hint:gauge offset:-2 buckets:[2 0 1.5] n_offset:3 n_buckets:[7]",
        "count:1e+10 sum:-Inf counter_reset_hint:not_reset",
        "sum:NaN counter_reset_hint:reset",
        "schema:-53 custom_values:[]",
    ];
    for text in texts {
        assert_eq!(h(text).test_expression(), format!("{{{{{text}}}}}"));
    }
}

#[test]
fn gaps_are_filled_up_to_a_limit() {
    let spans = NativeHistogram { positive: buckets(&[(1, &[0.0, 1.0]), (2, &[3.0, 0.0])]), ..h("") };
    assert_eq!(spans.test_expression(), "{{offset:2 buckets:[1 0 0 3]}}");
    let far = NativeHistogram { positive: buckets(&[(1, &[1.0]), (i32::MAX - 9, &[3.0])]), ..h("") };
    assert_eq!(far.test_expression(), "{{offset:1 buckets:[1 …]}}");
}

proptest! {
    #[test]
    fn test_expressions_can_be_read_again(a in any_exponential(), b in any_custom()) {
        for mut histogram in [a, b] {
            let text = histogram.test_expression();
            let mut read = h(text.trim_matches(['{', '}']));
            prop_assert_eq!(read.hint, histogram.hint);
            read.compact();
            histogram.compact();
            prop_assert!(read.equals(&histogram), "{}", text);
        }
    }

    #[test]
    fn printed_floats_are_the_same_float(bits in any::<u64>()) {
        let v = f64::from_bits(bits);
        prop_assume!(!v.is_nan());
        let text = general(v).replace("Inf", "inf");
        prop_assert_eq!(text.parse::<f64>().expect("a float").to_bits(), bits);
    }
}

#[test]
fn every_hint_has_a_name() {
    let hints = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];
    let texts = hints.map(|hint| NativeHistogram { hint, ..h("") }.test_expression());
    assert_eq!(
        texts,
        [
            "{{}}",
            "{{counter_reset_hint:reset}}",
            "{{counter_reset_hint:not_reset}}",
            "{{counter_reset_hint:gauge}}"
        ]
    );
}
