//! The files of the write-ahead log: names and headers of segments (files of records) and of
//! checkpoints, and what is known of each segment ([`SegmentInfo`]). [`super::reader`] reads the
//! records in them, [`super::writer`] writes them.

use super::record::HEADER as RECORD_HEADER;
use crate::model::TimeMs;
use std::path::{Path, PathBuf};

/// Bytes of a file header.
pub(super) const HEADER: usize = 32;
/// The first bytes of a segment.
pub(super) const SEGMENT: &[u8; 8] = b"PERENWAL";
/// The first bytes of a checkpoint.
pub(super) const CHECKPOINT: &[u8; 8] = b"PERENCKP";
const VERSION: u16 = 1;
/// Flag of a header: see [`SegmentInfo::continues_failed`].
const CONTINUES: u16 = 1;
/// Flag of a header: the LSNs right before the first one are in no segment.
const SKIPS: u16 = 2;

/// What is known of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Path of its file.
    pub path: PathBuf,
    /// The number of the segment.
    pub number: u32,
    /// LSN of the last record.
    pub last_lsn: u64,
    /// Time of the newest sample.
    pub newest: Option<TimeMs>,
    /// Whether its deltas may refer to the segment before, because that one failed while it was
    /// written.
    pub continues_failed: bool,
    /// The next segment repeats the records from this LSN on, because they could not be written
    /// here.
    pub repeated_from: Option<u64>,
}

/// What is wrong with the header of a file.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("{0} bytes where the file header needs {HEADER}")]
    TooShort(usize),
    #[error("the file header has a wrong magic")]
    Magic,
    #[error("checksum of the file header is wrong")]
    Checksum,
    /// Written by another version of this program.
    #[error("format version {0}, this program knows {VERSION}")]
    Version(u16),
}

/// The header of a segment or checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The number of the file.
    pub number: u32,
    /// As [`SegmentInfo::continues_failed`].
    pub continues: bool,
    /// Whether LSNs before the first one are used by no record: a power loss removed records whose
    /// samples were in blocks already.
    pub skips: bool,
    /// LSN of the first record.
    pub first_lsn: u64,
}

impl Header {
    /// The encoded header.
    pub(super) fn encode(&self, magic: &[u8; 8]) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(magic);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        let flags = (u16::from(self.continues) * CONTINUES) | (u16::from(self.skips) * SKIPS);
        out[10..12].copy_from_slice(&flags.to_le_bytes());
        out[12..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..24].copy_from_slice(&self.first_lsn.to_le_bytes());
        out[24..28].copy_from_slice(&(RECORD_HEADER as u32).to_le_bytes());
        let crc = crc32c::crc32c(&out[..28]);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes the header at the beginning of `bytes`, or returns what is wrong with it.
    pub(super) fn decode(bytes: &[u8], magic: &[u8; 8]) -> Result<Header, HeaderError> {
        let Some(bytes) = bytes.first_chunk::<HEADER>() else {
            return Err(HeaderError::TooShort(bytes.len()));
        };
        if &bytes[..8] != magic {
            return Err(HeaderError::Magic);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        let crc = u32::from_le_bytes([bytes[28], bytes[29], bytes[30], bytes[31]]);
        // Before the version: in a damaged header the version says nothing.
        if crc32c::crc32c(&bytes[..28]) != crc {
            return Err(HeaderError::Checksum);
        }
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let first_lsn = bytes[16..24].first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        let number = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        let flags = u16::from_le_bytes([bytes[10], bytes[11]]);
        let continues = flags & CONTINUES != 0;
        let skips = flags & SKIPS != 0;
        Ok(Header { number, continues, skips, first_lsn })
    }
}

/// The path of segment `number`.
pub(super) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.wal"))
}

/// The path of checkpoint `number`.
pub(super) fn checkpoint_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("checkpoint.{number:08}"))
}

/// The number of a segment, if `path` is one.
pub(super) fn segment_number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_suffix(".wal").filter(|n| n.len() >= 8)?.parse().ok()
}

/// The number of a checkpoint, if `path` is one.
pub(super) fn checkpoint_number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("checkpoint.").filter(|n| n.len() >= 8)?.parse().ok()
}
