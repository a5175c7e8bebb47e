//! The local executor's part in the check of a view, which compares a maintained answer with one
//! computed from scratch: see [`crate::live::check`](mod@crate::live::check).

use super::LocalExecutor;
use super::shard::LocalShard;
use crate::limits::CHECKED_SERIES;
use crate::live::ViewId;
use crate::live::check::{ArrivalWatch, CheckRequest, LastEvaluation, WorkerCheck, may_contribute};
use crate::live::describe::DescribeRequest;
use crate::live::message::PortDelta;
use crate::live::views::InstalledView;
use crate::plan::explain::leaf_title;
use crate::plan::physical::StepId;
use storage::model::TimeMs;

impl LocalExecutor {
    /// Makes the tick that has begun evaluate all steps of this view.
    pub fn evaluate_for_check(&mut self, view: ViewId) {
        self.checked = Some(view);
    }

    /// The view that this tick evaluates for a check.
    pub(super) fn checked_view(&self) -> Option<&InstalledView> {
        self.checked.and_then(|id| self.views.all.get(&id))
    }

    /// The part of this worker in the check that a description requests, if it requests one. Called
    /// after the last round of the tick. Ends the watch of the previous check and begins the watch
    /// of this one.
    pub fn check(&mut self, request: &DescribeRequest) -> Option<PortDelta> {
        let id = request.from;
        let check = request.check.as_ref()?;
        self.checked = None;
        let mut raced = false;
        for shard in &mut self.shards {
            // Without a watch it is unknown what arrived.
            raced |= !shard.watch.take().is_some_and(|watch| watch.is_clear(id));
        }
        let view = self.views.all.get(&id)?;
        let mut evaluations = Vec::new();
        for shard in &mut self.shards {
            raced |= shard.keeps_waiting(&view.local);
            shard.watch = Some(Box::new(shard.watch_for(id, view, self.now, self.lookback)));
            for step in &view.local {
                shard.add_evaluations(*step, check, &mut evaluations);
            }
        }
        let checks = vec![WorkerCheck { view: id, raced, evaluations }];
        Some(PortDelta { checks, ..PortDelta::without_port(view.owner as u64) })
    }
}

impl LocalShard {
    /// A watch on the rings that the view reads, up to the times that it reads at `t`.
    fn watch_for(&self, id: ViewId, view: &InstalledView, t: TimeMs, lookback: i64) -> ArrivalWatch {
        let mut watch = ArrivalWatch::new(id);
        for slot in view.local.iter().filter_map(|step| self.leaves.get(*step)) {
            let (source, leaf) = slot.reads();
            let (_, ahead) = source.reach(leaf, lookback);
            watch.add(slot.ring, source.time(t, t, t) + ahead);
        }
        watch
    }

    /// Adds why a leaf last evaluated the series that may contribute to the requested rows.
    fn add_evaluations(&self, step: StepId, request: &CheckRequest, found: &mut Vec<LastEvaluation>) {
        let Some(slot) = self.leaves.get(step) else { return };
        let ring = self.rings.get(slot.ring);
        let (Some(ring), Some(leaf)) = (ring, &slot.state) else { return };
        for row in &request.rows {
            let of_row =
                leaf.evaluations(ring).filter(|(series, ..)| may_contribute(&ring.labels[*series], row));
            for (series, t, cause) in of_row.take(CHECKED_SERIES) {
                let (source, leaf) = slot.reads();
                let step = leaf_title(source, leaf);
                found.push(LastEvaluation { series: ring.labels[series].clone(), step, t, cause });
            }
        }
    }
}
