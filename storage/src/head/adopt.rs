//! A head that was replayed takes over what came while that went on: the series and groups that are new, then their samples.
//!
//! These are in the log already, behind what was replayed, and the next start replays them as [`super::restore`] does; so
//! what is there stays, as there, and nobody is asked whether a sample comes too late.

use super::shard::{Head, permute};
use crate::model::TimeMs;
use crate::model::value::is_absent;
use crate::store::Layout;
use std::sync::Arc;

impl Head {
    /// Takes over the series and groups that only `young` has. Both came out of the same log: what both have has the same
    /// numbers.
    pub fn adopt_names(&mut self, young: &Head) {
        for (slot, series) in (0u32..).zip(&young.series).skip(self.series.len()) {
            self.reach(slot);
            if !series.labels.is_empty() {
                self.place(slot, series.labels.clone());
                self.series[slot as usize].logged = series.logged;
                self.list(slot);
            }
        }
        for group in young.groups.iter().skip(self.groups.len()) {
            let at = self.open_group(&group.key) as usize;
            self.groups[at].log.named = group.log.named;
        }
    }

    /// A batch of a group that was taken meanwhile.
    pub fn adopt_columns(&mut self, group: u32, layout: &Arc<Layout>, t: TimeMs, values: &Arc<[f64]>) {
        let at = group as usize;
        if self.groups[at].newest.is_some_and(|newest| t <= newest) {
            for (slot, v) in layout.slots.iter().zip(&**values).filter(|(_, v)| !is_absent(**v)) {
                self.adopt_sample(*slot, t, *v);
            }
            return;
        }
        if !self.groups[at].knows(layout) {
            self.take_layout(at, layout);
        }
        let row = match &self.groups[at].map {
            None => values.clone(),
            Some(map) => permute(values, map, self.width(at)),
        };
        let row = self.without_known(at, t, row);
        self.push_row(at, t, row);
    }

    fn adopt_sample(&mut self, slot: u32, t: TimeMs, v: f64) {
        if self.at(slot, t).is_none() && self.histogram_at(slot, t).is_none() {
            self.add_row(slot, t, v);
        }
    }
}
