//! A statement of another language as a plan: one that no plan can say, and that runs again at each
//! evaluation.
//!
//! Rules, saved queries and subscriptions know plans only. So such a statement is a plan with one
//! call, of a function that no language has. The runtimes refuse it; a query engine that knows the
//! other language answers it before they see it, and its view is a scheduled one.

use super::{FunctionRef, Plan, PlanNode, PlanOp, Span};
use crate::functions::vectors::STATEMENT;
use crate::functions::{Kernel, OperatorFunction};
use std::sync::Arc;

/// How the rows of a statement become samples.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RowForm {
    /// A row is a series: its texts are labels, its number is the value.
    Series,
    /// A row is any list of cells. Its labels are the cells, its value is how many equal rows there
    /// are.
    Cells,
}

impl RowForm {
    fn as_str(self) -> &'static str {
        match self {
            RowForm::Series => "series",
            RowForm::Cells => "cells",
        }
    }
}

/// The plan of a statement that runs again at each evaluation.
pub fn plan_of_statement(text: &str, form: RowForm) -> Plan {
    let node = |op| Arc::new(PlanNode { op, span: Span::default() });
    let args = vec![node(PlanOp::Text(text.to_owned())), node(PlanOp::Text(form.as_str().to_owned()))];
    node(PlanOp::Call { function: FunctionRef(&STATEMENT), args })
}

/// The statement that a plan is, and the form of its rows; `None`: the plan is another one.
pub fn statement_of(plan: &PlanNode) -> Option<(&str, RowForm)> {
    let PlanOp::Call { function, args } = &plan.op else { return None };
    if !matches!(function.0.kernel, Kernel::Operator(OperatorFunction::Statement)) {
        return None;
    }
    let [text, form] = args.as_slice() else { return None };
    let (PlanOp::Text(text), PlanOp::Text(form)) = (&text.op, &form.op) else { return None };
    let form = if form == RowForm::Cells.as_str() { RowForm::Cells } else { RowForm::Series };
    Some((text, form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_found_in_its_plan_only() {
        for form in [RowForm::Series, RowForm::Cells] {
            let plan = plan_of_statement("SELECT 1", form);
            assert_eq!(statement_of(&plan), Some(("SELECT 1", form)));
            assert!(plan.inputs().iter().all(|input| statement_of(input).is_none()));
        }
    }
}
