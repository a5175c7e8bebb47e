//! An object store in memory that can be unreachable, fail at a given request, or return damaged
//! objects.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use storage::disk::Disk;
use storage::metrics::Metrics;
use storage::object_store::{ObjectStorage, UploadReader};
use storage::store::{ColdOptions, Store, StoreBuilder, StoreOptions};

/// The content of the object store, which survives a process.
#[derive(Default)]
pub struct Bucket {
    pub objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Whether the object store is unreachable.
    pub away: AtomicBool,
    /// Whether returned objects are damaged.
    pub damaging: AtomicBool,
    pub gets: AtomicU64,
    /// The largest number of concurrent requests.
    pub together: AtomicU64,
}

impl Bucket {
    /// The names of the blocks in the bucket.
    pub fn blocks(&self) -> Vec<String> {
        let objects = self.objects.lock();
        let metas = objects.keys().filter_map(|name| name.strip_suffix("/meta.json"));
        metas.map(str::to_owned).collect()
    }
}

/// A bucket as one process sees it.
pub struct Memory {
    pub bucket: Arc<Bucket>,
    /// The number of requests that succeed before one fails, or all fail.
    pub left: Arc<AtomicI64>,
    /// Whether only one request fails.
    pub once: bool,
}

impl Memory {
    pub fn over(bucket: &Arc<Bucket>) -> Arc<Memory> {
        Arc::new(Memory { bucket: bucket.clone(), left: Arc::new(i64::MAX.into()), once: false })
    }

    fn step(&self) -> io::Result<()> {
        let left = self.left.fetch_sub(1, SeqCst);
        let fails = if self.once { left == 0 } else { left <= 0 };
        if fails || self.bucket.away.load(SeqCst) {
            Err(io::Error::other("connection refused"))
        } else {
            Ok(())
        }
    }
}

impl ObjectStorage for Memory {
    fn address(&self) -> &str {
        "s3://bucket/prefix"
    }
    fn put(&self, name: &str, bytes: u64, content: &UploadReader) -> io::Result<()> {
        self.step()?;
        let content = content(0, bytes as usize)?;
        self.bucket.objects.lock().insert(name.to_owned(), content);
        Ok(())
    }
    fn create(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.step()?;
        let mut objects = self.bucket.objects.lock();
        if objects.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        objects.insert(name.to_owned(), content.to_vec());
        Ok(())
    }
    fn get(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.step()?;
        self.bucket.gets.fetch_add(1, SeqCst);
        let objects = self.bucket.objects.lock();
        let object = objects.get(name).ok_or(io::ErrorKind::NotFound)?;
        let range = range.start as usize..range.end as usize;
        let mut bytes = object.get(range).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec();
        if self.bucket.damaging.load(SeqCst) {
            for byte in bytes.iter_mut() {
                *byte ^= 1;
            }
        }
        Ok(bytes)
    }
    fn get_many(&self, wanted: &[(String, Range<u64>)]) -> Vec<io::Result<Vec<u8>>> {
        self.bucket.together.fetch_max(wanted.len() as u64, SeqCst);
        wanted.iter().map(|(name, range)| self.get(name, range.clone())).collect()
    }
    fn len_of(&self, name: &str) -> io::Result<Option<u64>> {
        self.step()?;
        Ok(self.bucket.objects.lock().get(name).map(|object| object.len() as u64))
    }
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.step()?;
        let objects = self.bucket.objects.lock();
        let inside = |name: &str| {
            folder.is_empty() || name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        };
        let found = objects.iter().filter(|(name, _)| inside(name));
        Ok(found.map(|(name, object)| (name.clone(), object.len() as u64)).collect())
    }
    fn delete(&self, name: &str) -> io::Result<()> {
        self.step()?;
        self.bucket.objects.lock().remove(name);
        Ok(())
    }
}

/// The age at which blocks move in these tests, ms.
pub const AFTER: i64 = 40_000;

/// Opens a store whose old blocks are in `objects`.
pub fn open_far(dir: &Path, disk: Arc<dyn Disk>, objects: Arc<dyn ObjectStorage>) -> (Arc<Store>, Metrics) {
    let metrics = Metrics::default();
    let options = StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 5,
        block_range_ms: super::RANGE,
        out_of_order_ms: 29_000,
    };
    let mark = "this directory".to_owned();
    let far = ColdOptions { objects, after_ms: AFTER, cache_bytes: 1 << 20, mark };
    let (store, _) = StoreBuilder::new(options, disk, &metrics).cold_storage(Some(far)).open().unwrap();
    (store, metrics)
}
