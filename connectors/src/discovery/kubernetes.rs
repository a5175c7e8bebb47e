//! `kubernetes_sd_configs`: targets are nodes, pods, services, endpoints, endpoint slices and
//! ingresses of a Kubernetes cluster.
//!
//! [`access`] connects to the API server. [`watch`] lists the objects of one kind and then receives
//! their changes; [`cluster`] stores them; [`groups`] makes the targets of those that a change
//! concerns.

mod access;
mod cluster;
mod groups;
mod json_pieces;
mod objects;
mod selectors;
mod watch;

use super::report_timer::ReportTimer;
use super::shared_target::SharedTarget;
use super::{Discoverer, DiscoveryContext, Mechanism, StartError, StartResult, TargetSender};
use crate::config::error::BlockError;
use crate::config::path::ConfigPath;
use crate::config::url::ConfigUrl;
use crate::http_client::{HttpClient, HttpConfig};
use crate::limits::DISCOVERY_NEWS;
use crate::{compose_block, config_block, config_keys};
use cluster::{Change, ChangedObjects, Cluster, namespace_of};
use futures::future::BoxFuture;
use groups::Role;
use objects::Resource;
use selectors::validate_selectors;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::metrics::{Counter, Metrics};
use tokio::sync::mpsc;
use url::Url;
use watch::{SourceEvent, WatchSource, Watcher};

config_keys! {
    /// The keys of an entry of `kubernetes_sd_configs`, except those of the HTTP client.
    pub struct KubernetesSdKeys {
        /// The URL of the API; empty: this is a pod of the cluster.
        api_server: ConfigUrl = ConfigUrl::default(),
        /// `node`, `pod`, `service`, `endpoints`, `endpointslice` or `ingress`.
        role: String = String::new(),
        /// A file with the access to the API.
        kubeconfig_file: ConfigPath = ConfigPath::default(),
        /// The namespaces to look at; none: all.
        namespaces: NamespaceDiscovery = NamespaceDiscovery::default(),
        /// Which objects the API leaves out.
        selectors: Vec<SelectorConfig> = Vec::new(),
        /// What targets have labels of besides their own object.
        attach_metadata: AttachMetadata = AttachMetadata::default(),
    }
}

config_block! {
    /// `namespaces`.
    pub struct NamespaceDiscovery as "kubernetes.NamespaceDiscovery" {
        /// Whether the namespace of this pod is one of them.
        own_namespace: bool = false,
        /// Their names.
        names: Vec<String> = Vec::new(),
    }
}

config_block! {
    /// An entry of `selectors`.
    pub struct SelectorConfig as "kubernetes.SelectorConfig" {
        /// The role whose objects are selected.
        role: String = String::new(),
        /// A label selector.
        label: String = String::new(),
        /// A field selector.
        field: String = String::new(),
    }
}

config_block! {
    /// `attach_metadata`.
    #[derive(Copy)]
    pub struct AttachMetadata as "kubernetes.AttachMetadataConfig" {
        /// Labels of the node.
        node: bool = false,
        /// Labels of the namespace.
        namespace: bool = false,
        /// The deployment of a pod.
        deployment: bool = false,
        /// The job of a pod.
        job: bool = false,
        /// The cron job of a pod.
        cronjob: bool = false,
    }
}

/// One entry of `kubernetes_sd_configs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KubernetesSdConfig {
    /// Its own keys.
    pub keys: KubernetesSdKeys,
    /// How the API is reached.
    pub http: HttpConfig,
}

compose_block!(KubernetesSdConfig as "kubernetes.SDConfig" { keys: KubernetesSdKeys, http: HttpConfig });

/// Kubernetes SD: follows the objects of one role in a cluster.
pub struct KubernetesSd;

impl Mechanism for KubernetesSd {
    type Config = KubernetesSdConfig;

    fn validate(config: &KubernetesSdConfig) -> Result<(), BlockError> {
        let keys = &config.keys;
        if keys.role.is_empty() {
            return Err("role missing (one of: pod, service, endpoints, endpointslice, node, ingress)".into());
        }
        if Role::parse(&keys.role).is_none() {
            return Err(unknown_role(&keys.role));
        }
        config.http.validate()?;
        let has_server = !keys.api_server.expose().is_empty();
        let has_file = !keys.kubeconfig_file.is_empty();
        let has_http = config.http != HttpConfig::default();
        if keys.api_server.is_given() && has_file {
            return Err("cannot use 'kubeconfig_file' and 'api_server' simultaneously".into());
        }
        if has_file && has_http {
            return Err(
                "cannot use a custom HTTP client configuration together with 'kubeconfig_file'".into()
            );
        }
        // In the cluster the account of the pod decides, and the options would do nothing.
        if !has_server && has_http {
            return Err("to use custom HTTP client configuration please provide the 'api_server' URL \
                        explicitly"
                .into());
        }
        // Only a pod has a namespace of its own.
        let own = keys.namespaces.own_namespace;
        if has_server && own {
            return Err("cannot use 'api_server' and 'namespaces.own_namespace' simultaneously".into());
        }
        if has_file && own {
            return Err("cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously".into());
        }
        validate_selectors(keys)
    }

    fn http(config: &KubernetesSdConfig) -> Option<&HttpConfig> {
        Some(&config.http)
    }

    fn start(config: &KubernetesSdConfig, context: &DiscoveryContext<'_>) -> StartResult {
        Ok(Box::new(KubernetesDiscoverer::new(config, context)?))
    }
}

/// The error of a role that does not exist.
fn unknown_role(role: &str) -> BlockError {
    BlockError::new(format!("unknown Kubernetes SD role {role:?}"))
}

/// What decides which targets there are.
struct RolesConfig {
    role: Role,
    attach: AttachMetadata,
}

impl RolesConfig {
    /// The sources to follow: for each namespace, or for all at once.
    fn sources(&self, namespaces: &[String], selectors: &[SelectorConfig]) -> Vec<WatchSource> {
        let mut sources = Vec::new();
        let attach = &self.attach;
        let of_endpoints = matches!(self.role, Role::Endpoints | Role::EndpointSlice);
        // Only these have labels of a pod, and so of its owner.
        let has_pods = of_endpoints || self.role == Role::Pod;
        let mut add = |resource: Resource, namespace: Option<&String>, is_needed| {
            let is_its = |selector: &&SelectorConfig| {
                Role::parse(&selector.role).is_some_and(|role| role.resource() == resource)
            };
            // Applied by the server: what is not selected is not sent and takes no memory here.
            let selector = selectors.iter().find(is_its);
            sources.push(WatchSource {
                index: sources.len(),
                resource,
                namespace: namespace.cloned(),
                is_needed,
                label_selector: selector.map_or_else(String::new, |selector| selector.label.clone()),
                field_selector: selector.map_or_else(String::new, |selector| selector.field.clone()),
            });
        };
        if self.role == Role::Node || (has_pods && attach.node) {
            add(Resource::Nodes, None, true);
        }
        // Nodes are of the whole cluster: `namespaces` means nothing to them.
        if self.role == Role::Node {
            return sources;
        }
        if attach.namespace {
            add(Resource::Namespaces, None, true);
        }
        let places: Vec<Option<&String>> =
            if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(Some).collect() };
        for place in places {
            add(self.role.resource(), place, true);
            if of_endpoints {
                add(Resource::Services, place, true);
                add(Resource::Pods, place, true);
            }
            if has_pods && attach.deployment {
                // Endpoints do not wait for it: their label is only an addition.
                add(Resource::ReplicaSets, place, !of_endpoints);
            }
            if has_pods && (attach.job || attach.cronjob) {
                add(Resource::Jobs, place, !of_endpoints);
            }
        }
        sources
    }
}

/// The counters of `prometheus_sd_kubernetes_events_total`.
struct EventCounters(BTreeMap<&'static str, [Arc<Counter>; 3]>);

impl EventCounters {
    fn new(metrics: &Metrics) -> EventCounters {
        let roles = ["endpointslice", "endpoints", "node", "pod", "service", "ingress"];
        let counter = |role, event| {
            let help = "The number of Kubernetes events handled.";
            metrics.counter(
                "prometheus_sd_kubernetes_events_total",
                help,
                &[("role", role), ("event", event)],
            )
        };
        let of = |role| (role, ["add", "update", "delete"].map(|event| counter(role, event)));
        EventCounters(roles.into_iter().map(of).collect())
    }

    fn count(&self, resource: Resource, change: Change) {
        let role = match resource {
            Resource::EndpointSlices => "endpointslice",
            Resource::Endpoints => "endpoints",
            Resource::Nodes => "node",
            Resource::Pods => "pod",
            Resource::Services => "service",
            Resource::Ingresses => "ingress",
            // Prometheus does not count them.
            Resource::Namespaces | Resource::ReplicaSets | Resource::Jobs => return,
        };
        if let Some(counters) = self.0.get(role) {
            counters[change as usize].inc();
        }
    }
}

/// What is known of a source.
#[derive(Default)]
struct Progress {
    /// The number of its lists so far; an object that a list does not have is gone.
    generation: u64,
    /// Whether it has been listed.
    is_listed: bool,
}

struct KubernetesDiscoverer {
    config: RolesConfig,
    sources: Vec<WatchSource>,
    progress: Vec<Progress>,
    client: HttpClient,
    base: Url,
    metrics: Metrics,
    failures: Arc<Counter>,
    events: EventCounters,
    cluster: Cluster,
    changed: ChangedObjects,
    /// The targets of each object that has some.
    groups: BTreeMap<Box<str>, Vec<SharedTarget>>,
}

impl KubernetesDiscoverer {
    fn new(
        config: &KubernetesSdConfig,
        context: &DiscoveryContext<'_>,
    ) -> Result<KubernetesDiscoverer, StartError> {
        let role = Role::parse(&config.keys.role).ok_or_else(|| unknown_role(&config.keys.role))?;
        let roles = RolesConfig { role, attach: config.keys.attach_metadata };
        let access = access::access(config)?;
        let mut namespaces = config.keys.namespaces.names.clone();
        if config.keys.namespaces.own_namespace {
            namespaces.push(access::own_namespace()?);
        }
        namespaces.sort();
        // The own namespace may be listed, too; two watches would undo each other's objects.
        namespaces.dedup();
        let sources = roles.sources(&namespaces, &config.keys.selectors);
        let help = "The number of failed WATCH/LIST requests.";
        Ok(KubernetesDiscoverer {
            config: roles,
            progress: sources.iter().map(|_| Progress::default()).collect(),
            sources,
            client: context.client(&access.http)?,
            base: access.base,
            failures: context.metrics.counter("prometheus_sd_kubernetes_failures_total", help, &[]),
            events: EventCounters::new(context.metrics),
            metrics: context.metrics.clone(),
            cluster: Cluster::default(),
            changed: ChangedObjects::default(),
            groups: BTreeMap::new(),
        })
    }

    fn apply(&mut self, source: usize, news: SourceEvent) {
        let resource = self.sources[source].resource;
        match news {
            // Objects stay until the list is whole, so a server that restarts ends no target.
            SourceEvent::Listing => self.progress[source].generation += 1,
            SourceEvent::Object(raw) => {
                let key = raw.metadata().key();
                if let Some(change) = self.cluster.put(*raw, self.progress[source].generation) {
                    self.events.count(resource, change);
                    self.changed.add(resource, &key);
                }
            }
            SourceEvent::Gone(key) => {
                if self.cluster.remove(resource, &key) {
                    self.events.count(resource, Change::Deleted);
                    self.changed.add(resource, &key);
                }
            }
            SourceEvent::Listed => {
                let namespace = self.sources[source].namespace.as_deref();
                let generation = self.progress[source].generation;
                for key in self.cluster.sweep(resource, namespace, generation) {
                    self.events.count(resource, Change::Deleted);
                    self.changed.add(resource, &key);
                }
                // Objects of other sources may have waited for this one, and which is not noted.
                if !self.progress[source].is_listed {
                    self.progress[source].is_listed = true;
                    self.changed.all = true;
                }
                // Names of labels that are gone; after a list, because it goes through all of them.
                self.cluster.names.prune();
            }
        }
    }

    /// Whether everything that targets in `namespace` need has been listed; `None`: everywhere.
    fn is_listed(&self, namespace: Option<&str>) -> bool {
        let concerns = |source: &WatchSource| {
            let its = source.namespace.as_deref();
            source.is_needed && (its.is_none() || namespace.is_none() || its == namespace)
        };
        self.sources
            .iter()
            .zip(&self.progress)
            .all(|(source, progress)| progress.is_listed || !concerns(source))
    }

    /// Makes the targets of what changed, and returns those of all.
    fn renew(&mut self) -> Vec<SharedTarget> {
        let changed = std::mem::take(&mut self.changed);
        let concerned = self.cluster.concerned(self.config.role, &changed);
        let mut groups = std::mem::take(&mut self.groups);
        // What is gone has no entry among those concerned.
        groups.retain(|key, _| concerned.binary_search_by(|(known, _)| known.cmp(key)).is_ok());
        for (key, is_changed) in concerned {
            if !is_changed {
                continue;
            }
            // Targets without the labels of a pod that is not listed yet would be relabeled
            // wrongly, and scraped twice a moment later.
            if !self.is_listed(Some(namespace_of(&key))) {
                continue;
            }
            let targets = self.cluster.targets(&self.config, &key);
            if targets.is_empty() {
                groups.remove(&key);
            } else {
                groups.insert(key, targets);
            }
        }
        self.groups = groups;
        self.groups.values().flatten().cloned().collect()
    }

    /// Whether there is anything to report: the targets of one namespace, or of all.
    fn has_list(&self) -> bool {
        let is_main = |source: &&WatchSource| source.resource == self.config.role.resource();
        let mut main = self.sources.iter().filter(is_main);
        // One namespace that may not be listed must not hold up the others, as in Prometheus.
        main.any(|source| self.is_listed(source.namespace.as_deref()))
    }

    /// Applies news until nobody sends any, and reports the targets.
    async fn follow(
        mut self: Box<Self>,
        mut news: mpsc::Receiver<(usize, SourceEvent)>,
        report: TargetSender,
    ) {
        let mut timer = ReportTimer::new();
        loop {
            tokio::select! {
                some = news.recv() => match some {
                    Some((source, some)) => self.apply(source, some),
                    None => return,
                },
                // Before everything is listed the timer waits longer, so that a start is one report
                // and not thousands.
                () = timer.wait(self.is_listed(None)) => {
                    if self.has_list() {
                        report.send_shared(self.renew());
                    }
                    timer.set_reported();
                }
            }
            timer.set_changed(!self.changed.is_empty());
        }
    }
}

impl Discoverer for KubernetesDiscoverer {
    fn run(self: Box<Self>, report: TargetSender) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let (sender, receiver) = mpsc::channel(DISCOVERY_NEWS);
            let watcher = |source: &WatchSource| Watcher {
                source: source.clone(),
                client: self.client.clone(),
                base: self.base.clone(),
                sender: sender.clone(),
                failures: self.failures.clone(),
                metrics: self.metrics.clone(),
                version: None,
            };
            let watchers: Vec<_> = self.sources.iter().map(watcher).map(Watcher::run).collect();
            // The watchers have the others: when they end, so does the receiver.
            drop(sender);
            // One task: all of it ends when the task is aborted.
            tokio::join!(futures::future::join_all(watchers), self.follow(receiver, report));
        })
    }
}

#[cfg(test)]
mod tests;
