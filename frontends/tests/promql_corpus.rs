//! PromQL against the corpora of upstream's own tests, where they are at hand.

mod support;

use frontends::promql::ast::Expr;
use frontends::promql::{compile, parse, prettify::pretty, printer, series::parse_series};
use serde_json::Value;
use support::{corpus, options};

fn cases(path: &str) -> Vec<Value> {
    corpus(path).map(|text| serde_json::from_str(&text).expect("a JSON list")).unwrap_or_default()
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
    // The hand-made edge cases hold one mistake: Go refuses the class `[a--b]` (its range runs backwards).
    for (name, known) in [("parser-corpus/parse.json", 0), ("parser-corpus/edge.json", 1)] {
        let cases = cases(name);
        let wrong: Vec<String> = cases
            .iter()
            .filter_map(|case| {
                let (input, fail) = (text(case, "input"), case["fail"] == true);
                let result = parse(input, &options());
                (result.is_err() != fail).then(|| format!("{input:?}: {:?}", result.map_err(|e| e.message())))
            })
            .collect();
        judge(name, cases.len(), &wrong, known);
    }
}

#[test]
fn error_texts_and_positions_are_upstreams() {
    let cases = cases("parser-corpus/parse.json");
    let failing: Vec<&Value> = cases.iter().filter(|c| c["errors"].get(0).is_some()).collect();
    let (mut texts, mut spans) = (Vec::new(), Vec::new());
    for case in &failing {
        let (input, wanted) = (text(case, "input"), &case["errors"][0]);
        let Err(error) = parse(input, &options()) else { continue };
        if error.text != text(wanted, "msg") {
            texts.push(format!("{input:?}: got {:?}, want {}", error.text, wanted["msg"]));
        }
        let (start, end) = (error.span.start, error.span.end);
        if wanted["start"] != start || wanted["end"] != end {
            spans.push(format!("{input:?}: got {start}..{end}, want {wanted}"));
        }
    }
    judge("error texts", failing.len(), &texts, 0);
    judge("error spans", failing.len(), &spans, 0);
}

#[test]
fn prints_what_upstream_prints() {
    judge_printer("parser-corpus/printer.json", &printer::print);
    judge_printer("parser-corpus/prettier.json", &|expr| pretty(expr, 10));
}

fn judge_printer(name: &str, print: &dyn Fn(&Expr) -> String) {
    let cases = cases(name);
    let differs = |case: &Value| {
        let (input, wanted) = (text(case, "input"), text(case, "out"));
        let got = parse(input, &options()).map_or_else(|e| e.message(), |expr| print(&expr));
        (got != wanted).then(|| format!("{input:?}: got\n{got}\nwant\n{wanted}"))
    };
    let wrong: Vec<String> = cases.iter().filter_map(differs).collect();
    judge(name, cases.len(), &wrong, 0);
}

#[test]
fn every_conformance_query_parses() {
    let Ok(dir) = std::fs::read_dir("/work/shared/promqltest") else {
        eprintln!("skipped: no promqltest files here");
        return;
    };
    let (mut total, mut compiled, mut wrong) = (0, 0, Vec::new());
    for entry in dir.flatten() {
        let content = std::fs::read_to_string(entry.path()).expect("readable");
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
                // What is printed means the same: it parses, and prints the same again.
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
    judge("conformance queries", total, &wrong, 0);
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
    let Ok(dir) = std::fs::read_dir("/work/shared/promqltest") else {
        eprintln!("skipped: no promqltest files here");
        return;
    };
    let (mut total, mut wrong) = (0, Vec::new());
    for entry in dir.flatten() {
        let content = std::fs::read_to_string(entry.path()).expect("readable");
        let mut loading = false;
        for line in content.lines() {
            let body = line.trim();
            if body.is_empty() || body.starts_with('#') || !line.starts_with([' ', '\t']) {
                loading = body.starts_with("load") || (loading && body.starts_with('#'));
                continue;
            }
            // Lines of start timestamps belong to the test language, not to the notation of series.
            if !loading || body.contains("@st") {
                continue;
            }
            total += 1;
            if let Err(error) = parse_series(body) {
                wrong.push(format!("{body:?}: {error}"));
            }
        }
    }
    judge("series descriptions", total, &wrong, 0);
}
