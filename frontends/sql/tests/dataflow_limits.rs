//! The limits of statements that stand as dataflows: each is passed, the statement gets the error
//! that docs/limits.md has, and the other statements go on. And that nothing is run where nothing
//! changes, and nothing kept of what was replaced.

#[path = "support/listed.rs"]
mod listed;
mod support;

use engine::query::{Querier, QueryError, QueryOptions, StandingAnswer};
use listed::{ListedSeries, OtherLists, engine_with_lists, stand};
use serde_json::json;
use sql::DataflowStats;
use sql::limits::{DataflowLimits, STANDING_ROWS};
use sql::standing::StatementAnswers;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::model::{Labels, TimeMs};

const T: TimeMs = 1_700_000_000_000;
const PAIRS: &str =
    "SELECT metric, name, value, count(DISTINCT series) AS n FROM label_pairs GROUP BY metric, name, value";
const METRICS: &str = "SELECT metric, count(DISTINCT series) AS n FROM series GROUP BY metric";

struct World {
    answers: StatementAnswers,
    series: Arc<ListedSeries>,
    lists: Arc<OtherLists>,
    _dir: tempfile::TempDir,
}

/// Three labels beside the name.
fn series(i: usize) -> Labels {
    let pairs =
        [("__name__", format!("m{}", i % 3)), ("a", i.to_string()), ("b", "x".into()), ("c", "y".into())];
    Labels::from_pairs(pairs)
}

impl World {
    fn new(count: usize, limits: DataflowLimits) -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let querier = Arc::new(Querier::new(support::open_store(dir.path()), 1));
        let series = Arc::new(ListedSeries::new((0..count).map(series)));
        let lists: Arc<OtherLists> = Arc::default();
        let engine = engine_with_lists(querier.clone(), series.clone(), lists.clone());
        let answers = StatementAnswers::new(engine, querier).with_limits(limits);
        World { answers, series, lists, _dir: dir }
    }

    fn stand(&self, text: &str) -> Result<Box<dyn StandingAnswer>, QueryError> {
        stand(&self.answers, text)
    }

    fn view(&self, text: &str) -> Box<dyn StandingAnswer> {
        self.stand(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn stats(&self) -> DataflowStats {
        self.answers.dataflow_stats(Duration::from_secs(60)).expect("the dataflows answer")
    }
}

/// Whether the answer of a view at `t` has changed.
fn ask(view: &mut Box<dyn StandingAnswer>, t: TimeMs) -> Result<bool, QueryError> {
    view.at(t, &QueryOptions::default()).map(|answer| answer.is_some())
}

fn limit_reached(result: Result<bool, QueryError>, text: &str) {
    match result {
        Err(QueryError::LimitReached(found)) => assert!(found.starts_with(text), "{found}"),
        other => panic!("{other:?} instead of: {text}"),
    }
}

#[test]
fn as_many_stand_as_may() {
    let world = World::new(10, DataflowLimits { views: 2, ..DataflowLimits::default() });
    let first = world.view(METRICS);
    let second = world.view(METRICS);
    let error = world.stand(PAIRS).map(|_| true);
    limit_reached(
        error,
        "at most 2 statements stand as dataflows\nhint: end other subscriptions or views over lists of the server",
    );
    drop(first);
    let third = world.stand(PAIRS);
    assert!(third.is_ok());
    drop((second, third));
}

#[test]
fn rows_of_relations() {
    let text = "dataflows would keep more than 100 rows of relations\nhint: filter or group more";
    let world = World::new(20, DataflowLimits { rows: 100, ..DataflowLimits::default() });
    let mut small = world.view(METRICS);
    assert_eq!(ask(&mut small, T), Ok(true));
    let mut pairs = world.view(PAIRS);
    assert_eq!(ask(&mut pairs, T), Ok(true));
    assert_eq!(world.stats().rows, 20 + 60);
    // Seven more series have 7 rows in one relation and 21 in the other: only one of them has room.
    for i in 20..27 {
        world.series.add(series(i));
    }
    // The list says only once what was added.
    assert_eq!(ask(&mut small, T + 1_000), Ok(false));
    limit_reached(ask(&mut pairs, T + 1_000), text);
    limit_reached(ask(&mut pairs, T + 2_000), text);
    assert_eq!(world.stats().rows, 20, "what failed keeps nothing");
    // What is too large from the start.
    let world = World::new(34, DataflowLimits { rows: 100, ..DataflowLimits::default() });
    let mut pairs = world.view(PAIRS);
    limit_reached(ask(&mut pairs, T), text);
    let mut small = world.view(METRICS);
    assert_eq!(ask(&mut small, T), Ok(true));
}

#[test]
fn bytes_of_all_that_is_kept() {
    let world = World::new(100, DataflowLimits { bytes: 40_000, ..DataflowLimits::default() });
    let mut small = world.view(METRICS);
    assert_eq!(ask(&mut small, T), Ok(true));
    let kept = world.stats().bytes;
    assert!(kept > 0 && kept < 40_000, "{kept}");
    let mut pairs = world.view(PAIRS);
    let text = "dataflows would keep more than 40000 bytes\nhint: filter or group more, or end other statements that stand";
    limit_reached(ask(&mut pairs, T), text);
    assert_eq!(world.stats().bytes, kept, "what failed keeps nothing");
    world.series.add(series(100));
    assert_eq!(ask(&mut small, T + 1_000), Ok(true), "the others go on");
}

#[test]
fn rows_that_a_join_makes() {
    let world = World::new(60, DataflowLimits { waiting_rows: 1_000, ..DataflowLimits::default() });
    let mut small = world.view(METRICS);
    assert_eq!(ask(&mut small, T), Ok(true));
    let mut joined = world
        .view("SELECT a.value, b.value AS other FROM label_pairs a JOIN label_pairs b ON a.name = b.name");
    limit_reached(ask(&mut joined, T), "a join of a dataflow makes more than 1000 rows at once");
    world.series.add(series(60));
    assert_eq!(ask(&mut small, T + 1_000), Ok(true), "the others go on");
}

#[test]
fn rows_of_one_statement() {
    let text =
        format!("a statement that stands has at most {STANDING_ROWS} rows\nhint: filter or group more");
    for count in [STANDING_ROWS + 1, 2 * STANDING_ROWS + 1] {
        let world = World::new(count, DataflowLimits::default());
        let mut all = world.view("SELECT series FROM series");
        limit_reached(ask(&mut all, T), &text);
        let mut few = world.view(METRICS);
        assert_eq!(ask(&mut few, T), Ok(true));
    }
}

#[test]
fn the_time_that_it_may_take() {
    let world = World::new(100, DataflowLimits::default());
    let mut pairs = world.view(PAIRS);
    let none = QueryOptions { timeout: Duration::ZERO, ..QueryOptions::default() };
    let error = pairs.at(T, &none).map(|answer| answer.is_some());
    let text = "the rows of a relation could not be read in time";
    assert!(matches!(&error, Err(QueryError::Timeout(found)) if found == text), "{error:?}");
    let mut small = world.view(METRICS);
    assert_eq!(ask(&mut small, T), Ok(true), "the others go on");
    // It rests before it is built again, so that it does not take the time of the others.
    let end = Instant::now() + Duration::from_secs(60);
    while ask(&mut pairs, T) != Ok(true) {
        assert!(Instant::now() < end, "it is never built");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Steps are counted, not time: of those over which nothing happens none is run, however many there
/// are.
#[test]
fn what_does_not_change_is_not_run() {
    const VIEWS: usize = 60;
    let world = World::new(50, DataflowLimits::default());
    world.lists.set("alerts", [json!({ "alertname": "Down", "labels": { "job": "x" } })]);
    let over_series =
        |n| format!("SELECT metric, count(*) AS n FROM series GROUP BY metric HAVING count(*) > {n}");
    let mut views: Vec<_> = (0..VIEWS).map(|n| world.view(&over_series(n))).collect();
    views.push(world.view("SELECT alertname, count(*) AS n FROM alerts GROUP BY alertname"));
    let changed = |views: &mut Vec<Box<dyn StandingAnswer>>, seconds: i64| {
        let asked = views.iter_mut().map(|view| ask(view, T + seconds * 1_000));
        asked.filter(|asked| *asked == Ok(true)).count()
    };
    assert_eq!(changed(&mut views, 0), VIEWS + 1);
    let begin = world.answers.dataflow_work();
    assert!(begin.steps > 0);
    for seconds in 1..=20 {
        assert_eq!(changed(&mut views, seconds), 0);
    }
    let idle = world.answers.dataflow_work();
    assert_eq!(idle.steps, begin.steps);
    assert_eq!(idle.looks, begin.looks + 20, "one look for all of them");
    // What changes in one list runs nothing of the other one: here groups, and the one view of
    // them.
    world.lists.set("alerts", ["Down", "Slow"].map(|name| json!({ "alertname": name, "labels": {} })));
    assert_eq!(changed(&mut views, 21), 1);
    let of_alerts = world.answers.dataflow_work();
    assert_eq!(of_alerts.steps, idle.steps + 2);
    // Groups that all views of series have in common are computed once, then each view looks at
    // them.
    world.series.add(series(50));
    changed(&mut views, 22);
    assert_eq!(world.answers.dataflow_work().steps, of_alerts.steps + 1 + VIEWS as u64);
    // A join has operators to run: still nothing while nothing changes.
    views.push(world.view(
        "SELECT p.metric, count(*) AS n FROM label_pairs p JOIN alerts a ON p.value = a.job GROUP BY p.metric",
    ));
    changed(&mut views, 23);
    let begin = world.answers.dataflow_work();
    for seconds in 24..=40 {
        assert_eq!(changed(&mut views, seconds), 0);
    }
    assert_eq!(world.answers.dataflow_work().steps, begin.steps);
    world.lists.set("alerts", [json!({ "alertname": "Down", "labels": { "job": "y" } })]);
    assert_eq!(changed(&mut views, 41), 2);
    let steps = world.answers.dataflow_work().steps - begin.steps;
    assert!(steps < VIEWS as u64, "{steps} steps: views of series were run, too");
}

/// Without compaction each version of a row would stay in the sides of joins.
#[test]
fn replaced_rows_do_not_stay() {
    const ALERTS: usize = 50;
    let world = World::new(0, DataflowLimits::default());
    world.lists.set("targets", [json!({ "job": "x", "instance": "i" })]);
    let mut joined =
        world.view("SELECT a.alertname, a.value, t.instance FROM alerts a JOIN targets t USING (job)");
    let mut most = 0;
    for round in 0..200 {
        let alert = |i: usize| {
            let value = (round * ALERTS + i) as f64;
            json!({ "alertname": format!("a{i}"), "value": value, "labels": { "job": "x" } })
        };
        world.lists.set("alerts", (0..ALERTS).map(alert));
        assert_eq!(ask(&mut joined, T + round as i64 * 1_000), Ok(true));
        most = most.max(world.stats().arranged);
    }
    assert_eq!(world.stats().arrangements, 2);
    assert!(most >= ALERTS, "{most} are too few to see anything");
    assert!(most <= 10 * ALERTS, "{most} updates are kept of {ALERTS} rows");
}
