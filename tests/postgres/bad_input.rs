//! Bad input, over HTTP and over the wire: the same error on both ways, precise, and nothing is
//! half done. `frontends/sql/tests/bad_input.rs` has more statements, without a server.

use crate::{connected, served, support};
use serde_json::{Value, json};

/// A statement that is wrong, and how both ways say so.
struct BadStatement {
    text: &'static str,
    /// The status and the kind of error over HTTP.
    http: (u16, &'static str),
    /// The SQLSTATE over the wire.
    state: &'static str,
    /// The character that the wire points at, from 1.
    position: Option<u32>,
    part: &'static str,
    hint: bool,
}

const fn bad(text: &'static str, state: &'static str, part: &'static str) -> BadStatement {
    BadStatement { text, http: (400, "bad_data"), state, position: None, part, hint: false }
}

impl BadStatement {
    const fn at(self, position: u32) -> BadStatement {
        BadStatement { position: Some(position), ..self }
    }

    const fn hinted(self) -> BadStatement {
        BadStatement { hint: true, ..self }
    }

    /// It fails when it runs.
    const fn execution(self) -> BadStatement {
        BadStatement { http: (422, "execution"), ..self }
    }
}

const BAD: &[BadStatement] = &[
    // An unknown relation, column and function.
    bad("SELECT * FROM y", "42P01", "there is no metric \"y\"").at(15).hinted(),
    bad("SELECT * FROM nope.x", "3F000", "there is no schema nope").at(15).hinted(),
    bad("SELECT y.a FROM x", "42P01", "missing FROM-clause entry for table \"y\"").at(8),
    bad("SELECT nam FROM flags", "42703", "No field named nam").at(8),
    bad("SELECT job, rat(value, '5m') FROM x", "42883", "there is no function rat()").at(13).hinted(),
    // Types that do not fit.
    bad("SELECT a + 1 FROM x", "42883", "operator does not exist: text + bigint").hinted(),
    bad("SELECT sum(a) FROM x", "42883", "function sum(text) does not exist").hinted(),
    bad(
        "SELECT * FROM x WHERE value",
        "42804",
        "argument of WHERE must be type boolean, not type double precision",
    ),
    bad("SELECT 'x'::int8", "22P02", "invalid input syntax for type bigint: \"x\"").execution(),
    bad("SELECT 'soon'::timestamptz", "22007", "invalid input syntax for type timestamp").execution(),
    bad("SELECT 300000::int2", "22003", "300000 is out of range for type smallint").execution(),
    // Division by zero.
    bad("SELECT 1 / 0", "22012", "ivide by zero").execution(),
    bad("SELECT count(*) / 0 FROM x", "22012", "ivide by zero").execution(),
    // A join that multiplies: its rows are sorted, so that they are all held.
    bad(
        "SELECT a.name, b.value FROM flags a, flags b, flags c, flags d ORDER BY b.value, a.name",
        "54000",
        "MiB",
    )
    .execution()
    .hinted(),
    // A duplicate key, in the second of two rows.
    bad(
        "INSERT INTO t VALUES ('b', 2), ('a', 3)",
        "23505",
        "row 2: duplicate key value violates unique constraint \"t_pkey\": (k)=(a)",
    ),
    bad("INSERT INTO t VALUES ('b', 2), (NULL, 3)", "23502", "row 2: null value in column \"k\""),
    bad(
        "INSERT INTO t VALUES ('b', 2), ('c', 'x')",
        "22P02",
        "row 2: column \"n\": invalid input syntax for type bigint: \"x\"",
    ),
    bad("INSERT INTO t SELECT a, value FROM y", "42P01", "there is no metric \"y\"").hinted(),
    bad("UPDATE t SET m = 1", "42703", "column \"m\" of relation \"t\" does not exist"),
];

#[tokio::test(flavor = "multi_thread")]
async fn bad_statements_are_refused_alike_over_both_ways() {
    let served = tokio::task::spawn_blocking(|| served(&["--web.enable-admin-api"])).await.expect("a server");
    let client = connected(served.port).await;
    client.batch_execute("CREATE TABLE t (k text PRIMARY KEY, n int8)").await.expect("a table");
    client.batch_execute("INSERT INTO t VALUES ('a', 1)").await.expect("a row");
    let port = served.server.port;
    let mut wrong = Vec::new();
    for bad in BAD {
        let error = client.batch_execute(bad.text).await.expect_err(bad.text);
        let error = error.as_db_error().expect("an error of the server");
        let position = match error.position() {
            Some(tokio_postgres::error::ErrorPosition::Original(at)) => Some(*at),
            _ => None,
        };
        let is_placed = bad.position.is_none() || position == bad.position;
        let has_hint = !bad.hint || error.hint().is_some();
        if error.code().code() != bad.state || !error.message().contains(bad.part) || !is_placed || !has_hint
        {
            wrong.push(format!("wire: {}\n{error:?}", bad.text));
        }
        let body = json!({ "sql": bad.text }).to_string();
        let send = move || {
            let head = [("content-type", "application/json")];
            support::http::send(port, "POST", "/api/v1/sql", &head, body.as_bytes()).expect("an answer")
        };
        let answer = tokio::task::spawn_blocking(send).await.expect("an answer");
        let said = answer.json();
        let text = said["error"].as_str().unwrap_or_default();
        let is_said = text.contains(bad.part) && (!bad.hint || text.contains("hint: "));
        if (answer.status, said["errorType"].as_str().unwrap_or_default()) != bad.http || !is_said {
            wrong.push(format!("HTTP: {}\n{} {said}", bad.text, answer.status));
        }
        assert_eq!(said["data"], Value::Null, "{}", bad.text);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let rows = client.query("SELECT k, n FROM t", &[]).await.expect("rows");
    let rows: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [("a".to_owned(), 1)], "nothing was half done");
}
