//! Reads the files in a block's `chunks/`: finds a chunk, verifies its checksum and decodes its
//! samples.

use super::super::{ImportError, damaged, io_error};
use super::bytes::{TsdbByteReader, sealed};
use super::{histogram, xor, xor2};
use crate::limits::IMPORT_CHUNK_BYTES;
use crate::native_histogram::RawHistogram;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::model::TimeMs;
use storage::model::value::{STALE, sanitize};
use storage::store::{TimedHistograms, TimedStarts};

const MAGIC: u32 = 0x85BD_40DD;
/// Length of the file header: magic, version, padding.
const HEADER: usize = 8;

/// Samples that are collected, in the order of chunks.
#[derive(Debug, Default)]
pub struct ChunkSamples {
    /// Times of floats.
    pub ts: Vec<TimeMs>,
    /// Values, parallel to `ts`.
    pub vs: Vec<f64>,
    /// Native histograms.
    pub histograms: TimedHistograms,
    /// Start timestamps of floats and histograms.
    pub starts: TimedStarts,
}

impl ChunkSamples {
    pub(super) fn float(&mut self, t: TimeMs, v: f64) {
        self.ts.push(t);
        self.vs.push(sanitize(v));
    }

    /// Adds a start timestamp; 0 means none.
    pub(super) fn start(&mut self, t: TimeMs, start: TimeMs) {
        if start != 0 {
            self.starts.push((t, start));
        }
    }

    /// Adds a histogram. `None` if it is malformed.
    pub(super) fn histogram(&mut self, t: TimeMs, h: RawHistogram) -> Option<()> {
        if h.is_stale() {
            self.ends(t);
        } else {
            self.histograms.push((t, Arc::new(h.finish().ok()?)));
        }
        Some(())
    }

    /// Adds a stale marker: the series has ended.
    pub(super) fn ends(&mut self, t: TimeMs) {
        self.ts.push(t);
        self.vs.push(STALE);
    }

    /// Keeps the wanted samples, in time order, each time once. Chunks may overlap; the first one
    /// wins.
    pub fn finish(&mut self, wanted: impl Fn(TimeMs) -> bool) {
        let mut floats: Vec<(TimeMs, f64)> = self.ts.drain(..).zip(self.vs.drain(..)).collect();
        // Chunks hold what they were written with: times beyond the block's range, and samples
        // deleted later.
        floats.retain(|(t, _)| wanted(*t));
        floats.sort_by_key(|(t, _)| *t);
        floats.dedup_by_key(|(t, _)| *t);
        (self.ts, self.vs) = floats.into_iter().unzip();
        // A series can have only one value at a time; the float was written first.
        self.histograms.retain(|(t, _)| wanted(*t) && self.ts.binary_search(t).is_err());
        self.histograms.sort_by_key(|(t, _)| *t);
        self.histograms.dedup_by_key(|(t, _)| *t);
        let has_sample = |t: &TimeMs| {
            self.ts.binary_search(t).is_ok() || self.histograms.binary_search_by_key(t, |(t, _)| *t).is_ok()
        };
        // A start timestamp belongs to a sample that is imported.
        self.starts.retain(|(t, _)| has_sample(t));
        self.starts.sort_by_key(|(t, _)| *t);
        self.starts.dedup_by_key(|(t, _)| *t);
    }
}

/// The chunk files of a block.
pub struct TsdbChunks {
    dir: PathBuf,
    files: Vec<(PathBuf, File)>,
}

impl TsdbChunks {
    /// Opens the files `000001`, `000002`, … in `dir`.
    pub fn open(dir: &Path) -> Result<TsdbChunks, ImportError> {
        let mut files = Vec::new();
        loop {
            let path = dir.join(format!("{:06}", files.len() + 1));
            // Files are numbered without gaps, so the first that is missing is the end.
            if !path.is_file() {
                return Ok(TsdbChunks { dir: dir.to_owned(), files });
            }
            let file = File::open(&path).map_err(io_error(&path))?;
            let mut header = [0; HEADER];
            file.read_exact_at(&mut header, 0).map_err(io_error(&path))?;
            // Refused as a whole: a later version may put other things at the same offsets, and
            // checksums would not tell.
            if TsdbByteReader::new(&header).u32() != Some(MAGIC) || header[4] != 1 {
                return Err(damaged(&path, "offset 0: is no file of chunks, version 1"));
            }
            files.push((path, file));
        }
    }

    /// Appends the samples of a chunk; `reference` of the index is its file and offset.
    pub fn read(&self, reference: u64, out: &mut ChunkSamples) -> Result<(), ImportError> {
        // The index packs file and offset into one number.
        let number = (reference >> 32) as usize;
        let offset = reference & 0xFFFF_FFFF;
        let missing = || damaged(&self.dir, format!("has no file {:06}, which the index names", number + 1));
        let (path, file) = self.files.get(number).ok_or_else(missing)?;
        let bad = |reason: &str| damaged(path, format!("offset {offset}: {reason}"));
        // A length has at most five bytes here.
        let mut head = [0; 5];
        let read = file.read_at(&mut head, offset).map_err(io_error(path))?;
        let mut cursor = TsdbByteReader::new(&head[..read]);
        let len =
            cursor.size().filter(|n| *n <= IMPORT_CHUNK_BYTES).ok_or_else(|| bad("no length of a chunk"))?;
        let from = offset + (read - cursor.left()) as u64;
        // Encoding (1 byte), data, checksum (4 bytes).
        let mut body = vec![0; 1 + len + 4];
        file.read_exact_at(&mut body, from).map_err(io_error(path))?;
        let (body, crc) = body.split_at(1 + len);
        // Before anything is decoded: a wrong bit in a chunk makes plausible, wrong numbers.
        if !sealed(body, TsdbByteReader::new(crc).u32()) {
            return Err(bad("the chunk's checksum does not match"));
        }
        decode(body[0], &body[1..], out).map_err(|error| bad(&error.to_string()))
    }
}

/// Why a chunk cannot be decoded.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Its encoding is not known.
    #[error("encoding {0} of a chunk is unknown")]
    Encoding(u8),
    /// It ends too early, or its content is impossible.
    #[error("the chunk does not hold what it says")]
    Content,
}

/// Appends the samples of a chunk's data, which have the encoding of this number.
pub fn decode(encoding: u8, data: &[u8], out: &mut ChunkSamples) -> Result<(), ChunkError> {
    let samples = match encoding {
        1 => xor::read(data, out),
        2 | 3 | 5 | 6 => {
            let form = histogram::Form { float: matches!(encoding, 3 | 6), starts: encoding >= 5 };
            histogram::read(data, form, out)
        }
        4 => xor2::read(data, out),
        other => return Err(ChunkError::Encoding(other)),
    };
    samples.ok_or(ChunkError::Content)
}
