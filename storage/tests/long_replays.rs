//! Tests the replay of a log that is long enough for whole chunks of scrapes: the store has the
//! same content after it as before.
//!
//! Columns of targets change, single and late samples, corrections and deletions occur between the
//! scrapes, and the store is reopened in between.
#![allow(clippy::disallowed_methods, reason = "files are looked at beside the store")]

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, TimeMs, shard_of};
use storage::store::{
    ColumnBatch, ColumnLayout, CorrectedValue, Correction, FeedDelivery, FloatRow, Store, StoreBuilder,
    StoreOptions,
};

#[allow(dead_code, reason = "shared with other tests")]
mod support;
use support::{Sample, contents};

const TARGETS: usize = 3;
/// Enough columns for a column set to be abandoned when a target has few of them.
const COLUMNS: usize = 150;
const STEP: TimeMs = 15_000;
const START: TimeMs = 1_700_000_000_000;

/// An occasional event.
#[derive(Clone, Debug)]
enum Event {
    /// From now on a target has these columns, in this order.
    Columns(usize, Vec<usize>),
    /// A sample of a series of a target, this many steps late.
    Single(usize, usize, i64),
    /// Samples of all series of a target in one append, as in remote write.
    Together(usize, i64),
    /// Changes the value of a sample, or deletes it.
    Correct(usize, usize, i64, bool),
    Delete(usize, usize, i64, i64),
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    let target = || 0..TARGETS;
    let columns = proptest::sample::subsequence((0..COLUMNS).collect::<Vec<_>>(), 1..COLUMNS);
    prop_oneof![
        4 => (target(), columns.prop_shuffle()).prop_map(|(target, columns)| Event::Columns(target, columns)),
        3 => (target(), 0usize..70, 0i64..200).prop_map(|(target, i, late)| Event::Single(target, i, late)),
        1 => (target(), 0i64..5).prop_map(|(target, late)| Event::Together(target, late)),
        2 => (target(), 0usize..70, 0i64..200, any::<bool>())
            .prop_map(|(target, i, late, gone)| Event::Correct(target, i, late, gone)),
        1 => (target(), 0usize..70, 0i64..300, 0i64..50)
            .prop_map(|(target, i, back, long)| Event::Delete(target, i, back, long)),
        2 => Just(Event::Reopen),
    ]
}

fn labels(target: usize, i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string()), ("instance", target.to_string())])
}

/// Some columns are constant, some count, some are decimals, some are random; each is sometimes
/// absent.
fn value(i: usize, step: i64, salt: u64) -> f64 {
    let random = (step as u64 * COLUMNS as u64 + i as u64 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match i % 6 {
        _ if random >> 58 == 1 => f64::from_bits(storage::model::value::ABSENT_BITS),
        0 => 7.0,
        1 => (step / 100) as f64,
        2 => (step * 3) as f64,
        3 => (random >> 52) as f64 / 10.0,
        4 if random >> 59 == 2 => storage::model::value::STALE,
        _ => f64::from_bits(random >> 2),
    }
}

/// Opens a store, or only reads it, with a replay that keeps this many bytes of the log after the
/// log scan.
fn open(dir: &Path, keep: Option<u64>) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.into(),
        wal_sync_interval_ms: 5,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let disk = Arc::new(OsDisk);
    let metrics = Metrics::default();
    let opened = match keep {
        None => Store::open(options, disk, &metrics),
        Some(keep) => StoreBuilder::new(options, disk, &metrics).manual_log(keep).open(),
    };
    let (store, replay) = opened.unwrap();
    assert_eq!(replay.damage, Vec::<String>::new());
    store
}

struct ScrapedStore {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    columns: Vec<Vec<usize>>,
    salt: u64,
}

impl ScrapedStore {
    fn scrape(&self, target: usize, step: i64) {
        let all: Vec<Labels> = self.columns[target].iter().map(|i| labels(target, *i)).collect();
        let slots = all.iter().map(|labels| self.store.get_or_create_series(labels).slot).collect();
        let group = self.store.open_group(&target.to_string(), shard_of(&all[0]));
        let values = self.columns[target].iter().map(|i| value(*i, step, self.salt)).collect();
        let batch =
            ColumnBatch { group, layout: Arc::new(ColumnLayout { slots }), t: START + step * STEP, values };
        self.store.append_columns(&batch, FeedDelivery::Nobody).unwrap();
    }

    fn row(&self, target: usize, i: usize, t: TimeMs) -> FloatRow {
        FloatRow { series: self.store.get_or_create_series(&labels(target, i)), t, v: (t % 977) as f64 }
    }

    fn act(&mut self, event: &Event, step: i64) {
        let at = |late: i64| START + (step - late) * STEP;
        match event {
            Event::Columns(target, columns) => self.columns[*target].clone_from(columns),
            Event::Single(target, i, late) => {
                let _ = self.store.append_rows(&[self.row(*target, *i, at(*late) + 7)]).unwrap();
            }
            Event::Together(target, late) => {
                let rows: Vec<FloatRow> = (0..70).map(|i| self.row(*target, i, at(*late) + 9)).collect();
                let _ = self.store.append_rows(&rows).unwrap();
            }
            Event::Correct(target, i, late, gone) => {
                let series = self.store.get_or_create_series(&labels(*target, *i));
                let to = if *gone { CorrectedValue::Gone } else { CorrectedValue::Float(1.25) };
                let correction = Correction { series, t: at(*late), value: to };
                self.store.recorder().correct(&[correction]).unwrap();
            }
            Event::Delete(target, i, back, long) => {
                let matchers =
                    [Matcher::equal("instance", target.to_string()), Matcher::equal("i", i.to_string())];
                self.store.admin().delete(&matchers, at(*back), at(back - long)).unwrap();
            }
            Event::Reopen => self.reopen(),
        }
    }

    /// Reopens the store and checks that nothing has changed.
    fn reopen(&mut self) {
        let before: BTreeSet<Sample> = contents(&self.store);
        for keep in [Some(1), Some(1 << 12), Some(1 << 17), None] {
            self.store.close().unwrap();
            self.store = open(self.dir.path(), keep);
            let after = contents(&self.store);
            let lost = before.difference(&after).next();
            let new = after.difference(&before).next();
            assert!(lost.is_none() && new.is_none(), "{keep:?}: lost {lost:?}, new {new:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn a_replay_gives_what_was_there(
        events in proptest::collection::vec((20i64..700, event()), 0..14),
        steps in 100i64..700,
        salt in any::<u64>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), None);
        let mut life = ScrapedStore { dir, store, columns: vec![(0..COLUMNS).collect(); TARGETS], salt };
        for step in 0..steps {
            let due = events.iter().filter(|(at, _)| *at == step);
            for (_, event) in due { life.act(event, step); }
            for target in 0..TARGETS { life.scrape(target, step); }
        }
        life.reopen();
        // Later scrapes continue the replayed data.
        for step in steps..steps + 40 {
            for target in 0..TARGETS { life.scrape(target, step); }
        }
        life.reopen();
    }
}
