//! Writes a block: a directory of Parquet files over one range of time (`docs/format/block.md`).
//! The series come sorted, and the rows are written in one pass; only timestamps and labels are
//! kept in memory. [`super::reader`] reads what is written here.

use super::block_set::remove_dir;
use super::files::{CheckedWriter, check_all};
use super::histogram_rows::{HistogramRows, StartRows};
use super::meta::{BlockMeta, FileMeta, META, UNHASHED};
use super::sample_rows::SampleRowBuilder;
use super::schema::{
    self, CHECKSUMS, CLOCKS, HISTOGRAMS, HISTOGRAMS_CHECKSUMS, POSTINGS, POSTINGS_CHECKSUMS, SAMPLES, SERIES,
    SERIES_CHECKSUMS, STARTS, STARTS_CHECKSUMS, TERMS, TERMS_CHECKSUMS, column,
};
use super::timestamp_table::{TimestampTable, target_of};
use super::{damaged, index, io_error};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::limits::{BLOCK_PAGE_ROWS, BLOCK_SPARSE_PAGE_ROWS, BLOCK_WINDOW_MS, SERIES_PAGE_ROWS};
use crate::model::labels::METRIC_NAME;
use crate::model::runs::{TimedHistograms, TimedStarts};
use crate::model::{Labels, TimeMs};
use arrow::array::StringArray;
use arrow::array::{MapBuilder, MapFieldNames, RecordBatch, StringBuilder, UInt32Array};
use arrow::datatypes::Schema;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All samples of one series in a block.
#[derive(Clone, Debug, Default)]
pub struct BlockSeries {
    /// The labels of the series.
    pub labels: Labels,
    /// Timestamps, strictly ascending, within the range of the block.
    pub ts: Vec<TimeMs>,
    /// Values, parallel to `ts`; may be stale markers.
    pub vs: Vec<f64>,
    /// Histograms, strictly ascending, at other times than `ts`.
    pub histograms: TimedHistograms,
    /// Start timestamps of samples, strictly ascending by the time of the sample.
    pub starts: TimedStarts,
}

/// The range and the origin of a block.
pub struct BlockSpec<'a> {
    /// First instant of the range.
    pub from: TimeMs,
    /// First instant after the range.
    pub to: TimeMs,
    /// Names of the blocks that it replaces: it has all their samples.
    pub replaces: Vec<String>,
    /// Names that it must not get: see [`fn@super::reserved_names`].
    pub reserved: &'a BTreeSet<String>,
}

/// Writes the block `from ≤ t < to` into `blocks_dir` from series sorted by labels; no names are
/// reserved. Durable on return. Series without samples are left out. After an error at most a
/// `.tmp` directory is left.
pub fn write_block(
    disk: &dyn Disk,
    blocks_dir: &Path,
    from: TimeMs,
    to: TimeMs,
    series: impl Iterator<Item = Result<BlockSeries, StoreError>>,
) -> Result<BlockMeta, StoreError> {
    let origin = BlockSpec { from, to, replaces: Vec::new(), reserved: &BTreeSet::new() };
    write_block_replacing(disk, blocks_dir, origin, series)
}

/// As [`write_block`], for a block that may replace others, and with reserved names.
pub fn write_block_replacing(
    disk: &dyn Disk,
    blocks_dir: &Path,
    origin: BlockSpec,
    series: impl Iterator<Item = Result<BlockSeries, StoreError>>,
) -> Result<BlockMeta, StoreError> {
    let BlockSpec { from, to, replaces, reserved } = origin;
    // Another name than a flush of the same range, which may run at the same time.
    let what = if replaces.is_empty() { "" } else { "_merge" };
    let temporary = blocks_dir.join(format!("{from}_{to}{what}.tmp"));
    // Left by a process that was killed: the directory of one range has one name, and nobody else
    // writes it.
    remove_if_there(disk, &temporary)?;
    disk.create_dir(&temporary).map_err(io_error(&temporary))?;
    let mut meta = write_files(disk, &temporary, from, to, series).inspect_err(|_| {
        // If this fails too, the next start removes the directory.
        let _ = disk.remove(&temporary);
    })?;
    meta.replaces = replaces;
    meta.dir = blocks_dir.join(name(&meta));
    let exists = |meta: &BlockMeta| disk.list(&meta.dir).is_ok_and(|files| !files.is_empty());
    let is_reserved = |meta: &BlockMeta| reserved.contains(&meta.name().to_string());
    // The name is a hash of the content: a block that exists with this name is this block, or was
    // before it was damaged.
    while exists(&meta) || is_reserved(&meta) {
        if !is_reserved(&meta) && is_whole(disk, &meta) {
            disk.remove(&temporary).map_err(io_error(&temporary))?;
            disk.sync_dir(blocks_dir).map_err(io_error(blocks_dir))?;
            return Ok(meta);
        }
        // The damaged block is replaced under another name, so that at every moment one of them
        // exists. The new name must not be reserved either.
        meta.replaces.push(meta.name().to_string());
        meta.dir = blocks_dir.join(name(&meta));
    }
    // Last: it has the checksums of all others, and says which blocks this one replaces.
    let _ = write_bytes(disk, &temporary.join(META), &meta.encode().map_err(|e| damaged(&temporary, e))?)?;
    disk.sync_dir(&temporary).map_err(io_error(&temporary))?;
    let placed = disk.rename(&temporary, &meta.dir).and_then(|()| disk.sync_dir(blocks_dir));
    if placed.is_err() && disk.list(&meta.dir).is_ok() {
        // The set does not know the block: later deletions would not cover it, and a restart would
        // bring their samples back.
        let _ = remove_dir(disk, &meta.dir);
    }
    placed.map_err(io_error(&temporary))?;
    Ok(meta)
}

/// Whether the block `meta` is on disk already, and every byte of it is right.
fn is_whole(disk: &dyn Disk, meta: &BlockMeta) -> bool {
    let existing =
        disk.read(&meta.dir.join(META)).ok().and_then(|text| BlockMeta::decode(&meta.dir, &text).ok());
    existing.as_ref() == Some(meta) && check_all(disk, &meta.dir, meta).is_ok()
}

fn remove_if_there(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    if disk.list(dir).is_ok() { disk.remove(dir).map_err(io_error(dir)) } else { Ok(()) }
}

/// The name of the directory. It depends only on the content, so that writing the same block twice
/// gives the same name. A block that replaces others never has the name of one of them, even if the
/// samples are the same.
fn name(meta: &BlockMeta) -> String {
    let files = meta.files.values().map(|f| f.crc32c.as_str());
    let content: String = files.chain(meta.replaces.iter().map(String::as_str)).collect();
    format!("{}_{}_{:016x}", meta.from, meta.to, xxhash_rust::xxh3::xxh3_64(content.as_bytes()))
}

fn write_files(
    disk: &dyn Disk,
    dir: &Path,
    from: TimeMs,
    to: TimeMs,
    series: impl Iterator<Item = Result<BlockSeries, StoreError>>,
) -> Result<BlockMeta, StoreError> {
    let mut builder = BlockBuilder::new(disk, dir, from, to)?;
    for one in series {
        builder.push(&one?)?;
    }
    builder.finish()
}

/// Writes a file. Returns its entry in `meta.json` and the checksums of its chunks.
fn write_bytes(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(FileMeta, Vec<u8>), StoreError> {
    let mut file = CheckedWriter::create(disk, path)?;
    file.write_all(bytes).map_err(io_error(path))?;
    file.finish()
}

/// A Parquet file that is being written.
struct ParquetFileWriter {
    path: PathBuf,
    writer: ArrowWriter<CheckedWriter>,
}

impl ParquetFileWriter {
    fn create(
        disk: &dyn Disk,
        path: PathBuf,
        schema: Arc<Schema>,
        properties: Result<WriterProperties, ParquetError>,
    ) -> Result<ParquetFileWriter, StoreError> {
        let file = CheckedWriter::create(disk, &path)?;
        let writer = properties.and_then(|p| ArrowWriter::try_new(file, schema, Some(p)));
        Ok(ParquetFileWriter { writer: writer.map_err(failed(&path))?, path })
    }

    fn write(&mut self, batch: Result<RecordBatch, arrow::error::ArrowError>) -> Result<(), StoreError> {
        let batch = batch.map_err(|e| damaged(&self.path, e))?;
        self.writer.write(&batch).map_err(failed(&self.path))
    }

    fn finish(self) -> Result<(FileMeta, Vec<u8>), StoreError> {
        self.writer.into_inner().map_err(failed(&self.path))?.finish()
    }
}

/// Parquet errors while writing are almost always errors of the disk.
fn failed(path: &Path) -> impl Fn(ParquetError) -> StoreError + '_ {
    |error| StoreError::Io { path: path.to_owned(), source: io_cause(error) }
}

fn io_cause(error: ParquetError) -> std::io::Error {
    match error {
        // The disk is full, for example: the caller decides by the kind of the error, so it must
        // not be hidden in a text.
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => *io,
            Err(other) => std::io::Error::other(other),
        },
        other => std::io::Error::other(other),
    }
}

/// A file with histograms or start timestamps; created with the first item.
struct SparseFileWriter<R> {
    rows: R,
    waiting: usize,
    table: ParquetFileWriter,
}

type FinishBatchFn<R> = fn(&mut R) -> Result<RecordBatch, arrow::error::ArrowError>;

impl<R> SparseFileWriter<R> {
    /// Counts an item, and writes a page when there are enough.
    fn pushed(&mut self, take: FinishBatchFn<R>) -> Result<(), StoreError> {
        self.waiting += 1;
        if self.waiting < BLOCK_SPARSE_PAGE_ROWS {
            return Ok(());
        }
        self.waiting = 0;
        self.table.write(take(&mut self.rows))
    }

    fn finish(mut self, take: FinishBatchFn<R>) -> Result<(FileMeta, Vec<u8>), StoreError> {
        if self.waiting > 0 {
            self.table.write(take(&mut self.rows))?;
        }
        self.table.finish()
    }
}

struct BlockBuilder<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    samples: ParquetFileWriter,
    rows: SampleRowBuilder,
    histograms: Option<SparseFileWriter<HistogramRows>>,
    starts: Option<SparseFileWriter<StartRows>>,
    clocks: TimestampTable,
    labels: Vec<Labels>,
    meta: BlockMeta,
}

impl<'a> BlockBuilder<'a> {
    fn new(
        disk: &'a dyn Disk,
        dir: &'a Path,
        from: TimeMs,
        to: TimeMs,
    ) -> Result<BlockBuilder<'a>, StoreError> {
        let samples = ParquetFileWriter::create(
            disk,
            dir.join(SAMPLES),
            schema::samples(),
            schema::samples_properties(),
        )?;
        let meta = BlockMeta {
            version: UNHASHED,
            from,
            to,
            min_time: TimeMs::MAX,
            max_time: TimeMs::MIN,
            ..BlockMeta::default()
        };
        Ok(BlockBuilder {
            disk,
            dir,
            samples,
            rows: SampleRowBuilder::new(),
            histograms: None,
            starts: None,
            clocks: TimestampTable::default(),
            labels: Vec::new(),
            meta,
        })
    }

    fn push(&mut self, series: &BlockSeries) -> Result<(), StoreError> {
        let histogram = |at: Option<&(TimeMs, _)>| at.map(|(t, _)| *t);
        let first = histogram(series.histograms.first());
        let last = histogram(series.histograms.last());
        let ends = series.ts.first().into_iter().chain(series.ts.last()).copied().chain(first).chain(last);
        // A series without samples is not written: readers would list it.
        let Some((min, max)) = ends.map(|t| (t, t)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else {
            return Ok(());
        };
        self.check(series)?;
        let id = self.labels.len() as u32;
        let target = target_of(&series.labels);
        self.labels.push(series.labels.clone());
        self.meta.min_time = self.meta.min_time.min(min);
        self.meta.max_time = self.meta.max_time.max(max);
        self.meta.samples += (series.ts.len() + series.histograms.len()) as u64;
        self.push_lanes(id, series)?;
        let mut vs = series.vs.as_slice();
        let window = |t: i64| t.div_euclid(BLOCK_WINDOW_MS);
        // A row has at most two hours: to read one sample, no more than that is decoded, however
        // long the block is.
        for ts in series.ts.chunk_by(|a, b| window(*a) == window(*b)) {
            let (now, later) = vs.split_at(ts.len());
            self.rows.push(id, target, &mut self.clocks, ts, now);
            self.meta.rows += 1;
            vs = later;
            // One page at a time: this keeps the builders small, and gives pages that
            // `page_decoder.rs` can decode.
            if self.rows.len() == BLOCK_PAGE_ROWS {
                self.samples.write(self.rows.take())?;
            }
        }
        Ok(())
    }

    /// Checks what the caller must guarantee; otherwise the files could not be read back.
    fn check(&self, series: &BlockSeries) -> Result<(), StoreError> {
        let refuse = |why: &str| Err(damaged(self.dir, format!("series {}: {why}", series.labels)));
        if self.labels.last().is_some_and(|last| *last >= series.labels) {
            return refuse("is not after the series before it");
        }
        if series.ts.len() != series.vs.len() {
            return refuse("has not as many values as timestamps");
        }
        let histograms: Vec<TimeMs> = series.histograms.iter().map(|(t, _)| *t).collect();
        let starts: Vec<TimeMs> = series.starts.iter().map(|(t, _)| *t).collect();
        for ts in [&series.ts, &histograms, &starts] {
            // Differences between timestamps are written without a sign.
            if ts.windows(2).any(|pair| pair[0] >= pair[1]) {
                return refuse("has timestamps that do not ascend");
            }
            if ts.iter().any(|t| *t < self.meta.from || *t >= self.meta.to) {
                return refuse("has a sample outside of the block");
            }
        }
        Ok(())
    }

    /// Adds histograms and start timestamps. Their files are created with the first of them.
    fn push_lanes(&mut self, id: u32, series: &BlockSeries) -> Result<(), StoreError> {
        let begin = |name: &str, schema, properties| {
            ParquetFileWriter::create(self.disk, self.dir.join(name), schema, properties)
        };
        // Most blocks have none of either, and no file for them.
        if self.histograms.is_none() && !series.histograms.is_empty() {
            let table = begin(HISTOGRAMS, schema::histograms(), schema::histograms_properties())?;
            self.histograms = Some(SparseFileWriter { rows: HistogramRows::new(), waiting: 0, table });
        }
        if self.starts.is_none() && !series.starts.is_empty() {
            let table = begin(STARTS, schema::starts(), schema::starts_properties())?;
            self.starts = Some(SparseFileWriter { rows: StartRows::default(), waiting: 0, table });
        }
        self.meta.histograms += series.histograms.len() as u64;
        self.meta.starts += series.starts.len() as u64;
        if let Some(lane) = &mut self.histograms {
            for (t, h) in &series.histograms {
                lane.rows.push(id, *t, h);
                lane.pushed(HistogramRows::take)?;
            }
        }
        if let Some(lane) = &mut self.starts {
            for (t, start) in &series.starts {
                lane.rows.push(id, *t, *start);
                lane.pushed(StartRows::take)?;
            }
        }
        Ok(())
    }

    /// Finishes the files with histograms and start timestamps, if there are any.
    fn finish_lanes(&mut self) -> Result<Vec<NamedFile>, StoreError> {
        let histograms = self.histograms.take().map(|lane| lane.finish(HistogramRows::take));
        let starts = self.starts.take().map(|lane| lane.finish(StartRows::take));
        let lanes = [(HISTOGRAMS, HISTOGRAMS_CHECKSUMS, histograms), (STARTS, STARTS_CHECKSUMS, starts)];
        let mut files = Vec::new();
        for (name, checksums, finished) in lanes {
            if let Some(finished) = finished.transpose()? {
                files.extend(checked(self.disk, self.dir, name, checksums, finished)?);
            }
        }
        Ok(files)
    }

    fn finish(mut self) -> Result<BlockMeta, StoreError> {
        let disk = self.disk;
        let lanes = self.finish_lanes()?;
        if self.rows.len() > 0 {
            self.samples.write(self.rows.take())?;
        }
        let samples = checked(disk, self.dir, SAMPLES, CHECKSUMS, self.samples.finish()?)?;
        let mut clocks = ParquetFileWriter::create(
            disk,
            self.dir.join(CLOCKS),
            schema::clocks(),
            schema::clocks_properties(),
        )?;
        for batch in self.clocks.batches() {
            clocks.write(batch)?;
        }
        let mut series = ParquetFileWriter::create(
            disk,
            self.dir.join(SERIES),
            schema::series(),
            schema::series_properties(),
        )?;
        // One page at a time: the writer ends a page only at the end of a batch.
        for (page, labels) in self.labels.chunks(SERIES_PAGE_ROWS).enumerate() {
            series.write(series_batch(page * SERIES_PAGE_ROWS, labels))?;
        }
        let series = checked(disk, self.dir, SERIES, SERIES_CHECKSUMS, series.finish()?)?;
        let index = write_index(disk, self.dir, &self.labels)?;
        self.meta.series = self.labels.len() as u64;
        self.meta.clocks = self.clocks.len() as u64;
        self.meta.times = self.clocks.times();
        let files = [(CLOCKS, clocks.finish()?.0)].into_iter().chain(samples).chain(series);
        let files = files.chain(index).chain(lanes);
        self.meta.files = files.map(|(name, meta)| (name.to_owned(), meta)).collect();
        Ok(self.meta)
    }
}

/// A file and its entry in `meta.json`.
type NamedFile = (&'static str, FileMeta);

/// Writes the checksums of a finished file: its entry in `meta.json`, and a checksum per chunk.
fn checked(
    disk: &dyn Disk,
    dir: &Path,
    name: &'static str,
    checksums: &'static str,
    finished: (FileMeta, Vec<u8>),
) -> Result<[NamedFile; 2], StoreError> {
    let (meta, chunks) = finished;
    Ok([(name, meta), (checksums, write_bytes(disk, &dir.join(checksums), &chunks)?.0)])
}

fn write_index(disk: &dyn Disk, dir: &Path, series: &[Labels]) -> Result<[NamedFile; 4], StoreError> {
    let (terms, postings) = index::write(series).map_err(|e| damaged(dir, format!("its index: {e}")))?;
    let one = |name, checksums, bytes: &[u8]| {
        checked(disk, dir, name, checksums, write_bytes(disk, &dir.join(name), bytes)?)
    };
    let [terms, terms_checksums] = one(TERMS, TERMS_CHECKSUMS, &terms)?;
    let [postings, postings_checksums] = one(POSTINGS, POSTINGS_CHECKSUMS, &postings)?;
    Ok([terms, terms_checksums, postings, postings_checksums])
}

/// The rows of `series.parquet` from id `first` on.
fn series_batch(first: usize, series: &[Labels]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let fields = schema::label_fields();
    let mut labels = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(fields[0].clone())
        .with_values_field(fields[1].clone());
    for one in series {
        for (name, value) in one.iter().filter(|(name, _)| *name != METRIC_NAME) {
            labels.keys().append_value(name);
            labels.values().append_value(value);
        }
        labels.append(true)?;
    }
    let columns = vec![
        column(UInt32Array::from_iter_values(first as u32..(first + series.len()) as u32)),
        column(StringArray::from_iter_values(series.iter().map(Labels::name))),
        column(labels.finish()),
    ];
    RecordBatch::try_new(schema::series(), columns)
}
