//! [`Block`]: an open block, that is, the Parquet files of one range of time, which never change
//! (`docs/format/block.md`).
//!
//! Opening reads what every query needs: which rows a series has, and the *clocks*, which are lists
//! of timestamps that many series share. Labels ([`SeriesTable`]) and values are read page by page
//! when a query asks for them.
//!
//! A page of `samples.parquet` (64 rows, about 64 series) is found through the offset index,
//! verified, decoded and kept in the page cache, because the next read is mostly for an adjacent
//! series.

use super::block_files::BlockFiles;
use super::cache::PageCache;
use super::files::read_checked;
use super::histogram_rows::{self, HISTOGRAM_PAGES, START_PAGES};
use super::meta::{BlockMeta, META};
use super::open_files::{LocalBlockFiles, LocalFiles};
use super::page::{self, SamplesPage};
use super::paged_file::{PageOptions, PagedFile};
use super::schema::{CHECKSUMS, CLOCKS, SAMPLES};
use super::series_table::SeriesTable;
use super::small_files::{read_clocks, read_rows};
use super::sparse_file::SparseFile;
use super::timestamps::TimestampColumn;
use super::tombstones::{BlockDeletes, Tombstone};
use super::{damaged, io_error};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::limits::BLOCK_PAGE_ROWS;
use crate::model::runs::{TimedHistograms, TimedStarts};
use crate::model::{Intervals, Labels, Matcher, TimeMs};
use roaring::RoaringBitmap;
use std::path::Path;
use std::sync::Arc;

/// How to read pages of `samples.parquet`.
const SAMPLE_PAGES: PageOptions =
    PageOptions { file: SAMPLES, checksums: CHECKSUMS, columns: &page::COLUMNS, page_rows: BLOCK_PAGE_ROWS };

/// An open block with its deletions, and its files if they are local; cheap to clone. It stays
/// readable after its directory is removed, for as long as a clone exists.
#[derive(Clone)]
pub struct Block {
    content: Arc<BlockContent>,
    deletes: Arc<BlockDeletes>,
    /// `None`: the block is not local.
    files: Option<Arc<LocalBlockFiles>>,
}

/// What of a block does not change: its metadata, and its files as readers need them.
struct BlockContent {
    meta: BlockMeta,
    samples: PagedFile,
    histograms: Option<SparseFile>,
    starts: Option<SparseFile>,
    series: SeriesTable,
    clocks: Vec<TimestampColumn>,
    /// First row of each series, and the total number of rows as the last entry.
    first_row: Vec<u32>,
    /// The clock of each row.
    row_clock: Vec<u32>,
}

/// A series of a block.
#[derive(Clone)]
pub struct BlockSeriesHandle {
    block: Block,
    series: u32,
    labels: Labels,
    /// The deleted times of the series.
    deleted: Option<Arc<Intervals>>,
}

impl Block {
    /// Opens the block in `dir` on `disk`. Verifies timestamps and the row index now, and labels,
    /// index and values when they are read.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Block, StoreError> {
        Block::open_with(dir, &PageCache::new(disk))
    }

    pub(super) fn open_with(dir: &Path, cache: &PageCache) -> Result<Block, StoreError> {
        // `meta.json` comes first: it has the checksums of the other files.
        let meta_path = dir.join(META);
        let files = cache.files();
        let text = files.disk().read(&meta_path).map_err(io_error(&meta_path))?;
        let meta = BlockMeta::decode(dir, &text)?;
        let directory = LocalFiles::new(dir, files);
        let mut block = Block::open_in(&directory, meta, cache)?;
        block.files = Some(directory.0);
        Ok(block)
    }

    /// To be called before the directory is removed. Returns false if the block has readers and its
    /// files cannot be kept open for them.
    pub(super) fn pin(&self) -> bool {
        !self.has_readers() || self.files.as_ref().is_none_or(|files| files.pin())
    }

    /// Whether the block is in use elsewhere.
    pub(super) fn has_readers(&self) -> bool {
        Arc::strong_count(&self.content) > 1
    }

    /// Opens the block `meta`, whose files are in `source`.
    pub(super) fn open_in(
        source: &dyn BlockFiles,
        meta: BlockMeta,
        cache: &PageCache,
    ) -> Result<Block, StoreError> {
        // What every query needs is read and verified now: which rows a series has, and their
        // times. Values and labels are read when a query asks for them.
        let series = SeriesTable::open(source, &meta, cache)?;
        let clocks = read_clocks(&meta.dir.join(CLOCKS), read_checked(source, &meta, CLOCKS)?)?;
        let samples = PagedFile::open(SAMPLE_PAGES, source, &meta, cache)?;
        let (first_row, row_clock) = read_rows(&samples, series.count(), clocks.len())?;
        let histograms = SparseFile::open(HISTOGRAM_PAGES, source, &meta, cache)?;
        let starts = SparseFile::open(START_PAGES, source, &meta, cache)?;
        let items = |lane: &Option<SparseFile>| lane.as_ref().map_or(0, |lane| lane.rows() as u64);
        let found = (series.count() as u64, clocks.len() as u64, row_clock.len() as u64);
        // Each file has a valid checksum by itself; that they belong together is only known by
        // these counts.
        if found != (meta.series, meta.clocks, meta.rows)
            || (items(&histograms), items(&starts)) != (meta.histograms, meta.starts)
        {
            return Err(damaged(&meta.dir.join(META), "counts other series, clocks or rows than there are"));
        }
        let content =
            BlockContent { meta, samples, histograms, starts, series, clocks, first_row, row_clock };
        Ok(Block { content: Arc::new(content), deletes: Arc::default(), files: None })
    }

    /// The same block without the samples that `tombstones` delete.
    pub(super) fn with_tombstones(&self, tombstones: &[Tombstone]) -> Result<Block, StoreError> {
        let select = |matchers: &[Matcher]| Ok((*self.content.series.select(matchers)?).clone());
        let deletes = Arc::new(self.deletes.with_tombstones(&self.content.meta, tombstones, select)?);
        Ok(Block { content: self.content.clone(), deletes, files: self.files.clone() })
    }

    /// Whether samples of it are deleted.
    pub fn has_deletes(&self) -> bool {
        !self.deletes.is_empty()
    }

    /// For each of these matcher sets, whether it is the first that some series of the block
    /// satisfies; and as the last entry, whether some series satisfies none.
    pub fn matcher_classes(&self, sets: &[&[Matcher]]) -> Result<Vec<bool>, StoreError> {
        let mut rest: RoaringBitmap = (0..self.content.series.count() as u32).collect();
        let mut found: Vec<bool> = Vec::with_capacity(sets.len() + 1);
        for set in sets {
            // Series that satisfied an earlier set no longer count.
            let of_set = &*self.content.series.select(set)? & &rest;
            found.push(!of_set.is_empty());
            rest -= of_set;
        }
        found.push(!rest.is_empty());
        Ok(found)
    }

    /// Whether any series satisfies all matchers, deleted or not.
    pub fn has(&self, matchers: &[Matcher]) -> Result<bool, StoreError> {
        Ok(!self.content.series.select(matchers)?.is_empty())
    }

    /// The metadata of the block.
    pub fn meta(&self) -> &BlockMeta {
        &self.content.meta
    }

    /// The series that satisfy all matchers and may have samples in `from..=to`, sorted by labels.
    pub fn select(
        &self,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<BlockSeriesHandle>, StoreError> {
        self.handles(&*self.content.series.select(matchers)?, from, to)
    }

    /// As [`Block::select`], for one shard.
    pub fn select_shard(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<BlockSeriesHandle>, StoreError> {
        self.handles(&self.content.series.select_shard(shard, matchers)?, from, to)
    }

    fn handles(
        &self,
        ids: &RoaringBitmap,
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<BlockSeriesHandle>, StoreError> {
        // Cold blocks are selected from by their metadata alone, before anything is fetched; this
        // is for the others.
        if !self.content.meta.overlaps(from, to) {
            return Ok(Vec::new());
        }
        // The labels of a series are decoded only after its times were checked, because decoding
        // labels costs more.
        let floats = |id: u32| self.rows_in(id, from, to).next().is_some();
        let histograms =
            |id: u32| self.content.histograms.as_ref().is_some_and(|lane| lane.overlaps(id, from, to));
        let here = ids.iter().filter(|id| floats(*id) || histograms(*id));
        let mut handles = Vec::new();
        self.content.series.labels(here, |series, labels| {
            let deleted = if self.deletes.is_empty() { None } else { self.deletes.times(series) };
            let handle = BlockSeriesHandle { block: self.clone(), series, labels, deleted };
            // A series of which everything is deleted must not be in lists of series.
            if handle.may_have_samples(from, to) {
                handles.push(handle);
            }
        })?;
        Ok(handles)
    }

    /// The label names and values.
    pub(super) fn series(&self) -> &SeriesTable {
        &self.content.series
    }

    /// The rows of a series whose timestamps overlap `from..=to`.
    fn rows_in(&self, series: u32, from: TimeMs, to: TimeMs) -> impl Iterator<Item = usize> + '_ {
        let content = &*self.content;
        let rows =
            content.first_row[series as usize] as usize..content.first_row[series as usize + 1] as usize;
        rows.filter(move |row| {
            let clock = &content.clocks[content.row_clock[*row] as usize];
            clock.ends().is_some_and(|(first, last)| first <= to && from <= last)
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
        // Adjacent rows are mostly in the same page, so the decoded page is kept for the next row.
        let mut current: Option<(usize, Arc<SamplesPage>)> = None;
        for row in self.rows_in(series, from, to) {
            let number = row / BLOCK_PAGE_ROWS;
            let page = match current.take() {
                Some((known, page)) if known == number => page,
                _ => self.content.samples.samples(number, || self.clock_lengths(number))?,
            };
            let read = self.read_row(&page, row, from, to, ts, vs);
            read.map_err(|why| self.content.samples.bad(format!("row {row}: {why}")))?;
            current = Some((number, page));
        }
        Ok(())
    }

    /// For each row of a page, the number of timestamps of its clock.
    fn clock_lengths(&self, page: usize) -> Vec<usize> {
        let rows = self.content.row_clock.iter().skip(page * BLOCK_PAGE_ROWS).take(BLOCK_PAGE_ROWS);
        rows.map(|clock| self.content.clocks[*clock as usize].len()).collect()
    }

    /// Appends the samples of one row in `from..=to`.
    fn read_row(
        &self,
        page: &SamplesPage,
        row: usize,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), &'static str> {
        const UNFIT: &str = "values and timestamps do not fit together";
        let clock = &self.content.clocks[self.content.row_clock[row] as usize];
        let row = page.row(row % BLOCK_PAGE_ROWS).ok_or("its page is too short")?;
        // A row has one value per timestamp of its clock, except at its gaps.
        if clock.len().checked_sub(row.gaps().len()) != Some(row.len()) {
            return Err(UNFIT);
        }
        let times = ts.len();
        let values = vs.len();
        let range = push_times(clock, row.gaps(), from, to, ts);
        row.read(range, vs).ok_or_else(|| {
            // Nothing of a row that does not fit is answered: times without values would shift all
            // that follow.
            ts.truncate(times);
            vs.truncate(values);
            UNFIT
        })
    }
}

#[cfg(test)]
impl Block {
    /// A page, as both decoders read it.
    pub(super) fn page_twice(&self, page: usize) -> (Option<SamplesPage>, SamplesPage) {
        let theirs =
            self.content.samples.batch(page).ok().and_then(|batch| SamplesPage::from_batch(&batch).ok());
        (self.content.samples.decode_page(page, &self.clock_lengths(page)), theirs.unwrap_or_default())
    }
}

impl BlockSeriesHandle {
    /// The labels of the series.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The block of the series.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Whether there may be samples in `from..=to` that are not deleted. Checks whole rows, as
    /// Prometheus checks whole chunks.
    fn may_have_samples(&self, from: TimeMs, to: TimeMs) -> bool {
        let Some(deleted) = &self.deleted else { return true };
        let clock = |row: usize| &self.block.content.clocks[self.block.content.row_clock[row] as usize];
        let left = |row: usize| {
            let Some((first, last)) = clock(row).ends() else { return false };
            // A row with a single time is decided exactly; for others the gaps within are not
            // looked at, so a series may be listed without samples.
            if first == last { !deleted.covers(first) } else { !deleted.covers_all(first, last) }
        };
        let histograms = |lane: &SparseFile| {
            lane.span(self.series).is_some_and(|(min, max)| !deleted.covers_all(min, max))
        };
        self.block.rows_in(self.series, from, to).any(left)
            || self.block.content.histograms.as_ref().is_some_and(histograms)
    }

    /// Appends the samples with `from ≤ t ≤ to`, in time order, including stale markers.
    pub fn read(
        &self,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        let base = ts.len();
        self.block.read(self.series, from, to, ts, vs)?;
        if let Some(deleted) = &self.deleted {
            deleted.retain(base, ts, vs);
        }
        Ok(())
    }

    /// Whether the series has histograms.
    pub fn has_histograms(&self) -> bool {
        self.block.content.histograms.as_ref().is_some_and(|lane| lane.has(self.series))
    }

    /// Appends the histograms with `from ≤ t ≤ to`, in time order.
    pub fn read_histograms(
        &self,
        from: TimeMs,
        to: TimeMs,
        out: &mut TimedHistograms,
    ) -> Result<(), StoreError> {
        let Some(lane) = &self.block.content.histograms else { return Ok(()) };
        let base = out.len();
        lane.read(self.series, from, to, |page, row, t| {
            let before = out[base..].last().map(|(_, h)| h.as_ref());
            let h = histogram_rows::decode(page, row, before)?;
            out.push((t, Arc::new(h)));
            Some(())
        })?;
        if let Some(deleted) = &self.deleted {
            deleted.retain_histograms(base, out);
        }
        Ok(())
    }

    /// Whether the series has start timestamps.
    pub fn has_starts(&self) -> bool {
        self.block.content.starts.as_ref().is_some_and(|lane| lane.has(self.series))
    }

    /// Appends the start timestamps of the samples with `from ≤ t ≤ to`, in time order.
    pub fn read_starts(&self, from: TimeMs, to: TimeMs, out: &mut TimedStarts) -> Result<(), StoreError> {
        let Some(lane) = &self.block.content.starts else { return Ok(()) };
        let base = out.len();
        lane.read(self.series, from, to, |page, row, t| {
            out.push((t, histogram_rows::decode_start(page, row)?));
            Some(())
        })?;
        if let Some(deleted) = &self.deleted {
            deleted.retain_pairs(base, out);
        }
        Ok(())
    }
}

/// Appends the times of `clock` in `from..=to` at which the row has a sample. Returns the range of
/// the row's samples that these are.
fn push_times(
    clock: &TimestampColumn,
    gaps: &[u32],
    from: TimeMs,
    to: TimeMs,
    ts: &mut Vec<TimeMs>,
) -> std::ops::Range<usize> {
    let start = clock.before(from);
    let end = to.checked_add(1).map_or(clock.len(), |behind| clock.before(behind)).max(start);
    let before = gaps.partition_point(|gap| (*gap as usize) < start);
    let already = ts.len();
    // No gap in the range, the common case: the times are copied as they are.
    if before == gaps.len() {
        clock.push(start..end, ts);
        return start - before..start - before + ts.len() - already;
    }
    let mut gaps = gaps[before..].iter().map(|gap| *gap as usize).peekable();
    for at in start..end {
        if gaps.next_if_eq(&at).is_none() {
            ts.push(clock.at(at));
        }
    }
    // Values have no entry at a gap, so their numbers lag behind those of the times by the gaps
    // before.
    start - before..start - before + ts.len() - already
}
