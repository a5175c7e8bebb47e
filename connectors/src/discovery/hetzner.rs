//! `hetzner_sd_configs`: targets are the servers of Hetzner Cloud (role `hcloud`) or Hetzner Robot
//! (role `robot`). [`super::lister`] calls it at each refresh.

use super::labels::{Labels, host_port, list, pairs, text};
use super::lister::{ApiClient, ApiError, BlockError, Lister, Pages, StartError, lister_config, with_query};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::units::ConfigDuration;
use serde_json::Value;

lister_config! {
    /// One entry of `hetzner_sd_configs`.
    pub HetznerSdConfig as "hetzner.SDConfig", HetznerSdKeys {
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of all targets.
        port: i64 = 80,
        /// Which of the two APIs is asked: `hcloud` or `robot`.
        role: String = String::new(),
        /// Which servers of Hetzner Cloud are listed, by their labels.
        label_selector: String = String::new(),
    }
}

const CLOUD: &str = "https://api.hetzner.cloud/v1";
const ROBOT: &str = "https://robot-ws.your-server.de/server";
const PREFIX: &str = "__meta_hetzner_";
/// What Prometheus writes for an address that a server does not have.
const NO_ADDRESS: &str = "<nil>";

/// Hetzner SD: lists the servers of Hetzner Cloud or of Hetzner Robot.
pub struct HetznerSd {
    api: ApiClient,
    keys: HetznerSdKeys,
}

impl Lister for HetznerSd {
    const NAME: &'static str = "hetzner";
    type Config = HetznerSdConfig;

    fn check(config: &HetznerSdConfig) -> Result<(), BlockError> {
        match config.keys.role.as_str() {
            "hcloud" | "robot" => Ok(()),
            "" => Err("role missing (one of: robot, hcloud)".into()),
            other => Err(format!("unknown role {other:?}").into()),
        }
    }

    fn create(config: &HetznerSdConfig, context: &DiscoveryContext<'_>) -> Result<HetznerSd, StartError> {
        let keys = config.keys.clone();
        Ok(HetznerSd { api: ApiClient::new(&config.http, keys.refresh_interval, context)?, keys })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        if self.keys.role == "hcloud" { self.cloud().await } else { self.robot().await }
    }
}

impl HetznerSd {
    async fn pages(&self, key: &str, selector: &str) -> Result<Vec<Value>, ApiError> {
        let mut items = Vec::new();
        let mut page = "1".to_owned();
        let mut pages = Pages::default();
        loop {
            pages.count()?;
            let query = [("page", page.as_str()), ("per_page", "50"), ("label_selector", selector)];
            let answer = self.api.get(&with_query(&format!("{CLOUD}/{key}"), &query)).await?;
            items.extend_from_slice(list(&answer, key)?);
            page = text(&answer, "meta.pagination.next_page");
            if page.is_empty() {
                return Ok(items);
            }
        }
    }

    async fn cloud(&self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let servers = self.pages("servers", &self.keys.label_selector).await?;
        let networks = self.pages("networks", "").await?;
        servers.iter().map(|server| self.cloud_target(server, &networks)).collect()
    }

    fn cloud_target(&self, server: &Value, networks: &[Value]) -> Result<DiscoveredTarget, ApiError> {
        let mut labels = Labels::new(PREFIX);
        labels.set("role", "hcloud").copy(
            server,
            &[
                ("server_id", "id"),
                ("server_name", "name"),
                ("server_status", "status"),
                ("hcloud_location", "location.name"),
                ("hcloud_location_network_zone", "location.network_zone"),
                ("hcloud_datacenter_location", "location.name"),
                ("hcloud_datacenter_location_network_zone", "location.network_zone"),
                ("hcloud_server_type", "server_type.name"),
                ("hcloud_cpu_cores", "server_type.cores"),
                ("hcloud_cpu_type", "server_type.cpu_type"),
                ("hcloud_disk_size_gb", "server_type.disk"),
                ("hcloud_image_name", "image.name"),
                ("hcloud_image_description", "image.description"),
                ("hcloud_image_os_version", "image.os_version"),
                ("hcloud_image_os_flavor", "image.os_flavor"),
            ],
        );
        let memory = server["server_type"]["memory"].as_f64().unwrap_or(0.0);
        labels.set("hcloud_memory_size_gb", (memory as i64).to_string());
        for private in list(server, "private_net")? {
            let network = networks.iter().find(|network| network["id"] == private["network"]);
            let name = network.map(|network| text(network, "name"));
            labels.set_all("hcloud_private_ipv4_", name.map(|name| (name, text(private, "ip"))));
        }
        let given = pairs(server, "labels");
        labels
            .set_all("hcloud_labelpresent_", given.iter().map(|(name, _)| (name.clone(), "true".to_owned())));
        labels.set_all("hcloud_label_", given);
        let or_none = |address: String| if address.is_empty() { NO_ADDRESS.to_owned() } else { address };
        let ipv4 = or_none(text(server, "public_net.ipv4.ip"));
        labels.set("public_ipv4", &ipv4);
        labels.set("public_ipv6_network", or_none(text(server, "public_net.ipv6.ip")));
        Ok(labels.target(host_port(&ipv4, self.keys.port)))
    }

    async fn robot(&self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let request = self.api.request(reqwest::Method::GET, ROBOT)?;
        let answer = self.api.send(request).await?;
        if !answer.status.is_success() {
            let status = answer.status.as_u16();
            return Err(answer.refused(format!(
                "non 2xx status '{status}' response during hetzner service discovery with role robot"
            )));
        }
        let servers = answer.json()?;
        list(&servers, "")?.iter().map(|entry| self.robot_target(&entry["server"])).collect()
    }

    fn robot_target(&self, server: &Value) -> Result<DiscoveredTarget, ApiError> {
        let mut labels = Labels::new(PREFIX);
        let datacenter = text(server, "dc").to_lowercase();
        labels.set("role", "robot").set("datacenter", &datacenter).set("robot_datacenter", &datacenter);
        labels.copy(
            server,
            &[
                ("server_id", "server_number"),
                ("server_name", "server_name"),
                ("server_status", "status"),
                ("public_ipv4", "server_ip"),
                ("robot_product", "product"),
                ("robot_cancelled", "cancelled"),
            ],
        );
        let is_ipv6 = |subnet: &&Value| text(subnet, "ip").contains(':');
        if let Some(subnet) = list(server, "subnet")?.iter().find(is_ipv6) {
            labels.set("public_ipv6_network", format!("{}/{}", text(subnet, "ip"), text(subnet, "mask")));
        }
        Ok(labels.target(host_port(&text(server, "server_ip"), self.keys.port)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{assert_cases, assert_refused};
    use super::*;

    #[tokio::test]
    async fn servers_have_the_labels_of_prometheus() {
        assert_cases::<HetznerSd>(include_str!("../../tests/data/discovery/hetzner.json")).await;
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<HetznerSd>(&[
            ("{}", "role missing (one of: robot, hcloud)"),
            ("{role: x}", "unknown role \"x\""),
            (
                "{role: robot, bearer_token: a, bearer_token_file: b}",
                "at most one of bearer_token & bearer_token_file must be configured",
            ),
        ]);
    }
}
