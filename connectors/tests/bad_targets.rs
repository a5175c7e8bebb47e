//! Tests targets with harmful bodies: only the scrape of that target fails, at a cost in proportion
//! to its size.

mod bench;

use bench::protobuf::{body, double, family, label, submessage};
use bench::{Bench, TargetResponse, text};
use connectors::scrape::manager::ScrapeOptions;
use std::fmt::Write;
use std::io::Write as _;
use std::time::{Duration, Instant};
use storage::model::value::is_stale;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

fn gzip(body: &[u8]) -> TargetResponse {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    TargetResponse { body: encoder.finish().unwrap(), gzip: true, ..text("") }
}

/// One line of 0.9 MB.
fn wide_line() -> String {
    let pairs: Vec<String> = (0..85_000).map(|i| format!("l{i:05}=\"v\"")).collect();
    format!("m{{{}}} 1\n", pairs.join(","))
}

fn wide_metric() -> Vec<u8> {
    let pairs: Vec<u8> = (0..85_000).flat_map(|i| label(&format!("l{i:05}"), "v")).collect();
    body(&[family("m", 1, &[[pairs, submessage(2, &double(1, 1.0))].concat()])])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_85_000_labels_is_refused_at_the_first_beyond_the_limit() {
    let bench = Bench::new(&wide_line(), false).await;
    let error = "label_limit exceeded (metric: m, number of labels: more than 4096, limit: 4096)";
    let open_metrics = TargetResponse { content_type: OPEN_METRICS, ..text(&(wide_line() + "# EOF\n")) };
    let protobuf = TargetResponse { content_type: PROTOBUF, body: wide_metric(), ..text("") };
    let zipped = gzip(wide_line().as_bytes());
    for (what, answer) in [
        ("text", text(&wide_line())),
        ("zipped", zipped),
        ("OpenMetrics", open_metrics),
        ("protobuf", protobuf),
    ] {
        bench.answer(text("a 1\n"));
        bench.apply("");
        bench.until_up().await;
        bench.answer(answer);
        bench.apply_slowly("scrape_native_histograms: true");
        bench.until(what, |b| b.target().is_some_and(|t| t.last_error == error)).await;
        bench.until(what, |b| b.last("up") == Some(0.0)).await;
        // Also fast on a slow machine without optimisation.
        let took = bench.last("scrape_duration_seconds").unwrap();
        assert!(took < 5.0, "{what}: {took} s");
        assert!(!is_stale(bench.last("scrape_samples_scraped").unwrap()));
    }
    // On a busy machine a job may start another scrape before it is replaced.
    let refused = bench.samples("up").iter().flat_map(|(_, _, up)| up).filter(|up| **up == 0.0).count();
    assert!(refused >= 4, "{refused}");
    let rendered = bench.registry.render();
    let counted = format!("prometheus_target_scrape_pool_exceeded_label_limits_total {refused}\n");
    assert!(rendered.contains(&counted), "{counted}{rendered}");
}

/// Bodies that Prometheus scrapes without a limit.
#[tokio::test(flavor = "multi_thread")]
async fn large_but_real_labels_and_bodies_are_scraped() {
    let labels: Vec<String> = (0..300).map(|i| format!("l{i}=\"v\"")).collect();
    let mut body = format!("labels{{{}}} 1\n", labels.join(","));
    let _ = writeln!(body, "value{{q=\"{}\"}} 2", "x".repeat(70_000));
    let _ = writeln!(body, "name{{{}=\"x\"}} 3", "n".repeat(2_000));
    // Comments have no limit, so this makes a body of 70 MB that a debug build reads within
    // seconds.
    let comment = format!("# {}\n", "c".repeat(1_000_000));
    body.push_str(&comment.repeat(70));
    body.push_str("last 4\n");
    let bench = Bench::new(&body, false).await;
    bench.apply_slowly("");
    bench.until("the end of the body", |b| b.last("last") == Some(4.0)).await;
    for (name, value) in [("labels", 1.0), ("value", 2.0), ("name", 3.0), ("up", 1.0)] {
        assert_eq!(bench.last(name), Some(value), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_ends_with_its_timeout_while_it_is_relabelled() {
    let bench = Bench::new("good 1\n", false).await;
    let rule = "{source_labels: [a, b, c], regex: '(.*);(.*);(.*)', target_label: d, replacement: '$3$2$1'}";
    bench.apply(&format!("metric_relabel_configs: [{}]", vec![rule; 100].join(", ")));
    bench.until_up().await;
    let mut body = String::new();
    for i in 0..50_000 {
        let _ = writeln!(body, "m{{a=\"{i}\",b=\"{i}\",c=\"{i}\"}} 1");
    }
    bench.answer(text(&body));
    bench.until_error("context deadline exceeded while the body was read").await;
    bench.until("up 0", |b| b.last("up") == Some(0.0)).await;
    let took = bench.last("scrape_duration_seconds").unwrap();
    assert!(took < 1.0, "{took} s for a timeout of 90 ms");
    assert!(bench.samples("m").is_empty(), "nothing of it is stored");
    bench.answer(text("good 2\n"));
    bench.until("recovery", |b| b.last("good") == Some(2.0)).await;
}

/// Serves an endless body on every connection.
fn endless() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n";
                let lines = "a 1\n".repeat(10_000);
                let mut sent = stream.write_all(head.as_bytes());
                while sent.is_ok() {
                    sent = stream.write_all(lines.as_bytes());
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_an_end_ends_with_the_timeout() {
    let bench = Bench::new("", false).await;
    bench.apply_targets(&format!("['{}']", endless()), "");
    bench.until_error("context deadline exceeded").await;
    bench.until("up 0", |b| b.last("up") == Some(0.0)).await;
    bench.apply_targets(&format!("['{}']", endless()), "body_size_limit: 100KB");
    bench.until_error("body size limit exceeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_lines_are_one_series() {
    let bench = Bench::new("", false).await;
    bench.answer(gzip("a{b=\"c\"} 1\n".repeat(300_000).as_bytes()));
    bench.apply_slowly("");
    bench.until("all lines", |b| b.last("scrape_samples_scraped") == Some(300_000.0)).await;
    assert_eq!((bench.last("a"), bench.last("scrape_series_added")), (Some(1.0), Some(1.0)));
    let rendered = bench.registry.render();
    assert!(
        rendered.contains("prometheus_target_scrapes_sample_duplicate_timestamp_total 299999"),
        "{rendered}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn new_series_within_the_memory_of_scrapes() {
    let options = ScrapeOptions { max_memory: Some(8 << 20), ..ScrapeOptions::default() };
    let mut body = String::new();
    for i in 0..40_000 {
        let _ = writeln!(body, "m{{pod=\"a-pod-with-a-long-name-{i}\"}} 1");
    }
    let bench = Bench::with(&body, options).await;
    bench.apply_slowly("");
    bench.until("a failure", |b| b.last("up") == Some(0.0)).await;
    bench.until_error("the scrape takes more than 4194304 bytes of memory").await;
    assert!(bench.samples("m").is_empty());
    // The memory of the failed scrape was released.
    let less: Vec<&str> = body.lines().take(5_000).collect();
    bench.answer(text(&(less.join("\n") + "\n")));
    bench.apply_slowly("honor_labels: true");
    bench.until("less of it", |b| b.last("up") == Some(1.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_does_not_wait_for_a_scrape_that_is_worked_at() {
    let bench = Bench::new("a 1\n", false).await;
    bench.apply("");
    bench.until_up().await;
    let rule = "{source_labels: [a, b, c], regex: '(.*);(.*);(.*)', target_label: d, replacement: '$3$2$1'}";
    let mut body = "a 1\n".to_owned();
    for i in 0..50_000 {
        let _ = writeln!(body, "m{{a=\"{i}\",b=\"{i}\",c=\"{i}\"}} 1");
    }
    bench.answer(text(&body));
    bench.apply_slowly(&format!("metric_relabel_configs: [{}]", vec![rule; 100].join(", ")));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let start = Instant::now();
    bench.answer(text("a 2\n"));
    bench.apply("");
    bench.until("the new job", |b| b.last("a") == Some(2.0)).await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert!(!bench.samples("up")[0].2.iter().any(|v| is_stale(*v)), "the target never went");
}
