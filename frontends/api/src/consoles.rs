//! `/consoles/…`: console templates, executed for each request; `/user/…`: static files. Both are
//! files that the operator of the server provides.
//!
//! The service [`OperatorFiles`] reads the files and executes the templates (`src/consoles.rs`).

use super::dispatch::ApiRequest;
use super::limits::CONSOLES_AT_ONCE;
use super::response::text_error;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The content policy of the operator's own pages: what they load is of this server, and they may
/// have scripts and styles inside.
const OPERATORS_POLICY: &str = "default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; \
    base-uri 'self'; form-action 'self'";

/// A request for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleRequest {
    /// The path below `/consoles/`.
    pub path: String,
    /// The parameters, in order.
    pub params: Vec<(String, String)>,
}

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleFailure {
    /// There is no such file.
    #[error("404 page not found")]
    NotFound,
    /// The file cannot be read, or the template fails.
    #[error("{0}")]
    Failed(String),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFile {
    /// The media type.
    pub media_type: &'static str,
    /// The content.
    pub bytes: Vec<u8>,
}

/// The files of the operator. All methods block.
pub trait OperatorFiles: Send + Sync {
    /// Makes a page of a template.
    fn console(&self, request: &ConsoleRequest) -> Result<String, ConsoleFailure>;
    /// A file below `--web.user-assets`, by its path.
    fn user_file(&self, path: &str) -> Result<UserFile, ConsoleFailure>;
    /// Where the operator's pages begin, below the server; `None`: there are none.
    fn start(&self) -> Option<&'static str>;
}

/// No files.
pub struct NoOperatorFiles;

impl OperatorFiles for NoOperatorFiles {
    fn console(&self, _: &ConsoleRequest) -> Result<String, ConsoleFailure> {
        Err(ConsoleFailure::NotFound)
    }
    fn user_file(&self, _: &str) -> Result<UserFile, ConsoleFailure> {
        Err(ConsoleFailure::NotFound)
    }
    fn start(&self) -> Option<&'static str> {
        None
    }
}

/// `/consoles/…`
pub(crate) async fn console(call: ApiRequest) -> Response {
    let files = call.state.sources.files.clone();
    // Each page may make hundreds of queries.
    let Ok(_turn) = call.state.work.console_turns.acquire().await else {
        return refused(ConsoleFailure::NotFound);
    };
    let request = ConsoleRequest {
        path: call.parameter.clone(),
        params: call.form.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    let made = call.state.work.low_priority.run(move || files.console(&request)).await;
    match made.unwrap_or_else(|e| Err(ConsoleFailure::Failed(e.to_string()))) {
        Ok(page) => operators("text/html; charset=utf-8", page.into()),
        Err(failure) => refused(failure),
    }
}

/// `/user/…`
pub(crate) async fn user_file(call: ApiRequest) -> Response {
    let files = call.state.sources.files.clone();
    let path = call.parameter.clone();
    let read = call.state.blocking(move || files.user_file(&path)).await;
    match read.unwrap_or_else(|e| Err(ConsoleFailure::Failed(e.to_string()))) {
        Ok(file) => operators(file.media_type, file.bytes.into()),
        Err(failure) => refused(failure),
    }
}

/// A page or a file of the operator, which has a policy of its own.
fn operators(media_type: &'static str, body: Body) -> Response {
    let headers = [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-cache")];
    let mut response = (headers, body).into_response();
    let policy = HeaderValue::from_static(OPERATORS_POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// The answer to a request that failed.
fn refused(failure: ConsoleFailure) -> Response {
    let status = match failure {
        ConsoleFailure::NotFound => StatusCode::NOT_FOUND,
        ConsoleFailure::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text_error(status, &failure.to_string())
}

/// Pages that are made at one time.
pub(crate) fn turns() -> tokio::sync::Semaphore {
    tokio::sync::Semaphore::new(CONSOLES_AT_ONCE)
}
