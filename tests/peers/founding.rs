//! Compares every expression of the founding documents (`tests/data/founding.promql`) with the real
//! Prometheus.
//!
//! Both servers get the same samples by remote write: the series that the Python exporter and the
//! node exporter expose, with two and a quarter hours of generated history, counter resets and a
//! gap. Queries are evaluated 7.217 s after a sample, so that no edge of a window coincides with
//! one: Prometheus 2.42 includes a sample on the left edge, Prometheus 3 (and our server) does not.

use super::seeds::{node_exporter, python_exporter};
use crate::support::remote_write::{Series, write};
use crate::support::server::Server;
use crate::support::{compare, data, http, now_ms};

const STEP_MS: i64 = 15_000;
const STEPS: i64 = 540;
/// The samples of the application that are missing, as after an outage.
const GAP: std::ops::Range<i64> = 200..230;
/// The step at which counters reset.
const RESET: i64 = 410;

/// The expressions, one per line.
fn expressions() -> Vec<String> {
    let all: Vec<String> = data("founding.promql").lines().map(String::from).collect();
    assert_eq!(all.len(), 57, "every distinct expression of the founding documents");
    all
}

/// A line of an exposition.
struct Line {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Parses `name{a="b"} 1`; `None` for comments. The label values of these exporters contain neither
/// `",` nor escapes.
fn parse_line(line: &str) -> Option<Line> {
    let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
    let labels = labels.filter_map(|pair| {
        let (key, value) = pair.split_once("=\"")?;
        Some((key.to_string(), value.trim_end_matches('"').to_string()))
    });
    Some(Line { name: name.to_string(), labels: labels.collect(), value: value.parse().ok()? })
}

/// The value at step `k` of the history of a series whose exposed value is `seen`. `weight` makes
/// series differ, so that `topk` has one result; all buckets of a histogram have the same weight
/// and remain cumulative.
fn history(name: &str, seen: f64, k: i64, weight: f64) -> f64 {
    if name == "up" {
        return seen;
    }
    let gauge = ["pg_stat_activity_count", "pg_locks_count"].contains(&name);
    let grows = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end));
    if grows && !gauge {
        let k = if k < RESET { k } else { k - RESET };
        return (1000.0 * seen * (1.0 + k as f64 * weight / 100.0)).floor();
    }
    seen * (1.0 + 0.2 * weight * (k as f64 / 37.0).sin())
}

/// A number between 1 and 2, from the labels that distinguish histograms or counters.
fn weight(labels: &[(String, String)]) -> f64 {
    let bytes = labels.iter().filter(|(k, _)| k != "le").flat_map(|(k, v)| k.bytes().chain(v.bytes()));
    1.0 + bytes.fold(7u64, |h, b| (h * 31 + u64::from(b)) % 9973) as f64 / 9973.0
}

/// All series of an exporter that a founding expression uses, with history from `start`.
fn series_of(port: u16, job: &str, start: i64, expressions: &str) -> Vec<Series> {
    let text = http::get(port, "/metrics").expect("an exporter").text();
    let up = [Line { name: "up".to_string(), labels: vec![], value: 1.0 }];
    let named = text.lines().filter_map(parse_line).filter(|l| expressions.contains(l.name.as_str()));
    named
        .chain(up)
        .map(|Line { name, labels, value: seen }| {
            let mut pairs: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            pairs.extend([("job", job), ("instance", "localhost:8000")]);
            let kept = (0..STEPS).filter(|k| job == "node" || !GAP.contains(k));
            let weight = weight(&labels);
            let sample = |k| (start + k * STEP_MS, history(&name, seen, k, weight));
            Series::new(&name, &pairs, kept.map(sample).collect())
        })
        .collect()
}

/// Both servers with the same history, and the time of the last sample.
fn two_servers_with_history() -> (Server, Server, i64) {
    let directory = tempfile::tempdir().expect("a directory");
    let (_app, app) = python_exporter(directory.path());
    let (_node, node) = node_exporter(directory.path());
    let start = (now_ms() - 60_000) / STEP_MS * STEP_MS - STEPS * STEP_MS;
    let expressions = data("founding.promql");
    let mut series = series_of(app, "web-app", start, &expressions);
    series.extend(series_of(node, "node", start, &expressions));
    assert!(series.len() > 100, "only {} series", series.len());
    let ours = Server::start("", &[]);
    let theirs = Server::prometheus("");
    // A quarter of an hour at a time: Prometheus refuses samples that are an hour older than the
    // newest.
    for hour_quarter in (0..STEPS).step_by(60) {
        let window = start + hour_quarter * STEP_MS..start + (hour_quarter + 60) * STEP_MS;
        let part: Vec<Series> = series.iter().map(|s| s.between(&window)).collect();
        for server in [&ours, &theirs] {
            let answer = write(server.port, &part).expect("an answer");
            assert_eq!(answer.status / 100, 2, "{}", answer.text());
        }
    }
    (ours, theirs, start + (STEPS - 1) * STEP_MS)
}

#[test]
fn founding_expressions_answer_as_prometheus() {
    let (ours, theirs, last) = two_servers_with_history();
    let mut wrong = Vec::new();
    let mut rows = 0;
    for query in expressions() {
        let ends = [last, last - 40 * STEP_MS, last - (STEPS - RESET - 3) * STEP_MS, last - 325 * STEP_MS];
        for t in ends.map(|t| t + 7_217) {
            let a = ours.query_at(&query, t);
            let b = theirs.query_at(&query, t);
            rows += b["result"].as_array().map_or(0, Vec::len);
            wrong.extend(compare::difference(&a, &b).map(|d| format!("{query} at {t}: {d}")));
        }
    }
    assert!(rows > 2000, "too few rows to mean anything: {rows}");
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn founding_expressions_range_as_prometheus() {
    let (ours, theirs, last) = two_servers_with_history();
    let mut wrong = Vec::new();
    let mut rows = 0;
    let start = last - 500 * STEP_MS + 7_217;
    let end = last + 7_217;
    for query in expressions().into_iter().filter(|q| !q.ends_with(']')) {
        let (a, b) =
            (ours.query_range(&query, start, end, 90_000), theirs.query_range(&query, start, end, 90_000));
        rows += b["result"].as_array().map_or(0, Vec::len);
        wrong.extend(compare::difference(&a, &b).map(|d| format!("{query}: {d}")));
    }
    assert!(rows > 500, "too few rows to mean anything: {rows}");
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
}
