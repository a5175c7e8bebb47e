//! The relations that dataflows read, as streams of changes.
//!
//! A list of series tells what came since the list before, and is read anew only if more happened
//! than additions; any other list is read again, and compared if it differs. A relation of another
//! kind is a further case of [`InputSpec::poll`].

use super::row::{Row, RowCodec};
use crate::error::SqlError;
use crate::relations::series_list::{begin_of_list, pieces};
use crate::relations::{Kind, MetaRow, MetaTable, Scan};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::model::{Labels, TimeMs};
use storage::store::{SeriesChanges, SeriesMark};

/// A list that takes longer is not read anew for a while: who cannot say what came, such as a cluster,
/// would otherwise be read all the time.
const LONG_LIST: Duration = Duration::from_millis(50);
/// For so many times the time that it took.
const REST_TIMES: u32 = 20;

/// Some columns of a relation.
#[derive(Debug)]
pub(super) struct InputSpec {
    /// The relation and its columns; two inputs with the same name are one.
    pub(super) name: String,
    scan: Scan,
}

/// What a reader of an input has seen.
#[derive(Default)]
pub(super) struct InputState {
    /// All rows, and how many equal ones there are.
    rows: HashMap<Row, isize>,
    /// What they take, in bytes.
    pub(super) bytes: usize,
    list: Option<Arc<Vec<MetaRow>>>,
    series: Option<SeriesMark>,
    /// The series of the list, by their hashes.
    listed: HashSet<u64>,
    /// The list is not read anew before this.
    resting: Option<Instant>,
    begin: TimeMs,
}

/// Lists that were read for one refresh: several inputs may read the same one.
pub(super) type ReadLists = HashMap<&'static str, Arc<Vec<MetaRow>>>;

impl InputSpec {
    /// The input that reads `scan`.
    pub(super) fn new(scan: Scan) -> InputSpec {
        let columns: Vec<&str> = scan.columns().iter().map(|field| field.name().as_str()).collect();
        let relation = if let Kind::Meta(table) = scan.kind() { table.name } else { "" };
        InputSpec { name: format!("meta.{relation}({})", columns.join(", ")), scan }
    }

    /// The types of its columns.
    pub(super) fn kinds(&self) -> Vec<DataType> {
        self.scan.columns().iter().map(|field| field.data_type().clone()).collect()
    }

    /// What came and went until `t`: rows, and how many.
    pub(super) fn poll(
        &self,
        state: &mut InputState,
        t: TimeMs,
        lists: &mut ReadLists,
    ) -> Result<Vec<(Row, isize)>, SqlError> {
        let Kind::Meta(table) = self.scan.kind() else { return Ok(Vec::new()) };
        self.scan.set_time(t);
        if table.lists_series {
            self.poll_series(table, state, t)
        } else {
            self.poll_list(table, state, lists)
        }
    }

    fn poll_list(
        &self,
        table: &'static MetaTable,
        state: &mut InputState,
        lists: &mut ReadLists,
    ) -> Result<Vec<(Row, isize)>, SqlError> {
        let list = match lists.entry(table.name) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(empty) => empty.insert(Arc::new(self.scan.read_list(table.name)?)).clone(),
        };
        if state.list.as_ref() == Some(&list) {
            return Ok(Vec::new());
        }
        let batches = self.scan.of_list(list.clone())?;
        let changes = self.replace(state, batches)?;
        state.list = Some(list);
        Ok(changes)
    }

    fn poll_series(
        &self,
        table: &'static MetaTable,
        state: &mut InputState,
        t: TimeMs,
    ) -> Result<Vec<(Row, isize)>, SqlError> {
        let begin = begin_of_list(t);
        if state.begin == begin
            && let Some(mark) = &mut state.series
            && let SeriesChanges::Added(series) = self.scan.catalog().series_since(mark)
        {
            return self.add(table, state, &series);
        }
        if state.resting.is_some_and(|until| Instant::now() < until) {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        // Before the list, so that what comes while it is read is seen again.
        let mark = self.scan.catalog().series_mark();
        let listed = self.scan.read_series()?;
        let has_pairs = table.name == "label_pairs";
        let batches = pieces(&listed, has_pairs).map(|piece| self.scan.batch_of_series(piece, has_pairs));
        let changes = self.replace(state, batches)?;
        state.listed = listed.iter().map(Labels::hash64).collect();
        state.series = Some(mark);
        state.begin = begin;
        let took = began.elapsed();
        state.resting = (took > LONG_LIST).then(|| Instant::now() + took * REST_TIMES);
        Ok(changes)
    }

    fn add(
        &self,
        table: &MetaTable,
        state: &mut InputState,
        series: &[Labels],
    ) -> Result<Vec<(Row, isize)>, SqlError> {
        let has_pairs = table.name == "label_pairs";
        let mut changes = Vec::new();
        for piece in pieces(series, has_pairs) {
            // One that was listed already has its rows.
            let is_new = |labels: &&Labels| state.listed.insert(labels.hash64());
            let new: Vec<Labels> = piece.iter().filter(is_new).cloned().collect();
            changes.extend(self.rows(&self.scan.batch_of_series(&new, has_pairs)?)?);
        }
        let changes: Vec<(Row, isize)> = changes.into_iter().map(|row| (row, 1)).collect();
        for (row, count) in &changes {
            state.change(row.clone(), *count);
        }
        Ok(changes)
    }

    /// Makes these rows the only ones.
    fn replace(
        &self,
        state: &mut InputState,
        batches: impl Iterator<Item = Result<RecordBatch, SqlError>>,
    ) -> Result<Vec<(Row, isize)>, SqlError> {
        let mut changes: HashMap<Row, isize> = HashMap::new();
        for (row, count) in &state.rows {
            changes.insert(row.clone(), -count);
        }
        for batch in batches {
            for row in self.rows(&batch?)? {
                *changes.entry(row).or_insert(0) += 1;
            }
        }
        changes.retain(|_, count| *count != 0);
        for (row, count) in &changes {
            state.change(row.clone(), *count);
        }
        Ok(changes.into_iter().collect())
    }

    fn rows(&self, batch: &RecordBatch) -> Result<Vec<Row>, SqlError> {
        RowCodec::new(&self.kinds())?.encode(batch.columns(), batch.num_rows())
    }
}

impl InputState {
    /// Number of different rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn change(&mut self, row: Row, by: isize) {
        let size = row.size();
        match self.rows.entry(row) {
            Entry::Occupied(mut known) => {
                *known.get_mut() += by;
                if *known.get() == 0 {
                    known.remove();
                    self.bytes -= size;
                }
            }
            Entry::Vacant(empty) => {
                empty.insert(by);
                self.bytes += size;
            }
        }
    }
}
