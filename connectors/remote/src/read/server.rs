//! Answers a request of remote read from a store: as one message with all samples, or as a stream
//! of frames with chunks, of which only one is in memory.

use super::RemoteReadError;
use super::request::{ReadQuery, ReadRequest};
use crate::chunks::{Chunk, ChunkWriter};
use crate::protobuf::{
    put_bytes, put_histogram, put_labels, put_message, put_number, put_sample, put_varint, varint_len,
};
use std::time::Instant;
use storage::model::{Labels, Matcher, SHARDS, TimeMs};
use storage::store::{Selection, Store, TimedHistograms};

/// What answers a request.
pub struct ReadServer<'a> {
    /// The store.
    pub store: &'a Store,
    /// The external labels, which are added to each series.
    pub external: &'a Labels,
    /// Matchers of every query in addition to its own.
    pub own: &'a [Matcher],
    /// The answer must be complete by then.
    pub deadline: Instant,
}

/// All samples of one series.
#[derive(Default)]
pub(super) struct SeriesRun {
    pub(super) ts: Vec<TimeMs>,
    pub(super) vs: Vec<f64>,
    pub(super) histograms: TimedHistograms,
}

/// The series of a query, over all shards.
struct QuerySelection {
    selections: Vec<Selection>,
    /// Shard and place in its selection of each series, with its labels as they are sent.
    series: Vec<SelectedSeries>,
}

struct SelectedSeries {
    labels: Labels,
    shard: usize,
    at: usize,
}

impl ReadServer<'_> {
    /// The answer as one compressed message. `reserve` is asked before memory is taken.
    ///
    /// # Errors
    /// A query has more than `most_samples` samples (0: no limit), `reserve` refuses, or the store
    /// cannot be read.
    pub fn samples(
        &self,
        request: &ReadRequest,
        most_samples: u64,
        reserve: &dyn Fn(usize) -> Result<(), RemoteReadError>,
    ) -> Result<Vec<u8>, RemoteReadError> {
        let mut message = Vec::new();
        for query in &request.queries {
            let mut result = Vec::new();
            let mut samples = 0;
            let mut reserved = 0;
            self.each_series(query, |labels, run| {
                samples += (run.ts.len() + run.histograms.len()) as u64;
                if most_samples > 0 && samples > most_samples {
                    return Err(RemoteReadError::SampleLimit(most_samples));
                }
                put_message(&mut result, 1, |out| put_series(out, labels, run));
                // The message, its copy, and the compressed one.
                reserve((result.len() - reserved) * 3)?;
                reserved = result.len();
                Ok(())
            })?;
            put_bytes(&mut message, 1, &result);
        }
        let compressed = snap::raw::Encoder::new().compress_vec(&message);
        compressed.map_err(|error| RemoteReadError::Memory(error.to_string()))
    }

    /// The answer as frames of about `frame` bytes each, which `send` gets one after the other.
    ///
    /// # Errors
    /// The store cannot be read, or `send` refuses.
    pub fn frames(
        &self,
        request: &ReadRequest,
        frame: usize,
        send: &mut dyn FnMut(Vec<u8>) -> Result<(), RemoteReadError>,
    ) -> Result<(), RemoteReadError> {
        for (number, query) in request.queries.iter().enumerate() {
            self.each_series(query, |labels, run| {
                let chunks = ChunkWriter::write(&run.ts, &run.vs, &run.histograms);
                send_chunks(labels, &chunks, number as u64, frame, send)
            })?;
        }
        Ok(())
    }

    /// Calls `take` for each series of a query that has samples, in the order of labels.
    fn each_series(
        &self,
        query: &ReadQuery,
        mut take: impl FnMut(&Labels, &SeriesRun) -> Result<(), RemoteReadError>,
    ) -> Result<(), RemoteReadError> {
        let QuerySelection { selections, series } = self.select(query)?;
        let mut run = SeriesRun::default();
        for SelectedSeries { labels, shard, at } in series {
            if Instant::now() >= self.deadline {
                return Err(RemoteReadError::Timeout);
            }
            run.ts.clear();
            run.vs.clear();
            run.histograms.clear();
            let selection = &selections[shard];
            selection.read(at, query.from, query.to, &mut run.ts, &mut run.vs)?;
            if selection.has_histograms(at) {
                selection.read_histograms(at, query.from, query.to, &mut run.histograms)?;
            }
            if !run.ts.is_empty() || !run.histograms.is_empty() {
                take(&labels, &run)?;
            }
        }
        Ok(())
    }

    fn select(&self, query: &ReadQuery) -> Result<QuerySelection, RemoteReadError> {
        let mut matchers = query.matchers(self.external)?;
        matchers.extend_from_slice(self.own);
        let mut selections = Vec::with_capacity(usize::from(SHARDS));
        let mut series = Vec::new();
        for shard in 0..SHARDS {
            let selection = self.store.select(shard, &matchers, query.from, query.to)?;
            for (at, labels) in selection.labels.iter().enumerate() {
                let labels = with_external(labels, self.external);
                series.push(SelectedSeries { labels, shard: usize::from(shard), at });
            }
            selections.push(selection);
        }
        // External labels can change the order, too.
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        Ok(QuerySelection { selections, series })
    }
}

/// The labels of a series with the external ones that it does not have.
fn with_external(labels: &Labels, external: &Labels) -> Labels {
    if external.is_empty() {
        return labels.clone();
    }
    let mut builder = labels.to_builder();
    for (name, value) in external.iter().filter(|(name, _)| labels.get(name).is_none()) {
        builder.set(name, value);
    }
    builder.build()
}

/// Appends the fields of a `TimeSeries`.
pub(super) fn put_series(out: &mut Vec<u8>, labels: &Labels, run: &SeriesRun) {
    put_labels(out, labels);
    for (t, v) in run.ts.iter().zip(&run.vs) {
        put_sample(out, *t, *v);
    }
    for (t, h) in &run.histograms {
        put_message(out, 4, |out| put_histogram(out, *t, h));
    }
}

/// Sends the chunks of a series in frames: a frame ends when its chunks are longer than what the
/// labels leave of `most` bytes.
pub(super) fn send_chunks(
    labels: &Labels,
    chunks: &[Chunk],
    query: u64,
    most: usize,
    send: &mut dyn FnMut(Vec<u8>) -> Result<(), RemoteReadError>,
) -> Result<(), RemoteReadError> {
    let mut encoded = Vec::new();
    put_labels(&mut encoded, labels);
    let labels_len = encoded.len();
    let mut used = 0;
    let mut series = encoded;
    for (n, chunk) in chunks.iter().enumerate() {
        let before = series.len();
        put_message(&mut series, 2, |out| {
            put_number(out, 1, chunk.from as u64);
            put_number(out, 2, chunk.to as u64);
            put_number(out, 3, chunk.encoding as u64);
            put_bytes(out, 4, &chunk.data);
        });
        used += series.len() - before;
        if used + labels_len >= most || n + 1 == chunks.len() {
            send(frame_of(&series, query))?;
            series.truncate(labels_len);
            used = 0;
        }
    }
    Ok(())
}

/// A frame: length, checksum, and a `ChunkedReadResponse` with one series.
pub(super) fn frame_of(series: &[u8], query: u64) -> Vec<u8> {
    let mut message = Vec::with_capacity(series.len() + 16);
    put_bytes(&mut message, 1, series);
    if query > 0 {
        put_number(&mut message, 2, query);
    }
    let mut frame = Vec::with_capacity(message.len() + varint_len(message.len() as u64) + 4);
    put_varint(&mut frame, message.len() as u64);
    frame.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_length_and_checksum() {
        let series = b"12345";
        let frame = frame_of(series, 3);
        let message = &frame[5..];
        assert_eq!(message, [&[0x0a, 5][..], series, &[0x10, 3]].concat());
        assert_eq!(frame[0] as usize, message.len());
        assert_eq!(frame[1..5], crc32c::crc32c(message).to_be_bytes());
        assert_eq!(crc32c::crc32c(b"123456789").to_be_bytes(), [0xe3, 0x06, 0x92, 0x83]);
    }
}
