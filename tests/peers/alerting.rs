//! From a sample to the real Alertmanager: firing with all labels and annotations, and resolved again.

use crate::support::daemon::{Daemon, free_port, program};
use crate::support::exporter::Exporter;
use crate::support::server::Server;
use crate::support::{eventually, http, wall_clock};
use serde_json::Value;
use std::path::Path;

const RULES: &str = r#"
groups:
- name: rooms
  interval: 1s
  rules:
  - record: room:temperature:max
    expr: max by (room) (temperature_celsius)
  - alert: TooWarm
    expr: room:temperature:max > 30
    labels:
      severity: page
      place: "{{ $labels.room }}/{{ $externalLabels.cluster }}"
    annotations:
      summary: "{{ $labels.room }} has {{ $value | printf \"%.1f\" }} °C"
"#;

fn alertmanager(directory: &Path) -> (Daemon, u16) {
    let port = free_port();
    let config = directory.join("alertmanager.yml");
    std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").expect("a file");
    let arguments = [
        format!("--config.file={}", config.display()),
        format!("--storage.path={}", directory.join("alertmanager").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=".to_string(),
    ];
    let mut daemon =
        Daemon::start(&program("prometheus-alertmanager", "prometheus-alertmanager"), &arguments, directory);
    daemon.wait_ready(port, "/-/ready");
    (daemon, port)
}

fn alerts(port: u16) -> Vec<Value> {
    let answer = http::get(port, "/api/v2/alerts").expect("Alertmanager");
    answer.json().as_array().expect("alerts").clone()
}

#[test]
fn an_alert_reaches_alertmanager_and_is_resolved() {
    wall_clock(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let (_daemon, port) = alertmanager(directory.path());
        let exporter = Exporter::start("temperature_celsius{room=\"attic\"} 21\n");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s, external_labels: {{cluster: home}}}}\n\
         rule_files: [rooms.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]}}\n\
         scrape_configs:\n- job_name: rooms\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            exporter.port
        );
        let server = Server::start(&config, &[("rooms.yml", RULES)]);
        server.wait_rows("room:temperature:max == 21", 1);
        assert_eq!(alerts(port), Vec::<Value>::new(), "nothing is too warm yet");

        exporter.set("temperature_celsius{room=\"attic\"} 34.56\n");
        let alert = eventually("the alert is in Alertmanager", 20, || {
            alerts(port).into_iter().next().ok_or_else(|| "no alert".to_string())
        });
        let labels = serde_json::json!({
            "alertname": "TooWarm", "room": "attic", "severity": "page", "place": "attic/home", "cluster": "home",
        });
        assert_eq!(alert["labels"], labels);
        assert_eq!(alert["annotations"], serde_json::json!({"summary": "attic has 34.6 °C"}));
        let link = alert["generatorURL"].as_str().expect("a link");
        assert!(link.contains("/graph?g0.expr=room%3Atemperature%3Amax+%3E+30"), "{link}");
        assert_eq!(server.wait_rows("ALERTS{alertname=\"TooWarm\",alertstate=\"firing\"}", 1).len(), 1);

        exporter.set("temperature_celsius{room=\"attic\"} 20\n");
        eventually("the alert is resolved", 20, || {
            let left = alerts(port);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        server.wait_rows("ALERTS", 0);
    });
}
