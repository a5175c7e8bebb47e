//! Reads a block's `tombstones`: time ranges of series that are deleted but still in the chunks.

use super::super::{ImportError, damaged, io_error};
use super::bytes::{TsdbByteReader, sealed};
use std::collections::HashMap;
use std::path::Path;
use storage::model::TimeMs;

const MAGIC: u32 = 0x0130_BA30;
/// Length of the header: magic and version.
const HEADER: usize = 5;

/// Deleted ranges, ends included, by the reference of the series in the index; sorted, without
/// overlaps.
#[derive(Debug, Default)]
pub(super) struct TsdbTombstones(HashMap<u64, Vec<(TimeMs, TimeMs)>>);

impl TsdbTombstones {
    /// Reads the file; it may be missing.
    pub(super) fn open(path: &Path) -> Result<TsdbTombstones, ImportError> {
        // Blocks without deletions have no file or an empty one.
        if !path.exists() {
            return Ok(TsdbTombstones::default());
        }
        let content = std::fs::read(path).map_err(io_error(path))?;
        TsdbTombstones::read(&content)
            .ok_or_else(|| damaged(path, "the tombstones, or their checksum, are wrong"))
    }

    fn read(content: &[u8]) -> Option<TsdbTombstones> {
        let (content, crc) = content.split_at_checked(content.len().checked_sub(4)?)?;
        let mut head = TsdbByteReader::new(content);
        let body = content.get(HEADER..)?;
        if head.u32()? != MAGIC || head.u8()? != 1 || !sealed(body, TsdbByteReader::new(crc).u32()) {
            return None;
        }
        let mut cursor = TsdbByteReader::new(body);
        let mut found = Vec::new();
        while cursor.left() > 0 {
            found.push((cursor.uvarint()?, cursor.varint()?, cursor.varint()?));
        }
        Some(TsdbTombstones::new(found.into_iter()))
    }

    /// Of series and ranges in any order.
    pub(super) fn new(deleted: impl Iterator<Item = (u64, TimeMs, TimeMs)>) -> TsdbTombstones {
        let mut found: HashMap<u64, Vec<(TimeMs, TimeMs)>> = HashMap::new();
        for (series, from, to) in deleted {
            found.entry(series).or_default().push((from, to));
        }
        found.values_mut().for_each(join);
        TsdbTombstones(found)
    }

    /// Whether the sample at `t` of a series is deleted.
    pub(super) fn covers(&self, series: u64, t: TimeMs) -> bool {
        let Some(deleted) = self.0.get(&series) else { return false };
        // Ranges do not overlap, so only the last that has begun can contain the time.
        let begun = deleted.partition_point(|(from, _)| *from <= t);
        deleted[..begun].last().is_some_and(|(_, to)| t <= *to)
    }
}

/// Sorts ranges, and merges those that overlap.
fn join(stretches: &mut Vec<(TimeMs, TimeMs)>) {
    stretches.sort_unstable();
    stretches.dedup_by(|next, before| {
        let overlaps = next.0 <= before.1;
        if overlaps {
            before.1 = before.1.max(next.1);
        }
        overlaps
    });
}
