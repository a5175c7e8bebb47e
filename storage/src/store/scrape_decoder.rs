//! Scrapes out of the log: each differs from its group's one before. Those that follow each other
//! without anything between become windows together ([`ScrapeRun`]), and are looked at then; a
//! restorer says when something else is about to touch their series.

use super::head_deletes::HeadDeletes;
use crate::head::{Head, ScrapeRun, Transposer, group_id, group_of};
use crate::model::TimeMs;
use crate::model::value::ABSENT;
use crate::wal::{EncodedRow, LogRecord, PayloadReader, RecordKind, take_raw_row, take_scrape_head};
use std::collections::HashMap;
use std::sync::Arc;

/// The groups' latest rows.
#[derive(Default)]
pub struct ScrapeDecoder {
    groups: HashMap<u32, GroupState>,
    loom: Transposer,
    /// See [`ScrapeDecoder::samples`].
    samples: u64,
}

/// What is known of a group.
#[derive(Default)]
struct GroupState {
    /// The row before the stretch; the latest if that is empty.
    row: Vec<f64>,
    /// Its record, if that was of use.
    lsn: Option<u64>,
    /// The rows that its head does not have yet.
    stretch: ScrapeRun,
}

/// A scrape that was taken.
pub struct DecodedScrape {
    /// Its group's id.
    pub group: u32,
    /// Its time.
    pub t: TimeMs,
    /// Its values, unless they are on their way to a window, or not wanted.
    pub row: Option<Arc<[f64]>>,
}

impl ScrapeDecoder {
    /// Takes the scrape that a cursor stands at. `wanted` says of a time whether the head is to have it.
    pub fn take(
        &mut self,
        found: &LogRecord,
        cursor: &mut PayloadReader,
        (heads, deleted): (&mut [Head], &[HeadDeletes]),
        wanted: impl FnOnce(TimeMs) -> bool,
    ) -> Result<DecodedScrape, String> {
        let scrape = take_scrape_head(cursor).ok_or_else(malformed)?;
        let keyframe = found.kind != RecordKind::Delta;
        let t = scrape.t;
        let known = self.groups.entry(scrape.group).or_default();
        if !keyframe && known.lsn != Some(scrape.base) {
            return Err(format!("a scrape rests on record {}, which is missing", scrape.base));
        }
        let raw = take_raw_row(cursor).ok_or_else(malformed)?;
        let (shard, group) = group_of(scrape.group);
        let head = &mut heads[usize::from(shard)];
        let wanted = wanted(t);
        let may =
            wanted && (keyframe || raw.columns == known.columns()) && deleted[usize::from(shard)].is_empty();
        let mut joins = may && head.can_join(group, &known.stretch, t, raw.columns);
        if !joins || known.stretch.is_full() {
            self.samples += known.settle(group, head, &mut self.loom)?;
            joins = may && head.can_join(group, &known.stretch, t, raw.columns);
        }
        if joins {
            known.join(t, raw, keyframe);
        } else {
            known.go(raw, keyframe).ok_or_else(malformed)?;
        }
        known.lsn = Some(found.lsn);
        let row = (wanted && !joins).then(|| Arc::from(&known.row[..]));
        Ok(DecodedScrape { group: scrape.group, t, row })
    }

    /// The samples that have gone into heads without a word.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// What is on its way of a group goes into its head.
    pub fn settle_group(&mut self, id: u32, head: &mut Head) -> Result<(), String> {
        if let Some(known) = self.groups.get_mut(&id) {
            self.samples += known.settle(group_of(id).1, head, &mut self.loom)?;
        }
        Ok(())
    }

    /// What is on its way of a series goes into its head.
    pub fn settle_series(&mut self, shard: u16, slot: u32, head: &mut Head) -> Result<(), String> {
        // Nearly always one at most.
        let mut groups = head.groups_with(slot);
        let first = groups.next();
        let others = groups.collect::<Vec<u32>>();
        first.into_iter().chain(others).try_for_each(|group| self.settle_group(group_id(shard, group), head))
    }

    /// All that is on its way goes into the heads.
    pub fn settle(&mut self, heads: &mut [Head]) -> Result<(), String> {
        let mut result = Ok(());
        // By their numbers: the same log gives the same head, column by column.
        let mut groups: Vec<(&u32, &mut GroupState)> = self.groups.iter_mut().collect();
        groups.sort_unstable_by_key(|(id, _)| **id);
        for (id, known) in groups {
            let (shard, group) = group_of(*id);
            match known.settle(group, &mut heads[usize::from(shard)], &mut self.loom) {
                Ok(samples) => self.samples += samples,
                Err(reason) => result = Err(reason),
            }
        }
        result
    }
}

fn malformed() -> String {
    "malformed scrape".to_owned()
}

impl GroupState {
    /// Columns of the latest row.
    fn columns(&self) -> usize {
        self.stretch.columns().unwrap_or(self.row.len())
    }

    /// The stretch goes into the head; how many samples it had.
    fn settle(&mut self, group: u32, head: &mut Head, loom: &mut Transposer) -> Result<u64, String> {
        let taken = head.take_stretch(group, &mut self.stretch, loom, &mut self.row);
        taken.ok_or_else(|| {
            self.lsn = None;
            malformed()
        })
    }

    fn join(&mut self, t: TimeMs, raw: EncodedRow, keyframe: bool) {
        if self.stretch.is_empty() {
            self.stretch.begin(&self.row, raw.columns);
        }
        self.stretch.push(t, raw, keyframe);
    }

    /// Makes `raw` the latest row. Nothing is on its way.
    fn go(&mut self, raw: EncodedRow, keyframe: bool) -> Option<()> {
        self.lsn = None;
        if keyframe {
            self.row.clear();
        }
        self.row.resize(raw.columns, ABSENT);
        raw.apply(&mut self.row, |_, _, _| ())
    }
}
