//! Tests agent mode: an agent scrapes and sends to Debian's Prometheus, and loses nothing when
//! either is killed.

use crate::support::daemon::free_port;
use crate::support::exporter::Exporter;
use crate::support::remote_write::{self, Series};
use crate::support::server::Server;
use crate::support::{eventually, http, now_ms};
use serde_json::Value;
use std::time::Duration;

/// A configuration that scrapes `target` and sends to `receiver`.
fn config(target: u16, receiver: u16) -> String {
    format!(
        "global: {{scrape_interval: 1s}}\nremote_write:\n- url: http://127.0.0.1:{receiver}/api/v1/write\n  \
         queue_config: {{batch_send_deadline: 200ms}}\nscrape_configs:\n- job_name: app\n  \
         static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
    )
}

fn count(server: &Server, query: &str, t: i64) -> f64 {
    let rows = server.query_at(query, t)["result"].as_array().expect("rows").clone();
    rows.first().and_then(|row| row["value"][1].as_str()?.parse().ok()).unwrap_or(0.0)
}

#[test]
fn an_agent_sends_what_it_scrapes_and_has_no_more() {
    let exporter = Exporter::start("app_requests_total 17\n");
    let theirs = Server::prometheus("");
    let agent = Server::agent(&config(exporter.port, theirs.port), &[]);
    theirs.wait_rows("app_requests_total{job=\"app\"}", 1);
    theirs.wait_rows("up{job=\"app\"} == 1", 1);
    agent.wait_health(&[("app", "up")]);
    for path in
        ["query?query=up", "labels", "series?match[]=up", "rules", "alerts", "status/tsdb", "alertmanagers"]
    {
        let answer = agent.get(&format!("/api/v1/{path}"));
        let error = answer.json();
        assert_eq!(
            (answer.status, error["errorType"].as_str(), error["error"].as_str()),
            (422, Some("execution"), Some("unavailable with Prometheus Agent")),
            "{path}"
        );
    }
    let others = [
        ("/federate?match[]=up", 500, "unsupported operation with WAL-only storage"),
        ("/query", 404, "404 page not found"),
        ("/-/ready", 200, "Prometheus Agent is Ready."),
        ("/-/healthy", 200, "Prometheus Agent is Healthy."),
    ];
    for (path, status, text) in others {
        let answer = agent.get(path);
        assert_eq!((answer.status, answer.text().trim()), (status, text), "{path}");
    }
    assert_eq!(agent.get("/agent").status, 200);
    assert_eq!(agent.api("/api/v1/features")["prometheus"]["agent_mode"], Value::Bool(true));
    let read = http::send(agent.port, "POST", "/api/v1/read", &[], b"x").expect("an answer");
    assert_eq!(read.status, 500);
    let metrics = agent.get("/metrics").text();
    for name in [
        "active_series",
        "samples_appended_total{type=\"float\"}",
        "samples_appended_total{type=\"histogram\"}",
        "exemplars_appended_total",
        "out_of_order_samples_total",
        "truncate_duration_seconds_count",
        "corruptions_total",
        "data_replay_duration_seconds",
        "clean_start",
    ] {
        let begin = format!("prometheus_agent_{name} ");
        assert!(metrics.lines().any(|line| line.starts_with(&begin)), "{begin}");
    }
    // Nothing is kept for readers: there is a log, and no blocks.
    assert!(agent.file("data/wal").is_dir() && !agent.file("data/blocks").exists());
    // What cannot be is refused, also by a reload.
    let more = "rule_files: [rules.yml]\n";
    std::fs::write(agent.file("prometheus.yml"), config(exporter.port, theirs.port) + more).expect("a file");
    let reload = agent.post("/-/reload");
    assert_eq!(reload.status, 500);
    assert!(reload.text().contains("field rule_files is not allowed in agent mode"), "{}", reload.text());
}

/// Samples that were acknowledged arrive, over kills of the agent and an outage of the receiver.
#[test]
fn kills_and_outages_lose_nothing() {
    let mut theirs = Server::prometheus("");
    let flags = ["--storage.agent.wal-truncate-frequency=1s", "--storage.agent.retention.min-time=1s"];
    let mut agent = Server::agent(&config(free_port(), theirs.port), &flags);
    let start = now_ms() - 60_000;
    for step in 0..200i64 {
        match step {
            30 => theirs.kill(),
            40 | 60 | 61 | 150 => {
                agent.kill();
                agent.run();
            }
            100 => theirs.run(),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
        let series: Vec<Series> = (0..5)
            .map(|n| Series::new("steps", &[("n", &n.to_string())], vec![(start + step * 100, step as f64)]))
            .collect();
        eventually("the agent takes samples", 30, || match remote_write::write(agent.port, &series) {
            Ok(answer) if answer.status == 204 => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    eventually("Prometheus has all samples", 30, || {
        let found = count(&theirs, "sum(count_over_time(steps[1m]))", start + 20_000);
        if found == 1000.0 { Ok(()) } else { Err(format!("{found} of 1000")) }
    });
}

/// The head forgets, and so does the log once the receiver has what is in it.
#[test]
fn an_agent_forgets_what_it_has_sent() {
    let theirs = Server::prometheus("");
    let flags = [
        "--storage.agent.wal-truncate-frequency=1s",
        "--storage.agent.retention.min-time=0s",
        "--storage.agent.wal-segment-size=10MB",
    ];
    let prompt = "storage: {tsdb: {out_of_order_time_window: 0s}}\n";
    // Without targets: their samples would be newer than those that are written.
    let config = config(0, theirs.port);
    let (sending, _) = config.split_once("scrape_configs").expect("both parts");
    let agent = Server::agent(&format!("{sending}{prompt}"), &flags);
    let start = now_ms() - 50 * 60_000;
    let mut sent = 0;
    let mut memory = 0.0;
    for minute in 0..50i64 {
        let series: Vec<Series> = (0..3_000)
            .map(|n| {
                let value = |i: i64| (f64::from(n) + 0.1) * (minute * 15 + i) as f64;
                let samples = (0..15).map(|i| (start + minute * 60_000 + i * 4_000, value(i))).collect();
                Series::new("busy", &[("n", &n.to_string())], samples)
            })
            .collect();
        let answer = remote_write::write(agent.port, &series).expect("an answer");
        assert_eq!(answer.status, 204, "{}", answer.text());
        sent += 45_000;
        if minute == 20 {
            memory = agent.memory().now;
        }
    }
    let log = agent.file("data/wal");
    let bytes = || {
        let files = std::fs::read_dir(&log).expect("the log").flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum::<u64>()
    };
    let metric = |name: &str| -> f64 {
        let metrics = agent.get("/metrics").text();
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    };
    assert!(
        metric("perennial_wal_bytes_total") > f64::from(20 << 20),
        "what is written is more than what is kept"
    );
    eventually("the receiver has all", 60, || {
        let all = metric("prometheus_remote_storage_samples_total{");
        if all >= f64::from(sent) { Ok(()) } else { Err(format!("{all} of {sent}")) }
    });
    eventually("the log is short", 60, || {
        let left = bytes();
        if left < 15 << 20 { Ok(()) } else { Err(format!("{left} bytes")) }
    });
    let after = agent.memory().now;
    assert!(after < 1.5 * memory + 20.0, "{memory} MiB after 20 minutes, {after} MiB after 50");
}
