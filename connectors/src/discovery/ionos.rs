//! `ionos_sd_configs`: targets are the servers of a data centre of IONOS Cloud. [`super::lister`]
//! calls it at each refresh.

use super::labels::{Labels, host_port, list, separated, text, texts};
use super::lister::{ApiClient, ApiError, BlockError, Lister, StartError, lister_config, with_query};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::units::ConfigDuration;
use serde_json::Value;
use std::collections::BTreeMap;

lister_config! {
    /// One entry of `ionos_sd_configs`.
    pub IonosSdConfig as "ionos.SDConfig", IonosSdKeys {
        /// The data centre.
        datacenter_id: String = String::new(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of all targets.
        port: i64 = 80,
    }
}

/// IONOS SD: lists the servers of a data centre.
pub struct IonosSd {
    api: ApiClient,
    keys: IonosSdKeys,
}

impl Lister for IonosSd {
    const NAME: &'static str = "ionos";
    type Config = IonosSdConfig;

    fn check(config: &IonosSdConfig) -> Result<(), BlockError> {
        let is_missing = config.keys.datacenter_id.is_empty();
        if is_missing { Err("datacenter id can't be empty".into()) } else { Ok(()) }
    }

    fn create(config: &IonosSdConfig, context: &DiscoveryContext<'_>) -> Result<IonosSd, StartError> {
        let keys = config.keys.clone();
        Ok(IonosSd { api: ApiClient::new(&config.http, keys.refresh_interval, context)?, keys })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let url = format!(
            "https://api.ionos.com/cloudapi/v6/datacenters/{}/servers",
            super::lister::path_segment(&self.keys.datacenter_id)
        );
        let query = [("depth", "3"), ("limit", "1000"), ("offset", "0"), ("pretty", "true")];
        let answer = self.api.get(&with_query(&url, &query)).await?;
        let mut targets = Vec::new();
        for server in list(&answer, "items")? {
            targets.extend(self.target(server, &text(&answer, "id"))?);
        }
        Ok(targets)
    }
}

impl IonosSd {
    /// The target of a server; none without addresses.
    fn target(&self, server: &Value, servers_id: &str) -> Result<Option<DiscoveredTarget>, ApiError> {
        let mut labels = Labels::new("__meta_ionos_server_");
        let mut addresses: Vec<String> = Vec::new();
        let mut by_card: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for card in list(server, "entities.nics.items")? {
            let of_card = texts(card, "properties.ips");
            let name = Some(text(card, "properties.name")).filter(|name| !name.is_empty());
            let name = name.unwrap_or_else(|| "unnamed".to_owned());
            // As in Prometheus: the addresses of the last card come first.
            by_card.entry(name).or_default().splice(0..0, of_card.clone());
            addresses.splice(0..0, of_card);
        }
        labels.set_all("nic_ip_", by_card.into_iter().map(|(name, ips)| (name, separated(&ips, ","))));
        let Some(first) = addresses.first() else { return Ok(None) };
        labels.set("ip", separated(&addresses, ",")).set("servers_id", servers_id);
        labels.copy(
            server,
            &[
                ("id", "id"),
                ("name", "properties.name"),
                ("availability_zone", "properties.availabilityZone"),
                ("cpu_family", "properties.cpuFamily"),
                ("lifecycle", "metadata.state"),
                ("state", "properties.vmState"),
                ("type", "properties.type"),
                ("boot_cdrom_id", "properties.bootCdrom.id"),
                ("boot_volume_id", "properties.bootVolume.id"),
            ],
        );
        if let Some(volume) = list(server, "entities.volumes.items")?.first() {
            labels.copy(volume, &[("boot_image_id", "properties.image")]);
        }
        Ok(Some(labels.target(host_port(first, self.keys.port))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{assert_cases, assert_port, assert_refused};
    use super::*;

    #[tokio::test]
    async fn servers_have_the_labels_of_prometheus() {
        let cases = include_str!("../../tests/data/discovery/ionos.json");
        assert_cases::<IonosSd>(cases).await;
        assert_port::<IonosSd>(cases).await;
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<IonosSd>(&[("{}", "datacenter id can't be empty")]);
    }
}
