//! Tests remote write to Debian's Prometheus, to VictoriaMetrics and to another server of ours:
//! the same samples arrive, whichever process is killed in between.

use crate::support::daemon::{Daemon, free_port, program};
use crate::support::exporter::Exporter;
use crate::support::recorder::{Recorder, Reply};
use crate::support::remote_write::{self, Histogram, Series};
use crate::support::server::Server;
use crate::support::{compare, eventually, http, now_ms, wall_clock};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A configuration that sends to `port`, with further keys of the entry and of the file.
fn sending_to(port: u16, entry: &str, rest: &str) -> String {
    format!(
        "remote_write:\n- url: http://127.0.0.1:{port}/api/v1/write\n  \
         queue_config: {{batch_send_deadline: 200ms, max_shards: 4}}\n{entry}{rest}"
    )
}

#[test]
fn what_is_scraped_and_recorded_arrives_at_prometheus() {
    wall_clock(|| {
        let exporter = Exporter::start(
            "# TYPE app_requests_total counter\napp_requests_total{code=\"200\"} 17\n\
             app_requests_total{code=\"500\"} 3\napp_temperature{room=\"ünïcode \\\"a\\\"\"} -0.5\n\
             app_not_a_number NaN\nsecret_value 1\n",
        );
        let theirs = Server::prometheus("");
        let rules = "groups:\n- name: g\n  interval: 1s\n  rules:\n  - {record: job:sum, expr: 'sum by (job) (app_requests_total)'}\n  \
                     - {alert: Warm, expr: 'app_temperature < 0'}\n";
        let relabel = "  write_relabel_configs:\n  - {source_labels: [__name__], regex: secret_.*, action: drop}\n  \
                       - {source_labels: [room], target_label: place}\n";
        let rest = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s, external_labels: {{cluster: c1, job: never}}}}\n\
             rule_files: [rules.yml]\nscrape_configs:\n- job_name: app\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            exporter.port
        );
        let config = sending_to(theirs.port, relabel, &rest);
        let ours = Server::start(&config, &[("rules.yml", rules)]);
        ours.wait_rows("job:sum", 1);
        ours.wait_rows("ALERTS", 1);
        std::thread::sleep(Duration::from_secs(3));
        let t = now_ms() - 1_000;
        let queries = [
            "app_requests_total",
            "app_not_a_number",
            "job:sum",
            "up",
            // Relabelling has added `place`.
            "sum without (room, place) (ALERTS)",
            "sum by (code) (count_over_time(app_requests_total[3s]))",
        ];
        for query in queries {
            let own = ours.query_at(query, t);
            assert!(!own["result"].as_array().expect("rows").is_empty(), "{query} has no rows here");
            eventually(&format!("{query} answers as here"), 20, || {
                let text = theirs.query_at(query, t).to_string().replace("\"cluster\":\"c1\",", "");
                let theirs = serde_json::from_str(&text.replace(",\"cluster\":\"c1\"", "")).expect("JSON");
                compare::difference(&own, &theirs).map_or(Ok(()), Err)
            });
        }
        assert_eq!(theirs.wait_rows("app_temperature", 1)[0]["metric"]["place"], "ünïcode \"a\"");
        assert_eq!(theirs.query("{cluster=\"c1\"} unless {job=\"app\"}").len(), 0, "the own label wins");
        assert_eq!(theirs.query("secret_value").len(), 0);
        let metrics = ours.get("/metrics").text();
        for part in [
            "prometheus_remote_storage_samples_failed_total{remote_name=",
            "prometheus_remote_storage_samples_dropped_total{reason=\"dropped_series\"",
            "prometheus_remote_storage_shards{remote_name=",
        ] {
            assert!(metrics.contains(part), "{part}");
        }
        assert_eq!(counter(&metrics, "prometheus_remote_storage_samples_failed_total"), 0.0);
    });
}

/// The sum of all series of a metric on a page of metrics.
fn counter(page: &str, name: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The samples of each series of `answer`, a range of a matrix.
fn matrix(server: &Server, query: &str, t: i64) -> BTreeMap<String, Vec<String>> {
    let answer = server.query_at(query, t);
    let rows = answer["result"].as_array().expect("rows").clone();
    let row = |row: &serde_json::Value| {
        let values = row["values"].as_array().expect("values");
        (row["metric"]["n"].to_string(), values.iter().map(ToString::to_string).collect())
    };
    rows.iter().map(row).collect()
}

/// Writes a sample of each of some series to a server that may be away; returns when it has them.
fn write_until_taken(server: &mut Server, t: i64, v: f64) {
    let series: Vec<Series> =
        (0..6).map(|n| Series::new("steps", &[("n", &n.to_string())], vec![(t, v)])).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !remote_write::write(server.port, &series).is_ok_and(|answer| answer.status == 204) {
        assert!(Instant::now() < deadline, "the server does not take samples");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_outage_and_kills_lose_nothing() {
    let mut theirs = Server::prometheus("");
    let config = sending_to(theirs.port, "", "");
    let mut ours = Server::start(&config, &[]);
    let start = now_ms() - 60_000;
    let mut written = 0;
    for step in 0..300i64 {
        match step {
            40 => theirs.kill(),
            60 | 75 | 130 | 131 | 200 => {
                ours.kill();
                ours.run();
            }
            100 => theirs.run(),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
        write_until_taken(&mut ours, start + step * 100, step as f64);
        written += 1;
    }
    assert_eq!(written, 300);
    let t = start + 300 * 100;
    let own = matrix(&ours, "steps[1m]", t);
    assert_eq!(own.values().map(Vec::len).collect::<Vec<_>>(), [300; 6]);
    eventually("Prometheus has all samples", 30, || {
        let theirs = matrix(&theirs, "steps[1m]", t);
        let counts: Vec<usize> = theirs.values().map(Vec::len).collect();
        if theirs == own { Ok(()) } else { Err(format!("{counts:?}")) }
    });
}

/// Starts Debian's VictoriaMetrics; returns its port.
fn victoria_metrics(directory: &Path) -> (Daemon, u16) {
    let port = free_port();
    let arguments = [
        format!("-storageDataPath={}", directory.join("victoria").display()),
        format!("-httpListenAddr=127.0.0.1:{port}"),
        "-retentionPeriod=1".to_owned(),
        "-loggerLevel=WARN".to_owned(),
    ];
    let mut daemon = Daemon::start(&program("victoria-metrics", "victoria-metrics"), &arguments, directory);
    daemon.wait_ready(port, "/health");
    (daemon, port)
}

/// The samples that VictoriaMetrics has of each series, as its export writes them. It keeps twice
/// what was sent twice.
fn exported(port: u16, selector: &str) -> Result<BTreeMap<String, BTreeMap<i64, f64>>, String> {
    // What came a moment ago is not seen by queries otherwise.
    http::get(port, "/internal/force_flush").map_err(|e| e.to_string())?;
    let answer = http::get(port, &format!("/api/v1/export?match[]={}", http::encode(selector)))
        .map_err(|e| e.to_string())?;
    let mut found = BTreeMap::new();
    for line in answer.text().lines() {
        let row: Value = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
        let times = row["timestamps"].as_array().ok_or("no times")?.iter().filter_map(Value::as_i64);
        let values = row["values"].as_array().ok_or("no values")?.iter().filter_map(Value::as_f64);
        found.insert(row["metric"]["n"].to_string(), times.zip(values).collect());
    }
    Ok(found)
}

#[test]
fn victoria_metrics_has_the_same_samples() {
    let directory = tempfile::tempdir().expect("a directory");
    let (theirs, port) = victoria_metrics(directory.path());
    let relabel = "  write_relabel_configs: [{source_labels: [__name__], regex: hidden, action: drop}]\n";
    let mut ours =
        Server::start(&sending_to(port, relabel, "global: {external_labels: {cluster: c1}}\n"), &[]);
    let start = now_ms() - 60_000;
    let value = |n: i64, step: i64| n as f64 * 0.25 - step as f64;
    for step in 0..200 {
        if step == 80 {
            ours.kill();
            ours.run();
        }
        let mut series: Vec<Series> = (0..5)
            .map(|n| {
                Series::new("steps", &[("n", &n.to_string())], vec![(start + step * 100, value(n, step))])
            })
            .collect();
        series.push(Series::new("hidden", &[], vec![(start + step * 100, 1.0)]));
        assert_eq!(remote_write::write(ours.port, &series).expect("an answer").status, 204);
    }
    let all = |n: i64| (0..200).map(|step| (start + step * 100, value(n, step))).collect();
    let expected: BTreeMap<String, BTreeMap<i64, f64>> =
        (0..5).map(|n| (format!("\"{n}\""), all(n))).collect();
    eventually("all samples arrive", 60, || {
        let found = exported(port, "steps")?;
        let counts: Vec<usize> = found.values().map(BTreeMap::len).collect();
        if found == expected { Ok(()) } else { Err(format!("{counts:?}")) }
    });
    assert_eq!(exported(port, "hidden").expect("an answer"), BTreeMap::new());
    assert_eq!(exported(port, "steps{cluster=\"c1\"}").expect("an answer").len(), 5);
    drop(theirs);
}

#[test]
fn a_stop_sends_what_is_stored_and_a_reload_goes_on() {
    let theirs = Server::prometheus("");
    // Without the stop, nothing would be sent for an hour.
    let config = |deadline: &str| {
        format!(
            "remote_write:\n- url: http://127.0.0.1:{}/api/v1/write\n  queue_config: {{batch_send_deadline: {deadline}}}\n",
            theirs.port
        )
    };
    let mut ours = Server::start(&config("1h"), &[]);
    let t = now_ms() - 10_000;
    write_until_taken(&mut ours, t, 1.0);
    ours.signal("TERM");
    let (code, log) = ours.wait_end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(theirs.query_at("steps", t)["result"].as_array().expect("rows").len(), 6);
    ours.run();
    write_until_taken(&mut ours, t + 1_000, 2.0);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(theirs.query_at("count(steps == 2)", t + 1_000)["result"].as_array().expect("rows").len(), 0);
    // The queue with the new deadline goes on where the old one was.
    std::fs::write(ours.file("prometheus.yml"), config("100ms")).expect("the file");
    assert_eq!(ours.post("/-/reload").status, 200);
    eventually("the samples of before the reload arrive", 20, || {
        let found = theirs.query_at("steps == 2", t + 1_000)["result"].as_array().expect("rows").len();
        if found == 6 { Ok(()) } else { Err(format!("{found} rows")) }
    });
}

#[test]
fn native_histograms_arrive_as_they_were() {
    for message in ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"] {
        let theirs = Server::start("", &[]);
        let entry = format!("  send_native_histograms: true\n  protobuf_message: {message}\n");
        let ours = Server::start(&sending_to(theirs.port, &entry, ""), &[]);
        let t = now_ms() - 5_000;
        let histogram = Histogram {
            schema: 2,
            zero_threshold: 0.001,
            zero: 3,
            sum: 17.5,
            positive: BTreeMap::from([(-3, 2), (0, 5), (1, 4), (40, 1)]),
            negative: BTreeMap::from([(2, 7)]),
        };
        let mut series = Series::new("native", &[("kind", "x")], Vec::new());
        series.histograms.push((t, histogram));
        let float = Series::new("plain", &[], vec![(t, 0.1)]);
        assert_eq!(remote_write::write(ours.port, &[series, float]).expect("an answer").status, 204);
        let own = ours.query_at("{__name__=~\"native|plain\"}", t);
        assert_eq!(own["result"].as_array().expect("rows").len(), 2);
        eventually(&format!("{message}: the same histogram arrives"), 20, || {
            let theirs = theirs.query_at("{__name__=~\"native|plain\"}", t);
            if theirs == own { Ok(()) } else { Err(theirs.to_string()) }
        });
    }
}

/// A receiver that takes its time gets more requests at once, and fewer when it is quick again.
#[test]
fn shards_follow_a_slow_receiver() {
    let pause = Arc::new(AtomicU64::new(300));
    let slow = pause.clone();
    let receiver = Recorder::start(move |_| {
        std::thread::sleep(Duration::from_millis(slow.load(SeqCst)));
        Reply::new("204 No Content", "")
    });
    let config = format!(
        "remote_write:\n- url: http://127.0.0.1:{}/api/v1/write\n  metadata_config: {{send: false}}\n  \
         queue_config: {{batch_send_deadline: 100ms, max_samples_per_send: 20, capacity: 40, max_shards: 30}}\n",
        receiver.port
    );
    let ours = Server::start(&config, &[]);
    let port = ours.port;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    // Some hundred samples per second: one request at a time sends 67.
    let writer = std::thread::spawn(move || {
        for step in 0.. {
            if stopped.load(SeqCst) {
                return;
            }
            let series: Vec<Series> = (0..40)
                .map(|n| Series::new("flow", &[("n", &n.to_string())], vec![(now_ms(), f64::from(step))]))
                .collect();
            // Whether it is taken does not matter.
            let _ = remote_write::write(port, &series);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let gauge = |name: &str| counter(&ours.get("/metrics").text(), name);
    let desired = || gauge("prometheus_remote_storage_shards_desired");
    let shards = || gauge("prometheus_remote_storage_shards");
    let most = eventually("more shards", 60, || {
        let found = (desired(), shards());
        if found.0 > 3.0 && found.1 > 3.0 { Ok(found) } else { Err(format!("{found:?}")) }
    });
    pause.store(0, SeqCst);
    eventually("fewer shards", 120, || {
        let found = (desired(), shards());
        if found.0 < most.0 / 2.0 && found.1 < most.1 {
            Ok(())
        } else {
            Err(format!("{found:?} of {most:?}"))
        }
    });
    stop.store(true, SeqCst);
    writer.join().expect("the writer");
}

/// A receiver that is away for hours, by the times of the samples: they wait in the log and not
/// in memory, over a kill and the blocks that are written meanwhile, and all arrive.
#[test]
fn an_outage_of_hours_costs_no_sample_and_no_memory() {
    const SERIES: i64 = 500;
    const STEPS: i64 = 960;
    const INTERVAL: i64 = 15_000;
    let mut theirs = Server::prometheus("");
    let mut ours = Server::start(&sending_to(theirs.port, "", ""), &[]);
    let start = now_ms() - STEPS * INTERVAL;
    theirs.kill();
    let mut memory = 0.0;
    // Twelve minutes in a request.
    for first in (0..STEPS).step_by(48) {
        let samples =
            |n: i64| (first..first + 48).map(move |i| (start + i * INTERVAL, (n * i) as f64)).collect();
        let series: Vec<Series> =
            (0..SERIES).map(|n| Series::new("long", &[("n", &n.to_string())], samples(n))).collect();
        let answer = remote_write::write(ours.port, &series).expect("an answer");
        assert_eq!(answer.status, 204, "{}", answer.text());
        match first {
            96 => memory = ours.memory().now,
            480 => {
                ours.kill();
                ours.run();
            }
            _ => {}
        }
    }
    let metric = |server: &Server, name: &str| counter(&server.get("/metrics").text(), name);
    let waiting = metric(&ours, "prometheus_remote_storage_samples_pending");
    assert!(waiting <= 4.0 * 12_000.0, "{waiting} samples wait in memory");
    let grown = ours.memory().now - memory;
    assert!(grown < 64.0, "{grown} MiB more after four hours than after 24 minutes");
    let before = ours.memory().now;
    ours.forget_peak();
    theirs.run();
    let query = format!("sum(count_over_time(long[{}s]))", STEPS * INTERVAL / 1000 + 1);
    let at = start + STEPS * INTERVAL;
    eventually("all samples arrive", 180, || {
        let found = theirs.query_at(&query, at)["result"][0]["value"][1].clone();
        let found: i64 = found.as_str().and_then(|found| found.parse().ok()).unwrap_or(0);
        if found == SERIES * STEPS { Ok(()) } else { Err(found.to_string()) }
    });
    let grown = ours.memory().peak - before;
    assert!(grown < 64.0, "{grown} MiB more while four hours were sent");
    assert_eq!(metric(&ours, "prometheus_remote_storage_samples_failed_total"), 0.0);
    assert_eq!(metric(&ours, "perennial_remote_storage_missing_records_total"), 0.0);
}

/// The flag names the messages that are received; a sender of another one is told.
#[test]
fn only_messages_that_are_named_are_received() {
    let flag = "--web.remote-write-receiver.accepted-protobuf-messages=io.prometheus.write.v2.Request";
    let theirs = Server::start_with("", &[], &[flag]);
    let series = [Series::new("m", &[], vec![(now_ms(), 1.0)])];
    let answer = remote_write::write(theirs.port, &series).expect("an answer");
    let says = "prometheus.WriteRequest protobuf message is not accepted by this server; only accepts \
                io.prometheus.write.v2.Request";
    assert_eq!((answer.status, answer.text().trim_end()), (415, says));
    let ours = Server::start(
        &sending_to(theirs.port, "  protobuf_message: io.prometheus.write.v2.Request\n", ""),
        &[],
    );
    assert_eq!(remote_write::write(ours.port, &series).expect("an answer").status, 204);
    theirs.wait_rows("m", 1);
}

/// The metrics that alerts and dashboards of Prometheus' remote write read.
#[test]
fn remote_storage_has_the_metrics_of_prometheus() {
    let theirs = Server::prometheus("");
    let ours = Server::start(&sending_to(theirs.port, "  name: there\n", ""), &[]);
    let t = now_ms() - 1_000;
    write_steps(&ours, t);
    let page = eventually("the samples are sent", 20, || {
        let page = ours.get("/metrics").text();
        let sent = counter(&page, "prometheus_remote_storage_samples_total");
        if sent >= 6.0 { Ok(page) } else { Err(format!("{sent} samples")) }
    });
    for name in
        include_str!("../data/remote_storage_metrics.txt").lines().filter(|line| !line.starts_with('#'))
    {
        let is_there = |line: &str| {
            let rest = line.strip_prefix(name).map(|rest| rest.strip_prefix("_bucket").unwrap_or(rest));
            rest.is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        };
        assert!(page.lines().any(is_there), "{name} is missing");
    }
    let line =
        |begin: &str| page.lines().find_map(|line| line.strip_prefix(begin)?.trim().parse::<f64>().ok());
    let stored = line("prometheus_tsdb_head_samples_appended_total{type=\"float\"}");
    assert_eq!(line("prometheus_remote_storage_samples_in_total"), stored);
    assert_eq!(line("prometheus_remote_storage_histograms_in_total"), Some(0.0));
    let newest = line("prometheus_remote_storage_highest_timestamp_in_seconds").expect("a time");
    assert!(newest >= (t / 1000) as f64, "{newest}");
}

/// Writes one sample of each of some series.
fn write_steps(server: &Server, t: i64) {
    let series: Vec<Series> =
        (0..6).map(|n| Series::new("steps", &[("n", &n.to_string())], vec![(t, 1.0)])).collect();
    assert_eq!(remote_write::write(server.port, &series).expect("an answer").status, 204);
}
