//! Tests compaction: merging blocks has no effect on readers, after kills and failures at any step.
#![allow(clippy::disallowed_methods, reason = "files are looked at and copied beside the store")]

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use storage::metrics::Metrics;
use storage::model::NativeHistogram;
use storage::model::histogram::ResetHint;
use storage::store::{SeriesSamples, Store};

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use support::hooked::HookedDisk;
use support::{Mortal, RANGE, append, contents, copy, labels, metas, names, open, open_on, read, selections};

fn counts(metrics: &Metrics) -> (u64, u64) {
    let counter = |name| metrics.counter(name, "", &[]).get();
    (counter("prometheus_tsdb_compactions_total"), counter("prometheus_tsdb_compactions_failed_total"))
}

/// A block between two others contains a histogram that the other blocks do not have, with a larger
/// count than the histogram after it.
#[test]
fn a_reset_between_blocks_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let h = |count, hint| Arc::new(NativeHistogram { count, hint, ..NativeHistogram::default() });
    let write = |range: i64, histograms: Vec<(i64, Arc<NativeHistogram>)>| {
        let one = SeriesSamples { labels: labels(0), histograms, ..SeriesSamples::default() };
        store.recorder().write_backfill(range * RANGE, (range + 1) * RANGE, &[one], i64::MAX).unwrap();
    };
    use ResetHint::{NotReset, Unknown};
    write(
        0,
        [(1, 10.0, Unknown), (3, 12.0, NotReset), (4, 13.0, NotReset)].map(|(t, n, r)| (t, h(n, r))).into(),
    );
    write(0, vec![(2, h(20.0, Unknown))]);
    write(1, vec![(RANGE + 1, h(14.0, NotReset))]);
    write(3, vec![(3 * RANGE, h(15.0, Unknown))]);
    let all = [10.0, 20.0, 12.0, 13.0, 14.0, 15.0].into_iter();
    let expected: Vec<_> = all.zip([Unknown, Unknown, Unknown, NotReset, Unknown, Unknown]).collect();
    for merged in [false, true] {
        assert!(!merged || store.maintenance().compact().unwrap() > 0);
        let mut found = Vec::new();
        for selection in selections(&store).iter().filter(|selection| !selection.labels.is_empty()) {
            selection.read_histograms(0, 0, i64::MAX, &mut found).unwrap();
        }
        let found: Vec<_> = found.iter().map(|(_, h)| (h.count, h.hint)).collect();
        assert_eq!(found, expected, "merged: {merged}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Advances the time; the number of series with a sample.
    Append(i64, usize),
    /// A sample this much in the past.
    Late(i64),
    Maintain,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (1i64..4_000, 1usize..6).prop_map(|(dt, n)| Step::Append(dt, n)),
        6 => (1i64..25_000).prop_map(Step::Late),
        4 => Just(Step::Maintain),
        1 => Just(Step::Reopen),
    ]
}

/// Checks that blocks overlap only with blocks that they replace, and that no complete range
/// remains in the head.
fn check_merged(dir: &Path, store: &Store, now: i64) {
    store.maintenance().run_housekeeping(now).unwrap();
    let before = contents(store);
    let reader = selections(store);
    store.maintenance().compact().unwrap();
    assert!(contents(store) == before);
    assert!(read(&reader) == before, "who was reading goes on");
    let metas = metas(dir);
    assert_eq!(store.maintenance().compact().unwrap(), 0);
    let newest = metas.iter().map(|m| m.from).max().unwrap_or(0);
    let whole = metas.iter().filter(|m| (m.from.div_euclid(RANGE * 3) + 1) * RANGE * 3 <= newest);
    let ranges: Vec<i64> = whole.map(|m| m.from.div_euclid(RANGE * 3)).collect();
    let different: BTreeSet<i64> = ranges.iter().copied().collect();
    assert_eq!(ranges.len(), different.len(), "{metas:?}");
    let named: BTreeSet<String> = metas.iter().map(|m| m.name().to_string()).collect();
    assert_eq!(names(dir), named, "nothing is left of what was merged");
}

fn check(steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).0;
    let mut now = 5_000;
    let mut used = BTreeSet::new();
    for step in steps {
        match step {
            Step::Append(dt, series) => {
                now += dt;
                if used.insert(now) {
                    append(&store, now, *series);
                }
            }
            Step::Late(back) => {
                if used.insert(now - back) {
                    append(&store, now - back, 1);
                }
            }
            Step::Maintain => check_merged(dir.path(), &store, now),
            Step::Reopen => {
                let before = contents(&store);
                store.close().unwrap();
                store = open(dir.path()).0;
                assert!(contents(&store) == before);
            }
        }
    }
    check_merged(dir.path(), &store, now);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn merged_blocks_hold_what_the_others_held(steps in proptest::collection::vec(step(), 60..200)) {
        check(&steps);
    }
}

/// Fills seven blocks and the head with three series; returns the samples.
fn seven_blocks(dir: &Path) -> BTreeSet<support::Sample> {
    let (store, _) = open(dir);
    for t in 1..=100 {
        append(&store, t * 1_000, 3);
    }
    assert_eq!(store.maintenance().run_housekeeping(100_000).unwrap(), 7);
    let all = contents(&store);
    store.close().unwrap();
    all
}

#[test]
fn a_kill_or_a_failure_at_any_step_loses_nothing_and_the_rest_follows() {
    let origin = tempfile::tempdir().unwrap();
    let all = seven_blocks(origin.path());
    let mut alive = 0;
    let mut outcomes = BTreeSet::new();
    loop {
        let dir = tempfile::tempdir().unwrap();
        copy(origin.path(), dir.path());
        let mortal = Arc::new(Mortal(i64::MAX.into()));
        let (store, metrics) = open_on(dir.path(), Arc::new(HookedDisk(mortal.clone())));
        mortal.0.store(alive, SeqCst);
        let done = store.maintenance().compact().is_ok();
        assert!(contents(&store) == all, "after {alive} steps");
        // After a kill: what a new process finds.
        let after = tempfile::tempdir().unwrap();
        copy(dir.path(), after.path());
        let (again, _) = open(after.path());
        assert!(contents(&again) == all, "after a kill at {alive} steps");
        outcomes.insert(names(after.path()).len());
        again.maintenance().compact().unwrap();
        assert!(contents(&again) == all, "after {alive} steps and another start");
        assert_eq!(names(after.path()).len(), 3);
        if done {
            assert_eq!(counts(&metrics), (2, 0));
            break;
        }
        assert_eq!(counts(&metrics).1, 1, "a failure is counted");
        // After a failure: the same process, once the disk works again.
        mortal.0.store(i64::MAX, SeqCst);
        store.maintenance().compact().unwrap();
        assert!(contents(&store) == all, "after {alive} steps and a failure");
        assert_eq!(names(dir.path()).len(), 3);
        alive += 1;
    }
    assert!(alive > 20, "{alive} steps");
    assert!(outcomes.contains(&7) && outcomes.contains(&5) && outcomes.contains(&3), "{outcomes:?}");
}

#[test]
fn queries_and_appends_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let all = seven_blocks(dir.path());
    let (store, _) = open(dir.path());
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let store = store.clone();
        let stop = stop.clone();
        let all = all.clone();
        std::thread::spawn(move || {
            let mut asked = 0;
            while !stop.load(SeqCst) || asked == 0 {
                assert!(contents(&store).is_superset(&all));
                asked += 1;
            }
        })
    };
    let writer = {
        let store = store.clone();
        std::thread::spawn(move || {
            for t in 101..150 {
                append(&store, t * 1_000, 3);
            }
        })
    };
    assert_eq!(store.maintenance().compact().unwrap(), 2);
    writer.join().unwrap();
    stop.store(true, SeqCst);
    reader.join().unwrap();
    assert_eq!(contents(&store).len(), all.len() + 49 * 3);
}

#[test]
fn a_damaged_block_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    seven_blocks(dir.path());
    let (store, metrics) = open(dir.path());
    let damaged = metas(dir.path())[1].dir.join("samples.parquet");
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let error = store.maintenance().compact().unwrap_err().to_string();
    assert!(error.contains("samples.parquet"), "{error}");
    assert_eq!(store.maintenance().compact().unwrap(), 1, "the others are merged");
    assert_eq!((counts(&metrics), names(dir.path()).len()), ((1, 1), 5));
}
