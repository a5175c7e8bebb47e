//! Sums and means as in Prometheus: Neumaier's compensated sum, and a mean that survives overflow.
//!
//! A more exact sum would be a different result: `-2.26e220 + … + 2.26e220` must lose what
//! Neumaier's loses. Used by [`super::over_time`], [`super::regression`] and
//! [`super::aggregation`]; nothing else compensates.

/// A running sum with the part that rounding lost.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Neumaier {
    /// The sum by plain addition.
    pub sum: f64,
    /// What rounding lost. 0 once the sum is infinite, because otherwise the result would be NaN.
    pub c: f64,
}

impl Neumaier {
    /// A sum that begins with `first`.
    pub fn seeded(first: f64) -> Neumaier {
        Neumaier { sum: first, c: 0.0 }
    }

    /// Adds one value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        if sum.is_infinite() {
            self.c = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.c += (self.sum - sum) + value;
        } else {
            self.c += (value - sum) + self.sum;
        }
        self.sum = sum;
    }

    /// The compensated sum.
    #[inline]
    pub fn value(&self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.c }
    }
}

/// A running mean: a compensated sum until that overflows, then an incremental mean.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Mean {
    /// The sum of the values, or their mean once `incremental`.
    acc: Neumaier,
    count: f64,
    incremental: bool,
}

impl Mean {
    /// The mean of one value.
    pub fn from_first(first: f64) -> Mean {
        Mean { acc: Neumaier::seeded(first), count: 1.0, incremental: false }
    }

    /// Adds one value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.acc;
            next.add(value);
            if !next.sum.is_infinite() {
                self.acc = next;
                return;
            }
            let before = self.count - 1.0;
            self.acc = Neumaier { sum: self.acc.sum / before, c: self.acc.c / before };
            self.incremental = true;
        }
        let share = (self.count - 1.0) / self.count;
        self.acc = Neumaier { sum: share * self.acc.sum, c: share * self.acc.c };
        self.acc.add(value / self.count);
    }

    /// Adds the values of another mean, for partial aggregates.
    pub fn merge(&mut self, other: &Mean) {
        if !self.incremental && !other.incremental {
            let mut next = self.acc;
            next.add(other.acc.sum);
            if !next.sum.is_infinite() {
                next.c += other.acc.c;
                self.acc = next;
                self.count += other.count;
                return;
            }
        }
        let total = self.count + other.count;
        let weighted = |m: &Mean| {
            let scale = if m.incremental { m.count / total } else { 1.0 / total };
            Neumaier { sum: m.acc.sum * scale, c: m.acc.c * scale }
        };
        let mut acc = weighted(self);
        let right = weighted(other);
        acc.add(right.sum);
        if !acc.sum.is_infinite() {
            acc.c += right.c;
        }
        *self = Mean { acc, count: total, incremental: true };
    }

    /// The mean as three columns of a partial aggregate: sum, compensation, count (negative: the
    /// sum is already a mean).
    pub fn columns(&self) -> [f64; 3] {
        [self.acc.sum, self.acc.c, if self.incremental { -self.count } else { self.count }]
    }

    /// The mean from its three columns.
    pub fn from_columns([sum, c, count]: [f64; 3]) -> Mean {
        Mean { acc: Neumaier { sum, c }, count: count.abs(), incremental: count < 0.0 }
    }

    /// Number of values.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// The mean of all values that were added.
    #[inline]
    pub fn value(&self) -> f64 {
        if self.incremental {
            self.acc.sum + self.acc.c
        } else {
            self.acc.sum / self.count + self.acc.c / self.count
        }
    }
}

/// Neumaier's step written as a table of cases; for references only.
pub(super) fn reference_step(sum: f64, c: f64, value: f64) -> (f64, f64) {
    let total = sum + value;
    let (large, small) = if sum.abs() >= value.abs() { (sum, value) } else { (value, sum) };
    let lost = (large - total) + small;
    (total, if total.is_infinite() { 0.0 } else { c + lost })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut s = Neumaier::default();
        for v in values.iter() {
            s.add(*v);
        }
        s.value()
    }

    fn mean(values: &[f64]) -> f64 {
        let mut m = Mean::from_first(values[0]);
        for v in &values[1..] {
            m.add(*v);
        }
        m.value()
    }

    #[test]
    fn small_terms_survive_large_ones() {
        assert_eq!(sum(&[5e304, 1.0, -5e304]), 1.0);
        assert_eq!(sum(&[1e100, 1.0, -1e100, 1.0]), 2.0);
        assert_eq!(sum(&[f64::INFINITY, 1.0, 2.0]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn the_mean_survives_overflow() {
        assert_eq!(mean(&[9.98846567431158e307, 9.98846567431158e307]), 9.98846567431158e307);
        assert!((mean(&[f64::MAX; 7]) / f64::MAX - 1.0).abs() < 1e-15);
        assert_eq!(mean(&[-9.98846567431158e307, 9.98846567431158e307]), 0.0);
        assert_eq!(mean(&[1.0, f64::INFINITY]), f64::INFINITY);
        assert!(mean(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn merged_means_agree_with_one() {
        let left = [1.0, 2.0, 4.0];
        let right = [8.0, 16.0];
        let mut l = Mean::from_first(1.0);
        for v in &left[1..] {
            l.add(*v);
        }
        let mut r = Mean::from_first(8.0);
        r.add(right[1]);
        l.merge(&r);
        assert_eq!((l.value(), l.count()), (6.2, 5.0));

        let mut big = Mean::from_first(f64::MAX);
        big.add(f64::MAX);
        big.merge(&Mean::from_first(f64::MAX));
        assert!((big.value() / f64::MAX - 1.0).abs() < 1e-15);
    }
}
