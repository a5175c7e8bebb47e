//! Tests clients that are silent, slow, incomplete or many, and cross-site requests: other clients
//! are not affected, and the server stops on request.

use crate::support::http;
use crate::support::receiver::{Receiver, ReceiverBehavior};
use crate::support::server::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// More than `--web.max-connections`.
const SLOW: usize = 1_000;

/// What slow clients have sent.
const BEGINNINGS: [&str; 5] = [
    "",
    "GET /api/v1/query?query=1 HT",
    "GET /api/v1/query?query=1 HTTP/1.1\r\nHost: x\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n",
    "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc",
];

/// Raises the number of sockets that this process may open.
fn many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("a limit");
}

fn connect(server: &Server, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    // The server may have closed the connection already; that is tested below.
    let _ = stream.write_all(text.as_bytes());
    stream
}

/// Sends a hundred light queries one after the other; returns the second longest time.
fn light_queries(server: &Server) -> Duration {
    let mut took: Vec<Duration> = (0..100)
        .map(|_| {
            let began = Instant::now();
            let answer = server.get("/api/v1/query?query=1");
            assert_eq!(answer.status, 200, "{}", answer.text());
            began.elapsed()
        })
        .collect();
    took.sort();
    took[98]
}

#[test]
fn a_thousand_slow_clients_keep_nobody_out() {
    many_files();
    let server = Server::start_with("", &[], &["--web.read-timeout=8s"]);
    let before = light_queries(&server);
    let mut slow: Vec<TcpStream> =
        (0..SLOW).map(|i| connect(&server, BEGINNINGS[i % BEGINNINGS.len()])).collect();
    for path in ["/-/healthy", "/-/ready", "/metrics"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    std::thread::sleep(Duration::from_secs(1));
    // Byte by byte, while others send queries.
    let mut drips = slow.iter().filter_map(|stream| stream.try_clone().ok()).collect::<Vec<_>>();
    let dripping = std::thread::spawn(move || {
        for _ in 0..5 {
            for stream in &mut drips {
                let _ = stream.write_all(b"a");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    let beside = light_queries(&server);
    eprintln!(
        "the slowest of a hundred light queries: {before:?} alone, {beside:?} beside {SLOW} slow clients"
    );
    dripping.join().expect("a thread");
    assert!(beside < 20 * before + Duration::from_secs(1), "{before:?}, then {beside:?}");
    for stream in &mut slow {
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let open = ended.is_err_and(|e| matches!(e.kind(), std::io::ErrorKind::WouldBlock));
        assert!(!open, "a slow client is still there");
    }
    let metrics = server.get("/metrics").text();
    let counted = |reason: &str| {
        let line = format!("perennial_http_connections_closed_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|l| l.strip_prefix(&line)?.parse::<f64>().ok()).expect("a metric")
    };
    assert!(counted("headers") > 100.0 && counted("displaced") > 100.0, "{metrics}");
}

#[test]
fn sigterm_waits_for_no_client() {
    let mut server = Server::start_with("global: {scrape_interval: 1s}", &[], &[]);
    let mut clients: Vec<TcpStream> = BEGINNINGS.iter().map(|text| connect(&server, text)).collect();
    let stream = "GET /api/v1/subscribe?query=vector(1) HTTP/1.1\r\nHost: x\r\n\r\n";
    let slow_query = format!(
        "GET /api/v1/query_range?query={}&start=0&end=10000&step=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        http::encode("sum_over_time(vector(1)[1d:1s])")
    );
    for text in [stream, &slow_query, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"] {
        clients.push(connect(&server, text));
    }
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    server.signal("TERM");
    let (code, output) = server.wait_end();
    let took = began.elapsed();
    eprintln!("from SIGTERM to the end: {took:?}");
    assert_eq!(code, Some(0), "{output}");
    // Takes two seconds on an idle machine.
    assert!(took < Duration::from_secs(6), "{took:?}: {output}");
    drop(clients);
}

#[test]
fn sigterm_waits_for_no_alertmanager() {
    let receiver = Receiver::start();
    receiver.set(ReceiverBehavior::Hangs);
    let config = format!(
        "global: {{evaluation_interval: 1s}}\nrule_files: [rules.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]}}\n",
        receiver.port
    );
    let rules = "groups: [{name: a, rules: [{alert: Always, expr: vector(1)}]}]\n";
    let mut server = Server::start(&config, &[("rules.yml", rules)]);
    server.wait_rows("ALERTS{alertstate=\"firing\"}", 1);
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    server.signal("TERM");
    let (code, output) = server.wait_end();
    let took = began.elapsed();
    eprintln!("from SIGTERM to the end: {took:?}");
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("alerts were still queued at the end"), "{output}");
    // Takes two seconds on an idle machine.
    assert!(took < Duration::from_secs(5), "{took:?}: {output}");
}

#[test]
fn sigterm_waits_for_no_rules_that_are_being_loaded() {
    let mut server = Server::start("rule_files: [rules.yml]\n", &[("rules.yml", "groups: []\n")]);
    let rule = |i: usize| format!("  - {{record: 'r:{i}', expr: 'sum by (job) (rate(m{i}[5m])) > {i}'}}\n");
    let rules: String = (0..20_000).map(rule).collect();
    std::fs::write(server.file("rules.yml"), format!("groups:\n- name: many\n  rules:\n{rules}"))
        .expect("a file");
    server.signal("HUP");
    std::thread::sleep(Duration::from_millis(1_500));
    let began = Instant::now();
    server.signal("TERM");
    let (code, output) = server.wait_end();
    let took = began.elapsed();
    eprintln!("from SIGTERM to the end: {took:?}: {output}");
    assert_eq!(code, Some(0), "{output}");
    // Takes two seconds on an idle machine.
    assert!(took < Duration::from_secs(6), "{took:?}: {output}");
    server.run();
    assert_eq!(server.get("/-/healthy").status, 200);
}

#[test]
fn a_write_is_acknowledged_or_not_there_when_the_server_stops() {
    let mut server = Server::start("", &[]);
    let mut half =
        connect(&server, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc");
    std::thread::sleep(Duration::from_millis(200));
    server.signal("TERM");
    let (code, output) = server.wait_end();
    assert_eq!(code, Some(0), "{output}");
    let mut answer = Vec::new();
    let _ = half.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
}

#[test]
fn pages_of_other_sites_stop_nothing_and_write_nothing() {
    let foreign = [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")];
    let server = Server::start_with("", &[], &["--web.enable-admin-api"]);
    for path in ["/-/quit", "/-/reload", "/api/v1/write", "/api/v1/admin/tsdb/delete_series?match[]=up"] {
        for from in foreign {
            let answer = http::send(server.port, "POST", path, &[from], b"").expect("an answer");
            assert_eq!(answer.status, 403, "{path} {from:?}: {}", answer.text());
            assert!(answer.text().contains("--web.cors.origin"), "{}", answer.text());
        }
    }
    let own = format!("http://127.0.0.1:{}", server.port);
    let answer = http::send(server.port, "POST", "/-/reload", &[("Origin", &own)], b"").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let named = Server::start_with("", &[], &["--web.cors.origin=https://(console|evil)\\.example"]);
    let answer = http::send(named.port, "POST", "/-/reload", &foreign, b"").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let flags = ["--web.external-url=https://metrics.example/p/", "--web.route-prefix=/"];
    let behind_a_proxy = Server::start_with("", &[], &flags);
    let own = [("Origin", "https://metrics.example")];
    let answer = http::send(behind_a_proxy.port, "POST", "/-/reload", &own, b"").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}
