//! Tests the path from a sample to the real Alertmanager: the alert fires with all labels and
//! annotations, and is resolved. Also tests rules that record the states of alerts.

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

/// The same with an alert that a statement defines, over an uploaded table.
#[cfg(feature = "sql")]
#[test]
fn an_alert_in_sql_reaches_alertmanager_and_is_resolved() {
    wall_clock(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let (_daemon, port) = alertmanager(directory.path());
        let exporter = Exporter::start("temperature_celsius{room=\"attic\"} 21\n");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s, external_labels: {{cluster: home}}}}\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]}}\n\
         scrape_configs:\n- job_name: rooms\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            exporter.port
        );
        let server = Server::start_with(&config, &[], &["--web.enable-admin-api"]);
        let head = [("content-type", "application/sql")];
        for statement in [
            "CREATE TABLE rooms (room text PRIMARY KEY, most float8, owner text)",
            "INSERT INTO rooms VALUES ('attic', 30, 'ana')",
            "CREATE ALERT TooWarm LABELS (severity = 'page', place = '{{ $labels.room }}/{{ $externalLabels.cluster }}') \
             ANNOTATIONS (summary = '{{ $labels.room }} has {{ $value | printf \"%.1f\" }} °C, call {{ $labels.owner }}') \
             AS SELECT t.room, r.owner, t.value FROM temperature_celsius t JOIN rooms r USING (room) WHERE t.value > r.most",
        ] {
            let answer = http::send(server.port, "POST", "/api/v1/sql", &head, statement.as_bytes());
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, 200, "{statement}: {}", answer.text());
        }
        server.wait_rows("temperature_celsius == 21", 1);
        assert_eq!(alerts(port), Vec::<Value>::new(), "nothing is too warm yet");

        exporter.set("temperature_celsius{room=\"attic\"} 34.56\n");
        let alert = eventually("the alert is in Alertmanager", 20, || {
            alerts(port).into_iter().next().ok_or_else(|| "no alert".to_string())
        });
        let labels = serde_json::json!({
            "alertname": "TooWarm", "room": "attic", "owner": "ana", "severity": "page", "place": "attic/home",
            "cluster": "home",
        });
        assert_eq!(alert["labels"], labels);
        assert_eq!(alert["annotations"], serde_json::json!({"summary": "attic has 34.6 °C, call ana"}));
        assert_eq!(server.wait_rows("ALERTS{alertname=\"TooWarm\",alertstate=\"firing\"}", 1).len(), 1);

        exporter.set("temperature_celsius{room=\"attic\"} 20\n");
        eventually("the alert is resolved", 20, || {
            let left = alerts(port);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    });
}

const STATES: &str = r#"
groups:
- name: states
  interval: 1s
  EVALUATION
  rules:
  - alert: TooWarm
    expr: temperature_celsius > 30
    for: 2s
  - record: firing
    expr: count(ALERTS{alertstate="firing"}) or vector(0)
"#;

/// `firing` at each of its slots is the value of `ALERTS` in that slot, not in the one before.
#[test]
fn a_rule_records_the_states_of_its_own_slot() {
    wall_clock(|| {
        let exporter = Exporter::start("temperature_celsius{room=\"attic\"} 21\n");
        let config = format!(
            "global: {{scrape_interval: 500ms, evaluation_interval: 1s}}\nrule_files: [states.yml]\n\
             scrape_configs:\n- job_name: rooms\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            exporter.port
        );
        for evaluation in ["", "evaluation: interval"] {
            exporter.set("temperature_celsius{room=\"attic\"} 21\n");
            let server = Server::start(&config, &[("states.yml", &STATES.replace("EVALUATION", evaluation))]);
            server.wait_rows("firing == 0", 1);
            exporter.set("temperature_celsius{room=\"attic\"} 35\n");
            server.wait_rows("firing == 1", 1);
            exporter.set("temperature_celsius{room=\"attic\"} 20\n");
            server.wait_rows("firing == 0", 1);
            let recorded = server.query("timestamp(firing)");
            let until = recorded[0]["value"][1].as_str().expect("a time").parse::<f64>().expect("a number");
            let until = (until * 1000.0) as i64;
            let ask = |query: &str| server.query_range(query, until - 8_000, until, 1_000)["result"].clone();
            let (recorded, asked) =
                (ask("firing"), ask("(count(ALERTS{alertstate=\"firing\"}) or vector(0)) and on () firing"));
            assert_eq!(recorded[0]["values"], asked[0]["values"], "{evaluation}");
            assert!(recorded[0]["values"].as_array().is_some_and(|values| values.len() > 4), "{recorded}");
        }
    });
}
