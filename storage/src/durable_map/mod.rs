//! [`DurableMap`]: a small map of bytes that survives restarts, in one file that is appended to.
//! Used for the states of alerts.
//!
//! [`DurableMap::put`] never waits: a thread writes, syncs, and compacts the file. Several changes
//! of one key during a write are written once, so the queue is never longer than the map. After a
//! failure the file is rewritten completely, until that succeeds. [`mod@format`] encodes the bytes;
//! `docs/format/keep.md` specifies them.

mod format;
mod writer;

#[cfg(test)]
mod tests;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::metrics::Metrics;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A key and its new value; `None` removes the key.
pub type MapChange = (Vec<u8>, Option<Vec<u8>>);
/// All keys and values.
pub type MapEntries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The content of the file when the map was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LoadedMap {
    /// Whether there was a file, possibly without entries.
    pub existed: bool,
    /// The entries that were on the disk.
    pub entries: MapEntries,
    /// A description of what could not be read.
    pub damage: Option<String>,
}

#[derive(Default)]
struct MapState {
    queue: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The number of the latest call of [`DurableMap::put`]; of the latest call that the writer has
    /// taken; and of the latest call that is in the file.
    put: u64,
    drained: u64,
    written: u64,
    /// Whether a call of [`DurableMap::wait`] has timed out: no call waits until the file has
    /// caught up.
    late: bool,
    closing: bool,
}

#[derive(Default)]
struct MapShared {
    state: Mutex<MapState>,
    work: Condvar,
    done: Condvar,
}

/// A durable map.
pub struct DurableMap {
    shared: Arc<MapShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The writer of a map without a thread.
    inline_writer: Option<Mutex<writer::MapWriter>>,
}

impl DurableMap {
    /// Opens the map and reads the file at `path`, if there is one. An unreadable file counts as
    /// empty, and is reported in [`LoadedMap`].
    pub fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        metrics: &Metrics,
    ) -> Result<(DurableMap, LoadedMap), StoreError> {
        let (writer, found) = read(disk, &path, metrics)?;
        Self::start(writer, found, path)
    }

    /// As [`DurableMap::open`], but changes are not synced: they survive a killed process, and a
    /// power loss may take the latest. For what changes often and can be found out again.
    pub fn open_unsynced(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        metrics: &Metrics,
    ) -> Result<(DurableMap, LoadedMap), StoreError> {
        let (writer, found) = read(disk, &path, metrics)?;
        Self::start(writer.without_syncs(), found, path)
    }

    fn start(
        writer: writer::MapWriter,
        found: LoadedMap,
        path: PathBuf,
    ) -> Result<(DurableMap, LoadedMap), StoreError> {
        let shared = Arc::new(MapShared::default());
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("keep".to_owned())
            .spawn(move || writer.run(&of_thread))
            .map_err(|source| StoreError::Io { path, source })?;
        Ok((DurableMap { shared, thread: Mutex::new(Some(thread)), inline_writer: None }, found))
    }

    /// As [`DurableMap::open`], without a thread: changes are written by [`DurableMap::wait`] and
    /// [`DurableMap::turn`].
    pub fn open_without_thread(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        metrics: &Metrics,
    ) -> Result<(DurableMap, LoadedMap), StoreError> {
        let (writer, found) = read(disk, &path, metrics)?;
        let inline_writer = Some(Mutex::new(writer));
        Ok((DurableMap { shared: Arc::default(), thread: Mutex::default(), inline_writer }, found))
    }

    /// For a map without a thread: writes what is queued.
    pub fn turn(&self) {
        if let Some(writer) = &self.inline_writer {
            writer.lock().run_once(&self.shared);
        }
    }

    /// Queues changes, which are written atomically. Returns their number, for
    /// [`DurableMap::wait`].
    pub fn put(&self, changes: impl IntoIterator<Item = MapChange>) -> u64 {
        let mut state = self.shared.state.lock();
        // By key: of several changes of one key between two writes only the last is written.
        state.queue.extend(changes);
        state.put += 1;
        self.shared.work.notify_one();
        state.put
    }

    /// Waits, at most `limit`, until the changes up to number `put` survive a crash of the process
    /// (not yet a power loss: the sync comes later). Returns whether they do. After a timeout no
    /// call waits until the file has caught up.
    pub fn wait(&self, put: u64, limit: Duration) -> bool {
        if self.inline_writer.is_some() {
            self.turn();
            return self.shared.state.lock().written >= put;
        }
        let mut state = self.shared.state.lock();
        while state.written < put {
            // One call waits on a disk that does not answer, not each: a tick has many alerts, and
            // would wait for each of them in turn.
            if state.late || self.shared.done.wait_for(&mut state, limit).timed_out() {
                state.late = state.written < put;
                return !state.late;
            }
        }
        true
    }

    /// Whether the changes up to number `put` survive a crash of the process.
    pub fn is_written(&self, put: u64) -> bool {
        self.shared.state.lock().written >= put
    }

    /// Writes what is queued and stops the thread. Also called on drop.
    pub fn close(&self) {
        self.turn();
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

/// Reads the file, if there is one, and makes its writer.
fn read(
    disk: Arc<dyn Disk>,
    path: &std::path::Path,
    metrics: &Metrics,
) -> Result<(writer::MapWriter, LoadedMap), StoreError> {
    let found = match disk.read(path) {
        Ok(bytes) => format::decode(&bytes),
        // Only a file that was never written is an empty map. One that cannot be read stops the
        // start: the states of alerts in it would be overwritten.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => LoadedMap::default(),
        Err(source) => return Err(StoreError::Io { path: path.to_owned(), source }),
    };
    let writer = writer::MapWriter::new(disk, path.to_owned(), found.entries.clone(), metrics);
    Ok((writer, found))
}

impl Drop for DurableMap {
    fn drop(&mut self) {
        self.close();
    }
}
