//! [`SeriesTable`]: the series of a block, that is, their labels and which series satisfy matchers.
//!
//! The labels stay in `series.parquet`; those of the series found by the block's [`LabelIndex`] are
//! read page by page. A block of an older format has no index: all its labels are read when it is
//! opened, and [`Postings`] are built from them.

use super::block_files::BlockFiles;
use super::cache::{CachedPage, CachedSelection, PageCache};
use super::damaged;
use super::files::read_checked;
use super::index::LabelIndex;
use super::matcher_eval::{self, LabelPostings};
use super::meta::BlockMeta;
use super::paged_file::{PageOptions, PagedFile};
use super::postings::Postings;
use super::schema::{SERIES, SERIES_CHECKSUMS};
use super::small_files::read_series;
use crate::error::StoreError;
use crate::limits::{SELECTED_BYTES, SERIES_PAGE_ROWS, SERIES_PER_VALUE, SHARDS_OF_SERIES};
use crate::model::{Labels, Matcher, SHARDS, shard_of};
use roaring::RoaringBitmap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, OnceLock};

/// How to read pages of `series.parquet`.
const SERIES_PAGES: PageOptions = PageOptions {
    file: SERIES,
    checksums: SERIES_CHECKSUMS,
    columns: &["__name__", "labels"],
    page_rows: SERIES_PAGE_ROWS,
};

/// The series of an open block.
pub(super) struct SeriesTable {
    labels: LabelStorage,
    count: u32,
    /// Series by shard; filled when a single shard is first asked for.
    shards: OnceLock<Vec<RoaringBitmap>>,
    cache: PageCache,
    /// The number of the cached selections in the cache.
    number: u64,
}

enum LabelStorage {
    /// All labels are in memory.
    Memory(Vec<Labels>, Postings),
    /// Labels and index are in files.
    Indexed(PagedFile, LabelIndex),
}

impl SeriesTable {
    /// Opens the series of block `meta`, whose files are in `source`.
    pub(super) fn open(
        source: &dyn BlockFiles,
        meta: &BlockMeta,
        cache: &PageCache,
    ) -> Result<SeriesTable, StoreError> {
        let labels = if meta.is_indexed() {
            LabelStorage::Indexed(
                PagedFile::open(SERIES_PAGES, source, meta, cache)?,
                LabelIndex::open(source, meta, cache)?,
            )
        } else {
            let all = read_series(&meta.dir.join(SERIES), read_checked(source, meta, SERIES)?)?;
            let postings = Postings::build(&all);
            LabelStorage::Memory(all, postings)
        };
        // `meta.json` says how many there should be; the caller compares.
        let found = match &labels {
            LabelStorage::Memory(all, _) => all.len(),
            LabelStorage::Indexed(pages, _) => pages.rows(),
        };
        let count = u32::try_from(found).map_err(|e| damaged(&meta.dir.join(SERIES), e))?;
        let shards = OnceLock::new();
        let number = cache.register();
        Ok(SeriesTable { labels, count, shards, cache: cache.clone(), number })
    }

    /// Number of series.
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    fn terms(&self) -> &dyn LabelPostings {
        match &self.labels {
            LabelStorage::Memory(_, postings) => postings,
            LabelStorage::Indexed(_, index) => index,
        }
    }

    /// Calls `each` with the labels of these series, in order.
    pub(super) fn labels(
        &self,
        ids: impl IntoIterator<Item = u32>,
        mut each: impl FnMut(u32, Labels),
    ) -> Result<(), StoreError> {
        let pages = match &self.labels {
            LabelStorage::Memory(all, _) => {
                for id in ids {
                    each(id, all[id as usize].clone());
                }
                return Ok(());
            }
            LabelStorage::Indexed(pages, _) => pages,
        };
        let mut current = None;
        for id in ids {
            let page = id as usize / SERIES_PAGE_ROWS;
            let row = id as usize % SERIES_PAGE_ROWS;
            // Ids ascend, so a page is not asked for again once the next one was needed.
            let series = match current.take() {
                Some((known, series)) if known == page => series,
                _ => pages.series(page)?,
            };
            let labels = series.labels(row);
            each(id, labels.ok_or_else(|| pages.bad(format!("row {id}: is no label set")))?);
            current = Some((page, series));
        }
        Ok(())
    }

    /// The series that satisfy all matchers.
    pub(super) fn select(&self, matchers: &[Matcher]) -> Result<Arc<RoaringBitmap>, StoreError> {
        Ok(self.selected(matchers)?.series.clone())
    }

    /// The cached result for matchers; computed if needed. Every shard asks for the same matchers.
    fn selected(&self, matchers: &[Matcher]) -> Result<Arc<CachedSelection>, StoreError> {
        let hasher: BuildHasherDefault<DefaultHasher> = BuildHasherDefault::default();
        let key = (self.number, hasher.hash_one(matchers) as usize);
        if let Some(CachedPage::Selected(selected)) = self.cache.get(key)
            // The key is only a hash: the matchers are compared, too.
            && selected.matchers == matchers
        {
            return Ok(selected);
        }
        let one_by_one = |ids: &RoaringBitmap, matcher: &Matcher| {
            let mut matching = RoaringBitmap::new();
            self.labels(ids, |id, labels| {
                if matcher.matches_labels(&labels) {
                    matching.insert(id);
                }
            })?;
            Ok(matching)
        };
        let series = Arc::new(matcher_eval::select(self.terms(), matchers, &one_by_one)?);
        let selected =
            Arc::new(CachedSelection { matchers: matchers.to_vec(), series, shards: OnceLock::new() });
        // One huge selection would push out all pages of all blocks.
        if selected.size() <= SELECTED_BYTES {
            self.cache.put(key, CachedPage::Selected(selected.clone()));
        }
        Ok(selected)
    }

    /// As [`SeriesTable::select`], for one shard.
    pub(super) fn select_shard(&self, shard: u16, matchers: &[Matcher]) -> Result<RoaringBitmap, StoreError> {
        let selected = self.selected(matchers)?;
        if selected.series.is_empty() {
            return Ok(RoaringBitmap::new());
        }
        let shards = match selected.shards.get() {
            Some(known) => known,
            None => {
                let divided = self.divided(&selected.series)?;
                // Another thread may have divided it meanwhile: one of the two is kept.
                selected.shards.get_or_init(|| divided)
            }
        };
        Ok(shards.get(usize::from(shard)).cloned().unwrap_or_default())
    }

    /// Divides series by shard.
    fn divided(&self, ids: &RoaringBitmap) -> Result<Vec<RoaringBitmap>, StoreError> {
        match (&self.labels, self.shards.get()) {
            // Few series: look only these up, instead of reading the postings of all shards.
            (LabelStorage::Indexed(_, index), None) if ids.len() < SHARDS_OF_SERIES => {
                (0..SHARDS).map(|shard| index.in_shard(ids, shard)).collect()
            }
            _ => Ok(self.shards()?.iter().map(|shard| shard & ids).collect()),
        }
    }

    fn shards(&self) -> Result<&[RoaringBitmap], StoreError> {
        if let Some(known) = self.shards.get() {
            return Ok(known);
        }
        let shards = match &self.labels {
            LabelStorage::Memory(all, _) => {
                let mut shards = vec![RoaringBitmap::new(); usize::from(SHARDS)];
                for (id, labels) in (0u32..).zip(all) {
                    shards[usize::from(shard_of(labels))].insert(id);
                }
                shards
            }
            LabelStorage::Indexed(_, index) => {
                (0..SHARDS).map(|shard| index.shard(shard)).collect::<Result<_, _>>()?
            }
        };
        Ok(self.shards.get_or_init(|| shards))
    }

    /// Calls `each(name)` for the label names of the series that satisfy all matchers, possibly
    /// several times.
    pub(super) fn each_name(
        &self,
        matchers: &[Matcher],
        mut each: impl FnMut(&str),
    ) -> Result<(), StoreError> {
        let names = self.terms().names()?;
        let selected = if matchers.is_empty() { None } else { Some(self.select(matchers)?) };
        for name in names {
            // A lookup per name: there are few names, and reading the labels of all series would
            // cost more.
            let here = match &selected {
                None => true,
                Some(selected) if selected.is_empty() => false,
                Some(selected) => self.terms().one_has(selected, &name, None)?,
            };
            if here {
                each(&name);
            }
        }
        Ok(())
    }

    /// Calls `each(value)` for the values of label `name` of the series that satisfy all matchers,
    /// possibly several times.
    pub(super) fn each_value(
        &self,
        name: &str,
        matchers: &[Matcher],
        mut each: impl FnMut(&str),
    ) -> Result<(), StoreError> {
        let mut every = |value: &str| {
            each(value);
            true
        };
        if matchers.is_empty() {
            return self.terms().values(name, &mut every);
        }
        let selected = self.select(matchers)?;
        if selected.is_empty() {
            return Ok(());
        }
        // Few values: look up each of them, instead of reading the labels of every series.
        let mut values = Vec::new();
        let most = selected.len() / SERIES_PER_VALUE;
        self.terms().values(name, &mut |value| {
            values.push(value.to_owned());
            values.len() as u64 <= most
        })?;
        // Many values: reading the labels of the selected series costs less than a lookup for each
        // value.
        if values.len() as u64 > most {
            return self.labels(selected.iter(), |_, labels| {
                if let Some(value) = labels.get(name) {
                    each(value);
                }
            });
        }
        for value in values {
            if self.terms().one_has(&selected, name, Some(&value))? {
                each(&value);
            }
        }
        Ok(())
    }
}
