//! Parameters of statements (`$1`): the types that drivers encode their values by, and statements
//! with values. PostgreSQL 15 describes the same types, but for literals: a number without a point
//! is `int8` here, and one with a point `float8`.

mod support;

use datafusion::arrow::datatypes::DataType;
use engine::query::QueryOptions;
use serde_json::{Value, json};
use sql::output::type_name;
use sql::{SqlErrorKind, SqlRequest, limits};
use support::{NOW, SqlFixture};

fn world() -> SqlFixture {
    SqlFixture::of_queries(["up"].into_iter())
}

/// A statement, and the types of its parameters and columns.
const DESCRIBED: &[(&str, &str, &str)] = &[
    ("SELECT $1::int8", "int8", "int8 int8"),
    ("SELECT $1::text", "text", "text text"),
    ("SELECT $1", "-", "?column? text"),
    (
        "SELECT $1::timestamptz AS t, $2::float8 AS f, $3::bool AS b, $4::date AS d",
        "timestamptz float8 bool date",
        "t timestamptz, f float8, b bool, d date",
    ),
    ("SELECT job FROM up LIMIT $1", "int8", "job text"),
    ("SELECT job FROM up LIMIT $1 OFFSET $2", "int8 int8", "job text"),
    ("SELECT job FROM up LIMIT '1'", "", "job text"),
    ("SELECT job FROM up WHERE job = ANY($1)", "_text", "job text"),
    ("SELECT job FROM up WHERE value = ANY($1)", "_float8", "job text"),
    ("SELECT job FROM up WHERE job <> ALL($1)", "_text", "job text"),
    ("SELECT job FROM up WHERE value = ANY($1::int8[])", "_int8", "job text"),
    ("SELECT job FROM up WHERE $1::text[] IS NULL OR job = ANY($1::text[])", "_text", "job text"),
    ("SELECT job FROM up WHERE $1 = ANY(ARRAY[1, 2])", "int8", "job text"),
    ("SELECT job FROM up WHERE job = $1 AND value > $2", "text float8", "job text"),
    ("SELECT job FROM up WHERE ts > $1", "timestamptz", "job text"),
    ("SELECT job FROM up WHERE ts BETWEEN $1 AND $2", "timestamptz timestamptz", "job text"),
    ("SELECT job FROM up WHERE ts > now() - $1::interval", "interval", "job text"),
    ("SELECT job FROM up WHERE now() + $1 > now()", "interval", "job text"),
    ("SELECT job FROM up WHERE job IN ($1, $2) AND job LIKE $3", "text text text", "job text"),
    ("SELECT job FROM up WHERE value BETWEEN $1 AND $2", "float8 float8", "job text"),
    ("SELECT job FROM up WHERE $1 OR NOT $2", "bool bool", "job text"),
    ("SELECT job FROM up WHERE $1", "bool", "job text"),
    ("SELECT $1 + 1 AS a, 1.5 * $2 AS b", "int8 float8", "a int8, b float8"),
    ("SELECT job || $1 AS a FROM up", "text", "a text"),
    (
        "SELECT coalesce(value, $1), greatest(value, $2) FROM up",
        "float8 float8",
        "coalesce float8, greatest float8",
    ),
    ("SELECT CASE WHEN job = $1 THEN $2 ELSE value END FROM up", "text float8", "case float8"),
    (
        "SELECT lower($1), abs($2), left(job, $3) FROM up",
        "- float8 int8",
        "lower text, abs float8, left text",
    ),
    ("SELECT sum(value) FILTER (WHERE job = $1) FROM up HAVING count(*) > $2", "text int8", "sum float8"),
    ("SELECT job FROM (SELECT job FROM up WHERE value > $1) x WHERE job <> $2", "float8 text", "job text"),
    ("SELECT value::int8, up.ts::date FROM up", "", "value int8, ts date"),
    (
        "SELECT timestamptz '2026-01-01', now(), date_trunc('hour', now())",
        "",
        "timestamptz timestamptz, now timestamptz, date_trunc timestamptz",
    ),
    (
        "SELECT '2026-01-01'::timestamp, now() - interval '1 hour' AS h",
        "",
        "timestamp timestamp, h timestamptz",
    ),
];

#[test]
fn types_are_those_that_postgresql_describes() {
    let world = world();
    let name = |kind: &DataType| match kind {
        DataType::List(field) => format!("_{}", type_name(field.data_type())),
        other => type_name(other).to_owned(),
    };
    let mut wrong = Vec::new();
    for (text, params, columns) in DESCRIBED {
        let request = SqlRequest { text: (*text).to_owned(), time: NOW, ..SqlRequest::default() };
        let described = world.engine.describe(&request, &QueryOptions::default());
        let described = described.unwrap_or_else(|e| panic!("{text}: {e}"));
        let found: Vec<String> =
            described.params.iter().map(|kind| kind.as_ref().map_or("-".to_owned(), name)).collect();
        let named =
            described.columns.fields().iter().map(|f| format!("{} {}", f.name(), name(f.data_type())));
        let named = named.collect::<Vec<_>>().join(", ");
        if found.join(" ") != *params || named != *columns {
            wrong.push(format!("{text}\nis   ({}) [{named}]\nwant ({params}) [{columns}]", found.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn statements_run_with_values() {
    let world = world();
    for (text, params, want) in [
        ("SELECT instance FROM up WHERE job = ANY($1) ORDER BY 1", json!([["web", "x"]]), "w:1"),
        ("SELECT instance FROM up WHERE job = ANY($1) ORDER BY 1", json!(["{web,\"a b\"}"]), "w:1"),
        ("SELECT instance FROM up WHERE job <> ALL($1) ORDER BY 1", json!([["web"]]), "a:1 a:2"),
        ("SELECT instance FROM up WHERE job = ANY($1)", json!([[]]), ""),
        ("SELECT instance FROM up WHERE job <> ALL($1) ORDER BY 1", json!([[]]), "a:1 a:2 w:1"),
        ("SELECT instance FROM up WHERE job = ANY($1)", json!([null]), ""),
        ("SELECT instance FROM up WHERE job = ANY($1)", json!([["web", null]]), "w:1"),
        ("SELECT instance FROM up WHERE value = ANY($1::int8[])", json!([[1, 7]]), "a:2"),
        ("SELECT instance FROM up WHERE value = ANY('{1,7}')", json!([]), "a:2"),
        (
            "SELECT instance FROM up WHERE $1::text[] IS NULL OR job = ANY($1) ORDER BY 1",
            json!([null]),
            "a:1 a:2 w:1",
        ),
        ("SELECT instance FROM up WHERE $1::text[] IS NULL OR job = ANY($1)", json!([["web"]]), "w:1"),
        ("SELECT count(*) FROM up WHERE NOT (job = ANY($1))", json!([["web"]]), "2"),
        ("SELECT job = ANY($1) FROM up ORDER BY instance LIMIT 1", json!([["api"]]), "true"),
        ("SELECT instance FROM up ORDER BY 1 LIMIT $1 OFFSET $2", json!(["1", 1]), "a:2"),
        ("SELECT instance FROM up ORDER BY 1 LIMIT '1' OFFSET '2'", json!([]), "w:1"),
        ("SELECT instance FROM up WHERE value > $1 ORDER BY 1", json!(["0.5"]), "a:2"),
        ("SELECT $1::int8 + 1", json!(["41"]), "42"),
        ("SELECT $1::int8", json!([null]), "NULL"),
        ("SELECT $1::bool", json!(["true"]), "true"),
        (
            "SELECT now() - $1::interval = now() - interval '1 day 90 seconds'",
            json!(["1 day 00:01:30"]),
            "true",
        ),
        (
            "SELECT count(*) FROM up WHERE now() - $1 = now() - interval '1 day 90 seconds'",
            json!(["1 day 00:01:30"]),
            "3",
        ),
        (
            "SELECT count(*) FROM up WHERE now() - $1 = now() - interval '1 minute'",
            json!(["0 years 0 mons 0 days 0 hours 1 mins 0.0 secs"]),
            "3",
        ),
        (
            "SELECT count(*) FROM up WHERE now() + $1 = now() + interval '3 hours'",
            json!(["180 minutes"]),
            "3",
        ),
        ("SELECT now() = $1", json!(["2026-11-25 +00"]), "true"),
        (
            "SELECT interval '01:30:00' = interval '90 minutes', '-00:30'::interval = interval '-30 minutes'",
            json!([]),
            "true|true",
        ),
    ] {
        let params = params.as_array().expect("a list").clone();
        let rows = world.rows_with(text, &params).unwrap_or_else(|e| panic!("{text} {params:?}: {e}"));
        let rows: Vec<String> = rows.iter().map(|row| row.join("|")).collect();
        assert_eq!(rows.join(" "), want, "{text} {params:?}");
    }
    // A list is a matcher, as `IN` is.
    let plan = world.engine.compile("SELECT * FROM up WHERE job = ANY('{api,web}')", NOW).expect("a plan");
    assert_eq!(plan.0, support::promql_plan("up{job=~\"api|web\"}"));
}

#[test]
fn values_that_do_not_fit_are_refused() {
    let world = world();
    let many: Vec<Value> = (0..=limits::PARAMETER_ELEMENTS).map(Value::from).collect();
    for (text, params, kind, part) in [
        (
            "SELECT $1::int8",
            json!(["x"]),
            SqlErrorKind::Execution,
            "invalid input syntax for type bigint: \"x\"",
        ),
        (
            "SELECT job FROM up LIMIT $1",
            json!(["x"]),
            SqlErrorKind::Execution,
            "invalid input syntax for type bigint",
        ),
        (
            "SELECT job FROM up WHERE job = ANY($1)",
            json!(["web"]),
            SqlErrorKind::BadData,
            "malformed array literal: \"web\"",
        ),
        (
            "SELECT job FROM up WHERE job = ANY($1)",
            json!([[["web"]]]),
            SqlErrorKind::BadData,
            "a parameter is a text",
        ),
        (
            "SELECT job FROM up WHERE value = ANY($1)",
            json!([["x"]]),
            SqlErrorKind::Execution,
            "invalid input syntax for type double precision",
        ),
        (
            "SELECT job FROM up WHERE value = ANY($1)",
            json!([many]),
            SqlErrorKind::LimitReached,
            "more than 10000 elements",
        ),
        (
            "SELECT job FROM up WHERE job = ANY($2)",
            json!([1]),
            SqlErrorKind::BadData,
            "a parameter $2 and the request no value",
        ),
        ("SELECT $101", json!([]), SqlErrorKind::BadData, "no value for it"),
    ] {
        let params = params.as_array().expect("a list").clone();
        let error = world.rows_with(text, &params).expect_err(text);
        assert!(error.kind == kind && error.text.contains(part), "{text}: {:?} {error}", error.kind);
    }
}
