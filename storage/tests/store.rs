//! Compares the store with a naive model: random appends of columns (scrapes) and rows (remote
//! write), late, duplicate and stale, read before and after a log replay.
#![allow(clippy::disallowed_methods, reason = "files are looked at and damaged beside the store")]

#[path = "support/latest.rs"]
mod latest;

use latest::latest_is_the_last;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::value::{ABSENT, STALE, is_absent};
use storage::model::{Labels, Matcher, SeriesRef, shard_of};
use storage::store::{
    BlockBackend, ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, SeriesSamples, SeriesSource, Store,
    StoreBuilder, StoreError, StoreOptions,
};

const OUT_OF_ORDER: i64 = 3_000;

fn options(dir: &std::path::Path) -> StoreOptions {
    StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 5,
        block_range_ms: 10_000,
        out_of_order_ms: OUT_OF_ORDER,
    }
}

/// Opens a store, with blocks in memory or real ones.
fn open(dir: &std::path::Path, history: Option<&Arc<MemoryBlocks>>) -> Arc<Store> {
    let disk = Arc::new(OsDisk);
    let metrics = Metrics::default();
    let (store, replay) = match history.cloned() {
        None => Store::open(options(dir), disk, &metrics),
        Some(past) => StoreBuilder::new(options(dir), disk, &metrics)
            .block_backend(Some(past as Arc<dyn BlockBackend>))
            .open(),
    }
    .unwrap();
    assert_eq!(replay.damage, Vec::<String>::new());
    assert_eq!(damaged_blocks(&metrics), 0.0);
    store
}

fn damaged_blocks(metrics: &Metrics) -> f64 {
    metrics.gauge("prometheus_tsdb_blocks_damaged", "", &[]).get()
}

#[test]
fn a_damaged_block_is_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let block = dir.path().join("blocks/0_10000_0123456789abcdef");
    std::fs::create_dir_all(&block).unwrap();
    std::fs::write(block.join("meta.json"), "{").unwrap();
    let metrics = Metrics::default();
    Store::open(options(dir.path()), Arc::new(OsDisk), &metrics).unwrap();
    assert_eq!(damaged_blocks(&metrics), 1.0);
    assert!(block.exists(), "it stays for whoever can mend it");
}

/// The metric names are Prometheus': there, `prometheus_tsdb_out_of_order_samples_total` also
/// counts refused samples.
#[test]
fn late_samples_that_are_stored_count_as_appended() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let (store, _) = Store::open(options(dir.path()), Arc::new(OsDisk), &metrics).unwrap();
    let series = store.get_or_create_series(&labels(0));
    for t in [20_000, 19_000, 18_000, 20_000 - OUT_OF_ORDER - 1] {
        store.append_rows(&[FloatRow { series, t, v: 1.0 }]).unwrap();
    }
    store.append_rows(&[FloatRow { series, t: 19_000, v: 2.0 }]).unwrap();
    let text = metrics.render();
    for line in [
        "\nprometheus_tsdb_head_samples_appended_total{type=\"float\"} 3\n",
        "\nprometheus_tsdb_head_out_of_order_samples_appended_total 2\n",
        "\nprometheus_tsdb_too_old_samples_total 1\n",
        "\nperennial_tsdb_duplicate_samples_total 1\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    assert!(!text.contains("prometheus_tsdb_out_of_order_samples_total"), "{text}");
}

/// Blocks in memory.
#[derive(Default)]
struct MemoryBlocks(Mutex<Vec<Block>>);

struct Block {
    span: (i64, i64),
    series: Vec<(Labels, Arc<Samples>)>,
}

struct Samples(Vec<(i64, f64)>);

impl SeriesSource for Samples {
    fn read(&self, from: i64, to: i64, ts: &mut Vec<i64>, vs: &mut Vec<f64>) -> Result<(), StoreError> {
        for (t, v) in self.0.iter().filter(|(t, _)| (from..=to).contains(t)) {
            ts.push(*t);
            vs.push(*v);
        }
        Ok(())
    }
}

impl BlockBackend for MemoryBlocks {
    fn write(
        &self,
        from: i64,
        to: i64,
        series: &mut dyn Iterator<Item = Result<SeriesSamples, StoreError>>,
    ) -> Result<(), StoreError> {
        let series: Vec<(Labels, Arc<Samples>)> = series
            .map(|s| s.map(|s| (s.labels, Arc::new(Samples(s.ts.into_iter().zip(s.vs).collect())))))
            .collect::<Result<_, _>>()?;
        assert!(series.is_sorted_by(|a, b| a.0 < b.0), "sorted by labels");
        let in_range = |s: &Samples| !s.0.is_empty() && s.0.iter().all(|(t, _)| (from..to).contains(t));
        assert!(series.iter().all(|(_, samples)| in_range(samples)));
        self.0.lock().unwrap().push(Block { span: (from, to), series });
        Ok(())
    }

    fn version(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn select(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: i64,
        to: i64,
    ) -> Result<Vec<(Labels, Arc<dyn SeriesSource>)>, StoreError> {
        let blocks = self.0.lock().unwrap();
        let series = blocks.iter().filter(|b| b.span.0 <= to && b.span.1 > from).flat_map(|b| &b.series);
        let hits =
            series.filter(|(l, _)| shard_of(l) == shard && matchers.iter().all(|m| m.matches_labels(l)));
        let mut hits: Vec<_> =
            hits.map(|(l, samples)| (l.clone(), samples.clone() as Arc<dyn SeriesSource>)).collect();
        hits.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(hits)
    }

    fn label_names(&self, _: &[Vec<Matcher>], _: i64, _: i64) -> Result<Vec<String>, StoreError> {
        Ok(vec!["past".to_owned()])
    }

    fn label_values(&self, _: &str, _: &[Vec<Matcher>], _: i64, _: i64) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
}

/// The series of one target are in one shard.
fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("instance", "a".to_owned()), ("i", format!("{i:02}"))])
}

#[derive(Clone, Debug)]
enum Step {
    /// A batch of a group: time step, series (rotated), values.
    Batch { group: usize, dt: i64, series: Vec<usize>, values: Vec<f64> },
    /// Rows: time step, then series, time relative to the new time, value.
    Rows(i64, Vec<(usize, i64, f64)>),
    /// Closes the store, opens it, replays the log.
    Reopen,
    /// Housekeeping.
    Maintain,
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0i32..5).prop_map(f64::from),
        1 => Just(STALE),
        1 => Just(ABSENT),
        1 => Just(-0.0),
        1 => any::<f64>(),
        1 => (1u64..1 << 51).prop_map(|p| f64::from_bits(0x7ff8_0000_0000_0000 | p)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let series = prop_oneof![
        3 => Just((0..8).collect::<Vec<usize>>()),
        1 => proptest::sample::subsequence((0..12).collect::<Vec<usize>>(), 0..12).prop_shuffle(),
    ];
    let batch = (0usize..2, prop_oneof![8 => 1i64..400, 1 => -500i64..=0], series)
        .prop_flat_map(|(group, dt, series)| {
            let n = series.len();
            (Just(group), Just(dt), Just(series), proptest::collection::vec(value(), n))
        })
        .prop_map(|(group, dt, series, values)| Step::Batch { group, dt, series, values });
    let rows = proptest::collection::vec((0usize..14, -4_000i64..300, value()), 1..6)
        .prop_map(|rows| Step::Rows(0, rows));
    // Enough rows of one time to be stored as a row of columns; mostly different series, sometimes
    // one series twice.
    let several = prop_oneof![
        2 => Just((14..30).collect::<Vec<usize>>()),
        1 => proptest::collection::vec(10usize..30, 8..24),
        1 => proptest::sample::subsequence((8..30).collect::<Vec<usize>>(), 4..22).prop_shuffle(),
    ];
    // Sometimes more samples of the same time.
    let now = prop_oneof![3 => 1i64..400, 1 => Just(0)];
    let together = (now, prop_oneof![6 => Just(0i64), 1 => -500i64..=0], several)
        .prop_flat_map(|(now, dt, series)| {
            let n = series.len();
            (Just(now), Just(dt), Just(series), proptest::collection::vec(value(), n))
        })
        .prop_map(|(now, dt, series, values)| {
            Step::Rows(now, series.into_iter().zip(values).map(|(i, v)| (i, dt, v)).collect())
        });
    prop_oneof![40 => batch, 10 => rows, 15 => together, 1 => Just(Step::Reopen), 1 => Just(Step::Maintain)]
}

/// The expected samples of the store: per series time → bits.
#[derive(Default)]
struct Model(BTreeMap<usize, BTreeMap<i64, u64>>);

#[derive(Debug, Default, PartialEq)]
struct Counts {
    stored: usize,
    too_old: usize,
    duplicate: usize,
}

impl Model {
    fn would_store(&self, series: usize, t: i64) -> bool {
        self.0.get(&series).is_none_or(|samples| {
            let newest = samples.keys().next_back().copied().unwrap_or(i64::MIN);
            !samples.contains_key(&t) && t >= newest - OUT_OF_ORDER
        })
    }

    fn add(&mut self, series: usize, t: i64, v: f64, counts: &mut Counts) {
        let samples = self.0.entry(series).or_default();
        let newest = samples.keys().next_back().copied();
        if newest.is_some_and(|newest| t < newest - OUT_OF_ORDER) {
            counts.too_old += 1;
        } else if let Some(there) = samples.get(&t) {
            counts.duplicate += usize::from(*there != v.to_bits());
        } else {
            samples.insert(t, v.to_bits());
            counts.stored += 1;
        }
    }
}

fn contents(store: &Store, from: i64, to: i64) -> BTreeMap<Labels, BTreeMap<i64, u64>> {
    let mut all = BTreeMap::new();
    for shard in 0..16 {
        let selection = store.select(shard, &[Matcher::equal("__name__", "m")], from, to).unwrap();
        assert!(selection.labels.is_sorted());
        for i in 0..selection.labels.len() {
            let mut ts = vec![-7];
            let mut vs = vec![0.0];
            selection.read(i, from, to, &mut ts, &mut vs).unwrap();
            assert!(ts[1..].windows(2).all(|w| w[0] < w[1]), "sorted, once: {ts:?}");
            assert!(!vs.iter().any(|v| is_absent(*v)));
            let samples: BTreeMap<i64, u64> =
                ts[1..].iter().copied().zip(vs[1..].iter().map(|v| v.to_bits())).collect();
            if !samples.is_empty() {
                all.insert(selection.labels[i].clone(), samples);
            }
        }
    }
    all
}

fn expected(model: &Model, from: i64, to: i64) -> BTreeMap<Labels, BTreeMap<i64, u64>> {
    let in_range = |samples: &BTreeMap<i64, u64>| -> BTreeMap<i64, u64> {
        samples.range(from..=to).map(|(t, v)| (*t, *v)).collect()
    };
    let all = model.0.iter().map(|(i, samples)| (labels(*i), in_range(samples)));
    all.filter(|(_, samples)| !samples.is_empty()).collect()
}

struct Run {
    model: Model,
    now: i64,
    layouts: BTreeMap<Vec<u32>, Arc<ColumnLayout>>,
    /// Whether samples that the model refuses are skipped: the head does not know samples that were
    /// moved to blocks.
    only_good: bool,
}

impl Run {
    fn resolve(&self, store: &Store, i: usize) -> SeriesRef {
        let series = store.get_or_create_series(&labels(i));
        assert_eq!(store.series().labels(series), labels(i));
        series
    }

    fn step(&mut self, store: &Store, step: &Step) {
        let mut counts = Counts::default();
        let appended = match step {
            Step::Batch { group, dt, series, values } => {
                let group = store.open_group(&format!("g{group}"), shard_of(&labels(0)));
                self.now += dt.max(&0);
                let t = self.now + dt.min(&0);
                let slots: Vec<u32> = series.iter().map(|i| self.resolve(store, *i).slot).collect();
                let layout = self
                    .layouts
                    .entry(slots.clone())
                    .or_insert_with(|| Arc::new(ColumnLayout { slots }))
                    .clone();
                let mut values = values.clone();
                for (i, v) in series.iter().zip(&mut values) {
                    if self.only_good && !self.model.would_store(*i, t) {
                        *v = ABSENT;
                    }
                    if !is_absent(*v) {
                        self.model.add(*i, t, *v, &mut counts);
                    }
                }
                let batch = ColumnBatch { group, layout, t, values: values.into() };
                store.append_columns(&batch, FeedDelivery::Feed).unwrap()
            }
            Step::Rows(now, rows) => {
                self.now += now;
                let mut good = Vec::new();
                for (i, dt, v) in rows {
                    let t = self.now + dt;
                    let v = storage::model::value::sanitize(*v);
                    if !self.only_good || self.model.would_store(*i, t) {
                        self.model.add(*i, t, v, &mut counts);
                        good.push(FloatRow { series: self.resolve(store, *i), t, v });
                    }
                }
                let rows = good;
                store.append_rows(&rows).unwrap()
            }
            Step::Reopen | Step::Maintain => return,
        };
        let got =
            Counts { stored: appended.stored, too_old: appended.too_old, duplicate: appended.duplicate };
        assert_eq!(got, counts, "{step:?}");
    }
}

fn check(steps: &[Step], probe: i64, only_good: bool, real: bool) {
    let dir = tempfile::tempdir().unwrap();
    let past = Arc::new(MemoryBlocks::default());
    let history = (!real).then_some(&past);
    let mut store = open(dir.path(), history);
    let mut run = Run { model: Model::default(), now: 5_000, layouts: BTreeMap::new(), only_good };
    for step in steps {
        match step {
            Step::Reopen => {
                let before = contents(&store, i64::MIN, i64::MAX);
                store.close().unwrap();
                store = open(dir.path(), history);
                assert_eq!(contents(&store, i64::MIN, i64::MAX), before);
                latest_is_the_last(&store);
            }
            Step::Maintain if only_good => drop(store.maintenance().run_housekeeping(run.now).unwrap()),
            Step::Maintain => (),
            _ => run.step(&store, step),
        }
    }
    for _ in 0..2 {
        latest_is_the_last(&store);
        assert_eq!(contents(&store, i64::MIN, i64::MAX), expected(&run.model, i64::MIN, i64::MAX));
        assert_eq!(contents(&store, probe, probe + 2_000), expected(&run.model, probe, probe + 2_000));
        store.close().unwrap();
        store = open(dir.path(), history);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn the_store_is_a_map(steps in proptest::collection::vec(step(), 1..150), probe in 0i64..20_000) {
        check(&steps, probe, false, false);
    }

    #[test]
    fn so_it_is_with_blocks(steps in proptest::collection::vec(step(), 100..400), probe in 0i64..40_000) {
        check(&steps, probe, true, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn and_with_blocks_on_disk(steps in proptest::collection::vec(step(), 200..300), probe in 0i64..40_000) {
        check(&steps, probe, true, true);
    }
}

#[test]
fn complete_ranges_leave_the_head_and_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let history = Arc::new(MemoryBlocks::default());
    let mut run = Run { model: Model::default(), now: 5_000, layouts: BTreeMap::new(), only_good: true };
    // Three sessions of 30 s make three segments; series 9 is only in the first one.
    for session in 0..3 {
        let store = open(dir.path(), Some(&history));
        let mut series: Vec<usize> = (0..8).collect();
        series.extend((session == 0).then_some(9));
        for i in 0..30 {
            let values = series.iter().map(|c| (i * c) as f64).collect();
            run.step(&store, &Step::Batch { group: 0, dt: 1_000, series: series.clone(), values });
        }
        store.close().unwrap();
    }
    let segments = || {
        let names = std::fs::read_dir(dir.path().join("wal")).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<String> = names.map(|n| n.into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(segments(), ["00000001.wal", "00000002.wal", "00000003.wal"]);
    let store = open(dir.path(), Some(&history));
    assert_eq!(store.status().head_stats(9).series, 9);
    assert_eq!(
        store.maintenance().run_housekeeping(run.now).unwrap(),
        9,
        "6 s to 95 s: the ranges before 90 s"
    );
    assert_eq!(store.maintenance().run_housekeeping(run.now).unwrap(), 0);
    assert_eq!(segments(), ["00000003.wal", "checkpoint.00000003"]);
    let stats = store.status().head_stats(2);
    assert_eq!(
        (stats.series, stats.min_time, stats.max_time),
        (8, 90_000, 95_000),
        "series 9 is gone from the head"
    );
    assert_eq!(stats.by_metric, [("m".to_owned(), 8)]);
    assert_eq!(contents(&store, i64::MIN, i64::MAX), expected(&run.model, i64::MIN, i64::MAX));
    store.close().unwrap();
    let past = history.clone() as Arc<dyn BlockBackend>;
    let (store, replay) = StoreBuilder::new(options(dir.path()), Arc::new(OsDisk), &Metrics::default())
        .block_backend(Some(past))
        .open()
        .unwrap();
    assert_eq!((replay.samples, replay.damage), (6 * 8, Vec::new()), "what is in blocks is not replayed");
    let series = store.get_or_create_series(&labels(9));
    let row = FloatRow { series, t: 96_000, v: 1.0 };
    assert_eq!(store.append_rows(&[row]).unwrap().stored, 1, "and may come back");
    assert_eq!(store.status().head_stats(0).series, 9);
}

#[test]
fn a_series_that_has_ended_keeps_its_place_for_who_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let past = Arc::new(MemoryBlocks::default());
    let store = open(dir.path(), Some(&past));
    let series: Vec<SeriesRef> = (0..40).map(|i| store.get_or_create_series(&labels(i))).collect();
    let at = |store: &Store, t: i64, some: &[SeriesRef]| {
        let rows: Vec<FloatRow> = some.iter().map(|series| FloatRow { series: *series, t, v: 1.0 }).collect();
        assert_eq!(store.append_rows(&rows).unwrap().stored, some.len());
    };
    for round in 0..3 {
        let t = 5_000 + round * 90_000;
        at(&store, t, &series);
        // A series of another shard continues: the range of the others is complete.
        at(&store, t + 60_000, &series[..1]);
        assert!(store.maintenance().run_housekeeping(t + 60_000).unwrap() > 0);
        assert_eq!(store.status().head_stats(0).series, 1);
        assert_eq!(store.series().find_encoded(labels(7).encoded()), None);
        for (i, series) in series.iter().enumerate() {
            assert_eq!(store.series().labels(*series), labels(i));
        }
        // By labels, and by the slot alone.
        for (i, series) in series.iter().enumerate().take(30).skip(20) {
            assert_eq!(store.get_or_create_series(&labels(i)), *series);
        }
        at(&store, t + 70_000, &series[10..30]);
        for (i, series) in series.iter().enumerate().take(30).skip(10) {
            assert_eq!(store.series().find_encoded(labels(i).encoded()), Some(*series));
        }
        assert_eq!(store.status().head_stats(0).series, 21);
    }
    let all = contents(&store, i64::MIN, i64::MAX);
    store.close().unwrap();
    let again = open(dir.path(), Some(&past));
    assert_eq!(contents(&again, i64::MIN, i64::MAX), all);
}

#[test]
fn samples_that_come_together_are_logged_as_a_scrape_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Some(&Arc::new(MemoryBlocks::default())));
    let series: Vec<SeriesRef> = (0..64).map(|i| store.get_or_create_series(&labels(i))).collect();
    let log = || {
        let files = std::fs::read_dir(dir.path().join("wal")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    for t in 1..=100 {
        let rows: Vec<FloatRow> =
            series.iter().map(|series| FloatRow { series: *series, t: t * 15, v: 12.5 }).collect();
        assert_eq!(store.append_rows(&rows).unwrap().stored, 64);
    }
    store.close().unwrap();
    // Without compression each sample takes five bytes.
    assert!(log() < 6_400 * 2, "{} bytes", log());
    let again = open(dir.path(), Some(&Arc::new(MemoryBlocks::default())));
    let all = contents(&again, i64::MIN, i64::MAX);
    assert!(all.len() == 64 && all.values().all(|samples| samples.len() == 100));
}
