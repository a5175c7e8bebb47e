//! Groups: counts, sums, means, smallest and largest values, kept as rows come and go.
//!
//! The reduce of differential-dataflow would keep all rows of each group and look at all of them
//! after each change; here a group keeps what its measures need: a number, an exact sum
//! ([`crate::exact_sum`]), or its different values in order.

use super::program::{Runner, Update};
use super::rel::{Aggregate, Measure};
use super::row::{EncodedRows, Row, RowCodec};
use crate::error::SqlError;
use crate::exact_aggregates::Floats;
use crate::limits::BATCH_ROWS;
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
    /// From rows to columns: keys and arguments.
    input: Runner,
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
    /// It changes in this update.
    is_touched: bool,
}

impl Group {
    fn new(measures: &[Measure]) -> Group {
        let states = measures.iter().map(|measure| State::new(*measure)).collect();
        Group { rows: 0, states, shown: None, is_touched: false }
    }
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
    /// The different values, and how many of each there are.
    Distinct(HashMap<Row, i64>),
    /// The same in order.
    Ordered(BTreeMap<Row, i64>),
}

impl State {
    fn new(measure: Measure) -> State {
        match measure {
            Measure::Count => State::Count(0),
            Measure::SumIntegers => State::Integers { sum: 0, count: 0 },
            Measure::SumUnsigned => State::Unsigned { sum: 0, count: 0 },
            Measure::SumFloats | Measure::MeanOfFloats => State::Floats(Floats::default()),
            Measure::CountDistinct => State::Distinct(HashMap::new()),
            Measure::Min | Measure::Max => State::Ordered(BTreeMap::new()),
        }
    }

    /// Row `i` of the arguments came `times` times, or went. Returns by how many bytes the state
    /// grew.
    fn change(&mut self, argument: &Argument, i: usize, times: i64) -> isize {
        if argument.column.is_null(i) {
            return 0;
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
                let before = floats.size();
                floats.add(argument.column.as_primitive::<Float64Type>().value(i), times);
                return floats.size() as isize - before as isize;
            }
            State::Distinct(values) => {
                let Some(rows) = &argument.rows else { return 0 };
                let value = rows.bytes(i);
                let Some(known) = values.get_mut(value) else {
                    values.insert(Row::new(value), times);
                    return kept_size(value);
                };
                *known += times;
                if *known == 0 {
                    values.remove(value);
                    return -kept_size(value);
                }
            }
            State::Ordered(values) => {
                let Some(rows) = &argument.rows else { return 0 };
                let value = rows.bytes(i);
                let Some(known) = values.get_mut(value) else {
                    values.insert(Row::new(value), times);
                    return kept_size(value);
                };
                *known += times;
                if *known == 0 {
                    values.remove(value);
                    return -kept_size(value);
                }
            }
        }
        0
    }
}

/// What a value takes in a map of values, in bytes: with its number and the allocation.
fn kept_size(value: &[u8]) -> isize {
    const BESIDE: usize = 72;
    (value.len() + BESIDE) as isize
}

/// The argument of a measure, for a batch.
struct Argument {
    column: ArrayRef,
    /// Its values as rows, where they are kept.
    rows: Option<EncodedRows>,
}

/// The groups that an update has touched.
type Touched = Vec<Row>;

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
        Ok(Groups {
            measures: aggregate.measures.clone(),
            input,
            keys: RowCodec::new(&kinds[..keys.min(kinds.len())])?,
            key_count: keys,
            arguments: single(kinds)?,
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
        self.groups.insert(key.clone(), Group::new(&self.measures));
        self.show(&[key])
    }

    /// Takes up rows. Returns how the groups changed.
    pub(super) fn update(&mut self, updates: &[Update]) -> Result<Vec<Update>, SqlError> {
        let mut touched = Touched::new();
        for part in updates.chunks(BATCH_ROWS) {
            let times = part.iter().map(|update| update.1).collect();
            let (batch, times) = self.input.columns(part.iter().map(|update| &update.0), times)?;
            self.take_up(&batch, &times, &mut touched)?;
        }
        self.show(&touched)
    }

    fn take_up(
        &mut self,
        batch: &RecordBatch,
        times: &[isize],
        touched: &mut Touched,
    ) -> Result<(), SqlError> {
        let keys = self.keys.encoded(&batch.columns()[..self.key_count])?;
        let arguments = self.arguments_of(batch)?;
        for (i, times) in times.iter().enumerate() {
            let key = keys.bytes(i);
            // Asked for first: most rows are of a group that is there, which needs no row for its key.
            if !self.groups.contains_key(key) {
                self.groups.insert(Row::new(key), Group::new(&self.measures));
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
                touched.push(Row::new(key));
            }
        }
        Ok(())
    }

    /// What a group takes without its values, in bytes: its key, also as a part of the row that is
    /// shown, and its states.
    fn group_size(&self, key: &[u8]) -> usize {
        2 * key.len() + size_of::<Group>() + self.measures.len() * size_of::<State>()
    }

    fn arguments_of(&self, batch: &RecordBatch) -> Result<Vec<Argument>, SqlError> {
        let columns = batch.columns().iter().skip(self.key_count);
        let parts = columns.zip(&self.measures).zip(&self.arguments);
        let argument = |((column, measure), codec): ((&ArrayRef, &Measure), &RowCodec)| {
            let is_kept = matches!(measure, Measure::CountDistinct | Measure::Min | Measure::Max);
            let rows = is_kept.then(|| codec.encoded(std::slice::from_ref(column))).transpose()?;
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
            group.is_touched = false;
            let is_there = group.rows > 0 || self.key_count == 0;
            let now = is_there.then(|| {
                let cells: Vec<u8> = results.iter().flat_map(|column| column.bytes(i)).copied().collect();
                key.followed_by(&cells)
            });
            if group.shown != now {
                updates.extend(group.shown.take().map(|row| (row, -1)));
                updates.extend(now.iter().map(|row| (row.clone(), 1)));
                group.shown = now;
            }
            if !is_there {
                self.groups.remove(key);
                self.bytes = self.bytes.saturating_sub(self.group_size(key.bytes()));
            }
        }
        Ok(updates)
    }

    /// The results of these groups, a column for each measure.
    fn results_of(&self, keys: &[Row]) -> Result<Vec<ResultColumn>, SqlError> {
        let groups: Vec<Option<&Group>> = keys.iter().map(|key| self.groups.get(key)).collect();
        let mut columns = Vec::new();
        for (n, (measure, codec)) in self.measures.iter().zip(&self.results).enumerate() {
            let states: Vec<Option<&State>> =
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

/// The smallest or largest values, which are kept as the rows that they become.
fn extremes(measure: Measure, states: &[Option<&State>], codec: &RowCodec) -> Result<Vec<Row>, SqlError> {
    let null = codec.null()?;
    let value = |state: &Option<&State>| {
        let Some(State::Ordered(values)) = state else { return null.clone() };
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
                Some(State::Distinct(values)) => Some(values.len() as i64),
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
