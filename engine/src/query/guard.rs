//! Limits of a running query: samples, memory, time, cancellation. The error texts are those of
//! Prometheus.
//!
//! Samples are counted as in Prometheus: those in the windows of all steps
//! ([`SampleStats::total`]), and those in memory at one time, to which the limit applies: all
//! values that selectors have returned so far, the current window, and the answer so far. In
//! addition bytes are counted ([`crate::memory`]), because a sample has eight bytes but labels may
//! have any number.

use super::{QueryError, QueryOptions};
use crate::memory::{MemoryPool, MemoryReservation};
use crate::operators::EvalError;
use crate::operators::evaluation_guard::{EvaluationGuard, Limits};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use storage::model::{NativeHistogram, TimeMs};

/// The samples that a query read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleStats {
    /// Samples in the windows of all steps. A sample that is in several windows counts in each of
    /// them.
    pub total: usize,
    /// Samples in the windows of all steps, each counted once per series.
    pub read: usize,
    /// Most samples in memory at one time.
    pub peak: usize,
    /// For each step that read samples: its time, and `total` and `read` of the step alone. Empty
    /// unless [`QueryOptions::step_stats`].
    pub steps: Vec<(TimeMs, usize, usize)>,
}

/// The samples that a piece of work read.
#[derive(Copy, Clone, Debug, Default)]
pub struct SampleUsage {
    /// Samples in its windows, as in [`SampleStats::total`].
    pub samples: usize,
    /// Samples that were in no earlier window.
    pub fresh: usize,
    /// Windows with samples; each gives a value.
    pub points: usize,
    /// Most samples in one window.
    pub largest: usize,
}

impl SampleUsage {
    /// Adds a window.
    pub fn window(&mut self, samples: usize, fresh: usize) {
        self.samples += samples;
        self.fresh += fresh;
        self.points += 1;
        // Of all windows only the current one is in memory, so the largest decides and not the sum.
        self.largest = self.largest.max(samples);
    }

    /// Adds the samples of another piece of work.
    pub fn add(&mut self, other: SampleUsage) {
        self.samples += other.samples;
        self.fresh += other.fresh;
        self.points += other.points;
        self.largest = self.largest.max(other.largest);
    }
}

/// The samples that another process read for this query since its last report.
#[derive(Copy, Clone, Debug, Default, Serialize, Deserialize)]
pub struct RemoteUsage {
    samples: usize,
    fresh: usize,
    points: usize,
}

/// Bytes of a point in memory: time and value.
pub(super) const POINT_BYTES: usize = size_of::<(TimeMs, f64)>();

/// Bytes of a histogram in memory, approximately: the number of samples that it counts as follows
/// from its size.
pub(super) fn histogram_bytes(histogram: &NativeHistogram) -> usize {
    histogram.samples() * POINT_BYTES
}

/// The limits and counters of a query. Every piece of work checks it often.
#[derive(Debug)]
pub struct QueryGuard {
    cancel: Arc<AtomicBool>,
    /// [`QueryOptions::samples_read`]
    watched: Arc<AtomicUsize>,
    started: Instant,
    timeout: Duration,
    max_samples: usize,
    total: AtomicUsize,
    read: AtomicUsize,
    held: AtomicUsize,
    peak: AtomicUsize,
    /// Samples in the rows of subqueries, of the whole query.
    subquery_samples: Arc<AtomicUsize>,
    steps: Option<Mutex<BTreeMap<TimeMs, (usize, usize)>>>,
    /// The memory of the query, including the queries inside it.
    memory: Arc<MemoryReservation>,
    /// The first error that stopped the query.
    stopped: Arc<OnceLock<QueryError>>,
    /// For tests: how many checks pass before the time counts as over.
    #[cfg(test)]
    samples_read: Arc<AtomicUsize>,
}

impl QueryGuard {
    /// A guard that starts now, for a query with a memory pool of its own.
    pub fn new(options: &QueryOptions) -> QueryGuard {
        QueryGuard::within(options, &MemoryPool::for_queries(usize::MAX))
    }

    /// A guard that starts now, for a query whose memory counts in a shared pool.
    #[allow(clippy::disallowed_methods, reason = "a timeout bounds work; no answer depends on this reading")]
    pub fn within(options: &QueryOptions, memory: &Arc<MemoryPool>) -> QueryGuard {
        QueryGuard {
            cancel: options.cancel.clone(),
            watched: options.samples_read.clone(),
            started: Instant::now(),
            timeout: options.timeout,
            max_samples: options.max_samples,
            total: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            subquery_samples: Arc::default(),
            steps: options.step_stats.then(Mutex::default),
            memory: Arc::new(memory.reservation(options.max_bytes)),
            stopped: Arc::default(),
            #[cfg(test)]
            samples_read: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }

    /// A guard whose time is over after `looks` checks.
    #[cfg(test)]
    pub fn lasting(looks: usize, options: &QueryOptions) -> QueryGuard {
        let guard = QueryGuard::new(options);
        guard.samples_read.store(looks, Relaxed);
        guard
    }

    /// How many of the checks of [`QueryGuard::lasting`] are left.
    #[cfg(test)]
    pub fn remaining_samples(&self) -> usize {
        self.samples_read.load(Relaxed)
    }

    /// A guard for a query inside this one: the same limits, but separate counters. Only the
    /// samples kept by subqueries are counted together.
    pub fn inner(&self) -> QueryGuard {
        let count = || AtomicUsize::new(0);
        QueryGuard {
            cancel: self.cancel.clone(),
            watched: self.watched.clone(),
            started: self.started,
            timeout: self.timeout,
            max_samples: self.max_samples,
            total: count(),
            read: count(),
            held: count(),
            peak: count(),
            // Shared, because these stay in memory while further subqueries run.
            subquery_samples: self.subquery_samples.clone(),
            steps: None,
            memory: self.memory.clone(),
            stopped: self.stopped.clone(),
            #[cfg(test)]
            samples_read: self.samples_read.clone(),
        }
    }

    /// Takes the peak of a query inside this one. Its other counters are ignored, as in Prometheus:
    /// only the windows over its rows count.
    pub fn merge_peak(&self, inner: &QueryGuard) {
        self.peak.fetch_max(inner.peak.load(Relaxed), Relaxed);
    }

    /// Fails when the query must stop, and always from then on.
    pub fn check(&self) -> Result<(), QueryError> {
        // Checked first: a client that waited until the timeout has gone as well, and the timeout
        // is the reason.
        if self.is_late() {
            return Err(self.stop(timed_out()));
        }
        if self.cancel.load(Relaxed) {
            let text = "query was canceled in expression evaluation";
            return Err(self.stop(QueryError::Canceled(text.to_owned())));
        }
        Ok(())
    }

    #[allow(clippy::disallowed_methods, reason = "as above")]
    fn is_late(&self) -> bool {
        #[cfg(test)]
        if self.samples_read.load(Relaxed) != usize::MAX
            && self.samples_read.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err()
        {
            return true;
        }
        self.started.elapsed() > self.timeout
    }

    /// Stores the error that stops the query, and returns the first one.
    fn stop(&self, error: QueryError) -> QueryError {
        // The first reason stays: threads that notice the stop later would report its consequences.
        self.stopped.get_or_init(|| error).clone()
    }

    /// The error of an evaluation that failed: the one of this guard if it stopped the query, else
    /// its own.
    pub(super) fn failure(&self, error: &str) -> QueryError {
        self.stopped.get().cloned().unwrap_or_else(|| QueryError::Execution(error.to_owned()))
    }

    /// Runs an operator or a loop within the limits.
    pub(super) fn paced<T>(
        &self,
        work: impl FnOnce(&mut EvaluationGuard) -> Result<T, EvalError>,
    ) -> Result<T, QueryError> {
        let mut eval_guard = EvaluationGuard::for_query(self);
        let done = work(&mut eval_guard);
        // What the work has counted but not yet reported must be counted before its result is used.
        done.and_then(|done| eval_guard.count_pending().map(|()| done)).map_err(|e| self.failure(&e.0))
    }

    /// Counts bytes that the query holds. Fails beyond its own limit or that of all queries.
    pub fn grow(&self, bytes: usize) -> Result<(), QueryError> {
        self.memory.grow(bytes).map_err(|e| self.stop(e.into()))
    }

    /// Counts bytes until the result is dropped.
    pub(super) fn grow_for_now(&self, bytes: usize) -> Result<Temporary, QueryError> {
        self.grow(bytes)?;
        Ok(Temporary { memory: self.memory.clone(), bytes })
    }

    /// The memory of the query, for an answer that lives longer than the guard.
    pub fn memory(&self) -> &Arc<MemoryReservation> {
        &self.memory
    }

    /// The timeout, and how much of it is left.
    #[allow(clippy::disallowed_methods, reason = "as above")]
    pub fn time_left(&self) -> (Duration, Duration) {
        (self.timeout, self.timeout.saturating_sub(self.started.elapsed()))
    }

    /// What was read since `reported`, which is updated.
    pub(super) fn counted_since(&self, reported: &mut RemoteUsage) -> RemoteUsage {
        let now = RemoteUsage {
            samples: self.total.load(Relaxed),
            fresh: self.read.load(Relaxed),
            points: self.held.load(Relaxed),
        };
        let before = std::mem::replace(reported, now);
        RemoteUsage {
            samples: now.samples - before.samples,
            fresh: now.fresh - before.fresh,
            points: now.points - before.points,
        }
    }

    /// Counts what another process read. The limit applies to all processes together.
    pub(super) fn count_remote(&self, counted: RemoteUsage) -> Result<(), QueryError> {
        let RemoteUsage { samples, fresh, points } = counted;
        self.count_samples(SampleUsage { samples, fresh, points, largest: 0 })
    }

    /// Another process had this many samples in memory at one time.
    pub(super) fn peaked(&self, samples: usize) {
        self.peak.fetch_max(samples, Relaxed);
    }

    /// Counts samples. Fails beyond the limit.
    pub fn count_samples(&self, seen: SampleUsage) -> Result<(), QueryError> {
        self.total.fetch_add(seen.samples, Relaxed);
        self.read.fetch_add(seen.fresh, Relaxed);
        self.watched.fetch_add(seen.fresh, Relaxed);
        // Relaxed is enough: each counter is read by itself, and the limit may be noticed one piece
        // of work late.
        let held = self.held.fetch_add(seen.points, Relaxed) + seen.points;
        // Minus one: the value of the largest window is among `points` already.
        self.check_in_memory(held + seen.largest.saturating_sub(1))
    }

    /// Whether samples are also counted by step.
    pub fn counts_steps(&self) -> bool {
        self.steps.is_some()
    }

    /// Adds to the samples of the step at `t`.
    pub fn count_step(&self, t: TimeMs, samples: usize, fresh: usize) {
        if let Some(steps) = &self.steps {
            let mut steps = steps.lock();
            let step = steps.entry(t).or_default();
            *step = (step.0 + samples, step.1 + fresh);
        }
    }

    /// Fails if the answer so far has too many points.
    pub fn check_answer_size(&self, points: usize) -> Result<(), QueryError> {
        self.peak.fetch_max(self.held.load(Relaxed).saturating_add(points), Relaxed);
        // The limit applies to the answer alone, the peak to everything that is in memory at this
        // moment.
        if points > self.max_samples { Err(too_many()) } else { Ok(()) }
    }

    /// Counts the rows of a subquery, which stay in memory until the outer query is complete. Fails
    /// if those of all subqueries are too many. Prometheus drops the rows of one before it
    /// evaluates the next, so it does not count this.
    pub(super) fn hold_subquery_samples(&self, samples: usize) -> Result<(), QueryError> {
        let kept = self.subquery_samples.fetch_add(samples, Relaxed).saturating_add(samples);
        if kept > self.max_samples { Err(too_many()) } else { Ok(()) }
    }

    /// The number of samples that [`QueryGuard::hold_subquery_samples`] has counted.
    pub(super) fn subquery_samples(&self) -> usize {
        self.subquery_samples.load(Relaxed)
    }

    /// Resets the number of kept subquery samples to `subquery_samples`, after the rows of inner
    /// subqueries were dropped.
    pub(super) fn release_subquery_samples(&self, kept: usize) {
        // A plain store: subqueries of one query run one after the other.
        self.subquery_samples.store(kept, Relaxed);
    }

    /// Checks the number of samples in memory.
    fn check_in_memory(&self, samples: usize) -> Result<(), QueryError> {
        self.peak.fetch_max(samples, Relaxed);
        if samples > self.max_samples { Err(too_many()) } else { Ok(()) }
    }

    /// The counters so far.
    pub fn samples(&self) -> SampleStats {
        let steps = self.steps.as_ref().map(|steps| steps.lock().clone()).unwrap_or_default();
        SampleStats {
            total: self.total.load(Relaxed),
            read: self.read.load(Relaxed),
            peak: self.peak.load(Relaxed),
            steps: steps.into_iter().map(|(t, (samples, fresh))| (t, samples, fresh)).collect(),
        }
    }
}

impl Limits for QueryGuard {
    fn check(&self) -> Result<(), EvalError> {
        QueryGuard::check(self).map_err(|e| EvalError(e.to_string()))
    }

    fn grow(&self, bytes: usize) -> Result<(), EvalError> {
        QueryGuard::grow(self, bytes).map_err(|e| EvalError(e.to_string()))
    }
}

/// Memory that is counted until this is dropped.
pub(super) struct Temporary {
    memory: Arc<MemoryReservation>,
    bytes: usize,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.memory.shrink(self.bytes);
    }
}

fn timed_out() -> QueryError {
    QueryError::Timeout("query timed out in expression evaluation".to_owned())
}

const TOO_MANY: &str = "query processing would load too many samples into memory in query execution";

pub(super) fn too_many() -> QueryError {
    QueryError::LimitReached(TOO_MANY.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_about_what_is_in_memory() {
        let guard =
            QueryGuard::new(&QueryOptions { max_samples: 10, step_stats: true, ..QueryOptions::default() });
        let mut seen = SampleUsage::default();
        for step in 0..4 {
            seen.window(5, if step == 0 { 5 } else { 1 });
        }
        assert_eq!(guard.count_samples(seen), Ok(()));
        guard.count_step(7, 5, 5);
        guard.count_step(7, 5, 1);
        let counted = guard.samples();
        assert_eq!((counted.total, counted.read, counted.peak), (20, 8, 8));
        assert_eq!(counted.steps, [(7, 10, 6)]);
        assert_eq!(guard.count_samples(seen), Err(too_many()), "8 values and a window of 5 are more than 10");
        assert_eq!(guard.check_answer_size(11), Err(too_many()));
        assert_eq!(guard.inner().count_samples(seen), Ok(()), "an inner query counts for itself");
        assert_eq!(
            (guard.inner().hold_subquery_samples(6), guard.inner().hold_subquery_samples(4)),
            (Ok(()), Ok(()))
        );
        assert_eq!(guard.hold_subquery_samples(1), Err(too_many()), "but not for what stays in memory");
        guard.release_subquery_samples(6);
        assert_eq!((guard.hold_subquery_samples(4), guard.subquery_samples()), (Ok(()), 10));
    }

    #[test]
    fn what_is_too_large_says_so() {
        let options = QueryOptions { max_bytes: 10, ..QueryOptions::default() };
        let guard = QueryGuard::within(&options, &MemoryPool::for_queries(100));
        assert_eq!(guard.grow(10), Ok(()));
        let error = guard.grow(1).expect_err("eleven bytes");
        let is_limit = |error: &QueryError| matches!(error, QueryError::LimitReached(_));
        assert!(is_limit(&error) && is_limit(&too_many()), "{error}");
        assert_eq!(guard.failure("something else"), error, "the first reason stays");
        let together = QueryGuard::within(&QueryOptions::default(), &MemoryPool::for_queries(5)).grow(6);
        assert!(is_limit(&together.expect_err("six bytes")));
        assert!(!is_limit(&QueryError::Execution("many-to-many".to_owned())));
        assert!(guard.grow_for_now(0).is_ok());
    }

    #[test]
    fn time_and_patience_end() {
        let options = QueryOptions { timeout: Duration::ZERO, ..QueryOptions::default() };
        assert!(matches!(QueryGuard::new(&options).check(), Err(QueryError::Timeout(_))));
        let options = QueryOptions::default();
        let guard = QueryGuard::new(&options);
        assert_eq!(guard.check(), Ok(()));
        options.cancel.store(true, Relaxed);
        assert!(matches!(guard.inner().check(), Err(QueryError::Canceled(_))));
    }
}
