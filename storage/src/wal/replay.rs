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
    let continues = |bytes: &[u8]| Header::decode(bytes, SEGMENT).is_ok_and(|header| header.continues);
    let mut rest = numbered.into_iter();
    let mut load =
        || rest.next().map(|(n, path)| disk.read(&path).map_err(io(&path)).map(|bytes| (n, path, bytes)));
    let mut next = load().transpose()?;
    while let Some((number, path, bytes)) = next.take() {
        next = load().transpose()?;
        out.last_number = out.last_number.max(number);
        let superseded = next.as_ref().is_some_and(|(_, _, bytes)| continues(bytes));
        let mut segment = Segment { path: &path, bytes: &bytes, superseded, out: &mut out, newest: None };
        let cut = segment.replay(next.is_none(), visitor);
        let newest = segment.newest;
        let continues = continues(&bytes);
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
    /// The next segment holds anew what could not be written here: a torn tail is no loss.
    superseded: bool,
    out: &'a mut Outcome,
    newest: Option<TimeMs>,
}

impl Segment<'_> {
    fn damage(&mut self, at: usize, what: &str) {
        self.out.clean = false;
        self.out.damage.push(format!("{}: offset {at}: {what}", self.path.display()));
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
                let next = resync(self.bytes, 0, self.out.last_lsn);
                if next.is_some() || !self.superseded {
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
                Err(reason) => match resync(self.bytes, at, self.out.last_lsn) {
                    Some(next) => {
                        self.damage(at, &format!("{reason}; skipped {} bytes", next - at));
                        at = next;
                    }
                    None if self.superseded => return None,
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

/// The records of the newest whole checkpoint.
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
        let checked = disk.read(&path).map_err(|e| e.to_string()).and_then(|bytes| {
            check_checkpoint(&bytes)?;
            Ok(bytes)
        });
        match checked {
            Ok(bytes) => {
                let mut at = HEADER;
                while let Ok(found) = read(&bytes, at.min(bytes.len())) {
                    if let Err(reason) = visitor.record(&found) {
                        out.damage.push(format!("{}: offset {at}: {reason}", path.display()));
                    }
                    at = found.end;
                }
                return;
            }
            Err(reason) => out.damage.push(format!("{}: {reason}; not used", path.display())),
        }
    }
}

/// Whether a checkpoint is whole: good records all through, the last of them an end with their number.
fn check_checkpoint(bytes: &[u8]) -> Result<(), String> {
    Header::decode(bytes, CHECKPOINT)?;
    let (mut at, mut records) = (HEADER, 0u64);
    while at < bytes.len() {
        let found = read(bytes, at).map_err(|reason| format!("offset {at}: {reason}"))?;
        at = found.end;
        if found.kind == Kind::End {
            let told: u64 = crate::codec::decode(found.payload).map_err(|e| e.to_string())?;
            return if told == records && at == bytes.len() {
                Ok(())
            } else {
                Err(format!("offset {at}: {records} records where {told} should be"))
            };
        }
        records += 1;
    }
    Err("its end is missing".to_owned())
}
