//! A shard of a queue: some requests that wait, and the task that sends them one after the other. A
//! request that fails is sent again until it succeeds or is refused, so that samples of a series
//! arrive in order.

use super::batch::Batch;
use super::client::{WriteAnswer, WriteClient, WriteError, WrittenCounts};
use super::metrics::{DropReason, ItemCounts, ItemKind, QueueMetrics};
use super::progress::QueueProgress;
use super::wake::WakeFlag;
use crate::limits::NOTE_WAIT;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use storage::clock::Clock;
use storage::model::TimeMs;
use tokio::sync::Notify;

/// What all shards of a queue share.
pub(super) struct ShardContext {
    pub client: WriteClient,
    pub metrics: QueueMetrics,
    pub progress: QueueProgress,
    pub clock: Arc<dyn Clock>,
    /// Wakes the reader of the log.
    pub wake: WakeFlag,
    pub name: String,
    pub url: String,
    pub min_backoff: Duration,
    pub max_backoff: Duration,
    /// `sample_age_limit`, ms; 0: none.
    pub age_limit: i64,
    /// What the calculation of the number of shards needs to know.
    pub rates: SendRates,
}

/// What was sent, for the number of shards.
#[derive(Default)]
pub(super) struct SendRates {
    /// Items that are finished, whether stored or not.
    pub finished: AtomicU64,
    /// Time spent with them, µs.
    pub busy_us: AtomicU64,
    /// When a request was finished the last time, ms of the wall clock.
    pub last_finished: AtomicI64,
    /// Until when the number of shards stays, ms of the wall clock: requests fail.
    pub keep_until: AtomicI64,
}

/// The requests of one shard.
pub(super) struct ShardQueue {
    number: usize,
    waiting: Mutex<VecDeque<Batch>>,
    /// How many requests may wait.
    most: usize,
    /// A request was added.
    added: Notify,
}

impl ShardQueue {
    /// An empty queue for `most` requests.
    pub(super) fn new(number: usize, most: usize) -> ShardQueue {
        ShardQueue { number, waiting: Mutex::default(), most, added: Notify::new() }
    }

    /// Whether another request may wait.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.lock().len() < self.most
    }

    /// Adds a request. The caller has asked for room.
    pub(super) fn push(&self, batch: Batch) {
        self.waiting.lock().push_back(batch);
        self.added.notify_one();
    }

    /// Sends what waits, for ever.
    pub(super) async fn run(self: Arc<Self>, context: Arc<ShardContext>) {
        loop {
            let next = self.waiting.lock().pop_front();
            let Some(batch) = next else {
                self.added.notified().await;
                continue;
            };
            // There is room again.
            context.wake.notify();
            let is_logged = batch.is_logged;
            context.deliver(batch).await;
            if is_logged {
                context.progress.finish(self.number);
            }
            context.wake.notify();
        }
    }
}

impl ShardContext {
    /// Sends a request until it is stored or refused.
    async fn deliver(&self, mut batch: Batch) {
        self.wait_noted(batch.note).await;
        let began = Instant::now();
        let sent = batch.counts;
        let mut written = WrittenCounts::default();
        let mut pause = self.min_backoff;
        let mut attempt = 0;
        let outcome = loop {
            if self.age_limit > 0 {
                self.drop_old(&mut batch);
            }
            self.metrics.items.sent.add(batch.counts);
            let begin = Instant::now();
            let answer = self.client.send(batch.body.clone(), attempt, self.clock.now()).await;
            self.metrics.requests.duration.observe(begin.elapsed().as_secs_f64());
            let WriteAnswer { written: stored, outcome } = answer;
            written.add(stored);
            match outcome {
                Ok(()) => break self.check_written(&batch, &stored),
                Err(WriteError::Later { reason, after }) => {
                    self.metrics.items.retried.add(batch.counts);
                    let wait = after.unwrap_or(pause);
                    self.pause(wait, &reason).await;
                    pause = (wait * 2).min(self.max_backoff);
                }
                Err(refused) => break Err(refused),
            }
            attempt += 1;
        };
        self.report(&batch, outcome, written);
        self.metrics.items.pending.add(sent, -1.0);
        self.metrics.requests.bytes.add(batch.body.len() as u64);
        self.metrics
            .items
            .highest_sent
            .set(self.metrics.items.highest_sent.get().max(whole_seconds(batch.newest)));
        self.rates.finished.fetch_add(sent.total(), Relaxed);
        self.rates.busy_us.fetch_add(began.elapsed().as_micros() as u64, Relaxed);
        self.rates.last_finished.store(self.clock.now(), Relaxed);
    }

    /// Waits until the borders of a request are on disk.
    async fn wait_noted(&self, note: u64) {
        let deadline = Instant::now() + NOTE_WAIT;
        while !self.progress.is_noted(note) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Leaves out what has become too old while it waited.
    fn drop_old(&self, batch: &mut Batch) {
        let dropped = batch.drop_before(self.clock.now().saturating_sub(self.age_limit));
        let kinds = [
            (ItemKind::Sample, dropped.samples),
            (ItemKind::Exemplar, dropped.exemplars),
            (ItemKind::Histogram, dropped.histograms),
        ];
        for (kind, count) in kinds {
            for _ in 0..count {
                self.metrics.items.count_dropped(kind, DropReason::TooOld);
            }
        }
    }

    /// Waits before the next attempt.
    async fn pause(&self, wait: Duration, reason: &str) {
        tracing::warn!(
            target: "remote_write", queue = self.name, url = self.url, error = reason,
            "Failed to send batch, retrying"
        );
        // More shards would only make it worse.
        let until = self.clock.now().saturating_add(2 * wait.as_millis() as i64);
        self.rates.keep_until.fetch_max(until, Relaxed);
        tokio::time::sleep(wait).await;
    }

    /// Whether a receiver of 2.0 that answers with success has stored anything.
    fn check_written(&self, batch: &Batch, stored: &WrittenCounts) -> Result<(), WriteError> {
        let nothing = stored.samples + stored.histograms + stored.exemplars == 0;
        if self.client.is_v2() && batch.counts.total() > 0 && nothing {
            return Err(WriteError::Refused(
                "sent v2 request but the receiver says that it stored nothing: it may not know remote write 2.0"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Counts and logs what was not stored.
    fn report(&self, batch: &Batch, outcome: Result<(), WriteError>, written: WrittenCounts) {
        let missing = not_stored(batch.counts, outcome.is_ok(), written, self.client.is_v2());
        match outcome {
            // It was sent before the process ended, and nothing else is in it.
            Err(error) if batch.is_repeat => tracing::info!(
                target: "remote_write", queue = self.name, url = self.url, %error, samples = batch.counts.samples,
                "a request of before the restart was sent again and is refused: the receiver has it already"
            ),
            Err(error) => {
                self.metrics.items.failed.add(missing);
                tracing::error!(
                    target: "remote_write", queue = self.name, url = self.url, %error,
                    samples = missing.samples, exemplars = missing.exemplars, histograms = missing.histograms,
                    "non-recoverable error"
                );
            }
            Ok(()) if missing.total() > 0 => {
                self.metrics.items.failed.add(missing);
                tracing::error!(
                    target: "remote_write", queue = self.name, url = self.url,
                    samples = missing.samples, exemplars = missing.exemplars, histograms = missing.histograms,
                    "the receiver has not stored all of a request that it accepted"
                );
            }
            Ok(()) => {}
        }
    }
}

/// What was not stored of a request with `sent`. The counts of the receiver decide, also after an
/// error. A receiver of 1.0 that says nothing and accepts has stored everything.
fn not_stored(sent: ItemCounts, is_accepted: bool, written: WrittenCounts, is_v2: bool) -> ItemCounts {
    if is_accepted && !is_v2 && !written.is_reported {
        return ItemCounts::default();
    }
    sent.without(ItemCounts {
        samples: written.samples,
        exemplars: written.exemplars,
        histograms: written.histograms,
    })
}

/// A time in whole seconds, as Prometheus shows it.
pub(super) fn whole_seconds(t: TimeMs) -> f64 {
    t.div_euclid(1000) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a receiver answers, and what counts as failed of 10 samples, 4 exemplars and 2
    /// histograms, as in Prometheus 3.14.
    struct Case {
        is_v2: bool,
        is_accepted: bool,
        /// Samples, exemplars and histograms of the headers of each attempt; `None`: no headers.
        attempts: &'static [Option<[u64; 3]>],
        failed: [u64; 3],
    }

    #[test]
    fn what_the_receiver_says_that_it_stored_decides() {
        const ALL: [u64; 3] = [10, 4, 2];
        const NONE: [u64; 3] = [0; 3];
        let case = |is_v2, is_accepted, attempts, failed| Case { is_v2, is_accepted, attempts, failed };
        let cases = [
            // 1.0 without headers: the status decides.
            case(false, true, &[None], NONE),
            case(false, false, &[None], ALL),
            case(false, true, &[None, None], NONE),
            // 1.0 with headers.
            case(false, true, &[Some([10, 4, 2])], NONE),
            case(false, true, &[Some([7, 4, 2])], [3, 0, 0]),
            case(false, false, &[Some([10, 0, 2])], [0, 4, 0]),
            // 2.0: no headers, nothing stored.
            case(true, true, &[None], ALL),
            case(true, true, &[Some([10, 4, 2])], NONE),
            case(true, true, &[Some([10, 0, 2])], [0, 4, 0]),
            // The exemplars are refused, the samples are stored.
            case(true, false, &[Some([10, 0, 2])], [0, 4, 0]),
            case(true, false, &[None], ALL),
            // A part is stored at the first attempt, the rest at the second.
            case(true, true, &[Some([6, 0, 0]), Some([4, 4, 2])], NONE),
            case(true, false, &[Some([6, 0, 0]), None], [4, 4, 2]),
            // More than was sent.
            case(true, true, &[Some([11, 9, 9])], NONE),
        ];
        for (at, Case { is_v2, is_accepted, attempts, failed }) in cases.iter().enumerate() {
            let mut written = WrittenCounts::default();
            for headers in *attempts {
                let [samples, exemplars, histograms] = headers.unwrap_or_default();
                let is_reported = headers.is_some();
                written.add(WrittenCounts { samples, exemplars, histograms, is_reported });
            }
            let sent = ItemCounts { samples: 10, exemplars: 4, histograms: 2 };
            let missing = not_stored(sent, *is_accepted, written, *is_v2);
            assert_eq!([missing.samples, missing.exemplars, missing.histograms], *failed, "case {at}");
        }
    }
}
