//! The shards of a queue: starts and stops their tasks, and changes their number while the queue
//! runs. [`super::super::shard_count`] has the arithmetic.

use super::requests::ShardBuilder;
use super::{QueueReader, QueueSettings};
use crate::limits::SHARDS_INTERVAL;
use crate::write::batch::BatchBuilder;
use crate::write::progress::QueueNote;
use crate::write::shard::{ShardQueue, whole_seconds};
use crate::write::shard_count::{QueueRates, RateAverage};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use storage::metrics::Counter;

/// What the number of shards is computed from.
pub(super) struct ItemRates {
    /// Count the samples that are stored.
    pub(super) incoming: [Arc<Counter>; 2],
    /// Items that are not to be sent.
    pub(super) dropped: u64,
    /// Of incoming, outgoing and dropped items, and of the time spent with sending.
    pub(super) averages: [RateAverage; 4],
}

impl QueueReader {
    /// Starts the tasks of the shards of `note`.
    pub(super) fn start_shards(&mut self, note: &QueueNote) {
        for (number, shard) in note.shards.iter().enumerate() {
            let queue = Arc::new(ShardQueue::new(number, self.settings.waiting));
            let task = self.runtime.spawn(queue.clone().run(self.context.clone()));
            let is_v2 = self.context.client.is_v2();
            let builder = BatchBuilder::new(is_v2, self.context.age_limit > 0, shard.done);
            self.shards.push(ShardBuilder {
                builder,
                queue,
                task,
                done: shard.done,
                repeats: shard.under_way.clone(),
            });
        }
        self.context.metrics.shards.running.set(self.shards.len() as f64);
    }

    /// Stops the tasks of all shards. What they have not sent is in the note.
    pub(super) fn stop_shards(&mut self) {
        for shard in self.shards.drain(..) {
            shard.task.abort();
            // Its metrics vanish with the last of the tasks.
            let _ = self.runtime.block_on(shard.task);
        }
    }

    /// Computes the number of shards, and changes it if that is worth it.
    pub(super) fn adapt_shards(&mut self, seconds: f64) {
        let metrics = &self.context.metrics;
        let sent = &self.context.rates;
        let stored: u64 = self.rates.incoming.iter().map(|counter| counter.get()).sum();
        let [incoming, outgoing, dropped, busy] = &mut self.rates.averages;
        let newest = self.store.status().newest_time().map_or(0.0, whole_seconds);
        let highest_sent = metrics.items.highest_sent.get();
        let rates = QueueRates {
            incoming: incoming.add(stored as f64, seconds),
            outgoing: outgoing.add(sent.finished.load(Relaxed) as f64, seconds),
            dropped: dropped.add(self.rates.dropped as f64, seconds),
            busy: busy.add(sent.busy_us.load(Relaxed) as f64 / 1e6, seconds),
            delay: if highest_sent > 0.0 { (newest - highest_sent).max(0.0) } else { 0.0 },
        };
        let current = self.shards.len();
        let QueueSettings { min_shards: least, max_shards: most, .. } = self.settings;
        let now = self.context.clock.now();
        let mut shards = current.clamp(least, most);
        if let Some(wanted) = rates.wanted() {
            metrics.shards.desired.set(wanted);
            let has_sent = now - sent.last_finished.load(Relaxed) <= SHARDS_INTERVAL.as_millis() as i64;
            // Nothing is sent, or requests fail: then the number says nothing.
            if has_sent && now >= sent.keep_until.load(Relaxed) {
                shards = rates.shards(wanted, current, least, most);
            }
        }
        // Requests that are built again belong to the shards that they had.
        if shards != current && self.shards.iter().all(|shard| shard.repeats.is_empty()) {
            self.reshard(shards);
        }
    }

    /// Goes on with another number of shards, once everything is sent that was read.
    pub(super) fn reshard(&mut self, shards: usize) {
        let until = Instant::now() + self.settings.flush_deadline;
        if self.flush_all(until).is_err() {
            // The old shards go on with what they have.
            return;
        }
        tracing::info!(
            target: "remote_write", queue = self.context.name, from = self.shards.len(), to = shards,
            "Remote storage resharding"
        );
        self.stop_shards();
        self.context.progress.reshard(self.log.read, shards);
        self.start_shards(&QueueNote::beginning(self.log.read, shards));
    }
}
