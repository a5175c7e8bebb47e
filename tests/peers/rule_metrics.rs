//! Compares the self-metrics of rules with those of Debian's Prometheus for the same rule file:
//! names, labels, and values where they are comparable.

use crate::support::server::Server;
use crate::support::{eventually, now_ms, wall_clock};
use std::collections::BTreeMap;

const RULES: &str = r#"
groups:
- name: fine
  interval: 1s
  rules:
  - record: two
    expr: label_replace(vector(1), "a", "b", "", "") or vector(2)
  - alert: Always
    expr: vector(1)
- name: torn
  interval: 2s
  rules:
  - record: wrong
    expr: vector(1) + on () group_left () ({__name__=~"two"})
"#;

/// `prometheus_rule_*` by series, without buckets and quantiles.
fn metrics(server: &Server) -> BTreeMap<String, f64> {
    let text = server.get("/metrics").text();
    let lines =
        text.lines().filter(|line| line.starts_with("prometheus_rule_") && !line.contains("quantile="));
    let pair = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        (series.to_owned(), value.parse().unwrap_or_else(|e| panic!("{line}: {e}")))
    };
    lines.map(pair).collect()
}

#[test]
fn rules_are_counted_as_in_prometheus() {
    wall_clock(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("rules.yml");
        std::fs::write(&file, RULES).expect("a file");
        let config = format!("global: {{scrape_interval: 1s}}\nrule_files: ['{}']\n", file.display());
        let ours = Server::start(&config, &[]);
        let theirs = Server::prometheus(&config);
        let of = |group: &str, metric: &str| format!("{metric}{{rule_group=\"{};{group}\"}}", file.display());
        let settled = |server: &Server| {
            eventually("three slots of the slow group", 60, || {
                let found = metrics(server);
                let slots = found.get(&of("torn", "prometheus_rule_group_iterations_total")).copied();
                if slots >= Some(3.0) { Ok(found) } else { Err(format!("{found:?}")) }
            })
        };
        let ours_now = settled(&ours);
        let theirs_now = settled(&theirs);
        let names = |found: &BTreeMap<String, f64>| found.keys().cloned().collect::<Vec<_>>();
        // Prometheus 3.14 has it, Debian's is older.
        let newer =
            ["fine", "torn"].map(|group| of(group, "prometheus_rule_group_last_rule_duration_sum_seconds"));
        let mut theirs_and_newer = names(&theirs_now);
        theirs_and_newer.extend(newer);
        theirs_and_newer.sort();
        theirs_and_newer.dedup();
        assert_eq!(names(&ours_now), theirs_and_newer);
        for metric in [
            "prometheus_rule_group_rules",
            "prometheus_rule_group_interval_seconds",
            "prometheus_rule_group_last_evaluation_samples",
            "prometheus_rule_group_iterations_missed_total",
        ] {
            for group in ["fine", "torn"] {
                let key = of(group, metric);
                assert_eq!(ours_now[&key], theirs_now[&key], "{key}");
            }
        }
        for (server, found) in [("ours", &ours_now), ("theirs", &theirs_now)] {
            let value = |group: &str, metric: &str| found[&of(group, &format!("prometheus_rule_{metric}"))];
            assert_eq!(value("fine", "evaluation_failures_total"), 0.0, "{server}: {found:?}");
            let failures = value("torn", "evaluation_failures_total");
            assert!(failures >= 2.0 && failures <= value("torn", "evaluations_total"), "{server}: {found:?}");
            assert!(value("fine", "evaluations_total") >= 6.0, "{server}: {found:?}");
            assert!(value("fine", "group_last_duration_seconds") > 0.0, "{server}: {found:?}");
            let last = value("fine", "group_last_evaluation_timestamp_seconds");
            assert!((now_ms() as f64 / 1000.0 - last).abs() < 60.0, "{server}: {last}");
            for summary in
                ["prometheus_rule_evaluation_duration_seconds", "prometheus_rule_group_duration_seconds"]
            {
                let sum = found[&format!("{summary}_sum")];
                let count = found[&format!("{summary}_count")];
                assert!(sum > 0.0 && count >= 6.0 && sum / count < 10.0, "{server}: {summary}: {found:?}");
            }
        }
        // The time of a rule is the time of its steps.
        let groups = ours.api("/api/v1/rules");
        let rule = &groups["groups"][0]["rules"][0];
        assert!(rule["evaluationTime"].as_f64() > Some(0.0), "{rule}");
        assert!(rule["lastEvaluation"].as_str().is_some_and(|t| t.starts_with("20")), "{rule}");
    });
}
