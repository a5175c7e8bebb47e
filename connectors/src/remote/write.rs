//! The receiving side of Prometheus' remote write 1.0: a snappy block with a `WriteRequest`.
//!
//! A request is decoded completely before a sample is stored. Samples that cannot be stored (too old, duplicate,
//! without a name, …) do not keep the others out; they make the answer a 400, which tells the sender not
//! to try again. Only a store that cannot write makes it a 5xx, which tells it to.

use super::protobuf::{Fields, ProtobufError, Value};
use super::series_cache::LabelBytesCache;
use crate::decompress::{DecompressError, unsnappy};
use crate::limits;
use std::sync::Arc;
use storage::model::value::sanitize;
use storage::model::{LabelsBuilder, SeriesRef, TimeMs, labels::METRIC_NAME};
use storage::store::{Row, Store, StoreError};

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Not what remote write 1.0 sends.
    #[error("{0}")]
    BadRequest(String),
    /// Encoded in a way we do not read.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// The store cannot take it now.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

impl RemoteError {
    /// The HTTP status that says so.
    pub fn status(&self) -> u16 {
        match self {
            RemoteError::BadRequest(_) => 400,
            RemoteError::UnsupportedMediaType(_) => 415,
            RemoteError::Unavailable(_) => 503,
        }
    }
}

impl From<ProtobufError> for RemoteError {
    fn from(error: ProtobufError) -> Self {
        RemoteError::BadRequest(error.to_string())
    }
}

impl From<DecompressError> for RemoteError {
    fn from(error: DecompressError) -> Self {
        RemoteError::BadRequest(error.to_string())
    }
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteWritten {
    /// Log position to wait for before answering (see [`Store::on_committed`]); 0: nothing was stored.
    pub lsn: u64,
    /// Samples stored.
    pub samples: usize,
    /// Samples behind the out-of-order window.
    pub too_old: usize,
    /// Samples whose series has another value at the same time.
    pub duplicate: usize,
    /// Samples too far in the future.
    pub future: usize,
    /// Samples of series that cannot be: without a name, a label twice, not UTF-8.
    pub invalid: usize,
    /// Native histograms, which this build does not store.
    pub histograms: usize,
}

impl RemoteWritten {
    /// The text of the 400 that the request deserves although the rest of it was stored; `None` if all is well.
    pub fn refusal(&self) -> Option<String> {
        let reasons = [
            (self.too_old, "out of order sample"),
            (self.duplicate, "duplicate sample for timestamp"),
            (self.future, "out of bounds"),
            (self.invalid, "invalid labels"),
            (self.histograms, "native histograms are not supported by this build"),
        ];
        let said: Vec<String> = reasons
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, reason)| format!("{reason} ({n} samples)"))
            .collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// Takes remote-write requests into a store.
pub struct RemoteWriter {
    store: Arc<Store>,
    cache: LabelBytesCache,
}

/// Refuses what is not remote write 1.0, by the request's headers (`None`: not sent, which counts as right).
pub fn check_headers(content_type: Option<&str>, content_encoding: Option<&str>) -> Result<(), RemoteError> {
    let content_type = content_type.unwrap_or("");
    let mut parts = content_type.split(';').map(str::trim);
    let is_protobuf = content_type.is_empty() || parts.next() == Some("application/x-protobuf");
    let version_1 =
        parts.filter_map(|p| p.strip_prefix("proto=")).all(|proto| proto == "prometheus.WriteRequest");
    if !is_protobuf || !version_1 {
        let text = format!(
            "{content_type:?} content type is not supported: expected application/x-protobuf;proto=prometheus.WriteRequest"
        );
        return Err(RemoteError::UnsupportedMediaType(text));
    }
    match content_encoding {
        None | Some("" | "snappy") => Ok(()),
        Some(other) => Err(RemoteError::UnsupportedMediaType(format!(
            "{other} encoding (compression) is not accepted by this server; only snappy is acceptable"
        ))),
    }
}

impl RemoteWriter {
    /// A writer into `store`; keep it, it remembers series.
    pub fn new(store: Arc<Store>) -> RemoteWriter {
        RemoteWriter { store, cache: LabelBytesCache::default() }
    }

    /// Decodes a request body and appends its samples. `now`: the wall clock, ms.
    pub fn apply(&self, body: &[u8], now: TimeMs) -> Result<RemoteWritten, RemoteError> {
        let message = unsnappy(body, limits::REMOTE_WRITE_BYTES)?;
        let mut written = RemoteWritten::default();
        let mut rows = Vec::new();
        let mut request = Fields::of(&message);
        while let Some(field) = request.next_field()? {
            if let (1, Value::Bytes(series)) = field {
                self.time_series(series, now, &mut rows, &mut written)?;
            }
        }
        if rows.is_empty() {
            return Ok(written);
        }
        let appended = self.store.append_rows(&rows)?;
        written.lsn = appended.lsn;
        written.samples = appended.stored;
        written.too_old = appended.too_old;
        written.duplicate = appended.duplicate;
        Ok(written)
    }

    /// Reads one `TimeSeries`: labels (1), samples (2), exemplars (3, passed over), histograms (4, counted).
    fn time_series(
        &self,
        message: &[u8],
        now: TimeMs,
        rows: &mut Vec<Row>,
        written: &mut RemoteWritten,
    ) -> Result<(), RemoteError> {
        let mut fields = Fields::of(message);
        let mut series = None;
        // Senders write all labels first; the bytes up to the first other field are the key.
        let mut labels_end = 0;
        while let Some(field) = fields.next_field()? {
            match field {
                (1, _) if series.is_none() => labels_end = fields.position(),
                (1, _) => {
                    return Err(RemoteError::BadRequest("labels after samples in a time series".into()));
                }
                (2, Value::Bytes(sample)) => {
                    let found = match series {
                        Some(found) => found,
                        None => self.series(&message[..labels_end])?,
                    };
                    series = Some(found);
                    let (t, v) = read_sample(sample)?;
                    match found {
                        _ if t > now + limits::FUTURE_MS => written.future += 1,
                        Some(series) => rows.push(Row { series, t, v }),
                        None => written.invalid += 1,
                    }
                }
                (4, _) => written.histograms += 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// The series whose labels are encoded in `fields`; `None` if no series can have them.
    fn series(&self, fields: &[u8]) -> Result<Option<SeriesRef>, RemoteError> {
        self.cache.get(fields, || Ok(read_labels(fields)?.map(|labels| self.store.resolve(&labels.build()))))
    }
}

fn read_sample(message: &[u8]) -> Result<(TimeMs, f64), ProtobufError> {
    let (mut t, mut v) = (0, 0.0);
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next_field()? {
        match field {
            (1, Value::Fixed64(bits)) => v = sanitize(f64::from_bits(bits)),
            (2, Value::Varint(n)) => t = n as i64,
            _ => {}
        }
    }
    Ok((t, v))
}

/// The labels encoded in `fields`; `None` if no series can have them.
fn read_labels(fields: &[u8]) -> Result<Option<LabelsBuilder>, ProtobufError> {
    let mut labels = LabelsBuilder::default();
    let mut fields = Fields::of(fields);
    let mut valid = true;
    while let Some(field) = fields.next_field()? {
        let (1, Value::Bytes(label)) = field else { continue };
        let (mut name, mut value) = (&b""[..], &b""[..]);
        let mut parts = Fields::of(label);
        while let Some(part) = parts.next_field()? {
            match part {
                (1, Value::Bytes(bytes)) => name = bytes,
                (2, Value::Bytes(bytes)) => value = bytes,
                _ => {}
            }
        }
        match (std::str::from_utf8(name), std::str::from_utf8(value)) {
            (Ok(name), Ok(value)) if is_acceptable(name, value, &labels) => {
                labels.set(name, value);
            }
            _ => valid = false,
        }
    }
    Ok((valid && !labels.get(METRIC_NAME).is_empty()).then_some(labels))
}

fn is_acceptable(name: &str, value: &str, labels: &LabelsBuilder) -> bool {
    !name.is_empty()
        && name.len() <= limits::LABEL_NAME_BYTES
        && value.len() <= limits::LABEL_VALUE_BYTES
        && labels.pairs().len() < limits::LABELS_PER_SERIES
        && labels.pairs().iter().all(|(n, _)| n != name)
}

#[cfg(test)]
mod tests;
