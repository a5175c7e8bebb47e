//! [`AlertmanagerAlert`]: an alert in the JSON of Alertmanager's API v2; and [`QueuedAlert`]: one
//! that waits to be sent, with a callback for its delivery. [`super::send_queue`] sends them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// An alert to be sent, firing or resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertmanagerAlert {
    /// The labels, which identify the alert.
    #[serde(serialize_with = "as_map")]
    pub labels: Labels,
    /// The alert annotations, texts for people.
    pub annotations: BTreeMap<String, String>,
    /// Since when the alert fires, ms.
    #[serde(serialize_with = "as_time")]
    pub starts_at: TimeMs,
    /// Until when the alert fires, ms; in the future while it is firing.
    #[serde(serialize_with = "as_time")]
    pub ends_at: TimeMs,
    /// The URL that shows the expression of the alert.
    #[serde(rename = "generatorURL")]
    pub generator_url: String,
}

/// An alert that waits to be sent, and a callback for its delivery.
#[derive(Clone)]
pub struct QueuedAlert {
    /// The alert.
    pub alert: Arc<AlertmanagerAlert>,
    /// Called on the sender's task each time an Alertmanager has accepted the alert, or was given
    /// up.
    pub on_delivered: Option<OnDelivered>,
}

/// The callback of [`QueuedAlert::on_delivered`].
pub type OnDelivered = Arc<dyn Fn(DeliveryReport<'_>) + Send + Sync>;

/// What became of an alert.
#[derive(Copy, Clone, Debug)]
pub struct DeliveryReport<'a> {
    /// The URL of the Alertmanager.
    pub alertmanager: &'a str,
    /// Why it did not accept the alert; `None`: it did.
    pub error: Option<&'a str>,
}

impl From<AlertmanagerAlert> for QueuedAlert {
    fn from(alert: AlertmanagerAlert) -> QueuedAlert {
        QueuedAlert { alert: Arc::new(alert), on_delivered: None }
    }
}

fn as_map<S: Serializer>(labels: &Labels, s: S) -> Result<S::Ok, S::Error> {
    let mut map = s.serialize_map(None)?;
    for (name, value) in labels.iter() {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

fn as_time<S: Serializer>(t: &TimeMs, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&rfc3339(*t))
}

/// `t` as `2026-11-21T08:00:00.000Z`; times outside of the calendar become the epoch.
pub fn rfc3339(t: TimeMs) -> String {
    let time = chrono::DateTime::from_timestamp_millis(t).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json() {
        let alert = AlertmanagerAlert {
            labels: Labels::from_pairs([("alertname", "HighCPU"), ("severity", "page")]),
            annotations: BTreeMap::from([("summary".to_owned(), "it \"burns\"".to_owned())]),
            starts_at: 1_795_249_845_007,
            ends_at: 0,
            generator_url: "http://p/graph?g0.expr=up".to_owned(),
        };
        assert_eq!(
            serde_json::to_string(&[alert]).unwrap(),
            r#"[{"labels":{"alertname":"HighCPU","severity":"page"},"annotations":{"summary":"it \"burns\""},"startsAt":"2026-11-21T08:30:45.007Z","endsAt":"1970-01-01T00:00:00.000Z","generatorURL":"http://p/graph?g0.expr=up"}]"#
        );
    }

    #[test]
    fn twice_the_alerts_cost_at_most_a_little_more_than_twice() {
        let alert = |labels: usize| AlertmanagerAlert {
            labels: Labels::from_pairs((0..labels).map(|i| (format!("l{i}"), "a \"text\"\n"))),
            annotations: (0..labels).map(|i| (format!("a{i}"), "<é>".to_owned())).collect(),
            starts_at: 1_795_249_845_007,
            ends_at: 0,
            generator_url: "http://p/graph?g0.expr=up".to_owned(),
        };
        let write = |alerts: &Vec<AlertmanagerAlert>| serde_json::to_string(alerts).unwrap();
        testing::assert_proportional("alerts", 500, |n| vec![alert(5); n], write);
        testing::assert_proportional("labels", 2_000, |n| vec![alert(n)], write);
    }
}
