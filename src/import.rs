//! `perennial import prometheus DIRECTORY`: brings the blocks of Prometheus' data directory into ours.
//!
//! No server may run on our data directory meanwhile: the lock says so. Read next: [`connectors::import`].

use crate::data_lock::DataLock;
use crate::{UNUSABLE, say};
use connectors::import::ImportError;
use connectors::import::prometheus::{TsdbBlock, blocks, copy};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use storage::disk::{Disk, OsDisk};

const USAGE: &str = "usage: perennial import prometheus [--storage.tsdb.path=data/] DIRECTORY\n";
const HELP: &str = "
Copies the history in Prometheus' data directory into Perennial's. DIRECTORY is Prometheus' --storage.tsdb.path, or a
snapshot, or one block; it is only read, and Prometheus may go on running on it. Perennial must not run meanwhile.

The newest two to three hours of Prometheus are not in blocks yet. To bring them along, have it make a snapshot
(it needs --web.enable-admin-api) and import that:

  curl -XPOST http://localhost:9090/api/v1/admin/tsdb/snapshot
  perennial import prometheus --storage.tsdb.path=data/ prometheus-data/snapshots/20261122T101500Z-4f1b…

Each block of Prometheus becomes one block. An import that was interrupted is started again: what was there already
comes out the same and counts once. --storage.tsdb.retention.time of the server decides how long the history stays.

Flags:
  --storage.tsdb.path=DIRECTORY   Perennial's data directory; data/ by default. It is made if it is missing.

Exit code: 0 if everything was imported, 1 if a block could not be, 2 if the command line cannot be used.
";
/// How often a long block says how far it is.
const EVERY: Duration = Duration::from_secs(2);

/// Runs `perennial import` with the arguments behind it.
pub fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return say(&mut std::io::stdout(), &format!("{USAGE}{HELP}"), 0);
    }
    let (data, from) = match arguments(args) {
        Ok(asked) => asked,
        Err(why) => {
            let text = format!("{why}\n{USAGE}See `perennial import --help`.\n");
            return say(&mut std::io::stderr(), &text, UNUSABLE);
        }
    };
    match import(&data, &from) {
        Ok(total) => say(&mut std::io::stdout(), &total, 0),
        Err(why) => say(&mut std::io::stderr(), &format!("{why}\n"), 1),
    }
}

/// Our data directory, and the one to read.
fn arguments(args: &[String]) -> Result<(PathBuf, PathBuf), String> {
    let (mut data, mut words) = (PathBuf::from("data/"), Vec::new());
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        match arg.split_once('=').unwrap_or((arg, "")) {
            ("--storage.tsdb.path", "") => {
                data = args.next().ok_or("--storage.tsdb.path needs a value")?.into();
            }
            ("--storage.tsdb.path", value) => data = value.into(),
            (flag, _) if flag.starts_with("--") => return Err(format!("unknown flag {flag}")),
            _ => words.push(arg),
        }
    }
    match words.as_slice() {
        ["prometheus", directory] => Ok((data, directory.into())),
        ["prometheus"] => Err("the directory to import is missing".to_owned()),
        ["prometheus", ..] => Err("one directory at a time".to_owned()),
        [kind, ..] => Err(format!("{kind:?} cannot be imported; what can: prometheus")),
        [] => Err("what to import is missing".to_owned()),
    }
}

/// Imports every block; what came of it, as text.
fn import(data: &Path, from: &Path) -> Result<String, String> {
    let found = blocks(from).map_err(|e| e.to_string())?;
    let _lock = DataLock::take(data)?;
    let dir = data.join("blocks");
    OsDisk.create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let (mut series, mut samples, mut failed) = (0, 0, 0);
    for (at, block) in found.iter().enumerate() {
        let head = format!("block {} of {}, {}", at + 1, found.len(), block.meta.ulid);
        match one(block, &dir, &head) {
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
    let total = format!("{imported} blocks imported, {series} series, {samples} samples");
    match failed {
        0 => Ok(total + "\n"),
        _ => Err(format!("{total}; {failed} blocks could not be imported")),
    }
}

/// Imports a block; its series and samples.
fn one(block: &TsdbBlock, dir: &Path, head: &str) -> Result<(u64, u64), ImportError> {
    let (start, mut told, mut done) = (Instant::now(), Instant::now(), 0u64);
    let shown = std::io::stderr().is_terminal();
    let written = copy(block, &OsDisk, dir, |_| {
        done += 1;
        if shown && told.elapsed() > EVERY {
            told = Instant::now();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &str) -> Result<(PathBuf, PathBuf), String> {
        arguments(&args.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_may_stand_anywhere() {
        let wanted = Ok((PathBuf::from("d"), PathBuf::from("p")));
        for line in ["prometheus p --storage.tsdb.path d", "--storage.tsdb.path=d prometheus p"] {
            assert_eq!(read(line), wanted);
        }
        assert_eq!(read("prometheus p"), Ok((PathBuf::from("data/"), PathBuf::from("p"))));
    }

    #[test]
    fn what_is_no_command_line_is_refused() {
        for bad in [
            "",
            "prometheus",
            "prometheus a b",
            "graphite a",
            "prometheus a --fast",
            "prometheus a --storage.tsdb.path",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
