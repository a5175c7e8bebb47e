//! The views that stand: their plans in steps, their owners, their schedule and their level.
//!
//! Every worker keeps this table, from the same control stream, and so they agree without talking. A view's
//! *level* is the round of the tick it is evaluated in: one more than that of the recorded views it reads.
//! Views that read each other in a cycle are cut where the cycle closes: there they see the last tick.

use super::graph::Graph;
use super::{ViewId, ViewKind, ViewSpec};
use crate::operators::bits::Bits;
use crate::plan::physical::{LowerError, Physical, StepId, StepOp};
use std::collections::{BTreeMap, HashMap};
use storage::model::labels::METRIC_NAME;
use storage::model::{Matcher, TimeMs};

/// When views are evaluated.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slots {
    /// At every tick.
    Always,
    /// At `k * interval + offset`.
    Every(i64, i64),
}

impl Slots {
    /// Whether `t` is one of them.
    pub fn due(self, t: TimeMs) -> bool {
        match self {
            Slots::Always => true,
            Slots::Every(interval, offset) => (t - offset).rem_euclid(interval) == 0,
        }
    }
}

/// One view in terms of steps.
pub struct View {
    /// What was asked for.
    pub spec: ViewSpec,
    /// The worker that gathers it.
    pub owner: usize,
    /// Numbers of its local steps.
    pub local: Vec<StepId>,
    /// Local steps that its owner must hear of.
    pub ports: Vec<StepId>,
    /// Numbers of its gather steps (meaningful at the owner only).
    pub gather: Vec<StepId>,
    /// Number of the gather step that is the answer.
    pub root: StepId,
    /// When it is evaluated.
    pub slots: Slots,
    /// The round it is evaluated in.
    pub level: u64,
}

/// Views that are evaluated together, and what they need.
#[derive(Default)]
pub struct Batch {
    /// The views.
    pub views: Vec<ViewId>,
    /// Their local steps.
    pub local: Bits,
    /// Gather steps of those of them that this worker owns.
    pub gather: Bits,
}

/// See the module.
pub struct Views {
    worker: usize,
    peers: usize,
    /// The views.
    pub all: BTreeMap<ViewId, View>,
    /// Steps of the local stage.
    pub local: Graph,
    /// Steps of this worker's gather stage.
    pub gather: Graph,
    batches: BTreeMap<(Slots, u64), Batch>,
    /// The workers that gather through each port.
    owners: HashMap<StepId, Vec<usize>>,
    /// Views came or went since batches were worked out.
    unsettled: bool,
}

/// What installing a view added.
#[derive(Default)]
pub struct Added {
    /// New local steps.
    pub local: Vec<StepId>,
    /// New gather steps (of this worker).
    pub gather: Vec<StepId>,
}

impl Views {
    /// An empty table of worker `worker` of `peers`.
    pub fn new(worker: usize, peers: usize) -> Views {
        Views {
            worker,
            peers,
            all: BTreeMap::new(),
            local: Graph::default(),
            gather: Graph::default(),
            batches: BTreeMap::new(),
            owners: HashMap::new(),
            unsettled: false,
        }
    }

    /// An empty table of the same worker, and what stood in this one, in order.
    pub fn restart(&self) -> (Views, Vec<(ViewId, ViewSpec)>) {
        let specs = self.all.iter().map(|(id, view)| (*id, view.spec.clone())).collect();
        (Views::new(self.worker, self.peers), specs)
    }

    /// Installs a view.
    pub fn install(&mut self, id: ViewId, spec: ViewSpec) -> Result<Added, LowerError> {
        let physical = physical_of(&spec)?;
        let (local, new_local) = self.local.intern(&physical.local, |port| port);
        let owner = (id.0 % self.peers as u64) as usize;
        let (mut gather, mut new_gather) = (Vec::new(), Vec::new());
        if owner == self.worker {
            (gather, new_gather) = self.gather.intern(&physical.gather, |port| local[port]);
        }
        let port = |step: &crate::plan::physical::Step| match step.op {
            StepOp::Port(id) => Some(local[id]),
            _ => None,
        };
        let ports = physical.gather.iter().filter_map(port).collect();
        let root = gather.get(physical.root).copied().unwrap_or(0);
        let slots = match spec.kind {
            ViewKind::Continuous => Slots::Always,
            ViewKind::Recorded { interval, offset, .. } => Slots::Every(interval.max(1), offset),
        };
        self.all.insert(id, View { spec, owner, local, ports, gather, root, slots, level: 0 });
        self.unsettled = true;
        Ok(Added { local: new_local, gather: new_gather })
    }

    /// Removes a view; returns it, and the steps of both stages that nobody reads any more.
    pub fn remove(&mut self, id: ViewId) -> Option<(View, Vec<StepId>, Vec<StepId>)> {
        let view = self.all.remove(&id)?;
        let local = self.local.release(&view.local);
        let gather = self.gather.release(&view.gather);
        self.unsettled = true;
        Some((view, local, gather))
    }

    /// The batches due at `t`, in round `round`.
    pub fn due(&self, t: TimeMs, round: u64) -> impl Iterator<Item = &Batch> {
        let due = move |((slots, level), _): &(&(Slots, u64), &Batch)| *level == round && slots.due(t);
        self.batches.iter().filter(due).map(|(_, batch)| batch)
    }

    /// The last round that the tick at `t` needs.
    pub fn last_round(&self, t: TimeMs) -> u64 {
        let due = self.batches.keys().filter(|(slots, _)| slots.due(t));
        due.map(|(_, level)| *level).max().unwrap_or(0).min(crate::limits::TICK_ROUNDS - 1)
    }

    /// The workers that gather through port `port`.
    pub fn port_owners(&self, port: StepId) -> &[usize] {
        self.owners.get(&port).map_or(&[], Vec::as_slice)
    }

    /// Works out levels and batches again, if views came or went. To be called before a tick asks for them.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        let levels = levels(&self.all);
        self.batches.clear();
        self.owners.clear();
        for (id, view) in &mut self.all {
            view.level = levels[id];
            let batch = self.batches.entry((view.slots, view.level)).or_default();
            batch.views.push(*id);
            view.local.iter().for_each(|step| batch.local.insert(*step));
            view.gather.iter().for_each(|step| batch.gather.insert(*step));
            for port in &view.ports {
                let owners = self.owners.entry(*port).or_default();
                if !owners.contains(&view.owner) {
                    owners.push(view.owner);
                }
            }
        }
    }
}

/// The plan of a view in steps. A query offset is a shift into the past.
pub fn physical_of(spec: &ViewSpec) -> Result<Physical, LowerError> {
    let shift = match spec.kind {
        ViewKind::Continuous => 0,
        ViewKind::Recorded { query_offset, .. } => query_offset,
    };
    let physical = Physical::of(&spec.plan, shift)?;
    for step in &physical.local {
        if let StepOp::Leaf(source, _) = &step.op {
            if matches!(source.at, Some(crate::plan::At::Time(_))) {
                return Err(LowerError("a fixed time (@) cannot stand: its answer never changes".to_owned()));
            }
            if source.offset < 0 {
                return Err(LowerError("a negative offset cannot stand: it asks for the future".to_owned()));
            }
        }
    }
    Ok(physical)
}

/// The level of each view: longest chain of recorded views below it.
fn levels(views: &BTreeMap<ViewId, View>) -> HashMap<ViewId, u64> {
    let mut by_record: HashMap<&str, Vec<ViewId>> = HashMap::new();
    for (id, view) in views {
        if let ViewKind::Recorded { record, .. } = &view.spec.kind {
            by_record.entry(record.as_str()).or_default().push(*id);
        }
    }
    let reads: HashMap<ViewId, Vec<ViewId>> = if by_record.is_empty() {
        HashMap::new()
    } else {
        views.iter().map(|(id, v)| (*id, reads(v, &by_record))).collect()
    };
    let mut levels = HashMap::new();
    for id in views.keys() {
        level(*id, &reads, &mut levels);
    }
    levels
}

/// The recorded views whose series a view may read: its metric name matchers accept their name.
fn reads(view: &View, by_record: &HashMap<&str, Vec<ViewId>>) -> Vec<ViewId> {
    let mut found = Vec::new();
    let mut walk = vec![&view.spec.plan];
    while let Some(plan) = walk.pop() {
        walk.extend(plan.inputs());
        let selector = match &plan.op {
            crate::plan::Op::Instant(selector) | crate::plan::Op::Range { selector, .. } => selector,
            _ => continue,
        };
        let names: Vec<&Matcher> = selector.matchers.iter().filter(|m| m.name == METRIC_NAME).collect();
        let pinned = names.iter().find(|m| m.op == storage::model::MatchOp::Equal);
        match pinned {
            Some(m) => found.extend(by_record.get(m.value.as_str()).into_iter().flatten()),
            None => found.extend(
                by_record
                    .iter()
                    .filter(|(name, _)| names.iter().all(|m| m.matches(name)))
                    .flat_map(|(_, ids)| ids),
            ),
        }
    }
    found
}

/// Depth-first, without recursion: a chain of rules may be long. A view met again on its own path is a cycle,
/// and is read there as of the last tick.
fn level(id: ViewId, reads: &HashMap<ViewId, Vec<ViewId>>, levels: &mut HashMap<ViewId, u64>) {
    let mut path: Vec<(ViewId, usize, u64)> = vec![(id, 0, 0)];
    let nothing = Vec::new();
    while let Some((current, next, own)) = path.pop() {
        if next == 0 && levels.contains_key(&current) {
            continue;
        }
        let below = reads.get(&current).unwrap_or(&nothing);
        let Some(reads_id) = below.get(next) else {
            levels.insert(current, own.min(crate::limits::TICK_ROUNDS - 1));
            continue;
        };
        let cyclic = *reads_id == current || path.iter().any(|(on_path, ..)| on_path == reads_id);
        match levels.get(reads_id) {
            _ if cyclic => path.push((current, next + 1, own)),
            Some(level) => path.push((current, next + 1, own.max(level + 1))),
            None => {
                path.push((current, next, own));
                path.push((*reads_id, 0, 0));
            }
        }
    }
}
