//! Limits of a running query: samples, time, the client's patience. Texts are Prometheus'.
//!
//! Samples are counted as Prometheus counts them: what the windows of all steps hold ([`SampleCounts::total`]), and what
//! is in memory at one time, which the limit is about: every value that a selector has given so far, the window at
//! work, and the answer in the making.

use super::{QueryError, QueryOptions};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use storage::model::TimeMs;

/// What a query looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleCounts {
    /// Samples in the windows of all steps: one that several windows hold counts for each of them.
    pub total: usize,
    /// Samples in the windows of all steps, each counted once for its series.
    pub read: usize,
    /// Most samples in memory at one time.
    pub peak: usize,
    /// Of each step at which anything was seen: its time, and `total` and `read` of it alone. Empty unless
    /// [`QueryOptions::step_stats`].
    pub steps: Vec<(TimeMs, usize, usize)>,
}

/// What a piece of work looked at.
#[derive(Copy, Clone, Debug, Default)]
pub struct Seen {
    /// Samples in its windows: see [`SampleCounts::total`].
    pub samples: usize,
    /// Those that no earlier window held.
    pub fresh: usize,
    /// Windows that held any: values that it gave.
    pub points: usize,
    /// Most samples of one window.
    pub largest: usize,
}

impl Seen {
    /// Adds a window.
    pub fn window(&mut self, samples: usize, fresh: usize) {
        self.samples += samples;
        self.fresh += fresh;
        self.points += 1;
        self.largest = self.largest.max(samples);
    }

    /// Adds what another piece of work looked at.
    pub fn add(&mut self, other: Seen) {
        self.samples += other.samples;
        self.fresh += other.fresh;
        self.points += other.points;
        self.largest = self.largest.max(other.largest);
    }
}

/// What another process looked at for this query since it last said so.
#[derive(Copy, Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counted {
    samples: usize,
    fresh: usize,
    points: usize,
}

/// Asked by every piece of work, often.
#[derive(Debug)]
pub struct Guard {
    cancel: Arc<AtomicBool>,
    started: Instant,
    timeout: Duration,
    max_samples: usize,
    total: AtomicUsize,
    read: AtomicUsize,
    held: AtomicUsize,
    peak: AtomicUsize,
    /// Samples in the rows of subqueries, of all of the query.
    kept: Arc<AtomicUsize>,
    steps: Option<Mutex<BTreeMap<TimeMs, (usize, usize)>>>,
}

impl Guard {
    /// A guard that starts counting now.
    #[allow(clippy::disallowed_methods, reason = "a timeout bounds work; no answer depends on this reading")]
    pub fn new(options: &QueryOptions) -> Guard {
        Guard {
            cancel: options.cancel.clone(),
            started: Instant::now(),
            timeout: options.timeout,
            max_samples: options.max_samples,
            total: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            kept: Arc::default(),
            steps: options.step_stats.then(Mutex::default),
        }
    }

    /// A guard of a query inside this one: the same limits, counts of its own. What subqueries keep is counted together.
    pub fn inner(&self) -> Guard {
        let count = || AtomicUsize::new(0);
        Guard {
            cancel: self.cancel.clone(),
            started: self.started,
            timeout: self.timeout,
            max_samples: self.max_samples,
            total: count(),
            read: count(),
            held: count(),
            peak: count(),
            kept: self.kept.clone(),
            steps: None,
        }
    }

    /// Takes over what a query inside this one reached at its peak; of its counts only the windows over its rows
    /// are this query's.
    pub fn adopt(&self, inner: &Guard) {
        self.peak.fetch_max(inner.peak.load(Relaxed), Relaxed);
    }

    /// Fails when the query must stop.
    #[allow(clippy::disallowed_methods, reason = "as above")]
    pub fn check(&self) -> Result<(), QueryError> {
        if self.cancel.load(Relaxed) {
            return Err(QueryError::Canceled("query was canceled in expression evaluation".to_owned()));
        }
        if self.started.elapsed() > self.timeout {
            return Err(QueryError::Timeout("query timed out in expression evaluation".to_owned()));
        }
        Ok(())
    }

    /// How long the query may take, and how much of that is left.
    #[allow(clippy::disallowed_methods, reason = "as above")]
    pub fn patience(&self) -> (Duration, Duration) {
        (self.timeout, self.timeout.saturating_sub(self.started.elapsed()))
    }

    /// What was looked at since `said`, which is brought up to date.
    pub(super) fn counted_since(&self, said: &mut Counted) -> Counted {
        let now = Counted {
            samples: self.total.load(Relaxed),
            fresh: self.read.load(Relaxed),
            points: self.held.load(Relaxed),
        };
        let before = std::mem::replace(said, now);
        Counted {
            samples: now.samples - before.samples,
            fresh: now.fresh - before.fresh,
            points: now.points - before.points,
        }
    }

    /// Counts what another process looked at; fails beyond the limit, which is one for all processes.
    pub(super) fn look_elsewhere(&self, counted: Counted) -> Result<(), QueryError> {
        let Counted { samples, fresh, points } = counted;
        self.look(Seen { samples, fresh, points, largest: 0 })
    }

    /// Another process had so many samples in memory at one time.
    pub(super) fn peaked(&self, samples: usize) {
        self.peak.fetch_max(samples, Relaxed);
    }

    /// Counts what was looked at; fails beyond the limit.
    pub fn look(&self, seen: Seen) -> Result<(), QueryError> {
        self.total.fetch_add(seen.samples, Relaxed);
        self.read.fetch_add(seen.fresh, Relaxed);
        let held = self.held.fetch_add(seen.points, Relaxed) + seen.points;
        self.reach(held + seen.largest.saturating_sub(1))
    }

    /// Whether [`Guard::look_at`] wants to know.
    pub fn counts_steps(&self) -> bool {
        self.steps.is_some()
    }

    /// Counts what the step at `t` looked at, once more.
    pub fn look_at(&self, t: TimeMs, samples: usize, fresh: usize) {
        if let Some(steps) = &self.steps {
            let mut steps = steps.lock();
            let step = steps.entry(t).or_default();
            *step = (step.0 + samples, step.1 + fresh);
        }
    }

    /// Fails if an answer in the making holds too many points.
    pub fn hold(&self, points: usize) -> Result<(), QueryError> {
        self.peak.fetch_max(self.held.load(Relaxed).saturating_add(points), Relaxed);
        if points > self.max_samples { Err(too_many()) } else { Ok(()) }
    }

    /// The rows of a subquery, with so many samples, stay until the query that it is part of is done. Fails if those of
    /// all subqueries are too many: Prometheus lets go of one before it asks the next, and need not count that.
    pub(super) fn keep(&self, samples: usize) -> Result<(), QueryError> {
        let kept = self.kept.fetch_add(samples, Relaxed).saturating_add(samples);
        if kept > self.max_samples { Err(too_many()) } else { Ok(()) }
    }

    /// How much [`Guard::keep`] has counted.
    pub(super) fn kept(&self) -> usize {
        self.kept.load(Relaxed)
    }

    /// Only so much is kept any more.
    pub(super) fn let_go(&self, kept: usize) {
        self.kept.store(kept, Relaxed);
    }

    /// So much is in memory.
    fn reach(&self, samples: usize) -> Result<(), QueryError> {
        self.peak.fetch_max(samples, Relaxed);
        if samples > self.max_samples { Err(too_many()) } else { Ok(()) }
    }

    /// What was looked at so far.
    pub fn samples(&self) -> SampleCounts {
        let steps = self.steps.as_ref().map(|steps| steps.lock().clone()).unwrap_or_default();
        SampleCounts {
            total: self.total.load(Relaxed),
            read: self.read.load(Relaxed),
            peak: self.peak.load(Relaxed),
            steps: steps.into_iter().map(|(t, (samples, fresh))| (t, samples, fresh)).collect(),
        }
    }
}

pub(super) fn too_many() -> QueryError {
    let text = "query processing would load too many samples into memory in query execution";
    QueryError::Execution(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_about_what_is_in_memory() {
        let guard =
            Guard::new(&QueryOptions { max_samples: 10, step_stats: true, ..QueryOptions::default() });
        let mut seen = Seen::default();
        (0..4).for_each(|step| seen.window(5, if step == 0 { 5 } else { 1 }));
        assert_eq!(guard.look(seen), Ok(()));
        guard.look_at(7, 5, 5);
        guard.look_at(7, 5, 1);
        let counted = guard.samples();
        assert_eq!((counted.total, counted.read, counted.peak), (20, 8, 8));
        assert_eq!(counted.steps, [(7, 10, 6)]);
        assert_eq!(guard.look(seen), Err(too_many()), "8 values and a window of 5 are more than 10");
        assert_eq!(guard.hold(11), Err(too_many()));
        assert_eq!(guard.inner().look(seen), Ok(()), "an inner query counts for itself");
        assert_eq!((guard.inner().keep(6), guard.inner().keep(4)), (Ok(()), Ok(())));
        assert_eq!(guard.keep(1), Err(too_many()), "but not for what stays in memory");
        guard.let_go(6);
        assert_eq!((guard.keep(4), guard.kept()), (Ok(()), 10));
    }

    #[test]
    fn time_and_patience_end() {
        let options = QueryOptions { timeout: Duration::ZERO, ..QueryOptions::default() };
        assert!(matches!(Guard::new(&options).check(), Err(QueryError::Timeout(_))));
        let options = QueryOptions::default();
        let guard = Guard::new(&options);
        assert_eq!(guard.check(), Ok(()));
        options.cancel.store(true, Relaxed);
        assert!(matches!(guard.inner().check(), Err(QueryError::Canceled(_))));
    }
}
