//! Imports a Prometheus data directory: its blocks one by one, then what is only in its log.

use super::{EVERY, ImportCommandError, io_error};
use crate::data_directory_lock::DataLock;
use crate::say;
use connectors::import::ImportError;
use connectors::import::prometheus::log::TsdbHead;
use connectors::import::prometheus::{blocks, copy};
use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;
use storage::block::{BlockMeta, BlockSeries, reserved_names_in};
use storage::disk::{Disk, OsDisk};

/// What was imported.
#[derive(Debug, Default)]
struct ImportTotals {
    blocks: usize,
    series: u64,
    samples: u64,
    failed: usize,
}

impl ImportTotals {
    /// Adds what became of a block, or says why it did not become one.
    fn add(&mut self, head: &str, block: Result<Option<BlockMeta>, ImportError>) {
        match block {
            Ok(meta) => {
                self.blocks += 1;
                self.series += meta.as_ref().map_or(0, |meta| meta.series);
                self.samples += meta.as_ref().map_or(0, |meta| meta.samples);
            }
            Err(error) => {
                self.failed += 1;
                say(&mut std::io::stderr(), &format!("{head}: not imported: {error}\n"), 1);
            }
        }
    }
}

/// Imports all blocks, and the log; returns a summary.
pub(super) fn import(data: &Path, from: &Path) -> Result<String, ImportCommandError> {
    let found = blocks(from).map_err(ImportCommandError::Source)?;
    let _lock = DataLock::take(data)?;
    let dir = data.join("blocks");
    OsDisk.create_dir(&dir).map_err(|error| io_error(&dir, error))?;
    let reserved = reserved_names_in(&OsDisk, data)?;
    let mut totals = ImportTotals::default();
    for (at, block) in found.iter().enumerate() {
        let head = format!("block {} of {}, {}", at + 1, found.len(), block.meta.ulid);
        let progress = ImportLine::new(&head, block.meta.stats.num_series);
        totals.add(&head, progress.write(|each| copy(block, &OsDisk, &dir, &reserved, each)));
    }
    let head = "log";
    match TsdbHead::open(from, &found) {
        Ok(Some(mut log)) => {
            let damage = log.take_damage();
            let progress = ImportLine::new(head, log.series() as u64);
            totals.add(head, progress.write(|each| log.copy(&OsDisk, &dir, &reserved, each)));
            if let Some(error) = damage {
                totals.failed += 1;
                let text = format!("{head}: what comes after is not imported: {error}\n");
                say(&mut std::io::stderr(), &text, 1);
            }
        }
        // A snapshot, or a single block.
        Ok(None) => {}
        Err(error) => totals.add(head, Err(error)),
    }
    let ImportTotals { blocks, series, samples, failed } = totals;
    let summary = format!("{blocks} blocks imported, {series} series, {samples} samples");
    match failed {
        0 => Ok(summary + "\n"),
        _ => Err(ImportCommandError::SomeBlocks { summary, failed }),
    }
}

/// Tells how far the import of a block is.
struct ImportLine<'a> {
    head: &'a str,
    of: u64,
    start: Instant,
}

impl<'a> ImportLine<'a> {
    /// Of about `of` series.
    fn new(head: &'a str, of: u64) -> ImportLine<'a> {
        ImportLine { head, of, start: Instant::now() }
    }

    /// Has `write` write a block, and says what it has.
    fn write(
        &self,
        write: impl FnOnce(&mut dyn FnMut(&BlockSeries)) -> Result<Option<BlockMeta>, ImportError>,
    ) -> Result<Option<BlockMeta>, ImportError> {
        let head = self.head;
        let mut reported = Instant::now();
        let mut done = 0u64;
        // Progress is for people; in a log file it would only be noise.
        let shown = std::io::stderr().is_terminal();
        let written = write(&mut |_| {
            done += 1;
            if shown && reported.elapsed() > EVERY {
                reported = Instant::now();
                let text = format!("{head}: {done} of {} series\n", self.of);
                say(&mut std::io::stderr(), &text, 0);
            }
        })?;
        let series = written.as_ref().map_or(0, |meta| meta.series);
        let samples = written.as_ref().map_or(0, |meta| meta.samples);
        let bytes = written.as_ref().map_or(0, BlockMeta::bytes_on_disk);
        let seconds = self.start.elapsed().as_secs_f64();
        let text = format!("{head}: {series} series, {samples} samples, {bytes} bytes, {seconds:.1} s\n");
        say(&mut std::io::stderr(), &text, 0);
        Ok(written)
    }
}
