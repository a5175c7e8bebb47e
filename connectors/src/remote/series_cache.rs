//! Remembers which series the label bytes of a remote-write request mean.
//!
//! A sender encodes the same labels in the same bytes every time, so a known series costs one hash and one
//! comparison: with the labels themselves, which the store has anyway, if the bytes spell them the usual way. The map is
//! cut into pieces with a lock each; when a piece is full it starts anew.

use crate::limits;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use storage::model::{Labels, SeriesRef};

const PIECES: usize = 16;

/// Keys are hashes already.
#[derive(Default)]
struct HashedKey(u64);

impl Hasher for HashedKey {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64(bytes);
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

type Piece = HashMap<u64, (Known, SeriesRef), BuildHasherDefault<HashedKey>>;

/// The bytes of a series.
enum Known {
    /// Those of [`spells`].
    Usual(Labels),
    /// Others.
    Bytes(Box<[u8]>),
}

impl Known {
    fn is(&self, bytes: &[u8]) -> bool {
        match self {
            Known::Usual(labels) => spells(bytes, labels),
            Known::Bytes(known) => known.as_ref() == bytes,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct LabelBytesCache {
    pieces: [Mutex<Piece>; PIECES],
}

impl LabelBytesCache {
    /// The series that these bytes mean; `make` says so the first time (`None`: they are no series), and what labels it
    /// has.
    pub fn get<E>(
        &self,
        bytes: &[u8],
        make: impl FnOnce() -> Result<Option<(SeriesRef, Labels)>, E>,
    ) -> Result<Option<SeriesRef>, E> {
        let hash = xxhash_rust::xxh3::xxh3_64(bytes);
        let piece = &self.pieces[(hash >> 60) as usize % PIECES];
        if let Some((known, series)) = piece.lock().get(&hash)
            && known.is(bytes)
        {
            return Ok(Some(*series));
        }
        let Some((series, labels)) = make()? else { return Ok(None) };
        let known = if spells(bytes, &labels) { Known::Usual(labels) } else { Known::Bytes(bytes.into()) };
        let mut piece = piece.lock();
        if piece.len() >= limits::REMOTE_WRITE_SERIES / PIECES {
            piece.clear();
        }
        piece.insert(hash, (known, series));
        Ok(Some(series))
    }
}

/// Whether `bytes` are the labels as senders of remote write 1.0 write them: a field 1 each, in order, in it the name
/// (1) and the value (2). A name and a value with their lengths are the same bytes in [`Labels::encoded`].
fn spells(bytes: &[u8], labels: &Labels) -> bool {
    let (mut bytes, mut encoded) = (bytes, labels.encoded());
    while !encoded.is_empty() {
        let (Some(name), Some(value)) = (take(&mut encoded), take(&mut encoded)) else { return false };
        let rest = bytes.strip_prefix(b"\x0a").and_then(|rest| {
            let (len, digits) = varint(rest)?;
            let rest = rest.get(digits..).filter(|_| len == name.len() + value.len() + 2)?;
            rest.strip_prefix(b"\x0a")?.strip_prefix(name)?.strip_prefix(b"\x12")?.strip_prefix(value)
        });
        let Some(rest) = rest else { return false };
        bytes = rest;
    }
    bytes.is_empty()
}

/// The next text of encoded labels, its length included.
fn take<'a>(encoded: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, digits) = varint(encoded)?;
    let (text, rest) = encoded.split_at_checked(digits.checked_add(len)?)?;
    *encoded = rest;
    Some(text)
}

/// A LEB128 number at the begin of `bytes`, and how many it has.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut number = 0;
    for (i, byte) in bytes.iter().enumerate().take(4) {
        number |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((number, i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
        out.push(tag);
        let mut len = bytes.len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend_from_slice(bytes);
    }

    fn field(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in pairs {
            let mut label = Vec::new();
            put(&mut label, 0x0a, name.as_bytes());
            put(&mut label, 0x12, value.as_bytes());
            put(&mut out, 0x0a, &label);
        }
        out
    }

    #[test]
    fn only_the_very_bytes_are_the_series() {
        let long = "x".repeat(300);
        let pairs = [("__name__", "up"), ("a", "1"), ("b", long.as_str())];
        let labels = Labels::from_pairs(pairs);
        let bytes = field(&pairs);
        assert!(spells(&bytes, &labels));
        assert!(!spells(&field(&[pairs[1], pairs[0], pairs[2]]), &labels), "another order");
        assert!(!spells(&field(&pairs[..2]), &labels) && !spells(&[], &labels));
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(!spells(&other, &labels), "byte {at}");
            assert!(!spells(&bytes[..at], &labels));
        }
        let (cache, series) = (LabelBytesCache::default(), SeriesRef { shard: 3, slot: 4 });
        let ask = |bytes: &[u8], known: bool| {
            let answer = cache.get(bytes, || match known {
                true => Err("it is asked for again"),
                false => Ok(Some((series, labels.clone()))),
            });
            assert_eq!(answer, Ok(Some(series)));
        };
        for bytes in [bytes, b"another spelling".to_vec()] {
            ask(&bytes, false);
            ask(&bytes, true);
        }
    }
}
