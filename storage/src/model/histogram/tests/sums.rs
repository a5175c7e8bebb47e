//! Compensated sums and means: Prometheus' examples, and comparison with plain sums of integers.

use super::super::{HistogramMean, HistogramSum, NativeHistogram, ResetHint};
use super::{alike, any_custom, any_exponential, h};
use proptest::prelude::*;

fn sum_of(histograms: &[NativeHistogram]) -> HistogramSum {
    let mut sum = HistogramSum::from_first(&histograms[0]);
    for other in &histograms[1..] {
        sum.add(other).expect("the same kind of buckets");
    }
    sum
}

fn mean_of(histograms: &[NativeHistogram]) -> HistogramMean {
    let mut mean = HistogramMean::from_first(&histograms[0]);
    for other in &histograms[1..] {
        mean.add(other).expect("the same kind of buckets");
    }
    mean
}

fn check(inputs: &[&str], sum: &str, mean: &str) {
    let inputs: Vec<_> = inputs.iter().map(|t| h(t)).collect();
    let got = sum_of(&inputs).value();
    let wanted = h(sum);
    assert!(alike(&got, &wanted), "sum: {}", got.test_expression());
    let got = mean_of(&inputs).value();
    let wanted = h(mean);
    assert!(alike(&got, &wanted), "mean: {}", got.test_expression());
}

#[test]
fn series_of_the_suite() {
    check(
        &[
            "count:25 sum:3.1 z_bucket:4 z_bucket_w:0.001 buckets:[1 2 0 1 1] n_buckets:[2 4 0 0 1 9]",
            "count:41 sum:1e100 z_bucket:5 z_bucket_w:0.001 buckets:[1 3 1 2 1 1 1] n_buckets:[0 1 4 2 7 0 0 0 0 5 5 2]",
            "count:41 sum:-1e100 z_bucket:5 z_bucket_w:0.001 buckets:[1 3 1 2 1 1 1] n_buckets:[0 1 4 2 7 0 0 0 0 5 5 2]",
            "schema:1 count:0 sum:1.3 z_bucket:3 z_bucket_w:0.001 buckets:[2 4 2 3 2 2] n_buckets:[1 2 5 3 8 1 1 1 1 6 3]",
        ],
        "count:107 sum:4.4 z_bucket:17 z_bucket_w:0.001 buckets:[5 14 7 7 3 2 2] n_buckets:[3 13 19 6 17 18 0 0 0 10 10 4]",
        "count:26.75 sum:1.1 z_bucket:4.25 z_bucket_w:0.001 buckets:[1.25 3.5 1.75 1.75 0.75 0.5 0.5] n_buckets:[0.75 3.25 4.75 1.5 4.25 4.5 0 0 0 2.5 2.5 1]",
    );
}

#[test]
fn small_values_survive_big_ones() {
    check(
        &["count:1 sum:1", "count:2 sum:1e100", "count:3 sum:1", "count:4 sum:-1e100"],
        "count:10 sum:2",
        "count:2.5 sum:0.5",
    );
    let seven = [5.3, 1e100, 1.0, -1e100, 2.0, 1e50, -1e50];
    let inputs: Vec<String> = seven.iter().zip(1..).map(|(sum, n)| format!("count:{n} sum:{sum}")).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    check(&inputs, "count:28 sum:8.3", "count:4 sum:1.1857142857142857");
}

/// Eight histograms whose counts overflow when they are added.
const BIG: [&str; 8] = [
    "count:1.7976931348623157e308 sum:5.30921651659898 z_bucket:1.78264e50 z_bucket_w:0.001 buckets:[1.78264E+50 1.78264E+215 1.78264E+219 3363.5121756487] n_buckets:[1178.20696291113 731.697776280323 715.201503759399 1386.11378876781 855.572553278132]",
    "count:1e308 sum:0.961118537914768 z_bucket:0.76342771 z_bucket_w:0.001 buckets:[0.76342771 0.76342771 0.76342771 195.70084087969] n_buckets:[421.30382970055 0 450441.779]",
    "count:1e-6 sum:1.62091361305318 z_bucket:1.9592258 z_bucket_w:0.001 buckets:[1.9592258 1.9592258 1.9592258 1135.74692279] n_buckets:[0 4504.41779 588.599358265103 40.3760942760943]",
    "count:1e-6 sum:0.865089463758091 z_bucket:7.69805412 z_bucket_w:0.001 buckets:[2.258E+220 2.258E+220 2.3757689E+217 1078.68071312804] n_buckets:[349.905284031261 0 0 0.161173466838949 588.599358]",
    "count:1e-6 sum:0.323055185914577 z_bucket:458.90154 z_bucket_w:0.001 buckets:[7.69805412 7.69805412 2.258E+220 3173.28218135701]",
    "count:1e-6 sum:0.951811357687154 z_bucket:1.78264e50 z_bucket_w:0.001 buckets:[458.90154 458.90154 7.69805412 2178.35] n_buckets:[2054.92644438789 844.560108898123]",
    "count:1e-6 sum:0 z_bucket:5 z_bucket_w:0.001 buckets:[0 0 1.78264E+219 376.770478890989]",
    "count:1e-6 sum:0 z_bucket:0 z_bucket_w:0.001 buckets:[0 0 458.90154 250325.5] n_buckets:[0 0.0000000011353 0 608.697257]",
];

#[test]
fn a_mean_survives_an_overflow() {
    check(
        &BIG,
        "count:Inf sum:10.03120467492675 z_bucket:3.56528e50 z_bucket_w:0.001 buckets:[2.258e220 2.2580178264e220 2.6169037689e220 261827.54331269444] n_buckets:[4004.342521030831 6080.675675179582 451745.57986202446 2035.3483135107433 1444.171911278132]",
        "count:3.497116418577895e307 sum:1.2539005843658437 z_bucket:4.4566e49 z_bucket_w:0.001 buckets:[2.8225e219 2.822522283e219 3.271129711125e219 32728.442914086805] n_buckets:[500.5428151288539 760.0844593974477 56468.19748275306 254.4185391888429 180.5214889097665]",
    );
    let max = "count:1.7976931348623157e308";
    check(
        &[
            &format!("{max} sum:5.3"),
            "count:1e308 sum:1e100",
            "count:1e-6 sum:1",
            "count:1e-6 sum:-1e100",
            "count:1e-6 sum:2",
            "count:1e-6",
            "count:1e-6",
        ],
        "count:Inf sum:8.3",
        "count:3.9967044783747367e307 sum:1.1857142857142857",
    );
    check(
        &[
            &format!("{max} sum:5.3"),
            "count:1e308 sum:1e100",
            "count:1e-6 sum:-1e100",
            "count:1e-6 sum:1",
            "count:1e-6 sum:1e50",
            "count:1e-6 sum:-1e50",
            "count:1e-6",
        ],
        "count:Inf sum:6.3",
        "count:3.9967044783747367e307 sum:0.9",
    );
    check(
        &[&format!("{max} sum:1"), "count:1e308 sum:1e100", "count:1e-6 sum:1", "count:1e-6 sum:-1e100"],
        "count:Inf sum:2",
        "count:6.99423283715579e307 sum:0.5",
    );
}

#[test]
fn custom_buckets() {
    check(
        &[
            "schema:-53 sum:1 count:1 custom_values:[5 10] buckets:[1]",
            "schema:-53 sum:1 count:1 custom_values:[5] buckets:[1]",
            "schema:-53 sum:1 count:1 custom_values:[5 10] buckets:[1]",
        ],
        "schema:-53 count:3 sum:3 custom_values:[5] buckets:[3]",
        "schema:-53 count:1 sum:1 custom_values:[5] buckets:[1]",
    );
    let inputs =
        ["schema:-53 custom_values:[5] buckets:[1]", "schema:-53 custom_values:[7] buckets:[1]"].map(h);
    assert!(sum_of(&inputs).bounds_reconciled() && mean_of(&inputs).bounds_reconciled());
    assert!(!sum_of(&inputs[..1]).bounds_reconciled());
    assert!(HistogramSum::from_first(&inputs[0]).add(&h("count:1")).is_err());
    assert!(HistogramMean::from_first(&inputs[0]).add(&h("count:1")).is_err());
}

#[test]
fn hints() {
    use ResetHint::{Gauge, NotReset, Reset, Unknown};
    let cases: [(&[ResetHint], ResetHint, bool); 6] = [
        (&[NotReset, NotReset], NotReset, false),
        (&[NotReset, Unknown], Unknown, false),
        (&[NotReset, Gauge, Unknown], Gauge, false),
        (&[NotReset, Reset], Unknown, true),
        (&[Gauge, NotReset, Unknown, Reset], Gauge, true),
        (&[Reset], Reset, false),
    ];
    for (hints, expected, collided) in cases {
        let inputs: Vec<_> =
            hints.iter().map(|hint| NativeHistogram { hint: *hint, ..h("count:1") }).collect();
        let sum = sum_of(&inputs);
        let mean = mean_of(&inputs);
        assert_eq!((sum.value().hint, sum.hints_collided()), (expected, collided), "{hints:?}");
        assert_eq!((mean.value().hint, mean.hints_collided()), (expected, collided), "{hints:?}");
    }
}

proptest! {
    /// Integers lose nothing, so the compensated sum equals the plain one, in the same layout.
    #[test]
    fn whole_numbers_add_up_as_plainly(
        exponential in prop::collection::vec(any_exponential(), 1..6),
        custom in prop::collection::vec(any_custom(), 1..6),
    ) {
        for histograms in [exponential, custom] {
            let mut plain = histograms[0].clone();
            for other in &histograms[1..] {
                plain.add(other).expect("the same kind of buckets");
            }
            let sum = sum_of(&histograms).value();
            prop_assert!(sum.equals(&plain), "{} and {}", sum.test_expression(), plain.test_expression());
            prop_assert_eq!(sum.hint, plain.hint);
            let mut mean = plain.clone();
            mean.div(histograms.len() as f64);
            let got = mean_of(&histograms).value();
            prop_assert!(alike(&got, &mean));
        }
    }

    #[test]
    fn one_histogram_is_its_own_sum_and_mean(h in any_exponential()) {
        prop_assert!(HistogramSum::from_first(&h).value().equals(&h));
        prop_assert!(HistogramMean::from_first(&h).value().equals(&h));
    }
}
