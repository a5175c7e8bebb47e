//! Tests of `/api/v1/sql`: the ways to send a statement, the formats of the answer, and errors.

use super::super::ApiSettings;
use super::api::request;
use super::fakes::{job, server};
use super::live::{connect, hear, options, say, start_with};
use engine::live::TapEvent;
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const TEXT: (&str, &str) = ("content-type", "application/sql");

#[tokio::test]
async fn a_statement_comes_in_four_ways() {
    let server = server(ApiSettings::default()).0;
    let want = r#"{"status":"success","data":{"columns":[{"name":"n","type":"int8"}],"rows":[[7]]},"warnings":[],"infos":[]}"#;
    let path = "/api/v1/sql";
    for (method, path, header, body) in [
        ("GET", "/api/v1/sql?query=SELECT%207%20AS%20n", FORM, ""),
        ("POST", path, FORM, "sql=SELECT+7+AS+n"),
        ("POST", path, TEXT, "SELECT 7 AS n"),
        ("POST", path, JSON, r#"{"sql": "SELECT $1 AS n", "params": [7], "time": 1000}"#),
    ] {
        let got = request(&server, method, path, &[header], body).await;
        assert_eq!((got.status.as_u16(), got.text.as_str()), (200, want), "{method} {header:?}");
    }
}

#[tokio::test]
async fn answers_go_in_the_format_that_is_accepted() {
    let server = server(ApiSettings::default()).0;
    let statement = "SELECT 'a,b' AS t, 1.5 AS f, 'NaN'::float8 AS n, NULL AS z, 9007199254740993 AS big";
    let ask = async |accept: &str| {
        let got = request(&server, "POST", "/api/v1/sql", &[TEXT, ("accept", accept)], statement).await;
        assert_eq!(got.status.as_u16(), 200, "{}", got.text);
        got.text
    };
    let json = ask("application/json").await;
    assert!(json.contains(r#""rows":[["a,b",1.5,"NaN",null,"9007199254740993"]]"#), "{json}");
    assert_eq!(ask("text/csv").await, "t,f,n,z,big\r\n\"a,b\",1.5,NaN,,9007199254740993\r\n");
    let ndjson = ask("application/x-ndjson").await;
    let lines: Vec<&str> = ndjson.lines().collect();
    assert_eq!(lines[0], r#"{"t":"a,b","f":1.5,"n":"NaN","z":null,"big":"9007199254740993"}"#);
    assert_eq!(lines[1], r#"{"end":{"rows":1,"warnings":[]}}"#);
    // Without rows the names are there.
    let none = request(&server, "POST", "/api/v1/sql?format=csv", &[TEXT], "SELECT 1 AS a WHERE false").await;
    assert_eq!(none.text, "a\r\n");
}

/// Browsers ask for it. Lines of NDJSON go out one by one, as they are.
#[tokio::test]
async fn an_answer_may_be_compressed() {
    let server = server(ApiSettings::default()).0;
    for format in ["json", "csv", "arrow"] {
        let path = format!("/api/v1/sql?format={format}");
        let headers = [TEXT, ("accept-encoding", "gzip")];
        let got =
            request(&server, "POST", &path, &headers, "SELECT 1234567 AS number, 'a text' AS word").await;
        assert_eq!((got.status.as_u16(), got.header("content-encoding")), (200, "gzip"), "{format}");
    }
}

#[tokio::test]
async fn errors_say_where_and_what_to_do() {
    let server = server(ApiSettings::default()).0;
    for (header, body, status, parts) in [
        (TEXT, "", 400, vec!["the statement is empty", "hint: "]),
        (TEXT, "MERGE INTO up USING x ON true", 400, vec!["line 1, column 1", "hint: only SELECT"]),
        (TEXT, "SELECT nope(1)", 400, vec!["line 1, column 8", "there is no function nope()"]),
        (TEXT, "SELECT 1 / 0", 422, vec!["ivide by zero"]),
        (TEXT, "SELECT $1", 400, vec!["a parameter $1", "params"]),
        (JSON, "SELECT 1", 400, vec!["the body is no JSON"]),
        (JSON, r#"{"sql": "SELECT 1", "limit": 5}"#, 400, vec![r#"unknown field \"limit\""#]),
        (FORM, "sql=SELECT+1&format=xml", 400, vec![r#"no format \"xml\""#]),
        (FORM, "sql=SELECT+1&start=1&end=9&step=0", 400, vec!["step"]),
        (FORM, "sql=SELECT+1&time=soon", 400, vec!["time"]),
    ] {
        let got = request(&server, "POST", "/api/v1/sql", &[header], body).await;
        assert_eq!(got.status.as_u16(), status, "{body}: {}", got.text);
        for part in parts {
            assert!(got.text.contains(part), "{body}: {}", got.text);
        }
    }
}

#[tokio::test]
async fn lists_of_the_server_are_relations() {
    let server = server(ApiSettings::default()).0;
    for statement in [
        "SELECT * FROM targets",
        "SELECT * FROM rules",
        "SELECT * FROM alerts",
        "SELECT state, from_ts, to_ts, severity FROM alert_history",
        "SELECT * FROM metadata",
        "SELECT * FROM flags",
        "SELECT * FROM views",
        "SELECT * FROM uses",
        "SELECT * FROM series WHERE metric = 'up'",
        "SELECT * FROM dropped_targets",
        "SELECT * FROM exemplars WHERE metric = 'up'",
        "SELECT * FROM label_pairs WHERE metric = 'up'",
    ] {
        let got = request(&server, "POST", "/api/v1/sql?format=csv", &[TEXT], statement).await;
        assert_eq!(got.status.as_u16(), 200, "{statement}: {}", got.text);
    }
}

#[tokio::test]
async fn a_statement_is_subscribed_to_and_shares_the_view_of_promql() {
    let running = start_with(options(10), ApiSettings::default()).await;
    let mut socket = connect(&running).await;
    say(&mut socket, json!({"subscribe": {"id": "a", "query": "up"}})).await;
    assert_eq!(hear(&mut socket).await["subscribed"]["id"], "a");
    let statement = "SELECT job, value AS v FROM up";
    say(&mut socket, json!({"subscribe": {"id": "b", "sql": statement}})).await;
    let columns = json!([{"name": "job", "type": "text"}, {"name": "v", "type": "float8"}]);
    assert_eq!(
        hear(&mut socket).await,
        json!({"subscribed": {"id": "b", "query": statement, "columns": columns, "class": "plan", "promql": "up"}})
    );
    assert_eq!(*running.fakes.views.installed.lock(), ["up"], "an equal plan is one view");
    running.fakes.views.push(&TapEvent::Snapshot { t: 1_000, rows: vec![(job("x"), 1.0.into())] });
    let rows = |message: &Value, kind: &str| message[kind]["rows"].clone();
    hear(&mut socket).await;
    // A whole number has no fraction in JSON.
    let row = |v: Value, diff: i64| json!({"row": {"job": "x", "v": v}, "diff": diff});
    assert_eq!(rows(&hear(&mut socket).await, "snapshot"), json!([row(json!(1), 1)]));
    running.fakes.views.push(&TapEvent::Delta {
        t: 2_000,
        since: 2_000,
        upsert: vec![(job("x"), 2.5.into())],
        remove: Vec::new(),
    });
    hear(&mut socket).await;
    assert_eq!(rows(&hear(&mut socket).await, "delta"), json!([row(json!(1), -1), row(json!(2.5), 1)]));
    // What is no plan says so, with the reason.
    say(
        &mut socket,
        json!({"subscribe": {"id": "c", "lang": "sql", "query": "SELECT count(DISTINCT job) FROM up"}}),
    )
    .await;
    let subscribed = hear(&mut socket).await["subscribed"].clone();
    assert_eq!((&subscribed["class"], &subscribed["standing"]), (&json!("run_again"), &json!(false)));
    assert!(subscribed["why"].as_str().is_some_and(|why| why.contains("DISTINCT")), "{subscribed}");
    // Errors have the place, the line, and what to do.
    say(&mut socket, json!({"subscribe": {"id": "d", "sql": "SELECT\n rat(value, '5m') FROM up"}})).await;
    let error = hear(&mut socket).await["error"].clone();
    let text = error["error"].as_str().expect("a text");
    for part in [
        "line 2, column 2",
        "there is no function rat()",
        " rat(value, '5m') FROM up\n ^",
        "hint: did you mean",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!((&error["id"], &error["errorType"]), (&json!("d"), &json!("bad_data")));
}
