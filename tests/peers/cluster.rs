//! Tests two processes as one server: rules have the results of a single process, targets are
//! divided, and the loss of one process is handled. Queries of history are in [`history`].

mod history;

use crate::support::daemon::free_port;
use crate::support::exporter::Exporter;
use crate::support::remote_write::{Series, write};
use crate::support::server::Server;
use crate::support::{eventually, http, now_ms, wall_clock};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The flags of two processes with this many workers each.
fn flags(workers: usize) -> Vec<Vec<String>> {
    let addresses = format!("127.0.0.1:{},127.0.0.1:{}", free_port(), free_port());
    let flags = |process: usize| {
        vec![
            format!("--cluster.addresses={addresses}"),
            format!("--cluster.process={process}"),
            format!("--live.workers={workers}"),
            "--cluster.join-timeout=1m".to_owned(),
        ]
    };
    (0..2).map(flags).collect()
}

fn start(config: &str, files: &[(&str, &str)], workers: usize) -> Vec<Server> {
    let mut servers = Server::prepare_together(config, files, &flags(workers));
    Server::run_together(&mut servers);
    servers
}

/// The names and expressions of recording rules, over series of both processes.
const RULES: &[(&str, &str)] = &[
    ("r:sum", "sum(w_gauge)"),
    ("r:rate", "sum by (zone) (rate(w_total[20s]))"),
    ("r:each", "rate(w_total[20s])"),
    ("r:avg", "avg without (instance) (w_gauge)"),
    ("r:extremes", "max by (zone) (w_gauge) - min by (zone) (w_gauge)"),
    ("r:stddev", "stddev(w_gauge)"),
    ("r:quantile", "quantile(0.9, w_gauge)"),
    ("r:topk", "topk(3, w_gauge)"),
    ("r:count_values", "count_values(\"value\", w_gauge)"),
    ("r:matched", "w_gauge / on (instance, zone) w_total"),
    ("r:grouped", "w_gauge / on (zone) group_left sum by (zone) (w_gauge)"),
    ("r:filtered", "w_gauge > scalar(avg(w_gauge))"),
    ("r:and", "w_total and on (zone) (w_gauge > 80)"),
    ("r:unless", "w_gauge unless on (instance) (w_gauge > 50)"),
    ("r:bucket", "histogram_quantile(0.9, sum by (le) (rate(w_bucket[20s])))"),
    ("r:over_time", "max_over_time(w_gauge[15s] offset 5s)"),
    ("r:absent", "absent(w_nothing{zone=\"a\"})"),
    ("r:ratio", "r:rate / ignoring (zone) group_left sum(r:rate)"),
    ("r:chain", "sum(r:ratio)"),
    // These cannot be maintained incrementally and are queried.
    ("r:subquery", "max_over_time(sum by (zone) (w_gauge)[20s:1s])"),
    ("r:rated", "rate(sum(w_total)[15s:3s])"),
    ("r:ahead", "sum(w_gauge offset -2s)"),
];

fn rule_file() -> String {
    let mut text = "groups:\n- name: g\n  interval: 1s\n  rules:\n".to_owned();
    for (record, expr) in RULES {
        text += &format!("  - record: {record}\n    expr: '{expr}'\n");
    }
    text + "  - alert: High\n    expr: sum by (zone) (w_level) > 100\n    for: 2s\n"
        + "    annotations: {of: '{{ with query \"count(w_level)\" }}{{ . | first | value }}{{ end }}'}\n"
        + "  - alert: Apart\n    expr: w_level > on (zone) group_left avg by (zone) (w_level)\n"
        + "    annotations: {summary: '{{ $labels.instance }} is at {{ $value }}'}\n"
}

const CONFIG: &str = "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n";

/// The series of one instance, with samples up to a time in the future, so that the time of arrival
/// does not matter.
fn series(number: usize, from: i64, to: i64) -> Vec<Series> {
    let instance = format!("host{number}:1");
    let zone = ["a", "b", "c"][number % 3];
    let labels = [("instance", instance.as_str()), ("job", "w"), ("zone", zone)];
    let times: Vec<i64> = (from..to).step_by(1_000).collect();
    let samples = |value: &dyn Fn(i64) -> i64| -> Vec<(i64, f64)> {
        times.iter().map(|t| (*t, value((t - from) / 1_000) as f64)).collect()
    };
    let n = number as i64;
    let bucket = |le: &str, count: i64| {
        let labels = [labels[0], labels[1], ("le", le), labels[2]];
        Series::new("w_bucket", &labels, samples(&|i| i * count))
    };
    vec![
        Series::new("w_gauge", &labels, samples(&|i| (i * (n + 3)) % 97)),
        Series::new("w_level", &labels, samples(&|_| n * 10)),
        Series::new("w_total", &labels, samples(&|i| (i % 17) * (n + 1) + n)),
        bucket("0.1", n + 1),
        bucket("1", 2 * n + 3),
        bucket("+Inf", 3 * n + 4),
    ]
}

/// The points of each series of `query`, by time.
fn by_time(server: &Server, query: &str, at: i64) -> BTreeMap<i64, BTreeMap<String, Value>> {
    let mut times: BTreeMap<i64, BTreeMap<String, Value>> = BTreeMap::new();
    for row in server.query_at(query, at)["result"].as_array().expect("rows") {
        for point in row["values"].as_array().expect("points") {
            let t = (point[0].as_f64().expect("a time") * 1000.0).round() as i64;
            times.entry(t).or_default().insert(row["metric"].to_string(), point[1].clone());
        }
    }
    times
}

fn close(a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) -> bool {
    let number = |v: &Value| v.as_str().expect("a value").parse::<f64>().expect("a number");
    let near =
        |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-12 * a.abs().max(b.abs());
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && near(number(a.1), number(b.1)))
}

/// Alerts with their state, value and annotations.
fn alerts(server: &Server) -> BTreeSet<String> {
    let data = server.api("/api/v1/alerts");
    let list = data["alerts"].as_array().expect("a list");
    list.iter()
        .map(|a| format!("{} {} {} {}", a["labels"], a["state"], a["value"], a["annotations"]))
        .collect()
}

/// Writes the same samples to one process, and divided to two: every rule and alert must have the
/// same result.
fn equals_one_process(workers: usize) {
    let rules = rule_file();
    let one = Server::start(CONFIG, &[("rules.yml", &rules)]);
    let two = start(CONFIG, &[("rules.yml", &rules)], workers);
    let start = now_ms() / 1_000 * 1_000;
    for number in 0..9 {
        let series = series(number, start - 30_000, start + 25_000);
        for port in [one.port, two[number % 2].port] {
            let answer = write(port, &series).expect("an answer");
            assert_eq!(answer.status / 100, 2, "{}", answer.text());
        }
    }
    // Views have seen no samples before this, so their results depend only on the time.
    let begin = (now_ms() / 1_000 + 3) * 1_000;
    let end = begin + 14_000;
    eventually("the last slot", 60, || if now_ms() > end + 1_500 { Ok(()) } else { Err("wait".into()) });
    for (record, _) in RULES {
        let query = format!("{record}[1h]");
        let ones = by_time(&one, &query, end);
        let twos = by_time(&two[0], &query, end);
        let common: Vec<i64> =
            (begin..=end).step_by(1_000).filter(|t| ones.contains_key(t) && twos.contains_key(t)).collect();
        assert!(common.len() >= 5, "{record}: slots of both: {common:?}");
        for t in common {
            assert!(
                close(&ones[&t], &twos[&t]),
                "{record} at {t}:\n one {:?}\n two {:?}",
                ones[&t],
                twos[&t]
            );
        }
    }
    let expected = alerts(&one);
    assert_eq!(expected.len(), 2 + 3, "{expected:?}");
    assert_eq!(expected.iter().filter(|alert| alert.contains(r#"{"of":"9"}"#)).count(), 2, "{expected:?}");
    assert_eq!(alerts(&two[0]), expected);
    assert!(alerts(&two[1]).is_empty(), "alerts are process 0's");
    let rows = one.query_at("r:each", end)["result"].as_array().expect("rows").len();
    assert_eq!(rows, 9, "the test writes to all");
    // No series was copied: the statistics of a store list only its own series.
    let names = |server: &Server| {
        let data = server.api("/api/v1/status/tsdb?limit=100");
        let names = data["seriesCountByMetricName"].as_array().expect("names").clone();
        names.iter().find(|name| name["name"] == "w_gauge").map(|name| name["value"].clone())
    };
    assert_eq!((names(&two[0]), names(&two[1])), (Some(5.into()), Some(4.into())));
    history::is_one(&[&one, &two[0], &two[1]], start - 20_000, start + 20_000);
}

#[test]
fn rules_of_two_processes_answer_as_one() {
    wall_clock(|| {
        equals_one_process(1);
    });
}

#[test]
fn rules_of_two_processes_with_two_workers_answer_as_one() {
    wall_clock(|| {
        equals_one_process(2);
    });
}

fn scrape_config(exporters: &[Exporter]) -> String {
    let targets: Vec<String> = exporters.iter().map(|e| format!("'127.0.0.1:{}'", e.port)).collect();
    format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}\nrule_files: [rules.yml]\n\
         scrape_configs:\n- job_name: x\n  static_configs: [{{targets: [{}]}}]\n",
        targets.join(", ")
    )
}

const SCRAPE_RULES: &str = "groups:\n- name: g\n  interval: 1s\n  rules:\n  - record: r:up\n    expr: sum(up)\n  \
    - record: r:total\n    expr: sum(x_value)\n  - record: r:asked\n    expr: max_over_time(sum(up)[10s:1s])\n";

fn urls(server: &Server) -> BTreeSet<String> {
    let data = server.api("/api/v1/targets?state=active");
    let list = data["activeTargets"].as_array().expect("a list").clone();
    list.iter().map(|target| target["scrapeUrl"].as_str().expect("a URL").to_owned()).collect()
}

fn warnings(server: &Server, path: &str) -> Vec<String> {
    let list = server.get(path).json()["warnings"].as_array().cloned().unwrap_or_default();
    list.iter().map(|warning| warning.as_str().expect("text").to_owned()).collect()
}

#[test]
fn targets_are_divided_and_answers_are_whole() {
    wall_clock(|| {
        let exporters: Vec<Exporter> = (0..12).map(|n| Exporter::start(&format!("x_value {n}\n"))).collect();
        let config = scrape_config(&exporters);
        let servers = start(&config, &[("rules.yml", SCRAPE_RULES)], 1);
        let (mine, theirs) = eventually("all targets are scraped by somebody", 60, || {
            let mine = urls(&servers[0]);
            let theirs = urls(&servers[1]);
            if mine.len() + theirs.len() == 12 {
                Ok((mine, theirs))
            } else {
                Err(format!("{mine:?} {theirs:?}"))
            }
        });
        assert!(mine.is_disjoint(&theirs), "{mine:?} {theirs:?}");
        assert!(!mine.is_empty() && !theirs.is_empty(), "all targets went to one process");
        for (query, expected) in [("r:up == 12", 12.0), ("r:total == 66", 66.0)] {
            assert_eq!(servers[0].wait_rows(query, 1)[0]["value"][1].as_str().unwrap().parse(), Ok(expected));
        }
        // Each process answers queries over both stores, without missing series.
        for server in &servers {
            assert_eq!(server.wait_rows("up", 12).len(), 12);
            for path in
                ["query?query=up", "query_range?query=up&start=1&end=2&step=1", "labels", "series?match[]=up"]
            {
                assert_eq!(warnings(server, &format!("/api/v1/{path}")), Vec::<String>::new(), "{path}");
            }
            server.wait_rows("r:up == 12", 1);
        }
        // A query that cannot be maintained incrementally also reads both stores.
        for server in &servers {
            server.wait_rows("r:asked == 12", 1);
        }
        let rule = servers[0].api("/api/v1/rules")["groups"][0]["rules"][2].clone();
        assert_eq!(rule["health"], "ok", "{rule}");
    });
}

/// The time of the newest sample of a recorded series, seconds.
fn newest(server: &Server, record: &str) -> Option<f64> {
    server.query(&format!("timestamp({record})"))[..].first()?["value"][1].as_str()?.parse().ok()
}

#[test]
fn a_lost_process_ends_the_other_and_both_recover() {
    wall_clock(|| {
        let exporters: Vec<Exporter> = (0..6).map(|n| Exporter::start(&format!("x_value {n}\n"))).collect();
        let config = scrape_config(&exporters);
        let mut servers = Server::prepare_together(&config, &[("rules.yml", SCRAPE_RULES)], &flags(1));
        for lost in [1, 0] {
            Server::run_together(&mut servers);
            servers[0].wait_rows("r:up == 6", 1);
            let before = newest(&servers[0], "r:up");
            let killed = Instant::now();
            servers[lost].kill();
            let (code, log) = servers[1 - lost].wait_end();
            let took = killed.elapsed();
            assert_eq!(code, Some(1), "{log}");
            let message = format!("because process {lost} (127.0.0.1:");
            assert!(log.contains(&message) && log.contains("is lost"), "{log}");
            assert!(!log.contains("panicked"), "{log}");
            assert!(took < Duration::from_secs(10), "{took:?}");
            // Both continue where they stopped.
            Server::run_together(&mut servers);
            eventually("the rule goes on", 60, || {
                if newest(&servers[0], "r:up") > before { Ok(()) } else { Err(format!("{before:?}")) }
            });
            let held = servers[0].query("count_over_time(r:up[1h]) > 1 and min_over_time(r:up[1s]) == 6");
            assert!(!held.is_empty() || !servers[0].wait_rows("r:up == 6", 1).is_empty());
            // A process that is asked to stop stops the other one, too, in order.
            assert_eq!(servers[lost].post("/-/quit").status, 200);
            let (code, log) = servers[lost].wait_end();
            assert_eq!(code, Some(0), "{log}");
            let (code, log) = servers[1 - lost].wait_end();
            assert_eq!(code, Some(1), "{log}");
            assert!(!log.contains("panicked"), "{log}");
            assert!(log.contains("has stopped, and a cluster runs whole or not at all"), "{log}");
        }
    });
}

/// A process that neither works nor ends counts as lost.
#[test]
fn a_process_that_hangs_is_lost() {
    wall_clock(|| {
        let mut servers = start("global: {evaluation_interval: 1s}\n", &[], 1);
        servers[1].signal("STOP");
        // A query meanwhile fails with the name of the lost process, without a partial result.
        let asked = Instant::now();
        let answer = servers[0].get("/api/v1/query?query=up&timeout=2s");
        assert_eq!(answer.status, 503, "{}", answer.text());
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.starts_with("process 1 (127.0.0.1:"), "{error}");
        assert!(error.contains("did not answer within 2s"), "{error}");
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
        let (code, log) = servers[0].wait_end();
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("is lost: it has been silent for 10s"), "{log}");
        servers[1].signal("CONT");
        let (code, log) = servers[1].wait_end();
        assert_eq!(code, Some(1), "{log}");
    });
}

#[test]
fn a_process_with_another_configuration_is_named() {
    wall_clock(|| {
        let servers = start("global: {evaluation_interval: 1s}\n", &[], 1);
        let reload = |server: &Server| {
            std::fs::write(server.file("prometheus.yml"), "global: {evaluation_interval: 2s}\n")
                .expect("a file");
            assert_eq!(server.post("/-/reload").status, 200);
        };
        let wait = |text: &str| {
            eventually(text, 60, || {
                let log = servers[0].log();
                if log.contains(text) { Ok(()) } else { Err(log) }
            });
        };
        reload(&servers[1]);
        wait("has another configuration than this process");
        reload(&servers[0]);
        wait("has the same configuration again");
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    wall_clock(|| {
        let config = "global: {evaluation_interval: 1s}\n";
        let mut ends = Vec::new();
        let mut servers = Server::prepare_together(config, &[], &flags(1));
        let other = servers[1].file("prometheus.yml");
        std::fs::write(other, "global: {evaluation_interval: 2s}\n").expect("a file");
        Server::spawn_together(&mut servers);
        for server in &mut servers {
            ends.push(server.wait_end());
        }
        for (code, log) in ends {
            assert_eq!(code, Some(1), "{log}");
            assert!(log.contains("does not fit: checksum of the configuration"), "{log}");
        }
        // A single process says which process it waits for, and that the timeout has passed.
        let mut alone = flags(1).remove(1);
        alone.push("--cluster.join-timeout=1s".to_owned());
        let mut servers = Server::prepare_together(config, &[], &[alone]);
        Server::spawn_together(&mut servers);
        let (code, log) = servers[0].wait_end();
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("waits for the others of its cluster: process 0"), "{log}");
        assert!(log.contains("--cluster.join-timeout"), "{log}");
    });
}

#[test]
fn a_stream_of_a_rule_shows_all_processes() {
    wall_clock(|| {
        let config = "global: {evaluation_interval: 1s}\n";
        let servers = start(config, &[], 1);
        let t = now_ms();
        for (n, server) in servers.iter().enumerate() {
            let series = Series::new("s", &[("n", &n.to_string())], vec![(t, n as f64 + 1.0)]);
            assert_eq!(write(server.port, &[series]).expect("an answer").status / 100, 2);
        }
        let path = format!("/api/v1/subscribe?query={}", http::encode("sum(s)"));
        let mut lines = http::stream(servers[0].port, &path, &[]);
        let mut line = String::new();
        while !line.contains("\"3\"") {
            line.clear();
            assert!(
                std::io::BufRead::read_line(&mut lines, &mut line).expect("a line") > 0,
                "the stream ended"
            );
        }
        let refused = http::get(servers[1].port, &path).expect("an answer").text();
        assert!(refused.contains("process 0"), "{refused}");
    });
}

const LATE: &str = "groups:
- name: g
  interval: 1s
  late_samples: correct
  rules:
  - record: total
    expr: sum(written)
  - record: twice
    expr: total * 2
";

/// A late sample at either process changes recorded samples, or counts as too late.
#[test]
fn late_samples_of_both_processes_are_corrected() {
    wall_clock(|| {
        let servers = start(CONFIG, &[("rules.yml", LATE)], 1);
        let send = |process: usize, job: &str, t: i64, v: f64| {
            let one = Series::new("written", &[("job", job)], vec![(t, v)]);
            let answer = write(servers[process].port, &[one]).expect("an answer");
            assert_eq!(answer.status / 100, 2, "{}", answer.text());
        };
        let begun = now_ms();
        send(0, "a", begun, 1.0);
        servers[0].wait_rows("count_over_time(total[1m]) > 4", 1);
        for (process, job, total) in [(1, "b", 3), (0, "c", 7), (1, "d", 15)] {
            send(process, job, begun, f64::from(total / 2 + 1));
            eventually("all of it is corrected", 60, || {
                let wrong = format!(
                    "min_over_time(total[4m]) != {total} or min_over_time(twice[4m]) != {}",
                    2 * total
                );
                let wrong = servers[0].query(&wrong);
                wrong.is_empty().then_some(()).ok_or_else(|| format!("{wrong:?}"))
            });
        }
        let beyond = || {
            let metrics = servers[0].get("/metrics").text();
            let line =
                metrics.lines().find(|line| line.starts_with("perennial_late_samples_beyond_bound_total"));
            line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok())
        };
        assert_eq!(beyond(), Some(0.0));
        send(1, "e", begun - 180_000, 16.0);
        eventually("process 0 counts it", 60, || match beyond() {
            Some(1.0) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert!(!servers[0].log().contains("late_samples"), "{}", servers[0].log());
    });
}
