//! Groups: counts, sums, means, smallest and largest values, kept as rows come and go.
//!
//! The reduce of differential-dataflow would keep all rows of each group and look at all of them
//! after each change; here a group keeps what its measures need: a number, an exact sum
//! ([`crate::exact_sum`]), or its different values in order.

use super::program::Update;
use super::rel::{Aggregate, Measure};
use super::row::{Row, RowCodec};
use crate::error::SqlError;
use crate::exact_aggregates::Floats;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The groups of an aggregate.
pub(super) struct Groups {
    measures: Vec<Measure>,
    /// From rows to columns: keys and arguments.
    input: RowCodec,
    keys: RowCodec,
    key_count: usize,
    /// One column for each measure: its argument.
    arguments: Vec<RowCodec>,
    /// One column for each measure: its result.
    results: Vec<RowCodec>,
    groups: HashMap<Row, Group>,
    /// What the groups take, in bytes.
    pub(super) bytes: usize,
}

struct Group {
    /// How many rows it has.
    rows: i64,
    states: Vec<State>,
    /// The row that was sent.
    shown: Option<Row>,
}

/// What a measure keeps of a group.
enum State {
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
    /// The different values, in their order, and how many of each there are.
    Values(BTreeMap<Row, i64>),
}

impl State {
    fn new(measure: Measure) -> State {
        match measure {
            Measure::Count => State::Count(0),
            Measure::SumIntegers => State::Integers { sum: 0, count: 0 },
            Measure::SumUnsigned => State::Unsigned { sum: 0, count: 0 },
            Measure::SumFloats | Measure::MeanOfFloats => State::Floats(Floats::default()),
            Measure::CountDistinct | Measure::Min | Measure::Max => State::Values(BTreeMap::new()),
        }
    }

    /// Row `i` of the arguments came `times` times, or went.
    fn change(&mut self, argument: &Argument, i: usize, times: i64) {
        if argument.column.is_null(i) {
            return;
        }
        match self {
            State::Count(count) => *count += times,
            State::Integers { sum, count } => {
                let value = argument.column.as_primitive::<Int64Type>().value(i);
                *sum = sum.wrapping_add(value.wrapping_mul(times));
                *count += times;
            }
            State::Unsigned { sum, count } => {
                let value = argument.column.as_primitive::<UInt64Type>().value(i);
                *sum = sum.wrapping_add(value.wrapping_mul(times.cast_unsigned()));
                *count += times;
            }
            State::Floats(floats) => {
                floats.add(argument.column.as_primitive::<Float64Type>().value(i), times);
            }
            State::Values(values) => {
                let Some(value) = argument.rows.get(i) else { return };
                let known = values.entry(value.clone()).or_insert(0);
                *known += times;
                if *known == 0 {
                    values.remove(value);
                }
            }
        }
    }

    fn size(&self) -> usize {
        match self {
            State::Floats(floats) => floats.size(),
            // The first one stands for all: the values of a column are mostly of a like size.
            State::Values(values) => {
                values.first_key_value().map_or(0, |(value, _)| values.len() * (value.size() + 16))
            }
            _ => size_of::<State>(),
        }
    }
}

/// The argument of a measure, for a batch.
struct Argument {
    column: ArrayRef,
    /// Its values as rows, where they are kept.
    rows: Vec<Row>,
}

impl Groups {
    /// No groups yet.
    pub(super) fn new(
        aggregate: &Aggregate,
        input: &[DataType],
        output: &[DataType],
    ) -> Result<Groups, SqlError> {
        let keys = aggregate.keys;
        let single = |kinds: &[DataType]| -> Result<Vec<RowCodec>, SqlError> {
            kinds.iter().skip(keys).map(|kind| RowCodec::new(std::slice::from_ref(kind))).collect()
        };
        Ok(Groups {
            measures: aggregate.measures.clone(),
            input: RowCodec::new(input)?,
            keys: RowCodec::new(&input[..keys.min(input.len())])?,
            key_count: keys,
            arguments: single(input)?,
            results: single(output)?,
            groups: HashMap::new(),
            bytes: 0,
        })
    }

    /// What there is over nothing: without keys, one row.
    pub(super) fn start(&mut self) -> Result<Vec<Update>, SqlError> {
        if self.key_count > 0 {
            return Ok(Vec::new());
        }
        let key = Row::new(&[]);
        let states = self.measures.iter().map(|measure| State::new(*measure)).collect();
        self.groups.insert(key.clone(), Group { rows: 0, states, shown: None });
        self.show(&[key])
    }

    /// Takes up rows. Returns how the groups changed.
    pub(super) fn update(&mut self, updates: &[Update]) -> Result<Vec<Update>, SqlError> {
        let batch = self.input.decode(updates.iter().map(|update| &update.0))?;
        let keys = self.keys.encode(&batch.columns()[..self.key_count], batch.num_rows())?;
        let arguments = self.arguments_of(&batch)?;
        let mut touched: Vec<Row> = Vec::new();
        for (i, (key, (_, times))) in keys.into_iter().zip(updates).enumerate() {
            let group = self.groups.entry(key.clone()).or_insert_with(|| Group {
                rows: 0,
                states: self.measures.iter().map(|measure| State::new(*measure)).collect(),
                shown: None,
            });
            let times = *times as i64;
            group.rows += times;
            for (state, argument) in group.states.iter_mut().zip(&arguments) {
                let before = state.size();
                state.change(argument, i, times);
                self.bytes = (self.bytes + state.size()).saturating_sub(before);
            }
            touched.push(key);
        }
        touched.sort_unstable();
        touched.dedup();
        self.show(&touched)
    }

    fn arguments_of(&self, batch: &RecordBatch) -> Result<Vec<Argument>, SqlError> {
        let columns = batch.columns().iter().skip(self.key_count);
        let parts = columns.zip(&self.measures).zip(&self.arguments);
        let argument = |((column, measure), codec): ((&ArrayRef, &Measure), &RowCodec)| {
            let is_kept = matches!(measure, Measure::CountDistinct | Measure::Min | Measure::Max);
            let rows =
                if is_kept { codec.encode(std::slice::from_ref(column), column.len())? } else { Vec::new() };
            Ok(Argument { column: column.clone(), rows })
        };
        parts.map(argument).collect()
    }

    /// How these groups differ from what was sent.
    fn show(&mut self, touched: &[Row]) -> Result<Vec<Update>, SqlError> {
        let results = self.results_of(touched)?;
        let mut updates = Vec::new();
        for (i, key) in touched.iter().enumerate() {
            let Some(group) = self.groups.get_mut(key) else { continue };
            let is_there = group.rows > 0 || self.key_count == 0;
            let now = is_there.then(|| {
                let cells: Vec<u8> = results.iter().flat_map(|column| column[i].bytes()).copied().collect();
                key.followed_by(&cells)
            });
            if group.shown != now {
                updates.extend(group.shown.take().map(|row| (row, -1)));
                updates.extend(now.iter().map(|row| (row.clone(), 1)));
                group.shown = now;
            }
            if !is_there {
                self.groups.remove(key);
            }
        }
        Ok(updates)
    }

    /// The results of these groups, a column for each measure.
    fn results_of(&self, keys: &[Row]) -> Result<Vec<Vec<Row>>, SqlError> {
        let mut columns = Vec::new();
        for (n, (measure, codec)) in self.measures.iter().zip(&self.results).enumerate() {
            let states: Vec<Option<&State>> =
                keys.iter().map(|key| self.groups.get(key).and_then(|group| group.states.get(n))).collect();
            if matches!(measure, Measure::Min | Measure::Max) {
                columns.push(extremes(*measure, &states, codec)?);
                continue;
            }
            let column = numbers(*measure, &states);
            columns.push(codec.encode(&[column], keys.len())?);
        }
        Ok(columns)
    }
}

/// The smallest or largest values, which are kept as the rows that they become.
fn extremes(measure: Measure, states: &[Option<&State>], codec: &RowCodec) -> Result<Vec<Row>, SqlError> {
    let null = codec.null()?;
    let value = |state: &Option<&State>| {
        let Some(State::Values(values)) = state else { return null.clone() };
        let found = if measure == Measure::Min { values.first_key_value() } else { values.last_key_value() };
        found.map_or_else(|| null.clone(), |(value, _)| value.clone())
    };
    Ok(states.iter().map(value).collect())
}

fn numbers(measure: Measure, states: &[Option<&State>]) -> ArrayRef {
    let present = |count: i64| count > 0;
    match measure {
        Measure::Count | Measure::CountDistinct => {
            let count = |state: &Option<&State>| match state {
                Some(State::Count(count)) => Some(*count),
                Some(State::Values(values)) => Some(values.len() as i64),
                _ => Some(0),
            };
            Arc::new(states.iter().map(count).collect::<Int64Array>())
        }
        Measure::SumIntegers => {
            let sum = |state: &Option<&State>| match state {
                Some(State::Integers { sum, count }) => present(*count).then_some(*sum),
                _ => None,
            };
            Arc::new(states.iter().map(sum).collect::<Int64Array>())
        }
        Measure::SumUnsigned => {
            let sum = |state: &Option<&State>| match state {
                Some(State::Unsigned { sum, count }) => present(*count).then_some(*sum),
                _ => None,
            };
            Arc::new(states.iter().map(sum).collect::<UInt64Array>())
        }
        Measure::SumFloats | Measure::MeanOfFloats => {
            let value = |state: &Option<&State>| match state {
                Some(State::Floats(floats)) if measure == Measure::SumFloats => floats.sum(),
                Some(State::Floats(floats)) => floats.mean(),
                _ => None,
            };
            Arc::new(states.iter().map(value).collect::<Float64Array>())
        }
        Measure::Min | Measure::Max => Arc::new(BooleanArray::from(vec![None::<bool>; states.len()])),
    }
}
