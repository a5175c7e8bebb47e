//! The messages that a client of `/api/v1/subscribe` sends: parsed from a websocket message or from
//! URL parameters. `docs/subscribe.md` specifies them; [`super::server_message`] is the other
//! direction.

use super::super::limits;
use super::super::params::Form;
use super::super::response::ApiError;
use super::topics::Topic;
use serde::{Deserialize, Serialize};

/// A message of a websocket client.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientMessage {
    /// Open a subscription.
    Subscribe(SubscribeRequest),
    /// End the subscription with this id.
    Unsubscribe(String),
}

/// A request for a subscription.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SubscribeRequest {
    /// The client's id of the subscription; every message repeats it.
    pub id: String,
    /// The expression; empty: `view` names a view.
    #[serde(default)]
    pub query: String,
    /// Instead of an expression, a statement in SQL; the same as `query` with `lang: "sql"`.
    #[serde(default)]
    pub sql: String,
    /// Instead of an expression, an existing view: the name of a saved query, or an id.
    #[serde(default)]
    pub view: String,
    /// Instead of an expression, a list that is no query. Only over a websocket.
    #[serde(default)]
    pub topic: Option<Topic>,
    /// The language of the expression.
    #[serde(default)]
    pub lang: LanguageName,
    /// What happens when the client reads more slowly than the answer changes.
    #[serde(default)]
    pub backpressure: Backpressure,
    /// The queue length of the policies `buffer` and `close`, in events.
    #[serde(default)]
    pub buffer: Option<usize>,
    /// The notation of changes.
    #[serde(default)]
    pub envelope: Envelope,
}

/// The language of the query.
#[derive(Copy, Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LanguageName {
    /// PromQL.
    #[default]
    Promql,
    /// SQL.
    Sql,
}

/// What happens when the client reads more slowly than the answer changes.
#[derive(Copy, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Backpressure {
    /// Queued changes are merged: the client sees the newest state, not every step.
    #[default]
    Conflate,
    /// Changes are queued. When the queue is full it is dropped, and a new snapshot follows.
    Buffer,
    /// Like `Buffer`, but when the queue is full the subscription ends.
    Close,
}

/// The notation of changes.
#[derive(Copy, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Envelope {
    /// New or changed rows, and the label sets of removed rows.
    #[default]
    Upsert,
    /// Rows with `diff` -1 (no longer true) and 1 (true from now on).
    Diff,
    /// Each row has a number; its labels are sent once.
    Indexed,
}

impl SubscribeRequest {
    /// The subscription of a plain GET.
    pub fn from_form(form: &Form) -> Result<SubscribeRequest, ApiError> {
        let or = |name: &str, default: &str| match form.get(name) {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        let buffer = match form.get("buffer") {
            "" => None,
            text => {
                Some(text.parse().map_err(|_| ApiError::parameter("buffer", "must be a positive number"))?)
            }
        };
        let request = SubscribeRequest {
            id: or("id", "query"),
            query: form.get("query").to_owned(),
            sql: form.get("sql").to_owned(),
            view: form.get("view").to_owned(),
            topic: match form.get("topic") {
                "" => None,
                name => Some(word("topic", name)?),
            },
            lang: word("lang", &or("lang", "promql"))?,
            backpressure: word("backpressure", &or("backpressure", "conflate"))?,
            buffer,
            envelope: word("envelope", &or("envelope", "upsert"))?,
        };
        request.check()
    }

    /// The statement in SQL; `None`: the request asks for something else.
    pub fn statement(&self) -> Option<&str> {
        if !self.sql.is_empty() {
            return Some(&self.sql);
        }
        (self.lang == LanguageName::Sql && self.view.is_empty()).then_some(self.query.as_str())
    }

    /// The subscription of a statement.
    pub fn from_statement(text: String) -> SubscribeRequest {
        SubscribeRequest {
            id: "sql".to_owned(),
            query: String::new(),
            sql: text,
            view: String::new(),
            topic: None,
            lang: LanguageName::Sql,
            backpressure: Backpressure::default(),
            buffer: None,
            envelope: Envelope::default(),
        }
    }

    /// The request, if its sizes are within the limits.
    pub fn check(self) -> Result<SubscribeRequest, ApiError> {
        if self.id.is_empty() || self.id.len() > limits::SUBSCRIPTION_ID_BYTES {
            let limit = limits::SUBSCRIPTION_ID_BYTES;
            return Err(ApiError::parameter("id", format!("must have 1 to {limit} bytes")));
        }
        if !self.query.is_empty() && !self.view.is_empty() {
            return Err(ApiError::parameter("view", "either `query` or `view`, not both"));
        }
        let has_other = !self.query.is_empty() || !self.view.is_empty();
        if !self.sql.is_empty() && has_other {
            return Err(ApiError::parameter("sql", "either `sql`, `query` or `view`"));
        }
        if self.topic.is_some() && (has_other || !self.sql.is_empty()) {
            return Err(ApiError::parameter("topic", "either `topic`, `sql`, `query` or `view`"));
        }
        if self.buffer.is_some_and(|n| n == 0 || n > limits::BUFFER_EVENTS_MAX) {
            let limit = limits::BUFFER_EVENTS_MAX;
            return Err(ApiError::parameter("buffer", format!("must be 1 to {limit}")));
        }
        Ok(self)
    }
}

/// Parses the name of a variant of one of the enums above.
fn word<'de, T: Deserialize<'de>>(name: &str, text: &'de str) -> Result<T, ApiError> {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};
    let deserializer: StrDeserializer<'de, Error> = text.into_deserializer();
    T::deserialize(deserializer).map_err(|e| ApiError::parameter(name, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_messages() {
        let text = r#"{"subscribe": {"id": "a", "query": "up", "lang": "promql", "backpressure": "buffer", "buffer": 7}}"#;
        let ClientMessage::Subscribe(request) = serde_json::from_str(text).unwrap() else {
            panic!("not a subscribe")
        };
        assert_eq!(
            (request.id.as_str(), request.backpressure, request.buffer),
            ("a", Backpressure::Buffer, Some(7))
        );
        assert!(matches!(
            serde_json::from_str(r#"{"unsubscribe": "a"}"#).unwrap(),
            ClientMessage::Unsubscribe(id) if id == "a"
        ));
        let topic = r#"{"subscribe": {"id": "t", "topic": "targets"}}"#;
        let ClientMessage::Subscribe(request) = serde_json::from_str(topic).unwrap() else {
            panic!("not a subscribe")
        };
        assert_eq!(request.topic, Some(Topic::Targets));
        let unknown =
            serde_json::from_str::<ClientMessage>(r#"{"subscribe": {"id": "a", "query": "up", "step": 1}}"#);
        assert!(unknown.unwrap_err().to_string().contains("unknown field `step`"));
    }

    #[test]
    fn forms_have_defaults_and_limits() {
        let request =
            SubscribeRequest::from_form(&Form::parse(None, Some("query=up&envelope=diff")).unwrap()).unwrap();
        assert_eq!((request.id.as_str(), request.envelope), ("query", Envelope::Diff));
        let error = |query| {
            SubscribeRequest::from_form(&Form::parse(None, Some(query)).unwrap()).unwrap_err().message
        };
        assert!(error("query=up&lang=kql").contains("unknown variant `kql`, expected `promql` or `sql`"));
        assert!(error("query=up&sql=SELECT%201").contains("either `sql`, `query` or `view`"));
        assert!(error("query=up&topic=rules").contains("either `topic`, `sql`, `query` or `view`"));
        assert!(error("topic=weather").contains("unknown variant `weather`, expected one of `alerts`"));
        assert_eq!(error("query=up&buffer=0"), "invalid parameter \"buffer\": must be 1 to 10000");
    }

    #[test]
    fn twice_the_message_costs_at_most_a_little_more_than_twice() {
        let read = |text: &String| serde_json::from_str::<ClientMessage>(text).is_ok();
        type Text = fn(usize) -> String;
        let texts: [(&str, usize, Text); 4] = [
            ("a query", 50_000, |n| {
                format!(r#"{{"subscribe": {{"id": "a", "query": "{}"}}}}"#, "x".repeat(n))
            }),
            ("escapes", 20_000, |n| {
                format!(r#"{{"subscribe": {{"id": "a", "query": "{}"}}}}"#, "\\n\\u00e9".repeat(n))
            }),
            ("unknown keys", 5_000, |n| {
                format!(r#"{{"subscribe": {{"id": "a"{}}}}}"#, r#", "x": 1"#.repeat(n))
            }),
            ("brackets", 50_000, |n| format!(r#"{{"subscribe": {}"#, "[".repeat(n))),
        ];
        for (what, n, text) in texts {
            testing::assert_proportional(what, n, text, read);
        }
    }
}
