//! Tests damage in the WAL: segments cut at every byte, bits flipped in segments and in the
//! checkpoint. Exactly the samples of the damaged records are lost, with those that cannot be
//! decoded without them, and the report names file and offset.
//!
//! The test parses the bytes that `docs/format/wal.md` specifies a second time, to find out which
//! records depend on which.
#![allow(clippy::disallowed_methods, reason = "directories are made and read beside the store")]

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::head::group_id;
use storage::metrics::Metrics;
use storage::model::histogram::ResetHint;
use storage::model::{Labels, NativeHistogram, SeriesRef, shard_of};
use storage::store::{ColumnBatch, ColumnLayout, FeedDelivery, FloatRow, HistogramRow, Store, StoreBuilder};
use storage::wal::{Log, LogOptions, RecordBuilder, RecordKind, add_group, add_series, put_samples};
use support::books::{Contents, Key};
use support::hooked::HookedDisk;
use support::journal::Journal;
use support::world::{directory, everything, options};
use support::{copy, files};

const SEGMENT: u64 = 1_500;
const HEADER: usize = 32;
const SCRAPED: usize = 4;

fn open(dir: &Path) -> (Arc<Store>, Vec<String>) {
    let disk = Arc::new(HookedDisk(Arc::new(Journal::new(dir))));
    let (store, replay) = StoreBuilder::new(options(dir.into(), 0), disk, &Metrics::default())
        .manual_log(SEGMENT)
        .open()
        .unwrap();
    (store, replay.damage)
}

fn labels(of: &str, i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("instance", of.to_owned()), ("i", format!("#{i}#"))])
}

/// A log, and the record of each of its samples.
struct TestLog {
    dir: tempfile::TempDir,
    samples: BTreeMap<Key, (u64, u64)>,
}

impl TestLog {
    fn note(&mut self, labels: &Labels, t: i64, v: f64, lsn: u64) {
        self.samples.insert((labels.to_string(), t), (v.to_bits(), lsn));
    }

    fn scrape(&mut self, store: &Store, t: i64, series: impl Iterator<Item = usize>) {
        let series: Vec<Labels> = series.map(|i| labels("a", i)).collect();
        let group = store.open_group("target", shard_of(&series[0]));
        let layout = Arc::new(ColumnLayout {
            slots: series.iter().map(|l| store.get_or_create_series(l).slot).collect(),
        });
        let values: Vec<f64> = (0..series.len()).map(|i| (t * (i as i64 + 3)) as f64 / 7.0).collect();
        let batch = ColumnBatch { group, layout, t, values: values.clone().into() };
        let lsn = store.append_columns(&batch, FeedDelivery::Nobody).unwrap().lsn;
        for (labels, v) in series.iter().zip(values) {
            self.note(labels, t, v, lsn);
        }
    }

    fn row(&mut self, store: &Store, t: i64, i: usize) {
        let labels = labels("r", i);
        let v = t as f64 * 0.3;
        let series: SeriesRef = store.get_or_create_series(&labels);
        let lsn = store.append_rows(&[FloatRow { series, t, v }]).unwrap().lsn;
        self.note(&labels, t, v, lsn);
    }

    /// Writes at least three segments of scrapes, with columns that change, and single samples.
    fn new(steps: i64) -> TestLog {
        let dir = directory();
        let mut written = TestLog { dir, samples: BTreeMap::new() };
        let (store, _) = open(written.dir.path());
        for t in 1..=steps {
            match t {
                // Columns are added, then the columns change.
                0..10 => written.scrape(&store, t, 0..2),
                10..20 => written.scrape(&store, t, 0..3),
                _ if t % 40 < 20 => written.scrape(&store, t, (0..SCRAPED).rev()),
                _ => written.scrape(&store, t, [1, 3, 0, 2].into_iter()),
            }
            if t % 3 == 0 {
                written.row(&store, t, t as usize / 9 % 5);
            }
            store.wal().write_queued(true);
        }
        store.close().unwrap();
        written
    }

    fn all(&self) -> Contents {
        self.samples.iter().map(|(key, (bits, _))| (key.clone(), *bits)).collect()
    }

    /// The samples that remain if these records are lost.
    fn without(&self, records: &[Record], lost: impl Fn(&Record) -> bool) -> Contents {
        let mut gone = BTreeSet::new();
        let mut series = Vec::new();
        let mut wide = 0;
        for record in records {
            let is_lost = match record.kind {
                Record::DELTA => lost(record) || gone.contains(&record.base) || record.columns > wide,
                _ => lost(record),
            };
            match record.kind {
                Record::WHOLE if !is_lost => wide = record.columns,
                Record::LAYOUT if !is_lost && record.from == wide => wide += record.columns,
                Record::SERIES if is_lost => series.push(record.text.clone()),
                _ => (),
            }
            // If the columns of a row are unknown, the row can still be the base of other rows.
            let told = record.kind == Record::DELTA && !lost(record) && !gone.contains(&record.base);
            if is_lost && !told {
                gone.insert(record.lsn);
            } else if is_lost {
                gone.insert(record.lsn | 1 << 63);
            }
        }
        let left = |(key, (_, lsn)): &(&Key, &(u64, u64))| {
            let unknown = gone.contains(lsn) || gone.contains(&(lsn | 1 << 63));
            !unknown && !series.iter().any(|text| same_series(text, &key.0))
        };
        self.samples.iter().filter(left).map(|(key, (bits, _))| (key.clone(), *bits)).collect()
    }
}

/// Whether the text of a series record is that of the series `series`.
fn same_series(text: &str, series: &str) -> bool {
    let between = |t: &str| t.split('#').nth(1).map(str::to_owned);
    let scraped = series.contains("instance=\"a\"");
    between(text) == between(series) && text.contains("instance\u{1}a") == scraped
}

/// A record, parsed from its bytes.
struct Record {
    from_byte: usize,
    end: usize,
    lsn: u64,
    kind: u8,
    base: u64,
    /// For a layout: its first column.
    from: usize,
    columns: usize,
    text: String,
}

impl Record {
    const SERIES: u8 = 1;
    const LAYOUT: u8 = 3;
    const DELTA: u8 = 5;
    const HISTOGRAMS: u8 = 10;
    const WHOLE: u8 = 14;

    fn all(bytes: &[u8]) -> Vec<Record> {
        let mut at = HEADER;
        let mut all = Vec::new();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        while at < bytes.len() {
            let kind = bytes[at + 2];
            let payload = at + 20;
            let end = at + 20 + word(at + 4);
            let mut base = 0;
            let mut from = 0;
            let mut columns = 0;
            match kind {
                Record::LAYOUT | Record::WHOLE => (from, columns) = (word(payload + 4), word(payload + 8)),
                Record::DELTA => (base, columns) = (long(payload + 12), word(payload + 20)),
                _ => (),
            }
            let text = String::from_utf8_lossy(&bytes[payload..end]).into_owned();
            all.push(Record { from_byte: at, end, lsn: long(at + 8), kind, base, from, columns, text });
            at = end;
        }
        all
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut all = files(&dir.join("wal"));
    all.retain(|path| path.extension().is_some_and(|e| e == "wal"));
    all.sort();
    all
}

/// What a start finds if `file` has this content instead; checks that the next start finds the
/// same.
fn reopened(origin: &Path, file: &Path, content: &[u8]) -> (Contents, Vec<String>) {
    let dir = directory();
    copy(origin, dir.path());
    std::fs::write(dir.path().join(file.strip_prefix(origin).unwrap()), content).unwrap();
    let (store, damage) = open(dir.path());
    let found = everything(&store);
    drop(store);
    if content.len().is_multiple_of(8) {
        let (again, _) = open(dir.path());
        assert!(everything(&again) == found, "another start finds something else");
    }
    let name = file.file_name().unwrap().to_str().unwrap();
    let named = |line: &String| line.contains(": offset ");
    assert!(damage.iter().all(named), "{damage:?}");
    // If records at the end of the file are lost, the next file reports them as missing.
    let named = |line: &String| line.contains(name) || line.ends_with(" are missing");
    assert!(damage.is_empty() || named(&damage[0]), "{damage:?}");
    (found, damage)
}

/// All records of all segments, and the index of the segment by record.
fn records(segments: &[Vec<u8>]) -> (Vec<Record>, BTreeMap<u64, usize>) {
    let mut all = Vec::new();
    let mut places = BTreeMap::new();
    for (at, bytes) in segments.iter().enumerate() {
        let records = Record::all(bytes);
        places.extend(records.iter().map(|record| (record.lsn, at)));
        all.extend(records);
    }
    (all, places)
}

fn explain(found: &Contents, wanted: &Contents) -> String {
    let missing: Vec<_> = wanted.keys().filter(|key| !found.contains_key(*key)).take(3).collect();
    let extra: Vec<_> = found.iter().filter(|(key, v)| wanted.get(*key) != Some(v)).take(3).collect();
    format!("missing {missing:?}, too much {extra:?}")
}

#[test]
fn the_last_two_segments_cut_at_every_byte_lose_what_is_behind_the_cut() {
    let written = TestLog::new(70);
    let paths = segments(written.dir.path());
    let contents: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(paths.len() >= 3, "{paths:?}");
    let (records, places) = records(&contents);
    for at in paths.len() - 2..paths.len() {
        for cut in 0..contents[at].len() {
            let lost = |record: &Record| places[&record.lsn] == at && record.end > cut;
            let wanted = written.without(&records, lost);
            let (found, damage) = reopened(written.dir.path(), &paths[at], &contents[at][..cut]);
            assert!(
                found == wanted,
                "{:?} cut at {cut}: {}\n{damage:#?}",
                paths[at],
                explain(&found, &wanted)
            );
            let between = cut <= HEADER || records.iter().any(|r| places[&r.lsn] == at && r.end == cut);
            assert!(!damage.is_empty() || between, "{:?} cut at {cut} in silence", paths[at]);
        }
    }
}

#[test]
fn a_flipped_bit_loses_its_record_and_what_cannot_be_told_without_it() {
    let written = TestLog::new(70);
    let paths = segments(written.dir.path());
    let contents: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let (records, places) = records(&contents);
    assert!(reopened(written.dir.path(), &paths[0], &contents[0]) == (written.all(), Vec::new()));
    for (file, (path, good)) in paths.iter().zip(&contents).enumerate() {
        for at in (0..good.len()).step_by(5) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            let hit = |r: &Record| places[&r.lsn] == file && (r.from_byte..r.end).contains(&at);
            let wanted = written.without(&records, hit);
            let (found, damage) = reopened(written.dir.path(), path, &bad);
            assert!(found == wanted, "{path:?} flipped at {at}: {}\n{damage:#?}", explain(&found, &wanted));
            assert!(!damage.is_empty(), "{path:?} flipped at {at} in silence");
        }
    }
}

#[test]
fn a_reset_in_a_lost_record_is_seen_behind_it() {
    let dir = directory();
    let (store, _) = open(dir.path());
    let series = store.get_or_create_series(&labels("h", 0));
    for (t, count) in [(1, 10.0), (2, 1.0), (3, 2.0), (4, 3.0)] {
        let h = Arc::new(NativeHistogram { count, ..NativeHistogram::default() });
        assert_eq!(store.append_histograms(&[HistogramRow { series, t, h }]).unwrap().stored, 1);
    }
    store.close().unwrap();
    drop(store);
    let path = segments(dir.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let mut records = Record::all(&bytes).into_iter().filter(|record| record.kind == Record::HISTOGRAMS);
    bytes[records.nth(1).unwrap().end - 1] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (store, damage) = open(dir.path());
    assert!(!damage.is_empty());
    let mut found = Vec::new();
    store.select(series.shard, &[], 0, 9).unwrap().read_histograms(0, 0, 9, &mut found).unwrap();
    let found: Vec<_> = found.iter().map(|(_, h)| (h.count, h.hint)).collect();
    use ResetHint::{NotReset, Unknown};
    assert_eq!(found, [(10.0, Unknown), (2.0, Unknown), (3.0, NotReset)]);
}

#[test]
fn a_flipped_bit_in_a_checkpoint_loses_one_series_at_most() {
    let mut written = TestLog::new(70);
    let (store, _) = open(written.dir.path());
    // A block, and after it samples of series that only the checkpoint contains.
    written.row(&store, 40_000, 1);
    written.scrape(&store, 60_000, 0..SCRAPED);
    assert!(store.maintenance().run_housekeeping(60_000).unwrap() > 0);
    for t in 60_001..60_040 {
        written.scrape(&store, t, 0..SCRAPED);
        written.row(&store, t, 1);
        store.wal().write_queued(true);
    }
    store.maintenance().run_housekeeping(60_100).unwrap();
    store.close().unwrap();
    let checkpoint = files(&written.dir.path().join("wal"))
        .into_iter()
        .find(|path| path.to_string_lossy().contains("checkpoint."))
        .unwrap();
    let good = std::fs::read(&checkpoint).unwrap();
    let records = Record::all(&good);
    let all = written.all();
    let of_block = |t: i64| t < 30_000;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let (found, damage) = reopened(written.dir.path(), &checkpoint, &bad);
        assert!(!damage.is_empty(), "flipped at {at} in silence");
        let hit = records.iter().find(|record| (record.from_byte..record.end).contains(&at));
        let series = hit.filter(|record| record.kind == Record::SERIES).map(|record| &record.text);
        for (key, value) in &all {
            let may_go = series.is_some_and(|text| same_series(text, &key.0)) && !of_block(key.1);
            assert!(found.get(key) == Some(value) || may_go, "flipped at {at}: {key:?} is gone\n{damage:#?}");
        }
        assert!(found.iter().all(|(key, value)| all.get(key) == Some(value)), "flipped at {at}: made up");
    }
}

/// Slots are never used again, and series that are inactive leave the log with a checkpoint: so a
/// log may name a high slot, and none below it.
#[test]
fn a_slot_far_above_all_others_is_restored_like_any_other() {
    const SLOT: u32 = 50_000_000;
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    std::fs::create_dir_all(&wal).unwrap();
    let of_log = LogOptions {
        dir: wal,
        sync_interval_ms: 0,
        next_lsn: 1,
        skips: false,
        next_segment: 1,
        segments: Vec::new(),
        segment_bytes: 1 << 20,
    };
    let log = Log::manual(of_log, Arc::new(OsDisk), &Metrics::default()).unwrap();
    let series = labels("a", 1);
    let shard = shard_of(&series);
    let mut records = RecordBuilder::default();
    add_series(&mut records, shard, SLOT, &series);
    records.add(RecordKind::Samples, |out| put_samples(out, shard, &[(SLOT, 1_000, 7.0)]));
    let group = group_id(shard, SLOT);
    add_group(&mut records, group, "target");
    log.push(&mut records, log.segment_epoch(), Some(1_000)).unwrap();
    log.close().unwrap();
    for start in 0..2 {
        let (store, damage) = open(dir.path());
        assert_eq!(damage, Vec::<String>::new());
        assert_eq!(store.open_group("target", shard).0, group);
        assert_eq!(store.get_or_create_series(&series), SeriesRef { shard, slot: SLOT });
        let other = (2..).map(|i| labels("a", i)).find(|labels| shard_of(labels) == shard).unwrap();
        let other = store.get_or_create_series(&other);
        assert_eq!(other.slot, SLOT + 1, "no slot is given twice");
        let row = FloatRow { series: other, t: 2_000, v: 8.0 };
        assert_eq!(store.append_rows(&[row]).unwrap().stored, 1 - start);
        assert_eq!(everything(&store).len(), 2);
        store.wal().write_queued(true);
        store.close().unwrap();
    }
}
