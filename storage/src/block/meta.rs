//! `meta.json`: the metadata of a block (its range of time, what it holds, which blocks it
//! replaces), with length and checksum of its other files. It is written last, so a directory
//! without it is no block, and it has a checksum itself.

use super::damaged;
use crate::error::StoreError;
use crate::model::TimeMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Format version of blocks with floats only. A reader that does not know the other versions
/// refuses them.
pub const FLOATS: u32 = 1;
/// Format version of blocks that may have histograms or start timestamps.
pub const LANES: u32 = 2;
/// Format version of blocks with an index, and with checksums for the pieces of `series.parquet`;
/// with or without histograms and start timestamps.
pub const INDEXED: u32 = 3;
/// As [`INDEXED`], without the hashes of the series, which were not used.
pub const UNHASHED: u32 = 4;
/// The name of the file.
pub(super) const META: &str = "meta.json";

const SEAL: &str = ",\"crc32c\":\"";

/// The metadata of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockMeta {
    /// Format version.
    pub version: u32,
    /// First instant of the block's range.
    pub from: TimeMs,
    /// First instant after the block's range.
    pub to: TimeMs,
    /// Time of the first sample.
    pub min_time: TimeMs,
    /// Time of the last sample.
    pub max_time: TimeMs,
    /// Number of series.
    pub series: u64,
    /// Number of rows of `samples.parquet`.
    pub rows: u64,
    /// Number of samples, stale markers and histograms included.
    pub samples: u64,
    /// Number of histograms.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub histograms: u64,
    /// Number of start timestamps.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub starts: u64,
    /// Number of clocks.
    pub clocks: u64,
    /// Number of timestamps of all clocks; 0 in blocks written before this was counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub times: u64,
    /// Names of the blocks from which it was merged: it has all their samples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
    /// Length and checksum, by file name.
    pub files: BTreeMap<String, FileMeta>,
    /// The directory or address of the block; not part of the file.
    #[serde(skip)]
    pub dir: PathBuf,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Length and checksum of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// The length, bytes.
    pub bytes: u64,
    /// CRC32C of the content, 8 hex digits.
    pub crc32c: String,
}

impl FileMeta {
    pub(super) fn new(bytes: u64, crc: u32) -> FileMeta {
        FileMeta { bytes, crc32c: format!("{crc:08x}") }
    }
}

impl BlockMeta {
    /// Size of the files of the block, bytes, without `meta.json`.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|f| f.bytes).sum()
    }

    /// Size of the block, bytes, with `meta.json`.
    pub fn bytes_on_disk(&self) -> u64 {
        self.bytes() + self.encode().map_or(0, |text| text.len() as u64)
    }

    /// The name of the block, which is that of its directory.
    pub fn name(&self) -> std::path::Display<'_> {
        self.dir.file_name().map_or(self.dir.as_path(), Path::new).display()
    }

    /// Whether the block has an index.
    pub(super) fn is_indexed(&self) -> bool {
        self.version >= INDEXED
    }

    /// Whether the block has samples in `from..=to`.
    pub fn overlaps(&self, from: TimeMs, to: TimeMs) -> bool {
        self.min_time <= to && from <= self.max_time
    }

    /// The content of `meta.json`.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_string(self)?;
        // The closing brace: the checksum becomes the last field, so the file is valid JSON and the
        // checksum covers all that is before it.
        text.pop();
        let seal = format!("{SEAL}{:08x}\"}}\n", crc32c::crc32c(text.as_bytes()));
        text.push_str(&seal);
        Ok(text.into_bytes())
    }

    /// Decodes and verifies the `meta.json` of the block in `dir`.
    pub(super) fn decode(dir: &Path, bytes: &[u8]) -> Result<BlockMeta, StoreError> {
        let path = dir.join(META);
        let text = std::str::from_utf8(bytes).map_err(|e| damaged(&path, e))?;
        // From the end: a label or a name in the file could contain the same text.
        let at = text.rfind(SEAL).ok_or_else(|| damaged(&path, "has no checksum"))?;
        let expected = format!("{SEAL}{:08x}\"}}\n", crc32c::crc32c(&bytes[..at]));
        if text[at..] != expected {
            return Err(damaged(&path, "checksum does not match"));
        }
        let mut meta: BlockMeta = serde_json::from_str(text).map_err(|e| damaged(&path, e))?;
        // After the checksum: a file with a valid checksum is of another version, and not damaged
        // at random.
        if !(FLOATS..=UNHASHED).contains(&meta.version) {
            let reason = format!("version {} is unknown, {FLOATS} to {UNHASHED} are known", meta.version);
            return Err(damaged(&path, reason));
        }
        meta.dir = dir.to_owned();
        Ok(meta)
    }
}
