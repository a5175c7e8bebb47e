//! The gather host: one per worker, the gather stage of the views it owns, and what becomes of their answers:
//! recorded samples, taps.
//!
//! As [`super::local`] it knows nothing of timely: it takes port deltas and control messages, and at each
//! round hands out the samples that were recorded.

use super::message::PortDelta;
use super::record::Recorder;
use super::tap::{Taps, Waiting};
use super::views::Views;
use super::{TapId, ViewId, ViewSpec};
use crate::operators::bits::Bits;
use crate::operators::stage::Stage;
use crate::operators::{Changed, EvalError, Output, Twins};
use crate::plan::physical::{StepId, StepOp};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use storage::metrics::Counter;
use storage::model::{SHARDS, TimeMs};
use storage::store::{FeedItem, Store};

/// See the module.
pub struct GatherHost {
    worker: usize,
    store: Arc<Store>,
    views: Views,
    stage: Stage,
    /// By local step.
    ports: HashMap<StepId, Port>,
    /// Ports that something came for since the last round.
    touched: Vec<StepId>,
    states: BTreeMap<ViewId, State>,
    taps: HashMap<TapId, ViewId>,
    waiting: Waiting,
    failures: Arc<Counter>,
    evaluations: Arc<Counter>,
}

/// A port as its owner sees it.
struct Port {
    step: StepId,
    /// Row of the stage by shard and row of the shard.
    rows: Vec<Vec<u32>>,
    touched: Vec<u32>,
    all: bool,
    errors: BTreeMap<u16, String>,
}

/// What a view has besides its steps.
struct State {
    taps: Taps,
    recorder: Option<Recorder>,
    /// For answers that come straight out of a port: shards may hold rows with the same labels.
    twins: Option<Twins>,
}

impl GatherHost {
    /// The host of worker `worker` of `peers`.
    pub fn new(
        worker: usize,
        peers: usize,
        store: Arc<Store>,
        waiting: Waiting,
        counters: [Arc<Counter>; 2],
    ) -> GatherHost {
        let [evaluations, failures] = counters;
        GatherHost {
            worker,
            store,
            views: Views::new(worker, peers),
            stage: Stage::default(),
            ports: HashMap::new(),
            touched: Vec::new(),
            states: BTreeMap::new(),
            taps: HashMap::new(),
            waiting,
            failures,
            evaluations,
        }
    }

    /// Installs a view.
    pub fn install(&mut self, id: ViewId, spec: ViewSpec) {
        let recorder = Recorder::new(&spec.name, &spec.kind);
        if self.add_steps(id, spec) {
            let twins = self.twins(id);
            self.states.insert(id, State { taps: Taps::default(), recorder, twins });
        }
    }

    /// Adds a view's steps; whether this worker owns it.
    fn add_steps(&mut self, id: ViewId, spec: ViewSpec) -> bool {
        let Ok(added) = self.views.install(id, spec) else { return false };
        for step in added.gather {
            let Some(step_ref) = self.views.gather.step(step) else { continue };
            self.stage.add(step_ref);
            if let StepOp::Port(local) = step_ref.op {
                self.ports.insert(local, Port::new(step));
            }
        }
        self.views.all.get(&id).is_some_and(|view| view.owner == self.worker)
    }

    /// A check for equal labels, for a view whose answer comes straight out of a port.
    fn twins(&self, id: ViewId) -> Option<Twins> {
        let root = self.views.all.get(&id).and_then(|view| self.views.gather.step(view.root));
        root.is_some_and(|step| matches!(step.op, StepOp::Port(_))).then(Twins::default)
    }

    /// Builds everything anew; see [`super::local::LocalHost::rebuild`]. Consumers get a fresh snapshot.
    pub fn rebuild(&mut self) {
        let (views, specs) = self.views.restart();
        self.views = views;
        self.stage = Stage::default();
        self.ports.clear();
        for (id, spec) in specs {
            self.add_steps(id, spec);
            let twins = self.twins(id);
            if let Some(state) = self.states.get_mut(&id) {
                state.taps.restart();
                state.recorder.iter_mut().for_each(Recorder::restart);
                state.twins = twins;
            }
        }
    }

    /// Removes a view; returns the stale markers of its recorded series.
    pub fn remove(&mut self, id: ViewId, t: TimeMs) -> Vec<FeedItem> {
        let Some((_, _, gone)) = self.views.remove(id) else { return Vec::new() };
        for step in &gone {
            self.stage.remove(*step);
        }
        self.ports.retain(|_, port| !gone.contains(&port.step));
        self.taps.retain(|_, view| *view != id);
        let recorder = self.states.remove(&id).and_then(|state| state.recorder);
        recorder.map_or_else(Vec::new, |mut recorder| recorder.end(t, &self.store))
    }

    /// Attaches a consumer, if this worker owns the view.
    pub fn tap(&mut self, view: ViewId, tap: TapId) {
        let Some(state) = self.states.get_mut(&view) else { return };
        if let Some(sink) = self.waiting.lock().remove(&tap) {
            state.taps.add(tap, sink);
            self.taps.insert(tap, view);
        }
    }

    /// Detaches a consumer.
    pub fn untap(&mut self, tap: TapId) {
        self.waiting.lock().remove(&tap);
        let view = self.taps.remove(&tap);
        if let Some(state) = view.and_then(|view| self.states.get_mut(&view)) {
            state.taps.remove(tap);
        }
    }

    /// Takes what changed in a port.
    pub fn delta(&mut self, delta: PortDelta) {
        let local = delta.port as StepId;
        if let Some(port) = self.ports.get_mut(&local) {
            if port.touched.is_empty() && !port.all {
                self.touched.push(local);
            }
            port.apply(delta, self.stage.output_mut(port.step));
        }
    }

    /// The last round of the tick at `t`.
    pub fn last_round(&mut self, t: TimeMs) -> u64 {
        self.views.settle();
        self.views.last_round(t)
    }

    /// Evaluates what is due in a round; returns recorded samples.
    pub fn round(&mut self, t: TimeMs, round: u64) -> Vec<FeedItem> {
        for local in std::mem::take(&mut self.touched) {
            let Some(port) = self.ports.get_mut(&local) else { continue };
            if port.publish(self.stage.output_mut(port.step)) {
                self.stage.changed(port.step);
            }
        }
        let (mut steps, mut due) = (Bits::default(), Vec::new());
        for batch in self.views.due(t, round) {
            steps.extend(&batch.gather);
            due.extend(&batch.views);
        }
        self.eval(&steps, t);
        let mut recorded = Vec::new();
        for id in due {
            let Some(state) = self.states.get_mut(&id) else { continue };
            let Some(view) = self.views.all.get(&id) else { continue };
            let out = self.stage.output(view.root);
            self.evaluations.inc();
            match state.answer(t, out, &self.store) {
                Ok(items) => recorded.extend(items),
                Err(error) => {
                    self.failures.inc();
                    tracing::debug!(view = view.spec.name, %error, "evaluation failed");
                }
            }
        }
        recorded
    }
}

impl GatherHost {
    /// Evaluates what is due and dirty, in order.
    fn eval(&mut self, due: &Bits, t: TimeMs) {
        let mut from = 0;
        self.stage.begin();
        while let Some(step) = self.stage.next(due, from) {
            let version = self.stage.output(step).version;
            self.stage.eval(step, t);
            if self.stage.output(step).version != version {
                self.stage.changed(step);
            }
            from = step + 1;
        }
    }
}

impl State {
    /// Records the answer and tells the taps.
    fn answer(&mut self, t: TimeMs, out: &Output, store: &Store) -> Result<Vec<FeedItem>, String> {
        let mut result = out.error.clone().map_or(Ok(Vec::new()), Err);
        if let (Ok(_), Some(twins)) = (&result, self.twins.as_mut()) {
            twins.learn(out);
            result = twins.check(out).map(|()| Vec::new()).map_err(|EvalError(error)| error);
        }
        if let (Ok(_), Some(recorder)) = (&result, self.recorder.as_mut()) {
            result = recorder.record(t, out, store);
        }
        self.taps.tell(t, out, result.as_ref().err());
        result
    }
}

impl Port {
    fn new(step: StepId) -> Port {
        let rows = (0..SHARDS).map(|_| Vec::new()).collect();
        Port { step, rows, touched: Vec::new(), all: false, errors: BTreeMap::new() }
    }

    fn apply(&mut self, delta: PortDelta, out: &mut Output) {
        out.extra.resize_with(delta.lanes.len().saturating_sub(1).max(out.extra.len()), Vec::new);
        out.extra.iter_mut().for_each(|lane| lane.resize(out.values.len(), storage::model::value::ABSENT));
        let rows = &mut self.rows[usize::from(delta.shard)];
        for labels in delta.labels {
            rows.push(out.add_row(labels) as u32);
            out.shards.push(delta.shard);
            out.sorted = false;
        }
        for (i, row) in delta.rows.iter().enumerate() {
            let row = rows[*row as usize];
            out.values[row as usize] = delta.lanes[0][i];
            for (to, from) in out.extra.iter_mut().zip(&delta.lanes[1..]) {
                to[row as usize] = from[i];
            }
            self.touched.push(row);
        }
        let before = self.errors.remove(&delta.shard);
        self.all |= before != delta.error;
        if let Some(error) = delta.error {
            self.errors.insert(delta.shard, error);
        }
    }

    /// Makes what came in visible to the steps that read the port; whether anything did.
    fn publish(&mut self, out: &mut Output) -> bool {
        if self.touched.is_empty() && !self.all {
            return false;
        }
        let touched = std::mem::take(&mut self.touched);
        out.changed = if std::mem::take(&mut self.all) { Changed::All } else { Changed::Rows(touched) };
        out.error = self.errors.values().next().cloned();
        out.version += 1;
        true
    }
}
