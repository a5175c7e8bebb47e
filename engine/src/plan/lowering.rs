//! Lowering: divides a plan into the two stages of a physical plan ([`super::physical`]), node by
//! node from the leaves up. A step is local as long as all its inputs are and it needs rows of one
//! shard only; from there on everything is in the gather stage. Function calls are in
//! [`function_calls`].

mod function_calls;
mod store_queries;

use super::details::MetricName;
use super::leaf::{Leaf, SampleSource};
use super::physical::{LowerError, PhysicalPlan, Step, StepId, StepOp, StoreQueries, StoreQuery};
use super::{Aggregate, AggregateOp, Binary, Dialect, Plan, PlanNode, PlanOp, Selector, ValueType};
use crate::annotations::StepOrigin;
use crate::functions::{Kernel, OperatorFunction};
use std::collections::HashMap;
use std::hash::Hash;

/// The stage in which a lowered step runs.
#[derive(Copy, Clone)]
enum LoweredStep {
    Local(StepId),
    Gather(StepId),
}

/// What a physical plan is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A view.
    View(StoreQueries),
    /// A query over history. `inner`: the plan is the input of a subquery.
    Query { inner: bool },
    /// A query over history for a part of a view's plan.
    Part,
}

/// Lowers `plan`; it is evaluated `query_offset` ms in the past.
pub(super) fn cut(
    plan: &Plan,
    query_offset: i64,
    purpose: Purpose,
    dialect: Dialect,
) -> Result<PhysicalPlan, LowerError> {
    let mut lowering = Lowering {
        physical: PhysicalPlan::default(),
        local: HashMap::new(),
        gather: HashMap::new(),
        origins: Vec::new(),
        shift: query_offset,
        purpose,
        counts_only: false,
        buckets_needed: purpose == Purpose::Query { inner: true },
    };
    let root = lowering.lower(plan, 0)?;
    // Even if everything is local, one step of the gather stage merges the shards.
    let mut root = lowering.gathered(root);
    let scalar = plan.kind() == ValueType::Scalar;
    // The rows of a subquery keep their names: the outer plan can read them, and they are dropped
    // in the end.
    let keeps_names = matches!(purpose, Purpose::Part | Purpose::Query { inner: true });
    if dialect.delayed_names && !scalar && !keeps_names {
        root = lowering.gather_step(Step { op: StepOp::DropNames, inputs: vec![root] });
    }
    lowering.physical.root = root;
    lowering.physical.scalar = scalar;
    Ok(lowering.physical)
}

struct Lowering {
    physical: PhysicalPlan,
    local: HashMap<Step, StepId>,
    gather: HashMap<Step, StepId>,
    /// Origins of the nodes that are being lowered, innermost last.
    origins: Vec<StepOrigin>,
    shift: i64,
    purpose: Purpose,
    /// Some function above needs only count and sum of histograms.
    counts_only: bool,
    /// Some function above needs the buckets of histograms.
    buckets_needed: bool,
}

fn unsupported<T>(what: impl Into<String>) -> Result<T, LowerError> {
    Err(LowerError(what.into()))
}

impl Lowering {
    fn local(&mut self, op: StepOp, inputs: Vec<StepId>) -> LoweredStep {
        let id = intern(&mut self.local, &mut self.physical.local, Step { op, inputs });
        let origin = self.origins.last().cloned().unwrap_or_default();
        set_origin(&mut self.physical.local_origins, id, origin);
        LoweredStep::Local(id)
    }

    fn gather(&mut self, op: StepOp, inputs: Vec<StepId>) -> LoweredStep {
        LoweredStep::Gather(self.gather_step(Step { op, inputs }))
    }

    fn gather_step(&mut self, step: Step) -> StepId {
        let id = intern(&mut self.gather, &mut self.physical.gather, step);
        let origin = self.origins.last().cloned().unwrap_or_default();
        set_origin(&mut self.physical.gather_origins, id, origin);
        id
    }

    /// The step's id in the gather stage; a local step is read through a port.
    fn gathered(&mut self, place: LoweredStep) -> StepId {
        match place {
            LoweredStep::Gather(id) => id,
            LoweredStep::Local(id) => match self.scalar_of(id) {
                // A port of a scalar would send the same number from every shard.
                Some(op_inputs) => self.replicate(op_inputs),
                None => self.gather_step(Step { op: StepOp::Port(id), inputs: Vec::new() }),
            },
        }
    }

    /// A scalar of the local stage that depends on no series. It is computed again where it is
    /// needed.
    fn scalar_of(&self, id: StepId) -> Option<StepId> {
        let step = &self.physical.local[id];
        match step.op {
            StepOp::Number(_) | StepOp::TimeScalar(..) => Some(id),
            StepOp::ScalarBinary(_) | StepOp::ScalarFunction(_) | StepOp::Negate | StepOp::Map(_) => {
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

    /// Adds a step that runs locally if all its inputs do.
    fn add_where_inputs_are(&mut self, op: StepOp, inputs: &[LoweredStep]) -> LoweredStep {
        // One input in the gather stage is enough to bring the step there: a shard cannot read what
        // the owner has.
        let local: Option<Vec<StepId>> =
            inputs.iter().map(|p| if let LoweredStep::Local(id) = p { Some(*id) } else { None }).collect();
        match local {
            Some(ids) => self.local(op, ids),
            None => self.collect(op, inputs),
        }
    }

    /// Adds a step of the gather stage.
    fn collect(&mut self, op: StepOp, inputs: &[LoweredStep]) -> LoweredStep {
        let ids = inputs.iter().map(|p| self.gathered(*p)).collect();
        self.gather(op, ids)
    }

    fn lower(&mut self, node: &PlanNode, depth: usize) -> Result<LoweredStep, LowerError> {
        // Recursion over a deeply nested query would overflow the stack, which ends the process.
        if depth > crate::limits::PLAN_DEPTH {
            return unsupported("the expression is nested too deeply");
        }
        // Asked for every node from the outside in, so the largest part that needs the store
        // becomes one query.
        let query = self.store_query(node);
        let origin =
            if query.is_some() { StepOrigin::from_query_node(node) } else { StepOrigin::from_node(node) };
        self.origins.push(origin);
        // Both hold for what is below this node only.
        let above = (self.counts_only, self.buckets_needed);
        self.enter(node);
        let place = match query {
            Some(query) => Ok(self.gather(StepOp::StoreQuery(query), Vec::new())),
            None => self.lower_op(node, depth),
        };
        (self.counts_only, self.buckets_needed) = above;
        self.origins.pop();
        place
    }

    fn lower_op(&mut self, node: &PlanNode, depth: usize) -> Result<LoweredStep, LowerError> {
        match &node.op {
            PlanOp::Number(n) => Ok(self.local(StepOp::Number(*n), Vec::new())),
            PlanOp::Text(_) => unsupported("a string cannot be evaluated here"),
            PlanOp::Instant(selector) => {
                let source = self.source(selector);
                Ok(self.local(StepOp::Leaf(source, Leaf::Value), Vec::new()))
            }
            PlanOp::Range { .. } => unsupported("a range vector cannot be evaluated here"),
            PlanOp::Subquery { .. } => unsupported("a subquery cannot be evaluated here"),
            PlanOp::Negate(input) => {
                let input = self.lower(input, depth + 1)?;
                Ok(self.add_where_inputs_are(StepOp::Negate, &[input]))
            }
            // It has no step: its only meaning is in the type checker.
            PlanOp::Plus(input) => self.lower(input, depth + 1),
            PlanOp::Binary(binary) => self.lower_binary(binary, depth),
            PlanOp::Aggregate(aggregate) => self.lower_aggregate(aggregate, depth),
            PlanOp::Call { function, args } => self.lower_call(*function, args, depth),
        }
    }

    /// Updates what the functions above need of histograms.
    fn enter(&mut self, node: &PlanNode) {
        use OperatorFunction::{HistogramFraction, HistogramQuantile, HistogramQuantiles};
        match &node.op {
            // The result of trimming depends on the buckets.
            PlanOp::Binary(b) if b.op.is_trim() => self.buckets_needed = true,
            PlanOp::Call { function, .. } => match function.0.kernel {
                Kernel::Operator(HistogramQuantile | HistogramQuantiles | HistogramFraction) => {
                    self.buckets_needed = true
                }
                _ => self.counts_only |= function.0.counts_only,
            },
            _ => {}
        }
    }

    fn source(&self, selector: &Selector) -> SampleSource {
        SampleSource {
            matchers: selector.matchers.clone(),
            offset: selector.offset + self.shift,
            at: selector.at,
            extension: selector.extension,
            // Sources that differ in this are different leaves. A part of a plan that needs buckets
            // anywhere above gets all of them.
            counts_only: self.counts_only && !self.buckets_needed,
        }
    }

    fn lower_binary(&mut self, b: &Binary, depth: usize) -> Result<LoweredStep, LowerError> {
        let lhs = self.lower(&b.lhs, depth + 1)?;
        let rhs = self.lower(&b.rhs, depth + 1)?;
        Ok(match (b.lhs.kind(), b.rhs.kind()) {
            (ValueType::Scalar, ValueType::Scalar) => {
                self.add_where_inputs_are(StepOp::ScalarBinary(b.op), &[lhs, rhs])
            }
            (ValueType::Scalar, _) => {
                let op = StepOp::VectorScalar { op: b.op, return_bool: b.return_bool, scalar_left: true };
                // The vector is always input 0; `scalar_left` has the order.
                self.add_where_inputs_are(op, &[rhs, lhs])
            }
            (_, ValueType::Scalar) => {
                let op = StepOp::VectorScalar { op: b.op, return_bool: b.return_bool, scalar_left: false };
                self.add_where_inputs_are(op, &[lhs, rhs])
            }
            // Matching needs the rows of all shards: partners may be in any of them.
            _ if b.op.is_set() => self.collect(StepOp::SetOperator(b.op, b.matching.clone()), &[lhs, rhs]),
            _ => self.collect(StepOp::VectorMatch(b.op, b.return_bool, b.matching.clone()), &[lhs, rhs]),
        })
    }

    fn lower_aggregate(&mut self, a: &Aggregate, depth: usize) -> Result<LoweredStep, LowerError> {
        use AggregateOp::*;
        let input = self.lower(&a.input, depth + 1)?;
        if matches!(a.op, Sum | Avg | Count | Min | Max | AggregateOp::Group) {
            // Local if the input is. Then only groups travel, not series.
            let partial =
                self.add_where_inputs_are(StepOp::PartialAggregate(a.op, a.grouping.clone()), &[input]);
            let metric = MetricName::from_plan(&a.input);
            return Ok(self.collect(StepOp::MergeAggregate(a.op, metric), &[partial]));
        }
        let mut inputs = vec![input];
        let mut text = None;
        match a.param.as_deref() {
            Some(PlanNode { op: PlanOp::Text(label), .. }) => text = Some(label.clone()),
            Some(param) => inputs.push(self.lower(param, depth + 1)?),
            None => {}
        }
        Ok(self.collect(StepOp::WholeGroup(a.op, a.grouping.clone(), text), &inputs))
    }
}

/// A step that several nodes share gets the origin of the last of them.
fn set_origin(origins: &mut Vec<StepOrigin>, id: StepId, origin: StepOrigin) {
    if origins.len() <= id {
        origins.resize(id + 1, StepOrigin::default());
    }
    origins[id] = origin;
}

fn intern<K: Hash + Eq + Clone>(ids: &mut HashMap<K, StepId>, steps: &mut Vec<K>, step: K) -> StepId {
    // Equal steps exist once, so the same expression at two places costs once.
    *ids.entry(step.clone()).or_insert_with(|| {
        steps.push(step);
        steps.len() - 1
    })
}
