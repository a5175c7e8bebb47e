//! [`OsDisk`]: the real file system. The only file of this crate that may use `std::fs`.
#![allow(clippy::disallowed_methods, reason = "the one implementation of Disk")]

use super::{Disk, DiskFile, OsDisk, ReadFile};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct OsFile(std::fs::File);

impl DiskFile for OsFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.0, bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

struct OsReadFile(std::fs::File);

impl ReadFile for OsReadFile {
    fn read_exact_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.0.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
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
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        Ok(Arc::new(OsReadFile(std::fs::File::open(path)?)))
    }
    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
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
