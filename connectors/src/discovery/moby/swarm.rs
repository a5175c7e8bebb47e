//! `dockerswarm_sd_configs`: targets are the services, tasks or nodes of a Docker swarm. [`super`]
//! has the client of the daemon.

use super::{DockerApi, DockerFilter, check_host};
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use crate::discovery::labels::{Labels, host_port, list, pairs, text};
use crate::discovery::lister::{ApiError, BlockError, Lister, StartError, lister_config};
use crate::discovery::{DiscoveredTarget, DiscoveryContext};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

lister_config! {
    /// One entry of `dockerswarm_sd_configs`.
    pub DockerSwarmSdConfig as "moby.DockerSwarmSDConfig", DockerSwarmSdKeys {
        /// Where the daemon listens.
        host: ConfigUrl = ConfigUrl::default(),
        /// What is listed: `tasks`, `services` or `nodes`.
        role: String = String::new(),
        /// The port of what publishes none.
        port: i64 = 80,
        /// Conditions that the daemon applies to the list of the role.
        filters: Vec<DockerFilter> = Vec::new(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
    }
}

const PREFIX: &str = "__meta_dockerswarm_";

/// Docker Swarm SD: lists the services, tasks or nodes of a swarm.
pub struct DockerSwarmSd {
    api: DockerApi,
    keys: DockerSwarmSdKeys,
}

impl Lister for DockerSwarmSd {
    const NAME: &'static str = "dockerswarm";
    type Config = DockerSwarmSdConfig;

    fn check(config: &DockerSwarmSdConfig) -> Result<(), BlockError> {
        check_host(&config.keys.host)?;
        match config.keys.role.as_str() {
            "tasks" | "services" | "nodes" => Ok(()),
            "" => Err("role missing (one of: tasks, services, nodes)".into()),
            other => {
                Err(BlockError::new(format!("invalid role {other}, expected tasks, services, or nodes")))
            }
        }
    }

    fn create(
        config: &DockerSwarmSdConfig,
        context: &DiscoveryContext<'_>,
    ) -> Result<DockerSwarmSd, StartError> {
        let keys = config.keys.clone();
        let api = DockerApi::new(&keys.host, &config.http, keys.refresh_interval, &keys.filters, context)?;
        Ok(DockerSwarmSd { api, keys })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        match self.keys.role.as_str() {
            "nodes" => self.nodes().await,
            "services" => self.services().await,
            _ => self.tasks().await,
        }
    }
}

impl DockerSwarmSd {
    async fn list_of(&mut self, path: &str, filters: &str) -> Result<Vec<Value>, ApiError> {
        self.api.list(path, filters).await
    }

    async fn networks(&mut self) -> Result<BTreeMap<String, Labels>, ApiError> {
        let networks = self.api.networks(PREFIX).await;
        networks.map_err(|e| e.doing("error while computing swarm network labels"))
    }

    async fn nodes(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let filters = self.api.filters.clone();
        let nodes = self.list_of("nodes", &filters).await;
        let nodes = nodes.map_err(|e| e.doing("error while listing swarm nodes"))?;
        let target = |node: &Value| {
            // Also of nodes that are down: rules decide by the status.
            let mut labels = node_labels(node);
            labels.copy(node, &[("node_engine_version", "Description.Engine.EngineVersion")]);
            if !node["ManagerStatus"].is_null() {
                let leads = node["ManagerStatus"]["Leader"].as_bool().unwrap_or(false);
                labels.set("node_manager_leader", leads.to_string());
                labels.copy(
                    node,
                    &[
                        ("node_manager_reachability", "ManagerStatus.Reachability"),
                        ("node_manager_address", "ManagerStatus.Addr"),
                    ],
                );
            }
            labels.target(host_port(&text(node, "Status.Addr"), self.keys.port))
        };
        Ok(nodes.iter().map(target).collect())
    }

    async fn services(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let filters = self.api.filters.clone();
        let services = self.list_of("services", &filters).await;
        let services = services.map_err(|e| e.doing("error while listing swarm services"))?;
        let networks = self.networks().await?;
        let mut targets = Vec::new();
        for service in &services {
            let mut labels = service_labels(service);
            labels.copy(
                service,
                &[
                    ("service_task_container_hostname", "Spec.TaskTemplate.ContainerSpec.Hostname"),
                    ("service_task_container_image", "Spec.TaskTemplate.ContainerSpec.Image"),
                    ("service_updating_status", "UpdateStatus.State"),
                ],
            );
            for virtual_ip in list(service, "Endpoint.VirtualIPs")? {
                let mut labels = labels.clone();
                if let Some(of_network) = networks.get(&text(virtual_ip, "NetworkID")) {
                    labels.merge(of_network);
                }
                // One target for each network and port: a service is reachable in all of them.
                let ip = address(&text(virtual_ip, "Addr"))?;
                let ports = tcp_ports(service, "Endpoint.Ports")?;
                for port in &ports {
                    let mut labels = labels.clone();
                    labels.copy(
                        port,
                        &[
                            ("service_endpoint_port_name", "Name"),
                            ("service_endpoint_port_publish_mode", "PublishMode"),
                        ],
                    );
                    targets.push(labels.target(host_port(&ip, published(port))));
                }
                // Without a published port the configured one is tried.
                if ports.is_empty() {
                    targets.push(labels.target(host_port(&ip, self.keys.port)));
                }
            }
        }
        Ok(targets)
    }

    async fn tasks(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let filters = self.api.filters.clone();
        let tasks = self.list_of("tasks", &filters).await;
        let tasks = tasks.map_err(|e| e.doing("error while listing swarm services"))?;
        // Without the filters, which are those of tasks.
        let services = self.list_of("services", "").await;
        let services = services.map_err(|e| e.doing("error while computing services labels and ports"))?;
        let nodes = self.list_of("nodes", "").await.map_err(|e| {
            e.doing("error while computing nodes labels and ports: error while listing swarm nodes")
        })?;
        let networks = self.networks().await?;
        let services: BTreeMap<String, &Value> = services.iter().map(|s| (text(s, "ID"), s)).collect();
        let nodes: BTreeMap<String, &Value> = nodes.iter().map(|n| (text(n, "ID"), n)).collect();
        let mut targets = Vec::new();
        for task in &tasks {
            // A task may belong to no service; then it has only its own labels.
            let service = services.get(&text(task, "ServiceID")).copied().unwrap_or(&Value::Null);
            let node = nodes.get(&text(task, "NodeID")).copied().unwrap_or(&Value::Null);
            let labels = task_labels(task, service, node);
            let node_address = text(node, "Status.Addr");
            // Ports in the mode "host" are open at the node.
            for port in tcp_ports(task, "Status.PortStatus.Ports")? {
                targets.push(port_target(&labels, port, &node_address));
            }
            for attachment in list(task, "NetworksAttachments")? {
                let mut labels = labels.clone();
                if let Some(of_network) = networks.get(&text(attachment, "Network.ID")) {
                    labels.merge(of_network);
                }
                for ip in list(attachment, "Addresses")? {
                    let ip = address(&text(ip, ""))?;
                    let ports = tcp_ports(service, "Endpoint.Ports")?;
                    targets.extend(ports.iter().map(|port| port_target(&labels, port, &ip)));
                    if ports.is_empty() {
                        targets.push(labels.target(host_port(&ip, self.keys.port)));
                    }
                }
            }
        }
        Ok(targets)
    }
}

/// The target of a task at a published port.
fn port_target(labels: &Labels, port: &Value, host: &str) -> DiscoveredTarget {
    let mut labels = labels.clone();
    labels.copy(port, &[("task_port_publish_mode", "PublishMode")]);
    labels.target(host_port(host, published(port)))
}

fn node_labels(node: &Value) -> Labels {
    let mut labels = Labels::new(PREFIX);
    labels.copy(
        node,
        &[
            ("node_id", "ID"),
            ("node_role", "Spec.Role"),
            ("node_address", "Status.Addr"),
            ("node_availability", "Spec.Availability"),
            ("node_hostname", "Description.Hostname"),
            ("node_platform_architecture", "Description.Platform.Architecture"),
            ("node_platform_os", "Description.Platform.OS"),
            ("node_status", "Status.State"),
        ],
    );
    labels.set_all("node_label_", pairs(node, "Spec.Labels"));
    labels
}

fn service_labels(service: &Value) -> Labels {
    let mut labels = Labels::new(PREFIX);
    labels.copy(service, &[("service_id", "ID"), ("service_name", "Spec.Name")]);
    let modes = [("Global", "global"), ("Replicated", "replicated")];
    let mode = modes.iter().find(|(key, _)| !service["Spec"]["Mode"][key].is_null());
    labels.set("service_mode", mode.map_or("", |(_, mode)| mode));
    labels.set_all("service_label_", pairs(service, "Spec.Labels"));
    labels
}

/// The labels of a task, of its service and of its node.
fn task_labels(task: &Value, service: &Value, node: &Value) -> Labels {
    let mut labels = Labels::new(PREFIX);
    labels.copy(
        task,
        &[
            ("task_id", "ID"),
            ("task_desired_state", "DesiredState"),
            ("task_state", "Status.State"),
            ("task_container_id", "Status.ContainerStatus.ContainerID"),
        ],
    );
    labels.set("task_slot", task["Slot"].as_i64().unwrap_or(0).to_string());
    labels.set_all("container_label_", pairs(task, "Spec.ContainerSpec.Labels"));
    if !service.is_null() {
        labels.merge(&service_labels(service));
    }
    if !node.is_null() {
        labels.merge(&node_labels(node));
    }
    labels
}

fn tcp_ports<'a>(value: &'a Value, path: &str) -> Result<Vec<&'a Value>, ApiError> {
    // Metrics are scraped over TCP; UDP ports would only be failed scrapes.
    Ok(list(value, path)?.iter().filter(|port| text(port, "Protocol") == "tcp").collect())
}

/// The published port; 0 if there is none.
fn published(port: &Value) -> u64 {
    port["PublishedPort"].as_u64().unwrap_or(0)
}

/// The address of a network address: `10.0.0.2` of `10.0.0.2/24`.
fn address(cidr: &str) -> Result<String, ApiError> {
    let ip = cidr.split_once('/').map(|(ip, _)| ip).and_then(|ip| ip.parse::<IpAddr>().ok());
    ip.map(|ip| ip.to_string()).ok_or_else(|| {
        ApiError::unexpected(format!("error while parsing address {cidr}: invalid CIDR address"))
    })
}
