//! Native histograms from remote write and scrapes: read field by field, completed, validated, and
//! brought within limits.
//!
//! Remote write and the protobuf exposition have the same histogram message with different field
//! numbers; both fill a [`RawHistogram`]. Integer counts come as deltas; [`RawHistogram::finish`]
//! makes them absolute.

use crate::limits;
use crate::protobuf::{FieldReader, FieldValue, ProtobufError, zigzag};
use storage::model::NativeHistogram;
use storage::model::histogram::{
    BucketSpan, Buckets, CUSTOM_BUCKETS, HistogramError, ResetHint, SCHEMA_MAX, SCHEMA_MIN,
};
use storage::model::value::is_stale;
use storage::store::is_storable;

/// Schemas above the highest stored one, up to this, are reserved for exponential buckets; they are
/// converted.
const SCHEMA_RESERVED: i32 = 52;

/// Why a histogram is not stored. The texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HistogramRejected {
    /// It is malformed.
    #[error(transparent)]
    Malformed(#[from] HistogramError),
    /// Its buckets do not add up to its count.
    #[error(
        "{buckets} observations found in buckets, but the Count field is {count}: histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)"
    )]
    CountMismatch {
        /// Sum of the buckets.
        buckets: f64,
        /// The count.
        count: f64,
    },
    /// Its buckets have more observations than its count.
    #[error(
        "{buckets} observations found in buckets, but the Count field is {count}: histogram's observation count should be at least the number of observations found in the buckets"
    )]
    CountTooSmall {
        /// Sum of the buckets.
        buckets: f64,
        /// The count.
        count: f64,
    },
    /// More buckets than `native_histogram_bucket_limit` even at the lowest resolution, or than the
    /// store accepts.
    #[error("histogram bucket limit exceeded")]
    TooManyBuckets,
}

/// Buckets of one sign.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawBuckets {
    /// The positions of the buckets.
    pub spans: Vec<BucketSpan>,
    /// Integer counts, each as the difference to the one before.
    pub deltas: Vec<i64>,
    /// Float counts.
    pub counts: Vec<f64>,
    /// Whether any list had more elements than [`limits::RAW_BUCKETS`]; the excess was dropped.
    pub too_many: bool,
}

impl RawBuckets {
    /// Adds to a list unless it is full: one byte of a message can be a bucket of eight bytes here.
    fn push<T>(list: &mut Vec<T>, too_many: &mut bool, value: T) {
        if list.len() < limits::RAW_BUCKETS { list.push(value) } else { *too_many = true }
    }

    /// Reads an element of the repeated field of spans.
    pub fn span(&mut self, value: FieldValue<'_>) -> Result<(), ProtobufError> {
        let FieldValue::Bytes(message) = value else { return Ok(()) };
        let mut span = BucketSpan::default();
        let mut fields = FieldReader::new(message);
        while let Some(field) = fields.next_field()? {
            match field {
                (1, offset) => span.offset = zigzag(offset.number()) as i32,
                (2, length) => span.length = length.number() as u32,
                _ => {}
            }
        }
        Self::push(&mut self.spans, &mut self.too_many, span);
        Ok(())
    }

    /// Reads the repeated field of deltas.
    pub fn deltas(&mut self, value: FieldValue<'_>) -> Result<(), ProtobufError> {
        value.each_number(|n| Self::push(&mut self.deltas, &mut self.too_many, zigzag(n)))
    }

    /// Reads the repeated field of counts.
    pub fn counts(&mut self, value: FieldValue<'_>) -> Result<(), ProtobufError> {
        value.each_double(|n| Self::push(&mut self.counts, &mut self.too_many, n))
    }

    fn finish(self, float: bool) -> Buckets {
        let mut at = 0i64;
        let whole = self.deltas.into_iter().map(|delta| {
            // Wrapping, because deltas come from outside: a sum that overflows becomes negative,
            // and `validate` refuses negative counts.
            at = at.wrapping_add(delta);
            at as f64
        });
        // A message has one of the two; which, says the histogram.
        let counts = if float { self.counts } else { whole.collect() };
        Buckets { spans: self.spans, counts }
    }
}

/// A histogram that is being read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawHistogram {
    /// Whether counts are floats: then `counts` of the buckets are used, not `deltas`.
    pub float: bool,
    /// Number of all observations.
    pub count: f64,
    /// Number of observations in the zero bucket.
    pub zero_count: f64,
    /// Sum of all observations.
    pub sum: f64,
    /// The schema (resolution).
    pub schema: i32,
    /// Half the width of the zero bucket.
    pub zero_threshold: f64,
    /// Buckets of positive observations.
    pub positive: RawBuckets,
    /// Buckets of negative observations.
    pub negative: RawBuckets,
    /// The counter reset hint.
    pub hint: ResetHint,
    /// Upper bounds of custom buckets.
    pub bounds: Vec<f64>,
}

impl RawHistogram {
    /// Reads the repeated field of upper bounds.
    pub fn bounds(&mut self, value: FieldValue<'_>) -> Result<(), ProtobufError> {
        let too_many = &mut self.positive.too_many;
        value.each_double(|bound| RawBuckets::push(&mut self.bounds, too_many, bound))
    }

    /// Whether it is a stale marker.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Validates the histogram. Removes empty buckets at the ends of spans, and converts reserved
    /// schemas to the highest stored one.
    pub fn finish(self) -> Result<NativeHistogram, HistogramRejected> {
        if self.positive.too_many || self.negative.too_many {
            return Err(HistogramRejected::TooManyBuckets);
        }
        let float = self.float;
        let mut h = NativeHistogram {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: crate::number::normalize_nan(self.sum),
            hint: self.hint,
            positive: self.positive.finish(float),
            negative: self.negative.finish(float),
            bounds: self.bounds.into(),
        };
        // Finer than what is stored. Merging buckets loses resolution and no observation; to refuse
        // it would lose the sample of a client that is newer than this server.
        if h.schema > SCHEMA_MAX && h.schema <= SCHEMA_RESERVED {
            h.reduce_resolution(SCHEMA_MAX)?;
        }
        h.validate()?;
        // Float counts are sums of rates and need not add up exactly.
        if !float {
            add_up(&h)?;
        }
        Ok(h)
    }
}

/// Checks that integer counts add up. NaN observations are counted but are in no bucket.
fn add_up(h: &NativeHistogram) -> Result<(), HistogramRejected> {
    let buckets = h.positive.counts.iter().chain(&h.negative.counts).sum::<f64>() + h.zero_count;
    let count = h.count;
    if h.sum.is_nan() {
        return if buckets > count {
            Err(HistogramRejected::CountTooSmall { buckets, count })
        } else {
            Ok(())
        };
    }
    if buckets == count { Ok(()) } else { Err(HistogramRejected::CountMismatch { buckets, count }) }
}

/// Checks whether the store accepts a complete histogram. Checked here, because otherwise the store
/// would refuse everything that came with it.
pub fn check_storable(h: NativeHistogram) -> Result<NativeHistogram, HistogramRejected> {
    if is_storable(&h) { Ok(h) } else { Err(HistogramRejected::TooManyBuckets) }
}

/// The limits for histograms of a scrape.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct HistogramLimits {
    /// Maximum number of buckets.
    pub buckets: usize,
    /// Highest resolution.
    pub max_schema: i32,
}

impl Default for HistogramLimits {
    fn default() -> Self {
        HistogramLimits { buckets: usize::MAX, max_schema: SCHEMA_MAX }
    }
}

impl HistogramLimits {
    /// The limits given by `native_histogram_bucket_limit` (0: none) and
    /// `native_histogram_min_bucket_factor`: the highest resolution whose buckets grow by at least
    /// this factor.
    pub fn new(buckets: u64, min_factor: f64) -> HistogramLimits {
        let buckets = if buckets == 0 { usize::MAX } else { usize::try_from(buckets).unwrap_or(usize::MAX) };
        // 1 or less is no growth, and every schema grows by more.
        if min_factor <= 1.0 || min_factor.is_nan() {
            return HistogramLimits { buckets, ..HistogramLimits::default() };
        }
        // A schema `n` grows by `2^(2^-n)` from bucket to bucket, which is solved for `n` here.
        let schema = (-min_factor.log2().log2()).floor();
        let schema = schema.clamp(f64::from(SCHEMA_MIN), f64::from(SCHEMA_MAX));
        HistogramLimits { buckets, max_schema: schema as i32 }
    }

    /// Brings a histogram within these limits and those of the store, by lowering its resolution.
    pub fn apply(&self, h: &mut NativeHistogram) -> Result<(), HistogramRejected> {
        if h.schema != CUSTOM_BUCKETS && h.schema > self.max_schema {
            h.reduce_resolution(self.max_schema)?;
        }
        // Halves the resolution each time. One step at a time finds the finest that fits; what it
        // costs is bounded by the number of schemas.
        while h.positive.counts.len() + h.negative.counts.len() > self.buckets || !is_storable(h) {
            // Custom buckets cannot be merged without inventing bounds, and below the lowest schema
            // there is none.
            if h.schema == CUSTOM_BUCKETS || h.schema <= SCHEMA_MIN {
                return Err(HistogramRejected::TooManyBuckets);
            }
            h.reduce_resolution(h.schema - 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::limits::HISTOGRAM_BUCKETS;

    fn raw(deltas: &[i64]) -> RawHistogram {
        let spans = vec![BucketSpan { offset: 0, length: deltas.len() as u32 }];
        let positive = RawBuckets { spans, deltas: deltas.to_vec(), ..RawBuckets::default() };
        RawHistogram { positive, ..RawHistogram::default() }
    }

    #[test]
    fn whole_counts_are_differences_and_add_up() {
        let good = RawHistogram { count: 9.0, zero_count: 2.0, ..raw(&[1, 2, -1, -1]) };
        let h = good.clone().finish().unwrap();
        assert_eq!((h.positive.counts.as_slice(), h.count), (&[1.0, 3.0, 2.0, 1.0][..], 9.0));
        let text = |raw: RawHistogram| raw.finish().unwrap_err().to_string();
        assert!(
            text(RawHistogram { count: 8.0, ..good.clone() })
                .starts_with("9 observations found in buckets, but")
        );
        let nan = RawHistogram { sum: f64::NAN, count: 10.0, ..good.clone() };
        assert!(nan.clone().finish().is_ok(), "one observation was NaN");
        assert!(text(RawHistogram { count: 8.0, ..nan }).contains("should be at least"));
        assert!(text(raw(&[1, -2])).contains("observation count is negative"));
        let mut missing = good;
        missing.positive.deltas.pop();
        assert!(text(missing).contains("spans need 4 buckets, have 3 buckets"));
        assert!(text(RawHistogram { schema: 53, ..raw(&[]) }).contains("invalid schema"));
        assert_eq!(RawHistogram { schema: 10, ..raw(&[]) }.finish().unwrap().schema, 8);
    }

    #[test]
    fn limits_lower_the_resolution() {
        let h = RawHistogram { schema: 3, count: 12.0, ..raw(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) };
        let h = h.finish().unwrap();
        let fit = |buckets, factor| {
            let mut fitted = h.clone();
            let fate = HistogramLimits::new(buckets, factor).apply(&mut fitted);
            fate.map(|()| (fitted.schema, fitted.positive.counts.len()))
        };
        assert_eq!(fit(0, 0.0), Ok((3, 12)));
        assert_eq!(fit(7, 0.0), Ok((2, 7)));
        assert_eq!(fit(2, 0.0), Ok((-1, 2)));
        assert_eq!(fit(0, 1.5), Ok((0, 3)));
        assert_eq!(fit(0, 1.1), Ok((2, 7)));
        let mut custom = NativeHistogram { schema: CUSTOM_BUCKETS, ..h.clone() };
        custom.bounds = (0..11).map(f64::from).collect();
        let fate = HistogramLimits::new(11, 0.0).apply(&mut custom);
        assert_eq!(fate, Err(HistogramRejected::TooManyBuckets));
    }

    #[test]
    fn what_the_store_cannot_hold_is_a_limit_too() {
        let deltas: Vec<i64> = (0..=HISTOGRAM_BUCKETS).map(|i| i64::from(i == 0)).collect();
        let count = deltas.len() as f64;
        let h = RawHistogram { schema: 8, count, ..raw(&deltas) }.finish().unwrap();
        let mut fitted = h.clone();
        HistogramLimits::new(0, 0.0).apply(&mut fitted).unwrap();
        assert_eq!((fitted.schema, fitted.count, check_storable(fitted).err()), (7, count, None));
        let mut custom = NativeHistogram { schema: CUSTOM_BUCKETS, ..h.clone() };
        custom.bounds = (0..h.positive.counts.len()).map(|i| i as f64).collect();
        let fate = HistogramLimits::new(0, 0.0).apply(&mut custom);
        assert_eq!(fate, Err(HistogramRejected::TooManyBuckets), "its buckets cannot be made wider");
        assert_eq!(check_storable(h).err(), Some(HistogramRejected::TooManyBuckets));
    }

    #[test]
    fn buckets_that_no_store_holds_are_not_collected() {
        let many = limits::RAW_BUCKETS + 1;
        let mut sent = RawHistogram::default();
        sent.positive.deltas(FieldValue::Bytes(&vec![0; many])).unwrap();
        sent.bounds(FieldValue::Bytes(&vec![0; 8 * many])).unwrap();
        assert_eq!((sent.positive.deltas.len(), sent.bounds.len()), (many - 1, many - 1));
        assert_eq!(sent.finish(), Err(HistogramRejected::TooManyBuckets));
    }

    #[test]
    fn factors_are_schemas() {
        let table = [
            (0.0, 8),
            (1.0, 8),
            (1.00271, 8),
            (1.003, 7),
            (1.1, 2),
            (1.5, 0),
            (2.0, 0),
            (4.0, -1),
            (1e9, -4),
        ];
        for (factor, schema) in table {
            assert_eq!(HistogramLimits::new(0, factor).max_schema, schema, "{factor}");
        }
    }
}
