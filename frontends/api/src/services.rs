//! What the API shows and does comes in through these traits; `src/` wires the real things to them.
//!
//! History is asked through [`QueryEngine`] and [`SeriesCatalog`]. Tests put fakes in their place.
//! Methods of [`QueryEngine`], [`SeriesCatalog`], [`ViewRegistry`] and [`RuleGroupList`] block: the
//! handlers call them off the async runtime.

use super::bodies::BodyShare;
use super::json_model::{DroppedTargetJson, MetadataJson, RuleGroupJson, RuntimeInfo, TargetJson, WalReplay};
use super::query::log::QueryLog;
use bytes::Bytes;
use engine::memory::MemoryPool;
use engine::query::{QueryEngine, SeriesCatalog};
use futures::future::BoxFuture;
use language::QueryLanguage;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use storage::clock::Clock;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::{Store, StoreError};
use tokio::sync::oneshot;
use views::ViewRegistry;
use views::saved::SavedQueries;

/// Everything behind the API.
#[derive(Clone)]
pub struct ApiServices {
    /// PromQL.
    pub language: Arc<dyn QueryLanguage>,
    /// The query runtime.
    pub answers: Arc<dyn QueryEngine>,
    /// What all answers together may hold in memory.
    pub memory: Arc<MemoryPool>,
    /// The store's names and values.
    pub catalog: Arc<dyn SeriesCatalog>,
    /// Whether the store can be read, and what was read would survive a crash.
    pub readiness: Arc<dyn StoreReadiness>,
    /// The store, to be changed.
    pub tsdb: Arc<dyn StoreAdmin>,
    /// The live runtime.
    pub views: Arc<dyn ViewRegistry>,
    /// Standing queries that people put there.
    pub saved_queries: Arc<SavedQueries>,
    /// Scrape targets.
    pub targets: Arc<dyn TargetList>,
    /// Rule groups and alerts.
    pub rules: Arc<dyn RuleGroupList>,
    /// Where alerts go.
    pub alertmanagers: Arc<dyn AlertmanagerList>,
    /// The server itself.
    pub admin: Arc<dyn ServerControl>,
    /// The remote write receiver; `None`: not enabled.
    pub remote_write: Option<Arc<dyn RemoteWriteHandler>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Self-metrics, for counting and for `/metrics`.
    pub metrics: Metrics,
    /// Where queries are logged.
    pub query_log: Arc<QueryLog>,
}

/// Whether what was written can be read, and would survive a crash.
pub trait StoreReadiness: Send + Sync {
    /// Resolves when the log is replayed far enough to read times up to `to`; `None`: it is.
    fn readable(&self, _to: TimeMs) -> Option<BoxFuture<'static, Result<(), StoreError>>> {
        None
    }
    /// Resolves when everything that can have been read so far would survive kill -9, or when the
    /// log cannot be written.
    fn wait_committed(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl StoreReadiness for Store {
    fn readable(&self, to: TimeMs) -> Option<BoxFuture<'static, Result<(), StoreError>>> {
        if !self.waits_for_replay(to) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.on_replayed(Box::new(move |result| drop(sender.send(result))));
        let stopped = || Err(StoreError::Refused("the server is stopping".to_owned()));
        Some(Box::pin(async move { receiver.await.unwrap_or_else(|_| stopped()) }))
    }

    fn wait_committed(&self) -> BoxFuture<'static, ()> {
        let (sender, receiver) = oneshot::channel::<()>();
        self.on_committed(self.last_lsn(), Box::new(move |_| drop(sender)));
        Box::pin(async move { receiver.await.unwrap_or_default() })
    }
}

/// What the admin API does to the store.
pub trait StoreAdmin: Send + Sync {
    /// Deletes what the series that satisfy all matchers have in `from..=to`; as safe as a sample on return.
    fn delete(&self, matchers: &[Matcher], from: TimeMs, to: TimeMs) -> Result<(), StoreError>;
    /// Carries out on the disk what is deleted.
    fn clean_tombstones(&self) -> Result<(), StoreError>;
    /// Makes the data directory `dir` with what there is, with the newest hours if `with_head`.
    fn snapshot(&self, dir: &Path, with_head: bool) -> Result<(), StoreError>;
}

impl StoreAdmin for Store {
    fn delete(&self, matchers: &[Matcher], from: TimeMs, to: TimeMs) -> Result<(), StoreError> {
        let lsn = Store::delete(self, matchers, from, to)?;
        let (told, fate) = std::sync::mpsc::channel();
        // Nobody waits any more only if this thread is gone.
        self.on_committed(lsn, Box::new(move |fate| drop(told.send(fate))));
        fate.recv().unwrap_or_else(|_| Err(StoreError::Refused("the store is closed".to_owned())))
    }

    fn clean_tombstones(&self) -> Result<(), StoreError> {
        Store::clean_tombstones(self).map(|_| ())
    }

    fn snapshot(&self, dir: &Path, with_head: bool) -> Result<(), StoreError> {
        Store::snapshot(self, dir, with_head)
    }
}

/// Scrape targets.
pub trait TargetList: Send + Sync {
    /// Active targets, ordered by pool.
    fn active(&self) -> Vec<TargetJson>;
    /// Targets that relabelling dropped, ordered by pool; the list may be cut, the counts not.
    fn dropped(&self) -> Vec<DroppedTargetJson>;
    /// Number of dropped targets by pool.
    fn dropped_counts(&self) -> BTreeMap<String, usize>;
    /// Names of the scrape pools, sorted.
    fn pools(&self) -> Vec<String>;
    /// What all targets say about their metrics.
    fn metadata(&self) -> Vec<MetadataJson>;
}

/// Rule groups and, inside them, alerts.
pub trait RuleGroupList: Send + Sync {
    /// All groups, ordered by file and name.
    fn groups(&self) -> Vec<RuleGroupJson>;
}

/// Alertmanagers that notifications go to.
pub trait AlertmanagerList: Send + Sync {
    /// URLs of those in use.
    fn active(&self) -> Vec<String>;
    /// URLs of those that relabelling dropped.
    fn dropped(&self) -> Vec<String>;
}

/// The server itself.
pub trait ServerControl: Send + Sync {
    /// The configuration, normalised, secrets hidden.
    fn config_yaml(&self) -> String;
    /// All command line flags with their values, names without dashes.
    fn flags(&self) -> BTreeMap<String, String>;
    /// Labels that identify this server towards others.
    fn external_labels(&self) -> Labels;
    /// Reads the configuration again.
    fn reload(&self) -> BoxFuture<'static, Result<(), String>>;
    /// Asks the server to stop.
    fn quit(&self);
    /// Whether the server has started up completely.
    fn ready(&self) -> bool;
    /// Why it cannot do its work, although it runs; `None`: it can.
    fn unhealthy(&self) -> Option<String> {
        None
    }
    /// What it does if it has not, but reads history and takes samples already.
    fn starting(&self) -> Option<String> {
        None
    }
    /// `/api/v1/status/runtimeinfo`.
    fn runtime(&self) -> RuntimeInfo;
    /// `/api/v1/status/walreplay`.
    fn wal_replay(&self) -> WalReplay;
    /// `global.evaluation_interval` of the configuration in force, ms: the step of subqueries that
    /// name none. `None`: what the settings say.
    fn evaluation_interval(&self) -> Option<i64> {
        None
    }
    /// Called before `/metrics` is printed: the place to set gauges that nobody keeps current.
    fn collect(&self) {}
}

/// What a remote write request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteWriteResponse {
    /// The HTTP status.
    pub status: u16,
    /// What went wrong; empty if nothing did.
    pub text: String,
    /// How many samples, histograms and exemplars were written, for senders of 2.0, which want to know.
    pub written: Option<[usize; 3]>,
    /// When to try again, seconds, if others fill the server.
    pub retry_after: Option<u64>,
}

/// A remote write request as it came.
#[derive(Debug)]
pub struct WriteCall {
    /// `Content-Type`, "" if there is none.
    pub content_type: String,
    /// `Content-Encoding`, "" if there is none.
    pub encoding: String,
    /// The body.
    pub body: Bytes,
    /// What the body holds of the memory of all bodies; what it is decompressed to is taken from there, too.
    pub share: BodyShare,
}

/// The remote write receiver.
pub trait RemoteWriteHandler: Send + Sync {
    /// Stores a request's samples and answers when they are safe.
    fn write(&self, call: WriteCall) -> BoxFuture<'static, RemoteWriteResponse>;
}
