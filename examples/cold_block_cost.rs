//! What a query over blocks in an object store takes: over a directory and over an S3 server
//! (`s3s-fs`, on this machine), with an empty cache, with a full one, and asked again.
//!
//! `cargo run --release --workspace --example cold_block_cost [SERIES]`. The middle of several,
//! wall-clock milliseconds.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement, for a terminal")]

/// What [`s3`] needs of the tests' support.
mod daemon {
    pub fn free_port() -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    }
}
#[allow(dead_code, reason = "shared with tests")]
#[path = "../tests/support/s3.rs"]
mod s3;

use connectors::objects::RemoteObjects;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, SHARDS};
use storage::store::{ColdOptions, FloatRow, Store, StoreBuilder, StoreOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOUR: i64 = 3_600_000;
const TIMES: usize = 7;

/// A hundred series per metric.
fn labels(i: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("app_metric_{}_total", i / 100)),
        ("instance", format!("host-{}.example:9100", i % 100)),
        ("job", "app".to_owned()),
    ])
}

fn open(dir: &Path, objects: Option<&str>) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 1_000,
        block_range_ms: 2 * HOUR,
        out_of_order_ms: 0,
    };
    let far = objects.map(|text| {
        let config = serde_saphyr::from_str(&format!("{{{text}}}")).expect("a configuration");
        let place = RemoteObjects::open(&config, std::iter::empty()).expect("a place");
        ColdOptions {
            objects: Arc::new(place),
            after_ms: 1,
            cache_bytes: 1 << 30,
            mark: "cold_block_cost".to_owned(),
        }
    });
    let store = StoreBuilder::new(options, Arc::new(OsDisk), &Metrics::default())
        .cold_storage(far)
        .open()
        .expect("a store")
        .0;
    store.maintenance().reconcile_cold_storage().expect("an object store");
    store
}

/// Two hours at 15 s in a block, a sample in the head.
fn fill(dir: &Path, series: usize) {
    let store = open(dir, None);
    let all: Vec<_> = (0..series).map(|i| store.get_or_create_series(&labels(i))).collect();
    for scrape in 0..480 {
        // Counters, each at its own rate.
        let rows = all.iter().enumerate().map(|(i, series)| FloatRow {
            series: *series,
            t: scrape * 15_000,
            v: (scrape * (i as i64 % 37) + (i as i64 * scrape * scrape) % 7) as f64,
        });
        store.append_rows(&rows.collect::<Vec<_>>()).expect("rows");
    }
    store.append_rows(&[FloatRow { series: all[0], t: 4 * HOUR, v: 0.0 }]).expect("a row");
    assert_eq!(store.maintenance().run_housekeeping(4 * HOUR).expect("a block"), 1);
    store.close().expect("closed");
}

/// All samples of what `matchers` select; how many.
fn read(store: &Store, matchers: &[Matcher]) -> usize {
    let mut ts = Vec::new();
    let mut vs = Vec::new();
    for shard in 0..SHARDS {
        let selection = store.select(shard, matchers, 0, 2 * HOUR).expect("series");
        for i in 0..selection.labels.len() {
            selection.read(i, 0, 2 * HOUR, &mut ts, &mut vs).expect("samples");
        }
    }
    ts.len()
}

fn middle(mut took: Vec<f64>) -> f64 {
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}

fn measure(what: &str, dir: &Path, objects: Option<&str>) {
    let metric = || Matcher::equal("__name__", "app_metric_7_total");
    let questions = [
        ("one series", vec![metric(), Matcher::equal("instance", "host-17.example:9100")]),
        ("a metric of 100 series", vec![metric()]),
    ];
    for (question, matchers) in questions {
        let mut cold = Vec::new();
        let mut cached = Vec::new();
        let mut again = Vec::new();
        let mut samples = 0;
        for _ in 0..TIMES {
            for empty in [true, false] {
                if empty {
                    let _ = std::fs::remove_dir_all(dir.join("objects/cache"));
                }
                let store = open(dir, objects);
                for first in [true, false] {
                    let start = Instant::now();
                    samples = read(&store, &matchers);
                    let took = start.elapsed().as_secs_f64() * 1e3;
                    match (first, empty) {
                        (true, true) => cold.push(took),
                        (true, false) => cached.push(took),
                        _ => again.push(took),
                    }
                }
                store.close().expect("closed");
            }
        }
        let cold = middle(cold);
        let cached = middle(cached);
        let again = middle(again);
        println!(
            "{what}: {question}, {samples} samples: cache empty {cold:.1}, block not open {cached:.1}, again {again:.2} ms"
        );
    }
}

fn main() {
    let series: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let server = s3::S3::start();
    let origin = tempfile::tempdir().expect("a directory");
    fill(origin.path(), series);
    measure("here", origin.path(), None);
    let far = tempfile::tempdir().expect("a directory");
    let places =
        [("directory", format!("url: 'file://{}'", far.path().display())), ("S3", server.config("p"))];
    for (what, objects) in places {
        let dir = tempfile::tempdir().expect("a directory");
        fill(dir.path(), series);
        let store = open(dir.path(), Some(&objects));
        let start = Instant::now();
        assert_eq!(store.maintenance().move_to_cold(4 * HOUR).expect("moved"), 1);
        let took = start.elapsed().as_secs_f64();
        println!("{what}: a block of {series} series moved in {took:.2} s");
        store.close().expect("closed");
        measure(what, dir.path(), Some(&objects));
    }
}
