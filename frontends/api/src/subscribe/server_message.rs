//! The messages of a subscription, as JSON. `docs/subscribe.md` describes them; change both
//! together.

use super::super::query_json;
use super::super::response::ApiError;
use engine::live::LabelledSample;
use engine::plan::{AggregateOp, Plan, PlanOp, ValueType};
use engine::types::histogram_column::Sample;
use std::fmt::Write;
use storage::model::{Labels, TimeMs};

/// A message to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerMessage {
    /// The only key of the message, and the name of the server-sent event.
    pub event: &'static str,
    /// The message as JSON.
    pub json: String,
}

impl ServerMessage {
    /// Starts a message: `{"event":{"id":"…"`.
    pub(super) fn open(event: &'static str, id: &str) -> ServerMessage {
        let mut json = format!("{{\"{event}\":{{\"id\":");
        query_json::string(&mut json, id);
        ServerMessage { event, json }
    }

    pub(super) fn time(mut self, name: &str, t: TimeMs) -> ServerMessage {
        let _ = write!(self.json, ",\"{name}\":");
        query_json::time(&mut self.json, t);
        self
    }

    fn text(mut self, name: &str, text: &str) -> ServerMessage {
        let _ = write!(self.json, ",\"{name}\":");
        query_json::string(&mut self.json, text);
        self
    }

    pub(super) fn list<T>(
        mut self,
        name: &str,
        items: &[T],
        write: impl Fn(&mut String, &T),
    ) -> ServerMessage {
        let _ = write!(self.json, ",\"{name}\":[");
        for (i, item) in items.iter().enumerate() {
            self.json.push_str(if i > 0 { "," } else { "" });
            write(&mut self.json, item);
        }
        self.json.push(']');
        self
    }

    pub(super) fn close(mut self) -> ServerMessage {
        self.json.push_str("}}");
        self
    }
}

/// The first message: describes the view of the subscription.
pub fn subscribed(
    id: &str,
    query: &str,
    plan: &Plan,
    explained: &str,
    standing: &StandingMode,
) -> ServerMessage {
    let kind = if plan.kind() == ValueType::Scalar { "scalar" } else { "vector" };
    let mut message = ServerMessage::open("subscribed", id).text("query", query).text("type", kind);
    message.json.push_str(",\"schema\":{\"labels\":");
    match output_labels(plan) {
        Some(names) => message.json.push_str(&serde_json::json!(names).to_string()),
        None => message.json.push_str("null"),
    }
    message.json.push_str(",\"value\":\"float64\"}");
    standing.write(&mut message.json);
    message.text("plan", explained).close()
}

/// Whether an answer is kept current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandingMode {
    /// With every sample.
    Live,
    /// The plan cannot be: it is evaluated again and again.
    Impossible,
    /// It could, but it may not, for this reason: it is evaluated again and again.
    Refused(String),
}

impl StandingMode {
    fn write(&self, json: &mut String) {
        if *self != StandingMode::Live {
            json.push_str(",\"standing\":false");
        }
        if let StandingMode::Refused(reason) = self {
            json.push_str(",\"reason\":");
            query_json::string(json, reason);
        }
    }
}

/// The form of rows that are no samples: those of a statement in SQL.
pub trait RowFormat: Send + Sync {
    /// The fields of the first message that describe the rows, as `"name":value,…`.
    fn describe(&self) -> String;
    /// A row of the view as an object of JSON, and how many equal ones it stands for.
    fn row(&self, labels: &Labels, sample: &Sample) -> (String, i64);
    /// The row that there is while the view has none.
    fn over_nothing(&self) -> Option<&str>;
}

/// The first message, for rows in another form.
pub fn subscribed_rows(
    id: &str,
    query: &str,
    format: &dyn RowFormat,
    standing: &StandingMode,
) -> ServerMessage {
    let mut message = ServerMessage::open("subscribed", id).text("query", query);
    let _ = write!(message.json, ",{}", format.describe());
    standing.write(&mut message.json);
    message.close()
}

/// The labels that rows can have; `None` if they depend on the data.
fn output_labels(plan: &Plan) -> Option<Vec<String>> {
    use AggregateOp::*;
    match &plan.op {
        PlanOp::Aggregate(a) => match a.op {
            // These operators keep the labels of the input, or add a label that the query names.
            Topk | Bottomk | Limitk | LimitRatio | CountValues => None,
            _ if a.grouping.without => None,
            _ => Some(a.grouping.labels.clone()),
        },
        PlanOp::Negate(input) | PlanOp::Plus(input) => output_labels(input),
        _ if plan.kind() == ValueType::Scalar => Some(Vec::new()),
        _ => None,
    }
}

/// Why a subscription ended that the client did not end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// `backpressure: close`, and the client was too slow.
    Slow,
    /// The memory for all subscriptions was used up, and this one held most of it.
    BuffersFull,
    /// The view was removed or replaced.
    ViewRemoved,
    /// The server failed to continue it.
    Failed,
}

impl EndReason {
    fn as_str(self) -> &'static str {
        match self {
            EndReason::Slow => "slow",
            EndReason::BuffersFull => "buffers_full",
            EndReason::ViewRemoved => "view_removed",
            EndReason::Failed => "failed",
        }
    }
}

/// The subscription ended; no reason means that the client ended it.
pub fn unsubscribed(id: &str, why: Option<EndReason>) -> ServerMessage {
    let message = ServerMessage::open("unsubscribed", id);
    match why {
        Some(why) => message.text("reason", why.as_str()).close(),
        None => message.close(),
    }
}

/// The list of a topic has another version since `t`.
pub fn changed(id: &str, topic: &str, t: TimeMs, version: u64) -> ServerMessage {
    let mut message = ServerMessage::open("changed", id).text("topic", topic).time("t", t);
    let _ = write!(message.json, ",\"version\":{version}");
    message.close()
}

/// The answer is complete up to `t`.
pub fn progress(id: &str, t: TimeMs) -> ServerMessage {
    ServerMessage::open("progress", id).time("t", t).close()
}

/// From `t` on, the answer has these warnings and infos.
pub fn notes(id: &str, t: TimeMs, warnings: &[String], infos: &[String]) -> ServerMessage {
    let text = |out: &mut String, text: &String| query_json::string(out, text);
    ServerMessage::open("notes", id)
        .time("t", t)
        .list("warnings", warnings, text)
        .list("infos", infos, text)
        .close()
}

/// Recorded samples at `t` differ from what was recorded before.
pub fn correction(id: &str, t: TimeMs, upsert: &[LabelledSample], remove: &[Labels]) -> ServerMessage {
    ServerMessage::open("correction", id)
        .time("t", t)
        .list("upsert", upsert, row)
        .list("remove", remove, query_json::labels)
        .close()
}

/// States between these ticks were not delivered; a snapshot follows.
pub fn lost(id: &str, from: TimeMs, to: TimeMs) -> ServerMessage {
    ServerMessage::open("lost", id).time("from", from).time("to", to).close()
}

/// Something failed; `t` is set if it was the evaluation at that tick.
pub fn error(id: Option<&str>, error: &ApiError, t: Option<TimeMs>) -> ServerMessage {
    let mut json = String::from("{\"error\":{");
    if let Some(id) = id {
        json.push_str("\"id\":");
        query_json::string(&mut json, id);
        json.push(',');
    }
    let _ = write!(json, "\"errorType\":\"{}\"", error.kind.as_str());
    let message = ServerMessage { event: "error", json }.text("error", &error.message);
    match t {
        Some(t) => message.time("t", t).close(),
        None => message.close(),
    }
}

/// A row with its labels.
pub(super) fn row(out: &mut String, (labels, value): &LabelledSample) {
    out.push_str("{\"labels\":");
    query_json::labels(out, labels);
    let name = if matches!(value, Sample::Float(_)) { "value" } else { "histogram" };
    let _ = write!(out, ",\"{name}\":");
    sample(out, value);
    out.push('}');
}

/// The value of a row: a text, or a histogram as an object.
pub(super) fn sample(out: &mut String, sample: &Sample) {
    match sample {
        Sample::Float(v) => {
            out.push('"');
            query_json::value(out, *v);
            out.push('"');
        }
        Sample::Histogram(h) => query_json::histogram(out, h),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> Labels {
        Labels::from_pairs([("job", name)])
    }

    #[test]
    fn the_schema_names_labels_only_where_the_plan_does() {
        use promql;
        let labels =
            |text: &str| output_labels(&promql::compile(text, &promql::PromqlOptions::default()).unwrap());
        assert_eq!(labels("-sum by (job) (x)"), Some(vec!["job".to_owned()]));
        assert_eq!(labels("sum(x)"), Some(vec![]));
        assert_eq!(labels("1 + time()"), Some(vec![]));
        for text in ["x", "topk by (job) (1, x)", "sum without (job) (x)", "count_values by (job) (\"v\", x)"]
        {
            assert_eq!(labels(text), None, "{text}");
        }
    }

    #[test]
    fn notices() {
        assert_eq!(progress("a\"", 5_000).json, r#"{"progress":{"id":"a\"","t":5}}"#);
        assert_eq!(
            correction("a", 1_000, &[(job("x"), 2.0.into())], &[job("y")]).json,
            r#"{"correction":{"id":"a","t":1,"upsert":[{"labels":{"job":"x"},"value":"2"}],"remove":[{"job":"y"}]}}"#
        );
        assert_eq!(
            changed("t", "targets", 1_795_578_600_200, 812).json,
            r#"{"changed":{"id":"t","topic":"targets","t":1795578600.200,"version":812}}"#
        );
        assert_eq!(lost("a", 1_000, 2_500).json, r#"{"lost":{"id":"a","from":1,"to":2.500}}"#);
        assert_eq!(
            error(None, &ApiError::bad_data("x"), None).json,
            r#"{"error":{"errorType":"bad_data","error":"x"}}"#
        );
        assert_eq!(
            error(Some("a"), &ApiError::bad_data("x"), Some(1_000)).json,
            r#"{"error":{"id":"a","errorType":"bad_data","error":"x","t":1}}"#
        );
    }
}
