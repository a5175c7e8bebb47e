//! `msk_sd_configs`: targets are the brokers and controllers of MSK, the Kafka service of AWS.
//! [`super`] has what all mechanisms of AWS share.

use super::aws_config;
use super::client::{AwsCalls, AwsClient};
use crate::api_client::{Pages, path_segment, with_query};
use crate::config::schema::IgnoredValue;
use crate::discovery::labels::{Labels, at, host_port, list, pairs, text, texts};
use crate::discovery::lister::{ApiError, BlockError, Lister, StartError};
use crate::discovery::{DiscoveredTarget, DiscoveryContext};
use serde_json::Value;

aws_config! {
    /// One entry of `msk_sd_configs`.
    pub MskSdConfig as "aws.MSKSDConfig", MskKeys {
        /// The ARNs of clusters; none: all.
        clusters: Vec<String> = Vec::new(),
        /// How many calls Prometheus makes at once; here one follows the other.
        request_concurrency: IgnoredValue<i64> = IgnoredValue::default(),
    }
}

/// MSK SD: lists the brokers and controllers of Kafka clusters.
pub struct MskSd {
    client: AwsClient,
    config: MskSdConfig,
}

impl Lister for MskSd {
    const NAME: &'static str = "msk";
    type Config = MskSdConfig;

    fn check(_config: &MskSdConfig) -> Result<(), BlockError> {
        Ok(())
    }

    fn create(config: &MskSdConfig, context: &DiscoveryContext<'_>) -> Result<MskSd, StartError> {
        let client = AwsClient::new("kafka", &config.aws, &config.http, context)?;
        Ok(MskSd { client, config: config.clone() })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let calls = self.client.open().await?;
        let outcome = self.nodes(&calls).await;
        self.client.note(&outcome);
        outcome
    }
}

/// All items of a list.
async fn pages(calls: &AwsCalls, path: &str, key: &str) -> Result<Vec<Value>, ApiError> {
    let mut items = Vec::new();
    let mut pages = Pages::default();
    let mut next = String::new();
    loop {
        pages.count()?;
        let answer = calls.get(&with_query(path, &[("maxResults", "100"), ("nextToken", &next)])).await?;
        items.extend_from_slice(list(&answer, key)?);
        next = text(&answer, "nextToken");
        if next.is_empty() {
            return Ok(items);
        }
    }
}

/// An ARN as one segment of a path, its colons and slashes encoded.
fn arn_segment(arn: &str) -> String {
    path_segment(arn).replace(':', "%3A")
}

impl MskSd {
    async fn clusters(&self, calls: &AwsCalls) -> Result<Vec<Value>, ApiError> {
        if self.config.own.clusters.is_empty() {
            return pages(calls, "/api/v2/clusters?clusterTypeFilter=PROVISIONED", "clusterInfoList").await;
        }
        let mut clusters = Vec::new();
        for arn in &self.config.own.clusters {
            let answer = calls.get(&format!("/api/v2/clusters/{}", arn_segment(arn))).await?;
            let cluster = answer["clusterInfo"].clone();
            if text(&cluster, "clusterType") == "PROVISIONED" {
                clusters.push(cluster);
            } else {
                tracing::warn!(
                    target: "discovery", arn,
                    "ignored an entry of clusters, which is not a provisioned MSK cluster; remove it"
                );
            }
        }
        Ok(clusters)
    }

    async fn nodes(&self, calls: &AwsCalls) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let mut targets = Vec::new();
        for cluster in &self.clusters(calls).await? {
            let path = format!("/v1/clusters/{}/nodes", arn_segment(&text(cluster, "clusterArn")));
            for node in &pages(calls, &path, "nodeInfoList").await? {
                self.add_targets(cluster, node, &mut targets);
            }
        }
        Ok(targets)
    }

    /// One target for each endpoint of a broker or controller.
    fn add_targets(&self, cluster: &Value, node: &Value, targets: &mut Vec<DiscoveredTarget>) {
        let mut labels = Labels::new("__meta_msk_");
        labels.copy(
            cluster,
            &[
                ("cluster_name", "clusterName"),
                ("cluster_arn", "clusterArn"),
                ("cluster_state", "state"),
                ("cluster_type", "clusterType"),
                ("cluster_version", "currentVersion"),
                ("cluster_kafka_version", "provisioned.currentBrokerSoftwareInfo.kafkaVersion"),
                ("cluster_configuration_arn", "provisioned.currentBrokerSoftwareInfo.configurationArn"),
                (
                    "cluster_configuration_revision",
                    "provisioned.currentBrokerSoftwareInfo.configurationRevision",
                ),
            ],
        );
        labels.copy(
            node,
            &[
                ("node_arn", "nodeARN"),
                ("node_added_time", "addedToClusterTime"),
                ("node_instance_type", "instanceType"),
            ],
        );
        labels.set_all("cluster_tag_", pairs(cluster, "tags"));
        let exporter = |name: &str| {
            let exporter = at(cluster, &format!("provisioned.openMonitoring.prometheus.{name}"));
            let is_enabled = exporter["enabledInBroker"].as_bool().unwrap_or(false);
            if exporter.is_null() { String::new() } else { is_enabled.to_string() }
        };
        labels.set("cluster_jmx_exporter_enabled", exporter("jmxExporter"));
        let broker = &node["brokerNodeInfo"];
        let info;
        let index;
        if !broker.is_null() {
            info = broker;
            index = "broker_endpoint_index";
            labels.set("node_type", "BROKER").set("broker_node_exporter_enabled", exporter("nodeExporter"));
            labels.set("broker_id", format!("{:.0}", broker["brokerId"].as_f64().unwrap_or(0.0)));
            labels.copy(
                broker,
                &[
                    ("node_attached_eni", "attachedENIId"),
                    ("broker_client_subnet", "clientSubnet"),
                    ("broker_client_vpc_ip", "clientVpcIpAddress"),
                ],
            );
        } else {
            info = &node["controllerNodeInfo"];
            index = "controller_endpoint_index";
            labels.set("node_type", "CONTROLLER");
        }
        for (at, endpoint) in texts(info, "endpoints").iter().enumerate() {
            labels.set(index, at.to_string());
            targets.push(labels.target(host_port(endpoint, self.config.aws.port)));
        }
    }
}
