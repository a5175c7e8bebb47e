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

/// Reads a file that contains a secret, without the white space around it.
pub(crate) fn read_credential(path: &str) -> Result<String, String> {
    let bytes = read_file(path)?;
    let text =
        String::from_utf8(bytes).map_err(|_| format!("unable to read file {path}: it is not UTF-8"))?;
    Ok(text.trim().to_owned())
}

/// Reads a file that contains a secret or certificates.
pub(crate) fn read_file(path: &str) -> Result<Vec<u8>, String> {
    let bad = |e: std::io::Error| format!("unable to read file {path}: {e}");
    let most = CREDENTIAL_FILE_BYTES;
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(bad)?;
    if bytes.len() as u64 > most {
        return Err(bad(std::io::Error::other("is larger than such a file is")));
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
