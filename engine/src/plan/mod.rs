//! Plans: the intermediate form of a query, which query languages produce and both runtimes
//! (queries over history, and views that are kept current) run.
//!
//! A node has everything that a runtime needs, with functions and labels resolved. Two nodes are
//! equal if they compute the same, wherever they are in the query text: spans (positions in the
//! text) are not part of equality or hashing, so that equal parts of plans can be shared.
//! [`physical`] divides a plan into two stages: the local one, which runs once for each shard, and
//! the gather stage, which merges.

pub mod as_promql;
pub mod canonical;
pub mod details;
pub mod explain;
pub mod explain_physical;
mod leaf;
mod lowering;
mod origin;
pub mod physical;
pub mod row_labels;
pub mod statement;

pub use crate::types::{Span, ValueType, WindowExtension};
pub use origin::expression_spans;

use crate::functions::Function;
use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use storage::model::{Matcher, TimeMs};

/// A plan, or a part of one. Cheap to clone and to share.
pub type Plan = Arc<PlanNode>;

/// Optional meanings of the query language, the same for all plans of a process.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialect {
    /// Computed values lose their metric name when the answer is complete, not immediately (feature
    /// `promql-delayed-name-removal`).
    pub delayed_names: bool,
    /// Start timestamps are used to find counter resets (feature `use-start-timestamps`).
    pub start_timestamps: bool,
    /// The label `__type__` says what is a counter (feature `type-and-unit-labels`).
    pub type_and_unit_labels: bool,
}

/// One node of a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanNode {
    /// What it computes.
    pub op: PlanOp,
    /// Its position in the query.
    pub span: Span,
}

impl PartialEq for PlanNode {
    fn eq(&self, other: &Self) -> bool {
        // The span is left out: the same part at two places of a query is computed once, and only
        // for messages its position matters.
        self.op == other.op
    }
}
impl Eq for PlanNode {}
impl Hash for PlanNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.op.hash(state);
    }
}

/// A number that is equal if its bits are.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub struct BitFloat(pub f64);

impl PartialEq for BitFloat {
    fn eq(&self, other: &Self) -> bool {
        // By bits, since `NaN` must equal itself for a plan to be found again, and `0` and `-0`
        // give different results.
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for BitFloat {}
impl Hash for BitFloat {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PlanOp {
    /// A number.
    Number(BitFloat),
    /// A string.
    Text(String),
    /// The newest sample of each series within the lookback.
    Instant(Selector),
    /// All samples of each series within `range` ms.
    Range {
        /// Which series.
        selector: Selector,
        /// Length of the window, in ms.
        range: i64,
    },
    /// An inner plan that is evaluated at every `step` ms of a window of `range` ms.
    Subquery {
        /// The inner plan.
        input: Plan,
        /// Length of the window, in ms.
        range: i64,
        /// Time between evaluations, in ms; `None`: the default evaluation interval.
        step: Option<i64>,
        /// Shift into the past, in ms.
        offset: i64,
        /// Fixed evaluation time (`@`).
        at: Option<AtTime>,
    },
    /// A function call.
    Call {
        /// An entry of the table of functions.
        function: FunctionRef,
        /// The arguments, as many as were given.
        args: Vec<Plan>,
    },
    /// Unary minus.
    Negate(Plan),
    /// Unary plus: the value of its operand. It is a computed value, not a selector.
    Plus(Plan),
    /// A binary operator.
    Binary(Box<Binary>),
    /// An aggregation.
    Aggregate(Box<Aggregate>),
}

/// Which series, and at which time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Selector {
    /// All of them must match. A metric name is the matcher `__name__="…"`.
    pub matchers: Vec<Matcher>,
    /// Shift into the past, in ms; negative: into the future.
    pub offset: i64,
    /// Fixed evaluation time (`@`).
    pub at: Option<AtTime>,
    /// Also reads samples outside of the window.
    pub extension: Option<WindowExtension>,
}

/// The time after `@`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AtTime {
    /// `@ 1234.5`
    Time(TimeMs),
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
}

/// A binary operator with its operands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Binary {
    /// Arithmetic, a comparison, or `and`, `or`, `unless`.
    pub op: BinaryOp,
    /// `bool`: comparisons return 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// How vectors are matched; ignored unless both operands are vectors.
    pub matching: VectorMatching,
    /// Left operand.
    pub lhs: Plan,
    /// Right operand.
    pub rhs: Plan,
    /// Type of the answer: a scalar if both operands are scalars. Stored, because it is needed at
    /// each operator of a chain.
    pub kind: ValueType,
}

/// Defines an enum of keywords: its variants, a list of all of them, and their spelling.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$about:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$about])* $variant,)*
        }

        impl $name {
            /// All variants.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The keyword of PromQL.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }
        }
    };
}

words! {
    /// Binary operators.
    #[allow(missing_docs, reason = "the variants are the operators themselves")]
    #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum BinaryOp {
        Add = "+",
        Sub = "-",
        Mul = "*",
        Div = "/",
        Mod = "%",
        Pow = "^",
        Atan2 = "atan2",
        Eq = "==",
        Ne = "!=",
        Gt = ">",
        Lt = "<",
        Ge = ">=",
        Le = "<=",
        /// `</`: the part of a histogram below a value.
        TrimUpper = "</",
        /// `>/`: the part of a histogram above a value.
        TrimLower = ">/",
        And = "and",
        Or = "or",
        Unless = "unless",
    }
}

impl BinaryOp {
    /// Whether it is a comparison.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Gt | Lt | Ge | Le)
    }
    /// Whether it trims histograms.
    pub fn is_trim(self) -> bool {
        matches!(self, BinaryOp::TrimUpper | BinaryOp::TrimLower)
    }
    /// Whether it is a set operator.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// How the series of two vectors are matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VectorMatching {
    /// `true`: by the listed labels (`on`); `false`: by all others (`ignoring`).
    pub on: bool,
    /// The listed labels.
    pub labels: Vec<String>,
    /// Which side may have several series per match.
    pub cardinality: Cardinality,
    /// Labels that are copied from the "one" side (`group_left(…)`).
    pub include: Vec<String>,
    /// The value for a right series without a left one (`fill_left(…)`).
    pub fill_left: Option<BitFloat>,
    /// The value for a left series without a right one (`fill_right(…)`).
    pub fill_right: Option<BitFloat>,
}

/// Which side of a match may have several series.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cardinality {
    /// Neither.
    #[default]
    OneToOne,
    /// The left side (`group_left`).
    ManyToOne,
    /// The right side (`group_right`).
    OneToMany,
    /// Both sides (set operators).
    ManyToMany,
}

/// An aggregation with its operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Aggregate {
    /// What is computed of each group.
    pub op: AggregateOp,
    /// The labels that form groups.
    pub grouping: Grouping,
    /// `k`, `φ` or a label name.
    pub param: Option<Plan>,
    /// The vector whose rows are grouped.
    pub input: Plan,
}

/// `by (…)` or `without (…)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grouping {
    /// `true`: drop the listed labels; `false`: keep only them.
    pub without: bool,
    /// The listed labels, sorted and unique.
    pub labels: Vec<String>,
}

words! {
    /// Aggregation operators.
    #[allow(missing_docs, reason = "the variants are the operators themselves")]
    #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum AggregateOp {
        Sum = "sum",
        Avg = "avg",
        Count = "count",
        Min = "min",
        Max = "max",
        Group = "group",
        Stddev = "stddev",
        Stdvar = "stdvar",
        Topk = "topk",
        Bottomk = "bottomk",
        Quantile = "quantile",
        CountValues = "count_values",
        Limitk = "limitk",
        LimitRatio = "limit_ratio",
    }
}

/// A function of the table; serialised by its name.
#[derive(Copy, Clone, Debug)]
pub struct FunctionRef(pub &'static Function);

impl PartialEq for FunctionRef {
    fn eq(&self, other: &Self) -> bool {
        // The table has one entry for each name. Comparing function pointers would not be reliable.
        self.0.name == other.0.name
    }
}
impl Eq for FunctionRef {}
impl Hash for FunctionRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}
impl Serialize for FunctionRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // By name and not by its index in the table, which changes with every new function.
        serializer.serialize_str(self.0.name)
    }
}
impl<'de> Deserialize<'de> for FunctionRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let function = crate::functions::lookup(&name);
        function
            .map(FunctionRef)
            // The bytes may be those of another version. An unknown name is an error, not another
            // function.
            .ok_or_else(|| serde::de::Error::custom(format!("unknown function {name:?}")))
    }
}

impl PlanOp {
    /// The operation with `@` replaced by `f`, if it can have one.
    #[must_use]
    pub fn map_at(&self, f: impl Fn(Option<AtTime>) -> Option<AtTime>) -> PlanOp {
        let select = |s: &Selector| Selector { at: f(s.at), ..s.clone() };
        match self {
            PlanOp::Instant(selector) => PlanOp::Instant(select(selector)),
            PlanOp::Range { selector, range } => PlanOp::Range { selector: select(selector), range: *range },
            PlanOp::Subquery { input, range, step, offset, at } => PlanOp::Subquery {
                input: input.clone(),
                range: *range,
                step: *step,
                offset: *offset,
                at: f(*at),
            },
            op => op.clone(),
        }
    }

    /// The operation with other operands.
    #[must_use]
    pub fn map_inputs(&self, f: &mut dyn FnMut(&Plan) -> Plan) -> PlanOp {
        match self {
            PlanOp::Number(_) | PlanOp::Text(_) | PlanOp::Instant(_) | PlanOp::Range { .. } => self.clone(),
            PlanOp::Subquery { input, range, step, offset, at } => {
                PlanOp::Subquery { input: f(input), range: *range, step: *step, offset: *offset, at: *at }
            }
            PlanOp::Call { function, args } => {
                PlanOp::Call { function: *function, args: args.iter().map(f).collect() }
            }
            PlanOp::Negate(input) => PlanOp::Negate(f(input)),
            PlanOp::Plus(input) => PlanOp::Plus(f(input)),
            PlanOp::Binary(b) => {
                PlanOp::Binary(Box::new(Binary { lhs: f(&b.lhs), rhs: f(&b.rhs), ..(**b).clone() }))
            }
            PlanOp::Aggregate(a) => {
                // The parameter first: it stands first in the query, and messages are in this
                // order.
                let param = a.param.as_ref().map(&mut *f);
                PlanOp::Aggregate(Box::new(Aggregate { param, input: f(&a.input), ..(**a).clone() }))
            }
        }
    }
}

impl PlanNode {
    /// The type of the answer.
    pub fn kind(&self) -> ValueType {
        match &self.op {
            PlanOp::Number(_) => ValueType::Scalar,
            PlanOp::Text(_) => ValueType::Text,
            PlanOp::Instant(_) | PlanOp::Aggregate(_) => ValueType::Vector,
            PlanOp::Range { .. } | PlanOp::Subquery { .. } => ValueType::Matrix,
            PlanOp::Call { function, .. } => function.0.returns,
            PlanOp::Negate(input) | PlanOp::Plus(input) => input.kind(),
            PlanOp::Binary(b) => b.kind,
        }
    }

    /// The plans whose answers this node reads.
    pub fn inputs(&self) -> Vec<&Plan> {
        match &self.op {
            PlanOp::Number(_) | PlanOp::Text(_) | PlanOp::Instant(_) | PlanOp::Range { .. } => Vec::new(),
            PlanOp::Subquery { input, .. } | PlanOp::Negate(input) | PlanOp::Plus(input) => vec![input],
            PlanOp::Call { args, .. } => args.iter().collect(),
            PlanOp::Binary(b) => vec![&b.lhs, &b.rhs],
            // In the same order as in `map_inputs`: walks that pair both rely on it.
            PlanOp::Aggregate(a) => a.param.iter().chain([&a.input]).collect(),
        }
    }
}
