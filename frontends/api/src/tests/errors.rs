//! Every kind of store error through the HTTP layer: code, `errorType`, `Retry-After`.

use super::super::ApiSettings;
use super::api::request;
use super::fakes::{server, store_error};

/// Name of the error, status, `errorType`, and whether the response says when to retry.
const KINDS: [(&str, u16, &str, bool); 7] = [
    ("invalid", 400, "bad_data", false),
    ("limit_reached", 422, "execution", false),
    ("unavailable", 503, "unavailable", true),
    ("closed", 503, "unavailable", true),
    ("owned", 409, "conflict", false),
    ("damaged", 500, "internal", false),
    ("io", 500, "internal", false),
];

#[tokio::test]
async fn every_kind_of_store_error_has_its_code() {
    let state = server(ApiSettings { admin: true, ..ApiSettings::default() }).0;
    for (name, code, error_type, is_retryable) in KINDS {
        // Between the store and these two answers is the query runtime, which knows no conflict.
        let of_query = if name == "owned" { (500, "internal") } else { (code, error_type) };
        for (method, path, (code, error_type)) in [
            ("GET", format!("/api/v1/query?query={name}"), of_query),
            ("GET", format!("/api/v1/series?match[]={name}"), of_query),
            ("POST", format!("/api/v1/admin/tsdb/delete_series?match[]={name}"), (code, error_type)),
        ] {
            let got = request(&state, method, &path, &[], "").await;
            assert_eq!(got.status.as_u16(), code, "{path}: {}", got.text);
            assert_eq!(got.json()["errorType"], error_type, "{path}");
            assert_eq!(got.error(), store_error(name).expect("a kind").to_string(), "{path}");
            assert_eq!(got.header("retry-after"), if is_retryable { "1" } else { "" }, "{path}");
        }
    }
}

#[tokio::test]
async fn a_federation_that_may_succeed_later_says_so() {
    let state = server(ApiSettings::default()).0;
    for (name, code, retry_after) in
        [("unavailable", 503, "1"), ("limit_reached", 422, ""), ("damaged", 500, "")]
    {
        let got = request(&state, "GET", &format!("/federate?match[]={name}"), &[], "").await;
        assert_eq!((got.status.as_u16(), got.header("retry-after")), (code, retry_after), "{name}");
        assert_eq!(got.text.trim_end(), store_error(name).expect("a kind").to_string());
    }
}

#[tokio::test]
async fn a_snapshot_that_fails_says_of_what_kind() {
    let dir = tempfile::tempdir().expect("a directory");
    let data_directory = Some(dir.path().to_owned());
    let state = server(ApiSettings { admin: true, data_directory, ..ApiSettings::default() }).0;
    let got = request(&state, "POST", "/api/v1/admin/tsdb/snapshot", &[], "").await;
    assert_eq!((got.status.as_u16(), got.error().as_str()), (503, "create snapshot: the shelf is full"));
    assert_eq!((got.json()["errorType"].as_str(), got.header("retry-after")), (Some("unavailable"), "1"));
}
