//! Tests of searches: parameters, batches and rejected requests, with Prometheus' texts.

use super::super::ApiSettings;
use super::api::request;
use super::fakes::server;

/// The fake catalog has three values of a label: its name, and the two ends of the requested time
/// range.
async fn lines(max: Option<usize>, path: &str) -> (u16, Vec<String>) {
    let settings = ApiSettings { search: max, ..ApiSettings::default() };
    let path = format!("/api/v1/search/{path}").replace("[]", "%5B%5D");
    let got = request(&server(settings).0, "GET", &path, &[], "").await;
    (got.status.as_u16(), got.text.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn results_come_in_batches_and_a_last_line() {
    for (path, want) in [
        (
            "metric_names",
            vec![r#"{"results":[{"name":"__name__"},{"name":"-2599877"},{"name":"1000123"}]}"#, "false"],
        ),
        ("label_names?limit=1", vec![r#"{"results":[{"name":"__name__"}]}"#, "true"]),
        (
            "label_names?batch_size=1&sort_by=alpha&sort_dir=dsc",
            vec![r#"{"results":[{"name":"job"}]}"#, r#"{"results":[{"name":"__name__"}]}"#, "false"],
        ),
        (
            "label_values?label=job&search[]=j&include_score=true&start=1&end=2",
            vec![r#"{"results":[{"value":"job","score":1}]}"#, "false"],
        ),
        (
            "label_values?label=job&search[]=J0&search[]=o&case_sensitive=0&start=1&end=2&include_score=1&sort_by=score",
            vec![r#"{"results":[{"value":"job","score":0.5}]}"#, "false"],
        ),
        ("label_names?search[]=nothing", vec![r#"{"results":[]}"#, "false"]),
        (
            "metric_names?search[]=jbo&fuzz_alg=jarowinkler&fuzz_threshold=80&match[]=up",
            vec![r#"{"results":[]}"#, "false"],
        ),
    ] {
        let (status, got) = lines(Some(10_000), path).await;
        let (last, batches) = want.split_last().expect("a last line");
        let mut want: Vec<String> = batches.iter().map(ToString::to_string).collect();
        want.push(format!(r#"{{"status":"success","has_more":{last}}}"#));
        assert_eq!((status, got), (200, want), "{path}");
    }
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let many = "search[]=a&".repeat(33);
    for (max, path, status, why) in [
        (None, "metric_names", 500, "search API disabled"),
        (Some(0), "label_values", 400, r#"missing required parameter \"label\""#),
        (Some(0), "label_names?start=9&end=8", 400, "end timestamp must not be before start timestamp"),
        (Some(0), "label_names?start=x", 400, r#"invalid time value for 'start': cannot parse \"x\""#),
        (Some(0), &format!("label_names?{many}"), 400, "too many search[] terms: got 33, maximum is 32"),
        (Some(0), "label_names?fuzz_threshold=101", 400, r#"invalid fuzz_threshold \"101\": must be 0-100"#),
        (Some(0), "label_names?fuzz_alg=soundex", 400, "must be one of [subsequence jarowinkler]"),
        (
            Some(0),
            "label_names?case_sensitive=perhaps",
            400,
            r#"invalid case_sensitive \"perhaps\": must be boolean"#,
        ),
        (
            Some(0),
            "metric_names?include_metadata=2",
            400,
            r#"invalid include_metadata \"2\": must be boolean"#,
        ),
        (Some(0), "label_names?sort_dir=asc", 400, "sort_dir is only valid when sort_by is set"),
        (
            Some(0),
            "label_names?search[]=a&sort_by=score&sort_dir=asc",
            400,
            "not supported for sort_by=score",
        ),
        (Some(0), "label_names?sort_by=alpha&sort_dir=up", 400, r#"invalid sort_dir \"up\""#),
        (Some(0), "label_names?sort_by=score", 400, "sort_by=score requires search[] to be set"),
        (Some(0), "label_names?sort_by=size", 400, r#"invalid sort_by \"size\" for label_names: must be"#),
        (Some(0), "label_names?limit=-1", 400, r#"invalid limit \"-1\": must be a positive integer"#),
        (Some(0), "label_names?limit=0", 400, r#"invalid limit \"0\": must be a positive integer"#),
        (Some(0), "label_names?batch_size=0", 400, r#"invalid batch_size \"0\": must be a positive integer"#),
        (Some(0), "label_names?a;b", 400, "error parsing form values: invalid semicolon separator in query"),
        (Some(0), "label_names?batch_size=x", 400, r#"invalid batch_size \"x\""#),
        (
            Some(9),
            "label_names?limit=10",
            400,
            "limit 10 exceeds the configured maximum (9, see --web.search.max-limit)",
        ),
    ] {
        let (found, got) = lines(max, path).await;
        assert!(found == status && got.concat().contains(why), "{path}: {found} {got:?}");
    }
}

#[tokio::test]
async fn the_default_is_no_more_than_the_most() {
    let (_, got) = lines(Some(1), "label_names").await;
    assert_eq!(got[1], r#"{"status":"success","has_more":true}"#);
}
