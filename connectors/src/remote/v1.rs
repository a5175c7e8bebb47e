//! Decodes `prometheus.WriteRequest`, the message of remote write 1.0, in which every series has
//! its labels as texts. [`super::request`] stores the items.

use super::labels::each_label;
use super::receiver::RemoteWriteError;
use super::request::{Batch, is_acceptable};
use crate::limits;
use crate::protobuf::{FieldReader, FieldValue, ProtobufError};
use storage::model::labels::{METRIC_NAME, put_pair};
use storage::model::{LabelsBuilder, SeriesRef};
use storage::store::Store;

/// Decodes a request.
pub(super) struct V1Reader<'a> {
    store: &'a Store,
    /// Buffer for encoded labels.
    encoded: Vec<u8>,
}

impl<'a> V1Reader<'a> {
    /// A reader that looks up series in `store`.
    pub(super) fn new(store: &'a Store) -> V1Reader<'a> {
        V1Reader { store, encoded: Vec::new() }
    }

    /// Decodes a request into a batch.
    pub(super) fn read(&mut self, message: &[u8], into: &mut Batch<'_>) -> Result<(), RemoteWriteError> {
        let mut request = FieldReader::new(message);
        while let Some(field) = request.next_field()? {
            if let (1, FieldValue::Bytes(series)) = field {
                self.time_series(series, into)?;
            }
        }
        Ok(())
    }

    /// Decodes a `TimeSeries`: labels (1), samples (2), exemplars (3), histograms (4).
    fn time_series(&mut self, message: &[u8], into: &mut Batch<'_>) -> Result<(), RemoteWriteError> {
        let mut fields = FieldReader::new(message);
        let mut series = None;
        // Senders write all labels first: these are the bytes up to the first other field.
        let mut labels_end = 0;
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                // The bytes up to the first sample are the key by which a known series is found, so
                // labels after samples would change the series of samples that are read already.
                (1, _) if series.is_none() => labels_end = fields.position(),
                (1, _) => {
                    return Err(RemoteWriteError::BadRequest("labels after samples in a time series".into()));
                }
                (2..=4, FieldValue::Bytes(item)) => {
                    let found = match series {
                        Some(found) => found,
                        None => self.series(&message[..labels_end], into)?,
                    };
                    series = Some(found);
                    match number {
                        2 => into.sample(found, item, 0)?,
                        3 => read_exemplar(found, item, into)?,
                        _ => into.histogram(found, item, 0)?,
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The series whose labels are encoded in `fields`; `None` if they are not valid labels.
    /// Senders write labels in the order of the store's encoding, so a known series is found by its
    /// bytes; only unknown ones are validated.
    fn series(&mut self, fields: &[u8], into: &Batch<'_>) -> Result<Option<SeriesRef>, RemoteWriteError> {
        self.encoded.clear();
        each_label(fields, |name, value| {
            put_pair(&mut self.encoded, name, value);
            Ok::<(), ProtobufError>(())
        })?;
        // Series must not be created by a request that turns out to be damaged.
        if into.only_checks() {
            return Ok(None);
        }
        // Nearly always: no text is checked and no label set built, because an encoding that is
        // stored has been valid once.
        if let Some(known) = self.store.series().find_encoded(&self.encoded) {
            return Ok(Some(known));
        }
        // Without a name it is no series. Prometheus leaves it out of a version 1.0 request without
        // an error.
        let labels = read_labels(fields)?.filter(|labels| !labels.get(METRIC_NAME).is_empty());
        Ok(labels.map(|labels| self.store.get_or_create_series(&labels.build())))
    }
}

/// Decodes an `Exemplar`: labels (1), value (2), time (3).
fn read_exemplar(
    series: Option<SeriesRef>,
    message: &[u8],
    into: &mut Batch<'_>,
) -> Result<(), RemoteWriteError> {
    let mut v = 0.0;
    let mut t = 0;
    let mut fields = FieldReader::new(message);
    while let Some(field) = fields.next_field()? {
        match field {
            (2, value) => v = value.double(),
            (3, time) => t = time.number() as i64,
            _ => {}
        }
    }
    into.exemplar(series, read_labels(message)?.map(|labels| labels.build()), t, v)
}

/// The labels in the first field of `message`; `None` if they are not valid.
fn read_labels(message: &[u8]) -> Result<Option<LabelsBuilder>, ProtobufError> {
    let mut labels = LabelsBuilder::default();
    let mut valid = true;
    let mut bytes = 0;
    each_label(message, |name, value| {
        bytes += name.len() + value.len();
        match (std::str::from_utf8(name), std::str::from_utf8(value)) {
            (Ok(name), Ok(value)) if bytes <= limits::SERIES_BYTES && is_acceptable(name, value, &labels) => {
                labels.set(name, value);
            }
            _ => valid = false,
        }
        Ok::<(), ProtobufError>(())
    })?;
    Ok(valid.then_some(labels))
}
