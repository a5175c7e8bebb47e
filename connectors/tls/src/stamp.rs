//! [`FileStamp`]: tells whether a file has changed since it was read, by its time, size and inode.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A change within this time before it was seen may be followed by one that looks the same, because
/// the clock of a file system moves in steps.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What identifies a version of a file: where it is, its length and the time of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStamp {
    identity: Option<(u64, u64, u64, i64, i64)>,
    settled: bool,
}

impl FileStamp {
    /// The stamp of a file now; links are followed.
    pub fn read(path: &Path) -> FileStamp {
        // A file that is missing is settled: that it stays missing is no change to look for.
        let Ok(found) = std::fs::metadata(path) else { return FileStamp { identity: None, settled: true } };
        let changed = u64::try_from(found.ctime()).map(Duration::from_secs).unwrap_or_default();
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + changed);
        FileStamp {
            // `ctime` and not `mtime`, which a copy may preserve; the inode, because Kubernetes
            // replaces files by renaming links.
            identity: Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec())),
            // A time in the future is not settled either: the clock was set back.
            settled: age.is_ok_and(|age| age > UNSETTLED),
        }
    }

    /// Whether a file with this stamp has the content that it had with the stamp `before`. A file
    /// that was changed a moment ago is taken to be another one.
    pub fn is_that_of(&self, before: &FileStamp) -> bool {
        self.identity == before.identity && before.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_just_written_is_read_again() {
        let path = std::env::temp_dir().join(format!("perennial-stamp-{}", std::process::id()));
        std::fs::write(&path, "a").unwrap();
        let before = FileStamp::read(&path);
        assert!(!FileStamp::read(&path).is_that_of(&before), "it may be changed within the same instant");
        std::fs::remove_file(&path).unwrap();
        let gone = FileStamp::read(&path);
        assert!(!gone.is_that_of(&before));
        assert!(FileStamp::read(&path).is_that_of(&gone), "a file that is not there stays so");
    }
}
