//! Service discovery: finds scrape targets and Alertmanagers.
//!
//! A mechanism (`dns_sd_configs`, `kubernetes_sd_configs`, …) implements [`Mechanism`] and has a
//! line in the table below, which makes it a key of [`DiscoveryConfigs`]. A running instance is a
//! [`Discoverer`], a task of a [`DiscoverySet`]. The set merges the lists of all its discoverers,
//! and publishes the complete list at every change.
//!
//! Most mechanisms poll an HTTP API: [`lister`] has what they share, and `hetzner.rs` is a short
//! example. [`mod@file`], [`kubernetes`], [`consul`] and others follow changes.

pub mod aws;
pub mod azure;
pub mod consul;
pub mod digitalocean;
pub mod dns;
pub mod eureka;
pub mod file;
pub mod gce;
pub mod hetzner;
pub mod http;
pub mod ionos;
pub mod kubernetes;
pub mod kuma;
mod labels;
pub mod linode;
pub mod lister;
pub mod marathon;
pub mod moby;
mod names;
pub mod nomad;
pub mod oci;
pub mod openstack;
pub mod outscale;
pub mod ovhcloud;
pub mod polling;
pub mod puppetdb;
#[cfg(test)]
pub(crate) mod recorded_server;
#[cfg(test)]
mod replay;
mod report_timer;
pub mod scaleway;
pub mod shared_target;
pub mod stackit;
pub mod static_config;
pub mod triton;
pub mod uyuni;
pub mod vultr;
pub mod zookeeper;

use crate::config::block::ConfigKeys;
use crate::config::document::Node;
use crate::config::error::BlockError;
use crate::config::schema::{ConfigValue, IgnoredKey, KeySpec, KeyValueSeed, Location, join_names, key};
use crate::config::secret::CredentialError;
use crate::config_block;
use crate::http_client::{HttpClient, HttpConfig, Peers};
use parking_lot::Mutex;
use serde::de::{DeserializeOwned, MapAccess};
use shared_target::{LabelNames, SharedTarget};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use storage::metrics::{Gauge, Metrics};
use tokio::sync::watch;

/// The label with the address of a target.
pub const ADDRESS: &str = "__address__";

config_block! {
    /// Targets that share labels, as in `static_configs` and target files.
    #[derive(Eq)]
    pub struct TargetGroup as "targetgroup.Group" {
        /// The addresses.
        targets: Vec<String> = Vec::new(),
        /// Labels of all targets of the group.
        labels: BTreeMap<String, String> = BTreeMap::new(),
    }
}

/// A mechanism: the type of its configuration, and how a discovery is started from it. To add one,
/// see `docs/discovery.md`.
///
/// # Contract
///
/// 1. `validate` reads no file and makes no request: it also runs for `perennial check`, on another
///    machine than the server's.
/// 2. `start` makes no request either. It may read files, such as certificates.
/// 3. `start_all` returns one result for each entry, in their order; an entry that fails does not
///    keep the others from starting.
/// 4. HTTP requests go through `context.peers`; otherwise the simulation would reach the network.
pub trait Mechanism {
    /// One entry of the list under its key. Secrets, paths and known keys follow from its type.
    type Config: ConfigValue + DeserializeOwned + Clone + std::fmt::Debug + PartialEq + 'static;

    /// Checks what the types cannot say and needs no file. The error is the first problem.
    fn validate(config: &Self::Config) -> Result<(), BlockError>;

    /// The options of its HTTP client, if it has one: its certificates are read before a
    /// configuration is applied.
    fn http(_config: &Self::Config) -> Option<&HttpConfig> {
        None
    }

    /// Makes the discoverer of an entry; runs nothing yet. The error says what only a start can
    /// find, such as an unreadable certificate.
    fn start(config: &Self::Config, context: &DiscoveryContext<'_>) -> StartResult;

    /// Makes the discoverers of all entries of a block; one for each of them if nothing else is
    /// said.
    fn start_all(configs: &[Self::Config], context: &DiscoveryContext<'_>) -> Vec<StartResult> {
        configs.iter().map(|config| Self::start(config, context)).collect()
    }
}

/// A discoverer, or why it cannot be made.
pub type StartResult = Result<Box<dyn Discoverer>, StartError>;

/// Why a discoverer cannot be made. Nothing repeats this by itself: the entry has no targets until
/// somebody mends what is wrong and the configuration is applied again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used: a key, a URL, a certificate, a file that it names.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// There are no credentials, or they cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// One of the above, and what was being done.
    #[error("{doing}: {error}")]
    Doing {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        error: Box<StartError>,
    },
}

impl StartError {
    /// The same error, with what was being done before its text.
    #[must_use]
    pub fn doing(self, doing: &'static str) -> StartError {
        StartError::Doing { doing, error: Box::new(self) }
    }
}

/// What a mechanism gets at its start. Time is tokio's, which tests can stop.
pub struct DiscoveryContext<'a> {
    /// The network peers that HTTP requests are sent to; a simulation has its own.
    pub peers: &'a Peers,
    /// Where it counts.
    pub metrics: &'a Metrics,
    /// The job, or the set of Alertmanagers.
    pub pool: &'a str,
    /// The user of the targets.
    pub user: DiscoveryUser,
}

/// The user of the targets of a discovery, scraping or notifications; Prometheus has a manager for
/// each.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryUser {
    /// Scrape pools.
    Scrape,
    /// The notifier, which sends alerts.
    Notify,
}

impl DiscoveryUser {
    /// The name of Prometheus' manager, in metrics.
    fn name(self) -> &'static str {
        match self {
            DiscoveryUser::Scrape => "scrape",
            DiscoveryUser::Notify => "notify",
        }
    }
}

/// The number of entries that could not be started, as `prometheus_sd_failed_configs`. To be called
/// once at the start of the server, so that the metric is there before the first failure.
pub fn failed_configs(metrics: &Metrics, user: DiscoveryUser) -> Arc<Gauge> {
    let help = "Current number of service discovery configurations that failed to load.";
    metrics.gauge("prometheus_sd_failed_configs", help, &[("name", user.name())])
}

impl DiscoveryContext<'_> {
    /// A client with these options.
    pub fn client(&self, config: &HttpConfig) -> Result<HttpClient, BlockError> {
        Ok(config.client()?.with_peers(self.peers))
    }
}

/// Declares the mechanisms of this build: their keys, which are fields of [`DiscoveryConfigs`].
macro_rules! mechanisms {
    ($($(#[$meta:meta])* $key:ident: $mechanism:ty),* $(,)?) => {
        /// The discovery keys of a scrape or Alertmanager block.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct DiscoveryConfigs {
            $($(#[$meta])* pub $key: Vec<<$mechanism as Mechanism>::Config>,)*
        }

        impl ConfigKeys for DiscoveryConfigs {
            fn keys() -> Vec<KeySpec> {
                vec![$(key(stringify!($key), Vec::<<$mechanism as Mechanism>::Config>::KIND)),*]
            }

            fn entries(&self) -> Vec<(&'static str, Node)> {
                let lists = vec![$((stringify!($key), self.$key.node())),*];
                lists.into_iter().filter(|(_, list)| !list.is_empty()).collect()
            }

            fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
                $(if key == stringify!($key) {
                    let null = concat!("empty or null section in ", stringify!($key));
                    self.$key = map.next_value_seed(KeyValueSeed::new(null))?.unwrap_or_default();
                    return Ok(true);
                })*
                Ok(false)
            }

            fn resolve_paths(&mut self, directory: &Path) {
                $(self.$key.resolve_paths(directory);)*
            }

            fn refused(&self) -> Option<String> {
                $(if let Some(inner) = self.$key.refused() {
                    return Some(join_names(stringify!($key), &inner));
                })*
                None
            }

            fn ignored(&self, path: &str, place: Location, found: &mut Vec<IgnoredKey>) {
                $(self.$key.ignored(&join_names(path, stringify!($key)), place, found);)*
            }
        }

        impl DiscoveryConfigs {
            /// Checks what can be checked without running. The error is the first problem.
            pub fn validate(&self) -> Result<(), BlockError> {
                $(self.$key.iter().try_for_each(<$mechanism>::validate)?;)*
                Ok(())
            }

            /// The options of the HTTP clients of all mechanisms.
            pub fn http_configs(&self) -> Vec<&HttpConfig> {
                let mut all = Vec::new();
                $(all.extend(self.$key.iter().filter_map(<$mechanism>::http));)*
                all
            }

            /// Makes the discoverers. One that cannot be made is logged, counted and left out.
            fn start(&self, context: &DiscoveryContext<'_>) -> StartedDiscoverers {
                let mut started = StartedDiscoverers { all: Vec::new(), failed: 0 };
                $(for made in <$mechanism>::start_all(&self.$key, context) {
                    started.add(stringify!($key), made, context);
                })*
                started
            }
        }
    };
}

/// The discoverers of a block.
struct StartedDiscoverers {
    all: Vec<Box<dyn Discoverer>>,
    /// The number of entries that have none, because it cannot be made.
    failed: usize,
}

impl StartedDiscoverers {
    fn add(&mut self, key: &str, made: StartResult, context: &DiscoveryContext<'_>) {
        match made {
            Ok(discoverer) => self.all.push(discoverer),
            Err(error) => {
                self.failed += 1;
                tracing::error!(
                    target: "discovery", pool = context.pool, key, %error,
                    "cannot start a discovery, which finds no targets; remove the cause and reload"
                );
            }
        }
    }
}

mechanisms! {
    /// Targets listed in the file itself.
    static_configs: static_config::StaticConfigs,
    /// Targets listed in other files.
    file_sd_configs: file::FileSd,
    /// Targets that a web server lists.
    http_sd_configs: http::HttpSd,
    /// Targets of a Kubernetes cluster.
    kubernetes_sd_configs: kubernetes::KubernetesSd,
    /// Services in Consul's catalog.
    consul_sd_configs: consul::ConsulSd,
    /// Services registered with Nomad.
    nomad_sd_configs: nomad::NomadSd,
    /// Data planes of Kuma's meshes.
    kuma_sd_configs: kuma::KumaSd,
    /// Tasks of Marathon's apps.
    marathon_sd_configs: marathon::MarathonSd,
    /// Serversets in ZooKeeper.
    serverset_sd_configs: zookeeper::ServersetSd,
    /// Nerve's services in ZooKeeper.
    nerve_sd_configs: zookeeper::NerveSd,
    /// Targets in the domain name system.
    dns_sd_configs: dns::DnsSd,
    /// Containers of a Docker daemon.
    docker_sd_configs: moby::DockerSd,
    /// Services, tasks and nodes of a Docker swarm.
    dockerswarm_sd_configs: moby::DockerSwarmSd,
    /// Instances of EC2.
    ec2_sd_configs: aws::Ec2Sd,
    /// Instances of Lightsail.
    lightsail_sd_configs: aws::LightsailSd,
    /// Tasks of ECS.
    ecs_sd_configs: aws::EcsSd,
    /// Caches of ElastiCache.
    elasticache_sd_configs: aws::ElastiCacheSd,
    /// Brokers and controllers of MSK.
    msk_sd_configs: aws::MskSd,
    /// Databases of RDS.
    rds_sd_configs: aws::RdsSd,
    /// Any of the mechanisms of AWS.
    aws_sd_configs: aws::AwsSd,
    /// Virtual machines of Azure.
    azure_sd_configs: azure::AzureSd,
    /// Instances of Google Compute Engine.
    gce_sd_configs: gce::GceSd,
    /// Servers of STACKIT.
    stackit_sd_configs: stackit::StackitSd,
    /// Virtual machines of OUTSCALE.
    outscale_sd_configs: outscale::OutscaleSd,
    /// Servers of Hetzner.
    hetzner_sd_configs: hetzner::HetznerSd,
    /// Droplets and databases of DigitalOcean.
    digitalocean_sd_configs: digitalocean::DigitalOceanSd,
    /// Instances of Linode.
    linode_sd_configs: linode::LinodeSd,
    /// Instances of Vultr.
    vultr_sd_configs: vultr::VultrSd,
    /// Servers of IONOS Cloud.
    ionos_sd_configs: ionos::IonosSd,
    /// Resources of PuppetDB.
    puppetdb_sd_configs: puppetdb::PuppetDbSd,
    /// Containers and compute nodes of Triton.
    triton_sd_configs: triton::TritonSd,
    /// Instances that are registered with Eureka.
    eureka_sd_configs: eureka::EurekaSd,
    /// Instances of Oracle Cloud Infrastructure.
    oci_sd_configs: oci::OciSd,
    /// Instances, hypervisors and load balancers of OpenStack.
    openstack_sd_configs: openstack::OpenStackSd,
    /// Servers of OVHcloud.
    ovhcloud_sd_configs: ovhcloud::OvhcloudSd,
    /// Instances and bare metal servers of Scaleway.
    scaleway_sd_configs: scaleway::ScalewaySd,
    /// Systems that Uyuni monitors.
    uyuni_sd_configs: uyuni::UyuniSd,
}

impl DiscoveryConfigs {
    /// Checks the addresses of static targets, for blocks without relabelling: rules may make an
    /// address of any text, such as the URLs that the blackbox exporter probes.
    pub fn validate_addresses(&self) -> Result<(), BlockError> {
        let mut addresses = self.static_configs.iter().flat_map(|group| &group.targets);
        match addresses.find(|address| address.contains('/')) {
            Some(bad) => Err(BlockError::new(format!("{bad:?} is not a valid hostname"))),
            None => Ok(()),
        }
    }

    /// Prometheus' names of all mechanisms, such as `http`.
    pub fn mechanisms() -> Vec<&'static str> {
        let name = |spec: KeySpec| {
            let name = spec.name.strip_suffix("_configs").unwrap_or(spec.name);
            name.strip_suffix("_sd").unwrap_or(name)
        };
        Self::keys().into_iter().map(name).collect()
    }
}

/// A discovered target: its labels, including [`ADDRESS`].
pub type DiscoveredTarget = BTreeMap<String, String>;

/// A task that finds targets and reports the complete list at every change.
///
/// # Contract
///
/// 1. Each report is the complete list: a target that is missing in it is gone, and its series get
///    stale markers.
/// 2. After a failure nothing is reported, so that the targets of the last list stay.
/// 3. `run` may be dropped at any `await`, and must not block its thread.
pub trait Discoverer: Send {
    /// Reports what is known without waiting, before the task runs. Whoever reads the set at once,
    /// such as the queues of alerts, has these targets from the start.
    fn report_known(&mut self, _report: &TargetSender) {}

    /// Runs until it is dropped (the caller aborts the task). Calls `report` with complete lists.
    fn run(self: Box<Self>, report: TargetSender) -> futures::future::BoxFuture<'static, ()>;
}

/// The lists of all discoverers; `None` for one that has not reported yet.
type TargetLists = Vec<Option<Arc<[SharedTarget]>>>;

/// Receives the lists of a discoverer.
pub struct TargetSender {
    index: usize,
    lists: Arc<watch::Sender<TargetLists>>,
    names: Mutex<LabelNames>,
}

impl TargetSender {
    /// A sender of one discoverer, and the lists that it reports, for tests.
    #[cfg(test)]
    fn alone() -> (TargetSender, watch::Receiver<TargetLists>) {
        let (sender, lists) = watch::channel(vec![None]);
        (TargetSender { index: 0, lists: Arc::new(sender), names: Mutex::default() }, lists)
    }

    /// Replaces the list of this discoverer.
    pub fn send(&self, targets: Vec<DiscoveredTarget>) {
        let mut names = self.names.lock();
        let shared = targets.iter().map(|target| SharedTarget::from_target(target, &mut names)).collect();
        self.send_shared(shared);
        names.prune();
    }

    /// Replaces the list of this discoverer, whose targets share labels.
    pub fn send_shared(&self, targets: Vec<SharedTarget>) {
        // Most refreshes find the same: whoever waits for a change is not woken for nothing.
        self.lists.send_if_modified(|lists| {
            let changed = lists[self.index].as_deref() != Some(&targets[..]);
            if changed {
                lists[self.index] = Some(targets.into());
            }
            changed
        });
    }
}

/// A running discovery. Dropping it ends its tasks.
pub struct DiscoverySet {
    lists: watch::Receiver<TargetLists>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// The number of entries that could not be started. The gauge counts them while the set runs.
    failed: usize,
    failed_gauge: Arc<Gauge>,
}

/// The targets of all discoverers of a set.
pub struct FoundTargets(TargetLists);

impl FoundTargets {
    /// The targets.
    pub fn iter(&self) -> impl Iterator<Item = &SharedTarget> {
        self.0.iter().flatten().flat_map(|list| list.iter())
    }
}

impl DiscoverySet {
    /// Starts all discoverers of `config` on the current tokio runtime.
    pub fn start(config: &DiscoveryConfigs, context: &DiscoveryContext<'_>) -> DiscoverySet {
        let StartedDiscoverers { all: discoverers, failed } = config.start(context);
        let failed_gauge = failed_configs(context.metrics, context.user);
        failed_gauge.add(failed as f64);
        let (sender, lists) = watch::channel(vec![None; discoverers.len()]);
        let sender = Arc::new(sender);
        let mut tasks = Vec::with_capacity(discoverers.len());
        for (index, mut discoverer) in discoverers.into_iter().enumerate() {
            let report = TargetSender { index, lists: sender.clone(), names: Mutex::default() };
            // Before the task runs: files are read at once, and a pool that is replaced must not
            // lose its targets until a thread is free.
            discoverer.report_known(&report);
            tasks.push(tokio::spawn(discoverer.run(report)));
        }
        DiscoverySet { lists, tasks, failed, failed_gauge }
    }

    /// Whether an entry could not be started. A reload tries it again.
    pub fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// The current list, and whether every discoverer has reported at least once.
    pub fn current(&mut self) -> (Vec<DiscoveredTarget>, bool) {
        let (found, complete) = self.found();
        (found.iter().map(SharedTarget::labels).collect(), complete)
    }

    /// The same in less memory: the labels of one target at a time.
    pub fn found(&mut self) -> (FoundTargets, bool) {
        let lists = self.lists.borrow_and_update().clone();
        // An empty list is an answer, a missing one is not.
        let complete = lists.iter().all(Option::is_some);
        (FoundTargets(lists), complete)
    }

    /// Waits for the next change; for ever if nothing can change.
    pub async fn changed(&mut self) {
        if self.lists.changed().await.is_err() {
            // Without discoverers there is nobody who could change it. To return would make callers
            // ask in a loop.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for DiscoverySet {
    fn drop(&mut self) {
        // Several sets count in one gauge, so each takes back only its own.
        self.failed_gauge.add(-(self.failed as f64));
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The targets of a group, with its labels and those in `extra`.
pub fn expand(group: &TargetGroup, extra: &[(&str, &str)]) -> Vec<DiscoveredTarget> {
    let labelled = |address: &String| {
        let mut labels = group.labels.clone();
        labels.extend(extra.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        labels.insert(ADDRESS.to_owned(), address.clone());
        labels
    };
    group.targets.iter().map(labelled).collect()
}

#[cfg(test)]
mod tests {
    mod failures;
    mod keys;

    use super::*;

    /// The names that Prometheus 3.14 answers at `/api/v1/features`.
    const OF_PROMETHEUS: &str = "aws azure consul digitalocean dns docker dockerswarm ec2 ecs elasticache \
        eureka file gce hetzner http ionos kubernetes kuma lightsail linode marathon msk nerve nomad oci \
        openstack outscale ovhcloud puppetdb rds scaleway serverset stackit static triton uyuni vultr";

    #[test]
    fn mechanisms_have_the_names_of_prometheus() {
        let mut names = DiscoveryConfigs::mechanisms();
        names.sort_unstable();
        assert_eq!(names.join(" "), OF_PROMETHEUS);
    }
}
