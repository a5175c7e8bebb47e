//! The syntax tree of PromQL; every node has a byte span.
//!
//! The tree keeps what the printer needs and a plan does not: parentheses, whether a number was
//! written as a duration (`1h`) and the order of `group_left` labels. [`super::bind`] turns it into
//! a plan. Its depth is at most [`super::limits::DEPTH`], so recursion over it, also when it is
//! dropped, cannot overflow the stack.

use engine::plan::{AggregateOp, BinaryOp, Cardinality, Span};
use storage::model::{Matcher, TimeMs};

/// An expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// The kind of the expression. Boxed, so that moving an expression is cheap.
    pub kind: Box<ExprKind>,
    /// The position in the query text.
    pub span: Span,
    /// The height of the tree below this node, itself included.
    pub(crate) depth: u16,
}

/// The kinds of expressions.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A number.
    Number {
        /// The value; a duration's is in s.
        value: f64,
        /// Whether it was written as a duration (`1h` is 3600).
        duration: bool,
    },
    /// A string literal.
    Text(String),
    /// An instant selector.
    Vector(VectorSelector),
    /// A range selector.
    Matrix {
        /// What stands before the `[5m]`.
        selector: VectorSelector,
        /// The position of the selector without its range.
        selector_span: Span,
        /// The length of the window.
        range: DurationArgument,
    },
    /// `inner[range:step]`
    Subquery {
        /// The inner expression.
        inner: Expr,
        /// The length of the window.
        range: DurationArgument,
        /// The step, if given.
        step: Option<DurationArgument>,
        /// Offset and `@`.
        when: TimeModifiers,
    },
    /// A function call.
    Call {
        /// The name of the function, which is in the function table.
        function: String,
        /// The arguments, in the order of the text.
        args: Vec<Expr>,
    },
    /// An aggregation.
    Aggregate(AggregateExpr),
    /// A binary operation.
    Binary(BinaryExpr),
    /// `+` or `-` before an operand that is not a number.
    Unary {
        /// Whether the sign is a minus.
        minus: bool,
        /// What the sign applies to.
        inner: Expr,
    },
    /// An expression in parentheses.
    Paren(Expr),
}

/// A series selector.
#[derive(Clone, Debug)]
pub struct VectorSelector {
    /// The metric name before the braces.
    pub name: Option<String>,
    /// The matchers inside the braces, in order.
    pub matchers: Vec<Matcher>,
    /// Offset and `@`.
    pub when: TimeModifiers,
    /// `anchored` or `smoothed`.
    pub extended: Option<ExtensionKeyword>,
}

/// Modifiers of range selectors.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ExtensionKeyword {
    /// `anchored`
    Anchored,
    /// `smoothed`
    Smoothed,
}

impl ExtensionKeyword {
    /// As written in PromQL.
    pub fn as_str(self) -> &'static str {
        match self {
            ExtensionKeyword::Anchored => "anchored",
            ExtensionKeyword::Smoothed => "smoothed",
        }
    }
}

/// Modifiers of the evaluation time.
#[derive(Clone, Debug, Default)]
pub struct TimeModifiers {
    /// `offset …`
    pub offset: Option<DurationArgument>,
    /// `@ …`
    pub at: Option<AtModifier>,
}

/// The argument of `@`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AtModifier {
    /// `@ 1234.5`
    Time(TimeMs),
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
}

/// The duration of a range, step or offset.
#[derive(Clone, Debug)]
pub enum DurationArgument {
    /// A literal, ns.
    Fixed(i64),
    /// An expression, which is computed in [`super::duration`].
    Computed(Box<DurationExpr>),
}

/// A duration expression; its value is in s.
#[derive(Clone, Debug)]
pub struct DurationExpr {
    /// The kind of the expression.
    pub kind: DurationKind,
    /// The position in the query text.
    pub span: Span,
    /// Whether it is in parentheses.
    pub parens: bool,
    /// The height of the tree below this node, itself included.
    pub(crate) depth: u16,
}

/// The kinds of duration expressions.
#[derive(Clone, Debug)]
pub enum DurationKind {
    /// A number of seconds.
    Number {
        /// The value, s.
        value: f64,
        /// Whether it was written as a duration.
        duration: bool,
    },
    /// `step()`: the step of the query.
    Step,
    /// `range()`: the length of the query.
    Range,
    /// `-…`
    Negate(Box<DurationExpr>),
    /// `+ - * / % ^`
    Binary(BinaryOperator, Box<DurationExpr>, Box<DurationExpr>),
    /// `min_of(…, …)`
    MinOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `max_of(…, …)`
    MaxOf(Box<DurationExpr>, Box<DurationExpr>),
}

/// An aggregation.
#[derive(Clone, Debug)]
pub struct AggregateExpr {
    /// The name of the aggregation, as `sum`.
    pub op: AggregateOp,
    /// `without` instead of `by`.
    pub without: bool,
    /// The labels of `by` or `without`, in order.
    pub grouping: Vec<String>,
    /// `k`, `φ` or a label name.
    pub param: Option<Expr>,
    /// What is aggregated.
    pub inner: Expr,
}

/// A binary operation.
#[derive(Clone, Debug)]
pub struct BinaryExpr {
    /// Arithmetic, a comparison, or `and`, `or`, `unless`.
    pub op: BinaryOperator,
    /// The modifiers of the operator.
    pub modifiers: MatchingModifiers,
    /// The left operand.
    pub lhs: Expr,
    /// The right operand.
    pub rhs: Expr,
}

/// Modifiers of a binary operator.
#[derive(Clone, Debug, Default)]
pub struct MatchingModifiers {
    /// `bool`
    pub return_bool: bool,
    /// `on (…)`; otherwise `ignoring (…)` or nothing.
    pub on: bool,
    /// The labels of `on` or `ignoring`, in order.
    pub labels: Vec<String>,
    /// `group_left` and `group_right`.
    pub cardinality: Cardinality,
    /// The labels of `group_left` or `group_right`, in order.
    pub include: Vec<String>,
    /// `fill_left (…)`
    pub fill_left: Option<f64>,
    /// `fill_right (…)`
    pub fill_right: Option<f64>,
}

/// Binary operators.
#[allow(missing_docs, reason = "the variants are the operators themselves")]
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BinaryOperator {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    TrimUpper,
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOperator {
    /// The binding strength; that of the unary operators is between [`BinaryOperator::Mul`] and
    /// [`BinaryOperator::Pow`].
    pub(crate) fn precedence(self) -> u8 {
        use BinaryOperator::*;
        match self {
            Or => 1,
            And | Unless => 2,
            Eq | Ne | Gt | Lt | Ge | Le | TrimUpper | TrimLower => 3,
            Add | Sub => 4,
            Mul | Div | Mod | Atan2 => 5,
            Pow => 7,
        }
    }

    /// Whether this is a comparison.
    pub fn is_comparison(self) -> bool {
        self.plan().is_comparison()
    }

    /// Whether this is a set operator.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Unless)
    }

    /// As written in PromQL.
    pub fn as_str(self) -> &'static str {
        self.plan().as_str()
    }

    /// The operator of the plan.
    pub fn plan(self) -> BinaryOp {
        match self {
            BinaryOperator::Add => BinaryOp::Add,
            BinaryOperator::Sub => BinaryOp::Sub,
            BinaryOperator::Mul => BinaryOp::Mul,
            BinaryOperator::Div => BinaryOp::Div,
            BinaryOperator::Mod => BinaryOp::Mod,
            BinaryOperator::Pow => BinaryOp::Pow,
            BinaryOperator::Atan2 => BinaryOp::Atan2,
            BinaryOperator::Eq => BinaryOp::Eq,
            BinaryOperator::Ne => BinaryOp::Ne,
            BinaryOperator::Gt => BinaryOp::Gt,
            BinaryOperator::Lt => BinaryOp::Lt,
            BinaryOperator::Ge => BinaryOp::Ge,
            BinaryOperator::Le => BinaryOp::Le,
            BinaryOperator::And => BinaryOp::And,
            BinaryOperator::Or => BinaryOp::Or,
            BinaryOperator::Unless => BinaryOp::Unless,
            BinaryOperator::TrimUpper => BinaryOp::TrimUpper,
            BinaryOperator::TrimLower => BinaryOp::TrimLower,
        }
    }
}

impl Expr {
    /// The direct operands, in the order in which they are printed.
    pub(crate) fn operands(&self) -> impl Iterator<Item = &Expr> {
        let (first, second, list): (Option<&Expr>, Option<&Expr>, &[Expr]) = match &*self.kind {
            ExprKind::Paren(inner) | ExprKind::Unary { inner, .. } | ExprKind::Subquery { inner, .. } => {
                (Some(inner), None, &[])
            }
            ExprKind::Binary(binary) => (Some(&binary.lhs), Some(&binary.rhs), &[]),
            ExprKind::Aggregate(aggregate) => (aggregate.param.as_ref(), Some(&aggregate.inner), &[]),
            ExprKind::Call { args, .. } => (None, None, args),
            ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Vector(_) | ExprKind::Matrix { .. } => {
                (None, None, &[])
            }
        };
        first.into_iter().chain(second).chain(list)
    }
}
