//! The progress of backfill on disk: `backfill.json` in the data directory
//! (`docs/format/backfill.md`).
//!
//! Replaced as a whole after each block. What it says is done is in blocks; everything else is
//! computed again, and samples that are stored already are skipped.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::checksummed_file;
use storage::disk::Disk;
use storage::model::TimeMs;

const VERSION: u32 = 1;
const FILE: &str = "backfill.json";

/// The contents of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BackfillProgress {
    version: u32,
    /// When all complete rules were last known to be recorded live.
    pub alive: TimeMs,
    /// The rules that have, or had, a history to compute.
    pub rules: Vec<RuleProgress>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RuleProgress {
    /// Identity of the rule: it stays the same when the expression changes.
    pub key: String,
    /// How much history was requested, in ms.
    #[serde(rename = "asked")]
    pub history_ms: i64,
    /// The first evaluation time.
    pub from: TimeMs,
    /// Evaluation times up to this one are computed.
    pub done: TimeMs,
    /// Nothing is missing before the live recording.
    pub complete: bool,
}

impl BackfillProgress {
    /// Progress in the current version of the format.
    pub(super) fn new(alive: TimeMs, rules: Vec<RuleProgress>) -> BackfillProgress {
        BackfillProgress { version: VERSION, alive, rules }
    }
}

/// The progress cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(super) struct ProgressFileError {
    path: PathBuf,
    source: io::Error,
}

/// `backfill.json`: how far the backfill of each rule has come.
#[derive(Clone)]
pub(super) struct ProgressFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl ProgressFile {
    /// The file in the data directory `dir`.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path) -> ProgressFile {
        ProgressFile { disk, path: dir.join(FILE) }
    }

    /// The saved progress. If the file is damaged, work is repeated but no samples are lost:
    /// everything is computed again, and stored samples stay.
    pub(super) fn read(&self) -> Option<BackfillProgress> {
        let found = checksummed_file::read(&*self.disk, &self.path).map_err(|e| e.to_string());
        let parse = |text: String| match serde_json::from_str::<BackfillProgress>(&text) {
            // Another version is treated like damage, unlike the file of saved queries: what this
            // file says can be computed again.
            Ok(progress) if progress.version == VERSION => Ok(progress),
            Ok(progress) => Err(format!("version {} is unknown", progress.version)),
            Err(error) => Err(error.to_string()),
        };
        match found.and_then(|text| text.map(parse).transpose()) {
            Ok(progress) => progress,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(target: "views", %path, error, "the progress of backfill cannot be read; backfill begins again, and keeps stored samples");
                None
            }
        }
    }

    /// Replaces the file; durable on return.
    pub(super) fn write(&self, progress: &BackfillProgress) -> Result<(), ProgressFileError> {
        let failed = |source| ProgressFileError { path: self.path.clone(), source };
        let text = serde_json::to_string(progress).map_err(|error| failed(error.into()))?;
        checksummed_file::write(&*self.disk, &self.path, &format!("{text}\n")).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::disk::OsDisk;

    #[test]
    fn twice_the_rules_cost_at_most_a_little_more_than_twice() {
        let entry = |i: usize| RuleProgress {
            key: format!("rule{i}"),
            history_ms: 1,
            from: 2,
            done: 3,
            complete: false,
        };
        let progress = |n: usize| BackfillProgress::new(1, (0..n).map(entry).collect());
        let dir = tempfile::tempdir().expect("a directory");
        let progress_file = ProgressFile::new(Arc::new(OsDisk), dir.path());
        testing::assert_proportional("progress of rules", 2_000, progress, |progress| {
            progress_file.write(progress).expect("a file");
            assert_eq!(progress_file.read().as_ref(), Some(progress));
        });
    }
}
