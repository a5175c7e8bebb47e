//! `scrape_failure_log_file`: a line of JSON for each failed scrape. Jobs with the same file share
//! it.

use crate::config::error::BlockError;
use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use storage::model::TimeMs;

/// The open logs, by their paths.
#[derive(Default)]
pub struct ScrapeFailureLogs {
    files: Mutex<BTreeMap<String, File>>,
}

/// A line, with Prometheus' names and in its order.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'static str,
    msg: &'a str,
    job_name: &'a str,
    target: &'a str,
}

/// A scrape that has failed.
#[derive(Copy, Clone, Debug)]
pub struct ScrapeFailure<'a> {
    /// When it ended, ms.
    pub time: TimeMs,
    /// The job.
    pub job: &'a str,
    /// The URL of the target.
    pub target: &'a str,
    /// Why it failed.
    pub reason: &'a str,
}

impl ScrapeFailureLogs {
    /// Opens the logs at `paths` and closes all others. Open ones are opened again, so that a log
    /// that was renamed goes on under its name.
    ///
    /// # Errors
    ///
    /// If one cannot be opened; then nothing changes.
    pub fn set<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Result<(), BlockError> {
        let mut files = BTreeMap::new();
        for path in paths.filter(|path| !path.is_empty()) {
            let opened = File::options().create(true).append(true).open(path);
            let bad = |error| BlockError::new(format!("can't create json log file: {path}: {error}"));
            files.insert(path.to_owned(), opened.map_err(bad)?);
        }
        *self.files.lock() = files;
        Ok(())
    }

    /// Writes a line to the log at `path`, if it is open.
    pub fn write(&self, path: &str, failure: ScrapeFailure<'_>) {
        let mut files = self.files.lock();
        let Some(file) = files.get_mut(path) else { return };
        let time = DateTime::<Utc>::from_timestamp_millis(failure.time).unwrap_or_default();
        let line = Line {
            time: time.to_rfc3339_opts(SecondsFormat::Millis, true),
            level: "ERROR",
            msg: failure.reason,
            job_name: failure.job,
            target: failure.target,
        };
        let Ok(mut text) = serde_json::to_vec(&line) else { return };
        text.push(b'\n');
        if let Err(error) = file.write_all(&text) {
            tracing::error!(
                target: "scrape", file = path, %error,
                "cannot write the log of failed scrapes; make room on its disk, or change scrape_failure_log_file"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_that_of_prometheus() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("failed.log");
        let path = path.to_str().unwrap();
        let logs = ScrapeFailureLogs::default();
        let failure = ScrapeFailure {
            time: 1_700_000_000_123,
            job: "web",
            target: "http://a:1/metrics",
            reason: "server returned HTTP status 500 \"x\"",
        };
        logs.write(path, failure);
        logs.set(["", path, path].into_iter()).unwrap();
        logs.write(path, failure);
        let missing = directory.path().join("none/failed.log");
        let error = logs.set([missing.to_str().unwrap()].into_iter()).unwrap_err().to_string();
        assert!(error.starts_with("can't create json log file: "), "{error}");
        logs.write(path, failure);
        logs.set([].into_iter()).unwrap();
        logs.write(path, failure);
        let line = "{\"time\":\"2023-11-14T22:13:20.123Z\",\"level\":\"ERROR\",\
                    \"msg\":\"server returned HTTP status 500 \\\"x\\\"\",\"job_name\":\"web\",\
                    \"target\":\"http://a:1/metrics\"}\n";
        assert_eq!(std::fs::read_to_string(path).unwrap(), line.repeat(2));
    }
}
