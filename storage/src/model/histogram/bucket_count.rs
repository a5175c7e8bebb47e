//! Counts while histograms are added: a plain float, or a float with the part lost to rounding.
//!
//! Binary operators and rates add plain floats; sums and means of many histograms use compensation
//! (Neumaier). The algorithms over buckets are generic over [`BucketCount`].

/// A count that is being computed.
pub(super) trait BucketCount: Copy {
    /// Whether it is zero.
    fn is_empty(self) -> bool;
    /// A count with this value.
    fn from_value(value: f64) -> Self;
    /// Adds another count.
    fn add(&mut self, other: Self);
    /// The count without compensation, for comparisons and overflow checks.
    fn plain(self) -> f64;
    /// The count with its compensation.
    fn compensated(self) -> CompensatedSum;
    /// Converts from a compensated count; a plain float drops the compensation.
    fn from_compensated(value: CompensatedSum) -> Self;
}

impl BucketCount for f64 {
    fn is_empty(self) -> bool {
        self == 0.0
    }

    fn from_value(value: f64) -> f64 {
        value
    }

    fn add(&mut self, other: f64) {
        *self += other;
    }

    fn plain(self) -> f64 {
        self
    }

    fn compensated(self) -> CompensatedSum {
        CompensatedSum::from_value(self)
    }

    fn from_compensated(value: CompensatedSum) -> f64 {
        value.sum
    }
}

/// A sum, and its low-order part lost to rounding.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(super) struct CompensatedSum {
    /// The sum as plain addition gives it.
    pub sum: f64,
    /// The part lost to rounding. 0 once the sum is infinite: it would be NaN and spoil the result.
    pub lost: f64,
}

impl CompensatedSum {
    /// Adds one value.
    pub(super) fn include(&mut self, value: f64) {
        let sum = self.sum + value;
        if sum.is_infinite() {
            self.lost = 0.0;
        // Neumaier's variant of Kahan's summation, as in Prometheus: what is lost is the low part
        // of the smaller number.
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - sum) + value;
        } else {
            self.lost += (value - sum) + self.sum;
        }
        self.sum = sum;
    }

    /// Applies `f` to the sum and to the compensation.
    pub(super) fn map(self, f: impl Fn(f64) -> f64) -> CompensatedSum {
        CompensatedSum { sum: f(self.sum), lost: f(self.lost) }
    }

    /// The compensated sum.
    pub(super) fn value(self) -> f64 {
        self.sum + self.lost
    }
}

impl BucketCount for CompensatedSum {
    fn is_empty(self) -> bool {
        self.sum == 0.0 && self.lost == 0.0
    }

    fn from_value(value: f64) -> CompensatedSum {
        CompensatedSum { sum: value, lost: 0.0 }
    }

    fn add(&mut self, other: CompensatedSum) {
        self.include(other.sum);
        // Adding zero would change nothing, but an addition costs as much as one that does.
        if other.lost != 0.0 {
            self.include(other.lost);
        }
    }

    fn plain(self) -> f64 {
        self.sum
    }

    fn compensated(self) -> CompensatedSum {
        self
    }

    fn from_compensated(value: CompensatedSum) -> CompensatedSum {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_survive_big_ones() {
        let mut c = CompensatedSum::from_value(1.0);
        for v in [1e100, 1.0, -1e100] {
            c.include(v);
        }
        assert_eq!(c.value(), 2.0);
        let mut plain = 1.0;
        for v in [1e100, 1.0, -1e100] {
            BucketCount::add(&mut plain, v);
        }
        assert_eq!(plain, 0.0);
    }

    #[test]
    fn an_overflow_forgets_what_was_lost() {
        let mut c = CompensatedSum { sum: f64::MAX, lost: 3.0 };
        c.include(f64::MAX);
        assert_eq!(c, CompensatedSum { sum: f64::INFINITY, lost: 0.0 });
    }

    #[test]
    fn compensations_add_up() {
        let mut c = CompensatedSum::from_value(1e100);
        c.add(CompensatedSum { sum: -1e100, lost: 2.0 });
        assert_eq!(c.value(), 2.0);
    }
}
