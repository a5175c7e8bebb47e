//! Tests the guarantees of the store after a kill and with a damaged WAL, and the change feed.
//!
//! `wal_damage.rs` tests damage in more detail, `power_loss.rs` power losses, `failing_disk.rs` a
//! disk that fails, and `simulation.rs` all of these in random order.
#![allow(clippy::disallowed_methods, reason = "real threads write the log here: the tests wait for them")]

use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::Duration;
use storage::disk::{Disk, OsDisk};
use storage::limits::OLDEST_MS;
use storage::metrics::Metrics;
use storage::model::histogram::{BucketSpan, Buckets};
use storage::model::{Labels, Matcher, NativeHistogram, SHARDS, SeriesRef, shard_of};
use storage::store::{
    AppendResult, ChangeData, ChangeEvent, ChangeFeed, ColumnBatch, ColumnLayout, FeedDelivery, FloatRow,
    GroupId, HistogramRow, ReplayReport, StartRow, Store, StoreError, StoreOptions,
};

fn options(dir: &Path, sync: u64) -> StoreOptions {
    StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: sync,
        block_range_ms: 7_200_000,
        out_of_order_ms: 60_000,
    }
}

fn open(dir: &Path) -> (Arc<Store>, ReplayReport) {
    Store::open(options(dir, 0), Arc::new(OsDisk), &Metrics::default()).unwrap()
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("instance", "a".to_owned()), ("i", i.to_string())])
}

fn layout(store: &Store, n: usize) -> (GroupId, Arc<ColumnLayout>) {
    let group = store.open_group("target", shard_of(&labels(0)));
    (
        group,
        Arc::new(ColumnLayout {
            slots: (0..n).map(|i| store.get_or_create_series(&labels(i)).slot).collect(),
        }),
    )
}

fn scrape(
    store: &Store,
    (group, layout): &(GroupId, Arc<ColumnLayout>),
    t: i64,
) -> Result<AppendResult, StoreError> {
    let values = (0..layout.slots.len()).map(|i| (t * i as i64) as f64).collect();
    store
        .append_columns(&ColumnBatch { group: *group, layout: layout.clone(), t, values }, FeedDelivery::Feed)
}

fn committed(store: &Store, lsn: u64) -> Result<(), StoreError> {
    let (send, receive) = channel();
    store.wal().on_committed(lsn, Box::new(move |fate| send.send(fate).unwrap()));
    receive.recv_timeout(Duration::from_secs(10)).expect("told of the fate")
}

/// (series, time, bits) of all samples. A histogram has its text after the series and the bits of
/// its sum; a start timestamp has ` start` after the series.
fn contents(store: &Store) -> Vec<(String, i64, u64)> {
    let mut all = Vec::new();
    for shard in 0..SHARDS {
        let selection = store.select(shard, &[Matcher::equal("__name__", "m")], i64::MIN, i64::MAX).unwrap();
        for i in 0..selection.labels.len() {
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            selection.read(i, i64::MIN, i64::MAX, &mut ts, &mut vs).unwrap();
            let name = selection.labels[i].to_string();
            all.extend(ts.iter().zip(&vs).map(|(t, v)| (name.clone(), *t, v.to_bits())));
            let mut histograms = Vec::new();
            let mut starts = Vec::new();
            selection.read_histograms(i, i64::MIN, i64::MAX, &mut histograms).unwrap();
            selection.read_starts(i, i64::MIN, i64::MAX, &mut starts).unwrap();
            all.extend(histograms.iter().map(|(t, h)| (format!("{name} {h:?}"), *t, h.sum.to_bits())));
            all.extend(starts.iter().map(|(t, start)| (format!("{name} start"), *t, *start as u64)));
        }
    }
    all.sort();
    all
}

fn histogram(series: SeriesRef, t: i64) -> HistogramRow {
    let spans = vec![BucketSpan { offset: -2, length: 2 }, BucketSpan { offset: 3, length: 1 }];
    let positive = Buckets { spans, counts: vec![1.0, t as f64, 300.0] };
    let h = NativeHistogram { count: 301.0 + t as f64, sum: 0.5 * t as f64, positive, ..<_>::default() };
    HistogramRow { series, t, h: Arc::new(h) }
}

/// Writes a small log: scrapes, rows, histograms, start timestamps, a changed layout. Returns its
/// contents.
fn small_log(dir: &Path) -> Vec<(String, i64, u64)> {
    let (store, _) = open(dir);
    let three = layout(&store, 3);
    for t in 1..5 {
        scrape(&store, &three, t).unwrap();
    }
    let series = store.get_or_create_series(&labels(9));
    store.append_rows(&[FloatRow { series, t: 5, v: 1.5 }, FloatRow { series, t: 3, v: f64::NAN }]).unwrap();
    store.append_histograms(&[histogram(series, 6), histogram(series, 7)]).unwrap();
    store.append_starts(&[StartRow { series, t: 5, start: 2 }, StartRow { series, t: 6, start: 2 }]).unwrap();
    let four = layout(&store, 4);
    let last = scrape(&store, &four, 6).unwrap();
    committed(&store, last.lsn).unwrap();
    contents(&store)
}

fn only_segment(dir: &Path) -> PathBuf {
    let mut segments = OsDisk.list(&dir.join("wal")).unwrap();
    assert_eq!(segments.len(), 1, "{segments:?}");
    segments.remove(0)
}

fn reopened(bytes: &[u8]) -> (Vec<(String, i64, u64)>, ReplayReport) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("wal")).unwrap();
    std::fs::write(dir.path().join("wal/00000001.wal"), bytes).unwrap();
    let (store, replay) = open(dir.path());
    let contents_ = contents(&store);
    let fresh = layout(&store, 2);
    let appended = scrape(&store, &fresh, 100).unwrap();
    committed(&store, appended.lsn).unwrap();
    (contents_, replay)
}

#[test]
fn a_log_cut_anywhere_gives_a_prefix_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let all = small_log(dir.path());
    let bytes = std::fs::read(only_segment(dir.path())).unwrap();
    let (whole, replay) = reopened(&bytes);
    assert_eq!((whole.len(), replay.damage.len()), (all.len(), 0));
    assert_eq!(whole, all);
    let mut sizes = Vec::new();
    for cut in 0..bytes.len() {
        let (some, replay) = reopened(&bytes[..cut]);
        assert!(some.iter().all(|sample| all.contains(sample)), "cut at {cut}: nothing that was not sent");
        assert!(replay.damage.len() <= 1, "{:?}", replay.damage);
        if let [line] = replay.damage.as_slice() {
            assert!(line.contains("00000001.wal: offset "), "{line}");
        }
        sizes.push(some.len());
    }
    assert!(sizes.is_sorted(), "a longer log never gives less");
    assert!(
        sizes.contains(&3) && sizes.contains(&14) && sizes.contains(&16),
        "sample records count one by one: {sizes:?}"
    );
}

#[test]
fn a_flipped_bit_costs_its_record_only_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let all = small_log(dir.path());
    let bytes = std::fs::read(only_segment(dir.path())).unwrap();
    let mut most = 0;
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let (some, replay) = reopened(&bad);
        assert!(!replay.damage.is_empty(), "flip at {at} unnoticed");
        assert!(some.iter().all(|sample| all.contains(sample)), "flip at {at}: nothing that was not sent");
        most = most.max(some.len());
    }
    assert_eq!(most, all.len(), "the header's flips cost nothing");
}

#[test]
fn damage_before_a_keyframe_does_not_reach_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let columns = layout(&store, 3);
    for t in 1..=100 {
        scrape(&store, &columns, t).unwrap();
    }
    store.close().unwrap();
    let mut bytes = std::fs::read(only_segment(dir.path())).unwrap();
    let middle = bytes.len() * 3 / 10;
    bytes[middle] ^= 16;
    let (some, replay) = reopened(&bytes);
    assert!(replay.damage[0].contains("skipped"), "{:?}", replay.damage);
    assert!(replay.damage.iter().any(|line| line.contains("rests on record")), "{:?}", replay.damage);
    let has = |t: i64| some.iter().filter(|sample| sample.1 == t).count();
    assert_eq!((has(1), has(40), has(61), has(100)), (3, 0, 3, 3));
}

#[test]
fn what_is_committed_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let columns = layout(&store, 50);
    for t in 1..200 {
        let appended = scrape(&store, &columns, t).unwrap();
        committed(&store, appended.lsn).unwrap();
        if t % 40 == 0 {
            // A copy of the files as a kill would leave them now.
            let copy = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(copy.path().join("wal")).unwrap();
            for path in OsDisk.list(&dir.path().join("wal")).unwrap() {
                std::fs::copy(&path, copy.path().join("wal").join(path.file_name().unwrap())).unwrap();
            }
            let (copy, replay) = open(copy.path());
            assert_eq!(replay.damage, Vec::<String>::new());
            assert_eq!((replay.samples, contents(&copy)), (t as u64 * 50, contents(&store)));
        }
    }
}

#[derive(Default)]
struct FeedLog(Mutex<Vec<ChangeEvent>>);

impl ChangeFeed for FeedLog {
    fn push(&self, item: ChangeEvent) {
        self.0.lock().push(item);
    }
}

#[test]
fn the_feed_hears_every_append_once_in_order_and_selections_know_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ear = Arc::new(FeedLog::default());
    store.subscribers().set_feed(ear.clone());
    let columns = layout(&store, 3);
    let shard = shard_of(&labels(0));
    assert_eq!(scrape(&store, &columns, 10).unwrap().seq, 1);
    let batch =
        ColumnBatch { group: columns.0, layout: columns.1.clone(), t: 20, values: [1.0, 2.0, 3.0].into() };
    assert_eq!(store.append_columns(&batch, FeedDelivery::Nobody).unwrap().seq, 2);
    let series = store.get_or_create_series(&labels(0));
    let rows = [FloatRow { series, t: 20, v: 9.0 }, FloatRow { series, t: 15, v: 4.0 }];
    let appended = store.append_rows(&rows).unwrap();
    assert_eq!((appended.seq, appended.stored, appended.duplicate), (3, 1, 1));
    let late = scrape(&store, &columns, 15).unwrap();
    assert_eq!((late.seq, late.stored, late.duplicate), (4, 2, 1));
    assert_eq!(store.select(shard, &[], 0, 100).unwrap().seq, 4);
    let heard = ear.0.lock();
    assert_eq!(
        heard.iter().map(|item| (item.shard, item.seq)).collect::<Vec<_>>(),
        [(shard, 1), (shard, 3), (shard, 4)]
    );
    assert!(
        matches!(&heard[0].data, ChangeData::Columns(c) if c.t == 10 && Arc::ptr_eq(&c.layout, &columns.1))
    );
    assert!(matches!(&heard[1].data, ChangeData::Rows(r) if *r == [(series.slot, 15, 4.0)]));
    assert!(matches!(&heard[2].data, ChangeData::Rows(r) if r.len() == 2));
}

#[test]
fn malformed_batches_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (group, _) = layout(&store, 3);
    let batch = |group, slots: &[u32], values: &[f64]| {
        let layout = Arc::new(ColumnLayout { slots: slots.to_vec() });
        let batch = ColumnBatch { group, layout, t: 1, values: values.into() };
        store.append_columns(&batch, FeedDelivery::Feed).unwrap_err().to_string()
    };
    assert!(batch(group, &[0, 1], &[1.0]).contains("2 columns but 1 values"));
    assert!(batch(group, &[0, 7], &[1.0, 2.0]).contains("no slot 7"));
    assert!(batch(group, &[1, 1], &[1.0, 2.0]).contains("slot 1 has two columns"));
    assert!(batch(GroupId(99_999), &[1], &[1.0]).contains("no group"));
    assert!(contents(&store).is_empty());
}

#[test]
fn the_ends_of_time_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let series: Vec<_> = (0..2).map(|i| store.get_or_create_series(&labels(i))).collect();
    let row = |i: usize, t: i64| FloatRow { series: series[i], t, v: t as f64 };
    let rows =
        [row(0, OLDEST_MS), row(0, 0), row(0, i64::MAX), row(0, i64::MAX - 1), row(1, i64::MAX), row(1, 5)];
    let appended = store.append_rows(&rows).unwrap();
    assert_eq!((appended.stored, appended.too_old), (5, 1));
    assert_eq!(store.append_rows(&[row(1, i64::MIN)]).unwrap().out_of_bounds, 1);
    let before = contents(&store);
    store.maintenance().run_housekeeping(i64::MAX).unwrap();
    assert_eq!(contents(&store), before);
    store.close().unwrap();
    let (again, replay) = open(dir.path());
    assert_eq!((contents(&again), replay.damage), (before, Vec::new()));
}

#[test]
fn readers_never_miss_what_moves_from_head_to_block() {
    use std::sync::atomic::AtomicI64;
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { block_range_ms: 10_000, out_of_order_ms: 1_000, ..options(dir.path(), 5) };
    let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
    let columns = layout(&store, 4);
    let done = AtomicI64::new(0);
    let blocks = AtomicI64::new(0);
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 1..=600 {
                scrape(&store, &columns, i * 250).unwrap();
                done.store(i, SeqCst);
                std::thread::sleep(Duration::from_millis(1));
                // On a busy machine, too, blocks must be written meanwhile: at most eight of the
                // fifteen ranges may be complete and not flushed.
                let waits = (0..10_000).take_while(|_| blocks.load(SeqCst) < i / 40 - 8);
                for _ in waits {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            running.store(false, SeqCst);
        });
        scope.spawn(|| {
            while running.load(SeqCst) {
                let made = store.maintenance().run_housekeeping(done.load(SeqCst) * 250).unwrap();
                blocks.fetch_add(made as i64, SeqCst);
            }
        });
        while running.load(SeqCst) {
            let sure = done.load(SeqCst) as usize;
            let all = contents(&store);
            for series in all.chunk_by(|a, b| a.0 == b.0) {
                assert!(series.len() >= sure, "{} of {sure}", series.len());
                assert!(series.iter().zip(1..).all(|(sample, i)| sample.1 == i * 250));
            }
        }
    });
    assert!(blocks.load(SeqCst) > 5, "{blocks:?}");
}

/// Targets come and go: checkpoints do not contain targets that are gone, and a target that returns
/// is in the change feed again.
#[test]
fn checkpoints_forget_targets_that_are_gone() {
    const RANGE: i64 = 7_200_000;
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let target = |store: &Store, name: &str, i: usize| {
        let layout = Arc::new(ColumnLayout { slots: vec![store.get_or_create_series(&labels(i)).slot] });
        (store.open_group(name, shard_of(&labels(i))), layout)
    };
    let gone = target(&store, "gone:9100", 0);
    let stays = target(&store, "stays:9100", 1);
    for at in [0, RANGE / 2] {
        scrape(&store, &gone, at).unwrap();
    }
    for at in (0..6).map(|half| half * RANGE / 2) {
        scrape(&store, &stays, at).unwrap();
    }
    store.maintenance().run_housekeeping(3 * RANGE).unwrap();
    let names = || {
        let wal = std::fs::read_dir(dir.path().join("wal")).unwrap().map(|file| file.unwrap().path());
        let checkpoints = wal.filter(|path| path.display().to_string().contains("checkpoint."));
        let text =
            checkpoints.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned());
        text.collect::<String>()
    };
    assert!(names().contains("stays:9100") && !names().contains("gone:9100"));
    let before = contents(&store);
    store.close().unwrap();
    drop(store);
    let (store, replay) = open(dir.path());
    assert_eq!((contents(&store), replay.damage.len()), (before, 0));
    let back = target(&store, "gone:9100", 0);
    scrape(&store, &back, 3 * RANGE).unwrap();
    let before = contents(&store);
    store.close().unwrap();
    drop(store);
    assert_eq!(contents(&open(dir.path()).0), before);
}
