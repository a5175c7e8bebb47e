//! [`PasswordHash`]: the bcrypt hash of a user's password in the web configuration file, parsed and
//! checked when the file is read. [`super::basic_auth`] compares.

use crate::limits::PASSWORD_COST;
use std::fmt;

/// Why a text is no hash that can be used. The texts are those of Go where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It is too short.
    #[error("crypto/bcrypt: hashedSecret too short to be a bcrypted password")]
    Short,
    /// It does not begin with `$2`.
    #[error("crypto/bcrypt: bcrypt hashes must start with '$' and version 2")]
    NotBcrypt,
    /// Its cost is not a number that bcrypt has.
    #[error("crypto/bcrypt: cost outside allowed range (4,31)")]
    Cost,
    /// Its cost would keep a processor busy for minutes.
    #[error("the cost is above {PASSWORD_COST}: a check would take minutes; write e.g. one of 12")]
    Expensive,
    /// The rest of it cannot be read.
    #[error("crypto/bcrypt: the salt and the hash are not in bcrypt's alphabet")]
    Malformed,
}

/// The bcrypt hash of a password. Not even the hash is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl PasswordHash {
    /// Checks the form of a hash, such as `$2y$10$…`.
    ///
    /// # Errors
    ///
    /// If bcrypt could not use it, or only after minutes.
    pub fn parse(text: &str) -> Result<PasswordHash, PasswordError> {
        if text.len() < 59 {
            return Err(PasswordError::Short);
        }
        let mut parts = text.split('$');
        let empty = parts.next();
        let version = parts.next();
        let cost = parts.next();
        if empty != Some("") || !version.is_some_and(|version| ["2a", "2b", "2x", "2y"].contains(&version)) {
            return Err(PasswordError::NotBcrypt);
        }
        let cost: u32 = cost.and_then(|cost| cost.parse().ok()).ok_or(PasswordError::Cost)?;
        if !(4..=31).contains(&cost) {
            return Err(PasswordError::Cost);
        }
        if cost > PASSWORD_COST {
            return Err(PasswordError::Expensive);
        }
        let rest = parts.next().unwrap_or("");
        let known = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '/';
        if rest.len() != 53 || parts.next().is_some() || !rest.chars().all(known) {
            return Err(PasswordError::Malformed);
        }
        Ok(PasswordHash(text.to_owned()))
    }

    /// Whether this is the hash of `password`. Takes as long as the cost says, whatever the answer.
    pub(super) fn is_of(&self, password: &[u8]) -> bool {
        bcrypt::verify(password, &self.0).unwrap_or(false)
    }

    /// The hash itself, for keys of the cache.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_checked_before_they_are_used() {
        let rest = "1DpfPeqF9HzHJt.EWswy1exHluGfbhnn3yXhR7Xes6m3WJqFg0Wby";
        for version in ["2a", "2b", "2y"] {
            assert!(PasswordHash::parse(&format!("${version}$12${rest}")).is_ok());
        }
        let cases = [
            ("doe".to_owned(), PasswordError::Short),
            (format!("$1$12${rest}......"), PasswordError::NotBcrypt),
            (format!("x2a$12${rest}"), PasswordError::NotBcrypt),
            (format!("$2a$xx${rest}"), PasswordError::Cost),
            (format!("$2a$03${rest}"), PasswordError::Cost),
            (format!("$2a$31${rest}"), PasswordError::Expensive),
            (format!("$2a$12${}", rest.replace('.', "!")), PasswordError::Malformed),
            (format!("$2a$12${rest}x"), PasswordError::Malformed),
        ];
        for (text, want) in cases {
            assert_eq!(PasswordHash::parse(&text), Err(want), "{text}");
        }
    }

    #[test]
    fn a_hash_is_not_printed() {
        let hash =
            PasswordHash::parse("$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay").unwrap();
        assert_eq!(format!("{hash:?}"), "<secret>");
        assert!(!hash.is_of(b"other"));
    }
}
