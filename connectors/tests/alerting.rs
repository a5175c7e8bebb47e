//! Tests the alert notifier with Alertmanagers that work, return errors, or do not respond.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use connectors::alertmanager::{
    AlertingConfig, AlertmanagerAlert, DeliveryReport, Notifier, QueueLimits, QueuedAlert,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use storage::metrics::Metrics;
use storage::model::Labels;

#[derive(Clone, Default)]
struct ReceivedAlerts {
    batches: Arc<Mutex<Vec<Vec<Value>>>>,
    /// The headers `Authorization` and `X-Team` of each request.
    headers: Arc<Mutex<Vec<(String, String)>>>,
    /// The responses before the first 200.
    failures: Arc<Mutex<Vec<StatusCode>>>,
}

impl ReceivedAlerts {
    fn names(&self) -> Vec<String> {
        let batches = self.batches.lock().unwrap();
        batches.iter().flatten().map(|a| a["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

async fn receive(
    State(inbox): State<ReceivedAlerts>,
    headers: axum::http::HeaderMap,
    Json(alerts): Json<Vec<Value>>,
) -> StatusCode {
    let header = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    inbox.headers.lock().unwrap().push((header("authorization"), header("x-team")));
    if let Some(status) = inbox.failures.lock().unwrap().pop() {
        return status;
    }
    inbox.batches.lock().unwrap().push(alerts);
    StatusCode::OK
}

async fn alertmanager() -> (ReceivedAlerts, String) {
    let inbox = ReceivedAlerts::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = Router::new().route("/am/api/v2/alerts", post(receive)).with_state(inbox.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (inbox, address)
}

fn alert(name: &str) -> AlertmanagerAlert {
    AlertmanagerAlert {
        labels: Labels::from_pairs([("alertname", name), ("severity", "page"), ("cluster", "own")]),
        annotations: BTreeMap::new(),
        starts_at: 1_000,
        ends_at: 2_000,
        generator_url: String::new(),
    }
}

fn outgoing(name: &str) -> QueuedAlert {
    alert(name).into()
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
    let notifier = Notifier::new(&metrics, QueueLimits::default());
    apply(
        &notifier,
        &format!(
            "alert_relabel_configs: [{{source_labels: [alertname], regex: Muted, action: drop}}]\n\
             alertmanagers: [{{path_prefix: /am, static_configs: [{{targets: ['{address}', '127.0.0.1:1']}}]}}]"
        ),
    );
    until("discovery", || notifier.active().len() == 2).await;
    let start = Instant::now();
    notifier.send(vec![outgoing("Burning"), outgoing("Muted")]);
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

/// On one thread no task runs between `apply` and `send`.
#[tokio::test]
async fn an_alert_sent_right_after_the_start_finds_its_alertmanagers() {
    let (inbox, address) = alertmanager().await;
    let notifier = Notifier::new(&Metrics::default(), QueueLimits::default());
    apply(
        &notifier,
        &format!("alertmanagers: [{{path_prefix: /am, static_configs: [{{targets: ['{address}']}}]}}]"),
    );
    notifier.send(vec![outgoing("Early")]);
    until("arrival", || inbox.names() == ["Early"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_retried_and_many_alerts_come_in_batches() {
    let (inbox, address) = alertmanager().await;
    *inbox.failures.lock().unwrap() =
        vec![StatusCode::SERVICE_UNAVAILABLE, StatusCode::INTERNAL_SERVER_ERROR];
    let notifier = Notifier::new(&Metrics::default(), QueueLimits::default());
    apply(
        &notifier,
        &format!("alertmanagers: [{{path_prefix: am, static_configs: [{{targets: ['{address}']}}]}}]"),
    );
    until("discovery", || notifier.active().len() == 1).await;
    notifier.send((0..600).map(|i| outgoing(&format!("a{i}"))).collect());
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
    let notifier = Notifier::new(&metrics, QueueLimits { capacity: 3, ..QueueLimits::default() });
    apply(
        &notifier,
        &format!("alertmanagers: [{{path_prefix: am, static_configs: [{{targets: ['{address}']}}]}}]"),
    );
    until("discovery", || notifier.active().len() == 1).await;
    notifier.send((0..5).map(|i| outgoing(&format!("a{i}"))).collect());
    assert!(notifier.drain(Duration::from_secs(10)).await);
    assert!(inbox.names().is_empty(), "a 400 is final");
    let text = metrics.render();
    // The queue dropped two, the Alertmanager refused three.
    assert!(
        text.contains(&format!(
            "prometheus_notifications_dropped_total{{alertmanager=\"http://{address}/am/api/v2/alerts\"}} 5"
        )),
        "{text}"
    );
    notifier.send(vec![outgoing("next")]);
    until("arrival", || inbox.names() == ["next"]).await;
}

/// Each entry has its own authorization, labels and discovery.
#[tokio::test(flavor = "multi_thread")]
async fn every_entry_has_its_own_ways() {
    let (basic, first) = alertmanager().await;
    let (bearer, second) = alertmanager().await;
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    let targets = dir.path().join("targets.json");
    std::fs::write(&password, "geheim\n").unwrap();
    std::fs::write(&targets, format!(r#"[{{"targets": ["{second}", "127.0.0.1:1"]}}]"#)).unwrap();
    let notifier = Notifier::new(&Metrics::default(), QueueLimits { batch: 2, ..QueueLimits::default() });
    apply(
        &notifier,
        &format!(
            r#"
alertmanagers:
- path_prefix: /am
  basic_auth: {{username: me, password_file: '{}'}}
  static_configs: [{{targets: ['{first}']}}]
  alert_relabel_configs: [{{regex: severity, action: labeldrop}}]
- path_prefix: /am
  authorization: {{credentials: token}}
  http_headers: {{X-Team: {{values: [night]}}}}
  file_sd_configs: [{{files: ['{}']}}]
  relabel_configs: [{{source_labels: [__address__], regex: '127.0.0.1:1', action: drop}}]
  alert_relabel_configs: [{{source_labels: [alertname], regex: 'a1', action: drop}}]
"#,
            password.display(),
            targets.display()
        ),
    );
    until("discovery", || notifier.active().len() == 2).await;
    assert_eq!(notifier.dropped(), ["http://127.0.0.1:1/am/api/v2/alerts"]);
    notifier.send((0..3).map(|i| outgoing(&format!("a{i}"))).collect());
    until("arrival", || basic.names().len() == 3 && bearer.names().len() == 2).await;
    assert_eq!(bearer.names(), ["a0", "a2"]);
    let sizes: Vec<usize> = basic.batches.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 1], "the size of a batch");
    let severity = |inbox: &ReceivedAlerts| inbox.batches.lock().unwrap()[0][0]["labels"]["severity"].clone();
    assert_eq!((severity(&basic), severity(&bearer)), (Value::Null, "page".into()));
    assert_eq!(basic.headers.lock().unwrap()[0], ("Basic bWU6Z2VoZWlt".to_owned(), String::new()));
    assert_eq!(bearer.headers.lock().unwrap()[0], ("Bearer token".to_owned(), "night".to_owned()));
}

/// The sender of an alert is notified once an Alertmanager has accepted it, not earlier.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_comes_when_an_alertmanager_has_taken_the_alert() {
    let (inbox, address) = alertmanager().await;
    inbox.failures.lock().unwrap().push(StatusCode::BAD_REQUEST);
    let notifier = Notifier::new(&Metrics::default(), QueueLimits::default());
    apply(
        &notifier,
        &format!("alertmanagers: [{{path_prefix: am, static_configs: [{{targets: ['{address}']}}]}}]"),
    );
    until("discovery", || notifier.active().len() == 1).await;
    let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let refused = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let send = || {
        let taken = taken.clone();
        let refused = refused.clone();
        let count = move |report: DeliveryReport<'_>| {
            let counter = if report.error.is_some() { &refused } else { &taken };
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        };
        notifier.send(vec![QueuedAlert { on_delivered: Some(Arc::new(count)), ..outgoing("x") }]);
    };
    send();
    assert!(notifier.drain(Duration::from_secs(10)).await);
    assert_eq!(taken.load(std::sync::atomic::Ordering::SeqCst), 0, "it was refused");
    assert_eq!(refused.load(std::sync::atomic::Ordering::SeqCst), 1, "and that is told, too");
    send();
    until("receipt", || taken.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
}
