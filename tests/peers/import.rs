//! Tests the migration: after `perennial import`, our server returns the samples that the real
//! Prometheus had on its disk.

use crate::support::compare::difference;
use crate::support::now_ms;
use crate::support::remote_write::{Histogram, Series, write};
use crate::support::server::{Server, binary_under_test};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Output};

const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Series that cover every encoding of Prometheus' chunks, with more samples than one chunk has.
fn load(end: i64) -> Vec<Series> {
    let odd = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e300, -5e-324, 0.1 + 0.2];
    let at = |i: i64, jitter: i64| end - 400_000 + i * 1000 + (i * i * jitter) % 700;
    let float = |kind: &str, jitter: i64, value: &dyn Fn(i64) -> f64| {
        let samples = (0..300).map(|i| (at(i, jitter), value(i))).collect();
        Series::new("imported", &[("kind", kind)], samples)
    };
    let histogram = |i: i64| Histogram {
        schema: 2,
        zero_threshold: 0.001,
        zero: i as u64,
        // Two stale markers in a row, and another one at the end of the chunk.
        sum: if [150, 151, 299].contains(&i) { f64::from_bits(STALE) } else { i as f64 * 1.5 },
        positive: (0..4 + (i / 90) as i32).map(|k| (3 * k, (i as u64 % 150) * 2 + k as u64)).collect(),
        negative: BTreeMap::from([(-2, 1), (5, i as u64)]),
    };
    let mut histograms = Series::new("imported_histogram", &[("job", "h")], Vec::new());
    histograms.histograms = (0..300).map(|i| (at(i, 3), histogram(i))).collect();
    vec![
        float("counter", 0, &|i| (i * 17) as f64),
        float("jitter", 7, &|i| i as f64 / 10.0),
        float("odd", 3, &|i| odd[i as usize % odd.len()]),
        float("ends", 0, &|i| if i % 50 == 49 { f64::from_bits(STALE) } else { i as f64 }),
        float("steady", 0, &|_| 42.0),
        histograms,
    ]
}

fn import(data: &std::path::Path, from: &std::path::Path) -> Output {
    let arguments = ["import", "prometheus", "--storage.tsdb.path"];
    Command::new(binary_under_test()).args(arguments).args([data, from]).output().expect("our program")
}

/// All raw samples.
fn samples(server: &Server, t: i64) -> Vec<Value> {
    let data = server.query_at("{__name__=~\"imported.*\"}[1h]", t);
    let mut rows = data["result"].as_array().expect("rows").clone();
    rows.sort_by_key(|row| row["metric"].to_string());
    rows
}

#[test]
fn the_past_of_prometheus_comes_along() {
    let end = now_ms() / 1000 * 1000 - 60_000;
    let theirs =
        Server::prometheus_with("", &["--enable-feature=native-histograms", "--web.enable-admin-api"]);
    let answer = write(theirs.port, &load(end)).expect("an answer");
    assert_eq!(answer.status / 100, 2, "{}", answer.text());
    let snapshot = theirs.post("/api/v1/admin/tsdb/snapshot").json();
    let name = snapshot["data"]["name"].as_str().unwrap_or_else(|| panic!("a snapshot: {snapshot}"));
    let snapshot = theirs.file(&format!("data/snapshots/{name}"));

    let mut ours = Server::start("", &[]);
    let refused = import(&ours.file("data"), &snapshot);
    assert_eq!(refused.status.code(), Some(1), "the server holds the lock");
    ours.kill();
    // Twice: an interrupted import is repeated.
    for _ in 0..2 {
        let done = import(&ours.file("data"), &snapshot);
        let (said, complaints) =
            (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{said}{complaints}");
        assert_eq!(said, "1 blocks imported, 6 series, 1800 samples\n");
    }
    ours.run();
    let a = samples(&ours, end);
    let b = samples(&theirs, end);
    assert_eq!(b.len(), 6);
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a, b);
    }
    assert_eq!(a.len(), b.len());
}

/// Somebody comes with a Prometheus, its configuration and its rules, and has stopped it (or it was
/// killed): `perennial import` of its directory, and `perennial` with the same files. What the old
/// server had scraped and recorded, to the last scrape, has the same answers, and the new one goes
/// on scraping.
#[test]
fn a_newcomer_needs_two_commands() {
    let config = "global: {scrape_interval: 1s, evaluation_interval: 1s, external_labels: {site: a}}\n\
                  rule_files: [rules.yml]\nscrape_configs:\n\
                  - {job_name: prometheus, static_configs: [{targets: ['127.0.0.1:{self}']}]}\n";
    let rules = "groups: [{name: g, rules: [{record: 'job:requests:rate30s', \
                 expr: 'sum by (job) (rate(prometheus_http_requests_total[30s]))'}]}]\n";
    let files = [("rules.yml", rules)];
    let mut theirs = Server::prometheus_files(config, &files, &[]);
    theirs.wait_rows("count_over_time(job:requests:rate30s[1m]) > 20", 1);
    let scraped = theirs.query_at("timestamp(up)", now_ms())["result"][0]["value"][1].clone();
    let scraped: f64 = scraped.as_str().and_then(|text| text.parse().ok()).expect("a time");
    theirs.kill();
    // After the last scrape, and between two: a window of the old server (2.42) has a sample at its
    // begin, and one of this server (as in 3.14) has not.
    let killed = now_ms();
    let end = killed - (killed - (scraped * 1_000.0) as i64).rem_euclid(1_000) + 500;
    let mut ours = Server::start(config, &files);
    ours.kill();
    std::fs::remove_dir_all(ours.file("data")).expect("our data directory");
    let done = import(&ours.file("data"), &theirs.file("data"));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.starts_with("1 blocks imported"), "{said}{done:?}");
    eprintln!("{said}");
    ours.run();
    theirs.run();
    for query in [
        "up",
        "job:requests:rate30s",
        "sum by (handler) (prometheus_http_requests_total)",
        "rate(process_cpu_seconds_total[15s])",
        "count({__name__=~\".+\"})",
    ] {
        let a = ours.query_range(query, end - 15_000, end, 1_000);
        let b = theirs.query_range(query, end - 15_000, end, 1_000);
        assert!(!b["result"].as_array().expect("rows").is_empty(), "{query} has no rows");
        assert_eq!(difference(&a, &b), None, "{query}");
    }
    // The new server goes on where the old one was.
    ours.wait_rows(&format!("timestamp(up) * 1000 > {}", now_ms()), 1);
}

#[test]
fn what_is_no_past_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = import(&dir.path().join("data"), dir.path());
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("holds no blocks and no log of Prometheus"));
}
