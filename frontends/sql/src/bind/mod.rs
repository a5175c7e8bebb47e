//! The binder: turns a SQL query that PromQL could also express into a plan of the engine.
//!
//! Input: DataFusion's logical plan, before its optimiser. Output: a [`BoundQuery`], or a
//! [`Refusal`] with the reason, which `EXPLAIN` shows; DataFusion then computes that part itself.
//! The binder walks from the tables up. Conditions are collected on the way, because they become
//! matchers of the selectors below. Numbers stay [`Term`]s until an aggregation or the root, when
//! all matchers are known.
//!
//! `tests/data/golden.tsv` lists pairs of PromQL and SQL that give the same plan. Read
//! [`condition`], [`expr`] and [`mod@aggregate`] next.

mod aggregate;
mod condition;
mod expr;
mod filtered_aggregate;
mod grid;
mod join;
mod term;

pub(crate) use condition::{label_matchers, split};
pub use grid::Grid;
pub(crate) use grid::Times;
pub(crate) use grid::find as find_times;

use crate::relations::{Field, Relation};
use crate::values;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Projection, SortExpr, TableScan};
use engine::plan::canonical::canonical;
use engine::plan::{AggregateOp, BinaryOp, Plan};
use filtered_aggregate::{FilteredNumber, complete};
pub(crate) use term::call;
use term::{JoinMatching, Planner, Side, Term, aggregate, binary, number, replace, set};

/// Why a query, or a part of it, cannot be a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) String);

pub(crate) fn refused<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(why.into()))
}

/// A query that was turned into a plan.
#[derive(Clone, Debug)]
pub(crate) struct BoundQuery {
    /// The plan, in canonical form.
    pub(crate) plan: Plan,
    /// The columns of the answer.
    pub(crate) columns: Vec<OutputColumn>,
    /// For an aggregate without GROUP BY: the value of its row when the input is empty.
    pub(crate) over_nothing: Option<ScalarValue>,
}

/// A column of the answer.
#[derive(Clone, Debug)]
pub(crate) struct OutputColumn {
    /// What the column shows.
    pub(crate) what: Output,
    /// The type in which it is shown.
    pub(crate) kind: DataType,
}

/// What a column shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// A label; "" if the row lacks it.
    Label(String),
    /// The name of the metric.
    Metric,
    /// All labels but the name, as JSON.
    Labels,
    /// The evaluation time.
    Time,
    /// The number.
    Value,
    /// The native histogram.
    Histogram,
    /// The same in each row.
    Constant(ScalarValue),
}

/// A column of a relation while it is bound.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Label(String),
    /// A label that only the other side of a join has.
    Foreign(String),
    Metric,
    Labels,
    Time,
    Number(Term),
    /// The native histogram of the sample whose float is the number.
    Beside,
    Constant(ScalarValue),
    /// The rank of a row among those with the same labels `by`.
    Rank {
        by: Vec<String>,
        descending: bool,
        of: Term,
    },
}

/// A comparison that rows must satisfy.
#[derive(Clone, Debug)]
struct Condition {
    op: BinaryOp,
    lhs: Term,
    rhs: Term,
}

/// A condition `EXISTS` or `IN (SELECT …)`.
#[derive(Clone, Debug)]
struct Membership {
    op: BinaryOp,
    /// `None`: by all labels.
    on: Option<Vec<String>>,
    plan: Plan,
}

/// A relation while it is bound. `cells` are in the order of its schema.
#[derive(Clone, Debug, Default)]
struct Rows {
    sides: Vec<Side>,
    joined: JoinMatching,
    cells: Vec<Cell>,
    conditions: Vec<Condition>,
    members: Vec<Membership>,
    /// Labels that a subquery compares with those of the query around it; `None`: all labels.
    correlated: Option<Option<Vec<String>>>,
    /// `ORDER BY`, for the `LIMIT` above it.
    order: Option<(Cell, bool)>,
    /// For an aggregate without GROUP BY: the value of its row when the input is empty.
    over_nothing: Option<ScalarValue>,
    /// The number that decides whether a row exists, if none is shown; `None`: the value.
    mention: Option<Term>,
    /// Numbers that some groups lack.
    filtered: Vec<FilteredNumber>,
    /// Rows of several evaluation times are put together, which a plan never does.
    mixes_times: bool,
    /// Rows were chosen by a number that is still to be made of the columns.
    chosen: Option<Chosen>,
}

/// The number by which rows were chosen, and the plan of those that were.
#[derive(Clone, Debug)]
struct Chosen {
    term: Term,
    plan: Plan,
}

/// Binds a whole query, which is evaluated at `times`.
pub(crate) fn bind(plan: &LogicalPlan, times: Times) -> Result<BoundQuery, Refusal> {
    if times != Times::Now && has_expr(plan, &expr::is_now_in_seconds) {
        return refused("now() is the time of the request, which is not that of each evaluation: write ts");
    }
    if matches!(times, Times::Grid(_)) && has_expr(plan, &|expr| matches!(expr, Expr::ScalarSubquery(_))) {
        return refused("a subquery is one number for all times: a plan has each time for itself");
    }
    // The order of the answer is a matter of its rows, see `session`.
    let inner = match plan {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => sort.input.as_ref(),
        other => other,
    };
    let rows = complete(relation(inner)?)?;
    if rows.correlated.is_some() {
        return refused("a subquery depends on the query around it");
    }
    if matches!(times, Times::Grid(_)) && rows.mixes_times {
        return refused("rows of several times are put together: a plan has each time for itself");
    }
    let (plan, term) = rows.answer()?;
    let mut columns = Vec::new();
    for (cell, field) in rows.cells.iter().zip(inner.schema().fields()) {
        let what = match cell {
            Cell::Label(name) => Output::Label(name.clone()),
            Cell::Metric => Output::Metric,
            Cell::Labels => Output::Labels,
            Cell::Time => Output::Time,
            Cell::Constant(value) => Output::Constant(value.clone()),
            Cell::Number(Term::Histogram(_)) if term != cell_term(cell) => Output::Histogram,
            Cell::Number(_) => Output::Value,
            Cell::Beside => Output::Histogram,
            Cell::Foreign(name) => {
                return refused(format!("the label {name} is on the other side of the join"));
            }
            Cell::Rank { .. } => return refused("a rank is no number of a series"),
        };
        columns.push(OutputColumn { what, kind: field.data_type().clone() });
    }
    Ok(BoundQuery { plan: canonical(&plan), columns, over_nothing: rows.over_nothing })
}

/// Whether an expression of the plan has such a part.
fn has_expr(plan: &LogicalPlan, is_it: &dyn Fn(&Expr) -> bool) -> bool {
    let mut found = false;
    let _ = plan.apply_with_subqueries(|node| {
        for expr in node.expressions() {
            found |= expr.exists(|inner| Ok(is_it(inner))).unwrap_or(true);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

fn cell_term(cell: &Cell) -> Option<Term> {
    if let Cell::Number(term) = cell { Some(term.clone()) } else { None }
}

/// Binds the relation that `plan` makes.
fn relation(plan: &LogicalPlan) -> Result<Rows, Refusal> {
    match plan {
        LogicalPlan::TableScan(scan) => scanned(scan),
        LogicalPlan::SubqueryAlias(alias) => relation(&alias.input),
        LogicalPlan::Subquery(subquery) => relation(&subquery.subquery),
        LogicalPlan::Projection(projection) => projected(projection),
        LogicalPlan::Filter(filter) => {
            // `FROM a, b WHERE a.x = b.x`: the condition of the join stands in the filter above it.
            if let LogicalPlan::Join(join) = filter.input.as_ref()
                && join::is_bare(join)
            {
                return join::joined_where(join, split(&filter.predicate));
            }
            let mut rows = relation(&filter.input)?;
            for part in split(&filter.predicate) {
                condition::add(&mut rows, part, filter.input.schema())?;
            }
            Ok(rows)
        }
        LogicalPlan::Aggregate(node) => aggregate::grouped(node),
        LogicalPlan::Distinct(Distinct::All(input)) => aggregate::distinct(complete(relation(input)?)?),
        LogicalPlan::Sort(sort) => sorted(relation(&sort.input)?, &sort.expr, sort.input.schema()),
        LogicalPlan::Limit(limit) => {
            let fetch = limit.fetch.as_ref().and_then(|fetch| values::integer(fetch));
            let skips = limit.skip.as_ref().is_some_and(|skip| values::integer(skip) != Some(0));
            match fetch {
                // PromQL has the first of an order (`topk`), but not those after them.
                Some(k) if !skips => limited(complete(relation(&limit.input)?)?, k),
                _ => refused("OFFSET has no counterpart in PromQL"),
            }
        }
        LogicalPlan::Window(window) => aggregate::ranked(window),
        LogicalPlan::Join(join) => join::joined(join),
        // SELECT without FROM: a scalar.
        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => Ok(Rows::default()),
        other => {
            let name = other.display().to_string();
            refused(format!(
                "{} has no counterpart in PromQL",
                name.split([':', ' ']).next().unwrap_or_default()
            ))
        }
    }
}

/// The rows of a relation of metrics.
fn scanned(scan: &TableScan) -> Result<Rows, Refusal> {
    let relation = Relation::of_source(scan.source.as_ref()).filter(|relation| relation.is_of_metric());
    let Some(relation) = relation else {
        return refused(format!("{} is no metric", scan.table_name));
    };
    let cell = |field: &Field| match field {
        Field::Time => Cell::Time,
        Field::Label(name) => Cell::Label(name.clone()),
        Field::Metric => Cell::Metric,
        Field::Labels => Cell::Labels,
        Field::Value => Cell::Number(Term::Value(0)),
        Field::Histogram => Cell::Number(Term::Histogram(0)),
    };
    let all: Vec<Cell> = relation.fields().iter().map(cell).collect();
    let cells = match &scan.projection {
        Some(projection) => projection.iter().filter_map(|i| all.get(*i).cloned()).collect(),
        None => all,
    };
    Ok(Rows {
        sides: vec![Side { matchers: relation.matchers(), ..Side::default() }],
        cells,
        ..Rows::default()
    })
}

fn projected(projection: &Projection) -> Result<Rows, Refusal> {
    let mut rows = relation(&projection.input)?;
    let schema = projection.input.schema();
    let cells: Result<Vec<Cell>, Refusal> =
        projection.expr.iter().map(|expr| expr::cell(&rows, expr, schema)).collect();
    rows.cells = cells?;
    if let Some(Chosen { term, plan }) = rows.chosen.take() {
        for cell in &mut rows.cells {
            match cell {
                Cell::Number(number) if *number == term => *number = Term::Done(plan.clone(), 0),
                Cell::Number(_) => return refused("the number that decides is not the one that is shown"),
                _ => {}
            }
        }
        rows.sides = vec![Side { computed: true, ..Side::default() }];
    }
    Ok(rows)
}

fn sorted(
    mut rows: Rows,
    by: &[SortExpr],
    schema: &datafusion::common::DFSchemaRef,
) -> Result<Rows, Refusal> {
    let Some(first) = by.first() else { return Ok(rows) };
    let cell = expr::cell(&rows, &first.expr, schema)?;
    // Only kept for a LIMIT above it; an order by several columns is none that `topk` knows.
    rows.order = (by.len() == 1).then_some((cell, first.asc));
    Ok(rows)
}

/// Binds `LIMIT k`: the first rows of the order, or any rows without an order.
fn limited(mut rows: Rows, k: i64) -> Result<Rows, Refusal> {
    if k < 0 {
        return refused("a negative LIMIT");
    }
    let (op, term) = match rows.order.take() {
        Some((Cell::Number(term), ascending)) => {
            (if ascending { AggregateOp::Bottomk } else { AggregateOp::Topk }, term)
        }
        Some(_) => return refused("LIMIT after ORDER BY something else than the number"),
        None => (AggregateOp::Limitk, rows.answer()?.1.unwrap_or_else(|| rows.mentioned())),
    };
    // An aggregate without GROUP BY has one row, of which every positive LIMIT is the whole.
    if rows.over_nothing.is_some() {
        if k == 0 {
            return refused("LIMIT 0 of an aggregate without GROUP BY");
        }
        return Ok(rows);
    }
    first_of(rows, op, &[], k, &term)
}

/// The first `k` rows of each group.
fn first_of(mut rows: Rows, op: AggregateOp, by: &[String], k: i64, term: &Term) -> Result<Rows, Refusal> {
    let (_, answer) = rows.answer()?;
    let is_other = answer.as_ref().is_some_and(|answer| answer != term);
    // The columns of the metric itself, of which what is shown is still to be made.
    let is_raw = rows.sides.len() == 1 && rows.sides[0].keys.is_none() && answer == Some(Term::Value(0));
    if is_other && !is_raw {
        return refused("the number that decides is not the one that is shown");
    }
    let plan = aggregate(op, by, Some(number(k as f64)), rows.plan_of(term)?);
    rows.mixes_times = true;
    if is_other {
        rows.conditions.clear();
        rows.members.clear();
        rows.mention = Some(Term::Done(plan.clone(), 0));
        rows.chosen = Some(Chosen { term: term.clone(), plan });
        return Ok(rows);
    }
    // The rows keep their labels.
    let keys = rows.sides.first().and_then(|side| side.keys.clone());
    rows.conditions.clear();
    rows.members.clear();
    for cell in &mut rows.cells {
        match cell {
            Cell::Number(Term::Histogram(_)) if !matches!(term, Term::Histogram(_)) => *cell = Cell::Beside,
            Cell::Number(number) => *number = Term::Done(plan.clone(), 0),
            _ => {}
        }
    }
    rows.sides = vec![Side { matchers: Vec::new(), keys, computed: true }];
    rows.joined = JoinMatching::Same;
    rows.mention = Some(Term::Done(plan, 0));
    Ok(rows)
}

impl Rows {
    /// The plan of the one number that the rows have, and the number; `None`: the rows show none.
    fn answer(&self) -> Result<(Plan, Option<Term>), Refusal> {
        if self.chosen.is_some() {
            return refused("the number that decides is not the one that is shown");
        }
        let mut numbers: Vec<&Term> = Vec::new();
        for cell in &self.cells {
            if let Cell::Number(term) = cell
                && !numbers.contains(&term)
            {
                numbers.push(term);
            }
        }
        // Beside the value, the histogram is the other form of the same sample.
        if numbers.len() > 1 {
            numbers.retain(|term| !matches!(term, Term::Histogram(_)));
        }
        match numbers.as_slice() {
            [] => Ok((self.plan_of(&self.mentioned())?, None)),
            // The plan of a number that reads no row has one row without labels, whatever rows
            // there are.
            [term]
                if !self.sides.is_empty() && !(0..self.sides.len()).any(|side| term::reads(term, side)) =>
            {
                refused("a number that is the same in each row")
            }
            [term] => Ok((self.plan_of(term)?, Some((*term).clone()))),
            // A plan answers one value for each label set.
            _ => refused(format!("{} numbers in a row: a plan has one", numbers.len())),
        }
    }

    /// The number that decides whether a row exists, if none is shown.
    fn mentioned(&self) -> Term {
        let compared = self.conditions.first().map(|condition| condition.lhs.clone());
        compared.or_else(|| self.mention.clone()).unwrap_or(Term::Value(0))
    }

    /// The plan of a number under all conditions: one that compares a part of the number filters
    /// there, another one is a set operator.
    fn plan_of(&self, term: &Term) -> Result<Plan, Refusal> {
        let planner = Planner { sides: &self.sides, joined: &self.joined };
        let mut term = term.clone();
        let mut others = Vec::new();
        for condition in self.conditions.iter().rev() {
            let Condition { op, lhs, rhs } = condition.clone();
            let filtered = Term::Binary { op, lhs: Box::new(lhs.clone()), rhs: Box::new(rhs), bool: false };
            let (replaced, found) = replace(&term, &lhs, &filtered);
            // A condition on a part of the number filters right there: `rate(x) > 1` and not
            // `rate(x) and rate(x) > 1`, which would compute it twice.
            if found {
                term = replaced;
            } else {
                others.push(filtered);
            }
        }
        let is_read =
            |side: usize| term::reads(&term, side) || others.iter().any(|other| term::reads(other, side));
        if self.sides.len() > 1 && !(0..self.sides.len()).all(is_read) {
            return refused("a number of one side of a join: the other side only filters, write EXISTS");
        }
        let mut plan = planner.plan(&term)?;
        for other in others.iter().rev() {
            plan = set(BinaryOp::And, None, plan, planner.plan(other)?);
        }
        for member in &self.members {
            plan = set(member.op, member.on.as_deref(), plan, member.plan.clone());
        }
        Ok(plan)
    }
}

/// Whether any row exists: `absent`.
fn absent(plan: Plan) -> Result<Plan, Refusal> {
    call("absent", vec![plan])
}

/// The plan of an expression over one relation, for the number of a row that is not absorbed.
pub(crate) fn leaf(
    relation: &Relation,
    expr: &Expr,
    schema: &datafusion::common::DFSchema,
) -> Result<Plan, Refusal> {
    let cells = schema
        .fields()
        .iter()
        .map(|field| match relation.field(field.name()) {
            Some(Field::Value) => Cell::Number(Term::Value(0)),
            Some(Field::Histogram) => Cell::Number(Term::Histogram(0)),
            Some(Field::Label(name)) => Cell::Label(name.clone()),
            _ => Cell::Foreign(field.name().clone()),
        })
        .collect();
    let rows = Rows {
        sides: vec![Side { matchers: relation.matchers(), ..Side::default() }],
        cells,
        ..Rows::default()
    };
    let Cell::Number(term) = expr::cell(&rows, expr, schema)? else {
        return refused("it is no number");
    };
    Planner { sides: &rows.sides, joined: &rows.joined }.plan(&term)
}

/// A comparison as 0 or 1.
fn as_bool(op: BinaryOp, lhs: Term, rhs: Term) -> Term {
    Term::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs), bool: true }
}

/// Adds `or vector(n)`.
fn or_number(plan: Plan, value: f64) -> Result<Plan, Refusal> {
    Ok(binary_or(plan, call("vector", vec![number(value)])?))
}

fn binary_or(lhs: Plan, rhs: Plan) -> Plan {
    let matching = engine::plan::VectorMatching {
        cardinality: engine::plan::Cardinality::ManyToMany,
        ..engine::plan::VectorMatching::default()
    };
    binary(BinaryOp::Or, false, lhs, rhs, matching)
}
