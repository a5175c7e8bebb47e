//! Questions about the past of one rule.

use super::RecordingHistoryServices;
use super::limits::{PATIENCE, PIECE_SAMPLES, PRESENT_SLOTS};
use super::recorded_samples::{EvaluationRange, RecordingSpec, SamplesBySeries, merge_samples};
use engine::plan::Plan;
use engine::query::{QueryAnswer, QueryError, QueryOptions, depends_on_query_times};
use std::collections::{BTreeMap, BTreeSet};
use storage::model::{Labels, TimeMs};

/// Why there is no answer, and none that the question is to blame for.
pub(super) enum HistoryUnavailable {
    /// The server stops: none will come any more.
    Stopped,
    /// The store or another process of the cluster does not answer.
    Failed(String),
}

/// What some slots hold.
#[derive(Default)]
pub(super) struct ComputedSamples {
    pub samples: SamplesBySeries,
    /// Slots whose evaluation fails: they hold nothing.
    pub failed: BTreeSet<TimeMs>,
    /// Slots of which nobody knows: the question was too large, or took too long.
    pub unknown: BTreeSet<TimeMs>,
}

/// Who asks for one rule.
pub(super) struct PastRuleEvaluator<'a> {
    pub parts: &'a RecordingHistoryServices,
    pub plan: &'a Plan,
    pub recording: &'a RecordingSpec,
}

impl PastRuleEvaluator<'_> {
    /// The answers at some slots. Several are asked for at once only with a limit on their samples:
    /// who is refused asks for fewer.
    pub fn query(&self, slots: EvaluationRange) -> Result<QueryAnswer, QueryError> {
        let mut options = QueryOptions { timeout: PATIENCE, ..self.parts.options.clone() };
        if slots.len() == 1 {
            return self.parts.answers.instant(self.plan, slots.first, &options);
        }
        if depends_on_query_times(self.plan) {
            return Err(QueryError::Execution("must be asked slot by slot".to_owned()));
        }
        options.max_samples = options.max_samples.min(PIECE_SAMPLES);
        self.parts.answers.range(self.plan, slots.first, slots.last, slots.interval, &options)
    }

    /// The series with a value at the slot before `recorded_samples`; where that one failed, at the
    /// one before it, and so on, but not before `from`.
    pub fn series_alive_before(
        &self,
        slots: EvaluationRange,
        from: TimeMs,
    ) -> Result<BTreeSet<Labels>, HistoryUnavailable> {
        let EvaluationRange { first, interval, .. } = slots;
        let mut present = BTreeSet::new();
        let before = (1..=PRESENT_SLOTS).map(|n| first - n * interval).take_while(|t| *t >= from);
        for t in before {
            let slot = EvaluationRange { first: t, last: t, interval };
            let failed = match self.query(slot) {
                Ok(answer) => !self.recording.samples(answer, slot, &mut present).1.is_empty(),
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

    /// The samples of a few slots, asked for one by one where they fail together.
    pub fn samples(
        &self,
        slots: EvaluationRange,
        mut present: BTreeSet<Labels>,
    ) -> Result<ComputedSamples, HistoryUnavailable> {
        let mut all = ComputedSamples::default();
        match self.query(slots) {
            Ok(answer) => {
                all.add(self.recording.samples(answer, slots, &mut present));
                return Ok(all);
            }
            Err(error) => drop(query_fault(error)?),
        }
        for t in (0..slots.len()).map(|k| slots.first + k as i64 * slots.interval) {
            let slot = EvaluationRange { first: t, last: t, interval: slots.interval };
            match self.query(slot) {
                Ok(answer) => all.add(self.recording.samples(answer, slot, &mut present)),
                Err(error) => match query_fault(error)? {
                    error @ QueryError::Execution(_) if !error.is_too_large() => drop(all.failed.insert(t)),
                    _ => drop(all.unknown.insert(t)),
                },
            }
        }
        Ok(all)
    }
}

/// What is wrong with the question.
pub(super) fn query_fault(error: QueryError) -> Result<QueryError, HistoryUnavailable> {
    match error {
        QueryError::Canceled(_) => Err(HistoryUnavailable::Stopped),
        QueryError::Internal(why) => Err(HistoryUnavailable::Failed(why)),
        error => Ok(error),
    }
}

impl ComputedSamples {
    fn add(&mut self, (samples, failed): (SamplesBySeries, BTreeMap<TimeMs, String>)) {
        self.failed.extend(failed.into_keys());
        for (labels, one) in samples {
            match self.samples.get_mut(&labels) {
                Some(to) => merge_samples(to, one),
                None => drop(self.samples.insert(labels, one)),
            }
        }
    }
}
