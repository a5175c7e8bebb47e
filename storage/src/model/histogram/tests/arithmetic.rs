//! Tests of `+ - * /` on native histograms: tables of Prometheus' results, and properties against
//! sums that are computed bucket by bucket.

use super::super::{Buckets, HistogramError, MergeConflicts, NativeHistogram, ResetHint};
use super::{alike, any_custom, any_exponential, any_tidy, buckets, h, populated};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn added(a: &NativeHistogram, b: &NativeHistogram) -> NativeHistogram {
    let mut sum = a.clone();
    sum.add(b).expect("the same kind of buckets");
    sum
}

#[test]
fn sums_of_the_suite() {
    let cases = [
        (
            "count:25 sum:3.1 z_bucket:4 z_bucket_w:0.001 buckets:[1 2 0 1 1] n_buckets:[2 4 0 0 1 9]",
            "schema:1 count:0 sum:1.3 z_bucket:3 z_bucket_w:0.001 buckets:[2 4 2 3 2 2] \
             n_buckets:[1 2 5 3 8 1 1 1 1 6 3]",
            "count:25 sum:4.4 z_bucket:7 z_bucket_w:0.001 buckets:[3 8 5 3 1] n_buckets:[3 11 11 2 3 18]",
        ),
        (
            "schema:-1 sum:4 count:1 buckets:[1] offset:1",
            "sum:4 count:4 buckets:[2 2] offset:1",
            "schema:-1 count:5 sum:8 offset:1 buckets:[5]",
        ),
        (
            "schema:-53 sum:1 count:1 custom_values:[10] buckets:[1]",
            "schema:-53 sum:1 count:1 custom_values:[2 10] buckets:[1]",
            "schema:-53 sum:2 count:2 custom_values:[10] buckets:[2]",
        ),
        (
            "schema:-53 sum:1 count:1 custom_values:[5] buckets:[1]",
            "schema:-53 sum:1 count:1 custom_values:[5 10] buckets:[1]",
            "schema:-53 sum:2 count:2 custom_values:[5] buckets:[2]",
        ),
    ];
    for (a, b, expected) in cases {
        assert!(alike(&added(&h(a), &h(b)), &h(expected)), "{a} + {b}");
        assert!(alike(&added(&h(b), &h(a)), &h(expected)), "{b} + {a}");
    }
}

#[test]
fn differences_of_the_suite() {
    let big = "count:41 sum:2345.6 z_bucket:5 z_bucket_w:0.001 buckets:[1 3 1 2 1 1 1] \
               n_buckets:[0 1 4 2 7 0 0 0 0 5 5 2]";
    let small = "count:11 sum:1234.5 z_bucket:3 z_bucket_w:0.001 buckets:[0 2 1] n_buckets:[0 0 3 2]";
    let finer = format!("schema:1 {small}");
    let cases = [
        (
            big,
            small,
            "count:30 sum:1111.1 z_bucket:2 z_bucket_w:0.001 buckets:[1 1 0 2 1 1 1] \
             n_buckets:[0 1 1 0 7 0 0 0 0 5 5 2]",
        ),
        (
            big,
            &finer,
            "count:30 sum:1111.1 z_bucket:2 z_bucket_w:0.001 buckets:[1 0 1 2 1 1 1] \
             n_buckets:[0 -2 2 2 7 0 0 0 0 5 5 2]",
        ),
        (
            &finer,
            big,
            "count:-30 sum:-1111.1 z_bucket:-2 z_bucket_w:0.001 buckets:[-1 0 -1 -2 -1 -1 -1] \
             n_buckets:[0 2 -2 -2 -7 0 0 0 0 -5 -5 -2]",
        ),
        (
            "schema:-53 sum:555 count:450 custom_values:[1 2 3 4 5 6 7 8] buckets:[10 20 30 40 50 60 70 80 90]",
            "schema:-53 sum:55 count:15 custom_values:[2 4 6] buckets:[1 2 5 7]",
            "schema:-53 sum:500 count:435 custom_values:[2 4 6] buckets:[29 68 105 233]",
        ),
        (
            "schema:-53 sum:5560 count:1000 custom_values:[3 5 7] buckets:[100 200 300 400]",
            "schema:-53 sum:55 count:45 custom_values:[1 2 3 4 5 6 7 8] buckets:[1 2 3 4 5 6 7 8 9]",
            "schema:-53 sum:5505 count:955 custom_values:[3 5 7] buckets:[94 191 287 383]",
        ),
        (
            "schema:-53 sum:1 count:1 custom_values:[10] buckets:[1]",
            "schema:-53 sum:1 count:1 custom_values:[2 10] buckets:[1]",
            "schema:-53 custom_values:[10]",
        ),
    ];
    for (a, b, expected) in cases {
        let mut got = h(a);
        got.sub(&h(b)).expect("the same kind of buckets");
        assert!(alike(&got, &h(expected)), "{a} - {b} = {}", got.test_expression());
    }
}

#[test]
fn factors_and_divisors() {
    let whole = "count:30 sum:33 z_bucket:3 z_bucket_w:0.001 buckets:[3 3 3] n_buckets:[6 6 6]";
    type Scale = fn(&mut NativeHistogram);
    let cases: [(Scale, &str); 6] = [
        (|h| h.mul(3.0), "count:90 sum:99 z_bucket:9 z_bucket_w:0.001 buckets:[9 9 9] n_buckets:[18 18 18]"),
        (
            |h| h.negate(),
            "count:-30 sum:-33 z_bucket:-3 z_bucket_w:0.001 buckets:[-3 -3 -3] n_buckets:[-6 -6 -6] \
             counter_reset_hint:gauge",
        ),
        (|h| h.mul(0.0), "z_bucket_w:0.001 buckets:[0 0 0] n_buckets:[0 0 0]"),
        (|h| h.div(3.0), "count:10 sum:11 z_bucket:1 z_bucket_w:0.001 buckets:[1 1 1] n_buckets:[2 2 2]"),
        (
            |h| h.div(-3.0),
            "count:-10 sum:-11 z_bucket:-1 z_bucket_w:0.001 buckets:[-1 -1 -1] n_buckets:[-2 -2 -2] \
             counter_reset_hint:gauge",
        ),
        (|h| h.div(0.0), "count:Inf sum:Inf z_bucket:Inf z_bucket_w:0.001"),
    ];
    for (scale, expected) in cases {
        let mut got = h(whole);
        scale(&mut got);
        assert!(got.equals(&h(expected)), "{}", got.test_expression());
        assert_eq!(got.hint, h(expected).hint);
    }
}

#[test]
fn nothing_divided_by_nothing_is_no_number() {
    let mut got = h("z_bucket_w:0.001 buckets:[0]");
    got.div(0.0);
    assert!(got.count.is_nan() && got.sum.is_nan() && got.zero_count.is_nan() && got.positive.is_empty());
}

#[test]
fn hints_of_sums() {
    use ResetHint::{Gauge, NotReset, Reset, Unknown};
    let cases = [
        (Unknown, Unknown, Unknown, false),
        (Gauge, Gauge, Gauge, false),
        (NotReset, NotReset, NotReset, false),
        (Reset, Reset, Reset, false),
        (Gauge, NotReset, Gauge, false),
        (Unknown, Gauge, Gauge, false),
        (Unknown, Reset, Unknown, false),
        (NotReset, Unknown, Unknown, false),
        (Reset, NotReset, Unknown, true),
        (NotReset, Reset, Unknown, true),
    ];
    for (a, b, expected, collided) in cases {
        for subtract in [false, true] {
            let mut got = NativeHistogram { hint: a, ..h("count:1") };
            let other = NativeHistogram { hint: b, ..h("count:1") };
            let reconciled = if subtract { got.sub(&other) } else { got.add(&other) };
            assert_eq!(
                reconciled,
                Ok(MergeConflicts { hints_collided: collided, bounds: false }),
                "{a:?} {b:?}"
            );
            assert_eq!(got.hint, expected, "{a:?} {b:?}");
        }
    }
}

#[test]
fn exponential_and_custom_buckets_do_not_mix() {
    let mut a = h("count:1 sum:2 buckets:[1]");
    let b = h("schema:-53 count:1 custom_values:[5] buckets:[1]");
    let before = a.clone();
    assert_eq!(a.add(&b), Err(HistogramError::MixedSchemas));
    assert_eq!(a.sub(&b), Err(HistogramError::MixedSchemas));
    assert_eq!(a, before);
}

#[test]
fn differing_bounds_are_reported() {
    let mut a = h("schema:-53 count:1 custom_values:[5] buckets:[1]");
    let same = a.clone();
    assert_eq!(a.add(&same).map(|r| r.bounds), Ok(false));
    let other = h("schema:-53 count:1 custom_values:[7] buckets:[1]");
    assert_eq!(a.add(&other).map(|r| r.bounds), Ok(true));
    assert!(a.bounds.is_empty());
    assert_eq!(populated(&a.positive), [(0, 3.0)]);
}

/// A new bucket extends the span before it, otherwise the one after it; spans that become adjacent
/// stay two.
#[test]
fn the_layout_of_sums() {
    type Spans<'a> = &'a [(i32, &'a [f64])];
    let cases: [(Spans, Spans, Spans); 9] = [
        (&[], &[(3, &[1.0])], &[(3, &[1.0])]),
        (&[(3, &[1.0])], &[(3, &[2.0])], &[(3, &[3.0])]),
        (&[(3, &[1.0])], &[(2, &[2.0])], &[(2, &[2.0, 1.0])]),
        (&[(3, &[1.0])], &[(4, &[2.0])], &[(3, &[1.0, 2.0])]),
        (&[(3, &[1.0])], &[(1, &[2.0])], &[(1, &[2.0]), (1, &[1.0])]),
        (&[(3, &[1.0])], &[(5, &[2.0])], &[(3, &[1.0]), (1, &[2.0])]),
        // Index 1 fills the gap between 0 and 2: it goes to the span before it.
        (&[(0, &[1.0]), (1, &[3.0])], &[(1, &[2.0])], &[(0, &[1.0, 2.0]), (0, &[3.0])]),
        (&[(0, &[1.0]), (2, &[3.0])], &[(2, &[2.0])], &[(0, &[1.0]), (1, &[2.0, 3.0])]),
        (&[(0, &[1.0]), (3, &[3.0])], &[(2, &[2.0])], &[(0, &[1.0]), (1, &[2.0]), (1, &[3.0])]),
    ];
    for (a, b, expected) in cases {
        let [mut a, b] =
            [a, b].map(|s| NativeHistogram { positive: buckets(s), ..NativeHistogram::default() });
        a.add(&b).expect("exponential buckets");
        assert_eq!(a.positive, buckets(expected));
    }
}

#[test]
fn the_zero_bucket_is_widened() {
    let cases = [
        // Up to a bound: the observations below move into the zero bucket.
        (
            "z_bucket:1 z_bucket_w:1 count:1",
            "count:6 offset:-1 buckets:[1 2 3]",
            "z_bucket:4 z_bucket_w:1 count:7 offset:1 buckets:[3]",
        ),
        // Into a populated bucket: up to its end.
        (
            "z_bucket:1 z_bucket_w:0.75 count:1",
            "count:6 offset:-1 buckets:[1 2 3]",
            "z_bucket:4 z_bucket_w:1 count:7 offset:1 buckets:[3]",
        ),
        // Into a gap: not further.
        (
            "z_bucket:1 z_bucket_w:0.75 count:1",
            "count:4 offset:-1 buckets:[1 0 3]",
            "z_bucket:2 z_bucket_w:0.75 count:5 offset:1 buckets:[3]",
        ),
        // A negative bucket decides.
        (
            "z_bucket:1 z_bucket_w:0.75 count:1",
            "count:6 offset:-1 buckets:[1 2 3] n_offset:-1 n_buckets:[5 4 3 2]",
            "z_bucket:13 z_bucket_w:1 count:7 offset:1 buckets:[3] n_offset:1 n_buckets:[3 2]",
        ),
    ];
    for (a, b, expected) in cases {
        for (a, b) in [(a, b), (b, a)] {
            let mut got = added(&h(a), &h(b));
            got.compact();
            assert!(got.equals(&h(expected)), "{a} + {b}: {}", got.test_expression());
        }
    }
}

/// Counts by index, in the buckets of a lower schema.
fn by_index(buckets: &Buckets, from: i32, to: i32) -> BTreeMap<i32, f64> {
    let mut map = BTreeMap::new();
    for (index, count) in buckets.iter() {
        let width = 1 << (from - to);
        let index = (f64::from(index) / f64::from(width)).ceil() as i32;
        *map.entry(index).or_insert(0.0) += count;
    }
    map
}

/// Where the innermost populated bucket begins.
fn smallest_bound(h: &NativeHistogram) -> f64 {
    let buckets = h.positive_buckets().chain(h.negative_buckets()).filter(|b| b.count != 0.0);
    buckets.map(|b| b.lower.abs().min(b.upper.abs())).fold(f64::INFINITY, f64::min)
}

fn total(h: &NativeHistogram) -> f64 {
    h.zero_count + h.positive.counts.iter().chain(&h.negative.counts).sum::<f64>()
}

proptest! {
    #[test]
    fn buckets_add_up_one_by_one(mut a in any_exponential(), mut b in any_exponential()) {
        a.zero_threshold = 0.0;
        b.zero_threshold = 0.0;
        let schema = a.schema.min(b.schema);
        let sum = added(&a, &b);
        prop_assert_eq!(sum.schema, schema);
        for side in [|h: &NativeHistogram| h.positive.clone(), |h: &NativeHistogram| h.negative.clone()] {
            let mut expected = by_index(&side(&a), a.schema, schema);
            for (index, count) in by_index(&side(&b), b.schema, schema) {
                *expected.entry(index).or_insert(0.0) += count;
            }
            let got: Vec<(i32, f64)> = side(&sum).iter().collect();
            prop_assert_eq!(got, expected.into_iter().collect::<Vec<_>>());
        }
        prop_assert_eq!(sum.validate(), Ok(()));
        prop_assert_eq!(sum.count, a.count + b.count);
    }

    #[test]
    fn nothing_is_lost_in_the_zero_bucket(a in any_tidy(), b in any_tidy()) {
        // Only of the same schema: when the schema is lowered, Prometheus counts some buckets
        // twice, and so do we.
        let b = NativeHistogram { schema: a.schema, ..b };
        let b = NativeHistogram { zero_threshold: b.zero_threshold.min(smallest_bound(&b)), ..b };
        let sum = added(&a, &b);
        prop_assert_eq!(total(&sum), total(&a) + total(&b));
        prop_assert!(sum.zero_threshold >= a.zero_threshold.max(b.zero_threshold));
        let buckets = sum.positive_buckets().chain(sum.negative_buckets());
        for bucket in buckets.filter(|b| b.count != 0.0) {
            prop_assert!(bucket.lower.abs().min(bucket.upper.abs()) >= sum.zero_threshold);
        }
    }

    #[test]
    fn taking_away_undoes_adding(a in any_exponential(), mut b in any_exponential()) {
        b.schema = a.schema;
        b.zero_threshold = a.zero_threshold;
        let mut back = added(&a, &b);
        back.sub(&b).expect("exponential buckets");
        back.compact();
        let mut expected = a.clone();
        expected.compact();
        prop_assert!(back.equals(&expected));
    }

    #[test]
    fn custom_buckets_lose_no_observation(a in any_custom(), b in any_custom()) {
        let sum = added(&a, &b);
        prop_assert_eq!(total(&sum), total(&a) + total(&b));
        prop_assert_eq!(sum.validate(), Ok(()));
        // Below every common bound, the sum has as many observations as both together.
        for bound in sum.bounds.iter() {
            let below = |h: &NativeHistogram| {
                h.positive_buckets().filter(|b| b.upper <= *bound).map(|b| b.count).sum::<f64>()
            };
            prop_assert_eq!(below(&sum), below(&a) + below(&b));
        }
        let common: Vec<f64> = a.bounds.iter().copied().filter(|x| b.bounds.contains(x)).collect();
        prop_assert_eq!(&*sum.bounds, &common[..]);
    }
}
