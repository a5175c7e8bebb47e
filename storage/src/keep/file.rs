//! The bytes of a kept map: a header, then frames. A frame is a length, a checksum and changes; it counts as a whole.

use super::{Change, Entries, Found};
use crate::codec;
use crate::limits::KEEP_FRAME_BYTES;

/// First bytes of a file, the last of them the version.
pub const HEADER: &[u8; 8] = b"PERKEEP\x01";
/// Length and checksum before the changes of a frame.
const PREFIX: usize = 8;

/// Adds frames with `changes` to `out`; one frame unless they are very many.
pub fn encode(changes: Vec<Change>, out: &mut Vec<u8>) -> Result<(), codec::CodecError> {
    let mut frame = Vec::new();
    let mut bytes = 0;
    for change in changes {
        bytes += change.0.len() + change.1.as_ref().map_or(0, Vec::len) + 32;
        frame.push(change);
        if bytes > KEEP_FRAME_BYTES {
            put_frame(&std::mem::take(&mut frame), out)?;
            bytes = 0;
        }
    }
    if frame.is_empty() { Ok(()) } else { put_frame(&frame, out) }
}

fn put_frame(changes: &[Change], out: &mut Vec<u8>) -> Result<(), codec::CodecError> {
    let payload = codec::encode(&changes)?;
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
    Ok(())
}

/// Reads a whole file. The frame that was being written when the process died is no damage.
pub fn decode(bytes: &[u8]) -> Found {
    let mut found = Found { existed: true, ..Found::default() };
    if !bytes.starts_with(HEADER) {
        let torn = HEADER.starts_with(bytes);
        found.existed = torn;
        found.damage = (!torn).then(|| "the header is not that of a file of this version".to_owned());
        return found;
    }
    let damage = |at: usize| Some(format!("the frame at byte {at} is damaged and was skipped"));
    let mut at = HEADER.len();
    while let Some((start, end, changes)) = next_frame(bytes, at) {
        if start > at {
            found.damage = damage(at);
        }
        apply(&mut found.entries, changes);
        at = end;
    }
    // What was being written is shorter than it says.
    if payload(bytes, at).is_some() {
        found.damage = damage(at);
    }
    found
}

/// The first good frame from `at` on: where it begins and ends, and its changes. A frame's length may be what is damaged:
/// it does not tell where the next one begins.
fn next_frame(bytes: &[u8], at: usize) -> Option<(usize, usize, Vec<Change>)> {
    (at..bytes.len()).find_map(|start| {
        let (payload, checksum) = payload(bytes, start)?;
        // Decoded first: where no frame begins this ends after some bytes, and a checksum would read megabytes.
        let changes = codec::decode(payload).ok()?;
        (crc32c::crc32c(payload) == checksum).then_some((start, start + PREFIX + payload.len(), changes))
    })
}

/// The payload of the frame at `at` and its checksum, if the file is as long as the frame says.
fn payload(bytes: &[u8], at: usize) -> Option<(&[u8], u32)> {
    let (prefix, rest) = bytes.get(at..)?.split_at_checked(PREFIX)?;
    let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
    Some((rest.get(..number(0) as usize)?, number(4)))
}

/// Makes `changes` in `entries`.
pub fn apply(entries: &mut Entries, changes: Vec<Change>) {
    for (key, value) in changes {
        match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
    }
}
