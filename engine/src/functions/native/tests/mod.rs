//! Tests of the kernels over native histograms: values of Prometheus' suite, nearly to the last
//! digit where the suite gives all of them (its own were computed on several machines), and
//! properties.

#![allow(clippy::approx_constant, reason = "values as the suite writes them")]

mod fractions;

use super::*;
use proptest::prelude::*;
use storage::model::histogram::{BucketSpan, Buckets, CUSTOM_BUCKETS};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

fn buckets(counts: &[f64]) -> Buckets {
    let spans = match counts {
        [] => Vec::new(),
        counts => vec![BucketSpan { offset: 0, length: counts.len() as u32 }],
    };
    Buckets { spans, counts: counts.to_vec() }
}

/// A histogram of this schema, its count being that of its buckets.
fn exponential(schema: i32, zero: (f64, f64), positive: &[f64], negative: &[f64]) -> NativeHistogram {
    NativeHistogram {
        schema,
        zero_count: zero.0,
        zero_threshold: zero.1,
        count: zero.0 + positive.iter().chain(negative).sum::<f64>(),
        sum: 100.0,
        positive: buckets(positive),
        negative: buckets(negative),
        ..NativeHistogram::default()
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> NativeHistogram {
    NativeHistogram {
        schema: CUSTOM_BUCKETS,
        count: counts.iter().sum(),
        sum: 5.0,
        positive: buckets(counts),
        bounds: bounds.into(),
        ..NativeHistogram::default()
    }
}

const FIVE: &[f64] = &[2.0, 3.0, 0.0, 1.0, 4.0];
const ZERO: (f64, f64) = (2.0, 0.001);

fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

/// As the suite compares.
fn close(a: f64, b: f64) -> bool {
    same(a, b) || (a - b).abs() <= 1e-6 * (a.abs() + b.abs())
}

/// The same but for a few units in the last place.
fn nearly(a: f64, b: f64) -> bool {
    same(a, b) || (a - b).abs() <= 1e-15 * (a.abs() + b.abs())
}

#[test]
fn quantiles() {
    let positive = exponential(0, ZERO, FIVE, &[]);
    let negative = exponential(0, ZERO, &[], FIVE);
    let both = exponential(0, (4.0, 0.001), FIVE, FIVE);
    let table: [(&NativeHistogram, &[(f64, f64)]); 3] = [
        (
            &positive,
            &[
                (1.001, INF),
                (1.0, 16.0),
                (0.99, 15.67072476139083),
                (0.9, 12.99603834169977),
                (0.6, 4.594793419988138),
                (0.5, 1.5874010519681994),
                (0.0, 0.0),
                (-1.0, -INF),
                (NAN, NAN),
            ],
        ),
        (
            &negative,
            &[
                (1.001, INF),
                (1.0, 0.0),
                (0.5, -1.5874010519681996),
                (0.1, -12.996038341699768),
                (0.0, -16.0),
                (-1.0, -INF),
            ],
        ),
        (
            &both,
            &[
                (1.0, 16.0),
                (0.99, 15.34822590920423),
                (0.9, 10.556063286183155),
                (0.7, 1.2030250360821164),
                (0.5, 0.0),
                (0.3, -1.2030250360821169),
                (0.1, -10.556063286183155),
                (0.01, -15.34822590920423),
                (0.0, -16.0),
            ],
        ),
    ];
    for (h, cases) in table {
        for (q, expected) in cases {
            let got = quantile(*q, h);
            assert!(nearly(got.value, *expected), "{q} of {h}: {} and not {expected}", got.value);
            assert_eq!(got.nan, NanObservations::None);
        }
    }
    let near = [(&positive, 0.1, 0.0006), (&negative, 0.99, -0.00006), (&negative, 0.9, -0.0006)];
    for (h, q, expected) in near.into_iter().chain([(&both, 0.55, 0.0006), (&both, 0.45, -0.0006)]) {
        assert!(close(quantile(q, h).value, expected), "{q} of {h}");
    }
}

#[test]
fn medians_of_one_bucket_in_any_schema() {
    let table = [
        (-1, 1, 2.0),
        (0, 1, std::f64::consts::SQRT_2),
        (1, 1, 1.189207),
        (-1, 2, 8.0),
        (0, 2, 2.82842712474619),
        (1, 2, 1.6817928305074292),
    ];
    for (schema, index, median) in table {
        let counts: Vec<f64> = (0..=index).map(|i| if i == index { 5.0 } else { 0.0 }).collect();
        let (up, down) =
            (exponential(schema, (0.0, 0.0), &counts, &[]), exponential(schema, (0.0, 0.0), &[], &counts));
        assert!(close(quantile(0.5, &up).value, median), "{up}");
        assert!(close(quantile(0.5, &down).value, -median), "{down}");
        assert!(close(fraction(0.0, median, &up).value, 0.5), "{up}");
        assert!(close(fraction(-median, 0.0, &down).value, 0.5), "{down}");
    }
    assert_eq!(quantile(0.5, &exponential(0, (0.0, 0.0), &[1.0, 2.0, 1.0], &[])).value, 1.414213562373095);
    assert_eq!(
        quantile(0.5, &exponential(0, (0.0, 0.0), &[1.0, 2.0, 3.0, 4.0], &[])).value,
        3.1748021039363987
    );
}

#[test]
fn an_empty_stretch_in_the_middle() {
    let h = exponential(0, (0.0, 0.0), &[1.0, 2.0, 1.0], &[1.0, 2.0, 1.0]);
    assert_eq!(quantile(0.5, &h).value, 0.5);
    assert_eq!(quantile(0.5, &exponential(0, (1.0, 0.5), &[], &[])).value, 0.0);
}

#[test]
fn quantiles_of_custom_buckets() {
    let h = custom(&[5.0, 10.0], &[1.0, 2.0, 1.0]);
    let table = [(0.5, 7.5), (0.0, 0.0), (0.125, 2.5), (0.25, 5.0), (0.75, 10.0), (0.99, 10.0), (1.0, 10.0)];
    for (q, expected) in table {
        assert_eq!(quantile(q, &h).value, expected, "{q}");
    }
    let negative = custom(&[-2.0, 3.0], &[4.0, 0.0, 0.0]);
    assert_eq!(quantile(0.5, &negative).value, -2.0);
    assert!(quantile(0.5, &custom(&[-2.0, 3.0], &[])).value.is_nan());
}

#[test]
fn nan_observations() {
    let all = NativeHistogram { count: 3.0, sum: NAN, ..NativeHistogram::default() };
    let some = NativeHistogram { count: 15.0, sum: NAN, ..exponential(0, (0.0, 0.0), &[12.0], &[]) };
    let table = [
        (&all, 1.0, NAN, NanObservations::Result),
        (&some, 1.0, NAN, NanObservations::Result),
        (&some, 0.81, NAN, NanObservations::Result),
        (&all, 0.4, NAN, NanObservations::Result),
        (&some, 0.8, 1.0, NanObservations::Skew),
        (&some, 0.4, 0.7071067811865475, NanObservations::Skew),
    ];
    for (h, q, expected, nan) in table {
        let got = quantile(q, h);
        assert!(same(got.value, expected), "{q}: {}", got.value);
        assert_eq!(got.nan, nan, "{q}");
    }
    // Opposite infinities make the sum NaN as well.
    let infinite = NativeHistogram { sum: NAN, ..exponential(0, (0.0, 0.0), &[12.0], &[]) };
    assert_eq!(quantile(0.5, &infinite).nan, NanObservations::None);
    let fractions = [
        (&all, 0.7071067811865475, 0.0, true),
        (&some, 0.7071067811865475, 0.4, true),
        (&all, INF, 0.0, true),
        (&some, INF, 0.8, true),
        (&infinite, INF, 1.0, false),
    ];
    for (h, upper, expected, excludes_nan) in fractions {
        let got = fraction(-INF, upper, h);
        assert!(close(got.value, expected), "{upper}: {}", got.value);
        assert_eq!(got.excludes_nan, excludes_nan);
    }
}

fn with_sum(sum: f64, h: NativeHistogram) -> NativeHistogram {
    NativeHistogram { sum, ..h }
}

#[test]
fn spread() {
    let at = |places: &[(usize, f64)]| {
        let mut counts = vec![0.0; places.iter().map(|p| p.0 + 1).max().unwrap_or(0)];
        for (i, count) in places.iter() {
            counts[*i] = *count;
        }
        counts
    };
    let six = || {
        let mut h = exponential(
            3,
            (1.0, 0.0),
            &at(&[(13, 1.0), (24, 1.0), (26, 1.0), (54, 1.0)]),
            &at(&[(24, 1.0), (46, 1.0)]),
        );
        h.count = 7.0;
        h
    };
    let table = [
        (
            with_sum(10.0, exponential(2, (0.0, 0.0), &at(&[(0, 1.0), (4, 1.0), (7, 1.0), (8, 1.0)]), &[])),
            1.0787993180043811,
            1.163807968526718,
        ),
        (
            with_sum(10.0, exponential(8, (0.0, 0.0), &[1.0, 2.0, 3.0, 4.0], &[])),
            0.0048960313898237465,
            2.3971123370139447e-05,
        ),
        (with_sum(62.0, six()), 42.94723640026, 1844.4651144196398),
        (
            with_sum(-100.0, exponential(0, (0.0, 0.0), &[], &at(&[(4, 10.0)]))),
            1.3137084989848,
            1.725830020304794,
        ),
        (with_sum(NAN, six()), NAN, NAN),
        (with_sum(INF, six()), INF, INF),
        (NativeHistogram::default(), NAN, NAN),
        (with_sum(30.0, custom(&[2.0, 4.0, 6.0], &[0.0, 5.0, 5.0])), 1.4142135623730951, 2.0),
    ];
    for (h, deviation, var) in table {
        assert!(close(standard_deviation(&h), deviation), "{h}: {}", standard_deviation(&h));
        assert!(close(variance(&h), var), "{h}: {}", variance(&h));
    }
}

#[test]
fn count_sum_and_mean() {
    let h = with_sum(5.0, exponential(0, (0.0, 0.0), &[1.0, 2.0, 1.0], &[]));
    assert_eq!((count(&h), sum(&h), mean(&h)), (4.0, 5.0, 1.25));
    assert!(mean(&NativeHistogram::default()).is_nan());
}

/// The range that the observation of this rank lies in, found by counting up.
fn range(h: &NativeHistogram, rank: f64) -> (f64, f64) {
    let mut below = 0.0;
    let populated = h.all_buckets().filter(|b| b.count > 0.0);
    let mut last = (0.0, 0.0);
    for bucket in populated {
        last = (bucket.lower, bucket.upper);
        below += bucket.count;
        if below >= rank {
            break;
        }
    }
    last
}

fn counts() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec((0..6u8).prop_map(f64::from), 0..6)
}

proptest! {
    #[test]
    fn quantiles_lie_in_the_right_bucket(
        schema in -4..9i32, zero in 0..4u8, positive in counts(), negative in counts(), q in 0.001..0.999f64,
    ) {
        let h = exponential(schema, (f64::from(zero), 1e-9), &positive, &negative);
        prop_assume!(h.count > 0.0);
        let got = quantile(q, &h).value;
        // At a rank between two buckets both directions are right.
        let (lower, _) = range(&h, q * h.count - 1e-9);
        let (_, upper) = range(&h, q * h.count + 1e-9);
        let slack = 1e-12 * got.abs();
        prop_assert!(got >= lower - slack && got <= upper + slack, "{} of {}: {}", q, h, got);
    }

    #[test]
    fn quantiles_rise(schema in -4..9i32, positive in counts(), negative in counts()) {
        let h = exponential(schema, (1.0, 1e-9), &positive, &negative);
        let values: Vec<f64> = (0..=20).map(|i| quantile(f64::from(i) / 20.0, &h).value).collect();
        prop_assert!(values.windows(2).all(|w| w[0] <= w[1] + 1e-9 * w[1].abs()), "{:?}", values);
    }

    #[test]
    fn the_fraction_undoes_the_quantile(
        schema in -4..9i32, positive in counts(), negative in counts(), q in 0.01..0.99f64,
    ) {
        let h = exponential(schema, (1.0, 1e-9), &positive, &negative);
        let back = fraction(-INF, quantile(q, &h).value, &h).value;
        prop_assert!((back - q).abs() < 1e-9, "{} came back as {}", q, back);
    }

    #[test]
    fn fractions_add_up(schema in -4..9i32, positive in counts(), negative in counts(), cut in -9.0..9.0f64) {
        let h = exponential(schema, (1.0, 1e-9), &positive, &negative);
        let parts = fraction(-INF, cut, &h).value + fraction(cut, INF, &h).value;
        prop_assert!((parts - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_spread_is_that_of_the_middles(positive in counts(), sum in -50.0..50.0f64) {
        let h = with_sum(sum, exponential(0, (0.0, 0.0), &positive, &[]));
        prop_assume!(h.count > 0.0);
        let squares: f64 = h
            .positive_buckets()
            .map(|b| b.count * ((b.lower * b.upper).sqrt() - sum / h.count).powi(2))
            .sum();
        prop_assert!((variance(&h) - squares / h.count).abs() <= 1e-12 * squares);
    }
}
