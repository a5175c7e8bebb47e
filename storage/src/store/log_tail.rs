//! [`LogTail`]: follows the log and returns the samples in it, in the order in which they were
//! appended, from a [`LogPosition`] on. For those who pass all samples on, such as remote write: a
//! position survives a restart, and [`super::StoreWal::hold`] keeps the log from it on.
//!
//! Corrections and deletions are left out: they change samples that were passed on already. The
//! labels of a series are those of [`StoreSeries::labels`](super::StoreSeries::labels).

use super::Store;
use crate::error::StoreError;
use crate::head::group_of;
use crate::model::value::{ABSENT, is_absent};
use crate::model::{NativeHistogram, SHARDS, SeriesRef, TimeMs};
use crate::wal::{
    FollowStep, LogFollower, LogRecord, PayloadReader, RecordKind, take_histograms, take_layout,
    take_raw_row, take_samples, take_scrape_head, take_starts,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// A position in the log: the next item to read. Positions ascend in the order of the log.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    /// Number of the next record to read.
    pub lsn: u64,
    /// The item in the record.
    pub item: u32,
}

impl LogPosition {
    /// The first item of a record.
    pub fn at(lsn: u64) -> LogPosition {
        LogPosition { lsn, item: 0 }
    }

    /// The position after this item.
    #[must_use]
    pub fn next(self) -> LogPosition {
        LogPosition { item: self.item + 1, ..self }
    }
}

/// A float of a record.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct LoggedFloat {
    /// The number of the item in its record.
    pub item: u32,
    /// The slot of its series.
    pub slot: u32,
    /// Milliseconds since the Unix epoch.
    pub t: TimeMs,
    /// May be the stale marker.
    pub v: f64,
}

/// A native histogram of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedHistogram {
    /// The number of the item in its record.
    pub item: u32,
    /// The slot of its series.
    pub slot: u32,
    /// Milliseconds since the Unix epoch.
    pub t: TimeMs,
    /// Counts, sum and buckets.
    pub h: Arc<NativeHistogram>,
}

/// The samples of one record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoggedSamples {
    /// Number of the record.
    pub lsn: u64,
    /// The shard of all its series.
    pub shard: u16,
    /// Float samples, in the order in which they were appended.
    pub floats: Vec<LoggedFloat>,
    /// Its native histograms; a record has either these or floats.
    pub histograms: Vec<LoggedHistogram>,
}

impl LoggedSamples {
    /// The series of a slot of this record.
    pub fn series(&self, slot: u32) -> SeriesRef {
        SeriesRef { shard: self.shard, slot }
    }
}

/// Reads the samples of the log of a store.
pub struct LogTail {
    store: Arc<Store>,
    follower: LogFollower,
    from: LogPosition,
    groups: HashMap<u32, TailGroup>,
    /// Number of segments that were begun.
    segments: u64,
    /// Records that could not be decoded.
    undecoded: u64,
    /// Whether a record was read.
    has_read: bool,
    /// Records before the first one that was read that are not in the log any more.
    missing: u64,
}

/// The latest scrape of a column group.
#[derive(Default)]
struct TailGroup {
    slots: Vec<u32>,
    row: Vec<f64>,
    /// The record of the row; `None`: it could not be decoded.
    lsn: Option<u64>,
}

impl LogTail {
    /// Reads the samples of `store` from a position on.
    pub fn new(store: Arc<Store>, from: LogPosition) -> LogTail {
        let follower = LogFollower::new(store.disk.clone(), from.lsn);
        LogTail {
            store,
            follower,
            from,
            groups: HashMap::new(),
            segments: 0,
            undecoded: 0,
            has_read: false,
            missing: 0,
        }
    }

    /// The LSN of the last record that was read, with or without samples; 0: none.
    pub fn last_lsn(&self) -> u64 {
        self.follower.last_lsn().max(self.from.lsn.saturating_sub(1))
    }

    /// The number of the segment that is read.
    pub fn segment(&self) -> u32 {
        self.follower.segment()
    }

    /// Number of segments that were begun: another number says that a new one has begun.
    pub fn segments_begun(&self) -> u64 {
        self.segments
    }

    /// Number of places that could not be read, and of records that could not be decoded.
    pub fn failures(&self) -> u64 {
        self.follower.damaged() + self.undecoded
    }

    /// Number of records at the beginning that are not in the log any more.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Reads the samples of the next committed record that has any into `into`. `Ok(false)`:
    /// nothing more is committed. Items before the position at which reading began are left out.
    ///
    /// # Errors
    /// The log cannot be read. The next call tries again.
    pub fn next_samples(&mut self, into: &mut LoggedSamples) -> Result<bool, StoreError> {
        let store = self.store.clone();
        loop {
            match self.follower.next_step(&store.wal.log)? {
                FollowStep::UpToDate => return Ok(false),
                FollowStep::Segment => {
                    self.segments += 1;
                    // In a new segment every group begins with its layout and a whole scrape.
                    self.groups.clear();
                }
                FollowStep::Record(record) => {
                    // Only the first record tells: within the log no records are missing.
                    if !self.has_read && self.from.lsn > 0 {
                        self.missing = record.lsn.saturating_sub(self.from.lsn);
                    }
                    self.has_read = true;
                    into.lsn = record.lsn;
                    into.floats.clear();
                    into.histograms.clear();
                    // Counted and passed over: one bad record must not stop all later samples.
                    if decode(&mut self.groups, &record, into).is_none() {
                        self.undecoded += 1;
                    }
                    self.drop_before_begin(into);
                    // Most records of other kinds have no samples: the caller need not see them.
                    if !into.floats.is_empty() || !into.histograms.is_empty() {
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Leaves out the items before the position at which reading began.
    fn drop_before_begin(&self, samples: &mut LoggedSamples) {
        if samples.lsn > self.from.lsn {
            return;
        }
        // Earlier records are read only because later scrapes are differences to them.
        let first = if samples.lsn == self.from.lsn { self.from.item } else { u32::MAX };
        samples.floats.retain(|float| float.item >= first);
        samples.histograms.retain(|histogram| histogram.item >= first);
    }
}

/// Decodes the samples of a record; `None` if that is not possible.
fn decode(groups: &mut HashMap<u32, TailGroup>, record: &LogRecord, into: &mut LoggedSamples) -> Option<()> {
    let mut item = 0;
    let mut next_item = || {
        item += 1;
        item - 1
    };
    match record.kind {
        RecordKind::Layout => layout(groups, &mut PayloadReader::new(record.payload)),
        RecordKind::Keyframe | RecordKind::Delta => {
            scrape(groups, record, &mut PayloadReader::new(record.payload), into)
        }
        RecordKind::LayoutAndKeyframe => {
            let mut cursor = PayloadReader::new(record.payload);
            layout(groups, &mut cursor)?;
            scrape(groups, record, &mut cursor, into)
        }
        RecordKind::Samples => take_samples(record.payload, |shard, slot, t, v| {
            into.shard = shard_number(shard);
            into.floats.push(LoggedFloat { item: next_item(), slot, t, v });
        }),
        RecordKind::Histograms => take_histograms(record.payload, |shard, slot, t, h| {
            into.shard = shard_number(shard);
            into.histograms.push(LoggedHistogram { item: next_item(), slot, t, h });
        }),
        // They follow the samples that they belong to, which are passed on by then.
        RecordKind::Starts => take_starts(record.payload, |_, _, _, _| ()),
        RecordKind::Series
        | RecordKind::Group
        | RecordKind::Corrections
        | RecordKind::Deletes
        | RecordKind::Flushed
        | RecordKind::Close
        | RecordKind::End => Some(()),
    }
}

/// The shard that a record names.
fn shard_number(shard: u32) -> u16 {
    (shard % u32::from(SHARDS)) as u16
}

/// Takes up a layout: which series the columns of a group are.
fn layout(groups: &mut HashMap<u32, TailGroup>, cursor: &mut PayloadReader) -> Option<()> {
    let layout = take_layout(cursor)?;
    let group = groups.entry(layout.group).or_default();
    if layout.from == 0 {
        group.slots = layout.slots;
        return Some(());
    }
    // Without exactly the columns before, values would go to other series.
    if group.slots.len() != layout.from as usize {
        group.slots.clear();
        group.lsn = None;
        return None;
    }
    group.slots.extend(layout.slots);
    Some(())
}

/// Decodes a scrape: a row of its group.
fn scrape(
    groups: &mut HashMap<u32, TailGroup>,
    record: &LogRecord,
    cursor: &mut PayloadReader,
    into: &mut LoggedSamples,
) -> Option<()> {
    let head = take_scrape_head(cursor)?;
    let raw = take_raw_row(cursor)?;
    let group = groups.get_mut(&head.group)?;
    let is_delta = record.kind == RecordKind::Delta;
    // A difference to a scrape that could not be decoded is useless.
    if is_delta && group.lsn != Some(head.base) {
        return None;
    }
    // Until the row is complete: an error below must not leave half of it as a base.
    group.lsn = None;
    if !is_delta {
        group.row.clear();
    }
    group.row.resize(raw.columns, ABSENT);
    raw.apply(&mut group.row, |_, _, _| ())?;
    group.lsn = Some(record.lsn);
    // The layout is lost: the values belong to unknown series, but the next delta needs the row.
    if group.slots.len() < raw.columns {
        return None;
    }
    into.shard = group_of(head.group).0;
    // Numbered before absent values are left out: a position in the log must not depend on which
    // of the columns have a value.
    let columns = group.row.iter().zip(&group.slots).enumerate().filter(|(_, (v, _))| !is_absent(**v));
    let float = |(item, (v, slot)): (usize, (&f64, &u32))| LoggedFloat {
        item: item as u32,
        slot: *slot,
        t: head.t,
        v: *v,
    };
    into.floats.extend(columns.map(float));
    Some(())
}
