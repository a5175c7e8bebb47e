//! Delta encoding of scrapes: [`GroupEncoder`] remembers what the current segment (file) of the log
//! knows about one column group (the series of a scrape target or rule), so that a scrape is logged
//! as the difference to the one before. [`super::samples`] has the byte layout.

use super::record::{RecordBuilder, RecordKind};
use super::samples::{BaseRow, put_layout, put_scrape};
use crate::limits::WAL_KEYFRAME_SCRAPES;
use crate::model::TimeMs;
use std::sync::Arc;

/// The state of one column group in the log.
#[derive(Default)]
pub struct GroupEncoder {
    /// Whether the log has the group's key.
    pub name_logged: bool,
    /// The epoch (one more for each segment) of the group's latest record.
    epoch: u64,
    /// Number of columns whose slots the segment knows.
    columns: usize,
    /// Number of scrapes since the last keyframe.
    since_keyframe: u32,
    /// The latest scrape in the log: its values by column, and its LSN.
    previous: Option<(Arc<[f64]>, u64)>,
}

impl GroupEncoder {
    /// Forgets the columns: the group has others now, and the next scrape is logged with its
    /// layout.
    pub fn forget_layout(&mut self) {
        self.columns = 0;
        self.previous = None;
    }

    /// Adds the records of one scrape for segment `epoch`; `slots` are the series of the row's
    /// columns.
    pub fn encode(
        &self,
        batch: &mut RecordBuilder,
        epoch: u64,
        group: u32,
        slots: &[u32],
        t: TimeMs,
        row: &[f64],
    ) {
        let base = self
            .previous
            .as_ref()
            .filter(|_| self.epoch == epoch && self.since_keyframe < WAL_KEYFRAME_SCRAPES);
        let Some((previous, lsn)) = base else {
            // The layout and the values are one record: if they were two and the layout were lost,
            // the values would go to other series.
            return batch.add(RecordKind::LayoutAndKeyframe, |out| {
                put_layout(out, group, 0, slots);
                put_scrape(out, group, t, row, None);
            });
        };
        if slots.len() > self.columns {
            let from = self.columns;
            batch.add(RecordKind::Layout, |out| put_layout(out, group, from as u32, &slots[from..]));
        }
        batch.add(RecordKind::Delta, |out| {
            put_scrape(out, group, t, row, Some(BaseRow { values: previous, lsn: *lsn }))
        });
    }

    /// The records of [`GroupEncoder::encode`] are in the log; `lsn` is that of the scrape.
    pub fn logged(&mut self, epoch: u64, columns: usize, row: Arc<[f64]>, lsn: u64) {
        let delta =
            self.epoch == epoch && self.previous.is_some() && self.since_keyframe < WAL_KEYFRAME_SCRAPES;
        self.since_keyframe = if delta { self.since_keyframe + 1 } else { 1 };
        self.name_logged = true;
        self.epoch = epoch;
        self.columns = columns;
        self.previous = Some((row, lsn));
    }
}
