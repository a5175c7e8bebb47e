//! Tests connections over real sockets: clients that are slow, idle, half closed or too many, and
//! requests that pages of other sites cause. Timeouts are short enough for a test.

use super::super::limits::{DISPLACE_AFTER, RESERVE_CONNECTIONS};
use super::super::{ApiSettings, ServeOptions, Timeouts, WebSettings, acting_origin};
use super::live::{RunningServer, connect, headers, hear, options, request, say, start_with, until};
use engine::live::TapEvent;
use futures::StreamExt;
use serde_json::json;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use storage::model::Labels;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);
/// More than any of these tests needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Timeouts that no test reaches.
const NEVER: Timeouts = Timeouts { headers: LONG, read: LONG, stall: LONG, drain: SHORT };

async fn start(max_connections: usize, timeouts: Timeouts) -> RunningServer {
    start_with(ServeOptions { timeouts, ..options(max_connections) }, ApiSettings::default()).await
}

/// A connection on which `text` was sent.
async fn sent(running: &RunningServer, text: &str) -> TcpStream {
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    socket
}

/// Reads until the server closes the connection.
async fn rest(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // An error means that the connection was reset, so it is closed too.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut all)).await.expect("it is still open");
    String::from_utf8_lossy(&all).into_owned()
}

fn metric(running: &RunningServer, line: &str) -> f64 {
    let text = running.state.sources.metrics.render();
    let value = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_else(|| panic!("no {line}"));
    value.trim().parse().unwrap()
}

fn closed(running: &RunningServer, reason: &str) -> f64 {
    metric(running, &format!("perennial_http_connections_closed_total{{reason=\"{reason}\"}}"))
}

fn open(running: &RunningServer) -> f64 {
    metric(running, "perennial_http_connections{slots=\"ordinary\"}")
}

#[tokio::test]
async fn headers_must_be_complete_in_time() {
    let running = start(10, Timeouts { headers: SHORT, ..NEVER }).await;
    let half = [
        "",
        "GET /-/hea",
        "GET /-/healthy HTTP/1.1\r\nHost: x\r\n",
        "PRI * HT",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for text in half {
        let mut socket = sent(&running, text).await;
        let began = Instant::now();
        rest(&mut socket).await;
        assert!(began.elapsed() < LONG / 2, "{text:?}");
    }
    assert_eq!(closed(&running, "headers"), half.len() as f64);
    // Headers that trickle in are overdue too, and so are those of a second request on a
    // connection.
    let mut socket = sent(&running, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut reader = BufReader::new(&mut socket);
    let mut answer = [0; 12];
    reader.read_exact(&mut answer).await.unwrap();
    sleep(2 * SHORT).await;
    let dripped = async {
        for byte in b"GET /-/healthy HTTP/1.1\r\nX: 1234567890\r\n" {
            if socket.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(SHORT / 5).await;
        }
        rest(&mut socket).await;
    };
    timeout(PATIENCE, dripped).await.unwrap();
    assert_eq!(closed(&running, "headers"), half.len() as f64 + 1.0);
    until("no connection is left", || open(&running) == 0.0).await;
}

#[tokio::test]
async fn headers_are_bounded() {
    let running = start(10, NEVER).await;
    let many: String = (0..200).map(|i| format!("X-{i}: 1\r\n")).collect();
    let long = format!("X: {}\r\n", "a".repeat(1 << 20));
    for extra in [many, long] {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        // The server may close the connection during the write.
        let _ = socket.write_all(format!("GET /-/healthy HTTP/1.1\r\n{extra}\r\n").as_bytes()).await;
        let answer = rest(&mut socket).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    let long_query = format!("GET /-/healthy?x={} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(60_000));
    let mut reader = BufReader::new(sent(&running, &long_query).await);
    assert!(headers(&mut reader).await.starts_with("HTTP/1.1 200"), "a long query is not too long");
}

#[tokio::test]
async fn bodies_and_idle_connections_have_the_read_timeout() {
    let running = start(10, Timeouts { read: SHORT, ..NEVER }).await;
    let head =
        "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let mut socket = sent(&running, &format!("{head}Content-Length: 100\r\n\r\nquery=")).await;
    let dripped = async {
        while socket.write_all(b"1").await.is_ok() {
            let mut byte = [0; 4096];
            if let Ok(n) = timeout(SHORT / 5, socket.read(&mut byte)).await {
                return String::from_utf8_lossy(&byte[..n.unwrap_or(0)]).into_owned();
            }
        }
        String::new()
    };
    let answer = timeout(PATIENCE, dripped).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("(--web.read-timeout)") && answer.contains("connection: close"), "{answer}");
    drop(socket);

    let mut reader = request(&running, "/-/healthy").await;
    assert!(headers(&mut reader).await.starts_with("HTTP/1.1 200"));
    timeout(PATIENCE, reader.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    assert_eq!(closed(&running, "idle"), 1.0);
    until("no connection is left", || open(&running) == 0.0).await;
}

#[tokio::test]
async fn silent_clients_keep_nobody_out() {
    let running = start(20, NEVER).await;
    let mut silent = Vec::new();
    for i in 0..100 {
        silent.push(sent(&running, if i % 2 == 0 { "" } else { "GET /api/v1/query?query=1 HTT" }).await);
    }
    // The idle connections are now old enough to be displaced.
    sleep(DISPLACE_AFTER).await;
    for _ in 0..5 {
        let mut reader = request(&running, "/api/v1/query?query=1").await;
        let head = timeout(PATIENCE, headers(&mut reader)).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    // As many as fitted neither into the slots nor into the reserve.
    let displaced = closed(&running, "displaced");
    assert!(displaced >= (100 - 20 - RESERVE_CONNECTIONS) as f64, "{displaced}");
}

/// Connections whose requests are being answered.
async fn busy(running: &RunningServer, n: usize) -> Vec<BufReader<TcpStream>> {
    let mut busy = Vec::new();
    for _ in 0..n {
        let mut reader = request(running, "/api/v1/subscribe?query=up").await;
        assert!(headers(&mut reader).await.starts_with("HTTP/1.1 200"));
        busy.push(reader);
    }
    busy
}

#[tokio::test]
async fn health_is_answered_when_all_connections_are_in_use() {
    let running = start(3, NEVER).await;
    let mut streams = busy(&running, 3).await;
    for path in ["/-/healthy", "/-/ready", "/metrics"] {
        let mut reader = request(&running, path).await;
        assert!(headers(&mut reader).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    let mut refused = sent(&running, "GET /api/v1/query?query=1 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = rest(&mut refused).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 2"), "{answer}");
    assert!(answer.contains("all 3 connections are in use (--web.max-connections)"), "{answer}");
    assert_eq!(metric(&running, "perennial_http_connections_refused_total"), 1.0);
    streams.pop();
    until("a slot is free", || open(&running) == 2.0).await;
    let mut reader = request(&running, "/api/v1/query?query=1").await;
    assert!(headers(&mut reader).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn one_address_has_a_share() {
    let options = ServeOptions { max_by_address: 2, timeouts: NEVER, ..options(10) };
    let running = start_with(
        options,
        ApiSettings {
            web: WebSettings { route_prefix: "/p".into(), ..WebSettings::default() },
            ..ApiSettings::default()
        },
    )
    .await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut reader = request(&running, "/p/api/v1/subscribe?query=up").await;
        assert!(headers(&mut reader).await.starts_with("HTTP/1.1 200"));
        streams.push(reader);
    }
    let mut refused = sent(&running, "GET /p/api/v1/query?query=1 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = rest(&mut refused).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("--web.max-connections-per-address"),
        "{answer}"
    );
    let mut reader = request(&running, "/p/-/healthy").await;
    assert!(headers(&mut reader).await.starts_with("HTTP/1.1 200"));
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = elsewhere.connect(running.address).await.unwrap();
    other.write_all(b"GET /p/api/v1/query?query=1 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(headers(&mut BufReader::new(other)).await.starts_with("HTTP/1.1 200"), "another address");
}

/// A client with small buffers.
async fn narrow(running: &RunningServer) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(running.address).await.unwrap()
}

/// Pushes large snapshots until no subscription is left.
async fn flood(running: &RunningServer) {
    let label = "x".repeat(10_000);
    let row = |i: usize| (Labels::from_pairs([("i", i.to_string()), ("ballast", label.clone())]), 1.0.into());
    let rows: Vec<_> = (0..100).map(row).collect();
    let mut t = 0;
    until("the stalled subscription is closed", || {
        t += 1_000;
        running.fakes.views.push(&TapEvent::Snapshot { t, rows: rows.clone() }) == 0 && t > 10_000
    })
    .await;
}

#[tokio::test]
async fn a_stalled_reader_of_a_stream_is_closed() {
    let running = start(10, Timeouts { stall: SHORT, ..NEVER }).await;
    for format in ["sse", "ndjson"] {
        let mut socket = narrow(&running).await;
        let path = format!("/api/v1/subscribe?query=up&format={format}&backpressure=buffer&buffer=100");
        socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        until("it is open", || running.fakes.views.taps() == 1).await;
        flood(&running).await;
        until("its connection is closed", || open(&running) == 0.0).await;
    }
    assert_eq!(closed(&running, "stalled"), 2.0);
}

#[tokio::test]
async fn a_stalled_websocket_is_closed() {
    let running = start(10, Timeouts { stall: SHORT, ..NEVER }).await;
    let url = format!("ws://{}/api/v1/subscribe?query=up&backpressure=buffer&buffer=100", running.address);
    let stream = narrow(&running).await;
    let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    until("it is open", || running.fakes.views.taps() == 1).await;
    flood(&running).await;
    until("its connection is closed", || open(&running) == 0.0).await;
    assert_eq!(closed(&running, "stalled"), 1.0);
    drop(socket);
}

#[tokio::test]
async fn a_stalled_reader_of_answers_is_closed() {
    let running = start(10, Timeouts { stall: SHORT, ..NEVER }).await;
    let mut socket = narrow(&running).await;
    let one = "GET /api/v1/query_range?query=up&start=0&end=10000&step=1 HTTP/1.1\r\nHost: x\r\n\r\n";
    // The server reads the next request only after it has written an answer, so it may not read
    // them all.
    let _ = timeout(SHORT / 3, socket.write_all(one.repeat(200).as_bytes())).await;
    until("it is closed", || closed(&running, "stalled") == 1.0).await;
    until("its slot is free", || open(&running) == 0.0).await;
}

#[tokio::test]
async fn whoever_reads_slowly_but_reads_is_served() {
    let running = start(10, Timeouts { stall: SHORT, ..NEVER }).await;
    let mut socket = narrow(&running).await;
    let path = "/api/v1/query_range?query=up&start=0&end=10000&step=1";
    socket
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut all = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        match socket.read(&mut piece).await.unwrap() {
            0 => break,
            n => all.extend_from_slice(&piece[..n]),
        }
        sleep(SHORT / 30).await;
    }
    assert!(all.ends_with(b"0\r\n\r\n"), "{} bytes", all.len());
}

#[tokio::test]
async fn stopping_waits_for_nobody_who_is_silent_or_half_through() {
    let mut running = start(20, NEVER).await;
    let mut reader = request(&running, "/-/healthy").await;
    assert!(headers(&mut reader).await.starts_with("HTTP/1.1 200"));
    let body = "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\nq";
    let mut half = Vec::new();
    for text in ["", "GET /", "GET / HTTP/1.1\r\nHost: x\r\n", "PRI * ", body] {
        half.push(sent(&running, text).await);
    }
    until("all are open", || open(&running) == 6.0).await;
    let began = Instant::now();
    running.stop.take().unwrap().send(()).unwrap();
    timeout(PATIENCE, running.server).await.unwrap().unwrap();
    assert!(began.elapsed() < SHORT + Duration::from_secs(5), "{:?}", began.elapsed());
    for mut socket in half {
        assert_eq!(rest(&mut socket).await, "");
    }
}

#[tokio::test]
async fn stopping_lets_an_answer_be_finished() {
    let mut running = start(20, Timeouts { drain: LONG, ..NEVER }).await;
    let settings = "/api/v1/query?query=slow&timeout=500ms";
    let mut reader = request(&running, settings).await;
    until("the query runs", || running.state.telemetry.queries.get() == 1.0).await;
    running.stop.take().unwrap().send(()).unwrap();
    assert!(headers(&mut reader).await.starts_with("HTTP/1.1 503"), "the answer of a query that timed out");
    timeout(PATIENCE, running.server).await.unwrap().unwrap();
}

/// Pushes snapshots without a break, so that the client's task cannot run in between.
fn push_unread(running: &RunningServer, most: usize) {
    let rows: Vec<_> = (0..100).map(|i| (Labels::from_pairs([("i", i.to_string())]), 1.0.into())).collect();
    let pushed =
        (1..).take_while(|t| running.fakes.views.push(&TapEvent::Snapshot { t: *t, rows: rows.clone() }) > 0);
    assert!(pushed.take(most).count() < most, "nothing bounds what waits");
}

#[tokio::test]
async fn what_waits_for_subscribers_is_bounded_together() {
    let settings = ApiSettings { subscription_buffers: 100_000, ..ApiSettings::default() };
    let running = start_with(options(50), settings).await;
    let mut socket = connect(&running).await;
    let request =
        json!({"subscribe": {"id": "a", "query": "up", "backpressure": "buffer", "buffer": 10_000}});
    say(&mut socket, request.clone()).await;
    assert!(hear(&mut socket).await.get("subscribed").is_some());
    push_unread(&running, 1_000);
    let error = hear(&mut socket).await;
    assert_eq!(error["error"]["errorType"], "unavailable", "{error}");
    assert!(error["error"]["error"].as_str().unwrap().contains("buffers of all subscriptions are full"));
    assert_eq!(hear(&mut socket).await, json!({"unsubscribed": {"id": "a", "reason": "buffers_full"}}));
    assert_eq!(metric(&running, "perennial_subscriptions_ended_total{reason=\"buffers_full\"}"), 1.0);
    until("all of it is free again", || metric(&running, "perennial_subscription_buffer_bytes") == 0.0).await;
    say(&mut socket, request).await;
    assert!(hear(&mut socket).await.get("subscribed").is_some(), "there is a next time");
}

#[tokio::test]
async fn subscriptions_are_refused_while_the_buffers_are_full() {
    let settings = ApiSettings { subscription_buffers: 1, ..ApiSettings::default() };
    let running = start_with(options(50), settings).await;
    let mut socket =
        sent(&running, "GET /api/v1/subscribe?query=up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await;
    let answer = rest(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 2"), "{answer}");
    assert!(answer.contains("--web.max-subscription-buffers"), "{answer}");
    assert_eq!(websocket_of(&running, &format!("http://{}", running.address)).await, Some(503));
    assert_eq!(metric(&running, "perennial_subscriptions_refused_total"), 2.0);
}

/// Headers that a page of another site can make a browser send.
const FOREIGN: [&str; 3] = [
    "Origin: https://evil.example\r\n",
    "Origin: null\r\nSec-Fetch-Site: cross-site\r\n",
    "Sec-Fetch-Site: cross-site\r\n",
];

/// All requests that change something or stream.
const ACTING: [&str; 10] = [
    "POST /-/quit",
    "PUT /-/reload",
    "POST /api/v1/write",
    "POST /api/v1/admin/tsdb/delete_series?match[]=up",
    "PUT /api/v1/admin/tsdb/clean_tombstones",
    "POST /api/v1/admin/tsdb/snapshot",
    "PUT /api/v1/views/a",
    "DELETE /api/v1/views/a",
    "GET /api/v1/subscribe?query=up",
    "GET /api/v1/subscribe?query=up&format=ndjson",
];

async fn status(running: &RunningServer, line: &str, extra: &str) -> String {
    let text = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n{extra}\r\n");
    let mut reader = BufReader::new(sent(running, &text).await);
    headers(&mut reader).await
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing_and_stream_nothing() {
    let settings = ApiSettings { lifecycle: true, admin: true, ..ApiSettings::default() };
    let running = start_with(options(50), settings).await;
    for line in ACTING {
        for from in FOREIGN {
            let head = status(&running, line, from).await;
            assert!(head.starts_with("HTTP/1.1 403"), "{line} {from}: {head}");
        }
    }
    assert!(!running.fakes.quit.load(SeqCst));
    for from in FOREIGN {
        for line in ["GET /api/v1/query?query=1", "POST /api/v1/query?query=1", "GET /api/v1/targets"] {
            assert!(status(&running, line, from).await.starts_with("HTTP/1.1 200"), "reading: {line} {from}");
        }
    }
    for own in ["", "Origin: http://x\r\n", "Origin: http://x\r\nSec-Fetch-Site: same-origin\r\n"] {
        let head = status(&running, "GET /api/v1/subscribe?query=up", own).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{own}: {head}");
    }
    assert!(status(&running, "POST /-/quit", "Origin: http://x\r\n").await.starts_with("HTTP/1.1 200"));
    assert!(running.fakes.quit.load(SeqCst));
}

/// The status with which a websocket of a page of this origin is rejected; `None`: it opens.
async fn websocket_of(running: &RunningServer, origin: &str) -> Option<u16> {
    let mut request = format!("ws://{}/api/v1/subscribe", running.address).into_client_request().unwrap();
    request.headers_mut().insert("origin", origin.parse().unwrap());
    match connect_async(request).await {
        Ok((mut socket, _)) => {
            assert!(timeout(SHORT, socket.next()).await.is_err(), "it stays open");
            None
        }
        Err(Error::Http(response)) => Some(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn websockets_of_other_sites_are_refused_unless_they_are_named() {
    let running = start_with(options(50), ApiSettings::default()).await;
    assert_eq!(websocket_of(&running, "https://evil.example").await, Some(403));
    assert_eq!(websocket_of(&running, &format!("http://{}", running.address)).await, None);
    let named = acting_origin("https://grafana\\.example").unwrap();
    let settings = ApiSettings {
        web: WebSettings { acting_origin: Some(named), ..WebSettings::default() },
        ..ApiSettings::default()
    };
    let running = start_with(options(50), settings).await;
    assert_eq!(websocket_of(&running, "https://evil.example").await, Some(403));
    assert_eq!(websocket_of(&running, "https://grafana.example").await, None);
}

#[tokio::test]
async fn every_answer_has_the_headers_of_security() {
    let running = start(1, NEVER).await;
    let lines = [
        "GET /",
        "GET /-/healthy",
        "GET /no/such",
        "POST /-/quit",
        "GET /api/v1/query?query=sum(",
        "DELETE /metrics",
    ];
    let check = |line: &str, head: &str| {
        for name in [
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: same-origin",
            "cross-origin-opener-policy: same-origin",
            "frame-ancestors 'none'",
        ] {
            assert!(head.contains(name), "{line}: {name} is not in {head}");
        }
        assert_eq!(head.matches("x-content-type-options").count(), 1, "{head}");
    };
    for line in lines {
        let head = status(&running, line, "").await;
        check(line, &head);
        until("it is closed", || open(&running) == 0.0).await;
    }
    let stream = busy(&running, 1).await;
    let head = status(&running, "GET /api/v1/labels", "").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    check("a refusal", &head);
    drop(stream);
}
