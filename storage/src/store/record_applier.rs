//! Applies the records of the write-ahead log to heads (the samples in memory). This is the replay:
//! the second of two passes over the log at a start; the first is [`super::log_scan`].
//! [`super::replay_passes`] decides which records a [`RecordApplier`] gets.

use super::head_deletes::HeadDeletes;
use super::scrape_decoder::ScrapeDecoder;
use crate::codec;
use crate::head::{Head, SlotLabels, group_of};
use crate::limits::SHARD_SLOTS;
use crate::model::slot_samples::{SlotFloat, SlotHistogram};
use crate::model::value::{ABSENT, is_absent};
use crate::model::{Labels, SHARDS, TimeMs, shard_of};
use crate::wal::{
    EncodedSeriesRecord, FlushWatermark, GroupRecord, LogRecord, PayloadReader, RecordError, RecordKind,
    SeriesRecord, take_histograms, take_layout, take_samples, take_starts,
};
use std::sync::Arc;

/// Heads that are being filled from the log.
pub(super) struct RecordApplier {
    heads: Vec<Head>,
    deleted: Vec<HeadDeletes>,
    /// The newest flush watermark: samples before it are in blocks and are skipped.
    pub flushed: Option<FlushWatermark>,
    /// Number of samples restored.
    pub samples: u64,
    scrapes: ScrapeDecoder,
}

/// The series that the log scan accepted.
pub(super) trait LabelLookup {
    /// The labels of a slot, if there are any.
    fn labels(&self, shard: u16, slot: u32) -> Option<&Labels>;
}

impl LabelLookup for [SlotLabels] {
    fn labels(&self, shard: u16, slot: u32) -> Option<&Labels> {
        self.get(usize::from(shard))?.get(slot)
    }
}

impl LabelLookup for [Head] {
    fn labels(&self, shard: u16, slot: u32) -> Option<&Labels> {
        self.get(usize::from(shard))?.series.labels(slot)
    }
}

fn in_blocks(flushed: Option<FlushWatermark>, lsn: u64, t: TimeMs) -> bool {
    flushed.is_some_and(|flushed| flushed.covers(lsn, t))
}

/// Stores a sample of the log; a sample that is stored already stays. If a deletion came before it
/// in the log, the sample makes its time visible again.
pub(super) fn put_sample(
    head: &mut Head,
    deleted: &mut HeadDeletes,
    sample: SlotFloat,
) -> Result<(), RecordError> {
    let (slot, t, v) = sample;
    if deleted.covers(slot, t) {
        deleted.revive(slot, t);
        // Later in the log than the deletion, so it was appended after it. The deleted sample may
        // still be there: it must not win.
        return head.restore_correction(slot, t, v);
    }
    head.restore_sample(slot, t, v)
}

/// As [`put_sample`], for a histogram.
pub(super) fn put_histogram(
    head: &mut Head,
    deleted: &mut HeadDeletes,
    sample: SlotHistogram,
) -> Result<(), RecordError> {
    let (slot, t, h) = sample;
    if deleted.covers(slot, t) {
        deleted.revive(slot, t);
        head.restore_correction(slot, t, ABSENT)?;
    }
    head.restore_histogram(slot, t, h)
}

impl RecordApplier {
    /// Fills these heads, one per shard.
    pub(super) fn new(heads: Vec<Head>) -> RecordApplier {
        let deleted = heads.iter().map(|_| HeadDeletes::default()).collect();
        RecordApplier { heads, deleted, flushed: None, samples: 0, scrapes: ScrapeDecoder::default() }
    }

    /// The filled heads with their deletions.
    pub(super) fn into_shards(mut self) -> impl Iterator<Item = (Head, HeadDeletes)> {
        if let Some(flushed) = self.flushed {
            for head in &mut self.heads {
                head.limits.raise_min_append_time(flushed.end);
            }
            for deleted in &mut self.deleted {
                deleted.drop_before(flushed.end);
            }
        }
        self.heads.into_iter().zip(self.deleted)
    }
}

impl RecordApplier {
    /// Applies one record. Returns the time of its newest sample, or why the record cannot be used.
    pub(super) fn record<K: LabelLookup + ?Sized>(
        &mut self,
        found: &LogRecord,
        names: &K,
    ) -> Result<Option<TimeMs>, RecordError> {
        match found.kind {
            RecordKind::Series => self.series(found.payload, names).map(|()| None),
            RecordKind::Group => self.group(found.payload).map(|()| None),
            RecordKind::Layout => self.layout(&mut PayloadReader::new(found.payload)).map(|()| None),
            RecordKind::Keyframe | RecordKind::Delta | RecordKind::LayoutAndKeyframe => {
                self.scrape(found).map(Some)
            }
            RecordKind::Samples | RecordKind::Corrections => self.single(found),
            RecordKind::Histograms => self.histograms(found),
            RecordKind::Starts => self.starts(found),
            RecordKind::Deletes => self.deletes(found.payload),
            RecordKind::Flushed => {
                let flushed: FlushWatermark = codec::decode(found.payload)?;
                // After a damaged checkpoint the log has two watermarks: the newer one counts.
                self.flushed = self.flushed.filter(|known| known.lsn > flushed.lsn).or(Some(flushed));
                Ok(None)
            }
            // They say something about the file, which the reader of the log has used.
            RecordKind::Close | RecordKind::End => Ok(None),
        }
    }

    /// Applies the scrapes that are still collected. To be called after the last record.
    pub(super) fn finish(&mut self) -> Result<(), RecordError> {
        let flushed = self.scrapes.flush_runs(&mut self.heads);
        self.samples += self.scrapes.samples();
        flushed
    }

    fn series<K: LabelLookup + ?Sized>(&mut self, payload: &[u8], names: &K) -> Result<(), RecordError> {
        let raw: EncodedSeriesRecord = codec::decode(payload)?;
        if let Some(known) = names.labels(raw.shard, raw.slot).filter(|known| known.encoded() == raw.labels) {
            self.heads[usize::from(raw.shard)].series.restore_known(raw.slot, known.clone());
            return Ok(());
        }
        // The scan refused this series, or accepted another one for the slot: find out why.
        let SeriesRecord { shard, slot, labels } = codec::decode(payload)?;
        Err(if shard >= SHARDS || shard != shard_of(&labels) {
            RecordError::WrongShard { labels, shard }
        } else if slot >= SHARD_SLOTS {
            RecordError::SlotTooLarge(slot)
        } else {
            RecordError::SeriesRefused { labels, slot }
        })
    }

    fn group(&mut self, payload: &[u8]) -> Result<(), RecordError> {
        let GroupRecord { group, key } = codec::decode(payload)?;
        let (shard, group) = group_of(group);
        self.heads[usize::from(shard)].groups.restore(group, Some(&key))
    }

    fn layout(&mut self, cursor: &mut PayloadReader) -> Result<(), RecordError> {
        let layout = take_layout(cursor).ok_or(RecordError::Malformed("layout"))?;
        let (shard, group) = group_of(layout.group);
        let head = &mut self.heads[usize::from(shard)];
        // A keyframe repeats the layout of its group.
        if layout.from == 0 && !layout.slots.is_empty() && layout.slots == head.groups.columns_of(group) {
            return Ok(());
        }
        self.scrapes.flush_group(layout.group, head)?;
        layout.slots.iter().try_for_each(|slot| self.scrapes.flush_series(shard, *slot, head))?;
        head.restore_layout(group, layout.from, &layout.slots)
    }

    fn scrape(&mut self, found: &LogRecord) -> Result<TimeMs, RecordError> {
        let mut cursor = PayloadReader::new(found.payload);
        if found.kind == RecordKind::LayoutAndKeyframe {
            self.layout(&mut cursor)?;
        }
        // Copied, because the closure must not borrow all of `self`.
        let flushed = self.flushed;
        let is_needed = |t| !in_blocks(flushed, found.lsn, t);
        let scrape =
            self.scrapes.decode_scrape(found, &mut cursor, &mut self.heads, &self.deleted, is_needed)?;
        if let Some(row) = scrape.row {
            self.samples += self.row(scrape.group, scrape.t, row)?;
        }
        Ok(scrape.t)
    }

    fn row(&mut self, group: u32, t: TimeMs, row: Arc<[f64]>) -> Result<u64, RecordError> {
        let (shard, group) = group_of(group);
        let head = &mut self.heads[usize::from(shard)];
        let deleted = &mut self.deleted[usize::from(shard)];
        if !deleted.touches(head.groups.columns_of(group), t) {
            return head.restore_row(group, t, row);
        }
        let columns = head.groups.columns_of(group).to_vec().into_iter().zip(row.iter().copied());
        let mut samples = 0;
        for (slot, v) in columns.filter(|(_, v)| !is_absent(*v)) {
            put_sample(head, deleted, (slot, t, v))?;
            samples += 1;
        }
        Ok(samples)
    }

    fn single(&mut self, found: &LogRecord) -> Result<Option<TimeMs>, RecordError> {
        let mut newest = None;
        let mut all = Vec::new();
        take_samples(found.payload, |shard, slot, t, v| all.push((shard, slot, t, v)))
            .ok_or(RecordError::Malformed("samples"))?;
        for (shard, slot, t, v) in all {
            newest = newest.max(Some(t));
            if in_blocks(self.flushed, found.lsn, t) {
                continue;
            }
            let (head, deleted) = self.shard(shard, slot)?;
            match found.kind {
                RecordKind::Corrections => {
                    // Corrections win over what is stored, in the order of the log.
                    head.restore_correction(slot, t, v)?;
                    deleted.revive(slot, t);
                }
                _ => put_sample(head, deleted, (slot, t, v))?,
            }
            self.samples += 1;
        }
        Ok(newest)
    }

    fn histograms(&mut self, found: &LogRecord) -> Result<Option<TimeMs>, RecordError> {
        let mut newest = None;
        let mut all = Vec::new();
        take_histograms(found.payload, |shard, slot, t, h| all.push((shard, slot, t, h)))
            .ok_or(RecordError::Malformed("histograms"))?;
        for (shard, slot, t, h) in all {
            newest = newest.max(Some(t));
            if !in_blocks(self.flushed, found.lsn, t) {
                let (head, deleted) = self.shard(shard, slot)?;
                put_histogram(head, deleted, (slot, t, h))?;
                self.samples += 1;
            }
        }
        Ok(newest)
    }

    fn starts(&mut self, found: &LogRecord) -> Result<Option<TimeMs>, RecordError> {
        let mut newest = None;
        let mut all = Vec::new();
        take_starts(found.payload, |shard, slot, t, start| all.push((shard, slot, t, start)))
            .ok_or(RecordError::Malformed("start timestamps"))?;
        for (shard, slot, t, start) in all {
            newest = newest.max(Some(t));
            if !in_blocks(self.flushed, found.lsn, t) {
                self.shard(shard, slot)?.0.restore_start(slot, t, start)?;
            }
        }
        Ok(newest)
    }

    fn deletes(&mut self, payload: &[u8]) -> Result<Option<TimeMs>, RecordError> {
        let mut newest = None;
        let mut all = Vec::new();
        take_starts(payload, |shard, slot, from, to| all.push((shard, slot, from, to)))
            .ok_or(RecordError::Malformed("deletions"))?;
        for (shard, slot, from, to) in all {
            newest = newest.max(Some(to));
            let deleted = self.deleted.get_mut(shard as usize).ok_or(RecordError::NoShard(shard))?;
            deleted.add(slot, from, to);
        }
        Ok(newest)
    }

    /// The head and deletions for a record of a single sample. First applies the collected scrapes
    /// of its series, so that the order of the log is kept.
    fn shard(&mut self, shard: u32, slot: u32) -> Result<(&mut Head, &mut HeadDeletes), RecordError> {
        let both = self.heads.get_mut(shard as usize).zip(self.deleted.get_mut(shard as usize));
        let (head, deleted) = both.ok_or(RecordError::NoShard(shard))?;
        self.scrapes.flush_series(shard as u16, slot, head)?;
        Ok((head, deleted))
    }
}
