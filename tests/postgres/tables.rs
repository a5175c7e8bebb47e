//! Tests statements over the PostgreSQL wire that create, fill and read tables and views; also
//! `COPY`, cursors and subscriptions.

use crate::support;
use crate::support::daemon::python;
use crate::{PostgresServer, connected, local, psql, served};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Tables that statements make and fill, over the wire and over HTTP; kill -9.
#[test]
fn tables_are_made_filled_and_survive_a_kill() {
    let mut served = served(&["--web.enable-admin-api"]);
    let ask = |served: &PostgresServer, statement: &str| psql(&local(served.port), "", &[statement]);
    for (statement, want) in [
        ("CREATE TABLE owners (a text PRIMARY KEY, owner text, n int, since timestamptz)", "CREATE TABLE"),
        ("CREATE TABLE IF NOT EXISTS owners (b text)", "CREATE TABLE"),
        (
            "INSERT INTO owners VALUES ('1', 'ana', 1, '2026-01-02 03:04:05+00'), ('2', NULL, -2, now())",
            "INSERT 0 2",
        ),
        ("INSERT INTO owners (owner, a) VALUES ('it''s', '3')", "INSERT 0 1"),
        (
            "SELECT a, owner, n, since FROM owners WHERE a <> '2' ORDER BY a",
            "1|ana|1|2026-01-02 03:04:05+00\n3|it's||",
        ),
        ("SELECT o.owner, x.value FROM x JOIN owners o USING (a) WHERE o.n > 0", "ana|0"),
        ("INSERT INTO owners (a, n) SELECT a || 'x', value FROM x WHERE value > 1", "INSERT 0 1"),
        ("UPDATE owners SET owner = 'bo', n = 8 WHERE a = '2x'", "UPDATE 1"),
        ("UPDATE owners SET n = NULL WHERE a = 'none'", "UPDATE 0"),
        ("SELECT owner, n FROM owners WHERE a = '2x'", "bo|8"),
        ("DELETE FROM owners WHERE a = '2x'", "DELETE 1"),
        ("DELETE FROM owners WHERE n = 1 AND a = '2'", "DELETE 0"),
        ("DELETE FROM owners WHERE a = '3'", "DELETE 1"),
        ("BEGIN; INSERT INTO owners VALUES ('4', 'z', NULL, NULL); COMMIT", "BEGIN\nINSERT 0 1\nCOMMIT"),
        ("\\d owners", "a|text||not null|\nowner|text|||\nn|bigint|||\nsince|timestamp with time zone|||"),
    ] {
        let (out, err) = ask(&served, statement);
        assert_eq!((out.as_str(), err.as_str()), (want, ""), "{statement}");
    }
    for (statement, want) in [
        ("CREATE TABLE owners (a text)", "ERROR:  relation \"owners\" already exists"),
        (
            "INSERT INTO owners VALUES ('5'), ('1', 'b', 1, NULL)",
            "ERROR:  row 1: 1 fields, but there are 4 columns",
        ),
        (
            "INSERT INTO owners (a) VALUES ('5'), ('1')",
            "ERROR:  row 2: duplicate key value violates unique constraint \"owners_pkey\": (a)=(1)",
        ),
        (
            "INSERT INTO owners (a, n) VALUES ('5', 'x')",
            "ERROR:  row 1: column \"n\": invalid input syntax for type bigint: \"x\"",
        ),
        ("INSERT INTO owners (owner) VALUES ('x')", "ERROR:  row 1: null value in column \"a\""),
        (
            "INSERT INTO owners (a) SELECT a FROM x",
            "ERROR:  row 1: duplicate key value violates unique constraint \"owners_pkey\": (a)=(1)",
        ),
        ("INSERT INTO owners SELECT a FROM x", "ERROR:  row 1: 1 fields, but there are 4 columns"),
        ("INSERT INTO owners (a) SELECT nope(value) FROM x", "ERROR:  there is no function nope()"),
        ("UPDATE owners SET a = '9'", "ERROR:  duplicate key value violates unique constraint"),
        ("UPDATE owners SET n = 'x'", "ERROR:  column \"n\": invalid input syntax for type bigint: \"x\""),
        ("UPDATE owners SET n = n + 1", "ERROR:  a value is expected, not n"),
        ("CREATE TABLE targets (a text)", "ERROR:  \"targets\" is a relation of the server"),
        ("TRUNCATE nothing", "ERROR:  there is no table \"nothing\""),
    ] {
        let (_, err) = ask(&served, statement);
        assert!(err.starts_with(want), "{statement}: {err}");
    }
    // The position is that in the whole statement, not in its query.
    let statement = "INSERT INTO owners (a) SELECT nope(value) FROM x";
    let (_, err) = ask(&served, statement);
    let caret = format!("\nLINE 1: {statement}\n{:38}^", "");
    assert!(err.contains(&caret), "{err}");
    let (_, err) = ask(&served, "BEGIN; DELETE FROM owners WHERE a = '4'; ROLLBACK");
    assert!(err.contains("WARNING:  there are no transactions"), "{err}");
    let head = [("content-type", "application/json")];
    let body = r#"{"sql": "INSERT INTO owners (a, n) SELECT $1, $2", "params": ["7", 7]}"#;
    let answer = support::http::send(served.server.port, "POST", "/api/v1/sql", &head, body.as_bytes());
    assert_eq!(answer.expect("an answer").json()["data"]["rows"][0][0], "1 rows are added to owners");
    served.server.kill();
    served.server.run();
    assert_eq!(ask(&served, "SELECT a, n FROM owners ORDER BY a").0, "1|1\n2|-2\n7|7");
    let (_, err) = ask(&served, "INSERT INTO owners (a) VALUES ('7')");
    assert!(err.contains("duplicate key"), "the key comes back: {err}");
    assert_eq!(ask(&served, "TRUNCATE owners").0, "TRUNCATE TABLE");
    assert_eq!(ask(&served, "SELECT count(*) FROM owners").0, "0");
    assert_eq!(ask(&served, "DROP TABLE owners").0, "DROP TABLE");
}

/// A table that is put and is broken, or too large, changes nothing: the error says where.
#[test]
fn broken_tables_that_are_put_change_nothing() {
    let served = served(&["--web.enable-admin-api"]);
    let put = |body: &str| {
        let head = [("content-type", "text/csv")];
        let answer =
            support::http::send(served.server.port, "PUT", "/api/v1/tables/t", &head, body.as_bytes());
        let answer = answer.expect("an answer");
        (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(put("a,n\nx,1\n").0, 200);
    let many: String = (0..=200_000).map(|n| format!("{n}\n")).collect();
    for (body, status, part) in [
        (format!("a\n{many}"), 422, "a table has at most 200000 rows"),
        ("a,n\nx\n".to_owned(), 400, "line 2: 1 fields, but there are 2 columns"),
        ("a,n\nx,\"1\n".to_owned(), 400, "line 3: the text ends inside of quotes"),
        ("a,n\nx,1\"2\n".to_owned(), 400, "line 2: a quote inside"),
        ("a,a\nx,1\n".to_owned(), 400, "there are two columns \"a\""),
        (String::new(), 400, "a table needs columns"),
    ] {
        let (found, error) = put(&body);
        assert!(found == status && error.contains(part), "{part}: {found} {error}");
    }
    let ask = |statement: &str| psql(&local(served.port), "", &[statement]).0;
    assert_eq!(ask("SELECT a, n FROM t"), "x|1", "nothing was half done");
}

/// COPY in both directions; what is broken, or given up, changes nothing.
#[test]
fn copies_go_in_and_out() {
    let served = served(&["--web.enable-admin-api"]);
    let connection = local(served.port);
    let ask = |commands: &[&str]| psql(&connection, "", commands);
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    assert_eq!(ask(&["CREATE TABLE t (a text PRIMARY KEY, n int8)"]).0, "CREATE TABLE");
    let good = file("good.csv", "a,n\n\"x,1\",1\ny,\n");
    let copy = |path: &str| format!("\\copy t FROM '{path}' WITH (FORMAT csv, HEADER)");
    assert_eq!(ask(&[&copy(&good)]), ("COPY 2".to_owned(), String::new()));
    for (name, text, want) in [
        ("broken", "a,n\nb,1\nc,\"2\n", "line 4: the text ends inside of quotes"),
        (
            "twice",
            "a,n\nb,1\ny,2\n",
            "line 3: duplicate key value violates unique constraint \"t_pkey\": (a)=(y)",
        ),
        ("kind", "a,n\nb,1\nc,d\n", "line 3: column \"n\": invalid input syntax for type bigint: \"d\""),
        ("names", "n,a\n1,b\n", "line 1: the names are n, a, but the columns are a, n"),
    ] {
        let (_, err) = ask(&[&copy(&file(name, text))]);
        assert!(err.starts_with(&format!("ERROR:  {want}")), "{name}: {err}");
    }
    let many: String = (0..=200_000).map(|n| format!("{n}\t{n}\n")).collect();
    let (_, err) = ask(&[&format!("\\copy t FROM '{}'", file("many", &many))]);
    assert!(err.starts_with("ERROR:  line 199999: a table has at most 200000 rows"), "{err}");
    assert_eq!(ask(&["SELECT count(*) FROM t"]).0, "2", "nothing was half done");
    let (out, _) = ask(&[
        "COPY (SELECT a, value, NULL AS none, 'q\"' AS q FROM x ORDER BY a) TO STDOUT WITH (FORMAT csv, HEADER)",
    ]);
    assert_eq!(out, "a,value,none,q\n1,0,,\"q\"\"\"\n2,5,,\"q\"\"\"");
    assert_eq!(ask(&["COPY t TO STDOUT"]).0, "x,1\t1\ny\t\\N");
    let (_, err) = ask(&["COPY t FROM '/etc/passwd'"]);
    assert!(err.contains("the server reads no files"), "{err}");
    let (_, err) = ask(&["COPY nothing FROM STDIN"]);
    assert!(err.starts_with("ERROR:  there is no table \"nothing\""), "{err}");
}

/// Views, EXPLAIN ANALYZE and what runs now.
#[test]
fn views_are_read_like_relations_and_survive_a_kill() {
    let mut served = served(&["--web.enable-admin-api"]);
    let ask = |served: &PostgresServer, statement: &str| psql(&local(served.port), "", &[statement]);
    for (statement, want) in [
        ("CREATE VIEW low AS SELECT a, value AS v FROM x WHERE value < 1", "CREATE VIEW"),
        ("CREATE VIEW lower AS SELECT l.a, l.v, x.job FROM low l JOIN x USING (a)", "CREATE VIEW"),
        ("SELECT * FROM lower", "1|0|a"),
        ("SELECT count(*) FROM low WHERE v = 0", "1"),
        ("\\dv", "public|low|view|perennial\npublic|lower|view|perennial"),
        ("\\d low", "a|text|||\nv|double precision|||"),
        ("SHOW CREATE VIEW low", "low|CREATE VIEW low AS SELECT a, value AS v FROM x WHERE value < 1"),
        ("CREATE OR REPLACE VIEW low AS SELECT a, value AS v FROM x WHERE value > 1", "CREATE VIEW"),
        ("SELECT a FROM lower", "2"),
    ] {
        let (out, err) = ask(&served, statement);
        assert_eq!((out.as_str(), err.as_str()), (want, ""), "{statement}");
    }
    for (statement, want) in [
        ("CREATE VIEW low AS SELECT 1 AS a", "ERROR:  there is a view \"low\": CREATE OR REPLACE VIEW"),
        ("CREATE OR REPLACE VIEW low AS SELECT a, v FROM lower", "view lower: the view low reads itself"),
        (
            "CREATE VIEW bad AS SELECT sum(value), sum(value + 1) FROM x",
            "ERROR:  column \"sum\" specified more than once",
        ),
        ("CREATE VIEW bad AS SELECT 1", "ERROR:  column \"?column?\""),
        ("CREATE VIEW bad AS SELECT a FROM nothing", "there is no metric \"nothing\""),
        ("CREATE TABLE low (a text)", "ERROR:  there is a view \"low\""),
        ("DROP VIEW bad", "ERROR:  there is no view \"bad\""),
    ] {
        let (_, err) = ask(&served, statement);
        assert!(err.contains(want), "{statement}: {err}");
    }
    let (out, err) = ask(&served, "EXPLAIN ANALYZE SELECT count(DISTINCT a) FROM x");
    assert!(out.contains("run: ") && out.contains(": 2 rows, ") && out.contains("1 rows in "), "{out}{err}");
    let (out, _) = ask(&served, "SELECT kind, query FROM queries");
    assert_eq!(out, "sql|SELECT kind, query FROM queries");
    served.server.kill();
    served.server.run();
    assert_eq!(ask(&served, "SELECT a FROM lower").0, "2");
    assert_eq!(ask(&served, "DROP VIEW low").0, "DROP VIEW");
    let (_, err) = ask(&served, "SELECT * FROM lower");
    assert!(err.contains("view lower: there is no metric \"low\""), "{err}");
}

/// Tables in statements that stand: a change of the table changes their rows; a table that is gone
/// is told, and they go on when it is back.
#[test]
fn statements_that_stand_read_tables() {
    let served = served(&["--web.enable-admin-api"]);
    let ask = |statement: &str| {
        let (out, err) = psql(&local(served.port), "", &[statement]);
        assert!(err.is_empty(), "{statement}: {err}");
        out
    };
    ask("CREATE TABLE least (a text PRIMARY KEY, least float8)");
    ask("INSERT INTO least VALUES ('1', -1), ('2', 9)");
    ask("CREATE ALERT TooLow AS SELECT x.a, x.value FROM x JOIN least l USING (a) WHERE x.value < l.least");
    ask(
        "CREATE MATERIALIZED VIEW distances AS SELECT x.a, l.least - x.value AS distance FROM x JOIN least l USING (a)",
    );
    let firing = |which: &[&str]| {
        support::eventually("the alerts", 30, || {
            let alerts = served.server.api("/api/v1/alerts")["alerts"].clone();
            let mut found: Vec<String> =
                alerts.as_array().into_iter().flatten().map(|a| a["labels"]["a"].to_string()).collect();
            found.sort();
            let wanted: Vec<String> = which.iter().map(|a| format!("\"{a}\"")).collect();
            if found == wanted { Ok(()) } else { Err(alerts.to_string()) }
        });
    };
    let distances = |want: Value| {
        support::eventually("the view", 30, || {
            let mut result = served.server.api("/api/v1/views/distances/result")["rows"].clone();
            if let Some(rows) = result.as_array_mut() {
                rows.sort_by_key(Value::to_string);
            }
            if result == want { Ok(()) } else { Err(result.to_string()) }
        });
    };
    firing(&["2"]);
    distances(json!([["1", -1], ["2", 4]]));
    ask("INSERT INTO least VALUES ('3', 0)");
    ask("DELETE FROM least WHERE a = '1'");
    ask("INSERT INTO least VALUES ('1', 7)");
    firing(&["1", "2"]);
    distances(json!([["1", 7], ["2", 4]]));
    ask("DROP TABLE least");
    let health = |want: &str| {
        support::eventually("the health of the rule", 30, || {
            let rule = served.server.api("/api/v1/rules")["groups"][0]["rules"][0].clone();
            let error = rule["lastError"].as_str().unwrap_or_default();
            if error.contains(want) && (rule["health"] == "ok") == want.is_empty() {
                return Ok(());
            }
            Err(rule.to_string())
        });
    };
    health("the table or view least is gone");
    ask("CREATE TABLE least (a text PRIMARY KEY, least float8)");
    ask("INSERT INTO least VALUES ('2', 6)");
    health("");
    firing(&["2"]);
    distances(json!([["2", 1]]));
}

/// Cursors, COPY and SUBSCRIBE with psycopg.
#[test]
fn psycopg_copies_fetches_and_subscribes() {
    let served = served(&["--web.enable-admin-api"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire_copies.py");
    let output = Command::new(python()).arg(script).arg(served.port.to_string()).output().expect("python");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let want = json!({
        "inserted": 2,
        "copied": 1000,
        "given up": 0,
        "gone": 0,
        "broken": ["23505", "line 2: duplicate key value"],
        "binary copied": 2,
        "binary out": [[8000, "two"], [8001, null]],
        "binary broken": ["22P04", "22P04", "22P03"],
        "after": 1003,
        "out": [["1", "0"], ["2", "5"]],
        "fetched": [100, 3, 900, 0],
        "binary": [[1, "1"]],
        "described": ["k", "v"],
        "moved": ["11"],
        "missing": "34000",
        "outside": "25P01",
        "cursors": "54000",
        "subscribed": [[1, "1", 0.0], [1, "2", 5.0]],
        "copied changes": "1\t1\t0",
        "ended": "57014",
    });
    assert_eq!(found, want);
}

/// A subscription of a table has what statements change in it.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_tables_come_as_they_happen() {
    let served = tokio::task::spawn_blocking(|| served(&["--web.enable-admin-api"])).await.expect("a server");
    let mut client = connected(served.port).await;
    let other = connected(served.port).await;
    other.batch_execute("CREATE TABLE t (k text PRIMARY KEY, n int8)").await.expect("a table");
    other.batch_execute("INSERT INTO t VALUES ('a', 1), ('b', 2)").await.expect("rows");
    let transaction = client.transaction().await.expect("a transaction");
    let declare = "DECLARE s CURSOR FOR SUBSCRIBE SELECT k, n FROM t WHERE n < 9";
    transaction.batch_execute(declare).await.expect("a cursor");
    let fetched = async |statement: &str| -> Vec<(i64, String, i64)> {
        let rows = transaction.query(statement, &[]).await.expect("rows");
        let mut rows: Vec<(i64, String, i64)> =
            rows.iter().map(|row| (row.get("diff"), row.get("k"), row.get("n"))).collect();
        rows.sort();
        rows
    };
    assert_eq!(fetched("FETCH 2 FROM s").await, [(1, "a".to_owned(), 1), (1, "b".to_owned(), 2)]);
    other.batch_execute("UPDATE t SET n = 3 WHERE k = 'b'").await.expect("changed");
    assert_eq!(fetched("FETCH 2 FROM s").await, [(-1, "b".to_owned(), 2), (1, "b".to_owned(), 3)]);
    other.batch_execute("UPDATE t SET n = 9").await.expect("changed");
    assert_eq!(fetched("FETCH 2 FROM s").await, [(-1, "a".to_owned(), 1), (-1, "b".to_owned(), 3)]);
    transaction.batch_execute("CLOSE s").await.expect("closed");
}

/// A cursor over changes waits for the next one.
#[tokio::test(flavor = "multi_thread")]
async fn changes_come_as_they_happen() {
    let served = tokio::task::spawn_blocking(|| served(&[])).await.expect("a server");
    let mut client = connected(served.port).await;
    let transaction = client.transaction().await.expect("a transaction");
    let declare = "DECLARE s CURSOR FOR SUBSCRIBE SELECT a, value FROM x WHERE a = '2'";
    transaction.batch_execute(declare).await.expect("a cursor");
    let fetched = async |statement: &str| -> Vec<(i64, String, f64)> {
        let rows = transaction.query(statement, &[]).await.expect("rows");
        rows.iter().map(|row| (row.get("diff"), row.get("a"), row.get("value"))).collect()
    };
    assert_eq!(fetched("FETCH 1 FROM s").await, [(1, "2".to_owned(), 5.0)]);
    served.exporter.set("x{a=\"1\"} 0\nx{a=\"2\"} 6\n");
    let want = [(-1, "2".to_owned(), 5.0), (1, "2".to_owned(), 6.0)];
    assert_eq!(fetched("FETCH 2 FROM s").await, want);
    transaction.batch_execute("CLOSE s").await.expect("closed");
    transaction.commit().await.expect("the end");
    let subscriptions = move || served.server.get("/metrics").text();
    tokio::task::spawn_blocking(move || {
        support::eventually("the subscription ends", 10, || {
            let metrics = subscriptions();
            let is_gone = metrics.contains("perennial_subscriptions 0");
            if is_gone { Ok(()) } else { Err("it is still there".to_owned()) }
        });
    })
    .await
    .expect("the end");
}
