//! Standing statements: their result is kept current, for a rule, an alert or a subscription.
//!
//! There are three classes ([`StandingClass`]). A statement that the binder can express whole is a
//! live plan, and shares its steps with PromQL. One over lists of the server is a dataflow
//! ([`crate::dataflow`]). Any other is run again when something that it reads has changed
//! ([`run_again`]).
//!
//! [`StandingRows`] is a statement whose rows are subscribed to. [`StandingSeries`] is one whose
//! rows are series: the condition of an alert, or what a rule records. The engine evaluates both as
//! plans; a plan that is only a statement ([`engine::plan::statement`]) is answered by
//! [`StatementAnswers`].

mod answers;
pub(crate) mod leaf_rows;
pub(crate) mod leaves;
pub(crate) mod lists;
pub(crate) mod run_again;
pub(crate) mod samples;
mod turns;

pub use answers::StatementAnswers;

use crate::SqlEngine;
use crate::bind::{self, BoundQuery, Output, OutputColumn, Refusal, Times, refused};
use crate::dataflow::flow_plan;
use crate::error::{SqlError, SqlErrorKind};
use crate::output::{Cells, float_json, type_name};
use crate::planner::{PlannedQuery, plan};
use crate::relations::rows::{as_kind, histogram_json, labels_json};
use crate::session::{SqlRequest, on_large_stack, output_names};
use crate::values;
use datafusion::arrow::array::{ArrayRef, Float64Array};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use engine::functions::{Kernel, OperatorFunction};
use engine::plan::as_promql::as_promql;
use engine::plan::statement::{RowForm, plan_of_statement};
use engine::plan::{Plan, PlanOp};
use engine::query::QueryOptions;
use engine::types::histogram_column::Sample;
use language::{ShownLabel, ShownLabels, ShownValue};
use samples::{ColumnRole, role};
use std::sync::Arc;
use storage::model::Labels;
use storage::model::labels::METRIC_NAME;

/// A column of a standing statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingColumn {
    /// Its name.
    pub name: String,
    /// Its type, as PostgreSQL calls it.
    pub kind: &'static str,
}

/// The class of a standing statement: how its result is kept current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandingClass {
    /// A live plan, with its PromQL.
    Plan(String),
    /// A dataflow over lists of the server, with its state in words.
    Dataflow(Vec<String>),
    /// Run again after changes, with the reason why it is no plan.
    RunsAgain(String),
}

/// A standing statement whose rows a client gets.
#[derive(Debug)]
pub struct StandingRows {
    /// The plan of its view.
    pub plan: Plan,
    /// Its class.
    pub class: StandingClass,
    /// The columns of its rows.
    pub columns: Vec<StandingColumn>,
    /// Warnings about the text.
    pub warnings: Vec<String>,
    /// The columns of a live plan; `None`: the labels of a row are its cells.
    outputs: Option<Vec<OutputColumn>>,
    /// For an aggregate without GROUP BY: the row that the statement has when its plan has none.
    over_nothing: Option<String>,
}

/// A statement whose rows are series: the condition of an alert, or what a rule records.
#[derive(Clone, Debug)]
pub struct StandingSeries {
    /// The plan of its view.
    pub plan: Plan,
    /// Its class.
    pub class: StandingClass,
    /// The labels of its rows.
    pub labels: ShownLabels,
}

/// The plan of a statement, and whether the binder can express it.
struct StandingPlan {
    plan: LogicalPlan,
    names: Vec<String>,
    bound: Result<BoundQuery, Refusal>,
    warnings: Vec<String>,
}

/// Binds a statement that is evaluated at each tick, or says why it is no plan.
pub(crate) fn plan_class(plan: &LogicalPlan, times: Times) -> Result<BoundQuery, Refusal> {
    if times != Times::Now {
        return refused("it names times of its own");
    }
    bind::bind(plan, times)
}

impl SqlEngine {
    /// Prepares a standing statement whose rows a client gets. Reads no data.
    pub fn standing_rows(&self, text: &str) -> Result<StandingRows, SqlError> {
        on_large_stack(|| {
            let StandingPlan { plan, names, bound, warnings } = self.classified(text)?;
            let kinds = plan.schema().fields().iter().map(|field| field.data_type());
            let columns = names.into_iter().zip(kinds);
            let columns = columns.map(|(name, kind)| StandingColumn { name, kind: type_name(kind) });
            let mut columns: Vec<StandingColumn> = columns.collect();
            Ok(match bound {
                Ok(mut bound) => {
                    // `ts` is the time of the tick, which each message has anyway. With this
                    // column, each row would change at each tick.
                    let mut outputs = bound.columns.iter();
                    columns.retain(|_| outputs.next().is_some_and(|column| column.what != Output::Time));
                    bound.columns.retain(|column| column.what != Output::Time);
                    let mut rows = StandingRows {
                        class: StandingClass::Plan(as_promql(&bound.plan)),
                        plan: bound.plan,
                        columns,
                        warnings,
                        outputs: Some(bound.columns),
                        over_nothing: None,
                    };
                    rows.over_nothing =
                        bound.over_nothing.map(|nothing| rows.row_over_nothing(&nothing)).transpose()?;
                    rows
                }
                Err(Refusal(why)) => StandingRows {
                    class: self.class_of(text, why),
                    plan: plan_of_statement(text, RowForm::Cells),
                    columns,
                    warnings,
                    outputs: None,
                    over_nothing: None,
                },
            })
        })
    }

    /// Prepares a standing statement that is the condition of an alert, or that a rule records. Its
    /// texts are labels, its one number is the value. With `must_list_all`, a live plan is used
    /// only if the statement lists all labels of the plan. Reads no data.
    pub fn standing_series(&self, text: &str, must_list_all: bool) -> Result<StandingSeries, SqlError> {
        on_large_stack(|| {
            let classified = match self.classified(text) {
                // A table is missing. Each evaluation reports that, until the table is back.
                Err(error) if error.kind == SqlErrorKind::Unavailable => {
                    return Ok(StandingSeries {
                        plan: plan_of_statement(text, RowForm::Series),
                        class: StandingClass::RunsAgain(error.text),
                        labels: ShownLabels::All,
                    });
                }
                classified => classified?,
            };
            let StandingPlan { plan, names, bound, .. } = classified;
            if is_global_aggregate(&plan) || bound.as_ref().is_ok_and(|bound| bound.over_nothing.is_some()) {
                return Err(SqlError::bad(
                    "an aggregate without GROUP BY has a row even over nothing, so this always holds",
                )
                .hint("add HAVING, such as HAVING count(*) > 0, or GROUP BY"));
            }
            check_columns(&plan, &names)?;
            let series = bound.and_then(|bound| series_of(&bound, &names, must_list_all));
            Ok(match series {
                Ok(series) => series,
                Err(Refusal(why)) => StandingSeries {
                    plan: plan_of_statement(text, RowForm::Series),
                    class: self.class_of(text, why),
                    labels: ShownLabels::All,
                },
            })
        })
    }

    /// The class of a statement that is no plan, for the reason `why`.
    fn class_of(&self, text: &str, why: String) -> StandingClass {
        match flow_plan(self, text) {
            Ok(Ok(flow)) => StandingClass::Dataflow(flow.arranged()),
            // An error of now may be gone later, so the evaluation reports it.
            Ok(Err(_)) | Err(_) => StandingClass::RunsAgain(why),
        }
    }

    fn classified(&self, text: &str) -> Result<StandingPlan, SqlError> {
        let request = SqlRequest { text: text.to_owned(), standing: true, ..SqlRequest::default() };
        let context = self.context(&request, &QueryOptions::default());
        let PlannedQuery { plan, explain, .. } = plan(self, &context, text)?;
        if explain.is_some() {
            return Err(SqlError::bad("EXPLAIN does not stand").hint("leave EXPLAIN out"));
        }
        if !plan.get_parameter_names().is_ok_and(|names| names.is_empty()) {
            return Err(
                SqlError::bad("a statement that stands has no parameters").hint("write the values into it")
            );
        }
        let times = bind::find_times(&plan, request.time)?;
        // A live plan would not follow a view that is replaced.
        let view = context.reads.lock().views.keys().next().cloned();
        let bound = match view {
            Some(view) => refused(format!("the view {view} may be replaced")),
            None => plan_class(&plan, times),
        };
        let names = output_names(&plan);
        let warnings = context.warnings.lock().clone();
        Ok(StandingPlan { plan, names, bound, warnings })
    }
}

/// Whether the rows are those of an aggregate without groups, without `HAVING`.
fn is_global_aggregate(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(node) => node.group_expr.is_empty(),
        LogicalPlan::Projection(_) | LogicalPlan::Sort(_) | LogicalPlan::SubqueryAlias(_) => {
            plan.inputs().first().is_some_and(|input| is_global_aggregate(input))
        }
        _ => false,
    }
}

/// A row that is a series has at most one number, and each of its labels has a name.
fn check_columns(plan: &LogicalPlan, names: &[String]) -> Result<(), SqlError> {
    let mut numbers = Vec::new();
    let mut labels = Vec::new();
    for (name, field) in names.iter().zip(plan.schema().fields()) {
        match role(name, field.data_type()) {
            ColumnRole::Number => numbers.push(name.as_str()),
            ColumnRole::Label => labels.push(name.as_str()),
            ColumnRole::AllLabels | ColumnRole::Nothing => {}
        }
    }
    if numbers.len() > 1 {
        let error = format!(
            "an alert or a series has one number, here are {}: {}",
            numbers.len(),
            numbers.join(", ")
        );
        return Err(SqlError::bad(error).hint("select one; conditions on the others go to WHERE or HAVING"));
    }
    if let Some(name) =
        labels.iter().find(|name| name.is_empty() || **name == METRIC_NAME || **name == "?column?")
    {
        return Err(
            SqlError::bad(format!("a column called {name:?} cannot be a label")).hint("name it with AS")
        );
    }
    Ok(())
}

/// A live plan as series; otherwise why it is none.
fn series_of(bound: &BoundQuery, names: &[String], must_list_all: bool) -> Result<StandingSeries, Refusal> {
    let mut listed = Vec::new();
    let mut is_all = false;
    for (name, column) in names.iter().zip(&bound.columns) {
        let value = match &column.what {
            Output::Label(label) => ShownValue::Label(label.clone()),
            Output::Metric => ShownValue::Label(METRIC_NAME.to_owned()),
            Output::Constant(value) => match values::scalar_text(value) {
                Some(text) => ShownValue::Text(text),
                None if is_one(&bound.plan) => continue,
                None => return refused("its number is not that of the plan"),
            },
            Output::Labels => {
                is_all = true;
                continue;
            }
            Output::Value if is_number(&column.kind) => continue,
            Output::Value => return refused("its number is shown as another type"),
            Output::Time | Output::Histogram => continue,
        };
        listed.push(ShownLabel { name: name.clone(), value });
    }
    let labels = match (is_all, listed.is_empty()) {
        (true, true) => ShownLabels::All,
        (true, false) => return refused("it shows all labels and single ones"),
        (false, _) => ShownLabels::Listed(listed),
    };
    if must_list_all && !lists_all(&bound.plan, &labels) {
        return refused("it does not list just the labels of its plan");
    }
    let class = StandingClass::Plan(as_promql(&bound.plan));
    Ok(StandingSeries { plan: bound.plan.clone(), class, labels })
}

/// Whether each value of a plan is 1.
fn is_one(plan: &Plan) -> bool {
    let PlanOp::Call { function, .. } = &plan.op else { return false };
    matches!(function.0.kernel, Kernel::Operator(OperatorFunction::Absent | OperatorFunction::AbsentOverTime))
}

fn is_number(kind: &DataType) -> bool {
    kind.is_floating() || kind.is_integer()
}

/// Whether the labels are those that the rows of the plan have.
fn lists_all(plan: &Plan, labels: &ShownLabels) -> bool {
    let ShownLabels::Listed(listed) = labels else { return true };
    let PlanOp::Aggregate(aggregate) = &plan.op else { return false };
    if aggregate.grouping.without {
        return false;
    }
    let is_same = |shown: &ShownLabel| shown.value == ShownValue::Label(shown.name.clone());
    let mut names: Vec<&String> = listed.iter().map(|shown| &shown.name).collect();
    names.sort_unstable();
    listed.iter().all(is_same) && names == aggregate.grouping.labels.iter().collect::<Vec<_>>()
}

impl StandingRows {
    /// A row of the view as an object of JSON, and how many equal ones it stands for.
    pub fn row(&self, labels: &Labels, sample: &Sample) -> (String, i64) {
        let Some(outputs) = &self.outputs else {
            let count = if let Sample::Float(count) = sample { *count as i64 } else { 1 };
            return (
                self.object(|i, out| out.push_str(labels.get(&samples::cell_name(i)).unwrap_or("null"))),
                count,
            );
        };
        let cell = |i: usize, out: &mut String| match outputs.get(i) {
            Some(column) => plan_cell(column, labels, sample, out),
            None => out.push_str("null"),
        };
        (self.object(cell), 1)
    }

    /// The row that there is when the view has none.
    pub fn over_nothing(&self) -> Option<&str> {
        self.over_nothing.as_deref()
    }

    fn row_over_nothing(&self, nothing: &ScalarValue) -> Result<String, SqlError> {
        let mut cells = Vec::new();
        for column in self.outputs.iter().flatten() {
            let value = match &column.what {
                Output::Constant(value) => value,
                _ => nothing,
            };
            cells.push(scalar_json(value, &column.kind)?);
        }
        Ok(self.object(|i, out| out.push_str(cells.get(i).map_or("null", String::as_str))))
    }

    fn object(&self, cell: impl Fn(usize, &mut String)) -> String {
        let mut out = String::from("{");
        for (i, column) in self.columns.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(&serde_json::Value::from(column.name.as_str()).to_string());
            out.push(':');
            cell(i, &mut out);
        }
        out.push('}');
        out
    }
}

/// A cell of a row of a live plan.
fn plan_cell(column: &OutputColumn, labels: &Labels, sample: &Sample, out: &mut String) {
    let text = |text: &str, out: &mut String| out.push_str(&serde_json::Value::from(text).to_string());
    match (&column.what, sample) {
        (Output::Label(name), _) => text(labels.get(name).unwrap_or(""), out),
        (Output::Metric, _) => text(labels.name(), out),
        (Output::Labels, _) => text(&labels_json(labels), out),
        (Output::Value, Sample::Float(value)) if column.kind == DataType::Float64 => float_json(*value, out),
        (Output::Value, Sample::Float(value)) => {
            out.push_str(&scalar_json(&ScalarValue::Float64(Some(*value)), &column.kind).unwrap_or_default());
        }
        (Output::Histogram, Sample::Histogram(histogram)) => text(&histogram_json(histogram), out),
        (Output::Constant(value), _) => {
            out.push_str(&scalar_json(value, &column.kind).unwrap_or_default());
        }
        (Output::Value | Output::Histogram | Output::Time, _) => out.push_str("null"),
    }
}

/// A value as a column of this type, in JSON.
fn scalar_json(value: &ScalarValue, kind: &DataType) -> Result<String, SqlError> {
    let array: ArrayRef = match value {
        ScalarValue::Float64(value) => Arc::new(Float64Array::from(vec![*value])),
        value => value.to_array().map_err(|e| SqlError::from_datafusion(e, ""))?,
    };
    let array = as_kind(&array, kind)?;
    let mut out = String::new();
    Cells::from_array(&array)?.json(0, &mut out);
    Ok(out)
}
