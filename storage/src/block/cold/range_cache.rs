//! [`RangeCache`]: caches pieces of the files of cold blocks on the local disk, each in a file with
//! a checksum. Its size is bounded; the piece that was not used for longest is evicted first. A
//! piece with a wrong checksum is fetched again. The cache survives a restart, except for the order
//! of use.

use crate::disk::Disk;
use crate::limits::COLD_RANGES_IN_MEMORY;
use crate::metrics::{Counter, Gauge, Metrics};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Length of the checksum after a piece, bytes.
const CRC: usize = 4;

/// The cache of a data directory.
pub(super) struct RangeCache {
    disk: Arc<dyn Disk>,
    /// Where the pieces are.
    dir: PathBuf,
    /// The size that is not exceeded, bytes.
    most: u64,
    state: Mutex<RangeCacheState>,
    /// The pieces read last, in memory: the pages that a query reads are adjacent.
    recent: Mutex<VecDeque<(String, Bytes)>>,
    hits: Arc<Counter>,
    misses: Arc<Counter>,
    damaged: Arc<Counter>,
    size: Arc<Gauge>,
}

#[derive(Default)]
struct RangeCacheState {
    /// By file name: bytes on disk, and the number of its last use.
    pieces: BTreeMap<String, (u64, u64)>,
    /// By last use, oldest first.
    order: BTreeMap<u64, String>,
    /// Number of uses so far.
    uses: u64,
    /// Bytes of all pieces on disk.
    bytes: u64,
}

impl RangeCacheState {
    fn touch(&mut self, name: &str) -> bool {
        let Some((_, used)) = self.pieces.get_mut(name) else { return false };
        self.uses += 1;
        self.order.remove(used);
        *used = self.uses;
        self.order.insert(self.uses, name.to_owned());
        true
    }

    fn insert(&mut self, name: &str, bytes: u64) {
        self.remove(name);
        self.uses += 1;
        self.bytes += bytes;
        self.pieces.insert(name.to_owned(), (bytes, self.uses));
        self.order.insert(self.uses, name.to_owned());
    }

    fn remove(&mut self, name: &str) {
        if let Some((bytes, used)) = self.pieces.remove(name) {
            self.bytes -= bytes;
            self.order.remove(&used);
        }
    }
}

impl RangeCache {
    /// Opens the cache in `dir` with at most `most` bytes, including what an earlier process left.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        most: u64,
        metrics: &Metrics,
    ) -> io::Result<RangeCache> {
        disk.create_dir(&dir)?;
        let mut state = RangeCacheState::default();
        for path in disk.list(&dir)? {
            // In the order of names, so those used last are not known any more: a restart evicts
            // some that were in use. Content is verified when it is read.
            if let (Some(name), Ok(bytes)) = (path.file_name(), disk.size(&path)) {
                state.insert(&name.to_string_lossy(), bytes);
            }
        }
        let counter = |name, help| metrics.counter(name, help, &[]);
        let cache = RangeCache {
            disk,
            dir,
            most,
            state: Mutex::new(state),
            recent: Mutex::default(),
            hits: counter(
                "perennial_object_store_cache_hits_total",
                "Ranges of cold blocks that were in the cache.",
            ),
            misses: counter(
                "perennial_object_store_cache_misses_total",
                "Ranges of cold blocks that had to be fetched.",
            ),
            damaged: counter(
                "perennial_object_store_cache_damaged_total",
                "Ranges in the cache that failed their checksum, and were fetched again.",
            ),
            size: metrics.gauge(
                "perennial_object_store_cache_bytes",
                "Bytes of the ranges of cold blocks in the cache.",
                &[],
            ),
        };
        cache.shrink();
        Ok(cache)
    }

    /// The piece `name`, if it is cached and undamaged.
    pub(super) fn get(&self, name: &str) -> Option<Bytes> {
        // Also if the piece is in memory: its file would otherwise be evicted as unused.
        let here = self.state.lock().touch(name);
        let recent =
            self.recent.lock().iter().find(|(known, _)| known == name).map(|(_, piece)| piece.clone());
        let found = recent.or_else(|| {
            // The disk is read without a lock: other readers go on.
            let piece = Bytes::from(if here { self.read(name) } else { None }?);
            self.remember(name, &piece);
            Some(piece)
        });
        self.hits.add(u64::from(found.is_some()));
        found
    }

    /// Counts pieces that were not cached.
    pub(super) fn missed(&self, pieces: u64) {
        self.misses.add(pieces);
    }

    /// Whether the piece `name` is cached.
    pub(super) fn has(&self, name: &str) -> bool {
        self.state.lock().pieces.contains_key(name)
    }

    fn remember(&self, name: &str, piece: &Bytes) {
        let mut recent = self.recent.lock();
        recent.push_back((name.to_owned(), piece.clone()));
        if recent.len() > COLD_RANGES_IN_MEMORY {
            recent.pop_front();
        }
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = self.disk.read(&self.dir.join(name)).ok()?;
        let content = bytes.len().checked_sub(CRC)?;
        let (piece, crc) = bytes.split_at(content);
        // Half a piece after a crash, or a bad sector. The object store has it, so nothing is lost.
        if crc != seal(name, piece) {
            self.damaged.inc();
            tracing::warn!(piece = name, "a cached range of a cold block is damaged; it is fetched again");
            self.drop_piece(name);
            return None;
        }
        bytes.truncate(content);
        Some(bytes)
    }

    /// Caches a piece. A failed write is ignored: the piece is fetched again when it is needed.
    pub(super) fn put(&self, name: &str, piece: Bytes) {
        self.remember(name, &piece);
        let size = (piece.len() + CRC) as u64;
        // A cache smaller than a piece: only memory is used.
        if size > self.most {
            return;
        }
        let path = self.dir.join(name);
        let mut content = piece.to_vec();
        content.extend_from_slice(&seal(name, &piece));
        // Not synced: a lost piece is fetched again, and a sync would cost more than that.
        let written = self.disk.create(&path).and_then(|mut file| file.append(&content));
        if let Err(error) = written {
            tracing::warn!(piece = name, %error, "a range of a cold block is not cached");
            self.drop_piece(name);
            return;
        }
        self.state.lock().insert(name, size);
        self.shrink();
    }

    /// Removes all pieces whose names begin with `prefix`.
    pub(super) fn forget(&self, prefix: &str) {
        let names: Vec<String> = {
            let state = self.state.lock();
            let from = state.pieces.range(prefix.to_owned()..);
            from.map(|(name, _)| name.clone()).take_while(|name| name.starts_with(prefix)).collect()
        };
        for name in names.iter() {
            self.drop_piece(name);
        }
        self.recent.lock().retain(|(name, _)| !name.starts_with(prefix));
    }

    fn drop_piece(&self, name: &str) {
        let mut state = self.state.lock();
        state.remove(name);
        self.size.set(state.bytes as f64);
        drop(state);
        // A file that stays is found, and counted, at the next start.
        let _ = self.disk.remove(&self.dir.join(name));
    }

    /// Evicts pieces until the cache is within its size.
    fn shrink(&self) {
        loop {
            // The lock is not held while a file is removed.
            let oldest = {
                let state = self.state.lock();
                self.size.set(state.bytes as f64);
                if state.bytes <= self.most {
                    return;
                }
                state.order.values().next().cloned()
            };
            let Some(oldest) = oldest else { return };
            self.drop_piece(&oldest);
        }
    }
}

/// The checksum of a piece, which includes its name: the content of another piece is not accepted.
fn seal(name: &str, piece: &[u8]) -> [u8; CRC] {
    crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), piece).to_le_bytes()
}
