//! PromQL answers, file by file: our own in `tests/promql`, and those of `PERENNIAL_PROMQLTEST_DIR` if it is set.

use frontends::promqltest::{Report, run};
use std::path::Path;

fn reports(dir: &Path) -> Vec<Report> {
    let mut paths: Vec<_> =
        std::fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "test"));
    paths.sort();
    let read = |path: &Path| std::fs::read_to_string(path).expect("UTF-8");
    paths.iter().map(|path| run(&path.to_string_lossy(), &read(path))).collect()
}

#[test]
fn our_files() {
    let reports = reports(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promql"));
    assert!(reports.len() > 5, "this test looks in the wrong place");
    let bad: String =
        reports.iter().filter(|r| !r.failed.is_empty() || r.passed == 0).map(Report::to_string).collect();
    assert!(bad.is_empty(), "\n{bad}");
}

#[test]
fn files_of_others() {
    let Some(dir) = std::env::var_os("PERENNIAL_PROMQLTEST_DIR") else { return };
    let reports = reports(Path::new(&dir));
    let text: String = reports.iter().map(Report::to_string).collect();
    assert!(reports.iter().all(|r| r.failed.is_empty()), "\n{text}");
}
