//! [`ScramVerifier`]: a verifier for SCRAM-SHA-256 logins in PostgreSQL's notation (`sql_users` of
//! the web configuration file). It proves a password without containing it.

use super::basic_auth::base64;
use std::fmt;

/// Why a text is no verifier.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// It has another form.
    #[error("a verifier has the form SCRAM-SHA-256$4096:salt$StoredKey:ServerKey")]
    Form,
    /// The number of iterations is too small or too large.
    #[error("a verifier has between 4096 and 1000000 iterations")]
    Iterations,
}

/// What a server keeps of a password for SCRAM-SHA-256: enough to check a proof, not enough to log
/// in. Not even the verifier is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    /// How often the password is hashed.
    pub iterations: usize,
    /// The salt of the password.
    pub salt: Vec<u8>,
    /// The hash of the client's key.
    pub stored_key: Vec<u8>,
    /// The server's key.
    pub server_key: Vec<u8>,
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl ScramVerifier {
    /// Reads `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, as PostgreSQL keeps it.
    ///
    /// # Errors
    ///
    /// If the text has another form.
    pub fn parse(text: &str) -> Result<ScramVerifier, VerifierError> {
        let rest = text.trim().strip_prefix("SCRAM-SHA-256$").ok_or(VerifierError::Form)?;
        let (salted, keys) = rest.split_once('$').ok_or(VerifierError::Form)?;
        let (iterations, salt) = salted.split_once(':').ok_or(VerifierError::Form)?;
        let (stored, server) = keys.split_once(':').ok_or(VerifierError::Form)?;
        let decoded = |text: &str| base64(text.as_bytes()).filter(|bytes| !bytes.is_empty());
        let key = |text: &str| decoded(text).filter(|bytes| bytes.len() == 32).ok_or(VerifierError::Form);
        let iterations = iterations.parse::<usize>().map_err(|_| VerifierError::Form)?;
        // More would keep the client busy for a minute; fewer are not allowed by the standard.
        if !(4_096..=1_000_000).contains(&iterations) {
            return Err(VerifierError::Iterations);
        }
        let salt = decoded(salt).ok_or(VerifierError::Form)?;
        Ok(ScramVerifier { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifiers_of_postgresql_are_read() {
        let key = "A".repeat(43) + "=";
        let verifier = ScramVerifier::parse(&format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}")).unwrap();
        assert_eq!((verifier.iterations, verifier.salt.as_slice()), (4_096, &b"salt"[..]));
        assert_eq!((verifier.stored_key.len(), format!("{verifier:?}").as_str()), (32, "<secret>"));
        for (text, why) in [
            (format!("md5${key}"), VerifierError::Form),
            (format!("SCRAM-SHA-256$4096:c2FsdA==${key}"), VerifierError::Form),
            (format!("SCRAM-SHA-256$4096:c2FsdA==$short:{key}"), VerifierError::Form),
            (format!("SCRAM-SHA-256$100:c2FsdA==${key}:{key}"), VerifierError::Iterations),
        ] {
            assert_eq!(ScramVerifier::parse(&text), Err(why), "{text}");
        }
    }
}
