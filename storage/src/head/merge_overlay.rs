//! A head that was replayed takes over what came while that went on: the series and groups that are
//! new, then their samples.
//!
//! These are in the log already, behind what was replayed, and the next start replays them as
//! [`super::restore`] does; so what is there stays, as there, and nobody is asked whether a sample
//! comes too late.

use super::shard::{Head, permute};
use crate::model::TimeMs;
use crate::model::value::is_absent;
use crate::store::ColumnLayout;
use std::sync::Arc;

impl Head {
    /// Takes over what `young` knows of series and groups: those that came since, and which series
    /// has which labels. Both heads came out of the same log: what both have has the same numbers.
    pub fn take_series_from(&mut self, young: Head) {
        let Head { registry, series, ended, postings, groups, unlogged, .. } = young;
        for (slot, series) in (0u32..).zip(series).skip(self.series.len()) {
            self.extend_slots(slot);
            let known = &mut self.series[slot as usize];
            (known.labels, known.listed, known.logged) = (series.labels, series.listed, series.logged);
        }
        (self.registry, self.ended, self.postings) = (registry, ended, postings);
        self.unlogged.extend(unlogged);
        for group in groups.iter().skip(self.groups.len()) {
            let at = self.open_group(&group.key) as usize;
            self.groups[at].log.name_logged = group.log.name_logged;
        }
    }

    /// A batch of a group that was taken meanwhile.
    pub fn merge_batch(&mut self, group: u32, layout: &Arc<ColumnLayout>, t: TimeMs, values: &Arc<[f64]>) {
        let at = group as usize;
        if self.groups[at].newest.is_some_and(|newest| t <= newest) {
            for (slot, v) in layout.slots.iter().zip(&**values).filter(|(_, v)| !is_absent(**v)) {
                self.adopt_sample(*slot, t, *v);
            }
            return;
        }
        if !self.groups[at].has_layout(layout) {
            self.take_layout(at, layout);
        }
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
