//! Tests [`LogTail`]: what is appended comes out once and in order, from any position, while the
//! log is written, over restarts, and after the samples are in blocks as long as a reader holds the
//! log.
#![allow(clippy::disallowed_methods, reason = "files are counted beside the store")]

use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::histogram::{BucketSpan, Buckets};
use storage::model::value::ABSENT;
use storage::model::{Labels, NativeHistogram, TimeMs};
use storage::store::{
    ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, HistogramRow, LogPosition, LogTail, LoggedSamples,
    Store, StoreOptions,
};

const RANGE: TimeMs = 7_200_000;

fn open(dir: &Path) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 5,
        block_range_ms: RANGE,
        out_of_order_ms: 1_800_000,
    };
    Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap().0
}

fn labels(target: u32, n: u32) -> Labels {
    let [job, i] = [format!("job{target}"), n.to_string()];
    Labels::from_pairs([("__name__", "m"), ("job", &job), ("i", &i)])
}

/// A sample as it comes out: labels, time, value.
type Sample = (String, TimeMs, String);

/// Appends a scrape of a target; a value of `None` is no sample.
fn scrape(store: &Store, target: u32, t: TimeMs, values: &[Option<f64>]) -> Vec<Sample> {
    let series: Vec<_> =
        (0..values.len() as u32).map(|n| store.get_or_create_series(&labels(target, n))).collect();
    let group = store.open_group(&format!("target{target}"), series[0].shard);
    let slots = series.iter().map(|series| series.slot).collect();
    let layout = Arc::new(ColumnLayout { slots });
    let values: Vec<f64> = values.iter().map(|v| v.unwrap_or(ABSENT)).collect();
    let batch = ColumnBatch { group, layout, t, values: values.clone().into() };
    store.append_columns(&batch, FeedDelivery::Feed).unwrap();
    let samples = values.iter().enumerate().filter(|(_, v)| v.to_bits() != ABSENT.to_bits());
    samples.map(|(n, v)| (labels(target, n as u32).to_string(), t, v.to_string())).collect()
}

fn histogram(store: &Store, t: TimeMs, count: f64) -> Sample {
    let labels = Labels::from_pairs([("__name__", "h")]);
    let series = store.get_or_create_series(&labels);
    let spans = vec![BucketSpan { offset: 0, length: 1 }];
    let positive = Buckets { spans, counts: vec![count] };
    let h = NativeHistogram { count, sum: 1.5, positive, ..NativeHistogram::default() };
    store.append_histograms(&[HistogramRow { series, t, h: Arc::new(h) }]).unwrap();
    (labels.to_string(), t, format!("h{count}"))
}

/// All that comes out after `from`, with the position after each.
fn read(store: &Arc<Store>, from: LogPosition) -> Vec<(Sample, LogPosition)> {
    store.wal().wait_durable(Duration::from_secs(10));
    let mut tail = LogTail::new(store.clone(), from);
    let mut samples = LoggedSamples::default();
    let mut all = Vec::new();
    while tail.next_samples(&mut samples).unwrap() {
        let label = |slot| store.series().labels(samples.series(slot)).to_string();
        for float in &samples.floats {
            let position = LogPosition { lsn: samples.lsn, item: float.item };
            all.push(((label(float.slot), float.t, float.v.to_string()), position.next()));
        }
        for histogram in &samples.histograms {
            let position = LogPosition { lsn: samples.lsn, item: histogram.item };
            let value = format!("h{}", histogram.h.count);
            all.push(((label(histogram.slot), histogram.t, value), position.next()));
        }
    }
    assert_eq!((tail.failures(), tail.missing()), (0, 0));
    all
}

fn samples(read: &[(Sample, LogPosition)]) -> Vec<Sample> {
    read.iter().map(|(sample, _)| sample.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_appended_comes_out_once_and_in_order(
        scrapes in proptest::collection::vec(
            (0u32..3, proptest::collection::vec(proptest::option::of(0u8..4), 1..20)), 1..40),
        restart_at in 0usize..40,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut appended = Vec::new();
        for (n, (target, values)) in scrapes.into_iter().enumerate() {
            if n == restart_at {
                store.close().unwrap();
                drop(store);
                store = open(dir.path());
            }
            let t = 1_000_000 + n as i64 * 1_000;
            let values: Vec<Option<f64>> = values.into_iter().map(|v| v.map(f64::from)).collect();
            appended.extend(scrape(&store, target, t, &values));
            if n % 5 == 0 {
                appended.push(histogram(&store, t, n as f64));
                let series = store.get_or_create_series(&labels(9, 0));
                store.append_rows(&[FloatRow { series, t, v: 0.5 }]).unwrap();
                appended.push((labels(9, 0).to_string(), t, "0.5".to_owned()));
            }
        }
        let all = read(&store, LogPosition::default());
        prop_assert_eq!(samples(&all), appended.clone());
        // From every position the rest comes.
        for (n, (_, after)) in all.iter().enumerate().step_by(7) {
            let rest = samples(&read(&store, *after));
            prop_assert_eq!(&rest[..], &appended[n + 1..]);
        }
        store.close().unwrap();
    }
}

#[test]
fn a_tail_follows_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let now = LogPosition::at(store.wal().last_lsn() + 1);
    let mut tail = LogTail::new(store.clone(), now);
    let mut samples = LoggedSamples::default();
    assert!(!tail.next_samples(&mut samples).unwrap());
    for n in 0..200 {
        scrape(&store, 1, 1_000_000 + n * 1_000, &[Some(n as f64), Some(1.0)]);
        store.wal().wait_durable(Duration::from_secs(10));
        assert!(tail.next_samples(&mut samples).unwrap());
        assert_eq!(samples.floats.iter().map(|float| float.v).collect::<Vec<_>>(), [n as f64, 1.0]);
        assert!(!tail.next_samples(&mut samples).unwrap());
    }
}

#[test]
fn a_held_log_has_the_samples_and_labels_of_series_that_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut expected = Vec::new();
    let mut from = LogPosition::default();
    let start = 10 * RANGE;
    // Each hour another target; each is restarted with a new segment, as segments are long.
    for hour in 0..12u32 {
        if hour == 2 {
            from = LogPosition::at(store.wal().last_lsn() + 1);
        }
        let hold = store.wal().hold(from.lsn.max(1));
        for n in 0..60 {
            let t = start + i64::from(hour) * 3_600_000 + n * 60_000;
            let appended = scrape(&store, hour, t, &[Some(n as f64), None, Some(2.0)]);
            if hour >= 2 {
                expected.extend(appended);
            }
        }
        let now = start + i64::from(hour + 1) * 3_600_000;
        store.maintenance().run_housekeeping(now).unwrap();
        drop(hold);
        store.close().unwrap();
        drop(store);
        store = open(dir.path());
    }
    assert!(store.status().blocks().len() >= 4, "samples are in blocks");
    assert_eq!(samples(&read(&store, from)), expected);
    let segments = |dir: &Path| {
        let files = std::fs::read_dir(dir.join("wal")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "wal")).count()
    };
    assert!(segments(dir.path()) >= 10);
    // Without a reader the log is removed with the next flush.
    let t = start + 20 * 3_600_000;
    scrape(&store, 1, t, &[Some(1.0)]);
    store.maintenance().run_housekeeping(t).unwrap();
    assert!(segments(dir.path()) <= 2, "{}", segments(dir.path()));
}

#[test]
fn a_power_loss_is_seen_in_where_the_log_was_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(store.wal().opened_at(), 0);
    scrape(&store, 1, 1_000_000, &[Some(1.0)]);
    let last = store.wal().last_lsn();
    store.close().unwrap();
    drop(store);
    assert_eq!(open(dir.path()).wal().opened_at(), last + 1, "the last record is that of the close");
}
