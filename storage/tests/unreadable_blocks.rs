//! Tests a disk that cannot read the files of blocks: queries that need these files get an I/O
//! error that names the file, all others are answered, and everything is answered again when the
//! disk works again.
#![allow(clippy::disallowed_methods, reason = "files are looked at beside the store")]

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, SHARDS, SeriesRef, TimeMs};
use storage::store::{FloatRow, Store, StoreBuilder, StoreError};
use support::hooked::{Call, HookedDisk, Hooks};
use support::world::{SEGMENT, options};
use support::{Sample, contents, labels, open, try_contents};

/// What Linux reports for a bad sector.
const EIO: i32 = 5;

/// Reads of files of blocks with this name fail.
#[derive(Default)]
struct BadSectors {
    file: Mutex<Option<&'static str>>,
    /// How many reads have failed.
    failures: AtomicUsize,
    /// How many more reads fail.
    left: AtomicUsize,
}

impl BadSectors {
    fn fail(&self, file: &'static str, times: usize) {
        *self.file.lock() = Some(file);
        self.left.store(times, SeqCst);
    }

    fn repair(&self) {
        *self.file.lock() = None;
    }
}

impl Hooks for BadSectors {
    fn before(&self, call: &Call) -> io::Result<()> {
        let Call::Read(path) = call else { return Ok(()) };
        let is_bad = self.file.lock().is_some_and(|file| path.ends_with(file));
        if is_bad && self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            self.failures.fetch_add(1, SeqCst);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }
}

/// A store with two blocks, in `dir`, and samples in the head.
fn opened(dir: &Path, disk: &Arc<BadSectors>) -> Arc<Store> {
    let disk = Arc::new(HookedDisk(disk.clone()));
    let (store, replay) = StoreBuilder::new(options(dir.into(), 0), disk, &Metrics::default())
        .manual_log(SEGMENT)
        .open()
        .unwrap();
    assert_eq!(replay.damage, Vec::<String>::new());
    store
}

fn filled(dir: &Path) -> BTreeSet<Sample> {
    let (store, _) = open(dir);
    for t in (0..16).map(|i| i * 5_000) {
        support::append(&store, t, 20);
    }
    assert!(store.maintenance().run_housekeeping(TimeMs::MAX).unwrap() >= 2, "some ranges become blocks");
    let all = contents(&store);
    store.close().unwrap();
    all
}

/// Appends a sample of another series to the head; returns whether it is acknowledged.
fn append(store: &Store, t: TimeMs) -> bool {
    let series: SeriesRef = store.get_or_create_series(&Labels::from_pairs([("__name__", "other")]));
    let Ok(appended) = store.append_rows(&[FloatRow { series, t, v: 1.0 }]) else { return false };
    store.wal().write_queued(true);
    appended.stored == 1
}

/// Number of series that have samples from `from` on.
fn count(store: &Store, from: TimeMs) -> Result<usize, StoreError> {
    let all = [Matcher::equal("__name__", "other")];
    let counts = (0..SHARDS).map(|shard| Ok(store.select(shard, &all, from, TimeMs::MAX)?.labels.len()));
    counts.sum()
}

#[test]
fn a_query_that_cannot_read_a_block_says_which_file_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let all = filled(dir.path());
    // The index of a block this small is in the page cache since the block was opened: see the test
    // of the start.
    let names = ["samples.parquet", "series.parquet"];
    for (file, t) in names.into_iter().zip(80_000..) {
        let disk = Arc::new(BadSectors::default());
        let store = opened(dir.path(), &disk);
        disk.fail(file, usize::MAX);
        let error = try_contents(&store).expect_err("the file cannot be read");
        let StoreError::Io { path, source } = &error else { panic!("{file}: {error:?}") };
        assert!(path.starts_with(dir.path().join("blocks")) && error.to_string().contains(file), "{error}");
        assert!(source.to_string().contains("Input/output error"), "{file}: {source}");
        assert!(disk.failures.load(SeqCst) > 0);
        // Writers, and queries of what is in memory, are not concerned.
        assert!(append(&store, t), "{file}");
        assert_eq!(count(&store, t).unwrap(), 1, "{file}");
        assert!(try_contents(&store).is_err(), "{file}: the error is not taken for an answer");
        disk.repair();
        assert_eq!(try_contents(&store).unwrap(), all, "{file}");
        store.close().unwrap();
    }
}

#[test]
fn one_failed_read_at_the_start_leaves_no_block_out() {
    let dir = tempfile::tempdir().unwrap();
    let all = filled(dir.path());
    for file in
        ["meta.json", "samples.parquet", "clocks.parquet", "terms.tantivy", "postings.tantivy", "series.crc"]
    {
        let disk = Arc::new(BadSectors::default());
        disk.fail(file, 1);
        let store = opened(dir.path(), &disk);
        assert_eq!(disk.failures.load(SeqCst), 1, "{file}");
        assert_eq!(contents(&store), all, "{file}");
        store.close().unwrap();
    }
}

#[test]
fn a_block_that_cannot_be_read_is_not_rewritten_and_keeps_its_samples() {
    let dir = tempfile::tempdir().unwrap();
    let all = filled(dir.path());
    let disk = Arc::new(BadSectors::default());
    let store = opened(dir.path(), &disk);
    disk.fail("samples.parquet", usize::MAX);
    store.admin().delete(&[Matcher::equal("i", "3")], 0, 5_000).unwrap();
    let error = store.maintenance().compact().expect_err("the block is to be rewritten");
    assert!(error.to_string().contains("samples.parquet"), "{error}");
    assert!(append(&store, 80_000));
    disk.repair();
    let left: BTreeSet<Sample> =
        all.into_iter().filter(|(series, t, _)| *series != labels(3).to_string() || *t > 5_000).collect();
    assert_eq!(try_contents(&store).unwrap(), left);
    store.close().unwrap();
    let disk = Arc::new(OsDisk);
    let (store, _) = Store::open(options(dir.path().into(), 0), disk, &Metrics::default()).unwrap();
    assert_eq!(contents(&store), left);
}
