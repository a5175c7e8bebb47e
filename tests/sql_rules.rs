//! Rules in SQL in a server that runs: their alerts are alerts like all others, also after kill -9.

#[allow(dead_code, reason = "shared with other tests")]
mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use support::exporter::Exporter;
use support::server::Server;

const CONFIG: &str = "\
global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: a
    static_configs: [{targets: ['{target}']}]
";
const RULES: &str = "\
groups:
  - name: g
    rules:
      - alert: Low
        sql: |
          SELECT a AS which, value FROM x WHERE value < 1
        for: 1s
        labels: {severity: page}
        annotations: {text: '{{ $labels.which }} has {{ $value }}'}
      - alert: LowInPromql
        expr: x < 1
      - alert: Several
        sql: SELECT job, count(DISTINCT a) AS n FROM x GROUP BY job HAVING count(DISTINCT a) > 1
      - record: job:x:sum
        sql: SELECT job, sum(value) FROM x GROUP BY job
";

/// The active alerts, by name.
fn alerts(server: &Server) -> BTreeMap<String, Value> {
    let alerts = server.api("/api/v1/alerts")["alerts"].as_array().expect("a list").clone();
    let name = |alert: &Value| alert["labels"]["alertname"].as_str().expect("a name").to_owned();
    alerts.into_iter().map(|alert| (name(&alert), alert)).collect()
}

/// Waits until these alerts fire.
fn firing(server: &Server, names: &[&str]) -> BTreeMap<String, Value> {
    support::eventually("the alerts fire", 60, || {
        let found = alerts(server);
        let fires = |name: &&str| found.get(*name).is_some_and(|alert| alert["state"] == "firing");
        if names.iter().all(fires) { Ok(found.clone()) } else { Err(format!("{found:?}")) }
    })
}

#[test]
fn alerts_in_sql_are_alerts_and_survive_a_kill() {
    let exporter = Exporter::start("x{a=\"1\"} 0\nx{a=\"2\"} 5\n");
    let config = CONFIG.replace("{target}", &format!("127.0.0.1:{}", exporter.port));
    let mut server = Server::start_with(&config, &[("rules.yml", RULES)], &["--rules.enable-sql"]);
    let names = ["Low", "LowInPromql", "Several"];
    let before = firing(&server, &names);
    // The labels are the columns of the statement, also in templates.
    let low = &before["Low"];
    let expected = serde_json::json!({ "alertname": "Low", "severity": "page", "which": "1" });
    assert_eq!((&low["labels"], &low["annotations"]["text"]), (&expected, &Value::from("1 has 0")), "{low}");
    assert_eq!(before["Several"]["labels"], serde_json::json!({ "alertname": "Several", "job": "a" }));
    assert_eq!(before["Several"]["value"], "2e+00");
    server.wait_rows("ALERTS{alertname='Low',alertstate='firing',which='1'}", 1);
    server.wait_rows("ALERTS{alertname='Several',alertstate='firing'}", 1);
    let recorded = server.wait_rows("job:x:sum{job='a'}", 1);
    assert_eq!(recorded[0]["value"][1], "5");
    // The plan of the statement shares all steps with the rule in PromQL.
    let views = server.api("/api/v1/views")["views"].as_array().expect("views").clone();
    for name in ["Low", "LowInPromql"] {
        let view = views.iter().find(|view| view["name"] == name).expect("a view");
        let steps = &view["localSteps"];
        assert!(steps["total"] == steps["shared"] && steps["total"] != 0, "{view}");
    }
    let rules = server.api("/api/v1/rules")["groups"][0]["rules"].clone();
    assert_eq!(rules[0]["query"], "SELECT a AS which, value FROM x WHERE value < 1");
    assert!(rules.as_array().expect("rules").iter().all(|rule| rule["health"] == "ok"), "{rules}");

    server.kill();
    server.run();
    let after = firing(&server, &names);
    for name in names {
        assert_eq!(before[name]["activeAt"], after[name]["activeAt"], "{name} goes on");
    }
}

#[test]
fn rules_in_sql_need_the_flag_and_errors_have_their_place() {
    let refused = |rules: &str, parts: &[&str]| {
        let (code, output) =
            Server::fail(&CONFIG.replace("{target}", "127.0.0.1:1"), &[("rules.yml", rules)]);
        assert_eq!(code, Some(2), "{output}");
        for part in parts {
            assert!(output.contains(part), "{part} is not in {output}");
        }
    };
    refused(RULES, &["rules.yml", "rules in SQL need --rules.enable-sql"]);
    let both = "groups: [{name: g, rules: [{alert: A, expr: up, sql: SELECT 1}]}]\n";
    refused(both, &["only one of 'expr' and 'sql' must be set"]);
}
