//! `kuma_sd_configs`: data planes of Kuma's meshes, which its control plane sends over HTTP when
//! they change (MADS version 1, a long poll of xDS).

use super::labels::Labels;
use super::lister::{ApiClient, ApiError, StartError};
use super::report_timer::RequestPauses;
use super::{DiscoveredTarget, Discoverer, DiscoveryContext, Mechanism, StartResult, TargetSender};
use crate::config::error::BlockError;
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use crate::http_client::HttpConfig;
use crate::limits::KUMA_ANSWER_SECONDS;
use crate::{compose_block, config_keys};
use futures::future::BoxFuture;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::{Counter, MetricSummary};
use tokio::time::Instant;
use url::Url;

config_keys! {
    /// The keys of an entry of `kuma_sd_configs`, except those of the HTTP client.
    pub struct KumaSdKeys {
        /// The URL of the control plane.
        server: ConfigUrl = ConfigUrl::default(),
        /// Longest time between two requests.
        refresh_interval: ConfigDuration = ConfigDuration(15_000),
        /// How long the server may wait for a change.
        fetch_timeout: ConfigDuration = ConfigDuration(120_000),
        /// What this client calls itself; empty: the name of the machine.
        client_id: String = String::new(),
    }
}

/// One entry of `kuma_sd_configs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KumaSdConfig {
    /// Its own keys.
    pub keys: KumaSdKeys,
    /// How the server is reached.
    pub http: HttpConfig,
}

compose_block!(KumaSdConfig as "xds.SDConfig" { keys: KumaSdKeys, http: HttpConfig });

/// Kuma SD: follows the data planes of all meshes.
pub struct KumaSd;

/// The type of the resources.
const TYPE_URL: &str = "type.googleapis.com/kuma.observability.v1.MonitoringAssignment";

impl Mechanism for KumaSd {
    type Config = KumaSdConfig;

    fn validate(config: &KumaSdConfig) -> Result<(), BlockError> {
        let server = config.keys.server.expose();
        if server.is_empty() {
            return Err("kuma SD server must not be empty: ".into());
        }
        if !server.contains("://") {
            return Err(BlockError::new(format!(
                "kuma SD server must not be empty and have a scheme: {}",
                config.keys.server
            )));
        }
        if config.keys.refresh_interval.0 <= 0 {
            return Err("kuma_sd_configs: refresh_interval must be greater than 0".into());
        }
        config.http.validate()
    }

    fn http(config: &KumaSdConfig) -> Option<&HttpConfig> {
        Some(&config.http)
    }

    fn start(config: &KumaSdConfig, context: &DiscoveryContext<'_>) -> StartResult {
        Ok(Box::new(KumaDiscoverer::new(config, context)?))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DiscoveryResponse {
    #[serde(alias = "version_info")]
    version_info: String,
    nonce: String,
    #[serde(alias = "type_url")]
    type_url: String,
    resources: Option<Vec<Assignment>>,
}

/// The data planes of a service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Assignment {
    #[serde(rename = "@type")]
    kind: String,
    mesh: String,
    service: String,
    labels: Option<BTreeMap<String, String>>,
    targets: Option<Vec<DataPlane>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DataPlane {
    name: String,
    scheme: String,
    address: String,
    #[serde(alias = "metrics_path")]
    metrics_path: String,
    labels: Option<BTreeMap<String, String>>,
}

struct KumaDiscoverer {
    client: ApiClient,
    url: Url,
    client_id: String,
    interval: Duration,
    version: String,
    nonce: String,
    failures: Arc<Counter>,
    skipped: Arc<Counter>,
    seconds: Arc<MetricSummary>,
}

impl KumaDiscoverer {
    fn new(config: &KumaSdConfig, context: &DiscoveryContext<'_>) -> Result<KumaDiscoverer, StartError> {
        let keys = &config.keys;
        let server = keys.server.expose();
        let mut url = Url::parse(server)
            .map_err(|error| BlockError::new(format!("the server {}: {error}", keys.server)))?;
        if !matches!(url.scheme(), "http" | "https") {
            let text = "kuma_sd: invalid xDS server URL protocol. must be either 'http' or 'https'";
            return Err(BlockError::new(text).into());
        }
        let path = format!("{}/v3/discovery:monitoringassignments", url.path().trim_end_matches('/'));
        url.set_path(&path);
        if keys.fetch_timeout.0 > 0 {
            url.query_pairs_mut().append_pair("fetch-timeout", &keys.fetch_timeout.to_string());
        }
        // The server waits for `fetch_timeout` and needs time to answer then.
        let timeout = keys.fetch_timeout.std() + Duration::from_secs(KUMA_ANSWER_SECONDS);
        let metrics = context.metrics;
        Ok(KumaDiscoverer {
            client: ApiClient::with_timeout(context.client(&config.http)?, timeout),
            url,
            client_id: client_id(&keys.client_id),
            interval: keys.refresh_interval.std(),
            version: String::new(),
            nonce: String::new(),
            failures: metrics.counter(
                "prometheus_sd_kuma_fetch_failures_total",
                "The number of Kuma MADS fetch call failures.",
                &[],
            ),
            skipped: metrics.counter(
                "prometheus_sd_kuma_fetch_skipped_updates_total",
                "The number of Kuma MADS fetch calls that result in no updates to the targets.",
                &[],
            ),
            seconds: metrics.summary(
                "prometheus_sd_kuma_fetch_duration_seconds",
                "The duration of a Kuma MADS fetch call.",
                &[],
            ),
        })
    }

    /// Asks for a version other than the last; `None`: there is none.
    async fn fetch(&mut self) -> Result<Option<Vec<DiscoveredTarget>>, ApiError> {
        let mut body = json!({"node": {"id": self.client_id}, "type_url": TYPE_URL});
        for (key, value) in [("version_info", &self.version), ("response_nonce", &self.nonce)] {
            if !value.is_empty() {
                body[key] = value.as_str().into();
            }
        }
        let request = self
            .client
            .request(Method::POST, self.url.as_str())?
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(body.to_string());
        let answer = self.client.send(request).await?;
        // The long poll ended without a change.
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        if answer.status != StatusCode::OK {
            let status = answer.status.as_u16();
            return Err(answer.refused(format!("non 200 status '{status}' response during xDS fetch")));
        }
        let response: DiscoveryResponse =
            serde_json::from_slice(&answer.body).map_err(|error| ApiError::unexpected(error.to_string()))?;
        // Before the rest is read: an answer that we cannot use would be sent again and again.
        self.version = response.version_info;
        self.nonce = response.nonce;
        if response.type_url != TYPE_URL {
            let kind = response.type_url;
            return Err(invalid_type(&kind));
        }
        targets(&response.resources.unwrap_or_default()).map(Some)
    }
}

/// The name that the server knows this client by.
fn client_id(given: &str) -> String {
    if !given.is_empty() {
        return given.to_owned();
    }
    // No call of libc for one name.
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "prometheus".to_owned() } else { name.to_owned() }
}

fn invalid_type(kind: &str) -> ApiError {
    ApiError::unexpected(format!("received invalid typeURL for Kuma MADS v1 Resource: {kind}"))
}

fn targets(assignments: &[Assignment]) -> Result<Vec<DiscoveredTarget>, ApiError> {
    let mut all = Vec::new();
    for assignment in assignments {
        // A newer form of the resources may mean other things by the same names.
        if assignment.kind != TYPE_URL {
            return Err(invalid_type(&assignment.kind));
        }
        for plane in assignment.targets.iter().flatten() {
            let mut labels = Labels::new("__meta_kuma_");
            labels
                .set("mesh", &assignment.mesh)
                .set("service", &assignment.service)
                .set("dataplane", &plane.name)
                // Those of the service win.
                .set_all("label_", plane.labels.clone().unwrap_or_default())
                .set_all("label_", assignment.labels.clone().unwrap_or_default());
            let mut target = labels.target(&plane.address);
            let mut set = |name: &str, value: &str| target.insert(name.to_owned(), value.to_owned());
            set("instance", &plane.name);
            set("__scheme__", &plane.scheme);
            set("__metrics_path__", &plane.metrics_path);
            all.push(target);
        }
    }
    Ok(all)
}

impl Discoverer for KumaDiscoverer {
    fn run(mut self: Box<Self>, report: TargetSender) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut pauses = RequestPauses::new(self.interval);
            loop {
                let started = Instant::now();
                let outcome = self.fetch().await;
                self.seconds.observe(started.elapsed().as_secs_f64());
                match outcome {
                    Ok(Some(targets)) => report.send(targets),
                    Ok(None) => self.skipped.inc(),
                    Err(error) => {
                        self.failures.inc();
                        tracing::error!(
                            target: "discovery", %error,
                            "cannot read the targets of Kuma's control plane and keep the last ones; check it"
                        );
                        tokio::time::sleep(self.interval).await;
                        continue;
                    }
                }
                tokio::time::sleep(pauses.after(started.elapsed())).await;
            }
        })
    }
}

#[cfg(test)]
mod tests;
