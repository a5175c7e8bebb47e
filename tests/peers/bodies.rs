//! Tests small bodies with a large content: for any body to any endpoint, the server needs little
//! memory in addition to what it stores, refuses with a text, and continues.

use crate::support::http::{self, Answer};
use crate::support::server::Server;
use api::endpoints::{ENDPOINTS, RequestBody};
use std::time::{Duration, Instant};

/// The most memory in addition to stored samples, MiB.
const BESIDE: f64 = 64.0;
/// The size of a body before compression. The limit is 32 MiB; a quarter is faster, and once took
/// 900 MiB of memory.
const LARGE: usize = 8 << 20;

/// A body and the expected response.
#[derive(Clone)]
struct Case {
    name: &'static str,
    path: &'static str,
    method: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    status: u16,
    /// A part of the response body.
    says: &'static str,
}

impl Case {
    fn send(&self, port: u16) -> Answer {
        let mut head = vec![("Content-Type", self.content_type)];
        if ["/api/v1/write", "/api/v1/read"].contains(&self.path) {
            head.push(("Content-Encoding", "snappy"));
        }
        http::send(port, self.method, self.path, &head, &self.body)
            .unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
}

fn put_varint(out: &mut Vec<u8>, mut n: usize) {
    while n > 127 {
        out.push(n as u8 & 127 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}

fn field(number: usize, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, number << 3 | 2);
    put_varint(&mut out, content.len());
    out.extend(content);
    out
}

fn write(name: &'static str, version: u8, message: &[u8], status: u16, says: &'static str) -> Case {
    let content_type = match version {
        1 => "application/x-protobuf",
        _ => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    };
    let body = snap::raw::Encoder::new().compress_vec(message).expect("small enough for a block");
    Case { name, path: "/api/v1/write", method: "POST", content_type, body, status, says }
}

/// As many repetitions as fit into a request.
fn many(piece: &[u8]) -> Vec<u8> {
    piece.repeat(LARGE / piece.len())
}

/// A 1.0 series with a name and these fields.
/// A 2.0 series with a name and these fields.
fn series(fields: &[u8]) -> Vec<u8> {
    let label = [field(1, b"__name__"), field(2, b"m")].concat();
    field(1, &[field(1, &label), fields.to_vec()].concat())
}

/// The same of 2.0.
fn series2(fields: &[u8]) -> Vec<u8> {
    let symbols = [field(4, b""), field(4, b"__name__"), field(4, b"m")].concat();
    [symbols, field(5, &[field(1, &[1, 2]), fields.to_vec()].concat())].concat()
}

fn writes() -> Vec<Case> {
    let too_many = "samples, histograms and exemplars: send fewer in a request";
    // A symbol of 1 MiB, and a series with a hundred references to it.
    let long = {
        let symbols = [field(4, b""), field(4, &vec![b'x'; 1 << 20])].concat();
        [symbols, field(5, &[field(1, &[1; 200]), field(2, &[])].concat())].concat()
    };
    // A symbol of 60 kB, in each of many series.
    let fat = {
        let symbols = [field(4, b""), field(4, b"__name__"), field(4, &vec![b'x'; 60_000])].concat();
        let one = field(5, &[field(1, &[1, 2]), field(2, &[])].concat());
        [symbols, one.repeat(20_000)].concat()
    };
    vec![
        write("series", 1, &many(&field(1, &[])), 204, ""),
        write("labels", 1, &field(1, &many(&field(1, &[]))), 204, ""),
        write("samples", 1, &series(&many(&field(2, &[]))), 413, too_many),
        write("exemplars", 1, &series(&many(&field(3, &[]))), 413, too_many),
        write("histograms", 1, &series(&many(&field(4, &[]))), 413, too_many),
        write("metadata", 1, &many(&field(3, &[])), 204, ""),
        write(
            "deltas",
            1,
            &series(&field(4, &field(12, &many(&[0])))),
            400,
            "histogram bucket limit exceeded",
        ),
        write("spans", 1, &series(&field(4, &many(&field(11, &[])))), 400, "histogram bucket limit exceeded"),
        write(
            "bounds",
            1,
            &series(&field(4, &field(16, &many(&[0])))),
            400,
            "histogram bucket limit exceeded",
        ),
        write("symbols", 2, &many(&field(4, &[])), 413, "more than 1000000 symbols"),
        write("series 2.0", 2, &many(&field(5, &[])), 400, "invalid metric name or labels, got {}"),
        write(
            "numbers",
            2,
            &field(5, &[field(1, &many(&[0])), field(2, &[])].concat()),
            400,
            "invalid metric name or labels",
        ),
        write("samples 2.0", 2, &series2(&many(&field(2, &[]))), 413, too_many),
        write("histograms 2.0", 2, &series2(&many(&field(3, &[]))), 413, too_many),
        write("exemplars 2.0", 2, &series2(&many(&field(4, &[]))), 413, too_many),
        write(
            "metadata 2.0",
            2,
            &series2(&many(&field(5, &[]))),
            400,
            "must contain at least one sample or histogram",
        ),
        write("a long series", 2, &long, 400, "invalid metric name or labels"),
        write("long labels", 2, &fat, 413, "are longer than 256 MiB"),
        // Five bytes that announce a body of the largest size.
        Case { body: vec![0xff, 0xff, 0xff, 0x0f, 0], ..write("a promise", 1, &[], 400, "cannot be") },
        write("too much", 1, &vec![0; 33 << 20], 413, "exceeds the limit"),
    ]
}

/// A request of OTLP.
fn otlp(name: &'static str, body: Vec<u8>, status: u16, says: &'static str) -> Case {
    let content_type = "application/x-protobuf";
    Case { name, path: "/api/v1/otlp/v1/metrics", method: "POST", content_type, body, status, says }
}

fn otlps() -> Vec<Case> {
    let too_many = "samples, histograms and exemplars: send fewer in a request";
    let metrics = |metrics: &[u8]| field(1, &field(2, metrics));
    let gauge = |points: &[u8]| metrics(&field(2, &[field(1, b"g"), field(5, points)].concat()));
    let json = format!("{{\"resourceMetrics\":[{}{{}}]}}", "{},".repeat(2 << 20)).into_bytes();
    vec![
        otlp("resources", many(&field(1, &[])), 413, too_many),
        otlp("metrics", metrics(&many(&field(2, &[]))), 413, too_many),
        otlp("points", gauge(&many(&field(1, &[]))), 413, too_many),
        otlp("attributes", gauge(&field(1, &many(&field(7, &[])))), 413, "is larger than 1 MiB"),
        Case { content_type: "application/json", ..otlp("resources in JSON", json, 413, too_many) },
        Case { content_type: "application/json", ..otlp("brackets", vec![b'['; 1 << 20], 400, "") },
    ]
}

/// A remote read.
fn read(name: &'static str, message: &[u8], says: &'static str) -> Case {
    let body = snap::raw::Encoder::new().compress_vec(message).expect("small enough for a block");
    let content_type = "application/x-protobuf";
    Case { name, path: "/api/v1/read", method: "POST", content_type, body, status: 400, says }
}

fn reads() -> Vec<Case> {
    vec![
        read("queries", &many(&field(1, &[])), "the request has more than 1000 queries"),
        read("matchers", &field(1, &many(&field(3, &[]))), "a query has more than 1000 matchers"),
    ]
}

/// A table that somebody puts.
fn table(
    name: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    status: u16,
    says: &'static str,
) -> Case {
    Case { name, path: "/api/v1/tables/x", method: "PUT", content_type, body, status, says }
}

fn tables() -> Vec<Case> {
    let rows = format!("a\n{}", "1\n".repeat(2 << 20)).into_bytes();
    let columns = format!("{}a\n", "a,".repeat(2 << 20)).into_bytes();
    vec![
        table("rows", "text/csv", rows, 422, "a table has at most 200000 rows"),
        table("columns", "text/csv", columns, 422, "a table has at most 100 columns"),
        table("a name", "text/csv", vec![b'"'; 4 << 20], 400, "the name of column 1 is longer"),
        table("brackets of a table", "application/json", vec![b'['; 4 << 20], 400, ""),
    ]
}

fn form(name: &'static str, path: &'static str, body: Vec<u8>, says: &'static str) -> Case {
    let content_type = "application/x-www-form-urlencoded";
    Case { name, path, method: "POST", content_type, body, status: 400, says }
}

fn forms() -> Vec<Case> {
    let most = 10 << 20;
    let text = |before: &str, piece: &str| {
        format!("{before}{}", piece.repeat((most - 99) / piece.len())).into_bytes()
    };
    let selectors = |piece: &str| {
        [format!("match[]={{{}a=\"b\"}}&", piece.repeat(100))].concat().repeat(500).into_bytes()
    };
    vec![
        form("values", "/api/v1/query", text("", "a&"), "number of URL query parameters exceeded limit"),
        form("an empty form", "/api/v1/query", text("", "&"), "invalid parameter"),
        form("a long query", "/api/v1/query", text("query=1", "%2b1"), "query is too long"),
        form(
            "a long range",
            "/api/v1/query_range",
            text("step=1&start=1&end=2&query=1", "%2b1"),
            "query is too long",
        ),
        form("a long tree", "/api/v1/parse_query", text("query=", "("), "query is too long"),
        form("a long text", "/api/v1/format_query", text("query=", "-"), "query is too long"),
        form("exemplars", "/api/v1/query_exemplars", text("start=1&end=2&query=", "a"), "query is too long"),
        form("selectors", "/api/v1/series", text("match[]=a&", "match[]=a&"), "exceeded limit"),
        form(
            "long selectors",
            "/api/v1/series",
            selectors("abcdefgh=\"abcdefgh\","),
            "the selectors are too long",
        ),
        form("regexes", "/api/v1/labels", selectors("a=~\".\","), "too many regular expressions"),
        form("too large", "/api/v1/query", vec![b'a'; (10 << 20) + 1], "http: request body too large"),
        Case {
            name: "a statement",
            path: "/api/v1/sql",
            method: "POST",
            content_type: "application/sql",
            body: "(".repeat(500 << 10).into_bytes(),
            status: 400,
            says: "",
        },
        Case {
            name: "a rule that is tried",
            path: "/api/v1/rules/test",
            method: "POST",
            content_type: "application/json",
            body: format!("{{\"rule\": \"{}\", \"start\": 0, \"end\": 9}}", "[".repeat(1 << 20)).into_bytes(),
            status: 400,
            says: "",
        },
        Case {
            name: "a standing query",
            path: "/api/v1/views/x",
            method: "PUT",
            content_type: "application/json",
            body: format!("{{\"query\": \"{}\"}}", "(".repeat(500 << 10)).into_bytes(),
            status: 400,
            says: "",
        },
        Case {
            name: "a standing query that is too large",
            path: "/api/v1/views/x",
            method: "PUT",
            content_type: "application/json",
            body: vec![b' '; 600 << 10],
            status: 413,
            says: "send less",
        },
    ]
}

/// Sends a body and checks the response and the memory.
fn check(server: &Server, idle: f64, case: &Case) {
    server.forget_peak();
    let began = Instant::now();
    let answer = case.send(server.port);
    let took = began.elapsed();
    // Includes what is stored, which is tiny.
    let beside = server.memory().peak - idle;
    eprintln!("{}: {} in {took:?}, {beside:.1} MiB for {} bytes", case.name, answer.status, case.body.len());
    assert_eq!(answer.status, case.status, "{}: {}", case.name, answer.text());
    assert!(answer.text().contains(case.says), "{}: {}", case.name, answer.text());
    assert!(beside <= BESIDE, "{}: {beside} MiB", case.name);
    assert!(took < Duration::from_secs(60), "{}: {took:?}", case.name);
}

#[test]
fn empty_bodies_cost_little_memory() {
    let server = Server::start_with(
        "",
        &[],
        &["--web.enable-admin-api", "--web.enable-otlp-receiver", "--enable-feature=exemplar-storage"],
    );
    server.query("up");
    let idle = server.memory().now;
    for case in writes().iter().chain(&otlps()).chain(&reads()).chain(&forms()).chain(&tables()) {
        check(&server, idle, case);
    }
    assert_eq!(server.get("/-/healthy").status, 200);
}

/// Sends a bad form or body to every endpoint in the server's own table that reads one, so that no
/// endpoint is forgotten and a new one is included.
#[test]
fn every_endpoint_that_reads_a_body_bounds_it() {
    let server = Server::start_with(
        "",
        &[],
        &["--web.enable-admin-api", "--web.enable-otlp-receiver", "--enable-feature=search-api"],
    );
    server.query("up");
    let idle = server.memory().now;
    let own: Vec<Case> =
        writes().into_iter().chain(otlps()).chain(reads()).chain(tables()).chain(forms()).collect();
    let values = b"match[]=a&".repeat((10 << 20) / 10);
    let large = vec![b'a'; (10 << 20) + 1];
    let mut checked = 0;
    for endpoint in ENDPOINTS {
        let posts =
            endpoint.methods.iter().map(|method| method.as_str()).find(|m| ["POST", "PUT"].contains(m));
        let Some(method) = posts else { continue };
        checked += 1;
        match endpoint.takes {
            RequestBody::Form => {
                let many =
                    form("values", "", values.clone(), "number of URL query parameters exceeded limit");
                let too_large = form("too large", "", large.clone(), "http: request body too large");
                for case in [many, too_large] {
                    let path = endpoint.path;
                    check(&server, idle, &Case { name: path, path, method, ..case });
                }
            }
            RequestBody::Body(limit) => {
                let path = endpoint.path.replace("{id}", "x").replace("{name}", "x");
                let there = own.iter().find(|case| case.path == path && case.method == method);
                let there = there.unwrap_or_else(|| panic!("no bodies for {path} above"));
                let large = Case {
                    name: "too large",
                    body: vec![b' '; limit + 1],
                    status: 413,
                    says: "",
                    ..there.clone()
                };
                check(&server, idle, &large);
            }
        }
    }
    assert!(checked > 15, "{checked} endpoints: this test looks in the wrong place");
}

/// Many requests at once, which would need 168 MiB if all were decoded together: those that do not
/// fit get a `Retry-After`, the others succeed. The process needs about twice the flag's value,
/// because connections have buffers and freed memory returns to the system after 10 ms.
#[test]
fn requests_together_share_one_memory() {
    let server = Server::start_with("", &[], &["--web.max-body-memory=16MB"]);
    server.query("up");
    let idle = server.memory().now;
    let metadata = field(3, &[b'm'; 100]);
    let case = write("metadata", 1, &metadata.repeat((7 << 20) / metadata.len()), 204, "");
    server.forget_peak();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let sends: Vec<_> = (0..24).map(|_| scope.spawn(|| case.send(server.port).status)).collect();
        sends.into_iter().map(|send| send.join().expect("an answer")).collect()
    });
    let beside = server.memory().peak - idle;
    eprintln!("{statuses:?}, {beside:.1} MiB for 24 times {} bytes", case.body.len());
    assert!(statuses.iter().all(|status| [204, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&204) && beside <= BESIDE, "{statuses:?} {beside} MiB");
    assert_eq!(case.send(server.port).status, 204, "there is room again");
    // A request that can never fit gets no `Retry-After`.
    let large = write("more than all", 1, &metadata.repeat((16 << 20) / metadata.len()), 413, "larger than");
    check(&server, idle, &large);
}
