//! Tests old blocks in an object store: query results remain the same over restarts, kills, and an
//! outage of the object store.

use crate::support::http::encode;
use crate::support::s3::{KEY, S3};
use crate::support::server::{Server, binary_under_test};
use crate::support::{eventually, now_ms, wall_clock};
use serde_json::Value;
use std::fmt::Write;
use std::process::Command;

const HOUR: i64 = 3_600_000;

/// Four days of three series; the newest sample is one hour old.
fn history(end: i64) -> String {
    let mut text = String::new();
    for series in 0..3 {
        for at in 0..96 * 6 {
            let t = end - (96 * 6 - at) * 600_000;
            writeln!(text, "old_samples{{i=\"{series}\"}} {} {}.000", at * 7 + series, t / 1000)
                .expect("text");
        }
    }
    text + "# EOF\n"
}

/// A stopped server with the history in blocks.
fn with_history(end: i64) -> Server {
    let mut server = Server::start("", &[]);
    server.kill();
    std::fs::write(server.file("history.txt"), history(end)).expect("a file");
    let data = format!("--storage.tsdb.path={}", server.file("data").display());
    let import = Command::new(binary_under_test())
        .args(["import", "openmetrics", &data, &server.file("history.txt").display().to_string()])
        .output()
        .expect("our program");
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    server
}

fn configure(server: &Server, objects: &str) {
    let text = format!("storage: {{objects: {{{objects}, after: 1d}}}}\n");
    std::fs::write(server.file("prometheus.yml"), text).expect("a configuration");
}

/// The responses of every kind of query over the history.
fn answers(server: &Server, end: i64) -> Vec<Value> {
    let span = format!("start={}&end={}", (end - 100 * HOUR) / 1000, end / 1000);
    let series = server.api(&format!("/api/v1/series?match%5B%5D=old_samples&{span}"));
    let mut raw = server.query_at("old_samples[100h]", end)["result"].as_array().expect("rows").clone();
    raw.sort_by_key(|row| row["metric"].to_string());
    vec![
        Value::Array(raw),
        server.query_range("sum(old_samples)", end - 99 * HOUR, end, HOUR),
        series,
        server.api(&format!("/api/v1/labels?{span}")),
        server.api(&format!("/api/v1/label/i/values?{span}")),
    ]
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
}

fn moved(server: &Server) {
    eventually("old blocks move", 60, || {
        let far = metric(server, "perennial_object_store_blocks");
        let all = metric(server, "prometheus_tsdb_blocks_loaded");
        // At most three blocks of 18 hours contain parts of the newest 24 hours.
        if far >= 3.0 && all - far <= 3.0 { Ok(()) } else { Err(format!("{far} of {all}")) }
    });
}

/// The warnings of a recent query.
fn warnings(server: &Server) -> Vec<Value> {
    let json = server.get("/api/v1/query?query=vector(1)").json();
    assert_eq!(json["status"], "success", "{json}");
    json["warnings"].as_array().cloned().unwrap_or_default()
}

#[test]
fn old_blocks_answer_from_s3_and_recent_ones_while_it_is_away() {
    wall_clock(|| {
        let mut s3 = S3::start();
        let end = now_ms() / 1000 * 1000 - HOUR;
        let mut server = with_history(end);
        server.run();
        let want = answers(&server, end);
        assert_eq!(want[0].as_array().expect("rows").len(), 3);
        server.kill();
        configure(&server, &s3.config("one"));
        server.run();
        moved(&server);
        assert_eq!(answers(&server, end), want);
        assert_eq!(warnings(&server), Vec::<Value>::new());
        let shown = server.api("/api/v1/status/config")["yaml"].to_string();
        assert!(shown.contains("s3://bucket/one") && !shown.contains(KEY.1), "{shown}");
        server.kill();
        // Only the local list of blocks remains.
        std::fs::remove_dir_all(server.file("data/objects/cache")).expect("a cache");
        server.run();
        assert_eq!(answers(&server, end), want);
        assert!(metric(&server, "perennial_object_store_cache_misses_total") > 0.0);
        // Outage: queries of cached blocks succeed, others fail with the name of the block.
        server.kill();
        std::fs::remove_dir_all(server.file("data/objects/cache")).expect("a cache");
        s3.stop();
        server.run();
        let told = warnings(&server);
        assert!(told.iter().any(|w| w.to_string().contains("s3://bucket/one")), "{told:?}");
        let path = format!("/api/v1/query?query={}&time={}", encode("old_samples[100h]"), end / 1000);
        let answer = server.get(&path);
        assert!(answer.status >= 500 && answer.text().contains("s3://bucket/one/"), "{}", answer.text());
        let recent = server.query_at("count(old_samples)", end - 600_000);
        assert_eq!(recent["result"][0]["value"][1], "3", "{recent}");
        assert_eq!(metric(&server, "perennial_object_store_up"), 0.0);
        // The object store returns.
        s3.run();
        assert_eq!(answers(&server, end), want);
        eventually("the warning goes", 120, || match warnings(&server) {
            none if none.is_empty() => Ok(()),
            some => Err(format!("{some:?}")),
        });
        assert!(!server.log().contains(KEY.1), "the key is in the log");
    });
}

#[test]
fn old_blocks_answer_from_a_directory_and_nobody_else_may_use_it() {
    wall_clock(|| {
        let end = now_ms() / 1000 * 1000 - HOUR;
        let mut server = with_history(end);
        server.run();
        let want = answers(&server, end);
        server.kill();
        let url = format!("url: 'file://{}'", server.file("far").display());
        configure(&server, &url);
        server.run();
        moved(&server);
        assert_eq!(answers(&server, end), want);
        let config = format!("storage: {{objects: {{{url}}}}}\n");
        let (code, output) = Server::fail(&config, &[]);
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains("used by another data directory"), "{output}");
        server.kill();
        let export = |more: &[&str]| {
            let data = format!("--storage.tsdb.path={}", server.file("data").display());
            let all = ["export", "--match=old_samples", "--format=csv", &data];
            Command::new(binary_under_test()).args(all).args(more).output().expect("our program")
        };
        let config = format!("--config.file={}", server.file("prometheus.yml").display());
        let whole = export(&[&config]);
        let lines = String::from_utf8_lossy(&whole.stdout).lines().count();
        assert_eq!((whole.status.code(), lines), (Some(0), 1 + 3 * 96 * 6));
        let partial = export(&[]);
        let told = String::from_utf8_lossy(&partial.stderr).into_owned();
        assert!(partial.status.code() == Some(1) && told.contains("storage.objects"), "{told}");
    });
}
