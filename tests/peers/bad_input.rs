//! Tests that invalid input is refused with a precise error, and has no effect on anything else.

use crate::support::eventually;
use crate::support::exporter::Exporter;
use crate::support::http;
use crate::support::server::Server;

#[test]
fn a_bad_configuration_names_its_place() {
    let (code, output) = Server::fail("global:\n  scrape_interval: 5s\n  scrap_timeout: 1s\n", &[]);
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("prometheus.yml:3:3"), "{output}");
    assert!(output.contains("scrap_timeout"), "{output}");
}

#[test]
fn a_bad_rule_names_its_place() {
    let rules = "groups:\n- name: g\n  rules:\n  - record: x\n    expr: sum(rate(x[5m])\n";
    let (code, output) = Server::fail("rule_files: [bad.yml]\n", &[("bad.yml", rules)]);
    assert!(code.is_some_and(|c| c != 0), "{code:?} {output}");
    assert!(output.contains("bad.yml:5:"), "{output}");
    assert!(output.contains("parse error"), "{output}");
}

/// A group cannot wait for samples that the store refuses.
#[test]
fn lateness_is_within_the_window_for_samples_out_of_order() {
    let rules =
        "groups:\n- name: g\n  late_samples: correct\n  lateness: 45m\n  rules:\n  - {record: x, expr: up}\n";
    let config = |window: &str| {
        format!("rule_files: [r.yml]\nstorage: {{tsdb: {{out_of_order_time_window: {window}}}}}\n")
    };
    let (code, output) = Server::fail(&config("30m"), &[("r.yml", rules)]);
    assert_eq!(code, Some(2), "{output}");
    for part in
        ["r.yml", "group \"g\": samples may be 45m late", "more than 30m older", "out_of_order_time_window"]
    {
        assert!(output.contains(part), "{part}: {output}");
    }
    let server = Server::start(&config("45m"), &[("r.yml", rules)]);
    assert_eq!(server.api("/api/v1/rules")["groups"][0]["name"], "g");
}

#[test]
fn a_rule_that_cannot_stand_is_asked_instead() {
    let rules = "groups: [{name: g, interval: 1s, rules: [
        {record: whole, expr: 'max_over_time(vector(3)[5s:1s])'},
        {record: pinned, expr: 'vector(4) unless up @ 1'},
        {record: ahead, expr: 'count(up offset -5s) or vector(5)'},
        {alert: Asked, expr: 'count_over_time(vector(1)[5s:1s]) > 0'}]}]";
    let server = Server::start("rule_files: [r.yml]\n", &[("r.yml", rules)]);
    for (record, value) in [("whole", "3"), ("pinned", "4"), ("ahead", "5")] {
        eventually(record, 20, || match server.query(record).first() {
            Some(row) if row["value"][1] == value => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    eventually("the alert", 20, || {
        let alerts = server.api("/api/v1/alerts");
        let there = alerts["alerts"][0]["labels"]["alertname"] == "Asked";
        if there { Ok(()) } else { Err(alerts.to_string()) }
    });
}

/// As in Prometheus: without the Alertmanagers of the file no alert would leave the server.
#[test]
fn a_certificate_of_an_alertmanager_that_cannot_be_read_is_found_before_anything_is_applied() {
    let rules = "groups: [{name: g, rules: [{record: x, expr: up}]}]\n";
    let config =
        "global: {scrape_interval: 7s}\nalerting:\n  alertmanagers:\n  - tls_config: {ca_file: none.pem}\n";
    let (code, output) = Server::fail(config, &[]);
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("prometheus.yml: alerting: unable to read"), "{output}");
    let server = Server::start("rule_files: [r.yml]\n", &[("r.yml", rules)]);
    std::fs::write(server.file("prometheus.yml"), config).expect("a file");
    let answer = http::post(server.port, "/-/reload").expect("an answer");
    assert_eq!(answer.status, 500, "{}", answer.text());
    let groups = server.api("/api/v1/rules");
    assert_eq!(groups["groups"][0]["rules"][0]["name"], "x", "{groups}");
}

/// As in Prometheus: the other jobs are scraped, and the rules are evaluated.
#[test]
fn a_certificate_of_a_job_that_cannot_be_read_costs_the_targets_of_the_job() {
    let job = |name: &str, more: &str| {
        format!("- job_name: {name}\n  static_configs: [{{targets: ['127.0.0.1:1']}}]\n{more}")
    };
    let bad = job("bad", "  scheme: https\n  tls_config: {ca_file: none.pem}\n");
    let config = format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{bad}{}", job("good", ""));
    let show_reasons = |server: &Server| {
        server.wait_health(&[("bad", "down"), ("good", "down")]);
        let targets = server.api("/api/v1/targets");
        let error_of = |name: &str| {
            let all = targets["activeTargets"].as_array().expect("targets");
            let target = all.iter().find(|target| target["scrapePool"] == name).expect(name);
            target["lastError"].as_str().expect("a text").to_owned()
        };
        assert!(error_of("bad").starts_with("unable to read CA cert: unable to read file"), "{targets}");
        assert!(!error_of("good").contains("CA cert"), "{targets}");
    };
    let server = Server::start(&config, &[]);
    show_reasons(&server);
    let server = Server::start("global: {scrape_interval: 7s}\n", &[]);
    std::fs::write(server.file("prometheus.yml"), &config).expect("a file");
    let answer = http::post(server.port, "/-/reload").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    show_reasons(&server);
}

#[test]
fn a_bad_reload_keeps_the_old_configuration() {
    let server = Server::start("global: {scrape_interval: 7s}\n", &[]);
    std::fs::write(server.file("prometheus.yml"), "global: {scrape_interval: seven}\n").expect("a file");
    let answer = http::post(server.port, "/-/reload").expect("an answer");
    assert_eq!(answer.status, 500, "{}", answer.text());
    let config = server.api("/api/v1/status/config");
    assert!(config["yaml"].as_str().expect("text").contains("scrape_interval: 7s"), "{config}");
    let failed = "prometheus_config_last_reload_successful 0";
    assert!(server.get("/metrics").text().lines().any(|l| l == failed), "no line {failed}");

    std::fs::write(server.file("prometheus.yml"), "global: {scrape_interval: 8s}\n").expect("a file");
    let answer = http::post(server.port, "/-/reload").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let config = server.api("/api/v1/status/config");
    assert!(config["yaml"].as_str().expect("text").contains("scrape_interval: 8s"), "{config}");
}

#[test]
fn a_changed_file_is_loaded_by_itself() {
    let flags = ["--config.auto-reload", "--config.auto-reload-interval=1s"];
    let server = Server::start_with("rule_files: [r.yml]\n", &[("r.yml", "groups: []\n")], &flags);
    let groups = || server.api("/api/v1/rules")["groups"].as_array().expect("a list").len();
    assert_eq!(groups(), 0);
    let one = "groups: [{name: g, rules: [{record: one, expr: vector(1)}]}]\n";
    std::fs::write(server.file("r.yml"), one).expect("a file");
    eventually("the rule stands", 20, || if groups() == 1 { Ok(()) } else { Err("not yet".to_owned()) });
    std::fs::write(server.file("r.yml"), "groups: [{nam: g}]\n").expect("a file");
    let failed = "prometheus_config_last_reload_successful 0";
    eventually("the fault is seen", 20, || {
        let metrics = server.get("/metrics").text();
        if metrics.lines().any(|l| l == failed) { Ok(()) } else { Err("no such line".to_owned()) }
    });
    assert_eq!(groups(), 1, "the old rules stay");
}

#[test]
fn who_expects_passwords_gets_no_open_server() {
    let server = Server::start("", &[("web.yml", "basic_auth_users: {admin: x}\n"), ("empty.yml", "{}\n")]);
    let web_file = |name: &str| format!("--web.config.file={}", server.file(name).display());
    let (code, output) = server.fail_beside(&[&web_file("web.yml")]);
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("web.yml") && output.contains("basic_auth_users"), "{output}");
    // An empty file is the same as none: this server fails later, at the lock of the data
    // directory.
    let (code, output) = server.fail_beside(&[&web_file("empty.yml")]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("is in use by another server (process "), "{output}");
}

#[test]
fn a_garbage_exporter_harms_only_itself() {
    let good = Exporter::start("fine 1\n");
    let bad = Exporter::start("first 1\nthis is not { a metric\n");
    let job =
        |name, port| format!("- job_name: {name}\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n{}{}",
        job("good", good.port),
        job("bad", bad.port)
    );
    let server = Server::start(&config, &[]);
    server.wait_health(&[("good", "up"), ("bad", "down")]);
    let error = server.targets().into_iter().find(|t| t.0 == "bad").expect("the target").2;
    assert!(!error.is_empty(), "a target that is down says why");
    server.wait_rows("fine", 1);
    server.wait_rows("up{job=\"bad\"} == 0", 1);
    server.wait_rows("first", 0);
    bad.set("first 2\n");
    server.wait_health(&[("good", "up"), ("bad", "up")]);
    server.wait_rows("first == 2", 1);
}

#[test]
fn a_target_that_vanishes_is_stale_at_once() {
    let exporter = Exporter::start("present 1\nabsent_soon 1\n");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: x\n  \
         static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter.port
    );
    let server = Server::start(&config, &[]);
    server.wait_rows("absent_soon", 1);
    exporter.set("present 1\n");
    server.wait_rows("absent_soon", 0);
    server.wait_rows("present", 1);
    exporter.set("not a metric at all {{{\n");
    server.wait_rows("present", 0);
}

#[test]
fn a_bad_query_names_its_place() {
    let server = Server::start("", &[]);
    for (query, place) in
        [("sum(", "1:5: parse error"), ("foo bar", "1:5: parse error"), ("rate(foo)", "1:6: parse error")]
    {
        let answer = server.get(&format!("/api/v1/query?query={}", http::encode(query)));
        let json = answer.json();
        assert_eq!(answer.status, 400, "{query}: {json}");
        assert_eq!((&json["status"], &json["errorType"]), (&"error".into(), &"bad_data".into()), "{json}");
        assert!(json["error"].as_str().expect("text").contains(place), "{query}: {json}");
    }
    let too_many = server.get("/api/v1/query_range?query=up&start=0&end=100000&step=1");
    assert_eq!(too_many.status, 400, "{}", too_many.text());
    let missing = server.get("/api/v1/nothing");
    assert_eq!(missing.status, 404, "{}", missing.text());
}

#[test]
fn a_bad_remote_write_is_refused() {
    let server = Server::start("", &[]);
    let head = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    for body in [&b"not snappy"[..], b"\x05\x10hello", b"\xff\xff\xff\xff\x0f\x00"] {
        let answer = http::send(server.port, "POST", "/api/v1/write", &head, body).expect("an answer");
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
    }
    eventually("still ready", 5, || match server.get("/-/ready").status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
}
