//! Reads numbers in Prometheus' block files: big-endian, or varints as in Go's `encoding/binary`;
//! and checks checksums.

/// Reads a slice from front to back. Returns `None` past the end.
#[derive(Clone, Copy, Debug)]
pub struct TsdbByteReader<'a> {
    bytes: &'a [u8],
}

impl<'a> TsdbByteReader<'a> {
    /// A reader at the first byte.
    pub fn new(bytes: &'a [u8]) -> TsdbByteReader<'a> {
        TsdbByteReader { bytes }
    }

    /// Number of bytes left.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(n)?;
        self.bytes = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk::<N>().copied()
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// An unsigned integer: seven bits per byte, the low ones first; the high bit means that more
    /// bytes follow.
    pub fn uvarint(&mut self) -> Option<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7F);
            // The tenth byte has room for one bit. Go reports an overflow here; to drop the bits
            // would give another number.
            if shift == 63 && part > 1 {
                return None;
            }
            n |= part << shift;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    /// A signed integer: as [`TsdbByteReader::uvarint`], with the sign in the lowest bit.
    pub fn varint(&mut self) -> Option<i64> {
        self.uvarint().map(crate::protobuf::zigzag)
    }

    /// As [`TsdbByteReader::uvarint`], for a length or count.
    pub fn size(&mut self) -> Option<usize> {
        self.uvarint().and_then(|n| usize::try_from(n).ok())
    }

    /// A length, and that many bytes of text.
    pub fn text(&mut self) -> Option<&'a str> {
        let n = self.size()?;
        std::str::from_utf8(self.take(n)?).ok()
    }
}

/// Whether `crc` is the CRC32C of `body`.
pub fn sealed(body: &[u8], crc: Option<u32>) -> bool {
    crc == Some(crc32c::crc32c(body))
}
