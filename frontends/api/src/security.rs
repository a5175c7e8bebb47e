//! Protects the server against pages of other sites that use the browser of a user with access:
//! security headers of every response, and a check of the origin of requests that change something
//! or stream.

use super::ApiSettings;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;

/// The content security policy of data: it must not be framed or executed.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// The content security policy of a page: it may load only its own files, and no text becomes a
/// script: with trusted types and no policy for them, `innerHTML` and its like throw. `data:` is
/// for the waves below errors in the editor.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    font-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
    trusted-types 'none'";

/// Adds the security headers to a response.
pub(crate) fn add_headers<B>(response: &mut Response<B>) {
    let unchanged = response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    let is_page =
        headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let policy = if is_page { PAGE_POLICY } else { DATA_POLICY };
    let all = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    for (name, value) in all {
        // A browser takes the headers of 304 for those of the page that it has: the policy of that
        // page stays.
        if unchanged && name == header::CONTENT_SECURITY_POLICY {
            continue;
        }
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Why a request that changes something or streams is rejected: it comes from a page of another
/// site. `None`: it is allowed.
///
/// Only browsers send `Sec-Fetch-Site` and `Origin`, and pages cannot change them; a request
/// without both comes from a program. Headers that a proxy may set, such as `X-Forwarded-Host`, are
/// ignored, because any client can send them.
pub(crate) fn foreign(settings: &ApiSettings, headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let origin = text(header::ORIGIN);
    if matches!(site, Some("same-origin" | "none")) || (site.is_none() && origin.is_none()) {
        return None;
    }
    let Some(origin) = origin else {
        // A browser sends no origin for resources that it loads for a page. `same-site` means
        // another host of the same domain.
        return Some(refusal("a page of another site"));
    };
    if settings.web.acting_origin.as_ref().is_some_and(|pattern| pattern.is_match(origin)) {
        return None;
    }
    let own = text(header::HOST).or_else(|| uri.authority().map(|authority| authority.as_str()));
    let is_own = origin.split_once("://").is_some_and(|(_, authority)| {
        let same = |host: &str| !authority.is_empty() && host.eq_ignore_ascii_case(authority);
        site != Some("cross-site") && own.is_some_and(same) || same(&settings.web.external_authority)
    });
    (!is_own).then(|| refusal(&format!("a page of {origin}")))
}

fn refusal(who: &str) -> String {
    format!(
        "{who} may not change anything here, nor subscribe; if it should, name its origin with --web.cors.origin"
    )
}

#[cfg(test)]
mod tests {
    use super::super::WebSettings;
    use super::*;

    fn is_foreign(settings: &ApiSettings, request: &[(&str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in request {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        foreign(settings, &headers, &Uri::from_static("/-/quit")).is_some()
    }

    #[test]
    fn only_pages_of_this_server_act() {
        let settings = ApiSettings {
            web: WebSettings {
                external_authority: "prometheus.example.com".to_owned(),
                ..WebSettings::default()
            },
            ..ApiSettings::default()
        };
        let host = ("host", "10.0.0.1:9090");
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[], false),
            (&[host], false),
            (&[host, ("origin", "http://10.0.0.1:9090")], false),
            (&[host, ("origin", "https://Prometheus.example.com")], false),
            (&[("host", "A.example:9090"), ("origin", "https://a.example:9090")], false),
            (&[host, ("sec-fetch-site", "same-origin"), ("origin", "https://proxy.example.com")], false),
            (&[host, ("sec-fetch-site", "none")], false),
            (&[host, ("sec-fetch-site", "same-site"), ("origin", "https://prometheus.example.com")], false),
            (&[host, ("sec-fetch-site", "same-site"), ("origin", "http://10.0.0.1:9090")], false),
            (&[host, ("origin", "http://10.0.0.1:9091")], true),
            (&[host, ("origin", "http://10.0.0.1")], true),
            (&[host, ("origin", "https://evil.example")], true),
            (&[host, ("origin", "null")], true),
            (&[host, ("origin", "https://evil.example"), ("x-forwarded-host", "evil.example")], true),
            (&[host, ("sec-fetch-site", "cross-site")], true),
            (&[host, ("sec-fetch-site", "same-site")], true),
            (&[host, ("sec-fetch-site", "cross-site"), ("origin", "http://10.0.0.1:9090")], true),
            (&[("host", ""), ("origin", "https://")], true),
        ];
        for (request, expected) in cases {
            assert_eq!(is_foreign(&settings, request), *expected, "{request:?}");
        }
    }

    #[test]
    fn an_origin_that_is_named_may_act() {
        let named = regex::Regex::new("^(?:https://grafana\\.example)$").unwrap();
        let settings = ApiSettings {
            web: WebSettings { acting_origin: Some(named), ..WebSettings::default() },
            ..ApiSettings::default()
        };
        let from = |origin| {
            is_foreign(&settings, &[("host", "a"), ("origin", origin), ("sec-fetch-site", "cross-site")])
        };
        assert!(!from("https://grafana.example"));
        assert!(from("https://grafana.example.evil.example"));
        assert!(is_foreign(&settings, &[("host", "a"), ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn pages_and_data_have_their_policies() {
        let policy = |content_type: &'static str| {
            let mut response = Response::new(());
            let value = HeaderValue::from_static(content_type);
            response.headers_mut().insert(header::CONTENT_TYPE, value);
            add_headers(&mut response);
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
            assert_eq!(response.headers()["x-frame-options"], "DENY");
            assert_eq!(response.headers()["cross-origin-opener-policy"], "same-origin");
            response.headers()["content-security-policy"].to_str().unwrap().to_owned()
        };
        assert_eq!(policy("text/html; charset=utf-8"), PAGE_POLICY);
        assert_eq!(policy("application/json"), DATA_POLICY);
        let mut unchanged = Response::new(());
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        add_headers(&mut unchanged);
        assert!(!unchanged.headers().contains_key("content-security-policy"), "the page would lose its own");
        assert_eq!(unchanged.headers()["x-content-type-options"], "nosniff");
    }
}
