//! Tests that each key of a mechanism starts it, in a job and in an entry of `alertmanagers`.

use super::super::{DiscoveryConfigs, DiscoveryContext, DiscoveryUser};
use crate::alertmanager::config::AlertmanagerConfig;
use crate::http_client::Peers;
use crate::scrape::config::ScrapeConfig;
use storage::metrics::Metrics;

/// Keys, and an entry of each.
const ENTRIES: &[(&str, &str)] = &[
    ("file_sd_configs", "{files: [a.json]}"),
    ("http_sd_configs", "{url: 'http://127.0.0.1:9/'}"),
    ("kubernetes_sd_configs", "{role: pod, api_server: 'http://127.0.0.1:9'}"),
    ("consul_sd_configs", "{server: '127.0.0.1:9'}"),
    ("dns_sd_configs", "{names: [a.invalid], type: NS, port: 1}"),
    (
        "openstack_sd_configs",
        "{role: instance, region: r, identity_endpoint: 'http://127.0.0.1:9', username: u, domain_name: d, password: p}",
    ),
    ("oci_sd_configs", "{region: r, auth: instance_principal}"),
    ("eureka_sd_configs", "{server: 'http://127.0.0.1:9'}"),
    ("uyuni_sd_configs", "{server: 'http://127.0.0.1:9', username: u, password: p}"),
    (
        "scaleway_sd_configs",
        "{role: instance, project_id: 11111111-1111-1111-1111-111111111112, access_key: SCWAAAAAAAAAAAAAAAAA, secret_key: 11111111-1111-1111-1111-111111111111, api_url: 'http://127.0.0.1:9'}",
    ),
    (
        "ovhcloud_sd_configs",
        "{service: vps, application_key: a, application_secret: s, consumer_key: c, endpoint: ovh-eu}",
    ),
];

/// How many discoverers a block has. They are dropped before they ask anything.
fn started(configs: &DiscoveryConfigs) -> usize {
    configs.validate().unwrap();
    let peers = Peers::default();
    let metrics = Metrics::default();
    let context =
        DiscoveryContext { peers: &peers, metrics: &metrics, pool: "job", user: DiscoveryUser::Scrape };
    let started = configs.start(&context);
    started.all.len() + started.failed
}

#[tokio::test]
async fn every_key_of_a_job_and_of_an_alertmanager_starts_its_mechanism() {
    for (key, entry) in ENTRIES {
        let job: ScrapeConfig =
            serde_saphyr::from_str(&format!("{{job_name: x, {key}: [{entry}]}}")).unwrap();
        assert_eq!(started(&job.discovery), 1, "{key} of a job");
        let alertmanager: AlertmanagerConfig =
            serde_saphyr::from_str(&format!("{{{key}: [{entry}]}}")).unwrap();
        assert_eq!(started(&alertmanager.discovery), 1, "{key} of an Alertmanager");
    }
}
