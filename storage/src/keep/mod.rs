//! A small map that outlives the process: bytes by key, in one file that is appended to.
//!
//! [`Keep::put`] never waits: a thread of its own writes, syncs and tidies up. What is put for one key while it writes is
//! written once, so that the queue is never longer than the map. A file that cannot be written is written anew, as a whole,
//! until that works. The bytes on disk are in [`file`](self::file); their layout in `docs/format/keep.md`.

mod file;
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
pub type Change = (Vec<u8>, Option<Vec<u8>>);
/// All keys and values.
pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// What was there when the map was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Whether there was a file; its entries may be none.
    pub existed: bool,
    /// What it held.
    pub entries: Entries,
    /// What could not be read, and where.
    pub damage: Option<String>,
}

#[derive(Default)]
struct State {
    queue: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Number of the latest call of [`Keep::put`], of the latest one that the writer has seen, and of the latest one that
    /// is in the file.
    put: u64,
    taken: u64,
    written: u64,
    /// Somebody waited in vain: nobody waits until the file has caught up.
    late: bool,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    done: Condvar,
}

/// See the module.
pub struct Keep {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The writer of a map without a thread.
    by_hand: Option<Mutex<writer::Writer>>,
}

impl Keep {
    /// Reads the file at `path`, if there is one, and begins to write to it. A file that cannot be understood is as
    /// good as empty, and said so.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf, metrics: &Metrics) -> Result<(Keep, Found), StoreError> {
        let (writer, found) = read(disk, &path, metrics)?;
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("keep".to_owned())
            .spawn(move || writer.run(&of_thread))
            .map_err(|source| StoreError::Io { path, source })?;
        Ok((Keep { shared, thread: Mutex::new(Some(thread)), by_hand: None }, found))
    }

    /// As [`Keep::open`], without a thread: what is put is written when somebody waits for it, or calls [`Keep::turn`].
    pub fn open_by_hand(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        metrics: &Metrics,
    ) -> Result<(Keep, Found), StoreError> {
        let (writer, found) = read(disk, &path, metrics)?;
        let by_hand = Some(Mutex::new(writer));
        Ok((Keep { shared: Arc::default(), thread: Mutex::default(), by_hand }, found))
    }

    /// Writes what is queued, as the thread of a map that has one does.
    pub fn turn(&self) {
        if let Some(writer) = &self.by_hand {
            writer.lock().run_once(&self.shared);
        }
    }

    /// Makes the changes, all of them or none should the process die; returns their number for [`Keep::wait`].
    pub fn put(&self, changes: impl IntoIterator<Item = Change>) -> u64 {
        let mut state = self.shared.state.lock();
        state.queue.extend(changes);
        state.put += 1;
        self.shared.work.notify_one();
        state.put
    }

    /// Waits until the changes up to number `put` outlive the process (not yet a power failure: the sync follows), at
    /// most `limit`; whether they do. A disk that has let somebody wait in vain is not waited for again until it has
    /// caught up.
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
) -> Result<(writer::Writer, Found), StoreError> {
    let found = match disk.read(path) {
        Ok(bytes) => file::decode(&bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Found::default(),
        Err(source) => return Err(StoreError::Io { path: path.to_owned(), source }),
    };
    let writer = writer::Writer::new(disk, path.to_owned(), found.entries.clone(), metrics);
    Ok((writer, found))
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.close();
    }
}
