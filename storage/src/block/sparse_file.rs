//! [`SparseFile`]: a file with native histograms or start timestamps, one row per item, sorted by
//! series and time. A block has such a file only if there are items, so that blocks of floats do
//! not pay for it.

use super::block_files::BlockFiles;
use super::cache::PageCache;
use super::meta::BlockMeta;
use super::paged_file::{PageOptions, PagedFile};
use crate::error::StoreError;
use crate::model::TimeMs;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt32Type};

/// A sparse file. Its first two columns are `series_id` and `ts`.
pub(super) struct SparseFile {
    pages: PagedFile,
    /// The row ranges of the series that have items, ordered by series.
    series: Vec<SeriesRowRange>,
}

/// The rows of one series.
struct SeriesRowRange {
    /// The id of the series: its index in the block.
    series: u32,
    /// The first row of the series.
    first_row: usize,
    /// Time of its first item, ms.
    min: TimeMs,
    /// Time of its last item, ms.
    max: TimeMs,
}

impl SparseFile {
    /// Opens the file; `None` if the block has none.
    pub(super) fn open(
        options: PageOptions,
        source: &dyn BlockFiles,
        meta: &BlockMeta,
        cache: &PageCache,
    ) -> Result<Option<SparseFile>, StoreError> {
        // Most blocks have no histograms and no start timestamps: then there is no file, and
        // nothing to read.
        if !meta.files.contains_key(options.file) {
            return Ok(None);
        }
        let pages = PagedFile::open(options, source, meta, cache)?;
        let mut series: Vec<SeriesRowRange> = Vec::new();
        let mut row = 0;
        for batch in pages.columns(&["series_id", "ts"])? {
            let batch = batch?;
            let ids = batch.column(0).as_primitive_opt::<UInt32Type>();
            let times = batch.column(1).as_primitive_opt::<Int64Type>();
            let (Some(ids), Some(times)) = (ids, times) else {
                return Err(pages.bad("series_id and ts have other types"));
            };
            // A row of the block for each series with items, instead of one for each item: that
            // much stays in memory.
            for (id, t) in ids.values().iter().zip(times.values()) {
                match series.last_mut() {
                    Some(last) if last.series == *id && last.max < *t => last.max = *t,
                    // The same series with a time that does not ascend, or an earlier series: a
                    // search would miss rows.
                    Some(last) if last.series >= *id => {
                        return Err(pages.bad(format!("row {row}: series {id} at {t} is out of order")));
                    }
                    _ => series.push(SeriesRowRange { series: *id, first_row: row, min: *t, max: *t }),
                }
                row += 1;
            }
        }
        if series.last().is_some_and(|last| u64::from(last.series) >= meta.series) {
            return Err(pages.bad("has rows of a series that does not exist"));
        }
        Ok(Some(SparseFile { pages, series }))
    }

    /// Number of items.
    pub(super) fn rows(&self) -> usize {
        self.pages.rows()
    }

    fn find(&self, series: u32) -> Option<usize> {
        self.series.binary_search_by_key(&series, |s| s.series).ok()
    }

    /// Whether a series has an item.
    pub(super) fn has(&self, series: u32) -> bool {
        self.find(series).is_some()
    }

    /// Whether a series may have items in `from..=to`.
    pub(super) fn overlaps(&self, series: u32, from: TimeMs, to: TimeMs) -> bool {
        self.find(series).is_some_and(|at| self.series[at].min <= to && from <= self.series[at].max)
    }

    /// First and last time of the items of a series, if it has any.
    pub(super) fn span(&self, series: u32) -> Option<(TimeMs, TimeMs)> {
        self.find(series).map(|at| (self.series[at].min, self.series[at].max))
    }

    /// Calls `take(page, row in the page, time)` for the rows of a series with `from ≤ t ≤ to`, in
    /// order. If `take` returns `None`, the file is damaged.
    pub(super) fn read(
        &self,
        series: u32,
        from: TimeMs,
        to: TimeMs,
        mut take: impl FnMut(&RecordBatch, usize, TimeMs) -> Option<()>,
    ) -> Result<(), StoreError> {
        let Some(at) = self.find(series).filter(|_| self.overlaps(series, from, to)) else { return Ok(()) };
        // The rows of a series end where those of the next one begin.
        let end = self.series.get(at + 1).map_or(self.rows(), |next| next.first_row);
        let mut row = self.series[at].first_row;
        let size = self.pages.page_rows();
        while row < end {
            let page = row / size;
            let batch = self.pages.page(page)?;
            let last = end.min((page + 1) * size);
            let times = batch.column(0).as_primitive_opt::<Int64Type>();
            let times = times.ok_or_else(|| self.pages.bad("ts has another type"))?;
            for (i, t) in times.values().iter().enumerate().take(last - page * size).skip(row - page * size) {
                if (from..=to).contains(t) && take(&batch, i, *t).is_none() {
                    return Err(self.pages.bad(format!("row {}: is not well formed", page * size + i)));
                }
            }
            row = last;
        }
        Ok(())
    }
}
