//! `io.prometheus.write.v2.Request`, remote write 2.0: texts stand once in a table, series refer to them by number.

use super::message::{Gathered, is_acceptable};
use super::write::RemoteError;
use crate::limits;
use crate::protobuf::{Fields, ProtobufError, Value};
use storage::model::labels::{METRIC_NAME, put_pair};
use storage::model::{LabelsBuilder, SeriesRef};
use storage::store::Store;

/// Reads one request.
pub struct Reader<'a> {
    store: &'a Store,
    symbols: Vec<&'a [u8]>,
    /// Memory for numbers, and for labels as the store encodes them.
    refs: Vec<u32>,
    encoded: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// A reader that resolves series in `store`.
    pub fn new(store: &'a Store) -> Reader<'a> {
        Reader { store, symbols: Vec::new(), refs: Vec::new(), encoded: Vec::new() }
    }

    /// Gathers what `message` holds: symbols (4), time series (5).
    pub fn read(&mut self, message: &'a [u8], into: &mut Gathered) -> Result<(), RemoteError> {
        let mut request = Fields::of(message);
        while let Some(field) = request.next_field()? {
            if let (4, Value::Bytes(symbol)) = field {
                self.symbols.push(symbol);
            }
        }
        if self.symbols.first().is_some_and(|first| !first.is_empty()) {
            return Err(RemoteError::BadRequest("symbols must start with an empty string".into()));
        }
        let mut request = Fields::of(message);
        while let Some(field) = request.next_field()? {
            if let (5, Value::Bytes(series)) = field {
                self.time_series(series, into)?;
            }
        }
        Ok(())
    }

    /// Reads one `TimeSeries`: labels (1), samples (2), histograms (3), exemplars (4), start of all of them (6, which
    /// senders wrote before samples had their own).
    fn time_series(&mut self, message: &[u8], into: &mut Gathered) -> Result<(), RemoteError> {
        let (mut refs, mut start) = (std::mem::take(&mut self.refs), 0);
        refs.clear();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => value.each_number(|n| refs.push(n as u32))?,
                6 => start = value.number() as i64,
                _ => {}
            }
        }
        let series = self.series(&refs);
        self.refs = refs;
        let mut fields = Fields::of(message);
        while let Some(field) = fields.next_field()? {
            match field {
                (2, Value::Bytes(sample)) => into.sample(series, sample, start)?,
                (3, Value::Bytes(histogram)) => into.histogram(series, histogram, start)?,
                (4, Value::Bytes(exemplar)) => self.exemplar(series, exemplar, into)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The series with these labels; `None` if no series can have them.
    fn series(&mut self, refs: &[u32]) -> Option<SeriesRef> {
        self.encoded.clear();
        let symbol = |n: u32| self.symbols.get(n as usize).copied().unwrap_or_default();
        for pair in refs.chunks_exact(2) {
            put_pair(&mut self.encoded, symbol(pair[0]), symbol(pair[1]));
        }
        // As in version 1. A number too many is looked at below.
        let known = self.store.find_encoded(&self.encoded).filter(|_| refs.len().is_multiple_of(2));
        known.or_else(|| {
            let labels = self.labels(refs).filter(|labels| !labels.get(METRIC_NAME).is_empty())?;
            Some(self.store.resolve(&labels.build()))
        })
    }

    /// The labels that these numbers mean, names and values in turn.
    fn labels(&self, refs: &[u32]) -> Option<LabelsBuilder> {
        let text = |n: u32| std::str::from_utf8(self.symbols.get(n as usize)?).ok();
        let mut labels = LabelsBuilder::default();
        if refs.len() > 2 * limits::LABELS_PER_SERIES {
            return None;
        }
        for pair in refs.chunks(2) {
            let (name, value) = (text(pair[0])?, text(*pair.get(1)?)?);
            if !is_acceptable(name, value, &labels) {
                return None;
            }
            labels.set(name, value);
        }
        Some(labels)
    }

    /// Reads an `Exemplar`: labels (1), value (2), time (3).
    fn exemplar(
        &self,
        series: Option<SeriesRef>,
        message: &[u8],
        into: &mut Gathered,
    ) -> Result<(), ProtobufError> {
        let (mut refs, mut v, mut t) = (Vec::new(), 0.0, 0);
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => value.each_number(|n| refs.push(n as u32))?,
                2 => v = value.double(),
                3 => t = value.number() as i64,
                _ => {}
            }
        }
        into.exemplar(series, self.labels(&refs).map(|labels| labels.build()), t, v);
        Ok(())
    }
}
