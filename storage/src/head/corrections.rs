//! Corrections: the one way to change a sample that is stored. The last correction of a time wins
//! over what came before.
//!
//! A series' rows lie over its columns, so a corrected value is a row at the same time, and a
//! sample that is taken back is a *hole*: a row with the value *absent*. Readers merge and leave
//! holes out. Blocks are never changed: what the head has let go of is refused.

use super::shard::Head;
use super::sparse_append::SlotHistogram;
use crate::model::value::is_absent;
use crate::model::{NativeHistogram, TimeMs};

impl Head {
    /// Whether a sample at `t` can still be changed.
    pub fn is_correctable(&self, t: TimeMs) -> bool {
        t >= self.min_append_time.max(self.settled)
            && self.flushing.as_ref().is_none_or(|flushing| t >= flushing.end)
    }

    /// From now on nothing before `end` is corrected: a block may have it, too, and would bring
    /// back what was.
    pub fn raise_min_correction_time(&mut self, end: TimeMs) {
        self.settled = self.settled.max(end);
    }

    /// Makes `v` the float of a series at `t`, whatever is there; *absent*: nothing is there any more.
    pub fn correct(&mut self, slot: u32, t: TimeMs, v: f64) {
        let there = self.histogram_at(slot, t).is_some();
        if there {
            let lanes = self.series[slot as usize].lanes_mut();
            lanes.histograms.remove(t);
            lanes.histograms.change_after(t, NativeHistogram::clear_reset_hint);
            if self.oldest == Some(t) {
                self.oldest = self.find_oldest();
            }
        }
        if self.at(slot, t).is_none() {
            if !is_absent(v) {
                self.add_row(slot, t, v);
            }
            return;
        }
        let range = self.block_range;
        let series = &mut self.series[slot as usize];
        let first = series.rows().is_none();
        series.rows_mut().put(t, v, range);
        if first {
            self.mark_mixed(slot);
        }
    }

    /// A correction out of the log.
    pub fn restore_correction(&mut self, slot: u32, t: TimeMs, v: f64) -> Result<(), String> {
        self.restore_slot(slot)?;
        self.correct(slot, t, v);
        Ok(())
    }

    /// Stores a histogram at a time that [`Head::correct`] has emptied; what was stored, with its hint.
    pub fn add_corrected(&mut self, (slot, t, h): SlotHistogram) -> SlotHistogram {
        let kept = self.hinted(slot, t, &h);
        self.add_histogram(slot, t, kept.clone());
        (slot, t, kept)
    }
}
