//! Evaluates the plan of one recording rule over history, at one or many evaluation times, for
//! backfill ([`super::backfill`]) and corrections ([`super::corrector`]).

use super::RecordingHistoryServices;
use super::limits::{BACKFILL_SAMPLES, PATIENCE, PRESENT_TIMES};
use super::recorded_samples::{
    EvaluationRange, RecordedSamples, RecordingSpec, SamplesBySeries, merge_samples,
};
use engine::plan::Plan;
use engine::query::{QueryAnswer, QueryError, QueryOptions, depends_on_query_times};
use std::collections::BTreeSet;
use storage::model::{Labels, TimeMs};

/// Why there is no answer, other than an error of the query.
pub(super) enum HistoryUnavailable {
    /// The server is stopping.
    Stopped,
    /// The store or another process of the cluster does not answer.
    Failed(String),
}

/// The samples of some evaluation times.
#[derive(Default)]
pub(super) struct ComputedSamples {
    /// The samples by series.
    pub samples: SamplesBySeries,
    /// Times whose evaluation fails: they have no samples.
    pub failed: BTreeSet<TimeMs>,
    /// Times whose result is not known: the query was too large, or took too long.
    pub unknown: BTreeSet<TimeMs>,
}

/// Evaluates one rule.
pub(super) struct PastRuleEvaluator<'a> {
    /// What backfill and corrections use.
    pub services: &'a RecordingHistoryServices,
    /// The expression of the rule.
    pub plan: &'a Plan,
    /// How its answers become samples.
    pub recording: &'a RecordingSpec,
}

impl PastRuleEvaluator<'_> {
    /// The answers at some times. Queries for several times have a limit of samples: if it is
    /// exceeded, the caller must use fewer times.
    pub(super) fn query(&self, times: EvaluationRange) -> Result<QueryAnswer, QueryError> {
        let mut options = QueryOptions { timeout: PATIENCE, ..self.services.options.clone() };
        if times.len() == 1 {
            // A single time is an instant query, which every plan can answer, see below.
            return self.services.answers.instant(self.plan, times.first, &options);
        }
        // `@ start()` and `@ end()` mean the evaluation time itself for a rule, but the ends of the
        // range here.
        if depends_on_query_times(self.plan) {
            return Err(QueryError::Execution("must be asked slot by slot".to_owned()));
        }
        // Fewer than the limit of people's queries: this work is not urgent and must leave them
        // memory.
        options.max_samples = options.max_samples.min(BACKFILL_SAMPLES);
        self.services.answers.range(self.plan, times.first, times.last, times.interval, &options)
    }

    /// The series with a value at the time before `times`; if that evaluation failed, at the time
    /// before it, and so on, but not before `from`.
    pub(super) fn series_alive_before(
        &self,
        times: EvaluationRange,
        from: TimeMs,
    ) -> Result<BTreeSet<Labels>, HistoryUnavailable> {
        let EvaluationRange { first, interval, .. } = times;
        let mut present = BTreeSet::new();
        // Bounded, because a rule that always failed would be evaluated back to its beginning.
        let before = (1..=PRESENT_TIMES).map(|n| first - n * interval).take_while(|t| *t >= from);
        for t in before {
            let time = EvaluationRange { first: t, last: t, interval };
            let failed = match self.query(time) {
                Ok(answer) => !self.recording.samples(answer, time, &mut present).failed.is_empty(),
                Err(error) => {
                    query_fault(error)?;
                    true
                }
            };
            if !failed {
                break;
            }
        }
        Ok(present)
    }

    /// The samples of a few evaluation times; evaluated one by one if they fail together.
    pub(super) fn samples(
        &self,
        times: EvaluationRange,
        mut present: BTreeSet<Labels>,
    ) -> Result<ComputedSamples, HistoryUnavailable> {
        let mut all = ComputedSamples::default();
        match self.query(times) {
            Ok(answer) => {
                all.add(self.recording.samples(answer, times, &mut present));
                return Ok(all);
            }
            Err(error) => drop(query_fault(error)?),
        }
        // One by one, since one bad time fails the whole range, and live recording skips only that
        // time.
        for t in (0..times.len()).map(|k| times.first + k as i64 * times.interval) {
            let time = EvaluationRange { first: t, last: t, interval: times.interval };
            match self.query(time) {
                Ok(answer) => all.add(self.recording.samples(answer, time, &mut present)),
                Err(error) => match query_fault(error)? {
                    // An evaluation error is an answer: live recording would have had it as well,
                    // and no samples. A limit that was hit says nothing about that.
                    QueryError::Execution(_) => drop(all.failed.insert(t)),
                    _ => drop(all.unknown.insert(t)),
                },
            }
        }
        Ok(all)
    }
}

/// The error, if it is one of the query.
pub(super) fn query_fault(error: QueryError) -> Result<QueryError, HistoryUnavailable> {
    match error {
        QueryError::Canceled(_) => Err(HistoryUnavailable::Stopped),
        QueryError::Internal(why) | QueryError::Unavailable(why) => Err(HistoryUnavailable::Failed(why)),
        error => Ok(error),
    }
}

impl ComputedSamples {
    fn add(&mut self, recorded: RecordedSamples) {
        self.failed.extend(recorded.failed.into_keys());
        for (labels, one) in recorded.samples {
            match self.samples.get_mut(&labels) {
                Some(to) => merge_samples(to, one),
                None => drop(self.samples.insert(labels, one)),
            }
        }
    }
}
