//! Tests the receiver of OTLP and the spans of this server with OpenTelemetry's SDK for Python.

use crate::support::daemon::{Daemon, free_port, program, python};
use crate::support::server::Server;
use crate::support::{eventually, http, wall_clock};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

fn data_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Runs the program of `tests/data`, which sends everything twice. Returns what it said of requests
/// that failed.
fn send(server: &Server, temporality: &str) -> String {
    let output = Command::new(python())
        .arg(data_file("otlp_app.py"))
        .args([server.port.to_string().as_str(), temporality])
        .output()
        .expect("Python");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// The value of the only row of a query.
fn value(server: &Server, query: &str) -> String {
    let rows = server.query(query);
    assert_eq!(rows.len(), 1, "{query}: {rows:?}");
    rows[0]["value"][1].as_str().unwrap_or_else(|| panic!("{query}: {rows:?}")).to_owned()
}

/// What is stored of the program, whatever its temporality.
fn everything_is_stored(server: &Server) {
    let identity = "instance=\"i-1\",job=\"eu/shop\"";
    for (query, want) in [
        (format!("http_server_requests_total{{http_route=\"/a\",http_status_code=\"200\",{identity}}}"), "6"),
        (format!("http_server_requests_total{{http_route=\"/b\",http_status_code=\"500\",{identity}}}"), "2"),
        (format!("http_active{{{identity}}}"), "4"),
        (format!("room_temperature_celsius{{room=\"a\",{identity}}}"), "20.5"),
        ("http_server_duration_seconds_count{http_route=\"/a\"}".to_owned(), "8"),
        ("http_server_duration_seconds_sum".to_owned(), "8.1"),
        ("http_server_duration_seconds_bucket{le=\"0.1\"}".to_owned(), "2"),
        ("http_server_duration_seconds_bucket{le=\"0.5\"}".to_owned(), "4"),
        ("http_server_duration_seconds_bucket{le=\"1\"}".to_owned(), "6"),
        ("http_server_duration_seconds_bucket{le=\"+Inf\"}".to_owned(), "8"),
        ("histogram_count(payload_bytes)".to_owned(), "8"),
        ("histogram_sum(payload_bytes)".to_owned(), "2014"),
        (
            "target_info{host_name=\"h1\",tags=\"[\\\"a\\\",\\\"b\\\"]\",telemetry_sdk_language=\"python\"}"
                .to_owned(),
            "1",
        ),
        (
            "sum by (host_name) (http_active * on (job, instance) group_left (host_name) target_info)"
                .to_owned(),
            "4",
        ),
    ] {
        let got: f64 = value(server, &query).parse().expect("a number");
        let want: f64 = want.parse().expect("a number");
        assert!((got - want).abs() < 1e-9, "{query}: {got} instead of {want}");
    }
}

#[test]
fn metrics_of_the_python_sdk_arrive() {
    wall_clock(|| {
        let server = Server::start_with("", &[], &["--web.enable-otlp-receiver"]);
        assert_eq!(send(&server, "CUMULATIVE"), "");
        everything_is_stored(&server);
        let refused = send(&server, "DELTA");
        assert!(refused.contains("Failed to export metrics batch code: 500"), "{refused}");
        let delta = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"x","sum":{"dataPoints":[{"asInt":1}]}}]}]}]}"#;
        let json = [("Content-Type", "application/json")];
        let answer = http::send(server.port, "POST", "/api/v1/otlp/v1/metrics", &json, delta.as_bytes());
        let answer = answer.expect("an answer");
        let text = "invalid temporality and type combination for metric \"x\"";
        assert_eq!((answer.status, answer.text().trim_end()), (500, text));
    });
}

#[test]
fn deltas_of_the_python_sdk_add_up() {
    wall_clock(|| {
        let flags = ["--web.enable-otlp-receiver", "--enable-feature=otlp-deltatocumulative"];
        let server = Server::start_with("", &[], &flags);
        assert_eq!(send(&server, "DELTA"), "");
        everything_is_stored(&server);
    });
}

#[test]
fn the_block_of_the_configuration_is_in_force() {
    wall_clock(|| {
        let config = "otlp: {translation_strategy: NoTranslation, promote_resource_attributes: [host.name], \
                      promote_scope_metadata: true, convert_histograms_to_nhcb: true}\n";
        let server = Server::start_with(config, &[], &["--web.enable-otlp-receiver"]);
        assert_eq!(send(&server, "CUMULATIVE"), "");
        assert_eq!(
            value(
                &server,
                "{\"http.active\",\"host.name\"=\"h1\",otel_scope_name=\"shop.lib\",otel_scope_version=\"1.2.3\"}"
            ),
            "4"
        );
        assert_eq!(value(&server, "histogram_count({\"http.server.duration\"})"), "8");
    });
}

#[test]
fn the_receiver_is_off_unless_it_is_enabled() {
    let server = Server::start("", &[]);
    let answer = http::send(
        server.port,
        "POST",
        "/api/v1/otlp/v1/metrics",
        &[("Content-Type", "application/json")],
        b"{}",
    )
    .expect("an answer");
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("--web.enable-otlp-receiver"), "{}", answer.text());
}

/// A receiver of traces of OpenTelemetry's Python packages.
struct Collector {
    _daemon: Daemon,
    grpc: u16,
    http: u16,
}

impl Collector {
    fn start(directory: &std::path::Path) -> Collector {
        Collector::start_with(directory, &[])
    }

    /// Further arguments are a port for HTTPS, a certificate and its key.
    fn start_with(directory: &std::path::Path, encrypted: &[String]) -> Collector {
        let (grpc, http) = (free_port(), free_port());
        let mut arguments =
            vec![data_file("otlp_collector.py").display().to_string(), grpc.to_string(), http.to_string()];
        arguments.extend_from_slice(encrypted);
        let mut daemon = Daemon::start(&python(), &arguments, directory);
        daemon.wait_ready(http, "/");
        Collector { _daemon: daemon, grpc, http }
    }

    /// The spans with a name, once there is one.
    fn spans(&self, name: &str) -> Vec<Value> {
        eventually(&format!("a span {name}"), 30, || {
            let answer = http::get(self.http, "/").map_err(|e| e.to_string())?;
            let all: Vec<Value> = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
            let found: Vec<Value> = all.iter().filter(|span| span["name"] == name).cloned().collect();
            let names: std::collections::BTreeSet<String> =
                all.iter().map(|span| span["name"].to_string()).collect();
            if found.is_empty() { Err(format!("{names:?}")) } else { Ok(found) }
        })
    }
}

#[test]
fn spans_reach_a_collector_by_http_and_by_grpc() {
    wall_clock(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let collector = Collector::start(directory.path());
        for (client_type, port) in [("http", collector.http), ("grpc", collector.grpc)] {
            let config = format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
                 tracing: {{client_type: {client_type}, endpoint: '127.0.0.1:{port}', insecure: true, \
                 sampling_fraction: 1, compression: gzip, headers: {{x-tenant: {client_type}}}}}\n\
                 rule_files: [rules.yml]\n\
                 scrape_configs: [{{job_name: collector, metrics_path: /, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]\n",
                collector.http
            );
            let rules = "groups: [{name: g, rules: [{record: a:b, expr: vector(1)}]}]\n";
            let server = Server::start(&config, &[("rules.yml", rules)]);
            let trace = format!("{:032x}", 0xabc0_0000_u64 + u64::from(port));
            let caller = format!("00-{trace}-00f067aa0ba902b7-01");
            let answer = http::send(
                server.port,
                "GET",
                "/api/v1/query?query=vector(1)",
                &[("traceparent", &caller)],
                b"",
            );
            assert_eq!(answer.expect("an answer").status, 200);
            let of_type = |name: &str| {
                eventually(&format!("{name} by {client_type}"), 30, || {
                    let spans = collector.spans(name);
                    spans
                        .into_iter()
                        .find(|s| s["protocol"] == client_type)
                        .ok_or_else(|| "not yet".to_owned())
                })
            };
            let request = eventually("the request of the caller", 30, || {
                let spans = collector.spans("GET /api/v1/query");
                spans.into_iter().find(|s| s["trace"] == trace.as_str()).ok_or_else(|| "not yet".to_owned())
            });
            assert_eq!((&request["parent"], &request["kind"]), (&"00f067aa0ba902b7".into(), &2.into()));
            assert_eq!(
                (&request["service"], &request["tenant"]),
                (&"prometheus".into(), &client_type.into())
            );
            assert_eq!(request["attributes"]["http.response.status_code"], 200);
            let query = collector.spans("promqlInstantQuery");
            let query =
                query.iter().find(|s| s["trace"] == trace.as_str()).expect("the query of the request");
            assert_eq!(
                (&query["parent"], &query["attributes"]["query"]),
                (&request["id"], &"vector(1)".into())
            );
            assert_eq!(query["attributes"]["result_series"], 1);
            for phase in ["promqlPrepare", "promqlExecQueue", "promqlEval", "promqlSort"] {
                let phases = collector.spans(phase);
                let part =
                    phases.iter().find(|s| s["trace"] == trace.as_str()).expect("a phase of the query");
                assert_eq!(part["parent"], query["id"], "{phase}");
            }
            let scrape = of_type("scrape");
            assert!(
                scrape["error"].as_str().is_some_and(|e| e.contains("Content-Type")),
                "JSON is no exposition: {scrape}"
            );
            let sent = of_type("scrapeRequest");
            assert_eq!((&sent["kind"], &sent["error"]), (&3.into(), &"".into()));
            let group = of_type("rule group");
            assert_eq!(
                (&group["attributes"]["name"], &group["attributes"]["interval"]),
                (&"g".into(), &"1s".into())
            );
            assert_eq!(of_type("rule")["attributes"]["name"], "a:b");
        }
    });
}

/// A collector whose certificate it has signed itself gets spans from who trusts it.
#[test]
fn spans_reach_a_collector_over_tls() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let made = Command::new(program("openssl", "openssl"))
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '))
        .args("-subj /CN=collector -addext subjectAltName=IP:127.0.0.1".split(' '))
        .args(["-keyout", &file("key.pem"), "-out", &file("cert.pem")])
        .output();
    assert!(made.expect("openssl").status.success());
    let https = free_port();
    let encrypted = [https.to_string(), file("cert.pem"), file("key.pem")];
    let collector = Collector::start_with(directory.path(), &encrypted);
    let ask = |client_type: &str, port: u16, trust: &str| {
        let config = format!(
            "tracing: {{client_type: {client_type}, endpoint: '127.0.0.1:{port}', sampling_fraction: 1{trust}}}\n"
        );
        let server = Server::start(&config, &[]);
        server.query("vector(1)");
        server
    };
    let trust = format!(", tls_config: {{ca_file: '{}'}}", file("cert.pem"));
    for (client_type, port) in [("http", https), ("grpc", collector.grpc)] {
        let stranger = ask(client_type, port, "");
        eventually("the certificate is not trusted", 60, || {
            let log = stranger.log();
            if log.contains("certificate") { Ok(()) } else { Err(log) }
        });
        let _server = ask(client_type, port, &trust);
        eventually(&format!("a span by {client_type}"), 60, || {
            let spans = collector.spans("GET /api/v1/query");
            let found = spans.iter().any(|span| span["protocol"] == client_type);
            if found { Ok(()) } else { Err(format!("{} spans", spans.len())) }
        });
    }
}
