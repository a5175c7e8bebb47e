//! `meta.json`: what a block holds, and how its files check out.

use super::damaged;
use crate::model::TimeMs;
use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The version of the format that this code writes and reads.
pub const VERSION: u32 = 1;
/// Name of the file.
pub(super) const META: &str = "meta.json";

const SEAL: &str = ",\"crc32c\":\"";

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Number of samples, stale markers included.
    pub samples: u64,
    /// Number of clocks.
    pub clocks: u64,
    /// Length and checksum by file name.
    pub files: BTreeMap<String, FileMeta>,
    /// Where the block is; not part of the file.
    #[serde(skip)]
    pub dir: PathBuf,
}

/// Length and checksum of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Its length.
    pub bytes: u64,
    /// CRC32C of its content, 8 hex digits.
    pub crc32c: String,
}

impl FileMeta {
    pub(super) fn new(bytes: u64, crc: u32) -> FileMeta {
        FileMeta { bytes, crc32c: format!("{crc:08x}") }
    }
}

impl BlockMeta {
    /// Size of the block on disk, bytes, without `meta.json`.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|f| f.bytes).sum()
    }

    /// Whether the block has samples in `from..=to`.
    pub fn overlaps(&self, from: TimeMs, to: TimeMs) -> bool {
        self.min_time <= to && from <= self.max_time
    }

    /// The file's content.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_string(self)?;
        text.pop();
        let seal = format!("{SEAL}{:08x}\"}}\n", crc32c::crc32c(text.as_bytes()));
        text.push_str(&seal);
        Ok(text.into_bytes())
    }

    /// Reads and checks the `meta.json` of `dir`.
    pub(super) fn decode(dir: &Path, bytes: &[u8]) -> Result<BlockMeta, StoreError> {
        let path = dir.join(META);
        let text = std::str::from_utf8(bytes).map_err(|e| damaged(&path, e))?;
        let at = text.rfind(SEAL).ok_or_else(|| damaged(&path, "has no checksum"))?;
        let expected = format!("{SEAL}{:08x}\"}}\n", crc32c::crc32c(&bytes[..at]));
        if text[at..] != expected {
            return Err(damaged(&path, "checksum does not match"));
        }
        let mut meta: BlockMeta = serde_json::from_str(text).map_err(|e| damaged(&path, e))?;
        if meta.version != VERSION {
            return Err(damaged(&path, format!("version {} is unknown, {VERSION} is known", meta.version)));
        }
        meta.dir = dir.to_owned();
        Ok(meta)
    }
}
