//! Decodes the answers of other servers: one message with all samples, or a stream of frames with
//! chunks. Both give [`ReceivedSeries`].

use super::ReadMemory;
use super::client::ReadFailure;
use super::samples::{RemoteSamples, SamplesBuilder};
use connectors::protobuf::{FieldReader, FieldValue, message_length};
use connectors::remote::labels::each_label;
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, LabelsBuilder, TimeMs};
use storage::store::LabelledSource;

/// Memory of a series besides its labels and samples, bytes.
const SERIES_BYTES: usize = size_of::<RemoteSamples>() + size_of::<LabelledSource>() + 64;
/// The length of the checksum before a frame.
const CHECKSUM: usize = 4;

/// The series that come in an answer to one query.
pub(super) struct ReceivedSeries<'a> {
    /// The first requested time.
    from: TimeMs,
    /// The last requested time.
    to: TimeMs,
    /// Labels that are removed: the external ones for which matchers were added.
    removed: &'a [String],
    memory: &'a dyn ReadMemory,
    /// The series whose frames are coming.
    open: Option<(Labels, SamplesBuilder)>,
    done: Vec<LabelledSource>,
}

impl<'a> ReceivedSeries<'a> {
    /// None so far.
    pub(super) fn new(
        from: TimeMs,
        to: TimeMs,
        removed: &'a [String],
        memory: &'a dyn ReadMemory,
    ) -> ReceivedSeries<'a> {
        ReceivedSeries { from, to, removed, memory, open: None, done: Vec::new() }
    }

    /// Takes a `ReadResponse`, the answer to one query.
    pub(super) fn message(&mut self, message: &[u8]) -> Result<(), ReadFailure> {
        let mut results = Vec::new();
        let mut fields = FieldReader::new(message);
        while let Some(field) = fields.next_field()? {
            if let (1, FieldValue::Bytes(result)) = field {
                results.push(result);
            }
        }
        // One query was sent; with another number of results nobody knows which is its.
        let [result] = results[..] else { return Err(ReadFailure::Results { got: results.len() }) };
        let mut fields = FieldReader::new(result);
        while let Some(field) = fields.next_field()? {
            if let (1, FieldValue::Bytes(series)) = field {
                self.time_series(series)?;
            }
        }
        Ok(())
    }

    fn time_series(&mut self, message: &[u8]) -> Result<(), ReadFailure> {
        self.close()?;
        let labels = self.labels(message)?;
        let mut samples = SamplesBuilder::default();
        let mut fields = FieldReader::new(message);
        while let Some(field) = fields.next_field()? {
            match field {
                (2, FieldValue::Bytes(sample)) => samples.sample(sample)?,
                (4, FieldValue::Bytes(histogram)) => samples.histogram(histogram, self.memory)?,
                _ => {}
            }
        }
        samples.count_samples(self.memory)?;
        self.open = Some((labels, samples));
        Ok(())
    }

    /// Takes a `ChunkedReadResponse`, the message of a frame.
    pub(super) fn frame(&mut self, message: &[u8]) -> Result<(), ReadFailure> {
        let mut fields = FieldReader::new(message);
        while let Some(field) = fields.next_field()? {
            if let (1, FieldValue::Bytes(series)) = field {
                self.chunked_series(series)?;
            }
        }
        Ok(())
    }

    fn chunked_series(&mut self, message: &[u8]) -> Result<(), ReadFailure> {
        let labels = self.labels(message)?;
        // A long series comes in several frames.
        if self.open.as_ref().is_none_or(|(open, _)| *open != labels) {
            self.close()?;
            self.open = Some((labels, SamplesBuilder::default()));
        }
        let Some((_, samples)) = &mut self.open else { return Ok(()) };
        let mut fields = FieldReader::new(message);
        while let Some(field) = fields.next_field()? {
            let (2, FieldValue::Bytes(chunk)) = field else { continue };
            let mut encoding = 0;
            let mut data = &b""[..];
            let mut parts = FieldReader::new(chunk);
            while let Some(part) = parts.next_field()? {
                match part {
                    (3, number) => encoding = number.number(),
                    (4, FieldValue::Bytes(bytes)) => data = bytes,
                    // Its times: they are those of its samples.
                    _ => {}
                }
            }
            samples.chunk(encoding, data, self.memory)?;
        }
        Ok(())
    }

    /// The labels of a series, without those that are removed.
    fn labels(&self, message: &[u8]) -> Result<Labels, ReadFailure> {
        let mut labels = LabelsBuilder::default();
        each_label(message, |name, value| add_label(&mut labels, name, value))?;
        // They were added to the matchers, so all series have them; the own series that they are
        // merged with do not.
        for name in self.removed {
            labels.remove(name);
        }
        Ok(labels.build())
    }

    fn close(&mut self) -> Result<(), ReadFailure> {
        let Some((labels, samples)) = self.open.take() else { return Ok(()) };
        self.memory.grow(labels.encoded().len() + SERIES_BYTES)?;
        let samples = samples.finish(self.from, self.to, self.memory)?;
        self.done.push((labels, Arc::new(samples)));
        Ok(())
    }

    /// The series, sorted by labels. A series may be there several times.
    pub(super) fn finish(mut self) -> Result<Vec<LabelledSource>, ReadFailure> {
        self.close()?;
        // Servers sort only the series of streams, and by all labels.
        self.done.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(self.done)
    }
}

/// Checks and adds a label. The texts are those of Prometheus.
fn add_label(labels: &mut LabelsBuilder, name: &[u8], value: &[u8]) -> Result<(), ReadFailure> {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let bad = |what: &str, bytes: &[u8]| Err(ReadFailure::Labels(format!("{what}: {}", shown(bytes))));
    let is_metric = name == METRIC_NAME.as_bytes();
    // Before the other checks: Prometheus has a text of its own for names of metrics.
    if is_metric && (value.is_empty() || std::str::from_utf8(value).is_err()) {
        return bad("invalid metric name", value);
    }
    let Some(name_text) = std::str::from_utf8(name).ok().filter(|name| !name.is_empty()) else {
        return bad("invalid label name", name);
    };
    let Ok(value) = std::str::from_utf8(value) else { return bad("invalid label value", value) };
    if labels.has(name_text) {
        return bad("duplicate label with name", name);
    }
    labels.set(name_text, value);
    Ok(())
}

/// The bytes of a stream that are no complete frame yet.
pub(super) struct FrameReader {
    bytes: Vec<u8>,
    /// How many of them were read.
    at: usize,
    /// The largest frame, bytes.
    most: usize,
}

impl FrameReader {
    /// At the beginning of a stream whose frames have at most `most` bytes.
    pub(super) fn new(most: usize) -> FrameReader {
        FrameReader { bytes: Vec::new(), at: 0, most }
    }

    /// Adds received bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        // Only what was read goes; a frame that has come in part stays at the front.
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes of memory.
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// The message of the next frame; `None`: it is not complete.
    pub(super) fn next_frame(&mut self) -> Result<Option<&[u8]>, ReadFailure> {
        let rest = &self.bytes[self.at..];
        let Some((length, head)) = message_length(rest)? else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        // Before the frame is waited for: it would have to be in memory as a whole.
        if length > self.most {
            return Err(ReadFailure::FrameSize { most: self.most, got: length });
        }
        let start = head + CHECKSUM;
        let Some(message) = rest.get(start..start + length) else { return Ok(None) };
        if crc32c::crc32c(message).to_be_bytes() != rest[head..start] {
            return Err(ReadFailure::Checksum);
        }
        self.at += start + length;
        Ok(Some(&self.bytes[self.at - length..self.at]))
    }

    /// Whether all bytes were frames.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }
}

#[cfg(test)]
mod tests;
