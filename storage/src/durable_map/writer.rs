//! The writer thread of a durable map: appends queued changes, syncs, and rewrites the file when
//! most of it is obsolete.

use super::{MapChange, MapEntries, MapShared, format};
use crate::disk::{Disk, DiskFile};
use crate::limits::{DURABLE_MAP_COMPACT_BYTES, DURABLE_MAP_RETRY_MS};
use crate::metrics::{Counter, Metrics};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The state of the writer.
pub(super) struct MapWriter {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    entries: MapEntries,
    /// `None`: the file must be rewritten before anything can be appended.
    file: Option<Box<dyn DiskFile>>,
    /// Whether the latest write has failed.
    failing: bool,
    /// Current length of the file, and its length after the last rewrite, bytes.
    length: usize,
    tidy_length: usize,
    failures: Arc<Counter>,
    syncs: bool,
}

impl MapWriter {
    /// A writer for the file at `path`, which holds `entries`.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        entries: MapEntries,
        metrics: &Metrics,
    ) -> MapWriter {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let help = "Failed writes of small state files; they are tried again.";
        let failures = metrics.counter("perennial_keep_failures_total", help, &[("file", &name)]);
        MapWriter {
            disk,
            path,
            entries,
            file: None,
            failing: false,
            length: 0,
            tidy_length: 0,
            failures,
            syncs: true,
        }
    }

    /// The same writer, which does not sync what it appends.
    pub(super) fn without_syncs(self) -> MapWriter {
        MapWriter { syncs: false, ..self }
    }

    /// Works until the map is closed.
    pub(super) fn run(mut self, shared: &MapShared) {
        loop {
            let Some((changes, put, closing)) = take(shared, self.failing) else { return };
            self.write(shared, changes, put);
            // The last attempt has failed: the server must be able to stop on a full disk.
            if self.failing && closing {
                return;
            }
        }
    }

    /// Writes what is queued now, or tries a failed write again.
    pub(super) fn run_once(&mut self, shared: &MapShared) {
        let mut state = shared.state.lock();
        // A failed write is tried again even if nothing has changed since.
        if state.drained == state.put && !self.failing {
            return;
        }
        state.drained = state.put;
        let changes = std::mem::take(&mut state.queue).into_iter().collect();
        let put = state.put;
        drop(state);
        self.write(shared, changes, put);
    }

    fn write(&mut self, shared: &MapShared, changes: Vec<MapChange>, put: u64) {
        // Also if the write fails: the next attempt writes the whole file from these entries.
        format::apply(&mut self.entries, changes.clone());
        let written = self.append(changes);
        if written.is_ok() {
            let mut state = shared.state.lock();
            state.written = put;
            state.late &= state.put > put;
            shared.done.notify_all();
        }
        // After those who wait were told: they are promised a crash of the process, not a power
        // loss, and a sync takes milliseconds.
        let mut file = self.file.as_mut().filter(|_| self.syncs);
        let outcome = written.and_then(|()| file.as_mut().map_or(Ok(()), |file| file.sync()));
        self.report(&outcome, self.failing);
        self.failing = outcome.is_err();
        if self.failing {
            self.file = None;
        }
    }

    fn report(&self, outcome: &io::Result<()>, failing: bool) {
        match outcome {
            Err(error) => {
                self.failures.inc();
                if !failing {
                    tracing::error!(path = %self.path.display(), %error, "state cannot be written; it is tried again");
                }
            }
            Ok(()) if failing => tracing::info!(path = %self.path.display(), "state can be written again"),
            Ok(()) => {}
        }
    }

    fn append(&mut self, changes: Vec<MapChange>) -> io::Result<()> {
        // The file has grown to four times its content: most of it are values that were replaced.
        // Rewriting earlier would cost more than it saves.
        let too_long = self.length > DURABLE_MAP_COMPACT_BYTES && self.length > 4 * self.tidy_length;
        let Some(file) = self.file.as_mut().filter(|_| !too_long) else { return self.write_anew() };
        let mut bytes = Vec::new();
        format::encode(changes, &mut bytes).map_err(io::Error::other)?;
        self.length += bytes.len();
        file.append(&bytes)
    }

    /// Writes all entries to a new file, which then replaces the current one.
    fn write_anew(&mut self) -> io::Result<()> {
        self.file = None;
        let temporary = self.path.with_extension("tmp");
        let mut bytes = format::HEADER.to_vec();
        let all = self.entries.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        format::encode(all, &mut bytes).map_err(io::Error::other)?;
        let mut file = self.disk.create(&temporary)?;
        file.append(&bytes)?;
        file.sync()?;
        self.disk.rename(&temporary, &self.path)?;
        // Appending goes on with the handle of the temporary name: it is the same file.
        self.file = Some(file);
        self.length = bytes.len();
        self.tidy_length = bytes.len();
        Ok(())
    }
}

/// Waits for changes. Returns them with the number of the latest, and whether the map is closing.
/// After a failure it returns by itself after a pause. `None`: the map is closed and nothing is
/// left to write.
fn take(shared: &MapShared, failing: bool) -> Option<(Vec<MapChange>, u64, bool)> {
    let mut state = shared.state.lock();
    while state.drained == state.put && !state.closing {
        if failing {
            shared.work.wait_for(&mut state, Duration::from_millis(DURABLE_MAP_RETRY_MS));
            break;
        }
        shared.work.wait(&mut state);
    }
    if state.drained == state.put && state.closing && !failing {
        return None;
    }
    state.drained = state.put;
    let changes = std::mem::take(&mut state.queue).into_iter().collect();
    Some((changes, state.put, state.closing))
}
