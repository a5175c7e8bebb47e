//! [`NoHistory`]: a store that keeps no samples for readers. Its head forgets them after a while, and
//! its log once those that follow it have passed them on. For servers that only send samples on.

use super::flush::{BlockBackend, LabelledSource, SeriesSamples};
use crate::error::StoreError;
use crate::model::{Matcher, TimeMs};

/// Blocks of which there are none.
#[derive(Copy, Clone, Debug, Default)]
pub struct NoHistory;

impl BlockBackend for NoHistory {
    /// Forgets the range: what its samples are kept for is in the log.
    fn write(
        &self,
        _from: TimeMs,
        _to: TimeMs,
        _series: &mut dyn Iterator<Item = Result<SeriesSamples, StoreError>>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn version(&self) -> u64 {
        0
    }

    fn has_after(&self, _from: TimeMs) -> bool {
        false
    }

    fn select(
        &self,
        _shard: u16,
        _matchers: &[Matcher],
        _from: TimeMs,
        _to: TimeMs,
    ) -> Result<Vec<LabelledSource>, StoreError> {
        Ok(Vec::new())
    }

    fn label_names(
        &self,
        _sets: &[Vec<Matcher>],
        _from: TimeMs,
        _to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn label_values(
        &self,
        _name: &str,
        _sets: &[Vec<Matcher>],
        _from: TimeMs,
        _to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
}
