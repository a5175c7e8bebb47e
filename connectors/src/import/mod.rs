//! The past of another server: read from its files and written as our blocks, without a server running.
//!
//! [`prometheus`] reads Prometheus' data directory, [`openmetrics`] text. What is imported lies beside what is there: where both have a
//! sample at one time, one of them is answered.

pub mod openmetrics;
pub mod prometheus;

use std::path::{Path, PathBuf};
use storage::store::StoreError;

/// Why something could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// A line of a text is not what it should be.
    #[error("{path}:{line}: {reason}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
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
