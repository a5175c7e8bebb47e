//! The files of local blocks. They are opened when they are read, and closed again when others were
//! read since: there may be thousands of blocks with several files each, and few file descriptors.
//!
//! A reader of a block continues when the directory of the block is removed:
//! [`LocalBlockFiles::pin`] opens the files that readers may need before the removal. If these are
//! too many, the directory stays until the readers have finished.

use super::block_files::{BlockFiles, ReadRange};
use super::{damaged, io_error};
use crate::disk::{Disk, ReadFile};
use crate::error::StoreError;
use crate::limits::{OPEN_BLOCK_FILES, PINNED_BLOCK_FILES};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// The open files of all blocks of a set; cheap to clone.
#[derive(Clone)]
pub(super) struct OpenFiles(Arc<OpenFileTable>);

struct OpenFileTable {
    disk: Arc<dyn Disk>,
    /// The number of the next file.
    next: AtomicU64,
    /// Number of files kept open for readers of removed blocks.
    pinned: AtomicUsize,
    files: Mutex<RecentFiles>,
}

/// Open files by number, each with the time of its last use.
#[derive(Default)]
struct RecentFiles {
    /// Number of uses so far.
    uses: u64,
    files: HashMap<u64, (u64, Arc<dyn ReadFile>)>,
}

impl OpenFiles {
    /// No open files yet; `disk` opens them.
    pub(super) fn new(disk: Arc<dyn Disk>) -> OpenFiles {
        OpenFiles(Arc::new(OpenFileTable {
            disk,
            next: AtomicU64::default(),
            pinned: AtomicUsize::default(),
            files: Mutex::default(),
        }))
    }

    /// The disk that opens the files.
    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.0.disk
    }

    /// A new number for a file.
    fn number(&self) -> u64 {
        self.0.next.fetch_add(1, Relaxed)
    }

    /// The file with this number, opened if it is not open.
    fn get(&self, number: u64, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        if let Some(file) = self.0.files.lock().touch(number) {
            return Ok(file);
        }
        // Opened without the lock: others read meanwhile. Two threads may open the same file; one
        // handle is then closed again.
        let file = self.open(path)?;
        let mut recent = self.0.files.lock();
        recent.close_beyond(OPEN_BLOCK_FILES - 1);
        let uses = recent.uses;
        recent.files.insert(number, (uses, file.clone()));
        Ok(file)
    }

    /// Opens a file. If no file descriptors are left, closes all files of this cache and tries
    /// again.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.0.disk.open(path).or_else(|error| {
            if !is_out_of_descriptors(&error) {
                return Err(error);
            }
            self.0.files.lock().files.clear();
            self.0.disk.open(path)
        })
    }

    fn forget(&self, number: u64) {
        self.0.files.lock().files.remove(&number);
    }

    /// Number of open files.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.files.lock().files.len()
    }
}

impl RecentFiles {
    fn touch(&mut self, number: u64) -> Option<Arc<dyn ReadFile>> {
        self.uses += 1;
        let (used, file) = self.files.get_mut(&number)?;
        *used = self.uses;
        Some(file.clone())
    }

    /// If more than `most` files are open, closes those not used for longest, at least an eighth.
    fn close_beyond(&mut self, most: usize) {
        if self.files.len() <= most {
            return;
        }
        let mut uses: Vec<u64> = self.files.values().map(|(used, _)| *used).collect();
        let (_, oldest, _) = uses.select_nth_unstable(self.files.len() - (most - most / 8));
        let oldest = *oldest;
        self.files.retain(|_, (used, _)| *used >= oldest);
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// A local block directory, as [`BlockFiles`].
pub(super) struct LocalFiles(pub(super) Arc<LocalBlockFiles>);

/// The files of one local block.
pub(super) struct LocalBlockFiles {
    dir: PathBuf,
    open: OpenFiles,
    /// Number and name of the files that are in use.
    names: Mutex<Vec<(u64, String)>>,
    /// The open files by number, once the directory is to be removed.
    pinned: OnceLock<HashMap<u64, Arc<dyn ReadFile>>>,
}

impl LocalFiles {
    /// The files of the block in `dir`.
    pub(super) fn new(dir: &Path, open: OpenFiles) -> LocalFiles {
        let names = Mutex::default();
        let pinned = OnceLock::new();
        LocalFiles(Arc::new(LocalBlockFiles { dir: dir.to_owned(), open, names, pinned }))
    }
}

impl BlockFiles for LocalFiles {
    fn open(&self, name: &str, bytes: u64) -> Result<Box<dyn ReadRange>, StoreError> {
        let path = self.0.dir.join(name);
        let found = self.0.open.disk().size(&path).map_err(io_error(&path))?;
        if found != bytes {
            return Err(damaged(&path, format!("has {found} bytes instead of {bytes}")));
        }
        let number = self.0.open.number();
        self.0.names.lock().push((number, name.to_owned()));
        Ok(Box::new(BlockFile { files: self.0.clone(), number, path }))
    }
}

impl LocalBlockFiles {
    /// To be called before the directory is removed: opens all files in use, and keeps them open
    /// for as long as they are. Returns false if there are not enough file descriptors.
    pub(super) fn pin(&self) -> bool {
        if self.pinned.get().is_some() {
            return true;
        }
        let names = self.names.lock().clone();
        let pinned = &self.open.0.pinned;
        // Counted before the files are opened, so that two threads together stay within the limit.
        if pinned.fetch_add(names.len(), Relaxed) + names.len() > PINNED_BLOCK_FILES {
            pinned.fetch_sub(names.len(), Relaxed);
            return false;
        }
        let count = names.len();
        let open = |(number, name): (u64, String)| Ok((number, self.open.get(number, &self.dir.join(name))?));
        let files: io::Result<HashMap<_, _>> = names.into_iter().map(open).collect();
        // Only one thread at a time removes a block, so `set` does not fail.
        let done = files.is_ok_and(|files| self.pinned.set(files).is_ok());
        if !done {
            pinned.fetch_sub(count, Relaxed);
        }
        done
    }

    fn pinned(&self, number: u64) -> Option<Arc<dyn ReadFile>> {
        self.pinned.get()?.get(&number).cloned()
    }

    fn file(&self, number: u64, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        if let Some(file) = self.pinned(number) {
            return Ok(file);
        }
        // If opening fails, the file may just have been pinned and removed.
        self.open.get(number, path).or_else(|error| self.pinned(number).ok_or(error))
    }
}

impl Drop for LocalBlockFiles {
    fn drop(&mut self) {
        self.open.0.pinned.fetch_sub(self.pinned.get().map_or(0, HashMap::len), Relaxed);
    }
}

/// A file of a local block.
struct BlockFile {
    files: Arc<LocalBlockFiles>,
    number: u64,
    path: PathBuf,
}

impl ReadRange for BlockFile {
    fn read_at(&self, start: u64, len: usize) -> io::Result<Vec<u8>> {
        self.files.file(self.number, &self.path)?.read_exact_at(start, len)
    }
}

impl Drop for BlockFile {
    fn drop(&mut self) {
        self.files.open.forget(self.number);
        self.files.names.lock().retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsDisk;

    fn files(dir: &Path, count: usize) -> (OpenFiles, Vec<Box<dyn ReadRange>>) {
        let open = OpenFiles::new(Arc::new(OsDisk));
        let directory = LocalFiles::new(dir, open.clone());
        let file = |i: usize| {
            std::fs::write(dir.join(i.to_string()), format!("{i:04}")).unwrap();
            directory.open(&i.to_string(), 4).unwrap()
        };
        let files = (0..count).map(file).collect();
        (open, files)
    }

    #[test]
    fn few_are_open_however_many_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (open, files) = files(dir.path(), 3 * OPEN_BLOCK_FILES);
        for _ in 0..2 {
            for (i, file) in files.iter().enumerate() {
                assert_eq!(file.read_at(0, 4).unwrap(), format!("{i:04}").into_bytes());
                assert!(open.count() <= OPEN_BLOCK_FILES, "{}", open.count());
            }
        }
        assert!(open.count() > OPEN_BLOCK_FILES / 2, "those that were read last stay open: {}", open.count());
        drop(files);
        assert_eq!(open.count(), 0, "who drops a block gives its space on the disk back");
    }

    #[test]
    fn the_last_one_read_stays_open() {
        let dir = tempfile::tempdir().unwrap();
        let (open, files) = files(dir.path(), OPEN_BLOCK_FILES + 1);
        for file in &files {
            file.read_at(0, 1).unwrap();
            files[0].read_at(0, 1).unwrap();
        }
        assert!(open.0.files.lock().files.contains_key(&0));
        std::fs::remove_file(dir.path().join("0")).unwrap();
        files[0].read_at(0, 1).unwrap();
    }

    #[test]
    fn no_more_are_kept_open_for_readers_than_there_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let open = OpenFiles::new(Arc::new(OsDisk));
        std::fs::write(dir.path().join("a"), "text").unwrap();
        let read = |_| {
            let directory = LocalFiles::new(dir.path(), open.clone());
            let file = directory.open("a", 4).unwrap();
            (directory, file)
        };
        let all: Vec<_> = (0..=PINNED_BLOCK_FILES).map(read).collect();
        let pinned =
            |all: &[(LocalFiles, Box<dyn ReadRange>)]| all.iter().filter(|one| one.0.0.pin()).count();
        assert_eq!(pinned(&all), PINNED_BLOCK_FILES);
        let last = all.into_iter().next_back().unwrap();
        assert!(last.0.0.pin(), "the others have been read");
    }

    #[test]
    fn readers_go_on_when_the_directory_goes() {
        let dir = tempfile::tempdir().unwrap();
        let open = OpenFiles::new(Arc::new(OsDisk));
        std::fs::write(dir.path().join("a"), "text").unwrap();
        let directory = LocalFiles::new(dir.path(), open.clone());
        let file = directory.open("a", 4).unwrap();
        assert!(directory.0.pin());
        std::fs::remove_file(dir.path().join("a")).unwrap();
        open.0.files.lock().files.clear();
        assert_eq!(file.read_at(1, 2).unwrap(), b"ex");
        assert!(directory.open("a", 4).is_err());
    }
}
