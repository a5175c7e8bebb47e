//! Tests that the patches of `tests/faults` still apply to the sources.
//!
//! Each patch restores a bug that this project once had; `tests/faults/run`, which takes longer,
//! checks that the test of each patch then fails.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn patches() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("tests/faults")).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut patches: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "patch")).collect();
    patches.sort();
    patches
}

#[test]
fn every_fault_still_fits() {
    let git = |arguments: &[&str]| Command::new("git").arg("-C").arg(root()).args(arguments).output();
    let inside = git(&["rev-parse", "--is-inside-work-tree"]);
    if !inside.is_ok_and(|out| out.status.success()) {
        testing::skipped("whether faults still fit: there is no git, or this is not a checkout of it");
        return;
    }
    let mut misfits = Vec::new();
    for patch in patches() {
        let path = patch.to_str().expect("UTF-8");
        let out = git(&["apply", "--check", path]).expect("git");
        if !out.status.success() {
            misfits.push(format!("{path}: {}", String::from_utf8_lossy(&out.stderr)));
        }
    }
    assert!(misfits.is_empty(), "write these anew, see docs/testing.md:\n{}", misfits.concat());
}

#[test]
fn there_are_enough_and_each_says_what_it_is() {
    let patches = patches();
    assert!(patches.len() >= 12, "{} faults", patches.len());
    for patch in patches {
        let text = std::fs::read_to_string(&patch).expect("UTF-8");
        for field in ["Fault: ", "\nRepaired-in: ", "\nTest: cargo test --locked -p ", "\ndiff --git "] {
            assert!(text.contains(field), "{}: no {field:?}", patch.display());
        }
    }
}
