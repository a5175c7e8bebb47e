//! Runs the differential test: rounds of random series and queries, threads that send them, totals.

use crate::answer::{Answer, Order, Tally, When, compare, order};
use crate::expr::{Dialect, Expr};
use crate::random::Random;
use crate::shrink::{Case, Servers, blame};
use crate::support::server::Server;
use crate::{generator, rules, series};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The number of queries per set of series; then both servers start with another set.
const ROUND: u64 = 2_500;

/// The number of threads that send queries.
const THREADS: usize = 4;

/// How often a query is repeated to check whether its result changes.
const REPEATED: usize = 20;

/// The number of unexplained differences that are printed in full.
const PRINTED: usize = 200;

/// The largest share of queries, in percent, that one rule may explain.
const EXCUSED_PERCENT: f64 = 2.0;

/// The totals of a run.
#[derive(Debug, Default)]
struct Totals {
    queries: u64,
    /// The number of queries with equal responses.
    equal: u64,
    /// The number of these whose response is an error.
    failing: u64,
    /// The number of these whose result is empty.
    empty: u64,
    tally: Tally,
    /// The number of explained queries, by rule.
    excused: BTreeMap<&'static str, u64>,
    /// The reports of unexplained differences.
    unexplained: Vec<String>,
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap_or_else(|e| panic!("{name}={v}: {e}")))
}

#[test]
fn random_queries_are_answered_as_by_prometheus() {
    let seed = variable("PERENNIAL_DIFF_SEED", 1);
    let queries = variable("PERENNIAL_DIFF_QUERIES", 2_000);
    let totals = Mutex::new(Totals::default());
    let began = Instant::now();
    for round in 0..queries.div_ceil(ROUND) {
        let count = ROUND.min(queries - round * ROUND);
        run_round(seed, round, count, &totals);
    }
    let totals = totals.into_inner().expect("not poisoned");
    eprintln!("seed {seed}, {:.0} s: {}", began.elapsed().as_secs_f64(), describe(&totals));
    for text in totals.unexplained.iter().take(PRINTED) {
        eprintln!("{text}");
    }
    assert!(totals.unexplained.is_empty(), "{} differences are not explained", totals.unexplained.len());
    for (rule, count) in &totals.excused {
        let percent = 100.0 * *count as f64 / totals.queries as f64;
        assert!(percent <= EXCUSED_PERCENT || *count < 20, "{rule} excuses {percent:.1} % of the queries");
    }
}

fn describe(totals: &Totals) -> String {
    let Totals { queries, equal, failing, empty, tally, excused, unexplained } = totals;
    format!(
        "{queries} queries, {equal} equal ({failing} of them errors, {empty} empty), {} explained, {} not; \
         {} values compared, {} equal in all bits\nexplained by {excused:?}",
        excused.values().sum::<u64>(),
        unexplained.len(),
        tally.values,
        tally.exact,
    )
}

/// Both servers, with the series of the round.
fn servers(seed: u64, round: u64) -> (Server, Server) {
    let ours =
        Server::start_with("", &[], &["--enable-feature=promql-experimental-functions,native-histograms"]);
    // The lookback of 2.42 includes its left end; with whole milliseconds this lookback is the
    // same.
    let flags = ["--query.lookback-delta=4m59s999ms", "--enable-feature=native-histograms"];
    let theirs = Server::prometheus_with("", &flags);
    let all = series::series(&mut Random::new(&[seed, round]));
    series::write(ours.port, &all);
    series::write(theirs.port, &all);
    (ours, theirs)
}

fn run_round(seed: u64, round: u64, count: u64, totals: &Mutex<Totals>) {
    let (ours, theirs) = servers(seed, round);
    let ports = Servers { ours: ours.port, theirs: theirs.port };
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let mut random = Random::new(&[seed, round, index + 1]);
                    let (expr, when) = generator::query(&mut random);
                    one(ports, &expr, when, &format!("seed {seed} round {round} query {index}"), totals);
                }
            });
        }
    });
}

/// Sends one query to both servers and counts the outcome.
fn one(servers: Servers, expr: &Expr, when: When, name: &str, totals: &Mutex<Totals>) {
    let (ours, theirs) = servers.ask(expr, when);
    let verdict = compare(&ours, &theirs, order(expr, when));
    let judged = verdict.as_ref().err().map(|_| judge(servers, expr, when, name, (&ours, &theirs)));
    let mut totals = totals.lock().expect("not poisoned");
    totals.queries += 1;
    match (verdict, judged) {
        (Ok(tally), _) => {
            totals.equal += 1;
            totals.failing += u64::from(ours.failed());
            totals.empty += u64::from(!ours.failed() && ours.rows().is_empty());
            totals.tally.values += tally.values;
            totals.tally.exact += tally.exact;
        }
        (_, Some(Ok(rules))) => {
            for rule in rules {
                *totals.excused.entry(rule).or_default() += 1;
            }
        }
        (_, Some(Err(text))) => totals.unexplained.push(text),
        (Err(_), None) => unreachable!("judged above"),
    }
}

/// The rules that explain a difference, or a report of what is unexplained.
fn judge(
    servers: Servers,
    expr: &Expr,
    when: When,
    name: &str,
    (ours, theirs): (&Answer, &Answer),
) -> Result<Vec<&'static str>, String> {
    let cases = blame(servers, expr, when);
    let mut found: Vec<&str> = Vec::new();
    let unexplained = cases.iter().find(|case| match rules::explain(case, servers) {
        Some(rule) => {
            found.push(rule);
            false
        }
        None => true,
    });
    if cases.is_empty() || unexplained.is_some() {
        let changes = unstable(servers, expr, when, ours, theirs);
        if changes != (false, true) {
            let what = unexplained.map_or_else(|| format!("  changes (ours, theirs): {changes:?}"), report);
            return Err(format!("--- {name}, {when:?}\n{}\n{what}", spelt(expr)));
        }
        found = vec![rules::UNSTABLE];
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Whether our result, and theirs, changes when the query is repeated.
fn unstable(servers: Servers, expr: &Expr, when: When, ours: &Answer, theirs: &Answer) -> (bool, bool) {
    let again: Vec<(Answer, Answer)> = (0..REPEATED).map(|_| servers.ask(expr, when)).collect();
    let differs = |a: &Answer, b: &Answer| compare(a, b, Order::Any).is_err();
    (again.iter().any(|(a, _)| differs(a, ours)), again.iter().any(|(_, b)| differs(b, theirs)))
}

fn spelt(expr: &Expr) -> String {
    expr.spell(Dialect::New)
}

fn report(case: &Case) -> String {
    let mut ours = format!("{:?}", case.ours.result);
    let mut theirs = format!("{:?}", case.theirs.result);
    for text in [&mut ours, &mut theirs] {
        if text.len() > 1500 {
            *text = text.chars().take(1500).collect::<String>() + "…";
        }
    }
    format!(
        "  smallest part: {}\n  older spelling: {}\n  at: {:?}{}\n  what differs: {}\n  ours:   {ours}\n  theirs: {theirs}",
        case.expr.spell(Dialect::New),
        case.expr.spell(Dialect::Old),
        case.when,
        if case.rounded { ", its parts agree but for rounding" } else { "" },
        case.complaint,
    )
}

#[test]
fn our_answers_do_not_change_from_one_time_to_the_next() {
    let ours = Server::start("", &[]);
    series::write(ours.port, &series::series(&mut Random::new(&[1, 0])));
    let when = When::Range(series::START + 1_200_000, series::START + 1_800_000, 30_000);
    for query in [
        "bottomk(5, clamp_max(latency_seconds_count, 60))",
        "topk(3, up)",
        "topk by (job) (1, sum by (job, code) (requests_total * 0))",
    ] {
        let ask = || crate::answer::ask(ours.port, query, when);
        let first = ask();
        for _ in 0..50 {
            assert_eq!(format!("{:?}", ask()), format!("{first:?}"), "{query}");
        }
    }
}
