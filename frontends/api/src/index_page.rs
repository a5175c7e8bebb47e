//! `/api`: a plain HTML page that lists the endpoints of [`super::endpoints`] with example links.

use super::dispatch::ApiRequest;
use super::endpoints::ENDPOINTS;
use axum::response::{Html, IntoResponse, Response};

/// `/api`
pub(crate) async fn page(call: ApiRequest) -> Response {
    let settings = &call.state.settings;
    let title = escape(&settings.web.page_title);
    let base = escape(&settings.web.external_path);
    let mut rows = String::new();
    for endpoint in ENDPOINTS {
        let methods: Vec<&str> = endpoint.methods.iter().map(|m| m.as_str()).collect();
        let path = escape(endpoint.path);
        let doc = escape(endpoint.doc);
        rows.push_str(&format!(
            "<tr><td>{}</td><td><a href=\"{base}{path}\">{path}</a></td><td>{doc}</td></tr>\n",
            methods.join(", ")
        ));
    }
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head><body>\n\
         <h1>{title}</h1>\n<p>A monitoring server that speaks Prometheus' API. Try:</p>\n\
         <pre>curl '{base}/api/v1/query?query=up'\n\
         curl -N '{base}/api/v1/subscribe?query=up'                 # live, server-sent events\n\
         curl -N '{base}/api/v1/subscribe?query=up&amp;format=ndjson'   # live, one JSON per line</pre>\n\
         <table>\n{rows}</table>\n</body></html>\n"
    );
    Html(html).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
