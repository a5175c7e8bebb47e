//! The file system as a parameter ([`Disk`]), so that tests can truncate it, make it fail and fill
//! it.
//!
//! [`OsDisk`] is the real one. Everything in this crate that reads or writes a file uses a
//! [`Disk`]; `clippy.toml` forbids `std::fs` everywhere else.

mod os;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file being appended to.
pub trait DiskFile: Send {
    /// Appends all of `bytes`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was appended survive power loss (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
}

/// A file opened for reading. It stays readable when its name is removed.
pub trait ReadFile: Send + Sync {
    /// Exactly `len` bytes from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_exact_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
}

/// The file system operations that the store needs.
pub trait Disk: Send + Sync {
    /// Creates `path` (truncating it) for appending.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The whole content of `path`.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// At most `most` bytes of `path` from `offset` on; fewer only at its end.
    fn read_at(&self, path: &Path, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut content = self.read(path)?;
        let from = usize::try_from(offset).map_or(content.len(), |from| from.min(content.len()));
        content.drain(..from);
        content.truncate(most);
        Ok(content)
    }
    /// As [`Disk::read_at`], but appends to `onto`. Returns the number of bytes read.
    fn read_onto(&self, path: &Path, offset: u64, most: usize, onto: &mut Vec<u8>) -> io::Result<usize> {
        let bytes = self.read_at(path, offset, most)?;
        onto.extend_from_slice(&bytes);
        Ok(bytes.len())
    }
    /// Opens `path` for reading ranges of it.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>>;
    /// Whether `path` is a directory; false if there is nothing, or if that cannot be found out.
    fn is_dir(&self, path: &Path) -> bool;
    /// Length of the file `path`, bytes.
    fn size(&self, path: &Path) -> io::Result<u64> {
        self.read(path).map(|content| content.len() as u64)
    }
    /// The paths of the entries of directory `path`, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Renames a file or directory and makes the rename durable.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or a directory with its content.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its parents, and makes their names durable.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the file `from` also available as `to`: a hard link, or a synced copy where links are
    /// not supported.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut copy = self.create(to)?;
        copy.append(&self.read(from)?)?;
        copy.sync()
    }
    /// Truncates `path` to `len` bytes and makes the rest durable, whichever process wrote it.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Makes the entries of directory `path` survive a power loss.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;
