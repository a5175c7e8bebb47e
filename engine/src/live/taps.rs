//! Taps: the consumers of a view (alerts, subscriptions), and what they have received so far. A
//! consumer gets the whole answer first and then only what changes, so its tap remembers which
//! version of the rows it received. The events are [`TapEvent`]s, the code of a consumer is a
//! [`Sink`].

use super::{LabelledSample, NumberedRows, Sink, TapEvent, TapId};
use crate::annotations::Annotation;
use crate::heap_size::HeapSize;
use crate::limits::PROGRESS_MS;
use crate::operators::{ChangedRows, StepOutput};
use crate::types::histogram_column::{HistogramColumn, Sample, identical};
use parking_lot::Mutex;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use storage::model::value::{ABSENT, is_histogram};
use storage::model::{Labels, TimeMs};

/// Sinks that wait for the worker that owns their view.
pub type PendingSinks = Arc<Mutex<HashMap<TapId, Box<dyn Sink>>>>;

/// What a consumer has received since the rows have their numbers.
#[derive(Copy, Clone, PartialEq, Eq)]
enum ConsumerState {
    /// Nothing.
    Nothing,
    /// Only a failure: there is no answer yet.
    Failure,
    /// The whole answer.
    Rows,
}

/// The taps of one view.
#[derive(Default)]
pub struct Taps {
    taps: Vec<(TapId, Box<dyn Sink>, ConsumerState)>,
    sent: SentRows,
    /// The annotations that were sent.
    annotations: Vec<Annotation>,
    /// The version of the rows that was sent; 0: none.
    version: u64,
    /// The error of the latest evaluation, if it failed.
    error: Option<String>,
    /// When a progress event was last sent, ms.
    last_progress: TimeMs,
}

impl Taps {
    /// Whether there are no consumers.
    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// The ids of all consumers.
    pub fn ids(&self) -> impl Iterator<Item = TapId> + '_ {
        self.taps.iter().map(|(id, ..)| *id)
    }

    /// Number of consumers.
    pub fn len(&self) -> usize {
        self.taps.len()
    }

    /// Bytes of what was sent to consumers.
    pub fn bytes(&self) -> usize {
        let annotations = self.annotations.capacity() * size_of::<Annotation>();
        let rows = self.sent.values.heap() + self.sent.histograms.heap() + self.sent.changed.heap();
        rows + self.error.heap() + annotations
    }

    /// When the next progress event is due, if there are consumers.
    pub fn next_progress(&self) -> Option<TimeMs> {
        (!self.taps.is_empty()).then_some(self.last_progress + PROGRESS_MS)
    }

    /// Whether any consumer wants annotations.
    pub fn want_annotations(&self) -> bool {
        self.taps.iter().any(|(_, sink, _)| sink.wants_annotations())
    }

    /// Adds a consumer.
    pub fn add(&mut self, id: TapId, sink: Box<dyn Sink>) {
        self.taps.push((id, sink, ConsumerState::Nothing));
    }

    /// Removes a consumer.
    pub fn remove(&mut self, id: TapId) {
        self.taps.retain(|(tap, ..)| *tap != id);
    }

    /// Rows have new numbers: all consumers get a snapshot again.
    pub fn restart(&mut self) {
        self.forget();
        for (.., received) in &mut self.taps {
            *received = ConsumerState::Nothing;
        }
    }

    /// The annotations are kept: consumers that have them must hear if they become void.
    fn forget(&mut self) {
        self.sent.values.clear();
        self.sent.histograms.clear();
        self.version = 0;
    }

    /// Sends the evaluation of `out` at `t` with the annotations `annotations`. `error`: the
    /// evaluation failed (possibly although `out` is valid). A consumer that has no answer yet gets
    /// no rows before an evaluation succeeds, because the rows of a failed evaluation mean nothing.
    pub fn send(
        &mut self,
        t: TimeMs,
        out: &StepOutput,
        annotations: Vec<Annotation>,
        error: Option<&String>,
    ) {
        if self.taps.is_empty() {
            // Nobody has seen this answer: what is sent to the next consumer starts from nothing.
            self.forget();
            self.annotations.clear();
            return;
        }
        let annotations_changed = annotations != self.annotations;
        self.annotations = annotations;
        let has_changed = error.is_none() && self.find_changes(out);
        let newly_failed = error.is_some() && self.error.as_ref() != error;
        let recovered = error.is_none() && self.error.is_some();
        self.error = error.cloned();
        let unseen = error.is_some() && self.version == 0;
        let any =
            |wanted: fn(ConsumerState) -> bool| self.taps.iter().any(|(.., received)| wanted(*received));
        let uninformed = unseen && any(|received| received == ConsumerState::Nothing);
        let has_new_consumer = !unseen && any(|received| received != ConsumerState::Rows);
        let progress = error.is_none()
            && (has_changed
                || annotations_changed
                || has_new_consumer
                || recovered
                || (t - self.last_progress).abs() >= PROGRESS_MS);
        if !has_new_consumer && !progress && !newly_failed && !annotations_changed && !uninformed {
            return;
        }
        if progress {
            self.last_progress = t;
        }
        let sent = &self.sent;
        let events = Events { t, out, sent, snapshot: OnceCell::new(), delta: OnceCell::new() };
        let known = &self.annotations;
        self.taps.retain_mut(|(_, sink, received)| {
            let state = if unseen && *received != ConsumerState::Rows {
                ConsumerState::Failure
            } else {
                ConsumerState::Rows
            };
            let first = std::mem::replace(received, state) != state;
            let goes_on = if first && state == ConsumerState::Rows {
                events.send_all(sink.as_mut())
            } else {
                !has_changed || events.send_changes(sink.as_mut())
            };
            let failure = error.filter(|_| newly_failed || first);
            let failure = failure.map(|error| TapEvent::Failed { t, error: error.clone() });
            let progress = progress.then_some(TapEvent::Progress { t });
            let sends_annotations = annotations_changed || first && !known.is_empty();
            let annotations =
                sends_annotations.then(|| TapEvent::Annotations { t, annotations: known.clone() });
            goes_on && annotations.into_iter().chain(failure).chain(progress).all(|event| sink.push(event))
        });
    }

    /// Finds the rows that changed since the last call; they count as sent from now on.
    fn find_changes(&mut self, out: &StepOutput) -> bool {
        let sent = &mut self.sent;
        sent.changed.clear();
        if self.version == out.version && sent.values.len() == out.values.len() {
            return false;
        }
        let exact = self.version + 1 == out.version && self.version > 0;
        self.version = out.version;
        sent.values.resize(out.values.len(), ABSENT);
        match &out.changed {
            ChangedRows::Rows(rows) if exact => {
                for row in rows {
                    sent.compare_row(*row, out);
                }
            }
            _ => {
                for row in 0..out.values.len() as u32 {
                    sent.compare_row(row, out);
                }
            }
        }
        !sent.changed.is_empty()
    }
}

/// The rows that consumers have received.
#[derive(Default)]
struct SentRows {
    /// By row: the value that was sent.
    values: Vec<f64>,
    /// The histograms that were sent, where the value is one.
    histograms: HistogramColumn,
    /// The rows of the latest change, each once.
    changed: Vec<u32>,
}

impl SentRows {
    fn compare_row(&mut self, row: u32, out: &StepOutput) {
        let at = row as usize;
        let value = out.values[at];
        let shown = std::mem::replace(&mut self.values[at], value);
        let replaced = replaced(&mut self.histograms, at, out);
        if value.to_bits() != shown.to_bits() || replaced {
            self.changed.push(row);
        }
    }

    fn sample(&self, row: u32) -> Option<Sample> {
        self.histograms.cell(row as usize, self.values[row as usize]).sample()
    }
}

/// What one evaluation sends. Events with labels are made once a consumer needs them.
struct Events<'a> {
    t: TimeMs,
    out: &'a StepOutput,
    sent: &'a SentRows,
    snapshot: OnceCell<TapEvent>,
    delta: OnceCell<TapEvent>,
}

impl Events<'_> {
    /// Sends all rows.
    fn send_all(&self, sink: &mut dyn Sink) -> bool {
        if !sink.takes_numbers() {
            return sink.push(self.snapshot.get_or_init(|| self.snapshot()).clone());
        }
        let has_sample = |row: &u32| self.sent.sample(*row).is_some();
        let all: Vec<u32> = (0..self.sent.values.len() as u32).filter(has_sample).collect();
        sink.push_rows(&self.numbered(true, &all))
    }

    /// Sends the rows that changed.
    fn send_changes(&self, sink: &mut dyn Sink) -> bool {
        if sink.takes_numbers() {
            return sink.push_rows(&self.numbered(false, &self.sent.changed));
        }
        sink.push(self.delta.get_or_init(|| self.delta()).clone())
    }

    fn numbered<'b>(&'b self, is_whole: bool, changed: &'b [u32]) -> NumberedRows<'b> {
        NumberedRows {
            t: self.t,
            is_whole,
            // After a failure there may be labels of rows that nobody has seen.
            labels: &self.out.labels[..self.sent.values.len()],
            changed,
            values: &self.sent.values,
            histograms: &self.sent.histograms,
        }
    }

    fn snapshot(&self) -> TapEvent {
        let rows = (0..self.sent.values.len() as u32)
            .filter_map(|row| Some((self.out.labels[row as usize].clone(), self.sent.sample(row)?)));
        TapEvent::Snapshot { t: self.t, rows: rows.collect() }
    }

    fn delta(&self) -> TapEvent {
        let mut upsert: Vec<LabelledSample> = Vec::new();
        let mut remove: Vec<Labels> = Vec::new();
        for row in &self.sent.changed {
            let labels = self.out.labels[*row as usize].clone();
            match self.sent.sample(*row) {
                None => remove.push(labels),
                Some(sample) => upsert.push((labels, sample)),
            }
        }
        if !remove.is_empty() && !upsert.is_empty() {
            // Two rows may have the same labels at different times: here one replaced the other, so
            // the labels are not removed.
            let upserted: HashSet<&Labels> = upsert.iter().map(|(labels, _)| labels).collect();
            remove.retain(|labels| !upserted.contains(labels));
        }
        let t = self.t;
        let since = self.out.since.map_or(t, |since| since.min(t));
        TapEvent::Delta { t, since, upsert, remove }
    }
}

/// Whether the histogram of a row differs from the one that was sent, which is then replaced.
fn replaced(shown: &mut HistogramColumn, row: usize, out: &StepOutput) -> bool {
    if shown.is_empty() && out.histograms.is_empty() {
        return false;
    }
    let was = shown.get(row);
    let is = out.histograms.get(row).filter(|_| is_histogram(out.values[row]));
    let same = match (was, is) {
        (Some(a), Some(b)) => identical(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    if !same {
        shown.set(row, is.cloned());
    }
    !same
}

#[cfg(test)]
mod tests {
    use super::*;

    struct EventList(Arc<Mutex<Vec<TapEvent>>>);
    impl Sink for EventList {
        fn push(&mut self, event: TapEvent) -> bool {
            self.0.lock().push(event);
            true
        }
        fn wants_annotations(&self) -> bool {
            false
        }
    }

    fn answer(version: u64, value: f64) -> StepOutput {
        let labels = vec![Labels::from_pairs([("job", "a")])];
        StepOutput { labels, values: vec![value], version, ..StepOutput::default() }
    }

    /// Alerts would take an empty snapshot for the end of all alerts.
    #[test]
    fn a_failure_before_the_first_answer_has_no_rows() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut taps = Taps::default();
        let good = answer(1, 1.0);
        let bad = answer(1, ABSENT);
        let error = "many-to-many".to_owned();
        let take = || std::mem::take(&mut *heard.lock());
        let failed = |t| TapEvent::Failed { t, error: error.clone() };
        let rows = || vec![(good.labels[0].clone(), 1.0.into())];
        taps.add(TapId(1), Box::new(EventList(heard.clone())));
        taps.send(10, &bad, Vec::new(), Some(&error));
        taps.send(20, &bad, Vec::new(), Some(&error));
        assert_eq!(take(), [failed(10)]);
        taps.add(TapId(2), Box::new(EventList(heard.clone())));
        taps.send(30, &bad, Vec::new(), Some(&error));
        assert_eq!(take(), [failed(30)], "who comes later hears of it, too");
        taps.send(40, &good, Vec::new(), None);
        let greeting = [TapEvent::Snapshot { t: 40, rows: rows() }, TapEvent::Progress { t: 40 }];
        assert_eq!(take(), [greeting.clone(), greeting].concat());
        // Rows get new numbers while the evaluation fails.
        taps.remove(TapId(2));
        taps.restart();
        taps.send(50, &bad, Vec::new(), Some(&error));
        assert_eq!(take(), [failed(50)]);
        taps.send(60, &good, Vec::new(), None);
        assert_eq!(take()[0], TapEvent::Snapshot { t: 60, rows: rows() });
    }

    /// A consumer that is added during a failure gets the rows that the others got last.
    #[test]
    fn a_failure_after_an_answer_leaves_its_rows() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut taps = Taps::default();
        taps.add(TapId(1), Box::new(EventList(Arc::default())));
        let good = answer(1, 1.0);
        taps.send(10, &good, Vec::new(), None);
        taps.add(TapId(2), Box::new(EventList(heard.clone())));
        taps.send(20, &good, Vec::new(), Some(&"limit".to_owned()));
        let rows = vec![(good.labels[0].clone(), 1.0.into())];
        let failed = TapEvent::Failed { t: 20, error: "limit".to_owned() };
        assert_eq!(*heard.lock(), [TapEvent::Snapshot { t: 20, rows }, failed]);
    }

    /// What [`Sink::push_rows`] was called with: whether these are all rows, how many labels there
    /// are, and the rows.
    type NumberedEvents = Vec<(bool, usize, Vec<(u32, Option<Sample>)>)>;
    struct NumberedList(Arc<Mutex<NumberedEvents>>);
    impl Sink for NumberedList {
        fn push(&mut self, event: TapEvent) -> bool {
            assert!(!matches!(event, TapEvent::Snapshot { .. } | TapEvent::Delta { .. }), "{event:?}");
            true
        }
        fn takes_numbers(&self) -> bool {
            true
        }
        fn push_rows(&mut self, rows: &NumberedRows<'_>) -> bool {
            let samples = rows.changed.iter().map(|row| (*row, rows.sample(*row).sample()));
            self.0.lock().push((rows.is_whole, rows.labels.len(), samples.collect()));
            true
        }
    }

    /// A consumer that keeps rows by their numbers hears of the same rows as one that wants labels.
    #[test]
    fn rows_are_told_by_their_numbers() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let numbered = Arc::new(Mutex::new(Vec::new()));
        let mut taps = Taps::default();
        taps.add(TapId(1), Box::new(NumberedList(numbered.clone())));
        taps.add(TapId(2), Box::new(EventList(heard.clone())));
        let job = |name: &str| Labels::from_pairs([("job", name)]);
        let out = |version: u64, values: Vec<f64>| StepOutput {
            labels: ["a", "b", "c"].iter().take(values.len()).map(|name| job(name)).collect(),
            values,
            version,
            ..StepOutput::default()
        };
        taps.send(10, &out(1, vec![1.0, ABSENT]), Vec::new(), None);
        taps.send(20, &out(2, vec![ABSENT, 2.0, 3.0]), Vec::new(), None);
        taps.send(30, &out(3, vec![ABSENT, 2.0, 3.0]), Vec::new(), None);
        let whole = (true, 2, vec![(0, Some(1.0.into()))]);
        let change = (false, 3, vec![(0, None), (1, Some(2.0.into())), (2, Some(3.0.into()))]);
        assert_eq!(*numbered.lock(), [whole, change]);
        let upsert = vec![(job("b"), 2.0.into()), (job("c"), 3.0.into())];
        let events = heard.lock();
        assert_eq!(events[0], TapEvent::Snapshot { t: 10, rows: vec![(job("a"), 1.0.into())] });
        assert_eq!(events[2], TapEvent::Delta { t: 20, since: 20, upsert, remove: vec![job("a")] });
        assert_eq!(events.len(), 4);
    }
}
