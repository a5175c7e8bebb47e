//! Bad input gets a precise error: what is wrong, where, and what to do. What is beyond the limits
//! of a text is in `guard.rs`, broken tables are in `tests/postgres/tables.rs` of the server.

mod support;

use sql::{SqlErrorKind, limits};
use support::SqlFixture;

/// A statement and what its error says.
struct Bad {
    statement: &'static str,
    /// Line and column; `None`: it is an error of the evaluation.
    place: Option<(u64, u64)>,
    parts: &'static [&'static str],
}

const fn bad(statement: &'static str, place: Option<(u64, u64)>, parts: &'static [&'static str]) -> Bad {
    Bad { statement, place, parts }
}

const BAD: &[Bad] = &[
    // Names.
    bad("SELECT * FROM upp", Some((1, 15)), &["there is no metric \"upp\"", "did you mean \"up\"?"]),
    bad("SELECT *\nFROM up u\nJOIN owners o USING (job)", Some((3, 6)), &["there is no metric \"owners\""]),
    bad("SELECT * FROM meta.serie", Some((1, 15)), &["there is no relation meta.serie"]),
    bad("SELECT * FROM nope.up", Some((1, 15)), &["there is no schema nope"]),
    bad("SELECT metrik FROM series", Some((1, 8)), &["metrik"]),
    bad("SELECT x.nope FROM (SELECT job FROM up) x", Some((1, 8)), &["nope"]),
    bad("SELECT\n  rat(value, '5m') FROM up", Some((2, 3)), &["there is no function rat()", "\"rate\""]),
    bad("SELECT nope(value) FROM up", Some((1, 8)), &["there is no function nope()"]),
    // Types that do not fit.
    bad("SELECT sum(job) FROM up", None, &["sum"]),
    bad("SELECT * FROM up WHERE value", None, &["boolean"]),
    bad("SELECT 'x'::int8", None, &["invalid input syntax for type bigint: \"x\""]),
    bad("SELECT '2026-13-01'::date", None, &["invalid input syntax for type date: \"2026-13-01\""]),
    bad("SELECT 300000::int2", None, &["300000 is out of range for type smallint"]),
    bad("SELECT job + 1 FROM up", None, &["operator does not exist: text + bigint"]),
    bad("SELECT lower(5)", None, &["function lower(bigint) does not exist"]),
    bad("SELECT * FROM up WHERE ts", None, &["argument of WHERE must be type boolean"]),
    bad("SELECT u.job FROM up v", Some((1, 8)), &["missing FROM-clause entry for table \"u\""]),
    bad("SELECT * FROM up WHERE job = ANY('{a')", None, &["malformed array literal: \"{a\""]),
    bad("SELECT rate(job, '5m') FROM up", None, &["up.job is no number"]),
    bad("SELECT rate(value, 'soon') FROM up", None, &["rate is written rate(value, '5m')"]),
    bad("SELECT job FROM up WHERE", Some((1, 25)), &["Expected: an expression, found: EOF"]),
    bad("SELECT 1 UNION SELECT 1, 2", None, &["columns"]),
    // Division by zero.
    bad("SELECT 1 / 0", None, &["ivide by zero"]),
    bad("SELECT count(*) / 0 FROM up", None, &["ivide by zero"]),
    bad("SELECT n / (n - 3) FROM (SELECT count(*) AS n FROM up) x", None, &["ivide by zero"]),
];

#[test]
fn errors_are_precise() {
    let world = SqlFixture::of_queries(["up"].into_iter());
    let mut wrong = Vec::new();
    for Bad { statement, place, parts } in BAD {
        let error = match world.rows(statement) {
            Ok(rows) => {
                wrong.push(format!("{statement}\nis answered: {rows:?}"));
                continue;
            }
            Err(error) => error,
        };
        let text = error.to_string();
        let is_said = parts.iter().all(|part| text.contains(part));
        // A place has its line in the text, with a mark below it.
        let is_shown =
            place.is_none() || error.excerpt.as_ref().is_some_and(|excerpt| excerpt.ends_with('^'));
        if !is_said || !is_shown || place.is_some_and(|place| error.place != Some(place)) {
            wrong.push(format!("{statement}\nplace {:?}: {text}\nwants {place:?} {parts:?}", error.place));
        }
        if error.kind == SqlErrorKind::Internal {
            wrong.push(format!("{statement}\nis called an internal error: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A number of a plan is a float: it is divided as in PromQL, without an error.
#[test]
fn floats_are_divided_by_zero() {
    let world = SqlFixture::of_queries(["up"].into_iter());
    let rows = world.rows("SELECT value / 0 AS x FROM up ORDER BY value").expect("rows");
    assert!(rows.iter().all(|row| row[0] == "NaN" || row[0] == "+Inf"), "{rows:?}");
}

/// Joins that multiply end at a limit, with its name, whatever becomes of their rows.
#[test]
fn a_join_that_multiplies_ends_at_a_limit() {
    let world = SqlFixture::of_queries(["up", "x", "y"].into_iter());
    let from = "samples.up a, samples.x b, samples.y c \
        WHERE a.ts >= now() - interval '1 hour' AND b.ts >= now() - interval '1 hour' AND c.ts >= now() - interval '1 hour'";
    let error = world.rows(&format!("SELECT a.ts, b.value FROM {from}")).expect_err("240 cubed rows");
    assert_eq!(error.kind, SqlErrorKind::LimitReached, "{error}");
    let most = format!("the answer has more than {} MiB as JSON", limits::JSON_BYTES / 1024 / 1024);
    assert!(error.text.contains(&most) && error.hint.is_some(), "{error}");
    let error = world.rows(&format!("SELECT a.ts, b.value FROM {from} ORDER BY b.value, a.ts"));
    let error = error.expect_err("240 cubed rows that are sorted");
    assert_eq!(error.kind, SqlErrorKind::LimitReached, "{error}");
    let most = format!("{} MiB", limits::OPERATOR_BYTES / 1024 / 1024);
    assert!(error.text.contains(&most) && error.hint.is_some(), "{error}");
}
