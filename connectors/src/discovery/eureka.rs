//! `eureka_sd_configs`: targets are the instances that have registered with a Eureka server.
//! [`super::lister`] calls it at each refresh.

use super::labels::{Labels, host_port};
use super::lister::{ApiClient, ApiError, BlockError, Lister, StartError, lister_config};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::api_client::AnswerError;
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use crate::xml::Element;
use reqwest::Method;
use url::Url;

lister_config! {
    /// One entry of `eureka_sd_configs`.
    pub EurekaSdConfig as "eureka.SDConfig", EurekaSdKeys {
        /// The server, with the path of its API: `http://host:8761/eureka`.
        server: ConfigUrl = ConfigUrl::default(),
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(30_000),
    }
}

/// The port of an instance that names none.
const DEFAULT_PORT: &str = "80";

/// Eureka SD: lists the registered instances of all applications.
pub struct EurekaSd {
    api: ApiClient,
    url: String,
}

impl Lister for EurekaSd {
    const NAME: &'static str = "eureka";
    type Config = EurekaSdConfig;

    fn check(config: &EurekaSdConfig) -> Result<(), BlockError> {
        let server = config.keys.server.expose();
        if server.is_empty() {
            return Err("eureka_sd: empty or null eureka server".into());
        }
        let has_host = Url::parse(server).is_ok_and(|url| url.has_host());
        if has_host { Ok(()) } else { Err("eureka_sd: invalid eureka server URL".into()) }
    }

    fn create(config: &EurekaSdConfig, context: &DiscoveryContext<'_>) -> Result<EurekaSd, StartError> {
        let api = ApiClient::new(&config.http, config.keys.refresh_interval, context)?;
        Ok(EurekaSd { api, url: format!("{}/apps", config.keys.server.expose()) })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let answer = self.api.send(self.api.request(Method::GET, &self.url)?).await?;
        if !answer.status.is_success() {
            let status = answer.status.as_u16();
            let text = format!("non 2xx status '{status}' response during eureka service discovery");
            return Err(answer.refused(text));
        }
        let document = answer.text();
        let root = Element::parse(&document)?;
        let mut targets = Vec::new();
        for application in root.children.iter().filter(|element| element.name == "application") {
            let name = application.text("name");
            for instance in application.children.iter().filter(|element| element.name == "instance") {
                targets.push(target(&name, instance, &document)?);
            }
        }
        Ok(targets)
    }
}

/// A number in the text of an element; zero if there is no element.
fn number(element: Option<&Element>) -> Result<i64, AnswerError> {
    let Some(element) = element else { return Ok(0) };
    let Element { name, text, .. } = element;
    text.parse().map_err(|_| AnswerError::Unexpected(format!("{name} of an instance is {text:?}")))
}

/// The target of an instance.
fn target(application: &str, instance: &Element, document: &str) -> Result<DiscoveredTarget, ApiError> {
    let mut labels = Labels::new("__meta_eureka_app_");
    labels.set("name", application);
    for (label, path) in [
        ("hostname", "hostName"),
        ("homepage_url", "homePageUrl"),
        ("statuspage_url", "statusPageUrl"),
        ("healthcheck_url", "healthCheckUrl"),
        ("ip_addr", "ipAddr"),
        ("vip_address", "vipAddress"),
        ("secure_vip_address", "secureVipAddress"),
        ("status", "status"),
        ("id", "instanceId"),
        ("datacenterinfo_name", "dataCenterInfo.name"),
    ] {
        labels.set(&format!("instance_{label}"), instance.text(path));
    }
    labels.set("instance_country_id", number(instance.at("countryId"))?.to_string());
    for (label, path) in [("port", "port"), ("secure_port", "securePort")] {
        let Some(port) = instance.at(path) else { continue };
        labels.set(&format!("instance_{label}"), number(Some(port))?.to_string());
        let is_enabled = port.attribute("enabled") == "true";
        labels.set(&format!("instance_{label}_enabled"), is_enabled.to_string());
    }
    for (label, path) in [("datacenterinfo_metadata_", "dataCenterInfo.metadata"), ("metadata_", "metadata")]
    {
        let items = instance.items(path).iter();
        // As written and not as text: so has it Prometheus, `&amp;` included.
        let pairs = items.map(|item| (item.name.clone(), item.written(document).to_owned()));
        labels.set_all(&format!("instance_{label}"), pairs);
    }
    let port = instance.at("port").map_or(DEFAULT_PORT, |port| port.text.as_str());
    let mut target = labels.target(host_port(&instance.text("hostName"), port));
    target.insert("instance".to_owned(), instance.text("instanceId"));
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{assert_cases, assert_refused};
    use super::*;

    #[tokio::test]
    async fn instances_have_the_labels_of_prometheus() {
        assert_cases::<EurekaSd>(include_str!("../../tests/data/discovery/eureka.json")).await;
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<EurekaSd>(&[
            ("{}", "eureka_sd: empty or null eureka server"),
            ("{server: eureka.example.com}", "eureka_sd: invalid eureka server URL"),
            ("{server: 'eureka.example.com:8761/eureka'}", "eureka_sd: invalid eureka server URL"),
            (
                "{server: 'http://e', bearer_token: a, bearer_token_file: b}",
                "at most one of bearer_token & bearer_token_file must be configured",
            ),
        ]);
    }
}
