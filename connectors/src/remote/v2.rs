//! Decodes `io.prometheus.write.v2.Request`, the message of remote write 2.0, in which labels are
//! numbers of texts in a table ("symbols"). [`super::request`] stores the items.

use super::receiver::RemoteWriteError;
use super::refused_samples::braced_pairs;
use super::request::{Batch, is_acceptable};
use crate::limits;
use crate::protobuf::{FieldReader, FieldValue, ProtobufError};
use std::collections::HashSet;
use storage::model::labels::{METRIC_NAME, put_pair};
use storage::model::{LabelsBuilder, SeriesRef};
use storage::store::Store;

/// The position of a text in its message. A slice would take twice the memory; a message is shorter
/// than 4 GiB.
#[derive(Copy, Clone)]
struct Symbol {
    start: u32,
    length: u32,
}

/// Decodes a request.
pub(super) struct V2Reader<'a> {
    store: &'a Store,
    message: &'a [u8],
    symbols: Vec<Symbol>,
    /// Buffers for references, and for encoded labels.
    refs: Vec<u32>,
    encoded: Vec<u8>,
}

impl<'a> V2Reader<'a> {
    /// A reader that looks up series in `store`.
    pub(super) fn new(store: &'a Store) -> V2Reader<'a> {
        V2Reader { store, message: &[], symbols: Vec::new(), refs: Vec::new(), encoded: Vec::new() }
    }

    /// Decodes a request into a batch: symbols (4), time series (5).
    pub(super) fn read(&mut self, message: &'a [u8], into: &mut Batch<'_>) -> Result<(), RemoteWriteError> {
        self.message = message;
        let mut request = FieldReader::new(message);
        while let Some(field) = request.next_field()? {
            if let (4, FieldValue::Bytes(symbol)) = field {
                // Two bytes of a message can be a symbol, which takes eight bytes here.
                if self.symbols.len() == limits::REMOTE_WRITE_SYMBOLS {
                    return Err(too_many_symbols());
                }
                let start = (request.position() - symbol.len()) as u32;
                self.symbols.push(Symbol { start, length: symbol.len() as u32 });
            }
        }
        // The specification requires it; a table that begins otherwise was cut or is of something
        // else, and every reference would be off by one.
        if self.symbols.first().is_some_and(|first| first.length > 0) {
            return Err(RemoteWriteError::BadRequest("symbols must start with an empty string".into()));
        }
        // Twice through the message: symbols may come after the series that refer to them.
        let mut request = FieldReader::new(message);
        while let Some(field) = request.next_field()? {
            if let (5, FieldValue::Bytes(series)) = field {
                self.time_series(series, into)?;
            }
        }
        Ok(())
    }

    /// Decodes a `TimeSeries`: labels (1), samples (2), histograms (3), exemplars (4), start
    /// timestamp for all (6, from senders that do not write it per sample).
    fn time_series(&mut self, message: &[u8], into: &mut Batch<'_>) -> Result<(), RemoteWriteError> {
        let mut refs = std::mem::take(&mut self.refs);
        let mut start = 0;
        let mut has_samples = false;
        refs.clear();
        let mut fields = FieldReader::new(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => push_refs(value, &mut refs)?,
                2 | 3 => has_samples = true,
                // Some senders give one start timestamp for all samples of a series, some one for
                // each.
                6 => start = value.number() as i64,
                _ => {}
            }
        }
        // Version 2.0 makes it an error, and metadata alone must not create a series.
        if !has_samples {
            self.refuse_empty(&refs, message, into)?;
            self.refs = refs;
            return Ok(());
        }
        let mut series = None;
        let mut fields = FieldReader::new(message);
        while let Some((number, value)) = fields.next_field()? {
            let (2..=4, FieldValue::Bytes(item)) = (number, value) else { continue };
            let found = match series {
                Some(found) => found,
                None => self.series(&refs, into)?,
            };
            series = Some(found);
            match number {
                2 => into.sample(found, item, start)?,
                3 => into.histogram(found, item, start)?,
                _ => self.exemplar(found, item, into)?,
            }
        }
        self.refs = refs;
        Ok(())
    }

    /// Refuses a series without samples, and its exemplars with it.
    fn refuse_empty(
        &self,
        refs: &[u32],
        message: &[u8],
        into: &mut Batch<'_>,
    ) -> Result<(), RemoteWriteError> {
        let mut fields = FieldReader::new(message);
        while let Some((number, _)) = fields.next_field()? {
            if number == 4 {
                into.pass_over()?;
            }
        }
        if !into.only_checks() {
            into.refuse_empty(|| match self.refusal(refs) {
                Some(refusal) => refusal,
                None => format!(
                    "TimeSeries must contain at least one sample or histogram for series {}",
                    braced_pairs(self.pairs(refs))
                ),
            });
        }
        Ok(())
    }

    /// Why these labels are invalid, with Prometheus' text; `None` if they are valid.
    fn refusal(&self, refs: &[u32]) -> Option<String> {
        // References are names and values in turn.
        if !refs.len().is_multiple_of(2) {
            let length = refs.len();
            return Some(format!("parsing labels for series {refs:?}: invalid labelRefs length {length}"));
        }
        let outside = |pair: &&[u32]| pair.iter().any(|n| *n as usize >= self.symbols.len());
        if let Some(pair) = refs.chunks_exact(2).find(outside) {
            let shown = &refs[..refs.len().min(20)];
            let size = self.symbols.len();
            let shown: Vec<String> = shown.iter().map(u32::to_string).collect();
            return Some(format!(
                "parsing labels for series [{}]: labelRefs {} (name) = {} (value) outside of symbols table (size {size})",
                shown.join(" "),
                pair[0],
                pair[1]
            ));
        }
        if self.labels(refs).is_some_and(|labels| !labels.get(METRIC_NAME).is_empty()) {
            return None;
        }
        let pairs = braced_pairs(self.pairs(refs));
        let mut seen = HashSet::new();
        match refs.chunks_exact(2).take(limits::SERIES_LABELS).find(|pair| !seen.insert(self.symbol(pair[0])))
        {
            Some(twice) if self.pairs(refs).any(|(name, _)| name == METRIC_NAME) => {
                let name = String::from_utf8_lossy(self.symbol(twice[0]).unwrap_or_default());
                Some(format!("invalid labels for series, labels {pairs}, duplicated label {name}"))
            }
            _ => Some(format!("invalid metric name or labels, got {pairs}")),
        }
    }

    /// The texts of these references; those that are not text are left out.
    fn pairs(&self, refs: &[u32]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let text = |n: u32| std::str::from_utf8(self.symbol(n)?).ok();
        refs.chunks_exact(2).filter_map(move |pair| Some((text(pair[0])?, text(pair[1])?)))
    }

    /// The series with these labels; `None` if they are invalid, which is reported.
    fn series(&mut self, refs: &[u32], into: &mut Batch<'_>) -> Result<Option<SeriesRef>, RemoteWriteError> {
        if into.only_checks() {
            return Ok(None);
        }
        // Checked before the labels are expanded: a reference of two bytes can refer to a text of
        // any length.
        if refs.len() > MOST_REFS || self.written_out(refs) > limits::SERIES_BYTES {
            into.name_refused(|| "invalid metric name or labels: too many, or too long".to_owned());
            return Ok(None);
        }
        self.encoded.clear();
        for pair in refs.chunks_exact(2) {
            let name = self.symbol(pair[0]).unwrap_or_default();
            let value = self.symbol(pair[1]).unwrap_or_default();
            // Counted as they are written out: ten bytes of references can stand for a megabyte of
            // text, in every series of the request.
            into.count_labels(name.len() + value.len())?;
            put_pair(&mut self.encoded, name, value);
        }
        // As in version 1.0. An odd number of references is reported below.
        let known = self.store.series().find_encoded(&self.encoded).filter(|_| refs.len().is_multiple_of(2));
        if known.is_some() {
            return Ok(known);
        }
        match self.labels(refs).filter(|labels| !labels.get(METRIC_NAME).is_empty()) {
            Some(labels) => Ok(Some(self.store.get_or_create_series(&labels.build()))),
            None => {
                into.name_refused(|| {
                    self.refusal(refs).unwrap_or_else(|| "invalid metric name or labels".to_owned())
                });
                Ok(None)
            }
        }
    }

    /// The text of a reference; `None` if there is none.
    fn symbol(&self, n: u32) -> Option<&'a [u8]> {
        let Symbol { start, length } = *self.symbols.get(n as usize)?;
        self.message.get(start as usize..)?.get(..length as usize)
    }

    /// Total length of the texts of these references.
    fn written_out(&self, refs: &[u32]) -> usize {
        refs.iter().filter_map(|n| self.symbols.get(*n as usize)).map(|symbol| symbol.length as usize).sum()
    }

    /// The labels of these references, which are names and values in turn.
    fn labels(&self, refs: &[u32]) -> Option<LabelsBuilder> {
        let text = |n: u32| std::str::from_utf8(self.symbol(n)?).ok();
        let mut labels = LabelsBuilder::default();
        if refs.len() > MOST_REFS || self.written_out(refs) > limits::SERIES_BYTES {
            return None;
        }
        for pair in refs.chunks(2) {
            let name = text(pair[0])?;
            let value = text(*pair.get(1)?)?;
            if !is_acceptable(name, value, &labels) {
                return None;
            }
            labels.set(name, value);
        }
        Some(labels)
    }

    /// Decodes an `Exemplar`: labels (1), value (2), time (3).
    fn exemplar(
        &mut self,
        series: Option<SeriesRef>,
        message: &[u8],
        into: &mut Batch<'_>,
    ) -> Result<(), RemoteWriteError> {
        let mut refs = std::mem::take(&mut self.refs);
        let mut v = 0.0;
        let mut t = 0;
        refs.clear();
        let mut fields = FieldReader::new(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => push_refs(value, &mut refs)?,
                2 => v = value.double(),
                3 => t = value.number() as i64,
                _ => {}
            }
        }
        let labels = self.labels(&refs).map(|labels| labels.build());
        self.refs = refs;
        into.count_labels(labels.as_ref().map_or(0, |labels| labels.encoded().len()))?;
        into.exemplar(series, labels, t, v)
    }
}

/// Maximum references of the labels of one series, or of one exemplar.
const MOST_REFS: usize = 2 * limits::SERIES_LABELS;

/// Adds the references of a field, up to one more than allowed, so that the caller sees the excess.
fn push_refs(value: FieldValue<'_>, refs: &mut Vec<u32>) -> Result<(), ProtobufError> {
    value.each_number(|n| {
        // One more than allowed is enough to see that there are too many.
        if refs.len() <= MOST_REFS {
            refs.push(n as u32);
        }
    })
}

fn too_many_symbols() -> RemoteWriteError {
    RemoteWriteError::TooLarge(format!(
        "the request has more than {} symbols: send fewer series in a request",
        limits::REMOTE_WRITE_SYMBOLS
    ))
}
