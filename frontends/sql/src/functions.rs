//! The functions that a statement may call: DataFusion's from an allow list, PromQL's functions of
//! a column, and some of our own.
//!
//! The list has those functions of DataFusion whose result is bounded by their arguments. `repeat`,
//! `lpad`, `range` and others can allocate gigabytes that no memory pool counts. PromQL's functions
//! (`rate(value, '5m')`) come from the engine's table. No other file registers functions.

use super::error::SqlError;
use super::exact_aggregates::exact;
use super::limits;
use datafusion::arrow::array::{ArrayRef, AsArray, TimestampMillisecondArray};
use datafusion::arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMillisecondType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::SessionStateDefaults;
use datafusion::functions_aggregate::string_agg::StringAgg;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, WindowUDF,
};
use engine::functions::{Kernel, OperatorFunction, table};
use engine::plan::ValueType;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Scalar functions of DataFusion that are available.
pub(crate) const SCALAR: &[&str] = &[
    "abs",
    "acos",
    "acosh",
    "array_element",
    "array_length",
    "arrow_cast",
    "arrow_typeof",
    "ascii",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bit_length",
    "btrim",
    "cbrt",
    "ceil",
    "character_length",
    "chr",
    "coalesce",
    "concat",
    "concat_ws",
    "contains",
    "cos",
    "cosh",
    "cot",
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "degrees",
    "ends_with",
    "exp",
    "factorial",
    "floor",
    "from_unixtime",
    "gcd",
    "get_field",
    "greatest",
    "initcap",
    "isnan",
    "iszero",
    "lcm",
    "least",
    "left",
    "levenshtein",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "make_array",
    "make_date",
    "map",
    "map_extract",
    "named_struct",
    "nanvl",
    "now",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "pi",
    "power",
    "radians",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
    "reverse",
    "right",
    "round",
    "rtrim",
    "signum",
    "sin",
    "sinh",
    "split_part",
    "sqrt",
    "starts_with",
    "strpos",
    "substr",
    "substr_index",
    "tan",
    "tanh",
    "to_char",
    "to_date",
    "to_timestamp",
    "to_timestamp_millis",
    "to_timestamp_seconds",
    "to_unixtime",
    "translate",
    "trunc",
    "upper",
];
/// Aggregate functions of DataFusion that are available.
pub(crate) const AGGREGATE: &[&str] = &[
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar",
    "covar_pop",
    "first_value",
    "grouping",
    "last_value",
    "max",
    "median",
    "min",
    "percentile_cont",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
];
/// Window functions of DataFusion that are available.
pub(crate) const WINDOW: &[&str] = &[
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "lag",
    "lead",
    "first_value",
    "last_value",
    "nth_value",
];
/// Functions that only the binder knows, besides those of the engine's table.
const OF_COLUMNS: &[&str] = &["ago", "at", "prom_round", "sample_ts"];

/// All functions, by the names that they have in a statement.
#[derive(Debug)]
pub(crate) struct Functions {
    pub(crate) scalar: BTreeMap<String, Arc<ScalarUDF>>,
    pub(crate) aggregate: BTreeMap<String, Arc<AggregateUDF>>,
    pub(crate) window: BTreeMap<String, Arc<WindowUDF>>,
    pub(crate) planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Functions {
    /// The functions of the lists, and PromQL's.
    pub(crate) fn new() -> Functions {
        let mut scalar = BTreeMap::new();
        let config = config();
        for function in SessionStateDefaults::default_scalar_functions() {
            if SCALAR.contains(&function.name()) {
                let function = function.inner().with_updated_config(&config).map_or(function, Arc::new);
                for name in function.aliases().iter().map(String::as_str).chain([function.name()]) {
                    scalar.insert(name.to_owned(), function.clone());
                }
            }
        }
        let of_columns = of_columns();
        for name in of_columns.iter().map(String::as_str) {
            // Names that SQL has keep their meaning in SQL.
            scalar.entry(name.to_owned()).or_insert_with(|| Arc::new(ScalarUDF::from(OfColumn::new(name))));
        }
        scalar.insert("time_bucket".to_owned(), Arc::new(ScalarUDF::from(TimeBucket::new())));
        let mut aggregate = BTreeMap::new();
        for function in SessionStateDefaults::default_aggregate_functions() {
            if AGGREGATE.contains(&function.name()) {
                // Under the same name: a statement that stands and one that runs once must agree to
                // the last bit.
                let function = exact(&function).map_or(function, Arc::new);
                for name in function.aliases().iter().map(String::as_str).chain([function.name()]) {
                    aggregate.insert(name.to_owned(), function.clone());
                }
            }
        }
        aggregate.insert(
            "string_agg".to_owned(),
            // DataFusion's own counts no bytes: a text per row of a million rows is one text of all
            // of them.
            Arc::new(AggregateUDF::from(BoundedTexts { inner: StringAgg::new() })),
        );
        aggregate
            .insert(HISTOGRAM_QUANTILE.to_owned(), Arc::new(AggregateUDF::from(HistogramQuantile::new())));
        let windows = SessionStateDefaults::default_window_functions();
        let window = windows
            .into_iter()
            .filter(|function| WINDOW.contains(&function.name()))
            .map(|function| (function.name().to_owned(), function))
            .collect();
        Functions { scalar, aggregate, window, planners: SessionStateDefaults::default_expr_planners() }
    }

    /// Whether a statement may call it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.scalar.contains_key(name) || self.aggregate.contains_key(name) || self.window.contains_key(name)
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.scalar.keys().chain(self.aggregate.keys()).chain(self.window.keys());
        names.map(String::as_str)
    }
}

/// The options of DataFusion that types and functions depend on: `timestamptz` and `now()` are in
/// UTC.
pub(crate) fn config() -> ConfigOptions {
    let mut config = ConfigOptions::default();
    config.execution.time_zone = Some("UTC".to_owned());
    config
}

const HISTOGRAM_QUANTILE: &str = "histogram_quantile";

/// The names of functions of a column that are part of a plan.
pub(crate) fn of_columns() -> BTreeSet<String> {
    let is_of_column = |kernel: &Kernel| match kernel {
        Kernel::Window(_) | Kernel::Map(_) | Kernel::MapOrClock(_) | Kernel::Histogram(_) => true,
        Kernel::Operator(special) => *special == OperatorFunction::HistogramFraction,
        _ => false,
    };
    let of_table = table().iter().filter(|f| is_of_column(&f.kernel) || f.args.contains(&ValueType::Matrix));
    let names = of_table.map(|f| f.name).filter(|name| !SCALAR.contains(name) && !PLAIN.contains(name));
    names.chain(OF_COLUMNS.iter().copied()).map(str::to_owned).collect()
}

/// Names of the engine's table that mean something else in SQL.
const PLAIN: &[&str] = &["round", "deg", "rad"];

/// Whether `name` is computed by a plan, never by DataFusion.
pub(crate) fn is_of_column(function: &ScalarUDF) -> bool {
    function.inner().is::<OfColumn>()
}

/// A function that the binder makes a part of a plan; it cannot be called for itself.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfColumn {
    name: String,
    signature: Signature,
}

impl OfColumn {
    fn new(name: &str) -> OfColumn {
        OfColumn { name: name.to_owned(), signature: Signature::variadic_any(Volatility::Stable) }
    }
}

impl ScalarUDFImpl for OfColumn {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // It is called only where the binder could not take it, which is over something that is no
        // metric.
        Err(needs_metric(&self.name).into())
    }
}

/// The error for a function of a column whose argument is none of a metric.
pub(crate) fn needs_metric(name: &str) -> SqlError {
    SqlError::bad(format!("{name}() needs the column value of a metric: it reads samples"))
        .hint(format!("FROM a metric: SELECT {name}(value, …) FROM <metric>"))
}

/// `time_bucket('60.000s', ts)`, as Grafana writes it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeBucket {
    signature: Signature,
}

impl TimeBucket {
    fn new() -> TimeBucket {
        TimeBucket { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        "time_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let wrong =
            || DataFusionError::from(super::values::not_a_duration("the first argument of time_bucket"));
        // The width must be the same for all rows, or there would be no buckets.
        let [ColumnarValue::Scalar(width), times] = args.args.as_slice() else { return Err(wrong()) };
        let width = datafusion::logical_expr::Expr::Literal(width.clone(), None);
        let width = super::values::duration(&width).filter(|ms| *ms > 0).ok_or_else(wrong)?;
        let to = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let times = times.clone().into_array(args.number_rows)?;
        let times = datafusion::arrow::compute::cast(&times, &to)?;
        let times = times.as_primitive::<TimestampMillisecondType>();
        // Rounded down also before 1970.
        let buckets: TimestampMillisecondArray = times.unary(|t| t.div_euclid(width) * width);
        Ok(ColumnarValue::Array(Arc::new(buckets.with_timezone("UTC"))))
    }
}

/// `histogram_quantile`, which groups buckets: only in plans.
#[derive(Debug, PartialEq, Eq, Hash)]
struct HistogramQuantile {
    signature: Signature,
}

impl HistogramQuantile {
    fn new() -> HistogramQuantile {
        HistogramQuantile { signature: Signature::variadic_any(Volatility::Stable) }
    }
}

impl AggregateUDFImpl for HistogramQuantile {
    fn name(&self) -> &str {
        HISTOGRAM_QUANTILE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Err(SqlError::bad("histogram_quantile is computed only where the whole query is a plan")
            .hint("group by labels of one metric; EXPLAIN says what is no plan")
            .into())
    }
}

/// `string_agg` with a limit for each text. Its groups have an accumulator each, whose size counts
/// in the memory of the statement; DataFusion's own for many groups does not.
#[derive(Debug, PartialEq, Eq, Hash)]
struct BoundedTexts {
    inner: StringAgg,
}

impl AggregateUDFImpl for BoundedTexts {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        self.inner.return_type(kinds)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(BoundedAccumulator { inner: self.inner.accumulator(args)?, bytes: 0 }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }
}

#[derive(Debug)]
struct BoundedAccumulator {
    inner: Box<dyn Accumulator>,
    /// Bytes of all texts so far.
    bytes: usize,
}

impl Accumulator for BoundedAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if let Some(texts) = values.first() {
            let texts = datafusion::arrow::compute::cast(texts, &DataType::Utf8)?;
            self.bytes += texts.as_string::<i32>().iter().flatten().map(|text| text.len() + 1).sum::<usize>();
        }
        // Before the texts are added: the limit is what may be in memory.
        if self.bytes > limits::AGGREGATED_TEXT_BYTES {
            let error =
                format!("string_agg makes a text of more than {} bytes", limits::AGGREGATED_TEXT_BYTES);
            return Err(SqlError::new(super::SqlErrorKind::LimitReached, error)
                .hint("group by more, or filter")
                .into());
        }
        self.inner.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.inner.size()
    }
}
