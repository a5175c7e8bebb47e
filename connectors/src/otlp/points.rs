//! Makes samples of data points: [`OtlpContent`] reads a request into a batch.
//!
//! A metric that has no translation fails the whole request, as in Prometheus; so the errors of all
//! metrics are collected, and the request is refused at its end, before anything is stored.

use super::delta::{DeltaPoint, DeltaStreams};
use super::histograms;
use super::labels::{AttributeLabels, LabelPair, ResourceLabels, point_labels, scope_labels};
use super::message::{
    ExponentialPoint, HistogramPoint, Metric, MetricData, NumberPoint, OtlpExemplar, RepeatedField,
    SummaryPoint, Temporality, decode, is_end, point_time, utf8,
};
use super::names::{LabelNames, MetricKind, NameError, unit_label};
use super::receiver::{DeltaSums, OtlpReceiver};
use super::{OtlpConfig, values};
use crate::limits::{OTLP_TARGET_INFO_SAMPLES, REFUSALS_NAMED};
use crate::native_histogram::RawHistogram;
use crate::otlp_common::{KeyValue, Resource, Scope};
use crate::protobuf::{FieldReader, FieldValue};
use crate::remote::RemoteWriteError;
use crate::remote::request::{Batch, RequestContent, WriteTimes, is_acceptable};
use storage::limits::{LABEL_NAME_BYTES, LABEL_VALUE_BYTES};
use storage::model::histogram::ResetHint;
use storage::model::labels::{METRIC_NAME, METRIC_TYPE, METRIC_UNIT, put_pair};
use storage::model::number::plain;
use storage::model::value::STALE;
use storage::model::{LabelsBuilder, SeriesRef, TimeMs};
use xxhash_rust::xxh3::Xxh3;

/// A request's message, in protobuf.
pub(super) struct OtlpContent<'a> {
    pub receiver: &'a OtlpReceiver,
    pub config: &'a OtlpConfig,
    pub message: &'a [u8],
    /// The wall clock, ms.
    pub now: TimeMs,
}

impl RequestContent for OtlpContent<'_> {
    fn read(&self, into: &mut Batch<'_>) -> Result<(), RemoteWriteError> {
        let mut translation = Translation {
            content: self,
            names: LabelNames::new(self.config),
            into,
            errors: TranslationErrors::default(),
            resource: ResourceLabels::default(),
            scope: Vec::new(),
            origin: 0,
            encoded: Vec::new(),
        };
        let mut resources = RepeatedField::new(self.message, 1);
        while let Some(message) = resources.next_message()? {
            translation.resource(message)?;
        }
        translation.errors.finish()
    }
}

/// What is wrong with the metrics of a request: the first texts, and how many there are.
#[derive(Default)]
struct TranslationErrors {
    texts: Vec<String>,
    total: usize,
}

impl TranslationErrors {
    /// Adds the error of a metric.
    fn add(&mut self, error: impl std::fmt::Display) {
        self.total += 1;
        if self.texts.len() < REFUSALS_NAMED {
            self.texts.push(error.to_string());
        }
    }

    /// All errors as one.
    fn finish(mut self) -> Result<(), RemoteWriteError> {
        if self.total == 0 {
            return Ok(());
        }
        let others = self.total - self.texts.len();
        if others > 0 {
            self.texts.push(format!("and {others} more"));
        }
        Err(RemoteWriteError::Untranslatable(self.texts.join("\n")))
    }
}

/// Why the rest of a metric is not read.
#[derive(Debug, thiserror::Error)]
enum MetricError {
    /// It has no translation: the request goes on, to find all errors.
    #[error("{0}")]
    Untranslatable(String),
    /// The request ends.
    #[error(transparent)]
    Request(#[from] RemoteWriteError),
}

impl From<NameError> for MetricError {
    fn from(error: NameError) -> MetricError {
        MetricError::Untranslatable(error.to_string())
    }
}

/// Times of the data points of a resource, ns.
#[derive(Copy, Clone, Debug)]
struct TimeSpan {
    first: u64,
    last: u64,
}

/// A metric as its series have it.
struct MetricTexts<'a> {
    source: &'a Metric<'a>,
    /// The name without `_sum` and the like.
    name: String,
    /// The type for `__type__`; empty: unknown.
    kind: &'static str,
    /// Whether its data points are deltas that are stored as they are.
    is_delta: bool,
}

/// The state of reading a request.
struct Translation<'a, 'b, 'c> {
    content: &'a OtlpContent<'a>,
    names: LabelNames,
    into: &'b mut Batch<'c>,
    errors: TranslationErrors,
    /// The resource and the scope whose metrics are read.
    resource: ResourceLabels,
    scope: Vec<LabelPair>,
    /// A hash of both.
    origin: u64,
    /// Buffer for encoded labels.
    encoded: Vec<u8>,
}

/// Nanoseconds as milliseconds.
fn ms(ns: u64) -> TimeMs {
    (ns / 1_000_000) as i64
}

impl Translation<'_, '_, '_> {
    /// Stores the metrics of one resource.
    fn resource(&mut self, message: &[u8]) -> Result<(), RemoteWriteError> {
        self.into.count_item()?;
        let mut bytes: &[u8] = &[];
        let mut parts = RepeatedField::new(message, 1);
        while let Some(resource) = parts.next_message()? {
            bytes = resource;
        }
        let resource: Resource = decode(bytes)?;
        match ResourceLabels::new(&resource.attributes, self.content.config) {
            Ok(labels) => self.resource = labels,
            Err(error) => {
                self.errors.add(error);
                return Ok(());
            }
        }
        let resource_hash = xxhash_rust::xxh3::xxh3_64(bytes);
        let mut span = None;
        let mut scopes = RepeatedField::new(message, 2);
        while let Some(scope) = scopes.next_message()? {
            self.scope(scope, resource_hash, &mut span)?;
        }
        let Some(span) = span else { return Ok(()) };
        match self.resource.target_info(&resource.attributes, self.content.config) {
            Ok(None) => Ok(()),
            Ok(Some(labels)) => self.target_info(labels, span),
            Err(error) => {
                self.errors.add(error);
                Ok(())
            }
        }
    }

    /// Stores the metrics of one scope.
    fn scope(
        &mut self,
        message: &[u8],
        resource_hash: u64,
        span: &mut Option<TimeSpan>,
    ) -> Result<(), RemoteWriteError> {
        self.into.count_item()?;
        let mut bytes: &[u8] = &[];
        let mut schema_url = "";
        let mut fields = FieldReader::new(message);
        while let Some(field) = fields.next_field()? {
            match field {
                (1, FieldValue::Bytes(scope)) => bytes = scope,
                (3, FieldValue::Bytes(url)) => schema_url = utf8(url)?,
                _ => {}
            }
        }
        let scope: Scope = decode(bytes)?;
        match scope_labels(&scope, schema_url, self.content.config) {
            Ok(labels) => self.scope = labels,
            Err(error) => {
                self.errors.add(error);
                return Ok(());
            }
        }
        let mut origin = Xxh3::with_seed(resource_hash);
        origin.update(bytes);
        self.origin = origin.digest();
        let mut metrics = RepeatedField::new(message, 2);
        while let Some(metric) = metrics.next_message()? {
            match self.metric(&Metric::read(metric)?, span) {
                Ok(()) => {}
                Err(MetricError::Untranslatable(text)) => self.errors.add(text),
                Err(MetricError::Request(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Stores the data points of one metric.
    fn metric(&mut self, metric: &Metric<'_>, span: &mut Option<TimeSpan>) -> Result<(), MetricError> {
        self.into.count_item()?;
        let mut is_empty = true;
        let mut points = metric.points();
        while let Some(point) = points.next_message()? {
            let time = point_time(point)?;
            let TimeSpan { first, last } = span.unwrap_or(TimeSpan { first: time, last: time });
            *span = Some(TimeSpan { first: first.min(time), last: last.max(time) });
            is_empty = false;
        }
        let Some(data) = metric.data else {
            let name = metric.name;
            return Err(MetricError::Untranslatable(format!(
                "could not get aggregation temporality for {name} as it has unsupported metric type Empty"
            )));
        };
        let is_delta = self.is_delta(metric, data)?;
        let kind = match data {
            MetricData::Gauge => MetricKind::Gauge,
            MetricData::Sum if metric.is_monotonic => MetricKind::Counter,
            MetricData::Sum => MetricKind::Sum,
            MetricData::Histogram | MetricData::Exponential => MetricKind::Histogram,
            MetricData::Summary => MetricKind::Summary,
        };
        let shown_kind = match kind {
            _ if is_delta => "",
            MetricKind::Gauge | MetricKind::Sum => "gauge",
            MetricKind::Counter => "counter",
            MetricKind::Histogram => "histogram",
            MetricKind::Summary => "summary",
        };
        let name = self.content.config.strategy().metric_name(metric.name, metric.unit, kind)?;
        let texts = MetricTexts { source: metric, name, kind: shown_kind, is_delta };
        if is_empty {
            return Err(MetricError::Untranslatable(format!(
                "empty data points. {} is dropped",
                metric.name
            )));
        }
        let mut points = metric.points();
        while let Some(point) = points.next_message()? {
            match data {
                MetricData::Gauge | MetricData::Sum => self.number(decode(point)?, data, &texts)?,
                MetricData::Histogram => self.histogram(decode(point)?, &texts)?,
                MetricData::Exponential => self.exponential(decode(point)?, &texts)?,
                MetricData::Summary => self.summary(&decode(point)?, &texts)?,
            }
        }
        Ok(())
    }

    /// Whether the data points are deltas that are stored as they are. An error if the values of
    /// the metric cannot be stored.
    fn is_delta(&self, metric: &Metric<'_>, data: MetricData) -> Result<bool, MetricError> {
        // The others are neither.
        if matches!(data, MetricData::Gauge | MetricData::Summary) {
            return Ok(false);
        }
        match (metric.temporality, self.content.receiver.features.deltas) {
            (Temporality::Cumulative, _) | (Temporality::Delta, DeltaSums::Cumulative) => Ok(false),
            (Temporality::Delta, DeltaSums::Native) => Ok(true),
            (Temporality::Delta, DeltaSums::Refused) | (Temporality::Unspecified, _) => {
                let name = metric.name;
                Err(MetricError::Untranslatable(format!(
                    "invalid temporality and type combination for metric {name:?}"
                )))
            }
        }
    }

    /// Counts a warning, once for each request.
    fn warn(
        &self,
        category: impl FnOnce(&super::receiver::TranslationWarnings) -> &storage::metrics::Counter,
    ) {
        if !self.into.only_checks() {
            category(&self.content.receiver.warnings).inc();
        }
    }

    /// The labels of a data point's series, with the name of the metric.
    fn labels(&self, attributes: &[KeyValue], metric: &MetricTexts<'_>) -> Result<LabelsBuilder, NameError> {
        let AttributeLabels { mut labels, has_collision } =
            point_labels(attributes, &self.resource, &self.scope, self.names)?;
        if has_collision {
            self.warn(|warnings| &warnings.label_name_collision);
        }
        if self.content.receiver.features.type_and_unit {
            // Twice, as in Prometheus: `_s` is `s` first, and `seconds` then.
            let unit = unit_label(&unit_label(metric.source.unit));
            for (name, value) in [(METRIC_TYPE, metric.kind), (METRIC_UNIT, unit.as_str())] {
                if !value.is_empty() {
                    labels.set(name, value);
                }
            }
        }
        labels.set(METRIC_NAME, metric.name.as_str());
        Ok(labels)
    }

    /// The series with these labels; `None` if they are not valid, or nothing is to be stored.
    fn series(&mut self, labels: &LabelsBuilder) -> Result<Option<SeriesRef>, RemoteWriteError> {
        self.encoded.clear();
        let mut is_valid = !labels.get(METRIC_NAME).is_empty();
        let mut num_labels = 0;
        for (name, value) in labels.pairs().iter().filter(|(_, value)| !value.is_empty()) {
            is_valid &= name.len() <= LABEL_NAME_BYTES && value.len() <= LABEL_VALUE_BYTES;
            num_labels += 1;
            put_pair(&mut self.encoded, name.as_bytes(), value.as_bytes());
        }
        is_valid &= num_labels <= crate::limits::SERIES_LABELS;
        is_valid &= self.encoded.len() <= crate::limits::SERIES_BYTES;
        self.into.count_labels(self.encoded.len())?;
        if self.into.only_checks() {
            return Ok(None);
        }
        if !is_valid {
            let name = labels.get(METRIC_NAME).to_owned();
            self.into.name_refused(|| {
                format!("invalid metric name or labels: none, too many, or too long, of metric {name:?}")
            });
            return Ok(None);
        }
        let store = &self.content.receiver.store;
        let known = store.series().find_encoded(&self.encoded);
        Ok(Some(known.unwrap_or_else(|| store.get_or_create_series(&labels.build()))))
    }

    /// The times of a sample. The start is used only if something is made of it.
    fn times(&self, time: u64, start: u64) -> WriteTimes {
        let start = if self.content.receiver.features.starts { ms(start) } else { 0 };
        WriteTimes { t: ms(time), start }
    }

    /// Adds a sample of the series with these labels.
    fn sample(
        &mut self,
        labels: &LabelsBuilder,
        v: f64,
        times: WriteTimes,
    ) -> Result<Option<SeriesRef>, RemoteWriteError> {
        let series = self.series(labels)?;
        self.into.float(series, v, times)?;
        Ok(series)
    }

    /// Makes a delta the sum so far, if the metric has deltas and sums of them are stored. Returns
    /// whether the point is to be stored.
    fn cumulate<P: DeltaPoint>(
        &self,
        point: &mut P,
        labels: &LabelsBuilder,
        metric: &MetricTexts<'_>,
    ) -> Result<bool, MetricError> {
        // A request that is only verified must not be added up.
        if metric.source.temporality != Temporality::Delta || metric.is_delta || self.into.only_checks() {
            return Ok(true);
        }
        let mut key = Xxh3::with_seed(self.origin);
        for (name, value) in labels.pairs() {
            for text in [name, value] {
                key.update(&(text.len() as u64).to_le_bytes());
                key.update(text.as_bytes());
            }
        }
        let now = self.content.now;
        let streams: &parking_lot::Mutex<DeltaStreams> = &self.content.receiver.deltas;
        let added = streams.lock().add(key.digest128(), point, now);
        added.map_err(|full| MetricError::Request(RemoteWriteError::Busy(full.to_string())))
    }

    fn number(
        &mut self,
        mut point: NumberPoint,
        data: MetricData,
        metric: &MetricTexts<'_>,
    ) -> Result<(), MetricError> {
        let labels = self.labels(&point.attributes, metric)?;
        let is_sum = data == MetricData::Sum;
        if is_sum && !self.cumulate(&mut point, &labels, metric)? {
            return Ok(());
        }
        let v = if is_end(point.flags) { STALE } else { point.value() };
        let series = self.sample(&labels, v, self.times(point.time, point.start))?;
        if is_sum {
            for exemplar in &point.exemplars {
                self.exemplar(series, exemplar)?;
            }
        }
        Ok(())
    }

    /// Stores a data point with explicit bounds: as classic series, or as a native histogram.
    fn histogram(&mut self, mut point: HistogramPoint, metric: &MetricTexts<'_>) -> Result<(), MetricError> {
        let labels = self.labels(&point.attributes, metric)?;
        if !self.cumulate(&mut point, &labels, metric)? {
            return Ok(());
        }
        if self.content.config.convert_histograms_to_nhcb {
            self.check_empty(point.count, point.sum);
            let raw = histograms::custom(&point, metric.hint());
            return self.native(&labels, raw, self.times(point.time, point.start), &point.exemplars);
        }
        self.classic_histogram(&point, labels, metric)
    }

    /// Adds a histogram as `_sum`, `_count` and `_bucket`.
    fn classic_histogram(
        &mut self,
        point: &HistogramPoint,
        mut labels: LabelsBuilder,
        metric: &MetricTexts<'_>,
    ) -> Result<(), MetricError> {
        let times = self.times(point.time, point.start);
        let value = |v: f64| if is_end(point.flags) { STALE } else { v };
        if let Some(sum) = point.sum {
            labels.set(METRIC_NAME, format!("{}_sum", metric.name));
            self.sample(&labels, value(sum), times)?;
        }
        labels.set(METRIC_NAME, format!("{}_count", metric.name));
        self.sample(&labels, value(point.count as f64), times)?;
        labels.set(METRIC_NAME, format!("{}_bucket", metric.name));
        let num_buckets = point.bounds.len().min(point.bucket_counts.len());
        let bounds = &point.bounds[..num_buckets];
        // An exemplar belongs to the first bucket that has it.
        let mut exemplars: Vec<(usize, &OtlpExemplar)> = point
            .exemplars
            .iter()
            .map(|exemplar| (bounds.partition_point(|bound| *bound < exemplar.value()), exemplar))
            .collect();
        exemplars.sort_by_key(|(bucket, _)| *bucket);
        let mut exemplars = exemplars.into_iter().peekable();
        let mut below = 0u64;
        for n in 0..=num_buckets {
            let bound = bounds.get(n).copied().unwrap_or(f64::INFINITY);
            below = below.saturating_add(point.bucket_counts.get(n).copied().unwrap_or(0));
            // The last is the count itself, also if the buckets do not add up to it.
            let count = if n < num_buckets { below } else { point.count };
            labels.set("le", plain(bound));
            let series = self.sample(&labels, value(count as f64), times)?;
            while let Some((_, exemplar)) = exemplars.next_if(|(bucket, _)| *bucket == n) {
                self.exemplar(series, exemplar)?;
            }
        }
        Ok(())
    }

    /// Stores a data point of an exponential histogram.
    fn exponential(
        &mut self,
        mut point: ExponentialPoint,
        metric: &MetricTexts<'_>,
    ) -> Result<(), MetricError> {
        let labels = self.labels(&point.attributes, metric)?;
        if !self.cumulate(&mut point, &labels, metric)? {
            return Ok(());
        }
        self.check_empty(point.count, point.sum);
        let raw = histograms::exponential(&point, metric.hint())
            .map_err(|error| MetricError::Untranslatable(error.to_string()))?;
        self.native(&labels, raw, self.times(point.time, point.start), &point.exemplars)
    }

    /// Warns of a histogram without observations that has a sum.
    fn check_empty(&self, count: u64, sum: Option<f64>) {
        if count == 0 && sum.is_some_and(|sum| sum != 0.0) {
            self.warn(|warnings| &warnings.zero_count_non_zero_sum);
        }
    }

    /// Adds a native histogram and its exemplars.
    fn native(
        &mut self,
        labels: &LabelsBuilder,
        raw: RawHistogram,
        times: WriteTimes,
        exemplars: &[OtlpExemplar],
    ) -> Result<(), MetricError> {
        let series = self.series(labels)?;
        self.into.native_histogram(series, raw, times)?;
        for exemplar in exemplars {
            self.exemplar(series, exemplar)?;
        }
        Ok(())
    }

    /// Stores a data point of a summary.
    fn summary(&mut self, point: &SummaryPoint, metric: &MetricTexts<'_>) -> Result<(), MetricError> {
        let mut labels = self.labels(&point.attributes, metric)?;
        let times = self.times(point.time, point.start);
        let value = |v: f64| if is_end(point.flags) { STALE } else { v };
        for (suffix, v) in [("sum", point.sum), ("count", point.count as f64)] {
            labels.set(METRIC_NAME, format!("{}_{suffix}", metric.name));
            self.sample(&labels, value(v), times)?;
        }
        labels.set(METRIC_NAME, metric.name.as_str());
        for quantile in &point.quantiles {
            labels.set("quantile", plain(quantile.quantile));
            self.sample(&labels, value(quantile.value), times)?;
        }
        Ok(())
    }

    /// Stores an exemplar.
    fn exemplar(&mut self, series: Option<SeriesRef>, exemplar: &OtlpExemplar) -> Result<(), MetricError> {
        if exemplar.double.is_none() && exemplar.integer.is_none() {
            return Err(MetricError::Untranslatable("unsupported exemplar value type: Empty".to_owned()));
        }
        let labels = exemplar_labels(exemplar).map(|labels| labels.build());
        self.into.count_labels(labels.as_ref().map_or(0, |labels| labels.encoded().len()))?;
        Ok(self.into.exemplar(series, labels, ms(exemplar.time), exemplar.value())?)
    }

    /// Adds `target_info` from the first data point of the resource to the last.
    fn target_info(&mut self, made: AttributeLabels, span: TimeSpan) -> Result<(), RemoteWriteError> {
        let AttributeLabels { mut labels, has_collision } = made;
        if has_collision {
            self.warn(|warnings| &warnings.label_name_collision);
        }
        labels.set(METRIC_NAME, "target_info");
        let TimeSpan { first, last } = span;
        // Queries look back by twice this.
        let step = (self.content.receiver.features.lookback_ms.max(2) as u64 / 2) * 1_000_000;
        // A data point without a time is one of 1970, and would be the first of millions.
        let from = first.max(last.saturating_sub(step * OTLP_TARGET_INFO_SAMPLES));
        let series = self.series(&labels)?;
        let mut time = from;
        while time < last {
            self.into.float(series, 1.0, WriteTimes { t: ms(time), start: 0 })?;
            time += step;
        }
        self.into.float(series, 1.0, WriteTimes { t: ms(last), start: 0 })
    }
}

impl MetricTexts<'_> {
    /// The counter reset hint of its histograms.
    fn hint(&self) -> ResetHint {
        if self.is_delta { ResetHint::Gauge } else { ResetHint::Unknown }
    }
}

impl NumberPoint {
    /// The value; 0 if there is none.
    pub(super) fn value(&self) -> f64 {
        number(self.double, self.integer)
    }
}

impl OtlpExemplar {
    fn value(&self) -> f64 {
        number(self.double, self.integer)
    }
}

fn number(double: Option<f64>, integer: Option<i64>) -> f64 {
    integer.map(|integer| integer as f64).or(double).unwrap_or(0.0)
}

/// The most characters of the labels of an exemplar (OpenMetrics).
const EXEMPLAR_CHARS: usize = 128;

/// The labels of an exemplar: trace and span, and the attributes if all are short enough. `None`:
/// they are not valid labels.
fn exemplar_labels(exemplar: &OtlpExemplar) -> Option<LabelsBuilder> {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let mut labels = LabelsBuilder::default();
    let mut num_chars = 0;
    for (name, id) in [("trace_id", &exemplar.trace_id), ("span_id", &exemplar.span_id)] {
        // Zeros are how a missing one is written.
        if id.iter().any(|byte| *byte != 0) {
            let id = hex(id);
            num_chars += name.chars().count() + id.chars().count();
            labels.set(name, id);
        }
    }
    let attributes: Vec<LabelPair> = exemplar
        .attributes
        .iter()
        .map(|pair| LabelPair { name: pair.key.clone(), value: values::text(pair.value.as_ref()) })
        .collect();
    num_chars +=
        attributes.iter().map(|pair| pair.name.chars().count() + pair.value.chars().count()).sum::<usize>();
    if num_chars <= EXEMPLAR_CHARS {
        for LabelPair { name, value } in attributes {
            if !is_acceptable(&name, &value, &labels) {
                return None;
            }
            labels.set(name, value);
        }
    }
    Some(labels)
}
