//! While the log is replayed at a start, samples that arrive go to a temporary head (see
//! [`crate::store`], `ReplayOverlay`). Here it is merged into the replayed head: first the new
//! series and groups, then their samples.
//!
//! The log has these samples already, after everything that was replayed, and the next start
//! replays them like any others ([`super::restore`]). So the same rule applies here: a stored
//! sample wins, and no sample is refused as too late.

use super::shard::Head;
use crate::model::TimeMs;
use crate::model::columns::ColumnLayout;
use crate::model::value::is_absent;
use std::sync::Arc;

impl Head {
    /// Takes series and groups from the temporary head: the new ones, and the index from labels to
    /// slots.
    pub fn take_series_from(&mut self, temporary: Head) {
        self.series.take_from(temporary.series);
        self.groups.take_from(&temporary.groups);
    }

    /// Merges a batch of a group that was appended during the replay.
    pub fn merge_batch(&mut self, group: u32, layout: &Arc<ColumnLayout>, t: TimeMs, values: &Arc<[f64]>) {
        // Columns only grow in time, so a batch that is not newer than the group becomes single
        // samples.
        if self.groups[group].newest.is_some_and(|newest| t <= newest) {
            for (slot, v) in layout.slots.iter().zip(&**values).filter(|(_, v)| !is_absent(**v)) {
                self.merge_sample(*slot, t, *v);
            }
            return;
        }
        if !self.groups[group].has_layout(layout) {
            self.adopt_layout(group, layout);
        }
        // The batch has the order of its own layout; the row needs that of the group's column set.
        let row = self.row_of(group, values);
        let row = self.without_stored(group, t, row);
        self.push_row(group, t, row);
    }

    fn merge_sample(&mut self, slot: u32, t: TimeMs, v: f64) {
        if !self.stored(slot).has_sample_at(t) {
            self.add_row(slot, t, v);
        }
    }
}
