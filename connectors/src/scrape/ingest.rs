//! One target's way into the store: reads bodies and appends each as columnar batches, reports included.
//!
//! Nothing is appended unless the whole body was good: values wait in the columns, new series wait unresolved.
//! A failed scrape appends stale markers for all series, and `up` = 0.

use crate::histogram::{BadHistogram, HistogramLimits};
use crate::limits;
use crate::scrape::admit::{Admission, Refusal};
use crate::scrape::batch::{Batches, Column, Finder};
use crate::scrape::cache::{Id, NO_COLUMN, Place, SeriesCache};
use crate::scrape::exposition::families::{self, FamilyError};
use crate::scrape::exposition::{
    BodyFormat, Entry, Format, Kind, ParseError, Parser, Sample, exemplar, nhcb,
};
use crate::scrape::extras::Extras;
use crate::scrape::metadata::{MetadataMap, MetadataWatch};
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::value::STALE;
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{Appended, Row, Store, StoreError};

/// Why a scrape that was received counts as failed.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The body is not an exposition.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The body is not a protobuf exposition.
    #[error(transparent)]
    Families(#[from] FamilyError),
    /// A native histogram cannot be stored.
    #[error(transparent)]
    Histogram(#[from] BadHistogram),
    /// A limit or a label rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a body held.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
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
}

impl Counts {
    /// Counts what an append refused.
    fn refused(&mut self, appended: &Appended) {
        self.too_old += appended.too_old;
        self.out_of_bounds += appended.out_of_bounds;
        self.duplicates += appended.duplicate;
    }
}

/// What is done with histograms, and what comes with samples.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct NativeRules {
    /// Whether native histograms are taken; else their classic buckets.
    pub scrape: bool,
    /// Whether classic buckets are taken beside native histograms.
    pub classic_too: bool,
    /// Whether classic histograms become native ones with custom buckets.
    pub convert: bool,
    /// What is too large.
    pub limits: HistogramLimits,
    /// Whether start timestamps are kept.
    pub starts: bool,
}

/// How bodies are to be read.
#[derive(Copy, Clone)]
pub struct Rules<'a> {
    /// Which series are admitted, and as what.
    pub admission: Admission<'a>,
    /// Whether exposed timestamps are used.
    pub honor_timestamps: bool,
    /// Whether series with exposed timestamps get stale markers.
    pub track_timestamps: bool,
    /// Native histograms.
    pub native: NativeRules,
}

/// See the module.
pub struct Ingest {
    store: Arc<Store>,
    pub(super) series: SeriesCache,
    pub(super) batches: Batches,
    pub(super) extras: Extras,
    metadata: MetadataWatch,
    rows: Vec<Row>,
    /// Series that came with timestamps last time; kept only if they are tracked.
    tracked: Vec<SeriesRef>,
    reports: Vec<Column>,
    /// Whether the last commit was that of a failure: series that come back are not new then.
    failed: bool,
}

/// A sample whose bytes were not known, until the body is known to be good.
pub(super) struct Fresh<'a> {
    pub(super) sample: Sample<'a>,
    pub(super) labels: Option<Labels>,
    /// Whether it is a native histogram: it needs no column.
    pub(super) histogram: bool,
}

impl Ingest {
    /// An ingest whose groups have `key`, for a target with these labels that writes these reports.
    pub fn new(store: Arc<Store>, key: String, target: &Labels, reports: &[&str]) -> Ingest {
        let batches = Batches::new(key);
        let mut ingest = Ingest {
            store,
            series: SeriesCache::default(),
            batches,
            extras: Extras::default(),
            metadata: MetadataWatch::default(),
            rows: Vec::new(),
            tracked: Vec::new(),
            reports: Vec::new(),
            failed: false,
        };
        ingest.set_reports(target, reports);
        ingest
    }

    /// Forgets how bytes were judged (the rules have changed), but not which series were alive.
    pub fn renew(&mut self, target: &Labels, reports: &[&str]) {
        self.series.clear();
        self.metadata = MetadataWatch::default();
        self.set_reports(target, reports);
    }

    fn set_reports(&mut self, target: &Labels, names: &[&str]) {
        let mut finder = self.batches.finder();
        let column = |name: &&str| {
            let mut labels = target.to_builder();
            labels.set(METRIC_NAME, *name);
            let series = self.store.resolve(&labels.build());
            self.batches.column(series, &mut finder, &self.store)
        };
        self.reports = names.iter().map(column).collect();
    }

    /// Reads a body into the columns; nothing is appended yet. On an error everything is taken back.
    pub fn read(
        &mut self,
        body: &[u8],
        format: BodyFormat,
        now: TimeMs,
        rules: &Rules<'_>,
        counts: &mut Counts,
    ) -> Result<(), IngestError> {
        let result = match format {
            BodyFormat::Text(format) if !rules.native.convert => {
                self.try_read(body, format, now, rules, counts)
            }
            _ => self.try_read_whole(body, format, now, rules, counts),
        };
        match result {
            // After a failure all series rise again, but only the new ones are new.
            Ok(columns) if !self.failed => {
                counts.added += self.batches.risen().saturating_sub(columns) + self.extras.risen();
            }
            Ok(_) => {}
            Err(_) => self.discard(),
        }
        result.map(drop)
    }

    /// What the last body said about its metrics, if that has changed.
    pub fn metadata(&mut self, body: &[u8], format: BodyFormat) -> Option<Arc<MetadataMap>> {
        self.metadata.finish(body, format)
    }

    /// Appends what was read, with `reports` (in the order of the names) at time `t`.
    pub fn commit(&mut self, t: TimeMs, reports: &[f64], counts: &mut Counts) -> Result<(), StoreError> {
        for (column, value) in self.reports.iter().zip(reports) {
            self.batches.force(*column, *value);
        }
        let (ended, appended) = self.extras.commit_histograms(t, &self.store)?;
        counts.refused(&appended);
        counts.refused(&self.batches.commit(t, &self.store)?);
        self.failed = false;
        let mut rows = std::mem::take(&mut self.rows);
        if !rows.is_empty() {
            counts.refused(&self.store.append_rows(&rows)?);
        }
        rows.clear();
        self.rows = rows;
        if !ended.is_empty() {
            // Of a series that has a float now, the marker is refused.
            self.store.append_rows(&ended)?;
        }
        self.extras.commit_rest(t, &self.store)?;
        let (batches, series) = (&mut self.batches, &mut self.series);
        batches.compact(|part, moved| series.move_columns(part, moved));
        Ok(())
    }

    /// Appends stale markers for all series, and `reports` as in [`Ingest::commit`] (or nothing).
    pub fn commit_failure(&mut self, t: TimeMs, reports: &[f64]) -> Result<(), StoreError> {
        self.discard();
        for (column, value) in self.reports.iter().zip(reports) {
            self.batches.force(*column, *value);
        }
        let stale = |series: &SeriesRef| Row { series: *series, t, v: STALE };
        let mut rows: Vec<Row> = self.tracked.drain(..).as_slice().iter().map(stale).collect();
        rows.extend(self.extras.end(t));
        if !rows.is_empty() {
            self.store.append_rows(&rows)?;
        }
        self.failed = true;
        self.batches.commit(t, &self.store).map(drop)
    }

    fn discard(&mut self) {
        self.series.reject();
        self.batches.discard();
        self.metadata.discard();
        self.rows.clear();
        self.extras.discard();
    }

    /// Reads a body as a whole, as [`Ingest::try_read`].
    fn try_read_whole(
        &mut self,
        body: &[u8],
        format: BodyFormat,
        now: TimeMs,
        rules: &Rules<'_>,
        counts: &mut Counts,
    ) -> Result<usize, IngestError> {
        let (points, metadata) = (rules.points(self.store.keeps_exemplars()), &mut self.metadata);
        let points = match format {
            BodyFormat::Protobuf => families::read(body, points, |family| metadata.note_family(family))?,
            BodyFormat::Text(format) => nhcb::read_text(body, format, points, |meta| metadata.note(meta))?,
        };
        self.take_points(&points, now, rules, counts)
    }

    /// Reads the whole body; the number of columns that were made for new series.
    fn try_read(
        &mut self,
        body: &[u8],
        format: Format,
        now: TimeMs,
        rules: &Rules<'_>,
        counts: &mut Counts,
    ) -> Result<usize, IngestError> {
        let limit = rules.admission.limits.samples;
        let mut parser = Parser::new(body, format);
        let mut fresh: Vec<Fresh<'_>> = Vec::new();
        let wants_exemplars = self.store.keeps_exemplars();
        let mut exemplars = Vec::new();
        while let Some(entry) = parser.next(self.series.guess())? {
            let sample = match entry {
                Entry::Sample(sample) => sample,
                Entry::Meta(meta) => {
                    self.metadata.note(&meta);
                    continue;
                }
            };
            counts.scraped += 1;
            if counts.kept > limit {
                counts.kept += usize::from(self.would_keep(&sample, parser.kind(), rules));
                continue;
            }
            let found = self.series.find(&sample);
            if let Some(raw) = parser.exemplar().filter(|_| wants_exemplars) {
                exemplars.push((found.ok_or(fresh.len()), raw, sample.t));
            }
            match found {
                Some(id) => self.put(id, &sample, now, rules, counts),
                None => {
                    let labels =
                        rules.admission.admit(sample.series, parser.kind()).map_err(|e| match e {
                            Refusal::BadSeries(reason) => IngestError::Parse(parser.error(reason)),
                            limit => IngestError::Refused(limit),
                        })?;
                    counts.kept += usize::from(labels.is_some());
                    fresh.push(Fresh { sample, labels, histogram: false });
                }
            }
        }
        if counts.kept > limit {
            return Err(Refusal::SampleLimit.into());
        }
        let (admitted, columns) = self.settle_all(&fresh, rules, counts);
        for (id, Fresh { sample, .. }) in admitted.iter().zip(&fresh) {
            let kept = counts.kept;
            self.put(*id, sample, now, rules, counts);
            // It was counted when it was read.
            counts.kept = kept;
        }
        for (whose, raw, t) in exemplars {
            let id = whose.unwrap_or_else(|fresh| admitted[fresh]);
            if let (Some(series), Ok(exemplar)) = (self.series_of(id), exemplar::parse(raw, format)) {
                self.extras.exemplars.push((series, t.filter(|_| rules.honor_timestamps), exemplar));
            }
        }
        self.series.accept(&admitted);
        self.track(now, rules);
        Ok(columns)
    }

    /// Whether a sample beyond the limit would be kept: how many they are in all is reported, as in Prometheus.
    pub(super) fn would_keep(&mut self, sample: &Sample<'_>, kind: Kind, rules: &Rules<'_>) -> bool {
        match self.series.lookup(sample.series) {
            Some(id) => matches!(self.series.place(id), Place::Series { .. }),
            None => rules.admission.admit(sample.series, kind).is_ok_and(|labels| labels.is_some()),
        }
    }

    #[inline]
    pub(super) fn put(
        &mut self,
        id: Id,
        sample: &Sample<'_>,
        now: TimeMs,
        rules: &Rules<'_>,
        counts: &mut Counts,
    ) {
        let Place::Series { part, slot, column } = self.series.place(id) else { return };
        counts.kept += 1;
        match sample.t.filter(|_| rules.honor_timestamps) {
            None if column != NO_COLUMN => {
                let free = self.batches.put(Column { part, column }, sample.value);
                counts.duplicates += usize::from(!free);
            }
            None => self.put_first(id, part, slot, sample, counts),
            Some(t) if t > now + limits::FUTURE_MS => counts.out_of_bounds += 1,
            Some(t) => {
                let shard = self.batches.shard(part);
                self.rows.push(Row { series: SeriesRef { shard, slot }, t, v: sample.value });
            }
        }
    }

    /// The first sample without a timestamp of a series that has no column.
    #[cold]
    fn put_first(&mut self, id: Id, part: u32, slot: u32, sample: &Sample<'_>, counts: &mut Counts) {
        let series = SeriesRef { shard: self.batches.shard(part), slot };
        let at = self.batches.column(series, &mut self.batches.finder(), &self.store);
        self.series.set_place(id, Place::Series { part, slot, column: at.column });
        counts.duplicates += usize::from(!self.batches.put(at, sample.value));
    }

    /// Gives the new series their place. Their ids, and how many columns were made.
    pub(super) fn settle_all(
        &mut self,
        fresh: &[Fresh<'_>],
        rules: &Rules<'_>,
        counts: &mut Counts,
    ) -> (Vec<Id>, usize) {
        if fresh.is_empty() {
            return (Vec::new(), 0);
        }
        let mut finder = self.batches.finder();
        let before = finder.len();
        let mut ids = Vec::with_capacity(fresh.len());
        for Fresh { sample, labels, histogram } in fresh {
            let id = match self.series.lookup(sample.series) {
                Some(id) => id,
                None => {
                    let with_time = rules.honor_timestamps && sample.t.is_some();
                    counts.added += usize::from(with_time && labels.is_some());
                    let columnless = with_time || *histogram;
                    let place = labels.as_ref().map(|labels| self.settle(labels, columnless, &mut finder));
                    self.series.admit(sample.series, place.unwrap_or(Place::Dropped))
                }
            };
            ids.push(id);
        }
        let columns = finder.len() - before;
        counts.added += columns;
        (ids, columns)
    }

    /// The place of a series.
    fn settle(&mut self, labels: &Labels, columnless: bool, finder: &mut Finder) -> Place {
        let series = self.store.resolve(labels);
        let part = self.batches.part(series.shard, &self.store);
        let column = match columnless {
            true => NO_COLUMN,
            false => self.batches.column(series, finder, &self.store).column,
        };
        Place::Series { part, slot: series.slot, column }
    }

    /// Stale markers for series with timestamps of their own that are gone, where the job asks for them.
    pub(super) fn track(&mut self, now: TimeMs, rules: &Rules<'_>) {
        if !rules.track_timestamps {
            return;
        }
        let floats = self.rows.iter().map(|row| row.series);
        let mut present: Vec<SeriesRef> = floats.chain(self.extras.timed()).collect();
        present.sort_unstable();
        present.dedup();
        let gone = self.tracked.iter().filter(|series| present.binary_search(series).is_err());
        self.rows.extend(gone.map(|series| Row { series: *series, t: now, v: STALE }));
        self.tracked = present;
    }
}
