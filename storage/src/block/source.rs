//! Where the files of a block are: in a directory here, or far away (`far/`). Whoever reads a block reads ranges of
//! its files through this, and nothing else.

use super::{damaged, io_error};
use crate::store::StoreError;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The files of one block.
pub(crate) trait Source {
    /// Opens the file `name`, which has `bytes` bytes.
    fn open(&self, name: &str, bytes: u64) -> Result<Box<dyn ReadAt>, StoreError>;
}

/// An open file.
pub(crate) trait ReadAt: Send + Sync {
    /// `len` bytes from `start` on; they must be within the file.
    fn read_at(&self, start: u64, len: usize) -> io::Result<Vec<u8>>;
}

/// A directory here. Its files stay readable after it is removed, as long as they are open.
pub(super) struct Directory<'a>(pub(super) &'a Path);

impl Source for Directory<'_> {
    fn open(&self, name: &str, bytes: u64) -> Result<Box<dyn ReadAt>, StoreError> {
        let path = self.0.join(name);
        let found = std::fs::metadata(&path).map_err(io_error(&path))?.len();
        if found != bytes {
            return Err(damaged(&path, format!("has {found} bytes instead of {bytes}")));
        }
        Ok(Box::new(File::open(&path).map_err(io_error(&path))?))
    }
}

impl ReadAt for File {
    fn read_at(&self, start: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }
}
