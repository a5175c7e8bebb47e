//! Where the files of a block are: in a directory here ([`super::open_files`]), or far away
//! (`far/`). Whoever reads a block reads ranges of its files through this, and nothing else.

use crate::store::StoreError;
use std::io;

/// The files of one block.
pub(crate) trait BlockFiles {
    /// Opens the file `name`, which has `bytes` bytes.
    fn open(&self, name: &str, bytes: u64) -> Result<Box<dyn ReadRange>, StoreError>;
}

/// A file that can be read.
pub(crate) trait ReadRange: Send + Sync {
    /// `len` bytes from `start` on; they must be within the file.
    fn read_at(&self, start: u64, len: usize) -> io::Result<Vec<u8>>;
}
