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
    let Some(mut rest) = bytes.strip_prefix(HEADER) else {
        let torn = HEADER.starts_with(bytes);
        found.existed = torn;
        found.damage = (!torn).then(|| "the header is not that of a file of this version".to_owned());
        return found;
    };
    while let Some((prefix, tail)) = rest.split_at_checked(PREFIX) {
        let number =
            |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
        let Some((payload, tail)) = tail.split_at_checked(number(0) as usize) else { break };
        let offset = bytes.len() - rest.len();
        rest = tail;
        let changes =
            (crc32c::crc32c(payload) == number(4)).then(|| codec::decode::<Vec<Change>>(payload).ok());
        match changes.flatten() {
            Some(changes) => apply(&mut found.entries, changes),
            None => found.damage = Some(format!("the frame at byte {offset} is damaged and was skipped")),
        }
    }
    found
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
