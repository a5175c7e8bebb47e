//! File descriptors: raises the limit of the process, and reserves some descriptors.
//!
//! Every connection, target and file of the WAL needs one. When none are left, the server could
//! neither accept a connection to report that, nor begin a segment of its WAL. A [`Reserve`] keeps
//! descriptors open that are closed in that case.

use crate::limits::RESERVED_DESCRIPTORS;
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use storage::disk::{Disk, DiskFile, OsDisk, ReadFile};
use storage::metrics::{MetricSummary, Metrics};

/// Raises the soft limit of this process to its hard limit, and logs both.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let before = shown(limit.current);
    let most = shown(limit.maximum);
    if limit.current == limit.maximum {
        tracing::info!(
            limit = before,
            reserve = RESERVED_DESCRIPTORS,
            "the limit of file descriptors is enough"
        );
        return;
    }
    // As Go's runtime does, so that whoever moves from Prometheus needs no other setting of the
    // service.
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => {
            tracing::info!(
                limit = most,
                before,
                reserve = RESERVED_DESCRIPTORS,
                "the limit of file descriptors is raised"
            );
        }
        Err(error) => {
            tracing::warn!(limit = before, %error, "the limit of file descriptors cannot be raised; raise it if targets or connections fail (LimitNOFILE= of the service, ulimit -n)")
        }
    }
}

/// Open file descriptors that can be closed for work that must continue.
#[derive(Default)]
pub struct Reserve {
    state: Mutex<HeldDescriptors>,
}

#[derive(Default)]
struct HeldDescriptors {
    files: Vec<File>,
    /// Whether the lack of descriptors has been logged.
    told: bool,
}

impl Reserve {
    /// A full reserve, if there are enough descriptors.
    pub fn new() -> Arc<Reserve> {
        let reserve = Arc::new(Reserve::default());
        reserve.refill();
        reserve
    }

    /// Closes a descriptor of the reserve, so that another file can be opened; `false` if the
    /// reserve is empty.
    pub fn give(&self) -> bool {
        let mut kept = self.state.lock();
        kept.tell();
        kept.files.pop().is_some()
    }

    /// Refills the reserve as far as descriptors are available. If there are none outside the
    /// reserve, half of the reserve is closed for connections. To be called about every second.
    pub fn refill(&self) {
        let mut kept = self.state.lock();
        // Opens one more than the reserve holds, to check that a descriptor is left outside the
        // reserve.
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
            tracing::info!("file descriptors are free again");
        }
    }
}

impl HeldDescriptors {
    /// Logs once that no descriptors are left.
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

/// Whether no descriptors are left, in this process or in the system.
pub fn are_out(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// The file system; when no descriptors are left, opens files with those of the reserve.
pub struct ReservedDisk {
    reserve: Arc<Reserve>,
    /// How long syncs of the log take, seconds.
    log_syncs: Arc<MetricSummary>,
}

/// A file of the log, whose syncs are measured. The store itself has no clock for that.
struct LogFile {
    file: Box<dyn DiskFile>,
    syncs: Arc<MetricSummary>,
}

impl DiskFile for LogFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        let began = Instant::now();
        let outcome = self.file.sync();
        self.syncs.observe(began.elapsed().as_secs_f64());
        outcome
    }
}

/// Whether a file is one of the write-ahead log.
fn is_of_log(path: &Path) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|directory| directory == "wal")
}

impl ReservedDisk {
    /// The disk with this reserve; it registers its metric.
    pub fn new(reserve: Arc<Reserve>, metrics: &Metrics) -> ReservedDisk {
        let name = "prometheus_tsdb_wal_fsync_duration_seconds";
        let log_syncs = metrics.summary(name, "Duration of write log fsync.", &[]);
        ReservedDisk { reserve, log_syncs }
    }

    fn with_reserve<T>(&self, work: impl Fn(&OsDisk) -> io::Result<T>) -> io::Result<T> {
        loop {
            match work(&OsDisk) {
                Err(error) if are_out(&error) && self.reserve.give() => {}
                outcome => return outcome,
            }
        }
    }
}

impl Disk for ReservedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.with_reserve(|disk| disk.create(path))?;
        if !is_of_log(path) {
            return Ok(file);
        }
        Ok(Box::new(LogFile { file, syncs: self.log_syncs.clone() }))
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
    /// Not with the reserve: the store closes files of blocks that it has open, and tries again.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        OsDisk.open(path)
    }
    fn is_dir(&self, path: &Path) -> bool {
        OsDisk.is_dir(path)
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
        let disk = ReservedDisk::new(Reserve::new(), &Metrics::default());
        let opened = disk.with_reserve(|_| {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { Err(io::Error::from_raw_os_error(24)) } else { Ok(()) }
        });
        assert!(opened.is_ok());
        assert_eq!(disk.reserve.state.lock().files.len(), RESERVED_DESCRIPTORS - 2);
        let never = disk.with_reserve(|_| Err::<(), _>(io::Error::from_raw_os_error(24)));
        assert!(are_out(&never.unwrap_err()), "and then it fails");
    }
}
