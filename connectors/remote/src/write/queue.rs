//! The reader of a remote write queue: a thread that follows the write-ahead log.
//!
//! It looks up the labels of each sample, encodes it into the request of its shard, and passes
//! complete requests to [`super::shard`]. It stops reading while a shard is full, so an outage of
//! the receiver needs no memory: the samples stay in the log. [`requests`] says when a request is
//! complete, [`resharding`] changes the number of shards.

mod requests;
mod resharding;

use super::batch::{ItemValue, WriteItem};
use super::exemplars::WaitingExemplars;
use super::metrics::{DropReason, ItemKind};
use super::progress::{QueueNote, shard_of};
use super::series::{SeriesCache, SeriesUse};
use super::shard::ShardContext;
use super::shard_count::RateAverage;
use crate::limits::{
    EXEMPLAR_WAIT, EXEMPLARS_AT_ONCE, NOTE_INTERVAL, READ_PAUSE, READ_RETRY, READ_TURN, READ_WAIT,
    SHARDS_INTERVAL,
};
use parking_lot::Mutex;
use requests::ShardBuilder;
use resharding::ItemRates;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::exemplars::Exemplar;
use storage::metrics::Counter;
use storage::model::value::is_stale;
use storage::model::{SeriesRef, TimeMs};
use storage::store::{LogPosition, LogTail, LoggedSamples, Store};
use tokio::runtime::Handle;

/// The settings of a queue, within limits.
#[derive(Clone, Debug)]
pub(super) struct QueueSettings {
    /// Items of a request.
    pub batch: u64,
    /// Requests that wait in a shard.
    pub waiting: usize,
    pub min_shards: usize,
    pub max_shards: usize,
    /// How long the first item of a request waits for others.
    pub deadline: Duration,
    pub sends_histograms: bool,
    pub sends_exemplars: bool,
    /// How long a change of the number of shards waits for requests under way.
    pub flush_deadline: Duration,
}

/// How a queue is to stop.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopMode {
    /// Not at all.
    #[default]
    No,
    /// After everything in the log was sent, or at this time.
    Drained(Instant),
    /// At once. What was not sent is sent after the next start.
    Now,
}

/// The request to stop, seen by the thread of the queue.
#[derive(Default)]
pub(super) struct StopRequest(Mutex<StopMode>);

impl StopRequest {
    /// Asks the queue to stop.
    pub(super) fn set(&self, stop: StopMode) {
        *self.0.lock() = stop;
    }

    fn get(&self) -> StopMode {
        *self.0.lock()
    }
}

/// The queue has to stop without having sent everything.
#[derive(Debug)]
struct StoppedEarly;

/// What the reader of a queue works with.
pub(super) struct QueueParts {
    pub context: Arc<ShardContext>,
    pub store: Arc<Store>,
    pub series: SeriesCache,
    pub settings: QueueSettings,
    pub runtime: Handle,
    pub stop: Arc<StopRequest>,
    /// Count the samples that are stored.
    pub incoming: [Arc<Counter>; 2],
}

/// Reads the log for one queue.
pub(super) struct QueueReader {
    context: Arc<ShardContext>,
    store: Arc<Store>,
    log: LogReading,
    /// The record that is being read; its memory is used again.
    samples: LoggedSamples,
    series: SeriesCache,
    settings: QueueSettings,
    shards: Vec<ShardBuilder>,
    runtime: Handle,
    stop: Arc<StopRequest>,
    /// Number of exemplars ever stored when they were taken the last time.
    exemplars: u64,
    /// Those that wait for a sample; none in remote write 1.0.
    waiting_exemplars: WaitingExemplars,
    /// The newest time that was put into a request.
    newest: TimeMs,
    /// Items before this time are too old.
    oldest: TimeMs,
    rates: ItemRates,
}

/// How far a queue has read the log, and what it has said of it so far.
struct LogReading {
    tail: LogTail,
    /// Everything before it was read.
    read: LogPosition,
    /// Segments begun when the known series were forgotten the last time.
    segments: u64,
    /// Records that could not be decoded.
    failures: u64,
    /// Records that were removed before they were read.
    missing: u64,
    /// The record that the log was asked to report.
    awaited: u64,
}

impl QueueReader {
    /// A reader that goes on from `note`, which is that of the progress of the context.
    pub(super) fn new(parts: QueueParts, note: &QueueNote) -> QueueReader {
        let QueueParts { context, store, series, settings, runtime, stop, incoming } = parts;
        let from = note.first();
        let mut reader = QueueReader {
            context,
            log: LogReading {
                tail: LogTail::new(store.clone(), from),
                read: from,
                segments: 0,
                failures: 0,
                missing: 0,
                awaited: 0,
            },
            store,
            samples: LoggedSamples::default(),
            series,
            settings,
            shards: Vec::new(),
            runtime,
            stop,
            exemplars: 0,
            waiting_exemplars: WaitingExemplars::default(),
            newest: TimeMs::MIN,
            oldest: TimeMs::MIN,
            rates: ItemRates { incoming, dropped: 0, averages: [RateAverage::default(); 4] },
        };
        // Exemplars of before belong to samples that were sent.
        reader.exemplars = reader.store.exemplars().added_since(u64::MAX, 0).seen;
        reader.start_shards(note);
        reader
    }

    /// Reads and sends until the queue has to stop.
    pub(super) fn run(mut self) {
        let mut noted = Instant::now();
        let mut counted = Instant::now();
        loop {
            let turn = self.turn();
            match self.stop.get() {
                StopMode::No => {}
                StopMode::Drained(until) => {
                    let drained = turn.is_ok() && self.drain(until).is_ok();
                    if !drained {
                        tracing::warn!(
                            target: "remote_write", queue = self.context.name, url = self.context.url,
                            "not everything was sent before the server stopped; the rest is sent after the next start"
                        );
                    }
                    break;
                }
                // What was read and not sent is in the note, and is read again after the next
                // start.
                StopMode::Now => break,
            }
            if noted.elapsed() > NOTE_INTERVAL {
                noted = Instant::now();
                self.note_progress();
            }
            if counted.elapsed() > SHARDS_INTERVAL {
                self.drop_waiting_exemplars();
                self.adapt_shards(counted.elapsed().as_secs_f64());
                counted = Instant::now();
            }
        }
        self.note_progress();
        self.stop_shards();
    }

    /// Reads for a while, and waits if there is nothing to read.
    fn turn(&mut self) -> Result<(), StoppedEarly> {
        let began = Instant::now();
        let limit = self.context.age_limit;
        self.series.refresh();
        self.oldest = if limit > 0 { self.context.clock.now().saturating_sub(limit) } else { TimeMs::MIN };
        while began.elapsed() < READ_TURN {
            if !self.read_record()? {
                self.add_exemplars()?;
                self.close_repeats();
                self.flush_due();
                self.wait();
                return Ok(());
            }
        }
        self.flush_due();
        Ok(())
    }

    /// Reads one record. Returns whether there was one.
    fn read_record(&mut self) -> Result<bool, StoppedEarly> {
        if self.context.client.is_v2() {
            self.take_exemplars();
        }
        let mut samples = std::mem::take(&mut self.samples);
        let read = self.log.tail.next_samples(&mut samples);
        self.note_log();
        let outcome = match read {
            Ok(true) => {
                let is_old = samples.lsn <= self.store.wal().opened_at();
                self.context.metrics.log.count_record(&samples, is_old);
                let taken = self.add_record(&samples);
                if taken.is_ok() {
                    self.log.read = LogPosition::at(samples.lsn + 1);
                }
                taken.map(|()| true)
            }
            Ok(false) => {
                // Records without samples count as read, too.
                self.log.read = self.log.read.max(LogPosition::at(self.log.tail.last_lsn() + 1));
                Ok(false)
            }
            Err(error) => {
                tracing::error!(
                    target: "remote_write", queue = self.context.name, %error,
                    "the log cannot be read; it is tried again"
                );
                self.context.wake.wait(READ_RETRY);
                Ok(false)
            }
        };
        self.samples = samples;
        outcome
    }

    /// Notes what the log says of itself.
    fn note_log(&mut self) {
        let metrics = &self.context.metrics;
        // A new segment repeats the labels of its series, so what is known of others may go: this
        // bounds the cache.
        if self.log.tail.segments_begun() != self.log.segments {
            self.log.segments = self.log.tail.segments_begun();
            self.series.clear();
            metrics.log.segment.set(f64::from(self.log.tail.segment()));
        }
        let failures = self.log.tail.failures();
        metrics.log.failures.add(failures - self.log.failures);
        self.log.failures = failures;
        if self.log.tail.missing() > self.log.missing {
            self.log.missing = self.log.tail.missing();
            metrics.log.missing.add(self.log.missing);
            tracing::error!(
                target: "remote_write", queue = self.context.name, records = self.log.missing,
                "the queue was so far behind that the log was removed before it was read: these samples are not sent"
            );
        }
    }

    /// Puts the samples of a record into requests.
    fn add_record(&mut self, samples: &LoggedSamples) -> Result<(), StoppedEarly> {
        // Remote write 1.0 has none.
        let is_v2 = self.context.client.is_v2();
        let floats = samples.floats.iter().filter(|_| is_v2).map(|float| (float.slot, float.t));
        let starts = self.store.series().starts_of(samples.shard, floats);
        for (at, float) in samples.floats.iter().enumerate() {
            let position = LogPosition { lsn: samples.lsn, item: float.item };
            let start = starts.get(at).copied().unwrap_or(0);
            let value = ItemValue::Float(float.v);
            let item = WriteItem { t: float.t, start, value, exemplars: &[] };
            self.add(samples.series(float.slot), position, item)?;
        }
        if !self.settings.sends_histograms {
            return Ok(());
        }
        let histograms = samples.histograms.iter().filter(|_| is_v2);
        let starts = self
            .store
            .series()
            .starts_of(samples.shard, histograms.map(|histogram| (histogram.slot, histogram.t)));
        for (at, histogram) in samples.histograms.iter().enumerate() {
            let position = LogPosition { lsn: samples.lsn, item: histogram.item };
            let series = samples.series(histogram.slot);
            // The message of 1.0 has no field for custom bounds.
            if histogram.h.is_custom() && !is_v2 {
                self.drop_item(ItemKind::Histogram, DropReason::CustomBuckets);
                continue;
            }
            let value = if is_stale(histogram.h.sum) {
                ItemValue::StaleHistogram
            } else {
                ItemValue::Histogram(&histogram.h)
            };
            let start = starts.get(at).copied().unwrap_or(0);
            self.add(series, position, WriteItem { t: histogram.t, start, value, exemplars: &[] })?;
        }
        Ok(())
    }

    /// Puts an item into the request of its shard.
    fn add(
        &mut self,
        series: SeriesRef,
        position: LogPosition,
        item: WriteItem<'_>,
    ) -> Result<(), StoppedEarly> {
        let number = shard_of(series, self.shards.len());
        // Shards have come to different positions; the reader begins at the lowest, and passes over
        // what the others have sent.
        if position < self.shards[number].done {
            return Ok(());
        }
        while self.shards[number].repeats.front().is_some_and(|end| position >= *end) {
            self.flush_repeat(number)?;
        }
        self.put(number, series, item, Some(position.next()))
    }

    /// Puts an item into the request of a shard; `after` is the position after it in the log.
    fn put(
        &mut self,
        number: usize,
        series: SeriesRef,
        item: WriteItem<'_>,
        after: Option<LogPosition>,
    ) -> Result<(), StoppedEarly> {
        // Here and again before sending: an outage of hours makes what waits too old, too.
        if item.t < self.oldest {
            self.drop_item(item.value.kind(), DropReason::TooOld);
            return Ok(());
        }
        if self.is_full(number) {
            self.flush(number)?;
        }
        let exemplars = self.exemplars_of(number, series, item.t)?;
        let reason = match self.series.get(series) {
            SeriesUse::Send(_) => None,
            SeriesUse::Drop => Some(DropReason::DroppedSeries),
            SeriesUse::Unknown => Some(DropReason::UnknownSeries),
        };
        if let Some(reason) = reason {
            self.drop_item(item.value.kind(), reason);
            for _ in &exemplars {
                self.drop_item(ItemKind::Exemplar, reason);
            }
            return Ok(());
        }
        let WriteItem { t, start, value, .. } = item;
        let item = WriteItem { t, start, value, exemplars: &exemplars };
        if let Some(known) = self.series.known(series) {
            self.shards[number].builder.add(known, &item, after);
            self.newest = self.newest.max(item.t);
        }
        // At once if it can be: a full request that waits for the next item would be late by an
        // interval of scrapes.
        if self.is_full(number) && self.shards[number].queue.has_room() {
            self.push(number);
        }
        Ok(())
    }

    /// The exemplars that go with an item of the time `t`. They count as samples do: if all have no
    /// place in the request of the shard, it is handed over before.
    fn exemplars_of(
        &mut self,
        number: usize,
        series: SeriesRef,
        t: TimeMs,
    ) -> Result<Vec<Exemplar>, StoppedEarly> {
        // A request that is built again gets what it had.
        if !self.shards[number].repeats.is_empty() {
            return Ok(Vec::new());
        }
        // One goes with its sample also if a request may have one item only: receivers take none
        // without a sample.
        let most = (self.settings.batch as usize).saturating_sub(1).max(1);
        let exemplars = self.waiting_exemplars.take(series, t, most);
        let needed = 1 + exemplars.len() as u64;
        if !exemplars.is_empty() && self.shards[number].builder.len() + needed > self.settings.batch {
            self.flush(number)?;
        }
        Ok(exemplars)
    }

    /// Puts exemplars into requests of 1.0 that were stored since the last call. They are in memory
    /// only, so a restart forgets those that were not sent.
    fn add_exemplars(&mut self) -> Result<(), StoppedEarly> {
        if !self.settings.sends_exemplars || self.context.client.is_v2() {
            return Ok(());
        }
        let recent = self.store.exemplars().added_since(self.exemplars, EXEMPLARS_AT_ONCE);
        self.exemplars = recent.seen;
        for (series, exemplar) in &recent.exemplars {
            let number = shard_of(*series, self.shards.len());
            // A request that is built again gets what it had.
            if self.shards[number].repeats.is_empty() {
                let item = WriteItem {
                    t: exemplar.t,
                    start: 0,
                    value: ItemValue::Exemplar(exemplar),
                    exemplars: &[],
                };
                self.put(number, *series, item, None)?;
            }
        }
        Ok(())
    }

    /// Lets exemplars that were stored since the last call wait for the samples of their series,
    /// which are read next (2.0).
    fn take_exemplars(&mut self) {
        if !self.settings.sends_exemplars || !self.waiting_exemplars.has_room() {
            return;
        }
        let recent = self.store.exemplars().added_since(self.exemplars, EXEMPLARS_AT_ONCE);
        self.exemplars = recent.seen;
        for (series, exemplar) in recent.exemplars {
            self.waiting_exemplars.add(series, exemplar);
        }
    }

    /// Leaves out exemplars that have waited in vain.
    fn drop_waiting_exemplars(&mut self) {
        let oldest = self.newest.saturating_sub(EXEMPLAR_WAIT.as_millis() as i64);
        for _ in 0..self.waiting_exemplars.drop_before(oldest) {
            self.drop_item(ItemKind::Exemplar, DropReason::NoSample);
        }
    }

    /// Counts an item that is not sent.
    fn drop_item(&mut self, kind: ItemKind, reason: DropReason) {
        self.rates.dropped += 1;
        self.context.metrics.items.count_dropped(kind, reason);
    }

    /// Waits until the log has more, or a request is due.
    fn wait(&mut self) {
        let next = self.log.tail.last_lsn() + 1;
        if self.log.awaited != next {
            self.log.awaited = next;
            let wake = self.context.wake.clone();
            let notify = move |outcome: Result<(), _>| {
                // After a failure of the log it is looked at once a second.
                if outcome.is_ok() {
                    wake.notify();
                }
            };
            self.store.wal().on_committed(next, Box::new(notify));
        }
        let due = self.shards.iter().filter_map(|shard| shard.builder.since());
        let first = due.min().map(|since| self.settings.deadline.saturating_sub(since.elapsed()));
        let wait = first.unwrap_or(READ_WAIT).min(READ_WAIT).max(Duration::from_millis(1));
        self.context.wake.wait(wait);
        // A short sleep after each wake-up, so that many small appends are read together and not
        // one by one.
        if self.stop.get() == StopMode::No {
            std::thread::sleep(READ_PAUSE.min(wait));
        }
    }

    /// Notes how far the queue has come, also where nothing was sent.
    fn note_progress(&mut self) {
        let shards = &self.shards;
        self.context.progress.advance(self.log.read, |number| shards[number].builder.len() == 0);
        let last = self.store.wal().last_lsn();
        self.context.metrics.log.behind.set((last + 1).saturating_sub(self.log.read.lsn) as f64);
    }

    /// Reads what is left of the log and waits until it is sent, at most until a time.
    fn drain(&mut self, until: Instant) -> Result<(), StoppedEarly> {
        while self.read_record()? {
            if Instant::now() >= until {
                return Err(StoppedEarly);
            }
        }
        self.flush_all(until)
    }
}
