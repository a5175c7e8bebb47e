//! The history of `perennial sql`: the statements that the user typed, in
//! `~/.perennial_sql_history`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The number of statements that are kept; older ones are removed.
pub(super) const STATEMENTS_MAX: usize = 1_000;
/// The file, in the home directory.
const FILE: &str = ".perennial_sql_history";

/// The statements, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    statements: Vec<String>,
    /// `None`: the history is not saved.
    file: Option<PathBuf>,
}

impl History {
    /// The history of the user.
    pub(super) fn of_user() -> History {
        std::env::var_os("HOME")
            .map_or_else(History::default, |home| History::read(&Path::new(&home).join(FILE)))
    }

    /// Reads a history file, which need not exist. A line of it is a statement as a JSON string,
    /// because a statement may have several lines.
    fn read(file: &Path) -> History {
        let text = fs::read_to_string(file).unwrap_or_default();
        let all: Vec<String> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let from = all.len().saturating_sub(STATEMENTS_MAX);
        History { statements: all[from..].to_vec(), file: Some(file.to_owned()) }
    }

    /// The statement `back` steps ago; 1: the last one.
    pub(super) fn back(&self, back: usize) -> Option<&str> {
        let at = self.statements.len().checked_sub(back)?;
        self.statements.get(at).map(String::as_str)
    }

    /// The newest statement with `part` in it, at least `back` steps ago, and how many it is.
    pub(super) fn search(&self, part: &str, back: usize) -> Option<usize> {
        (back.max(1)..=self.statements.len()).find(|back| self.back(*back).is_some_and(|s| s.contains(part)))
    }

    /// Adds a statement. If the file cannot be written, the history lasts until the program ends.
    pub(super) fn add(&mut self, statement: &str) {
        if statement.trim().is_empty() || self.back(1) == Some(statement) {
            return;
        }
        self.statements.push(statement.to_owned());
        let kept = match &self.file {
            Some(file) if self.statements.len() > 2 * STATEMENTS_MAX => {
                self.statements.drain(..STATEMENTS_MAX);
                write(file, &self.statements, false)
            }
            Some(file) => write(file, std::slice::from_ref(&statement.to_owned()), true),
            None => Ok(()),
        };
        if kept.is_err() {
            self.file = None;
        }
    }
}

/// Writes statements into a file that only the user may read.
fn write(file: &Path, statements: &[String], is_added: bool) -> io::Result<()> {
    let lines: String = statements.iter().map(|s| serde_json::json!(s).to_string() + "\n").collect();
    let mut options = OpenOptions::new();
    options.create(true).write(true).append(is_added).truncate(!is_added).mode(0o600);
    options.open(file)?.write_all(lines.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn statements_come_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("history");
        let mut history = History::read(&file);
        for statement in ["SELECT 1;", "SELECT\n2;", "SELECT\n2;", " "] {
            history.add(statement);
        }
        let again = History::read(&file);
        assert_eq!(
            (again.back(1), again.back(2), again.back(3)),
            (Some("SELECT\n2;"), Some("SELECT 1;"), None)
        );
        assert_eq!(
            (again.search("1", 1), again.search("SELECT", 2), again.search("x", 1)),
            (Some(2), Some(2), None)
        );
        let mode = fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "others cannot read it");
        for n in 0..2 * STATEMENTS_MAX {
            history.add(&n.to_string());
        }
        let count = fs::read_to_string(&file).expect("UTF-8").lines().count();
        assert!((STATEMENTS_MAX..=2 * STATEMENTS_MAX).contains(&count), "{count} statements are kept");
    }
}
