//! Tests cold blocks: they are moved, read and removed, and no sample is lost or read twice after
//! kills, failures, and outages of the object store.
#![allow(clippy::disallowed_methods, reason = "files are looked at and copied beside the store")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Matcher, SHARDS};
use storage::store::{ErrorClass, Retention, SeriesRetention, Store, StoreBuilder, StoreError};

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use support::hooked::HookedDisk;
use support::objects::{AFTER, Bucket, Memory, open_far};
use support::{Mortal, Sample, append, contents, copy, files, names, open, read, selections};

const NOW: i64 = 100_000;
/// The number of objects of a block: its files and `meta.json`.
const OBJECTS: usize = 10;

/// Fills seven blocks and the head with three series; returns the samples. Three blocks are old
/// enough to move.
fn seven_blocks(dir: &Path) -> BTreeSet<Sample> {
    let (store, _) = open(dir);
    for t in 1..=100 {
        append(&store, t * 1_000, 3);
    }
    assert_eq!(store.maintenance().run_housekeeping(NOW).unwrap(), 7);
    let all = contents(&store);
    store.close().unwrap();
    all
}

fn far(dir: &Path, bucket: &Arc<Bucket>) -> (Arc<Store>, Metrics) {
    open_far(dir, Arc::new(OsDisk), Memory::over(bucket))
}

/// All samples, label names and label values, by each kind of query.
fn everything(store: &Store) -> (BTreeSet<Sample>, Vec<String>, Vec<String>) {
    let all = [vec![Matcher::equal("__name__", "m")]];
    let values = store.label_values("i", &all, i64::MIN, i64::MAX).unwrap();
    (contents(store), store.label_names(&[], i64::MIN, i64::MAX).unwrap(), values)
}

/// Reads all samples in `from..=to`; returns their number, or the error.
fn ask(store: &Store, from: i64, to: i64) -> Result<usize, StoreError> {
    let mut ts = Vec::new();
    let mut vs = Vec::new();
    for shard in 0..SHARDS {
        let selection = store.select(shard, &[Matcher::equal("__name__", "m")], from, to)?;
        for i in 0..selection.labels.len() {
            selection.read(i, from, to, &mut ts, &mut vs)?;
        }
    }
    Ok(ts.len())
}

#[test]
fn old_blocks_move_and_answer_as_before_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    seven_blocks(dir.path());
    let (store, metrics) = far(dir.path(), &bucket);
    let before = everything(&store);
    let reader = selections(&store);
    assert!(store.status().incomplete_reason().is_some(), "nobody asked yet what is there");
    // The samples of 0 s to 59 s are in six blocks; the newest sample is at 100 s.
    assert_eq!(store.maintenance().move_to_cold(NOW).unwrap(), 6);
    assert_eq!(
        (store.maintenance().move_to_cold(NOW).unwrap(), names(dir.path()).len(), bucket.blocks().len()),
        (0, 1, 6)
    );
    assert_eq!(store.status().incomplete_reason(), None);
    assert_eq!(everything(&store), before);
    assert_eq!(read(&reader), before.0, "who was reading goes on");
    let gauge = |metrics: &Metrics, name| metrics.gauge(name, "", &[]).get();
    assert_eq!(gauge(&metrics, "perennial_object_store_blocks"), 6.0);
    assert_eq!(gauge(&metrics, "prometheus_tsdb_blocks_loaded"), 7.0);
    let here: u64 = files(&dir.path().join("blocks")).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(gauge(&metrics, "prometheus_tsdb_storage_blocks_bytes"), here as f64);
    store.close().unwrap();
    let (store, metrics) = far(dir.path(), &bucket);
    let asked = bucket.gets.load(SeqCst);
    assert_eq!(everything(&store), before, "known without asking what is there");
    assert_eq!(bucket.gets.load(SeqCst), asked, "all of it is in the cache");
    assert!(metrics.counter("perennial_object_store_cache_hits_total", "", &[]).get() > 10);
    store.maintenance().reconcile_cold_storage().unwrap();
    assert_eq!((everything(&store), store.status().incomplete_reason()), (before, None));
}

#[test]
fn a_store_that_is_away_is_an_error_that_names_the_block_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    seven_blocks(dir.path());
    let (store, metrics) = far(dir.path(), &bucket);
    let before = everything(&store);
    store.maintenance().move_to_cold(NOW).unwrap();
    store.close().unwrap();
    // The object store is unreachable at the start, and the cache is empty.
    bucket.away.store(true, SeqCst);
    std::fs::remove_dir_all(dir.path().join("objects/cache")).unwrap();
    assert_eq!(metrics.gauge("perennial_object_store_up", "", &[]).get(), 1.0);
    let (store, metrics) = far(dir.path(), &bucket);
    assert!(store.maintenance().reconcile_cold_storage().is_err());
    let why = store.status().incomplete_reason().unwrap();
    assert!(why.contains("s3://bucket/prefix") && why.contains("connection refused"), "{why}");
    assert_eq!(metrics.gauge("perennial_object_store_up", "", &[]).get(), 0.0);
    let error = ask(&store, 0, i64::MAX).unwrap_err().to_string();
    assert!(error.contains("s3://bucket/prefix/0_10000_") && error.contains("connection refused"), "{error}");
    let error = store.label_values("i", &[], 0, i64::MAX).unwrap_err().to_string();
    assert!(error.contains("s3://bucket/prefix/0_10000_"), "{error}");
    assert_eq!(ask(&store, 60_000, i64::MAX).unwrap(), 41 * 3, "what is here is answered");
    append(&store, 101_000, 3);
    store.maintenance().run_housekeeping(NOW).unwrap();
    assert!(store.maintenance().move_to_cold(NOW).is_err());
    // The object store is reachable again.
    bucket.away.store(false, SeqCst);
    assert_eq!(ask(&store, 0, 100_000).unwrap(), 300);
    store.maintenance().reconcile_cold_storage().unwrap();
    assert_eq!((store.status().incomplete_reason(), ask(&store, 0, 100_000).unwrap()), (None, 300));
    assert_eq!(everything(&store).1, before.1);
}

#[test]
fn with_an_empty_cache_the_files_of_several_blocks_are_fetched_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    let all = seven_blocks(dir.path());
    let (store, _) = far(dir.path(), &bucket);
    assert_eq!(store.maintenance().move_to_cold(NOW).unwrap(), 6);
    store.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("objects/cache")).unwrap();
    let (store, metrics) = far(dir.path(), &bucket);
    bucket.together.store(0, SeqCst);
    let asked = bucket.gets.load(SeqCst);
    let labels = [("operation", "get")];
    let counted = metrics.counter("perennial_object_store_requests_total", "", &labels).get();
    assert_eq!(contents(&store), all);
    // Four blocks at a time, 32 requests.
    assert_eq!(bucket.together.load(SeqCst), 32);
    let asked = bucket.gets.load(SeqCst) - asked;
    assert_eq!(asked as usize, 6 * (OBJECTS - 1), "each small file once");
    let now = metrics.counter("perennial_object_store_requests_total", "", &labels).get();
    assert_eq!(now - counted, asked, "each request is counted");
    let misses = metrics.counter("perennial_object_store_cache_misses_total", "", &[]);
    assert_eq!(misses.get(), asked, "each piece that was fetched is counted");
    bucket.gets.store(0, SeqCst);
    assert_eq!((contents(&store), bucket.gets.load(SeqCst)), (all, 0), "it is all here now");
}

#[test]
fn without_a_configured_store_far_blocks_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    seven_blocks(dir.path());
    let (store, _) = far(dir.path(), &bucket);
    store.maintenance().move_to_cold(NOW).unwrap();
    store.close().unwrap();
    let (store, _) = open(dir.path());
    let error = ask(&store, 0, 5_000).unwrap_err().to_string();
    assert!(error.contains("storage.objects") && error.contains("0_10000_"), "{error}");
    assert_eq!(ask(&store, 60_000, i64::MAX).unwrap(), 41 * 3);
}

#[test]
fn a_new_data_directory_finds_the_blocks_and_a_second_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    let all = seven_blocks(dir.path());
    let (store, _) = far(dir.path(), &bucket);
    store.maintenance().move_to_cold(NOW).unwrap();
    // As after the loss of the disk, except for the mark.
    let new = tempfile::tempdir().unwrap();
    let (store, _) = far(new.path(), &bucket);
    assert_eq!(ask(&store, 0, 59_999).unwrap(), 0);
    assert!(store.status().incomplete_reason().is_some(), "and it says that it does not know yet");
    store.maintenance().reconcile_cold_storage().unwrap();
    let old: BTreeSet<Sample> = all.iter().filter(|s| s.1 < 60_000).cloned().collect();
    assert_eq!((contents(&store), store.status().incomplete_reason()), (old, None));
    let foreign = tempfile::tempdir().unwrap();
    std::fs::create_dir(foreign.path().join("objects")).unwrap();
    std::fs::write(foreign.path().join("objects/mark"), "another directory").unwrap();
    let (store, _) = far(foreign.path(), &bucket);
    let error = store.maintenance().reconcile_cold_storage().unwrap_err();
    assert!(matches!(error, StoreError::OwnedByOther { .. }), "{error}");
    assert!(
        error.to_string().contains("another data directory")
            && store.maintenance().move_to_cold(NOW).is_err(),
        "{error}"
    );
    assert!(store.status().incomplete_reason().is_some_and(|why| why.contains("another data directory")));
}

#[test]
fn damage_in_the_cache_is_noticed_and_fetched_anew_and_damage_in_the_store_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    seven_blocks(dir.path());
    let (store, _) = far(dir.path(), &bucket);
    store.maintenance().move_to_cold(NOW).unwrap();
    let before = everything(&store);
    store.close().unwrap();
    let pieces = files(&dir.path().join("objects/cache"));
    assert!(pieces.len() > 20);
    for (at, piece) in pieces.iter().enumerate() {
        let mut bytes = std::fs::read(piece).unwrap();
        match at % 3 {
            0 => bytes.truncate(bytes.len() / 2),
            1 => *bytes.last_mut().unwrap() ^= 1,
            _ => bytes[0] ^= 1,
        }
        std::fs::write(piece, bytes).unwrap();
    }
    let (store, metrics) = far(dir.path(), &bucket);
    assert_eq!(everything(&store), before);
    let damaged = metrics.counter("perennial_object_store_cache_damaged_total", "", &[]).get();
    assert_eq!(damaged, pieces.len() as u64);
    store.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("objects/cache")).unwrap();
    bucket.damaging.store(true, SeqCst);
    let (store, _) = far(dir.path(), &bucket);
    let error = ask(&store, 0, i64::MAX).unwrap_err().to_string();
    assert!(error.contains("checksum does not match"), "{error}");
}

#[test]
fn what_comes_back_differently_does_not_move() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    let all = seven_blocks(dir.path());
    let (store, _) = far(dir.path(), &bucket);
    store.maintenance().reconcile_cold_storage().unwrap();
    bucket.damaging.store(true, SeqCst);
    assert_eq!(store.maintenance().move_to_cold(NOW).unwrap(), 0);
    assert_eq!((bucket.blocks().len(), names(dir.path()).len(), contents(&store)), (0, 7, all));
}

#[test]
fn the_cache_keeps_to_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    seven_blocks(dir.path());
    let (store, metrics) = far(dir.path(), &bucket);
    store.maintenance().move_to_cold(NOW).unwrap();
    let before = contents(&store);
    store.close().unwrap();
    let size = |files: Vec<std::path::PathBuf>| -> u64 {
        files.iter().map(|file| file.metadata().unwrap().len()).sum()
    };
    let cache = dir.path().join("objects/cache");
    assert_eq!(
        metrics.gauge("perennial_object_store_cache_bytes", "", &[]).get(),
        size(files(&cache)) as f64
    );
    let options = storage::store::StoreOptions {
        dir: dir.path().into(),
        wal_sync_interval_ms: 5,
        block_range_ms: support::RANGE,
        out_of_order_ms: 29_000,
    };
    for cache_bytes in [8_000, 0] {
        let far = storage::store::ColdOptions {
            objects: Memory::over(&bucket),
            after_ms: AFTER,
            cache_bytes,
            mark: String::new(),
        };
        let (store, _) = StoreBuilder::new(options.clone(), Arc::new(OsDisk), &Metrics::default())
            .cold_storage(Some(far))
            .open()
            .unwrap();
        assert!(size(files(&cache)) <= cache_bytes, "{}", size(files(&cache)));
        assert_eq!(contents(&store), before);
        assert!(size(files(&cache)) <= cache_bytes, "{}", size(files(&cache)));
        store.close().unwrap();
    }
}

/// The state that survives the process: the data directory and the bucket.
fn survivors(dir: &Path, bucket: &Bucket) -> (tempfile::TempDir, Arc<Bucket>) {
    let after = tempfile::tempdir().unwrap();
    copy(dir, after.path());
    let objects = parking_lot::Mutex::new(bucket.objects.lock().clone());
    (after, Arc::new(Bucket { objects, ..Bucket::default() }))
}

/// Kills `work`, or makes it fail, after each possible number of steps of the disk and the object
/// store together. `check` checks what a new process finds, and what the old one has once
/// everything works again.
fn at_every_step(
    origin: &(tempfile::TempDir, Arc<Bucket>),
    once: bool,
    work: &dyn Fn(&Store) -> Result<usize, StoreError>,
    check: &dyn Fn(&Store, &Path, &Bucket, &str),
) -> i64 {
    let mut steps = 0;
    loop {
        let (dir, bucket) = survivors(origin.0.path(), &origin.1);
        let mortal = Arc::new(Mortal(i64::MAX.into()));
        let memory = Memory { bucket: bucket.clone(), left: Arc::new(i64::MAX.into()), once };
        let left = memory.left.clone();
        let (store, _) = open_far(dir.path(), Arc::new(HookedDisk(mortal.clone())), Arc::new(memory));
        store.maintenance().reconcile_cold_storage().unwrap();
        // Failures affect only the object store, a kill affects both at once.
        left.store(steps, SeqCst);
        if !once {
            mortal.0.store(steps, SeqCst);
        }
        let done = work(&store).is_ok();
        let (after, objects) = survivors(dir.path(), &bucket);
        let (again, _) = far(after.path(), &objects);
        check(&again, after.path(), &objects, &format!("killed after {steps} steps"));
        left.store(i64::MAX, SeqCst);
        mortal.0.store(i64::MAX, SeqCst);
        check(&store, dir.path(), &bucket, &format!("failed after {steps} steps"));
        if done {
            return steps;
        }
        steps += 1;
    }
}

/// A time at which only two of the seven blocks are old enough to move.
const EARLIER: i64 = 60_000;

#[test]
fn a_move_killed_or_failing_at_any_step_loses_nothing_and_is_done_later() {
    let origin = (tempfile::tempdir().unwrap(), Arc::new(Bucket::default()));
    let all = seven_blocks(origin.0.path());
    far(origin.0.path(), &origin.1).0.maintenance().reconcile_cold_storage().unwrap();
    for once in [false, true] {
        let work = |store: &Store| store.maintenance().move_to_cold(EARLIER);
        let steps = at_every_step(&origin, once, &work, &|store, dir, bucket, when| {
            assert!(contents(store) == all, "{when}");
            store.maintenance().run_housekeeping(NOW).unwrap();
            store.maintenance().move_to_cold(EARLIER).unwrap();
            assert!(contents(store) == all, "{when}, and moved");
            assert_eq!((names(dir).len(), bucket.blocks().len()), (5, 2), "{when}");
            let objects = bucket.objects.lock();
            assert_eq!(
                objects.len(),
                1 + 2 * OBJECTS,
                "nothing is left of interrupted uploads, {when}: {:?}",
                objects.keys()
            );
        });
        assert!(steps >= 30, "{steps} steps");
    }
}

#[test]
fn retention_removes_far_blocks_whole_at_whatever_step_it_is_killed() {
    let origin = (tempfile::tempdir().unwrap(), Arc::new(Bucket::default()));
    let all = seven_blocks(origin.0.path());
    far(origin.0.path(), &origin.1).0.maintenance().move_to_cold(NOW).unwrap();
    let work = |store: &Store| {
        store.retention().set(Retention { time_ms: 61_000, size_bytes: 0 });
        store.maintenance().run_housekeeping(NOW)?;
        store.maintenance().reconcile_cold_storage().map(|()| 0)
    };
    let steps = at_every_step(&origin, false, &work, &|store, dir, bucket, when| {
        let found = contents(store);
        for from in (0..40).step_by(10) {
            let of_block = |s: &&Sample| (from * 1_000..from * 1_000 + 10_000).contains(&s.1);
            let there = found.iter().filter(of_block).count();
            assert!(there == 0 || there == all.iter().filter(of_block).count(), "half a block, {when}");
        }
        work(store).unwrap();
        // The samples of 0 s to 29 s ended more than 61 s ago.
        let want: BTreeSet<Sample> = all.iter().filter(|s| s.1 >= 30_000 || s.1 < 0).cloned().collect();
        assert!(contents(store) == want, "{when}");
        assert_eq!(bucket.blocks().len(), 3, "{when}");
        assert_eq!(bucket.objects.lock().len(), 3 * OBJECTS + 1, "{when}");
        assert_eq!(
            files(&dir.join("objects")).iter().filter(|f| f.extension().is_some_and(|e| e == "json")).count(),
            3
        );
    });
    assert!(steps > 15, "{steps} steps");
}

#[test]
fn the_retention_size_counts_what_is_here_and_moves_it() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    let all = seven_blocks(dir.path());
    let (store, metrics) = far(dir.path(), &bucket);
    store.maintenance().move_to_cold(NOW).unwrap();
    store.retention().set(Retention { time_ms: 0, size_bytes: 1 });
    store.maintenance().run_housekeeping(NOW).unwrap();
    assert_eq!((names(dir.path()).len(), bucket.blocks().len()), (1, 6), "it can move");
    assert_eq!(store.maintenance().move_to_cold(NOW).unwrap(), 1);
    store.maintenance().run_housekeeping(NOW).unwrap();
    assert_eq!((names(dir.path()).len(), bucket.blocks().len()), (0, 7));
    assert!(contents(&store) == all);
    assert_eq!(metrics.counter("prometheus_tsdb_size_retentions_total", "", &[]).get(), 0);
}

#[test]
fn the_retention_size_removes_what_cannot_move() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    seven_blocks(dir.path());
    let (store, metrics) = far(dir.path(), &bucket);
    store.maintenance().reconcile_cold_storage().unwrap();
    store.retention().set(Retention { time_ms: 0, size_bytes: 1 });
    let away = |away| bucket.away.store(away, SeqCst);
    away(true);
    assert!(store.maintenance().move_to_cold(NOW).is_err());
    away(false);
    // The housekeeping detects that the object store is back, although no query does.
    store.maintenance().reconcile_cold_storage().unwrap();
    store.maintenance().run_housekeeping(NOW).unwrap();
    assert_eq!(names(dir.path()).len(), 7, "it answers again");
    away(true);
    assert!(store.maintenance().move_to_cold(NOW).is_err());
    store.maintenance().run_housekeeping(NOW).unwrap();
    assert_eq!((names(dir.path()).len(), bucket.blocks().len()), (0, 0));
    assert_eq!(metrics.counter("prometheus_tsdb_size_retentions_total", "", &[]).get(), 1);
}

#[test]
fn deletions_hold_for_far_blocks_and_are_carried_out_there() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    let all = seven_blocks(dir.path());
    let (store, _) = far(dir.path(), &bucket);
    store.maintenance().move_to_cold(NOW).unwrap();
    bucket.away.store(true, SeqCst);
    store.admin().delete(&[Matcher::equal("i", "1")], 15_000, 25_000).unwrap();
    bucket.away.store(false, SeqCst);
    let gone = |s: &Sample| s.0.contains("i=\"1\"") && (15_000..=25_000).contains(&s.1);
    let want: BTreeSet<Sample> = all.iter().filter(|s| !gone(s)).cloned().collect();
    assert!(want.len() < all.len());
    assert!(contents(&store) == want);
    store.close().unwrap();
    let (store, _) = far(dir.path(), &bucket);
    assert!(contents(&store) == want, "over a restart");
    let before = bucket.blocks();
    assert_eq!(store.admin().clean_tombstones().unwrap(), 2, "two of three blocks have such samples");
    assert!(contents(&store) == want);
    store.maintenance().move_to_cold(NOW).unwrap();
    assert!(contents(&store) == want);
    let after = bucket.blocks();
    assert_eq!((after.len(), names(dir.path()).len()), (6, 1));
    assert_eq!(before.iter().filter(|name| after.contains(name)).count(), 4);
    let left = std::fs::read_to_string(dir.path().join("tombstones")).unwrap();
    assert_eq!(left.lines().count(), 2, "{left}");
}

#[test]
fn cleaning_far_blocks_killed_at_any_step_loses_and_revives_nothing() {
    let origin = (tempfile::tempdir().unwrap(), Arc::new(Bucket::default()));
    let all = seven_blocks(origin.0.path());
    let (store, _) = far(origin.0.path(), &origin.1);
    assert_eq!(store.maintenance().move_to_cold(EARLIER).unwrap(), 2);
    store.admin().delete(&[Matcher::equal("i", "1")], 5_000, 15_000).unwrap();
    store.admin().delete(&[], 10_000, 19_999).unwrap();
    let gone = |s: &Sample| {
        s.0.contains("i=\"1\"") && (5_000..=15_000).contains(&s.1) || (10_000..20_000).contains(&s.1)
    };
    let want: BTreeSet<Sample> = all.iter().filter(|s| !gone(s)).cloned().collect();
    assert!(contents(&store) == want);
    store.close().unwrap();
    let clean = |store: &Store| {
        store.admin().clean_tombstones().and_then(|_| store.maintenance().move_to_cold(EARLIER))
    };
    let steps = at_every_step(&origin, false, &clean, &|store, dir, bucket, when| {
        assert!(contents(store) == want, "{when}");
        store.maintenance().run_housekeeping(NOW).unwrap();
        store.admin().clean_tombstones().unwrap();
        store.maintenance().move_to_cold(EARLIER).unwrap();
        assert!(contents(store) == want, "{when}, and cleaned");
        assert_eq!((names(dir).len(), bucket.blocks().len()), (5, 1), "{when}");
    });
    assert!(steps >= 30, "{steps} steps");
}

#[test]
fn a_snapshot_has_what_is_here() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    let all = seven_blocks(dir.path());
    let (store, _) = far(dir.path(), &bucket);
    store.maintenance().move_to_cold(NOW).unwrap();
    let snapshot = dir.path().join("snapshots/one");
    store.admin().snapshot(&snapshot, true).unwrap();
    let want: BTreeSet<Sample> = all.iter().filter(|s| s.1 >= 60_000).cloned().collect();
    assert_eq!(contents(&open(&snapshot).0), want);
}

#[test]
fn retention_of_some_series_trims_far_blocks_and_looks_at_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    let all = seven_blocks(dir.path());
    let (store, _) = far(dir.path(), &bucket);
    store.maintenance().move_to_cold(NOW).unwrap();
    let rule =
        |name: &str, value, time_ms| SeriesRetention { matchers: vec![Matcher::equal(name, value)], time_ms };
    store.retention().set_series(vec![rule("i", "1", 70_000), rule("nothing", "here", 50_000)]);
    store.maintenance().run_housekeeping(NOW).unwrap();
    assert_eq!(
        (store.maintenance().drop_expired_series(NOW).unwrap(), bucket.blocks().len()),
        (3, 6),
        "0 s to 29 s ended more than 70 s ago"
    );
    let gone = |s: &Sample| s.0.contains("i=\"1\"") && s.1 < 30_000;
    let want: BTreeSet<Sample> = all.iter().filter(|s| !gone(s)).cloned().collect();
    assert!(contents(&store) == want);
    store.maintenance().move_to_cold(NOW).unwrap();
    assert!(contents(&store) == want);
    // Blocks that were checked are not fetched again, even if they are no longer cached.
    assert_eq!(store.maintenance().drop_expired_series(NOW).unwrap(), 0);
    bucket.away.store(true, SeqCst);
    assert_eq!(store.maintenance().drop_expired_series(NOW).unwrap(), 0);
    bucket.away.store(false, SeqCst);
    // If a block contains only expired series, the block is removed.
    store.retention().set_series(vec![rule("__name__", "m", 50_000)]);
    store.maintenance().run_housekeeping(NOW).unwrap();
    assert!(contents(&store) == want, "nothing is fetched to know it");
    assert_eq!(store.maintenance().drop_expired_series(NOW).unwrap(), 5);
    let want: BTreeSet<Sample> = want.into_iter().filter(|s| s.1 >= 50_000).collect();
    assert!(contents(&store) == want);
}

#[test]
fn an_object_store_that_is_away_for_a_moment_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Bucket::default());
    let all = seven_blocks(dir.path());
    let (store, _) = far(dir.path(), &bucket);
    store.maintenance().move_to_cold(NOW).unwrap();
    // This opens the blocks, and reads no samples.
    store.label_values("i", &[vec![Matcher::equal("__name__", "m")]], i64::MIN, i64::MAX).unwrap();
    let cache = files(&dir.path().join("objects/cache"));
    let samples = cache.iter().filter(|path| path.to_string_lossy().contains("samples.parquet"));
    for path in samples {
        std::fs::remove_file(path).unwrap();
    }
    let matchers = vec![Matcher::equal("i", "1")];
    store.retention().set_series(vec![SeriesRetention { matchers, time_ms: 70_000 }]);
    bucket.away.store(true, SeqCst);
    let failed = store.maintenance().drop_expired_series(NOW).unwrap_err();
    assert_eq!(failed.class(), ErrorClass::Io, "{failed}");
    let text = failed.to_string();
    assert!(text.starts_with("s3://bucket/prefix/") && text.contains(".parquet: "), "which object: {text}");
    assert!(text.ends_with("connection refused"), "and why: {text}");
    let read = |i: &str| {
        let matchers = [Matcher::equal("i", i)];
        (0..SHARDS).try_for_each(|shard| {
            let selection = store.select(shard, &matchers, i64::MIN, i64::MAX)?;
            (0..selection.labels.len())
                .try_for_each(|at| selection.read(at, i64::MIN, i64::MAX, &mut Vec::new(), &mut Vec::new()))
        })
    };
    assert_eq!(read("2").expect_err("no sample can be fetched").class(), ErrorClass::Io, "for a query, too");
    bucket.away.store(false, SeqCst);
    assert_eq!(
        store.maintenance().drop_expired_series(NOW).unwrap(),
        3,
        "0 s to 29 s ended more than 70 s ago"
    );
    let gone = |s: &Sample| s.0.contains("i=\"1\"") && s.1 < 30_000;
    assert!(contents(&store) == all.iter().filter(|s| !gone(s)).cloned().collect());
}
