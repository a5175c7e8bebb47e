//! Responses of the API: the envelope `{"status":…,"data":…}`, errors and their types.
//!
//! Some clients read the fields in one pass and expect Prometheus' order, so the envelope is
//! written by hand and not serialised from a map.

use super::limits::BUSY_RETRY_SECONDS;
use super::query_json;
#[cfg(feature = "sql")]
use ::sql::SqlError;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::live::ViewError;
use engine::query::QueryError;
use language::QueryTextError;
use storage::store::{ErrorClass, StoreError};

/// Why an API request failed: `errorType`, which also determines the status code.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the errorTypes of the API")]
pub enum ErrorType {
    BadData,
    Execution,
    /// An `execution`, too: the request, or all that are at work, would hold too much in memory.
    LimitReached,
    Timeout,
    Canceled,
    Conflict,
    Internal,
    NotFound,
    NotAcceptable,
    /// A function that this server does not have or that is not enabled, as Prometheus reports it.
    Unavailable,
    /// A temporary `unavailable`: the response says when to retry.
    UnavailableNow,
}

impl ErrorType {
    /// The name in the envelope.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorType::BadData => "bad_data",
            ErrorType::Execution | ErrorType::LimitReached => "execution",
            ErrorType::Timeout => "timeout",
            ErrorType::Canceled => "canceled",
            ErrorType::Conflict => "conflict",
            ErrorType::Internal => "internal",
            ErrorType::NotFound => "not_found",
            ErrorType::NotAcceptable => "not_acceptable",
            ErrorType::Unavailable | ErrorType::UnavailableNow => "unavailable",
        }
    }

    /// The status code; `canceled` is nginx's 499, as in Prometheus.
    pub fn status(self) -> StatusCode {
        match self {
            ErrorType::BadData => StatusCode::BAD_REQUEST,
            ErrorType::Execution | ErrorType::LimitReached => StatusCode::UNPROCESSABLE_ENTITY,
            // 503 and not 504: Prometheus answers its own query timeouts so.
            ErrorType::Timeout | ErrorType::UnavailableNow => StatusCode::SERVICE_UNAVAILABLE,
            ErrorType::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            ErrorType::Conflict => StatusCode::CONFLICT,
            // 500 for a disabled feature is Prometheus' choice (its `errorUnavailable`); clients
            // test for the error type.
            ErrorType::Internal | ErrorType::Unavailable => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorType::NotFound => StatusCode::NOT_FOUND,
            ErrorType::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        }
    }

    /// `Retry-After` in seconds, if the same request may succeed then.
    pub fn retry_after(self) -> Option<u64> {
        // Not for timeouts: the same query would probably time out again.
        (self == ErrorType::UnavailableNow).then_some(BUSY_RETRY_SECONDS)
    }
}

/// The error of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The type of the error.
    pub kind: ErrorType,
    /// The message for people.
    pub message: String,
    /// The error of the SQL statement, with its place apart from its text; `message` has both.
    #[cfg(feature = "sql")]
    pub statement_error: Option<Box<SqlError>>,
}

impl ApiError {
    /// An error of this type.
    pub fn new(kind: ErrorType, message: impl Into<String>) -> ApiError {
        ApiError {
            kind,
            message: message.into(),
            #[cfg(feature = "sql")]
            statement_error: None,
        }
    }

    /// An invalid request.
    pub fn bad_data(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorType::BadData, message)
    }

    /// An invalid parameter.
    pub fn parameter(name: &str, reason: impl std::fmt::Display) -> ApiError {
        ApiError::bad_data(format!("invalid parameter {name:?}: {reason}"))
    }

    /// The envelope of the error.
    pub fn to_json(&self) -> String {
        let mut out = String::from(r#"{"status":"error","errorType":""#);
        out.push_str(self.kind.as_str());
        out.push_str(r#"","error":"#);
        query_json::string(&mut out, &self.message);
        out.push('}');
        out
    }
}

impl From<QueryError> for ApiError {
    fn from(e: QueryError) -> ApiError {
        let kind = match e {
            QueryError::BadData(_) => ErrorType::BadData,
            QueryError::Execution(_) => ErrorType::Execution,
            QueryError::LimitReached(_) => ErrorType::LimitReached,
            QueryError::Unavailable(_) => ErrorType::UnavailableNow,
            QueryError::Timeout(_) => ErrorType::Timeout,
            QueryError::Canceled(_) => ErrorType::Canceled,
            QueryError::Internal(_) => ErrorType::Internal,
        };
        ApiError::new(kind, e.to_string())
    }
}

/// Of a statement whose places are those of the text that the client has sent.
#[cfg(feature = "sql")]
impl From<SqlError> for ApiError {
    fn from(e: SqlError) -> ApiError {
        let statement_error = Some(Box::new(e.clone()));
        ApiError { statement_error, ..QueryError::from(e).into() }
    }
}

impl From<QueryTextError> for ApiError {
    fn from(e: QueryTextError) -> ApiError {
        ApiError::bad_data(e.message())
    }
}

impl From<ViewError> for ApiError {
    fn from(e: ViewError) -> ApiError {
        let kind = match e {
            // The text of the query is fine, so it is no `bad_data`.
            ViewError::Unsupported(_) | ViewError::NotCoordinator => ErrorType::Execution,
            ViewError::LimitReached(_) | ViewError::Unavailable(_) => ErrorType::UnavailableNow,
            ViewError::NotFound => ErrorType::NotFound,
        };
        ApiError::new(kind, e.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> ApiError {
        let kind = match e.class() {
            ErrorClass::Invalid => ErrorType::BadData,
            ErrorClass::LimitReached => ErrorType::LimitReached,
            ErrorClass::Unavailable | ErrorClass::Closed => ErrorType::UnavailableNow,
            ErrorClass::Conflict => ErrorType::Conflict,
            // Nothing that the client can change, and nothing that passes by itself.
            ErrorClass::Damaged | ErrorClass::Io => ErrorType::Internal,
        };
        ApiError::new(kind, e.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let response = json_response(self.kind.status(), Body::from(self.to_json()));
        with_retry(response, self.kind.retry_after())
    }
}

/// `response`, which says after how many seconds the request may be repeated.
pub fn with_retry(mut response: Response, seconds: Option<u64>) -> Response {
    if let Some(seconds) = seconds {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// What the handlers of the API return.
pub type ApiResult = Result<Response, ApiError>;

/// A JSON response.
pub fn json_response(status: StatusCode, body: Body) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The success envelope with `data`.
pub fn success<T: serde::Serialize>(data: &T) -> ApiResult {
    let data = serde_json::to_string(data).map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?;
    // Formatted around the finished JSON: a struct with `data` would serialise it a second time
    // through a `Value`, or need a type for each endpoint.
    Ok(json_response(StatusCode::OK, Body::from(format!(r#"{{"status":"success","data":{data}}}"#))))
}

/// The success envelope with remarks that are no errors.
pub(crate) fn success_with_infos<T: serde::Serialize>(data: &T, infos: &[String]) -> ApiResult {
    if infos.is_empty() {
        return success(data);
    }
    #[derive(serde::Serialize)]
    struct Envelope<'a, T> {
        status: &'static str,
        data: &'a T,
        infos: &'a [String],
    }
    let envelope = serde_json::to_string(&Envelope { status: "success", data, infos })
        .map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?;
    Ok(json_response(StatusCode::OK, Body::from(envelope)))
}

/// The success envelope with a status other than 200.
pub fn success_as<T: serde::Serialize>(status: StatusCode, data: &T) -> ApiResult {
    let mut response = success(data)?;
    *response.status_mut() = status;
    Ok(response)
}

/// A plain text error as Go's `http.Error` sends it.
pub fn text_error(status: StatusCode, text: &str) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, format!("{text}\n")).into_response()
}

/// A plain text response.
pub fn text(status: StatusCode, text: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text.into()).into_response()
}
