//! The arithmetic of aggregation operators: partial aggregates to which values are added, and which
//! are merged across shards. [`super::quantile::quantile`] serves the `quantile` operator.
//!
//! Adding the values of a group one by one, in the fixed order, gives the same bits as Prometheus.
//! Merging adds in another order, so the result agrees except for rounding.

use super::NAN;
use super::summation::Neumaier;

/// A group's mean, see [`super::summation::Mean`].
pub use super::summation::Mean as AvgPartial;

/// A group's sum, compensated; it begins with the first value.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct SumPartial(Neumaier);

impl SumPartial {
    /// The sum of one value.
    pub fn from_first(first: f64) -> SumPartial {
        SumPartial(Neumaier::seeded(first))
    }

    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.0.add(value);
    }

    /// Adds the values of another partial sum.
    pub fn merge(&mut self, other: &SumPartial) {
        self.0.add(other.0.sum);
        if !self.0.sum.is_infinite() {
            self.0.c += other.0.c;
        }
    }

    /// The sum with the compensation added.
    #[inline]
    pub fn value(&self) -> f64 {
        self.0.value()
    }

    /// The sum as two columns of a partial aggregate.
    pub fn columns(&self) -> [f64; 2] {
        [self.0.sum, self.0.c]
    }

    /// The sum from its two columns.
    pub fn from_columns([sum, c]: [f64; 2]) -> SumPartial {
        SumPartial(Neumaier { sum, c })
    }
}

/// A group's variance by Welford's recurrence, not compensated. If the first value is NaN or
/// infinite, the variance is NaN.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct VariancePartial {
    count: f64,
    mean: f64,
    squares: f64,
}

impl VariancePartial {
    /// The variance of one value.
    pub fn from_first(first: f64) -> VariancePartial {
        VariancePartial { count: 1.0, mean: first, squares: if first.is_finite() { 0.0 } else { NAN } }
    }

    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    /// Adds the values of another partial variance.
    pub fn merge(&mut self, other: &VariancePartial) {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        self.mean += delta * (other.count / count);
        self.squares += other.squares + delta * delta * (self.count * other.count / count);
        self.count = count;
    }

    /// Population variance.
    pub fn variance(&self) -> f64 {
        self.squares / self.count
    }

    /// Population standard deviation.
    pub fn deviation(&self) -> f64 {
        (self.squares / self.count).sqrt()
    }
}

/// The larger value: `best`, unless `value` is larger or `best` is NaN. Of equal values the first.
#[inline]
pub fn max(best: f64, value: f64) -> f64 {
    if best < value || best.is_nan() { value } else { best }
}

/// The smaller value: `best`, unless `value` is smaller or `best` is NaN. Of equal values the
/// first.
#[inline]
pub fn min(best: f64, value: f64) -> f64 {
    if best > value || best.is_nan() { value } else { best }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: &[f64]) -> SumPartial {
        let mut sum = SumPartial::from_first(values[0]);
        for v in &values[1..] {
            sum.add(*v);
        }
        sum
    }

    fn avg(values: &[f64]) -> AvgPartial {
        let mut avg = AvgPartial::from_first(values[0]);
        for v in &values[1..] {
            avg.add(*v);
        }
        avg
    }

    fn variance(values: &[f64]) -> VariancePartial {
        let mut variance = VariancePartial::from_first(values[0]);
        for v in &values[1..] {
            variance.add(*v);
        }
        variance
    }

    #[test]
    fn sums_begin_with_their_first_value() {
        assert_eq!(sum(&[0.1]).value(), 0.1);
        assert_eq!(sum(&[-0.0]).value().to_bits(), 0); // the lost part, +0, is added at the end
        assert_eq!(sum(&[1.0, 1e100, 1.0, -1e100]).value(), 2.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -1.0]).value(), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
    }

    #[test]
    fn variances() {
        assert!((variance(&[0.0, 8.0, 8.0, 2.0, 3.0]).variance() - 10.56).abs() < 1e-14);
        assert_eq!(variance(&[0.1; 17]).deviation(), 0.0);
        assert!(variance(&[f64::INFINITY]).variance().is_nan());
        assert!(variance(&[f64::NAN, 1.0]).variance().is_nan());
        assert!(variance(&[1.0, f64::INFINITY]).variance().is_nan());
    }

    #[test]
    fn extremes_pass_over_nan() {
        let of = |f: fn(f64, f64) -> f64, values: &[f64]| values[1..].iter().fold(values[0], |a, v| f(a, *v));
        assert_eq!(of(max, &[f64::NAN, 1.0, f64::NAN, 3.0, 2.0]), 3.0);
        assert_eq!(of(min, &[2.0, f64::NAN, 1.0]), 1.0);
        assert!(of(max, &[f64::NAN, f64::NAN]).is_nan());
        assert_eq!(of(min, &[0.0, -0.0]).to_bits(), 0.0f64.to_bits());
    }

    proptest! {
        /// Values of one sign: without cancellation a relative tolerance suffices.
        #[test]
        fn parts_merge_to_the_whole(values in prop::collection::vec(0.001f64..1e6, 2..200), at in 1usize..199) {
            let (left, right) = values.split_at(at.min(values.len() - 1));
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs();

            let mut s = sum(left);
            s.merge(&sum(right));
            prop_assert!(near(s.value(), sum(&values).value()));

            let mut a = avg(left);
            a.merge(&avg(right));
            prop_assert!(near(a.value(), avg(&values).value()));
            prop_assert_eq!(a.count(), values.len() as f64);

            let mut v = variance(left);
            v.merge(&variance(right));
            let whole = variance(&values).variance();
            prop_assert!((v.variance() - whole).abs() <= 1e-9 * whole + 1e-12);
        }
    }
}
