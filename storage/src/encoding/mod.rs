//! Encodings that the log, the head and blocks share: integers of variable length, and decimals as
//! integers. They know nothing of files or records.

pub(crate) mod decimal;
pub(crate) mod varint;
