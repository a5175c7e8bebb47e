//! `/api/v1/alerts/history`: every change of an alert's state, with the samples that caused it and
//! what became of its notification.
//!
//! The crate `rules` records the changes (`AlertHistory`); here they are filtered and shown as
//! JSON.

use super::dispatch::ApiRequest;
use super::json_model::{AlertStateJson, alert_value, label_map, sample_time, sample_value};
use super::limits::{ALERT_HISTORY_DEFAULT, ALERT_HISTORY_MOST};
use super::response::{ApiError, ApiResult, ErrorType, success};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use storage::model::{Labels, TimeMs};

/// Which changes are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertHistoryRequest {
    /// The name of a rule, or `file;group;name`; "": all.
    pub rule: String,
    /// The hash of an alert's labels; `None`: all.
    pub fingerprint: Option<u64>,
    /// The first time, ms.
    pub start: TimeMs,
    /// The last time, ms.
    pub end: TimeMs,
    /// The most changes.
    pub limit: usize,
}

/// The answer.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertHistoryJson {
    /// The changes, the newest first.
    pub transitions: Vec<AlertTransitionJson>,
    /// Since when the history is complete.
    #[serde(serialize_with = "sample_time")]
    pub kept_from: TimeMs,
    /// There are more.
    pub truncated: bool,
}

/// A change of the state of an alert.
#[derive(Clone, Debug, Serialize)]
pub struct AlertTransitionJson {
    /// When.
    #[serde(serialize_with = "sample_time")]
    pub at: TimeMs,
    /// The rule.
    pub rule: RuleNameJson,
    /// The hash of the labels.
    pub fingerprint: String,
    /// The labels of the alert.
    #[serde(serialize_with = "label_map")]
    pub labels: Labels,
    /// The state before.
    pub from: AlertStateJson,
    /// The state since.
    pub to: AlertStateJson,
    /// `row`, `row_gone`, `for`, `keep_firing`, `error`, `reload` or `restart`.
    pub reason: &'static str,
    /// The value of the condition.
    #[serde(serialize_with = "alert_value")]
    pub value: f64,
    /// The samples that made the condition begin or cease to hold; `None`: not looked up, or not a
    /// matter of samples.
    pub cause: Option<ChangeCauseJson>,
    /// Which Alertmanagers were told.
    pub sent: Vec<DeliveryJson>,
}

/// Which rule an alert is of.
#[derive(Clone, Debug, Serialize)]
pub struct RuleNameJson {
    /// Its file.
    pub file: String,
    /// Its group.
    pub group: String,
    /// The alert.
    pub name: String,
}

/// The samples that changed a condition.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeCauseJson {
    /// The series that got a sample then, those with another value first.
    pub series: Vec<SeriesMoveJson>,
    /// There were more.
    pub truncated: bool,
}

/// A series that got a sample.
#[derive(Clone, Debug, Serialize)]
pub struct SeriesMoveJson {
    /// Its labels.
    #[serde(serialize_with = "label_map")]
    pub labels: Labels,
    /// The value before; `None`: there was none.
    #[serde(serialize_with = "optional_value")]
    pub before: Option<f64>,
    /// The value since; `None`: the series ended.
    #[serde(serialize_with = "optional_value")]
    pub after: Option<f64>,
    /// The time of the sample.
    #[serde(serialize_with = "sample_time")]
    pub t: TimeMs,
}

/// What an Alertmanager answered.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryJson {
    /// Its URL.
    pub alertmanager: String,
    /// When.
    #[serde(serialize_with = "sample_time")]
    pub at: TimeMs,
    /// Whether it accepted the alert.
    pub ok: bool,
    /// Why not.
    pub error: String,
}

/// A value as a text, or null.
fn optional_value<S: serde::Serializer>(value: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => sample_value(value, s),
        None => s.serialize_none(),
    }
}

/// The hash of labels as the API writes it.
pub fn fingerprint(labels: &Labels) -> String {
    format!("{:016x}", labels.hash64())
}

/// `/api/v1/alerts/history`
pub(crate) async fn history(call: ApiRequest) -> ApiResult {
    call.form.check_decoded()?;
    let request = request(&call)?;
    let rules = call.state.sources.rules.clone();
    // Before the answer is made: a change in between makes the tag old, which costs one request and
    // hides nothing.
    let etag = format!("\"{}\"", rules.history_version());
    if call.header(header::IF_NONE_MATCH) == etag {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let asked = call.state.blocking(move || rules.history(&request));
    let found = asked.await.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?;
    let mut response = success(&found)?;
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// What the parameters ask for.
fn request(call: &ApiRequest) -> Result<AlertHistoryRequest, ApiError> {
    let form = &call.form;
    let wrong = |_| ApiError::parameter("fingerprint", "it must be up to 16 hexadecimal digits");
    let fingerprint = match form.get("fingerprint") {
        "" => None,
        text => Some(u64::from_str_radix(text, 16).map_err(wrong)?),
    };
    let limit = form.limit()?.unwrap_or(ALERT_HISTORY_DEFAULT);
    Ok(AlertHistoryRequest {
        rule: form.get("rule").to_owned(),
        fingerprint,
        start: form.time_or("start", TimeMs::MIN)?,
        end: form.time_or("end", TimeMs::MAX)?,
        limit: limit.min(ALERT_HISTORY_MOST),
    })
}
