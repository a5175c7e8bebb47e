//! Reading ahead: the first thing that opening a block asks for is the end of each of its files.
//! These are fetched side by side, so that an empty cache costs the time of a request for some
//! blocks together and not for each file.

use super::files::ColdFile;
use super::{ColdBlock, ColdStore};
use crate::limits::FAR_AHEAD_PIECES;
use crate::object_store::ObjectStorage;
use crate::store::StoreError;
use std::ops::Range;

/// A file whose end has to be fetched, the object, and which of its bytes.
type FooterRange = (ColdFile, String, Range<u64>);

impl ColdStore {
    /// Fetches what opening these blocks will ask for first, as far as it is not here. An error
    /// names an object.
    pub(super) fn prefetch_footers(&self, blocks: &[ColdBlock]) -> Result<(), StoreError> {
        if self.missing_ends(blocks).is_empty() {
            return Ok(());
        }
        // Whoever waited finds what another has fetched.
        let _turn = self.ahead.lock();
        for some in self.missing_ends(blocks).chunks(FAR_AHEAD_PIECES) {
            self.fetch(some)?;
        }
        Ok(())
    }

    fn missing_ends(&self, blocks: &[ColdBlock]) -> Vec<FooterRange> {
        let mut missing = Vec::new();
        for meta in blocks.iter().map(ColdBlock::meta) {
            // Without a store, who opens the block hears of it.
            let Ok(source) = self.source(meta) else { continue };
            for (name, described) in &meta.files {
                let file = source.file(name, described.bytes);
                missing.extend(file.missing_end().map(|(object, range)| (file, object, range)));
            }
        }
        missing
    }

    fn fetch(&self, missing: &[FooterRange]) -> Result<(), StoreError> {
        let Some(place) = &self.place else { return Ok(()) };
        let wanted: Vec<_> =
            missing.iter().map(|(_, object, range)| (object.clone(), range.clone())).collect();
        let given = place.objects.get_many(&wanted);
        missing
            .iter()
            .zip(given)
            .try_for_each(|((file, _, range), given)| file.keep_end(range.clone(), given))
    }
}
