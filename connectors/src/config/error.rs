//! [`BlockError`]: what the validation of a configuration block finds, as a text for the person who
//! edits the file.

/// What the validation of a block finds. Who reads it is always a person who edits the file: it is
/// a text, in the words of Prometheus where Prometheus has the same check. The caller knows file
/// and line, and adds them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BlockError(String);

impl BlockError {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> BlockError {
        BlockError(text.into())
    }

    /// The same error, with the part of the file that it is about before its text.
    pub fn within(self, part: impl std::fmt::Display) -> BlockError {
        BlockError(format!("{part}: {}", self.0))
    }
}

impl From<&str> for BlockError {
    fn from(text: &str) -> BlockError {
        BlockError::new(text)
    }
}

impl From<String> for BlockError {
    fn from(text: String) -> BlockError {
        BlockError(text)
    }
}
