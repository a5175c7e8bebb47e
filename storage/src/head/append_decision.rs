//! What is to be done with a sample: stored, or refused as too old or as the second one at its time.
//!
//! The rules hold over all lanes of a series together; what came first stays. A sample of any
//! series must be within the bounds of the head ([`Head::set_bound`]); one behind the newest of its
//! series must be within the out-of-order window, too.

use super::shard::Head;
use crate::limits::REFUSED_NAMED;
use crate::model::TimeMs;
use crate::model::value::is_absent;

/// What is to be done with a sample.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AppendDecision {
    /// Store it.
    Store,
    /// It is there already.
    Same,
    /// Another value is there.
    Duplicate,
    /// It comes too late for its series.
    TooOld,
    /// It is older than the head takes of any series.
    OutOfBounds,
}

/// Why a sample was refused: Prometheus' texts.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Behind the out-of-order window, or before the bounds of the head although there is a window.
    #[error("too old sample")]
    TooOld,
    /// Behind the newest sample of its series, and there is no window.
    #[error("out of order sample")]
    OutOfOrder,
    /// Before the bounds of the head, and there is no window.
    #[error("out of bounds")]
    OutOfBounds,
    /// Another value is there.
    #[error("duplicate sample for timestamp")]
    Duplicate,
}

/// A sample that was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RefusedSample {
    /// The slot of its series.
    pub slot: u32,
    /// Its time.
    pub t: TimeMs,
    /// Why.
    pub why: Refusal,
}

/// Counts of what became of the samples of an append.
#[derive(Clone, Debug, Default)]
pub struct AppendCounts {
    /// Stored.
    pub stored: usize,
    /// Of these, behind the series' newest sample.
    pub late: usize,
    /// Refused as too old.
    pub too_old: usize,
    /// Refused because another value is there.
    pub duplicate: usize,
    /// Refused because they are before the bounds of the head.
    pub out_of_bounds: usize,
    /// The first of those that were refused.
    pub refused: Vec<RefusedSample>,
}

impl Head {
    /// Counts a sample of `slot` at `t`; whether it is to be stored.
    pub fn note(&self, verdict: AppendDecision, (slot, t): (u32, TimeMs), counts: &mut AppendCounts) -> bool {
        let in_order = self.out_of_order == 0;
        let why = match verdict {
            AppendDecision::Store => {
                counts.stored += 1;
                return true;
            }
            AppendDecision::Same => return false,
            AppendDecision::Duplicate => {
                counts.duplicate += 1;
                Refusal::Duplicate
            }
            AppendDecision::TooOld => {
                counts.too_old += 1;
                if in_order { Refusal::OutOfOrder } else { Refusal::TooOld }
            }
            AppendDecision::OutOfBounds => {
                counts.out_of_bounds += 1;
                if in_order { Refusal::OutOfBounds } else { Refusal::TooOld }
            }
        };
        if counts.refused.len() < REFUSED_NAMED {
            counts.refused.push(RefusedSample { slot, t, why });
        }
        false
    }

    /// From now on samples before `bound` are refused, of new series, too.
    pub fn set_bound(&mut self, bound: TimeMs) {
        self.bound = bound;
    }

    /// Samples before this are refused, whatever their series.
    pub(super) fn oldest_taken(&self) -> TimeMs {
        self.min_append_time.max(self.bound)
    }

    /// What is to be done with a sample of `slot`.
    pub fn verdict(&self, slot: u32, t: TimeMs, v: f64) -> AppendDecision {
        self.judge(slot, t, || match self.at(slot, t) {
            Some(there) => Some(there.to_bits() == v.to_bits()),
            None => self.histogram_at(slot, t).map(|_| false),
        })
    }

    /// What is to be done with a sample at `t`; `there` says whether one is there, and whether it
    /// is the same.
    pub(super) fn judge(&self, slot: u32, t: TimeMs, there: impl FnOnce() -> Option<bool>) -> AppendDecision {
        if t < self.min_append_time {
            return AppendDecision::TooOld;
        }
        if t < self.bound {
            return AppendDecision::OutOfBounds;
        }
        let Some(newest) = self.newest_of(slot).filter(|newest| t <= *newest) else {
            return AppendDecision::Store;
        };
        if t < newest.saturating_sub(self.out_of_order) {
            return AppendDecision::TooOld;
        }
        match there() {
            Some(true) => AppendDecision::Same,
            Some(false) => AppendDecision::Duplicate,
            None => AppendDecision::Store,
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
