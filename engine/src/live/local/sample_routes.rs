//! How samples reach the rings of a shard. A column group (the series that one target or rule
//! writes together), or a single series, reaches the rings whose selectors match it. That is found
//! once, from the labels, and then remembered as its route.

use super::leaf_table::LeafTable;
use super::shard_rings::ShardRings;
use crate::live::check::ArrivalWatch;
use crate::live::ring::{BatchRoute, SampleRing, SingleSample, labels_of_slots};
use crate::operators::stage::Stage;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{ChangeData, ChangeEvent, ColumnBatch, ColumnLayout, GroupId, Store};

/// The routes of a shard.
pub(super) struct SampleRoutes {
    shard: u16,
    groups: HashMap<GroupId, GroupRoutes>,
    /// Routes of series whose samples come alone, by series slot.
    series: HashMap<u32, SeriesRoute>,
    /// Whether start timestamps are of use.
    reads_starts: bool,
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

/// A series of a group.
struct GroupSeries {
    column: u32,
    /// Its series slot.
    slot: u32,
    labels: Labels,
}

/// The rings of a shard, and what depends on them.
pub(super) struct SampleTarget<'a> {
    pub rings: &'a mut ShardRings,
    pub leaves: &'a mut LeafTable,
    pub stage: &'a mut Stage,
    /// The rings of a view that is being checked.
    pub watch: Option<&'a mut ArrivalWatch>,
}

/// What is added to rings together.
#[derive(Copy, Clone)]
pub(super) struct Delivery {
    /// The append sequence number: a ring that was read from the store may have these samples.
    pub seq: u64,
    /// The tick that they belong to.
    pub t: TimeMs,
    /// Add them to this ring only.
    pub only: Option<usize>,
}

impl SampleTarget<'_> {
    /// A ring has a new sample of time `t` in these blocks.
    fn sample_added(&mut self, ring: usize, t: TimeMs, blocks: impl Iterator<Item = u32> + Clone) {
        if let Some(watch) = &mut self.watch {
            watch.see(ring, t);
        }
        self.leaves.mark_dirty(ring, t, blocks, self.stage);
    }
}

impl SampleRoutes {
    /// The routes of a shard, without any.
    pub(super) fn new(shard: u16, reads_starts: bool) -> SampleRoutes {
        SampleRoutes { shard, groups: HashMap::new(), series: HashMap::new(), reads_starts }
    }

    /// A ring is put in place at `t`: the groups that have sent samples lately are routed to it.
    pub(super) fn route_groups(&mut self, number: usize, ring: &mut SampleRing, t: TimeMs) {
        // Old groups would add series of targets that have ended. If such a target comes back, its
        // group is routed again.
        self.groups.retain(|_, group| group.used >= t - ring.retention());
        // In the order of group ids: the order in which series are added to a ring decides the
        // order in which they are summed, and a float sum depends on it.
        let mut groups: Vec<(&GroupId, &mut GroupRoutes)> = self.groups.iter_mut().collect();
        groups.sort_unstable_by_key(|(id, _)| **id);
        for (id, group) in groups {
            group.routes.retain(|(ring, _)| *ring != number);
            if let Some(route) = group.route(*id, ring) {
                group.routes.push((number, route));
            }
        }
        self.series.clear();
    }

    /// Removes routes to dropped rings, because their numbers will be reused.
    pub(super) fn forget_dropped(&mut self, rings: &ShardRings) {
        for group in self.groups.values_mut() {
            group.routes.retain(|(ring, _)| rings.get(*ring).is_some());
        }
        self.series.clear();
    }

    /// Forgets the groups and series that have sent nothing since `t`.
    pub(super) fn forget_unused_since(&mut self, t: TimeMs) {
        self.groups.retain(|_, group| group.used >= t);
        self.series.retain(|_, series| series.used >= t);
    }

    /// Adds a change to the rings that it reaches.
    pub(super) fn deliver(
        &mut self,
        store: &Store,
        event: &ChangeEvent,
        delivery: Delivery,
        target: &mut SampleTarget,
    ) {
        match &event.data {
            ChangeData::Columns(columns) => self.add_columns(store, columns, delivery, target),
            ChangeData::Rows(rows) => {
                for (slot, at, v) in rows.iter() {
                    self.add_single(store, *slot, *at, &SingleSample::Float(*v), delivery, target);
                }
            }
            ChangeData::Histograms(rows) => {
                for (slot, at, h) in rows.iter() {
                    let sample = SingleSample::Histogram(h.clone());
                    self.add_single(store, *slot, *at, &sample, delivery, target);
                }
            }
            ChangeData::Starts(rows) if self.reads_starts => {
                for (slot, at, start) in rows.iter() {
                    self.add_single(store, *slot, *at, &SingleSample::Start(*start), delivery, target);
                }
            }
            ChangeData::Starts(_) => {}
        }
    }

    fn add_columns(
        &mut self,
        store: &Store,
        batch: &ColumnBatch,
        delivery: Delivery,
        target: &mut SampleTarget,
    ) {
        let Delivery { seq, t, only } = delivery;
        let is_routed = self.groups.get(&batch.group).is_some_and(|g| Arc::ptr_eq(&g.layout, &batch.layout));
        if !is_routed {
            self.route_group(store, batch, target.rings);
        }
        let Some(group) = self.groups.get_mut(&batch.group) else { return };
        group.used = t;
        for (number, route) in group.routes.iter().filter(|(ring, _)| only.is_none_or(|only| only == *ring)) {
            if let Some(ring) = target.rings.get_mut(*number).filter(|ring| !ring.was_loaded(seq)) {
                ring.push(route, batch.t, &batch.values, t);
                target.sample_added(*number, batch.t, route.blocks());
            }
        }
    }

    /// Finds out how the batches of a group reach the rings.
    fn route_group(&mut self, store: &Store, batch: &ColumnBatch, rings: &mut ShardRings) {
        let series = match self.groups.remove(&batch.group) {
            Some(group) if group.layout.slots == batch.layout.slots => group.series,
            _ => series_by_name(store, self.shard, &batch.layout.slots),
        };
        let mut group =
            GroupRoutes { layout: batch.layout.clone(), series, routes: Vec::new(), used: TimeMs::MIN };
        let named = group.series.keys().flat_map(|name| rings.numbers_for_name(name));
        let numbers: Vec<usize> = rings.unnamed().chain(named).collect();
        for number in numbers {
            let route = rings.add_series(number, |ring| group.route(batch.group, ring));
            if let Some(Some(route)) = route {
                group.routes.push((number, route));
            }
        }
        self.groups.insert(batch.group, group);
    }

    /// Adds a sample of time `sample_t` that comes alone.
    fn add_single(
        &mut self,
        store: &Store,
        slot: u32,
        sample_t: TimeMs,
        sample: &SingleSample,
        delivery: Delivery,
        target: &mut SampleTarget,
    ) {
        let Delivery { seq, t, only } = delivery;
        let shard = self.shard;
        let route = self.series.entry(slot).or_insert_with(|| {
            SeriesRoute::find(store.series().labels(SeriesRef { shard, slot }), target.rings)
        });
        route.used = t;
        let labels = &route.labels;
        route.rings.retain(|number| {
            let Some(ring) = target.rings.get_mut(*number) else { return false };
            if only.is_some_and(|only| only != *number) || ring.was_loaded(seq) {
                return true;
            }
            // The ring does not accept the series: the selector matches other labels only.
            let Some(block) = ring.push_single(slot, labels, sample_t, sample, t) else { return false };
            target.sample_added(*number, sample_t, std::iter::once(block));
            true
        });
    }
}

impl SeriesRoute {
    /// Finds the rings whose selectors may match a series.
    fn find(labels: Labels, rings: &mut ShardRings) -> SeriesRoute {
        let numbers: Vec<usize> = rings.numbers_for_name(labels.name()).chain(rings.unnamed()).collect();
        for number in &numbers {
            rings.fill_if_matching(*number, &labels);
        }
        SeriesRoute { labels, rings: numbers, used: TimeMs::MIN }
    }
}

/// The series of a batch, by metric name.
fn series_by_name(store: &Store, shard: u16, slots: &[u32]) -> BTreeMap<String, Vec<GroupSeries>> {
    let mut by_name: BTreeMap<String, Vec<GroupSeries>> = BTreeMap::new();
    for (column, (slot, labels)) in labels_of_slots(store, shard, slots).into_iter().enumerate() {
        let series = GroupSeries { column: column as u32, slot, labels };
        match by_name.get_mut(series.labels.name()) {
            Some(same_name) => same_name.push(series),
            None => drop(by_name.insert(series.labels.name().to_owned(), vec![series])),
        }
    }
    by_name
}

impl GroupRoutes {
    /// The route of the group's batches to a ring. If the ring has a metric name, only the series
    /// of that name are compared with its selector.
    fn route(&self, id: GroupId, ring: &mut SampleRing) -> Option<BatchRoute> {
        let series: Vec<&GroupSeries> = match ring.name() {
            Some(name) => self.series.get(name).into_iter().flatten().collect(),
            None => self.series.values().flatten().collect(),
        };
        ring.route(id, series.into_iter().map(|series| (series.column, series.slot, &series.labels)))
    }
}
