//! What a start finds in the log counts as acknowledged, so it has to survive a loss of power
//! before it counts.
//!
//! A sync does that for a file whose syncs have all worked. After one that failed, another proves
//! nothing: Linux takes the pages for written then, whoever asks. Such a file is written anew: read
//! while the kernel still has it, into another one, which is synced and gets its name.

use crate::disk::Disk;
use crate::limits::WAL_READ_BYTES;
use crate::store::StoreError;
use std::io;
use std::path::{Path, PathBuf};

/// Whether a segment may have had a sync that failed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SyncTrust {
    /// Nothing says so.
    No,
    /// It, or an attempt to write it, failed: perhaps for want of room only.
    Some,
    /// A start has left a note that it did.
    Noted,
}

/// The note that the sync of a segment failed at a start.
pub fn note_path(segment: &Path) -> PathBuf {
    segment.with_extension("unsure")
}

/// Makes all that segment `path` has survive power loss; before it is read, as it may be another
/// file behind that.
pub fn make_durable(disk: &dyn Disk, path: &Path, doubt: SyncTrust) -> Result<(), StoreError> {
    let synced = || disk.size(path).and_then(|len| disk.truncate(path, len));
    let failed = match doubt {
        SyncTrust::No => synced().err(),
        SyncTrust::Some => {
            let Err(error) = write_anew(disk, path) else { return Ok(()) };
            tracing::warn!(%error, path = %path.display(), "a segment of the log that failed could not be written anew");
            // On a disk without room for that a start has to work.
            synced().err()
        }
        SyncTrust::Noted => Some(io::Error::other("a start before this one could not sync it")),
    };
    let Some(failed) = failed else { return Ok(()) };
    tracing::error!(error = %failed, path = %path.display(), "a segment of the log could not be synced; it is written anew");
    // The next process cannot know, unless it is told. It reads the note from memory as it does the
    // segment: no sync.
    let noted = disk.create(&note_path(path)).map(drop);
    write_anew(disk, path).map_err(|error| {
        let told = noted.map_or_else(|e| format!(", nor a note that says so ({e})"), |()| String::new());
        let what = format!(
            "it could not be synced ({failed}) and not be written anew ({error}){told}: what it holds may be in the system's \
             memory only. Copy the log's directory to a disk that works before the machine is started again"
        );
        StoreError::Io { path: path.to_owned(), source: io::Error::new(error.kind(), what) }
    })?;
    // If it stays, the next start writes the segment anew once more.
    let _ = disk.remove(&note_path(path));
    Ok(())
}

/// Where a segment is written anew before it gets its name.
fn copy_path(segment: &Path) -> PathBuf {
    segment.with_extension("copy")
}

/// Removes a copy that a start did not finish.
pub fn remove_unfinished(disk: &dyn Disk, names: &[PathBuf]) {
    for copy in names.iter().filter(|path| path.extension().is_some_and(|end| end == "copy")) {
        // It costs room only.
        let _ = disk.remove(copy);
    }
}

/// Puts a synced copy in the place of a file.
fn write_anew(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let copy = copy_path(path);
    let done = fill(disk, path, &copy).and_then(|()| disk.rename(&copy, path));
    if done.is_err() {
        // It has its name, or costs room only.
        let _ = disk.remove(&copy);
    }
    done
}

fn fill(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    let mut file = disk.create(to)?;
    let mut at = 0;
    loop {
        let bytes = disk.read_at(from, at, WAL_READ_BYTES)?;
        if bytes.is_empty() {
            return file.sync();
        }
        file.append(&bytes)?;
        at += bytes.len() as u64;
    }
}
