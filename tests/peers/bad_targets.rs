//! Tests bad targets next to good ones: the good ones lose no samples, requests are answered at
//! once, and the server stops on request.

use crate::support::exporter::Exporter;
use crate::support::server::Server;
use crate::support::{eventually, wall_clock};
use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// How long good and bad targets are scraped.
const SECONDS: u64 = 12;

/// One line of 0.9 MB.
fn wide_line() -> String {
    let pairs: Vec<String> = (0..85_000).map(|i| format!("l{i:05}=\"v\"")).collect();
    format!("m{{{}}} 1\n", pairs.join(","))
}

/// Serves an endless body, compressed or not, for every request.
fn endless(head: &'static str, part: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let part = part.clone();
            std::thread::spawn(move || {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{head}\r\n");
                let mut sent = stream.write_all(head.as_bytes());
                while sent.is_ok() {
                    sent = stream.write_all(&part);
                }
            });
        }
    });
    port
}

fn job(name: &str, ports: &[u16], more: &str) -> String {
    let targets: Vec<String> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
    format!("- job_name: {name}\n  {more}\n  static_configs: [{{targets: [{}]}}]\n", targets.join(", "))
}

/// A self-metric of the server.
fn own(server: &Server, name: &str) -> f64 {
    let metrics = server.get("/metrics").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect("the metric");
    line.trim().parse().expect("a number")
}

#[test]
fn bad_targets_cost_nobody_else_anything() {
    wall_clock(|| {
        let good: Vec<Exporter> =
            (0..5).map(|i| Exporter::start(&format!("good{{i=\"{i}\"}} 1\n"))).collect();
        let wide: Vec<Exporter> = (0..3).map(|_| Exporter::start(&wide_line())).collect();
        let lines = endless("", "a 1\n".repeat(10_000).into_bytes());
        let series = endless("", (0..10_000).map(|i| format!("n{i} 1\n")).collect::<String>().into_bytes());
        let good_ports: Vec<u16> = good.iter().map(|exporter| exporter.port).collect();
        let wide_ports: Vec<u16> = wide.iter().map(|exporter| exporter.port).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{}{}{}",
            job("good", &good_ports, ""),
            job("wide", &wide_ports, ""),
            job("endless", &[lines, series], "")
        );
        let mut server = Server::start(&config, &[]);
        server.wait_rows("up{job=\"good\"} == 1", good.len());
        let before = own(&server, "process_resident_memory_bytes ");
        let begin = Instant::now();
        let mut slowest = Duration::ZERO;
        while begin.elapsed() < Duration::from_secs(SECONDS) {
            let asked = Instant::now();
            assert_eq!(server.get("/-/healthy").status, 200);
            slowest = slowest.max(asked.elapsed());
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(slowest < Duration::from_secs(2), "/-/healthy took {slowest:?}");
        server.wait_rows("up{job=~\"wide|endless\"} == 0", wide.len() + 2);
        server.wait_rows("scrape_duration_seconds{job=~\"wide|endless\"} < 5", wide.len() + 2);
        let errors: Vec<String> = server.targets().into_iter().map(|target| target.2).collect();
        let limit = "label_limit exceeded (metric: m, number of labels: more than 4096, limit: 4096)";
        assert_eq!(errors.iter().filter(|error| *error == limit).count(), wide.len(), "{errors:?}");
        // Every scrape of the good targets was stored, except those at the beginning and the end of
        // the window.
        let least = SECONDS - 2;
        server.wait_rows(&format!("count_over_time(up{{job=\"good\"}}[{SECONDS}s]) >= {least}"), good.len());
        server.wait_rows(&format!("min_over_time(up{{job=\"good\"}}[{SECONDS}s]) == 1"), good.len());
        let after = own(&server, "process_resident_memory_bytes ");
        assert!(after < before + f64::from(256 << 20), "{before} bytes, then {after}");
        server.signal("TERM");
        let asked = Instant::now();
        let (code, output) = server.wait_end();
        assert_eq!(code, Some(0), "{output}");
        // Takes two seconds on an idle machine.
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    });
}

/// The size of a WAL record does not limit the number of series of a target.
/// `TARGET_SERIES=1000000` tests more of them.
#[test]
fn a_target_with_very_many_series_is_scraped() {
    let series: u32 = std::env::var("TARGET_SERIES").map_or(270_000, |n| n.parse().expect("a number"));
    let count = series.to_string();
    let body: String = (0..series).map(|i| format!("m{{i=\"{i}\"}} 1\n")).collect();
    let exporter = Exporter::start(&body);
    let more = "scrape_interval: 60s\n  scrape_timeout: 60s";
    let server = Server::start(&format!("scrape_configs:\n{}", job("large", &[exporter.port], more)), &[]);
    eventually("all series", 120, || {
        let rows = server.query("scrape_samples_scraped");
        match rows.first() {
            Some(row) if row["value"][1] == *count => Ok(()),
            _ => Err(format!("{rows:?}; {:?}", server.targets())),
        }
    });
    server.wait_rows("up == 1", 1);
    assert_eq!(server.query("count(m)")[0]["value"][1], *count);
}
