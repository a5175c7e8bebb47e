//! What can go wrong in the store, by what the caller has to do about it.
//!
//! Callers decide by [`StoreError::class`], never by the text of a message.

use std::io;
use std::path::PathBuf;

/// What the caller of a failed operation has to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Change the request: the same one fails again.
    Invalid,
    /// Do what the message advises, then repeat the request: a limit is reached.
    LimitReached,
    /// Repeat the request later.
    Unavailable,
    /// Repeat the request when the server has started again: the store is closed, or about to be.
    Closed,
    /// Change the configuration: something belongs to somebody else.
    Conflict,
    /// Restore a file: stored bytes are not what they should be.
    Damaged,
    /// Repair the disk, or the object store.
    Io,
}

impl ErrorClass {
    /// Whether the same request may succeed later although nobody does anything about it.
    pub fn is_retryable(self) -> bool {
        matches!(self, ErrorClass::Unavailable | ErrorClass::Closed)
    }
}

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The request itself is wrong: a malformed batch, or an operation that this store does not
    /// have.
    #[error("{0}")]
    Invalid(String),
    /// A limit of the store is reached.
    #[error("{reached}; {remedy}")]
    LimitReached {
        /// Which limit, with its number.
        reached: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The store cannot do it now: the disk is too slow or full, or the log is being replayed.
    #[error("{0}")]
    Unavailable(String),
    /// The store is closed, or is being closed.
    #[error("{0}")]
    Closed(&'static str),
    /// The prefix in the object store belongs to another data directory.
    #[error(
        "{address} is used by another data directory (its object \"owner\" says {owner}, this one is {mark}): give this one \
         a prefix of its own; if the other is gone for good, remove that object"
    )]
    OwnedByOther {
        /// Address of the object store, with the prefix.
        address: String,
        /// The mark of the data directory that owns it.
        owner: String,
        /// The mark of this data directory.
        mark: String,
    },
    /// The content of a file is not what it should be.
    #[error("{path}: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and at which offset.
        reason: String,
    },
    /// The operating system or the object store reported an error.
    #[error("{path}: {source}")]
    Io {
        /// Which file or object.
        path: PathBuf,
        /// What was reported.
        source: io::Error,
    },
}

impl StoreError {
    /// What the caller has to do.
    pub fn class(&self) -> ErrorClass {
        match self {
            StoreError::Invalid(_) => ErrorClass::Invalid,
            StoreError::LimitReached { .. } => ErrorClass::LimitReached,
            StoreError::Unavailable(_) => ErrorClass::Unavailable,
            StoreError::Closed(_) => ErrorClass::Closed,
            StoreError::OwnedByOther { .. } => ErrorClass::Conflict,
            StoreError::Damaged { .. } => ErrorClass::Damaged,
            StoreError::Io { .. } => ErrorClass::Io,
        }
    }

    /// The store is closed.
    pub(crate) fn closed() -> StoreError {
        StoreError::Closed("the store is closed")
    }

    /// The log cannot be written, because of `reason`; nothing was accepted.
    pub(crate) fn log_unwritable(reason: &str) -> StoreError {
        StoreError::Unavailable(format!("the write-ahead log refuses writes: {reason}"))
    }

    /// The log cannot be written as fast as it is to grow; nothing was accepted.
    pub(crate) fn slow_disk() -> StoreError {
        StoreError::Unavailable("the disk does not keep up".to_owned())
    }
}
