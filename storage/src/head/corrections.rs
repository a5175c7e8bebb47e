//! Corrections: the only way to change a stored sample. The last correction of a time wins over
//! everything stored before.
//!
//! Readers prefer the ungrouped samples of a series to those in columns. So a corrected value is
//! stored as an ungrouped sample at the same time, and a removed sample as a *hole*: an ungrouped
//! sample with the value *absent*, which readers leave out. Blocks are never changed: a correction
//! of a time that may be in a block is refused.

use super::shard::Head;
use crate::model::slot_samples::SlotHistogram;
use crate::model::value::is_absent;
use crate::model::{NativeHistogram, TimeMs};
use crate::wal::RecordError;
use std::sync::Arc;

impl Head {
    /// Whether a sample at `t` can still be corrected: no block has or will have this time.
    pub fn is_correctable(&self, t: TimeMs) -> bool {
        t >= self.limits.min_append_time.max(self.limits.min_correction_time)
            && self.flushing.as_ref().is_none_or(|flushing| t >= flushing.end)
    }

    /// Makes `v` the float of a series at `t`, whatever is stored there. *Absent* removes the
    /// sample.
    pub fn correct(&mut self, slot: u32, t: TimeMs, v: f64) {
        let has_histogram = self.stored(slot).histogram_at(t).is_some();
        if has_histogram {
            let sparse = self.series[slot].sparse_mut();
            // The hint of the histogram after the removed one was made by comparison with it.
            sparse.histograms.remove(t);
            sparse.histograms.change_after(t, NativeHistogram::clear_reset_hint);
            if self.times.oldest == Some(t) {
                self.times.oldest = self.find_oldest();
            }
        }
        if self.stored(slot).float_at(t).is_none() {
            if !is_absent(v) {
                self.add_row(slot, t, v);
            }
            return;
        }
        let range = self.block_range;
        let series = &mut self.series[slot];
        let first = series.rows().is_none();
        series.rows_mut().put(t, v, range);
        if first {
            self.mark_mixed(slot);
        }
    }

    /// Applies a correction from the log.
    pub fn restore_correction(&mut self, slot: u32, t: TimeMs, v: f64) -> Result<(), RecordError> {
        self.series.restore_slot(slot)?;
        self.correct(slot, t, v);
        Ok(())
    }

    /// Stores a histogram at a time that [`Head::correct`] has emptied. Returns it with its hint.
    pub fn add_corrected(&mut self, slot: u32, t: TimeMs, h: &Arc<NativeHistogram>) -> SlotHistogram {
        let stored = self.stored(slot).hinted(t, h);
        self.add_histogram(slot, t, stored.clone());
        (slot, t, stored)
    }
}
