//! `ec2_sd_configs`: targets are the instances of EC2, from `DescribeInstances`, with Prometheus'
//! labels `__meta_ec2_*`. [`super`] has what all mechanisms of AWS share.

use super::client::{AwsCalls, AwsClient};
use super::{AwsFilter, aws_config};
use crate::api_client::Pages;
use crate::discovery::labels::{Labels, host_port, separated};
use crate::discovery::lister::{ApiError, BlockError, Lister, StartError};
use crate::discovery::{DiscoveredTarget, DiscoveryContext};
use crate::xml::Element;
use std::collections::BTreeMap;

aws_config! {
    /// One entry of `ec2_sd_configs`.
    pub Ec2SdConfig as "aws.EC2SDConfig", Ec2Keys {
        /// Conditions that EC2 applies.
        filters: Vec<AwsFilter> = Vec::new(),
    }
}

/// The version of EC2's API.
pub(super) const VERSION: &str = "2016-11-15";

/// EC2 SD: lists the instances of a region.
pub struct Ec2Sd {
    client: AwsClient,
    config: Ec2SdConfig,
    /// The ids of availability zones by their names, once they are known.
    zones: Option<BTreeMap<String, String>>,
}

impl Lister for Ec2Sd {
    const NAME: &'static str = "ec2";
    type Config = Ec2SdConfig;

    fn check(config: &Ec2SdConfig) -> Result<(), BlockError> {
        if config.own.filters.iter().any(|filter| filter.values.is_empty()) {
            return Err("EC2 SD configuration filter values cannot be empty".into());
        }
        Ok(())
    }

    fn create(config: &Ec2SdConfig, context: &DiscoveryContext<'_>) -> Result<Ec2Sd, StartError> {
        let client = AwsClient::new("ec2", &config.aws, &config.http, context)?;
        Ok(Ec2Sd { client, config: config.clone(), zones: None })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let calls = self.client.open().await?;
        if self.zones.is_none() {
            match zones(&calls).await {
                Ok(zones) => self.zones = Some(zones),
                Err(error) => {
                    tracing::debug!(
                        target: "discovery", %error,
                        "cannot describe availability zones, so targets have no zone id"
                    );
                }
            }
        }
        let outcome = self.instances(&calls).await;
        self.client.note(&outcome);
        outcome.map_err(|e| e.doing("could not describe instances"))
    }
}

async fn zones(calls: &AwsCalls) -> Result<BTreeMap<String, String>, ApiError> {
    let root = calls.query::<&str, &str>(VERSION, "DescribeAvailabilityZones", &[]).await?;
    let zones = root.items("availabilityZoneInfo").iter();
    Ok(zones.map(|zone| (zone.text("zoneName"), zone.text("zoneId"))).collect())
}

/// Filters as fields of a form: `Filter.1.Name`, `Filter.1.Value.1`.
pub(super) fn filter_fields(start: &str, value: &str, filters: &[AwsFilter]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for (at, filter) in filters.iter().enumerate() {
        let start = format!("{start}.{}", at + 1);
        fields.push((format!("{start}.Name"), filter.name.clone()));
        for (at, text) in filter.values.iter().enumerate() {
            fields.push((format!("{start}.{value}.{}", at + 1), text.clone()));
        }
    }
    fields
}

impl Ec2Sd {
    async fn instances(&self, calls: &AwsCalls) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let filters = filter_fields("Filter", "Value", &self.config.own.filters);
        let mut targets = Vec::new();
        let mut pages = Pages::default();
        let mut token = String::new();
        loop {
            pages.count()?;
            let mut fields = filters.clone();
            if !token.is_empty() {
                fields.push(("NextToken".to_owned(), token));
            }
            let root = calls.query(VERSION, "DescribeInstances", &fields).await?;
            for reservation in root.items("reservationSet") {
                let owner = reservation.text("ownerId");
                let instances = reservation.items("instancesSet").iter();
                targets.extend(instances.filter_map(|instance| self.target(instance, &owner, &calls.region)));
            }
            token = root.text("nextToken");
            if token.is_empty() {
                return Ok(targets);
            }
        }
    }

    /// The target of an instance; none without a private or an IPv6 address.
    fn target(&self, instance: &Element, owner: &str, region: &str) -> Option<DiscoveredTarget> {
        let mut labels = Labels::new("__meta_ec2_");
        let ipv6 = add_networks(instance, &mut labels);
        let private = instance.text("privateIpAddress");
        let host = [private.clone(), ipv6].into_iter().find(|host| !host.is_empty())?;
        labels.set("region", region).set("owner_id", owner).set("private_ip", private);
        let zone = instance.text("placement.availabilityZone");
        let zone_id = self.zones.as_ref().and_then(|zones| zones.get(&zone));
        labels.set("availability_zone_id", zone_id.cloned().unwrap_or_default());
        labels.set("availability_zone", zone);
        for (name, path) in [
            ("instance_id", "instanceId"),
            ("ami", "imageId"),
            ("instance_state", "instanceState.name"),
            ("instance_type", "instanceType"),
            ("private_dns_name", "privateDnsName"),
            ("platform", "platform"),
            ("architecture", "architecture"),
            ("instance_lifecycle", "instanceLifecycle"),
        ] {
            labels.set(name, instance.text(path));
        }
        let public = instance.text("ipAddress");
        if !public.is_empty() {
            labels.set("public_ip", public).set("public_dns_name", instance.text("dnsName"));
        }
        labels.set_all("tag_", tags(instance.items("tagSet"), "key", "value"));
        Some(labels.target(host_port(&host, self.config.aws.port)))
    }
}

/// The tags of a list of elements with a key and a value.
pub(super) fn tags(items: &[Element], key: &str, value: &str) -> Vec<(String, String)> {
    let has_both = |item: &&Element| item.at(key).is_some() && item.at(value).is_some();
    items.iter().filter(has_both).map(|item| (item.text(key), item.text(value))).collect()
}

/// Sets the labels of the networks of an instance in a VPC; returns the IPv6 address to use if
/// there is no other.
fn add_networks(instance: &Element, labels: &mut Labels) -> String {
    if instance.at("vpcId").is_none() {
        return String::new();
    }
    labels.set("vpc_id", instance.text("vpcId")).set("primary_subnet_id", instance.text("subnetId"));
    let mut subnets: Vec<String> = Vec::new();
    let mut all: Vec<String> = Vec::new();
    let mut primary: BTreeMap<usize, String> = BTreeMap::new();
    for interface in instance.items("networkInterfaceSet").iter().filter(|i| i.at("subnetId").is_some()) {
        let subnet = interface.text("subnetId");
        if !subnets.contains(&subnet) {
            subnets.push(subnet);
        }
        for address in interface.items("ipv6AddressesSet") {
            let ip = address.text("ipv6Address");
            if address.text("isPrimaryIpv6") == "true" {
                let index = interface.text("attachment.deviceIndex").parse().unwrap_or(0);
                primary.insert(index, ip.clone());
            }
            all.push(ip);
        }
    }
    labels.set("subnet_id", separated(&subnets, ",")).set("ipv6_addresses", separated(&all, ","));
    // Their places say the index of the device; those of devices without one are empty.
    let places = primary.keys().next_back().map_or(0, |index| (*index).min(subnets.len() + 64) + 1);
    let by_device: Vec<&str> = (0..places).map(|at| primary.get(&at).map_or("", String::as_str)).collect();
    labels.set("primary_ipv6_addresses", separated(&by_device, ","));
    let default = by_device.into_iter().chain(all.iter().map(String::as_str)).find(|ip| !ip.is_empty());
    let default = default.unwrap_or_default().to_owned();
    labels.set("default_ipv6_address", &default);
    default
}
