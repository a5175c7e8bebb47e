//! The silences of an Alertmanager, as its API v2 lists them.

use super::send_queue::{DeliveryError, SendQueue};
use crate::http_client::error_chain;
use crate::limits::{SILENCES, SILENCES_BYTES};
use chrono::DateTime;
use serde::Deserialize;
use storage::model::TimeMs;
use url::Url;

/// A silence in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Its id at the Alertmanager.
    pub id: String,
    /// All of them must match an alert.
    pub matchers: Vec<SilenceMatcher>,
    /// When it begins, ms.
    pub starts_at: TimeMs,
    /// When it ends, ms.
    pub ends_at: TimeMs,
    /// The person who created the silence.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

/// A condition on a label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SilenceMatcher {
    /// The label.
    pub name: String,
    /// The value, or a regular expression for the whole of it.
    pub value: String,
    /// Whether the value is a regular expression.
    pub is_regex: bool,
    /// `false`: the value must not match.
    #[serde(default = "yes")]
    pub is_equal: bool,
}

fn yes() -> bool {
    // Older Alertmanagers have no negative matchers, and do not say so.
    true
}

/// The silences that an Alertmanager answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertmanagerSilences {
    /// The URL to which it gets its alerts.
    pub alertmanager: String,
    /// Why it did not answer; "": it did.
    pub error: String,
    /// Those in force.
    pub silences: Vec<Silence>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedSilence {
    id: String,
    matchers: Vec<SilenceMatcher>,
    starts_at: String,
    ends_at: String,
    created_by: String,
    comment: String,
    status: SilenceStatus,
}

#[derive(Deserialize)]
struct SilenceStatus {
    state: String,
}

/// The address of the silences of the Alertmanager that gets alerts at `alerts`; `None`: its path
/// is not the usual one, so nothing is known of the others.
fn address(alerts: &Url) -> Option<Url> {
    let path = alerts.path().strip_suffix("/api/v2/alerts")?;
    let mut url = alerts.clone();
    url.set_path(&format!("{path}/api/v2/silences"));
    Some(url)
}

/// The silences in force of an answer.
fn in_force(answer: &[u8]) -> Result<Vec<Silence>, DeliveryError> {
    let listed: Vec<ListedSilence> =
        serde_json::from_slice(answer).map_err(|e| DeliveryError::Content(e.to_string()))?;
    let active = listed.into_iter().filter(|silence| silence.status.state == "active");
    active.take(SILENCES).map(silence).collect()
}

fn silence(listed: ListedSilence) -> Result<Silence, DeliveryError> {
    Ok(Silence {
        starts_at: time(&listed.starts_at)?,
        ends_at: time(&listed.ends_at)?,
        id: listed.id,
        matchers: listed.matchers,
        created_by: listed.created_by,
        comment: listed.comment,
    })
}

fn time(text: &str) -> Result<TimeMs, DeliveryError> {
    let read =
        DateTime::parse_from_rfc3339(text).map_err(|e| DeliveryError::Content(format!("{text:?}: {e}")))?;
    Ok(read.timestamp_millis())
}

impl SendQueue {
    /// Asks for the silences that are in force.
    pub async fn silences(&self) -> AlertmanagerSilences {
        let alertmanager = self.url().to_string();
        match self.ask_silences().await {
            Ok(silences) => AlertmanagerSilences { alertmanager, error: String::new(), silences },
            Err(error) => {
                AlertmanagerSilences { alertmanager, error: error.to_string(), silences: Vec::new() }
            }
        }
    }

    async fn ask_silences(&self) -> Result<Vec<Silence>, DeliveryError> {
        let none = || DeliveryError::Content("its path does not end with /api/v2/alerts".to_owned());
        let url = address(self.url()).ok_or_else(none)?;
        let request = self.client().request(reqwest::Method::GET, url)?.timeout(self.timeout());
        let failed = |e: &dyn std::error::Error| DeliveryError::Unavailable(error_chain(e));
        let mut response = self.client().send(request).await.map_err(|e| failed(&e))?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| failed(&e))? {
            if answer.len() + chunk.len() > SILENCES_BYTES {
                return Err(DeliveryError::Content(format!(
                    "its silences are more than {SILENCES_BYTES} bytes"
                )));
            }
            answer.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return in_force(&answer);
        }
        answer.truncate(crate::limits::ALERT_ANSWER_BYTES);
        Err(DeliveryError::Status { status, answer: String::from_utf8_lossy(&answer).into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silences_are_beside_the_alerts() {
        let at = |text: &str| address(&Url::parse(text).unwrap()).map(String::from);
        assert_eq!(at("http://am:9093/api/v2/alerts").as_deref(), Some("http://am:9093/api/v2/silences"));
        assert_eq!(at("https://am/x/api/v2/alerts").as_deref(), Some("https://am/x/api/v2/silences"));
        assert_eq!(at("http://am/hook"), None);
    }

    #[test]
    fn only_those_in_force_are_read() {
        let silence = |id: &str, state: &str| {
            format!(
                r#"{{"id":"{id}","status":{{"state":"{state}"}},"updatedAt":"2026-11-25T03:00:00.000Z","comment":"disk swap","createdBy":"ana",
                "startsAt":"2026-11-25T03:00:00.000Z","endsAt":"2026-11-25T05:00:00Z","matchers":[{{"name":"job","value":"demo","isRegex":false}}]}}"#
            )
        };
        let answer = format!("[{},{}]", silence("a", "active"), silence("b", "expired"));
        let found = in_force(answer.as_bytes()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].id.as_str(), found[0].created_by.as_str()), ("a", "ana"));
        assert_eq!(found[0].ends_at - found[0].starts_at, 2 * 3_600_000);
        assert!(found[0].matchers[0].is_equal);
        assert!(in_force(b"{}").is_err());
    }
}
