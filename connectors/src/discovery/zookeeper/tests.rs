//! Tests `serverset_sd_configs` and `nerve_sd_configs` against a server in this process that speaks
//! ZooKeeper's protocol.

use super::*;
use crate::discovery::{DiscoveryConfigs, DiscoverySet, DiscoveryUser};
use crate::http_client::Peers;
use bytes::{Buf, BufMut};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeSet;
use storage::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// An event: its type and the path.
#[derive(Clone)]
struct Event(i32, String);

/// A tree of nodes.
struct Zookeeper {
    nodes: Mutex<BTreeMap<String, String>>,
    events: broadcast::Sender<Event>,
    timeouts: Mutex<Vec<i32>>,
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned()
}

impl Zookeeper {
    async fn start(nodes: &[(&str, &str)]) -> (Arc<Zookeeper>, String) {
        let nodes = nodes.iter().map(|(path, data)| ((*path).to_owned(), (*data).to_owned())).collect();
        let server = Arc::new(Zookeeper {
            nodes: Mutex::new(nodes),
            events: broadcast::channel(100).0,
            timeouts: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let accepting = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        (server, address)
    }

    fn set(&self, path: &str, data: &str) {
        let is_new = self.nodes.lock().insert(path.to_owned(), data.to_owned()).is_none();
        let event = if is_new { Event(4, parent(path)) } else { Event(3, path.to_owned()) };
        let _ = self.events.send(event);
    }

    fn delete(&self, path: &str) {
        self.nodes.lock().remove(path);
        let _ = self.events.send(Event(2, path.to_owned()));
        let _ = self.events.send(Event(4, parent(path)));
    }

    /// Ends all connections.
    fn cut(&self) {
        let _ = self.events.send(Event(0, String::new()));
    }

    /// Serves a connection until it ends; `None` then.
    async fn serve(self: Arc<Self>, mut stream: TcpStream) -> Option<()> {
        let hello = frame(&mut stream).await?;
        assert_eq!(hello.len(), 44);
        // The timeout that the client proposes, behind the version and the last transaction it saw.
        self.timeouts.lock().push((&hello[12..16]).get_i32());
        let mut answer = Vec::new();
        answer.put_i32(0);
        answer.put_i32(4_000);
        answer.put_i64(7);
        answer.put_i32(16);
        answer.put_bytes(1, 16);
        send(&mut stream, &answer).await?;
        let mut events = self.events.subscribe();
        // The watches, each for one event: by operation and path.
        let mut watches = BTreeSet::<(i32, String)>::new();
        let (mut reader, mut writer) = stream.split();
        loop {
            tokio::select! {
                biased;
                event = events.recv() => {
                    let Event(kind, path) = event.ok()?;
                    if kind == 0 {
                        return None;
                    }
                    // A deletion is told to both kinds of watches, once.
                    let data = [2, 3].contains(&kind) && watches.remove(&(4, path.clone()));
                    let children = [2, 4].contains(&kind) && watches.remove(&(8, path.clone()));
                    if data || children {
                        let mut out = Vec::new();
                        out.put_i32(-1);
                        out.put_i64(-1);
                        out.put_i32(0);
                        out.put_i32(kind);
                        out.put_i32(3);
                        put_text(&mut out, &path);
                        send(&mut writer, &out).await?;
                    }
                }
                request = frame(&mut reader) => {
                    let answer = self.answer(&request?, &mut watches);
                    send(&mut writer, &answer).await?;
                }
            }
        }
    }

    fn answer(&self, mut request: &[u8], watches: &mut BTreeSet<(i32, String)>) -> Vec<u8> {
        let id = request.get_i32();
        let operation = request.get_i32();
        let mut out = Vec::new();
        out.put_i32(id);
        out.put_i64(1);
        if operation == 11 {
            out.put_i32(0);
            return out;
        }
        let length = request.get_i32() as usize;
        let path = String::from_utf8(request[..length].to_vec()).unwrap();
        assert_eq!(request[length..], [1], "a watch");
        let nodes = self.nodes.lock();
        let Some(data) = nodes.get(&path) else {
            out.put_i32(-101);
            return out;
        };
        out.put_i32(0);
        watches.insert((operation, path.clone()));
        if operation == 4 {
            put_text(&mut out, data);
            out.put_bytes(0, 68);
        } else {
            let children: Vec<&String> = nodes.keys().filter(|node| parent(node) == path).collect();
            out.put_i32(children.len() as i32);
            for child in children {
                put_text(&mut out, child.rsplit('/').next().unwrap());
            }
        }
        out
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_i32(text.len() as i32);
    out.put_slice(text.as_bytes());
}

/// The requests are small and come whole, so that this is not cancelled halfway.
async fn frame(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let length = stream.read_i32().await.ok()?;
    let mut content = vec![0; length as usize];
    stream.read_exact(&mut content).await.ok()?;
    Some(content)
}

async fn send(stream: &mut (impl AsyncWriteExt + Unpin), content: &[u8]) -> Option<()> {
    let mut whole = (content.len() as i32).to_be_bytes().to_vec();
    whole.extend_from_slice(content);
    stream.write_all(&whole).await.ok()
}

async fn next(discovery: &mut DiscoverySet) -> Value {
    tokio::time::timeout(Duration::from_secs(5), discovery.changed()).await.expect("a list");
    serde_json::to_value(discovery.current().0).unwrap()
}

fn start(config: &DiscoveryConfigs, metrics: &Metrics) -> DiscoverySet {
    config.validate().unwrap();
    DiscoverySet::start(
        config,
        &DiscoveryContext { peers: &Peers::default(), metrics, pool: "job", user: DiscoveryUser::Scrape },
    )
}

#[tokio::test]
async fn serversets_are_followed_and_sessions_resumed() {
    let member = r#"{"serviceEndpoint": {"host": "h1", "port": 80}, "additionalEndpoints": {"health-x": {"host": "h2", "port": 81}}, "status": "ALIVE", "shard": 3}"#;
    let nodes = [
        ("/svc", ""),
        ("/svc/member_1", member),
        ("/svc/deep", "no json"),
        ("/svc/deep/member_2", r#"{"SERVICEENDPOINT": {"host": "fd00::1", "port": 9}}"#),
    ];
    let (server, address) = Zookeeper::start(&nodes).await;
    let entry: ServersetSdConfig =
        serde_saphyr::from_str(&format!("{{servers: ['{address}'], paths: [/svc]}}")).unwrap();
    let config = DiscoveryConfigs { serverset_sd_configs: vec![entry], ..DiscoveryConfigs::default() };
    let metrics = Metrics::default();
    let mut discovery = start(&config, &metrics);
    let deep = json!({"__address__": "[fd00::1]:9", "__meta_serverset_path": "/svc/deep/member_2", "__meta_serverset_endpoint_host": "fd00::1",
        "__meta_serverset_endpoint_port": "9", "__meta_serverset_shard": "0"});
    let first = json!({"__address__": "h1:80", "__meta_serverset_path": "/svc/member_1", "__meta_serverset_endpoint_host": "h1",
        "__meta_serverset_endpoint_port": "80", "__meta_serverset_endpoint_host_health_x": "h2", "__meta_serverset_endpoint_port_health_x": "81",
        "__meta_serverset_status": "ALIVE", "__meta_serverset_shard": "3"});
    assert_eq!(next(&mut discovery).await, json!([deep, first]));
    server.set("/svc/member_3", r#"{"serviceEndpoint": {"host": "h3", "port": 1}}"#);
    assert_eq!(next(&mut discovery).await[2]["__address__"], "h3:1");
    server.set("/svc/member_3", r#"{"serviceEndpoint": {"host": "h4", "port": 1}}"#);
    assert_eq!(next(&mut discovery).await[2]["__address__"], "h4:1");
    server.delete("/svc/deep/member_2");
    server.delete("/svc/member_1");
    let addresses =
        |list: &Value| list.as_array().unwrap().iter().map(|t| t["__address__"].clone()).collect::<Vec<_>>();
    // The two deletions may come one after the other.
    let mut list = next(&mut discovery).await;
    while addresses(&list) != ["h4:1"] {
        list = next(&mut discovery).await;
    }
    assert!(metrics.render().contains("prometheus_treecache_zookeeper_failures_total 0"));
    server.cut();
    server
        .nodes
        .lock()
        .insert("/svc/member_5".into(), r#"{"serviceEndpoint": {"host": "h5", "port": 5}}"#.into());
    assert_eq!(addresses(&next(&mut discovery).await), ["h4:1", "h5:5"]);
    assert!(
        metrics.render().contains("prometheus_treecache_zookeeper_failures_total 1"),
        "{}",
        metrics.render()
    );
    // A root that is gone is a failure, and keeps the targets.
    server.delete("/svc");
    while metrics.render().contains("prometheus_treecache_zookeeper_failures_total 1") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(discovery.current().0.len(), 2);
}

#[tokio::test]
async fn nerve_nodes_have_the_labels_of_prometheus() {
    let (server, address) = Zookeeper::start(&[
        ("/n", "{"),
        ("/n/a", r#"{"host": "h", "port": 80, "name": "web"}"#),
        ("/n/b", r#"{"host": 1}"#),
    ])
    .await;
    let yaml = format!("{{servers: ['{address}'], paths: [/n], timeout: 7s}}");
    let entry: NerveSdConfig = serde_saphyr::from_str(&yaml).unwrap();
    let config = DiscoveryConfigs { nerve_sd_configs: vec![entry], ..DiscoveryConfigs::default() };
    let mut discovery = start(&config, &Metrics::default());
    let expected = json!([{"__address__": "h:80", "__meta_nerve_path": "/n/a", "__meta_nerve_endpoint_host": "h",
        "__meta_nerve_endpoint_port": "80", "__meta_nerve_endpoint_name": "web"}]);
    assert_eq!(next(&mut discovery).await, expected);
    assert_eq!(*server.timeouts.lock(), [7_000]);
    let yaml = format!("{{servers: ['{address}'], paths: [/n], timeout: 9s}}");
    let entry: ServersetSdConfig = serde_saphyr::from_str(&yaml).unwrap();
    let config = DiscoveryConfigs { serverset_sd_configs: vec![entry], ..DiscoveryConfigs::default() };
    next(&mut start(&config, &Metrics::default())).await;
    assert_eq!(*server.timeouts.lock(), [7_000, 9_000]);
}

#[test]
fn configuration_errors_are_those_of_prometheus() {
    for (yaml, error) in [
        ("{}", "nerve SD config must contain at least one Zookeeper server"),
        ("{servers: [a]}", "nerve SD config must contain at least one path"),
        ("{servers: [a], paths: [/a, b]}", "nerve SD config paths must begin with '/': b"),
    ] {
        let config: NerveSdConfig = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(NerveSd::validate(&config).unwrap_err().to_string(), error, "{yaml}");
    }
    assert_eq!((address("a"), address("a:1")), ("a:2181".into(), "a:1".into()));
}
