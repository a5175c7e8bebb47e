//! `ecs_sd_configs`: targets are the tasks of ECS clusters. Tasks, services and the machines that
//! they run on are separate requests, whose answers are joined here. [`super`] has what all
//! mechanisms of AWS share.

use super::client::{AwsCalls, AwsClient};
use super::{aws_config, ec2};
use crate::api_client::Pages;
use crate::config::schema::IgnoredValue;
use crate::discovery::labels::{Labels, host_port, list, text, texts};
use crate::discovery::lister::{ApiError, BlockError, Lister, StartError};
use crate::discovery::{DiscoveredTarget, DiscoveryContext};
use serde_json::{Value, json};
use std::collections::BTreeMap;

aws_config! {
    /// One entry of `ecs_sd_configs`.
    pub EcsSdConfig as "aws.ECSSDConfig", EcsKeys {
        /// The ARNs of clusters; none: all.
        clusters: Vec<String> = Vec::new(),
        /// How many calls Prometheus makes at once; here one follows the other.
        request_concurrency: IgnoredValue<i64> = IgnoredValue::default(),
    }
}

/// Items that one call may describe; services: ten.
const DESCRIBED: usize = 100;
const DESCRIBED_SERVICES: usize = 10;

/// ECS SD: lists the tasks of clusters.
pub struct EcsSd {
    client: AwsClient,
    /// For the machines that run tasks.
    machines: AwsClient,
    config: EcsSdConfig,
}

/// What is known of the machines and networks of a cluster's tasks.
#[derive(Default)]
struct Surroundings {
    /// The EC2 instance of each container instance.
    instance_ids: BTreeMap<String, String>,
    /// EC2 instances by their ids.
    instances: BTreeMap<String, crate::xml::Element>,
    /// Public addresses of network interfaces.
    public_ips: BTreeMap<String, String>,
}

impl Lister for EcsSd {
    const NAME: &'static str = "ecs";
    type Config = EcsSdConfig;

    fn check(_config: &EcsSdConfig) -> Result<(), BlockError> {
        Ok(())
    }

    fn create(config: &EcsSdConfig, context: &DiscoveryContext<'_>) -> Result<EcsSd, StartError> {
        let client = AwsClient::new("ecs", &config.aws, &config.http, context)?;
        let machines = AwsClient::new("ec2", &config.aws, &config.http, context)?.regional();
        Ok(EcsSd { client, machines, config: config.clone() })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let ecs = self.client.open().await?;
        let ec2 = self.machines.open().await?;
        let outcome = self.clusters(&ecs, &ec2).await;
        self.client.note(&outcome);
        outcome
    }
}

async fn call(ecs: &AwsCalls, operation: &str, body: &Value) -> Result<Value, ApiError> {
    let answer = ecs.json(&format!("AmazonEC2ContainerServiceV20141113.{operation}"), body).await;
    answer.map_err(|e| e.doing(operation))
}

/// All ARNs that an operation lists under `key`, of a cluster or of all.
async fn arns(
    ecs: &AwsCalls,
    operation: &str,
    key: &str,
    cluster: Option<&str>,
) -> Result<Vec<String>, ApiError> {
    let mut found = Vec::new();
    let mut pages = Pages::default();
    let mut body = json!({"maxResults": 100});
    if let Some(cluster) = cluster {
        body["cluster"] = cluster.into();
    }
    loop {
        pages.count()?;
        let answer = call(ecs, operation, &body).await?;
        found.extend(texts(&answer, key));
        let next = text(&answer, "nextToken");
        if next.is_empty() {
            return Ok(found);
        }
        body["nextToken"] = next.into();
    }
}

/// What an operation says of items, so many of them in one call.
async fn described(
    ecs: &AwsCalls,
    operation: &str,
    key: &str,
    mut body: Value,
    arns: &[String],
) -> Result<Vec<Value>, ApiError> {
    // AWS' own limits of one call; more is an error of the call and not a part.
    let most = if key == "services" { DESCRIBED_SERVICES } else { DESCRIBED };
    let mut found = Vec::new();
    for some in arns.chunks(most) {
        body[key] = some.into();
        found.extend_from_slice(list(&call(ecs, operation, &body).await?, key)?);
    }
    Ok(found)
}

fn tags_of(value: &Value) -> Vec<(String, String)> {
    let tags = list(value, "tags").unwrap_or_default();
    tags.iter().map(|tag| (text(tag, "key"), text(tag, "value"))).collect()
}

/// The network interface of a task with its own network: the details of its attachment.
fn interface(task: &Value) -> Option<BTreeMap<String, String>> {
    let attachments = list(task, "attachments").unwrap_or_default();
    let attachment = attachments.iter().find(|a| text(a, "type") == "ElasticNetworkInterface")?;
    let details = list(attachment, "details").unwrap_or_default();
    Some(details.iter().map(|detail| (text(detail, "name"), text(detail, "value"))).collect())
}

impl EcsSd {
    async fn clusters(&self, ecs: &AwsCalls, ec2: &AwsCalls) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let mut wanted = self.config.own.clusters.clone();
        if wanted.is_empty() {
            // Only those of this region: the API has no others.
            wanted = arns(ecs, "ListClusters", "clusterArns", None).await?;
        }
        let include = json!({"include": ["TAGS"]});
        let clusters = described(ecs, "DescribeClusters", "clusters", include, &wanted).await?;
        let mut targets = Vec::new();
        for arn in &wanted {
            let services = arns(ecs, "ListServices", "serviceArns", Some(arn)).await?;
            let tasks = arns(ecs, "ListTasks", "taskArns", Some(arn)).await?;
            // A configured cluster that does not exist; the others go on.
            let Some(cluster) = clusters.iter().find(|c| text(c, "clusterArn") == *arn) else { continue };
            if tasks.is_empty() {
                continue;
            }
            // A cluster that fails does not take the others with it.
            match self.cluster(ecs, ec2, cluster, &services, &tasks).await {
                Ok(of_cluster) => targets.extend(of_cluster),
                Err(error) => {
                    tracing::error!(
                        target: "discovery", cluster = arn, %error,
                        "cannot describe an ECS cluster, which has no targets; check the rights of the keys"
                    );
                }
            }
        }
        Ok(targets)
    }

    async fn cluster(
        &self,
        ecs: &AwsCalls,
        ec2: &AwsCalls,
        cluster: &Value,
        services: &[String],
        tasks: &[String],
    ) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let body = json!({"cluster": text(cluster, "clusterArn"), "include": ["TAGS"]});
        let services = described(ecs, "DescribeServices", "services", body.clone(), services).await?;
        let tasks = described(ecs, "DescribeTasks", "tasks", body, tasks).await?;
        let around = surroundings(ecs, ec2, cluster, &tasks).await?;
        let target = |task| self.target(ecs, cluster, &services, task, &around);
        Ok(tasks.iter().filter_map(target).collect())
    }

    /// The target of a task; none without an address.
    fn target(
        &self,
        ecs: &AwsCalls,
        cluster: &Value,
        services: &[Value],
        task: &Value,
        around: &Surroundings,
    ) -> Option<DiscoveredTarget> {
        let instance_id = around.instance_ids.get(&text(task, "containerInstanceArn"));
        let instance = instance_id.and_then(|id| around.instances.get(id));
        let of_instance = |path: &str| instance.map(|instance| instance.text(path)).unwrap_or_default();
        let mut labels = Labels::new("__meta_ecs_");
        let ip;
        // In the mode awsvpc a task has an address of its own; in the others it has that of its
        // machine.
        if let Some(details) = interface(task) {
            let detail = |name: &str| details.get(name).cloned().unwrap_or_default();
            ip = detail("privateIPv4Address");
            labels.set("network_mode", "awsvpc").set("subnet_id", detail("subnetId"));
            let public = around.public_ips.get(&detail("networkInterfaceId"));
            labels.set("public_ip", public.cloned().unwrap_or_default());
        } else {
            ip = of_instance("privateIpAddress");
            labels.set("network_mode", "bridge").set("subnet_id", of_instance("subnetId"));
            labels.set("public_ip", of_instance("ipAddress"));
        }
        if ip.is_empty() {
            return None;
        }
        labels.set("ip_address", &ip).set("region", &ecs.region);
        add_task(task, cluster, services, &mut labels);
        if let Some(id) = instance_id {
            labels.set("ec2_instance_id", id);
            labels.set("ec2_instance_type", of_instance("instanceType"));
            labels.set("ec2_instance_private_ip", of_instance("privateIpAddress"));
            labels.set("ec2_instance_public_ip", of_instance("ipAddress"));
            let tags = instance.map(|instance| ec2::tags(instance.items("tagSet"), "key", "value"));
            labels.set_all("tag_ec2_", tags.unwrap_or_default());
        }
        Some(labels.target(host_port(&ip, self.config.aws.port)))
    }
}

/// Sets the labels that a task, its cluster and its service have.
fn add_task(task: &Value, cluster: &Value, services: &[Value], labels: &mut Labels) {
    labels.copy(cluster, &[("cluster", "clusterName"), ("cluster_arn", "clusterArn")]);
    labels.copy(
        task,
        &[
            ("launch_type", "launchType"),
            ("health_status", "healthStatus"),
            ("task_group", "group"),
            ("task_arn", "taskArn"),
            ("task_definition", "taskDefinitionArn"),
            ("availability_zone", "availabilityZone"),
            ("desired_status", "desiredStatus"),
            ("last_status", "lastStatus"),
            ("container_instance_arn", "containerInstanceArn"),
            ("platform_family", "platformFamily"),
            ("platform_version", "platformVersion"),
        ],
    );
    let group = text(task, "group");
    // Tasks do not name their service but by the group, which is `family:…` for those that were
    // started alone.
    let service = group.strip_prefix("service:");
    let service = service.and_then(|name| services.iter().find(|s| text(s, "serviceName") == name));
    labels.set_all("tag_cluster_", tags_of(cluster));
    if let Some(service) = service {
        labels.copy(
            service,
            &[("service", "serviceName"), ("service_arn", "serviceArn"), ("service_status", "status")],
        );
        labels.set_all("tag_service_", tags_of(service));
    }
    labels.set_all("tag_task_", tags_of(task));
}

/// Looks up the machines and the public addresses of tasks.
async fn surroundings(
    ecs: &AwsCalls,
    ec2: &AwsCalls,
    cluster: &Value,
    tasks: &[Value],
) -> Result<Surroundings, ApiError> {
    let mut around = Surroundings::default();
    let mut arns: Vec<String> = tasks.iter().map(|task| text(task, "containerInstanceArn")).collect();
    arns.sort();
    arns.dedup();
    // Tasks of Fargate run on no machine that is ours.
    arns.retain(|arn| !arn.is_empty());
    let body = json!({"cluster": text(cluster, "clusterArn")});
    let containers = described(ecs, "DescribeContainerInstances", "containerInstances", body, &arns).await?;
    for container in &containers {
        around.instance_ids.insert(text(container, "containerInstanceArn"), text(container, "ec2InstanceId"));
    }
    let mut ids: Vec<&String> = around.instance_ids.values().filter(|id| !id.is_empty()).collect();
    ids.sort();
    // Many tasks run on one machine.
    ids.dedup();
    for some in ids.chunks(DESCRIBED) {
        let fields = numbered("InstanceId", some);
        let root = ec2.query(ec2::VERSION, "DescribeInstances", &fields).await?;
        for instance in root.items("reservationSet").iter().flat_map(|r| r.items("instancesSet")) {
            around.instances.insert(instance.text("instanceId"), instance.clone());
        }
    }
    let interfaces = tasks.iter().filter_map(interface);
    let interfaces: Vec<String> = interfaces.filter_map(|mut i| i.remove("networkInterfaceId")).collect();
    for some in interfaces.chunks(DESCRIBED) {
        let fields = numbered("NetworkInterfaceId", some);
        let root = ec2.query(ec2::VERSION, "DescribeNetworkInterfaces", &fields).await?;
        for interface in root.items("networkInterfaceSet") {
            let public = interface.text("association.publicIp");
            around.public_ips.insert(interface.text("networkInterfaceId"), public);
        }
    }
    Ok(around)
}

/// Values as fields of a form: `InstanceId.1`.
fn numbered<T: AsRef<str>>(name: &str, values: &[T]) -> Vec<(String, String)> {
    let field = |(at, value): (usize, &T)| (format!("{name}.{}", at + 1), value.as_ref().to_owned());
    values.iter().enumerate().map(field).collect()
}
