//! Encodings that the log, the head and blocks share.

pub(crate) mod decimal;
pub(crate) mod varint;
