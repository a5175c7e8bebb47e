//! Binds `GROUP BY`, `DISTINCT` and `row_number()` to the engine's aggregations: `sum by`, `count`,
//! `topk`, `histogram_quantile` and others.
//!
//! Called by [`super`] for each aggregate node of DataFusion's plan. An aggregate that PromQL does
//! not have is refused, and DataFusion computes it.

use super::condition::split;
use super::expr::{cell, constant, is_time, term};
use super::filtered_aggregate::{FilteredNumber, complete};
use super::term::{Side, Term, aggregate, call, reads};
use super::{Cell, Refusal, Rows, condition, refused, relation};
use crate::values;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::{Aggregate, Expr, Window, WindowFunctionDefinition};
use engine::plan::{AggregateOp, Plan, PlanNode, PlanOp};
use std::sync::Arc;

/// The label of a histogram's buckets.
const LE: &str = "le";

/// The grouping of an aggregate.
#[derive(Default)]
struct GroupKeys {
    labels: Vec<String>,
    cells: Vec<Cell>,
    /// `GROUP BY value`
    by_value: Option<Term>,
}

/// `GROUP BY`.
pub(super) fn grouped(node: &Aggregate) -> Result<Rows, Refusal> {
    let rows = complete(relation(&node.input)?)?;
    let schema = node.input.schema();
    let keys = keys(&rows, &node.group_expr, schema)?;
    if let Some(value) = &keys.by_value {
        return counted_values(&rows, &keys, value, &node.aggr_expr);
    }
    let mut cells = keys.cells.clone();
    let mut mention = None;
    let mut filtered = Vec::new();
    let is_global = node.group_expr.is_empty();
    let mixes_times = rows.mixes_times || !keys.cells.contains(&Cell::Time);
    for expr in &node.aggr_expr {
        let plan = measured(&rows, expr, &keys.labels, schema)?;
        // With GROUP BY a group without rows that pass the filter has no number, but is a row all
        // the same.
        if !is_global && has_filter(expr) {
            filtered.push(FilteredNumber { term: Term::Done(plan.clone(), 0), is_count: is_count(expr) });
        }
        mention.get_or_insert_with(|| Term::Done(plan.clone(), 0));
        cells.push(Cell::Number(Term::Done(plan, 0)));
    }
    let mention = match mention {
        Some(mention) => mention,
        // No aggregate at all: `group` gives the groups, and its value is not shown.
        None => Term::Done(aggregate(AggregateOp::Group, &keys.labels, None, input_of(&rows)?), 0),
    };
    let counts = node.aggr_expr.first().is_some_and(is_count);
    // Over nothing a count is 0; all other aggregates are NULL.
    let nothing = if counts { ScalarValue::Int64(Some(0)) } else { ScalarValue::Null };
    Ok(Rows {
        sides: vec![Side { keys: Some(keys.labels), ..Side::default() }],
        cells,
        mention: Some(mention),
        over_nothing: is_global.then_some(nothing),
        correlated: rows.correlated,
        filtered,
        mixes_times,
        ..Rows::default()
    })
}

fn is_count(expr: &Expr) -> bool {
    matches!(expr, Expr::AggregateFunction(function) if function.func.name() == "count")
}

fn has_filter(expr: &Expr) -> bool {
    matches!(expr, Expr::AggregateFunction(function) if function.params.filter.is_some())
}

/// `SELECT DISTINCT` of labels.
pub(super) fn distinct(rows: Rows) -> Result<Rows, Refusal> {
    let mut labels = Vec::new();
    for cell in &rows.cells {
        match cell {
            Cell::Label(name) => labels.push(name.clone()),
            Cell::Time => {}
            _ => return refused("DISTINCT of something else than labels"),
        }
    }
    let plan = aggregate(AggregateOp::Group, &labels, None, input_of(&rows)?);
    let side = Side { keys: Some(labels), ..Side::default() };
    let mixes_times = rows.mixes_times || !rows.cells.contains(&Cell::Time);
    Ok(Rows {
        sides: vec![side],
        cells: rows.cells,
        mention: Some(Term::Done(plan, 0)),
        mixes_times,
        ..Rows::default()
    })
}

/// The plan of the rows, whatever number they have.
fn input_of(rows: &Rows) -> Result<Plan, Refusal> {
    rows.plan_of(&rows.mentioned())
}

fn keys(rows: &Rows, exprs: &[Expr], schema: &DFSchema) -> Result<GroupKeys, Refusal> {
    let mut keys = GroupKeys::default();
    for expr in exprs {
        let key = if is_time(rows, expr, schema) { Cell::Time } else { cell(rows, expr, schema)? };
        match &key {
            Cell::Label(name) => keys.labels.push(name.clone()),
            Cell::Time => {}
            Cell::Number(value) if keys.by_value.is_none() => keys.by_value = Some(value.clone()),
            _ => return refused(format!("GROUP BY {expr}: a plan groups by labels")),
        }
        keys.cells.push(key);
    }
    Ok(keys)
}

/// `SELECT value, count(*) … GROUP BY value`: the value becomes a label.
fn counted_values(rows: &Rows, keys: &GroupKeys, value: &Term, measures: &[Expr]) -> Result<Rows, Refusal> {
    // count_values has the count as its value, and room for no other number.
    let [only] = measures else { return refused("GROUP BY value with other aggregates than count(*)") };
    if !is_count(only) {
        return refused("GROUP BY value with other aggregates than count(*)");
    }
    let param =
        Arc::new(PlanNode { op: PlanOp::Text("value".to_owned()), span: engine::plan::Span::default() });
    let plan = aggregate(AggregateOp::CountValues, &keys.labels, Some(param), rows.plan_of(value)?);
    let mut cells: Vec<Cell> = keys
        .cells
        .iter()
        .map(
            |cell| {
                if matches!(cell, Cell::Number(_)) { Cell::Label("value".to_owned()) } else { cell.clone() }
            },
        )
        .collect();
    cells.push(Cell::Number(Term::Done(plan, 0)));
    let labels = keys.labels.iter().cloned().chain(["value".to_owned()]).collect();
    let mixes_times = rows.mixes_times || !keys.cells.contains(&Cell::Time);
    let sides = vec![Side { keys: Some(labels), ..Side::default() }];
    Ok(Rows { sides, cells, mixes_times, ..Rows::default() })
}

/// One aggregate of a query.
fn measured(rows: &Rows, expr: &Expr, labels: &[String], schema: &DFSchema) -> Result<Plan, Refusal> {
    let Expr::AggregateFunction(function) = expr else {
        return refused(format!("{expr} is no aggregate"));
    };
    let params = &function.params;
    let name = function.func.name();
    // An aggregation of PromQL sees each series once and knows nothing of equal values.
    if params.distinct {
        return refused(format!("{name}(DISTINCT …) has no counterpart in PromQL"));
    }
    if name != "percentile_cont" && !params.order_by.is_empty() {
        return refused(format!("ORDER BY inside of {name}"));
    }
    let filtered = with_filter(rows, params, schema)?;
    let rows = &filtered;
    let of = |arg: Option<&Expr>| {
        let Some(arg) = arg else { return refused(format!("{name} of nothing")) };
        let term = term(rows, arg, schema)?;
        // The plan of a constant has one row without labels, however many rows the input has.
        let is_of_rows = (0..rows.sides.len()).any(|side| reads(&term, side));
        if is_of_rows {
            Ok(term)
        } else {
            refused(format!("{name} of a number that is the same in each row"))
        }
    };
    let simple = match name {
        "sum" => Some(AggregateOp::Sum),
        "avg" | "mean" => Some(AggregateOp::Avg),
        "min" => Some(AggregateOp::Min),
        "max" => Some(AggregateOp::Max),
        "stddev_pop" => Some(AggregateOp::Stddev),
        "var_pop" => Some(AggregateOp::Stdvar),
        _ => None,
    };
    if let Some(op) = simple {
        let term = of(params.args.first())?;
        return Ok(aggregate(op, labels, None, rows.plan_of(&term)?));
    }
    match name {
        "count" => {
            let counted = match params.args.first() {
                // `count(*)` and `count(1)` count rows, whatever number they have; `count(value)`
                // those that have it.
                Some(arg) if values::literal(arg).is_none() => of(Some(arg))?,
                _ => rows.mentioned(),
            };
            Ok(aggregate(AggregateOp::Count, labels, None, rows.plan_of(&counted)?))
        }
        "percentile_cont" => {
            let [value, phi] = params.args.as_slice() else {
                return refused("percentile_cont WITHIN GROUP (ORDER BY value)");
            };
            // WITHIN GROUP puts the column before the fraction, the plain call after it.
            let (value, phi) = if values::number(value).is_some() { (phi, value) } else { (value, phi) };
            if params.order_by.first().is_some_and(|order| !order.asc) {
                return refused("percentile_cont in descending order");
            }
            let input = rows.plan_of(&of(Some(value))?)?;
            Ok(aggregate(AggregateOp::Quantile, labels, Some(constant(phi)?), input))
        }
        "histogram_quantile" => histogram_quantile(rows, &params.args, labels, schema),
        other => refused(format!("{other} has no counterpart in PromQL")),
    }
}

/// The rows with the conditions of `FILTER (WHERE …)`.
fn with_filter(rows: &Rows, params: &AggregateFunctionParams, schema: &DFSchema) -> Result<Rows, Refusal> {
    let mut rows = rows.clone();
    for part in params.filter.iter().flat_map(|filter| split(filter)) {
        condition::add(&mut rows, part, schema)?;
    }
    Ok(rows)
}

/// `histogram_quantile(φ, le, value)` of classic buckets, `histogram_quantile(φ, histogram)` of
/// native ones.
fn histogram_quantile(
    rows: &Rows,
    args: &[Expr],
    labels: &[String],
    schema: &DFSchema,
) -> Result<Plan, Refusal> {
    let (phi, value, is_classic) = match args {
        [phi, le, value] => {
            if cell(rows, le, schema)? != Cell::Label(LE.to_owned()) {
                return refused("the second argument of histogram_quantile is the label le");
            }
            (phi, value, true)
        }
        [phi, value] => (phi, value, false),
        _ => return refused("histogram_quantile(φ, le, value), or of native histograms (φ, histogram)"),
    };
    let input = rows.plan_of(&term(rows, value, schema)?)?;
    let mut labels = labels.to_vec();
    if is_classic {
        // Buckets of other groups must stay apart until the quantile is computed from them.
        labels.push(LE.to_owned());
    }
    call("histogram_quantile", vec![constant(phi)?, aggregate(AggregateOp::Sum, &labels, None, input)])
}

/// `row_number() OVER (PARTITION BY labels ORDER BY number)`.
pub(super) fn ranked(window: &Window) -> Result<Rows, Refusal> {
    let mut rows = complete(relation(&window.input)?)?;
    let schema = window.input.schema();
    for expr in &window.window_expr {
        let Expr::WindowFunction(function) = expr else { return refused("a window function") };
        let is_rank =
            matches!(&function.fun, WindowFunctionDefinition::WindowUDF(f) if f.name() == "row_number");
        let [order] = function.params.order_by.as_slice() else {
            return refused("a window function other than row_number() OVER (… ORDER BY number)");
        };
        if !is_rank {
            return refused(format!("{} over rows has no counterpart in PromQL", function.fun.name()));
        }
        let mut by = Vec::new();
        for label in &function.params.partition_by {
            match cell(&rows, label, schema)? {
                Cell::Label(name) => by.push(name),
                _ => return refused("PARTITION BY of something else than labels"),
            }
        }
        let of = term(&rows, &order.expr, schema)?;
        rows.cells.push(Cell::Rank { by, descending: !order.asc, of });
    }
    Ok(rows)
}
