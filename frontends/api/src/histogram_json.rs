//! JSON of native histograms:
//! `{"count":"…","sum":"…","buckets":[[rule,"lower","upper","count"],…]}`.
//!
//! The rule says which bounds are inclusive: 0 the upper, 1 the lower, 2 none, 3 both. Empty
//! buckets are left out; if all are empty, so is the list.

use super::query_json;
use std::fmt::Write;
use storage::model::NativeHistogram;

/// Appends `h` as an object.
pub fn write(out: &mut String, h: &NativeHistogram) {
    let quoted = |out: &mut String, v: f64| {
        out.push('"');
        query_json::value(out, v);
        out.push('"');
    };
    out.push_str(r#"{"count":"#);
    quoted(out, h.count);
    out.push_str(r#","sum":"#);
    quoted(out, h.sum);
    let mut any = false;
    for bucket in h.all_buckets().filter(|bucket| bucket.count != 0.0) {
        out.push_str(if any { "," } else { r#","buckets":["# });
        any = true;
        let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        };
        let _ = write!(out, "[{rule}");
        for v in [bucket.lower, bucket.upper, bucket.count] {
            out.push(',');
            quoted(out, v);
        }
        out.push(']');
    }
    out.push_str(if any { "]}" } else { "}" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::model::histogram::{BucketSpan, Buckets, CUSTOM_BUCKETS};

    fn shown(h: &NativeHistogram) -> String {
        let mut out = String::new();
        write(&mut out, h);
        out
    }

    fn buckets(offset: i32, counts: &[f64]) -> Buckets {
        let span = BucketSpan { offset, length: counts.len() as u32 };
        Buckets { spans: vec![span], counts: counts.to_vec() }
    }

    #[test]
    fn exponential_buckets_on_both_sides_of_zero() {
        let h = NativeHistogram {
            schema: 0,
            zero_threshold: 0.25,
            zero_count: 3.0,
            count: 42.0,
            sum: 34_593.34,
            negative: buckets(1, &[2.0]),
            positive: buckets(0, &[12.0, 0.0, 6.5]),
            ..NativeHistogram::default()
        };
        let expected = r#"{"count":"42","sum":"34593.34","buckets":[[1,"-2","-1","2"],[3,"-0.25","0.25","3"],[0,"0.5","1","12"],[0,"2","4","6.5"]]}"#;
        assert_eq!(shown(&h), expected);
    }

    #[test]
    fn custom_buckets_and_none() {
        let h = NativeHistogram {
            schema: CUSTOM_BUCKETS,
            count: 3.0,
            sum: f64::NAN,
            positive: buckets(0, &[1.0, 2.0]),
            bounds: [1e-7].into(),
            ..NativeHistogram::default()
        };
        let expected =
            r#"{"count":"3","sum":"NaN","buckets":[[3,"-Inf","1e-07","1"],[0,"1e-07","+Inf","2"]]}"#;
        assert_eq!(shown(&h), expected);
        assert_eq!(shown(&NativeHistogram::default()), r#"{"count":"0","sum":"0"}"#);
    }
}
