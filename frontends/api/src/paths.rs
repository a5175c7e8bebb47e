//! Finds the endpoint of a path, with the rules of Prometheus' routers.
//!
//! The path is decoded first. A path with a double slash, dot segments, a trailing slash or other
//! case is redirected to the right one. Called by [`super::dispatch`].

use super::endpoints::{ENDPOINTS, Endpoint};
use axum::http::{Method, StatusCode};
use std::fmt::Write;

/// The result of a lookup.
pub(crate) enum Lookup {
    /// An endpoint, and the decoded value of its path parameter or "".
    Endpoint(&'static Endpoint, String),
    /// A redirect: its status and the path.
    Moved(StatusCode, String),
    /// No endpoint.
    Nothing,
    /// The path cannot be decoded.
    Malformed,
}

/// Looks up the path of a request with this method; `prefix` is `--web.route-prefix` without a
/// final slash.
pub(crate) fn lookup(raw: &str, prefix: &str, method: &Method) -> Lookup {
    let Some(path) = decoded(raw) else { return Lookup::Malformed };
    let cleaned = clean(raw);
    if cleaned != raw {
        return Lookup::Moved(StatusCode::TEMPORARY_REDIRECT, cleaned);
    }
    let Some(local) = path.strip_prefix(prefix) else { return Lookup::Nothing };
    if let Some((endpoint, parameter)) = find(local, |a, b| a == b) {
        return Lookup::Endpoint(endpoint, parameter);
    }
    let status = match *method {
        Method::GET => StatusCode::MOVED_PERMANENTLY,
        _ => StatusCode::TEMPORARY_REDIRECT,
    };
    match corrected(local, method) {
        Some(right) => Lookup::Moved(status, escaped(&format!("{prefix}{right}"))),
        None => Lookup::Nothing,
    }
}

/// The path of an endpoint with this method that differs from `local` only in the final slash, or
/// in case.
fn corrected(local: &str, method: &Method) -> Option<String> {
    let takes = |found: Option<(&'static Endpoint, String)>| {
        found.filter(|(endpoint, _)| endpoint.methods.contains(method))
    };
    let bare = local.strip_suffix('/').unwrap_or(local);
    if bare.is_empty() {
        return None;
    }
    if takes(find(bare, |a, b| a == b)).is_some() {
        return Some(bare.to_owned());
    }
    let (endpoint, parameter) = takes(find(bare, str::eq_ignore_ascii_case))?;
    let segments = endpoint.path.split('/');
    let right: Vec<&str> = segments.map(|s| if is_parameter(s) { parameter.as_str() } else { s }).collect();
    Some(right.join("/"))
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

/// Whether a segment stands for all the rest of a path, which may be empty.
fn is_rest(segment: &str) -> bool {
    segment.starts_with("{*")
}

/// The endpoint whose segments equal those of `path` by `same`, and the value of its path
/// parameter.
fn find(path: &str, same: fn(&str, &str) -> bool) -> Option<(&'static Endpoint, String)> {
    ENDPOINTS.iter().find_map(|endpoint| {
        let mut parameter = "";
        let mut wanted = endpoint.path.split('/');
        let mut given = path.split('/');
        loop {
            match (wanted.next(), given.next()) {
                (Some(name), Some(value)) if is_rest(name) => {
                    let rest: Vec<&str> = std::iter::once(value).chain(given).collect();
                    return Some((endpoint, rest.join("/")));
                }
                (Some(name), Some(value)) if is_parameter(name) && !value.is_empty() => parameter = value,
                (Some(a), Some(b)) if same(a, b) => {}
                (None, None) => return Some((endpoint, parameter.to_owned())),
                _ => return None,
            }
        }
    })
}

/// The path without `//`, `.` and `..`; a final slash stays.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// The path with its escapes decoded; bytes that are not UTF-8 become U+FFFD. `None`: an escape is
/// broken.
fn decoded(raw: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let high = digit()?;
        let low = digit()?;
        bytes.push((high * 16 + low) as u8);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of `Location` for a page of this server, whatever the path holds: to browsers it would
/// name another host with a second slash at its beginning, a backslash, or a character that they
/// leave out, as a tab is. The query cannot: it comes after the host.
pub(crate) fn location(path: &str, query: Option<&str>) -> String {
    let mut out = String::from("/");
    for character in path.trim_start_matches(['/', '\\']).chars() {
        if character == '\\' || !character.is_ascii_graphic() {
            out.push_str(&escaped(character.encode_utf8(&mut [0; 4])));
        } else {
            out.push(character);
        }
    }
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    out
}

/// The path escaped for a URL.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~$&+,:;=@".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::assert_proportional;

    fn told(raw: &str, prefix: &str, method: &Method) -> String {
        match lookup(raw, prefix, method) {
            Lookup::Endpoint(endpoint, parameter) => format!("{} {parameter}", endpoint.path),
            Lookup::Moved(status, to) => format!("{} {to}", status.as_u16()),
            Lookup::Nothing => "nothing".to_owned(),
            Lookup::Malformed => "malformed".to_owned(),
        }
    }

    #[test]
    fn paths_are_decoded_and_cleaned() {
        for (raw, want) in [
            ("/api/v1/query", "/api/v1/query "),
            ("/api/v1/%71uery", "/api/v1/query "),
            ("/api/v1/label/a%2Eb+c%3F/values", "/api/v1/label/{name}/values a.b+c?"),
            ("/api/v1/label/%ff/values", "/api/v1/label/{name}/values \u{fffd}"),
            ("/api/v1/label/a%2Fb/values", "nothing"),
            ("/api/v1/label//values", "307 /api/v1/label/values"),
            ("//api/v1/query", "307 /api/v1/query"),
            ("/api/./v1/x/../query/", "307 /api/v1/query/"),
            ("/api/v1/query/", "301 /api/v1/query"),
            ("/api/v1/label/A%20/values/", "301 /api/v1/label/A%20/values"),
            ("/API/v1/label/A/Values", "301 /api/v1/label/A/values"),
            ("/api/v1/admin/tsdb/snapshot/", "nothing"),
            ("/api/v1/nothing", "nothing"),
            ("/api/v1/%7", "malformed"),
            ("/%zz", "malformed"),
            ("/", "/ "),
            ("//", "307 /"),
        ] {
            assert_eq!(told(raw, "", &Method::GET), want, "{raw}");
        }
        assert_eq!(told("/api/v1/query/", "", &Method::POST), "307 /api/v1/query");
        assert_eq!(told("/p/api/v1/query", "/p", &Method::GET), "/api/v1/query ");
        assert_eq!(told("/p/api/v1/query/", "/p", &Method::GET), "301 /p/api/v1/query");
        assert_eq!(told("/api/v1/query", "/p", &Method::GET), "nothing");
        assert_eq!(told("/p", "/p", &Method::GET), "nothing");
    }

    #[test]
    fn a_redirect_never_leads_to_another_host() {
        for (path, query, want) in [
            ("/query", None, "/query"),
            ("/mon/query", Some("g0.expr=up"), "/mon/query?g0.expr=up"),
            ("/query", Some("//evil.test"), "/query?//evil.test"),
            ("/query", Some("\\\\evil.test"), "/query?\\\\evil.test"),
            ("//evil.test/query", None, "/evil.test/query"),
            ("/\\evil.test/query", None, "/evil.test/query"),
            ("\\/\\evil.test", None, "/evil.test"),
            ("/a\\b", None, "/a%5Cb"),
            ("/\t/evil.test", None, "/%09/evil.test"),
            ("/\r\n/evil.test", None, "/%0D%0A/evil.test"),
            ("/%5Cevil.test", None, "/%5Cevil.test"),
            ("/%2F/evil.test", None, "/%2F/evil.test"),
            ("http://evil.test", None, "/http://evil.test"),
            ("@evil.test/", None, "/@evil.test/"),
            ("/é", None, "/%C3%A9"),
            ("", None, "/"),
        ] {
            assert_eq!(location(path, query), want, "{path:?}");
        }
    }

    #[test]
    fn twice_the_path_costs_twice_as_much() {
        let twice = |what: &str, path: fn(usize) -> String| {
            assert_proportional(what, 60_000, path, |path| told(path, "", &Method::GET).len());
        };
        twice("slashes", |n| "/".repeat(n));
        twice("dots", |n| "/..".repeat(n / 3));
        twice("escapes", |n| format!("/api/v1/label/{}/values", "%41".repeat(n / 3)));
        twice("segments", |n| "/api".repeat(n / 4));
    }
}
