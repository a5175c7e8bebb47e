//! The log scan: the first of two passes over the write-ahead log at a start. It collects what must
//! be known before anything can be appended: series and groups, the highest numbers, and how far
//! back the samples go. The samples themselves are restored by the second pass, the replay
//! ([`super::record_applier`]); [`super::replay_passes`] runs both.

use crate::codec;
use crate::head::{Head, group_of};
use crate::model::{SHARDS, TimeMs, shard_of};
use crate::wal::{
    FlushWatermark, GroupRecord, LogRecord, PayloadReader, RecordKind, SCRAPE_HEAD, SeriesRecord,
    take_histograms, take_layout, take_samples, take_scrape_head, take_starts,
};

/// Fills heads with series and groups, without samples.
pub(super) struct LogScanner {
    /// One head per shard.
    pub heads: Vec<Head>,
    /// The newest flush watermark: what is in blocks.
    pub flushed: Option<FlushWatermark>,
    /// Time of the oldest sample that is in no block.
    pub oldest: Option<TimeMs>,
}

impl LogScanner {
    /// A scanner that fills these heads, one per shard.
    pub(super) fn new(heads: Vec<Head>) -> LogScanner {
        LogScanner { heads, flushed: None, oldest: None }
    }

    /// Notes a sample. Also reserves its slot, so that no new series gets the slot of a series
    /// whose record is lost.
    fn sample(&mut self, lsn: u64, shard: u32, slot: u32, t: TimeMs) {
        if let Some(head) = self.heads.get_mut(shard as usize) {
            // The replay reports a slot beyond the limit.
            let _ = head.series.restore_slot(slot);
        }
        self.time(lsn, t);
    }

    fn time(&mut self, lsn: u64, t: TimeMs) {
        // What is in blocks is not restored, and queries about it need not wait.
        if !self.flushed.is_some_and(|flushed| flushed.covers(lsn, t)) {
            self.oldest = Some(self.oldest.map_or(t, |oldest| oldest.min(t)));
        }
    }

    fn layout(&mut self, cursor: &mut PayloadReader) -> Option<()> {
        let layout = take_layout(cursor)?;
        let (shard, group) = group_of(layout.group);
        let head = self.heads.get_mut(usize::from(shard))?;
        // Without a key: the record that has it may be lost, but the number is in use.
        let _ = head.groups.restore(group, None);
        for slot in &layout.slots {
            let _ = head.series.restore_slot(*slot);
        }
        Some(())
    }

    fn scrape(&mut self, lsn: u64, cursor: &mut PayloadReader) -> Option<()> {
        let t = take_scrape_head(cursor)?.t;
        self.time(lsn, t);
        Some(())
    }

    fn flushed(&mut self, payload: &[u8]) -> Option<()> {
        let flushed: FlushWatermark = codec::decode(payload).ok()?;
        // Records may come twice after a failed segment: the newest watermark counts.
        self.flushed = self.flushed.filter(|known| known.lsn > flushed.lsn).or(Some(flushed));
        Some(())
    }
}

impl LogScanner {
    /// Processes one record. Errors are ignored here: the replay reports them.
    pub(super) fn record(&mut self, found: &LogRecord) {
        let lsn = found.lsn;
        let payload = found.payload;
        let _: Option<()> = match found.kind {
            RecordKind::Series => {
                codec::decode(payload).ok().and_then(|SeriesRecord { shard, slot, labels }| {
                    // Labels decide about the shard; a record that disagrees is damaged.
                    let own = shard < SHARDS && shard == shard_of(&labels);
                    own.then(|| self.heads[usize::from(shard)].series.restore(slot, labels).ok())?
                })
            }
            RecordKind::Group => codec::decode(payload).ok().and_then(|GroupRecord { group, key }| {
                let (shard, group) = group_of(group);
                self.heads[usize::from(shard)].groups.restore(group, Some(&key)).ok()
            }),
            RecordKind::Layout => self.layout(&mut PayloadReader::new(payload)),
            RecordKind::LayoutAndKeyframe => {
                let mut cursor = PayloadReader::new(payload);
                self.layout(&mut cursor).and_then(|()| self.scrape(lsn, &mut cursor))
            }
            RecordKind::Keyframe | RecordKind::Delta => self.scrape(lsn, &mut PayloadReader::new(payload)),
            RecordKind::Samples | RecordKind::Corrections => {
                take_samples(payload, |shard, slot, t, _| self.sample(lsn, shard, slot, t))
            }
            RecordKind::Histograms => {
                take_histograms(payload, |shard, slot, t, _| self.sample(lsn, shard, slot, t))
            }
            RecordKind::Starts => take_starts(payload, |shard, slot, t, _| self.sample(lsn, shard, slot, t)),
            RecordKind::Flushed => self.flushed(payload),
            RecordKind::Deletes | RecordKind::Close | RecordKind::End => None,
        };
    }

    /// The part of a record's payload that the scan needs; of a scrape it does not need the values.
    pub(super) fn scanned_payload<'a>(found: &LogRecord<'a>) -> &'a [u8] {
        match found.kind {
            RecordKind::Keyframe | RecordKind::Delta => {
                found.payload.get(..SCRAPE_HEAD).unwrap_or(found.payload)
            }
            _ => found.payload,
        }
    }
}
