//! [`ServerViews`]: the part of the server for queries that are kept current: the live runtime,
//! scheduled views, saved queries, and the backfill of recorded views. [`super`] connects the
//! parts.

use super::ServerError;
use super::cluster_side::ServerCluster;
use super::context::ServerContext;
use super::query_side::ServerQueries;
use super::storage_side::ServerStorage;
use crate::environment::Surroundings;
use crate::flags::QueryMemory;
use crate::machine;
use cluster::{ClusterConfig, ClusterHandles};
use engine::live::tick_driver::TickDriver;
use engine::live::{LiveOptions, LiveRuntime};
use engine::memory::{MemoryPool, ViewMemory};
use engine::query::QueryOptions;
use language::QueryLanguage;
use parking_lot::Mutex;
use promql::PromqlLanguage;
use std::sync::Arc;
use storage::execution::Execution;
use views::ViewRegistry;
use views::recording::{CorrectionRole, RecordingHistory, RecordingHistoryServices};
use views::saved::SavedQueries;
use views::saved::file::SavedQueryFile;
use views::scheduled::{CompositeViews, ScheduledViewServices};

/// Everything that is kept current.
pub struct ServerViews {
    /// The live runtime, with the plans that can be maintained incrementally.
    pub live: LiveRuntime,
    /// The driver of ticks if the caller runs them; otherwise threads do.
    pub ticks: Mutex<Option<TickDriver>>,
    /// All views: live ones, and scheduled ones that are queried again and again.
    pub composite: Arc<CompositeViews>,
    /// The queries that users saved at run time.
    pub saved: Arc<SavedQueries>,
    /// Corrects recorded series after late samples, and records the past of new rules.
    pub recording: Arc<RecordingHistory>,
}

/// The live runtime as it was started. The rest of the views needs what is made after it.
pub(super) struct StartedLive {
    live: LiveRuntime,
    ticks: Option<TickDriver>,
}

impl ServerViews {
    /// The views over `started`. None is installed yet.
    pub(super) fn new(
        context: &ServerContext,
        here: &Surroundings,
        storage: &ServerStorage,
        queries: &ServerQueries,
        cluster: Option<&ServerCluster>,
        started: StartedLive,
    ) -> Result<ServerViews, ServerError> {
        let recording = RecordingHistoryServices {
            answers: queries.background_querier(context, storage, cluster),
            store: storage.store.clone(),
            clock: context.clock.clone(),
            options: queries.options.clone(),
            disk: here.disk.clone(),
            metrics: context.metrics.clone(),
            corrects: cluster.map_or(CorrectionRole::Alone, ServerCluster::correction_role),
            execution: context.execution,
        };
        let recording = RecordingHistory::start(recording, &storage.dir).map_err(ServerError::Thread)?;
        if let Some(cluster) = cluster {
            cluster.connect_late_samples(&recording);
        }
        let scheduled = ScheduledViewServices {
            // Statements in SQL that run again, too.
            answers: queries.statements.standing_answers(queries.querier.clone(), started.live.clone()),
            store: storage.store.clone(),
            clock: context.clock.clone(),
            options: queries.options.clone(),
            execution: context.execution,
        };
        let composite = CompositeViews::new(Arc::new(started.live.clone()), scheduled, &context.metrics);
        // So that the API can ask the registry for the backfill of a view, whichever kind of view
        // it is.
        let composite = composite.with_history(recording.clone());
        let composite = Arc::new(if cluster.is_some() { composite.in_cluster() } else { composite });
        let language = queries.language;
        let compile = Box::new(move |text: &str| PromqlLanguage(language).compile(text, None));
        let file = SavedQueryFile::new(here.disk.clone(), &storage.dir);
        let saved = SavedQueries::with_file(composite.clone(), compile, file);
        let saved = Arc::new(queries.statements.compile_saved(saved));
        let StartedLive { live, ticks } = started;
        Ok(ServerViews { live, ticks: Mutex::new(ticks), composite, saved, recording })
    }

    /// All views, as those who install and read them see them.
    pub(super) fn registry(&self) -> Arc<dyn ViewRegistry> {
        self.composite.clone()
    }
}

/// The options of the live runtime. `queries` are the options of queries that a step of a view
/// runs, `query_memory` is their pool.
pub(super) fn live_options(
    context: &ServerContext,
    queries: QueryOptions,
    query_memory: Arc<MemoryPool>,
    limits: QueryMemory,
) -> LiveOptions {
    LiveOptions {
        workers: context.flags.live_workers(machine::cores()),
        lookback_ms: queries.lookback,
        dialect: queries.dialect,
        queries,
        query_memory,
        memory: ViewMemory { pool: MemoryPool::for_views(limits.together), limit: limits.one },
        execution: context.execution,
        ..LiveOptions::default()
    }
}

/// Starts the live runtime; in a cluster once the other processes are connected.
pub(super) fn start_live(
    context: &ServerContext,
    storage: &ServerStorage,
    options: LiveOptions,
    setup: Option<&ClusterConfig>,
) -> Result<(StartedLive, Option<ClusterHandles>), ServerError> {
    let store = storage.store.clone();
    let clock = context.clock.clone();
    let metrics = &context.metrics;
    if options.execution == Execution::Caller {
        let (live, driver) = LiveRuntime::without_threads(store, clock, options, metrics)?;
        return Ok((StartedLive { live, ticks: Some(driver) }, None));
    }
    let Some(setup) = setup else {
        let live = LiveRuntime::start(store, clock, options, metrics)?;
        return Ok((StartedLive { live, ticks: None }, None));
    };
    let (peers, cluster) = cluster::join(setup)?;
    let live = LiveRuntime::start_in_cluster(store, clock, options, metrics, peers)?;
    let signalled = live.clone();
    cluster.heartbeat.set_on_peer_signal(Box::new(move |signal| signalled.on_peer_signal(signal)));
    Ok((StartedLive { live, ticks: None }, Some(cluster)))
}
