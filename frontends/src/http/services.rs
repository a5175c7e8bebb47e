//! What the API shows and does comes in through these traits; `src/` wires the real things to them.
//!
//! The engine's and the store's are implemented here for the real types, so that tests can put
//! fakes in their place. Methods of [`QueryEngine`], [`SeriesCatalog`], [`ViewRegistry`] and
//! [`RuleGroupList`] block: the handlers call them off the async runtime.

use super::bodies::BodyShare;
use super::json_model::{
    DroppedTargetJson, ExemplarJson, MetadataJson, RuleGroupJson, RuntimeInfo, SeriesExemplarsJson,
    TargetJson, WalReplay,
};
use super::query::log::QueryLog;
use super::response::ApiError;
use crate::promql::QueryRange;
use crate::saved::SavedQueries;
use crate::views::ViewRegistry;
use bytes::Bytes;
use engine::limits::LABELS_BYTES;
use engine::memory::{MemoryPool, MemoryReservation};
use engine::plan::Plan;
use engine::query::{Querier, QueryAnswer, QueryError, QueryOptions, SubqueryCache};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use storage::clock::Clock;
use storage::exemplars;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, NativeHistogram, SHARDS, TimeMs, value};
use storage::store::{HeadStats, NewestSample, NewestValue, Store, StoreError};
use tokio::sync::oneshot;

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
    /// The store, to be changed.
    pub tsdb: Arc<dyn StoreAdmin>,
    /// The live runtime.
    pub views: Arc<dyn ViewRegistry>,
    /// Standing queries that people put there.
    pub standing: Arc<SavedQueries>,
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

/// The query language. Errors are complete texts with their position, such as `1:5: parse error: …`.
pub trait QueryLanguage: Send + Sync {
    /// The plan of an expression that is asked for these times; `None`: of one that stands.
    fn compile(&self, text: &str, asked: Option<QueryRange>) -> Result<Plan, String>;
    /// The expression's syntax tree, as `parse_query` shows it.
    fn tree(&self, text: &str) -> Result<serde_json::Value, String>;
    /// The matchers of each series selector in an expression.
    fn selectors(&self, text: &str) -> Result<Vec<Vec<Matcher>>, String>;
    /// The matchers of a series selector.
    fn selector(&self, text: &str) -> Result<Vec<Matcher>, String>;
    /// The expression, printed canonically.
    fn format(&self, text: &str) -> Result<String, String>;
    /// What an editor can offer, as JSON.
    fn functions(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// The plan, for people.
    fn explain(&self, plan: &Plan) -> String {
        engine::plan::explain::explain(plan)
    }
}

/// Who answers plans over history.
pub trait QueryEngine: Send + Sync {
    /// The answer at time `t`.
    fn instant(&self, plan: &Plan, t: TimeMs, options: &QueryOptions) -> Result<QueryAnswer, QueryError>;
    /// The same, of a plan that is asked again and again, with what is kept of it in between.
    fn instant_keeping(
        &self,
        plan: &Plan,
        t: TimeMs,
        options: &QueryOptions,
        _kept: &mut SubqueryCache,
    ) -> Result<QueryAnswer, QueryError> {
        self.instant(plan, t, options)
    }
    /// The answers at `start, start + step, … ≤ end`.
    fn range(
        &self,
        plan: &Plan,
        start: TimeMs,
        end: TimeMs,
        step: i64,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError>;
}

impl QueryEngine for Querier {
    fn instant(&self, plan: &Plan, t: TimeMs, options: &QueryOptions) -> Result<QueryAnswer, QueryError> {
        Querier::instant(self, plan, t, options)
    }

    fn instant_keeping(
        &self,
        plan: &Plan,
        t: TimeMs,
        options: &QueryOptions,
        kept: &mut SubqueryCache,
    ) -> Result<QueryAnswer, QueryError> {
        Querier::instant_keeping(self, plan, t, options, kept)
    }

    fn range(
        &self,
        plan: &Plan,
        start: TimeMs,
        end: TimeMs,
        step: i64,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError> {
        Querier::range(self, plan, start, end, step, options)
    }
}

/// Which series, names and values there are in a stretch of time.
pub trait SeriesCatalog: Send + Sync {
    /// Label sets of the series that satisfy any of the matcher sets: sorted, each once. They count
    /// in `memory`.
    fn series(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<Labels>, StoreError>;
    /// Sorted label names.
    fn label_names(&self, sets: &[Vec<Matcher>], from: TimeMs, to: TimeMs)
    -> Result<Vec<String>, StoreError>;
    /// Sorted values of one label.
    fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError>;
    /// The newest sample of each series, unless it has ended: sorted by labels, each once. They
    /// count in `memory`.
    fn newest(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<NewestSample>, StoreError>;
    /// The exemplars of the series that satisfy any of the matcher sets, by series.
    fn exemplars(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<SeriesExemplarsJson>, StoreError>;
    /// Resolves when what is there of times up to `to` can be read; `None`: it can be.
    fn readable(&self, _to: TimeMs) -> Option<BoxFuture<'static, Result<(), ApiError>>> {
        None
    }
    /// Counts.
    fn stats(&self, limit: usize) -> HeadStats;
    /// Why answers may not be whole now; `None`: they are, or are errors.
    fn incomplete_reason(&self) -> Option<String> {
        None
    }
    /// Resolves when all that can have been read so far would survive kill -9, or if the log cannot
    /// be written.
    fn wait_committed(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Counts a series of a list.
pub fn count_labels(memory: &MemoryReservation, labels: &Labels) -> Result<(), StoreError> {
    let counted = memory.grow(labels.encoded().len() + LABELS_BYTES);
    counted.map_err(|e| StoreError::Refused(e.to_string()))
}

/// Counts a series of a list, with its newest sample.
pub fn count_sample(memory: &MemoryReservation, sample: &NewestSample) -> Result<(), StoreError> {
    count_labels(memory, &sample.labels)?;
    if let NewestValue::Histogram(h) = &sample.value {
        let counts = h.positive.counts.len() + h.negative.counts.len() + h.bounds.len();
        let spans = h.positive.spans.len() + h.negative.spans.len();
        let counted = memory.grow(size_of::<NativeHistogram>() + 8 * (counts + spans));
        counted.map_err(|e| StoreError::Refused(e.to_string()))?;
    }
    Ok(())
}

impl SeriesCatalog for Store {
    fn incomplete_reason(&self) -> Option<String> {
        Store::incomplete_reason(self)
    }
    fn series(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<Labels>, StoreError> {
        let mut found = Vec::new();
        for (set, shard) in sets.iter().flat_map(|set| (0..SHARDS).map(move |shard| (set, shard))) {
            let selection = self.select(shard, set, from, to)?;
            for (i, labels) in selection.labels.iter().enumerate() {
                if selection.may_have_samples(i, from, to)? {
                    count_labels(memory, labels)?;
                    found.push(labels.clone());
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn label_names(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        Store::label_names(self, sets, from, to)
    }

    fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        Store::label_values(self, name, sets, from, to)
    }

    fn newest(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<NewestSample>, StoreError> {
        let mut found = BTreeMap::new();
        for set in sets {
            let newest = self.newest_samples(set, from, to)?;
            newest.iter().try_for_each(|sample| count_sample(memory, sample))?;
            let is_sample = |sample: &NewestSample| match sample.value {
                NewestValue::Float(v) => value::is_sample(v) && !value::is_histogram(v),
                NewestValue::Histogram(_) => true,
            };
            let newest = newest.into_iter().filter(is_sample);
            found.extend(newest.map(|sample| (sample.labels.clone(), sample)));
        }
        Ok(found.into_values().collect())
    }

    fn exemplars(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<SeriesExemplarsJson>, StoreError> {
        let shown = |e: exemplars::Exemplar| ExemplarJson { labels: e.labels, value: e.v, t: e.t };
        let series = self.select_exemplars(sets, from, to).into_iter();
        Ok(series
            .map(|found| SeriesExemplarsJson {
                series_labels: found.labels,
                exemplars: found.exemplars.into_iter().map(shown).collect(),
            })
            .collect())
    }

    fn readable(&self, to: TimeMs) -> Option<BoxFuture<'static, Result<(), ApiError>>> {
        if !self.waits_for_replay(to) {
            return None;
        }
        let (tell, told) = oneshot::channel();
        self.on_replayed(Box::new(move |fate| drop(tell.send(fate))));
        let stopped = || Err(StoreError::Refused("the server is stopping".to_owned()));
        Some(Box::pin(async move { Ok(told.await.unwrap_or_else(|_| stopped())?) }))
    }

    fn stats(&self, limit: usize) -> HeadStats {
        Store::stats(self, limit)
    }

    fn wait_committed(&self) -> BoxFuture<'static, ()> {
        let (tell, told) = oneshot::channel::<()>();
        self.on_committed(self.last_lsn(), Box::new(move |_| drop(tell)));
        Box::pin(async move { told.await.unwrap_or_default() })
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
