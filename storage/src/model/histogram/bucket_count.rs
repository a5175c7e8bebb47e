//! What is kept of a count while histograms are added: the plain float, or a float with what
//! rounding took from it.
//!
//! Binary operators and rates add plainly; sums and means over many histograms compensate
//! (Neumaier). Everything that walks buckets is written once, over [`BucketCount`].

/// One count in the making.
pub(super) trait BucketCount: Copy {
    /// Whether there is nothing in it.
    fn is_empty(self) -> bool;
    /// Starts from a plain value.
    fn of(value: f64) -> Self;
    /// Adds another one.
    fn add(&mut self, other: Self);
    /// The count without compensation: what comparisons and overflow checks look at.
    fn plain(self) -> f64;
    /// The count with its compensation kept apart.
    fn compensated(self) -> CompensatedSum;
    /// Takes over a count that was formed with compensation, as far as this kind of cell can.
    fn from_compensated(value: CompensatedSum) -> Self;
}

impl BucketCount for f64 {
    fn is_empty(self) -> bool {
        self == 0.0
    }

    fn of(value: f64) -> f64 {
        value
    }

    fn add(&mut self, other: f64) {
        *self += other;
    }

    fn plain(self) -> f64 {
        self
    }

    fn compensated(self) -> CompensatedSum {
        CompensatedSum::of(self)
    }

    fn from_compensated(value: CompensatedSum) -> f64 {
        value.sum
    }
}

/// A sum with its lost low-order part.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(super) struct CompensatedSum {
    /// The sum as plain addition has it.
    pub sum: f64,
    /// What rounding took from it; 0 once the sum is infinite, or it would poison the answer.
    pub lost: f64,
}

impl CompensatedSum {
    /// Adds one value.
    pub fn include(&mut self, value: f64) {
        let sum = self.sum + value;
        if sum.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - sum) + value;
        } else {
            self.lost += (value - sum) + self.sum;
        }
        self.sum = sum;
    }

    /// Sum and compensation, each put through `f`.
    pub fn map(self, f: impl Fn(f64) -> f64) -> CompensatedSum {
        CompensatedSum { sum: f(self.sum), lost: f(self.lost) }
    }

    /// The compensated sum.
    pub fn value(self) -> f64 {
        self.sum + self.lost
    }
}

impl BucketCount for CompensatedSum {
    fn is_empty(self) -> bool {
        self.sum == 0.0 && self.lost == 0.0
    }

    fn of(value: f64) -> CompensatedSum {
        CompensatedSum { sum: value, lost: 0.0 }
    }

    fn add(&mut self, other: CompensatedSum) {
        self.include(other.sum);
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
        let mut c = CompensatedSum::of(1.0);
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
        let mut c = CompensatedSum::of(1e100);
        c.add(CompensatedSum { sum: -1e100, lost: 2.0 });
        assert_eq!(c.value(), 2.0);
    }
}
