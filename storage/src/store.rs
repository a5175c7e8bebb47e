//! The door of the store: one object that owns WAL, head and blocks.
//!
//! Writers come by column ([`Store::append_columns`], a scrape or a rule's output: one timestamp, many
//! series) or by row ([`Store::append_rows`], remote write). Both get an LSN; data is acknowledged
//! once [`Store::on_committed`] says so. Readers take a [`Selection`], a snapshot that holds no lock.

mod batch;
mod options;
mod selection;

pub use batch::{Appended, Columns, Feed, FeedData, FeedItem, GroupId, Layout, Row, Tell};
pub use options::{HeadStats, Options, Replay, StoreError};
pub(crate) use selection::Runs;
pub use selection::{Part, Selection};

use crate::disk::Disk;
use crate::head::{Counts, Head, Taken};
use crate::metrics::Metrics;
use crate::model::{Labels, Matcher, SHARDS, SeriesRef, TimeMs, shard_of};
use parking_lot::RwLock;
use selection::{Entry, Sources};
use std::sync::Arc;

/// The store.
pub struct Store {
    shards: Vec<RwLock<Shard>>,
    feed: RwLock<Option<Arc<dyn Feed>>>,
}

/// One shard under its lock.
struct Shard {
    head: Head,
    /// Append sequence number.
    seq: u64,
}

impl Store {
    /// Opens (or creates) the data directory and replays the log.
    pub fn open(
        options: Options,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<(Arc<Store>, Replay), StoreError> {
        let _ = (disk, metrics);
        let head = || Head::new(options.block_range_ms, options.out_of_order_ms);
        let shards = (0..SHARDS).map(|_| RwLock::new(Shard { head: head(), seq: 0 })).collect();
        Ok((Arc::new(Store { shards, feed: RwLock::new(None) }), Replay::default()))
    }

    fn shard(&self, shard: u16) -> &RwLock<Shard> {
        &self.shards[usize::from(shard % SHARDS)]
    }

    fn check_rows(&self, rows: &[Row]) -> Result<(), StoreError> {
        let slots: Vec<u32> = (0..SHARDS).map(|shard| self.slots(shard)).collect();
        let known =
            |series: SeriesRef| slots.get(usize::from(series.shard)).is_some_and(|n| series.slot < *n);
        match rows.iter().find(|row| !known(row.series)) {
            Some(row) => Err(StoreError::Refused(format!("no series {:?}", row.series))),
            None => Ok(()),
        }
    }

    fn tell(&self, item: FeedItem) {
        if let Some(feed) = &*self.feed.read() {
            feed.push(item);
        }
    }

    /// From now on `feed` hears of every append with [`Tell::Feed`].
    pub fn set_feed(&self, feed: Arc<dyn Feed>) {
        *self.feed.write() = Some(feed);
    }

    /// The group with this key in this shard; made on first use.
    pub fn open_group(&self, key: &str, shard: u16) -> GroupId {
        let group = self.shard(shard).write().head.open_group(key);
        GroupId(group * u32::from(SHARDS) + u32::from(shard % SHARDS))
    }

    /// Where the series with these labels lives; made, and logged, on first use.
    pub fn resolve(&self, labels: &Labels) -> SeriesRef {
        let shard = shard_of(labels);
        let known = self.shard(shard).read().head.find(labels);
        let slot = known.unwrap_or_else(|| self.shard(shard).write().head.resolve(labels));
        SeriesRef { shard, slot }
    }

    /// The labels of a series.
    pub fn labels(&self, series: SeriesRef) -> Labels {
        self.shard(series.shard).read().head.labels(series.slot).cloned().unwrap_or_default()
    }

    /// Number of slots handed out in a shard: new series are `old..new`.
    pub fn slots(&self, shard: u16) -> u32 {
        self.shard(shard).read().head.slots()
    }

    /// Appends one batch.
    pub fn append_columns(&self, batch: &Columns, tell: Tell) -> Result<Appended, StoreError> {
        let (shard_at, group) =
            ((batch.group.0 % u32::from(SHARDS)) as u16, batch.group.0 / u32::from(SHARDS));
        let mut shard = self.shard(shard_at).write();
        let mut counts = Counts::default();
        let taken = shard.head.append_columns(group, &batch.layout, batch.t, &batch.values, &mut counts)?;
        shard.seq += 1;
        if tell == Tell::Feed {
            let data = match taken {
                Taken::Row { values, .. } => FeedData::Columns(Columns { values, ..batch.clone() }),
                Taken::Late(rows) => FeedData::Rows(rows),
            };
            self.tell(FeedItem { shard: shard_at, seq: shard.seq, data });
        }
        Ok(appended(&counts, 0, shard.seq))
    }

    /// Appends single samples, in any order and of any shard.
    pub fn append_rows(&self, rows: &[Row]) -> Result<Appended, StoreError> {
        self.check_rows(rows)?;
        let mut counts = Counts::default();
        let mut seq = 0;
        for shard_at in 0..SHARDS {
            if !rows.iter().any(|row| row.series.shard == shard_at) {
                continue;
            }
            let mut shard = self.shard(shard_at).write();
            let mut stored = Vec::new();
            for row in rows.iter().filter(|row| row.series.shard == shard_at) {
                if shard.head.append_row(row.series.slot, row.t, row.v, &mut counts) {
                    stored.push((row.series.slot, row.t, row.v));
                }
            }
            shard.seq += 1;
            seq = shard.seq;
            self.tell(FeedItem { shard: shard_at, seq, data: FeedData::Rows(stored) });
        }
        Ok(appended(&counts, 0, seq))
    }

    /// Calls `done` (on the WAL's thread, or at once) when everything up to `lsn` would survive kill -9;
    /// with an error if it never will.
    pub fn on_committed(&self, lsn: u64, done: Box<dyn FnOnce(Result<(), StoreError>) + Send>) {
        let _ = lsn;
        done(Ok(()));
    }

    /// The series of `shard` that satisfy all matchers and may have samples in `from..=to`, from head and blocks.
    pub fn select(
        &self,
        shard: u16,
        matchers: &[Matcher],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Selection, StoreError> {
        let shard = self.shard(shard).read();
        let mut entries: Vec<Entry> = Vec::new();
        let head = shard.head.snapshot(matchers, from, to, |slot, labels| {
            let sources = Sources { head: Some(entries.len() as u32), parts: Vec::new() };
            entries.push(Entry { labels: labels.clone(), slot: Some(slot), sources });
        });
        let seq = shard.seq;
        drop(shard);
        Ok(Selection::new(seq, entries, head))
    }

    /// Sorted names of the labels of all series in `from..=to` that satisfy any of the matcher sets (none: all).
    pub fn label_names(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        let mut names = std::collections::BTreeSet::new();
        let _ = (from, to);
        for shard in &self.shards {
            shard.read().head.label_names(sets, &mut names);
        }
        Ok(names.into_iter().collect())
    }

    /// Sorted values of label `name`, as [`Store::label_names`].
    pub fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, StoreError> {
        let mut values = std::collections::BTreeSet::new();
        let _ = (from, to);
        for shard in &self.shards {
            shard.read().head.label_values(name, sets, &mut values);
        }
        Ok(values.into_iter().collect())
    }

    /// Counts; the lists hold at most `limit` entries.
    pub fn stats(&self, limit: usize) -> HeadStats {
        let _ = limit;
        unimplemented!()
    }

    /// Housekeeping, to be called about once a minute: flushes what is complete as of `now` into blocks and
    /// drops the log behind it. Returns the number of blocks written.
    pub fn maintain(&self, now: TimeMs) -> Result<usize, StoreError> {
        let _ = now;
        unimplemented!()
    }

    /// Writes and syncs what is queued and stops the log's thread.
    pub fn close(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}

fn appended(counts: &Counts, lsn: u64, seq: u64) -> Appended {
    Appended { lsn, stored: counts.stored, too_old: counts.too_old, duplicate: counts.duplicate, seq }
}
