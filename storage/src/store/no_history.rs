//! [`NoHistory`]: a store that keeps no samples for readers. Its head forgets them after a while,
//! and its log once those that follow it have passed them on. For servers that only send samples
//! on.

use super::flush::{BlockBackend, LabelledSource, SeriesSamples};
use crate::error::StoreError;
use crate::model::{Matcher, TimeMs};

/// Blocks of which there are none.
#[derive(Copy, Clone, Debug, Default)]
pub struct NoHistory;

impl BlockBackend for NoHistory {
    /// Forgets the range: what its samples are kept for is in the log.
    fn write(
        &self,
        _from: TimeMs,
        _to: TimeMs,
        _series: &mut dyn Iterator<Item = Result<SeriesSamples, StoreError>>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn version(&self) -> u64 {
        0
    }

    fn has_after(&self, _from: TimeMs) -> bool {
        false
    }

    fn select(
        &self,
        _shard: u16,
        _matchers: &[Matcher],
        _from: TimeMs,
        _to: TimeMs,
    ) -> Result<Vec<LabelledSource>, StoreError> {
        Ok(Vec::new())
    }

    fn label_names(
        &self,
        _sets: &[Vec<Matcher>],
        _from: TimeMs,
        _to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn label_values(
        &self,
        _name: &str,
        _sets: &[Vec<Matcher>],
        _from: TimeMs,
        _to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsDisk;
    use crate::metrics::Metrics;
    use crate::model::{Labels, Matcher};
    use crate::store::{FloatRow, StoreBuilder, StoreOptions};
    use std::sync::Arc;

    /// The head forgets; the log keeps what a reader holds, as long as that may be held.
    #[test]
    fn a_store_without_history_forgets_what_nobody_holds() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 1_000,
            block_range_ms: 10_000,
            out_of_order_ms: 0,
        };
        let metrics = Metrics::default();
        let builder = StoreBuilder::new(options, Arc::new(OsDisk), &metrics);
        let builder = builder.block_backend(Some(Arc::new(NoHistory))).manual_log(400);
        let (store, _) = builder.open().expect("a store");
        let series = store.get_or_create_series(&Labels::from_pairs([("__name__", "m")]));
        let hold = store.wal().hold(1);
        for i in 0..200 {
            store.append_rows(&[FloatRow { series, t: i * 1_000, v: i as f64 }]).expect("appended");
            store.wal().write_queued(true);
        }
        let segments = || store.wal().log.segments().len();
        let all = segments();
        assert!(all > 12, "{all} segments");
        let forget = || store.maintenance().write_blocks(300_000).expect("forgotten");
        forget();
        assert_eq!(segments(), all, "a reader holds them");
        let of_all = [Matcher::equal("__name__", "m")];
        let held = |from, to| -> usize {
            let read = |shard| {
                let selection = store.select(shard, &of_all, from, to).expect("a selection");
                let mut ts = Vec::new();
                let rows = 0..selection.labels.len();
                for row in rows {
                    selection.read(row, from, to, &mut ts, &mut Vec::new()).expect("read");
                }
                ts.len()
            };
            (0..crate::model::SHARDS).map(read).sum()
        };
        assert_eq!((held(0, 189_999), held(190_000, 300_000)), (0, 10), "the head has forgotten them");
        store.wal().hold_since(100_000);
        store.append_rows(&[FloatRow { series, t: 215_000, v: 0.0 }]).expect("appended");
        store.wal().write_queued(true);
        forget();
        let half = segments();
        assert!(half > all / 3 && half < all * 2 / 3, "{half} of {all} segments");
        drop(hold);
        store.append_rows(&[FloatRow { series, t: 235_000, v: 0.0 }]).expect("appended");
        store.wal().write_queued(true);
        forget();
        assert!(segments() < 6, "{} of {all} segments", segments());
        store.close().expect("closed");
    }
}
