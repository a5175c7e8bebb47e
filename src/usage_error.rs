//! [`UsageError`]: why the command line of a subcommand cannot be used.
//!
//! The subcommands have few flags each and parse them by hand; these are the mistakes that all of
//! them can meet. Each ends with exit code 2, after the text and the usage line.

/// Why a command line cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    /// A flag that the subcommand does not have; with its dashes.
    #[error("unknown flag {0}")]
    UnknownFlag(String),
    /// A flag without a value; with its dashes.
    #[error("{0} needs a value")]
    NoValue(String),
    /// Something that must be there is not; the text says what, and how it is written.
    #[error("{0}")]
    Missing(&'static str),
    /// A word too many, or in the wrong place.
    #[error("unexpected {0:?}")]
    Unexpected(String),
    /// A first word that names nothing the subcommand can do.
    #[error("{word:?} is not known here; possible: {possible}")]
    UnknownKind {
        /// The word.
        word: String,
        /// The words that are possible.
        possible: &'static str,
    },
    /// The value of a flag is not one that it can have.
    #[error("{flag}={value}: {reason}")]
    BadValue {
        /// The flag, with its dashes.
        flag: String,
        /// The value as written.
        value: String,
        /// What is wrong with it, or what is possible.
        reason: String,
    },
    /// The value of a flag cannot be parsed.
    #[error("{flag}: {reason}")]
    Unparsed {
        /// The flag, with its dashes.
        flag: String,
        /// What the parser says, which quotes the value.
        reason: String,
    },
}

impl UsageError {
    /// The value of a flag is not one that it can have.
    pub(crate) fn bad_value(flag: &str, value: &str, reason: impl std::fmt::Display) -> UsageError {
        UsageError::BadValue { flag: flag.to_owned(), value: value.to_owned(), reason: reason.to_string() }
    }

    /// The value of a flag cannot be parsed; `reason` quotes it.
    pub(crate) fn unparsed(flag: &str, reason: impl std::fmt::Display) -> UsageError {
        UsageError::Unparsed { flag: flag.to_owned(), reason: reason.to_string() }
    }
}
