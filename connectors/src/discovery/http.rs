//! `http_sd_configs`: targets are those that a web server lists as JSON. They get the label
//! `__meta_url`. [`super::polling`] calls it at each refresh.

use super::polling::{Polling, Refresh, RefreshError};
use super::{DiscoveredTarget, DiscoveryContext, Mechanism, StartResult, TargetGroup, expand};
use crate::api_client::{AnswerError, AnswerLimit, ApiError};
use crate::config::error::BlockError;
use crate::config::units::ConfigDuration;
use crate::config::url::{ConfigUrl, hide_password};
use crate::http_client::{HttpClient, HttpConfig, SendError, error_chain};
use crate::limits::TARGET_FILE_BYTES;
use crate::{compose_block, config_keys};
use futures::future::BoxFuture;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode};
use std::sync::Arc;
use storage::metrics::Counter;
use url::{ParseError, Url};

config_keys! {
    /// The keys of an entry of `http_sd_configs`, except those of the HTTP client.
    pub struct HttpSdKeys {
        /// Time between refreshes, and the longest refresh.
        refresh_interval: ConfigDuration = ConfigDuration(60_000),
        /// Where the list is.
        url: ConfigUrl = ConfigUrl::default(),
    }
}

/// One entry of `http_sd_configs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpSdConfig {
    /// Its own keys.
    pub keys: HttpSdKeys,
    /// How the server is reached.
    pub http: HttpConfig,
}

compose_block!(HttpSdConfig as "http.SDConfig" { keys: HttpSdKeys, http: HttpConfig });

/// HTTP SD: reads a list of targets from a URL.
pub struct HttpSd;

impl Mechanism for HttpSd {
    type Config = HttpSdConfig;

    fn validate(config: &HttpSdConfig) -> Result<(), BlockError> {
        url(config)?;
        if config.keys.refresh_interval.0 <= 0 {
            return Err("http_sd_configs: refresh_interval must be greater than 0".into());
        }
        config.http.validate()
    }

    fn http(config: &HttpSdConfig) -> Option<&HttpConfig> {
        Some(&config.http)
    }

    fn start(config: &HttpSdConfig, context: &DiscoveryContext<'_>) -> StartResult {
        let name = "prometheus_sd_http_failures_total";
        let help = "Number of HTTP service discovery refresh failures.";
        let refresh = HttpRefresh {
            client: context.client(&config.http)?,
            url: url(config)?,
            // `__meta_url` is a label that everybody sees.
            shown: hide_password(config.keys.url.expose()),
            interval: config.keys.refresh_interval,
            failures: context.metrics.counter(name, help, &[]),
        };
        Ok(Polling::start("http", config.keys.refresh_interval.std(), refresh, context))
    }
}

/// The URL of an entry; errors as in Prometheus.
fn url(config: &HttpSdConfig) -> Result<Url, BlockError> {
    let text = config.keys.url.expose();
    if text.is_empty() {
        return Err("URL is missing".into());
    }
    // The parser of URLs would read `http:///x` as host `x`.
    if let Some(("http" | "https", rest)) = text.split_once("://")
        && (rest.is_empty() || rest.starts_with(['/', '?', '#']))
    {
        return Err("host is missing in URL".into());
    }
    // In Go a text without a scheme is a URL.
    let wrong_scheme = "URL scheme must be 'http' or 'https'";
    let url = Url::parse(text).map_err(|e| match e {
        ParseError::RelativeUrlWithoutBase => wrong_scheme.into(),
        other => BlockError::new(format!("parse {:?}: {other}", config.keys.url)),
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong_scheme.into());
    }
    Ok(url)
}

struct HttpRefresh {
    client: HttpClient,
    url: Url,
    /// The URL without its password, as targets and errors show it.
    shown: String,
    interval: ConfigDuration,
    failures: Arc<Counter>,
}

impl Refresh for HttpRefresh {
    fn refresh(&mut self) -> BoxFuture<'_, Result<Vec<DiscoveredTarget>, RefreshError>> {
        Box::pin(async {
            let outcome = self.fetch().await;
            if outcome.is_err() {
                self.failures.inc();
            }
            Ok(outcome?)
        })
    }
}

impl HttpRefresh {
    async fn fetch(&self) -> Result<Vec<DiscoveredTarget>, ApiError> {
        let request = self
            .client
            .request(Method::GET, self.url.clone())
            .map_err(|e| ApiError::Request(e.to_string()))?
            .timeout(self.interval.std())
            .header(ACCEPT, "application/json")
            .header("X-Prometheus-Refresh-Interval-Seconds", self.interval.seconds().to_string());
        let response = self.client.send(request).await.map_err(|e| self.error(e))?;
        // Only 200, as in Prometheus: an empty 204 would end all targets.
        if response.status() != StatusCode::OK {
            let status = response.status();
            let text = format!("server returned HTTP status {status}");
            return Err(ApiError::Status { status, code: String::new(), text });
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or("").to_owned();
        // As Prometheus: a page of a login or of a proxy has status 200, too.
        if !is_json(&content_type) {
            return Err(ApiError::unexpected(format!("unsupported content type {content_type:?}")));
        }
        let body = self.body(response).await?;
        let groups: Vec<Option<TargetGroup>> =
            serde_json::from_slice(&body).map_err(|e| ApiError::unexpected(e.to_string()))?;
        let mut targets = Vec::new();
        for group in groups {
            // `null` in the list: Prometheus refuses the whole list, so that a mistake in the
            // server ends no targets.
            let group = group.ok_or(AnswerError::Missing("nil target group item found"))?;
            targets.extend(expand(&group, &[("__meta_url", &self.shown)]));
        }
        Ok(targets)
    }

    /// The body, up to the size that a target file may have.
    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ApiError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.error(e))? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > TARGET_FILE_BYTES {
                return Err(AnswerLimit::ListBytes.into());
            }
        }
        Ok(body)
    }

    /// An error of the client, with the URL that may be shown.
    fn error(&self, error: impl Into<SendError>) -> ApiError {
        let error = error.into();
        ApiError::Unavailable(format!("Get {:?}: {}", self.shown, error_chain(&error.without_url())))
    }
}

/// `application/json`, with `charset=utf-8` or without.
pub(super) fn is_json(content_type: &str) -> bool {
    let lower = content_type.trim().to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("application/json") else { return false };
    let charset = rest.strip_prefix(';').map(str::trim_start);
    rest.is_empty() || matches!(charset, Some("charset=utf-8" | "charset=\"utf-8\""))
}

#[cfg(test)]
mod tests;
