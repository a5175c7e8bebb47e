//! Writes chunks of samples as Prometheus encodes them, for answers of remote read;
//! `connectors::import::prometheus` decodes them. [`bits`] writes bits, [`xor`] floats,
//! [`histogram`] native histograms.

mod bits;
mod histogram;
mod xor;

use histogram::HistogramChunk;
use storage::model::value::is_stale;
use storage::model::{NativeHistogram, TimeMs};
use storage::store::TimedHistograms;
use xor::XorChunk;

/// Samples of a chunk (Prometheus: 120).
const CHUNK_SAMPLES: usize = 120;

/// The encoding of a chunk, with its number in messages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ChunkEncoding {
    /// Floats.
    Xor = 1,
    /// Native histograms with integer counts.
    Histogram = 2,
    /// Native histograms with float counts.
    FloatHistogram = 3,
}

/// A chunk of samples of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The time of its first sample.
    pub from: TimeMs,
    /// The time of its last sample.
    pub to: TimeMs,
    /// How its data are encoded.
    pub encoding: ChunkEncoding,
    /// The samples.
    pub data: Vec<u8>,
}

/// The chunk that is being written.
enum OpenChunk {
    None,
    Floats(XorChunk),
    Histograms(Box<HistogramChunk>),
}

/// Writes the samples of a series as chunks, in order of time.
pub struct ChunkWriter {
    open: OpenChunk,
    from: TimeMs,
    to: TimeMs,
    samples: usize,
    done: Vec<Chunk>,
}

impl ChunkWriter {
    /// A writer that has written nothing.
    fn new() -> ChunkWriter {
        ChunkWriter { open: OpenChunk::None, from: 0, to: 0, samples: 0, done: Vec::new() }
    }

    /// The chunks of these floats and histograms; both in order of time, and no time in both.
    pub fn write(ts: &[TimeMs], vs: &[f64], histograms: &TimedHistograms) -> Vec<Chunk> {
        let mut writer = ChunkWriter::new();
        let mut histograms = histograms.iter().peekable();
        for (t, v) in ts.iter().zip(vs) {
            while let Some((before, h)) = histograms.next_if(|(at, _)| at < t) {
                writer.histogram(*before, h);
            }
            writer.float(*t, *v);
        }
        for (t, h) in histograms {
            writer.histogram(*t, h);
        }
        writer.finish()
    }

    /// Appends a float; begins a chunk where the open one cannot take it.
    fn float(&mut self, t: TimeMs, v: f64) {
        let is_full = self.samples >= CHUNK_SAMPLES;
        match &mut self.open {
            OpenChunk::Floats(chunk) if !is_full => chunk.append(t, v),
            _ => {
                self.close();
                self.open = OpenChunk::Floats(XorChunk::begin(t, v));
                self.from = t;
            }
        }
        self.to = t;
        self.samples += 1;
    }

    /// Appends a histogram; begins a chunk where the open one cannot take it.
    fn histogram(&mut self, t: TimeMs, h: &NativeHistogram) {
        let is_full = self.samples >= CHUNK_SAMPLES;
        // The store keeps stale markers as floats.
        debug_assert!(!is_stale(h.sum), "a stale marker is a float");
        match &mut self.open {
            OpenChunk::Histograms(chunk) if !is_full && chunk.has_place_for(h) => chunk.append(t, h),
            _ => {
                self.close();
                self.open = OpenChunk::Histograms(Box::new(HistogramChunk::begin(t, h)));
                self.from = t;
            }
        }
        self.to = t;
        self.samples += 1;
    }

    /// Ends the open chunk.
    fn close(&mut self) {
        let open = std::mem::replace(&mut self.open, OpenChunk::None);
        let (encoding, data) = match open {
            OpenChunk::None => return,
            OpenChunk::Floats(chunk) => (ChunkEncoding::Xor, chunk.finish()),
            OpenChunk::Histograms(chunk) => (chunk.encoding(), chunk.finish()),
        };
        self.done.push(Chunk { from: self.from, to: self.to, encoding, data });
        self.samples = 0;
    }

    /// All chunks.
    fn finish(mut self) -> Vec<Chunk> {
        self.close();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use connectors::import::prometheus::chunks::{ChunkSamples, decode};
    use std::sync::Arc;
    use storage::model::histogram::{BucketSpan, Buckets, ResetHint};
    use storage::model::value::STALE;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn floats_are_written_as_prometheus_writes_them() {
        let t = 1_700_000_000_000;
        let chunks =
            ChunkWriter::write(&[t, t + 15_000, t + 30_000, t + 45_003], &[1.0, 1.0, 2.0, 2.5], &vec![]);
        assert_eq!(chunks.len(), 1);
        assert_eq!(hex(&chunks[0].data), "000480a0abfef9623ff000000000000098753097ffe000f683");
    }

    #[test]
    fn histograms_are_written_as_prometheus_writes_them() {
        let spans = vec![BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 1 }];
        let h = |count: f64, sum: f64, counts: &[f64], hint| {
            Arc::new(NativeHistogram {
                schema: 1,
                zero_threshold: 0.001,
                zero_count: 1.0,
                count,
                sum,
                hint,
                positive: Buckets { spans: spans.clone(), counts: counts.to_vec() },
                ..NativeHistogram::default()
            })
        };
        let t = 1_700_000_000_000;
        let all = vec![
            (t, h(6.0, 18.4, &[1.0, 2.0, 1.0], ResetHint::Unknown)),
            (t + 15_000, h(7.0, 20.0, &[2.0, 3.0, 1.0], ResetHint::NotReset)),
        ];
        let chunks = ChunkWriter::write(&[], &[], &all);
        assert_eq!(chunks.len(), 1);
        let expected = "000200ff3f50624dd2f1a9fc8ca48c5fc0003179fcad00168a0193333333333334637f83a988b6e5999999999999c570";
        assert_eq!(hex(&chunks[0].data), expected);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut seed = 7u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        for round in 0..200 {
            let mut t = random() as i64 - 1_000_000_000;
            let mut floats = (Vec::new(), Vec::new());
            let mut histograms: TimedHistograms = Vec::new();
            for _ in 0..random() % 300 {
                t += 1 + (random() % [2, 15_000, 20_000_000, 1 << 40][(random() % 4) as usize]) as i64;
                if random() % 3 > 0 {
                    floats.0.push(t);
                    floats
                        .1
                        .push([1.0, STALE, f64::INFINITY, random() as f64, -0.5][(random() % 5) as usize]);
                    continue;
                }
                let is_whole = random() % 4 > 0;
                let part = if is_whole { 0.0 } else { 0.25 };
                let counts: Vec<f64> = (0..3).map(|_| (random() % 1000) as f64 + part).collect();
                let spans = vec![BucketSpan { offset: (random() % 2) as i32 - 1, length: 3 }];
                let hint = [ResetHint::Unknown, ResetHint::Gauge][usize::from(round % 2 == 0)];
                histograms.push((
                    t,
                    Arc::new(NativeHistogram {
                        schema: 3,
                        zero_threshold: [0.0, 0.5, 0.001][(random() % 3) as usize],
                        zero_count: part,
                        count: counts.iter().sum::<f64>() + part,
                        sum: random() as f64 / 7.0,
                        hint,
                        positive: Buckets { spans, counts },
                        ..NativeHistogram::default()
                    }),
                ));
            }
            let chunks = ChunkWriter::write(&floats.0, &floats.1, &histograms);
            let mut back = ChunkSamples::default();
            for chunk in &chunks {
                decode(chunk.encoding as u8, &chunk.data, &mut back).expect("well formed");
            }
            assert!(chunks.windows(2).all(|pair| pair[0].to < pair[1].from));
            assert_eq!(back.ts, floats.0);
            let bits = |vs: &[f64]| vs.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&back.vs), bits(&floats.1));
            assert_eq!(back.histograms, histograms);
        }
    }
}
