//! `perennial import`: imports the history of another server into our data directory, as blocks.
//!
//! No server may use our data directory meanwhile; the lock ensures that. [`prometheus`] imports
//! Prometheus' blocks, [`openmetrics`] text files. The readers are in [`connectors::import`].

mod openmetrics;
mod prometheus;

use crate::data_directory_lock::DataLockError;
use crate::usage_error::UsageError;
use crate::{UNUSABLE, say};
use connectors::import::ImportError;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use storage::store::StoreError;

const USAGE: &str = "usage: perennial import prometheus [--storage.tsdb.path=data/] DIRECTORY
       perennial import openmetrics [--storage.tsdb.path=data/] FILE…
";
const HELP: &str = "
Copies history into Perennial's data directory. Perennial must not run on it meanwhile.

prometheus: DIRECTORY is Prometheus' --storage.tsdb.path, with its blocks and its log, or a snapshot, or one block; it is
only read. Stop Prometheus before, or have it make a snapshot while it runs (it needs --web.enable-admin-api) and import that:

  curl -XPOST http://localhost:9090/api/v1/admin/tsdb/snapshot
  perennial import prometheus --storage.tsdb.path=data/ prometheus-data/snapshots/20261122T101500Z-4f1b…

Each block of Prometheus becomes one block, and what is only in its log (the newest two to three hours) another one.

openmetrics: FILE is OpenMetrics text, with a timestamp on every sample and `# EOF` at the end; samples may come in any
order. A mistake is named with its line, and nothing is imported then. The same as
`perennial tsdb create-blocks-from openmetrics FILE [DATA DIRECTORY]`, promtool's spelling.

An import that was interrupted is started again: what was there already comes out the same and counts once.
--storage.tsdb.retention.time of the server decides how long the history stays.

Flags:
  --storage.tsdb.path=DIRECTORY   Perennial's data directory; data/ by default. It is made if it is missing.

Exit code: 0 if everything was imported, 1 if something could not be, 2 if the command line cannot be used.
";
/// The interval at which a long import reports its progress.
const EVERY: Duration = Duration::from_secs(2);

/// What to import.
#[derive(Debug, PartialEq)]
enum ImportSource {
    Prometheus(PathBuf),
    OpenMetrics(Vec<PathBuf>),
}

/// Runs `perennial import` with the given arguments.
pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return say(&mut std::io::stdout(), &format!("{USAGE}{HELP}"), 0);
    }
    match arguments(args) {
        Ok((data, source)) => run(&data, &source),
        Err(error) => unusable(&error.to_string(), USAGE),
    }
}

/// Runs `perennial tsdb`, which has the syntax of promtool's import command.
pub(crate) fn tsdb(args: &[String]) -> ExitCode {
    const USAGE: &str = "usage: perennial tsdb create-blocks-from openmetrics FILE [DATA DIRECTORY]\n";
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["create-blocks-from", "openmetrics", words @ ..] if !words.iter().any(|w| w.starts_with("--")) => {
            match words {
                // promtool's default is the same directory.
                [file] => run(Path::new("data/"), &ImportSource::OpenMetrics(vec![file.into()])),
                [file, data] => run(Path::new(data), &ImportSource::OpenMetrics(vec![file.into()])),
                _ => unusable("one file, and perhaps a directory", USAGE),
            }
        }
        [_, ..] if words.iter().any(|w| *w == "--help" || *w == "-h") => {
            say(&mut std::io::stdout(), USAGE, 0)
        }
        _ => unusable("what promtool's tsdb commands do besides this is done by the server's API", USAGE),
    }
}

fn unusable(why: &str, usage: &str) -> ExitCode {
    let text = format!("{why}\n{usage}See `perennial import --help`.\n");
    say(&mut std::io::stderr(), &text, UNUSABLE)
}

/// Why an import is not done, or not whole.
#[derive(Debug, thiserror::Error)]
enum ImportCommandError {
    /// A server uses the data directory, or it cannot be locked.
    #[error("{0}")]
    Lock(#[from] DataLockError),
    /// A file or directory of the data directory cannot be made, removed or renamed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The names of the blocks that are there cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The source cannot be listed.
    #[error("{0}")]
    Source(#[source] ImportError),
    /// A file of several cannot be read; none is imported then.
    #[error("{0}; nothing is imported")]
    NothingImported(#[source] ImportError),
    /// Some blocks are imported, others cannot be.
    #[error("{summary}; {failed} blocks could not be imported")]
    SomeBlocks {
        /// What was imported.
        summary: String,
        /// How many blocks could not be.
        failed: usize,
    },
}

/// An I/O error at `path`.
fn io_error(path: &Path, source: std::io::Error) -> ImportCommandError {
    ImportCommandError::Io { path: path.to_owned(), source }
}

fn run(data: &Path, source: &ImportSource) -> ExitCode {
    let done = match source {
        ImportSource::Prometheus(from) => prometheus::import(data, from),
        ImportSource::OpenMetrics(files) => openmetrics::import(data, files),
    };
    match done {
        Ok(summary) => say(&mut std::io::stdout(), &summary, 0),
        Err(error) => say(&mut std::io::stderr(), &format!("{error}\n"), 1),
    }
}

/// Parses the arguments into our data directory and the source.
fn arguments(args: &[String]) -> Result<(PathBuf, ImportSource), UsageError> {
    let mut data = PathBuf::from("data/");
    let mut words = Vec::new();
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        match arg.split_once('=').unwrap_or((arg, "")) {
            ("--storage.tsdb.path", "") => {
                data = args.next().ok_or_else(|| UsageError::NoValue(arg.to_owned()))?.into();
            }
            ("--storage.tsdb.path", value) => data = value.into(),
            (flag, _) if flag.starts_with("--") => return Err(UsageError::UnknownFlag(flag.to_owned())),
            _ => words.push(arg),
        }
    }
    match words.as_slice() {
        ["prometheus", directory] => Ok((data, ImportSource::Prometheus(directory.into()))),
        ["prometheus"] => Err(UsageError::Missing("the directory to import is missing")),
        ["prometheus", _, another, ..] => Err(UsageError::Unexpected((*another).to_owned())),
        ["openmetrics"] => Err(UsageError::Missing("the file to import is missing")),
        ["openmetrics", files @ ..] => {
            Ok((data, ImportSource::OpenMetrics(files.iter().map(PathBuf::from).collect())))
        }
        [kind, ..] => {
            Err(UsageError::UnknownKind { word: (*kind).to_owned(), possible: "prometheus, openmetrics" })
        }
        [] => Err(UsageError::Missing("what to import is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &str) -> Result<(PathBuf, ImportSource), UsageError> {
        arguments(&args.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_may_stand_anywhere() {
        let of = |data: &str| Ok((PathBuf::from(data), ImportSource::Prometheus("p".into())));
        let wanted = of("d");
        for line in ["prometheus p --storage.tsdb.path d", "--storage.tsdb.path=d prometheus p"] {
            assert_eq!(read(line), wanted);
        }
        assert_eq!(read("prometheus p"), of("data/"));
    }

    #[test]
    fn what_is_no_command_line_is_refused() {
        for bad in [
            "",
            "prometheus",
            "prometheus a b",
            "graphite a",
            "openmetrics",
            "prometheus a --fast",
            "prometheus a --storage.tsdb.path",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
