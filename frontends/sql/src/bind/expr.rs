//! Binds scalar expressions to [`Term`]s: columns, arithmetic, functions of a column such as
//! `rate(value, '5m')`, casts, `CASE`, scalar subqueries.
//!
//! A cell is a label, a time or a number. Only numbers become terms. Called by [`super`] for each
//! expression of a projection.

use super::filtered_aggregate::complete;
use super::term::{JoinMatching, Planner, Term, call, number, reads};
use super::{Cell, Refusal, Rows, as_bool, or_number, refused, relation};
use crate::values;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{BinaryExpr, Case, Expr, ExprSchemable, Operator, expr::ScalarFunction};
use engine::functions::{Function, Kernel, OperatorFunction, lookup};
use engine::plan::{BinaryOp, FunctionRef, ValueType};

/// Binds an expression over `rows` to a cell.
pub(super) fn cell(rows: &Rows, expr: &Expr, schema: &DFSchema) -> Result<Cell, Refusal> {
    match expr {
        Expr::Alias(alias) => cell(rows, &alias.expr, schema),
        Expr::Column(column) => {
            let at = schema.index_of_column(column).map_err(|e| Refusal(e.strip_backtrace()))?;
            rows.cells.get(at).cloned().ok_or_else(|| Refusal(format!("{column} is no column of a metric")))
        }
        Expr::Literal(value, _) => Ok(Cell::Constant(value.clone())),
        _ if is_time(rows, expr, schema) => Ok(Cell::Time),
        // A cast of a label or time to another text or time type changes only the output.
        Expr::Cast(cast) if !cast.field.data_type().is_floating() => cell(rows, &cast.expr, schema),
        Expr::ScalarFunction(function) if function.name() == "coalesce" => coalesce(rows, function, schema),
        _ => term(rows, expr, schema).map(Cell::Number),
    }
}

/// Whether an expression is `ts`, or a bucket of `ts`.
pub(super) fn is_time(rows: &Rows, expr: &Expr, schema: &DFSchema) -> bool {
    let inside = match expr {
        Expr::Column(_) => return cell(rows, expr, schema).is_ok_and(|cell| cell == Cell::Time),
        Expr::Alias(alias) => return is_time(rows, &alias.expr, schema),
        Expr::Cast(cast) => return is_time(rows, &cast.expr, schema),
        Expr::ScalarFunction(function) => {
            const OF_TIME: &[&str] = &["date_bin", "time_bucket", "date_trunc", "floor", "date_part"];
            if !OF_TIME.contains(&function.name()) {
                return false;
            }
            &function.args
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Multiply | Operator::Divide, right }) => {
            return is_time(rows, left, schema) && values::number(right).is_some();
        }
        _ => return false,
    };
    inside.iter().any(|arg| is_time(rows, arg, schema))
}

/// Whether it is the time of the evaluation in seconds: `extract(epoch FROM ts)`, or of `now()`.
fn is_clock(rows: &Rows, function: &ScalarFunction, schema: &DFSchema) -> bool {
    is_epoch(function) && function.args.get(1).is_some_and(|time| is_now(time) || is_time(rows, time, schema))
}

fn is_epoch(function: &ScalarFunction) -> bool {
    let part = function.args.first().and_then(values::text);
    function.name() == "date_part" && part.is_some_and(|part| part.eq_ignore_ascii_case("epoch"))
}

fn is_now(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(cast) => is_now(&cast.expr),
        Expr::ScalarFunction(function) => function.name() == "now",
        _ => false,
    }
}

/// Whether it is a number made of `now()`.
pub(super) fn is_now_in_seconds(expr: &Expr) -> bool {
    let Expr::ScalarFunction(function) = expr else { return false };
    is_epoch(function) && function.args.get(1).is_some_and(is_now)
}

/// Binds an expression over `rows` to a number.
pub(super) fn term(rows: &Rows, expr: &Expr, schema: &DFSchema) -> Result<Term, Refusal> {
    if let Some(value) = values::number(expr) {
        return Ok(Term::Number(value));
    }
    match expr {
        Expr::Alias(alias) => term(rows, &alias.expr, schema),
        Expr::Column(_) => match cell(rows, expr, schema)? {
            Cell::Number(term) => Ok(term),
            Cell::Constant(value) => values::number(&Expr::Literal(value, None))
                .map(Term::Number)
                .ok_or_else(|| Refusal("a text is no number".to_owned())),
            _ => refused(format!("{expr} is no number")),
        },
        Expr::Negative(inner) => Ok(Term::Negate(Box::new(term(rows, inner, schema)?))),
        Expr::BinaryExpr(binary) => arithmetic(rows, expr, binary, schema),
        Expr::Cast(cast) => converted(rows, &cast.expr, cast.field.data_type(), schema),
        Expr::TryCast(cast) => converted(rows, &cast.expr, cast.field.data_type(), schema),
        Expr::Case(case) => zero_or_one(rows, case, schema),
        Expr::ScalarFunction(function) if function.name() == "coalesce" => {
            match coalesce(rows, function, schema)? {
                Cell::Number(term) => Ok(term),
                _ => refused("coalesce of something else than numbers"),
            }
        }
        Expr::ScalarFunction(function) if is_clock(rows, function, schema) => {
            Ok(Term::Scalar(call("time", Vec::new())?))
        }
        Expr::ScalarFunction(function) => called(rows, function, schema),
        Expr::ScalarSubquery(subquery) => {
            let inner = complete(relation(&subquery.subquery)?)?;
            // PromQL's `scalar()` is NaN for none or several rows, where SQL has NULL or an error.
            // One aggregate over all rows is always one row.
            if inner.correlated.is_some() || inner.over_nothing.is_none() {
                return refused("a subquery as a number must be one aggregate over all rows");
            }
            Ok(Term::Scalar(call("scalar", vec![inner.answer()?.0])?))
        }
        other => refused(format!("{other} has no counterpart in PromQL")),
    }
}

/// `+ - * / %`, if SQL computes it with floats: whole numbers are divided differently.
fn arithmetic(rows: &Rows, expr: &Expr, binary: &BinaryExpr, schema: &DFSchema) -> Result<Term, Refusal> {
    let op = match binary.op {
        Operator::Plus => BinaryOp::Add,
        Operator::Minus => BinaryOp::Sub,
        Operator::Multiply => BinaryOp::Mul,
        Operator::Divide => BinaryOp::Div,
        Operator::Modulo => BinaryOp::Mod,
        other => return refused(format!("{other} gives no number")),
    };
    // `5 / 2` is 2 in SQL and 2.5 in PromQL.
    if !expr.get_type(schema).is_ok_and(|kind| kind.is_floating()) {
        return refused(format!("{expr} is computed with whole numbers in SQL; write ::float8 for floats"));
    }
    let lhs = Box::new(term(rows, &binary.left, schema)?);
    let rhs = Box::new(term(rows, &binary.right, schema)?);
    // With a row on one side only, SQL computes with NULL, and PromQL has no row.
    if rows.joined == JoinMatching::Either {
        return refused("arithmetic over a FULL JOIN");
    }
    Ok(Term::Binary { op, lhs, rhs, bool: false })
}

/// A comparison as a plan has it.
pub(super) fn comparison(op: Operator) -> Option<BinaryOp> {
    Some(match op {
        Operator::Eq => BinaryOp::Eq,
        Operator::NotEq => BinaryOp::Ne,
        Operator::Lt => BinaryOp::Lt,
        Operator::LtEq => BinaryOp::Le,
        Operator::Gt => BinaryOp::Gt,
        Operator::GtEq => BinaryOp::Ge,
        _ => return None,
    })
}

/// `(a > b)::float8`, or another number as a float.
fn converted(rows: &Rows, inner: &Expr, to: &DataType, schema: &DFSchema) -> Result<Term, Refusal> {
    if let Expr::BinaryExpr(binary) = inner
        && let Some(op) = comparison(binary.op)
    {
        let lhs = term(rows, &binary.left, schema)?;
        return Ok(as_bool(op, lhs, term(rows, &binary.right, schema)?));
    }
    if !to.is_floating() {
        return refused(format!("a number as {to}"));
    }
    term(rows, inner, schema)
}

/// `CASE WHEN a > b THEN 1 ELSE 0 END`
fn zero_or_one(rows: &Rows, case: &Case, schema: &DFSchema) -> Result<Term, Refusal> {
    let otherwise = case.else_expr.as_ref().and_then(|e| values::number(e));
    if let (None, [(when, then)], Some(otherwise)) = (&case.expr, case.when_then_expr.as_slice(), otherwise)
        && let Expr::BinaryExpr(binary) = when.as_ref()
        && let Some(op) = comparison(binary.op)
        && let Some(then) = values::number(then)
        && (then, otherwise) == (1.0, 0.0)
    {
        let lhs = term(rows, &binary.left, schema)?;
        return Ok(as_bool(op, lhs, term(rows, &binary.right, schema)?));
    }
    refused("a CASE other than CASE WHEN a > b THEN 1 ELSE 0 END")
}

/// The value of either side of a `FULL JOIN`; 0 for an aggregate over nothing; the label of either
/// side.
fn coalesce(rows: &Rows, function: &ScalarFunction, schema: &DFSchema) -> Result<Cell, Refusal> {
    let [first, second] = function.args.as_slice() else {
        return refused("coalesce of more than two");
    };
    let first = cell(rows, first, schema)?;
    let default = values::number(second);
    match (first, default) {
        // Only for a single row: otherwise PromQL cannot say which rows to add.
        (Cell::Number(of), Some(value)) if rows.over_nothing.is_some() => {
            let planner = Planner { sides: &rows.sides, joined: &rows.joined };
            Ok(Cell::Number(Term::Done(or_number(planner.plan(&of)?, value)?, 0)))
        }
        (Cell::Number(of), None) if rows.joined == JoinMatching::Either => {
            let other = term(rows, second, schema)?;
            Ok(Cell::Number(Term::Or(Box::new(of), Box::new(other))))
        }
        (first @ (Cell::Label(_) | Cell::Labels | Cell::Time), None)
            if first == cell(rows, second, schema)? =>
        {
            Ok(first)
        }
        _ => refused("coalesce of one row: PromQL has no NULL"),
    }
}

/// A function of the table, by its name in SQL.
fn called(rows: &Rows, function: &ScalarFunction, schema: &DFSchema) -> Result<Term, Refusal> {
    let args = &function.args;
    let [first, ..] = args.as_slice() else {
        return refused(format!("{}() is no function of a column", function.name()));
    };
    let name = match function.name() {
        "power" | "pow" => {
            let exponent = args.get(1).ok_or_else(|| Refusal("power of one".to_owned()))?;
            let lhs = Box::new(term(rows, first, schema)?);
            let rhs = Box::new(term(rows, exponent, schema)?);
            return Ok(Term::Binary { op: BinaryOp::Pow, lhs, rhs, bool: false });
        }
        "atan2" => {
            let second = args.get(1).ok_or_else(|| Refusal("atan2 of one".to_owned()))?;
            let lhs = Box::new(term(rows, first, schema)?);
            let rhs = Box::new(term(rows, second, schema)?);
            return Ok(Term::Binary { op: BinaryOp::Atan2, lhs, rhs, bool: false });
        }
        "ago" => {
            let ms = args.get(1).and_then(values::duration);
            let ms =
                ms.ok_or_else(|| Refusal(values::not_a_duration("the second argument of ago").to_string()))?;
            return Ok(Term::Ago(Box::new(term(rows, first, schema)?), ms));
        }
        "at" => {
            let t =
                args.get(1).and_then(values::time).ok_or_else(|| Refusal("at needs a time".to_owned()))?;
            return Ok(Term::At(Box::new(term(rows, first, schema)?), t));
        }
        "prom_round" => "round",
        "sample_ts" => "timestamp",
        "degrees" => "deg",
        "radians" => "rad",
        // The SQL functions of these names round and divide differently.
        name @ ("round" | "log" | "timestamp") => return refused(format!("SQL's {name} is not PromQL's")),
        // The others have the same name and the same meaning in both languages.
        name => name,
    };
    let Some(entry) = lookup(name) else {
        return refused(format!("{name} has no counterpart in PromQL"));
    };
    if entry.args.contains(&ValueType::Matrix) {
        return windowed(rows, entry, args, schema);
    }
    let is_plain = match entry.kernel {
        Kernel::Map(_) | Kernel::MapOrClock(_) | Kernel::Histogram(_) => true,
        Kernel::Operator(special) => {
            matches!(
                special,
                OperatorFunction::Timestamp
                    | OperatorFunction::HistogramFraction
                    | OperatorFunction::StartTimestamp
            )
        }
        _ => false,
    };
    if !is_plain || args.len() < entry.min_args() || args.len() > entry.max_args() {
        return refused(format!("{name} with {} arguments", args.len()));
    }
    let args = args.iter().map(|arg| term(rows, arg, schema)).collect::<Result<Vec<_>, _>>()?;
    // The plan of a constant has one row without labels, which matches no row of the metric.
    let is_of_rows = args.iter().any(|arg| (0..rows.sides.len()).any(|side| reads(arg, side)));
    if !is_of_rows {
        return refused(format!("{name} of a number that is the same in each row"));
    }
    Ok(Term::Function { function: FunctionRef(entry), args })
}

/// `f(value, '5m')`, with parameters before the value where PromQL has them before; `f(…, '1h',
/// '1m')` is a subquery.
fn windowed(
    rows: &Rows,
    entry: &'static Function,
    args: &[Expr],
    schema: &DFSchema,
) -> Result<Term, Refusal> {
    let place = entry.args.iter().position(|kind| *kind == ValueType::Matrix).unwrap_or(0);
    let usage = || Refusal(format!("{} is written {}", entry.name, usage(entry)));
    let constant = |arg: &Expr| values::number(arg).ok_or_else(usage);
    let before = args.get(..place).ok_or_else(usage)?.iter().map(constant).collect::<Result<_, _>>()?;
    let input = term(rows, args.get(place).ok_or_else(usage)?, schema)?;
    // After the value, because in SQL the column comes first; PromQL has the range in the selector.
    let range = args.get(place + 1).and_then(values::duration).filter(|ms| *ms > 0);
    let range = range.ok_or_else(usage)?;
    let mut rest = args.get(place + 2..).unwrap_or_default();
    // A duration that is a text is a step; parameters are numbers.
    let step = match rest {
        [first, ..] if values::number(first).is_none() => {
            rest = &rest[1..];
            Some(values::duration(first).filter(|ms| *ms > 0).ok_or_else(usage)?)
        }
        _ => None,
    };
    let after: Vec<f64> = rest.iter().map(constant).collect::<Result<_, _>>()?;
    let wanted = place + 1 + after.len();
    if wanted < entry.min_args() || wanted > entry.max_args() {
        return Err(usage());
    }
    Ok(Term::Window { function: FunctionRef(entry), before, input: Box::new(input), range, step, after })
}

/// How a function of a window is written in SQL.
pub(crate) fn usage(entry: &Function) -> String {
    let mut words = Vec::new();
    for kind in entry.args {
        match kind {
            ValueType::Matrix => words.extend(["value", "'5m'"]),
            _ => words.push("number"),
        }
    }
    format!("{}({})", entry.name, words.join(", "))
}

/// A quantile, or another number in front of an aggregate's column.
pub(super) fn constant(expr: &Expr) -> Result<engine::plan::Plan, Refusal> {
    values::number(expr)
        .map(number)
        .ok_or_else(|| Refusal(format!("{expr} must be a number that is written out")))
}
