//! [`PagedFile`]: a large Parquet file of a block, read page by page. A page is found through the
//! offset index, verified, decoded and kept in the page cache.
//!
//! Pages of `samples.parquet` are decoded by our own decoder ([`super::page_decoder`]), which is
//! several times as fast; everything that it does not know is decoded by the `parquet` crate.

use super::block_files::BlockFiles;
use super::cache::{CachedPage, PageCache};
use super::damaged;
use super::files::{CheckedFile, ReadFailure, decode_error, read_checked};
use super::meta::BlockMeta;
use super::page::SamplesPage;
use super::page_decoder::{PageLocation, locate};
use super::series_page::SeriesPage;
use crate::error::StoreError;
use crate::limits::BLOCK_GROUP_ROWS;
use arrow::array::{RecordBatch, RecordBatchReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::ChunkReader;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

/// Which pages of a file to read.
pub(super) struct PageOptions {
    /// The name of the file in the block.
    pub file: &'static str,
    /// The name of the file with its checksums.
    pub checksums: &'static str,
    /// The columns to read, in the order of the file.
    pub columns: &'static [&'static str],
    /// Rows per page. The number of rows of a row group is a multiple of it.
    pub page_rows: usize,
}

/// A file that is read page by page.
pub(super) struct PagedFile {
    options: PageOptions,
    path: PathBuf,
    file: CheckedFile,
    footer: ArrowReaderMetadata,
    /// Number of rows.
    rows: usize,
    cache: PageCache,
    /// The number of the file in the cache.
    number: u64,
}

impl PagedFile {
    /// Opens the file of block `meta`.
    pub(super) fn open(
        options: PageOptions,
        source: &dyn BlockFiles,
        meta: &BlockMeta,
        cache: &PageCache,
    ) -> Result<PagedFile, StoreError> {
        let path = meta.dir.join(options.file);
        let checksums = read_checked(source, meta, options.checksums)?;
        let file = CheckedFile::open(source, meta, options.file, checksums)?;
        let reading = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
        let footer = file.read_with(&path, |file| ArrowReaderMetadata::load(&file, reading))?;
        let rows = usize::try_from(footer.metadata().file_metadata().num_rows())
            .map_err(|e| damaged(&path, format!("number of rows: {e}")))?;
        let number = cache.register();
        let cache = cache.clone();
        Ok(PagedFile { options, path, file, footer, rows, cache, number })
    }

    /// Reads whole columns, in order.
    pub(super) fn columns(
        &self,
        names: &[&str],
    ) -> Result<impl Iterator<Item = Result<RecordBatch, StoreError>> + use<>, StoreError> {
        let failure = ReadFailure::default();
        let file = self.file.recording(&failure);
        let path = self.path.clone();
        let fail = move |error: &dyn Display| decode_error(&path, &failure, error);
        batches(file, self.footer.clone(), names, fail)
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Rows per page.
    pub(super) fn page_rows(&self) -> usize {
        self.options.page_rows
    }

    /// The decoded page with the rows from `page * page_rows` on.
    pub(super) fn page(&self, page: usize) -> Result<RecordBatch, StoreError> {
        // Decoding a page takes longer than most queries take in all.
        if let Some(CachedPage::Batch(batch)) = self.cache.get((self.number, page)) {
            return Ok(batch);
        }
        let batch = self.batch(page)?;
        self.cache.put((self.number, page), CachedPage::Batch(batch.clone()));
        Ok(batch)
    }

    /// As [`PagedFile::page`], for `samples.parquet`; `clock_lengths` returns the length of each
    /// row's clock.
    pub(super) fn samples(
        &self,
        page: usize,
        clock_lengths: impl FnOnce() -> Vec<usize>,
    ) -> Result<Arc<SamplesPage>, StoreError> {
        if let Some(CachedPage::Samples(rows)) = self.cache.get((self.number, page)) {
            return Ok(rows);
        }
        let rows = Arc::new(match self.decode_page(page, &clock_lengths()) {
            // Our decoder reads what our writer writes, several times as fast; it gives up on
            // anything else.
            Some(rows) => rows,
            // Other encodings, such as those of a file that was rewritten with another tool. Also
            // damage: the `parquet` crate then says what is wrong.
            None => SamplesPage::from_batch(&self.batch(page)?).map_err(|e| self.bad(e))?,
        });
        self.cache.put((self.number, page), CachedPage::Samples(rows.clone()));
        Ok(rows)
    }

    /// As [`PagedFile::page`], for `series.parquet`.
    pub(super) fn series(&self, page: usize) -> Result<Arc<SeriesPage>, StoreError> {
        if let Some(CachedPage::Series(series)) = self.cache.get((self.number, page)) {
            return Ok(series);
        }
        let series = Arc::new(SeriesPage::new(self.batch(page)?));
        self.cache.put((self.number, page), CachedPage::Series(series.clone()));
        Ok(series)
    }

    /// Decodes a page with our decoder. `None` if it must be read with [`PagedFile::batch`].
    pub(super) fn decode_page(&self, page: usize, clock_lengths: &[usize]) -> Option<SamplesPage> {
        let mut decoder = self.cache.decoder()?;
        let footer = self.footer.metadata();
        let file = &self.file;
        let columns = locate(footer)?;
        let rows = decoder.decode(&PageLocation { file, footer, columns, number: page, clock_lengths });
        self.cache.return_decoder(decoder);
        rows
    }

    /// Decodes a page with the `parquet` crate.
    pub(super) fn batch(&self, page: usize) -> Result<RecordBatch, StoreError> {
        let first = page * self.options.page_rows % BLOCK_GROUP_ROWS;
        let group = page * self.options.page_rows / BLOCK_GROUP_ROWS;
        // The last row group, and the last page in it, may be shorter.
        let in_group = self.rows.saturating_sub(group * BLOCK_GROUP_ROWS).min(BLOCK_GROUP_ROWS);
        let last = (first + self.options.page_rows).min(in_group);
        let rows = RowSelection::from_consecutive_ranges(std::iter::once(first..last), in_group);
        let decode = |file: CheckedFile| {
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer.clone())
                .with_row_groups(vec![group])
                .with_projection(mask(&self.footer, self.options.columns))
                .with_batch_size(self.options.page_rows)
                .with_row_selection(rows)
                .build();
            let mut reader = reader.map_err(|e| e.to_string())?;
            let batch = reader.next().ok_or_else(|| "a page is empty".to_owned())?;
            batch.map_err(|e| e.to_string())
        };
        let batch = self.file.read_with(&self.path, decode)?;
        // Rows are addressed by their number: a page with other rows would give the samples of
        // other series.
        if batch.num_rows() != last - first || batch.num_columns() != self.options.columns.len() {
            return Err(self.bad("a page has not the rows that it should have"));
        }
        Ok(batch)
    }

    /// An error that says that the file is damaged.
    pub(super) fn bad(&self, reason: impl ToString) -> StoreError {
        damaged(&self.path, reason)
    }
}

fn mask(footer: &ArrowReaderMetadata, names: &[&str]) -> ProjectionMask {
    let schema = footer.schema();
    let roots = names.iter().filter_map(|name| schema.index_of(name).ok());
    ProjectionMask::roots(footer.parquet_schema(), roots)
}

/// All record batches of a file, in order. The file must have the columns `names`. `fail` turns
/// what the decoder reports into an error that names the file.
pub(super) fn batches<R: ChunkReader + 'static, F: Fn(&dyn Display) -> StoreError>(
    file: R,
    footer: ArrowReaderMetadata,
    names: &[&str],
    fail: F,
) -> Result<impl Iterator<Item = Result<RecordBatch, StoreError>> + use<R, F>, StoreError> {
    let mask = mask(&footer, names);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer)
        .with_projection(mask)
        .with_batch_size(BLOCK_GROUP_ROWS)
        .build()
        .map_err(|e| fail(&e))?;
    if reader.schema().fields().len() != names.len() {
        return Err(fail(&format!("has not the columns {}", names.join(", "))));
    }
    Ok(reader.map(move |batch| batch.map_err(|e| fail(&e))))
}
