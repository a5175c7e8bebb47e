//! One target's way into the store: reads bodies piece by piece and appends each scrape as columnar
//! batches, reports included.
//!
//! Nothing is appended unless the whole body was good: values wait in the columns, new series wait unresolved
//! ([`super::waiting`]). A failed scrape appends stale markers for all series, and `up` = 0.

use super::waiting::{Of, Waiting, WaitsForStart};
use crate::limits;
use crate::native_histogram::{HistogramLimits, HistogramRejected};
use crate::scrape::exposition::protobuf::FamilyError;
use crate::scrape::exposition::series::Escapes;
use crate::scrape::exposition::{
    BodyFormat, Context, ExposedSample, ExpositionEntry, ExpositionError, ExpositionParser, MetadataValue,
    TextFormat, exemplar,
};
use crate::scrape::metadata::{MetadataChangeDetector, MetadataMap};
use crate::scrape::non_float::{NonFloatSamples, SampleExemplar};
use crate::scrape::scrape_batch::{BatchColumn, ColumnFinder, ScrapeBatch};
use crate::scrape::series_admission::{SeriesAdmission, SeriesRejected};
use crate::scrape::series_cache::{CachedSeriesId, NO_COLUMN, SeriesCache, SeriesTarget};
use crate::scrape::turn::{Interrupted, Look, Turn};
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::value::{STALE, is_absent};
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{AppendResult, FloatRow, Store, StoreError};

/// Why a scrape that was received counts as failed.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The body is not an exposition.
    #[error(transparent)]
    Parse(#[from] ExpositionError),
    /// The body is not a protobuf exposition.
    #[error(transparent)]
    Families(#[from] FamilyError),
    /// A native histogram cannot be stored.
    #[error(transparent)]
    Histogram(#[from] HistogramRejected),
    /// A limit or a label rule.
    #[error(transparent)]
    Refused(SeriesRejected),
    /// More samples with times of their own, start timestamps and the like than wait for the end of a body.
    #[error(
        "samples with timestamps take more than {} bytes before the scrape is complete",
        limits::SCRAPE_LOOSE_BYTES
    )]
    TooMuch,
    /// It was not read to its end.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far a piece has been read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of it.
    pub read: usize,
    /// Whether that is all that is whole in it; else the turn was over.
    pub through: bool,
}

/// What a body held.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeCounts {
    /// Samples exposed.
    pub scraped: usize,
    /// Samples left after relabelling.
    pub kept: usize,
    /// Series that were not in the scrape before.
    pub added: usize,
    /// Samples of a series that the body already had.
    pub duplicates: usize,
    /// Timestamps too far in the future, or older than the store takes of any series.
    pub out_of_bounds: usize,
    /// Timestamps behind the store's window.
    pub too_old: usize,
    /// Exemplars of samples all of whose exemplars are out of order.
    pub late_exemplars: usize,
}

impl ScrapeCounts {
    /// Counts what an append refused.
    fn refused(&mut self, appended: &AppendResult) {
        self.too_old += appended.too_old;
        self.out_of_bounds += appended.out_of_bounds;
        self.duplicates += appended.duplicate;
    }
}

/// What is done with histograms, and what comes with samples.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct HistogramPolicy {
    /// Whether native histograms are taken; else their classic buckets.
    pub scrape: bool,
    /// Whether classic buckets are taken beside native histograms.
    pub classic_too: bool,
    /// Whether classic histograms become native ones with custom buckets.
    pub convert: bool,
    /// What is too large.
    pub limits: HistogramLimits,
    /// What is done with start timestamps.
    pub starts: StartRules,
}

/// What is done with start timestamps. If nothing is, the `_created` lines of OpenMetrics are series.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct StartRules {
    /// They are kept beside the samples.
    pub keep: bool,
    /// A 0 is stored at the start of a counter that is new.
    pub zeros: bool,
}

impl StartRules {
    /// Whether they are read at all.
    pub fn are_read(self) -> bool {
        self.keep || self.zeros
    }
}

/// How bodies are to be read.
#[derive(Copy, Clone)]
pub struct ScrapeRules<'a> {
    /// Which series are admitted, and as what.
    pub admission: SeriesAdmission<'a>,
    /// Whether exposed timestamps are used.
    pub honor_timestamps: bool,
    /// Whether series with exposed timestamps get stale markers.
    pub track_timestamps: bool,
    /// Native histograms.
    pub native: HistogramPolicy,
}

/// See the module.
pub struct ScrapeAppender {
    pub(super) store: Arc<Store>,
    pub(super) series: SeriesCache,
    pub(super) batches: ScrapeBatch,
    pub(super) extras: NonFloatSamples,
    pub(super) metadata: MetadataChangeDetector,
    rows: Vec<FloatRow>,
    pub(super) waiting: Waiting,
    /// Where columns are, once this scrape has had to know.
    finder: Option<ColumnFinder>,
    /// Series that came with timestamps last time; kept only if they are tracked.
    tracked: Vec<SeriesRef>,
    reports: Vec<BatchColumn>,
    /// Whether the last commit was that of a failure: series that come back are not new then.
    failed: bool,
}

impl ScrapeAppender {
    /// An ingest whose groups have `key`, for a target with these labels that writes these reports.
    pub fn new(store: Arc<Store>, key: String, target: &Labels, reports: &[&str]) -> ScrapeAppender {
        let batches = ScrapeBatch::new(key);
        let mut ingest = ScrapeAppender {
            store,
            series: SeriesCache::default(),
            batches,
            extras: NonFloatSamples::default(),
            metadata: MetadataChangeDetector::default(),
            rows: Vec::new(),
            waiting: Waiting::default(),
            finder: None,
            tracked: Vec::new(),
            reports: Vec::new(),
            failed: false,
        };
        ingest.set_reports(target, reports);
        ingest
    }

    /// Forgets how bytes were judged (the rules have changed), but not which series were alive.
    pub fn reset_rules(&mut self, target: &Labels, reports: &[&str]) {
        self.series.clear();
        self.set_reports(target, reports);
    }

    fn set_reports(&mut self, target: &Labels, names: &[&str]) {
        let mut finder = self.batches.finder();
        let column = |name: &&str| {
            let mut labels = target.to_builder();
            labels.set(METRIC_NAME, *name);
            let series = self.store.get_or_create_series(&labels.build());
            self.batches.column(series, &mut finder, &self.store)
        };
        self.reports = names.iter().map(column).collect();
    }

    /// Reads a whole body into the columns; nothing is appended yet. On an error everything is taken back.
    pub fn read(
        &mut self,
        body: &[u8],
        format: BodyFormat,
        now: TimeMs,
        rules: &ScrapeRules<'_>,
        counts: &mut ScrapeCounts,
    ) -> Result<(), IngestError> {
        let turn = Turn::endless();
        self.read_piece(body, true, format, now, rules, counts, &turn)?;
        self.finish(now, rules, counts, &turn)
    }

    /// Reads a piece of a body into the columns: whole lines, or as many bytes as there are of
    /// another format; `last` if nothing comes behind it. What is not read has to come again, with
    /// more behind it. On an error everything is taken back.
    #[allow(
        clippy::too_many_arguments,
        reason = "a piece, its body, its scrape: they come from three places"
    )]
    pub fn read_piece(
        &mut self,
        piece: &[u8],
        last: bool,
        format: BodyFormat,
        now: TimeMs,
        rules: &ScrapeRules<'_>,
        counts: &mut ScrapeCounts,
        turn: &Turn,
    ) -> Result<Progress, IngestError> {
        let mut reading = Reading { ingest: self, now, rules, counts, turn };
        let result = match format {
            BodyFormat::Text(format) => reading.read_lines(piece, last, format),
            BodyFormat::Protobuf => reading.read_families(piece, last),
        };
        let result = match result {
            Ok(_)
                if self.waiting.loose_bytes() + size_of_val(&self.rows[..]) > limits::SCRAPE_LOOSE_BYTES =>
            {
                Err(IngestError::TooMuch)
            }
            result => result,
        };
        result.inspect_err(|_| self.discard())
    }

    /// Bytes of memory that what has been read of a body takes until it is stored.
    pub fn waiting_bytes(&self) -> usize {
        let rows = size_of_val(&self.rows[..]);
        self.series.new_bytes() + self.waiting.new_bytes() + self.waiting.loose_bytes() + rows
    }

    /// All of the body has been read: new series get their places. On an error everything is taken back.
    pub fn finish(
        &mut self,
        now: TimeMs,
        rules: &ScrapeRules<'_>,
        counts: &mut ScrapeCounts,
        turn: &Turn,
    ) -> Result<(), IngestError> {
        let result = Reading { ingest: self, now, rules, counts, turn }.finish();
        self.finder = None;
        match result {
            // After a failure all series rise again, but only the new ones are new.
            Ok(columns) if !self.failed => {
                counts.added += self.batches.newly_alive().saturating_sub(columns) + self.extras.risen();
            }
            Ok(_) => {}
            Err(_) => self.discard(),
        }
        result.map(drop)
    }

    /// A scrape is over; what the target has said about its metrics, if that has changed.
    /// `is_good`: it did not fail, and had something in it.
    pub fn metadata(&mut self, is_good: bool) -> Option<Arc<MetadataMap>> {
        self.metadata.finish(is_good)
    }

    /// Appends what was read, with `reports` (in the order of the names) at time `t`.
    pub fn commit(
        &mut self,
        t: TimeMs,
        reports: &[f64],
        counts: &mut ScrapeCounts,
    ) -> Result<(), StoreError> {
        for (column, value) in self.reports.iter().zip(reports) {
            self.batches.set_report(*column, *value);
        }
        self.extras.commit_zeros(t, &self.store)?;
        let (ended, appended) = self.extras.commit_histograms(t, &self.store)?;
        counts.refused(&appended);
        counts.refused(&self.batches.commit(t, &self.store)?);
        self.failed = false;
        let rows = std::mem::take(&mut self.rows);
        for rows in rows.chunks(limits::APPENDED_ROWS) {
            counts.refused(&self.store.append_rows(rows)?);
        }
        if !ended.is_empty() {
            // Of a series that has a float now, the marker is refused.
            self.store.append_rows(&ended)?;
        }
        self.extras.commit_starts(t, &self.store)?;
        counts.late_exemplars += self.extras.commit_exemplars(t, &self.store);
        let batches = &mut self.batches;
        let series = &mut self.series;
        batches.compact(|part, moved| series.move_columns(part, moved));
        Ok(())
    }

    /// Appends stale markers for all series, and `reports` as in [`ScrapeAppender::commit`] (or
    /// nothing). If the store takes no more, at least the reports, for which there is a reserve.
    pub fn commit_failure(&mut self, t: TimeMs, reports: &[f64]) -> Result<(), StoreError> {
        self.discard();
        for (column, value) in self.reports.iter().zip(reports) {
            self.batches.set_report(*column, *value);
        }
        self.failed = true;
        let stored = self.commit_markers(t).and_then(|()| self.batches.commit(t, &self.store).map(drop));
        stored.or_else(|error| {
            let reports = self.reports.iter().copied().zip(reports.iter().copied());
            self.batches.commit_at_once(t, reports, &self.store).and(Err(error))
        })
    }

    /// Stale markers for series that have no columns.
    fn commit_markers(&mut self, t: TimeMs) -> Result<(), StoreError> {
        let stale = |series: &SeriesRef| FloatRow { series: *series, t, v: STALE };
        let mut rows: Vec<FloatRow> = self.tracked.drain(..).as_slice().iter().map(stale).collect();
        rows.extend(self.extras.end(t));
        if rows.is_empty() { Ok(()) } else { self.store.append_rows(&rows).map(drop) }
    }

    /// Forgets what was read of a body.
    pub fn discard(&mut self) {
        self.series.rollback();
        self.batches.discard();
        self.rows = Vec::new();
        self.extras.discard();
        self.waiting = Waiting::default();
        self.finder = None;
    }

    /// The series of a known name; `None` if the rules drop it, or if it has no place yet.
    fn series_of(&self, id: CachedSeriesId) -> Option<SeriesRef> {
        match self.series.place(id) {
            SeriesTarget::Dropped | SeriesTarget::New(_) => None,
            SeriesTarget::Series { part, slot, .. } => {
                Some(SeriesRef { shard: self.batches.shard(part), slot })
            }
        }
    }

    /// The column of a series, made on first use.
    fn column(&mut self, series: SeriesRef) -> (BatchColumn, bool) {
        let finder = self.finder.get_or_insert_with(|| self.batches.finder());
        let before = finder.len();
        let column = self.batches.column(series, finder, &self.store);
        (column, finder.len() > before)
    }
}

/// A body being read.
pub(super) struct Reading<'a, 'r> {
    pub(super) ingest: &'a mut ScrapeAppender,
    pub(super) now: TimeMs,
    pub(super) rules: &'a ScrapeRules<'r>,
    pub(super) counts: &'a mut ScrapeCounts,
    pub(super) turn: &'a Turn,
}

impl Reading<'_, '_> {
    fn read_lines(&mut self, piece: &[u8], last: bool, format: TextFormat) -> Result<Progress, IngestError> {
        let mut parser =
            ExpositionParser::piece(piece, last, format, std::mem::take(&mut self.ingest.waiting.resume));
        let wants_exemplars = self.ingest.store.keeps_exemplars();
        let reads_starts = format == TextFormat::OpenMetrics && self.rules.native.starts.are_read();
        let escapes = if format == TextFormat::Text { Escapes::Text } else { Escapes::Quoted };
        let mut lines = 0u32;
        let through = loop {
            lines += 1;
            if lines.is_multiple_of(limits::SCRAPE_LOOK_LINES) && self.turn.look()? == Look::Yield {
                break false;
            }
            let Some(entry) = parser.next(self.ingest.series.expected_series())? else { break true };
            let sample = match entry {
                ExpositionEntry::Sample(sample) => sample,
                ExpositionEntry::Meta(meta) => {
                    self.ingest.metadata.note(&meta, escapes);
                    if reads_starts {
                        self.ingest.waiting.created.family(meta.name);
                    }
                    if self.rules.native.convert {
                        self.close_histogram(parser.context().unit)?;
                        if let MetadataValue::Type(_) = meta.what {
                            self.ingest.waiting.converter.family(meta.name);
                        }
                    }
                    continue;
                }
            };
            if reads_starts && self.take_created_line(&parser, &sample)? {
                continue;
            }
            let seen = parser.exemplar().filter(|_| wants_exemplars);
            if self.rules.native.convert {
                self.convert_line(&parser, &sample, seen, reads_starts)?;
                continue;
            }
            let id = self.take_sample(&sample, parser.context(), false).map_err(|e| in_line(&parser, e))?;
            let honoured = sample.t.filter(|_| self.rules.honor_timestamps);
            if reads_starts {
                let line = id.map(|id| (id, honoured));
                self.wait_for_start(&parser, &sample, WaitsForStart { line, histogram: None })?;
            }
            if let (Some(id), Some(raw)) = (id, seen)
                && let Ok(exemplar) = exemplar::parse(raw, format)
            {
                let of = SampleExemplar { value: Some(sample.value), exemplar };
                self.ingest.waiting.add_exemplar(id, honoured, of);
            }
        };
        let (read, resume) = parser.pause();
        self.ingest.waiting.resume = resume;
        Ok(Progress { read, through })
    }

    /// Takes a sample; whose it is, unless there are too many or it is a second one. A native
    /// `native_histogram` has no value: that is to come.
    #[inline]
    pub(super) fn take_sample(
        &mut self,
        sample: &ExposedSample<'_>,
        context: Context<'_>,
        histogram: bool,
    ) -> Result<Option<CachedSeriesId>, SeriesRejected> {
        self.counts.scraped += 1;
        if self.counts.kept > self.rules.admission.limits.samples {
            self.counts.kept += usize::from(self.passes_rules(sample, context)?);
            return Ok(None);
        }
        let id = match self.ingest.series.find(sample) {
            Some(id) => id,
            None => self.admit(sample, context)?,
        };
        if histogram {
            self.counts.kept += usize::from(self.ingest.series.place(id) != SeriesTarget::Dropped);
            return Ok(Some(id));
        }
        let before = self.counts.duplicates;
        self.put(id, sample);
        Ok((before == self.counts.duplicates).then_some(id))
    }

    /// Whether a sample beyond the limit would be kept: how many they are in all is reported, as in
    /// Prometheus.
    fn passes_rules(
        &mut self,
        sample: &ExposedSample<'_>,
        context: Context<'_>,
    ) -> Result<bool, SeriesRejected> {
        if let Some(id) = self.ingest.series.lookup(sample.series) {
            return Ok(self.ingest.series.place(id) != SeriesTarget::Dropped);
        }
        self.turn.check()?;
        Ok(self.rules.admission.admit(sample.series, context, self.turn).is_ok_and(|labels| labels.is_some()))
    }

    /// The rules are asked about a series that is not known yet.
    #[cold]
    fn admit(
        &mut self,
        sample: &ExposedSample<'_>,
        context: Context<'_>,
    ) -> Result<CachedSeriesId, SeriesRejected> {
        self.turn.check()?;
        let labels = self.rules.admission.admit(sample.series, context, self.turn);
        if let Err(SeriesRejected::Malformed(_)) = labels {
            // It was no sample.
            self.counts.scraped -= 1;
        }
        let labels = labels?;
        let ScrapeAppender { series, waiting, .. } = &mut *self.ingest;
        let Some(labels) = labels else { return Ok(series.admit(sample.series, SeriesTarget::Dropped)) };
        // One from too far ahead is not stored, and so no series of this scrape.
        let may_be = |t: TimeMs| t <= self.now + limits::FUTURE_MS;
        let timed = self.rules.honor_timestamps && sample.t.is_some_and(may_be);
        let index = waiting.add_series(labels, timed);
        let id = series.admit(sample.series, SeriesTarget::New(index));
        waiting.series[index as usize].id = id;
        Ok(id)
    }

    #[inline]
    fn put(&mut self, id: CachedSeriesId, sample: &ExposedSample<'_>) {
        match self.ingest.series.place(id) {
            // Nearly all samples of nearly all targets.
            SeriesTarget::Series { part, column, .. } if sample.t.is_none() && column != NO_COLUMN => {
                self.counts.kept += 1;
                let free = self.ingest.batches.put(BatchColumn { part, column }, sample.value);
                self.counts.duplicates += usize::from(!free);
            }
            SeriesTarget::Dropped => {}
            place => {
                self.counts.kept += 1;
                self.put_elsewhere(id, place, sample);
            }
        }
    }

    /// A sample of a new series, or with a timestamp, or the first one without.
    #[inline(never)]
    fn put_elsewhere(&mut self, id: CachedSeriesId, place: SeriesTarget, sample: &ExposedSample<'_>) {
        let ingest = &mut *self.ingest;
        match (sample.t.filter(|_| self.rules.honor_timestamps), place) {
            (None, SeriesTarget::Series { part, column, .. }) if column != NO_COLUMN => {
                let free = ingest.batches.put(BatchColumn { part, column }, sample.value);
                self.counts.duplicates += usize::from(!free);
            }
            (None, SeriesTarget::New(index)) => {
                let free = ingest.waiting.add_value(index, sample.value);
                self.counts.duplicates += usize::from(!free);
            }
            (None, _) => self.add_column(id, sample),
            (Some(t), _) if t > self.now + limits::FUTURE_MS => self.counts.out_of_bounds += 1,
            (Some(t), SeriesTarget::Series { part, slot, .. }) => {
                let shard = ingest.batches.shard(part);
                ingest.rows.push(FloatRow { series: SeriesRef { shard, slot }, t, v: sample.value });
            }
            (Some(t), _) => ingest.waiting.rows.push(Of { id, t: Some(t), what: sample.value }),
        }
    }

    /// The first sample without a timestamp of a series that has no column.
    #[cold]
    fn add_column(&mut self, id: CachedSeriesId, sample: &ExposedSample<'_>) {
        let ingest = &mut *self.ingest;
        let SeriesTarget::Series { part, slot, .. } = ingest.series.place(id) else { return };
        let (at, _) = ingest.column(SeriesRef { shard: ingest.batches.shard(part), slot });
        ingest.series.set_target(id, SeriesTarget::Series { part: at.part, slot, column: at.column });
        self.counts.duplicates += usize::from(!ingest.batches.put(at, sample.value));
    }

    /// The whole body was good; the number of columns that were made for new series.
    fn finish(&mut self) -> Result<usize, IngestError> {
        if self.rules.native.convert {
            let resume = std::mem::take(&mut self.ingest.waiting.resume);
            self.close_histogram(resume.unit())?;
        }
        if self.ingest.waiting.has_too_many_buckets {
            return Err(HistogramRejected::TooManyBuckets.into());
        }
        if self.counts.kept > self.rules.admission.limits.samples {
            return Err(SeriesRejected::SampleLimit.into());
        }
        let waiting = std::mem::take(&mut self.ingest.waiting);
        let columns = self.resolve_series(&waiting)?;
        let ingest = &mut *self.ingest;
        ingest.extras.rules = self.rules.native.starts;
        for of in waiting.rows {
            let row = ingest.series_of(of.id).zip(of.t).map(|(series, t)| FloatRow { series, t, v: of.what });
            ingest.rows.extend(row);
        }
        for of in waiting.histograms {
            let series = ingest.series_of(of.id);
            ingest.extras.histograms.extend(series.map(|series| (series, of.t, of.what)));
        }
        for of in waiting.starts {
            let series = ingest.series_of(of.id);
            ingest.extras.starts.extend(series.map(|series| (series, of.t, of.what)));
        }
        for of in waiting.exemplars {
            let series = ingest.series_of(of.id);
            ingest.extras.exemplars.extend(series.map(|series| (series, of.t, of.what)));
        }
        ingest.series.commit_order();
        self.track_timed_series();
        Ok(columns)
    }

    /// Gives the new series their places. How many columns were made.
    fn resolve_series(&mut self, waiting: &Waiting) -> Result<usize, IngestError> {
        let ingest = &mut *self.ingest;
        let mut columns = 0;
        for (n, new) in waiting.series.iter().enumerate() {
            if n.is_multiple_of(limits::SETTLED_SERIES) {
                self.turn.check()?;
                ingest.store.log_new_series()?;
            }
            let series = ingest.store.get_or_create_series(&new.labels);
            self.counts.added += usize::from(new.timed);
            let place = if is_absent(new.value) {
                let part = ingest.batches.part(series.shard, &ingest.store);
                SeriesTarget::Series { part, slot: series.slot, column: NO_COLUMN }
            } else {
                let (at, made) = ingest.column(series);
                columns += usize::from(made && !new.timed);
                self.counts.duplicates += usize::from(!ingest.batches.put(at, new.value));
                SeriesTarget::Series { part: at.part, slot: series.slot, column: at.column }
            };
            ingest.series.set_target(new.id, place);
        }
        self.counts.added += columns;
        Ok(columns)
    }

    /// Stale markers for series with timestamps of their own that are gone, where the job asks for them.
    fn track_timed_series(&mut self) {
        if !self.rules.track_timestamps {
            return;
        }
        let ingest = &mut *self.ingest;
        let floats = ingest.rows.iter().map(|row| row.series);
        let mut present: Vec<SeriesRef> = floats.chain(ingest.extras.timed()).collect();
        present.sort_unstable();
        present.dedup();
        let gone = ingest.tracked.iter().filter(|series| present.binary_search(series).is_err());
        ingest.rows.extend(gone.map(|series| FloatRow { series: *series, t: self.now, v: STALE }));
        ingest.tracked = present;
    }
}

/// A refusal of the series in the line that a parser has just read.
#[cold]
pub(super) fn in_line(parser: &ExpositionParser<'_>, refusal: SeriesRejected) -> IngestError {
    match refusal {
        SeriesRejected::BadSeries(reason) | SeriesRejected::Malformed(reason) => {
            IngestError::Parse(parser.error(reason))
        }
        SeriesRejected::Interrupted(interrupted) => IngestError::Interrupted(interrupted),
        limit => IngestError::Refused(limit),
    }
}
