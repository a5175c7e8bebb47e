//! Measures the latency of appends while blocks are written and merged: scrapes of real captures at
//! a steady pace, during a flush of four ranges and a merge of three blocks.
//!
//!     cargo run --release -p perennial-storage --example append_latency -- \
//!         CAPTURES SERIES alone|busy|reader DIR
//!
//! An append is the batch of one scrape. With `busy` another thread computes all the time; with
//! `reader` another thread reads all the time, and checks every result. The merge runs at low
//! priority, as in the server. *From when it was due* includes the scheduler: how late the
//! appending thread wakes up.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures")]

mod captures;

use captures::{Capture, status};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Matcher, SHARDS, shard_of};
use storage::store::{ColumnBatch, ColumnLayout, FeedDelivery, Store, StoreError, StoreOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The time range of a range of the head.
const RANGE_MS: i64 = 7_200_000;
/// The scrape interval of a target.
const STEP_MS: i64 = 15_000;
/// The number of ranges that are flushed; the head has one more.
const RANGES: i64 = 4;
/// The interval between appends: a thousand per second.
const PACE: Duration = Duration::from_millis(1);
/// The shortest duration of a phase.
const LEAST: Duration = Duration::from_secs(4);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [captures, series, company @ ("alone" | "busy" | "reader"), dir] => {
            measure(Path::new(captures), series.parse().expect("a number"), company, Path::new(dir));
        }
        _ => println!("CAPTURES SERIES alone|busy|reader DIR"),
    }
}

/// The targets of a store, and their progress.
struct Load {
    captures: Vec<Capture>,
    targets: Vec<(usize, ColumnBatch)>,
    /// The number of scrapes so far, of all targets.
    scrapes: u64,
}

impl Load {
    fn new(store: &Store, captures: Vec<Capture>, series: usize) -> Load {
        let mut targets = Vec::new();
        let mut count = 0;
        for instance in 0.. {
            let at = instance % captures.len();
            let capture = &captures[at];
            count += capture.series.len();
            if count > series {
                break;
            }
            let labels = (0..capture.series.len()).map(|series| capture.labels(series, instance));
            let mut shard = 0;
            let mut slots = Vec::new();
            for labels in labels {
                shard = shard_of(&labels);
                slots.push(store.get_or_create_series(&labels).slot);
            }
            let group = store.open_group(&format!("target {instance}"), shard);
            let layout = Arc::new(ColumnLayout { slots });
            targets.push((at, ColumnBatch { group, layout, t: 0, values: Arc::from([]) }));
        }
        Load { captures, targets, scrapes: 0 }
    }

    /// The next scrape of the next target; after the end of the capture the times continue.
    fn next(&mut self) -> ColumnBatch {
        let (round, target) =
            (self.scrapes / self.targets.len() as u64, self.scrapes % self.targets.len() as u64);
        self.scrapes += 1;
        let (capture, columns) = &self.targets[target as usize];
        let scrapes = &self.captures[*capture].scrapes;
        let values = scrapes[round as usize % scrapes.len()].1.clone().into();
        ColumnBatch { t: round as i64 * STEP_MS, values, ..columns.clone() }
    }

    /// The time of the newest complete round.
    fn now(&self) -> i64 {
        (self.scrapes / self.targets.len() as u64) as i64 * STEP_MS
    }
}

fn measure(captures: &Path, series: usize, company: &str, dir: &Path) {
    let options = StoreOptions {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 100,
        block_range_ms: RANGE_MS,
        out_of_order_ms: storage::limits::OUT_OF_ORDER_WINDOW_MS,
    };
    let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store");
    let mut load = Load::new(&store, Capture::all(captures, "15s", 480), series);
    for _ in 0..(RANGES * RANGE_MS + RANGE_MS / 4 * 3) / STEP_MS * load.targets.len() as i64 {
        store.append_columns(&load.next(), FeedDelivery::Feed).expect("appended");
    }
    let targets = load.targets.len();
    let resident = status("VmRSS") / 1e6;
    println!("{company}: {targets} targets, {} appends, {resident:.0} MB resident", load.scrapes);
    let now = load.now();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| match company {
            "busy" => until(&over, || (0..10_000u64).fold(0, |sum, n| std::hint::black_box(sum ^ n))),
            "reader" => {
                let mut first = None;
                until(&over, || {
                    let answer = ask(&store, now);
                    assert!(answer != 0 && *first.get_or_insert(answer) == answer, "another answer");
                    answer
                })
            }
            _ => 0,
        });
        phase("quiet", &store, &mut load, |elapsed| elapsed < LEAST);
        during("while ranges are written", &store, &mut load, || store.maintenance().run_housekeeping(now));
        phase("quiet", &store, &mut load, |elapsed| elapsed < LEAST);
        during("while blocks are merged", &store, &mut load, || {
            rustix::process::nice(19).expect("niced");
            store.maintenance().compact()
        });
        over.store(true, Relaxed);
        println!("{company}: {} rounds, every answer the same", beside.join().expect("right answers"));
    });
    store.close().expect("closed");
}

/// Runs `work` repeatedly until `over` is set; returns how often.
fn until(over: &AtomicBool, mut work: impl FnMut() -> u64) -> u64 {
    let mut rounds = 0;
    while !over.load(Relaxed) {
        work();
        rounds += 1;
    }
    rounds
}

/// A number computed from all samples of a metric before `to`.
fn ask(store: &Store, to: i64) -> u64 {
    let mut ts = Vec::new();
    let mut vs = Vec::new();
    let mut sum = 0u64;
    for shard in 0..SHARDS {
        let metric = [Matcher::equal("__name__", "node_cpu_seconds_total")];
        let selection = store.select(shard, &metric, 0, to - 1).expect("an answer");
        for at in 0..selection.labels.len() {
            ts.clear();
            vs.clear();
            selection.read(at, 0, to - 1, &mut ts, &mut vs).expect("samples");
            let mix = |t: &i64, v: &f64| (*t as u64).wrapping_mul(31).wrapping_add(v.to_bits());
            // The rotation prevents targets with equal values from cancelling each other out.
            let more =
                |sum: u64, (t, v)| (sum.rotate_left(5) ^ mix(t, v)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            sum = ts.iter().zip(&vs).fold(sum, more);
        }
    }
    sum
}

/// Runs a phase while `work` runs.
fn during(
    what: &str,
    store: &Store,
    load: &mut Load,
    work: impl FnOnce() -> Result<usize, StoreError> + Send,
) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let begin = Instant::now();
            let blocks = work().expect("done");
            done.store(true, Relaxed);
            (blocks, begin.elapsed().as_secs_f64())
        });
        phase(what, store, load, |_| !done.load(Relaxed));
        let (blocks, seconds) = worker.join().expect("done");
        println!("  {blocks} blocks in {seconds:.1} s");
    });
}

/// Appends as long as `goes_on` returns true, and prints the latencies.
fn phase(what: &str, store: &Store, load: &mut Load, goes_on: impl Fn(Duration) -> bool) {
    let begin = Instant::now();
    let mut took = Vec::new();
    let mut inside = Vec::new();
    let mut due = Instant::now();
    while goes_on(begin.elapsed()) {
        let columns = load.next();
        due += PACE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let before = Instant::now();
        store.append_columns(&columns, FeedDelivery::Feed).expect("appended");
        took.push(due.elapsed().as_secs_f64() * 1e6);
        inside.push(before.elapsed().as_secs_f64() * 1e6);
    }
    println!("{what}: {} appends", took.len());
    percentiles("from when it was due (us)", &mut took);
    percentiles("the call (us)", &mut inside);
}

fn percentiles(what: &str, took: &mut [f64]) {
    took.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    let most = took.last().copied().unwrap_or(f64::NAN);
    println!("  {what}: p50 {:.1}, p99 {:.1}, p99.9 {:.1}, at most {most:.0}", at(0.5), at(0.99), at(0.999));
}
