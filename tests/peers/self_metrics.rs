//! Tests `/metrics` in protobuf: decoded by an independent decoder, and scraped by Debian's
//! Prometheus.

use crate::support::http;
use crate::support::server::Server;
use crate::support::{eventually, wall_clock};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Value>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Distribution>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Distribution>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Distribution {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
}

const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

#[test]
fn a_scraper_that_prefers_protobuf_gets_every_family() {
    let server = Server::start("", &[]);
    let get = |accept: &str| {
        http::send(server.port, "GET", "/metrics", &[("Accept", accept)], b"").expect("an answer").body
    };
    let text = String::from_utf8(get("text/plain")).expect("text");
    let mut page = &*get(&format!("{PROTOBUF};q=0.6,text/plain;q=0.5"));
    let mut families = Vec::new();
    while !page.is_empty() {
        families.push(Family::decode_length_delimited(&mut page).expect("a family"));
    }
    let named: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
    let shown: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(named, shown);
    for family in &families {
        let has_kind = |metric: &Metric| match family.kind {
            0 => metric.counter.is_some(),
            1 => metric.gauge.is_some(),
            2 => metric.summary.is_some(),
            4 => metric.histogram.is_some(),
            _ => false,
        };
        assert!(!family.metrics.is_empty() && family.metrics.iter().all(has_kind), "{family:?}");
        assert!(!family.help.is_empty(), "{family:?}");
    }
    assert!(get(&format!("{PROTOBUF};q=0.4,text/plain;q=0.5")).starts_with(b"# HELP"));
}

/// Alerts and dashboards that were made for Prometheus find what they read.
#[test]
fn the_metrics_of_prometheus_are_here_but_for_those_with_a_reason() {
    let jobs = "global: {scrape_interval: 1s}\nrule_files: [r.yml]\n\
        alerting: {alertmanagers: [{static_configs: [{targets: ['127.0.0.1:1']}]}]}\n\
        scrape_configs:\n- {job_name: none, static_configs: [{targets: ['127.0.0.1:1']}]}\n\
        - {job_name: f, file_sd_configs: [{files: [x.yml]}]}\n\
        - {job_name: h, http_sd_configs: [{url: 'http://127.0.0.1:1/'}]}\n\
        remote_write: [{url: 'http://127.0.0.1:1/w'}]\nremote_read: [{url: 'http://127.0.0.1:1/r'}]\n";
    let rules =
        "groups: [{name: g, interval: 1s, rules: [{record: a, expr: up}, {alert: b, expr: up == 0}]}]\n";
    let server = Server::start(jobs, &[("r.yml", rules)]);
    server.wait_rows("a", 1);
    let list = include_str!("../data/prometheus_metrics.txt");
    let (here, reasons) = list.split_once("\n== ").expect("two parts");
    let here: Vec<&str> = here.lines().filter(|line| !line.starts_with('#')).collect();
    // Reasons are sentences, names one word.
    let missing: Vec<&str> = reasons.lines().filter(|line| !line.contains(' ')).collect();
    assert!(here.len() > 150 && missing.len() > 100, "{} and {}", here.len(), missing.len());
    eventually("all are there", 20, || {
        let page = server.get("/metrics").text();
        let shown: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let absent: Vec<&&str> = here.iter().filter(|line| !shown.contains(*line)).collect();
        if absent.is_empty() { Ok(()) } else { Err(format!("{absent:?}")) }
    });
    let page = server.get("/metrics").text();
    for name in &missing {
        assert!(!page.contains(&format!("# TYPE {name} ")), "{name} is here: move it to the first part");
    }
    let docs = include_str!("../../docs/metrics.md");
    let all = here.len() + missing.len();
    let counts =
        format!("Of the {all} metrics that Prometheus 3.14 shows of itself, {} are here.", here.len());
    assert!(docs.contains(&counts), "docs/metrics.md must say: {counts}");
}

#[test]
fn prometheus_scrapes_it() {
    wall_clock(|| {
        let ours = Server::start("", &[]);
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: ours, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]\n",
            ours.port
        );
        let theirs = Server::prometheus_with(&config, &["--enable-feature=native-histograms"]);
        theirs.wait_health(&[("ours", "up")]);
        eventually("counters, gauges, summaries and histograms are there", 20, || {
            for query in [
                "prometheus_build_info{job=\"ours\"}",
                "perennial_tracing_spans_sent_total",
                "prometheus_engine_query_duration_seconds{quantile=\"0.5\"}",
                "prometheus_http_request_duration_seconds_bucket{le=\"+Inf\"}",
            ] {
                if theirs.query(query).is_empty() {
                    return Err(format!("no rows of {query}"));
                }
            }
            Ok(())
        });
    });
}
