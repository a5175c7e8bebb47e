//! `/api/v1/alerts/silences`: what people have silenced at the Alertmanagers, so that an alert that
//! fires and is silenced does not look like one that nobody has seen.

use super::dispatch::ApiRequest;
use super::json_model::{label_map, sample_time};
use super::limits::SILENCES_KEPT;
use super::response::{ApiResult, success};
use serde::Serialize;
use std::time::Instant;
use storage::model::{Labels, TimeMs};

/// The silences of one Alertmanager.
#[derive(Clone, Debug, Default)]
pub struct AlertmanagerSilencesJson {
    /// The URL to which it gets its alerts.
    pub alertmanager: String,
    /// Why it did not answer; "": it did.
    pub error: String,
    /// Those in force.
    pub silences: Vec<SilenceJson>,
}

/// A silence in force.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SilenceJson {
    /// Its id at the Alertmanager.
    pub id: String,
    /// All of them must match an alert.
    pub matchers: Vec<SilenceMatcherJson>,
    /// When it begins.
    #[serde(serialize_with = "sample_time")]
    pub starts_at: TimeMs,
    /// When it ends.
    #[serde(serialize_with = "sample_time")]
    pub ends_at: TimeMs,
    /// The person who created the silence.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// The URL of the Alertmanager.
    pub alertmanager: String,
}

/// A condition on a label.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SilenceMatcherJson {
    /// The label.
    pub name: String,
    /// The value, or a regular expression for the whole of it.
    pub value: String,
    /// Whether the value is a regular expression.
    pub is_regex: bool,
    /// `false`: the value must not match.
    pub is_equal: bool,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct SilencesJson {
    alertmanagers: Vec<AlertmanagerAnswerJson>,
    silences: Vec<SilenceJson>,
    /// What every alert has besides its own labels when it is sent.
    #[serde(serialize_with = "label_map")]
    external_labels: Labels,
}

#[derive(Clone, Serialize)]
struct AlertmanagerAnswerJson {
    url: String,
    error: String,
}

/// The latest answer of the Alertmanagers. Whoever asks meanwhile waits for the same one.
#[derive(Default)]
pub struct SilencesCache(tokio::sync::Mutex<Option<(Instant, Vec<AlertmanagerSilencesJson>)>>);

/// `/api/v1/alerts/silences`
pub(crate) async fn silences(call: ApiRequest) -> ApiResult {
    let mut kept = call.state.silences.0.lock().await;
    let fresh = kept.as_ref().filter(|(at, _)| at.elapsed() < SILENCES_KEPT);
    let answers = match fresh {
        Some((_, answers)) => answers.clone(),
        None => {
            let answers = call.state.sources.alertmanagers.silences().await;
            *kept = Some((Instant::now(), answers.clone()));
            answers
        }
    };
    drop(kept);
    let asked = answers
        .iter()
        .map(|one| AlertmanagerAnswerJson { url: one.alertmanager.clone(), error: one.error.clone() });
    success(&SilencesJson {
        alertmanagers: asked.collect(),
        silences: answers.iter().flat_map(|one| one.silences.iter().cloned()).collect(),
        external_labels: call.state.sources.admin.external_labels(),
    })
}
