//! Tests the scenario of the founding documents: their configuration and alerts, an instrumented
//! Python program, a node exporter, and a service that is down.

use crate::support::daemon::{Daemon, free_port, program, python};
use crate::support::server::Server;
use crate::support::{data, eventually, wall_clock};
use std::path::{Path, PathBuf};

/// Starts the Python exporter of `tests/data`; returns it and its port.
pub fn python_exporter(directory: &Path) -> (Daemon, u16) {
    let (port, script) =
        (free_port(), PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/exporter.py"));
    let mut daemon = Daemon::start(&python(), &[script.display().to_string(), port.to_string()], directory);
    daemon.wait_ready(port, "/metrics");
    (daemon, port)
}

/// Starts Debian's node exporter; returns it and its port.
pub fn node_exporter(directory: &Path) -> (Daemon, u16) {
    let port = free_port();
    let path = program("prometheus-node-exporter", "prometheus-node-exporter");
    let mut daemon = Daemon::start(&path, &[format!("--web.listen-address=127.0.0.1:{port}")], directory);
    daemon.wait_ready(port, "/metrics");
    (daemon, port)
}

#[test]
fn the_founding_scenario_works() {
    wall_clock(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let (_app, app) = python_exporter(directory.path());
        let (_node, node) = node_exporter(directory.path());
        let config = [("node", node), ("app", app), ("nobody", free_port())]
            .iter()
            .fold(data("prometheus.yml"), |text, (name, port)| {
                text.replace(&format!("{{{name}}}"), &port.to_string())
            });
        let server = Server::start(&config, &[("alerts.rules.yml", &data("alerts.yml"))]);

        server.wait_health(&[
            ("prometheus", "up"),
            ("node-exporter", "up"),
            ("web-app", "up"),
            ("cadvisor", "down"),
        ]);
        assert!(!server.wait_rows("http_requests_total{method=\"GET\",status=\"200\"}", 6).is_empty());
        server.wait_rows("sum(rate(http_requests_total[1m])) by (method)", 2);
        server.wait_rows(
            "histogram_quantile(0.95, sum(rate(http_request_duration_seconds_bucket[1m])) by (le))",
            1,
        );
        server.wait_rows("node_load1", 1);
        alerts_are_loaded(&server);
        the_dead_service_is_pending(&server);
    });
}

fn alerts_are_loaded(server: &Server) {
    let groups = server.api("/api/v1/rules");
    let groups = groups["groups"].as_array().expect("groups");
    let mut rules: Vec<&str> = groups
        .iter()
        .flat_map(|g| g["rules"].as_array().expect("rules"))
        .filter_map(|r| r["name"].as_str())
        .collect();
    rules.sort();
    let expected = [
        "DiskSpaceLow",
        "HighCPUUsage",
        "HighErrorRate",
        "HighMemoryUsage",
        "ServiceDown",
        "SlowResponseTime",
    ];
    assert_eq!(rules, expected);
}

fn the_dead_service_is_pending(server: &Server) {
    let description = eventually("ServiceDown is pending", 20, || {
        let data = server.api("/api/v1/alerts");
        let alerts = data["alerts"].as_array().expect("alerts").clone();
        let down = |a: &&serde_json::Value| {
            a["labels"]["alertname"] == "ServiceDown"
                && a["labels"]["job"] == "cadvisor"
                && a["state"] == "pending"
        };
        let found = alerts.iter().find(down).ok_or_else(|| format!("{alerts:?}"))?;
        Ok(found["annotations"]["description"].as_str().expect("text").to_string())
    });
    assert!(description.starts_with("cadvisor on localhost:"), "{description}");
}
