//! Tests the index against brute force, and against the postings in memory of a block without an
//! index.

use super::super::cache::PageCache;
use super::super::meta::{BlockMeta, FLOATS, META};
use super::super::open_files::{LocalFiles, OpenFiles};
use super::super::schema::{POSTINGS, POSTINGS_CHECKSUMS, SERIES_CHECKSUMS, TERMS, TERMS_CHECKSUMS};
use super::super::series_table::SeriesTable;
use super::super::{BlockSeries, write_block};
use super::*;
use crate::disk::OsDisk;
use crate::model::{Labels, MatchOp, Matcher, SHARDS, shard_of};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use testing::assert_proportional;

fn block_of(dir: &Path, series: &[Labels]) -> BlockMeta {
    let one = |labels: &Labels| {
        Ok(BlockSeries { labels: labels.clone(), ts: vec![5], vs: vec![1.0], ..BlockSeries::default() })
    };
    write_block(&OsDisk, dir, 0, 10, series.iter().map(one)).unwrap()
}

/// Turns the block into one of an old format.
fn without_index(mut meta: BlockMeta) -> BlockMeta {
    meta.version = FLOATS;
    for file in [TERMS, TERMS_CHECKSUMS, POSTINGS, POSTINGS_CHECKSUMS, SERIES_CHECKSUMS] {
        assert!(meta.files.remove(file).is_some());
        std::fs::remove_file(meta.dir.join(file)).unwrap();
    }
    std::fs::write(meta.dir.join(META), meta.encode().unwrap()).unwrap();
    meta
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let values = [
        "",
        "x",
        "y",
        "xy",
        "x|y",
        "x|",
        "x.*",
        ".*",
        ".+",
        "(x|xy)?",
        "[xy]+",
        "nothing",
        "n.*",
        ".*y",
        "ß.+",
        "[^x].*",
        "(x|ß).",
        ".{2}",
        "\u{10ffff}.*",
    ];
    let op = prop_oneof![
        Just(MatchOp::Equal),
        Just(MatchOp::NotEqual),
        Just(MatchOp::Regex),
        Just(MatchOp::NotRegex)
    ];
    let name = proptest::sample::select(vec!["a", "ab", "ä", "Z", "zz", ""]);
    (name, op, proptest::sample::select(values.to_vec()))
        .prop_map(|(name, op, value)| Matcher::new(name, op, value).unwrap())
}

fn label_sets() -> impl Strategy<Value = BTreeSet<Labels>> {
    let name = proptest::sample::select(vec!["a", "ab", "ä", "Z", "__name__", "", "job"]);
    let set = proptest::collection::btree_map(name, "[xyß\u{0}\u{10ffff}]{0,2}", 0..4);
    proptest::collection::btree_set(set.prop_map(Labels::from_pairs), 0..60)
}

fn texts(ask: impl Fn(&mut dyn FnMut(&str)) -> Result<(), crate::error::StoreError>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    ask(&mut |text| {
        all.insert(text.to_owned());
    })
    .unwrap();
    all
}

/// Asserts that the series table answers as the labels themselves do.
fn assert_says(asked: &SeriesTable, series: &[Labels], sets: &[Vec<Matcher>]) {
    assert_eq!(asked.count(), series.len());
    for set in sets.iter().map(Vec::as_slice).chain([&[][..]]) {
        let holds = |labels: &&Labels| set.iter().all(|m| m.matches_labels(labels));
        let hits: Vec<&Labels> = series.iter().filter(holds).collect();
        let mut found = Vec::new();
        asked.labels(&*asked.select(set).unwrap(), |_, labels| found.push(labels)).unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), hits, "{set:?}");
        for shard in 0..SHARDS {
            let here = asked.select_shard(shard, set).unwrap();
            let of_shard = |id: &u32| shard_of(&series[*id as usize]) == shard;
            let all = asked.select(set).unwrap();
            assert!(here.iter().eq(all.iter().filter(of_shard)), "{set:?} of shard {shard}");
        }
        let names: BTreeSet<String> =
            hits.iter().flat_map(|labels| labels.iter()).map(|(name, _)| name.to_owned()).collect();
        assert_eq!(texts(|each| asked.each_name(set, each)), names, "names of {set:?}");
        for name in names.iter().map(String::as_str).chain(["none"]) {
            let values = hits.iter().filter_map(|labels| labels.get(name)).map(str::to_owned).collect();
            assert_eq!(texts(|each| asked.each_value(name, set, each)), values, "{name} of {set:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn the_same_as_asking_every_series(
        series in label_sets(),
        sets in proptest::collection::vec(proptest::collection::vec(matcher(), 1..4), 1..6),
    ) {
        let series: Vec<Labels> = series.into_iter().collect();
        let dir = tempfile::tempdir().unwrap();
        let meta = block_of(dir.path(), &series);
        assert_says(&SeriesTable::open(&LocalFiles::new(&meta.dir, OpenFiles::new(Arc::new(OsDisk))), &meta, &PageCache::new(Arc::new(OsDisk))).unwrap(), &series, &sets);
        let meta = without_index(meta);
        assert_says(&SeriesTable::open(&LocalFiles::new(&meta.dir, OpenFiles::new(Arc::new(OsDisk))), &meta, &PageCache::new(Arc::new(OsDisk))).unwrap(), &series, &sets);
    }
}

/// So many series that terms and postings have many blocks, and labels many pages.
fn many(count: usize) -> Vec<Labels> {
    let one = |i: usize| {
        let value = format!("v{:05}", i * 7919 % count);
        let few = (i % 7).to_string();
        Labels::from_pairs([("__name__", "m"), ("few", &few), ("own", &value), ("seq", &format!("{i:06}"))])
    };
    let all: BTreeSet<Labels> = (0..count).map(one).collect();
    all.into_iter().collect()
}

#[test]
fn many_terms_are_found_too() {
    let series = many(20_000);
    let dir = tempfile::tempdir().unwrap();
    let meta = block_of(dir.path(), &series);
    let asked = SeriesTable::open(
        &LocalFiles::new(&meta.dir, OpenFiles::new(Arc::new(OsDisk))),
        &meta,
        &PageCache::new(Arc::new(OsDisk)),
    )
    .unwrap();
    let m = |name: &str, op, value: &str| Matcher::new(name, op, value).unwrap();
    let sets = [
        vec![m("own", MatchOp::Equal, "v00017")],
        vec![m("own", MatchOp::Regex, "v0001.+")],
        vec![m("own", MatchOp::Regex, ".*17")],
        vec![m("own", MatchOp::NotRegex, ".*7")],
        vec![m("few", MatchOp::Equal, "3"), m("own", MatchOp::Regex, ".*17")],
        vec![m("seq", MatchOp::Regex, "0000(1|2|3).*"), m("own", MatchOp::Regex, ".*1")],
        vec![m("seq", MatchOp::NotEqual, ""), m("few", MatchOp::NotRegex, "[0-5]")],
        vec![m("few", MatchOp::NotEqual, "3"), m("own", MatchOp::NotEqual, "v00017")],
    ];
    assert_says(&asked, &series, &sets);
}

/// An open block, of which only the series are used.
struct OpenSeriesTable {
    series: SeriesTable,
    _dir: tempfile::TempDir,
}

fn opened(count: usize) -> OpenSeriesTable {
    let dir = tempfile::tempdir().unwrap();
    let meta = block_of(dir.path(), &many(count));
    let directory = LocalFiles::new(&meta.dir, OpenFiles::new(Arc::new(OsDisk)));
    let series = SeriesTable::open(&directory, &meta, &PageCache::new(Arc::new(OsDisk))).unwrap();
    OpenSeriesTable { series, _dir: dir }
}

#[test]
fn twice_the_series_cost_twice_as_much() {
    assert_proportional("writing an index", 2_000, many, |series| write(series).unwrap());
    let m = |name: &str, op, value: &str| Matcher::new(name, op, value).unwrap();
    let sets = [
        vec![m("own", MatchOp::Regex, ".*17")],
        vec![m("own", MatchOp::NotRegex, ".*7")],
        vec![m("seq", MatchOp::NotEqual, ""), m("few", MatchOp::NotRegex, "[0-5]")],
    ];
    for set in sets {
        let select = |block: &OpenSeriesTable| block.series.select(&set).unwrap().iter().count();
        assert_proportional(&format!("{set:?}"), 2_000, opened, select);
        let labels = |block: &OpenSeriesTable| {
            let mut found = 0;
            let ids = block.series.select(&set).unwrap();
            block.series.labels(&*ids, |_, labels| found += labels.len()).unwrap();
            found
        };
        assert_proportional(&format!("labels of {set:?}"), 2_000, opened, labels);
        let values = |block: &OpenSeriesTable| texts(|each| block.series.each_value("own", &set, each));
        assert_proportional(&format!("values of {set:?}"), 2_000, opened, values);
    }
}

#[test]
fn the_same_series_make_the_same_bytes() {
    let series = many(300);
    assert_eq!(write(&series).unwrap(), write(&series).unwrap());
}
