//! Measures the cost of a block with real captures: bytes per sample, writing, and reading through
//! the page reader.
//!
//!     cargo run --release -p perennial-storage --example block_cost -- sizes CAPTURES DIR
//!     cargo run --release -p perennial-storage --example block_cost -- reads CAPTURES SERIES DIR
//!
//! `sizes` writes the captures with an interval of 15 s unchanged. `reads` replicates them as
//! instances, with counters changed a little so that no two are equal, and reads them with the file
//! in the page cache and no page decoded.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures")]

mod captures;

use captures::{Capture, status, thread_cpu};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use storage::block::{Block, BlockMeta, BlockSeries, write_block};
use storage::disk::OsDisk;
use storage::model::value::is_absent;
use storage::model::{Labels, Matcher};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // As the server does.
    rustix::thread::disable_transparent_huge_pages(true).expect("Linux");
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["sizes", captures, dir] => {
            sizes(&Capture::all(Path::new(captures), "15s", usize::MAX), Path::new(dir))
        }
        ["reads", captures, series, dir] => {
            let captures = Capture::all(Path::new(captures), "15s", 480);
            reads(&captures, series.parse().expect("a number"), Path::new(dir));
        }
        _ => println!("sizes CAPTURES DIR, or: reads CAPTURES SERIES DIR"),
    }
}

/// The samples of one series; those of instance `instance` differ a little from the capture.
fn series_of(capture: &Capture, series: usize, instance: usize, noise: bool) -> BlockSeries {
    let mut one = BlockSeries { labels: capture.labels(series, instance), ..BlockSeries::default() };
    let rows = capture.scrapes.iter().map(|(t, row)| (*t, row[series]));
    let (mut added, mut random) =
        (0.0, ((series * 31 + instance) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut last = None;
    for (t, v) in rows.filter(|(_, v)| !is_absent(*v)) {
        // Where the capture changes, the replica changes by up to two units more.
        if noise && last.is_some_and(|last| last != v) {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            added += (random >> 62) as f64;
        }
        last = Some(v);
        one.ts.push(t);
        one.vs.push(if added > 0.0 { moved(v, added) } else { v });
    }
    one
}

/// The sum, rounded to as many decimals as `v` has.
fn moved(v: f64, by: f64) -> f64 {
    let power = (0..9).map(|exp| 10f64.powi(exp)).find(|power| (v * power).round() / power == v);
    power.map_or(v + by, |power| ((v + by) * power).round() / power)
}

/// Writes a block of the series that `make` returns, sorted by labels; prints the cost.
fn write(
    what: &str,
    labels: Vec<(Labels, usize, usize)>,
    dir: &Path,
    make: impl Fn(usize, usize) -> BlockSeries,
) -> BlockMeta {
    let mut order = labels;
    order.sort_unstable();
    let all: Vec<BlockSeries> = order.iter().map(|(_, series, instance)| make(*series, *instance)).collect();
    let ends = |f: fn(i64, i64) -> i64, t: fn(&BlockSeries) -> Option<&i64>| {
        all.iter().filter_map(t).copied().reduce(f)
    };
    let from = ends(i64::min, |s| s.ts.first()).expect("samples").div_euclid(7_200_000) * 7_200_000;
    let to = ends(i64::max, |s| s.ts.last()).expect("samples") + 1;
    let cpu = thread_cpu();
    let meta = write_block(&OsDisk, dir, from, to, all.into_iter().map(Ok)).expect("written");
    let cpu = thread_cpu() - cpu;
    let files = std::fs::read_dir(&meta.dir).expect("the block");
    let bytes: u64 = files.map(|f| f.and_then(|f| f.metadata()).map_or(0, |m| m.len())).sum();
    let samples = meta.samples as f64;
    println!("{what}: {} series, {samples} samples, {} clocks", meta.series, meta.clocks);
    println!("  {:.3} bytes per sample, all files", bytes as f64 / samples);
    for (name, file) in &meta.files {
        println!("    {name}: {:.4}", file.bytes as f64 / samples);
    }
    println!("  written at {:.1} million samples per second of CPU", samples / cpu / 1e6);
    meta
}

fn sizes(captures: &[Capture], dir: &Path) {
    std::fs::create_dir_all(dir).expect("a directory");
    let all = |at: usize| {
        (0..captures[at].series.len()).map(move |series| (captures[at].labels(series, at), series, at))
    };
    let every = (0..captures.len()).flat_map(all).collect();
    write("captures", every, dir, |series, at| series_of(&captures[at], series, at, false));
}

fn reads(captures: &[Capture], series: usize, dir: &Path) {
    std::fs::create_dir_all(dir).expect("a directory");
    let mut every = Vec::new();
    let mut instance = 0;
    while every.len() < series {
        let capture = &captures[instance % captures.len()];
        every.extend((0..capture.series.len()).map(|s| (capture.labels(s, instance), s, instance)));
        instance += 1;
    }
    let make = |series, instance| series_of(&captures[instance % captures.len()], series, instance, true);
    let meta = write("replicas", every, dir, make);
    let begin = Instant::now();
    let before = status("VmRSS");
    let block = Block::open(Arc::new(OsDisk), &meta.dir).expect("opened");
    let open = begin.elapsed().as_secs_f64() * 1e3;
    println!("  opened in {open:.0} ms, {:.1} MB", (status("VmRSS") - before) / 1e6);
    let from = meta.min_time;
    let to = meta.max_time;
    let handles = block.select(&[], from, to).expect("series");
    let mut took = Vec::new();
    let mut found = Vec::new();
    let mut cpu = 0.0;
    // A step that is no multiple of the series per page, so that each page is decoded once.
    for handle in handles.iter().step_by(97) {
        let labels = handle.labels().clone();
        let matchers: Vec<Matcher> = labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
        let begin = Instant::now();
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        let one = block.select(&matchers, from, to).expect("series");
        found.push(begin.elapsed().as_secs_f64() * 1e6);
        let begin = Instant::now();
        let used = thread_cpu();
        for one in one.iter() {
            one.read(from, to, &mut ts, &mut vs).expect("read");
        }
        took.push(begin.elapsed().as_secs_f64() * 1e6);
        cpu += thread_cpu() - used;
        assert!(!vs.is_empty(), "{labels} has samples");
    }
    println!("  one series, read: {:.1} us of CPU", cpu / took.len() as f64 * 1e6);
    percentiles("one series, read (us)", &mut took);
    percentiles("one series, found (us)", &mut found);
    thousand(&meta, captures);
}

/// Reads a metric of a thousand series, each time without decoded pages.
fn thousand(meta: &BlockMeta, captures: &[Capture]) {
    let mut took = Vec::new();
    let mut count = (0, 0);
    let metrics = captures.iter().flat_map(|c| c.series.iter().map(|pairs| pairs[0].1.as_str()));
    let mut names: Vec<&str> = metrics.collect();
    names.sort_unstable();
    names.dedup();
    let block = Block::open(Arc::new(OsDisk), &meta.dir).expect("opened");
    let select = |block: &Block, name: &str| {
        block.select(&[Matcher::equal("__name__", name)], meta.min_time, meta.max_time).expect("series")
    };
    names.retain(|name| (800..1_400).contains(&select(&block, name).len()));
    for name in names.iter().cycle().take(names.len() * 5) {
        let block = Block::open(Arc::new(OsDisk), &meta.dir).expect("opened");
        let begin = Instant::now();
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        let found = select(&block, name);
        let mut samples = 0;
        for one in &found {
            // As a query does: one series after the other into the same buffers.
            ts.clear();
            vs.clear();
            one.read(meta.min_time, meta.max_time, &mut ts, &mut vs).expect("read");
            samples += vs.len();
        }
        took.push(begin.elapsed().as_secs_f64() * 1e3 * 480_000.0 / samples as f64);
        count = (count.0 + found.len(), count.1 + samples);
    }
    println!("  metrics of about 1000 series: {}, {} series, {} samples", took.len(), count.0, count.1);
    percentiles("such a metric, 480000 samples (ms)", &mut took);
}

fn percentiles(what: &str, took: &mut [f64]) {
    took.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    println!("  {what}: p50 {:.1}, p90 {:.1}, p99 {:.1}, of {}", at(0.5), at(0.9), at(0.99), took.len());
}
