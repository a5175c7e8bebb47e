//! Tests the limits of dataflows (`docs/limits.md`): when one is exceeded, that statement gets the
//! error, and all other statements go on.

#[path = "support/listed.rs"]
mod listed;
mod support;

use engine::query::{Querier, QueryError, QueryOptions, StandingAnswer};
use listed::{ListedSeries, engine_over, stand};
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
        let engine = engine_over(querier.clone(), series.clone());
        let answers = StatementAnswers::new(engine, querier).with_limits(limits);
        World { answers, series, _dir: dir }
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
