//! Compares the newest sample, read alone, with all samples of a series, for any store and for all
//! times that a query could use.

use storage::model::{Matcher, SHARDS};
use storage::store::Store;

/// How far back a query looks: not at all, a part of a range, and more than one range.
const BACK: [i64; 4] = [0, 7, 900, 15_000];

/// Fails if the newest sample of a series, read alone, differs from the last of all its samples.
pub fn latest_is_the_last(store: &Store) {
    let all = [Matcher::equal("__name__", "m")];
    for shard in 0..SHARDS {
        let selection = store.select(shard, &all, i64::MIN, i64::MAX).unwrap();
        let mut times = Vec::new();
        let mut values = Vec::new();
        for i in 0..selection.labels.len() {
            selection.read(i, i64::MIN, i64::MAX, &mut times, &mut values).unwrap();
        }
        times.sort_unstable();
        times.dedup();
        // The newest times, and some of the others.
        let recent = times.iter().rev().take(5);
        let stride = times.len() / 5 + 1;
        let ends = recent.chain(times.iter().step_by(stride)).flat_map(|t| [*t - 1, *t, *t + 3]);
        for end in ends {
            for back in BACK {
                compare(store, shard, end - back, end);
            }
        }
    }
}

fn compare(store: &Store, shard: u16, from: i64, to: i64) {
    let selection = store.select(shard, &[Matcher::equal("__name__", "m")], from, to).unwrap();
    assert!(selection.labels.is_sorted_by(|a, b| a < b));
    for i in 0..selection.labels.len() {
        let mut ts = Vec::new();
        let mut vs = Vec::new();
        selection.read(i, from, to, &mut ts, &mut vs).unwrap();
        let mut latest_t = Vec::new();
        let mut latest_v = Vec::new();
        selection.read_latest(i, from, to, &mut latest_t, &mut latest_v).unwrap();
        let last = |ts: &[i64], vs: &[f64]| ts.last().copied().zip(vs.last().map(|v| v.to_bits()));
        assert_eq!(last(&latest_t, &latest_v), last(&ts, &vs), "{} in {from}..={to}", selection.labels[i]);
    }
}
