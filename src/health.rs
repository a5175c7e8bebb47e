//! The health of the server: whether the WAL is written, and whether the data directory is still
//! the one that was opened.
//!
//! `/-/healthy` and `/-/ready` report the state of [`Health`]. The log has one line when the server
//! becomes unhealthy, with what to do, and one when it recovers. The wall clock is checked, too:
//! after it was set back, samples are refused until it has passed the newest stored sample.

use crate::descriptors::Reserve;
use parking_lot::{Mutex, RwLock};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use storage::clock::Clock;
use storage::limits::FUTURE_MS;
use storage::metrics::{Counter, Gauge, Metrics};
use storage::model::TimeMs;
use storage::model::time::format_duration;
use storage::store::Store;

/// The interval of checks.
const EVERY: Duration = Duration::from_secs(1);

/// A file or directory that must not be replaced. It is kept open, so that no other file can get
/// its inode number.
struct HeldFile {
    path: PathBuf,
    file: File,
    what: &'static str,
}

/// Why a file or directory is not the one that was opened at the start.
#[derive(Debug, thiserror::Error)]
pub enum HeldFileError {
    /// It cannot be opened at the start.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its path leads to nothing.
    #[error("{what} {} is gone", path.display())]
    Gone {
        /// What it is to the server.
        what: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// The operating system does not say what is there.
    #[error("{what} {} cannot be read: {source}", path.display())]
    Unreadable {
        /// What it is to the server.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its path leads to another one.
    #[error("{what} {} is another one than at the start", path.display())]
    Replaced {
        /// What it is to the server.
        what: &'static str,
        /// Its path.
        path: PathBuf,
    },
}

impl HeldFile {
    fn new(path: PathBuf, what: &'static str) -> Result<HeldFile, HeldFileError> {
        match File::open(&path) {
            Ok(file) => Ok(HeldFile { path, file, what }),
            Err(source) => Err(HeldFileError::Open { path, source }),
        }
    }

    /// Checks that the path still leads to the same file; the error says why not.
    fn check(&self) -> Result<(), HeldFileError> {
        let what = self.what;
        let path = self.path.clone();
        let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
        let there = match std::fs::metadata(&self.path) {
            Ok(found) => identity(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(HeldFileError::Gone { what, path });
            }
            Err(source) => return Err(HeldFileError::Unreadable { what, path, source }),
        };
        let ours = match self.file.metadata() {
            Ok(found) => identity(found),
            Err(source) => return Err(HeldFileError::Unreadable { what, path, source }),
        };
        if there == ours { Ok(()) } else { Err(HeldFileError::Replaced { what, path }) }
    }
}

/// The health of a server.
pub struct Health {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    reserve: Arc<Reserve>,
    held: Vec<HeldFile>,
    reason: RwLock<Option<String>>,
    healthy: Arc<Gauge>,
    behind: Arc<Gauge>,
    refused: Arc<Counter>,
    set_back: Mutex<Option<SetBack>>,
}

/// The state while the clock is earlier than the newest sample.
struct SetBack {
    /// The number of samples refused for their time, at the last check.
    seen: u64,
    /// The number of samples refused since the clock was set back.
    refused: u64,
}

impl Health {
    /// The health of a server with the data directory `dir`; `locked` says whether there is a lock
    /// file.
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        locked: bool,
        reserve: Arc<Reserve>,
        metrics: &Metrics,
    ) -> Result<Health, HeldFileError> {
        // An open file keeps its inode, so a directory that was moved and made again is told apart
        // from this one.
        let mut held = vec![HeldFile::new(dir.to_owned(), "the data directory")?];
        if locked {
            held.push(HeldFile::new(dir.join("lock"), "the lock file")?);
        }
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        let healthy = gauge("perennial_healthy", "1: the log is written and the data directory is ours.");
        healthy.set(1.0);
        Ok(Health {
            store,
            clock,
            reserve,
            held,
            reason: RwLock::default(),
            healthy,
            behind: gauge(
                "perennial_clock_behind_seconds",
                "How far the clock is behind the newest sample, if that is further than a sample may be ahead; else 0.",
            ),
            refused: metrics.counter(
                "perennial_clock_behind_refused_samples_total",
                "Samples that were refused as too old while the clock was behind the newest sample.",
                &[],
            ),
            set_back: Mutex::default(),
        })
    }

    /// Why the server is unhealthy; `None` if it is healthy.
    pub fn reason(&self) -> Option<String> {
        self.reason.read().clone()
    }

    /// Checks the health, and logs changes.
    pub fn check(&self) {
        self.reserve.refill();
        let found = self.look().err();
        let before =
            std::mem::replace(&mut *self.reason.write(), found.as_ref().map(|(reason, _)| reason.clone()));
        self.healthy.set(if found.is_none() { 1.0 } else { 0.0 });
        match (before, found) {
            (None, Some((reason, advice))) => tracing::error!(reason, "the server is not healthy: {advice}"),
            (Some(_), None) => tracing::info!("the server is healthy again"),
            _ => {}
        }
        self.check_clock(self.clock.now());
    }

    /// Returns what is wrong, and what to do about it.
    fn look(&self) -> Result<(), (String, &'static str)> {
        const REPLACED_ADVICE: &str = "what it stores now is lost at the next start; stop it, and start it on the directory that is meant";
        for held in &self.held {
            held.check().map_err(|error| (error.to_string(), REPLACED_ADVICE))?;
        }
        self.store.wal().check().map_err(|error| {
            (
                error.to_string(),
                "samples are refused; see whether the disk is full, or fails, it is tried again",
            )
        })
    }

    fn check_clock(&self, now: TimeMs) {
        let newest =
            self.store.status().newest_time().filter(|newest| *newest > now.saturating_add(FUTURE_MS));
        let mut set_back = self.set_back.lock();
        let refused = self.store.status().refused_as_too_old();
        self.behind.set(newest.map_or(0.0, |newest| newest.saturating_sub(now) as f64 / 1000.0));
        let Some(newest) = newest else {
            if let Some(SetBack { seen, refused: before }) = set_back.take() {
                let last = refused.saturating_sub(seen);
                self.refused.add(last);
                let refused = before + last;
                tracing::info!(
                    refused,
                    "the clock has passed the newest sample, so samples are accepted again"
                );
            }
            return;
        };
        match &mut *set_back {
            Some(known) => {
                let more = refused.saturating_sub(known.seen);
                self.refused.add(more);
                known.seen = refused;
                known.refused += more;
            }
            None => {
                let by = format_duration(newest.saturating_sub(now));
                tracing::warn!(
                    newest,
                    by,
                    "the clock is behind the newest sample, it has probably been set back: samples are refused as too old \
                     until it has passed it; if the samples of the future are worthless, stop the server and start it with an \
                     empty data directory"
                );
                *set_back = Some(SetBack { seen: refused, refused: 0 });
            }
        }
    }
}

/// Checks the health forever.
pub async fn watch(health: Arc<Health>) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let health = health.clone();
        // The checks block: a file system that hangs then blocks only this one thread.
        if let Err(error) = tokio::task::spawn_blocking(move || health.check()).await {
            tracing::error!(%error, "the health check ended with a panic; report it, the next one runs in a second");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::clock::ManualClock;
    use storage::disk::OsDisk;
    use storage::model::Labels;
    use storage::store::{FloatRow, StoreOptions};

    #[test]
    fn another_directory_of_the_same_name_is_another() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        let make = || {
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("lock"), "1").unwrap();
        };
        make();
        let directory = HeldFile::new(dir.clone(), "the data directory").unwrap();
        let lock = HeldFile::new(dir.join("lock"), "the lock file").unwrap();
        assert!(directory.check().is_ok() && lock.check().is_ok());
        std::fs::write(dir.join("lock"), "2").unwrap();
        assert!(lock.check().is_ok(), "what is in it does not matter");
        std::fs::remove_file(dir.join("lock")).unwrap();
        assert!(lock.check().unwrap_err().to_string().ends_with("is gone"));
        std::fs::write(dir.join("lock"), "1").unwrap();
        assert!(lock.check().unwrap_err().to_string().ends_with("is another one than at the start"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(directory.check().unwrap_err().to_string().ends_with("is gone"));
        make();
        assert!(directory.check().unwrap_err().to_string().ends_with("is another one than at the start"));
    }

    #[test]
    fn a_clock_that_was_set_back_is_counted_and_told_once() {
        const HOUR: TimeMs = 3_600_000;
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::default();
        let now = 1_795_000_000_000;
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 60_000,
            block_range_ms: 2 * HOUR,
            out_of_order_ms: HOUR / 2,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &metrics).unwrap();
        let clock = Arc::new(ManualClock::at(now + 24 * HOUR));
        let reserve = Reserve::new();
        let health = Health::new(store.clone(), clock.clone(), dir.path(), false, reserve, &metrics).unwrap();
        let write = |name: &str, t| {
            let series = store.get_or_create_series(&Labels::from_pairs([("__name__", name)]));
            store.append_rows(&[FloatRow { series, t, v: 1.0 }]).unwrap().stored
        };
        let refused = || metrics.counter("perennial_clock_behind_refused_samples_total", "", &[]).get();
        let behind = || metrics.gauge("perennial_clock_behind_seconds", "", &[]).get();
        assert_eq!(write("a", now + 24 * HOUR), 1, "while the clock is ahead");
        health.check();
        assert_eq!((behind(), refused()), (0.0, 0));
        clock.set(now);
        health.check();
        assert_eq!((write("a", now), write("b", now)), (0, 0), "known or new");
        health.check();
        assert_eq!((behind(), refused()), (86_400.0, 2));
        assert_eq!(health.reason(), None, "the server does what it can");
        assert!(health.set_back.lock().is_some());
        clock.set(now + 25 * HOUR);
        assert_eq!((write("a", now + 25 * HOUR), write("b", now)), (1, 0));
        health.check();
        assert_eq!((behind(), refused()), (0.0, 3), "what came last is counted, too");
        assert!(health.set_back.lock().is_none());
    }

    #[test]
    fn a_log_whose_file_is_gone_is_not_healthy() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::default();
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 1,
            block_range_ms: 7_200_000,
            out_of_order_ms: 0,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &metrics).unwrap();
        let clock = Arc::new(ManualClock::at(0));
        let health = Health::new(store.clone(), clock, dir.path(), false, Reserve::new(), &metrics).unwrap();
        let healthy = || metrics.gauge("perennial_healthy", "", &[]).get();
        health.check();
        assert_eq!((health.reason(), healthy()), (None, 1.0), "before anything is written");
        let series = store.get_or_create_series(&Labels::from_pairs([("__name__", "a")]));
        let lsn = store.append_rows(&[FloatRow { series, t: 0, v: 1.0 }]).unwrap().lsn;
        let (tell, told) = std::sync::mpsc::channel();
        store.wal().on_committed(lsn, Box::new(move |fate| tell.send(fate.is_ok()).unwrap()));
        assert_eq!(told.recv(), Ok(true));
        health.check();
        assert_eq!(health.reason(), None);
        std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
        health.check();
        assert!(health.reason().unwrap().contains("No such file"), "{:?}", health.reason());
        assert_eq!(healthy(), 0.0);
    }
}
