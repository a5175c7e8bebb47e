//! Matchers: the conditions of a selector on labels.
//!
//! As in Prometheus, a missing label counts as the empty string, and regexes are RE2, anchored at
//! both ends, with `.` matching newlines. Go's regex dialect is translated in [`super::regex`].

use super::{Labels, regex::AnchoredRegex, regex::RegexError};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// How a matcher compares.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// As written in PromQL.
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// One condition on one label.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "RawMatcher", into = "RawMatcher")]
pub struct Matcher {
    /// The name of the label.
    pub name: String,
    /// `=`, `!=`, `=~` or `!~`.
    pub op: MatchOp,
    /// The text or pattern, as the user wrote it.
    pub value: String,
    regex: Option<AnchoredRegex>,
}

#[derive(Clone, Serialize, Deserialize)]
struct RawMatcher(String, MatchOp, String);

impl TryFrom<RawMatcher> for Matcher {
    type Error = RegexError;
    fn try_from(u: RawMatcher) -> Result<Self, RegexError> {
        Matcher::new(u.0, u.1, u.2)
    }
}

impl From<Matcher> for RawMatcher {
    fn from(m: Matcher) -> Self {
        RawMatcher(m.name, m.op, m.value)
    }
}

impl Matcher {
    /// Makes a matcher. Fails if `value` must be a regex and is not a valid one.
    ///
    /// ```
    /// use storage::model::{Labels, MatchOp, Matcher};
    ///
    /// let labels = Labels::from_pairs([("job", "node"), ("instance", "a:9100")]);
    /// let job = Matcher::new("job", MatchOp::Regex, "node|api").unwrap();
    /// assert!(job.matches_labels(&labels));
    /// // Patterns are anchored at both ends, and a missing label counts as the empty string.
    /// assert!(!Matcher::new("instance", MatchOp::Regex, "a").unwrap().matches_labels(&labels));
    /// assert!(Matcher::equal("zone", "").matches_labels(&labels));
    /// ```
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Matcher, RegexError> {
        let name = name.into();
        let value = value.into();
        let regex = match op {
            MatchOp::Regex | MatchOp::NotRegex => Some(AnchoredRegex::new(&value)?),
            // Compiling patterns is slow, comparing texts is not: only patterns are compiled, once.
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Matcher { name, op, value, regex })
    }

    /// `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None }
    }

    /// Whether a label with this value satisfies the matcher; "" stands for a missing label.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            // Cannot be: `new` compiles the pattern of these two.
            (_, None) => false,
        }
    }

    /// Whether a label set satisfies the matcher.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }

    /// Whether a series without the label satisfies the matcher.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The compiled pattern of a regex matcher.
    pub fn regex(&self) -> Option<&AnchoredRegex> {
        self.regex.as_ref()
    }
}

impl PartialEq for Matcher {
    // Not the compiled pattern: it follows from the others, and comparing automata is slow.
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl Ord for Matcher {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.name, self.op, &self.value).cmp(&(&other.name, other.op, &other.value))
    }
}

impl PartialOrd for Matcher {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Matcher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, self.op, &self.value).hash(state);
    }
}

/// As PromQL writes it.
impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}
