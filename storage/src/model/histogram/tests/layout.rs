//! Tests of the layout of native histograms (buckets as spans over counts): iteration, compaction,
//! lower resolutions, equality, validation.

use super::super::{Bucket, Buckets, HistogramError, NativeHistogram, ResetHint};
use super::{any_buckets, any_custom, any_exponential, any_tidy, buckets, h, populated};
use proptest::prelude::*;

fn bounds_of(b: Bucket) -> (f64, f64, f64) {
    (b.lower, b.upper, b.count)
}

#[test]
fn all_buckets_ascend() {
    let h = h("count:9 z_bucket:2 z_bucket_w:0.001 buckets:[1 2] n_buckets:[3 1]");
    let all: Vec<_> = h.all_buckets().map(bounds_of).collect();
    let expected =
        [(-2.0, -1.0, 1.0), (-1.0, -0.5, 3.0), (-0.001, 0.001, 2.0), (0.5, 1.0, 1.0), (1.0, 2.0, 2.0)];
    assert_eq!(all, expected);
    let inclusive: Vec<_> = h.all_buckets().map(|b| (b.lower_inclusive, b.upper_inclusive)).collect();
    assert_eq!(inclusive, [(true, false), (true, false), (true, true), (false, true), (false, true)]);
    assert_eq!(h.all_buckets().map(|b| b.index).collect::<Vec<_>>(), [1, 0, 0, 0, 1]);
}

#[test]
fn the_zero_bucket_clips_its_neighbours() {
    let h = h("z_bucket:1 z_bucket_w:0.75 buckets:[1] n_buckets:[1]");
    let all: Vec<_> = h.all_buckets().map(bounds_of).collect();
    assert_eq!(all, [(-1.0, -0.75, 1.0), (-0.75, 0.75, 1.0), (0.75, 1.0, 1.0)]);
    assert_eq!(h.positive_buckets().map(bounds_of).next(), Some((0.5, 1.0, 1.0)), "not in this walk");
}

#[test]
fn custom_buckets_begin_and_end_at_infinity() {
    let h = h("schema:-53 custom_values:[5 10] buckets:[1 2 3]");
    let all: Vec<_> = h.all_buckets().map(bounds_of).collect();
    assert_eq!(all, [(f64::NEG_INFINITY, 5.0, 1.0), (5.0, 10.0, 2.0), (10.0, f64::INFINITY, 3.0)]);
    let inclusive: Vec<_> = h.all_buckets().map(|b| (b.lower_inclusive, b.upper_inclusive)).collect();
    assert_eq!(inclusive, [(true, true), (false, true), (false, true)]);
    assert_eq!(h.zero_bucket(), None);
}

#[test]
fn walks_survive_spans_that_do_not_fit() {
    for (length, counts) in [(5, vec![1.0]), (1, vec![1.0, 2.0]), (0, vec![1.0])] {
        let mut b = buckets(&[(7, &[])]);
        b.spans[0].length = length;
        b.counts = counts;
        assert_eq!(b.iter().count(), b.iter().rev().count());
    }
}

#[test]
fn lower_resolutions() {
    let mut got = h("schema:2 offset:-1 buckets:[1 2 3 4 5 6 7 8] n_buckets:[1]");
    got.reduce_resolution(0).expect("a lower schema");
    assert!(got.equals(&h("buckets:[3 18 15] n_buckets:[1]")), "{}", got.test_expression());
    let cases = [
        (h("buckets:[1]").reduce_resolution(0), "cannot reduce resolution from schema 0 to 0"),
        (h("buckets:[1]").reduce_resolution(1), "cannot reduce resolution from schema 0 to 1"),
        (h("buckets:[1]").reduce_resolution(-53), "cannot reduce resolution to custom buckets schema"),
        (h("schema:-53").reduce_resolution(0), "cannot reduce resolution when there are custom buckets"),
    ];
    for (got, text) in cases {
        assert_eq!(got.map_err(|e| e.to_string()), Err(text.to_owned()));
    }
}

#[test]
fn a_copy_in_a_lower_schema_forgets_the_hint() {
    let gauge = NativeHistogram { hint: ResetHint::Gauge, ..h("schema:1 offset:1 buckets:[1 2]") };
    assert_eq!(gauge.to_schema(1).map(|h| h.hint), Ok(ResetHint::Gauge));
    let lower = gauge.to_schema(0).expect("a lower schema");
    assert_eq!((lower.hint, lower.schema), (ResetHint::Unknown, 0));
    assert_eq!(populated(&lower.positive), [(1, 3.0)]);
}

#[test]
fn what_is_equal() {
    type Spans<'a> = &'a [(i32, &'a [f64])];
    let cases: [(Spans, Spans, bool); 8] = [
        (&[], &[], true),
        (&[], &[(5, &[])], true),
        (&[(1, &[1.0])], &[(0, &[]), (1, &[1.0]), (4, &[])], true),
        (&[(0, &[1.0]), (5, &[2.0])], &[(0, &[1.0]), (2, &[]), (3, &[2.0])], true),
        (&[(0, &[1.0, 2.0])], &[(0, &[1.0]), (0, &[2.0])], false),
        (&[(0, &[1.0])], &[(0, &[1.0, 0.0])], false),
        (&[(0, &[1.0])], &[(1, &[1.0])], false),
        (&[(0, &[f64::NAN])], &[(0, &[f64::NAN])], true),
    ];
    for (a, b, expected) in cases {
        let [p, q] = [a, b].map(|s| NativeHistogram { positive: buckets(s), ..NativeHistogram::default() });
        let [m, n] = [a, b].map(|s| NativeHistogram { negative: buckets(s), ..NativeHistogram::default() });
        assert_eq!(p.equals(&q), expected, "{a:?} {b:?}");
        assert_eq!(n.equals(&m), expected, "{a:?} {b:?}");
    }
    let base = h("schema:1 count:3 sum:2 z_bucket:1 z_bucket_w:0.5");
    for other in ["schema:2", "count:4", "sum:-2", "z_bucket:2", "z_bucket_w:0.25", "sum:NaN"] {
        let text = format!("schema:1 count:3 sum:2 z_bucket:1 z_bucket_w:0.5 {other}");
        assert!(!base.equals(&h(&text)), "{other}");
    }
    assert!(!h("sum:0").equals(&h("sum:-0")), "bits are compared");
    assert!(base.equals(&NativeHistogram { hint: ResetHint::Reset, ..base.clone() }), "hints are not");
    assert!(!h("schema:-53 custom_values:[1]").equals(&h("schema:-53 custom_values:[2]")));
}

#[test]
fn size_in_samples() {
    assert_eq!(h("").samples(), 11);
    assert_eq!(h("buckets:[1 2 3] n_buckets:[1]").samples(), 14);
    assert_eq!(h("schema:-53 custom_values:[1 2 3] buckets:[1 2 3]").samples(), 14);
}

#[test]
fn what_is_refused() {
    let spans = |spans: &[(i32, &[f64])]| NativeHistogram { positive: buckets(spans), ..h("count:9") };
    let cut = |mut h: NativeHistogram| {
        h.positive.counts.pop();
        h
    };
    let cases = [
        (
            h("schema:9"),
            "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema 9",
        ),
        (h("count:-1"), "observation count is  -1: histogram's observation count is negative"),
        (
            h("buckets:[1 -2]"),
            "positive side: bucket number 2 has observation count of -2: histogram has a bucket whose observation count is negative",
        ),
        (
            h("n_buckets:[-0.5]"),
            "negative side: bucket number 1 has observation count of -0.5: histogram has a bucket whose observation count is negative",
        ),
        (
            h("z_bucket:-3"),
            "zero bucket has observation count of -3: histogram has a bucket whose observation count is negative",
        ),
        (
            spans(&[(0, &[1.0]), (-1, &[1.0])]),
            "positive side: span number 2 with offset -1: histogram has a span whose offset is negative",
        ),
        (
            cut(h("buckets:[1 2]")),
            "positive side: spans need 2 buckets, have 1 buckets: histogram spans specify different number of buckets than provided",
        ),
        (h("custom_values:[1]"), "histogram with exponential schema must not have custom bounds"),
        (h("schema:-53 z_bucket:1"), "custom buckets: must have zero count of 0"),
        (h("schema:-53 z_bucket_w:1"), "custom buckets: must have zero threshold of 0"),
        (h("schema:-53 n_buckets:[1]"), "custom buckets: must not have negative spans"),
        (h("schema:-53 custom_values:[NaN]"), "custom buckets: histogram custom bounds must not be NaN"),
        (
            h("schema:-53 custom_values:[2 1]"),
            "custom buckets: previous bound is 2.000000 and current is 1.000000: histogram custom bounds must be in strictly increasing order",
        ),
        (
            h("schema:-53 custom_values:[2 inf]"),
            "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite",
        ),
        (
            h("schema:-53 offset:-1 buckets:[1]"),
            "custom buckets: span number 1 with offset -1: histogram has a span whose offset is negative",
        ),
        (
            h("schema:-53 custom_values:[1] buckets:[1 2 3]"),
            "custom buckets: only 1 custom bounds defined which is insufficient to cover total span length of 3: histogram custom bounds are too few",
        ),
    ];
    for (histogram, text) in cases {
        assert_eq!(histogram.validate().map_err(|e| e.to_string()), Err(text.to_owned()));
    }
    assert_eq!(h("count:1 offset:-7 buckets:[1] sum:NaN").validate(), Ok(()));
    let mut negative = h("schema:-53");
    negative.negative.counts.push(1.0);
    assert_eq!(negative.validate(), Err(HistogramError::CustomNegativeBuckets));
}

proptest! {
    #[test]
    fn walks_are_the_same_from_both_ends(b in any_buckets(-5..5)) {
        let mut backwards: Vec<_> = b.iter().rev().collect();
        backwards.reverse();
        prop_assert_eq!(b.iter().collect::<Vec<_>>(), backwards);
        let mut expected = Vec::new();
        let mut index = 0;
        let mut counts = b.counts.iter();
        for span in &b.spans {
            index += span.offset;
            for _ in 0..span.length {
                expected.push((index, *counts.next().expect("as many counts as the spans say")));
                index += 1;
            }
        }
        prop_assert_eq!(b.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn buckets_ascend_without_overlap(a in any_tidy(), b in any_custom()) {
        for h in [a, b] {
            let all: Vec<Bucket> = h.all_buckets().filter(|b| b.count != 0.0).collect();
            prop_assert!(all.windows(2).all(|w| w[0].upper <= w[1].lower));
            let mut reverse: Vec<Bucket> = h.all_buckets().rev().filter(|b| b.count != 0.0).collect();
            reverse.reverse();
            prop_assert_eq!(all, reverse);
        }
    }

    #[test]
    fn compaction_keeps_what_is_populated(h in any_exponential()) {
        let mut compact = h.clone();
        compact.compact();
        prop_assert_eq!(populated(&compact.positive), populated(&h.positive));
        prop_assert_eq!(populated(&compact.negative), populated(&h.negative));
        for side in [&compact.positive, &compact.negative] {
            prop_assert!(side.counts.iter().all(|c| *c != 0.0));
            prop_assert!(side.spans.iter().skip(1).all(|s| s.offset > 0) && side.spans.iter().all(|s| s.length > 0));
            prop_assert_eq!(side.spans.iter().map(|s| s.length as usize).sum::<usize>(), side.counts.len());
        }
        let mut again = compact.clone();
        again.compact();
        prop_assert!(again.equals(&compact));
    }

    #[test]
    fn a_lower_resolution_keeps_counts_below_its_bounds(h in any_exponential(), lower in 1..5) {
        prop_assume!(h.schema - lower >= -4);
        let reduced = h.to_schema(h.schema - lower).expect("a lower schema");
        prop_assert_eq!(reduced.validate(), Ok(()));
        for bucket in reduced.positive_buckets() {
            let below = |b: &NativeHistogram| {
                b.positive_buckets().filter(|b| b.upper <= bucket.upper).map(|b| b.count).sum::<f64>()
            };
            prop_assert_eq!(below(&reduced), below(&h));
        }
    }

    #[test]
    fn steps_down_are_one_step_down(h in any_exponential()) {
        prop_assume!(h.schema >= -2);
        let once = h.to_schema(h.schema - 2).expect("a lower schema");
        let twice = h.to_schema(h.schema - 1).and_then(|h| h.to_schema(h.schema - 1)).expect("a lower schema");
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn empty_spans_do_not_count(b in any_buckets(-5..5)) {
        let mut without = Buckets { spans: Vec::new(), counts: b.counts.clone() };
        let mut before = 0;
        for span in &b.spans {
            before += span.offset;
            if span.length > 0 {
                without.spans.push(super::super::BucketSpan { offset: before, ..*span });
                before = 0;
            }
        }
        let [a, b] = [b, without].map(|positive| NativeHistogram { positive, ..NativeHistogram::default() });
        prop_assert!(a.equals(&b));
    }
}
