//! Tests that a subscriber that does not read affects neither rules nor other subscribers.

use crate::support::exporter::Exporter;
use crate::support::server::Server;
use crate::support::{eventually, http, wall_clock};
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

const RULES: &str = "groups: [{name: g, interval: 1s, rules: [{record: 'level:max', expr: max(level)}]}]";

/// Many series with long labels, so that unread messages fill every buffer of the connection.
fn body(value: i64) -> String {
    let label = "x".repeat(200);
    (0..2_000).map(|i| format!("level{{i=\"{i}\",ballast=\"{label}\"}} {value}\n")).collect()
}

#[test]
fn subscribers_that_never_read_disturb_nobody() {
    wall_clock(|| {
        let exporter = Exporter::start(&body(0));
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}\nrule_files: [rules.yml]\n\
         scrape_configs:\n- job_name: x\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            exporter.port
        );
        let server = Server::start_with(&config, &[("rules.yml", RULES)], &[]);
        server.wait_rows("level:max == 0", 1);
        let stalled: Vec<TcpStream> = (0..4)
            .map(|_| {
                let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
                let path = "/api/v1/subscribe?query=level&format=ndjson";
                write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
                stream.read_exact(&mut [0; 12]).expect("the beginning of an answer");
                stream
            })
            .collect();
        let query = http::encode("max(level)");
        let mut reader =
            http::stream(server.port, &format!("/api/v1/subscribe?query={query}&format=ndjson"), &[]);
        for value in 1..15 {
            exporter.set(&body(value));
            server.wait_rows(&format!("level:max == {value}"), 1);
            let wanted = format!("\"{value}\"");
            let mut line = String::new();
            // The read times out after a minute without data.
            while !line.contains(&wanted) {
                line.clear();
                assert!(reader.read_line(&mut line).expect("a line") > 0, "the subscription has ended");
            }
        }
        eventually("the stalled readers are closed", 60, || {
            let metrics = server.get("/metrics").text();
            let closed = "perennial_http_connections_closed_total{reason=\"stalled\"} 4";
            if metrics.contains(closed) { Ok(()) } else { Err("not all of them".to_owned()) }
        });
        drop(stalled);
    });
}
