//! Decoded pages of recent reads. Series of one metric lie side by side in a block, and readers ask for them one
//! after the other: without this each would decode its neighbours again.

use crate::limits::BLOCK_CACHE_BYTES;
use arrow::array::RecordBatch;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Which block (a number from [`PageCache::register`]) and which page of it.
type Key = (u64, usize);

/// A bounded cache, shared by all blocks of a set; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct PageCache(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    blocks: u64,
    bytes: usize,
    pages: HashMap<Key, RecordBatch>,
    /// Oldest first.
    order: VecDeque<Key>,
}

impl PageCache {
    /// A number for a block.
    pub(super) fn register(&self) -> u64 {
        let mut state = self.0.lock();
        state.blocks += 1;
        state.blocks
    }

    pub(super) fn get(&self, key: Key) -> Option<RecordBatch> {
        self.0.lock().pages.get(&key).cloned()
    }

    pub(super) fn put(&self, key: Key, page: &RecordBatch) {
        let size = page.get_array_memory_size();
        let mut state = self.0.lock();
        if size > BLOCK_CACHE_BYTES / 4 || state.pages.contains_key(&key) {
            return;
        }
        while state.bytes + size > BLOCK_CACHE_BYTES {
            let Some(oldest) = state.order.pop_front() else { break };
            let gone = state.pages.remove(&oldest).map_or(0, |page| page.get_array_memory_size());
            state.bytes = state.bytes.saturating_sub(gone);
        }
        state.bytes += size;
        state.order.push_back(key);
        state.pages.insert(key, page.clone());
    }
}
