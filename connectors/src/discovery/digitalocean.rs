//! `digitalocean_sd_configs`: targets are droplets or database clusters of DigitalOcean.
//! [`super::lister`] calls it at each refresh.

use super::labels::{Labels, host_port, list, separated, text, texts};
use super::lister::{ApiClient, ApiError, BlockError, Lister, Pages, StartError, lister_config, with_query};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::units::ConfigDuration;
use serde_json::Value;

lister_config! {
    /// One entry of `digitalocean_sd_configs`.
    pub DigitalOceanSdConfig as "digitalocean.SDConfig", DigitalOceanSdKeys {
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of all targets.
        port: i64 = 80,
        /// What is listed: `droplets` or `databases`.
        role: String = "droplets".to_owned(),
        /// Nothing; Prometheus' page shows it as `null`.
        httpclient: Option<String> = None,
    }
}

const API: &str = "https://api.digitalocean.com/v2";
const PREFIX: &str = "__meta_digitalocean_";

/// DigitalOcean SD: lists the droplets or the database clusters of an account.
pub struct DigitalOceanSd {
    api: ApiClient,
    keys: DigitalOceanSdKeys,
}

impl Lister for DigitalOceanSd {
    const NAME: &'static str = "digitalocean";
    type Config = DigitalOceanSdConfig;

    fn check(config: &DigitalOceanSdConfig) -> Result<(), BlockError> {
        match config.keys.role.as_str() {
            "droplets" | "databases" => Ok(()),
            other => Err(format!("unknown DigitalOcean SD role {other:?}").into()),
        }
    }

    fn create(
        config: &DigitalOceanSdConfig,
        context: &DiscoveryContext<'_>,
    ) -> Result<DigitalOceanSd, StartError> {
        let keys = config.keys.clone();
        Ok(DigitalOceanSd { api: ApiClient::new(&config.http, keys.refresh_interval, context)?, keys })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        if self.keys.role == "droplets" { self.droplets().await } else { self.databases().await }
    }
}

impl DigitalOceanSd {
    async fn droplets(&self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let mut targets = Vec::new();
        let mut pages = Pages::default();
        for page in 1.. {
            pages.count()?;
            let number = page.to_string();
            let query = [("page", if page == 1 { "" } else { number.as_str() })];
            let answer = self.api.get(&with_query(&format!("{API}/droplets"), &query)).await;
            let answer = answer.map_err(|e| e.doing(format!("error while listing droplets page {page}")))?;
            for droplet in list(&answer, "droplets")? {
                targets.extend(self.droplet(droplet)?);
            }
            if text(&answer, "links.pages.last").is_empty() {
                break;
            }
        }
        Ok(targets)
    }

    /// The target of a droplet; none without an IPv4 network.
    fn droplet(&self, droplet: &Value) -> Result<Option<DiscoveredTarget>, ApiError> {
        if list(droplet, "networks.v4")?.is_empty() {
            return Ok(None);
        }
        let address = |version: &str, kind: &str| {
            let networks = list(droplet, &format!("networks.{version}")).unwrap_or_default();
            let network = networks.iter().find(|network| text(network, "type") == kind);
            network.map(|network| text(network, "ip_address")).unwrap_or_default()
        };
        let public = address("v4", "public");
        let mut labels = Labels::new(PREFIX);
        labels.copy(
            droplet,
            &[
                ("droplet_id", "id"),
                ("droplet_name", "name"),
                ("image", "image.slug"),
                ("image_name", "image.name"),
                ("region", "region.slug"),
                ("size", "size_slug"),
                ("status", "status"),
                ("vpc", "vpc_uuid"),
            ],
        );
        labels.set("private_ipv4", address("v4", "private")).set("public_ipv4", &public);
        labels.set("public_ipv6", address("v6", "public"));
        labels.set("features", separated(&texts(droplet, "features"), ","));
        labels.set("tags", separated(&texts(droplet, "tags"), ","));
        Ok(Some(labels.target(host_port(&public, self.keys.port))))
    }

    async fn databases(&self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let mut targets = Vec::new();
        let mut pages = Pages::default();
        for page in 1.. {
            pages.count()?;
            let query = [("page", page.to_string()), ("per_page", "100".to_owned())];
            let query = query.each_ref().map(|(name, value)| (*name, value.as_str()));
            let answer = self.api.get(&with_query(&format!("{API}/databases"), &query)).await;
            let answer =
                answer.map_err(|e| e.doing(format!("error while listing database clusters page {page}")))?;
            let databases = list(&answer, "databases")?;
            if databases.is_empty() {
                break;
            }
            targets.extend(databases.iter().map(|database| self.database(database)));
        }
        Ok(targets)
    }

    fn database(&self, database: &Value) -> DiscoveredTarget {
        let mut labels = Labels::new(PREFIX);
        labels.copy(
            database,
            &[
                ("db_id", "id"),
                ("db_name", "name"),
                ("db_engine", "engine"),
                ("db_version", "version"),
                ("db_status", "status"),
                ("db_region", "region"),
                ("db_size", "size"),
                ("db_num_nodes", "num_nodes"),
                ("db_host", "connection.host"),
                ("db_private_host", "private_connection.host"),
            ],
        );
        for tag in texts(database, "tags") {
            labels.set(&format!("db_tag_{tag}"), "true");
        }
        let hosts = [text(database, "private_connection.host"), text(database, "connection.host")];
        match hosts.iter().find(|host| !host.is_empty()) {
            Some(host) => labels.target(host_port(host, self.keys.port)),
            None => labels.without_address(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{assert_cases, assert_refused};
    use super::*;

    #[tokio::test]
    async fn droplets_and_databases_have_the_labels_of_prometheus() {
        assert_cases::<DigitalOceanSd>(include_str!("../../tests/data/discovery/digitalocean.json")).await;
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<DigitalOceanSd>(&[
            ("{role: ''}", "unknown DigitalOcean SD role \"\""),
            ("{role: x}", "unknown DigitalOcean SD role \"x\""),
        ]);
    }
}
