//! Tests data directories with cold blocks, and the content of the object store, of every format
//! version (`docs/format/objects.md`): each is opened and compared with its original content.
//! Fixtures must never be changed.
#![allow(clippy::disallowed_methods, reason = "files are looked at and copied beside the store")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::store::{Retention, Store};

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use support::objects::{Bucket, Memory, open_far};
use support::{append, contents, copy, files, names, open};

const NOW: i64 = 60_000;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cold_fixtures")
}

fn far(dir: &Path, bucket: &Arc<Bucket>) -> (Arc<Store>, Metrics) {
    open_far(dir, Arc::new(OsDisk), Memory::over(bucket))
}

fn text(store: &Store) -> String {
    contents(store).iter().fold(String::new(), |mut text, sample| {
        writeln!(text, "{sample:?}").unwrap();
        text
    })
}

/// The files below a directory as objects.
fn bucket(dir: &Path) -> Bucket {
    let bucket = Bucket::default();
    for file in files(dir) {
        let name = file.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
        bucket.objects.lock().insert(name, std::fs::read(&file).unwrap());
    }
    bucket
}

#[test]
fn far_blocks_of_every_version_are_what_they_were() {
    let mut opened = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let origin = entry.unwrap().path();
        let dir = tempfile::tempdir().unwrap();
        copy(&origin.join("data"), dir.path());
        let bucket = Arc::new(bucket(&origin.join("bucket")));
        let wanted = std::fs::read_to_string(origin.join("contents.txt")).unwrap();
        assert_eq!(bucket.blocks().len(), 2, "one of them has to go");
        let (store, metrics) = far(dir.path(), &bucket);
        assert!(text(&store) == wanted, "{}: it holds something else", origin.display());
        assert_eq!(bucket.gets.load(SeqCst), 0, "its pieces are in the cache");
        assert_eq!(metrics.counter("perennial_object_store_cache_damaged_total", "", &[]).get(), 0);
        store.maintenance().reconcile_cold_storage().unwrap();
        assert_eq!(
            (store.status().incomplete_reason(), bucket.blocks().len(), names(dir.path()).len()),
            (None, 1, 1)
        );
        store.close().unwrap();
        // A new data directory that only has the object store.
        std::fs::remove_dir_all(dir.path().join("objects")).unwrap();
        std::fs::create_dir(dir.path().join("objects")).unwrap();
        std::fs::copy(origin.join("data/objects/mark"), dir.path().join("objects/mark")).unwrap();
        let (store, _) = far(dir.path(), &bucket);
        store.maintenance().reconcile_cold_storage().unwrap();
        assert!(text(&store) == wanted, "{}: the object store holds something else", origin.display());
        opened += 1;
    }
    assert!(opened >= 1);
}

#[test]
#[ignore = "writes a fixture, once"]
fn write() {
    let origin = fixtures().join(std::env::var("FIXTURE").unwrap());
    let dir = origin.join("data");
    let bucket = Arc::new(Bucket::default());
    std::fs::create_dir_all(&dir).unwrap();
    let (store, _) = open(&dir);
    for t in 1..=60 {
        append(&store, t * 1_000, 3);
    }
    assert_eq!(store.maintenance().run_housekeeping(NOW).unwrap(), 3);
    store.close().unwrap();
    let (store, _) = far(&dir, &bucket);
    assert_eq!(store.maintenance().move_to_cold(NOW).unwrap(), 2);
    text(&store);
    bucket.away.store(true, SeqCst);
    store.retention().set(Retention { time_ms: 45_000, size_bytes: 0 });
    store.maintenance().run_housekeeping(NOW).unwrap();
    std::fs::write(origin.join("contents.txt"), text(&store)).unwrap();
    store.close().unwrap();
    for (name, content) in bucket.objects.lock().iter() {
        let path = origin.join("bucket").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}
