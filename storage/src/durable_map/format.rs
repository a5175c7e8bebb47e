//! The file format of a durable map: a header, then frames. A frame has a length, a checksum and
//! changes; it is applied completely or not at all.

use super::{LoadedMap, MapChange, MapEntries};
use crate::codec;
use crate::limits::DURABLE_MAP_FRAME_BYTES;

/// The first bytes of a file; the last of them is the version.
pub(super) const HEADER: &[u8; 8] = b"PERKEEP\x01";
/// Bytes before the changes of a frame: length and checksum.
const PREFIX: usize = 8;

/// Appends frames with `changes` to `out`: one frame, unless the changes are very many.
pub(super) fn encode(changes: Vec<MapChange>, out: &mut Vec<u8>) -> Result<(), codec::CodecError> {
    let mut frame = Vec::new();
    let mut bytes = 0;
    for change in changes {
        bytes += change.0.len() + change.1.as_ref().map_or(0, Vec::len) + 32;
        frame.push(change);
        if bytes > DURABLE_MAP_FRAME_BYTES {
            put_frame(&std::mem::take(&mut frame), out)?;
            bytes = 0;
        }
    }
    if frame.is_empty() { Ok(()) } else { put_frame(&frame, out) }
}

fn put_frame(changes: &[MapChange], out: &mut Vec<u8>) -> Result<(), codec::CodecError> {
    let payload = codec::encode(&changes)?;
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
    Ok(())
}

/// Decodes a whole file. An incomplete last frame, which a crash leaves, is not damage.
pub(super) fn decode(bytes: &[u8]) -> LoadedMap {
    let mut found = LoadedMap { existed: true, ..LoadedMap::default() };
    if !bytes.starts_with(HEADER) {
        let torn = HEADER.starts_with(bytes);
        found.existed = torn;
        found.damage = (!torn).then(|| "the header is not that of a file of this version".to_owned());
        return found;
    }
    let damage = |at: usize| Some(format!("the frame at byte {at} is damaged and was skipped"));
    let mut at = HEADER.len();
    let mut checksums = None;
    while let Some((start, end, changes)) = next_frame(bytes, at, &mut checksums) {
        if start > at {
            found.damage = damage(at);
        }
        apply(&mut found.entries, changes);
        at = end;
    }
    // An incomplete frame is shorter than its length says, so there is no payload; a complete one
    // here is damaged.
    if payload(bytes, at).is_some() {
        found.damage = damage(at);
    }
    found
}

/// The first valid frame from `at` on: its beginning, its end, and its changes. Every byte may
/// begin a frame, because a damaged length does not tell where the next one is.
fn next_frame(
    bytes: &[u8],
    at: usize,
    checksums: &mut Option<Checksums>,
) -> Option<(usize, usize, Vec<MapChange>)> {
    let frame = |start: usize| {
        let (payload, checksum) = payload(bytes, start)?;
        let good = crc32c::crc32c(payload) == checksum;
        let changes = codec::decode(payload).ok().filter(|_| good)?;
        Some((start, start + PREFIX + payload.len(), changes))
    };
    if let Some(here) = frame(at) {
        return Some(here);
    }
    let checksums = checksums.get_or_insert_with(|| Checksums::compute(bytes));
    let fits = |start: &usize| {
        payload(bytes, *start).is_some_and(|(payload, checksum)| {
            let begin = start + PREFIX;
            checksums.between(begin, begin + payload.len()) == checksum
        })
    };
    (at + 1..bytes.len()).filter(fits).find_map(frame)
}

/// The checksums of all prefixes of a file, from which the checksum of any range follows. So
/// testing every byte as the beginning of a frame does not read the frame each time.
struct Checksums(Vec<u32>);

impl Checksums {
    fn compute(bytes: &[u8]) -> Checksums {
        let next = |before: &mut u32, byte: &u8| {
            *before = crc32c::crc32c_append(*before, std::slice::from_ref(byte));
            Some(*before)
        };
        Checksums(std::iter::once(0).chain(bytes.iter().scan(0, next)).collect())
    }

    fn between(&self, begin: usize, end: usize) -> u32 {
        self.0[end] ^ crc32c::crc32c_combine(self.0[begin], 0, end - begin)
    }
}

/// The payload of the frame at `at` and its checksum. `None` if the file is shorter than the frame
/// says.
fn payload(bytes: &[u8], at: usize) -> Option<(&[u8], u32)> {
    let (prefix, rest) = bytes.get(at..)?.split_at_checked(PREFIX)?;
    let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
    Some((rest.get(..number(0) as usize)?, number(4)))
}

/// Applies `changes` to `entries`.
pub(super) fn apply(entries: &mut MapEntries, changes: Vec<MapChange>) {
    for (key, value) in changes {
        match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
    }
}
