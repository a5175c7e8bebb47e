//! Tests a start with a large WAL: during the log replay the server answers queries, scrapes and
//! accepts remote writes, and no sample is lost or duplicated, even if the server is killed during
//! the replay.

use crate::support::exporter::Exporter;
use crate::support::remote_write::{Series, write};
use crate::support::server::Server;
use crate::support::{eventually, http, now_ms, wall_clock};
use std::path::PathBuf;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::limits::WAL_PROGRESS_SEGMENTS;
use storage::metrics::Metrics;
use storage::model::Labels;
use storage::store::{ColumnBatch, ColumnLayout, FeedDelivery, SeriesSamples, Store, StoreOptions};

/// The number of series in the WAL, with [`SAMPLES`] samples each: seconds of work for a build
/// without optimisation.
const SERIES: usize = 2_000;
const SAMPLES: i64 = 1_500;
const HOUR: i64 = 3_600_000;

/// Makes a data directory with a block, and a WAL whose newest sample is at `end`. Returns a time
/// within the block.
fn fill(dir: PathBuf, end: i64) -> i64 {
    let wal_sync_interval_ms = 100;
    let block_range_ms = 2 * HOUR;
    let out_of_order_ms = HOUR / 2;
    let options = StoreOptions { dir, wal_sync_interval_ms, block_range_ms, out_of_order_ms };
    // Each opening begins a segment.
    for _ in 0..WAL_PROGRESS_SEGMENTS {
        let (store, _) =
            Store::open(options.clone(), Arc::new(OsDisk), &Metrics::default()).expect("a store");
        store.close().expect("a disk");
    }
    let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store");
    let from = (end - 20 * HOUR).div_euclid(2 * HOUR) * 2 * HOUR;
    let ts: Vec<i64> = (0..60).map(|i| from + i * 60_000).collect();
    let labels = Labels::from_pairs([("__name__", "history")]);
    let vs = ts.iter().map(|_| 7.0).collect();
    let old = SeriesSamples { labels, ts, vs, ..SeriesSamples::default() };
    store.recorder().write_backfill(from, from + 2 * HOUR, &[old], i64::MAX).expect("a block");
    // One target, so that all series are in one shard.
    let labels = |i: usize| {
        let i = i.to_string();
        Labels::from_pairs([("__name__", "logged"), ("instance", "one"), ("job", "one"), ("i", i.as_str())])
    };
    let series: Vec<_> = (0..SERIES).map(|i| store.get_or_create_series(&labels(i))).collect();
    let group = store.open_group("test", series[0].shard);
    let layout = Arc::new(ColumnLayout { slots: series.iter().map(|series| series.slot).collect() });
    for n in 0..SAMPLES {
        let values: Vec<f64> = (0..SERIES).map(|i| ((i as i64 * 31 + n * n) % 1009) as f64 / 8.0).collect();
        let t = end - (SAMPLES - 1 - n) * 1000;
        let batch = ColumnBatch { group, layout: layout.clone(), t, values: values.into() };
        store.append_columns(&batch, FeedDelivery::Nobody).expect("room");
    }
    store.close().expect("a disk");
    from + HOUR / 2
}

/// Starts the server and waits until it reports that it replays the log.
fn start(server: &mut Server) {
    Server::spawn_together(std::slice::from_mut(server));
    let port = server.port;
    eventually("the server replays its log", 60, || match http::get(port, "/-/ready") {
        Ok(answer) if answer.status == 503 && answer.text().contains("replaying the log: ") => Ok(()),
        Ok(answer) if answer.status == 200 => panic!("it was ready before anybody could ask"),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(server.get("/-/healthy").status, 200);
}

fn still_replays(server: &Server) {
    assert_eq!(server.get("/-/ready").status, 503, "it was ready before all was asked");
}

fn acknowledged(server: &Server, name: &str) {
    let answer = write(server.port, &[Series::new(name, &[], vec![(now_ms(), 1.0)])]).expect("an answer");
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// The times of the last hour of samples of the series that `selector` selects.
fn times(server: &Server, selector: &str) -> Vec<i64> {
    let rows = server.query(&format!("{selector}[1h]"));
    assert_eq!(rows.len(), 1, "{selector}: {rows:?}");
    let samples = rows[0]["values"].as_array().expect("samples").iter();
    samples.map(|sample| (sample[0].as_f64().expect("a time") * 1000.0).round() as i64).collect()
}

fn number(rows: &[serde_json::Value]) -> f64 {
    rows[0]["value"][1].as_str().expect("text").parse().expect("a number")
}

#[test]
fn a_server_that_replays_its_log_scrapes_takes_writes_and_reads_history() {
    wall_clock(|| {
        let exporter = Exporter::start("scraped 5\n");
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}}\n\
             rule_files: [rules.yml]\nscrape_configs:\n- job_name: x\n  \
             static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            exporter.port
        );
        let rules = "groups:\n- name: g\n  rules:\n  - record: recorded\n    expr: count(logged)\n";
        let files = [("rules.yml", rules)];
        let mut server = Server::prepare_together(&config, &files, &[Vec::new()]).remove(0);
        let end = now_ms() - 60_000;
        let old = fill(server.file("data"), end);

        // Killed during the replay, twice: acknowledged samples are present.
        for name in ["first", "second"] {
            start(&mut server);
            assert!(server.log().contains("looking through the log's segments"), "{}", server.log());
            acknowledged(&server, name);
            still_replays(&server);
            server.kill();
        }

        start(&mut server);
        let port = server.port;
        let path = format!("/api/v1/query?query=count(logged)&time={}", end / 1000);
        let waiting = std::thread::spawn(move || http::get(port, &path).expect("an answer"));
        assert_eq!(number(server.query_at("history", old)["result"].as_array().expect("rows")), 7.0);
        let window = server.query_at("history[1m]", old);
        assert_eq!(
            window["result"].as_array().expect("rows").len(),
            1,
            "a window of history waits for nothing"
        );
        let names = format!("/api/v1/label/__name__/values?start=0&end={}", old / 1000);
        assert_eq!(server.api(&names), serde_json::json!(["history"]));
        acknowledged(&server, "third");
        server.wait_health(&[("x", "up")]);
        let answer = server.get("/api/v1/rules");
        assert_eq!((answer.status, answer.text().contains("replaying the log: ")), (503, true));
        let seen = now_ms();
        still_replays(&server);

        eventually("ready", 120, || match server.get("/-/ready").status {
            200 => Ok(()),
            status => Err(status.to_string()),
        });
        let waited = waiting.join().expect("no panic").json();
        assert_eq!(number(waited["data"]["result"].as_array().expect("rows")), SERIES as f64);
        let scraped = times(&server, "scraped");
        assert!(scraped.is_sorted_by(|a, b| a < b) && scraped[0] <= seen, "{scraped:?}, {seen}");
        for name in ["first", "second", "third"] {
            assert_eq!(times(&server, name).len(), 1, "{name}");
        }
        let all = format!("sum(count_over_time(logged[{SAMPLES}s]))");
        let all = server.query_at(&all, end);
        assert_eq!(number(all["result"].as_array().expect("rows")), (SERIES as i64 * SAMPLES) as f64);
        assert_eq!(number(&server.wait_rows("recorded", 1)), SERIES as f64);
        assert!(server.get("/metrics").text().contains("perennial_wal_replay_progress 1\n"));
    });
}
