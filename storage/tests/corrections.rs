//! Compares corrections with a naive model: float samples in columns and rows and histograms are
//! changed, deleted and restored, and read after each step, after a log replay and after a flush.
//! Also checks the change feed.

#[path = "support/latest.rs"]
mod latest;

use latest::latest_is_the_last;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::value::{ABSENT, STALE, is_absent};
use storage::model::{Labels, Matcher, NativeHistogram, SeriesRef, shard_of};
use storage::store::{
    ChangeData, ChangeEvent, ChangeFeed, ColumnBatch, ColumnLayout, CorrectedValue, Correction, FeedDelivery,
    FloatRow, HistogramRow, Store, StoreOptions,
};

const SERIES: usize = 3;

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("instance", "a".to_owned()), ("i", format!("{i}"))])
}

fn histogram(n: u8) -> Arc<NativeHistogram> {
    Arc::new(NativeHistogram { count: f64::from(n), sum: 1.0, ..NativeHistogram::default() })
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Float(u64),
    Histogram(f64),
}

type Samples = BTreeMap<(u32, i64), Value>;

/// The samples that a receiver of the change feed knows.
#[derive(Default)]
struct Listener(Mutex<Samples>);

impl ChangeFeed for Listener {
    fn push(&self, item: ChangeEvent) {
        let mut samples = self.0.lock();
        let mut float = |slot: u32, t: i64, v: f64| {
            if is_absent(v) {
                samples.remove(&(slot, t));
            } else {
                samples.insert((slot, t), Value::Float(v.to_bits()));
            }
        };
        match item.data {
            ChangeData::Columns(batch) => {
                let there = batch.layout.slots.iter().zip(&*batch.values).filter(|(_, v)| !is_absent(**v));
                for (slot, v) in there {
                    float(*slot, batch.t, *v);
                }
            }
            ChangeData::Rows(rows) => {
                for (slot, t, v) in rows {
                    float(slot, t, v);
                }
            }
            ChangeData::Histograms(rows) => {
                samples.extend(rows.into_iter().map(|(slot, t, h)| ((slot, t), Value::Histogram(h.count))));
            }
            ChangeData::Starts(_) => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Batch(i64, Vec<Option<u8>>),
    Row(usize, i64, u8),
    Histogram(usize, i64, u8),
    Correct(Vec<(usize, i64, u8)>),
    Reopen,
    Maintain,
}

fn step() -> impl Strategy<Value = Step> {
    use proptest::collection::vec;
    let one = (0..SERIES, -30i64..2, 0u8..9);
    prop_oneof![
        30 => (1i64..40, vec(proptest::option::weighted(0.8, 0u8..5), SERIES)).prop_map(|(dt, vs)| Step::Batch(dt, vs)),
        10 => one.clone().prop_map(|(i, dt, v)| Step::Row(i, dt, v)),
        6 => one.clone().prop_map(|(i, dt, v)| Step::Histogram(i, dt, v)),
        30 => vec(one, 1..6).prop_map(Step::Correct),
        2 => Just(Step::Reopen),
        2 => Just(Step::Maintain),
    ]
}

struct Bench {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    feed: Arc<Listener>,
    series: Vec<SeriesRef>,
    now: i64,
    model: Samples,
}

impl Bench {
    fn open(dir: tempfile::TempDir, now: i64, model: Samples) -> Bench {
        let options = StoreOptions {
            dir: dir.path().into(),
            wal_sync_interval_ms: 5,
            block_range_ms: 500,
            out_of_order_ms: 300,
        };
        let (store, replay) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
        assert_eq!(replay.damage, Vec::<String>::new());
        let feed = Arc::new(Listener(Mutex::new(model.clone())));
        store.subscribers().set_feed(feed.clone());
        let series = (0..SERIES).map(|i| store.get_or_create_series(&labels(i))).collect();
        Bench { dir, store, feed, series, now, model }
    }

    fn reopen(self) -> Bench {
        self.store.close().unwrap();
        let Bench { dir, now, model, .. } = self;
        Bench::open(dir, now, model)
    }

    fn batch(&mut self, dt: i64, values: &[Option<u8>]) {
        self.now += dt;
        let shard = shard_of(&labels(0));
        let values: Vec<f64> = values.iter().map(|v| v.map_or(ABSENT, f64::from)).collect();
        for (series, v) in self.series.iter().zip(&values).filter(|(_, v)| !is_absent(**v)) {
            self.model.insert((series.slot, self.now), Value::Float(v.to_bits()));
        }
        let layout = Arc::new(ColumnLayout { slots: self.series.iter().map(|s| s.slot).collect() });
        let group = self.store.open_group("g", shard);
        let batch = ColumnBatch { group, layout, t: self.now, values: values.into() };
        let appended = self.store.append_columns(&batch, FeedDelivery::Feed).unwrap();
        assert_eq!(appended.duplicate + appended.too_old, 0);
    }

    fn row(&mut self, i: usize, dt: i64, v: u8) {
        let row = FloatRow { series: self.series[i], t: self.now + dt, v: f64::from(v) };
        let stored = self.store.append_rows(&[row]).unwrap().stored;
        if stored == 1 {
            let old = self.model.insert((row.series.slot, row.t), Value::Float(row.v.to_bits()));
            assert!(old.is_none(), "only a correction replaces");
        }
        self.now = self.now.max(row.t);
    }

    fn histogram(&mut self, i: usize, dt: i64, v: u8) {
        let row = HistogramRow { series: self.series[i], t: self.now + dt, h: histogram(v) };
        let stored = self.store.append_histograms(std::slice::from_ref(&row)).unwrap().stored;
        if stored == 1 {
            let old = self.model.insert((row.series.slot, row.t), Value::Histogram(row.h.count));
            assert!(old.is_none(), "only a correction replaces");
        }
        self.now = self.now.max(row.t);
    }

    /// Applies corrections, many of them at the times of samples.
    fn correct(&mut self, all: &[(usize, i64, u8)]) {
        let mut corrections = Vec::new();
        for (i, dt, what) in all {
            let series = self.series[*i];
            let times: Vec<i64> =
                self.model.keys().filter(|(slot, _)| *slot == series.slot).map(|(_, t)| *t).collect();
            let known = times.len().checked_sub(1 + dt.unsigned_abs() as usize).map(|at| times[at]);
            let t = known.filter(|_| what % 2 == 0).unwrap_or(self.now + dt);
            let to = match what {
                0 | 1 => CorrectedValue::Gone,
                2 => CorrectedValue::Histogram(histogram(*what)),
                3 => CorrectedValue::Float(STALE),
                v => CorrectedValue::Float(f64::from(*v) + 0.5),
            };
            corrections.push(Correction { series, t, value: to });
        }
        // All corrections are too old or none is, so that the model need not know the bound.
        for one in &corrections {
            let refused = self.store.recorder().correct(std::slice::from_ref(one)).unwrap();
            let key = (one.series.slot, one.t);
            match &one.value {
                _ if refused == 1 => continue,
                CorrectedValue::Gone => drop(self.model.remove(&key)),
                CorrectedValue::Float(v) => drop(self.model.insert(key, Value::Float(v.to_bits()))),
                CorrectedValue::Histogram(h) => drop(self.model.insert(key, Value::Histogram(h.count))),
            }
            self.now = self.now.max(one.t);
        }
    }

    fn check(&self) {
        let all = self
            .store
            .recorder()
            .read_series(&[Matcher::equal("__name__", "m")], i64::MIN, i64::MAX)
            .unwrap();
        let mut read = Samples::new();
        for (labels, one) in all {
            let slot = self.store.get_or_create_series(&labels).slot;
            let floats = one.ts.iter().zip(&one.vs).map(|(t, v)| ((slot, *t), Value::Float(v.to_bits())));
            let histograms = one.histograms.iter().map(|(t, h)| ((slot, *t), Value::Histogram(h.count)));
            for (key, value) in floats.chain(histograms) {
                assert!(read.insert(key, value).is_none(), "{key:?} twice");
            }
            for pair in one.histograms.windows(2) {
                let before = &pair[0].1;
                let behind = &pair[1].1;
                assert_eq!(behind.detect_reset(before), behind.count < before.count, "{pair:?}");
            }
        }
        assert_eq!(read, self.model);
        latest_is_the_last(&self.store);
        assert_eq!(*self.feed.0.lock(), self.model);
    }
}

#[test]
fn a_reset_is_seen_behind_a_histogram_that_was_corrected() {
    for to in [CorrectedValue::Gone, CorrectedValue::Float(1.0), CorrectedValue::Histogram(histogram(7))] {
        let mut bench = Bench::open(tempfile::tempdir().unwrap(), 10_000, Samples::new());
        for v in [5, 1, 2].into_iter() {
            bench.histogram(0, 1, v);
        }
        bench.check();
        let series = bench.series[0];
        let t = bench.now - 1;
        let value = match &to {
            CorrectedValue::Gone => None,
            CorrectedValue::Float(v) => Some(Value::Float(v.to_bits())),
            CorrectedValue::Histogram(h) => Some(Value::Histogram(h.count)),
        };
        bench.model.remove(&(series.slot, t));
        bench.model.extend(value.map(|value| ((series.slot, t), value)));
        assert_eq!(bench.store.recorder().correct(&[Correction { series, t, value: to }]).unwrap(), 0);
        bench.check();
        bench.reopen().check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_last_word_counts(steps in proptest::collection::vec(step(), 1..120)) {
        let mut bench = Bench::open(tempfile::tempdir().unwrap(), 10_000, Samples::new());
        for step in &steps {
            match step {
                Step::Batch(dt, values) => bench.batch(*dt, values),
                Step::Row(i, dt, v) => bench.row(*i, *dt, *v),
                Step::Histogram(i, dt, v) => bench.histogram(*i, *dt, *v),
                Step::Correct(all) => bench.correct(all),
                Step::Reopen => bench = bench.reopen(),
                Step::Maintain => {
                    bench.store.maintenance().run_housekeeping(bench.now).unwrap();
                }
            }
            bench.check();
        }
        bench.reopen().check();
    }
}
