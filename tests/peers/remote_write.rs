//! Tests remote write to Debian's Prometheus and to another server of ours: the same samples
//! arrive, whichever process is killed in between.

use crate::support::exporter::Exporter;
use crate::support::recorder::{Recorder, Reply};
use crate::support::remote_write::{self, Histogram, Series};
use crate::support::server::Server;
use crate::support::{compare, eventually, now_ms, wall_clock};
use std::collections::BTreeMap;
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
