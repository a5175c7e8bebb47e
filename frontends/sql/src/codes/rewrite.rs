//! [`with_codes`]: rewrites an optimised plan so that columns of texts whose equality counts
//! (groups, keys of joins, distinct values) are numbers, up to where the text is needed.
//!
//! Names of columns stay as they are; the type of a column is that of its number. [`Numbered`] is a
//! part of the plan with the columns that are numbers. An operator that is not known here gets
//! texts.

use super::TextCodes;
use super::functions::{number_of, text_of};
use crate::relations::{Kind, Relation};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, HashSet, Result, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, Filter, Join, LogicalPlan, Operator, Projection, SubqueryAlias, TableScan,
    TableScanBuilder,
};
use std::sync::Arc;

/// The plan over numbers; the plan itself if nothing is gained.
pub(crate) fn with_codes(plan: LogicalPlan, codes: &Arc<TextCodes>) -> Result<LogicalPlan> {
    if !is_known(&plan) {
        return Ok(plan);
    }
    let keys = keys_of(&plan);
    if keys.is_empty() {
        return Ok(plan);
    }
    let rewrite = Rewrite { codes, keys };
    let numbered = rewrite.plan(plan)?;
    rewrite.texts(numbered)
}

/// Whether all that is read has few rows, or rows of live views. Of a million series each text
/// would be kept once more.
fn is_known(plan: &LogicalPlan) -> bool {
    let mut is_known = true;
    let _ = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let relation = Relation::of_source(scan.source.as_ref());
            is_known &= relation.is_none_or(|relation| match &relation.kind {
                Kind::Metric(_) | Kind::Promql(_) | Kind::Bound(_) => true,
                Kind::Meta(table) => !table.lists_series,
                Kind::Samples(_) => false,
            });
        }
        // A subquery is a plan of its own, with columns of this one.
        let has_subquery = |e: &Expr| {
            e.exists(|e| {
                Ok(matches!(
                    e,
                    Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)
                ))
            })
        };
        is_known &= !node.expressions().iter().any(|e| has_subquery(e).unwrap_or(true));
        Ok(TreeNodeRecursion::Continue)
    });
    is_known
}

/// The column that an expression is, possibly under another name.
fn bare(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => bare(&alias.expr),
        _ => None,
    }
}

/// The names of the columns whose equality counts somewhere.
fn keys_of(plan: &LogicalPlan) -> HashSet<String> {
    let mut keys = HashSet::new();
    // From the top down: what a projection calls a key is the key of what is below.
    let _ = plan.apply(|node| {
        let mut add = |expr: &Expr| {
            if let Some(column) = bare(expr) {
                keys.insert(column.name.clone());
            }
        };
        match node {
            LogicalPlan::Aggregate(node) => {
                for expr in &node.group_expr {
                    add(expr);
                }
            }
            LogicalPlan::Join(node) => {
                for (left, right) in &node.on {
                    add(left);
                    add(right);
                }
            }
            LogicalPlan::Projection(node) => {
                let named = node.expr.iter().zip(node.schema.fields());
                let is_key: Vec<&Expr> =
                    named.filter(|(_, field)| keys.contains(field.name())).map(|(expr, _)| expr).collect();
                keys.extend(is_key.into_iter().filter_map(|expr| Some(bare(expr)?.name.clone())));
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    keys
}

/// A part of the plan.
struct Numbered {
    plan: LogicalPlan,
    /// The columns that are numbers.
    numbers: HashSet<Column>,
}

struct Rewrite<'a> {
    codes: &'a Arc<TextCodes>,
    keys: HashSet<String>,
}

impl Rewrite<'_> {
    fn plan(&self, plan: LogicalPlan) -> Result<Numbered> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(node) => self.alias(node),
            LogicalPlan::Filter(node) => self.filter(node),
            LogicalPlan::Projection(node) => self.projection(node),
            LogicalPlan::Aggregate(node) => self.aggregate(node),
            LogicalPlan::Join(node) => self.join(node),
            other => self.other(&other),
        }
    }

    fn inner(&self, plan: Arc<LogicalPlan>) -> Result<Numbered> {
        self.plan(Arc::unwrap_or_clone(plan))
    }

    /// An operator that gets texts.
    fn other(&self, plan: &LogicalPlan) -> Result<Numbered> {
        let inputs = plan
            .inputs()
            .into_iter()
            .map(|input| self.plan(input.clone()).and_then(|input| self.texts(input)));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let plan = plan.with_new_exprs(plan.expressions(), inputs)?;
        Ok(Numbered { plan, numbers: HashSet::new() })
    }

    fn scan(&self, scan: TableScan) -> Result<Numbered> {
        let unchanged = |scan| Ok(Numbered { plan: LogicalPlan::TableScan(scan), numbers: HashSet::new() });
        let Some(relation) = Relation::of_source(scan.source.as_ref()) else { return unchanged(scan) };
        let Some(coded) = relation.with_codes(&self.keys, self.codes) else { return unchanged(scan) };
        let plan = TableScanBuilder::new(scan.table_name, provider_as_source(Arc::new(coded)))
            .with_projection(scan.projection)
            .with_filters(scan.filters)
            .with_fetch(scan.fetch)
            .with_statistics_requests(scan.statistics_requests)
            .build()?;
        let fields = plan.projected_schema.iter();
        let coded = fields.filter(|(_, field)| *field.data_type() == super::CODE);
        let numbers = coded.map(|(table, field)| Column::new(table.cloned(), field.name())).collect();
        Ok(Numbered { plan: LogicalPlan::TableScan(plan), numbers })
    }

    fn alias(&self, node: SubqueryAlias) -> Result<Numbered> {
        let input = self.inner(node.input)?;
        // Columns keep their places.
        let places = self.places(input.plan.schema(), &input.numbers);
        let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input.plan), node.alias)?);
        let numbers = places.into_iter().map(|at| Column::from(plan.schema().qualified_field(at))).collect();
        Ok(Numbered { plan, numbers })
    }

    fn places(&self, schema: &DFSchema, numbers: &HashSet<Column>) -> Vec<usize> {
        let columns = schema.iter().map(|(table, field)| Column::new(table.cloned(), field.name()));
        columns.enumerate().filter(|(_, column)| numbers.contains(column)).map(|(at, _)| at).collect()
    }

    fn filter(&self, node: Filter) -> Result<Numbered> {
        let input = self.inner(node.input)?;
        let predicate = self.over_texts(node.predicate, &input.numbers)?;
        let plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input.plan))?);
        Ok(Numbered { plan, numbers: input.numbers })
    }

    fn projection(&self, node: Projection) -> Result<Numbered> {
        let input = self.inner(node.input)?;
        let mut numbers = HashSet::new();
        let mut expressions = Vec::new();
        for expr in node.expr {
            let (table, name) = expr.qualified_name();
            if bare(&expr).is_some_and(|column| input.numbers.contains(column)) {
                numbers.insert(Column::new(table, name));
                expressions.push(expr);
                continue;
            }
            let over_texts = self.over_texts(expr.clone(), &input.numbers)?;
            expressions.push(if over_texts == expr {
                expr
            } else {
                over_texts.unalias().alias_qualified(table, name)
            });
        }
        let plan = LogicalPlan::Projection(Projection::try_new(expressions, Arc::new(input.plan))?);
        Ok(Numbered { plan, numbers })
    }

    fn aggregate(&self, node: Aggregate) -> Result<Numbered> {
        let mut input = self.inner(node.input)?;
        let mut needed = HashSet::new();
        let grouped = node.group_expr.iter().filter(|expr| bare(expr).is_none());
        let measured = node.aggr_expr.iter().filter(|expr| !counts_columns(expr));
        for expr in grouped.chain(measured) {
            needed.extend(expr.column_refs().into_iter().cloned());
        }
        input = self.texts_of(input, &needed)?;
        let is_number = |expr: &Expr| bare(expr).is_some_and(|column| input.numbers.contains(column));
        let places: Vec<usize> = node
            .group_expr
            .iter()
            .enumerate()
            .filter(|(_, expr)| is_number(expr))
            .map(|(at, _)| at)
            .collect();
        let plan = Aggregate::try_new(Arc::new(input.plan), node.group_expr, node.aggr_expr)?;
        // Groups are the first columns, in their order.
        let numbers = places.into_iter().map(|at| Column::from(plan.schema.qualified_field(at))).collect();
        Ok(Numbered { plan: LogicalPlan::Aggregate(plan), numbers })
    }

    fn join(&self, node: Join) -> Result<Numbered> {
        let mut left = self.inner(node.left)?;
        let mut right = self.inner(node.right)?;
        for (a, b) in &node.on {
            let (Some(a), Some(b)) = (bare(a), bare(b)) else { continue };
            match (left.numbers.contains(a), right.numbers.contains(b)) {
                (true, false) if is_text(&right.plan, b) => right = self.numbers_of(right, b)?,
                (false, true) if is_text(&left.plan, a) => left = self.numbers_of(left, a)?,
                _ => {}
            }
        }
        // Both sides of a pair are numbers, or neither.
        let fits = |(a, b): &(Expr, Expr)| match (bare(a), bare(b)) {
            (Some(a), Some(b)) => left.numbers.contains(a) == right.numbers.contains(b),
            _ => !reads(a, &left.numbers) && !reads(b, &right.numbers),
        };
        if !node.on.iter().all(fits) {
            left = Numbered { plan: self.texts(left)?, numbers: HashSet::new() };
            right = Numbered { plan: self.texts(right)?, numbers: HashSet::new() };
        }
        let mut numbers: HashSet<Column> = left.numbers;
        numbers.extend(right.numbers);
        let filter = node.filter.map(|filter| self.over_texts(filter, &numbers)).transpose()?;
        let plan = Join::try_new(
            Arc::new(left.plan),
            Arc::new(right.plan),
            node.on,
            filter,
            node.join_type,
            node.join_constraint,
            node.null_equality,
            node.null_aware,
        )?;
        // A semi join has the columns of one side.
        numbers.retain(|column| plan.schema.has_column(column));
        Ok(Numbered { plan: LogicalPlan::Join(plan), numbers })
    }

    /// The expression with the text of each column that is a number.
    fn over_texts(&self, expr: Expr, numbers: &HashSet<Column>) -> Result<Expr> {
        let text = |e: Expr| {
            let over = match &e {
                Expr::Column(column) if numbers.contains(column) => text_of(self.codes, e),
                Expr::BinaryExpr(binary) => match self.compared_number(binary, numbers) {
                    Some(compared) => compared,
                    None => return Ok(Transformed::no(e)),
                },
                _ => return Ok(Transformed::no(e)),
            };
            // What is below is done.
            Ok(Transformed::new(over, true, TreeNodeRecursion::Jump))
        };
        Ok(expr.transform_down(text)?.data)
    }

    /// `column = 'text'` or `<>` over numbers.
    fn compared_number(&self, binary: &BinaryExpr, numbers: &HashSet<Column>) -> Option<Expr> {
        if !matches!(binary.op, Operator::Eq | Operator::NotEq) {
            return None;
        }
        let side = |expr: &Expr| match expr {
            Expr::Column(column) if numbers.contains(column) => Some(expr.clone()),
            Expr::Literal(ScalarValue::Utf8(_), _) => Some(number_of(self.codes, expr.clone())),
            _ => None,
        };
        let left = side(&binary.left)?;
        let right = side(&binary.right)?;
        Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), binary.op, Box::new(right))))
    }

    /// The plan with texts only.
    fn texts(&self, part: Numbered) -> Result<LogicalPlan> {
        let all = part.numbers.clone();
        Ok(self.texts_of(part, &all)?.plan)
    }

    /// With texts in the columns `needed`.
    fn texts_of(&self, part: Numbered, needed: &HashSet<Column>) -> Result<Numbered> {
        let changed: HashSet<Column> = part.numbers.intersection(needed).cloned().collect();
        let numbers = part.numbers.difference(needed).cloned().collect();
        Ok(Numbered { plan: self.converted(part.plan, &changed, text_of)?, numbers })
    }

    /// With numbers in a column of texts.
    fn numbers_of(&self, part: Numbered, column: &Column) -> Result<Numbered> {
        let changed = HashSet::from_iter([column.clone()]);
        let mut numbers = part.numbers;
        numbers.insert(column.clone());
        Ok(Numbered { plan: self.converted(part.plan, &changed, number_of)?, numbers })
    }

    /// The plan with some columns converted. Their names stay.
    fn converted(
        &self,
        plan: LogicalPlan,
        changed: &HashSet<Column>,
        convert: fn(&Arc<TextCodes>, Expr) -> Expr,
    ) -> Result<LogicalPlan> {
        if changed.is_empty() {
            return Ok(plan);
        }
        let columns = plan.schema().iter().map(|(table, field)| {
            let column = Column::new(table.cloned(), field.name());
            if !changed.contains(&column) {
                return Expr::Column(column);
            }
            convert(self.codes, Expr::Column(column)).alias_qualified(table.cloned(), field.name())
        });
        let columns = columns.collect();
        Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
    }
}

fn is_text(plan: &LogicalPlan, column: &Column) -> bool {
    plan.schema().field_from_column(column).is_ok_and(|field| *field.data_type() == DataType::Utf8)
}

fn reads(expr: &Expr, columns: &HashSet<Column>) -> bool {
    expr.column_refs().into_iter().any(|column| columns.contains(column))
}

/// Whether a measure only counts the rows, or the values of columns: numbers do for that.
fn counts_columns(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => counts_columns(&alias.expr),
        Expr::AggregateFunction(AggregateFunction { func, params }) => {
            let is_column = |arg: &Expr| matches!(arg, Expr::Column(_) | Expr::Literal(..));
            func.name() == "count"
                && params.args.iter().all(is_column)
                && params.filter.is_none()
                && params.order_by.is_empty()
        }
        _ => false,
    }
}
