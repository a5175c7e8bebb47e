//! [`ServerRemote`]: the part of the server for remote storage: the senders of `remote_write`, and
//! the servers of `remote_read`. [`super`] connects the parts.

use super::ServerError;
use super::context::ServerContext;
use super::storage_side::ServerStorage;
use crate::config::Config;
use crate::environment::Surroundings;
use connectors::scrape::manager::{ScrapeManager, TargetMetadata};
use remote_storage::read::{RemoteRead, RemoteReadServices};
use remote_storage::write::{FamilyMetadata, MetadataSource, RemoteWrite, RemoteWriteServices, type_number};
use std::sync::{Arc, OnceLock};
use storage::execution::Execution;
use tokio::runtime::Handle;

/// Other servers as storage.
pub struct ServerRemote {
    /// Sends samples; `None` in a simulation, which has no threads for it.
    write: Option<RemoteWrite>,
    /// The servers whose samples queries read; `None` as above, and in a cluster.
    pub(super) read: Option<Arc<RemoteRead>>,
    metadata: Arc<ScrapedMetadata>,
}

/// The metadata of the scrape targets, once there is a scrape manager.
#[derive(Default)]
struct ScrapedMetadata(OnceLock<Arc<ScrapeManager>>);

impl MetadataSource for ScrapedMetadata {
    fn all(&self) -> Vec<FamilyMetadata> {
        let Some(scrape) = self.0.get() else { return Vec::new() };
        let family = |target: TargetMetadata| FamilyMetadata {
            family: target.metric,
            kind: type_number(target.metadata.kind),
            help: target.metadata.help,
            unit: target.metadata.unit,
        };
        scrape.metadata(|_| true).into_iter().map(family).collect()
    }
}

impl ServerRemote {
    /// Without receivers. The log is kept from where each had come to before the restart.
    pub(super) fn open(
        context: &ServerContext,
        here: &Surroundings,
        storage: &ServerStorage,
    ) -> Result<ServerRemote, ServerError> {
        let metadata = Arc::new(ScrapedMetadata::default());
        if context.execution == Execution::Caller {
            return Ok(ServerRemote { write: None, read: None, metadata });
        }
        let services = RemoteWriteServices {
            store: storage.store.clone(),
            clock: context.clock.clone(),
            metrics: context.metrics.clone(),
            runtime: Handle::current(),
            peers: here.peers.clone(),
            flush_deadline: context.flags.storage_remote_flush_deadline.std(),
            metadata: metadata.clone(),
        };
        let reads = RemoteReadServices {
            metrics: context.metrics.clone(),
            runtime: Handle::current(),
            peers: here.peers.clone(),
        };
        let read = context.flags.cluster_addresses().is_empty().then(|| Arc::new(RemoteRead::new(reads)));
        let write = RemoteWrite::open(services, here.disk.clone(), &storage.dir);
        Ok(ServerRemote { write: Some(write.map_err(ServerError::Store)?), read, metadata })
    }

    /// Takes metadata from these targets.
    pub(super) fn connect(&self, scrape: &Arc<ScrapeManager>) {
        // Called once, at the start.
        let _ = self.metadata.0.set(scrape.clone());
    }

    /// Puts the remote blocks of a configuration in force.
    pub(super) fn apply(&self, config: &Config) -> Result<(), ServerError> {
        match &self.read {
            Some(read) => read.apply(&config.remote_read, &config.external_labels)?,
            None if config.remote_read.is_empty() => {}
            None => tracing::warn!(
                target: "remote_read",
                "remote_read has no effect in a cluster: a series of another server may be one of another process"
            ),
        }
        let Some(write) = &self.write else { return Ok(()) };
        Ok(write.apply(&config.remote_write, &config.external_labels)?)
    }

    /// Sends what is left, within the flush deadline.
    pub(super) fn close(&self) {
        if let Some(write) = &self.write {
            write.close();
        }
    }
}
