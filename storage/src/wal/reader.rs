//! Reads the log back: the newest checkpoint, then the segments in order. The checksum of every
//! record is verified before it is used.
//!
//! Damage does not stop the reader. A torn tail of the last segment is cut off; elsewhere the
//! reader searches for the next valid record and reports what lies between. A record that was
//! written twice, because its first segment failed, counts once. Files are read piece by piece
//! ([`super::segment_reader`]). A [`RecordVisitor`] interprets the records; it may use other
//! threads, and reports at the end what became of the records.

use super::record::{FrameError, LogRecord, RecordKind, read, resync};
use super::record_error::RecordError;
use super::segment::{
    CHECKPOINT, HEADER, Header, SEGMENT, SegmentInfo, checkpoint_number, checkpoint_path, segment_number,
};
use super::segment_durability::{SyncFailureSign, make_durable, note_path, remove_unfinished};
use super::segment_reader::SegmentReader;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::limits::WAL_PROGRESS_SEGMENTS;
use crate::model::TimeMs;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The position of a record.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPosition {
    /// The number of the file: checkpoints and segments in the order of reading.
    pub file: usize,
    /// The offset in the file.
    pub offset: usize,
}

/// Receives the records of the log.
///
/// # Contract
/// 1. [`RecordVisitor::record`] is called once for each valid record: first those of the
///    checkpoint, whose LSNs are their own, then those of the segments in ascending order of LSN. A
///    record that is in two segments, because the first one failed, comes once.
/// 2. [`RecordVisitor::finish`] is called once, after the last record, also if reading was stopped
///    by [`RecordVisitor::should_stop`]; it returns when all records are processed.
/// 3. The records must be applied as if one after the other: a deletion does not touch samples that
///    come later, and a delta needs the row before. Records of different shards are independent.
///
/// *Checked:* clause 3 by `storage/tests/long_replays.rs` with one and several threads.
pub trait RecordVisitor {
    /// Receives one record.
    fn record(&mut self, position: RecordPosition, found: &LogRecord);

    /// Called after the last record. Returns what became of the records.
    fn finish(&mut self) -> RecordOutcomes;

    /// Whether to stop reading.
    fn should_stop(&self) -> bool {
        false
    }
}

/// What became of the records.
#[derive(Debug, Default)]
pub struct RecordOutcomes {
    /// Time of the newest sample, by file.
    newest: BTreeMap<usize, TimeMs>,
    /// Records that could not be used, with the reason.
    refused: Vec<(RecordPosition, String)>,
}

impl RecordOutcomes {
    /// Notes the result of a record: the time of its newest sample, or why it could not be used.
    pub fn note(&mut self, position: RecordPosition, lsn: u64, became: Result<Option<TimeMs>, RecordError>) {
        match became {
            Ok(t) => self.see(position.file, t),
            Err(reason) => self.refused.push((position, format!("record {lsn}: {reason}"))),
        }
    }

    fn see(&mut self, file: usize, t: Option<TimeMs>) {
        if let Some(t) = t {
            self.newest.entry(file).and_modify(|newest| *newest = t.max(*newest)).or_insert(t);
        }
    }

    /// Adds the results of another visitor.
    pub fn add(&mut self, other: RecordOutcomes) {
        for (file, t) in other.newest {
            self.see(file, Some(t));
        }
        self.refused.extend(other.refused);
    }
}

/// What the log contains.
#[derive(Debug, Default)]
pub struct LogContents {
    /// The segment files, the oldest first.
    pub segments: Vec<SegmentInfo>,
    /// LSN of the last record; 0 if there is none.
    pub last_lsn: u64,
    /// The highest number that any file has or had.
    pub last_number: u32,
    /// Number of valid records.
    pub records: u64,
    /// Positions and descriptions of damage (file, offset, reason).
    pub damage: Vec<(RecordPosition, String)>,
    /// Whether the log ends with an orderly close, or is empty.
    pub clean: bool,
    /// The files that were read, by their number in a [`RecordPosition`]: checkpoints first.
    files: Vec<PathBuf>,
    /// Number of the first segment in `files`.
    first: usize,
}

impl LogContents {
    /// Whether a position is in a checkpoint rather than in a segment.
    pub fn in_checkpoint(&self, position: RecordPosition) -> bool {
        position.file < self.first
    }
}

/// Where a second reading begins.
#[derive(Copy, Clone, Debug, Default)]
pub struct ResumePoint {
    /// The first record to read.
    pub position: RecordPosition,
    /// The record before, and its LSN.
    pub before: Option<(RecordPosition, u64)>,
}

impl ResumePoint {
    /// The last LSN of the segments before this point; 0 if there is none. The records of a
    /// checkpoint have numbers of their own, which do not count.
    fn last_lsn(&self, found: &LogContents) -> u64 {
        self.before.filter(|(position, _)| !found.in_checkpoint(*position)).map_or(0, |(_, lsn)| lsn)
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    |source| StoreError::Io { path: path.to_path_buf(), source }
}

/// Reads the log in `dir` and passes its records to `visitor`. A torn tail is cut off. Every
/// segment is synced before it is read: everything that is read counts as acknowledged from now on,
/// but a killed process may not have synced it.
pub fn read_log(
    disk: &dyn Disk,
    dir: &Path,
    visitor: &mut dyn RecordVisitor,
) -> Result<LogContents, StoreError> {
    let names = disk.list(dir).map_err(io_error(dir))?;
    debug_assert!(names.is_sorted(), "a clause of Disk");
    let mut numbered: Vec<(u32, PathBuf)> =
        names.iter().filter_map(|path| Some((segment_number(path)?, path.clone()))).collect();
    // By number: names with more digits do not sort by their text.
    numbered.sort();
    let mut headers = Vec::new();
    for (_, path) in &numbered {
        let header = disk.read_at(path, 0, HEADER).map_err(io_error(path))?;
        headers.push(Header::decode(&header, SEGMENT).ok());
    }
    remove_unfinished(disk, &names);
    let mut all = LogReader::new(disk, visitor);
    all.read_checkpoint(dir, &names);
    let of_segments = all.files.len();
    let mut segments = Vec::new();
    for (i, (number, path)) in numbered.iter().enumerate() {
        // An empty file is left by a failed attempt to create a segment. If it cannot be removed,
        // it does no harm.
        if headers[i].is_none() && disk.size(path).is_ok_and(|len| len == 0) && disk.remove(path).is_ok() {
            continue;
        }
        make_durable(disk, path, sync_failure_sign(&headers[i..], names.contains(&note_path(path))))?;
        // Files without a header are skipped: these are failed attempts, too.
        let following = headers[i + 1..].iter().flatten().next();
        let repeated_from = following.filter(|header| header.continues).map(|header| header.first_lsn);
        all.files.push(path.clone());
        let cut = all.read_segment(path, 0, repeated_from, i + 1 == numbered.len());
        cut.and_then(|cut| cut.map_or(Ok(()), |len| disk.truncate(path, len as u64)))
            .map_err(io_error(path))?;
        let path = path.clone();
        let last_lsn = all.last_lsn;
        // If the header is damaged, assume that the segment continues the one before: then the one
        // before is kept.
        let continues = headers[i].as_ref().is_none_or(|header| header.continues);
        segments.push(SegmentInfo {
            path,
            number: *number,
            last_lsn,
            newest: None,
            continues_failed: continues,
            repeated_from,
        });
        // A log of 100 GB takes minutes: an administrator sees that the start goes on.
        if segments.len().is_multiple_of(WAL_PROGRESS_SEGMENTS) {
            let looked_through = segments.len();
            let of = numbered.len();
            tracing::info!(looked_through, of, "looking through the log's segments");
        }
    }
    // Checkpoints count, too: their segments may all be removed, and numbers are not used twice.
    let numbers = names.iter().filter_map(|path| segment_number(path).or(checkpoint_number(path)));
    Ok(LogContents { last_number: numbers.max().unwrap_or(0), ..all.finish(segments, of_segments) })
}

/// Signs that a sync of the first of these segments may have failed. A writer whose segment failed,
/// or could not be created, continues in another one.
fn sync_failure_sign(headers: &[Option<Header>], noted: bool) -> SyncFailureSign {
    let failed = |header: &Option<Header>| header.as_ref().is_none_or(|header| header.continues);
    if noted {
        SyncFailureSign::Note
    } else if headers.iter().take(2).any(failed) {
        // A sync of this segment may have been missed, or that of the one before, whose end a
        // failed attempt can have taken with it.
        SyncFailureSign::FailedSegment
    } else {
        SyncFailureSign::Nothing
    }
}

/// Reads again, for another visitor, what [`read_log`] has found, from `from` on. With `None`,
/// nothing is left to read, and the visitor only reports what became of the records. Records that
/// were written since are not read, and no file is changed.
pub fn read_log_again(
    disk: &dyn Disk,
    dir: &Path,
    found: &LogContents,
    from: Option<ResumePoint>,
    visitor: &mut dyn RecordVisitor,
) -> Result<LogContents, StoreError> {
    let mut all = LogReader::new(disk, visitor);
    match from {
        None => all.files.clone_from(&found.files),
        Some(ResumePoint { position, .. }) if found.in_checkpoint(position) => {
            // Checkpoints are always read completely.
            all.read_checkpoint(dir, &disk.list(dir).map_err(io_error(dir))?);
            all.read_segments(found, 0, 0)?;
        }
        Some(resume @ ResumePoint { position, .. }) => {
            all.last_lsn = resume.last_lsn(found);
            all.files.extend_from_slice(&found.files[..position.file]);
            all.read_segments(found, position.file - found.first, position.offset)?;
        }
    }
    let outcome = all.finish(found.segments.clone(), found.first);
    Ok(LogContents { records: found.records, last_number: found.last_number, ..outcome })
}

/// The state of reading a log.
struct LogReader<'a> {
    disk: &'a dyn Disk,
    visitor: &'a mut dyn RecordVisitor,
    last_lsn: u64,
    records: u64,
    /// Whether the last record is an orderly close, or there is none.
    closed: bool,
    /// The files, by their number in a [`RecordPosition`].
    files: Vec<PathBuf>,
    damage: Vec<(RecordPosition, String)>,
}

impl<'a> LogReader<'a> {
    fn new(disk: &'a dyn Disk, visitor: &'a mut dyn RecordVisitor) -> LogReader<'a> {
        LogReader {
            disk,
            visitor,
            last_lsn: 0,
            records: 0,
            closed: true,
            files: Vec::new(),
            damage: Vec::new(),
        }
    }

    /// Finishes the visitor and combines its results with the damage; `first` is the number of the
    /// first segment among the files.
    fn finish(self, mut segments: Vec<SegmentInfo>, first: usize) -> LogContents {
        // Workers may still process records: only they know which could be used.
        let used = self.visitor.finish();
        for (i, segment) in segments.iter_mut().enumerate() {
            segment.newest = used.newest.get(&(first + i)).copied();
        }
        self.outcome(segments, first, used.refused)
    }

    fn outcome(
        self,
        segments: Vec<SegmentInfo>,
        first: usize,
        refused: Vec<(RecordPosition, String)>,
    ) -> LogContents {
        let mut damage = self.damage;
        damage.extend(refused);
        // The sort is stable: several lines about one position keep their order.
        damage.sort_by_key(|(position, _)| *position);
        let path =
            |file: usize| self.files.get(file).map_or(String::new(), |path| path.display().to_string());
        LogContents {
            clean: self.closed && damage.is_empty(),
            last_number: 0,
            segments,
            last_lsn: self.last_lsn,
            records: self.records,
            damage: damage
                .into_iter()
                .map(|(position, what)| {
                    (position, format!("{}: offset {}: {what}", path(position.file), position.offset))
                })
                .collect(),
            files: self.files,
            first,
        }
    }

    fn damage(&mut self, at: usize, what: &str) {
        let position = RecordPosition { file: self.files.len() - 1, offset: at };
        self.damage.push((position, what.to_owned()));
    }

    /// Reads the segments from number `begin` on, that one from offset `at` on.
    fn read_segments(&mut self, found: &LogContents, begin: usize, at: usize) -> Result<(), StoreError> {
        let last = found.segments.len().saturating_sub(1);
        for (i, SegmentInfo { path, repeated_from, .. }) in found.segments.iter().enumerate().skip(begin) {
            self.files.push(path.clone());
            let from = if i == begin { at } else { 0 };
            self.read_segment(path, from, *repeated_from, i == last).map_err(io_error(path))?;
        }
        Ok(())
    }

    /// Reads the records of a segment from offset `from` on. Returns where the file is to be cut
    /// off, if it is. `repeated_from`: the next segment repeats the records from this LSN on,
    /// because they could not be written here. Then a torn tail is no loss, and no record from
    /// `repeated_from` on may be used here.
    fn read_segment(
        &mut self,
        path: &Path,
        from: usize,
        repeated_from: Option<u64>,
        last: bool,
    ) -> io::Result<Option<usize>> {
        let mut reader = SegmentReader::open(self.disk, path, from)?;
        // A failed attempt to create a segment that could not be removed.
        if reader.is_empty() {
            return Ok(None);
        }
        if from == 0
            && let Some(cut) = self.begin(&mut reader, repeated_from, last)?
        {
            return Ok(cut);
        }
        self.read_records_of(&mut reader, repeated_from, last)
    }

    /// Moves to the first record of a segment. `Some` if there is none; it contains where to cut
    /// off the file, if it must be.
    fn begin(
        &mut self,
        reader: &mut SegmentReader,
        repeated_from: Option<u64>,
        last: bool,
    ) -> io::Result<Option<Option<usize>>> {
        match Header::decode(reader.rest(), SEGMENT) {
            Ok(header) => {
                // Without a checkpoint and with an empty log before, any first number is right.
                if self.last_lsn > 0 && header.first_lsn > self.last_lsn + 1 && !header.skips {
                    let missing = (self.last_lsn + 1, header.first_lsn - 1);
                    self.damage(0, &format!("records {} to {} are missing", missing.0, missing.1));
                }
                if header.skips {
                    self.last_lsn = self.last_lsn.max(header.first_lsn.saturating_sub(1));
                }
                reader.advance(HEADER)?;
            }
            Err(reason) => {
                reader.read_to_end()?;
                let next = self.resync(reader, repeated_from);
                // A segment without a readable record that the next one repeats completely is no
                // loss, so it is not reported.
                if next.is_some() || repeated_from.is_none() {
                    self.damage(0, &reason.to_string());
                }
                match next {
                    Some(next) => reader.advance(next)?,
                    None => return Ok(Some(last.then_some(0))),
                }
            }
        }
        Ok(None)
    }

    fn read_records_of(
        &mut self,
        reader: &mut SegmentReader,
        repeated_from: Option<u64>,
        last: bool,
    ) -> io::Result<Option<usize>> {
        // Stopping between records: what was given to the visitor is complete.
        while !reader.is_done() && !self.visitor.should_stop() {
            let read = read(reader.rest(), 0).map(|found| {
                self.record(reader.file_offset(), &found);
                found.end
            });
            match read {
                Ok(end) => reader.advance(end)?,
                // A record may look damaged only because the piece in memory ends within it.
                Err(_) if reader.read_more()? => (),
                Err(reason) => {
                    if let Some(cut) = self.skip(reader, reason, repeated_from, last)? {
                        return Ok(cut);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Finds the next valid record that the next segment does not repeat.
    fn resync(&self, reader: &SegmentReader, repeated_from: Option<u64>) -> Option<usize> {
        let next = resync(reader.rest(), 0, self.last_lsn)?;
        let lsn = read(reader.rest(), next).map_or(u64::MAX, |found| found.lsn);
        repeated_from.is_none_or(|repeated_from| lsn < repeated_from).then_some(next)
    }

    /// Continues after damage. `Some` if no valid record follows; it contains where to cut off the
    /// file, if it must be.
    fn skip(
        &mut self,
        reader: &mut SegmentReader,
        reason: FrameError,
        repeated_from: Option<u64>,
        last: bool,
    ) -> io::Result<Option<Option<usize>>> {
        reader.read_to_end()?;
        let at = reader.file_offset();
        if let Some(next) = self.resync(reader, repeated_from) {
            self.damage(at, &format!("{reason}; skipped {next} bytes"));
            reader.advance(next)?;
            return Ok(None);
        }
        if repeated_from.is_some() {
            return Ok(Some(None));
        }
        let what = if last { "cut off" } else { "skipped" };
        self.damage(at, &format!("{reason}; {what} the last {} bytes", reader.rest().len()));
        Ok(Some(last.then_some(at)))
    }

    fn record(&mut self, at: usize, found: &LogRecord) {
        // Written twice, because its first segment failed.
        if found.lsn <= self.last_lsn {
            return;
        }
        self.last_lsn = found.lsn;
        self.records += 1;
        self.closed = found.kind == RecordKind::Close;
        self.visitor.record(RecordPosition { file: self.files.len() - 1, offset: at }, found);
    }

    /// Reads the newest complete checkpoint. If newer ones are damaged, reads their valid records
    /// first: what they say about series is nowhere else.
    fn read_checkpoint(&mut self, dir: &Path, names: &[PathBuf]) {
        let mut numbers: Vec<u32> = names.iter().filter_map(|path| checkpoint_number(path)).collect();
        numbers.sort_unstable();
        for number in numbers.into_iter().rev() {
            let path = checkpoint_path(dir, number);
            self.files.push(path.clone());
            // A checkpoint with damage is used, and so is the one before it: together they miss the
            // least.
            let before = self.damage.len();
            match self.disk.read(&path) {
                Ok(bytes) => self.read_records(&bytes),
                Err(error) => self.damage(0, &error.to_string()),
            }
            if self.damage.len() == before {
                return;
            }
        }
    }

    /// Reads the valid records of a checkpoint. It is complete if all are valid and the last is an
    /// end record.
    fn read_records(&mut self, bytes: &[u8]) {
        if let Err(reason) = Header::decode(bytes, CHECKPOINT) {
            self.damage(0, &reason.to_string());
        }
        let mut at = HEADER.min(bytes.len());
        let mut last = 0;
        let mut ended = false;
        while at < bytes.len() {
            match read(bytes, at) {
                Ok(found) => {
                    ended = found.kind == RecordKind::End && found.end == bytes.len();
                    self.visitor.record(RecordPosition { file: self.files.len() - 1, offset: at }, &found);
                    last = found.lsn;
                    at = found.end;
                }
                Err(reason) => {
                    let next = resync(bytes, at, last).unwrap_or(bytes.len());
                    self.damage(at, &format!("{reason}; skipped {} bytes", next - at));
                    at = next;
                }
            }
        }
        if !ended {
            self.damage(bytes.len(), "its end is missing");
        }
    }
}
