//! The errors of test files: of their text ([`ScriptErrorKind`]), of the store and runtime that run
//! them ([`TestRunError`]), and of a query ([`QueryFailure`]), which a file may expect.

use crate::limits::SERIES_VALUES;
use engine::live::{StartError, ViewError};
use engine::query::QueryError;
use language::QueryTextError;
use std::io;
use storage::store::StoreError;

/// Why a line of a test file cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScriptError {
    /// From 1.
    pub line: usize,
    pub kind: ScriptErrorKind,
}

/// What is wrong with a line of a test file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScriptErrorKind {
    #[error("unknown command {0:?}")]
    UnknownCommand(String),
    #[error("unknown expectation {0:?}")]
    UnknownExpectation(String),
    #[error("expected {expected}, got {got:?}")]
    Unexpected { expected: &'static str, got: String },
    /// Something stands where the line must end.
    #[error("nothing may follow {word:?}, got {rest:?}")]
    Trailing { word: String, rest: String },
    /// The reason is that of the parser of durations.
    #[error("{text:?}: {reason}")]
    Duration { text: String, reason: String },
    #[error("the end is before the start")]
    EndBeforeStart,
    #[error("the step must be positive")]
    NoStep,
    #[error("the query is missing")]
    NoQuery,
    #[error("this line contradicts or repeats one above")]
    Contradiction,
    #[error(
        "an instant query answers one value for each series; a range vector needs \"expect range vector from … to … step …\" above"
    )]
    SeveralValues,
    #[error("a string or a number and series cannot both be expected")]
    SeriesBesideValue,
    /// The text of the parser of regular expressions.
    #[error("{0}")]
    Regex(String),
    /// A description of a series, or a string, in PromQL's notation.
    #[error("{}", .0.message())]
    Notation(QueryTextError),
    #[error("start timestamp {item:?}: {error}")]
    StartTimestamp { item: String, error: StartTimestampError },
    #[error("start timestamps are missing after @st")]
    NoStartTimestamps,
    #[error("@st line has no following sample line")]
    UnusedStartTimestamps,
    #[error("@st metric does not match the following sample line metric")]
    OtherSeries,
    #[error("@st line has {starts} values but sample line has {values}")]
    StartTimestampCount { starts: usize, values: usize },
    #[error("{0} has no label le")]
    BucketWithoutBound(String),
    #[error("{name} at {t} ms: {error}")]
    ClassicHistogram { name: String, t: i64, error: ClassicHistogramError },
}

/// What is wrong with an item of a line of start timestamps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StartTimestampError {
    #[error("too many values: the limit is {SERIES_VALUES}")]
    TooMany,
    #[error("expected xN after the change")]
    NoCount,
    #[error("expected xN, got {0:?}")]
    BadCount(String),
    /// The reason is that of the parser of durations.
    #[error("{0}")]
    Duration(String),
}

/// Why classic buckets, count and sum make no histogram.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum ClassicHistogramError {
    #[error("count must be provided when no buckets are present")]
    NoCount,
    #[error("count is not cumulative: {count} < {below}, le={bound}")]
    NotCumulative { count: f64, below: f64, bound: f64 },
    #[error("count mismatch: count={count} != le=+Inf count={last}")]
    CountMismatch { count: f64, last: f64 },
}

impl Eq for ClassicHistogramError {}

/// Why the samples of a segment cannot be stored, or its queries not be run at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum TestRunError {
    #[error("cannot make a temporary directory: {0}")]
    Directory(#[source] io::Error),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0} samples were not stored: are there two of one series at one time?")]
    Refused(usize),
    #[error("{0}")]
    Live(#[from] StartError),
    /// A view of before a restart cannot be installed again.
    #[error("{0}")]
    View(#[from] ViewError),
}

/// Why a query has no answer. A test file compares the text.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum QueryFailure {
    #[error("{}", .0.message())]
    Text(QueryTextError),
    #[error("{0}")]
    Query(QueryError),
    /// The live runtime told the view's tap that its evaluation failed.
    #[error("{0}")]
    View(String),
    #[error("the view shows no number")]
    NoNumber,
}
