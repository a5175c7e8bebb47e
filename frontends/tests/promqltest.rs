//! The test language itself: what passes, what fails, what is skipped. The files are in `tests/promql` of the root.

use frontends::promqltest::run;

const LOADED: &str = "load 1m\n  up{job=\"a\"} 1 2 3\n  up{job=\"b\"} 1x2 stale\n\n";

fn outcome(evals: &str) -> (usize, usize, usize) {
    let report = run("file", &format!("{LOADED}{evals}"));
    (report.passed, report.failed.len(), report.skipped.len())
}

#[test]
fn right_answers_pass() {
    assert_eq!(outcome("eval instant at 2m up\n  up{job=\"a\"} 3\n  up{job=\"b\"} 1\n"), (1, 0, 0));
    assert_eq!(outcome("eval range from 0 to 2m step 1m sum(up)\n  {} 2 3 4\n"), (1, 0, 0));
    assert_eq!(outcome("eval instant at 0 1 + 1\n  2\n"), (1, 0, 0));
    assert_eq!(outcome("eval instant at 0 \"x\"\n  expect string \"x\"\n"), (1, 0, 0));
    assert_eq!(outcome("eval instant at 2m up + on () up\n  expect fail regex: many-to-many\n"), (1, 0, 0));
    assert_eq!(outcome("clear\neval instant at 2m up\n"), (1, 0, 0));
}

#[test]
fn wrong_expectations_fail() {
    for wrong in [
        "eval instant at 2m up\n  up{job=\"a\"} 3\n",
        "eval instant at 2m up\n  up{job=\"a\"} 3\n  up{job=\"b\"} 2\n",
        "eval instant at 2m up\n  up{job=\"a\"} 3\n  up{job=\"c\"} 1\n",
        "eval instant at 2m sort_desc(up)\n  expect ordered\n  up{job=\"b\"} 1\n  up{job=\"a\"} 3\n",
        "eval range from 0 to 2m step 1m sum(up)\n  {} 2 3 5\n",
        "eval range from 0 to 2m step 1m sum(up)\n  {} 2 _ 4\n",
        "eval instant at 2m up\n  expect fail\n",
        "eval instant at 2m up + on () up\n  expect fail msg: something else\n",
        "eval instant at 2m up + on () up\n",
        "eval instant at 0 1 + 1\n  3\n",
        "eval instant at 0 \"x\"\n  expect string \"y\"\n",
        "eval sometimes up\n",
        "load nothing\n",
    ] {
        assert_eq!(outcome(wrong), (0, 1, 0), "{wrong}");
    }
}

#[test]
fn what_is_not_there_yet_is_skipped_and_says_why() {
    let report = run(
        "file",
        &format!(
            "{LOADED}load 1m\n  h{{a=\"b\"}} {{{{count:3}}}}x3\n\neval instant at 0 h\n\neval instant at 0 info(up)\n"
        ),
    );
    assert_eq!((report.passed, report.failed.len()), (0, 0), "{report}");
    assert!(report.to_string().contains("skipped 1: native histograms"), "{report}");
}
