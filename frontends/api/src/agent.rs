//! Agent mode (`--agent`): which endpoints an agent has. The others answer with an error in the
//! words of Prometheus. [`super::dispatch`] asks for each request.

use super::response::{ApiError, ErrorType, text_error};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// The endpoints of an agent, by their paths in the table.
const OF_AGENTS: &[&str] = &[
    "/api/v1/targets",
    "/api/v1/targets/metadata",
    "/api/v1/targets/relabel_steps",
    "/api/v1/scrape_pools",
    "/api/v1/scrape_pools/config",
    "/api/v1/relabel",
    "/api/v1/metadata",
    "/api/v1/notifications",
    "/api/v1/notifications/live",
    "/api/v1/features",
    "/api/v1/openapi.yaml",
    "/api/v1/status/self_metrics",
    "/api/v1/status/buildinfo",
    "/api/v1/status/runtimeinfo",
    "/api/v1/status/flags",
    "/api/v1/status/config",
    "/api/v1/status/walreplay",
    "/api/v1/write",
    "/api/v1/otlp/v1/metrics",
    "/metrics",
    "/version",
    "/-/ready",
    "/-/healthy",
    "/-/reload",
    "/-/quit",
    "/api",
    "/graph",
    "/user/{*path}",
    "/",
    "/a/{file}",
    "/favicon.svg",
    "/agent",
    "/targets",
    "/relabel",
    "/service-discovery",
    "/status",
    "/flags",
    "/config",
    "/alertmanager-discovery",
];

/// Endpoints that read the store, outside of the API that says more.
const READ_STORE: &[&str] = &["/federate", "/api/v1/read"];

/// The first page of an agent; a server has none of this address.
pub(crate) const PAGE: &str = "/agent";

/// The error for an endpoint that an agent does not have; `None`: it has the endpoint.
pub(crate) fn refusal(is_agent: bool, path: &str) -> Option<Response> {
    let is_missing = || text_error(StatusCode::NOT_FOUND, "404 page not found");
    if !is_agent {
        return (path == PAGE).then(is_missing);
    }
    if OF_AGENTS.contains(&path) {
        return None;
    }
    if READ_STORE.contains(&path) {
        let text = "unsupported operation with WAL-only storage";
        return Some(text_error(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    if path.starts_with("/api/v1/") {
        let unavailable = ApiError::new(ErrorType::Execution, "unavailable with Prometheus Agent");
        return Some(unavailable.into_response());
    }
    Some(is_missing())
}

#[cfg(test)]
mod tests {
    use super::super::endpoints::ENDPOINTS;
    use super::*;

    #[test]
    fn an_agent_answers_what_prometheus_agents_answer() {
        let status = |is_agent: bool, path: &str| {
            refusal(is_agent, path).map_or(200, |response| response.status().as_u16())
        };
        let known = |path: &str| ENDPOINTS.iter().any(|endpoint| endpoint.path == path);
        for path in OF_AGENTS.iter().chain(READ_STORE) {
            assert!(known(path), "there is no endpoint {path}");
        }
        for path in ["query", "query_range", "series", "labels", "rules", "alerts", "alertmanagers"] {
            assert_eq!(status(true, &format!("/api/v1/{path}")), 422, "{path}");
        }
        let others = [("/federate", 500), ("/api/v1/read", 500), ("/query", 404), ("/targets", 200)];
        for (path, expected) in others {
            assert_eq!((status(true, path), status(false, path)), (expected, 200), "{path}");
        }
        assert_eq!((status(true, PAGE), status(false, PAGE)), (200, 404));
        // A new endpoint is refused until somebody says that an agent has it.
        let refused = ENDPOINTS.iter().filter(|endpoint| status(true, endpoint.path) != 200);
        assert!(refused.count() > 20);
    }
}
