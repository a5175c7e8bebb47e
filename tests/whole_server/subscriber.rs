//! A simulated client with a subscription: it computes the result from the messages, as
//! `docs/subscribe.md` specifies, and compares.

use axum::body::BodyDataStream;
use futures::{FutureExt, StreamExt};
use serde_json::Value;
use std::collections::BTreeMap;

/// A subscriber and its rows.
pub struct Subscriber {
    pub query: &'static str,
    stream: BodyDataStream,
    buffer: Vec<u8>,
    /// The rows by their labels.
    pub rows: Option<BTreeMap<String, f64>>,
    /// The time up to which the result is complete, ms.
    pub complete: i64,
    pub ended: bool,
}

fn key(labels: &Value) -> String {
    let sorted: BTreeMap<String, Value> = serde_json::from_value(labels.clone()).expect("labels");
    format!("{sorted:?}")
}

fn time(t: &Value) -> i64 {
    (t.as_f64().expect("a time") * 1000.0).round() as i64
}

/// Parses a number as the API writes it.
pub fn value(v: &Value) -> f64 {
    match v.as_str().expect("a value") {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().expect("a number"),
    }
}

impl Subscriber {
    pub fn new(query: &'static str, stream: BodyDataStream) -> Subscriber {
        Subscriber { query, stream, buffer: Vec::new(), rows: None, complete: i64::MIN, ended: false }
    }

    /// Reads until no message is available; returns the number of messages. The server refills its
    /// buffer when there is space.
    pub async fn read(&mut self) -> usize {
        let mut read = 0;
        loop {
            let more = self.read_some();
            if more == 0 {
                return read;
            }
            read += more;
            tokio::task::yield_now().await;
        }
    }

    /// Reads the messages that are available now.
    fn read_some(&mut self) -> usize {
        let mut read = 0;
        while let Some(next) = tokio::task::unconstrained(self.stream.next()).now_or_never() {
            let Some(Ok(bytes)) = next else {
                self.ended = true;
                break;
            };
            self.buffer.extend_from_slice(&bytes);
        }
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let message: Value = serde_json::from_slice(&line).expect("a message");
            self.take(&message);
            read += 1;
        }
        read
    }

    fn take(&mut self, message: &Value) {
        let (event, body) = message.as_object().and_then(|m| m.iter().next()).expect("one key");
        match event.as_str() {
            "snapshot" => {
                self.rows = Some(BTreeMap::new());
                self.upsert(&body["rows"]);
                self.complete = time(&body["t"]);
            }
            "delta" => {
                self.upsert(&body["upsert"]);
                let rows = self.rows.as_mut().expect("a snapshot comes first");
                for labels in body["remove"].as_array().into_iter().flatten() {
                    let known = rows.remove(&key(labels)).is_some();
                    // If several ticks are merged, a row may have been added and removed.
                    assert!(known || body.get("since").is_some(), "{labels} goes and was not there: {body}");
                }
                self.complete = time(&body["t"]);
            }
            "progress" => self.complete = time(&body["t"]),
            "lost" => self.rows = None,
            "subscribed" | "notes" | "correction" => {}
            "unsubscribed" => self.ended = true,
            other => panic!("{other}: {body}"),
        }
    }

    fn upsert(&mut self, rows: &Value) {
        let mine = self.rows.as_mut().expect("a snapshot comes first");
        for row in rows.as_array().into_iter().flatten() {
            mine.insert(key(&row["labels"]), value(&row["value"]));
        }
    }
}
