//! The only user of bincode: encodes and decodes control records and messages between processes.
//!
//! bincode 1.3 is the version that timely serialises with; its upstream considers it complete.
//! Sample records have a hand-specified layout (`docs/format/wal.md`) and do not use it, so that
//! their formats do not depend on the crate.

use bincode::Options;
use serde::{Deserialize, Serialize};

/// A record that could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[error("codec: {0}")]
pub struct CodecError(String);

fn options(limit: usize) -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(limit as u64)
}

/// Encodes a control record.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    encode_within(crate::limits::WAL_RECORD_BYTES, value)
}

/// Decodes a control record; trailing bytes are an error.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    decode_within(crate::limits::WAL_RECORD_BYTES, bytes)
}

/// Encodes a message between processes, of at most `limit` bytes.
pub fn encode_within<T: Serialize>(limit: usize, value: &T) -> Result<Vec<u8>, CodecError> {
    options(limit).serialize(value).map_err(|e| CodecError(e.to_string()))
}

/// Decodes a message between processes; trailing bytes are an error.
pub fn decode_within<'a, T: Deserialize<'a>>(limit: usize, bytes: &'a [u8]) -> Result<T, CodecError> {
    options(limit).deserialize(bytes).map_err(|e| CodecError(e.to_string()))
}
