//! Executes a test file: every `clear` begins with an empty store, every evaluation is a query over history.

use super::compare;
use super::modes::may_differ;
use super::report::{Failure, Report, Skip};
use super::script::{Eval, Kind, Text, read};
use crate::promql::series::parse_series;
use crate::promql::{Options, QueryRange, compile};
use engine::plan::{Node, Op, Selector};
use engine::query::{Answer, Querier, QueryOptions, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher};
use storage::store::{Row, Store};
use tempfile::TempDir;

/// How refusals for what is not built yet end, wherever they come from.
const NOT_YET: &str = "not supported yet";
const NATIVE: &str = "native histograms";
const OTHER_MODE: &str = "delayed name removal";
const MINUTE: i64 = 60_000;

/// Runs the test file `text`, which `file` names in the report.
pub fn run(file: &str, text: &str) -> Report {
    let mut report = Report { file: file.to_owned(), ..Report::default() };
    let mut world = None;
    for command in read(text) {
        let line = command.line;
        let fail = |expr: &str, got: String| Failure {
            line,
            expr: expr.to_owned(),
            expected: "a command that can be executed".to_owned(),
            got,
        };
        if matches!(command.kind, Kind::Clear) {
            world = None;
            continue;
        }
        let opened = match world.take() {
            Some(world) => Ok(world),
            None => World::new(),
        };
        let current = match opened {
            Ok(opened) => world.insert(opened),
            Err(why) => {
                report.failed.push(fail("", why));
                return report;
            }
        };
        match command.kind {
            Kind::Clear => {}
            Kind::Bad(text, why) => report.failed.push(fail(&text, why)),
            Kind::Load { step, buckets, series } => {
                if let Err(why) = current.load(step, buckets, &series) {
                    report.failed.push(fail("load", why));
                }
            }
            Kind::Eval(eval) => match current.judge(&eval) {
                Outcome::Passed => report.passed += 1,
                Outcome::Skipped(reason) => report.skipped.push(Skip { line, reason }),
                Outcome::Failed { expected, got } => {
                    report.failed.push(Failure { line, expr: eval.expr, expected, got });
                }
            },
        }
    }
    report
}

/// What came of one evaluation.
enum Outcome {
    Passed,
    Skipped(String),
    Failed { expected: String, got: String },
}

/// The samples between two `clear`.
struct World {
    store: Arc<Store>,
    querier: Querier,
    /// Series that could not be loaded, because they have samples of a kind this build does not know, and why.
    missing: Vec<(Labels, &'static str)>,
    /// Some series has a label for its type or its unit.
    typed: bool,
    _dir: TempDir,
}

impl World {
    fn new() -> Result<World, String> {
        let dir = tempfile::tempdir().map_err(|e| format!("cannot make a temporary directory: {e}"))?;
        let options = storage::store::Options {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 60_000,
            block_range_ms: 7_200_000,
            // Every `load` begins at 0 again.
            out_of_order_ms: i64::MAX / 4,
        };
        let (store, _) =
            Store::open(options, Arc::new(OsDisk), &Metrics::default()).map_err(|e| e.to_string())?;
        Ok(World {
            querier: Querier::new(store.clone(), 1),
            store,
            missing: Vec::new(),
            typed: false,
            _dir: dir,
        })
    }

    fn load(&mut self, step: i64, buckets: bool, series: &[String]) -> Result<(), String> {
        // Of several descriptions of one series the last one counts.
        let mut wanted = BTreeMap::new();
        for line in series {
            if let Some((labels, reason)) = unknown(line)? {
                self.missing.push((labels, reason));
                continue;
            }
            let described = parse_series(line).map_err(|e| format!("{line}: {}", e.message()))?;
            if let (true, Some(base)) = (buckets, described.labels.name().strip_suffix("_bucket")) {
                let mut native = described.labels.to_builder();
                native.set("__name__", base).remove("le");
                self.missing.push((native.build(), NATIVE));
            }
            let typed = |(name, _): (&str, &str)| name == "__type__" || name == "__unit__";
            self.typed |= described.labels.iter().any(typed);
            wanted.insert(described.labels, described.values);
        }
        let mut rows = Vec::new();
        for (labels, values) in wanted {
            let at = self.store.resolve(&labels);
            let values = (0i64..).map(|i| i * step).zip(values);
            rows.extend(values.filter_map(|(t, v)| Some(Row { series: at, t, v: v? })));
        }
        let stored = self.store.append_rows(&rows).map_err(|e| e.to_string())?;
        let lost = rows.len() - stored.stored;
        if lost == 0 { Ok(()) } else { Err(format!("{lost} samples of {} were not stored", rows.len())) }
    }

    fn judge(&self, eval: &Eval) -> Outcome {
        match self.ask(eval) {
            Err(reason) if reason.contains(NOT_YET) => Outcome::Skipped(reason_of(&reason)),
            Err(_) if self.out_of_reach(eval).is_some() => self.skip(eval),
            Ok(_) if self.out_of_reach(eval).is_some() => self.skip(eval),
            outcome => match verdict(eval, outcome) {
                Outcome::Failed { .. } if self.other_mode(eval) => Outcome::Skipped(OTHER_MODE.to_owned()),
                Outcome::Passed => self.judge_range(eval),
                outcome => outcome,
            },
        }
    }

    /// An instant query that passed must also be the middle of a range query.
    fn judge_range(&self, eval: &Eval) -> Outcome {
        let moved = ["start()", "end()", "range()", "step()"].iter().any(|call| eval.expr.contains(call));
        if eval.step.is_some() || eval.wanted.fail.is_some() || moved {
            return Outcome::Passed;
        }
        let Ok(instant) = self.ask(eval) else { return Outcome::Passed };
        if matches!(instant.value, Value::Text(..) | Value::Matrix(_)) {
            return Outcome::Passed;
        }
        let (start, end) = (eval.start - MINUTE, eval.start + MINUTE);
        let around = Eval { start, end, step: Some(MINUTE), ..eval.clone() };
        match self.ask(&around) {
            Ok(range) if compare::agrees(&instant, &range, eval.start) => Outcome::Passed,
            Ok(range) => Outcome::Failed {
                expected: format!("in a range query, too:\n{}", compare::print(&instant)),
                got: compare::print(&range),
            },
            // A neighbour of the time asked for may well have no answer.
            Err(_) => Outcome::Passed,
        }
    }

    /// Whether Prometheus in its default mode may answer otherwise than the file says.
    fn other_mode(&self, eval: &Eval) -> bool {
        compile(&eval.expr, &language(eval)).is_ok_and(|plan| may_differ(&plan, self.typed))
    }

    fn skip(&self, eval: &Eval) -> Outcome {
        Outcome::Skipped(self.out_of_reach(eval).unwrap_or(NATIVE).to_owned())
    }

    /// Why the query or its answer is out of reach: it may read a series that could not be loaded.
    fn out_of_reach(&self, eval: &Eval) -> Option<&'static str> {
        if eval.wanted.lines.iter().any(|line| line.contains("{{")) {
            return Some(NATIVE);
        }
        let plan = compile(&eval.expr, &language(eval)).ok()?;
        let mut selectors = Vec::new();
        selectors_of(&plan, &mut selectors);
        let reads = |labels: &Labels| {
            selectors.iter().any(|s| s.matchers.iter().all(|m: &Matcher| m.matches_labels(labels)))
        };
        self.missing.iter().find(|(labels, _)| reads(labels)).map(|(_, reason)| *reason)
    }

    fn ask(&self, eval: &Eval) -> Result<Answer, String> {
        let plan = compile(&eval.expr, &language(eval)).map_err(|e| e.message())?;
        let options = QueryOptions::default();
        let answer = match eval.step {
            None => self.querier.instant(&plan, eval.start, &options),
            Some(step) => self.querier.range(&plan, eval.start, eval.end, step, &options),
        };
        answer.map_err(|e| e.to_string())
    }
}

fn language(eval: &Eval) -> Options {
    let range = QueryRange { start: eval.start, end: eval.end, step: eval.step.unwrap_or(0) };
    Options { range: Some(range), ..Options::all() }
}

/// The labels of a series that cannot be loaded, and why.
fn unknown(line: &str) -> Result<Option<(Labels, &'static str)>, String> {
    let reason = match line {
        _ if line.contains("}@st") || line.contains("@st ") => "start timestamps",
        _ if line.contains("{{") => NATIVE,
        _ => return Ok(None),
    };
    // The labels end before the first histogram, the mark, or the values.
    let cut = line.find("@st").or_else(|| line.find("{{")).unwrap_or(line.len());
    let metric = line[..cut].trim_end();
    let metric = if metric.contains('}') {
        &metric[..=metric.rfind('}').unwrap_or(0)]
    } else {
        metric.split_whitespace().next().unwrap_or(metric)
    };
    let described = parse_series(metric).map_err(|e| format!("{line}: {}", e.message()))?;
    Ok(Some((described.labels, reason)))
}

fn selectors_of<'a>(node: &'a Node, found: &mut Vec<&'a Selector>) {
    if let Op::Instant(selector) | Op::Range { selector, .. } = &node.op {
        found.push(selector);
    }
    node.inputs().into_iter().for_each(|input| selectors_of(input, found));
}

/// A refusal without its position.
fn reason_of(text: &str) -> String {
    text.split("error: ").last().unwrap_or(text).to_owned()
}

fn verdict(eval: &Eval, outcome: Result<Answer, String>) -> Outcome {
    let wanted = &eval.wanted;
    let failed = |expected: String, got: String| Outcome::Failed { expected, got };
    let answer = match (&wanted.fail, outcome) {
        (Some(text), Err(error)) => {
            return match text {
                Text::Any => Outcome::Passed,
                Text::Exactly(message) if *message == error => Outcome::Passed,
                Text::Matching(pattern) if pattern.is_match(&error) => Outcome::Passed,
                Text::Exactly(message) => failed(format!("error: {message}"), format!("error: {error}")),
                Text::Matching(pattern) => failed(format!("error: /{pattern}/"), format!("error: {error}")),
            };
        }
        (Some(text), Ok(answer)) => return failed(format!("an error: {text:?}"), compare::print(&answer)),
        (None, Err(error)) => return failed(expected(eval), format!("error: {error}")),
        (None, Ok(answer)) => answer,
    };
    match compare::fits(eval, &answer) {
        Err(why) => failed("an expectation that can be read".to_owned(), why),
        Ok(false) => failed(expected(eval), compare::print(&answer)),
        Ok(true)
            if (wanted.warn && answer.warnings.is_empty()) || (wanted.info && answer.infos.is_empty()) =>
        {
            Outcome::Skipped("annotations (the values are as expected)".to_owned())
        }
        Ok(true) => Outcome::Passed,
    }
}

fn expected(eval: &Eval) -> String {
    match &eval.wanted.string {
        Some(text) => format!("{text:?}"),
        None if eval.wanted.lines.is_empty() => "nothing".to_owned(),
        None => eval.wanted.lines.join("\n"),
    }
}
