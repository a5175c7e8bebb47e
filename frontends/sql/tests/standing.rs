//! Tests standing statements: their class (live plan or run again), that live plans share all steps
//! with PromQL, and their rows.

mod support;

use engine::live::{LiveOptions, LiveRuntime, ViewError, ViewId, ViewKind, ViewSpec};
use engine::plan::Dialect;
use engine::plan::physical::StoreQueries;
use engine::query::{QueryEngine, QueryOptions, QueryValue};
use engine::types::histogram_column::Sample;
use language::{ShownLabel, ShownLabels, ShownValue};
use sql::SqlError;
use sql::standing::{StandingClass, StatementAnswers};
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::Metrics;
use storage::model::Labels;
use support::{NOW, SqlFixture, open_store, promql_plan, table};

fn spec(name: &str, plan: engine::plan::Plan) -> ViewSpec {
    ViewSpec { name: name.to_owned(), plan, kind: ViewKind::NOW }
}

/// Each pair of PromQL and SQL, both put as standing queries, shares every step.
#[test]
fn pairs_share_every_step() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open_store(dir.path());
    let options = LiveOptions { workers: 1, ..LiveOptions::default() };
    let live = LiveRuntime::manual(store, &options, &Metrics::default()).expect("a runtime");
    let sql = SqlFixture::empty();
    let pairs: Vec<(String, String)> = ["golden.tsv", "more.tsv", "others.tsv", "fresh.tsv"]
        .into_iter()
        .flat_map(table)
        .filter(|row| !row[0].contains("  every "))
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let mut shared = 0;
    let mut not_live = Vec::new();
    for (promql, statement) in &pairs {
        let rows = sql.engine.standing_rows(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
        let wanted = promql_plan(promql);
        assert!(matches!(rows.class, StandingClass::Plan(_)), "{statement}: {:?}", rows.class);
        assert_eq!(rows.plan, wanted, "{statement}");
        // Both are scheduled views then, which have no steps.
        let views = [spec(promql, wanted), spec(statement, rows.plan.clone())];
        if engine::live::check(&views[0], Dialect::default(), StoreQueries::Refused).is_err() {
            not_live.push(promql.as_str());
            continue;
        }
        let ids = views.map(|view| live.install(view).unwrap_or_else(|e| panic!("{statement}: {e}")));
        let described = std::thread::scope(|scope| {
            let asked = scope.spawn(|| live.describe(ViewId(0), 2, Duration::from_secs(60)));
            while !asked.is_finished() {
                live.tick(NOW);
            }
            asked.join().expect("no panic").expect("described")
        });
        assert_eq!(described.views.len(), 2, "{statement}");
        for view in described.views {
            let steps = view.work.expect("a view of the live runtime");
            assert_eq!(steps.local.shared, steps.local.total, "{statement}");
            assert_eq!(steps.gather.shared, steps.gather.total, "{statement}");
            assert!(steps.local.total + steps.gather.total > 0);
        }
        shared += 1;
        for id in ids {
            live.remove(id);
        }
    }
    eprintln!("pairs: {shared} share every step, {} are scheduled: {not_live:?}", not_live.len());
    assert!(shared >= 105, "{shared} of {}", pairs.len());
}

#[test]
fn what_is_no_plan_runs_again() {
    let world = SqlFixture::of_queries(["x", "y", "up"].into_iter());
    for shape in table("refused.tsv") {
        let statement = &shape[1];
        let rows = match world.engine.standing_rows(statement) {
            Ok(rows) => rows,
            Err(e) => {
                // A range of times without a step has no meaning at all.
                assert!(e.to_string().contains("needs a step") && e.hint.is_some(), "{statement}: {e}");
                continue;
            }
        };
        assert!(matches!(&rows.class, StandingClass::RunsAgain(why) if !why.is_empty()), "{statement}");
        let refused = engine::live::check(&spec("x", rows.plan), Dialect::default(), StoreQueries::Allowed);
        assert!(matches!(refused, Err(ViewError::Unsupported(_))), "{statement}: {refused:?}");
    }
    for (statement, why) in [
        ("SELECT value FROM up WHERE ts = '2026-11-25T00:00:00Z'", "times of its own"),
        ("SELECT count(DISTINCT job) FROM up", "DISTINCT"),
    ] {
        let rows = world.engine.standing_rows(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
        assert!(matches!(&rows.class, StandingClass::RunsAgain(text) if text.contains(why)), "{rows:?}");
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

#[test]
fn rows_of_plans_are_those_of_the_statement() {
    let engine = SqlFixture::empty().engine;
    let rows = |text: &str| engine.standing_rows(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let row =
        |text: &str, row: &[(&str, &str)], value: f64| rows(text).row(&labels(row), &Sample::Float(value));
    let up = [("__name__", "up"), ("instance", "a:1"), ("job", "api")];
    assert_eq!(
        row("SELECT job, env, value AS v FROM up", &up, 1.5),
        (r#"{"job":"api","env":"","v":1.5}"#.to_owned(), 1)
    );
    assert_eq!(row("SELECT value, 'x' AS who FROM up", &up, f64::NAN).0, r#"{"value":"NaN","who":"x"}"#);
    assert_eq!(
        row("SELECT labels FROM up", &up, 1.0).0,
        r#"{"labels":"{\"instance\":\"a:1\",\"job\":\"api\"}"}"#
    );
    assert_eq!(
        row("SELECT job, count(*) FROM up GROUP BY job", &[("job", "api")], 3.0).0,
        r#"{"job":"api","count":3}"#
    );
    // The time of the tick is in each message.
    assert_eq!(row("SELECT ts, value FROM up", &up, 1.0).0, r#"{"value":1}"#);
    assert_eq!(rows("SELECT count(*) AS n FROM up").over_nothing(), Some(r#"{"n":0}"#));
    assert_eq!(rows("SELECT sum(value) FROM up").over_nothing(), Some(r#"{"sum":null}"#));
    for text in ["SELECT job, count(*) FROM up GROUP BY job", "SELECT count(*) FROM up HAVING count(*) > 0"] {
        assert_eq!(rows(text).over_nothing(), None, "{text}");
    }
    assert_eq!(rows("SELECT count(*) AS n FROM up HAVING count(*) < 3").over_nothing(), Some(r#"{"n":0}"#));
    let columns: Vec<_> = rows("SELECT job, count(*) AS n, max(value) FROM up GROUP BY job").columns;
    let shown: Vec<_> = columns.iter().map(|column| (column.name.as_str(), column.kind)).collect();
    assert_eq!(shown, [("job", "text"), ("n", "int8"), ("max", "float8")]);
}

/// `HAVING` without groups filters the row over nothing, too: standing and from history.
#[test]
fn having_filters_the_row_over_nothing() {
    let world = SqlFixture::of_queries(["up"].into_iter());
    let rows = |text: &str| world.rows(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let none: Vec<Vec<String>> = Vec::new();
    assert_eq!(rows("SELECT count(*) FROM up WHERE job = 'none'"), [["0"]]);
    assert_eq!(rows("SELECT count(*) FROM up WHERE job = 'none' HAVING count(*) > 0"), none);
    assert_eq!(rows("SELECT sum(value) FROM up WHERE job = 'none' HAVING sum(value) < 5"), none);
    assert_eq!(rows("SELECT count(*) FROM up WHERE job = 'none' HAVING count(*) < 1"), [["0"]]);
    assert_eq!(rows("SELECT count(*) FROM up WHERE job = 'none' HAVING 3 > count(*)"), [["0"]]);
    assert_eq!(rows("SELECT count(*) FROM up HAVING count(*) > 1"), [["3"]]);
}

#[test]
fn series_have_the_labels_that_are_listed() {
    let engine = SqlFixture::empty().engine;
    let series =
        |text: &str, all: bool| engine.standing_series(text, all).unwrap_or_else(|e| panic!("{text}: {e}"));
    let label =
        |name: &str, of: &str| ShownLabel { name: name.to_owned(), value: ShownValue::Label(of.to_owned()) };
    let down = series("SELECT instance AS host, job, value FROM up WHERE value = 0", false);
    assert_eq!(down.plan, promql_plan("up == 0"));
    assert_eq!(down.labels, ShownLabels::Listed(vec![label("host", "instance"), label("job", "job")]));
    assert_eq!(series("SELECT labels, value FROM up WHERE value = 0", true).labels, ShownLabels::All);
    // Recorded series have the labels of the plan, so other labels are no plan.
    let recorded = series("SELECT instance, value FROM up WHERE value = 0", true);
    assert!(matches!(recorded.class, StandingClass::RunsAgain(_)));
    let sums = series("SELECT job, sum(rate(value, '5m')) FROM http_requests_total GROUP BY job", true);
    assert_eq!(sums.plan, promql_plan("sum by (job) (rate(http_requests_total[5m]))"));
    assert!(matches!(
        series("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM up)", false).class,
        StandingClass::Plan(_)
    ));
    let error = |text: &str| engine.standing_series(text, false).expect_err(text);
    let refusal = |text: &str, parts: &[&str]| {
        let shown = error(text).to_string();
        assert!(parts.iter().all(|part| shown.contains(part)), "{text}: {shown}");
    };
    refusal("SELECT count(*) FROM up", &["always holds", "HAVING count(*) > 0"]);
    refusal("SELECT job, min(value), max(value) FROM up GROUP BY job", &["one number, here are 2: min, max"]);
    refusal("SELECT job || 'x', value FROM up", &["cannot be a label", "name it with AS"]);
    refusal("SELECT rat(value, '5m') FROM up", &["line 1, column 8", "^", "or \"rate\"?"]);
    refusal("SELECT job FROM up WHERE", &["Expected"]);
    refusal("SELECT $1 FROM up", &["has no parameters"]);
    refusal("EXPLAIN SELECT 1 FROM up", &["EXPLAIN does not stand"]);
}

/// What runs again: rows as series and as cells, and errors that say what to do.
#[test]
fn statements_are_answered_beside_plans() {
    let world = SqlFixture::of_queries(["up", "http_requests_total"].into_iter());
    let answers = StatementAnswers::new(Arc::new(world.engine), world.querier.clone());
    let ask = |plan: &engine::plan::Plan| answers.instant(plan, NOW, &QueryOptions::default());
    let engine = SqlFixture::empty().engine;
    let vector = |plan: &engine::plan::Plan| match ask(plan).expect("an answer").value {
        QueryValue::Vector(rows) => rows.into_iter().map(|row| (row.labels, row.v)).collect::<Vec<_>>(),
        other => panic!("no vector: {other:?}"),
    };
    let text = "SELECT job, count(DISTINCT instance) AS n FROM up GROUP BY job";
    let series = engine.standing_series(text, false).expect("it stands");
    assert_eq!(vector(&series.plan), [(labels(&[("job", "api")]), 2.0), (labels(&[("job", "web")]), 1.0)]);
    let rows =
        engine.standing_rows("SELECT job, NULL AS nothing, lower('A') AS a FROM up").expect("it stands");
    let shown: Vec<(String, i64)> =
        vector(&rows.plan).iter().map(|(labels, n)| rows.row(labels, &Sample::Float(*n))).collect();
    assert_eq!(
        shown,
        [
            (r#"{"job":"api","nothing":null,"a":"a"}"#.to_owned(), 2),
            (r#"{"job":"web","nothing":null,"a":"a"}"#.to_owned(), 1)
        ]
    );
    let same = engine.standing_series("SELECT job, upper(job) AS j FROM up", false).expect("it stands");
    let error = ask(&same.plan).expect_err("two rows have the same labels").to_string();
    assert!(error.contains("two rows have the same labels"), "{error}");
    // A metric without series is empty, and a plan of PromQL is one as before.
    let none =
        engine.standing_series("SELECT job, count(DISTINCT instance) FROM nothing GROUP BY job", false);
    assert_eq!(vector(&none.expect("it stands").plan), []);
    assert_eq!(vector(&promql_plan("sum(up)")).len(), 1);
    let range = answers.range(&series.plan, NOW - 60_000, NOW, 60_000, &QueryOptions::default());
    assert!(range.is_err_and(|e| e.to_string().contains("no range of times")));
}

/// `EXPLAIN` says how a statement stands.
#[test]
fn explain_says_how_a_statement_stands() -> Result<(), SqlError> {
    let world = SqlFixture::of_queries(["up"].into_iter());
    let explain = |text: &str| world.rows(&format!("EXPLAIN {text}"));
    let has = |rows: Vec<Vec<String>>, line: &str| rows.iter().any(|row| row[0].starts_with(line));
    assert!(has(explain("SELECT job, sum(value) FROM up GROUP BY job")?, "stands: as a live plan"));
    assert!(has(
        explain("SELECT count(DISTINCT job) FROM up")?,
        "stands: runs again after changes: count(DISTINCT"
    ));
    Ok(())
}
