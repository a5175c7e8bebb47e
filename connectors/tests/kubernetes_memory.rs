//! Measures the memory for ten thousand pods found by `kubernetes_sd_configs`: at most 60 MB, also
//! while they are listed and after all of them were listed again. The only test in its program,
//! because it measures the process.

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use connectors::discovery::{DiscoveryConfigs, DiscoveryContext, DiscoverySet, DiscoveryUser};
use connectors::http_client::Peers;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use storage::metrics::Metrics;
use tokio::sync::Notify;

const PODS: usize = 10_000;
const MOST: usize = 60_000_000;

/// The peak memory of the process since the last call, bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// An event for a pod with the labels, annotations and size (6 kB) of usual ones.
fn event(n: usize) -> String {
    let managed = "{\"f:spec\":{\"f:containers\":{\"k\":{}}}},".repeat(120);
    let volumes = "{\"name\":\"kube-api-access\",\"projected\":{}},".repeat(10);
    format!(
        r#"{{"type":"ADDED","object":{{"kind":"Pod","apiVersion":"v1","metadata":{{
        "name":"checkout-service-5d9f7c6b8-{n:05}","namespace":"team-{team}","uid":"0b6f3c1e-6a3e-4d3f-9a57-{n:012}",
        "resourceVersion":"{n}",
        "labels":{{"app.kubernetes.io/name":"checkout-service","app.kubernetes.io/instance":"checkout-service-production",
        "app.kubernetes.io/version":"1.27.{n}","app.kubernetes.io/managed-by":"Helm","helm.sh/chart":"checkout-service-4.7.1",
        "pod-template-hash":"5d9f7c6b8","team":"team-{team}","topology.kubernetes.io/zone":"eu-central-1a"}},
        "annotations":{{"prometheus.io/scrape":"true","prometheus.io/port":"9090","prometheus.io/path":"/metrics",
        "checksum/config":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a{n:05}"}},
        "ownerReferences":[{{"kind":"ReplicaSet","name":"checkout-service-5d9f7c6b8","controller":true}}],
        "managedFields":[{managed}{{}}]}},
        "spec":{{"volumes":[{volumes}{{}}],"nodeName":"ip-10-0-{node}-17.eu-central-1.compute.internal","containers":[
        {{"name":"app","image":"registry.example.com/shop/checkout-service:1.27.3","ports":[{{"name":"http","containerPort":8080,"protocol":"TCP"}},
        {{"name":"metrics","containerPort":9090,"protocol":"TCP"}}]}},
        {{"name":"istio-proxy","image":"registry.example.com/istio/proxyv2:1.20.3","ports":[{{"name":"http-envoy-prom","containerPort":15090,"protocol":"TCP"}}]}}],
        "initContainers":[{{"name":"istio-init","image":"registry.example.com/istio/proxyv2:1.20.3"}}]}},
        "status":{{"phase":"Running","podIP":"10.{a}.{b}.7","hostIP":"10.0.{node}.17","conditions":[{{"type":"Ready","status":"True"}}],
        "containerStatuses":[{{"name":"app","containerID":"containerd://5f2d8e1b6c7a4938b1d0e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0{n:06}"}},
        {{"name":"istio-proxy","containerID":"containerd://6f2d8e1b6c7a4938b1d0e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0{n:06}"}}]}}}}}}"#,
        team = n % 50,
        node = n % 200,
        a = n / 250,
        b = n % 250,
    )
}

const BOOKMARK: &str = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"20000","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;

/// How often a whole list was sent, and the wish that it be sent again.
#[derive(Default)]
struct ApiServer {
    lists: AtomicUsize,
    again: Notify,
}

async fn answer(State(server): State<Arc<ApiServer>>, RawQuery(query): RawQuery) -> Response {
    if !query.unwrap_or_default().contains("sendInitialEvents") {
        let gone = r#"{"type":"ERROR","object":{"code":410}}"#;
        return Response::new(Body::from(gone));
    }
    server.lists.fetch_add(1, SeqCst);
    let events = futures::stream::unfold((server, 0), |(server, n)| async move {
        let text = match n {
            0..PODS => event(n),
            PODS => BOOKMARK.to_owned(),
            // Then the version is forgotten.
            _ => {
                server.again.notified().await;
                r#"{"type":"ERROR","object":{"code":410}}"#.to_owned()
            }
        };
        Some((Ok::<Bytes, Infallible>(text.into()), (server, n + 1)))
    });
    Response::new(Body::from_stream(events))
}

#[tokio::test]
async fn ten_thousand_pods_need_little_memory() {
    let server = Arc::new(ApiServer::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(answer).with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let yaml = format!("[{{role: pod, api_server: '{url}'}}]");
    let config = DiscoveryConfigs {
        kubernetes_sd_configs: serde_saphyr::from_str(&yaml).unwrap(),
        ..DiscoveryConfigs::default()
    };
    let metrics = Metrics::default();
    let context = DiscoveryContext {
        peers: &Peers::default(),
        metrics: &metrics,
        pool: "job",
        user: DiscoveryUser::Scrape,
    };
    drop(config.http_configs()[0].client().unwrap());
    peak();
    let before = peak();
    let mut discovery = DiscoverySet::start(&config, &context);
    tokio::time::timeout(Duration::from_secs(300), discovery.changed()).await.expect("a list");
    let first = peak() - before;
    let (found, _) = discovery.found();
    // Three ports, and the init container without one.
    assert_eq!(found.iter().count(), 4 * PODS);
    let labels = found.iter().map(|target| target.labels().len()).sum::<usize>();
    drop(found);
    server.again.notify_one();
    while server.lists.load(SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let second = peak() - before;
    eprintln!("{PODS} pods, {labels} labels of targets: {first} bytes, {second} after another list");
    assert!(first <= MOST && second <= MOST, "{first} and {second} bytes");
    assert!(metrics.render().contains("kubernetes_events_total{role=\"pod\",event=\"add\"} 10000"));
}
