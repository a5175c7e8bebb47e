//! `consul_sd_configs`: targets are the instances of services in Consul's catalog.
//!
//! It follows changes by blocking queries: Consul answers a request when something has changed.
//! There is one for the list of services and one for each service. [`instance`] makes targets.

mod instance;

use super::lister::{ApiClient, ApiError, StartError};
use super::report_timer::{ReportTimer, RequestPauses};
use super::shared_target::{LabelNames, SharedTarget};
use super::{DiscoveredTarget, Discoverer, DiscoveryContext, Mechanism, StartResult, TargetSender};
use crate::config::error::BlockError;
use crate::config::secret::{CredentialError, Secret, read_credential};
use crate::config::units::ConfigDuration;
use crate::config::url::ConfigUrl;
use crate::http_client::{BasicAuth, HttpConfig};
use crate::limits::{CONSUL_WAIT_SECONDS, DISCOVERY_NEWS, DISCOVERY_RETRY_SECONDS};
use crate::{compose_block, config_keys};
use futures::future::BoxFuture;
use instance::{Instance, instance_target};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::{Counter, MetricSummary};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use url::Url;

config_keys! {
    /// The keys of an entry of `consul_sd_configs`, except those of the HTTP client.
    pub struct ConsulSdKeys {
        /// Host and port of the API, or its URL; `unix://` and a path: a socket of this machine.
        server: ConfigUrl = ConfigUrl::from("localhost:8500"),
        /// What stands before `/v1` in the paths of the API.
        path_prefix: String = String::new(),
        /// The token of the ACL.
        token: Option<Secret> = None,
        /// The datacenter; empty: that of the agent.
        datacenter: String = String::new(),
        /// The namespace (Enterprise).
        namespace: String = String::new(),
        /// The partition (Enterprise).
        partition: String = String::new(),
        /// What stands between the tags in their label.
        tag_separator: String = ",".to_owned(),
        /// `http` or `https`.
        scheme: String = "http".to_owned(),
        /// The old form of `basic_auth.username`.
        username: String = String::new(),
        /// The old form of `basic_auth.password`.
        password: Option<Secret> = None,
        /// Whether any server may answer, and not only the leader.
        allow_stale: bool = true,
        /// The longest pause between two requests of the same kind. Consul answers a request when
        /// something changes; pauses are short at first and grow while changes come all the time.
        refresh_interval: ConfigDuration = ConfigDuration(30_000),
        /// The services; none: all.
        services: Vec<String> = Vec::new(),
        /// Tags that a service must have.
        tags: Vec<String> = Vec::new(),
        /// Metadata that a node must have.
        node_meta: BTreeMap<String, String> = BTreeMap::new(),
        /// A filter of the list of services.
        filter: String = String::new(),
        /// A filter of the list of instances.
        health_filter: String = String::new(),
    }
}

/// One entry of `consul_sd_configs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsulSdConfig {
    /// Its own keys.
    pub keys: ConsulSdKeys,
    /// How the API is reached.
    pub http: HttpConfig,
}

compose_block!(ConsulSdConfig as "consul.SDConfig" { keys: ConsulSdKeys, http: HttpConfig });

/// Consul SD: follows the instances of services.
pub struct ConsulSd;

impl Mechanism for ConsulSd {
    type Config = ConsulSdConfig;

    fn validate(config: &ConsulSdConfig) -> Result<(), BlockError> {
        let keys = &config.keys;
        if keys.server.expose().trim().is_empty() {
            return Err("consul SD configuration requires a server address".into());
        }
        let has_user = !keys.username.is_empty() || has_text(&keys.password);
        if has_user && config.http.basic_auth.is_some() {
            return Err("at most one of consul SD configuration username and password and basic auth can \
                        be configured"
                .into());
        }
        let has_login = config.http.authorization.is_some() || config.http.oauth2.is_some();
        if has_text(&keys.token) && has_login {
            return Err("at most one of consul SD token, authorization, or oauth2 can be configured".into());
        }
        if keys.refresh_interval.0 <= 0 {
            return Err("consul_sd_configs: refresh_interval must be greater than 0".into());
        }
        config.http.validate()
    }

    fn http(config: &ConsulSdConfig) -> Option<&HttpConfig> {
        Some(&config.http)
    }

    fn start(config: &ConsulSdConfig, context: &DiscoveryContext<'_>) -> StartResult {
        Ok(Box::new(ConsulDiscoverer { api: Arc::new(ConsulApi::new(config, context)?) }))
    }
}

fn has_text(secret: &Option<Secret>) -> bool {
    secret.as_ref().is_some_and(|secret| !secret.expose().is_empty())
}

/// The URL of the API before `/v1`.
fn api_url(keys: &ConsulSdKeys) -> Result<Url, BlockError> {
    let server = keys.server.expose();
    let (scheme, rest) = match server.split_once("://") {
        Some(("https", rest)) => ("https", rest),
        // As in Prometheus, `scheme` wins over an `http://` that most configurations have by habit.
        Some(("http", rest)) => (keys.scheme.as_str(), rest),
        // The name of the host is only a name.
        Some(("unix", _)) => (keys.scheme.as_str(), "localhost"),
        Some((other, _)) => return Err(BlockError::new(format!("Unknown protocol scheme: {other}"))),
        None => (keys.scheme.as_str(), server),
    };
    let scheme = if scheme.is_empty() { "http" } else { scheme };
    let mut url = Url::parse(&format!("{scheme}://{rest}"))
        .map_err(|error| BlockError::new(format!("the server of consul_sd_configs: {error}")))?;
    let slash = if keys.path_prefix.is_empty() || keys.path_prefix.starts_with('/') { "" } else { "/" };
    let path =
        format!("{}{slash}{}", url.path().trim_end_matches('/'), keys.path_prefix.trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// The text of a variable of the environment, if it has any.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Makes the requests of an entry.
struct ConsulApi {
    client: ApiClient,
    base: Url,
    keys: ConsulSdKeys,
    /// `dc`, `ns` and `partition`, if they are given.
    place: Vec<(&'static str, String)>,
    token: Option<HeaderValue>,
    failures: Arc<Counter>,
    catalog_seconds: Arc<MetricSummary>,
    service_seconds: Arc<MetricSummary>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AgentSelf {
    config: AgentConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AgentConfig {
    datacenter: String,
}

impl ConsulApi {
    fn new(config: &ConsulSdConfig, context: &DiscoveryContext<'_>) -> Result<ConsulApi, StartError> {
        let keys = config.keys.clone();
        let mut http = config.http.clone();
        if !keys.username.is_empty() || has_text(&keys.password) {
            http.basic_auth = Some(BasicAuth {
                username: keys.username.clone(),
                password: keys.password.clone(),
                ..BasicAuth::default()
            });
        }
        let given = keys.token.clone().filter(|token| !token.expose().is_empty());
        let file = || variable("CONSUL_HTTP_TOKEN_FILE").map(|path| read_credential(&path)).transpose();
        let token = match given {
            Some(token) => Some(token.expose().to_owned()),
            // Consul's own variables, as its client library and so Prometheus read them.
            None => file()?.or_else(|| variable("CONSUL_HTTP_TOKEN")),
        };
        let token = token.map(|token| HeaderValue::from_str(&token)).transpose();
        let mut token = token.map_err(|_| {
            CredentialError::NoHeader("the token of Consul holds characters that no header may")
        })?;
        if let Some(token) = &mut token {
            // So that no log of requests shows it.
            token.set_sensitive(true);
        }
        let or =
            |given: &str, name| Some(given.to_owned()).filter(|t| !t.is_empty()).or_else(|| variable(name));
        let place = [
            ("dc", Some(keys.datacenter.clone()).filter(|text| !text.is_empty())),
            ("ns", or(&keys.namespace, "CONSUL_NAMESPACE")),
            ("partition", or(&keys.partition, "CONSUL_PARTITION")),
        ];
        let metrics = context.metrics;
        let seconds = |call| {
            let help = "The duration of a Consul RPC call in seconds.";
            let labels = [("endpoint", "catalog"), ("call", call)];
            metrics.summary("prometheus_sd_consul_rpc_duration_seconds", help, &labels)
        };
        let client = match keys.server.expose().strip_prefix("unix://") {
            // Prometheus' client of Consul ignores the options of the block there, too.
            Some(path) => HttpConfig::default().socket_client(Path::new(path))?.with_peers(context.peers),
            None => context.client(&http)?,
        };
        let help = "The number of Consul RPC call failures.";
        // The server answers after its wait, and up to a sixteenth of it later.
        let timeout = Duration::from_secs(CONSUL_WAIT_SECONDS + CONSUL_WAIT_SECONDS / 8);
        Ok(ConsulApi {
            client: ApiClient::with_timeout(client, timeout),
            base: api_url(&keys)?,
            keys,
            place: place.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            token,
            failures: metrics.counter("prometheus_sd_consul_rpc_failures_total", help, &[]),
            catalog_seconds: seconds("services"),
            service_seconds: seconds("service"),
        })
    }

    /// Whether the list of services is needed, and not only their names.
    fn has_catalog(&self) -> bool {
        let keys = &self.keys;
        keys.services.is_empty() || !keys.tags.is_empty() || !keys.filter.is_empty()
    }

    fn url(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.query_pairs_mut().extend_pairs(&self.place).extend_pairs(query);
        url
    }

    /// The JSON of an answer, and its index; 0 if it has none.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<(T, u64), ApiError> {
        let mut request = self.client.request(Method::GET, self.url(path, query).as_str())?;
        if let Some(token) = &self.token {
            request = request.header("X-Consul-Token", token);
        }
        let answer = self.client.send(request).await?;
        if answer.status != StatusCode::OK {
            let code = answer.status.as_u16();
            return Err(answer.refused(format!("Unexpected response code: {code} ({})", answer.quote())));
        }
        // Without an index nothing can be waited for; the pauses between requests still hold.
        let index = answer.header("X-Consul-Index").and_then(|index| index.parse().ok()).unwrap_or(0);
        let value = serde_json::from_slice(&answer.body)
            .map_err(|error| ApiError::unexpected(format!("{path}: {error}")))?;
        Ok((value, index))
    }

    /// The query of a request that is answered when the index is no longer `index`.
    fn blocking(&self, index: u64) -> Vec<(&'static str, String)> {
        let mut query = vec![("wait", format!("{}ms", CONSUL_WAIT_SECONDS * 1_000))];
        // Index 0 answers at once, which is what the first request is for.
        if index > 0 {
            query.push(("index", index.to_string()));
        }
        if self.keys.allow_stale {
            // Any server answers, so discovery does not load the leader.
            query.push(("stale", String::new()));
        }
        query.extend(self.keys.node_meta.iter().map(|(key, value)| ("node-meta", format!("{key}:{value}"))));
        query
    }

    /// The names of the services that are wanted.
    async fn services(&self, index: u64) -> Result<(Vec<String>, u64), ApiError> {
        let mut query = self.blocking(index);
        if !self.keys.filter.is_empty() {
            query.push(("filter", self.keys.filter.clone()));
        }
        type Tags = Option<Vec<String>>;
        let (all, index) = self.get::<BTreeMap<String, Tags>>("/v1/catalog/services", &query).await?;
        let keys = &self.keys;
        let is_wanted = |name: &String, tags: &Tags| {
            let tags = tags.as_deref().unwrap_or_default();
            // As in Prometheus, here and not in the request.
            (keys.services.is_empty() || keys.services.contains(name))
                && keys.tags.iter().all(|tag| tags.contains(tag))
        };
        Ok((all.into_iter().filter(|(n, tags)| is_wanted(n, tags)).map(|(name, _)| name).collect(), index))
    }

    /// The instances of a service.
    async fn instances(&self, service: &str, index: u64) -> Result<(Vec<Instance>, u64), ApiError> {
        let mut query = self.blocking(index);
        // Also here: that a service has a tag does not mean that each instance has it.
        query.extend(self.keys.tags.iter().map(|tag| ("tag", tag.clone())));
        if !self.keys.health_filter.is_empty() {
            query.push(("filter", self.keys.health_filter.clone()));
        }
        self.get(&format!("/v1/health/service/{service}"), &query).await
    }
}

/// What a watch found.
enum ConsulNews {
    /// The names of all services.
    Services(Vec<String>),
    /// The targets of a service.
    Instances(String, Vec<DiscoveredTarget>),
}

/// Asks for the same again whenever the server has an answer.
struct ConsulWatch {
    api: Arc<ConsulApi>,
    sender: mpsc::Sender<ConsulNews>,
    datacenter: Arc<str>,
    /// `None`: the list of services.
    service: Option<String>,
}

impl ConsulWatch {
    async fn run(self) {
        let mut pauses = RequestPauses::new(self.api.keys.refresh_interval.std());
        let mut last = None;
        loop {
            let started = Instant::now();
            match self.ask(last.unwrap_or(0)).await {
                // The wait ended without a change.
                Ok((_, index)) if last == Some(index) => {}
                Ok((news, index)) => {
                    // Also if it has gone back, as after a restore of the cluster: to wait for the
                    // old one would be to wait for ever.
                    last = Some(index);
                    // The discovery has ended.
                    if self.sender.send(news).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    self.api.failures.inc();
                    let service = self.service.as_deref().unwrap_or("");
                    tracing::error!(
                        target: "discovery", service, %error,
                        "cannot ask Consul for a service, whose last targets are kept; check the agent"
                    );
                    tokio::time::sleep(Duration::from_secs(DISCOVERY_RETRY_SECONDS)).await;
                    continue;
                }
            }
            // A catalog that changes all the time would be asked all the time.
            tokio::time::sleep(pauses.after(started.elapsed())).await;
        }
    }

    async fn ask(&self, index: u64) -> Result<(ConsulNews, u64), ApiError> {
        let started = Instant::now();
        let Some(service) = &self.service else {
            let (services, index) = self.api.services(index).await?;
            self.api.catalog_seconds.observe(started.elapsed().as_secs_f64());
            return Ok((ConsulNews::Services(services), index));
        };
        let (instances, index) = self.api.instances(service, index).await?;
        self.api.service_seconds.observe(started.elapsed().as_secs_f64());
        let separator = &self.api.keys.tag_separator;
        let target = |instance: &Instance| instance_target(instance, service, &self.datacenter, separator);
        Ok((ConsulNews::Instances(service.clone(), instances.iter().map(target).collect()), index))
    }
}

/// A service that is watched.
struct WatchedService {
    /// `None`: not known yet.
    targets: Option<Vec<SharedTarget>>,
    watch: AbortHandle,
}

struct ConsulDiscoverer {
    api: Arc<ConsulApi>,
}

impl ConsulDiscoverer {
    /// The datacenter whose name the targets have.
    async fn datacenter(&self) -> Arc<str> {
        loop {
            // Given ones need no request, and may differ from that of the agent.
            if !self.api.keys.datacenter.is_empty() {
                return self.api.keys.datacenter.as_str().into();
            }
            match self.api.get::<AgentSelf>("/v1/agent/self", &[]).await {
                Ok((agent, _)) => return agent.config.datacenter.into(),
                Err(error) => {
                    self.api.failures.inc();
                    tracing::error!(
                        target: "discovery", %error,
                        "cannot ask Consul for its datacenter and find no targets; set datacenter or check the agent"
                    );
                    tokio::time::sleep(Duration::from_secs(DISCOVERY_RETRY_SECONDS)).await;
                }
            }
        }
    }

    async fn follow(self, report: TargetSender) {
        let datacenter = self.datacenter().await;
        let (sender, mut news) = mpsc::channel(DISCOVERY_NEWS);
        // Dropping the set ends the watches.
        let mut watches = JoinSet::new();
        let mut watch = |service: Option<String>| {
            let watch = ConsulWatch {
                api: self.api.clone(),
                sender: sender.clone(),
                datacenter: datacenter.clone(),
                service,
            };
            watches.spawn(watch.run())
        };
        let mut services = BTreeMap::<String, WatchedService>::new();
        let mut has_services = !self.api.has_catalog();
        if has_services {
            for name in &self.api.keys.services {
                let watched = WatchedService { targets: None, watch: watch(Some(name.clone())) };
                services.insert(name.clone(), watched);
            }
        } else {
            watch(None);
        }
        let mut names = LabelNames::default();
        let mut timer = ReportTimer::new();
        loop {
            // The first report waits until each service has answered: targets that are missing
            // would end series of the time before a restart.
            let is_complete = has_services && services.values().all(|service| service.targets.is_some());
            tokio::select! {
                some = news.recv() => match some {
                    Some(ConsulNews::Services(all)) => {
                        has_services = true;
                        renew(&mut services, all, &mut watch);
                    }
                    Some(ConsulNews::Instances(name, targets)) => {
                        // A last answer of a watch that was ended a moment ago is dropped.
                        if let Some(service) = services.get_mut(&name) {
                            let share = |target: &DiscoveredTarget| SharedTarget::from_target(target, &mut names);
                            service.targets = Some(targets.iter().map(share).collect());
                        }
                    }
                    None => return,
                },
                () = timer.wait(is_complete) => {
                    if has_services {
                        report.send_shared(services.values().flat_map(|s| s.targets.iter().flatten()).cloned().collect());
                    }
                    names.prune();
                    timer.set_reported();
                    continue;
                }
            }
            timer.set_changed(true);
        }
    }
}

/// Begins to watch new services, and ends it for those that are gone.
fn renew(
    services: &mut BTreeMap<String, WatchedService>,
    all: Vec<String>,
    watch: &mut impl FnMut(Option<String>) -> AbortHandle,
) {
    services.retain(|name, service| {
        // The list is sorted: it was a map.
        let stays = all.binary_search(name).is_ok();
        if !stays {
            service.watch.abort();
        }
        stays
    });
    for name in all {
        services
            .entry(name)
            .or_insert_with_key(|name| WatchedService { targets: None, watch: watch(Some(name.clone())) });
    }
}

impl Discoverer for ConsulDiscoverer {
    fn run(self: Box<Self>, report: TargetSender) -> BoxFuture<'static, ()> {
        Box::pin(self.follow(report))
    }
}

#[cfg(test)]
mod tests;
