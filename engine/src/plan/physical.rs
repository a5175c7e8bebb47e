//! The physical plan: a plan cut once into a *local stage*, which every shard computes from its own series,
//! and a *gather stage* at one owner.
//!
//! The cut is what makes one node, many workers and many machines the same code. Selections,
//! windows, maps over one series and partial aggregation are local; matching, final aggregation and
//! whatever sees several shards is gathered ([`super::lowering`] is who cuts). Pure scalars
//! (numbers, `time()`) are computed wherever they are needed. Equal steps are one step
//! (hash-consing); [`crate::operators`] says how each is computed.

use super::details::{HistogramFunction, InfoSelector, MetricName};
use super::lowering::{self, Purpose};
use super::{AggregateOp, AtTime, BinaryOp, BitFloat, Dialect, FunctionRef, Grouping, Plan, VectorMatching};
use crate::annotations::StepOrigin;
use crate::functions::Kernel;
use storage::model::Labels;

pub use super::leaf::{Leaf, SampleSource};

/// Index of a step in its stage.
pub type StepId = usize;

/// One step of a stage: an operation and the steps it reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// What is computed.
    pub op: StepOp,
    /// Its operands: earlier steps of the same stage.
    pub inputs: Vec<StepId>,
}

/// The operations of both stages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StepOp {
    /// Samples of the shard's own series.
    Leaf(SampleSource, Leaf),
    /// Query over history only: a scalar that depends on series, as [`PhysicalPlan::given`] of that
    /// number answered it for each evaluation time. Leaves read it.
    Given(usize),
    /// A constant.
    Number(BitFloat),
    /// A scalar function of the evaluation time, shifted into the past by so many ms.
    Clock(FunctionRef, i64),
    /// A function per sample; inputs: the vector (or scalar), then scalar parameters.
    Map(FunctionRef),
    /// A function per sample of the evaluation time itself, as a vector without labels, shifted as `Clock`.
    MapClock(FunctionRef, i64),
    /// Unary minus.
    Negate,
    /// New labels for each series.
    Relabel(FunctionRef, Vec<String>),
    /// Scalar with scalar.
    ScalarBinary(BinaryOp),
    /// A function of scalars only.
    Scalars(FunctionRef),
    /// Vector (input 0) with scalar (input 1).
    VectorScalar {
        /// The operator.
        op: BinaryOp,
        /// Comparisons answer 0 or 1.
        return_bool: bool,
        /// The scalar is the left operand.
        scalar_left: bool,
    },
    /// Vector with vector.
    Match(BinaryOp, bool, VectorMatching),
    /// `and`, `or`, `unless`.
    Set(BinaryOp, VectorMatching),
    /// Per group and shard: the part of an aggregate that can be merged.
    Partial(AggregateOp, Grouping),
    /// Merges partial aggregates of all shards.
    Merge(AggregateOp, MetricName),
    /// An aggregation that needs all rows; inputs: vector, parameter (if it is a scalar).
    Group(AggregateOp, Grouping, Option<String>),
    /// One sample with these labels if the count (input 0) has no row.
    Absent(Labels),
    /// The only row, or NaN.
    ToScalar,
    /// A scalar as a vector without labels.
    ToVector,
    /// A question to histograms; inputs: its scalars, the vector.
    Histogram(HistogramFunction),
    /// The labels of info series are added; inputs: the vector, the info series.
    Info(InfoSelector),
    /// The floats; the order of presentation (`true`: descending) is the reader's business.
    Sort(bool),
    /// Identity; the order is that of the values of these labels, natural.
    SortByLabel(Vec<String>, bool),
    /// With delayed names, the last step: rows lose the names that they should have lost on the way.
    DropNames,
    /// Gather stage only: the rows of a local step, of all shards.
    Port(StepId),
    /// Gather stage of a query over history only: a window over the rows of this subquery; inputs:
    /// parameters.
    Subquery(usize, SubqueryFunction),
    /// Gather stage of views only: the answer of a query over the store.
    StoreQuery(StoreQuery),
}

/// A part of a view's plan that the rings of leaves cannot answer: subqueries, times that do not
/// move with the evaluation, the future, parameters of windows that depend on series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreQuery {
    /// The plan; its answer is a vector.
    pub plan: Plan,
    /// It is asked for so many ms before the evaluation time.
    pub shift: i64,
}

/// Whether the steps of a view may be queries over the store.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StoreQueries {
    /// They may.
    Allowed,
    /// A plan that needs them cannot stand.
    Refused,
}

/// What becomes of the rows of a subquery.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum SubqueryFunction {
    /// A window function.
    Call(FunctionRef),
    /// 1 for each series with a sample in the window.
    Present,
}

/// A plan to be evaluated at every multiple of `step` in a window of `range` ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subquery {
    /// The plan.
    pub input: Plan,
    /// Length of the window, ms.
    pub range: i64,
    /// Distance of evaluations, ms; `None`: the default.
    pub step: Option<i64>,
    /// Shift into the past, ms.
    pub offset: i64,
    /// Pinned evaluation time.
    pub at: Option<AtTime>,
}

/// A plan cut into two stages.
#[derive(Clone, Debug, Default)]
pub struct PhysicalPlan {
    /// Steps of the local stage.
    pub local: Vec<Step>,
    /// Steps of the gather stage.
    pub gather: Vec<Step>,
    /// Where each local step stood in the query.
    pub local_origins: Vec<StepOrigin>,
    /// Where each gather step stood.
    pub gather_origins: Vec<StepOrigin>,
    /// The step of the gather stage that is the answer.
    pub root: StepId,
    /// Type of the answer is a scalar (one row without labels).
    pub scalar: bool,
    /// The subqueries that steps of the gather stage name by number.
    pub subqueries: Vec<Subquery>,
    /// The scalars that [`StepOp::Given`] steps name by number: to be asked first, at the same times.
    pub scalar_params: Vec<Plan>,
}
/// Why a plan cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LowerError(pub String);

impl PhysicalPlan {
    /// Cuts the plan of a view. Everything is asked `shift` ms in the past (a rule's query offset).
    pub fn of(
        plan: &Plan,
        shift: i64,
        dialect: Dialect,
        queries: StoreQueries,
    ) -> Result<PhysicalPlan, LowerError> {
        lowering::cut(plan, shift, Purpose::View(queries), dialect)
    }

    /// Cuts `plan` for a query over history, which may have subqueries. `inner`: it is itself one.
    pub fn for_history(plan: &Plan, inner: bool, dialect: Dialect) -> Result<PhysicalPlan, LowerError> {
        lowering::cut(plan, 0, Purpose::Query { inner }, dialect)
    }

    /// Cuts `plan`, a part of a view's plan, for a query over history: with delayed names its rows
    /// still have the names that they are to lose.
    pub fn of_part(plan: &Plan, dialect: Dialect) -> Result<PhysicalPlan, LowerError> {
        lowering::cut(plan, 0, Purpose::Part, dialect)
    }

    /// The step that decides the order of presentation.
    pub fn presentation_step(&self) -> &StepOp {
        let root = &self.gather[self.root];
        if root.op == StepOp::DropNames { &self.gather[root.inputs[0]].op } else { &root.op }
    }
}

impl StepOp {
    /// Whether the value moves with time although no input changes. Leaves know that by themselves.
    pub fn follows_clock(&self) -> bool {
        match self {
            StepOp::Clock(..) | StepOp::MapClock(..) | StepOp::Subquery(..) | StepOp::Given(_) => true,
            StepOp::StoreQuery(_) => true,
            StepOp::Map(function) => matches!(function.0.kernel, Kernel::Special(_)),
            _ => false,
        }
    }
}
