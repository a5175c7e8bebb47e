//! Tests rules in SQL, and alerts and views defined by statements, in a running server: they act
//! like those in PromQL, also after kill -9.
#![cfg(feature = "sql")]

#[path = "support/quick_config.rs"]
mod quick_config;
#[allow(dead_code, reason = "shared with other tests")]
mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use support::exporter::Exporter;
use support::http;
use support::server::{Server, binary_under_test};

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
    let config = quick_config::config(exporter.port);
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
        let (code, output) = Server::fail(&quick_config::config(1), &[("rules.yml", rules)]);
        assert_eq!(code, Some(2), "{output}");
        for part in parts {
            assert!(output.contains(part), "{part} is not in {output}");
        }
    };
    refused(RULES, &["rules.yml", "rules in SQL need --rules.enable-sql"]);
    let both = "groups: [{name: g, rules: [{alert: A, expr: up, sql: SELECT 1}]}]\n";
    refused(both, &["only one of 'expr' and 'sql' must be set"]);
}

/// Sends a statement; the status and the body.
fn statement(server: &Server, text: &str) -> (u16, Value) {
    let head = [("content-type", "application/sql")];
    let answer = http::send(server.port, "POST", "/api/v1/sql", &head, text.as_bytes()).expect("an answer");
    (answer.status, answer.json())
}

/// As [`statement`], for one that is answered.
fn done(server: &Server, text: &str) -> Value {
    let (status, json) = statement(server, text);
    assert_eq!(status, 200, "{text}: {json}");
    json["data"].clone()
}

#[test]
fn defined_alerts_and_views_stand_and_survive_a_kill() {
    let exporter = Exporter::start("x{a=\"1\"} 0\nx{a=\"2\"} 5\n");
    let config = quick_config::config(exporter.port);
    let mut server =
        Server::start_with(&config, &[("rules.yml", "groups: []\n")], &["--web.enable-admin-api"]);
    let low = "CREATE ALERT Low FOR '1s' LABELS (severity = 'page') AS SELECT a AS which, value FROM x WHERE value < 1";
    done(&server, low);
    done(&server, "CREATE ALERT Several AS SELECT job, count(DISTINCT a) AS n FROM x GROUP BY job");
    done(
        &server,
        "CREATE MATERIALIZED VIEW sums WITH (record = 'job:x:sum', interval = '1s') AS SELECT job, sum(value) FROM x GROUP BY job",
    );
    done(&server, "CREATE MATERIALIZED VIEW letters AS SELECT upper(a) AS letter, value FROM x");
    let before = firing(&server, &["Low", "Several"]);
    assert_eq!(before["Low"]["labels"]["which"], "1");
    server.wait_rows("ALERTS{alertname='Several',alertstate='firing',job='a'}", 1);
    assert_eq!(server.wait_rows("job:x:sum", 1)[0]["value"][1], "5");
    let letters = server.api("/api/v1/views/letters/result");
    assert_eq!(letters["rows"], serde_json::json!([["1", 0], ["2", 5]]), "{letters}");

    // What is refused changes nothing.
    for (text, status, part) in [
        (low, 409, "CREATE OR REPLACE"),
        ("CREATE ALERT Bad AS SELECT rat(value, '5m') FROM x", 400, "there is no function rat()"),
        ("CREATE ALERT Bad AS SELECT count(*) FROM x", 400, "HAVING count(*) > 0"),
        ("CREATE ALERT Bad ANNOTATIONS (a = '{{ $labels') AS SELECT a, value FROM x", 400, "bad template"),
        ("DROP ALERT Bad", 404, "there is no alert"),
        ("CREATE MATERIALIZED VIEW bad AS SELECT * FROM x WHERE", 400, "Expected"),
        ("CREATE INDEX i ON t (a)", 400, "CREATE is not a statement that is answered here"),
        ("COPY x FROM STDIN", 400, "use the PostgreSQL wire"),
    ] {
        let (code, json) = statement(&server, text);
        let error = json["error"].as_str().unwrap_or_default();
        assert!(code == status && error.contains(part), "{text}: {code} {json}");
    }
    let names = |data: &Value| -> Vec<Value> {
        data["rows"].as_array().expect("rows").iter().map(|row| row[0].clone()).collect()
    };
    assert_eq!(names(&done(&server, "SHOW ALERTS")), ["Low", "Several"]);
    assert_eq!(names(&done(&server, "SHOW VIEWS")), ["letters", "sums"]);

    server.kill();
    server.run();
    let after = firing(&server, &["Low", "Several"]);
    for name in ["Low", "Several"] {
        assert_eq!(before[name]["activeAt"], after[name]["activeAt"], "{name} goes on");
    }
    assert_eq!(names(&done(&server, "SHOW VIEWS")), ["letters", "sums"]);
    // A reload of the configuration keeps them.
    assert_eq!(server.post("/-/reload").status, 200);
    assert_eq!(alerts(&server).len(), 2);
    done(&server, "DROP ALERT Low");
    done(&server, "DROP VIEW letters");
    done(&server, "DROP VIEW IF EXISTS letters");
    assert_eq!(alerts(&server).into_keys().collect::<Vec<_>>(), ["Several"]);
    assert_eq!(server.get("/api/v1/views/letters").status, 404);
}

/// The statements of docs/sql.md run.
#[test]
fn the_statements_of_the_page_run() {
    let exporter = Exporter::start("node_load1 2\n");
    let config = quick_config::config(exporter.port);
    let page = include_str!("../docs/sql.md");
    let block =
        |fence: &str| page.split(fence).nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let rules = block("```yaml\n");
    let flags = ["--rules.enable-sql", "--web.enable-admin-api"];
    let server = Server::start_with(&config, &[("rules.yml", rules)], &flags);
    // One of them is about it.
    server.wait_rows("up", 1);
    let statements: Vec<&str> = block("```statements\n").split(";\n").collect();
    assert!(statements.len() >= 9, "{statements:?}");
    for text in statements {
        done(&server, text);
    }
    let groups = server.api("/api/v1/rules")["groups"].clone();
    let names: Vec<&str> =
        groups.as_array().expect("groups").iter().filter_map(|group| group["name"].as_str()).collect();
    assert_eq!(names, ["hosts", "sql"], "{groups}");
    // The example of views: a statement a line.
    let example = page.lines().skip_while(|line| !line.starts_with("    CREATE VIEW"));
    let example: Vec<&str> = example.take_while(|line| line.starts_with("    ")).collect();
    assert_eq!(example.len(), 2, "{example:?}");
    done(&server, "CREATE TABLE owners (job text, owner text)");
    for text in example {
        done(&server, text);
    }
}

/// Definitions need the admin API; queries and lists do not.
#[test]
fn statements_that_change_need_the_admin_api() {
    let server = Server::start(&quick_config::config(1), &[("rules.yml", "groups: []\n")]);
    let (status, json) = statement(&server, "CREATE ALERT A AS SELECT a, value FROM x");
    let error = json["error"].as_str().unwrap_or_default();
    // The status of a disabled admin API, as for saved queries.
    assert!(status == 500 && error.contains("--web.enable-admin-api"), "{status} {json}");
    assert_eq!(done(&server, "SHOW ALERTS")["rows"], serde_json::json!([]));
}

/// The example joins alerts with a table of owners, in one command: a target fails after a while.
#[test]
fn the_example_shows_whose_alerts_fire() {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/alerts_with_owners.py");
    let mut command = std::process::Command::new(support::daemon::python());
    command.arg(script).arg("--perennial").arg(binary_under_test());
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("python");
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut lines = out.lines().map_while(Result::ok);
    let fired = lines.find(|line| line.starts_with("TargetDown | web | firing"));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .expect("it runs");
    child.wait().expect("it ended");
    assert_eq!(fired.as_deref(), Some("TargetDown | web | firing | bo    | #web"));
}

/// `perennial sql` follows a statement.
#[test]
fn a_statement_is_followed_in_the_terminal() {
    let exporter = Exporter::start("x{a=\"1\"} 7\n");
    let config = quick_config::config(exporter.port);
    let server = Server::start(&config, &[("rules.yml", "groups: []\n")]);
    server.wait_rows("x", 1);
    let mut command = std::process::Command::new(binary_under_test());
    command.args([
        "sql",
        &format!("--url=http://127.0.0.1:{}", server.port),
        "SELECT a, value FROM x \\watch",
    ]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("the program runs");
    let out = child.stdout.take().expect("a pipe");
    let lines: Vec<String> = BufReader::new(out).lines().take(5).map_while(Result::ok).collect();
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    assert_eq!(lines[1..], ["a | value", "--+------", "1 |     7", "(1 row)"], "{lines:?}");
}

/// `perennial sql` at a terminal: tables, completion, CSV, `\watch` until Ctrl-C, errors, and the
/// history in the next session.
#[test]
fn statements_are_typed_at_a_terminal() {
    let exporter = Exporter::start("x{a=\"1\"} 0\nx{a=\"2\"} 5\n");
    let config = quick_config::config(exporter.port);
    let server = Server::start(&config, &[("rules.yml", "groups: []\n")]);
    server.wait_rows("x", 2);
    let home = tempfile::tempdir().expect("a directory");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sql_terminal.py");
    let mut command = std::process::Command::new(support::daemon::python());
    command.arg(script).arg(binary_under_test()).arg(format!("http://127.0.0.1:{}", server.port));
    // The example of docs/sql.md is typed as it stands there.
    let example = include_str!("../docs/sql.md").lines().skip_while(|line| *line != "    $ perennial sql");
    let example: Vec<&str> = example.skip(1).take_while(|line| !line.is_empty()).map(str::trim).collect();
    let typed = example.iter().filter_map(|line| line.strip_prefix("sql> ").or(line.strip_prefix("...> ")));
    let output = command.arg(home.path()).args(typed).output().expect("python");
    let greeting = example[0].replace("localhost:9090", &format!("127.0.0.1:{}", server.port));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let want = serde_json::json!({
        "table": ["a | value", "--+------", "1 |     0", "2 |     5", "(2 rows)"],
        "fits": true,
        "metric": "sql> SELECT * FROM scrape_duration_seconds",
        "label": "sql> SELECT value FROM x WHERE instance",
        "csv": ["a,value", "1,0", "2,5"],
        "watch": ["a", "-", "2", "(1 row)"],
        "given up": true,
        "error": [
            "line 1, column 8: there is no function rat()",
            "SELECT rat(value) FROM x",
            "       ^",
            "hint: did you mean \"at\" or \"irate\" or \"rate\"?",
        ],
        "statement": "(0 rows)",
        "greeting": greeting,
        "end": 0,
        "history": "sql> SELECT rat(value) FROM x;",
        "quit": 0,
    });
    assert_eq!(found, want);
}
