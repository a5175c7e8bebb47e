//! The file with the definitions of saved queries (views that users create by name) in the data
//! directory. Its format is in `docs/format/standing-queries.md`.

use super::definition::SavedQueryDefinition;
use crate::definition_file::{DefinitionFileError, FileForm};
use crate::limits::STANDING_QUERIES;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::disk::Disk;

/// Its name in the data directory.
const NAME: &str = "standing-queries";
const MAGIC: &str = "perennial-standing-queries";

/// `standing-queries`: the saved queries, which come back after a restart.
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

const FORM: FileForm = FileForm { magic: MAGIC, what: "saved queries", most: STANDING_QUERIES };

impl SavedQueryFile {
    /// The file in data directory `dir`, which may not exist.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> SavedQueryFile {
        SavedQueryFile { disk, path: dir.join(NAME) }
    }

    /// The saved queries; none if the file does not exist. A damaged file is renamed, with an error
    /// in the log. A file of an unknown version is an error, because the next change would destroy
    /// it.
    pub fn read(&self) -> Result<Vec<(String, SavedQueryDefinition)>, DefinitionFileError> {
        let entries: Vec<SavedQueryEntry> = FORM.read(&*self.disk, &self.path)?;
        Ok(entries.into_iter().map(|e| (e.name.into_owned(), e.definition.into_owned())).collect())
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
        FORM.write(&*self.disk, &self.path, &queries.map(entry).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::{Language, RecordOptions};
    use super::*;
    use crate::definition_file::UnreadableFile;
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

    fn encode(entries: &[SavedQueryEntry]) -> io::Result<String> {
        FORM.encode(entries)
    }

    fn decode(content: &[u8]) -> Result<Vec<SavedQueryEntry<'static>>, UnreadableFile> {
        FORM.decode(content)
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
