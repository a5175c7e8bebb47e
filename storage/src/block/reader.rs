//! Reading a block: labels, postings, clocks and the row index are in memory, values come page by page.
//!
//! A page of `samples.parquet` (64 rows, about 64 series) is fetched through the offset index, checked, decoded
//! and kept a while in the page cache, because the next question is mostly about its neighbour.

use super::cache::PageCache;
use super::files::{CheckedFile, read_checked};
use super::meta::{BlockMeta, META};
use super::postings::Postings;
use super::schema::{CHECKSUMS, CLOCKS, SAMPLES, SERIES};
use super::{damaged, decimal, io_error};
use crate::limits::{BLOCK_GROUP_ROWS, BLOCK_PAGE_ROWS};
use crate::model::labels::METRIC_NAME;
use crate::model::value::STALE;
use crate::model::{Labels, Matcher, TimeMs, shard_of};
use crate::store::StoreError;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int8Type, Int64Type, UInt32Type};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::ChunkReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open block; cheap to clone. Files stay readable after the directory is removed, as long as a clone lives.
#[derive(Clone)]
pub struct Block(Arc<Inner>);

struct Inner {
    meta: BlockMeta,
    path: PathBuf,
    samples: CheckedFile,
    footer: ArrowReaderMetadata,
    series: Vec<Labels>,
    shards: Vec<u16>,
    postings: Postings,
    clocks: Vec<Vec<TimeMs>>,
    /// First row of each series, and one past the last row.
    first_row: Vec<u32>,
    /// Clock of each row.
    row_clock: Vec<u32>,
    cache: PageCache,
    number: u64,
}

/// A series of a block.
#[derive(Clone)]
pub struct BlockSeriesHandle {
    block: Block,
    series: u32,
}

impl Block {
    /// Opens the block in directory `dir`. Everything but the values is checked here, the values when they are read.
    pub fn open(dir: &Path) -> Result<Block, StoreError> {
        Block::open_with(dir, &PageCache::default())
    }

    pub(super) fn open_with(dir: &Path, cache: &PageCache) -> Result<Block, StoreError> {
        let meta_path = dir.join(META);
        let meta = BlockMeta::decode(dir, &std::fs::read(&meta_path).map_err(io_error(&meta_path))?)?;
        let content = |name: &str| read_checked(&dir.join(name), meta.files.get(name));
        let series = read_series(&dir.join(SERIES), content(SERIES)?)?;
        let clocks = read_clocks(&dir.join(CLOCKS), content(CLOCKS)?)?;
        let path = dir.join(SAMPLES);
        let samples = CheckedFile::open(&path, meta.files.get(SAMPLES), content(CHECKSUMS)?)?;
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
        let footer = ArrowReaderMetadata::load(&samples, options).map_err(|e| damaged(&path, e))?;
        let (first_row, row_clock) = read_rows(&path, &samples, &footer, series.len(), clocks.len())?;
        if (series.len() as u64, clocks.len() as u64, row_clock.len() as u64)
            != (meta.series, meta.clocks, meta.rows)
        {
            return Err(damaged(&meta_path, "counts other series, clocks or rows than there are"));
        }
        let shards = series.iter().map(shard_of).collect();
        let (postings, cache, number) = (Postings::build(&series), cache.clone(), cache.register());
        let inner = Inner {
            meta,
            path,
            samples,
            footer,
            series,
            shards,
            postings,
            clocks,
            first_row,
            row_clock,
            cache,
            number,
        };
        Ok(Block(Arc::new(inner)))
    }

    /// What the block holds.
    pub fn meta(&self) -> &BlockMeta {
        &self.0.meta
    }

    /// The series that satisfy all matchers and may have samples in `from..=to`, sorted by labels.
    pub fn select(&self, matchers: &[Matcher], from: TimeMs, to: TimeMs) -> Vec<BlockSeriesHandle> {
        self.select_if(matchers, from, to, |_| true)
    }

    /// As [`Block::select`], of one shard only.
    pub fn select_shard(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Vec<BlockSeriesHandle> {
        self.select_if(matchers, from, to, |series| self.0.shards[series as usize] == shard)
    }

    fn select_if(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
        keep: impl Fn(u32) -> bool,
    ) -> Vec<BlockSeriesHandle> {
        if !self.0.meta.overlaps(from, to) {
            return Vec::new();
        }
        let ids = self.0.postings.select(matchers).into_iter();
        let here = ids.filter(|id| keep(*id) && self.rows_in(*id, from, to).next().is_some());
        here.map(|series| BlockSeriesHandle { block: self.clone(), series }).collect()
    }

    /// Calls `each(name)` for the label names of the series that satisfy all matchers, perhaps several times.
    pub(super) fn each_label_name(&self, matchers: &[Matcher], mut each: impl FnMut(&str)) {
        if matchers.is_empty() {
            return self.0.postings.names().for_each(each);
        }
        for id in self.0.postings.select(matchers) {
            self.0.series[id as usize].iter().for_each(|(name, _)| each(name));
        }
    }

    /// Calls `each(value)` for the values of label `name` of the series that satisfy all matchers, perhaps several times.
    pub(super) fn each_label_value(&self, name: &str, matchers: &[Matcher], mut each: impl FnMut(&str)) {
        if matchers.is_empty() {
            return self.0.postings.values(name).for_each(each);
        }
        for id in self.0.postings.select(matchers) {
            self.0.series[id as usize].get(name).into_iter().for_each(&mut each);
        }
    }

    /// Rows of a series whose clock reaches into `from..=to`.
    fn rows_in(&self, series: u32, from: TimeMs, to: TimeMs) -> impl Iterator<Item = usize> + '_ {
        let inner = &*self.0;
        let rows = inner.first_row[series as usize] as usize..inner.first_row[series as usize + 1] as usize;
        rows.filter(move |row| {
            let clock = &inner.clocks[inner.row_clock[*row] as usize];
            clock.first().is_some_and(|t| *t <= to) && clock.last().is_some_and(|t| from <= *t)
        })
    }

    fn read(
        &self,
        series: u32,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        let mut current: Option<(usize, RecordBatch)> = None;
        for row in self.rows_in(series, from, to) {
            let page = row / BLOCK_PAGE_ROWS;
            let batch = match current.take() {
                Some((number, batch)) if number == page => batch,
                _ => self.page(page)?,
            };
            self.decode(&batch, row, from, to, ts, vs)?;
            current = Some((page, batch));
        }
        Ok(())
    }

    /// The decoded rows `page * BLOCK_PAGE_ROWS ..`, with the columns `exp`, `gaps`, `m`, `raw`.
    fn page(&self, page: usize) -> Result<RecordBatch, StoreError> {
        let inner = &*self.0;
        if let Some(batch) = inner.cache.get((inner.number, page)) {
            return Ok(batch);
        }
        let first = page * BLOCK_PAGE_ROWS % BLOCK_GROUP_ROWS;
        let group = page * BLOCK_PAGE_ROWS / BLOCK_GROUP_ROWS;
        let in_group = inner.row_clock.len().saturating_sub(group * BLOCK_GROUP_ROWS).min(BLOCK_GROUP_ROWS);
        let last = (first + BLOCK_PAGE_ROWS).min(in_group);
        let mask = columns(&inner.footer, &["exp", "gaps", "m", "raw"]);
        let reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(inner.samples.clone(), inner.footer.clone())
                .with_row_groups(vec![group])
                .with_projection(mask)
                .with_batch_size(BLOCK_PAGE_ROWS)
                .with_row_selection(RowSelection::from_consecutive_ranges(
                    std::iter::once(first..last),
                    in_group,
                ))
                .build();
        let batch = reader.map_err(|e| self.bad(e))?.next().ok_or_else(|| self.bad("a page is empty"))?;
        let batch = batch.map_err(|e| self.bad(e))?;
        if batch.num_rows() != last - first || batch.num_columns() != 4 {
            return Err(self.bad("a page has not the rows that it should have"));
        }
        inner.cache.put((inner.number, page), &batch);
        Ok(batch)
    }

    fn bad(&self, reason: impl ToString) -> StoreError {
        damaged(&self.0.path, reason)
    }

    /// Appends the samples of one row that are in `from..=to`.
    fn decode(
        &self,
        batch: &RecordBatch,
        row: usize,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        let at = row % BLOCK_PAGE_ROWS;
        let clock = &self.0.clocks[self.0.row_clock[row] as usize];
        let gaps =
            element::<UInt32Type>(batch.column(1), at).ok_or_else(|| self.bad("gaps are no list of u32"))?;
        let gaps = gaps.as_primitive::<UInt32Type>().values();
        let exp = batch
            .column(0)
            .as_primitive_opt::<Int8Type>()
            .ok_or_else(|| self.bad("exp is no int8"))?
            .value(at);
        let added = ts.len();
        let range = push_times(clock, gaps, from, to, ts);
        let count = clock.len().checked_sub(gaps.len());
        let done = match decimal::value(exp) {
            Some(value) => element::<Int64Type>(batch.column(2), at)
                .filter(|list| Some(list.len()) == count)
                .map(|list| push_values::<Int64Type>(&list, range, value, vs)),
            None => element::<Float64Type>(batch.column(3), at)
                .filter(|list| Some(list.len()) == count)
                .map(|list| push_values::<Float64Type>(&list, range, |v| v, vs)),
        };
        if done.is_none() {
            ts.truncate(added);
            return Err(self.bad(format!("row {row}: values and timestamps do not fit together")));
        }
        Ok(())
    }
}

impl BlockSeriesHandle {
    /// The series' labels.
    pub fn labels(&self) -> &Labels {
        &self.block.0.series[self.series as usize]
    }

    /// The block it is a part of.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Appends the samples with `from ≤ t ≤ to`, in time order, stale markers included.
    pub fn read(
        &self,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        self.block.read(self.series, from, to, ts, vs)
    }
}

/// The list in row `at` of a list column, if it is one of these elements and not null.
fn element<T: ArrowPrimitiveType>(column: &ArrayRef, at: usize) -> Option<ArrayRef> {
    let list = column.as_list_opt::<i32>()?;
    if at >= list.len() || list.is_null(at) {
        return None;
    }
    let element = list.value(at);
    element.as_primitive_opt::<T>().is_some().then_some(element)
}

/// Appends the times of `clock` at which there is a sample in `from..=to`; which samples of the row these are.
fn push_times(
    clock: &[TimeMs],
    gaps: &[u32],
    from: TimeMs,
    to: TimeMs,
    ts: &mut Vec<TimeMs>,
) -> std::ops::Range<usize> {
    let (start, end) = (clock.partition_point(|t| *t < from), clock.partition_point(|t| *t <= to));
    let before = gaps.partition_point(|gap| (*gap as usize) < start);
    let already = ts.len();
    let mut gaps = gaps[before..].iter().map(|gap| *gap as usize).peekable();
    for (at, t) in clock.iter().enumerate().take(end).skip(start) {
        if gaps.next_if_eq(&at).is_none() {
            ts.push(*t);
        }
    }
    start - before..start - before + ts.len() - already
}

fn push_values<T: ArrowPrimitiveType>(
    list: &ArrayRef,
    range: std::ops::Range<usize>,
    value: impl Fn(T::Native) -> f64,
    vs: &mut Vec<f64>,
) {
    let list = list.as_primitive::<T>();
    if list.null_count() == 0 {
        return vs.extend(list.values()[range].iter().map(|v| value(*v)));
    }
    vs.extend(range.map(|at| if list.is_null(at) { STALE } else { value(list.value(at)) }));
}

fn columns(footer: &ArrowReaderMetadata, names: &[&str]) -> ProjectionMask {
    let schema = footer.schema();
    let roots = names.iter().filter_map(|name| schema.index_of(name).ok());
    ProjectionMask::roots(footer.parquet_schema(), roots)
}

/// All record batches of a file; the columns must be called `names`.
fn batches<R: ChunkReader + 'static>(
    path: &Path,
    file: R,
    footer: ArrowReaderMetadata,
    names: &[&str],
) -> Result<Vec<RecordBatch>, StoreError> {
    let mask = columns(&footer, names);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer)
        .with_projection(mask)
        .with_batch_size(BLOCK_GROUP_ROWS)
        .build()
        .map_err(|e| damaged(path, e))?;
    let mut all = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| damaged(path, e))?;
        if batch.num_columns() != names.len() {
            return Err(damaged(path, format!("has not the columns {}", names.join(", "))));
        }
        all.push(batch);
    }
    Ok(all)
}

fn small_batches(path: &Path, content: Bytes, names: &[&str]) -> Result<Vec<RecordBatch>, StoreError> {
    let footer =
        ArrowReaderMetadata::load(&content, ArrowReaderOptions::new()).map_err(|e| damaged(path, e))?;
    batches(path, content, footer, names)
}

fn read_clocks(path: &Path, content: Bytes) -> Result<Vec<Vec<TimeMs>>, StoreError> {
    let mut clocks = Vec::new();
    for batch in small_batches(path, content, &["ts"])? {
        for row in 0..batch.num_rows() {
            let ts = element::<Int64Type>(batch.column(0), row)
                .ok_or_else(|| damaged(path, "ts is no list of int64"))?;
            clocks.push(ts.as_primitive::<Int64Type>().values().to_vec());
        }
    }
    Ok(clocks)
}

fn read_series(path: &Path, content: Bytes) -> Result<Vec<Labels>, StoreError> {
    let mut series = Vec::new();
    for batch in small_batches(path, content, &["__name__", "labels"])? {
        let read = || -> Option<Vec<Labels>> {
            let (names, maps) = (batch.column(0).as_string_opt::<i32>()?, batch.column(1).as_map_opt()?);
            let (keys, values) = (maps.keys().as_string_opt::<i32>()?, maps.values().as_string_opt::<i32>()?);
            let offsets = maps.value_offsets();
            let one = |row: usize| {
                let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(16);
                if !names.value(row).is_empty() {
                    pairs.push((METRIC_NAME, names.value(row)));
                }
                let entries = offsets[row] as usize..offsets[row + 1] as usize;
                pairs.extend(entries.map(|at| (keys.value(at), values.value(at))));
                pairs.sort_unstable();
                Labels::from_sorted(pairs)
            };
            Some((0..batch.num_rows()).map(one).collect())
        };
        series.extend(read().ok_or_else(|| damaged(path, "has columns of other types"))?);
    }
    Ok(series)
}

/// The row index: first row by series (and the end), clock by row.
fn read_rows(
    path: &Path,
    samples: &CheckedFile,
    footer: &ArrowReaderMetadata,
    series: usize,
    clocks: usize,
) -> Result<(Vec<u32>, Vec<u32>), StoreError> {
    let (mut first_row, mut row_clock) = (Vec::with_capacity(series + 1), Vec::new());
    for batch in batches(path, samples.clone(), footer.clone(), &["series_id", "clock_id"])? {
        let u32s = |at: usize| batch.column(at).as_primitive_opt::<UInt32Type>();
        let (Some(ids), Some(clock_ids)) = (u32s(0), u32s(1)) else {
            return Err(damaged(path, "ids are no u32"));
        };
        for (id, clock) in ids.values().iter().zip(clock_ids.values()) {
            let row = row_clock.len() as u32;
            match (*id as usize + 1).checked_sub(first_row.len()) {
                Some(0) => {}
                Some(1) => first_row.push(row),
                _ => return Err(damaged(path, format!("row {row}: series {id} is out of order"))),
            }
            if *clock as usize >= clocks {
                return Err(damaged(path, format!("row {row}: clock {clock} does not exist")));
            }
            row_clock.push(*clock);
        }
    }
    if first_row.len() != series {
        return Err(damaged(path, format!("has rows of {} series instead of {series}", first_row.len())));
    }
    first_row.push(row_clock.len() as u32);
    Ok((first_row, row_clock))
}
