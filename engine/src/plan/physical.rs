//! The physical plan: a plan cut once into a *local stage*, which every shard computes from its own series,
//! and a *gather stage* at one owner.
//!
//! The cut is what makes one node, many workers and many machines the same code. Selections, windows, maps
//! over one series and partial aggregation are local; matching, final aggregation and whatever sees several
//! shards is gathered. Pure scalars (numbers, `time()`) are computed wherever they are needed. Equal steps
//! are one step (hash-consing); [`crate::operators`] says how each is computed.

use super::Dialect;
use super::Selector;
use super::details::{Ask, InfoLabels, MetricName, time_of};
use super::leaves::{check_extension, has_vectors};
use super::notes::Origin;
use super::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, FunctionRef, Grouping, Matching, Node, Number, Op, Plan,
    Type,
};
use crate::functions::labels::absent_labels;
use crate::functions::{Kernel, Special};
use std::collections::HashMap;
use std::hash::Hash;
use storage::model::Labels;

pub use super::leaves::{Leaf, Source};

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
    Leaf(Source, Leaf),
    /// Query over history only: a scalar that depends on series, as [`Physical::given`] of that number answered it
    /// for each evaluation time. Leaves read it.
    Given(usize),
    /// A constant.
    Number(Number),
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
    Match(BinaryOp, bool, Matching),
    /// `and`, `or`, `unless`.
    Set(BinaryOp, Matching),
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
    Histogram(Ask),
    /// The labels of info series are added; inputs: the vector, the info series.
    Info(InfoLabels),
    /// The floats; the order of presentation (`true`: descending) is the reader's business.
    Sort(bool),
    /// Identity; the order is that of the values of these labels, natural.
    SortByLabel(Vec<String>, bool),
    /// With delayed names, the last step: rows lose the names that they should have lost on the way.
    DropNames,
    /// Gather stage only: the rows of a local step, of all shards.
    Port(StepId),
    /// Gather stage of a query over history only: a window over the rows of this subquery; inputs: parameters.
    Subquery(usize, Windowed),
}

/// What becomes of the rows of a subquery.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Windowed {
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
    pub at: Option<At>,
}

/// A plan cut into two stages.
#[derive(Clone, Debug, Default)]
pub struct Physical {
    /// Steps of the local stage.
    pub local: Vec<Step>,
    /// Steps of the gather stage.
    pub gather: Vec<Step>,
    /// Where each local step stood in the query.
    pub local_origins: Vec<Origin>,
    /// Where each gather step stood.
    pub gather_origins: Vec<Origin>,
    /// The step of the gather stage that is the answer.
    pub root: StepId,
    /// Type of the answer is a scalar (one row without labels).
    pub scalar: bool,
    /// The subqueries that steps of the gather stage name by number.
    pub subqueries: Vec<Subquery>,
    /// The scalars that [`StepOp::Given`] steps name by number: to be asked first, at the same times.
    pub given: Vec<Plan>,
}

/// Where a lowered step may run.
#[derive(Copy, Clone)]
enum Place {
    Local(StepId),
    Gather(StepId),
}

/// Why a plan cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LowerError(pub String);

impl Physical {
    /// Cuts `plan`. Everything is asked `shift` ms in the past (a rule's query offset).
    pub fn of(plan: &Plan, shift: i64, dialect: Dialect) -> Result<Physical, LowerError> {
        Physical::cut(plan, shift, None, dialect)
    }

    /// Cuts `plan` for a query over history, which may have subqueries. `inner`: it is itself one.
    pub fn of_history(plan: &Plan, inner: bool, dialect: Dialect) -> Result<Physical, LowerError> {
        Physical::cut(plan, 0, Some(inner), dialect)
    }

    /// The step that decides the order of presentation.
    pub fn outermost(&self) -> &StepOp {
        let root = &self.gather[self.root];
        if root.op == StepOp::DropNames { &self.gather[root.inputs[0]].op } else { &root.op }
    }

    fn cut(plan: &Plan, shift: i64, history: Option<bool>, dialect: Dialect) -> Result<Physical, LowerError> {
        let mut lowering = Lowering {
            physical: Physical::default(),
            local: HashMap::new(),
            gather: HashMap::new(),
            origins: Vec::new(),
            shift,
            history: history.is_some(),
            skims: false,
            looks: history == Some(true),
        };
        let root = lowering.lower(plan, 0)?;
        let mut root = lowering.gathered(root);
        let scalar = plan.kind() == Type::Scalar;
        if dialect.delayed_names && !scalar {
            root = lowering.gather_step(Step { op: StepOp::DropNames, inputs: vec![root] });
        }
        lowering.physical.root = root;
        lowering.physical.scalar = scalar;
        Ok(lowering.physical)
    }
}

struct Lowering {
    physical: Physical,
    local: HashMap<Step, StepId>,
    gather: HashMap<Step, StepId>,
    /// Of the nodes that are being lowered, innermost last.
    origins: Vec<Origin>,
    shift: i64,
    /// Subqueries are allowed.
    history: bool,
    /// Some function above wants count and sum of histograms only.
    skims: bool,
    /// Something above wants to see their buckets.
    looks: bool,
}

fn unsupported<T>(what: impl Into<String>) -> Result<T, LowerError> {
    Err(LowerError(what.into()))
}

impl Lowering {
    fn local(&mut self, op: StepOp, inputs: Vec<StepId>) -> Place {
        let id = intern(&mut self.local, &mut self.physical.local, Step { op, inputs });
        let origin = self.origins.last().cloned().unwrap_or_default();
        set_origin(&mut self.physical.local_origins, id, origin);
        Place::Local(id)
    }

    fn gather(&mut self, op: StepOp, inputs: Vec<StepId>) -> Place {
        Place::Gather(self.gather_step(Step { op, inputs }))
    }

    fn gather_step(&mut self, step: Step) -> StepId {
        let id = intern(&mut self.gather, &mut self.physical.gather, step);
        let origin = self.origins.last().cloned().unwrap_or_default();
        set_origin(&mut self.physical.gather_origins, id, origin);
        id
    }

    /// The step's id in the gather stage: through a port if it is local.
    fn gathered(&mut self, place: Place) -> StepId {
        match place {
            Place::Gather(id) => id,
            Place::Local(id) => match self.scalar_of(id) {
                Some(op_inputs) => self.replicate(op_inputs),
                None => self.gather_step(Step { op: StepOp::Port(id), inputs: Vec::new() }),
            },
        }
    }

    /// A pure scalar of the local stage, to be computed again where it is needed.
    fn scalar_of(&self, id: StepId) -> Option<StepId> {
        let step = &self.physical.local[id];
        match step.op {
            StepOp::Number(_) | StepOp::Clock(..) => Some(id),
            StepOp::ScalarBinary(_) | StepOp::Scalars(_) | StepOp::Negate | StepOp::Map(_) => {
                step.inputs.iter().all(|i| self.scalar_of(*i).is_some()).then_some(id)
            }
            _ => None,
        }
    }

    fn replicate(&mut self, id: StepId) -> StepId {
        let step = self.physical.local[id].clone();
        let inputs = step.inputs.iter().map(|i| self.replicate(*i)).collect();
        self.gather_step(Step { op: step.op, inputs })
    }

    /// A step that runs locally if all its inputs do.
    fn place(&mut self, op: StepOp, inputs: &[Place]) -> Place {
        let local: Option<Vec<StepId>> =
            inputs.iter().map(|p| if let Place::Local(id) = p { Some(*id) } else { None }).collect();
        match local {
            Some(ids) => self.local(op, ids),
            None => self.collect(op, inputs),
        }
    }

    /// A step of the gather stage.
    fn collect(&mut self, op: StepOp, inputs: &[Place]) -> Place {
        let ids = inputs.iter().map(|p| self.gathered(*p)).collect();
        self.gather(op, ids)
    }

    fn lower(&mut self, node: &Node, depth: usize) -> Result<Place, LowerError> {
        if depth > crate::limits::PLAN_DEPTH {
            return unsupported("the expression is nested too deeply");
        }
        self.origins.push(Origin::of(node));
        let above = (self.skims, self.looks);
        self.enter(node);
        let place = self.lower_op(node, depth);
        (self.skims, self.looks) = above;
        self.origins.pop();
        place
    }

    fn lower_op(&mut self, node: &Node, depth: usize) -> Result<Place, LowerError> {
        match &node.op {
            Op::Number(n) => Ok(self.local(StepOp::Number(*n), Vec::new())),
            Op::Text(_) => unsupported("a string cannot be evaluated here"),
            Op::Instant(selector) => {
                let source = self.source(selector);
                Ok(self.local(StepOp::Leaf(source, Leaf::Value), Vec::new()))
            }
            Op::Range { .. } => unsupported("a range vector cannot be evaluated here"),
            Op::Subquery { .. } => unsupported("a subquery cannot be evaluated here"),
            Op::Negate(input) => {
                let input = self.lower(input, depth + 1)?;
                Ok(self.place(StepOp::Negate, &[input]))
            }
            Op::Binary(binary) => self.lower_binary(binary, depth),
            Op::Aggregate(aggregate) => self.lower_aggregate(aggregate, depth),
            Op::Call { function, args } => self.lower_call(*function, args, depth),
        }
    }

    /// What is wanted of histograms below this node.
    fn enter(&mut self, node: &Node) {
        use Special::{HistogramFraction, HistogramQuantile, HistogramQuantiles};
        match &node.op {
            // What is cut off depends on the buckets.
            Op::Binary(b) if b.op.is_trim() => self.looks = true,
            Op::Call { function, .. } => match function.0.kernel {
                Kernel::Special(HistogramQuantile | HistogramQuantiles | HistogramFraction) => {
                    self.looks = true
                }
                _ => self.skims |= function.0.skims,
            },
            _ => {}
        }
    }

    fn source(&self, selector: &Selector) -> Source {
        Source {
            matchers: selector.matchers.clone(),
            offset: selector.offset + self.shift,
            at: selector.at,
            extension: selector.extension,
            skims: self.skims && !self.looks,
        }
    }

    fn lower_binary(&mut self, b: &Binary, depth: usize) -> Result<Place, LowerError> {
        let (lhs, rhs) = (self.lower(&b.lhs, depth + 1)?, self.lower(&b.rhs, depth + 1)?);
        Ok(match (b.lhs.kind(), b.rhs.kind()) {
            (Type::Scalar, Type::Scalar) => self.place(StepOp::ScalarBinary(b.op), &[lhs, rhs]),
            (Type::Scalar, _) => {
                let op = StepOp::VectorScalar { op: b.op, return_bool: b.return_bool, scalar_left: true };
                self.place(op, &[rhs, lhs])
            }
            (_, Type::Scalar) => {
                let op = StepOp::VectorScalar { op: b.op, return_bool: b.return_bool, scalar_left: false };
                self.place(op, &[lhs, rhs])
            }
            _ if b.op.is_set() => self.collect(StepOp::Set(b.op, b.matching.clone()), &[lhs, rhs]),
            _ => self.collect(StepOp::Match(b.op, b.return_bool, b.matching.clone()), &[lhs, rhs]),
        })
    }

    fn lower_aggregate(&mut self, a: &Aggregate, depth: usize) -> Result<Place, LowerError> {
        use AggregateOp::*;
        let input = self.lower(&a.input, depth + 1)?;
        if matches!(a.op, Sum | Avg | Count | Min | Max | AggregateOp::Group) {
            let partial = self.place(StepOp::Partial(a.op, a.grouping.clone()), &[input]);
            let metric = MetricName::of(&a.input);
            return Ok(self.collect(StepOp::Merge(a.op, metric), &[partial]));
        }
        let (mut inputs, mut text) = (vec![input], None);
        match a.param.as_deref() {
            Some(Node { op: Op::Text(label), .. }) => text = Some(label.clone()),
            Some(param) => inputs.push(self.lower(param, depth + 1)?),
            None => {}
        }
        Ok(self.collect(StepOp::Group(a.op, a.grouping.clone(), text), &inputs))
    }

    fn lower_call(
        &mut self,
        function: FunctionRef,
        args: &[Plan],
        depth: usize,
    ) -> Result<Place, LowerError> {
        match function.0.kernel {
            Kernel::Window(_) => self.lower_window(function, args, depth),
            Kernel::Clock(_) | Kernel::Query(_) => {
                Ok(self.local(StepOp::Clock(function, self.shift), Vec::new()))
            }
            Kernel::MapOrClock(_) if args.is_empty() => {
                Ok(self.gather(StepOp::MapClock(function, self.shift), Vec::new()))
            }
            Kernel::Scalars(_) => {
                let inputs = args.iter().map(|a| self.lower(a, depth + 1)).collect::<Result<Vec<_>, _>>()?;
                Ok(self.place(StepOp::Scalars(function), &inputs))
            }
            Kernel::Map(_) | Kernel::MapOrClock(_) | Kernel::Histogram(_) => {
                let inputs = args.iter().map(|a| self.lower(a, depth + 1)).collect::<Result<Vec<_>, _>>()?;
                Ok(self.place(StepOp::Map(function), &inputs))
            }
            Kernel::Relabel(_) => {
                let input = self.lower(&args[0], depth + 1)?;
                let texts = args[1..].iter().map(text_of).collect::<Result<Vec<_>, _>>()?;
                // New labels can make twins of series of different shards: only who has all rows can tell.
                Ok(self.collect(StepOp::Relabel(function, texts), &[input]))
            }
            Kernel::Special(special) => self.lower_special(function, special, args, depth),
        }
    }

    fn lower_window(
        &mut self,
        function: FunctionRef,
        args: &[Plan],
        depth: usize,
    ) -> Result<Place, LowerError> {
        if let Some(at) = args.iter().position(|arg| matches!(arg.op, Op::Subquery { .. })) {
            let mut params = Vec::new();
            for arg in args[..at].iter().chain(&args[at + 1..]) {
                params.push(self.lower(arg, depth + 1)?);
            }
            return self.subquery(&args[at], Windowed::Call(function), &params);
        }
        let (mut leaf, mut params) = (None, Vec::new());
        for arg in args {
            match &arg.op {
                Op::Range { selector, range } => {
                    check_extension(function, selector)?;
                    leaf = Some((self.source(selector), *range));
                }
                _ => params.push(self.lower_parameter(function, arg, depth)?),
            }
        }
        let Some((source, range)) = leaf else {
            return unsupported("a window function needs a range vector");
        };
        Ok(self.local(StepOp::Leaf(source, Leaf::Window(function, range)), params))
    }

    /// A parameter of a window function, as a scalar that every shard can compute.
    fn lower_parameter(
        &mut self,
        function: FunctionRef,
        arg: &Plan,
        depth: usize,
    ) -> Result<StepId, LowerError> {
        if has_vectors(arg) && self.history {
            let given = &mut self.physical.given;
            let number = given.iter().position(|plan| plan == arg).unwrap_or(given.len());
            if number == given.len() {
                given.push(arg.clone());
            }
            let Place::Local(id) = self.local(StepOp::Given(number), Vec::new()) else {
                return unsupported("a parameter must be local");
            };
            return Ok(id);
        }
        match self.lower(arg, depth + 1)? {
            Place::Local(id) if self.scalar_of(id).is_some() => Ok(id),
            _ => {
                let name = function.0.name;
                unsupported(format!("a parameter of {name} that depends on series is not supported yet"))
            }
        }
    }

    fn lower_special(
        &mut self,
        function: FunctionRef,
        special: Special,
        args: &[Plan],
        depth: usize,
    ) -> Result<Place, LowerError> {
        match special {
            Special::Absent => {
                let input = self.lower(&args[0], depth + 1)?;
                let labels = if let Op::Instant(s) = &args[0].op {
                    absent_labels(&s.matchers)
                } else {
                    Labels::default()
                };
                Ok(self.absent(labels, input))
            }
            Special::AbsentOverTime => {
                let Op::Range { selector, range } = &args[0].op else {
                    let present = self.subquery(&args[0], Windowed::Present, &[])?;
                    return Ok(self.absent(Labels::default(), present));
                };
                check_extension(function, selector)?;
                let source = self.source(selector);
                let present = self.local(StepOp::Leaf(source, Leaf::Present(*range)), Vec::new());
                Ok(self.absent(absent_labels(&selector.matchers), present))
            }
            Special::StartTimestamp => {
                // Of anything but a selector nothing is known.
                let Op::Instant(selector) = &args[0].op else {
                    let input = self.lower(&args[0], depth + 1)?;
                    return Ok(self.place(StepOp::Map(function), &[input]));
                };
                let source = Source { extension: None, ..self.source(selector) };
                Ok(self.local(StepOp::Leaf(source, Leaf::StartTimestamp), Vec::new()))
            }
            Special::Timestamp => {
                if let Op::Instant(selector) = &args[0].op {
                    // The sample itself is asked, not a line between two.
                    let mut source = Source { extension: None, ..self.source(selector) };
                    let mut shorter = 0;
                    if source.at.is_some() {
                        // Prometheus loads the samples around the pinned time less the offset, but then looks
                        // from the pinned time: it sees what lies in both lookbacks.
                        shorter = selector.offset.abs();
                        source.offset += selector.offset.max(0) - selector.offset;
                    }
                    return Ok(self.local(StepOp::Leaf(source, Leaf::Timestamp(shorter)), Vec::new()));
                }
                let input = self.lower(&args[0], depth + 1)?;
                Ok(self.place(StepOp::Map(function), &[input]))
            }
            Special::Scalar => self.lower_unary(StepOp::ToScalar, &args[0], depth),
            Special::Vector => self.lower_unary(StepOp::ToVector, &args[0], depth),
            Special::Sort => self.lower_unary(StepOp::Sort(false), &args[0], depth),
            Special::SortDesc => self.lower_unary(StepOp::Sort(true), &args[0], depth),
            Special::HistogramQuantile => self.lower_ask(Ask::Quantile, args, depth),
            Special::HistogramFraction => self.lower_ask(Ask::Fraction, args, depth),
            Special::HistogramQuantiles => {
                let scalars_then_vector: Vec<Plan> = args[2..].iter().chain(&args[..1]).cloned().collect();
                self.lower_ask(Ask::Quantiles(text_of(&args[1])?), &scalars_then_vector, depth)
            }
            Special::Info => self.lower_info(args, depth),
            Special::SortByLabel | Special::SortByLabelDesc => {
                let labels = args[1..].iter().map(text_of).collect::<Result<Vec<_>, _>>()?;
                let descending = special == Special::SortByLabelDesc;
                self.lower_unary(StepOp::SortByLabel(labels, descending), &args[0], depth)
            }
        }
    }

    /// A question to histograms: scalars, then the vector.
    fn lower_ask(&mut self, ask: Ask, args: &[Plan], depth: usize) -> Result<Place, LowerError> {
        let inputs = args.iter().map(|a| self.lower(a, depth + 1)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.collect(StepOp::Histogram(ask), &inputs))
    }

    /// The vector, and a leaf of its own for the info series, which are looked at where the vector's samples are.
    fn lower_info(&mut self, args: &[Plan], depth: usize) -> Result<Place, LowerError> {
        let base = self.lower(&args[0], depth + 1)?;
        let asked = match args.get(1).map(|arg| &arg.op) {
            Some(Op::Instant(selector)) => Some(selector.matchers.as_slice()),
            Some(_) => return unsupported("info() needs a label selector"),
            None => None,
        };
        let (labels, matchers) = InfoLabels::of(asked);
        let (offset, at) = time_of(&args[0]).unwrap_or_default();
        let source = Source { matchers, offset: offset + self.shift, at, extension: None, skims: false };
        let info = self.local(StepOp::Leaf(source, Leaf::Info), Vec::new());
        Ok(self.collect(StepOp::Info(labels), &[base, info]))
    }

    fn lower_unary(&mut self, op: StepOp, arg: &Plan, depth: usize) -> Result<Place, LowerError> {
        let input = self.lower(arg, depth + 1)?;
        Ok(self.collect(op, &[input]))
    }

    /// A window over the rows of a subquery.
    fn subquery(&mut self, arg: &Node, windowed: Windowed, params: &[Place]) -> Result<Place, LowerError> {
        let Op::Subquery { input, range, step, offset, at } = &arg.op else {
            return unsupported("a window function needs a range vector");
        };
        if !self.history {
            return unsupported("subqueries are not live");
        }
        let wanted = Subquery { input: input.clone(), range: *range, step: *step, offset: *offset, at: *at };
        let known = &mut self.physical.subqueries;
        let number = known.iter().position(|s| *s == wanted).unwrap_or(known.len());
        if number == known.len() {
            known.push(wanted);
        }
        Ok(self.collect(StepOp::Subquery(number, windowed), params))
    }

    fn absent(&mut self, labels: Labels, input: Place) -> Place {
        let partial = self.place(StepOp::Partial(AggregateOp::Count, Grouping::default()), &[input]);
        let merge = StepOp::Merge(AggregateOp::Count, MetricName::default());
        let count = self.collect(merge, &[partial]);
        self.collect(StepOp::Absent(labels), &[count])
    }
}

/// A step that several nodes share keeps the latest origin.
fn set_origin(origins: &mut Vec<Origin>, id: StepId, origin: Origin) {
    if origins.len() <= id {
        origins.resize(id + 1, Origin::default());
    }
    origins[id] = origin;
}

fn intern<K: Hash + Eq + Clone>(ids: &mut HashMap<K, StepId>, steps: &mut Vec<K>, step: K) -> StepId {
    *ids.entry(step.clone()).or_insert_with(|| {
        steps.push(step);
        steps.len() - 1
    })
}

fn text_of(plan: &Plan) -> Result<String, LowerError> {
    match &plan.op {
        Op::Text(text) => Ok(text.clone()),
        _ => unsupported("expected a string"),
    }
}

impl StepOp {
    /// Whether the value moves with time although no input changes. Leaves know that by themselves.
    pub fn follows_clock(&self) -> bool {
        match self {
            StepOp::Clock(..) | StepOp::MapClock(..) | StepOp::Subquery(..) | StepOp::Given(_) => true,
            StepOp::Map(function) => matches!(function.0.kernel, Kernel::Special(_)),
            _ => false,
        }
    }
}
