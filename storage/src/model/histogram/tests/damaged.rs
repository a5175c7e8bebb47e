//! Malformed histograms: no operation on them may panic or run for ever; the result does not
//! matter.

use super::super::{
    BucketSpan, Buckets, CUSTOM_BUCKETS, HistogramMean, HistogramSum, NativeHistogram, ResetHint, TrimSide,
};
use proptest::prelude::*;

fn any_number() -> impl Strategy<Value = f64> {
    let special = vec![0.0, -0.0, 1.0, -1.0, 0.5, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    prop_oneof![prop::sample::select(special), any::<f64>(), (-5..5i8).prop_map(f64::from)]
}

fn any_side() -> impl Strategy<Value = Buckets> {
    let offset =
        prop_oneof![-5..6i32, prop::sample::select(vec![i32::MIN, i32::MAX, -1 << 20]), any::<i32>()];
    let length = prop_oneof![0..4u32, prop::sample::select(vec![u32::MAX, 1 << 31])];
    let spans = prop::collection::vec((offset, length), 0..4);
    (spans, prop::collection::vec(any_number(), 0..9)).prop_map(|(spans, counts)| Buckets {
        spans: spans.into_iter().map(|(offset, length)| BucketSpan { offset, length }).collect(),
        counts,
    })
}

fn any_damaged() -> impl Strategy<Value = NativeHistogram> {
    let schema =
        prop_oneof![Just(CUSTOM_BUCKETS), -5..10i32, prop::sample::select(vec![i32::MIN, i32::MAX, -32, 32])];
    let numbers = (any_number(), any_number(), any_number(), any_number());
    let bounds = prop::collection::vec(any_number(), 0..4);
    (schema, numbers, any_side(), any_side(), bounds).prop_map(
        |(schema, numbers, positive, negative, bounds)| {
            let (zero_threshold, zero_count, count, sum) = numbers;
            let hint = ResetHint::Unknown;
            let bounds = bounds.into();
            NativeHistogram {
                schema,
                zero_threshold,
                zero_count,
                count,
                sum,
                hint,
                positive,
                negative,
                bounds,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn operations_on_two(a in any_damaged(), b in any_damaged()) {
        let mut sum = a.clone();
        let mut difference = a.clone();
        let added = sum.add(&b);
        prop_assert_eq!(difference.sub(&b), added.clone());
        let mut total = HistogramSum::from_first(&a);
        let mut mean = HistogramMean::from_first(&a);
        prop_assert_eq!(total.add(&b), added.clone());
        prop_assert_eq!(mean.add(&b), added);
        let _ = (total.value(), mean.value(), a.equals(&b), a.detect_reset(&b), b.detect_reset(&a));
    }

    #[test]
    fn operations_on_one(mut h in any_damaged(), at in any_number(), schema in -5..10i32) {
        prop_assert!(h.equals(&h.clone()) || h.zero_threshold.is_nan() || h.bounds.iter().any(|b| b.is_nan()));
        let _ = (h.validate(), h.to_string(), h.test_expression(), h.samples(), h.to_schema(schema));
        let _ = (h.trimmed(TrimSide::Below, at), h.trimmed(TrimSide::Above, at));
        prop_assert_eq!(h.all_buckets().count(), h.all_buckets().rev().count());
        h.compact();
        h.mul(at);
        h.div(at);
    }
}
