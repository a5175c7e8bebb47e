//! The tables of DataFusion that a statement reads: metrics (`up`), raw samples (`samples.up`),
//! lists of the server (`meta.targets`), uploaded tables, and results of PromQL.
//!
//! A row of a metric is a series at an evaluation time; a row of `samples.…` is a stored sample.
//! [`Scan`] is the operator that reads: conditions on labels become matchers, and of raw samples
//! only the requested times are read. [`rows`] makes the record batches, [`meta`] has the lists.

mod list_rows;
mod meta;
mod reads;
mod row_join;
pub(crate) mod rows;
pub(crate) mod series_list;
pub(crate) mod series_times;

pub(crate) use list_rows::ListRows;
pub use meta::{LateLists, META, MetaColumn, MetaKind, MetaRow, MetaSource, MetaTable};
pub(crate) use reads::{EvaluationInputs, Reads};

use super::bind::{self, Times, label_matchers};
use super::catalog::ListedColumn;
use super::codes::{CODE, CodedColumns, TextCodes};
use super::error::SqlError;
use super::values;
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Int32Type, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{HashSet, Result};
use datafusion::datasource::DefaultTableSource;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableSource, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use engine::plan::Plan;
use engine::query::QueryOptions;
use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use storage::model::labels::METRIC_NAME;
use storage::model::{Matcher, TimeMs};

/// The context of one statement, shared by its relations.
pub(crate) struct Context {
    pub(crate) sources: super::SqlSources,
    pub(crate) options: QueryOptions,
    /// The time of the evaluation, ms.
    now: AtomicI64,
    /// Whether this is a standing statement. Then its columns must not depend on the series that
    /// are stored now.
    pub(crate) standing: bool,
    /// The evaluation times, once the plan is known.
    pub(crate) times: OnceLock<Times>,
    /// Warnings about the statement and its evaluation.
    pub(crate) warnings: parking_lot::Mutex<Vec<String>>,
    /// The relations that the statement reads, collected while it is planned.
    pub(crate) reads: parking_lot::Mutex<Reads>,
    /// Current rows that are read instead of history and lists, when a standing statement runs
    /// again.
    pub(crate) current: parking_lot::Mutex<EvaluationInputs>,
}

impl Context {
    /// The context of a statement that is evaluated at `now`.
    pub(crate) fn new(
        sources: super::SqlSources,
        options: QueryOptions,
        now: TimeMs,
        standing: bool,
    ) -> Context {
        Context {
            sources,
            options,
            now: AtomicI64::new(now),
            standing,
            times: OnceLock::new(),
            warnings: parking_lot::Mutex::default(),
            reads: parking_lot::Mutex::default(),
            current: parking_lot::Mutex::default(),
        }
    }

    /// The time of the evaluation.
    pub(crate) fn now(&self) -> TimeMs {
        self.now.load(Relaxed)
    }

    /// Prepares the next evaluation, at `now`, with the inputs `current`.
    pub(crate) fn begin(&self, now: TimeMs, current: EvaluationInputs) {
        self.now.store(now, Relaxed);
        *self.current.lock() = current;
        self.warnings.lock().clear();
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// The kind of a column of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// The evaluation time, or that of the sample.
    Time,
    /// A label.
    Label(String),
    /// The name of the metric.
    Metric,
    /// All labels but the name, as JSON.
    Labels,
    /// The number.
    Value,
    /// The native histogram, as JSON.
    Histogram,
}

/// An additional column of a metric: a number that is computed from the samples of a series, such
/// as a rate.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) name: String,
    pub(crate) plan: Plan,
}

/// The kind of a relation.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A metric at the evaluation times; `None`: all of them.
    Metric(Option<String>),
    /// The stored samples of a metric; `None`: of all.
    Samples(Option<String>),
    /// A list of the server.
    Meta(&'static MetaTable),
    /// The result of a PromQL query.
    Promql(Plan),
    /// The result of a part of the statement that the binder has made a plan of.
    Bound(Arc<bind::BoundQuery>),
}

/// A relation.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) kind: Kind,
    fields: Vec<(String, Field)>,
    leaves: Vec<Leaf>,
    schema: SchemaRef,
    /// Which texts are given as numbers; `None`: none is.
    coded: Option<CodedTexts>,
    pub(crate) context: Arc<Context>,
}

/// Columns of texts that a relation gives as numbers.
#[derive(Clone, Debug)]
struct CodedTexts {
    codes: Arc<TextCodes>,
    places: BTreeSet<usize>,
}

impl Relation {
    /// A relation of series with these columns.
    pub(crate) fn of_series(kind: Kind, labels: &BTreeSet<String>, context: Arc<Context>) -> Relation {
        let mut fields = vec![("ts".to_owned(), Field::Time)];
        // Of one metric the name is the same in each row, and stands in the statement.
        if matches!(kind, Kind::Metric(None) | Kind::Samples(None)) {
            fields.push(("metric".to_owned(), Field::Metric));
        }
        for label in labels {
            let is_taken = RESERVED.contains(&label.as_str());
            let name = if is_taken { format!("label_{label}") } else { label.clone() };
            fields.push((name, Field::Label(label.clone())));
        }
        let rest = [("value", Field::Value), ("histogram", Field::Histogram), ("labels", Field::Labels)];
        fields.extend(rest.map(|(name, field)| (name.to_owned(), field)));
        Relation::new(kind, fields, Vec::new(), context)
    }

    /// A list of the server; `labels` are its label columns.
    pub(crate) fn of_meta(
        table: &'static MetaTable,
        labels: &BTreeSet<String>,
        context: Arc<Context>,
    ) -> Relation {
        let known = |name: &String| table.columns.iter().any(|column| column.name == name);
        // A label with the name of a column of the list is not shown twice; `labels` has it.
        let open = labels.iter().filter(|name| table.is_open && !known(name));
        let fields = open.map(|name| (name.clone(), Field::Label(name.clone()))).collect();
        Relation::new(Kind::Meta(table), fields, Vec::new(), context)
    }

    /// The answer of a plan.
    pub(crate) fn of_bound(bound: bind::BoundQuery, context: Arc<Context>) -> Relation {
        Relation::new(Kind::Bound(Arc::new(bound)), Vec::new(), Vec::new(), context)
    }

    fn new(kind: Kind, fields: Vec<(String, Field)>, leaves: Vec<Leaf>, context: Arc<Context>) -> Relation {
        let mut columns = Vec::new();
        match &kind {
            Kind::Meta(table) => {
                columns
                    .extend(table.columns.iter().map(|c| ArrowField::new(c.name, c.kind.data_type(), true)));
            }
            Kind::Bound(bound) => {
                let column = |(i, c): (usize, &bind::OutputColumn)| {
                    ArrowField::new(format!("c{i}"), c.kind.clone(), true)
                };
                columns.extend(bound.columns.iter().enumerate().map(column));
            }
            _ => {}
        }
        for (name, field) in &fields {
            let is_sample = matches!(kind, Kind::Samples(_));
            let kind = match field {
                Field::Time => timestamp(),
                // A series has thousands of raw samples with the same labels, but one row per
                // evaluation time.
                Field::Label(_) | Field::Metric | Field::Labels if is_sample => dictionary(),
                Field::Label(_) | Field::Metric | Field::Labels | Field::Histogram => DataType::Utf8,
                Field::Value => DataType::Float64,
            };
            // Labels are never NULL, but `IS NULL` shall mean "empty". So the columns are nullable,
            // or the optimizer would remove the condition.
            let nullable = !matches!(field, Field::Time);
            columns.push(ArrowField::new(name, kind, nullable));
        }
        columns.extend(leaves.iter().map(|leaf| ArrowField::new(&leaf.name, DataType::Float64, true)));
        let schema = Arc::new(Schema::new(columns));
        Relation { kind, fields, leaves, schema, coded: None, context }
    }

    /// The same relation with numbers in the place of the texts of these columns; `None`: it has
    /// no such column.
    pub(crate) fn with_codes(&self, names: &HashSet<String>, codes: &Arc<TextCodes>) -> Option<Relation> {
        let is_coded =
            |field: &ArrowField| names.contains(field.name()) && *field.data_type() == DataType::Utf8;
        let fields = self.schema.fields().iter().enumerate();
        let places: BTreeSet<usize> = fields.filter(|(_, field)| is_coded(field)).map(|(at, _)| at).collect();
        if places.is_empty() {
            return None;
        }
        let coded = |(at, field): (usize, &Arc<ArrowField>)| {
            let field = field.as_ref().clone();
            if places.contains(&at) { field.with_data_type(CODE) } else { field }
        };
        let fields: Vec<ArrowField> = self.schema.fields().iter().enumerate().map(coded).collect();
        let schema = Arc::new(Schema::new(fields));
        Some(Relation { schema, coded: Some(CodedTexts { codes: codes.clone(), places }), ..self.clone() })
    }

    /// The same relation with one more number.
    pub(crate) fn with_leaf(&self, name: String, plan: Plan) -> Relation {
        let mut leaves = self.leaves.clone();
        // Names are made of plans: one of the same name is the same number.
        if !leaves.iter().any(|leaf| leaf.name == name) {
            leaves.push(Leaf { name, plan });
        }
        Relation::new(self.kind.clone(), self.fields.clone(), leaves, self.context.clone())
    }

    /// The relation that a scan of the planner reads.
    pub(crate) fn of_source(source: &dyn TableSource) -> Option<&Relation> {
        let source = source.downcast_ref::<DefaultTableSource>()?;
        (source.table_provider.as_ref() as &dyn Any).downcast_ref::<Relation>()
    }

    /// Its columns; `type_name` names their types.
    pub(crate) fn listed_columns(&self, type_name: impl Fn(&DataType) -> &'static str) -> Vec<ListedColumn> {
        let column = |field: &Arc<ArrowField>| {
            // A label that is missing is empty, and every row has a time.
            let never_null =
                matches!(self.field(field.name()), Some(Field::Label(_) | Field::Time | Field::Labels));
            let kind = type_name(field.data_type());
            ListedColumn { name: field.name().clone(), kind, is_nullable: !never_null }
        };
        self.schema.fields().iter().map(column).collect()
    }

    /// Whether its rows are series at evaluation times.
    pub(crate) fn is_of_metric(&self) -> bool {
        matches!(self.kind, Kind::Metric(_))
    }

    /// The columns of a metric, in order.
    pub(crate) fn fields(&self) -> Vec<Field> {
        self.fields.iter().map(|(_, field)| field.clone()).collect()
    }

    /// The names of its columns that are labels of series; of a list of the server none.
    pub(crate) fn labels(&self) -> Vec<String> {
        let is_of_series = matches!(self.kind, Kind::Metric(_) | Kind::Samples(_));
        let labels = self.fields.iter().filter(|(_, field)| is_of_series && matches!(field, Field::Label(_)));
        labels.map(|(name, _)| name.clone()).collect()
    }

    /// The column with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|(column, _)| column == name).map(|(_, field)| field)
    }

    /// The place of the column with this name.
    pub(crate) fn place_of(&self, name: &str) -> Option<usize> {
        self.schema.index_of(name).ok()
    }

    /// The matchers of its selector.
    pub(crate) fn matchers(&self) -> Vec<Matcher> {
        match &self.kind {
            Kind::Metric(Some(name)) | Kind::Samples(Some(name)) => vec![Matcher::equal(METRIC_NAME, name)],
            _ => Vec::new(),
        }
    }

    /// The operator that reads these columns of the rows that satisfy the conditions.
    pub(crate) fn reading(
        &self,
        projection: Vec<usize>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut scan = Scan::new(self, projection)?;
        let schema = scan.schema.clone();
        for filter in filters {
            if let Some((from, to)) = self.bounds(filter) {
                scan.from = scan.from.max(from);
                scan.to = scan.to.min(to);
            } else if let Some(matchers) = self.pushed(filter) {
                scan.matchers.extend(matchers);
            }
        }
        self.context.reads.lock().add(&scan);
        let partition: Arc<dyn PartitionStream> = Arc::new(scan);
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![partition], None, None, false, limit)?))
    }

    /// The relation in PromQL, for `EXPLAIN`.
    pub(crate) fn as_text(&self) -> String {
        let matchers = self.matchers();
        let selector = engine::plan::Selector { matchers, offset: 0, at: None, extension: None };
        let op = engine::plan::PlanOp::Instant(selector);
        let value = engine::plan::PlanNode { op, span: engine::plan::Span::default() };
        let plans = [Arc::new(value)].into_iter().chain(self.leaves.iter().map(|leaf| leaf.plan.clone()));
        plans.map(|plan| engine::plan::as_promql::as_promql(&plan)).collect::<Vec<_>>().join(", ")
    }

    /// The label that a column expression names.
    fn label_of(&self, expr: &Expr) -> Option<String> {
        let Expr::Column(column) = expr else { return None };
        match self.field(&column.name)? {
            Field::Label(name) => Some(name.clone()),
            Field::Metric => Some(METRIC_NAME.to_owned()),
            _ => None,
        }
    }

    /// The matchers that a condition is; `None`: the relation does not take it.
    pub(crate) fn pushed(&self, filter: &Expr) -> Option<Vec<Matcher>> {
        match &self.kind {
            Kind::Metric(_) | Kind::Samples(_) => label_matchers(filter, &|expr| self.label_of(expr)),
            Kind::Meta(table) if table.lists_series => label_matchers(filter, &|expr| match expr {
                Expr::Column(column) if column.name == "metric" => Some(METRIC_NAME.to_owned()),
                _ => None,
            }),
            _ => None,
        }
    }

    /// The bounds that a condition on the time of samples is.
    fn bounds(&self, filter: &Expr) -> Option<(TimeMs, TimeMs)> {
        let Expr::BinaryExpr(binary) = filter else { return None };
        // The times of a metric are those of the evaluation, which no condition on rows changes.
        if !matches!(self.kind, Kind::Samples(_)) {
            return None;
        }
        let is_time = |expr: &Expr| matches!(expr, Expr::Column(column) if self.field(&column.name) == Some(&Field::Time));
        let t = match binary.left.as_ref() {
            left if is_time(left) => values::scalar_time(values::literal(&binary.right)?)?,
            // `extract(epoch FROM ts)`, as Grafana's macros write it.
            Expr::ScalarFunction(part) if part.name() == "date_part" => {
                let [unit, time] = part.args.as_slice() else { return None };
                if !is_time(time) || !values::text(unit)?.eq_ignore_ascii_case("epoch") {
                    return None;
                }
                values::seconds(&binary.right)?
            }
            _ => return None,
        };
        Some(match binary.op {
            Operator::GtEq => (t, TimeMs::MAX),
            // Times are whole milliseconds.
            Operator::Gt => (t + 1, TimeMs::MAX),
            Operator::LtEq => (TimeMs::MIN, t),
            Operator::Lt => (TimeMs::MIN, t - 1),
            Operator::Eq => (t, t),
            _ => return None,
        })
    }
}

/// Columns of a metric that are no labels. A label with one of these names is the column
/// `label_NAME`.
const RESERVED: &[&str] = &["ts", "value", "histogram", "labels", "metric"];

/// The type of times.
pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The type of labels of raw samples: few different texts in many rows.
fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The type of dictionary keys.
type Keys = Int32Type;

/// The physical operator that reads a relation.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    relation: Relation,
    projection: Vec<usize>,
    schema: SchemaRef,
    matchers: Vec<Matcher>,
    from: TimeMs,
    to: TimeMs,
    /// The joined rows of several live views, cached until the set of rows changes.
    joined: Arc<parking_lot::Mutex<Option<row_join::LeafJoin>>>,
    /// Numbers of texts, cached until the texts change.
    numbers: CodedColumns,
}

impl Scan {
    /// A scan of these columns.
    pub(crate) fn new(relation: &Relation, projection: Vec<usize>) -> Result<Scan> {
        Ok(Scan {
            schema: Arc::new(relation.schema.project(&projection)?),
            projection,
            matchers: relation.matchers(),
            relation: relation.clone(),
            from: TimeMs::MIN,
            to: TimeMs::MAX,
            joined: Arc::default(),
            numbers: CodedColumns::default(),
        })
    }

    /// Its columns.
    pub(crate) fn columns(&self) -> &datafusion::arrow::datatypes::Fields {
        self.schema.fields()
    }

    /// The relation that the scan reads.
    pub(crate) fn kind(&self) -> &Kind {
        &self.relation.kind
    }

    /// Lists series.
    pub(crate) fn catalog(&self) -> &dyn engine::query::SeriesCatalog {
        self.relation.context.sources.catalog.as_ref()
    }

    /// Sets the evaluation time to `t`.
    pub(crate) fn set_time(&self, t: TimeMs) {
        self.relation.context.begin(t, EvaluationInputs::default());
    }

    /// Reads lists of the server.
    pub(crate) fn lists(&self) -> &dyn MetaSource {
        self.relation.context.sources.meta.as_ref()
    }
}

#[async_trait]
impl TableProvider for Relation {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            let is_pushed = self.pushed(filter).is_some() || self.bounds(filter).is_some();
            // Exact: DataFusion does not check these rows again, so a condition is either taken as
            // a whole or not at all.
            if is_pushed {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.schema.fields().len()).collect();
        let projection: Vec<usize> = projection.cloned().unwrap_or_else(all);
        self.reading(projection, filters, limit)
    }
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let scan = self.clone();
        // The rows are read when the first batch is asked for.
        let batches = futures::stream::once(async move { scan.batches() });
        let batches = futures::StreamExt::flat_map(batches, |batches| {
            let batches: Box<dyn Iterator<Item = Result<RecordBatch, SqlError>> + Send> = match batches {
                Ok(batches) => batches,
                Err(e) => Box::new(std::iter::once(Err(e))),
            };
            futures::stream::iter(batches.map(|batch| batch.map_err(Into::into)))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}
