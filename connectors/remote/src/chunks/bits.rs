//! [`BitWriter`]: writes a stream of bits, the highest bit of each byte first, with the number
//! encodings of Prometheus' chunks. `connectors::import::prometheus` has the reader.

/// The widths of numbers, bits. A number begins with as many ones as the index of its width, and a
/// zero.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// Writes bits.
#[derive(Clone, Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are used; 0: all.
    used: u32,
}

impl BitWriter {
    /// Writes after these bytes.
    pub(super) fn after(bytes: &[u8]) -> BitWriter {
        BitWriter { bytes: bytes.to_vec(), used: 0 }
    }

    /// Appends the low `n` bits of a number.
    pub(super) fn bits(&mut self, value: u64, n: u32) {
        let mut left = n;
        while left > 0 {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let free = 8 - self.used;
            let here = left.min(free);
            let part = (value >> (left - here)) & ((1 << here) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << (free - here)) as u8;
            }
            self.used = (self.used + here) % 8;
            left -= here;
        }
    }

    /// Appends a bit.
    pub(super) fn bit(&mut self, is_set: bool) {
        self.bits(u64::from(is_set), 1);
    }

    /// Appends a double.
    pub(super) fn double(&mut self, v: f64) {
        self.bits(v.to_bits(), 64);
    }

    /// Appends an unsigned number, byte by byte.
    pub(super) fn uvarint(&mut self, mut n: u64) {
        while n > 127 {
            self.bits(n & 127 | 128, 8);
            n >>= 7;
        }
        self.bits(n, 8);
    }

    /// Appends a signed number, byte by byte.
    pub(super) fn varint(&mut self, n: i64) {
        self.uvarint(((n << 1) ^ (n >> 63)) as u64);
    }

    /// Appends a signed number in as many bits as it needs.
    pub(super) fn varbit(&mut self, n: i64) {
        // `n` bits hold from `-(2^(n-1) - 1)` to `2^(n-1)`.
        let fits = |width: u32| match width {
            0 => n == 0,
            64 => true,
            _ => (-((1i64 << (width - 1)) - 1)..=1i64 << (width - 1)).contains(&n),
        };
        self.prefixed(n as u64, fits);
    }

    /// Appends an unsigned number in as many bits as it needs.
    pub(super) fn varbit_unsigned(&mut self, n: u64) {
        let fits = |width: u32| width == 64 || n < 1 << width;
        self.prefixed(n, fits);
    }

    /// Appends a number in the first of [`WIDTHS`] that `fits`.
    fn prefixed(&mut self, n: u64, fits: impl Fn(u32) -> bool) {
        let at = WIDTHS.iter().position(|width| fits(*width)).unwrap_or(WIDTHS.len() - 1);
        let ones = at as u32;
        self.bits((1 << ones) - 1, ones);
        // The widest has no zero after its ones.
        if at + 1 < WIDTHS.len() {
            self.bit(false);
        }
        self.bits(n, WIDTHS[at]);
    }

    /// The bytes; the last is filled with zeros.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A column of doubles: each is the XOR with the one before.
#[derive(Clone, Debug)]
pub(super) struct XorColumn {
    before: u64,
    /// The window that was written last; `None`: there is none yet.
    window: Option<XorWindow>,
}

/// The bits of a XOR that are written: those between the zeros at both ends.
#[derive(Copy, Clone, Debug)]
struct XorWindow {
    leading: u32,
    trailing: u32,
}

impl XorColumn {
    /// A column that begins with `v`, which the caller writes.
    pub(super) fn begin(v: f64) -> XorColumn {
        XorColumn { before: v.to_bits(), window: None }
    }

    /// Appends the next value.
    pub(super) fn append(&mut self, out: &mut BitWriter, v: f64) {
        let change = v.to_bits() ^ self.before;
        self.before = v.to_bits();
        if change == 0 {
            out.bit(false);
            return;
        }
        out.bit(true);
        let leading = change.leading_zeros().min(31);
        let trailing = change.trailing_zeros();
        if let Some(window) = self.window
            && leading >= window.leading
            && trailing >= window.trailing
        {
            out.bit(false);
            out.bits(change >> window.trailing, 64 - window.leading - window.trailing);
            return;
        }
        self.window = Some(XorWindow { leading, trailing });
        let width = 64 - leading - trailing;
        out.bit(true);
        out.bits(u64::from(leading), 5);
        // 64 does not fit and becomes 0.
        out.bits(u64::from(width), 6);
        out.bits(change >> trailing, width);
    }
}
