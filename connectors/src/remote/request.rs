//! What both versions of remote write have in common: samples, histograms, exemplars, and how they
//! get into the store.
//!
//! A request is never in memory as a whole but as its bytes: what is decoded waits in a [`Batch`]
//! and is stored when it is full, so that bytes that mean much cost no memory. Damage must not
//! leave half a request stored. Requests are small and fit one batch, which is stored behind their
//! end; of one that does not, the rest is read to its end before the first batch is stored.

use super::receiver::{MessageVersion, RemoteWriteError, WriteOutcome, read};
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

/// The request that is read.
#[derive(Copy, Clone)]
pub struct Request<'a> {
    /// Where it goes.
    pub store: &'a Store,
    /// Its bytes, decompressed.
    pub message: &'a [u8],
    /// What they are.
    pub proto: MessageVersion,
    /// Whether a 0 is stored at the start of a counter that is new.
    pub zeros: bool,
    /// The wall clock, ms.
    pub now: TimeMs,
}

/// An exemplar that is not stored yet.
struct WaitingExemplar {
    row: ExemplarRow,
    /// Whether a sample of its series came right before it, even if that was too late.
    sampled: bool,
}

/// What is decoded of a request and not stored yet.
pub struct Batch<'a> {
    request: Request<'a>,
    use_of: Use,
    rows: Vec<FloatRow>,
    histograms: Vec<HistogramRow>,
    /// Stale markers of histograms.
    ends: Vec<FloatRow>,
    /// Start timestamps of both.
    starts: Vec<StartRow>,
    exemplars: Vec<WaitingExemplar>,
    /// The series of the last sample, even if that comes too late.
    sampled: Option<SeriesRef>,
    /// Memory of all of them, about, bytes.
    bytes: usize,
    /// Samples, histograms and exemplars of the request so far.
    items: usize,
    /// Labels of the request so far as they are written out, bytes.
    label_bytes: usize,
    /// What became of what is stored, and of what could not be.
    written: WriteOutcome,
}

/// What a request is read for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Use {
    /// To be stored; nothing is yet.
    Store,
    /// To be stored, and whole: some of it is stored.
    StoreOn,
    /// To see whether it is whole.
    Check,
}

/// A sample's time, and since when it counts (0: not said).
#[derive(Copy, Clone, Debug, Default)]
struct WriteTimes {
    t: TimeMs,
    start: TimeMs,
}

impl<'a> Batch<'a> {
    /// Nothing yet.
    pub fn new(request: Request<'a>) -> Batch<'a> {
        Batch {
            request,
            use_of: Use::Store,
            rows: Vec::new(),
            histograms: Vec::new(),
            ends: Vec::new(),
            starts: Vec::new(),
            exemplars: Vec::new(),
            sampled: None,
            bytes: 0,
            items: 0,
            label_bytes: 0,
            written: WriteOutcome::default(),
        }
    }

    /// Whether series and samples are of no interest, but whether they can be read.
    pub fn only_checks(&self) -> bool {
        self.use_of == Use::Check
    }

    /// Counts labels that are written out: numbers of a table of texts mean more than their own bytes.
    pub fn count_labels(&mut self, bytes: usize) -> Result<(), RemoteWriteError> {
        self.label_bytes += bytes;
        if self.label_bytes > limits::REMOTE_WRITE_LABEL_BYTES {
            let most = limits::REMOTE_WRITE_LABEL_BYTES >> 20;
            return Err(RemoteWriteError::TooLarge(format!(
                "the labels of the request's series are longer than {most} MiB: send fewer series in a request"
            )));
        }
        Ok(())
    }

    fn count_item(&mut self) -> Result<(), RemoteWriteError> {
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
        if self.bytes < limits::REMOTE_WRITE_BATCH_BYTES {
            return Ok(());
        }
        if self.use_of == Use::Store {
            let mut check = Batch { use_of: Use::Check, ..Batch::new(self.request) };
            read(&self.request, &mut check)?;
            self.use_of = Use::StoreOn;
        }
        self.store()
    }

    /// Stores what is left; the end of a request.
    pub fn finish(mut self) -> Result<WriteOutcome, RemoteWriteError> {
        self.store()?;
        Ok(self.written)
    }

    fn store(&mut self) -> Result<(), RemoteWriteError> {
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
        }
        if !self.starts.is_empty() {
            // A sample that was refused was counted; that its start is refused too is no news.
            written.lsn = written.lsn.max(store.append_starts(&self.starts)?.lsn);
            self.starts.clear();
        }
        if !self.exemplars.is_empty() {
            self.store_exemplars();
        }
        self.bytes = 0;
        Ok(())
    }

    /// Stores the exemplars. Those that are out of order are refused aloud by 2.0 only, as in
    /// Prometheus; those of series that never had a sample are left out silently.
    fn store_exemplars(&mut self) {
        let store = self.request.store;
        let mut exemplars = std::mem::take(&mut self.exemplars);
        exemplars.retain(|exemplar| exemplar.sampled || store.has_samples(exemplar.row.series));
        let rows: Vec<ExemplarRow> = exemplars.into_iter().map(|exemplar| exemplar.row).collect();
        let series: Vec<SeriesRef> = rows.iter().map(|row| row.series).collect();
        let added = store.add_exemplars(rows);
        let written = &mut self.written;
        written.exemplars += added.taken;
        if self.request.proto == MessageVersion::V1 {
            written.left_out_exemplars += added.out_of_order.len();
            return;
        }
        written.late_exemplars += added.out_of_order.len();
        for n in added.out_of_order {
            written.refused.name_series(series[n], &"out of order exemplar", store);
        }
    }

    /// Stores the zeros of counters that begin, before their samples.
    fn store_zeros(&mut self) -> Result<(), RemoteWriteError> {
        let histograms: HashMap<SeriesRef, &Arc<NativeHistogram>> =
            self.histograms.iter().map(|row| (row.series, &row.h)).collect();
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

    /// Whether a sample at `t` may be stored; counts it if not.
    fn may_be(&mut self, series: Option<SeriesRef>, t: TimeMs) -> Option<SeriesRef> {
        if t > self.request.now.saturating_add(limits::FUTURE_MS) {
            self.written.future += 1;
            if let Some(series) = series {
                self.written.refused.name_far_ahead(series, t, self.request.store);
            }
            return None;
        }
        if series.is_none() {
            self.leave_out();
        }
        self.sampled = series;
        series
    }

    /// Counts something of a series that cannot be.
    fn leave_out(&mut self) {
        match self.request.proto {
            MessageVersion::V1 => self.written.left_out += 1,
            MessageVersion::V2 => self.written.invalid += 1,
        }
    }

    /// Adds a line for a series that cannot be.
    pub fn name_refused(&mut self, line: impl FnOnce() -> String) {
        self.written.refused.name(line);
    }

    /// Counts a series without samples.
    pub fn refuse_empty(&mut self, line: impl FnOnce() -> String) {
        self.written.empty += 1;
        self.name_refused(line);
    }

    /// Counts an exemplar of a series without samples, which is not looked at.
    pub fn pass_over(&mut self) -> Result<(), RemoteWriteError> {
        self.count_item()
    }

    fn start(&mut self, series: SeriesRef, times: WriteTimes) {
        if times.start != 0 {
            self.starts.push(StartRow { series, t: times.t, start: times.start });
        }
    }

    /// Takes a `Sample`; `start` is what the series says of all its samples.
    pub fn sample(
        &mut self,
        series: Option<SeriesRef>,
        message: &[u8],
        start: TimeMs,
    ) -> Result<(), RemoteWriteError> {
        self.count_item()?;
        let mut times = WriteTimes { t: 0, start };
        let mut v = 0.0;
        let mut fields = FieldReader::of(message);
        while let Some(field) = fields.next_field()? {
            match field {
                (1, FieldValue::Fixed64(bits)) => v = sanitize(f64::from_bits(bits)),
                (2, t) => times.t = t.number() as i64,
                (3, start) => times.start = start.number() as i64,
                _ => {}
            }
        }
        let Some(series) = self.may_be(series, times.t) else { return Ok(()) };
        self.rows.push(FloatRow { series, t: times.t, v });
        self.start(series, times);
        self.grown(SAMPLE_BYTES)
    }

    /// Takes a `Histogram`, as `sample`.
    pub fn histogram(
        &mut self,
        series: Option<SeriesRef>,
        message: &[u8],
        start: TimeMs,
    ) -> Result<(), RemoteWriteError> {
        self.count_item()?;
        let (raw, mut times) = read_histogram(message)?;
        if times.start == 0 {
            times.start = start;
        }
        let Some(series) = self.may_be(series, times.t) else { return Ok(()) };
        if raw.is_stale() {
            self.ends.push(FloatRow { series, t: times.t, v: STALE });
            return self.grown(SAMPLE_BYTES);
        }
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

    /// Takes an exemplar with these labels.
    pub fn exemplar(
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
        // As in Prometheus nobody is told.
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

/// Memory of a sample that waits, and of its start: here, sorted by shard, and in the store's own lists.
const SAMPLE_BYTES: usize = 3 * (size_of::<FloatRow>() + size_of::<StartRow>());
/// The same of an exemplar, without its labels.
const EXEMPLAR_BYTES: usize = 2 * size_of::<WaitingExemplar>();

/// The same of a histogram.
fn histogram_bytes(h: &NativeHistogram) -> usize {
    let side = |b: &Buckets| size_of_val(b.spans.as_slice()) + size_of_val(b.counts.as_slice());
    let values = side(&h.positive) + side(&h.negative) + size_of_val(&*h.bounds);
    SAMPLE_BYTES + size_of::<NativeHistogram>() + 2 * values
}

/// A `Histogram` of either version; they differ in the last field only.
fn read_histogram(message: &[u8]) -> Result<(RawHistogram, WriteTimes), ProtobufError> {
    let mut raw = RawHistogram::default();
    let mut times = WriteTimes::default();
    let mut fields = FieldReader::of(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
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

/// Whether `labels` may get a label `name` of this value.
pub fn is_acceptable(name: &str, value: &str, labels: &LabelsBuilder) -> bool {
    !name.is_empty()
        && name.len() <= LABEL_NAME_BYTES
        && value.len() <= LABEL_VALUE_BYTES
        && labels.pairs().len() < limits::SERIES_LABELS
        && !labels.has(name)
}
