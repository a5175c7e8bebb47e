//! Discovery beside Debian's Prometheus: both ask the same servers, which answer from recordings,
//! and find the same targets with the same labels.
//!
//! Prometheus 2.42 is the second reader. It has fewer mechanisms and labels: [`NEWER`] names the
//! labels that came after it. Missing are mechanisms that Debian's build does not have (ecs,
//! elasticache, kubernetes, linode, msk, nomad, oci, outscale, rds, stackit), those whose servers
//! it does not reach through a proxy (azure, ec2, gce, lightsail, openstack, ovhcloud, triton),
//! scaleway, of which 2.42 has fewer targets, and ionos, whose recorded servers without a name end
//! it.

use crate::support::daemon::python;
use crate::support::eventually;
use crate::support::server::Server;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/connectors/tests/data");

/// Labels that Prometheus 2.42 does not know, by the beginnings of their names.
const NEWER: &[&str] = &[
    "__meta_hetzner_hcloud_location",
    "__meta_hetzner_hcloud_datacenter_location",
    "__meta_hetzner_robot_datacenter",
    "__meta_dockerswarm_container_label",
];

/// A block, and what the servers that it names answer.
struct Case {
    name: String,
    /// The key of the block: `eureka_sd_configs`.
    key: String,
    /// The block, in braces.
    block: String,
    answers: Vec<Value>,
}

impl Case {
    fn new(name: &str, mechanism: &str, block: &str, answers: Vec<Value>) -> Case {
        let name = name.to_owned();
        Case { name, key: format!("{mechanism}_sd_configs"), block: block.to_owned(), answers }
    }

    /// Whether a server is asked over TLS.
    fn has_tls(&self) -> bool {
        self.answers.iter().any(|answer| url(answer).starts_with("https://"))
    }

    fn job(&self, port: u16, directory: &Path) -> String {
        let open = self.block.strip_suffix('}').expect("a block in braces");
        let comma = if open == "{" { "" } else { ", " };
        let tls = if self.has_tls() {
            format!(", tls_config: {{ca_file: {}}}", directory.join("ca.pem").display())
        } else {
            String::new()
        };
        format!(
            "- job_name: {}\n  {}: [{open}{comma}proxy_url: 'http://127.0.0.1:{port}'{tls}}}]\n",
            self.name, self.key
        )
    }
}

fn url(answer: &Value) -> &str {
    answer["request"].as_str().and_then(|request| request.split(' ').nth(1)).expect("METHOD URL")
}

fn read(path: &str) -> Value {
    let text = std::fs::read_to_string(format!("{DATA}/{path}")).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The recorded cases with targets, of the mechanisms that both have.
fn recorded() -> Vec<Case> {
    let mut cases = Vec::new();
    for mechanism in ["digitalocean", "eureka", "hetzner", "marathon", "puppetdb", "uyuni", "vultr"] {
        for (at, case) in
            read(&format!("discovery/{mechanism}.json")).as_array().expect("cases").iter().enumerate()
        {
            let block = case["config"].as_str().expect("a block");
            // Keys that 2.42 does not have; and a slash at the end, which it doubles.
            let is_newer =
                ["role: databases", "label_selector", "m:8080/'"].iter().any(|key| block.contains(key));
            let has_targets = case["targets"].as_array().is_some_and(|targets| !targets.is_empty());
            if has_targets && !is_newer {
                let answers = case["answers"].as_array().expect("answers").clone();
                cases.push(Case::new(&format!("{mechanism}{at}"), mechanism, block, answers));
            }
        }
    }
    assert!(cases.len() > 10, "only {} cases", cases.len());
    cases
}

fn docker() -> Vec<Case> {
    let ping = json!({"request": "HEAD http://d:2375/_ping", "headers": {"api-version": "1.40"}, "body": ""});
    let list = |path: &str, file: &str| json!({"request": format!("GET http://d:2375/v1.40/{path}"), "body": read(&format!("discovery/moby/{file}.json"))});
    let block = "{host: 'http://d:2375'}";
    // With one network for each container, and IPv4: 2.42 lists all networks, and does not know the
    // other addresses.
    let networks = list("networks", "dockeripv6-networks");
    let mut containers = list("containers/json", "dockeripv6-containers");
    let of_first = containers["body"][0]["NetworkSettings"]["Networks"].as_object_mut().expect("networks");
    for network in of_first.values_mut() {
        network["IPAddress"] = "172.18.0.2".into();
    }
    let mut cases = vec![Case::new("docker", "docker", block, vec![ping.clone(), containers, networks])];
    let swarm = vec![
        ping,
        list("nodes", "swarm-nodes"),
        list("services", "swarm-services"),
        list("tasks", "swarm-tasks"),
        list("networks", "swarm-networks"),
    ];
    for role in ["nodes", "services", "tasks"] {
        let block = format!("{{host: 'http://d:2375', role: {role}}}");
        cases.push(Case::new(&format!("swarm_{role}"), "dockerswarm", &block, swarm.clone()));
    }
    cases
}

fn lists() -> Vec<Case> {
    let targets = json!([{"targets": ["a:1", "b:2"], "labels": {"__meta_rack": "r", "team": "t"}}, {"targets": ["c:3"]}]);
    let http = json!({"request": "GET http://list/targets", "body": targets});
    vec![Case::new("http", "http", "{url: 'http://list/targets'}", vec![http])]
}

/// The servers, and the directory of their certificate.
struct Servers {
    child: Child,
    ports: Vec<u16>,
    directory: tempfile::TempDir,
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let done = Command::new("openssl").args(arguments).current_dir(directory).output().expect("openssl");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Makes a certificate for the hosts that are asked over TLS, and starts the servers.
fn start(cases: &[Case]) -> Servers {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let answers = cases.iter().flat_map(|case| &case.answers);
    let hosts: BTreeSet<&str> =
        answers.filter_map(|answer| url(answer).strip_prefix("https://")?.split('/').next()).collect();
    let names: Vec<String> = hosts.iter().map(|host| format!("DNS:{host}")).collect();
    std::fs::write(path.join("names"), format!("subjectAltName={}\n", names.join(","))).expect("a file");
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let authority = ["-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca"];
    openssl(path, &[&["req"][..], &curve, &authority].concat());
    openssl(path, &[&["req"][..], &curve, &["-keyout", "s.key", "-out", "s.csr", "-subj", "/CN=s"]].concat());
    let sign =
        "x509 -req -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out s.pem -days 2 -extfile names";
    openssl(path, &sign.split(' ').collect::<Vec<_>>());
    let mut child = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/discovery_server.py"))
        .args([path.join("s.pem"), path.join("s.key")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python");
    let all: Vec<&Vec<Value>> = cases.iter().map(|case| &case.answers).collect();
    // The pipe stays open in `child`: the servers end with it.
    let input = child.stdin.as_mut().expect("a pipe");
    writeln!(input, "{}", serde_json::to_string(&all).expect("JSON")).expect("written");
    let mut line = String::new();
    let output = child.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let ports = serde_json::from_str(&line).expect("ports");
    Servers { child, ports, directory }
}

type Labels = BTreeMap<String, String>;

/// The targets of a job as they were discovered: their addresses and the labels of the mechanism.
fn found(server: &Server, job: &str) -> Vec<Labels> {
    let all = server.api(&format!("/api/v1/targets?state=active&scrapePool={job}"));
    let of_job = all["activeTargets"].as_array().expect("a list").iter();
    let own = of_job.filter(|target| target["scrapePool"] == job).map(|target| {
        let labels: Labels = serde_json::from_value(target["discoveredLabels"].clone()).expect("labels");
        let is_own = |name: &str| {
            let is_of_target = ["__address__", "__scheme__", "__metrics_path__"].contains(&name);
            let is_label = name.starts_with("__meta_") || (!name.starts_with("__") && name != "job");
            (is_of_target || is_label) && !NEWER.iter().any(|newer| name.starts_with(newer))
        };
        labels.into_iter().filter(|(name, value)| is_own(name) && !value.is_empty()).collect()
    });
    let mut own: Vec<Labels> = own.collect();
    own.sort();
    own
}

/// Waits until both have found the same.
fn compare(cases: &[Case], ours: &Server, theirs: &Server) {
    for Case { name, .. } in cases {
        eventually(&format!("{name}: the same targets"), 60, || {
            let own = found(ours, name);
            let other = found(theirs, name);
            if own == other && !own.is_empty() {
                return Ok(());
            }
            let differ = |one: &[Labels], two: &[Labels]| {
                one.iter()
                    .filter(|target| !two.contains(target))
                    .map(|t| format!("{t:?}"))
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            Err(format!(
                "only ours:\n{}\nonly of Prometheus:\n{}",
                differ(&own, &other),
                differ(&other, &own)
            ))
        });
    }
}

fn assert_same(cases: &[Case]) {
    let servers = start(cases);
    let jobs = cases.iter().zip(&servers.ports).map(|(case, port)| case.job(*port, servers.directory.path()));
    // Nobody is behind the targets: they need not be scraped.
    let config = format!("global: {{scrape_interval: 1h}}\nscrape_configs:\n{}", jobs.collect::<String>());
    let ours = Server::start(&config, &[]);
    let theirs = Server::prometheus(&config);
    compare(cases, &ours, &theirs);
}

#[test]
fn targets_of_recorded_servers_are_those_of_prometheus() {
    let mut cases = recorded();
    cases.extend(docker());
    cases.extend(lists());
    assert_same(&cases);
}
