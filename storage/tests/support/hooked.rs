//! A real directory with hooks: a test that needs a disk that fails, fills up, dies or keeps a
//! journal implements only the difference.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::disk::{Disk, DiskFile, OsDisk, ReadFile};

/// A call to the disk. Directories are removed file by file; what the real disk makes durable by
/// itself is a call of its own.
#[derive(Copy, Clone, Debug)]
pub enum Call<'a> {
    Create(&'a Path),
    Append(&'a Path, &'a [u8]),
    Sync(&'a Path),
    Rename(&'a Path, &'a Path),
    Remove(&'a Path),
    CreateDir(&'a Path),
    Truncate(&'a Path, u64),
    SyncDir(&'a Path),
    Read(&'a Path),
}

/// The difference of a disk from the real one.
pub trait Hooks: Send + Sync + 'static {
    /// Called before a disk call, which fails with the returned error.
    fn before(&self, _call: &Call) -> io::Result<()> {
        Ok(())
    }
    /// Called after a disk call.
    fn after(&self, _call: &Call) {}
    /// How many bytes of a failing append are written.
    fn torn(&self, _bytes: &[u8]) -> usize {
        0
    }
    /// Whether syncs reach the real disk: if power losses are simulated, real syncs only cost time.
    fn syncs(&self) -> bool {
        true
    }
}

/// The real disk with hooks.
pub struct HookedDisk<H>(pub Arc<H>);

impl<H: Hooks> HookedDisk<H> {
    fn call<T>(&self, call: Call, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.0.before(&call)?;
        let done = run()?;
        self.0.after(&call);
        Ok(done)
    }
}

struct HookedFile<H> {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    hooks: Arc<H>,
}

impl<H: Hooks> DiskFile for HookedFile<H> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut write = |bytes: &[u8]| {
            self.file.append(bytes)?;
            self.hooks.after(&Call::Append(&self.path, bytes));
            Ok(())
        };
        match self.hooks.before(&Call::Append(&self.path, bytes)) {
            Ok(()) => write(bytes),
            Err(error) => match self.hooks.torn(bytes) {
                0 => Err(error),
                some => write(&bytes[..some]).and(Err(error)),
            },
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.hooks.before(&Call::Sync(&self.path))?;
        if self.hooks.syncs() {
            self.file.sync()?;
        }
        self.hooks.after(&Call::Sync(&self.path));
        Ok(())
    }
}

struct HookedReadFile<H> {
    file: Arc<dyn ReadFile>,
    path: PathBuf,
    hooks: Arc<H>,
}

impl<H: Hooks> ReadFile for HookedReadFile<H> {
    fn read_exact_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.hooks.before(&Call::Read(&self.path))?;
        let bytes = self.file.read_exact_at(offset, len)?;
        self.hooks.after(&Call::Read(&self.path));
        Ok(bytes)
    }
}

impl<H: Hooks> Disk for HookedDisk<H> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.call(Call::Create(path), || OsDisk.create(path))?;
        Ok(Box::new(HookedFile { file, path: path.to_owned(), hooks: self.0.clone() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call(Call::Read(path), || OsDisk.read(path))
    }

    fn read_at(&self, path: &Path, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        self.call(Call::Read(path), || OsDisk.read_at(path, offset, most))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        let file = self.call(Call::Read(path), || OsDisk.open(path))?;
        Ok(Arc::new(HookedReadFile { file, path: path.to_owned(), hooks: self.0.clone() }))
    }

    fn is_dir(&self, path: &Path) -> bool {
        OsDisk.is_dir(path)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        self.call(Call::Read(path), || OsDisk.size(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.call(Call::Read(path), || OsDisk.list(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Rename(from, to), || std::fs::rename(from, to))?;
        to.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            for inside in OsDisk.list(path)? {
                self.remove(&inside)?;
            }
        }
        self.call(Call::Remove(path), || OsDisk.remove(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let Some(parent) = path.parent() else { return Ok(()) };
        self.create_dir(parent)?;
        self.call(Call::CreateDir(path), || std::fs::create_dir(path))?;
        self.sync_dir(parent)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.call(Call::Truncate(path, len), || OsDisk.truncate(path, len))?;
        self.call(Call::Sync(path), || Ok(()))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Call::SyncDir(path), || if self.0.syncs() { OsDisk.sync_dir(path) } else { Ok(()) })
    }
}
