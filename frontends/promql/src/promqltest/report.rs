//! What came of a test file.

use std::collections::BTreeMap;
use std::fmt;

/// An evaluation (or a line that cannot be read) with another outcome than expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestFailure {
    /// Line of the command, from 1.
    pub line: usize,
    /// The query.
    pub expr: String,
    /// In which other way it was asked; empty: as it stands.
    pub variant: String,
    /// What the file says.
    pub expected: String,
    /// What came out.
    pub got: String,
}

/// An evaluation that says nothing about this build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedTest {
    /// Line of the command, from 1.
    pub line: usize,
    /// Why.
    pub reason: String,
}

/// What came of a test file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestReport {
    /// The file, as it was named.
    pub file: String,
    /// Evaluations with the expected outcome.
    pub passed: usize,
    /// The others.
    pub failed: Vec<TestFailure>,
    /// Neither.
    pub skipped: Vec<SkippedTest>,
}

impl TestReport {
    /// The lines that were skipped, by reason.
    pub fn reasons(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut reasons: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        self.skipped.iter().for_each(|skip| reasons.entry(skip.reason.as_str()).or_default().push(skip.line));
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
