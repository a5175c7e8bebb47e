//! Tests standing statements of the dataflow class in a running server: in rules, alerts and views,
//! also when an uploaded table changes.
#![cfg(feature = "sql")]

#[path = "support/quick_config.rs"]
mod quick_config;
#[allow(dead_code, reason = "shared with other tests")]
mod support;

use serde_json::{Value, json};
use support::exporter::Exporter;
use support::http;
use support::server::Server;

/// Over lists of the server only.
const RULES: &str = "\
groups:
  - name: g
    rules:
      - alert: ManyLabels
        sql: SELECT metric, count(DISTINCT value) AS n FROM label_pairs WHERE name = 'a' GROUP BY metric HAVING count(DISTINCT value) > 1
        labels: {severity: page}
        annotations: {text: '{{ $labels.metric }} has {{ $value }} values of a'}
";
const CALLS: &str = "SELECT a.alertname AS about, o.owner FROM alerts a JOIN owners o USING (job)";

fn server(exporter: &Exporter) -> Server {
    let config = quick_config::config(exporter.port);
    let flags = ["--rules.enable-sql", "--web.enable-admin-api"];
    Server::start_with(&config, &[("rules.yml", RULES)], &flags)
}

/// The rows of a statement.
fn rows(server: &Server, text: &str) -> Value {
    let head = [("content-type", "application/sql")];
    let answer = http::send(server.port, "POST", "/api/v1/sql", &head, text.as_bytes()).expect("an answer");
    let json = answer.json();
    assert_eq!(answer.status, 200, "{text}: {json}");
    json["data"]["rows"].clone()
}

fn put_owners(server: &Server, csv: &str) {
    let head = [("content-type", "text/csv")];
    let answer =
        http::send(server.port, "PUT", "/api/v1/tables/owners", &head, csv.as_bytes()).expect("an answer");
    assert!(answer.status < 300, "{}", answer.text());
}

/// How a statement stands.
fn class(server: &Server, text: &str) -> String {
    let lines = rows(server, &format!("EXPLAIN {text}"));
    let lines = lines.as_array().expect("rows").iter().filter_map(|row| row[0].as_str());
    lines.filter(|line| line.starts_with("stands: ")).collect::<Vec<_>>().join("\n")
}

fn eventually_firing(server: &Server, name: &str) -> Value {
    support::eventually(&format!("{name} fires"), 60, || {
        let alerts = server.api("/api/v1/alerts")["alerts"].clone();
        let is_it = |alert: &&Value| alert["labels"]["alertname"] == name && alert["state"] == "firing";
        let found = alerts.as_array().and_then(|alerts| alerts.iter().find(is_it).cloned());
        found.ok_or_else(|| alerts.to_string())
    })
}

/// The result of a saved statement, until it is this.
fn eventually_result(server: &Server, name: &str, wanted: &Value) {
    support::eventually(&format!("{name} has {wanted}"), 60, || {
        let answer = server.get(&format!("/api/v1/views/{name}/result"));
        let json = answer.json();
        if json["data"]["rows"] == *wanted { Ok(()) } else { Err(json.to_string()) }
    });
}

#[test]
fn rules_alerts_and_views_use_dataflows() {
    let exporter = Exporter::start("x{a=\"1\"} 0\nx{a=\"2\"} 5\n");
    let server = server(&exporter);
    let rule = "SELECT metric, count(DISTINCT value) AS n FROM label_pairs WHERE name = 'a' GROUP BY metric";
    let up = "SELECT job, instance FROM targets WHERE health = 'up'";
    let by_job = "SELECT job, count(*) AS n FROM targets GROUP BY job";
    for text in [rule, up, by_job] {
        assert_eq!(class(&server, text), "stands: as a dataflow", "{text}");
    }
    // A rule of a file.
    let alert = eventually_firing(&server, "ManyLabels");
    let labels = json!({ "alertname": "ManyLabels", "metric": "x", "severity": "page" });
    assert_eq!(alert["labels"], labels);
    assert_eq!(alert["annotations"]["text"], "x has 2 values of a");
    server.wait_rows("ALERTS{alertname='ManyLabels',alertstate='firing',metric='x'}", 1);
    // CREATE ALERT.
    rows(&server, &format!("CREATE ALERT TargetUp FOR '1s' LABELS (severity = 'info') AS {up}"));
    let alert = eventually_firing(&server, "TargetUp");
    let instance = format!("127.0.0.1:{}", exporter.port);
    let labels = json!({ "alertname": "TargetUp", "job": "a", "instance": instance, "severity": "info" });
    assert_eq!(alert["labels"], labels);
    // CREATE MATERIALIZED VIEW, read and recorded.
    rows(&server, &format!("CREATE MATERIALIZED VIEW by_job AS {by_job}"));
    eventually_result(&server, "by_job", &json!([["a", 1]]));
    rows(
        &server,
        &format!(
            "CREATE MATERIALIZED VIEW counts WITH (record = 'job:targets:count', interval = '1s') AS {by_job}"
        ),
    );
    assert_eq!(server.wait_rows("job:targets:count{job='a'}", 1)[0]["value"][1], "1");
    // What is no longer so: the alert ends when the target fails.
    exporter.set("this is no metric {");
    support::eventually("TargetUp ends", 60, || {
        let alerts = server.api("/api/v1/alerts").to_string();
        if alerts.contains("TargetUp") { Err(alerts) } else { Ok(()) }
    });
}

/// A rule of a file reads a table, which may come later, and is there after kill -9.
#[test]
fn a_rule_of_a_file_reads_a_table() {
    let exporter = Exporter::start("x{a=\"1\"} 0\nx{a=\"2\"} 5\n");
    let rules = "groups: [{name: g, rules: [{alert: Owned, \
        sql: \"SELECT x.a, o.owner, x.value FROM x JOIN public.owners o USING (job) WHERE x.value > 1\"}]}]\n";
    let config = quick_config::config(exporter.port);
    let flags = ["--rules.enable-sql", "--web.enable-admin-api"];
    let mut server = Server::start_with(&config, &[("rules.yml", rules)], &flags);
    support::eventually("the rule misses its table", 60, || {
        let rule = server.api("/api/v1/rules")["groups"][0]["rules"][0].clone();
        let error = rule["lastError"].as_str().unwrap_or_default();
        if error.contains("owners") { Ok(()) } else { Err(rule.to_string()) }
    });
    put_owners(&server, "job,owner\na,ann\n");
    let labels = json!({ "alertname": "Owned", "a": "2", "owner": "ann" });
    assert_eq!(eventually_firing(&server, "Owned")["labels"], labels);
    server.kill();
    server.run();
    assert_eq!(eventually_firing(&server, "Owned")["labels"], labels);
    rows(&server, "UPDATE owners SET owner = 'eve'");
    support::eventually("another owner", 60, || {
        let alert = eventually_firing(&server, "Owned");
        if alert["labels"]["owner"] == "eve" { Ok(()) } else { Err(alert.to_string()) }
    });
}

#[test]
fn alerts_are_joined_with_their_owners() {
    let exporter = Exporter::start("x{a=\"1\"} 0\nx{a=\"2\"} 5\n");
    let server = server(&exporter);
    put_owners(&server, "job,owner\na,ann\nb,bob\n");
    assert_eq!(class(&server, CALLS), "stands: as a dataflow");
    rows(&server, "CREATE ALERT TargetUp AS SELECT job, instance FROM targets WHERE health = 'up'");
    rows(&server, &format!("CREATE MATERIALIZED VIEW calls AS {CALLS}"));
    // An alert with the owner as a label, as docs/sql.md has it.
    let page = include_str!("../docs/sql.md");
    let block = page.split("```tables\n").nth(1).and_then(|rest| rest.split(";\n").next()).expect("a block");
    rows(&server, block);
    let owner_of_call = |server: &Server, owner: &str| {
        support::eventually(&format!("{owner} is called"), 60, || {
            let call = eventually_firing(server, "Call");
            if call["labels"]["owner"] == owner { Ok(()) } else { Err(call.to_string()) }
        });
    };
    eventually_firing(&server, "TargetUp");
    eventually_result(&server, "calls", &json!([["TargetUp", "ann"]]));
    owner_of_call(&server, "ann");
    // Another version of the table.
    put_owners(&server, "job,owner\na,eve\n");
    eventually_result(&server, "calls", &json!([["TargetUp", "eve"]]));
    owner_of_call(&server, "eve");
    // Without it the statement says so; the metric of that name is not meant.
    rows(&server, "DROP TABLE owners");
    support::eventually("the view misses its table", 60, || {
        let text = server.get("/api/v1/views/calls/result").text();
        if text.contains("owners is gone") { Ok(()) } else { Err(text) }
    });
}
