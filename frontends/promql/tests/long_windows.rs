//! Windows with many samples in the live runtime: for every window function of the table, the live
//! answer equals the query runtime's answer, while series are scraped every second with gaps,
//! resets, stale markers, late samples and new series. Equal bit by bit, unless the table says that
//! the function sums in another order, extrapolates or predicts.

use engine::functions::line_fit::REFIT_TOLERANCE;
use engine::functions::regression::OTHER_ORIGIN_TOLERANCE;
use engine::functions::{
    Function, Kernel, TimeDependence, WindowKernel, WindowMethod, lookup, panes::REORDER_TOLERANCE, table,
};
use engine::live::describe::ViewFootprint;
use engine::live::{LiveOptions, LiveRuntime, Sink, SpillOptions, TapEvent, ViewId, ViewKind, ViewSpec};
use engine::plan::{Plan, ValueType};
use engine::query::{Querier, QueryOptions, QueryValue};
use engine::types::histogram_column::Sample;
use parking_lot::Mutex;
use promql::{PromqlOptions, compile};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::value::{ABSENT, STALE};
use storage::model::{Labels, TimeMs, shard_of};
use storage::store::{ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, GroupId, Retention, Store};

const START: TimeMs = 1_700_000_000_000;
const SERIES: usize = 6;
/// The largest value; a sum of magnitudes is below this times the samples of a window.
const LARGEST: f64 = 2e4;
const WINDOWS: [&str; 2] = ["80s", "150s"];
/// Spill options: what the windows keep in memory while the rest is spilled.
const SPILL: SpillOptions = SpillOptions { min_age_ms: 20_000, chunk_ms: 4_000 };

type Rows = Arc<Mutex<BTreeMap<Labels, f64>>>;

struct RowSink(Rows);

impl Sink for RowSink {
    fn push(&mut self, event: TapEvent) -> bool {
        let float = |(labels, sample)| match sample {
            Sample::Float(v) => (labels, v),
            Sample::Histogram(_) => panic!("there are no histograms"),
        };
        let mut rows = self.0.lock();
        match event {
            TapEvent::Snapshot { rows: all, .. } => *rows = all.into_iter().map(float).collect(),
            TapEvent::Delta { upsert, remove, .. } => {
                rows.retain(|labels, _| !remove.contains(labels));
                rows.extend(upsert.into_iter().map(float));
            }
            _ => {}
        }
        true
    }
}

struct View {
    function: &'static Function,
    text: String,
    plan: Plan,
    rows: Rows,
}

fn labels(series: usize) -> Labels {
    let series = series.to_string();
    Labels::from_pairs([("__name__", "m"), ("instance", "h:90"), ("job", "j"), ("series", &series)])
}

struct World {
    store: Arc<Store>,
    live: LiveRuntime,
    metrics: Metrics,
    querier: Querier,
    views: Vec<View>,
    group: GroupId,
    layouts: [Arc<ColumnLayout>; 2],
    _dir: tempfile::TempDir,
}

impl World {
    /// A world without views.
    fn new(spill: SpillOptions) -> World {
        World::with_blocks(spill, 7_200_000, 1_800_000)
    }

    /// A world without views over a store with this block length and this limit for late samples,
    /// ms.
    fn with_blocks(spill: SpillOptions, block_range_ms: i64, out_of_order_ms: i64) -> World {
        let dir = tempfile::tempdir().unwrap();
        let options = storage::store::StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms,
            out_of_order_ms,
        };
        let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
        let metrics = Metrics::default();
        let live =
            LiveRuntime::manual(store.clone(), &LiveOptions { spill, ..LiveOptions::default() }, &metrics)
                .unwrap();
        let layout = |series: usize| {
            let slots = (0..series).map(|i| store.get_or_create_series(&labels(i)).slot).collect();
            Arc::new(ColumnLayout { slots })
        };
        let layouts = [layout(SERIES - 2), layout(SERIES)];
        let group = store.open_group("h", shard_of(&labels(0)));
        let querier = Querier::new(store.clone(), 1);
        World { store, live, metrics, querier, views: Vec::new(), group, layouts, _dir: dir }
    }

    /// Installs these functions, over windows of each of these lengths with each of these
    /// modifiers.
    fn with(
        mut self,
        wanted: impl Fn(&Function, WindowKernel) -> bool,
        windows: &[&str],
        places: &[&str],
    ) -> World {
        for function in table() {
            let Kernel::Window(kernel) = function.kernel else { continue };
            for window in windows.iter().filter(|_| wanted(function, kernel)) {
                for place in places.iter() {
                    self.install(function, window, place);
                }
            }
        }
        self
    }

    fn install(&mut self, function: &'static Function, window: &str, place: &str) {
        let arg = |kind: &ValueType| match kind {
            ValueType::Matrix => format!("m[{window}]{place}"),
            _ => "0.3".to_owned(),
        };
        let args: Vec<String> = function.args.iter().map(arg).collect();
        self.install_as(function, format!("{}({})", function.name, args.join(", ")));
    }

    fn install_as(&mut self, function: &'static Function, text: String) {
        let plan = compile(&text, &PromqlOptions::all()).unwrap_or_else(|e| panic!("{text}: {e}"));
        let spec = ViewSpec { name: text.clone(), plan: plan.clone(), kind: ViewKind::NOW };
        let view = self.live.install(spec).unwrap();
        let rows = Rows::default();
        self.live.tap(view, Box::new(RowSink(rows.clone())));
        self.views.push(View { function, text, plan, rows });
    }

    /// The bytes of the ring of the first view, after one more tick.
    fn bytes(&self, t: TimeMs) -> usize {
        self.works(t)[0].rings[0].bytes
    }

    /// The footprint of all views, after one more tick.
    fn works(&self, t: TimeMs) -> Vec<ViewFootprint> {
        let ask = || self.live.describe(ViewId(0), usize::MAX, Duration::from_secs(60)).unwrap();
        std::thread::scope(|scope| {
            let asked = scope.spawn(ask);
            while !asked.is_finished() {
                self.live.tick(t);
            }
            asked.join().unwrap().views.into_iter().filter_map(|view| view.work).collect()
        })
    }

    fn scrape(&self, second: usize, bytes: &[u8]) {
        // Series that start later belong to another layout of the same group.
        let layout = &self.layouts[usize::from(second > 100)];
        let value = |i: usize| match bytes[i % bytes.len()].wrapping_mul(i as u8 * 2 + 1) {
            0..2 => ABSENT,
            2..4 => STALE,
            4..6 if i.is_multiple_of(2) => 0.25,
            byte if i.is_multiple_of(2) => (second * 40) as f64 + f64::from(byte) / 16.0,
            byte => f64::from(byte) / 7.0 - 9.0,
        };
        let values = (0..layout.slots.len()).map(value).collect();
        let t = START + second as i64 * 1_000;
        let batch = ColumnBatch { group: self.group, layout: layout.clone(), t, values };
        self.store.append_columns(&batch, FeedDelivery::Feed).unwrap();
    }

    fn late(&self, second: usize, back: usize, v: f64) {
        let series = self.store.get_or_create_series(&labels(back % SERIES));
        let t = START + second.saturating_sub(back) as i64 * 1_000 - 350;
        self.store.append_rows(&[FloatRow { series, t, v }]).unwrap();
    }

    fn compare(&self, t: TimeMs) {
        for view in &self.views {
            let answer = self.querier.instant(&view.plan, t, &QueryOptions::default()).unwrap();
            let QueryValue::Vector(wanted) = answer.value else { panic!("{}", view.text) };
            let rows = view.rows.lock();
            assert_eq!(rows.len(), wanted.len(), "{} at {}", view.text, t - START);
            for row in wanted {
                let got = rows[&row.labels];
                let same = got.to_bits() == row.v.to_bits()
                    || got.is_nan() && row.v.is_nan()
                    || (got - row.v).abs() <= tolerance(view.function, row.v);
                assert!(same, "{} at {}: {got:e}, from scratch {:e}", view.text, t - START, row.v);
            }
        }
    }
}

/// How much an answer may differ according to the table.
fn tolerance(function: &Function, value: f64) -> f64 {
    let Kernel::Window(kernel) = function.kernel else { return 0.0 };
    match (kernel.time_dependence, kernel.method) {
        (TimeDependence::Extrapolated, _) => 1e-14 * value.abs(),
        (TimeDependence::Linear(_), _) => OTHER_ORIGIN_TOLERANCE * LARGEST,
        (_, WindowMethod::LeastSquares(_)) => REFIT_TOLERANCE * LARGEST,
        // The variance is computed from squares, whose rounding error is a part of the answer.
        (_, WindowMethod::Panes { exact: false, .. }) => {
            (REORDER_TOLERANCE * LARGEST * 150.0).max(1e-9 * value.abs())
        }
        _ => 0.0,
    }
}

fn cases() -> u32 {
    std::env::var("LIVE_CASES").ok().and_then(|n| n.parse::<u32>().ok()).unwrap_or(24).div_ceil(6)
}

/// Scrapes every second, and some samples that arrive up to `late` seconds late.
fn run(world: World, seconds: &[(Vec<u8>, u8)], ticks: usize, late: usize) {
    for (second, (bytes, what)) in seconds.iter().enumerate() {
        match what {
            // The target does not answer.
            0..6 => {}
            6..10 => world.late(second, usize::from(bytes[0]) % late, f64::from(bytes[1])),
            _ => world.scrape(second, bytes),
        }
        let t = START + second as i64 * 1_000 + i64::from(*what) * 3;
        if what % 3 == 0 {
            world.live.tick(t);
            if second % ticks == 0 || second + 3 > seconds.len() {
                world.compare(t);
            }
        }
    }
    world.live.stop();
}

fn seconds() -> impl Strategy<Value = Vec<(Vec<u8>, u8)>> {
    prop::collection::vec((prop::collection::vec(any::<u8>(), SERIES), any::<u8>()), 180..420)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn long_windows_equal_scratch(seconds in seconds(), ticks in 7usize..30) {
        let world = World::new(SpillOptions::default()).with(|_, _| true, &WINDOWS, &[""]);
        run(world, &seconds, ticks, 120);
    }

    #[test]
    fn long_windows_that_give_samples_away_equal_scratch(seconds in seconds(), ticks in 7usize..30, late in 2usize..40) {
        let kept_up = |_: &Function, kernel: WindowKernel| !matches!(kernel.method, WindowMethod::Rescan);
        let world = World::new(SPILL).with(kept_up, &WINDOWS, &["", " offset 70s"]);
        run(world, &seconds, ticks, late);
    }
}

/// Functions over sorted values, over one window of each of these lengths.
fn in_order(_: &Function, kernel: WindowKernel) -> bool {
    matches!(kernel.method, WindowMethod::Sorted(_))
}

/// The bytes of a second's scrape, including gaps, stale markers and equal values.
fn noise(second: usize) -> Vec<u8> {
    let hash = |i: usize| (second * 31 + i * 7 + 3).wrapping_mul(0x9e37_79b9) >> 7;
    (0..SERIES).map(|i| hash(i) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Windows share sorted values; one of them changes its parameter at each tick.
    #[test]
    fn values_in_order_are_shared(seconds in seconds(), ticks in 7usize..30, late in 2usize..120, away: bool) {
        let spill = if away { SPILL } else { SpillOptions::default() };
        let mut world = World::new(spill).with(in_order, &WINDOWS, &["", " offset 7s"]);
        let function = lookup("quantile_over_time").unwrap();
        for q in ["0.99", "(time() % 11) / 10"] {
            world.install_as(function, format!("quantile_over_time({q}, m[150s])"));
        }
        run(world, &seconds, ticks, late);
    }
}

/// Samples that leave a window between two ticks are held until the window has removed them, and no
/// tick reads them from the store for that.
#[test]
fn values_in_order_follow_seldom_ticks() {
    for spill in [SpillOptions::default(), SpillOptions { min_age_ms: 60_000, chunk_ms: 50_000 }] {
        let world = World::new(spill).with(in_order, &["300s"], &["", " offset 60s"]);
        for second in 0..1_500 {
            world.scrape(second, &noise(second));
            if second % 45 == 44 {
                let t = START + second as i64 * 1_000;
                world.live.tick(t);
                world.compare(t);
            }
        }
        assert!(world.metrics.render().contains("perennial_long_window_reads_total 0"));
        world.live.stop();
    }
}

/// A spilled sample that the store has lost by the time it leaves the window must not stay in the
/// window forever.
#[test]
fn values_in_order_lose_what_the_store_lost() {
    let world = World::with_blocks(SPILL, 20_000, 1_000).with(in_order, &WINDOWS, &[""]);
    for second in 0..500 {
        world.scrape(second, &noise(second));
        let t = START + second as i64 * 1_000;
        world.live.tick(t);
        if second == 140 {
            world.store.retention().set(Retention { time_ms: 60_000, size_bytes: 0 });
            assert!(world.store.maintenance().run_housekeeping(t).unwrap() > 2);
        }
        if !(140..290).contains(&second) {
            world.compare(t);
        }
    }
    world.live.stop();
}

/// A day of sorted values holds the values once for all views; the ring keeps only the samples
/// around the edges.
#[test]
fn a_day_in_order_is_its_values_once() {
    const STEPS: i64 = 26 * 240;
    let mut world = World::new(SpillOptions::default()).with(in_order, &["1d"], &[""]);
    world.install_as(lookup("quantile_over_time").unwrap(), "quantile_over_time(0.99, m[1d])".to_owned());
    for step in 0..STEPS {
        let t = START + step * 15_000;
        // Each third value stays constant for long, which matters for counters.
        let value = |i: i64| if i % 3 == 0 { step / 400 % 2 } else { (step * (i + 300)) % 977 } as f64;
        let values = (0..SERIES as i64).map(value).collect();
        let batch = ColumnBatch { group: world.group, layout: world.layouts[1].clone(), t, values };
        world.store.append_columns(&batch, FeedDelivery::Feed).unwrap();
        world.live.tick(t + 1);
        if step % 240 == 0 {
            world.store.maintenance().run_housekeeping(t).unwrap();
        }
    }
    let end = START + STEPS * 15_000;
    world.compare(end - 14_999);
    let samples = 24 * 240_usize;
    let works = world.works(end);
    let ring = works[0].rings[0].bytes;
    let shared = 2 * (samples.next_power_of_two() * 8 + 96 * 200);
    assert!(ring < shared + SERIES * samples * 8 / 4, "{ring}");
    let state: usize = works.iter().map(|work| work.state.total - ring).sum();
    let values = SERIES * samples * 8;
    assert!(state > values && state < values * 17 / 16 + works.len() * 30_000, "{state}");
    assert!(world.metrics.render().contains("perennial_long_window_reads_total 0"));
    world.live.stop();
}

/// A day in which the ticks prefetch everything they need: the windows keep a third of its samples
/// (about one hour around each of six edges), and the spilled ones are read back.
#[test]
fn a_day_of_scrapes_stays_in_the_store() {
    const STEPS: i64 = 30 * 240;
    let functions = ["rate", "delta", "max_over_time", "avg_over_time"];
    let mut world =
        World::new(SpillOptions::default()).with(|f, _| functions.contains(&f.name), &["1d"], &[""]);
    for step in 0..STEPS {
        let t = START + step * 15_000;
        // Counters; some reset, or are absent for a while.
        let value = |i: usize| match (i % 3, step % 1_800) {
            (2, 700..720) => ABSENT,
            (2, since) | (1, since) => (since * 7) as f64,
            _ => (step * 7) as f64,
        };
        let values = (0..SERIES).map(value);
        let batch =
            ColumnBatch { group: world.group, layout: world.layouts[1].clone(), t, values: values.collect() };
        world.store.append_columns(&batch, FeedDelivery::Feed).unwrap();
        // Other views join a window that has spilled samples.
        match step {
            4_500 => world.install(lookup("sum_over_time").unwrap(), "3h", ""),
            5_000 => world.install(lookup("increase").unwrap(), "2h", " offset 9h"),
            _ => {}
        }
        world.live.tick(t + 1);
        if step % 240 == 0 {
            world.store.maintenance().run_housekeeping(t).unwrap();
        }
        if step % 1_000 == 999 {
            world.compare(t + 1);
        }
    }
    let samples = 24 * 240_usize;
    let bytes = world.bytes(START + STEPS * 15_000);
    // What series share: times, in a vector that doubles, and 96 chunks. A ring that was read from
    // the store knows two clocks, because some series were absent.
    let shared = 2 * (samples.next_power_of_two() * 8 + 96 * 200);
    assert!(bytes < shared + SERIES * samples * 8 / 3, "{bytes}");
    assert!(world.metrics.render().contains("perennial_long_window_reads_total 0"));
    world.live.stop();
}

/// A window of a day that was just read from the store spills what its views have seen at once,
/// between the ticks. It does not wait for the gradual checks of its samples.
#[test]
fn a_day_that_was_read_goes_back_at_once() {
    const STEPS: i64 = 24 * 240;
    let mut world = World::new(SpillOptions::default());
    for step in 0..STEPS {
        let t = START + step * 15_000;
        let values = vec![(step * 7) as f64; SERIES].into();
        let batch = ColumnBatch { group: world.group, layout: world.layouts[1].clone(), t, values };
        world.store.append_columns(&batch, FeedDelivery::Feed).unwrap();
        if step % 240 == 0 {
            world.store.maintenance().run_housekeeping(t).unwrap();
        }
    }
    let end = START + STEPS * 15_000;
    world.live.tick_as_is(end);
    world.install(lookup("rate").unwrap(), "1d", "");
    while world.views[0].rows.lock().is_empty() {
        world.live.prepare(end);
        world.live.tick_as_is(end);
    }
    let samples = STEPS as usize;
    let bytes = world.bytes(end);
    assert!(bytes < samples.next_power_of_two() * 8 + 96 * 200 + SERIES * samples * 8 / 3, "{bytes}");
    world.compare(end);
    world.live.stop();
}
