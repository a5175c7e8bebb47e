//! The replay overlay: the samples that are appended while the log is replayed at a start. They are
//! stored twice: in the temporary head, which answers now, and here, in order, to be merged into
//! the replayed head when it is ready ([`super::replay_status`]).

use super::Store;
use super::batch::ChangeData;
use super::head_deletes::HeadDeletes;
use super::record_applier::{put_histogram, put_sample};
use super::shards::StoreShard;
use crate::error::StoreError;
use crate::head::{AppendCounts, Head, group_of};
use crate::limits::REPLAY_OVERLAY_BYTES;
use crate::model::columns::ColumnBatch;
use crate::model::{SHARDS, TimeMs};
use crate::wal::RecordError;

/// The appends of one shard since the start.
#[derive(Default)]
pub(super) struct ReplayOverlay {
    changes: Vec<ChangeData>,
    bytes: usize,
}

impl ReplayOverlay {
    /// Adds what was stored.
    pub(super) fn add(&mut self, data: &ChangeData) {
        self.bytes += match data {
            ChangeData::Columns(batch) => 64 + 8 * batch.values.len(),
            ChangeData::Rows(rows) => 64 + 24 * rows.len(),
            ChangeData::Starts(rows) => 64 + 24 * rows.len(),
            ChangeData::Histograms(rows) => {
                rows.iter().map(|(.., h)| 256 + 8 * (h.positive.counts.len() + h.negative.counts.len())).sum()
            }
        };
        self.changes.push(data.clone());
    }
}

impl Store {
    /// Refuses an append while the log is replayed, if the overlay of the shard is full: its
    /// samples are in memory twice.
    pub(super) fn admit_to_overlay(&self, shard: &StoreShard) -> Result<(), StoreError> {
        let share = REPLAY_OVERLAY_BYTES / usize::from(SHARDS);
        match &shard.overlay {
            Some(overlay) if overlay.bytes > share => self.replay.refuse_while_running(),
            _ => Ok(()),
        }
    }
}

impl StoreShard {
    /// Ends the replay of this shard: the replayed head, with the overlay merged into it, replaces
    /// the temporary one.
    pub(super) fn install_replayed(&mut self, mut head: Head, mut deleted: HeadDeletes) {
        head.take_series_from(std::mem::replace(&mut self.head, Head::new(1, 0)));
        for data in self.overlay.take().into_iter().flat_map(|overlay| overlay.changes) {
            merge(&mut head, &mut deleted, data);
        }
        self.head = head;
        self.deleted = deleted;
        // The replayed samples may be of any time.
        self.arrivals.add(TimeMs::MIN);
    }
}

/// Adds samples to a head that are in the log already, in the same way as the next start would.
fn merge(head: &mut Head, deleted: &mut HeadDeletes, data: ChangeData) {
    // Errors cannot occur: the temporary head has accepted the data.
    let _: Result<(), RecordError> = match data {
        ChangeData::Columns(batch) => merge_columns(head, deleted, &batch),
        ChangeData::Rows(rows) => merge_rows(head, deleted, &rows),
        ChangeData::Histograms(rows) => {
            rows.into_iter().try_for_each(|(slot, t, h)| put_histogram(head, deleted, (slot, t, h)))
        }
        ChangeData::Starts(rows) => {
            rows.iter().try_for_each(|(slot, t, start)| head.restore_start(*slot, *t, *start))
        }
    };
}

fn merge_columns(head: &mut Head, deleted: &mut HeadDeletes, batch: &ColumnBatch) -> Result<(), RecordError> {
    if deleted.touches(&batch.layout.slots, batch.t) {
        let samples = batch.layout.slots.iter().zip(&*batch.values);
        let mut samples = samples.filter(|(_, v)| !crate::model::value::is_absent(**v));
        return samples.try_for_each(|(slot, v)| put_sample(head, deleted, (*slot, batch.t, *v)));
    }
    head.merge_batch(group_of(batch.group.0).1, &batch.layout, batch.t, &batch.values);
    Ok(())
}

fn merge_rows(
    head: &mut Head,
    deleted: &mut HeadDeletes,
    rows: &[(u32, TimeMs, f64)],
) -> Result<(), RecordError> {
    // First all together, so that implicit groups form as at the append; then one by one, for those
    // that were refused as too late.
    if !rows.iter().any(|(slot, t, _)| deleted.covers(*slot, *t)) {
        head.append_rows(rows, &mut AppendCounts::default());
    }
    rows.iter().try_for_each(|sample| put_sample(head, deleted, *sample))
}
