//! Detection of counter resets between two native histograms: whether the process that counts has
//! started again in between, so that `rate` and `increase` must not subtract. As Prometheus does
//! it.

use super::NativeHistogram;
use super::ResetHint;
use super::accumulator::same_bounds;
use super::bounds::{exponential, is_exponential};
use super::signed_buckets::SignedBuckets;
use std::cmp::Ordering;
use std::sync::Arc;

impl NativeHistogram {
    /// Clears the hint *not reset*, because the sample before is gone or is another one now. Then
    /// [`NativeHistogram::detect_reset`] compares.
    pub fn clear_reset_hint(self: &mut Arc<Self>) {
        if self.hint == ResetHint::NotReset {
            Arc::make_mut(self).hint = ResetHint::Unknown;
        }
    }

    /// Whether the counter was reset between `previous` and this sample.
    ///
    /// A hint that says so decides. Otherwise there was a reset if a count fell (the sum may), a
    /// populated bucket disappeared, the resolution became higher, the zero bucket became narrower,
    /// or its new end cuts through a populated bucket; also if custom buckets follow exponential
    /// ones. Gauges are treated as counters.
    pub fn detect_reset(&self, previous: &NativeHistogram) -> bool {
        match self.hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            // A gauge that is asked this is used as a counter, as `rate` of a gauge does in
            // Prometheus.
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.is_custom() {
            // Nothing can be compared. (A change from custom to exponential buckets shows in the
            // schema below: that of custom buckets is lower than all others.)
            if !previous.is_custom() {
                return true;
            }
            // Bounds may have been added or removed without a restart of the counter.
            if !same_bounds(&self.bounds, &previous.bounds) {
                return self.fell_within_common_bounds(previous);
            }
        }
        // Only a process that starts anew does this: a running one lowers its resolution, and
        // widens its zero bucket, to save memory.
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        // What the histogram before would have with the wider zero bucket of this one.
        let (zero, threshold) = previous.widened_zero(self.zero_threshold);
        threshold != self.zero_threshold
            || self.zero_count < zero.sum
            || self.fell(|h| h.positive.iter(), previous, |h| SignedBuckets::from_buckets(&h.positive))
            || self.fell(|h| h.negative.iter(), previous, |h| SignedBuckets::from_buckets(&h.negative))
    }

    /// Whether a bucket of one sign, outside the zero bucket of this histogram, has a smaller count
    /// than in `previous`.
    fn fell<'a, I: Iterator<Item = (i32, f64)> + 'a>(
        &'a self,
        side: fn(&'a NativeHistogram) -> I,
        previous: &'a NativeHistogram,
        copy: fn(&NativeHistogram) -> SignedBuckets<f64>,
    ) -> bool {
        let beyond = self.beyond_zero();
        // In the common case nothing is copied.
        if previous.schema == self.schema {
            let before = side(previous).skip_while(|b| !beyond(b));
            return any_less(side(self).skip_while(|b| !beyond(b)), before);
        }
        let before = copy(previous).reduced(previous.schema, self.schema);
        let before = before.iter().skip_while(|b| !beyond(b));
        any_less(side(self).skip_while(|b| !beyond(b)), before)
    }

    /// Whether a bucket ends outside the zero bucket.
    fn beyond_zero(&self) -> impl Fn(&(i32, f64)) -> bool + use<> {
        let schema = self.schema;
        let threshold = self.zero_threshold;
        move |(index, _)| {
            threshold == 0.0 || !is_exponential(schema) || exponential(*index, schema) > threshold
        }
    }

    /// For histograms with different custom bounds: whether there are fewer observations than in
    /// `previous` between two bounds that both have.
    fn fell_within_common_bounds(&self, previous: &NativeHistogram) -> bool {
        let mut now = self.positive.iter().peekable();
        let mut before = previous.positive.iter().peekable();
        let mut old = previous.bounds.iter().copied().chain([f64::INFINITY]).peekable();
        for bound in self.bounds.iter().copied().chain([f64::INFINITY]) {
            while old.next_if(|b| *b < bound).is_some() {}
            if old.next_if_eq(&bound).is_some()
                && below(&mut now, &self.bounds, bound) < below(&mut before, &previous.bounds, bound)
            {
                return true;
            }
        }
        false
    }
}

/// Takes the buckets that end at or below `bound`. Returns the sum of their counts.
fn below(
    buckets: &mut std::iter::Peekable<impl Iterator<Item = (i32, f64)>>,
    bounds: &[f64],
    bound: f64,
) -> f64 {
    let mut sum = 0.0;
    while let Some((_, count)) =
        buckets.next_if(|(index, _)| super::upper_bound(*index, super::CUSTOM_BUCKETS, bounds) <= bound)
    {
        sum += count;
    }
    sum
}

/// Whether any bucket has a smaller count `now` than `before`; a bucket that is missing now counts
/// as 0.
fn any_less(mut now: impl Iterator<Item = (i32, f64)>, before: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut current = now.next();
    for (index, count) in before {
        while current.is_some_and(|(i, _)| i < index) {
            current = now.next();
        }
        let less = match current.map(|(i, c)| (i.cmp(&index), c)) {
            Some((Ordering::Equal, c)) => c < count,
            // A bucket that held something is gone. An empty one may be: exporters leave those out.
            _ => count != 0.0,
        };
        if less {
            return true;
        }
    }
    false
}
