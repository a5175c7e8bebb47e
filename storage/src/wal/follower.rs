//! [`LogFollower`]: reads the log while it is written, record by record, up to the last one that is
//! committed. It reads the files, not the memory of the writer: a reader that is hours behind costs
//! no memory.
//!
//! A scrape is a difference from the one before, and the first of each group in a segment is
//! complete. So the follower begins at the start of the segment that has the wanted record, and
//! also returns what comes before it.

use super::log::Log;
use super::record::{LogRecord, RecordKind, read, resync};
use super::segment::{HEADER, Header, SEGMENT, SegmentInfo};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::limits::WAL_READ_BYTES;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

/// The next thing in the log.
pub enum FollowStep<'a> {
    /// A segment begins, whose records need none from before it.
    Segment,
    /// A record, with a greater LSN than the one before.
    Record(LogRecord<'a>),
    /// Nothing more is committed yet.
    UpToDate,
}

/// Reads the log from a record on.
pub struct LogFollower {
    disk: Arc<dyn Disk>,
    /// The record whose segment is read first.
    first_lsn: u64,
    /// The number of the last segment that was read to its end; 0: none.
    left: u32,
    /// The segment that is read; `None`: the next one is still to be chosen.
    segment: Option<FollowedSegment>,
    /// The last record that was returned; 0: none.
    last_lsn: u64,
    /// Records up to here are committed, and maybe later ones.
    committed: u64,
    /// Number of places at which damage was passed over.
    damaged: u64,
}

/// The segment that is read.
struct FollowedSegment {
    path: PathBuf,
    number: u32,
    /// The bytes of the file from the offset `base` on that are in memory.
    bytes: Vec<u8>,
    base: u64,
    /// The position in `bytes`.
    at: usize,
    /// Whether the header was read.
    has_begun: bool,
}

/// What is at the position in a segment.
enum SegmentEntry {
    /// The header of the segment.
    Begin {
        /// Whether it continues a segment that could not be written on.
        continues: bool,
    },
    /// A record, with the position of its payload.
    Record { lsn: u64, kind: RecordKind, begin: usize, end: usize },
}

/// How reading goes on in a segment.
enum Advance {
    /// There are more bytes.
    Read,
    /// Damage was passed over.
    Skipped,
    /// There is nothing more yet.
    Nothing,
    /// The segment has ended.
    End,
}

impl LogFollower {
    /// A follower that begins with the segment of record `lsn`.
    pub fn new(disk: Arc<dyn Disk>, lsn: u64) -> LogFollower {
        LogFollower { disk, first_lsn: lsn, left: 0, segment: None, last_lsn: 0, committed: 0, damaged: 0 }
    }

    /// The number of the segment that is read; 0: none.
    pub fn segment(&self) -> u32 {
        self.segment.as_ref().map_or(self.left, |segment| segment.number)
    }

    /// The LSN of the last record; 0: none.
    pub fn last_lsn(&self) -> u64 {
        self.last_lsn
    }

    /// Number of places so far at which the log was damaged and something was left out.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The next record of `log`, if it is committed.
    ///
    /// # Errors
    /// A file cannot be read. The next call tries again.
    pub fn next_step(&mut self, log: &Log) -> Result<FollowStep<'_>, StoreError> {
        loop {
            let Some(segment) = &mut self.segment else {
                match self.choose(&log.segments()) {
                    Some(chosen) => self.segment = Some(chosen),
                    None => return Ok(FollowStep::UpToDate),
                }
                continue;
            };
            let found = match segment.parse() {
                Some(found) => found,
                None => {
                    self.committed = log.committed_lsn();
                    let is_behind = self.committed > self.last_lsn;
                    // Before the file is read: if there is a later segment, this one does not grow.
                    let is_last = log.segments().last().is_none_or(|last| last.number <= segment.number);
                    match segment.advance(self.disk.as_ref(), self.last_lsn, is_behind, is_last)? {
                        Advance::Read => continue,
                        Advance::Skipped => {
                            self.damaged += 1;
                            continue;
                        }
                        Advance::Nothing => return Ok(FollowStep::UpToDate),
                        Advance::End => {
                            self.left = segment.number;
                            self.segment = None;
                            continue;
                        }
                    }
                }
            };
            match found {
                SegmentEntry::Begin { continues: true } => {}
                SegmentEntry::Begin { continues: false } => return Ok(FollowStep::Segment),
                SegmentEntry::Record { lsn, end, .. } if lsn <= self.last_lsn => segment.at = end,
                SegmentEntry::Record { lsn, kind, begin, end } => {
                    if lsn > self.committed {
                        self.committed = log.committed_lsn();
                    }
                    if lsn > self.committed {
                        return Ok(FollowStep::UpToDate);
                    }
                    self.last_lsn = lsn;
                    segment.at = end;
                    let Some(segment) = &self.segment else { return Ok(FollowStep::UpToDate) };
                    let payload = &segment.bytes[begin..end];
                    return Ok(FollowStep::Record(LogRecord { lsn, kind, payload, end }));
                }
            }
        }
    }

    /// The segment to read next.
    fn choose(&self, segments: &[SegmentInfo]) -> Option<FollowedSegment> {
        let is_next = |segment: &SegmentInfo| match self.left {
            0 => segment.last_lsn >= self.first_lsn,
            left => segment.number > left,
        };
        let mut at = segments.iter().position(is_next)?;
        // Deltas in it may refer to the segment before.
        while self.left == 0 && at > 0 && segments[at].continues_failed {
            at -= 1;
        }
        let SegmentInfo { path, number, .. } = segments[at].clone();
        Some(FollowedSegment { path, number, bytes: Vec::new(), base: 0, at: 0, has_begun: false })
    }
}

impl FollowedSegment {
    /// What is at the position; `None`: nothing that is complete. Moves over a header only.
    fn parse(&mut self) -> Option<SegmentEntry> {
        if !self.has_begun {
            let header = Header::decode(self.bytes.get(self.at..)?, SEGMENT).ok()?;
            self.has_begun = true;
            self.at += HEADER;
            return Some(SegmentEntry::Begin { continues: header.continues });
        }
        let found = read(&self.bytes, self.at).ok()?;
        let begin = found.end - found.payload.len();
        Some(SegmentEntry::Record { lsn: found.lsn, kind: found.kind, begin, end: found.end })
    }

    /// Goes on where nothing complete is at the position: reads more, or passes over damage.
    /// `is_behind`: later records than `last_lsn` are committed; `is_last`: there is no later
    /// segment.
    fn advance(
        &mut self,
        disk: &dyn Disk,
        last_lsn: u64,
        is_behind: bool,
        is_last: bool,
    ) -> Result<Advance, StoreError> {
        if self.more(disk)? {
            return Ok(Advance::Read);
        }
        let end = if is_last { Advance::Nothing } else { Advance::End };
        // A record that is being written is complete when it is committed.
        if self.at == self.bytes.len() || (is_last && !is_behind) {
            return Ok(end);
        }
        match resync(&self.bytes, self.at, last_lsn) {
            Some(next) => {
                self.at = next;
                self.has_begun = true;
                Ok(Advance::Skipped)
            }
            // The end of a segment that failed is written again into the next one.
            None => Ok(end),
        }
    }

    /// Reads another piece of the file. Returns whether there was one.
    fn more(&mut self, disk: &dyn Disk) -> Result<bool, StoreError> {
        self.bytes.drain(..self.at);
        self.base += self.at as u64;
        self.at = 0;
        let from = self.base + self.bytes.len() as u64;
        match disk.read_onto(&self.path, from, WAL_READ_BYTES, &mut self.bytes) {
            Ok(read) => Ok(read > 0),
            // Removed: more than may be kept was written since. The next segment follows.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::Io { path: self.path.clone(), source }),
        }
    }
}
