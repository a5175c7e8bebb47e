//! Remote read: Debian's Prometheus answers queries with our samples.

use crate::support::remote_write::{self, Histogram, Series};
use crate::support::server::Server;
use crate::support::{compare, http, now_ms};
use std::collections::BTreeMap;

/// A configuration of Prometheus that reads from `port`.
fn reading_from(port: u16) -> String {
    format!("remote_read:\n- {{url: 'http://127.0.0.1:{port}/api/v1/read', read_recent: true}}\n")
}

/// Writes some series with floats and native histograms of ten minutes before `t`.
fn write_history(server: &Server, t: i64) {
    let mut series = Vec::new();
    for n in 0..20 {
        let samples =
            (0..300).map(|i| (t - 600_000 + i * 2_000 + n % 3, (i * (n + 1)) as f64 / 3.0)).collect();
        series.push(Series::new("history", &[("n", &n.to_string())], samples));
    }
    let mut native = Series::new("native", &[], Vec::new());
    for i in 0..100u64 {
        let histogram = Histogram {
            schema: 1,
            zero_threshold: 0.01,
            zero: i,
            sum: i as f64 * 1.5,
            positive: BTreeMap::from([(0, 3 * i), (1, i + 1), (7, i / 2)]),
            negative: BTreeMap::new(),
        };
        native.histograms.push((t - 300_000 + i as i64 * 3_000, histogram));
    }
    series.push(native);
    let answer = remote_write::write(server.port, &series).expect("an answer");
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[test]
fn prometheus_reads_our_samples() {
    let ours = Server::start("global: {external_labels: {cluster: c1}}\n", &[]);
    let t = now_ms() - 1_000;
    write_history(&ours, t);
    // Debian's Prometheus takes no native histograms by remote read: that came with 2.44.
    let theirs = Server::prometheus(&reading_from(ours.port));
    let queries = ["history", "sum by (n) (rate(history[5m]))", "count_over_time(history{n=~\"1.*\"}[10m])"];
    for query in queries {
        // Between samples: versions differ in whether a window has its first instant.
        let t = t - 1;
        let here = ours.query_at(query, t);
        assert!(!here["result"].as_array().expect("rows").is_empty(), "{query} has no rows here");
        let text = theirs.query_at(query, t).to_string();
        let text = text.replace("\"cluster\":\"c1\",", "").replace(",\"cluster\":\"c1\"", "");
        let there = serde_json::from_str(&text).expect("JSON");
        assert_eq!(compare::difference(&here, &there), None, "{query}");
    }
    let metrics = theirs.get("/metrics").text();
    assert!(metrics.contains("prometheus_remote_storage_read_queries_total"), "it was asked");
}

#[test]
fn a_wrong_remote_read_is_an_error() {
    let ours = Server::start_with("", &[], &["--storage.remote.read-sample-limit=100"]);
    let t = now_ms() - 1_000;
    write_history(&ours, t);
    let answer = http::send(ours.port, "POST", "/api/v1/read", &[], b"nonsense").expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.text());
    // All samples of `history` as one message: more than the limit.
    let matcher = [&[0x12, 8][..], b"__name__", &[0x1a, 7], b"history"].concat();
    let mut query = vec![0x08, 0, 0x10];
    query.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0x3f]);
    query.push(0x1a);
    query.push(matcher.len() as u8);
    query.extend(&matcher);
    let message = [&[0x0a, query.len() as u8][..], &query].concat();
    let body = snap::raw::Encoder::new().compress_vec(&message).expect("short");
    let answer = http::send(ours.port, "POST", "/api/v1/read", &[], &body).expect("an answer");
    assert_eq!((answer.status, answer.text().trim()), (400, "exceeded sample limit (100)"));
}
