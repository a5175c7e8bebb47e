//! Tests `kubernetes_sd_configs` against an API server in this process.

use super::*;
use crate::discovery::replay::assert_replayed;
use crate::discovery::{ADDRESS, DiscoveredTarget, DiscoveryConfigs, DiscoverySet, DiscoveryUser};
use crate::http_client::Peers;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::Instant;

/// An API server: objects, their history, and how it behaves.
struct ApiServer {
    state: Mutex<ApiState>,
    /// Sent at each event, and when connections are cut.
    wake: broadcast::Sender<()>,
}

#[derive(Default)]
struct ApiState {
    version: u64,
    /// By path: `/api/v1/pods`.
    objects: BTreeMap<String, Vec<Value>>,
    history: Vec<ApiEvent>,
    /// Events up to this version are forgotten.
    forgotten: u64,
    /// Whether lists as watches are refused.
    is_old: bool,
    /// Whether everything is refused, with this status.
    refuses: Option<StatusCode>,
    /// Grows when all connections are cut.
    cuts: u64,
    requests: Vec<String>,
}

#[derive(Clone)]
struct ApiEvent {
    version: u64,
    path: String,
    kind: &'static str,
    object: Value,
}

/// The path of the list of all namespaces, and the namespace.
fn split_path(path: &str) -> (String, Option<String>) {
    match path.split_once("/namespaces/") {
        Some((group, rest)) => {
            let (namespace, name) = rest.split_once('/').unwrap();
            (format!("{group}/{name}"), Some(namespace.to_owned()))
        }
        None => (path.to_owned(), None),
    }
}

fn is_in(object: &Value, namespace: &Option<String>) -> bool {
    namespace.as_ref().is_none_or(|namespace| object["metadata"]["namespace"] == *namespace)
}

impl ApiServer {
    async fn start(objects: Value) -> (Arc<ApiServer>, String) {
        let objects: BTreeMap<String, Vec<Value>> = serde_json::from_value(objects).unwrap();
        let state = ApiState { version: 1, objects, ..ApiState::default() };
        let server = Arc::new(ApiServer { state: Mutex::new(state), wake: broadcast::channel(1_000).0 });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (server, url)
    }

    /// Adds, replaces or (`DELETED`) removes an object.
    fn change(&self, path: &str, kind: &'static str, object: Value) {
        let mut state = self.state.lock();
        state.version += 1;
        let version = state.version;
        let mut object = object;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let all = state.objects.entry(path.to_owned()).or_default();
        let metadata =
            |object: &Value| (object["metadata"]["namespace"].clone(), object["metadata"]["name"].clone());
        all.retain(|other| metadata(other) != metadata(&object));
        if kind != "DELETED" {
            all.push(object.clone());
        }
        state.history.push(ApiEvent { version, path: path.to_owned(), kind, object });
        drop(state);
        let _ = self.wake.send(());
    }

    fn set(&self, change: impl FnOnce(&mut ApiState)) {
        change(&mut self.state.lock());
        let _ = self.wake.send(());
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().requests)
    }

    /// What a watch that has sent everything up to `version` sends next.
    fn news(&self, path: &str, namespace: &Option<String>, version: &mut u64) -> String {
        let state = self.state.lock();
        let its = |event: &&ApiEvent| {
            event.version > *version && event.path == path && is_in(&event.object, namespace)
        };
        let mut out = String::new();
        for event in state.history.iter().filter(its) {
            out.push_str(&format!("{}\n", json!({"type": event.kind, "object": event.object})));
        }
        *version = state.version;
        out
    }
}

fn status(code: StatusCode, message: &str) -> Value {
    json!({"kind": "Status", "status": "Failure", "message": message, "code": code.as_u16()})
}

async fn answer(State(server): State<Arc<ApiServer>>, request: Request) -> Response {
    let uri = request.uri();
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()).into_owned().collect();
    let (path, namespace) = split_path(uri.path());
    let state = &mut *server.state.lock();
    state.requests.push(uri.to_string());
    let refuse = |code: StatusCode, text: &str| (code, status(code, text).to_string()).into_response();
    if let Some(code) = state.refuses {
        return refuse(code, "not for you");
    }
    let all: Vec<Value> =
        state.objects.get(&path).into_iter().flatten().filter(|o| is_in(o, &namespace)).cloned().collect();
    if !query.contains_key("watch") {
        let from: usize = query.get("continue").map_or(0, |token| token.parse().unwrap());
        let limit: usize = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let end = from.saturating_add(limit).min(all.len());
        let next = if end < all.len() { end.to_string() } else { String::new() };
        let metadata = json!({"resourceVersion": state.version.to_string(), "continue": next});
        return json!({"kind": "List", "metadata": metadata, "items": all[from..end]})
            .to_string()
            .into_response();
    }
    let mut first = String::new();
    let mut version = state.version;
    if query.contains_key("sendInitialEvents") {
        if state.is_old {
            return refuse(StatusCode::UNPROCESSABLE_ENTITY, "resourceVersionMatch: Forbidden");
        }
        for object in all {
            first.push_str(&json!({"type": "ADDED", "object": object}).to_string());
        }
        let end = json!({"resourceVersion": version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}});
        first.push_str(&json!({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": end}}).to_string());
    } else {
        version = query["resourceVersion"].parse().unwrap();
        if version < state.forgotten {
            let gone = status(StatusCode::GONE, "too old resource version");
            return json!({"type": "ERROR", "object": gone}).to_string().into_response();
        }
    }
    let cuts = state.cuts;
    let woken = server.wake.subscribe();
    let following = FollowedWatch { server: server.clone(), path, namespace, version, cuts, first, woken };
    Body::from_stream(futures::stream::unfold(following, FollowedWatch::next)).into_response()
}

/// A watch that is being answered.
struct FollowedWatch {
    server: Arc<ApiServer>,
    path: String,
    namespace: Option<String>,
    version: u64,
    cuts: u64,
    first: String,
    woken: broadcast::Receiver<()>,
}

impl FollowedWatch {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, FollowedWatch)> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            return Some((Ok(first.into()), self));
        }
        loop {
            if self.server.state.lock().cuts != self.cuts {
                return None;
            }
            let news = self.server.news(&self.path, &self.namespace, &mut self.version);
            if !news.is_empty() {
                return Some((Ok(news.into()), self));
            }
            self.woken.recv().await.ok()?;
        }
    }
}

/// A discovery of `config` (a YAML map) at the server `url`.
fn discover(config: &str, url: &str, metrics: &Metrics) -> DiscoverySet {
    let mut entry: KubernetesSdConfig = serde_saphyr::from_str(config).unwrap();
    entry.keys.api_server = url.into();
    let config = DiscoveryConfigs { kubernetes_sd_configs: vec![entry], ..DiscoveryConfigs::default() };
    config.validate().unwrap();
    let context =
        DiscoveryContext { peers: &Peers::default(), metrics, pool: "job", user: DiscoveryUser::Scrape };
    DiscoverySet::start(&config, &context)
}

/// The next list; it is there within a second.
async fn next(discovery: &mut DiscoverySet) -> Vec<DiscoveredTarget> {
    tokio::time::timeout(Duration::from_secs(1), discovery.changed()).await.expect("a list within a second");
    discovery.current().0
}

fn addresses(targets: &[DiscoveredTarget]) -> Vec<&str> {
    targets.iter().map(|target| target[ADDRESS].as_str()).collect()
}

fn objects() -> Value {
    serde_json::from_str(include_str!("../../../tests/data/kubernetes/objects.json")).unwrap()
}

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": ip}
    })
}

const PODS: &str = "/api/v1/pods";

/// The labels are those that Prometheus' own tests expect for the same objects.
#[tokio::test]
async fn targets_of_all_roles_have_prometheus_labels() {
    let cases: Value =
        serde_json::from_str(include_str!("../../../tests/data/kubernetes/targets.json")).unwrap();
    for is_old in [false, true] {
        let (server, url) = ApiServer::start(objects()).await;
        server.set(|state| state.is_old = is_old);
        for case in cases.as_array().unwrap() {
            let config = case["config"].as_str().unwrap();
            let mut expected = Vec::new();
            for own in case["targets"].as_array().unwrap() {
                let mut target = DiscoveredTarget::new();
                let pairs = case["shared"].as_object().unwrap().iter().chain(own.as_object().unwrap());
                for (name, value) in pairs {
                    let is_plain = [ADDRESS, "instance"].contains(&name.as_str());
                    let prefix = if is_plain { "" } else { case["prefix"].as_str().unwrap() };
                    target.insert(format!("{prefix}{name}"), value.as_str().unwrap().to_owned());
                }
                expected.push(target);
            }
            let metrics = Metrics::default();
            let found = next(&mut discover(config, &url, &metrics)).await;
            assert_eq!(found, expected, "{config}");
            let failures = "prometheus_sd_kubernetes_failures_total 0";
            assert!(metrics.render().contains(failures), "{config}: {}", metrics.render());
        }
        let requests = server.requests();
        let selected = "/api/v1/services?";
        let services: Vec<&String> = requests.iter().filter(|uri| uri.starts_with(selected)).collect();
        let selectors = "labelSelector=a%3Db&fieldSelector=metadata.name%21%3Dx";
        assert!(services.iter().any(|uri| uri.contains(selectors)), "{services:?}");
    }
}

/// What a real API server (1.34) sent: lists, changes, bookmarks, a selection that a pod leaves,
/// the end of its watches, versions that it has forgotten (410); and lists in pages, of which one
/// is forgotten after its first page, and a pod of this page is gone.
#[tokio::test(start_paused = true)]
async fn targets_follow_what_a_real_server_sent() {
    let recording = |name: &str| match name {
        "kubernetes.jsonl" => include_str!("../../../tests/data/discovery/recorded/kubernetes.jsonl"),
        _ => include_str!("../../../tests/data/discovery/recorded/kubernetes-pages.jsonl"),
    };
    let block = |yaml: &str| {
        let mut entry: KubernetesSdConfig = serde_saphyr::from_str(yaml).unwrap();
        entry.keys.api_server = "https://localhost:6443".into();
        DiscoveryConfigs { kubernetes_sd_configs: vec![entry], ..DiscoveryConfigs::default() }
    };
    let cases = include_str!("../../../tests/data/discovery/recorded/kubernetes.json");
    // All steps together take less than the time after which a silent watch is opened again.
    assert_replayed(cases, recording, block, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn changes_reach_the_targets_within_a_second_and_connections_are_resumed() {
    let (server, url) = ApiServer::start(json!({PODS: [pod("a", "10.0.0.1")]})).await;
    let metrics = Metrics::default();
    let mut discovery = discover("{role: pod}", &url, &metrics);
    assert_eq!(addresses(&next(&mut discovery).await), ["10.0.0.1:80"]);
    server.change(PODS, "ADDED", pod("b", "10.0.0.2"));
    assert_eq!(addresses(&next(&mut discovery).await), ["10.0.0.1:80", "10.0.0.2:80"]);
    server.change(PODS, "MODIFIED", pod("b", "10.0.0.3"));
    assert_eq!(addresses(&next(&mut discovery).await), ["10.0.0.1:80", "10.0.0.3:80"]);
    server.change(PODS, "DELETED", pod("a", "10.0.0.1"));
    assert_eq!(addresses(&next(&mut discovery).await), ["10.0.0.3:80"]);
    // The same again is no change.
    server.change(PODS, "MODIFIED", pod("b", "10.0.0.3"));
    let rendered = metrics.render();
    assert!(rendered.contains("kubernetes_events_total{role=\"pod\",event=\"add\"} 2"), "{rendered}");
    assert!(rendered.contains("kubernetes_events_total{role=\"service\",event=\"update\"} 0"), "{rendered}");
    server.requests();
    // A connection that ends after some time is opened again at once, from the last version.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    server.set(|state| state.cuts += 1);
    server.change(PODS, "ADDED", pod("c", "10.0.0.4"));
    assert_eq!(addresses(&next(&mut discovery).await), ["10.0.0.3:80", "10.0.0.4:80"]);
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].contains("&resourceVersion=5"), "{requests:?}");
    assert!(metrics.render().contains("prometheus_sd_kubernetes_failures_total 0"));
}

#[tokio::test]
async fn a_forgotten_version_lists_again() {
    let (server, url) = ApiServer::start(json!({PODS: [pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]})).await;
    let metrics = Metrics::default();
    let mut discovery = discover("{role: pod}", &url, &metrics);
    assert_eq!(next(&mut discovery).await.len(), 2);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    server.requests();
    // What happens now is known to nobody who asks from before.
    server.set(|state| {
        state.version = 100;
        state.forgotten = 100;
        state.objects.insert(PODS.to_owned(), vec![pod("b", "10.0.0.2"), pod("c", "10.0.0.3")]);
        state.cuts += 1;
    });
    assert_eq!(addresses(&next(&mut discovery).await), ["10.0.0.2:80", "10.0.0.3:80"]);
    let requests = server.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests[1].contains("sendInitialEvents"), "{requests:?}");
    assert!(metrics.render().contains("prometheus_sd_kubernetes_failures_total 0"));
}

#[tokio::test]
async fn a_refused_list_counts_and_keeps_the_targets() {
    let (server, url) = ApiServer::start(json!({PODS: [pod("a", "10.0.0.1")]})).await;
    let metrics = Metrics::default();
    let mut discovery = discover("{role: pod}", &url, &metrics);
    assert_eq!(next(&mut discovery).await.len(), 1);
    server.set(|state| {
        state.refuses = Some(StatusCode::FORBIDDEN);
        state.forgotten = 100;
        state.cuts += 1;
    });
    let failed = "prometheus_sd_kubernetes_failures_total 0";
    let deadline = Instant::now() + Duration::from_secs(20);
    while metrics.render().contains(failed) {
        assert!(Instant::now() < deadline, "no failure counts");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(discovery.current().0.len(), 1);
    assert!(metrics.render().contains("http_request_total{status_code=\"403\"}"), "{}", metrics.render());
    server.set(|state| {
        state.refuses = None;
        state.version = 100;
        state.objects.insert(PODS.to_owned(), vec![pod("z", "10.0.0.9")]);
    });
    tokio::time::timeout(Duration::from_secs(20), discovery.changed()).await.expect("the list after it");
    assert_eq!(addresses(&discovery.current().0), ["10.0.0.9:80"]);
}

#[tokio::test]
async fn an_old_server_is_asked_for_pages() {
    let pods: Vec<Value> = (0..1_201).map(|n| pod(&format!("p{n:04}"), "10.0.0.1")).collect();
    let (server, url) = ApiServer::start(json!({PODS: pods})).await;
    server.set(|state| state.is_old = true);
    let metrics = Metrics::default();
    let mut discovery = discover("{role: pod, namespaces: {names: [d]}}", &url, &metrics);
    tokio::time::timeout(Duration::from_secs(20), discovery.changed()).await.expect("a list");
    assert_eq!(discovery.current().0.len(), 1_201);
    let requests = server.requests();
    let lists: Vec<&String> = requests.iter().filter(|uri| !uri.contains("watch=")).collect();
    let path = "/api/v1/namespaces/d/pods";
    assert_eq!(
        lists,
        [
            &format!("{path}?limit=500"),
            &format!("{path}?limit=500&continue=500"),
            &format!("{path}?limit=500&continue=1000")
        ]
    );
    server.change(PODS, "DELETED", pod("p0000", "10.0.0.1"));
    assert_eq!(next(&mut discovery).await.len(), 1_200);
}

/// Endpoints change with their pods, services and nodes.
#[tokio::test]
async fn endpoints_follow_what_they_refer_to() {
    let (server, url) = ApiServer::start(objects()).await;
    let metrics = Metrics::default();
    let config = "{role: endpointslice, attach_metadata: {node: true}, namespaces: {names: [default]}}";
    let mut discovery = discover(config, &url, &metrics);
    let first = next(&mut discovery).await;
    let ready = "__meta_kubernetes_pod_ready";
    assert_eq!(first.iter().filter(|t| t.get(ready).is_some_and(|v| v == "true")).count(), 3);
    let mut pod = objects()[PODS][0].clone();
    pod["status"]["conditions"][0]["status"] = "False".into();
    server.change(PODS, "MODIFIED", pod);
    let second = next(&mut discovery).await;
    assert_eq!(second.iter().filter(|t| t.get(ready).is_some_and(|v| v == "false")).count(), 3);
    let mut service = objects()["/api/v1/services"][0].clone();
    service["metadata"]["labels"]["app"] = "new".into();
    server.change("/api/v1/services", "MODIFIED", service);
    let third = next(&mut discovery).await;
    let app = "__meta_kubernetes_service_label_app";
    assert_eq!(third.iter().filter(|t| t.get(app).is_some_and(|v| v == "new")).count(), 4);
    server.change("/api/v1/nodes", "DELETED", objects()["/api/v1/nodes"][0].clone());
    let fourth = next(&mut discovery).await;
    assert!(!fourth.iter().any(|target| target.contains_key("__meta_kubernetes_node_name")));
}

#[test]
fn configuration_errors_are_those_of_prometheus() {
    for (yaml, error) in [
        ("{}", "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)"),
        ("{role: vm}", "unknown Kubernetes SD role \"vm\""),
        (
            "{role: pod, api_server: 'http://h', kubeconfig_file: f}",
            "cannot use 'kubeconfig_file' and 'api_server' simultaneously",
        ),
        (
            "{role: pod, kubeconfig_file: f, follow_redirects: false}",
            "cannot use a custom HTTP client configuration together with 'kubeconfig_file'",
        ),
        (
            "{role: pod, bearer_token: t}",
            "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
        ),
        (
            "{role: pod, api_server: 'http://h', namespaces: {own_namespace: true}}",
            "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously",
        ),
        ("{role: pod, selectors: [{role: pod}, {role: pod}]}", "duplicated selector role: pod"),
        ("{role: pod, selectors: [{role: service}]}", "pod role supports only pod, node selectors"),
    ] {
        let config: KubernetesSdConfig = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(KubernetesSd::validate(&config).unwrap_err().to_string(), error, "{yaml}");
    }
    let outside: KubernetesSdConfig = serde_saphyr::from_str("{role: pod}").unwrap();
    let context = DiscoveryContext {
        peers: &Peers::default(),
        metrics: &Metrics::default(),
        pool: "job",
        user: DiscoveryUser::Scrape,
    };
    let error = KubernetesSd::start(&outside, &context).err().unwrap().to_string();
    assert!(error.starts_with("unable to load in-cluster configuration"), "{error}");
}

#[tokio::test]
async fn an_entry_that_cannot_be_started_counts_as_long_as_it_is_configured() {
    let metrics = Metrics::default();
    let outside: KubernetesSdConfig = serde_saphyr::from_str("{role: pod}").unwrap();
    let config = DiscoveryConfigs { kubernetes_sd_configs: vec![outside], ..DiscoveryConfigs::default() };
    let context = DiscoveryContext {
        peers: &Peers::default(),
        metrics: &metrics,
        pool: "job",
        user: DiscoveryUser::Notify,
    };
    let count = |number: f64| {
        let line = format!("prometheus_sd_failed_configs{{name=\"notify\"}} {number}");
        assert!(metrics.render().contains(&line), "{}", metrics.render());
    };
    let set = DiscoverySet::start(&config, &context);
    assert!(set.has_failed());
    count(1.0);
    let whole = DiscoverySet::start(&DiscoveryConfigs::default(), &context);
    assert!(!whole.has_failed());
    count(1.0);
    drop(set);
    count(0.0);
}
