//! What a check of a view asks the live runtime, and what the runtime answers.
//!
//! A check compares the answer that the runtime keeps with one that the query runtime works out
//! from scratch. The request travels with a [`super::describe::DescribeRequest`]. The tick that
//! takes it along evaluates all steps of the view, whether or not it is due, and records nothing for
//! it. So the answer is that of the tick.
//!
//! Samples go on arriving. One that arrives after the tick began and before the query selected its
//! series is in one answer and not in the other. Each shard therefore watches ([`ArrivalWatch`])
//! whether such a sample came to a ring of the view. The next request reports it.

use super::{LabelledSample, ViewId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use storage::model::{Labels, TimeMs};

/// What a check wants to know besides the description of the view.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckRequest {
    /// Rows of the answer. The report says why what they are made of was last evaluated.
    pub rows: Vec<Labels>,
}

/// What the live runtime says to a check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckReport {
    /// The tick.
    pub t: TimeMs,
    /// The rows of the view at that tick, or the error of its evaluation.
    pub answer: Result<Vec<LabelledSample>, String>,
    /// The check before this one proves nothing: samples have come that its query may have seen and
    /// its tick had not, or samples of the view are being read from the store.
    pub raced: bool,
    /// Why the series below the requested rows were last evaluated.
    pub evaluations: Vec<LastEvaluation>,
}

/// The latest evaluation of one series by one leaf.
#[derive(Clone, Debug, PartialEq)]
pub struct LastEvaluation {
    /// The series.
    pub series: Labels,
    /// The leaf, as `explain` prints it.
    pub step: String,
    /// The tick.
    pub t: TimeMs,
    /// Why.
    pub cause: EvaluationCause,
}

/// Why a leaf evaluated a block. A block is the series of a selector that have their times in common.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EvaluationCause {
    /// The samples of the block were read from the store.
    Load,
    /// A sample came.
    Sample,
    /// The answer held until then: a sample left the window, or came into it, or grew stale.
    Timer,
    /// A parameter of the function changed.
    Parameter,
}

/// Which rings a check read, and up to what times.
#[derive(Debug)]
pub struct ArrivalWatch {
    view: ViewId,
    until: BTreeMap<usize, TimeMs>,
    /// A sample came that the query of the check may have seen and its tick had not.
    hit: bool,
}

impl ArrivalWatch {
    /// For a check of `view`.
    pub fn new(view: ViewId) -> ArrivalWatch {
        ArrivalWatch { view, until: BTreeMap::new(), hit: false }
    }

    /// Whether this is the watch of a check of `view`, and no such sample came.
    pub fn is_clear(&self, view: ViewId) -> bool {
        self.view == view && !self.hit
    }

    /// The view looks at samples up to `until` in ring number `ring`.
    pub fn add(&mut self, ring: usize, until: TimeMs) {
        let known = self.until.entry(ring).or_insert(until);
        *known = until.max(*known);
    }

    /// A sample at `t` came to ring number `ring`.
    pub fn see(&mut self, ring: usize, t: TimeMs) {
        self.hit |= self.until.get(&ring).is_some_and(|until| t <= *until);
    }
}

/// Whether a series may be part of a row of an answer: each label that the row has and the series
/// has, too, has the same value. Labels that the expression makes are not in the series.
pub fn may_contribute(series: &Labels, row: &Labels) -> bool {
    let same = |(name, value): (&str, &str)| series.get(name).is_none_or(|own| own == value);
    row.iter().all(same)
}
