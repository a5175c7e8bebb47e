//! The bounded queue between a view, whose changes the live runtime sends, and one client, with the
//! back-pressure policy that applies when it is full.
//!
//! The worker thread pushes and never waits; the client's task takes. When a client falls too far
//! behind, the whole queue and the attachment to the view (its *tap*) are dropped at once, so that
//! a stalled client costs nothing. The subscription makes a new tap when the client reads again.

use super::super::limits::{BUFFER_EVENTS, BUFFER_ROWS, CONFLATE_TICKS};
use super::budget::Account;
use super::client_message::Backpressure;
use engine::annotations::Annotation;
use engine::live::{LabelledSample, Sink, TapEvent};
use engine::types::histogram_column::Sample;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use storage::model::{Labels, TimeMs};
use tokio::sync::Notify;
use views::recording::{CorrectionEvent, CorrectionListener};

/// What the client's task takes from the queue.
#[derive(Clone, Debug, PartialEq)]
pub enum SubscriberEvent {
    /// The whole answer.
    Snapshot(TimeMs, Vec<LabelledSample>),
    /// The changes of one tick, or of several merged ones.
    Delta {
        /// From when on the changes hold, if that is before `t`.
        since: Option<TimeMs>,
        /// The tick, or the last of several.
        t: TimeMs,
        /// New and changed rows.
        upsert: Vec<LabelledSample>,
        /// Removed rows.
        remove: Vec<Labels>,
    },
    /// The answer is complete up to this tick.
    Progress(TimeMs),
    /// The annotations of the answer from this tick on.
    Annotations(TimeMs, Vec<Annotation>),
    /// The evaluation failed.
    Failed(TimeMs, String),
    /// Recorded samples of an earlier time were corrected.
    Corrected(CorrectionEvent),
    /// The client fell behind; nothing follows.
    Lagging {
        /// The first tick that is lost.
        from: TimeMs,
        /// The tick at which the queue was dropped.
        to: TimeMs,
    },
    /// The view was removed; nothing follows.
    ViewRemoved,
}

/// Several deltas merged into one: the last value of each row.
struct ConflatedDelta {
    /// The first of the ticks.
    first: TimeMs,
    /// From when on the changes hold.
    since: TimeMs,
    t: TimeMs,
    ticks: usize,
    rows: HashMap<Labels, Option<Sample>>,
}

enum QueuedItem {
    Event(TapEvent),
    Corrected(CorrectionEvent),
    Merged(ConflatedDelta),
}

impl QueuedItem {
    fn rows(&self) -> usize {
        match self {
            QueuedItem::Event(event) => rows(event),
            QueuedItem::Corrected(rows) => rows.upsert.len() + rows.remove.len(),
            QueuedItem::Merged(merged) => merged.rows.len(),
        }
    }

    /// The approximate size, bytes. The labels and histograms of existing rows belong to the view
    /// and are not counted.
    fn bytes(&self) -> usize {
        let removed = |labels: &[Labels]| labels.iter().map(|labels| labels.encoded().len()).sum::<usize>();
        let labels = match self {
            // Labels of removed rows count: the view has dropped them, so only this queue keeps
            // them alive.
            QueuedItem::Event(TapEvent::Delta { remove, .. }) => removed(remove),
            QueuedItem::Corrected(rows) => removed(&rows.remove),
            QueuedItem::Event(_) | QueuedItem::Merged(_) => 0,
        };
        ITEM_BYTES + self.rows() * size_of::<LabelledSample>() + labels
    }

    fn first_tick(&self) -> TimeMs {
        match self {
            QueuedItem::Event(event) => event.time(),
            QueuedItem::Corrected(rows) => rows.t,
            QueuedItem::Merged(merged) => merged.first,
        }
    }
}

/// The size of an item without its rows, bytes.
const ITEM_BYTES: usize = 64;

fn rows(event: &TapEvent) -> usize {
    match event {
        TapEvent::Snapshot { rows, .. } => rows.len(),
        TapEvent::Delta { upsert, remove, .. } => upsert.len() + remove.len(),
        TapEvent::Progress { .. } | TapEvent::Annotations { .. } | TapEvent::Failed { .. } => 0,
    }
}

struct SubscriberQueueState {
    items: VecDeque<QueuedItem>,
    /// The size of all items.
    bytes: usize,
    fell_behind: Option<(TimeMs, TimeMs)>,
    /// The tap was dropped.
    over: bool,
}

/// The queue of one tap.
pub struct SubscriberQueue {
    policy: Backpressure,
    capacity: usize,
    queue: Mutex<SubscriberQueueState>,
    wakeup: Arc<Notify>,
    account: Arc<Account>,
}

impl SubscriberQueue {
    /// An empty queue. It notifies `wakeup` when there is something to take; its bytes are on
    /// `account`.
    pub fn new(
        policy: Backpressure,
        buffer: Option<usize>,
        wakeup: Arc<Notify>,
        account: &Arc<Account>,
    ) -> Arc<SubscriberQueue> {
        let queue = Mutex::new(SubscriberQueueState {
            items: VecDeque::new(),
            bytes: 0,
            fell_behind: None,
            over: false,
        });
        let capacity = buffer.unwrap_or(BUFFER_EVENTS);
        let outbox = Arc::new(SubscriberQueue { policy, capacity, queue, wakeup, account: account.clone() });
        // The account knows its queue so that, over the budget of all subscriptions, it can empty
        // the largest one instead of the one that happens to push.
        account.queue_is(&outbox);
        outbox
    }

    /// Empties the queue, because the subscription was ended.
    pub fn give_up(&self) {
        let mut queue = self.queue.lock();
        let from = queue.items.front().map_or(0, QueuedItem::first_tick);
        let freed = queue.clear();
        // The client learns of it as of any other lag, and begins again with a snapshot.
        queue.fell_behind.get_or_insert((from, from));
        drop(queue);
        self.account.count(-freed);
    }

    /// The end of the queue that the tap pushes to.
    pub fn sink(self: &Arc<SubscriberQueue>) -> Box<dyn Sink> {
        Box::new(SubscriberTap(Arc::downgrade(self)))
    }

    /// Takes the next event.
    pub fn take(&self) -> Option<SubscriberEvent> {
        let mut queue = self.queue.lock();
        let first = queue.items.pop_front();
        if let Some(first) = &first {
            // Recomputed, not remembered: the size of an item does not change while it waits, and
            // merged items would need an update at every merge.
            let bytes = first.bytes();
            queue.bytes -= bytes;
            self.account.count(-(bytes as i64));
        }
        match first {
            Some(QueuedItem::Event(event)) => Some(subscriber_event(event)),
            Some(QueuedItem::Corrected(rows)) => Some(SubscriberEvent::Corrected(rows)),
            Some(QueuedItem::Merged(merged)) => Some(merged_event(merged)),
            // Only after everything that was queued before: `over` and the lag are states, not
            // items, so that they need no space in a full queue.
            None => match queue.fell_behind {
                Some((from, to)) => Some(SubscriberEvent::Lagging { from, to }),
                None => queue.over.then_some(SubscriberEvent::ViewRemoved),
            },
        }
    }

    /// The end of the queue that receives corrections.
    pub fn listener(self: &Arc<SubscriberQueue>) -> Box<dyn CorrectionListener> {
        Box::new(SubscriberCorrections(Arc::downgrade(self)))
    }

    /// Queues `event`; `false` if the client has fallen behind.
    fn push(&self, event: TapEvent) -> bool {
        let t = event.time();
        // The worker of the live runtime calls this inside a tick, so it never waits for the
        // client.
        self.queue(t, |queue| queue.push(event, self.policy, self.capacity))
    }

    /// Lets `push` queue something of time `t`; `false` if the client has fallen behind.
    fn queue(&self, t: TimeMs, push: impl FnOnce(&mut SubscriberQueueState) -> bool) -> bool {
        let mut queue = self.queue.lock();
        // The tap is about to be dropped; what it still sends could only be part of an answer.
        if queue.fell_behind.is_some() {
            return false;
        }
        let before = queue.bytes as i64;
        let fits = push(&mut queue);
        if !fits {
            // Everything goes, not only the oldest: deltas without those before them are no answer.
            let from = queue.items.front().map_or(t, QueuedItem::first_tick);
            queue.clear();
            queue.fell_behind = Some((from, t));
        }
        let more = queue.bytes as i64 - before;
        // Count the bytes under the lock, before the client's task can take the item.
        self.account.count(more);
        drop(queue);
        // After the lock of the queue is released, because the budget may empty this very queue.
        self.account.enforce();
        self.wakeup.notify_one();
        fits
    }
}

impl SubscriberQueueState {
    fn push(&mut self, event: TapEvent, policy: Backpressure, capacity: usize) -> bool {
        // Progress never counts against the capacity: a view that does not change sends one per
        // tick, and a slow client of such a view has missed nothing.
        if let TapEvent::Progress { .. } = event {
            // A later progress event includes the earlier one.
            if matches!(self.items.back(), Some(QueuedItem::Event(TapEvent::Progress { .. }))) {
                self.pop_back();
            }
            self.push_back(QueuedItem::Event(event));
            return true;
        }
        if policy == Backpressure::Conflate && matches!(event, TapEvent::Delta { .. }) {
            // A progress between two deltas would keep them from being merged; the merged delta
            // says the same, with its own tick.
            self.items.retain(|item| !matches!(item, QueuedItem::Event(TapEvent::Progress { .. })));
            self.bytes = self.items.iter().map(QueuedItem::bytes).sum();
            if matches!(
                self.items.back(),
                Some(QueuedItem::Merged(_) | QueuedItem::Event(TapEvent::Delta { .. }))
            ) {
                return self.merge(event) && self.fits(0);
            }
        }
        self.push_item(QueuedItem::Event(event), policy, capacity)
    }

    fn push_item(&mut self, item: QueuedItem, policy: Backpressure, capacity: usize) -> bool {
        let full = match policy {
            // Snapshots, annotations and failures are not merged, so even a conflating queue can
            // grow by items.
            Backpressure::Conflate => self.items.len() > CONFLATE_TICKS,
            Backpressure::Buffer | Backpressure::Close => self.items.len() >= capacity,
        };
        // Rows are limited besides items: one delta of a large view may be as large as a thousand
        // of a small one.
        if full || !self.fits(item.rows()) {
            return false;
        }
        self.push_back(item);
        true
    }

    fn push_back(&mut self, item: QueuedItem) {
        self.bytes += item.bytes();
        self.items.push_back(item);
    }

    fn pop_back(&mut self) -> Option<QueuedItem> {
        let item = self.items.pop_back()?;
        self.bytes -= item.bytes();
        Some(item)
    }

    /// Drops all items and returns their size.
    fn clear(&mut self) -> i64 {
        self.items.clear();
        std::mem::take(&mut self.bytes) as i64
    }

    /// Whether `more` rows may be queued; a single item always may.
    fn fits(&self, more: usize) -> bool {
        let waiting: usize = self.items.iter().map(QueuedItem::rows).sum();
        waiting + more <= BUFFER_ROWS || (self.items.is_empty() || more == 0 && self.items.len() == 1)
    }

    /// Merges a delta into the last item, also a delta; `false` if that item has merged
    /// [`CONFLATE_TICKS`] ticks.
    fn merge(&mut self, event: TapEvent) -> bool {
        let mut merged = match self.pop_back() {
            Some(QueuedItem::Merged(merged)) => merged,
            // The first delta becomes a merged one only now, because most clients keep up and most
            // deltas are sent as they came.
            Some(QueuedItem::Event(first)) => {
                let t = first.time();
                let mut merged = ConflatedDelta { first: t, since: t, t, ticks: 0, rows: HashMap::new() };
                merged.add(first);
                merged
            }
            Some(QueuedItem::Corrected(_)) | None => return true,
        };
        merged.add(event);
        // A client that is that many ticks behind is served better by a snapshot than by a delta
        // that changes every row.
        let fits = merged.ticks <= CONFLATE_TICKS;
        self.push_back(QueuedItem::Merged(merged));
        fits
    }
}

impl ConflatedDelta {
    fn add(&mut self, event: TapEvent) {
        if let TapEvent::Delta { t, since, upsert, remove } = event {
            self.t = t;
            self.since = self.since.min(since);
            self.ticks += 1;
            // Removals first: a row that is removed and comes back in one tick is in both lists,
            // and exists.
            self.rows.extend(remove.into_iter().map(|labels| (labels, None)));
            self.rows.extend(upsert.into_iter().map(|(labels, v)| (labels, Some(v))));
        }
    }
}

fn subscriber_event(event: TapEvent) -> SubscriberEvent {
    match event {
        TapEvent::Snapshot { t, rows } => SubscriberEvent::Snapshot(t, rows),
        TapEvent::Delta { t, since, upsert, remove } => {
            SubscriberEvent::Delta { since: (since < t).then_some(since), t, upsert, remove }
        }
        TapEvent::Progress { t } => SubscriberEvent::Progress(t),
        TapEvent::Annotations { t, annotations } => SubscriberEvent::Annotations(t, annotations),
        TapEvent::Failed { t, error } => SubscriberEvent::Failed(t, error),
    }
}

fn merged_event(merged: ConflatedDelta) -> SubscriberEvent {
    let mut upsert = Vec::new();
    let mut remove = Vec::new();
    for (labels, value) in merged.rows {
        match value {
            Some(v) => upsert.push((labels, v)),
            // Kept even if the row was new in this range: whether the client has it is not known
            // here, and removing a row that it lacks is harmless.
            None => remove.push(labels),
        }
    }
    // The map has no order; sorted messages compare equal in tests and compress better.
    upsert.sort_by(|(a, _), (b, _)| a.cmp(b));
    remove.sort();
    SubscriberEvent::Delta { since: Some(merged.since), t: merged.t, upsert, remove }
}

/// The tap's end of a queue; it fails once the client's end is dropped.
struct SubscriberTap(std::sync::Weak<SubscriberQueue>);

impl Sink for SubscriberTap {
    fn push(&mut self, event: TapEvent) -> bool {
        self.0.upgrade().is_some_and(|outbox| outbox.push(event))
    }
}

/// The end for corrections. Unlike that of the tap, dropping it does not mean that the view is
/// gone.
struct SubscriberCorrections(std::sync::Weak<SubscriberQueue>);

impl CorrectionListener for SubscriberCorrections {
    fn corrected(&self, rows: CorrectionEvent) {
        if let Some(outbox) = self.0.upgrade() {
            let policy = outbox.policy;
            let capacity = outbox.capacity;
            // The return value is not needed: after a lag the tap ends the subscription's queue,
            // and this end with it.
            outbox.queue(rows.t, |queue| queue.push_item(QueuedItem::Corrected(rows), policy, capacity));
        }
    }

    fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Drop for SubscriberQueue {
    fn drop(&mut self) {
        let freed = self.queue.get_mut().clear();
        self.account.count(-freed);
    }
}

impl Drop for SubscriberTap {
    fn drop(&mut self) {
        if let Some(outbox) = self.0.upgrade() {
            // Dropped taps mean a removed view. A client that is gone has dropped the queue, so
            // `upgrade` fails for it.
            outbox.queue.lock().over = true;
            outbox.wakeup.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;
    use storage::metrics::Metrics;

    fn job(name: &str) -> Labels {
        Labels::from_pairs([("job", name)])
    }

    fn delta(t: TimeMs, upsert: &[(&str, f64)], remove: &[&str]) -> TapEvent {
        let upsert = upsert.iter().map(|(name, v)| (job(name), (*v).into())).collect();
        TapEvent::Delta { t, since: t, upsert, remove: remove.iter().map(|name| job(name)).collect() }
    }

    fn all(outbox: &SubscriberQueue) -> Vec<SubscriberEvent> {
        std::iter::from_fn(|| outbox.take()).take(10).collect()
    }

    fn outbox(policy: Backpressure, buffer: Option<usize>) -> (Arc<SubscriberQueue>, Box<dyn Sink>) {
        outbox_of(&Budget::new(1 << 20, &Metrics::default()), policy, buffer)
    }

    fn outbox_of(
        budget: &Arc<Budget>,
        policy: Backpressure,
        buffer: Option<usize>,
    ) -> (Arc<SubscriberQueue>, Box<dyn Sink>) {
        let account = budget.open(Arc::default(), None);
        let outbox = SubscriberQueue::new(policy, buffer, Arc::new(Notify::new()), &account);
        let sink = outbox.sink();
        (outbox, sink)
    }

    #[test]
    fn queues_together_stay_within_the_budget() {
        let metrics = Metrics::default();
        let budget = Budget::new(100_000, &metrics);
        let used = metrics.gauge("perennial_subscription_buffer_bytes", "", &[]);
        let queues: Vec<_> = (0..10).map(|_| outbox_of(&budget, Backpressure::Buffer, Some(1_000))).collect();
        let rows: Vec<LabelledSample> = (0..100).map(|i| (job(&i.to_string()), 1.0.into())).collect();
        let mut queues = queues;
        for t in 1..100 {
            for (i, (_, sink)) in queues.iter_mut().enumerate() {
                // The first client is ahead of the others.
                for _ in 0..=usize::from(i == 0) {
                    sink.push(TapEvent::Delta {
                        t,
                        since: t,
                        upsert: rows.clone(),
                        remove: vec![job("gone")],
                    });
                }
                assert!(used.get() <= 100_000.0, "{}", used.get());
            }
            if t == 3 {
                let ended: Vec<bool> = queues.iter().map(|(outbox, _)| outbox.account.has_ended()).collect();
                assert_eq!(
                    (ended[0], ended.iter().filter(|ended| **ended).count()),
                    (true, 1),
                    "{}",
                    used.get()
                );
            }
        }
        assert!(matches!(queues[0].0.take(), Some(SubscriberEvent::Lagging { .. })));
        drop(queues);
        assert_eq!(used.get(), 0.0);
    }

    #[test]
    fn what_is_taken_and_merged_is_no_longer_counted() {
        for policy in [Backpressure::Conflate, Backpressure::Buffer] {
            let (outbox, mut sink) = outbox(policy, Some(50));
            for t in 1..40 {
                sink.push(delta(t, &[("a", t as f64), ("b", 1.0)], &["c"]));
                sink.push(TapEvent::Progress { t });
                if t % 7 == 0 {
                    outbox.take();
                }
                let queue = outbox.queue.lock();
                assert_eq!(queue.bytes, queue.items.iter().map(QueuedItem::bytes).sum::<usize>());
            }
            for _ in 0..100 {
                outbox.take();
            }
            assert_eq!(outbox.queue.lock().bytes, 0);
        }
    }

    #[test]
    fn conflation_keeps_the_last_word_on_each_row() {
        let (outbox, mut sink) = outbox(Backpressure::Conflate, None);
        assert!(sink.push(TapEvent::Snapshot { t: 1, rows: vec![(job("a"), 1.0.into())] }));
        assert!(sink.push(TapEvent::Progress { t: 1 }));
        assert!(sink.push(delta(2, &[("a", 2.0), ("b", 1.0)], &[])));
        assert!(sink.push(TapEvent::Progress { t: 2 }));
        assert!(sink.push(delta(3, &[("c", 1.0)], &["a"])));
        assert!(sink.push(TapEvent::Progress { t: 3 }));
        assert!(sink.push(TapEvent::Progress { t: 4 }));
        let expected = [
            SubscriberEvent::Snapshot(1, vec![(job("a"), 1.0.into())]),
            SubscriberEvent::Delta {
                since: Some(2),
                t: 3,
                upsert: vec![(job("b"), 1.0.into()), (job("c"), 1.0.into())],
                remove: vec![job("a")],
            },
            SubscriberEvent::Progress(4),
        ];
        assert_eq!(all(&outbox), expected);
    }

    #[test]
    fn a_stalled_client_loses_the_queue_not_the_memory() {
        let (outbox, mut sink) = outbox(Backpressure::Conflate, None);
        let pushed = (1..1_000).take_while(|t| sink.push(delta(*t, &[("a", *t as f64)], &[]))).count();
        assert_eq!(pushed, CONFLATE_TICKS);
        assert_eq!(outbox.take(), Some(SubscriberEvent::Lagging { from: 1, to: 1 + CONFLATE_TICKS as i64 }));
        assert!(!sink.push(delta(2_000, &[], &[])));
    }

    #[test]
    fn buffers_keep_every_step_until_they_are_full() {
        let (outbox, mut sink) = outbox(Backpressure::Buffer, Some(2));
        assert!(sink.push(delta(1, &[("a", 1.0)], &[])));
        assert!(sink.push(delta(2, &[("a", 2.0)], &[])));
        assert_eq!(all(&outbox).len(), 2);
        assert!(
            sink.push(delta(3, &[], &[])) && sink.push(delta(4, &[], &[])) && !sink.push(delta(5, &[], &[]))
        );
        assert_eq!(outbox.take(), Some(SubscriberEvent::Lagging { from: 3, to: 5 }));
    }

    #[test]
    fn corrections_wait_in_line_and_count() {
        let (outbox, mut sink) = outbox(Backpressure::Buffer, Some(2));
        let listener = outbox.listener();
        let rows = CorrectionEvent { t: 1, upsert: vec![(job("a"), 1.0.into())], remove: vec![job("b")] };
        assert!(sink.push(delta(2, &[("a", 1.0)], &[])));
        listener.corrected(rows.clone());
        assert_eq!(all(&outbox)[1..], [SubscriberEvent::Corrected(rows.clone())]);
        for _ in 0..3 {
            listener.corrected(rows.clone());
        }
        assert!(matches!(outbox.take(), Some(SubscriberEvent::Lagging { from: 1, to: 1 })));
        drop(outbox);
        assert!(!listener.is_open());
    }

    #[test]
    fn a_view_that_is_removed_ends_the_queue_after_what_waits() {
        let (outbox, mut sink) = outbox(Backpressure::Conflate, None);
        assert!(sink.push(delta(1, &[("a", 1.0)], &[])));
        assert_eq!(all(&outbox).len(), 1);
        assert!(sink.push(TapEvent::Progress { t: 2 }));
        drop(sink);
        assert_eq!(
            (outbox.take(), outbox.take()),
            (Some(SubscriberEvent::Progress(2)), Some(SubscriberEvent::ViewRemoved))
        );
    }

    #[test]
    fn the_tap_ends_with_the_client() {
        let (outbox, mut sink) = outbox(Backpressure::Close, None);
        drop(outbox);
        assert!(!sink.push(TapEvent::Progress { t: 1 }));
    }
}
