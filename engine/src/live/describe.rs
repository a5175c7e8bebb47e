//! Descriptions of views: their answers, steps, memory and costs. The API shows them to users.
//!
//! A [`DescribeRequest`] is a control message, which reaches all workers at the same point of the
//! order of samples. On every worker the executor of the local stage and that of the gather stage
//! answer it at the end of the tick (the evaluation at one time) that contains it, and the runtime
//! merges the parts into a [`Description`].
//!
//! A tick without a request pays nothing for this but a few stores where something changed. The
//! parts are made in [`super::local`] and [`super::gather`]; [`EvaluationHistory`] is what a view
//! remembers of its own evaluations.

use super::check::{CheckReport, CheckRequest};
use super::cost::EvaluationCost;
use super::{LabelledSample, ViewId, ViewSpec};
use crate::annotations::Annotation;
use crate::query::SubqueryCacheReport;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use storage::model::TimeMs;

/// Asks for `limit` views from `from` on, in the order of their ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DescribeRequest {
    /// Number of the request; answers to earlier ones are ignored.
    pub id: u64,
    /// The first view.
    pub from: ViewId,
    /// The most views to describe.
    pub limit: usize,
    /// Whether to include the rows of their answers.
    pub rows: bool,
    /// The first view is checked: it is evaluated in the tick, and its report has a
    /// [`CheckReport`].
    pub check: Option<CheckRequest>,
}

/// A description of views as of one tick.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// Time of the tick; `None`: no view is installed, so no worker was queried.
    pub t: Option<TimeMs>,
    /// Number of all views.
    pub total: usize,
    /// The requested views, by id.
    pub views: Vec<ViewReport>,
}

/// A description of one view.
#[derive(Clone, Debug)]
pub struct ViewReport {
    /// Id of the view.
    pub id: ViewId,
    /// What was installed.
    pub spec: ViewSpec,
    /// The size of its answer, and the rows if they are wanted.
    pub answer: AnswerReport,
    /// What it consists of in the live runtime; `None` if it is not installed there.
    pub work: Option<ViewFootprint>,
    /// What the caches of its subqueries hold, if it has any.
    pub subquery_cache: Option<SubqueryCacheReport>,
}

/// The answer of a view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerReport {
    /// Number of consumers.
    pub taps: usize,
    /// Number of rows that have a value.
    pub rows: usize,
    /// The latest evaluation whose answer differed from the previous one, or the first; `None`: no
    /// evaluation has succeeded yet.
    pub changed: Option<TimeMs>,
    /// The latest evaluation, failed or not: the answer is complete as of it.
    pub frontier: Option<TimeMs>,
    /// The latest evaluation that failed.
    pub failure: Option<EvaluationFailure>,
    /// The answer as of `frontier`, if it was requested and still exists.
    pub content: Option<AnswerContent>,
    /// The report for a check of the view, if one was requested.
    pub check: Option<CheckReport>,
}

/// The rows of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerContent {
    /// The rows that have a value.
    pub rows: Vec<LabelledSample>,
    /// The annotations of the answer.
    pub annotations: Vec<Annotation>,
}

/// An evaluation that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationFailure {
    /// Time of the evaluation.
    pub t: TimeMs,
    /// The text that a query would fail with.
    pub error: String,
    /// No evaluation has succeeded since.
    pub lasts: bool,
}

/// The steps and the state of a view in the live runtime.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewFootprint {
    /// The worker that owns it: it runs the gather stage.
    pub owner: usize,
    /// The round of a tick in which it is evaluated.
    pub round: u64,
    /// Its steps of the local stage; each worker runs them for its shards.
    pub local: StepCount,
    /// Its steps of the gather stage. Only views of the same owner share them.
    pub gather: StepCount,
    /// Bytes of its steps and of the rings they read.
    pub state: ByteCount,
    /// The cost of its evaluations; `None` if it was removed in the meantime.
    pub spent: Option<EvaluationCost>,
    /// Rows that its selectors and windows read, each when it was last evaluated, in all shards.
    pub rows_touched: usize,
    /// The rings it reads.
    pub rings: Vec<RingReport>,
    /// The leaves, if only this view was requested.
    pub leaves: Vec<LeafReport>,
    /// The steps as a tree, if only this view was requested.
    pub physical_plan: String,
}

/// A leaf of a view, in all shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafReport {
    /// What it computes, as `explain` prints it.
    pub step: String,
    /// How its windows are maintained.
    pub maintenance: &'static str,
    /// When it must be evaluated again, although no sample comes: after this time. `None`: never.
    pub next_due: Option<TimeMs>,
}

impl LeafReport {
    /// The same leaf in other shards falls due then.
    fn add_due(&mut self, other: Option<TimeMs>) {
        // `None` means never, so it must not win as the smallest value of an Option would.
        self.next_due = self.next_due.into_iter().chain(other).min();
    }
}

/// A number of steps.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct StepCount {
    /// All steps.
    pub total: usize,
    /// The steps that other views read, too.
    pub shared: usize,
}

/// A number of bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ByteCount {
    /// All bytes.
    pub total: usize,
    /// The bytes of what other views read, too.
    pub shared: usize,
}

impl ByteCount {
    /// Adds `bytes`.
    pub fn add(&mut self, bytes: usize, shared: bool) {
        self.total += bytes;
        // Shared bytes are contained in the total: the total of a view says what would be needed
        // for it alone.
        self.shared += if shared { bytes } else { 0 };
    }
}

/// The recent samples of one selector, in all shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingReport {
    /// The matchers, as a query writes them.
    pub selector: String,
    /// How far back the ring reaches, in ms.
    pub retention: i64,
    /// Number of series, ended ones included.
    pub series: usize,
    /// Bytes allocated for times and columns, without labels, native histograms and start
    /// timestamps.
    pub bytes: usize,
    /// Number of views that read the ring.
    pub readers: usize,
}

/// Why there is no description.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// No tick has answered in time.
    #[error("the live runtime has not answered within {0:?}: its ticks take longer, or others ask as well")]
    Late(Duration),
    /// The runtime has stopped; there will be no further tick.
    #[error("the live runtime has stopped")]
    Stopped,
}

/// The part of one executor.
#[derive(Debug)]
pub enum HostReport {
    /// From a local executor.
    Local(LocalReport),
    /// From a gather executor.
    Gather(GatherReport),
}

/// The part of the shards of one worker.
#[derive(Debug, Default)]
pub struct LocalReport {
    /// By view: its state in these shards.
    pub views: BTreeMap<ViewId, LocalViewReport>,
    /// Those rings, as far as they are in this worker's shards. Their readers are those of all
    /// workers.
    pub rings: BTreeMap<usize, RingReport>,
}

/// The state of one view in the shards of a worker.
#[derive(Debug, Default)]
pub struct LocalViewReport {
    /// Number of rows read.
    pub rows: usize,
    /// Bytes of its steps.
    pub state: ByteCount,
    /// Numbers of its rings, which are the same in all workers.
    pub rings: Vec<usize>,
    /// Its leaves by their step, as far as these shards know.
    pub leaves: BTreeMap<usize, LeafReport>,
}

/// The part of the views that one worker owns.
#[derive(Debug)]
pub struct GatherReport {
    /// Time of the tick.
    pub t: TimeMs,
    /// Number of all views.
    pub total: usize,
    /// The requested views that this worker owns, without what only [`LocalReport`]s have.
    pub views: Vec<ViewReport>,
}

impl Description {
    /// Merges the parts of all workers.
    pub fn from_reports(parts: Vec<HostReport>) -> Description {
        let mut whole = Description::default();
        let mut touched = BTreeMap::<ViewId, LocalViewReport>::new();
        let mut rings = BTreeMap::new();
        for part in parts {
            match part {
                HostReport::Gather(part) => {
                    // All gather executors answer the same request at the same tick, so it does not
                    // matter whose time is taken.
                    whole.t = Some(part.t);
                    whole.total = part.total;
                    whole.views.extend(part.views);
                }
                HostReport::Local(part) => {
                    for (id, local) in part.views {
                        let known = touched.entry(id).or_default();
                        known.rows += local.rows;
                        known.state.total += local.state.total;
                        known.state.shared += local.state.shared;
                        // Numbers of rings are the same in all workers, hence replaced and not
                        // appended.
                        known.rings = local.rings;
                        for (step, leaf) in local.leaves {
                            let due = leaf.next_due;
                            // The first shard that is due decides: then the leaf is evaluated, in
                            // that shard.
                            known.leaves.entry(step).or_insert(leaf).add_due(due);
                        }
                    }
                    for (number, ring) in part.rings {
                        add_ring(&mut rings, number, ring);
                    }
                }
            }
        }
        // The owners' parts arrive in any order.
        whole.views.sort_unstable_by_key(|view| view.id);
        for view in &mut whole.views {
            // A view that is evaluated from the store has no steps here.
            let (Some(work), Some(local)) = (&mut view.work, touched.remove(&view.id)) else {
                continue;
            };
            work.rows_touched = local.rows;
            work.leaves = local.leaves.into_values().collect();
            work.state.add(local.state.total - local.state.shared, false);
            work.state.add(local.state.shared, true);
            // Only now, when the parts of all workers are added up: a ring that several views read
            // counts as shared in each.
            work.rings = local.rings.iter().filter_map(|number| rings.get(number).cloned()).collect();
            for ring in &work.rings {
                work.state.add(ring.bytes, ring.readers > 1);
            }
        }
        whole
    }
}

fn add_ring(rings: &mut BTreeMap<usize, RingReport>, number: usize, part: RingReport) {
    match rings.get_mut(&number) {
        Some(ring) => {
            ring.series += part.series;
            ring.bytes += part.bytes;
        }
        None => drop(rings.insert(number, part)),
    }
}

/// What a view remembers of its evaluations.
#[derive(Debug, Default)]
pub struct EvaluationHistory {
    /// Version of the rows of the latest answer.
    version: Option<u64>,
    frontier: Option<TimeMs>,
    changed: Option<TimeMs>,
    failure: Option<EvaluationFailure>,
}

impl EvaluationHistory {
    /// The evaluation at `t` succeeded; `version` is that of its rows.
    pub fn answered(&mut self, t: TimeMs, version: u64) {
        self.frontier = Some(t);
        // Rows keep their version if no value changed. Comparing the rows would cost as much as the
        // evaluation.
        if self.version != Some(version) {
            self.version = Some(version);
            self.changed = Some(t);
        }
        if let Some(failure) = &mut self.failure {
            // The failure stays, with its time: an operator wants to know that there was one.
            failure.lasts = false;
        }
    }

    /// The evaluation at `t` failed.
    pub fn failed(&mut self, t: TimeMs, error: String) {
        self.frontier = Some(t);
        // The frontier moves as well: that the evaluation failed is the complete answer as of this
        // time.
        self.failure = Some(EvaluationFailure { t, error, lasts: true });
    }

    /// Versions are counted from the beginning: the next answer counts as a change.
    pub fn restart(&mut self) {
        self.version = None;
    }

    /// A report on the answer.
    pub fn report(&self, taps: usize, rows: usize) -> AnswerReport {
        let changed = self.changed;
        let frontier = self.frontier;
        let failure = self.failure.clone();
        AnswerReport { taps, rows, changed, frontier, failure, content: None, check: None }
    }

    /// The error of the latest evaluation, if it failed.
    pub fn lasting_failure(&self) -> Option<String> {
        self.failure.as_ref().filter(|failure| failure.lasts).map(|failure| failure.error.clone())
    }

    /// Whether rows of this version are the latest answer. A shared step may have been evaluated
    /// since, for another view.
    pub fn is_of(&self, version: u64) -> bool {
        self.version == Some(version)
    }
}

/// Where a caller waits for the parts of a description. One request at a time, so that a tick
/// answers at most one, however many callers there are.
#[derive(Default)]
pub struct DescribeExchange {
    turn: Mutex<()>,
    open: Mutex<OpenRequest>,
    news: Condvar,
}

#[derive(Default)]
struct OpenRequest {
    request: u64,
    parts: Vec<HostReport>,
    closed: bool,
}

impl DescribeExchange {
    /// Sends request number `request` with `send` and waits until `expected` parts have arrived.
    /// Waits at most twice `timeout`: once for its turn, once for the answer.
    pub fn request(
        &self,
        request: u64,
        expected: usize,
        timeout: Duration,
        send: impl FnOnce(),
    ) -> Result<Vec<HostReport>, DescribeError> {
        // Callers queue here and not on the control stream, so that many of them cannot slow down
        // ticks.
        let Some(_turn) = self.turn.try_lock_for(timeout) else { return Err(DescribeError::Late(timeout)) };
        let mut open = self.open.lock();
        open.request = request;
        // A late part of the previous request has another number and is dropped, so this can be
        // reset before sending.
        open.parts = Vec::new();
        // Released before `send`, so that no foreign code runs while the lock is held.
        drop(open);
        send();
        let mut open = self.open.lock();
        // Spurious wake-ups are possible, so the condition is checked again each time.
        let waits = |open: &mut OpenRequest| !open.closed && open.parts.len() < expected;
        self.news.wait_while_for(&mut open, waits, timeout);
        let parts = std::mem::take(&mut open.parts);
        match parts.len() {
            // Complete parts count even if the runtime has stopped since.
            found if found >= expected => Ok(parts),
            _ if open.closed => Err(DescribeError::Stopped),
            _ => Err(DescribeError::Late(timeout)),
        }
    }

    /// Takes a part. It is dropped if it belongs to an earlier request.
    pub fn submit(&self, request: u64, report: HostReport) {
        let mut open = self.open.lock();
        if open.request == request {
            open.parts.push(report);
            self.news.notify_all();
        }
    }

    /// Ends all waiting: there will be no more answers.
    pub fn close(&self) {
        self.open.lock().closed = true;
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests;
