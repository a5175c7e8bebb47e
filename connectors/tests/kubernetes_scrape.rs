//! From a change of a pod to a scrape: an API server in this process says that a pod has another
//! address, and then another path; the new target is scraped and the old one is not any more.

mod bench;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use bench::Bench;
use connectors::scrape::config::{GlobalConfig, jobs};
use serde_json::json;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What happened, in its order.
#[derive(Clone, Default)]
struct History(Arc<Mutex<Vec<(Instant, String)>>>);

impl History {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push((Instant::now(), what.into()));
    }

    /// The place of the first `what` from the place `from` on.
    fn find(&self, from: usize, what: &str) -> Option<usize> {
        let all = self.0.lock().unwrap();
        all.iter().skip(from).position(|(_, some)| some == what).map(|at| from + at)
    }

    async fn until(&self, from: usize, what: &str) -> usize {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(at) = self.find(from, what) {
                return at;
            }
            assert!(Instant::now() < deadline, "no {what}: {:?}", self.0.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn between(&self, first: usize, second: usize) -> Duration {
        let all = self.0.lock().unwrap();
        all[second].0 - all[first].0
    }
}

/// Answers scrapes at an address, and writes them down.
async fn target(history: History, ip: &'static str, port: u16) -> Option<u16> {
    let listener = TcpListener::bind((ip, port)).await.ok()?;
    let port = listener.local_addr().unwrap().port();
    let answer = move |uri: Uri| {
        history.add(format!("scrape of {ip}{}", uri.path()));
        async { ([("content-type", "text/plain")], "a 1\n") }
    };
    let app = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Some(port)
}

/// Two addresses of this machine with the same port.
async fn targets(history: &History) -> u16 {
    for _ in 0..20 {
        let port = target(history.clone(), "127.0.0.1", 0).await.expect("a port");
        if target(history.clone(), "127.0.0.2", port).await.is_some() {
            return port;
        }
    }
    panic!("no port is free at both addresses");
}

type Watch = Arc<Mutex<Option<mpsc::Receiver<String>>>>;

/// The only watch there is; later ones stay silent.
async fn watch(State(events): State<Watch>) -> Response {
    let events = events.lock().unwrap().take();
    let stream = futures::stream::unfold(events, |events| async {
        let Some(mut events) = events else { return std::future::pending().await };
        let event = events.recv().await?;
        Some((Ok::<Bytes, Infallible>(event.into()), Some(events)))
    });
    Response::new(Body::from_stream(stream))
}

fn pod(version: u64, ip: &str, port: u16, path: &str) -> serde_json::Value {
    json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": version.to_string(),
            "annotations": {"prometheus.io/path": path}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": ip}
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_pod_is_scraped_where_it_is_now() {
    let history = History::default();
    let port = targets(&history).await;
    let (sender, events) = mpsc::channel(10);
    let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", api.local_addr().unwrap());
    let app = Router::new().fallback(watch).with_state(Arc::new(Mutex::new(Some(events))));
    tokio::spawn(async move { axum::serve(api, app).await });
    let added = json!({"type": "ADDED", "object": pod(1, "127.0.0.1", port, "/metrics")});
    sender.send(added.to_string()).await.unwrap();
    let annotations = json!({"k8s.io/initial-events-end": "true"});
    let end = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "1", "annotations": annotations}}});
    sender.send(end.to_string()).await.unwrap();

    let bench = Bench::new("", false).await;
    let yaml = format!(
        "- job_name: j
  scrape_interval: 100ms
  scrape_timeout: 90ms
  kubernetes_sd_configs: [{{role: pod, api_server: '{url}'}}]
  relabel_configs:
  - {{source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], target_label: __metrics_path__}}"
    );
    let configs = serde_saphyr::from_str(&yaml).unwrap();
    bench.manager.apply(jobs(configs, &GlobalConfig::default()).unwrap()).unwrap();
    let mut before = "scrape of 127.0.0.1/metrics";
    let mut place = history.until(0, before).await;

    for (version, change, ip, path) in [
        (2, "the address changes", "127.0.0.2", "/metrics"),
        (3, "the annotation changes", "127.0.0.2", "/other"),
    ] {
        let modified = json!({"type": "MODIFIED", "object": pod(version, ip, port, path)});
        history.add(change);
        sender.send(modified.to_string()).await.unwrap();
        let after = format!("scrape of {ip}{path}");
        let changed = history.until(place, change).await;
        place = history.until(place, &after).await;
        assert!(changed < place, "{after} came before the change");
        eprintln!("{change}: the first scrape follows after {:?}", history.between(changed, place));
        // The old target may be scraped while the list of targets is renewed, and not after it.
        bench.until("one target", |b| b.manager.targets().active.len() == 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let rest = history.0.lock().unwrap().len();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(history.find(rest, before), None, "the old target is still scraped");
        assert!(history.find(rest, &after).is_some(), "the new target is scraped again and again");
        before = after.leak();
    }
    bench.manager.shutdown();
}
