//! Tests remote read in both directions: Debian's Prometheus reads our samples, and we read those
//! of Prometheus, of another server of ours, and of servers that fail.

use crate::support::recorder::{Recorder, Reply};
use crate::support::remote_write::{self, Histogram, Series};
use crate::support::server::Server;
use crate::support::{compare, http, now_ms};
use prost::Message;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;

/// A configuration of Prometheus that reads from `port`.
fn reading_from(port: u16) -> String {
    format!("remote_read:\n- {{url: 'http://127.0.0.1:{port}/api/v1/read', read_recent: true}}\n")
}

/// Writes some series with floats and native histograms of ten minutes before `t`.
fn write_history(server: &Server, t: i64) {
    let mut series = Vec::new();
    for n in 0..20 {
        let samples =
            (0..300).map(|i| (t - 600_000 + i * 2_000 + n % 3, (i * (n + 1)) as f64 / 3.0)).collect();
        series.push(Series::new("history", &[("n", &n.to_string())], samples));
    }
    let mut native = Series::new("native", &[], Vec::new());
    for i in 0..100u64 {
        let histogram = Histogram {
            schema: 1,
            zero_threshold: 0.01,
            zero: i,
            sum: i as f64 * 1.5,
            positive: BTreeMap::from([(0, 3 * i), (1, i + 1), (7, i / 2)]),
            negative: BTreeMap::new(),
        };
        native.histograms.push((t - 300_000 + i as i64 * 3_000, histogram));
    }
    series.push(native);
    let answer = remote_write::write(server.port, &series).expect("an answer");
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[test]
fn prometheus_reads_our_samples() {
    let ours = Server::start("global: {external_labels: {cluster: c1}}\n", &[]);
    let t = now_ms() - 1_000;
    write_history(&ours, t);
    // Debian's Prometheus takes no native histograms by remote read: that came with 2.44.
    let theirs = Server::prometheus(&reading_from(ours.port));
    let queries = ["history", "sum by (n) (rate(history[5m]))", "count_over_time(history{n=~\"1.*\"}[10m])"];
    for query in queries {
        // Between samples: versions differ in whether a window has its first instant.
        let t = t - 1;
        let here = ours.query_at(query, t);
        assert!(!here["result"].as_array().expect("rows").is_empty(), "{query} has no rows here");
        let text = theirs.query_at(query, t).to_string();
        let text = text.replace("\"cluster\":\"c1\",", "").replace(",\"cluster\":\"c1\"", "");
        let there = serde_json::from_str(&text).expect("JSON");
        assert_eq!(compare::difference(&here, &there), None, "{query}");
    }
    let metrics = theirs.get("/metrics").text();
    assert!(metrics.contains("prometheus_remote_storage_read_queries_total"), "it was asked");
}

#[derive(Clone, PartialEq, Message)]
struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<ReadQuery>,
    /// 0: samples, 1: a stream of chunks.
    #[prost(int32, repeated, tag = "2")]
    accepted: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct ReadQuery {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    end: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<Matcher>,
}

#[derive(Clone, PartialEq, Message)]
struct Matcher {
    /// 2: a regular expression.
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    series: Vec<ReadSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct ReadSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<ReadSample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<ReadHistogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ReadSample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    t: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ReadHistogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(int64, tag = "15")]
    t: i64,
}

/// Who asks for no stream gets all samples in one message.
#[test]
fn one_message_has_all_samples() {
    let ours = Server::start("global: {external_labels: {cluster: c1, n: never}}\n", &[]);
    let t = now_ms() - 1_000;
    write_history(&ours, t);
    for accepted in [Vec::new(), vec![0], vec![7, 0]] {
        let matcher = |name: &str, value: &str| Matcher { kind: 2, name: name.into(), value: value.into() };
        let history = vec![matcher("__name__", "history"), matcher("n", "1.*")];
        let queries = [history, vec![matcher("__name__", "native")]];
        let query = |matchers| ReadQuery { start: t - 300_000, end: t - 100_000, matchers };
        let request = ReadRequest { queries: queries.into_iter().map(query).collect(), accepted };
        let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("short");
        let answer = http::send(ours.port, "POST", "/api/v1/read", &[], &body).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = snap::raw::Decoder::new().decompress_vec(&answer.body).expect("snappy");
        let response = ReadResponse::decode(&*body).expect("a message");
        let [history, native] = &response.results[..] else { panic!("{} results", response.results.len()) };
        assert_eq!(history.series.len(), 11, "n is 1 or 10 to 19");
        for series in &history.series {
            let label = |name: &str| series.labels.iter().find(|l| l.name == name).map(|l| l.value.as_str());
            assert_eq!(label("cluster"), Some("c1"));
            let n: i64 = label("n").and_then(|n| n.parse().ok()).expect("the own label of the series");
            let all = (0..300).map(|i| ReadSample {
                t: t - 600_000 + i * 2_000 + n % 3,
                value: (i * (n + 1)) as f64 / 3.0,
            });
            let expected: Vec<ReadSample> =
                all.filter(|s| (t - 300_000..=t - 100_000).contains(&s.t)).collect();
            assert_eq!(series.samples, expected, "{n}");
        }
        let [native] = &native.series[..] else { panic!("{} series", native.series.len()) };
        assert_eq!((native.samples.len(), native.histograms.len()), (0, 67));
        for (i, histogram) in native.histograms.iter().enumerate() {
            let n = i as u64;
            assert_eq!(histogram.t, t - 300_000 + i as i64 * 3_000);
            assert_eq!((histogram.count, histogram.sum), (n + 3 * n + n + 1 + n / 2, n as f64 * 1.5));
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Frame {
    #[prost(message, repeated, tag = "1")]
    series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    query: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(int64, tag = "1")]
    from: i64,
    #[prost(int64, tag = "2")]
    to: i64,
    /// 1: XOR; 2: a native histogram.
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(bytes, tag = "4")]
    data: Vec<u8>,
}

/// CRC32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// The frames of a stream: a length, a checksum and a message each.
fn frames(mut body: &[u8]) -> Vec<Frame> {
    let mut all = Vec::new();
    while !body.is_empty() {
        let length = prost::decode_length_delimiter(&mut body).expect("a length");
        let (sum, rest) = body.split_at(4);
        let (message, rest) = rest.split_at(length);
        assert_eq!(sum, crc32c(message).to_be_bytes(), "the checksum");
        all.push(Frame::decode(message).expect("a message"));
        body = rest;
    }
    all
}

/// What a sidecar of Thanos asks a Prometheus for: the labels that all series get, flags, and
/// samples as a stream of chunks, one series after the other, sorted by labels.
#[test]
fn a_sidecar_of_thanos_finds_what_it_asks_for() {
    let ours = Server::start("global: {external_labels: {cluster: c1}}\n", &[]);
    let t = now_ms() - 1_000;
    write_history(&ours, t);
    let config = ours.api("/api/v1/status/config");
    assert!(
        config["yaml"].as_str().expect("a text").contains("  external_labels:\n    cluster: c1\n"),
        "{config}"
    );
    let flags = ours.api("/api/v1/status/flags");
    for flag in [
        "storage.tsdb.path",
        "storage.tsdb.min-block-duration",
        "storage.tsdb.max-block-duration",
        "web.enable-admin-api",
    ] {
        assert!(flags[flag].is_string(), "{flag}: {flags}");
    }
    assert!(ours.api("/api/v1/status/buildinfo")["version"].is_string());
    // As the sidecar sends it: without the matchers of external labels, a stream of chunks wanted.
    let matcher = |name: &str, value: &str| Matcher { kind: 2, name: name.into(), value: value.into() };
    let queries =
        vec![ReadQuery { start: t - 300_000, end: t, matchers: vec![matcher("__name__", "history|native")] }];
    let request = ReadRequest { queries, accepted: vec![1] };
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("short");
    let head = [
        ("Content-Encoding", "snappy"),
        ("Content-Type", "application/x-protobuf"),
        ("User-Agent", "thanos"),
        ("X-Prometheus-Remote-Read-Version", "0.1.0"),
    ];
    let answer = http::send(ours.port, "POST", "/api/v1/read", &head, &body).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Clients in Go accept gzip unless they are told otherwise. A broken stream has no end.
    let mut packed_head = head.to_vec();
    packed_head.push(("Accept-Encoding", "gzip"));
    let packed = http::send(ours.port, "POST", "/api/v1/read", &packed_head, &body).expect("a packed answer");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).expect("gzip to its end");
    assert_eq!(unpacked, answer.body);
    let series: Vec<ChunkedSeries> =
        frames(&answer.body).into_iter().flat_map(|frame| frame.series).collect();
    let labels: Vec<Vec<(&str, &str)>> = series
        .iter()
        .map(|one| one.labels.iter().map(|l| (l.name.as_str(), l.value.as_str())).collect())
        .collect();
    let mut sorted = labels.clone();
    sorted.sort();
    assert_eq!(labels, sorted, "sorted series");
    assert_eq!(labels.len(), 21);
    for (series, labels) in series.iter().zip(&labels) {
        assert!(labels.is_sorted() && labels.contains(&("cluster", "c1")), "{labels:?}");
        let is_native = labels.contains(&("__name__", "native"));
        let mut num_samples = 0;
        for chunk in &series.chunks {
            assert_eq!(chunk.kind, if is_native { 2 } else { 1 });
            assert!(chunk.from <= chunk.to && (t - 300_000..=t).contains(&chunk.from), "{chunk:?}");
            num_samples += usize::from(u16::from_be_bytes([chunk.data[0], chunk.data[1]]));
        }
        // Of ten minutes half, one more at the border for those whose times lie there.
        let expected = if is_native { 100..=100 } else { 149..=151 };
        assert!(expected.contains(&num_samples), "{num_samples} of {labels:?}");
    }
}

#[test]
fn a_wrong_remote_read_is_an_error() {
    let ours = Server::start_with("", &[], &["--storage.remote.read-sample-limit=100"]);
    let t = now_ms() - 1_000;
    write_history(&ours, t);
    let answer = http::send(ours.port, "POST", "/api/v1/read", &[], b"nonsense").expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.text());
    // All samples of `history` as one message: more than the limit.
    let matcher = [&[0x12, 8][..], b"__name__", &[0x1a, 7], b"history"].concat();
    let mut query = vec![0x08, 0, 0x10];
    query.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0x3f]);
    query.push(0x1a);
    query.push(matcher.len() as u8);
    query.extend(&matcher);
    let message = [&[0x0a, query.len() as u8][..], &query].concat();
    let body = snap::raw::Encoder::new().compress_vec(&message).expect("short");
    let answer = http::send(ours.port, "POST", "/api/v1/read", &[], &body).expect("an answer");
    assert_eq!((answer.status, answer.text().trim()), (400, "exceeded sample limit (100)"));
}

/// The content type of a stream of frames.
const FRAMES: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// The warnings of an answer of the API.
fn warnings(server: &Server, path: &str) -> Vec<String> {
    let answer = server.get(path).json();
    assert_eq!(answer["status"], "success", "{path}: {answer}");
    let lines = answer["warnings"].as_array().cloned().unwrap_or_default();
    lines.iter().map(|line| line.as_str().expect("a text").to_owned()).collect()
}

fn query_path(query: &str, t: i64) -> String {
    format!("/api/v1/query?query={}&time={}", http::encode(query), t as f64 / 1000.0)
}

/// A series of the own store of the server under test, which others have, too, but for newer
/// samples.
fn write_recent(server: &Server, t: i64) {
    let samples = (0..30).map(|i| (t - 60_000 + i * 2_000, 1e6 + i as f64)).collect();
    let series = [Series::new("history", &[("n", "0")], samples), Series::new("own", &[], vec![(t, 7.0)])];
    assert_eq!(remote_write::write(server.port, &series).expect("an answer").status, 204);
}

fn rows(server: &Server, query: &str, t: i64) -> Vec<Value> {
    server.query_at(query, t)["result"].as_array().expect("rows").clone()
}

#[test]
fn we_read_the_samples_of_prometheus() {
    let t = now_ms() - 1_000;
    let labelled = "global: {external_labels: {cluster: c1}}\n";
    let theirs = Server::prometheus(labelled);
    write_history_floats(&theirs, t);
    let ours = Server::start(&format!("{labelled}{}", reading_from(theirs.port)), &[]);
    write_recent(&ours, t);
    let queries = [
        "history{n!=\"0\"}",
        "sum by (n) (rate(history{n!=\"0\"}[5m]))",
        "count_over_time(history{n=~\"1.+\"}[10m])",
        "history{n=\"3\"}[1m]",
        "max_over_time(sum(history{n!=\"0\"})[5m:30s])",
        "history{n=\"4\"} @ end() - history{n=\"4\"} offset 2m",
    ];
    for query in queries {
        // Between samples: versions differ in whether a window has its first instant.
        let t = t - 1;
        let there = theirs.query_at(query, t);
        assert!(!there["result"].as_array().expect("rows").is_empty(), "{query} has no rows there");
        assert_eq!(compare::difference(&ours.query_at(query, t), &there), None, "{query}");
        let range = |server: &Server| server.query_range("sum(history{n!=\"0\"})", t - 500_000, t, 15_000);
        assert_eq!(compare::difference(&range(&ours), &range(&theirs)), None);
    }
    // Of the same series the own samples win, and older ones come from there.
    let own = rows(&ours, "history{n=\"0\"}", t);
    assert_eq!(own[0]["value"][1], "1000029");
    assert_eq!(rows(&ours, "count_over_time(history{n=\"0\"}[10m])", t).len(), 1);
    let before = rows(&ours, "history{n=\"0\"}", t - 120_000);
    assert_eq!(before[0]["value"], rows(&theirs, "history{n=\"0\"}", t - 120_000)[0]["value"]);
    // Series are those of both; names and values are the own ones, with a warning.
    let path = format!("/api/v1/series?match[]=history&start={}&end={}", (t - 600_000) / 1000, t / 1000);
    assert_eq!(ours.api(&path).as_array().expect("series").len(), 20);
    assert_eq!(warnings(&ours, &path), [""; 0]);
    assert_eq!(warnings(&ours, "/api/v1/labels"), ["not implemented"]);
    assert_eq!(warnings(&ours, "/api/v1/label/n/values"), ["not implemented"]);
    let metrics = ours.get("/metrics").text();
    let counted = "prometheus_remote_read_client_queries_total{code=\"200\",remote_name=";
    assert!(metrics.contains(counted) && metrics.contains("response_type=\"chunked\""), "{metrics}");
}

/// Floats only: Debian's Prometheus takes no native histograms by remote write.
fn write_history_floats(server: &Server, t: i64) {
    let samples =
        |n: i64| (0..300).map(move |i| (t - 600_000 + i * 2_000 + n % 3, (i * (n + 1)) as f64 / 3.0));
    let series: Vec<Series> =
        (0..20).map(|n| Series::new("history", &[("n", &n.to_string())], samples(n).collect())).collect();
    assert_eq!(remote_write::write(server.port, &series).expect("an answer").status, 204);
}

#[test]
fn we_read_our_own_kind_with_histograms() {
    let t = now_ms() - 1_000;
    let theirs = Server::start("", &[]);
    write_history(&theirs, t);
    // Also without `read_recent`: a server without blocks has nothing for certain.
    for keys in ["read_recent: true", "remote_timeout: 10s"] {
        let config =
            format!("remote_read:\n- {{url: 'http://127.0.0.1:{}/api/v1/read', {keys}}}\n", theirs.port);
        let ours = Server::start(&config, &[]);
        write_recent(&ours, t);
        for query in ["native", "rate(native[2m])", "histogram_quantile(0.9, native)", "history{n=\"7\"}"] {
            let there = theirs.query_at(query, t);
            assert_eq!(there["result"].as_array().expect("rows").len(), 1, "{query}");
            assert_eq!(ours.query_at(query, t), there, "{query}");
        }
        assert_eq!(rows(&ours, "own", t).len(), 1);
    }
}

#[test]
fn only_selectors_with_the_required_matchers_are_asked() {
    let asked = Recorder::start(|_| Reply { content_type: FRAMES, ..Reply::new("200 OK", "") });
    let entry = format!("url: 'http://127.0.0.1:{}/api/v1/read', read_recent: true", asked.port);
    let config = format!(
        "global: {{external_labels: {{cluster: c1}}}}\nremote_read:\n- {{{entry}, required_matchers: {{job: a}}, headers: {{X-Scope: me}}}}\n"
    );
    let ours = Server::start(&config, &[]);
    let t = now_ms();
    for query in ["up", "up{job=\"b\"}", "up{job=~\"a|b\"}", "1 + 1"] {
        rows_or_scalar(&ours, query, t);
    }
    assert_eq!(asked.seen().len(), 0);
    rows_or_scalar(&ours, "up{job=\"a\"} + on () up{job=\"b\"}", t);
    let seen = asked.seen();
    assert_eq!(seen.len(), 1);
    let headers = &seen[0].headers;
    for (name, value) in [
        ("content-encoding", "snappy"),
        ("accept-encoding", "snappy"),
        ("content-type", "application/x-protobuf"),
        ("x-prometheus-remote-read-version", "0.1.0"),
        ("x-scope", "me"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    let message = snap::raw::Decoder::new().decompress_vec(&seen[0].body).expect("snappy");
    let text = String::from_utf8_lossy(&message);
    assert!(text.contains("cluster") && text.contains("c1") && text.contains("job"), "{text}");
}

fn rows_or_scalar(server: &Server, query: &str, t: i64) {
    assert_eq!(server.get(&query_path(query, t)).status, 200, "{query}");
}

/// A server that fails adds a warning, and the own samples stay; half an answer is none.
#[test]
fn a_server_that_fails_is_a_warning() {
    let t = now_ms() - 1_000;
    let theirs = Server::start("", &[]);
    write_history(&theirs, t);
    let port = theirs.port;
    // Passes the answer of a good server on, up to its middle.
    let cut = Recorder::start(move |request| {
        let answer = http::send(port, "POST", "/api/v1/read", &[], &request.body).expect("an answer");
        let cut = Some(answer.body.len() / 2);
        Reply { content_type: FRAMES, cut, ..Reply::new("200 OK", answer.body) }
    });
    let refusing = Recorder::start(|_| Reply::new("500 Internal Server Error", "no room\n"));
    let nonsense = Recorder::start(|_| Reply::new("200 OK", "hello"));
    let damaged = Recorder::start(move |request| {
        let mut answer = http::send(port, "POST", "/api/v1/read", &[], &request.body).expect("an answer");
        if let Some(byte) = answer.body.get_mut(30) {
            *byte ^= 1;
        }
        Reply { content_type: FRAMES, ..Reply::new("200 OK", answer.body) }
    });
    let url = |port: u16| format!("http://127.0.0.1:{port}/api/v1/read");
    let cases = [
        (cut.port, "remote_read: error reading response: ".to_owned()),
        (
            refusing.port,
            format!(
                "remote_read: remote server {} returned http status 500 Internal Server Error: no room",
                url(refusing.port)
            ),
        ),
        (nonsense.port, "remote_read: unsupported content type: text/plain".to_owned()),
        (damaged.port, "remote_read: chunkedReader: corrupted frame; checksum mismatch".to_owned()),
        (1, "remote_read: error sending request: ".to_owned()),
    ];
    for (port, expected) in cases {
        let ours = Server::start(&reading_from(port), &[]);
        write_recent(&ours, t);
        let path = query_path("{__name__=~\"history|own\"}", t);
        let found = warnings(&ours, &path);
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{expected}: {found:?}");
        assert_eq!(rows(&ours, "{__name__=~\"history|own\"}", t).len(), 2, "the own ones");
    }
}

/// What takes longer than the query may is ended with it.
#[test]
fn a_server_that_hangs_holds_no_query_beyond_its_time() {
    let hanging = Recorder::start(|_| {
        std::thread::sleep(std::time::Duration::from_secs(60));
        Reply::new("200 OK", "")
    });
    let ours = Server::start(&reading_from(hanging.port), &[]);
    let began = std::time::Instant::now();
    let answer = ours.get("/api/v1/query?query=up&timeout=1s");
    assert_eq!((answer.status, answer.json()["errorType"].as_str()), (503, Some("timeout")));
    assert!(began.elapsed().as_secs() < 30);
    let entry = format!("url: 'http://127.0.0.1:{}', read_recent: true, remote_timeout: 200ms", hanging.port);
    let patient = Server::start(&format!("remote_read: [{{{entry}}}]\n"), &[]);
    assert_eq!(warnings(&patient, "/api/v1/query?query=up"), ["remote_read: request timed out after 200ms"]);
}
