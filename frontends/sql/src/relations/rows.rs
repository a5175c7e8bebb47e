//! Makes record batches of what a relation reads: results of plans, raw samples, lists.
//!
//! Called by [`super::Scan`] when DataFusion executes it. Labels are dictionary arrays, because
//! they repeat. [`super::row_join`] and [`super::series_list`] have two special cases.

use super::row_join::{Numbers, RowKey, join, label_column, live_rows};
use super::series_list::{begin_of_list, columns, pieces};
use super::{Field, Keys, Kind, Leaf, MetaKind, MetaRow, MetaTable, Relation, Scan};
use crate::bind::{BoundQuery, Grid, Output, Times};
use crate::codes::coded_column;
use crate::error::SqlError;
use crate::limits::BATCH_ROWS;
use crate::standing::leaf_rows::LeafRows;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, NullArray, RecordBatch,
    RecordBatchOptions, StringArray, TimestampMillisecondArray, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use engine::memory::MemoryReservation;
use engine::plan::{AggregateOp, Plan, PlanNode, PlanOp, Selector, Span};
use engine::query::{QueryValue, Series};
use serde_json::{Map, Value};
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, Matcher, NativeHistogram, TimeMs};

/// Batches that are made one by one.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, SqlError>> + Send>;

/// A sample of an answer.
#[derive(Clone, Debug)]
struct Sample {
    t: TimeMs,
    value: Option<f64>,
    histogram: Option<Arc<NativeHistogram>>,
}

/// A row of an answer.
#[derive(Clone, Debug)]
struct Row {
    labels: Labels,
    sample: Sample,
}

/// A row of a metric, with the numbers that are computed from its samples.
struct MetricRow {
    row: Row,
    /// In the order of the projection; `None`: NULL.
    numbers: Vec<Option<f64>>,
}

impl Scan {
    /// The rows of the scan.
    pub(super) fn batches(&self) -> Result<Batches, SqlError> {
        match &self.relation.kind {
            Kind::Metric(_) => self.metric(),
            Kind::Promql(plan) => {
                let rows = answers(&self.relation, plan)?;
                self.batches_of(rows.into_iter().map(|row| MetricRow { row, numbers: Vec::new() }).collect())
            }
            Kind::Samples(_) => self.samples(),
            Kind::Meta(table) => self.meta(table),
            Kind::Bound(bound) => bound_batches(&self.relation, bound, &self.projection, self),
        }
    }

    /// The plans whose answers it reads.
    pub(super) fn plans(&self) -> Vec<Plan> {
        match &self.relation.kind {
            Kind::Metric(_) => self.numbers().plans,
            Kind::Promql(plan) => vec![plan.clone()],
            Kind::Bound(bound) => vec![bound.plan.clone()],
            Kind::Samples(_) | Kind::Meta(_) => Vec::new(),
        }
    }

    /// The numbers of a metric that are asked for. A row exists if one of them does.
    fn numbers(&self) -> Numbers {
        let fields = &self.relation.fields;
        let asks =
            |field: &Field| self.projection.iter().any(|i| fields.get(*i).map(|f| &f.1) == Some(field));
        let columns = self.projection.iter().filter_map(|i| i.checked_sub(fields.len()));
        let columns: Vec<&Leaf> = columns.filter_map(|i| self.relation.leaves.get(i)).collect();
        // Without a number that is asked for, the value decides which rows there are, even if only
        // labels are shown.
        let has_value = asks(&Field::Value) || asks(&Field::Histogram) || columns.is_empty();
        let value = has_value.then(|| instant(self.matchers.clone()));
        let others = columns.into_iter().map(|column| with_matchers(&column.plan, &self.matchers));
        Numbers { plans: value.into_iter().chain(others).collect(), has_value }
    }

    /// A metric at the evaluation times: the value, and the numbers that are computed from its
    /// samples.
    fn metric(&self) -> Result<Batches, SqlError> {
        let numbers = self.numbers();
        if let Some(leaves) = live_rows(&self.relation, &numbers.plans) {
            return self.of_leaves(&leaves, numbers.has_value);
        }
        let answers = numbers.plans.iter().map(|plan| answers(&self.relation, plan));
        let answers = answers.collect::<Result<Vec<_>, _>>()?;
        let keys = answers
            .iter()
            .map(|rows| rows.iter().map(|row| RowKey::new(&row.labels, row.sample.t)).collect());
        let joined = join(keys.collect(), self.tells_metrics_apart());
        let row_of = |answer: usize, row: usize| {
            let at = joined.picks.get(answer)?.get(row).copied().flatten()?;
            answers.get(answer)?.get(at as usize)
        };
        let first = usize::from(numbers.has_value);
        let rows = joined.keys.iter().enumerate().map(|(i, key)| {
            // A rate may exist where the series has no value at that time: the row exists, its
            // value is NULL.
            let none = || Sample { t: key.t, value: None, histogram: None };
            let value = if numbers.has_value { row_of(0, i) } else { None };
            let sample = value.map_or_else(none, |row| row.sample.clone());
            let others = (first..answers.len()).map(|n| row_of(n, i).and_then(|row| row.sample.value));
            MetricRow { row: Row { labels: key.labels.clone(), sample }, numbers: others.collect() }
        });
        self.batches_of(rows.collect())
    }

    /// Functions drop the metric name, so rows of one metric are joined without it; rows of all
    /// metrics need it to be told apart.
    pub(super) fn tells_metrics_apart(&self) -> bool {
        matches!(self.relation.kind, Kind::Metric(None))
    }

    /// Rows as batches.
    fn batches_of(&self, rows: Vec<MetricRow>) -> Result<Batches, SqlError> {
        let scan = self.clone();
        let mut rows = rows.into_iter();
        Ok(Box::new(std::iter::from_fn(move || {
            let part: Vec<MetricRow> = rows.by_ref().take(BATCH_ROWS).collect();
            (!part.is_empty()).then(|| scan.batch_of_rows(&part))
        })))
    }

    fn batch_of_rows(&self, rows: &[MetricRow]) -> Result<RecordBatch, SqlError> {
        let fields = &self.relation.fields;
        let mut numbers = 0_usize..;
        let mut columns: Vec<ArrayRef> = Vec::new();
        for i in &self.projection {
            let Some((_, field)) = fields.get(*i) else {
                let number = numbers.next().unwrap_or_default();
                columns.push(Arc::new(rows.iter().map(|row| row.numbers[number]).collect::<Float64Array>()));
                continue;
            };
            columns.push(match field {
                Field::Time => times(rows.iter().map(|row| row.row.sample.t)),
                Field::Label(_) | Field::Metric | Field::Labels => {
                    label_column(field, rows.iter().map(|row| &row.row.labels))
                }
                Field::Value => {
                    Arc::new(rows.iter().map(|row| row.row.sample.value).collect::<Float64Array>())
                }
                Field::Histogram => Arc::new(
                    rows.iter()
                        .map(|row| row.row.sample.histogram.as_deref().map(histogram_json))
                        .collect::<StringArray>(),
                ),
            });
        }
        self.batch(columns, rows.len())
    }

    /// A batch of these columns, with numbers in the place of texts where the plan wants them.
    pub(super) fn batch(&self, mut columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, SqlError> {
        if let Some(coded) = &self.relation.coded {
            let places = self.projection.iter().enumerate().zip(&mut columns);
            for ((place, _), column) in places.filter(|((_, i), _)| coded.places.contains(i)) {
                *column = coded_column(&coded.codes, &self.numbers, place, column.clone());
            }
        }
        // `count(*)` asks for no column, and the number of rows cannot be taken from columns that
        // are not there.
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| SqlError::new(crate::SqlErrorKind::Internal, e.to_string()))
    }

    /// The stored samples between two times.
    fn samples(&self) -> Result<Batches, SqlError> {
        let to = self.to.min(self.relation.context.now());
        // Raw samples of all time are rarely meant, and would take the memory of the query before
        // anything is shown.
        if self.from == TimeMs::MIN {
            return Err(SqlError::bad("samples are read between two times: the statement names no begin")
                .hint("add WHERE ts >= now() - interval '1 hour'"));
        }
        if self.from > to {
            return Ok(Box::new(std::iter::empty()));
        }
        let selector = Selector { matchers: self.matchers.clone(), offset: 0, at: None, extension: None };
        // A range of PromQL excludes its beginning; one more millisecond includes it, as `ts >=`
        // does.
        let plan = node(PlanOp::Range { selector, range: to - self.from + 1 });
        let context = &self.relation.context;
        let answer = context.sources.engine.instant(&plan, to, &context.options)?;
        let memory = answer.memory.clone();
        let QueryValue::Matrix(series) = answer.value else { return Ok(Box::new(std::iter::empty())) };
        let scan = self.clone();
        let mut series = series.into_iter();
        // A batch has whole series, or a part of a long one.
        let mut pending: Option<(Labels, std::vec::IntoIter<Sample>)> = None;
        Ok(Box::new(std::iter::from_fn(move || {
            // The reservation is part of the iterator: the samples count until the last batch is
            // made.
            let _memory = &memory;
            let mut stretches: Vec<(Labels, Vec<Sample>)> = Vec::new();
            let mut rows = 0;
            while rows < BATCH_ROWS {
                if pending.is_none() {
                    let Some(next) = series.next() else { break };
                    pending = Some((next.labels.clone(), samples_of(next).into_iter()));
                }
                let Some((labels, samples)) = pending.as_mut() else { break };
                let part: Vec<Sample> = samples.by_ref().take(BATCH_ROWS - rows).collect();
                rows += part.len();
                if !part.is_empty() {
                    stretches.push((labels.clone(), part));
                }
                if samples.len() == 0 {
                    pending = None;
                }
            }
            (rows > 0).then(|| scan.batch_of_samples(&stretches, rows))
        })))
    }

    fn batch_of_samples(
        &self,
        stretches: &[(Labels, Vec<Sample>)],
        rows: usize,
    ) -> Result<RecordBatch, SqlError> {
        let keys = || {
            let keys =
                stretches.iter().enumerate().flat_map(|(i, s)| std::iter::repeat_n(i as i32, s.1.len()));
            Int32Array::from_iter_values(keys)
        };
        let samples = || stretches.iter().flat_map(|s| &s.1);
        let texts = |text: &dyn Fn(&Labels) -> String| -> Result<ArrayRef, SqlError> {
            let values = StringArray::from_iter_values(stretches.iter().map(|s| text(&s.0)));
            // Each label once per series, not once per sample: texts are most of what such a batch
            // would hold.
            let array = DictionaryArray::<Keys>::try_new(keys(), Arc::new(values));
            array
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| SqlError::new(crate::SqlErrorKind::Internal, e.to_string()))
        };
        let mut columns: Vec<ArrayRef> = Vec::new();
        for i in &self.projection {
            let Some((_, field)) = self.relation.fields.get(*i) else { continue };
            columns.push(match field {
                Field::Time => times(samples().map(|s| s.t)),
                Field::Label(name) => texts(&|labels| labels.get(name).unwrap_or("").to_owned())?,
                Field::Metric => texts(&|labels| labels.name().to_owned())?,
                Field::Labels => texts(&labels_json)?,
                Field::Value => Arc::new(samples().map(|s| s.value).collect::<Float64Array>()),
                Field::Histogram => Arc::new(
                    samples().map(|s| s.histogram.as_deref().map(histogram_json)).collect::<StringArray>(),
                ),
            });
        }
        self.batch(columns, rows)
    }

    fn meta(&self, table: &'static MetaTable) -> Result<Batches, SqlError> {
        let context = &self.relation.context;
        if table.lists_series && table.name != "exemplars" {
            return self.series(table);
        }
        let shared = context.current.lock().lists.get(table.name).cloned();
        if let Some(shared) = shared {
            return self.of_shared_list(&shared);
        }
        let rows =
            if table.lists_series { self.exemplars()? } else { context.sources.meta.rows(table.name)? };
        self.of_list(Arc::new(rows))
    }

    /// The rows of a list, as batches.
    fn of_list(&self, rows: Arc<Vec<MetaRow>>) -> Result<Batches, SqlError> {
        let scan = self.clone();
        let mut places = (0..rows.len()).step_by(BATCH_ROWS);
        Ok(Box::new(std::iter::from_fn(move || {
            let at = places.next()?;
            let part = rows.get(at..rows.len().min(at + BATCH_ROWS))?;
            Some(scan.batch_of_json(part))
        })))
    }

    fn exemplars(&self) -> Result<Vec<MetaRow>, SqlError> {
        let sets = [self.matchers.clone()];
        let found = self.relation.context.sources.catalog.exemplars(&sets, TimeMs::MIN, TimeMs::MAX)?;
        Ok(found.iter().flat_map(exemplar_rows).collect())
    }

    /// The series of a list of series.
    pub(crate) fn read_series(&self) -> Result<Vec<Labels>, SqlError> {
        let memory = self.series_memory();
        self.list_series(&memory)
    }

    fn series_memory(&self) -> MemoryReservation {
        let context = &self.relation.context;
        context.sources.memory.reservation(context.options.max_bytes)
    }

    fn list_series(&self, memory: &MemoryReservation) -> Result<Vec<Labels>, SqlError> {
        let context = &self.relation.context;
        let sets = [self.matchers.clone()];
        let from = begin_of_list(context.now());
        let series = context.sources.catalog.series(&sets, from, context.now() + 1, memory)?;
        // Counted as samples are: each becomes a row or more.
        if series.len() > context.options.max_samples {
            let error = format!("{} series, the limit is {}", series.len(), context.options.max_samples);
            return Err(
                SqlError::new(crate::SqlErrorKind::LimitReached, error).hint("add WHERE metric = '…'")
            );
        }
        Ok(series)
    }

    /// The rows of a list of series.
    fn series(&self, table: &MetaTable) -> Result<Batches, SqlError> {
        let memory = self.series_memory();
        let series = self.list_series(&memory)?;
        let has_pairs = table.name == "label_pairs";
        let scan = self.clone();
        let times = self.series_times(&series)?;
        let sizes: Vec<usize> = pieces(&series, has_pairs).map(<[Labels]>::len).collect();
        let mut at = 0;
        Ok(Box::new(sizes.into_iter().map(move |size| {
            // The reservation is part of the iterator: the series count until the last batch is
            // made.
            let _memory = &memory;
            at += size;
            let time = |name: &str| times.column(name, at - size, at);
            scan.batch_of_timed_series(&series[at - size..at], has_pairs, &time)
        })))
    }

    /// The rows of some series, whose times are not shown.
    pub(crate) fn batch_of_series(
        &self,
        series: &[Labels],
        has_pairs: bool,
    ) -> Result<RecordBatch, SqlError> {
        self.batch_of_timed_series(series, has_pairs, &|_| None)
    }

    /// The rows of some series; `time` has the columns of times.
    fn batch_of_timed_series(
        &self,
        series: &[Labels],
        has_pairs: bool,
        time: &dyn Fn(&str) -> Option<ArrayRef>,
    ) -> Result<RecordBatch, SqlError> {
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let (mut columns, rows) = columns(series, has_pairs, &names);
        for (at, name) in names.iter().enumerate() {
            if let Some(times) = time(name) {
                columns[at] = times;
            }
        }
        self.batch(columns, rows)
    }

    fn batch_of_json(&self, rows: &[MetaRow]) -> Result<RecordBatch, SqlError> {
        let columns = self.projection.iter().filter_map(|i| self.list_column(rows, *i)).collect();
        self.batch(columns, rows.len())
    }

    /// The column `i` of a list: one of its own, or a label.
    pub(super) fn list_column(&self, rows: &[MetaRow], i: usize) -> Option<ArrayRef> {
        let Kind::Meta(table) = &self.relation.kind else { return None };
        if let Some(column) = table.columns.get(i) {
            return Some(json_column(rows, column.name, column.kind));
        }
        let (name, _) = self.relation.fields.get(i - table.columns.len())?;
        let label = |row: &MetaRow| {
            row.get("labels").and_then(|l| l.get(name)).and_then(Value::as_str).unwrap_or("").to_owned()
        };
        Some(Arc::new(StringArray::from_iter_values(rows.iter().map(label))))
    }
}

pub(super) fn node(op: PlanOp) -> Plan {
    Arc::new(PlanNode { op, span: Span::default() })
}

fn instant(matchers: Vec<Matcher>) -> Plan {
    node(PlanOp::Instant(Selector { matchers, offset: 0, at: None, extension: None }))
}

/// The plan with these matchers in each of its selectors.
fn with_matchers(plan: &Plan, matchers: &[Matcher]) -> Plan {
    let select = |s: &Selector| {
        let mut all = s.matchers.clone();
        // The same condition may have been found by the binder already.
        all.extend(matchers.iter().filter(|m| !s.matchers.contains(m)).cloned());
        Selector { matchers: all, ..s.clone() }
    };
    let op = match &plan.op {
        PlanOp::Instant(selector) => PlanOp::Instant(select(selector)),
        PlanOp::Range { selector, range } => PlanOp::Range { selector: select(selector), range: *range },
        op => op.map_inputs(&mut |input| with_matchers(input, matchers)),
    };
    Arc::new(PlanNode { op, span: plan.span })
}

/// The answer of a plan at the evaluation times of the statement, sorted by labels: so that what
/// depends on the order, such as the first rows, is the same wherever the answer comes from.
fn answers(relation: &Relation, plan: &Plan) -> Result<Vec<Row>, SqlError> {
    if let Some(leaves) = live_rows(relation, std::slice::from_ref(plan)) {
        return Ok(leaves.iter().flat_map(|leaf| rows_of_leaf(leaf, relation.context.now())).collect());
    }
    let mut rows = history(relation, plan)?;
    // The first or last ones of all are the answer of ORDER BY … LIMIT, which has this order.
    if is_ranked(plan) {
        return Ok(rows);
    }
    rows.sort_by(|a, b| (&a.labels, a.sample.t).cmp(&(&b.labels, b.sample.t)));
    Ok(rows)
}

/// Whether the rows of a plan have an order of their own.
fn is_ranked(plan: &Plan) -> bool {
    let PlanOp::Aggregate(aggregate) = &plan.op else { return false };
    matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk)
}

fn rows_of_leaf(leaf: &LeafRows, t: TimeMs) -> impl Iterator<Item = Row> {
    leaf.labels.iter().enumerate().map(move |(i, labels)| Row {
        labels: labels.clone(),
        sample: Sample { t, value: leaf.value(i), histogram: leaf.histogram(i) },
    })
}

/// The answer of the engine, with its annotations as warnings.
fn history(relation: &Relation, plan: &Plan) -> Result<Vec<Row>, SqlError> {
    let context = &relation.context;
    let engine = &context.sources.engine;
    let answer = match context.times.get().copied().unwrap_or(Times::Now) {
        Times::Now => engine.instant(plan, context.now(), &context.options)?,
        Times::At(t) => engine.instant(plan, t, &context.options)?,
        Times::Grid(Grid { start, end, step }) => engine.range(plan, start, end, step, &context.options)?,
    };
    // Several scans of a statement may have the same annotation, which is told once.
    let mut warnings = context.warnings.lock();
    for annotation in &answer.annotations {
        if !warnings.contains(&annotation.text.to_string()) {
            warnings.push(annotation.text.to_string());
        }
    }
    Ok(match answer.value {
        QueryValue::Scalar(t, value) => {
            vec![Row { labels: Labels::default(), sample: Sample { t, value: Some(value), histogram: None } }]
        }
        QueryValue::Text(..) => Vec::new(),
        QueryValue::Vector(samples) => samples
            .into_iter()
            .map(|s| {
                // A histogram has no number; NULL and not NaN, which a float may be.
                let value = if s.h.is_some() { None } else { Some(s.v) };
                Row { labels: s.labels, sample: Sample { t: s.t, value, histogram: s.h } }
            })
            .collect(),
        QueryValue::Matrix(series) => series
            .into_iter()
            .flat_map(|s| {
                let labels = s.labels.clone();
                samples_of(s).into_iter().map(move |sample| Row { labels: labels.clone(), sample })
            })
            .collect(),
    })
}

/// The samples of a series, in order of time.
fn samples_of(series: Series) -> Vec<Sample> {
    let floats = series.points.into_iter().map(|(t, v)| Sample { t, value: Some(v), histogram: None });
    let mut samples: Vec<Sample> = floats.collect();
    if !series.histograms.is_empty() {
        samples.extend(series.histograms.into_iter().map(|(t, h)| Sample {
            t,
            value: None,
            histogram: Some(h),
        }));
        samples.sort_by_key(|sample| sample.t);
    }
    samples
}

/// The answer of a part of a statement that is a plan.
fn bound_batches(
    relation: &Relation,
    bound: &BoundQuery,
    projection: &[usize],
    scan: &Scan,
) -> Result<Batches, SqlError> {
    let live =
        live_rows(relation, std::slice::from_ref(&bound.plan)).and_then(|leaves| leaves.into_iter().next());
    let rows = match &live {
        Some(leaf) => rows_of_leaf(leaf, relation.context.now()).collect(),
        None => answers(relation, &bound.plan)?,
    };
    let known = live.map(|leaf| leaf.columns.clone()).unwrap_or_default();
    let mut columns: Vec<ArrayRef> = Vec::new();
    // An aggregate without GROUP BY has a row over nothing in SQL, where PromQL has none.
    if rows.is_empty()
        && let Some(nothing) = &bound.over_nothing
    {
        for i in projection {
            let column = &bound.columns[*i];
            let value = match &column.what {
                Output::Constant(value) => value,
                _ => nothing,
            };
            let array = value.to_array().map_err(|e| SqlError::from_datafusion(e, ""))?;
            columns.push(as_kind(&array, &column.kind)?);
        }
        let batch = scan.batch(columns, 1);
        return Ok(Box::new(std::iter::once(batch)));
    }
    for i in projection {
        let column = &bound.columns[*i];
        let array: ArrayRef = match &column.what {
            Output::Label(_) | Output::Metric | Output::Labels => {
                let field = match &column.what {
                    Output::Label(name) => Field::Label(name.clone()),
                    Output::Metric => Field::Metric,
                    _ => Field::Labels,
                };
                let mut known = known.lock();
                let labels = || label_column(&field, rows.iter().map(|row| &row.labels));
                known.entry(format!("{field:?}")).or_insert_with(labels).clone()
            }
            Output::Time if column.kind.is_floating() => {
                Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.sample.t as f64 / 1000.0)))
            }
            Output::Time => times(rows.iter().map(|row| row.sample.t)),
            Output::Value => Arc::new(rows.iter().map(|row| row.sample.value).collect::<Float64Array>()),
            Output::Histogram => Arc::new(
                rows.iter()
                    .map(|row| row.sample.histogram.as_deref().map(histogram_json))
                    .collect::<StringArray>(),
            ),
            Output::Constant(value) => {
                value.to_array_of_size(rows.len()).map_err(|e| SqlError::from_datafusion(e, ""))?
            }
        };
        columns.push(as_kind(&array, &column.kind)?);
    }
    let batch = scan.batch(columns, rows.len());
    Ok(Box::new(std::iter::once(batch)))
}

/// The array as one of this type.
pub(crate) fn as_kind(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef, SqlError> {
    // A cast to the same type makes another array, which would have to be numbered again.
    if array.data_type() == kind {
        return Ok(array.clone());
    }
    if array.as_any().is::<NullArray>() {
        // `cast` refuses to turn the type of NULL into some others.
        return Ok(new_null_array(kind, array.len()));
    }
    cast(array, kind).map_err(|e| SqlError::new(crate::SqlErrorKind::Internal, e.to_string()))
}

/// A batch in pieces of the usual size.
pub(super) fn sliced(batch: RecordBatch) -> Batches {
    let rows = batch.num_rows();
    let piece = move |at| Ok(batch.slice(at, BATCH_ROWS.min(rows - at)));
    Box::new((0..rows).step_by(BATCH_ROWS).map(piece))
}

pub(super) fn times(times: impl Iterator<Item = TimeMs>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC"))
}

/// All labels but the name, as JSON.
pub(crate) fn labels_json(labels: &Labels) -> String {
    let pairs = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    let map: Map<String, Value> = pairs.map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    Value::Object(map).to_string()
}

/// A native histogram as JSON: its count and its sum.
pub(crate) fn histogram_json(histogram: &NativeHistogram) -> String {
    serde_json::json!({ "count": histogram.count, "sum": histogram.sum }).to_string()
}

fn exemplar_rows(found: &storage::exemplars::SeriesExemplars) -> Vec<MetaRow> {
    let object = |labels: &Labels| -> Value {
        let pairs = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
        Value::Object(pairs.map(|(name, value)| (name.to_owned(), Value::from(value))).collect())
    };
    let of = |exemplar: &storage::exemplars::Exemplar| {
        let mut row = Map::new();
        row.insert("ts".to_owned(), Value::from(exemplar.t));
        row.insert("metric".to_owned(), Value::from(found.labels.name()));
        row.insert("value".to_owned(), serde_json::json!(exemplar.v));
        row.insert("trace_id".to_owned(), Value::from(exemplar.labels.get("trace_id").unwrap_or("")));
        row.insert("labels".to_owned(), object(&found.labels));
        row.insert("exemplar_labels".to_owned(), object(&exemplar.labels));
        row
    };
    found.exemplars.iter().map(of).collect()
}

/// A column of rows in JSON.
fn json_column(rows: &[MetaRow], name: &str, kind: MetaKind) -> ArrayRef {
    let values = rows.iter().map(|row| row.get(name).filter(|value| !value.is_null()));
    match kind {
        MetaKind::Text => Arc::new(
            values
                .map(|v| v.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)))
                .collect::<StringArray>(),
        ),
        MetaKind::Float => Arc::new(values.map(|v| v.and_then(Value::as_f64)).collect::<Float64Array>()),
        MetaKind::Integer => Arc::new(values.map(|v| v.and_then(Value::as_i64)).collect::<Int64Array>()),
        MetaKind::Bool => Arc::new(values.map(|v| v.and_then(Value::as_bool)).collect::<BooleanArray>()),
        MetaKind::Time => {
            let time = |v: &Value| match v {
                Value::String(text) => {
                    chrono::DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_millis())
                }
                other => other.as_i64(),
            };
            Arc::new(
                values.map(|v| v.and_then(time)).collect::<TimestampMillisecondArray>().with_timezone("UTC"),
            )
        }
    }
}
