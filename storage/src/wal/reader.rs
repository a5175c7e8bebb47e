//! Reading the log back: newest checkpoint, then the segments in order, every record checked before use.
//!
//! Damage never stops it. A torn tail of the last segment is cut off; elsewhere the next good
//! record is looked for and what lies between is reported. A record that was written twice (its
//! first segment failed) counts once. Files are read piece by piece ([`super::segment_reader`]);
//! what records mean is the [`RecordVisitor`]'s business, who may work on other threads and says at
//! the end what became of them.

use super::record::{LogRecord, RecordKind, read, resync};
use super::segment::{
    CHECKPOINT, HEADER, Header, SEGMENT, SegmentInfo, checkpoint_number, checkpoint_path, segment_number,
};
use super::segment_durability::{SyncTrust, make_durable, note_path, remove_unfinished};
use super::segment_reader::SegmentReader;
use crate::disk::Disk;
use crate::limits::WAL_TOLD_SEGMENTS;
use crate::model::TimeMs;
use crate::store::StoreError;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where a record is: the number of its file, in the order of reading, and its offset.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPosition {
    /// Checkpoints and segments, in the order of reading.
    pub file: usize,
    /// Offset in it.
    pub at: usize,
}

/// Takes the records.
pub trait RecordVisitor {
    /// One record.
    fn record(&mut self, place: RecordPosition, found: &LogRecord);

    /// There are no more: what became of them.
    fn finish(&mut self) -> RecordOutcomes;

    /// Whether nothing more is wanted.
    fn should_stop(&self) -> bool {
        false
    }
}

/// What became of records.
#[derive(Debug, Default)]
pub struct RecordOutcomes {
    /// Time of the newest sample, by file.
    newest: BTreeMap<usize, TimeMs>,
    /// What could not be used, and why.
    refused: Vec<(RecordPosition, String)>,
}

impl RecordOutcomes {
    /// Notes what became of a record: time of its newest sample, or why it cannot be used.
    pub fn note(&mut self, place: RecordPosition, lsn: u64, became: Result<Option<TimeMs>, String>) {
        match became {
            Ok(t) => self.see(place.file, t),
            Err(reason) => self.refused.push((place, format!("record {lsn}: {reason}"))),
        }
    }

    fn see(&mut self, file: usize, t: Option<TimeMs>) {
        if let Some(t) = t {
            self.newest.entry(file).and_modify(|newest| *newest = t.max(*newest)).or_insert(t);
        }
    }

    /// Adds what was noted elsewhere.
    pub fn add(&mut self, other: RecordOutcomes) {
        other.newest.into_iter().for_each(|(file, t)| self.see(file, Some(t)));
        self.refused.extend(other.refused);
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct LogContents {
    /// The segments.
    pub segments: Vec<SegmentInfo>,
    /// LSN of the last record; 0: none.
    pub last_lsn: u64,
    /// The highest number that a file has or had.
    pub last_number: u32,
    /// Good records.
    pub records: u64,
    /// Where, and in words: file, offset, reason.
    pub damage: Vec<(RecordPosition, String)>,
    /// Whether the log ends with an orderly close (or is empty).
    pub clean: bool,
    /// What was read, by the number that it has in a [`RecordPosition`]: checkpoints first.
    files: Vec<PathBuf>,
    /// Number of the first segment among them.
    first: usize,
}

impl LogContents {
    /// Whether a place is in a checkpoint, not in a segment.
    pub fn in_checkpoint(&self, place: RecordPosition) -> bool {
        place.file < self.first
    }
}

/// Where a second reading begins.
#[derive(Copy, Clone, Debug, Default)]
pub struct ResumePoint {
    /// The first record that it reads.
    pub place: RecordPosition,
    /// The one before, and its LSN.
    pub before: Option<(RecordPosition, u64)>,
}

impl ResumePoint {
    /// What the segments had before it. The numbers of a checkpoint's records are its own.
    fn last_lsn(&self, found: &LogContents) -> u64 {
        self.before.filter(|(place, _)| !found.in_checkpoint(*place)).map_or(0, |(_, lsn)| lsn)
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    |source| StoreError::Io { path: path.to_path_buf(), source }
}

/// Replays the log in `dir` into `visitor`. Its torn tail is cut off, and every segment synced
/// before it is read: a process that was killed may not have synced what now counts as
/// acknowledged.
pub fn read_log(
    disk: &dyn Disk,
    dir: &Path,
    visitor: &mut dyn RecordVisitor,
) -> Result<LogContents, StoreError> {
    let names = disk.list(dir).map_err(io_error(dir))?;
    let mut numbered: Vec<(u32, PathBuf)> =
        names.iter().filter_map(|path| Some((segment_number(path)?, path.clone()))).collect();
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
        // One whose making failed. If it cannot go it does no harm.
        if headers[i].is_none() && disk.size(path).is_ok_and(|len| len == 0) && disk.remove(path).is_ok() {
            continue;
        }
        make_durable(disk, path, doubt(&headers[i..], names.contains(&note_path(path))))?;
        // A file without a header is one whose making failed, too.
        let following = headers[i + 1..].iter().flatten().next();
        let anew = following.filter(|header| header.continues).map(|header| header.first_lsn);
        all.files.push(path.clone());
        let cut = all.read_segment(path, 0, anew, i + 1 == numbered.len());
        cut.and_then(|cut| cut.map_or(Ok(()), |len| disk.truncate(path, len as u64)))
            .map_err(io_error(path))?;
        let path = path.clone();
        let last_lsn = all.last_lsn;
        // Of a file with a damaged header nobody knows: the next one may rest on what is before it.
        let continues = headers[i].as_ref().is_none_or(|header| header.continues);
        segments.push(SegmentInfo {
            path,
            number: *number,
            last_lsn,
            newest: None,
            continues_failed: continues,
            repeated_from: anew,
        });
        if segments.len().is_multiple_of(WAL_TOLD_SEGMENTS) {
            let looked_through = segments.len();
            let of = numbered.len();
            tracing::info!(looked_through, of, "looking through the log's segments");
        }
    }
    let numbers = names.iter().filter_map(|path| segment_number(path).or(checkpoint_number(path)));
    Ok(LogContents { last_number: numbers.max().unwrap_or(0), ..all.finish(segments, of_segments) })
}

/// What there is to say against the syncs of the first of these segments: a writer whose segment
/// failed, or could not be made, goes on in another one.
fn doubt(headers: &[Option<Header>], noted: bool) -> SyncTrust {
    let failed = |header: &Option<Header>| header.as_ref().is_none_or(|header| header.continues);
    if noted {
        SyncTrust::Noted
    } else if headers.iter().take(2).any(failed) {
        SyncTrust::Some
    } else {
        SyncTrust::No
    }
}

/// Reads once more, for another visitor, what [`read_log`] has found, from `from` on (`None`: all
/// of it was of use already, and the visitor only says what became of it): nothing that is written
/// since, and no file is changed.
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
        Some(ResumePoint { place, .. }) if found.in_checkpoint(place) => {
            // Of checkpoints nothing is left out.
            all.read_checkpoint(dir, &disk.list(dir).map_err(io_error(dir))?);
            all.read_segments(found, 0, 0)?;
        }
        Some(resume @ ResumePoint { place, .. }) => {
            all.last_lsn = resume.last_lsn(found);
            all.files.extend_from_slice(&found.files[..place.file]);
            all.read_segments(found, place.file - found.first, place.at)?;
        }
    }
    let outcome = all.finish(found.segments.clone(), found.first);
    Ok(LogContents { records: found.records, last_number: found.last_number, ..outcome })
}

/// A replay on its way.
struct LogReader<'a> {
    disk: &'a dyn Disk,
    visitor: &'a mut dyn RecordVisitor,
    last_lsn: u64,
    records: u64,
    /// Whether nothing, or an orderly close, is the last record.
    closed: bool,
    /// By the number that they have in a [`RecordPosition`].
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

    /// What became of it all; `first` is the number of the first segment among the files.
    fn finish(self, mut segments: Vec<SegmentInfo>, first: usize) -> LogContents {
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
        // Stable: what is said of one place stays in order.
        damage.sort_by_key(|(place, _)| *place);
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
                .map(|(place, what)| (place, format!("{}: offset {}: {what}", path(place.file), place.at)))
                .collect(),
            files: self.files,
            first,
        }
    }

    fn damage(&mut self, at: usize, what: &str) {
        let place = RecordPosition { file: self.files.len() - 1, at };
        self.damage.push((place, what.to_owned()));
    }

    /// Replays the segments from the one at `begin` on, and that from offset `at` on.
    fn read_segments(&mut self, found: &LogContents, begin: usize, at: usize) -> Result<(), StoreError> {
        let last = found.segments.len().saturating_sub(1);
        for (i, SegmentInfo { path, repeated_from: anew, .. }) in
            found.segments.iter().enumerate().skip(begin)
        {
            self.files.push(path.clone());
            let from = if i == begin { at } else { 0 };
            self.read_segment(path, from, *anew, i == last).map_err(io_error(path))?;
        }
        Ok(())
    }

    /// Replays the records of a segment from offset `from` on; where the file is to be cut off, if
    /// it is. `anew`: from this LSN on, the next segment holds anew what could not be written here.
    /// A torn tail is no loss then, and of what is behind it nothing may be used before that.
    fn read_segment(
        &mut self,
        path: &Path,
        from: usize,
        anew: Option<u64>,
        last: bool,
    ) -> io::Result<Option<usize>> {
        let mut tape = SegmentReader::open(self.disk, path, from)?;
        if tape.is_empty() {
            return Ok(None);
        }
        if from == 0
            && let Some(cut) = self.begin(&mut tape, anew, last)?
        {
            return Ok(cut);
        }
        self.read_tape(&mut tape, anew, last)
    }

    /// Goes to the first record of a segment; where the file is to be cut off if it has none and is to be.
    fn begin(
        &mut self,
        tape: &mut SegmentReader,
        anew: Option<u64>,
        last: bool,
    ) -> io::Result<Option<Option<usize>>> {
        match Header::decode(tape.rest(), SEGMENT) {
            Ok(header) => {
                if self.last_lsn > 0 && header.first_lsn > self.last_lsn + 1 && !header.skips {
                    let missing = (self.last_lsn + 1, header.first_lsn - 1);
                    self.damage(0, &format!("records {} to {} are missing", missing.0, missing.1));
                }
                if header.skips {
                    self.last_lsn = self.last_lsn.max(header.first_lsn.saturating_sub(1));
                }
                tape.go(HEADER)?;
            }
            Err(reason) => {
                tape.whole()?;
                let next = self.resync(tape, anew);
                if next.is_some() || anew.is_none() {
                    self.damage(0, &reason);
                }
                match next {
                    Some(next) => tape.go(next)?,
                    None => return Ok(Some(last.then_some(0))),
                }
            }
        }
        Ok(None)
    }

    fn read_tape(
        &mut self,
        tape: &mut SegmentReader,
        anew: Option<u64>,
        last: bool,
    ) -> io::Result<Option<usize>> {
        while !tape.is_done() && !self.visitor.should_stop() {
            let read = read(tape.rest(), 0).map(|found| {
                self.record(tape.at(), &found);
                found.end
            });
            match read {
                Ok(end) => tape.go(end)?,
                // A record that is cut by the end of what is in memory looks damaged.
                Err(_) if tape.more()? => (),
                Err(reason) => {
                    if let Some(cut) = self.skip(tape, &reason, anew, last)? {
                        return Ok(cut);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Where the next good record is that the next segment does not hold anew.
    fn resync(&self, tape: &SegmentReader, anew: Option<u64>) -> Option<usize> {
        let next = resync(tape.rest(), 0, self.last_lsn)?;
        let lsn = read(tape.rest(), next).map_or(u64::MAX, |found| found.lsn);
        anew.is_none_or(|anew| lsn < anew).then_some(next)
    }

    /// Goes on behind damage; where the file is to be cut off, if nothing good is behind it and it is at all.
    fn skip(
        &mut self,
        tape: &mut SegmentReader,
        reason: &str,
        anew: Option<u64>,
        last: bool,
    ) -> io::Result<Option<Option<usize>>> {
        tape.whole()?;
        let at = tape.at();
        if let Some(next) = self.resync(tape, anew) {
            self.damage(at, &format!("{reason}; skipped {next} bytes"));
            tape.go(next)?;
            return Ok(None);
        }
        if anew.is_some() {
            return Ok(Some(None));
        }
        let what = if last { "cut off" } else { "skipped" };
        self.damage(at, &format!("{reason}; {what} the last {} bytes", tape.rest().len()));
        Ok(Some(last.then_some(at)))
    }

    fn record(&mut self, at: usize, found: &LogRecord) {
        if found.lsn <= self.last_lsn {
            return;
        }
        self.last_lsn = found.lsn;
        self.records += 1;
        self.closed = found.kind == RecordKind::Close;
        self.visitor.record(RecordPosition { file: self.files.len() - 1, at }, found);
    }

    /// The records of the newest whole checkpoint, and before them the good ones of damaged newer
    /// ones: what they knew of series is nowhere else.
    fn read_checkpoint(&mut self, dir: &Path, names: &[PathBuf]) {
        let mut numbers: Vec<u32> = names.iter().filter_map(|path| checkpoint_number(path)).collect();
        numbers.sort_unstable();
        for number in numbers.into_iter().rev() {
            let path = checkpoint_path(dir, number);
            self.files.push(path.clone());
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

    /// The good records of a checkpoint. It is whole if all are good and the last is an end.
    fn read_records(&mut self, bytes: &[u8]) {
        if let Err(reason) = Header::decode(bytes, CHECKPOINT) {
            self.damage(0, &reason);
        }
        let mut at = HEADER.min(bytes.len());
        let mut last = 0;
        let mut ended = false;
        while at < bytes.len() {
            match read(bytes, at) {
                Ok(found) => {
                    ended = found.kind == RecordKind::End && found.end == bytes.len();
                    self.visitor.record(RecordPosition { file: self.files.len() - 1, at }, &found);
                    (last, at) = (found.lsn, found.end);
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
