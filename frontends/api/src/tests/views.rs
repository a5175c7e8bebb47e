//! Tests of `/api/v1/views`: pages, single views, and the errors.

use super::super::{ApiSettings, AppState};
use super::api::{TestResponse, request};
use super::fakes::server;
use engine::live::check::{CheckReport, EvaluationCause, LastEvaluation};
use engine::live::cost::EvaluationCost;
use engine::live::describe::{
    AnswerReport, ByteCount, DescribeError, EvaluationFailure, RingReport, StepCount, ViewFootprint,
    ViewReport,
};
use engine::live::{ViewKind, ViewSpec};
use engine::operators::EvalError;
use engine::plan::{BitFloat, PlanNode, PlanOp, Span};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use storage::model::Labels;
use views::scheduled::parse_view_id;

async fn get(state: &AppState, path: &str) -> TestResponse {
    request(state, "GET", path, &[], "").await
}

fn report(id: &str, kind: ViewKind, answer: AnswerReport, work: Option<ViewFootprint>) -> ViewReport {
    let plan = Arc::new(PlanNode { op: PlanOp::Number(BitFloat(1.0)), span: Span::default() });
    ViewReport {
        id: parse_view_id(id).unwrap(),
        spec: ViewSpec { name: format!("view {id}"), plan, kind },
        answer,
        work,
        subquery_cache: None,
    }
}

fn continuous() -> ViewReport {
    let ring =
        RingReport { selector: "{a=\"b\"}".into(), retention: 330_000, series: 4, bytes: 640, readers: 2 };
    let work = ViewFootprint {
        owner: 1,
        round: 2,
        local: StepCount { total: 3, shared: 2 },
        gather: StepCount { total: 1, shared: 0 },
        state: ByteCount { total: 900, shared: 640 },
        spent: Some(EvaluationCost {
            t: 1_795_248_000_000,
            latest: 0.00025,
            total: 1.5,
            ..EvaluationCost::default()
        }),
        rows_touched: 4,
        rings: vec![ring],
        ..ViewFootprint::default()
    };
    let answer = AnswerReport {
        taps: 1,
        rows: 3,
        changed: Some(1_795_248_000_000),
        frontier: Some(1_795_248_000_250),
        ..AnswerReport::default()
    };
    report("3", ViewKind::NOW, answer, Some(work))
}

fn recorded() -> ViewReport {
    let kind = ViewKind::Recorded {
        record: "r".into(),
        labels: vec![("team".into(), "x".into())],
        interval: 1_500,
        offset: 0,
        query_offset: 60_000,
        limit: 9,
    };
    let failure = Some(EvaluationFailure { t: 1_795_248_000_000, error: "too much".into(), lasts: true });
    report("scheduled-1", kind, AnswerReport { failure, ..AnswerReport::default() }, None)
}

#[tokio::test]
async fn a_view_shows_what_it_is_made_of() {
    let (state, fakes) = server(ApiSettings::default());
    *fakes.views.reports.lock() = vec![continuous(), recorded()];
    let first = json!({
        "id": "3", "name": "view 3", "kind": "continuous", "standing": true, "plan": "select",
        "taps": 1, "rows": 3, "lastChange": "2026-11-21T08:00:00Z", "frontier": "2026-11-21T08:00:00.25Z", "health": "ok", "lastError": "",
        "stateBytes": {"total": 900, "shared": 640}, "cpuSeconds": 1.5, "evaluationSeconds": 0.00025, "level": 2, "worker": 1,
        "localSteps": {"total": 3, "shared": 2}, "gatherSteps": {"total": 1, "shared": 0}, "rowsTouched": 4,
        "rings": [{"selector": "{a=\"b\"}", "reach": 330, "series": 4, "bytes": 640, "readers": 2}],
    });
    let second = json!({
        "id": "scheduled-1", "name": "view scheduled-1", "kind": "recorded", "standing": false, "plan": "select",
        "record": "r", "labels": {"team": "x"}, "interval": 1.5, "offset": 0, "queryOffset": 60, "limit": 9,
        "taps": 0, "rows": 0, "health": "err", "lastError": "too much", "lastErrorTime": "2026-11-21T08:00:00Z",
    });
    let data = json!({"time": "2026-11-21T08:00:00.5Z", "views": [first, second], "total": 2});
    assert_eq!(get(&state, "/api/v1/views").await.json(), json!({"status": "success", "data": data}));
    assert_eq!(get(&state, "/api/v1/views/3").await.json()["data"], first);
    assert_eq!(get(&state, "/api/v1/views/scheduled-1").await.json()["data"], second);
    // One that failed once and recovered, and one that was never evaluated.
    let mut healed = recorded();
    healed.answer.failure.as_mut().unwrap().lasts = false;
    healed.answer.changed = Some(1_795_248_001_000);
    let mut fresh = recorded();
    fresh.answer.failure = None;
    for (view, health, error) in [(healed, "ok", "too much"), (fresh, "unknown", "")] {
        *fakes.views.reports.lock() = vec![view];
        let got = get(&state, "/api/v1/views/scheduled-1").await.json();
        assert_eq!((&got["data"]["health"], &got["data"]["lastError"]), (&json!(health), &json!(error)));
    }
}

#[tokio::test]
async fn views_come_in_pages() {
    let (state, fakes) = server(ApiSettings::default());
    let nothing = json!({"status": "success", "data": {"views": [], "total": 0}});
    assert_eq!(get(&state, "/api/v1/views").await.json(), nothing);
    let view = |id: u64| report(&id.to_string(), ViewKind::NOW, AnswerReport::default(), None);
    *fakes.views.reports.lock() = (1..=2_001).map(view).chain([recorded()]).collect();
    let page = async |query: &str| {
        let data = get(&state, &format!("/api/v1/views{query}")).await.json()["data"].clone();
        let views = data["views"].as_array().unwrap();
        (
            views[0]["id"].as_str().unwrap().to_owned(),
            views.len(),
            data["next"].clone(),
            data["total"].clone(),
        )
    };
    assert_eq!(page("").await, ("1".into(), 1_000, json!("1001"), json!(2_002)));
    assert_eq!(page("?from=1001").await, ("1001".into(), 1_000, json!("2001"), json!(2_002)));
    assert_eq!(page("?from=2001").await, ("2001".into(), 2, json!(null), json!(2_002)));
    assert_eq!(page("?from=2001&limit=1").await, ("2001".into(), 1, json!("scheduled-1"), json!(2_002)));
    assert_eq!(page("?from=scheduled-0").await, ("scheduled-1".into(), 1, json!(null), json!(2_002)));
}

/// The relation of SQL has no pages: all views are in it, however many.
#[tokio::test]
async fn meta_views_has_the_views_of_all_pages() {
    let (state, fakes) = server(ApiSettings::default());
    let view = |id: u64| report(&id.to_string(), ViewKind::NOW, AnswerReport::default(), None);
    for live in [0, 999, 1_000, 2_001] {
        *fakes.views.reports.lock() = (1..=live).map(view).chain([recorded()]).collect();
        let statement = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM meta.views";
        let header = [("content-type", "application/sql")];
        let got = request(&state, "POST", "/api/v1/sql", &header, statement).await;
        let rows = got.json()["data"]["rows"].clone();
        assert_eq!(rows, json!([[live + 1, live + 1]]), "{}", got.text);
    }
}

#[tokio::test]
async fn what_is_not_there_has_an_error() {
    let (state, fakes) = server(ApiSettings::default());
    *fakes.views.reports.lock() = vec![continuous()];
    for (path, status, kind, error) in [
        ("/2", 404, "not_found", "no view \"2\": it is gone, or never was"),
        ("/x", 404, "not_found", "no view \"x\": it is gone, or never was"),
        ("?limit=0", 400, "bad_data", "limit must be a positive number"),
        ("?limit=1001", 400, "bad_data", "limit must not exceed 1000"),
        ("?from=-1", 400, "bad_data", "invalid parameter \"from\": \"-1\" is not the id of a view"),
    ] {
        let got = get(&state, &format!("/api/v1/views{path}")).await;
        let expected = json!({"status": "error", "errorType": kind, "error": error});
        assert_eq!((got.status.as_u16(), got.json()), (status, expected), "{path}");
    }
    let late = DescribeError::Late(Duration::from_secs(5));
    for (error, status, kind) in [(late, 503, "timeout"), (DescribeError::Stopped, 503, "unavailable")] {
        *fakes.views.silent.lock() = Some(error);
        let got = get(&state, "/api/v1/views/3").await;
        assert_eq!(
            (got.status.as_u16(), got.json()["errorType"].as_str()),
            (status, Some(kind)),
            "{}",
            got.text
        );
    }
}

#[tokio::test]
async fn a_check_shows_what_differs_and_why() {
    let (state, fakes) = server(ApiSettings::default());
    let series = Labels::from_pairs([("__name__", "x"), ("job", "a")]);
    let step = "newest value of {__name__=\"x\"}".to_owned();
    let last = LastEvaluation { series, step, t: 1_795_248_000_000, cause: EvaluationCause::Timer };
    let row = (Labels::default(), 2.0.into());
    let mut view = continuous();
    view.answer.check = Some(CheckReport {
        t: 1_795_248_000_250,
        answer: Ok(vec![row]),
        raced: false,
        evaluations: vec![last],
    });
    let mut failing = continuous();
    failing.id = parse_view_id("4").unwrap();
    failing.answer.check = Some(CheckReport {
        t: 1_795_248_000_250,
        answer: Err(EvalError("too much".into())),
        raced: true,
        evaluations: Vec::new(),
    });
    *fakes.views.reports.lock() = vec![view, failing, recorded()];
    let check =
        async |id: &str| get(&state, &format!("/api/v1/views/{id}/check")).await.json()["data"].clone();
    let evaluation = json!({
        "series": {"__name__": "x", "job": "a"}, "step": "newest value of {__name__=\"x\"}",
        "time": "2026-11-21T08:00:00Z", "cause": "timer",
    });
    let expected = json!({
        "id": "3", "name": "view 3", "result": "differs", "time": "2026-11-21T08:00:00.25Z", "attempts": 1,
        "differentRows": 1,
        "differences": [{"labels": {}, "live": "2", "history": "1", "evaluations": [evaluation]}],
    });
    assert_eq!(check("3").await, expected);
    // Samples come between tick and query each time.
    let unsettled = check("4").await;
    assert_eq!((&unsettled["result"], &unsettled["attempts"]), (&json!("unsettled"), &json!(10)));
    assert_eq!(unsettled["liveError"], "too much");
    assert_eq!(check("scheduled-1").await["result"], "scheduled");
    let missing = get(&state, "/api/v1/views/9/check").await;
    assert_eq!((missing.status.as_u16(), &missing.json()["errorType"]), (404, &json!("not_found")));
}
