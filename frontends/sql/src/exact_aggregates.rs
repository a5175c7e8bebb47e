//! `sum` and `avg` over floats with a result that does not depend on the order of the rows.
//!
//! DataFusion's own results differ in the last bits with the order. With these aggregates a
//! standing statement and a query that runs once give the same result, bit by bit.
//! [`super::exact_sum`] is the arithmetic; other types use DataFusion's aggregates.

use crate::error::{SqlError, SqlErrorKind};
use crate::exact_sum::ExactSum;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};
use std::sync::Arc;

/// Which function of floats it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
enum FloatFunction {
    Sum,
    Mean,
}

/// `sum` or `avg`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactAggregate {
    /// DataFusion's function, for other types.
    plain: Arc<AggregateUDF>,
    function: FloatFunction,
}

/// `plain` with exact sums of floats, if it is `sum` or `avg`.
pub(crate) fn exact(plain: &Arc<AggregateUDF>) -> Option<AggregateUDF> {
    // Only these two depend on the order: counts, minima and sums of integers are exact anyway.
    let function = match plain.name() {
        "sum" => FloatFunction::Sum,
        "avg" => FloatFunction::Mean,
        _ => return None,
    };
    Some(AggregateUDF::from(ExactAggregate { plain: plain.clone(), function }))
}

/// Whether the values are floats. Sums of distinct floats are DataFusion's.
fn is_of_floats(args: &AccumulatorArgs<'_>) -> bool {
    !args.is_distinct && args.expr_fields.first().is_some_and(|field| *field.data_type() == DataType::Float64)
}

impl AggregateUDFImpl for ExactAggregate {
    fn name(&self) -> &str {
        self.plain.name()
    }

    fn aliases(&self) -> &[String] {
        self.plain.aliases()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.plain.schema_name(params)
    }

    fn signature(&self) -> &Signature {
        self.plain.signature()
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        self.plain.return_type(kinds)
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        self.plain.coerce_types(kinds)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        // DataFusion may ask for the rows in the opposite order: to an exact sum that is the same.
        ReversedUDAF::Identical
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let is_float = args.input_fields.first().is_some_and(|f| *f.data_type() == DataType::Float64);
        // The state must be that of the accumulator that will be made below, so the same question
        // is asked.
        if args.is_distinct || !is_float {
            return self.plain.state_fields(args);
        }
        let field = |name: &str, kind| Arc::new(Field::new(format!("{}[{name}]", args.name), kind, false));
        Ok(vec![field("sum", DataType::Binary), field("count", DataType::Int64)])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if is_of_floats(&args) {
            return Ok(Box::new(FloatAccumulator { function: self.function, state: Floats::default() }));
        }
        self.plain.accumulator(args)
    }

    // An exact sum can also take values away again, without a rest.
    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if is_of_floats(&args) {
            return Ok(Box::new(FloatAccumulator { function: self.function, state: Floats::default() }));
        }
        self.plain.create_sliding_accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        is_of_floats(&args) || self.plain.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if is_of_floats(&args) {
            return Ok(Box::new(FloatGroups { function: self.function, groups: Vec::new(), bytes: 0 }));
        }
        self.plain.create_groups_accumulator(args)
    }
}

/// The floats of one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floats {
    sum: ExactSum,
    count: i64,
}

impl Floats {
    /// Adds a value so many times.
    pub(crate) fn add(&mut self, value: f64, times: i64) {
        self.sum.add(value, times);
        self.count += times;
    }

    /// `sum`; NULL over nothing.
    pub(crate) fn sum(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum.value())
    }

    /// `avg`; NULL over nothing.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum.mean(self.count as f64))
    }

    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<i64>() + self.sum.size()
    }

    /// The result of a function.
    fn read(&self, function: FloatFunction) -> Option<f64> {
        match function {
            FloatFunction::Sum => self.sum(),
            FloatFunction::Mean => self.mean(),
        }
    }

    /// Adds a partial sum.
    fn merge(&mut self, bytes: &[u8], count: i64) -> Result<()> {
        let broken = || SqlError::new(SqlErrorKind::Internal, "a partial sum cannot be read");
        self.sum.merge(&ExactSum::from_bytes(bytes).ok_or_else(broken)?);
        self.count += count;
        Ok(())
    }
}

/// The accumulator of one group.
#[derive(Debug)]
struct FloatAccumulator {
    function: FloatFunction,
    state: Floats,
}

impl FloatAccumulator {
    /// Adds the values (`times` 1), or takes them away (-1).
    fn change(&mut self, values: &[ArrayRef], times: i64) {
        for value in values.iter().flat_map(|values| values.as_primitive::<Float64Type>()).flatten() {
            self.state.add(value, times);
        }
    }
}

impl Accumulator for FloatAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, 1);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, -1);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in partial(states)? {
            self.state.merge(state.bytes, state.count)?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sum = ScalarValue::Binary(Some(self.state.sum.to_bytes()));
        Ok(vec![sum, ScalarValue::Int64(Some(self.state.count))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.state.read(self.function)))
    }

    fn size(&self) -> usize {
        size_of::<FloatAccumulator>() + self.state.size()
    }
}

/// A sum of some of the values of a group, as it goes from one operator to the next.
struct PartialSum<'a> {
    bytes: &'a [u8],
    count: i64,
}

/// The partial sums of the states of another accumulator.
fn partial(states: &[ArrayRef]) -> Result<impl Iterator<Item = PartialSum<'_>>> {
    let [sums, counts] = states else {
        return Err(DataFusionError::Internal("a partial sum has two columns".to_owned()));
    };
    let counts = counts.as_primitive::<Int64Type>().values().iter();
    let sums = sums.as_binary::<i32>().iter();
    Ok(sums.zip(counts).map(|(bytes, count)| PartialSum { bytes: bytes.unwrap_or_default(), count: *count }))
}

/// The accumulator of many groups.
#[derive(Debug)]
struct FloatGroups {
    function: FloatFunction,
    groups: Vec<Floats>,
    /// Bytes that the groups take.
    bytes: usize,
}

impl FloatGroups {
    /// Makes room for so many groups.
    fn resize(&mut self, groups: usize) {
        // Groups only come while rows are read; they go when they are answered.
        if groups > self.groups.len() {
            self.bytes += (groups - self.groups.len()) * Floats::default().size();
            self.groups.resize(groups, Floats::default());
        }
    }

    /// Changes a group, and counts its bytes.
    fn change(&mut self, group: usize, change: impl FnOnce(&mut Floats) -> Result<()>) -> Result<()> {
        let Some(floats) = self.groups.get_mut(group) else { return Ok(()) };
        let before = floats.size();
        change(floats)?;
        // A sum never becomes smaller in memory, so `min` is only a guard.
        self.bytes += floats.size() - before.min(floats.size());
        Ok(())
    }

    /// Removes the groups that are to be answered.
    fn drain(&mut self, emit: EmitTo) -> Vec<Floats> {
        let taken = emit.take_needed(&mut self.groups);
        self.bytes = self.bytes.saturating_sub(taken.iter().map(Floats::size).sum());
        taken
    }
}

impl GroupsAccumulator for FloatGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.resize(total);
        let Some(values) = values.first().map(|values| values.as_primitive::<Float64Type>()) else {
            return Ok(());
        };
        for (i, group) in indices.iter().enumerate() {
            // A filter that is NULL for a row leaves it out, as one that is false.
            let is_in = filter.is_none_or(|filter| filter.is_valid(i) && filter.value(i));
            if is_in && values.is_valid(i) {
                self.change(*group, |floats| {
                    floats.add(values.value(i), 1);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], indices: &[usize], total: usize) -> Result<()> {
        self.resize(total);
        for (state, group) in partial(values)?.zip(indices) {
            self.change(*group, |floats| floats.merge(state.bytes, state.count))?;
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |values| values.len());
        let mut each = FloatGroups { function: self.function, groups: Vec::new(), bytes: 0 };
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let function = self.function;
        let array: Float64Array = self.drain(emit).iter().map(|floats| floats.read(function)).collect();
        Ok(Arc::new(array))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.drain(emit);
        let sums = BinaryArray::from_iter_values(groups.iter().map(|floats| floats.sum.to_bytes()));
        let counts = Int64Array::from_iter_values(groups.iter().map(|floats| floats.count));
        Ok(vec![Arc::new(sums), Arc::new(counts)])
    }

    fn size(&self) -> usize {
        size_of::<FloatGroups>() + self.bytes
    }
}
