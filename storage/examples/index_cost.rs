//! Measures the lookup of series: a million series in the head and in a block, matchers of every
//! kind, label names and values.
//!
//! `cargo run --release -p perennial-storage --example index_cost [SERIES] [DIRECTORY]`. Times are
//! the minimum and the median of several runs; memory is the growth of the process. An existing
//! directory is queried without being filled.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement, for a terminal")]

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use storage::block::Block;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, MatchOp, Matcher, SHARDS};
use storage::store::{FloatRow, Store, StoreOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOUR: i64 = 3_600_000;

/// 1,000 instances, each with series of 50 metrics by handler and code, and a label with a
/// different value in every series.
fn labels(i: usize) -> Labels {
    let instance = i % 1000;
    let one = i / 1000;
    Labels::from_pairs([
        ("__name__", format!("app_metric_{}_total", one % 50)),
        ("code", ["200", "404", "500", "503"][one / 50 % 4].to_owned()),
        ("handler", format!("/api/v1/thing{}", one / 200)),
        ("instance", format!("host-{instance}.example:9100")),
        ("job", format!("job{}", instance % 10)),
        ("pod", format!("pod-{i:07x}")),
    ])
}

fn matchers() -> Vec<(&'static str, Vec<Matcher>)> {
    use MatchOp::*;
    let m = |name: &str, op, value: &str| Matcher::new(name, op, value).expect("a matcher");
    let name = || m("__name__", Equal, "app_metric_7_total");
    vec![
        ("one series by pod", vec![m("pod", Equal, "pod-00f423f")]),
        ("name, instance", vec![name(), m("instance", Equal, "host-17.example:9100")]),
        ("name, instance =~ 10 of 1000", vec![name(), m("instance", Regex, "host-17.\\.example:9100")]),
        (
            "name, instance, code =~ 5..",
            vec![name(), m("instance", Equal, "host-17.example:9100"), m("code", Regex, "5..")],
        ),
        (
            "name, instance, handler !~",
            vec![
                name(),
                m("instance", Equal, "host-17.example:9100"),
                m("handler", NotRegex, ".*thing[0-2]"),
            ],
        ),
        (
            "name, instance, pod != one",
            vec![name(), m("instance", Equal, "host-17.example:9100"), m("pod", NotEqual, "pod-0000011")],
        ),
        (
            "name, instance, pod =~ suffix",
            vec![name(), m("instance", Equal, "host-17.example:9100"), m("pod", Regex, ".*1")],
        ),
        ("pod =~ prefix", vec![m("pod", Regex, "pod-00f42.+")]),
        ("pod =~ suffix (scans a million values)", vec![m("pod", Regex, ".*f423f")]),
        ("name (20,000 series)", vec![name()]),
    ]
}

fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or_default();
    pages * 4096.0 / 1e6
}

/// Runs `ask` on the stores that `open` returns, once per measurement.
fn timed<S: Deref<Target = Store>>(what: &str, times: usize, open: impl Fn() -> S, ask: &Question) {
    let mut took = Vec::new();
    let mut found = 0;
    for _ in 0..times {
        let store = open();
        let start = Instant::now();
        found = ask(&store);
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    println!("{what:45} {found:8} found  best {:8.3} ms  middle {:8.3} ms", took[0], took[times / 2]);
}

/// Queries a store and returns the number of results.
type Question = dyn Fn(&Store) -> usize;

fn questions(from: i64, to: i64) -> Vec<(&'static str, Box<Question>)> {
    let select = move |(what, set): (&'static str, Vec<Matcher>)| -> (_, Box<Question>) {
        let ask = move |store: &Store| {
            let all: Vec<_> =
                (0..SHARDS).map(|shard| store.select(shard, &set, from, to).expect("series")).collect();
            all.iter().map(|s| s.labels.len()).sum()
        };
        (what, Box::new(ask))
    };
    let metric = || vec![vec![Matcher::equal("__name__", "app_metric_7_total")]];
    let values = |what, name: &'static str, sets: Vec<Vec<Matcher>>| -> (_, Box<Question>) {
        let ask = move |store: &Store| store.label_values(name, &sets, from, to).expect("values").len();
        (what, Box::new(ask))
    };
    let mut all: Vec<_> = matchers().into_iter().map(select).collect();
    all.push(values("values of instance", "instance", Vec::new()));
    all.push(values("values of code of one metric", "code", metric()));
    all.push(values("values of instance of one metric", "instance", metric()));
    all.push(values("values of pod (a million)", "pod", Vec::new()));
    let names = move |store: &Store| store.label_names(&metric(), from, to).expect("names").len();
    all.push(("names of one metric", Box::new(names)));
    all
}

fn open(dir: &Path) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 1_000,
        block_range_ms: 2 * HOUR,
        out_of_order_ms: 0,
    };
    Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store").0
}

fn main() {
    // As the server does.
    rustix::thread::disable_transparent_huge_pages(true).expect("Linux");
    let mut args = std::env::args().skip(1);
    let series: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = args.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let questions = questions(0, HOUR * 2 - 1);
    let ask = |store: &Store| {
        for (what, ask) in &questions {
            timed(what, 9, || store, ask.as_ref());
        }
    };
    if !dir.join("blocks").is_dir() {
        fill(&dir, series, ask);
    }
    let blocks = std::fs::read_dir(dir.join("blocks")).expect("blocks");
    for block in blocks.map(|block| block.expect("a block").path()) {
        let before = resident();
        let start = Instant::now();
        let block = Block::open(Arc::new(OsDisk), &block).expect("a block");
        let took = start.elapsed().as_secs_f64();
        println!("the block alone: opened in {took:.3} s, {:.0} MB", resident() - before);
        drop(block);
    }
    let before = resident();
    let start = Instant::now();
    let store = open(&dir);
    println!("opened again in {:.1} s, {:.0} MB", start.elapsed().as_secs_f64(), resident() - before);
    ask(&store);
    store.close().expect("closed");
    drop(store);
    println!("each asked of a store that was opened for it, its files in the page cache:");
    for (what, ask) in questions.iter() {
        timed(what, 3, || open(&dir), ask.as_ref());
    }
}

/// Makes series in the head, queries them there, and then in a block.
fn fill(dir: &Path, series: usize, ask: impl Fn(&Store)) {
    let store = open(dir);
    let before = resident();
    let start = Instant::now();
    for from in (0..series).step_by(10_000) {
        let rows: Vec<FloatRow> = (from..(from + 10_000).min(series))
            .map(|i| FloatRow { series: store.get_or_create_series(&labels(i)), t: HOUR, v: i as f64 })
            .collect();
        store.append_rows(&rows).expect("rows");
    }
    let took = start.elapsed().as_secs_f64();
    println!("head: {series} series in {took:.1} s, {:.0} MB", resident() - before);
    ask(&store);
    // One newer sample, so that the range is complete.
    store
        .append_rows(&[FloatRow { series: store.get_or_create_series(&labels(0)), t: 4 * HOUR, v: 0.0 }])
        .expect("a row");
    let start = Instant::now();
    assert_eq!(store.maintenance().run_housekeeping(4 * HOUR).expect("a block"), 1);
    println!("block written and opened in {:.1} s", start.elapsed().as_secs_f64());
    store.close().expect("closed");
}
