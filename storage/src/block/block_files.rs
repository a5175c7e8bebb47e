//! The two traits through which a block is read: its files ([`BlockFiles`]) and ranges of one file
//! ([`ReadRange`]). Implemented for a local directory ([`super::open_files`]) and for an object
//! store (`cold/`), so that the reader does not know where a block is.

use crate::error::StoreError;
use std::io;

/// The files of one block.
///
/// # Contract
/// 1. [`BlockFiles::open`] fails if the file has another length than `bytes`, which `meta.json`
///    says; an implementation for which asking is expensive may leave that to the first read.
/// 2. What was opened stays readable when the block is removed: queries that run go on.
pub(crate) trait BlockFiles {
    /// Opens the file `name`, which must have `bytes` bytes.
    fn open(&self, name: &str, bytes: u64) -> Result<Box<dyn ReadRange>, StoreError>;
}

/// An open file.
///
/// # Contract
/// 1. The caller asks only for bytes within the file. The answer has exactly `len` bytes
///    (`debug_assert!` in [`super::files`]); checksums are the caller's work.
/// 2. An error of kind [`io::ErrorKind::InvalidData`] or [`io::ErrorKind::UnexpectedEof`] says that
///    the file is damaged: the block is not merged or moved any more. All other errors say that it
///    could not be read now; the operation is tried again. A connection that breaks off is of the
///    second sort, whatever its client calls it.
pub(crate) trait ReadRange: Send + Sync {
    /// Reads `len` bytes from `start` on.
    fn read_at(&self, start: u64, len: usize) -> io::Result<Vec<u8>>;
}
