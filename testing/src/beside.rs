//! Inputs that are found beside the repository: more of what it has itself. Where they are absent, that is said, and counted
//! at the end of `./test`: a test passes by what the repository holds.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file or a directory of `shared`, which may stand next to the repository. Where it does not, that is told ([`skipped`]).
pub fn beside(path: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    skipped(&format!("shared/{path} is not beside the repository"));
    None
}

/// Says that a test did less than it can, and why. `./test` gives a file in `PERENNIAL_SKIPPED`, whose lines it counts: what
/// a test that passes prints is shown to nobody.
pub fn skipped(what: &str) {
    eprintln!("skipped: {what}");
    if let Some(file) = std::env::var_os("PERENNIAL_SKIPPED") {
        note(Path::new(&file), what);
    }
}

fn note(file: &Path, what: &str) {
    let program = std::env::current_exe().ok();
    let stem = program.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    // Without the number that cargo puts behind it.
    let stem = stem.unwrap_or_default();
    let test = stem.rsplit_once('-').map_or(stem.as_str(), |(name, _)| name);
    let line = format!("{test}: {what}\n");
    // One write, so that tests that run at the same time do not mix their lines.
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
