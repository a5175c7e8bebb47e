//! Tests PromQL against corpora: the queries with their results in `tests/data/promql`, and all
//! queries and series of the test files in `tests/promql` of the repository root. Prometheus' own
//! files are included if they are next to the repository.

mod support;

use engine::plan::as_promql::as_promql;
use promql::ast::Expr;
use promql::{compile, parse, prettify::pretty, printer, series::parse_series};
use serde_json::Value;
use std::path::{Path, PathBuf};
use support::options;
use testing::beside;

/// The cases of one file.
struct Corpus {
    name: String,
    cases: Vec<Value>,
}

fn read(path: PathBuf) -> Corpus {
    let text = std::fs::read_to_string(&path).expect("UTF-8");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("a JSON list");
    let name = path.display().to_string();
    assert!(cases.len() > 40, "{name} has {} cases", cases.len());
    Corpus { name, cases }
}

/// Prometheus' cases, if they are next to the repository.
fn others(file: &str) -> Option<Corpus> {
    beside(&format!("parser-corpus/{file}")).map(read)
}

/// Our own cases of this name, and those of Prometheus.
fn corpora(file: &str) -> impl Iterator<Item = Corpus> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/promql").join(file);
    std::iter::once(read(ours)).chain(others(file))
}

/// The test files: our own, which cover every function and form of the language, and those next to
/// the repository.
fn test_files() -> Vec<String> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/promql");
    let dirs = std::iter::once(ours).chain(beside("promqltest"));
    let paths = dirs.flat_map(|dir| {
        let entries = std::fs::read_dir(dir).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path())
    });
    let tests = paths.filter(|path| path.extension().is_some_and(|e| e == "test"));
    tests.map(|path| std::fs::read_to_string(path).expect("UTF-8")).collect()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().expect("a string")
}

/// Prints the differences, and fails if there are more than `known`.
fn judge(name: &str, total: usize, wrong: &[String], known: usize) {
    eprintln!("{name}: {} of {total} as upstream", total - wrong.len());
    assert!(wrong.len() <= known, "{name}: {} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn accepts_and_refuses_what_upstream_does() {
    let differs = |case: &Value| {
        let input = text(case, "input");
        let fail = case["fail"] == true;
        let result = parse(input, &options());
        (result.is_err() != fail).then(|| format!("{input:?}: {:?}", result.map_err(|e| e.message())))
    };
    for Corpus { name, cases } in corpora("parse.json").chain(others("edge.json")) {
        let wrong: Vec<String> = cases.iter().filter_map(differs).collect();
        // The edge cases contain one known difference: Go rejects the class `[a--b]`, because its
        // range is reversed.
        let known = usize::from(name.ends_with("edge.json"));
        judge(&name, cases.len(), &wrong, known);
    }
}

#[test]
fn error_texts_and_positions_are_upstreams() {
    for Corpus { name, cases } in corpora("parse.json") {
        let failing: Vec<&Value> = cases.iter().filter(|c| c["errors"].get(0).is_some()).collect();
        let differs = |case: &&Value| {
            let input = text(case, "input");
            let wanted = &case["errors"][0];
            let error = parse(input, &options()).err()?;
            let place = wanted["start"] == error.span.start && wanted["end"] == error.span.end;
            (error.text != text(wanted, "msg") || !place)
                .then(|| format!("{input:?}: got {error:?}, want {wanted}"))
        };
        let wrong: Vec<String> = failing.iter().filter_map(differs).collect();
        judge(&name, failing.len(), &wrong, 0);
    }
}

#[test]
fn prints_what_upstream_prints() {
    judge_printer("printer.json", &printer::print);
    judge_printer("prettier.json", &|expr| pretty(expr, 10));
}

fn judge_printer(file: &str, print: &dyn Fn(&Expr) -> String) {
    for Corpus { name, cases } in corpora(file) {
        let differs = |case: &Value| {
            let input = text(case, "input");
            let wanted = text(case, "out");
            let got = parse(input, &options()).map_or_else(|e| e.message(), |expr| print(&expr));
            (got != wanted).then(|| format!("{input:?}: got\n{got}\nwant\n{wanted}"))
        };
        let wrong: Vec<String> = cases.iter().filter_map(differs).collect();
        judge(&name, cases.len(), &wrong, 0);
    }
}

#[test]
fn every_conformance_query_parses() {
    let mut total = 0;
    let mut compiled = 0;
    let mut wrong = Vec::new();
    for content in test_files() {
        let lines: Vec<&str> = content.lines().map(str::trim).collect();
        for (i, line) in lines.iter().enumerate() {
            let Some(query) = query_of(line) else { continue };
            // An evaluation that must fail may fail in the parser.
            let may_fail = line.starts_with("eval_fail")
                || lines[i + 1..]
                    .iter()
                    .take_while(|l| l.starts_with("expect"))
                    .any(|l| l.starts_with("expect fail"));
            total += 1;
            compiled += usize::from(compile(query, &options()).is_ok());
            match parse(query, &options()) {
                Err(error) if !may_fail => wrong.push(format!("{query:?}: {error}")),
                Err(_) => {}
                // The printed query has the same meaning: it parses, and prints the same again.
                Ok(expr) => {
                    let once = printer::print(&expr);
                    match parse(&once, &options()) {
                        Ok(again) if printer::print(&again) == once => {}
                        _ => wrong.push(format!("{query:?} prints as {once:?}")),
                    }
                }
            }
        }
    }
    eprintln!("conformance queries: {compiled} of {total} have a plan");
    assert!(total > 700, "{total} queries: this test looks in the wrong place");
    judge("conformance queries", total, &wrong, 0);
}

/// A plan prints as PromQL whose plan is the same.
#[test]
fn plans_of_all_queries_print_as_promql() {
    let mut total = 0;
    let mut wrong = Vec::new();
    let files = test_files();
    let lines = files.iter().flat_map(|content| content.lines());
    for query in lines.filter_map(|line| query_of(line.trim())) {
        let Ok(plan) = compile(query, &options()) else { continue };
        let printed = as_promql(&plan);
        total += 1;
        match compile(&printed, &options()) {
            Ok(again) if again == plan => {}
            other => {
                wrong.push(format!("{query:?} prints as {printed:?}: {:?}", other.map(|p| as_promql(&p))))
            }
        }
    }
    assert!(total > 700, "{total} queries: this test looks in the wrong place");
    judge("printed plans", total, &wrong, 0);
}

/// The query of an `eval…` line.
fn query_of(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("eval")?;
    let rest = rest.trim_start_matches(|c: char| c == '_' || c.is_ascii_alphabetic()).trim_start();
    let rest = rest.strip_prefix("instant").or(rest.strip_prefix("range")).unwrap_or(rest).trim_start();
    if let Some(rest) = rest.strip_prefix("at ") {
        return rest.trim_start().split_once(char::is_whitespace).map(|(_, query)| query);
    }
    let rest = rest.strip_prefix("from ")?;
    let (_, rest) = rest.split_once(" step ")?;
    rest.trim_start().split_once(char::is_whitespace).map(|(_, query)| query)
}

#[test]
fn every_series_of_the_conformance_files_is_read() {
    let mut total = 0;
    let mut wrong = Vec::new();
    for content in test_files() {
        let mut loading = false;
        for line in content.lines() {
            let body = line.trim();
            if body.is_empty() || body.starts_with('#') || !line.starts_with([' ', '\t']) {
                loading = body.starts_with("load") || (loading && body.starts_with('#'));
                continue;
            }
            // Lines of start timestamps belong to the test language, not to the series notation.
            if !loading || body.contains("@st") {
                continue;
            }
            total += 1;
            if let Err(error) = parse_series(body) {
                wrong.push(format!("{body:?}: {error}"));
            }
        }
    }
    assert!(total > 500, "{total} series: this test looks in the wrong place");
    judge("series descriptions", total, &wrong, 0);
}
