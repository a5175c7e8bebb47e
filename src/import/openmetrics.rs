//! Imports OpenMetrics text files, all or nothing: blocks are written to a separate directory and
//! moved next to the others once all files have been read.

use super::EVERY;
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
pub(super) fn import(data: &Path, files: &[PathBuf]) -> Result<String, String> {
    let _lock = DataLock::take(data)?;
    let stage = data.join(STAGE);
    let io = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    if stage.exists() {
        OsDisk.remove(&stage).map_err(|e| io(&stage, e))?;
    }
    OsDisk.create_dir(&stage).map_err(|e| io(&stage, e))?;
    let taken = reserved_names_in(&OsDisk, data).map_err(|e| e.to_string())?;
    let read = files.iter().map(|file| one(file, &stage, &taken)).collect::<Result<Vec<_>, _>>();
    let joined = read.map_err(|e| format!("{e}; nothing is imported")).and_then(|blocks| {
        let mut blocks: Vec<BlockMeta> = blocks.into_iter().flatten().collect();
        // Files with the same samples result in the same block.
        blocks.sort_by(|a, b| a.dir.cmp(&b.dir));
        blocks.dedup_by(|a, b| a.dir == b.dir);
        join(data, &blocks).map(|()| blocks)
    });
    OsDisk.remove(&stage).map_err(|e| io(&stage, e))?;
    let blocks = joined?;
    let samples: u64 = blocks.iter().map(|meta| meta.samples).sum();
    let span = blocks.iter().map(|m| (m.min_time, m.max_time)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let when = |t: i64| chrono::DateTime::from_timestamp_millis(t).unwrap_or_default().to_rfc3339();
    let span = span.map_or(String::new(), |(min, max)| format!(", {} to {}", when(min), when(max)));
    Ok(format!("{} blocks imported, {samples} samples{span}\n", blocks.len()))
}

/// Moves the blocks to the others. If this is interrupted, the next import does the rest.
fn join(data: &Path, blocks: &[BlockMeta]) -> Result<(), String> {
    let dir = data.join("blocks");
    OsDisk.create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for meta in blocks {
        let target = dir.join(meta.dir.file_name().unwrap_or_default());
        // The name of a block is derived from its content: an existing directory is the same block,
        // possibly damaged.
        let clear = if target.exists() { OsDisk.remove(&target) } else { Ok(()) };
        let moved = clear.and_then(|()| OsDisk.rename(&meta.dir, &target));
        moved.map_err(|e| format!("{}: {e}", target.display()))?;
    }
    Ok(())
}

fn one(file: &Path, stage: &Path, taken: &BTreeSet<String>) -> Result<Vec<BlockMeta>, ImportError> {
    let start = Instant::now();
    let mut told = Instant::now();
    let shown = std::io::stderr().is_terminal();
    let mut last = ImportProgress::default();
    let blocks = copy(file, &OsDisk, stage, taken, |progress| {
        last = progress;
        if shown && told.elapsed() > EVERY {
            told = Instant::now();
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
