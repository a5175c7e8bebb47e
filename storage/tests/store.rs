//! The store against a naive model: random appends by column and row, late, duplicate, stale, read back
//! before and after the log is replayed.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::value::{ABSENT, STALE, is_absent};
use storage::model::{Labels, Matcher, SeriesRef, shard_of};
use storage::store::{Columns, Layout, Options, Row, Store, Tell};

const OUT_OF_ORDER: i64 = 3_000;

fn options(dir: &std::path::Path) -> Options {
    Options {
        dir: dir.into(),
        wal_sync_interval_ms: 5,
        block_range_ms: 10_000,
        out_of_order_ms: OUT_OF_ORDER,
    }
}

fn open(dir: &std::path::Path) -> Arc<Store> {
    let (store, replay) = Store::open(options(dir), Arc::new(OsDisk), &Metrics::default()).unwrap();
    assert_eq!(replay.damage, Vec::<String>::new());
    store
}

/// Series of one target share a shard.
fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("instance", "a".to_owned()), ("i", format!("{i:02}"))])
}

#[derive(Clone, Debug)]
enum Step {
    /// A batch of a group: time step, which series (rotated), values.
    Batch { group: usize, dt: i64, series: Vec<usize>, values: Vec<f64> },
    /// Rows: series, time relative to now, value.
    Rows(Vec<(usize, i64, f64)>),
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0i32..5).prop_map(f64::from),
        1 => Just(STALE),
        1 => Just(ABSENT),
        1 => Just(-0.0),
        1 => any::<f64>(),
        1 => (1u64..1 << 51).prop_map(|p| f64::from_bits(0x7ff8_0000_0000_0000 | p)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let series = prop_oneof![
        3 => Just((0..8).collect::<Vec<usize>>()),
        1 => proptest::sample::subsequence((0..12).collect::<Vec<usize>>(), 0..12).prop_shuffle(),
    ];
    let batch = (0usize..2, prop_oneof![8 => 1i64..400, 1 => -500i64..=0], series)
        .prop_flat_map(|(group, dt, series)| {
            let n = series.len();
            (Just(group), Just(dt), Just(series), proptest::collection::vec(value(), n))
        })
        .prop_map(|(group, dt, series, values)| Step::Batch { group, dt, series, values });
    let rows = proptest::collection::vec((0usize..14, -4_000i64..300, value()), 1..6).prop_map(Step::Rows);
    prop_oneof![5 => batch, 1 => rows]
}

/// What the store must hold: per series time → bits.
#[derive(Default)]
struct Model(BTreeMap<usize, BTreeMap<i64, u64>>);

#[derive(Debug, Default, PartialEq)]
struct Counts {
    stored: usize,
    too_old: usize,
    duplicate: usize,
}

impl Model {
    fn add(&mut self, series: usize, t: i64, v: f64, counts: &mut Counts) {
        let samples = self.0.entry(series).or_default();
        let newest = samples.keys().next_back().copied();
        if newest.is_some_and(|newest| t < newest - OUT_OF_ORDER) {
            counts.too_old += 1;
        } else if let Some(there) = samples.get(&t) {
            counts.duplicate += usize::from(*there != v.to_bits());
        } else {
            samples.insert(t, v.to_bits());
            counts.stored += 1;
        }
    }
}

fn contents(store: &Store, from: i64, to: i64) -> BTreeMap<Labels, BTreeMap<i64, u64>> {
    let mut all = BTreeMap::new();
    for shard in 0..16 {
        let selection = store.select(shard, &[Matcher::equal("__name__", "m")], from, to).unwrap();
        assert!(selection.labels.is_sorted());
        for i in 0..selection.labels.len() {
            let (mut ts, mut vs) = (vec![-7], vec![0.0]);
            selection.read(i, from, to, &mut ts, &mut vs).unwrap();
            assert!(ts[1..].windows(2).all(|w| w[0] < w[1]), "sorted, once: {ts:?}");
            assert!(!vs.iter().any(|v| is_absent(*v)));
            let samples: BTreeMap<i64, u64> =
                ts[1..].iter().copied().zip(vs[1..].iter().map(|v| v.to_bits())).collect();
            if !samples.is_empty() {
                all.insert(selection.labels[i].clone(), samples);
            }
        }
    }
    all
}

fn expected(model: &Model, from: i64, to: i64) -> BTreeMap<Labels, BTreeMap<i64, u64>> {
    let in_range = |samples: &BTreeMap<i64, u64>| -> BTreeMap<i64, u64> {
        samples.range(from..=to).map(|(t, v)| (*t, *v)).collect()
    };
    let all = model.0.iter().map(|(i, samples)| (labels(*i), in_range(samples)));
    all.filter(|(_, samples)| !samples.is_empty()).collect()
}

struct Run {
    model: Model,
    now: i64,
    layouts: BTreeMap<Vec<u32>, Arc<Layout>>,
}

impl Run {
    fn resolve(&self, store: &Store, i: usize) -> SeriesRef {
        let series = store.resolve(&labels(i));
        assert_eq!(store.labels(series), labels(i));
        series
    }

    fn step(&mut self, store: &Store, step: &Step) {
        let mut counts = Counts::default();
        let appended = match step {
            Step::Batch { group, dt, series, values } => {
                let group = store.open_group(&format!("g{group}"), shard_of(&labels(0)));
                self.now += dt.max(&0);
                let t = self.now + dt.min(&0);
                let slots: Vec<u32> = series.iter().map(|i| self.resolve(store, *i).slot).collect();
                let layout =
                    self.layouts.entry(slots.clone()).or_insert_with(|| Arc::new(Layout { slots })).clone();
                for (i, v) in series.iter().zip(values).filter(|(_, v)| !is_absent(**v)) {
                    self.model.add(*i, t, *v, &mut counts);
                }
                let batch = Columns { group, layout, t, values: values.clone().into() };
                store.append_columns(&batch, Tell::Feed).unwrap()
            }
            Step::Rows(rows) => {
                let rows: Vec<Row> = rows
                    .iter()
                    .map(|(i, dt, v)| {
                        let v = storage::model::value::sanitize(*v);
                        self.model.add(*i, self.now + dt, v, &mut counts);
                        Row { series: self.resolve(store, *i), t: self.now + dt, v }
                    })
                    .collect();
                store.append_rows(&rows).unwrap()
            }
        };
        let got =
            Counts { stored: appended.stored, too_old: appended.too_old, duplicate: appended.duplicate };
        assert_eq!(got, counts, "{step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn the_store_is_a_map(steps in proptest::collection::vec(step(), 1..150), probe in 0i64..20_000) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut run = Run { model: Model::default(), now: 5_000, layouts: BTreeMap::new() };
        for step in &steps {
            run.step(&store, step);
        }
        prop_assert_eq!(contents(&store, i64::MIN, i64::MAX), expected(&run.model, i64::MIN, i64::MAX));
        prop_assert_eq!(contents(&store, probe, probe + 2_000), expected(&run.model, probe, probe + 2_000));
    }
}
