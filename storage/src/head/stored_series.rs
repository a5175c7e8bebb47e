//! What the head has of one series, wherever it is stored: in columns of groups, as ungrouped
//! floats, or as native histograms with start timestamps. New samples are compared with it.

use super::group_table::GroupTable;
use super::reset_hints::hint_after;
use super::series::{ColumnRef, HeadSeries};
use super::sparse_append::SparseColumns;
use crate::model::histogram::ResetHint;
use crate::model::value::is_absent;
use crate::model::{NativeHistogram, TimeMs};
use std::sync::Arc;

/// The samples of one series in the head.
#[derive(Copy, Clone)]
pub struct StoredSeries<'a> {
    /// `None`: the head has never had it.
    pub(super) series: Option<&'a HeadSeries>,
    /// The groups, which have its columns.
    pub(super) groups: &'a GroupTable,
}

impl<'a> StoredSeries<'a> {
    fn columns(self) -> &'a [ColumnRef] {
        self.series.map_or(&[], |series| series.columns())
    }

    fn sparse(self) -> Option<&'a SparseColumns> {
        self.series?.sparse()
    }

    /// The float at exactly `t`.
    pub fn float_at(self, t: TimeMs) -> Option<f64> {
        match self.series?.rows().and_then(|rows| rows.at(t)) {
            // A hole (the value *absent*) hides the sample that a column has at this time.
            Some(v) => (!is_absent(v)).then_some(v),
            None => {
                let mut column_refs = self.columns().iter();
                column_refs
                    .find_map(|column_ref| self.groups.sets.get(&column_ref.set)?.at(column_ref.column, t))
            }
        }
    }

    /// The histogram at exactly `t`.
    pub fn histogram_at(self, t: TimeMs) -> Option<Arc<NativeHistogram>> {
        self.sparse()?.histograms.at(t)
    }

    /// Whether there is a float or a histogram at exactly `t`.
    pub fn has_sample_at(self, t: TimeMs) -> bool {
        self.float_at(t).is_some() || self.histogram_at(t).is_some()
    }

    /// The start timestamp of the sample at exactly `t`, if it is known.
    pub fn start_at(self, t: TimeMs) -> Option<TimeMs> {
        self.sparse()?.starts.at(t)
    }

    /// Time of the newest sample, float or histogram.
    pub fn newest(self) -> Option<TimeMs> {
        self.newest_float().max(self.newest_histogram())
    }

    /// Time of the newest float.
    fn newest_float(self) -> Option<TimeMs> {
        let columns = self.columns().iter();
        let columns =
            columns.filter_map(|column_ref| self.groups.sets.get(&column_ref.set)?.newest(column_ref.column));
        columns.max().max(self.series?.rows().and_then(|rows| rows.newest()))
    }

    /// Time of the newest histogram.
    fn newest_histogram(self) -> Option<TimeMs> {
        self.sparse()?.histograms.newest()
    }

    /// The groups that have a column for it.
    pub fn groups(self) -> impl Iterator<Item = u32> + 'a {
        let sets = &self.groups.sets;
        self.columns().iter().filter_map(|column_ref| Some(sets.get(&column_ref.set)?.group))
    }

    /// A histogram of `t` with the hint that readers must see.
    pub(super) fn hinted(self, t: TimeMs, h: &Arc<NativeHistogram>) -> Arc<NativeHistogram> {
        let hint = self.hint_for(t, h);
        if h.hint == hint {
            h.clone()
        } else {
            Arc::new(NativeHistogram { hint, ..NativeHistogram::clone(h) })
        }
    }

    /// The hint of a new histogram. A histogram that is older than another, or directly after a
    /// float, is compared with none.
    pub(super) fn hint_for(self, t: TimeMs, h: &NativeHistogram) -> ResetHint {
        let last = self.sparse().and_then(|sparse| sparse.histograms.last());
        let float_since = |before: TimeMs| match self.newest_float() {
            Some(float) if float > t => self.float_between(before, t),
            float => float.is_some_and(|float| float > before),
        };
        let previous = last.filter(|(before, _)| *before < t && !float_since(*before));
        hint_after(previous.map(|(_, previous)| previous.as_ref()), h)
    }

    /// Whether there is a float after `from` and before `to`, both excluded.
    fn float_between(self, from: TimeMs, to: TimeMs) -> bool {
        let Some(series) = self.series else { return false };
        let from = from + 1;
        let to = to - 1;
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        if let Some(rows) = series.rows() {
            rows.slices().read(from, to, &mut ts, &mut vs, |_| ());
        }
        for column_ref in series.columns() {
            if let Some(set) = self.groups.sets.get(&column_ref.set) {
                set.snapshot(from, to).read(column_ref.column, from, to, &mut ts, &mut vs);
            }
        }
        // Removed samples are *absent* here, and do not count.
        vs.iter().any(|v| !is_absent(*v))
    }
}
