//! [`ServerQueries`]: the part of the server that answers queries: query runtime, memory limits,
//! query language and query log. [`super`] connects the parts.

use super::ServerError;
use super::cluster_side::ServerCluster;
use super::context::ServerContext;
use super::remote_side::ServerRemote;
use super::storage_side::ServerStorage;
use crate::config::Config;
use crate::remote_stores::RemoteStoresAdapter;
use crate::statements::{StatementSources, Statements};
use crate::{machine, query_language};
use api::query::log::QueryLog;
use cluster::{ClusterCatalog, ClusterQueryPeers};
use engine::memory::MemoryPool;
use engine::query::{Querier, QueryOptions, RemoteStores, SeriesCatalog};
use promql::PromqlOptions;
use std::sync::Arc;
use storage::disk::Disk;
use storage::execution::Execution;

/// What answers queries.
pub struct ServerQueries {
    /// Runs queries over the own store, and over those of the other processes of a cluster.
    pub querier: Arc<Querier>,
    /// The same for people: also over the servers of `remote_read`.
    pub reader: Arc<Querier>,
    /// The servers of `remote_read`; `None`: there can be none.
    pub(super) remote: Option<Arc<dyn RemoteStores>>,
    /// Answers statements in SQL.
    pub statements: Statements,
    /// The memory pool for query results and lists of series.
    pub memory: Arc<MemoryPool>,
    /// The options of queries that the server itself runs: in templates, for views, for backfill.
    pub options: QueryOptions,
    /// PromQL, with the enabled features.
    pub language: PromqlOptions,
    /// `query_log_file`.
    pub log: Arc<QueryLog>,
    /// The series of all processes.
    pub(super) catalog: Arc<dyn SeriesCatalog>,
}

impl ServerQueries {
    pub(super) fn new(
        context: &ServerContext,
        config: &Config,
        storage: &ServerStorage,
        memory: Arc<MemoryPool>,
        cluster: Option<&ServerCluster>,
        disk: Arc<dyn Disk>,
    ) -> Result<ServerQueries, ServerError> {
        let flags = &context.flags;
        let language = query_language::options(|feature| flags.has(feature));
        let catalog: Arc<dyn SeriesCatalog> = match cluster {
            None => storage.store.clone(),
            Some(cluster) => Arc::new(ClusterCatalog {
                store: storage.store.clone(),
                client: cluster.client.clone(),
                timeout: flags.query_timeout.std(),
            }),
        };
        let querier = querier(context, storage, machine::cores(), &memory, cluster);
        let statements = Statements::new(StatementSources {
            querier: querier.clone(),
            catalog: catalog.clone(),
            language,
            memory: memory.clone(),
            disk,
            directory: storage.dir.clone(),
        })?;
        Ok(ServerQueries {
            reader: querier.clone(),
            remote: None,
            querier,
            statements,
            memory,
            options: options(context, config),
            language,
            log: Arc::new(QueryLog::new(&context.metrics)),
            catalog,
        })
    }

    /// The same with the servers of `remote_read` for the queries of people. What is kept current
    /// reads the own store only: it is told of each sample that comes there, and of none that comes
    /// elsewhere.
    pub(super) fn reading(
        self,
        context: &ServerContext,
        config: &Config,
        storage: &ServerStorage,
        remote: &ServerRemote,
    ) -> ServerQueries {
        let Some(read) = remote.read.clone() else { return self };
        let range = context.flags.block_range(config.storage.min_block);
        let remote: Arc<dyn RemoteStores> = Arc::new(RemoteStoresAdapter {
            read,
            store: storage.store.clone(),
            clock: context.clock.clone(),
            // Prometheus' margin.
            margin: 2 * range,
        });
        let reader = Arc::new(self.querier.with_remote_stores(remote.clone()));
        ServerQueries { reader, remote: Some(remote), ..self }
    }

    /// A query runtime of its own for queries that are large and not urgent.
    ///
    /// One thread, so that people's queries have the rest of the machine; the memory is shared, so
    /// that both together keep to the limit.
    pub(super) fn background_querier(
        &self,
        context: &ServerContext,
        storage: &ServerStorage,
        cluster: Option<&ServerCluster>,
    ) -> Arc<Querier> {
        querier(context, storage, 1, &self.memory, cluster)
    }

    /// Puts the settings of the query log in force.
    pub(super) fn apply(&self, config: &Config) -> Result<(), ServerError> {
        Ok(self.log.set(config.query_log_file().as_deref())?)
    }
}

/// The query runtime over the series of all processes, with `threads` threads if there are threads.
fn querier(
    context: &ServerContext,
    storage: &ServerStorage,
    threads: usize,
    memory: &Arc<MemoryPool>,
    cluster: Option<&ServerCluster>,
) -> Arc<Querier> {
    let store = storage.store.clone();
    let querier = match context.execution {
        Execution::Threads => Querier::new(store, threads).with_memory(memory.clone()),
        Execution::Caller => Querier::on_calling_thread(store, memory.clone()),
    };
    Arc::new(match cluster {
        None => querier,
        Some(cluster) => querier.with_peers(Arc::new(ClusterQueryPeers(cluster.client.clone()))),
    })
}

/// The options of queries that the server itself runs, from the flags.
pub(super) fn options(context: &ServerContext, config: &Config) -> QueryOptions {
    let flags = &context.flags;
    QueryOptions {
        lookback: flags.query_lookback_delta.0,
        default_step: config.evaluation_interval(),
        max_samples: *flags.query_max_samples,
        max_bytes: flags.query_memory(machine::memory()).one,
        timeout: flags.query_timeout.std(),
        dialect: query_language::options(|feature| flags.has(feature)).dialect(),
        ..QueryOptions::default()
    }
}
