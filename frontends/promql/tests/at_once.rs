//! Queries that evaluate a block of steps at once return the same bits as step by step evaluation.
//!
//! A query with delayed name removal is evaluated step by step; where an aggregation drops the
//! names anyway, the option changes nothing else. A range query must return at each step what an
//! instant query returns there. A large query, which is computed and gathered on several threads,
//! must return the same as the small queries that it consists of.

use engine::plan::Dialect;
use engine::query::{Querier, QueryOptions, QueryValue};
use promql::{PromqlOptions, compile};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::value::{STALE, is_stale};
use storage::model::{Labels, TimeMs};
use storage::store::{FloatRow, Store, StoreOptions};

const AGGREGATED: &[&str] = &[
    "sum by (job) (rate(m[1m]))",
    "sum(increase(m[50s]))",
    "avg without (i) (m)",
    "min by (i) (delta(m[45s]))",
    "max(max_over_time(m[2m]))",
    "count by (job) (min_over_time(m[1m] offset 7s))",
    "group(m)",
    "sum by (job) (m) / sum by (job) (avg_over_time(m[1m]))",
    "max by (job) (max_over_time(rate(m[30s])[1m:10s]))",
    "sum(present_over_time(m[20s]))",
];
const PLAIN: &[&str] =
    &["m", "max_over_time(m[90s])", "min_over_time(m[1m:15s])", "rate(m[1m] @ end())", "timestamp(m)"];

/// Labels, times in s, values: counters and gauges with gaps, resets, stale markers and NaN.
type Series = (Labels, Vec<(i64, f64)>);

fn series() -> impl Strategy<Value = Vec<Series>> {
    let value = prop_oneof![
        6 => (0u32..200).prop_map(|n| f64::from(n) / 8.0),
        1 => Just(STALE),
        1 => Just(f64::NAN),
        1 => prop::sample::select(vec![-0.0, 0.0, 1e300, f64::INFINITY, 1e-17]),
    ];
    let samples = prop::collection::btree_map(0i64..400, value, 0..80);
    prop::collection::vec(samples, 1..14).prop_map(|all| {
        let labels = |i: usize| {
            let job = format!("j{}", i % 3);
            let i = format!("{}", i / 3);
            Labels::from_pairs([("__name__", "m"), ("job", job.as_str()), ("i", i.as_str())])
        };
        all.into_iter().enumerate().map(|(i, samples)| (labels(i), samples.into_iter().collect())).collect()
    })
}

fn store(dir: &std::path::Path, series: &[Series]) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 1_000,
        block_range_ms: 7_200_000,
        out_of_order_ms: 60_000,
    };
    let (store, _) = Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store");
    for (labels, samples) in series {
        let series = store.get_or_create_series(labels);
        let rows: Vec<FloatRow> =
            samples.iter().map(|(t, v)| FloatRow { series, t: t * 1_000, v: *v }).collect();
        store.append_rows(&rows).expect("appended");
    }
    store
}

type Rows = Vec<(Labels, Vec<(TimeMs, u64)>)>;

fn rows(value: QueryValue) -> Rows {
    let bits = |v: f64| if v.is_nan() && !is_stale(v) { f64::NAN.to_bits() } else { v.to_bits() };
    match value {
        QueryValue::Matrix(all) => all
            .into_iter()
            .map(|s| (s.labels, s.points.into_iter().map(|(t, v)| (t, bits(v))).collect()))
            .collect(),
        QueryValue::Vector(all) => all.into_iter().map(|s| (s.labels, vec![(s.t, bits(s.v))])).collect(),
        other => panic!("{other:?}"),
    }
}

fn range(querier: &Querier, text: &str, options: &QueryOptions) -> Rows {
    let plan = compile(text, &PromqlOptions::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
    rows(querier.range(&plan, 0, 420_000, 7_000, options).unwrap_or_else(|e| panic!("{text}: {e}")).value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn at_once_is_step_by_step(series in series()) {
        let dir = tempfile::tempdir().expect("a directory");
        let querier = Querier::new(store(dir.path(), &series), 2);
        let at_once = QueryOptions::default();
        let dialect = Dialect { delayed_names: true, ..Dialect::default() };
        let stepwise = QueryOptions { dialect, ..QueryOptions::default() };
        for text in AGGREGATED {
            prop_assert_eq!(range(&querier, text, &at_once), range(&querier, text, &stepwise), "{}", text);
        }
        for text in AGGREGATED.iter().chain(PLAIN).filter(|text| !text.contains("end()")) {
            let plan = compile(text, &PromqlOptions::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
            let mut steps = Vec::new();
            for t in (0..=420_000).step_by(7_000) {
                let answer = querier.instant(&plan, t, &at_once).unwrap_or_else(|e| panic!("{text}: {e}"));
                steps.extend(rows(answer.value).into_iter().map(|(labels, points)| (labels, points[0])));
            }
            steps.sort();
            let whole = range(&querier, text, &at_once).into_iter();
            let mut whole: Vec<_> = whole.flat_map(|(l, points)| points.into_iter().map(move |p| (l.clone(), p))).collect();
            whole.sort();
            prop_assert_eq!(steps, whole, "{}", text);
        }
    }
}

/// Steps of 5 ms over 420 s, for 14 series.
#[test]
fn large_is_the_small_ones_together() {
    let labels =
        |i: usize| Labels::from_pairs([("__name__", "m"), ("job", ["a", "b"][i % 2]), ("i", &i.to_string())]);
    let samples =
        |i: usize| (0..400).step_by(3 + i % 5).map(|t| (t as i64, (t * (i + 1)) as f64 / 8.0)).collect();
    let series: Vec<Series> = (0..14).map(|i| (labels(i), samples(i))).collect();
    let dir = tempfile::tempdir().expect("a directory");
    let querier = Querier::new(store(dir.path(), &series), 2);
    let ask = |text: &str, from, to| {
        let plan = compile(text, &PromqlOptions::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
        let answer = querier.range(&plan, from, to, 5, &QueryOptions::default());
        rows(answer.unwrap_or_else(|e| panic!("{text}: {e}")).value)
    };
    const { assert!(14 * 84_000 >= engine::limits::LARGE_QUERY && 14 * 21_000 < engine::limits::LARGE_QUERY) }
    for text in ["sum by (job) (rate(m[1m]))", "max_over_time(m[90s])"] {
        let mut small: BTreeMap<Labels, Vec<(TimeMs, u64)>> = BTreeMap::new();
        for from in (0..420_000).step_by(105_000) {
            for (labels, points) in ask(text, from, from + 104_995) {
                small.entry(labels).or_default().extend(points);
            }
        }
        let large: BTreeMap<_, _> = ask(text, 0, 419_995).into_iter().collect();
        assert!(!large.is_empty() && large == small, "{text}");
    }
}
