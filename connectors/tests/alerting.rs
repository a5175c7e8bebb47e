//! Alerts to Alertmanagers that live, answer badly or are dead.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use connectors::alertmanager::{Alert, AlertingConfig, Notifier};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use storage::metrics::Metrics;
use storage::model::Labels;

#[derive(Clone, Default)]
struct Inbox {
    batches: Arc<Mutex<Vec<Vec<Value>>>>,
    /// Answers to give before the first 200.
    failures: Arc<Mutex<Vec<StatusCode>>>,
}

impl Inbox {
    fn names(&self) -> Vec<String> {
        let batches = self.batches.lock().unwrap();
        batches.iter().flatten().map(|a| a["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

async fn receive(State(inbox): State<Inbox>, Json(alerts): Json<Vec<Value>>) -> StatusCode {
    if let Some(status) = inbox.failures.lock().unwrap().pop() {
        return status;
    }
    inbox.batches.lock().unwrap().push(alerts);
    StatusCode::OK
}

async fn alertmanager() -> (Inbox, String) {
    let inbox = Inbox::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = Router::new().route("/am/api/v2/alerts", post(receive)).with_state(inbox.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (inbox, address)
}

fn alert(name: &str) -> Alert {
    Alert {
        labels: Labels::from_pairs([("alertname", name), ("severity", "page"), ("cluster", "own")]),
        annotations: BTreeMap::new(),
        starts_at: 1_000,
        ends_at: 2_000,
        generator_url: String::new(),
    }
}

fn apply(notifier: &Notifier, yaml: &str) {
    let config: AlertingConfig = serde_saphyr::from_str(yaml).unwrap();
    let external = [("region", "eu"), ("cluster", "other")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    notifier.apply(&config, &external.into()).unwrap();
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_arrive_labelled_and_relabelled_while_another_alertmanager_is_dead() {
    let (inbox, address) = alertmanager().await;
    let metrics = Metrics::default();
    let notifier = Notifier::new(&metrics, 0);
    apply(
        &notifier,
        &format!(
            "alert_relabel_configs: [{{source_labels: [alertname], regex: Muted, action: drop}}]\n\
             alertmanagers: [{{path_prefix: /am, static_configs: [{{targets: ['{address}', '127.0.0.1:1']}}]}}]"
        ),
    );
    until("discovery", || notifier.active().len() == 2).await;
    let start = Instant::now();
    notifier.send(vec![alert("Burning"), alert("Muted")]);
    assert!(start.elapsed() < Duration::from_millis(50), "sending never waits");
    until("arrival", || !inbox.names().is_empty()).await;
    assert!(start.elapsed() < Duration::from_secs(1), "the dead one delays nothing");
    assert_eq!(inbox.names(), ["Burning"]);
    let labels = inbox.batches.lock().unwrap()[0][0]["labels"].clone();
    assert_eq!((&labels["region"], &labels["cluster"]), (&"eu".into(), &"own".into()));
    assert!(notifier.active().contains(&format!("http://{address}/am/api/v2/alerts")));
    assert!(notifier.drain(Duration::from_secs(10)).await);
    let text = metrics.render();
    assert!(text.contains("prometheus_notifications_alertmanagers_discovered 2"), "{text}");
    assert!(text.contains(
        "prometheus_notifications_errors_total{alertmanager=\"http://127.0.0.1:1/am/api/v2/alerts\"} 1"
    ));
    apply(&notifier, "alertmanagers: []");
    assert!(notifier.active().is_empty());
    assert!(metrics.render().contains("prometheus_notifications_alertmanagers_discovered 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_retried_and_many_alerts_come_in_batches() {
    let (inbox, address) = alertmanager().await;
    *inbox.failures.lock().unwrap() =
        vec![StatusCode::SERVICE_UNAVAILABLE, StatusCode::INTERNAL_SERVER_ERROR];
    let notifier = Notifier::new(&Metrics::default(), 0);
    apply(
        &notifier,
        &format!("alertmanagers: [{{path_prefix: am, static_configs: [{{targets: ['{address}']}}]}}]"),
    );
    until("discovery", || notifier.active().len() == 1).await;
    notifier.send((0..600).map(|i| alert(&format!("a{i}"))).collect());
    until("arrival", || inbox.names().len() == 600).await;
    let sizes: Vec<usize> = inbox.batches.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [256, 256, 88]);
    assert_eq!(inbox.names()[0], "a0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_drops_the_oldest_and_a_refused_batch_is_not_retried() {
    let (inbox, address) = alertmanager().await;
    *inbox.failures.lock().unwrap() = vec![StatusCode::BAD_REQUEST];
    let metrics = Metrics::default();
    let notifier = Notifier::new(&metrics, 3);
    apply(
        &notifier,
        &format!("alertmanagers: [{{path_prefix: am, static_configs: [{{targets: ['{address}']}}]}}]"),
    );
    until("discovery", || notifier.active().len() == 1).await;
    notifier.send((0..5).map(|i| alert(&format!("a{i}"))).collect());
    assert!(notifier.drain(Duration::from_secs(10)).await);
    assert!(inbox.names().is_empty(), "a 400 is final");
    let text = metrics.render();
    // Two fell out of the queue, three were refused.
    assert!(
        text.contains(&format!(
            "prometheus_notifications_dropped_total{{alertmanager=\"http://{address}/am/api/v2/alerts\"}} 5"
        )),
        "{text}"
    );
    notifier.send(vec![alert("next")]);
    until("arrival", || inbox.names() == ["next"]).await;
}
