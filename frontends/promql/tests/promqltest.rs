//! Tests the test language itself: what passes, fails and is skipped. The test files are in
//! `tests/promql` of the repository root.

use promql::promqltest::{Mode, RunOptions, TestReport, run};

const LOADED: &str = "load 1m\n  up{job=\"a\"} 1 2 3\n  up{job=\"b\"} 1x2 stale\n\n";

/// All ways to run a file.
fn ways() -> Vec<RunOptions> {
    let mut ways = Vec::new();
    for mode in [Mode::History, Mode::Live] {
        for workers in [1, 2, 4] {
            ways.extend([false, true].map(|restart| RunOptions {
                mode,
                workers,
                restart,
                ..RunOptions::default()
            }));
        }
    }
    ways
}

fn reports(evals: &str) -> Vec<(RunOptions, TestReport)> {
    let text = format!("{LOADED}{evals}");
    ways().into_iter().map(|way| (way, run("file", &text, &way))).collect()
}

/// Every way must have these numbers of passed and failed evaluations.
fn outcome(evals: &str, passed: usize, failed: usize) {
    for (way, report) in reports(evals) {
        let skipped = if way.mode == Mode::History { 0 } else { report.skipped.len() };
        let got = (report.passed + skipped, report.failed.len());
        assert_eq!(got, (passed, failed), "{way:?}\n{evals}\n{report}");
    }
}

#[test]
fn right_answers_pass() {
    for right in [
        "eval instant at 2m up\n  up{job=\"a\"} 3\n  up{job=\"b\"} 1\n",
        "eval range from 0 to 2m step 1m sum(up)\n  {} 2 3 4\n",
        "eval range from 0 to 4m step 1m up{job=\"b\"}\n  up{job=\"b\"} 1 1 1 _ _\n",
        "eval instant at 0 1 + 1\n  2\n",
        "eval instant at 0 \"x\"\n  expect string \"x\"\n",
        "eval instant at 2m up + on () up\n  expect fail regex: many-to-many\n",
        "eval_fail instant at 2m up + on () up\n",
        "clear\neval instant at 2m up\n",
        "Eval instant at 2m vector(1)\n  {} 1\n",
        "eval instant at 2m sort_desc(up)\n  expect ordered\n  up{job=\"a\"} 3\n  up{job=\"b\"} 1\n",
        "eval_ordered instant at 2m sort(up)\n  up{job=\"b\"} 1\n  up{job=\"a\"} 3\n",
        "eval instant at 1m up[2m]\n  expect range vector from 0 to 2m step 1m\n  up{job=\"a\"} _ 2 3\n  up{job=\"b\"} _ 1 1\n",
        "eval instant at 2m up offset -1m\n  up{job=\"a\"} 3\n",
        "eval instant at 1m up and on () quantile(2, up)\n  expect warn\n  up{job=\"a\"} 2\n  up{job=\"b\"} 1\n",
        "eval instant at 0 up\n  expect no_warn\n  expect no_info\n  up{job=\"a\"} 1\n  up{job=\"b\"} 1\n",
    ] {
        outcome(right, 1, 0);
    }
}

#[test]
fn wrong_expectations_fail() {
    for wrong in [
        "eval instant at 2m up\n  up{job=\"a\"} 3\n",
        "eval instant at 2m up\n  up{job=\"a\"} 3\n  up{job=\"b\"} 2\n",
        "eval instant at 2m up\n  up{job=\"a\"} 3\n  up{job=\"b\"} {{}}\n",
        "eval instant at 2m up\n  up{job=\"a\"} 3\n  up{job=\"c\"} 1\n",
        "eval range from 0 to 2m step 1m sum(up)\n  {} 2 3 5\n",
        "eval range from 0 to 2m step 1m sum(up)\n  {} 2 _ 4\n",
        "eval range from 0 to 2m step 1m sum(up)\n  {} 2 3 4 5\n",
        "eval instant at 2m up\n  expect fail\n",
        "eval instant at 2m up + on () up\n  expect fail msg: something else\n",
        "eval instant at 2m up + on () up\n",
        "eval instant at 2m sum(up)\n  expect warn\n  {} 4\n",
        "eval instant at 2m sum(up)\n  expect info regex: .\n  {} 4\n",
        "eval instant at 0 1 + 1\n  3\n",
        "eval instant at 0 vector(1)\n  1\n",
        "eval instant at 0 1\n  {} 1\n",
    ] {
        outcome(wrong, 0, 1);
    }
    // These cannot be installed as views.
    for wrong in [
        "eval instant at 0 \"x\"\n  expect string \"y\"\n",
        "eval instant at 2m sort_desc(up)\n  expect ordered\n  up{job=\"b\"} 1\n  up{job=\"a\"} 3\n",
        "eval instant at 1m up[2m]\n  expect range vector from 0 to 2m step 1m\n  up{job=\"a\"} _ 2 3\n",
    ] {
        let report = run("file", &format!("{LOADED}{wrong}"), &RunOptions::default());
        assert_eq!((report.passed, report.failed.len()), (0, 1), "{wrong}\n{report}");
    }
}

#[test]
fn what_cannot_be_read_fails_with_its_line() {
    for (wrong, line) in [
        ("eval sometimes up\n", 5),
        ("load nothing\n", 5),
        ("load 1m\n  up 1\n  up x\n", 7),
        ("load 1m\n  up@st 1s 1s\n  up 1\n", 7),
        ("load 1m\n  up@st 1s\n", 6),
        ("loads 1m\n  up 1\n", 5),
        ("eval instant at 1m up\n  expect nothing\n", 6),
        ("eval instant at 1m up\n  expect fail\n  expect fail\n", 7),
        ("eval instant at 1m up\n  expect warn\n  expect no_warn\n", 7),
        ("eval instant at 1m up\n  expect fail because: of this\n", 6),
        ("eval instant at 1m up\n  expect warn regex: (\n", 6),
        ("eval instant at 1m up\n  up 1 2\n", 6),
        ("eval instant at 1m up\n  expect range vector from 1m to 0 step 1m\n", 6),
        ("eval range from 0 to 1m step 0 up\n", 5),
        ("eval instant at soon up\n", 5),
        ("eval instant at 1m\n", 5),
        ("evaluate instant at 1m up\n", 5),
        ("nonsense\n", 5),
    ] {
        let report = run("file", &format!("{LOADED}{wrong}"), &RunOptions::default());
        let lines: Vec<usize> = report.failed.iter().map(|failure| failure.line).collect();
        assert_eq!((report.passed, lines), (0, vec![line]), "{wrong}\n{report}");
    }
}

#[test]
fn a_failure_says_what_was_expected_and_what_came() {
    let text = format!("{LOADED}eval instant at 2m up{{job=\"a\"}}\n  up{{job=\"a\"}} 4\n");
    let report = run("my.test", &text, &RunOptions::default());
    let wanted = "my.test:5: up{job=\"a\"}\n  expected:\n    {__name__=\"up\", job=\"a\"} 4\n  got:\n    \
                  {__name__=\"up\", job=\"a\"} 3\nmy.test: 0 passed, 1 failed\n";
    assert_eq!(report.to_string(), wanted);
}

#[test]
fn instant_queries_are_asked_at_other_times_too() {
    // The answer is right at 2m, but an evaluation at another time would show the selector without
    // `@`.
    let text = format!("{LOADED}eval instant at 2m time() - 120 + up{{job=\"a\"}}\n  {{job=\"a\"}} 3\n");
    assert_eq!(run("file", &text, &RunOptions::default()).passed, 1);
}

#[test]
fn what_asks_the_store_is_answered_live() {
    for eval in [
        "eval instant at 2m up{job=\"a\"} offset -1m\n  up{job=\"a\"} 3\n",
        "eval instant at 2m sum(up @ 60)\n  {} 3\n",
        "eval instant at 1m sum(up @ 120)\n  {} 4\n",
        "eval instant at 2m max_over_time(sum(up)[2m:1m])\n  {} 4\n",
        "eval instant at 2m absent_over_time(none[2m:1m])\n  {} 1\n",
        "eval range from 0 to 2m step 1m sum_over_time(up{job=\"a\"}[2m:1m])\n  {job=\"a\"} 1 3 5\n",
    ] {
        for restart in [false, true] {
            let live = RunOptions { mode: Mode::Live, restart, workers: 2, ..RunOptions::default() };
            let report = run("file", &format!("{LOADED}{eval}"), &live);
            assert_eq!((report.passed, report.failed.len(), report.skipped.len()), (1, 0, 0), "{report}");
        }
    }
}

#[test]
fn what_cannot_stand_is_skipped_and_says_why() {
    let live = RunOptions { mode: Mode::Live, ..RunOptions::default() };
    for (eval, why) in [
        ("eval instant at 2m up[1m]\n", "only an instant vector"),
        ("eval range from 0 to 2m step 1m vector(step())\n", "asked for one time"),
    ] {
        let report = run("file", &format!("{LOADED}{eval}"), &live);
        assert_eq!((report.passed, report.failed.len(), report.skipped.len()), (0, 0, 1), "{report}");
        let text = report.to_string();
        assert!(text.contains(why) && text.ends_with("(lines 5)\n"), "{text}");
        assert!(text.starts_with("file: 0 passed, 0 failed, 1 skipped\n"), "{text}");
    }
}
