//! Compares scrapes of a protobuf exporter by our server and by Debian's Prometheus, which also
//! sends the result to us by remote write.
//!
//! All series are compared by query; native histograms also as the stores of both our servers
//! contain them.

use crate::support::exporter::Exporter;
use crate::support::server::Server;
use crate::support::{compare, eventually, now_ms, wall_clock};
use std::collections::BTreeSet;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::histogram::ResetHint;
use storage::model::{Matcher, NativeHistogram, SHARDS};
use storage::store::{Store, StoreOptions};

/// Hand-written protobuf encoding.
fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn number(field: u64, n: u64) -> Vec<u8> {
    [varint(field << 3), varint(n)].concat()
}

fn signed(field: u64, n: i64) -> Vec<u8> {
    number(field, ((n << 1) ^ (n >> 63)) as u64)
}

fn double(field: u64, v: f64) -> Vec<u8> {
    [varint(field << 3 | 1), v.to_le_bytes().to_vec()].concat()
}

fn bytes(field: u64, parts: &[Vec<u8>]) -> Vec<u8> {
    let content = parts.concat();
    [varint(field << 3 | 2), varint(content.len() as u64), content].concat()
}

fn text(field: u64, text: &str) -> Vec<u8> {
    bytes(field, &[text.as_bytes().to_vec()])
}

fn label(name: &str, value: &str) -> Vec<u8> {
    bytes(1, &[text(1, name), text(2, value)])
}

fn family(name: &str, kind: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
    let metrics: Vec<Vec<u8>> = metrics.iter().map(|metric| bytes(4, std::slice::from_ref(metric))).collect();
    let message = [text(1, name), text(2, "help"), number(3, kind), metrics.concat()].concat();
    [varint(message.len() as u64), message].concat()
}

fn bucket(bound: f64, count: u64) -> Vec<u8> {
    bytes(3, &[number(1, count), double(2, bound)])
}

fn span(field: u64, offset: i64, length: u64) -> Vec<u8> {
    bytes(field, &[signed(1, offset), number(2, length)])
}

/// Every type, with unusual values; histograms that are classic, with integer counts, with float
/// counts, and empty. A zero threshold makes Prometheus 2.42 treat a histogram without deltas as
/// native.
fn exposition() -> Vec<u8> {
    let whole = [
        vec![number(1, 23), double(2, -3.75), signed(5, 3), double(6, 1e-128), number(7, 4)],
        vec![span(9, -2, 1), signed(10, 6), span(12, 0, 2), span(12, 3, 3)],
        [5, -4, 2, -3, 4].map(|delta| signed(13, delta)).to_vec(),
        vec![bucket(1.0, 7), bucket(2.0, 23)],
    ];
    let floats =
        vec![double(4, 4.5), double(2, 9.25), signed(5, -1), double(6, 0.25), double(8, 1.0), span(12, 7, 2)];
    let floats = [floats, vec![double(14, 0.5), double(14, 3.0)]].concat();
    let empty = [double(6, 0.001), double(2, 0.0)];
    let classic = [vec![number(1, 5), double(2, 2.5)], vec![bucket(0.5, 1), bucket(1e6, 4)]].concat();
    let quantile = |q, v| bytes(3, &[double(1, q), double(2, v)]);
    let summary = [number(1, 3), double(2, 0.5), quantile(0.5, 1.0), quantile(0.999, f64::NAN)];
    [
        family("proto_gauge", 1, &[[label("a", "\"\\\n"), bytes(2, &[double(1, -0.0)])].concat()]),
        family("proto_total", 0, &[bytes(3, &[double(1, 1e300)])]),
        family("proto_unknown", 3, &[[bytes(5, &[double(1, 0.1)]), label("job", "own")].concat()]),
        family("proto_summary", 2, &[bytes(4, &summary)]),
        family("proto_classic", 4, &[bytes(7, &classic)]),
        family("proto_native", 4, &[[bytes(7, &whole.concat()), label("kind", "whole")].concat()]),
        family("proto_native_float", 4, &[bytes(7, &floats)]),
        family("proto_native_gauge", 5, &[bytes(7, &floats)]),
        family("proto_native_empty", 4, &[bytes(7, &empty)]),
    ]
    .concat()
}

/// The distinct histograms in the store of a stopped server, by series. Reset hints depend on
/// neighbouring samples and are omitted, except for gauges.
fn histograms(server: &Server) -> BTreeSet<(String, String)> {
    let options = StoreOptions {
        dir: server.file("data"),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let (store, _) = Store::open(options, std::sync::Arc::new(OsDisk), &Metrics::default()).expect("a store");
    let mut found = BTreeSet::new();
    for shard in 0..SHARDS {
        let selection = store.select(shard, &[Matcher::equal("job", "proto")], 0, i64::MAX).expect("series");
        for (i, labels) in selection.labels.iter().enumerate() {
            let mut all = Vec::new();
            selection.read_histograms(i, 0, i64::MAX, &mut all).expect("histograms");
            for (_, h) in all {
                let hint = if h.hint == ResetHint::Gauge { h.hint } else { ResetHint::Unknown };
                let plain = NativeHistogram { hint, ..NativeHistogram::clone(&h) };
                found.insert((labels.to_string(), format!("{plain:?}")));
            }
        }
    }
    found
}

#[test]
fn a_protobuf_scrape_means_what_it_means_to_prometheus() {
    wall_clock(|| {
        let content_type =
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        let exporter = Exporter::start_as(content_type, &exposition());
        let mut sink = Server::start("", &[]);
        let job =
            format!("- job_name: proto\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n", exporter.port);
        let scrape =
            |native: &str| format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{job}{native}");
        let mut ours = Server::start(&scrape("  scrape_native_histograms: true\n"), &[]);
        let write = format!(
            "remote_write:\n- url: http://127.0.0.1:{}/api/v1/write\n  send_native_histograms: true\n  \
         queue_config: {{batch_send_deadline: 200ms}}\n",
            sink.port
        );
        let theirs = Server::prometheus_with(&(scrape("") + &write), &["--enable-feature=native-histograms"]);
        let floats = "{__name__=~\"proto_(gauge|total|unknown|summary.*|classic.*)\"}";
        for server in [&ours, &theirs] {
            server.wait_health(&[("proto", "up")]);
            server.wait_rows(floats, 12);
        }
        let t = now_ms();
        for query in [
            floats,
            "scrape_samples_scraped",
            "histogram_count(proto_native)",
            "histogram_sum(proto_native_float)",
            "proto_native_gauge",
        ] {
            let difference = compare::difference(&ours.query_at(query, t), &theirs.query_at(query, t));
            assert_eq!(difference, None, "{query}");
        }
        let native = "/api/v1/series?match[]=%7B__name__%3D~%22proto_native.*%22%7D";
        let expected = ours.api(native);
        assert_eq!(expected.as_array().map(Vec::len), Some(4), "{expected}");
        eventually("the histograms that Prometheus sends", 20, || {
            let got = sink.api(native);
            if got == expected { Ok(()) } else { Err(got.to_string()) }
        });
        let metrics = sink.get("/metrics").text();
        assert!(metrics.contains("\nperennial_tsdb_duplicate_samples_total 0\n"), "nothing came twice");
        drop(theirs);
        ours.kill();
        sink.kill();
        let scraped = histograms(&ours);
        let written = histograms(&sink);
        assert_eq!(scraped.len(), 4);
        assert_eq!(scraped, written);
    });
}

/// Federation of native histograms, and of converted classic ones, from another of our servers.
#[test]
fn native_histograms_are_federated() {
    wall_clock(|| {
        let content_type =
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        let exporter = Exporter::start_as(content_type, &exposition());
        let head = "global: {scrape_interval: 1s}\nscrape_configs:\n";
        let keys = "scrape_native_histograms: true\n  convert_classic_histograms_to_nhcb: true";
        let job = format!(
            "- job_name: proto\n  {keys}\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            exporter.port
        );
        let mut first = Server::start(&format!("{head}{job}"), &[]);
        first.wait_rows("{__name__=~\"proto_(native.*|classic)\"}", 5);
        let federation = format!(
            "- job_name: federate\n  metrics_path: /federate\n  honor_labels: true\n  {keys}\n  params: {{'match[]': ['{{job=\"proto\"}}']}}\n  \
             static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            first.port
        );
        let mut second = Server::start(&format!("{head}{federation}"), &[]);
        second.wait_health(&[("federate", "up")]);
        second.wait_rows("{__name__=~\"proto_(native.*|classic)\"}", 5);
        let text = first.get("/federate?match[]=%7Bjob%3D%22proto%22%7D").text();
        let classic = "# TYPE proto_classic histogram\nproto_classic_bucket{instance=";
        assert!(text.contains(classic) && !text.contains("proto_native"), "{text}");
        first.kill();
        second.kill();
        let scraped = histograms(&first);
        let federated = histograms(&second);
        assert_eq!(scraped.len(), 5);
        assert_eq!(scraped, federated);
    });
}
