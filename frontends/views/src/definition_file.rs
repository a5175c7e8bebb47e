//! Small files of definitions that users make at run time: a first line with magic, version and
//! checksum, then a list in JSON.
//!
//! Such a file is written as a whole: to a temporary file, which is synced and renamed, and its
//! directory is synced. So there is always a complete file, the old or the new one.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use storage::disk::Disk;

const VERSION: &str = "1";

/// Why the content of a file is not used.
#[derive(Debug, PartialEq, Eq)]
pub enum UnreadableFile {
    /// It is damaged.
    Damaged(String),
    /// Its version is unknown to this build.
    UnknownVersion(String),
}

/// Why a file of definitions cannot be read. The server does not start then: the next change of a
/// definition would overwrite the file.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionFileError {
    /// The disk does not give it.
    #[error("{}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A newer build wrote it.
    #[error(
        "{}: version {version:?} is not known to this build: use the build that wrote it, or move it away",
        path.display()
    )]
    UnknownVersion {
        /// Path of the file.
        path: PathBuf,
        /// The version that its first line says.
        version: String,
    },
    /// It is damaged, and cannot be renamed to keep it.
    #[error("{} is damaged ({reason}), and: {source}", path.display())]
    NotMoved {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Why it cannot be renamed.
        source: io::Error,
    },
}

/// What kind of file it is.
#[derive(Copy, Clone, Debug)]
pub struct FileForm {
    /// The first word of the file.
    pub magic: &'static str,
    /// What is in it, for messages.
    pub what: &'static str,
    /// The most entries.
    pub most: usize,
}

impl FileForm {
    /// The content of a file with these entries.
    pub fn encode<T: Serialize>(&self, entries: &[T]) -> io::Result<String> {
        let body = serde_json::to_string_pretty(entries)? + "\n";
        let sum = crc32c::crc32c(body.as_bytes());
        Ok(format!("{} {VERSION} crc32c={sum:08x}\n{body}", self.magic))
    }

    /// The entries of a file with this content.
    pub fn decode<T: DeserializeOwned>(&self, content: &[u8]) -> Result<Vec<T>, UnreadableFile> {
        let damaged = |why: &str| UnreadableFile::Damaged(why.to_owned());
        let end = content.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("it has no first line"))?;
        let head = String::from_utf8_lossy(&content[..end]);
        let body = &content[end + 1..];
        let mut words = head.split(' ');
        let version = words.next().filter(|magic| *magic == self.magic).and_then(|_| words.next());
        let version = version.ok_or_else(|| damaged("its first line is not that of such a file"))?;
        let sum = format!("crc32c={:08x}", crc32c::crc32c(body));
        // Before the checksum: a later version may compute it in another way, and such a file is
        // not damaged.
        if version != VERSION && version.bytes().all(|b| b.is_ascii_digit()) {
            return Err(UnreadableFile::UnknownVersion(version.to_owned()));
        }
        if version != VERSION || words.collect::<Vec<_>>() != [sum.as_str()] {
            return Err(damaged("its checksum is another one"));
        }
        let entries: Vec<T> = serde_json::from_slice(body).map_err(|e| damaged(&e.to_string()))?;
        // As many as can be defined; more cannot be from this program.
        if entries.len() > self.most {
            return Err(damaged("it has more entries than there may be"));
        }
        Ok(entries)
    }

    /// Reads a file; no entries if it does not exist. A damaged file is renamed, with an error in
    /// the log. A file of an unknown version is an error, because the next change would destroy it.
    pub fn read<T: DeserializeOwned>(
        &self,
        disk: &dyn Disk,
        path: &Path,
    ) -> Result<Vec<T>, DefinitionFileError> {
        let content = match disk.read(path) {
            Ok(content) => content,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(DefinitionFileError::Read { path: path.to_owned(), source }),
        };
        match self.decode(&content) {
            Ok(entries) => Ok(entries),
            Err(UnreadableFile::UnknownVersion(version)) => {
                Err(DefinitionFileError::UnknownVersion { path: path.to_owned(), version })
            }
            Err(UnreadableFile::Damaged(reason)) => {
                // Kept, and out of the way: the next change writes a new file of this name.
                let renamed = path.with_extension("damaged");
                if let Err(source) = disk.rename(path, &renamed) {
                    return Err(DefinitionFileError::NotMoved { path: path.to_owned(), reason, source });
                }
                tracing::error!(
                    target: "views",
                    file = %renamed.display(),
                    reason,
                    "the file of {} is damaged, so none is installed; put them again, or restore the file and restart",
                    self.what
                );
                Ok(Vec::new())
            }
        }
    }

    /// Replaces a file.
    pub fn write<T: Serialize>(&self, disk: &dyn Disk, path: &Path, entries: &[T]) -> io::Result<()> {
        let content = self.encode(entries)?;
        let temporary = path.with_extension("tmp");
        let mut file = disk.create(&temporary)?;
        file.append(content.as_bytes())?;
        // Before the rename: otherwise a power loss could leave the new name with an empty file.
        file.sync()?;
        drop(file);
        disk.rename(&temporary, path)
    }
}
