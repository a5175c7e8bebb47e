//! Regular expressions in Prometheus' dialect (Go's RE2), executed by the `regex` crate.
//!
//! Both engines are automata, but their syntaxes differ: [`mod@translate`] parses Go's syntax and
//! prints that of the crate, and refuses with Go's messages what Go refuses. [`AnchoredRegex`] is
//! `^(?s:pattern)$` with fast paths for the most common patterns ([`shape`]: literals, `prefix.*`).
//! [`mod@expand`] fills Go's templates.

mod class;
mod escape;
mod expand;
mod shape;
mod translate;

pub use expand::{Template, expand};
pub use translate::translate;

use shape::PatternShape;
use std::sync::Arc;

/// An error that Go would report for a pattern, with Go's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub String);

impl RegexError {
    /// An error in Go's form: what is wrong, and with which part of the pattern.
    fn at(what: &str, part: &str) -> RegexError {
        RegexError(format!("{what}: `{part}`"))
    }
}

/// What is known about the texts that a pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchSet<'a> {
    /// Exactly these texts, sorted, unique.
    Literals(&'a [String]),
    /// All texts except the empty one.
    NotEmpty,
    /// All texts.
    Everything,
    /// Only texts that begin with this prefix, which may be "".
    Prefix(&'a str),
}

/// A fully anchored pattern; cheap to clone.
#[derive(Clone, Debug)]
pub struct AnchoredRegex(Arc<CompiledPattern>);

#[derive(Debug)]
struct CompiledPattern {
    regex: regex::Regex,
    shape: PatternShape,
}

impl AnchoredRegex {
    /// Compiles a Go pattern.
    pub fn new(pattern: &str) -> Result<AnchoredRegex, RegexError> {
        // Anchored, and a dot matches newlines, too: as Prometheus compiles the patterns of
        // matchers.
        let translated = format!("^(?s:{})$", translate(pattern)?);
        let regex = regex::RegexBuilder::new(&translated)
            .size_limit(crate::limits::REGEX_BYTES)
            // A group takes up to four levels here; nesting is limited by the translation.
            .nest_limit(4 * crate::limits::REGEX_NESTING as u32 + 8)
            .build()
            .map_err(|e| match e {
                regex::Error::CompiledTooBig(_) => RegexError::at("expression too large", pattern),
                other => RegexError(other.to_string()),
            })?;
        Ok(AnchoredRegex(Arc::new(CompiledPattern { regex, shape: shape::pattern_shape(&translated) })))
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.0.shape {
            PatternShape::Literals(all) => all.binary_search_by(|l| l.as_str().cmp(text)).is_ok(),
            PatternShape::Glob(glob) => glob.is_match(text),
            PatternShape::General { prefix } => {
                // A comparison of bytes rejects most texts before the automaton runs.
                text.starts_with(prefix.as_str()) && self.0.regex.is_match(text)
            }
        }
    }

    /// All texts that match, sorted and unique, if they are finitely many and few. Allows lookups
    /// instead of a scan.
    pub fn literals(&self) -> Option<&[String]> {
        match &self.0.shape {
            PatternShape::Literals(all) => Some(all),
            _ => None,
        }
    }

    /// A prefix of all texts that match; "" if none is known. Allows scanning only a range of a
    /// sorted list.
    pub fn prefix(&self) -> &str {
        match &self.0.shape {
            PatternShape::Literals(all) => match all.as_slice() {
                // Several texts may have a beginning in common, but they are looked up one by one
                // anyway.
                [one] => one,
                _ => "",
            },
            PatternShape::Glob(glob) => glob.prefix(),
            PatternShape::General { prefix } => prefix,
        }
    }

    /// Which texts can match.
    pub fn reach(&self) -> MatchSet<'_> {
        match &self.0.shape {
            PatternShape::Literals(all) => MatchSet::Literals(all),
            PatternShape::Glob(glob) if glob.is_any(false) => MatchSet::Everything,
            PatternShape::Glob(glob) if glob.is_any(true) => MatchSet::NotEmpty,
            _ => MatchSet::Prefix(self.prefix()),
        }
    }

    /// The compiled regex (anchored), for capture groups. Its group names are only for
    /// [`mod@expand`].
    pub fn inner(&self) -> &regex::Regex {
        &self.0.regex
    }
}

#[cfg(test)]
mod tests;
