//! Tests `kuma_sd_configs` against a control plane in this process.

use super::*;
use crate::discovery::{DiscoveryConfigs, DiscoverySet, DiscoveryUser};
use crate::http_client::Peers;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::Value;
use storage::metrics::Metrics;
use tokio::sync::watch;

/// What the server answers: `None` is an error.
struct ControlPlane {
    answer: watch::Sender<(u64, Option<Value>)>,
    requests: Mutex<Vec<(String, Value)>>,
}

async fn answer(State(server): State<Arc<ControlPlane>>, uri: Uri, body: String) -> Response {
    let request: Value = serde_json::from_str(&body).unwrap();
    let known: u64 = request["version_info"].as_str().map_or(0, |version| version.parse().unwrap());
    server.requests.lock().push((uri.to_string(), request));
    let mut answer = server.answer.subscribe();
    let wait = answer.wait_for(|(version, answer)| *version != known || answer.is_none());
    let Ok(Ok(now)) = tokio::time::timeout(Duration::from_millis(300), wait).await else {
        return StatusCode::NOT_MODIFIED.into_response();
    };
    match &now.1 {
        Some(resources) => {
            let version = now.0.to_string();
            json!({"versionInfo": version, "nonce": version, "typeUrl": TYPE_URL, "resources": resources})
                .to_string()
                .into_response()
        }
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[tokio::test]
async fn versions_are_followed_and_errors_keep_the_targets() {
    let first = json!([{
        "@type": TYPE_URL, "mesh": "metrics", "service": "prometheus", "labels": {"commit-hash": "620506a88", "both": "service"},
        "targets": [
            {"name": "prometheus-01", "scheme": "http", "address": "10.1.4.32:9090", "metricsPath": "/custom", "labels": {"node_name": "host1", "both": "target"}},
            {"name": "prometheus-02", "scheme": "https", "address": "10.1.4.33:9090", "metrics_path": "/other"}
        ]
    }]);
    let server =
        Arc::new(ControlPlane { answer: watch::channel((1, Some(first))).0, requests: Mutex::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = format!(
        "{{server: 'http://{}/', client_id: me, refresh_interval: 1s, fetch_timeout: 90s}}",
        listener.local_addr().unwrap()
    );
    let app = axum::Router::new().fallback(answer).with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let entry: KumaSdConfig = serde_saphyr::from_str(&yaml).unwrap();
    let config = DiscoveryConfigs { kuma_sd_configs: vec![entry], ..DiscoveryConfigs::default() };
    config.validate().unwrap();
    let metrics = Metrics::default();
    let context = DiscoveryContext {
        peers: &Peers::default(),
        metrics: &metrics,
        pool: "job",
        user: DiscoveryUser::Scrape,
    };
    let mut discovery = DiscoverySet::start(&config, &context);
    let limit = Duration::from_secs(2);
    tokio::time::timeout(limit, discovery.changed()).await.unwrap();
    let expected = json!([
        {"__address__": "10.1.4.32:9090", "__metrics_path__": "/custom", "__scheme__": "http", "instance": "prometheus-01",
         "__meta_kuma_mesh": "metrics", "__meta_kuma_service": "prometheus", "__meta_kuma_dataplane": "prometheus-01",
         "__meta_kuma_label_commit_hash": "620506a88", "__meta_kuma_label_both": "service", "__meta_kuma_label_node_name": "host1"},
        {"__address__": "10.1.4.33:9090", "__metrics_path__": "/other", "__scheme__": "https", "instance": "prometheus-02",
         "__meta_kuma_mesh": "metrics", "__meta_kuma_service": "prometheus", "__meta_kuma_dataplane": "prometheus-02",
         "__meta_kuma_label_commit_hash": "620506a88", "__meta_kuma_label_both": "service"}
    ]);
    let found = discovery.current().0;
    assert_eq!(serde_json::to_value(&found).unwrap(), expected);
    server.answer.send_replace((1, None));
    while metrics.render().contains("prometheus_sd_kuma_fetch_failures_total 0") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(discovery.current().0, found);
    let second = json!([{"@type": TYPE_URL, "targets": [{"name": "x", "address": "x:1"}]}]);
    server.answer.send_replace((2, Some(second)));
    tokio::time::timeout(limit, discovery.changed()).await.unwrap();
    assert_eq!(discovery.current().0.len(), 1);
    let requests = server.requests.lock().clone();
    assert_eq!(requests[0].0, "/v3/discovery:monitoringassignments?fetch-timeout=1m30s");
    assert_eq!(requests[0].1, json!({"node": {"id": "me"}, "type_url": TYPE_URL}));
    assert_eq!(
        (&requests[1].1["version_info"], &requests[1].1["response_nonce"]),
        (&"1".into(), &"1".into())
    );
}

#[test]
fn configuration_and_type_errors_are_those_of_prometheus() {
    for (yaml, error) in [
        ("{}", "kuma SD server must not be empty: "),
        ("{server: 'h:1'}", "kuma SD server must not be empty and have a scheme: h:1"),
    ] {
        let config: KumaSdConfig = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(KumaSd::validate(&config).unwrap_err().to_string(), error, "{yaml}");
    }
    let error = targets(&[Assignment { kind: "x".into(), ..Assignment::default() }]).unwrap_err().to_string();
    assert_eq!(error, "received invalid typeURL for Kuma MADS v1 Resource: x");
}
