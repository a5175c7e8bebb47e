//! Tests saved queries of a running server: created, listed, subscribed, deleted, and restored
//! after kill -9.

use crate::support::exporter::Exporter;
use crate::support::server::Server;
use crate::support::{eventually, http, wall_clock};
use serde_json::{Value, json};
use std::io::BufRead;

const OPEN: &[&str] = &["--web.enable-admin-api"];

fn start(flags: &[&str]) -> (Server, Exporter) {
    let exporter = Exporter::start("orders{shop=\"a\"} 3\norders{shop=\"b\"} 4\n");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         scrape_configs:\n- job_name: shops\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter.port
    );
    let server = Server::start_with(&config, &[], flags);
    server.wait_rows("orders", 2);
    (server, exporter)
}

fn change(server: &Server, method: &str, name: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let path = format!("/api/v1/views/{name}");
    let answer = http::send(server.port, method, &path, &[], body.as_bytes()).expect("an answer");
    (answer.status, answer.json())
}

/// The rows of a result as (shop, value).
fn result(server: &Server, name: &str) -> Vec<(String, String)> {
    let data = server.api(&format!("/api/v1/views/{name}/result"));
    let rows = data["result"].as_array().unwrap_or_else(|| panic!("no rows: {data}"));
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(&row["metric"]["shop"]), text(&row["value"][1]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn a_query_stands_from_put_to_delete_and_over_kill() {
    wall_clock(|| {
        let (mut server, exporter) = start(OPEN);
        let dear = json!({"query": "orders > 3"});
        assert_eq!(change(&server, "PUT", "dear", &dear).0, 201);
        let total =
            json!({"query": "sum(orders)", "record": "orders:sum", "labels": {"team": "x"}, "interval": 1});
        assert_eq!(change(&server, "PUT", "total", &total).0, 201);
        assert_eq!(result(&server, "dear"), pairs(&[("b", "4")]));
        server.wait_rows("orders:sum{team=\"x\"} == 7", 1);
        let view = server.api("/api/v1/views/total");
        for (key, expected) in
            [("query", json!("sum(orders)")), ("record", json!("orders:sum")), ("health", json!("ok"))]
        {
            assert_eq!(view[key], expected, "{key} of {view}");
        }
        assert!(view["stateBytes"]["total"].as_u64() > view["rings"][0]["bytes"].as_u64(), "{view}");
        let shown = format!("/api/v1/views/{}", view["id"].as_str().expect("an id"));
        eventually("its work is measured", 60, || {
            let view = server.api(&shown);
            let measured =
                view["cpuSeconds"].as_f64() > Some(0.0) && view["evaluationSeconds"].as_f64() > Some(0.0);
            if measured { Ok(()) } else { Err(view.to_string()) }
        });

        server.kill();
        server.run();
        exporter.set("orders{shop=\"a\"} 5\norders{shop=\"b\"} 4\n");
        eventually("the new values are in the result", 60, || {
            let found = result(&server, "dear");
            if found == pairs(&[("a", "5"), ("b", "4")]) { Ok(()) } else { Err(format!("{found:?}")) }
        });
        server.wait_rows("orders:sum{team=\"x\"} == 9", 1);
        assert_eq!(change(&server, "PUT", "dear", &dear).1["data"]["change"], "unchanged");
        assert_eq!(change(&server, "DELETE", "total", &Value::Null).0, 200);
        // The recorded series ends with the query.
        server.wait_rows("orders:sum", 0);

        server.kill();
        server.run();
        let names = |page: Value| -> Vec<Value> {
            page["views"].as_array().expect("a list").iter().map(|view| view["name"].clone()).collect()
        };
        assert_eq!(names(server.api("/api/v1/views")), [json!("dear")]);
    });
}

#[test]
fn subscribers_follow_a_standing_query_until_it_goes() {
    wall_clock(|| {
        let (server, exporter) = start(OPEN);
        assert_eq!(change(&server, "PUT", "dear", &json!({"query": "orders > 3"})).0, 201);
        let mut lines = http::stream(server.port, "/api/v1/subscribe?view=dear&format=ndjson", &[]);
        let mut next = |kind: &str| -> Value {
            for _ in 0..400 {
                let mut line = String::new();
                assert!(lines.read_line(&mut line).expect("a line") > 0, "the stream ended before {kind}");
                let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
                if let Some(content) = message.get(kind) {
                    return content.clone();
                }
            }
            panic!("no {kind}");
        };
        assert_eq!(next("subscribed")["query"], "orders > 3");
        assert_eq!(next("snapshot")["rows"][0]["value"], "4");
        exporter.set("orders{shop=\"a\"} 3\norders{shop=\"b\"} 8\n");
        assert_eq!(next("delta")["upsert"][0]["value"], "8");
        assert_eq!(change(&server, "DELETE", "dear", &Value::Null).0, 200);
        next("unsubscribed");
        let both = server.get("/api/v1/subscribe?view=dear&query=up");
        assert_eq!(both.status, 400, "{}", both.text());
        assert_eq!(server.get("/api/v1/subscribe?view=dear").status, 404);
    });
}

#[test]
fn a_server_is_not_changed_by_default() {
    wall_clock(|| {
        let (server, _exporter) = start(&[]);
        let (status, answer) = change(&server, "PUT", "dear", &json!({"query": "orders > 3"}));
        assert_eq!((status, &answer["errorType"]), (500, &json!("unavailable")), "{answer}");
        assert_eq!(server.api("/api/v1/views")["total"], json!(0));
    });
}
