//! The lists that dataflows read, each as a stream of updates (row, +1 or -1).
//!
//! [`InputSpec::poll`] finds what changed since the refresh before. A list of series reports its
//! additions, and is read as a whole only after other changes. Any other list is read again and
//! compared with what was read before, if it differs. An uploaded table is compared when it has a
//! new version. A new kind of list is a further case of [`InputSpec::poll`].

use super::program::Update;
use super::row::{Row, RowCodec};
use super::table_input::TableInput;
use crate::error::{SqlError, SqlErrorKind};
use crate::relations::series_list::{begin_of_list, pieces};
use crate::relations::{Kind, MetaRow, MetaTable, Scan};
use crate::tables::Table;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::HashMap as RowMap;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::model::{Labels, TimeMs};
use storage::store::{SeriesChanges, SeriesMark};

/// A list whose reading takes longer than this is not read again for a while. Otherwise a list that
/// cannot report its additions, such as that of a cluster, would be read all the time.
const LONG_LIST: Duration = Duration::from_millis(50);
/// The pause, as a multiple of the time that reading took.
const REST_TIMES: u32 = 20;

/// An input: some columns of a list or table.
#[derive(Debug)]
pub(super) struct InputSpec {
    /// The name, made of the list and its columns. Inputs with the same name are one.
    pub(super) name: String,
    source: InputSource,
}

#[derive(Debug)]
enum InputSource {
    List(Scan),
    Table(TableInput),
}

/// A list of series with its name.
struct SeriesList<'a> {
    scan: &'a Scan,
    table: &'static MetaTable,
}

/// The rows of an input at the latest refresh.
#[derive(Default)]
pub(super) struct InputState {
    /// All distinct rows, with the number of equal ones.
    rows: RowMap<Row, isize>,
    /// Memory of the rows, bytes.
    pub(super) bytes: usize,
    list: Option<Arc<Vec<MetaRow>>>,
    table: Option<Arc<Table>>,
    series: Option<SeriesMark>,
    /// The series of the list, by their hashes.
    listed: HashSet<u64>,
    /// The list is not read again before this time.
    resting: Option<Instant>,
    begin: TimeMs,
}

/// Limits of one read.
#[derive(Copy, Clone, Debug)]
pub(super) struct PollLimits {
    /// The most rows of all relations.
    pub(super) rows: usize,
    /// Rows that are stored already.
    pub(super) kept: usize,
    pub(super) deadline: Instant,
}

impl PollLimits {
    /// Checks that `more` rows are within the limits, and the deadline.
    fn check(&self, more: usize) -> Result<(), SqlError> {
        if self.kept.saturating_add(more) > self.rows {
            let error = format!("dataflows would keep more than {} rows of relations", self.rows);
            return Err(SqlError::new(SqlErrorKind::LimitReached, error)
                .hint("filter or group more, or end other statements that stand"));
        }
        if Instant::now() >= self.deadline {
            let error = "the rows of a relation could not be read in time";
            return Err(SqlError::new(SqlErrorKind::Timeout, error));
        }
        Ok(())
    }
}

/// Lists that were read for one refresh: several inputs may read the same one.
pub(super) type ReadLists = HashMap<&'static str, Arc<Vec<MetaRow>>>;

impl InputSpec {
    /// The input that reads `scan`.
    pub(super) fn new(scan: Scan) -> InputSpec {
        let columns: Vec<&str> = scan.columns().iter().map(|field| field.name().as_str()).collect();
        let relation = if let Kind::Meta(table) = scan.kind() { table.name } else { "" };
        InputSpec {
            name: format!("meta.{relation}({})", columns.join(", ")),
            source: InputSource::List(scan),
        }
    }

    /// The input that reads a table.
    pub(super) fn of_table(table: TableInput) -> InputSpec {
        InputSpec { name: table.input_name(), source: InputSource::Table(table) }
    }

    /// The types of its columns.
    pub(super) fn kinds(&self) -> Vec<DataType> {
        let kind = |field: &Arc<Field>| field.data_type().clone();
        match &self.source {
            InputSource::List(scan) => scan.columns().iter().map(kind).collect(),
            InputSource::Table(table) => table.columns().map(kind).collect(),
        }
    }

    /// The updates (row, number) since the last call, until `t`. After an error the state is
    /// unchanged.
    pub(super) fn poll(
        &self,
        state: &mut InputState,
        t: TimeMs,
        lists: &mut ReadLists,
        limits: &PollLimits,
    ) -> Result<Vec<Update>, SqlError> {
        let scan = match &self.source {
            InputSource::List(scan) => scan,
            InputSource::Table(table) => return self.poll_table(table, state, limits),
        };
        let Kind::Meta(table) = scan.kind() else { return Ok(Vec::new()) };
        scan.set_time(t);
        if table.lists_series {
            self.poll_series(&SeriesList { scan, table }, state, t, limits)
        } else {
            self.poll_list(scan, table, state, lists, limits)
        }
    }

    fn poll_table(
        &self,
        input: &TableInput,
        state: &mut InputState,
        limits: &PollLimits,
    ) -> Result<Vec<Update>, SqlError> {
        let table = input.newest()?;
        if state.table.as_ref().is_some_and(|known| Arc::ptr_eq(known, &table)) {
            return Ok(Vec::new());
        }
        let batch = input.rows(&table);
        let changes = self.replace(state, std::iter::once(batch), limits)?;
        state.table = Some(table);
        Ok(changes)
    }

    fn poll_list(
        &self,
        scan: &Scan,
        table: &'static MetaTable,
        state: &mut InputState,
        lists: &mut ReadLists,
        limits: &PollLimits,
    ) -> Result<Vec<Update>, SqlError> {
        let list = match lists.entry(table.name) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(empty) => empty.insert(Arc::new(scan.read_list(table.name)?)).clone(),
        };
        if state.list.as_ref() == Some(&list) {
            return Ok(Vec::new());
        }
        let batches = scan.of_list(list.clone())?;
        let changes = self.replace(state, batches, limits)?;
        state.list = Some(list);
        Ok(changes)
    }

    fn poll_series(
        &self,
        list: &SeriesList<'_>,
        state: &mut InputState,
        t: TimeMs,
        limits: &PollLimits,
    ) -> Result<Vec<Update>, SqlError> {
        let SeriesList { scan, table } = list;
        let begin = begin_of_list(t);
        if state.begin == begin
            && let Some(mark) = &mut state.series
            && let SeriesChanges::Added(series) = scan.catalog().series_since(mark)
        {
            return self.add(list, state, &series, limits);
        }
        if state.resting.is_some_and(|until| Instant::now() < until) {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        // Taken before the list is read, so that additions meanwhile are reported again and not
        // lost.
        let mark = scan.catalog().series_mark();
        let listed = scan.read_series()?;
        let has_pairs = table.name == "label_pairs";
        let batches = pieces(&listed, has_pairs).map(|piece| scan.batch_of_series(piece, has_pairs));
        let changes = self.replace(state, batches, limits)?;
        state.listed = listed.iter().map(Labels::hash64).collect();
        state.series = Some(mark);
        state.begin = begin;
        let took = began.elapsed();
        state.resting = (took > LONG_LIST).then(|| Instant::now() + took * REST_TIMES);
        Ok(changes)
    }

    fn add(
        &self,
        list: &SeriesList<'_>,
        state: &mut InputState,
        series: &[Labels],
        limits: &PollLimits,
    ) -> Result<Vec<Update>, SqlError> {
        let has_pairs = list.table.name == "label_pairs";
        // A series that was listed before has its rows already.
        let is_new = |labels: &&Labels| state.listed.insert(labels.hash64());
        let new: Vec<Labels> = series.iter().filter(is_new).cloned().collect();
        let mut changes = Vec::new();
        let codec = self.codec()?;
        for piece in pieces(&new, has_pairs) {
            let batch = list.scan.batch_of_series(piece, has_pairs)?;
            let rows = codec.encode(batch.columns(), batch.num_rows())?;
            changes.extend(rows.into_iter().map(|row| (row, 1)));
            if let Err(error) = limits.check(changes.len()) {
                // These additions are not reported again, so the whole list has to be read next
                // time.
                state.series = None;
                return Err(error);
            }
        }
        for (row, count) in &changes {
            state.change(row.clone(), *count);
        }
        Ok(changes)
    }

    /// Replaces all rows by these, and returns the differences.
    fn replace(
        &self,
        state: &mut InputState,
        batches: impl Iterator<Item = Result<RecordBatch, SqlError>>,
        limits: &PollLimits,
    ) -> Result<Vec<Update>, SqlError> {
        // Rows that are deleted at the same time do not count against the limit.
        let limits = PollLimits { kept: limits.kept.saturating_sub(state.len()), ..*limits };
        let codec = self.codec()?;
        let mut rows: RowMap<Row, isize> = RowMap::new();
        for batch in batches {
            let batch = batch?;
            for row in codec.encode(batch.columns(), batch.num_rows())? {
                *rows.entry(row).or_insert(0) += 1;
            }
            limits.check(rows.len())?;
        }
        let mut changes = Vec::new();
        for (row, count) in &rows {
            let by = count - state.rows.get(row).unwrap_or(&0);
            if by != 0 {
                changes.push((row.clone(), by));
            }
        }
        let gone = state.rows.iter().filter(|(row, _)| !rows.contains_key(*row));
        changes.extend(gone.map(|(row, count)| (row.clone(), -count)));
        state.bytes = rows.keys().map(Row::size).sum();
        state.rows = rows;
        Ok(changes)
    }

    fn codec(&self) -> Result<RowCodec, SqlError> {
        RowCodec::new(&self.kinds())
    }
}

impl InputState {
    /// All distinct rows, with the number of equal ones.
    pub(super) fn rows(&self) -> &RowMap<Row, isize> {
        &self.rows
    }

    /// Number of different rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn change(&mut self, row: Row, by: isize) {
        let size = row.size();
        let known = self.rows.entry(row).or_insert(0);
        if *known == 0 {
            self.bytes += size;
        }
        *known += by;
    }
}
