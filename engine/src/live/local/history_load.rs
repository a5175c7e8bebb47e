//! Fills rings in the background, when views are installed. (A ring has the recent samples of one
//! selector in one shard.) Threads of low priority read the history from the store, as of an append
//! sequence number: the number of the last change in the shard. Samples that arrive meanwhile are
//! kept in [`PendingLoads`] and added when the ring is put in place.

use super::LocalExecutor;
use super::shard::LocalShard;
use super::spill::RingInShard;
use crate::limits::{FEED_ITEMS, HISTORY_LOG_MS, INSTALLED_ROWS};
use crate::live::SpillOptions;
use crate::live::message::InstallBatchId;
use crate::live::ring::SampleRing;
use crate::live::ring::spilled::SpillSource;
use crate::live::store_query::HistoryReads;
use crate::query::pool::{Pool, catch_panic};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use storage::metrics::Counter;
use storage::model::{Matcher, TimeMs};
use storage::store::{ChangeEvent, Store, StoreError};

/// Reads history, for all workers of a process.
#[derive(Clone)]
pub struct HistoryLoader {
    store: Arc<Store>,
    pool: Arc<Pool>,
    /// Called when something has been read.
    wake: Arc<dyn Fn() + Send + Sync>,
    /// How many rings were requested, and how many of them have been read.
    requested: Arc<AtomicUsize>,
    finished: Arc<AtomicUsize>,
    pub(super) spill: SpillOptions,
    store_reads: Arc<HistoryReads>,
    reads_in_tick: Arc<Counter>,
}

impl HistoryLoader {
    /// Reads from `store` in the threads of `pool`. `reads_in_tick` counts chunks that a tick had
    /// to read itself.
    pub fn new(
        store: Arc<Store>,
        pool: Arc<Pool>,
        wake: Arc<dyn Fn() + Send + Sync>,
        store_reads: Arc<HistoryReads>,
        spill: SpillOptions,
        reads_in_tick: Arc<Counter>,
    ) -> HistoryLoader {
        let requested = Arc::default();
        let finished = Arc::default();
        HistoryLoader { store, pool, wake, requested, finished, spill, store_reads, reads_in_tick }
    }

    /// Where a ring of a shard reads spilled rows back from.
    pub(super) fn source(&self, shard: u16, matchers: &[Matcher]) -> SpillSource {
        SpillSource {
            store: self.store.clone(),
            shard,
            matchers: matchers.to_vec(),
            length: self.spill.chunk_ms,
            reads_in_tick: self.reads_in_tick.clone(),
        }
    }

    /// Runs a job in the background.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.pool.submit(Box::new(job));
    }
}

/// A worker's end: receives what was read.
pub(super) struct LoadResults {
    loader: HistoryLoader,
    sender: Sender<LoadedRing>,
    receiver: Receiver<LoadedRing>,
    /// Rings that were read but not put in place yet, because one preparation takes a limited
    /// number of rows.
    not_installed: VecDeque<LoadedRing>,
    /// Jobs do nothing once this is dropped.
    alive: Arc<()>,
    /// Number of the latest job.
    job: u64,
    /// `None`: nothing is being read.
    progress: Option<LoadProgress>,
    /// Rings that could not be read.
    failed: BTreeSet<usize>,
}

/// Since when rings are being read, and when that was last logged.
#[derive(Copy, Clone)]
struct LoadProgress {
    began: TimeMs,
    logged: TimeMs,
}

/// A ring that was read, or the error.
struct LoadedRing {
    shard: u16,
    ring: usize,
    job: u64,
    result: Result<SampleRing, LoadError>,
}

/// Why history could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job that read it panicked.
    #[error("reading it panicked")]
    Panicked,
}

/// Runs a read of the store; a panic is an error.
pub(super) fn read_safely<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, LoadError> {
    match catch_panic(read) {
        Some(result) => Ok(result?),
        None => Err(LoadError::Panicked),
    }
}

/// The rings of a shard that are being read.
#[derive(Default)]
pub(super) struct PendingLoads {
    loads: BTreeMap<usize, PendingLoad>,
    /// Changes that arrived while a ring was being read.
    events: VecDeque<ChangeEvent>,
    /// Number of the first of them.
    first_event: u64,
}

/// A ring that is being read.
struct PendingLoad {
    job: u64,
    matchers: Arc<[Matcher]>,
    retention: i64,
    /// How far back it is needed by now, in ms: if further than `retention`, it is read a second
    /// time.
    needed: i64,
    /// Number of the first change after the ring was requested.
    events_since: u64,
}

impl PendingLoads {
    /// Whether ring `number` is being read.
    pub(super) fn is_reading(&self, number: usize) -> bool {
        self.loads.contains_key(&number)
    }

    /// Whether no ring is being read.
    pub(super) fn is_idle(&self) -> bool {
        self.loads.is_empty()
    }

    /// Ring `number` is not needed any more.
    pub(super) fn forget(&mut self, number: usize) {
        if self.loads.remove(&number).is_some() {
            self.trim();
        }
    }

    /// Stores a change if a ring is being read. `false`: there are too many.
    pub(super) fn add_event(&mut self, event: &ChangeEvent) -> bool {
        if !self.loads.is_empty() {
            self.events.push_back(event.clone());
        }
        // The caller then reads again: a read takes all samples so far, so the kept changes are not
        // needed.
        self.events.len() <= FEED_ITEMS
    }

    /// Drops the changes that are older than all remaining requests.
    fn trim(&mut self) {
        // One list for all loads of a shard: many views are installed at once, and each would keep
        // the same changes.
        let since = self.loads.values().map(|load| load.events_since).min().unwrap_or(u64::MAX);
        while self.first_event < since && self.events.pop_front().is_some() {
            self.first_event += 1;
        }
    }

    /// The changes that arrived after a ring was requested.
    fn events_since(&self, first: u64) -> Vec<ChangeEvent> {
        let skip = (first - self.first_event) as usize;
        self.events.range(skip..).cloned().collect()
    }

    /// Number of the next change.
    fn next_event(&self) -> u64 {
        self.first_event + self.events.len() as u64
    }
}

/// A ring that must be read.
struct LoadRequest {
    ring: usize,
    matchers: Arc<[Matcher]>,
    /// How far back it must reach, in ms.
    retention: i64,
}

impl LoadResults {
    pub(super) fn new(loader: HistoryLoader) -> LoadResults {
        let (sender, receiver) = channel();
        LoadResults {
            loader,
            sender,
            receiver,
            not_installed: VecDeque::new(),
            alive: Arc::new(()),
            job: 0,
            progress: None,
            failed: BTreeSet::new(),
        }
    }

    /// Causes a preparation soon.
    pub(super) fn wake(&self) {
        (self.loader.wake)();
    }

    /// Whether steps of an install batch still read what they need of the store.
    pub(super) fn is_pending(&self, batch: InstallBatchId) -> bool {
        self.loader.store_reads.is_pending(batch)
    }

    /// Has a ring of a shard read, as of `t`. If it is being read already, it is read again
    /// afterwards in case it must reach further back.
    fn request(&mut self, shard: &mut LocalShard, request: LoadRequest, t: TimeMs) {
        let LoadRequest { ring, matchers, retention } = request;
        // Not a second job at once: both would read the same blocks, and only one result could be
        // used.
        if let Some(load) = shard.loads.loads.get_mut(&ring) {
            load.needed = load.needed.max(retention);
            return;
        }
        self.job += 1;
        let job = self.job;
        // Before the job is submitted. Changes from here on are kept, so none is lost between the
        // read and the installation; those that the read saw as well are recognised by their
        // number.
        let events_since = shard.loads.next_event();
        let load =
            PendingLoad { job, matchers: matchers.clone(), retention, needed: retention, events_since };
        shard.loads.loads.insert(ring, load);
        shard.loads.trim();
        self.loader.requested.fetch_add(1, Relaxed);
        let shard = shard.number;
        let loader = self.loader.clone();
        let sender = self.sender.clone();
        let alive: Weak<()> = Arc::downgrade(&self.alive);
        self.loader.submit(move || {
            // The worker has stopped, for example because the process ends: a long read would only
            // delay that.
            if alive.upgrade().is_none() {
                return;
            }
            let result = read_safely(|| SampleRing::read(&loader.store, shard, matchers, t, retention));
            loader.finished.fetch_add(1, Relaxed);
            // Fails only if the worker has ended; then the rows are not needed.
            let _ = sender.send(LoadedRing { shard, ring, job, result });
            // Wakes the tick driver, so that the view begins now and not at the next tick.
            (loader.wake)();
        });
    }

    /// Logs the progress if reading takes long.
    fn log_progress(&mut self, t: TimeMs, is_idle: bool) {
        let requested = self.loader.requested.load(Relaxed);
        let finished = self.loader.finished.load(Relaxed);
        let progress = *self.progress.get_or_insert(LoadProgress { began: t, logged: t });
        if is_idle {
            self.progress = None;
            // Said only if the progress was logged before: otherwise each small view would write a
            // line.
            if progress.logged > progress.began {
                let seconds = (t - progress.began) / 1000;
                tracing::info!(
                    target: "live::history",
                    seconds,
                    "the live runtime has read the history of all views"
                );
            }
        } else if (t - progress.logged).abs() >= HISTORY_LOG_MS {
            // The absolute difference, because the clock may be set back.
            self.progress = Some(LoadProgress { logged: t, ..progress });
            tracing::info!(
                target: "live::history",
                finished,
                requested,
                "the live runtime is reading the history of views"
            );
        }
    }
}

impl LocalExecutor {
    /// Requests the rings that do not reach as far back as they should.
    pub(super) fn request_history(&mut self, t: TimeMs) {
        for (ring, matchers, retention) in self.rings.take_too_short() {
            // It is tried again, so it may succeed this time.
            self.loads.failed.remove(&ring);
            for shard in &mut self.shards {
                let request = LoadRequest { ring, matchers: matchers.clone(), retention };
                self.loads.request(shard, request, t);
            }
        }
    }

    /// Keeps a change for the rings of the shard at `index` that are being read. If there are too
    /// many, these rings are requested again instead.
    pub(super) fn keep_for_loads(&mut self, index: usize, event: &ChangeEvent, t: TimeMs) {
        let shard = &mut self.shards[index];
        if shard.loads.add_event(event) {
            return;
        }
        tracing::warn!(
            target: "live::history",
            shard = shard.number,
            "samples arrive faster than the history of views can be read: the live runtime reads it \
             again; if this repeats, install fewer views at a time"
        );
        let loads = std::mem::take(&mut shard.loads.loads);
        shard.loads.trim();
        for (ring, load) in loads {
            let request = LoadRequest { ring, matchers: load.matchers, retention: load.needed };
            self.loads.request(shard, request, t);
        }
    }

    /// Puts in place what has been read, and with `wait` waits for the rest. Unless `at_once`, it
    /// stops after some rows and the next preparation goes on.
    pub(super) fn install_loaded(&mut self, t: TimeMs, wait: bool, at_once: bool) {
        let mut rows = 0;
        while let Some(loaded) = self.next_loaded(wait) {
            // Putting a ring in place routes its groups and evaluates its leaves, which delays the
            // ticks of other views.
            if !at_once && rows > INSTALLED_ROWS {
                self.loads.not_installed.push_front(loaded);
                self.loads.wake();
                break;
            }
            rows += self.install_ring(loaded, t);
        }
        let is_idle = !self.is_reading();
        if !is_idle || self.loads.progress.is_some() {
            self.loads.log_progress(t, is_idle);
        }
    }

    fn next_loaded(&mut self, wait: bool) -> Option<LoadedRing> {
        let loaded = self.loads.not_installed.pop_front();
        // Those that were put back come first, in their order.
        let loaded = loaded.or_else(|| self.loads.receiver.try_recv().ok());
        if loaded.is_none() && wait && self.is_reading() {
            return self.loads.receiver.recv().ok();
        }
        loaded
    }

    /// Whether any ring is being read.
    fn is_reading(&self) -> bool {
        self.shards.iter().any(|shard| !shard.loads.is_idle())
    }

    /// Puts a ring in place, unless it is not needed any more. Returns how many rows it has.
    fn install_ring(&mut self, loaded: LoadedRing, t: TimeMs) -> usize {
        let number = loaded.ring;
        let Some(shard) = self.shards.iter_mut().find(|shard| shard.number == loaded.shard) else { return 0 };
        // Requested again in the meantime: only the latest job counts.
        if shard.loads.loads.get(&number).is_none_or(|load| load.job != loaded.job) {
            return 0;
        }
        let Some(load) = shard.loads.loads.remove(&number) else { return 0 };
        let ring = match loaded.result {
            Ok(ring) => ring,
            Err(error) => {
                tracing::error!(
                    target: "live::history",
                    shard = shard.number,
                    %error,
                    "the store cannot be read: a view starts without its history; \
                     repair the store, then install the view again"
                );
                // Counted once per ring and not once per shard.
                if self.loads.failed.insert(number) {
                    self.counters.without_history.inc();
                }
                // A ring that exists already goes on with what it has and grows.
                if shard.extend_ring(number, load.needed) {
                    shard.loads.trim();
                    return 0;
                }
                // Views must go on without history: an alert that waits for a damaged block would
                // never fire.
                SampleRing::new(load.matchers.clone(), load.retention)
            }
        };
        let rows = ring.labels.len();
        self.spiller.ring_installed(RingInShard { shard: shard.number, ring: number }, &ring);
        shard.install_ring(number, ring, t);
        // Only to this ring: the others have had these changes at their tick.
        for event in shard.loads.events_since(load.events_since) {
            shard.deliver(&self.store, &event, t, Some(number));
        }
        shard.loads.trim();
        // A view that looks further back was installed while the ring was being read.
        if load.needed > load.retention {
            let request = LoadRequest { ring: number, matchers: load.matchers, retention: load.needed };
            self.loads.request(shard, request, t);
        }
        rows
    }
}
