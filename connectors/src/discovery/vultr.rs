//! `vultr_sd_configs`: targets are the instances of Vultr. [`super::lister`] calls it at each
//! refresh.

use super::labels::{Labels, host_port, list, separated, text, texts};
use super::lister::{ApiClient, ApiError, BlockError, Lister, Pages, StartError, lister_config, with_query};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::units::ConfigDuration;
use serde_json::Value;

lister_config! {
    /// One entry of `vultr_sd_configs`.
    pub VultrSdConfig as "vultr.SDConfig", VultrSdKeys {
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of all targets.
        port: i64 = 80,
    }
}

/// Vultr SD: lists the instances of an account.
pub struct VultrSd {
    api: ApiClient,
    port: i64,
}

impl Lister for VultrSd {
    const NAME: &'static str = "vultr";
    type Config = VultrSdConfig;

    fn check(_config: &VultrSdConfig) -> Result<(), BlockError> {
        Ok(())
    }

    fn create(config: &VultrSdConfig, context: &DiscoveryContext<'_>) -> Result<VultrSd, StartError> {
        let api = ApiClient::new(&config.http, config.keys.refresh_interval, context)?;
        Ok(VultrSd { api, port: config.keys.port })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let mut targets = Vec::new();
        let mut pages = Pages::default();
        let mut cursor = String::new();
        loop {
            pages.count()?;
            let query = [("per_page", "100"), ("cursor", cursor.as_str())];
            let answer = self.api.get(&with_query("https://api.vultr.com/v2/instances", &query)).await?;
            targets.extend(list(&answer, "instances")?.iter().map(|instance| self.target(instance)));
            cursor = text(&answer, "meta.links.next");
            if cursor.is_empty() {
                return Ok(targets);
            }
        }
    }
}

impl VultrSd {
    fn target(&self, instance: &Value) -> DiscoveredTarget {
        let mut labels = Labels::new("__meta_vultr_instance_");
        labels.copy(
            instance,
            &[
                ("id", "id"),
                ("label", "label"),
                ("os", "os"),
                ("os_id", "os_id"),
                ("region", "region"),
                ("plan", "plan"),
                ("main_ip", "main_ip"),
                ("main_ipv6", "v6_main_ip"),
                ("internal_ip", "internal_ip"),
                ("hostname", "hostname"),
                ("server_status", "server_status"),
                ("vcpu_count", "vcpu_count"),
                ("ram_mb", "ram"),
                ("allowed_bandwidth_gb", "allowed_bandwidth"),
                ("disk_gb", "disk"),
            ],
        );
        labels.set("features", separated(&texts(instance, "features"), ","));
        labels.set("tags", separated(&texts(instance, "tags"), ","));
        labels.target(host_port(&text(instance, "main_ip"), self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{assert_cases, assert_port};
    use super::*;

    #[tokio::test]
    async fn instances_have_the_labels_of_prometheus() {
        let cases = include_str!("../../tests/data/discovery/vultr.json");
        assert_cases::<VultrSd>(cases).await;
        assert_port::<VultrSd>(cases).await;
    }
}
