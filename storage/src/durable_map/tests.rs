//! Tests of durable maps: crashes, damage, and disks that fail or stall.

use super::*;
use crate::disk::{DiskFile, OsDisk, ReadFile};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use testing::assert_proportional;

const LONG: Duration = Duration::from_secs(20);

fn set(key: &str, value: &str) -> MapChange {
    (key.into(), Some(value.into()))
}

fn open(dir: &Path) -> (DurableMap, LoadedMap) {
    DurableMap::open(Arc::new(OsDisk), dir.join("map"), &Metrics::default()).unwrap()
}

fn text(found: &LoadedMap) -> Vec<(String, String)> {
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    found.entries.iter().map(|(k, v)| (text(k), text(v))).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn what_was_put_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (map, found) = open(dir.path());
    assert_eq!(found, LoadedMap::default());
    map.put([set("a", "1"), set("b", "2")]);
    let put = map.put([set("a", "3"), (b"b".to_vec(), None), set("c", "4")]);
    assert!(map.wait(put, LONG));
    drop(map);
    let (map, found) = open(dir.path());
    assert!(found.existed && found.damage.is_none());
    assert_eq!(text(&found), pairs(&[("a", "3"), ("c", "4")]));
    map.put([(b"a".to_vec(), None), (b"c".to_vec(), None)]);
    drop(map);
    let (_, found) = open(dir.path());
    assert!(found.existed && found.entries.is_empty(), "an empty map is not an unknown one");
}

/// Every length that a crash can leave gives complete batches: all of a `put`, or nothing of it.
#[test]
fn a_torn_tail_costs_the_put_that_was_being_written() {
    let mut bytes = format::HEADER.to_vec();
    format::encode(vec![set("a", "1"), set("b", "1")], &mut bytes).unwrap();
    let first = bytes.len();
    format::encode(vec![set("a", "2"), set("b", "2")], &mut bytes).unwrap();
    for length in 0..=bytes.len() {
        let found = format::decode(&bytes[..length]);
        let value = match length {
            n if n < first => None,
            n if n < bytes.len() => Some("1"),
            _ => Some("2"),
        };
        let expected = value.map_or_else(Vec::new, |v| pairs(&[("a", v), ("b", v)]));
        assert_eq!((text(&found), found.damage), (expected, None), "{length} bytes");
    }
}

#[test]
fn a_flipped_bit_is_told_and_costs_one_frame() {
    let mut bytes = format::HEADER.to_vec();
    format::encode(vec![set("a", "1")], &mut bytes).unwrap();
    let at = bytes.len();
    format::encode(vec![set("b", "1")], &mut bytes).unwrap();
    let end = bytes.len();
    format::encode(vec![set("c", "1")], &mut bytes).unwrap();
    for bit in at * 8..end * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let found = format::decode(&damaged);
        assert_eq!(text(&found), pairs(&[("a", "1"), ("c", "1")]));
        assert_eq!(found.damage, Some(format!("the frame at byte {at} is damaged and was skipped")));
    }
    bytes[0] ^= 1;
    let found = format::decode(&bytes);
    assert!(!found.existed && found.damage.is_some(), "another file is not ours");
}

#[test]
fn twice_the_frames_cost_twice_as_much_to_read() {
    let frames = |n: usize| {
        let mut bytes = format::HEADER.to_vec();
        for i in 0..n {
            format::encode(vec![set(&format!("key {i}"), "some value")], &mut bytes).unwrap();
        }
        bytes
    };
    assert_proportional("good ones", 2_000, frames, |bytes| format::decode(bytes));
    for every in [10, 701] {
        let damaged = |n: usize| {
            let mut bytes = frames(n);
            for byte in bytes[format::HEADER.len()..].iter_mut().step_by(every) {
                *byte ^= 1;
            }
            bytes
        };
        let what = format!("of {every} bytes one is damaged");
        assert_proportional(&what, 1_000, damaged, |bytes| format::decode(bytes));
    }
}

#[test]
fn the_file_does_not_grow_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (map, _) = open(dir.path());
    for i in 0..200 {
        let put = map.put([set("a", &"x".repeat(20_000)), set("n", &i.to_string())]);
        assert!(map.wait(put, LONG));
    }
    drop(map);
    let length = std::fs::metadata(dir.path().join("map")).unwrap().len();
    assert!(length < 2 * crate::limits::DURABLE_MAP_COMPACT_BYTES as u64, "{length} bytes");
    assert_eq!(text(&open(dir.path()).1)[1], ("n".to_owned(), "199".to_owned()));
}

/// A disk that stalls or fails on request.
#[derive(Default)]
struct StallingDisk {
    stalled: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
}

struct StallingFile(Box<dyn DiskFile>, Arc<AtomicBool>, Arc<AtomicBool>);

impl DiskFile for StallingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        while self.1.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.2.load(SeqCst) { Err(io::Error::other("broken")) } else { self.0.append(bytes) }
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

impl Disk for StallingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(StallingFile(OsDisk.create(path)?, self.stalled.clone(), self.broken.clone())))
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

#[test]
fn a_disk_that_stands_still_is_waited_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(StallingDisk::default());
    let (map, _) = DurableMap::open(disk.clone(), dir.path().join("map"), &Metrics::default()).unwrap();
    disk.stalled.store(true, SeqCst);
    let put = map.put([set("a", "1")]);
    assert!(!map.wait(put, Duration::from_millis(20)));
    // If the call waited, this would take an hour.
    assert!(!map.wait(map.put([set("a", "2")]), Duration::from_secs(3_600)));
    disk.stalled.store(false, SeqCst);
    let put = map.put([set("b", "1")]);
    let began = std::time::Instant::now();
    while !map.wait(put, LONG) {
        assert!(began.elapsed() < LONG, "the file never caught up");
        std::thread::yield_now();
    }
    drop(map);
    assert_eq!(text(&open(dir.path()).1), pairs(&[("a", "2"), ("b", "1")]));
}

#[test]
fn a_disk_that_fails_costs_nothing_once_it_works() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(StallingDisk::default());
    let metrics = Metrics::default();
    let (map, _) = DurableMap::open(disk.clone(), dir.path().join("map"), &metrics).unwrap();
    assert!(map.wait(map.put([set("a", "1")]), LONG));
    disk.broken.store(true, SeqCst);
    let put = map.put([set("a", "2"), set("b", "1")]);
    assert!(!map.wait(put, Duration::from_millis(50)));
    assert!(!metrics.render().contains("perennial_keep_failures_total{file=\"map\"} 0"));
    disk.broken.store(false, SeqCst);
    let began = std::time::Instant::now();
    while !map.wait(put, LONG) {
        assert!(began.elapsed() < LONG, "it was never tried again");
        std::thread::yield_now();
    }
    drop(map);
    assert_eq!(text(&open(dir.path()).1), pairs(&[("a", "2"), ("b", "1")]));
}
