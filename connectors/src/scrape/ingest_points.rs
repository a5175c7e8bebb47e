//! Bodies that are read as a whole: the same way into the store as [`super::ingest`]'s, for points of any kind.

use super::admit::Refusal;
use super::cache::{Id, Place};
use super::exposition::points::{Point, PointRules, PointValue, Points};
use super::exposition::{ParseError, Sample};
use super::ingest::{Counts, Fresh, Ingest, IngestError, Rules};
use crate::histogram::RawHistogram;
use crate::limits;
use std::sync::Arc;
use storage::model::value::STALE;
use storage::model::{SeriesRef, TimeMs};

impl Rules<'_> {
    /// What is to be made of a body that is read as a whole.
    pub fn points(&self, exemplars: bool) -> PointRules {
        PointRules {
            native: self.native.scrape,
            classic_too: self.native.classic_too,
            convert: self.native.convert,
            exemplars,
        }
    }
}

/// A point as a sample, for the series cache; a histogram has no value there.
fn sample<'a>(series: &'a [u8], point: &Point, guess: &[u8]) -> Sample<'a> {
    let value = if let PointValue::Float(v) = point.value { v } else { STALE };
    Sample { series, guessed: series == guess, value, t: point.t }
}

impl Ingest {
    /// Takes the points of a body; the number of columns that were made for new series.
    pub(super) fn take_points(
        &mut self,
        points: &Points,
        now: TimeMs,
        rules: &Rules<'_>,
        counts: &mut Counts,
    ) -> Result<usize, IngestError> {
        let limit = rules.admission.limits.samples;
        let (mut fresh, mut found) = (Vec::new(), Vec::new());
        for (series, point) in points.iter() {
            let sample = sample(series, point, self.series.guess());
            counts.scraped += 1;
            if counts.kept > limit {
                counts.kept += usize::from(self.would_keep(&sample, point.kind, rules));
                continue;
            }
            let known = self.series.find(&sample);
            found.push(known);
            if let Some(id) = known {
                counts.kept += usize::from(matches!(self.series.place(id), Place::Series { .. }));
                continue;
            }
            let labels = rules.admission.admit(series, point.kind).map_err(|e| match e {
                Refusal::BadSeries(reason) => IngestError::Parse(ParseError { line: counts.scraped, reason }),
                limit => IngestError::Refused(limit),
            })?;
            counts.kept += usize::from(labels.is_some());
            let histogram = matches!(point.value, PointValue::Histogram(_));
            fresh.push(Fresh { sample, labels, histogram });
        }
        if counts.kept > limit {
            return Err(Refusal::SampleLimit.into());
        }
        let (admitted, columns) = self.settle_all(&fresh, rules, counts);
        let mut new = admitted.iter().copied();
        for ((series, point), known) in points.iter().zip(found) {
            if let Some(id) = known.or_else(|| new.next()) {
                self.take_point(id, &sample(series, point, b""), point, now, rules, counts)?;
            }
        }
        self.series.accept(&admitted);
        self.track(now, rules);
        Ok(columns)
    }

    fn take_point(
        &mut self,
        id: Id,
        sample: &Sample<'_>,
        point: &Point,
        now: TimeMs,
        rules: &Rules<'_>,
        counts: &mut Counts,
    ) -> Result<(), IngestError> {
        let Some(series) = self.series_of(id) else { return Ok(()) };
        let t = point.t.filter(|_| rules.honor_timestamps);
        match &point.value {
            PointValue::Float(_) => {
                let kept = counts.kept;
                self.put(id, sample, now, rules, counts);
                // It was counted when it was found.
                counts.kept = kept;
            }
            PointValue::Histogram(_) if t.is_some_and(|t| t > now + limits::FUTURE_MS) => {
                counts.out_of_bounds += 1;
            }
            PointValue::Histogram(raw) => self.take_histogram(series, t, raw, rules)?,
        }
        if rules.native.starts && point.start != 0 {
            self.extras.starts.push((series, t, point.start));
        }
        self.extras.exemplars.extend(point.exemplars.iter().map(|exemplar| (series, t, exemplar.clone())));
        Ok(())
    }

    fn take_histogram(
        &mut self,
        series: SeriesRef,
        t: Option<TimeMs>,
        raw: &RawHistogram,
        rules: &Rules<'_>,
    ) -> Result<(), IngestError> {
        if raw.is_stale() {
            return Ok(());
        }
        let mut h = raw.clone().finish()?;
        h.compact();
        rules.native.limits.apply(&mut h)?;
        self.extras.histograms.push((series, t, Arc::new(h)));
        Ok(())
    }

    /// The series of a known name; `None` if the rules drop it.
    pub(super) fn series_of(&self, id: Id) -> Option<SeriesRef> {
        match self.series.place(id) {
            Place::Dropped => None,
            Place::Series { part, slot, .. } => Some(SeriesRef { shard: self.batches.shard(part), slot }),
        }
    }
}
