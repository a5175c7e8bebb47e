//! Regular expressions in Prometheus' dialect (Go's RE2), run by the `regex` crate.
//!
//! Both engines are automata, but their syntaxes differ: [`mod@translate`] parses Go's and prints the other,
//! refusing with Go's words what Go refuses. [`AnchoredRegex`] is `^(?s:pattern)$` with short cuts for the
//! patterns that people write most ([`shape`]: literals, `prefix.*`); [`mod@expand`] fills Go's templates.

mod class;
mod escape;
mod expand;
mod shape;
mod translate;

pub use expand::{Template, expand};
pub use translate::translate;

use shape::PatternShape;
use std::sync::Arc;

/// A pattern that Go would refuse, with Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub String);

impl RegexError {
    /// Go's form: what is wrong, and with which part of the pattern.
    fn at(what: &str, part: &str) -> RegexError {
        RegexError(format!("{what}: `{part}`"))
    }
}

/// What is known of the texts that a pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchSet<'a> {
    /// They are these, sorted, each once.
    Literals(&'a [String]),
    /// All but the empty one.
    NotEmpty,
    /// All.
    Everything,
    /// They begin with this, which may be "".
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
        let translated = format!("^(?s:{})$", translate(pattern)?);
        let regex = regex::RegexBuilder::new(&translated)
            .size_limit(crate::limits::REGEX_BYTES)
            .nest_limit(4 * crate::limits::REGEX_NESTING as u32 + 8)
            .build()
            .map_err(|e| match e {
                regex::Error::CompiledTooBig(_) => RegexError::at("expression too large", pattern),
                other => RegexError(other.to_string()),
            })?;
        Ok(AnchoredRegex(Arc::new(CompiledPattern { regex, shape: shape::of(&translated) })))
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.0.shape {
            PatternShape::Literals(all) => all.binary_search_by(|l| l.as_str().cmp(text)).is_ok(),
            PatternShape::Glob(glob) => glob.is_match(text),
            PatternShape::General { prefix } => {
                text.starts_with(prefix.as_str()) && self.0.regex.is_match(text)
            }
        }
    }

    /// If only finitely many (and few) texts match: all of them, sorted, each once. Lookups instead
    /// of a scan.
    pub fn literals(&self) -> Option<&[String]> {
        match &self.0.shape {
            PatternShape::Literals(all) => Some(all),
            _ => None,
        }
    }

    /// A text that every match starts with; "" if nothing is known. A range of a sorted list
    /// instead of all of it.
    pub fn prefix(&self) -> &str {
        match &self.0.shape {
            PatternShape::Literals(all) => match all.as_slice() {
                [one] => one,
                _ => "",
            },
            PatternShape::Glob(glob) => glob.prefix(),
            PatternShape::General { prefix } => prefix,
        }
    }

    /// Where the texts that match are to be looked for.
    pub fn reach(&self) -> MatchSet<'_> {
        match &self.0.shape {
            PatternShape::Literals(all) => MatchSet::Literals(all),
            PatternShape::Glob(glob) if glob.is_any(false) => MatchSet::Everything,
            PatternShape::Glob(glob) if glob.is_any(true) => MatchSet::NotEmpty,
            _ => MatchSet::Prefix(self.prefix()),
        }
    }

    /// The underlying regex (anchored), for capture groups; its group names are for [`mod@expand`] only.
    pub fn inner(&self) -> &regex::Regex {
        &self.0.regex
    }
}

#[cfg(test)]
mod tests;
