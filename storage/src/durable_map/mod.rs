//! A small map that outlives the process: bytes by key, in one file that is appended to.
//!
//! [`DurableMap::put`] never waits: a thread of its own writes, syncs and tidies up. What is put
//! for one key while it writes is written once, so that the queue is never longer than the map. A
//! file that cannot be written is written anew, as a whole, until that works. The bytes on disk are
//! in [`mod@format`]; their layout in `docs/format/keep.md`.

mod format;
mod writer;

#[cfg(test)]
mod tests;

use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::store::StoreError;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A key and its new value; `None`: the key goes.
pub type MapChange = (Vec<u8>, Option<Vec<u8>>);
/// All keys and values.
pub type MapEntries = BTreeMap<Vec<u8>, Vec<u8>>;

/// What was there when the map was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LoadedMap {
    /// Whether there was a file; its entries may be none.
    pub existed: bool,
    /// What it held.
    pub entries: MapEntries,
    /// What could not be read, and where.
    pub damage: Option<String>,
}

#[derive(Default)]
struct MapState {
    queue: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Number of the latest call of [`DurableMap::put`], of the latest one that the writer has
    /// seen, and of the latest one that is in the file.
    put: u64,
    taken: u64,
    written: u64,
    /// Somebody waited in vain: nobody waits until the file has caught up.
    late: bool,
    closing: bool,
}

#[derive(Default)]
struct MapShared {
    state: Mutex<MapState>,
    work: Condvar,
    done: Condvar,
}

/// See the module.
pub struct DurableMap {
    shared: Arc<MapShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The writer of a map without a thread.
    by_hand: Option<Mutex<writer::MapWriter>>,
}

impl DurableMap {
    /// Reads the file at `path`, if there is one, and begins to write to it. A file that cannot be
    /// understood is as good as empty, and said so.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        metrics: &Metrics,
    ) -> Result<(DurableMap, LoadedMap), StoreError> {
        let (writer, found) = read(disk, &path, metrics)?;
        let shared = Arc::new(MapShared::default());
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("keep".to_owned())
            .spawn(move || writer.run(&of_thread))
            .map_err(|source| StoreError::Io { path, source })?;
        Ok((DurableMap { shared, thread: Mutex::new(Some(thread)), by_hand: None }, found))
    }

    /// As [`DurableMap::open`], without a thread: what is put is written when somebody waits for
    /// it, or calls [`DurableMap::turn`].
    pub fn open_by_hand(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        metrics: &Metrics,
    ) -> Result<(DurableMap, LoadedMap), StoreError> {
        let (writer, found) = read(disk, &path, metrics)?;
        let by_hand = Some(Mutex::new(writer));
        Ok((DurableMap { shared: Arc::default(), thread: Mutex::default(), by_hand }, found))
    }

    /// Writes what is queued, as the thread of a map that has one does.
    pub fn turn(&self) {
        if let Some(writer) = &self.by_hand {
            writer.lock().run_once(&self.shared);
        }
    }

    /// Makes the changes, all of them or none should the process die; returns their number for
    /// [`DurableMap::wait`].
    pub fn put(&self, changes: impl IntoIterator<Item = MapChange>) -> u64 {
        let mut state = self.shared.state.lock();
        state.queue.extend(changes);
        state.put += 1;
        self.shared.work.notify_one();
        state.put
    }

    /// Waits until the changes up to number `put` outlive the process (not yet a power failure: the
    /// sync follows), at most `limit`; whether they do. A disk that has let somebody wait in vain
    /// is not waited for again until it has caught up.
    pub fn wait(&self, put: u64, limit: Duration) -> bool {
        if self.by_hand.is_some() {
            self.turn();
            return self.shared.state.lock().written >= put;
        }
        let mut state = self.shared.state.lock();
        while state.written < put {
            if state.late || self.shared.done.wait_for(&mut state, limit).timed_out() {
                state.late = state.written < put;
                return !state.late;
            }
        }
        true
    }

    /// Writes what is queued and ends. Also done on drop.
    pub fn close(&self) {
        self.turn();
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

/// Reads the file, if there is one.
fn read(
    disk: Arc<dyn Disk>,
    path: &std::path::Path,
    metrics: &Metrics,
) -> Result<(writer::MapWriter, LoadedMap), StoreError> {
    let found = match disk.read(path) {
        Ok(bytes) => format::decode(&bytes),
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
