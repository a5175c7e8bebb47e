//! The append path: into the head, into the log and to the feed, in one order, under the shard's lock.
//!
//! The log is asked for room before the lock is taken; behind it nothing waits and nothing fails, so head and
//! log cannot differ. Encoding happens under the shard's lock, so a scrape's difference is to its predecessor.

use super::batch::{Appended, Columns, FeedData, FeedItem, Row, Tell};
use super::options::StoreError;
use super::{Shard, Store};
use crate::head::{Counts, Taken, group_of};
use crate::limits::WAL_SAMPLES;
use crate::model::{SHARDS, SeriesRef, TimeMs};
use crate::wal::{Kind, put_samples};
use std::sync::Arc;

impl Store {
    /// Appends one batch.
    pub fn append_columns(&self, batch: &Columns, tell: Tell) -> Result<Appended, StoreError> {
        self.log.admit()?;
        let (shard_at, group) = group_of(batch.group.0);
        let mut counts = Counts::default();
        let mut shard = self.shard(shard_at).write();
        let taken = shard.head.append_columns(group, &batch.layout, batch.t, &batch.values, &mut counts)?;
        shard.seq += 1;
        let seq = shard.seq;
        let (lsn, data) = match taken {
            Taken::Row { values, row } => {
                let lsn = self.log_row(&mut shard, shard_at, group, batch.t, row);
                (lsn, FeedData::Columns(Columns { values, ..batch.clone() }))
            }
            Taken::Late(rows) => (self.log_samples(&mut shard, shard_at, &rows), FeedData::Rows(rows)),
        };
        if tell == Tell::Feed {
            self.tell(FeedItem { shard: shard_at, seq, data });
        }
        drop(shard);
        self.metrics.count(&counts);
        Ok(appended(&counts, lsn, seq))
    }

    /// Appends single samples, in any order and of any shard.
    pub fn append_rows(&self, rows: &[Row]) -> Result<Appended, StoreError> {
        self.check_rows(rows)?;
        self.log.admit()?;
        let mut by_shard: Vec<Vec<&Row>> = vec![Vec::new(); usize::from(SHARDS)];
        rows.iter().for_each(|row| by_shard[usize::from(row.series.shard)].push(row));
        let mut counts = Counts::default();
        let (mut lsn, mut seq) = (0, 0);
        for (shard_at, rows) in (0..SHARDS).zip(by_shard).filter(|(_, rows)| !rows.is_empty()) {
            let mut shard = self.shard(shard_at).write();
            let mut stored = Vec::with_capacity(rows.len());
            for row in rows {
                let v = crate::model::value::sanitize(row.v);
                if shard.head.append_row(row.series.slot, row.t, v, &mut counts) {
                    stored.push((row.series.slot, row.t, v));
                }
            }
            shard.seq += 1;
            seq = shard.seq;
            lsn = self.log_samples(&mut shard, shard_at, &stored).max(lsn);
            self.tell(FeedItem { shard: shard_at, seq, data: FeedData::Rows(stored) });
        }
        self.metrics.count(&counts);
        Ok(appended(&counts, lsn, seq))
    }

    fn check_rows(&self, rows: &[Row]) -> Result<(), StoreError> {
        let mut slots = [None; SHARDS as usize];
        let mut known = |series: SeriesRef| {
            let count = slots.get_mut(usize::from(series.shard));
            count.is_some_and(|n| series.slot < *n.get_or_insert_with(|| self.slots(series.shard)))
        };
        match rows.iter().find(|row| !known(row.series)) {
            Some(row) => {
                Err(StoreError::Refused(format!("malformed rows: there is no series {:?}", row.series)))
            }
            None => Ok(()),
        }
    }

    fn tell(&self, item: FeedItem) {
        if let Some(feed) = &*self.feed.read() {
            feed.push(item);
        }
    }

    /// Logs a scrape that is in the head already.
    fn log_row(&self, shard: &mut Shard, shard_at: u16, group: u32, t: TimeMs, row: Arc<[f64]>) -> u64 {
        let Shard { head, batch, .. } = shard;
        loop {
            let epoch = self.log.epoch();
            batch.clear();
            head.encode_series(shard_at, batch);
            head.encode_row(shard_at, group, t, &row, epoch, batch);
            if let Ok(lsn) = self.log.push(batch, epoch, Some(t)) {
                head.series_logged();
                head.row_logged(group, epoch, row, lsn);
                return lsn;
            }
        }
    }

    /// Logs single samples that are in the head already; the newest record if there are none.
    fn log_samples(&self, shard: &mut Shard, shard_at: u16, samples: &[(u32, TimeMs, f64)]) -> u64 {
        let Some(newest) = samples.iter().map(|(_, t, _)| *t).max() else {
            // Nothing new; what is stored already is acknowledged with what came before.
            return self.log.last_lsn();
        };
        let Shard { head, batch, .. } = shard;
        batch.clear();
        head.encode_series(shard_at, batch);
        for part in samples.chunks(WAL_SAMPLES) {
            batch.add(Kind::Samples, |out| put_samples(out, shard_at, part));
        }
        loop {
            if let Ok(lsn) = self.log.push(batch, self.log.epoch(), Some(newest)) {
                head.series_logged();
                return lsn;
            }
        }
    }
}

fn appended(counts: &Counts, lsn: u64, seq: u64) -> Appended {
    Appended { lsn, stored: counts.stored, too_old: counts.too_old, duplicate: counts.duplicate, seq }
}
