//! The local host: one per worker, the local stage of all views over the shards it owns.
//!
//! It takes samples and control messages, and at each round hands out what changed in its ports. It knows
//! nothing of timely ([`super::dataflow`] drives it) and of no clock: ticks come to it.

use super::leaf::LeafState;
use super::message::PortDelta;
use super::ring::{Ring, Route, series_of};
use super::views::Views;
use super::{ViewId, ViewSpec};
use crate::limits::SWEEP_MS;
use crate::operators::bits::Bits;
use crate::operators::stage::Stage;
use crate::operators::{Changed, Output};
use crate::plan::physical::{Leaf, Source, StepId, StepOp};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use storage::metrics::Counter;
use storage::model::{Labels, Matcher, SHARDS, SeriesRef, TimeMs};
use storage::store::{Columns, FeedData, FeedItem, GroupId, Layout, Store};

/// Rings keep this much more than their windows, ms: ticks and samples are not quite in step.
const SLACK: i64 = 30_000;

/// See the module.
pub struct LocalHost {
    store: Arc<Store>,
    lookback: i64,
    views: Views,
    shards: Vec<Shard>,
    rings: RingTable,
    rows_touched: Arc<Counter>,
    without_past: Arc<Counter>,
    /// When dead rows were last counted.
    swept: TimeMs,
}

/// Which selector has which ring number, the same in every shard.
#[derive(Default)]
struct RingTable {
    ids: HashMap<Vec<Matcher>, usize>,
    readers: Vec<u32>,
}

/// The local stage of one shard.
struct Shard {
    shard: u16,
    stage: Stage,
    rings: Vec<Option<Ring>>,
    by_name: HashMap<String, Vec<usize>>,
    unnamed: Vec<usize>,
    leaves: BTreeMap<StepId, LeafState>,
    groups: HashMap<GroupId, Group>,
    /// Rings that want the series in a slot; for samples that come alone.
    slots: HashMap<u32, (Labels, Vec<usize>)>,
    sent: HashMap<(StepId, usize), Sent>,
    /// Steps whose rows changed in this round.
    changed: Vec<StepId>,
    /// Ports that a new owner has heard nothing of.
    greet: Vec<(StepId, usize)>,
}

/// How the batches of one group reach the rings.
struct Group {
    layout: Arc<Layout>,
    series: Vec<(u32, Labels)>,
    routes: Vec<(usize, Route)>,
}

/// What an owner knows of a port.
#[derive(Copy, Clone, Default)]
struct Sent {
    version: u64,
    labels: usize,
    once: bool,
}

impl LocalHost {
    /// The host of worker `worker` of `peers`. The counters: rows that evaluations looked at; leaves that started
    /// without their past.
    pub fn new(
        worker: usize,
        peers: usize,
        store: Arc<Store>,
        lookback: i64,
        [rows_touched, without_past]: [Arc<Counter>; 2],
    ) -> LocalHost {
        let shards = (0..SHARDS).filter(|s| owner(*s, peers) == worker).map(Shard::new).collect();
        LocalHost {
            store,
            lookback,
            views: Views::new(worker, peers),
            shards,
            rings: RingTable::default(),
            rows_touched,
            without_past,
            swept: 0,
        }
    }

    /// Installs a view at tick `t`: new leaves are filled from the store.
    pub fn install(&mut self, id: ViewId, spec: ViewSpec, t: TimeMs) {
        // The handle has checked the plan: every worker comes to the same verdict.
        let Ok(added) = self.views.install(id, spec) else { return };
        if let Some(view) = self.views.all.get(&id) {
            for shard in &mut self.shards {
                let unheard =
                    view.ports.iter().filter(|port| !shard.sent.contains_key(&(**port, view.owner)));
                shard.greet.extend(unheard.map(|port| (*port, view.owner)));
            }
        }
        for step in added.local {
            let Some(step_ref) = self.views.local.step(step).cloned() else { continue };
            self.shards.iter_mut().for_each(|shard| shard.stage.add(&step_ref));
            if let StepOp::Leaf(source, leaf) = &step_ref.op {
                self.add_leaf(step, source, leaf, t);
            }
        }
    }

    fn add_leaf(&mut self, step: StepId, source: &Source, leaf: &Leaf, t: TimeMs) {
        let ring = self.rings.acquire(&source.matchers);
        let retention = leaf.reach(self.lookback) + source.offset + SLACK;
        let mut complete = true;
        for shard in &mut self.shards {
            complete &= shard.ensure_ring(&self.store, ring, &source.matchers, t, retention);
            shard.leaves.insert(step, LeafState::new(source.clone(), leaf.clone(), ring, self.lookback));
        }
        if !complete {
            self.without_past.inc();
        }
    }

    /// Removes a view.
    pub fn remove(&mut self, id: ViewId) {
        let Some((view, gone, _)) = self.views.remove(id) else { return };
        self.views.settle();
        for port in &view.ports {
            let owners = self.views.port_owners(*port);
            for shard in &mut self.shards {
                shard.sent.retain(|(p, o), _| p != port || owners.contains(o));
                shard.greet.retain(|(p, o)| p != port || owners.contains(o));
            }
        }
        for step in gone {
            let mut ring = None;
            for shard in &mut self.shards {
                shard.stage.remove(step);
                ring = shard.leaves.remove(&step).map(|leaf| leaf.ring).or(ring);
            }
            if let Some(freed) = ring.and_then(|ring| self.rings.release(ring)) {
                self.shards.iter_mut().for_each(|shard| shard.drop_ring(freed));
            }
        }
    }

    /// Builds everything anew from the store, without what has ended. Step numbers begin again, on all workers alike.
    pub fn rebuild(&mut self, t: TimeMs) {
        let (views, specs) = self.views.restart();
        self.views = views;
        self.rings = RingTable::default();
        self.shards.iter_mut().for_each(|shard| *shard = Shard::new(shard.shard));
        for (id, spec) in specs {
            self.install(id, spec, t);
        }
    }

    /// Whether ended series have piled up. Looks about once a minute of ticks.
    pub fn is_garbage(&mut self, t: TimeMs) -> bool {
        if t - self.swept < SWEEP_MS {
            return false;
        }
        self.swept = t;
        self.shards.iter().flat_map(|shard| shard.rings.iter().flatten()).any(|ring| ring.is_garbage(t))
    }

    /// Takes samples of a shard this worker owns. `t`: the tick they belong to.
    pub fn samples(&mut self, item: &FeedItem, t: TimeMs) {
        let Some(shard) = self.shards.iter_mut().find(|s| s.shard == item.shard) else { return };
        match &item.data {
            FeedData::Columns(columns) => shard.columns(&self.store, columns, item.seq, t),
            FeedData::Rows(rows) => shard.rows(&self.store, rows, item.seq, t),
        }
    }

    /// The last round of the tick at `t`.
    pub fn last_round(&mut self, t: TimeMs) -> u64 {
        self.views.settle();
        self.views.last_round(t)
    }

    /// Evaluates what is due in a round; returns what changed, per port, shard and owner.
    pub fn round(&mut self, t: TimeMs, round: u64) -> Vec<PortDelta> {
        let mut due = Bits::default();
        self.views.due(t, round).for_each(|batch| due.extend(&batch.local));
        let (mut touched, mut deltas) = (0, Vec::new());
        for shard in &mut self.shards {
            touched += shard.eval(&due, t);
            for port in std::mem::take(&mut shard.changed) {
                let owners = self.views.port_owners(port).iter();
                deltas.extend(owners.filter_map(|owner| shard.delta(port, *owner)));
            }
            let (greet, later) = shard.greet.drain(..).partition(|(port, _)| due.contains(*port));
            shard.greet = later;
            let greet: Vec<(StepId, usize)> = greet;
            deltas.extend(greet.into_iter().filter_map(|(port, owner)| shard.delta(port, owner)));
        }
        self.rows_touched.add(touched as u64);
        deltas
    }
}

/// The worker that owns a shard.
pub fn owner(shard: u16, peers: usize) -> usize {
    usize::from(shard) % peers
}

impl RingTable {
    fn acquire(&mut self, matchers: &[Matcher]) -> usize {
        let next = self.readers.len();
        let ring = *self.ids.entry(matchers.to_vec()).or_insert(next);
        if ring == next {
            self.readers.push(0);
        }
        self.readers[ring] += 1;
        ring
    }

    /// The ring's number if nobody reads it any more.
    fn release(&mut self, ring: usize) -> Option<usize> {
        self.readers[ring] -= 1;
        if self.readers[ring] > 0 {
            return None;
        }
        self.ids.retain(|_, id| *id != ring);
        Some(ring)
    }
}

impl Shard {
    fn new(shard: u16) -> Shard {
        Shard {
            shard,
            stage: Stage::default(),
            rings: Vec::new(),
            by_name: HashMap::new(),
            unnamed: Vec::new(),
            leaves: BTreeMap::new(),
            groups: HashMap::new(),
            slots: HashMap::new(),
            sent: HashMap::new(),
            changed: Vec::new(),
            greet: Vec::new(),
        }
    }

    /// Makes ring number `ring` reach back far enough, from the store if it does not yet; `false`: the store could
    /// not be read, and the ring begins now.
    fn ensure_ring(
        &mut self,
        store: &Store,
        ring: usize,
        matchers: &[Matcher],
        t: TimeMs,
        retention: i64,
    ) -> bool {
        if self.rings.len() <= ring {
            self.rings.resize_with(ring + 1, || None);
        }
        let state = self.rings[ring].get_or_insert_with(|| Ring::new(matchers.to_vec()));
        let fresh = state.retention() == 0;
        if state.retention() >= retention {
            return true;
        }
        let filled = state.fill(store, self.shard, t, retention);
        if let Err(error) = &filled {
            tracing::error!(shard = self.shard, %error, "a view starts without its past: the store cannot be read");
        }
        if fresh {
            match state.name() {
                Some(name) => self.by_name.entry(name.to_owned()).or_default().push(ring),
                None => self.unnamed.push(ring),
            }
        }
        self.leaves.values_mut().filter(|leaf| leaf.ring == ring).for_each(LeafState::reset);
        self.forget_routes();
        filled.is_ok()
    }

    fn drop_ring(&mut self, ring: usize) {
        self.rings[ring] = None;
        self.by_name.values_mut().for_each(|rings| rings.retain(|r| *r != ring));
        self.by_name.retain(|_, rings| !rings.is_empty());
        self.unnamed.retain(|r| *r != ring);
        self.forget_routes();
    }

    fn forget_routes(&mut self) {
        self.groups.clear();
        self.slots.clear();
    }

    fn columns(&mut self, store: &Store, batch: &Columns, seq: u64, t: TimeMs) {
        let known = self.groups.get(&batch.group).is_some_and(|g| Arc::ptr_eq(&g.layout, &batch.layout));
        if !known {
            self.learn(store, batch);
        }
        let Some(group) = self.groups.get(&batch.group) else { return };
        for (ring, route) in &group.routes {
            if let Some(ring) = self.rings[*ring].as_mut().filter(|ring| !ring.has(seq)) {
                ring.push(route, batch.t, &batch.values, t - SLACK);
            }
        }
    }

    /// Works out how a group's batches reach the rings.
    fn learn(&mut self, store: &Store, batch: &Columns) {
        let series = match self.groups.remove(&batch.group) {
            Some(group) if group.layout.slots == batch.layout.slots => group.series,
            _ => series_of(store, self.shard, &batch.layout.slots),
        };
        let mut wanted: Vec<usize> = self.unnamed.clone();
        let mut names: Vec<&str> = series.iter().map(|(_, labels)| labels.name()).collect();
        names.sort_unstable();
        names.dedup();
        wanted.extend(names.iter().filter_map(|name| self.by_name.get(*name)).flatten());
        let mut routes = Vec::new();
        for ring in wanted {
            let Some(state) = self.rings[ring].as_mut() else { continue };
            let route = state.route(batch.group, series.iter().map(|(slot, labels)| (*slot, labels)));
            routes.extend(route.map(|route| (ring, route)));
        }
        let layout = batch.layout.clone();
        self.groups.insert(batch.group, Group { layout, series, routes });
    }

    fn rows(&mut self, store: &Store, rows: &[(u32, TimeMs, f64)], seq: u64, t: TimeMs) {
        for (slot, sample_t, v) in rows {
            let (by_name, unnamed, shard) = (&self.by_name, &self.unnamed, self.shard);
            let (labels, rings) = self.slots.entry(*slot).or_insert_with(|| {
                let labels = store.labels(SeriesRef { shard, slot: *slot });
                let named = by_name.get(labels.name()).into_iter().flatten();
                let rings = named.chain(unnamed).copied().collect();
                (labels, rings)
            });
            rings.retain(|ring| match self.rings[*ring].as_mut() {
                Some(state) if state.has(seq) => true,
                Some(state) => state.push_row(*slot, labels, *sample_t, *v, t - SLACK),
                None => false,
            });
        }
    }

    /// Evaluates what is due and dirty, in order; returns how many rows the leaves looked at.
    fn eval(&mut self, due: &Bits, t: TimeMs) -> usize {
        let (mut rows, mut from) = (0, 0);
        self.stage.begin();
        while let Some(id) = self.stage.next(due, from) {
            let version = self.stage.output(id).version;
            match self.leaves.get_mut(&id) {
                Some(leaf) => {
                    let Some(ring) = self.rings[leaf.ring].as_ref() else { continue };
                    let params = self.stage.inputs(id).iter();
                    let params =
                        params.map(|p| self.stage.output(*p).values.first().copied().unwrap_or(f64::NAN));
                    let params = params.collect();
                    rows += leaf.eval(ring, t, params, self.stage.output_mut(id));
                }
                None => {
                    self.stage.eval(id, t);
                }
            }
            if self.stage.output(id).version != version {
                self.stage.changed(id);
                self.changed.push(id);
            }
            from = id + 1;
        }
        rows
    }

    /// What `owner` must hear of a port, if anything.
    fn delta(&mut self, port: StepId, owner: usize) -> Option<PortDelta> {
        let sent = self.sent.entry((port, owner)).or_default();
        let out = self.stage.output(port);
        if sent.once && sent.version == out.version {
            return None;
        }
        let delta = PortDelta {
            owner: owner as u64,
            port: port as u64,
            shard: self.shard,
            labels: out.labels[sent.labels..].to_vec(),
            rows: Vec::new(),
            lanes: Vec::new(),
            error: out.error.clone(),
        };
        let all = !sent.once || out.version != sent.version + 1;
        let (known, first) = (sent.labels, !sent.once);
        *sent = Sent { version: out.version, labels: out.labels.len(), once: true };
        let delta = with_rows(delta, out, all, known);
        // An empty shard has nothing to say.
        (!(first && delta.labels.is_empty() && delta.error.is_none())).then_some(delta)
    }
}

fn with_rows(mut delta: PortDelta, out: &Output, all: bool, known: usize) -> PortDelta {
    delta.rows = match &out.changed {
        Changed::Rows(rows) if !all => {
            // A new row without a value was never "changed", but the owner starts it absent too.
            debug_assert!(known <= out.labels.len());
            rows.clone()
        }
        _ => (0..out.labels.len() as u32).collect(),
    };
    let pick = |lane: &Vec<f64>| delta.rows.iter().map(|row| lane[*row as usize]).collect::<Vec<f64>>();
    delta.lanes = std::iter::once(&out.values).chain(&out.extra).map(pick).collect();
    delta
}
