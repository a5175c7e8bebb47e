//! Tests the zeros at the start of counters: which are stored, which are skipped, and that the log
//! contains them.

use std::path::Path;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::histogram::CUSTOM_BUCKETS;
use storage::model::{Labels, Matcher, NativeHistogram, SHARDS};
use storage::store::{FloatRow, HistogramRow, Store, StoreOptions, ZeroRow};

const RANGE: i64 = 10_000;
/// The time of the newest sample.
const NOW: i64 = 103_000;

fn open(dir: &Path) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 5,
        block_range_ms: RANGE,
        out_of_order_ms: 3_000,
    };
    Store::open(options, Arc::new(OsDisk), &Metrics::default()).unwrap().0
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

/// Times and values by series; the value of a histogram is its count, in brackets with its bounds.
fn stored(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    for shard in 0..SHARDS {
        let selection = store.select(shard, &[Matcher::equal("__name__", "m")], 0, i64::MAX).unwrap();
        for (i, labels) in selection.labels.iter().enumerate() {
            let mut ts = Vec::new();
            let mut vs = Vec::new();
            let mut histograms = Vec::new();
            selection.read(i, 0, i64::MAX, &mut ts, &mut vs).unwrap();
            selection.read_histograms(i, 0, i64::MAX, &mut histograms).unwrap();
            let floats = ts.iter().zip(&vs).map(|(t, v)| format!(" {t}:{v}"));
            let histograms = histograms.iter().map(|(t, h)| format!(" {t}:[{} {:?}]", h.count, h.bounds));
            all.push(format!("{}{}", labels.get("i").unwrap(), floats.chain(histograms).collect::<String>()));
        }
    }
    all.sort();
    all
}

#[test]
fn a_zero_stands_before_all_samples_of_its_series() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let series: Vec<_> = (0..5).map(|i| store.get_or_create_series(&labels(i))).collect();
    let zero = |i: usize, start| ZeroRow { series: series[i], start, like: None };
    let append = |rows: &[ZeroRow]| {
        let appended = store.append_zeros(rows, NOW).unwrap();
        assert_eq!((appended.too_old, appended.duplicate, appended.out_of_bounds), (0, 0, 0), "no error");
        appended.stored
    };
    let oldest = NOW - RANGE / 2;
    assert_eq!(
        append(&[zero(0, oldest), zero(1, oldest - 1)]),
        1,
        "half a range behind, in an empty store, too"
    );
    let row = |i: usize, t| FloatRow { series: series[i], t, v: 5.0 };
    store.append_rows(&[row(0, NOW - 1_000), row(1, NOW)]).unwrap();
    assert_eq!(append(&[zero(0, oldest), zero(0, NOW - 1_000), zero(0, NOW - 1_001), zero(1, NOW)]), 0);
    assert_eq!(
        append(&[zero(0, NOW - 999), zero(2, NOW - 4_000), zero(2, NOW - 4_000)]),
        2,
        "it begins again"
    );
    let h = NativeHistogram { schema: CUSTOM_BUCKETS, count: 7.0, bounds: [0.5].into(), ..<_>::default() };
    let h = Arc::new(h);
    let like = Some(h.clone());
    let rows = [ZeroRow { like: like.clone(), ..zero(3, NOW - 500) }, ZeroRow { like, ..zero(1, NOW) }];
    assert_eq!(append(&rows), 1);
    let seen = HistogramRow { series: series[3], t: NOW, h };
    store.append_histograms(&[seen]).unwrap();
    let expected =
        ["0 98000:0 102000:5 102001:0", "1 103000:5", "2 99000:0", "3 102500:[0 [0.5]] 103000:[7 [0.5]]"];
    assert_eq!(stored(&store), expected);
    drop(store);
    assert_eq!(stored(&open(dir.path())), expected, "out of the log");
}
