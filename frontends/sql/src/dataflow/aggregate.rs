//! `GROUP BY` of a dataflow: counts, sums, means, minima and maxima of groups, maintained as rows
//! are inserted and deleted.
//!
//! Input: updates (a row, and how many of it come or go). Output: updates of the rows of the
//! result, one for each group. The `reduce` of differential-dataflow would keep all rows of each
//! group and look at all of them after each change. Here a group keeps what its aggregates need: a
//! number, an exact sum ([`crate::exact_sum`]), or its distinct values. [`super::render`] puts this
//! into an operator.

use super::delta::Delta;
use super::program::{Runner, Update};
use super::rel::{Aggregate, Measure};
use super::row::{EncodedRows, Row, RowCodec};
use super::stateful::Stateful;
use crate::error::SqlError;
use crate::exact_aggregates::Floats;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use datafusion::common::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The groups of an aggregate.
pub(super) struct Groups {
    measures: Vec<Measure>,
    /// Computes the keys and the arguments of the measures from input rows.
    input: Runner,
    keys: RowCodec,
    key_count: usize,
    /// One column for each measure: its argument.
    arguments: Vec<RowCodec>,
    /// The types of the arguments.
    argument_kinds: Vec<DataType>,
    /// One column for each measure: its result.
    results: Vec<RowCodec>,
    groups: HashMap<Row, Group>,
    /// The groups with changes in this refresh.
    touched: Vec<Row>,
    /// Memory of the groups, bytes.
    bytes: usize,
}

struct Group {
    /// The number of rows in the group.
    rows: i64,
    states: Vec<MeasureState>,
    /// The output row of the group, as it was sent last.
    shown: Option<Row>,
    /// It has changes since then.
    is_touched: bool,
}

impl Group {
    fn new(measures: &[Measure], arguments: &[DataType]) -> Group {
        let measures = measures.iter().zip(arguments);
        let states = measures.map(|(measure, argument)| MeasureState::new(*measure, argument)).collect();
        Group { rows: 0, states, shown: None, is_touched: false }
    }
}

/// The state of one measure of a group.
enum MeasureState {
    Count(i64),
    Integers {
        sum: i64,
        count: i64,
    },
    Unsigned {
        sum: u64,
        count: i64,
    },
    Floats(Floats),
    /// The distinct values with their counts, for `count(DISTINCT)`.
    Distinct(HashMap<Row, i64>),
    /// The same of whole numbers, which need no memory of their own.
    DistinctIntegers(HashMap<i64, i64>),
    /// The same in order.
    Ordered(BTreeMap<Row, i64>),
}

impl MeasureState {
    fn new(measure: Measure, argument: &DataType) -> MeasureState {
        match measure {
            Measure::Count => MeasureState::Count(0),
            Measure::SumIntegers => MeasureState::Integers { sum: 0, count: 0 },
            Measure::SumUnsigned => MeasureState::Unsigned { sum: 0, count: 0 },
            Measure::SumFloats | Measure::MeanOfFloats => MeasureState::Floats(Floats::default()),
            Measure::CountDistinct if *argument == DataType::Int64 => {
                MeasureState::DistinctIntegers(HashMap::new())
            }
            Measure::CountDistinct => MeasureState::Distinct(HashMap::new()),
            Measure::Min | Measure::Max => MeasureState::Ordered(BTreeMap::new()),
        }
    }

    /// By how many bytes it has grown, if it is of a group without rows.
    fn grown(&self) -> usize {
        match self {
            MeasureState::Floats(floats) => floats.size() - Floats::default().size(),
            _ => 0,
        }
    }

    /// Row `i` of the arguments came `times` times, or went. Returns by how many bytes the state
    /// grew.
    fn change(&mut self, argument: &MeasureArgument, i: usize, times: i64) -> isize {
        // Aggregates pass over NULL; `count(*)` has an argument that is never NULL.
        if argument.column.is_null(i) {
            return 0;
        }
        match self {
            MeasureState::Count(count) => *count += times,
            MeasureState::Integers { sum, count } => {
                let value = argument.column.as_primitive::<Int64Type>().value(i);
                *sum = sum.wrapping_add(value.wrapping_mul(times));
                *count += times;
            }
            MeasureState::Unsigned { sum, count } => {
                let value = argument.column.as_primitive::<UInt64Type>().value(i);
                *sum = sum.wrapping_add(value.wrapping_mul(times.cast_unsigned()));
                *count += times;
            }
            MeasureState::Floats(floats) => {
                let before = floats.size();
                floats.add(argument.column.as_primitive::<Float64Type>().value(i), times);
                return floats.size() as isize - before as isize;
            }
            MeasureState::Distinct(values) => {
                let Some(rows) = &argument.rows else { return 0 };
                return change_count(values, rows.bytes(i), times);
            }
            MeasureState::DistinctIntegers(values) => {
                let value = argument.column.as_primitive::<Int64Type>().value(i);
                let known = values.entry(value).or_insert(0);
                let was = *known;
                *known += times;
                // A value of which as many went as came is not there any more.
                if *known == 0 {
                    values.remove(&value);
                    return if was == 0 { 0 } else { -INTEGER_SIZE };
                }
                return if was == 0 { INTEGER_SIZE } else { 0 };
            }
            MeasureState::Ordered(values) => {
                let Some(rows) = &argument.rows else { return 0 };
                return change_count(values, rows.bytes(i), times);
            }
        }
        0
    }
}

/// A map from values to how many rows of the group have each: hashed, or in the order of the
/// values.
trait ValueCounts {
    fn get_mut(&mut self, value: &[u8]) -> Option<&mut i64>;
    fn insert(&mut self, value: Row, count: i64);
    fn remove(&mut self, value: &[u8]);
}

impl ValueCounts for HashMap<Row, i64> {
    fn get_mut(&mut self, value: &[u8]) -> Option<&mut i64> {
        self.get_mut(value)
    }

    fn insert(&mut self, value: Row, count: i64) {
        self.insert(value, count);
    }

    fn remove(&mut self, value: &[u8]) {
        self.remove(value);
    }
}

impl ValueCounts for BTreeMap<Row, i64> {
    fn get_mut(&mut self, value: &[u8]) -> Option<&mut i64> {
        self.get_mut(value)
    }

    fn insert(&mut self, value: Row, count: i64) {
        self.insert(value, count);
    }

    fn remove(&mut self, value: &[u8]) {
        self.remove(value);
    }
}

/// Adds `times` to the count of a value; a count of 0 is removed. Returns by how many bytes the map
/// grew.
fn change_count(counts: &mut impl ValueCounts, value: &[u8], times: i64) -> isize {
    let Some(count) = counts.get_mut(value) else {
        counts.insert(Row::new(value), times);
        return counted_value_size(value);
    };
    *count += times;
    if *count != 0 {
        return 0;
    }
    counts.remove(value);
    -counted_value_size(value)
}

/// The bytes that a value takes in [`ValueCounts`]: its own, and those of its count and its
/// allocation.
fn counted_value_size(value: &[u8]) -> isize {
    const COUNT_AND_ALLOCATION: usize = 72;
    (value.len() + COUNT_AND_ALLOCATION) as isize
}

/// The same of a whole number.
const INTEGER_SIZE: isize = 24;

/// The argument of a measure, for a batch.
struct MeasureArgument {
    column: ArrayRef,
    /// The values as rows, for measures that store values.
    rows: Option<EncodedRows>,
}

impl Groups {
    /// No groups yet. `input` makes keys and arguments of rows.
    pub(super) fn new(
        aggregate: &Aggregate,
        input: Runner,
        kinds: &[DataType],
        output: &[DataType],
    ) -> Result<Groups, SqlError> {
        let keys = aggregate.keys;
        let single = |kinds: &[DataType]| -> Result<Vec<RowCodec>, SqlError> {
            kinds.iter().skip(keys).map(|kind| RowCodec::new(std::slice::from_ref(kind))).collect()
        };
        let mut groups = Groups {
            measures: aggregate.measures.clone(),
            input,
            keys: RowCodec::new(&kinds[..keys.min(kinds.len())])?,
            key_count: keys,
            arguments: single(kinds)?,
            argument_kinds: kinds.iter().skip(keys).cloned().collect(),
            results: single(output)?,
            groups: HashMap::new(),
            touched: Vec::new(),
            bytes: 0,
        };
        // Without keys there is a row over nothing, too.
        if keys == 0 {
            let key = Row::new(&[]);
            groups.groups.insert(key.clone(), Group::new(&groups.measures, &groups.argument_kinds));
            groups.touched.push(key);
        }
        Ok(groups)
    }

    /// Memory of a group without its values, bytes: its key (also as a part of the output row) and
    /// its states.
    fn group_size(&self, key: &[u8]) -> usize {
        2 * key.len() + size_of::<Group>() + self.measures.len() * size_of::<MeasureState>()
    }

    fn arguments_of(&self, batch: &RecordBatch) -> Result<Vec<MeasureArgument>, SqlError> {
        let columns = batch.columns().iter().skip(self.key_count);
        let parts = columns.zip(&self.measures).zip(&self.arguments);
        let argument = |((column, measure), codec): ((&ArrayRef, &Measure), &RowCodec)| {
            let is_kept = match measure {
                Measure::CountDistinct => *column.data_type() != DataType::Int64,
                measure => matches!(measure, Measure::Min | Measure::Max),
            };
            let rows = is_kept.then(|| codec.encoded(std::slice::from_ref(column))).transpose()?;
            Ok(MeasureArgument { column: column.clone(), rows })
        };
        parts.map(argument).collect()
    }

    /// The differences between these groups and their output rows that were sent.
    fn show(&mut self, touched: &[Row]) -> Result<Vec<Update>, SqlError> {
        let results = self.results_of(touched)?;
        let mut updates = Vec::new();
        for (i, key) in touched.iter().enumerate() {
            let Some(group) = self.groups.get_mut(key) else { continue };
            group.is_touched = false;
            // Without keys the one group stays: its row is the answer over nothing.
            let is_there = group.rows > 0 || self.key_count == 0;
            let now = is_there.then(|| {
                let cells: Vec<u8> = results.iter().flat_map(|column| column.bytes(i)).copied().collect();
                key.followed_by(&cells)
            });
            // A change that leaves the result as it is tells nobody: a `max` of which a smaller
            // value went.
            if group.shown != now {
                updates.extend(group.shown.take().map(|row| (row, -1)));
                updates.extend(now.iter().map(|row| (row.clone(), 1)));
                group.shown = now;
            }
            // Only now, when the row that was sent has been taken back.
            if !is_there && let Some(gone) = self.groups.remove(key) {
                let sums: usize = gone.states.iter().map(MeasureState::grown).sum();
                self.bytes = self.bytes.saturating_sub(self.group_size(key.bytes()) + sums);
            }
        }
        Ok(updates)
    }

    /// The results of these groups, a column for each measure.
    fn results_of(&self, keys: &[Row]) -> Result<Vec<ResultColumn>, SqlError> {
        let groups: Vec<Option<&Group>> = keys.iter().map(|key| self.groups.get(key)).collect();
        let mut columns = Vec::new();
        for (n, (measure, codec)) in self.measures.iter().zip(&self.results).enumerate() {
            let states: Vec<Option<&MeasureState>> =
                groups.iter().map(|group| group.and_then(|group| group.states.get(n))).collect();
            columns.push(if matches!(measure, Measure::Min | Measure::Max) {
                ResultColumn::Values(extremes(*measure, &states, codec)?)
            } else {
                ResultColumn::Numbers(codec.encoded(&[numbers(*measure, &states)])?)
            });
        }
        Ok(columns)
    }
}

impl Stateful for Groups {
    fn apply(&mut self, delta: &Delta) -> Result<(), SqlError> {
        let delta = self.input.run(delta)?;
        if delta.is_empty() {
            return Ok(());
        }
        let batch = delta.columns()?;
        let keys = self.keys.encoded(&batch.columns()[..self.key_count])?;
        let arguments = self.arguments_of(batch)?;
        for (i, times) in delta.counts().iter().enumerate() {
            let key = keys.bytes(i);
            // Asked for first: most rows are of a group that is there, which needs no row for its
            // key.
            if !self.groups.contains_key(key) {
                self.groups.insert(Row::new(key), Group::new(&self.measures, &self.argument_kinds));
                self.bytes += self.group_size(key);
            }
            let Some(group) = self.groups.get_mut(key) else { continue };
            let times = *times as i64;
            group.rows += times;
            for (state, argument) in group.states.iter_mut().zip(&arguments) {
                self.bytes = self.bytes.saturating_add_signed(state.change(argument, i, times));
            }
            if !group.is_touched {
                group.is_touched = true;
                self.touched.push(Row::new(key));
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Update>, SqlError> {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() { Ok(Vec::new()) } else { self.show(&touched) }
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The results of a measure, by group.
enum ResultColumn {
    Values(Vec<Row>),
    Numbers(EncodedRows),
}

impl ResultColumn {
    fn bytes(&self, i: usize) -> &[u8] {
        match self {
            ResultColumn::Values(rows) => rows.get(i).map_or(&[], Row::bytes),
            ResultColumn::Numbers(rows) => rows.bytes(i),
        }
    }
}

/// The minimum or maximum of each group. The values are stored in the form in which they are
/// output.
fn extremes(
    measure: Measure,
    states: &[Option<&MeasureState>],
    codec: &RowCodec,
) -> Result<Vec<Row>, SqlError> {
    let null = codec.null()?;
    let value = |state: &Option<&MeasureState>| {
        let Some(MeasureState::Ordered(values)) = state else { return null.clone() };
        let found = if measure == Measure::Min { values.first_key_value() } else { values.last_key_value() };
        found.map_or_else(|| null.clone(), |(value, _)| value.clone())
    };
    Ok(states.iter().map(value).collect())
}

fn numbers(measure: Measure, states: &[Option<&MeasureState>]) -> ArrayRef {
    let present = |count: i64| count > 0;
    match measure {
        Measure::Count | Measure::CountDistinct => {
            let count = |state: &Option<&MeasureState>| match state {
                Some(MeasureState::Count(count)) => Some(*count),
                Some(MeasureState::Distinct(values)) => Some(values.len() as i64),
                Some(MeasureState::DistinctIntegers(values)) => Some(values.len() as i64),
                _ => Some(0),
            };
            Arc::new(states.iter().map(count).collect::<Int64Array>())
        }
        Measure::SumIntegers => {
            let sum = |state: &Option<&MeasureState>| match state {
                Some(MeasureState::Integers { sum, count }) => present(*count).then_some(*sum),
                _ => None,
            };
            Arc::new(states.iter().map(sum).collect::<Int64Array>())
        }
        Measure::SumUnsigned => {
            let sum = |state: &Option<&MeasureState>| match state {
                Some(MeasureState::Unsigned { sum, count }) => present(*count).then_some(*sum),
                _ => None,
            };
            Arc::new(states.iter().map(sum).collect::<UInt64Array>())
        }
        Measure::SumFloats | Measure::MeanOfFloats => {
            let value = |state: &Option<&MeasureState>| match state {
                Some(MeasureState::Floats(floats)) if measure == Measure::SumFloats => floats.sum(),
                Some(MeasureState::Floats(floats)) => floats.mean(),
                _ => None,
            };
            Arc::new(states.iter().map(value).collect::<Float64Array>())
        }
        // Not asked for: their results are rows that are stored already, see `extremes`.
        Measure::Min | Measure::Max => Arc::new(BooleanArray::from(vec![None::<bool>; states.len()])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    /// A group, a float, a whole number and a text of each row.
    fn kinds() -> Vec<DataType> {
        vec![
            DataType::Utf8,
            DataType::Float64,
            DataType::Float64,
            DataType::Int64,
            DataType::Utf8,
            DataType::Utf8,
        ]
    }

    fn groups() -> Result<Groups, SqlError> {
        let measures = vec![
            Measure::SumFloats,
            Measure::MeanOfFloats,
            Measure::CountDistinct,
            Measure::Min,
            Measure::Max,
        ];
        let output = [
            DataType::Utf8,
            DataType::Float64,
            DataType::Float64,
            DataType::Int64,
            DataType::Utf8,
            DataType::Utf8,
        ];
        Groups::new(&Aggregate { keys: 1, measures }, Runner::new(Vec::new(), &kinds())?, &kinds(), &output)
    }

    fn rows() -> Result<Vec<Row>, SqlError> {
        let floats: Vec<f64> =
            [0.1, 0.2, 0.3, 1e16, -1e16, 1e308, -1e308, f64::NAN, f64::INFINITY, 3.5].repeat(5);
        let texts: Vec<String> = (0..floats.len()).map(|i| format!("t{}", i * 7 % 31)).collect();
        let keys: Vec<&str> = (0..floats.len()).map(|i| ["a", "b", "c"][i * 5 % 3]).collect();
        use datafusion::arrow::array::StringArray;
        let floats: ArrayRef = Arc::new(Float64Array::from(floats));
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        let numbers: ArrayRef =
            Arc::new((0..floats.len()).map(|i| Some(i as i64 % 4)).collect::<Int64Array>());
        let columns = [
            Arc::new(StringArray::from(keys)) as ArrayRef,
            floats.clone(),
            floats,
            numbers,
            texts.clone(),
            texts,
        ];
        RowCodec::new(&kinds())?.encode(&columns, columns[0].len())
    }

    /// What is shown after these updates, each of them a refresh or all of them one.
    fn shown(updates: &[Update], is_stepwise: bool) -> Result<BTreeMap<Row, isize>, SqlError> {
        let codec = Rc::new(RowCodec::new(&kinds())?);
        let mut groups = groups()?;
        let mut shown = BTreeMap::new();
        for piece in updates.chunks(if is_stepwise { 1 } else { 9 }) {
            groups.apply(&Delta::of_updates(codec.clone(), piece.to_vec()))?;
            let changes = if is_stepwise { groups.finish()? } else { Vec::new() };
            for (row, count) in changes {
                *shown.entry(row).or_insert(0) += count;
            }
        }
        for (row, count) in groups.finish()? {
            *shown.entry(row).or_insert(0) += count;
        }
        shown.retain(|_, count| *count != 0);
        Ok(shown)
    }

    /// Sums that are rounded as they grow, or a largest value that is only raised, would fail here.
    #[test]
    fn order_and_what_has_gone_do_not_matter() -> Result<(), SqlError> {
        let rows = rows()?;
        let kept = |i: usize| i % 10 < 5;
        let expected: Vec<Update> =
            rows.iter().enumerate().filter(|(i, _)| kept(*i)).map(|(_, row)| (row.clone(), 1)).collect();
        let expected = shown(&expected, false)?;
        assert_eq!(expected.len(), 3);
        for step in [1, 3, 7, 49] {
            let order: Vec<usize> = (0..rows.len()).map(|i| i * step % rows.len()).collect();
            let come = order.iter().map(|i| (rows[*i].clone(), 1));
            let go = order.iter().rev().filter(|i| !kept(**i)).map(|i| (rows[*i].clone(), -1));
            let updates: Vec<Update> = come.chain(go).collect();
            assert_eq!(shown(&updates, false)?, expected, "step {step}");
            assert_eq!(shown(&updates, true)?, expected, "step {step}, row by row");
        }
        let gone: Vec<Update> =
            rows.iter().map(|row| (row.clone(), 1)).chain(rows.iter().map(|row| (row.clone(), -1))).collect();
        assert!(shown(&gone, true)?.is_empty());
        let mut groups = groups()?;
        let codec = Rc::new(RowCodec::new(&kinds())?);
        groups.apply(&Delta::of_updates(codec, gone))?;
        groups.finish()?;
        assert_eq!(groups.bytes(), 0, "nothing is kept of groups that are gone");
        Ok(())
    }
}
