//! A store that cannot be read costs a new view its past; that is counted, and the view goes on from now.

use engine::live::{Live, LiveOptions, ViewKind, ViewSpec};
use frontends::promql::{Options, compile};
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Matcher, TimeMs};
use storage::store::{History, LabelledPart, SeriesSamples, Store, StoreError};

/// Blocks that cannot be read.
struct Unreadable;

impl History for Unreadable {
    fn write(
        &self,
        _: TimeMs,
        _: TimeMs,
        _: &mut dyn Iterator<Item = Result<SeriesSamples, StoreError>>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Refused("no disk".into()))
    }
    fn version(&self) -> u64 {
        0
    }
    fn select(&self, _: u16, _: &[Matcher], _: TimeMs, _: TimeMs) -> Result<Vec<LabelledPart>, StoreError> {
        Err(StoreError::Refused("no disk".into()))
    }
    fn label_names(&self, _: &[Vec<Matcher>], _: TimeMs, _: TimeMs) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
    fn label_values(
        &self,
        _: &str,
        _: &[Vec<Matcher>],
        _: TimeMs,
        _: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
}

#[test]
fn a_view_without_its_past_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let options = storage::store::Options {
        dir: dir.path().to_owned(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let metrics = Metrics::default();
    let (store, _) =
        Store::open_with(options, Arc::new(OsDisk), &metrics, Some(Arc::new(Unreadable))).unwrap();
    let live = Live::manual(store, &LiveOptions { workers: 1, ..LiveOptions::default() }, &metrics).unwrap();
    let plan = compile("sum(up) + sum(rate(c_total[5m]))", &Options::default()).unwrap();
    live.install(ViewSpec { name: "v".to_owned(), plan, kind: ViewKind::Continuous }).unwrap();
    live.tick(1_700_000_000_000);
    assert_eq!(metrics.counter("perennial_views_without_past_total", "", &[]).get(), 2);
    live.stop();
}
