//! Tests of the list of subscribers: who is on it, what it was sent, and that an operator can close
//! a connection.

use super::super::subscribe::subscribers;
use super::super::{ApiSettings, StartupGate};
use super::api::request as ask;
use super::live::{connect, hear, options, request, say, start_with, until};
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::AsyncBufReadExt;

#[tokio::test]
async fn who_subscribes_is_listed_until_it_goes() {
    let running = start_with(options(10), ApiSettings::default()).await;
    let mut socket = connect(&running).await;
    say(&mut socket, json!({"subscribe": {"id": "a", "query": "up", "envelope": "indexed"}})).await;
    say(&mut socket, json!({"subscribe": {"id": "t", "topic": "rules"}})).await;
    for _ in 0..2 {
        hear(&mut socket).await;
    }
    let mut lines = request(&running, "/api/v1/subscribe?query=up&format=ndjson&name=a+script").await;
    let mut line = String::new();
    while !line.contains("subscribed") {
        line.clear();
        lines.read_line(&mut line).await.unwrap();
    }
    let list = || async { ask(&running.state, "GET", "/api/v1/subscriptions", &[], "").await.json() };
    let told = list().await["data"]["sockets"].clone();
    let transports: Vec<&Value> = told.as_array().unwrap().iter().map(|one| &one["transport"]).collect();
    assert_eq!(transports, [&json!("websocket"), &json!("ndjson")]);
    assert_eq!((&told[1]["name"], &told[1]["since"]), (&json!("a script"), &json!(1000.123)));
    assert!(told[0]["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{told}");
    let [query, topic] = [0, 1].map(|i| told[0]["subscriptions"][i].clone());
    assert_eq!(
        (&query["query"], &query["envelope"], &query["backpressure"]),
        (&json!("up"), &json!("indexed"), &json!("conflate"))
    );
    assert!(query["sent"].as_u64() > Some(0) && query["bytes"].as_u64() > Some(10), "{query}");
    assert_eq!((&topic["query"], topic.get("view")), (&json!("rules"), None));
    say(&mut socket, json!({"unsubscribe": "a"})).await;
    while hear(&mut socket).await.get("unsubscribed").is_none() {}
    let left = list().await["data"]["sockets"][0]["subscriptions"].clone();
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");
    drop(lines);
    drop(socket);
    until("nobody is listed", || subscribers::count(&running.state) == 0).await;
}

#[tokio::test]
async fn an_operator_closes_a_connection() {
    let settings = ApiSettings { admin: true, ..ApiSettings::default() };
    let running = start_with(options(10), settings).await;
    let mut socket = connect(&running).await;
    say(&mut socket, json!({"subscribe": {"id": "t", "topic": "rules"}})).await;
    hear(&mut socket).await;
    let told = ask(&running.state, "GET", "/api/v1/subscriptions", &[], "").await.json();
    let id = told["data"]["sockets"][0]["id"].as_str().unwrap().to_owned();
    let closed = ask(&running.state, "DELETE", &format!("/api/v1/subscriptions/{id}"), &[], "").await;
    assert_eq!(closed.status.as_u16(), 204);
    while let Some(Ok(message)) = socket.next().await {
        if let tokio_tungstenite::tungstenite::Message::Close(frame) = message {
            assert_eq!(frame.unwrap().reason.as_str(), "closed by the operator");
        }
    }
    until("it is gone", || subscribers::count(&running.state) == 0).await;
    let again = ask(&running.state, "DELETE", &format!("/api/v1/subscriptions/{id}"), &[], "").await;
    assert_eq!((again.status.as_u16(), again.error()), (404, format!("no connection {id:?} subscribes")));
    let plain = start_with(options(10), ApiSettings::default()).await;
    let refused = ask(&plain.state, "DELETE", "/api/v1/subscriptions/s0", &[], "").await;
    assert_eq!(refused.error(), "connections can be closed with --web.enable-admin-api only");
}

#[tokio::test]
async fn a_browser_that_comes_too_early_gets_a_page_that_asks_again() {
    let gate = StartupGate::new("/mon");
    let answer = |path: &'static str, accept: &'static str| {
        let request = Request::builder().uri(path).header("accept", accept).body(Body::empty()).unwrap();
        gate.answer(request)
    };
    let page = answer("/mon/query?g0.expr=up", "text/html,application/xhtml+xml").await;
    assert_eq!((page.status().as_u16(), page.headers()["retry-after"].is_empty()), (503, false));
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let body = to_bytes(page.into_body(), 10_000).await.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("http-equiv=\"refresh\""));
    for (path, accept) in
        [("/mon/api/v1/query", "text/html"), ("/mon/-/ready", "text/html"), ("/mon/query", "*/*")]
    {
        let text = answer(path, accept).await;
        assert_eq!(text.status().as_u16(), 503, "{path}");
        let body = to_bytes(text.into_body(), 10_000).await.unwrap();
        assert_eq!(
            String::from_utf8_lossy(&body),
            "Service Unavailable\nopening the data directory\n",
            "{path}"
        );
    }
}
