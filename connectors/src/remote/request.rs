//! What both versions of remote write and OTLP share: samples, histograms, exemplars, and how they
//! are stored.
//!
//! The decoded request is never in memory as a whole: decoded items are collected in a [`Batch`],
//! which is stored when it is full, so that a small body that expands to much data needs little
//! memory. A damaged request must not be stored in part. Most requests fit into one batch, which is
//! stored after the end of the request was read. For a larger one, the rest is first read to its
//! end to verify it, before the first batch is stored.

use super::receiver::{RemoteWriteError, WriteOutcome};
use crate::limits;
use crate::native_histogram::{RawHistogram, check_storable};
use crate::protobuf::{FieldReader, FieldValue, ProtobufError, zigzag};
use std::collections::HashMap;
use std::sync::Arc;
use storage::exemplars::{Exemplar, ExemplarRow};
use storage::limits::{LABEL_NAME_BYTES, LABEL_VALUE_BYTES};
use storage::model::histogram::{Buckets, ResetHint};
use storage::model::value::{STALE, sanitize};
use storage::model::{Labels, LabelsBuilder, NativeHistogram, SeriesRef, TimeMs};
use storage::store::{FloatRow, HistogramRow, StartRow, Store, ZeroRow};

/// The content of a request.
///
/// # Contract
/// - Reading it again gives the same items in the same order.
/// - While [`Batch::only_checks`], reading creates no series and changes nothing else.
pub(crate) trait RequestContent {
    /// Adds all items to a batch.
    fn read(&self, into: &mut Batch<'_>) -> Result<(), RemoteWriteError>;
}

/// Which refusals the sender is told of. The others are counted and logged.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ReportedRefusals {
    /// Samples of series with invalid labels.
    pub invalid_series: bool,
    /// Exemplars that are older than the newest of their series.
    pub late_exemplars: bool,
}

/// The request that is decoded.
#[derive(Copy, Clone)]
pub(crate) struct Request<'a> {
    /// The store for its samples.
    pub store: &'a Store,
    /// Its items.
    pub content: &'a dyn RequestContent,
    /// Which refusals its sender is told of.
    pub reported: ReportedRefusals,
    /// Whether a 0 is stored at the start timestamp of a new counter.
    pub zeros: bool,
    /// The wall clock, ms.
    pub now: TimeMs,
}

/// An exemplar that is not stored yet.
struct WaitingExemplar {
    row: ExemplarRow,
    /// Whether a sample of its series came directly before it, even if that was refused as too
    /// late.
    sampled: bool,
}

/// The decoded part of a request that is not stored yet.
pub(crate) struct Batch<'a> {
    request: Request<'a>,
    use_of: ReadPurpose,
    rows: Vec<FloatRow>,
    histograms: Vec<HistogramRow>,
    /// Stale markers of histograms.
    ends: Vec<FloatRow>,
    /// Empty histograms with the layout of those that end, for the zeros where they began.
    ended_layouts: Vec<HistogramRow>,
    /// Start timestamps of floats and histograms.
    starts: Vec<StartRow>,
    exemplars: Vec<WaitingExemplar>,
    /// The series of the last sample, even if that was refused as too late.
    sampled: Option<SeriesRef>,
    /// Approximate memory of all items, bytes.
    bytes: usize,
    /// Number of samples, histograms and exemplars of the request so far.
    items: usize,
    /// Bytes of the expanded labels of the request so far.
    label_bytes: usize,
    /// The result so far.
    written: WriteOutcome,
}

/// The purpose of reading.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum ReadPurpose {
    /// To store; nothing is stored yet.
    Store,
    /// To store; the request was verified, and a part is stored.
    StoreOn,
    /// To verify that the request is complete and valid.
    Check,
}

/// The time of a sample, and its start timestamp (0: none).
#[derive(Copy, Clone, Debug, Default)]
pub struct WriteTimes {
    /// The time, ms.
    pub t: TimeMs,
    /// The start timestamp, ms; 0: none.
    pub start: TimeMs,
}

impl<'a> Batch<'a> {
    /// Reads a request and stores it.
    pub(crate) fn apply(request: Request<'a>) -> Result<WriteOutcome, RemoteWriteError> {
        let mut batch = Batch::new(request);
        request.content.read(&mut batch)?;
        batch.store()?;
        Ok(batch.written)
    }

    /// An empty batch for a request.
    fn new(request: Request<'a>) -> Batch<'a> {
        Batch {
            request,
            use_of: ReadPurpose::Store,
            rows: Vec::new(),
            histograms: Vec::new(),
            ends: Vec::new(),
            ended_layouts: Vec::new(),
            starts: Vec::new(),
            exemplars: Vec::new(),
            sampled: None,
            bytes: 0,
            items: 0,
            label_bytes: 0,
            written: WriteOutcome::default(),
        }
    }

    /// Whether the request is only verified, so that series and samples are not needed.
    pub(crate) fn only_checks(&self) -> bool {
        self.use_of == ReadPurpose::Check
    }

    /// Counts the bytes of expanded labels: references to a table of texts can expand to much more
    /// than their own size.
    pub(crate) fn count_labels(&mut self, bytes: usize) -> Result<(), RemoteWriteError> {
        self.label_bytes += bytes;
        if self.label_bytes > limits::REMOTE_WRITE_LABEL_BYTES {
            let most = limits::REMOTE_WRITE_LABEL_BYTES >> 20;
            return Err(RemoteWriteError::TooLarge(format!(
                "the labels of the request's series are longer than {most} MiB: send fewer series in a request"
            )));
        }
        Ok(())
    }

    /// Counts a sample, or something else that takes as long to read.
    pub(crate) fn count_item(&mut self) -> Result<(), RemoteWriteError> {
        self.items += 1;
        if self.items > limits::REMOTE_WRITE_ITEMS {
            return Err(RemoteWriteError::TooLarge(format!(
                "the request has more than {} samples, histograms and exemplars: send fewer in a request",
                limits::REMOTE_WRITE_ITEMS
            )));
        }
        Ok(())
    }

    /// Counts memory, and stores the batch when it is full.
    fn grown(&mut self, bytes: usize) -> Result<(), RemoteWriteError> {
        self.bytes += bytes;
        // Most requests never get here and are stored in one piece when they were read to their
        // end.
        if self.bytes < limits::REMOTE_WRITE_BATCH_BYTES {
            return Ok(());
        }
        // Before the first part is stored, the whole request is read once more, only to see that it
        // is valid. Otherwise damage in its last byte would leave the first half stored, and the
        // sender would be told that nothing was.
        if self.use_of == ReadPurpose::Store {
            let mut check = Batch { use_of: ReadPurpose::Check, ..Batch::new(self.request) };
            self.request.content.read(&mut check)?;
            self.use_of = ReadPurpose::StoreOn;
        }
        self.store()
    }

    fn store(&mut self) -> Result<(), RemoteWriteError> {
        // Before the samples: a zero is older than they are, and the store accepts times in order
        // first.
        if self.request.zeros && !self.starts.is_empty() {
            self.store_zeros()?;
        }
        let store = self.request.store;
        let written = &mut self.written;
        if !self.rows.is_empty() {
            written.samples += written.count(&store.append_rows(&self.rows)?, store);
            self.rows.clear();
        }
        if !self.histograms.is_empty() {
            written.histograms += written.count(&store.append_histograms(&self.histograms)?, store);
            self.histograms.clear();
        }
        if !self.ends.is_empty() {
            written.histograms += written.count(&store.append_rows(&self.ends)?, store);
            self.ends.clear();
            self.ended_layouts.clear();
        }
        if !self.starts.is_empty() {
            // The sample of a refused start timestamp was refused and counted already.
            written.lsn = written.lsn.max(store.append_starts(&self.starts)?.lsn);
            self.starts.clear();
        }
        if !self.exemplars.is_empty() {
            self.store_exemplars();
        }
        self.bytes = 0;
        Ok(())
    }

    /// Stores the exemplars. As in Prometheus, only remote write 2.0 reports those that are out of
    /// order. Exemplars of series that never had a sample are left out silently.
    fn store_exemplars(&mut self) {
        let store = self.request.store;
        let mut exemplars = std::mem::take(&mut self.exemplars);
        // A series that only has exemplars does not exist for Prometheus. But one whose sample was
        // refused as late does.
        exemplars.retain(|exemplar| exemplar.sampled || store.series().has_samples(exemplar.row.series));
        let rows: Vec<ExemplarRow> = exemplars.into_iter().map(|exemplar| exemplar.row).collect();
        let series: Vec<SeriesRef> = rows.iter().map(|row| row.series).collect();
        let added = store.exemplars().add(rows);
        let written = &mut self.written;
        written.exemplars += added.accepted;
        // Remote write 1.0 and OTLP have no way to report a part, so it is only counted and logged.
        if !self.request.reported.late_exemplars {
            written.left_out_exemplars += added.out_of_order.len();
            return;
        }
        written.late_exemplars += added.out_of_order.len();
        for n in added.out_of_order {
            written.refused.name_series(series[n], &"out of order exemplar", store);
        }
    }

    /// Stores the zeros of series that begin, before their samples.
    fn store_zeros(&mut self) -> Result<(), RemoteWriteError> {
        let layouts = self.ended_layouts.iter().chain(&self.histograms);
        let histograms: HashMap<SeriesRef, &Arc<NativeHistogram>> =
            layouts.map(|row| (row.series, &row.h)).collect();
        let begun = self.starts.iter().filter(|row| row.start < row.t && row.t != 0);
        let zero = |row: &StartRow| ZeroRow {
            series: row.series,
            start: row.start,
            like: histograms.get(&row.series).map(|h| Arc::clone(h)),
        };
        let rows: Vec<ZeroRow> = begun.map(zero).collect();
        let appended = self.request.store.append_zeros(&rows, self.request.now)?;
        self.written.lsn = self.written.lsn.max(appended.lsn);
        Ok(())
    }

    /// Returns `series` if a sample at `t` may be stored; otherwise counts the sample as refused.
    fn may_be(&mut self, series: Option<SeriesRef>, t: TimeMs) -> Option<SeriesRef> {
        // A clock that is wrong by an hour on one sender would otherwise close the window of late
        // samples for its series.
        if t > self.request.now.saturating_add(limits::FUTURE_MS) {
            self.written.future += 1;
            if let Some(series) = series {
                self.written.refused.name_far_ahead(series, t, self.request.store);
            }
            return None;
        }
        // The series was refused when its labels were read; its samples are counted one by one.
        if series.is_none() {
            self.leave_out();
        }
        // Also for a sample that the store will refuse as late: the series has samples, so its
        // exemplars are meant.
        self.sampled = series;
        series
    }

    /// Counts a sample or other item of an invalid series.
    fn leave_out(&mut self) {
        if self.request.reported.invalid_series {
            self.written.invalid += 1;
        } else {
            self.written.left_out += 1;
        }
    }

    /// Adds a line about an invalid series.
    pub(crate) fn name_refused(&mut self, line: impl FnOnce() -> String) {
        self.written.refused.name(line);
    }

    /// Counts a series without samples.
    pub(super) fn refuse_empty(&mut self, line: impl FnOnce() -> String) {
        self.written.empty += 1;
        self.name_refused(line);
    }

    /// Counts an exemplar of a series without samples; it is ignored.
    pub(super) fn pass_over(&mut self) -> Result<(), RemoteWriteError> {
        self.count_item()
    }

    fn start(&mut self, series: SeriesRef, times: WriteTimes) {
        if times.start != 0 {
            self.starts.push(StartRow { series, t: times.t, start: times.start });
        }
    }

    /// Adds a `Sample`; `start` is the start timestamp that the series gives for all its samples.
    pub(super) fn sample(
        &mut self,
        series: Option<SeriesRef>,
        message: &[u8],
        start: TimeMs,
    ) -> Result<(), RemoteWriteError> {
        let mut times = WriteTimes { t: 0, start };
        let mut v = 0.0;
        let mut fields = FieldReader::new(message);
        while let Some(field) = fields.next_field()? {
            match field {
                (1, FieldValue::Fixed64(bits)) => v = f64::from_bits(bits),
                (2, t) => times.t = t.number() as i64,
                (3, start) => times.start = start.number() as i64,
                _ => {}
            }
        }
        self.float(series, v, times)
    }

    /// Adds a float.
    pub(crate) fn float(
        &mut self,
        series: Option<SeriesRef>,
        v: f64,
        times: WriteTimes,
    ) -> Result<(), RemoteWriteError> {
        self.count_item()?;
        let Some(series) = self.may_be(series, times.t) else { return Ok(()) };
        self.rows.push(FloatRow { series, t: times.t, v: sanitize(v) });
        self.start(series, times);
        self.grown(SAMPLE_BYTES)
    }

    /// Adds a `Histogram`; parameters as for `sample`.
    pub(super) fn histogram(
        &mut self,
        series: Option<SeriesRef>,
        message: &[u8],
        start: TimeMs,
    ) -> Result<(), RemoteWriteError> {
        let (raw, mut times) = read_histogram(message)?;
        if times.start == 0 {
            times.start = start;
        }
        self.native_histogram(series, raw, times)
    }

    /// Adds a native histogram, or the stale marker of one.
    pub(crate) fn native_histogram(
        &mut self,
        series: Option<SeriesRef>,
        raw: RawHistogram,
        times: WriteTimes,
    ) -> Result<(), RemoteWriteError> {
        self.count_item()?;
        let Some(series) = self.may_be(series, times.t) else { return Ok(()) };
        // The marker of a histogram is stored as that of a float: it ends the series whatever its
        // values are.
        if raw.is_stale() {
            self.ends.push(FloatRow { series, t: times.t, v: STALE });
            return self.end_layout(series, raw, times);
        }
        // A histogram that is wrong is refused alone. The store would refuse the whole batch for
        // it.
        match raw.finish().and_then(check_storable) {
            Ok(h) => {
                let bytes = histogram_bytes(&h);
                self.histograms.push(HistogramRow { series, t: times.t, h: Arc::new(h) });
                self.start(series, times);
                self.grown(bytes)
            }
            Err(reason) => {
                self.written.refuse_histogram(&reason, series, self.request.store);
                Ok(())
            }
        }
    }

    /// Keeps the layout of a histogram that ends at `times`, if it says when it began.
    fn end_layout(
        &mut self,
        series: SeriesRef,
        raw: RawHistogram,
        times: WriteTimes,
    ) -> Result<(), RemoteWriteError> {
        let RawHistogram { schema, zero_threshold, bounds, .. } = raw;
        let layout = RawHistogram { schema, zero_threshold, bounds, ..RawHistogram::default() };
        match layout.finish() {
            Ok(h) if times.start != 0 => {
                let bytes = SAMPLE_BYTES + histogram_bytes(&h);
                self.ended_layouts.push(HistogramRow { series, t: times.t, h: Arc::new(h) });
                self.start(series, times);
                self.grown(bytes)
            }
            // One that cannot be stored has no zero. Its end is stored whatever its values are.
            _ => self.grown(SAMPLE_BYTES),
        }
    }

    /// Adds an exemplar with these labels.
    pub(crate) fn exemplar(
        &mut self,
        series: Option<SeriesRef>,
        labels: Option<Labels>,
        t: TimeMs,
        v: f64,
    ) -> Result<(), RemoteWriteError> {
        self.count_item()?;
        let (Some(series), Some(labels)) = (series, labels) else {
            self.leave_out();
            return Ok(());
        };
        // Left out without an error, as in Prometheus.
        if t > self.request.now.saturating_add(limits::FUTURE_MS) {
            return Ok(());
        }
        let bytes = EXEMPLAR_BYTES + labels.encoded().len();
        let exemplar = Exemplar { labels, t, v: sanitize(v) };
        let row = ExemplarRow { series, exemplar, timed: t != 0 };
        self.exemplars.push(WaitingExemplar { row, sampled: self.sampled == Some(series) });
        self.grown(bytes)
    }
}

/// Memory of a sample and its start timestamp: in the batch, sorted by shard, and in the store's
/// own lists.
const SAMPLE_BYTES: usize = 3 * (size_of::<FloatRow>() + size_of::<StartRow>());
/// Memory of an exemplar without its labels.
const EXEMPLAR_BYTES: usize = 2 * size_of::<WaitingExemplar>();

/// Memory of a histogram.
fn histogram_bytes(h: &NativeHistogram) -> usize {
    let side = |b: &Buckets| size_of_val(b.spans.as_slice()) + size_of_val(b.counts.as_slice());
    let values = side(&h.positive) + side(&h.negative) + size_of_val(&*h.bounds);
    SAMPLE_BYTES + size_of::<NativeHistogram>() + 2 * values
}

/// Decodes a `Histogram`; the versions differ only in the last field.
pub fn read_histogram(message: &[u8]) -> Result<(RawHistogram, WriteTimes), ProtobufError> {
    let mut raw = RawHistogram::default();
    let mut times = WriteTimes::default();
    let mut fields = FieldReader::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            // Integer or float is said by which of the two fields is set.
            1 => (raw.count, raw.float) = (value.number() as f64, false),
            2 => (raw.count, raw.float) = (value.double(), true),
            3 => raw.sum = value.double(),
            4 => raw.schema = zigzag(value.number()) as i32,
            5 => raw.zero_threshold = value.double(),
            6 => raw.zero_count = value.number() as f64,
            7 => raw.zero_count = value.double(),
            8 => raw.negative.span(value)?,
            9 => raw.negative.deltas(value)?,
            10 => raw.negative.counts(value)?,
            11 => raw.positive.span(value)?,
            12 => raw.positive.deltas(value)?,
            13 => raw.positive.counts(value)?,
            14 => raw.hint = hint(value.number()),
            15 => times.t = value.number() as i64,
            16 => raw.bounds(value)?,
            17 => times.start = value.number() as i64,
            _ => {}
        }
    }
    Ok((raw, times))
}

fn hint(n: u64) -> ResetHint {
    match n {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

/// Whether a label `name` with this value can be added to `labels`.
pub(crate) fn is_acceptable(name: &str, value: &str, labels: &LabelsBuilder) -> bool {
    !name.is_empty()
        && name.len() <= LABEL_NAME_BYTES
        && value.len() <= LABEL_VALUE_BYTES
        && labels.pairs().len() < limits::SERIES_LABELS
        && !labels.has(name)
}
