//! A stalled disk delays no tick and no alert: recorded samples are visible at once, alerts are
//! sent, and everything is on disk once the disk works again.

use api::services::StoreReadiness;
use engine::live::{LiveOptions, LiveRuntime};
use engine::query::{Querier, QueryOptions, QueryValue};
use parking_lot::Mutex;
use promql::{PromqlLanguage, PromqlOptions, compile};
use rules::active_rules::ActiveRules;
use rules::alert_persistence::AlertStateFile;
use rules::event_queue::RuleEventQueue;
use rules::file::{GroupDefaults, compiler, parse};
use rules::manager::{RuleManagerOptions, RuleServices};
use rules::services::{AlertNotification, AlertSender};
use rules::template::TemplateQuery;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use storage::clock::ManualClock;
use storage::disk::{Disk, DiskFile, OsDisk, ReadFile};
use storage::durable_map::DurableMap;
use storage::metrics::Metrics;
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{ColumnBatch, ColumnLayout, FloatRow, Store, StoreError};

const START: TimeMs = 1_700_000_000_000;
/// Far longer than the measured work takes, and far shorter than one wait per tick would take.
const LONG: Duration = Duration::from_secs(60);
const RULES: &str = r#"
groups:
- name: g
  interval: 1s
  rules:
  - {record: "level:max", expr: max(level)}
  - {alert: High, expr: "level:max > 100"}
"#;

/// A disk whose writes and syncs stall while the flag is set.
#[derive(Clone, Default)]
struct SlowDisk(Arc<AtomicBool>);

/// Lets the disk work when the test ends, even if it fails: the store waits for the disk.
struct Release(SlowDisk);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.0.store(false, SeqCst);
    }
}

struct SlowFile(Box<dyn DiskFile>, Arc<AtomicBool>);

impl SlowFile {
    fn stand_still(&self) {
        while self.1.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl DiskFile for SlowFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stand_still();
        self.0.append(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.stand_still();
        self.0.sync()
    }
}

impl Disk for SlowDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SlowFile(OsDisk.create(path)?, self.0.clone())))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        OsDisk.read(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        OsDisk.open(path)
    }
    fn is_dir(&self, path: &Path) -> bool {
        OsDisk.is_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        OsDisk.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_dir(path)
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        OsDisk.truncate(path, len)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.sync_dir(path)
    }
}

#[derive(Default)]
struct SentAlerts(Mutex<Vec<AlertNotification>>);
impl AlertSender for SentAlerts {
    fn send(&self, alerts: Vec<AlertNotification>) {
        self.0.lock().extend(alerts);
    }
}

struct NoQuery;
impl TemplateQuery for NoQuery {
    fn query(&self, _: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, rules::TemplateQueryError> {
        Err(rules::TemplateQueryError::Text("not asked for".to_owned()))
    }
}

struct Fixture {
    disk: SlowDisk,
    store: Arc<Store>,
    live: LiveRuntime,
    sent: Arc<SentAlerts>,
    core: ActiveRules,
    level: SeriesRef,
}

impl Fixture {
    fn open(dir: &Path) -> Fixture {
        let options = storage::store::StoreOptions {
            dir: dir.to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 1_800_000,
        };
        let disk = SlowDisk::default();
        let metrics = Metrics::default();
        let (store, _) = Store::open(options, Arc::new(disk.clone()), &metrics).unwrap();
        let live = LiveRuntime::manual(store.clone(), &LiveOptions::default(), &metrics).unwrap();
        let sent = Arc::new(SentAlerts::default());
        let (map, _) = DurableMap::open(Arc::new(disk.clone()), dir.join("alerts.keep"), &metrics).unwrap();
        let ports = RuleServices {
            views: Arc::new(live.clone()),
            store: store.clone(),
            memory: Arc::new(AlertStateFile::new(map, None)),
            notify: sent.clone(),
            query: Arc::new(NoQuery),
            clock: Arc::new(ManualClock::at(START)),
            metrics,
            tracer: Default::default(),
        };
        let language = PromqlLanguage::default();
        let compile = compiler(&language);
        let groups = parse("r.yml", RULES, GroupDefaults { interval: 1_000, query_offset: 0 }, &compile)
            .unwrap()
            .groups;
        let mut core =
            ActiveRules::new(ports, RuleManagerOptions::default(), Arc::new(RuleEventQueue::default()));
        core.apply(groups, &Labels::default(), START).unwrap();
        let level = store.get_or_create_series(&Labels::from_pairs([("__name__", "level"), ("job", "j")]));
        Fixture { disk, store, live, sent, core, level }
    }

    /// Runs a tick at which `level` has this value; returns what the rule recorded at it.
    fn tick(&mut self, second: i64, level: f64) -> Option<f64> {
        let t = START + second * 1_000;
        // If the write-ahead log is full, an append is rejected after a wait; in this test only
        // ticks must not wait.
        let batch = ColumnBatch {
            group: self.store.open_group("level", self.level.shard),
            layout: Arc::new(ColumnLayout { slots: vec![self.level.slot] }),
            t,
            values: vec![level].into(),
        };
        self.store.recorder().append_columns(&batch).unwrap();
        self.live.tick(t);
        self.core.step(t);
        let plan = compile("level:max", &PromqlOptions::default()).unwrap();
        let answer = Querier::new(self.store.clone(), 1).instant(&plan, t, &QueryOptions::default()).unwrap();
        let QueryValue::Vector(rows) = answer.value else { panic!("not a vector") };
        rows.first().map(|row| row.v)
    }

    /// Runs ticks until an alert was sent: a resolved one, or a firing one.
    fn wait_sent(&mut self, second: i64, resolved: bool) {
        let began = Instant::now();
        while !self.sent.0.lock().iter().any(|alert| alert.resolved == resolved) {
            assert!(began.elapsed() < LONG, "never told");
            std::thread::sleep(Duration::from_millis(1));
            self.core.step(START + second * 1_000);
        }
    }

    /// Appends until the write-ahead log accepts no more.
    fn fill_the_log(&self) {
        let series: Vec<SeriesRef> = (0..200_000)
            .map(|i| {
                Labels::from_pairs([
                    ("__name__", "ballast".to_owned()),
                    ("job", "j".to_owned()),
                    ("i", i.to_string()),
                ])
            })
            .map(|labels| self.store.get_or_create_series(&labels))
            .collect();
        for round in 0i64.. {
            let value = |i: usize| {
                f64::from_bits(
                    0x3ff0_0000_0000_0000
                        | (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ round as u64) >> 12,
                )
            };
            let row = |(i, series): (usize, &SeriesRef)| FloatRow {
                series: *series,
                t: START + round,
                v: value(i),
            };
            let rows: Vec<FloatRow> = series.iter().enumerate().map(row).collect();
            match self.store.append_rows(&rows) {
                Ok(_) => {}
                Err(StoreError::Unavailable(why)) => return assert_eq!(why, "the disk does not keep up"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_disk_that_stands_still_delays_no_tick_and_no_alert() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(dir.path());
    let release = Release(fixture.disk.clone());
    assert_eq!(fixture.tick(1, 1.0), Some(1.0));
    fixture.disk.0.store(true, SeqCst);
    let began = Instant::now();
    for second in 2..20 {
        assert_eq!(fixture.tick(second, second as f64), Some(second as f64));
    }
    fixture.tick(20, 200.0);
    fixture.wait_sent(20, false);
    assert_eq!(fixture.sent.0.lock()[0].starts_at, START + 20_000);
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());

    fixture.fill_the_log();
    let began = Instant::now();
    for second in 21..121 {
        assert_eq!(
            fixture.tick(second, second as f64 + 200.0),
            Some(second as f64 + 200.0),
            "the reserve is theirs"
        );
    }
    fixture.tick(121, 1.0);
    fixture.wait_sent(121, true);
    // A hundred ticks; each would wait two seconds if a tick waited for the disk.
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());

    drop(release);
    fixture.live.stop();
    drop(fixture.core);
    fixture.store.close().unwrap();
    drop(fixture.store);
    let mut fixture = Fixture::open(dir.path());
    let plan = compile("count_over_time(level:max[5m])", &PromqlOptions::default()).unwrap();
    let t = START + 121_000;
    let answer = Querier::new(fixture.store.clone(), 1).instant(&plan, t, &QueryOptions::default()).unwrap();
    let QueryValue::Vector(rows) = answer.value else { panic!("not a vector") };
    assert_eq!(rows[0].v, 121.0, "everything that was recorded is on disk");
    fixture.core.step(t);
    fixture.live.stop();
}

#[tokio::test]
async fn nobody_is_told_what_is_not_in_the_log_yet() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    let release = Release(fixture.disk.clone());
    let settled = || StoreReadiness::wait_committed(fixture.store.as_ref());
    settled().await;
    fixture.disk.0.store(true, SeqCst);
    let row = FloatRow { series: fixture.level, t: START, v: 1.0 };
    fixture.store.append_rows(&[row]).unwrap();
    let mut waits = settled();
    let soon = tokio::time::timeout(Duration::from_millis(100), &mut waits);
    assert!(soon.await.is_err(), "the sample is visible and not in the log");
    drop(release);
    waits.await;
    settled().await;
    let log = dir.path().join("wal/00000001.wal");
    assert!(std::fs::metadata(log).unwrap().len() > 32, "the record is in the file");
    fixture.live.stop();
}
