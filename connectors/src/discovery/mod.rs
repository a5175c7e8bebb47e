//! Service discovery: finds scrape targets and Alertmanagers.
//!
//! A mechanism is a key in [`DiscoveryConfigs`], an implementation of [`Discoverer`] and an entry
//! in [`MECHANISMS`]. Discoverers run as tasks of a [`DiscoverySet`], which merges their lists and
//! publishes the complete list at every change. Mechanisms that this build does not have are
//! accepted with a warning, so that configuration files load.

pub mod file;
pub mod static_config;
mod unsupported;

use crate::config::block::ConfigKeys;
use crate::config::document::NodeSeed;
use crate::config::schema::{ConfigValue, IgnoredKey, KeySpec, Location, key};
use crate::config_block;
use serde::de::MapAccess;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use storage::metrics::Metrics;
use tokio::sync::watch;
use unsupported::UNSUPPORTED;

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

impl ConfigKeys for DiscoveryConfigs {
    fn keys() -> Vec<KeySpec> {
        let supported = [
            key("static_configs", Vec::<TargetGroup>::KIND),
            key("file_sd_configs", Vec::<file::FileSdConfig>::KIND),
        ];
        supported.into_iter().chain(UNSUPPORTED.iter().copied()).collect()
    }

    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "static_configs" => self.static_configs = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "file_sd_configs" => self.file_sd_configs = map.next_value::<Option<_>>()?.unwrap_or_default(),
            _ => {
                let Some(spec) = UNSUPPORTED.iter().find(|spec| spec.name == key) else { return Ok(false) };
                map.next_value_seed(NodeSeed(spec.kind))?;
                self.unsupported.push(key.to_owned());
            }
        }
        Ok(true)
    }

    fn resolve_paths(&mut self, directory: &Path) {
        self.file_sd_configs.resolve_paths(directory);
    }

    fn refused(&self) -> Option<String> {
        None
    }

    fn ignored(&self, _: &str, _: Location, _: &mut Vec<IgnoredKey>) {}
}

impl DiscoveryConfigs {
    /// One warning for each mechanism of `job` that this build does not have.
    pub fn warnings(&self, job: &str) -> Vec<String> {
        let warn = |key: &String| {
            format!("{key} is not supported by this build; job {job} will have no targets from it")
        };
        self.unsupported.iter().map(warn).collect()
    }

    /// Checks what a mechanism can check without running; the text of the first problem.
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
