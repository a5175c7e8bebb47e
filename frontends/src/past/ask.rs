//! Questions about the past of one rule.

use super::Parts;
use super::limits::{PATIENCE, PIECE_SAMPLES, PRESENT_SLOTS};
use super::slots::{Recording, Samples, Slots, absorb};
use engine::plan::Plan;
use engine::query::{Answer, QueryError, QueryOptions, asks_own_times};
use std::collections::{BTreeMap, BTreeSet};
use storage::model::{Labels, TimeMs};

/// Why there is no answer, and none that the question is to blame for.
pub(super) enum Unanswered {
    /// The server stops: none will come any more.
    Stopped,
    /// The store or another process of the cluster does not answer.
    Failed(String),
}

/// What some slots hold.
#[derive(Default)]
pub(super) struct Computed {
    pub samples: Samples,
    /// Slots whose evaluation fails: they hold nothing.
    pub failed: BTreeSet<TimeMs>,
    /// Slots of which nobody knows: the question was too large, or took too long.
    pub unknown: BTreeSet<TimeMs>,
}

/// Who asks for one rule.
pub(super) struct Asker<'a> {
    pub parts: &'a Parts,
    pub plan: &'a Plan,
    pub recording: &'a Recording,
}

impl Asker<'_> {
    /// The answers at some slots. Several are asked for at once only with a limit on their samples: who is refused asks
    /// for fewer.
    pub fn ask(&self, slots: Slots) -> Result<Answer, QueryError> {
        let mut options = QueryOptions { timeout: PATIENCE, ..self.parts.options.clone() };
        if slots.len() == 1 {
            return self.parts.answers.instant(self.plan, slots.first, &options);
        }
        if asks_own_times(self.plan) {
            return Err(QueryError::Execution("must be asked slot by slot".to_owned()));
        }
        options.max_samples = options.max_samples.min(PIECE_SAMPLES);
        self.parts.answers.range(self.plan, slots.first, slots.last, slots.interval, &options)
    }

    /// The series with a value at the slot before `slots`; where that one failed, at the one before it, and so on, but
    /// not before `from`.
    pub fn present_before(&self, slots: Slots, from: TimeMs) -> Result<BTreeSet<Labels>, Unanswered> {
        let Slots { first, interval, .. } = slots;
        let mut present = BTreeSet::new();
        let before = (1..=PRESENT_SLOTS).map(|n| first - n * interval).take_while(|t| *t >= from);
        for t in before {
            let slot = Slots { first: t, last: t, interval };
            let failed = match self.ask(slot) {
                Ok(answer) => !self.recording.samples(answer, slot, &mut present).1.is_empty(),
                Err(error) => {
                    fault(error)?;
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
    pub fn samples(&self, slots: Slots, mut present: BTreeSet<Labels>) -> Result<Computed, Unanswered> {
        let mut all = Computed::default();
        match self.ask(slots) {
            Ok(answer) => {
                all.add(self.recording.samples(answer, slots, &mut present));
                return Ok(all);
            }
            Err(error) => drop(fault(error)?),
        }
        for t in (0..slots.len()).map(|k| slots.first + k as i64 * slots.interval) {
            let slot = Slots { first: t, last: t, interval: slots.interval };
            match self.ask(slot) {
                Ok(answer) => all.add(self.recording.samples(answer, slot, &mut present)),
                Err(error) => match fault(error)? {
                    error @ QueryError::Execution(_) if !error.is_too_large() => drop(all.failed.insert(t)),
                    _ => drop(all.unknown.insert(t)),
                },
            }
        }
        Ok(all)
    }
}

/// What is wrong with the question.
pub(super) fn fault(error: QueryError) -> Result<QueryError, Unanswered> {
    match error {
        QueryError::Canceled(_) => Err(Unanswered::Stopped),
        QueryError::Internal(why) => Err(Unanswered::Failed(why)),
        error => Ok(error),
    }
}

impl Computed {
    fn add(&mut self, (samples, failed): (Samples, BTreeMap<TimeMs, String>)) {
        self.failed.extend(failed.into_keys());
        for (labels, one) in samples {
            match self.samples.get_mut(&labels) {
                Some(to) => absorb(to, one),
                None => drop(self.samples.insert(labels, one)),
            }
        }
    }
}
