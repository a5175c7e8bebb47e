//! Decompresses complete bodies. Bodies of scrapes are decompressed piece by piece instead
//! ([`crate::scrape::body`]).
//!
//! The declared size is not trusted: a snappy header that declares more than the limit is refused
//! before anything is allocated.

use std::io::Read;

/// Why bytes could not be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The content is larger than allowed.
    #[error("decompressed size exceeds the limit of {0} bytes")]
    TooLarge(usize),
    /// The stream is damaged.
    #[error("cannot decompress {format}: {reason}")]
    Damaged {
        /// gzip, snappy or zstd.
        format: &'static str,
        /// The error of the decoder.
        reason: String,
    },
}

/// A snappy block cannot be larger than this many times its compressed size: a copy of 64 bytes
/// takes three.
const SNAPPY_EXPANSION: usize = 22;

fn damaged_snappy(error: snap::Error) -> DecompressError {
    DecompressError::Damaged { format: "snappy", reason: error.to_string() }
}

/// The declared size of a snappy block, which may be used to reserve memory.
///
/// # Errors
/// The size is more than `limit`, or more than a block of this compressed size can contain.
pub fn snappy_length(compressed: &[u8], limit: usize) -> Result<usize, DecompressError> {
    // The header is four bytes that anybody can write. Two checks before memory is reserved: more
    // than any block of this size can expand to, and more than is allowed.
    let declared = snap::raw::decompress_len(compressed).map_err(damaged_snappy)?;
    if declared > compressed.len() * SNAPPY_EXPANSION {
        let reason = format!("{} bytes cannot be {declared} compressed ones", compressed.len());
        return Err(DecompressError::Damaged { format: "snappy", reason });
    }
    if declared > limit {
        return Err(DecompressError::TooLarge(limit));
    }
    Ok(declared)
}

/// Decompresses a snappy block of at most `limit` bytes.
pub fn unsnappy(compressed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    snappy_length(compressed, limit)?;
    snap::raw::Decoder::new().decompress_vec(compressed).map_err(damaged_snappy)
}

fn damaged_gzip(reason: impl std::fmt::Display) -> DecompressError {
    DecompressError::Damaged { format: "gzip", reason: reason.to_string() }
}

/// The size that the end of a gzip stream declares, which may be used to reserve memory.
///
/// # Errors
/// The size is more than `limit`.
pub fn gzip_length(compressed: &[u8], limit: usize) -> Result<usize, DecompressError> {
    let declared = compressed.last_chunk().ok_or_else(|| damaged_gzip("unexpected end of file"))?;
    let declared = u32::from_le_bytes(*declared) as usize;
    if declared > limit { Err(DecompressError::TooLarge(limit)) } else { Ok(declared) }
}

/// Decompresses a gzip stream of at most `limit` bytes.
pub fn gunzip(compressed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let declared = gzip_length(compressed, limit)?;
    let mut content = Vec::new();
    // Never more than is declared: that is what callers reserve memory for. The decoder compares
    // the two at the end, so of several streams in a row only one of this size is accepted.
    let reader = flate2::read::MultiGzDecoder::new(compressed);
    reader.take(declared as u64 + 1).read_to_end(&mut content).map_err(damaged_gzip)?;
    if content.len() != declared {
        return Err(damaged_gzip("the declared size is wrong, or there are several streams"));
    }
    Ok(content)
}

/// Decompresses zstd of at most `limit` bytes.
pub fn unzstd(compressed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let damaged =
        |error: std::io::Error| DecompressError::Damaged { format: "zstd", reason: error.to_string() };
    let decoder = zstd::Decoder::with_buffer(compressed).map_err(damaged)?;
    let mut content = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut content).map_err(damaged)?;
    if content.len() > limit { Err(DecompressError::TooLarge(limit)) } else { Ok(content) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn gzip_is_never_more_than_it_declares() {
        let packed = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let body = packed(&[7; 5000]);
        assert_eq!(gunzip(&body, 5000).unwrap(), vec![7; 5000]);
        assert_eq!(gunzip(&body, 4999), Err(DecompressError::TooLarge(4999)));
        assert_eq!(gunzip(&packed(b""), 0).unwrap(), b"");
        let mut lies = body.clone();
        let size = lies.len() - 4;
        lies[size..].copy_from_slice(&10u32.to_le_bytes());
        let two = [packed(b"a"), packed(b"bc")].concat();
        for damaged in [&b""[..], b"abc", b"not gzip at all", &lies, &two, &body[..20], &body[1..]] {
            let error = gunzip(damaged, 1 << 30).unwrap_err();
            assert!(
                matches!(error, DecompressError::Damaged { .. } | DecompressError::TooLarge(_)),
                "{error}"
            );
        }
    }

    #[test]
    fn snappy_that_promises_too_much_is_refused_unread() {
        let packed = snap::raw::Encoder::new().compress_vec(&[7; 5000]).unwrap();
        assert_eq!(unsnappy(&packed, 4999), Err(DecompressError::TooLarge(4999)));
        assert_eq!(unsnappy(&packed, 5000).unwrap(), vec![7; 5000]);
        assert!(unsnappy(&[0xff, 0xff, 0xff, 0xff, 0x0f], 1 << 20).is_err());
        // A declared length of 1 MiB without content is refused.
        let error = snappy_length(&[0x80, 0x80, 0x40, 0], 1 << 20).unwrap_err();
        assert!(matches!(error, DecompressError::Damaged { .. }), "{error}");
        for bytes in [vec![0; 1 << 20], (0..1 << 20).map(|i| (i % 64) as u8).collect(), Vec::new()] {
            let packed = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
            assert_eq!(snappy_length(&packed, 1 << 20), Ok(bytes.len()));
        }
    }

    #[test]
    fn twice_the_bytes_cost_at_most_a_little_more_than_twice() {
        let random =
            |n: usize| (0..n as u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect::<Vec<u8>>();
        let packed = |bytes: Vec<u8>| snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
        let unpack = |packed: &Vec<u8>| unsnappy(packed, usize::MAX).unwrap().len();
        testing::assert_proportional("bytes", 1 << 20, |n| packed(random(n)), unpack);
        testing::assert_proportional("equal bytes", 1 << 20, |n| packed(vec![7; n]), unpack);
    }
}
