//! Measures what recording rules and alerts cost as live views: CPU per tick without new samples,
//! per tick with one scrape, and in cores overall; and their memory.
//!
//! `cargo run --release -p perennial-promql --example live_cost [rules] [targets] [scrape seconds]
//! [past seconds] [expr]`.
//!
//! The rules have six shapes, a third of them are alerts; recording rules have an interval of 5 s.
//! With an expression, all rules record that one, with `{N}` replaced by the rule's number. At the
//! end a thousand rules over the existing ones, each with its own threshold, are installed and
//! removed; every fifth of them records. Scrapes are spread over their interval, and each is
//! followed by a tick that reads it and one that finds nothing new. Times are CPU times of the
//! single worker thread (Linux).
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use engine::live::{LiveOptions, LiveRuntime, Sink, TapEvent, ViewId, ViewKind, ViewSpec};
use promql::{PromqlOptions, compile};
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs, shard_of};
use storage::store::{ColumnBatch, ColumnLayout, FeedDelivery, GroupId, Store, StoreOptions};

type Failure = Box<dyn std::error::Error>;

const START: TimeMs = 1_700_000_000_000;
const JOBS: usize = 8;
const SECONDS: i64 = 30;
const TICKS: i64 = 100;
/// The interval of the rules that are installed and removed: none of them is due in the measured
/// ticks, so that the cost of installing is not hidden by evaluations.
const APART: i64 = 86_400_000;
const GROUPINGS: [&str; 6] = ["method", "code", "route", "instance", "method, code", "instance, route"];
const WINDOWS: [&str; 4] = ["5m", "1m", "2m", "10m"];
const QUANTILES: [&str; 4] = ["0.5", "0.9", "0.95", "0.99"];

/// The expression of rule `i`, and the condition under which it would alert.
fn rule(i: usize) -> (String, &'static str, bool) {
    let n = i / 6;
    let job = format!("job=\"job{}\"", n % JOBS);
    let by = GROUPINGS[n / JOBS % GROUPINGS.len()];
    let window = WINDOWS[(n + n / JOBS) % WINDOWS.len()];
    let requests = |more: &str| format!("sum by ({by}) (rate(http_requests_total{{{job}{more}}}[{window}]))");
    let (expr, condition) = match i % 6 {
        0 => (requests(""), "> 1e9"),
        1 => (format!("{} / {}", requests(",code=~\"5..\""), requests("")), "> 0.999"),
        2 => {
            let by = if by.contains("instance") { "le, instance" } else { "le" };
            let rate = format!("rate(http_request_duration_seconds_bucket{{{job}}}[{window}])");
            (format!("histogram_quantile({}, sum by ({by}) ({rate}))", QUANTILES[n % 4]), "> 2.4")
        }
        3 => (format!("max_over_time(queue_depth{{{job},queue=~\"q{}.*\"}}[1h])", n % 10), "> 6400"),
        4 => (
            format!("avg_over_time(temperature_celsius{{{job},sensor=~\"s{}.*\"}}[{window}])", n % 10),
            "> 103",
        ),
        _ => (
            format!("predict_linear(queue_depth{{{job},queue=~\"q{}.*\"}}[{window}], 3600)", n % 10),
            "> 1e7",
        ),
    };
    (expr, condition, n % 3 == 2)
}

/// The 500 series of a target.
fn series(target: usize) -> Vec<Labels> {
    let instance = format!("h{target}:90");
    let job = format!("job{}", target % JOBS);
    let with = |name: &str, more: &[(&str, String)]| {
        let mut pairs =
            vec![("__name__", name.to_owned()), ("instance", instance.clone()), ("job", job.clone())];
        pairs.extend(more.iter().cloned());
        Labels::from_pairs(pairs)
    };
    let mut all = Vec::new();
    for (i, method) in ["GET", "PUT", "POST", "HEAD"].iter().enumerate() {
        for code in ["200", "204", "301", "404", "500", "503"] {
            for route in (i..i + 10).map(|r| format!("/r{r}")) {
                let more = [("code", code.to_owned()), ("method", (*method).to_owned()), ("route", route)];
                all.push(with("http_requests_total", &more));
            }
        }
    }
    for le in ["0.01", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "+Inf"] {
        for route in (0..10).map(|r| format!("/r{r}")) {
            let more = [("le", le.to_owned()), ("route", route)];
            all.push(with("http_request_duration_seconds_bucket", &more));
        }
    }
    all.extend((0..60).map(|q| with("queue_depth", &[("queue", format!("q{q}"))])));
    all.extend((0..90).map(|s| with("temperature_celsius", &[("sensor", format!("s{s}"))])));
    all
}

struct Bench {
    store: Arc<Store>,
    live: LiveRuntime,
    targets: Vec<Target>,
    rules: usize,
}

struct Target {
    group: GroupId,
    layout: Arc<ColumnLayout>,
}

struct IgnoringSink;

impl Sink for IgnoringSink {
    fn push(&mut self, _: TapEvent) -> bool {
        true
    }

    fn wants_annotations(&self) -> bool {
        false
    }
}

/// Counters increase, gauges vary.
fn values(target: usize, second: i64) -> Arc<[f64]> {
    let hash =
        |x: u64| x.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = |i: usize| {
        let noise = (hash(hash(i as u64 + 1) ^ (target as u64) << 32 ^ second as u64) >> 48) as f64;
        if i < 350 { (second * (1 + i as i64 % 7)) as f64 * 100.0 + 1e6 + noise / 1e4 } else { noise / 10.0 }
    };
    (0..500).map(value).collect()
}

fn scrape(store: &Store, targets: &[Target], target: usize, t: TimeMs) -> Result<(), Failure> {
    let Target { group, layout } = &targets[target];
    let values = values(target, (t - START) / 1_000);
    let batch = ColumnBatch { group: *group, layout: layout.clone(), t, values };
    store.append_columns(&batch, FeedDelivery::Feed)?;
    Ok(())
}

fn install(live: &LiveRuntime, rules: usize, expr: Option<&String>) -> Result<(), Failure> {
    for i in 0..rules {
        let (expr, condition, alert) = match expr {
            Some(expr) => (expr.replace("{N}", &i.to_string()), "", false),
            None => rule(i),
        };
        let text = if alert { format!("({expr}) {condition}") } else { expr };
        let kind = if alert { ViewKind::NOW } else { recorded_as(format!("r{i}"), 5_000) };
        let plan = compile(&text, &PromqlOptions::all()).map_err(|e| e.to_string())?;
        let view = live.install(ViewSpec { name: text, plan, kind })?;
        if alert {
            live.tap(view, Box::new(IgnoringSink));
        }
    }
    Ok(())
}

fn recorded_as(record: String, interval: i64) -> ViewKind {
    ViewKind::Recorded { record, labels: Vec::new(), interval, offset: 0, query_offset: 0, limit: 0 }
}

/// The CPU time of the worker thread.
fn worked() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let is_worker = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("timely:work"))
    };
    let others = tasks.filter(is_worker);
    let spent = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(others.filter_map(spent).sum())
}

fn tick(live: &LiveRuntime, t: TimeMs, spent: &mut Duration, ticks: &mut u32) {
    let before = worked();
    live.tick(t);
    *spent += worked().saturating_sub(before);
    *ticks += 1;
}

/// The bytes of all rings, their series, and the bytes of everything that the first rule holds.
fn bytes(live: &LiveRuntime, t: TimeMs) -> Result<[usize; 3], Failure> {
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| live.describe(ViewId(0), usize::MAX, Duration::from_secs(20)));
        std::thread::sleep(Duration::from_millis(50));
        live.tick(t);
        asked.join()
    });
    let description = asked.map_err(|_| "a panic")??;
    let works: Vec<_> = description.views.into_iter().filter_map(|v| v.work).collect();
    let state = works.first().map_or(0, |work| work.state.total);
    let mut rings: Vec<_> = works.into_iter().flat_map(|w| w.rings).collect();
    rings.sort_by(|a, b| a.selector.cmp(&b.selector));
    rings.dedup_by(|a, b| a.selector == b.selector);
    Ok([rings.iter().map(|r| r.bytes).sum(), rings.iter().map(|r| r.series).sum(), state])
}

/// Measures the installation and then the removal of a thousand rules, in ticks and between them.
fn come_and_go(bench: &Bench, now: &mut TimeMs) -> Result<(), Failure> {
    let Bench { live, rules, .. } = bench;
    print_ticks("as they are", bench, now)?;
    print_ticks("as they are", bench, now)?;
    let mut views = Vec::new();
    live.hold();
    for i in 0..1_000 {
        let expr = rule(i % rules.max(&1)).0;
        let recorded = i % 5 == 0;
        let text =
            if recorded { format!("({expr}) > -{i}") } else { format!("({expr}) > {}", 1e12 + i as f64) };
        let plan = compile(&text, &PromqlOptions::default()).map_err(|e| e.to_string())?;
        let kind = if recorded { recorded_as(format!("more{i}"), APART) } else { ViewKind::NOW };
        let view = live.install(ViewSpec { name: text, plan, kind })?;
        if !recorded {
            live.tap(view, Box::new(IgnoringSink));
        }
        views.push(view);
    }
    live.release();
    print_ticks("a thousand rules come", bench, now)?;
    print_ticks("with them", bench, now)?;
    live.hold();
    for view in views.into_iter() {
        live.remove(view);
    }
    live.release();
    print_ticks("and go", bench, now)?;
    print_ticks("without them", bench, now)
}

/// Measures the CPU time of the worker in these ticks and in the preparation between them. All
/// ticks have the same time, so that nothing changes except the installed and removed rules.
fn print_ticks(what: &str, bench: &Bench, now: &mut TimeMs) -> Result<(), Failure> {
    *now += 1_000;
    (0..bench.targets.len()).try_for_each(|target| scrape(&bench.store, &bench.targets, target, *now))?;
    bench.live.tick_as_is(*now + 1);
    let mut ticks = WorkTimes::default();
    let mut between = WorkTimes::default();
    for _ in 0..TICKS {
        // As many as the driver would fit between two ticks.
        for _ in 0..10 {
            between.add(|| {
                bench.live.prepare(*now + 1);
            });
        }
        ticks.add(|| bench.live.tick_as_is(*now + 1));
    }
    println!("{what}: {ticks} in {TICKS} ticks; {between} between them");
    Ok(())
}

/// Measured pieces of work: their total time, and the longest.
#[derive(Default)]
struct WorkTimes(Duration, Duration);

impl WorkTimes {
    fn add(&mut self, work: impl FnOnce()) {
        let before = worked();
        work();
        let spent = worked().saturating_sub(before);
        self.0 += spent;
        self.1 = self.1.max(spent);
    }
}

impl std::fmt::Display for WorkTimes {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{:.2} ms ({:.2} the longest)", ms(self.0), ms(self.1))
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, otherwise: i64| args.get(at).map_or(Ok(otherwise), |arg| arg.parse::<i64>());
    let rules = number(0, 500)? as usize;
    let targets = number(1, 40)? as usize;
    let interval = number(2, 1)? * 1_000;
    let past = number(3, 4_000)? * 1_000;
    let dir = tempfile::tempdir()?;
    let options = StoreOptions {
        dir: dir.path().into(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let (store, _) = Store::open(options, Arc::new(storage::disk::OsDisk), &Metrics::default())?;
    let target = |number: usize| {
        let labels = series(number);
        let slots = labels.iter().map(|labels| store.get_or_create_series(labels).slot).collect();
        Target {
            group: store.open_group(&number.to_string(), shard_of(&labels[0])),
            layout: Arc::new(ColumnLayout { slots }),
        }
    };
    let all: Vec<Target> = (0..targets).map(target).collect();
    let phase = |target: usize| interval * target as i64 / targets as i64;
    for at in (0..past).step_by(interval as usize) {
        (0..targets).try_for_each(|target| scrape(&store, &all, target, START + at + phase(target)))?;
    }
    let metrics = Metrics::default();
    let touched = metrics.counter("perennial_tick_rows_touched_total", "", &[]);
    let live =
        LiveRuntime::manual(store.clone(), &LiveOptions { workers: 1, ..LiveOptions::default() }, &metrics)?;
    install(&live, rules, args.get(4))?;
    let mut now = START + past;
    let mut spent = Duration::ZERO;
    let mut ticks = 0;
    tick(&live, now - 1, &mut spent, &mut ticks);
    println!("{rules} rules, {} series: installed within a tick of {spent:?}", targets * 500);

    let mut spent = Duration::ZERO;
    let mut ticks = 0;
    tick(&live, now, &mut spent, &mut ticks);
    println!("the first slot, which looks at everything: {spent:?}");

    let mut spent = Duration::ZERO;
    let mut ticks = 0;
    let before = touched.get();
    let mut slots = Duration::ZERO;
    let mut slot_ticks = 0;
    let mut idle = Duration::ZERO;
    let mut idle_ticks = 0;
    let end = now + SECONDS * 1_000;
    // As in the driver, the tick of an evaluation time comes before a scrape at the same time.
    let slot_times = (now + 5_000..=end).step_by(5_000).map(|t| (t, None));
    let mut events: Vec<(TimeMs, Option<usize>)> = slot_times.collect();
    for at in (now..end).step_by(interval as usize) {
        events.extend((0..targets).map(|target| (at + phase(target), Some(target))));
    }
    events.sort_unstable();
    for (t, event) in events {
        match event {
            Some(target) => {
                scrape(&store, &all, target, t)?;
                tick(&live, t + 1, &mut spent, &mut ticks);
                tick(&live, t + 2, &mut idle, &mut idle_ticks);
            }
            None => tick(&live, t, &mut slots, &mut slot_ticks),
        }
    }
    now = end;
    let rows = touched.get() - before;
    println!("with one scrape: {:.1} µs a tick, {ticks} ticks", spent.as_secs_f64() * 1e6 / f64::from(ticks));
    println!("slots: {:.1} µs a tick, {slot_ticks} ticks", slots.as_secs_f64() * 1e6 / f64::from(slot_ticks));
    println!("altogether {:.5} cores, {rows} rows touched", (spent + slots).as_secs_f64() / SECONDS as f64);

    println!("nothing arrives: {:.1} µs a tick", idle.as_secs_f64() * 1e6 / f64::from(idle_ticks));
    let bench = Bench { store, live, targets: all, rules };
    come_and_go(&bench, &mut now)?;
    let live = bench.live;
    let [bytes, series, first] = bytes(&live, now + 1_001)?;
    println!("rings: {bytes} bytes, {} a series of a ring", bytes / series.max(1));
    println!("the first rule, rings included: {first} bytes");
    live.stop();
    Ok(())
}
