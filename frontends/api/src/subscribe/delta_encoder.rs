//! [`DeltaEncoder`]: writes the rows of a subscription as JSON, as a whole (snapshot) or as changes
//! (delta), in the form that the client chose. `docs/subscribe.md` specifies the forms; change both
//! together.

use super::super::query_json;
use super::client_message::Envelope;
use super::server_message::{RowFormat, ServerMessage, row, sample};
use engine::live::LabelledSample;
use engine::types::histogram_column::Sample;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;
use storage::model::{Labels, TimeMs};

/// A row with its number.
struct NumberedRow<'a> {
    number: u64,
    labels: &'a Labels,
    value: &'a Sample,
}

/// A row that the client does not have yet: `[0,{"job":"x"},"1"]`.
fn new_row(out: &mut String, row: &NumberedRow) {
    let _ = write!(out, "[{},", row.number);
    query_json::labels(out, row.labels);
    out.push(',');
    sample(out, row.value);
    out.push(']');
}

/// A row that the client has, by its number: `[0,"1"]`.
fn known_row(out: &mut String, row: &NumberedRow) {
    let _ = write!(out, "[{},", row.number);
    sample(out, row.value);
    out.push(']');
}

/// The numbers of the rows that the client has, in the envelope `indexed`.
#[derive(Default)]
struct RowNumbers {
    numbers: HashMap<Labels, u64>,
    /// Never given twice until the next snapshot, so that a number always means one row.
    next: u64,
}

impl RowNumbers {
    /// The number of a new row.
    fn give(&mut self, labels: &Labels) -> u64 {
        let number = self.next;
        self.next += 1;
        self.numbers.insert(labels.clone(), number);
        number
    }

    fn snapshot(&mut self, message: ServerMessage, rows: &[LabelledSample]) -> ServerMessage {
        *self = RowNumbers::default();
        let numbered =
            rows.iter().map(|(labels, value)| NumberedRow { number: self.give(labels), labels, value });
        let rows: Vec<NumberedRow> = numbered.collect();
        message.list("rows", &rows, new_row)
    }

    fn delta(
        &mut self,
        message: ServerMessage,
        upsert: &[LabelledSample],
        remove: &[Labels],
    ) -> ServerMessage {
        // A merged delta may remove a row that the client never had.
        let gone: Vec<u64> = remove.iter().filter_map(|labels| self.numbers.remove(labels)).collect();
        let mut known = Vec::new();
        let mut new = Vec::new();
        for (labels, value) in upsert {
            match self.numbers.get(labels) {
                Some(number) => known.push(NumberedRow { number: *number, labels, value }),
                None => new.push(NumberedRow { number: self.give(labels), labels, value }),
            }
        }
        let number = |out: &mut String, number: &u64| {
            let _ = write!(out, "{number}");
        };
        message.list("upsert", &known, known_row).list("new", &new, new_row).list("remove", &gone, number)
    }
}

/// A row that comes or goes.
struct DiffRow {
    row: LabelledSample,
    /// 1: it comes; -1: it goes.
    diff: i8,
}

fn diff_row(out: &mut String, changed: &DiffRow) {
    let DiffRow { row: labelled, diff } = changed;
    row(out, labelled);
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
    /// The numbers of these rows, in the envelope `indexed`.
    numbers: Option<RowNumbers>,
    /// The form of the rows; `None`: samples. Rows in another form have no key: a change is always
    /// a difference.
    format: Option<Arc<dyn RowFormat>>,
}

impl DeltaEncoder {
    /// An encoder for the subscription `id`.
    pub fn new(id: &str, envelope: Envelope, format: Option<Arc<dyn RowFormat>>) -> DeltaEncoder {
        let remembers = envelope == Envelope::Diff || format.is_some();
        let is_indexed = envelope == Envelope::Indexed && format.is_none();
        DeltaEncoder {
            id: id.to_owned(),
            rows: remembers.then(HashMap::new),
            numbers: is_indexed.then(RowNumbers::default),
            format,
        }
    }

    /// The approximate memory of the rows that the encoder remembers, bytes.
    pub fn remembered_bytes(&self) -> usize {
        let rows = self.rows.as_ref().map_or(0, HashMap::len);
        let numbers = self.numbers.as_ref().map_or(0, |numbers| numbers.numbers.len());
        rows * 2 * size_of::<LabelledSample>() + numbers * 2 * size_of::<(Labels, u64)>()
    }

    /// A message with the whole answer.
    pub fn snapshot(&mut self, t: TimeMs, rows: &[LabelledSample]) -> ServerMessage {
        let message = ServerMessage::open("snapshot", &self.id).time("t", t);
        if let Some(numbers) = &mut self.numbers {
            return numbers.snapshot(message, rows).close();
        }
        // Rows that the client had and the snapshot lacks need no `-1`: a snapshot replaces
        // everything.
        let Some(known) = &mut self.rows else { return message.list("rows", rows, row).close() };
        *known = rows.iter().cloned().collect();
        if let Some(format) = &self.format {
            let mut diff = BTreeMap::new();
            for (labels, sample) in rows {
                let (row, equal) = format.row(labels, sample);
                count(&mut diff, row, equal);
            }
            if let Some(nothing) = format.over_nothing().filter(|_| rows.is_empty()) {
                count(&mut diff, nothing.to_owned(), 1);
            }
            return message.list("rows", &listed(diff), formatted_row).close();
        }
        let diff: Vec<_> = rows.iter().map(|row| DiffRow { row: row.clone(), diff: 1 }).collect();
        message.list("rows", &diff, diff_row).close()
    }

    /// A message with the changes at `t`; they hold from `since` on, if that is set. `None`: no row
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
        if let Some(numbers) = &mut self.numbers {
            return Some(numbers.delta(message, upsert, remove).close());
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
            let gone = known.remove(labels);
            diff.extend(gone.map(|old| DiffRow { row: (labels.clone(), old), diff: -1 }));
        }
        for (labels, v) in upsert {
            // The old value before the new one, so that sums that a client keeps never count a row
            // twice.
            let replaced = known.insert(labels.clone(), v.clone());
            diff.extend(replaced.map(|old| DiffRow { row: (labels.clone(), old), diff: -1 }));
            diff.push(DiffRow { row: (labels.clone(), v.clone()), diff: 1 });
        }
        Some(message.list("rows", &diff, diff_row).close())
    }
}

/// Adds a row `times` to the difference.
fn count(diff: &mut BTreeMap<String, i64>, row: String, times: i64) {
    *diff.entry(row).or_default() += times;
}

/// The rows of a difference: those that go first.
fn listed(diff: BTreeMap<String, i64>) -> Vec<CountedRow> {
    let rows = diff.into_iter().filter(|(_, diff)| *diff != 0);
    let mut rows: Vec<CountedRow> = rows.map(|(row, diff)| CountedRow { row, diff }).collect();
    rows.sort_by_key(|row| row.diff > 0);
    rows
}

/// What changes in the rows of a format, and in `known`.
fn formatted_changes(
    format: &dyn RowFormat,
    known: &mut HashMap<Labels, Sample>,
    upsert: &[LabelledSample],
    remove: &[Labels],
) -> Vec<CountedRow> {
    let mut diff = BTreeMap::new();
    let was_empty = known.is_empty();
    for labels in remove {
        if let Some(old) = known.remove(labels) {
            let (row, equal) = format.row(labels, &old);
            count(&mut diff, row, -equal);
        }
    }
    for (labels, sample) in upsert {
        if let Some(old) = known.insert(labels.clone(), sample.clone()) {
            let (row, equal) = format.row(labels, &old);
            count(&mut diff, row, -equal);
        }
        let (row, equal) = format.row(labels, sample);
        count(&mut diff, row, equal);
    }
    if let Some(nothing) = format.over_nothing()
        && was_empty != known.is_empty()
    {
        count(&mut diff, nothing.to_owned(), if was_empty { -1 } else { 1 });
    }
    listed(diff)
}

/// A row in another form, and how many more or fewer there are of it.
struct CountedRow {
    row: String,
    diff: i64,
}

fn formatted_row(out: &mut String, counted: &CountedRow) {
    let CountedRow { row, diff } = counted;
    let _ = write!(out, "{{\"row\":{row},\"diff\":{diff}}}");
}

#[cfg(test)]
mod tests {
    use super::super::server_message::{StandingMode, subscribed_rows};
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

    #[test]
    fn indexed_envelope_sends_labels_once() {
        let mut encoder = DeltaEncoder::new("a", Envelope::Indexed, None);
        assert_eq!(
            encoder.snapshot(1_000, &[(job("x"), 1.0.into()), (job("y"), 2.0.into())]).json,
            r#"{"snapshot":{"id":"a","t":1,"rows":[[0,{"job":"x"},"1"],[1,{"job":"y"},"2"]]}}"#
        );
        let mut change = |upsert: &[LabelledSample], remove: &[Labels]| {
            encoder.delta(None, 2_000, upsert, remove).expect("a message").json
        };
        assert_eq!(
            change(&[(job("x"), 0.0.into()), (job("z"), 1.0.into())], &[job("y"), job("never")]),
            r#"{"delta":{"id":"a","t":2,"upsert":[[0,"0"]],"new":[[2,{"job":"z"},"1"]],"remove":[1]}}"#
        );
        // A row that comes back is another one.
        assert_eq!(
            change(&[(job("y"), f64::NAN.into())], &[]),
            r#"{"delta":{"id":"a","t":2,"upsert":[],"new":[[3,{"job":"y"},"NaN"]],"remove":[]}}"#
        );
        assert!(encoder.remembered_bytes() > 0);
        assert_eq!(
            encoder.snapshot(3_000, &[(job("z"), 5.0.into())]).json,
            r#"{"snapshot":{"id":"a","t":3,"rows":[[0,{"job":"z"},"5"]]}}"#
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
            subscribed_rows("a", "SELECT job", &Jobs, &StandingMode::Impossible).json,
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
}
