//! [`ExactSum`]: a sum of floats without rounding, to which values can be added and from which they
//! can be subtracted in any order.
//!
//! It is an integer in units of 2^-1074, the smallest positive float, in digits of 32 bits. It is
//! rounded only when it is read. NaN and infinities are counted separately. Used by
//! [`super::exact_aggregates`] and by the groups of dataflows.

/// Bits of a digit.
const DIGIT_BITS: usize = 32;
/// After so many changes carries are resolved: a digit of 63 bits has room for 2^31 of 32.
const CHANGES: u32 = 1 << 30;

/// A sum of floats, exact until it is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ExactSum {
    /// The digits from [`ExactSum::first`] on, least first. Each may be beyond its bits, and
    /// negative.
    digits: Vec<i64>,
    /// The position of the first stored digit: the values of a column mostly have similar sizes, so
    /// few digits are stored.
    first: usize,
    changes: u32,
    nans: i64,
    infinities: i64,
    negative_infinities: i64,
}

impl ExactSum {
    /// Adds `value` so many times; with a negative number it is taken away.
    pub(crate) fn add(&mut self, value: f64, times: i64) {
        if value.is_nan() {
            self.nans += times;
        } else if value.is_infinite() {
            let count = if value > 0.0 { &mut self.infinities } else { &mut self.negative_infinities };
            *count += times;
        } else if times.unsigned_abs() == 1 {
            self.add_once(value, times);
        } else {
            self.add_times(value, times);
        }
    }

    /// Adds all that another sum has.
    pub(crate) fn merge(&mut self, other: &ExactSum) {
        self.nans += other.nans;
        self.infinities += other.infinities;
        self.negative_infinities += other.negative_infinities;
        if other.digits.is_empty() {
            return;
        }
        self.resolve();
        let mut other = other.clone();
        other.resolve();
        self.make_room(other.first, other.digits.len());
        let from = other.first - self.first;
        for (digit, more) in self.digits[from..].iter_mut().zip(&other.digits) {
            *digit += more;
        }
        self.resolve();
    }

    /// The sum, rounded to the nearest float, ties to even.
    pub(crate) fn value(&self) -> f64 {
        self.special().unwrap_or_else(|| self.rounded(0))
    }

    /// The sum divided by `count`, also where the sum itself is no float any more.
    pub(crate) fn mean(&self, count: f64) -> f64 {
        let sum = self.value();
        if sum.is_finite() || self.special().is_some() {
            return sum / count;
        }
        // 2^64 values of the largest float are below this.
        const SCALE: i32 = 64;
        self.rounded(SCALE) / count * 2.0_f64.powi(SCALE)
    }

    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<ExactSum>() + self.digits.capacity() * size_of::<i64>()
    }

    /// As bytes, for [`ExactSum::from_bytes`].
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let head = [self.first as i64, self.nans, self.infinities, self.negative_infinities];
        head.iter().chain(&self.digits).flat_map(|number| number.to_le_bytes()).collect()
    }

    /// The sum that [`ExactSum::to_bytes`] wrote; `None`: these are other bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<ExactSum> {
        let numbers: Vec<i64> = bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
        let [first, nans, infinities, negative_infinities, digits @ ..] = numbers.as_slice() else {
            return None;
        };
        let first = usize::try_from(*first).ok().filter(|first| *first < 128)?;
        Some(ExactSum {
            digits: digits.to_vec(),
            first,
            changes: CHANGES,
            nans: *nans,
            infinities: *infinities,
            negative_infinities: *negative_infinities,
        })
    }

    /// What NaN and infinities make of the sum.
    fn special(&self) -> Option<f64> {
        match (self.nans != 0, self.infinities != 0, self.negative_infinities != 0) {
            (true, _, _) | (_, true, true) => Some(f64::NAN),
            (_, true, _) => Some(f64::INFINITY),
            (_, _, true) => Some(f64::NEG_INFINITY),
            _ => None,
        }
    }

    /// Adds a finite value once (`sign` 1), or takes it away (-1).
    fn add_once(&mut self, value: f64, sign: i64) {
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as usize;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, shift) =
            if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        if mantissa == 0 {
            return;
        }
        if self.changes >= CHANGES {
            self.resolve();
        }
        self.changes += 1;
        let sign = if value < 0.0 { -sign } else { sign };
        let place = shift / DIGIT_BITS;
        // 53 bits at any place within a digit end in the third.
        self.make_room(place, 3);
        let wide = u128::from(mantissa) << (shift % DIGIT_BITS);
        let at = place - self.first;
        for (i, digit) in self.digits[at..at + 3].iter_mut().enumerate() {
            *digit += sign * i64::from((wide >> (DIGIT_BITS * i)) as u32);
        }
    }

    /// Adds a finite value many times.
    fn add_times(&mut self, value: f64, times: i64) {
        let mut left = times.unsigned_abs();
        let mut doubled = ExactSum::default();
        doubled.add_once(value, times.signum());
        // Powers of two of the value, so that a large number of equal rows costs little.
        while left > 0 {
            if left & 1 == 1 {
                self.merge(&doubled);
            }
            left >>= 1;
            let same = doubled.clone();
            doubled.merge(&same);
        }
    }

    /// Makes `count` digits from `place` on exist.
    fn make_room(&mut self, place: usize, count: usize) {
        if self.digits.is_empty() {
            self.first = place;
        }
        if place < self.first {
            self.digits.splice(0..0, std::iter::repeat_n(0, self.first - place));
            self.first = place;
        }
        let end = place + count - self.first;
        if end > self.digits.len() {
            self.digits.resize(end, 0);
        }
    }

    /// Carries what digits have beyond their bits to the next one. Afterwards only the last may be
    /// wider, or negative.
    fn resolve(&mut self) {
        self.changes = 0;
        let mut carry = 0_i64;
        for digit in &mut self.digits {
            let sum = *digit + carry;
            carry = sum >> DIGIT_BITS;
            *digit = sum & 0xffff_ffff;
        }
        if carry != 0 {
            self.digits.push(carry);
        }
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
    }

    /// The sum times 2^-`scale`, rounded.
    fn rounded(&self, scale: i32) -> f64 {
        let mut exact = self.clone();
        exact.resolve();
        let is_negative = exact.digits.last().is_some_and(|digit| *digit < 0);
        if is_negative {
            for digit in &mut exact.digits {
                *digit = -*digit;
            }
            exact.resolve();
        }
        let bit = |i: usize| {
            let digit = (i / DIGIT_BITS).checked_sub(exact.first).and_then(|at| exact.digits.get(at));
            digit.is_some_and(|digit| digit >> (i % DIGIT_BITS) & 1 == 1)
        };
        let Some(last) = exact.digits.last() else { return 0.0 };
        // The last digit may be wider than the others: it is a carry.
        let length = (exact.first + exact.digits.len() - 1) * DIGIT_BITS + last.ilog2() as usize + 1;
        let wide_bit = |i: usize| {
            let top = exact.first + exact.digits.len() - 1;
            if i / DIGIT_BITS >= top { last >> (i - top * DIGIT_BITS) & 1 == 1 } else { bit(i) }
        };
        let cut = length.saturating_sub(53);
        let mut mantissa = (cut..length).rev().fold(0_u64, |sum, i| sum << 1 | u64::from(wide_bit(i)));
        if cut > 0 && wide_bit(cut - 1) {
            let is_tie = !(exact.first * DIGIT_BITS..cut - 1).any(wide_bit);
            if !is_tie || mantissa & 1 == 1 {
                mantissa += 1;
            }
        }
        // Exact: the mantissa has at most 53 bits (or is 2^53). In two steps, as the power alone
        // may be no float.
        let exponent = cut as i32 - 1074 - scale;
        let magnitude = mantissa as f64 * two_to(exponent / 2) * two_to(exponent - exponent / 2);
        if is_negative { -magnitude } else { magnitude }
    }
}

/// A power of two.
fn two_to(exponent: i32) -> f64 {
    2.0_f64.powi(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        for value in values {
            sum.add(*value, 1);
        }
        sum.value()
    }

    /// A sequence of bits without a pattern.
    fn bits(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    #[test]
    fn sums_are_rounded_once() {
        for (values, expected) in [
            (vec![], 0.0),
            (vec![0.1, 0.2, 0.3], 0.6),
            (vec![1e308, 1e308, -1e308], 1e308),
            (vec![1e100, 1.0, -1e100], 1.0),
            (vec![1.0, 2.0_f64.powi(-53)], 1.0),
            (vec![1.0, 2.0_f64.powi(-53), f64::from_bits(1)], 1.0 + f64::EPSILON),
            (vec![1.0 + f64::EPSILON, 2.0_f64.powi(-53)], 1.0 + 2.0 * f64::EPSILON),
            (vec![-1.0, -2.0_f64.powi(-53), -f64::from_bits(1)], -1.0 - f64::EPSILON),
            (vec![f64::MAX, f64::MAX], f64::INFINITY),
            (vec![-f64::MAX, -f64::MAX], f64::NEG_INFINITY),
            (vec![f64::from_bits(1), f64::from_bits(3)], f64::from_bits(4)),
            (vec![f64::from_bits(1), -f64::from_bits(3)], -f64::from_bits(2)),
            (vec![f64::INFINITY, 1.0], f64::INFINITY),
            (vec![-0.0], 0.0),
        ] {
            assert_eq!(sum(&values).to_bits(), expected.to_bits(), "{values:?}");
        }
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan() && sum(&[f64::NAN]).is_nan());
        let mut large = ExactSum::default();
        large.add(1e308, 4);
        assert_eq!(large.mean(4.0), 1e308);
    }

    /// Whole numbers up to 2^53 have an exact sum that can be told without this code.
    #[test]
    fn sums_of_whole_numbers_are_those_of_integers() {
        let mut seed = 7;
        for _ in 0..200 {
            let numbers: Vec<i64> =
                (0..50).map(|_| (bits(&mut seed) >> 12).cast_signed() - (1 << 51)).collect();
            let exact: i128 = numbers.iter().map(|n| i128::from(*n)).sum();
            let floats: Vec<f64> = numbers.iter().map(|n| *n as f64).collect();
            assert_eq!(sum(&floats), exact as f64);
        }
    }

    #[test]
    fn the_order_and_what_was_taken_away_do_not_matter() {
        let mut seed = 3;
        for _ in 0..200 {
            let values: Vec<f64> =
                (0..40).map(|_| f64::from_bits(bits(&mut seed))).filter(|v| v.is_finite()).collect();
            let more: Vec<f64> = (0..40).map(|_| f64::from_bits(bits(&mut seed))).collect();
            let mut backwards: Vec<f64> = values.clone();
            backwards.reverse();
            let expected = sum(&values);
            assert_eq!(sum(&backwards).to_bits(), expected.to_bits());
            let mut churned = ExactSum::default();
            for value in values.iter().chain(&more) {
                churned.add(*value, 1);
            }
            for value in &more {
                churned.add(*value, -1);
            }
            assert_eq!(churned.value().to_bits(), expected.to_bits());
            let mut merged = ExactSum::default();
            for part in values.chunks(7) {
                let mut sum = ExactSum::default();
                for value in part {
                    sum.add(*value, 1);
                }
                merged.merge(&ExactSum::from_bytes(&sum.to_bytes()).expect("its own bytes"));
            }
            assert_eq!(merged.value().to_bits(), expected.to_bits());
            let mut times = ExactSum::default();
            let mut single = ExactSum::default();
            for value in &values {
                times.add(*value, 5);
                for _ in 0..5 {
                    single.add(*value, 1);
                }
            }
            assert_eq!(times.value().to_bits(), single.value().to_bits());
        }
    }
}
