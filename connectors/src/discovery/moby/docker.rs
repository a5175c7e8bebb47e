//! `docker_sd_configs`: targets are the containers of a Docker daemon, one for each exposed port.
//! [`super`] has the client of the daemon.

use super::{DockerApi, DockerFilter, check_host};
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use crate::discovery::labels::{Labels, at, host_port, list, pairs, text};
use crate::discovery::lister::{ApiError, BlockError, Lister, StartError, lister_config};
use crate::discovery::{DiscoveredTarget, DiscoveryContext};
use serde_json::Value;
use std::collections::BTreeMap;

lister_config! {
    /// One entry of `docker_sd_configs`.
    pub DockerSdConfig as "moby.DockerSDConfig", DockerSdKeys {
        /// Where the daemon listens: `unix:///var/run/docker.sock`.
        host: ConfigUrl = ConfigUrl::default(),
        /// The port of containers that expose none.
        port: i64 = 80,
        /// Conditions that the daemon applies.
        filters: Vec<DockerFilter> = Vec::new(),
        /// The address of containers in the network of the host.
        host_networking_host: String = "localhost".to_owned(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// Whether a container in several networks has targets only in the first by name.
        match_first_network: bool = true,
    }
}

const PREFIX: &str = "__meta_docker_";

/// Docker SD: lists the containers of a daemon.
pub struct DockerSd {
    api: DockerApi,
    keys: DockerSdKeys,
}

impl Lister for DockerSd {
    const NAME: &'static str = "docker";
    type Config = DockerSdConfig;

    fn check(config: &DockerSdConfig) -> Result<(), BlockError> {
        check_host(&config.keys.host)
    }

    fn create(config: &DockerSdConfig, context: &DiscoveryContext<'_>) -> Result<DockerSd, StartError> {
        let keys = config.keys.clone();
        let api = DockerApi::new(&keys.host, &config.http, keys.refresh_interval, &keys.filters, context)?;
        Ok(DockerSd { api, keys })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let filters = self.api.filters.clone();
        let listed = self.api.list("containers/json", &filters).await;
        let containers = listed.map_err(|e| e.doing("error while listing containers"))?;
        let networks = self.api.networks(PREFIX).await;
        let networks = networks.map_err(|e| e.doing("error while computing network labels"))?;
        let mut targets = Vec::new();
        for container in &containers {
            // A container that is being removed has none.
            let Some(name) = list(container, "Names")?.first() else { continue };
            let mut labels = Labels::new(PREFIX);
            labels
                .set("container_name", text(name, ""))
                .set_all("container_label_", pairs(container, "Labels"));
            labels.copy(
                container,
                &[
                    ("container_id", "Id"),
                    ("container_network_mode", "HostConfig.NetworkMode"),
                    ("container_image", "Image"),
                    ("container_image_id", "ImageID"),
                ],
            );
            for network in self.networks_of(container, &containers) {
                let mut labels = labels.clone();
                if let Some(of_network) = networks.get(&text(network, "NetworkID")) {
                    labels.merge(of_network);
                }
                self.add_targets(container, network, &labels, &mut targets)?;
            }
        }
        Ok(targets)
    }
}

impl DockerSd {
    /// The networks of a container; of one without any that shares those of another container,
    /// that one's.
    fn networks_of<'a>(&self, container: &'a Value, all: &'a [Value]) -> Vec<&'a Value> {
        let mut networks = networks(container);
        let mut mode = text(container, "HostConfig.NetworkMode");
        // No chain is longer than there are containers; a circle ends here.
        for _ in all {
            let Some(other) = mode.strip_prefix("container:").filter(|_| networks.is_empty()) else { break };
            let Some(shared) = all.iter().find(|c| text(c, "Id") == other) else { break };
            networks = self::networks(shared);
            mode = text(shared, "HostConfig.NetworkMode");
        }
        // Otherwise a container in three networks would be scraped three times.
        let count = if self.keys.match_first_network { 1 } else { networks.len() };
        networks.into_values().take(count).collect()
    }

    /// One target for each TCP port of a container in a network, or one without such ports.
    fn add_targets(
        &self,
        container: &Value,
        network: &Value,
        labels: &Labels,
        targets: &mut Vec<DiscoveredTarget>,
    ) -> Result<(), ApiError> {
        // IPv6 only where there is no other, as in Prometheus.
        let ip = [text(network, "IPAddress"), text(network, "GlobalIPv6Address")];
        let ip = ip.into_iter().find(|ip| !ip.is_empty()).unwrap_or_default();
        let mut labels = labels.clone();
        labels.set("network_ip", &ip);
        let before = targets.len();
        for port in list(container, "Ports")?.iter().filter(|port| text(port, "Type") == "tcp") {
            let private = text(port, "PrivatePort");
            let mut labels = labels.clone();
            labels.set("port_private", &private);
            if port["PublicPort"].as_u64().is_some_and(|public| public > 0) {
                labels.copy(port, &[("port_public", "PublicPort"), ("port_public_ip", "IP")]);
            }
            targets.push(labels.target(host_port(&ip, private)));
        }
        if targets.len() == before {
            // Containers in the network of the host expose no ports.
            let is_host = text(container, "HostConfig.NetworkMode") == "host";
            let address =
                if is_host { self.keys.host_networking_host.clone() } else { host_port(&ip, self.keys.port) };
            targets.push(labels.target(address));
        }
        Ok(())
    }
}

/// The networks of a container by their names, without null ones.
fn networks(container: &Value) -> BTreeMap<&String, &Value> {
    let networks = at(container, "NetworkSettings.Networks").as_object();
    networks.into_iter().flatten().filter(|(_, network)| !network.is_null()).collect()
}
