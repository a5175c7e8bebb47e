//! Tests what every mechanism does when it fails: the last targets stay, the failure counts in the
//! metric that Prometheus has for it, and the metrics of a job go with the job.

use super::super::recorded_server::{RecordedServer, Recording, answer, cases_with_targets};
use super::super::{DiscoveredTarget, DiscoveryConfigs, DiscoveryContext, DiscoverySet, DiscoveryUser};
use crate::http_client::Peers;
use crate::jwt::tests::PEM;
use crate::scrape::config::{GlobalConfig, jobs};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use storage::metrics::Metrics;

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../../../tests/data/discovery/", $name))
    };
}

/// A mechanism that asks over HTTP, with a block and what it is answered at first.
struct FailureCase {
    mechanism: &'static str,
    block: String,
    answers: Vec<Recording>,
    /// The counter of its failures; empty: that of refreshes.
    counter: &'static str,
}

/// Mechanisms whose tests are files of cases, by name.
const FILES: &[(&str, &str)] = &[
    ("azure", data!("azure.json")),
    ("digitalocean", data!("digitalocean.json")),
    ("ec2", data!("ec2.json")),
    ("ecs", data!("ecs.json")),
    ("elasticache", data!("elasticache.json")),
    ("eureka", data!("eureka.json")),
    ("hetzner", data!("hetzner.json")),
    ("ionos", data!("ionos.json")),
    ("lightsail", data!("lightsail.json")),
    ("linode", data!("linode.json")),
    ("marathon", data!("marathon.json")),
    ("msk", data!("msk.json")),
    ("nomad", data!("nomad.json")),
    ("oci", data!("oci.json")),
    ("openstack", data!("openstack.json")),
    ("outscale", data!("outscale.json")),
    ("ovhcloud", data!("ovhcloud.json")),
    ("puppetdb", data!("puppetdb.json")),
    ("rds", data!("rds.json")),
    ("scaleway", data!("scaleway.json")),
    ("stackit", data!("stackit.json")),
    ("triton", data!("triton.json")),
    ("uyuni", data!("uyuni.json")),
    ("vultr", data!("vultr.json")),
];

/// Mechanisms that another test shows, because they ask no server over HTTP or hold a watch open.
const ELSEWHERE: &[(&str, &str)] = &[
    // Its credentials are a file that a variable of the environment names.
    ("gce", "`instances_have_the_labels_of_prometheus` in discovery/gce.rs, and `Polling` as below"),
    ("static", "it cannot fail"),
    ("file", "`a_changed_file_is_seen_and_a_broken_one_keeps_its_targets` in discovery/file.rs"),
    ("dns", "`a_name_that_fails_keeps_its_targets_and_others_go_on` in discovery/dns/tests.rs"),
    ("kubernetes", "`a_refused_list_counts_and_keeps_the_targets` in discovery/kubernetes/tests.rs"),
    ("consul", "`services_and_instances_are_followed` in discovery/consul/tests.rs"),
    ("kuma", "`versions_are_followed_and_errors_keep_the_targets` in discovery/kuma/tests.rs"),
    ("serverset", "`serversets_are_followed_and_sessions_resumed` in discovery/zookeeper/tests.rs"),
    ("nerve", "as `serverset`, whose sessions it has"),
];

fn docker(path: &str, body: &str) -> Recording {
    answer(&format!("GET http://d:2375/v1.40/{path}"), body)
}

fn failure_cases(key: &Path) -> Vec<FailureCase> {
    let mut all = Vec::new();
    for (mechanism, file) in FILES {
        let file = file.replace("{key}", key.to_str().expect("a path"));
        let (block, answers) = cases_with_targets(&file).next().expect("a case with targets");
        all.push(FailureCase { mechanism, block, answers, counter: "" });
    }
    let ping = answer("HEAD http://d:2375/_ping", "").header("api-version", "1.40");
    let containers = vec![
        ping.clone(),
        docker("containers/json", data!("moby/dockerprom-containers.json")),
        docker("networks", data!("moby/dockerprom-networks.json")),
    ];
    let nodes = vec![ping, docker("nodes", data!("moby/swarm-nodes.json"))];
    let list = answer("GET http://list/", r#"[{"targets": ["a:1"]}]"#);
    let list = list.header("content-type", "application/json");
    let (of_ec2, from_ec2) = cases_with_targets(data!("ec2.json")).next().expect("a case with targets");
    for (mechanism, block, answers) in [
        ("docker", "{host: 'http://d:2375'}".to_owned(), containers),
        ("dockerswarm", "{host: 'http://d:2375', role: nodes}".to_owned(), nodes),
        ("http", "{url: 'http://list/'}".to_owned(), vec![list]),
        ("aws", of_ec2.replacen('{', "{role: ec2, ", 1), from_ec2),
    ] {
        all.push(FailureCase { mechanism, block, answers, counter: "" });
    }
    // Linode has one, too: of lists, while here its events fail.
    for (mechanism, counter) in [
        ("azure", "prometheus_sd_azure_failures_total"),
        ("http", "prometheus_sd_http_failures_total"),
        ("nomad", "prometheus_sd_nomad_failures_total"),
    ] {
        let its = all.iter_mut().find(|case| case.mechanism == mechanism).expect("a mechanism");
        its.counter = counter;
    }
    all
}

fn configs(case: &FailureCase) -> DiscoveryConfigs {
    let yaml = format!("- job_name: j\n  {}_sd_configs: [{}]", case.mechanism, case.block);
    let configs = serde_saphyr::from_str(&yaml).unwrap_or_else(|e| panic!("{yaml}: {e}"));
    let mut jobs = jobs(configs, &GlobalConfig::default()).unwrap_or_else(|e| panic!("{yaml}: {e}"));
    jobs.remove(0).config.discovery.clone()
}

/// The value of the line of a metric that begins like this.
fn metric(metrics: &Metrics, start: &str) -> Option<f64> {
    let rendered = metrics.render();
    let line = rendered.lines().find_map(|line| line.strip_prefix(start))?;
    line.trim().parse().ok()
}

fn sorted(mut targets: Vec<DiscoveredTarget>) -> Vec<DiscoveredTarget> {
    targets.sort();
    targets
}

/// Long enough for three refreshes with any interval of the cases.
const LONG: Duration = Duration::from_secs(30 * 60);

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_keeps_the_targets_and_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("key.pem");
    std::fs::write(&key, PEM).expect("a file");
    for case in failure_cases(&key) {
        let mechanism = case.mechanism;
        let server = RecordedServer::new(case.answers.clone());
        let peers = Peers::Given(server.clone());
        let metrics = Metrics::default();
        let context =
            DiscoveryContext { peers: &peers, metrics: &metrics, pool: "j", user: DiscoveryUser::Scrape };
        let config = configs(&case);
        let mut discovery = DiscoverySet::start(&config, &context);
        assert!(!discovery.has_failed(), "{mechanism} does not start");
        tokio::time::timeout(LONG, discovery.changed()).await.unwrap_or_else(|_| panic!("{mechanism}"));
        let found = sorted(discovery.current().0);
        assert!(!found.is_empty(), "{mechanism} finds nothing");
        let labels = "{mechanism=\"*\",config=\"j\"} ".replace('*', mechanism_in_metrics(mechanism));
        let refreshes = format!("prometheus_sd_refresh_failures_total{labels}");
        assert_eq!(metric(&metrics, &refreshes), Some(0.0), "{mechanism}: {}", metrics.render());

        // Not JSON either: Triton's status is not looked at, as in Prometheus.
        server.replace(vec![answer("", "out of order").status(500)]);
        tokio::time::sleep(LONG).await;
        assert_eq!(sorted(discovery.current().0), found, "{mechanism} loses targets");
        let failures = metric(&metrics, &refreshes).unwrap_or_default();
        assert!(failures >= 2.0, "{mechanism} counts {failures} failures: {:?}", server.seen().pop());
        if !case.counter.is_empty() {
            let own = metric(&metrics, case.counter).unwrap_or_default();
            assert!(own >= 2.0, "{} counts {own} failures", case.counter);
        }

        // The job is removed.
        drop(discovery);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let rendered = metrics.render();
        assert!(!rendered.contains("config=\"j\""), "{mechanism} leaves metrics behind: {rendered}");
    }
}

/// The umbrella over the mechanisms of AWS counts as the one that it is told to be.
fn mechanism_in_metrics(mechanism: &str) -> &str {
    if mechanism == "aws" { "ec2" } else { mechanism }
}

#[test]
fn no_mechanism_is_forgotten() {
    let here = failure_cases(Path::new("key"));
    let mut names: BTreeSet<&str> = here.iter().map(|case| case.mechanism).collect();
    names.extend(ELSEWHERE.iter().map(|(mechanism, _)| *mechanism));
    assert_eq!(names.into_iter().collect::<Vec<_>>(), {
        let mut all = DiscoveryConfigs::mechanisms();
        all.sort_unstable();
        all
    });
}
