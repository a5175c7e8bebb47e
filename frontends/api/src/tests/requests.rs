//! Tests of request parsing: forms, paths, methods, times, pages of rules. Status codes and texts
//! are those of Prometheus 3.14.

use super::super::ApiSettings;
use super::api::{TestResponse, get, request};
use super::fakes::server;
use serde_json::json;

async fn post(path: &str, content_type: &str, body: &'static str) -> TestResponse {
    let headers = [("content-type", content_type)];
    let headers = if content_type.is_empty() { &[][..] } else { &headers[..] };
    request(&server(ApiSettings::default()).0, "POST", path, headers, body).await
}

#[tokio::test]
async fn forms_come_in_several_types() {
    let urlencoded = "Application/X-WWW-Form-Urlencoded";
    let parts = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\n1\r\n\
                 --b\r\nContent-Disposition: form-data; name=\"time\"\r\n\r\n5\r\n--b--\r\n";
    for (content_type, body) in [
        (urlencoded, "query=1&time=5"),
        ("application/x-www-form-urlencoded;;", "query=1&time=5"),
        ("application/x-www-form-urlencoded", "query=1&time=5&a=%zz"),
        ("multipart/form-data; boundary=b", parts),
        ("Multipart/Form-Data; boundary=\"b\"", parts),
    ] {
        let got = post("/api/v1/query", content_type, body).await;
        assert_eq!(got.json()["data"]["result"], json!([5, "1"]), "{content_type}");
    }
    let got = post("/api/v1/query?time=7", "multipart/form-data; boundary=b", parts).await;
    assert_eq!(got.json()["data"]["result"], json!([7, "1"]), "the URL comes first");
    for content_type in
        ["", "text/plain", "garbage;;", "multipart/form-data", "multipart/form-data; boundary=c"]
    {
        let error = post("/api/v1/query", content_type, parts).await.error();
        assert!(error.ends_with("no expression found in input"), "{content_type}: {error}");
    }
}

#[tokio::test]
async fn lists_of_series_need_the_whole_form() {
    let urlencoded = "application/x-www-form-urlencoded";
    for (content_type, body, error) in [
        ("garbage;;", "match[]=up", "error parsing form values: mime: invalid media parameter"),
        ("/", "match[]=up", "error parsing form values: mime: no media type"),
        ("garbage", "match[]=up", "no match[] parameter provided"),
        (urlencoded, "match[]=up&a=%zz", "error parsing form values: invalid URL escape \"%zz\""),
        (urlencoded, "match[]=up&a;b", "error parsing form values: invalid semicolon separator in query"),
    ] {
        let got = post("/api/v1/series", content_type, body).await;
        assert_eq!((got.status.as_u16(), got.error().as_str()), (400, error));
    }
    assert_eq!(post("/api/v1/series", urlencoded, "match[]=up").await.status, 200);
    let got = get("/api/v1/rules?a=%z").await;
    assert_eq!(got.error(), "error parsing form values: invalid URL escape \"%z\"");
    let got = get("/federate?match[]=up;").await;
    let text = "error parsing form values: invalid semicolon separator in query\n";
    assert_eq!((got.status.as_u16(), got.text.as_str()), (400, text));
}

#[tokio::test]
async fn the_first_fault_is_told() {
    let no_expression = r#"invalid parameter "query": 1:1: parse error: no expression found in input"#;
    let resolution = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
    let not_a_step = r#"invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer"#;
    for (path, error) in [
        ("series?limit=abc", "no match[] parameter provided"),
        (
            "series?limit=abc&match[]=up",
            r#"invalid parameter "limit": strconv.Atoi: parsing "abc": invalid syntax"#,
        ),
        (
            "labels?limit=99999999999999999999",
            r#"invalid parameter "limit": strconv.Atoi: parsing "99999999999999999999": value out of range"#,
        ),
        ("query?query=&time=Inf", no_expression),
        ("query_range?query=up&start=1795592100&end=1795592400&step=0.0001", resolution),
        ("query_range?query=up&start=1&end=1&step=0.0001", not_a_step),
        ("query_range?query=up&start=-Inf&end=Inf&step=1", resolution),
        ("rules?match[]=sum(&type=x&exclude_alerts=x", r#"1:4: parse error: unexpected "(""#),
        ("rules?exclude_alerts=x&type=x", r#"invalid parameter "type": not supported value "x""#),
        (
            "rules?group_limit=x&exclude_alerts=x",
            r#"invalid parameter "exclude_alerts": error converting exclude_alerts: strconv.ParseBool: parsing "x": invalid syntax"#,
        ),
    ] {
        let got = get(&format!("/api/v1/{path}")).await;
        assert_eq!((got.status.as_u16(), got.error().as_str()), (400, error), "{path}");
    }
}

#[tokio::test]
async fn times_that_are_numbers_for_go() {
    for time in ["NaN", "Inf", "-Inf", "%2BInf", "1795592400_0", "9223372036854775807", "0x1p4"] {
        let got = get(&format!("/api/v1/query?query=1&time={time}")).await;
        assert_eq!(got.status, 200, "{time}: {}", got.text);
        assert_eq!(get(&format!("/api/v1/labels?end={time}")).await.status, 200, "{time}");
    }
    for time in ["2026-11-25t07:40:00z", "-NaN", "1e400"] {
        let got = get(&format!("/api/v1/query?query=1&time={time}")).await;
        let error = format!(
            r#"invalid parameter "time": invalid time value for 'time': cannot parse "{time}" to a valid timestamp"#
        );
        assert_eq!((got.status.as_u16(), got.error()), (400, error));
    }
}

#[tokio::test]
async fn odd_values_of_stats_are_warned_of() {
    let got = get("/api/v1/query?query=1&stats=x").await.json();
    let warning = r#"value "x" for parameter "stats" is deprecated and will be rejected in the next major release, use "true" or "all""#;
    assert_eq!(got["warnings"], json!([warning]));
    assert!(got["data"]["stats"]["timings"].is_object());
    assert_eq!(get("/api/v1/query?query=1&stats=all").await.json().get("warnings"), None);
    let got = get("/api/v1/query_range?query=up&start=1&end=3&step=1&limit=1&stats=y").await.json();
    assert_eq!(got["warnings"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn paths_and_methods() {
    let (state, _) = server(ApiSettings::default());
    let ask = async |method: &str, path: &str| {
        let got = request(&state, method, path, &[], "").await;
        let seen = ["location", "allow"].map(|name| got.header(name).to_owned());
        (got.status.as_u16(), seen, got.text)
    };
    let answer = |status, location: &str, allow: &str, text: &str| {
        (status, [location.to_owned(), allow.to_owned()], text.to_owned())
    };
    for (method, path, want) in [
        ("OPTIONS", "/metrics", answer(200, "", "GET, OPTIONS", "")),
        ("OPTIONS", "/-/ready", answer(200, "", "GET, HEAD, OPTIONS", "")),
        ("OPTIONS", "/-/reload", answer(200, "", "GET, OPTIONS, POST, PUT", "")),
        ("OPTIONS", "/nix", answer(404, "", "", "404 page not found\n")),
        ("GET", "//api/v1/query?query=1", answer(307, "/api/v1/query?query=1", "", "")),
        ("GET", "/api/v1/query/?query=1", answer(301, "/api/v1/query?query=1", "", "")),
        ("POST", "/api/v1/query/", answer(307, "/api/v1/query", "", "")),
        ("DELETE", "/api/v1/query/", answer(404, "", "", "404 page not found\n")),
        ("GET", "/METRICS", answer(301, "/metrics", "", "")),
        ("GET", "/api/v1/label//values", answer(307, "/api/v1/label/values", "", "")),
        ("GET", "/api/v1/label/values", answer(404, "", "", "404 page not found\n")),
        ("GET", "/api/v1/label/a%2Fb/values", answer(404, "", "", "404 page not found\n")),
        ("GET", "/api/v1/%zz", answer(400, "", "", "400 Bad Request\n")),
        ("DELETE", "/-/reload", answer(405, "", "GET, OPTIONS, POST, PUT", "Method Not Allowed\n")),
        ("GET", "/-/reload", answer(405, "", "GET, OPTIONS, POST, PUT", "Only POST or PUT requests allowed")),
        ("HEAD", "/api/v1/query", answer(405, "", "GET, OPTIONS, POST", "")),
    ] {
        assert_eq!(ask(method, path).await, want, "{method} {path}");
    }
    let got = get("/api/v1/%71uery?query=1&time=5").await;
    assert_eq!(got.json()["data"]["result"], json!([5, "1"]));
    let got = get("/api/v1/label/a%2Eb+c/values").await;
    assert_eq!(got.json()["data"][0], "a.b+c");
    let got = get("/api/v1/label/%ff/values").await;
    assert_eq!((got.status.as_u16(), got.json()["errorType"].as_str()), (400, Some("bad_data")));
}

#[tokio::test]
async fn rules_come_in_pages() {
    let names = async |query: &str| -> (Vec<String>, Option<String>) {
        let data = get(&format!("/api/v1/rules?{query}")).await.json()["data"].clone();
        let groups = data["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        let token = data.get("groupNextToken").map(|token| token.as_str().unwrap().to_owned());
        (rules.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect(), token)
    };
    // Ordered by file and name; a group without rules is left out.
    assert_eq!(names("").await, (vec!["a:b".into(), "Foo".into(), "c:d".into()], None));
    assert_eq!(names("match[]=x-y").await, (vec!["c:d".into()], None));
    assert_eq!(names("match[]=x-y&match[]=nix").await, (vec!["c:d".into()], None));
    assert_eq!(names("match[]=nix").await, (vec![], None));
    let (first, token) = names("group_limit=1").await;
    assert_eq!(first, ["a:b", "Foo"]);
    let next = format!("group_limit=1&group_next_token={}", token.unwrap());
    assert_eq!(names(&next).await, (vec!["c:d".into()], None));
    assert_eq!(names("group_limit=2").await.1, None);
    assert_eq!(names("group_limit=1&type=alert").await, (vec!["Foo".into()], None), "no page follows");
    for (query, error) in [
        ("group_limit=0", r#""group_limit": group_limit needs to be greater than 0"#),
        ("group_limit=-1", r#""group_limit": group_limit needs to be greater than 0"#),
        (
            "group_limit=x",
            r#""group_limit": group_limit needs to be a valid number: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        (
            "group_limit=2147483648",
            r#""group_limit": group_limit needs to be a valid number: strconv.ParseInt: parsing "2147483648": value out of range"#,
        ),
        (
            "group_next_token=x",
            r#""group_next_token": group_limit needs to be present in order to paginate over the groups"#,
        ),
        (
            "group_next_token=x&group_limit=1",
            r#""group_next_token": invalid group_next_token 'x'. were rule groups changed?"#,
        ),
    ] {
        let got = get(&format!("/api/v1/rules?{query}")).await;
        assert_eq!(
            (got.status.as_u16(), got.error()),
            (400, format!("invalid parameter {error}")),
            "{query}"
        );
    }
    let got = get("/api/v1/rules?match[]=%7B%7D").await;
    assert_eq!(got.error(), "match[] must contain at least one non-empty matcher");
}

#[tokio::test]
async fn dropped_targets_are_counted_when_asked_for() {
    for (state, counts) in [("", json!({"b": 1})), ("dropped", json!({"b": 1})), ("active", json!(null))] {
        let got = get(&format!("/api/v1/targets?state={state}")).await;
        assert_eq!(got.json()["data"]["droppedTargetCounts"], counts, "{state}");
    }
}

#[tokio::test]
async fn federation_takes_selectors_that_match_without_labels() {
    let got = get("/federate?match[]=%7B%7D").await;
    assert_eq!(got.status, 200, "{}", got.text);
    assert_eq!(get("/federate").await.text, "");
}
