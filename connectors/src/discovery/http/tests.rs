//! Tests `http_sd_configs` against a small web server.

use super::*;
use crate::discovery::{ADDRESS, DiscoveryConfigs, DiscoverySet, DiscoveryUser};
use crate::http_client::Peers;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use std::time::Duration;
use storage::metrics::Metrics;

/// What the server answers, and the headers of the latest request.
#[derive(Default)]
struct Answers {
    status: u16,
    content_type: &'static str,
    body: String,
    seen: HeaderMap,
}

type Shared = Arc<Mutex<Answers>>;

async fn answer(State(answers): State<Shared>, headers: HeaderMap) -> Response {
    let mut answers = answers.lock();
    answers.seen = headers;
    let status = StatusCode::from_u16(answers.status).unwrap();
    (status, [("content-type", answers.content_type)], answers.body.clone()).into_response()
}

/// A server that answers with two groups at first; its URL.
async fn serve() -> (Shared, String) {
    let body = r#"[{"targets": ["a:1", "b:1"], "labels": {"env": "x"}}, {"targets": ["c:1"]}]"#;
    let first = Answers {
        status: 200,
        content_type: "application/json; charset=utf-8",
        body: body.to_owned(),
        ..Answers::default()
    };
    let answers: Shared = Arc::new(Mutex::new(first));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/targets", listener.local_addr().unwrap());
    let app = axum::Router::new().route("/targets", axum::routing::get(answer)).with_state(answers.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (answers, url)
}

fn config(yaml: &str) -> HttpSdConfig {
    serde_saphyr::from_str(yaml).unwrap()
}

async fn next(discovery: &mut DiscoverySet) -> Vec<DiscoveredTarget> {
    tokio::time::timeout(Duration::from_secs(10), discovery.changed()).await.unwrap();
    discovery.current().0
}

#[tokio::test]
async fn targets_are_refreshed_and_kept_on_errors() {
    let (answers, url) = serve().await;
    let entry = config(&format!("{{url: '{url}', refresh_interval: 100ms, bearer_token: t}}"));
    let config = DiscoveryConfigs { http_sd_configs: vec![entry], ..DiscoveryConfigs::default() };
    config.validate().unwrap();
    let metrics = Metrics::default();
    let context = DiscoveryContext {
        peers: &Peers::default(),
        metrics: &metrics,
        pool: "job",
        user: DiscoveryUser::Scrape,
    };
    let mut discovery = DiscoverySet::start(&config, &context);
    let targets = next(&mut discovery).await;
    assert_eq!(targets.iter().map(|t| t[ADDRESS].as_str()).collect::<Vec<_>>(), ["a:1", "b:1", "c:1"]);
    assert_eq!((targets[0]["env"].as_str(), &targets[2]["__meta_url"]), ("x", &url));
    let seen = answers.lock().seen.clone();
    assert_eq!(seen["x-prometheus-refresh-interval-seconds"], "0.1");
    assert_eq!(
        (&seen["accept"], &seen["authorization"]),
        (&"application/json".parse().unwrap(), &"Bearer t".parse().unwrap())
    );
    assert!(seen["user-agent"].to_str().unwrap().starts_with("Prometheus/"));
    answers.lock().status = 503;
    let failures = "prometheus_sd_refresh_failures_total{mechanism=\"http\",config=\"job\"} 0";
    while metrics.render().contains(failures) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(discovery.current().0, targets);
    let rendered = metrics.render();
    assert!(!rendered.contains("prometheus_sd_http_failures_total 0"), "{rendered}");
    assert!(
        rendered.contains("prometheus_sd_refresh_duration_seconds_count{mechanism=\"http\",config=\"job\"}")
    );
    *answers.lock() = Answers {
        status: 200,
        content_type: "application/json",
        body: "[]".to_owned(),
        ..Answers::default()
    };
    assert!(next(&mut discovery).await.is_empty());
}

#[tokio::test]
async fn refresh_errors_are_those_of_prometheus() {
    let (answers, url) = serve().await;
    let metrics = Metrics::default();
    let refresh = HttpRefresh {
        client: HttpConfig::default().client().unwrap(),
        url: Url::parse(&url).unwrap(),
        shown: url,
        interval: ConfigDuration(5_000),
        failures: metrics.counter("failures", "", &[]),
    };
    for (status, content_type, body, error) in [
        (404, "application/json", "[]", "server returned HTTP status 404 Not Found"),
        (200, "text/plain", "[]", "unsupported content type \"text/plain\""),
        (200, "application/json; charset=latin1", "[]", "unsupported content type"),
        (200, "application/json", "[null]", "nil target group item found"),
        (200, "application/json", "[{\"targets\": [], \"tags\": {}}]", "field tags not found"),
        (200, "application/json", "{}", "expected"),
    ] {
        *answers.lock() = Answers { status, content_type, body: body.to_owned(), ..Answers::default() };
        let got = refresh.fetch().await.unwrap_err().to_string();
        assert!(got.contains(error), "{got} is not {error}");
    }
}

#[test]
fn configuration_errors_are_those_of_prometheus() {
    for (yaml, error) in [
        ("{}", "URL is missing"),
        ("{url: 'ftp://h/x'}", "URL scheme must be 'http' or 'https'"),
        ("{url: 'http:///x'}", "host is missing in URL"),
        ("{url: 'http://h', bearer_token: a, basic_auth: {username: u}}", "at most one of"),
        ("{url: 'http://h', refresh_interval: 0s}", "refresh_interval must be greater than 0"),
        ("{url: 'http://u:CANARY@[h'}", "parse \"<secret>\""),
    ] {
        let got = HttpSd::validate(&config(yaml)).unwrap_err().to_string();
        assert!(got.starts_with(error) || got.contains(error), "{yaml}: {got}");
    }
    HttpSd::validate(&config("{url: 'https://u:p@h:1/x', refresh_interval: 30s}")).unwrap();
}
