//! Lowers DataFusion's optimised plan to a [`FlowPlan`], the relational expression that a dataflow
//! computes, or returns [`NoDataflow`] with the reason.
//!
//! Refused is everything whose result would differ from DataFusion's in a bit, or whose state has
//! no bound: floats as group or join keys (NaN and -0), `now()`, window functions, `FULL JOIN`.
//! [`super::rel`] has the expression, [`super::render`] builds the operators from it.

use super::input::InputSpec;
use super::program::{Condition, Program};
use super::rel::{Aggregate, Join, JoinKind, Measure, Rel, RelOp, Side, Top};
use super::table_input::TableInput;
use crate::SqlEngine;
use crate::bind::Times;
use crate::error::SqlError;
use crate::relations::series_times::is_time;
use crate::relations::{Context, Kind, Relation, Scan};
use crate::session::SqlRequest;
use crate::standing::run_again::depends_on_time;
use crate::tables::TableList;
use crate::values;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::datasource::{DefaultTableSource, MemTable};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, SortExpr, TableScan, lit, when};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use engine::query::QueryOptions;
use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A statement as a dataflow.
#[derive(Clone, Debug)]
pub(crate) struct FlowPlan {
    pub(super) rel: Arc<Rel>,
    /// The names of the columns.
    pub(super) names: Vec<String>,
    /// The tables that it reads.
    pub(super) tables: BTreeSet<String>,
}

/// Why a statement is no dataflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoDataflow(pub(crate) String);

type LowerResult<T = Arc<Rel>> = Result<T, NoDataflow>;

fn no<T>(why: impl Into<String>) -> LowerResult<T> {
    Err(NoDataflow(why.into()))
}

impl From<datafusion::common::DataFusionError> for NoDataflow {
    fn from(error: datafusion::common::DataFusionError) -> NoDataflow {
        NoDataflow(SqlError::from_datafusion(error, "").text)
    }
}

/// Lowers a statement; the inner error says why it cannot be a dataflow.
pub(crate) fn flow_plan(engine: &SqlEngine, text: &str) -> Result<Result<FlowPlan, NoDataflow>, SqlError> {
    let request = SqlRequest { text: text.to_owned(), standing: true, ..SqlRequest::default() };
    let context = engine.context(&request, &QueryOptions::default());
    let prepared = engine.prepare(&request, &context)?;
    Ok(of_plan(engine, &context, &prepared.plan, prepared.names))
}

/// As [`flow_plan`], for a statement that is already prepared.
pub(crate) fn of_plan(
    engine: &SqlEngine,
    context: &Arc<Context>,
    plan: &LogicalPlan,
    names: Vec<String>,
) -> LowerResult<FlowPlan> {
    if context.times.get() != Some(&Times::Now) {
        return no("it names times of its own");
    }
    if let Some(view) = context.reads.lock().views.keys().next() {
        return no(format!("the view {view} may be replaced"));
    }
    check_relations(plan)?;
    if depends_on_time(plan) {
        return no("it depends on now()");
    }
    let state = engine.state(0)?;
    let optimised = state.optimize(plan)?;
    let lowering = Lowering { props: ExecutionProps::new(), tables: context.sources.tables.clone() };
    Ok(FlowPlan { rel: lowering.rel(&optimised)?, names, tables: tables_of(plan) })
}

/// Refuses relations that change much, such as metrics.
fn check_relations(plan: &LogicalPlan) -> LowerResult<()> {
    let mut found = 0;
    let mut other = None;
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            match Relation::of_source(scan.source.as_ref()).map(|relation| &relation.kind) {
                Some(Kind::Meta(table)) if table.is_quiet => found += 1,
                None if is_table(scan) => found += 1,
                _ => other = Some(scan.table_name.to_string()),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    match other {
        Some(name) => no(format!("{name} changes too often")),
        None if found == 0 => no("it reads no relation"),
        None => Ok(()),
    }
}

impl From<SqlError> for NoDataflow {
    fn from(error: SqlError) -> NoDataflow {
        NoDataflow(error.text)
    }
}

/// Whether a scan reads an uploaded table.
fn is_table(scan: &TableScan) -> bool {
    let source = scan.source.downcast_ref::<DefaultTableSource>();
    source.is_some_and(|source| (source.table_provider.as_ref() as &dyn Any).is::<MemTable>())
}

/// The uploaded tables that a statement reads.
fn tables_of(plan: &LogicalPlan) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && is_table(scan)
        {
            found.insert(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

struct Lowering {
    props: ExecutionProps,
    tables: Arc<dyn TableList>,
}

impl Lowering {
    fn rel(&self, plan: &LogicalPlan) -> LowerResult {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.rel(&alias.input),
            LogicalPlan::Projection(projection) => {
                let input = self.rel(&projection.input)?;
                self.mapped(input, &projection.expr, projection.input.schema())
            }
            LogicalPlan::Filter(filter) => {
                let input = self.rel(&filter.input)?;
                let condition = self.expr(&filter.predicate, filter.input.schema())?;
                Ok(filtered(input, vec![Condition::Expr(condition)]))
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Union(union) => {
                let parts: Vec<Arc<Rel>> =
                    union.inputs.iter().map(|part| self.rel(part)).collect::<LowerResult<_>>()?;
                let kinds = kinds_of(plan.schema());
                if parts.iter().any(|part| part.kinds != kinds) {
                    return no("the parts of a UNION have other types");
                }
                let texts: Vec<&str> = parts.iter().map(|part| part.text.as_str()).collect();
                let text = format!("({})", texts.join(") and ("));
                Ok(Arc::new(Rel { op: RelOp::Union(parts), kinds, text }))
            }
            // A sort without LIMIT has no effect, because rows of a dataflow have no order.
            LogicalPlan::Sort(sort) => match sort.fetch {
                None => self.rel(&sort.input),
                Some(fetch) => self.top(&sort.expr, &sort.input, 0, fetch),
            },
            LogicalPlan::Limit(limit) => {
                let fetch = limit.fetch.as_ref().and_then(|fetch| values::integer(fetch));
                let skip = limit.skip.as_ref().map_or(Some(0), |skip| values::integer(skip));
                match (fetch.map(usize::try_from), skip.map(usize::try_from)) {
                    (Some(Ok(fetch)), Some(Ok(skip))) => self.limited(&limit.input, skip, fetch),
                    _ => no("LIMIT is no number"),
                }
            }
            other => {
                let name = other.display().to_string();
                no(format!("{} has no dataflow", name.split([':', ' ']).next().unwrap_or_default()))
            }
        }
    }

    fn expr(&self, expr: &Expr, schema: &DFSchema) -> LowerResult<Arc<dyn PhysicalExpr>> {
        let is_query =
            |e: &Expr| matches!(e, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_));
        if expr.exists(|e| Ok(is_query(e)))? {
            return no("a subquery that is no join");
        }
        Ok(create_physical_expr(expr, schema, &self.props, &PhysicalPlanningContext::default())?)
    }

    fn scan(&self, scan: &TableScan) -> LowerResult {
        if scan.fetch.is_some() {
            return no("LIMIT without ORDER BY");
        }
        let all = || (0..scan.source.schema().fields().len()).collect();
        let shown: Vec<usize> = scan.projection.clone().unwrap_or_else(all);
        if is_table(scan) && scan.filters.is_empty() {
            let name = scan.table_name.table();
            let table = TableInput::new(self.tables.clone(), name, scan.source.schema(), shown);
            return Ok(input(InputSpec::of_table(table)));
        }
        let Some(relation) = Relation::of_source(scan.source.as_ref()) else {
            return no(format!("{} is no relation of the server", scan.table_name));
        };
        // Conditions may read columns that are not in the output.
        let mut read = shown.clone();
        let mut pushed = Vec::new();
        for filter in &scan.filters {
            let Some(matchers) = relation.pushed(filter) else {
                return no(format!("the condition {filter} is not one of the relation"));
            };
            let Some(column) = filter.column_refs().into_iter().next().cloned() else {
                return no(format!("the condition {filter} has no column"));
            };
            let Ok(index) = scan.source.schema().index_of(&column.name) else {
                return no(format!("there is no column {column}"));
            };
            if !read.contains(&index) {
                read.push(index);
            }
            let at = read.iter().position(|i| *i == index).unwrap_or_default();
            pushed.push(Condition::Matchers(at, matchers));
        }
        let is_moving = |at: &usize| is_time(scan.source.schema().field(*at).name());
        if read.iter().any(is_moving) {
            return no("first_ts and last_ts change with each sample");
        }
        let mut rel = input(InputSpec::new(Scan::new(relation, read)?));
        if !pushed.is_empty() {
            rel = filtered(rel, pushed);
        }
        Ok(picked(rel, &(0..shown.len()).collect::<Vec<_>>()))
    }

    fn mapped(&self, input: Arc<Rel>, exprs: &[Expr], schema: &DFSchema) -> LowerResult {
        let columns = exprs.iter().map(|e| self.expr(e, schema)).collect::<LowerResult<Vec<_>>>()?;
        computed(input, columns)
    }

    fn join(&self, join: &datafusion::logical_expr::Join) -> LowerResult {
        let left = self.rel(&join.left)?;
        let right = self.rel(&join.right)?;
        let (how, is_swapped) = match join.join_type {
            JoinType::Inner => (JoinKind::Inner, false),
            JoinType::Left => (JoinKind::Left, false),
            JoinType::Right => (JoinKind::Left, true),
            JoinType::LeftSemi => (JoinKind::Semi, false),
            JoinType::LeftAnti => (JoinKind::Anti, false),
            JoinType::RightSemi => (JoinKind::Semi, true),
            JoinType::RightAnti => (JoinKind::Anti, true),
            other => return no(format!("{other} join has no dataflow")),
        };
        if join.filter.is_some() && how != JoinKind::Inner {
            return no("a join that keeps rows, with a condition that is no equality");
        }
        if join.null_aware && join.join_type == JoinType::LeftAnti {
            return no("NOT IN over values that may be NULL: write NOT EXISTS");
        }
        let widths = (left.kinds.len(), right.kinds.len());
        let nulls_match = join.null_equality == NullEquality::NullEqualsNull;
        let keys = |at: fn(&(Expr, Expr)) -> &Expr| join.on.iter().map(at).cloned().collect::<Vec<Expr>>();
        let left = self.side(left, &keys(|on| &on.0), join.left.schema(), nulls_match)?;
        let right = self.side(right, &keys(|on| &on.1), join.right.schema(), nulls_match)?;
        let (mut first, second) = if is_swapped { (right, left) } else { (left, right) };
        if first.key_kinds() != second.key_kinds() {
            return no("the sides of a join have keys of other types");
        }
        if first.key_kinds().iter().any(DataType::is_floating) {
            return no("a join by floats");
        }
        first.keeps_nulls |= matches!(how, JoinKind::Left | JoinKind::Anti);
        let offset = first.rel.kinds.len();
        let pair = |at: usize| if is_swapped { (at + offset, at) } else { (at, at + offset) };
        let shown: Vec<usize> = match how {
            JoinKind::Semi | JoinKind::Anti => (0..if is_swapped { widths.1 } else { widths.0 }).collect(),
            // The columns of the plan, without those that were added for keys.
            JoinKind::Inner | JoinKind::Left => {
                let left = (0..widths.0).map(|at| pair(at).0);
                left.chain((0..widths.1).map(|at| pair(at).1)).collect()
            }
        };
        let joined = picked(joined(first, second, how), &shown);
        match &join.filter {
            Some(filter) => {
                let condition = self.expr(filter, &join.schema)?;
                Ok(filtered(joined, vec![Condition::Expr(condition)]))
            }
            None => Ok(joined),
        }
    }

    /// A side of a join, with its keys as columns.
    fn side(&self, rel: Arc<Rel>, keys: &[Expr], schema: &DFSchema, nulls_match: bool) -> LowerResult<Side> {
        let mut places = Vec::new();
        let mut added = Vec::new();
        for key in keys {
            if let Expr::Column(column) = key {
                places.push(schema.index_of_column(column)?);
            } else {
                places.push(rel.kinds.len() + added.len());
                added.push(self.expr(key, schema)?);
            }
        }
        let rel = if added.is_empty() {
            rel
        } else {
            let columns = (0..rel.kinds.len()).map(column).chain(added).collect();
            computed(rel, columns)?
        };
        Ok(Side { rel, keys: places, keeps_nulls: nulls_match })
    }

    fn aggregate(&self, node: &datafusion::logical_expr::Aggregate) -> LowerResult {
        let input = self.rel(&node.input)?;
        let schema = node.input.schema();
        let mut columns = Vec::new();
        for key in &node.group_expr {
            if matches!(key, Expr::GroupingSet(_)) {
                return no("ROLLUP, CUBE and GROUPING SETS");
            }
            columns.push(self.expr(key, schema)?);
        }
        let keys = columns.len();
        let mut measures = Vec::new();
        for expr in &node.aggr_expr {
            let (measure, argument) = measure(expr, schema)?;
            measures.push(measure);
            columns.push(self.expr(&argument, schema)?);
        }
        let input = computed(input, columns)?;
        if input.kinds.iter().take(keys).any(DataType::is_floating) {
            return no("groups by floats");
        }
        let kinds = kinds_of(&node.schema);
        let shown: Vec<String> = measures.iter().map(|m| format!("{m:?}")).collect();
        let text = format!("[{}] of {} by the first {keys}", shown.join(", "), input.text);
        Ok(Arc::new(Rel { op: RelOp::Aggregate(input, Aggregate { keys, measures }), kinds, text }))
    }

    fn limited(&self, input: &LogicalPlan, skip: usize, fetch: usize) -> LowerResult {
        if let LogicalPlan::Sort(sort) = input {
            return self.top(&sort.expr, &sort.input, skip, fetch);
        }
        // The optimizer has pushed the limit down, and leaves it here, too.
        let mut below = input;
        while let LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) = below {
            let Some(next) = below.inputs().first().copied() else { break };
            below = next;
        }
        match below {
            LogicalPlan::Sort(sort) if skip == 0 && sort.fetch.is_some_and(|n| n <= fetch) => self.rel(input),
            _ => no("LIMIT without ORDER BY"),
        }
    }

    fn top(&self, by: &[SortExpr], input: &LogicalPlan, skip: usize, fetch: usize) -> LowerResult {
        if skip.saturating_add(fetch) > crate::limits::STANDING_ROWS {
            return no(format!("LIMIT above {} rows", crate::limits::STANDING_ROWS));
        }
        let rel = self.rel(input)?;
        let width = rel.kinds.len();
        let exprs: Vec<Expr> = by.iter().map(|sort| sort.expr.clone()).collect();
        let Side { rel, keys, .. } = self.side(rel, &exprs, input.schema(), true)?;
        let option = |sort: &SortExpr| SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        let order: Vec<(usize, SortOptions)> = keys.into_iter().zip(by.iter().map(option)).collect();
        let named: Vec<String> = by.iter().map(ToString::to_string).collect();
        let text = format!("({} by {} from {skip} up to {fetch})", rel.text, named.join(", "));
        let kinds = rel.kinds.clone();
        let top = Rel { op: RelOp::Top(rel, Top { order, skip, fetch }), kinds, text };
        Ok(picked(Arc::new(top), &(0..width).collect::<Vec<_>>()))
    }
}

/// The relation that an input is.
fn input(spec: InputSpec) -> Arc<Rel> {
    let kinds = spec.kinds();
    Arc::new(Rel { text: spec.name.clone(), op: RelOp::Input(Arc::new(spec)), kinds })
}

/// A measure and its argument. The argument is NULL in rows that the measure's FILTER excludes.
fn measure(expr: &Expr, schema: &DFSchema) -> LowerResult<(Measure, Expr)> {
    let inner = expr.clone().unalias();
    let Expr::AggregateFunction(AggregateFunction { func, params }) = &inner else {
        return no(format!("{expr} is no function of a group"));
    };
    let [argument] = params.args.as_slice() else {
        return no(format!("{} of several columns", func.name()));
    };
    if !params.order_by.is_empty() {
        return no(format!("{} in an order", func.name()));
    }
    use datafusion::logical_expr::ExprSchemable;
    let kind = argument.get_type(schema)?;
    let measure = match (func.name(), params.distinct, &kind) {
        ("count", false, _) => Measure::Count,
        ("count", true, kind) if !kind.is_floating() => Measure::CountDistinct,
        ("sum", false, DataType::Int64) => Measure::SumIntegers,
        ("sum", false, DataType::UInt64) => Measure::SumUnsigned,
        ("sum", false, DataType::Float64) => Measure::SumFloats,
        ("avg", false, DataType::Float64) => Measure::MeanOfFloats,
        // DataFusion's `min` and `max` of NaN and -0 depend on the order in which it reads the
        // rows.
        ("min", _, kind) if !kind.is_floating() => Measure::Min,
        ("max", _, kind) if !kind.is_floating() => Measure::Max,
        (name, distinct, kind) => {
            return no(format!("{name}({}{kind})", if distinct { "DISTINCT " } else { "" }));
        }
    };
    let argument = match &params.filter {
        Some(filter) => when(filter.as_ref().clone(), argument.clone()).end()?,
        // `count(*)` counts rows, so the argument can be any constant.
        None if kind == DataType::Null => lit(false),
        None => argument.clone(),
    };
    Ok((measure, argument))
}

fn kinds_of(schema: &DFSchema) -> Vec<DataType> {
    schema.fields().iter().map(|field| field.data_type().clone()).collect()
}

/// A column by its position.
fn column(at: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(datafusion::physical_expr::expressions::Column::new(&format!("c{at}"), at))
}

fn joined(left: Side, right: Side, how: JoinKind) -> Arc<Rel> {
    let mut kinds = left.rel.kinds.clone();
    if matches!(how, JoinKind::Inner | JoinKind::Left) {
        kinds.extend(right.rel.kinds.iter().cloned());
    }
    let text = format!("{how:?}({} with {})", left.text(), right.text());
    Arc::new(Rel { op: RelOp::Join(Join { left, right, how }), kinds, text })
}

/// Some columns, in this order.
fn picked(rel: Arc<Rel>, columns: &[usize]) -> Arc<Rel> {
    if columns.iter().copied().eq(0..rel.kinds.len()) {
        return rel;
    }
    let kinds = columns.iter().filter_map(|at| rel.kinds.get(*at).cloned()).collect();
    let shown: Vec<String> = columns.iter().map(|at| format!("#{at}")).collect();
    let text = format!("{}({})", rel.text, shown.join(", "));
    let program =
        Program { conditions: Vec::new(), columns: Some(columns.iter().map(|at| column(*at)).collect()) };
    Arc::new(Rel { op: RelOp::Map(rel, Arc::new(program)), kinds, text })
}

fn filtered(rel: Arc<Rel>, conditions: Vec<Condition>) -> Arc<Rel> {
    let shown: Vec<String> = conditions.iter().map(Condition::text).collect();
    let text = format!("{} where {}", rel.text, shown.join(" and "));
    let kinds = rel.kinds.clone();
    Arc::new(Rel { op: RelOp::Map(rel, Arc::new(Program { conditions, columns: None })), kinds, text })
}

fn computed(rel: Arc<Rel>, columns: Vec<Arc<dyn PhysicalExpr>>) -> LowerResult {
    let fields = |(i, kind): (usize, &DataType)| {
        datafusion::arrow::datatypes::Field::new(format!("c{i}"), kind.clone(), true)
    };
    let schema = datafusion::arrow::datatypes::Schema::new(
        rel.kinds.iter().enumerate().map(fields).collect::<Vec<_>>(),
    );
    let kinds = columns.iter().map(|expr| Ok(expr.data_type(&schema)?)).collect::<LowerResult<Vec<_>>>()?;
    let shown: Vec<String> = columns.iter().map(ToString::to_string).collect();
    let text = format!("{}({})", rel.text, shown.join(", "));
    let program = Program { conditions: Vec::new(), columns: Some(columns) };
    Ok(Arc::new(Rel { op: RelOp::Map(rel, Arc::new(program)), kinds, text }))
}

impl FlowPlan {
    /// The state of the dataflow for `EXPLAIN`, one line each.
    pub(crate) fn arranged(&self) -> Vec<String> {
        let mut found: Vec<String> = self.rel.reads_in_all().inputs.into_keys().collect();
        self.rel.arranged(&mut found);
        let mut seen = BTreeSet::new();
        found.retain(|text| seen.insert(text.clone()));
        found
    }
}

impl fmt::Display for NoDataflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
