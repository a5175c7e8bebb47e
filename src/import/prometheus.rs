//! Imports the blocks of a Prometheus data directory one by one.

use super::{EVERY, ImportCommandError, io_error};
use crate::data_directory_lock::DataLock;
use crate::say;
use connectors::import::ImportError;
use connectors::import::prometheus::{TsdbBlock, blocks, copy};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;
use storage::block::reserved_names_in;
use storage::disk::{Disk, OsDisk};

/// Imports all blocks; returns a summary.
pub(super) fn import(data: &Path, from: &Path) -> Result<String, ImportCommandError> {
    let found = blocks(from).map_err(ImportCommandError::Source)?;
    let _lock = DataLock::take(data)?;
    let dir = data.join("blocks");
    OsDisk.create_dir(&dir).map_err(|error| io_error(&dir, error))?;
    let reserved = reserved_names_in(&OsDisk, data)?;
    let mut series = 0;
    let mut samples = 0;
    let mut failed = 0;
    for (at, block) in found.iter().enumerate() {
        let head = format!("block {} of {}, {}", at + 1, found.len(), block.meta.ulid);
        match one(block, &dir, &reserved, &head) {
            Ok(written) => {
                series += written.0;
                samples += written.1;
            }
            Err(error) => {
                failed += 1;
                say(&mut std::io::stderr(), &format!("{head}: not imported: {error}\n"), 1);
            }
        }
    }
    let imported = found.len() - failed;
    let summary = format!("{imported} blocks imported, {series} series, {samples} samples");
    match failed {
        0 => Ok(summary + "\n"),
        _ => Err(ImportCommandError::SomeBlocks { summary, failed }),
    }
}

/// Imports a block; returns the numbers of its series and samples.
fn one(
    block: &TsdbBlock,
    dir: &Path,
    reserved: &BTreeSet<String>,
    head: &str,
) -> Result<(u64, u64), ImportError> {
    let start = Instant::now();
    let mut reported = Instant::now();
    let mut done = 0u64;
    // Progress is for people; in a log file it would only be noise.
    let shown = std::io::stderr().is_terminal();
    let written = copy(block, &OsDisk, dir, reserved, |_| {
        done += 1;
        if shown && reported.elapsed() > EVERY {
            reported = Instant::now();
            let text = format!("{head}: {done} of {} series\n", block.meta.stats.num_series);
            say(&mut std::io::stderr(), &text, 0);
        }
    })?;
    let (series, samples) = written.as_ref().map_or((0, 0), |meta| (meta.series, meta.samples));
    let bytes = written.as_ref().map_or(0, storage::block::BlockMeta::bytes_on_disk);
    let seconds = start.elapsed().as_secs_f64();
    let text = format!("{head}: {series} series, {samples} samples, {bytes} bytes, {seconds:.1} s\n");
    say(&mut std::io::stderr(), &text, 0);
    Ok((series, samples))
}
