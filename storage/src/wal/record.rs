//! A record of the log: header, checksum, payload. Builds several at once ([`RecordBuilder`]), and
//! finds them again in damaged bytes ([`resync`]).
//!
//! `docs/format/wal.md` has the layout. LSN and checksum are filled in by
//! [`super::log::Log::push`], under the lock that orders records; everything else is encoded
//! before, without this lock.

use crate::limits::{WAL_BATCH_BYTES, WAL_RECORD_BYTES};

/// The first two bytes of every record.
pub(super) const MAGIC: u16 = 0x5752;
/// Bytes of a record header.
pub(super) const HEADER: usize = 20;

/// The kind of a record's payload.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A series: shard, slot, labels (codec).
    Series = 1,
    /// A group: id, key (codec).
    Group = 2,
    /// The slots of a group's columns.
    Layout = 3,
    /// A complete scrape; its columns are known from before.
    Keyframe = 4,
    /// A scrape as the difference to the group's scrape before.
    Delta = 5,
    /// Single samples of one shard.
    Samples = 6,
    /// The store was closed in order.
    Close = 7,
    /// The flush watermark (codec); in checkpoints only.
    Flushed = 8,
    /// The end of a checkpoint: its number of records (codec).
    End = 9,
    /// Native histograms of one shard.
    Histograms = 10,
    /// Start timestamps of single samples of one shard.
    Starts = 11,
    /// Samples of one shard that replace stored ones.
    Corrections = 12,
    /// Deleted ranges of time of series of one shard.
    Deletes = 13,
    /// A complete scrape with its columns in one record, because each is useless without the other.
    LayoutAndKeyframe = 14,
}

impl RecordKind {
    /// All kinds.
    pub const ALL: [RecordKind; 14] = [
        RecordKind::Series,
        RecordKind::Group,
        RecordKind::Layout,
        RecordKind::Keyframe,
        RecordKind::Delta,
        RecordKind::Samples,
        RecordKind::Close,
        RecordKind::Flushed,
        RecordKind::End,
        RecordKind::Histograms,
        RecordKind::Starts,
        RecordKind::Corrections,
        RecordKind::Deletes,
        RecordKind::LayoutAndKeyframe,
    ];

    fn from_byte(byte: u8) -> Option<RecordKind> {
        RecordKind::ALL.into_iter().find(|k| *k as u8 == byte)
    }
}

/// Records that are being built. They get consecutive LSNs.
#[derive(Default)]
pub struct RecordBuilder {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl RecordBuilder {
    /// Removes all records. Keeps the memory only if it is small: there is one builder per shard,
    /// and the records of a thousand new series are rare.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(WAL_BATCH_BYTES);
        self.starts.clear();
        self.starts.shrink_to(WAL_BATCH_BYTES / HEADER);
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Number of bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record; `write` appends its payload.
    pub fn add(&mut self, kind: RecordKind, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&MAGIC.to_le_bytes());
        self.bytes.extend_from_slice(&[kind as u8, 0]);
        // Length, number and checksum are filled in when they are known.
        self.bytes.extend_from_slice(&[0; HEADER - 4]);
        write(&mut self.bytes);
        let len = (self.bytes.len() - start - HEADER) as u32;
        self.bytes[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    }

    /// Numbers the records from `lsn` on and fills in their checksums. Returns the LSN after the
    /// last.
    pub fn seal(&mut self, mut lsn: u64) -> u64 {
        for (i, &start) in self.starts.iter().enumerate() {
            let end = self.starts.get(i + 1).copied().unwrap_or(self.bytes.len());
            let record = &mut self.bytes[start..end];
            record[8..16].copy_from_slice(&lsn.to_le_bytes());
            let crc = checksum(record);
            record[16..20].copy_from_slice(&crc.to_le_bytes());
            lsn += 1;
        }
        lsn
    }

    /// The records; valid after [`RecordBuilder::seal`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// CRC32C over the header (with zeros as its checksum field) and the payload.
fn checksum(record: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&record[..16]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &record[HEADER..])
}

/// A record with a valid checksum.
#[derive(Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// The number of the record.
    pub lsn: u64,
    /// The kind of its payload.
    pub kind: RecordKind,
    /// The content, encoded as its kind says.
    pub payload: &'a [u8],
    /// The offset after the record.
    pub end: usize,
}

/// Why there is no valid record at a position. The bytes may be damaged, or they may end within a
/// record that is still being written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("{0} bytes where a record header needs {HEADER}")]
    ShortHeader(usize),
    #[error("no record begins here (bytes {0:02x?})")]
    NoRecord([u8; 4]),
    #[error("record length {0} is beyond {WAL_RECORD_BYTES}")]
    TooLong(usize),
    #[error("record of {length} bytes is cut off after {available}")]
    CutOff { length: usize, available: usize },
    #[error("checksum of a record of {0} bytes is wrong")]
    Checksum(usize),
}

/// The record at `at`, or why there is no valid one. `at` must be within `bytes`.
pub(super) fn read(bytes: &[u8], at: usize) -> Result<LogRecord<'_>, FrameError> {
    let rest = &bytes[at..];
    let Some(header) = rest.first_chunk::<HEADER>() else {
        return Err(FrameError::ShortHeader(rest.len()));
    };
    let magic = u16::from_le_bytes([header[0], header[1]]);
    // An unknown kind is damage, too: a later version writes another version into the header of the
    // file.
    let kind = RecordKind::from_byte(header[2]).filter(|_| magic == MAGIC && header[3] == 0);
    let Some(kind) = kind else {
        return Err(FrameError::NoRecord([header[0], header[1], header[2], header[3]]));
    };
    let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    // A damaged length must not make a record of the rest of the segment.
    if len > WAL_RECORD_BYTES {
        return Err(FrameError::TooLong(len));
    }
    let Some(record) = rest.get(..HEADER + len) else {
        return Err(FrameError::CutOff { length: len, available: rest.len() - HEADER });
    };
    let crc = u32::from_le_bytes([header[16], header[17], header[18], header[19]]);
    if checksum(record) != crc {
        return Err(FrameError::Checksum(len));
    }
    let lsn = header[8..16].first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
    Ok(LogRecord { lsn, kind, payload: &record[HEADER..], end: at + HEADER + len })
}

/// The offset of the next valid record after `at` whose LSN is greater than `lsn`.
pub(super) fn resync(bytes: &[u8], at: usize, lsn: u64) -> Option<usize> {
    let magic = MAGIC.to_le_bytes();
    // Every offset is tried, because a damaged length says nothing about where the next record
    // begins.
    let starts = (at + 1..bytes.len().saturating_sub(HEADER - 1)).filter(|i| bytes[*i..*i + 2] == magic);
    starts.into_iter().find(|i| read(bytes, *i).is_ok_and(|found| found.lsn > lsn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use testing::assert_proportional;

    #[test]
    fn records_are_found_again_behind_damage() {
        let mut batch = RecordBuilder::default();
        for i in 0..3u8 {
            batch.add(RecordKind::Samples, |out| out.extend_from_slice(&[i; 10]));
        }
        assert_eq!(batch.seal(7), 10);
        let mut bytes = batch.bytes().to_vec();
        let first = read(&bytes, 0).unwrap();
        assert_eq!((first.lsn, first.kind, first.end), (7, RecordKind::Samples, 30));
        bytes[31] ^= 1;
        assert!(read(&bytes, 30).unwrap_err().to_string().contains("no record begins here"));
        assert_eq!(resync(&bytes, 30, 7), Some(60));
        assert_eq!(resync(&bytes, 30, 9), None, "only newer records count");
    }

    /// `n` records, with `damage` applied to their bytes.
    fn records(n: usize, damage: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut batch = RecordBuilder::default();
        for i in 0..n {
            batch.add(RecordKind::Samples, |out| out.extend_from_slice(&[i as u8; 50]));
        }
        batch.seal(1);
        let mut bytes = batch.bytes().to_vec();
        damage(&mut bytes);
        bytes
    }

    /// Number of valid records.
    fn good(bytes: &[u8]) -> usize {
        let mut at = 0;
        let mut lsn = 0;
        let mut good = 0;
        while at < bytes.len() {
            match read(bytes, at) {
                Ok(found) => (at, lsn, good) = (found.end, found.lsn, good + 1),
                Err(_) => at = resync(bytes, at, lsn).unwrap_or(bytes.len()),
            }
        }
        good
    }

    #[test]
    fn twice_the_records_cost_twice_as_much() {
        let each = |every: usize| {
            move |bytes: &mut Vec<u8>| {
                for byte in bytes.iter_mut().step_by(every) {
                    *byte ^= 1;
                }
            }
        };
        assert_proportional("sealing", 2_000, |n| n, |n| records(*n, |_| ()));
        assert_proportional("good ones", 2_000, |n| records(n, |_| ()), |bytes| good(bytes));
        assert_proportional("some good ones", 2_000, |n| records(n, each(701)), |bytes| good(bytes));
        assert_proportional("no good one", 2_000, |n| records(n, each(50)), |bytes| good(bytes));
        assert_proportional("zeros", 100_000, |n| vec![0; n], |bytes| good(bytes));
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_noticed(bit in 0usize..30 * 8) {
            let mut batch = RecordBuilder::default();
            batch.add(RecordKind::Delta, |out| out.extend_from_slice(&[3; 10]));
            batch.seal(1);
            let mut bytes = batch.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&bytes, 0).is_err());
        }
    }
}
