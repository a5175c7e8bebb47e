//! `elasticache_sd_configs`: targets are the serverless caches and the cache nodes of ElastiCache.
//! [`super::fields`] has their labels.

use super::aws_config;
use super::client::{AwsCalls, AwsClient};
use super::fields::{CACHE_CLUSTER, CACHE_NODE, SERVERLESS_CACHE};
use super::rds::{set_fields, tagged};
use crate::api_client::Pages;
use crate::config::schema::IgnoredValue;
use crate::discovery::labels::{Labels, host_port};
use crate::discovery::lister::{ApiError, BlockError, Lister, StartError};
use crate::discovery::{DiscoveredTarget, DiscoveryContext};
use crate::xml::Element;

aws_config! {
    /// One entry of `elasticache_sd_configs`.
    pub ElastiCacheSdConfig as "aws.ElasticacheSDConfig", ElastiCacheKeys {
        /// The ARNs of caches. Without any serverless cache, or without any node cache, all of that
        /// kind are targets.
        clusters: Vec<String> = Vec::new(),
        /// How many calls Prometheus makes at once; here one follows the other.
        request_concurrency: IgnoredValue<i64> = IgnoredValue::default(),
    }
}

const VERSION: &str = "2015-02-02";

/// ElastiCache SD: lists serverless caches and cache nodes.
pub struct ElastiCacheSd {
    client: AwsClient,
    config: ElastiCacheSdConfig,
}

impl Lister for ElastiCacheSd {
    const NAME: &'static str = "elasticache";
    type Config = ElastiCacheSdConfig;

    fn check(_config: &ElastiCacheSdConfig) -> Result<(), BlockError> {
        Ok(())
    }

    fn create(
        config: &ElastiCacheSdConfig,
        context: &DiscoveryContext<'_>,
    ) -> Result<ElastiCacheSd, StartError> {
        let client = AwsClient::new("elasticache", &config.aws, &config.http, context)?;
        Ok(ElastiCacheSd { client, config: config.clone() })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let calls = self.client.open().await?;
        let outcome = self.caches(&calls).await;
        self.client.note(&outcome);
        outcome
    }
}

/// The names of the caches of one kind among ARNs.
fn named(arns: &[String], kind: &str) -> Vec<String> {
    let name = |arn: &String| {
        let parts: Vec<&str> = arn.split(':').collect();
        if parts.len() < 7 && !arn.is_empty() {
            tracing::warn!(
                target: "discovery", arn,
                "ignored an entry of clusters, which is not an ARN of ElastiCache; correct the configuration"
            );
        }
        let is_kind = parts.get(5) == Some(&kind);
        parts.get(6).filter(|_| is_kind).map(|name| (*name).to_owned())
    };
    arns.iter().filter_map(name).collect()
}

impl ElastiCacheSd {
    async fn caches(&self, calls: &AwsCalls) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let arns = &self.config.own.clusters;
        let mut targets = Vec::new();
        let serverless = serverless_caches(calls, &named(arns, "serverlesscache")).await;
        for cache in serverless.map_err(|e| e.doing("failed to describe serverless caches"))? {
            targets.push(serverless_target(&cache, tags(calls, &cache).await?));
        }
        let clusters = cache_clusters(calls, &named(arns, "replicationgroup")).await;
        for cluster in clusters.map_err(|e| e.doing("failed to describe cache clusters"))? {
            targets.extend(node_targets(&cluster, tags(calls, &cluster).await?));
        }
        Ok(targets)
    }
}

/// The tags of a cache; none without an ARN.
async fn tags(calls: &AwsCalls, cache: &Element) -> Result<Vec<(String, String)>, ApiError> {
    let arn = cache.text("ARN");
    if arn.is_empty() {
        return Ok(Vec::new());
    }
    let root = calls.query(VERSION, "ListTagsForResource", &[("ResourceName", arn)]).await;
    let root = root.map_err(|e| e.doing("failed to list tags for resources"))?;
    Ok(tagged(root.items("ListTagsForResourceResult.TagList")))
}

async fn serverless_caches(calls: &AwsCalls, names: &[String]) -> Result<Vec<Element>, ApiError> {
    let action = "DescribeServerlessCaches";
    let mut found = Vec::new();
    if !names.is_empty() {
        for name in names {
            let root = calls.query(VERSION, action, &[("ServerlessCacheName", name)]).await?;
            found.extend_from_slice(root.items("DescribeServerlessCachesResult.ServerlessCaches"));
        }
        return Ok(found);
    }
    let mut pages = Pages::default();
    let mut fields = vec![("MaxResults", "50".to_owned())];
    loop {
        pages.count()?;
        let root = calls.query(VERSION, action, &fields).await?;
        found.extend_from_slice(root.items("DescribeServerlessCachesResult.ServerlessCaches"));
        let next = root.text("DescribeServerlessCachesResult.NextToken");
        if next.is_empty() {
            return Ok(found);
        }
        fields.truncate(1);
        fields.push(("NextToken", next));
    }
}

async fn cache_clusters(calls: &AwsCalls, ids: &[String]) -> Result<Vec<Element>, ApiError> {
    let action = "DescribeCacheClusters";
    let mut found = Vec::new();
    if !ids.is_empty() {
        for id in ids {
            let fields = [("CacheClusterId", id.as_str()), ("ShowCacheNodeInfo", "true")];
            let root = calls.query(VERSION, action, &fields).await?;
            found.extend_from_slice(root.items("DescribeCacheClustersResult.CacheClusters"));
        }
        return Ok(found);
    }
    for alone in ["false", "true"] {
        let mut pages = Pages::default();
        let mut fields = vec![
            ("MaxRecords", "100".to_owned()),
            ("ShowCacheNodeInfo", "true".to_owned()),
            ("ShowCacheClustersNotInReplicationGroups", alone.to_owned()),
        ];
        loop {
            pages.count()?;
            let root = calls.query(VERSION, action, &fields).await?;
            for cluster in root.items("DescribeCacheClustersResult.CacheClusters") {
                // Both lists can have it.
                if !found.contains(cluster) {
                    found.push(cluster.clone());
                }
            }
            let next = root.text("DescribeCacheClustersResult.Marker");
            if next.is_empty() {
                break;
            }
            fields.truncate(3);
            fields.push(("Marker", next));
        }
    }
    Ok(found)
}

/// The address of an endpoint, if it is whole.
fn address(element: &Element) -> Option<String> {
    let host = element.text("Endpoint.Address");
    let port = element.text("Endpoint.Port");
    (!host.is_empty() && !port.is_empty()).then(|| host_port(&host, port))
}

fn target(labels: &Labels, element: &Element) -> DiscoveredTarget {
    address(element).map_or_else(|| labels.without_address(), |address| labels.target(address))
}

fn serverless_target(cache: &Element, tags: Vec<(String, String)>) -> DiscoveredTarget {
    let mut labels = Labels::new("__meta_elasticache_");
    labels.set("deployment_option", "serverless").set_all("serverless_cache_tag_", tags);
    set_fields("serverless_cache_", SERVERLESS_CACHE, cache, &mut labels);
    for (name, list) in [("security_group_id", "SecurityGroupIds"), ("subnet_id", "SubnetIds")] {
        for (at, item) in cache.items(list).iter().enumerate() {
            labels.set(&format!("serverless_cache_{name}_{at}"), &item.text);
        }
    }
    target(&labels, cache)
}

/// One target for each node of a cluster.
fn node_targets(cluster: &Element, tags: Vec<(String, String)>) -> Vec<DiscoveredTarget> {
    let mut labels = Labels::new("__meta_elasticache_");
    labels.set("deployment_option", "node").set_all("cache_cluster_tag_", tags);
    set_fields("cache_cluster_", CACHE_CLUSTER, cluster, &mut labels);
    let removed = cluster.items("PendingModifiedValues.CacheNodeIdsToRemove").iter();
    let removed: Vec<&str> = removed.map(|node| node.text.as_str()).collect();
    labels.set("cache_cluster_pending_modified_values_cache_node_ids_to_remove", removed.join(","));
    for (at, delivery) in cluster.items("LogDeliveryConfigurations").iter().enumerate() {
        for (name, path) in [
            ("destination_type", "DestinationType"),
            ("log_format", "LogFormat"),
            ("log_type", "LogType"),
            ("status", "Status"),
            ("message", "Message"),
            ("log_group", "DestinationDetails.CloudWatchLogsDetails.LogGroup"),
            ("delivery_stream", "DestinationDetails.KinesisFirehoseDetails.DeliveryStream"),
        ] {
            let name = format!("cache_cluster_log_delivery_configuration_{name}_{at}");
            labels.set(&name, delivery.text(path));
        }
    }
    for (at, group) in cluster.items("SecurityGroups").iter().enumerate() {
        labels
            .set(&format!("cache_cluster_security_group_membership_id_{at}"), group.text("SecurityGroupId"));
        labels.set(&format!("cache_cluster_security_group_membership_status_{at}"), group.text("Status"));
    }
    let node = |node: &Element| {
        let mut labels = labels.clone();
        set_fields("cache_cluster_node_", CACHE_NODE, node, &mut labels);
        target(&labels, node)
    };
    cluster.items("CacheNodes").iter().map(node).collect()
}
