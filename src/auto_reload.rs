//! `--config.auto-reload`: checks the configuration files at intervals, and loads them if their
//! contents changed (modification times do not matter).
//!
//! A configuration that cannot be loaded is tried again at every check, so the log repeats the
//! error until the file is corrected. [`crate::control`] does the reload.

use crate::config;
use crate::control::ServerController;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A number that changes if the configuration at `path`, or a rule file or scrape config file that
/// it names, changes.
pub(crate) fn checksum(path: &Path) -> u64 {
    let mut hash = DefaultHasher::new();
    let mut files = vec![path.to_path_buf()];
    match config::load(path) {
        Ok((config, _)) => {
            // The first source is `path` itself.
            files.extend(config.sources.into_iter().skip(1));
            files.extend(config.rule_files);
        }
        // An invalid configuration names no files. Hashing the error detects that the error
        // changes.
        Err(fault) => fault.to_string().hash(&mut hash),
    }
    for file in files {
        // A file that cannot be read counts with its error: to vanish, and to come back, are
        // changes.
        std::fs::read(&file).map_err(|e| e.to_string()).hash(&mut hash);
        // The name, too: `rule_files` may now match another file with the same content.
        file.hash(&mut hash);
    }
    hash.finish()
}

/// Checks the files every `interval`, forever; `known` is the [`checksum`] of the configuration in
/// force.
pub(crate) async fn watch(control: Arc<ServerController>, path: PathBuf, mut known: u64, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let file = path.clone();
        // Reading blocks, and a network file system may hang: then only this check waits.
        let Ok(current) = tokio::task::spawn_blocking(move || checksum(&file)).await else { continue };
        if current != known {
            tracing::info!("files of the configuration have changed, they are read again");
            // A failure is logged and counted by `reload`.
            if control.clone().reload().await.is_ok() {
                known = current;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_is_named_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
        write("p.yml", "rule_files: ['r*.yml']\nscrape_config_files: [jobs.yml]\n");
        write("r1.yml", "groups: []\n");
        write("jobs.yml", "scrape_configs: []\n");
        let mut seen = vec![checksum(&at("p.yml"))];
        for (name, text) in [
            ("r1.yml", "groups: []\n# more\n"),
            ("r2.yml", "groups: []\n"),
            ("jobs.yml", "scrape_configs: [{job_name: a}]\n"),
            ("p.yml", "rule_files: [r1.yml]\n"),
            ("p.yml", "rule_files: [r1.yml\n"),
        ] {
            write(name, text);
            let sum = checksum(&at("p.yml"));
            assert!(!seen.contains(&sum), "a change of {name} is not seen");
            assert_eq!(sum, checksum(&at("p.yml")), "nothing changed");
            seen.push(sum);
        }
    }
}
