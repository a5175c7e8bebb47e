//! The errors of the live runtime: why a view cannot be installed or changed, why it has no answer
//! at one time, and why the runtime cannot start.

use super::recorder::RecordError;
use crate::operators::EvalError;

/// Why a view cannot be installed or changed; the variant tells the caller what to do about it.
/// Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The plan cannot be a view, or not with these settings. The same call fails again.
    #[error("{0}")]
    Unsupported(String),
    /// A limit of the whole server is reached; the text names it. It works when other views are
    /// gone.
    #[error("{0}")]
    LimitReached(String),
    /// The view does not exist, or not any more.
    #[error("there is no such view")]
    NotFound,
    /// Another process of the cluster keeps the views.
    #[error("in a cluster only process 0 keeps views: ask there")]
    NotCoordinator,
    /// The operating system gives no thread. It may later.
    #[error("cannot start a thread: {0}")]
    Unavailable(String),
}

/// Why a view has no answer at one time. The next evaluation may have one.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    /// A step of the view failed.
    #[error(transparent)]
    Evaluation(#[from] EvalError),
    /// The answer, or a part of it, could not be stored.
    #[error(transparent)]
    Recording(#[from] RecordError),
}

/// Why the live runtime cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The threads that talk to other processes cannot be started.
    #[error("cannot start the threads that talk to other processes: {0}")]
    Network(#[source] std::io::Error),
    /// The workers cannot be started; the text is that of the dataflow library.
    #[error("cannot start the workers of the live runtime: {0}")]
    Workers(String),
}
