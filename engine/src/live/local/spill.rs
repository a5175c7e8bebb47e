//! Moves rows of long windows out of memory ("spill"): rows between the ends of a window are
//! dropped, because the store has them, and are read back in the background before an end of the
//! window reaches them. Checked a few times per chunk length, not in each tick.

use super::LocalExecutor;
use super::history_load::{HistoryLoader, read_safely};
use super::rings::SpillBounds;
use super::shard::LocalShard;
use crate::live::SpillOptions;
use crate::live::leaf::LiveLeaf;
use crate::live::leaf::needed_times::NeededTimes;
use crate::live::ring::SampleRing;
use crate::live::ring::spilled::{ChunkValues, ResidentRows, SpillSource};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use storage::model::TimeMs;

/// A worker's side of spilling: what is being read, and when rings are checked.
pub(super) struct SpillManager {
    loader: HistoryLoader,
    sender: Sender<LoadedChunk>,
    receiver: Receiver<LoadedChunk>,
    /// What is being read.
    requested: BTreeSet<ChunkId>,
    /// When rings were last checked.
    latest_check: TimeMs,
    /// Rings that were read from the store and have all of their rows in memory.
    unspilled: Vec<RingInShard>,
}

/// A ring of a shard.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RingInShard {
    pub shard: u16,
    pub ring: usize,
}

/// A chunk of rows of a ring.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ChunkId {
    ring: RingInShard,
    chunk: i64,
}

/// A chunk that was read, and the source it was read from. `values`: `None` if it could not be
/// read.
struct LoadedChunk {
    id: ChunkId,
    source: Arc<SpillSource>,
    values: Option<ChunkValues>,
}

impl SpillManager {
    pub(super) fn new(loader: HistoryLoader) -> SpillManager {
        let (sender, receiver) = channel();
        SpillManager {
            loader,
            sender,
            receiver,
            requested: BTreeSet::new(),
            latest_check: 0,
            unspilled: Vec::new(),
        }
    }

    /// Which rings may spill which rows.
    pub(super) fn bounds(&self) -> SpillBounds {
        let SpillOptions { min_age_ms, chunk_ms } = self.loader.spill;
        // Of a ring that is little longer than the recent part, spilling would save little and read
        // all the time.
        SpillBounds { min_age: min_age_ms, min_retention: min_age_ms + 4 * chunk_ms }
    }

    /// A ring has been put in place with all of its rows in memory.
    pub(super) fn ring_installed(&mut self, location: RingInShard, ring: &SampleRing) {
        if ring.retention() > self.bounds().min_retention {
            self.unspilled.push(location);
        }
    }

    /// Requests a chunk, unless that has been done.
    fn request(&mut self, id: ChunkId, source: &Arc<SpillSource>) {
        // A check runs several times per chunk length, so the same chunk is missing several times.
        if !self.requested.insert(id) {
            return;
        }
        let sender = self.sender.clone();
        let source = source.clone();
        self.loader.submit(move || {
            let result = read_safely(|| source.read_chunk(id.chunk));
            if let Err(error) = &result {
                tracing::warn!(
                    target: "live::history",
                    shard = id.ring.shard,
                    %error,
                    "the store cannot be read: part of a long window is requested again later; \
                     if this repeats, check the disk and the damaged blocks that the log names"
                );
            }
            // Fails only if the worker has ended; then the rows are not needed.
            let _ = sender.send(LoadedChunk { id, source, values: result.ok() });
        });
    }

    /// Spills what no reader needs of ring `number` of a shard, if the ring is long.
    fn check_ring(&mut self, shard: &mut LocalShard, number: usize, t: TimeMs) {
        let min_retention = self.bounds().min_retention;
        let ring = shard.rings.get_mut(number).filter(|ring| ring.retention() > min_retention);
        let Some(ring) = ring else { return };
        let leaves = &shard.leaves;
        let readers =
            leaves.readers(number).iter().filter_map(|reader| leaves.get(*reader)?.state.as_deref());
        let location = RingInShard { shard: shard.number, ring: number };
        self.spill_ring(location, ring, readers, t);
    }

    /// Spills the rows of a ring that no reader needs, and requests those that will be needed. A
    /// leaf that was not evaluated yet needs all of its window.
    fn spill_ring<'a>(
        &mut self,
        location: RingInShard,
        ring: &mut SampleRing,
        readers: impl Iterator<Item = &'a LiveLeaf>,
        t: TimeMs,
    ) {
        let SpillOptions { min_age_ms, chunk_ms } = self.loader.spill;
        // Recent rows always stay: late samples are inserted among them.
        let recent_from = t - min_age_ms;
        let mut needed =
            NeededRanges { around: Vec::new(), irregular: false, from: recent_from, recent_from, chunk_ms };
        for leaf in readers {
            needed.add(leaf.needed_times(t));
        }
        let loader = &self.loader;
        let resident =
            ResidentRows { from: needed.from, around: &needed.around, irregular: needed.irregular };
        let missing = ring.spill(|matchers| loader.source(location.shard, matchers), resident);
        let Some(source) = ring.source().cloned() else { return };
        for chunk in missing {
            self.request(ChunkId { ring: location, chunk }, &source);
        }
    }
}

/// The rows of a ring that its readers need.
struct NeededRanges {
    /// The rows around these times.
    around: Vec<RangeInclusive<TimeMs>>,
    /// Also the values of series that fall or have gaps.
    irregular: bool,
    /// All rows from here on.
    from: TimeMs,
    /// From here on samples are too recent to be spilled.
    recent_from: TimeMs,
    /// Length of a chunk in ms. What an edge of a window reaches within this time is needed now, so
    /// that it is there in time.
    chunk_ms: i64,
}

impl NeededRanges {
    fn add(&mut self, times: NeededTimes) {
        match times {
            // An incremental function may need this range at its next evaluation.
            NeededTimes::All(range) => {
                self.irregular = true;
                self.add_range(range);
            }
            NeededTimes::Edges { oldest, newest, irregular } => {
                self.irregular |= irregular;
                // One chunk ahead: the edge of the window reaches that within the time that a read
                // may take.
                self.around.push(*oldest.start()..=oldest.end() + self.chunk_ms);
                self.add_range(*newest.start()..=newest.end() + self.chunk_ms);
            }
        }
    }

    /// Adds a range; if it ends among the recent samples, everything from its beginning on is
    /// needed.
    fn add_range(&mut self, range: RangeInclusive<TimeMs>) {
        // Both parts meet, so one bound describes them.
        if *range.end() >= self.recent_from {
            self.from = self.from.min(*range.start());
        }
        self.around.push(range);
    }
}

impl LocalExecutor {
    /// Takes chunks that were read, and checks the rings from time to time. With `wait`, returns
    /// when all requested chunks are there.
    pub(super) fn spill_long_rings(&mut self, t: TimeMs, wait: bool) {
        while let Ok(loaded) = self.spiller.receiver.try_recv() {
            self.refill(loaded);
        }
        self.spill_new_rings();
        // In both directions: the clock may have been set back.
        if (t - self.spiller.latest_check).abs() >= self.spiller.loader.spill.chunk_ms / 4 {
            self.spiller.latest_check = t;
            self.check_all_rings(t);
        }
        while wait && !self.spiller.requested.is_empty() {
            let Ok(loaded) = self.spiller.receiver.recv() else { return };
            self.refill(loaded);
        }
    }

    /// Puts a chunk back into its ring, unless that was replaced in the meantime.
    fn refill(&mut self, loaded: LoadedChunk) {
        // Also after an error, so that the next check requests it again.
        self.spiller.requested.remove(&loaded.id);
        let RingInShard { shard, ring } = loaded.id.ring;
        let shard = self.shards.iter_mut().find(|candidate| candidate.number == shard);
        let ring = shard.and_then(|shard| shard.rings.get_mut(ring));
        let ring = ring.filter(|ring| ring.source().is_some_and(|own| Arc::ptr_eq(own, &loaded.source)));
        if let (Some(ring), Some(values)) = (ring, loaded.values) {
            ring.refill(loaded.id.chunk, &values);
        }
    }

    fn check_all_rings(&mut self, t: TimeMs) {
        for shard in &mut self.shards {
            for number in 0..shard.rings.len() {
                self.spiller.check_ring(shard, number, t);
            }
        }
    }

    /// Checks the rings that have just been read, as soon as all of their readers have been
    /// evaluated. So while a view is being installed, the long rings of only a few shards are in
    /// memory as a whole.
    pub(super) fn spill_new_rings(&mut self) {
        let t = self.now;
        for location in std::mem::take(&mut self.spiller.unspilled) {
            let Some(shard) = self.shards.iter_mut().find(|shard| shard.number == location.shard) else {
                continue;
            };
            let mut readers = shard.leaves.readers(location.ring).iter();
            if !readers.all(|reader| shard.leaves.get(*reader).is_none_or(|leaf| leaf.has_seen_all())) {
                self.spiller.unspilled.push(location);
            } else {
                self.spiller.check_ring(shard, location.ring, t);
            }
        }
    }
}
