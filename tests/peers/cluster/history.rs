//! Tests history in a cluster of two: queries, names and the past of rules are the same at any
//! process.

use super::{by_time, start};
use crate::support::compare::difference;
use crate::support::remote_write::{Series, write};
use crate::support::server::Server;
use crate::support::{eventually, http, now_ms, wall_clock};
use serde_json::Value;

/// Queries of history, for any process.
const HISTORY: &[&str] = &[
    "w_gauge",
    "sum by (zone) (rate(w_total[20s]))",
    "w_gauge / on (zone) group_left sum by (zone) (w_gauge)",
    "max_over_time(sum(w_gauge)[10s:1s])",
    "w_gauge > scalar(avg(w_gauge))",
    "histogram_quantile(0.9, sum by (le) (rate(w_bucket[20s])))",
    "rate(w_gauge[20s])",
    "w_gauge + on (zone) w_total",
];

/// Requests for names and series, for any process.
const CATALOGUE: &[&str] = &[
    "labels?match[]=%7Bjob%3D%22w%22%7D",
    "label/instance/values?match[]=w_gauge",
    "label/__name__/values?match[]=%7Bjob%3D%22w%22%7D",
    "series?match[]=w_gauge&match[]=w_level",
];

/// Checks that all of `servers` return the same history as the first one.
pub fn is_one(servers: &[&Server], begin: i64, end: i64) {
    for query in HISTORY {
        let query = http::encode(query);
        let begin = begin / 1_000;
        let end = end / 1_000;
        let range = format!("query_range?query={query}&start={begin}&end={end}&step=2");
        for path in [range, format!("query?query={query}&time={end}")] {
            let answers = servers.iter().map(|server| server.get(&format!("/api/v1/{path}")).json());
            let answers: Vec<Value> = answers.collect();
            for answer in &answers[1..] {
                for part in ["status", "errorType", "warnings", "infos"] {
                    assert_eq!(answer[part], answers[0][part], "{path}: {answer}");
                }
                if answer["status"] == "success" {
                    let different = difference(&answer["data"], &answers[0]["data"]);
                    assert_eq!(different, None, "{path}");
                }
            }
        }
    }
    for path in CATALOGUE {
        let answers: Vec<Value> =
            servers.iter().map(|server| server.get(&format!("/api/v1/{path}")).json()).collect();
        assert!(answers[0]["data"].as_array().is_some_and(|list| list.len() > 2), "{path}: {}", answers[0]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{path}: {answers:?}");
    }
    let federated = |server: &&Server| server.get("/federate?match[]=w_gauge").text();
    let pages: Vec<String> = servers.iter().map(federated).collect();
    assert!(pages.iter().all(|page| page.lines().count() == pages[0].lines().count()), "{pages:?}");
}

const BACKFILL: &str = "groups:\n- name: g\n  interval: 5s\n  rules:\n  - record: r:past\n    \
    expr: sum(written)\n    backfill: 30m\n";

/// The past of a rule is computed from the series of all processes.
#[test]
fn a_past_is_that_of_all_processes() {
    wall_clock(|| {
        let config = "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n";
        let servers = start(config, &[("rules.yml", "groups: []\n")], 1);
        let now = now_ms() / 5_000 * 5_000;
        for (n, server) in servers.iter().enumerate() {
            let samples = (0..120).map(|i| (now - 1_800_000 + i * 15_000, n as f64 + 1.0)).collect();
            let series = Series::new("written", &[("n", &n.to_string())], samples);
            assert_eq!(write(server.port, &[series]).expect("an answer").status / 100, 2);
        }
        for server in &servers {
            std::fs::write(server.file("rules.yml"), BACKFILL).expect("the rules");
            assert_eq!(server.post("/-/reload").status, 200);
        }
        eventually("the past is whole", 60, || {
            let views = servers[0].api("/api/v1/views");
            let state = views["views"][0]["backfill"]["state"].clone();
            if state == "done" { Ok(()) } else { Err(views.to_string()) }
        });
        let past = by_time(&servers[1], "r:past[29m]", now);
        assert!(past.len() > 300, "{} slots", past.len());
        let wrong: Vec<_> = past.iter().filter(|(_, rows)| rows.values().any(|v| v != "3")).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    });
}
