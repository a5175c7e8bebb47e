//! The plan: the one intermediate form that PromQL (and later SQL) binds to and both runtimes run.
//!
//! A node carries everything a runtime needs, already resolved. Two nodes are equal when they ask the same
//! question, wherever they stand in the text: spans take no part in equality or hashing, so that equal
//! sub-plans can be shared. See [`physical`] for the cut into local and gather stage.

pub mod details;
pub mod explain;
mod leaf;
mod lowering;
mod origin;
pub mod physical;
pub mod row_labels;

pub use crate::types::{Span, ValueType, WindowExtension};
pub use origin::parts;

use crate::functions::Function;
use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use storage::model::{Matcher, TimeMs};

/// A plan, or a part of one. Cheap to clone and to share.
pub type Plan = Arc<PlanNode>;

/// Variants of the language's meaning, the same for all plans of a process.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialect {
    /// Computed values lose their metric name when the answer is ready, not at once
    /// (feature `promql-delayed-name-removal`).
    pub delayed_names: bool,
    /// Start timestamps tell of counter resets (feature `use-start-timestamps`).
    pub start_timestamps: bool,
    /// The label `__type__` says what is a counter (feature `type-and-unit-labels`).
    pub type_and_unit_labels: bool,
}

/// One step of a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanNode {
    /// What it computes.
    pub op: PlanOp,
    /// Where it stood in the query.
    pub span: Span,
}

impl PartialEq for PlanNode {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op
    }
}
impl Eq for PlanNode {}
impl Hash for PlanNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.op.hash(state);
    }
}

/// A number that is equal to itself bit by bit.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub struct BitFloat(pub f64);

impl PartialEq for BitFloat {
    fn eq(&self, other: &Self) -> bool {
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
    /// A literal.
    Number(BitFloat),
    /// A string literal.
    Text(String),
    /// The newest sample of each series within the lookback.
    Instant(Selector),
    /// All samples of each series within `range` ms.
    Range {
        /// Which series.
        selector: Selector,
        /// Length of the window, ms.
        range: i64,
    },
    /// An inner plan evaluated at every `step` ms of a window of `range` ms.
    Subquery {
        /// The inner plan.
        input: Plan,
        /// Length of the window, ms.
        range: i64,
        /// Distance of evaluations, ms; `None`: the default evaluation interval.
        step: Option<i64>,
        /// Shift into the past, ms.
        offset: i64,
        /// Pinned evaluation time.
        at: Option<AtTime>,
    },
    /// A function of the table.
    Call {
        /// Its entry.
        function: FunctionRef,
        /// Its arguments, as many as were given.
        args: Vec<Plan>,
    },
    /// Unary minus.
    Negate(Plan),
    /// Unary plus: its operand's answer, but a computed value, no selector any more.
    Plus(Plan),
    /// Two operands.
    Binary(Box<Binary>),
    /// Many series into fewer.
    Aggregate(Box<Aggregate>),
}

/// Which series, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Selector {
    /// All must hold. A metric name is the matcher `__name__="…"`.
    pub matchers: Vec<Matcher>,
    /// Shift into the past, ms; negative: into the future.
    pub offset: i64,
    /// Pinned evaluation time.
    pub at: Option<AtTime>,
    /// Samples beyond the edges are looked at.
    pub extension: Option<WindowExtension>,
}

/// What `@` names.
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
    /// The operator.
    pub op: BinaryOp,
    /// `bool` was written: comparisons answer 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// How vectors are matched; ignored unless both operands are vectors.
    pub matching: VectorMatching,
    /// Left operand.
    pub lhs: Plan,
    /// Right operand.
    pub rhs: Plan,
    /// Type of the answer: a scalar if both operands are. Kept, as it is asked at each operator of a chain.
    pub kind: ValueType,
}

/// An enum of words: its variants, the list of all of them, and how each is written.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$about:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$about])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// As written in PromQL.
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
        /// `</`: of a histogram, what was observed below a value.
        TrimUpper = "</",
        /// `>/`: of a histogram, what was observed above a value.
        TrimLower = ">/",
        And = "and",
        Or = "or",
        Unless = "unless",
    }
}

impl BinaryOp {
    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Gt | Lt | Ge | Le)
    }
    /// Whether it cuts histograms.
    pub fn is_trim(self) -> bool {
        matches!(self, BinaryOp::TrimUpper | BinaryOp::TrimLower)
    }
    /// Whether it works on sets of series.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// How the series of two vectors find each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VectorMatching {
    /// `true`: by the listed labels (`on`); `false`: by all but them (`ignoring`).
    pub on: bool,
    /// The listed labels.
    pub labels: Vec<String>,
    /// Which side may have several series per match.
    pub cardinality: Cardinality,
    /// Labels copied from the "one" side (`group_left(…)`).
    pub include: Vec<String>,
    /// Stands in for a left series that a right one does not find (`fill_left(…)`).
    pub fill_left: Option<BitFloat>,
    /// Stands in for a right series that a left one does not find (`fill_right(…)`).
    pub fill_right: Option<BitFloat>,
}

/// Which side of a match may have several series.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cardinality {
    /// Neither.
    #[default]
    OneToOne,
    /// The left (`group_left`).
    ManyToOne,
    /// The right (`group_right`).
    OneToMany,
    /// Both (set operators).
    ManyToMany,
}

/// An aggregation with its operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// Which labels make a group.
    pub grouping: Grouping,
    /// `k`, `φ` or a label name.
    pub param: Option<Plan>,
    /// The operand.
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
        serializer.serialize_str(self.0.name)
    }
}
impl<'de> Deserialize<'de> for FunctionRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let function = crate::functions::lookup(&name);
        function
            .map(FunctionRef)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown function {name:?}")))
    }
}

impl PlanOp {
    /// The same with another `@`, if it has one or could.
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

    /// The same with other operands.
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

    /// The operands.
    pub fn inputs(&self) -> Vec<&Plan> {
        match &self.op {
            PlanOp::Number(_) | PlanOp::Text(_) | PlanOp::Instant(_) | PlanOp::Range { .. } => Vec::new(),
            PlanOp::Subquery { input, .. } | PlanOp::Negate(input) | PlanOp::Plus(input) => vec![input],
            PlanOp::Call { args, .. } => args.iter().collect(),
            PlanOp::Binary(b) => vec![&b.lhs, &b.rhs],
            PlanOp::Aggregate(a) => a.param.iter().chain([&a.input]).collect(),
        }
    }
}
