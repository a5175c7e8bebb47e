//! The counter reset hints of the histograms in the head.
//!
//! Prometheus stores histograms in chunks and begins a new one where a counter may have been reset.
//! The first histogram of a chunk is read with the hint *unknown*, the others with *not reset*,
//! whatever the writer sent; gauges stay gauges. Queries show these hints and warn because of them.
//! The head has no such chunks, so it computes the same hints at the append.

use crate::model::NativeHistogram;
use crate::model::histogram::{Buckets, ResetHint};

/// The hint with which `h` is stored; `previous` is the histogram directly before it in its series.
pub(super) fn hint_after(previous: Option<&NativeHistogram>, h: &NativeHistogram) -> ResetHint {
    match (h.hint, previous) {
        (ResetHint::Gauge, _) => ResetHint::Gauge,
        // These begin a chunk in Prometheus.
        (ResetHint::Reset, _) | (_, None) => ResetHint::Unknown,
        (_, Some(previous)) if previous.hint != ResetHint::Gauge && continues(previous, h) => {
            ResetHint::NotReset
        }
        _ => ResetHint::Unknown,
    }
}

/// Whether `next` has the same schema as `previous` and no smaller bucket: no counter reset.
fn continues(previous: &NativeHistogram, next: &NativeHistogram) -> bool {
    let shape = previous.schema == next.schema
        && previous.zero_threshold == next.zero_threshold
        && (!next.is_custom() || same_bounds(previous, next));
    shape
        && next.count >= previous.count
        && next.zero_count >= previous.zero_count
        && covers(&previous.positive, &next.positive)
        && covers(&previous.negative, &next.negative)
}

fn covers(previous: &Buckets, next: &Buckets) -> bool {
    // Both sides ascend by index. A populated bucket that is missing or smaller means a reset; an
    // empty one may be missing.
    let mut next = populated(next).peekable();
    populated(previous).all(|(index, count)| {
        while next.next_if(|(i, _)| *i < index).is_some() {}
        next.peek().is_some_and(|(i, there)| *i == index && *there >= count)
    })
}

/// Index and count of the buckets that are not empty.
fn populated(buckets: &Buckets) -> impl Iterator<Item = (i32, f64)> {
    buckets.iter().filter(|(_, count)| *count != 0.0)
}

fn same_bounds(a: &NativeHistogram, b: &NativeHistogram) -> bool {
    a.bounds.len() == b.bounds.len()
        && a.bounds.iter().zip(b.bounds.iter()).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::BucketSpan;

    /// A histogram with these counts, from bucket `offset` on.
    fn histogram(offset: i32, counts: &[f64]) -> NativeHistogram {
        let spans = vec![BucketSpan { offset, length: counts.len() as u32 }];
        let positive = Buckets { spans, counts: counts.to_vec() };
        NativeHistogram { count: counts.iter().sum(), positive, ..NativeHistogram::default() }
    }

    #[test]
    fn hints_say_what_prometheus_would_read() {
        use ResetHint::*;
        let first = histogram(0, &[1.0, 2.0]);
        let hint = |previous: &NativeHistogram, next: &NativeHistogram| hint_after(Some(previous), next);
        assert_eq!(hint_after(None, &first), Unknown);
        assert_eq!(hint(&first, &histogram(0, &[1.0, 3.0])), NotReset);
        assert_eq!(hint(&first, &histogram(-1, &[5.0, 1.0, 2.0])), NotReset, "a bucket more");
        assert_eq!(hint(&first, &histogram(0, &[5.0, 1.0])), Unknown, "a bucket has less");
        assert_eq!(hint(&first, &histogram(0, &[5.0])), Unknown, "a bucket is gone");
        assert_eq!(hint(&histogram(0, &[1.0, 0.0]), &histogram(0, &[5.0])), NotReset, "it was empty");
        assert_eq!(hint(&first, &NativeHistogram { schema: 1, ..histogram(0, &[5.0, 5.0]) }), Unknown);
        let says = |hint, counts: &[f64]| NativeHistogram { hint, ..histogram(0, counts) };
        assert_eq!(hint(&first, &says(Reset, &[5.0, 5.0])), Unknown, "the writer is believed");
        assert_eq!(hint(&first, &says(NotReset, &[1.0, 1.0])), Unknown, "here it is not");
        assert_eq!(hint(&first, &says(Gauge, &[1.0, 1.0])), Gauge);
        assert_eq!(hint(&says(Gauge, &[1.0, 1.0]), &first), Unknown, "a counter behind a gauge");
        let zero =
            |threshold, n| NativeHistogram { zero_threshold: threshold, zero_count: n, ..first.clone() };
        assert_eq!(hint(&zero(0.1, 1.0), &zero(0.1, 2.0)), NotReset);
        assert_eq!(hint(&zero(0.1, 2.0), &zero(0.1, 1.0)), Unknown);
        assert_eq!(hint(&zero(0.1, 1.0), &zero(0.2, 1.0)), Unknown);
    }
}
