//! [`SeriesCatalog`]: the trait by which the API lists series, label names and label values.
//!
//! The store implements it for this process; a cluster for all of its processes together. All
//! methods block.

use super::QueryError;
use crate::limits::LABELS_BYTES;
use crate::memory::MemoryReservation;
use std::collections::BTreeMap;
use storage::exemplars::SeriesExemplars;
use storage::model::{Labels, Matcher, NativeHistogram, SHARDS, TimeMs, value};
use storage::store::{HeadStats, NewestSample, NewestValue, SeriesChanges, SeriesMark, Store};

/// Lists series, label names and label values of a time range.
///
/// # Contract
/// 1. All methods block, and may be called from several threads at once.
/// 2. Every list is sorted and has each entry once, however many of `sets` it satisfies. Callers
///    merge lists of several processes and cut them at a limit: an entry that is not in its place
///    would be lost or appear twice. *Checked:* `debug_assert!` in the implementation of the store;
///    a cluster sorts what it merges.
/// 3. `from` and `to` are included. A list may have entries whose samples are a little outside of
///    these times, as it is made from the bounds of chunks, but none that has a sample within may
///    be missing.
/// 4. A list is complete, or there is an error. Only if [`SeriesCatalog::incomplete_reason`] says
///    why may something be missing; users see this text as a warning.
/// 5. [`SeriesCatalog::series_since`] tells every series that came; whoever adds them to a list
///    that was made after [`SeriesCatalog::series_mark`] has the list of now, with the same `from`.
///    *Checked:* `series_changes_lead_to_the_list`.
/// 6. `memory` is grown before an entry is kept, so that a list fails at its limit and not after
///    it.
pub trait SeriesCatalog: Send + Sync {
    /// Label sets of the series that satisfy any of the matcher sets: sorted, each once. They count
    /// in `memory`.
    fn series(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<Labels>, QueryError>;
    /// Sorted label names.
    fn label_names(&self, sets: &[Vec<Matcher>], from: TimeMs, to: TimeMs)
    -> Result<Vec<String>, QueryError>;
    /// Sorted values of one label.
    fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, QueryError>;
    /// The newest sample of each series, unless it has ended: sorted by labels, each once. They
    /// count in `memory`.
    fn newest(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<NewestSample>, QueryError>;
    /// The exemplars of the series that satisfy any of the matcher sets, by series.
    fn exemplars(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<SeriesExemplars>, QueryError>;
    /// The current moment, for [`SeriesCatalog::series_since`].
    fn series_mark(&self) -> SeriesMark {
        SeriesMark::default()
    }
    /// What changed in the list of all series since `mark`, which is moved to now. By default this
    /// is not known.
    fn series_since(&self, mark: &mut SeriesMark) -> SeriesChanges {
        let _ = mark;
        SeriesChanges::Unknown
    }
    /// Counts of the head: series, label pairs, and the largest `limit` of each table.
    fn stats(&self, limit: usize) -> HeadStats;
    /// Why lists and answers may be incomplete now; `None`: they are complete.
    fn incomplete_reason(&self) -> Option<String> {
        None
    }
}

/// Checks clause 2 of the contract of [`SeriesCatalog`], in debug builds.
fn debug_assert_ascending<T: Ord>(list: &[T]) {
    debug_assert!(
        list.windows(2).all(|pair| pair[0] < pair[1]),
        "clause 2 of the contract of `SeriesCatalog`: lists are sorted, without duplicates"
    );
}

/// Counts a series of a list.
pub fn count_labels(memory: &MemoryReservation, labels: &Labels) -> Result<(), QueryError> {
    Ok(memory.grow(labels.encoded().len() + LABELS_BYTES)?)
}

/// Counts a series of a list, with its newest sample.
pub fn count_sample(memory: &MemoryReservation, sample: &NewestSample) -> Result<(), QueryError> {
    count_labels(memory, &sample.labels)?;
    if let NewestValue::Histogram(h) = &sample.value {
        let counts = h.positive.counts.len() + h.negative.counts.len() + h.bounds.len();
        let spans = h.positive.spans.len() + h.negative.spans.len();
        memory.grow(size_of::<NativeHistogram>() + 8 * (counts + spans))?;
    }
    Ok(())
}

impl SeriesCatalog for Store {
    fn series_mark(&self) -> SeriesMark {
        self.changes().series_mark()
    }
    fn series_since(&self, mark: &mut SeriesMark) -> SeriesChanges {
        self.changes().series_since(mark)
    }
    fn incomplete_reason(&self) -> Option<String> {
        self.status().incomplete_reason()
    }
    fn series(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<Labels>, QueryError> {
        let mut found = Vec::new();
        for (set, shard) in sets.iter().flat_map(|set| (0..SHARDS).map(move |shard| (set, shard))) {
            let selection = self.select(shard, set, from, to)?;
            for (i, labels) in selection.labels.iter().enumerate() {
                // The index has series of any time. This looks at the bounds of chunks and reads no
                // samples.
                if selection.may_have_samples(i, from, to)? {
                    count_labels(memory, labels)?;
                    found.push(labels.clone());
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn label_names(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, QueryError> {
        let names = Store::label_names(self, sets, from, to)?;
        debug_assert_ascending(&names);
        Ok(names)
    }

    fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, QueryError> {
        let values = Store::label_values(self, name, sets, from, to)?;
        debug_assert_ascending(&values);
        Ok(values)
    }

    fn newest(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<NewestSample>, QueryError> {
        let mut found = BTreeMap::new();
        for set in sets {
            let newest = Store::newest(self).samples(set, from, to)?;
            newest.iter().try_for_each(|sample| count_sample(memory, sample))?;
            // A stale marker as newest sample means that the series has ended.
            let is_sample = |sample: &NewestSample| match sample.value {
                NewestValue::Float(v) => value::is_sample(v) && !value::is_histogram(v),
                NewestValue::Histogram(_) => true,
            };
            let newest = newest.into_iter().filter(is_sample);
            // A series that several matcher sets select has the same newest sample in each.
            found.extend(newest.map(|sample| (sample.labels.clone(), sample)));
        }
        Ok(found.into_values().collect())
    }

    fn exemplars(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<SeriesExemplars>, QueryError> {
        Ok(self.select_exemplars(sets, from, to))
    }

    fn stats(&self, limit: usize) -> HeadStats {
        self.status().head_stats(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryPool;
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use storage::disk::OsDisk;
    use storage::metrics::Metrics;
    use storage::store::{FloatRow, StoreOptions};

    const HOUR: TimeMs = 3_600_000;

    fn labels(i: u64) -> Labels {
        Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
    }

    /// Whoever follows the changes has the list: over series that are created before their first
    /// sample, flushes, series that end and come back, and deletions.
    #[test]
    fn series_changes_lead_to_the_list() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            wal_sync_interval_ms: 1_000,
            block_range_ms: 2 * HOUR,
            out_of_order_ms: 0,
        };
        let store: Arc<Store> =
            Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store").0;
        let memory = MemoryPool::for_queries(1 << 30);
        let list = |to: TimeMs| -> BTreeSet<Labels> {
            let reservation = memory.reservation(1 << 30);
            let found = SeriesCatalog::series(&*store, &[Vec::new()], TimeMs::MIN, to, &reservation);
            found.expect("a list").into_iter().collect()
        };
        let mut seed = 11_u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let mut mark = SeriesCatalog::series_mark(&*store);
        let mut followed = list(0);
        let mut added = 0;
        let mut anew = 0;
        let mut t = 0;
        for step in 0..400 {
            t += HOUR / 20;
            for _ in 0..random(3) {
                let series = store.get_or_create_series(&labels(random(60)));
                if random(3) > 0 {
                    store.append_rows(&[FloatRow { series, t, v: 1.0 }]).expect("appended");
                }
            }
            if step % 37 == 0 {
                store.maintenance().write_blocks(t).expect("flushed");
            }
            if step % 151 == 150 {
                let one = [Matcher::equal("i", random(60).to_string())];
                store.admin().delete(&one, TimeMs::MIN, t).expect("deleted");
            }
            match SeriesCatalog::series_since(&*store, &mut mark) {
                SeriesChanges::Added(series) => {
                    added += 1;
                    followed.extend(series);
                }
                SeriesChanges::Unknown => {
                    anew += 1;
                    mark = SeriesCatalog::series_mark(&*store);
                    followed = list(t);
                }
            }
            assert_eq!(followed, list(t), "step {step}");
        }
        assert!(added > 100 && anew > 3, "{added} times only additions, {anew} times anew");
        store.close().expect("closed");
    }
}
