//! What views say of themselves when somebody asks: a question travels on the control stream, both
//! hosts of every worker answer it at the end of the tick that took it along, and the handle lays
//! the parts together.
//!
//! A tick without a question pays nothing for this but a few stores where something changed. The
//! parts are made in [`super::local`] and [`super::gather`]; what a view remembers of its own past
//! is [`EvaluationHistory`].

use super::cost::EvaluationCost;
use super::{LabelledSample, ViewId, ViewSpec};
use crate::annotations::Annotation;
use crate::query::SubqueryCacheReport;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use storage::model::TimeMs;

/// What is asked: `limit` views from `from` on, in the order of their ids.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub struct DescribeRequest {
    /// Tells its answers from those to an earlier question.
    pub id: u64,
    /// The first view.
    pub from: ViewId,
    /// At most so many views.
    pub limit: usize,
    /// With the rows of their answers.
    pub rows: bool,
}

/// Views as of one tick.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The tick; `None`: nothing stands, so nobody was asked.
    pub t: Option<TimeMs>,
    /// How many views there are, asked for or not.
    pub total: usize,
    /// Those asked for, by id.
    pub views: Vec<ViewReport>,
}

/// One view.
#[derive(Clone, Debug)]
pub struct ViewReport {
    /// Its identity.
    pub id: ViewId,
    /// What was installed.
    pub spec: ViewSpec,
    /// Its answer.
    pub answer: AnswerReport,
    /// What it is made of in the live runtime; `None`: it does not stand there.
    pub work: Option<ViewFootprint>,
    /// What it keeps of its subqueries, if it keeps any.
    pub subquery_cache: Option<SubqueryCacheReport>,
}

/// The answer of a view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerReport {
    /// Consumers.
    pub taps: usize,
    /// Rows that have a value.
    pub rows: usize,
    /// The latest evaluation whose answer was not that of the one before, or the first; `None`:
    /// none has succeeded yet.
    pub changed: Option<TimeMs>,
    /// The latest evaluation, failed or not: as of it the answer is complete.
    pub frontier: Option<TimeMs>,
    /// The latest evaluation that failed, if one did.
    pub failure: Option<EvaluationFailure>,
    /// The answer as of `frontier`, if it was asked for and is still there.
    pub content: Option<AnswerContent>,
}

/// The rows of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerContent {
    /// Those with a value.
    pub rows: Vec<LabelledSample>,
    /// What they should be read with.
    pub notes: Vec<Annotation>,
}

/// An evaluation that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationFailure {
    /// When.
    pub t: TimeMs,
    /// Why.
    pub error: String,
    /// None has succeeded since.
    pub lasts: bool,
}

/// What keeps a view standing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewFootprint {
    /// The worker that gathers it.
    pub owner: usize,
    /// The round of a tick in which it is evaluated.
    pub level: u64,
    /// Its steps of the local stage; each worker runs them for its shards.
    pub local: StepCount,
    /// Its steps of the gather stage. They are shared among the views of one owner only.
    pub gather: StepCount,
    /// Bytes of its steps and of the rings they read.
    pub state: ByteCount,
    /// What evaluating it took; `None`: it has gone meanwhile.
    pub spent: Option<EvaluationCost>,
    /// Rows its windows and selectors looked at, each when it was last evaluated, in all shards.
    pub rows_touched: usize,
    /// The rings it reads.
    pub rings: Vec<RingReport>,
}

/// A number of steps.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct StepCount {
    /// All.
    pub total: usize,
    /// Those that other views read, too.
    pub shared: usize,
}

/// A number of bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ByteCount {
    /// All.
    pub total: usize,
    /// Those of what other views read, too.
    pub shared: usize,
}

impl ByteCount {
    /// Adds `bytes` of something.
    pub fn add(&mut self, bytes: usize, shared: bool) {
        self.total += bytes;
        self.shared += if shared { bytes } else { 0 };
    }
}

/// The recent samples of one selector, in all shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingReport {
    /// The matchers, as a query writes them.
    pub selector: String,
    /// How far back it reaches, ms.
    pub retention: i64,
    /// Its rows: series, those among them that have ended.
    pub series: usize,
    /// Bytes allocated for clocks and columns. Not in it: labels, native histograms, start timestamps.
    pub bytes: usize,
    /// Views that read it.
    pub readers: usize,
}

/// Why there is no description.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// No tick has answered in time.
    #[error("the live runtime has not answered within {0:?}: its ticks take longer, or others ask as well")]
    Late(Duration),
    /// There will be no tick.
    #[error("the live runtime has stopped")]
    Stopped,
}

/// What one host contributes.
#[derive(Debug)]
pub enum HostReport {
    /// A local host.
    Local(LocalReport),
    /// A gather host.
    Gather(GatherReport),
}

/// What a worker's shards know.
#[derive(Debug, Default)]
pub struct LocalReport {
    /// What each view keeps here.
    pub views: BTreeMap<ViewId, LocalViewReport>,
    /// Those rings, as far as they are in this worker's shards; their readers are those of all workers.
    pub rings: BTreeMap<usize, RingReport>,
}

/// The local part of a view's work.
#[derive(Debug, Default)]
pub struct LocalViewReport {
    /// Rows touched.
    pub rows: usize,
    /// Bytes of its steps.
    pub state: ByteCount,
    /// The numbers of its rings, which all workers agree on.
    pub rings: Vec<usize>,
}

/// What an owner knows.
#[derive(Debug)]
pub struct GatherReport {
    /// The tick.
    pub t: TimeMs,
    /// Number of all views.
    pub total: usize,
    /// Those asked for that this worker owns; what only [`LocalReport`]s know is not in them yet.
    pub views: Vec<ViewReport>,
}

impl Description {
    /// Lays the parts of all workers together.
    pub fn of(parts: Vec<HostReport>) -> Description {
        let mut whole = Description::default();
        let (mut touched, mut rings) = (BTreeMap::<ViewId, LocalViewReport>::new(), BTreeMap::new());
        for part in parts {
            match part {
                HostReport::Gather(part) => {
                    (whole.t, whole.total) = (Some(part.t), part.total);
                    whole.views.extend(part.views);
                }
                HostReport::Local(part) => {
                    for (id, local) in part.views {
                        let known = touched.entry(id).or_default();
                        known.rows += local.rows;
                        known.state.total += local.state.total;
                        known.state.shared += local.state.shared;
                        known.rings = local.rings;
                    }
                    part.rings.into_iter().for_each(|(number, ring)| add_ring(&mut rings, number, ring));
                }
            }
        }
        whole.views.sort_unstable_by_key(|view| view.id);
        for view in &mut whole.views {
            let (Some(work), Some(local)) = (&mut view.work, touched.remove(&view.id)) else {
                continue;
            };
            work.rows_touched = local.rows;
            work.state.add(local.state.total - local.state.shared, false);
            work.state.add(local.state.shared, true);
            work.rings = local.rings.iter().filter_map(|number| rings.get(number).cloned()).collect();
            work.rings.iter().for_each(|ring| work.state.add(ring.bytes, ring.readers > 1));
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
    /// Of the rows of the latest answer.
    version: Option<u64>,
    frontier: Option<TimeMs>,
    changed: Option<TimeMs>,
    failure: Option<EvaluationFailure>,
}

impl EvaluationHistory {
    /// The evaluation at `t` succeeded; `version` is that of its rows.
    pub fn answered(&mut self, t: TimeMs, version: u64) {
        self.frontier = Some(t);
        if self.version != Some(version) {
            (self.version, self.changed) = (Some(version), Some(t));
        }
        if let Some(failure) = &mut self.failure {
            failure.lasts = false;
        }
    }

    /// The evaluation at `t` failed.
    pub fn failed(&mut self, t: TimeMs, error: String) {
        self.frontier = Some(t);
        self.failure = Some(EvaluationFailure { t, error, lasts: true });
    }

    /// Versions begin anew: the next answer counts as a change.
    pub fn restart(&mut self) {
        self.version = None;
    }

    /// What is told of the answer.
    pub fn report(&self, taps: usize, rows: usize) -> AnswerReport {
        let changed = self.changed;
        let frontier = self.frontier;
        let failure = self.failure.clone();
        AnswerReport { taps, rows, changed, frontier, failure, content: None }
    }

    /// Whether rows of this version are the latest answer: a step that is shared may have been
    /// evaluated since.
    pub fn is_of(&self, version: u64) -> bool {
        self.version == Some(version)
    }
}

/// Where the handle waits for the parts: one question at a time, so that a tick answers one,
/// however many ask.
#[derive(Default)]
pub struct DescribeExchange {
    turn: Mutex<()>,
    open: Mutex<OpenRequest>,
    news: Condvar,
}

#[derive(Default)]
struct OpenRequest {
    question: u64,
    parts: Vec<HostReport>,
    closed: bool,
}

impl DescribeExchange {
    /// Puts question number `question` by `send` and waits until `expected` parts are there. Waits
    /// twice `patience` at most: once for its turn, once for the answer.
    pub fn ask(
        &self,
        question: u64,
        expected: usize,
        patience: Duration,
        send: impl FnOnce(),
    ) -> Result<Vec<HostReport>, DescribeError> {
        let Some(_turn) = self.turn.try_lock_for(patience) else { return Err(DescribeError::Late(patience)) };
        let mut open = self.open.lock();
        (open.question, open.parts) = (question, Vec::new());
        drop(open);
        send();
        let mut open = self.open.lock();
        let waits = |open: &mut OpenRequest| !open.closed && open.parts.len() < expected;
        self.news.wait_while_for(&mut open, waits, patience);
        let parts = std::mem::take(&mut open.parts);
        match parts.len() {
            found if found >= expected => Ok(parts),
            _ if open.closed => Err(DescribeError::Stopped),
            _ => Err(DescribeError::Late(patience)),
        }
    }

    /// Takes a part. One that comes too late is not kept.
    pub fn hand_in(&self, question: u64, part: HostReport) {
        let mut open = self.open.lock();
        if open.question == question {
            open.parts.push(part);
            self.news.notify_all();
        }
    }

    /// Sends everybody away: there will be no more answers.
    pub fn close(&self) {
        self.open.lock().closed = true;
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests;
