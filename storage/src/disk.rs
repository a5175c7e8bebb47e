//! The file system as a parameter ([`Disk`]), so that tests can truncate it, make it fail and fill
//! it.
//!
//! [`OsDisk`] is the real one. Everything in this crate that writes uses a [`Disk`].

use std::io;
use std::path::{Path, PathBuf};

/// A file being appended to.
pub trait DiskFile: Send {
    /// Appends all of `bytes`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was appended survive power loss (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
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

struct OsFile(std::fs::File);

impl DiskFile for OsFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.0, bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Disk for OsDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OsFile(std::fs::File::create(path)?)))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
    fn read_at(&self, path: &Path, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_onto(path, offset, most, &mut bytes)?;
        Ok(bytes)
    }
    fn read_onto(&self, path: &Path, offset: u64, most: usize, onto: &mut Vec<u8>) -> io::Result<usize> {
        let mut file = std::fs::File::open(path)?;
        let left = file.metadata()?.len().saturating_sub(offset);
        // One byte more than the file has: then reading to the end does not grow the buffer just to
        // see that it has ended.
        onto.reserve(usize::try_from(left).map_or(most, |left| left.saturating_add(1).min(most)));
        io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
        io::Read::read_to_end(&mut io::Read::take(file, most as u64), onto)
    }
    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(path)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)?;
        to.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir(parent)?;
        }
        match std::fs::create_dir(path) {
            // Another thread or process has just created it.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => (),
        }
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        if std::fs::hard_link(from, to).is_ok() {
            return Ok(());
        }
        std::fs::copy(from, to)?;
        std::fs::File::open(to)?.sync_all()
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = std::fs::OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() != len {
            file.set_len(len)?;
        }
        file.sync_all()
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }
}
