//! Tests targets with more series than one WAL record has, and a store that refuses a scrape.

mod bench;

use connectors::exposition::{BodyFormat, TextFormat};
use connectors::relabel::Relabeler;
use connectors::scrape::appender::{HistogramPolicy, ScrapeAppender, ScrapeCounts, ScrapeRules};
use connectors::scrape::config::ScrapeLimits;
use connectors::scrape::series_admission::SeriesAdmission;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use storage::metrics::Metrics;
use storage::model::value::is_stale;
use storage::model::{Labels, Matcher, SHARDS};
use storage::store::{Store, StoreBuilder, StoreError, StoreOptions};

const TEXT: BodyFormat = BodyFormat::Text(TextFormat::Text);
const REPORTS: [&str; 2] = ["up", "scrape_duration_seconds"];

fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    }
}

fn target() -> Labels {
    Labels::from_pairs([("job", "j"), ("instance", "i")])
}

/// Scrapes a body at `t`; returns the result of the store.
fn scrape(
    ingest: &mut ScrapeAppender,
    body: &str,
    t: i64,
    counts: &mut ScrapeCounts,
) -> Result<(), StoreError> {
    let target = target();
    let most = usize::MAX;
    let limits =
        ScrapeLimits { body: most, samples: most, labels: most, name_bytes: most, value_bytes: most };
    let relabel = Relabeler::default();
    let admission = SeriesAdmission::new(&target, &relabel, limits);
    let native = HistogramPolicy::default();
    let rules = ScrapeRules { admission, honor_timestamps: true, track_timestamps: false, native };
    ingest.read(body.as_bytes(), TEXT, t, &rules, counts).unwrap();
    ingest.commit(t, &[1.0, 0.5], counts)
}

/// The number of series named `name` at `t`, and the sum of their values, without stale markers.
fn stored(store: &Store, name: &str, t: i64) -> (usize, f64) {
    let mut count = 0;
    let mut sum = 0.0;
    for shard in 0..SHARDS {
        let selection = store.select(shard, &[Matcher::equal("__name__", name)], t, t).unwrap();
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        for i in 0..selection.labels.len() {
            selection.read(i, t, t, &mut ts, &mut vs).unwrap();
        }
        count += vs.iter().filter(|v| !is_stale(**v)).count();
        sum += vs.iter().filter(|v| !is_stale(**v)).sum::<f64>();
    }
    (count, sum)
}

#[test]
fn a_target_with_more_series_than_a_record_holds() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(storage::disk::OsDisk);
    let open = || Store::open(options(dir.path()), disk.clone(), &Metrics::default()).unwrap();
    let n = 270_000;
    let body = |values: usize| {
        let mut body = String::new();
        for i in 0..n {
            let _ = writeln!(body, "m{{i=\"{i}\"}} {values}");
        }
        body
    };
    let (store, _) = open();
    let mut ingest = ScrapeAppender::new(store.clone(), "t".into(), &target(), &REPORTS);
    let mut counts = ScrapeCounts::default();
    scrape(&mut ingest, &body(1), 1_000, &mut counts).unwrap();
    assert_eq!((counts.scraped, counts.kept, counts.added, counts.duplicates), (n, n, n, 0));
    let mut counts = ScrapeCounts::default();
    scrape(&mut ingest, &body(2), 2_000, &mut counts).unwrap();
    assert_eq!((counts.kept, counts.added), (n, 0));
    assert_eq!(
        (stored(&store, "m", 1_000), stored(&store, "m", 2_000)),
        ((n, n as f64), (n, 2.0 * n as f64))
    );
    assert_eq!(stored(&store, "up", 2_000), (1, 1.0));
    // A failed scrape writes stale markers for all series.
    ingest.commit_failure(3_000, &[0.0, 0.5]).unwrap();
    drop(ingest);
    store.close().unwrap();
    drop(store);
    // The log replay restores everything.
    let (store, replay) = open();
    assert_eq!(replay.damage, Vec::<String>::new());
    assert_eq!(stored(&store, "m", 2_000), (n, 2.0 * n as f64));
    assert_eq!((stored(&store, "m", 3_000).0, stored(&store, "up", 3_000)), (0, (1, 0.0)));
}

#[test]
fn what_the_store_does_not_take_is_up_0() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(storage::disk::OsDisk);
    // The log is not written, so its buffer fills.
    let opened = StoreBuilder::new(options(dir.path()), disk, &Metrics::default()).manual_log(1 << 30).open();
    let (store, _) = opened.unwrap();
    let mut ingest = ScrapeAppender::new(store.clone(), "t".into(), &target(), &REPORTS);
    let body = |n: usize| {
        let value = "v".repeat(1_000_000);
        let mut body = "a 1\n".to_owned();
        for i in 0..n {
            let _ = writeln!(body, "m{{i=\"{i}\",v=\"{value}\"}} 1");
        }
        body
    };
    scrape(&mut ingest, &body(70), 1_000, &mut ScrapeCounts::default()).unwrap();
    let refused = scrape(&mut ingest, "a 2\n", 2_000, &mut ScrapeCounts::default()).unwrap_err();
    assert!(refused.to_string().ends_with("the disk does not keep up"), "{refused}");
    let refused = ingest.commit_failure(2_000, &[0.0, 0.5]).unwrap_err();
    assert!(refused.to_string().ends_with("the disk does not keep up"), "{refused}");
    assert_eq!((stored(&store, "up", 1_000), stored(&store, "up", 2_000)), ((1, 1.0), (1, 0.0)));
    assert_eq!(stored(&store, "scrape_duration_seconds", 2_000), (1, 0.5));
    // There is space again: the target continues, and series that it no longer exposes get stale
    // markers.
    store.wal().write_queued(true);
    scrape(&mut ingest, "a 3\n", 3_000, &mut ScrapeCounts::default()).unwrap();
    assert_eq!((stored(&store, "a", 3_000), stored(&store, "m", 3_000).0), ((1, 3.0), 0));
}
