//! Makes the configuration of the crate `cluster` from the flags `--cluster.…`, and the checksum by
//! which processes compare their configurations.

use crate::config;
use crate::flags::Flags;
use cluster::ClusterConfig;
use engine::limits::PROCESSES;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// Why the flags of a cluster do not fit together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterFlagError {
    /// A number of a process without addresses.
    #[error("--cluster.process needs --cluster.addresses")]
    NoAddresses,
    /// Addresses without the number of this process.
    #[error("--cluster.addresses needs --cluster.process")]
    NoProcess,
    /// A cluster without a configuration file, which its processes compare.
    #[error("a cluster needs a configuration file (--config.file)")]
    NoConfigFile,
    /// Too few addresses, or too many.
    #[error("--cluster.addresses: {0} addresses; a cluster has 2 to {PROCESSES} processes")]
    AddressCount(usize),
    /// The number of this process is not one of the addresses.
    #[error("--cluster.process={process}: --cluster.addresses has the processes 0 to {last}")]
    UnknownProcess {
        /// The number of this process.
        process: usize,
        /// The number of the last process.
        last: usize,
    },
}

/// The configuration of the cluster; `None`: the process runs alone.
pub(crate) fn cluster_config(
    flags: &Flags,
    workers: usize,
) -> Result<Option<ClusterConfig>, ClusterFlagError> {
    let addresses = flags.cluster_addresses();
    if addresses.is_empty() {
        // Not ignored: who gives the number of a process has forgotten the addresses, and a process
        // that runs alone would send every alert a second time.
        return if flags.cluster_process.is_given { Err(ClusterFlagError::NoAddresses) } else { Ok(None) };
    }
    let process = flags.cluster_process.ok_or(ClusterFlagError::NoProcess)?;
    let file = flags.config_file().ok_or(ClusterFlagError::NoConfigFile)?;
    // A cluster of one would wait for nobody and then behave as without a cluster; the list is more
    // likely cut off by a mistake.
    if addresses.len() < 2 || addresses.len() > PROCESSES {
        return Err(ClusterFlagError::AddressCount(addresses.len()));
    }
    if process >= addresses.len() {
        return Err(ClusterFlagError::UnknownProcess { process, last: addresses.len() - 1 });
    }
    // Compared as a set: the order on the command line has no effect.
    let mut features: Vec<&str> = flags.features().collect();
    features.sort_unstable();
    let configuration = checksum(&file);
    // What must be the same at all processes. The workers, because series are divided among them by
    // number; lookback and features, because one query is evaluated by several processes; the
    // configuration, because targets are divided by its list.
    let required_settings = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("--cluster.addresses", addresses.join(",")),
        ("--live.workers", workers.to_string()),
        ("--query.lookback-delta", flags.query_lookback_delta.0.to_string()),
        ("--enable-feature", features.join(",")),
        ("checksum of the configuration and its rule files", format!("{configuration:016x}")),
    ];
    let required_settings = required_settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let join_timeout = flags.cluster_join_timeout.std();
    Ok(Some(ClusterConfig {
        process,
        addresses,
        join_timeout,
        configuration_checksum: configuration,
        required_settings,
    }))
}

/// A number that is the same for two processes if the contents of their configuration and rule
/// files are, wherever the files are.
pub(crate) fn checksum(path: &Path) -> u64 {
    let mut hash = DefaultHasher::new();
    let mut files = vec![path.to_path_buf()];
    if let Ok((config, _)) = config::load(path) {
        files.extend(config.sources.into_iter().skip(1));
        files.extend(config.rule_files);
    }
    for file in files.iter() {
        // The kind of the error and not its text, which depends on the system and its language; and
        // without the name of the file, which may differ per machine.
        std::fs::read(file).map_err(|e| e.kind()).hash(&mut hash);
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    #[test]
    fn flags_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.yml");
        std::fs::write(&file, "global: {}\n").unwrap();
        let config = format!("--config.file={}", file.display());
        let of = |args: &[&str]| cluster_config(&flags::parse(args.iter().copied()).unwrap(), 2);
        assert_eq!(of(&[]), Ok(None));
        let two = "--cluster.addresses=127.0.0.1:2101, 127.0.0.1:2102";
        for (args, error) in [
            (&["--cluster.process=0"][..], "needs --cluster.addresses"),
            (&[two, &config], "needs --cluster.process"),
            (&[two, "--cluster.process=0"], "needs a configuration file"),
            (&[two, "--cluster.process=2", &config], "has the processes 0 to 1"),
            (&["--cluster.addresses=a:1", "--cluster.process=0", &config], "a cluster has 2 to"),
        ] {
            let said = of(args).unwrap_err().to_string();
            assert!(said.contains(error), "{said}");
        }
        let setup = of(&[two, "--cluster.process=1", &config]).unwrap().unwrap();
        assert_eq!((setup.process, setup.addresses.len()), (1, 2));
        let before = setup.required_settings.clone();
        std::fs::write(&file, "global: {scrape_interval: 5s}\n").unwrap();
        assert_ne!(of(&[two, "--cluster.process=1", &config]).unwrap().unwrap().required_settings, before);
    }
}
