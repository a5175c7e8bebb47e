//! `puppetdb_sd_configs`: targets are the resources that a query of PuppetDB finds.
//! [`super::lister`] calls it at each refresh.

use super::labels::{Labels, host_port, label_name, list, separated, text, texts};
use super::lister::{ApiClient, ApiError, BlockError, Lister, StartError, lister_config};
use super::{DiscoveredTarget, DiscoveryContext};
use crate::config::units::ConfigDuration;
use crate::config::url::{ConfigUrl, hide_password};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

lister_config! {
    /// One entry of `puppetdb_sd_configs`.
    pub PuppetDbSdConfig as "puppetdb.SDConfig", PuppetDbSdKeys {
        /// Time between refreshes; also the timeout of a request.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// Where PuppetDB is, without the path of its API.
        url: ConfigUrl = ConfigUrl::default(),
        /// The query, in its language.
        query: String = String::new(),
        /// Whether parameters of resources become labels; they can be secret.
        include_parameters: bool = false,
        /// The port of all targets.
        port: i64 = 80,
    }
}

const PREFIX: &str = "__meta_puppetdb_";

/// PuppetDB SD: lists the resources that a query finds.
pub struct PuppetDbSd {
    api: ApiClient,
    url: String,
    keys: PuppetDbSdKeys,
}

impl Lister for PuppetDbSd {
    const NAME: &'static str = "puppetdb";
    type Config = PuppetDbSdConfig;

    fn check(config: &PuppetDbSdConfig) -> Result<(), BlockError> {
        let url = config.keys.url.expose();
        if url.is_empty() {
            return Err("URL is missing".into());
        }
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err("URL scheme must be 'http' or 'https'".into());
        }
        if url.ends_with("://") || url.contains(":///") {
            return Err("host is missing in URL".into());
        }
        Url::parse(url).map_err(|e| BlockError::new(format!("parse {:?}: {e}", config.keys.url)))?;
        let has_query = !config.keys.query.is_empty();
        if has_query { Ok(()) } else { Err("query missing".into()) }
    }

    fn create(config: &PuppetDbSdConfig, context: &DiscoveryContext<'_>) -> Result<PuppetDbSd, StartError> {
        let keys = config.keys.clone();
        let api = ApiClient::new(&config.http, keys.refresh_interval, context)?;
        let url = format!("{}/pdb/query/v4", keys.url.expose().trim_end_matches('/'));
        Ok(PuppetDbSd { api, url, keys })
    }

    async fn list(&mut self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let body = json!({"query": self.keys.query}).to_string();
        let request = self.api.request(Method::POST, &self.url)?.header(ACCEPT, "application/json");
        let answer = self.api.send(request.header(CONTENT_TYPE, "application/json").body(body)).await;
        let answer = answer.map_err(|e| e.doing(format!("Post {:?}", hide_password(&self.url))))?;
        if answer.status != StatusCode::OK {
            return Err(answer.refused(format!("server returned HTTP status {}", answer.status)));
        }
        let content_type = answer.header("content-type").unwrap_or_default();
        if !super::http::is_json(content_type) {
            return Err(ApiError::unexpected(format!("unsupported content type {content_type}")));
        }
        let resources = answer.json()?;
        Ok(list(&resources, "")?.iter().map(|resource| self.target(resource)).collect())
    }
}

impl PuppetDbSd {
    fn target(&self, resource: &Value) -> DiscoveredTarget {
        let mut labels = Labels::new(PREFIX);
        labels.set("query", &self.keys.query).copy(
            resource,
            &[
                ("certname", "certname"),
                ("resource", "resource"),
                ("type", "type"),
                ("title", "title"),
                ("file", "file"),
                ("environment", "environment"),
            ],
        );
        labels.set("exported", resource["exported"].as_bool().unwrap_or(false).to_string());
        labels.set("tags", separated(&texts(resource, "tags"), ","));
        if self.keys.include_parameters {
            add_parameters("parameter_", &resource["parameters"], &mut labels);
        }
        labels.target(host_port(&text(resource, "certname"), self.keys.port))
    }
}

/// Sets a label for each parameter; the parameters inside one have its name before theirs.
fn add_parameters(start: &str, parameters: &Value, labels: &mut Labels) {
    for (name, value) in parameters.as_object().into_iter().flatten() {
        let name = format!("{start}{}", label_name(name));
        if value.is_object() {
            add_parameters(&format!("{name}_"), value, labels);
        } else if let Some(items) = value.as_array() {
            let items: Vec<String> = items.iter().map(scalar).collect();
            labels.set(&name, items.join(","));
        } else {
            labels.set(&name, scalar(value));
        }
    }
}

/// A parameter that is no list and no object, as text.
fn scalar(value: &Value) -> String {
    value.as_f64().map_or_else(|| text(value, ""), number)
}

/// A number as Go prints it shortest: with an exponent from a million on.
fn number(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::super::recorded_server::{assert_cases, assert_port, assert_refused};
    use super::*;

    #[tokio::test]
    async fn resources_have_the_labels_of_prometheus() {
        assert_cases::<PuppetDbSd>(include_str!("../../tests/data/discovery/puppetdb.json")).await;
        assert_port::<PuppetDbSd>(include_str!("../../tests/data/discovery/puppetdb.json")).await;
    }

    #[test]
    fn numbers_are_printed_as_in_go() {
        for (value, printed) in [
            (8080.0, "8080"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (0.5, "0.5"),
            (0.000_01, "1e-05"),
            (-2.0, "-2"),
        ] {
            assert_eq!(number(value), printed);
        }
    }

    #[test]
    fn configuration_errors_are_those_of_prometheus() {
        assert_refused::<PuppetDbSd>(&[
            ("{}", "URL is missing"),
            ("{url: 'ftp://h'}", "URL scheme must be 'http' or 'https'"),
            ("{url: 'http:///x'}", "host is missing in URL"),
            ("{url: 'http://h'}", "query missing"),
        ]);
    }
}
