//! Binds joins to PromQL's vector matching (`on`, `ignoring`, `group_left`).
//!
//! SQL multiplies rows where PromQL fails. So a join is bound only if one side is proven to have at
//! most one row for each match: it is grouped by some of the joined labels, or the join is by all
//! labels, which are unique in a metric. Other joins are refused, and DataFusion computes them.

use super::condition::split;
use super::filtered_aggregate::complete;
use super::term::{JoinMatching, Side, Term};
use super::{Cell, Condition, Refusal, Rows, condition, refused, relation};
use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, Join, LogicalPlan, Operator};
use engine::plan::Cardinality;

/// Binds a join.
pub(super) fn joined(join: &Join) -> Result<Rows, Refusal> {
    joined_where(join, Vec::new())
}

/// The join whose conditions are those of a `WHERE`: `FROM a, b WHERE a.labels = b.labels`.
pub(super) fn is_bare(join: &Join) -> bool {
    join.join_type == JoinType::Inner && join.on.is_empty() && join.filter.is_none()
}

/// Two columns that have to be equal.
type Pair<'a> = (&'a Expr, &'a Expr);

/// Binds a join of which these conditions hold, too.
pub(super) fn joined_where<'a>(join: &'a Join, mut conditions: Vec<&'a Expr>) -> Result<Rows, Refusal> {
    if let Some(filter) = &join.filter {
        // A row without a match would have NULL, not go.
        if join.join_type != JoinType::Inner {
            return refused("an outer join with a condition other than USING");
        }
        conditions.extend(split(filter));
    }
    let mut pairs: Vec<Pair<'_>> = join.on.iter().map(|(l, r)| (l, r)).collect();
    let mut rest = Vec::new();
    for condition in conditions {
        match equal_columns(join, condition) {
            Some(pair) => pairs.push(pair),
            None => rest.push(condition),
        }
    }
    let mut rows = joined_by(join, &pairs)?;
    for condition in rest {
        condition::add(&mut rows, condition, &join.schema)?;
    }
    Ok(rows)
}

/// The columns of a condition `left.x = right.y`, in the order of the sides.
fn equal_columns<'a>(join: &Join, condition: &'a Expr) -> Option<Pair<'a>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    let (Expr::Column(a), Expr::Column(b)) = (left.as_ref(), right.as_ref()) else { return None };
    let is_of = |side: &LogicalPlan, column: &Column| side.schema().has_column(column);
    if is_of(&join.left, a) && is_of(&join.right, b) {
        return Some((left, right));
    }
    (is_of(&join.left, b) && is_of(&join.right, a)).then_some((right, left))
}

fn joined_by(join: &Join, pairs: &[Pair<'_>]) -> Result<Rows, Refusal> {
    let left = complete(relation(&join.left)?)?;
    let right = complete(relation(&join.right)?)?;
    if left.correlated.is_some() || right.correlated.is_some() {
        return refused("a subquery depends on the query around it");
    }
    // A third relation would need the match of a match, whose labels are known only after the
    // first: except where all sides have the same labels.
    let is_third = left.sides.len() > 1 || right.sides.len() > 1;
    if left.sides.is_empty()
        || right.sides.is_empty()
        || (is_third && (left.joined != JoinMatching::Same || right.joined != JoinMatching::Same))
    {
        return refused("a join of more than two relations");
    }
    if pairs.is_empty()
        && let Some(rows) = single_rows(join, &left, &right)
    {
        return Ok(rows);
    }
    let mut labels = Vec::new();
    let mut by_all = false;
    let mut by_time = false;
    for (l, r) in pairs {
        let l = super::expr::cell(&left, l, join.left.schema())?;
        let r = super::expr::cell(&right, r, join.right.schema())?;
        match (l, r) {
            (Cell::Labels, Cell::Labels) => by_all = true,
            // Both sides are evaluated at the same times anyway.
            (Cell::Time, Cell::Time) => by_time = true,
            (Cell::Label(l), Cell::Label(r)) if l == r => labels.push(l),
            (Cell::Label(l), Cell::Label(r)) => {
                // `on (…)` names a label once, for both sides; `label_replace` would be needed
                // first.
                return refused(format!("the labels {l} and {r} have different names"));
            }
            _ => return refused("a join of something else than labels"),
        }
    }
    let how = match (join.join_type, by_all) {
        // A full join by all labels is `or`: a row per series of either side. By fewer labels, `or`
        // would drop rows of the right side that the join has.
        (JoinType::Full, true) => JoinMatching::Either,
        (JoinType::Inner, true) if labels.is_empty() => JoinMatching::Same,
        (JoinType::Inner, false) if !labels.is_empty() => matched(&left.sides[0], &right.sides[0], labels)?,
        // Groups have no other labels than those that they are grouped by.
        (JoinType::Full, false) if are_grouped_by(&left.sides[0], &right.sides[0], &labels) => {
            JoinMatching::Either
        }
        // By time alone this is every row with every row; `on ()` fails for more than one series
        // per side.
        (JoinType::Inner, _) => return refused("a join without labels"),
        (other, _) => return refused(format!("{other} JOIN: PromQL has no NULL")),
    };
    if is_third && how != JoinMatching::Same {
        return refused("a join of more than two relations");
    }
    let mut rows = both(left, right, how);
    rows.mixes_times |= !by_time;
    Ok(rows)
}

/// Two aggregates over all rows, side by side: a row each, whatever there is, so that no label has
/// to match. `None`: it is another join.
fn single_rows(join: &Join, left: &Rows, right: &Rows) -> Option<Rows> {
    // `count` is 0 over nothing, where an operator of PromQL has no row.
    let is_single = |rows: &Rows| rows.over_nothing == Some(ScalarValue::Null);
    if join.join_type != JoinType::Inner || !is_single(left) || !is_single(right) {
        return None;
    }
    let mut rows = both(left.clone(), right.clone(), JoinMatching::Same);
    rows.over_nothing = Some(ScalarValue::Null);
    rows.mixes_times = true;
    Some(rows)
}

/// Whether both sides are grouped by exactly these labels.
fn are_grouped_by(left: &Side, right: &Side, labels: &[String]) -> bool {
    let sorted = |labels: &[String]| {
        let mut labels = labels.to_vec();
        labels.sort_unstable();
        labels.dedup();
        labels
    };
    let is_grouped = |side: &Side| side.keys.as_ref().is_some_and(|keys| sorted(keys) == sorted(labels));
    !labels.is_empty() && is_grouped(left) && is_grouped(right)
}

/// How two sides match by `labels`.
fn matched(left: &Side, right: &Side, mut labels: Vec<String>) -> Result<JoinMatching, Refusal> {
    // `USING (a, b)` and `USING (b, a)` are the same plan.
    labels.sort_unstable();
    labels.dedup();
    let is_unique =
        |side: &Side| side.keys.as_ref().is_some_and(|keys| keys.iter().all(|key| labels.contains(key)));
    Ok(match (is_unique(left), is_unique(right)) {
        // Both are grouped by exactly these labels, so they have no others and `on (…)` can be left
        // out: the plan is equal to that of the usual PromQL.
        (true, true) if are_grouped_by(left, right, &labels) => JoinMatching::Same,
        (true, true) => JoinMatching::On(labels, Cardinality::OneToOne),
        (false, true) => JoinMatching::On(labels, Cardinality::ManyToOne),
        (true, false) => JoinMatching::On(labels, Cardinality::OneToMany),
        (false, false) => {
            return refused(format!(
                "neither side is known to have one row for each ({}): join USING (labels), or group one side by them",
                labels.join(", ")
            ));
        }
    })
}

/// The columns of both sides. A label that is not joined by is only on the side with several rows.
fn both(left: Rows, right: Rows, how: JoinMatching) -> Rows {
    let mut rows = left;
    let by = rows.sides.len();
    let keeps = |joined: &JoinMatching, is_left: bool| match joined {
        JoinMatching::On(_, Cardinality::ManyToOne) => is_left,
        JoinMatching::On(_, Cardinality::OneToMany) => !is_left,
        JoinMatching::On(..) => false,
        JoinMatching::Same | JoinMatching::Either => true,
    };
    let seen = |cell: Cell, is_left: bool| match (cell, &how) {
        // PromQL's result has only the labels of the "many" side. Columns are addressed by
        // position, so the column stays, and its use is refused with a reason.
        (Cell::Label(name), JoinMatching::On(labels, _))
            if !labels.contains(&name) && !keeps(&how, is_left) =>
        {
            Cell::Foreign(name)
        }
        (Cell::Labels, how) if !keeps(how, is_left) => Cell::Foreign("labels".to_owned()),
        // Operators drop the name of the metric.
        (Cell::Metric, _) => Cell::Foreign("metric".to_owned()),
        (cell, _) => cell,
    };
    let cells = std::mem::take(&mut rows.cells).into_iter().map(|cell| seen(cell, true));
    let mut all: Vec<Cell> = cells.collect();
    all.extend(right.cells.into_iter().map(|cell| match cell {
        Cell::Number(term) => Cell::Number(of_side(term, by)),
        cell => seen(cell, false),
    }));
    rows.cells = all;
    rows.sides.extend(right.sides);
    rows.conditions.extend(right.conditions.into_iter().map(|c| Condition {
        op: c.op,
        lhs: of_side(c.lhs, by),
        rhs: of_side(c.rhs, by),
    }));
    rows.members.extend(right.members);
    rows.mixes_times |= right.mixes_times;
    rows.joined = how;
    // An order or limit of one side does not hold for the joined rows.
    rows.order = None;
    rows.mention = None;
    rows.over_nothing = None;
    rows
}

/// A term of the right side of a join, whose left side has `by` sides.
fn of_side(term: Term, by: usize) -> Term {
    let boxed = |inner: Box<Term>| Box::new(of_side(*inner, by));
    match term {
        Term::Value(side) => Term::Value(side + by),
        Term::Histogram(side) => Term::Histogram(side + by),
        Term::Done(plan, side) => Term::Done(plan, side + by),
        Term::Negate(inner) => Term::Negate(boxed(inner)),
        Term::Ago(inner, ms) => Term::Ago(boxed(inner), ms),
        Term::At(inner, t) => Term::At(boxed(inner), t),
        Term::Or(lhs, rhs) => Term::Or(boxed(lhs), boxed(rhs)),
        Term::Binary { op, lhs, rhs, bool } => Term::Binary { op, lhs: boxed(lhs), rhs: boxed(rhs), bool },
        Term::Function { function, args } => {
            Term::Function { function, args: args.into_iter().map(|arg| of_side(arg, by)).collect() }
        }
        Term::Window { function, before, input, range, step, after } => {
            Term::Window { function, before, input: boxed(input), range, step, after }
        }
        term @ (Term::Number(_) | Term::Scalar(_)) => term,
    }
}
