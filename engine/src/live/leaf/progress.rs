//! When a leaf of a view (a selector or a window function over one) was last evaluated, and how
//! many rows that read. Reports on views show it. It also tells whether a ring (the recent samples
//! of a selector) that was filled again from the store has been read since.

use storage::model::TimeMs;

/// When a leaf was last evaluated, and how much it read.
pub(super) struct LeafProgress {
    /// The time of the latest evaluation that had something to do; `TimeMs::MIN`: there was none.
    latest: TimeMs,
    /// How many rows all evaluations at that time read.
    rows: usize,
    /// The time of the latest evaluation since the ring was last filled from the store;
    /// `TimeMs::MIN`: none since.
    since_fill: TimeMs,
}

impl LeafProgress {
    pub(super) const NEW: LeafProgress =
        LeafProgress { latest: TimeMs::MIN, rows: 0, since_fill: TimeMs::MIN };

    /// An evaluation at `t` has read `rows` rows.
    pub(super) fn record(&mut self, t: TimeMs, rows: usize) {
        // A tick and the preparation after it evaluate at the same time: together they are what
        // that time has cost.
        let before = if self.latest == t { self.rows } else { 0 };
        self.latest = t;
        self.rows = before + rows;
        self.since_fill = t;
    }

    /// The ring was filled again from the store.
    pub(super) fn ring_filled(&mut self) {
        self.since_fill = TimeMs::MIN;
    }

    /// The time of the latest evaluation since the ring was last filled from the store.
    pub(super) fn since_fill(&self) -> Option<TimeMs> {
        (self.since_fill != TimeMs::MIN).then_some(self.since_fill)
    }

    /// Whether there was no evaluation at all.
    pub(super) fn is_new(&self) -> bool {
        self.latest == TimeMs::MIN
    }

    /// How many rows the latest evaluation read; 0 if it was before `since`.
    pub(super) fn rows_since(&self, since: TimeMs) -> usize {
        if self.latest < since { 0 } else { self.rows }
    }
}
