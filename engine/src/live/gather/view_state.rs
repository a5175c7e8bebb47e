//! The state of a view apart from its steps: its taps (which send the answer to consumers), its
//! recorder (which stores the answer as samples) and its history of evaluations; and what is done
//! with an answer.

use super::super::ViewSpec;
use super::super::cost::EvaluationCounts;
use super::super::describe::EvaluationHistory;
use super::super::error::AnswerError;
use super::super::recorder::Recorder;
use super::super::taps::Taps;
use super::super::views::InstalledView;
use super::ports::GatherPorts;
use crate::annotations::{Annotation, AnnotationSet};
use crate::heap_size::HeapSize;
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::stage::Stage;
use crate::operators::{DuplicateLabels, EvalError, StepOutput};
use std::sync::Arc;
use storage::model::TimeMs;
use storage::store::{ChangeEvent, FeedDelivery, Store};

/// The state of a view apart from its steps.
pub(super) struct ViewState {
    pub(super) taps: Taps,
    pub(super) recorder: Option<Recorder>,
    /// For answers that come directly from a port: several shards may have rows with the same
    /// labels, which no step has checked.
    pub(super) duplicates: Option<DuplicateLabels>,
    pub(super) history: EvaluationHistory,
    pub(super) counts: Arc<EvaluationCounts>,
}

impl ViewState {
    /// The state of a new view without consumers.
    pub(super) fn new(spec: &ViewSpec, counts: Arc<EvaluationCounts>) -> ViewState {
        ViewState {
            taps: Taps::default(),
            recorder: Recorder::new(&spec.name, &spec.kind, FeedDelivery::Nobody),
            duplicates: None,
            history: EvaluationHistory::default(),
            counts,
        }
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let duplicates = self.duplicates.as_ref().map_or(0, HeapSize::heap);
        size_of::<ViewState>()
            + self.taps.bytes()
            + self.recorder.as_ref().map_or(0, Recorder::bytes)
            + duplicates
    }

    /// From now on the answer is recorded as `spec` says. Returns the stale markers of series that
    /// are not recorded any more.
    pub(super) fn record_as(&mut self, spec: &ViewSpec, t: TimeMs, store: &Store) -> Vec<ChangeEvent> {
        if self.recorder.as_mut().is_some_and(|recorder| recorder.continue_as(&spec.kind)) {
            return Vec::new();
        }
        let next = Recorder::new(&spec.name, &spec.kind, FeedDelivery::Nobody);
        let before = std::mem::replace(&mut self.recorder, next);
        before.map_or_else(Vec::new, |mut recorder| recorder.end(t, store))
    }

    /// Records the answer and sends it to the taps. `recorded` gets the samples, which the rings
    /// must receive, too.
    pub(super) fn answer(
        &mut self,
        t: TimeMs,
        out: &StepOutput,
        annotations: Vec<Annotation>,
        store: &Store,
        recorded: &mut Vec<ChangeEvent>,
    ) -> Result<(), AnswerError> {
        let result = self.check_and_record(t, out, store, recorded);
        let error = result.as_ref().err().map(ToString::to_string);
        self.taps.send(t, out, annotations, error.as_ref());
        result
    }

    /// Checks the rows of an answer, and records them.
    fn check_and_record(
        &mut self,
        t: TimeMs,
        out: &StepOutput,
        store: &Store,
        recorded: &mut Vec<ChangeEvent>,
    ) -> Result<(), AnswerError> {
        if let Some(error) = &out.error {
            return Err(EvalError(error.clone()).into());
        }
        if let Some(duplicates) = &mut self.duplicates {
            let mut eval_guard = EvaluationGuard::free();
            duplicates.add_rows(out, &mut eval_guard)?;
            duplicates.check(out, &mut eval_guard)?;
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.record(t, out, store, recorded)?;
        }
        Ok(())
    }
}

/// The current annotations of a view: those of local steps come through its ports, those of gather
/// steps from the steps.
pub(super) fn annotations(view: &InstalledView, stage: &Stage, ports: &GatherPorts) -> Vec<Annotation> {
    let mut set = AnnotationSet::default();
    for port in
        view.ports.iter().filter_map(|port| ports.get(*port)).filter(|port| !port.annotations.is_empty())
    {
        for (step, annotation) in port.annotations.values().flatten() {
            let at = view.local.iter().position(|id| *id as u64 == *step);
            if let Some(origin) = at.and_then(|at| view.local_origins().get(at)) {
                set.add(annotation, origin);
            }
        }
    }
    for (id, origin) in view.gather.iter().zip(view.gather_origins()) {
        for annotation in stage.output(*id).annotations.iter() {
            set.add(annotation, origin);
        }
    }
    set.into_list()
}
