//! Decoded pages of recent reads. Series of one metric lie side by side in a block, and readers ask
//! for them one after the other: without this each would decode its neighbours again.

use super::open_files::OpenFiles;
use super::page::SamplesPage;
use super::page_decoder::PageDecoder;
use super::series_page::SeriesPage;
use crate::limits::{BLOCK_CACHE_BYTES, BLOCK_DECODERS};
use crate::model::{Matcher, SHARDS};
use arrow::array::RecordBatch;
use bytes::Bytes;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

/// Which block (a number from [`PageCache::register`]) and which page of it.
type PageKey = (u64, usize);

/// A decoded page.
#[derive(Clone)]
pub(super) enum CachedPage {
    /// As Arrow holds it.
    Batch(RecordBatch),
    /// Of `samples.parquet`.
    Samples(Arc<SamplesPage>),
    /// Of `series.parquet`.
    Series(Arc<SeriesPage>),
    /// A piece of an index, checked.
    Chunk(Bytes),
    /// Which series satisfy matchers.
    Selected(Arc<CachedSelection>),
}

/// An answer of the index.
pub(super) struct CachedSelection {
    pub(super) matchers: Vec<Matcher>,
    pub(super) series: Arc<RoaringBitmap>,
    /// Those of each shard, from the first question on that asks for those of one.
    pub(super) shards: OnceLock<Vec<RoaringBitmap>>,
}

impl CachedSelection {
    /// Its memory, about.
    pub(super) fn size(&self) -> usize {
        let matchers = self.matchers.iter().map(|m| m.name.len() + m.value.len() + size_of::<Matcher>());
        // Each series once more, in its shard.
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

/// A bounded cache, and the files that are open, shared by all blocks of a set; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct PageCache(Arc<Mutex<PageCacheState>>, OpenFiles);

#[derive(Default)]
struct PageCacheState {
    blocks: u64,
    bytes: usize,
    pages: HashMap<PageKey, CachedPage>,
    /// Oldest first.
    order: VecDeque<PageKey>,
    /// Decoders that nobody uses now.
    decoders: Vec<PageDecoder>,
}

impl PageCache {
    /// The files that are open.
    pub(super) fn files(&self) -> OpenFiles {
        self.1.clone()
    }

    /// A number for a block.
    pub(super) fn register(&self) -> u64 {
        let mut state = self.0.lock();
        state.blocks += 1;
        state.blocks
    }

    /// A decoder; to be given back with [`PageCache::keep`]. `None`: there is no memory for it.
    pub(super) fn decoder(&self) -> Option<PageDecoder> {
        let kept = self.0.lock().decoders.pop();
        kept.or_else(|| PageDecoder::new().ok())
    }

    /// Takes a decoder back.
    pub(super) fn keep(&self, decoder: PageDecoder) {
        let mut state = self.0.lock();
        if state.decoders.len() < BLOCK_DECODERS {
            state.decoders.push(decoder);
        }
    }

    pub(super) fn get(&self, key: PageKey) -> Option<CachedPage> {
        self.0.lock().pages.get(&key).cloned()
    }

    pub(super) fn put(&self, key: PageKey, page: CachedPage) {
        let size = page.size();
        let mut state = self.0.lock();
        if size > BLOCK_CACHE_BYTES / 4 || state.pages.contains_key(&key) {
            return;
        }
        while state.bytes + size > BLOCK_CACHE_BYTES {
            let Some(oldest) = state.order.pop_front() else { break };
            let gone = state.pages.remove(&oldest).map_or(0, |page| page.size());
            state.bytes = state.bytes.saturating_sub(gone);
        }
        state.bytes += size;
        state.order.push_back(key);
        state.pages.insert(key, page);
    }
}
