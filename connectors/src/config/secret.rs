//! A password or token that cannot be printed by accident.
//!
//! `Debug`, `Display` and `Serialize` of a [`Secret`] all return `<secret>`, so no log line, page
//! or error can leak it.

use crate::limits::CREDENTIAL_FILE_BYTES;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::io::Read;

/// What is shown instead of a secret (as in Prometheus).
pub const HIDDEN: &str = "<secret>";

/// A secret text.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for the code that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Why there are no credentials. All of these need a person, or the program that renews a file: to
/// repeat the request at once cannot help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be read.
    #[error("unable to read file {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// The error of the operating system, or the limit.
        reason: String,
    },
    /// A variable of the environment has no value.
    #[error("{0} is not set")]
    Variable(String),
    /// Credentials were read and are not what they should be. The text does not show them.
    #[error("{what} is not {form}")]
    Malformed {
        /// The file or key.
        what: String,
        /// What it should be.
        form: &'static str,
    },
    /// They are sent in a header, and have characters that no header may have.
    #[error("{0}")]
    NoHeader(&'static str),
    /// The key itself cannot be used.
    #[error("the private key {0}")]
    Key(String),
    /// This build does not know such credentials.
    #[error("{0}")]
    Unsupported(String),
    /// None of the places where credentials may be has any.
    #[error("{0}")]
    Missing(String),
}

/// For the code whose errors are texts of configuration blocks.
impl From<CredentialError> for String {
    fn from(error: CredentialError) -> String {
        error.to_string()
    }
}

/// Reads a file that contains a secret, without the white space around it.
pub(crate) fn read_credential(path: &str) -> Result<String, CredentialError> {
    let not_text = || CredentialError::File { path: path.to_owned(), reason: "it is not UTF-8".to_owned() };
    let text = String::from_utf8(read_file(path)?).map_err(|_| not_text())?;
    Ok(text.trim().to_owned())
}

/// Reads a file that contains a secret or certificates.
pub(crate) fn read_file(path: &str) -> Result<Vec<u8>, CredentialError> {
    let bad = |reason: String| CredentialError::File { path: path.to_owned(), reason };
    let most = CREDENTIAL_FILE_BYTES;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| bad(error.to_string()))?;
    // One byte more than allowed: a file may grow while it is read, so its size says nothing.
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| bad(error.to_string()))?;
    if bytes.len() as u64 > most {
        return Err(bad("is larger than such a file is".to_owned()));
    }
    Ok(bytes)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_nothing_of_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "<secret> <secret>");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"<secret>\"");
        assert_eq!(secret.expose(), "hunter2");
    }
}
