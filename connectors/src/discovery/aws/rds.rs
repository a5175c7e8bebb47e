//! `rds_sd_configs`: targets are the instances of RDS database clusters. [`super::fields`] has
//! their labels.

use super::client::{AwsCalls, AwsClient};
use super::ec2::{filter_fields, tags};
use super::fields::{RDS_CLUSTER, RDS_INSTANCE};
use super::{AwsFilter, aws_config};
use crate::api_client::Pages;
use crate::config::schema::IgnoredValue;
use crate::discovery::labels::{Labels, host_port};
use crate::discovery::lister::{ApiError, BlockError, Lister, StartError};
use crate::discovery::{DiscoveredTarget, DiscoveryContext};
use crate::xml::Element;
use chrono::{DateTime, Utc};

aws_config! {
    /// One entry of `rds_sd_configs`.
    pub RdsSdConfig as "aws.RDSSDConfig", RdsKeys {
        /// The ARNs or names of clusters; none: all.
        clusters: Vec<String> = Vec::new(),
        /// Conditions that RDS applies to instances.
        filters: Vec<AwsFilter> = Vec::new(),
        /// How many calls Prometheus makes at once; here one follows the other.
        request_concurrency: IgnoredValue<i64> = IgnoredValue::default(),
    }
}

const VERSION: &str = "2014-10-31";

/// RDS SD: lists the database instances of clusters.
pub struct RdsSd {
    client: AwsClient,
    config: RdsSdConfig,
}

impl Lister for RdsSd {
    const NAME: &'static str = "rds";
    type Config = RdsSdConfig;

    fn check(_config: &RdsSdConfig) -> Result<(), BlockError> {
        Ok(())
    }

    fn create(config: &RdsSdConfig, context: &DiscoveryContext<'_>) -> Result<RdsSd, StartError> {
        let client = AwsClient::new("rds", &config.aws, &config.http, context)?;
        Ok(RdsSd { client, config: config.clone() })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let calls = self.client.open().await?;
        let outcome = self.instances(&calls).await;
        self.client.note(&outcome);
        outcome
    }
}

/// All items of a list of databases; the answer names it as the action does.
async fn pages(
    calls: &AwsCalls,
    action: &str,
    items: &str,
    fields: &[(String, String)],
) -> Result<Vec<Element>, ApiError> {
    let mut found = Vec::new();
    let mut pages = Pages::default();
    let mut all = vec![("MaxRecords".to_owned(), "100".to_owned())];
    all.extend_from_slice(fields);
    let given = all.len();
    loop {
        pages.count()?;
        let root = calls.query(VERSION, action, &all).await?;
        found.extend_from_slice(root.items(&format!("{action}Result.{items}")));
        let marker = root.text(&format!("{action}Result.Marker"));
        if marker.is_empty() {
            return Ok(found);
        }
        all.truncate(given);
        all.push(("Marker".to_owned(), marker));
    }
}

impl RdsSd {
    async fn clusters(&self, calls: &AwsCalls) -> Result<Vec<Element>, ApiError> {
        let configured = &self.config.own.clusters;
        if configured.is_empty() {
            return pages(calls, "DescribeDBClusters", "DBClusters", &[]).await;
        }
        let mut clusters = Vec::new();
        for name in configured {
            let fields = [("DBClusterIdentifier".to_owned(), name.clone())];
            let found = pages(calls, "DescribeDBClusters", "DBClusters", &fields).await?;
            if found.is_empty() {
                return Err(ApiError::unexpected(format!("no DB cluster found for ARN {name}")));
            }
            clusters.extend(found);
        }
        Ok(clusters)
    }

    async fn instances(&self, calls: &AwsCalls) -> Result<Vec<DiscoveredTarget>, ApiError> {
        // As Prometheus, which sends no filter without values.
        if self.config.own.filters.iter().any(|filter| filter.values.is_empty()) {
            return Err(ApiError::unexpected("missing required field: the values of a filter"));
        }
        let clusters = self.clusters(calls).await;
        let mut targets = Vec::new();
        for cluster in clusters.map_err(|e| e.doing("error describing DB clusters"))? {
            let of_cluster =
                AwsFilter { name: "db-cluster-id".to_owned(), values: vec![cluster.text("DBClusterArn")] };
            let filters: Vec<AwsFilter> =
                std::iter::once(of_cluster).chain(self.config.own.filters.iter().cloned()).collect();
            let fields = filter_fields("Filters.Filter", "Values.Value", &filters);
            let instances = pages(calls, "DescribeDBInstances", "DBInstances", &fields).await;
            let instances = instances.map_err(|e| e.doing("error describing DB instances"))?;
            targets.extend(instances.iter().map(|instance| self.target(&cluster, instance)));
        }
        Ok(targets)
    }

    fn target(&self, cluster: &Element, instance: &Element) -> DiscoveredTarget {
        let mut labels = Labels::new("__meta_rds_");
        set_fields("cluster_", RDS_CLUSTER, cluster, &mut labels);
        set_fields("instance_", RDS_INSTANCE, instance, &mut labels);
        labels.set_all("cluster_tag_", tagged(cluster.items("TagList")));
        labels.set_all("instance_tag_", tagged(instance.items("TagList")));
        let name = instance.text("DBInstanceIdentifier");
        let member =
            cluster.items("DBClusterMembers").iter().find(|m| m.text("DBInstanceIdentifier") == name);
        labels
            .set("instance_is_cluster_writer", member.map(|m| m.text("IsClusterWriter")).unwrap_or_default());
        let host = instance.text("Endpoint.Address");
        if host.is_empty() || instance.text("Endpoint.Port").is_empty() {
            return labels.without_address();
        }
        // As in Prometheus: the port of an exporter, not that of the database.
        labels.target(host_port(&host, self.config.aws.port))
    }
}

/// The tags of a list, as services with a query API write them.
pub(super) fn tagged(items: &[Element]) -> Vec<(String, String)> {
    tags(items, "Key", "Value")
}

/// Sets labels to the fields of an element; times without parts of a second.
pub(super) fn set_fields(start: &str, fields: &[(&str, &str)], element: &Element, labels: &mut Labels) {
    for (name, path) in fields {
        let Some(field) = element.at(path) else { continue };
        let time = DateTime::parse_from_rfc3339(&field.text).ok();
        let time = time.map(|time| time.with_timezone(&Utc).format("%Y-%m-%dT%H:%M:%SZ").to_string());
        labels.set(&format!("{start}{name}"), time.unwrap_or_else(|| field.text.clone()));
    }
}
