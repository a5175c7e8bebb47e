//! Opening: the log's records become heads again, in the shapes they had.
//!
//! One thread reads and checks the log; others, each of which has some of the shards, put the records into heads
//! ([`super::restorer`]). Records of one shard keep their order, so the heads do not depend on the number of threads.

use super::deleted::Deleted;
use super::options::StoreError;
use super::restorer::Restorer;
use crate::disk::Disk;
use crate::head::{Head, group_of};
use crate::limits::{REPLAY_BATCH_BYTES, REPLAY_BATCHES, REPLAY_THREADS};
use crate::model::SHARDS;
use crate::wal::{Found, Kind, Outcome, Place, Used, Visitor, replay};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::ScopedJoinHandle;

/// What comes out of the log.
pub struct Recovered {
    /// The shards' heads.
    pub heads: Vec<Head>,
    /// What is deleted of each.
    pub deleted: Vec<Deleted>,
    /// Samples restored.
    pub samples: u64,
    /// Files, damage, numbers.
    pub outcome: Outcome,
}

/// Replays the log in `dir`.
pub fn recover(disk: &dyn Disk, dir: &Path, make: impl Fn() -> Head) -> Result<Recovered, StoreError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(REPLAY_THREADS);
    std::thread::scope(|scope| {
        let mut crew = Crew::default();
        for at in 0..threads {
            let (load, loads) = sync_channel(REPLAY_BATCHES);
            let restorer = Restorer::new((0..SHARDS).map(|_| make()).collect());
            let run = move || work(restorer, &loads);
            let thread = std::thread::Builder::new().name(format!("replay-{at}")).spawn_scoped(scope, run);
            let thread = thread.map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
            crew.hands.push(Hand { load, waiting: Load::default(), thread });
        }
        let outcome = replay(disk, dir, &mut crew)?;
        Ok(crew.recovered(outcome))
    })
}

/// Records for one thread.
#[derive(Default)]
struct Load {
    payloads: Vec<u8>,
    records: Vec<Record>,
}

/// A record without its payload, and where that ends in its load.
struct Record {
    place: Place,
    lsn: u64,
    kind: Kind,
    end: usize,
}

/// What a thread made of its loads.
type Done = (Restorer, Used);

/// A thread, and what it gets next.
struct Hand<'s> {
    load: SyncSender<Load>,
    waiting: Load,
    thread: ScopedJoinHandle<'s, Done>,
}

impl Hand<'_> {
    fn take(&mut self, place: Place, found: &Found) {
        let Load { payloads, records } = &mut self.waiting;
        payloads.extend_from_slice(found.payload);
        records.push(Record { place, lsn: found.lsn, kind: found.kind, end: payloads.len() });
        if payloads.len() >= REPLAY_BATCH_BYTES {
            self.send();
        }
    }

    fn send(&mut self) {
        // A thread that is gone has panicked, which shows when it is joined.
        let _ = self.load.send(std::mem::take(&mut self.waiting));
    }
}

fn work(mut restorer: Restorer, loads: &Receiver<Load>) -> Done {
    let mut used = Used::default();
    for load in loads {
        let mut from = 0;
        for Record { place, lsn, kind, end } in load.records {
            let found = Found { lsn, kind, payload: &load.payloads[from..end], end };
            used.note(place, lsn, restorer.record(&found));
            from = end;
        }
    }
    (restorer, used)
}

/// All threads.
#[derive(Default)]
struct Crew<'s> {
    hands: Vec<Hand<'s>>,
    done: Vec<Restorer>,
}

impl Visitor for Crew<'_> {
    fn record(&mut self, place: Place, found: &Found) {
        match found.kind {
            Kind::Flushed => self.hands.iter_mut().for_each(|hand| hand.take(place, found)),
            _ => {
                let at = shard(found) % self.hands.len();
                self.hands[at].take(place, found);
            }
        }
    }

    fn finish(&mut self) -> Used {
        let mut used = Used::default();
        self.hands.iter_mut().for_each(Hand::send);
        for Hand { load, thread, .. } in self.hands.drain(..) {
            drop(load);
            let (restorer, noted) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.done.push(restorer);
            used.add(noted);
        }
        used
    }
}

impl Crew<'_> {
    /// The heads, each from the thread that had its shard.
    fn recovered(self, mut outcome: Outcome) -> Recovered {
        let threads = self.done.len();
        let samples = self.done.iter().map(|restorer| restorer.samples).sum();
        let last_flushed = self.done.iter().filter_map(|restorer| Some(restorer.flushed?.lsn)).max();
        outcome.last_lsn = outcome.last_lsn.max(last_flushed.unwrap_or(0));
        let mut all: Vec<_> = self.done.into_iter().map(|restorer| restorer.into_shards()).collect();
        // Each thread has a head for every shard; those of other threads' shards are empty.
        let mut heads = Vec::with_capacity(usize::from(SHARDS));
        for shard in 0..usize::from(SHARDS) {
            for (at, of_thread) in all.iter_mut().enumerate() {
                heads.extend(of_thread.next().filter(|_| shard % threads == at));
            }
        }
        let (heads, deleted) = heads.into_iter().unzip();
        Recovered { heads, deleted, samples, outcome }
    }
}

/// The shard that a record is about, out of its first bytes; of one that is malformed any will do.
fn shard(found: &Found) -> usize {
    let word =
        |n: usize| found.payload.iter().take(n).rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
    match found.kind {
        Kind::Series => word(2) as usize,
        Kind::Group | Kind::Layout | Kind::Keyframe | Kind::Delta | Kind::Whole => {
            usize::from(group_of(word(4)).0)
        }
        _ => word(4) as usize,
    }
}
