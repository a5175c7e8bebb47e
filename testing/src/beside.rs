//! Test inputs outside the repository, in addition to those that the repository contains. A missing
//! input is reported and counted at the end of `./test`; the tests pass without it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The path of a file or directory in `shared`, a directory next to the repository; `None`, and a
/// report ([`skipped`]), if it does not exist.
pub fn beside(path: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    skipped(&format!("shared/{path} is not beside the repository"));
    None
}

/// Reports that a test did less than it can, and why.
///
/// The report also goes to the file that `./test` names in `PERENNIAL_SKIPPED`, because cargo does
/// not show the output of passed tests. `./test` counts the lines of the file.
pub fn skipped(what: &str) {
    eprintln!("skipped: {what}");
    if let Some(file) = std::env::var_os("PERENNIAL_SKIPPED") {
        note(Path::new(&file), what);
    }
}

fn note(file: &Path, what: &str) {
    let program = std::env::current_exe().ok();
    let stem = program.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    // Without the hash that cargo appends to the name.
    let stem = stem.unwrap_or_default();
    let test = stem.rsplit_once('-').map_or(stem.as_str(), |(name, _)| name);
    let line = format!("{test}: {what}\n");
    // One write per line, so that the lines of concurrent tests do not mix.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_skipped_is_a_line_with_the_test_and_the_reason() {
        let file = std::env::temp_dir().join(format!("perennial-skipped-{}", std::process::id()));
        note(&file, "no inputs");
        note(&file, "no tools");
        let text = std::fs::read_to_string(&file).expect("written");
        std::fs::remove_file(&file).expect("removed");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, ["testing: no inputs", "testing: no tools"]);
    }

    #[test]
    fn what_is_not_beside_is_nothing() {
        assert_eq!(beside("nothing/of/the/kind"), None);
    }
}
