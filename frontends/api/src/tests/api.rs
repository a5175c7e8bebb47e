//! Tests of single requests: texts and status codes as Prometheus 2.42 returns them for the same
//! requests.

use super::super::{ApiSettings, AppState, Capabilities, QuerySettings, WebSettings, cors_origin, router};
use super::fakes::server;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tower::ServiceExt;

pub(super) struct TestResponse {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) text: String,
    /// The size of the body as sent, bytes.
    size: usize,
}

impl TestResponse {
    /// The `error` of the envelope, or "".
    pub(super) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or("").to_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

async fn send(state: &AppState, request: Request<Body>) -> TestResponse {
    let response = router(state.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    TestResponse {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8_lossy(&bytes).into_owned(),
        size: bytes.len(),
    }
}

pub(super) async fn request(
    state: &AppState,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> TestResponse {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(state, request.body(Body::from(body)).unwrap()).await
}

pub(super) async fn get(path: &str) -> TestResponse {
    request(&server(ApiSettings::default()).0, "GET", path, &[], "").await
}

#[tokio::test]
async fn query_gives_every_type_in_its_notation() {
    let cases = [
        ("query=1e-7&time=4.123456", r#"{"resultType":"scalar","result":[4.123,"0.0000001"]}"#),
        ("query=1", r#"{"resultType":"scalar","result":[1000.123,"1"]}"#),
        ("query='a'&time=4", r#"{"resultType":"string","result":[4,"a"]}"#),
        (
            "query=up&time=4.5",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[4.500,"1"]},{"metric":{"__name__":"up","job":"b"},"value":[4.500,"NaN"]}]}"#,
        ),
        (
            "query=up[5m]",
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a"},"values":[[1.500,"2"]]},{"metric":{"__name__":"up","job":"b"},"values":[[1,"1"]]}]}"#,
        ),
    ];
    for (values, data) in cases {
        let got = get(&format!("/api/v1/query?{values}")).await;
        let expected = format!(r#"{{"status":"success","data":{data},"infos":["PromQL info: hm (1:1)"]}}"#);
        assert_eq!((got.status, got.text), (StatusCode::OK, expected));
        assert_eq!(got.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn errors_have_their_words_and_codes() {
    let cases = [
        ("query?query=sum(", r#"invalid parameter "query": 1:5: parse error: unclosed left parenthesis"#),
        ("query?query=", r#"invalid parameter "query": 1:1: parse error: no expression found in input"#),
        (
            "query?query=1&time=x",
            r#"invalid parameter "time": invalid time value for 'time': cannot parse "x" to a valid timestamp"#,
        ),
        ("query?query=1&timeout=x", r#"invalid parameter "timeout": cannot parse "x" to a valid duration"#),
        (
            "query?query=1&lookback_delta=x",
            r#"error parsing lookback delta duration: cannot parse "x" to a valid duration"#,
        ),
        ("query?query=1&limit=-1", r#"invalid parameter "limit": limit must be non-negative"#),
        ("query", r#"invalid parameter "query": 1:1: parse error: no expression found in input"#),
        ("parse_query", r#"invalid parameter "query": 1:1: parse error: no expression found in input"#),
        ("query_exemplars?query=sum(", "1:5: parse error: unclosed left parenthesis"),
        ("query_exemplars?query=up&start=5&end=1", "end timestamp must not be before start timestamp"),
        ("query?query=1&limit=x", r#"invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax"#),
        (
            "query_range?query=1&start=x",
            r#"invalid parameter "start": cannot parse "x" to a valid timestamp"#,
        ),
        (
            "query_range?query=1&start=10&end=1&step=1",
            r#"invalid parameter "end": end timestamp must not be before start time"#,
        ),
        (
            "query_range?query=1&start=1&end=10&step=0",
            r#"invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
        ),
        (
            "query_range?query=1&start=1&end=10",
            r#"invalid parameter "step": cannot parse "" to a valid duration"#,
        ),
        (
            "query_range?query=1&start=1&end=100000&step=1",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            "query_range?query=up%5B5m%5D&start=1&end=10&step=1",
            r#"invalid parameter "query": invalid expression type "range vector" for range query, must be Scalar or instant Vector"#,
        ),
        (
            "format_query?query=sum(",
            r#"invalid parameter "query": 1:5: parse error: unclosed left parenthesis"#,
        ),
        ("series", "no match[] parameter provided"),
        ("series?match[]=sum(", r#"invalid parameter "match[]": 1:4: parse error: unexpected "(""#),
        (
            "series?match[]=up&start=x",
            r#"invalid parameter "start": invalid time value for 'start': cannot parse "x" to a valid timestamp"#,
        ),
        (
            "series?match[]=%7B%7D",
            r#"invalid parameter "match[]": match[] must contain at least one non-empty matcher"#,
        ),
        ("labels?match[]=sum(", r#"1:4: parse error: unexpected "(""#),
        ("rules?type=x", r#"invalid parameter "type": not supported value "x""#),
        ("metadata?limit=x", "limit must be a number"),
        (
            "targets/metadata?match_target=sum(",
            r#"invalid parameter "match_target": 1:4: parse error: unexpected "(""#,
        ),
        ("status/tsdb?limit=0", "limit must be a positive number"),
        ("subscribe?query=sum(", r#"invalid parameter "query": 1:5: parse error: unclosed left parenthesis"#),
    ];
    for (path, error) in cases {
        let got = get(&format!("/api/v1/{path}")).await;
        let expected =
            serde_json::json!({"status": "error", "errorType": "bad_data", "error": error}).to_string();
        assert_eq!((got.status, got.text), (StatusCode::BAD_REQUEST, expected), "{path}");
    }
    let got = get("/api/v1/query?query=hungry").await;
    assert_eq!((got.status.as_u16(), got.json()["errorType"].as_str()), (422, Some("execution")));
    let got = get("/api/v1/query?query=slow&timeout=20ms").await;
    assert_eq!((got.status.as_u16(), got.json()["errorType"].as_str()), (503, Some("timeout")));
    let got = get("/api/v1/query?query=1&timeout=0").await;
    assert_eq!(
        (got.status.as_u16(), got.json()["error"].as_str()),
        (503, Some("query timed out in query queue"))
    );
}

#[tokio::test]
async fn forms_limits_and_stats() {
    let (state, _) = server(ApiSettings::default());
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let got = request(&state, "POST", "/api/v1/query?query=2&time=3", &form, "query=1").await;
    assert_eq!(got.json()["data"]["result"], serde_json::json!([3, "1"]));
    let got = get("/api/v1/query?query=up&limit=1&stats=all").await.json();
    assert_eq!(got["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(got["warnings"], serde_json::json!(["results truncated due to limit"]));
    assert_eq!(got["data"]["stats"]["samples"]["totalQueryableSamples"], 7);
    assert!(got["data"]["stats"]["timings"]["execTotalTime"].as_f64().unwrap() > 0.0);
    assert_eq!(got["data"]["stats"]["samples"].get("totalQueryableSamplesPerStep"), None);
    let steps = ApiSettings {
        queries: QuerySettings { step_stats: true, ..QuerySettings::default() },
        ..ApiSettings::default()
    };
    let path = "/api/v1/query_range?query=up&start=0&end=2&step=1&stats=all";
    let got = request(&server(steps).0, "GET", path, &[], "").await.json();
    let samples = &got["data"]["stats"]["samples"];
    assert_eq!(samples["totalQueryableSamplesPerStep"], serde_json::json!([[0, 0], [1, 4], [2, 0]]));
    assert_eq!(samples["samplesReadPerStep"], serde_json::json!([[0, 0], [1, 3], [2, 0]]));
    let got = get("/api/v1/query_range?query=up&start=1&end=3&step=1").await.json();
    assert_eq!(got["data"]["result"][0]["metric"]["job"], "a", "matrices come by label set");
    assert_eq!(got["data"]["result"][1]["values"], serde_json::json!([[1, "0"], [2, "1"], [3, "2"]]));
}

#[tokio::test]
async fn expressions_without_an_answer() {
    assert_eq!(get("/api/v1/format_query?query=up").await.text, r#"{"status":"success","data":"<up>"}"#);
    assert_eq!(
        get("/api/v1/parse_query?query=up").await.text,
        r#"{"status":"success","data":{"type":"up"}}"#
    );
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let (state, _) = server(ApiSettings::default());
    for (path, data) in [("format_query", r#""<1>""#), ("parse_query", r#"{"type":"1"}"#)] {
        let got = request(&state, "POST", &format!("/api/v1/{path}"), &form, "query=1").await;
        assert_eq!(got.text, format!(r#"{{"status":"success","data":{data}}}"#));
    }
    let exemplar = r#"{"labels":{"trace_id":"x"},"value":"1e-07","timestamp":1.5}"#;
    let series = |job: &str| {
        format!(r#"{{"seriesLabels":{{"__name__":"up","job":"{job}"}},"exemplars":[{exemplar}]}}"#)
    };
    assert_eq!(
        get("/api/v1/query_exemplars?query=up&start=1&end=2").await.text,
        format!(r#"{{"status":"success","data":[{},{}]}}"#, series("a"), series("b"))
    );
    let got = get("/api/v1/query_exemplars?query=1").await;
    assert_eq!((got.status.as_u16(), got.text.as_str()), (204, ""));
}

#[tokio::test]
async fn what_queries_cost_is_counted_and_logged() {
    let (state, _) = server(ApiSettings::default());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("queries.log");
    state.sources.queries.log.set(Some(&file)).unwrap();
    request(&state, "GET", "/api/v1/query?query=up&time=5", &[], "").await;
    request(&state, "POST", "/api/v1/query_range?query=hungry&start=1&end=3&step=1", &[], "").await;
    request(&state, "GET", "/api/v1/query?query=hungry", &[], "").await;
    request(&state, "GET", "/api/v1/query?query=sum(", &[], "").await;
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let queries: Vec<_> = lines.iter().map(|l| l["params"]["query"].as_str().unwrap()).collect();
    assert_eq!(queries, ["up", "hungry", "hungry"]);
    assert_eq!(lines[0]["params"]["start"], "1970-01-01T00:00:05.000Z");
    assert_eq!(lines[0]["stats"]["samples"]["totalQueryableSamples"], 7);
    assert_eq!(lines[1]["httpRequest"]["method"], "POST");
    assert_eq!(lines[2]["error"], "query processing would load too many samples");
    let metrics = request(&state, "GET", "/metrics", &[], "").await.text;
    for line in [
        "prometheus_engine_queries 0\n",
        "prometheus_engine_query_duration_seconds_count{slice=\"inner_eval\"} 3\n",
        "prometheus_engine_query_duration_seconds_count{slice=\"queue_time\"} 3\n",
        "prometheus_engine_query_samples_total 14\n",
        "prometheus_engine_query_samples_read_total 10\n",
        "prometheus_engine_query_log_enabled 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
}

#[tokio::test]
async fn a_query_waits_for_its_turn_no_longer_than_its_timeout() {
    let settings = ApiSettings {
        queries: QuerySettings { max_concurrency: 1, ..QuerySettings::default() },
        ..ApiSettings::default()
    };
    let (state, _) = server(settings);
    let slow = request(&state, "GET", "/api/v1/query?query=slow&timeout=400ms", &[], "");
    let quick = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        request(&state, "GET", "/api/v1/query?query=1&timeout=50ms", &[], "").await
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!(slow.json()["error"], "query timed out in expression evaluation");
    assert_eq!(
        (quick.status.as_u16(), quick.json()["error"].as_str()),
        (503, Some("query timed out in query queue"))
    );
    let waiting = request(&state, "GET", "/api/v1/query?query=slow&timeout=100ms", &[], "");
    let patient = async {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        request(&state, "GET", "/api/v1/query?query=1&stats=all", &[], "").await
    };
    let (_, patient) = tokio::join!(waiting, patient);
    let queued = &patient.json()["data"]["stats"]["timings"]["execQueueTime"];
    assert!(queued.as_f64().unwrap() > 0.03, "{queued}");
}

/// The fake query never checks its limits, as on a machine whose CPUs are busy with other work.
#[tokio::test]
async fn the_client_is_told_at_the_deadline_and_the_turn_stays_taken() {
    let settings = ApiSettings {
        queries: QuerySettings { max_concurrency: 1, ..QuerySettings::default() },
        ..ApiSettings::default()
    };
    let (state, fakes) = server(settings);
    let late = request(&state, "GET", "/api/v1/query?query=stuck&timeout=30ms", &[], "").await;
    let error = (late.status.as_u16(), late.json()["error"].clone());
    assert_eq!(error, (503, "query timed out in expression evaluation".into()));
    assert_eq!(state.telemetry.queries.get(), 1.0, "it is at work all the same");
    let next = request(&state, "GET", "/api/v1/query?query=1&timeout=30ms", &[], "").await;
    assert_eq!(next.json()["error"], "query timed out in query queue");
    fakes.go_on.store(true, SeqCst);
    let next = request(&state, "GET", "/api/v1/query?query=1", &[], "").await;
    assert_eq!((next.status.as_u16(), fakes.cancelled.load(SeqCst)), (200, true), "it was told to stop");
}

#[tokio::test]
async fn large_ranges_stream_and_compress() {
    let path = "/api/v1/query_range?query=up&start=0&end=10999&step=1";
    let plain = get(path).await;
    assert_eq!(plain.json()["data"]["result"][1]["values"].as_array().unwrap().len(), 11_000);
    let zipped =
        request(&server(ApiSettings::default()).0, "GET", path, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    assert!(zipped.size * 2 < plain.size);
}

#[tokio::test]
async fn lists_of_series_count_among_answers() {
    let (state, _) = server(ApiSettings {
        queries: QuerySettings { max_bytes: 10, ..QuerySettings::default() },
        ..ApiSettings::default()
    });
    let lists =
        ["/api/v1/series?match[]=up", "/api/v1/labels", "/api/v1/label/job/values", "/federate?match[]=up"];
    for path in lists {
        let got = request(&state, "GET", path, &[], "").await;
        assert_eq!(got.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {}", got.text);
        assert!(
            got.text.contains("more than 10 B") && got.text.contains("--query.max-bytes"),
            "{}",
            got.text
        );
    }
    assert_eq!(state.sources.queries.memory.reserved(), 0, "what was refused is given back");
    let (state, _) = server(ApiSettings::default());
    for path in lists {
        assert_eq!(request(&state, "GET", path, &[], "").await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(state.sources.queries.memory.reserved(), 0, "what was sent is given back");
}

#[tokio::test]
async fn names_and_series() {
    assert_eq!(
        get("/api/v1/series?match[]=up&match[]=nix").await.text,
        r#"{"status":"success","data":[{"__name__":"up","job":"a"},{"__name__":"up","job":"b"}]}"#
    );
    assert_eq!(get("/api/v1/series?match[]=nix").await.text, r#"{"status":"success","data":[]}"#);
    assert_eq!(
        get("/api/v1/labels?limit=1").await.text,
        r#"{"status":"success","data":["__name__"],"warnings":["results truncated due to limit"]}"#
    );
    let got = get("/api/v1/label/U__a_2e_b/values?start=1&end=2").await;
    assert_eq!(got.text, r#"{"status":"success","data":["a.b","1000","2000"]}"#);
    let got = get("/federate?match[]=up").await;
    assert!(got.text.starts_with("# TYPE up untyped\nup{job=\"a\",dc=\"x\",instance=\"\"} 1 1000123\n"));
}

#[tokio::test]
async fn rules_alerts_and_targets() {
    let got = get("/api/v1/rules").await;
    assert!(got.text.starts_with(
        r#"{"status":"success","data":{"groups":[{"name":"g","file":"r.yml","rules":[{"name":"a:b","query":"up","labels":{},"health":"ok","#
    ));
    assert!(got.text.contains(r#""activeAt":"1970-01-01T00:00:01Z","value":"9.3e+01"}"#));
    let names = |got: &TestResponse| -> Vec<String> {
        let groups = got.json()["data"]["groups"].clone();
        let rules = groups.as_array().unwrap().iter().flat_map(|g| g["rules"].as_array().unwrap().clone());
        rules.map(|r| r["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&get("/api/v1/rules?type=alert").await), ["Foo"]);
    assert_eq!(names(&get("/api/v1/rules?type=record").await), ["a:b", "c:d"]);
    assert_eq!(names(&get("/api/v1/rules?rule_name[]=Foo&file[]=r.yml").await), ["Foo"]);
    assert!(names(&get("/api/v1/rules?rule_group[]=other").await).is_empty());
    let quiet = get("/api/v1/rules?type=alert&exclude_alerts=tRue").await;
    assert!(quiet.text.contains(r#""alerts":null,"#), "{}", quiet.text);
    assert_eq!(get("/api/v1/alerts").await.json()["data"]["alerts"][0]["state"], "firing");

    let got = get("/api/v1/targets?state=active").await.json();
    assert_eq!(got["data"]["activeTargets"][0]["lastScrape"], "0001-01-01T00:00:00Z");
    assert_eq!(got["data"]["droppedTargets"], serde_json::json!([]));
    assert_eq!(
        get("/api/v1/targets?scrapePool=b").await.json()["data"]["activeTargets"],
        serde_json::json!([])
    );
    let got = get("/api/v1/metadata?metric=up&limit_per_metric=1").await;
    assert_eq!(got.text, r#"{"status":"success","data":{"up":[{"type":"gauge","help":"Up.","unit":""}]}}"#);
    let got = get("/api/v1/targets/metadata?metric=x").await;
    assert_eq!(
        got.text,
        r#"{"status":"success","data":[{"target":{"__name__":"up","job":"b"},"type":"gauge","help":"X.","unit":""}]}"#
    );
    let got = get("/api/v1/alertmanagers").await.json();
    assert_eq!(got["data"]["activeAlertmanagers"][0]["url"], "http://am:9093/api/v2/alerts");
}

#[tokio::test]
async fn status_pages() {
    let build = get("/api/v1/status/buildinfo").await.json();
    assert!(build["data"]["version"].as_str().unwrap().starts_with("3."));
    assert_eq!(build["data"].get("features"), None, "Grafana would take the server for Mimir");
    assert_eq!(get("/api/v1/status/tsdb?limit=1").await.json()["data"]["headStats"]["numSeries"], 2);
    let flags = get("/api/v1/status/flags").await.json();
    assert_eq!((&flags["status"], &flags["data"]["query.timeout"]), (&"success".into(), &"2m".into()));
    assert_eq!(flags["infos"], serde_json::json!(["--x has no effect: \"y\""]));
    assert_eq!(get("/api/v1/status/runtimeinfo").await.json()["data"]["GOMAXPROCS"], 2);
    assert_eq!(get("/api/v1/status/config").await.json()["data"]["yaml"], "global: {}\n");
    let (state, _) = server(ApiSettings::default());
    request(&state, "GET", "/api/v1/label/job/values", &[], "").await;
    let metrics = request(&state, "GET", "/metrics", &[], "").await.text;
    for line in [
        "prometheus_http_requests_total{handler=\"/api/v1/label/:name/values\",code=\"200\"} 1\n",
        "prometheus_engine_queries_concurrent_max 20\n",
        "prometheus_ready 1\n",
        "perennial_subscriptions 0\n",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
    let page = get("/api").await;
    assert!(page.text.contains("/api/v1/subscribe") && page.header("content-type").starts_with("text/html"));
}

#[tokio::test]
async fn methods_origins_and_unknown_paths() {
    let (state, _) = server(ApiSettings::default());
    let got = request(&state, "PUT", "/api/v1/query", &[], "").await;
    assert_eq!((got.status.as_u16(), got.header("allow")), (405, "GET, OPTIONS, POST"));
    assert_eq!(got.text, "Method Not Allowed\n");
    let got = request(&state, "POST", "/api/v1/label/job/values", &[], "").await;
    assert_eq!((got.status.as_u16(), got.header("allow")), (405, "GET, OPTIONS"));
    assert_eq!(request(&state, "HEAD", "/api/v1/query", &[], "").await.status, 405);
    let origin = [("origin", "http://x")];
    for path in ["/api/v1/query", "/api/v1/no/such"] {
        let got = request(&state, "OPTIONS", path, &origin, "").await;
        assert_eq!((got.status.as_u16(), got.header("access-control-allow-origin")), (204, "*"), "{path}");
    }
    let got = get("/api/v1/nix").await;
    assert_eq!((got.status.as_u16(), got.text.as_str()), (404, "404 page not found\n"));
    let settings = ApiSettings {
        web: WebSettings {
            cors_origin: cors_origin("https?://(a|b)\\.example").unwrap(),
            ..WebSettings::default()
        },
        ..ApiSettings::default()
    };
    let (state, _) = server(settings);
    let of = |origin| request(&state, "GET", "/api/v1/query?query=1", origin, "");
    let got = of(&[("origin", "http://a.example")]).await;
    assert_eq!(
        (got.header("access-control-allow-origin"), got.header("vary").contains("Origin")),
        ("http://a.example", true)
    );
    assert_eq!(of(&[("origin", "http://a.example.evil")]).await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn life_and_death() {
    let (state, fakes) = server(ApiSettings::default());
    assert_eq!(get("/-/ready").await.text, "Prometheus Server is Ready.\n");
    assert_eq!(get("/-/healthy").await.text, "Prometheus Server is Healthy.\n");
    let got = request(&state, "POST", "/-/reload", &[], "").await;
    assert_eq!((got.status.as_u16(), got.text.as_str()), (403, "Lifecycle API is not enabled."));
    assert_eq!(get("/-/quit").await.text, "Only POST or PUT requests allowed");
    fakes.ill.store(true, SeqCst);
    for path in ["/-/healthy", "/-/ready"] {
        let got = request(&state, "GET", path, &[], "").await;
        let reason = "Prometheus Server is not Healthy: the data directory /data is gone\n";
        assert_eq!((got.status.as_u16(), got.text.as_str()), (503, reason));
    }
    fakes.ill.store(false, SeqCst);
    let got = request(&state, "PUT", "/-/healthy", &[], "").await;
    assert_eq!((got.status.as_u16(), got.text.as_str()), (405, "Method Not Allowed\n"));
    let got = request(&state, "POST", "/api/v1/write", &[], "").await;
    let off = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
    assert_eq!((got.status.as_u16(), got.text.as_str()), (404, off));

    fakes.ready.store(false, SeqCst);
    for path in ["/-/ready", "/api/v1/query?query=1"] {
        let got = request(&state, "GET", path, &[], "").await;
        assert_eq!((got.status.as_u16(), got.text.as_str()), (503, "Service Unavailable"));
        assert_eq!((got.header("x-prometheus-stopping"), got.header("retry-after")), ("false", "2"));
    }
    let got = request(&state, "GET", "/api/v1/status/walreplay", &[], "").await;
    assert_eq!(got.text, r#"{"status":"success","data":{"min":0,"max":3,"current":2}}"#);
    state.stop();
    assert_eq!(request(&state, "GET", "/-/ready", &[], "").await.header("x-prometheus-stopping"), "true");

    let (state, fakes) = server(ApiSettings { lifecycle: true, ..ApiSettings::default() });
    let got = request(&state, "PUT", "/-/reload", &[], "").await;
    assert_eq!((got.status.as_u16(), got.text.as_str()), (500, "failed to reload config: line 3 is odd\n"));
    assert_eq!(request(&state, "POST", "/-/quit", &[], "").await.status, 200);
    assert!(fakes.quit.load(SeqCst));
    let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
    let got = request(&state, "POST", "/api/v1/write", &headers, "abc").await;
    assert_eq!(got.status, 204);
    assert_eq!(got.header("x-prometheus-remote-write-histograms-written"), "2");
    let got = request(&state, "POST", "/api/v1/write", &headers, "abcd").await;
    assert_eq!((got.status.as_u16(), got.text.as_str()), (400, "application/x-protobuf snappy 4\n"));
}

#[tokio::test]
async fn what_grafana_and_alertmanager_follow_is_answered() {
    let got = get("/api/v1/query_exemplars?query=nix&start=1&end=2").await;
    assert_eq!((got.status.as_u16(), got.text.as_str()), (200, r#"{"status":"success","data":[]}"#));
    for bad in ["query=up&start=2&end=1", "query=up&start=x", "query=sum("] {
        assert_eq!(get(&format!("/api/v1/query_exemplars?{bad}")).await.status, 400, "{bad}");
    }
    let got = get("/graph?g0.expr=up%7Ba%3D%22b%22%7D+%3D%3D+0&g0.tab=1").await;
    let there = "/query?g0.expr=up%7Ba%3D%22b%22%7D+%3D%3D+0&g0.tab=1";
    assert_eq!((got.status.as_u16(), got.header("location")), (302, there));
    assert_eq!(get("/graph").await.header("location"), "/query");
    assert_eq!(get("/graph?//evil.example").await.header("location"), "/query?//evil.example");
}

#[tokio::test]
async fn no_request_is_sent_to_another_host() {
    // The path of the external URL, the address that is asked, and where it leads.
    let table = [
        ("", "/graph?g0.expr=up&//evil.test", "/query?g0.expr=up&//evil.test"),
        ("", "/graph?\\\\evil.test", "/query?\\\\evil.test"),
        ("", "/graph/?//evil.test", "/graph?//evil.test"),
        ("", "//evil.test", "/evil.test"),
        ("", "//evil.test/graph", "/evil.test/graph"),
        ("", "/\\evil.test//x", "/evil.test/x"),
        ("", "/.//evil.test", "/evil.test"),
        ("", "/%5Cevil.test//x", "/%5Cevil.test/x"),
        ("", "/%09//evil.test", "/%09/evil.test"),
        ("", "/@evil.test//", "/@evil.test/"),
        ("", "/", "/query"),
        ("/mon", "/graph?g0.expr=up", "/mon/query?g0.expr=up"),
        ("/mon", "/", "/mon/query"),
        ("//evil.test", "/graph", "/evil.test/query"),
        ("//evil.test", "/", "/evil.test/query"),
        ("/\\evil.test", "/graph", "/evil.test/query"),
    ];
    for (external, path, want) in table {
        let (state, _) = server(ApiSettings {
            web: WebSettings { external_path: external.into(), ..WebSettings::default() },
            ..ApiSettings::default()
        });
        let got = request(&state, "GET", path, &[], "").await;
        assert!(got.status.is_redirection(), "{external} {path}: {}", got.status);
        assert_eq!(got.header("location"), want, "{external} {path}");
    }
    // Where only the prefix is known, its root leads to the address of the outside.
    let settings = ApiSettings {
        web: WebSettings {
            route_prefix: "/p".into(),
            external_path: "//evil.test".into(),
            ..WebSettings::default()
        },
        ..ApiSettings::default()
    };
    let (state, _) = server(settings);
    assert_eq!(request(&state, "GET", "/", &[], "").await.header("location"), "/evil.test/");
}

#[tokio::test]
async fn the_page_and_its_files_are_served() {
    let (state, _) = server(ApiSettings {
        web: WebSettings { page_title: "A & B".into(), ..WebSettings::default() },
        ..ApiSettings::default()
    });
    let page = request(&state, "GET", "/alerts?state=firing", &[], "").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.text.contains("<title>A &amp; B</title>"), "{}", page.text);
    let etag = [("if-none-match", page.header("etag"))];
    assert_eq!(request(&state, "GET", "/rules", &etag, "").await.status, 304);
    let script = page.text.split("./").find(|part| part.starts_with("a/index-")).unwrap();
    let path = format!("/{}", &script[..script.find('"').unwrap()]);
    let plain = request(&state, "GET", &path, &[], "").await;
    assert_eq!(plain.header("cache-control"), "public, max-age=31536000, immutable");
    let etag = [("if-none-match", plain.header("etag"))];
    assert_eq!(request(&state, "GET", &path, &etag, "").await.status, 304);
    for missing in ["/a/nothing.js", "/a/..%2Findex.html", "/index.html"] {
        assert_eq!(request(&state, "GET", missing, &[], "").await.status, 404, "{missing}");
    }
}

#[tokio::test]
async fn the_calls_of_prometheus_page_are_answered() {
    let steps = get("/api/v1/targets/relabel_steps?scrapePool=a&labels=%7B%22x%22%3A%22y%22%7D").await;
    assert_eq!(steps.json()["data"]["steps"][0]["output"]["x"], "y");
    assert_eq!(steps.json()["data"]["steps"][0]["rule"]["action"], "keep");
    for bad in ["scrapePool=b&labels=%7B%7D", "scrapePool=a&labels=x", "labels=%7B%7D"] {
        assert_eq!(get(&format!("/api/v1/targets/relabel_steps?{bad}")).await.status, 400, "{bad}");
    }
    let missing = get("/api/v1/scrape_pools/config?scrapePool=x").await;
    assert_eq!(missing.status, 400);
    let why = "error retrieving scrape config: scrape pool \"x\" not found";
    assert_eq!(missing.json()["error"], why);
    assert_eq!(get("/api/v1/notifications").await.json()["data"], serde_json::json!([]));
    let settings = ApiSettings {
        capabilities: Capabilities {
            discovery: [("http".to_owned(), true), ("oci".to_owned(), false)].into(),
            template_functions: vec!["humanize".to_owned()],
            ..Capabilities::default()
        },
        ..ApiSettings::default()
    };
    let features = request(&server(settings).0, "GET", "/api/v1/features", &[], "").await;
    assert_eq!(features.json()["data"].as_object().unwrap().len(), 12);
    let expected = serde_json::json!({"http": true, "oci": false});
    assert_eq!(features.json()["data"]["service_discovery_providers"], expected);
    assert_eq!(features.json()["data"]["templating_functions"], serde_json::json!({"humanize": true}));
    assert_eq!(features.json()["data"]["promql"]["group_left"], true);
    assert_eq!(get("/api/v1/status/tsdb/blocks").await.json()["data"]["blocks"], serde_json::json!([]));
    let own = get("/api/v1/status/self_metrics?metric_name_pattern=prometheus_ready").await;
    assert_eq!(own.json()["data"][0]["metric"][0]["gauge"]["value"], 1.0);
    let openapi = get("/api/v1/openapi.yaml").await;
    assert!(
        openapi.text.contains("  \"/api/v1/label/{name}/values\":\n    parameters:\n"),
        "{}",
        openapi.text
    );
}

#[tokio::test]
async fn notifications_begin_and_end() {
    use futures::StreamExt;
    let (state, fakes) = server(ApiSettings::default());
    fakes.ready.store(false, SeqCst);
    let request = Request::get("/api/v1/notifications/live").body(Body::empty()).unwrap();
    let response = super::super::dispatch::route(state.clone(), request).await;
    let mut body = response.into_body().into_data_stream();
    let mut next = async || String::from_utf8(body.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert_eq!(next().await, ": connected\n");
    assert!(next().await.contains("\"text\":\"Prometheus is starting"));
    fakes.ready.store(true, SeqCst);
    assert!(next().await.contains("\"active\":false"));
}

#[tokio::test]
async fn a_prefix_moves_everything() {
    let settings = ApiSettings {
        web: WebSettings {
            route_prefix: "/prom".into(),
            external_path: "/prom".into(),
            ..WebSettings::default()
        },
        ..ApiSettings::default()
    };
    let (state, _) = server(settings);
    assert_eq!(request(&state, "GET", "/prom/api/v1/query?query=1", &[], "").await.status, 200);
    assert_eq!(
        request(&state, "GET", "/prom/api/v1/label/job/values", &[], "").await.json()["data"][0],
        "job"
    );
    assert_eq!(request(&state, "GET", "/api/v1/query?query=1", &[], "").await.status, 404);
    let got = request(&state, "GET", "/", &[], "").await;
    assert_eq!((got.status.as_u16(), got.header("location")), (302, "/prom/"));
    let page = request(&state, "GET", "/prom/api", &[], "").await;
    assert!(page.text.contains("href=\"/prom/api/v1/query\""));
    let start = request(&state, "GET", "/prom/", &[], "").await;
    assert_eq!((start.status.as_u16(), start.header("location")), (302, "/prom/query"));
    let page = request(&state, "GET", "/prom/query?g0.expr=up", &[], "").await;
    assert!(page.text.contains("<base href=\"/prom/\""), "{}", page.text);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let (state, _) = server(ApiSettings::default());
    let body = format!("query={}", "x".repeat(super::super::limits::FORM_BYTES));
    let request = Request::builder()
        .method("POST")
        .uri("/api/v1/query")
        .header("content-type", "application/x-www-form-urlencoded");
    let got = send(&state, request.body(Body::from(body)).unwrap()).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
    assert!(got.json()["error"].as_str().unwrap().contains("request body too large"));
    let (state, _) = server(ApiSettings { lifecycle: true, ..ApiSettings::default() });
    let body = Body::from(vec![0; super::super::limits::WRITE_BYTES + 1]);
    let got = send(&state, Request::post("/api/v1/write").body(body).unwrap()).await;
    assert_eq!(got.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn answers_wait_for_the_log_but_not_for_ever() {
    let (state, fakes) = server(ApiSettings::default());
    let ask = |path: &'static str| request(&state, "GET", path, &[], "");
    let soon = Duration::from_millis(200);
    fakes.stands_still.store(true, SeqCst);
    for path in ["/api/v1/query?query=up", "/federate?match[]=up", "/api/v1/series?match[]=up"] {
        assert!(tokio::time::timeout(soon, ask(path)).await.is_err(), "{path} shows what is not logged");
    }
    assert_eq!(ask("/-/ready").await.status, StatusCode::OK);
    let (answer, _) = tokio::join!(ask("/api/v1/query?query=up"), async {
        tokio::time::sleep(soon).await;
        fakes.stands_still.store(false, SeqCst);
    });
    assert_eq!(answer.status, StatusCode::OK);
    fakes.stands_still.store(true, SeqCst);
    assert_eq!(ask("/api/v1/query?query=up").await.status, StatusCode::OK, "reads go on");
}
