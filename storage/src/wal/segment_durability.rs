//! Makes segments durable at a start. Everything that a start reads from the log counts as
//! acknowledged from then on, so it must survive a power loss first.
//!
//! For a file whose syncs have all succeeded, another sync is enough. After a failed sync, a later
//! successful one proves nothing: Linux then regards the pages as written, for every process. Such
//! a segment is copied to a new file while the kernel still has its content; the copy is synced and
//! renamed to the segment's name.

use crate::disk::Disk;
use crate::error::StoreError;
use crate::limits::WAL_READ_BYTES;
use std::io;
use std::path::{Path, PathBuf};

/// Signs that a sync of a segment may have failed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum SyncFailureSign {
    /// There are none.
    Nothing,
    /// The segment failed, or an attempt to write it; perhaps only because the disk was full.
    FailedSegment,
    /// An earlier start left a note that a sync failed.
    Note,
}

/// The path of the note that a start could not sync a segment.
pub(super) fn note_path(segment: &Path) -> PathBuf {
    segment.with_extension("unsure")
}

/// Makes the segment at `path` durable. To be called before reading it, because the file may be
/// replaced.
pub(super) fn make_durable(disk: &dyn Disk, path: &Path, sign: SyncFailureSign) -> Result<(), StoreError> {
    let synced = || disk.size(path).and_then(|len| disk.truncate(path, len));
    let failed = match sign {
        SyncFailureSign::Nothing => synced().err(),
        SyncFailureSign::FailedSegment => {
            let Err(error) = write_anew(disk, path) else { return Ok(()) };
            tracing::warn!(%error, path = %path.display(), "a segment of the log that failed could not be written anew");
            // A start must work on a full disk, where no copy can be written.
            synced().err()
        }
        SyncFailureSign::Note => Some(io::Error::other("a start before this one could not sync it")),
    };
    let Some(failed) = failed else { return Ok(()) };
    tracing::error!(error = %failed, path = %path.display(), "a segment of the log could not be synced; it is written anew");
    // The note tells the next process, which cannot know of the failed sync. It need not be synced:
    // like the segment itself, it is read from the kernel's memory.
    let noted = disk.create(&note_path(path)).map(drop);
    write_anew(disk, path).map_err(|error| {
        let told = noted.map_or_else(|e| format!(", nor a note that says so ({e})"), |()| String::new());
        let what = format!(
            "it could not be synced ({failed}) and not be written anew ({error}){told}: what it holds may be in the system's \
             memory only. Copy the log's directory to a disk that works before the machine is started again"
        );
        StoreError::Io { path: path.to_owned(), source: io::Error::new(error.kind(), what) }
    })?;
    // If the note stays, the next start copies the segment once more.
    let _ = disk.remove(&note_path(path));
    Ok(())
}

/// The path of the copy of a segment, before it is renamed.
fn copy_path(segment: &Path) -> PathBuf {
    segment.with_extension("copy")
}

/// Removes copies that an interrupted start left behind.
pub(super) fn remove_unfinished(disk: &dyn Disk, names: &[PathBuf]) {
    for copy in names.iter().filter(|path| path.extension().is_some_and(|end| end == "copy")) {
        // A copy that stays only takes disk space.
        let _ = disk.remove(copy);
    }
}

/// Replaces a file by a synced copy of itself.
fn write_anew(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let copy = copy_path(path);
    let done = fill(disk, path, &copy).and_then(|()| disk.rename(&copy, path));
    if done.is_err() {
        // If the rename failed, the copy only takes disk space.
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
