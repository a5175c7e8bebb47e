//! A store, the live runtime over it, and its views, driven by a random history
//! ([`super::history`]).

use crate::entries::{self, Entry, RandomExpression};
use crate::history::{COLUMNS, HistogramRecipe, SERIES, Step, TARGETS};
use crate::random::Random;
use engine::annotations::Annotation;
use engine::live::{LiveOptions, LiveRuntime, Sink, TapEvent, ViewId, ViewKind, ViewSpec};
use engine::query::Querier;
use engine::types::histogram_column::Sample;
use parking_lot::Mutex;
use promql::PromqlOptions;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::histogram::{BucketSpan, Buckets, CUSTOM_BUCKETS, ResetHint};
use storage::model::value::{ABSENT, STALE};
use storage::model::{Labels, NativeHistogram, SeriesRef, shard_of};
use storage::store::{ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, HistogramRow, StartRow, Store};

pub const START: i64 = 1_700_000_000_000;

/// What the taps of one view have received.
#[derive(Default)]
pub struct ReceivedAnswer {
    /// Whether it has answered; until then it is being installed.
    pub stands: bool,
    pub rows: BTreeMap<Labels, Sample>,
    pub annotations: Vec<Annotation>,
    pub failed: bool,
    /// An event that no consumer should receive.
    pub wrong: Option<String>,
}

struct Collector(Arc<Mutex<ReceivedAnswer>>);

impl Sink for Collector {
    fn push(&mut self, event: TapEvent) -> bool {
        let mut shown = self.0.lock();
        shown.stands = true;
        match event {
            TapEvent::Snapshot { rows, .. } => shown.rows = rows.into_iter().collect(),
            TapEvent::Delta { upsert, remove, .. } => {
                for labels in &remove {
                    if shown.rows.remove(labels).is_none() {
                        shown.wrong = Some(format!("{labels:?} is removed and was not there"));
                    }
                }
                shown.rows.extend(upsert);
            }
            TapEvent::Failed { .. } => shown.failed = true,
            TapEvent::Progress { .. } => shown.failed = false,
            TapEvent::Annotations { annotations, .. } => shown.annotations = annotations,
        }
        true
    }
}

/// A view with the expression of an entry.
pub struct View {
    pub entry: Entry,
    pub drawn: RandomExpression,
    pub shown: Arc<Mutex<ReceivedAnswer>>,
    id: ViewId,
}

/// The store, the runtime and the views.
pub struct World {
    pub querier: Querier,
    pub now: i64,
    pub views: Vec<View>,
    store: Arc<Store>,
    live: LiveRuntime,
    workers: usize,
    options: PromqlOptions,
    layouts: HashMap<(usize, u16), (Vec<usize>, Arc<ColumnLayout>)>,
    series: Vec<Vec<(Labels, SeriesRef)>>,
    /// By target: the time of the newest scrape, and the values of its counters.
    last: Vec<i64>,
    counters: Vec<Vec<f64>>,
    present: Vec<Vec<bool>>,
    /// By target: its histogram series, and the counts of their buckets.
    histograms: Vec<Vec<(SeriesRef, [f64; 3])>>,
    alone: Option<FloatRow>,
    dir: tempfile::TempDir,
}

fn open(dir: &Path) -> Arc<Store> {
    let options = storage::store::StoreOptions {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap().0
}

fn start(store: &Arc<Store>, workers: usize, options: &PromqlOptions) -> LiveRuntime {
    let options = LiveOptions { workers, dialect: options.dialect(), ..LiveOptions::default() };
    LiveRuntime::manual(store.clone(), &options, &Metrics::default()).unwrap()
}

/// The references of the series of all targets.
fn resolve(store: &Store) -> Vec<Vec<(Labels, SeriesRef)>> {
    let one = |labels: Labels| {
        let series = store.get_or_create_series(&labels);
        (labels, series)
    };
    (0..TARGETS).map(|t| (0..COLUMNS).map(|i| one(labels(t, i))).collect()).collect()
}

fn resolve_histograms(store: &Store) -> Vec<Vec<(SeriesRef, [f64; 3])>> {
    let one = |target: usize, series: usize| {
        let instance = format!("h{target}:90");
        let series = format!("s{series}");
        let pairs = [("__name__", "m_hist"), ("instance", &instance), ("job", "j"), ("series", &series)];
        (store.get_or_create_series(&Labels::from_pairs(pairs)), [0.0; 3])
    };
    (0..TARGETS).map(|t| (0..SERIES).map(|i| one(t, i)).collect()).collect()
}

/// The labels of column `i` of a target's scrape.
fn labels(target: usize, i: usize) -> Labels {
    let metric = ["m_total", "m_gauge", "m_bucket", "target_info"][i / SERIES];
    let series = i % SERIES;
    let instance = format!("h{target}:90");
    let (name, value) = match metric {
        "m_bucket" => ("le", ["0.1", "1", "5", "+Inf"][series].to_owned()),
        "target_info" => ("version", format!("v{series}")),
        _ => ("series", format!("s{series}")),
    };
    Labels::from_pairs([("__name__", metric), ("instance", &instance), ("job", "j"), (name, &value)])
}

/// The next histogram after `counts`: with custom buckets in series 1, a gauge in series 2.
fn histogram(counts: &mut [f64; 3], series: usize, recipe: HistogramRecipe) -> NativeHistogram {
    let HistogramRecipe { by, at, shape } = recipe;
    if shape < 30 {
        *counts = [0.0; 3];
    }
    counts[usize::from(at % 3)] += f64::from(by % 16);
    let mut h = NativeHistogram {
        count: counts.iter().sum(),
        sum: f64::from(by) / 2.0,
        positive: Buckets { spans: vec![BucketSpan { offset: 1, length: 3 }], counts: counts.to_vec() },
        ..NativeHistogram::default()
    };
    match series {
        1 => {
            h.schema = CUSTOM_BUCKETS;
            h.positive.spans[0].offset = 0;
            h.bounds = if shape > 220 { [1.0, 2.5, 7.0].into() } else { [1.0, 2.5, 5.0].into() };
        }
        2 if shape < 240 => h.hint = ResetHint::Gauge,
        3 if shape > 240 => h.schema = 2,
        _ => {}
    }
    h
}

impl World {
    /// A world with these views, in this dialect.
    pub fn new(workers: usize, options: PromqlOptions, views: Vec<(Entry, RandomExpression)>) -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut world = World {
            querier: Querier::new(store.clone(), 1),
            now: START,
            views: Vec::new(),
            live: start(&store, workers, &options),
            workers,
            options,
            layouts: HashMap::new(),
            series: resolve(&store),
            last: vec![0; TARGETS],
            counters: vec![vec![0.0; COLUMNS]; TARGETS],
            present: vec![vec![false; COLUMNS]; TARGETS],
            histograms: resolve_histograms(&store),
            alone: None,
            store,
            dir,
        };
        world.install(views);
        world
    }

    fn install(&mut self, views: Vec<(Entry, RandomExpression)>) {
        for (entry, drawn) in views {
            let name = drawn.text.clone();
            let plan = drawn.plan.clone();
            let spec = ViewSpec { name, plan, kind: ViewKind::NOW };
            let id = self.live.install(spec).unwrap_or_else(|e| panic!("{}: {e}", drawn.text));
            let shown = Arc::new(Mutex::new(ReceivedAnswer::default()));
            self.live.tap(id, Box::new(Collector(shown.clone())));
            self.views.push(View { entry, drawn, shown, id });
        }
    }

    /// Stops the threads.
    pub fn stop(self) {
        self.live.stop();
    }

    /// Applies `step`; returns whether it was a tick.
    pub fn act(&mut self, step: &Step) -> bool {
        match step {
            Step::Scrape { target, values } => self.scrape(*target, values),
            Step::Alone { target, series, late, value } => {
                let series = self.series[*target][SERIES + series].1;
                let row = FloatRow { series, t: self.now - late, v: f64::from(*value) };
                self.store.append_rows(&[row]).unwrap();
                self.alone = Some(row);
            }
            Step::Again => {
                self.store.append_rows(self.alone.as_slice()).unwrap();
            }
            Step::Histogram { target, series, late, recipe } => {
                self.histogram(*target, *series, *late, *recipe)
            }
            Step::Start { target, series, before } => {
                let t = self.last[*target];
                let series = self.series[*target][*series].1;
                if t > 0 {
                    self.store.append_starts(&[StartRow { series, t, start: t - before }]).unwrap();
                }
            }
            Step::Tick { after, wait } => {
                self.now += after;
                // A view that begins in a preparation answers there, as of the previous tick.
                match (*wait, after % 2) {
                    (true, _) => self.live.tick(self.now),
                    (false, 0) => {
                        self.live.prepare(self.now);
                        self.live.tick_as_is(self.now);
                    }
                    (false, _) => {
                        self.live.tick_as_is(self.now);
                        self.live.prepare(self.now);
                    }
                }
            }
            Step::Restart => self.restart(),
            Step::Rebuild => self.live.rebuild(),
            Step::Change { seed } => self.change(*seed),
        }
        matches!(step, Step::Tick { .. })
    }

    fn restart(&mut self) {
        self.live.stop();
        let views = std::mem::take(&mut self.views);
        self.store.close().unwrap();
        self.store = open(self.dir.path());
        self.querier = Querier::new(self.store.clone(), 1);
        self.series = resolve(&self.store);
        for (ours, theirs) in self.histograms.iter_mut().zip(resolve_histograms(&self.store)) {
            for (ours, (series, _)) in ours.iter_mut().zip(theirs) {
                ours.0 = series;
            }
        }
        self.layouts.clear();
        self.alone = None;
        self.live = start(&self.store, self.workers, &self.options);
        self.install(views.into_iter().map(|view| (view.entry, view.drawn)).collect());
    }

    /// Replaces a third of the views by other expressions; a few are reinstalled unchanged.
    fn change(&mut self, seed: u64) {
        let mut new = Vec::new();
        let live = &self.live;
        let options = &self.options;
        self.views.retain(|view| {
            // Depends only on the view, so that a history with fewer views changes them in the same
            // way.
            let mut random = Random::new(&[seed, view.drawn.text.len() as u64]);
            if !random.chance(33) {
                return true;
            }
            live.remove(view.id);
            let same = random.chance(30);
            let drawn =
                if same { view.drawn.clone() } else { entries::draw(&mut random, view.entry, options) };
            new.push((view.entry, drawn));
            false
        });
        self.install(new);
    }

    fn histogram(&mut self, target: usize, series: usize, late: i64, recipe: HistogramRecipe) {
        let t = self.now - late;
        let (to, counts) = &mut self.histograms[target][series];
        if series == 3 && recipe.shape.is_multiple_of(3) {
            let v = if recipe.at < 20 { STALE } else { f64::from(recipe.by) };
            self.store.append_rows(&[FloatRow { series: *to, t, v }]).unwrap();
        } else {
            let h = Arc::new(histogram(counts, series, recipe));
            self.store.append_histograms(&[HistogramRow { series: *to, t, h }]).unwrap();
        }
        if recipe.at.is_multiple_of(4) {
            let start = t - i64::from(recipe.by) * 500;
            self.store.append_starts(&[StartRow { series: *to, t, start }]).unwrap();
        }
    }

    /// A scrape at this moment. The byte of each value determines what happens to its series:
    /// mostly it continues.
    fn scrape(&mut self, target: usize, values: &[u8]) {
        if self.last[target] >= self.now {
            return;
        }
        self.last[target] = self.now;
        let mut parts: BTreeMap<u16, Vec<(usize, f64)>> = BTreeMap::new();
        for (i, byte) in values.iter().enumerate() {
            let present = &mut self.present[target][i];
            let counter = &mut self.counters[target][i];
            let gone = *byte < 12;
            let value = match (gone, *present) {
                (true, true) => STALE,
                (true, false) => ABSENT,
                (false, _) if i / SERIES == 1 => f64::from(*byte) / 7.0 - 15.0,
                (false, _) if i / SERIES == 3 || *byte < 24 => 1.0,
                (false, _) => *counter + f64::from(byte % 32),
            };
            *present = !gone;
            if !gone {
                *counter = value;
            }
            parts.entry(shard_of(&self.series[target][i].0)).or_default().push((i, value));
        }
        for (shard, part) in parts {
            let which: Vec<usize> = part.iter().map(|(i, _)| *i).collect();
            let entry = self.layouts.entry((target, shard)).or_insert_with(|| {
                let slots = which.iter().map(|i| self.series[target][*i].1.slot).collect();
                (which.clone(), Arc::new(ColumnLayout { slots }))
            });
            assert_eq!(entry.0, which);
            let batch = ColumnBatch {
                group: self.store.open_group(&format!("target{target}"), shard),
                layout: entry.1.clone(),
                t: self.now,
                values: part.iter().map(|(_, v)| *v).collect(),
            };
            self.store.append_columns(&batch, FeedDelivery::Feed).unwrap();
        }
    }
}
