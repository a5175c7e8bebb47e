//! Reading the log back: newest checkpoint, then the segments in order, every record checked before use.
//!
//! Damage never stops it. A torn tail of the last segment is cut off; elsewhere the next good record is
//! looked for and what lies between is reported. A record that was written twice (its first segment failed)
//! counts once.

use super::record::{Found, Kind, read, resync};
use super::segment::{
    CHECKPOINT, HEADER, Header, SEGMENT, SegmentInfo, checkpoint_number, checkpoint_path, segment_number,
};
use crate::disk::Disk;
use crate::model::TimeMs;
use crate::store::StoreError;
use std::io;
use std::path::{Path, PathBuf};

/// Takes the records.
pub trait Visitor {
    /// One record; time of its newest sample, or why it cannot be used.
    fn record(&mut self, found: &Found) -> Result<Option<TimeMs>, String>;
}

/// What was found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The segments.
    pub segments: Vec<SegmentInfo>,
    /// LSN of the last record; 0: none.
    pub last_lsn: u64,
    /// Number of the last file.
    pub last_number: u32,
    /// Good records.
    pub records: u64,
    /// File, offset, reason: one line each.
    pub damage: Vec<String>,
    /// Whether the log ends with an orderly close (or is empty).
    pub clean: bool,
}

/// Replays the log in `dir` into `visitor`.
pub fn replay(disk: &dyn Disk, dir: &Path, visitor: &mut dyn Visitor) -> Result<Outcome, StoreError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source: io::Error| StoreError::Io { path, source }
    };
    let names = disk.list(dir).map_err(io(dir))?;
    let mut out = Outcome { clean: true, ..Outcome::default() };
    read_checkpoint(disk, dir, &names, visitor, &mut out);
    let mut numbered: Vec<(u32, PathBuf)> =
        names.into_iter().filter_map(|path| Some((segment_number(&path)?, path))).collect();
    numbered.sort();
    let mut headers = Vec::new();
    for (_, path) in &numbered {
        headers.push(Header::decode(&disk.read_at(path, 0, HEADER).map_err(io(path))?, SEGMENT).ok());
    }
    let files = numbered.len();
    for (at, (number, path)) in numbered.into_iter().enumerate() {
        let bytes = disk.read(&path).map_err(io(&path))?;
        out.last_number = out.last_number.max(number);
        // A file without a header is one whose making failed, too.
        let following = headers[at + 1..].iter().flatten().next();
        let anew = following.filter(|header| header.continues).map(|header| header.first_lsn);
        let mut segment = Segment { path: &path, bytes: &bytes, anew, out: &mut out, newest: None };
        let cut = segment.replay(at + 1 == files, visitor);
        let newest = segment.newest;
        let continues = headers[at].as_ref().is_some_and(|header| header.continues);
        // Also where nothing is cut off: a process that was killed may not have synced what now counts as acknowledged.
        let len = cut.unwrap_or(bytes.len());
        disk.truncate(&path, len as u64).map_err(io(&path))?;
        let last_lsn = out.last_lsn;
        out.segments.push(SegmentInfo { path, number, last_lsn, newest, continues });
    }
    Ok(out)
}

/// One segment being replayed.
struct Segment<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    /// The next segment holds anew, from this LSN on, what could not be written here: a torn tail is no loss, and
    /// of what is behind it nothing may be used before that.
    anew: Option<u64>,
    out: &'a mut Outcome,
    newest: Option<TimeMs>,
}

impl Segment<'_> {
    fn damage(&mut self, at: usize, what: &str) {
        self.out.clean = false;
        self.out.damage.push(format!("{}: offset {at}: {what}", self.path.display()));
    }

    /// Offset of the next good record behind damage that is not in the next segment.
    fn resync(&self, at: usize) -> Option<usize> {
        let next = resync(self.bytes, at, self.out.last_lsn)?;
        let lsn = read(self.bytes, next).map_or(u64::MAX, |found| found.lsn);
        self.anew.is_none_or(|anew| lsn < anew).then_some(next)
    }

    /// Replays all records; where the file is to be cut off, if it is.
    fn replay(&mut self, last: bool, visitor: &mut dyn Visitor) -> Option<usize> {
        if self.bytes.is_empty() {
            return None;
        }
        let mut at = HEADER;
        match Header::decode(self.bytes, SEGMENT) {
            Ok(header) if self.out.last_lsn > 0 && header.first_lsn > self.out.last_lsn + 1 => {
                let missing =
                    format!("records {} to {} are missing", self.out.last_lsn + 1, header.first_lsn - 1);
                self.damage(0, &missing);
            }
            Ok(_) => (),
            Err(reason) => {
                let next = self.resync(0);
                if next.is_some() || self.anew.is_none() {
                    self.damage(0, &reason);
                }
                match next {
                    Some(next) => at = next,
                    None => return last.then_some(0),
                }
            }
        }
        while at < self.bytes.len() {
            match read(self.bytes, at) {
                Ok(found) => {
                    self.record(at, &found, visitor);
                    at = found.end;
                }
                Err(reason) => match self.resync(at) {
                    Some(next) => {
                        self.damage(at, &format!("{reason}; skipped {} bytes", next - at));
                        at = next;
                    }
                    None if self.anew.is_some() => return None,
                    None => {
                        let what = if last { "cut off" } else { "skipped" };
                        self.damage(
                            at,
                            &format!("{reason}; {what} the last {} bytes", self.bytes.len() - at),
                        );
                        return last.then_some(at);
                    }
                },
            }
        }
        None
    }

    fn record(&mut self, at: usize, found: &Found, visitor: &mut dyn Visitor) {
        if found.lsn <= self.out.last_lsn {
            return;
        }
        self.out.last_lsn = found.lsn;
        self.out.records += 1;
        self.out.clean = self.out.damage.is_empty() && found.kind == Kind::Close;
        match visitor.record(found) {
            Ok(newest) => self.newest = self.newest.max(newest),
            Err(reason) => self.damage(at, &format!("record {}: {reason}", found.lsn)),
        }
    }
}

/// The records of the newest whole checkpoint, and before them the good ones of damaged newer ones: what they knew of
/// series is nowhere else.
fn read_checkpoint(
    disk: &dyn Disk,
    dir: &Path,
    names: &[PathBuf],
    visitor: &mut dyn Visitor,
    out: &mut Outcome,
) {
    let mut numbers: Vec<u32> = names.iter().filter_map(|path| checkpoint_number(path)).collect();
    numbers.sort_unstable();
    for number in numbers.into_iter().rev() {
        let path = checkpoint_path(dir, number);
        let before = out.damage.len();
        let mut damage =
            |at: usize, reason: String| out.damage.push(format!("{}: offset {at}: {reason}", path.display()));
        match disk.read(&path) {
            Ok(bytes) => read_records(&bytes, visitor, &mut damage),
            Err(error) => damage(0, error.to_string()),
        }
        if out.damage.len() == before {
            return;
        }
    }
}

/// The good records of a checkpoint. It is whole if all are good and the last is an end with their number.
fn read_records(bytes: &[u8], visitor: &mut dyn Visitor, damage: &mut dyn FnMut(usize, String)) {
    if let Err(reason) = Header::decode(bytes, CHECKPOINT) {
        damage(0, reason);
    }
    let (mut at, mut last, mut ended) = (HEADER.min(bytes.len()), 0, false);
    while at < bytes.len() {
        match read(bytes, at) {
            Ok(found) => {
                ended = found.kind == Kind::End && found.end == bytes.len();
                if let Err(reason) = visitor.record(&found) {
                    damage(at, reason);
                }
                (last, at) = (found.lsn, found.end);
            }
            Err(reason) => {
                let next = resync(bytes, at, last).unwrap_or(bytes.len());
                damage(at, format!("{reason}; skipped {} bytes", next - at));
                at = next;
            }
        }
    }
    if !ended {
        damage(bytes.len(), "its end is missing".to_owned());
    }
}
