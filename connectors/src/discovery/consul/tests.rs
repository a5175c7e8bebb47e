//! Tests `consul_sd_configs` against a server in this process that answers blocking queries.

use super::*;
use crate::discovery::replay::assert_replayed;
use crate::discovery::{ADDRESS, DiscoveryConfigs, DiscoverySet, DiscoveryUser};
use crate::http_client::Peers;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use storage::metrics::Metrics;
use tokio::sync::watch;

/// A server: what each path answers, all with the same index.
struct Consul {
    answers: Mutex<BTreeMap<String, Value>>,
    index: watch::Sender<u64>,
    requests: Mutex<Vec<String>>,
    logins: Mutex<Vec<String>>,
    fails: Mutex<bool>,
}

impl Consul {
    async fn start() -> (Arc<Consul>, String) {
        let answers = BTreeMap::from([
            ("/v1/agent/self".to_owned(), json!({"Config": {"Datacenter": "test-dc"}})),
            (
                "/v1/catalog/services".to_owned(),
                json!({"test": ["tag1", "common"], "other": ["common"], "bare": null}),
            ),
            ("/v1/health/service/test".to_owned(), json!([instance("n1", "1.1.1.1", "")])),
            ("/v1/health/service/other".to_owned(), json!([instance("n2", "2.2.2.2", "fd00::2")])),
            ("/v1/health/service/bare".to_owned(), json!([])),
        ]);
        let server = Arc::new(Consul {
            answers: Mutex::new(answers),
            index: watch::channel(1).0,
            requests: Mutex::default(),
            logins: Mutex::default(),
            fails: Mutex::new(false),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let app = axum::Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (server, address)
    }

    fn set(&self, path: &str, answer: Value) {
        self.answers.lock().insert(path.to_owned(), answer);
        self.index.send_modify(|index| *index += 1);
    }
}

async fn answer(State(server): State<Arc<Consul>>, request: Request) -> Response {
    let uri = request.uri().to_string();
    let token = request.headers().get("x-consul-token").map_or("", |value| value.to_str().unwrap());
    server.requests.lock().push(format!("{uri} {token}"));
    let login = request.headers().get("authorization").map_or("", |value| value.to_str().unwrap());
    server.logins.lock().push(login.to_owned());
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes()).into_owned().collect();
    let mut index = server.index.subscribe();
    if let Some(known) = query.get("index") {
        let known: u64 = known.parse().unwrap();
        let _ = index.wait_for(|index| *index != known).await;
    }
    if *server.fails.lock() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "No cluster leader").into_response();
    }
    let body = server.answers.lock().get(request.uri().path()).cloned().unwrap_or_default();
    let index = index.borrow().to_string();
    ([("x-consul-index", index)], body.to_string()).into_response()
}

/// An instance, with everything that becomes a label.
fn instance(node: &str, address: &str, service_address: &str) -> Value {
    json!({
        "Node": {"ID": "b78c2e48", "Node": node, "Address": address, "Datacenter": "test-dc",
            "TaggedAddresses": {"lan": "192.168.10.10", "wan-1": "10.0.10.10"}, "Meta": {"rack_name": "2304"}},
        "Service": {"ID": "test-1", "Service": "test", "Tags": ["tag1"], "Address": service_address,
            "Meta": {"version": "1.0.0", "environment": "staging"}, "Port": 3341, "Namespace": "", "Partition": "p"},
        "Checks": [{"Node": node, "CheckID": "serfHealth", "Status": "passing"}, {"CheckID": "c", "Status": "warning"}]
    })
}

fn discover(config: &str, address: &str, metrics: &Metrics) -> DiscoverySet {
    let mut entry: ConsulSdConfig = serde_saphyr::from_str(config).unwrap();
    entry.keys.server = address.into();
    let config = DiscoveryConfigs { consul_sd_configs: vec![entry], ..DiscoveryConfigs::default() };
    config.validate().unwrap();
    let context =
        DiscoveryContext { peers: &Peers::default(), metrics, pool: "job", user: DiscoveryUser::Scrape };
    DiscoverySet::start(&config, &context)
}

async fn next(discovery: &mut DiscoverySet) -> Vec<DiscoveredTarget> {
    tokio::time::timeout(Duration::from_secs(2), discovery.changed()).await.expect("a list");
    discovery.current().0
}

fn addresses(targets: &[DiscoveredTarget]) -> Vec<&str> {
    targets.iter().map(|target| target[ADDRESS].as_str()).collect()
}

#[tokio::test]
async fn services_and_instances_are_followed() {
    let (server, address) = Consul::start().await;
    let metrics = Metrics::default();
    let mut discovery = discover("{token: CANARY, tag_separator: ';'}", &address, &metrics);
    let found = next(&mut discovery).await;
    assert_eq!(addresses(&found), ["[fd00::2]:3341", "1.1.1.1:3341"]);
    let expected = json!({
        "__address__": "1.1.1.1:3341", "__meta_consul_address": "1.1.1.1", "__meta_consul_dc": "test-dc",
        "__meta_consul_health": "warning", "__meta_consul_metadata_rack_name": "2304", "__meta_consul_node": "n1",
        "__meta_consul_partition": "p", "__meta_consul_service": "test", "__meta_consul_service_id": "test-1",
        "__meta_consul_service_metadata_environment": "staging", "__meta_consul_service_metadata_version": "1.0.0",
        "__meta_consul_service_port": "3341", "__meta_consul_tagged_address_lan": "192.168.10.10",
        "__meta_consul_tagged_address_wan_1": "10.0.10.10", "__meta_consul_tags": ";tag1;"
    });
    assert_eq!(serde_json::to_value(&found[1]).unwrap(), expected);
    let requests = server.requests.lock().clone();
    assert!(requests.iter().all(|request| request.ends_with(" CANARY")), "{requests:?}");
    assert!(
        requests.iter().any(|r| r.starts_with("/v1/health/service/test?wait=120000ms&stale= ")),
        "{requests:?}"
    );
    // A new instance, then a service that is gone.
    let path = "/v1/health/service/test";
    server.set(path, json!([instance("n1", "1.1.1.1", ""), instance("n3", "3.3.3.3", "")]));
    assert_eq!(addresses(&next(&mut discovery).await), ["[fd00::2]:3341", "1.1.1.1:3341", "3.3.3.3:3341"]);
    server.set("/v1/catalog/services", json!({"test": ["tag1"]}));
    assert_eq!(addresses(&next(&mut discovery).await), ["1.1.1.1:3341", "3.3.3.3:3341"]);
    assert!(metrics.render().contains("prometheus_sd_consul_rpc_failures_total 0"));
    *server.fails.lock() = true;
    server.index.send_modify(|index| *index += 1);
    while metrics.render().contains("prometheus_sd_consul_rpc_failures_total 0") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(discovery.current().0.len(), 2);
}

/// What a real Consul (1.20) sent: changes of services, instances and checks; an agent that is
/// killed, and one that begins anew with smaller indices.
#[tokio::test(start_paused = true)]
async fn targets_follow_what_a_real_consul_sent() {
    let block = |yaml: &str| {
        let entry: ConsulSdConfig = serde_saphyr::from_str(yaml).unwrap();
        DiscoveryConfigs { consul_sd_configs: vec![entry], ..DiscoveryConfigs::default() }
    };
    let cases = include_str!("../../../tests/data/discovery/recorded/consul.json");
    let recording = |_: &str| include_str!("../../../tests/data/discovery/recorded/consul.jsonl");
    // Longer than the pause after a failure; all steps together are shorter than a wait.
    assert_replayed(cases, recording, block, Duration::from_secs(16)).await;
}

#[tokio::test]
async fn only_what_is_wanted_is_asked_for() {
    for (config, expected, requests) in [
        (
            "{services: [test], datacenter: d, namespace: n, partition: p, node_meta: {a: b}, health_filter: 'x == 1', allow_stale: false}",
            &["1.1.1.1:3341"][..],
            &[
                "/v1/health/service/test?dc=d&ns=n&partition=p&wait=120000ms&node-meta=a%3Ab&filter=x+%3D%3D+1 ",
            ][..],
        ),
        (
            "{tags: [common, tag1], datacenter: d, filter: 'f', path_prefix: ''}",
            &["1.1.1.1:3341"],
            &[
                "/v1/catalog/services?dc=d&wait=120000ms&stale=&filter=f ",
                "/v1/health/service/test?dc=d&wait=120000ms&stale=&tag=common&tag=tag1 ",
            ],
        ),
        (
            "{services: [nobody], tags: [common], datacenter: d}",
            &[],
            &["/v1/catalog/services?dc=d&wait=120000ms&stale= "],
        ),
    ] {
        let (server, address) = Consul::start().await;
        let mut discovery = discover(config, &address, &Metrics::default());
        assert_eq!(addresses(&next(&mut discovery).await), expected, "{config}");
        let seen: Vec<String> =
            server.requests.lock().iter().filter(|request| !request.contains("index=")).cloned().collect();
        assert_eq!(seen, requests, "{config}");
    }
}

#[tokio::test]
async fn an_agent_is_reached_by_its_socket() {
    let (server, _) = Consul::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consul.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let app = axum::Router::new().fallback(answer).with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut discovery = discover(
        "{token: CANARY, path_prefix: p}",
        &format!("unix://{}", path.display()),
        &Metrics::default(),
    );
    // Below the prefix there is nothing, so what counts is what was asked.
    let _ = tokio::time::timeout(Duration::from_millis(500), discovery.changed()).await;
    assert_eq!(server.requests.lock()[0], "/p/v1/agent/self? CANARY");
    let mut discovery = discover("{}", &format!("unix://{}", path.display()), &Metrics::default());
    assert_eq!(next(&mut discovery).await.len(), 2);
}

/// The old form of a login; and an agent whose list changes all the time is asked at the interval,
/// while one that has not answered for longer than that is asked at once.
#[tokio::test]
async fn a_login_is_sent_and_the_interval_bounds_the_pauses() {
    let (server, address) = Consul::start().await;
    let metrics = Metrics::default();
    let keys = "{username: u, password: p, services: [test], datacenter: d, refresh_interval: 20ms}";
    let mut discovery = discover(keys, &address, &metrics);
    assert_eq!(next(&mut discovery).await.len(), 1);
    let started = Instant::now();
    for count in 1..=10 {
        let name = format!("m{count}");
        server.set("/v1/health/service/test", json!([instance(&name, "1.1.1.1", "")]));
        let requests = server.requests.lock().len();
        while server.requests.lock().len() == requests {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // With the default the pauses alone would be 250 ms, 500 ms, 1 s, 2 s, …
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    assert!(server.logins.lock().iter().all(|login| login == "Basic dTpw"), "{:?}", server.logins.lock());
}

#[test]
fn configuration_errors_are_those_of_prometheus() {
    for (yaml, error) in [
        ("{server: ''}", "consul SD configuration requires a server address"),
        (
            "{username: u, basic_auth: {username: v}}",
            "at most one of consul SD configuration username and password and basic auth can be configured",
        ),
        (
            "{token: t, authorization: {credentials: c}}",
            "at most one of consul SD token, authorization, or oauth2 can be configured",
        ),
        (
            "{token: t, oauth2: {client_id: c, client_secret: s, token_url: 'http://h'}}",
            "at most one of consul SD token, authorization, or oauth2 can be configured",
        ),
    ] {
        let config: ConsulSdConfig = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(ConsulSd::validate(&config).unwrap_err().to_string(), error, "{yaml}");
    }
    for (yaml, expected) in [
        ("{}", Ok("http://localhost:8500/")),
        ("{server: 'https://h:1/p', path_prefix: q}", Ok("https://h:1/p/q")),
        ("{server: 'http://h', scheme: https}", Ok("https://h/")),
        ("{server: 'ftp://h'}", Err("Unknown protocol scheme: ftp")),
    ] {
        let config: ConsulSdConfig = serde_saphyr::from_str(yaml).unwrap();
        let got = api_url(&config.keys).map_err(|error| error.to_string());
        assert_eq!(got.as_ref().map(Url::as_str).map_err(String::as_str), expected, "{yaml}");
    }
}
