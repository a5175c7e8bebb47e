//! `lightsail_sd_configs`: targets are the instances of Lightsail. [`super`] has what all
//! mechanisms of AWS share.

use super::AwsKeys;
use super::client::{AwsCalls, AwsClient};
use crate::compose_block;
use crate::config::units::ConfigDuration;
use crate::discovery::labels::{Labels, host_port, list, separated, text, texts};
use crate::discovery::lister::{ApiError, BlockError, Lister, ListerConfig, StartError};
use crate::discovery::{DiscoveredTarget, DiscoveryContext};
use crate::http_client::HttpConfig;
use serde_json::{Value, json};

/// One entry of `lightsail_sd_configs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LightsailSdConfig {
    /// The keys that all mechanisms of AWS have.
    pub aws: AwsKeys,
    /// How the service is reached.
    pub http: HttpConfig,
}

compose_block!(LightsailSdConfig as "aws.LightsailSDConfig" { aws: AwsKeys, http: HttpConfig });

impl ListerConfig for LightsailSdConfig {
    fn interval(&self) -> ConfigDuration {
        self.aws.refresh_interval
    }

    fn http(&self) -> Option<&HttpConfig> {
        Some(&self.http)
    }
}

/// Lightsail SD: lists the instances of a region.
pub struct LightsailSd {
    client: AwsClient,
    port: i64,
}

impl Lister for LightsailSd {
    const NAME: &'static str = "lightsail";
    type Config = LightsailSdConfig;

    fn check(_config: &LightsailSdConfig) -> Result<(), BlockError> {
        Ok(())
    }

    fn create(config: &LightsailSdConfig, context: &DiscoveryContext<'_>) -> Result<LightsailSd, StartError> {
        let client = AwsClient::new("lightsail", &config.aws, &config.http, context)?;
        Ok(LightsailSd { client, port: config.aws.port })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let calls = self.client.open().await?;
        let outcome = calls.json("Lightsail_20161128.GetInstances", &json!({})).await;
        self.client.note(&outcome);
        let answer = outcome.map_err(|e| e.doing("could not get instances"))?;
        let instances = list(&answer, "instances")?.iter();
        Ok(instances.filter_map(|instance| self.target(instance, &calls)).collect())
    }
}

impl LightsailSd {
    /// The target of an instance; none without a private address.
    fn target(&self, instance: &Value, calls: &AwsCalls) -> Option<DiscoveredTarget> {
        let private = Some(text(instance, "privateIpAddress")).filter(|ip| !ip.is_empty())?;
        let mut labels = Labels::new("__meta_lightsail_");
        labels.set("private_ip", &private).set("region", &calls.region).copy(
            instance,
            &[
                ("availability_zone", "location.availabilityZone"),
                ("blueprint_id", "blueprintId"),
                ("bundle_id", "bundleId"),
                ("instance_name", "name"),
                ("instance_state", "state.name"),
                ("instance_support_code", "supportCode"),
                ("public_ip", "publicIpAddress"),
            ],
        );
        labels.set("ipv6_addresses", separated(&texts(instance, "ipv6Addresses"), ","));
        let tags = list(instance, "tags").unwrap_or_default().iter();
        labels.set_all("tag_", tags.map(|tag| (text(tag, "key"), text(tag, "value"))));
        Some(labels.target(host_port(&private, self.port)))
    }
}
