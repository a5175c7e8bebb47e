//! Tests of saved queries: `PUT` and `DELETE` of `/api/v1/views/{name}`, their results, and who may
//! change them.

use super::super::{ApiSettings, AppState};
use super::api::{TestResponse, request};
use super::fakes::{Fakes, job, server};
use engine::live::describe::{AnswerContent, AnswerReport, EvaluationFailure, ViewFootprint, ViewReport};
use engine::live::{ViewKind, ViewSpec};
use engine::plan::{BitFloat, PlanNode, PlanOp, Span};
use serde_json::{Value, json};
use std::sync::Arc;
use views::scheduled::parse_view_id;

fn open() -> (AppState, Arc<Fakes>) {
    server(ApiSettings { admin: true, ..ApiSettings::default() })
}

async fn put(state: &AppState, name: &str, body: &'static str) -> TestResponse {
    request(state, "PUT", &format!("/api/v1/views/{name}"), &[], body).await
}

async fn delete(state: &AppState, name: &str) -> TestResponse {
    request(state, "DELETE", &format!("/api/v1/views/{name}"), &[], "").await
}

async fn get(state: &AppState, path: &str) -> TestResponse {
    request(state, "GET", &format!("/api/v1/views{path}"), &[], "").await
}

fn told(got: &TestResponse) -> (u16, Value) {
    let json = got.json();
    let failed = json["status"] == "error";
    (got.status.as_u16(), if failed { json["errorType"].clone() } else { json["data"]["change"].clone() })
}

#[tokio::test]
async fn queries_are_put_and_removed_by_name() {
    let (state, fakes) = open();
    let body = r#"{"query": "up"}"#;
    assert_eq!(told(&put(&state, "a:b", body).await), (201, json!("created")));
    assert_eq!(told(&put(&state, "a%3Ab", body).await), (200, json!("unchanged")));
    assert_eq!(
        told(&put(&state, "a:b", r#"{"query": "up", "lang": "promql", "record": "x"}"#).await),
        (200, json!("replaced"))
    );
    assert_eq!(*fakes.views.installed.lock(), ["a:b", "a:b"]);
    let id = state.sources.saved_queries.view("a:b").unwrap().unwrap();
    let (_, definition) = state.sources.saved_queries.definition(id).unwrap();
    // Without an interval in the request, the server's interval applies.
    assert_eq!(definition.recording.unwrap().interval, 60_000);
    assert_eq!(told(&delete(&state, &id.0.to_string()).await), (200, json!("removed")));
    assert_eq!(told(&delete(&state, "a:b").await), (404, json!("not_found")));
    assert_eq!(told(&get(&state, "/a:b").await), (404, json!("not_found")));
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let (state, fakes) = open();
    assert_eq!(
        told(&put(&state, "first", r#"{"query": "up", "record": "x", "interval": "1m"}"#).await).0,
        201
    );
    for (name, body, code, kind, error) in [
        ("q", "", 400, "bad_data", "the body must be a JSON object with `query`"),
        ("q", r#"{"query": "up", "step": 1}"#, 400, "bad_data", "unknown field `step`"),
        ("q", r#"{"query": "up", "lang": "flux"}"#, 400, "bad_data", "unknown variant `flux`"),
        // The language is known; the parts that this test puts together have none.
        ("q", r#"{"query": "up", "lang": "sql"}"#, 400, "bad_data", "this build has no SQL"),
        ("q", r#"{"query": "sum("}"#, 400, "bad_data", "1:5: parse error: unclosed left parenthesis"),
        ("q", r#"{"query": "up[5m]"}"#, 400, "bad_data", "invalid expression type \"range vector\""),
        ("q", r#"{"query": "up", "interval": 1}"#, 400, "bad_data", "only queries with `record` have it"),
        (
            "q",
            r#"{"query": "up", "record": "y", "interval": "soon"}"#,
            400,
            "bad_data",
            "cannot parse \"soon\"",
        ),
        ("q", r#"{"query": "up", "record": "y", "interval": 0.01}"#, 400, "bad_data", "`interval` must be"),
        ("7", r#"{"query": "up"}"#, 400, "bad_data", "the name of a standing query must"),
        ("never", r#"{"query": "up"}"#, 400, "bad_data", "this cannot stand"),
        (
            "q",
            r#"{"query": "up", "record": "x"}"#,
            409,
            "conflict",
            "the standing query \"first\" records \"x\"",
        ),
        (
            "q",
            r#"{"query": "up", "record": "a:b"}"#,
            409,
            "conflict",
            "a rule of the group \"g\" in r.yml records",
        ),
    ] {
        let got = put(&state, name, body).await;
        let message = got.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(told(&got), (code, json!(kind)), "{body}: {message}");
        assert!(message.contains(error), "{body}: {message}");
    }
    assert_eq!(fakes.views.installed.lock().len(), 1);
}

#[tokio::test]
async fn nothing_changes_without_the_flag() {
    let (state, fakes) = server(ApiSettings { lifecycle: true, ..ApiSettings::default() });
    for got in [put(&state, "a", r#"{"query": "up"}"#).await, delete(&state, "a").await] {
        assert_eq!(told(&got), (500, json!("unavailable")));
        assert!(got.text.contains("admin APIs disabled: start the server with --web.enable-admin-api"));
    }
    assert!(fakes.views.installed.lock().is_empty());
    let got = request(&state, "POST", "/api/v1/views/a", &[], "").await;
    assert_eq!((got.status.as_u16(), got.text.trim()), (405, "Method Not Allowed"));
}

fn report(id: &str, op: PlanOp, answer: AnswerReport, work: Option<ViewFootprint>) -> ViewReport {
    let plan = Arc::new(PlanNode { op, span: Span::default() });
    let spec = ViewSpec { name: "up".into(), plan, kind: ViewKind::NOW };
    ViewReport { id: parse_view_id(id).unwrap(), spec, answer, work, subquery_cache: None }
}

#[tokio::test]
async fn a_result_is_that_of_the_view() {
    let (state, fakes) = open();
    let up = state.sources.queries.language.compile("up", None).unwrap().op.clone();
    let content =
        AnswerContent { rows: vec![(job("b"), 2.0.into()), (job("a"), 1.5.into())], annotations: Vec::new() };
    let answer =
        AnswerReport { frontier: Some(1_000_250), content: Some(content), ..AnswerReport::default() };
    let mut failing = answer.clone();
    failing.failure = Some(EvaluationFailure { t: 1_000_250, error: "too much".into(), lasts: true });
    let scalar = AnswerContent { rows: vec![(Default::default(), 3.0.into())], annotations: Vec::new() };
    let scalar = AnswerReport { content: Some(scalar), ..answer.clone() };
    *fakes.views.reports.lock() = vec![
        report("3", up.clone(), answer, Some(ViewFootprint::default())),
        report("4", up.clone(), failing, Some(ViewFootprint::default())),
        report("5", PlanOp::Number(BitFloat(3.0)), scalar, Some(ViewFootprint::default())),
        // Evaluated only while a subscriber listens: its latest answer may be old.
        report("scheduled-6", PlanOp::Number(BitFloat(7.0)), AnswerReport::default(), None),
    ];
    let data = async |path: &str| get(&state, path).await.json()["data"].clone();
    let row = |name: &str, v: &str| json!({"metric": {"__name__": "up", "job": name}, "value": [1000.25, v]});
    let vector = json!({"resultType": "vector", "result": [row("a", "1.5"), row("b", "2")]});
    assert_eq!(data("/3/result").await, vector);
    assert_eq!(told(&get(&state, "/4/result").await), (422, json!("execution")));
    assert_eq!(data("/5/result").await, json!({"resultType": "scalar", "result": [1000.25, "3"]}));
    assert_eq!(data("/scheduled-6/result").await, json!({"resultType": "scalar", "result": [1000.123, "7"]}));
    for missing in ["/9/result", "/nobody/result"] {
        assert_eq!(told(&get(&state, missing).await), (404, json!("not_found")), "{missing}");
    }
}
