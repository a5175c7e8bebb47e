//! Moves rows of long windows out of memory ("spill"): rows between the ends of a window are
//! dropped, because the store has them, and are read back in the background before an end of the
//! window reaches them. Checked a few times per chunk length, not in each tick.

use super::LocalExecutor;
use super::history_load::HistoryLoader;
use super::shard::LocalShard;
use crate::live::SpillOptions;
use crate::live::leaf::LiveLeaf;
use crate::live::leaf::needed_times::NeededTimes;
use crate::live::ring::SampleRing;
use crate::live::ring::spilled::{ChunkValues, ResidentRows, SpillSource};
use crate::query::pool::catch_panic;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use storage::model::TimeMs;

/// A worker's side of spilling: what is being read, and when rings are checked.
pub(super) struct SpillManager {
    library: HistoryLoader,
    done: Sender<LoadedChunk>,
    read: Receiver<LoadedChunk>,
    /// What was requested: shard, ring and chunk.
    asked: BTreeSet<(u16, usize, i64)>,
    looked: TimeMs,
    /// Rings that were read from the store and have all of their rows in memory: shard, ring.
    full: Vec<(u16, usize)>,
}

/// A chunk of a ring of a shard that was read, and the source it was read from.
struct LoadedChunk {
    which: (u16, usize, i64),
    source: Arc<SpillSource>,
    piece: Option<ChunkValues>,
}

impl SpillManager {
    pub(super) fn new(library: HistoryLoader) -> SpillManager {
        let (done, read) = channel();
        SpillManager { library, done, read, asked: BTreeSet::new(), looked: 0, full: Vec::new() }
    }

    /// How old rows must be to be spilled, and how far back a ring must reach for that, in ms.
    pub(super) fn bounds(&self) -> (i64, i64) {
        let SpillOptions { near, chunk } = self.library.spill;
        (near, near + 4 * chunk)
    }

    /// A ring has been put in place with all of its rows in memory.
    pub(super) fn is_full(&mut self, shard: u16, number: usize, ring: &SampleRing) {
        if ring.retention() > self.bounds().1 {
            self.full.push((shard, number));
        }
    }

    /// Requests a chunk, unless that has been done.
    fn ask(&mut self, which: (u16, usize, i64), source: &Arc<SpillSource>) {
        if !self.asked.insert(which) {
            return;
        }
        let done = self.done.clone();
        let source = source.clone();
        self.library.submit(move || {
            let read = || source.read_chunk(which.2).map_err(|e| e.to_string());
            let piece =
                catch_panic(read).unwrap_or_else(|| Err("reading it panicked".to_owned())).map_err(|error| {
                    tracing::warn!(shard = which.0, error, "a part of a long window cannot be read yet");
                });
            // Fails only if the worker has ended; then the rows are not needed.
            let _ = done.send(LoadedChunk { which, source, piece: piece.ok() });
        });
    }

    /// Checks ring `number` of a shard. A leaf that was not evaluated yet needs all of its window.
    fn tend_ring(&mut self, shard: &mut LocalShard, number: usize, t: TimeMs) {
        let (_, long) = self.bounds();
        let Some(ring) = shard.rings.get_mut(number).and_then(Option::as_deref_mut) else { return };
        if ring.retention() > long {
            let readers = shard.readers.get(number).into_iter().flatten();
            let readers: Vec<&LiveLeaf> =
                readers.filter_map(|reader| shard.leaves.get(reader)?.state.as_deref()).collect();
            self.tend((shard.shard, number), ring, &readers, t);
        }
    }

    /// Spills the rows of a ring that no reader needs, and requests those that will be needed.
    fn tend(
        &mut self,
        (shard, number): (u16, usize),
        ring: &mut SampleRing,
        leaves: &[&LiveLeaf],
        t: TimeMs,
    ) {
        let SpillOptions { near, chunk } = self.library.spill;
        let mut wanted =
            NeededRanges { around: Vec::new(), odd: false, from: t - near, near: t - near, chunk };
        for leaf in leaves.iter() {
            wanted.add(leaf.needed_times(t));
        }
        let library = &self.library;
        let kept = ResidentRows { from: wanted.from, around: &wanted.around, odd: wanted.odd };
        let missing = ring.spill(|matchers| library.source(shard, matchers), kept);
        let source = ring.source().cloned();
        for chunk in missing {
            for source in source.iter() {
                self.ask((shard, number, chunk), source);
            }
        }
    }
}

/// The rows of a ring that its readers need.
struct NeededRanges {
    /// The rows around these times.
    around: Vec<RangeInclusive<TimeMs>>,
    /// Also the values of series that fall or have gaps.
    odd: bool,
    /// All rows from here on.
    from: TimeMs,
    /// From here on samples are too young to be spilled.
    near: TimeMs,
    /// Length of a chunk in ms. What an edge of a window reaches within this time is needed now, so
    /// that it is there in time.
    chunk: i64,
}

impl NeededRanges {
    fn add(&mut self, sight: NeededTimes) {
        match sight {
            // An incremental function may need this range at its next evaluation.
            NeededTimes::All(range) => {
                self.odd = true;
                self.stretch(range);
            }
            NeededTimes::Edges { oldest, newest, irregular } => {
                self.odd |= irregular;
                self.around.push(*oldest.start()..=oldest.end() + self.chunk);
                self.stretch(*newest.start()..=newest.end() + self.chunk);
            }
        }
    }

    /// Adds a range; if it ends among the young samples, everything from its beginning on is
    /// needed.
    fn stretch(&mut self, range: RangeInclusive<TimeMs>) {
        if *range.end() >= self.near {
            self.from = self.from.min(*range.start());
        }
        self.around.push(range);
    }
}

impl LocalExecutor {
    /// Takes chunks that were read, and checks the rings from time to time. With `wait`, returns
    /// when all requested chunks are there.
    pub(super) fn tend_long_rings(&mut self, t: TimeMs, wait: bool) {
        while let Ok(read) = self.spiller.read.try_recv() {
            self.take_back(read);
        }
        self.tend_full_rings();
        if (t - self.spiller.looked).abs() >= self.spiller.library.spill.chunk / 4 {
            self.spiller.looked = t;
            self.tend(t);
        }
        while wait && !self.spiller.asked.is_empty() {
            let Ok(read) = self.spiller.read.recv() else { return };
            self.take_back(read);
        }
    }

    /// Puts a chunk back into its ring, unless that was replaced in the meantime.
    fn take_back(&mut self, read: LoadedChunk) {
        self.spiller.asked.remove(&read.which);
        let (at, number, chunk) = read.which;
        let shard = self.shards.iter_mut().find(|shard| shard.shard == at);
        let ring = shard.and_then(|shard| shard.rings.get_mut(number)?.as_deref_mut());
        let ring = ring.filter(|ring| ring.source().is_some_and(|own| Arc::ptr_eq(own, &read.source)));
        if let (Some(ring), Some(piece)) = (ring, read.piece) {
            ring.fill(chunk, &piece);
        }
    }

    fn tend(&mut self, t: TimeMs) {
        for shard in &mut self.shards {
            (0..shard.rings.len()).for_each(|number| self.spiller.tend_ring(shard, number, t));
        }
    }

    /// Checks the rings that have just been read, as soon as all of their readers have been
    /// evaluated. So while a view is being installed, the long rings of only a few shards are in
    /// memory as a whole.
    pub(super) fn tend_full_rings(&mut self) {
        let t = self.now;
        let full = std::mem::take(&mut self.spiller.full);
        for (at, number) in full {
            let Some(shard) = self.shards.iter_mut().find(|shard| shard.shard == at) else { continue };
            let mut readers = shard.readers.get(number).into_iter().flatten();
            if !readers.all(|reader| shard.leaves.get(reader).is_none_or(|leaf| leaf.has_seen_all())) {
                self.spiller.full.push((at, number));
            } else {
                self.spiller.tend_ring(shard, number, t);
            }
        }
    }
}
