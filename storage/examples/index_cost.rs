//! What finding series costs: a million series in the head and in a block, matchers of every kind, names and values.
//!
//! `cargo run --release -p perennial-storage --example index_cost [SERIES]`. Times are the best and the middle of
//! several; memory is what the process has more than before.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement, for a terminal")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, MatchOp, Matcher, SHARDS};
use storage::store::{Options, Row, Store};

const HOUR: i64 = 3_600_000;

/// 1,000 instances, each with series of 50 metrics by handler and code, and a label that is different in every series.
fn labels(i: usize) -> Labels {
    let (instance, one) = (i % 1000, i / 1000);
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

fn timed<T>(what: &str, mut work: impl FnMut() -> (usize, T)) {
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..9 {
        let start = Instant::now();
        let (n, result) = work();
        times.push(start.elapsed().as_secs_f64() * 1e3);
        drop(result);
        found = n;
    }
    times.sort_by(f64::total_cmp);
    println!("{what:45} {found:8} found  best {:8.3} ms  middle {:8.3} ms", times[0], times[4]);
}

fn ask(store: &Store, from: i64, to: i64) {
    for (what, set) in matchers() {
        timed(what, || {
            let all: Vec<_> =
                (0..SHARDS).map(|shard| store.select(shard, &set, from, to).expect("series")).collect();
            (all.iter().map(|s| s.labels.len()).sum(), all)
        });
    }
    timed("values of instance", || {
        let values = store.label_values("instance", &[], from, to).expect("values");
        (values.len(), values)
    });
    timed("values of code of one metric", || {
        let set = [vec![Matcher::equal("__name__", "app_metric_7_total")]];
        let values = store.label_values("code", &set, from, to).expect("values");
        (values.len(), values)
    });
    timed("values of pod (a million)", || {
        let values = store.label_values("pod", &[], from, to).expect("values");
        (values.len(), values)
    });
}

fn open(dir: &Path) -> Arc<Store> {
    let options = Options {
        dir: dir.into(),
        wal_sync_interval_ms: 1_000,
        block_range_ms: 2 * HOUR,
        out_of_order_ms: 0,
    };
    Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store").0
}

fn main() {
    let series: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let before = resident();
    let start = Instant::now();
    for from in (0..series).step_by(10_000) {
        let rows: Vec<Row> = (from..(from + 10_000).min(series))
            .map(|i| Row { series: store.resolve(&labels(i)), t: HOUR, v: i as f64 })
            .collect();
        store.append_rows(&rows).expect("rows");
    }
    println!(
        "head: {series} series in {:.1} s, {:.0} MB",
        start.elapsed().as_secs_f64(),
        resident() - before
    );
    ask(&store, 0, HOUR * 2 - 1);
    // One newer sample, so that the range is complete.
    store.append_rows(&[Row { series: store.resolve(&labels(0)), t: 4 * HOUR, v: 0.0 }]).expect("a row");
    let start = Instant::now();
    assert_eq!(store.maintain(4 * HOUR).expect("a block"), 1);
    println!("block written and opened in {:.1} s", start.elapsed().as_secs_f64());
    store.close().expect("closed");
    drop(store);
    let (before, start) = (resident(), Instant::now());
    let store = open(dir.path());
    println!("opened again in {:.1} s, {:.0} MB", start.elapsed().as_secs_f64(), resident() - before);
    ask(&store, 0, HOUR * 2 - 1);
}
