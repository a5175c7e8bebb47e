//! Loads the history of rings in the background: threads of low priority read it from the store as
//! of an append sequence number. Samples that arrive meanwhile are kept in [`PendingLoads`] and
//! added when the ring is put in place.

use super::LocalExecutor;
use super::shard::LocalShard;
use crate::limits::{FEED_ITEMS, PAST_LOG_MS, PLACED_ROWS};
use crate::live::SpillOptions;
use crate::live::ring::SampleRing;
use crate::live::ring::spilled::SpillSource;
use crate::live::store_query::PastReads;
use crate::query::pool::{Pool, catch_panic};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use storage::metrics::Counter;
use storage::model::{Matcher, TimeMs};
use storage::store::{ChangeEvent, Store};

/// Reads history, for all workers of a process.
#[derive(Clone)]
pub struct HistoryLoader {
    store: Arc<Store>,
    pool: Arc<Pool>,
    /// Called when something has been read.
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
    asked: Arc<AtomicUsize>,
    read: Arc<AtomicUsize>,
    pub(super) spill: SpillOptions,
    pub(super) store_reads: Arc<PastReads>,
    unforeseen: Arc<Counter>,
}

impl HistoryLoader {
    /// Reads from `store` in the threads of `pool`. `unforeseen` counts chunks that a tick had to
    /// read itself.
    pub fn new(
        store: Arc<Store>,
        pool: Arc<Pool>,
        wake: Arc<dyn Fn() + Send + Sync>,
        store_reads: Arc<PastReads>,
        (spill, unforeseen): (SpillOptions, Arc<Counter>),
    ) -> HistoryLoader {
        let asked = Arc::default();
        let read = Arc::default();
        HistoryLoader { store, pool, wake, asked, read, spill, store_reads, unforeseen }
    }

    /// Where a ring of a shard reads spilled rows back from.
    pub(super) fn source(&self, shard: u16, matchers: &[Matcher]) -> SpillSource {
        SpillSource {
            store: self.store.clone(),
            shard,
            matchers: matchers.to_vec(),
            length: self.spill.chunk,
            unforeseen: self.unforeseen.clone(),
        }
    }

    /// Runs a job in the background.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.pool.submit(Box::new(job));
    }
}

/// A worker's end: receives what was read.
pub(super) struct LoadResults {
    library: HistoryLoader,
    done: Sender<LoadedRing>,
    read: Receiver<LoadedRing>,
    /// Rings that were read but not put in place yet, because one preparation takes a limited
    /// number of rows.
    waiting: VecDeque<LoadedRing>,
    /// Jobs do nothing once this is dropped.
    alive: Arc<()>,
    next: u64,
    /// When reading began, and when that was last logged.
    since: Option<(TimeMs, TimeMs)>,
}

/// A ring that was read, or the error.
struct LoadedRing {
    shard: u16,
    ring: usize,
    job: u64,
    result: Result<SampleRing, String>,
}

/// The rings of a shard that are being read.
#[derive(Default)]
pub(super) struct PendingLoads {
    drafts: BTreeMap<usize, PendingLoad>,
    /// Changes that arrived while a ring was being read.
    kept: VecDeque<ChangeEvent>,
    /// Number of the first of them.
    first: u64,
}

/// A ring that is being read.
struct PendingLoad {
    job: u64,
    matchers: Arc<[Matcher]>,
    retention: i64,
    /// How far back it is wanted by now, in ms: if further than `retention`, it is read a second
    /// time.
    wanted: i64,
    /// Number of the first kept change after the ring was requested.
    since: u64,
}

impl PendingLoads {
    /// Whether ring `number` is being read.
    pub(super) fn is_reading(&self, number: usize) -> bool {
        self.drafts.contains_key(&number)
    }

    /// Whether no ring is being read.
    pub(super) fn is_idle(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Ring `number` is not wanted any more.
    pub(super) fn forget(&mut self, number: usize) {
        if self.drafts.remove(&number).is_some() {
            self.trim();
        }
    }

    /// Keeps a change if a ring is being read. `false`: there are too many.
    pub(super) fn keep(&mut self, item: &ChangeEvent) -> bool {
        if !self.drafts.is_empty() {
            self.kept.push_back(item.clone());
        }
        self.kept.len() <= FEED_ITEMS
    }

    /// Drops the changes that are older than all remaining requests.
    fn trim(&mut self) {
        let since = self.drafts.values().map(|draft| draft.since).min().unwrap_or(u64::MAX);
        while self.first < since && self.kept.pop_front().is_some() {
            self.first += 1;
        }
    }

    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }
}

impl LoadResults {
    pub(super) fn new(library: HistoryLoader) -> LoadResults {
        let (done, read) = channel();
        let waiting = VecDeque::new();
        LoadResults { library, done, read, waiting, alive: Arc::new(()), next: 0, since: None }
    }

    /// Requests that ring `number` of a shard is read, back to `retention` ms before `t`.
    fn ask(
        &mut self,
        shard: &mut LocalShard,
        number: usize,
        matchers: Arc<[Matcher]>,
        (retention, t): (i64, TimeMs),
    ) {
        if let Some(draft) = shard.past.drafts.get_mut(&number) {
            draft.wanted = draft.wanted.max(retention);
            return;
        }
        self.next += 1;
        let job = self.next;
        let at = shard.shard;
        let since = shard.past.end();
        let draft = PendingLoad { job, matchers: matchers.clone(), retention, wanted: retention, since };
        shard.past.drafts.insert(number, draft);
        shard.past.trim();
        self.library.asked.fetch_add(1, Relaxed);
        let library = self.library.clone();
        let done = self.done.clone();
        let alive: Weak<()> = Arc::downgrade(&self.alive);
        self.library.submit(move || {
            if alive.upgrade().is_none() {
                return;
            }
            let read =
                || SampleRing::read(&library.store, at, matchers, t, retention).map_err(|e| e.to_string());
            let result = catch_panic(read).unwrap_or_else(|| Err("reading it panicked".to_owned()));
            library.read.fetch_add(1, Relaxed);
            // Fails only if the worker has ended; then the rows are not needed.
            let _ = done.send(LoadedRing { shard: at, ring: number, job, result });
            (library.wake)();
        });
    }

    /// Logs the progress if reading takes long.
    fn report(&mut self, t: TimeMs, idle: bool) {
        let asked = self.library.asked.load(Relaxed);
        let read = self.library.read.load(Relaxed);
        let (began, said) = *self.since.get_or_insert((t, t));
        if idle {
            self.since = None;
            if said > began {
                tracing::info!(seconds = (t - began) / 1000, "the past of all views has been read");
            }
        } else if (t - said).abs() >= PAST_LOG_MS {
            self.since = Some((began, t));
            tracing::info!(read, asked, "reading the past of views");
        }
    }
}

impl LocalExecutor {
    /// Requests the rings that do not reach as far back as they should.
    pub(super) fn ask_past(&mut self, t: TimeMs) {
        for (number, matchers, retention) in self.rings.take_short() {
            self.failed.remove(&number);
            for shard in &mut self.shards {
                self.reader.ask(shard, number, matchers.clone(), (retention, t));
            }
        }
    }

    /// Keeps a change for the rings of a shard that are being read. If there are too many, these
    /// rings are requested again instead.
    pub(super) fn keep(&mut self, at: usize, item: &ChangeEvent, t: TimeMs) {
        let shard = &mut self.shards[at];
        if shard.past.keep(item) {
            return;
        }
        tracing::warn!(
            shard = shard.shard,
            "samples arrive faster than the past of views can be read: reading it anew"
        );
        let drafts = std::mem::take(&mut shard.past.drafts);
        shard.past.trim();
        for (number, draft) in drafts {
            self.reader.ask(shard, number, draft.matchers, (draft.wanted, t));
        }
    }

    /// Puts in place what has been read, and with `wait` waits for the rest. Unless `at_once`, it
    /// stops after some rows and the next preparation goes on.
    pub(super) fn take_past(&mut self, t: TimeMs, wait: bool, at_once: bool) {
        let mut rows = 0;
        while let Some(read) = self.next_read(wait) {
            if !at_once && rows > PLACED_ROWS {
                self.reader.waiting.push_front(read);
                (self.reader.library.wake)();
                break;
            }
            rows += self.place(read, t);
        }
        let idle = !self.is_reading();
        if !idle || self.reader.since.is_some() {
            self.reader.report(t, idle);
        }
    }

    fn next_read(&mut self, wait: bool) -> Option<LoadedRing> {
        let waiting = self.reader.waiting.pop_front();
        let read = waiting.or_else(|| self.reader.read.try_recv().ok());
        if read.is_none() && wait && self.is_reading() {
            return self.reader.read.recv().ok();
        }
        read
    }

    /// Whether any ring is being read.
    fn is_reading(&self) -> bool {
        self.shards.iter().any(|shard| !shard.past.is_idle())
    }

    /// Puts a ring in place, unless it is not wanted any more. Returns how many rows it has.
    fn place(&mut self, read: LoadedRing, t: TimeMs) -> usize {
        let Some(shard) = self.shards.iter_mut().find(|shard| shard.shard == read.shard) else { return 0 };
        // Requested again in the meantime: only the latest job counts.
        if shard.past.drafts.get(&read.ring).is_none_or(|draft| draft.job != read.job) {
            return 0;
        }
        let Some(draft) = shard.past.drafts.remove(&read.ring) else { return 0 };
        let ring = match read.result {
            Ok(ring) => ring,
            Err(error) => {
                tracing::error!(
                    shard = shard.shard,
                    error,
                    "a view starts without its past: the store cannot be read"
                );
                if self.failed.insert(read.ring) {
                    self.without_past.inc();
                }
                // A ring that exists already goes on with what it has and grows.
                if shard.go_on_with(read.ring, draft.wanted) {
                    shard.past.trim();
                    return 0;
                }
                SampleRing::new(draft.matchers.clone(), draft.retention)
            }
        };
        let rows = ring.labels.len();
        self.spiller.is_full(shard.shard, read.ring, &ring);
        shard.place(read.ring, ring, t);
        let skip = (draft.since - shard.past.first) as usize;
        let kept: Vec<ChangeEvent> = shard.past.kept.range(skip..).cloned().collect();
        for item in kept.iter() {
            shard.take(&self.store, item, t, Some(read.ring));
        }
        shard.past.trim();
        if draft.wanted > draft.retention {
            self.reader.ask(shard, read.ring, draft.matchers, (draft.wanted, t));
        }
        rows
    }
}
