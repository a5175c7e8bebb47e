//! Converts classic histograms to native ones with custom buckets, for `load_with_nhcb`: at each
//! time, one histogram for the series `x_bucket`, `x_count` and `x_sum` with the same labels.

use super::errors::{ClassicHistogramError, ScriptErrorKind};
use super::load::LoadedSample;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::histogram::{BucketSpan, Buckets, CUSTOM_BUCKETS, NativeHistogram};
use storage::model::labels::METRIC_NAME;
use storage::model::value::HISTOGRAM;
use storage::model::{Labels, TimeMs};

/// The label with the upper bound of a bucket.
const BOUND: &str = "le";

/// The parts of a classic histogram at one time.
#[derive(Default)]
struct ClassicSample {
    /// The upper bounds and cumulative counts.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// The native histograms for the classic ones among `series`.
pub(super) fn convert(
    series: &BTreeMap<Labels, Vec<LoadedSample>>,
) -> Result<Vec<(Labels, Vec<LoadedSample>)>, ScriptErrorKind> {
    let mut found: BTreeMap<Labels, BTreeMap<TimeMs, ClassicSample>> = BTreeMap::new();
    for (labels, samples) in series {
        let Some((base, part)) = part_of(labels)? else { continue };
        let histogram = found.entry(base).or_default();
        for sample in samples.iter().filter(|sample| sample.histogram.is_none()) {
            let at = histogram.entry(sample.t).or_default();
            match part {
                ClassicRole::Bucket(bound) => at.buckets.push((bound, sample.v)),
                ClassicRole::Count => at.count = Some(sample.v),
                ClassicRole::Sum => at.sum = sample.v,
            }
        }
    }
    let native = |(labels, times): (Labels, BTreeMap<TimeMs, ClassicSample>)| {
        let one = |(t, classic): (TimeMs, ClassicSample)| {
            let histogram = classic.native().map_err(|error| ScriptErrorKind::ClassicHistogram {
                name: labels.name().to_owned(),
                t,
                error,
            })?;
            Ok(LoadedSample { t, v: HISTOGRAM, histogram: Some(Arc::new(histogram)), start: None })
        };
        let samples = times.into_iter().map(one).collect::<Result<_, ScriptErrorKind>>()?;
        Ok((labels, samples))
    };
    found.into_iter().map(native).collect()
}

#[derive(Copy, Clone)]
enum ClassicRole {
    Bucket(f64),
    Count,
    Sum,
}

/// The histogram and the part that a series belongs to; `None`: it is no part, or its bound is not
/// a number.
fn part_of(labels: &Labels) -> Result<Option<(Labels, ClassicRole)>, ScriptErrorKind> {
    let name = labels.name();
    let (base, part) = if let Some(base) = name.strip_suffix("_bucket") {
        let bound = labels.get(BOUND);
        let bound = bound.ok_or_else(|| ScriptErrorKind::BucketWithoutBound(name.to_owned()))?;
        match bound.parse::<f64>() {
            Ok(bound) if !bound.is_nan() => (base, ClassicRole::Bucket(bound)),
            _ => return Ok(None),
        }
    } else if let Some(base) = name.strip_suffix("_count") {
        (base, ClassicRole::Count)
    } else if let Some(base) = name.strip_suffix("_sum") {
        (base, ClassicRole::Sum)
    } else {
        return Ok(None);
    };
    let mut native = labels.to_builder();
    native.set(METRIC_NAME, base).remove(BOUND);
    Ok(Some((native.build(), part)))
}

impl ClassicSample {
    #[allow(clippy::float_cmp, reason = "counts must be equal, not close")]
    fn native(mut self) -> Result<NativeHistogram, ClassicHistogramError> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|b, a| a.0 == b.0);
        let last = self.buckets.last().copied();
        let count = match (self.count, last) {
            (Some(count), _) | (None, Some((_, count))) => count,
            (None, None) => return Err(ClassicHistogramError::NoCount),
        };
        if last.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut counts = Vec::with_capacity(self.buckets.len());
        let mut below = 0.0;
        for (bound, cumulative) in &self.buckets {
            // Rejects NaN too.
            if cumulative.is_nan() || *cumulative < below {
                return Err(ClassicHistogramError::NotCumulative {
                    count: *cumulative,
                    below,
                    bound: *bound,
                });
            }
            counts.push(cumulative - below);
            below = *cumulative;
        }
        if count != below {
            return Err(ClassicHistogramError::CountMismatch { count, last: below });
        }
        let bounds = self.buckets[..self.buckets.len() - 1].iter().map(|(bound, _)| *bound).collect();
        let spans = vec![BucketSpan { offset: 0, length: counts.len() as u32 }];
        Ok(NativeHistogram {
            schema: CUSTOM_BUCKETS,
            count,
            sum: self.sum,
            positive: Buckets { spans, counts },
            bounds,
            ..NativeHistogram::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(parts: &[(&str, &str, f64)]) -> Result<Vec<(Labels, Vec<LoadedSample>)>, ScriptErrorKind> {
        let one = |(name, le, v): &(&str, &str, f64)| {
            let mut labels = Labels::from_pairs([("__name__", *name), ("a", "b")]).to_builder();
            labels.set("le", *le);
            (labels.build(), vec![LoadedSample { t: 5, v: *v, histogram: None, start: None }])
        };
        convert(&parts.iter().map(one).collect())
    }

    #[test]
    fn cumulative_counts_become_single_ones() {
        let parts =
            [("x_bucket", "1", 2.0), ("x_bucket", "10", 5.0), ("x_bucket", "+Inf", 6.0), ("x_sum", "", 9.0)];
        let found = native(&parts).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, Labels::from_pairs([("__name__", "x"), ("a", "b")]));
        let h = found[0].1[0].histogram.clone().unwrap();
        assert_eq!((h.schema, h.count, h.sum), (CUSTOM_BUCKETS, 6.0, 9.0));
        assert_eq!(
            (h.positive.counts.as_slice(), h.bounds.to_vec()),
            (&[2.0, 3.0, 1.0][..], vec![1.0, 10.0])
        );
    }

    #[test]
    fn the_last_bucket_is_everything() {
        let h = |parts: &[(&str, &str, f64)]| native(parts).unwrap()[0].1[0].histogram.clone().unwrap();
        assert_eq!(h(&[("x_bucket", "1", 2.0), ("x_count", "", 3.0)]).positive.counts, [2.0, 1.0]);
        assert_eq!(h(&[("x_bucket", "1", 2.0)]).positive.counts, [2.0, 0.0]);
        assert_eq!(h(&[("x_count", "", 3.0)]).positive.counts, [3.0]);
    }

    #[test]
    fn what_is_no_histogram_is_refused_or_left_alone() {
        assert!(native(&[("x_sum", "", 3.0)]).is_err());
        assert!(native(&[("x_bucket", "1", 2.0), ("x_bucket", "2", 1.0)]).is_err());
        assert!(native(&[("x_bucket", "+Inf", 2.0), ("x_count", "", 1.0)]).is_err());
        assert!(native(&[("x_bucket", "wide", 2.0), ("x", "1", 2.0)]).unwrap().is_empty());
    }
}
