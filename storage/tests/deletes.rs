//! Tests deletions: deleted samples disappear for all readers at once and permanently, and no other
//! samples do, after kills and failures at any step. Also tests snapshots, and retention of some
//! series.
#![allow(clippy::disallowed_methods, reason = "files are looked at and copied beside the store")]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;
use storage::block::{Block, reserved_names_in};
use storage::disk::OsDisk;
use storage::model::histogram::{BucketSpan, Buckets};
use storage::model::{Labels, MatchOp, Matcher, NativeHistogram, shard_of};
use storage::store::{
    ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, HistogramRow, Retention, SeriesRetention,
    SeriesSamples, Store, StoreError,
};

#[path = "support/latest.rs"]
mod latest;
#[allow(dead_code, reason = "shared with other tests")]
mod support;
use latest::latest_is_the_last;
use support::hooked::HookedDisk;
use support::{Mortal, RANGE, contents, copy, metas, names, open, open_on};

const SERIES: usize = 5;

/// All series are in one shard, so that they can be columns of one group.
fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string()), ("instance", "a".to_owned())])
}

fn matcher(op: MatchOp, value: &str) -> Matcher {
    Matcher::new("i", op, value).unwrap()
}

fn fate(store: &Store, lsn: u64) -> Result<(), StoreError> {
    let (send, receive) = channel();
    store.wal().on_committed(lsn, Box::new(move |fate| send.send(fate).unwrap()));
    receive.recv().unwrap()
}

fn committed(store: &Store, lsn: u64) {
    fate(store, lsn).unwrap();
}

/// The expected samples.
type Model = BTreeMap<(usize, i64), f64>;

fn expected(model: &Model) -> BTreeSet<(String, i64, u64)> {
    model.iter().map(|((i, t), v)| (labels(*i).to_string(), *t, v.to_bits())).collect()
}

#[derive(Clone, Debug)]
enum Step {
    /// A scrape: advances the time; the number of series.
    Scrape(i64, usize),
    /// Single samples now, or this much in the past.
    Rows(i64, Vec<usize>),
    /// A block of this series, this much in the past.
    Past(i64, usize),
    /// Deletes the series that the matcher matches, between these times in the past.
    Delete(MatchOp, usize, i64, i64),
    Maintain,
    Compact,
    Clean,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![Just(MatchOp::Equal), Just(MatchOp::NotEqual), Just(MatchOp::Regex)];
    prop_oneof![
        30 => (1i64..4_000, 1..=SERIES).prop_map(|(dt, n)| Step::Scrape(dt, n)),
        10 => (0i64..40_000, proptest::collection::vec(0..SERIES, 1..4)).prop_map(|(back, of)| Step::Rows(back, of)),
        2 => (0i64..60_000, 0..SERIES).prop_map(|(back, i)| Step::Past(back, i)),
        8 => (op, 0..SERIES, 0i64..60_000, -5_000i64..30_000).prop_map(|(op, i, a, b)| Step::Delete(op, i, a, b)),
        3 => Just(Step::Maintain),
        1 => Just(Step::Compact),
        1 => Just(Step::Clean),
        1 => Just(Step::Reopen),
    ]
}

/// A store, its expected samples, and the time.
struct World {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    model: Model,
    now: i64,
    value: f64,
    /// Times of blocks that the test wrote directly, which the head does not know.
    past: BTreeSet<i64>,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).0;
        World { dir, store, model: Model::new(), now: 5_000, value: 0.0, past: BTreeSet::new() }
    }

    fn next_value(&mut self) -> f64 {
        self.value += 0.5;
        self.value
    }

    fn scrape(&mut self, series: usize) {
        let group = self.store.open_group("g", shard_of(&labels(0)));
        let slots = (0..series).map(|i| self.store.get_or_create_series(&labels(i)).slot).collect();
        let values: Vec<f64> = (0..series).map(|_| self.next_value()).collect();
        let layout = Arc::new(ColumnLayout { slots });
        let batch = ColumnBatch { group, layout, t: self.now, values: values.clone().into() };
        let done = self.store.append_columns(&batch, FeedDelivery::Feed).unwrap();
        committed(&self.store, done.lsn);
        assert_eq!(done.stored, (0..series).filter(|i| !self.model.contains_key(&(*i, self.now))).count());
        for (i, v) in values.into_iter().enumerate() {
            self.model.entry((i, self.now)).or_insert(v);
        }
    }

    /// Appends one sample; it is stored unless it is too old or a duplicate.
    fn row(&mut self, t: i64, i: usize) {
        let series = self.store.get_or_create_series(&labels(i));
        let v = self.next_value();
        let done = self.store.append_rows(&[FloatRow { series, t, v }]).unwrap();
        committed(&self.store, done.lsn);
        if self.model.contains_key(&(i, t)) {
            assert_eq!(done.stored, 0, "{t} {i}")
        } else {
            assert_eq!(done.stored + done.too_old + done.out_of_bounds, 1, "{t} {i}")
        }
        if done.stored == 1 {
            self.model.insert((i, t), v);
        }
    }

    fn past(&mut self, t: i64, i: usize) {
        let from = t.div_euclid(RANGE) * RANGE;
        if self.model.contains_key(&(i, t)) {
            return;
        }
        let v = self.next_value();
        let one = SeriesSamples { labels: labels(i), ts: vec![t], vs: vec![v], ..SeriesSamples::default() };
        self.store.recorder().write_backfill(from, from + RANGE, &[one], i64::MAX).unwrap();
        self.model.insert((i, t), v);
        self.past.insert(t);
    }

    fn delete(&mut self, op: MatchOp, i: usize, from: i64, to: i64) {
        let matchers = [Matcher::equal("__name__", "m"), matcher(op, &i.to_string())];
        let lsn = self.store.admin().delete(&matchers, from, to).unwrap();
        committed(&self.store, lsn);
        self.model.retain(|(i, t), _| {
            !(from..=to).contains(t) || !matchers.iter().all(|m| m.matches_labels(&labels(*i)))
        });
    }

    fn reopen(&mut self) {
        self.store.close().unwrap();
        self.store = open(self.dir.path()).0;
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Scrape(dt, series) => {
                self.now += dt;
                self.scrape(*series);
            }
            Step::Rows(back, of) => {
                for i in of {
                    // The head knows only its own samples, so times of blocks written by the test
                    // are skipped.
                    if !self.past.contains(&(self.now - back)) {
                        self.row(self.now - back, *i);
                    }
                }
            }
            Step::Past(back, i) => self.past(self.now - back, *i),
            Step::Delete(op, i, a, b) => self.delete(*op, *i, self.now - a.max(b), self.now - a.min(b)),
            Step::Maintain => drop(self.store.maintenance().run_housekeeping(self.now).unwrap()),
            Step::Compact => drop(self.store.maintenance().compact().unwrap()),
            Step::Clean => {
                self.store.admin().clean_tombstones().unwrap();
                assert_eq!(self.store.admin().clean_tombstones().unwrap(), 0);
                assert!(!self.dir.path().join("tombstones").exists() || self.tombstones() == 0);
            }
            Step::Reopen => self.reopen(),
        }
        assert_eq!(contents(&self.store), expected(&self.model), "after {step:?} at {}", self.now);
        self.check_series();
        latest_is_the_last(&self.store);
    }

    fn tombstones(&self) -> usize {
        let text = std::fs::read_to_string(self.dir.path().join("tombstones")).unwrap();
        text.lines().count() - 2
    }

    /// Checks the lists of series: a series whose samples are all deleted may be listed while the
    /// head knows its samples, but selecting it returns no samples.
    fn check_series(&self) {
        let all = support::selections(&self.store);
        let found = all.iter().flat_map(|s| {
            (0..s.labels.len())
                .filter(|i| s.may_have_samples(*i, i64::MIN, i64::MAX).unwrap())
                .map(|i| s.labels[i].clone())
        });
        let there: BTreeSet<String> = found.map(|l| l.to_string()).collect();
        let want: BTreeSet<String> = self.model.keys().map(|(i, _)| labels(*i).to_string()).collect();
        assert!(there.is_superset(&want));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn what_was_there_goes_and_nothing_else(steps in proptest::collection::vec(step(), 40..140)) {
        let mut world = World::new();
        for step in steps.iter() { world.step(step); }
        world.reopen();
        assert_eq!(contents(&world.store), expected(&world.model));
    }
}

/// Makes some blocks and some samples in the head.
fn filled() -> World {
    let mut world = World::new();
    for _ in 0..100 {
        world.now += 1_000;
        world.scrape(3);
    }
    assert!(world.store.maintenance().run_housekeeping(world.now).unwrap() >= 5);
    world
}

#[test]
fn a_kill_or_a_failure_at_any_step_deletes_all_or_what_the_head_has_not() {
    let origin = filled();
    origin.store.close().unwrap();
    let before = expected(&origin.model);
    let from = 12_500;
    let to = 90_500;
    let deleted =
        |sample: &(String, i64, u64)| sample.0.contains("i=\"1\"") && (from..=to).contains(&sample.1);
    let after: BTreeSet<_> = before.iter().filter(|s| !deleted(s)).cloned().collect();
    let mut alive = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        copy(origin.dir.path(), dir.path());
        let disk = Arc::new(Mortal(i64::MAX.into()));
        let (store, _) = open_on(dir.path(), Arc::new(HookedDisk(disk.clone())));
        disk.0.store(alive, SeqCst);
        let lsn = store.admin().delete(&[matcher(MatchOp::Equal, "1")], from, to);
        let acknowledged = lsn.and_then(|lsn| fate(&store, lsn)).is_ok();
        let done = acknowledged && store.admin().clean_tombstones().is_ok();
        let shown = contents(&store);
        let image = tempfile::tempdir().unwrap();
        copy(dir.path(), image.path());
        let (again, _) = open(image.path());
        let found = contents(&again);
        assert!(found.is_superset(&after) && before.is_superset(&found), "after {alive} steps");
        assert!(shown == before || shown == after, "half a deletion is seen after {alive} steps");
        if acknowledged {
            assert!(shown == after && found == after, "after {alive} steps");
        }
        disk.0.store(i64::MAX, SeqCst);
        for store in [&store, &again] {
            // The log retries by itself after a failure.
            let lsn = std::iter::repeat_with(|| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                store.admin().delete(&[matcher(MatchOp::Equal, "1")], from, to)
            });
            committed(store, lsn.take(2_000).find_map(Result::ok).expect("the log resumes"));
            store.admin().clean_tombstones().unwrap();
            assert_eq!(contents(store), after);
        }
        if done {
            break;
        }
        alive += 1;
    }
    assert!(alive > 20, "{alive} steps");
}

#[test]
fn a_damaged_file_of_deletions_is_not_taken_for_none() {
    let mut world = filled();
    world.delete(MatchOp::Equal, 1, 0, 60_000);
    world.store.close().unwrap();
    let path = world.dir.path().join("tombstones");
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, bytes).unwrap();
        let options = storage::store::StoreOptions {
            dir: world.dir.path().into(),
            wal_sync_interval_ms: 5,
            block_range_ms: RANGE,
            out_of_order_ms: 30_000,
        };
        let opened = Store::open(options, Arc::new(storage::disk::OsDisk), &Default::default());
        let error = opened.err().unwrap_or_else(|| panic!("byte {at}")).to_string();
        assert!(error.contains("tombstones"), "{error}");
    }
    std::fs::write(&path, whole).unwrap();
    world.store = open(world.dir.path()).0;
    assert_eq!(contents(&world.store), expected(&world.model));
}

#[test]
fn what_is_deleted_of_a_block_that_is_left_out_stays_deleted() {
    let mut world = filled();
    world.delete(MatchOp::Equal, 1, 0, 60_000);
    world.store.close().unwrap();
    let oldest = metas(world.dir.path()).into_iter().min_by_key(|meta| meta.min_time).unwrap();
    let path = oldest.dir.join("meta.json");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, "{").unwrap();
    let options = storage::store::StoreOptions {
        dir: world.dir.path().into(),
        wal_sync_interval_ms: 5,
        block_range_ms: RANGE,
        out_of_order_ms: 30_000,
    };
    world.store = Store::open(options, Arc::new(storage::disk::OsDisk), &Default::default()).unwrap().0;
    // Both read the tombstones, and drop those of blocks that no longer exist.
    world.delete(MatchOp::Equal, 2, oldest.to, 60_000);
    assert!(world.store.admin().clean_tombstones().unwrap() > 0);
    world.store.close().unwrap();
    std::fs::write(&path, whole).unwrap();
    world.store = open(world.dir.path()).0;
    assert_eq!(contents(&world.store), expected(&world.model));
}

#[test]
fn cleaning_takes_the_bytes_from_the_disk() {
    let mut world = filled();
    let bytes = |world: &World| metas(world.dir.path()).iter().map(|m| m.samples).sum::<u64>();
    let before = bytes(&world);
    world.delete(MatchOp::NotEqual, 9, i64::MIN, 35_000);
    assert_eq!(bytes(&world), before, "files do not change yet");
    assert!(world.store.admin().clean_tombstones().unwrap() > 0);
    let left: BTreeSet<_> = metas(world.dir.path()).into_iter().map(|m| m.dir).collect();
    let oldest = left.iter().map(|dir| Block::open(Arc::new(OsDisk), dir).unwrap().meta().min_time).min();
    assert!(oldest > Some(35_000), "{oldest:?}");
    assert_eq!(contents(&world.store), expected(&world.model));
}

#[test]
fn who_computes_the_past_anew_is_not_hindered() {
    let mut world = World::new();
    for again in 0..3 {
        let one = SeriesSamples { labels: labels(0), ts: vec![5], vs: vec![1.0], ..SeriesSamples::default() };
        world.store.recorder().write_backfill(0, RANGE, &[one], i64::MAX).unwrap();
        assert_eq!(contents(&world.store).len(), 1, "the same block, time {again}");
        if again == 1 {
            world.reopen();
            assert_eq!(contents(&world.store).len(), 1);
        }
        world.delete(MatchOp::Equal, 0, 0, 10);
        assert_eq!(contents(&world.store).len(), 0);
    }
}

#[test]
fn what_was_merged_and_deleted_comes_back_when_it_is_written_again() {
    let mut world = World::new();
    let write = |world: &mut World, i: usize| {
        let one = SeriesSamples { labels: labels(i), ts: vec![5], vs: vec![1.0], ..SeriesSamples::default() };
        world.store.recorder().write_backfill(0, RANGE, &[one], i64::MAX).unwrap();
        world.model.insert((i, 5), 1.0);
    };
    // A block after the range, so that the range is complete and merged.
    world.past(RANGE + 5, 0);
    write(&mut world, 1);
    for again in 0..3 {
        write(&mut world, 0);
        assert_eq!(contents(&world.store), expected(&world.model), "written, time {again}");
        // The first compaction merges; the following ones find the merged block.
        world.step(&Step::Compact);
        world.reopen();
        assert_eq!(contents(&world.store), expected(&world.model), "opened again, time {again}");
        world.delete(MatchOp::Equal, 0, 0, 10);
        if again == 1 {
            world.step(&Step::Clean);
        }
        assert_eq!(contents(&world.store), expected(&world.model), "deleted, time {again}");
    }
    assert_eq!(world.model.len(), 2);
}

#[test]
fn a_name_that_is_replaced_or_deleted_of_is_taken() {
    let mut world = World::new();
    world.past(5, 0);
    world.past(6, 1);
    world.past(RANGE + 5, 0);
    let before = names(world.dir.path());
    world.step(&Step::Compact);
    let merged: BTreeSet<String> = before.difference(&names(world.dir.path())).cloned().collect();
    assert_eq!(merged.len(), 2);
    assert_eq!(reserved_names_in(&OsDisk, world.dir.path()).unwrap(), merged);
    let stays: BTreeSet<String> = before.difference(&merged).cloned().collect();
    world.delete(MatchOp::Equal, 0, RANGE, 2 * RANGE);
    world.store.close().unwrap();
    assert_eq!(reserved_names_in(&OsDisk, world.dir.path()).unwrap(), &merged | &stays);
}

#[test]
fn histograms_go_and_come_as_floats_do() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let series = store.get_or_create_series(&labels(0));
    let spans = vec![BucketSpan { offset: 0, length: 1 }];
    let h = |count: f64| {
        let positive = Buckets { spans: spans.clone(), counts: vec![count] };
        Arc::new(NativeHistogram { count, positive, ..NativeHistogram::default() })
    };
    let rows: Vec<HistogramRow> =
        (1..=30).map(|i| HistogramRow { series, t: i * 1_000, h: h(i as f64) }).collect();
    store.append_histograms(&rows).unwrap();
    let there = |store: &Store| -> Vec<(i64, f64)> {
        let selection = store.select(series.shard, &[Matcher::equal("__name__", "m")], 0, i64::MAX).unwrap();
        let mut out = Vec::new();
        for i in 0..selection.labels.len() {
            selection.read_histograms(i, 0, i64::MAX, &mut out).unwrap();
        }
        out.into_iter().map(|(t, h)| (t, h.count)).collect()
    };
    committed(&store, store.admin().delete(&[matcher(MatchOp::Equal, "0")], 5_000, 28_000).unwrap());
    let mut want: Vec<(i64, f64)> =
        (1..=30).filter(|i| !(5..=28).contains(i)).map(|i| (i * 1_000, i as f64)).collect();
    assert_eq!(there(&store), want);
    // One deleted time gets another histogram, another one gets a float.
    assert_eq!(store.append_histograms(&[HistogramRow { series, t: 20_000, h: h(7.0) }]).unwrap().stored, 1);
    assert_eq!(store.append_rows(&[FloatRow { series, t: 21_000, v: 2.5 }]).unwrap().stored, 1);
    want.insert(4, (20_000, 7.0));
    for _ in 0..2 {
        assert_eq!(there(&store), want);
        assert_eq!(
            contents(&store).iter().map(|s| (s.1, f64::from_bits(s.2))).collect::<Vec<_>>(),
            [(21_000, 2.5)]
        );
        store.maintenance().run_housekeeping(60_000).unwrap();
    }
    store.close().unwrap();
    let (store, _) = open(dir.path());
    assert_eq!(there(&store), want);
}

/// A counter whose resets are in deleted ranges: inside a block, and at the end of a block.
#[test]
fn a_reset_is_seen_behind_what_is_deleted() {
    for in_blocks in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let series = store.get_or_create_series(&labels(0));
        let count = |i: i64| i as f64 + if i < 12 { 100.0 } else { 50.0 } - if i < 17 { 0.0 } else { 50.0 };
        let h = |i| Arc::new(NativeHistogram { count: count(i), ..NativeHistogram::default() });
        let row = |i| HistogramRow { series, t: i * 1_000, h: h(i) };
        store.append_histograms(&(1..=70).map(row).collect::<Vec<_>>()).unwrap();
        let check = |store: &Store, what: &str| {
            let mut out = Vec::new();
            let selection = store.select(series.shard, &[], 0, i64::MAX).unwrap();
            selection.read_histograms(0, 0, i64::MAX, &mut out).unwrap();
            assert_eq!(out.len(), 64, "{what}");
            for pair in out.windows(2) {
                let before = &pair[0].1;
                let behind = &pair[1].1;
                assert_eq!(behind.detect_reset(before), behind.count < before.count, "{what} {pair:?}");
            }
        };
        if in_blocks {
            assert!(store.maintenance().run_housekeeping(70_000).unwrap() > 0);
        }
        for (from, to) in [(12_000, 14_000), (17_000, 19_000)] {
            committed(&store, store.admin().delete(&[matcher(MatchOp::Equal, "0")], from, to).unwrap());
        }
        check(&store, "deleted");
        store.maintenance().run_housekeeping(70_000).unwrap();
        check(&store, "in blocks");
        assert_eq!(store.admin().clean_tombstones().unwrap() > 0, in_blocks);
        check(&store, "cleaned");
        assert!(store.maintenance().compact().unwrap() > 0);
        check(&store, "merged");
        store.close().unwrap();
        check(&open(dir.path()).0, "started again");
    }
}

#[test]
fn a_snapshot_is_a_data_directory_of_its_own() {
    let mut world = filled();
    world.delete(MatchOp::Equal, 1, 20_000, 95_000);
    let all = expected(&world.model);
    let with = world.dir.path().join("snapshots/a");
    let without = world.dir.path().join("snapshots/b");
    world.store.admin().snapshot(&with, true).unwrap();
    world.store.admin().snapshot(&without, false).unwrap();
    // Later changes have no effect on the snapshot.
    world.now += 1_000;
    world.scrape(3);
    world.delete(MatchOp::NotEqual, 9, i64::MIN, i64::MAX);
    world.store.admin().clean_tombstones().unwrap();
    assert!(contents(&world.store).is_empty());
    let (snapshot, _) = open(&with);
    assert_eq!(contents(&snapshot), all);
    snapshot.admin().clean_tombstones().unwrap();
    assert_eq!(contents(&snapshot), all);
    let end = all.iter().map(|s| s.1).max().unwrap() / RANGE * RANGE - 3 * RANGE;
    let blocks: BTreeSet<_> = contents(&open(&without).0);
    assert!(blocks.is_subset(&all) && blocks.len() < all.len());
    assert!(all.iter().filter(|s| s.1 < end).all(|s| blocks.contains(s)), "all that was in blocks");
}

#[test]
fn a_kill_or_a_failure_at_any_step_leaves_a_whole_snapshot_or_none() {
    let world = filled();
    world.store.close().unwrap();
    let all = expected(&world.model);
    let mut alive = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        copy(world.dir.path(), dir.path());
        let disk = Arc::new(Mortal(i64::MAX.into()));
        let (store, _) = open_on(dir.path(), Arc::new(HookedDisk(disk.clone())));
        disk.0.store(alive, SeqCst);
        let target = dir.path().join("snapshots/s");
        let done = store.admin().snapshot(&target, true).is_ok();
        disk.0.store(i64::MAX, SeqCst);
        if target.exists() {
            assert_eq!(contents(&open(&target).0), all, "after {alive} steps");
        }
        assert_eq!(contents(&store), all);
        let other = dir.path().join("snapshots/t");
        store.admin().snapshot(&other, true).unwrap();
        let there = std::fs::read_dir(dir.path().join("snapshots")).unwrap();
        let there: Vec<_> = there.map(|e| e.unwrap().file_name()).filter(|n| n != "s").collect();
        assert_eq!(there, ["t"], "what was left is swept away");
        if done {
            break;
        }
        alive += 1;
    }
    assert!(alive > 10, "{alive} steps");
}

fn times(dir: &Path, store: &Store, i: usize) -> (Option<i64>, usize) {
    let of: Vec<i64> = contents(store).iter().filter(|s| s.0 == labels(i).to_string()).map(|s| s.1).collect();
    (of.first().copied(), names(dir).len())
}

#[test]
fn some_series_stay_longer_and_some_go_sooner() {
    let world = filled();
    let dir = world.dir.path();
    let store = &world.store;
    let rule = |i: usize, time_ms| SeriesRetention {
        matchers: vec![matcher(MatchOp::Equal, &i.to_string())],
        time_ms,
    };
    store.retention().set_series(vec![rule(0, 0), rule(1, 40_000), rule(1, 1)]);
    store.retention().set(Retention { time_ms: 60_000, size_bytes: 0 });
    let blocks = names(dir).len();
    let keep_house = |store: &Store| {
        store.maintenance().run_housekeeping(world.now).unwrap();
        store.maintenance().drop_expired_series(world.now).unwrap();
    };
    keep_house(store);
    assert_eq!(times(dir, store, 0), (Some(6_000), blocks), "for ever");
    assert_eq!(times(dir, store, 1).0, Some(60_000), "a block goes when its newest sample is 40 s old");
    assert_eq!(times(dir, store, 2).0, Some(40_000), "as all others");
    store.close().unwrap();
    let (store, _) = open(dir);
    assert_eq!(times(dir, &store, 1).0, Some(60_000));
    store.retention().set_series(vec![rule(0, 50_000)]);
    store.retention().set(Retention { time_ms: 60_000, size_bytes: 0 });
    keep_house(&store);
    assert_eq!(times(dir, &store, 0).0, Some(50_000));
    assert_eq!(times(dir, &store, 2).0, Some(40_000));
    assert_eq!(names(dir).len(), blocks - 4, "of which nothing was to stay");
    assert_eq!(store.maintenance().drop_expired_series(world.now).unwrap(), 0);
    // The size limit applies to all series.
    store.retention().set(Retention { time_ms: 0, size_bytes: 1 });
    keep_house(&store);
    assert_eq!(names(dir).len(), 0);
}
