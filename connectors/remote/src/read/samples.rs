//! [`RemoteSamples`]: the samples of a series that another server sent, as the query runtime reads
//! them. Chunks of floats stay encoded until they are read, because decoded they take ten times as
//! much memory; all other samples are decoded once, when they arrive.

use super::client::ReadFailure;
use super::{MemoryRefused, ReadMemory};
use crate::limits::READ_CHUNK_BYTES;
use connectors::import::prometheus::chunks::{self, ChunkSamples};
use connectors::protobuf::FieldReader;
use connectors::remote::request::read_histogram;
use std::path::PathBuf;
use std::sync::Arc;
use storage::model::value::{STALE, sanitize};
use storage::model::{NativeHistogram, TimeMs};
use storage::store::{SeriesSource, StoreError, TimedHistograms, TimedStarts};

/// The number of the encoding of chunks of floats.
const XOR: u8 = 1;
/// Memory of a chunk besides its data, bytes.
const CHUNK_BYTES: usize = size_of::<FloatChunk>() + 16;
/// Memory of a float, bytes.
const FLOAT_BYTES: usize = size_of::<(TimeMs, f64)>();

/// The samples of a series.
pub(super) struct RemoteSamples {
    /// The first requested time.
    from: TimeMs,
    /// The last requested time.
    to: TimeMs,
    content: Content,
}

/// Either all samples are floats in chunks, or all are decoded.
enum Content {
    Chunks(Vec<FloatChunk>),
    Decoded(ChunkSamples),
}

/// A chunk of floats, as it was sent. It was decoded once when it came, so it is not damaged.
struct FloatChunk {
    from: TimeMs,
    to: TimeMs,
    data: Box<[u8]>,
}

/// The samples of a series while they come. Its memory is counted.
#[derive(Default)]
pub(super) struct SamplesBuilder {
    chunks: Vec<FloatChunk>,
    decoded: ChunkSamples,
}

impl SamplesBuilder {
    /// Takes a chunk with this number of its encoding.
    pub(super) fn chunk(
        &mut self,
        encoding: u64,
        data: &[u8],
        memory: &dyn ReadMemory,
    ) -> Result<(), ReadFailure> {
        if data.len() > READ_CHUNK_BYTES {
            return Err(ReadFailure::Chunk(format!(
                "a chunk of {} bytes: the limit is {READ_CHUNK_BYTES}",
                data.len()
            )));
        }
        let unknown = || ReadFailure::Chunk(format!("invalid chunk encoding {encoding:?}"));
        let encoding = u8::try_from(encoding).map_err(|_| unknown())?;
        let mut samples = ChunkSamples::default();
        // Decoded now, and for floats thrown away again: a damaged chunk must be found before its
        // answer is used, and the decoded form takes several times the memory.
        chunks::decode(encoding, data, &mut samples).map_err(|e| ReadFailure::Chunk(e.to_string()))?;
        // Chunks of histograms are kept decoded: their samples are large in either form.
        if encoding != XOR {
            return self.append(samples, memory);
        }
        // A chunk without samples says nothing.
        let Some(from) = samples.ts.iter().min() else { return Ok(()) };
        let to = samples.ts.iter().max().unwrap_or(from);
        memory.grow(data.len() + CHUNK_BYTES)?;
        self.chunks.push(FloatChunk { from: *from, to: *to, data: data.into() });
        Ok(())
    }

    /// Takes a `Sample` of a message: value and time.
    pub(super) fn sample(&mut self, message: &[u8]) -> Result<(), ReadFailure> {
        let mut v = 0.0;
        let mut t = 0;
        let mut fields = FieldReader::new(message);
        while let Some(field) = fields.next_field()? {
            match field {
                (1, value) => v = value.double(),
                (2, time) => t = time.number() as i64,
                _ => {}
            }
        }
        self.decoded.ts.push(t);
        self.decoded.vs.push(sanitize(v));
        Ok(())
    }

    /// Takes a `Histogram` of a message.
    pub(super) fn histogram(&mut self, message: &[u8], memory: &dyn ReadMemory) -> Result<(), ReadFailure> {
        let (raw, times) = read_histogram(message)?;
        // As in the store, the stale marker of histograms is that of floats.
        if raw.is_stale() {
            self.decoded.ts.push(times.t);
            self.decoded.vs.push(STALE);
            return Ok(());
        }
        let h = raw.finish().map_err(|e| ReadFailure::Message(e.to_string()))?;
        memory.grow(histogram_bytes(&h))?;
        self.decoded.histograms.push((times.t, Arc::new(h)));
        Ok(())
    }

    /// Counts the floats that were received as samples, not as chunks.
    pub(super) fn count_samples(&self, memory: &dyn ReadMemory) -> Result<(), MemoryRefused> {
        memory.grow(self.decoded.ts.len() * FLOAT_BYTES)
    }

    fn append(&mut self, mut samples: ChunkSamples, memory: &dyn ReadMemory) -> Result<(), ReadFailure> {
        let histograms: usize = samples.histograms.iter().map(|(_, h)| histogram_bytes(h)).sum();
        memory.grow((samples.ts.len() + samples.starts.len()) * FLOAT_BYTES + histograms)?;
        self.decoded.ts.append(&mut samples.ts);
        self.decoded.vs.append(&mut samples.vs);
        self.decoded.histograms.append(&mut samples.histograms);
        self.decoded.starts.append(&mut samples.starts);
        Ok(())
    }

    /// The samples between these times, both included.
    pub(super) fn finish(
        mut self,
        from: TimeMs,
        to: TimeMs,
        memory: &dyn ReadMemory,
    ) -> Result<RemoteSamples, ReadFailure> {
        let has_decoded = !self.decoded.ts.is_empty() || !self.decoded.histograms.is_empty();
        if !has_decoded {
            // Nothing but chunks of floats, the usual answer: they are decoded when a query reads
            // them, a range at a time.
            self.chunks.sort_by_key(|chunk| chunk.from);
            return Ok(RemoteSamples { from, to, content: Content::Chunks(self.chunks) });
        }
        // Floats and histograms of one series: merged by time, which chunks cannot be.
        for chunk in std::mem::take(&mut self.chunks) {
            let mut samples = ChunkSamples::default();
            let decoded = chunks::decode(XOR, &chunk.data, &mut samples);
            decoded.map_err(|e| ReadFailure::Chunk(e.to_string()))?;
            self.append(samples, memory)?;
        }
        self.decoded.finish(|t| (from..=to).contains(&t));
        Ok(RemoteSamples { from, to, content: Content::Decoded(self.decoded) })
    }
}

/// Memory of a histogram, bytes.
fn histogram_bytes(h: &NativeHistogram) -> usize {
    let numbers = h.positive.counts.len() + h.negative.counts.len() + h.bounds.len();
    let spans = h.positive.spans.len() + h.negative.spans.len();
    size_of::<NativeHistogram>() + 8 * (numbers + spans)
}

impl RemoteSamples {
    fn within(&self, from: TimeMs, to: TimeMs) -> (TimeMs, TimeMs) {
        // Servers answer whole chunks, which reach beyond what was asked for.
        (from.max(self.from), to.min(self.to))
    }
}

impl SeriesSource for RemoteSamples {
    fn read(
        &self,
        from: TimeMs,
        to: TimeMs,
        ts: &mut Vec<TimeMs>,
        vs: &mut Vec<f64>,
    ) -> Result<(), StoreError> {
        let (from, to) = self.within(from, to);
        let mut scratch;
        let samples = match &self.content {
            Content::Decoded(samples) => samples,
            Content::Chunks(all) => {
                scratch = ChunkSamples::default();
                for chunk in all.iter().filter(|chunk| chunk.from <= to && chunk.to >= from) {
                    chunks::decode(XOR, &chunk.data, &mut scratch).map_err(|error| StoreError::Damaged {
                        path: PathBuf::from("a chunk of a remote read"),
                        reason: error.to_string(),
                    })?;
                }
                // Chunks may overlap, for example where the server merged two of its own.
                if !scratch.ts.is_sorted_by(|a, b| a < b) {
                    scratch.finish(|_| true);
                }
                &scratch
            }
        };
        let first = samples.ts.partition_point(|t| *t < from);
        let end = samples.ts.partition_point(|t| *t <= to).max(first);
        ts.extend_from_slice(&samples.ts[first..end]);
        vs.extend_from_slice(&samples.vs[first..end]);
        Ok(())
    }

    fn has_histograms(&self) -> bool {
        matches!(&self.content, Content::Decoded(samples) if !samples.histograms.is_empty())
    }

    fn read_histograms(&self, from: TimeMs, to: TimeMs, out: &mut TimedHistograms) -> Result<(), StoreError> {
        let (from, to) = self.within(from, to);
        if let Content::Decoded(samples) = &self.content {
            let found = samples.histograms.iter().filter(|(t, _)| (from..=to).contains(t));
            out.extend(found.cloned());
        }
        Ok(())
    }

    fn has_starts(&self) -> bool {
        matches!(&self.content, Content::Decoded(samples) if !samples.starts.is_empty())
    }

    fn read_starts(&self, from: TimeMs, to: TimeMs, out: &mut TimedStarts) -> Result<(), StoreError> {
        let (from, to) = self.within(from, to);
        if let Content::Decoded(samples) = &self.content {
            out.extend(samples.starts.iter().filter(|(t, _)| (from..=to).contains(t)));
        }
        Ok(())
    }
}
