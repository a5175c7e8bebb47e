//! The local stage of one shard: its rings, the routes by which samples reach them, and the steps
//! that read them.
//!
//! Evaluation is in [`super::eval`], the deltas for owners in [`super::ports`], the loading of
//! history in [`super::history_load`].

use super::eval::disturb;
use super::history_load::PendingLoads;
use super::leaf_slot::Leaves;
use super::ports::PortCursor;
use super::timers::Timers;
use crate::live::check::ArrivalWatch;
use crate::live::ring::{BatchRoute, EmptyRing, SampleRing, SingleSample, series_of};
use crate::operators::stage::Stage;
use crate::operators::step_set::StepSet;
use crate::plan::Dialect;
use crate::plan::physical::StepId;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{ChangeData, ChangeEvent, ColumnBatch, ColumnLayout, GroupId, Store};

/// The state of the local stage in one shard.
pub(super) struct LocalShard {
    pub shard: u16,
    /// Its number among the shards of all processes.
    pub wide: u16,
    pub stage: Stage,
    /// Rings that have rows, or had some.
    pub rings: Vec<Option<Box<SampleRing>>>,
    /// Rings without rows.
    pub empty: BTreeMap<usize, EmptyRing>,
    by_name: HashMap<String, Vec<usize>>,
    unnamed: Vec<usize>,
    pub leaves: Leaves,
    groups: HashMap<GroupId, GroupRoutes>,
    /// Routes of series whose samples come alone, by series slot.
    slots: HashMap<u32, SeriesRoute>,
    pub past: PendingLoads,
    /// New steps that must not be evaluated yet.
    pub shut: StepSet,
    pub sent: HashMap<(StepId, usize), PortCursor>,
    /// Steps whose rows changed in this round.
    pub changed: Vec<StepId>,
    /// Ports of which a new owner has received nothing yet.
    pub greet: Vec<(StepId, usize)>,
    /// Steps that ever had an annotation.
    pub noted: Vec<StepId>,
    /// By port: those of these steps that are below it. Built again when steps or ports are added
    /// or removed.
    pub remarks: Vec<(StepId, Vec<StepId>)>,
    pub remarks_stand: bool,
    /// Steps whose annotations have changed since the last
    /// [`LocalShard::ports_with_new_annotations`].
    pub renoted: Vec<StepId>,
    /// Ports whose owners have not received the latest annotations.
    pub unheard: StepSet,
    /// By ring: the leaves that read it.
    pub readers: Vec<Vec<StepId>>,
    pub timers: Timers,
    /// The rings of a view that is being checked.
    pub watch: Option<Box<ArrivalWatch>>,
    starts: bool,
}

/// How samples of a series without a group reach the rings.
struct SeriesRoute {
    labels: Labels,
    /// The rings whose selectors match the series.
    rings: Vec<usize>,
    /// The tick of the latest sample.
    used: TimeMs,
}

/// How the batches of one column group reach the rings.
struct GroupRoutes {
    layout: Arc<ColumnLayout>,
    /// The series with their columns, by metric name.
    series: BTreeMap<String, Vec<GroupSeries>>,
    routes: Vec<(usize, BatchRoute)>,
    /// The tick of the latest batch.
    used: TimeMs,
}

/// A series of a group: its column, its series slot, its labels.
type GroupSeries = (u32, u32, Labels);

impl LocalShard {
    pub(super) fn new((shard, wide): (u16, u16), dialect: Dialect) -> LocalShard {
        LocalShard {
            shard,
            wide,
            stage: Stage::new(dialect),
            rings: Vec::new(),
            empty: BTreeMap::new(),
            by_name: HashMap::new(),
            unnamed: Vec::new(),
            leaves: Leaves::new(),
            groups: HashMap::new(),
            slots: HashMap::new(),
            past: PendingLoads::default(),
            shut: StepSet::default(),
            sent: HashMap::new(),
            changed: Vec::new(),
            greet: Vec::new(),
            noted: Vec::new(),
            remarks: Vec::new(),
            remarks_stand: true,
            renoted: Vec::new(),
            unheard: StepSet::default(),
            readers: Vec::new(),
            timers: Timers::default(),
            watch: None,
            starts: dialect.start_timestamps,
        }
    }

    /// Whether no ring is being read and no step waits for its first evaluation.
    pub(super) fn is_at_rest(&self) -> bool {
        self.past.is_idle() && self.shut.is_empty()
    }

    /// Whether any of these steps waits for its history or for its first evaluation.
    pub(super) fn keeps_waiting(&self, steps: &[StepId]) -> bool {
        let reads = |step: &StepId| self.leaves.get(step).is_some_and(|leaf| self.past.is_reading(leaf.ring));
        steps.iter().any(|step| self.shut.contains(*step) || reads(step))
    }

    /// Lets new steps be evaluated. Returns about how many rows that will read.
    pub(super) fn open(&mut self) -> usize {
        let rows = |step: StepId| {
            let ring = self.leaves.get(&step).and_then(|leaf| self.rings[leaf.ring].as_ref());
            1 + ring.map_or(0, |ring| ring.labels.len())
        };
        let rows = self.shut.iter().map(rows).sum();
        self.shut = StepSet::default();
        rows
    }

    /// Makes space for ring `number`, which is requested or exists.
    pub(super) fn expect(&mut self, number: usize) {
        if self.rings.len() <= number {
            self.rings.resize_with(number + 1, || None);
        }
    }

    /// Puts a ring in place; if it replaces one, rows keep the numbers they had in that one.
    /// Changes that arrived after the ring was read must then be added with [`LocalShard::take`].
    pub(super) fn place(&mut self, number: usize, mut ring: SampleRing, t: TimeMs) {
        let was_empty = self.empty.remove(&number).is_some();
        match self.rings[number].take() {
            Some(old) => ring.number_rows_as(&old),
            None if was_empty => {}
            None => match ring.name() {
                Some(name) => self.by_name.entry(name.to_owned()).or_default().push(number),
                None => self.unnamed.push(number),
            },
        }
        // Old groups would add series of targets that have ended. If such a target comes back, its
        // group is learnt again.
        self.groups.retain(|_, group| group.used >= t - ring.retention());
        // In the order of group ids: the order in which series are added to a ring decides the
        // order in which they are summed, and a float sum depends on it.
        let mut groups: Vec<(&GroupId, &mut GroupRoutes)> = self.groups.iter_mut().collect();
        groups.sort_unstable_by_key(|(id, _)| **id);
        for (id, group) in groups {
            group.routes.retain(|(ring, _)| *ring != number);
            let route = group.route(*id, &mut ring);
            group.routes.extend(route.map(|route| (number, route)));
        }
        self.slots.clear();
        match ring.as_empty() {
            Some(empty) => drop(self.empty.insert(number, empty)),
            None => self.rings[number] = Some(Box::new(ring)),
        }
        self.reset_leaves(number);
    }

    /// Drops a ring that has no readers.
    pub(super) fn drop_ring(&mut self, number: usize) {
        self.past.forget(number);
        let ring = self.rings.get_mut(number).and_then(Option::take);
        let empty = self.empty.remove(&number);
        if ring.is_none() && empty.is_none() {
            return;
        }
        match ring.as_ref().map_or_else(|| empty.as_ref()?.name(), |ring| ring.name()) {
            Some(name) => {
                if let Some(rings) = self.by_name.get_mut(name) {
                    rings.retain(|ring| *ring != number);
                    if rings.is_empty() {
                        self.by_name.remove(name);
                    }
                }
            }
            None => self.unnamed.retain(|ring| *ring != number),
        }
    }

    /// Removes routes to dropped rings, because their numbers will be reused.
    pub(super) fn forget_routes(&mut self) {
        for group in self.groups.values_mut() {
            group.routes.retain(|(ring, _)| self.rings[*ring].is_some());
        }
        self.slots.clear();
    }

    /// Forgets the routes of groups and series that have sent nothing for as long as the longest
    /// ring reaches back.
    pub(super) fn forget_silent(&mut self, t: TimeMs) {
        let empty = self.empty.values().map(EmptyRing::retention);
        let longest =
            self.rings.iter().flatten().map(|ring| ring.retention()).chain(empty).max().unwrap_or(0);
        self.groups.retain(|_, group| group.used >= t - longest);
        self.slots.retain(|_, alone| alone.used >= t - longest);
    }

    /// Keeps an existing ring although the history that it should have cannot be read: from now on
    /// it grows to `retention` ms. `false`: there is no ring.
    pub(super) fn go_on_with(&mut self, number: usize, retention: i64) -> bool {
        match (self.rings[number].as_mut(), self.empty.get_mut(&number)) {
            (Some(ring), _) => ring.reach(retention),
            (None, Some(empty)) => empty.reach(retention),
            (None, None) => return false,
        }
        self.reset_leaves(number);
        true
    }

    /// Adds a change to all rings, or only to ring `only`.
    pub(super) fn take(&mut self, store: &Store, item: &ChangeEvent, t: TimeMs, only: Option<usize>) {
        let seq = item.seq;
        match &item.data {
            ChangeData::Columns(columns) => self.columns(store, columns, (seq, t), only),
            ChangeData::Rows(rows) => {
                let items = rows.iter().map(|(slot, at, v)| (*slot, *at, SingleSample::Float(*v)));
                self.items(store, items, (seq, t), only);
            }
            ChangeData::Histograms(rows) => {
                let items = rows.iter().map(|(slot, at, h)| (*slot, *at, SingleSample::Histogram(h.clone())));
                self.items(store, items, (seq, t), only);
            }
            ChangeData::Starts(rows) if self.starts => {
                let items = rows.iter().map(|(slot, at, start)| (*slot, *at, SingleSample::Start(*start)));
                self.items(store, items, (seq, t), only);
            }
            ChangeData::Starts(_) => {}
        }
    }

    fn columns(&mut self, store: &Store, batch: &ColumnBatch, (seq, t): (u64, TimeMs), only: Option<usize>) {
        let known = self.groups.get(&batch.group).is_some_and(|g| Arc::ptr_eq(&g.layout, &batch.layout));
        if !known {
            self.learn(store, batch);
        }
        let Some(group) = self.groups.get_mut(&batch.group) else { return };
        group.used = t;
        for (number, route) in group.routes.iter().filter(|(ring, _)| only.is_none_or(|only| only == *ring)) {
            if let Some(ring) = self.rings[*number].as_mut().filter(|ring| !ring.has(seq)) {
                ring.push(route, batch.t, &batch.values, t);
                if let Some(watch) = &mut self.watch {
                    watch.see(*number, batch.t);
                }
                let readers = self.readers.get(*number).map_or(&[][..], Vec::as_slice);
                disturb(readers, &mut self.leaves, &mut self.stage, route.blocks());
            }
        }
    }

    /// Finds out how the batches of a group reach the rings.
    fn learn(&mut self, store: &Store, batch: &ColumnBatch) {
        let series = match self.groups.remove(&batch.group) {
            Some(group) if group.layout.slots == batch.layout.slots => group.series,
            _ => members(store, self.shard, &batch.layout.slots),
        };
        let mut group =
            GroupRoutes { layout: batch.layout.clone(), series, routes: Vec::new(), used: TimeMs::MIN };
        let named = group.series.keys().filter_map(|name| self.by_name.get(name)).flatten();
        let wanted: Vec<usize> = self.unnamed.iter().chain(named).copied().collect();
        for number in wanted {
            let route = match (self.rings[number].as_mut(), self.empty.get(&number)) {
                (Some(ring), _) => group.route(batch.group, ring),
                (None, Some(empty)) => {
                    let mut ring = empty.ring();
                    let route = group.route(batch.group, &mut ring);
                    if route.is_some() {
                        self.empty.remove(&number);
                        self.rings[number] = Some(Box::new(ring));
                    }
                    route
                }
                (None, None) => continue,
            };
            group.routes.extend(route.map(|route| (number, route)));
        }
        self.groups.insert(batch.group, group);
    }

    /// Adds samples that come alone: (slot, time of the sample, sample).
    fn items(
        &mut self,
        store: &Store,
        items: impl Iterator<Item = (u32, TimeMs, SingleSample)>,
        (seq, t): (u64, TimeMs),
        only: Option<usize>,
    ) {
        for (slot, sample_t, item) in items {
            let by_name = &self.by_name;
            let unnamed = &self.unnamed;
            let shard = self.shard;
            let leaves = &mut self.leaves;
            let stage = &mut self.stage;
            let states = &mut self.rings;
            let empty = &mut self.empty;
            let watch = &mut self.watch;
            let SeriesRoute { labels, rings, used } = self.slots.entry(slot).or_insert_with(|| {
                let labels = store.labels(SeriesRef { shard, slot });
                let named = by_name.get(labels.name()).into_iter().flatten();
                let rings: Vec<usize> = named.chain(unnamed).copied().collect();
                for number in &rings {
                    if empty.get(number).is_some_and(|empty| empty.picks(&labels)) {
                        states[*number] = empty.remove(number).map(|empty| Box::new(empty.ring()));
                    }
                }
                SeriesRoute { labels, rings, used: t }
            });
            *used = t;
            rings.retain(|ring| match states[*ring].as_mut() {
                Some(_) if only.is_some_and(|only| only != *ring) => true,
                Some(state) if state.has(seq) => true,
                Some(state) => {
                    let Some(block) = state.push_item(slot, labels, sample_t, &item, t) else { return false };
                    if let Some(watch) = watch {
                        watch.see(*ring, sample_t);
                    }
                    let readers = self.readers.get(*ring).map_or(&[][..], Vec::as_slice);
                    disturb(readers, leaves, stage, std::iter::once(block));
                    true
                }
                None => false,
            });
        }
    }
}

/// The series of a batch, by metric name.
fn members(store: &Store, shard: u16, slots: &[u32]) -> BTreeMap<String, Vec<GroupSeries>> {
    let mut series: BTreeMap<String, Vec<GroupSeries>> = BTreeMap::new();
    for (column, (slot, labels)) in series_of(store, shard, slots).into_iter().enumerate() {
        let member = (column as u32, slot, labels);
        match series.get_mut(member.2.name()) {
            Some(members) => members.push(member),
            None => drop(series.insert(member.2.name().to_owned(), vec![member])),
        }
    }
    series
}

impl GroupRoutes {
    /// The route of the group's batches to a ring. If the ring has a metric name, only the series
    /// of that name are compared with its selector.
    fn route(&self, id: GroupId, ring: &mut SampleRing) -> Option<BatchRoute> {
        let name = ring.name().map(str::to_owned);
        let series = match name {
            Some(name) => self.series.get(&name).map_or(&[][..], Vec::as_slice).iter().collect(),
            None => self.series.values().flatten().collect::<Vec<&GroupSeries>>(),
        };
        ring.route(id, series.into_iter().map(|(column, slot, labels)| (*column, *slot, labels)))
    }
}
