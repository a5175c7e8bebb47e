//! `outscale_sd_configs`: targets are the virtual machines of OUTSCALE. [`super::lister`] calls it
//! at each refresh.

use super::labels::{Labels, host_port, list, text};
use super::lister::{
    ApiClient, ApiError, BlockError, Lister, Pages, StartError, check_secret_key, lister_config, secret_key,
};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::aws_signature::{AwsCredentials, AwsScope, sign};
use crate::config::path::ConfigPath;
use crate::config::secret::Secret;
use crate::config::units::ConfigDuration;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use std::time::SystemTime;

lister_config! {
    /// One entry of `outscale_sd_configs`.
    pub OutscaleSdConfig as "outscale.SDConfig", OutscaleSdKeys {
        /// Another URL of the API.
        endpoint: String = String::new(),
        /// The region.
        region: String = "eu-west-2".to_owned(),
        /// The public part of an access key.
        access_key: String = String::new(),
        /// The secret part.
        secret_key: Secret = Secret::default(),
        /// A file with it.
        secret_key_file: ConfigPath = ConfigPath::default(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The port of all targets.
        port: i64 = 80,
    }
}

/// What signatures are for, in every region.
const SCOPE: AwsScope<'static> = AwsScope { region: "eu-west-2", service: "oapi" };

/// OUTSCALE SD: lists the virtual machines of an account.
pub struct OutscaleSd {
    api: ApiClient,
    keys: OutscaleSdKeys,
}

impl Lister for OutscaleSd {
    const NAME: &'static str = "outscale";
    type Config = OutscaleSdConfig;

    fn check(config: &OutscaleSdConfig) -> Result<(), BlockError> {
        let keys = &config.keys;
        if keys.region.is_empty() {
            return Err("outscale SD configuration requires a region".into());
        }
        if keys.access_key.is_empty() {
            return Err("outscale SD configuration requires access_key".into());
        }
        check_secret_key(&keys.secret_key, &keys.secret_key_file)
    }

    fn create(config: &OutscaleSdConfig, context: &DiscoveryContext<'_>) -> Result<OutscaleSd, StartError> {
        let keys = config.keys.clone();
        Ok(OutscaleSd { api: ApiClient::new(&config.http, keys.refresh_interval, context)?, keys })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let machines = self.machines().await.map_err(|e| e.doing("outscale ReadVms"))?;
        Ok(machines.iter().filter_map(|machine| self.target(machine)).collect())
    }
}

impl OutscaleSd {
    async fn machines(&self) -> Result<Vec<Value>, ApiError> {
        let credentials = AwsCredentials {
            access_key: self.keys.access_key.clone(),
            secret_key: secret_key(&self.keys.secret_key, &self.keys.secret_key_file)?,
            ..AwsCredentials::default()
        };
        let base = match self.keys.endpoint.trim_end_matches('/') {
            "" => format!("https://api.{}.outscale.com/api/v1", self.keys.region),
            endpoint => endpoint.to_owned(),
        };
        let mut body = json!({});
        let mut machines = Vec::new();
        let mut pages = Pages::default();
        loop {
            pages.count()?;
            let request = self.api.request(Method::POST, &format!("{base}/ReadVms"))?;
            let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
            let answer = self
                .api
                .send_changed(request, |request| Ok(sign(request, SCOPE, &credentials, SystemTime::now())?));
            let answer = answer.await?.success()?.json()?;
            machines.extend_from_slice(list(&answer, "Vms")?);
            let next = text(&answer, "NextPageToken");
            if next.is_empty() {
                return Ok(machines);
            }
            body = json!({"NextPageToken": next});
        }
    }

    /// The target of a machine; none without an address.
    fn target(&self, machine: &Value) -> Option<DiscoveredTarget> {
        let hosts = [text(machine, "PrivateIp"), text(machine, "PublicIp")];
        let host = hosts.iter().find(|host| !host.is_empty())?;
        let mut labels = Labels::new("__meta_outscale_vm_");
        labels.set("region", &self.keys.region).copy(
            machine,
            &[
                ("instance_id", "VmId"),
                ("state", "State"),
                ("subregion", "Placement.SubregionName"),
                ("private_ip", "PrivateIp"),
                ("public_ip", "PublicIp"),
            ],
        );
        let tags = list(machine, "Tags").unwrap_or_default().iter();
        labels.set_all("tag_", tags.map(|tag| (text(tag, "Key"), text(tag, "Value"))));
        Some(labels.target(host_port(host, self.keys.port)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{RecordedServer, assert_cases, assert_port, assert_refused, listed};
    use super::*;

    #[tokio::test]
    async fn machines_have_the_labels_of_prometheus() {
        let cases = include_str!("../../tests/data/discovery/outscale.json");
        assert_cases::<OutscaleSd>(cases).await;
        assert_port::<OutscaleSd>(cases).await;
    }

    /// The URL has the region of the block; the signature has the key of the file.
    #[tokio::test]
    async fn the_region_and_the_key_of_the_file_are_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "s3cr3t\n").unwrap();
        let server = RecordedServer::new(Vec::new());
        let yaml = format!("{{region: us-east-2, access_key: AK, secret_key_file: '{}'}}", file.display());
        listed::<OutscaleSd>(&yaml, &server).await.unwrap_err();
        let seen = server.seen().remove(0);
        assert!(seen.starts_with("POST https://api.us-east-2.outscale.com/"), "{seen}");
        assert!(seen.contains("Credential=AK/"), "{seen}");
        std::fs::remove_file(&file).unwrap();
        assert!(listed::<OutscaleSd>(&yaml, &server).await.unwrap_err().contains("unable to read file"));
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<OutscaleSd>(&[
            ("{region: ''}", "outscale SD configuration requires a region"),
            ("{}", "outscale SD configuration requires access_key"),
            ("{access_key: a}", "one of secret_key & secret_key_file must be configured"),
            (
                "{access_key: a, secret_key: b, secret_key_file: c}",
                "at most one of secret_key & secret_key_file must be configured",
            ),
        ]);
    }
}
