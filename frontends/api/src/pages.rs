//! Serves the web page and its assets. Every address of the page answers the same HTML; its script
//! then shows the page of that address. The files are embedded by the crate `ui`.

use super::agent;
use super::dispatch::ApiRequest;
use super::json_model::BuildInfo;
use super::paths;
use super::response::text_error;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use ui::{Asset, Frame};
use xxhash_rust::xxh3::xxh3_64;

/// The first page.
const START: &str = "/query";
/// Files whose names have a hash of their content never change.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// Anything else is kept, but the server is asked whether it is still the same.
const REVALIDATE: &str = "no-cache";

/// Any address of the page: the frame.
pub(crate) async fn page(call: ApiRequest) -> Response {
    let settings = &call.state.settings;
    let about = json!({
        "agent": settings.agent,
        "title": settings.web.page_title,
        "version": env!("CARGO_PKG_VERSION"),
        "answersAs": BuildInfo::default().version,
        "lifecycle": settings.lifecycle,
        "admin": settings.admin,
        "lookback": settings.queries.lookback as f64 / 1000.0,
        "consoles": call.state.sources.files.start(),
    });
    let html = ui::index(&Frame {
        external_path: &settings.web.external_path,
        title: &settings.web.page_title,
        settings: &about.to_string(),
    });
    let etag = format!("\"{:016x}\"", xxh3_64(html.as_bytes()));
    if call.header(header::IF_NONE_MATCH).contains(&etag) {
        return not_modified(&etag, REVALIDATE);
    }
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, REVALIDATE.to_owned()),
        (header::ETAG, etag),
    ];
    (headers, html).into_response()
}

/// `/a/{file}`: the scripts and the style sheet.
pub(crate) async fn file(call: ApiRequest) -> Response {
    asset(&call, &format!("a/{}", call.parameter))
}

/// What console libraries of Prometheus load besides the script and the style that this server has.
/// Those two do without.
const NOT_NEEDED: [&str; 9] = [
    "rickshaw/rickshaw.min.css",
    "bootstrap4/css/bootstrap.min.css",
    "vendor/bootstrap4-glyphicons/css/bootstrap-glyphicons.css",
    "d3/d3.min.js",
    "vendor/rickshaw/vendor/d3.layout.min.js",
    "rickshaw/rickshaw.min.js",
    "jquery/jquery.min.js",
    "popper.js",
    "bootstrap4/js/bootstrap.min.js",
];

/// `/classic/static/{path}`: what console templates load, at the addresses of Prometheus 2.
pub(crate) async fn classic(call: ApiRequest) -> Response {
    let path = call.parameter.as_str();
    if !NOT_NEEDED.contains(&path) {
        return asset(&call, &format!("classic/static/{path}"));
    }
    let is_script = path.ends_with(".js");
    let media_type = if is_script { "text/javascript; charset=utf-8" } else { "text/css; charset=utf-8" };
    let headers = [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, REVALIDATE)];
    (headers, "/* Not needed here: js/prom_console.js draws, css/prom_console.css has the look. */\n")
        .into_response()
}

/// `/favicon.svg`
pub(crate) async fn icon(call: ApiRequest) -> Response {
    asset(&call, "favicon.svg")
}

fn asset(call: &ApiRequest, path: &str) -> Response {
    let Some(asset) = ui::asset(path) else {
        return text_error(StatusCode::NOT_FOUND, "404 page not found");
    };
    let cache = if asset.is_immutable() { FOREVER } else { REVALIDATE };
    if call.header(header::IF_NONE_MATCH).contains(asset.etag) {
        return not_modified(asset.etag, cache);
    }
    let mut response = body(asset, call.header(header::ACCEPT_ENCODING).contains("gzip"));
    let headers = response.headers_mut();
    let mut put = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    put(header::CONTENT_TYPE, asset.content_type());
    put(header::CACHE_CONTROL, cache);
    put(header::ETAG, asset.etag);
    put(header::VARY, "Accept-Encoding");
    response
}

/// The file as it is kept, or inflated for a client that does not read gzip.
fn body(asset: &'static Asset, gzip: bool) -> Response {
    if gzip {
        return ([(header::CONTENT_ENCODING, "gzip")], Body::from(asset.gzip)).into_response();
    }
    Body::from(asset.plain()).into_response()
}

fn not_modified(etag: &str, cache: &'static str) -> Response {
    let headers = [(header::ETAG, etag.to_owned()), (header::CACHE_CONTROL, cache.to_owned())];
    (StatusCode::NOT_MODIFIED, headers).into_response()
}

/// `/`: the first page.
pub(crate) async fn start(call: ApiRequest) -> Response {
    redirect(&call, if call.state.settings.agent { agent::PAGE } else { START }, None)
}

/// `/graph?…`, where links of alerts and old bookmarks lead: the same expression on the query page.
pub(crate) async fn graph(call: ApiRequest) -> Response {
    redirect(&call, START, call.parts.uri.query())
}

/// To a page of this server, whatever the request says: the path is ours, only the query is the
/// client's.
fn redirect(call: &ApiRequest, path: &str, query: Option<&str>) -> Response {
    let location = paths::location(&format!("{}{path}", call.state.settings.web.external_path), query);
    (StatusCode::FOUND, [(header::LOCATION, location)]).into_response()
}
