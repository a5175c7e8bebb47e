//! The file with the saved queries: `docs/format/standing-queries.md`.
//!
//! It is small and written as a whole: to a temporary file, which is synced and renamed, and its
//! directory is synced. So there is always a complete file, the old or the new one.

use super::definition::SavedQueryDefinition;
use crate::limits::STANDING_QUERIES;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::disk::Disk;

/// Its name in the data directory.
const NAME: &str = "standing-queries";
const MAGIC: &str = "perennial-standing-queries";
const VERSION: &str = "1";

/// The file.
pub struct SavedQueryFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct SavedQueryEntry<'a> {
    name: Cow<'a, str>,
    #[serde(flatten)]
    definition: Cow<'a, SavedQueryDefinition>,
}

/// Why a file is not used.
#[derive(Debug, PartialEq, Eq)]
enum UnreadableFile {
    /// It is damaged.
    Damaged(String),
    /// Its version is unknown to this build.
    UnknownVersion(String),
}

/// Why the file of saved queries cannot be read. The server does not start then: the next change
/// of a saved query would overwrite the file.
#[derive(Debug, thiserror::Error)]
pub enum SavedQueryFileError {
    /// The disk does not give it.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
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
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// It is damaged, and cannot be renamed to keep it.
    #[error("{} is damaged ({reason}), and: {source}", path.display())]
    NotMoved {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Why it cannot be renamed.
        source: io::Error,
    },
}

impl SavedQueryFile {
    /// The file in data directory `dir`, which may not exist.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> SavedQueryFile {
        SavedQueryFile { disk, path: dir.join(NAME) }
    }

    /// The saved queries; none if the file does not exist. A damaged file is renamed, with an error
    /// in the log. A file of an unknown version is an error, because the next change would destroy
    /// it.
    pub fn read(&self) -> Result<Vec<(String, SavedQueryDefinition)>, SavedQueryFileError> {
        let content = match self.disk.read(&self.path) {
            Ok(content) => content,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(SavedQueryFileError::Read { path: self.path.clone(), source }),
        };
        match decode(&content) {
            Ok(entries) => Ok(entries),
            Err(UnreadableFile::UnknownVersion(version)) => {
                Err(SavedQueryFileError::UnknownVersion { path: self.path.clone(), version })
            }
            Err(UnreadableFile::Damaged(reason)) => {
                let renamed = self.path.with_extension("damaged");
                if let Err(source) = self.disk.rename(&self.path, &renamed) {
                    return Err(SavedQueryFileError::NotMoved { path: self.path.clone(), reason, source });
                }
                tracing::error!(
                    target: "views",
                    file = %renamed.display(),
                    reason,
                    "the file of saved queries is damaged, so none is installed; put them again, or restore the file and restart"
                );
                Ok(Vec::new())
            }
        }
    }

    /// Replaces the file.
    pub fn write<'a>(
        &self,
        queries: impl Iterator<Item = (&'a str, &'a SavedQueryDefinition)>,
    ) -> io::Result<()> {
        let entry = |(name, definition): (&'a str, &'a SavedQueryDefinition)| SavedQueryEntry {
            name: Cow::Borrowed(name),
            definition: Cow::Borrowed(definition),
        };
        let content = encode(&queries.map(entry).collect::<Vec<_>>())?;
        let temporary = self.path.with_extension("tmp");
        let mut file = self.disk.create(&temporary)?;
        file.append(content.as_bytes())?;
        file.sync()?;
        drop(file);
        self.disk.rename(&temporary, &self.path)
    }
}

fn encode(entries: &[SavedQueryEntry]) -> io::Result<String> {
    let body = serde_json::to_string_pretty(entries)? + "\n";
    Ok(format!("{MAGIC} {VERSION} crc32c={:08x}\n{body}", crc32c::crc32c(body.as_bytes())))
}

fn decode(content: &[u8]) -> Result<Vec<(String, SavedQueryDefinition)>, UnreadableFile> {
    let damaged = |why: &str| UnreadableFile::Damaged(why.to_owned());
    let end = content.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("it has no first line"))?;
    let head = String::from_utf8_lossy(&content[..end]);
    let body = &content[end + 1..];
    let mut words = head.split(' ');
    let version = words.next().filter(|magic| *magic == MAGIC).and_then(|_| words.next());
    let version = version.ok_or_else(|| damaged("its first line is not that of such a file"))?;
    let sum = format!("crc32c={:08x}", crc32c::crc32c(body));
    if version != VERSION && version.bytes().all(|b| b.is_ascii_digit()) {
        return Err(UnreadableFile::UnknownVersion(version.to_owned()));
    }
    if version != VERSION || words.collect::<Vec<_>>() != [sum.as_str()] {
        return Err(damaged("its checksum is another one"));
    }
    let entries: Vec<SavedQueryEntry> = serde_json::from_slice(body).map_err(|e| damaged(&e.to_string()))?;
    if entries.len() > STANDING_QUERIES {
        return Err(damaged("it has more entries than there may be"));
    }
    Ok(entries.into_iter().map(|e| (e.name.into_owned(), e.definition.into_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::super::definition::{Language, RecordOptions};
    use super::*;
    use storage::disk::OsDisk;

    fn definitions() -> Vec<(String, SavedQueryDefinition)> {
        let recording = RecordOptions {
            record: "job:up:sum".into(),
            labels: [("team".into(), "a\"b".into())].into(),
            interval: 15_000,
        };
        let one = |query: &str, recording| SavedQueryDefinition {
            query: query.into(),
            lang: Language::Promql,
            recording,
        };
        vec![("a".into(), one("up == 0", None)), ("b".into(), one("sum by (job) (up)", Some(recording)))]
    }

    fn write(file: &SavedQueryFile, definitions: &[(String, SavedQueryDefinition)]) {
        file.write(definitions.iter().map(|(name, d)| (name.as_str(), d))).unwrap();
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = SavedQueryFile::new(Arc::new(OsDisk), dir.path());
        assert_eq!(file.read().unwrap(), Vec::new());
        write(&file, &definitions());
        assert_eq!(file.read().unwrap(), definitions());
        write(&file, &definitions()[..1]);
        assert_eq!(file.read().unwrap(), definitions()[..1].to_vec());
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [NAME], "no temporary file stays");
    }

    /// A flipped bit or a cut anywhere is detected.
    #[test]
    fn damage_is_found_and_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let file = SavedQueryFile::new(Arc::new(OsDisk), dir.path());
        write(&file, &definitions());
        let whole = std::fs::read(&file.path).unwrap();
        for at in 0..whole.len() {
            assert!(decode(&whole[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert!(decode(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
        std::fs::write(&file.path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(file.read().unwrap(), Vec::new());
        assert_eq!(
            std::fs::read(dir.path().join("standing-queries.damaged")).unwrap(),
            whole[..whole.len() - 1]
        );
        assert_eq!(file.read().unwrap(), Vec::new(), "it is there no more");
    }

    #[test]
    fn another_version_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let file = SavedQueryFile::new(Arc::new(OsDisk), dir.path());
        std::fs::write(&file.path, format!("{MAGIC} 2 whatever\n[]\n")).unwrap();
        assert!(file.read().unwrap_err().to_string().contains("version \"2\" is not known"));
        assert!(file.path.exists());
    }

    #[test]
    fn twice_the_queries_cost_at_most_a_little_more_than_twice() {
        let written = |n: usize| {
            let definition = |i: usize| definitions().swap_remove(i % 2).1;
            let entry = |i: usize| SavedQueryEntry {
                name: Cow::Owned(format!("q{i}")),
                definition: Cow::Owned(definition(i)),
            };
            encode(&(0..n).map(entry).collect::<Vec<_>>()).unwrap().into_bytes()
        };
        testing::assert_proportional("queries", STANDING_QUERIES / 2, written, |file| {
            decode(file).unwrap().len()
        });
    }
}
