//! Where the answers of the views that a worker owns go: their recorders, which store them as
//! series, and their taps, which send them to consumers. [`super::view_state`] is the state of one
//! view.

use super::super::cost::CostLedger;
use super::super::taps::PendingSinks;
use super::super::{TapId, ViewId, ViewSpec};
use super::view_state::ViewState;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The states of all views of this worker, and their taps.
pub(super) struct ViewOutputs {
    states: BTreeMap<ViewId, ViewState>,
    taps: HashMap<TapId, ViewId>,
    /// Sinks that wait for the worker that owns their view; all workers share them.
    pending: PendingSinks,
    /// The accounts of the views' costs; all workers share them.
    ledger: Arc<CostLedger>,
}

/// What attaching a consumer means for its view.
pub(super) struct AttachedTap {
    /// The consumer wants annotations.
    pub wants_annotations: bool,
}

impl ViewOutputs {
    /// Without views.
    pub(super) fn new(pending: PendingSinks, ledger: Arc<CostLedger>) -> ViewOutputs {
        ViewOutputs { states: BTreeMap::new(), taps: HashMap::new(), pending, ledger }
    }

    /// Adds a view, unless it is there: a view that is being replaced keeps its state until the new
    /// plan begins.
    pub(super) fn add(&mut self, id: ViewId, spec: &ViewSpec) {
        self.states.entry(id).or_insert_with(|| ViewState::new(spec, self.ledger.open(id)));
    }

    /// The state of a view of this worker.
    pub(super) fn get(&self, id: ViewId) -> Option<&ViewState> {
        self.states.get(&id)
    }

    /// The state of a view of this worker.
    pub(super) fn get_mut(&mut self, id: ViewId) -> Option<&mut ViewState> {
        self.states.get_mut(&id)
    }

    /// Whether this worker owns the view.
    pub(super) fn contains(&self, id: ViewId) -> bool {
        self.states.contains_key(&id)
    }

    /// The views of this worker, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = ViewId> + '_ {
        self.states.keys().copied()
    }

    /// Removes a view, its taps and its account. Only the worker that owns it has had its state.
    pub(super) fn remove(&mut self, id: ViewId) -> Option<ViewState> {
        self.ledger.forget(id);
        let state = self.states.remove(&id)?;
        for tap in state.taps.ids() {
            self.taps.remove(&tap);
        }
        Some(state)
    }

    /// Attaches a consumer. `None`: this worker does not own the view, or the consumer is gone.
    pub(super) fn attach(&mut self, view: ViewId, tap: TapId) -> Option<AttachedTap> {
        let state = self.states.get_mut(&view)?;
        let sink = self.pending.lock().remove(&tap)?;
        let wants_annotations = sink.wants_annotations();
        state.taps.add(tap, sink);
        self.taps.insert(tap, view);
        Some(AttachedTap { wants_annotations })
    }

    /// Detaches a consumer. Returns its view, if this worker owns it.
    pub(super) fn detach(&mut self, tap: TapId) -> Option<ViewId> {
        self.pending.lock().remove(&tap);
        let view = self.taps.remove(&tap)?;
        if let Some(state) = self.states.get_mut(&view) {
            state.taps.remove(tap);
        }
        Some(view)
    }
}
