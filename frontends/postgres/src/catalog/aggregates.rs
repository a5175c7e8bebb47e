//! Aggregates of catalog queries (`count`, `array_agg`, `string_agg`, …) and the one window
//! function that clients use, `row_number()`. [`super::select`] makes the groups and calls it.

use super::expr::argument;
use super::names::last;
use super::value::Value;
use super::{Column, Evaluator, Scope};
use sql::SqlError;
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, OrderByExpr, WindowType,
};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// The arguments of an aggregate for one row of the group.
struct GroupMember {
    /// What `ORDER BY` inside of the aggregate sorts by.
    key: Vec<Value>,
    values: Vec<Value>,
}

/// A row of a partition of a window function.
struct PartitionRow {
    sort_key: Vec<Value>,
    /// The number of the row.
    at: usize,
}

impl Evaluator<'_> {
    /// The value of an aggregate over the group.
    pub(crate) fn aggregate(
        &self,
        name: &str,
        function: &Function,
        scope: &Scope<'_>,
    ) -> Result<Value, SqlError> {
        let Some(group) = scope.group else {
            return Err(SqlError::bad(format!("{name}() is not allowed here")));
        };
        let FunctionArguments::List(list) = &function.args else {
            return Err(SqlError::bad(format!("{name}() needs an argument")));
        };
        let is_star = matches!(list.args.first(), Some(FunctionArg::Unnamed(FunctionArgExpr::Wildcard)));
        let order = list.clauses.iter().find_map(|clause| match clause {
            FunctionArgumentClause::OrderBy(order) => Some(order.as_slice()),
            _ => None,
        });
        let mut members: Vec<GroupMember> = Vec::new();
        for row in group {
            let inner = Scope { row, group: None, windows: None, ..*scope };
            if let Some(filter) = &function.filter
                && !self.value(filter, &inner)?.is_true()
            {
                continue;
            }
            let mut values = Vec::new();
            if !is_star {
                for arg in &list.args {
                    values.push(self.value(argument(arg)?, &inner)?);
                }
            }
            members.push(GroupMember { key: self.sort_key(order.unwrap_or_default(), &inner)?, values });
        }
        if let Some(order) = order {
            members.sort_by(|a, b| compare_keys(&a.key, &b.key, order));
        }
        let mut values: Vec<Vec<Value>> = members.into_iter().map(|member| member.values).collect();
        if !is_star {
            let keeps_nulls = name == "array_agg";
            values.retain(|values| keeps_nulls || values.first().is_some_and(|value| !value.is_null()));
        }
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            let mut seen = HashSet::new();
            values.retain(|values| {
                seen.insert(values.iter().map(Value::key).collect::<Vec<_>>().join("\u{1f}"))
            });
        }
        aggregate_value(name, &values)
    }

    /// The values that rows are sorted by.
    pub(crate) fn sort_key(&self, order: &[OrderByExpr], scope: &Scope<'_>) -> Result<Vec<Value>, SqlError> {
        order.iter().map(|by| self.value(&by.expr, scope)).collect()
    }

    /// The results of window functions, for each row: by the address of the function.
    pub(crate) fn windows(
        &self,
        functions: &[&Expr],
        columns: &[Column],
        rows: &[Vec<Value>],
        outer: Option<&Scope<'_>>,
    ) -> Result<Vec<HashMap<usize, Value>>, SqlError> {
        let mut results: Vec<HashMap<usize, Value>> = vec![HashMap::new(); rows.len()];
        for expr in functions {
            let Expr::Function(function) = expr else { continue };
            let name = last(&function.name);
            if name != "row_number" {
                return Err(SqlError::bad(format!("{name}() OVER is not available for the catalogs")));
            }
            let Some(WindowType::WindowSpec(window)) = &function.over else {
                return Err(SqlError::bad("named windows are not available for the catalogs"));
            };
            let mut partitions: HashMap<String, Vec<PartitionRow>> = HashMap::new();
            for (at, row) in rows.iter().enumerate() {
                let scope = Scope::new(columns, row, outer);
                let mut key = String::new();
                for by in &window.partition_by {
                    key.push_str(&self.value(by, &scope)?.key());
                    key.push('\u{1f}');
                }
                let sort_key = self.sort_key(&window.order_by, &scope)?;
                // A hash map, so the partitions come in any order. That is right: numbers begin
                // anew in each, and the rows keep their places.
                partitions.entry(key).or_default().push(PartitionRow { sort_key, at });
            }
            for mut members in partitions.into_values() {
                members.sort_by(|a, b| compare_keys(&a.sort_key, &b.sort_key, &window.order_by));
                for (number, row) in members.into_iter().enumerate() {
                    results[row.at].insert(std::ptr::from_ref(*expr) as usize, Value::Int(number as i64 + 1));
                }
            }
        }
        Ok(results)
    }
}

/// The order of two rows by what they are sorted by; NULLs come last, and first if it descends.
pub(crate) fn compare_keys(a: &[Value], b: &[Value], order: &[OrderByExpr]) -> Ordering {
    for ((a, b), by) in a.iter().zip(b).zip(order) {
        let descends = by.options.asc == Some(false);
        let found = match (a.is_null(), b.is_null()) {
            (false, false) => {
                let found = a.sort_order(b);
                if descends { found.reverse() } else { found }
            }
            (a_null, b_null) => {
                // PostgreSQL's default: NULL counts as greater than every value.
                let nulls_first = by.options.nulls_first.unwrap_or(descends);
                let found = a_null.cmp(&b_null);
                if nulls_first { found.reverse() } else { found }
            }
        };
        if found != Ordering::Equal {
            return found;
        }
    }
    Ordering::Equal
}

/// The value of an aggregate over the arguments of its rows.
fn aggregate_value(name: &str, values: &[Vec<Value>]) -> Result<Value, SqlError> {
    let first = || values.iter().filter_map(|values| values.first());
    Ok(match name {
        "count" => Value::Int(values.len() as i64),
        "min" => first().min_by(|a, b| a.sort_order(b)).cloned().unwrap_or(Value::Null),
        "max" => first().max_by(|a, b| a.sort_order(b)).cloned().unwrap_or(Value::Null),
        "sum" if values.is_empty() => Value::Null,
        // An integer as long as all arguments are integers, as in PostgreSQL.
        "sum" if first().all(|value| matches!(value, Value::Int(_))) => {
            Value::Int(first().filter_map(Value::to_int).fold(0, i64::saturating_add))
        }
        "sum" => Value::Float(first().filter_map(Value::to_float).sum()),
        // Over nothing: NULL, not an empty list, as in PostgreSQL. Only `count` is 0.
        "array_agg" if values.is_empty() => Value::Null,
        "array_agg" => Value::List(first().cloned().collect()),
        "string_agg" if values.is_empty() => Value::Null,
        "string_agg" => {
            let separator = values.first().and_then(|values| values.get(1)).map(Value::to_text);
            let texts: Vec<String> = first().map(Value::to_text).collect();
            Value::text(&texts.join(&separator.unwrap_or_default()))
        }
        "bool_and" | "every" if values.is_empty() => Value::Null,
        "bool_and" | "every" => Value::Bool(first().all(Value::is_true)),
        "bool_or" if values.is_empty() => Value::Null,
        "bool_or" => Value::Bool(first().any(Value::is_true)),
        other => return Err(SqlError::bad(format!("{other}() is not available for the catalogs"))),
    })
}
