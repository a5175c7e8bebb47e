//! Imports the newest hours of Prometheus, which are in no block yet: what its head holds, from its
//! log. `wal/` has all samples, `wbl/` those that came out of order.
//!
//! [`pages`] reads the files, [`records`] what is in them. The log is sorted by time and a block by
//! series: the first pass counts the samples of every series, and each further one collects those
//! of as many series as fit into memory ([`IMPORT_SAMPLES`]).

mod pages;
mod records;
#[cfg(test)]
mod tests;

use super::super::{ImportError, io_error};
use super::chunks::ChunkSamples;
use super::tombstones::TsdbTombstones;
use super::{TsdbBlock, write_series};
use crate::limits::IMPORT_SAMPLES;
use pages::LogFile;
use records::{LogEntry, LogPosition};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use storage::block::{BlockMeta, BlockSeries};
use storage::disk::Disk;
use storage::model::{Labels, TimeMs};

/// The hint of blocks of late samples: they say nothing about how far the others go.
const OUT_OF_ORDER: &str = "from-out-of-order";
/// Bytes of a histogram that count as one sample: a float with its time.
const SAMPLE_BYTES: usize = 16;

/// One of the two logs.
#[derive(Debug)]
struct TsdbLog {
    /// Its files, oldest first.
    files: Vec<PathBuf>,
    /// Samples before are in blocks.
    from: TimeMs,
    /// The records that were read at first: Prometheus may go on writing.
    records: u64,
}

/// A series of the log.
#[derive(Debug)]
struct LoggedSeries {
    labels: Labels,
    /// About how many samples it has.
    samples: usize,
}

/// What is in Prometheus' log and in none of its blocks.
#[derive(Debug)]
pub struct TsdbHead {
    dir: PathBuf,
    logs: Vec<TsdbLog>,
    /// Sorted by labels.
    series: Vec<LoggedSeries>,
    /// Positions in `series`, by reference.
    references: HashMap<u64, usize>,
    /// By position in `series`.
    deleted: TsdbTombstones,
    /// First and last time.
    span: Option<(TimeMs, TimeMs)>,
    /// Where a log cannot be read further; what comes before is there.
    damage: Option<ImportError>,
}

impl TsdbHead {
    /// Reads the logs in Prometheus' data directory, which has these blocks. `None` if there are
    /// none, as in a snapshot.
    pub fn open(dir: &Path, blocks: &[TsdbBlock]) -> Result<Option<TsdbHead>, ImportError> {
        let wal = dir.join("wal");
        if !has_segments(&wal) {
            return Ok(None);
        }
        let in_order = blocks.iter().filter(|block| !block.meta.compaction.has_hint(OUT_OF_ORDER));
        let from = in_order.map(|block| block.meta.max_time).max().unwrap_or(TimeMs::MIN);
        let wbl = dir.join("wbl");
        let mut logs = vec![TsdbLog { files: files(&wal)?, from, records: 0 }];
        if wbl.is_dir() {
            // Late samples may be of any time.
            logs.push(TsdbLog { files: files(&wbl)?, from: TimeMs::MIN, records: 0 });
        }
        let mut scan = LogScan::default();
        let mut damage = None;
        for log in &mut logs {
            let read = log.each(u64::MAX, |entry| scan.entry(log.from, entry));
            log.records = read.records;
            damage = damage.or(read.damage);
        }
        Ok(Some(scan.head(dir, logs, damage)))
    }

    /// Number of series.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// Takes the error that ended the reading of a log before its end.
    pub fn take_damage(&mut self) -> Option<ImportError> {
        self.damage.take()
    }

    /// Writes the samples as one of our blocks into `blocks_dir`, under a name that is not in
    /// `taken`. `progress` is called for each series. `None` if there are none.
    pub fn copy(
        &self,
        disk: &dyn Disk,
        blocks_dir: &Path,
        taken: &BTreeSet<String>,
        progress: impl FnMut(&BlockSeries),
    ) -> Result<Option<BlockMeta>, ImportError> {
        let Some((first, last)) = self.span else { return Ok(None) };
        let rows = LoggedRows { head: self, next: 0, ready: Vec::new().into_iter() };
        write_series(&self.dir, first..last.saturating_add(1), rows, disk, blocks_dir, taken, progress)
    }

    /// All samples of the series at `positions`.
    fn collect(&self, positions: Range<usize>) -> Result<Vec<BlockSeries>, ImportError> {
        let mut found: Vec<ChunkSamples> = positions.clone().map(|_| ChunkSamples::default()).collect();
        for log in &self.logs {
            let read = log.each(log.records, |entry| {
                let at = match &entry {
                    LogEntry::Float { at, .. } | LogEntry::Histogram { at, .. } => *at,
                    _ => return Some(()),
                };
                let position = self.references.get(&at.reference).filter(|at| positions.contains(at));
                match position {
                    Some(position) if log.from <= at.t => {
                        add(&mut found[position - positions.start], at, entry)
                    }
                    _ => Some(()),
                }
            });
            // What was read at first is read again: the file has gone, or has changed.
            if let Some(damage) = read.damage {
                return Err(damage);
            }
        }
        let whole = positions.zip(found).map(|(position, mut samples)| {
            samples.finish(|t| !self.deleted.covers(position as u64, t));
            let ChunkSamples { ts, vs, histograms, starts } = samples;
            BlockSeries { labels: self.series[position].labels.clone(), ts, vs, histograms, starts }
        });
        Ok(whole.collect())
    }
}

fn add(samples: &mut ChunkSamples, at: LogPosition, entry: LogEntry) -> Option<()> {
    match entry {
        LogEntry::Float { value, .. } => samples.float(at.t, value),
        LogEntry::Histogram { histogram, .. } => samples.histogram(at.t, *histogram)?,
        LogEntry::Series { .. } | LogEntry::Deleted { .. } => {}
    }
    samples.start(at.t, at.start);
    Some(())
}

/// The series of a head, sorted by labels, with their samples.
struct LoggedRows<'a> {
    head: &'a TsdbHead,
    next: usize,
    ready: std::vec::IntoIter<BlockSeries>,
}

impl Iterator for LoggedRows<'_> {
    type Item = Result<BlockSeries, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(series) = self.ready.next() {
            return Some(Ok(series));
        }
        let rest = self.head.series.get(self.next..).filter(|rest| !rest.is_empty())?;
        let mut samples = 0usize;
        // One at least, however many samples it has.
        let fits = rest.iter().take_while(|series| {
            let first = samples == 0;
            samples = samples.saturating_add(series.samples.max(1));
            first || samples <= IMPORT_SAMPLES
        });
        let end = self.next + fits.count();
        match self.head.collect(self.next..end) {
            Ok(series) => {
                self.next = end;
                self.ready = series.into_iter();
                self.ready.next().map(Ok)
            }
            Err(error) => {
                self.next = self.head.series.len();
                Some(Err(error))
            }
        }
    }
}

/// What the first pass learns.
#[derive(Default)]
struct LogScan {
    positions: HashMap<Labels, usize>,
    samples: Vec<usize>,
    references: HashMap<u64, usize>,
    deleted: Vec<(usize, TimeMs, TimeMs)>,
    span: Option<(TimeMs, TimeMs)>,
}

impl LogScan {
    fn entry(&mut self, from: TimeMs, entry: LogEntry) -> Option<()> {
        match entry {
            LogEntry::Series { reference, labels } => {
                // A series that ended and began again has two references.
                let position = *self.positions.entry(labels).or_insert(self.samples.len());
                if position == self.samples.len() {
                    self.samples.push(0);
                }
                self.references.insert(reference, position);
            }
            LogEntry::Float { at, .. } => self.sample(from, at, 1),
            LogEntry::Histogram { at, histogram } => {
                let buckets = [&histogram.positive, &histogram.negative];
                let bytes: usize = buckets.map(|b| 8 * (b.deltas.len() + b.counts.len())).iter().sum();
                self.sample(from, at, 8 + bytes / SAMPLE_BYTES);
            }
            LogEntry::Deleted { reference, from, to } => {
                let position = self.references.get(&reference).copied();
                self.deleted.extend(position.map(|position| (position, from, to)));
            }
        }
        Some(())
    }

    /// Counts a sample. One of a series that is nowhere is passed over, as Prometheus does.
    fn sample(&mut self, from: TimeMs, at: LogPosition, weight: usize) {
        let Some(position) = self.references.get(&at.reference).filter(|_| from <= at.t) else { return };
        self.samples[*position] += weight;
        let (first, last) = self.span.unwrap_or((at.t, at.t));
        self.span = Some((first.min(at.t), last.max(at.t)));
    }

    /// Sorts the series.
    fn head(self, dir: &Path, logs: Vec<TsdbLog>, damage: Option<ImportError>) -> TsdbHead {
        let LogScan { positions, samples, mut references, deleted, span } = self;
        let mut sorted: Vec<(Labels, usize)> = positions.into_iter().collect();
        sorted.sort_unstable();
        let mut moved = vec![0; sorted.len()];
        for (new, (_, old)) in sorted.iter().enumerate() {
            moved[*old] = new;
        }
        for position in references.values_mut() {
            *position = moved[*position];
        }
        let deleted = deleted.into_iter().map(|(old, from, to)| (moved[old] as u64, from, to));
        let deleted = TsdbTombstones::new(deleted);
        let series = sorted.into_iter();
        let series = series.map(|(labels, old)| LoggedSeries { labels, samples: samples[old] }).collect();
        TsdbHead { dir: dir.to_owned(), logs, series, references, deleted, span, damage }
    }
}

/// How far a log was read.
struct LogReading {
    records: u64,
    damage: Option<ImportError>,
}

impl TsdbLog {
    /// Calls `each` for the entries of at most `limit` records.
    fn each(&self, limit: u64, mut each: impl FnMut(LogEntry) -> Option<()>) -> LogReading {
        let mut records = 0;
        let mut read = || -> Result<(), ImportError> {
            for (number, path) in self.files.iter().enumerate() {
                let mut file = LogFile::open(path)?;
                let newest = number + 1 == self.files.len();
                while records < limit {
                    let Some(record) = file.next_record(newest)? else { break };
                    if records::read(record, &mut each).is_none() {
                        return Err(file.error(&"the record before it does not hold what it says"));
                    }
                    records += 1;
                }
            }
            Ok(())
        };
        let damage = read().err();
        LogReading { records, damage }
    }
}

/// Whether `wal` is Prometheus' log. Ours has files with other names.
pub(super) fn has_segments(wal: &Path) -> bool {
    numbered(wal, "").is_ok_and(|segments| !segments.is_empty())
}

/// The files of a log: those of the newest checkpoint, and the segments after it.
fn files(log: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let checkpoint = numbered(log, "checkpoint.")?.pop();
    let mut found: Vec<PathBuf> = match &checkpoint {
        Some((_, dir)) => numbered(dir, "")?.into_iter().map(|(_, path)| path).collect(),
        None => Vec::new(),
    };
    let after = checkpoint.map(|(number, _)| number);
    let segments = numbered(log, "")?.into_iter().filter(|(number, _)| Some(*number) > after);
    found.extend(segments.map(|(_, path)| path));
    Ok(found)
}

/// What is called `prefix` and a number in `dir`, by number.
fn numbered(dir: &Path, prefix: &str) -> Result<Vec<(u64, PathBuf)>, ImportError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io_error(dir))? {
        let entry = entry.map_err(io_error(dir))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix));
        // Also no `checkpoint.00000012.tmp`, which is being written.
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}
