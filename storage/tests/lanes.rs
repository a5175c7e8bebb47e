//! Compares all kinds of samples of one series with a naive model: floats in columns (scrapes) and
//! rows (remote write), native histograms and start timestamps, some late, duplicate or in
//! conflict, read before and after a log replay and a flush.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::histogram::{BucketSpan, Buckets, CUSTOM_BUCKETS, ResetHint};
use storage::model::value::{ABSENT, STALE, is_absent};
use storage::model::{Labels, Matcher, NativeHistogram, SeriesRef, shard_of};
use storage::store::{
    AppendResult, ChangeData, ChangeEvent, ChangeFeed, ColumnBatch, ColumnLayout, FeedDelivery, FloatRow,
    HistogramRow, StartRow, Store, StoreOptions,
};

const OUT_OF_ORDER: i64 = 3_000;

fn open(dir: &std::path::Path) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 5,
        block_range_ms: 10_000,
        out_of_order_ms: OUT_OF_ORDER,
    };
    let (store, replay) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
    assert_eq!(replay.damage, Vec::<String>::new());
    store
}

/// The series of one target are in one shard.
fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("instance", "a".to_owned()), ("i", format!("{i:02}"))])
}

/// Histograms of several shapes; the same number gives the same histogram.
fn histogram(n: u32) -> NativeHistogram {
    let spans = |offset, length| vec![BucketSpan { offset, length }, BucketSpan { offset: 2, length: 1 }];
    let counts = vec![f64::from(n), 1.0, f64::from(n) + 2.0];
    let positive = Buckets { spans: spans(n as i32 % 3, 2), counts };
    let mut h =
        NativeHistogram { count: f64::from(2 * n + 3), sum: f64::from(n), positive, ..<_>::default() };
    match n % 5 {
        0 => h.negative = Buckets { spans: spans(-4, 2), counts: vec![0.5, 0.25, f64::from(n)] },
        1 => (h.zero_threshold, h.zero_count) = (1e-128, 7.0),
        2 => (h.schema, h.bounds) = (CUSTOM_BUCKETS, [0.1, 1.0, f64::from(n)].into()),
        3 => h.hint = ResetHint::Gauge,
        _ => h.sum = f64::NAN,
    }
    h
}

/// The text of a histogram without its reset hint, which the store computes.
fn image(h: &NativeHistogram) -> String {
    format!("{:?}", NativeHistogram { hint: ResetHint::Unknown, ..h.clone() })
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Float(u64),
    Histogram(String),
}

#[derive(Clone, Debug)]
enum Step {
    /// A scrape of all series: time step, values.
    Batch(i64, Vec<f64>),
    Rows(Vec<(usize, i64, f64)>),
    /// Series, time relative to now, number of the histogram.
    Histograms(Vec<(usize, i64, u32)>),
    /// Series, time relative to now, start timestamp.
    Starts(Vec<(usize, i64, i64)>),
    Reopen,
    Maintain,
}

const SERIES: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    use proptest::collection::vec;
    let value = prop_oneof![6 => (0i32..3).prop_map(f64::from), 1 => Just(STALE), 3 => Just(ABSENT)];
    let series = 0..SERIES;
    let dt = -4_000i64..300;
    let batch = (1i64..400, vec(value.clone(), SERIES)).prop_map(|(dt, values)| Step::Batch(dt, values));
    let float = value.prop_filter("rows have values", |v| !is_absent(*v));
    prop_oneof![
        20 => batch,
        10 => vec((series.clone(), dt.clone(), float), 1..4).prop_map(Step::Rows),
        20 => vec((series.clone(), dt.clone(), 0u32..12), 1..4).prop_map(Step::Histograms),
        10 => vec((series, dt, 0i64..4), 1..4).prop_map(Step::Starts),
        1 => Just(Step::Reopen),
        1 => Just(Step::Maintain),
    ]
}

/// The expected content of the store.
#[derive(Default)]
struct Model {
    samples: BTreeMap<usize, BTreeMap<i64, Value>>,
    starts: BTreeMap<usize, BTreeMap<i64, i64>>,
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    stored: usize,
    too_old: usize,
    duplicate: usize,
}

impl Model {
    fn too_old(&self, series: usize, t: i64) -> bool {
        let newest = self.samples.get(&series).and_then(|samples| samples.keys().next_back());
        newest.is_some_and(|newest| t < newest - OUT_OF_ORDER)
    }

    fn add(&mut self, series: usize, t: i64, value: Value, counts: &mut Counts) {
        if self.too_old(series, t) {
            counts.too_old += 1;
            return;
        }
        let samples = self.samples.entry(series).or_default();
        match samples.get(&t) {
            Some(there) => counts.duplicate += usize::from(*there != value),
            None => {
                samples.insert(t, value);
                counts.stored += 1;
            }
        }
    }

    fn start(&mut self, series: usize, t: i64, start: i64, counts: &mut Counts) {
        if start == 0 {
            return;
        }
        let there = self.starts.get(&series).and_then(|starts| starts.get(&t)).copied();
        if let Some(there) = there {
            counts.duplicate += usize::from(there != start);
        } else {
            self.starts.entry(series).or_default().insert(t, start);
            counts.stored += 1;
        }
    }
}

type Contents<T> = BTreeMap<Labels, BTreeMap<i64, T>>;

fn contents(store: &Store, from: i64, to: i64) -> (Contents<Value>, Contents<i64>) {
    let mut all = BTreeMap::new();
    let mut all_starts = BTreeMap::new();
    let selection = store.select(shard_of(&labels(0)), &[Matcher::equal("__name__", "m")], from, to).unwrap();
    for (i, labels) in selection.labels.iter().enumerate() {
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        selection.read(i, from, to, &mut ts, &mut vs).unwrap();
        let floats = ts.into_iter().zip(vs.into_iter().map(|v| Value::Float(v.to_bits())));
        let mut samples: BTreeMap<i64, Value> = floats.collect();
        let mut histograms = vec![(-7, Arc::default())];
        selection.read_histograms(i, from, to, &mut histograms).unwrap();
        assert!(histograms[1..].is_sorted_by(|a, b| a.0 < b.0));
        assert!(selection.has_histograms(i) || histograms.len() == 1);
        for (t, h) in histograms.drain(1..) {
            let before = samples.insert(t, Value::Histogram(image(&h)));
            assert_eq!(before, None, "one sample at a time");
        }
        let mut starts = Vec::new();
        selection.read_starts(i, from, to, &mut starts).unwrap();
        assert!(starts.is_sorted_by(|a, b| a.0 < b.0));
        assert!(selection.has_starts(i) || starts.is_empty());
        if !samples.is_empty() {
            // The start timestamp of a refused sample may be at any time.
            starts.retain(|(t, _)| samples.contains_key(t));
            all.insert(labels.clone(), samples);
            if !starts.is_empty() {
                all_starts.insert(labels.clone(), starts.into_iter().collect());
            }
        }
    }
    (all, all_starts)
}

fn expected(model: &Model, from: i64, to: i64) -> (Contents<Value>, Contents<i64>) {
    let mut all = BTreeMap::new();
    let mut all_starts = BTreeMap::new();
    for (i, samples) in &model.samples {
        let samples: BTreeMap<i64, Value> = samples.range(from..=to).map(|(t, v)| (*t, v.clone())).collect();
        let starts = model.starts.get(i).into_iter().flatten();
        let starts: BTreeMap<i64, i64> =
            starts.filter(|(t, _)| samples.contains_key(t)).map(|(t, s)| (*t, *s)).collect();
        if !starts.is_empty() {
            all_starts.insert(labels(*i), starts);
        }
        if !samples.is_empty() {
            all.insert(labels(*i), samples);
        }
    }
    (all, all_starts)
}

struct Run {
    model: Model,
    now: i64,
    layout: Option<Arc<ColumnLayout>>,
    /// Whether samples that the model refuses are skipped: the head does not know samples that were
    /// moved to blocks.
    only_good: bool,
}

impl Run {
    fn is_good(&self, series: usize, t: i64) -> bool {
        let free = !self.model.samples.get(&series).is_some_and(|samples| samples.contains_key(&t));
        !self.only_good || (free && !self.model.too_old(series, t))
    }

    fn batch(&mut self, store: &Store, dt: i64, values: &[f64], counts: &mut Counts) -> AppendResult {
        let group = store.open_group("g", shard_of(&labels(0)));
        self.now += dt;
        let slots: Vec<u32> = (0..SERIES).map(|i| resolve(store, i).slot).collect();
        let layout = match self.layout.take().filter(|layout| layout.slots == slots) {
            Some(layout) => layout,
            None => Arc::new(ColumnLayout { slots }),
        };
        self.layout = Some(layout.clone());
        let mut values = values.to_vec();
        for (i, v) in values.iter_mut().enumerate() {
            if !self.is_good(i, self.now) {
                *v = ABSENT;
            }
            if !is_absent(*v) {
                self.model.add(i, self.now, Value::Float(v.to_bits()), counts);
            }
        }
        let batch = ColumnBatch { group, layout, t: self.now, values: values.into() };
        store.append_columns(&batch, FeedDelivery::Feed).unwrap()
    }

    fn step(&mut self, store: &Store, step: &Step) {
        let (mut counts, mut rows, mut histograms, mut starts) =
            (Counts::default(), Vec::new(), Vec::new(), Vec::new());
        let appended = match step {
            Step::Batch(dt, values) => self.batch(store, *dt, values, &mut counts),
            Step::Rows(all) => {
                for (i, dt, v) in all.iter().filter(|(i, dt, _)| self.is_good(*i, self.now + dt)) {
                    let series = resolve(store, *i);
                    let t = self.now + dt;
                    rows.push(((*i, t), FloatRow { series, t, v: *v }));
                }
                if self.only_good {
                    rows.sort_by_key(|(place, _)| *place);
                    rows.dedup_by_key(|(place, _)| *place);
                }
                for ((i, t), row) in &rows {
                    self.model.add(*i, *t, Value::Float(row.v.to_bits()), &mut counts);
                }
                store.append_rows(&rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>()).unwrap()
            }
            Step::Histograms(all) => {
                for (i, dt, n) in all {
                    let t = self.now + dt;
                    let h = histogram(*n);
                    if self.is_good(*i, t) {
                        self.model.add(*i, t, Value::Histogram(image(&h)), &mut counts);
                        histograms.push(HistogramRow { series: resolve(store, *i), t, h: Arc::new(h) });
                    }
                }
                store.append_histograms(&histograms).unwrap()
            }
            Step::Starts(all) => {
                for (i, dt, start) in all {
                    let t = self.now + dt;
                    let known = self.model.starts.get(i).is_some_and(|starts| starts.contains_key(&t));
                    if !self.only_good || (!known && !self.model.too_old(*i, t)) {
                        self.model.start(*i, t, *start, &mut counts);
                        starts.push(StartRow { series: resolve(store, *i), t, start: *start });
                    }
                }
                store.append_starts(&starts).unwrap()
            }
            Step::Reopen | Step::Maintain => return,
        };
        let AppendResult { stored, too_old, duplicate, .. } = appended;
        assert_eq!(Counts { stored, too_old, duplicate }, counts, "{step:?}");
    }
}

fn resolve(store: &Store, i: usize) -> SeriesRef {
    store.get_or_create_series(&labels(i))
}

fn check(steps: &[Step], probe: i64, only_good: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut run = Run { model: Model::default(), now: 5_000, layout: None, only_good };
    for step in steps {
        match step {
            Step::Reopen => {
                let before = contents(&store, i64::MIN, i64::MAX);
                store.close().unwrap();
                store = open(dir.path());
                assert_eq!(contents(&store, i64::MIN, i64::MAX), before);
            }
            Step::Maintain if only_good => drop(store.maintenance().run_housekeeping(run.now).unwrap()),
            Step::Maintain => (),
            _ => run.step(&store, step),
        }
    }
    for _ in 0..2 {
        assert_eq!(contents(&store, i64::MIN, i64::MAX), expected(&run.model, i64::MIN, i64::MAX));
        assert_eq!(contents(&store, probe, probe + 2_000), expected(&run.model, probe, probe + 2_000));
        store.close().unwrap();
        store = open(dir.path());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn lanes_are_one_map(steps in proptest::collection::vec(step(), 1..150), probe in 0i64..20_000) {
        check(&steps, probe, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn and_so_with_blocks(steps in proptest::collection::vec(step(), 150..350), probe in 0i64..40_000) {
        check(&steps, probe, true);
    }
}

/// A series with only histograms behaves like others: in blocks, and in label queries.
#[test]
fn blocks_know_series_of_histograms_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let only = resolve(&store, 3);
    let other = resolve(&store, 0);
    for i in 0..60 {
        let t = i * 1_000;
        let rows = [HistogramRow { series: only, t, h: Arc::new(histogram(i as u32)) }];
        store.append_histograms(&rows).unwrap();
        store.append_rows(&[FloatRow { series: other, t, v: 1.0 }]).unwrap();
        store.append_starts(&[StartRow { series: other, t, start: 7 }]).unwrap();
    }
    assert_eq!(store.status().head_stats(0).chunks, 7, "six of rows, one of histograms");
    let before = contents(&store, i64::MIN, i64::MAX);
    assert_eq!(store.maintenance().run_housekeeping(60_000).unwrap(), 5);
    assert_eq!(contents(&store, i64::MIN, i64::MAX), before);
    assert_eq!(store.label_values("i", &[], 0, 9_000).unwrap(), ["00", "03"]);
    store.close().unwrap();
    let store = open(dir.path());
    assert_eq!(contents(&store, i64::MIN, i64::MAX), before);
    let selection = store.select(only.shard, &[Matcher::equal("i", "03")], 0, 9_000).unwrap();
    assert_eq!(
        (selection.labels.len(), selection.has_histograms(0), selection.has_starts(0)),
        (1, true, false)
    );
}

#[test]
fn exemplars_are_found_by_their_series() {
    use storage::exemplars::{Exemplar, ExemplarRow};
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.exemplars().set_limit(10);
    let row = |i, t| {
        let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "a")]), t, v: 1.0 };
        ExemplarRow { series: resolve(&store, i), exemplar, timed: true }
    };
    store.exemplars().add(vec![row(2, 5), row(1, 6), row(3, 7), row(1, 8)]);
    let sets = [vec![Matcher::equal("i", "01")], vec![Matcher::equal("i", "02")]];
    let found = store.select_exemplars(&sets, 0, 7);
    let found: Vec<_> =
        found.iter().map(|s| (s.labels.clone(), s.exemplars.len(), s.exemplars[0].t)).collect();
    assert_eq!(found, [(labels(1), 1, 6), (labels(2), 1, 5)]);
}

#[derive(Default)]
struct FeedLog(parking_lot::Mutex<Vec<ChangeEvent>>);

impl ChangeFeed for FeedLog {
    fn push(&self, item: ChangeEvent) {
        self.0.lock().push(item);
    }
}

#[test]
fn the_first_sample_wins_and_the_feed_hears_what_was_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ear = Arc::new(FeedLog::default());
    store.subscribers().set_feed(ear.clone());
    let series = resolve(&store, 0);
    let row = |t, n| HistogramRow { series, t, h: Arc::new(histogram(n)) };
    let counts = |appended: AppendResult| (appended.stored, appended.duplicate, appended.too_old);
    let append = |rows: &[HistogramRow]| counts(store.append_histograms(rows).unwrap());
    assert_eq!(append(&[row(10_000, 1), row(10_000, 1), row(10_000, 2), row(5_000, 1)]), (1, 1, 1));
    assert_eq!(counts(store.append_rows(&[FloatRow { series, t: 10_000, v: 1.0 }]).unwrap()), (0, 1, 0));
    assert_eq!(counts(store.append_rows(&[FloatRow { series, t: 11_000, v: 1.0 }]).unwrap()), (1, 0, 0));
    assert_eq!(append(&[row(11_000, 1), row(12_000, 4)]), (1, 1, 0));
    let start = |t, start| StartRow { series, t, start };
    let starts = [start(12_000, 9), start(12_000, 9), start(12_000, 8), start(11_000, 0)];
    assert_eq!(counts(store.append_starts(&starts).unwrap()), (1, 1, 0));
    let heard: Vec<_> = ear.0.lock().iter().map(|item| (item.seq, item.data.clone())).collect();
    assert!(matches!(&heard[0], (1, ChangeData::Histograms(h)) if h.len() == 1 && h[0].1 == 10_000));
    assert!(matches!(&heard[1], (2, ChangeData::Rows(rows)) if rows.is_empty()));
    assert!(matches!(&heard[3], (4, ChangeData::Histograms(h)) if h.len() == 1 && h[0].1 == 12_000));
    assert!(matches!(&heard[4], (5, ChangeData::Starts(s)) if *s == [(series.slot, 12_000, 9)]));
    assert_eq!(store.status().head_stats(0).series, 1);
}

#[test]
fn malformed_histograms_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut h = histogram(1);
    h.positive.counts.pop();
    let row = HistogramRow { series: resolve(&store, 0), t: 1, h: Arc::new(h) };
    assert!(store.append_histograms(&[row]).unwrap_err().to_string().contains("malformed histogram"));
    assert_eq!(contents(&store, 0, 9), Default::default());
}

#[test]
fn hints_come_from_the_neighbour_that_is_stored() {
    use ResetHint::{NotReset, Unknown};
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let series = resolve(&store, 0);
    let counter = |n: f64| {
        let positive = Buckets { spans: vec![BucketSpan { offset: 0, length: 1 }], counts: vec![n] };
        Arc::new(NativeHistogram { count: n, positive, ..<_>::default() })
    };
    let add = |t, n| {
        assert_eq!(store.append_histograms(&[HistogramRow { series, t, h: counter(n) }]).unwrap().stored, 1)
    };
    let hints = |store: &Store| {
        let mut all = Vec::new();
        let selection = store.select(series.shard, &[], 0, 99).unwrap();
        selection.read_histograms(0, 0, 99, &mut all).unwrap();
        all.into_iter().map(|(t, h)| (t, h.hint)).collect::<Vec<_>>()
    };
    for (t, n) in [(1, 1.0), (2, 2.0), (3, 1.5), (4, 1.5)].into_iter() {
        add(t, n);
    }
    assert_eq!(hints(&store), [(1, Unknown), (2, NotReset), (3, Unknown), (4, NotReset)]);
    store.append_rows(&[FloatRow { series, t: 5, v: STALE }]).unwrap();
    add(9, 4.0);
    add(10, 5.0);
    assert_eq!(hints(&store)[4..], [(9, Unknown), (10, NotReset)], "a stale marker lies between");
    add(8, 1.0);
    assert_eq!(hints(&store)[4..], [(8, Unknown), (9, Unknown), (10, NotReset)], "a late one");
    for (t, v) in [(20, STALE), (13, 1.0)] {
        store.append_rows(&[FloatRow { series, t, v }]).unwrap();
    }
    for (t, n) in [(11, 6.0), (12, 7.0), (14, 8.0)].into_iter() {
        add(t, n);
    }
    assert_eq!(
        hints(&store)[7..],
        [(11, NotReset), (12, NotReset), (14, Unknown)],
        "floats came before them"
    );
    let before = hints(&store);
    store.close().unwrap();
    assert_eq!(hints(&open(dir.path())), before);
}
