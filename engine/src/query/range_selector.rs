//! The answer of an instant query that is only a range selector, such as `up[5m]`: the samples
//! themselves.

use super::guard::{QueryGuard, SampleUsage};
use super::remote_stores::{HistorySource, RemoteSelection};
use super::{QueryError, QueryOptions, Series};
use crate::functions::extended::extended_floats;
use crate::functions::series_slices::drop_stale;
use crate::plan::physical::{SampleSource, StepId};
use crate::plan::{Selector, WindowExtension};
use storage::model::TimeMs;
use storage::store::Selection;

/// The only leaf of such a query.
const LEAF: StepId = 0;

/// The selector and its times.
pub(super) struct RangeSelection {
    /// Which samples are read.
    source: SampleSource,
    /// Length of the window, ms.
    range: i64,
    /// The evaluation time, ms.
    t: TimeMs,
    /// The right edge of the window, ms.
    end: TimeMs,
    /// How far back an instant selector looks, ms.
    lookback: i64,
}

impl RangeSelection {
    /// The samples of `selector` in the `range` ms up to `t`.
    pub(super) fn new(selector: &Selector, range: i64, t: TimeMs, options: &QueryOptions) -> RangeSelection {
        let Selector { matchers, offset, at, extension } = selector.clone();
        let source = SampleSource { matchers, offset, at, extension, counts_only: false };
        RangeSelection { end: source.time(t, t, t), source, range, t, lookback: options.lookback }
    }

    /// The samples of one shard.
    pub(super) fn shard_samples(
        &self,
        source: &HistorySource,
        shard: u16,
        guard: &QueryGuard,
    ) -> Result<Vec<Series>, QueryError> {
        let (from, to) = self.span();
        let mut all = Vec::new();
        let selection = source.select(LEAF, shard, &self.source.matchers, from, to)?;
        for row in 0..selection.labels.len() {
            guard.check()?;
            let Some(series) = self.series(&selection, row)? else { continue };
            let histograms: usize = series.histograms.iter().map(|(_, h)| h.samples()).sum();
            let samples = series.points.len() + histograms;
            guard.count_samples(SampleUsage { samples, fresh: samples, points: samples, largest: 0 })?;
            guard.count_step(self.t, samples, samples);
            guard.grow(series.bytes())?;
            all.push(series);
        }
        Ok(all)
    }

    /// What other stores are asked for.
    pub(super) fn remote_selections(&self) -> Vec<(StepId, RemoteSelection)> {
        let (from, to) = self.span();
        let matchers = self.source.matchers.clone();
        let asked = RemoteSelection { matchers, from, to, step: 0, function: "", range: self.range };
        vec![(LEAF, asked)]
    }

    /// The times between which samples are read, both included.
    pub(super) fn span(&self) -> (TimeMs, TimeMs) {
        let (before, after) = match self.source.extension {
            None => (0, 0),
            Some(WindowExtension::Anchored) => (self.lookback, 0),
            Some(WindowExtension::Smoothed) => (self.lookback, self.lookback),
        };
        (self.end - self.range - before + 1, self.end + after)
    }

    fn series(&self, selection: &Selection, row: usize) -> Result<Option<Series>, QueryError> {
        let (from, to) = self.span();
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        let mut histograms = Vec::new();
        selection.read(row, from, to, &mut ts, &mut vs)?;
        if selection.has_histograms(row) {
            selection.read_histograms(row, from, to, &mut histograms)?;
        }
        drop_stale(&mut ts, &mut vs);
        let points = match self.source.extension {
            None => ts.into_iter().zip(vs).collect(),
            Some(extension) if !histograms.is_empty() => {
                let text = format!("{} modifier is not supported with histograms", extension.as_str());
                return Err(QueryError::Execution(text));
            }
            Some(extension) => extended_floats(&ts, &vs, self.end - self.range, self.end, extension),
        };
        let labels = selection.labels[row].clone();
        let any = !points.is_empty() || !histograms.is_empty();
        Ok(any.then_some(Series { labels, points, histograms, drops: false }))
    }
}
