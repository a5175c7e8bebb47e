//! Prints a physical plan as text: the steps of both stages ([`super::physical`]) as a tree,
//! operands indented below.
//!
//! It begins with the steps of the gather stage. The steps of the local stage follow below a line
//! `from each shard`. Leaves (steps that read samples) show how their windows are maintained.

use super::explain::{leaf_title, shifted};
use super::physical::{PhysicalPlan, Step, StepId, StepOp, SubqueryFunction};
use super::{Grouping, VectorMatching};
use crate::functions::{Kernel, WindowMethod};
use crate::plan::physical::Leaf;
use std::fmt::Write;
use storage::model::time::format_duration;

/// Prints the physical plan as an indented tree. Equal steps are one step, which is printed
/// wherever it is read.
pub fn explain_physical(plan: &PhysicalPlan) -> String {
    let mut out = String::new();
    gather_step(&mut out, plan, plan.root, 0);
    out.truncate(out.trim_end().len());
    out
}

/// How a leaf keeps its answers current when its window is long (64 samples or more).
pub fn maintenance(leaf: &Leaf) -> &'static str {
    let Leaf::Window(function, _) = leaf else { return "the newest sample decides" };
    let Kernel::Window(kernel) = function.0.kernel else { return "all samples are read" };
    match kernel.method {
        WindowMethod::Rescan => "all samples are read",
        WindowMethod::Endpoints { .. } => "from the ends of the window",
        WindowMethod::Panes { .. } => "from partial results of 32 samples each",
        WindowMethod::LeastSquares(_) => "from lines through 32 samples each",
        WindowMethod::Sorted(_) => "values are kept in order",
    }
}

/// The recursion is limited, because the parser limits the depth of a plan.
fn gather_step(out: &mut String, plan: &PhysicalPlan, id: StepId, depth: usize) {
    let step = &plan.gather[id];
    line(out, depth, &title(step));
    if let StepOp::Port(local) = step.op {
        return local_step(out, plan, local, depth + 1);
    }
    for input in &step.inputs {
        gather_step(out, plan, *input, depth + 1);
    }
}

fn local_step(out: &mut String, plan: &PhysicalPlan, id: StepId, depth: usize) {
    let step = &plan.local[id];
    line(out, depth, &title(step));
    for input in &step.inputs {
        local_step(out, plan, *input, depth + 1);
    }
}

fn line(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{:1$}{text}", "", 2 * depth);
}

fn title(step: &Step) -> String {
    match &step.op {
        StepOp::Leaf(source, leaf) => format!("{}: {}", leaf_title(source, leaf), maintenance(leaf)),
        StepOp::ScalarParam(number) => format!("scalar {number}, evaluated before"),
        StepOp::Number(number) => format!("number {}", number.0),
        StepOp::TimeScalar(function, shift) => format!("clock {}{}", function.0.name, shifted(*shift, None)),
        StepOp::TimeVector(function, shift) => {
            format!("clock {} as vector{}", function.0.name, shifted(*shift, None))
        }
        StepOp::Map(function) => format!("map {}", function.0.name),
        StepOp::Negate => "negate".to_owned(),
        StepOp::Relabel(function, _) => format!("relabel {}", function.0.name),
        StepOp::ScalarBinary(op) => format!("scalars {}", op.as_str()),
        StepOp::ScalarFunction(function) => format!("scalars {}", function.0.name),
        StepOp::VectorScalar { op, return_bool, scalar_left } => {
            let order = if *scalar_left { "scalar with vector" } else { "vector with scalar" };
            format!("{order} {}{}", op.as_str(), if *return_bool { " bool" } else { "" })
        }
        StepOp::VectorMatch(op, return_bool, matching) => {
            let bool = if *return_bool { " bool" } else { "" };
            format!("match {}{bool} {}", op.as_str(), matched(matching))
        }
        StepOp::SetOperator(op, matching) => format!("set {} {}", op.as_str(), matched(matching)),
        StepOp::PartialAggregate(op, grouping) => format!("partial {} {}", op.as_str(), grouped(grouping)),
        StepOp::MergeAggregate(op, _) => format!("merge {}", op.as_str()),
        StepOp::WholeGroup(op, grouping, _) => format!("group {} {}", op.as_str(), grouped(grouping)),
        StepOp::Absent(_) => "absent".to_owned(),
        StepOp::ToScalar => "vector to scalar".to_owned(),
        StepOp::ToVector => "scalar to vector".to_owned(),
        StepOp::Histogram(_) => "histogram function".to_owned(),
        StepOp::Info(_) => "info".to_owned(),
        StepOp::Sort(descending) => if *descending { "sort descending" } else { "sort" }.to_owned(),
        StepOp::SortByLabel(labels, _) => format!("sort by labels ({})", labels.join(", ")),
        StepOp::DropNames => "drop names".to_owned(),
        StepOp::Port(_) => "from each shard".to_owned(),
        StepOp::Subquery(number, SubqueryFunction::Call(function)) => {
            format!("{} over subquery {number}", function.0.name)
        }
        StepOp::Subquery(number, SubqueryFunction::Present) => format!("presence in subquery {number}"),
        StepOp::StoreQuery(query) => format!("query over the store{}", shifted(query.shift, None)),
    }
}

fn matched(matching: &VectorMatching) -> String {
    let with = if matching.on { "on" } else { "ignoring" };
    format!("{with} ({})", matching.labels.join(", "))
}

fn grouped(grouping: &Grouping) -> String {
    let how = if grouping.without { "without" } else { "by" };
    format!("{how} ({})", grouping.labels.join(", "))
}

/// The window of a leaf in words; the selector follows.
pub(super) fn leaf_words(leaf: &Leaf) -> String {
    match leaf {
        Leaf::Value => "newest value".to_owned(),
        Leaf::Timestamp(_) => "time of the newest value".to_owned(),
        Leaf::StartTimestamp => "start timestamp of the newest value".to_owned(),
        Leaf::Info => "info series".to_owned(),
        Leaf::Window(function, range) => format!("{} over {}", function.0.name, format_duration(*range)),
        Leaf::Present(range) => format!("presence over {}", format_duration(*range)),
    }
}
