//! `docker_sd_configs` and `dockerswarm_sd_configs`: containers, and the services, tasks and nodes
//! of a swarm, as the Docker daemon lists them.

mod docker;
mod swarm;

pub use docker::{DockerSd, DockerSdConfig};
pub use swarm::{DockerSwarmSd, DockerSwarmSdConfig};

use super::DiscoveryContext;
use super::labels::{Labels, list, pairs, text};
use super::lister::{ApiClient, ApiError, BlockError, StartError, with_query};
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use crate::config_block;
use crate::http_client::HttpConfig;
use reqwest::Method;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

config_block! {
    /// A condition that the daemon applies to its list.
    pub struct DockerFilter as "moby.Filter" {
        /// Its name: `status`.
        name: String = String::new(),
        /// The values, one of which must fit.
        values: Vec<String> = Vec::new(),
    }
}

/// The newest version of the API that we know, and the oldest that we understand.
const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 55 };
const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 40 };

#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ApiVersion {
    major: u32,
    minor: u32,
}

impl ApiVersion {
    fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(ApiVersion { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

/// Checks `host`, with the error texts of Prometheus.
fn check_host(host: &ConfigUrl) -> Result<(), BlockError> {
    if host.expose().is_empty() {
        return Err("host missing".into());
    }
    Endpoint::new(host).map(drop)
}

/// Where a daemon listens.
enum Endpoint {
    /// A URL of the schemes `http` and `https`, with the options of the block.
    Url(String),
    /// `tcp://`: plain HTTP without these options.
    Plain(String),
    /// `unix://`: a socket of this machine.
    Socket(String),
}

impl Endpoint {
    fn new(host: &ConfigUrl) -> Result<Endpoint, BlockError> {
        let unable = || BlockError::new(format!("unable to parse docker host `{host}`"));
        let (scheme, rest) = host.expose().split_once("://").ok_or_else(unable)?;
        let base = rest.trim_end_matches('/');
        match scheme {
            _ if base.is_empty() => Err(unable()),
            "unix" => Ok(Endpoint::Socket(rest.to_owned())),
            // Prometheus' client of Docker ignores the options of the block there, too.
            "tcp" => Ok(Endpoint::Plain(format!("http://{base}"))),
            "http" | "https" => Ok(Endpoint::Url(format!("{scheme}://{base}"))),
            _ => Err(BlockError::new(format!("protocol {scheme} of the docker host is not supported"))),
        }
    }
}

/// The API of a daemon. The version is negotiated with the first request that succeeds.
struct DockerApi {
    api: ApiClient,
    base: String,
    /// The conditions, as the API takes them.
    filters: String,
    version: Option<String>,
}

impl DockerApi {
    fn new(
        host: &ConfigUrl,
        http: &HttpConfig,
        interval: ConfigDuration,
        filters: &[DockerFilter],
        context: &DiscoveryContext<'_>,
    ) -> Result<DockerApi, StartError> {
        let plain = HttpConfig::default();
        let endpoint = Endpoint::new(host)?;
        let client = match &endpoint {
            Endpoint::Url(_) => context.client(http)?,
            Endpoint::Plain(_) => context.client(&plain)?,
            Endpoint::Socket(path) => {
                // A socket has no TLS and no proxy.
                let client = plain.socket_client(Path::new(path))?;
                client.with_peers(context.peers)
            }
        };
        let base = match endpoint {
            Endpoint::Url(base) | Endpoint::Plain(base) => base,
            // The host is not looked up; HTTP only wants one.
            Endpoint::Socket(_) => "http://docker".to_owned(),
        };
        let api = ApiClient::with_timeout(client, interval.std());
        Ok(DockerApi { api, base, filters: filter_query(filters), version: None })
    }

    /// The items of a list: all of them, or those that fit the conditions.
    async fn list(&mut self, path: &str, filters: &str) -> Result<Vec<Value>, ApiError> {
        let version = match &self.version {
            Some(version) => version.clone(),
            None => self.negotiate().await?,
        };
        let url = with_query(&format!("{}/v{version}/{path}", self.base), &[("filters", filters)]);
        let answer = self.api.get(&url).await?;
        Ok(list(&answer, "")?.to_vec())
    }

    /// The version that both sides know.
    async fn negotiate(&mut self) -> Result<String, ApiError> {
        let url = format!("{}/_ping", self.base);
        // Older daemons answer HEAD with an error.
        let head = self.api.send(self.api.request(Method::HEAD, &url)?).await;
        let answer = match head {
            Ok(answer) if answer.status.is_success() => answer,
            _ => self.api.send(self.api.request(Method::GET, &url)?).await?.success()?,
        };
        // As Docker's own client assumes of a daemon that does not say its version.
        let offered = answer.header("api-version").unwrap_or("1.24");
        let server = ApiVersion::parse(offered)
            .ok_or_else(|| ApiError::unexpected(format!("bad Api-Version {offered:?}")))?;
        if server < OLDEST {
            let ApiVersion { major, minor } = OLDEST;
            return Err(ApiError::unexpected(format!(
                "API version {offered} is not supported by this client: the minimum supported API version \
                 is {major}.{minor}"
            )));
        }
        // Fields of a newer one may mean something else.
        let ApiVersion { major, minor } = server.min(NEWEST);
        let version = format!("{major}.{minor}");
        self.version = Some(version.clone());
        Ok(version)
    }

    /// The labels of each network, by its id.
    async fn networks(&mut self, prefix: &'static str) -> Result<BTreeMap<String, Labels>, ApiError> {
        let mut networks = BTreeMap::new();
        for network in self.list("networks", "").await? {
            let mut labels = Labels::new(prefix);
            labels.copy(
                &network,
                &[("network_id", "Id"), ("network_name", "Name"), ("network_scope", "Scope")],
            );
            for (name, key) in [("network_internal", "Internal"), ("network_ingress", "Ingress")] {
                labels.set(name, network[key].as_bool().unwrap_or(false).to_string());
            }
            labels.set_all("network_label_", pairs(&network, "Labels"));
            networks.insert(text(&network, "Id"), labels);
        }
        Ok(networks)
    }
}

/// Conditions as the API takes them: names, and for each the set of its values.
fn filter_query(filters: &[DockerFilter]) -> String {
    let mut sets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for filter in filters {
        sets.entry(&filter.name).or_default().extend(filter.values.iter().map(String::as_str));
    }
    sets.retain(|_, values| !values.is_empty());
    if sets.is_empty() {
        return String::new();
    }
    let object =
        |values: &BTreeSet<&str>| values.iter().map(|value| ((*value).to_owned(), true.into())).collect();
    let sets: serde_json::Map<String, Value> =
        sets.iter().map(|(name, values)| ((*name).to_owned(), Value::Object(object(values)))).collect();
    Value::Object(sets).to_string()
}

#[cfg(test)]
mod tests;
