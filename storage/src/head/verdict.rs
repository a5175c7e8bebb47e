//! What is to be done with a sample: stored, or refused as too old or as the second one at its time.
//!
//! The rules hold over all lanes of a series together; what came first stays.

use super::shard::Head;
use crate::model::TimeMs;
use crate::model::value::is_absent;

/// What is to be done with a sample.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Store it.
    Store,
    /// It is there already.
    Same,
    /// Another value is there.
    Duplicate,
    /// It comes too late.
    TooOld,
}

/// Counts of what became of the samples of an append.
#[derive(Copy, Clone, Debug, Default)]
pub struct Counts {
    /// Stored.
    pub stored: usize,
    /// Of these, behind the series' newest sample.
    pub late: usize,
    /// Refused as too old.
    pub too_old: usize,
    /// Refused because another value is there.
    pub duplicate: usize,
}

impl Counts {
    /// Counts a sample; whether it is to be stored.
    pub(super) fn note(&mut self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Store => self.stored += 1,
            Verdict::Same => (),
            Verdict::Duplicate => self.duplicate += 1,
            Verdict::TooOld => self.too_old += 1,
        }
        verdict == Verdict::Store
    }
}

impl Head {
    /// What is to be done with a sample of `slot`.
    pub fn verdict(&self, slot: u32, t: TimeMs, v: f64) -> Verdict {
        self.judge(slot, t, || match self.at(slot, t) {
            Some(there) => Some(there.to_bits() == v.to_bits()),
            None => self.histogram_at(slot, t).map(|_| false),
        })
    }

    /// What is to be done with a sample at `t`; `there` says whether one is there, and whether it is the same.
    pub(super) fn judge(&self, slot: u32, t: TimeMs, there: impl FnOnce() -> Option<bool>) -> Verdict {
        if t < self.floor {
            return Verdict::TooOld;
        }
        let Some(newest) = self.newest_of(slot).filter(|newest| t <= *newest) else { return Verdict::Store };
        if t < newest.saturating_sub(self.out_of_order) {
            return Verdict::TooOld;
        }
        match there() {
            Some(true) => Verdict::Same,
            Some(false) => Verdict::Duplicate,
            None => Verdict::Store,
        }
    }

    /// Time of the newest sample of a series.
    pub fn newest_of(&self, slot: u32) -> Option<TimeMs> {
        self.newest_float(slot).max(self.newest_histogram(slot))
    }

    /// Time of the newest float of a series.
    pub(super) fn newest_float(&self, slot: u32) -> Option<TimeMs> {
        let series = self.series.get(slot as usize)?;
        let homes = series.homes().iter();
        let columns = homes.filter_map(|home| self.sets.get(&home.set)?.newest(home.column));
        columns.max().max(series.rows().and_then(|rows| rows.newest()))
    }

    /// The float of a series at exactly `t`.
    pub fn at(&self, slot: u32, t: TimeMs) -> Option<f64> {
        let series = self.series.get(slot as usize)?;
        match series.rows().and_then(|rows| rows.at(t)) {
            // A hole hides what columns have.
            Some(v) => (!is_absent(v)).then_some(v),
            None => {
                let mut homes = series.homes().iter();
                homes.find_map(|home| self.sets.get(&home.set)?.at(home.column, t))
            }
        }
    }
}
