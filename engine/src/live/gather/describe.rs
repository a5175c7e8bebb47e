//! The gather executor's part of a description ([`crate::live::describe`]): answers, failures and
//! gather steps of the views it owns. For a check it adds the view's answer and what the workers
//! reported ([`crate::live::check`](mod@crate::live::check)).

use super::super::check::{CheckReport, WorkerCheck};
use super::super::describe::{
    AnswerContent, AnswerReport, ByteCount, DescribeRequest, GatherReport, ViewFootprint, ViewReport,
};
use super::super::views::{EvaluationTimes, InstalledView};
use super::super::{ViewId, ViewSpec};
use super::GatherExecutor;
use super::view_check::ViewCheck;
use super::view_state::{ViewState, annotations};
use crate::operators::EvalError;
use crate::plan::physical::StepOp;
use crate::query::SubqueryCacheReport;
use storage::model::TimeMs;

impl GatherExecutor {
    /// Describes the views of this worker, as of the tick at `t`.
    pub fn describe(&mut self, request: &DescribeRequest, t: TimeMs) -> GatherReport {
        let mut report = self.report(request, t);
        let ViewCheck { view: checked, reports } = std::mem::take(&mut self.check);
        if request.check.is_some() && checked == Some(request.from) {
            for view in &mut report.views {
                view.answer.check = self.check(view.id, &reports);
            }
        }
        report
    }

    /// The tick that has begun evaluates all steps of this view.
    pub fn evaluate_for_check(&mut self, view: ViewId) {
        self.check.view = Some(view);
    }

    /// The view that this tick evaluates for a check.
    pub(super) fn checked_view(&self) -> Option<&InstalledView> {
        self.check.view.and_then(|id| self.views.all.get(&id))
    }

    /// The answer of a view that this tick has evaluated for a check, and what workers have sent
    /// for it; `None`: the view has not begun.
    fn check(&self, id: ViewId, checks: &[WorkerCheck]) -> Option<CheckReport> {
        let view = self.views.all.get(&id).filter(|view| view.batch.is_none())?;
        let state = self.outputs.get(id)?;
        let out = self.stage.output(view.root);
        // Whether rows of several shards have the same labels is seen when the answer is given.
        let duplicates = state.duplicates.is_some().then(|| state.history.lasting_failure()).flatten();
        let failure = out.error.clone().or(duplicates);
        let answer = failure.map_or_else(|| Ok(out.rows()), |error| Err(EvalError(error)));
        let of_view = || checks.iter().filter(|check| check.view == id);
        // The difference counts only if each worker says that nothing came to its shards.
        let is_complete = of_view().count() == self.views.peers();
        let raced = self.views.is_replaced(id) || !is_complete || of_view().any(|check| check.raced);
        let evaluations = of_view().flat_map(|check| check.evaluations.clone()).collect();
        Some(CheckReport { t: self.now, answer, raced, evaluations })
    }

    fn report(&self, request: &DescribeRequest, t: TimeMs) -> GatherReport {
        let requested = self.views.page(request.from, request.limit);
        let own = requested.filter(|(_, view)| view.owner == self.views.topology().index());
        let views = own.filter_map(|(id, view)| {
            let state = self.outputs.get(*id)?;
            let spec = ViewSpec::clone(&view.spec);
            let answer = self.answer_of(view, state, t, request.rows);
            let mut work = self.work_of(view, state);
            if request.limit == 1 {
                work.physical_plan = view.explain();
            }
            let subquery_cache = self.subquery_cache_of(view);
            Some(ViewReport { id: *id, spec, answer, work: Some(work), subquery_cache })
        });
        GatherReport { t, total: self.views.all.len(), views: views.collect() }
    }

    fn answer_of(&self, view: &InstalledView, state: &ViewState, t: TimeMs, rows: bool) -> AnswerReport {
        let out = self.stage.output(view.root);
        let mut answer = state.history.report(state.taps.len(), out.present().count());
        // A continuous view is complete as of each tick, even if nothing had to be evaluated.
        if view.times == EvaluationTimes::EveryTick && answer.frontier.is_some() {
            answer.frontier = Some(t);
        }
        let content =
            || AnswerContent { rows: out.rows(), annotations: annotations(view, &self.stage, &self.ports) };
        let wanted = rows && state.history.is_of(out.version);
        AnswerReport { content: wanted.then(content), ..answer }
    }

    /// What the caches of its subqueries hold.
    fn subquery_cache_of(&self, view: &InstalledView) -> Option<SubqueryCacheReport> {
        let mut all = SubqueryCacheReport::default();
        for (step, _) in self.views.gather.distinct(&view.gather) {
            all.add(self.store_steps.report(step));
        }
        (all.steps > 0).then_some(all)
    }

    fn work_of(&self, view: &InstalledView, state: &ViewState) -> ViewFootprint {
        let mut bytes = ByteCount::default();
        for (step, shared) in self.views.gather.distinct(&view.gather) {
            bytes.add(self.stage.bytes(step), shared);
            if let Some(StepOp::Port(local)) = self.views.gather.step(step).map(|step| &step.op) {
                bytes.add(self.ports.get(*local).map_or(0, |port| port.bytes()), shared);
            }
        }
        bytes.add(state.bytes(), false);
        ViewFootprint {
            state: bytes,
            owner: view.owner,
            round: view.round,
            local: self.views.local.sharing(&view.local),
            gather: self.views.gather.sharing(&view.gather),
            ..ViewFootprint::default()
        }
    }
}
