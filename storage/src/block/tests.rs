//! Tests of blocks: round trips, matchers, damage, failing disks.

use super::page::SamplesPage;
use super::*;
use crate::disk::{Disk, DiskFile, OsDisk, ReadFile};
use crate::limits::{BLOCK_GROUP_ROWS, BLOCK_PAGE_ROWS, BLOCK_WINDOW_MS};
use crate::model::histogram::{BucketSpan, Buckets, CUSTOM_BUCKETS};
use crate::model::value::STALE_BITS;
use crate::model::{Labels, MatchOp, Matcher, NativeHistogram, SHARDS, shard_of};
use proptest::prelude::*;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

const DAY: i64 = 12 * BLOCK_WINDOW_MS;

fn write(dir: &Path, series: &[BlockSeries]) -> Block {
    let meta = write_block(&OsDisk, dir, 0, DAY, series.iter().cloned().map(Ok)).unwrap();
    Block::open(Arc::new(OsDisk), &meta.dir).unwrap()
}

fn bits(vs: &[f64]) -> Vec<u64> {
    vs.iter().map(|v| v.to_bits()).collect()
}

/// Asserts that the block returns `series` bit for bit.
fn assert_holds(block: &Block, series: &[BlockSeries], from: i64, to: i64) {
    let handles = block.select(&[], i64::MIN, i64::MAX).unwrap();
    let stored: Vec<&BlockSeries> =
        series.iter().filter(|s| !s.ts.is_empty() || !s.histograms.is_empty()).collect();
    assert_eq!(handles.len(), stored.len());
    for (handle, series) in handles.iter().zip(stored) {
        assert_eq!(*handle.labels(), series.labels);
        let mut ts = vec![-1];
        let mut vs = vec![-1.0];
        handle.read(from, to, &mut ts, &mut vs).unwrap();
        let inside = |t: &i64| from <= *t && *t <= to;
        let want: Vec<(i64, u64)> =
            series.ts.iter().copied().zip(bits(&series.vs)).filter(|(t, _)| inside(t)).collect();
        assert_eq!(
            ts[1..].iter().copied().zip(bits(&vs[1..])).collect::<Vec<_>>(),
            want,
            "{}",
            series.labels
        );
    }
}

/// Asserts that our decoder reads the pages of the block as the `parquet` crate does. With `all`,
/// our decoder must read all pages: with one row per series, all columns have pages of equal
/// length.
fn assert_read_by_hand(block: &Block, all: bool) {
    let row = |page: &SamplesPage, at| {
        let row = page.row(at)?;
        let mut vs = Vec::new();
        row.read(0..row.len(), &mut vs).expect("it has all its samples");
        for range in [row.len() / 3..row.len() / 2, 0..1, row.len() - 1..row.len()] {
            let mut few = Vec::new();
            row.read(range.clone(), &mut few).expect("it has these");
            assert_eq!(bits(&few), bits(&vs[range]));
        }
        assert!(row.read(0..row.len() + 1, &mut Vec::new()).is_none());
        Some((bits(&vs), row.gaps().to_vec()))
    };
    for number in 0..(block.meta().rows as usize).div_ceil(BLOCK_PAGE_ROWS) {
        let (ours, theirs) = block.page_twice(number);
        assert!(ours.is_some() || !all, "page {number} is laid as our writer lays pages");
        for (ours, at) in ours.iter().flat_map(|page| (0..BLOCK_PAGE_ROWS + 1).map(move |at| (page, at))) {
            assert_eq!(row(ours, at), row(&theirs, at), "row {at} of page {number}");
        }
    }
}

fn nasty_value() -> impl Strategy<Value = f64> {
    let special = vec![
        f64::from_bits(STALE_BITS),
        f64::from_bits(0x7ff8_0000_0000_0001),
        f64::from_bits(0xfff8_0000_dead_beef),
        f64::from_bits(0x7ff0_0000_0000_0001),
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        5e-324,
        f64::MAX,
        9e15,
        -9_007_199_254_740_993.0,
    ];
    prop_oneof![
        4 => prop::sample::select(special),
        4 => (-10_000i64..10_000).prop_map(|m| m as f64 / 100.0),
        4 => (0i64..1000).prop_map(|m| m as f64),
        1 => any::<u64>().prop_map(f64::from_bits),
    ]
}

/// The values of one row: all special values, or all decimals with stale markers in between.
fn values(len: usize) -> impl Strategy<Value = Vec<f64>> {
    let decimal = (0i64..10_000, 0i32..4).prop_map(|(m, e)| m as f64 / 10f64.powi(e));
    let stale = Just(f64::from_bits(STALE_BITS));
    prop_oneof![
        prop::collection::vec(nasty_value(), len),
        prop::collection::vec(prop_oneof![9 => decimal, 1 => stale], len),
    ]
}

fn series() -> impl Strategy<Value = Vec<BlockSeries>> {
    let clock =
        prop::collection::btree_set(0..DAY, 0..60).prop_map(|set| set.into_iter().collect::<Vec<i64>>());
    let one = (0usize..4, prop::collection::vec(prop::bool::weighted(0.9), 60), values(60));
    (prop::collection::vec(clock, 4), prop::collection::vec(one, 0..100)).prop_map(|(clocks, all)| {
        let build = |(i, (clock, keep, vs)): (usize, (usize, Vec<bool>, Vec<f64>))| {
            let instance = clock.to_string();
            let metric = format!("m{i:03}");
            let labels = [("__name__", metric.as_str()), ("instance", &instance), ("Upper", "x")];
            let kept = clocks[clock].iter().zip(keep).filter(|(_, keep)| *keep || i % 2 == 0);
            let ts: Vec<i64> = kept.map(|(t, _)| *t).collect();
            let labels = Labels::from_pairs(labels);
            let vs = vs[..ts.len()].to_vec();
            BlockSeries { labels, vs, ts, ..BlockSeries::default() }
        };
        all.into_iter().enumerate().map(build).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_bit_comes_back(mut series in series(), from in -10..DAY, len in 0..DAY) {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        let dir = tempfile::tempdir().unwrap();
        let block = write(dir.path(), &series);
        assert_holds(&block, &series, i64::MIN, i64::MAX);
        assert_holds(&block, &series, from, from + len);
        assert_read_by_hand(&block, false);
        let samples: usize = series.iter().map(|s| s.ts.len()).sum();
        prop_assert_eq!(block.meta().samples, samples as u64);
        for one in &mut series {
            let early = one.ts.partition_point(|t| *t < BLOCK_WINDOW_MS);
            one.ts.truncate(early);
            one.vs.truncate(early);
        }
        let dir = tempfile::tempdir().unwrap();
        assert_read_by_hand(&write(dir.path(), &series), true);
    }
}

/// `count` series of one target, scraped every 15 s.
fn target(count: usize, scrapes: i64) -> Vec<BlockSeries> {
    let ts: Vec<i64> = (0..scrapes).map(|i| i * 15_000).collect();
    let one = |i: usize| BlockSeries {
        labels: Labels::from_pairs([("__name__", "m"), ("job", "j"), ("i", format!("{i:06}").as_str())]),
        vs: ts.iter().map(|t| (*t / 1000 + i as i64) as f64).collect(),
        ts: ts.clone(),
        ..BlockSeries::default()
    };
    (0..count).map(one).collect()
}

#[test]
fn row_groups_and_pages_are_found() {
    let series = target(BLOCK_GROUP_ROWS + 100, 2);
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), &series);
    assert_eq!(block.meta().clocks, 1);
    assert_holds(&block, &series, 0, DAY);
}

#[test]
fn a_series_with_missing_samples_uses_its_targets_clock() {
    let mut series = target(3, 400);
    series[1].ts.drain(100..200);
    series[1].vs.drain(100..200);
    series[2].ts[0] += 1;
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), &series);
    assert_eq!((block.meta().clocks, block.meta().times), (2, 800));
    assert_holds(&block, &series, 20_000, 4_000_000);
    assert_read_by_hand(&block, true);
}

fn some_labels() -> Vec<BlockSeries> {
    let mut all = Vec::new();
    for name in ["", "http_total", "up"] {
        for code in ["", "200", "404", "500"] {
            for pod in ["", "web-1", "web-2", "db"] {
                let labels = Labels::from_pairs([("__name__", name), ("code", code), ("pod", pod)]);
                all.push(BlockSeries { labels, ts: vec![5], vs: vec![1.0], ..BlockSeries::default() });
            }
        }
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

#[test]
fn postings_select_what_matchers_match() {
    let series = some_labels();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &series);
    let (blocks, damage) = BlockSet::open(Arc::new(OsDisk), dir.path()).unwrap();
    assert_eq!(damage, Vec::<String>::new());
    let patterns =
        ["", "200", "web-1", "web-.*", ".*", ".+", "200|404", "web-[12]|", "(web|x).*", "[^w].*", "absent"];
    let mut matchers = Vec::new();
    for name in ["__name__", "code", "pod", "none"] {
        for op in [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex] {
            matchers.extend(patterns.iter().map(|p| Matcher::new(name, op, *p).unwrap()));
        }
    }
    for (i, first) in matchers.iter().enumerate() {
        let both = [first.clone(), matchers[(i * 7 + 3) % matchers.len()].clone()];
        for set in [&both[..1], &both[..]] {
            let hits = series.iter().map(|s| &s.labels).filter(|l| set.iter().all(|m| m.matches_labels(l)));
            let mut found = Vec::new();
            for shard in 0..SHARDS {
                let here = blocks.select(shard, set, 0, 10).unwrap();
                assert!(here.iter().all(|h| shard_of(h.labels()) == shard));
                found.extend(here.iter().map(|h| h.labels().clone()));
            }
            found.sort();
            assert_eq!(found, hits.cloned().collect::<Vec<_>>(), "{set:?}");
        }
    }
    let set = vec![
        vec![Matcher::equal("pod", "db"), Matcher::equal("code", "")],
        vec![Matcher::equal("code", "404")],
    ];
    assert_eq!(blocks.label_values("pod", &set, 0, 10).unwrap(), ["db", "web-1", "web-2"]);
    assert_eq!(blocks.label_values("code", &set, 0, 10).unwrap(), ["404"]);
    assert_eq!(blocks.label_names(&[], 0, 10).unwrap(), ["__name__", "code", "pod"]);
    assert_eq!(blocks.label_names(&set[..1], 0, 10).unwrap(), ["__name__", "pod"]);
    assert_eq!(blocks.label_names(&[], 6, 10).unwrap(), Vec::<String>::new());
}

/// Reads everything. What is read must be right; errors are allowed.
fn read_all(dir: &Path, series: &[BlockSeries]) -> Result<(), StoreError> {
    let block = Block::open(Arc::new(OsDisk), dir)?;
    let handles = block.select(&[], 0, DAY)?;
    let places = Matcher::new("i", MatchOp::Regex, ".*[05]").unwrap();
    let fives = block.select(std::slice::from_ref(&places), 0, DAY)?;
    let all = handles.iter().map(BlockSeriesHandle::labels).filter(|labels| places.matches_labels(labels));
    assert!(fives.iter().map(BlockSeriesHandle::labels).eq(all), "a wrong answer of the index");
    for (handle, series) in handles.iter().zip(series) {
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        handle.read(0, DAY, &mut ts, &mut vs)?;
        assert_eq!((&ts, bits(&vs)), (&series.ts, bits(&series.vs)), "a wrong answer out of damaged bytes");
        let mut histograms = Vec::new();
        let mut starts = Vec::new();
        handle.read_histograms(0, DAY, &mut histograms)?;
        handle.read_starts(0, DAY, &mut starts)?;
        assert_eq!((&histograms, &starts), (&series.histograms, &series.starts), "a wrong answer");
    }
    Ok(())
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let mut series = target(200, 100);
    for (i, s) in series.iter_mut().enumerate() {
        s.vs[i % 100] += 0.1 * i as f64 + 1e-9 * (i * i) as f64;
    }
    let dir = tempfile::tempdir().unwrap();
    let home = write(dir.path(), &series).meta().dir.clone();
    read_all(&home, &series).unwrap();
    each_flip_is_noticed(&home, &series, &["samples.parquet", "samples.crc", "clocks.parquet"]);
    each_flip_is_noticed(&home, &series, &["series.parquet", "series.crc", "meta.json"]);
    each_flip_is_noticed(&home, &series, &["terms.tantivy", "terms.crc", "postings.tantivy", "postings.crc"]);
}

/// Flips bits of these files, and truncates them, at many positions.
fn each_flip_is_noticed(home: &Path, series: &[BlockSeries], files: &[&str]) {
    let read_all = || read_all(home, series);
    for file in files {
        let path = home.join(file);
        let good = std::fs::read(&path).unwrap();
        let step = (good.len() / 60).max(1);
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            std::fs::write(&path, &bad).unwrap();
            let error = read_all().expect_err("a flipped bit must be noticed").to_string();
            assert!(error.contains(file), "{file} at {at}: {error}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(read_all().is_err(), "{file} cut at {at}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(read_all().is_err());
        std::fs::write(&path, &good).unwrap();
    }
    read_all().unwrap();
}

/// Series with floats, histograms, start timestamps, or several of these.
fn with_lanes(count: usize, samples: i64) -> Vec<BlockSeries> {
    let mut all = target(count, 5);
    for (i, series) in all.iter_mut().enumerate() {
        let histogram = |n: i64| {
            let spans =
                vec![BucketSpan { offset: -3, length: 2 }, BucketSpan { offset: 4, length: i as u32 % 3 }];
            let counts = (0..2 + i % 3).map(|k| (n * k as i64) as f64 + 0.5).collect();
            let mut h = NativeHistogram { sum: n as f64, count: 7.0 * n as f64, ..<_>::default() };
            h.positive = Buckets { spans, counts };
            h.negative = if i % 5 == 0 { h.positive.clone() } else { Buckets::default() };
            h.zero_threshold = 1e-128;
            h.zero_count = n as f64;
            if i % 7 == 0 {
                h.schema = CUSTOM_BUCKETS;
                h.bounds = [-1.0, 0.25, 5.0].into();
            }
            h
        };
        let times = (0..samples).map(|n| n * 15_000 + 1);
        match i % 4 {
            0 => continue,
            1 => (series.ts, series.vs) = (Vec::new(), Vec::new()),
            2 => series.starts = series.ts.iter().map(|t| (*t, 77)).collect(),
            _ => series.starts = times.clone().map(|t| (t, t / 2)).collect(),
        }
        if i % 4 != 2 {
            series.histograms = times.map(|t| (t, Arc::new(histogram(t)))).collect();
        }
    }
    all
}

#[test]
fn lanes_come_back() {
    let series = with_lanes(150, 480);
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), &series);
    let home = block.meta().dir.clone();
    read_all(&home, &series).unwrap();
    let lanes = series.iter().map(|s| (s.histograms.len() as u64, s.starts.len() as u64));
    let (histograms, starts) = lanes.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(histograms > BLOCK_GROUP_ROWS as u64, "more than one row group");
    let meta = block.meta();
    assert_eq!((meta.version, meta.histograms, meta.starts), (4, histograms, starts));
    assert_holds(&block, &series, 0, DAY);
    let handle = block.select(&[Matcher::equal("i", "000003")], 0, 100).unwrap().remove(0);
    let mut out = vec![(-1, Arc::default())];
    let mut times = Vec::new();
    handle.read_histograms(45_001, 75_001, &mut out).unwrap();
    handle.read_starts(45_002, 75_000, &mut times).unwrap();
    assert_eq!(out[1..], series[3].histograms[3..=5]);
    assert_eq!(times, series[3].starts[4..5]);
    let bounds: Vec<_> = block.select(&[Matcher::equal("i", "000007")], 0, 100).unwrap();
    let mut out = Vec::new();
    bounds[0].read_histograms(0, 45_001, &mut out).unwrap();
    assert!(out.windows(2).all(|w| Arc::ptr_eq(&w[0].1.bounds, &w[1].1.bounds)), "bounds are shared");
}

#[test]
fn damage_in_lanes_is_noticed() {
    let series = with_lanes(40, 20);
    let dir = tempfile::tempdir().unwrap();
    let home = write(dir.path(), &series).meta().dir.clone();
    each_flip_is_noticed(
        &home,
        &series,
        &["histograms.parquet", "histograms.crc", "starts.parquet", "starts.crc"],
    );
}

#[test]
fn damage_in_values_costs_only_what_it_touches() {
    let mut series = target(2000, 100);
    let mut state = 1u64;
    for value in series.iter_mut().flat_map(|s| &mut s.vs) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *value = f64::from_bits(state >> 2);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &series).meta().dir.join("samples.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let block = Block::open(Arc::new(OsDisk), path.parent().unwrap()).unwrap();
    let read = |handle: &BlockSeriesHandle| handle.read(0, DAY, &mut Vec::new(), &mut Vec::new());
    let failed: Vec<String> = block
        .select(&[], 0, DAY)
        .unwrap()
        .iter()
        .filter_map(|h| read(h).err())
        .map(|e| e.to_string())
        .collect();
    assert!(!failed.is_empty() && failed.len() <= 256, "{} of 2000 series lost", failed.len());
    assert!(failed[0].contains("samples.parquet") && failed[0].contains("offset"), "{}", failed[0]);
}

#[test]
fn a_set_leaves_damage_out_and_removes_leftovers() {
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), &target(2, 2));
    let other = write_block(&OsDisk, dir.path(), DAY, 2 * DAY, std::iter::empty()).unwrap();
    std::fs::write(other.dir.join("meta.json"), "{}").unwrap();
    std::fs::create_dir(dir.path().join("1_2.tmp")).unwrap();
    std::fs::create_dir(dir.path().join("1-2-3.deleting")).unwrap();
    let (blocks, damage) = BlockSet::open(Arc::new(OsDisk), dir.path()).unwrap();
    BlockSet::remove_unfinished(&OsDisk, dir.path()).unwrap();
    assert_eq!(blocks.all_metas(), [block.meta().clone()]);
    assert_eq!(damage.len(), 1);
    assert!(damage[0].contains("meta.json: has no checksum"), "{}", damage[0]);
    assert!(other.dir.exists() && !dir.path().join("1_2.tmp").exists());

    let labels = target(1, 1)[0].labels.clone();
    let late = BlockSeries { labels, ts: vec![DAY + 1], vs: vec![7.0], ..BlockSeries::default() };
    let meta = write_block(&OsDisk, dir.path(), DAY, DAY + 2, std::iter::once(Ok(late))).unwrap();
    blocks.add(blocks.load(&meta.dir).unwrap());
    let shard = shard_of(&target(1, 1)[0].labels);
    let first = [Matcher::equal("i", "000000")];
    let parts = blocks.select(shard, &first, 0, i64::MAX).unwrap();
    assert_eq!(parts.iter().map(|p| p.block().meta().from).collect::<Vec<_>>(), [0, DAY]);
    blocks.remove(&OsDisk, &block.meta().dir).unwrap();
    assert_eq!(blocks.select(shard, &first, 0, i64::MAX).unwrap().len(), 1);
    assert!(!block.meta().dir.exists());
    let mut ts = Vec::new();
    let mut vs = Vec::new();
    parts[0].read(0, DAY, &mut ts, &mut vs).unwrap();
    assert!(!ts.is_empty(), "who has the block goes on reading");
    assert_eq!(BlockSet::finish_removals(&OsDisk, dir.path()).unwrap(), 1, "what another removal left");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn broken_promises_are_refused() {
    let good = target(2, 3);
    let change = |f: &dyn Fn(&mut Vec<BlockSeries>)| {
        let mut series = good.clone();
        f(&mut series);
        series
    };
    let table: [(&str, Vec<BlockSeries>); 4] = [
        ("is not after", change(&|s| s.reverse())),
        ("as many values", change(&|s| s[0].vs.truncate(1))),
        ("do not ascend", change(&|s| s[1].ts[2] = 0)),
        ("outside", change(&|s| s[1].ts[2] = DAY)),
    ];
    for (reason, series) in table {
        let dir = tempfile::tempdir().unwrap();
        let error =
            write_block(&OsDisk, dir.path(), 0, DAY, series.into_iter().map(Ok)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(BlockSet::open(Arc::new(OsDisk), dir.path()).unwrap().0.all_metas(), []);
    }
}

/// A disk that fails after this many operations.
struct FailingDisk(std::sync::atomic::AtomicI64);

struct FailingFile(Box<dyn DiskFile>, bool);

impl FailingDisk {
    fn step(&self) -> io::Result<()> {
        let left = self.0.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
        if left <= 0 { Err(io::Error::other("no space left on device")) } else { Ok(()) }
    }
}

impl DiskFile for FailingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.1 { Err(io::Error::other("no space left on device")) } else { self.0.append(bytes) }
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let fails = self.step().is_err();
        Ok(Box::new(FailingFile(OsDisk.create(path)?, fails)))
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
        self.step().and_then(|()| OsDisk.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| OsDisk.create_dir(path))
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        OsDisk.truncate(path, len)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| OsDisk.sync_dir(path))
    }
}

#[test]
fn a_failing_disk_leaves_no_block_and_the_next_try_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let series = target(3, 3);
    let attempt = |steps: i64| {
        let disk = FailingDisk(steps.into());
        write_block(&disk, dir.path(), 0, DAY, series.iter().cloned().map(Ok))
    };
    let mut steps = 0;
    let meta = loop {
        match attempt(steps) {
            Ok(meta) => break meta,
            Err(StoreError::Io { source, .. }) => {
                assert!(source.to_string().contains("no space"), "{source}")
            }
            Err(other) => panic!("{other}"),
        }
        steps += 1;
    };
    assert!(steps >= 8, "{steps}");
    assert_holds(&Block::open(Arc::new(OsDisk), &meta.dir).unwrap(), &series, 0, DAY);
    // Once more: the same content gets the same name.
    assert_eq!(attempt(100).unwrap(), meta);
    assert_eq!(BlockSet::open(Arc::new(OsDisk), dir.path()).unwrap().0.all_metas(), [meta]);
}
