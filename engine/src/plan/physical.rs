//! Physical plans: a plan divided into a *local stage*, which every shard (a fixed share of the
//! series) computes from its own series, and a *gather stage*, which one worker computes from the
//! rows of all shards. Each stage is a list of *steps*. A *leaf* is a step that reads samples; a
//! *port* is a step of the local stage whose rows the gather stage reads.
//!
//! This division lets one worker, many workers and many processes run the same code. Selectors,
//! windows, functions of single series and partial aggregates are local. Matching, the merge of
//! aggregates and everything that needs several shards is in the gather stage ([`super::lowering`]
//! makes the division). Scalars without series (numbers, `time()`) are computed wherever they are
//! needed. Equal steps exist once (hash-consing). [`crate::operators`] has the code of the steps.

use super::details::{HistogramFunction, InfoSelector, MetricName};
use super::lowering::{self, Purpose};
use super::{AggregateOp, AtTime, BinaryOp, BitFloat, Dialect, FunctionRef, Grouping, Plan, VectorMatching};
use crate::annotations::StepOrigin;
use crate::functions::Kernel;
use storage::model::Labels;

pub use super::leaf::{Leaf, SampleSource};

/// Index of a step in its stage.
pub type StepId = usize;

/// One step of a stage: an operation and its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// What the step computes from the outputs of `inputs`.
    pub op: StepOp,
    /// The inputs: earlier steps of the same stage.
    pub inputs: Vec<StepId>,
}

/// The operations of both stages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StepOp {
    /// Samples of the shard's own series.
    Leaf(SampleSource, Leaf),
    /// In queries only: a scalar parameter of leaves that depends on series. Its values are those
    /// of [`PhysicalPlan::scalar_params`] with that number, evaluated before.
    ScalarParam(usize),
    /// A constant.
    Number(BitFloat),
    /// A scalar function of the evaluation time, shifted into the past by this many ms.
    TimeScalar(FunctionRef, i64),
    /// A function per sample; inputs: the vector (or scalar), then scalar parameters.
    Map(FunctionRef),
    /// A function per sample, applied to the evaluation time; a vector without labels. Shifted as
    /// `TimeScalar`.
    TimeVector(FunctionRef, i64),
    /// Unary minus.
    Negate,
    /// New labels for each series.
    Relabel(FunctionRef, Vec<String>),
    /// An operator between scalars.
    ScalarBinary(BinaryOp),
    /// A function of scalars only.
    ScalarFunction(FunctionRef),
    /// An operator between a vector (input 0) and a scalar (input 1).
    VectorScalar {
        /// Arithmetic or a comparison.
        op: BinaryOp,
        /// Comparisons return 0 or 1.
        return_bool: bool,
        /// The scalar is the left operand.
        scalar_left: bool,
    },
    /// An operator between vectors.
    VectorMatch(BinaryOp, bool, VectorMatching),
    /// `and`, `or`, `unless`.
    SetOperator(BinaryOp, VectorMatching),
    /// The partial aggregate of each group in a shard.
    PartialAggregate(AggregateOp, Grouping),
    /// Merges the partial aggregates of all shards.
    MergeAggregate(AggregateOp, MetricName),
    /// An aggregation that needs all rows; inputs: vector, parameter (if it is a scalar).
    WholeGroup(AggregateOp, Grouping, Option<String>),
    /// One sample with these labels if the count (input 0) has no row.
    Absent(Labels),
    /// The value of the only row, or NaN.
    ToScalar,
    /// A scalar as a vector without labels.
    ToVector,
    /// A function of histograms; inputs: its scalars, the vector.
    Histogram(HistogramFunction),
    /// Adds labels of info series; inputs: the vector, the info series.
    Info(InfoSelector),
    /// The floats of a vector. The order (`true`: descending) is made when the answer is formed.
    Sort(bool),
    /// The vector itself; the answer is sorted by the values of these labels, in natural order.
    SortByLabel(Vec<String>, bool),
    /// With delayed names the last step: drops the names of rows that are marked.
    DropNames,
    /// Gather stage only: the rows of a local step from all shards.
    Port(StepId),
    /// Gather stage of queries only: a window over the rows of this subquery; inputs: parameters.
    Subquery(usize, SubqueryFunction),
    /// Gather stage of views only: the answer of a query over the store.
    StoreQuery(StoreQuery),
}

/// A part of a view's plan that cannot be computed from rings: subqueries, times that do not move
/// with the evaluation, the future, window parameters that depend on series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreQuery {
    /// The plan; its answer is a vector.
    pub plan: Plan,
    /// It is evaluated this many ms before the evaluation time.
    pub shift: i64,
}

/// Whether the steps of a view may query the store.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StoreQueries {
    /// They may.
    Allowed,
    /// A plan that needs such queries is rejected.
    Refused,
}

/// What is computed from the rows of a subquery.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum SubqueryFunction {
    /// A window function.
    Call(FunctionRef),
    /// 1 for each series with a sample in the window.
    Present,
}

/// A plan that is evaluated at every multiple of `step` in a window of `range` ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subquery {
    /// What is evaluated at each time of the subquery.
    pub input: Plan,
    /// Length of the window, in ms.
    pub range: i64,
    /// Time between evaluations, in ms; `None`: the default.
    pub step: Option<i64>,
    /// Shift into the past, in ms.
    pub offset: i64,
    /// Fixed evaluation time (`@`).
    pub at: Option<AtTime>,
}

/// A plan divided into two stages.
#[derive(Clone, Debug, Default)]
pub struct PhysicalPlan {
    /// Steps of the local stage.
    pub local: Vec<Step>,
    /// Steps of the gather stage.
    pub gather: Vec<Step>,
    /// Where in the query each local step comes from.
    pub local_origins: Vec<StepOrigin>,
    /// Where in the query each gather step comes from.
    pub gather_origins: Vec<StepOrigin>,
    /// The step of the gather stage that is the answer.
    pub root: StepId,
    /// Whether the answer is a scalar (one row without labels).
    pub scalar: bool,
    /// The subqueries, which steps of the gather stage reference by number.
    pub subqueries: Vec<Subquery>,
    /// The scalar parameters, which [`StepOp::ScalarParam`] steps reference by number. They must be
    /// evaluated first, at the same times.
    pub scalar_params: Vec<Plan>,
}
/// Why a plan cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LowerError(pub String);

impl PhysicalPlan {
    /// The physical plan of a view. It is evaluated `shift` ms in the past (a rule's query offset).
    pub fn for_view(
        plan: &Plan,
        shift: i64,
        dialect: Dialect,
        queries: StoreQueries,
    ) -> Result<PhysicalPlan, LowerError> {
        lowering::cut(plan, shift, Purpose::View(queries), dialect)
    }

    /// The physical plan of a query over history, which may have subqueries. `inner`: it is the
    /// input of one.
    pub fn for_history(plan: &Plan, inner: bool, dialect: Dialect) -> Result<PhysicalPlan, LowerError> {
        lowering::cut(plan, 0, Purpose::Query { inner }, dialect)
    }

    /// The physical plan of a query over history for a part of a view's plan. With delayed names
    /// its rows still have their names.
    pub fn for_part(plan: &Plan, dialect: Dialect) -> Result<PhysicalPlan, LowerError> {
        lowering::cut(plan, 0, Purpose::Part, dialect)
    }

    /// The step that decides the order of the answer.
    pub fn presentation_step(&self) -> &StepOp {
        // Dropping names keeps the order of its input.
        let root = &self.gather[self.root];
        if root.op == StepOp::DropNames { &self.gather[root.inputs[0]].op } else { &root.op }
    }
}

impl StepOp {
    /// Whether the value changes with time although no input changes. Leaves are not included: they
    /// set timers.
    pub fn follows_clock(&self) -> bool {
        match self {
            StepOp::TimeScalar(..)
            | StepOp::TimeVector(..)
            | StepOp::Subquery(..)
            | StepOp::ScalarParam(_) => true,
            StepOp::StoreQuery(_) => true,
            // `timestamp()` of a computed value is the evaluation time.
            StepOp::Map(function) => matches!(function.0.kernel, Kernel::Operator(_)),
            _ => false,
        }
    }
}
