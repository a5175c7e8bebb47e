//! The progress of a queue, on disk: for each shard the position in the log up to which everything
//! was sent, and of each later request that is under way the positions of its first and last item.
//!
//! A killed process does not know whether the receiver stored its last requests. After the restart
//! it sends them again with exactly the same items. A receiver that has them already refuses them
//! or takes them as known. Because the request has no other items, nothing else can be refused with
//! them.

use crate::limits::{NOTE_WAIT, SHARDS};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use storage::codec;
use storage::durable_map::{DurableMap, MapChange, MapEntries};
use storage::model::SeriesRef;
use storage::store::{LogHold, LogPosition, StoreWal};

/// The progress of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShardProgress {
    /// Everything before it was sent, or is not to be sent.
    pub done: LogPosition,
    /// The ends of the requests that are under way, in order. Each begins where the one before
    /// ends.
    pub under_way: VecDeque<LogPosition>,
}

/// What is on disk of a queue. The number of its shards decides which series are in which
/// ([`shard_of`]), so it is kept with their positions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QueueNote {
    pub shards: Vec<ShardProgress>,
}

impl QueueNote {
    /// The note of queue `key`, if there is one that can be used.
    pub(super) fn load(entries: &MapEntries, key: &str) -> Option<QueueNote> {
        let note: QueueNote = codec::decode(entries.get(key.as_bytes())?).ok()?;
        (1..=SHARDS).contains(&note.shards.len()).then_some(note)
    }

    /// A queue that begins at a position.
    pub(super) fn beginning(at: LogPosition, shards: usize) -> QueueNote {
        let shard = ShardProgress { done: at, under_way: VecDeque::new() };
        QueueNote { shards: vec![shard; shards] }
    }

    /// The first position that was not sent.
    pub(super) fn first(&self) -> LogPosition {
        self.shards.iter().map(|shard| shard.done).min().unwrap_or_default()
    }

    /// The same without positions after record `last`: a power loss took the records there, and
    /// others will get their numbers.
    pub(super) fn within(mut self, last: u64) -> QueueNote {
        let end = LogPosition::at(last + 1);
        for shard in &mut self.shards {
            shard.done = shard.done.min(end);
            shard.under_way.retain(|position| *position <= end);
        }
        self
    }
}

/// The shard of a series, as long as the number of shards is the same.
pub(super) fn shard_of(series: SeriesRef, shards: usize) -> usize {
    let number = u64::from(series.slot) * u64::from(storage::model::SHARDS) + u64::from(series.shard);
    (number % shards as u64) as usize
}

/// The progress of a running queue.
pub(super) struct QueueProgress {
    key: String,
    map: Arc<DurableMap>,
    hold: LogHold,
    note: Mutex<QueueNote>,
}

impl QueueProgress {
    /// Goes on from `note`; the log is kept from its position on.
    pub(super) fn new(key: String, map: Arc<DurableMap>, wal: &StoreWal, note: QueueNote) -> QueueProgress {
        let hold = wal.hold(note.first().lsn);
        QueueProgress { key, map, hold, note: Mutex::new(note) }
    }

    /// Puts the note into the file and waits for that, at most [`NOTE_WAIT`]: a queue that is
    /// killed before its first request goes on from where it began.
    pub(super) fn write_beginning(&self) {
        let note = self.put(&self.note.lock());
        // After the limit the queue starts anyway: a full disk must not stop it.
        let _is_written = self.map.wait(note, NOTE_WAIT);
    }

    /// The progress of the queue.
    pub(super) fn note(&self) -> QueueNote {
        self.note.lock().clone()
    }

    /// Number of requests that are under way.
    pub(super) fn under_way(&self) -> usize {
        self.note.lock().shards.iter().map(|shard| shard.under_way.len()).sum()
    }

    /// Notes a request of a shard that ends at `end`. Returns the number of the note.
    pub(super) fn begin(&self, shard: usize, end: LogPosition) -> u64 {
        let mut note = self.note.lock();
        // One that is built again after a restart is there already.
        if let Some(shard) = note.shards.get_mut(shard).filter(|shard| !shard.under_way.contains(&end)) {
            shard.under_way.push_back(end);
        }
        self.put(&note)
    }

    /// Nothing is left of a request that was under way at a restart: its items are not sent any
    /// more.
    pub(super) fn discard(&self, shard: usize, end: LogPosition) {
        let mut note = self.note.lock();
        if let Some(shard) = note.shards.get_mut(shard) {
            shard.under_way.retain(|position| *position != end);
        }
        self.put(&note);
    }

    /// The first request under way of a shard is done.
    pub(super) fn finish(&self, shard: usize) {
        let mut note = self.note.lock();
        if let Some(shard) = note.shards.get_mut(shard)
            && let Some(end) = shard.under_way.pop_front()
        {
            shard.done = shard.done.max(end);
        }
        self.put(&note);
    }

    /// Shards with nothing under way, and nothing that waits (`idle`), have come up to `read`.
    pub(super) fn advance(&self, read: LogPosition, idle: impl Fn(usize) -> bool) {
        let mut note = self.note.lock();
        let mut has_changed = false;
        for (n, shard) in note.shards.iter_mut().enumerate() {
            if shard.under_way.is_empty() && idle(n) && shard.done < read {
                shard.done = read;
                has_changed = true;
            }
        }
        if has_changed {
            self.put(&note);
        }
    }

    /// Goes on with `shards` shards from `read`, up to which everything is done.
    pub(super) fn reshard(&self, read: LogPosition, shards: usize) {
        let mut note = self.note.lock();
        *note = QueueNote::beginning(read, shards);
        self.put(&note);
    }

    /// Whether a note is on disk.
    pub(super) fn is_noted(&self, note: u64) -> bool {
        self.map.is_written(note)
    }

    /// Puts the note into the file, and lets the log go that is not needed any more. Returns the
    /// number of the change.
    fn put(&self, note: &QueueNote) -> u64 {
        self.hold.keep_from(note.first().lsn);
        // It is small, so it can always be encoded. If not, the position before is found at the
        // next start.
        let value = codec::encode(note).ok();
        let change: MapChange = (self.key.as_bytes().to_vec(), value);
        self.map.put([change])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_within_what_the_log_has() {
        let under_way = VecDeque::from([LogPosition { lsn: 7, item: 3 }, LogPosition::at(9)]);
        let shard = ShardProgress { done: LogPosition { lsn: 5, item: 2 }, under_way };
        let note = QueueNote { shards: vec![shard, ShardProgress::default()] };
        let entries = MapEntries::from([(b"a".to_vec(), codec::encode(&note).unwrap())]);
        assert_eq!(QueueNote::load(&entries, "a"), Some(note.clone()));
        assert_eq!(QueueNote::load(&entries, "b"), None);
        assert_eq!(note.first(), LogPosition::default());
        let cut = note.within(6);
        assert_eq!(cut.shards[0].under_way, []);
        assert_eq!(cut.shards[0].done, LogPosition { lsn: 5, item: 2 });
        assert_eq!(cut.within(3).shards[0].done, LogPosition::at(4));
    }
}
