//! Import of history from another server: its files are read and written as our blocks, while no
//! server runs.
//!
//! [`prometheus`] reads Prometheus' data directory, [`openmetrics`] text. Imported samples are
//! added to existing ones; if both have a sample at the same time, one of them is returned.

pub mod openmetrics;
pub mod prometheus;

use std::path::{Path, PathBuf};
use storage::store::StoreError;

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file has unexpected content.
    #[error("{path}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A line of a text has unexpected content.
    #[error("{path}:{line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The block could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn damaged(path: &Path, reason: impl ToString) -> ImportError {
    ImportError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> ImportError + '_ {
    |source| ImportError::Io { path: path.to_owned(), source }
}
