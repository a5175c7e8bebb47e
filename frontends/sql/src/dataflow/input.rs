//! The lists that dataflows read, each as a stream of changes.
//!
//! [`InputSpec::poll`] finds what changed since the last refresh. A list of series reports its
//! additions, and is read as a whole only after other changes. Any other list is read again and
//! compared with its previous rows. An uploaded table is compared when it has a new version. A new
//! kind of list is a further case of [`InputSpec::poll`].
//!
//! Of a list of series the series are stored, because their labels are in memory anyway; rows are
//! made of them when a dataflow reads them. Of other lists the rows are stored.

use super::delta::{Delta, in_pieces};
use super::program::Update;
use super::row::{Row, RowCodec};
use super::table_input::TableInput;
use crate::error::{SqlError, SqlErrorKind};
use crate::relations::series_list::{begin_of_list, pieces};
use crate::relations::{Kind, ListRows, MetaTable, Scan};
use crate::standing::lists::SharedLists;
use crate::tables::Table;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{HashMap as RowMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, TimeMs};
use storage::store::{SeriesChanges, SeriesMark};

/// A list of at least [`LONG_LIST_SERIES`] series whose reading takes longer than this is not read
/// again for a while. A source that cannot report what was added, such as a cluster, would
/// otherwise be read all the time.
const LONG_LIST: Duration = Duration::from_millis(50);
/// See [`LONG_LIST`]. Shorter lists are always read, even if a busy machine makes reading slow.
const LONG_LIST_SERIES: usize = 10_000;
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

/// A list of series, and what it is called.
#[derive(Copy, Clone)]
struct SeriesList<'a> {
    scan: &'a Scan,
    table: &'static MetaTable,
}

/// The rows of an input at the last refresh, with which the next one compares.
pub(super) struct InputState {
    codec: Rc<RowCodec>,
    /// All rows with the number of equal ones; empty for a list of series.
    rows: RowMap<Row, isize>,
    /// The series of a list of series.
    series: HashSet<Labels>,
    /// How many rows the series have.
    series_rows: usize,
    /// Memory of rows and series, bytes.
    pub(super) bytes: usize,
    list: Option<Arc<ListRows>>,
    table: Option<Arc<Table>>,
    mark: Option<SeriesMark>,
    /// The list is not read anew before this.
    resting: Option<Instant>,
    begin: TimeMs,
}

/// What changed in a relation.
pub(super) enum Changes {
    Rows(Vec<Update>),
    Series { came: Vec<Labels>, gone: Vec<Labels> },
}

impl Changes {
    fn none() -> Changes {
        Changes::Rows(Vec::new())
    }
}

/// Rows in pieces.
pub(super) type Pieces<'a> = Box<dyn Iterator<Item = Result<Delta, SqlError>> + 'a>;

/// Limits for reading an input: rows and time.
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
        // Of all relations together: the memory is one.
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

    /// Where the rows of one relation are replaced.
    fn without(&self, state: &InputState) -> PollLimits {
        PollLimits { kept: self.kept.saturating_sub(state.len()), ..*self }
    }
}

/// One look at the relations: for a refresh, or for a new input.
pub(super) struct ListLook<'a> {
    lists: &'a SharedLists,
    /// The time for which it is made.
    t: TimeMs,
    /// The earliest time for which a list was read that it got.
    pub(super) oldest: TimeMs,
}

impl<'a> ListLook<'a> {
    /// Nothing was read yet.
    pub(super) fn new(lists: &'a SharedLists, t: TimeMs) -> ListLook<'a> {
        ListLook { lists, t, oldest: t }
    }

    fn list(&mut self, name: &'static str, scan: &Scan) -> Result<Arc<ListRows>, SqlError> {
        let reading = self.lists.read(name, self.t, scan.lists())?;
        self.oldest = self.oldest.min(reading.read_at);
        Ok(reading.rows)
    }
}

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

    /// What came and went until the time of the look. After an error the state is as before.
    pub(super) fn poll(
        &self,
        state: &mut InputState,
        look: &mut ListLook<'_>,
        limits: &PollLimits,
    ) -> Result<Changes, SqlError> {
        let scan = match &self.source {
            InputSource::List(scan) => scan,
            InputSource::Table(table) => return self.poll_table(table, state, limits).map(Changes::Rows),
        };
        let Kind::Meta(table) = scan.kind() else { return Ok(Changes::none()) };
        scan.set_time(look.t);
        if table.lists_series {
            poll_series(&SeriesList { scan, table }, state, look.t, limits)
        } else {
            let list = look.list(table.name, scan)?;
            self.poll_list(scan, list, state, limits).map(Changes::Rows)
        }
    }

    /// All rows.
    pub(super) fn all<'a>(&'a self, state: &'a InputState) -> Pieces<'a> {
        match self.series_list() {
            Some(list) => list.pieces(&state.codec, state.series.iter().cloned().collect(), 1),
            None => {
                let rows = state.rows.iter().map(|(row, count)| (row.clone(), *count));
                Box::new(in_pieces(&state.codec, rows).map(Ok))
            }
        }
    }

    /// The rows of changes.
    pub(super) fn changed<'a>(&'a self, state: &'a InputState, changes: Changes) -> Pieces<'a> {
        match (changes, self.series_list()) {
            (Changes::Series { came, gone }, Some(list)) => {
                // What goes comes first, so that no operator holds both at once.
                let gone = list.pieces(&state.codec, gone, -1);
                Box::new(gone.chain(list.pieces(&state.codec, came, 1)))
            }
            (Changes::Rows(rows), _) => Box::new(in_pieces(&state.codec, rows).map(Ok)),
            (Changes::Series { .. }, None) => Box::new(std::iter::empty()),
        }
    }

    fn series_list(&self) -> Option<SeriesList<'_>> {
        let InputSource::List(scan) = &self.source else { return None };
        let Kind::Meta(table) = scan.kind() else { return None };
        table.lists_series.then_some(SeriesList { scan, table })
    }

    /// An error if it reads a table that is gone, or has other columns now.
    pub(super) fn is_there(&self) -> Result<(), SqlError> {
        match &self.source {
            InputSource::Table(table) => table.newest().map(drop),
            InputSource::List(_) => Ok(()),
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
        list: Arc<ListRows>,
        state: &mut InputState,
        limits: &PollLimits,
    ) -> Result<Vec<Update>, SqlError> {
        // The same reading as before: another dataflow of this refresh has asked for it, or nothing
        // was read again.
        if state.list.as_ref().is_some_and(|known| Arc::ptr_eq(known, &list)) {
            return Ok(Vec::new());
        }
        let batches = scan.of_shared_list(&list)?;
        let changes = self.replace(state, batches, limits)?;
        state.list = Some(list);
        Ok(changes)
    }

    /// Makes these rows the only ones.
    fn replace(
        &self,
        state: &mut InputState,
        batches: impl Iterator<Item = Result<RecordBatch, SqlError>>,
        limits: &PollLimits,
    ) -> Result<Vec<Update>, SqlError> {
        // Not beside those that go.
        let limits = limits.without(state);
        let codec = state.codec.clone();
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
            // Equal rows are counted, so a list may have one more of the same.
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
}

impl InputState {
    /// Nothing was seen yet of this relation.
    pub(super) fn new(spec: &InputSpec) -> Result<InputState, SqlError> {
        Ok(InputState {
            codec: Rc::new(RowCodec::new(&spec.kinds())?),
            rows: RowMap::new(),
            series: HashSet::new(),
            series_rows: 0,
            bytes: 0,
            list: None,
            table: None,
            mark: None,
            resting: None,
            begin: TimeMs::MIN,
        })
    }

    /// Number of rows; equal ones count once, if rows are kept.
    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.series_rows
    }
}

fn poll_series(
    list: &SeriesList<'_>,
    state: &mut InputState,
    t: TimeMs,
    limits: &PollLimits,
) -> Result<Changes, SqlError> {
    // Series of before this time are not listed. It moves in steps, and the list is read again when
    // it has moved.
    let begin = begin_of_list(t);
    if state.begin == begin
        && let Some(mark) = &mut state.mark
        && let SeriesChanges::Added(series) = list.scan.catalog().series_since(mark)
    {
        return list.add(state, series, limits);
    }
    if state.resting.is_some_and(|until| Instant::now() < until) {
        return Ok(Changes::none());
    }
    let began = Instant::now();
    // Before the list, so that what comes while it is read is seen again.
    let mark = list.scan.catalog().series_mark();
    let changes = list.replace(state, list.scan.read_series()?, limits)?;
    state.mark = Some(mark);
    state.begin = begin;
    let took = began.elapsed();
    let is_long = took > LONG_LIST && state.series.len() >= LONG_LIST_SERIES;
    state.resting = is_long.then(|| Instant::now() + took * REST_TIMES);
    Ok(changes)
}

impl<'a> SeriesList<'a> {
    fn has_pairs(&self) -> bool {
        self.table.name == "label_pairs"
    }

    /// How many rows a series has.
    fn rows_of(&self, labels: &Labels) -> usize {
        // One row a series; in the list of label pairs one for each label but the name.
        if !self.has_pairs() {
            return 1;
        }
        labels.len() - usize::from(labels.get(METRIC_NAME).is_some())
    }

    fn rows_of_all<'b>(&self, series: impl IntoIterator<Item = &'b Labels>) -> usize {
        series.into_iter().map(|labels| self.rows_of(labels)).sum()
    }

    /// The rows of series, which came (1) or went (-1).
    fn pieces(self, codec: &Rc<RowCodec>, series: Vec<Labels>, count: isize) -> Pieces<'a> {
        let has_pairs = self.has_pairs();
        let sizes: Vec<usize> = pieces(&series, has_pairs).map(<[Labels]>::len).collect();
        let codec = codec.clone();
        let mut at = 0;
        Box::new(sizes.into_iter().map(move |size| {
            let piece = series.get(at..at + size).unwrap_or_default();
            at += size;
            let batch = self.scan.batch_of_series(piece, has_pairs)?;
            let counts = Rc::new(vec![count; batch.num_rows()]);
            Ok(Delta::of_columns(codec.clone(), batch, counts))
        }))
    }

    fn add(
        &self,
        state: &mut InputState,
        mut series: Vec<Labels>,
        limits: &PollLimits,
    ) -> Result<Changes, SqlError> {
        // One that was listed already has its rows.
        series.retain(|labels| !state.series.contains(labels));
        if series.is_empty() {
            return Ok(Changes::none());
        }
        if let Err(error) = limits.check(self.rows_of_all(&series)) {
            // What was told now is not told again: the list has to be read.
            state.mark = None;
            return Err(error);
        }
        series.retain(|labels| state.series.insert(labels.clone()));
        state.series_rows += self.rows_of_all(&series);
        state.bytes += series.iter().map(series_size).sum::<usize>();
        Ok(Changes::Series { came: series, gone: Vec::new() })
    }

    /// Makes these series the only ones.
    fn replace(
        &self,
        state: &mut InputState,
        listed: Vec<Labels>,
        limits: &PollLimits,
    ) -> Result<Changes, SqlError> {
        // Not beside those that go.
        limits.without(state).check(self.rows_of_all(&listed))?;
        let series: HashSet<Labels> = listed.into_iter().collect();
        let came = series.difference(&state.series).cloned().collect();
        let gone = state.series.difference(&series).cloned().collect();
        state.series_rows = self.rows_of_all(&series);
        state.bytes = series.iter().map(series_size).sum();
        state.series = series;
        Ok(Changes::Series { came, gone })
    }
}

/// What a series takes in a list, in bytes: its labels, which the store mostly has, too.
fn series_size(labels: &Labels) -> usize {
    const BESIDE: usize = 48;
    labels.encoded().len() + BESIDE
}
