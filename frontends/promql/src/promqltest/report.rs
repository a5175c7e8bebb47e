//! The results of a test file: how many queries passed, which failed and how, and which were
//! skipped and why; and the text that the command prints. A file runs in one of the modes of
//! [`super::runner::Mode`], over history or as live views.

use std::collections::BTreeMap;
use std::fmt;

/// An evaluation with an unexpected outcome, or a line that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestFailure {
    /// The line of the command, from 1.
    pub line: usize,
    /// The text of the query.
    pub expr: String,
    /// The variant that failed: over history a query also runs, for example, as a range query
    /// around its time. Empty: the query as written.
    pub variant: String,
    /// The expected outcome.
    pub expected: String,
    /// The actual outcome.
    pub got: String,
}

/// An evaluation that was skipped because it does not apply to the mode of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedTest {
    /// The line of the command, from 1.
    pub line: usize,
    /// Why it was skipped.
    pub reason: String,
}

/// The results of a test file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestReport {
    /// The name of the file.
    pub file: String,
    /// Evaluations with the expected outcome.
    pub passed: usize,
    /// Evaluations with another outcome.
    pub failed: Vec<TestFailure>,
    /// Evaluations that were skipped.
    pub skipped: Vec<SkippedTest>,
}

impl TestReport {
    /// The skipped lines, by reason.
    pub fn reasons(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut reasons: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for skipped in &self.skipped {
            reasons.entry(skipped.reason.as_str()).or_default().push(skipped.line);
        }
        reasons
    }
}

impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for TestFailure { line, expr, variant: asked, expected, got } in &self.failed {
            writeln!(f, "{}:{line}: {expr}", self.file)?;
            if !asked.is_empty() {
                writeln!(f, "  asked as:\n    {}", asked.trim())?;
            }
            for (title, text) in [("expected", expected), ("got", got)] {
                writeln!(f, "  {title}:")?;
                text.lines().try_for_each(|line| writeln!(f, "    {line}"))?;
            }
        }
        write!(f, "{}: {} passed, {} failed", self.file, self.passed, self.failed.len())?;
        if !self.skipped.is_empty() {
            write!(f, ", {} skipped", self.skipped.len())?;
        }
        writeln!(f)?;
        self.reasons().iter().try_for_each(|(reason, lines)| {
            let list: Vec<String> = lines.iter().map(usize::to_string).collect();
            writeln!(f, "  skipped {}: {reason} (lines {})", lines.len(), list.join(", "))
        })
    }
}
