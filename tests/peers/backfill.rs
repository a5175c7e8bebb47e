//! Tests `backfill` of a recording rule: its past is computed, even across a kill -9, and continues
//! with the live samples. Also tests `late_samples: correct`, which corrects recorded samples.

use crate::support::now_ms;
use crate::support::remote_write::{Series, write};
use crate::support::server::Server;
use crate::support::{eventually, http};
use serde_json::Value;
use std::io::BufRead;

const RULES: &str = "groups:
- name: g
  interval: 1s
  rules:
  - record: doubled
    expr: sum by (job) (written) * 2
    backfill: 2h
  - record: smooth
    expr: avg_over_time(doubled[1m])
    backfill: 2h
";

/// The times of a recorded series, seconds.
fn times(server: &Server, query: &str) -> Vec<i64> {
    let data = server.query_at(query, now_ms() + 1_000);
    let row = data["result"].as_array().expect("rows").first().expect("a series").clone();
    let points = row["values"].as_array().expect("points").clone();
    points.iter().map(|p| p[0].as_f64().expect("a time") as i64).collect()
}

fn backfills(server: &Server) -> Vec<Value> {
    let views = server.api("/api/v1/views")["views"].as_array().expect("views").clone();
    views.into_iter().map(|view| view["backfill"].clone()).filter(|b| !b.is_null()).collect()
}

#[test]
fn a_past_is_computed_once_over_a_kill() {
    let config = "global: {scrape_interval: 1h}\nrule_files: [rules.yml]\n";
    let mut server = Server::start(config, &[("rules.yml", "groups: []\n")]);
    // The last sample is in the future, so that the series does not end during the test.
    let start = now_ms() / 1_000 * 1_000 - 7_800_000;
    // Both series in one request: afterwards the head refuses samples outside its bounds.
    let samples: Vec<(i64, f64)> = (0..535).map(|i| (start + i * 15_000, i as f64)).collect();
    let series = ["a", "b"].map(|job| Series::new("written", &[("job", job)], samples.clone()));
    let answer = write(server.port, &series).expect("an answer");
    assert_eq!(answer.status / 100, 2, "{}", answer.text());
    std::fs::write(server.file("rules.yml"), RULES).expect("the rules");
    assert_eq!(server.post("/-/reload").status, 200);
    assert_eq!(backfills(&server).len(), 2);
    server.kill();
    server.run();
    eventually("both pasts are whole", 120, || {
        let all = backfills(&server);
        let done = all.len() == 2 && all.iter().all(|b| b["state"] == "done");
        done.then_some(()).ok_or_else(|| format!("{all:?}"))
    });
    for query in ["doubled{job=\"a\"}[3h]", "smooth{job=\"b\"}[3h]"] {
        let times = times(&server, query);
        assert!(times.len() > 7_000, "{query}: {} samples", times.len());
        let steps = times.windows(2).map(|w| w[1] - w[0]).filter(|step| *step != 1).collect::<Vec<_>>();
        assert!(steps.is_empty(), "{query}: gaps of {steps:?} s");
    }
    // The recorded values are those of the expressions.
    let at = now_ms() - 3_600_000;
    let wrong = server.query_at("doubled != on (job) sum by (job) (written) * 2", at);
    assert_eq!(wrong["result"].as_array().map(Vec::len), Some(0), "{wrong}");
}

const LATE: &str = "groups:
- name: g
  interval: 1s
  late_samples: correct
  rules:
  - record: total
    expr: sum(written)
";

/// A late sample changes recorded samples, and subscribers get the change.
#[test]
fn late_samples_are_corrected() {
    let config = "global: {scrape_interval: 1h}\nrule_files: [rules.yml]\n";
    let server = Server::start(config, &[("rules.yml", LATE)]);
    let send = |job: &str, t: i64, v: f64| {
        let one = Series::new("written", &[("job", job)], vec![(t, v)]);
        let answer = write(server.port, &[one]).expect("an answer");
        assert_eq!(answer.status / 100, 2, "{}", answer.text());
    };
    let begun = now_ms();
    send("a", begun, 1.0);
    server.wait_rows("count_over_time(total[1m]) > 4", 1);
    let lines = [("Accept", "application/x-ndjson")];
    let mut reader = http::stream(server.port, "/api/v1/subscribe?query=total", &lines);
    let mut next = || {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("an open stream") > 0, "the stream ended");
        line
    };
    while !next().contains("\"snapshot\"") {}
    send("b", begun, 2.0);
    let line = (0..500).map(|_| next()).find(|line| line.contains("\"correction\"")).expect("a correction");
    let line = &line[line.find('{').expect("an object")..];
    let message: Value = serde_json::from_str(line.trim()).expect("JSON");
    assert_eq!(message["correction"]["upsert"][0]["value"], "3", "{message}");
    eventually("all of it is corrected", 60, || {
        let wrong = server.query("count_over_time(total[1m]) and min_over_time(total[1m]) < 3");
        wrong.is_empty().then_some(()).ok_or_else(|| format!("{wrong:?}"))
    });
}
