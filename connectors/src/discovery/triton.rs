//! `triton_sd_configs`: targets are the containers or compute nodes of Triton, as its container
//! monitor lists them. [`super::lister`] calls it at each refresh.

use super::labels::{Labels, list, separated, text, texts};
use super::lister::{ApiClient, ApiError, BlockError, Lister, ListerConfig, StartError, with_query};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::units::ConfigDuration;
use crate::config_block;
use crate::http_client::{HttpConfig, TlsConfig};
use serde_json::Value;

config_block! {
    /// One entry of `triton_sd_configs`.
    pub struct TritonSdConfig as "triton.SDConfig" {
        /// The account; it is in the client certificate as well.
        account: String = String::new(),
        /// What is listed: `container` or `cn`, compute nodes.
        role: String = "container".to_owned(),
        /// What follows the id in an address.
        dns_suffix: String = String::new(),
        /// The host of the monitor.
        endpoint: String = String::new(),
        /// Groups whose containers are listed; none: all.
        groups: Vec<String> = Vec::new(),
        /// The port of the monitor and of all targets.
        port: i64 = 9163,
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// Certificates.
        tls_config: TlsConfig = TlsConfig::default(),
        /// The version of the API.
        version: i64 = 1,
    }
}

impl ListerConfig for TritonSdConfig {
    fn interval(&self) -> ConfigDuration {
        self.refresh_interval
    }
}

/// Triton SD: lists containers or compute nodes.
pub struct TritonSd {
    api: ApiClient,
    config: TritonSdConfig,
}

impl Lister for TritonSd {
    const NAME: &'static str = "triton";
    type Config = TritonSdConfig;

    fn check(config: &TritonSdConfig) -> Result<(), BlockError> {
        if !matches!(config.role.as_str(), "container" | "cn") {
            return Err("triton SD configuration requires role to be 'container' or 'cn'".into());
        }
        for (given, what) in [
            (&config.account, "an account"),
            (&config.dns_suffix, "a dns_suffix"),
            (&config.endpoint, "an endpoint"),
        ] {
            if given.is_empty() {
                return Err(format!("triton SD configuration requires {what}").into());
            }
        }
        if config.refresh_interval.0 <= 0 {
            return Err("triton SD configuration requires RefreshInterval to be a positive integer".into());
        }
        Ok(())
    }

    fn create(config: &TritonSdConfig, context: &DiscoveryContext<'_>) -> Result<TritonSd, StartError> {
        let http = HttpConfig { tls_config: config.tls_config.clone(), ..HttpConfig::default() };
        let api = ApiClient::new(&http, config.refresh_interval, context)?;
        Ok(TritonSd { api, config: config.clone() })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let TritonSdConfig { endpoint, port, version, role, .. } = &self.config;
        let kind = if role == "cn" { "gz/" } else { "" };
        let url = format!("https://{endpoint}:{port}/v{version}/{kind}discover");
        let url = with_query(&url, &[("groups", &self.config.groups.join(","))]);
        let request = self.api.request(reqwest::Method::GET, &url)?;
        let answer = self.api.send(request).await;
        let answer = answer
            .map_err(|e| e.doing("an error occurred when requesting targets from the discovery endpoint"))?;
        let found = answer.json().map_err(ApiError::from);
        let found =
            found.map_err(|e| e.doing("an error occurred unmarshaling the discovery response json"))?;
        if role == "cn" {
            return Ok(list(&found, "cns")?.iter().map(|node| self.node(node)).collect());
        }
        Ok(list(&found, "containers")?.iter().map(|container| self.container(container)).collect())
    }
}

impl TritonSd {
    fn container(&self, container: &Value) -> DiscoveredTarget {
        let mut labels = Labels::new("__meta_triton_");
        labels.set("groups", separated(&texts(container, "groups"), ",")).copy(
            container,
            &[
                ("machine_id", "vm_uuid"),
                ("machine_alias", "vm_alias"),
                ("machine_brand", "vm_brand"),
                ("machine_image", "vm_image_uuid"),
                ("server_id", "server_uuid"),
            ],
        );
        labels.target(self.address(&text(container, "vm_uuid")))
    }

    fn node(&self, node: &Value) -> DiscoveredTarget {
        let mut labels = Labels::new("__meta_triton_");
        labels.copy(node, &[("machine_id", "server_uuid"), ("machine_alias", "server_hostname")]);
        labels.target(self.address(&text(node, "server_uuid")))
    }

    fn address(&self, id: &str) -> String {
        format!("{id}.{}:{}", self.config.dns_suffix, self.config.port)
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{assert_cases, assert_refused};
    use super::*;

    #[tokio::test]
    async fn containers_and_nodes_have_the_labels_of_prometheus() {
        assert_cases::<TritonSd>(include_str!("../../tests/data/discovery/triton.json")).await;
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<TritonSd>(&[
            ("{role: x}", "triton SD configuration requires role to be 'container' or 'cn'"),
            ("{}", "triton SD configuration requires an account"),
            ("{account: a}", "triton SD configuration requires a dns_suffix"),
            ("{account: a, dns_suffix: d}", "triton SD configuration requires an endpoint"),
            (
                "{account: a, dns_suffix: d, endpoint: e, refresh_interval: 0s}",
                "triton SD configuration requires RefreshInterval to be a positive integer",
            ),
        ]);
    }
}
