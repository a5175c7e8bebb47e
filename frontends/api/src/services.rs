//! The traits through which the API reaches the other crates; `src/` of the server connects them.
//!
//! Queries of history use [`QueryEngine`] and [`SeriesCatalog`]. Tests use fakes.
//!
//! # Contract of all of these traits
//!
//! 1. Methods of [`QueryEngine`], [`SeriesCatalog`], [`ViewRegistry`], [`RuleGroupList`] and
//!    [`StoreAdmin`] may block, and others where they say so: handlers call them off the async
//!    runtime.
//! 2. A list is a copy of one moment; the service may change while it is written.
//! 3. An error says of what kind it is; handlers make HTTP statuses of the kinds.

use super::alert_history::{AlertHistoryJson, AlertHistoryRequest};
use super::bodies::BodyShare;
use super::consoles::OperatorFiles;
use super::json_model::{
    DroppedTargetJson, MetadataJson, PendingConfigJson, RelabelStepJson, RuleGroupJson, RuleSourcesJson,
    RuntimeInfo, TargetJson, WalReplay,
};
use super::query::log::QueryLog;
use super::response::{ApiError, ErrorType};
use super::rule_test::{RuleTestJson, RuleTestProgress, RuleTestRequest};
use super::silences::AlertmanagerSilencesJson;
#[cfg(feature = "sql")]
use ::sql::statement::AlertStatement;
use bytes::Bytes;
use engine::memory::MemoryPool;
use engine::query::{QueryEngine, QueryOptions, RemoteStores, SeriesCatalog};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use language::QueryLanguage;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use storage::block::BlockMeta;
use storage::clock::Clock;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, TimeMs};
use storage::spans::Tracer;
use storage::store::{Store, StoreError};
use tokio::sync::oneshot;
use views::ViewRegistry;
use views::saved::SavedQueries;

/// The services that the API uses.
#[derive(Clone)]
pub struct ApiServices {
    /// What answers queries.
    pub queries: QueryServices,
    /// What takes requests of other servers.
    pub receivers: Receivers,
    /// What statements in SQL use besides queries.
    #[cfg(feature = "sql")]
    pub sql: SqlServices,
    /// Changes to the store.
    pub tsdb: Arc<dyn StoreAdmin>,
    /// The live runtime.
    pub views: Arc<dyn ViewRegistry>,
    /// The queries that users saved as views.
    pub saved_queries: Arc<SavedQueries>,
    /// The scrape targets.
    pub targets: Arc<dyn TargetList>,
    /// The rule groups and alerts.
    pub rules: Arc<dyn RuleGroupList>,
    /// The Alertmanagers.
    pub alertmanagers: Arc<dyn AlertmanagerList>,
    /// The state and control of the server.
    pub admin: Arc<dyn ServerControl>,
    /// The files of the operator.
    pub files: Arc<dyn OperatorFiles>,
    /// The current time.
    pub clock: Arc<dyn Clock>,
    /// The server's own metrics, for counting and for `/metrics`.
    pub metrics: Metrics,
    /// What spans of requests are started with.
    pub tracer: Tracer,
}

/// What answers queries.
#[derive(Clone)]
pub struct QueryServices {
    /// Parses and plans PromQL.
    pub language: Arc<dyn QueryLanguage>,
    /// The query runtime.
    pub answers: Arc<dyn QueryEngine>,
    /// The memory budget of all answers.
    pub memory: Arc<MemoryPool>,
    /// The series, label names and label values of the store.
    pub catalog: Arc<dyn SeriesCatalog>,
    /// Whether the store can be read, and whether reads are durable.
    pub readiness: Arc<dyn StoreReadiness>,
    /// The stores of other servers, which `answers` read, too; `None`: there are none.
    pub remote_stores: Option<Arc<dyn RemoteStores>>,
    /// The query log.
    pub log: Arc<QueryLog>,
}

/// What takes requests of other servers. `None`: not enabled, or not in this kind of server.
#[derive(Clone, Default)]
pub struct Receivers {
    /// The receiver of remote write.
    pub remote_write: Option<Arc<dyn RemoteWriteHandler>>,
    /// The receiver of OTLP.
    pub otlp: Option<Arc<dyn RemoteWriteHandler>>,
    /// What answers remote reads.
    pub remote_read: Option<Arc<dyn RemoteReadHandler>>,
}

/// What statements in SQL use besides queries.
#[cfg(feature = "sql")]
#[derive(Clone, Default)]
pub struct SqlServices {
    /// The engine of SQL that also answers the statements of views; `None`: the API has one of its
    /// own, and statements that are no plan cannot stand.
    pub engine: Option<Arc<::sql::SqlEngine>>,
    /// The alerts that statements define; `None`: there can be none.
    pub alert_definitions: Option<Arc<dyn AlertDefinitions>>,
    /// The uploaded tables; `None`: there can be none.
    pub tables: Option<Arc<dyn TableStore>>,
}

/// The uploaded tables, and the views with them. Changes block, and are durable on return.
#[cfg(feature = "sql")]
pub trait TableStore: ::sql::tables::TableList {
    /// Stores a table, and replaces the one of that name.
    fn put(&self, name: &str, table: ::sql::tables::Table) -> Result<(), ApiError>;
    /// Makes a table; an error if there is one, or a view, of that name.
    fn create(&self, name: &str, table: ::sql::tables::Table) -> Result<(), ApiError>;
    /// Changes a table to what `change` makes of it; an error if there is none.
    fn change(&self, name: &str, change: &mut TableChange<'_>) -> Result<(), ApiError>;
    /// Removes a table; an error if there is none.
    fn remove(&self, name: &str) -> Result<(), ApiError>;
    /// Makes a view; an error if there is a table of that name, or a view unless it is replaced.
    fn create_view(&self, name: &str, query: &str, replace: bool) -> Result<(), ApiError>;
    /// Removes a view; an error if there is none.
    fn remove_view(&self, name: &str) -> Result<(), ApiError>;
}

/// Makes a table of one.
#[cfg(feature = "sql")]
pub type TableChange<'a> =
    dyn FnMut(&::sql::tables::Table) -> Result<::sql::tables::Table, ::sql::SqlError> + 'a;

/// The alerts that statements define. All methods block.
#[cfg(feature = "sql")]
pub trait AlertDefinitions: Send + Sync {
    /// Defines an alert; it is in force and durable on return.
    fn create(&self, alert: &AlertStatement) -> Result<(), ApiError>;
    /// Removes an alert.
    fn remove(&self, name: &str) -> Result<(), ApiError>;
    /// All of them, by name.
    fn all(&self) -> Vec<AlertStatement>;
}

/// Whether the store's data can be read, and whether it would survive a crash.
pub trait StoreReadiness: Send + Sync {
    /// Resolves when the write-ahead log is replayed far enough to read times up to `to`; `None`:
    /// it already is.
    fn readable(&self, _to: TimeMs) -> Option<BoxFuture<'static, Result<(), StoreError>>> {
        None
    }
    /// Resolves when everything that can have been read so far would survive kill -9, or when the
    /// write-ahead log cannot be written.
    fn wait_committed(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl StoreReadiness for Store {
    fn readable(&self, to: TimeMs) -> Option<BoxFuture<'static, Result<(), StoreError>>> {
        if !self.replay().waits_for(to) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.replay().on_end(Box::new(move |result| drop(sender.send(result))));
        // The sender is dropped without a result only when the store is.
        let stopped = || Err(StoreError::Closed("the server is stopping"));
        Some(Box::pin(async move { receiver.await.unwrap_or_else(|_| stopped()) }))
    }

    fn wait_committed(&self) -> BoxFuture<'static, ()> {
        let (sender, receiver) = oneshot::channel::<()>();
        self.wal().on_committed(self.wal().last_lsn(), Box::new(move |_| drop(sender)));
        // A log that cannot be written has no more to say than one that is: the answer must not
        // wait for ever.
        Box::pin(async move { receiver.await.unwrap_or_default() })
    }
}

/// The store operations of the admin API.
pub trait StoreAdmin: Send + Sync {
    /// Deletes the samples in `from..=to` of the series that satisfy all matchers. On return, the
    /// deletion is as durable as a sample.
    fn delete(&self, matchers: &[Matcher], from: TimeMs, to: TimeMs) -> Result<(), StoreError>;
    /// Removes deleted samples from the disk.
    fn clean_tombstones(&self) -> Result<(), StoreError>;
    /// Writes a copy of the data to the directory `dir`, including the head if `with_head`.
    fn snapshot(&self, dir: &Path, with_head: bool) -> Result<(), StoreError>;
    /// The blocks that answers are read from, in the order of their time.
    fn blocks(&self) -> Vec<BlockMeta> {
        Vec::new()
    }
}

impl StoreAdmin for Store {
    fn delete(&self, matchers: &[Matcher], from: TimeMs, to: TimeMs) -> Result<(), StoreError> {
        // Waits, because the API promises that an answered deletion survives a crash.
        let lsn = self.admin().delete(matchers, from, to)?;
        let (told, fate) = std::sync::mpsc::channel();
        // Sending fails only if the thread no longer waits.
        self.wal().on_committed(lsn, Box::new(move |fate| drop(told.send(fate))));
        fate.recv().unwrap_or(Err(StoreError::Closed("the store is closed")))
    }

    fn clean_tombstones(&self) -> Result<(), StoreError> {
        self.admin().clean_tombstones().map(|_| ())
    }

    fn snapshot(&self, dir: &Path, with_head: bool) -> Result<(), StoreError> {
        self.admin().snapshot(dir, with_head)
    }

    fn blocks(&self) -> Vec<BlockMeta> {
        self.status().blocks()
    }
}

/// The scrape targets.
pub trait TargetList: Send + Sync {
    /// Active targets, ordered by pool.
    fn active(&self) -> Vec<TargetJson>;
    /// Targets that relabelling dropped, ordered by pool. The list may be truncated; the counts are
    /// complete.
    fn dropped(&self) -> Vec<DroppedTargetJson>;
    /// The number of dropped targets by pool.
    fn dropped_counts(&self) -> BTreeMap<String, usize>;
    /// The names of the scrape pools, sorted.
    fn pools(&self) -> Vec<String>;
    /// What the relabelling rules of a pool make of `labels`, rule by rule, up to one that drops
    /// them; `None`: there is no such pool.
    fn relabel_steps(&self, _pool: &str, _labels: &BTreeMap<String, String>) -> Option<Vec<RelabelStepJson>> {
        None
    }
    /// What `rules`, YAML as in `relabel_configs`, make of `labels`. The error says what is wrong
    /// with the rules.
    fn try_relabelling(
        &self,
        _rules: &str,
        _labels: &BTreeMap<String, String>,
    ) -> Result<Vec<RelabelStepJson>, RelabelRulesError> {
        Ok(Vec::new())
    }
    /// The metadata that all targets expose.
    fn metadata(&self) -> Vec<MetadataJson>;
}

/// The rule groups, including their alerts.
pub trait RuleGroupList: Send + Sync {
    /// All groups, ordered by file and name.
    fn groups(&self) -> Vec<RuleGroupJson>;
    /// The changes of the states of alerts.
    fn history(&self, _request: &AlertHistoryRequest) -> AlertHistoryJson {
        AlertHistoryJson::default()
    }
    /// What a rule would have done in the past; `tell` hears how far it is. Ends soon after
    /// [`QueryOptions::cancel`] is set.
    fn test(
        &self,
        _request: &RuleTestRequest,
        _options: &QueryOptions,
        _tell: &dyn Fn(RuleTestProgress),
    ) -> Result<RuleTestJson, ApiError> {
        Err(ApiError::new(ErrorType::Unavailable, "rules cannot be tested here"))
    }
    /// The texts of the rules as they stand in their files now, at most `most` bytes.
    fn sources(&self, _most: usize) -> RuleSourcesJson {
        RuleSourcesJson::default()
    }
    /// A number that grows with every change of the history. Does not block.
    fn history_version(&self) -> u64 {
        0
    }
}

/// The Alertmanagers that notifications are sent to.
pub trait AlertmanagerList: Send + Sync {
    /// The URLs of those in use.
    fn active(&self) -> Vec<String>;
    /// The URLs of those that relabelling dropped.
    fn dropped(&self) -> Vec<String>;
    /// What people have silenced there, by Alertmanager. Each answers within its timeout.
    fn silences(&self) -> BoxFuture<'static, Vec<AlertmanagerSilencesJson>> {
        Box::pin(async { Vec::new() })
    }
}

/// Why a configuration was not put in force: the error of whoever reads configurations.
///
/// The API knows no configuration, so it knows no kinds either: it answers 500 with the text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReloadError(Box<dyn std::error::Error + Send + Sync>);

impl ReloadError {
    /// The error `cause`, which may also be a text.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ReloadError {
        ReloadError(cause.into())
    }
}

/// The state and control of the server.
pub trait ServerControl: Send + Sync {
    /// The configuration, normalised, with secrets hidden.
    fn config_yaml(&self) -> String;
    /// What the files on the disk say, which a reload would put in force. Blocks.
    fn pending_config(&self) -> PendingConfigJson {
        PendingConfigJson { yaml: self.config_yaml(), ..PendingConfigJson::default() }
    }
    /// All command line flags with their values; names without dashes.
    fn flags(&self) -> BTreeMap<String, String>;
    /// A line for each flag and feature on the command line, and each key of the configuration,
    /// that has no effect.
    fn without_effect(&self) -> Vec<String> {
        Vec::new()
    }
    /// The labels that identify this server to other systems.
    fn external_labels(&self) -> Labels;
    /// Reloads the configuration.
    fn reload(&self) -> BoxFuture<'static, Result<(), ReloadError>>;
    /// Asks the server to stop.
    fn quit(&self);
    /// Whether the server has started up completely.
    fn ready(&self) -> bool;
    /// Why the running server cannot do its work; `None`: it can.
    fn unhealthy(&self) -> Option<String> {
        None
    }
    /// Since when the configuration on disk could not be loaded; `None`: the last reload succeeded.
    fn reload_failed_since(&self) -> Option<TimeMs> {
        None
    }
    /// What the server is still doing if it is not ready, but already reads history and accepts
    /// samples.
    fn starting(&self) -> Option<String> {
        None
    }
    /// `/api/v1/status/runtimeinfo`.
    fn runtime(&self) -> RuntimeInfo;
    /// `/api/v1/status/walreplay`.
    fn wal_replay(&self) -> WalReplay;
    /// `global.evaluation_interval` of the current configuration, ms: the step of subqueries that
    /// name none. `None`: use the settings.
    fn evaluation_interval(&self) -> Option<i64> {
        None
    }
    /// Called before `/metrics` is rendered, to update gauges that are not kept current.
    fn collect(&self) {}
}

/// The response to a request of remote write or OTLP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteWriteResponse {
    /// The HTTP status.
    pub status: u16,
    /// The error message; empty on success.
    pub text: String,
    /// The number of written samples, histograms and exemplars, which senders of version 2.0
    /// expect.
    pub written: Option<[usize; 3]>,
    /// When to retry, s, if other requests fill the server.
    pub retry_after: Option<u64>,
}

/// A request of remote write or OTLP as received.
#[derive(Debug)]
pub struct WriteCall {
    /// `Content-Type`, "" if there is none.
    pub content_type: String,
    /// `Content-Encoding`, "" if there is none.
    pub encoding: String,
    /// The body.
    pub body: Bytes,
    /// The memory that the body holds; the decompressed body is taken from the same share.
    pub share: BodyShare,
}

/// The receiver of remote write, or of OTLP.
pub trait RemoteWriteHandler: Send + Sync {
    /// Stores the samples of a request; the response comes when they are durable.
    fn write(&self, call: WriteCall) -> BoxFuture<'static, RemoteWriteResponse>;
}

/// A remote read request as received.
#[derive(Debug)]
pub struct ReadCall {
    /// The body.
    pub body: Bytes,
    /// The memory that the body holds; the decompressed body is taken from the same share.
    pub share: BodyShare,
    /// Matchers of every query, in addition to its own: those of the user.
    pub matchers: Vec<Matcher>,
}

/// The answer to a remote read request.
pub enum ReadAnswer {
    /// One compressed message with all samples.
    Message(Bytes),
    /// Frames with chunks of samples. An error after the first frame cuts the answer off.
    Frames(BoxStream<'static, Result<Bytes, RemoteReadCut>>),
    /// An error.
    Failed {
        /// The HTTP status.
        status: u16,
        /// The message.
        text: String,
    },
}

/// What is wrong with relabelling rules that somebody tries: a text for the person who writes them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RelabelRulesError(pub String);

/// Why the frames of a remote read end before the answer is complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RemoteReadCut(pub String);

/// Answers remote reads.
pub trait RemoteReadHandler: Send + Sync {
    /// The samples that a request asks for.
    fn read(&self, call: ReadCall) -> BoxFuture<'static, ReadAnswer>;
}
