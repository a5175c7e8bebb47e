//! Rewrites of DataFusion's logical plan before it runs.
//!
//! [`absorb`] replaces the parts that the engine can compute ([`super::bind`]) by scans of the
//! engine's results. [`extract_leaves`] replaces functions of a metric's column, such as
//! `rate(value, '5m')`, by further columns of the scan. [`without_null_labels`] makes labels
//! what they are in a plan, and [`break_ties`] makes `ORDER BY … LIMIT` deterministic.

use super::bind::{self, Refusal, Times};
use super::error::SqlError;
use super::functions::{is_of_column, needs_metric};
use super::relations::{Context, Kind, Relation};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, SortExpr, SubqueryAlias, TableScan, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use engine::plan::as_promql::as_promql;
use std::sync::Arc;

/// What `EXPLAIN` says about the parts of a statement.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The parts that are plans, as PromQL.
    pub(crate) plans: Vec<String>,
    /// Why larger parts are none; empty: the whole statement is one plan.
    pub(crate) refusals: Vec<String>,
}

/// Replaces the parts of `plan` that are plans by their answers.
pub(crate) fn absorb(plan: LogicalPlan, context: &Arc<Context>, report: &mut Report) -> Result<LogicalPlan> {
    // Only nodes that define their columns. A filter, a join or an alias belongs to the node above:
    // alone it would have all columns of its relations.
    let decides_columns = matches!(
        plan,
        LogicalPlan::Projection(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Distinct(_)
    );
    // From the top, so that the largest part possible is one plan. A part that depends on the query
    // around it has no answer of its own.
    if decides_columns && !has_outer_references(&plan) {
        match bind::bind(&plan, context.times.get().copied().unwrap_or(Times::Now)) {
            Ok(bound) => {
                report.plans.push(as_promql(&bound.plan));
                return answered(&plan, Relation::of_bound(bound, context.clone()), report.plans.len());
            }
            Err(Refusal(why)) => {
                // The same reason is often met again by each smaller part.
                if !report.refusals.contains(&why) {
                    report.refusals.push(why);
                }
            }
        }
    }
    let mapped = plan.map_children(|input| absorb(input, context, report).map(Transformed::yes))?;
    // An answer has other qualifiers than the part it replaces.
    mapped.data.recompute_schema()
}

/// The operator that reads the answer of a statement that is one plan as a whole; `None`:
/// DataFusion has something to do. There is nothing to optimise, so its optimizer, which takes
/// longer than many evaluations, is left out.
pub(crate) fn only_answer(plan: &LogicalPlan) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(None) };
    let LogicalPlan::TableScan(scan) = projection.input.as_ref() else { return Ok(None) };
    let relation = Relation::of_source(scan.source.as_ref());
    let Some(relation) = relation.filter(|relation| matches!(relation.kind, Kind::Bound(_))) else {
        return Ok(None);
    };
    let place = |expr: &Expr| match expr {
        Expr::Alias(alias) => alias.expr.try_as_col().and_then(|column| relation.place_of(&column.name)),
        _ => None,
    };
    let Some(places) = projection.expr.iter().map(place).collect::<Option<Vec<usize>>>() else {
        return Ok(None);
    };
    relation.reading(places, &[], None).map(Some)
}

/// Whether the part names columns of the query around it.
fn has_outer_references(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let _ = plan.apply(|node| {
        found |= node.expressions().iter().any(Expr::contains_outer);
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// A scan of the answer, with the columns of `plan`.
fn answered(plan: &LogicalPlan, relation: Relation, number: usize) -> Result<LogicalPlan> {
    let name = format!("plan{number}");
    let scan = LogicalPlanBuilder::scan(name.as_str(), provider_as_source(Arc::new(relation)), None)?;
    let columns = plan.schema().iter().enumerate().map(|(i, (qualifier, field))| {
        // The columns of the answer are numbered and renamed here: two columns of a statement may
        // have the same name under different qualifiers, which one relation cannot have.
        let column = Expr::Column(Column::new(Some(name.as_str()), format!("c{i}")));
        column.alias_qualified(qualifier.cloned(), field.name())
    });
    scan.project(columns.collect::<Vec<_>>())?.build()
}

/// Rows that `ORDER BY … LIMIT` finds equal are ordered by all columns: then the first ones are the
/// same wherever and whenever the statement runs. Raw samples are left in the order in which they
/// come, which is fixed and would cost too much to change.
pub(crate) fn break_ties(plan: LogicalPlan) -> Result<LogicalPlan> {
    if reads_samples(&plan) {
        return Ok(plan);
    }
    let limited = plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::Limit(_) => {
            let node = node.map_children(|input| Ok(Transformed::yes(sorted_by_all(input)?)))?;
            Ok(Transformed::yes(node.data))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(limited.data)
}

/// Whether raw samples are read.
fn reads_samples(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let relation = Relation::of_source(scan.source.as_ref());
            found |= relation.is_some_and(|relation| matches!(relation.kind, Kind::Samples(_)));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// Adds all columns to the sort order.
fn sorted_by_all(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(mut sort) => {
            for (qualifier, field) in sort.input.schema().iter() {
                let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
                let is_known = sort.expr.iter().any(|by| by.expr == column);
                if !is_known && !field.data_type().is_nested() {
                    sort.expr.push(SortExpr::new(column, true, false));
                }
            }
            Ok(LogicalPlan::Sort(sort))
        }
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            Ok(plan.map_children(|input| Ok(Transformed::yes(sorted_by_all(input)?)))?.data)
        }
        other => Ok(other),
    }
}

/// Makes `label IS NULL` what it is in a plan: `label = ''`, in conditions and filters of
/// aggregates that read one metric. Above a join a label may be NULL.
pub(crate) fn without_null_labels(plan: LogicalPlan) -> Result<LogicalPlan> {
    let changed = plan.transform_down_with_subqueries(|node| {
        let labels = match &node {
            LogicalPlan::Filter(filter) => labels_of(&filter.input),
            LogicalPlan::Aggregate(aggregate) => labels_of(&aggregate.input),
            _ => None,
        };
        match (node, labels) {
            (LogicalPlan::Filter(mut filter), Some(labels)) => {
                filter.predicate = with_empty_labels(filter.predicate, &labels)?;
                Ok(Transformed::yes(LogicalPlan::Filter(filter)))
            }
            (LogicalPlan::Aggregate(mut aggregate), Some(labels)) => {
                // The nodes above know a measure by its text.
                let measure = |expr: Expr| -> Result<Expr> {
                    let (table, name) = expr.qualified_name();
                    let changed = with_empty_labels(expr.clone(), &labels)?;
                    Ok(if changed == expr { expr } else { changed.unalias().alias_qualified(table, name) })
                };
                aggregate.aggr_expr = aggregate.aggr_expr.into_iter().map(measure).collect::<Result<_>>()?;
                Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
            }
            (node, _) => Ok(Transformed::no(node)),
        }
    })?;
    Ok(changed.data)
}

/// The names of the labels, if only one metric is read.
fn labels_of(plan: &LogicalPlan) -> Option<Vec<String>> {
    match plan {
        LogicalPlan::Filter(filter) => labels_of(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => labels_of(&alias.input),
        LogicalPlan::TableScan(scan) => Some(Relation::of_source(scan.source.as_ref())?.labels()),
        _ => None,
    }
}

fn with_empty_labels(expr: Expr, labels: &[String]) -> Result<Expr> {
    let is_label = |e: &Expr| matches!(e, Expr::Column(column) if labels.contains(&column.name));
    let changed = expr.transform(|e| {
        Ok(match e {
            Expr::IsNull(label) if is_label(&label) => Transformed::yes((*label).eq(lit(""))),
            Expr::IsNotNull(label) if is_label(&label) => Transformed::yes((*label).not_eq(lit(""))),
            other => Transformed::no(other),
        })
    })?;
    Ok(changed.data)
}

/// Replaces functions of the column by columns of the relation whose samples they read.
pub(crate) fn extract_leaves(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.map_children(|input| extract_leaves(input).map(Transformed::yes))?.data;
    let plan = plan.map_subqueries(|inner| extract_leaves(inner).map(Transformed::yes))?.data;
    if !plan.expressions().iter().any(calls_column) {
        return plan.recompute_schema();
    }
    // The columns of a window come behind those of its input.
    let before = match &plan {
        LogicalPlan::Window(window) => window.input.schema().fields().len(),
        _ => 0,
    };
    let columns = plan.schema().iter().skip(before);
    let names: Vec<(Option<TableReference>, String)> =
        columns.map(|(q, f)| (q.cloned(), f.name().clone())).collect();
    // The nodes above refer to these expressions by the text they had; replacing a part of one must
    // not rename its column.
    let keeps_names =
        matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_));
    let mut inputs: Vec<LogicalPlan> = plan.inputs().into_iter().cloned().collect();
    let mut exprs = Vec::new();
    for (i, expr) in plan.expressions().into_iter().enumerate() {
        let replaced = replace(expr, &mut inputs)?;
        exprs.push(match names.get(i) {
            Some((qualifier, name)) if keeps_names && replaced.transformed => {
                replaced.data.unalias().alias_qualified(qualifier.clone(), name)
            }
            _ => replaced.data,
        });
    }
    plan.with_new_exprs(exprs, inputs)
}

/// Whether the expression has a function of the column.
fn calls_column(expr: &Expr) -> bool {
    let is = |e: &Expr| matches!(e, Expr::ScalarFunction(function) if is_of_column(&function.func));
    expr.exists(|e| Ok(is(e))).unwrap_or(false)
}

/// Replaces the outermost functions of the column in `expr`.
fn replace(expr: Expr, inputs: &mut [LogicalPlan]) -> Result<Transformed<Expr>> {
    expr.transform_down(|part| {
        let Expr::ScalarFunction(function) = &part else { return Ok(Transformed::no(part)) };
        if !is_of_column(&function.func) {
            return Ok(Transformed::no(part));
        }
        let columns: Vec<Column> = part.column_refs().into_iter().cloned().collect();
        let relation = columns.first().and_then(|column| column.relation.clone());
        // One scan computes the number, so all columns in it must be of that scan.
        let Some(relation) = relation.filter(|r| columns.iter().all(|c| c.relation.as_ref() == Some(r)))
        else {
            return Err(needs_metric(function.name()).into());
        };
        let name = part.clone().transform(|e| {
            let plain = |column: &Column| Expr::Column(Column::new_unqualified(&column.name));
            Ok(if let Expr::Column(column) = &e {
                Transformed::yes(plain(column))
            } else {
                Transformed::no(e)
            })
        })?;
        // The text is the name, so the same call at two places is computed once.
        let name = name.data.to_string();
        let mut is_found = false;
        for input in inputs.iter_mut() {
            let pushed = push(input.clone(), &relation, &name, &part)?;
            is_found |= pushed.transformed;
            *input = pushed.data;
        }
        if !is_found {
            return Err(needs_metric(function.name()).into());
        }
        // `Jump`: what is inside the call is computed by the scan, and must not be replaced again.
        Ok(Transformed::new(Expr::Column(Column::new(Some(relation), name)), true, TreeNodeRecursion::Jump))
    })
}

/// Adds the number `leaf` as column `name` to the scan of the relation that is called `relation` in
/// `plan`. The result says whether there is one.
fn push(
    plan: LogicalPlan,
    relation: &TableReference,
    name: &str,
    leaf: &Expr,
) -> Result<Transformed<LogicalPlan>> {
    if !plan.schema().iter().any(|(qualifier, _)| qualifier == Some(relation)) {
        return Ok(Transformed::no(plan));
    }
    match plan {
        LogicalPlan::TableScan(scan) => add_leaf(scan, name, leaf),
        LogicalPlan::SubqueryAlias(alias) => {
            let inner = alias.input.schema().iter().find_map(|(qualifier, _)| qualifier.cloned());
            let Some(inner) = inner else { return Ok(Transformed::no(LogicalPlan::SubqueryAlias(alias))) };
            // A named query is no relation of a metric.
            if !matches!(alias.input.as_ref(), LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_)) {
                return Ok(Transformed::no(LogicalPlan::SubqueryAlias(alias)));
            }
            let leaf = requalified(leaf, &inner)?;
            let pushed = push(alias.input.as_ref().clone(), &inner, name, &leaf)?;
            let aliased = SubqueryAlias::try_new(Arc::new(pushed.data), alias.alias.clone())?;
            Ok(Transformed::new(
                LogicalPlan::SubqueryAlias(aliased),
                pushed.transformed,
                TreeNodeRecursion::Continue,
            ))
        }
        // These let a further column of their input through. An aggregate or a projection would
        // not: above them the samples cannot be read any more.
        LogicalPlan::Filter(_) | LogicalPlan::Join(_) | LogicalPlan::Sort(_) | LogicalPlan::Window(_) => {
            let mut is_found = false;
            let mut inputs = Vec::new();
            for input in plan.inputs() {
                let pushed = push(input.clone(), relation, name, leaf)?;
                is_found |= pushed.transformed;
                inputs.push(pushed.data);
            }
            let plan = plan.with_new_exprs(plan.expressions(), inputs)?;
            Ok(Transformed::new(plan, is_found, TreeNodeRecursion::Continue))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The expression with its columns under the name `relation`.
fn requalified(leaf: &Expr, relation: &TableReference) -> Result<Expr> {
    let inner = leaf.clone().transform(|e| {
        let inside = |column: &Column| Expr::Column(Column::new(Some(relation.clone()), &column.name));
        Ok(if let Expr::Column(column) = &e { Transformed::yes(inside(column)) } else { Transformed::no(e) })
    })?;
    Ok(inner.data)
}

/// The scan with the number `leaf` as a further column.
fn add_leaf(scan: TableScan, name: &str, leaf: &Expr) -> Result<Transformed<LogicalPlan>> {
    let Some(relation) = Relation::of_source(scan.source.as_ref()).filter(|relation| relation.is_of_metric())
    else {
        let error = SqlError::bad(format!("{leaf}: {} is no metric at evaluation times", scan.table_name));
        return Err(error
            .hint("functions of the column read a metric: FROM <metric>, not samples.<metric>")
            .into());
    };
    let plan = bind::leaf(relation, leaf, scan.projected_schema.as_ref());
    let plan = plan.map_err(|Refusal(why)| SqlError::bad(why))?;
    let relation = relation.with_leaf(name.to_owned(), plan);
    let scan =
        LogicalPlanBuilder::scan(scan.table_name.clone(), provider_as_source(Arc::new(relation)), None)?;
    Ok(Transformed::yes(scan.build()?))
}
