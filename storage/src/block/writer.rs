//! Writing a block: series come sorted, rows go out in one pass; what is kept is clocks and labels.

use super::clocks::{ClockTable, target_of};
use super::files::CheckedWriter;
use super::meta::{BlockMeta, FileMeta, META, VERSION};
use super::rows::Rows;
use super::schema::{self, CHECKSUMS, CLOCKS, SAMPLES, SERIES, column, list_builder};
use super::{damaged, io_error};
use crate::disk::Disk;
use crate::limits::{BLOCK_PAGE_ROWS, BLOCK_WINDOW_MS};
use crate::model::labels::METRIC_NAME;
use crate::model::{Labels, TimeMs};
use crate::store::StoreError;
use arrow::array::StringArray;
use arrow::array::{MapBuilder, MapFieldNames, RecordBatch, StringBuilder, UInt32Array, UInt64Array};
use arrow::datatypes::{Int64Type, Schema};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All samples that one series has in a block.
#[derive(Clone, Debug)]
pub struct BlockSeries {
    /// Its labels.
    pub labels: Labels,
    /// Timestamps, strictly ascending, inside the block's range.
    pub ts: Vec<TimeMs>,
    /// Values, parallel to `ts`; stale markers allowed.
    pub vs: Vec<f64>,
}

/// Writes the block `from ≤ t < to` into `blocks_dir` out of series sorted by labels, and returns when it would
/// survive power loss. Series without samples are left out. On an error nothing but a `.tmp` directory is left.
pub fn write_block(
    disk: &dyn Disk,
    blocks_dir: &Path,
    from: TimeMs,
    to: TimeMs,
    series: impl Iterator<Item = Result<BlockSeries, StoreError>>,
) -> Result<BlockMeta, StoreError> {
    let temporary = blocks_dir.join(format!("{from}_{to}.tmp"));
    remove_if_there(disk, &temporary)?;
    disk.create_dir(&temporary).map_err(io_error(&temporary))?;
    let mut meta = write_files(disk, &temporary, from, to, series)?;
    meta.dir = blocks_dir.join(name(&meta));
    write_bytes(disk, &temporary.join(META), &meta.encode().map_err(|e| damaged(&temporary, e))?)?;
    disk.sync_dir(&temporary).map_err(io_error(&temporary))?;
    // The name is a hash of the content: what is there already is this block, perhaps damaged.
    remove_if_there(disk, &meta.dir)?;
    disk.rename(&temporary, &meta.dir).map_err(io_error(&temporary))?;
    disk.sync_dir(blocks_dir).map_err(io_error(blocks_dir))?;
    Ok(meta)
}

fn remove_if_there(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    if disk.list(dir).is_ok() { disk.remove(dir).map_err(io_error(dir)) } else { Ok(()) }
}

/// The directory's name; a function of the content, so that writing one block twice gives one name.
fn name(meta: &BlockMeta) -> String {
    let content: String = meta.files.values().map(|f| f.crc32c.as_str()).collect();
    format!("{}_{}_{:016x}", meta.from, meta.to, xxhash_rust::xxh3::xxh3_64(content.as_bytes()))
}

fn write_files(
    disk: &dyn Disk,
    dir: &Path,
    from: TimeMs,
    to: TimeMs,
    series: impl Iterator<Item = Result<BlockSeries, StoreError>>,
) -> Result<BlockMeta, StoreError> {
    let mut builder = Builder::new(disk, dir, from, to)?;
    for one in series {
        builder.push(&one?)?;
    }
    builder.finish(disk)
}

fn write_bytes(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<FileMeta, StoreError> {
    let mut file = CheckedWriter::create(disk, path)?;
    file.write_all(bytes).map_err(io_error(path))?;
    Ok(file.finish()?.0)
}

/// A Parquet file being written.
struct Table {
    path: PathBuf,
    writer: ArrowWriter<CheckedWriter>,
}

impl Table {
    fn create(
        disk: &dyn Disk,
        path: PathBuf,
        schema: Arc<Schema>,
        properties: Result<WriterProperties, ParquetError>,
    ) -> Result<Table, StoreError> {
        let file = CheckedWriter::create(disk, &path)?;
        let writer = properties.and_then(|p| ArrowWriter::try_new(file, schema, Some(p)));
        Ok(Table { writer: writer.map_err(failed(&path))?, path })
    }

    fn write(&mut self, batch: Result<RecordBatch, arrow::error::ArrowError>) -> Result<(), StoreError> {
        let batch = batch.map_err(|e| damaged(&self.path, e))?;
        self.writer.write(&batch).map_err(failed(&self.path))
    }

    fn finish(self) -> Result<(FileMeta, Vec<u8>), StoreError> {
        self.writer.into_inner().map_err(failed(&self.path))?.finish()
    }
}

/// What Parquet could not do is almost always what the disk could not do.
fn failed(path: &Path) -> impl Fn(ParquetError) -> StoreError + '_ {
    |error| StoreError::Io { path: path.to_owned(), source: io_cause(error) }
}

fn io_cause(error: ParquetError) -> std::io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => *io,
            Err(other) => std::io::Error::other(other),
        },
        other => std::io::Error::other(other),
    }
}

struct Builder<'a> {
    dir: &'a Path,
    samples: Table,
    rows: Rows,
    clocks: ClockTable,
    labels: Vec<Labels>,
    meta: BlockMeta,
}

impl<'a> Builder<'a> {
    fn new(disk: &dyn Disk, dir: &'a Path, from: TimeMs, to: TimeMs) -> Result<Builder<'a>, StoreError> {
        let samples =
            Table::create(disk, dir.join(SAMPLES), schema::samples(), schema::samples_properties())?;
        let meta = BlockMeta {
            version: VERSION,
            from,
            to,
            min_time: TimeMs::MAX,
            max_time: TimeMs::MIN,
            series: 0,
            rows: 0,
            samples: 0,
            clocks: 0,
            files: BTreeMap::new(),
            dir: PathBuf::new(),
        };
        Ok(Builder {
            dir,
            samples,
            rows: Rows::new(),
            clocks: ClockTable::default(),
            labels: Vec::new(),
            meta,
        })
    }

    fn push(&mut self, series: &BlockSeries) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (series.ts.first(), series.ts.last()) else { return Ok(()) };
        self.check(series)?;
        let (id, target) = (self.labels.len() as u32, target_of(&series.labels));
        self.labels.push(series.labels.clone());
        self.meta.min_time = self.meta.min_time.min(*first);
        self.meta.max_time = self.meta.max_time.max(*last);
        self.meta.samples += series.ts.len() as u64;
        let mut vs = series.vs.as_slice();
        let window = |t: i64| t.div_euclid(BLOCK_WINDOW_MS);
        for ts in series.ts.chunk_by(|a, b| window(*a) == window(*b)) {
            let (now, later) = vs.split_at(ts.len());
            self.rows.push(id, target, &mut self.clocks, ts, now);
            self.meta.rows += 1;
            vs = later;
        }
        // Whole pages at a time keep the builders small.
        if self.rows.len() >= BLOCK_PAGE_ROWS { self.samples.write(self.rows.take()) } else { Ok(()) }
    }

    /// The caller's promises, without which the files could not be read back.
    fn check(&self, series: &BlockSeries) -> Result<(), StoreError> {
        let refuse = |why: &str| Err(damaged(self.dir, format!("series {}: {why}", series.labels)));
        if self.labels.last().is_some_and(|last| *last >= series.labels) {
            return refuse("is not after the series before it");
        }
        if series.ts.len() != series.vs.len() {
            return refuse("has not as many values as timestamps");
        }
        if series.ts.windows(2).any(|pair| pair[0] >= pair[1]) {
            return refuse("has timestamps that do not ascend");
        }
        if series.ts.iter().any(|t| *t < self.meta.from || *t >= self.meta.to) {
            return refuse("has a sample outside of the block");
        }
        Ok(())
    }

    fn finish(mut self, disk: &dyn Disk) -> Result<BlockMeta, StoreError> {
        if self.rows.len() > 0 {
            self.samples.write(self.rows.take())?;
        }
        let (samples, chunks) = self.samples.finish()?;
        let mut clocks =
            Table::create(disk, self.dir.join(CLOCKS), schema::clocks(), schema::clocks_properties())?;
        clocks.write(clock_batch(self.clocks.clocks()))?;
        let mut series =
            Table::create(disk, self.dir.join(SERIES), schema::series(), schema::series_properties())?;
        series.write(series_batch(&self.labels))?;
        self.meta.series = self.labels.len() as u64;
        self.meta.clocks = self.clocks.clocks().len() as u64;
        let checksums = write_bytes(disk, &self.dir.join(CHECKSUMS), &chunks)?;
        let files = [
            (SAMPLES, samples),
            (CHECKSUMS, checksums),
            (CLOCKS, clocks.finish()?.0),
            (SERIES, series.finish()?.0),
        ];
        self.meta.files = files.into_iter().map(|(name, meta)| (name.to_owned(), meta)).collect();
        Ok(self.meta)
    }
}

fn clock_batch(clocks: &[Vec<i64>]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let mut ts = list_builder::<Int64Type>(false);
    for clock in clocks {
        ts.values().append_slice(clock);
        ts.append(true);
    }
    let ids = UInt32Array::from_iter_values(0..clocks.len() as u32);
    RecordBatch::try_new(schema::clocks(), vec![column(ids), column(ts.finish())])
}

fn series_batch(series: &[Labels]) -> Result<RecordBatch, arrow::error::ArrowError> {
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
        column(UInt32Array::from_iter_values(0..series.len() as u32)),
        column(UInt64Array::from_iter_values(series.iter().map(Labels::hash64))),
        column(StringArray::from_iter_values(series.iter().map(Labels::name))),
        column(labels.finish()),
    ];
    RecordBatch::try_new(schema::series(), columns)
}
