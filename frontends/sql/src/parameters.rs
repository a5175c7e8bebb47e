//! Parameters of a statement (`$1`, `$2`, …): which types they have, and a plan with their values.
//!
//! The types are those that PostgreSQL infers, as far as DataFusion has the type: of a cast, of the
//! other side of an operator, of the other branches of a `CASE`, whole numbers for `LIMIT`. Drivers
//! encode the values by them. A parameter `$1[]` stands for all elements of a list
//! ([`super::lists`]).

use super::error::SqlError;
use super::limits;
use super::lists;
use super::values::{day_with_zone, interval_without_clock};
use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ParamValues, Result, ScalarValue};
use datafusion::logical_expr::expr::{InList, Placeholder, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, Operator};
use serde_json::Value;
use std::sync::Arc;

/// What the name of a parameter ends with that stands for the elements of a list.
pub(crate) const LIST_MARK: &str = "[]";

/// The types of `$1`, `$2`, …; `None`: nothing says it, and a text is taken.
///
/// # Errors
///
/// If there are more than [`limits::PARAMETERS`].
pub(crate) fn types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>, SqlError> {
    types_with(plan, &[])
}

/// See [`types`]; `given` are the values.
fn types_with(plan: &LogicalPlan, given: &[Value]) -> Result<Vec<Option<DataType>>, SqlError> {
    let mut found = ParameterTypes { types: Vec::new(), given };
    let walked = plan.apply_with_subqueries(|node| {
        found.visit(node)?;
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|e| SqlError::from_datafusion(e, ""))?;
    if found.types.len() > limits::PARAMETERS {
        return Err(too_many());
    }
    Ok(found.types)
}

fn too_many() -> SqlError {
    SqlError::bad(format!("more than {} parameters", limits::PARAMETERS))
}

/// The place of a parameter among the values, and whether it stands for the elements of a list.
/// `None`: it has no number.
fn place_of(name: &str) -> Option<(usize, bool)> {
    let name = name.strip_prefix('$')?;
    let (number, is_list) = match name.strip_suffix(LIST_MARK) {
        Some(number) => (number, true),
        None => (name, false),
    };
    Some((number.parse::<usize>().ok()?.checked_sub(1)?, is_list))
}

/// The types that were found so far; the first use of a parameter decides.
struct ParameterTypes<'p> {
    types: Vec<Option<DataType>>,
    /// The values, where there are some.
    given: &'p [Value],
}

impl ParameterTypes<'_> {
    fn visit(&mut self, node: &LogicalPlan) -> Result<()> {
        let schema = match node.inputs().as_slice() {
            [] => node.schema().as_ref().clone(),
            inputs => merge_schema(inputs),
        };
        match node {
            LogicalPlan::Limit(limit) => {
                for number in [&limit.skip, &limit.fetch].into_iter().flatten() {
                    self.add(number, Some(DataType::Int64));
                }
            }
            LogicalPlan::Filter(filter) => self.add(&filter.predicate, Some(DataType::Boolean)),
            _ => {}
        }
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                self.visit_expr(part, &schema);
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(())
    }

    /// Looks at an expression whose operands may be parameters. It is visited before them.
    fn visit_expr(&mut self, expr: &Expr, schema: &DFSchema) {
        let kind = |other: &Expr| kind_of(other, schema);
        match expr {
            Expr::Cast(cast) => self.add(&cast.expr, Some(cast.field.data_type().clone())),
            Expr::TryCast(cast) => self.add(&cast.expr, Some(cast.field.data_type().clone())),
            Expr::Not(inner) => self.add(inner, Some(DataType::Boolean)),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                self.add(left, kind(right).map(|of_right| beside(*op, of_right)));
                let of_left = kind(left);
                let is_interval = *op == Operator::Minus && self.has_no_time(right);
                self.add(
                    right,
                    if is_interval { Some(INTERVAL) } else { of_left.map(|kind| beside(*op, kind)) },
                );
            }
            Expr::Between(between) => self.add(&between.expr, kind(&between.low)),
            Expr::InList(list) => {
                self.add(&list.expr, list.list.iter().find_map(kind));
                for item in &list.list {
                    self.add(item, kind(&list.expr));
                }
            }
            Expr::Case(case) => self.case(case, schema),
            Expr::ScalarFunction(function) => self.arguments(function, schema),
            Expr::Placeholder(parameter) => {
                self.add(expr, parameter.field.as_ref().map(|field| field.data_type().clone()));
            }
            _ => {}
        }
    }

    /// Whether an operand is a parameter with an interval for its value: only the value says what
    /// is subtracted from a time.
    fn has_no_time(&self, expr: &Expr) -> bool {
        let Expr::Placeholder(Placeholder { id, .. }) = expr else { return false };
        let value = place_of(id).and_then(|(at, _)| self.given.get(at)).and_then(Value::as_str);
        value.is_some_and(|text| interval_text(text).is_some())
    }

    fn case(&mut self, case: &Case, schema: &DFSchema) {
        let kind = |other: &Expr| kind_of(other, schema);
        let results = || {
            let of_branches = case.when_then_expr.iter().map(|(_, result)| result);
            of_branches.chain(&case.else_expr)
        };
        let result = results().find_map(|result| kind(result));
        for branch in results() {
            self.add(branch, result.clone());
        }
        let compared = match &case.expr {
            Some(value) => kind(value),
            None => Some(DataType::Boolean),
        };
        for (when, _) in &case.when_then_expr {
            self.add(when, compared.clone());
        }
    }

    fn arguments(&mut self, function: &ScalarFunction, schema: &DFSchema) {
        let args = &function.args;
        let kind = match function.name() {
            "coalesce" | "nullif" | "greatest" | "least" | "nvl" => {
                args.iter().find_map(|arg| kind_of(arg, schema))
            }
            "abs" | "ceil" | "floor" | "sqrt" | "cbrt" | "exp" | "ln" | "log" | "log2" | "log10"
            | "power" | "round" | "trunc" | "sin" | "cos" | "tan" | "to_timestamp" => Some(DataType::Float64),
            "left" | "right" | "substr" | "split_part" => Some(DataType::Int64),
            _ => None,
        };
        let text_first = matches!(function.name(), "left" | "right" | "substr" | "split_part");
        for (at, arg) in args.iter().enumerate() {
            let is_text = text_first && (at == 0 || (at == 1 && function.name() == "split_part"));
            self.add(arg, if is_text { Some(DataType::Utf8) } else { kind.clone() });
        }
    }

    /// Notes the type of `expr` if it is a parameter whose type is not known yet.
    fn add(&mut self, expr: &Expr, kind: Option<DataType>) {
        let Expr::Placeholder(Placeholder { id, .. }) = expr else { return };
        let Some((at, is_list)) = place_of(id) else { return };
        // One more than are allowed is enough for the error.
        let at = at.min(limits::PARAMETERS);
        if self.types.len() <= at {
            self.types.resize(at + 1, None);
        }
        if self.types[at].is_some() {
            return;
        }
        let kind = kind.filter(|kind| *kind != DataType::Null);
        self.types[at] = match kind {
            Some(kind) if is_list => Some(list_of(kind)),
            None if is_list => Some(list_of(DataType::Utf8)),
            kind => kind,
        };
    }
}

/// The type of an operand whose other one has the type `other`: the same, but what is added to a
/// time is an interval.
fn beside(op: Operator, other: DataType) -> DataType {
    match (op, &other) {
        (Operator::Plus, DataType::Timestamp(..) | DataType::Date32) => INTERVAL,
        _ => other,
    }
}

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

fn list_of(element: DataType) -> DataType {
    let element = match element {
        DataType::Dictionary(_, value) => *value,
        other => other,
    };
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

/// The type of an operand that is no parameter; `None`: it is one, or NULL.
fn kind_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    match expr {
        Expr::Placeholder(_) => None,
        Expr::Alias(alias) => kind_of(&alias.expr, schema),
        other => other.get_type(schema).ok().filter(|kind| *kind != DataType::Null),
    }
}

/// The plan with the values of `$1`, `$2`, ….
///
/// # Errors
///
/// If a value is missing or is none of the type of its parameter, or if there are too many.
pub(crate) fn with_values(plan: LogicalPlan, params: &[Value]) -> Result<LogicalPlan, SqlError> {
    if params.len() > limits::PARAMETERS {
        return Err(too_many());
    }
    let names = plan.get_parameter_names().map_err(|e| SqlError::from_datafusion(e, ""))?;
    if names.is_empty() {
        return Ok(plan);
    }
    let place = |name: &str| place_of(name).map_or(usize::MAX, |(at, _)| at);
    if let Some(name) = names.iter().find(|name| place(name) >= params.len()) {
        let name = name.trim_end_matches(LIST_MARK);
        let error = format!("the statement has a parameter {name} and the request no value for it");
        return Err(SqlError::bad(error).hint("send {\"sql\": …, \"params\": [ … ]}"));
    }
    let types = types_with(&plan, params)?;
    let mut values = Vec::new();
    for (at, value) in params.iter().enumerate() {
        values.push(parameter_value(value, types.get(at).and_then(Option::as_ref))?);
    }
    let fail = |e| SqlError::from_datafusion(e, "");
    let plan = if names.iter().any(|name| name.ends_with(LIST_MARK)) {
        expand_lists(plan, &values).map_err(fail)?
    } else {
        plan
    };
    let scalars: Vec<ScalarValue> = values.into_iter().map(ParameterValue::into_scalar).collect();
    plan.with_param_values(ParamValues::from(scalars)).map_err(fail)
}

/// The value of a parameter.
enum ParameterValue {
    One(ScalarValue),
    /// The elements of a list, and their type.
    List(Vec<ScalarValue>, DataType),
}

impl ParameterValue {
    fn into_scalar(self) -> ScalarValue {
        match self {
            ParameterValue::One(value) => value,
            ParameterValue::List(elements, kind) => {
                let elements = elements.into_iter().map(|element| match element {
                    ScalarValue::Null => ScalarValue::try_from(&kind).unwrap_or(ScalarValue::Null),
                    other => other,
                });
                let elements: Vec<ScalarValue> = elements.collect();
                ScalarValue::List(ScalarValue::new_list(&elements, &kind, true))
            }
        }
    }
}

/// The value of a request as one of type `kind`.
fn parameter_value(value: &Value, kind: Option<&DataType>) -> Result<ParameterValue, SqlError> {
    let element = match kind {
        Some(DataType::List(field)) => Some(field.data_type()),
        _ => None,
    };
    let list = match (value, element) {
        (Value::Array(list), _) => list.clone(),
        // Clients that are not told the type send the text of the list.
        (Value::String(text), Some(_)) => {
            let elements = lists::elements(text);
            let value = |element: Option<String>| element.map_or(Value::Null, Value::String);
            elements.ok_or_else(|| lists::malformed(text))?.into_iter().map(value).collect()
        }
        _ => return Ok(ParameterValue::One(scalar(value, kind)?)),
    };
    if list.len() > limits::PARAMETER_ELEMENTS {
        let error = format!("a parameter with more than {} elements", limits::PARAMETER_ELEMENTS);
        return Err(SqlError::new(super::SqlErrorKind::LimitReached, error)
            .hint("put them into a table, and join it"));
    }
    let elements: Vec<ScalarValue> =
        list.iter().map(|value| scalar(value, element)).collect::<Result<_, _>>()?;
    let first = elements.iter().map(ScalarValue::data_type).find(|kind| *kind != DataType::Null);
    Ok(ParameterValue::List(elements, first.unwrap_or(DataType::Utf8)))
}

/// The interval that a text is: a number and a unit at least, and no point in time.
fn interval_text(text: &str) -> Option<ScalarValue> {
    let is_time = text.len() >= 10 && text.is_char_boundary(5) && text[..5].ends_with('-');
    if is_time || !text.contains(char::is_alphabetic) && !text.contains(':') {
        return None;
    }
    let spelled = interval_without_clock(text).unwrap_or_else(|| text.to_owned());
    ScalarValue::Utf8(Some(spelled)).cast_to(&INTERVAL).ok()
}

/// A value that is no list. A text is parsed where a number or a bool is expected, as PostgreSQL
/// does with literals.
fn scalar(value: &Value, kind: Option<&DataType>) -> Result<ScalarValue, SqlError> {
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(b) => ScalarValue::Boolean(Some(*b)),
        Value::Number(n) => {
            n.as_i64().map_or_else(|| ScalarValue::Float64(n.as_f64()), |n| ScalarValue::Int64(Some(n)))
        }
        Value::String(text) => {
            let spelled = match kind {
                Some(DataType::Interval(_)) => interval_without_clock(text),
                Some(DataType::Timestamp(..)) => day_with_zone(text),
                _ => None,
            };
            let text = ScalarValue::Utf8(Some(spelled.unwrap_or_else(|| text.clone())));
            match kind {
                Some(kind @ DataType::Interval(_)) => {
                    text.cast_to(kind).map_err(|e| SqlError::from_datafusion(e, ""))?
                }
                Some(kind) if kind.is_integer() || kind.is_floating() || *kind == DataType::Boolean => {
                    text.cast_to(kind).map_err(|e| SqlError::from_datafusion(e, ""))?
                }
                _ => text,
            }
        }
        Value::Array(_) | Value::Object(_) => {
            return Err(SqlError::bad("a parameter is a text, a number, a bool, null or a list of these"));
        }
    })
}

/// Puts the elements of lists into the conditions `x IN ($1[])`.
fn expand_lists(plan: LogicalPlan, values: &[ParameterValue]) -> Result<LogicalPlan> {
    let expanded = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|part| Ok(expand_list(part, values)))?;
            Ok(if expr.transformed { expr.update_data(|expr| name.restore(expr)) } else { expr })
        })?;
        Ok(node)
    });
    expanded.map(|plan| plan.data)
}

/// The condition with all elements; others as they are.
fn expand_list(expr: Expr, values: &[ParameterValue]) -> Transformed<Expr> {
    let Expr::InList(InList { expr, list, negated }) = expr else { return Transformed::no(expr) };
    let [item] = list.as_slice() else {
        return Transformed::no(Expr::InList(InList { expr, list, negated }));
    };
    let value = marked(item).and_then(|at| values.get(at));
    let elements = match value {
        None => return Transformed::no(Expr::InList(InList { expr, list, negated })),
        Some(ParameterValue::One(value)) => std::slice::from_ref(value),
        Some(ParameterValue::List(elements, _)) => elements.as_slice(),
    };
    if elements.is_empty() {
        return Transformed::yes(Expr::Literal(ScalarValue::Boolean(Some(negated)), None));
    }
    let list = elements.iter().map(|element| with_element(item, element)).collect();
    Transformed::yes(Expr::InList(InList { expr, list, negated }))
}

/// The place of the list that an item of `IN` stands for.
fn marked(item: &Expr) -> Option<usize> {
    match item {
        Expr::Placeholder(parameter) => {
            let (at, is_list) = place_of(&parameter.id)?;
            is_list.then_some(at)
        }
        Expr::Cast(cast) => marked(&cast.expr),
        _ => None,
    }
}

/// The item with an element in the place of its parameter.
fn with_element(item: &Expr, element: &ScalarValue) -> Expr {
    match item {
        Expr::Cast(cast) => {
            let mut cast = cast.clone();
            *cast.expr = with_element(&cast.expr, element);
            Expr::Cast(cast)
        }
        _ => Expr::Literal(element.clone(), None),
    }
}
