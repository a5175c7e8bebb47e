//! [`ScrapeAppender`]: stores the scrapes of one target. It reads bodies piece by piece and appends
//! each scrape, with its report series (`up` and others), as column batches.
//!
//! Nothing is appended before the whole body was read without error: values wait in the columns,
//! and new series wait unresolved ([`super::scrape_content`]). A failed scrape appends stale
//! markers for all series, and `up` = 0.

use super::scrape_content::{ScrapeContent, SeriesValue, WaitsForStart};
use crate::exposition::protobuf::FamilyError;
use crate::exposition::series::Escapes;
use crate::exposition::{
    BodyFormat, Context, ExposedSample, ExpositionEntry, ExpositionError, ExpositionParser, LineError,
    MetadataValue, TextFormat, exemplar,
};
use crate::limits;
use crate::native_histogram::{HistogramLimits, HistogramRejected};
use crate::scrape::metadata::{MetadataChangeDetector, MetadataMap};
use crate::scrape::non_float::{NonFloatSamples, SampleExemplar};
use crate::scrape::scrape_batch::{BatchColumn, ColumnFinder, ScrapeBatch};
use crate::scrape::series_admission::{SeriesAdmission, SeriesRejected};
use crate::scrape::series_cache::{CachedSeriesId, NO_COLUMN, SeriesCache, SeriesTarget};
use crate::scrape::turn::{Interruption, Turn, TurnState};
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::value::{STALE, is_absent};
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{AppendResult, FloatRow, Store, StoreError};

/// Why a received scrape counts as failed.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The body is not a valid text exposition.
    #[error(transparent)]
    Parse(#[from] ExpositionError),
    /// The body is not a valid protobuf exposition.
    #[error(transparent)]
    Families(#[from] FamilyError),
    /// A native histogram cannot be stored.
    #[error(transparent)]
    Histogram(#[from] HistogramRejected),
    /// A series was refused by a limit or a label rule.
    #[error(transparent)]
    Refused(SeriesRejected),
    /// Samples with timestamps, start timestamps and similar need too much memory before the end of
    /// the body.
    #[error(
        "samples with timestamps take more than {} bytes before the scrape is complete",
        limits::SCRAPE_LOOSE_BYTES
    )]
    TooMuch,
    /// The body was not read to its end.
    #[error(transparent)]
    Interrupted(#[from] Interruption),
    /// The store refused the scrape.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far a piece was read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub read: usize,
    /// Whether everything complete in the piece was read; otherwise the turn was over.
    pub through: bool,
}

/// The counts of a scrape.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeCounts {
    /// Number of samples exposed.
    pub scraped: usize,
    /// Number of samples after relabelling.
    pub kept: usize,
    /// Number of series that were not in the scrape before.
    pub added: usize,
    /// Number of samples whose series was in the body already.
    pub duplicates: usize,
    /// Number of timestamps too far in the future, or older than the store accepts for any series.
    pub out_of_bounds: usize,
    /// Number of timestamps older than the store's window of late samples.
    pub too_old: usize,
    /// Number of samples all of whose exemplars are out of order.
    pub late_exemplars: usize,
}

impl ScrapeCounts {
    /// Adds what an append refused.
    fn refused(&mut self, appended: &AppendResult) {
        self.too_old += appended.too_old;
        self.out_of_bounds += appended.out_of_bounds;
        self.duplicates += appended.duplicate;
    }
}

/// What to do with histograms, and with start timestamps.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct HistogramPolicy {
    /// Whether to store native histograms; otherwise their classic buckets.
    pub scrape: bool,
    /// Whether to store classic buckets in addition to native histograms.
    pub classic_too: bool,
    /// Whether to convert classic histograms to native ones with custom buckets.
    pub convert: bool,
    /// The limits of native histograms.
    pub limits: HistogramLimits,
    /// What to do with start timestamps.
    pub starts: StartRules,
}

/// What to do with start timestamps. If neither is set, the `_created` lines of OpenMetrics are
/// ordinary series.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct StartRules {
    /// Store them with the samples.
    pub keep: bool,
    /// Store a 0 at the start timestamp of a new counter.
    pub zeros: bool,
}

impl StartRules {
    /// Whether start timestamps must be read.
    pub fn are_read(self) -> bool {
        self.keep || self.zeros
    }
}

/// How to read bodies.
#[derive(Copy, Clone)]
pub struct ScrapeRules<'a> {
    /// Which series are admitted, and with which labels.
    pub admission: SeriesAdmission<'a>,
    /// Whether exposed timestamps are used.
    pub honor_timestamps: bool,
    /// Whether series with exposed timestamps get stale markers.
    pub track_timestamps: bool,
    /// What to do with histograms.
    pub native: HistogramPolicy,
}

/// Stores the scrapes of one target.
pub struct ScrapeAppender {
    pub(super) store: Arc<Store>,
    pub(super) series: SeriesCache,
    pub(super) batches: ScrapeBatch,
    pub(super) extras: NonFloatSamples,
    pub(super) metadata: MetadataChangeDetector,
    rows: Vec<FloatRow>,
    pub(super) waiting: ScrapeContent,
    /// The columns of all series; built only if this scrape needs it.
    finder: Option<ColumnFinder>,
    /// Series that came with timestamps in the scrape before; kept only if they are tracked.
    tracked: Vec<SeriesRef>,
    reports: Vec<BatchColumn>,
    /// Whether the scrape before failed: series that come back then do not count as new.
    failed: bool,
}

impl ScrapeAppender {
    /// An appender whose column groups have `key`, for a target with these labels, with these
    /// report series.
    pub fn new(store: Arc<Store>, key: String, target: &Labels, reports: &[&str]) -> ScrapeAppender {
        let batches = ScrapeBatch::new(key);
        let mut ingest = ScrapeAppender {
            store,
            series: SeriesCache::default(),
            batches,
            extras: NonFloatSamples::default(),
            metadata: MetadataChangeDetector::default(),
            rows: Vec::new(),
            waiting: ScrapeContent::default(),
            finder: None,
            tracked: Vec::new(),
            reports: Vec::new(),
            failed: false,
        };
        ingest.set_reports(target, reports);
        ingest
    }

    /// Forgets how series were admitted, because the rules have changed, but not which series are
    /// alive.
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

    /// Reads a whole body into the columns; nothing is appended yet. On an error everything is
    /// discarded.
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

    /// Reads a piece of a body into the columns: complete lines of a text, or any bytes of another
    /// format; `last` if it is the end of the body. Bytes that were not read must be passed again,
    /// followed by more. On an error everything is discarded.
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
        let mut reading = BodyReader { ingest: self, now, rules, counts, turn };
        let result = match format {
            BodyFormat::Text(format) => reading.read_lines(piece, last, format),
            BodyFormat::Protobuf => reading.read_families(piece, last),
        };
        // After each piece and not at the end: samples with timestamps and start timestamps are
        // what a body can repeat without limit for one series.
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

    /// Memory of what was read and is not stored yet, bytes.
    pub fn waiting_bytes(&self) -> usize {
        let rows = size_of_val(&self.rows[..]);
        self.series.new_bytes() + self.waiting.new_bytes() + self.waiting.loose_bytes() + rows
    }

    /// To be called at the end of the body: resolves new series. On an error everything is
    /// discarded.
    pub fn finish(
        &mut self,
        now: TimeMs,
        rules: &ScrapeRules<'_>,
        counts: &mut ScrapeCounts,
        turn: &Turn,
    ) -> Result<(), IngestError> {
        let result = BodyReader { ingest: self, now, rules, counts, turn }.finish();
        // A map of all columns, which only scrapes with new series need. Kept, it would cost every
        // target as much again as its columns.
        self.finder = None;
        match result {
            // After a failed scrape all series come back, but only new ones count as added.
            Ok(columns) if !self.failed => {
                counts.added += self.batches.newly_alive().saturating_sub(columns) + self.extras.risen();
            }
            Ok(_) => {}
            Err(_) => self.discard(),
        }
        result.map(drop)
    }

    /// To be called at the end of a scrape. Returns the metadata of the target, if they have
    /// changed. `is_good`: the scrape did not fail and was not empty.
    pub fn metadata(&mut self, is_good: bool) -> Option<Arc<MetadataMap>> {
        self.metadata.finish(is_good)
    }

    /// Appends what was read, with the values `reports` of the report series, at time `t`.
    pub fn commit(
        &mut self,
        t: TimeMs,
        reports: &[f64],
        counts: &mut ScrapeCounts,
    ) -> Result<(), StoreError> {
        for (column, value) in self.reports.iter().zip(reports) {
            self.batches.set_report(*column, *value);
        }
        // The order matters. A zero is older than the sample it belongs to, so it goes first.
        // Histograms go before floats: where a series changes from one to the other, the stale
        // marker of the float column then finds the histogram at its time and is refused.
        self.extras.commit_zeros(t, &self.store)?;
        let (ended, appended) = self.extras.commit_histograms(t, &self.store)?;
        counts.refused(&appended);
        counts.refused(&self.batches.commit(t, &self.store)?);
        self.failed = false;
        let rows = std::mem::take(&mut self.rows);
        // In parts, because a record of the log has a size that replay must be able to hold.
        for rows in rows.chunks(limits::APPENDED_ROWS) {
            counts.refused(&self.store.append_rows(rows)?);
        }
        if !ended.is_empty() {
            // If the series has a float at this time, the store refuses the marker.
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
    /// none). If the store accepts no more, at least the reports are stored, for which the log has
    /// a reserve.
    pub fn commit_failure(&mut self, t: TimeMs, reports: &[f64]) -> Result<(), StoreError> {
        // Whatever a failed scrape has read may be half of what the target exposes; Prometheus does
        // not store it, either.
        self.discard();
        for (column, value) in self.reports.iter().zip(reports) {
            self.batches.set_report(*column, *value);
        }
        self.failed = true;
        let stored = self.commit_markers(t).and_then(|()| self.batches.commit(t, &self.store).map(drop));
        // The reports are the one thing that must get through: without `up` = 0 an alert on a dead
        // target stays silent, because the disk is full.
        stored.or_else(|error| {
            let reports = self.reports.iter().copied().zip(reports.iter().copied());
            self.batches.commit_at_once(t, reports, &self.store).and(Err(error))
        })
    }

    /// Appends stale markers for series that have no columns.
    fn commit_markers(&mut self, t: TimeMs) -> Result<(), StoreError> {
        let stale = |series: &SeriesRef| FloatRow { series: *series, t, v: STALE };
        let mut rows: Vec<FloatRow> = self.tracked.drain(..).as_slice().iter().map(stale).collect();
        rows.extend(self.extras.end(t));
        if rows.is_empty() { Ok(()) } else { self.store.append_rows(&rows).map(drop) }
    }

    /// Discards what was read of a body.
    pub fn discard(&mut self) {
        self.series.rollback();
        self.batches.discard();
        self.rows = Vec::new();
        self.extras.discard();
        self.waiting = ScrapeContent::default();
        self.finder = None;
    }

    /// The series of a known name; `None` if the rules drop it, or if it is not resolved yet.
    fn series_of(&self, id: CachedSeriesId) -> Option<SeriesRef> {
        match self.series.place(id) {
            SeriesTarget::Dropped | SeriesTarget::New(_) => None,
            SeriesTarget::Series { part, slot, .. } => {
                Some(SeriesRef { shard: self.batches.shard(part), slot })
            }
        }
    }

    /// The column of a series, created on first use, and whether it was created.
    fn column(&mut self, series: SeriesRef) -> (BatchColumn, bool) {
        let finder = self.finder.get_or_insert_with(|| self.batches.finder());
        let before = finder.len();
        let column = self.batches.column(series, finder, &self.store);
        (column, finder.len() > before)
    }
}

/// The state of reading a body.
pub(super) struct BodyReader<'a, 'r> {
    pub(super) ingest: &'a mut ScrapeAppender,
    pub(super) now: TimeMs,
    pub(super) rules: &'a ScrapeRules<'r>,
    pub(super) counts: &'a mut ScrapeCounts,
    pub(super) turn: &'a Turn,
}

impl BodyReader<'_, '_> {
    fn read_lines(&mut self, piece: &[u8], last: bool, format: TextFormat) -> Result<Progress, IngestError> {
        let mut parser =
            ExpositionParser::piece(piece, last, format, std::mem::take(&mut self.ingest.waiting.resume));
        let wants_exemplars = self.ingest.store.exemplars().enabled();
        let reads_starts = format == TextFormat::OpenMetrics && self.rules.native.starts.are_read();
        let escapes = if format == TextFormat::Text { Escapes::Text } else { Escapes::Quoted };
        let mut lines = 0u32;
        let through = loop {
            lines += 1;
            // The clock is asked once in a while: asking for each line would cost as much as
            // parsing it.
            if lines.is_multiple_of(limits::SCRAPE_LOOK_LINES) && self.turn.look()? == TurnState::Yield {
                break false;
            }
            // The cache says which series comes next if nothing has changed, and the parser tries
            // that first.
            let Some(entry) = parser.next(self.ingest.series.expected_series())? else { break true };
            let sample = match entry {
                ExpositionEntry::Sample(sample) => sample,
                ExpositionEntry::Meta(meta) => {
                    self.ingest.metadata.note(&meta, escapes);
                    if reads_starts {
                        self.ingest.waiting.created.family(meta.name);
                    }
                    if self.rules.native.convert {
                        // A metadata line ends the histogram before it, which was collected line by
                        // line.
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
            // An exemplar is added after its sample was admitted: one of a dropped series is
            // dropped with it.
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

    /// Processes a sample. Returns its series, unless there are too many samples or the series was
    /// in the body already. A native histogram has no value here; it is added later.
    #[inline]
    pub(super) fn take_sample(
        &mut self,
        sample: &ExposedSample<'_>,
        context: Context<'_>,
        histogram: bool,
    ) -> Result<Option<CachedSeriesId>, SeriesRejected> {
        self.counts.scraped += 1;
        // Beyond `sample_limit` samples are only counted. Prometheus reports the full number, which
        // is what the user needs to set the limit.
        if self.counts.kept > self.rules.admission.limits.samples {
            self.counts.kept += usize::from(self.passes_rules(sample, context)?);
            return Ok(None);
        }
        let id = match self.ingest.series.find(sample) {
            Some(id) => id,
            None => self.admit(sample, context)?,
        };
        // A histogram has no column; only whether its series is kept matters here.
        if histogram {
            self.counts.kept += usize::from(self.ingest.series.place(id) != SeriesTarget::Dropped);
            return Ok(Some(id));
        }
        // The second sample of a series in one body is a duplicate: the first counts, as in
        // Prometheus, and an exemplar of the second has no sample.
        let before = self.counts.duplicates;
        self.put(id, sample);
        Ok((before == self.counts.duplicates).then_some(id))
    }

    /// Whether a sample beyond the limit would be kept. Needed because, as in Prometheus, the total
    /// number of samples is reported.
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

    /// Applies the rules to a series that is not known yet.
    #[cold]
    fn admit(
        &mut self,
        sample: &ExposedSample<'_>,
        context: Context<'_>,
    ) -> Result<CachedSeriesId, SeriesRejected> {
        self.turn.check()?;
        let labels = self.rules.admission.admit(sample.series, context, self.turn);
        if let Err(SeriesRejected::Malformed(_)) = labels {
            // The line was not a sample.
            self.counts.scraped -= 1;
        }
        let labels = labels?;
        let ScrapeAppender { series, waiting, .. } = &mut *self.ingest;
        let Some(labels) = labels else { return Ok(series.admit(sample.series, SeriesTarget::Dropped)) };
        // A sample too far in the future is not stored, so its series is not part of this scrape.
        let may_be = |t: TimeMs| t <= self.now + limits::FUTURE_MS;
        // Known before the series is: series with timestamps are counted as added, but get no
        // column and no stale markers.
        let timed = self.rules.honor_timestamps && sample.t.is_some_and(may_be);
        let index = waiting.add_series(labels, timed);
        let id = series.admit(sample.series, SeriesTarget::New(index));
        waiting.series[index as usize].id = id;
        Ok(id)
    }

    #[inline]
    fn put(&mut self, id: CachedSeriesId, sample: &ExposedSample<'_>) {
        match self.ingest.series.place(id) {
            // The fast path: nearly all samples of nearly all targets.
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

    /// Stores a sample of a new series, with a timestamp, or the first one without.
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
            // One sample far in the future would push the window of late samples there, and every
            // sample until then would be too old.
            (Some(t), _) if t > self.now + limits::FUTURE_MS => self.counts.out_of_bounds += 1,
            (Some(t), SeriesTarget::Series { part, slot, .. }) => {
                let shard = ingest.batches.shard(part);
                ingest.rows.push(FloatRow { series: SeriesRef { shard, slot }, t, v: sample.value });
            }
            (Some(t), _) => ingest.waiting.rows.push(SeriesValue { id, t: Some(t), what: sample.value }),
        }
    }

    /// Creates a column for a series, for its first sample without a timestamp.
    #[cold]
    fn add_column(&mut self, id: CachedSeriesId, sample: &ExposedSample<'_>) {
        let ingest = &mut *self.ingest;
        let SeriesTarget::Series { part, slot, .. } = ingest.series.place(id) else { return };
        let (at, _) = ingest.column(SeriesRef { shard: ingest.batches.shard(part), slot });
        ingest.series.set_target(id, SeriesTarget::Series { part: at.part, slot, column: at.column });
        self.counts.duplicates += usize::from(!ingest.batches.put(at, sample.value));
    }

    /// To be called at the end of the body. Returns the number of columns created for new series.
    fn finish(&mut self) -> Result<usize, IngestError> {
        if self.rules.native.convert {
            let resume = std::mem::take(&mut self.ingest.waiting.resume);
            self.close_histogram(resume.unit())?;
        }
        // Only now: as in Prometheus the whole body is counted before the scrape fails for its
        // limits.
        if self.ingest.waiting.has_too_many_buckets {
            return Err(HistogramRejected::TooManyBuckets.into());
        }
        if self.counts.kept > self.rules.admission.limits.samples {
            return Err(SeriesRejected::SampleLimit.into());
        }
        // From here on nothing of the body can make the scrape fail, only the store. So series are
        // created now: a body with an error in its last line must not leave ten thousand new series
        // behind.
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

    /// Resolves the new series. Returns the number of columns created.
    fn resolve_series(&mut self, waiting: &ScrapeContent) -> Result<usize, IngestError> {
        let ingest = &mut *self.ingest;
        let mut columns = 0;
        for (n, new) in waiting.series.iter().enumerate() {
            if n.is_multiple_of(limits::SETTLED_SERIES) {
                self.turn.check()?;
                // New series are logged in batches with the memory that they hold; ten thousand at
                // once would hold the lock of a shard for as long.
                ingest.store.log_new_series()?;
            }
            let series = ingest.store.get_or_create_series(&new.labels);
            self.counts.added += usize::from(new.timed);
            // All samples of the series had timestamps: no column, because there would be nothing
            // at the times of scrapes.
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

    /// Adds stale markers for series with timestamps that have disappeared, if the job tracks them.
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
        // Kept for the next scrape, in the order in which it looks them up.
        ingest.tracked = present;
    }
}

/// An error for a refused series in the line that the parser has just read.
#[cold]
pub(super) fn in_line(parser: &ExpositionParser<'_>, refusal: SeriesRejected) -> IngestError {
    match refusal {
        SeriesRejected::Malformed(reason) => IngestError::Parse(parser.error(reason)),
        SeriesRejected::BadSeries(why) => {
            IngestError::Parse(parser.error(LineError::Series(why.to_string())))
        }
        // Not an error of the line: the turn is over or the scrape was stopped.
        SeriesRejected::Interrupted(interrupted) => IngestError::Interrupted(interrupted),
        limit => IngestError::Refused(limit),
    }
}
