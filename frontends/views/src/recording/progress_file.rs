//! How far backfill is, on disk: `backfill.json` in the data directory (`docs/format/backfill.md`).
//!
//! Replaced as a whole after each block. What it says is done is in blocks; what it does not say is
//! done again, and finds its samples stored already.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::checksummed_file;
use storage::disk::Disk;
use storage::model::TimeMs;

const VERSION: u32 = 1;
const FILE: &str = "backfill.json";

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillProgress {
    version: u32,
    /// When all complete rules were last known to be recorded live.
    pub alive: TimeMs,
    /// The rules that have a past to compute, or had.
    pub rules: Vec<RuleProgress>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleProgress {
    /// Which rule: it stays the same when the expression changes.
    pub key: String,
    /// How far back was asked for, ms.
    pub asked: i64,
    /// The first slot.
    pub from: TimeMs,
    /// Slots up to this one are computed.
    pub done: TimeMs,
    /// Nothing is missing before what was recorded live.
    pub complete: bool,
}

impl BackfillProgress {
    /// Nothing yet.
    pub fn new(alive: TimeMs, rules: Vec<RuleProgress>) -> BackfillProgress {
        BackfillProgress { version: VERSION, alive, rules }
    }
}

/// Where it is kept.
#[derive(Clone)]
pub struct ProgressFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl ProgressFile {
    /// In the data directory `dir`.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> ProgressFile {
        ProgressFile { disk, path: dir.join(FILE) }
    }

    /// What was written last. Damage costs work, not samples: all is computed again, and what is
    /// stored stays.
    pub fn read(&self) -> Option<BackfillProgress> {
        let found = checksummed_file::read(&*self.disk, &self.path).map_err(|e| e.to_string());
        let parse = |text: String| match serde_json::from_str::<BackfillProgress>(&text) {
            Ok(progress) if progress.version == VERSION => Ok(progress),
            Ok(progress) => Err(format!("version {} is unknown", progress.version)),
            Err(error) => Err(error.to_string()),
        };
        match found.and_then(|text| text.map(parse).transpose()) {
            Ok(progress) => progress,
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, error, "how far backfill was is lost: it begins anew, and keeps what is stored");
                None
            }
        }
    }

    /// Replaces it; durable on return.
    pub fn write(&self, progress: &BackfillProgress) -> Result<(), String> {
        let text = serde_json::to_string(progress).map_err(|e| e.to_string())?;
        checksummed_file::write(&*self.disk, &self.path, &format!("{text}\n"))
            .map_err(|e| format!("{}: {e}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::disk::OsDisk;

    #[test]
    fn twice_the_rules_cost_at_most_a_little_more_than_twice() {
        let entry =
            |i: usize| RuleProgress { key: format!("rule{i}"), asked: 1, from: 2, done: 3, complete: false };
        let progress = |n: usize| BackfillProgress::new(1, (0..n).map(entry).collect());
        let dir = tempfile::tempdir().expect("a directory");
        let place = ProgressFile::new(Arc::new(OsDisk), dir.path());
        testing::assert_proportional("progress of rules", 2_000, progress, |progress| {
            place.write(progress).expect("a file");
            assert_eq!(place.read().as_ref(), Some(progress));
        });
    }
}
