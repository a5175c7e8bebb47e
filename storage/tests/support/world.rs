//! The simulated world of `simulation.rs`: a store without threads, on one thread with a seed, a
//! clock that the test moves, and a disk that records every change ([`super::journal`]). Every
//! result is compared with the model in [`super::books`], and all events go into a hash.

use super::books::{Books, Contents, Crash, Key};
use super::hooked::HookedDisk;
use super::journal::{DiskContent, Journal, UnsyncedChanges, hash_changes};
use super::random::Random;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use storage::metrics::Metrics;
use storage::model::histogram::{BucketSpan, Buckets};
use storage::model::{Labels, Matcher, NativeHistogram, SHARDS, SeriesRef, TimeMs, shard_of};
use storage::store::{
    ColumnBatch, ColumnLayout, CorrectedValue, Correction, FeedDelivery, FloatRow, HistogramRow,
    PendingReplay, Retention, Store, StoreBuilder, StoreError, StoreOptions,
};
use tempfile::TempDir;
use xxhash_rust::xxh3::Xxh3;

const RANGE: TimeMs = 10_000;
const OUT_OF_ORDER: TimeMs = 30_000;
/// The numbers of series of one target, of series written alone, and of series with native
/// histograms.
const SCRAPED: usize = 6;
const WRITTEN: usize = 4;
const HISTOGRAMS: usize = 2;
const FIRST: TimeMs = 1_000_000;
/// The size of a WAL segment, bytes.
pub const SEGMENT: u64 = 2_000;

/// The options of a store in `dir`.
pub fn options(dir: PathBuf, sync: u64) -> StoreOptions {
    StoreOptions { dir, wal_sync_interval_ms: sync, block_range_ms: RANGE, out_of_order_ms: OUT_OF_ORDER }
}

fn labels(of: &str, i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("instance", of.to_owned()), ("i", i.to_string())])
}

/// The samples of a store in a time range that match `matchers`.
pub fn read(store: &Store, matchers: &[Matcher], from: TimeMs, to: TimeMs) -> Contents {
    let mut all = Contents::new();
    for shard in 0..SHARDS {
        let selection = store.select(shard, matchers, from, to).expect("an answer");
        for (i, labels) in selection.labels.iter().enumerate() {
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            let mut histograms = Vec::new();
            selection.read(i, from, to, &mut ts, &mut vs).expect("floats");
            selection.read_histograms(i, from, to, &mut histograms).expect("histograms");
            assert!(ts.is_sorted_by(|a, b| a < b), "{labels}: {ts:?}");
            let floats = ts.iter().zip(&vs).map(|(t, v)| (*t, v.to_bits()));
            let sums = histograms.iter().map(|(t, h)| (*t, h.sum.to_bits()));
            for (t, bits) in floats.chain(sums) {
                let twice = all.insert((labels.to_string(), t), bits);
                assert_eq!(twice, None, "{labels} at {t}");
            }
        }
    }
    all
}

/// All samples of a store.
pub fn everything(store: &Store) -> Contents {
    read(store, &[], TimeMs::MIN, TimeMs::MAX)
}

/// A store and its environment.
pub struct World {
    root: TempDir,
    lives: usize,
    snapshots: usize,
    sync: u64,
    pub store: Arc<Store>,
    pub journal: Arc<Journal>,
    /// The content of the disk when this life began.
    pub held: DiskContent,
    pub books: Books,
    pub random: Random,
    now: TimeMs,
    retention: TimeMs,
    /// The time of the newest sample that any previous life accepted.
    newest: Option<TimeMs>,
    /// The log replay, if it has not run yet.
    replaying: Option<PendingReplay>,
    /// The samples stored since the replay was pending.
    during_replay: Vec<(Key, u64)>,
    hash: Xxh3,
    /// The kinds of events that have occurred.
    pub seen: BTreeSet<&'static str>,
}

impl World {
    /// A world with an empty store; `sync`: ms between syncs, 0 for before each acknowledgement.
    pub fn new(seed: u64, sync: u64) -> World {
        let root = directory();
        let dir = root.path().join("0");
        std::fs::create_dir(&dir).expect("a directory");
        let journal = Arc::new(Journal::new(&dir));
        let held = DiskContent::scan(&dir);
        let disk = Arc::new(HookedDisk(journal.clone()));
        let (store, _) = StoreBuilder::new(options(dir, sync), disk, &Metrics::default())
            .manual_log(SEGMENT)
            .open()
            .expect("a new store");
        let books = Books::default();
        let random = Random::new(seed);
        let hash = Xxh3::new();
        let seen = BTreeSet::new();
        World {
            root,
            lives: 0,
            snapshots: 0,
            sync,
            store,
            journal,
            held,
            books,
            random,
            now: FIRST,
            retention: 0,
            newest: None,
            replaying: None,
            during_replay: Vec::new(),
            hash,
            seen,
        }
    }

    fn note(&mut self, what: impl std::fmt::Debug) {
        self.hash.update(format!("{what:?}").as_bytes());
    }

    /// A hash of all events.
    pub fn trace(mut self) -> u64 {
        hash_changes(&self.journal.changes(), &mut self.hash);
        self.hash.digest()
    }

    fn value(&mut self) -> f64 {
        match self.random.below(20) {
            0 => storage::model::value::STALE,
            1 => f64::NAN,
            2 => -0.0,
            _ => self.random.below(1000) as f64 / 4.0,
        }
    }

    /// Advances the time.
    pub fn wait(&mut self) {
        self.now += self.random.below(1500) as i64;
    }

    /// Whether the log of this life has not been replayed yet: then the store cannot be read.
    pub fn is_replaying(&self) -> bool {
        self.replaying.is_some()
    }

    /// Whether, during the replay, the books know such a sample, which the store does not know yet.
    /// The store accepts such duplicates, and drops them at the end of the replay.
    fn known_before(&self, samples: &[(Key, u64)]) -> bool {
        self.is_replaying() && samples.iter().any(|(key, _)| self.books.knows(key))
    }

    /// Records samples of an append; if not all were stored, reads from the store which were.
    fn sent(&mut self, samples: Vec<(Key, u64)>, stored: usize) {
        if self.is_replaying() {
            assert!(stored == samples.len() || stored == 0, "{stored} of {samples:?}");
            if stored > 0 {
                let at = self.journal.len();
                for (key, bits) in samples.iter() {
                    self.books.sent(at, key.clone(), Some(*bits));
                }
                self.during_replay.extend(samples);
                self.seen.insert("stored during a replay");
            }
            return self.note(stored);
        }
        let at = self.journal.len();
        let all = stored == samples.len();
        if !all {
            self.seen.insert("samples refused");
        }
        let found = if all { Contents::new() } else { everything(&self.store) };
        for (key, bits) in samples {
            let known = self.books.value(&key);
            if all || (known.is_none() && found.get(&key) == Some(&bits)) {
                self.books.sent(at, key, Some(bits));
            }
        }
        self.note(stored);
    }

    fn refused(&mut self, error: &StoreError) {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        assert!(self.journal.failures() > 0, "{error}");
        self.seen.insert("log failed");
    }

    /// Scrapes some series of the target now, in a random order.
    pub fn scrape(&mut self) {
        let start = self.random.below(SCRAPED as u64) as usize;
        let count = 1 + self.random.below(SCRAPED as u64) as usize;
        let series: Vec<Labels> = (start..start + count).map(|i| labels("a", i % SCRAPED)).collect();
        let group = self.store.open_group("target", shard_of(&series[0]));
        let slots = series.iter().map(|labels| self.store.get_or_create_series(labels).slot).collect();
        let values: Vec<f64> = series.iter().map(|_| self.value()).collect();
        let samples: Vec<(Key, u64)> =
            series.iter().zip(&values).map(|(l, v)| ((l.to_string(), self.now), v.to_bits())).collect();
        if self.known_before(&samples) {
            return;
        }
        let batch = ColumnBatch {
            group,
            layout: Arc::new(ColumnLayout { slots }),
            t: self.now,
            values: values.into(),
        };
        match self.store.append_columns(&batch, FeedDelivery::Nobody) {
            Ok(appended) => self.sent(samples, appended.stored),
            Err(error) => self.refused(&error),
        }
    }

    fn some_series(&mut self, of: &str, count: usize) -> (Labels, SeriesRef) {
        let labels = labels(of, self.random.below(count as u64) as usize);
        let series = self.store.get_or_create_series(&labels);
        (labels, series)
    }

    fn some_time(&mut self) -> TimeMs {
        let back = if self.random.chance(70) { 2_000 } else { 40_000 };
        self.now - self.random.below(back) as i64
    }

    /// Appends single samples, some of them late, some of series of the target.
    pub fn rows(&mut self) {
        let mut batch = std::collections::BTreeMap::new();
        // One by one during a replay, because the result of each must be known without reading.
        let more = if self.is_replaying() { 0 } else { self.random.below(4) };
        for _ in 0..=more {
            let (of, count) = if self.random.chance(85) { ("r", WRITTEN) } else { ("a", SCRAPED) };
            let (labels, series) = self.some_series(of, count);
            let t = self.some_time();
            let v = self.value();
            batch.entry((labels.to_string(), t)).or_insert(FloatRow { series, t, v });
        }
        let rows: Vec<FloatRow> = batch.values().copied().collect();
        let samples: Vec<_> = batch.into_iter().map(|(key, row)| (key, row.v.to_bits())).collect();
        if self.known_before(&samples) {
            return;
        }
        match self.store.append_rows(&rows) {
            Ok(appended) => self.sent(samples, appended.stored),
            Err(error) => self.refused(&error),
        }
    }

    /// Appends samples of one time of some of many series, as in remote write.
    pub fn together(&mut self) {
        let first = self.random.below(8) as usize;
        let count = 8 + self.random.below(24) as usize;
        let t = if self.is_replaying() || self.random.chance(90) { self.now } else { self.some_time() };
        let all: Vec<Labels> = (first..first + count).map(|i| labels("w", i)).collect();
        let row = |world: &mut World, labels| FloatRow {
            series: world.store.get_or_create_series(labels),
            t,
            v: world.value(),
        };
        let rows: Vec<FloatRow> = all.iter().map(|labels| row(self, labels)).collect();
        let samples: Vec<_> =
            all.iter().zip(&rows).map(|(l, row)| ((l.to_string(), t), row.v.to_bits())).collect();
        if self.known_before(&samples) {
            return;
        }
        match self.store.append_rows(&rows) {
            Ok(appended) => self.sent(samples, appended.stored),
            Err(error) => self.refused(&error),
        }
    }

    fn some_histogram(&mut self) -> Arc<NativeHistogram> {
        let spans = vec![BucketSpan { offset: -1, length: 1 + self.random.below(3) as u32 }];
        let counts: Vec<f64> = (0..spans[0].length).map(|_| self.random.below(50) as f64).collect();
        let count = counts.iter().sum();
        let sum = self.random.below(1 << 40) as f64;
        Arc::new(NativeHistogram { count, sum, positive: Buckets { spans, counts }, ..<_>::default() })
    }

    /// Appends a native histogram.
    pub fn histogram(&mut self) {
        let (labels, series) = self.some_series("h", HISTOGRAMS);
        let t = self.some_time();
        let h = self.some_histogram();
        let sample = ((labels.to_string(), t), h.sum.to_bits());
        if self.known_before(std::slice::from_ref(&sample)) {
            return;
        }
        match self.store.append_histograms(&[HistogramRow { series, t, h }]) {
            Ok(appended) => self.sent(vec![sample], appended.stored),
            Err(error) => self.refused(&error),
        }
    }

    /// Changes the value of a sample, or deletes it.
    pub fn correct(&mut self) {
        let (of, count) = if self.random.chance(70) { ("r", WRITTEN) } else { ("w", 32) };
        let (labels, series) = self.some_series(of, count);
        let t = self.some_time();
        let v = self.random.below(1000) as f64;
        let key = (labels.to_string(), t);
        let gone = self.random.chance(30);
        let to = if gone { CorrectedValue::Gone } else { CorrectedValue::Float(v) };
        match self.store.recorder().correct(&[Correction { series, t, value: to }]) {
            Ok(0) => {
                self.seen.insert(if gone { "taken back" } else { "corrected" });
                self.books.sent(self.journal.len(), key, (!gone).then_some(v.to_bits()));
            }
            Ok(_) => _ = self.seen.insert("correction refused"),
            Err(error) => self.refused(&error),
        }
    }

    /// Does what the threads of the log do: writes, and syncs if it is time.
    pub fn write_log(&mut self, sync: bool) {
        let failures = self.journal.failures();
        self.store.wal().write_queued(sync);
        let (tell, told) = channel();
        self.store
            .wal()
            .on_committed(self.store.wal().last_lsn(), Box::new(move |fate| _ = tell.send(fate.is_ok())));
        let committed = told.try_recv() == Ok(true);
        // After a failure only a due sync tries again.
        let tried = sync || self.journal.failures() == 0;
        assert!(
            committed || !tried || self.journal.failures() > failures,
            "no reason for no acknowledgement"
        );
        let at = self.journal.len();
        if committed {
            self.books.written(at);
            let synced = self.sync == 0 || (sync && self.journal.failures() == failures);
            if synced {
                self.books.synced(at);
            }
        }
        self.note(committed);
    }

    /// Reads some series in some time range.
    pub fn query(&mut self) {
        let some = [Matcher::equal("instance", self.random_instance())];
        let from = self.now - self.random.below(60_000) as i64;
        let to = from + self.random.below(60_000) as i64;
        let found = read(&self.store, &some, from, to);
        let asked = |key: &Key| {
            let instance = format!("instance=\"{}\"", some[0].value);
            key.0.contains(&instance) && (from..=to).contains(&key.1)
        };
        self.books.check(&found, asked).unwrap_or_else(|e| panic!("{e}"));
        self.note(found);
    }

    fn random_instance(&mut self) -> &'static str {
        ["a", "r", "h", "w"][self.random.below(4) as usize]
    }

    /// Checks all samples of the store.
    pub fn check(&self) {
        self.books.check(&everything(&self.store), |_| true).unwrap_or_else(|e| panic!("{e}"));
    }

    fn may_fail(&mut self, what: &'static str, failures: usize, outcome: Result<usize, StoreError>) {
        self.note(outcome.is_err());
        match outcome {
            Ok(0) => (),
            Ok(_) => _ = self.seen.insert(what),
            Err(error) => assert!(self.journal.failures() > failures, "{error}"),
        }
        self.check();
    }

    /// Flushes complete ranges as blocks, and removes expired blocks.
    pub fn maintain(&mut self) {
        if self.retention > 0 {
            // Deleted samples, and samples whose file a power loss removed, have advanced the time
            // of the store, too.
            let newest = self.books.newest().max(self.newest).unwrap_or(self.now);
            self.books.expire(newest.min(self.now) - self.retention);
        }
        let failures = self.journal.failures();
        let outcome = self.store.maintenance().run_housekeeping(self.now);
        let gone = self.journal.changes().iter().any(|change| change.is_rename_to(".deleting"));
        if gone && self.retention > 0 {
            self.seen.insert("block removed");
        }
        self.may_fail("block written", failures, outcome);
    }

    /// Merges blocks.
    pub fn compact(&mut self) {
        let failures = self.journal.failures();
        let outcome = self.store.maintenance().compact();
        self.may_fail("blocks merged", failures, outcome);
    }

    /// Deletes the samples of some series in a time range.
    pub fn delete(&mut self) {
        let some = [Matcher::equal("instance", self.random_instance())];
        let from = self.now - self.random.below(60_000) as i64;
        let to = from + self.random.below(20_000) as i64;
        self.delete_of(&some, from, to);
    }

    /// Deletes the samples of these series in this time range.
    pub fn delete_of(&mut self, some: &[Matcher], from: TimeMs, to: TimeMs) {
        let there = read(&self.store, some, from, to);
        let failures = self.journal.failures();
        let outcome = self.store.admin().delete(some, from, to).map(|_| there.len());
        let at = self.journal.len();
        for key in there.keys() {
            self.books.sent(at, key.clone(), None);
        }
        if outcome.is_err() {
            // A failed deletion may be partial: present samples may remain, or be deleted after the
            // next start.
            for (key, bits) in read(&self.store, some, from, to) {
                self.books.sent(at, key, Some(bits));
            }
        }
        match outcome {
            // The log failed before, and was not tried again.
            Err(StoreError::Unavailable(_)) if failures > 0 => self.check(),
            outcome => self.may_fail("deleted", failures, outcome),
        }
    }

    /// Removes deleted samples from the files of blocks.
    pub fn clean_tombstones(&mut self) {
        let failures = self.journal.failures();
        let outcome = self.store.admin().clean_tombstones();
        self.may_fail("tombstones carried out", failures, outcome);
    }

    /// Makes a snapshot and checks that it has the samples of the store.
    pub fn snapshot(&mut self) {
        self.snapshots += 1;
        let at = self.root.path().join(self.lives.to_string()).join("snapshots");
        let dir = at.join(self.snapshots.to_string());
        let failures = self.journal.failures();
        let outcome = self.store.admin().snapshot(&dir, true).map(|()| 1);
        if outcome.is_ok() {
            let copy = self.new_directory();
            copy_all(&dir, copy.path());
            let opened = StoreBuilder::new(
                options(copy.path().into(), 0),
                Arc::new(storage::disk::OsDisk),
                &Metrics::default(),
            )
            .manual_log(SEGMENT)
            .open();
            let found = everything(&opened.expect("a snapshot").0);
            self.books.check(&found, |_| true).unwrap_or_else(|e| panic!("in the snapshot: {e}"));
        }
        self.may_fail("snapshot made", failures, outcome);
    }

    /// Changes the retention time, or disables it.
    pub fn retain(&mut self) {
        self.retention = [0, 60_000, 120_000][self.random.below(3) as usize];
        self.store.retention().set(Retention { time_ms: self.retention, size_bytes: 0 });
    }

    /// Closes the store in order and opens it again.
    pub fn reopen(&mut self) {
        let closed = self.store.close().is_ok();
        if closed {
            self.books.synced(self.journal.len());
        }
        self.crash(UnsyncedChanges::Kept);
    }

    /// Ends the process or the power, and opens what remains in a new process.
    pub fn crash(&mut self, unsynced: UnsyncedChanges) {
        self.journal.kill();
        let changes = self.journal.changes();
        hash_changes(&changes, &mut self.hash);
        for change in changes.iter() {
            self.held.apply(change);
        }
        self.newest = self.books.newest().max(self.newest);
        self.lives += 1;
        let dir = self.root.path().join(self.lives.to_string());
        self.held.write_to(&dir, unsynced, &mut self.random);
        self.seen.insert(match unsynced {
            UnsyncedChanges::Kept => "killed",
            UnsyncedChanges::Lost => "all that is not synced lost",
            UnsyncedChanges::Some => "some of what is not synced lost",
        });
        let crash = if unsynced == UnsyncedChanges::Kept { Crash::Kill } else { Crash::PowerLoss };
        if crash == Crash::PowerLoss {
            self.held = DiskContent::scan(&dir);
        }
        self.books.crashed(crash);
        self.journal = Arc::new(Journal::new(&dir));
        let disk = Arc::new(HookedDisk(self.journal.clone()));
        let metrics = Metrics::default();
        let opened = StoreBuilder::new(options(dir.clone(), self.sync), disk, &metrics)
            .manual_log(SEGMENT)
            .open_before_replay();
        let (store, replaying) = opened.expect("it opens");
        let damaged = metrics.gauge("prometheus_tsdb_blocks_damaged", "", &[]).get();
        assert_eq!(
            damaged,
            0.0,
            "{unsynced:?}: {:?}",
            storage::block::BlockSet::open(Arc::new(storage::disk::OsDisk), &dir.join("blocks")).map(|b| b.1)
        );
        store.retention().set(Retention { time_ms: self.retention, size_bytes: 0 });
        self.store = store;
        self.during_replay.clear();
        self.replaying = Some(replaying);
        if self.random.chance(70) {
            self.replay();
        }
    }

    /// Replays the log, and checks the store.
    pub fn replay(&mut self) {
        let Some(replaying) = self.replaying.take() else { return };
        let replay = replaying.run().expect("a log");
        assert!(replay.damage.iter().all(|line| line.contains(": offset ")), "{:?}", replay.damage);
        assert!(!replay.damage.iter().any(|line| line.contains("are missing")), "{:?}", replay.damage);
        let found = everything(&self.store);
        let during_replay: BTreeSet<Key> = self
            .during_replay
            .drain(..)
            .map(|(key, bits)| {
                assert_eq!(found.get(&key), Some(&bits), "{key:?} came during the replay");
                key
            })
            .collect();
        // After a power loss, values that were not synced are no longer guaranteed.
        self.books.check_after(&found, usize::MAX, Crash::Kill).unwrap_or_else(|e| panic!("{e}\n{replay:?}"));
        self.books.take_over(&found);
        self.books.found(self.journal.len(), &during_replay);
        self.note(found);
    }

    /// A directory for what a crash leaves.
    pub fn new_directory(&self) -> TempDir {
        TempDir::new_in(self.root.path()).expect("a directory")
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let (from, to) = entry.map(|e| (e.path(), to.join(e.file_name()))).expect("a name");
        if from.is_dir() {
            std::fs::create_dir_all(&to).expect("a directory");
            copy_all(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a file");
        }
    }
}

/// A directory in memory if possible, where files are cheapest.
pub fn directory() -> TempDir {
    let shared = PathBuf::from("/dev/shm");
    let parent = if shared.is_dir() { shared } else { std::env::temp_dir() };
    TempDir::new_in(parent).expect("a directory")
}
