//! Stores samples that were not read line by line: metrics of protobuf bodies, and converted
//! classic histograms. [`super::appender`] stores lines of text.

use super::appender::{BodyReader, IngestError, Progress, ScrapeRules, in_line};
use super::non_float::SampleExemplar;
use super::scrape_content::{SeriesValue, WaitsForStart};
use super::series_admission::SeriesRejected;
use super::series_cache::{CachedSeriesId, SeriesTarget};
use crate::exposition::nhcb::Converter;
use crate::exposition::points::{ExposedPoint, ExposedPoints, PointRules, PointValue};
use crate::exposition::protobuf::{Families, FamilySink, ProtobufFamily};
use crate::exposition::{Context, ExposedSample, ExpositionError, ExpositionParser, LineError, exemplar};
use crate::limits;
use crate::native_histogram::{HistogramRejected, RawHistogram};
use storage::model::TimeMs;
use storage::model::histogram::{HistogramError, SCHEMA_MAX};
use storage::model::value::STALE;

impl ScrapeRules<'_> {
    /// The rules for a body that is not read line by line.
    pub fn points(&self, exemplars: bool) -> PointRules {
        PointRules {
            native: self.native.scrape,
            classic_too: self.native.classic_too,
            convert: self.native.convert,
            exemplars,
        }
    }
}

impl From<SeriesRejected> for IngestError {
    fn from(refusal: SeriesRejected) -> Self {
        match refusal {
            SeriesRejected::Interrupted(interrupted) => IngestError::Interrupted(interrupted),
            refusal => IngestError::Refused(refusal),
        }
    }
}

/// A point as a sample for the series cache. A histogram has no value there.
fn sample<'a>(series: &'a [u8], point: &ExposedPoint, guess: &[u8]) -> ExposedSample<'a> {
    // The cache needs some value; this one is never stored.
    let value = if let PointValue::Float(v) = point.value { v } else { STALE };
    ExposedSample { series, guessed: series == guess, value, t: point.t }
}

impl FamilySink for BodyReader<'_, '_> {
    type Error = IngestError;

    fn family(&mut self, family: &ProtobufFamily<'_>) {
        self.ingest.metadata.note_family(family);
    }

    fn points(&mut self, points: &ExposedPoints, unit: &str) -> Result<(), IngestError> {
        self.turn.check()?;
        self.take_points(points, unit).map(drop)
    }
}

impl BodyReader<'_, '_> {
    pub(super) fn read_families(&mut self, piece: &[u8], last: bool) -> Result<Progress, IngestError> {
        let rules = self.rules.points(self.ingest.store.exemplars().enabled());
        let mut families: Families = std::mem::take(&mut self.ingest.waiting.families);
        let read = families.read(piece, last, rules, self)?;
        self.ingest.waiting.families = families;
        Ok(Progress { read, through: true })
    }

    /// Processes a line of a text whose classic histograms are converted to native ones.
    pub(super) fn convert_line(
        &mut self,
        parser: &ExpositionParser<'_>,
        sample: &ExposedSample<'_>,
        seen: Option<&[u8]>,
        reads_starts: bool,
    ) -> Result<(), IngestError> {
        let rules = self.rules.points(seen.is_some());
        let context = parser.context();
        let seen = seen.map(|raw| exemplar::parse(raw, context.format)).transpose();
        let seen = seen.map_err(|e| parser.error(e))?;
        let mut points = ExposedPoints::default();
        let converter = &mut self.ingest.waiting.converter;
        let before = converter.number();
        // One line can make two points: the histogram that it ends, and itself.
        let made = converter.line(sample, context, seen, rules, &mut points);
        made.map_err(|e| in_line(parser, e.into()))?;
        let histogram = converter.number().filter(|number| before != Some(*number));
        let last = self.take_points(&points, context.unit)?;
        let is_line = |(series, _): &(&[u8], &ExposedPoint)| *series == sample.series;
        // Only if the last point is this line: a start timestamp belongs to what was read, not to
        // the histogram that ended before it.
        let line = last.filter(|_| points.iter().last().as_ref().is_some_and(is_line));
        if reads_starts && (line.is_some() || histogram.is_some()) {
            self.wait_for_start(parser, sample, WaitsForStart { line, histogram })?;
        }
        Ok(())
    }

    /// Whether a line is a `_created` line; if so, it is consumed.
    pub(super) fn take_created_line(
        &mut self,
        parser: &ExpositionParser<'_>,
        sample: &ExposedSample<'_>,
    ) -> Result<bool, IngestError> {
        let waiting = &mut self.ingest.waiting;
        let mut created = std::mem::take(&mut waiting.created);
        let taken = created.take(sample, parser.context(), |of, start| waiting.has_start(of, start));
        waiting.created = created;
        taken.map_err(|e| in_line(parser, e.into()))
    }

    /// Processes a sample whose start timestamp is known already, or may come in a `_created` line.
    pub(super) fn wait_for_start(
        &mut self,
        parser: &ExpositionParser<'_>,
        sample: &ExposedSample<'_>,
        of: WaitsForStart,
    ) -> Result<(), IngestError> {
        let waiting = &mut self.ingest.waiting;
        let start = waiting.created.start(sample, parser.context(), || of);
        if let Some(start) = start.map_err(|e| in_line(parser, e.into()))? {
            waiting.has_start(of, start);
        }
        Ok(())
    }

    /// Ends the lines of a histogram and adds its sample.
    pub(super) fn close_histogram(&mut self, unit: &str) -> Result<(), IngestError> {
        let mut points = ExposedPoints::default();
        let converter: &mut Converter = &mut self.ingest.waiting.converter;
        converter.close(&mut points);
        self.take_points(&points, unit).map(drop)
    }

    /// Adds all points. Returns the series of the last one, and its time.
    fn take_points(
        &mut self,
        points: &ExposedPoints,
        unit: &str,
    ) -> Result<Option<(CachedSeriesId, Option<TimeMs>)>, IngestError> {
        let mut last = None;
        for (series, point) in points.iter() {
            let sample = sample(series, point, self.ingest.series.expected_series());
            let histogram = matches!(point.value, PointValue::Histogram(_));
            let context = Context { format: point.format, kind: point.kind, unit };
            let id = self.take_sample(&sample, context, histogram).map_err(|e| match e {
                SeriesRejected::Malformed(reason) => {
                    IngestError::Parse(ExpositionError { line: self.counts.scraped, reason })
                }
                SeriesRejected::BadSeries(why) => {
                    let reason = LineError::Series(why.to_string());
                    IngestError::Parse(ExpositionError { line: self.counts.scraped, reason })
                }
                refusal => refusal.into(),
            })?;
            if let Some(id) = id.filter(|id| self.ingest.series.place(*id) != SeriesTarget::Dropped) {
                self.take_extras(id, point)?;
            }
            last = id.map(|id| (id, point.t.filter(|_| self.rules.honor_timestamps)));
        }
        Ok(last)
    }

    /// Adds what a point has in addition to a float.
    fn take_extras(&mut self, id: CachedSeriesId, point: &ExposedPoint) -> Result<(), IngestError> {
        let t = point.t.filter(|_| self.rules.honor_timestamps);
        if let PointValue::Histogram(raw) = &point.value {
            match t {
                // As for floats: counted and not stored.
                Some(t) if t > self.now + limits::FUTURE_MS => self.counts.out_of_bounds += 1,
                _ => match self.take_histogram(id, t, raw) {
                    // The rest is only counted; the scrape fails at the end of the body.
                    Err(IngestError::Histogram(HistogramRejected::TooManyBuckets)) => {
                        self.ingest.waiting.has_too_many_buckets = true;
                    }
                    Err(error) => {
                        // It was counted as kept when its series was admitted.
                        self.counts.kept -= 1;
                        return Err(error);
                    }
                    Ok(()) => {}
                },
            }
        }
        let waiting = &mut self.ingest.waiting;
        if self.rules.native.starts.are_read() && point.start != 0 {
            waiting.starts.push(SeriesValue { id, t, what: point.start });
        }
        let value = if let PointValue::Float(v) = point.value { Some(v) } else { None };
        for exemplar in &point.exemplars {
            waiting.add_exemplar(id, t, SampleExemplar { value, exemplar: exemplar.clone() });
        }
        Ok(())
    }

    fn take_histogram(
        &mut self,
        id: CachedSeriesId,
        t: Option<TimeMs>,
        raw: &RawHistogram,
    ) -> Result<(), IngestError> {
        // A marker of the target says that there is no histogram. To have none in this scrape says
        // the same, so the marker that the store writes is the only one.
        if raw.is_stale() {
            return Ok(());
        }
        let limits = self.rules.native.limits;
        // Without a configured limit of resolution a schema that does not exist fails the scrape,
        // as in Prometheus; with one, it is reduced like any other.
        if limits.max_schema == SCHEMA_MAX && raw.schema > SCHEMA_MAX {
            return Err(HistogramRejected::Malformed(HistogramError::Schema(raw.schema)).into());
        }
        let mut h = raw.clone().finish()?;
        h.compact();
        limits.apply(&mut h)?;
        let first = self.ingest.waiting.add_histogram(id, t, h);
        self.counts.duplicates += usize::from(!first);
        Ok(())
    }
}
