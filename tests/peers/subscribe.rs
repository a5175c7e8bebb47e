//! A subscription over plain HTTP: the answer as it is, then what changes.

use crate::support::exporter::Exporter;
use crate::support::http;
use crate::support::server::Server;
use serde_json::Value;
use std::io::BufRead;

/// The next server-sent event as (event, data); chunk sizes and comments are skipped.
fn next_event(reader: &mut impl BufRead) -> (String, Value) {
    let (mut event, mut data) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("an open stream") > 0, "the stream ended");
        let line = line.trim_end();
        if let Some(name) = line.strip_prefix("event:") {
            event = name.trim().to_string();
        } else if let Some(text) = line.strip_prefix("data:") {
            data += text.trim_start();
        } else if line.is_empty() && !data.is_empty() {
            let data: Value = serde_json::from_str(&data).unwrap_or_else(|e| panic!("{e} in {data}"));
            if event.is_empty() {
                event = data["type"].as_str().unwrap_or_default().to_string();
            }
            return (event, data);
        }
    }
}

/// The next event of one of these kinds; progress in between is passed over.
fn next_of(reader: &mut impl BufRead, kind: &str) -> Value {
    for _ in 0..200 {
        let (event, data) = next_event(reader);
        if event == kind {
            return data;
        }
        assert!(["subscribed", "progress", "snapshot", "delta"].contains(&event.as_str()), "{event}: {data}");
    }
    panic!("no {kind} within 200 events");
}

#[test]
fn a_snapshot_and_then_deltas() {
    let exporter = Exporter::start("orders{shop=\"a\"} 3\norders{shop=\"b\"} 4\n");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nscrape_configs:\n- job_name: shops\n  \
         static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter.port
    );
    let server = Server::start(&config, &[]);
    server.wait_rows("orders", 2);
    let path = format!("/api/v1/subscribe?query={}", http::encode("sum by (shop) (orders)"));
    let mut reader = http::stream(server.port, &path, &[("Accept", "text/event-stream")]);
    let snapshot = next_of(&mut reader, "snapshot").to_string();
    for part in ["\"a\"", "\"b\"", "3", "4"] {
        assert!(snapshot.contains(part), "{part} in {snapshot}");
    }
    exporter.set("orders{shop=\"a\"} 17\norders{shop=\"b\"} 4\n");
    let delta = next_of(&mut reader, "delta").to_string();
    assert!(delta.contains("17") && delta.contains("\"a\""), "{delta}");
    assert!(!delta.contains("\"b\""), "what did not change is not sent: {delta}");
    exporter.set("orders{shop=\"b\"} 4\n");
    let delta = next_of(&mut reader, "delta").to_string();
    assert!(delta.contains("remove") && delta.contains("\"a\""), "{delta}");
}

#[test]
fn a_bad_subscription_is_refused() {
    let server = Server::start("", &[]);
    let path = format!("/api/v1/subscribe?query={}", http::encode("sum("));
    let head = [("Accept", "text/event-stream")];
    let answer = http::send(server.port, "GET", &path, &head, b"").expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("1:5: parse error"), "{}", answer.text());
}
