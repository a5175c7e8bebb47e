//! End-to-end tests of scraping: a web server in this process, the real manager, the real store.
//! Each test changes the response of the target and reads the result from the store.

mod bench;

use axum::http::StatusCode;
use bench::{Bench, TargetResponse, text};
use connectors::wall_clock::SystemClock;
use std::io::Write;
use std::time::Duration;
use storage::clock::Clock;
use storage::model::value::is_stale;

#[tokio::test(flavor = "multi_thread")]
async fn a_target_comes_up_fails_and_recovers() {
    let bench = Bench::new("# HELP a help\n# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 2\nb 3\n", false).await;
    bench.apply("");
    bench.until("three scrapes", |b| b.samples("up").first().is_some_and(|s| s.1.len() >= 3)).await;
    let address = &bench.address;
    let up = &bench.samples("up")[0];
    assert_eq!(up.0, format!("up{{instance=\"{address}\", job=\"j\"}}"));
    // A busy machine is sometimes late.
    bench
        .until("two scrapes on schedule", |b| {
            let times = &b.samples("up")[0].1;
            let on_schedule = |offset: i64| times.iter().filter(|t| t.rem_euclid(100) == offset).count();
            (0..100).map(on_schedule).max() > Some(1)
        })
        .await;
    let a = bench.samples("a");
    assert_eq!(a[0].0, format!("a{{instance=\"{address}\", job=\"j\", x=\"1\"}}"));
    assert_eq!((a.len(), a[0].2[0], a[1].2[0]), (2, 1.0, 2.0));
    assert_eq!(a[0].1, a[1].1, "one clock for all series of a scrape");
    assert_eq!(bench.last("scrape_samples_scraped"), Some(3.0));
    assert_eq!(bench.samples("scrape_series_added")[0].2[..2], [3.0, 0.0]);
    let headers = bench.site.headers.lock().unwrap().clone();
    assert_eq!(headers["x-prometheus-scrape-timeout-seconds"], "0.09");
    assert_eq!(headers["accept-encoding"], "gzip");
    assert!(headers["accept"].to_str().unwrap().starts_with("application/openmetrics-text;version=1.0.0"));
    let metadata = bench.manager.metadata(|_| true);
    assert_eq!((metadata[0].metric.as_str(), metadata[0].metadata.help.as_str()), ("a", "help"));

    bench.answer(TargetResponse { status: StatusCode::INTERNAL_SERVER_ERROR, ..text("") });
    bench.until_error("server returned HTTP status 500 Internal Server Error").await;
    assert_eq!(bench.last("up"), Some(0.0));
    assert!(is_stale(bench.last("b").unwrap()), "all series of a failed target are stale");
    assert!(!is_stale(bench.last("scrape_duration_seconds").unwrap()));

    bench.answer(text("a{x=\"1\"} 5\n"));
    bench.until("recovery", |b| b.last("a") == Some(5.0)).await;
    assert!(is_stale(bench.samples("a")[1].2.last().copied().unwrap()));
    assert_eq!(bench.samples("b")[0].2.iter().filter(|v| is_stale(**v)).count(), 1, "one marker per end");
    bench.manager.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vanishes_is_marked_stale_once() {
    let bench = Bench::new("a 1\nb 2\nc 3\n", false).await;
    bench.apply("");
    bench.until("b", |b| b.last("b") == Some(2.0)).await;
    bench.answer(text("a 1\nd 4\nc 3\nc 9\n"));
    bench.until("d", |b| b.samples("d").first().is_some_and(|s| s.1.len() > 2)).await;
    let b = &bench.samples("b")[0].2;
    assert!(is_stale(b[b.len() - 1]) && !is_stale(b[b.len() - 2]), "{b:?}");
    assert_eq!(bench.last("c"), Some(3.0), "of duplicates the first wins");
    let rendered = bench.registry.render();
    assert!(!rendered.contains("sample_duplicate_timestamp_total 0"), "{rendered}");
    // The target vanishes: all series end, also the reports, and nothing more is written.
    bench.apply_targets("[]", "");
    bench.until("the end", |b| b.last("up").is_some_and(is_stale)).await;
    assert!(is_stale(bench.last("a").unwrap()) && is_stale(bench.last("scrape_duration_seconds").unwrap()));
    assert!(bench.target().is_none());
    let scrapes = bench.samples("up")[0].1.len();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(bench.samples("up")[0].1.len(), scrapes);
    assert_eq!(bench.samples("b")[0].2.iter().filter(|v| is_stale(**v)).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_no_stale_markers() {
    let bench = Bench::new("a 1\nb 2\n", false).await;
    bench.apply("");
    bench.until("b", |b| b.last("b") == Some(2.0)).await;
    bench.apply("metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]");
    bench.until("b is dropped", |b| b.last("b").is_some_and(is_stale)).await;
    let before = bench.samples("a")[0].1.len();
    bench.until("a goes on", |b| b.samples("a")[0].1.len() > before + 2).await;
    assert!(!bench.samples("a")[0].2.iter().any(|v| is_stale(*v)));
    assert!(!bench.samples("up")[0].2.iter().any(|v| is_stale(*v)));
    assert_eq!(bench.last("scrape_samples_scraped"), Some(2.0));
    assert_eq!(bench.last("scrape_samples_post_metric_relabeling"), Some(1.0));
    let rendered = bench.registry.render();
    assert!(rendered.contains("prometheus_target_scrape_pool_reloads_total 1"), "{rendered}");
    assert!(rendered.contains("prometheus_target_scrape_pool_targets{scrape_job=\"j\"} 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_answers_have_names() {
    let bench = Bench::new("a 1\n", false).await;
    bench.apply("body_size_limit: 1KB");
    bench.until_up().await;
    bench.answer(TargetResponse { content_type: "text/html", ..text("<!DOCTYPE html>\n") });
    bench.until_error("received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target").await;
    bench.answer(text("a 1\nb{ 2\n"));
    bench.until_error("line 2: labels are not closed").await;
    bench.answer(text(&"# a long comment\n".repeat(100)));
    bench.until_error("body size limit exceeded").await;
    bench.answer(TargetResponse { delay: Duration::from_secs(5), ..text("a 1\n") });
    bench.until_error("context deadline exceeded").await;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all("# a long comment\n".repeat(1000).as_bytes()).unwrap();
    bench.answer(TargetResponse { body: gz.finish().unwrap(), gzip: true, ..text("") });
    bench.until_error("body size limit exceeded").await;
    bench.answer(TargetResponse { gzip: true, ..text("not gzip at all") });
    bench.until_error("cannot decompress gzip").await;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(b"a 7\n").unwrap();
    bench.answer(TargetResponse { body: gz.finish().unwrap(), gzip: true, ..text("") });
    bench.until("gzip", |b| b.last("a") == Some(7.0)).await;
    // The response of a Flask application that returns a plain string.
    bench.answer(TargetResponse { content_type: "text/html; charset=utf-8", ..text("a 8\n") });
    bench.until("guess", |b| b.last("a") == Some(8.0)).await;
    assert!(bench.target().unwrap().warning.unwrap().contains("looks like the text format"));
    bench.answer(TargetResponse {
        content_type: "application/openmetrics-text; version=1.0.0",
        ..text("a 9\n")
    });
    bench.until_error("data does not end with # EOF").await;
    bench.apply_targets("['127.0.0.1:1']", "");
    bench
        .until_error("Get \"http://127.0.0.1:1/metrics\": dial tcp 127.0.0.1:1: connect: connection refused")
        .await;
    assert!(bench.registry.render().contains("prometheus_target_scrapes_exceeded_body_size_limit_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_fail_the_whole_scrape() {
    let bench = Bench::new("a 1\nb 2\n", false).await;
    bench.apply("sample_limit: 3");
    bench.until_up().await;
    bench.answer(text("a 1\nb 2\nc 3\nd 4\n"));
    bench.until_error("sample limit exceeded").await;
    bench.until("the last scrape", |b| b.last("scrape_samples_scraped") == Some(4.0)).await;
    assert_eq!(bench.last("scrape_samples_post_metric_relabeling"), Some(4.0), "how many there would be");
    assert!(bench.samples("c").is_empty(), "nothing of a refused scrape is stored");
    assert!(is_stale(bench.last("a").unwrap()));
    bench.apply("label_limit: 3");
    bench.answer(text("a{x=\"1\",y=\"2\"} 1\n"));
    bench.until_error("label_limit exceeded (metric: a, number of labels: 5, limit: 3)").await;
    bench.apply_targets(&format!("['{}', '127.0.0.1:1']", bench.address), "target_limit: 1");
    bench.until_error("target_limit exceeded (number of targets: 2, limit: 1)").await;
    let rendered = bench.registry.render();
    assert!(!rendered.contains("prometheus_target_scrapes_exceeded_sample_limit_total 0"));
    assert!(!rendered.contains("prometheus_target_scrape_pool_exceeded_label_limits_total 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exposed_timestamps_are_honoured_without_staleness() {
    use storage::clock::Clock;
    let t = SystemClock.now() - 5_000;
    let bench = Bench::new(&format!("a 1 {t}\nb 2\nfuture 1 {}\n", t + 3_600_000), false).await;
    bench.apply("");
    bench.until("a", |b| b.samples("a").first().is_some_and(|s| s.1 == [t])).await;
    bench.answer(text("b 2\n"));
    bench.until("the next scrape", |b| b.last("scrape_samples_scraped") == Some(1.0)).await;
    assert_eq!(bench.samples("a")[0].2, [1.0]);
    assert!(bench.samples("future").iter().all(|s| s.1.is_empty()));
    bench.apply("honor_timestamps: false");
    bench.answer(text(&format!("c 1 {t}\n")));
    bench.until("c", |b| b.samples("c").first().is_some_and(|s| s.1[0] > t)).await;
}

/// With the key a series with exposed timestamps that is gone ends at once; without it, it stays
/// for a while.
#[tokio::test(flavor = "multi_thread")]
async fn exposed_timestamps_are_tracked_where_that_is_wanted() {
    use storage::clock::Clock;
    let t = SystemClock.now() - 5_000;
    let bench = Bench::new(&format!("a 1 {t}\nb 2\n"), false).await;
    bench.apply("track_timestamps_staleness: true");
    bench.until("a", |b| b.samples("a").first().is_some_and(|s| s.1 == [t])).await;
    bench.answer(text("b 2\n"));
    bench.until("the end of a", |b| b.samples("a")[0].2.last().is_some_and(|value| value.is_nan())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exposed_timestamps_out_of_bounds_are_dropped_and_counted() {
    const NEW: usize = 3_000;
    let now = SystemClock.now();
    let mut body: String =
        (0..NEW).map(|i| format!("old{{i=\"{i}\"}} 1 {}\n", now - (1 + i as i64) * 7_200_000)).collect();
    body += &format!("seconds 1 {}\nearliest 1 {}\nlatest 1 {}\n", now / 1000, 0, i64::MAX);
    body += &format!("good 1\nlate 1 {}\n", now - 60_000);
    let bench = Bench::new(&body, false).await;
    bench.apply("");
    bench.until("a scrape", |b| b.last("late").is_some()).await;
    assert_eq!((bench.last("up"), bench.last("good")), (Some(1.0), Some(1.0)));
    for name in ["old", "seconds", "earliest", "latest"] {
        assert!(bench.samples(name).is_empty(), "{name}");
    }
    let name = "prometheus_target_scrapes_sample_out_of_bounds_total";
    let dropped = bench.registry.counter(name, "", &[]).get();
    assert!(dropped >= (NEW + 3) as u64 && dropped % (NEW + 3) as u64 == 0, "{dropped}");
    bench.manager.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_mode_takes_no_guesses_and_relabelling_drops_targets() {
    let bench = Bench::new("a 1\n", true).await;
    bench.answer(TargetResponse { content_type: "text/html; charset=utf-8", ..text("a 1\n") });
    bench.apply("");
    bench.until_error("received unsupported Content-Type").await;
    bench.apply("relabel_configs: [{source_labels: [__address__], action: drop}]");
    bench.until("dropped", |b| !b.manager.targets().dropped.is_empty()).await;
    let targets = bench.manager.targets();
    assert_eq!(targets.dropped[0].discovered_labels["__address__"], bench.address);
    assert_eq!(targets.dropped_counts["j"], 1);
    bench.until("none left", |b| b.target().is_none()).await;
}

/// As in Prometheus 3.14.
#[tokio::test(flavor = "multi_thread")]
async fn of_targets_that_are_equal_after_relabelling_the_last_is_shown() {
    let bench = Bench::new("a 1\n", false).await;
    let same = format!("relabel_configs: [{{target_label: __address__, replacement: '{}'}}]", bench.address);
    for targets in ["['x:1', 'y:1']", "['y:1', 'x:1', 'z:1']"] {
        bench.apply_targets(targets, &same);
        let last = &targets[targets.len() - 5..targets.len() - 2];
        bench
            .until("the last", |b| b.target().is_some_and(|t| t.discovered_labels["__address__"] == last))
            .await;
        assert_eq!(bench.manager.targets().active.len(), 1);
    }
    bench.until("a scrape", |b| b.last("a") == Some(1.0)).await;
    bench.manager.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_taken_out_leaves_stale_markers_and_a_shutdown_none() {
    let bench = Bench::new("a 1\n", false).await;
    bench.apply("");
    bench.until_up().await;
    bench.manager.apply(Vec::new()).unwrap();
    bench.until("markers", |b| b.last("a").is_some_and(is_stale) && b.last("up").is_some_and(is_stale)).await;
    let bench = Bench::new("a 1\n", false).await;
    bench.apply("");
    bench.until_up().await;
    bench.manager.shutdown();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(!is_stale(bench.last("a").unwrap()) && !is_stale(bench.last("up").unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_between_adds_no_series() {
    let bench = Bench::new("a 1\nb 2\n", false).await;
    bench.apply("");
    bench.until_up().await;
    bench.answer(TargetResponse { status: StatusCode::NOT_FOUND, ..text("") });
    bench.until_error("server returned HTTP status 404 Not Found").await;
    bench.answer(text("a 1\nb 2\nc 3\n"));
    bench.until("c", |b| b.last("c") == Some(3.0)).await;
    let added: f64 = bench.samples("scrape_series_added")[0].2.iter().sum();
    assert_eq!(added, 3.0, "two at first, one at last");
}

const TEXT: &str = "text/plain; version=0.0.4";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A body, and its result in Prometheus 3.14: part of the error ("": none), samples scraped,
/// samples kept.
const BODIES: &[(&str, &str, &str, [f64; 2])] = &[
    (TEXT, "a 1\nb{c=} 2\n", "line 2: expected a quoted string", [1.0, 1.0]),
    (TEXT, "a{b=c} 1\n", "line 1: expected a quoted string", [0.0, 0.0]),
    (TEXT, "a{x=\"1\",x=\"2\"} 1\n", "label name \"x\" is not unique", [1.0, 0.0]),
    (TEXT, "{__name__=\"foo\"} 1\n", "metric name not set", [0.0, 0.0]),
    (TEXT, "a 1\nb 1e400\n", "value out of range", [1.0, 1.0]),
    (TEXT, "a 1\nb 1 -5\n", "expected a timestamp in milliseconds", [1.0, 1.0]),
    (TEXT, "# TYPE a  gauge\na 1\n", "invalid metric type \" gauge\"", [0.0, 0.0]),
    (TEXT, "#TYPE a gauge\n# HELP a-b text\na{b=\"c\" d=\"e\"} 1\na+2\n", "", [2.0, 2.0]),
    (TEXT, "a 1\n\0\nb 2\n", "", [1.0, 1.0]),
    (OPEN_METRICS, "a 1 \n# EOF\n", "line 1: expected a timestamp", [1.0, 1.0]),
    (OPEN_METRICS, "a 1\nb{ c=\"d\"} 2\n# EOF\n", "line 2: expected a label name", [1.0, 1.0]),
    (OPEN_METRICS, "a 1 # {\"t\"} 1\n# EOF\n", "expected label name", [0.0, 0.0]),
    (OPEN_METRICS, "", "", [0.0, 0.0]),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_counts_up_to_its_error() {
    let bench = Bench::new("before 1\n", false).await;
    bench.apply("");
    for (content_type, body, error, counts) in BODIES {
        bench.answer(TargetResponse { status: StatusCode::IM_A_TEAPOT, ..text("") });
        bench.until_error("418").await;
        bench.answer(TargetResponse { content_type, ..text(body) });
        match *error {
            "" => bench.until_up().await,
            error => bench.until_error(error).await,
        }
        let counted = |b: &Bench| {
            ["scrape_samples_scraped", "scrape_samples_post_metric_relabeling"].map(|name| b.last(name))
        };
        bench.until(body, |b| counted(b) == counts.map(Some)).await;
        assert_eq!(bench.last("up"), Some(f64::from(u8::from(error.is_empty()))), "{body}");
    }
    // Metadata lines before the error of a failed scrape count, and older metadata remain.
    bench.answer(text("# HELP a_total Help text.\n# TYPE a_total counter\na_total 1\nb{c=} 2\n"));
    bench.until_error("line 4").await;
    let metadata = bench.manager.metadata(|_| true);
    let a = metadata.iter().find(|one| one.metric == "a_total").expect("metadata");
    assert_eq!((a.metadata.kind.as_str(), a.metadata.help.as_str()), ("counter", "Help text."));
    bench.answer(text("b 1\n"));
    bench.until_up().await;
    assert!(bench.manager.metadata(|_| true).iter().any(|one| one.metric == "a_total"), "for ten scrapes");
    // A sample without any label left is dropped.
    bench.apply("metric_relabel_configs: [{action: labeldrop, regex: '.*'}]");
    bench.until("no sample is left", |b| b.last("scrape_samples_post_metric_relabeling") == Some(0.0)).await;
    assert_eq!((bench.last("up"), bench.last("scrape_samples_scraped")), (Some(1.0), Some(1.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_whose_url_is_none_is_there_and_down() {
    let bench = Bench::new("a 1\n", false).await;
    bench.apply_targets("['h:port']", "");
    bench.until_error("parse \"http://h:port/metrics\"").await;
    bench.until("up", |b| b.last("up") == Some(0.0)).await;
    bench.apply("metric_name_validation_scheme: legacy");
    bench.answer(text("{\"a.b\",c=\"d\"} 1\n"));
    bench.until_error("invalid metric name or label names: {__name__=\"a.b\", c=\"d\", ").await;
    let headers = bench.site.headers.lock().unwrap().clone();
    let accept = headers["accept"].to_str().unwrap();
    assert!(
        accept.starts_with("application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6"),
        "{accept}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_starts_a_discovery_again_that_could_not_be_started() {
    let bench = Bench::new("a 1\n", false).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    let marathon = format!(
        "marathon_sd_configs: [{{servers: ['http://127.0.0.1:1'], auth_token_file: '{}'}}]",
        token.display()
    );
    let has_failed = |bench: &Bench, number: usize| {
        let line = format!("prometheus_sd_failed_configs{{name=\"scrape\"}} {number}\n");
        bench.registry.render().contains(&line)
    };
    assert!(has_failed(&bench, 0));
    bench.apply(&marathon);
    bench.until("a failure", |bench| has_failed(bench, 1)).await;
    std::fs::write(&token, "t").unwrap();
    bench.apply(&marathon);
    bench.until("a start", |bench| has_failed(bench, 0)).await;
    bench.until("the other targets are still scraped", |bench| bench.last("a") == Some(1.0)).await;
    bench.manager.shutdown();
}
