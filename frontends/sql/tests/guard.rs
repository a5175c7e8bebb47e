//! Tests that harmful statements are refused at once, with an error that says what to do, and that
//! ordinary ones pass.

mod support;

use sql::guard::check_text;
use sql::{SqlErrorKind, limits};
use std::time::{Duration, Instant};
use support::SqlFixture;

/// What a refusal may take.
const MOST: Duration = Duration::from_millis(10);

/// The shortest of some tries, so that what else the machine does is not counted.
fn quickest<T>(work: impl Fn() -> T) -> (T, Duration) {
    let timed = || {
        let began = Instant::now();
        let result = work();
        (result, began.elapsed())
    };
    let first = timed();
    (0..9).map(|_| timed()).fold(first, |best, next| if next.1 < best.1 { next } else { best })
}

fn chain(n: usize, term: &str, op: &str) -> String {
    format!("SELECT {}", vec![term; n].join(op))
}

/// Statements that would end the process, or take its memory or its files.
fn bad() -> Vec<(&'static str, String)> {
    vec![
        ("a chain of +", chain(3_000, "1", "+")),
        ("a chain of OR", chain(3_000, "true", " OR ")),
        ("a chain of ||", chain(3_000, "'x'", "||")),
        ("casts of casts", format!("SELECT 1{}", "::int".repeat(3_000))),
        ("IS NULL of IS NULL", format!("SELECT 1{}", " IS NULL".repeat(3_000))),
        ("NOT of NOT", format!("SELECT {}true", "NOT ".repeat(3_000))),
        ("subscripts", format!("SELECT labels{}", "['x']".repeat(3_000))),
        ("a chain of UNION ALL", vec!["SELECT 1"; 3_000].join(" UNION ALL ")),
        ("joins", format!("SELECT 1 FROM up{}", " JOIN up USING (job)".repeat(1_000))),
        ("parentheses", format!("SELECT {}1{}", "(".repeat(3_000), ")".repeat(3_000))),
        ("a long text", format!("SELECT '{}'", "x".repeat(limits::TEXT_BYTES))),
        ("many tokens", format!("SELECT {}", vec!["1"; limits::TOKENS].join(","))),
        ("named queries", format!("WITH {} SELECT 1", vec!["x AS (SELECT 1)"; 100].join(","))),
        ("two statements", "SELECT 1; SELECT 2".to_owned()),
        ("nothing", String::new()),
        ("only a comment", "-- SELECT 1".to_owned()),
        ("an open quote", "SELECT 'x".to_owned()),
        ("COPY", "COPY (SELECT 1) TO '/tmp/x.csv'".to_owned()),
        ("an external table", "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'".to_owned()),
        ("SELECT INTO", "SELECT 1 INTO x FROM up".to_owned()),
        ("DROP", "DROP TABLE up".to_owned()),
        ("SET", "SET datafusion.execution.batch_size = 1".to_owned()),
        ("EXPLAIN of COPY", "EXPLAIN COPY (SELECT 1) TO '/tmp/x.csv'".to_owned()),
        ("INSERT", "INSERT INTO up VALUES (1)".to_owned()),
    ]
}

#[test]
fn bad_texts_are_refused_at_once() {
    for (what, text) in bad() {
        let (refused, took) = quickest(|| check_text(&text));
        let Err(error) = refused else { panic!("{what} passed") };
        assert!(took <= MOST, "{what}: {took:?}");
        assert_eq!(error.kind, SqlErrorKind::BadData, "{what}");
        let is_tokenizer = what == "an open quote";
        assert!(is_tokenizer || error.hint.is_some(), "{what}: {error}");
    }
}

/// What the tokens do not show is refused by the planner's lists.
#[test]
fn functions_and_files_that_are_not_on_the_lists() {
    let world = SqlFixture::of_queries(["up"].into_iter());
    world.rows("SELECT 1").expect("the first statement");
    for text in [
        "SELECT repeat('x', 1500000000)",
        "SELECT lpad('x', 1500000000)",
        "SELECT range(1, 200000000)",
        "SELECT array_repeat(1, 200000000)",
        "SELECT array_agg(instance) FROM up",
        "SELECT * FROM generate_series(1, 1000000000000)",
        "SELECT random()",
        "SELECT pg_sleep(100)",
    ] {
        let (answer, took) = quickest(|| world.rows(text));
        let error = answer.expect_err(text);
        assert!(took <= MOST, "{text}: {took:?}");
        assert!(error.hint.is_some() && error.text.contains("function"), "{text}: {error}");
    }
    for text in
        ["SELECT * FROM '/etc/passwd'", "SELECT * FROM \"/etc/passwd\"", "SELECT * FROM pg_catalog.pg_class"]
    {
        let error = world.rows(text).expect_err(text);
        assert!(!error.to_string().contains("root:"), "{text}: {error}");
    }
    let recursive = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT * FROM t";
    world.rows(recursive).expect_err("endless");
}

/// The longest chains that pass are planned on the thread of the engine.
#[test]
fn what_passes_is_planned() {
    let world = SqlFixture::of_queries(["up"].into_iter());
    for text in [
        chain(190, "1", "+"),
        chain(190, "'x'", "||"),
        format!("SELECT * FROM up WHERE {}", vec!["job = 'x'"; 95].join(" OR ")),
        vec!["SELECT 1"; 32].join(" UNION ALL "),
        format!("SELECT * FROM up WHERE job IN ({})", vec!["'x'"; 2_000].join(",")),
        format!("SELECT {}1{}", "(".repeat(20), ")".repeat(20)),
    ] {
        world.rows(&text).unwrap_or_else(|e| panic!("{}: {e}", &text[..60]));
    }
}

/// An error names line and column, and shows the place.
#[test]
fn errors_show_their_place() {
    let world = SqlFixture::of_queries(["http_requests_total"].into_iter());
    let error =
        world.rows("SELECT job,\n  rat(value, '5m')\nFROM http_requests_total").expect_err("no function rat");
    assert_eq!(error.place, Some((2, 3)));
    assert_eq!(error.excerpt.as_deref(), Some("  rat(value, '5m')\n  ^"));
    assert_eq!(error.hint.as_deref().map(|hint| hint.contains("\"rate\"")), Some(true), "{error}");
    let error = world.rows("SELECT * FROM http_request_total").expect_err("no metric");
    assert!(error.to_string().contains("did you mean \"http_requests_total\""), "{error}");
    let error = world.rows("SELECT job FROM http_requests_total WHERE").expect_err("no condition");
    assert!(error.text.to_lowercase().contains("expected"), "{error}");
    let error = world.rows("SELECT * FROM samples.http_requests_total").expect_err("no time");
    assert!(error.hint.is_some_and(|hint| hint.contains("now()")));
    let error = world
        .rows("SELECT * FROM http_requests_total WHERE ts > now() - interval '1 hour'")
        .expect_err("no step");
    assert!(error.hint.is_some_and(|hint| hint.contains("date_bin")));
}
