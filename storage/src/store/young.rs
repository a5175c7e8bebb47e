//! What comes while the log is replayed, beside the young head that has it: kept once more, in order, for the head that
//! comes out of the replay.

use super::batch::{Columns, FeedData};
use super::deleted::Deleted;
use super::options::StoreError;
use super::restorer::{put_histogram, put_sample};
use super::{Shard, Store};
use crate::head::{Counts, Head, group_of};
use crate::limits::REPLAY_YOUNG_BYTES;
use crate::model::{SHARDS, TimeMs};

/// What a shard was told.
#[derive(Default)]
pub struct Young {
    items: Vec<FeedData>,
    bytes: usize,
}

impl Young {
    /// Keeps what was stored.
    pub fn keep(&mut self, data: &FeedData) {
        self.bytes += match data {
            FeedData::Columns(batch) => 64 + 8 * batch.values.len(),
            FeedData::Rows(rows) => 64 + 24 * rows.len(),
            FeedData::Starts(rows) => 64 + 24 * rows.len(),
            FeedData::Histograms(rows) => {
                rows.iter().map(|(.., h)| 256 + 8 * (h.positive.counts.len() + h.negative.counts.len())).sum()
            }
        };
        self.items.push(data.clone());
    }
}

impl Store {
    /// For what would be appended now: while the log is replayed, no more is taken than fits into memory twice.
    pub(super) fn admit_young(&self, shard: &Shard) -> Result<(), StoreError> {
        let share = REPLAY_YOUNG_BYTES / usize::from(SHARDS);
        match &shard.young {
            Some(young) if young.bytes > share => self.refuse_while_replaying(),
            _ => Ok(()),
        }
    }
}

impl Shard {
    /// The replay is done: what it made, and what came meanwhile, is the shard from now on.
    pub fn grow_up(&mut self, mut head: Head, mut deleted: Deleted) {
        head.take_names(std::mem::replace(&mut self.head, Head::new(1, 0)));
        for data in self.young.take().into_iter().flat_map(|young| young.items) {
            adopt(&mut head, &mut deleted, data);
        }
        (self.head, self.deleted) = (head, deleted);
        self.arrivals.add(TimeMs::MIN);
    }
}

/// Puts into a head what is in the log already: as the next start would.
fn adopt(head: &mut Head, deleted: &mut Deleted, data: FeedData) {
    // Nothing of it can be malformed: a head has taken it.
    let _: Result<(), String> = match data {
        FeedData::Columns(batch) => adopt_columns(head, deleted, &batch),
        FeedData::Rows(rows) => adopt_rows(head, deleted, &rows),
        FeedData::Histograms(rows) => {
            rows.into_iter().try_for_each(|(slot, t, h)| put_histogram(head, deleted, (slot, t, h)))
        }
        FeedData::Starts(rows) => {
            rows.iter().try_for_each(|(slot, t, start)| head.restore_start(*slot, *t, *start))
        }
    };
}

fn adopt_columns(head: &mut Head, deleted: &mut Deleted, batch: &Columns) -> Result<(), String> {
    if deleted.touches(&batch.layout.slots, batch.t) {
        let samples = batch.layout.slots.iter().zip(&*batch.values);
        let mut samples = samples.filter(|(_, v)| !crate::model::value::is_absent(**v));
        return samples.try_for_each(|(slot, v)| put_sample(head, deleted, (*slot, batch.t, *v)));
    }
    head.adopt_columns(group_of(batch.group.0).1, &batch.layout, batch.t, &batch.values);
    Ok(())
}

fn adopt_rows(head: &mut Head, deleted: &mut Deleted, rows: &[(u32, TimeMs, f64)]) -> Result<(), String> {
    // Together first, as they came; then those that would be refused if they came now.
    if !rows.iter().any(|(slot, t, _)| deleted.covers(*slot, *t)) {
        head.append_rows(rows, &mut Counts::default());
    }
    rows.iter().try_for_each(|sample| put_sample(head, deleted, *sample))
}
