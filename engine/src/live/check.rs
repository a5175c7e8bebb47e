//! The request of a view check to the live runtime, and the report. Ticks, rings and shards are
//! explained in [`crate::live`].
//!
//! A check compares the answer that the runtime maintains with one that the query runtime computes
//! from scratch. The request is part of a [`super::describe::DescribeRequest`]. The tick that
//! handles it evaluates all steps of the view, even if the view is not due, and records nothing for
//! it. So the report has the answer at that tick.
//!
//! Samples continue to arrive. A sample that arrives after the tick began and before the query
//! selects its series is in one answer and not in the other. So each shard watches
//! ([`ArrivalWatch`]) whether such a sample reaches a ring of the view. The report on the next
//! request says so.

use super::{LabelledSample, ViewId};
use crate::operators::EvalError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use storage::model::{Labels, TimeMs};

/// What a check requests besides the description of the view.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckRequest {
    /// Rows of the answer. The report says why the series that contribute to them were last
    /// evaluated.
    pub rows: Vec<Labels>,
}

/// The live runtime's report on a view for a check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckReport {
    /// The time of the tick.
    pub t: TimeMs,
    /// The rows of the view at that tick, or the error of its evaluation.
    pub answer: Result<Vec<LabelledSample>, EvalError>,
    /// The previous check proves nothing: samples arrived that its query may have read and its tick
    /// had not, or samples of the view are still being read from the store.
    pub raced: bool,
    /// Why the series that contribute to the requested rows were last evaluated.
    pub evaluations: Vec<LastEvaluation>,
}

/// The part of one worker in the check of a view: what its shards say. All workers of all processes
/// send it, at the end of the tick, to the worker that owns the view. So a check is decided in a
/// cluster as in one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerCheck {
    /// The view that is checked.
    pub view: ViewId,
    /// See [`CheckReport::raced`], as far as these shards know.
    pub raced: bool,
    /// See [`CheckReport::evaluations`], in these shards.
    pub evaluations: Vec<LastEvaluation>,
}

/// The latest evaluation of one series by one leaf.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastEvaluation {
    /// Labels of the series that was evaluated.
    pub series: Labels,
    /// The leaf, as `explain` prints it.
    pub step: String,
    /// The time of the tick.
    pub t: TimeMs,
    /// The cause of the evaluation.
    pub cause: EvaluationCause,
}

/// Why a leaf evaluated a block. A block is the series of a selector with the same sample times.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvaluationCause {
    /// The samples of the block were read from the store.
    Load,
    /// A sample arrived.
    Sample,
    /// The validity of the answer ended: a sample left or entered the window, or became stale.
    Timer,
    /// A parameter of the function changed.
    Parameter,
}

/// The rings that a check read, and the newest time that it reads in each.
#[derive(Debug)]
pub struct ArrivalWatch {
    view: ViewId,
    until: BTreeMap<usize, TimeMs>,
    /// A sample arrived that the query of the check may have read and its tick had not.
    hit: bool,
}

impl ArrivalWatch {
    /// A watch for a check of `view`.
    pub fn new(view: ViewId) -> ArrivalWatch {
        ArrivalWatch { view, until: BTreeMap::new(), hit: false }
    }

    /// Whether this is the watch of a check of `view`, and no such sample arrived.
    pub fn is_clear(&self, view: ViewId) -> bool {
        self.view == view && !self.hit
    }

    /// Records that the view reads samples up to `until` from the ring with index `ring`.
    pub fn add(&mut self, ring: usize, until: TimeMs) {
        let known = self.until.entry(ring).or_insert(until);
        *known = until.max(*known);
    }

    /// Records that a sample at `t` arrived in the ring with index `ring`.
    pub fn see(&mut self, ring: usize, t: TimeMs) {
        self.hit |= self.until.get(&ring).is_some_and(|until| t <= *until);
    }
}

/// Whether a series may contribute to a row of an answer: every label that both have has the same
/// value. Labels that the expression adds are not in the series.
pub fn may_contribute(series: &Labels, row: &Labels) -> bool {
    let same = |(name, value): (&str, &str)| series.get(name).is_none_or(|own| own == value);
    row.iter().all(same)
}
