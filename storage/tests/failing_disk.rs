//! Tests a disk that fails: single calls, permanently, at a sync, or because it is full. No
//! acknowledged sample is lost, nothing is acknowledged before it is safe, reads continue, and the
//! store recovers together with the disk.
#![allow(clippy::disallowed_methods, reason = "real threads write the log here: the tests wait for them")]

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use storage::disk::{Disk, OsDisk};
use storage::limits::WAL_RETRY_MOST_MS;
use storage::metrics::Metrics;
use storage::model::{Labels, SeriesRef};
use storage::store::{
    AppendResult, ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, Store, StoreBuilder, StoreError,
};
use support::hooked::{Call, HookedDisk, Hooks};
use support::world::{SEGMENT, directory, options};
use support::{Sample, contents, copy, files, labels, try_contents};

/// A disk that fails on demand.
#[derive(Default)]
struct FlakyDisk {
    full: AtomicBool,
    torn: AtomicBool,
    sync_fails: AtomicBool,
    /// Whether removing files fails.
    stays: AtomicBool,
}

impl Hooks for FlakyDisk {
    fn before(&self, call: &Call) -> io::Result<()> {
        match call {
            Call::Append(..) if self.full.load(SeqCst) || self.torn.load(SeqCst) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Call::Sync(_) if self.sync_fails.swap(false, SeqCst) => Err(io::Error::other("bad sector")),
            Call::Remove(_) if self.stays.load(SeqCst) => Err(io::Error::other("bad sector")),
            _ => Ok(()),
        }
    }
    fn torn(&self, bytes: &[u8]) -> usize {
        if self.torn.swap(false, SeqCst) { bytes.len() / 2 } else { 0 }
    }
}

fn flaky_store(dir: &Path, sync: u64) -> (Arc<Store>, Arc<FlakyDisk>) {
    let mood = Arc::new(FlakyDisk::default());
    let disk = Arc::new(HookedDisk(mood.clone()));
    (Store::open(options(dir.into(), sync), disk, &Metrics::default()).unwrap().0, mood)
}

fn rows(store: &Store, t: i64) -> Vec<FloatRow> {
    (0..5)
        .map(|i| FloatRow { series: store.get_or_create_series(&labels(i)), t, v: (t * i as i64) as f64 })
        .collect()
}

fn samples(t: i64) -> impl Iterator<Item = Sample> {
    (0..5).map(move |i| (labels(i).to_string(), t, ((t * i as i64) as f64).to_bits()))
}

fn committed(store: &Store, lsn: u64) -> Result<(), StoreError> {
    let (send, receive) = channel();
    store.wal().on_committed(lsn, Box::new(move |fate| send.send(fate).unwrap()));
    receive.recv_timeout(Duration::from_secs(10)).expect("told of the fate")
}

fn reopened(dir: &Path) -> BTreeSet<Sample> {
    let (store, replay) = Store::open(options(dir.into(), 0), Arc::new(OsDisk), &Metrics::default()).unwrap();
    assert_eq!(replay.damage, Vec::<String>::new());
    contents(&store)
}

#[test]
fn failed_writes_and_syncs_lose_nothing_and_repeat_nothing() {
    for sync in [0, 20] {
        let dir = directory();
        let (store, mood) = flaky_store(dir.path(), sync);
        for t in 1..=60 {
            mood.torn.store(t % 20 == 7, SeqCst);
            mood.sync_fails.store(t % 20 == 14, SeqCst);
            let appended = store.append_rows(&rows(&store, t)).unwrap();
            committed(&store, appended.lsn).unwrap();
        }
        store.close().unwrap();
        assert_eq!(reopened(dir.path()), (1..=60).flat_map(samples).collect());
        assert!(OsDisk.list(&dir.path().join("wal")).unwrap().len() >= 4, "failed segments were ended");
    }
}

#[test]
fn a_full_disk_refuses_writes_answers_reads_and_resumes() {
    let dir = directory();
    let (store, mood) = flaky_store(dir.path(), 0);
    let append = |t| store.append_rows(&rows(&store, t));
    committed(&store, append(1).unwrap().lsn).unwrap();
    mood.full.store(true, SeqCst);
    let fate = committed(&store, append(2).unwrap().lsn);
    assert!(matches!(fate, Err(StoreError::Unavailable(_))), "{fate:?}");
    let refused = append(3).unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(contents(&store).len() >= 5, "reads go on");
    mood.full.store(false, SeqCst);
    let resumed = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        append(4).ok()
    });
    committed(&store, resumed.expect("resumes by itself").lsn).unwrap();
    store.close().unwrap();
    assert_eq!(reopened(dir.path()), contents(&store));
}

/// A file whose header was not written when the disk failed separates records that could not be
/// written from the records that they depend on.
#[test]
fn differences_behind_a_file_without_a_header_keep_what_they_rest_on() {
    // Such a file remains, is removed at the next start, or is removed by the next attempt.
    for (stays, stays_at_start) in [(true, true), (true, false), (false, false)] {
        differences_behind_a_file_without_a_header(stays, stays_at_start);
    }
}

fn differences_behind_a_file_without_a_header(stays: bool, stays_at_start: bool) {
    let dir = directory();
    let (store, mood) = flaky_store(dir.path(), 0);
    mood.stays.store(stays, SeqCst);
    let mut series: Vec<SeriesRef> = (0..100).map(|i| store.get_or_create_series(&labels(i))).collect();
    series.retain(|one| one.shard == 3);
    assert!(series.len() > 1);
    let group = store.open_group("target", 3);
    let layout = Arc::new(ColumnLayout { slots: series.iter().map(|series| series.slot).collect() });
    let scrape = |t: i64| {
        let values = (0..series.len()).map(|i| (t * i as i64) as f64).collect();
        store.append_columns(&ColumnBatch { group, layout: layout.clone(), t, values }, FeedDelivery::Feed)
    };
    committed(&store, scrape(1_000).unwrap().lsn).unwrap();
    mood.full.store(true, SeqCst);
    committed(&store, scrape(2_000).unwrap().lsn).unwrap_err();
    mood.full.store(false, SeqCst);
    let resumed = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        scrape(12_000).ok()
    });
    committed(&store, resumed.expect("resumes by itself").lsn).unwrap();
    committed(&store, scrape(16_000).unwrap().lsn).unwrap();
    let all = contents(&store);
    let killed = directory();
    copy(dir.path(), killed.path());
    let empty = || {
        let files = files(&killed.path().join("wal")).into_iter();
        files.filter(|file| file.metadata().unwrap().len() == 0).count()
    };
    assert_eq!(empty() > 0, stays, "a file whose header did not get in");
    let mood = Arc::new(FlakyDisk { stays: stays_at_start.into(), ..FlakyDisk::default() });
    let disk = Arc::new(HookedDisk(mood.clone()));
    let (again, _) = Store::open(options(killed.path().into(), 0), disk, &Metrics::default()).unwrap();
    assert_eq!(empty() > 0, stays_at_start);
    mood.stays.store(false, SeqCst);
    assert_eq!(
        again.maintenance().run_housekeeping(i64::MAX).unwrap(),
        1,
        "the first ten seconds become a block"
    );
    again.close().unwrap();
    assert_eq!(reopened(killed.path()), all);
}

/// A disk with a given number of bytes; removed and truncated bytes are free again.
struct SmallDisk {
    free: AtomicI64,
    kept: Mutex<std::collections::BTreeMap<std::path::PathBuf, i64>>,
}

impl SmallDisk {
    fn give_back(&self, path: &Path, left: i64) {
        if let Some(kept) = self.kept.lock().get_mut(path) {
            self.free.fetch_add(*kept - left.min(*kept), SeqCst);
            *kept = left.min(*kept);
        }
    }
}

impl Hooks for SmallDisk {
    fn before(&self, call: &Call) -> io::Result<()> {
        match call {
            Call::Append(_, bytes) if self.free.load(SeqCst) < bytes.len() as i64 => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
    fn after(&self, call: &Call) {
        match call {
            Call::Create(path) => self.give_back(path, 0),
            Call::Append(path, bytes) => {
                self.free.fetch_sub(bytes.len() as i64, SeqCst);
                *self.kept.lock().entry(path.to_path_buf()).or_default() += bytes.len() as i64;
            }
            Call::Remove(path) => self.give_back(path, 0),
            Call::Truncate(path, len) => self.give_back(path, *len as i64),
            _ => (),
        }
    }
    fn torn(&self, bytes: &[u8]) -> usize {
        self.free.load(SeqCst).clamp(0, bytes.len() as i64) as usize
    }
}

#[test]
fn a_disk_that_fills_up_to_the_last_byte_keeps_all_that_it_promised() {
    for bytes in [2_200, 2_201, 2_600, 4_500, 9_777] {
        let dir = directory();
        let disk = Arc::new(SmallDisk { free: bytes.into(), kept: Mutex::default() });
        let open = || {
            let disk = Arc::new(HookedDisk(disk.clone()));
            StoreBuilder::new(options(dir.path().into(), 0), disk, &Metrics::default())
                .manual_log(SEGMENT)
                .open()
        };
        let mut store = open().unwrap().0;
        let mut kept = BTreeSet::new();
        let mut refused = 0;
        for t in 1..200 {
            match store.append_rows(&rows(&store, t)) {
                Ok(appended) => {
                    store.wal().write_queued(t % 3 == 0);
                    let (send, receive) = channel();
                    store
                        .wal()
                        .on_committed(appended.lsn, Box::new(move |fate| send.send(fate.is_ok()).unwrap()));
                    if receive.try_recv() == Ok(true) {
                        kept.extend(samples(t));
                    }
                }
                Err(StoreError::Unavailable(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(!kept.is_empty() && refused > 100, "{bytes} bytes: {} kept, {refused} refused", kept.len());
        assert!(contents(&store).is_superset(&kept), "reads go on");
        if bytes > 2_200 {
            drop(store);
            store = open().unwrap().0;
            assert!(contents(&store).is_superset(&kept), "a start on a full disk reads");
        }
        disk.free.store(1 << 30, SeqCst);
        store.wal().write_queued(true);
        store.append_rows(&rows(&store, 200)).unwrap();
        store.wal().write_queued(true);
        kept.extend(samples(200));
        drop(store);
        let found = contents(&open().unwrap().0);
        assert!(found.is_superset(&kept), "{bytes} bytes");
        assert!((1..=200).flat_map(samples).collect::<BTreeSet<_>>().is_superset(&found));
    }
}

#[test]
fn a_failed_sync_acknowledges_nothing() {
    struct NoSync(AtomicBool);
    impl Hooks for NoSync {
        fn before(&self, call: &Call) -> io::Result<()> {
            let fails = matches!(call, Call::Sync(_)) && self.0.load(SeqCst);
            if fails { Err(io::Error::other("bad sector")) } else { Ok(()) }
        }
    }
    let dir = directory();
    let fails = Arc::new(NoSync(AtomicBool::new(true)));
    let disk = Arc::new(HookedDisk(fails.clone()));
    let (store, _) = StoreBuilder::new(options(dir.path().into(), 0), disk, &Metrics::default())
        .manual_log(SEGMENT)
        .open()
        .unwrap();
    let appended = store.append_rows(&rows(&store, 1)).unwrap();
    let (send, receive) = channel();
    store.wal().on_committed(appended.lsn, Box::new(move |fate| send.send(fate).unwrap()));
    store.wal().write_queued(false);
    let fate = receive.try_recv().expect("the fate is known");
    assert!(matches!(&fate, Err(StoreError::Unavailable(why)) if why.contains("bad sector")), "{fate:?}");
    let refused = store.append_rows(&rows(&store, 2)).unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    fails.0.store(false, SeqCst);
    store.wal().write_queued(true);
    store.append_rows(&rows(&store, 3)).unwrap();
    store.wal().write_queued(false);
    store.close().unwrap();
    assert_eq!(reopened(dir.path()), [1, 3].into_iter().flat_map(samples).collect());
}

/// A disk whose WAL syncs block until the test lets them end.
#[derive(Default)]
struct SlowSyncs {
    /// How many syncs may end.
    may_end: Mutex<u32>,
    changed: Condvar,
    /// How many syncs have begun.
    begun: AtomicI64,
}

impl SlowSyncs {
    fn let_go(&self, syncs: u32) {
        *self.may_end.lock() = syncs;
        self.changed.notify_all();
    }
}

impl Hooks for SlowSyncs {
    fn before(&self, call: &Call) -> io::Result<()> {
        if matches!(call, Call::Sync(path) if path.extension().is_some_and(|end| end == "wal")) {
            self.begun.fetch_add(1, SeqCst);
            let mut may_end = self.may_end.lock();
            while *may_end == 0 {
                self.changed.wait(&mut may_end);
            }
            *may_end -= 1;
        }
        Ok(())
    }
}

#[test]
fn what_is_not_synced_grows_older_while_a_sync_hangs() {
    let dir = directory();
    let slow = Arc::new(SlowSyncs::default());
    let metrics = Metrics::default();
    let disk = Arc::new(HookedDisk(slow.clone()));
    let (store, _) = Store::open(options(dir.path().into(), 20), disk, &metrics).unwrap();
    let age = metrics.gauge("perennial_wal_unsynced_seconds", "", &[]);
    let until = |what: &str, is: &dyn Fn() -> bool| {
        let reached = (0..1_000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            is()
        });
        let reached_at = age.get();
        if !reached {
            slow.let_go(u32::MAX);
        }
        assert!(reached, "{what}: {reached_at} s");
    };
    store.append_rows(&rows(&store, 1)).unwrap();
    until("it hangs", &|| slow.begun.load(SeqCst) == 1);
    store.append_rows(&rows(&store, 2)).unwrap();
    until("ten intervals and more", &|| age.get() > 0.3);
    let before = age.get();
    until("and on", &|| age.get() > before + 0.2);
    // The next sync blocks, too: what was appended during the first one is as old as that sync
    // took.
    slow.let_go(1);
    until("the next one hangs", &|| slow.begun.load(SeqCst) == 2);
    let at_once = age.get();
    slow.let_go(u32::MAX);
    assert!(at_once > 0.4, "{at_once} s");
    until("all is synced", &|| age.get() == 0.0);
    store.close().unwrap();
    assert_eq!(reopened(dir.path()), (1..=2).flat_map(samples).collect());
}

/// A disk whose writes or syncs fail until it recovers; the process dies after a number of calls.
struct FailingWrites {
    appends: AtomicBool,
    syncs: AtomicBool,
    calls: AtomicI64,
    made: AtomicI64,
}

impl FailingWrites {
    fn new(calls: i64) -> FailingWrites {
        FailingWrites { appends: false.into(), syncs: false.into(), calls: calls.into(), made: 0.into() }
    }
}

impl Hooks for FailingWrites {
    fn before(&self, call: &Call) -> io::Result<()> {
        if self.calls.fetch_sub(1, SeqCst) <= 0 {
            return Err(io::Error::other("dead"));
        }
        match call {
            Call::Append(..) if self.appends.load(SeqCst) => Err(io::ErrorKind::StorageFull.into()),
            Call::Sync(_) if self.syncs.load(SeqCst) => Err(io::Error::other("bad sector")),
            _ => Ok(()),
        }
    }
    fn after(&self, call: &Call) {
        if matches!(call, Call::Create(_)) {
            self.made.fetch_add(1, SeqCst);
        }
    }
    fn torn(&self, bytes: &[u8]) -> usize {
        if self.calls.load(SeqCst) > 0 { bytes.len() / 3 } else { 0 }
    }
    fn syncs(&self) -> bool {
        false
    }
}

fn segments(dir: &Path) -> usize {
    files(&dir.join("wal")).len()
}

/// Runs a log that works, fails for many attempts, and works again; returns the acknowledged
/// samples. The process dies after some calls. With `appends` writes fail, otherwise syncs do;
/// `synced`: something was synced before.
fn ill_for_long(
    dir: &Path,
    disk: &Arc<FailingWrites>,
    [appends, synced]: [bool; 2],
    attempts: usize,
) -> BTreeSet<Sample> {
    let opened =
        StoreBuilder::new(options(dir.into(), 100), Arc::new(HookedDisk(disk.clone())), &Metrics::default())
            .manual_log(1 << 20)
            .open();
    let Ok((store, _)) = opened else { return BTreeSet::new() };
    let mut kept = BTreeSet::new();
    let mut append = |t: i64, sync: bool| {
        let Ok(appended) = store.append_rows(&rows(&store, t)) else { return };
        store.wal().write_queued(sync);
        let (send, receive) = channel();
        store.wal().on_committed(appended.lsn, Box::new(move |fate| send.send(fate.is_ok()).unwrap()));
        if receive.try_recv() == Ok(true) {
            kept.extend(samples(t));
        }
    };
    append(1, synced);
    append(2, false);
    disk.appends.store(appends, SeqCst);
    disk.syncs.store(!appends, SeqCst);
    append(3, true);
    for _ in 0..attempts {
        store.wal().write_queued(true);
        // The failed segment, one attempt since, and possibly the next one if the process died
        // between two calls.
        let most = if disk.calls.load(SeqCst) > 0 { 2 } else { 3 };
        assert!(segments(dir) <= most, "{} files", segments(dir));
    }
    disk.appends.store(false, SeqCst);
    disk.syncs.store(false, SeqCst);
    store.wal().write_queued(true);
    append(4, false);
    kept
}

#[test]
fn a_log_that_fails_for_long_leaves_no_files_behind_and_may_be_killed_at_any_call() {
    for how in [[false, false], [false, true], [true, false], [true, true]] {
        let dir = directory();
        let kept = ill_for_long(dir.path(), &Arc::new(FailingWrites::new(i64::MAX)), how, 200);
        assert_eq!(kept, [1, 2, 4].into_iter().flat_map(samples).collect());
        assert_eq!(reopened(dir.path()), (1..=4).flat_map(samples).collect());
        for calls in 0.. {
            let dir = directory();
            let disk = Arc::new(FailingWrites::new(calls));
            let kept = ill_for_long(dir.path(), &disk, how, 3);
            let (store, replay) =
                Store::open(options(dir.path().into(), 0), Arc::new(OsDisk), &Metrics::default()).unwrap();
            let found = contents(&store);
            assert!(found.is_superset(&kept), "dead after {calls} calls: lost; {:?}", replay.damage);
            assert!((1..=4).flat_map(samples).collect::<BTreeSet<_>>().is_superset(&found));
            if disk.calls.load(SeqCst) > 0 {
                assert!(calls > 30, "{calls} calls");
                break;
            }
        }
    }
}

#[test]
fn a_log_that_fails_is_tried_again_more_and_more_rarely() {
    let dir = directory();
    let ill = Arc::new(FailingWrites::new(i64::MAX));
    let disk = Arc::new(HookedDisk(ill.clone()));
    let (store, _) = Store::open(options(dir.path().into(), 10), disk, &Metrics::default()).unwrap();
    ill.syncs.store(true, SeqCst);
    store.append_rows(&rows(&store, 1)).unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    let made = ill.made.load(SeqCst);
    assert!((3..=15).contains(&made), "{made} files in 1.5 s");
    ill.syncs.store(false, SeqCst);
    let most = Duration::from_millis(WAL_RETRY_MOST_MS + 1_000);
    let begun = std::time::Instant::now();
    while store.append_rows(&rows(&store, 2)).is_err() {
        assert!(begun.elapsed() < most, "it resumes by itself");
        std::thread::sleep(Duration::from_millis(10));
    }
    store.close().unwrap();
    assert_eq!(reopened(dir.path()), (1..=2).flat_map(samples).collect());
}

/// A disk that forgets: if a sync of a file fails, its unsynced content is lost in a power loss,
/// even if later syncs succeed.
#[derive(Default)]
struct Forgetful {
    /// How many of the next syncs of segments fail.
    failing: AtomicI64,
    /// Whether creating files fails.
    full: AtomicBool,
    doomed: Mutex<BTreeSet<std::ffi::OsString>>,
}

fn name(path: &Path) -> std::ffi::OsString {
    path.file_name().unwrap().to_owned()
}

impl Hooks for Forgetful {
    fn before(&self, call: &Call) -> io::Result<()> {
        match call {
            Call::Sync(path) if path.extension().is_some_and(|end| end == "wal") => {
                if self.failing.fetch_sub(1, SeqCst) > 0 {
                    self.doomed.lock().insert(name(path));
                    return Err(io::Error::other("bad sector"));
                }
                Ok(())
            }
            Call::Append(path, _) if self.full.load(SeqCst) && path.to_string_lossy().contains(".copy") => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
    fn after(&self, call: &Call) {
        if let Call::Rename(_, to) = call {
            self.doomed.lock().remove(&name(to));
        }
    }
}

impl Forgetful {
    fn open(self: &Arc<Self>, dir: &Path) -> Result<Arc<Store>, StoreError> {
        let disk = Arc::new(HookedDisk(self.clone()));
        let opened =
            StoreBuilder::new(options(dir.into(), 100), disk, &Metrics::default()).manual_log(SEGMENT).open();
        opened.map(|(store, _)| store)
    }

    /// Removes what a power loss would.
    fn lose_power(&self, dir: &Path) {
        for file in files(&dir.join("wal")).iter().filter(|file| self.doomed.lock().contains(&name(file))) {
            std::fs::write(file, b"").unwrap();
        }
    }
}

/// The files of a killed process that acknowledged samples without syncing them; `failing` of its
/// syncs failed.
fn killed_before_a_sync(disk: &Arc<Forgetful>, failing: i64) -> tempfile::TempDir {
    let dir = directory();
    let killed = directory();
    let store = disk.open(dir.path()).unwrap();
    store.append_rows(&rows(&store, 1)).unwrap();
    store.wal().write_queued(false);
    let (send, receive) = channel();
    store.wal().on_committed(store.wal().last_lsn(), Box::new(move |fate| send.send(fate.is_ok()).unwrap()));
    assert_eq!(receive.try_recv(), Ok(true), "acknowledged, and not synced");
    disk.failing.store(failing, SeqCst);
    if failing > 0 {
        store.wal().write_queued(true);
    }
    copy(dir.path(), killed.path());
    disk.failing.store(0, SeqCst);
    killed
}

#[test]
fn a_start_does_not_trust_a_sync_behind_one_that_failed() {
    // The sync fails at the start, or failed before the kill, together with that of the rewritten
    // records.
    for (before, at_start) in [(0, 1), (0, 2), (2, 0), (20, 0)] {
        let disk = Arc::new(Forgetful::default());
        let dir = killed_before_a_sync(&disk, before);
        disk.failing.store(at_start, SeqCst);
        let store = (0..5).find_map(|_| disk.open(dir.path()).ok()).expect("it opens");
        assert_eq!(contents(&store), samples(1).collect());
        disk.lose_power(dir.path());
        assert_eq!(reopened(dir.path()), samples(1).collect(), "{before} before, {at_start} at the start");
    }
}

#[test]
fn a_start_that_can_make_sure_of_nothing_says_so_and_the_next_one_knows() {
    let disk = Arc::new(Forgetful::default());
    let dir = killed_before_a_sync(&disk, 0);
    disk.failing.store(1, SeqCst);
    disk.full.store(true, SeqCst);
    for _ in 0..3 {
        let error = disk.open(dir.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains("00000001.wal") && error.contains("Copy the log's directory"), "{error}");
    }
    disk.full.store(false, SeqCst);
    assert_eq!(contents(&disk.open(dir.path()).unwrap()), samples(1).collect());
    disk.lose_power(dir.path());
    assert_eq!(reopened(dir.path()), samples(1).collect());
    let left = files(&dir.path().join("wal"))
        .into_iter()
        .filter(|path| !name(path).to_string_lossy().ends_with(".wal"));
    assert_eq!(left.count(), 0, "no note and no copy stays");
}

/// A disk on which one call fails, or all calls from that one on.
struct NthCallFails {
    left: AtomicI64,
    for_good: bool,
}

impl Hooks for NthCallFails {
    fn before(&self, _: &Call) -> io::Result<()> {
        let left = self.left.fetch_sub(1, SeqCst);
        if left == 0 || (left < 0 && self.for_good) { Err(io::Error::other("no")) } else { Ok(()) }
    }
    fn torn(&self, bytes: &[u8]) -> usize {
        bytes.len() / 3
    }
    fn syncs(&self) -> bool {
        false
    }
}

/// What was promised is read. A query that cannot read a block says so and names the file, and is
/// repeated: a disk that failed once answers then. If the disk fails for good, a healthy disk with
/// the same files has all of it.
fn assert_promised_is_read(store: &Store, dir: &Path, kept: &BTreeSet<Sample>, for_good: bool) {
    let failed_once = match try_contents(store) {
        Err(StoreError::Io { path, .. }) => {
            assert!(path.is_absolute(), "names the file: {path:?}");
            true
        }
        Err(other) => panic!("{other}"),
        Ok(found) => {
            assert!(found.is_superset(kept), "what was promised is read");
            false
        }
    };
    if !failed_once {
        return;
    }
    let read = try_contents(store).or_else(|error| {
        assert!(for_good, "a disk that failed once answers the second time: {error}");
        let healthy = directory();
        copy(dir, healthy.path());
        let options = options(healthy.path().into(), 0);
        let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default())?;
        try_contents(&store)
    });
    let found = read.expect("a healthy disk reads");
    assert!(found.is_superset(kept), "what was promised is read");
}

/// A short life: opens the store twice, appends, flushes, merges. Returns the acknowledged samples;
/// `None` if the store did not open.
fn live(dir: &Path, disk: &Arc<NthCallFails>) -> Option<BTreeSet<Sample>> {
    let mut kept = BTreeSet::new();
    let mut opened = false;
    let for_good = disk.for_good;
    for life in 0..2 {
        let disk = Arc::new(HookedDisk(disk.clone()));
        let opening =
            StoreBuilder::new(options(dir.into(), 0), disk, &Metrics::default()).manual_log(SEGMENT).open();
        let store = match opening {
            Ok((store, _)) => store,
            Err(StoreError::Io { .. }) => continue,
            Err(other) => panic!("{other}"),
        };
        opened = true;
        assert_promised_is_read(&store, dir, &kept, for_good);
        for t in (1..12).map(|i| life * 60_000 + i * 5_000) {
            let Ok(appended) = store.append_rows(&rows(&store, t)) else { continue };
            store.wal().write_queued(false);
            let (send, receive) = channel();
            store.wal().on_committed(appended.lsn, Box::new(move |fate| send.send(fate.is_ok()).unwrap()));
            if receive.try_recv() == Ok(true) {
                kept.extend(samples(t));
            }
            store.wal().write_queued(true);
        }
        let _ = store.maintenance().run_housekeeping(life * 60_000 + 51_000);
        let _ = store.maintenance().compact();
        assert_promised_is_read(&store, dir, &kept, for_good);
    }
    opened.then_some(kept)
}

fn fail_each(for_good: bool) {
    let mut most = 0;
    for n in 0.. {
        let dir = directory();
        let disk = Arc::new(NthCallFails { left: n.into(), for_good });
        let kept = live(dir.path(), &disk).unwrap_or_default();
        let all: BTreeSet<Sample> = (0..2)
            .flat_map(|life| (1..12).map(move |i| life * 60_000 + i * 5_000))
            .flat_map(samples)
            .collect();
        let (store, replay) =
            Store::open(options(dir.path().into(), 0), Arc::new(OsDisk), &Metrics::default()).unwrap();
        let found = contents(&store);
        assert!(found.is_superset(&kept), "call {n} fails: lost; {:?}", replay.damage);
        assert!(all.is_superset(&found), "call {n} fails: made up");
        most = most.max(kept.len());
        if disk.left.load(SeqCst) >= 0 {
            eprintln!("each of {n} calls failed, {}", if for_good { "for good" } else { "once" });
            assert!(n > 200 && most == all.len(), "{n} calls, {most} samples");
            break;
        }
    }
}

#[test]
fn each_call_that_fails_once_costs_nothing_that_was_promised() {
    fail_each(false);
}

#[test]
fn each_call_from_which_on_all_fail_costs_nothing_that_was_promised() {
    fail_each(true);
}

/// A disk that fails at the end of a flush.
#[derive(Default)]
struct AtTheEnd {
    /// Whether writing checkpoints fails.
    full: AtomicBool,
    /// Whether the sync fails that makes a new block durable.
    unsure: AtomicBool,
    placed: AtomicBool,
    /// Whether only the first block can be renamed to its final name.
    one_block: AtomicBool,
    blocks: AtomicUsize,
}

impl Hooks for AtTheEnd {
    fn before(&self, call: &Call) -> io::Result<()> {
        match call {
            Call::Append(path, _) if path.ends_with("checkpoint.tmp") && self.full.load(SeqCst) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Call::SyncDir(path) if path.ends_with("blocks") && self.placed.swap(false, SeqCst) => {
                Err(io::Error::other("bad sector"))
            }
            Call::Rename(_, to) if to.parent().is_some_and(|dir| dir.ends_with("blocks")) => {
                let first = self.blocks.fetch_add(1, SeqCst) == 0;
                if first || !self.one_block.load(SeqCst) {
                    Ok(())
                } else {
                    Err(io::ErrorKind::StorageFull.into())
                }
            }
            _ => Ok(()),
        }
    }
    fn after(&self, call: &Call) {
        if let Call::Rename(_, to) = call
            && to.parent().is_some_and(|dir| dir.ends_with("blocks"))
            && self.unsure.swap(false, SeqCst)
        {
            self.placed.store(true, SeqCst);
        }
    }
}

const RANGE: i64 = 7_200_000;

/// A store with two ranges that are complete at `3 * RANGE`.
fn complete(dir: &Path) -> (Arc<Store>, Arc<AtTheEnd>) {
    let hooks = Arc::new(AtTheEnd::default());
    let options = storage::store::StoreOptions { block_range_ms: RANGE, ..options(dir.into(), 0) };
    let store = Store::open(options, Arc::new(HookedDisk(hooks.clone())), &Metrics::default()).unwrap().0;
    for t in (0..6).map(|half| half * RANGE / 2) {
        store.append_rows(&rows(&store, t)).unwrap();
    }
    (store, hooks)
}

#[test]
fn a_log_that_could_not_be_shortened_is_shortened_later() {
    let dir = directory();
    let (store, hooks) = complete(dir.path());
    let checkpoints = || {
        let files = OsDisk.list(&dir.path().join("wal")).unwrap();
        files.iter().filter(|path| path.display().to_string().contains("checkpoint")).count()
    };
    hooks.full.store(true, SeqCst);
    assert!(store.maintenance().run_housekeeping(3 * RANGE).is_err());
    assert!(store.maintenance().run_housekeeping(3 * RANGE).is_err(), "it is tried again");
    assert_eq!(checkpoints(), 0, "what was begun takes no room");
    hooks.full.store(false, SeqCst);
    store.maintenance().run_housekeeping(3 * RANGE).unwrap();
    assert_eq!(checkpoints(), 1);
    let before = contents(&store);
    store.close().unwrap();
    assert_eq!(reopened(dir.path()), before);
}

#[test]
fn a_block_that_may_not_be_durable_does_not_come_back() {
    let dir = directory();
    let (store, hooks) = complete(dir.path());
    hooks.unsure.store(true, SeqCst);
    assert!(store.maintenance().run_housekeeping(3 * RANGE).is_err());
    store.admin().delete(&[storage::model::Matcher::equal("i", "0")], 0, RANGE).unwrap();
    store.maintenance().run_housekeeping(3 * RANGE).unwrap();
    let before = contents(&store);
    assert!(before.len() < 30, "some are deleted: {}", before.len());
    store.close().unwrap();
    assert_eq!(reopened(dir.path()), before);
}

/// Tries to correct all samples at some times; returns the number of corrections and the samples
/// afterwards.
fn corrected(store: &Store, times: &[i64]) -> (usize, BTreeSet<Sample>) {
    let all = times.iter().flat_map(|t| rows(store, *t));
    let all: Vec<_> = all.map(|row| FloatRow { v: -1.0, ..row }.corrected()).collect();
    (store.recorder().correct(&all).unwrap(), contents(store))
}

#[test]
fn what_a_flush_has_written_before_it_failed_is_corrected_no_more() {
    let dir = directory();
    let (store, hooks) = complete(dir.path());
    hooks.one_block.store(true, SeqCst);
    assert!(store.maintenance().run_housekeeping(3 * RANGE).is_err(), "the second range finds no room");
    let each = rows(&store, 0).len();
    let (refused, before) = corrected(&store, &[0, RANGE]);
    assert_eq!(refused, each, "of the first range, which is in a block");
    hooks.one_block.store(false, SeqCst);
    store.maintenance().run_housekeeping(3 * RANGE).unwrap();
    assert_eq!(contents(&store), before, "the flush brings nothing back");
    store.close().unwrap();
    assert_eq!(reopened(dir.path()), before);
}

#[test]
fn what_a_block_has_that_no_checkpoint_speaks_of_is_corrected_no_more() {
    let dir = directory();
    let (store, hooks) = complete(dir.path());
    hooks.full.store(true, SeqCst);
    assert!(store.maintenance().run_housekeeping(3 * RANGE).is_err(), "blocks are there, and no checkpoint");
    store.close().unwrap();
    drop(store);
    let options = storage::store::StoreOptions { block_range_ms: RANGE, ..options(dir.path().into(), 0) };
    let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap();
    let each = rows(&store, 0).len();
    let (refused, before) = corrected(&store, &[0, RANGE, 2 * RANGE]);
    assert_eq!(refused, 2 * each, "of both ranges that are in blocks");
    store.maintenance().run_housekeeping(3 * RANGE).unwrap();
    assert_eq!(contents(&store), before, "the flush brings nothing back");
    store.close().unwrap();
    assert_eq!(reopened(dir.path()), before);
}

/// Appends a sample while a block is renamed to its final name.
#[derive(Default)]
struct Meanwhile {
    store: OnceLock<Weak<Store>>,
    row: Mutex<Option<FloatRow>>,
    became: Mutex<Option<AppendResult>>,
}

impl Hooks for Meanwhile {
    fn before(&self, call: &Call) -> io::Result<()> {
        let Call::Rename(_, to) = call else { return Ok(()) };
        if let Some(row) = self.row.lock().take_if(|_| to.parent().is_some_and(|dir| dir.ends_with("blocks")))
        {
            let store = self.store.get().and_then(Weak::upgrade).unwrap();
            *self.became.lock() = Some(store.append_rows(&[row]).unwrap());
        }
        Ok(())
    }
}

#[test]
fn what_comes_at_a_deleted_time_while_that_becomes_a_block_is_not_said_to_be_stored() {
    let dir = directory();
    let hooks = Arc::new(Meanwhile::default());
    let options = storage::store::StoreOptions { block_range_ms: RANGE, ..options(dir.path().into(), 0) };
    let store = Store::open(options, Arc::new(HookedDisk(hooks.clone())), &Metrics::default()).unwrap().0;
    // The series has no other sample, so this one is not too old by itself.
    let series = store.get_or_create_series(&Labels::from_pairs([("__name__", "ended")]));
    let row = FloatRow { series, t: 7, v: 1.0 };
    assert_eq!(store.append_rows(&[row]).unwrap().stored, 1);
    for t in (0..6).map(|half| half * RANGE / 2) {
        store.append_rows(&rows(&store, t)).unwrap();
    }
    store.admin().delete(&[storage::model::Matcher::equal("__name__", "ended")], 0, 10).unwrap();
    let before = contents(&store);
    hooks.store.set(Arc::downgrade(&store)).unwrap();
    *hooks.row.lock() = Some(row);
    store.maintenance().run_housekeeping(3 * RANGE).unwrap();
    let became = hooks.became.lock().take().expect("it came");
    assert_eq!((became.stored, became.too_old), (0, 1));
    assert_eq!(contents(&store), before);
}
