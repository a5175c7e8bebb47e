//! Imports OpenMetrics text files, all or nothing: blocks are written to a separate directory and
//! moved next to the others once all files have been read.

use super::{EVERY, ImportCommandError, io_error};
use crate::data_directory_lock::DataLock;
use crate::say;
use connectors::import::ImportError;
use connectors::import::openmetrics::{ImportProgress, copy};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;
use storage::block::{BlockMeta, reserved_names_in};
use storage::disk::{Disk, OsDisk};

/// The directory of blocks that have not been moved yet.
const STAGE: &str = "import.tmp";

/// Imports all files; returns a summary.
pub(super) fn import(data: &Path, files: &[PathBuf]) -> Result<String, ImportCommandError> {
    // A running server would not see the blocks, and might remove the directory of the import.
    let _lock = DataLock::take(data)?;
    let stage = data.join(STAGE);
    // What an interrupted import has left.
    if stage.exists() {
        OsDisk.remove(&stage).map_err(|error| io_error(&stage, error))?;
    }
    OsDisk.create_dir(&stage).map_err(|error| io_error(&stage, error))?;
    // Names of blocks that were deleted for good, or replaced by others: an imported block of that
    // name would be taken for the deleted one.
    let reserved = reserved_names_in(&OsDisk, data)?;
    let read = files.iter().map(|file| one(file, &stage, &reserved)).collect::<Result<Vec<_>, _>>();
    let joined = read.map_err(ImportCommandError::NothingImported).and_then(|blocks| {
        let mut blocks: Vec<BlockMeta> = blocks.into_iter().flatten().collect();
        // Files with the same samples result in the same block.
        blocks.sort_by(|a, b| a.dir.cmp(&b.dir));
        blocks.dedup_by(|a, b| a.dir == b.dir);
        join(data, &blocks).map(|()| blocks)
    });
    OsDisk.remove(&stage).map_err(|error| io_error(&stage, error))?;
    // Only now: the stage is removed after a failure, too; what is in it is of no use, and may be
    // large.
    let blocks = joined?;
    let samples: u64 = blocks.iter().map(|meta| meta.samples).sum();
    let span = blocks.iter().map(|m| (m.min_time, m.max_time)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let when = |t: i64| chrono::DateTime::from_timestamp_millis(t).unwrap_or_default().to_rfc3339();
    let span = span.map_or(String::new(), |(min, max)| format!(", {} to {}", when(min), when(max)));
    Ok(format!("{} blocks imported, {samples} samples{span}\n", blocks.len()))
}

/// Moves the blocks to the others. If this is interrupted, the next import does the rest.
fn join(data: &Path, blocks: &[BlockMeta]) -> Result<(), ImportCommandError> {
    let dir = data.join("blocks");
    OsDisk.create_dir(&dir).map_err(|error| io_error(&dir, error))?;
    for meta in blocks {
        let target = dir.join(meta.dir.file_name().unwrap_or_default());
        // The name of a block is derived from its content: an existing directory is the same block,
        // possibly damaged.
        let clear = if target.exists() { OsDisk.remove(&target) } else { Ok(()) };
        let moved = clear.and_then(|()| OsDisk.rename(&meta.dir, &target));
        moved.map_err(|error| io_error(&target, error))?;
    }
    Ok(())
}

fn one(file: &Path, stage: &Path, reserved: &BTreeSet<String>) -> Result<Vec<BlockMeta>, ImportError> {
    let start = Instant::now();
    let mut reported = Instant::now();
    let shown = std::io::stderr().is_terminal();
    let mut last = ImportProgress::default();
    let blocks = copy(file, &OsDisk, stage, reserved, |progress| {
        last = progress;
        if shown && reported.elapsed() > EVERY {
            reported = Instant::now();
            let percent = 100 * progress.bytes / progress.of.max(1);
            let text = format!("{}: {percent} %, {} samples\n", file.display(), progress.samples);
            say(&mut std::io::stderr(), &text, 0);
        }
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let text = format!(
        "{}: {} samples read, {} blocks, {seconds:.1} s\n",
        file.display(),
        last.samples,
        blocks.len()
    );
    say(&mut std::io::stderr(), &text, 0);
    Ok(blocks)
}
