//! What the aggregation operators compute per group: partial states that rows are added to, and that merge
//! where partial answers meet. [`super::quantile::quantile`] serves the `quantile` operator.
//!
//! Adding the rows of a group one by one, in one order, gives Prometheus' bits. Merging associates
//! differently: it agrees to rounding.

use super::NAN;
use super::summation::Neumaier;

/// A group's mean: see [`super::summation::Mean`].
pub use super::summation::Mean as AvgPartial;

/// A group's sum, compensated, beginning with its first value.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct SumPartial(Neumaier);

impl SumPartial {
    /// The sum of one value.
    pub fn of(first: f64) -> SumPartial {
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

    /// The sum.
    #[inline]
    pub fn value(&self) -> f64 {
        self.0.value()
    }

    /// As two numbers, to travel in columns.
    pub fn lanes(&self) -> [f64; 2] {
        [self.0.sum, self.0.c]
    }

    /// Out of its two numbers.
    pub fn from_lanes([sum, c]: [f64; 2]) -> SumPartial {
        SumPartial(Neumaier { sum, c })
    }
}

/// A group's variance: Welford's recurrence, not compensated. A group that begins with NaN or an infinity is NaN.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct VariancePartial {
    count: f64,
    mean: f64,
    squares: f64,
}

impl VariancePartial {
    /// The variance of one value.
    pub fn of(first: f64) -> VariancePartial {
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

/// The larger: `best` so far, unless `value` exceeds it or it is NaN. Of equals the first.
#[inline]
pub fn max(best: f64, value: f64) -> f64 {
    if best < value || best.is_nan() { value } else { best }
}

/// The smaller: `best` so far, unless `value` is below it or it is NaN. Of equals the first.
#[inline]
pub fn min(best: f64, value: f64) -> f64 {
    if best > value || best.is_nan() { value } else { best }
}
