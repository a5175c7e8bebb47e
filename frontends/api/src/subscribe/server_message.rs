//! The messages of a subscription, as JSON. `docs/subscribe.md` describes them; change both together.

use super::super::query_json;
use super::super::response::ApiError;
use super::client_message::Envelope;
use engine::live::LabelledSample;
use engine::plan::{AggregateOp, Plan, PlanOp, ValueType};
use engine::types::histogram_column::Sample;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;
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
    fn open(event: &'static str, id: &str) -> ServerMessage {
        let mut json = format!("{{\"{event}\":{{\"id\":");
        query_json::string(&mut json, id);
        ServerMessage { event, json }
    }

    fn time(mut self, name: &str, t: TimeMs) -> ServerMessage {
        let _ = write!(self.json, ",\"{name}\":");
        query_json::time(&mut self.json, t);
        self
    }

    fn text(mut self, name: &str, text: &str) -> ServerMessage {
        let _ = write!(self.json, ",\"{name}\":");
        query_json::string(&mut self.json, text);
        self
    }

    fn list<T>(mut self, name: &str, items: &[T], write: impl Fn(&mut String, &T)) -> ServerMessage {
        let _ = write!(self.json, ",\"{name}\":[");
        for (i, item) in items.iter().enumerate() {
            self.json.push_str(if i > 0 { "," } else { "" });
            write(&mut self.json, item);
        }
        self.json.push(']');
        self
    }

    fn close(mut self) -> ServerMessage {
        self.json.push_str("}}");
        self
    }
}

/// The first message: describes the view of the subscription.
pub fn subscribed(id: &str, query: &str, plan: &Plan, explained: &str, standing: &Standing) -> ServerMessage {
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
pub enum Standing {
    /// With every sample.
    Live,
    /// The plan cannot be: it is evaluated again and again.
    Impossible,
    /// It could, but it may not, for this reason: it is evaluated again and again.
    Refused(String),
}

impl Standing {
    fn write(&self, json: &mut String) {
        if *self != Standing::Live {
            json.push_str(",\"standing\":false");
        }
        if let Standing::Refused(reason) = self {
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
pub fn subscribed_rows(id: &str, query: &str, format: &dyn RowFormat, standing: &Standing) -> ServerMessage {
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
pub enum Ended {
    /// `backpressure: close`, and the client was too slow.
    Slow,
    /// The memory for all subscriptions was used up, and this one held most of it.
    BuffersFull,
    /// The view was removed or replaced.
    ViewRemoved,
    /// The server failed to continue it.
    Failed,
}

impl Ended {
    fn as_str(self) -> &'static str {
        match self {
            Ended::Slow => "slow",
            Ended::BuffersFull => "buffers_full",
            Ended::ViewRemoved => "view_removed",
            Ended::Failed => "failed",
        }
    }
}

/// The subscription ended; no reason means that the client ended it.
pub fn unsubscribed(id: &str, why: Option<Ended>) -> ServerMessage {
    let message = ServerMessage::open("unsubscribed", id);
    match why {
        Some(why) => message.text("reason", why.as_str()).close(),
        None => message.close(),
    }
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

fn row(out: &mut String, (labels, sample): &LabelledSample) {
    out.push_str("{\"labels\":");
    query_json::labels(out, labels);
    match sample {
        Sample::Float(v) => {
            out.push_str(",\"value\":\"");
            query_json::value(out, *v);
            out.push_str("\"}");
        }
        Sample::Histogram(h) => {
            out.push_str(",\"histogram\":");
            query_json::histogram(out, h);
            out.push('}');
        }
    }
}

fn diff_row(out: &mut String, (labels, sample, diff): &(Labels, Sample, i8)) {
    row(out, &(labels.clone(), sample.clone()));
    // The closing brace of the row, which has one more field.
    out.pop();
    let _ = write!(out, ",\"diff\":{diff}}}");
}

/// Writes snapshots and deltas in the envelope that the client chose.
pub struct DeltaEncoder {
    id: String,
    /// The rows that the client has. Only the envelope `diff` needs them, to write what a change
    /// replaces.
    rows: Option<HashMap<Labels, Sample>>,
    /// The form of the rows; `None`: samples. Rows in another form have no key: a change is always
    /// a difference.
    format: Option<Arc<dyn RowFormat>>,
}

impl DeltaEncoder {
    /// An encoder for the subscription `id`.
    pub fn new(id: &str, envelope: Envelope, format: Option<Arc<dyn RowFormat>>) -> DeltaEncoder {
        let remembers = envelope == Envelope::Diff || format.is_some();
        DeltaEncoder { id: id.to_owned(), rows: remembers.then(HashMap::new), format }
    }

    /// The approximate memory of the rows that the encoder remembers, bytes.
    pub fn remembered_bytes(&self) -> usize {
        let rows = self.rows.as_ref().map_or(0, HashMap::len);
        rows * 2 * size_of::<LabelledSample>()
    }

    /// A message with the whole answer.
    pub fn snapshot(&mut self, t: TimeMs, rows: &[LabelledSample]) -> ServerMessage {
        let message = ServerMessage::open("snapshot", &self.id).time("t", t);
        // Rows that the client had and the snapshot lacks need no `-1`: a snapshot replaces
        // everything.
        let Some(known) = &mut self.rows else { return message.list("rows", rows, row).close() };
        *known = rows.iter().cloned().collect();
        if let Some(format) = &self.format {
            let mut diff = BTreeMap::new();
            for (labels, sample) in rows {
                count(&mut diff, format.row(labels, sample), 1);
            }
            if let Some(nothing) = format.over_nothing().filter(|_| rows.is_empty()) {
                count(&mut diff, (nothing.to_owned(), 1), 1);
            }
            return message.list("rows", &listed(diff), formatted_row).close();
        }
        let diff: Vec<_> = rows.iter().map(|(labels, v)| (labels.clone(), v.clone(), 1)).collect();
        message.list("rows", &diff, diff_row).close()
    }

    /// A message with the changes up to `t`; since an earlier tick if `since` is set. `None`: no row
    /// that the client sees has changed.
    pub fn delta(
        &mut self,
        since: Option<TimeMs>,
        t: TimeMs,
        upsert: &[LabelledSample],
        remove: &[Labels],
    ) -> Option<ServerMessage> {
        let mut message = ServerMessage::open("delta", &self.id).time("t", t);
        if let Some(since) = since {
            message = message.time("since", since);
        }
        let Some(known) = &mut self.rows else {
            return Some(
                message.list("upsert", upsert, row).list("remove", remove, query_json::labels).close(),
            );
        };
        if let Some(format) = &self.format {
            let diff = formatted_changes(format.as_ref(), known, upsert, remove);
            return (!diff.is_empty()).then(|| message.list("rows", &diff, formatted_row).close());
        }
        let mut diff = Vec::with_capacity(2 * upsert.len() + remove.len());
        for labels in remove {
            // A merged delta may remove a row that the client never had; then there is nothing to
            // retract.
            diff.extend(known.remove(labels).map(|old| (labels.clone(), old, -1)));
        }
        for (labels, v) in upsert {
            // The old value before the new one, so that sums that a client keeps never count a row
            // twice.
            diff.extend(known.insert(labels.clone(), v.clone()).map(|old| (labels.clone(), old, -1)));
            diff.push((labels.clone(), v.clone(), 1));
        }
        Some(message.list("rows", &diff, diff_row).close())
    }
}

/// Adds a row `times` to the difference.
fn count(diff: &mut BTreeMap<String, i64>, (row, equal): (String, i64), times: i64) {
    *diff.entry(row).or_default() += equal * times;
}

/// The rows of a difference: those that go first.
fn listed(diff: BTreeMap<String, i64>) -> Vec<(String, i64)> {
    let mut rows: Vec<(String, i64)> = diff.into_iter().filter(|(_, n)| *n != 0).collect();
    rows.sort_by_key(|(_, n)| *n > 0);
    rows
}

/// What changes in the rows of a format, and in `known`.
fn formatted_changes(
    format: &dyn RowFormat,
    known: &mut HashMap<Labels, Sample>,
    upsert: &[LabelledSample],
    remove: &[Labels],
) -> Vec<(String, i64)> {
    let mut diff = BTreeMap::new();
    let was_empty = known.is_empty();
    for labels in remove {
        if let Some(old) = known.remove(labels) {
            count(&mut diff, format.row(labels, &old), -1);
        }
    }
    for (labels, sample) in upsert {
        if let Some(old) = known.insert(labels.clone(), sample.clone()) {
            count(&mut diff, format.row(labels, &old), -1);
        }
        count(&mut diff, format.row(labels, sample), 1);
    }
    if let Some(nothing) = format.over_nothing()
        && was_empty != known.is_empty()
    {
        count(&mut diff, (nothing.to_owned(), 1), if was_empty { -1 } else { 1 });
    }
    listed(diff)
}

fn formatted_row(out: &mut String, (row, diff): &(String, i64)) {
    let _ = write!(out, "{{\"row\":{row},\"diff\":{diff}}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> Labels {
        Labels::from_pairs([("job", name)])
    }

    #[test]
    fn upsert_envelope() {
        let mut encoder = DeltaEncoder::new("a", Envelope::Upsert, None);
        assert_eq!(
            encoder.snapshot(1_500, &[(job("x"), 1.0.into()), (Labels::default(), f64::NAN.into())]).json,
            r#"{"snapshot":{"id":"a","t":1.500,"rows":[{"labels":{"job":"x"},"value":"1"},{"labels":{},"value":"NaN"}]}}"#
        );
        assert_eq!(
            encoder.delta(None, 2_000, &[(job("y"), 2.5.into())], &[job("x")]).expect("a change").json,
            r#"{"delta":{"id":"a","t":2,"upsert":[{"labels":{"job":"y"},"value":"2.5"}],"remove":[{"job":"x"}]}}"#
        );
        let delta = encoder.delta(Some(2_000), 3_000, &[], &[]).expect("a message");
        assert_eq!(delta.json, r#"{"delta":{"id":"a","t":3,"since":2,"upsert":[],"remove":[]}}"#);
    }

    #[test]
    fn diff_envelope_says_what_a_change_replaces() {
        let mut encoder = DeltaEncoder::new("a", Envelope::Diff, None);
        let snapshot = encoder.snapshot(1_000, &[(job("x"), 1.0.into()), (job("y"), 2.0.into())]);
        assert!(snapshot.json.contains(r#"{"labels":{"job":"x"},"value":"1","diff":1}"#));
        assert_eq!(
            encoder
                .delta(None, 2_000, &[(job("y"), 3.0.into())], &[job("x"), job("never")])
                .expect("a change")
                .json,
            concat!(
                r#"{"delta":{"id":"a","t":2,"rows":[{"labels":{"job":"x"},"value":"1","diff":-1},"#,
                r#"{"labels":{"job":"y"},"value":"2","diff":-1},{"labels":{"job":"y"},"value":"3","diff":1}]}}"#
            )
        );
    }

    /// Shows the job, and a row over nothing.
    struct Jobs;

    impl RowFormat for Jobs {
        fn describe(&self) -> String {
            "\"columns\":[\"job\"]".to_owned()
        }
        fn row(&self, labels: &Labels, sample: &Sample) -> (String, i64) {
            let equal = if let Sample::Float(equal) = sample { *equal as i64 } else { 0 };
            (format!("{{\"job\":\"{}\"}}", labels.get("job").unwrap_or("")), equal)
        }
        fn over_nothing(&self) -> Option<&str> {
            Some("{\"job\":null}")
        }
    }

    #[test]
    fn rows_in_another_form_are_differences() {
        assert_eq!(
            subscribed_rows("a", "SELECT job", &Jobs, &Standing::Impossible).json,
            r#"{"subscribed":{"id":"a","query":"SELECT job","columns":["job"],"standing":false}}"#
        );
        let mut encoder = DeltaEncoder::new("a", Envelope::Upsert, Some(Arc::new(Jobs)));
        assert_eq!(
            encoder.snapshot(1_000, &[]).json,
            r#"{"snapshot":{"id":"a","t":1,"rows":[{"row":{"job":null},"diff":1}]}}"#
        );
        let mut change = |upsert: &[LabelledSample], remove: &[Labels]| {
            encoder.delta(None, 2_000, upsert, remove).map(|message| message.json)
        };
        assert_eq!(
            change(&[(job("x"), 2.0.into())], &[]).as_deref(),
            Some(concat!(
                r#"{"delta":{"id":"a","t":2,"rows":[{"row":{"job":null},"diff":-1},"#,
                r#"{"row":{"job":"x"},"diff":2}]}}"#
            ))
        );
        // The client sees no difference.
        assert_eq!(change(&[(job("x"), 2.0.into())], &[job("never")]), None);
        assert_eq!(
            change(&[(job("x"), 1.0.into())], &[]).as_deref(),
            Some(r#"{"delta":{"id":"a","t":2,"rows":[{"row":{"job":"x"},"diff":-1}]}}"#)
        );
        assert_eq!(
            change(&[], &[job("x")]).as_deref(),
            Some(concat!(
                r#"{"delta":{"id":"a","t":2,"rows":[{"row":{"job":"x"},"diff":-1},"#,
                r#"{"row":{"job":null},"diff":1}]}}"#
            ))
        );
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
