//! Imports OpenMetrics text with a timestamp on every sample, in any order, as blocks; accepts what
//! `promtool tsdb create-blocks-from openmetrics` accepts.
//!
//! The text is read once, in pieces. When the limit of samples in memory is reached, they are
//! written as blocks, one per time range, so a large text makes several blocks of one range; the
//! server merges them. Errors name the line ([`ImportError::Line`]).

use super::{ImportError, io_error};
use crate::exposition::{
    Context, ExpositionEntry, ExpositionParser, LineError, MetricType, TextFormat, series,
};
use crate::limits::{IMPORT_PIECE_BYTES, IMPORT_RANGE_MS, IMPORT_SAMPLES, LINE_BYTES};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use storage::block::{BlockMeta, BlockSeries, BlockSpec, write_block_replacing};
use storage::disk::Disk;
use storage::model::{Labels, TimeMs};

/// The progress of an import.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportProgress {
    /// Bytes read.
    pub bytes: u64,
    /// Size of the text, bytes.
    pub of: u64,
    /// Samples read.
    pub samples: u64,
}

/// Writes the samples of the text in `file` as blocks into `blocks_dir`, and returns their
/// metadata. No block gets a name in `taken`. `told` is called from time to time with the progress.
/// After an error some blocks may have been written.
pub fn copy(
    file: &Path,
    disk: &dyn Disk,
    blocks_dir: &Path,
    taken: &BTreeSet<String>,
    mut told: impl FnMut(ImportProgress),
) -> Result<Vec<BlockMeta>, ImportError> {
    let mut text = File::open(file).map_err(io_error(file))?;
    let of = text.metadata().map_err(io_error(file))?.len();
    let mut reader = OpenMetricsImporter {
        file,
        taken,
        lines: 0,
        kind: MetricType::Unknown,
        ended: false,
        waiting: BufferedSeries::default(),
    };
    let mut piece = Vec::new();
    let mut written = Vec::new();
    let mut progress = ImportProgress { of, ..ImportProgress::default() };
    loop {
        let kept = piece.len();
        let wanted = (IMPORT_PIECE_BYTES + LINE_BYTES).saturating_sub(kept) as u64;
        let read = text.by_ref().take(wanted).read_to_end(&mut piece).map_err(io_error(file))?;
        let whole = match memchr::memrchr(b'\n', &piece) {
            _ if read == 0 => piece.len(),
            // Up to the last whole line; the rest is read with the next piece.
            Some(end) => end + 1,
            None if piece.len() > LINE_BYTES => return Err(reader.error(1, "the line is too long")),
            None => continue,
        };
        reader.take(&piece[..whole])?;
        piece.drain(..whole);
        progress.bytes += whole as u64;
        progress.samples = reader.waiting.total;
        told(progress);
        if read == 0 {
            break;
        }
        // A text may be larger than memory and in any order, so what is full is written, and a
        // range may get several blocks.
        if reader.waiting.samples >= IMPORT_SAMPLES {
            reader.write(disk, blocks_dir, &mut written)?;
        }
    }
    // A text without its last line was cut. Blocks that were written stay: the user sees the error
    // and what was imported.
    if !reader.ended {
        return Err(reader.error(1, "data does not end with # EOF"));
    }
    reader.write(disk, blocks_dir, &mut written)?;
    Ok(written)
}

/// A sample: time, value, line.
type ImportedSample = (TimeMs, f64, u64);

/// Samples that were read but not written yet.
#[derive(Default)]
struct BufferedSeries {
    /// Index in `series` by metric type and by the bytes of the series in the text: a repeated
    /// series is not parsed again.
    known: HashMap<(MetricType, Box<[u8]>), usize>,
    by_labels: HashMap<Labels, usize>,
    series: Vec<(Labels, Vec<ImportedSample>)>,
    samples: usize,
    /// Number of samples read so far.
    total: u64,
}

struct OpenMetricsImporter<'a> {
    file: &'a Path,
    taken: &'a BTreeSet<String>,
    /// Number of lines in the pieces before.
    lines: u64,
    kind: MetricType,
    ended: bool,
    waiting: BufferedSeries,
}

impl OpenMetricsImporter<'_> {
    /// An error in line `line` (from 1) of the current piece.
    fn error(&self, line: usize, reason: impl ToString) -> ImportError {
        let line = self.lines + line as u64;
        ImportError::Line { path: self.file.to_owned(), line, reason: reason.to_string() }
    }

    /// Reads a piece of complete lines.
    fn take(&mut self, piece: &[u8]) -> Result<(), ImportError> {
        if self.ended && !piece.is_empty() {
            return Err(self.error(1, "unexpected data after # EOF"));
        }
        let mut parser = ExpositionParser::resume(piece, TextFormat::OpenMetrics, self.kind);
        let mut line = 0;
        while !parser.is_through() {
            line += 1;
            let bad = |e: crate::exposition::ExpositionError| self.error(line, e.reason);
            match parser.next(b"").map_err(bad)? {
                Some(ExpositionEntry::Meta(_)) => {}
                Some(ExpositionEntry::Sample(sample)) => {
                    let Some(t) = sample.t else {
                        return Err(self.error(line, "the sample has no timestamp"));
                    };
                    let at = self.waiting.find(parser.kind(), sample.series);
                    let at = at.map_err(|e| self.error(line, e))?;
                    self.waiting.push(at, (t, sample.value, self.lines + line as u64));
                }
                None => self.ended = true,
            }
        }
        self.kind = parser.kind();
        self.lines += line as u64;
        Ok(())
    }

    /// Writes the buffered samples as blocks.
    fn write(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        written: &mut Vec<BlockMeta>,
    ) -> Result<(), ImportError> {
        let BufferedSeries { mut series, total, .. } = std::mem::take(&mut self.waiting);
        self.waiting.total = total;
        series.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (labels, samples) in &mut series {
            samples.sort_by_key(|sample| sample.0);
            // Two values of one series at one time have no right answer, so the import stops and
            // names both lines.
            self.check_once(labels, samples)?;
            // Equal ones are left: the same line may well be there twice.
            samples.dedup_by_key(|sample| sample.0);
        }
        let range = |t: TimeMs| t.div_euclid(IMPORT_RANGE_MS);
        let all = series.iter().flat_map(|(_, samples)| samples.iter().map(|sample| range(sample.0)));
        let ranges: BTreeSet<i64> = all.collect();
        for at in ranges {
            let from = at.saturating_mul(IMPORT_RANGE_MS);
            let to = (at + 1).saturating_mul(IMPORT_RANGE_MS);
            let of_range = series.iter().map(|(labels, samples)| Ok(cut(labels, samples, from, to)));
            let origin = BlockSpec { from, to, replaces: Vec::new(), reserved: self.taken };
            written.push(write_block_replacing(disk, dir, origin, of_range)?);
        }
        Ok(())
    }

    /// Checks that a series has only one value per time.
    fn check_once(&self, labels: &Labels, samples: &[ImportedSample]) -> Result<(), ImportError> {
        let twice =
            samples.windows(2).find(|two| two[0].0 == two[1].0 && two[0].1.to_bits() != two[1].1.to_bits());
        let Some([first, second]) = twice else { return Ok(()) };
        let reason = format!("{labels} has another value at this time in line {}", first.2.min(second.2));
        // The later of the two lines has the error; the text names the earlier one.
        Err(ImportError::Line { path: self.file.to_owned(), line: first.2.max(second.2), reason })
    }
}

impl BufferedSeries {
    /// The index of the series that these bytes name.
    fn find(&mut self, kind: MetricType, bytes: &[u8]) -> Result<usize, LineError> {
        // With the type: in a histogram `le="1"` and `le="1.0"` are one series, in a gauge they are
        // two.
        let key = (kind, Box::from(bytes));
        if let Some(at) = self.known.get(&key) {
            return Ok(*at);
        }
        let labels = series::parse(bytes, Context { format: TextFormat::OpenMetrics, kind, unit: "" })
            .map_err(LineError::from)?
            .build();
        if labels.get(storage::model::labels::METRIC_NAME).is_none() {
            return Err(LineError::Series("the series has no name".to_owned()));
        }
        let at = *self.by_labels.entry(labels.clone()).or_insert_with(|| {
            self.series.push((labels, Vec::new()));
            self.series.len() - 1
        });
        self.known.insert(key, at);
        Ok(at)
    }

    fn push(&mut self, at: usize, sample: ImportedSample) {
        self.series[at].1.push(sample);
        self.samples += 1;
        self.total += 1;
    }
}

/// The samples of a series with `from ≤ t < to`.
fn cut(labels: &Labels, samples: &[ImportedSample], from: TimeMs, to: TimeMs) -> BlockSeries {
    let start = samples.partition_point(|s| s.0 < from);
    let end = samples.partition_point(|s| s.0 < to);
    let (ts, vs) = samples[start..end].iter().map(|s| (s.0, s.1)).unzip();
    BlockSeries { labels: labels.clone(), ts, vs, ..BlockSeries::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::assert_proportional;

    /// Number of series and samples of a text.
    fn read(text: &String) -> Result<(usize, u64), String> {
        let taken = BTreeSet::new();
        let waiting = BufferedSeries::default();
        let file = Path::new("text");
        let mut reader = OpenMetricsImporter {
            file,
            taken: &taken,
            lines: 0,
            kind: MetricType::Unknown,
            ended: false,
            waiting,
        };
        reader.take(text.as_bytes()).map_err(|e| e.to_string())?;
        Ok((reader.waiting.series.len(), reader.waiting.total))
    }

    #[test]
    fn twice_the_lines_cost_twice_as_much() {
        type Line = fn(usize) -> String;
        let lines: [(&str, Line); 5] = [
            ("series", |i| format!("m{{l=\"{i}\"}} 1 1\n")),
            ("samples", |i| format!("m 1 {i}\n")),
            ("families", |i| format!("# TYPE m{i} counter\n# HELP m{i} text\nm{i}_total 1 1\n")),
            ("names of one series", |i| {
                format!("# TYPE m histogram\nm{{le=\"1.0{}\"}} 1 1\n", "0".repeat(i % 50))
            }),
            ("comments", |_| "# UNIT m_seconds seconds\n".to_owned()),
        ];
        for (what, line) in lines {
            let text = |n: usize| (0..n).map(line).collect::<String>() + "# EOF\n";
            read(&text(3)).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_proportional(what, 2_000, text, read);
        }
    }
}
