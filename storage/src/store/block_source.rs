//! Makes a series of a block a [`SeriesSource`], so that a [`super::Selection`] can read it.
//! Separate from `block`, which knows nothing of the store.

use super::selection::SeriesSource;
use crate::block::BlockSeriesHandle;
use crate::error::StoreError;
use crate::model::TimeMs;
use crate::model::runs::{TimedHistograms, TimedStarts};

impl SeriesSource for BlockSeriesHandle {
    fn read(
        &self,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        BlockSeriesHandle::read(self, from, to, ts, vs)
    }

    fn has_histograms(&self) -> bool {
        BlockSeriesHandle::has_histograms(self)
    }

    fn read_histograms(&self, from: TimeMs, to: TimeMs, out: &mut TimedHistograms) -> Result<(), StoreError> {
        BlockSeriesHandle::read_histograms(self, from, to, out)
    }

    fn has_starts(&self) -> bool {
        BlockSeriesHandle::has_starts(self)
    }

    fn read_starts(&self, from: TimeMs, to: TimeMs, out: &mut TimedStarts) -> Result<(), StoreError> {
        BlockSeriesHandle::read_starts(self, from, to, out)
    }
}
