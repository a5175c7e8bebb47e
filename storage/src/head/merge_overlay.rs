//! Merges the temporary head of a replay into the replayed head: first the new series and groups,
//! then their samples (see [`crate::store`], `ReplayOverlay`).
//!
//! The log has these samples already, after everything that was replayed, and the next start
//! replays them like any others ([`super::restore`]). So the same rule applies here: a stored
//! sample wins, and no sample is refused as too late.

use super::shard::{Head, permute};
use crate::model::TimeMs;
use crate::model::columns::ColumnLayout;
use crate::model::value::is_absent;
use std::sync::Arc;

impl Head {
    /// Takes series and groups from the temporary head `young`: the new ones, and the index from
    /// labels to slots. Both heads were filled from the same log, so the slots and groups that both
    /// know have the same numbers.
    pub fn take_series_from(&mut self, young: Head) {
        let Head { registry, series, ended, postings, groups, unlogged, .. } = young;
        for (slot, series) in (0u32..).zip(series).skip(self.series.len()) {
            self.extend_slots(slot);
            let known = &mut self.series[slot as usize];
            known.labels = series.labels;
            known.listed = series.listed;
            known.logged = series.logged;
        }
        self.registry = registry;
        self.ended = ended;
        self.postings = postings;
        self.unlogged.extend(unlogged);
        for group in groups.iter().skip(self.groups.len()) {
            let at = self.open_group(&group.key) as usize;
            self.groups[at].log.name_logged = group.log.name_logged;
        }
    }

    /// Merges a batch of a group that was appended during the replay.
    pub fn merge_batch(&mut self, group: u32, layout: &Arc<ColumnLayout>, t: TimeMs, values: &Arc<[f64]>) {
        let at = group as usize;
        // Columns only grow in time, so a batch that is not newer than the group becomes single
        // samples.
        if self.groups[at].newest.is_some_and(|newest| t <= newest) {
            for (slot, v) in layout.slots.iter().zip(&**values).filter(|(_, v)| !is_absent(**v)) {
                self.adopt_sample(*slot, t, *v);
            }
            return;
        }
        if !self.groups[at].has_layout(layout) {
            self.take_layout(at, layout);
        }
        // The batch has the order of its own layout; the row needs that of the group's column set.
        let row = match &self.groups[at].map {
            None => values.clone(),
            Some(map) => permute(values, map, self.width(at)),
        };
        let row = self.without_stored(at, t, row);
        self.push_row(at, t, row);
    }

    fn adopt_sample(&mut self, slot: u32, t: TimeMs, v: f64) {
        if self.at(slot, t).is_none() && self.histogram_at(slot, t).is_none() {
            self.add_row(slot, t, v);
        }
    }
}
