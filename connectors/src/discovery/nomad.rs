//! `nomad_sd_configs`: targets are the services that are registered with Nomad. [`super::lister`]
//! calls it at each refresh.

use super::labels::{Labels, host_port, list, separated, text, texts};
use super::lister::{
    ApiClient, ApiError, BlockError, Lister, StartError, lister_config, path_segment, with_query,
};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::sync::Arc;
use storage::metrics::Counter;

lister_config! {
    /// One entry of `nomad_sd_configs`.
    pub NomadSdConfig as "nomad.SDConfig", NomadSdKeys {
        /// Whether any server may answer, and not only the leader.
        allow_stale: bool = true,
        /// The namespace; `*`: all.
        namespace: String = "default".to_owned(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// The region.
        region: String = "global".to_owned(),
        /// The URL of the API.
        server: ConfigUrl = ConfigUrl::from("http://localhost:4646"),
        /// What stands between the tags in their label.
        tag_separator: String = ",".to_owned(),
    }
}

/// Nomad SD: lists the registered services.
pub struct NomadSd {
    api: ApiClient,
    keys: NomadSdKeys,
    failures: Arc<Counter>,
}

impl Lister for NomadSd {
    const NAME: &'static str = "nomad";
    type Config = NomadSdConfig;

    fn check(config: &NomadSdConfig) -> Result<(), BlockError> {
        let is_blank = config.keys.server.expose().trim().is_empty();
        if is_blank { Err("nomad SD configuration requires a server address".into()) } else { Ok(()) }
    }

    fn create(config: &NomadSdConfig, context: &DiscoveryContext<'_>) -> Result<NomadSd, StartError> {
        let keys = config.keys.clone();
        let help = "Number of nomad service discovery refresh failures.";
        Ok(NomadSd {
            api: ApiClient::new(&config.http, keys.refresh_interval, context)?,
            keys,
            failures: context.metrics.counter("prometheus_sd_nomad_failures_total", help, &[]),
        })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let outcome = self.targets().await;
        if outcome.is_err() {
            self.failures.inc();
        }
        outcome
    }
}

impl NomadSd {
    async fn targets(&self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let mut targets = Vec::new();
        let namespaces = self.get("/v1/services").await?;
        for namespace in list(&namespaces, "")? {
            for service in list(namespace, "Services")? {
                let path = format!("/v1/service/{}", path_segment(&text(service, "ServiceName")));
                let instances = self.get(&path).await;
                let instances = instances.map_err(|error| error.doing("failed to fetch services"))?;
                targets.extend(list(&instances, "")?.iter().map(|instance| self.target(instance)));
            }
        }
        Ok(targets)
    }

    async fn get(&self, path: &str) -> Result<Value, ApiError> {
        let url = format!("{}{path}", self.keys.server.expose().trim_end_matches('/'));
        let mut url = with_query(&url, &[("namespace", &self.keys.namespace), ("region", &self.keys.region)]);
        if self.keys.allow_stale {
            url.push_str(if url.contains('?') { "&stale=" } else { "?stale=" });
        }
        let request = self.api.request(Method::GET, &url)?.header(ACCEPT, "application/json");
        let answer = self.api.send(request).await?;
        if answer.status != StatusCode::OK {
            let code = answer.status.as_u16();
            return Err(answer.refused(format!("Unexpected response code: {code} ({})", answer.quote())));
        }
        Ok(answer.json()?)
    }

    fn target(&self, instance: &Value) -> DiscoveredTarget {
        let mut labels = Labels::new("__meta_nomad_");
        labels.copy(
            instance,
            &[
                ("address", "Address"),
                ("service_address", "Address"),
                ("dc", "Datacenter"),
                ("node_id", "NodeID"),
                ("namespace", "Namespace"),
                ("service", "ServiceName"),
                ("service_id", "ID"),
                ("service_port", "Port"),
            ],
        );
        labels.set("tags", separated(&texts(instance, "Tags"), &self.keys.tag_separator));
        labels.target(host_port(&text(instance, "Address"), text(instance, "Port")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{assert_cases, assert_refused, assert_tag_separator};
    use super::*;

    #[tokio::test]
    async fn services_have_the_labels_of_prometheus() {
        let cases = include_str!("../../tests/data/discovery/nomad.json");
        assert_cases::<NomadSd>(cases).await;
        assert_tag_separator::<NomadSd>(cases).await;
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<NomadSd>(&[("{server: ' '}", "nomad SD configuration requires a server address")]);
    }
}
