//! The requests that a queue builds, one for each shard: when they are complete, and how they are
//! handed to the shard. Requests that were under way when the process ended are built again with
//! the same items ([`super::super::progress`]).

use super::{QueueReader, StopMode, StoppedEarly};
use crate::limits::{BATCH_BYTES, FULL_PAUSE, READ_WAIT};
use crate::write::batch::BatchBuilder;
use crate::write::shard::{ShardQueue, whole_seconds};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use storage::store::LogPosition;
use tokio::task::JoinHandle;

/// A shard, and the request that is built for it.
pub(super) struct ShardBuilder {
    pub(super) builder: BatchBuilder,
    pub(super) queue: Arc<ShardQueue>,
    pub(super) task: JoinHandle<()>,
    /// Items before it were sent already.
    pub(super) done: LogPosition,
    /// The ends of the requests that were under way when the process ended: they are built again.
    pub(super) repeats: VecDeque<LogPosition>,
}

impl QueueReader {
    /// Whether the request of a shard is large enough to be sent.
    pub(super) fn is_full(&self, number: usize) -> bool {
        let ShardBuilder { builder, repeats, .. } = &self.shards[number];
        // A request that is built again gets the borders that it had.
        repeats.is_empty() && (builder.len() >= self.settings.batch || builder.bytes() >= BATCH_BYTES)
    }

    /// Hands the request of a shard over, and waits until there is room for it.
    pub(super) fn flush(&mut self, number: usize) -> Result<(), StoppedEarly> {
        self.wait_room(number)?;
        self.push(number);
        Ok(())
    }

    /// Waits until another request of a shard may wait.
    fn wait_room(&mut self, number: usize) -> Result<(), StoppedEarly> {
        let mut pause = FULL_PAUSE;
        while !self.shards[number].queue.has_room() {
            match self.stop.get() {
                StopMode::Now => return Err(StoppedEarly),
                StopMode::Drained(until) if Instant::now() >= until => return Err(StoppedEarly),
                _ => {}
            }
            // One full shard stops the reader, since the log is read in order. The requests of
            // others still go out in time.
            self.context.metrics.requests.enqueue_retries.inc();
            self.flush_due();
            self.context.wake.wait(pause);
            pause = (pause * 2).min(self.context.max_backoff);
        }
        Ok(())
    }

    /// Hands the request of a shard over; there is room for it.
    pub(super) fn push(&mut self, number: usize) {
        let shard = &mut self.shards[number];
        if shard.builder.len() == 0 {
            return;
        }
        let counts = shard.builder.counts();
        // The end that it had, if it is built again: items after the last may have been dropped.
        let end = shard.repeats.front().copied().unwrap_or(shard.builder.end());
        let metrics = &self.context.metrics;
        let Some(mut batch) = shard.builder.finish() else {
            metrics.items.failed.add(counts);
            return;
        };
        batch.is_repeat = !shard.repeats.is_empty();
        if batch.is_logged {
            shard.done = end;
            batch.note = self.context.progress.begin(number, end);
        }
        metrics.items.pending.add(counts, 1.0);
        metrics.items.highest.set(whole_seconds(self.newest));
        shard.queue.push(batch);
    }

    /// As [`QueueReader::flush`], for a request that is built again and is complete.
    pub(super) fn flush_repeat(&mut self, number: usize) -> Result<(), StoppedEarly> {
        if self.shards[number].builder.len() > 0 {
            self.wait_room(number)?;
        }
        self.push_repeat(number);
        Ok(())
    }

    /// Hands over a request that is built again and is complete; there is room for it.
    fn push_repeat(&mut self, number: usize) {
        let is_empty = self.shards[number].builder.len() == 0;
        self.push(number);
        let end = self.shards[number].repeats.pop_front();
        if let Some(end) = end.filter(|_| is_empty) {
            self.context.progress.discard(number, end);
        }
    }

    /// Hands over requests that are built again and are complete.
    pub(super) fn close_repeats(&mut self) {
        for number in 0..self.shards.len() {
            while self.shards[number].repeats.front().is_some_and(|end| *end <= self.log.read)
                && self.shards[number].queue.has_room()
            {
                self.push_repeat(number);
            }
        }
    }

    /// Hands requests over that have waited long enough, if there is room.
    pub(super) fn flush_due(&mut self) {
        for number in 0..self.shards.len() {
            let shard = &self.shards[number];
            let is_due = shard.builder.since().is_some_and(|since| since.elapsed() >= self.settings.deadline);
            if is_due && shard.repeats.is_empty() && shard.queue.has_room() {
                self.push(number);
            }
        }
    }

    /// Waits until all requests are sent, at most until a time.
    pub(super) fn flush_all(&mut self, until: Instant) -> Result<(), StoppedEarly> {
        for number in 0..self.shards.len() {
            while !self.shards[number].repeats.is_empty() {
                self.flush_repeat(number)?;
            }
            self.flush(number)?;
        }
        while self.context.progress.under_way() > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stop.get() == StopMode::Now {
                return Err(StoppedEarly);
            }
            self.context.wake.wait(left.min(READ_WAIT));
        }
        Ok(())
    }
}
