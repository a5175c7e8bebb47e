//! Reads the parts of a block that are read whole when it is opened: its clocks (timestamps that
//! many series share), which rows each series has, and for old formats the labels.

use super::damaged;
use super::page::element;
use super::paged_file::{PagedFile, batches};
use super::timestamps::TimestampColumn;
use crate::error::StoreError;
use crate::model::Labels;
use crate::model::labels::METRIC_NAME;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt32Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use std::path::Path;

fn small_batches(
    path: &Path,
    content: Bytes,
    names: &[&str],
) -> Result<impl Iterator<Item = Result<RecordBatch, StoreError>> + use<>, StoreError> {
    let footer =
        ArrowReaderMetadata::load(&content, ArrowReaderOptions::new()).map_err(|e| damaged(path, e))?;
    // The content is in memory: what the decoder reports can only be damage.
    let path = path.to_owned();
    batches(content, footer, names, move |error| damaged(&path, error))
}

/// The timestamps of each clock.
pub(super) fn read_clocks(path: &Path, content: Bytes) -> Result<Vec<TimestampColumn>, StoreError> {
    let mut clocks = Vec::new();
    for batch in small_batches(path, content, &["ts"])? {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let ts = element::<Int64Type>(batch.column(0), row)
                .ok_or_else(|| damaged(path, "ts is no list of int64"))?;
            clocks.push(TimestampColumn::new(ts.as_primitive::<Int64Type>().values()));
        }
    }
    Ok(clocks)
}

/// The labels of each series.
pub(super) fn read_series(path: &Path, content: Bytes) -> Result<Vec<Labels>, StoreError> {
    let mut series = Vec::new();
    for batch in small_batches(path, content, &["__name__", "labels"])? {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            series.push(labels_of(&batch, row).ok_or_else(|| damaged(path, "has columns of other types"))?);
        }
    }
    Ok(series)
}

/// The labels in a row of the columns `__name__` and `labels`.
pub(super) fn labels_of(batch: &RecordBatch, row: usize) -> Option<Labels> {
    let names = batch.column(0).as_string_opt::<i32>()?;
    let maps = batch.column(1).as_map_opt()?;
    let keys = maps.keys().as_string_opt::<i32>()?;
    let values = maps.values().as_string_opt::<i32>()?;
    let offsets = maps.value_offsets();
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(16);
    let entries = *offsets.get(row)? as usize..*offsets.get(row + 1)? as usize;
    pairs.extend(entries.map(|at| (keys.value(at), values.value(at))));
    if !names.value(row).is_empty() {
        // The other labels are sorted: insert the name at its place.
        let place = pairs.partition_point(|(name, _)| *name < METRIC_NAME);
        pairs.insert(place, (METRIC_NAME, names.value(row)));
    }
    Some(Labels::from_sorted(pairs))
}

/// The row index: the first row of each series (and the end), and the clock of each row. A series
/// with histograms only has no rows.
pub(super) fn read_rows(
    samples: &PagedFile,
    series: usize,
    clocks: usize,
) -> Result<(Vec<u32>, Vec<u32>), StoreError> {
    let mut first_row = Vec::with_capacity(series + 1);
    let mut row_clock = Vec::new();
    for batch in samples.columns(&["series_id", "clock_id"])? {
        let batch = batch?;
        let u32s = |at: usize| batch.column(at).as_primitive_opt::<UInt32Type>();
        let (Some(ids), Some(clock_ids)) = (u32s(0), u32s(1)) else {
            return Err(samples.bad("ids are no u32"));
        };
        for (id, clock) in ids.values().iter().zip(clock_ids.values()) {
            let row = row_clock.len() as u32;
            if *id as usize + 1 < first_row.len() || *id as usize >= series {
                return Err(samples.bad(format!("row {row}: series {id} is out of order")));
            }
            while first_row.len() <= *id as usize {
                first_row.push(row);
            }
            if *clock as usize >= clocks {
                return Err(samples.bad(format!("row {row}: clock {clock} does not exist")));
            }
            row_clock.push(*clock);
        }
    }
    first_row.resize(series + 1, row_clock.len() as u32);
    Ok((first_row, row_clock))
}
