//! [`ServerError`]: why the server cannot start, take a configuration, or stop in order.
//!
//! The variant says who has to act: the author of the configuration or flags, the operator of the
//! machine, or nobody. Only `main` turns an error into a text.

use crate::cluster_config::ClusterFlagError;
use crate::data_directory_lock::DataLockError;
use crate::health::HeldFileError;
use crate::object_store::ObjectStoreError;
use api::protection::ProtectionError;
use api::query::log::QueryLogError;
use cluster::ClusterError;
use connectors::config::error::BlockError;
use engine::live::StartError;
use remote_storage::write::RemoteWriteError;
use rules::RulesError;
use rules::yaml::ConfigError;
use std::io;
use std::path::PathBuf;
use storage::store::StoreError;
use views::definition_file::DefinitionFileError;

/// Why the server cannot start, take a configuration, or stop in order.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file of the configuration is wrong; the error has position and remedy.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A reload was requested, and there is no file to read.
    #[error("there is no configuration file: the embedded default is in force; start with --config.file")]
    NoConfigFile,
    /// The value of a flag cannot be used.
    #[error("{flag}: {reason}")]
    Flag {
        /// The flag, with its dashes.
        flag: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The flags of the cluster do not fit together.
    #[error("{0}")]
    ClusterFlags(#[from] ClusterFlagError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another --web.listen-address")]
    Listen {
        /// The address of the flag.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of `--web.config.file`, or one that it names, cannot be used.
    #[error(transparent)]
    Protection(ProtectionError),
    /// The operating system gives no thread.
    #[error("cannot start threads: {0}")]
    Thread(#[source] io::Error),
    /// A task of the async runtime ended with a panic.
    #[error("{0}")]
    Task(#[source] tokio::task::JoinError),
    /// Another server uses the data directory, or it cannot be locked.
    #[error("{0}")]
    DataDirectory(#[from] DataLockError),
    /// The data directory or its lock file cannot be watched.
    #[error("{0}")]
    Health(#[from] HeldFileError),
    /// The store cannot be opened.
    #[error("cannot open the data directory {}: {source}", dir.display())]
    OpenStore {
        /// The data directory.
        dir: PathBuf,
        /// What the store said.
        source: StoreError,
    },
    /// The write-ahead log cannot be replayed.
    #[error("cannot replay the log of {}: {source}", dir.display())]
    Replay {
        /// The data directory.
        dir: PathBuf,
        /// What the store said.
        source: StoreError,
    },
    /// The store, or the file with the states of alerts, failed later.
    #[error("{0}")]
    Store(#[source] StoreError),
    /// The object store for old blocks cannot be used.
    #[error("storage.objects: {0}")]
    Objects(#[from] ObjectStoreError),
    /// The live runtime cannot be started.
    #[error("{0}")]
    Live(#[from] StartError),
    /// This process cannot join its cluster.
    #[error("{0}")]
    Cluster(#[from] ClusterError),
    /// The other processes of the cluster cannot be served.
    #[error("{0}")]
    ServePeers(#[source] io::Error),
    /// The cluster has ended: another process has stopped.
    #[error("{0}")]
    ClusterEnded(String),
    /// The file of saved queries, or of defined alerts, cannot be read.
    #[error("{0}")]
    Definitions(#[from] DefinitionFileError),
    /// The rules cannot be installed.
    #[error("{0}")]
    Rules(#[from] RulesError),
    /// The query log cannot be opened.
    #[error("{0}")]
    QueryLog(#[from] QueryLogError),
    /// A client of a scrape job cannot be made.
    #[error("{0}")]
    Scrape(String),
    /// The receivers of remote write cannot be used.
    #[error("remote_write: {0}")]
    RemoteWrite(#[from] RemoteWriteError),
    /// The servers of remote read cannot be used.
    #[error("remote_read: {0}")]
    RemoteRead(#[from] BlockError),
    /// A client of an Alertmanager cannot be made.
    #[error("{0}")]
    Alertmanager(String),
}
