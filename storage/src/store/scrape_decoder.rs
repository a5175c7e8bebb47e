//! Decodes scrapes from the write-ahead log during a replay: each record is a difference to the
//! scrape of its group (a scrape target or rule) before. Consecutive scrapes of a group are
//! collected as a [`ScrapeRun`] and become one chunk; their values are decoded only then. Before
//! another record touches a series of a run, the [`super::record_applier`] has the run stored
//! (`flush_runs`).

use super::head_deletes::HeadDeletes;
use crate::head::{Head, ScrapeRun, Transposer, group_id, group_of};
use crate::model::TimeMs;
use crate::model::value::ABSENT;
use crate::wal::{
    EncodedRow, LogRecord, PayloadReader, RecordError, RecordKind, take_raw_row, take_scrape_head,
};
use std::collections::HashMap;
use std::sync::Arc;

/// The latest rows of all groups.
#[derive(Default)]
pub(super) struct ScrapeDecoder {
    groups: HashMap<u32, GroupState>,
    transposer: Transposer,
    /// As [`ScrapeDecoder::samples`].
    samples: u64,
}

/// The state of one group.
#[derive(Default)]
struct GroupState {
    /// The row before the run; the latest row if the run is empty.
    row: Vec<f64>,
    /// The LSN of the latest scrape; `None` if it could not be used.
    lsn: Option<u64>,
    /// The rows that are not in the head yet.
    run: ScrapeRun,
}

/// A decoded scrape.
pub(super) struct DecodedScrape {
    /// The id of its group.
    pub group: u32,
    /// The time of the scrape.
    pub t: TimeMs,
    /// The values; `None` if they were added to a run, or are not wanted.
    pub row: Option<Arc<[f64]>>,
}

impl ScrapeDecoder {
    /// Decodes the scrape at `cursor`. `is_needed` tells for its time whether the head needs it (it
    /// may be in a block already).
    pub(super) fn decode_scrape(
        &mut self,
        found: &LogRecord,
        cursor: &mut PayloadReader,
        heads: &mut [Head],
        deleted: &[HeadDeletes],
        is_needed: impl FnOnce(TimeMs) -> bool,
    ) -> Result<DecodedScrape, RecordError> {
        let scrape = take_scrape_head(cursor).ok_or_else(malformed)?;
        let keyframe = found.kind != RecordKind::Delta;
        let t = scrape.t;
        let state = self.groups.entry(scrape.group).or_default();
        // A delta is useless without exactly the row that it was computed from.
        if !keyframe && state.lsn != Some(scrape.base) {
            return Err(RecordError::NoBase(scrape.base));
        }
        let raw = take_raw_row(cursor).ok_or_else(malformed)?;
        let (shard, group) = group_of(scrape.group);
        let head = &mut heads[usize::from(shard)];
        let is_needed = is_needed(t);
        // A delta with other columns than the run, or deletions in the shard: the row is applied by
        // itself.
        let may_join = is_needed
            && (keyframe || raw.columns == state.columns())
            && deleted[usize::from(shard)].is_empty();
        let mut joins = may_join && head.can_join(group, &state.run, t, raw.columns);
        // The run ends here. `can_join` is asked again, because a scrape that does not fit into the
        // old run may begin a new one.
        if !joins || state.run.is_full() {
            self.samples += state.flush_run(group, head, &mut self.transposer)?;
            joins = may_join && head.can_join(group, &state.run, t, raw.columns);
        }
        if joins {
            state.join(t, raw, keyframe);
        } else {
            // Decoded even if the head does not need the row: the next delta has it as its base.
            state.decode(raw, keyframe).ok_or_else(malformed)?;
        }
        state.lsn = Some(found.lsn);
        let row = (is_needed && !joins).then(|| Arc::from(&state.row[..]));
        Ok(DecodedScrape { group: scrape.group, t, row })
    }

    /// Number of samples that went into heads as runs.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Stores the collected rows of a group in its head.
    pub(super) fn flush_group(&mut self, id: u32, head: &mut Head) -> Result<(), RecordError> {
        if let Some(state) = self.groups.get_mut(&id) {
            self.samples += state.flush_run(group_of(id).1, head, &mut self.transposer)?;
        }
        Ok(())
    }

    /// Stores the collected rows of all groups that have a series.
    pub(super) fn flush_series(&mut self, shard: u16, slot: u32, head: &mut Head) -> Result<(), RecordError> {
        // Nearly always there is at most one group: no allocation then.
        let mut groups = head.stored(slot).groups();
        let first = groups.next();
        let others = groups.collect::<Vec<u32>>();
        first.into_iter().chain(others).try_for_each(|group| self.flush_group(group_id(shard, group), head))
    }

    /// Stores all collected rows in the heads.
    pub(super) fn flush_runs(&mut self, heads: &mut [Head]) -> Result<(), RecordError> {
        let mut result = Ok(());
        // In the order of group ids: the same log always gives the same head, column by column.
        let mut groups: Vec<(&u32, &mut GroupState)> = self.groups.iter_mut().collect();
        groups.sort_unstable_by_key(|(id, _)| **id);
        for (id, state) in groups {
            let (shard, group) = group_of(*id);
            match state.flush_run(group, &mut heads[usize::from(shard)], &mut self.transposer) {
                Ok(samples) => self.samples += samples,
                Err(reason) => result = Err(reason),
            }
        }
        result
    }
}

fn malformed() -> RecordError {
    RecordError::Malformed("scrape")
}

impl GroupState {
    /// Number of columns of the latest row.
    fn columns(&self) -> usize {
        self.run.columns().unwrap_or(self.row.len())
    }

    /// Stores the run in the head. Returns the number of its samples.
    fn flush_run(
        &mut self,
        group: u32,
        head: &mut Head,
        transposer: &mut Transposer,
    ) -> Result<u64, RecordError> {
        let samples = head.append_run(group, &mut self.run, transposer, &mut self.row);
        samples.ok_or_else(|| {
            self.lsn = None;
            malformed()
        })
    }

    fn join(&mut self, t: TimeMs, raw: EncodedRow, keyframe: bool) {
        if self.run.is_empty() {
            self.run.begin(&self.row, raw.columns);
        }
        self.run.push(t, raw, keyframe);
    }

    /// Makes `raw` the latest row. The run must be empty.
    fn decode(&mut self, raw: EncodedRow, keyframe: bool) -> Option<()> {
        self.lsn = None;
        if keyframe {
            self.row.clear();
        }
        self.row.resize(raw.columns, ABSENT);
        raw.apply(&mut self.row, |_, _, _| ())
    }
}
