//! Measures the memory of a series in the head, and the time of a log replay, with real captures
//! replicated as instances. `head_cost` is
//! `cargo run --release -p perennial-storage --example head_cost --`.
//!
//!     head_cost fill scrape CAPTURES SERIES DIR
//!     head_cost fill rows CAPTURES SERIES DIR
//!     head_cost fill 500 CAPTURES SERIES DIR
//!     head_cost open DIR
//!     head_cost churn CAPTURES SERIES DIR
//!
//! `scrape` appends batches as the scrape loop does. `rows` appends single samples as remote write
//! does, one target and time per call. A number appends that many samples per call, whatever
//! targets they belong to, like a sender that fills its requests. `churn` creates and ends that
//! many series ten times, and prints the memory that remains each time. Memory is the growth of the
//! resident set (`VmRSS`), with the allocator of the server.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures")]

mod captures;

use captures::{Capture, process_cpu, status, thread_cpu};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{SeriesRef, shard_of};
use storage::store::{ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, Store, StoreOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A range that contains all samples of a run.
const RANGE_MS: i64 = 100 * 7_200_000;

fn main() {
    // As the server does.
    rustix::thread::disable_transparent_huge_pages(true).expect("Linux");
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["fill", how, captures, series, dir] => {
            fill(how, Path::new(captures), series.parse().expect("a number"), Path::new(dir));
        }
        ["churn", captures, series, dir] => {
            churn(Path::new(captures), series.parse().expect("a number"), Path::new(dir));
        }
        ["open", dir] => drop(open(Path::new(dir), true)),
        _ => println!(
            "fill scrape|rows|NUMBER CAPTURES SERIES DIR, or: open DIR, or: churn CAPTURES SERIES DIR"
        ),
    }
}

fn open(dir: &Path, tell: bool) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 100,
        block_range_ms: RANGE_MS,
        out_of_order_ms: storage::limits::OUT_OF_ORDER_WINDOW_MS,
    };
    let begin = Instant::now();
    let cpu = process_cpu();
    let before = status("VmRSS");
    let (store, replay) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store");
    if tell {
        let wall = begin.elapsed().as_secs_f64();
        let cpu = process_cpu() - cpu;
        settle();
        let steady = status("VmRSS") - before;
        let peak = status("VmHWM") - before;
        println!("replay: {} samples in {wall:.3} s, {cpu:.2} s of CPU", replay.samples);
        println!("resident: {:.1} MB, at most {:.1} MB ({:.2})", steady / 1e6, peak / 1e6, peak / steady);
    }
    store
}

/// Makes the allocator return free memory: it does so after a second, at the next allocation.
fn settle() {
    for round in 0..40 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let some: Vec<Vec<u8>> = (0..64).map(|i| vec![round; 1 << (4 + i % 16)]).collect();
        assert_eq!(some.len(), 64);
    }
}

/// A target of the store.
struct Target<'a> {
    capture: &'a Capture,
    columns: ColumnBatch,
    series: Vec<SeriesRef>,
}

fn fill(how: &str, captures: &Path, series: usize, dir: &Path) {
    let captures = Capture::all(captures, "15s", 480);
    let store = open(dir, false);
    let begin = Instant::now();
    let empty = status("VmRSS");
    let mut targets = Vec::new();
    let mut count = 0;
    for instance in 0.. {
        let capture = &captures[instance % captures.len()];
        if count + capture.series.len() > series {
            break;
        }
        count += capture.series.len();
        targets.push(target(&store, capture, instance));
    }
    settle();
    let known = status("VmRSS");
    let cpu = thread_cpu();
    let mut samples = 0;
    let call = how.parse::<usize>().ok();
    let mut waiting = Vec::new();
    for scrape in 0..480 {
        for target in &mut targets {
            let Some((t, values)) = target.capture.scrapes.get(scrape) else { continue };
            samples += match how {
                "scrape" => {
                    target.columns.t = *t;
                    target.columns.values = values.clone().into();
                    store.append_columns(&target.columns, FeedDelivery::Feed).expect("appended").stored
                }
                _ => {
                    let there = |v: f64| !storage::model::value::is_absent(v);
                    let rows = target.series.iter().zip(values).filter(|(_, v)| there(**v));
                    waiting.extend(rows.map(|(series, v)| FloatRow { series: *series, t: *t, v: *v }));
                    let size = call.unwrap_or(waiting.len()).max(1);
                    let ready = waiting.len() / size * size;
                    let rows: Vec<FloatRow> = waiting.drain(..ready).collect();
                    rows.chunks(size).map(|rows| store.append_rows(rows).expect("appended").stored).sum()
                }
            };
        }
    }
    let cpu = thread_cpu() - cpu;
    let wall = begin.elapsed().as_secs_f64();
    store.close().expect("closed");
    settle();
    let full = status("VmRSS");
    let per = |bytes: f64| bytes / count as f64;
    println!("{how}: {count} series of {} targets, {samples} samples, {wall:.1} s", targets.len());
    println!("append: {:.1} ns of CPU per sample", cpu / samples as f64 * 1e9);
    println!("log: {:.2} bytes per sample", log_bytes(dir) / samples as f64);
    println!("labels, registry, postings: {:.0} bytes per series", per(known - empty));
    println!("samples: {:.0} bytes per series", per(full - known));
    println!("all: {:.0} bytes per series", per(full - empty));
}

fn churn(captures: &Path, series: usize, dir: &Path) {
    let captures = Capture::all(captures, "15s", 8);
    let store = open(dir, false);
    let mut before = 0.0;
    let mut instance = 0;
    for round in 0..10 {
        let mut count = 0;
        while count < series {
            let mut target = target(&store, &captures[instance % captures.len()], instance);
            count += target.series.len();
            instance += 1;
            for (scrape, (_, values)) in (0..).zip(&target.capture.scrapes) {
                target.columns.t = round * RANGE_MS + scrape * 15_000;
                target.columns.values = values.clone().into();
                store.append_columns(&target.columns, FeedDelivery::Feed).expect("appended");
            }
        }
        store.maintenance().run_housekeeping((round + 2) * RANGE_MS).expect("a block");
        settle();
        let now = status("VmRSS");
        println!("round {round}: {count} series, {:.0} bytes more each", (now - before) / count as f64);
        before = now;
    }
}

fn target<'a>(store: &Store, capture: &'a Capture, instance: usize) -> Target<'a> {
    let labels = (0..capture.series.len()).map(|series| capture.labels(series, instance));
    let mut shard = 0;
    let series: Vec<SeriesRef> = labels
        .map(|labels| {
            shard = shard_of(&labels);
            store.get_or_create_series(&labels)
        })
        .collect();
    let group = store.open_group(&format!("target {instance}"), shard);
    let layout = Arc::new(ColumnLayout { slots: series.iter().map(|s| s.slot).collect() });
    let columns = ColumnBatch { group, layout, t: 0, values: Arc::from([]) };
    Target { capture, columns, series }
}

fn log_bytes(dir: &Path) -> f64 {
    let files = std::fs::read_dir(dir.join("wal")).expect("a log");
    files.map(|file| file.and_then(|file| file.metadata()).map_or(0.0, |meta| meta.len() as f64)).sum()
}
