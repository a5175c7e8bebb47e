//! Where the two modes of dropping metric names may answer differently.
//!
//! Prometheus' own files assume that computed values keep their names inside until the answer is ready (its feature
//! `promql-delayed-name-removal`). By default, and always here, they lose them at once. The difference shows only
//! where something *above* a computed value looks at the labels that say what a metric is.

use engine::functions::Kernel;
use engine::plan::{Node, Op, Plan, Type};
use storage::model::labels::describes_metric;

/// Whether the modes may differ for `plan`; `typed`: some series has a type or a unit as a label.
pub(super) fn may_differ(plan: &Plan, typed: bool) -> bool {
    let looks = looks_at_names(plan, typed) && plan.inputs().into_iter().any(|input| computes(input));
    looks || plan.inputs().into_iter().any(|input| may_differ(input, typed))
}

/// Whether the node itself looks at labels that a computed value has lost.
fn looks_at_names(node: &Node, typed: bool) -> bool {
    let listed = |labels: &[String]| labels.iter().any(|label| describes_metric(label));
    match &node.op {
        Op::Binary(b) => {
            node.kind() == Type::Vector && (listed(&b.matching.labels) || (typed && !b.matching.on))
        }
        Op::Aggregate(a) => listed(&a.grouping.labels) || (typed && a.grouping.without),
        Op::Call { function, args } if matches!(function.0.kernel, Kernel::Relabel(_)) => {
            args.iter().any(|arg| matches!(&arg.op, Op::Text(text) if describes_metric(text)))
        }
        _ => false,
    }
}

/// Whether a name is dropped in the node or below.
fn computes(node: &Node) -> bool {
    let here = match &node.op {
        Op::Negate(_) => true,
        Op::Binary(b) => !b.op.is_set() && (!b.op.is_comparison() || b.return_bool),
        Op::Call { function, .. } => !function.0.keeps_name,
        _ => false,
    };
    here || node.inputs().into_iter().any(|input| computes(input))
}
