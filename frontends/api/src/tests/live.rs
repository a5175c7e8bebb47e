//! Tests of subscriptions, cancellation and shutdown over real sockets.

use super::super::limits::CONFLATE_TICKS;
use super::super::{ApiSettings, AppState, ServeOptions, StartupGate, Timeouts, router, serve};
use super::fakes::{Fakes, job, server};
use engine::live::TapEvent;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub(super) struct RunningServer {
    pub(super) address: SocketAddr,
    pub(super) state: AppState,
    pub(super) fakes: Arc<Fakes>,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) server: JoinHandle<()>,
}

/// The options of a server with this many connections and default timeouts.
pub(super) fn options(max_connections: usize) -> ServeOptions {
    ServeOptions {
        max_connections,
        max_by_address: usize::MAX,
        timeouts: Timeouts::default(),
        protection: None,
    }
}

async fn start(max_connections: usize) -> RunningServer {
    start_with(options(max_connections), ApiSettings::default()).await
}

pub(super) async fn start_with(options: ServeOptions, settings: ApiSettings) -> RunningServer {
    let prefix = settings.web.route_prefix.clone();
    let (state, fakes) = server(settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let gate = StartupGate::new(&prefix);
    gate.open(router(state.clone()), state.clone());
    let metrics = state.sources.metrics.clone();
    let server = tokio::spawn(async move {
        serve(vec![listener.into()], gate, async { drop(stopped.await) }, options, &metrics).await;
    });
    RunningServer { address, state, fakes, stop: Some(stop), server }
}

/// Waits until `done`; panics after five seconds.
pub(super) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

pub(super) async fn request(running: &RunningServer, path: &str) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n");
    socket.write_all(text.as_bytes()).await.unwrap();
    BufReader::new(socket)
}

/// The next line that is neither empty nor the length of a chunk.
async fn line(reader: &mut BufReader<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        let read = tokio::time::timeout(Duration::from_secs(5), reader.read_line(&mut line)).await;
        assert!(read.expect("no line within five seconds").unwrap() > 0, "the stream ended");
        let line = line.trim_end();
        if !line.is_empty() && u64::from_str_radix(line, 16).is_err() {
            return line.to_owned();
        }
    }
}

pub(super) async fn headers(reader: &mut BufReader<TcpStream>) -> String {
    let mut all = String::new();
    while !all.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut all).await.unwrap() > 0);
    }
    all
}

fn snapshot(t: i64) -> TapEvent {
    TapEvent::Snapshot { t, rows: vec![(job("a"), 1.0.into())] }
}

fn delta(t: i64, v: f64) -> TapEvent {
    TapEvent::Delta { t, since: t, upsert: vec![(job("a"), v.into())], remove: vec![job("b")] }
}

#[tokio::test]
async fn server_sent_events() {
    let running = start(10).await;
    let mut reader = request(&running, "/api/v1/subscribe?query=up").await;
    let head = headers(&mut reader).await;
    assert!(head.contains("content-type: text/event-stream") && !head.contains("content-encoding"), "{head}");
    assert_eq!(line(&mut reader).await, "event: subscribed");
    assert_eq!(
        line(&mut reader).await,
        r#"data: {"subscribed":{"id":"query","query":"up","type":"vector","schema":{"labels":null,"value":"float64"},"plan":"select"}}"#
    );
    for event in [snapshot(1_000), TapEvent::Progress { t: 1_000 }] {
        assert_eq!(running.fakes.views.push(&event), 1);
    }
    assert_eq!(line(&mut reader).await, "event: snapshot");
    let row = r#"{"labels":{"__name__":"up","job":"a"},"value":"1"}"#;
    assert_eq!(
        line(&mut reader).await,
        format!(r#"data: {{"snapshot":{{"id":"query","t":1,"rows":[{row}]}}}}"#)
    );
    assert_eq!(line(&mut reader).await, "event: progress");
    assert_eq!(line(&mut reader).await, r#"data: {"progress":{"id":"query","t":1}}"#);
    running.fakes.views.push(&TapEvent::Failed { t: 2_000, error: "many-to-many".into() });
    assert_eq!(line(&mut reader).await, "event: error");
    assert_eq!(
        line(&mut reader).await,
        r#"data: {"error":{"id":"query","errorType":"execution","error":"many-to-many","t":2}}"#
    );
    drop(reader);
    until("the tap ends with its client", || running.fakes.views.taps() == 0).await;
    until("it is no longer counted", || running.state.telemetry.subscriptions.get() == 0.0).await;
}

#[tokio::test]
async fn ndjson_with_differences() {
    let running = start(10).await;
    let mut reader = request(&running, "/api/v1/subscribe?query=up&format=ndjson&envelope=diff&id=z").await;
    assert!(headers(&mut reader).await.contains("content-type: application/x-ndjson"));
    assert!(line(&mut reader).await.starts_with(r#"{"subscribed":{"id":"z","#));
    running.fakes.views.push(&snapshot(1_000));
    let first: Value = serde_json::from_str(&line(&mut reader).await).unwrap();
    assert_eq!(first["snapshot"]["rows"][0]["diff"], 1);
    running.fakes.views.push(&delta(2_000, 5.0));
    let second: Value = serde_json::from_str(&line(&mut reader).await).unwrap();
    let rows = second["delta"]["rows"].as_array().unwrap();
    let shown: Vec<_> =
        rows.iter().map(|r| (r["value"].as_str().unwrap(), r["diff"].as_i64().unwrap())).collect();
    assert_eq!(shown, [("1", -1), ("5", 1)]);
}

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(super) async fn connect(running: &RunningServer) -> Socket {
    connect_async(format!("ws://{}/api/v1/subscribe", running.address)).await.unwrap().0
}

pub(super) async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::Text(message.to_string().into())).await.unwrap();
}

/// The next text message.
pub(super) async fn hear(socket: &mut Socket) -> Value {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(5), socket.next()).await;
        match message.expect("no message within five seconds") {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("not a text: {other:?}"),
        }
    }
}

#[tokio::test]
async fn many_subscriptions_over_one_socket() {
    let running = start(10).await;
    let mut socket = connect(&running).await;
    say(&mut socket, json!({"subscribe": {"id": "a", "query": "up"}})).await;
    assert_eq!(hear(&mut socket).await["subscribed"]["id"], "a");
    say(&mut socket, json!({"subscribe": {"id": "b", "query": "up", "backpressure": "buffer", "buffer": 3}}))
        .await;
    assert_eq!(hear(&mut socket).await["subscribed"]["id"], "b");
    assert_eq!(*running.fakes.views.installed.lock(), ["up"], "equal subscriptions share one view");
    assert_eq!(running.fakes.views.push(&snapshot(1_000)), 2);
    let ids = [hear(&mut socket).await, hear(&mut socket).await].map(|m| m["snapshot"]["id"].clone());
    assert_eq!(ids, ["a", "b"]);

    say(&mut socket, json!({"subscribe": {"id": "a", "query": "x"}})).await;
    assert_eq!(
        hear(&mut socket).await,
        json!({"error": {"id": "a", "errorType": "bad_data", "error": "invalid parameter \"id\": \"a\" is already subscribed"}})
    );
    say(&mut socket, json!({"subscribe": {"id": "c", "query": "sum("}})).await;
    let error = hear(&mut socket).await;
    assert_eq!(
        error["error"]["error"],
        "invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"
    );
    say(&mut socket, json!({"subscribe": {"id": "c", "query": "never"}})).await;
    assert_eq!(hear(&mut socket).await["error"]["error"], "this cannot stand");
    say(&mut socket, json!({"hello": 1})).await;
    assert!(
        hear(&mut socket).await["error"]["error"].as_str().unwrap().starts_with("cannot read the message")
    );

    say(&mut socket, json!({"unsubscribe": "a"})).await;
    assert_eq!(hear(&mut socket).await, json!({"unsubscribed": {"id": "a"}}));
    until("one tap is left", || running.fakes.views.taps() == 1).await;
    running.fakes.views.push(&delta(2_000, 5.0));
    let delta = hear(&mut socket).await;
    assert_eq!(delta["delta"]["id"], "b");
    assert_eq!(delta["delta"]["remove"], json!([{"__name__": "up", "job": "b"}]));
}

#[tokio::test]
async fn a_lagging_client_is_told_and_gets_a_fresh_snapshot() {
    let running = start(10).await;
    let mut socket = connect(&running).await;
    say(&mut socket, json!({"subscribe": {"id": "a", "query": "up"}})).await;
    hear(&mut socket).await;
    let views = &running.fakes.views;
    views.push(&snapshot(1_000));
    // There is no await between the pushes, so the client's task cannot keep up.
    let taken = (0..).take_while(|i| views.push(&delta(2_000 + i, *i as f64)) == 1).count();
    assert!(taken >= CONFLATE_TICKS - 1, "{taken}");
    until("it taps anew", || views.taps() == 1).await;
    views.push(&TapEvent::Snapshot { t: 9_000, rows: vec![(job("a"), 7.0.into())] });
    let lost = hear(&mut socket).await;
    assert_eq!((&lost["lost"]["from"], &lost["lost"]["to"]), (&json!(1), &json!(9)));
    assert_eq!(hear(&mut socket).await["snapshot"]["rows"][0]["value"], "7");
    views.push(&delta(9_500, 8.0));
    assert_eq!(hear(&mut socket).await["delta"]["upsert"][0]["value"], "8");
}

#[tokio::test]
async fn the_policy_close_closes() {
    let running = start(10).await;
    let mut socket = connect(&running).await;
    say(&mut socket, json!({"subscribe": {"id": "a", "query": "up", "backpressure": "close", "buffer": 2}}))
        .await;
    hear(&mut socket).await;
    while running.fakes.views.push(&delta(2_000, 1.0)) == 1 {}
    let error = hear(&mut socket).await;
    assert_eq!(error["error"]["errorType"], "canceled");
    assert_eq!(hear(&mut socket).await, json!({"unsubscribed": {"id": "a", "reason": "slow"}}));
    until("it is no longer counted", || running.state.telemetry.subscriptions.get() == 0.0).await;
}

#[tokio::test]
async fn a_query_ends_with_its_client() {
    let running = start(10).await;
    let reader = request(&running, "/api/v1/query?query=slow").await;
    until("the query runs", || running.state.telemetry.queries.get() == 1.0).await;
    drop(reader);
    until("the query is told to stop", || running.fakes.cancelled.load(SeqCst)).await;
    until("it is no longer counted", || running.state.telemetry.queries.get() == 0.0).await;
}

#[tokio::test]
async fn stopping_ends_streams_and_listeners() {
    let mut running = start(10).await;
    let mut reader = request(&running, "/api/v1/subscribe?query=up").await;
    assert!(headers(&mut reader).await.starts_with("HTTP/1.1 200 OK"));
    let mut socket = connect(&running).await;
    running.stop.take().unwrap().send(()).unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), reader.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&rest).ends_with("0\r\n\r\n"), "the stream ends in order");
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(Some(_))))));
    drop((reader, socket));
    tokio::time::timeout(Duration::from_secs(5), running.server).await.unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}
