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
///
/// # Contract
/// 1. [`DiskFile::append`] writes all bytes or fails. After a failure nothing is known of what
///    follows the last successful append; the log cuts it off, or begins another file.
/// 2. After [`DiskFile::sync`] succeeded, everything appended before survives a power loss. After
///    it failed, it is never called again for this file and the file is not trusted: Linux marks
///    pages as clean when it fails to write them, so a second sync would succeed without them. The
///    data is written into another file instead.
/// 3. The *name* of a new file is durable only after [`Disk::sync_dir`] of its directory, or
///    [`Disk::rename`].
///
/// *Checked:* clauses 1 and 2 by `storage/tests/failing_disk.rs`, in which each call fails once,
/// clause 3 by `storage/tests/power_loss.rs`; no assertion can see them. If they are broken,
/// acknowledged samples are lost.
pub trait DiskFile: Send {
    /// Appends all of `bytes`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was appended survive power loss (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
}

/// A file opened for reading.
///
/// # Contract
/// 1. It stays readable when its name is removed: queries that run go on while retention and
///    compaction remove blocks.
/// 2. The answer has exactly `len` bytes (`debug_assert!` in [`crate::block`], `files.rs`), or the
///    error is [`io::ErrorKind::UnexpectedEof`] if the file ends before: then the block is damaged.
///    Any other error says that the disk could not read it.
/// 3. Several threads read at once, each at its own offset.
pub trait ReadFile: Send + Sync {
    /// Exactly `len` bytes from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_exact_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
}

/// The file system operations that the store needs.
///
/// # Contract
/// 1. [`Disk::rename`] is atomic and durable: after a crash there is the old name or the new one.
///    [`Disk::create_dir`] does nothing if the directory is there. [`Disk::remove`] takes files and
///    whole directories; it is durable only after [`Disk::sync_dir`] of the parent.
/// 2. A file or directory that is not there is the error [`io::ErrorKind::NotFound`], and no other
///    error has this kind: small files that were never written are told from those that cannot be
///    read by it.
/// 3. [`Disk::list`] returns full paths, sorted by [`Ord`] of paths. Recovery reads segments in
///    this order (`debug_assert!` in `wal/reader.rs`).
/// 4. [`Disk::read_at`] returns fewer than `most` bytes only at the end of the file, never more
///    (`debug_assert!` in `wal/segment_reader.rs`): the reader of the log takes a short answer for
///    the end of a segment.
/// 5. [`Disk::truncate`] makes durable what is left, whichever process wrote it: the log is
///    truncated to its own length to make sure of that.
/// 6. [`Disk::link`] gives a file that is independent of the name `from`, and whose content is
///    durable.
/// 7. All methods may be called from any thread, and may block.
///
/// *Checked:* by `storage/tests/failing_disk.rs` (each call of a run fails once), `power_loss.rs`
/// and `simulation.rs`. If clause 1 or 5 is broken, a crash loses acknowledged samples; if clause 2
/// is, a disk error looks like a new, empty store.
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

/// The operating system's file system. `disk/os.rs` says how each clause is fulfilled.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;
