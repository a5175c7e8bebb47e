//! Tests the mechanisms for Docker and swarms, with the recorded answers and the labels of
//! Prometheus' own tests.

use super::*;
use crate::discovery::lister::ListerConfig;
use crate::discovery::recorded_server::{RecordedServer, Recording, answer, assert_refused, listed, targets};
use crate::discovery::{DiscoveredTarget, DiscoveryConfigs, DiscoverySet, DiscoveryUser};
use crate::http_client::Peers;
use std::sync::Arc;
use storage::metrics::Metrics;

/// The text of a file of recordings.
macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../../../tests/data/discovery/moby/", $name, ".json"))
    };
}

fn sorted(mut targets: Vec<DiscoveredTarget>) -> Vec<DiscoveredTarget> {
    targets.sort();
    targets
}

/// A daemon that knows version 1.40.
fn daemon(lists: &[(&str, &str)]) -> Arc<RecordedServer> {
    let ping = answer("HEAD http://d:2375/_ping", "").header("api-version", "1.40");
    let list = |(path, body): &(&str, &str)| answer(&format!("GET http://d:2375/v1.40/{path}"), *body);
    let recordings: Vec<Recording> = std::iter::once(ping).chain(lists.iter().map(list)).collect();
    RecordedServer::new(recordings)
}

#[tokio::test]
async fn containers_have_the_labels_of_prometheus() {
    let host = "host: 'http://d:2375'";
    let all_networks = "host: 'tcp://d:2375', match_first_network: false";
    for (keys, containers, networks, expected) in [
        (host, data!("dockerprom-containers"), data!("dockerprom-networks"), data!("dockerprom-expected")),
        (
            all_networks,
            data!("dockerprom-containers"),
            data!("dockerprom-networks"),
            data!("dockerprom-all-expected"),
        ),
        (host, data!("dockeripv6-containers"), data!("dockeripv6-networks"), data!("dockeripv6-expected")),
    ] {
        let server = daemon(&[("containers/json", containers), ("networks", networks)]);
        let found = listed::<DockerSd>(&format!("{{{keys}}}"), &server).await.unwrap();
        assert_eq!(sorted(found), sorted(targets(expected)), "{keys}");
    }
}

/// Containers without ports of their own have the port of the block, those in the network of the
/// host the address of the block; nodes and tasks of a swarm have the port of the block, too.
#[tokio::test]
async fn ports_and_the_host_of_the_block_are_used() {
    let containers = serde_json::json!([
        {"Id": "a", "Names": ["/bare"], "HostConfig": {"NetworkMode": "bridge"},
         "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2", "NetworkID": "n"}}}},
        {"Id": "b", "Names": ["/host"], "HostConfig": {"NetworkMode": "host"},
         "NetworkSettings": {"Networks": {"host": {"IPAddress": "", "NetworkID": "h"}}}},
        {"Id": "c", "Names": ["/published"], "HostConfig": {"NetworkMode": "bridge"},
         "Ports": [{"PrivatePort": 80, "PublicPort": 8080, "IP": "0.0.0.0", "Type": "tcp"},
                   {"PrivatePort": 53, "Type": "udp"}],
         "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.3", "NetworkID": "n"}}}}
    ]);
    let server = daemon(&[("containers/json", &containers.to_string()), ("networks", "[]")]);
    let addresses = |found: &[DiscoveredTarget]| -> Vec<String> {
        found.iter().map(|target| target["__address__"].clone()).collect()
    };
    let usual = listed::<DockerSd>("{host: 'http://d:2375'}", &server).await.unwrap();
    assert_eq!(addresses(&usual), ["172.17.0.2:80", "localhost", "172.17.0.3:80"]);
    let published = [("__meta_docker_port_public", "8080"), ("__meta_docker_port_public_ip", "0.0.0.0")];
    assert!(published.iter().all(|(name, value)| usual[2][*name] == *value), "{:?}", usual[2]);
    let yaml = "{host: 'http://d:2375', port: 9100, host_networking_host: h.example}";
    let found = listed::<DockerSd>(yaml, &server).await.unwrap();
    assert_eq!(addresses(&found), ["172.17.0.2:9100", "h.example", "172.17.0.3:80"]);
    let entry = "{host: 'http://d:2375', refresh_interval: 7m, role: nodes}";
    let swarm: DockerSwarmSdConfig = serde_saphyr::from_str(entry).unwrap();
    let docker: DockerSdConfig = serde_saphyr::from_str(&entry.replace(", role: nodes", "")).unwrap();
    assert_eq!((swarm.interval().0, docker.interval().0), (420_000, 420_000));
    let swarm = daemon(&[("nodes", data!("swarm-nodes"))]);
    let yaml = "{host: 'http://d:2375', role: nodes, port: 4242}";
    let nodes = listed::<DockerSwarmSd>(yaml, &swarm).await.unwrap();
    assert!(!nodes.is_empty() && addresses(&nodes).iter().all(|address| address.ends_with(":4242")));
}

#[tokio::test]
async fn swarms_have_the_labels_of_prometheus() {
    let lists = [
        ("nodes", data!("swarm-nodes")),
        ("services", data!("swarm-services")),
        ("tasks", data!("swarm-tasks")),
        ("networks", data!("swarm-networks")),
    ];
    for (role, expected) in [
        ("nodes", data!("swarm-nodes-expected")),
        ("services", data!("swarm-services-expected")),
        ("tasks", data!("swarm-tasks-expected")),
    ] {
        let yaml = format!("{{host: 'http://d:2375', role: {role}}}");
        let found = listed::<DockerSwarmSd>(&yaml, &daemon(&lists)).await.unwrap();
        assert_eq!(sorted(found), sorted(targets(expected)), "{role}");
    }
    let plugin = daemon(&[("services", data!("plugin-services")), ("networks", data!("plugin-networks"))]);
    let found = listed::<DockerSwarmSd>("{host: 'http://d:2375', role: services}", &plugin).await.unwrap();
    assert_eq!(sorted(found), sorted(targets(data!("plugin-services-expected"))));
}

#[tokio::test]
async fn filters_are_sent_with_the_list_of_the_role() {
    let filtered =
        "services?filters=%7B%22name%22%3A%7B%22mon_grafana%22%3Atrue%2C%22mon_node-exporter%22%3Atrue%7D%7D";
    let server =
        daemon(&[(filtered, data!("swarm-services-filtered")), ("networks", data!("swarm-networks"))]);
    let yaml = "{host: 'http://d:2375', role: services, filters: [{name: name, values: [mon_node-exporter, mon_grafana]}]}";
    let found = listed::<DockerSwarmSd>(yaml, &server).await.unwrap();
    assert_eq!(sorted(found), sorted(targets(data!("swarm-services-filtered-expected"))));
    let filtered = "containers/json?filters=%7B%22status%22%3A%7B%22paused%22%3Atrue%7D%7D";
    let server = daemon(&[(filtered, "[]"), ("networks", "[]")]);
    let yaml = "{host: 'http://d:2375', filters: [{name: status, values: [paused]}]}";
    assert!(listed::<DockerSd>(yaml, &server).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_version_is_negotiated_once_and_old_daemons_are_refused() {
    let old = answer("HEAD http://d/_ping", "").header("api-version", "1.39");
    let error = listed::<DockerSd>("{host: 'tcp://d'}", &RecordedServer::new(vec![old])).await.unwrap_err();
    let expected = "error while listing containers: API version 1.39 is not supported by this client: the \
                    minimum supported API version is 1.40";
    assert_eq!(error, expected);
    let server = RecordedServer::new(vec![
        answer("HEAD http://d/_ping", "").status(405),
        answer("GET http://d/_ping", "OK").header("api-version", "1.99"),
        answer("GET http://d/v1.55/containers/json", "[]"),
        answer("GET http://d/v1.55/networks", "[]"),
    ]);
    let mut lister =
        crate::discovery::recorded_server::lister::<DockerSd>("{host: 'tcp://d'}", &server).unwrap();
    for _ in 0..2 {
        assert!(crate::discovery::lister::Lister::list(&mut lister).await.unwrap().is_empty());
    }
    assert_eq!(server.seen().iter().filter(|request| request.contains("_ping")).count(), 2);
    server.replace(vec![answer("GET http://d/v1.55/containers/json", "{\"message\": \"no\"}").status(500)]);
    let error = crate::discovery::lister::Lister::list(&mut lister).await.unwrap_err().to_string();
    assert!(error.starts_with("error while listing containers: server returned HTTP status 500"), "{error}");
}

/// The daemon's usual entrance: a socket of this machine.
#[tokio::test]
async fn daemons_are_reached_by_their_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let json = [("content-type", "application/json")];
    let app = axum::Router::new()
        .route("/_ping", axum::routing::get(|| async { [("api-version", "1.44")] }))
        .route(
            "/v1.44/containers/json",
            axum::routing::get(move || async move { (json, data!("dockerprom-containers")) }),
        )
        .route(
            "/v1.44/networks",
            axum::routing::get(move || async move { (json, data!("dockerprom-networks")) }),
        );
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let entry: DockerSdConfig =
        serde_saphyr::from_str(&format!("{{host: 'unix://{}'}}", path.display())).unwrap();
    let config = DiscoveryConfigs { docker_sd_configs: vec![entry], ..DiscoveryConfigs::default() };
    config.validate().unwrap();
    let metrics = Metrics::default();
    let context = DiscoveryContext {
        peers: &Peers::Network,
        metrics: &metrics,
        pool: "job",
        user: DiscoveryUser::Scrape,
    };
    let mut discovery = DiscoverySet::start(&config, &context);
    tokio::time::timeout(std::time::Duration::from_secs(10), discovery.changed()).await.unwrap();
    assert_eq!(sorted(discovery.current().0), sorted(targets(data!("dockerprom-expected"))));
    assert!(
        metrics
            .render()
            .contains("prometheus_sd_refresh_failures_total{mechanism=\"docker\",config=\"job\"} 0")
    );
    server.abort();
}

#[test]
fn configuration_errors_are_those_of_prometheus() {
    assert_refused::<DockerSd>(&[
        ("{}", "host missing"),
        ("{host: 'nothing'}", "unable to parse docker host `nothing`"),
        (
            "{host: 'tcp://d', refresh_interval: 0s}",
            "docker_sd_configs: refresh_interval must be greater than 0",
        ),
    ]);
    assert_refused::<DockerSwarmSd>(&[
        ("{role: nodes}", "host missing"),
        ("{host: 'tcp://d'}", "role missing (one of: tasks, services, nodes)"),
        ("{host: 'tcp://d', role: x}", "invalid role x, expected tasks, services, or nodes"),
    ]);
}
