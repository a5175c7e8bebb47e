//! Tests that secrets of the configuration are shown nowhere: in no page, answer, log line or
//! metric.

#[path = "../support/secrets.rs"]
mod canaries;

use crate::support::eventually;
use crate::support::http;
use crate::support::server::Server;
use canaries::CANARY;

/// Where something of the configuration might be.
const PATHS: &[&str] = &[
    "/api/v1/status/config",
    "/api/v1/status/flags",
    "/api/v1/status/runtimeinfo",
    "/api/v1/status/buildinfo",
    "/api/v1/status/tsdb",
    "/api/v1/targets",
    "/api/v1/targets/metadata",
    "/api/v1/scrape_pools",
    "/api/v1/alertmanagers",
    "/api/v1/rules",
    "/api/v1/alerts",
    "/api/v1/metadata",
    "/api/v1/views",
    "/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D",
    "/metrics",
    "/",
];

fn show_no_secret(server: &Server) {
    for path in PATHS {
        let text = server.get(path).text();
        assert!(!text.contains(CANARY), "GET {path}: {text}");
    }
    let log = server.log();
    assert!(!log.contains(CANARY), "{log}");
}

#[test]
fn secrets_are_shown_by_no_endpoint_log_or_metric() {
    let rules = "groups: [{name: g, interval: 1s, rules: [{alert: A, expr: vector(1)}]}]\n";
    let config = format!("rule_files: [r.yml]\n{}", canaries::accepted());
    let server = Server::start_with(&config, &[("r.yml", rules)], &["--log.level=debug"]);
    let scraped: Vec<String> = (0..5).map(|at| format!("s{at}")).collect();
    server.wait_health(&scraped.iter().map(|job| (job.as_str(), "down")).collect::<Vec<_>>());
    eventually("alerts cannot be sent", 60, || {
        let metrics = server.get("/metrics").text();
        let errors = metrics.lines().filter(|line| line.starts_with("prometheus_notifications_errors_total"));
        if errors.clone().any(|line| !line.ends_with(" 0")) {
            Ok(())
        } else {
            Err(errors.collect::<String>())
        }
    });
    show_no_secret(&server);
    for text in canaries::refused() {
        std::fs::write(server.file("prometheus.yml"), &text).expect("a file");
        let answer = http::post(server.port, "/-/reload").expect("an answer");
        let body = answer.text();
        assert_eq!(answer.status, 500, "{text}: {body}");
        assert!(!body.contains(CANARY), "{text}: {body}");
    }
    show_no_secret(&server);
}
