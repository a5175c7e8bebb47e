//! Tests queries of clients: the query log, cancellation, queries cut off by a crash, and the same
//! responses as Prometheus.

use super::support::remote_write::{self, Series};
use super::support::server::Server;
use super::support::{eventually, http, now_ms, wall_clock};
use std::io::Write;
use std::net::TcpStream;

/// A query that takes minutes.
const LONG: &str = "max_over_time(vector(time())[20000h:1s])";

/// Starts a query on its own connection.
fn begin(server: &Server, query: &str) -> TcpStream {
    let mut client = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
    write!(client, "GET /api/v1/query?query={query} HTTP/1.1\r\nhost: x\r\n\r\n").expect("a request");
    client
}

#[test]
fn a_query_that_a_crash_cut_off_is_named_at_the_next_start() {
    wall_clock(|| {
        let mut server = Server::start_with("", &[], &["--query.max-concurrency=3"]);
        let _client = begin(&server, LONG);
        let file = server.file("data/queries.active");
        eventually("the query is written down", 10, || {
            let text = String::from_utf8_lossy(&std::fs::read(&file).expect("queries.active")).into_owned();
            if text.contains(LONG) { Ok(()) } else { Err(text) }
        });
        assert_eq!(std::fs::metadata(&file).expect("queries.active").len(), 3_001);
        server.kill();
        server.run();
        let log = server.log();
        let line =
            log.lines().find(|line| line.contains("These queries didn't finish in prometheus' last run:"));
        let line = line.unwrap_or_else(|| panic!("no such line in {log}"));
        assert!(line.contains("max_over_time(vector(time())[20000h:1s])"), "{line}");
        let text = std::fs::read(&file).expect("queries.active");
        assert!(text[0] == b'[' && text[1..].iter().all(|b| *b == 0), "the new file is empty");
    });
}

#[test]
fn a_client_that_goes_away_stops_its_query() {
    wall_clock(|| {
        let server = Server::start("", &[]);
        let working = |n: usize| {
            let metrics = server.get("/metrics").text();
            if metrics.contains(&format!("\nprometheus_engine_queries {n}\n")) {
                Ok(())
            } else {
                Err(metrics
                    .lines()
                    .find(|l| l.starts_with("prometheus_engine_queries "))
                    .unwrap_or("")
                    .to_owned())
            }
        };
        let client = begin(&server, LONG);
        eventually("a query is at work", 10, || working(1));
        drop(client);
        eventually("it has stopped", 5, || working(0));
    });
}

#[test]
fn queries_are_logged_until_a_reload_says_otherwise() {
    wall_clock(|| {
        let config = "global:\n  query_log_file: queries.log\n";
        let server = Server::start(config, &[]);
        server.api("/api/v1/query?query=1");
        server.api("/api/v1/query_range?query=vector(1)&start=1&end=2&step=1");
        let logged = || std::fs::read_to_string(server.file("queries.log")).expect("a log");
        assert_eq!(logged().lines().count(), 2, "{}", logged());
        let line: serde_json::Value =
            serde_json::from_str(logged().lines().last().expect("a line")).expect("JSON");
        assert_eq!(line["params"]["query"], "vector(1)");
        assert_eq!(line["httpRequest"]["clientIP"], "127.0.0.1");
        std::fs::write(server.file("prometheus.yml"), "global: {}\n").expect("a file");
        assert_eq!(server.post("/-/reload").status, 200);
        server.api("/api/v1/query?query=1");
        assert_eq!(logged().lines().count(), 2);
    });
}

/// Requests whose response is the same for all versions and at any time. (For an empty query it is
/// not: 3.x reports an unknown position.)
const SAME: &[&str] = &[
    "query?query=1&time=5.123456",
    "query?query=\"a\\xff\"&time=1",
    "query?query=vector(1e-7)&time=1",
    "query?query=vector(1)&time=2026-11-21T08:06:11.7317Z",
    "query?query=vector(1)&time=0.0005",
    "query?query=vector(-0)&time=1.9999",
    "query?query=1&timeout=x",
    "query?query=1&time=1e",
    "query?query=sum(",
    "query?query=1&time=%zz&time=3",
    "query?query=1;time=3&query=2&time=4",
    "query?query=a%ff",
    "query_range?query=time()&start=1.5&end=4&step=1",
    "query_range?query=1&start=&end=2&step=1",
    "query_range?query=1&start=1&end=&step=1",
    "query_range?query=1&start=1&end=2&step=",
    "query_range?query=1&start=3&end=2&step=1",
    "query_range?query=1&start=1&end=2&step=0",
    "query_range?query=1&start=1&end=2&step=-1",
    "query_range?query=1&start=1&end=2&step=NaN",
    "query_range?query=1&start=1&end=2&step=Inf",
    "query_range?query=1&start=1&end=2&step=1e30",
    "query_range?query=1&start=1&end=2&step=1.5s",
    "query_range?query=vector(1)&start=1&end=3&step=1s500ms",
    "query_range?query=1&start=0&end=11001&step=1",
    "query_range?query=vector(1)&start=2&end=2&step=1h",
    "query_exemplars?query=up",
    "query_exemplars?query=1",
    "query_exemplars?query=)",
    "query_exemplars?query=up&start=5&end=1",
    "query_exemplars?query=up&start=x",
    "format_query?query=sum(up)by(a)",
    "format_query?query=foo/bar",
];

#[test]
fn requests_are_answered_as_prometheus_answers_them() {
    wall_clock(|| {
        let config = "global:\n  scrape_interval: 1h\n";
        let ours = Server::start(config, &[]);
        let theirs = Server::prometheus(config);
        let mut differences = Vec::new();
        for path in SAME {
            let escaped: String = path.replace('\\', "%5C").replace('"', "%22");
            let ask = |server: &Server| {
                let answer = server.get(&format!("/api/v1/{escaped}"));
                // 2.42 begins this text with a capital letter, 3.14 does not.
                (answer.status, answer.text().replace("Invalid time value", "invalid time value"))
            };
            let got = ask(&ours);
            let want = ask(&theirs);
            if got != want {
                differences.push(format!("{path}\n  ours:   {got:?}\n  theirs: {want:?}"));
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    });
}

/// Writes three series of 60 samples, 10 s apart; returns a time 3 s after the last one, so that no
/// window ends at a sample.
fn sixty(servers: &[&Server]) -> i64 {
    let first = now_ms() / 10_000 * 10_000 - 600_000;
    let samples: Vec<(i64, f64)> = (0..60).map(|i| (first + i * 10_000, i as f64)).collect();
    let series = ["a", "b", "c"].map(|job| Series::new("x", &[("job", job)], samples.clone()));
    for server in servers {
        assert_eq!(remote_write::write(server.port, &series).expect("an answer").status, 204);
    }
    first + 593_000
}

#[test]
fn samples_are_counted_as_prometheus_counts_them() {
    wall_clock(|| {
        let flags = ["--enable-feature=promql-per-step-stats"];
        let ours = Server::start_with("", &[], &flags);
        let theirs = Server::prometheus_with("", &flags);
        let t = sixty(&[&ours, &theirs]);
        let instant = [
            "x",
            "sum(x)",
            "x[1m]",
            "rate(x[1m])",
            "sum(rate(x[5m])) by (job)",
            "x > 70",
            "1",
            "x + on(job) (x offset 1m)",
        ];
        let ranges =
            ["x", "rate(x[1m])", "sum(max_over_time(x[2m]))", "x offset 10m", "vector(1)", "absent(x)"];
        let mut paths: Vec<String> =
            instant.iter().map(|q| format!("query?query={}&time={}", http::encode(q), t / 1000)).collect();
        paths.extend(ranges.iter().map(|q| {
            let start = t / 1000 - 120;
            let end = t / 1000 + 400;
            format!("query_range?query={}&start={start}&end={end}&step=30", http::encode(q))
        }));
        for path in paths {
            let ask = |server: &Server| {
                server.api(&format!("/api/v1/{path}&stats=all"))["stats"]["samples"].clone()
            };
            let got = ask(&ours);
            let want = ask(&theirs);
            for field in ["totalQueryableSamples", "totalQueryableSamplesPerStep"] {
                assert_eq!(got[field], want[field], "{path}: {field}");
            }
        }
    });
}

#[test]
fn the_limit_of_samples_refuses_what_prometheus_refuses() {
    wall_clock(|| {
        let flags = ["--query.max-samples=50"];
        let ours = Server::start_with("", &[], &flags);
        let theirs = Server::prometheus_with("", &flags);
        let t = sixty(&[&ours, &theirs]) / 1000;
        let range = |query: &str, steps: i64| {
            let start = t - 10 * (steps - 1);
            format!("query_range?query={}&start={start}&end={t}&step=10", http::encode(query))
        };
        let instant = |query: &str| format!("query?query={}&time={t}", http::encode(query));
        let mut refused = 0;
        for path in [
            instant("x"),
            instant("x[2m]"),
            instant("x[5m]"),
            instant("rate(x[5m])"),
            instant("count_over_time(x[9m])"),
            range("x", 10),
            range("x", 20),
            range("sum(x)", 20),
            range("sum(rate(x[1m]))", 10),
            range("sum(rate(x[5m]))", 10),
            range("vector(1)", 40),
            range("vector(1)", 60),
        ] {
            let ask = |server: &Server| {
                let answer = server.get(&format!("/api/v1/{path}"));
                (answer.status, answer.json()["error"].clone())
            };
            let got = ask(&ours);
            let want = ask(&theirs);
            assert_eq!(got, want, "{path}");
            refused += usize::from(got.0 == 422);
        }
        assert!((3..9).contains(&refused), "{refused} refused");
    });
}
