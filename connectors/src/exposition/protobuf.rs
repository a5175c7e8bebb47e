//! The protobuf exposition: `io.prometheus.client.MetricFamily` messages, each after its length.
//!
//! [`Families`] reads a body piece by piece and passes families and samples to a [`FamilySink`]. A
//! family of ordinary size is read in two passes, because its name and type may come after its
//! metrics in the message.

use super::{Context, MetricType};
mod wire;

use super::nhcb::ClassicHistogram;
use super::points::{ExposedPoints, PointRules, PointValue, RawExemplar, write_series};
use super::quote;
use super::series::{SeriesError, too_many_labels};
use crate::limits::{HISTOGRAM_EXEMPLARS, SCRAPE_FAMILY_BYTES, SERIES_LABELS};
use crate::native_histogram::RawHistogram;
use crate::number::{format_bound, normalize_nan};
use crate::protobuf::{FieldReader, FieldValue, ProtobufError, message_length};
use storage::limits::HISTOGRAM_BUCKETS;
use storage::model::TimeMs;
use storage::model::histogram::ResetHint;
use wire::{
    COUNTER, FAMILY, METRIC, SUMMARY, VALUE, WireHistogram, exemplar, pair, read_histogram, series_label,
    text, timestamp,
};

/// The name, type, help and unit of a family.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtobufFamily<'a> {
    /// The name.
    pub name: &'a str,
    /// The type.
    pub kind: MetricType,
    /// The help text.
    pub help: &'a str,
    /// The unit.
    pub unit: &'a str,
}

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FamilyError {
    /// The body is not valid protobuf.
    #[error(transparent)]
    Damaged(#[from] ProtobufError),
    /// The body is valid protobuf, but not an exposition.
    #[error("{0}")]
    Bad(String),
    /// A series has more labels than the limits allow.
    #[error(transparent)]
    Labels(#[from] SeriesError),
}

type Fallible<T> = Result<T, FamilyError>;

/// Receives the content of a body.
///
/// # Contract
///
/// 1. `family` is called before the `points` of its metrics, once for each family.
/// 2. An error of `points` ends the reading; nothing more is called.
pub trait FamilySink {
    /// Why the receiver stops.
    type Error: From<FamilyError>;

    /// Called at the start of a family.
    fn family(&mut self, family: &ProtobufFamily<'_>);

    /// Called with the samples of one metric of the family, whose unit is `unit`; the reader
    /// empties `points` afterwards.
    fn points(&mut self, points: &ExposedPoints, unit: &str) -> Result<(), Self::Error>;
}

/// Reads a body piece by piece.
///
/// A family of ordinary size is read once all of it has arrived. A large family is read metric by
/// metric, so that it need not be in memory as a whole; its name and type must precede its metrics.
#[derive(Default)]
pub struct Families {
    open: Option<OpenFamily>,
    points: ExposedPoints,
}

/// A large family of which some metrics have been read.
struct OpenFamily {
    name: String,
    kind: MetricType,
    unit: String,
    /// The bytes of the message that have not been read.
    left: u64,
}

impl Families {
    /// Reads what is complete in `piece` and returns the number of bytes read; `last` says that no
    /// bytes follow.
    pub fn read<T: FamilySink>(
        &mut self,
        piece: &[u8],
        last: bool,
        rules: PointRules,
        takes: &mut T,
    ) -> Result<usize, T::Error> {
        let mut at = 0;
        loop {
            let rest = &piece[at..];
            // A large family was begun with an earlier piece.
            if self.open.is_some() {
                at += self.read_open(rest, last, rules, takes)?;
                if self.open.is_some() {
                    return Ok(at);
                }
                continue;
            }
            if rest.is_empty() {
                return Ok(at);
            }
            let Some((length, head)) = message_length(rest).map_err(FamilyError::from)? else {
                // The length itself may be cut between two pieces.
                return if last { Err(cut_off(rest.len()).into()) } else { Ok(at) };
            };
            let message = &rest[head..];
            match usize::try_from(length).ok().and_then(|length| message.get(..length)) {
                Some(message) => {
                    self.read_whole(message, rules, takes)?;
                    at += head + message.len();
                }
                None if last => return Err(cut_off(head).into()),
                // Of ordinary size: wait until all of it is there, and read it in two passes.
                None if length <= SCRAPE_FAMILY_BYTES => return Ok(at),
                None => {
                    // Larger than what may wait in memory, so its metrics are read as they come.
                    let Some(begin) = self.begin(message, length, takes)? else { return Ok(at) };
                    at += head + begin;
                }
            }
        }
    }

    fn read_whole<T: FamilySink>(
        &mut self,
        message: &[u8],
        rules: PointRules,
        takes: &mut T,
    ) -> Result<(), T::Error> {
        // A family without metrics and with a bad name is nothing, as in Prometheus; one with
        // metrics fails the scrape.
        let Some(family) = header(message)?.family()? else { return Ok(()) };
        let mut fields = FieldReader::new(message);
        let mut reader = FamilyReader { family, rules, points: &mut self.points, labels: Vec::new() };
        let mut is_known = false;
        while let Some(field) = fields.next_field().map_err(FamilyError::from)? {
            if let (4, FieldValue::Bytes(metric)) = field {
                let read = reader.metric(metric);
                // A family whose first metric is malformed protobuf is not reported as a family.
                if !is_known && !matches!(read, Err(FamilyError::Damaged(_))) {
                    takes.family(&family);
                    is_known = true;
                }
                // The samples before an error count.
                // Metric by metric: a family of 100,000 series need not be there twice, as a
                // message and as samples.
                takes.points(reader.points, family.unit)?;
                reader.points.clear();
                read?;
            }
        }
        // No metrics: the family is still metadata.
        if !is_known {
            takes.family(&family);
        }
        Ok(())
    }

    /// Reads the fields before the metrics of a large family, and returns their length; `None` if
    /// more bytes are needed.
    fn begin<T: FamilySink>(
        &mut self,
        message: &[u8],
        length: u64,
        takes: &mut T,
    ) -> Result<Option<usize>, FamilyError> {
        let mut fields = FieldReader::new(message);
        loop {
            let at = fields.position();
            match fields.next_field() {
                Ok(Some((4, _))) => return self.open(&message[..at], length, takes).map(|()| Some(at)),
                // Possibly a metric whose rest has not arrived.
                Err(_) if message.get(at) == Some(&METRIC_TAG) => {
                    return self.open(&message[..at], length, takes).map(|()| Some(at));
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }

    fn open<T: FamilySink>(&mut self, head: &[u8], length: u64, takes: &mut T) -> Result<(), FamilyError> {
        let header = Header { has_metrics: true, ..header(head)? };
        let Some(family) = header.family()? else { return Ok(()) };
        takes.family(&family);
        let left = length - head.len() as u64;
        let name = family.name.to_owned();
        let unit = family.unit.to_owned();
        self.open = Some(OpenFamily { name, kind: family.kind, unit, left });
        Ok(())
    }

    /// Reads metrics of the open family, closes the family at its end, and returns the number of
    /// bytes read.
    fn read_open<T: FamilySink>(
        &mut self,
        piece: &[u8],
        last: bool,
        rules: PointRules,
        takes: &mut T,
    ) -> Result<usize, T::Error> {
        let Some(open) = &mut self.open else { return Ok(0) };
        let there = usize::try_from(open.left).map_or(piece.len(), |left| left.min(piece.len()));
        let is_whole = there as u64 == open.left;
        let family = ProtobufFamily { name: &open.name, kind: open.kind, ..ProtobufFamily::default() };
        let mut reader = FamilyReader { family, rules, points: &mut self.points, labels: Vec::new() };
        let mut fields = FieldReader::new(&piece[..there]);
        let read = loop {
            let at = fields.position();
            match fields.next_field() {
                Ok(None) => break at,
                // The metric goes on in the next piece. An error that is none of a cut comes back
                // then, because the same bytes are read again.
                Err(_) if !is_whole && !last => break at,
                Err(error) => return Err(FamilyError::from(error).into()),
                Ok(Some((4, FieldValue::Bytes(metric)))) => {
                    reader.metric(metric)?;
                    takes.points(reader.points, &open.unit)?;
                    reader.points.clear();
                }
                // Its metrics were read with another name or type. Order of fields is free in
                // protobuf, but every client writes these first; the alternative is to hold the
                // family in memory.
                Ok(Some((1 | 3, _))) => {
                    return Err(FamilyError::Bad(format!(
                        "the name and the type of a family as large as {} must stand before its metrics",
                        quote(open.name.as_bytes())
                    ))
                    .into());
                }
                Ok(Some(_)) => {}
            }
        };
        open.left -= read as u64;
        if open.left == 0 {
            self.open = None;
        } else if last {
            return Err(cut_off(read).into());
        }
        Ok(read)
    }
}

/// The first byte of a metric field in the message of a family.
const METRIC_TAG: u8 = 4 << 3 | 2;

fn cut_off(at: usize) -> FamilyError {
    FamilyError::Damaged(ProtobufError { at, reason: "field is longer than its message" })
}

/// The fields of a family's message other than its metrics, not yet validated.
#[derive(Default)]
struct Header<'a> {
    name: &'a [u8],
    help: &'a [u8],
    kind: u64,
    unit: &'a [u8],
    has_metrics: bool,
}

/// Reads name (1), help (2), type (3), metrics (4) and unit (5).
fn header(message: &[u8]) -> Fallible<Header<'_>> {
    let mut header = Header::default();
    let mut fields = FieldReader::new(message);
    while let Some(field) = fields.next_of(FAMILY)? {
        match field {
            (1, FieldValue::Bytes(name)) => header.name = name,
            (2, FieldValue::Bytes(help)) => header.help = help,
            (3, kind) => header.kind = kind.number(),
            (4, _) => header.has_metrics = true,
            (5, FieldValue::Bytes(unit)) => header.unit = unit,
            _ => {}
        }
    }
    Ok(header)
}

impl<'a> Header<'a> {
    /// Validates the family; `None` if the message has no metrics and no valid name either.
    ///
    /// A unit may be any bytes, as in Prometheus.
    fn family(&self) -> Fallible<Option<ProtobufFamily<'a>>> {
        let family = self.checked();
        if self.has_metrics { family.map(Some) } else { Ok(family.ok()) }
    }

    fn checked(&self) -> Fallible<ProtobufFamily<'a>> {
        let name = text(self.name, "metric name")?;
        if name.is_empty() {
            return Err(FamilyError::Bad("invalid metric name: ".to_owned()));
        }
        let help = text(self.help, &format!("help for metric {name:?}"))?;
        let kind = match self.kind {
            0 => MetricType::Counter,
            1 => MetricType::Gauge,
            2 => MetricType::Summary,
            3 => MetricType::Unknown,
            4 => MetricType::Histogram,
            5 => MetricType::GaugeHistogram,
            n => return Err(FamilyError::Bad(format!("unknown metric type for metric {name:?}: {n}"))),
        };
        Ok(ProtobufFamily { name, kind, help, unit: std::str::from_utf8(self.unit).unwrap_or_default() })
    }
}

/// Reads the metrics of a family.
struct FamilyReader<'a, 'p> {
    family: ProtobufFamily<'a>,
    rules: PointRules,
    points: &'p mut ExposedPoints,
    /// The labels of the current metric.
    labels: Vec<(&'a str, &'a str)>,
}

/// The times that all samples of one metric share.
#[derive(Copy, Clone, Default)]
struct SampleTimes {
    t: Option<TimeMs>,
    start: TimeMs,
}

impl<'a> FamilyReader<'a, '_> {
    /// Reads labels (1), gauge (2), counter (3), summary (4), untyped (5), timestamp (6) and
    /// histogram (7).
    fn metric(&mut self, message: &'a [u8]) -> Fallible<()> {
        self.labels.clear();
        let mut t = None;
        let mut content = &b""[..];
        let wanted = match self.family.kind {
            MetricType::Gauge => 2,
            MetricType::Counter => 3,
            MetricType::Summary => 4,
            MetricType::Histogram | MetricType::GaugeHistogram => 7,
            _ => 5,
        };
        let mut fields = FieldReader::new(message);
        while let Some(field) = fields.next_of(METRIC)? {
            match field {
                (1, FieldValue::Bytes(pair)) => {
                    if self.labels.len() >= SERIES_LABELS {
                        return Err(too_many_labels(self.family.name).into());
                    }
                    self.labels.push(series_label(pair)?);
                }
                // In proto3 a timestamp of 0 and a missing timestamp are encoded alike.
                (6, time) => t = Some(time.number() as i64).filter(|t| *t != 0),
                // The other kinds are ignored if a metric has several: the type of the family
                // decides.
                (n, FieldValue::Bytes(bytes)) if n == wanted => content = bytes,
                _ => {}
            }
        }
        match self.family.kind {
            MetricType::Summary => self.summary(content, t),
            MetricType::Histogram | MetricType::GaugeHistogram => self.histogram(content, t),
            MetricType::Counter => self.counter(content, t),
            _ => {
                let mut fields = FieldReader::new(content);
                let mut v = 0.0;
                while let Some(field) = fields.next_of(VALUE)? {
                    if let (1, value) = field {
                        v = value.double();
                    }
                }
                self.float("", None, v, SampleTimes { t, start: 0 }, None);
                Ok(())
            }
        }
    }

    /// Adds a float of the series with the family's name, this suffix and this label.
    fn float(
        &mut self,
        suffix: &str,
        more: Option<(&str, &str)>,
        v: f64,
        times: SampleTimes,
        exemplar: Option<RawExemplar>,
    ) {
        let name = [self.family.name, suffix];
        let labels = &self.labels;
        let write = |out: &mut Vec<u8>| write_series(out, name, labels, more);
        let point =
            self.points.push(write, Context::text(self.family.kind), PointValue::Float(normalize_nan(v)));
        point.t = times.t;
        point.start = times.start;
        point.exemplars.extend(exemplar);
    }

    /// Reads value (1), exemplar (2) and created (3).
    fn counter(&mut self, message: &[u8], t: Option<TimeMs>) -> Fallible<()> {
        let mut v = 0.0;
        let mut start = 0;
        let mut seen = None;
        let mut fields = FieldReader::new(message);
        while let Some((number, value)) = fields.next_of(COUNTER)? {
            match number {
                1 => v = value.double(),
                2 if self.rules.exemplars => seen = exemplar(value)?,
                3 => start = timestamp(value)?,
                _ => {}
            }
        }
        self.float("", None, v, SampleTimes { t, start }, seen);
        Ok(())
    }

    /// Reads count (1), sum (2), quantiles (3) and created (4).
    fn summary(&mut self, message: &[u8], t: Option<TimeMs>) -> Fallible<()> {
        let mut count = 0.0;
        let mut sum = 0.0;
        let mut start = 0;
        let mut quantiles = Vec::new();
        let mut fields = FieldReader::new(message);
        while let Some((number, value)) = fields.next_of(SUMMARY)? {
            match (number, value) {
                (1, n) => count = n.number() as f64,
                (2, v) => sum = v.double(),
                (3, FieldValue::Bytes(_)) if quantiles.len() >= HISTOGRAM_BUCKETS => {
                    return Err(FamilyError::Bad(format!(
                        "a summary has more than {HISTOGRAM_BUCKETS} quantiles"
                    )));
                }
                (3, FieldValue::Bytes(quantile)) => quantiles.push(pair(quantile)?),
                (4, created) => start = timestamp(created)?,
                _ => {}
            }
        }
        let times = SampleTimes { t, start };
        self.float("_count", None, count, times, None);
        self.float("_sum", None, sum, times, None);
        for (quantile, v) in quantiles {
            self.float("", Some(("quantile", &format_bound(quantile))), v, times, None);
        }
        Ok(())
    }

    /// Adds a native histogram before its classic series; one that is converted from classic series
    /// comes after them.
    fn histogram(&mut self, message: &'a [u8], t: Option<TimeMs>) -> Fallible<()> {
        let h = read_histogram(message, self.rules.exemplars)?;
        let times = SampleTimes { t, start: h.start };
        // A client that has both sends both in one message, and the configuration decides which are
        // stored.
        if self.rules.native && h.is_native() {
            h.check(self.family.name)?;
            let mut raw = h.raw.clone();
            if raw.float {
                // In a float histogram the integer fields are not set, and the other way round.
                raw.count = h.count_float;
                raw.zero_count = h.zero_count_float;
            }
            self.push_histogram(raw, times, h.seen());
            if self.rules.classic_too && !h.buckets.is_empty() {
                self.classic(h, times);
            }
            return Ok(());
        }
        if !self.rules.convert {
            self.classic(h, times);
            return Ok(());
        }
        let mut classic = ClassicHistogram::from_sum(h.raw.sum);
        classic.count(h.count());
        for bucket in &h.buckets {
            classic.bucket(bucket.bound, bucket.count);
        }
        let seen = h.seen();
        if self.rules.classic_too {
            self.classic(h, times);
        }
        let raw = classic.convert().map_err(|error| FamilyError::Bad(error.to_string()))?;
        self.push_histogram(raw, times, seen);
        Ok(())
    }

    /// Adds a native histogram, with those of its exemplars that have a timestamp.
    fn push_histogram(&mut self, mut raw: RawHistogram, times: SampleTimes, mut seen: Vec<RawExemplar>) {
        // A gauge goes down without a reset; without this hint `rate` would take every decrease for
        // one.
        if self.family.kind == MetricType::GaugeHistogram {
            raw.hint = ResetHint::Gauge;
        }
        let name = [self.family.name, ""];
        let labels = &self.labels;
        let write = |out: &mut Vec<u8>| write_series(out, name, labels, None);
        let point =
            self.points.push(write, Context::text(self.family.kind), PointValue::Histogram(Box::new(raw)));
        point.t = times.t;
        point.start = times.start;
        // One without a timestamp would be new at every scrape, because there is no line to which
        // it belongs.
        seen.retain(|exemplar| exemplar.t.is_some());
        seen.truncate(HISTOGRAM_EXEMPLARS);
        point.exemplars = seen;
    }

    /// Adds the classic series of a histogram.
    fn classic(&mut self, h: WireHistogram, times: SampleTimes) {
        let count = h.count();
        self.float("_count", None, count, times, None);
        self.float("_sum", None, h.raw.sum, times, None);
        let mut infinite = false;
        // As in Prometheus: buckets after the one of `+Inf` are ignored.
        for bucket in h.buckets {
            if infinite {
                break;
            }
            infinite = bucket.bound == f64::INFINITY;
            let bound = format_bound(bucket.bound);
            self.float("_bucket", Some(("le", &bound)), bucket.count, times, bucket.exemplar);
        }
        if !infinite {
            self.float("_bucket", Some(("le", "+Inf")), count, times, None);
        }
    }
}

#[cfg(test)]
mod tests;
