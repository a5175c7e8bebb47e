//! The lock on the data directory: two servers that write to the same WAL would damage it.
//!
//! [`DataLock`] is an advisory lock of the operating system on `<data>/lock`. The lock ends with
//! the process, even if the process is killed; the file remains and has no meaning by itself. It
//! contains the process id, for people.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The most bytes that are read of another server's lock file: a process id is short.
const PID_BYTES: u64 = 20;

/// Holds the lock until it is dropped.
pub(crate) struct DataLock {
    _file: File,
}

/// Why the data directory cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum DataLockError {
    /// The lock file cannot be made, written or locked.
    #[error(
        "cannot lock the data directory: {}: {source}; choose another --storage.tsdb.path, or switch the lock off with --storage.tsdb.no-lockfile",
        path.display()
    )]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another server uses the directory.
    #[error(
        "the data directory {} is in use by {}; stop it, or choose another --storage.tsdb.path",
        dir.display(),
        process.as_ref().map_or("another server".to_owned(), |id| format!("another server (process {id})"))
    )]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The process id of the other server, as in its lock file; `None`: it is not known.
        process: Option<String>,
    },
}

impl DataLock {
    /// Locks the data directory `dir`; creates the directory if it is missing.
    pub(crate) fn take(dir: &Path) -> Result<DataLock, DataLockError> {
        let path = dir.join("lock");
        let bad = |source: io::Error| DataLockError::Io { path: path.clone(), source };
        std::fs::create_dir_all(dir).map_err(bad)?;
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(bad)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir, &mut file)),
            Err(TryLockError::Error(error)) => return Err(bad(error)),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(bad)?;
        Ok(DataLock { _file: file })
    }
}

fn in_use(dir: &Path, file: &mut File) -> DataLockError {
    let mut text = String::new();
    // Without the process id only the error text is less precise.
    let _ = file.take(PID_BYTES).read_to_string(&mut text);
    let process = Some(text.trim().to_owned()).filter(|id| !id.is_empty());
    DataLockError::InUse { dir: dir.to_owned(), process }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("not/yet/there");
        let first = DataLock::take(&data).unwrap();
        let refused = DataLock::take(&data).err().unwrap().to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        drop(first);
        assert!(DataLock::take(&data).is_ok());
    }
}
