//! Tests retention: blocks are removed by time and by size, completely or not at all, after kills
//! and failures at any step.
#![allow(clippy::disallowed_methods, reason = "files are looked at and copied beside the store")]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use storage::block::{Block, BlockMeta};
use storage::store::{Retention, Store};

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use support::hooked::HookedDisk;
use support::{Mortal, Sample, append, contents, copy, files, metas, names, open, open_on, read, selections};

fn samples_of(meta: &BlockMeta) -> BTreeSet<Sample> {
    let mut all = BTreeSet::new();
    for series in Block::open(Arc::new(storage::disk::OsDisk), &meta.dir)
        .unwrap()
        .select(&[], i64::MIN, i64::MAX)
        .unwrap()
    {
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        series.read(i64::MIN, i64::MAX, &mut ts, &mut vs).unwrap();
        all.extend(ts.iter().zip(&vs).map(|(t, v)| (series.labels().to_string(), *t, v.to_bits())));
    }
    all
}

fn bytes(dir: &Path) -> u64 {
    files(dir).iter().map(|f| f.metadata().unwrap().len()).sum()
}

/// The names of the remaining blocks, by a simple implementation of the rules that removes one
/// block at a time.
fn staying(dir: &Path, mut blocks: Vec<BlockMeta>, retention: Retention, now: i64) -> BTreeSet<String> {
    blocks.sort_by_key(|b| (b.max_time, b.min_time, b.dir.clone()));
    while let Some(oldest) = blocks.first() {
        let total = bytes(&dir.join("wal")) + blocks.iter().map(|b| bytes(&b.dir)).sum::<u64>();
        let old = retention.time_ms > 0 && oldest.max_time < now - retention.time_ms;
        if !old && (retention.size_bytes == 0 || total <= retention.size_bytes) {
            break;
        }
        blocks.remove(0);
    }
    blocks.iter().map(|b| b.name().to_string()).collect()
}

#[derive(Clone, Debug)]
enum Step {
    /// Advances the time; the number of series with a sample.
    Append(i64, usize),
    /// A sample this much in the past.
    Late(i64),
    /// Housekeeping with a retention time, and a retention size in percent of the present size (0:
    /// none).
    Maintain(i64, u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (1i64..4_000, 1usize..6).prop_map(|(dt, n)| Step::Append(dt, n)),
        4 => (1i64..25_000).prop_map(Step::Late),
        3 => (prop_oneof![Just(0), 0i64..80_000], prop_oneof![Just(0), 1u64..130])
            .prop_map(|(time, percent)| Step::Maintain(time, percent)),
        1 => Just(Step::Reopen),
    ]
}

/// Runs housekeeping without limits, so that all complete ranges are blocks, then with limits.
fn maintain_and_check(dir: &Path, store: &Store, now: i64, time_ms: i64, percent: u64) {
    store.retention().set(Retention::default());
    store.maintenance().run_housekeeping(now).unwrap();
    let before = contents(store);
    let blocks = metas(dir);
    let reader = selections(store);
    let all = bytes(&dir.join("wal")) + bytes(&dir.join("blocks"));
    let retention = Retention { time_ms, size_bytes: all * percent / 100 };
    let stay = staying(dir, blocks.clone(), retention, now);
    let mut kept = BTreeSet::new();
    let mut gone = BTreeSet::new();
    for block in &blocks {
        if stay.contains(&block.name().to_string()) {
            kept.extend(samples_of(block))
        } else {
            gone.extend(samples_of(block))
        }
    }
    store.retention().set(retention);
    assert_eq!(store.maintenance().run_housekeeping(now).unwrap(), 0);
    assert_eq!(names(dir), stay, "{retention:?} at {now}");
    let want: BTreeSet<Sample> =
        before.iter().filter(|s| kept.contains(*s) || !gone.contains(*s)).cloned().collect();
    assert_eq!(contents(store), want);
    assert_eq!(read(&reader), before, "who was reading goes on");
}

fn check(steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).0;
    let mut now = 5_000;
    // The head does not know which times it moved to blocks, so each time is used once.
    let mut used = BTreeMap::new();
    for step in steps {
        match step {
            Step::Append(dt, series) => {
                now += dt;
                used.entry(now).or_insert_with(|| append(&store, now, *series));
            }
            Step::Late(back) => {
                let t = now - back;
                used.entry(t).or_insert_with(|| append(&store, t, 1));
            }
            Step::Maintain(time_ms, percent) => {
                maintain_and_check(dir.path(), &store, now, *time_ms, *percent);
            }
            Step::Reopen => {
                let before = contents(&store);
                store.close().unwrap();
                store = open(dir.path()).0;
                assert_eq!(contents(&store), before);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn blocks_go_by_age_and_size_and_stay_away(steps in proptest::collection::vec(step(), 60..160)) {
        check(&steps);
    }
}

/// A minute of samples, in five blocks and the head.
fn five_blocks(dir: &Path) {
    let (store, _) = open(dir);
    for t in 1..=100 {
        append(&store, t * 1_000, 3);
    }
    assert_eq!(store.maintenance().run_housekeeping(100_000).unwrap(), 7);
    store.retention().set(Retention { time_ms: 81_000, size_bytes: 0 });
    store.maintenance().run_housekeeping(100_000).unwrap();
    assert_eq!(names(dir).len(), 6, "0 s to 9 s is too old");
    store.retention().set(Retention { time_ms: 80_000, size_bytes: 0 });
    store.maintenance().run_housekeeping(100_000).unwrap();
    assert_eq!(names(dir).len(), 5, "19 s is older than 20 s");
    store.close().unwrap();
}

#[test]
fn what_went_is_counted_as_in_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    five_blocks(dir.path());
    let (store, metrics) = open(dir.path());
    let gauge = |name| metrics.gauge(name, "", &[]).get();
    let went = || {
        let counter = |name| metrics.counter(name, "", &[]).get();
        (counter("prometheus_tsdb_time_retentions_total"), counter("prometheus_tsdb_size_retentions_total"))
    };
    let there = bytes(&dir.path().join("blocks"));
    assert_eq!(gauge("prometheus_tsdb_blocks_loaded"), 5.0);
    assert_eq!(gauge("prometheus_tsdb_storage_blocks_bytes"), there as f64);
    let log = bytes(&dir.path().join("wal"));
    for (time_ms, size_bytes, blocks, counts) in [
        (0, there + log, 5, (0, 0)),
        (0, there + log - 1, 4, (0, 1)),
        (0, there + log - 1, 4, (0, 1)),
        (60_000, 0, 3, (1, 1)),
        (60_000, 0, 3, (1, 1)),
        (60_000, 1, 0, (1, 2)),
        (1, 1, 0, (1, 2)),
    ] {
        store.retention().set(Retention { time_ms, size_bytes });
        store.maintenance().run_housekeeping(100_000).unwrap();
        assert_eq!((names(dir.path()).len(), went()), (blocks, counts), "{time_ms} {size_bytes}");
        assert_eq!(gauge("prometheus_tsdb_blocks_loaded"), blocks as f64);
        assert_eq!(gauge("prometheus_tsdb_storage_blocks_bytes"), bytes(&dir.path().join("blocks")) as f64);
        assert_eq!(gauge("prometheus_tsdb_retention_limit_seconds"), time_ms as f64 / 1000.0);
        assert_eq!(gauge("prometheus_tsdb_retention_limit_bytes"), size_bytes as f64);
    }
    assert!(!contents(&store).is_empty(), "the head stays");
}

#[test]
fn a_wrong_clock_and_old_data_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    five_blocks(dir.path());
    let (store, _) = open(dir.path());
    store.retention().set(Retention { time_ms: 60_000, size_bytes: 0 });
    store.maintenance().run_housekeeping(50_000).unwrap();
    assert_eq!(names(dir.path()).len(), 5, "a clock that is behind");
    store.maintenance().run_housekeeping(i64::MAX).unwrap();
    assert_eq!(
        names(dir.path()).len(),
        5 + 2 - 2,
        "ahead: 70 s to 89 s are blocks now, 20 s to 39 s are old"
    );
    let oldest = metas(dir.path())[0].min_time;
    assert_eq!(oldest, 40_000, "the newest sample is of 100 s");
}

/// For some minutes all scrapes have times of the next month.
#[test]
fn a_clock_that_is_ahead_for_a_while_costs_no_history() {
    const DAY: i64 = 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    five_blocks(dir.path());
    let (store, _) = open(dir.path());
    store.retention().set(Retention { time_ms: 15 * DAY, size_bytes: 0 });
    let oldest = metas(dir.path())[0].min_time;
    append(&store, 30 * DAY, 1);
    store.maintenance().run_housekeeping(30 * DAY).unwrap();
    assert_eq!(metas(dir.path())[0].min_time, oldest, "{:?}", names(dir.path()));
}

/// A retention that removes three of five blocks.
const THREE: Retention = Retention { time_ms: 50_000, size_bytes: 0 };

#[test]
fn a_kill_or_a_failure_at_any_step_leaves_whole_blocks_and_the_rest_follows() {
    let origin = tempfile::tempdir().unwrap();
    five_blocks(origin.path());
    let blocks = metas(origin.path());
    let all = contents(&open(origin.path()).0);
    let mut alive = 0;
    let mut outcomes = BTreeSet::new();
    loop {
        let dir = tempfile::tempdir().unwrap();
        copy(origin.path(), dir.path());
        let mortal = Arc::new(Mortal(i64::MAX.into()));
        let (store, _) = open_on(dir.path(), Arc::new(HookedDisk(mortal.clone())));
        store.retention().set(THREE);
        mortal.0.store(alive, SeqCst);
        let done = store.maintenance().run_housekeeping(100_000).is_ok();
        let stay = contents(&store);
        // After a kill: what a new process finds.
        let after = tempfile::tempdir().unwrap();
        copy(dir.path(), after.path());
        let (again, _) = open(after.path());
        let found = contents(&again);
        let gone: Vec<bool> = blocks.iter().map(|b| !samples_of(b).is_subset(&found)).collect();
        for (block, gone) in blocks.iter().zip(&gone) {
            assert!(!gone || samples_of(block).is_disjoint(&found), "half a block after {alive} steps");
        }
        assert!(!gone[3] && !gone[4], "a block that had to stay is lost after {alive} steps");
        assert!(names(after.path()).iter().all(|name| !name.contains("deleting")), "swept at start");
        outcomes.insert(gone);
        // After a failure: the same process, once the disk works again.
        assert!(stay.is_superset(&found.iter().filter(|s| s.1 >= 50_000).cloned().collect()));
        for (dir, store) in [(&dir, &store), (&after, &again)] {
            if !done {
                mortal.0.store(i64::MAX, SeqCst);
            }
            store.retention().set(THREE);
            store.maintenance().run_housekeeping(100_000).unwrap();
            let want: BTreeSet<Sample> = all.iter().filter(|s| s.1 >= 50_000).cloned().collect();
            assert_eq!((contents(store), names(dir.path()).len()), (want, 2), "after {alive} steps");
        }
        if done {
            break;
        }
        alive += 1;
    }
    assert!(alive > 20, "{alive} steps");
    assert!(outcomes.len() >= 4, "none, one, two and three blocks gone: {outcomes:?}");
}
