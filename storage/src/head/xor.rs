//! XOR coding of float columns, bit for bit lossless (the scheme of Facebook's Gorilla paper).
//!
//! Each value is XORed with the one before it, the first with zero. An equal value costs one bit.
//! Otherwise the meaningful bits are stored, either with the previous number of leading and
//! trailing zeros or with a new one. The bytes live only in memory and are written and read by this
//! file only, so a reader past the end sees zero bits instead of an error.

/// Appends bits to a byte vector, most significant bit first.
struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    acc: u64,
    free: u32,
}

impl BitWriter<'_> {
    /// Appends the `count` (1..=64) low bits of `bits`.
    #[inline]
    fn put(&mut self, bits: u64, count: u32) {
        let bits = if count == 64 { bits } else { bits & ((1 << count) - 1) };
        if count < self.free {
            self.free -= count;
            self.acc |= bits << self.free;
            return;
        }
        // The word is full: what does not fit begins the next one.
        let rest = count - self.free;
        let full = self.acc | bits.checked_shr(rest).unwrap_or(0);
        self.bytes.extend_from_slice(&full.to_be_bytes());
        self.free = 64 - rest;
        self.acc = if rest == 0 { 0 } else { bits << self.free };
    }

    fn finish(self) {
        let used = (64 - self.free).div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.acc.to_be_bytes()[..used]);
    }
}

/// Reads what [`BitWriter`] wrote. Each read loads a whole word, so the position is its only state.
struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    at: usize,
}

/// Bits that [`BitReader::peek`] returns at least: 64 minus up to 7 bits of the first byte.
const PEEKED: u32 = 57;

impl BitReader<'_> {
    /// The next bits, the first one highest. At least [`PEEKED`] of them are valid.
    #[inline]
    fn peek(&self) -> u64 {
        let byte = self.at / 8;
        let word = match self.bytes.get(byte..byte + 8).and_then(|b| b.first_chunk::<8>()) {
            Some(word) => u64::from_be_bytes(*word),
            None => self.tail(byte),
        };
        word << (self.at % 8)
    }

    /// The last bytes, followed by zeros.
    #[cold]
    fn tail(&self, byte: usize) -> u64 {
        let mut word = [0; 8];
        let tail = self.bytes.get(byte..).unwrap_or(&[]);
        word[..tail.len()].copy_from_slice(tail);
        u64::from_be_bytes(word)
    }

    /// The next `count` (1..=64) bits.
    #[inline]
    fn take(&mut self, count: u32) -> u64 {
        if count < PEEKED {
            let bits = self.peek() >> (64 - count);
            self.at += count as usize;
            return bits;
        }
        // More bits than one `peek` has: read in two halves.
        let high = self.take(count - 32);
        (high << 32) | self.take(32)
    }
}

/// Appends the compressed form of `values` (bit patterns) to `bytes`. Returns false if it is not
/// shorter than `most` bytes; what was appended is then useless.
pub(super) fn encode(values: impl Iterator<Item = u64>, most: usize, bytes: &mut Vec<u8>) -> bool {
    let end = bytes.len().saturating_add(most);
    let mut out = BitWriter { bytes, acc: 0, free: 64 };
    let mut previous = 0u64;
    let mut leading = 0u32;
    let mut length = 0u32;
    for value in values {
        let x = value ^ previous;
        previous = value;
        if x == 0 {
            out.put(0, 1);
            continue;
        }
        // Five bits for it. More zeros than 31 are stored as data: rare, and correct.
        let lead = x.leading_zeros().min(31);
        let trail = x.trailing_zeros();
        let old_trail = 64 - leading - length;
        // The significant bits fit into the window of the value before, so it need not be described
        // again.
        if length > 0 && lead >= leading && trail >= old_trail {
            out.put(0b10, 2);
            out.put(x >> old_trail, length);
        } else {
            // Checked where a value costs most: a column of random bits ends early, instead of
            // after all values.
            if out.bytes.len() >= end {
                return false;
            }
            leading = lead;
            length = 64 - lead - trail;
            out.put(0b11 << 11 | u64::from(leading) << 6 | u64::from(length - 1), 13);
            out.put(x >> trail, length);
        }
    }
    out.finish();
    bytes.len() < end
}

/// Calls `take(index, bits)` for the first `count` values that [`encode`] wrote.
#[inline]
pub(super) fn decode(bytes: &[u8], count: usize, mut take: impl FnMut(usize, u64)) {
    let mut from = BitReader { bytes, at: 0 };
    let mut value = 0u64;
    let mut leading = 0u32;
    let mut length = 1u32;
    for i in 0..count {
        let word = from.peek();
        if word >> 63 == 0 {
            from.at += 1;
        } else {
            let mut control = 2;
            if word >> 62 == 0b11 {
                leading = (word >> 57) as u32 & 31;
                length = ((word >> 51) as u32 & 63) + 1;
                length = length.min(64 - leading);
                control = 13;
            }
            from.at += control as usize;
            let bits = if control + length <= PEEKED {
                from.at += length as usize;
                word << control >> (64 - length)
            } else {
                from.take(length)
            };
            value ^= bits << (64 - leading - length);
        }
        take(i, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::{ABSENT_BITS, STALE_BITS};
    use proptest::prelude::*;

    fn round_trip(values: &[u64]) {
        let mut bytes = vec![7];
        assert!(encode(values.iter().copied(), usize::MAX, &mut bytes));
        let len = bytes.len() - 1;
        assert!(!encode(values.iter().copied(), len, &mut bytes.clone()));
        assert!(encode(values.iter().copied(), len + 1, &mut bytes.clone()));
        let mut back = Vec::new();
        decode(&bytes[1..], values.len(), |i, v| {
            assert_eq!(i, back.len());
            back.push(v);
        });
        assert_eq!(back, values);
    }

    /// Bit patterns of every class: zeros, infinities, NaN payloads, markers, subnormals, integers,
    /// random.
    fn pattern() -> impl Strategy<Value = u64> {
        prop_oneof![
            Just(0f64.to_bits()),
            Just((-0f64).to_bits()),
            Just(f64::INFINITY.to_bits()),
            Just(f64::NEG_INFINITY.to_bits()),
            Just(STALE_BITS),
            Just(ABSENT_BITS),
            (0u64..1 << 52).prop_map(|payload| 0x7ff0_0000_0000_0000 | payload),
            (0u64..1 << 20),
            (-1_000_000i64..1_000_000).prop_map(|i| (i as f64).to_bits()),
            any::<u64>(),
        ]
    }

    proptest! {
        #[test]
        fn any_bits_round_trip(values in proptest::collection::vec(pattern(), 0..200)) {
            round_trip(&values);
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            decode(&bytes, 130, |_, _| ());
        }
    }

    #[test]
    fn a_still_column_costs_a_bit_per_value() {
        let mut bytes = Vec::new();
        assert!(encode(std::iter::repeat_n(1.5f64.to_bits(), 64), usize::MAX, &mut bytes));
        assert!(bytes.len() <= 12, "{}", bytes.len());
    }
}
