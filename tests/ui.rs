//! Tests the web page: unit tests of its sources, that `dist` is what the sources make, and the
//! page in a browser with this server.
//!
//! It needs node, the packages of `frontends/ui/package-lock.json` and Chromium, which
//! `.ci/install` installs where node is there. Where they are missing, it says so and does nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use testing::skipped;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("frontends/ui")
}

/// Whether node and the packages are there.
fn has_node() -> bool {
    let node = Command::new("node").arg("--version").output().is_ok_and(|out| out.status.success());
    let there = node && project().join("node_modules/vite").exists();
    if !there {
        skipped("the web page: node or its packages are missing (.ci/install)");
    }
    there
}

/// Runs a command in the project; panics with its output if it fails.
fn run(command: &mut Command) {
    let out = command.current_dir(project()).output().expect("the command starts");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{command:?}:\n{}{}", said(&out.stdout), said(&out.stderr));
}

/// All files below a directory, with their bytes, by relative path.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("a file");
            found.push((path.strip_prefix(directory).expect("below it").to_owned(), bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn the_pure_parts_work() {
    if has_node() {
        run(Command::new("npm").arg("test"));
    }
}

#[test]
fn dist_is_what_the_sources_make() {
    if !has_node() {
        return;
    }
    let fresh = tempfile::tempdir().expect("a directory");
    run(Command::new("npx").args(["tsc", "--noEmit"]));
    run(Command::new("npx").args(["vite", "build", "--emptyOutDir", "--outDir"]).arg(fresh.path()));
    let consoles = ["vite", "build", "-c", "vite.console.config.ts", "--outDir"];
    run(Command::new("npx").args(consoles).arg(fresh.path()));
    let committed = files(&project().join("dist"));
    let built = files(fresh.path());
    let names = |list: &[(PathBuf, Vec<u8>)]| list.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&built), "cd frontends/ui && npm ci && npm run build");
    assert!(committed == built, "a file of dist differs: cd frontends/ui && npm ci && npm run build");
}

/// Calls that make scripts or elements of text: the policy of the page forbids them, so they would
/// throw.
#[test]
fn no_source_makes_elements_of_text() {
    let forbidden = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "dangerouslySetInnerHTML",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
    ];
    let sources = files(&project().join("src"));
    assert!(sources.len() > 20, "this test looks in the wrong place");
    for (path, bytes) in sources {
        let text = String::from_utf8(bytes).expect("UTF-8");
        let found: Vec<_> = forbidden.iter().filter(|word| text.contains(**word)).collect();
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn the_page_works_in_a_browser() {
    let chromium = Path::new("/usr/bin/chromium");
    if !has_node() {
        return;
    }
    if !chromium.exists() {
        return skipped("the web page in a browser: /usr/bin/chromium is missing (.ci/install)");
    }
    run(Command::new("npm").args(["run", "e2e"]).env("PERENNIAL_BIN", env!("CARGO_BIN_EXE_perennial")));
}
