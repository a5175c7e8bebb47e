//! File descriptors: as many as the system lets this process have, and a few kept back.
//!
//! Every connection, target and file of the log takes one. When they run out, a server that waits
//! for one of its own to be closed cannot take a connection to say so, nor begin a segment of its
//! log: the reserve is for that.

use crate::limits::RESERVED_DESCRIPTORS;
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::disk::{Disk, DiskFile, OsDisk};

/// Raises the limit of this process to what its administrator allows, and says so.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let before = shown(limit.current);
    let most = shown(limit.maximum);
    if limit.current == limit.maximum {
        tracing::info!(limit = before, reserve = RESERVED_DESCRIPTORS, "file descriptors");
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => {
            tracing::info!(
                limit = most,
                before,
                reserve = RESERVED_DESCRIPTORS,
                "file descriptors: the limit is raised"
            );
        }
        Err(error) => tracing::warn!(limit = before, %error, "file descriptors: the limit stays"),
    }
}

/// Descriptors that are kept back for what must go on.
#[derive(Default)]
pub struct Reserve {
    state: Mutex<HeldDescriptors>,
}

#[derive(Default)]
struct HeldDescriptors {
    files: Vec<File>,
    /// Whether it was said that there are none left.
    told: bool,
}

impl Reserve {
    /// The whole reserve, if there are descriptors for it.
    pub fn new() -> Arc<Reserve> {
        let reserve = Arc::new(Reserve::default());
        reserve.refill();
        reserve
    }

    /// Gives a descriptor up, so that something can be opened. False: none is left.
    pub fn give(&self) -> bool {
        let mut kept = self.state.lock();
        kept.tell();
        kept.files.pop().is_some()
    }

    /// Takes back what was given up, as far as there is enough again. If there is none left beside
    /// the reserve, half of it is given up for connections; to be called every second or so.
    pub fn refill(&self) {
        let mut kept = self.state.lock();
        // One more than is kept: there is something left beside it.
        while kept.files.len() <= RESERVED_DESCRIPTORS {
            match File::open("/dev/null") {
                Ok(file) => kept.files.push(file),
                Err(_) => {
                    kept.files.truncate(RESERVED_DESCRIPTORS / 2);
                    return kept.tell();
                }
            }
        }
        kept.files.truncate(RESERVED_DESCRIPTORS);
        if kept.told {
            kept.told = false;
            tracing::info!("there are file descriptors again");
        }
    }
}

impl HeldDescriptors {
    /// Says once that there are none left.
    fn tell(&mut self) {
        if !self.told {
            self.told = true;
            let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
            tracing::error!(
                limit,
                "no file descriptors are left: new targets and connections fail; raise the limit (LimitNOFILE= of the \
                 service, ulimit -n), or scrape fewer targets with this server"
            );
        }
    }
}

/// Whether there are no descriptors left, in this process or at all.
pub fn are_out(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// The file system, with the reserve for what the store opens.
pub struct ReservedDisk(pub Arc<Reserve>);

impl ReservedDisk {
    fn with_reserve<T>(&self, work: impl Fn(&OsDisk) -> io::Result<T>) -> io::Result<T> {
        loop {
            match work(&OsDisk) {
                Err(error) if are_out(&error) && self.0.give() => {}
                outcome => return outcome,
            }
        }
    }
}

impl Disk for ReservedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.with_reserve(|disk| disk.create(path))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.with_reserve(|disk| disk.read(path))
    }
    fn read_at(&self, path: &Path, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        self.with_reserve(|disk| disk.read_at(path, offset, most))
    }
    fn read_onto(&self, path: &Path, offset: u64, most: usize, onto: &mut Vec<u8>) -> io::Result<usize> {
        OsDisk.read_onto(path, offset, most, onto)
    }
    fn size(&self, path: &Path) -> io::Result<u64> {
        OsDisk.size(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.with_reserve(|disk| disk.list(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with_reserve(|disk| disk.remove(path))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.with_reserve(|disk| disk.create_dir(path))
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with_reserve(|disk| disk.link(from, to))
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.with_reserve(|disk| disk.truncate(path, len))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.with_reserve(|disk| disk.sync_dir(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_once_and_taken_back() {
        let reserve = Reserve::new();
        for _ in 0..RESERVED_DESCRIPTORS {
            assert!(reserve.give());
        }
        assert!(!reserve.give(), "there is no more than that");
        reserve.refill();
        assert!(reserve.give());
    }

    #[test]
    fn what_the_store_opens_may_have_the_reserve() {
        let calls = std::cell::Cell::new(0);
        let disk = ReservedDisk(Reserve::new());
        let opened = disk.with_reserve(|_| {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { Err(io::Error::from_raw_os_error(24)) } else { Ok(()) }
        });
        assert!(opened.is_ok());
        assert_eq!(disk.0.state.lock().files.len(), RESERVED_DESCRIPTORS - 2);
        let never = disk.with_reserve(|_| Err::<(), _>(io::Error::from_raw_os_error(24)));
        assert!(are_out(&never.unwrap_err()), "and then it fails");
    }
}
