//! [`LiveLeaves`]: live views of the metrics in standing statements, so that a run reads current
//! rows instead of history. Statements with the same metric and matchers share one view.
//!
//! The worker that owns a view puts its changes into a queue. An evaluation takes a [`Cut`]: the
//! rows of all its views at the latest tick that every worker has finished, so that they are of one
//! moment.

use crate::limits::LEAF_EVENTS;
use datafusion::arrow::array::ArrayRef;
use engine::live::{LiveRuntime, Sink, TapEvent, TapId, ViewId, ViewKind, ViewSpec};
use engine::plan::Plan;
use engine::plan::as_promql::as_promql;
use engine::plan::canonical::canonical;
use engine::types::histogram_column::Sample;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use storage::model::{Labels, NativeHistogram, TimeMs};

/// The live views that standing statements read.
pub(crate) struct LiveLeaves {
    live: LiveRuntime,
    /// The views, by their PromQL.
    views: Mutex<HashMap<String, Weak<StatementLeaf>>>,
    /// Locked while events are taken, so that two statements do not each take a part of one tick.
    cut: Mutex<()>,
}

/// A live view, and its rows.
pub(crate) struct StatementLeaf {
    live: LiveRuntime,
    view: ViewId,
    queue: Arc<Mutex<EventQueue>>,
    tap: Mutex<TapId>,
    state: Mutex<LeafState>,
}

#[derive(Default)]
struct EventQueue {
    events: VecDeque<TapEvent>,
    /// Whether the queue has overflowed. Then all rows are read again.
    is_full: bool,
}

/// The rows of a view at one moment, sorted by their labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeafRows {
    /// Changes with each change.
    pub(crate) version: u64,
    /// A number that changes when the set of rows changes.
    pub(crate) shape: u64,
    pub(crate) labels: Arc<Vec<Labels>>,
    /// By row; of a histogram NaN.
    pub(crate) values: Vec<f64>,
    /// By row, where the sample is a histogram.
    pub(crate) histograms: HashMap<u32, Arc<NativeHistogram>>,
    /// Columns that depend only on the labels, for those who read them again.
    pub(crate) columns: Arc<Mutex<HashMap<String, ArrayRef>>>,
}

#[derive(Default)]
struct LeafState {
    rows: Arc<LeafRows>,
    places: HashMap<Labels, u32>,
    /// The positions of the rows of the latest change. The next change mostly has the same rows in
    /// the same order.
    order: Vec<u32>,
    /// Whether the view has its first result.
    is_ready: bool,
    error: Option<String>,
}

/// The rows of several views at the same moment.
pub(crate) struct Cut {
    /// The time of the newest finished tick.
    pub(crate) t: TimeMs,
    /// In the order of the views.
    pub(crate) rows: Vec<Arc<LeafRows>>,
}

/// Why there are no rows.
pub(crate) enum NoCut {
    /// A view has no answer yet.
    NotReady,
    /// The evaluation of a view failed.
    Failed(String),
}

impl fmt::Debug for LiveLeaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveLeaves")
    }
}

impl fmt::Debug for StatementLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementLeaf").field("view", &self.view).finish_non_exhaustive()
    }
}

/// What a plan is called.
pub(crate) fn leaf_name(plan: &Plan) -> String {
    as_promql(&canonical(plan))
}

impl LiveLeaves {
    pub(crate) fn new(live: LiveRuntime) -> LiveLeaves {
        LiveLeaves { live, views: Mutex::default(), cut: Mutex::default() }
    }

    /// The view of a plan; `None`: it cannot be a live view.
    pub(crate) fn leaf(&self, plan: &Plan) -> Option<Arc<StatementLeaf>> {
        let plan = canonical(plan);
        let name = as_promql(&plan);
        let mut views = self.views.lock();
        if let Some(leaf) = views.get(&name).and_then(Weak::upgrade) {
            return Some(leaf);
        }
        let spec = ViewSpec { name: format!("part of a statement: {name}"), plan, kind: ViewKind::NOW };
        let view = self.live.install(spec).ok()?;
        let queue: Arc<Mutex<EventQueue>> = Arc::default();
        let tap = Mutex::new(self.live.tap(view, Box::new(LeafSink(queue.clone()))));
        let leaf = StatementLeaf { live: self.live.clone(), view, queue, tap, state: Mutex::default() };
        let leaf = Arc::new(leaf);
        views.retain(|_, leaf| leaf.strong_count() > 0);
        views.insert(name, Arc::downgrade(&leaf));
        Some(leaf)
    }

    /// The rows of these views as of the newest finished tick.
    pub(crate) fn cut(&self, leaves: &[Arc<StatementLeaf>]) -> Result<Cut, NoCut> {
        let _one_at_a_time = self.cut.lock();
        let t = self.live.finished_tick().ok_or(NoCut::NotReady)?;
        let rows = leaves.iter().map(|leaf| leaf.advance(t)).collect::<Result<Vec<_>, NoCut>>()?;
        Ok(Cut { t, rows })
    }
}

impl Drop for StatementLeaf {
    fn drop(&mut self) {
        self.live.remove(self.view);
    }
}

impl StatementLeaf {
    /// Takes the events of the ticks up to `t`.
    fn advance(&self, t: TimeMs) -> Result<Arc<LeafRows>, NoCut> {
        let mut state = self.state.lock();
        let events = self.drain(t, &mut state);
        for event in events {
            state.apply(event);
        }
        match (&state.error, state.is_ready) {
            (Some(error), _) => Err(NoCut::Failed(error.clone())),
            (None, true) => Ok(state.rows.clone()),
            (None, false) => Err(NoCut::NotReady),
        }
    }

    /// Removes the events of the ticks up to `t` from the queue.
    fn drain(&self, t: TimeMs, state: &mut LeafState) -> Vec<TapEvent> {
        let mut queue = self.queue.lock();
        if queue.is_full {
            // The sink has ended; a new one gets all rows.
            *queue = EventQueue::default();
            drop(queue);
            state.is_ready = false;
            let sink = Box::new(LeafSink(self.queue.clone()));
            self.live.untap(std::mem::replace(&mut *self.tap.lock(), self.live.tap(self.view, sink)));
            return Vec::new();
        }
        // Up to the last of these ticks. Times ascend, unless the clock was set back.
        let last = queue.events.iter().rposition(|event| event.time() <= t);
        last.map_or_else(Vec::new, |last| queue.events.drain(..=last).collect())
    }
}

impl LeafState {
    fn apply(&mut self, event: TapEvent) {
        match event {
            TapEvent::Snapshot { rows, .. } => {
                self.is_ready = true;
                self.rebuild(rows);
            }
            TapEvent::Delta { upsert, remove, .. } => self.change(upsert, &remove),
            TapEvent::Failed { error, .. } => self.error = Some(error),
            TapEvent::Progress { .. } => self.error = None,
            TapEvent::Annotations { .. } => {}
        }
    }

    fn change(&mut self, upsert: Vec<(Labels, Sample)>, remove: &[Labels]) {
        let mut places = Vec::with_capacity(upsert.len());
        let mut is_new = !remove.is_empty();
        for (i, (labels, _)) in upsert.iter().enumerate() {
            let place = self.place(labels, i);
            is_new |= place.is_none();
            places.push(place);
        }
        if is_new {
            return self.reshape(upsert, remove);
        }
        let rows = Arc::make_mut(&mut self.rows);
        rows.version += 1;
        self.order.clear();
        for ((_, sample), place) in upsert.into_iter().zip(places.into_iter().flatten()) {
            rows.set(place, sample);
            self.order.push(place);
        }
    }

    /// The row of these labels, which are the `i`th of a change.
    fn place(&self, labels: &Labels, i: usize) -> Option<u32> {
        // All events of a row share one allocation of labels, so mostly pointers are compared and
        // no texts.
        let likely = self.order.get(i).copied();
        let is_there = |place: &u32| {
            let known = self.rows.labels.get(*place as usize);
            known.is_some_and(|known| std::ptr::eq(known.encoded(), labels.encoded()))
        };
        likely.filter(is_there).or_else(|| self.places.get(labels).copied())
    }

    /// Applies a change in which rows appear or vanish.
    fn reshape(&mut self, upsert: Vec<(Labels, Sample)>, remove: &[Labels]) {
        let rows = &self.rows;
        let sample = |(i, labels): (usize, &Labels)| (labels.clone(), rows.sample(i));
        let mut all: HashMap<Labels, Sample> = rows.labels.iter().enumerate().map(sample).collect();
        for labels in remove {
            all.remove(labels);
        }
        all.extend(upsert);
        self.rebuild(all.into_iter().collect());
    }

    fn rebuild(&mut self, mut all: Vec<(Labels, Sample)>) {
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let version = self.rows.version + 1;
        let mut rows = LeafRows { version, shape: version, ..LeafRows::default() };
        rows.labels = Arc::new(all.iter().map(|(labels, _)| labels.clone()).collect());
        rows.values = vec![0.0; all.len()];
        for ((_, sample), place) in all.into_iter().zip(0..) {
            rows.set(place, sample);
        }
        self.places = rows.labels.iter().cloned().zip(0..).collect();
        self.order.clear();
        self.rows = Arc::new(rows);
    }
}

impl LeafRows {
    fn set(&mut self, place: u32, sample: Sample) {
        let value = match sample {
            Sample::Float(value) => {
                if !self.histograms.is_empty() {
                    self.histograms.remove(&place);
                }
                value
            }
            Sample::Histogram(histogram) => {
                self.histograms.insert(place, histogram);
                f64::NAN
            }
        };
        if let Some(cell) = self.values.get_mut(place as usize) {
            *cell = value;
        }
    }

    fn sample(&self, i: usize) -> Sample {
        match self.histogram(i) {
            Some(histogram) => Sample::Histogram(histogram),
            None => Sample::Float(self.values.get(i).copied().unwrap_or(f64::NAN)),
        }
    }

    /// The histogram of a row.
    pub(crate) fn histogram(&self, i: usize) -> Option<Arc<NativeHistogram>> {
        let place = u32::try_from(i).ok()?;
        self.histograms.get(&place).cloned()
    }

    /// The number of a row; of a histogram there is none.
    pub(crate) fn value(&self, i: usize) -> Option<f64> {
        if self.histogram(i).is_some() { None } else { self.values.get(i).copied() }
    }
}

/// The sink of a live view, which puts its events into the queue.
struct LeafSink(Arc<Mutex<EventQueue>>);

impl Sink for LeafSink {
    fn push(&mut self, event: TapEvent) -> bool {
        let mut queue = self.0.lock();
        if queue.events.len() >= LEAF_EVENTS {
            // The queue is full: the statement is not being evaluated.
            queue.events.clear();
            queue.is_full = true;
            return false;
        }
        queue.events.push_back(event);
        true
    }

    fn wants_annotations(&self) -> bool {
        false
    }
}
