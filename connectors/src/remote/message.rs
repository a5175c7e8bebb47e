//! What both versions of remote write have in common: samples, histograms, exemplars, and what is gathered of them.

use super::write::RemoteWritten;
use crate::histogram::{RawHistogram, storable};
use crate::limits;
use crate::protobuf::{Fields, ProtobufError, Value, zigzag};
use std::sync::Arc;
use storage::exemplars::{Exemplar, ExemplarRow};
use storage::model::histogram::ResetHint;
use storage::model::value::{STALE, sanitize};
use storage::model::{Labels, LabelsBuilder, SeriesRef, TimeMs};
use storage::store::{HistogramRow, Row, StartRow};

/// The content of a request, ready to be stored.
pub struct Gathered {
    /// The wall clock, ms.
    pub now: TimeMs,
    /// Samples.
    pub rows: Vec<Row>,
    /// Native histograms.
    pub histograms: Vec<HistogramRow>,
    /// Start timestamps of both.
    pub starts: Vec<StartRow>,
    /// Exemplars.
    pub exemplars: Vec<ExemplarRow>,
    /// What could not be taken.
    pub written: RemoteWritten,
}

/// A sample's time, and since when it counts (0: not said).
#[derive(Copy, Clone, Debug, Default)]
struct Times {
    t: TimeMs,
    start: TimeMs,
}

impl Gathered {
    /// Nothing yet.
    pub fn new(now: TimeMs) -> Gathered {
        Gathered {
            now,
            rows: Vec::new(),
            histograms: Vec::new(),
            starts: Vec::new(),
            exemplars: Vec::new(),
            written: RemoteWritten::default(),
        }
    }

    /// Whether a sample at `t` may be stored; counts it if not.
    fn may_be(&mut self, series: Option<SeriesRef>, t: TimeMs) -> Option<SeriesRef> {
        if t > self.now + limits::FUTURE_MS {
            self.written.future += 1;
            return None;
        }
        if series.is_none() {
            self.written.invalid += 1;
        }
        series
    }

    fn start(&mut self, series: SeriesRef, times: Times) {
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
    ) -> Result<(), ProtobufError> {
        let (mut times, mut v) = (Times { t: 0, start }, 0.0);
        let mut fields = Fields::of(message);
        while let Some(field) = fields.next_field()? {
            match field {
                (1, Value::Fixed64(bits)) => v = sanitize(f64::from_bits(bits)),
                (2, t) => times.t = t.number() as i64,
                (3, start) => times.start = start.number() as i64,
                _ => {}
            }
        }
        if let Some(series) = self.may_be(series, times.t) {
            self.rows.push(Row { series, t: times.t, v });
            self.start(series, times);
        }
        Ok(())
    }

    /// Takes a `Histogram`, as [`Gathered::sample`].
    pub fn histogram(
        &mut self,
        series: Option<SeriesRef>,
        message: &[u8],
        start: TimeMs,
    ) -> Result<(), ProtobufError> {
        let (raw, mut times) = read_histogram(message)?;
        if times.start == 0 {
            times.start = start;
        }
        let Some(series) = self.may_be(series, times.t) else { return Ok(()) };
        if raw.is_stale() {
            self.rows.push(Row { series, t: times.t, v: STALE });
            return Ok(());
        }
        match raw.finish().and_then(storable) {
            Ok(h) => {
                self.histograms.push(HistogramRow { series, t: times.t, h: Arc::new(h) });
                self.start(series, times);
            }
            Err(reason) => self.written.refuse_histogram(&reason),
        }
        Ok(())
    }

    /// Takes an exemplar with these labels.
    pub fn exemplar(&mut self, series: Option<SeriesRef>, labels: Option<Labels>, t: TimeMs, v: f64) {
        match (series, labels) {
            (Some(series), Some(labels)) => {
                let exemplar = Exemplar { labels, t, v: sanitize(v) };
                self.exemplars.push(ExemplarRow { series, exemplar, timed: true });
            }
            _ => self.written.invalid += 1,
        }
    }
}

/// A `Histogram` of either version; they differ in the last field only.
fn read_histogram(message: &[u8]) -> Result<(RawHistogram, Times), ProtobufError> {
    let (mut raw, mut times) = (RawHistogram::default(), Times::default());
    let mut fields = Fields::of(message);
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
            16 => value.each_double(|bound| raw.bounds.push(bound))?,
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
        && name.len() <= limits::LABEL_NAME_BYTES
        && value.len() <= limits::LABEL_VALUE_BYTES
        && labels.pairs().len() < limits::LABELS_PER_SERIES
        && labels.pairs().iter().all(|(n, _)| n != name)
}
