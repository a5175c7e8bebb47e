//! Service discovery: finds scrape targets and Alertmanagers.
//!
//! A mechanism is a key in [`DiscoveryConfigs`], an implementation of [`Discoverer`] and an entry
//! in [`MECHANISMS`]. Discoverers run as tasks of a [`DiscoverySet`], which merges their lists and
//! publishes the complete list at every change. Mechanisms that this build does not have are
//! accepted with a warning, so that configuration files load.

pub mod file;
pub mod static_config;

use crate::config_block::ConfigBlock;
use crate::http_client::resolve_path;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use storage::metrics::Metrics;
use tokio::sync::watch;

/// The label with the address of a target.
pub const ADDRESS: &str = "__address__";

/// Targets that share labels, as in `static_configs` and target files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetGroup {
    /// The addresses.
    pub targets: Vec<String>,
    /// Labels of all targets of the group.
    pub labels: BTreeMap<String, String>,
}

/// The discovery keys of a scrape or Alertmanager block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiscoveryConfigs {
    /// Targets listed in the file itself.
    pub static_configs: Vec<TargetGroup>,
    /// Targets listed in other files.
    pub file_sd_configs: Vec<file::FileSdConfig>,
    /// Configured keys whose mechanism this build does not have.
    pub unsupported: Vec<String>,
}

impl ConfigBlock for DiscoveryConfigs {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "static_configs" => self.static_configs = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "file_sd_configs" => self.file_sd_configs = map.next_value::<Option<_>>()?.unwrap_or_default(),
            _ if OTHER_MECHANISMS.contains(&key) => {
                map.next_value::<IgnoredAny>()?;
                self.unsupported.push(key.to_owned());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Prometheus' mechanisms that this build does not have.
pub const OTHER_MECHANISMS: &[&str] = &[
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "dns_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "http_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "oci_sd_configs",
    "openstack_sd_configs",
    "outscale_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];

impl DiscoveryConfigs {
    /// One warning for each mechanism of `job` that this build does not have.
    pub fn warnings(&self, job: &str) -> Vec<String> {
        let warn = |key: &String| {
            format!("{key} is not supported by this build; job {job} will have no targets from it")
        };
        self.unsupported.iter().map(warn).collect()
    }

    /// Makes relative paths relative to `dir`.
    pub fn resolve_paths(&mut self, dir: &Path) {
        let files = self.file_sd_configs.iter_mut().flat_map(|config| &mut config.files);
        files.for_each(|file| resolve_path(file, dir));
    }

    /// Checks what can be checked without running. The error is the text of the first problem.
    pub fn validate(&self) -> Result<(), String> {
        for group in &self.static_configs {
            static_config::validate(group)?;
        }
        self.file_sd_configs.iter().try_for_each(file::FileSdConfig::validate)
    }
}

/// A discovered target: its labels, including [`ADDRESS`].
pub type DiscoveredTarget = BTreeMap<String, String>;

/// A task that finds targets and reports the complete list at every change.
pub trait Discoverer: Send {
    /// Runs until it is dropped (the caller aborts the task). Calls `report` with complete lists.
    fn run(self: Box<Self>, report: TargetSender) -> futures::future::BoxFuture<'static, ()>;
}

/// Receives the lists of a discoverer.
pub struct TargetSender {
    index: usize,
    lists: Arc<watch::Sender<Vec<Option<Vec<DiscoveredTarget>>>>>,
}

impl TargetSender {
    /// Replaces the list of this discoverer.
    pub fn send(&self, targets: Vec<DiscoveredTarget>) {
        self.lists.send_if_modified(|lists| {
            let changed = lists[self.index].as_ref() != Some(&targets);
            lists[self.index] = Some(targets);
            changed
        });
    }
}

/// Makes the discoverers of a mechanism from a configuration.
type Build = fn(&DiscoveryConfigs, &Metrics) -> Vec<Box<dyn Discoverer>>;

/// The mechanisms of this build: key and function.
pub const MECHANISMS: &[(&str, Build)] =
    &[("static_configs", static_config::providers), ("file_sd_configs", file::providers)];

/// A running discovery. Dropping it ends its tasks.
pub struct DiscoverySet {
    lists: watch::Receiver<Vec<Option<Vec<DiscoveredTarget>>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl DiscoverySet {
    /// Starts all discoverers of `config` on the current tokio runtime.
    pub fn start(config: &DiscoveryConfigs, metrics: &Metrics) -> DiscoverySet {
        let providers: Vec<_> = MECHANISMS.iter().flat_map(|(_, build)| build(config, metrics)).collect();
        let (sender, lists) = watch::channel(vec![None; providers.len()]);
        let sender = Arc::new(sender);
        let run = |(index, provider): (usize, Box<dyn Discoverer>)| {
            tokio::spawn(provider.run(TargetSender { index, lists: sender.clone() }))
        };
        DiscoverySet { lists, tasks: providers.into_iter().enumerate().map(run).collect() }
    }

    /// The current list, and whether every discoverer has reported at least once.
    pub fn current(&mut self) -> (Vec<DiscoveredTarget>, bool) {
        let lists = self.lists.borrow_and_update();
        let complete = lists.iter().all(Option::is_some);
        (lists.iter().flatten().flatten().cloned().collect(), complete)
    }

    /// Waits for the next change; for ever if nothing can change.
    pub async fn changed(&mut self) {
        if self.lists.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for DiscoverySet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
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
