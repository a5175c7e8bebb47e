//! Compares random queries with Prometheus 3.14, whose evaluator `go/main.go` builds into a
//! program. This server answers twice: by the query runtime, and by views that are installed while
//! the samples arrive.
//!
//! ```text
//! cargo test --workspace --test beside_3_14      # 2,000 queries, seed 1
//! ANSWERS=100000 ANSWERS_SEED=7 cargo test --release --workspace --test beside_3_14 -- --nocapture
//! ```
//!
//! The program reads samples and queries in Prometheus' test language ([`draw`]) and appends its
//! answer to each query. The resulting test file must pass ([`promql::promqltest`]). A difference
//! must be one of [`listed`]; any other fails the test, with the samples, the query and both
//! answers as a file for `perennial test promql`.
//!
//! The program is built if Go 1.25 or newer is installed and its modules can be downloaded.
//! Otherwise the test reports that it was skipped ([`testing::skipped`]).

#[path = "../support/arguments.rs"]
mod arguments;
mod draw;
mod listed;
#[path = "../../../../tests/differential/random.rs"]
#[allow(dead_code, reason = "made for another generator, too")]
mod random;

use promql::promqltest::{Mode, RunOptions, TestFailure, run};
use random::Random;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use testing::skipped;

/// Number of queries without `ANSWERS`.
const QUERIES: u64 = 2_000;
/// Queries over the same samples.
const PER_SCENE: u64 = 50;
/// Scenes per run of the program.
const PER_RUN: u64 = 40;
/// Differences that are printed.
const PRINTED: usize = 20;
/// How long the download of the modules may take.
const MODULES: Duration = Duration::from_secs(240);

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The Go command, if it is new enough.
fn go() -> Option<PathBuf> {
    let new_enough = |path: &Path| {
        let out = Command::new(path).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output().ok()?;
        let version = String::from_utf8(out.stdout).ok()?;
        let mut parts = version.trim().strip_prefix("go1.")?.split('.');
        (parts.next()?.parse::<u32>().ok()? >= 25).then(|| path.to_owned())
    };
    ["go", "/usr/local/go/bin/go"].iter().find_map(|path| new_enough(Path::new(path)))
}

/// Whether the program's modules are present, or can be downloaded within [`MODULES`].
fn modules_come(go: &Path, dir: &Path) -> bool {
    let list = Command::new(go)
        .args(["list", "-deps", "."])
        .current_dir(dir)
        .env("GOTOOLCHAIN", "local")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut list) = list else { return false };
    let begun = Instant::now();
    while begun.elapsed() < MODULES {
        match list.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(200)),
            Ok(Some(status)) => return status.success(),
            Err(_) => break,
        }
    }
    // The process may have ended already.
    let _ = list.kill();
    let _ = list.wait();
    false
}

/// The program, if it can be built here.
static PROGRAM: LazyLock<Option<PathBuf>> = LazyLock::new(program);

fn program() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/beside_3_14/go");
    let Some(go) = go() else {
        skipped("answers of Prometheus 3.14: Go 1.25 is not here");
        return None;
    };
    if !modules_come(&go, &dir) {
        skipped("answers of Prometheus 3.14: Go's modules cannot be had");
        return None;
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("answers-of-3.14");
    let built = Command::new(go)
        .args(["build", "-o"])
        .args([path.as_os_str(), ".".as_ref()])
        .current_dir(dir)
        .env("GOTOOLCHAIN", "local")
        .output()
        .expect("Go runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(path)
}

/// The questions with the answers of 3.14.
fn answered(program: &Path, questions: String, default_dialect: bool) -> String {
    let mut command = Command::new(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    if default_dialect {
        command.arg("default");
    }
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("it has an input");
    let writer = std::thread::spawn(move || stdin.write_all(questions.as_bytes()));
    let out = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads all");
    assert!(out.status.success(), "the program failed");
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// The first differences; their samples are in files.
fn told(failed: &[(String, TestFailure)], mode: Mode) -> String {
    let mut text = String::new();
    for (number, (scene, failure)) in failed.iter().take(PRINTED).enumerate() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("differs-{mode:?}-{number}.test"));
        let samples = scene.find("\neval ").map_or("", |at| &scene[..at]);
        let from = scene.lines().skip(failure.line - 1);
        let asked: Vec<&str> = from.take_while(|line| !line.is_empty()).collect();
        let asked = asked.join("\n");
        std::fs::write(&path, format!("{samples}\n{asked}\n")).expect("the file can be written");
        let _ = writeln!(text, "\n{}\n{asked}\nhere:\n{}", path.display(), failure.got);
    }
    text
}

/// The runtime that answers, and which questions.
#[derive(Copy, Clone)]
struct Questions {
    mode: Mode,
    /// Whether a range query is evaluated only at its end.
    at_one_time: bool,
}

/// The results for one set of questions.
#[derive(Default)]
struct ComparisonCounts {
    passed: u64,
    of_rules: BTreeMap<&'static str, usize>,
    failed: Vec<(String, TestFailure)>,
}

impl ComparisonCounts {
    fn add(&mut self, scene: &str, way: &RunOptions) {
        let report = run("answers", scene, way);
        self.passed += report.passed as u64;
        for failure in report.failed {
            match listed::rule(&failure) {
                Some(rule) => *self.of_rules.entry(rule).or_default() += 1,
                None => self.failed.push((scene.to_owned(), failure)),
            }
        }
    }
}

/// The same questions, each at one time: the end of its range.
fn at_one_time(scene: &str) -> String {
    let of = |line: &str| {
        let (range, expr) = line.strip_prefix("eval range from ")?.split_once(" step ")?;
        let (_, end) = range.split_once(" to ")?;
        let (_, expr) = expr.split_once(' ')?;
        Some(format!("eval instant at {end} {expr}"))
    };
    scene.lines().map(|line| of(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

fn compare(program: &Path, questions: Questions) {
    let seed = variable("ANSWERS_SEED").unwrap_or(1);
    let queries = variable("ANSWERS").unwrap_or(QUERIES);
    let scenes = queries.div_ceil(PER_SCENE);
    let mut compared = ComparisonCounts::default();
    for from in (0..scenes).step_by(PER_RUN as usize) {
        // Every fourth run is without feature flags.
        let default_dialect = from / PER_RUN % 4 == 3;
        let drawn = |number| draw::scene(&mut Random::new(&[seed, number]), PER_SCENE, default_dialect);
        let mut text: String = (from..(from + PER_RUN).min(scenes)).map(drawn).collect();
        if questions.at_one_time {
            text = at_one_time(&text);
        }
        let text = answered(program, text, default_dialect);
        let way = RunOptions { mode: questions.mode, default_dialect, ..RunOptions::default() };
        for scene in text.split("clear\n\n") {
            compared.add(scene, &way);
        }
    }
    let ComparisonCounts { passed, of_rules, failed } = compared;
    let mode = questions.mode;
    let others = failed.len();
    eprintln!(
        "{mode:?}, seed {seed}: {passed} answers are equal, {of_rules:?} differ as listed, {others} otherwise"
    );
    assert!(failed.is_empty(), "{}", told(&failed, mode));
    assert!(passed > queries / 2, "the generator draws little that is compared");
}

#[test]
fn answers_are_those_of_3_14() {
    let Some(program) = PROGRAM.as_deref() else { return };
    compare(program, Questions { mode: Mode::Plain, at_one_time: false });
}

/// A view is evaluated at one time, like a rule; a range query has other answers to some questions.
#[test]
fn answers_of_views_are_those_of_3_14() {
    let Some(program) = PROGRAM.as_deref() else { return };
    compare(program, Questions { mode: Mode::Live, at_one_time: true });
}
