//! Tests PromQL results file by file in each mode: our files in `tests/promql`, and, if present,
//! those of `PERENNIAL_PROMQLTEST_DIR` or of `shared/promqltest` next to the repository.

#[path = "support/coverage.rs"]
mod coverage;

use coverage::used;
use promql::promqltest::{Mode, RunOptions, TestReport, queries, run};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "test"));
    paths.sort();
    paths
}

fn reports(dir: &Path, way: &RunOptions) -> Vec<TestReport> {
    let read = |path: &Path| std::fs::read_to_string(path).expect("UTF-8");
    files(dir).iter().map(|path| run(&path.to_string_lossy(), &read(path), way)).collect()
}

fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promql")
}

/// The directory of upstream's files, if present.
fn others() -> Option<PathBuf> {
    let named = std::env::var_os("PERENNIAL_PROMQLTEST_DIR").map(PathBuf::from);
    named.or_else(|| testing::beside("promqltest"))
}

const HISTORY: RunOptions =
    RunOptions { mode: Mode::History, workers: 2, restart: false, default_dialect: false };
const LIVE: RunOptions = RunOptions { mode: Mode::Live, ..HISTORY };

/// Fails if a report has a failure or, in the history mode, a skipped case; otherwise prints all
/// reports.
fn judge(reports: &[TestReport], way: &RunOptions) {
    let bad = |r: &TestReport| !r.failed.is_empty() || (way.mode == Mode::History && !r.skipped.is_empty());
    let text: String = reports.iter().filter(|r| bad(r)).map(TestReport::to_string).collect();
    assert!(text.is_empty(), "{way:?}\n{text}");
    for report in reports.iter() {
        eprint!("{report}");
    }
}

fn run_ours(way: &RunOptions) {
    let reports = reports(&ours(), way);
    assert!(reports.len() > 5 && reports.iter().all(|r| r.passed > 0), "this test looks in the wrong place");
    judge(&reports, way);
}

#[test]
fn our_files() {
    run_ours(&HISTORY);
}

#[test]
fn our_files_live() {
    for workers in [1, 2, 4] {
        run_ours(&RunOptions { workers, ..LIVE });
    }
}

#[test]
fn our_files_with_a_restart() {
    run_ours(&RunOptions { restart: true, ..HISTORY });
    run_ours(&RunOptions { restart: true, ..LIVE });
}

/// Files whose results are those of a server without feature flags.
#[test]
fn our_files_of_the_default_dialect() {
    let dir = ours().join("default");
    for way in [HISTORY, LIVE, RunOptions { restart: true, ..LIVE }] {
        let way = RunOptions { default_dialect: true, ..way };
        judge(&reports(&dir, &way), &way);
        // The files depend on the dialect: with the other one they must fail.
        let other = RunOptions { default_dialect: false, ..way };
        assert!(reports(&dir, &other).iter().all(|report| !report.failed.is_empty()), "{other:?}");
    }
}

/// Functions of windows reject equal label sets even at different times of one query. A view, which
/// is evaluated at one time, cannot detect that.
#[test]
fn windows_of_the_default_dialect_mind_labels() {
    let load = "load 10s\n  early{n=\"c\"} 1 2 3\n  late{n=\"c\"} _x10 5 6 7 8\n\n";
    let eval = "eval range from 20s to 2m step 50s increase({n=\"c\"}[20s])\n";
    let clash =
        format!("{load}{eval}  expect fail msg: vector cannot contain metrics with the same labelset\n");
    let one = format!("{load}{eval}  {{n=\"c\"}} 2 _ 2\n");
    for (text, default_dialect) in [(clash, true), (one, false)] {
        let report = run("file", &text, &RunOptions { default_dialect, ..HISTORY });
        assert_eq!((report.passed, report.failed.len()), (1, 0), "{report}");
    }
}

fn run_others(way: &RunOptions) {
    if let Some(dir) = others() {
        judge(&reports(&dir, way), way);
    }
}

#[test]
fn files_of_others() {
    run_others(&HISTORY);
}

#[test]
fn files_of_others_live() {
    for workers in [1, 2, 4] {
        run_others(&RunOptions { workers, ..LIVE });
    }
}

#[test]
fn files_of_others_with_a_restart() {
    run_others(&RunOptions { restart: true, ..HISTORY });
    run_others(&RunOptions { restart: true, ..LIVE });
}

/// The exit code and standard output of `perennial test` with these arguments.
fn command(args: &[&str]) -> (Option<i32>, String) {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_perennial")).arg("test").args(args).output();
    let out = out.expect("the binary");
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
}

#[test]
fn the_command_says_what_came_of_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, value: i32| {
        let path = dir.path().join(name);
        let text = format!("load 1m\n  up 1 2\n\neval instant at 1m up\n  up {value}\n");
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    };
    let right = file("right.test", 2);
    let wrong = file("wrong.test", 3);
    let ways: [&[&str]; 4] =
        [&[], &["--mode=live"], &["--mode=live", "--workers=4", "--restart"], &["--restart"]];
    for way in ways {
        let (code, text) = command(&[&["promql"], way, &[&right]].concat());
        assert_eq!((code, text.lines().last()), (Some(0), Some("1 passed, 0 failed")), "{way:?}");
        let (code, text) = command(&[&["promql"], way, &[&right, &wrong]].concat());
        assert_eq!((code, text.lines().last()), (Some(1), Some("1 passed, 1 failed")), "{way:?}");
        assert!(text.contains("wrong.test:4: up\n  expected:\n"), "{text}");
    }
    let missing = dir.path().join("missing").to_string_lossy().into_owned();
    for bad in
        [&["promql"][..], &["promql", &missing], &["promql", "--mode=dead", &right], &["rules", &right], &[]]
    {
        assert_eq!(command(bad).0, Some(2), "{bad:?}");
    }
    let (code, help) = command(&["promql", "--help"]);
    assert!(code == Some(0) && help.contains("--mode=live"), "{help}");
}

/// The texts of all our files.
fn our_texts() -> Vec<String> {
    files(&ours()).iter().map(|path| std::fs::read_to_string(path).expect("UTF-8")).collect()
}

/// The elements of PromQL other than functions.
const LANGUAGE: &[&str] = &[
    "aggregation avg",
    "aggregation bottomk",
    "aggregation count",
    "aggregation count_values",
    "aggregation group",
    "aggregation limit_ratio",
    "aggregation limitk",
    "aggregation max",
    "aggregation min",
    "aggregation quantile",
    "aggregation stddev",
    "aggregation stdvar",
    "aggregation sum",
    "aggregation topk",
    "literal computed duration",
    "literal duration",
    "literal number",
    "literal string",
    "matcher !=",
    "matcher !~",
    "matcher =",
    "matcher =~",
    "modifier @",
    "modifier @ end()",
    "modifier @ start()",
    "modifier anchored",
    "modifier bool",
    "modifier by",
    "modifier fill",
    "modifier fill_left",
    "modifier fill_right",
    "modifier group labels",
    "modifier group_left",
    "modifier group_right",
    "modifier ignoring",
    "modifier negative offset",
    "modifier offset",
    "modifier on",
    "modifier smoothed",
    "modifier without",
    "operator !=",
    "operator %",
    "operator *",
    "operator +",
    "operator -",
    "operator /",
    "operator <",
    "operator </",
    "operator <=",
    "operator ==",
    "operator >",
    "operator >/",
    "operator >=",
    "operator ^",
    "operator and",
    "operator atan2",
    "operator or",
    "operator unless",
    "subquery with step",
    "subquery without step",
    "unary +",
    "unary -",
];

#[test]
fn our_files_use_everything() {
    let queries: Vec<String> = our_texts().iter().flat_map(|text| queries(text)).collect();
    let used = used(&queries);
    let functions = engine::functions::table().iter().map(|function| format!("function {}", function.name));
    let language = LANGUAGE.iter().map(|word| (*word).to_owned());
    let missing: Vec<String> = functions.chain(language).filter(|word| !used.contains(word)).collect();
    assert!(missing.is_empty(), "no query of tests/promql uses: {missing:#?}");
}

/// The beginning of each annotation; its rest says where it occurred.
const ANNOTATIONS: &[&str] = &[
    "quantile value should be between 0 and 1, got",
    "ratio value should be between -1 and 1, got",
    "bucket label \"le\" is missing or has a malformed value of",
    "encountered a mix of histograms and floats for metric name",
    "encountered a mix of histograms and floats for aggregation",
    "vector contains a mix of classic and native histograms",
    "this native histogram metric is not a counter",
    "this native histogram metric is not a gauge",
    "vector contains a mix of histograms with exponential and custom buckets schemas for metric name",
    "incompatible bucket layout encountered for binary operator",
    "sort is ineffective for range queries",
    "conflicting counter resets during histogram addition",
    "conflicting counter resets during histogram subtraction",
    "conflicting counter resets during histogram aggregation",
    "sample has start time that overlaps with previous sample timestamp for metric",
    "metric might not be a counter, name does not end in _total/_sum/_count/_bucket",
    "input to histogram_quantile needed to be fixed for monotonicity",
    "incompatible sample types encountered for binary operator",
    "ignored histogram in min aggregation",
    "ignored histogram in max aggregation",
    "ignored histogram in stddev aggregation",
    "ignored histogram in stdvar aggregation",
    "ignored histogram in topk aggregation",
    "ignored histogram in bottomk aggregation",
    "ignored histogram in quantile aggregation",
    "ignored histograms in a range containing both floats and histograms",
    "input to histogram_quantile has NaN observations, result is NaN",
    "input to histogram_quantile has NaN observations, result is skewed higher",
    "input to histogram_fraction has NaN observations",
    "mismatched custom buckets were reconciled during addition",
    "mismatched custom buckets were reconciled during subtraction",
    "mismatched custom buckets were reconciled during aggregation",
];

#[test]
fn our_files_expect_every_annotation() {
    let texts = our_texts();
    let said = |line: &&str| line.starts_with("expect warn ") || line.starts_with("expect info ");
    let expected: Vec<&str> =
        texts.iter().flat_map(|text| text.lines().map(str::trim)).filter(said).collect();
    let missing: Vec<_> =
        ANNOTATIONS.iter().filter(|text| !expected.iter().any(|line| line.contains(**text))).collect();
    assert!(missing.is_empty(), "no file of tests/promql expects: {missing:#?}");
}

/// Where implementations of PromQL often have bugs. Cases that concern the JSON of responses and
/// the results of rules are tested elsewhere, with these.
const TRAPS: &[&str] = &[
    "windows and the lookback are open to the left",
    "a stale marker hides what is before it from a selector, not from a window",
    "a rate is extrapolated by rules of its own",
    "one sample is not enough for a rate, and enough for the rest",
    "sums are compensated",
    "what does not vary has variance zero, and no slope",
    "the weight of a neighbour may be zero, its value must still be a number",
    "of equal values max and min take the first, their times the last",
    "no number wins in min and max of two",
    "a remainder has the sign of what is divided",
    "powers of the odd numbers",
    "halves go up, below zero too",
    "zero keeps its sign",
    "dates cut fractions off towards zero",
    "a fraction of k is cut off, and no number is refused",
    "the time of a sample is known to a selector only",
    "a forecast counts from the evaluation time, whatever the offset",
    "no number is no change after no number, and never a reset",
    "what absent knows of the labels",
    "nothing is counted as nothing",
    "a pattern must match all of the value",
    "a name in a template is as long as it can be",
    "an empty value takes the label away",
    "patterns are those of RE2",
    "no label and an empty one are the same",
    "duplicates fail the query, even where nothing would come of them",
    "with a fill, one side is asked for duplicates although the other has nothing",
    "a filter keeps the name, an answer of 0 or 1 does not",
    "equal bounds are one bucket, falling counts are repaired, and there must be a last one",
    "a classic and a native histogram of the same labels cancel each other",
    "between the bounds of a bucket values grow by powers",
    "subqueries are asked at the multiples of their step since 1970",
    "what is pinned by @ keeps the times of its samples",
    "series that become one must never meet",
    "topk chooses anew at every step",
    "which series a limit takes is not said, how many is",
    "places count bytes, and lines",
    "whole numbers above 2^53 are not exact",
    "how many there are is enough to know of, a reset is seen in every bucket",
    "subqueries do not know about resets",
    "floats and histograms of one series are one sequence",
];

#[test]
fn our_files_hold_every_trap() {
    let texts = our_texts();
    let traps: BTreeSet<&str> =
        texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("# trap: ")).collect();
    let known: BTreeSet<&str> = TRAPS.iter().copied().collect();
    assert_eq!(known.difference(&traps).collect::<Vec<_>>(), Vec::<&&str>::new(), "these are in no file");
    assert_eq!(
        traps.difference(&known).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "these are not in the list"
    );
}
