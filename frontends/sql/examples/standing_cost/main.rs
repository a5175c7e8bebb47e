//! Measures the cost of standing statements: as dataflows over a list of a million label pairs,
//! over the current rows of live views, and as live plans beside a rule.
//!
//!     cargo run --release -p perennial-sql --example standing_cost
//!     cargo run --release -p perennial-sql --example standing_cost -- dataflow 100000 200
//!     cargo run --release -p perennial-sql --example standing_cost -- again 1000 100
//!     cargo run --release -p perennial-sql --example standing_cost -- join 20000 1
//!     cargo run --release -p perennial-sql --example standing_cost -- plans
//!
//! `dataflow SERIES VIEWS`: series of ten labels. `again ROWS VIEWS`: statements over a metric with
//! so many series, all of whose values change between two evaluations; `join`: joined with a list
//! of 1,000 rows, and grouped; a third number is that of the evaluations. `plans`: statements that
//! are plans, and the way of a change to a subscriber.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures")]

#[path = "../../tests/support/listed.rs"]
mod listed;
mod plans;

use engine::live::{LiveOptions, LiveRuntime};
use engine::query::{Querier, QueryOptions, StandingAnswer};
use listed::{ListedSeries, engine_over, resident};
use sql::standing::StatementAnswers;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};
use storage::store::{FloatRow, Store, StoreOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const T: TimeMs = 1_700_000_000_000;

fn series(i: usize) -> Labels {
    let mut pairs = vec![
        ("__name__".to_owned(), format!("metric_{}_total", i % 500)),
        ("instance".to_owned(), format!("host-{}.example:9100", i % 2_000)),
        ("job".to_owned(), format!("job-{}", i % 20)),
    ];
    pairs.extend((0..7).map(|n| (format!("label_{n}"), format!("value-{}", i * (n + 1) % 997))));
    pairs.push(("id".to_owned(), i.to_string()));
    Labels::from_pairs(pairs)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| args.get(i).and_then(|text| text.parse().ok()).unwrap_or(default);
    match args.first().map(String::as_str) {
        Some("dataflow") => dataflow(number(1, 100_000), number(2, 200)),
        Some("again") => again(DISTINCT, number(1, 1_000), number(2, 100), number(3, 20)),
        Some("join") => again(JOINED, number(1, 20_000), number(2, 1), number(3, 20)),
        Some("plans") => plans(),
        _ => {
            dataflow(100_000, 1);
            dataflow(100_000, 10);
            dataflow(2_000, 200);
            for statement in [DISTINCT, JOINED] {
                again(statement, 1_000, 100, 20);
                again(statement, 20_000, 1, 20);
            }
            plans();
        }
    }
}

fn plans() {
    plans::asked_once();
    plans::beside_a_rule();
    plans::change_to_subscriber();
}

/// Two groupings over texts; {n} is another number in each view.
const DISTINCT: &str = "SELECT job, count(DISTINCT instance) AS n, max(value) AS most FROM load \
    WHERE value > {n} OR job = 'x' GROUP BY job";
/// Joined with a list, filtered and grouped.
const JOINED: &str = "SELECT t.health, count(*) AS n, max(l.value) AS most FROM load l \
    JOIN targets t USING (job) WHERE l.value > {n} OR t.pool = 'x' GROUP BY t.health";

fn store() -> (tempfile::TempDir, Arc<Store>) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = StoreOptions {
        dir: dir.path().to_owned(),
        wal_sync_interval_ms: 1_000,
        block_range_ms: 7_200_000,
        out_of_order_ms: 60_000,
    };
    let store = Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store").0;
    (dir, store)
}

fn stand(answers: &StatementAnswers, text: &str) -> Box<dyn StandingAnswer> {
    listed::stand(answers, text).expect("it stands")
}

/// Calls all views once. Returns the µs that it took.
fn ask(views: &mut [Box<dyn StandingAnswer>], t: TimeMs) -> f64 {
    let options = QueryOptions::default();
    let began = Instant::now();
    for view in views.iter_mut() {
        view.at(t, &options).expect("an answer");
    }
    began.elapsed().as_secs_f64() * 1e6
}

/// The µs of CPU that this process has taken so far, in steps of 10 ms.
fn process_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // The name, which may have spaces, ends with the last parenthesis.
    let fields = stat.rsplit(')').next().expect("fields").split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    ticks.iter().sum::<f64>() * 1e4
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn dataflow(count: usize, views: usize) {
    let (_dir, store) = store();
    let listed = Arc::new(ListedSeries::new((0..count).map(series)));
    let querier = Arc::new(Querier::new(store, 1));
    let answers = StatementAnswers::new(engine_over(querier.clone(), listed.clone()), querier);
    let before = resident();
    let mut standing = Vec::new();
    let mut t = T;
    let began = Instant::now();
    for n in 0..views {
        standing.push(stand(
            &answers,
            &format!(
                "SELECT metric, name AS label, count(DISTINCT value) AS label_values, count(DISTINCT series) AS series \
                 FROM label_pairs GROUP BY metric, name HAVING count(DISTINCT value) > {n} \
                 ORDER BY label_values DESC LIMIT 20"
            ),
        ));
        if n == 0 {
            ask(&mut standing, t);
            println!(
                "dataflow, {count} series, {} pairs: installed in {:.2} s",
                count * 10,
                began.elapsed().as_secs_f64()
            );
        }
    }
    ask(&mut standing, t);
    println!(
        "  {views} views installed in {:.2} s, {:?}",
        began.elapsed().as_secs_f64(),
        answers.dataflow_stats(Duration::from_secs(60))
    );
    println!("  memory: {:.0} MB", resident() - before);
    let mut changed = Vec::new();
    let mut idle = Vec::new();
    for i in 0..50 {
        t += 1_000;
        listed.add(series(count + i));
        changed.push(ask(&mut standing, t));
        t += 1_000;
        idle.push(ask(&mut standing, t));
    }
    let changed = median(changed);
    println!("  one series more: {changed:.0} µs for all views, {:.1} a view", changed / views as f64);
    println!("  nothing changed: {:.1} µs for all views", median(idle));
    let began = Instant::now();
    drop(standing);
    let left = answers.dataflow_stats(Duration::from_secs(60));
    println!(
        "  dropped in {:.0} ms: {left:?}, memory {:.0} MB more than before",
        began.elapsed().as_secs_f64() * 1e3,
        resident() - before
    );
}

fn again(statement: &str, rows: usize, views: usize, rounds: usize) {
    let (_dir, store) = store();
    let options = LiveOptions { workers: 1, ..LiveOptions::default() };
    let live = LiveRuntime::manual(store.clone(), &options, &Metrics::default()).expect("a runtime");
    let querier = Arc::new(Querier::new(store.clone(), 1));
    let lists: Arc<listed::OtherLists> = Arc::default();
    let target = |i: usize| serde_json::json!({ "pool": "p", "job": format!("job-{i}"), "health": format!("h-{}", i % 50) });
    lists.set("targets", (0..1_000).map(target));
    let engine = listed::engine_with_lists(querier.clone(), store.clone(), lists);
    let answers = StatementAnswers::new(engine, querier).over(live.clone());
    let jobs = if statement == JOINED { 1_000 } else { 50 };
    let labels = |i: usize| {
        Labels::from_pairs([
            ("__name__", "load".to_owned()),
            ("instance", format!("host-{i}")),
            ("job", format!("job-{}", i % jobs)),
        ])
    };
    let slots: Vec<_> = (0..rows).map(|i| store.get_or_create_series(&labels(i))).collect();
    let append = |t: TimeMs, k: usize| {
        let rows: Vec<FloatRow> = slots
            .iter()
            .enumerate()
            .map(|(i, series)| FloatRow { series: *series, t, v: (i * k) as f64 })
            .collect();
        store.append_rows(&rows).expect("appended");
        live.tick(t);
    };
    let mut t = T;
    let mut standing: Vec<_> =
        (0..views).map(|n| stand(&answers, &statement.replace("{n}", &n.to_string()))).collect();
    append(t, 1);
    ask(&mut standing, t);
    append(t + 500, 2);
    ask(&mut standing, t + 500);
    let mut changed = Vec::new();
    let mut idle = Vec::new();
    for k in 0..rounds {
        t += 1_000;
        append(t, k + 3);
        changed.push(ask(&mut standing, t));
        // The lists are read anew, and are as before.
        idle.push(ask(&mut standing, t + 500));
    }
    let changed = median(changed);
    println!("again, {rows} rows, {views} views: {statement}");
    println!("  {changed:.0} µs for all, {:.1} a view", changed / views as f64);
    println!("  {:.2} % of a core at 1 s; nothing changed: {:.1} µs for all", changed / 1e4, median(idle));
    live.stop();
}
