//! Binds aggregates with `FILTER (WHERE …)` under `GROUP BY`.
//!
//! In SQL a group has a row with 0 or NULL where no row passes the filter. A PromQL aggregation has
//! no element for such a group. The two are equal only if another condition, such as `HAVING`,
//! removes these groups; otherwise the aggregate is refused. Called by [`mod@super::aggregate`] and
//! [`super::condition`].

use super::expr::{comparison, term};
use super::term::Term;
use super::{Refusal, Rows, refused};
use crate::values;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{BinaryExpr, Expr};
use engine::plan::BinaryOp;

/// A number that is 0 or NULL in groups where no row passes the FILTER.
#[derive(Clone, Debug)]
pub(super) struct FilteredNumber {
    /// The number.
    pub(super) term: Term,
    /// Whether the number is 0 in such a group; otherwise it is NULL.
    pub(super) is_count: bool,
}

/// Returns the rows if no group can lack the number, and if the number is made; else refuses.
pub(super) fn complete(rows: Rows) -> Result<Rows, Refusal> {
    if rows.chosen.is_some() {
        return refused("the number that decides is not the one that is shown");
    }
    if rows.filtered.is_empty() {
        return Ok(rows);
    }
    refused("FILTER: groups without a row that passes it have 0 or NULL in SQL, and are none in PromQL")
}

/// Checks whether a condition removes the groups that lack a number.
pub(super) fn leave_out(rows: &mut Rows, part: &Expr, schema: &DFSchema) {
    if rows.filtered.is_empty() {
        return;
    }
    let Expr::BinaryExpr(binary) = part else { return };
    let Some(op) = comparison(binary.op) else { return };
    let is_open = |filtered: &FilteredNumber| !is_left_out(filtered, op, binary, rows, schema);
    let open = rows.filtered.iter().filter(|filtered| is_open(filtered)).cloned().collect();
    rows.filtered = open;
}

fn is_left_out(
    filtered: &FilteredNumber,
    op: BinaryOp,
    binary: &BinaryExpr,
    rows: &Rows,
    schema: &DFSchema,
) -> bool {
    let of = |expr: &Expr| term(rows, expr, schema).ok();
    if !filtered.is_count {
        // A comparison with NULL does not hold.
        let is_null = |expr| of(expr).is_some_and(|term| is_null_with(&term, &filtered.term));
        return is_null(&binary.left) || is_null(&binary.right);
    }
    let is_zero = |expr| of(expr).is_some_and(|term| is_zero_with(&term, &filtered.term));
    if is_zero(&binary.left) {
        return values::number(&binary.right).is_some_and(|number| !holds(op, 0.0, number));
    }
    is_zero(&binary.right) && values::number(&binary.left).is_some_and(|number| !holds(op, number, 0.0))
}

/// Whether a number is NULL where `part` is.
fn is_null_with(term: &Term, part: &Term) -> bool {
    if term == part {
        return true;
    }
    match term {
        Term::Negate(inner) | Term::Ago(inner, _) | Term::At(inner, _) => is_null_with(inner, part),
        Term::Binary { lhs, rhs, bool: false, .. } => is_null_with(lhs, part) || is_null_with(rhs, part),
        _ => false,
    }
}

/// Whether a number is 0 where `part` is.
fn is_zero_with(term: &Term, part: &Term) -> bool {
    if term == part {
        return true;
    }
    match term {
        Term::Negate(inner) => is_zero_with(inner, part),
        Term::Binary { op: BinaryOp::Div | BinaryOp::Mul, lhs, bool: false, .. } => is_zero_with(lhs, part),
        _ => false,
    }
}

fn holds(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Eq => a == b,
        BinaryOp::Ne => a != b,
        BinaryOp::Gt => a > b,
        BinaryOp::Ge => a >= b,
        BinaryOp::Lt => a < b,
        BinaryOp::Le => a <= b,
        // No comparison, so no group is removed.
        _ => true,
    }
}
