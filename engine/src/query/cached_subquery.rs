//! The cached answers of one subquery's inner expression ([`super::subquery_cache`]): one
//! contiguous range of steps, which grows at its end. It is shortened where the store has changed
//! and where no window reads it any more.

use super::query_run::TimeGrid;
use super::step_independence::is_step_independent;
use super::subquery_rows::{SubqueryRows, append};
use super::{QueryOptions, Series, fold_times, visibility};
use crate::annotations::AnnotationSet;
use crate::plan::Plan;
use std::sync::Arc;
use storage::model::TimeMs;
use storage::store::{ChangedSince, StoreVersion};

/// Samples before the window are removed only when they are more than 1/4 of the window: removing
/// them moves all others.
const TRIM_FRACTION: i64 = 4;

/// The answers of one subquery's plan at `from`, `from + step`, … before `until`.
#[derive(Debug)]
pub(super) struct CachedSubquery {
    /// The inner expression.
    pub(super) input: Plan,
    /// The step of the subquery, ms.
    pub(super) step: i64,
    /// Whether answers may be cached, see [`super::subquery_cache`].
    pub(super) keeps: bool,
    /// A sample at `t` can only change the answers of steps from `t + visible_from` on.
    visible_from: i64,
    /// Annotations that every query with several steps has.
    of_several: AnnotationSet,
    /// The version of the store that the answers saw; `None`: there are no answers.
    pub(super) seen_version: Option<StoreVersion>,
    /// The first cached step, ms.
    from: TimeMs,
    /// After the last cached step, ms.
    until: TimeMs,
    /// Rows have no samples before this time.
    trimmed: TimeMs,
    /// The answers, by label set.
    pub(super) rows: SubqueryRows,
    /// The annotations of the answers, with the steps that they belong to.
    annotations: Vec<CachedAnnotations>,
    /// The number of samples that was added to the budget.
    pub(super) counted: usize,
}

/// The annotations of the steps from `from` on, before `until`.
#[derive(Debug)]
struct CachedAnnotations {
    from: TimeMs,
    until: TimeMs,
    annotations: AnnotationSet,
}

impl CachedSubquery {
    pub(super) fn new(input: Plan, step: i64, options: &QueryOptions) -> CachedSubquery {
        let mut of_several = AnnotationSet::default();
        fold_times::warn_of_sorting(&input, &mut of_several);
        CachedSubquery {
            keeps: is_step_independent(&input, options.dialect),
            visible_from: visibility::visible_from(&input, options),
            input,
            step,
            of_several,
            seen_version: None,
            from: TimeMs::MIN,
            until: TimeMs::MIN,
            trimmed: TimeMs::MIN,
            rows: SubqueryRows::default(),
            annotations: Vec::new(),
            counted: 0,
        }
    }

    /// Number of cached samples.
    pub(super) fn samples(&self) -> usize {
        self.rows.iter().map(|row| row.samples()).sum()
    }

    /// Bytes of the labels of the rows.
    pub(super) fn label_bytes(&self) -> usize {
        self.rows.iter().map(|row| row.labels.encoded().len()).sum()
    }

    /// Number of cached samples at `t` and later.
    pub(super) fn samples_from(&self, t: TimeMs) -> usize {
        self.rows.iter().map(|row| row.samples_from(t)).sum()
    }

    /// Number of cached steps.
    pub(super) fn steps(&self) -> usize {
        self.until.saturating_sub(self.from).div_euclid(self.step) as usize
    }

    pub(super) fn forget(&mut self) {
        self.rows = SubqueryRows::default();
        self.seen_version = None;
        self.annotations.clear();
        self.from = TimeMs::MIN;
        self.until = TimeMs::MIN;
        self.trimmed = TimeMs::MIN;
    }

    /// Drops the steps whose answers may have changed.
    pub(super) fn forget_changed(&mut self, changed: ChangedSince) {
        match changed {
            ChangedSince::Nothing => {}
            ChangedSince::From(t) => self.forget_from(t.saturating_add(self.visible_from)),
            ChangedSince::Everything => self.forget(),
        }
    }

    /// Drops the steps at `t` and later.
    pub(super) fn forget_from(&mut self, t: TimeMs) {
        if t >= self.until {
            return;
        }
        if t <= self.from {
            return self.forget();
        }
        // The first step at or after `t`.
        let until = (t.div_euclid(self.step) + i64::from(t.rem_euclid(self.step) > 0)) * self.step;
        self.until = self.until.min(until);
        for row in Arc::make_mut(&mut self.rows).iter_mut() {
            row.forget_from(until);
        }
        self.annotations.retain_mut(|entry| {
            entry.until = entry.until.min(until);
            entry.from < entry.until
        });
    }

    /// Drops what a query over `grid` does not read. Returns the part of `grid` that is not cached.
    pub(super) fn missing(&mut self, grid: TimeGrid) -> TimeGrid {
        // A query that begins before the cached steps, or leaves a gap after them, can use nothing.
        if grid.start < self.from || self.until < grid.start {
            self.forget();
        }
        self.forget_from(grid.end.saturating_add(1));
        let rows = Arc::make_mut(&mut self.rows);
        rows.retain(|row| row.newest().is_some_and(|newest| newest >= grid.start));
        // Samples before the window: removed only when they are many, because the others are moved.
        let gone = grid.start.saturating_sub(self.trimmed);
        if gone > (grid.end - grid.start) / TRIM_FRACTION {
            for row in rows.iter_mut() {
                row.forget_before(grid.start);
            }
            self.trimmed = grid.start;
        }
        self.annotations.retain(|entry| entry.until > grid.start);
        self.from = grid.start;
        self.until = self.until.max(grid.start);
        TimeGrid { start: self.until, ..grid }
    }

    /// Adds the answers at `grid`, which begins at `until`.
    pub(super) fn add_answers(&mut self, grid: TimeGrid, answers: Vec<Series>, annotations: AnnotationSet) {
        append(Arc::make_mut(&mut self.rows), answers);
        self.until = grid.time(grid.len());
        if !annotations.is_empty() {
            self.annotations.push(CachedAnnotations { from: grid.start, until: self.until, annotations });
        }
    }

    /// Adds the annotations of a query over `grid`.
    pub(super) fn add_annotations(&self, grid: TimeGrid, annotations: &mut AnnotationSet) {
        for entry in &self.annotations {
            annotations.extend(entry.annotations.clone());
        }
        if grid.start != grid.end {
            annotations.extend(self.of_several.clone());
        }
    }
}
