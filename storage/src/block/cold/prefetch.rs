//! Prefetching for cold blocks (those in an object store): opening a block first reads the end of
//! each of its files. These ends are fetched side by side for several blocks, so that with an empty
//! cache they cost one round trip and not one per file.

use super::files::ColdFile;
use super::{ColdBlock, ColdStore};
use crate::error::StoreError;
use crate::limits::COLD_PREFETCH_FOOTERS;
use crate::object_store::ObjectStorage;
use std::ops::Range;

/// A file whose end must be fetched: the file, the name of the object, and the range.
type FooterRange = (ColdFile, String, Range<u64>);

impl ColdStore {
    /// Fetches what is read first when these blocks are opened, as far as it is not cached. Errors
    /// name an object.
    pub(super) fn prefetch_footers(&self, blocks: &[ColdBlock]) -> Result<(), StoreError> {
        if self.missing_footers(blocks).is_empty() {
            return Ok(());
        }
        // One thread at a time: a thread that waited finds what another has fetched.
        let _turn = self.ahead.lock();
        for some in self.missing_footers(blocks).chunks(COLD_PREFETCH_FOOTERS) {
            self.fetch(some)?;
        }
        Ok(())
    }

    fn missing_footers(&self, blocks: &[ColdBlock]) -> Vec<FooterRange> {
        let mut missing = Vec::new();
        for meta in blocks.iter().map(ColdBlock::meta) {
            // Without an object store, opening the block reports the error.
            let Ok(source) = self.source(meta) else { continue };
            for (name, described) in &meta.files {
                let file = source.file(name, described.bytes);
                missing.extend(file.missing_footer().map(|(object, range)| (file, object, range)));
            }
        }
        missing
    }

    fn fetch(&self, missing: &[FooterRange]) -> Result<(), StoreError> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let wanted: Vec<_> =
            missing.iter().map(|(_, object, range)| (object.clone(), range.clone())).collect();
        let given = bucket.objects.get_many(&wanted);
        missing
            .iter()
            .zip(given)
            .try_for_each(|((file, _, range), given)| file.store_footer(range.clone(), given))
    }
}
