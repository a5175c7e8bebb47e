//! `perennial export`: writes samples of a data directory in a format that other programs read.
//!
//! The directory is only read: the store is opened on a disk that discards all writes. No server
//! may use the directory meanwhile; of a running server, export a snapshot. The formats are in
//! [`connectors::export`].

use crate::data_directory_lock::{DataLock, DataLockError};
use crate::flags::value::{LogFormat, LogLevel};
use crate::object_store::ObjectStoreError;
use crate::usage_error::UsageError;
use crate::{UNUSABLE, say};
use api::params::parse_time;
use connectors::export::{ExportCounts, ExportError, csv, export, openmetrics, parquet};
use rules::yaml::ConfigError;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use storage::disk::{Disk, DiskFile, OsDisk, ReadFile};
use storage::metrics::Metrics;
use storage::model::{Matcher, TimeMs};
use storage::store::{Store, StoreBuilder, StoreError, StoreOptions, damaged_blocks};

const USAGE: &str = "usage: perennial export --match=SELECTOR --format=parquet|csv|openmetrics [flags]\n";
const HELP: &str = "
Writes the samples of the series that match, from a data directory that no server runs on. Nothing in it is changed. To
export from a running server, have it make a snapshot (it needs --web.enable-admin-api) and export that:

  curl -XPOST http://localhost:9090/api/v1/admin/tsdb/snapshot
  perennial export --storage.tsdb.path=data/snapshots/20261122T101500Z-4f1b… --match=up --format=csv

Flags:
  --match=SELECTOR                a series selector of PromQL; may be given several times
  --format=FORMAT                 parquet, csv or openmetrics
  --start=TIME, --end=TIME        RFC 3339 or seconds since 1970, both inclusive; without them: all there is
  --output=FILE                   where to; standard output by default
  --storage.tsdb.path=DIRECTORY   the data directory; data/ by default
  --config.file=FILE              the server's configuration, if blocks are in an object store (storage.objects)

parquet and csv have a row per sample and a column per label: timestamp, value, histogram (if there is one), then the labels. No
value and no histogram is a stale marker. openmetrics has neither stale markers nor native histograms: how many are left out is said.

Exit code: 0 if everything was written, 1 if not (damaged blocks are left out), 2 if the command line cannot be used.
";

#[derive(Debug, PartialEq)]
enum Format {
    Parquet,
    Csv,
    OpenMetrics,
}

#[derive(Debug)]
struct ExportArgs {
    data: PathBuf,
    config: Option<PathBuf>,
    sets: Vec<Vec<Matcher>>,
    from: TimeMs,
    to: TimeMs,
    format: Format,
    output: Option<PathBuf>,
}

/// Runs `perennial export` with the given arguments.
pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return say(&mut io::stdout(), &format!("{USAGE}{HELP}"), 0);
    }
    // Damaged blocks are reported in the log.
    // To standard error, so that standard output can be the export.
    crate::log::start(LogLevel::Warn, LogFormat::Logfmt);
    let args = match arguments(args) {
        Ok(args) => args,
        Err(error) => {
            let text = format!("{error}\n{USAGE}See `perennial export --help`.\n");
            return say(&mut io::stderr(), &text, UNUSABLE);
        }
    };
    match run(&args) {
        Ok(summary) => say(&mut io::stderr(), &summary, 0),
        Err(error) => say(&mut io::stderr(), &format!("{error}\n"), 1),
    }
}

fn arguments(args: &[String]) -> Result<ExportArgs, UsageError> {
    let mut sets = Vec::new();
    let mut format = None;
    let mut output = None;
    let mut config = None;
    let mut data = PathBuf::from("data/");
    let mut from = TimeMs::MIN;
    let mut to = TimeMs::MAX;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (flag, value) = match arg.split_once('=') {
            Some((flag, value)) => (flag, value),
            None if arg.starts_with("--") => {
                (arg.as_str(), args.next().ok_or_else(|| UsageError::NoValue(arg.clone()))?.as_str())
            }
            None => return Err(UsageError::Unexpected(arg.clone())),
        };
        let time = |value: &str| parse_time(value).map_err(|e| UsageError::unparsed(flag, e));
        match flag {
            "--match" => sets.push(selector(value)?),
            "--format" => format = Some(format_of(value)?),
            "--start" => from = time(value)?,
            "--end" => to = time(value)?,
            "--output" => output = Some(value.into()),
            "--storage.tsdb.path" => data = value.into(),
            "--config.file" => config = Some(value.into()),
            _ => return Err(UsageError::UnknownFlag(flag.to_owned())),
        }
    }
    if sets.is_empty() {
        return Err(UsageError::Missing("--match is missing; --match='{__name__=~\".+\"}' is everything"));
    }
    let format = format.ok_or(UsageError::Missing("--format is missing"))?;
    Ok(ExportArgs { data, config, sets, from, to, format, output })
}

fn format_of(text: &str) -> Result<Format, UsageError> {
    match text {
        "parquet" => Ok(Format::Parquet),
        "csv" => Ok(Format::Csv),
        "openmetrics" => Ok(Format::OpenMetrics),
        _ => Err(UsageError::bad_value("--format", text, "possible are parquet, csv, openmetrics")),
    }
}

fn selector(text: &str) -> Result<Vec<Matcher>, UsageError> {
    let bad = |reason: &str| UsageError::bad_value("--match", text, reason);
    let matchers = promql::parse_selector(text).map_err(|e| bad(&e.message()))?;
    // The rule of Prometheus' `match[]`: everything must be written as such, `{}` may be a mistake.
    if matchers.iter().all(Matcher::matches_empty) {
        Err(bad("it must contain at least one non-empty matcher"))
    } else {
        Ok(matchers)
    }
}

/// Why an export is not written, or not whole.
#[derive(Debug, thiserror::Error)]
enum ExportCommandError {
    /// The directory has no samples of this server.
    #[error("{} is no data directory: it has neither blocks nor a log", .0.display())]
    NoDataDirectory(PathBuf),
    /// A server uses the directory, or it cannot be locked.
    #[error("{0}")]
    Lock(#[from] DataLockError),
    /// The configuration file with the object store cannot be used.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The object store cannot be used.
    #[error("storage.objects: {0}")]
    Objects(#[from] ObjectStoreError),
    /// The store cannot be opened.
    #[error("cannot open the data directory {}: {source}", dir.display())]
    OpenStore {
        /// The data directory.
        dir: PathBuf,
        /// What the store said.
        source: StoreError,
    },
    /// The output file cannot be made or named.
    #[error("{}: {source}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Reading or writing the samples failed.
    #[error("{0}")]
    Export(#[from] ExportError),
    /// The export is written, but without the samples of damaged blocks.
    #[error("{summary}not whole: {blocks} damaged blocks are left out")]
    DamagedBlocks {
        /// What was written.
        summary: String,
        /// How many blocks are left out.
        blocks: f64,
    },
}

/// Writes the requested export; returns a summary.
fn run(args: &ExportArgs) -> Result<String, ExportCommandError> {
    // A mistyped path would otherwise become a new, empty data directory.
    if !args.data.join("blocks").is_dir() && !args.data.join("wal").is_dir() {
        return Err(ExportCommandError::NoDataDirectory(args.data.clone()));
    }
    // Although nothing is written: a server that compacts meanwhile would remove blocks that are
    // being read.
    let _lock = DataLock::take(&args.data)?;
    let metrics = Metrics::default();
    let store = open(args, &metrics)?;
    let counts = match &args.output {
        None => write(&store, args, BufWriter::new(io::stdout()))?,
        Some(path) => {
            // The file gets its name only when it is complete.
            let temporary = path.with_added_extension("tmp");
            let bad = |source: io::Error| ExportCommandError::Output { path: path.clone(), source };
            let file = std::fs::File::create(&temporary).map_err(bad)?;
            let written = write(&store, args, BufWriter::new(file));
            match &written {
                Ok(_) => std::fs::rename(&temporary, path).map_err(bad)?,
                Err(_) => std::fs::remove_file(&temporary).map_err(bad)?,
            }
            written?
        }
    };
    let summary = summary_of(counts);
    match damaged_blocks(&metrics).get() {
        0.0 => Ok(summary),
        blocks => Err(ExportCommandError::DamagedBlocks { summary, blocks }),
    }
}

fn write(store: &Store, args: &ExportArgs, out: impl Write + Send) -> Result<ExportCounts, ExportError> {
    export(store, &args.sets, args.from, args.to, |shape| match args.format {
        Format::Parquet => parquet::sink(out, shape),
        Format::Csv => csv::sink(out, shape),
        Format::OpenMetrics => openmetrics::sink(out, shape),
    })
}

fn summary_of(counts: ExportCounts) -> String {
    let mut text = format!("{} series, {} samples written\n", counts.series, counts.samples);
    for (count, what) in
        [(counts.histograms_left_out, "native histograms"), (counts.stale_left_out, "stale markers")]
    {
        if count > 0 {
            text.push_str(&format!("{count} {what} left out: the format has none\n"));
        }
    }
    text
}

fn open(args: &ExportArgs, metrics: &Metrics) -> Result<Arc<Store>, ExportCommandError> {
    let data = &args.data;
    let mut cold = None;
    if let Some(path) = &args.config {
        let (config, _) = crate::config::load(path)?;
        let objects = config.storage.objects;
        cold = objects.map(|objects| crate::object_store::options(&objects, data)).transpose()?;
    }
    let options = StoreOptions {
        dir: data.clone(),
        wal_sync_interval_ms: 1_000,
        block_range_ms: storage::limits::BLOCK_WINDOW_MS,
        out_of_order_ms: storage::limits::OUT_OF_ORDER_WINDOW_MS,
    };
    let (store, replay) = StoreBuilder::new(options, Arc::new(ReadOnlyDisk), metrics)
        .cold_storage(cold)
        .open()
        .map_err(|source| ExportCommandError::OpenStore { dir: data.clone(), source })?;
    for line in &replay.damage {
        say(&mut io::stderr(), &format!("damage in the data directory: {line}\n"), 1);
    }
    Ok(store)
}

/// The disk of the operating system, without writes.
struct ReadOnlyDisk;

/// A file that discards all writes.
struct DiscardFile;

impl DiskFile for DiscardFile {
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for ReadOnlyDisk {
    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(DiscardFile))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        OsDisk.read(path)
    }
    fn read_at(&self, path: &Path, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        OsDisk.read_at(path, offset, most)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        OsDisk.open(path)
    }
    fn is_dir(&self, path: &Path) -> bool {
        OsDisk.is_dir(path)
    }
    fn size(&self, path: &Path) -> io::Result<u64> {
        OsDisk.size(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        // A snapshot has no WAL directory, and none is created.
        match OsDisk.list(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed,
        }
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&self, _: &Path, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}
