//! Reads a stream of bits with the number encodings of Prometheus' chunks (Gorilla). [`super::xor`]
//! and [`super::histogram`] decode chunks with it.

/// Reads bits, the highest of each byte first. Returns `None` past the end.
#[derive(Clone, Copy, Debug)]
pub struct TsdbBitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Widths of a number in bits, by the number of ones before the first zero.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

impl<'a> TsdbBitReader<'a> {
    /// A reader at the first bit.
    pub fn new(bytes: &'a [u8]) -> TsdbBitReader<'a> {
        TsdbBitReader { bytes, at: 0 }
    }

    /// The next bit.
    pub fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// The next `n` bits, at most 64, as the low bits of a number.
    pub fn bits(&mut self, n: u32) -> Option<u64> {
        let mut value = 0u64;
        let mut left = n;
        while left > 0 {
            let byte = u64::from(*self.bytes.get(self.at / 8)?);
            let free = 8 - (self.at % 8) as u32;
            let here = left.min(8 - (self.at % 8) as u32);
            value = value << here | byte >> (free - here) & ((1 << here) - 1);
            self.at += here as usize;
            left -= here;
        }
        Some(value)
    }

    /// The next 64 bits as a double.
    pub fn double(&mut self) -> Option<f64> {
        self.bits(64).map(f64::from_bits)
    }

    /// An unsigned integer, byte by byte, as Go's `binary.Uvarint`.
    pub fn uvarint(&mut self) -> Option<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bits(8)?;
            n |= (byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    /// A signed integer: as [`TsdbBitReader::uvarint`], with the sign in the lowest bit.
    pub fn varint(&mut self) -> Option<i64> {
        self.uvarint().map(crate::protobuf::zigzag)
    }

    /// The number of ones before the first zero, at most `most`; after `most` ones no zero follows.
    pub fn ones(&mut self, most: u32) -> Option<u32> {
        let mut n = 0;
        while n < most && self.bit()? {
            n += 1;
        }
        Some(n)
    }

    /// The next `n` bits as a signed integer: from `-(2^(n-1) - 1)` to `2^(n-1)`.
    pub fn signed(&mut self, n: u32) -> Option<i64> {
        let bits = self.bits(n)?;
        // Prometheus' form, which is not two's complement: the largest positive number is
        // `2^(n-1)`, so the same bits mean another number.
        let beyond = n < 64 && n > 0 && bits > 1 << (n - 1);
        Some(if beyond { (bits as i64).wrapping_sub(1 << n) } else { bits as i64 })
    }

    /// A signed integer in one of nine widths.
    pub fn varbit(&mut self) -> Option<i64> {
        let width = WIDTHS[self.ones(8)? as usize];
        self.signed(width)
    }

    /// An unsigned integer in one of nine widths.
    pub fn varbit_unsigned(&mut self) -> Option<u64> {
        let width = WIDTHS[self.ones(8)? as usize];
        self.bits(width)
    }
}

/// Decodes a column of doubles, each encoded as its XOR with the one before.
#[derive(Clone, Copy, Debug, Default)]
pub struct TsdbXorDecoder {
    /// The value before.
    pub value: f64,
    leading: u32,
    trailing: u32,
}

impl TsdbXorDecoder {
    /// A column with the first value `value`.
    pub fn begin(value: f64) -> TsdbXorDecoder {
        TsdbXorDecoder { value, ..TsdbXorDecoder::default() }
    }

    /// The next value.
    pub fn next(&mut self, bits: &mut TsdbBitReader<'_>) -> Option<f64> {
        if !bits.bit()? {
            return Some(self.value);
        }
        // New significant bits; otherwise those of the value before are used again.
        if bits.bit()? {
            self.leading = bits.bits(5)? as u32;
            // 64 does not fit into six bits, so 0, which is impossible, stands for it.
            let width = match bits.bits(6)? as u32 {
                0 => 64,
                n => n,
            };
            self.trailing = 64u32.checked_sub(self.leading + width)?;
        }
        let changed = bits.bits(64 - self.leading - self.trailing)? << self.trailing;
        self.value = f64::from_bits(self.value.to_bits() ^ changed);
        Some(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_cross_bytes_and_end() {
        let mut bits = TsdbBitReader::new(&[0b1010_0101, 0xFF]);
        assert_eq!((bits.bits(3), bits.bits(7), bits.bit()), (Some(0b101), Some(0b001_0111), Some(true)));
        assert_eq!((bits.bits(5), bits.bit(), bits.bits(1)), (Some(31), None, None));
        assert_eq!(TsdbBitReader::new(&[0; 8]).bits(64), Some(0));
        assert_eq!(TsdbBitReader::new(&[0xFF; 9]).bits(64), Some(u64::MAX));
    }

    #[test]
    fn widths_and_signs() {
        // 10 + 100: four; 10 + 101: minus three; 0: zero.
        assert_eq!(TsdbBitReader::new(&[0b1010_0000]).varbit(), Some(4));
        assert_eq!(TsdbBitReader::new(&[0b1010_1000]).varbit(), Some(-3));
        assert_eq!(TsdbBitReader::new(&[0]).varbit(), Some(0));
        assert_eq!(TsdbBitReader::new(&[0b1011_1000]).varbit_unsigned(), Some(7));
        let mut widest = [0xFF; 9];
        widest[8] = 0xFE;
        assert_eq!(TsdbBitReader::new(&widest).varbit(), Some(-2));
    }
}
