//! The page cache: decoded pages of blocks that were read recently. Series of one metric are
//! adjacent in a block and are read one after the other; without the cache, each of them would
//! decode the same page again.

use super::open_files::OpenFiles;
use super::page::SamplesPage;
use super::page_decoder::PageDecoder;
use super::series_page::SeriesPage;
use crate::disk::Disk;
use crate::limits::{BLOCK_CACHE_BYTES, BLOCK_DECODERS};
use crate::model::{Matcher, SHARDS};
use arrow::array::RecordBatch;
use bytes::Bytes;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

/// Block file (a number from [`PageCache::register`]) and page number.
type PageKey = (u64, usize);

/// A cached page.
#[derive(Clone)]
pub(super) enum CachedPage {
    /// As an Arrow batch.
    Batch(RecordBatch),
    /// A page of `samples.parquet`.
    Samples(Arc<SamplesPage>),
    /// A page of `series.parquet`.
    Series(Arc<SeriesPage>),
    /// A verified piece of an index file.
    Chunk(Bytes),
    /// The series that satisfy some matchers.
    Selected(Arc<CachedSelection>),
}

/// The result of a lookup in the index.
pub(super) struct CachedSelection {
    pub(super) matchers: Vec<Matcher>,
    pub(super) series: Arc<RoaringBitmap>,
    /// `series` divided by shard; filled when a single shard is first asked for.
    pub(super) shards: OnceLock<Vec<RoaringBitmap>>,
}

impl CachedSelection {
    /// Approximate memory, bytes.
    pub(super) fn size(&self) -> usize {
        let matchers = self.matchers.iter().map(|m| m.name.len() + m.value.len() + size_of::<Matcher>());
        // Each series counts once more: it is in the bitmap of its shard, too.
        let shards = usize::from(SHARDS) * size_of::<RoaringBitmap>() + self.series.serialized_size();
        self.series.serialized_size() + shards + matchers.sum::<usize>()
    }
}

impl CachedPage {
    fn size(&self) -> usize {
        match self {
            CachedPage::Batch(batch) => batch.get_array_memory_size(),
            CachedPage::Samples(page) => page.size(),
            CachedPage::Series(page) => page.size(),
            CachedPage::Chunk(bytes) => bytes.len(),
            CachedPage::Selected(selected) => selected.size(),
        }
    }
}

/// A bounded page cache, and the open files. Shared by all blocks of a set; cheap to clone.
#[derive(Clone)]
pub(super) struct PageCache {
    state: Arc<Mutex<PageCacheState>>,
    files: OpenFiles,
}

#[derive(Default)]
struct PageCacheState {
    blocks: u64,
    bytes: usize,
    pages: HashMap<PageKey, CachedPage>,
    /// Keys in the order of insertion, oldest first: the order of eviction.
    order: VecDeque<PageKey>,
    /// Decoders that are not in use.
    decoders: Vec<PageDecoder>,
}

impl PageCache {
    /// An empty cache for blocks whose local files are on `disk`.
    pub(super) fn new(disk: Arc<dyn Disk>) -> PageCache {
        PageCache { state: Arc::default(), files: OpenFiles::new(disk) }
    }

    /// The open files.
    pub(super) fn files(&self) -> OpenFiles {
        self.files.clone()
    }

    /// A new number for the pages of a file.
    pub(super) fn register(&self) -> u64 {
        let mut state = self.state.lock();
        state.blocks += 1;
        state.blocks
    }

    /// A decoder, to be returned with [`PageCache::return_decoder`]. `None` if there is no memory
    /// for one.
    pub(super) fn decoder(&self) -> Option<PageDecoder> {
        let free = self.state.lock().decoders.pop();
        free.or_else(|| PageDecoder::new().ok())
    }

    /// Returns a decoder for reuse.
    pub(super) fn return_decoder(&self, decoder: PageDecoder) {
        let mut state = self.state.lock();
        // Enough for the queries that run at once; the others are freed.
        if state.decoders.len() < BLOCK_DECODERS {
            state.decoders.push(decoder);
        }
    }

    pub(super) fn get(&self, key: PageKey) -> Option<CachedPage> {
        self.state.lock().pages.get(&key).cloned()
    }

    pub(super) fn put(&self, key: PageKey, page: CachedPage) {
        let size = page.size();
        let mut state = self.state.lock();
        // One page of a strange file must not empty the cache.
        if size > BLOCK_CACHE_BYTES / 4 || state.pages.contains_key(&key) {
            return;
        }
        while state.bytes + size > BLOCK_CACHE_BYTES {
            // First in, first out. Least recently used would mean a change of the list with every
            // read of a page.
            let Some(oldest) = state.order.pop_front() else { break };
            let gone = state.pages.remove(&oldest).map_or(0, |page| page.size());
            state.bytes = state.bytes.saturating_sub(gone);
        }
        state.bytes += size;
        state.order.push_back(key);
        state.pages.insert(key, page);
    }
}
