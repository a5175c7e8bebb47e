//! [`ServerCluster`]: the part of the server that talks to the other processes of a cluster;
//! without a cluster it does nothing. [`super`] connects the parts.

use super::ServerError;
use super::query_side::ServerQueries;
use super::storage_side::ServerStorage;
use crate::cluster_config;
use crate::flags::Flags;
use cluster::{
    ClusterConfig, ClusterHandles, Heartbeat, PeerClient, PeerLateSamples, PeerListener, PeerServices,
};
use connectors::scrape::manager::TargetPartition;
use engine::query::SeriesCatalog as _;
use std::sync::Arc;
use views::recording::{CorrectionRole, RecordingHistory};

/// The connections to the other processes of the cluster.
pub struct ServerCluster {
    /// The heartbeat with the other processes.
    pub heartbeat: Arc<Heartbeat>,
    /// The client for requests to the other processes.
    pub(super) client: Arc<PeerClient>,
}

impl ServerCluster {
    /// The cluster, and the listener that the others will ask once it is opened.
    pub(super) fn new(handles: ClusterHandles) -> (ServerCluster, PeerListener) {
        let ClusterHandles { heartbeat, client, listener } = handles;
        (ServerCluster { heartbeat, client }, listener)
    }

    /// Whether this process runs the rules, owns the views and sends alerts: process 0 does.
    pub(super) fn is_coordinator(&self) -> bool {
        self.heartbeat.process() == 0
    }

    /// Process 0 corrects recorded samples, because it runs the rules.
    pub(super) fn correction_role(&self) -> CorrectionRole {
        if self.is_coordinator() {
            CorrectionRole::First(Arc::new(PeerLateSamples(self.client.clone())))
        } else {
            CorrectionRole::Another
        }
    }

    /// Has process 0 learn of the late samples of all processes.
    pub(super) fn connect_late_samples(&self, recording: &Arc<RecordingHistory>) {
        if self.is_coordinator() {
            let recording = recording.clone();
            return self
                .heartbeat
                .set_on_late_samples(Box::new(move |process| recording.late_samples_at(process)));
        }
        let sender = self.heartbeat.clone();
        recording.late_samples().set_on_arrival(Box::new(move || sender.signal_late_samples()));
    }

    /// Tells the others which configuration is in force here. They log a difference, because a
    /// cluster whose processes scrape by different files has holes.
    pub(super) fn announce_config(&self, flags: &Flags) {
        if let Some(file) = flags.config_file() {
            self.heartbeat.configure(cluster_config::checksum(&file));
        }
    }

    /// An error if another process has ended the cluster.
    pub(super) fn check_ended(&self) -> Result<(), ServerError> {
        match self.heartbeat.ended_by() {
            None => Ok(()),
            Some(reason) => Err(ServerError::ClusterEnded(reason)),
        }
    }
}

/// Answers requests of the other processes from now on.
pub(super) fn serve_peers(
    listener: PeerListener,
    queries: &ServerQueries,
    storage: &ServerStorage,
    recording: &RecordingHistory,
) -> Result<(), ServerError> {
    let store = storage.store.clone();
    let services = PeerServices {
        querier: queries.querier.clone(),
        store: storage.store.clone(),
        late_samples: recording.late_samples(),
        incomplete_reason: Box::new(move || store.incomplete_reason()),
    };
    listener.open(services).map_err(ServerError::ServePeers)
}

/// The share of the targets that this process scrapes: all, if it runs alone.
pub(super) fn target_partition(setup: Option<&ClusterConfig>) -> TargetPartition {
    match setup {
        None => TargetPartition::default(),
        Some(setup) => TargetPartition { process: setup.process, processes: setup.addresses.len() },
    }
}
