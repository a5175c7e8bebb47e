//! The world: what survives a life of the server: disk, clock, targets and Alertmanager, what
//! clients know, and the seed.

use super::clock::WallClock;
use super::directory;
use super::hooked::HookedDisk;
use super::journal::{Change, DiskContent, Journal, UnsyncedChanges};
use super::ledger::{Contents, Ledger};
use super::peers::{ALERTMANAGER, Peers, TARGETS};
use super::random::Random;
use super::recorded;
use super::trace::Trace;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::model::{Matcher, SHARDS, TimeMs};
use storage::store::Store;
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

const FIRST: TimeMs = 1_795_000_000_000;
/// The number of lives of a server.
const LIVES: u64 = 3;
/// One in this many worlds has a damaged block before the last life.
const DAMAGED: u64 = 4;
/// The kinds of events that must occur in some of 50 seeds.
pub const KINDS: [&str; 16] = [
    "write acknowledged",
    "query answered",
    "live compared",
    "recorded compared",
    "asked compared",
    "late sample",
    "alert delivered",
    "alert pending and firing",
    "reloaded",
    "clock jumped",
    "disk failed",
    "block written",
    "block damaged",
    "killed",
    "power lost",
    "closed",
];

/// How a life ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum End {
    Kill,
    PowerLoss,
    Close,
}

/// What survives a process.
pub struct World {
    seed: u64,
    pub random: Random,
    root: PathBuf,
    /// The directory of all worlds.
    _worlds: Arc<TempDir>,
    lives: u64,
    /// The content of the disk when this life began.
    held: DiskContent,
    pub journal: Arc<Journal>,
    pub clock: Arc<WallClock>,
    pub trace: Arc<Trace>,
    pub peers: Arc<Peers>,
    pub ledger: Arc<Mutex<Ledger>>,
    /// Whether the WAL is synced before each acknowledgement.
    pub careful: bool,
    /// Whether the clock jumps: then the times of alerts are checked less strictly.
    pub jumps: bool,
    pub seen: BTreeSet<&'static str>,
    /// How long a target must be hot for the alert to fire, s.
    pub hold: u64,
    /// Whether a block is damaged, so that results may lack its samples.
    pub damaged: bool,
}

/// The initial value of [`World::hold`], s.
const HOLD: u64 = 20;

impl World {
    /// The world of a seed, in a directory with a name per `purpose`, because names are part of
    /// what is stored.
    pub fn new(purpose: &str, seed: u64) -> World {
        let worlds = directory::enter();
        let root = Path::new(purpose).join(seed.to_string());
        let trace = Arc::new(Trace::new(seed));
        let clock = Arc::new(WallClock::at(FIRST));
        let data = root.join("0");
        std::fs::create_dir_all(&data).expect("a directory");
        let world = World {
            seed,
            random: Random::new(seed),
            lives: 0,
            held: DiskContent::scan(&data),
            journal: Arc::new(Journal::new(&data)),
            peers: Peers::new(clock.clone(), trace.clone(), seed),
            clock,
            trace,
            ledger: Arc::default(),
            careful: seed.is_multiple_of(2),
            jumps: seed.is_multiple_of(3),
            seen: BTreeSet::new(),
            hold: HOLD,
            damaged: false,
            root,
            _worlds: worlds,
        };
        world.configure(TARGETS.len(), HOLD);
        world
    }

    /// Writes a configuration with this many targets, and this time (s) until the alert fires.
    pub fn configure(&self, targets: usize, hold: u64) {
        let quoted: Vec<String> = TARGETS[..targets].iter().map(|host| format!("'{host}:80'")).collect();
        let (first, second) = quoted.split_at(targets / 2);
        let config = format!(
            "global:\n  scrape_interval: 5s\n  scrape_timeout: 2s\n  evaluation_interval: 5s\n  external_labels: {{site: sim}}\n\
             rule_files: [rules.yml]\n\
             storage:\n  tsdb:\n    out_of_order_time_window: 10m\n\
             scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: [{}]\n- job_name: b\n  static_configs:\n  - targets: [{}]\n\
             alerting:\n  alertmanagers:\n  - timeout: 5s\n    static_configs:\n    - targets: ['{ALERTMANAGER}:80']\n",
            first.join(", "),
            second.join(", "),
        );
        let rules = format!(
            "groups:\n- name: g\n  rules:\n\
             \x20 - record: job:temperature:sum\n    expr: sum by (job) (temperature)\n\
             \x20 - record: instance:steps:rate\n    expr: rate(steps_total[30s])\n\
             \x20 - record: job:temperature:max\n    expr: max_over_time(sum by (job) (temperature)[30s:5s])\n\
             \x20 - alert: Hot\n    expr: temperature > 50\n    for: {hold}s\n\
             \x20 - record: {}\n    expr: {}\n\
             {}",
            recorded::OF_ALERTS.name,
            recorded::OF_ALERTS.expr,
            recorded::group(),
        );
        std::fs::write(self.root.join("prometheus.yml"), config).expect("a configuration");
        std::fs::write(self.root.join("rules.yml"), rules).expect("rules");
    }

    /// The command line of the server.
    pub fn arguments(&self) -> Vec<String> {
        let sync = if self.careful { "batch" } else { "100ms" };
        let config = self.root.join("prometheus.yml");
        vec![
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", self.data().display()),
            format!("--storage.wal-sync-interval={sync}"),
            "--storage.tsdb.min-block-duration=1m".to_owned(),
            "--storage.tsdb.no-lockfile".to_owned(),
            "--web.enable-remote-write-receiver".to_owned(),
            "--web.enable-lifecycle".to_owned(),
            "--web.enable-admin-api".to_owned(),
            "--alertmanager.drain-notification-queue-on-shutdown=false".to_owned(),
            "--query.max-bytes=64MB".to_owned(),
            "--query.max-total-bytes=128MB".to_owned(),
        ]
    }

    fn data(&self) -> PathBuf {
        self.root.join(self.lives.to_string())
    }

    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(HookedDisk(self.journal.clone()))
    }

    /// A number that differs for every life of every seed.
    pub fn salt(&self) -> u64 {
        self.seed.wrapping_mul(0x9E37_79B9) ^ (self.lives << 32)
    }

    pub fn goes_on(&self) -> bool {
        self.lives < LIVES
    }

    /// Ends the process, and perhaps the power; the next process finds what remains.
    pub fn crash(&mut self, end: End) {
        self.journal.kill();
        let changes = self.journal.changes();
        for change in changes.iter() {
            self.trace.note(&outline(change));
        }
        let is_block = |change: &Change| matches!(change, Change::Rename(_, to) if to.starts_with("blocks"));
        if changes.iter().any(is_block) {
            self.seen.insert("block written");
        }
        self.trace.note(&format!("{end:?} after {} changes", changes.len()));
        for change in changes.iter() {
            self.held.apply(change);
        }
        self.lives += 1;
        let unsynced = match end {
            End::PowerLoss if self.random.chance(50) => UnsyncedChanges::Lost,
            End::PowerLoss => UnsyncedChanges::Some,
            End::Kill | End::Close => UnsyncedChanges::Kept,
        };
        self.held.write_to(&self.data(), unsynced, &mut self.random);
        if end == End::PowerLoss {
            self.held = DiskContent::scan(&self.data());
            self.ledger.lock().power_lost();
        }
        if self.lives + 1 == LIVES && self.seed % DAMAGED == 1 {
            self.damage();
        }
        self.journal = Arc::new(Journal::new(&self.data()));
        self.seen.insert(match end {
            End::Kill => "killed",
            End::PowerLoss => "power lost",
            End::Close => "closed",
        });
    }

    /// Changes a byte in the middle of a file of a block.
    fn damage(&mut self) {
        let blocks = files(&self.data().join("blocks"));
        if blocks.is_empty() {
            return;
        }
        let path = &blocks[self.random.below(blocks.len() as u64) as usize];
        let mut bytes = std::fs::read(path).expect("a file");
        let at = bytes.len() / 2;
        bytes[at] ^= 0x10;
        std::fs::write(path, bytes).expect("a file");
        self.trace.note(&format!("{} is damaged", path.display()));
        self.damaged = true;
        self.seen.insert("block damaged");
    }

    /// The files of this world that the program has open.
    pub fn open_files(&self) -> Vec<PathBuf> {
        let root = std::env::current_dir().expect("a directory").join(&self.root);
        let open = std::fs::read_dir("/proc/self/fd").expect("a list of open files");
        // Other threads close their files meanwhile, so an entry may be gone.
        let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|path| path.starts_with(&root)).collect()
    }

    /// Ends the world; returns a hash of the trace, and the kinds of events that occurred.
    pub fn end(mut self) -> (u64, BTreeSet<&'static str>) {
        self.seen.extend(self.peers.seen());
        (self.trace.hash(), std::mem::take(&mut self.seen))
    }

    /// Checks that the server has the samples that the ledger requires.
    pub fn check_written(&self, store: &Store) {
        let found = written(store);
        let checked = self.ledger.lock().check(&found, TimeMs::MIN, TimeMs::MAX);
        checked.unwrap_or_else(|error| panic!("{error}, at {}", self.clock.now()));
    }
}

/// A change of the disk in one line.
fn outline(change: &Change) -> String {
    match change {
        Change::Append(path, bytes) => {
            format!("append {} bytes {:016x} to {}", bytes.len(), xxh3_64(bytes), path.display())
        }
        other => format!("{other:?}"),
    }
}

/// The files in a directory and below, in the order of their names.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    paths.into_iter().flat_map(below).filter(|path| path.metadata().is_ok_and(|m| m.len() > 0)).collect()
}

/// All samples of the series `w`.
pub fn written(store: &Store) -> Contents {
    let mut all = Contents::new();
    let matchers = [Matcher::equal("__name__", "w")];
    for shard in 0..SHARDS {
        let selection = store.select(shard, &matchers, TimeMs::MIN, TimeMs::MAX).expect("an answer");
        for (at, labels) in selection.labels.iter().enumerate() {
            let mut times = Vec::new();
            let mut values = Vec::new();
            selection.read(at, TimeMs::MIN, TimeMs::MAX, &mut times, &mut values).expect("samples");
            for (t, v) in times.iter().zip(&values) {
                let twice = all.insert((labels.get("i").unwrap_or_default().to_owned(), *t), v.to_bits());
                assert_eq!(twice, None, "{labels} at {t}");
            }
        }
    }
    all
}

impl Drop for World {
    fn drop(&mut self) {
        // The next world with this name must begin empty. What cannot be removed here is removed
        // with the directory of all worlds.
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
