//! Binds `WHERE`, `HAVING` and `ON`. A condition on labels becomes matchers of the selectors, one
//! on a number becomes a comparison, one on the time becomes the evaluation times.
//!
//! `EXISTS` and `IN (SELECT …)` become PromQL's `and` and `unless`. [`super::grid`] has the
//! conditions on the time.

use super::expr::{cell, comparison, is_time, term};
use super::filtered_aggregate::{self, complete};
use super::term::Term;
use super::{Cell, Condition, Membership, Refusal, Rows, absent, first_of, refused, relation};
use crate::values;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use engine::plan::{AggregateOp, BinaryOp};
use storage::model::labels::METRIC_NAME;
use storage::model::{MatchOp, Matcher};

/// Splits a condition at `AND`.
pub(crate) fn split(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            let mut parts = split(left);
            parts.extend(split(right));
            parts
        }
        // An alias only names the condition; without this, `a AND b` under one would be one part
        // that is neither a matcher nor a filter, and the whole statement would be refused.
        Expr::Alias(alias) => split(&alias.expr),
        other => vec![other],
    }
}

/// Adds a condition to the rows.
pub(super) fn add(rows: &mut Rows, part: &Expr, schema: &DFSchema) -> Result<(), Refusal> {
    match part {
        // Subqueries first: they are not conditions on a row, so none of the later cases could take
        // them.
        Expr::Exists(exists) => return member(rows, &exists.subquery.subquery, exists.negated, None),
        Expr::Not(inner) if matches!(inner.as_ref(), Expr::Exists(_)) => {
            if let Expr::Exists(exists) = inner.as_ref() {
                return member(rows, &exists.subquery.subquery, !exists.negated, None);
            }
        }
        Expr::InSubquery(inside) => {
            // A set operator matches series by labels, never by their numbers, so `value IN (…)`
            // has no plan.
            let Cell::Label(name) = cell(rows, &inside.expr, schema)? else {
                return refused("IN (SELECT …) of something else than a label");
            };
            return member(rows, &inside.subquery.subquery, inside.negated, Some(name));
        }
        _ => {}
    }
    if let Expr::BinaryExpr(binary) = part
        && (correlated(rows, binary, schema)? || ranked(rows, binary, schema)?)
    {
        return Ok(());
    }
    let name_of = |expr: &Expr| match cell(rows, expr, schema) {
        Ok(Cell::Label(name)) => Some(name),
        Ok(Cell::Metric) => Some(METRIC_NAME.to_owned()),
        _ => None,
    };
    // Before the numbers: a matcher makes the store read fewer series, a filter reads all and drops
    // rows.
    if let Some(matchers) = label_matchers(part, &name_of) {
        return matched(rows, matchers);
    }
    if is_about_time(rows, part, schema) {
        return Ok(());
    }
    if rows.chosen.is_some() {
        return refused("a condition on a number after rows were chosen by one");
    }
    filtered_aggregate::leave_out(rows, part, schema);
    if rows.over_nothing.is_some() && !holds_over_nothing(rows, part, schema) {
        rows.over_nothing = None;
    }
    compared(rows, part, schema)
}

/// Whether the one row that an aggregate without groups has over nothing satisfies a condition. A
/// comparison with NULL does not hold; only a count is a number there.
fn holds_over_nothing(rows: &Rows, part: &Expr, schema: &DFSchema) -> bool {
    let Expr::BinaryExpr(binary) = part else { return false };
    let is_count = |expr: &Expr| {
        let counted = rows.cells.first().filter(|_| rows.over_nothing == Some(ScalarValue::Int64(Some(0))));
        term(rows, expr, schema).is_ok_and(|of| counted == Some(&Cell::Number(of)))
    };
    let (op, number) = if is_count(&binary.left) {
        (comparison(binary.op), values::number(&binary.right))
    } else if is_count(&binary.right) {
        (comparison(binary.op).map(turned), values::number(&binary.left))
    } else {
        return false;
    };
    let (Some(op), Some(number)) = (op, number) else { return false };
    match op {
        BinaryOp::Eq => number == 0.0,
        BinaryOp::Ne => number != 0.0,
        BinaryOp::Gt => 0.0 > number,
        BinaryOp::Ge => 0.0 >= number,
        BinaryOp::Lt => 0.0 < number,
        BinaryOp::Le => 0.0 <= number,
        _ => false,
    }
}

/// Adds matchers to the selectors. The sides of a join are filtered before the join, or by a label
/// that both sides have.
fn matched(rows: &mut Rows, matchers: Vec<Matcher>) -> Result<(), Refusal> {
    // With group_left and group_right the label belongs to one side only; a matcher on the other
    // would drop series that the join needs.
    if rows.sides.len() > 1 && rows.joined != super::JoinMatching::Same {
        return refused("a condition on a label of a join: filter before the join");
    }
    // A matcher selects what is read, so it would act before the grouping: `sum by (job)` over
    // fewer series is another number than a group left out.
    if rows.sides.iter().any(|side| side.computed || side.keys.is_some()) {
        return refused("a condition on a label after grouping: filter before it");
    }
    for side in &mut rows.sides {
        side.matchers.extend(matchers.iter().cloned());
    }
    Ok(())
}

/// The matchers that are equivalent to a condition on labels; `None`: no matchers are.
pub(crate) fn label_matchers(part: &Expr, name_of: &dyn Fn(&Expr) -> Option<String>) -> Option<Vec<Matcher>> {
    let make = |name: String, op: MatchOp, value: String| Matcher::new(name, op, value).ok().map(|m| vec![m]);
    let regex = |negated: bool| if negated { MatchOp::NotRegex } else { MatchOp::Regex };
    match part {
        // For PromQL a missing label and an empty one are the same, so NULL is the empty text.
        Expr::IsNull(inner) => make(name_of(inner)?, MatchOp::Equal, String::new()),
        Expr::IsNotNull(inner) => make(name_of(inner)?, MatchOp::NotEqual, String::new()),
        Expr::Like(like) => make(name_of(&like.expr)?, regex(like.negated), values::like_pattern(like)?),
        Expr::InList(list) => {
            let texts: Option<Vec<String>> = list.list.iter().map(values::text).collect();
            in_list(name_of(&list.expr)?, &texts?, list.negated)
        }
        Expr::Not(inner) => {
            // Only a single matcher can be negated: the negation of two is a disjunction, and
            // matchers have no "or".
            let [one] = label_matchers(inner, name_of)?.try_into().ok()?;
            let op = match one.op {
                MatchOp::Equal => MatchOp::NotEqual,
                MatchOp::NotEqual => MatchOp::Equal,
                MatchOp::Regex => MatchOp::NotRegex,
                MatchOp::NotRegex => MatchOp::Regex,
            };
            make(one.name, op, one.value)
        }
        Expr::BinaryExpr(binary) => compared_label(binary, name_of),
        _ => None,
    }
}

fn in_list(name: String, texts: &[String], negated: bool) -> Option<Vec<Matcher>> {
    let op = if negated { MatchOp::NotRegex } else { MatchOp::Regex };
    Matcher::new(name, op, values::any_of(texts)).ok().map(|m| vec![m])
}

fn compared_label(binary: &BinaryExpr, name_of: &dyn Fn(&Expr) -> Option<String>) -> Option<Vec<Matcher>> {
    let BinaryExpr { left, op, right } = binary;
    // `OR` is a matcher only as several values of one label (a regular expression with
    // alternatives).
    if *op == Operator::Or {
        return any_value(binary, name_of);
    }
    if *op == Operator::And {
        let mut all = label_matchers(left, name_of)?;
        all.extend(label_matchers(right, name_of)?);
        return Some(all);
    }
    // Only for an equality the label may be on either side. In `'a.*' ~ job` the label would be the
    // pattern.
    let (label, value) = match values::text(right) {
        Some(value) => (left, value),
        None if matches!(op, Operator::Eq | Operator::NotEq) => (right, values::text(left)?),
        None => return None,
    };
    let name = name_of(strip_cast(label))?;
    let (op, value) = match op {
        Operator::Eq => (MatchOp::Equal, value),
        Operator::NotEq => (MatchOp::NotEqual, value),
        // `~` in SQL matches any part of the text, `=~` in PromQL the whole text.
        Operator::RegexMatch => (MatchOp::Regex, values::anchored(&value)),
        Operator::RegexNotMatch => (MatchOp::NotRegex, values::anchored(&value)),
        Operator::RegexIMatch => (MatchOp::Regex, format!("(?i){}", values::anchored(&value))),
        Operator::RegexNotIMatch => (MatchOp::NotRegex, format!("(?i){}", values::anchored(&value))),
        _ => return None,
    };
    Matcher::new(name, op, value).ok().map(|m| vec![m])
}

fn strip_cast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => strip_cast(&cast.expr),
        other => other,
    }
}

/// `job = 'a' OR job = 'b'`: one label with several values.
fn any_value(binary: &BinaryExpr, name_of: &dyn Fn(&Expr) -> Option<String>) -> Option<Vec<Matcher>> {
    let mut texts = Vec::new();
    let mut name = None;
    // A stack instead of recursion, with the left side on top: the values keep their order, so the
    // pattern, and with it the plan, is the same for the same text.
    let mut rest = vec![binary.right.as_ref(), binary.left.as_ref()];
    while let Some(expr) = rest.pop() {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                rest.extend([right.as_ref(), left.as_ref()])
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                let label = name_of(strip_cast(left))?;
                if name.get_or_insert_with(|| label.clone()) != &label {
                    return None;
                }
                texts.push(values::text(right)?);
            }
            Expr::InList(list) if !list.negated => {
                let label = name_of(&list.expr)?;
                if name.get_or_insert_with(|| label.clone()) != &label {
                    return None;
                }
                texts.extend(list.list.iter().map(values::text).collect::<Option<Vec<_>>>()?);
            }
            _ => return None,
        }
    }
    in_list(name?, &texts, false)
}

/// Whether a condition only bounds `ts`: the evaluation times are found before. What was not
/// understood there, such as a condition on a bucket, is no plan, and is looked at row by row.
fn is_about_time(rows: &Rows, part: &Expr, schema: &DFSchema) -> bool {
    let is_of_rows = match part {
        Expr::Between(between) => is_time(rows, &between.expr, schema),
        Expr::BinaryExpr(binary) => {
            is_time(rows, &binary.left, schema) || is_time(rows, &binary.right, schema)
        }
        _ => false,
    };
    is_of_rows && super::grid::is_bound(part)
}

/// Why a condition such as `$1 > 3` is no filter: a comparison of two numbers keeps all rows of
/// PromQL, and changes their values.
const NO_NUMBER_OF_A_ROW: &str = "a comparison without a number of the row";

/// Whether a number is the same for all rows.
fn is_constant(term: &Term) -> bool {
    matches!(term, Term::Number(_) | Term::Scalar(_))
}

/// A comparison of numbers.
fn compared(rows: &mut Rows, part: &Expr, schema: &DFSchema) -> Result<(), Refusal> {
    match part {
        Expr::Between(between) if !between.negated => {
            let of = term(rows, &between.expr, schema)?;
            let low = term(rows, &between.low, schema)?;
            let high = term(rows, &between.high, schema)?;
            if [&of, &low, &high].into_iter().all(is_constant) {
                return refused(NO_NUMBER_OF_A_ROW);
            }
            rows.conditions.push(Condition { op: BinaryOp::Ge, lhs: of.clone(), rhs: low });
            rows.conditions.push(Condition { op: BinaryOp::Le, lhs: of, rhs: high });
            Ok(())
        }
        // A value is never NULL, except for the aggregate of nothing at all: there the test has an
        // effect.
        // Rows without a number do not exist.
        Expr::IsNotNull(inner) if term(rows, inner, schema).is_ok() && rows.over_nothing.is_none() => Ok(()),
        Expr::BinaryExpr(binary) => {
            let Some(op) = comparison(binary.op) else {
                return refused(format!("{part} is no condition of a matcher or a filter"));
            };
            let lhs = term(rows, &binary.left, schema)?;
            let rhs = term(rows, &binary.right, schema)?;
            if is_constant(&lhs) && is_constant(&rhs) {
                return refused(NO_NUMBER_OF_A_ROW);
            }
            // The constant goes to the right, so that `5 < value` and `value > 5` are the same
            // plan.
            let condition = if is_constant(&lhs) && !is_constant(&rhs) {
                Condition { op: turned(op), lhs: rhs, rhs: lhs }
            } else {
                Condition { op, lhs, rhs }
            };
            rows.conditions.push(condition);
            Ok(())
        }
        _ => refused(format!("{part} is no condition of a matcher or a filter")),
    }
}

/// The comparison with its sides exchanged.
fn turned(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Gt => BinaryOp::Lt,
        BinaryOp::Lt => BinaryOp::Gt,
        BinaryOp::Ge => BinaryOp::Le,
        BinaryOp::Le => BinaryOp::Ge,
        other => other,
    }
}

/// `m.instance = up.instance` inside of a subquery: a label of both.
fn correlated(rows: &mut Rows, binary: &BinaryExpr, schema: &DFSchema) -> Result<bool, Refusal> {
    let (own, outer) = match (binary.left.as_ref(), binary.right.as_ref()) {
        (own, Expr::OuterReferenceColumn(_, outer)) | (Expr::OuterReferenceColumn(_, outer), own) => {
            (own, outer)
        }
        _ => return Ok(false),
    };
    if binary.op != Operator::Eq {
        // Set operators match labels that are equal, nothing else.
        return refused("a subquery is compared with the query around it by = only");
    }
    match cell(rows, own, schema)? {
        Cell::Labels if outer.name == "labels" => {
            // Matching by all labels. A list of names cannot be added to that, see the next case.
            rows.correlated = Some(None);
        }
        Cell::Label(name) if name == outer.name => {
            // Several equalities add up to `on (a, b)`. If all labels are compared already, one of
            // them says nothing new.
            if let Some(labels) = rows.correlated.get_or_insert_with(|| Some(Vec::new())) {
                labels.push(name);
            }
        }
        _ => return refused("a subquery compares labels of different names with the query around it"),
    }
    Ok(true)
}

/// `rank <= 3`: the first of each group.
fn ranked(rows: &mut Rows, binary: &BinaryExpr, schema: &DFSchema) -> Result<bool, Refusal> {
    let Ok(Cell::Rank { by, descending, of }) = cell(rows, &binary.left, schema) else { return Ok(false) };
    let k = values::integer(&binary.right);
    let k = match (binary.op, k) {
        (Operator::LtEq, Some(k)) => k,
        // Ranks are whole numbers, so below `k` is up to `k - 1`.
        (Operator::Lt, Some(k)) => k - 1,
        // Any other single rank would be "the third only", for which PromQL has no operator.
        (Operator::Eq, Some(1)) => 1,
        _ => return refused("a rank is compared by <= with a number"),
    };
    let op = if descending { AggregateOp::Topk } else { AggregateOp::Bottomk };
    let mut plain = rows.clone();
    plain.cells.retain(|cell| !matches!(cell, Cell::Rank { .. }));
    let first = first_of(plain, op, &by, k, &of)?;
    // The rank itself is no number of a series any more; the other columns keep their places.
    let mut kept = first.cells.into_iter();
    let cells = rows.cells.iter().map(|cell| match cell {
        Cell::Rank { .. } => cell.clone(),
        _ => kept.next().unwrap_or(Cell::Time),
    });
    let cells = cells.collect();
    *rows = Rows { cells, filtered: Vec::new(), ..first };
    Ok(true)
}

/// `[NOT] EXISTS (…)`, `[NOT] IN (SELECT label …)`.
fn member(
    rows: &mut Rows,
    subquery: &LogicalPlan,
    negated: bool,
    label: Option<String>,
) -> Result<(), Refusal> {
    let mut inner = complete(relation(subquery)?)?;
    if let Some(name) = label {
        // The label before IN is the match; one more would be an "and" of two matches.
        if inner.correlated.is_some() {
            return refused("IN (SELECT …) that depends on the query around it");
        }
        if inner.cells != [Cell::Label(name.clone())] {
            return refused("IN (SELECT …) of another label");
        }
        inner.correlated = Some(Some(vec![name]));
    }
    // What is selected does not matter; constants are no numbers.
    inner.cells.retain(|cell| matches!(cell, Cell::Number(_)));
    let (plan, _) = inner.answer()?;
    let Some(on) = inner.correlated else {
        // `SELECT … WHERE NOT EXISTS (…)` without a relation around it is `absent()`. For the other
        // forms without a dependence, the rows would be all or none of them, which no operator of
        // PromQL does.
        if rows.sides.is_empty() && negated && rows.cells.is_empty() {
            rows.sides.push(super::Side { keys: Some(Vec::new()), ..super::Side::default() });
            rows.mention = Some(Term::Done(absent(plan)?, 0));
            rows.mixes_times = true;
            return Ok(());
        }
        return refused("a subquery that does not depend on the query around it");
    };
    rows.mixes_times = true;
    let op = if negated { BinaryOp::Unless } else { BinaryOp::And };
    rows.members.push(Membership { op, on, plan });
    Ok(())
}
