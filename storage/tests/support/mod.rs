//! Helpers of the store's tests: a store on any disk, samples that are durable on return, the
//! content of a store, and disks: [`hooked`] is their base, [`Mortal`] kills the process,
//! [`journal`] simulates power losses.
//!
//! [`world`] is a store without threads, with [`books`] of its guarantees.

pub mod books;
pub mod hooked;
pub mod journal;
pub mod objects;
pub mod random;
pub mod world;

use hooked::{Call, Hooks};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::mpsc::channel;
use storage::block::{BlockMeta, BlockSet};
use storage::disk::{Disk, OsDisk};
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, SHARDS};
use storage::store::{FloatRow, Selection, Store, StoreError, StoreOptions};

pub const RANGE: i64 = 10_000;

pub fn open_on(dir: &Path, disk: Arc<dyn Disk>) -> (Arc<Store>, Metrics) {
    let metrics = Metrics::default();
    let options = StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 5,
        block_range_ms: RANGE,
        out_of_order_ms: 29_000,
    };
    let (store, replay) = Store::open(options, disk, &metrics).unwrap();
    assert_eq!(replay.damage, Vec::<String>::new());
    assert_eq!(metrics.gauge("prometheus_tsdb_blocks_damaged", "", &[]).get(), 0.0);
    (store, metrics)
}

pub fn open(dir: &Path) -> (Arc<Store>, Metrics) {
    open_on(dir, Arc::new(OsDisk))
}

pub fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

/// Appends samples of some series at `t`; on return they are in the log files.
pub fn append(store: &Store, t: i64, series: usize) {
    let rows: Vec<FloatRow> = (0..series)
        .map(|i| FloatRow {
            series: store.get_or_create_series(&labels(i)),
            t,
            v: (t * 31 + i as i64) as f64 / 7.0,
        })
        .collect();
    let lsn = store.append_rows(&rows).unwrap().lsn;
    let (send, receive) = channel();
    store.wal().on_committed(lsn, Box::new(move |fate| send.send(fate).unwrap()));
    receive.recv().unwrap().unwrap();
}

pub type Sample = (String, i64, u64);

pub fn selections(store: &Store) -> Vec<Selection> {
    try_selections(store).unwrap()
}

fn try_selections(store: &Store) -> Result<Vec<Selection>, StoreError> {
    let all = [Matcher::equal("__name__", "m")];
    (0..SHARDS).map(|shard| store.select(shard, &all, i64::MIN, i64::MAX)).collect()
}

pub fn read(selections: &[Selection]) -> BTreeSet<Sample> {
    try_read(selections).unwrap()
}

fn try_read(selections: &[Selection]) -> Result<BTreeSet<Sample>, StoreError> {
    let mut all = BTreeSet::new();
    for selection in selections {
        for (i, labels) in selection.labels.iter().enumerate() {
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            selection.read(i, i64::MIN, i64::MAX, &mut ts, &mut vs)?;
            all.extend(ts.iter().zip(&vs).map(|(t, v)| (labels.to_string(), *t, v.to_bits())));
        }
    }
    Ok(all)
}

pub fn contents(store: &Store) -> BTreeSet<Sample> {
    read(&selections(store))
}

/// As [`contents`], from a disk that may fail.
pub fn try_contents(store: &Store) -> Result<BTreeSet<Sample>, StoreError> {
    try_read(&try_selections(store)?)
}

pub fn metas(dir: &Path) -> Vec<BlockMeta> {
    let (blocks, damage) = BlockSet::open(Arc::new(OsDisk), &dir.join("blocks")).unwrap();
    assert_eq!(damage, Vec::<String>::new());
    blocks.all_metas()
}

pub fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|e| e.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

pub fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir.join("blocks")).unwrap();
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// A disk on which the process is killed after this many changes of directory entries; no change
/// has an effect afterwards.
pub struct Mortal(pub AtomicI64);

impl Hooks for Mortal {
    fn before(&self, call: &Call) -> io::Result<()> {
        match call {
            Call::Rename(..) | Call::Remove(_) | Call::SyncDir(_) if self.0.fetch_sub(1, SeqCst) <= 0 => {
                Err(io::Error::other("killed"))
            }
            _ => Ok(()),
        }
    }
}

pub fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}
