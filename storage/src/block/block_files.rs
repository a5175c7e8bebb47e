//! The two traits through which a block is read: its files ([`BlockFiles`]) and ranges of one file
//! ([`ReadRange`]). Implemented for a local directory ([`super::open_files`]) and for an object
//! store (`cold/`), so that the reader does not know where a block is.

use crate::error::StoreError;
use std::io;

/// The files of one block.
pub(crate) trait BlockFiles {
    /// Opens the file `name`, which must have `bytes` bytes.
    fn open(&self, name: &str, bytes: u64) -> Result<Box<dyn ReadRange>, StoreError>;
}

/// An open file.
pub(crate) trait ReadRange: Send + Sync {
    /// Reads `len` bytes from `start` on; they must be within the file.
    fn read_at(&self, start: u64, len: usize) -> io::Result<Vec<u8>>;

    /// Whether the file is in an object store. A request that fails there is reported as damage of
    /// the block, with its reason; whether it was one is known from the number of failed requests.
    fn is_remote(&self) -> bool {
        false
    }
}
