//! Tests a subscription over server-sent events, NDJSON and websocket: the current result, then its
//! changes.
//!
//! Every message is an object with one key, its kind: `{"snapshot": {"id", "t", "rows"}}`.

use crate::support::exporter::Exporter;
use crate::support::server::Server;
use crate::support::{http, wall_clock};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::io::BufRead;
use tokio_tungstenite::tungstenite::Message;

const QUERY: &str = "sum by (shop) (orders)";

/// Starts an exporter with two shops, and a server that scrapes it every second.
fn shops() -> (Exporter, Server) {
    let exporter = Exporter::start("orders{shop=\"a\"} 3\norders{shop=\"b\"} 4\n");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nscrape_configs:\n- job_name: shops\n  \
         static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter.port
    );
    let server = Server::start(&config, &[]);
    server.wait_rows("orders", 2);
    (exporter, server)
}

/// The rows of a snapshot or delta as sorted (shop, value).
fn rows(list: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_else(|| panic!("not text: {v}")).to_string();
    let list = list.as_array().unwrap_or_else(|| panic!("not a list: {list}"));
    let mut rows: Vec<_> = list.iter().map(|r| (text(&r["labels"]["shop"]), text(&r["value"]))).collect();
    rows.sort();
    rows
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

/// Reads messages with `next` while the exporter changes, and checks them.
fn snapshot_then_deltas(exporter: &Exporter, mut next: impl FnMut() -> Value) {
    let mut next_of = |kind: &str| {
        for _ in 0..200 {
            let message = next();
            if let Some(content) = message.get(kind) {
                return content.clone();
            }
            let passed = ["subscribed", "progress"].iter().any(|k| message.get(k).is_some());
            assert!(passed, "unexpected: {message}");
        }
        panic!("no {kind} within 200 messages");
    };
    let snapshot = next_of("snapshot");
    assert_eq!(rows(&snapshot["rows"]), pairs(&[("a", "3"), ("b", "4")]));

    exporter.set("orders{shop=\"a\"} 17\norders{shop=\"b\"} 4\n");
    let changed = next_of("delta");
    assert_eq!(rows(&changed["upsert"]), pairs(&[("a", "17")]), "only what changed: {changed}");
    assert_eq!(changed["remove"], json!([]));
    assert!(changed["t"].as_f64() > snapshot["t"].as_f64(), "{changed} after {snapshot}");

    exporter.set("orders{shop=\"b\"} 4\n");
    let removed = next_of("delta");
    assert_eq!((&removed["upsert"], &removed["remove"]), (&json!([]), &json!([{"shop": "a"}])));

    exporter.set("orders{shop=\"b\"} 4\norders{shop=\"a\"} 1\n");
    assert_eq!(rows(&next_of("delta")["upsert"]), pairs(&[("a", "1")]));
}

/// The next line that starts with `prefix`, without the prefix; skips chunk sizes, comments and
/// event names.
fn next_line(reader: &mut impl BufRead, prefix: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("an open stream") > 0, "the stream ended");
        if let Some(rest) = line.strip_prefix(prefix) {
            return rest.trim().to_string();
        }
    }
}

fn path() -> String {
    format!("/api/v1/subscribe?query={}", http::encode(QUERY))
}

#[test]
fn server_sent_events() {
    wall_clock(|| {
        let (exporter, server) = shops();
        let mut reader = http::stream(server.port, &path(), &[("Accept", "text/event-stream")]);
        snapshot_then_deltas(&exporter, || {
            let event = next_line(&mut reader, "event:");
            let message: Value = serde_json::from_str(&next_line(&mut reader, "data:")).expect("JSON");
            assert!(message.get(&event).is_some(), "event {event} carries {message}");
            message
        });
    });
}

#[test]
fn lines_of_json() {
    wall_clock(|| {
        let (exporter, server) = shops();
        let mut reader = http::stream(server.port, &path(), &[("Accept", "application/x-ndjson")]);
        snapshot_then_deltas(&exporter, || {
            serde_json::from_str(&format!("{{{}", next_line(&mut reader, "{"))).expect("JSON")
        });
    });
}

/// A query that cannot be maintained incrementally yet is queried from history, and the snapshot
/// says so.
#[test]
fn a_subquery_is_asked_once_a_second() {
    wall_clock(|| {
        let (exporter, server) = shops();
        server.wait_rows("last_over_time(orders[1m:1s])", 2);
        let query = "sum%20by%20(shop)(last_over_time(orders%5B1m:1s%5D))";
        let path = format!("/api/v1/subscribe?query={query}");
        let mut reader = http::stream(server.port, &path, &[("Accept", "application/x-ndjson")]);
        let mut next = || -> Value {
            serde_json::from_str(&format!("{{{}", next_line(&mut reader, "{"))).expect("JSON")
        };
        assert_eq!(next()["subscribed"]["standing"], json!(false));
        let snapshot = next();
        assert_eq!(rows(&snapshot["snapshot"]["rows"]).len(), 2, "{snapshot}");
        exporter.set("orders{shop=\"a\"} 17\norders{shop=\"b\"} 4\n");
        let delta = (0..200).map(|_| next()).find(|message| message.get("delta").is_some()).expect("a delta");
        assert_eq!(rows(&delta["delta"]["upsert"]), pairs(&[("a", "17")]), "{delta}");
    });
}

#[test]
fn websocket() {
    wall_clock(|| {
        let (exporter, server) = shops();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let url = format!("ws://127.0.0.1:{}/api/v1/subscribe", server.port);
        let connected = runtime.block_on(tokio_tungstenite::connect_async(url)).expect("a websocket");
        let mut socket = connected.0;
        let request = json!({"subscribe": {"id": "shops", "query": QUERY}}).to_string();
        runtime.block_on(socket.send(Message::text(request))).expect("an open socket");
        snapshot_then_deltas(&exporter, || {
            runtime.block_on(async {
                loop {
                    match socket.next().await.expect("an open socket").expect("a message") {
                        Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                        Message::Close(frame) => panic!("closed: {frame:?}"),
                        _ => {}
                    }
                }
            })
        });
    });
}

#[test]
fn a_bad_subscription_is_refused() {
    wall_clock(|| {
        let server = Server::start("", &[]);
        let path = format!("/api/v1/subscribe?query={}", http::encode("sum("));
        let head = [("Accept", "text/event-stream")];
        let answer = http::send(server.port, "GET", &path, &head, b"").expect("an answer");
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("1:5: parse error"), "{}", answer.text());
    });
}

/// The first message of a subscription.
fn subscribed(server: &Server, query: &str) -> Value {
    let path = format!("/api/v1/subscribe?format=ndjson&query={}", http::encode(query));
    let mut reader = http::stream(server.port, &path, &[]);
    let message: Value = serde_json::from_str(&format!("{{{}", next_line(&mut reader, "{"))).expect("JSON");
    message["subscribed"].clone()
}

#[test]
fn a_window_that_will_be_too_large_is_not_kept_although_it_is_small_now() {
    let body: String = (0..60).map(|i| format!("orders{{shop=\"{i}\"}} {i}\n")).collect();
    let exporter = Exporter::start(&body);
    let config = format!(
        "global: {{scrape_interval: 10s}}\nscrape_configs:\n- job_name: shops\n  \
         static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter.port
    );
    let server = Server::start(&config, &[]);
    // One sample of each: nobody can see yet how often they come.
    server.wait_rows("orders", 60);
    let month = subscribed(&server, "count(last_over_time({__name__=~\".+\"}[30d]))");
    assert_eq!(month["standing"], false, "{month}");
    let reason = month["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("to keep it current would take about ") && reason.contains("more than 64 MiB"),
        "{reason}"
    );
    let hour = subscribed(&server, "count(last_over_time({__name__=~\".+\"}[1h]))");
    assert_eq!((&hour["standing"], &hour["reason"]), (&Value::Null, &Value::Null), "{hour}");
}
