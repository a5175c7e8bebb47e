//! Tests the bounds of the head: how old a sample of any series may be, how many blocks one request
//! can cause, and that thousands of blocks need few file descriptors.
#![allow(clippy::disallowed_methods, reason = "files are looked at beside the store")]

use std::path::Path;
use std::sync::Arc;
use storage::block::{BlockSeries, BlockSpec, reserved_names, write_block_replacing};
use storage::disk::OsDisk;
use storage::limits::{FLUSH_BLOCKS, OPEN_BLOCK_FILES, REFUSED_NAMED};
use storage::metrics::Metrics;
use storage::model::{Labels, NativeHistogram, SHARDS, SeriesRef};
use storage::store::{
    AppendResult, ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, HistogramRow, Refusal, StartRow, Store,
    StoreOptions,
};

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use support::{contents, files, labels, metas};

const HOUR: i64 = 3_600_000;
const NOW: i64 = 1_795_000_000_000;

fn open(dir: &Path, out_of_order_ms: i64) -> (Arc<Store>, Metrics) {
    let metrics = Metrics::default();
    let dir = dir.to_owned();
    let options =
        StoreOptions { dir, wal_sync_interval_ms: 60_000, block_range_ms: 2 * HOUR, out_of_order_ms };
    let (store, _) = Store::open(options, Arc::new(OsDisk), &metrics).unwrap();
    (store, metrics)
}

fn write(store: &Store, samples: &[(usize, i64)]) -> AppendResult {
    let row =
        |(i, t): &(usize, i64)| FloatRow { series: store.get_or_create_series(&labels(*i)), t: *t, v: 1.0 };
    store.append_rows(&samples.iter().map(row).collect::<Vec<FloatRow>>()).unwrap()
}

/// Times that the store refuses for every series, new or not.
const OUTSIDE: [i64; 7] = [i64::MIN, i64::MIN + 1, -1, 0, NOW / 1000, NOW - 2 * HOUR, NOW - HOUR - 1];

#[test]
fn samples_of_new_series_are_within_the_bounds_too() {
    let dir = tempfile::tempdir().unwrap();
    let (store, metrics) = open(dir.path(), HOUR / 2);
    assert_eq!(write(&store, &[(0, NOW)]).stored, 1);
    for (i, t) in (1..).zip(OUTSIDE) {
        let appended = write(&store, &[(i, t), (i, NOW)]);
        assert_eq!((appended.stored, appended.out_of_bounds, appended.too_old), (1, 1, 0), "{t}");
        let refused = appended.refused[0];
        assert_eq!((store.series().labels(refused.series), refused.t), (labels(i), t));
        assert_eq!((refused.why, refused.oldest), (Refusal::TooOld, NOW - HOUR));
        let again = write(&store, &[(i, t)]);
        assert_eq!((again.stored, again.out_of_bounds), (0, 1), "{t}, now that the series is known");
    }
    assert_eq!(write(&store, &[(20, NOW - HOUR)]).stored, 1, "half a range is taken");
    assert_eq!(write(&store, &[(20, NOW - HOUR / 2)]).stored, 1, "and what comes behind it");
    assert_eq!(write(&store, &[(0, NOW - HOUR / 2 - 1)]).too_old, 1, "behind the window of its series");
    let counter = |name| metrics.counter(name, "", &[]).get();
    assert_eq!(counter("prometheus_tsdb_out_of_bound_samples_total"), 14);
    assert_eq!(counter("prometheus_tsdb_too_old_samples_total"), 1);
    assert_eq!(store.status().refused_as_too_old(), 15);
}

#[test]
fn the_window_widens_the_bounds_and_words_follow_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&dir.path().join("wide"), 6 * HOUR);
    write(&store, &[(0, NOW)]);
    assert_eq!(write(&store, &[(1, NOW - 6 * HOUR), (2, NOW - 6 * HOUR - 1)]).stored, 1);
    let (store, _) = open(&dir.path().join("none"), 0);
    write(&store, &[(0, NOW)]);
    let appended = write(&store, &[(0, NOW - 1), (1, NOW - HOUR), (2, NOW - HOUR - 1), (0, NOW)]);
    let why: Vec<Refusal> = appended.refused.iter().map(|refused| refused.why).collect();
    assert_eq!(appended.stored, 1);
    assert!(why.contains(&Refusal::OutOfOrder) && why.contains(&Refusal::OutOfBounds), "{why:?}");
}

#[test]
fn histograms_starts_and_columns_are_bound_and_what_the_server_records_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), HOUR / 2);
    write(&store, &[(0, NOW)]);
    let series = |i: usize| store.get_or_create_series(&labels(i));
    let h = Arc::new(NativeHistogram::default());
    let appended = store.append_histograms(&[HistogramRow { series: series(1), t: 0, h }]).unwrap();
    assert_eq!((appended.stored, appended.out_of_bounds), (0, 1));
    let start = StartRow { series: series(1), t: 0, start: -5 };
    assert_eq!(store.append_starts(&[start]).unwrap().stored, 0, "its sample is not there");
    let SeriesRef { shard, slot } = series(2);
    let columns = |key: &str, t| ColumnBatch {
        group: store.open_group(key, shard),
        layout: Arc::new(ColumnLayout { slots: vec![slot] }),
        t,
        values: Arc::from([1.0]),
    };
    let appended = store.append_columns(&columns("target", 0), FeedDelivery::Feed).unwrap();
    assert_eq!((appended.stored, appended.out_of_bounds), (0, 1));
    store.recorder().record(&columns("rule", NOW - 3 * HOUR)).unwrap();
    assert_eq!(contents(&store).len(), 2);
}

#[test]
fn only_the_first_that_are_refused_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), HOUR / 2);
    write(&store, &[(0, NOW)]);
    let old: Vec<(usize, i64)> = (0..3_000).map(|i| (i, i as i64)).collect();
    let appended = write(&store, &old);
    assert_eq!((appended.out_of_bounds, appended.refused.len()), (3_000, REFUSED_NAMED));
}

/// As in Prometheus: the first sample of an empty head sets its bounds, and later times are not
/// limited.
#[test]
fn the_first_sample_sets_the_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let times: Vec<(usize, i64)> = (0..3_000).map(|i| (i, NOW - (3_000 - i as i64) * 2 * HOUR)).collect();
    let backwards: Vec<(usize, i64)> = times.iter().rev().copied().collect();
    let (store, _) = open(&dir.path().join("backwards"), HOUR / 2);
    assert_eq!(write(&store, &backwards).stored, 1);
    let (store, _) = open(&dir.path().join("earliest"), HOUR / 2);
    assert_eq!(write(&store, &[(0, i64::MIN), (1, i64::MIN)]).stored, 0, "no query can ask for it");
}

#[test]
fn a_request_with_thousands_of_hours_becomes_few_blocks() {
    for (series, apart) in [(3_000, 2 * HOUR), (5_000, 2 * HOUR), (300, 24 * 365 * HOUR / 6)] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), HOUR / 2);
        let times: Vec<(usize, i64)> = (0..series).map(|i| (i, NOW - (series - i) as i64 * apart)).collect();
        assert_eq!(write(&store, &times).stored, series);
        let before = contents(&store);
        let written = store.maintenance().run_housekeeping(NOW).unwrap();
        assert!(written <= FLUSH_BLOCKS, "{series}: {written}");
        assert!(files(&dir.path().join("blocks")).len() <= 12 * FLUSH_BLOCKS);
        assert!(contents(&store) == before, "{series}: nothing is lost");
        store.maintenance().compact().unwrap();
        assert!(contents(&store) == before);
        drop(store);
        let (store, _) = open(dir.path(), HOUR / 2);
        assert!(contents(&store) == before, "{series}: nor after a restart");
    }
}

#[test]
fn bounds_outlive_a_restart_and_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), HOUR / 2);
    write(&store, &[(0, NOW)]);
    store.close().unwrap();
    drop(store);
    let (store, _) = open(dir.path(), HOUR / 2);
    assert_eq!(store.status().newest_time(), Some(NOW));
    assert_eq!(write(&store, &[(1, 0)]).out_of_bounds, 1);
    write(&store, &[(0, NOW + 5 * HOUR)]);
    store.maintenance().run_housekeeping(NOW + 8 * HOUR).unwrap();
    assert_eq!(write(&store, &[(2, NOW)]).out_of_bounds + write(&store, &[(2, NOW)]).too_old, 1);
}

/// Blocks as an earlier version left them: one for each two hours.
fn many_blocks(dir: &Path, count: i64) {
    let blocks = dir.join("blocks");
    std::fs::create_dir_all(&blocks).unwrap();
    for i in 0..count {
        let from = NOW.div_euclid(2 * HOUR) * 2 * HOUR - (count - i) * 2 * HOUR;
        let one = BlockSeries { labels: labels(0), ts: vec![from + 1], vs: vec![i as f64], ..<_>::default() };
        let none = reserved_names(std::iter::empty(), &[]);
        let origin = BlockSpec { from, to: from + 2 * HOUR, replaces: Vec::new(), reserved: &none };
        write_block_replacing(&OsDisk, &blocks, origin, std::iter::once(Ok(one))).unwrap();
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn hundreds_of_blocks_need_few_descriptors_and_become_few() {
    let count = 400;
    let dir = tempfile::tempdir().unwrap();
    many_blocks(dir.path(), count);
    let before = descriptors();
    let (store, _) = open(dir.path(), HOUR / 2);
    let found = contents(&store);
    assert_eq!(found.len(), count as usize);
    // Other tests of this process open files, too.
    let more = descriptors().saturating_sub(before);
    assert!(more <= OPEN_BLOCK_FILES + 200, "{more} descriptors for {count} blocks");
    let reader = support::selections(&store);
    let merged = store.maintenance().compact().unwrap();
    assert!(merged <= 20, "{merged} merges");
    assert!(contents(&store) == found);
    assert!(support::read(&reader) == found, "who was reading goes on");
    drop(reader);
    assert_eq!(store.maintenance().compact().unwrap(), 0);
    assert!(metas(dir.path()).len() <= 20, "{:?}", metas(dir.path()).len());
    let named = Labels::from_pairs([("__name__", "m"), ("i", "0")]);
    let shards = (0..SHARDS).map(|shard| store.select(shard, &[], i64::MIN, i64::MAX).unwrap());
    assert_eq!(shards.flat_map(|found| found.labels).collect::<Vec<_>>(), [named]);
}
